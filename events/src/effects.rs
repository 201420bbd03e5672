//! What a function may do to the platform's data while it runs: read and write state, publish events.
//!
//! The runtime calls this for the guest, and the gateway implements it. For a function that was called over HTTP each call
//! takes effect at once. For one that handles an event, everything is kept until the run has ended, and then happens in one
//! transaction with the event's acknowledgement, or not at all. A guest can't tell the difference: it reads its own writes.

use crate::{
    BoxFuture, Event,
    state::{Bucket, Key},
    topics::{Offset, TopicName},
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};

/// The data of one run of a function.
///
/// What a function may name is checked before: the calls here are about keys and topics its manifest allows.
pub trait Effects: Send + Sync {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EffectError>>;

    /// Writes values, `None` deletes.
    fn set(&self, entries: Vec<(Key, Option<Bytes>)>) -> BoxFuture<'_, Result<(), EffectError>>;

    /// Keys of a bucket in the order of their bytes, those after `after`. Fewer than `limit` are the last.
    fn keys<'a>(
        &'a self,
        bucket: &'a Bucket,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>>;

    /// Adds to the number a key holds as decimal text (0 where it holds nothing), and answers with the sum.
    fn increment(&self, key: Key, delta: i64) -> BoxFuture<'_, Result<i64, EffectError>>;

    /// Writes a value where the key holds `expected`, and says whether it did.
    fn swap(&self, key: Key, expected: Option<Bytes>, value: Bytes) -> BoxFuture<'_, Result<bool, EffectError>>;

    /// Publishes events to a topic, in order. Those without id and source get both.
    fn publish(&self, topic: &TopicName, events: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>>;
}

/// The effects of who may have none: every call is refused.
#[derive(Debug, Clone, Copy)]
pub struct NoEffects;

impl NoEffects {
    fn refused<T>() -> BoxFuture<'static, Result<T, EffectError>>
    where
        T: Send + 'static,
    {
        Box::pin(async { Err(EffectError::Refused("there are no state and no topics here".into())) })
    }
}

impl Effects for NoEffects {
    fn get(&self, _: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EffectError>> {
        Self::refused()
    }

    fn set(&self, _: Vec<(Key, Option<Bytes>)>) -> BoxFuture<'_, Result<(), EffectError>> {
        Self::refused()
    }

    fn keys<'a>(
        &'a self,
        _: &'a Bucket,
        _: Option<&'a str>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>> {
        Self::refused()
    }

    fn increment(&self, _: Key, _: i64) -> BoxFuture<'_, Result<i64, EffectError>> {
        Self::refused()
    }

    fn swap(&self, _: Key, _: Option<Bytes>, _: Bytes) -> BoxFuture<'_, Result<bool, EffectError>> {
        Self::refused()
    }

    fn publish(&self, _: &TopicName, _: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>> {
        Self::refused()
    }
}

/// An event a function makes. What it leaves out the platform fills in: an id that is the same when the run is repeated,
/// `/functions/NAME` as the source, and the time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draft {
    pub id: Option<String>,
    pub source: Option<String>,
    pub kind: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub data_content_type: Option<String>,
    pub data_schema: Option<String>,
    pub extensions: Vec<(String, crate::event::Value)>,
    pub data: Option<Bytes>,
}

/// Why the platform did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The guest's mistake: what it asks for can't be.
    #[error("{0}")]
    Refused(String),
    /// The platform's trouble: it may work later.
    #[error("{0}")]
    Unavailable(String),
}

/// An event on its way to a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub topic: TopicName,
    pub offset: Offset,
    /// Counted from 1.
    pub attempt: u32,
    /// Shared with whoever may have to hand it over again.
    pub event: Arc<Event>,
}

/// What a function made of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It took it, and returns these.
    Done(Vec<Draft>),
    /// It wants it again, after that time if it says one.
    Retry { reason: String, after: Option<Duration> },
    /// It will never take it.
    Reject { reason: String },
}
