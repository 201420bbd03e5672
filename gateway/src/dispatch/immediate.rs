//! The effects of a function that was called over HTTP: each happens at once, and is on disk before the guest goes on.

use super::{
    output::{self, Origin},
    transaction::{add, unavailable},
};
use crate::backend::Backend;
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, FunctionName,
    effects::{Draft, EffectError, Effects},
    state::{Bucket, Key, Revision, StateError},
    topics::{LogError, TopicName},
};
use std::sync::Arc;

/// How often a change of one key is tried that others change at the same time. Each time, one of them succeeds.
const TRIES: u32 = 1000;

/// The effects of one function's calls.
pub struct Immediate {
    function: FunctionName,
    backend: Backend,
}

impl Immediate {
    pub fn new(function: FunctionName, backend: Backend) -> Self {
        Self { function, backend }
    }

    async fn read(&self, key: &Key) -> Result<(Revision, Option<Bytes>), EffectError> {
        let entry = self.backend.state.get(vec![key.clone()]).await.map_err(unavailable)?.remove(0);
        Ok(entry.map_or((Revision::default(), None), |entry| (entry.revision, Some(entry.value))))
    }
}

impl Effects for Immediate {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EffectError>> {
        Box::pin(async move {
            let entries = self.backend.state.get(keys).await.map_err(unavailable)?;
            Ok(entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect())
        })
    }

    fn set(&self, entries: Vec<(Key, Option<Bytes>)>) -> BoxFuture<'_, Result<(), EffectError>> {
        Box::pin(async move { self.backend.state.apply(Vec::new(), entries).await.map_err(unavailable) })
    }

    fn keys<'a>(
        &'a self,
        bucket: &'a Bucket,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>> {
        Box::pin(async move { self.backend.state.keys(bucket, "", after, limit).await.map_err(unavailable) })
    }

    fn increment(&self, key: Key, delta: i64) -> BoxFuture<'_, Result<i64, EffectError>> {
        Box::pin(async move {
            for _ in 0..TRIES {
                let (revision, value) = self.read(&key).await?;
                let sum = add(&key, value.as_deref(), delta)?;
                let write = vec![(key.clone(), Some(sum.to_string().into()))];
                match self.backend.state.apply(vec![(key.clone(), revision)], write).await {
                    Ok(()) => return Ok(sum),
                    Err(StateError::Conflict { .. }) => {}
                    Err(error) => return Err(unavailable(error)),
                }
            }
            Err(EffectError::Unavailable(format!("`{key}` is changed by too many at once")))
        })
    }

    fn swap(&self, key: Key, expected: Option<Bytes>, value: Bytes) -> BoxFuture<'_, Result<bool, EffectError>> {
        Box::pin(async move {
            let (revision, found) = self.read(&key).await?;
            if found != expected {
                return Ok(false);
            }
            match self.backend.state.apply(vec![(key.clone(), revision)], vec![(key, Some(value))]).await {
                Ok(()) => Ok(true),
                Err(StateError::Conflict { .. }) => Ok(false),
                Err(error) => Err(unavailable(error)),
            }
        })
    }

    fn publish(&self, topic: &TopicName, events: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>> {
        let topic = topic.clone();
        Box::pin(async move {
            let origin = Origin::Call { function: &self.function };
            let events: Result<Vec<_>, _> = events
                .into_iter()
                .map(|draft| output::event(draft, &origin, 0).map_err(EffectError::Refused))
                .collect();
            match self.backend.log.append(&topic, events?).await {
                Ok(_) => Ok(()),
                // Somebody removed it after the deploy that made it.
                Err(error @ LogError::NoTopic(_)) => Err(EffectError::Refused(error.to_string())),
                Err(error) => Err(EffectError::Unavailable(error.to_string())),
            }
        })
    }
}
