//! The contract of consumers: how far each function has come in each topic, and the transaction its effects happen in.
//!
//! ```text
//!   offset     10   11   12   13   14   15   16
//!              ok   ok  [..]  ok   P   [..] [..]
//!                       ▲     └ ahead └ parked       a settled offset is done or parked; all others are still to be run
//!                       position: everything before it is settled
//! ```
//!
//! An event a function failed on is *parked*: kept with its attempts and the time of the next one, while the consumer goes
//! on. The later events of its key are parked behind it, so that they stay in order.
//!
//! Rules every back end MUST keep, and the suite in `events/conformance/src/consumers.rs` tests:
//!
//! 1. A commit happens whole or not at all: its outputs, its state and what it settles are on disk (fsync'd) together.
//! 2. An offset is done once. A commit that settles what is done already changes nothing, and says so.
//! 3. A commit whose reads are out of date changes nothing, and says so: transactions are serializable.
//! 4. What it parks stays parked until a commit settles it.

use crate::{
    BoxFuture, Event,
    function::FunctionName,
    manifest,
    state::{Key, Revision},
    topics::{Appended, Offset, TopicName},
    units::epoch_millis,
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One function's reading of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerName {
    pub function: FunctionName,
    pub topic: TopicName,
}

/// How far a consumer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Every offset before it is settled.
    pub position: Offset,
    /// Settled offsets beyond it, as ranges `start..end`, in order, never touching.
    pub ahead: Vec<(Offset, Offset)>,
    /// How many events it has parked.
    pub parked: u64,
}

impl Progress {
    /// How many events it has yet to come to in a topic with this end. Those it has parked aren't among them.
    pub fn lag(&self, end: Offset) -> u64 {
        let ahead: u64 = self.ahead.iter().map(|(start, end)| end - start).sum();
        end.saturating_sub(self.position).saturating_sub(ahead)
    }
}

/// An event that waits for another attempt, or behind one of its key that does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Parked {
    pub offset: Offset,
    /// What it must stay in order with: events of the same text run one after another. Absent where order doesn't matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Attempts that failed. 0 for one that only waits behind another.
    pub attempts: u32,
    /// When the next attempt may begin, in milliseconds since the Unix epoch. Absent for one that waits behind another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    /// When the first attempt failed, in milliseconds since the Unix epoch. Absent while none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
    /// Why the last attempt failed. Empty while none has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The event itself, where its topic no longer holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
}

/// An event its function could not be brought to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// Its number, by which it is shown, redriven and dropped. Given by the back end, counted up, never used twice.
    #[serde(default)]
    pub number: u64,
    pub consumer: ConsumerName,
    pub offset: Offset,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// When the last attempt failed, in milliseconds since the Unix epoch.
    pub failed_at: u64,
    /// Why, in a word: `trap`, `time`, `rejected`, `status`, ...
    pub reason: String,
    /// Why, in full: what the function said, or the trap with the guest's stack.
    pub error: String,
    pub event: Event,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// The function took it, or its filter doesn't want it. If it was parked, it is no longer.
    Done,
    /// It waits. An offset that was parked already is parked anew.
    Parked(Box<Parked>),
    /// It is given up, and kept among the dead letters.
    Dead(Box<DeadLetter>),
}

/// Everything a run of a function does, to happen at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub consumer: ConsumerName,
    /// Each offset once.
    pub settled: Vec<(Offset, Settlement)>,
    /// Events to append, in order.
    pub outputs: Vec<(TopicName, Event)>,
    /// What the run read of the state. It must be so still.
    pub reads: Vec<(Key, Revision)>,
    /// What it leaves there; `None` deletes. Each key once.
    pub writes: Vec<(Key, Option<Bytes>)>,
}

/// What a source takes in, to happen at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Whose trigger it is, and the topic the events go to.
    pub consumer: ConsumerName,
    /// Events to append, in order.
    pub events: Vec<Event>,
    /// Events to append to other topics, in order.
    pub others: Vec<(TopicName, Event)>,
    /// What was known of the state. It must be so still.
    pub reads: Vec<(Key, Revision)>,
    /// What it leaves there; `None` deletes. Each key once.
    pub writes: Vec<(Key, Option<Bytes>)>,
}

/// What has become of an event in a function's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is yet to run, or to run again.
    Waiting,
    /// The function took it.
    Done,
    /// It is among the dead letters.
    Dead,
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Beginning,
    /// Behind what the topic holds when the consumer is made.
    Now,
    /// At this offset, or the nearest the topic has or will have next.
    Offset(Offset),
    /// At the first event appended at this time or later, in milliseconds since the Unix epoch.
    Time(u64),
}

impl From<manifest::From> for Start {
    fn from(from: manifest::From) -> Self {
        match from {
            manifest::From::Beginning => Self::Beginning,
            manifest::From::Now => Self::Now,
            manifest::From::Offset(offset) => Self::Offset(offset),
            manifest::From::Time(time) => Self::Time(epoch_millis(time)),
        }
    }
}

