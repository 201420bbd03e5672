//! A back end without a disk, and random operations to compare a real one with it.

use super::{BackEnd, Place, consumer, event, topic};
use crate::{
    state::{bucket, key, value},
    topics::read_all,
};
use bytes::Bytes;
use dunlin_events::{
    Event,
    consumers::{
        self, Commit, CommitError, ConsumerName, ConsumerState, DeadLetter, DeadLetterFilter, Parked, Progress,
        Settlement, Start, Taken,
    },
    state::{Entry, Key, Revision, StateError},
    topics::{Appended, LogError, Offset, TopicName},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Something to do with a back end. Topics, functions, events and keys are drawn from a few, so that they meet.
#[derive(Debug, Clone)]
pub enum Operation {
    Create(u8),
    Remove(u8),
    Append(u8, Vec<u8>),
    Trim(u8, Offset, bool),
    Open(u8, u8, Start),
    Seek(u8, u8, Start),
    Forget(u8),
    Commit(Run),
    /// Of which function and topic, the events, and what it read and wrote.
    Take(u8, u8, Vec<u8>, Reads, Writes),
    Apply(Reads, Writes),
    Clear,
    /// Also the time.
    Redrive(Letters, u64),
    Drop(Letters),
    Reopen,
}

/// Keys, and whether they are read as they are now, or as they were before their last change.
type Reads = BTreeMap<u8, bool>;
type Writes = BTreeMap<u8, Option<u8>>;

/// A commit.
#[derive(Debug, Clone)]
pub struct Run {
    function: u8,
    topic: u8,
    settled: BTreeMap<Offset, Fate>,
    /// Topics and events.
    outputs: Vec<(u8, u8)>,
    reads: Reads,
    writes: Writes,
}

#[derive(Debug, Clone)]
enum Fate {
    Done,
    /// The key, and when it is due.
    Parked(Option<u8>, Option<u64>),
    Dead(Option<u8>),
}

/// Which dead letters: of which function, of which topic, and the one at which place among all.
#[derive(Debug, Clone)]
pub struct Letters(Option<u8>, Option<u8>, Option<u8>);

const TOPICS: u8 = 2;
const FUNCTIONS: u8 = 2;
const KEYS: u8 = 3;

/// Sequences of operations for [`agrees_with_the_model`].
pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let (topic, function, offset) = (0..TOPICS, 0..FUNCTIONS, 0..14_u64);
    // Two in three are about the first, so that something comes of it.
    let topic = prop_oneof![2 => Just(0), 1 => topic];
    let function = prop_oneof![2 => Just(0), 1 => function];
    let start = prop_oneof![
        4 => Just(Start::Beginning),
        1 => Just(Start::Now),
        1 => offset.clone().prop_map(Start::Offset),
        1 => prop_oneof![Just(0), Just(u64::MAX)].prop_map(Start::Time),
    ];
    let reads = prop::collection::btree_map(0..KEYS, prop::bool::weighted(0.9), 0..3);
    let writes = prop::collection::btree_map(0..KEYS, prop::option::weighted(0.7, any::<u8>()), 0..3);
    let letters = (prop::option::of(function.clone()), prop::option::of(topic.clone()), prop::option::of(0..4_u8))
        .prop_map(|(function, topic, place)| Letters(function, topic, place));
    let event_key = prop::option::weighted(0.7, 0..2_u8);
    let fate = prop_oneof![
        3 => Just(Fate::Done),
        3 => (event_key.clone(), prop::option::weighted(0.7, 0..4_u64)).prop_map(|(key, due)| Fate::Parked(key, due)),
        1 => event_key.prop_map(Fate::Dead),
    ];
    let run = (
        function.clone(),
        topic.clone(),
        prop::collection::btree_map(offset.clone(), fate, 0..4),
        prop::collection::vec((topic.clone(), 0..24_u8), 0..3),
        reads.clone(),
        writes.clone(),
    )
        .prop_map(|(function, topic, settled, outputs, reads, writes)| Run {
            function,
            topic,
            settled,
            outputs,
            reads,
            writes,
        });
    let ids = prop::collection::vec(0..24_u8, 0..4);
    let take = (function.clone(), topic.clone(), ids, reads.clone(), writes.clone());
    let operation = prop_oneof![
        3 => topic.clone().prop_map(Operation::Create),
        1 => topic.clone().prop_map(Operation::Remove),
        8 => (topic.clone(), prop::collection::vec(0..24_u8, 0..6)).prop_map(|(topic, ids)| Operation::Append(topic, ids)),
        3 => (topic.clone(), offset, prop::bool::weighted(0.4))
            .prop_map(|(topic, before, force)| Operation::Trim(topic, before, force)),
        4 => (function.clone(), topic.clone(), start.clone())
            .prop_map(|(function, topic, start)| Operation::Open(function, topic, start)),
        1 => (function.clone(), topic, start).prop_map(|(function, topic, to)| Operation::Seek(function, topic, to)),
        1 => function.prop_map(Operation::Forget),
        16 => run.prop_map(Operation::Commit),
        4 => take.prop_map(|(function, topic, ids, reads, writes)| Operation::Take(function, topic, ids, reads, writes)),
        3 => (reads, writes).prop_map(|(reads, writes)| Operation::Apply(reads, writes)),
        1 => Just(Operation::Clear),
        2 => (letters.clone(), 0..4_u64).prop_map(|(letters, now)| Operation::Redrive(letters, now)),
        1 => letters.prop_map(Operation::Drop),
        2 => Just(Operation::Reopen),
    ];
    // Begun with something to work on.
    prop::collection::vec(operation, 1..40).prop_map(|operations| {
        let mut all =
            vec![Operation::Create(0), Operation::Append(0, (0..8).collect()), Operation::Open(0, 0, Start::Beginning)];
        all.extend(operations);
        all
    })
}

