//! For tests: a platform in memory.
//!
//! A function's crate builds natively too, so `cargo test` runs its handlers as what they are: functions. What they publish,
//! keep and log is in memory then, and this module shows it. Each thread has its own, so tests don't see each other; where
//! they run on one (`--test-threads=1`), begin with [`reset`].
//!
//! ```
//! use dunlin::{Error, Event, Result, state, testing};
//! # use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { total: u64 }
//!
//! #[dunlin::handler]
//! fn on_order(event: Event<Order>) -> Result<Event<u64>> {
//!     let orders = state::bucket().increment("orders", 1)?;
//!     dunlin::publish("mail", Event::new("mail.wanted", orders))?;
//!     Ok(Event::new("order.paid", event.data.total))
//! }
//!
//! // Called as it is:
//! let paid = on_order(testing::event("order.created", Order { total: 1290 }))?;
//! assert_eq!(paid.data, 1290);
//! assert_eq!(testing::published_to("mail").len(), 1);
//! assert_eq!(testing::state()["orders"], 1);
//!
//! // Or as the platform does it, data that can't be read included:
//! let error = testing::deliver(on_order, testing::event("order.created", "nonsense")).unwrap_err();
//! assert!(error.is_reject());
//! # Ok::<(), Error>(())
//! ```

use crate::{
    Error, Event, IntoData, Outgoing, Value,
    event::{Origin, Received},
    handler::{self, Handler},
    host::memory::{self, Host},
    http::{self, Request, Response},
    log::Level,
};
use std::collections::BTreeMap;

/// An event that was published with [`publish`](crate::publish()).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: Outgoing,
}

/// A line that was logged with the macros of [`log`](crate::log).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: Level,
    /// Its text.
    pub message: String,
    /// Its fields, in their order.
    pub fields: Vec<(String, String)>,
}

/// Forgets everything: events, state, log lines, variables.
pub fn reset() {
    memory::with(|host| *host = Host::default());
}

/// An event as a handler gets it: the first attempt, at the next offset of the topic `test`. What else it has is up to the
/// `with_` methods; [`from_topic`] says that it came from elsewhere.
pub fn event<T>(kind: impl Into<String>, data: T) -> Event<T> {
    let offset = memory::with(|host| {
        host.made += 1;
        host.made - 1
    });
    let event = Event::new(kind, data)
        .with_id(format!("test-{offset}"))
        .with_source("/testing")
        .with_time("2026-01-31T12:00:00Z");
    from_topic(event, "test", offset, 1)
}

/// The event as it comes out of a topic, at an offset. Attempts are counted from 1.
pub fn from_topic<T>(event: Event<T>, topic: impl Into<String>, offset: u64, attempt: u32) -> Event<T> {
    event.with_origin(Origin { topic: topic.into(), offset, attempt })
}

/// What was published, in order. What a handler returns is not among it.
pub fn published() -> Vec<Published> {
    memory::with(|host| host.published.clone())
}

/// What was published to a topic, in order.
pub fn published_to(topic: &str) -> Vec<Outgoing> {
    published().into_iter().filter(|published| published.topic == topic).map(|published| published.event).collect()
}

/// What is in the function's own bucket. Values that aren't JSON are shown as text.
pub fn state() -> BTreeMap<String, Value> {
    shared("default")
}

/// What is in a shared bucket.
pub fn shared(name: &str) -> BTreeMap<String, Value> {
    let values = memory::with(|host| host.buckets.get(name).cloned().unwrap_or_default());
    let value = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    };
    values.into_iter().map(|(key, bytes)| (key, value(bytes))).collect()
}

/// What was logged, in order.
pub fn logged() -> Vec<LogLine> {
    memory::with(|host| host.logged.clone())
}

/// Sets a variable or secret, for [`config`](crate::config).
pub fn env(name: impl Into<String>, value: impl Into<String>) {
    memory::with(|host| host.variables.insert(name.into(), value.into()));
}

/// Hands an event to a handler as the platform does: its data is written out and read again, and nothing is published or
/// kept if it isn't taken. Answers with the events it returned.
pub fn deliver<S, T: IntoData>(handler: impl Handler<S>, event: Event<T>) -> Result<Vec<Outgoing>, Error> {
    let before = memory::with(|host| host.clone());
    let outcome = deliver_all(handler, [event]).remove(0);
    if outcome.is_err() {
        memory::with(|host| {
            host.published = before.published;
            host.buckets = before.buckets;
        });
    }
    outcome
}

/// Hands several events to a handler in one call, and answers for each with the events it returned.
pub fn deliver_all<S, T: IntoData>(
    handler: impl Handler<S>,
    events: impl IntoIterator<Item = Event<T>>,
) -> Vec<Result<Vec<Outgoing>, Error>> {
    let received = events.into_iter().map(|event| {
        let origin = event.origin();
        let (attributes, data) = event.erase().into_parts().expect("an event that is delivered can be written");
        Received { attributes, data, origin }
    });
    let outcomes = handler::handle(handler, received.collect());
    let checked = outcomes.into_iter().map(|outcome| {
        let events = outcome?;
        events.iter().try_for_each(|event| memory::check(event.attributes())).map_err(Error::retry)?;
        Ok(events)
    });
    checked.collect()
}

/// Has a request answered as the platform does: the body is read as what the handler takes, and errors become answers.
///
/// ```
/// use dunlin::{http::{Request, StatusCode}, testing};
///
/// #[dunlin::http]
/// fn double(request: Request<String>) -> dunlin::Result<String> {
///     let number: u32 = request.body().parse()?;
///     Ok((number * 2).to_string())
/// }
///
/// assert_eq!(testing::respond(double, Request::new("21")).body(), b"42");
/// assert_eq!(testing::respond(double, Request::new("x")).status(), StatusCode::INTERNAL_SERVER_ERROR);
/// ```
pub fn respond<S>(handler: impl http::Handler<S>, request: Request<impl Into<Vec<u8>>>) -> Response<Vec<u8>> {
    http::respond(handler, request.map(Into::into))
}