/// Which dead letters are meant. What is not given doesn't matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    pub function: Option<FunctionName>,
    pub topic: Option<TopicName>,
    pub number: Option<u64>,
}

/// Parked events that are due, and when the next one after those is, in milliseconds since the Unix epoch.
pub type Due = (Vec<Parked>, Option<u64>);

/// A consumer and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerState {
    pub name: ConsumerName,
    pub progress: Progress,
    /// Of its topic.
    pub end: Offset,
    /// Dead letters it has made that are still there.
    pub dead: u64,
}

/// Consumers, their transactions, and dead letters.
///
/// All calls are cancel safe: a change whose caller went away happens whole or not at all. Only what `redrive` and
/// `drop_dead_letters` do may be many changes, one after another, so that nobody waits for all of it.
pub trait Consumers: Send + Sync {
    /// How far a consumer has come. One that isn't there is made, beginning at `start`, and is on disk when this returns.
    fn open(&self, name: &ConsumerName, start: Start) -> BoxFuture<'_, Result<Progress, CommitError>>;

    /// Every consumer, by function and topic.
    fn consumers(&self) -> BoxFuture<'_, Result<Vec<ConsumerState>, CommitError>>;

    /// Forgets the consumers of a function, with what they parked. Dead letters stay.
    fn forget(&self, function: &FunctionName) -> BoxFuture<'_, Result<(), CommitError>>;

    /// Moves a consumer: it goes on from `to`, and what it parked is forgotten. Only while nothing of it runs.
    fn seek(&self, name: &ConsumerName, to: Start) -> BoxFuture<'_, Result<Progress, CommitError>>;

    /// How far a consumer has come.
    fn progress(&self, name: &ConsumerName) -> BoxFuture<'_, Result<Progress, CommitError>>;

    /// What has become of events, in the order of `offsets`.
    fn fates(&self, name: &ConsumerName, offsets: Vec<Offset>) -> BoxFuture<'_, Result<Vec<Fate>, CommitError>>;

    /// Takes in what a source saw: events and state happen together, or nothing does. Refused where the consumer is gone, so
    /// that the source of a removed function adds nothing any more. Answers for each event.
    fn take(&self, taken: Taken) -> BoxFuture<'_, Result<Vec<Appended>, CommitError>>;

    /// Makes everything of a run happen.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), CommitError>>;

    /// The first parked event of each key, and every parked event without a key, whose `due` is not after `now`, the longest
    /// due first (one without a `due` that has come to be its key's first is due at once, and before all others); and when
    /// the next one after those is due. At most `limit`.
    fn due(&self, name: &ConsumerName, now: u64, limit: usize) -> BoxFuture<'_, Result<Due, CommitError>>;

    /// The parked events of a consumer with their offsets, in the order of offsets, from `from` on. At most `limit`.
    fn parked(
        &self,
        name: &ConsumerName,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, CommitError>>;

    /// The parked events of one key in the order of offsets, the first included. At most `limit`.
    fn line(&self, name: &ConsumerName, key: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Parked>, CommitError>>;

    /// Dead letters, newest first, those with a number below `before`. At most `limit`.
    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>, CommitError>>;

    /// Gives dead letters back to their consumers: each is parked with no attempts and due at `now`, in the order of its
    /// key, and no longer among the dead letters. Those whose consumer is gone stay. Answers with the consumers that have
    /// something to do now, and how many were given back. Where it breaks off, each letter is either given back or still
    /// there, and all that are given back are before the others of their key: called again, it goes on.
    fn redrive(
        &self,
        filter: DeadLetterFilter,
        now: u64,
    ) -> BoxFuture<'_, Result<(Vec<ConsumerName>, u64), CommitError>>;

    /// Drops dead letters for good, and answers how many. Where it breaks off, the others are still there.
    fn drop_dead_letters(&self, filter: DeadLetterFilter) -> BoxFuture<'_, Result<u64, CommitError>>;
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else wrote what the run had read. Run it again.
    #[error("the state of `{key}` changed while the function ran")]
    Conflict { key: Key },
    /// The offset is done already.
    #[error("offset {offset} of `{topic}` is settled already")]
    Settled { topic: TopicName, offset: Offset },
    /// Or it is a new one: its topic was made anew, with offsets beyond the one that is to be settled.
    #[error("`{}` is no consumer of `{}`", .0.function, .0.topic)]
    NoConsumer(ConsumerName),
    #[error("there is no topic `{0}`")]
    NoTopic(TopicName),
    /// The disk or the database failed.
    #[error("the consumers can't be used: {0}")]
    Unavailable(String),
}

impl CommitError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Unavailable(_) => true,
            Self::Settled { .. } | Self::NoConsumer(_) | Self::NoTopic(_) => false,
        }
    }
}