/// Does the operations with the back end and with a model of it, and compares every answer and all that can be read
/// after each.
pub async fn agrees_with_the_model(place: &impl Place, operations: Vec<Operation>) {
    let mut back_end = place.open().await;
    let mut model = Model::default();
    for operation in operations {
        let BackEnd { log, consumers, state } = &back_end;
        match operation {
            Operation::Create(name) => {
                log.create(vec![topic_of(name)]).await.unwrap();
                model.create(topic_of(name));
            }
            Operation::Remove(name) => {
                let name = topic_of(name);
                assert_eq!(log.remove(&name).await, model.remove(&name));
            }
            Operation::Append(name, ids) => {
                let (name, events) = (topic_of(name), ids.into_iter().map(event_of).collect::<Vec<_>>());
                assert_eq!(log.append(&name, events.clone()).await, model.append(&name, &events));
            }
            Operation::Trim(name, before, force) => {
                let name = topic_of(name);
                assert_eq!(log.trim(&name, before, force).await, model.trim(&name, before, force));
            }
            Operation::Open(function, topic, start) => {
                let name = consumer_of(function, topic);
                assert_eq!(consumers.open(&name, start).await, model.open(&name, start));
            }
            Operation::Seek(function, topic, to) => {
                let name = consumer_of(function, topic);
                assert_eq!(consumers.seek(&name, to).await, model.seek(&name, to));
            }
            Operation::Forget(function) => {
                let function = consumer_of(function, 0).function;
                consumers.forget(&function).await.unwrap();
                model.consumers.retain(|name, _| name.function != function);
            }
            Operation::Commit(run) => {
                let commit = model.drawn(run);
                match consumers.commit(commit.clone()).await {
                    Ok(()) => {
                        assert_eq!(model.reasons_against(&commit), []);
                        model.commit(&commit);
                    }
                    Err(error) => {
                        let reasons = model.reasons_against(&commit);
                        assert!(reasons.contains(&error), "`{error}` is none of {reasons:?}");
                    }
                }
            }
            Operation::Take(function, topic, ids, reads, writes) => {
                let (consumer, events) = (consumer_of(function, topic), ids.into_iter().map(event_of).collect());
                let taken = Taken {
                    consumer,
                    events,
                    others: Vec::new(),
                    reads: model.reads(reads),
                    writes: drawn_writes(writes),
                };
                match consumers.take(taken.clone()).await {
                    Ok(appended) => {
                        assert_eq!(model.reasons_against(&unsettling(&taken)), []);
                        assert_eq!(Ok(appended), model.append(&taken.consumer.topic, &taken.events));
                        model.write(&taken.writes);
                    }
                    Err(error) => {
                        let reasons = model.reasons_against(&unsettling(&taken));
                        assert!(reasons.contains(&error), "`{error}` is none of {reasons:?}");
                    }
                }
            }
            Operation::Apply(reads, writes) => {
                let (reads, writes) = (model.reads(reads), drawn_writes(writes));
                let conflicts: Vec<_> =
                    model.conflicts(&reads).map(|key| Err(StateError::Conflict { key: key.clone() })).collect();
                let answer = state.apply(reads, writes.clone()).await;
                if conflicts.is_empty() {
                    assert_eq!(answer, Ok(()));
                    model.write(&writes);
                } else {
                    assert!(conflicts.contains(&answer), "{answer:?} is none of {conflicts:?}");
                }
            }
            Operation::Clear => {
                let keys = model.state.values().filter(|known| known.value.is_some()).count() as u64;
                assert_eq!(state.clear(&bucket()).await, Ok(keys));
                model.write(&(0..KEYS).map(|key| (key_of(key), None)).collect::<Vec<_>>());
            }
            Operation::Redrive(letters, now) => {
                let filter = model.filter(letters);
                assert_eq!(consumers.redrive(filter.clone(), now).await, Ok(model.redrive(&filter, now)));
            }
            Operation::Drop(letters) => {
                let filter = model.filter(letters);
                let before = model.dead.len();
                model.dead.retain(|letter| !is_meant(&filter, &letter.letter));
                let dropped = (before - model.dead.len()) as u64;
                assert_eq!(consumers.drop_dead_letters(filter).await, Ok(dropped));
            }
            Operation::Reopen => {
                drop(back_end);
                back_end = place.open().await;
            }
        }
        model.compare(&back_end).await;
    }
}

