//! How each trigger that makes events stands: what operators see, and what survives a deploy that leaves the trigger alone.

use crate::api::TriggerState;
use dunlin_events::{source::Report, units::epoch_millis, units::now_millis};
use serde_json::{Map, Value};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One trigger, since the platform started or the trigger was deployed.
#[derive(Default)]
pub struct Status(Mutex<Snapshot>);

/// What a [`Status`] holds at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub state: TriggerState,
    /// When it came to be in this state, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Until when it waits, where it waits for a time.
    pub until: Option<u64>,
    /// What is wrong, or was last with a single thing.
    pub error: Option<String>,
    /// Events taken, without those the topic had already.
    pub events: u64,
    /// When the last of them was taken.
    pub last_event: Option<u64>,
    /// Figures of its own.
    pub details: Map<String, Value>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self {
            state: TriggerState::Starting,
            since: now_millis(),
            until: None,
            error: None,
            events: 0,
            last_event: None,
            details: Map::new(),
        }
    }
}

impl Status {
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// So many new events were taken.
    pub(crate) fn took(&self, events: u64) {
        if events > 0 {
            let mut now = self.lock();
            now.events += events;
            now.last_event = Some(now_millis());
        }
    }

    pub(crate) fn failed(&self, error: String) {
        let mut now = self.lock();
        now.become_state(TriggerState::Failing);
        now.error = Some(error);
    }

    /// What was wrong with a single thing is so no longer.
    pub(crate) fn recovered(&self) {
        let mut now = self.lock();
        if now.state != TriggerState::Failing {
            now.error = None;
        }
    }

    pub(crate) fn ended(&self) {
        self.lock().become_state(TriggerState::Ended);
    }

    pub(crate) fn report(&self, report: Report) {
        let mut now = self.lock();
        match report {
            Report::Running => now.become_state(TriggerState::Running),
            Report::Waiting { until } => {
                now.become_state(TriggerState::Waiting);
                now.until = Some(epoch_millis(until));
            }
            Report::Warning(message) => now.error = Some(message),
            Report::Detail(name, value) => {
                now.details.insert(name.to_owned(), value);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    fn become_state(&mut self, state: TriggerState) {
        if self.state == TriggerState::Failing && state != TriggerState::Failing {
            self.error = None;
        }
        if self.state != state {
            self.state = state;
            self.since = now_millis();
        }
        self.until = None;
    }
}
