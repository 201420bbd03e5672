//! Where a source puts its events: the topic of its trigger, and the memory of its function's triggers.

use super::status::Status;
use crate::backend::Backend;
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Event, FunctionName, Version,
    consumers::{ConsumerName, Fate, Taken},
    logs::{LogRecord, LogSink},
    source::{Intake, Report, SourceError},
    state::{Bucket, Key, StateError},
    topics::{Appended, Offset, TopicName},
};
use std::sync::Arc;

/// The intake of one trigger.
pub(super) struct TriggerIntake {
    pub(super) consumer: ConsumerName,
    pub(super) version: Version,
    /// The other topics its events may go to.
    pub(super) publishes: Vec<TopicName>,
    pub(super) backend: Backend,
    pub(super) logs: Arc<dyn LogSink>,
    pub(super) status: Arc<Status>,
}

impl TriggerIntake {
    fn bucket(&self) -> Bucket {
        Bucket::Triggers(self.consumer.function.clone())
    }

    fn key(&self, key: &str) -> Result<Key, SourceError> {
        Key::new(self.bucket(), key).map_err(|error| SourceError::new(error.to_string()))
    }

    pub(super) fn say(&self, message: String) {
        self.logs.record(LogRecord::of_platform(&self.version, message));
    }
}

impl Intake for TriggerIntake {
    fn function(&self) -> &FunctionName {
        &self.consumer.function
    }

    fn topic(&self) -> &TopicName {
        &self.consumer.topic
    }

    fn recall(&self, keys: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, SourceError>> {
        Box::pin(async move {
            let keys = keys.iter().map(|key| self.key(key)).collect::<Result<_, _>>()?;
            let entries = self.backend.state.get(keys).await.map_err(unavailable)?;
            Ok(entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect())
        })
    }

    fn keys<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        Box::pin(async move {
            let bucket = self.bucket();
            let keys = self.backend.state.keys(&bucket, prefix, after, limit).await.map_err(unavailable)?;
            Ok(keys.iter().map(ToString::to_string).collect())
        })
    }

    fn take_with(
        &self,
        events: Vec<Event>,
        others: Vec<(TopicName, Event)>,
        remember: Vec<(String, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<Vec<Appended>, SourceError>> {
        Box::pin(async move {
            let written = |(key, value): (String, Option<Bytes>)| Ok((self.key(&key)?, value));
            let writes = remember.into_iter().map(written).collect::<Result<_, SourceError>>()?;
            if !others.is_empty() {
                let topics = others.iter().map(|(topic, _)| topic.clone()).collect();
                self.backend.log.create(topics).await.map_err(|error| SourceError::new(error.to_string()))?;
            }
            let taken = Taken { consumer: self.consumer.clone(), events, others, reads: Vec::new(), writes };
            let appended = self.backend.consumers.take(taken).await?;
            self.status.took(appended.iter().filter(|appended| !appended.duplicate).count() as u64);
            Ok(appended)
        })
    }

    fn may_publish(&self, topic: &TopicName) -> bool {
        *topic == self.consumer.topic || self.publishes.contains(topic)
    }

    fn fates(&self, offsets: Vec<Offset>) -> BoxFuture<'_, Result<Vec<Fate>, SourceError>> {
        Box::pin(async move { Ok(self.backend.consumers.fates(&self.consumer, offsets).await?) })
    }

    fn unsettled(&self) -> BoxFuture<'_, Result<u64, SourceError>> {
        Box::pin(async move {
            let progress = self.backend.consumers.progress(&self.consumer).await?;
            let topic = self.backend.log.topic(&self.consumer.topic).await;
            let end = topic.map_err(|error| SourceError::new(error.to_string()))?.end;
            Ok(progress.lag(end) + progress.parked)
        })
    }

    fn report(&self, report: Report) {
        if let Report::Warning(message) = &report {
            self.say(message.clone());
        }
        self.status.report(report);
    }
}

fn unavailable(error: StateError) -> SourceError {
    SourceError::new(error.to_string())
}