/// A commit that is refused for the same reasons.
fn unsettling(taken: &Taken) -> Commit {
    Commit { reads: taken.reads.clone(), ..super::commit(&taken.consumer) }
}

#[derive(Default)]
struct Model {
    topics: BTreeMap<TopicName, Topic>,
    /// Where topics of these names ended that were removed.
    former: BTreeMap<TopicName, Offset>,
    consumers: BTreeMap<ConsumerName, Consumer>,
    dead: Vec<Dead>,
    /// Topics that were ever made.
    made: u64,
    state: BTreeMap<Key, Known>,
    /// Revisions that were ever seen.
    given: BTreeSet<Revision>,
}

struct Topic {
    /// Which of all topics that were ever made.
    made: u64,
    first: Offset,
    end: Offset,
    events: BTreeMap<Offset, Event>,
}

#[derive(Default)]
struct Consumer {
    settled: BTreeSet<Offset>,
    parked: BTreeMap<Offset, Parked>,
}

struct Dead {
    letter: DeadLetter,
    topic: u64,
}

/// What is known of a key. The revision is the back end's to choose: `None` until it is seen.
#[derive(Default)]
struct Known {
    value: Option<Bytes>,
    revision: Option<Revision>,
    before: Revision,
}

impl Model {
    fn create(&mut self, name: TopicName) {
        self.made += 1;
        let former = self.former.get(&name).copied().unwrap_or(0);
        let topic = Topic { made: self.made, first: former, end: former, events: BTreeMap::new() };
        self.topics.entry(name).or_insert(topic);
    }

