//! What a call may do to the platform's data: which buckets and topics, on whose account, and how much.
//!
//! The manifest's rules are judged here and nowhere else; beyond are the [`Effects`], which know of keys and topics but of
//! no manifest. What a run on an event changes is kept in memory until it has ended, so one call gets a budget for that.

use dunlin_events::{
    Component, FunctionName, Manifest,
    effects::{Draft, EffectError, Effects},
    event::Value,
    invocation::Effected,
    manifest::{AllowState, Problem},
    runtime::Feed,
    state::Bucket,
    topics::TopicName,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Events one call may publish while it runs.
const EVENTS: u64 = 10_000;
/// Bytes one call may publish and write, and name in what it reads.
const BYTES: u64 = 64 << 20;
/// What keeping a key costs beside the key and its value.
const ENTRY: usize = 64;

/// What a manifest says of state and topics.
pub(crate) struct Rights {
    function: FunctionName,
    state: AllowState,
    publish: Option<TopicName>,
    topics: Vec<TopicName>,
}

impl Rights {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        Self {
            function: manifest.name.clone(),
            state: manifest.allow.state.clone(),
            publish: manifest.publish.clone(),
            topics: manifest.allow.publish.clone(),
        }
    }

    /// The bucket that goes by this name: `default`, or nothing as wasmtime's command line has it, for the function's own,
    /// and else a shared one. The error is for the log, since the guest is told no more than that it may not.
    pub(crate) fn bucket(&self, identifier: &str) -> Result<Bucket, String> {
        let shared = match &self.state {
            AllowState::Own(false) => return Err("it opened a bucket of state: add `allow: { state: true }`".into()),
            AllowState::Own(true) => &[][..],
            AllowState::Shared(names) => names,
        };
        if matches!(identifier, "default" | "") {
            return Ok(Bucket::Function(self.function.clone()));
        }
        shared.iter().find(|name| name.as_str() == identifier).cloned().map(Bucket::Shared).ok_or_else(|| {
            let shown: String = identifier.chars().take(64).flat_map(char::escape_debug).collect();
            format!(
                "it opened the bucket `{shown}`, which `allow.state` doesn't list: its own is `default`, and shared ones are allowed as `allow: {{ state: [carts] }}`"
            )
        })
    }

    /// The topic of this name, if the function may publish to it.
    pub(crate) fn topic(&self, name: &str) -> Result<&TopicName, String> {
        let allowed = self.publish.iter().chain(&self.topics).find(|topic| topic.as_str() == name);
        allowed.ok_or_else(|| match name.parse::<TopicName>() {
            Ok(name) => format!(
                "`{}` may not publish to `{name}`: add `allow: {{ publish: [{name}] }}` to its manifest",
                self.function
            ),
            Err(error) => error.to_string(),
        })
    }

    /// The topic the function's returned events go to.
    pub(crate) fn returned(&self) -> Result<&TopicName, String> {
        self.publish.as_ref().ok_or_else(|| {
            format!("`{}` names no topic for what it returns: add `publish: TOPIC` to its manifest", self.function)
        })
    }
}

/// What a component imports of state and topics that its manifest doesn't allow.
pub(crate) fn problems(manifest: &Manifest, component: &Component) -> Vec<Problem> {
    let imported = |interface: &str| component.imports.iter().find(|import| import.starts_with(interface));
    let mut problems = Vec::new();
    if manifest.allow.state == AllowState::Own(false)
        && let Some(import) = imported("wasi:keyvalue/")
    {
        problems.push(
            Problem::new("/allow/state", format!("the component imports `{import}`, which the manifest doesn't allow"))
                .help("add `allow: { state: true }` for a bucket of its own, or the names of shared ones as `allow: { state: [carts] }`"),
        );
    }
    if manifest.publish.is_none()
        && manifest.allow.publish.is_empty()
        && let Some(import) = imported("dunlin:function/publish@")
    {
        problems.push(
            Problem::new(
                "/publish",
                format!("the component imports `{import}`, and the manifest names no topic to publish to"),
            )
            .help(
                "add `publish: TOPIC` for the topic that also gets what it returns, or `allow: { publish: [TOPIC] }`",
            ),
        );
    }
    problems
}

/// On whose account a call changes data.
#[derive(Clone)]
pub(crate) enum Account {
    /// An invocation's.
    Invocation(Arc<dyn Effects>),
    /// That of the event in work.
    Feed(Arc<dyn Feed>),
}

impl Account {
    pub(crate) fn of(effected: &Effected) -> Self {
        Self::Invocation(Arc::clone(effected.effects()))
    }
}

/// The access a sandbox has to data, with what its calls under way may still use of it.
#[derive(Clone)]
pub(crate) struct Access {
    /// `None` before the first call.
    account: Option<Account>,
    common: Arc<Common>,
}

struct Common {
    rights: Arc<Rights>,
    events: AtomicU64,
    bytes: AtomicU64,
}

impl Access {
    pub(crate) fn new(rights: Arc<Rights>) -> Self {
        Self { account: None, common: Arc::new(Common { rights, events: AtomicU64::new(0), bytes: AtomicU64::new(0) }) }
    }

    /// A call begins. One that shares its sandbox adds to what its calls have together.
    pub(crate) fn begin(&mut self, account: Account, alone: bool) {
        self.account = Some(account);
        for (left, most) in [(&self.common.events, EVENTS), (&self.common.bytes, BYTES)] {
            let before = if alone { 0 } else { left.load(Relaxed) };
            left.store(before.saturating_add(most), Relaxed);
        }
    }

    pub(crate) fn rights(&self) -> &Rights {
        &self.common.rights
    }

    pub(crate) fn effects(&self) -> Result<&dyn Effects, EffectError> {
        match &self.account {
            Some(Account::Invocation(effects)) => Ok(&**effects),
            Some(Account::Feed(feed)) => Ok(feed.effects()),
            None => Err(EffectError::Refused("no call is under way".into())),
        }
    }

    /// Counts bytes that are going to be kept.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), EffectError> {
        spend(&self.common.bytes, bytes, || {
            format!("one call may publish and write {BYTES} bytes together, and this exceeds it")
        })
    }

    /// Counts a key that is read or written.
    pub(crate) fn keep_entry(&self, key: &str, value: usize) -> Result<(), EffectError> {
        self.keep(key.len() + value + ENTRY)
    }

    /// Counts events that are going to be published; their bytes are counted by [`Access::keep`].
    pub(crate) fn keep_events(&self, count: usize) -> Result<(), EffectError> {
        spend(&self.common.events, count, || {
            format!("one call may publish {EVENTS} events while it runs, and this exceeds it")
        })
    }
}

fn spend(left: &AtomicU64, amount: usize, exceeded: impl FnOnce() -> String) -> Result<(), EffectError> {
    let amount = u64::try_from(amount).unwrap_or(u64::MAX);
    let spent = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(amount));
    spent.map(drop).map_err(|_| EffectError::Refused(exceeded()))
}

/// Bytes of an event's attributes and data.
pub(crate) fn weight(draft: &Draft) -> usize {
    let texts = [&draft.id, &draft.source, &draft.subject, &draft.time, &draft.data_content_type, &draft.data_schema];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    let extension = |(name, value): &(String, Value)| {
        name.len()
            + match value {
                Value::String(text) => text.len(),
                Value::Boolean(_) | Value::Integer(_) => size_of::<i32>(),
            }
    };
    let extensions: usize = draft.extensions.iter().map(extension).sum();
    draft.kind.len() + texts + extensions + draft.data.as_ref().map_or(0, |data| data.len())
}
