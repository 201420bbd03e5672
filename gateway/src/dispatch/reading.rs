//! One function's reading of one topic: what its consumer and its lanes have in common.

use super::{
    requests,
    retry::{self, jitter},
    settings::Settings,
    transaction::Output,
};
use crate::{active::ActiveFunction, backend::Backend};
use bytes::Bytes;
use dunlin_events::{
    consumers::{Commit, CommitError, ConsumerName, DeadLetter},
    logs::{LogRecord, LogSink},
    source::Contents,
    state::Key,
};
use std::{sync::Arc, time::Duration};

pub(super) struct Reading {
    pub(super) name: ConsumerName,
    pub(super) settings: Settings,
    pub(super) function: Arc<ActiveFunction>,
    /// What its events are handed over with, where there is more of them than is in the topic.
    pub(super) contents: Option<Arc<dyn Contents>>,
    pub(super) backend: Backend,
    pub(super) logs: Arc<dyn LogSink>,
}

impl Reading {
    /// A line for the operator, in the function's log.
    pub(super) fn line(&self, message: String) -> LogRecord {
        LogRecord::of_platform(&self.function.version, message)
    }

    /// What is committed with a dead letter, so that others hear of it: those who read the topic the manifest names, and
    /// whoever waits for the answer to a request.
    pub(super) fn told(&self, letter: &DeadLetter) -> (Option<Output>, Option<(Key, Option<Bytes>)>) {
        let topic = self.function.version.manifest.retry.dead_letter.clone();
        (topic.map(|topic| (topic, retry::announcement(letter))), requests::failed(letter))
    }

    /// Commits what was run, again and again while the disk doesn't let it: the work is done, and what it read is checked
    /// each time.
    pub(super) async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.backend.consumers.commit(commit.clone()).await {
                Ok(()) => return Ok(()),
                Err(CommitError::NoTopic(topic)) if topic != commit.consumer.topic => {
                    // Somebody removed a topic the manifest names.
                    match self.backend.log.create(vec![topic]).await {
                        Ok(()) => continue,
                        Err(error) => error.to_string(),
                    }
                }
                Err(CommitError::Unavailable(error)) => error,
                Err(error) => return Err(error),
            };
            self.logs.record(self.line(format!("what it did can't be written, and is tried again: {error}")));
            tracing::warn!(function = %self.name.function, %error, "a run can't be committed, and is tried again");
            tokio::time::sleep(jitter(pause)).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}