    fn remove(&mut self, name: &TopicName) -> Result<(), LogError> {
        let topic = self.topics.remove(name).ok_or_else(|| LogError::NoTopic(name.clone()))?;
        self.former.insert(name.clone(), topic.end);
        self.consumers.retain(|consumer, _| consumer.topic != *name);
        Ok(())
    }

    fn append(&mut self, name: &TopicName, events: &[Event]) -> Result<Vec<Appended>, LogError> {
        let topic = self.topics.get_mut(name).ok_or_else(|| LogError::NoTopic(name.clone()))?;
        let append = |event: &Event| {
            let known = topic.events.iter().find(|(_, known)| *known == event);
            if let Some((offset, _)) = known {
                return Appended { offset: *offset, duplicate: true };
            }
            let offset = topic.end;
            topic.events.insert(offset, event.clone());
            topic.end += 1;
            Appended { offset, duplicate: false }
        };
        Ok(events.iter().map(append).collect())
    }

    fn trim(&mut self, name: &TopicName, before: Offset, force: bool) -> Result<Offset, LogError> {
        let topic = self.topics.get_mut(name).ok_or_else(|| LogError::NoTopic(name.clone()))?;
        let mut to = before.min(topic.end);
        for (_, consumer) in self.consumers.iter_mut().filter(|(consumer, _)| consumer.topic == *name) {
            if force {
                for (offset, parked) in consumer.parked.range_mut(..to) {
                    parked.event = parked.event.take().or_else(|| topic.events.get(offset).cloned());
                }
                consumer.settled.extend(0..to);
            } else {
                let needed = consumer.parked.iter().find(|(_, parked)| parked.event.is_none());
                to = to.min(consumer.position()).min(needed.map_or(u64::MAX, |(offset, _)| *offset));
            }
        }
        topic.first = topic.first.max(to);
        topic.events = topic.events.split_off(&topic.first);
        Ok(topic.first)
    }

    fn begin(&self, name: &ConsumerName, start: Start) -> Result<Consumer, CommitError> {
        let topic = self.topics.get(&name.topic).ok_or_else(|| CommitError::NoTopic(name.topic.clone()))?;
        let position = match start {
            Start::Beginning | Start::Time(0) => topic.first,
            Start::Now | Start::Time(_) => topic.end,
            Start::Offset(offset) => offset.clamp(topic.first, topic.end),
        };
        Ok(Consumer { settled: (0..position).collect(), parked: BTreeMap::new() })
    }

    fn open(&mut self, name: &ConsumerName, start: Start) -> Result<Progress, CommitError> {
        let new = self.begin(name, start)?;
        Ok(self.consumers.entry(name.clone()).or_insert(new).progress())
    }

    fn seek(&mut self, name: &ConsumerName, to: Start) -> Result<Progress, CommitError> {
        let moved = self.begin(name, to)?;
        let consumer = self.consumers.get_mut(name).ok_or_else(|| CommitError::NoConsumer(name.clone()))?;
        *consumer = moved;
        Ok(consumer.progress())
    }

    fn drawn(&self, run: Run) -> Commit {
        let Run { function, topic, settled, outputs, reads, writes } = run;
        let consumer = consumer_of(function, topic);
        let held = |offset| self.topics.get(&consumer.topic).and_then(|topic| topic.events.get(&offset));
        let settle = |(offset, fate)| {
            let settlement = match fate {
                Fate::Done => Settlement::Done,
                Fate::Parked(key, due) => super::parked(offset, key.map(|key| ["k", "l"][usize::from(key)]), due),
                Fate::Dead(key) => Settlement::Dead(Box::new(DeadLetter {
                    number: 0,
                    consumer: consumer.clone(),
                    offset,
                    key: key.map(|key| ["k", "l"][usize::from(key)].to_owned()),
                    attempts: 1,
                    failed_at: 1,
                    reason: "trap".into(),
                    error: "why".into(),
                    event: held(offset).cloned().unwrap_or_else(|| event("/gone", offset)),
                })),
            };
            (offset, settlement)
        };
        let settled = settled.into_iter().map(settle).collect();
        let outputs = outputs.into_iter().map(|(topic, event)| (topic_of(topic), event_of(event))).collect();
        Commit { consumer, settled, outputs, reads: self.reads(reads), writes: drawn_writes(writes) }
    }

