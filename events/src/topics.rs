//! The contract of the log: topics, and the events in them.
//!
//! ```text
//!               first                                       end
//!   orders        7    8    9    10   11   12   13   14   15
//!                 ├────┴────┴────┴────┴────┴────┴────┴────┤  append puts the next event here, at offset 15
//!                 └ trim moves this up                    │
//! ```
//!
//! Rules every back end MUST keep, and the suite in `events/conformance/src/topics.rs` tests:
//!
//! 1. Offsets of a topic begin at 0, have no gaps, and are never used twice: a topic that is made again after it was removed
//!    goes on where it ended. Runs and the events they make are named after offsets.
//! 2. An append is on disk (fsync'd), whole, before it returns, and happens whole or not at all.
//! 3. A topic takes an event once: what has the `source` and `id` of an event the topic holds adds nothing, and the answer
//!    is that event's offset.
//! 4. A reader sees every offset from `first` to `end`, in order, and never one that could still be undone.
//! 5. Trimming never passes a consumer, nor an event some consumer has parked, unless it is told to.

use crate::{BoxFuture, Event, units::ByteSize};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc, time::Duration};

/// An event's place in its topic, counted from 0.
pub type Offset = u64;

/// A topic's name: 1 to 200 lowercase letters, digits, `-` and `_`, in parts that are separated by dots: `shop.orders`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[schemars(transparent)]
pub struct TopicName(#[schemars(regex(pattern = r"^[a-z0-9_-]+(\.[a-z0-9_-]+)*$"))] Arc<str>);

/// Why a text is no topic name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a topic name: use 1 to 200 lowercase letters, digits, `-` and `_`, in parts separated by dots")]
pub struct InvalidTopicName(pub String);

impl TopicName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a text can stand between the dots of a topic's name.
fn is_part(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(text: &str) -> Result<Self, InvalidTopicName> {
        let valid = text.len() <= 200 && text.split('.').all(is_part);
        if valid { Ok(Self(text.into())) } else { Err(InvalidTopicName(text.to_owned())) }
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The topics a trigger reads: one by its name, or all that match, with `*` for one part and a final `**` for one or more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPattern(String);

/// Why a text is no topic pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no topic: write a name such as `shop.orders`, with `*` for any one part and a final `**` for all that follow"
)]
pub struct InvalidTopicPattern(pub String);

impl TopicPattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic, where the pattern names just one.
    pub fn name(&self) -> Option<TopicName> {
        self.0.parse().ok()
    }

    /// Whether there can be a topic that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut one, mut two) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (one.next(), two.next()) {
                (None, None) => return true,
                (Some("**"), Some(_)) | (Some(_), Some("**")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    pub fn matches(&self, topic: &TopicName) -> bool {
        let mut parts = topic.as_str().split('.');
        let mut pattern = self.0.split('.');
        loop {
            match (pattern.next(), parts.next()) {
                (None, None) => return true,
                (Some("**"), Some(_)) => return true,
                (Some("*"), Some(_)) => {}
                (Some(wanted), Some(part)) if wanted == part => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for TopicPattern {
    type Err = InvalidTopicPattern;

    fn from_str(text: &str) -> Result<Self, InvalidTopicPattern> {
        let mut parts = text.split('.').peekable();
        let mut valid = text.len() <= 200;
        while let Some(part) = parts.next() {
            valid &= is_part(part) || part == "*" || (part == "**" && parts.peek().is_none());
        }
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidTopicPattern(text.to_owned())) }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::manifest::as_text!(TopicPattern, "TopicPattern", { "type": "string", "examples": ["orders", "shop.*", "shop.**"] });

/// How long a topic keeps its events. What is not given has no end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Since they were appended.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::units::optional_duration")]
    #[schemars(schema_with = "crate::units::duration_schema")]
    pub age: Option<Duration>,
    /// Of all its events together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A topic and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Topic {
    pub name: TopicName,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// The offset of the oldest event kept.
    pub first: Offset,
    /// The offset the next event will have.
    pub end: Offset,
    /// Size of the events kept, in bytes.
    pub bytes: u64,
    pub retention: Retention,
}

/// An event in its topic.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    pub offset: Offset,
    /// When it was appended, in milliseconds since the Unix epoch.
    pub appended_at: u64,
    pub event: Event,
}

/// What appending one event came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub offset: Offset,
    /// The topic had the event already: nothing was added.
    pub duplicate: bool,
}

/// A piece of a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In order, without gaps.
    pub events: Vec<StoredEvent>,
    /// Where to read on. Beyond the last event, or, where the topic was trimmed, beyond what is gone.
    pub next: Offset,
    /// The topic's `first` and `end` when this was read.
    pub first: Offset,
    pub end: Offset,
}

/// Topics and their events.
///
/// All calls are cancel safe: a change whose caller went away happens whole or not at all.
pub trait EventLog: Send + Sync {
    /// Makes topics where there are none of that name; those that are there stay as they are.
    fn create(&self, names: Vec<TopicName>) -> BoxFuture<'_, Result<(), LogError>>;

    /// Every topic, by name.
    fn topics(&self) -> BoxFuture<'_, Result<Vec<Topic>, LogError>>;

    fn topic(&self, name: &TopicName) -> BoxFuture<'_, Result<Topic, LogError>>;

    /// Replaces a topic's retention. It takes effect with the next [`EventLog::trim`].
    fn retain(&self, name: &TopicName, retention: Retention) -> BoxFuture<'_, Result<Topic, LogError>>;

    /// Removes a topic with its events, its consumers and what they parked.
    fn remove(&self, name: &TopicName) -> BoxFuture<'_, Result<(), LogError>>;

    /// Appends events in their order, all or none, and answers for each in that order.
    fn append(&self, topic: &TopicName, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<Appended>, LogError>>;

    /// Reads from an offset on: at most so many events, and no more after so many bytes, but at least one if there is one.
    fn read(
        &self,
        topic: &TopicName,
        from: Offset,
        events: usize,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>>;

    /// The first offset that was appended at this time or later, in milliseconds since the Unix epoch; `end` if none was.
    fn offset_at(&self, topic: &TopicName, time: u64) -> BoxFuture<'_, Result<Offset, LogError>>;

    /// Waits until the topic's `end` is beyond `offset`. Ends with [`LogError::NoTopic`] when the topic is removed.
    fn appended(&self, topic: &TopicName, offset: Offset) -> BoxFuture<'_, Result<(), LogError>>;

    /// Drops from the beginning of a topic what is before `before`, a bounded piece at a time so that appends go on, and
    /// answers with the new `first`. Without `force` it stops at what a consumer has yet to settle.
    fn trim(&self, topic: &TopicName, before: Offset, force: bool) -> BoxFuture<'_, Result<Offset, LogError>>;

    /// The topics that have a retention, by name: they may be few among many.
    fn retained(&self) -> BoxFuture<'_, Result<Vec<Topic>, LogError>>;

    /// The offset up to which the topic's retention lets it be trimmed now.
    fn expired(&self, topic: &TopicName) -> BoxFuture<'_, Result<Offset, LogError>>;
}

/// Why the log did not do it. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    #[error("there is no topic `{0}`")]
    NoTopic(TopicName),
    /// The topic is at its end of what fits, or there are more writers than the disk keeps up with.
    #[error("the log takes no more right now: {0}")]
    Busy(String),
    /// The disk or the database failed.
    #[error("the log can't be used: {0}")]
    Unavailable(String),
}

impl LogError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Unavailable(_) => true,
            Self::NoTopic(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        for good in ["orders", "shop.orders", "a_b-c.0"] {
            assert_eq!(good.parse::<TopicName>().unwrap().as_str(), good);
            assert_eq!(good.parse::<TopicPattern>().unwrap().name().unwrap().as_str(), good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "Orders", "a b", "a/b", "*", "a.*", &"x".repeat(201)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
        for bad in ["", "**.a", "a*", "a.**.b", "a.***"] {
            assert!(bad.parse::<TopicPattern>().is_err(), "{bad}");
        }
        for (one, two, both) in
            [("a.*", "*.b", true), ("a.**", "a.b.c", true), ("a", "b", false), ("a.*", "a", false), ("**", "x", true)]
        {
            let [one, two]: [TopicPattern; 2] = [one, two].map(|text| text.parse().unwrap());
            assert_eq!((one.overlaps(&two), two.overlaps(&one)), (both, both), "{one} {two}");
        }
        for (pattern, yes, no) in [
            ("*", &["a", "orders"][..], &["a.b"][..]),
            ("shop.*", &["shop.orders"], &["shop", "shop.a.b", "shops.a"]),
            ("shop.**", &["shop.orders", "shop.a.b"], &["shop", "a.shop"]),
            ("*.orders", &["eu.orders"], &["orders", "eu.orders.late"]),
        ] {
            let pattern: TopicPattern = pattern.parse().unwrap();
            assert_eq!(pattern.name(), None);
            assert!(yes.iter().all(|topic| pattern.matches(&topic.parse().unwrap())), "{pattern}");
            assert!(!no.iter().any(|topic| pattern.matches(&topic.parse().unwrap())), "{pattern}");
        }
    }
}
