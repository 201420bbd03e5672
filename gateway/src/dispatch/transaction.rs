//! The effects of a run on events, kept until they can happen at once.
//!
//! ```text
//!   get ──▶ the call's writes ──▶ those of the calls before it ──▶ the store, which says what revision it read
//!
//!   a call that succeeds  ──▶ its writes, reads and events join the run's      ──▶ one commit for the run
//!   a call that fails     ──▶ they are forgotten
//! ```
//!
//! What was read goes into the commit with its revision, so that a run that saw what is no longer so changes nothing and is
//! repeated: runs are serializable without a lock held while a guest computes.

use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Event,
    effects::{Draft, EffectError, Effects},
    state::{Bucket, Key, Revision, StateError, StateStore},
    topics::TopicName,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What one call did, or all that succeeded did together.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The revision of what was read in the store, and the value, for whoever reads it again.
    reads: HashMap<Key, (Revision, Option<Bytes>)>,
    writes: BTreeMap<Key, Option<Bytes>>,
    published: Vec<(TopicName, Draft)>,
}

/// The effects of a run: of the call under way, and of the calls before it.
pub(super) struct Transaction {
    state: Arc<dyn StateStore>,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    run: Changes,
    call: Changes,
    /// It was handed over to be committed. What a guest still asks for comes too late: it would be told that it was done,
    /// and never be.
    ended: bool,
}

impl Transaction {
    pub(super) fn new(state: Arc<dyn StateStore>) -> Self {
        Self { state, pending: Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call succeeded: what it did is part of the run. Answers with the events it published.
    pub(super) fn keep(&self) -> Vec<(TopicName, Draft)> {
        let mut pending = self.pending();
        let call = mem::take(&mut pending.call);
        // What was read first counts: if it changed meanwhile, the run saw two states and can't be committed.
        for (key, read) in call.reads {
            pending.run.reads.entry(key).or_insert(read);
        }
        pending.run.writes.extend(call.writes);
        call.published
    }

    /// The call failed: it did nothing.
    pub(super) fn discard(&self) {
        self.pending().call = Changes::default();
    }

    /// Whether the call under way did nothing so far.
    pub(super) fn is_empty(&self) -> bool {
        let call = &self.pending().call;
        call.writes.is_empty() && call.published.is_empty()
    }

    /// What the run read and wrote, for its commit. The run has ended.
    #[expect(clippy::type_complexity, reason = "the two fields of a commit")]
    pub(super) fn take(&self) -> (Vec<(Key, Revision)>, Vec<(Key, Option<Bytes>)>) {
        let run = {
            let mut pending = self.pending();
            pending.ended = true;
            mem::take(&mut pending.run)
        };
        let reads = run.reads.into_iter().map(|(key, (revision, _))| (key, revision)).collect();
        (reads, run.writes.into_iter().collect())
    }

    /// What the run itself knows of a key: what it wrote, or what it read before.
    fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        let pending = self.pending();
        let Pending { run, call, .. } = &*pending;
        let written = call.writes.get(key).or_else(|| run.writes.get(key));
        let read = || call.reads.get(key).or_else(|| run.reads.get(key)).map(|(_, value)| value);
        written.or_else(read).cloned()
    }

    /// What is under way, unless the run has ended.
    fn under_way(&self) -> Result<MutexGuard<'_, Pending>, EffectError> {
        let pending = self.pending();
        if pending.ended {
            return Err(EffectError::Refused("the run has ended: do this before the function returns".into()));
        }
        Ok(pending)
    }

    async fn read(&self, keys: &[Key]) -> Result<Vec<Option<Bytes>>, EffectError> {
        let mut values: Vec<Option<Option<Bytes>>> = keys.iter().map(|key| self.known(key)).collect();
        let unknown: Vec<Key> =
            keys.iter().zip(&values).filter(|(_, value)| value.is_none()).map(|(key, _)| key.clone()).collect();
        if !unknown.is_empty() {
            let found = self.state.get(unknown.clone()).await.map_err(unavailable)?;
            let mut pending = self.pending();
            let mut found = unknown.into_iter().zip(found);
            for value in values.iter_mut().filter(|value| value.is_none()) {
                let (key, entry) = found.next().expect("one answer for each key that was asked for");
                let read = entry.map_or((Revision::default(), None), |entry| (entry.revision, Some(entry.value)));
                *value = Some(read.1.clone());
                pending.call.reads.insert(key, read);
            }
        }
        Ok(values.into_iter().map(Option::flatten).collect())
    }

    pub(super) fn write(&self, key: Key, value: Option<Bytes>) {
        self.pending().call.writes.insert(key, value);
    }
}

impl Effects for Transaction {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EffectError>> {
        Box::pin(async move { self.read(&keys).await })
    }

