//! One function's reading of one topic: what its consumer and its lanes have in common.

use super::{retry::jitter, settings::Settings};
use crate::{active::ActiveFunction, backend::Backend};
use dunlin_events::{
    consumers::{Commit, CommitError, ConsumerName},
    logs::{LogRecord, LogSink},
};
use std::{sync::Arc, time::Duration};

pub(super) struct Reading {
    pub(super) name: ConsumerName,
    pub(super) settings: Settings,
    pub(super) function: Arc<ActiveFunction>,
    pub(super) backend: Backend,
    pub(super) logs: Arc<dyn LogSink>,
}

impl Reading {
    /// A line for the operator, in the function's log.
    pub(super) fn line(&self, message: String) -> LogRecord {
        LogRecord::of_platform(&self.function.version, message)
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
