//! Publishing events while a function runs, beside those a handler returns.

use crate::{Event, IntoData, host};
use std::fmt;

/// Publishes an event to a topic, which the manifest names in `allow.publish` or `publish`.
///
/// In a handler of events it is published when the handler has succeeded, together with what it returns and with its writes
/// of state; if it fails, it never was. In a handler of requests it is on disk when this returns.
///
/// ```
/// use dunlin::{Event, testing};
///
/// dunlin::publish("orders", Event::new("order.created", 1290).with_key("order-7"))?;
///
/// assert_eq!(testing::published_to("orders")[0].kind(), "order.created");
/// # Ok::<(), dunlin::Error>(())
/// ```
pub fn publish<T: IntoData>(topic: &str, event: Event<T>) -> Result<(), PublishError> {
    publish_all(topic, [event])
}

/// Publishes several events to a topic, in their order: all of them or, with an error, none. Events with different data go
/// together [erased](Event::erase).
pub fn publish_all<T: IntoData>(topic: &str, events: impl IntoIterator<Item = Event<T>>) -> Result<(), PublishError> {
    let fails = |reason: String| PublishError { topic: topic.to_owned(), reason };
    let events = events.into_iter().map(|event| event.erase().into_parts()).collect::<Result<Vec<_>, _>>();
    host::publish(topic, events.map_err(fails)?).map_err(fails)
}

/// Why events were not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishError {
    /// The topic they were meant for.
    pub topic: String,
    /// What is wrong with them, or with the topic.
    pub reason: String,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to publish to `{}`: {}", self.topic, self.reason)
    }
}

impl std::error::Error for PublishError {}