    fn set(&self, entries: Vec<(Key, Option<Bytes>)>) -> BoxFuture<'_, Result<(), EffectError>> {
        let set = self.under_way().map(|mut pending| pending.call.writes.extend(entries));
        Box::pin(async { set })
    }

    fn keys<'a>(
        &'a self,
        bucket: &'a Bucket,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>> {
        Box::pin(async move {
            // What the run wrote and deleted, in the order in which it did.
            let own: BTreeMap<Arc<str>, bool> = {
                let pending = self.pending();
                let writes = pending.run.writes.iter().chain(&pending.call.writes);
                let own = writes.filter(|(key, _)| key.bucket == *bucket);
                let own = own.filter(|(key, _)| after.is_none_or(|after| *key.key > *after));
                own.map(|(key, value)| (Arc::clone(&key.key), value.is_some())).collect()
            };
            let mut keys = BTreeSet::new();
            let mut last = after.map(Arc::<str>::from);
            // A page may have lost keys the run deleted, and a short answer means that there are no more.
            let ended = loop {
                let page = self.state.keys(bucket, "", last.as_deref(), limit).await.map_err(unavailable)?;
                let ended = page.len() < limit;
                last = page.last().cloned().or(last);
                keys.extend(page.into_iter().filter(|key| own.get(key) != Some(&false)));
                if ended || keys.len() >= limit {
                    break ended;
                }
            };
            // What it wrote beyond the page belongs to a later one.
            let written = own.into_iter().filter(|(_, there)| *there).map(|(key, _)| key);
            keys.extend(written.filter(|key| ended || last.as_ref().is_some_and(|last| key <= last)));
            Ok(keys.into_iter().take(limit).collect())
        })
    }

    fn increment(&self, key: Key, delta: i64) -> BoxFuture<'_, Result<i64, EffectError>> {
        Box::pin(async move {
            let sum = add(&key, self.read(std::slice::from_ref(&key)).await?.remove(0).as_deref(), delta)?;
            self.under_way()?.call.writes.insert(key, Some(sum.to_string().into()));
            Ok(sum)
        })
    }

    fn swap(&self, key: Key, expected: Option<Bytes>, value: Bytes) -> BoxFuture<'_, Result<bool, EffectError>> {
        Box::pin(async move {
            let found = self.read(std::slice::from_ref(&key)).await?.remove(0);
            let same = found == expected;
            if same {
                self.under_way()?.call.writes.insert(key, Some(value));
            }
            Ok(same)
        })
    }

    fn publish(&self, topic: &TopicName, events: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>> {
        // Now, so that the guest hears of what is wrong with them.
        let checked = events.iter().try_for_each(super::output::check).map_err(EffectError::Refused);
        let published = checked.and_then(|()| {
            let events = events.into_iter().map(|draft| (topic.clone(), draft));
            self.under_way().map(|mut pending| pending.call.published.extend(events))
        });
        Box::pin(async { published })
    }
}

/// Adds to the number a value holds as text.
pub(super) fn add(key: &Key, value: Option<&[u8]>, delta: i64) -> Result<i64, EffectError> {
    let number = match value {
        None => 0,
        Some(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| {
            EffectError::Refused(format!(
                "`{key}` can't be incremented: what it holds is not a whole number in decimal"
            ))
        })?,
    };
    let overflow = || EffectError::Refused(format!("`{key}` can't be incremented by {delta}: {number} is its limit"));
    number.checked_add(delta).ok_or_else(overflow)
}

pub(super) fn unavailable(error: StateError) -> EffectError {
    EffectError::Unavailable(error.to_string())
}

/// An event and the topic it goes to.
pub(super) type Output = (TopicName, Event);

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_store::Store;

    #[tokio::test]
    async fn a_run_lists_what_it_would_leave() {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let state = Arc::new(Store::open(folder.path()).expect("the folder is new"));
        let bucket = Bucket::Function("f".parse().expect("it is a name"));
        let key = |name: &str| Key::new(bucket.clone(), name).expect("it is a key");
        let value = || Some(Bytes::from_static(b"1"));
        let stored = (0..10).map(|n| (key(&format!("k{n}")), value())).collect();
        state.apply(Vec::new(), stored).await.expect("the disk is there");

        let run = Transaction::new(state);
        // Of an earlier call, and of this one: the later word counts.
        run.set(vec![(key("k1"), None), (key("k2"), None), (key("k3"), None), (key("a"), value())])
            .await
            .expect("kept");
        run.keep();
        run.set(vec![(key("k3"), value()), (key("k9x"), value()), (key("k4"), None)]).await.expect("kept");
        let mut found: Vec<Arc<str>> = Vec::new();
        loop {
            let page = run.keys(&bucket, found.last().cloned().as_deref(), 3).await.expect("read");
            let last = page.len() < 3;
            found.extend(page);
            if last {
                break;
            }
        }
        let found: Vec<&str> = found.iter().map(|key| &**key).collect();
        assert_eq!(found, ["a", "k0", "k3", "k5", "k6", "k7", "k8", "k9", "k9x"]);
    }

    #[tokio::test]
    async fn what_comes_after_the_run_is_refused() {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let state = Arc::new(Store::open(folder.path()).expect("the folder is new"));
        let key = Key::new(Bucket::Function("f".parse().expect("it is a name")), "k").expect("it is a key");
        let run = Transaction::new(state);
        assert_eq!(run.increment(key.clone(), 1).await, Ok(1));
        run.keep();
        assert_eq!(run.take().1.len(), 1);
        let refused = |answer: Result<(), EffectError>| matches!(answer, Err(EffectError::Refused(_)));
        assert!(refused(run.set(vec![(key.clone(), None)]).await));
        assert!(refused(run.increment(key.clone(), 1).await.map(drop)));
        assert!(refused(run.swap(key, None, Bytes::new()).await.map(drop)));
        assert!(refused(run.publish(&"t".parse().expect("it is a topic"), Vec::new()).await));
    }
}