    /// Every error that would be right; none if it must be done.
    fn reasons_against(&self, commit: &Commit) -> Vec<CommitError> {
        let Commit { consumer: name, settled, outputs, reads, .. } = commit;
        let mut reasons = Vec::new();
        match (self.topics.get(&name.topic), self.consumers.get(name)) {
            (None, _) => reasons.push(CommitError::NoTopic(name.topic.clone())),
            (_, None) => reasons.push(CommitError::NoConsumer(name.clone())),
            (Some(topic), Some(consumer)) => {
                for (offset, _) in settled {
                    if *offset >= topic.end {
                        reasons.push(CommitError::NoConsumer(name.clone()));
                    } else if consumer.settled.contains(offset) && !consumer.parked.contains_key(offset) {
                        reasons.push(CommitError::Settled { topic: name.topic.clone(), offset: *offset });
                    }
                }
            }
        }
        let missing = outputs.iter().filter(|(topic, _)| !self.topics.contains_key(topic));
        reasons.extend(missing.map(|(topic, _)| CommitError::NoTopic(topic.clone())));
        reasons.extend(self.conflicts(reads).map(|key| CommitError::Conflict { key: key.clone() }));
        reasons
    }

    fn commit(&mut self, commit: &Commit) {
        let Commit { consumer: name, settled, outputs, writes, .. } = commit;
        for (topic, event) in outputs {
            self.append(topic, std::slice::from_ref(event)).unwrap();
        }
        let consumer = self.consumers.get_mut(name).unwrap();
        for (offset, settlement) in settled {
            consumer.settled.insert(*offset);
            let before = consumer.parked.remove(offset);
            match settlement {
                Settlement::Done => {}
                Settlement::Parked(parked) => {
                    let event = before.and_then(|before| before.event);
                    consumer.parked.insert(*offset, Parked { event, ..(**parked).clone() });
                }
                Settlement::Dead(letter) => {
                    let topic = self.topics[&name.topic].made;
                    self.dead.push(Dead { letter: (**letter).clone(), topic });
                }
            }
        }
        self.write(writes);
    }

    fn reads(&self, reads: Reads) -> Vec<(Key, Revision)> {
        let revision = |key| {
            let key = key_of(key);
            let known = self.state.get(&key);
            (key, known.map_or((Revision(0), Revision(0)), |known| (known.revision.unwrap(), known.before)))
        };
        let read = |(key, fresh)| {
            let (key, (now, before)) = revision(key);
            (key, if fresh { now } else { before })
        };
        reads.into_iter().map(read).collect()
    }

    fn conflicts<'a>(&'a self, reads: &'a [(Key, Revision)]) -> impl Iterator<Item = &'a Key> {
        let now = |key| self.state.get(key).map_or(Revision(0), |known| known.revision.unwrap());
        reads.iter().filter(move |(key, revision)| now(key) != *revision).map(|(key, _)| key)
    }

    fn write(&mut self, writes: &[(Key, Option<Bytes>)]) {
        for (key, value) in writes {
            let known = self.state.entry(key.clone()).or_default();
            let before = known.revision.unwrap_or_default();
            let revision = value.is_none().then_some(Revision(0));
            *known = Known { value: value.clone(), revision, before };
        }
    }

    fn filter(&self, Letters(function, topic, place): Letters) -> DeadLetterFilter {
        DeadLetterFilter {
            function: function.map(|function| consumer_of(function, 0).function),
            topic: topic.map(topic_of),
            // A number that was given, or one that wasn't.
            number: place.map(|at| self.dead.get(usize::from(at)).map_or(u64::MAX, |dead| dead.letter.number)),
        }
    }

