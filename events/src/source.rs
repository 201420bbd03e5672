//! The contract of sources: the code behind a trigger that turns what happens elsewhere into events.
//!
//! ```text
//!   upstream ──▶ Source ──▶ Intake::take ──▶ one commit: events in the topic, how far the source has come
//!      ▲           │                              │
//!      └───────────┴── acknowledged, in order ◀───┘            file moved, LSN confirmed: only after the commit
//! ```
//!
//! The platform runs one source for each such trigger of each deployed function, and starts it again when it fails. Rules
//! every source MUST keep:
//!
//! 1. What it acknowledges upstream is on disk: [`Intake::take`] has returned.
//! 2. An event's `source` and `id` follow from what happened alone, so that taking it twice adds nothing.
//! 3. What it must know after a restart goes through [`Intake::take`], with the events it belongs to.
//! 4. It is stopped by being dropped, at any await, and the process may end between any two steps. Nothing it leaves
//!    running on other threads may change anything upstream after that.
//! 5. Waiting costs nothing: it sleeps until something happens or is due.

use crate::{
    Body, BoxFuture, Event, Manifest,
    consumers::{CommitError, Fate},
    function::FunctionName,
    manifest::{Problem, Trigger},
    topics::{Appended, Offset, TopicName},
};
use bytes::Bytes;
use std::{sync::Arc, time::SystemTime};

/// The sources there are.
pub trait Sources: Send + Sync {
    /// What of a manifest's triggers can't be, as far as it can be known now: an expression that never fires, a folder that
    /// isn't there, a password that is refused. Pointers are into the manifest. It takes no longer than 15 seconds.
    fn check<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Vec<Problem>>;

    /// The source of a trigger. `None` for a trigger that has none (`http`, `webhook`, `topic`).
    fn open(&self, function: &FunctionName, trigger: &Trigger) -> Option<Box<dyn Source>>;

    /// What the function of a manifest is handed with the events of its triggers, beyond what the topic keeps of them.
    /// `None` where that is all.
    fn contents(&self, _: &Manifest) -> Option<Arc<dyn Contents>> {
        None
    }
}

/// What events stand for that is too large to be in them.
///
/// It is asked for each time an event is handed over: an address that lasts for an hour has no place in a topic that keeps
/// events for years and shows them to whoever may read it.
pub trait Contents: Send + Sync {
    /// The event as its function gets it now. `None` for as it is.
    fn addressed(&self, event: &Event) -> Option<Event>;

    /// The content, where its function gets it as the body of a request: its size in bytes, and a body that is read no
    /// faster than it is taken and fails where it breaks off. `None` of events that have all there is.
    fn open<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Option<(u64, Body)>, ContentError>>;
}

/// Why there is no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// It never will be: it is gone, or another.
    #[error("{0}")]
    Lost(String),
    /// It can't be had now, and the event is not to blame.
    #[error("{0}")]
    Unavailable(String),
}

impl ContentError {
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// A platform without any.
impl Sources for () {
    fn check<'a>(&'a self, _: &'a Manifest) -> BoxFuture<'a, Vec<Problem>> {
        Box::pin(async { Vec::new() })
    }

    fn open(&self, _: &FunctionName, _: &Trigger) -> Option<Box<dyn Source>> {
        None
    }
}

/// What turns the happenings of one trigger into events.
pub trait Source: Send + Sync {
    /// Works until it is dropped, fails, or has nothing more to do for ever. It begins where [`Intake::recall`] says that
    /// it was. After a failure it is run again, later and later, up to once a minute.
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Takes away what it made upstream: a replication slot, a publication. Asked for by whoever removes the function, when
    /// it no longer runs.
    fn dispose(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    /// When it will make its next events, where that is known: at most `limit` times, the next first.
    fn upcoming(&self, _now: SystemTime, _limit: usize) -> Vec<SystemTime> {
        Vec::new()
    }
}

/// Where a source puts its events.
///
/// All calls are cancel safe: a change whose caller went away happens whole or not at all.
pub trait Intake: Send + Sync {
    fn function(&self) -> &FunctionName;

    /// The topic the events go to.
    fn topic(&self) -> &TopicName;

    /// What the trigger's source remembers under these keys, in their order. All triggers of a function share one memory, so
    /// a key begins with what tells them apart.
    fn recall(&self, keys: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, SourceError>>;

    /// The keys that begin with `prefix`, in the order of their bytes, those after `after`. At most `limit`.
    fn keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>>;

    /// Appends events in their order and changes what is remembered (`None` forgets), in one transaction: all is on disk
    /// when this returns, or nothing has changed. Waits while the log takes no more. Each key once. Answers for each event.
    fn take(
        &self,
        events: Vec<Event>,
        remember: Vec<(String, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, SourceError>> {
        self.take_with(events, Vec::new(), remember)
    }

    /// [`Self::take`], together with events that go to other topics, which are made where they are missing. Each of these
    /// is one that [`Self::may_publish`] allows. Answers for the events of its own topic.
    fn take_with(
        &self,
        events: Vec<Event>,
        others: Vec<(TopicName, Event)>,
        remember: Vec<(String, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, SourceError>>;

    /// Whether events may go to this topic: the trigger's own, and those the manifest lets the function publish to.
    fn may_publish(&self, topic: &TopicName) -> bool;

    /// What has become of events of the topic in the function's hands.
    fn fates(&self, offsets: Vec<Offset>) -> BoxFuture<'_, Result<Vec<Fate>, SourceError>>;

    /// How many events of the topic the function has yet to settle.
    fn unsettled(&self) -> BoxFuture<'_, Result<u64, SourceError>>;

    /// Tells operators how things stand. A source that hasn't failed says so whenever it changes.
    fn report(&self, report: Report);
}

/// How a source stands, for operators.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It is there, and takes what comes.
    Running,
    /// It waits for a time.
    Waiting { until: SystemTime },
    /// Something is wrong with single things, and it goes on: a file that can't be read. It is logged for the function.
    Warning(String),
    /// A figure of its own, by a name of lowercase letters and `_`: `lag_bytes`, `lsn`. It replaces the one of that name.
    Detail(&'static str, serde_json::Value),
}

/// Why a source does not work. It has acknowledged nothing that is not on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|help| format!(": {help}")).unwrap_or_default())]
pub struct SourceError {
    /// What is wrong: a lowercase fragment that names the thing in backticks.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl SourceError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<CommitError> for SourceError {
    fn from(error: CommitError) -> Self {
        Self::new(error.to_string())
    }
}
