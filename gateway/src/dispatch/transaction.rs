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
    collections::{BTreeMap, HashMap},
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

    /// What the run read and wrote, for its commit.
    #[expect(clippy::type_complexity, reason = "the two fields of a commit")]
    pub(super) fn take(&self) -> (Vec<(Key, Revision)>, Vec<(Key, Option<Bytes>)>) {
        let run = mem::take(&mut self.pending().run);
        let reads = run.reads.into_iter().map(|(key, (revision, _))| (key, revision)).collect();
        (reads, run.writes.into_iter().collect())
    }

    /// What the run itself knows of a key: what it wrote, or what it read before.
    fn known(&self, key: &Key) -> Option<Option<Bytes>> {
        let pending = self.pending();
        let Pending { run, call } = &*pending;
        let written = call.writes.get(key).or_else(|| run.writes.get(key));
        let read = || call.reads.get(key).or_else(|| run.reads.get(key)).map(|(_, value)| value);
        written.or_else(read).cloned()
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
        entries.into_iter().for_each(|(key, value)| self.write(key, value));
        Box::pin(async { Ok(()) })
    }

    fn keys<'a>(
        &'a self,
        bucket: &'a Bucket,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>> {
        Box::pin(async move {
            let mut keys = self.state.keys(bucket, "", after, limit).await.map_err(unavailable)?;
            // Where the page ends, unless it is the last: what the run wrote beyond it belongs to a later one.
            let end = (keys.len() >= limit).then(|| keys.last().cloned()).flatten();
            let pending = self.pending();
            for writes in [&pending.run.writes, &pending.call.writes] {
                let own = writes.iter().filter(|(key, _)| key.bucket == *bucket);
                let own = own.filter(|(key, _)| after.is_none_or(|after| *key.key > *after));
                for (key, value) in own.filter(|(key, _)| end.as_ref().is_none_or(|end| key.key <= *end)) {
                    match (value, keys.binary_search(&key.key)) {
                        (Some(_), Err(place)) => keys.insert(place, Arc::clone(&key.key)),
                        (None, Ok(place)) => drop(keys.remove(place)),
                        (Some(_), Ok(_)) | (None, Err(_)) => {}
                    }
                }
            }
            Ok(keys)
        })
    }

    fn increment(&self, key: Key, delta: i64) -> BoxFuture<'_, Result<i64, EffectError>> {
        Box::pin(async move {
            let sum = add(&key, self.read(std::slice::from_ref(&key)).await?.remove(0).as_deref(), delta)?;
            self.write(key, Some(sum.to_string().into()));
            Ok(sum)
        })
    }

    fn swap(&self, key: Key, expected: Option<Bytes>, value: Bytes) -> BoxFuture<'_, Result<bool, EffectError>> {
        Box::pin(async move {
            let found = self.read(std::slice::from_ref(&key)).await?.remove(0);
            let same = found == expected;
            if same {
                self.write(key, Some(value));
            }
            Ok(same)
        })
    }

    fn publish(&self, topic: &TopicName, events: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>> {
        // Now, so that the guest hears of what is wrong with them.
        let checked = events.iter().try_for_each(super::output::check);
        if checked.is_ok() {
            let topic = topic.clone();
            self.pending().call.published.extend(events.into_iter().map(|draft| (topic.clone(), draft)));
        }
        Box::pin(async { checked.map_err(EffectError::Refused) })
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