    fn redrive(&mut self, filter: &DeadLetterFilter, now: u64) -> (Vec<ConsumerName>, u64) {
        let (mut names, mut count) = (BTreeSet::new(), 0);
        self.dead.retain(|Dead { letter, topic: made }| {
            let DeadLetter { consumer: name, offset, key, event, .. } = letter;
            let topic = self.topics.get(&name.topic).filter(|topic| topic.made == *made);
            let (Some(topic), Some(consumer)) = (topic, self.consumers.get_mut(name)) else { return true };
            if !is_meant(filter, letter) {
                return true;
            }
            let gone = !topic.events.contains_key(offset);
            let before = consumer.parked.remove(offset).and_then(|before| before.event);
            let waiting = Parked {
                offset: *offset,
                key: key.clone(),
                attempts: 0,
                due: Some(now),
                failed_at: None,
                error: String::new(),
                event: gone.then(|| event.clone()).or(before),
            };
            consumer.settled.insert(*offset);
            consumer.parked.insert(*offset, waiting);
            names.insert(name.clone());
            count += 1;
            false
        });
        (names.into_iter().collect(), count)
    }

    fn fate(&self, name: &ConsumerName, consumer: &Consumer, offset: Offset) -> consumers::Fate {
        let topic = self.topics[&name.topic].made;
        let dead = |dead: &Dead| dead.letter.consumer == *name && dead.topic == topic && dead.letter.offset == offset;
        if !consumer.settled.contains(&offset) || consumer.parked.contains_key(&offset) {
            consumers::Fate::Waiting
        } else if self.dead.iter().any(dead) {
            consumers::Fate::Dead
        } else {
            consumers::Fate::Done
        }
    }

    async fn compare(&mut self, BackEnd { log, consumers, state }: &BackEnd) {
        let topics = log.topics().await.unwrap();
        assert_eq!(topics.iter().map(|topic| &topic.name).collect::<Vec<_>>(), self.topics.keys().collect::<Vec<_>>());
        for (topic, model) in topics.iter().zip(self.topics.values()) {
            assert_eq!((topic.first, topic.end), (model.first, model.end));
            assert_eq!(topic.bytes == 0, model.events.is_empty());
            let page = read_all(&**log, &topic.name).await;
            assert!(page.events.is_sorted_by_key(|stored| stored.appended_at));
            let events: BTreeMap<_, _> = page.events.into_iter().map(|stored| (stored.offset, stored.event)).collect();
            assert_eq!((page.first, page.end, &events), (model.first, model.end, &model.events));
        }
        let states = self.consumers.iter().map(|(name, consumer)| ConsumerState {
            name: name.clone(),
            progress: consumer.progress(),
            end: self.topics[&name.topic].end,
            dead: self.dead.iter().filter(|dead| dead.letter.consumer == *name).count() as u64,
        });
        assert_eq!(consumers.consumers().await, Ok(states.collect()));
        for (name, consumer) in &self.consumers {
            assert_eq!(consumers.parked(name, 0, 100).await, Ok(consumer.parked.values().cloned().collect()));
            assert_eq!(consumers.progress(name).await, Ok(consumer.progress()));
            let end = self.topics[&name.topic].end;
            let fates = (0..=end).map(|offset| self.fate(name, consumer, offset)).collect();
            assert_eq!(consumers.fates(name, (0..=end).collect()).await, Ok(fates));
            for key in consumer.keys() {
                let line = consumer.parked.values().filter(|parked| parked.key.as_ref() == Some(&key)).cloned();
                assert_eq!(consumers.line(name, &key, 100).await, Ok(line.collect()));
            }
            for (now, limit) in [(0, 100), (1, 1), (2, 100), (u64::MAX, 2)] {
                assert_eq!(consumers.due(name, now, limit).await, Ok(consumer.due(now, limit)));
            }
        }
        self.compare_dead_letters(consumers.dead_letters(DeadLetterFilter::default(), None, 1000).await.unwrap());
        for key in (0..KEYS).map(key_of) {
            let entry = state.get(vec![key.clone()]).await.unwrap().remove(0);
            let known = self.state.entry(key).or_default();
            assert_eq!(entry.as_ref().map(|entry| &entry.value), known.value.as_ref());
            match (entry, known.revision) {
                (Some(Entry { revision, .. }), None) => {
                    assert!(self.given.insert(revision) && revision != Revision(0), "{revision:?} was given twice");
                    known.revision = Some(revision);
                }
                (entry, revision) => {
                    let now = entry.map_or(Revision(0), |entry| entry.revision);
                    assert_eq!(now, revision.unwrap_or_default());
                }
            }
            known.revision = known.revision.or(Some(Revision(0)));
        }
    }

    /// Learns the numbers of new ones.
    fn compare_dead_letters(&mut self, letters: Vec<DeadLetter>) {
        assert_eq!(letters.len(), self.dead.len());
        assert!(letters.is_sorted_by(|a, b| a.number > b.number), "newest first");
        for (letter, Dead { letter: known, .. }) in letters.into_iter().rev().zip(&mut self.dead) {
            if known.number == 0 {
                known.number = letter.number;
            }
            assert_eq!(letter, *known);
        }
    }
}

impl Consumer {
    fn position(&self) -> Offset {
        (0..).find(|offset| !self.settled.contains(offset)).expect("a set has an end")
    }

    fn progress(&self) -> Progress {
        let position = self.position();
        let mut ahead: Vec<(Offset, Offset)> = Vec::new();
        for offset in self.settled.range(position..).copied() {
            match ahead.last_mut() {
                Some((_, end)) if *end == offset => *end += 1,
                _ => ahead.push((offset, offset + 1)),
            }
        }
        Progress { position, ahead, parked: self.parked.len() as u64 }
    }

    fn keys(&self) -> Vec<String> {
        let keys: BTreeSet<_> = self.parked.values().filter_map(|parked| parked.key.clone()).collect();
        keys.into_iter().collect()
    }

    fn due(&self, now: u64, limit: usize) -> (Vec<Parked>, Option<u64>) {
        let mut keys = BTreeSet::new();
        let first = |parked: &&Parked| parked.key.as_ref().is_none_or(|key| keys.insert(key.clone()));
        let mut first: Vec<_> = self.parked.values().filter(first).collect();
        first.sort_by_key(|parked| (parked.due, parked.offset));
        let is_due = |parked: &&Parked| parked.due.is_none_or(|due| due <= now);
        let due: Vec<_> = first.iter().copied().take_while(is_due).take(limit).cloned().collect();
        let next = first.get(due.len()).map(|next| next.due.unwrap_or(now));
        (due, next)
    }
}

fn is_meant(filter: &DeadLetterFilter, letter: &DeadLetter) -> bool {
    filter.function.as_ref().is_none_or(|function| *function == letter.consumer.function)
        && filter.topic.as_ref().is_none_or(|topic| *topic == letter.consumer.topic)
        && filter.number.is_none_or(|number| number == letter.number)
}

fn drawn_writes(writes: Writes) -> Vec<(Key, Option<Bytes>)> {
    let write = |(key, new): (u8, Option<u8>)| (key_of(key), new.and_then(|new| value(&new.to_string())));
    writes.into_iter().map(write).collect()
}

fn topic_of(number: u8) -> TopicName {
    topic(&format!("t{number}"))
}

fn consumer_of(function: u8, topic: u8) -> ConsumerName {
    consumer(&format!("f{function}"), &format!("t{topic}"))
}

/// Of two sources, so that ids meet as well.
fn event_of(number: u8) -> Event {
    event(&format!("/s{}", number % 2), u64::from(number / 2))
}

fn key_of(number: u8) -> Key {
    key(&format!("k{number}"))
}
