//! Sources of deployed functions: one runs for each trigger that has one, from the deploy that brings the trigger to the
//! one that takes it away.
//!
//! ```text
//!   Deployments ──▶ Supervisor ──▶ Source::run(intake) ──▶ one commit: events, memory
//!                       ▲                 │
//!                       └─ later, again ──┘ failed
//! ```
//!
//! It owns when sources run and what is known of how they do. What a source sees is its own business, and `triggers`'.
//! A trigger is told from another by what it says, not by its place: a deploy that moves it about, or changes only what is
//! around it, leaves its source running.

mod intake;
mod status;

pub use status::{Snapshot, Status};

use crate::{active::ActiveFunction, deploy::Deployments};
use dunlin_events::{
    FunctionName,
    consumers::{ConsumerName, Start},
    manifest::Trigger,
    source::{Intake as _, Source, SourceError},
};
use intake::TriggerIntake;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// The pause after a source has failed: the first, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Which sources run.
#[derive(Default)]
pub struct Board {
    running: Mutex<HashMap<Place, CancellationToken>>,
    held: Mutex<HashSet<FunctionName>>,
    /// Told when what should run has changed.
    news: Notify,
    /// Told when a source has ended.
    ended: Notify,
}

/// Whose trigger, and what it says.
type Place = (FunctionName, String);

fn place(function: &FunctionName, trigger: &Trigger) -> Place {
    (function.clone(), serde_json::to_string(trigger).expect("a trigger can be written"))
}

impl Board {
    fn running(&self) -> MutexGuard<'_, HashMap<Place, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, HashSet<FunctionName>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What should run may have changed.
    pub(crate) fn changed(&self) {
        self.news.notify_one();
    }

    /// Stops a function's sources, and keeps them from running until what it answers is dropped.
    pub(crate) async fn hold(&self, function: &FunctionName) -> Held<'_> {
        self.held().insert(function.clone());
        let held = Held { board: self, function: function.clone() };
        self.stop(|(of, _)| of == function).await;
        held
    }

    /// Stops sources and waits for their end.
    async fn stop(&self, which: impl Fn(&Place) -> bool) {
        loop {
            let ended = self.ended.notified();
            let stopped = {
                let running = self.running();
                let mut those = running.iter().filter(|(place, _)| which(place)).peekable();
                if those.peek().is_none() {
                    return;
                }
                those.for_each(|(_, stop)| stop.cancel());
                ended
            };
            // Looked at again now and then: it may have ended before it was waited for.
            let _ = tokio::time::timeout(Duration::from_millis(100), stopped).await;
        }
    }
}

/// A function whose sources don't run.
pub(crate) struct Held<'a> {
    board: &'a Board,
    function: FunctionName,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.board.held().remove(&self.function);
        self.board.changed();
    }
}

/// Runs the sources of what is deployed.
pub struct Supervisor {
    deployments: Arc<Deployments>,
}

impl Supervisor {
    pub fn new(deployments: Arc<Deployments>) -> Self {
        Self { deployments }
    }

    /// Keeps a source running for every trigger that has one, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let board = self.deployments.sources();
        let keep = async {
            loop {
                self.match_deployed();
                board.news.notified().await;
            }
        };
        let _ = shutdown.run_until_cancelled(keep).await;
        board.stop(|_| true).await;
    }

    /// Starts and stops sources so that they are those of what is deployed.
    fn match_deployed(&self) {
        let board = self.deployments.sources();
        let mut wanted = HashMap::new();
        for function in self.deployments.table().functions.values() {
            for (index, trigger) in function.version.manifest.triggers.iter().enumerate() {
                if trigger.has_source() {
                    wanted.insert(place(function.name(), trigger), (Arc::clone(function), index));
                }
            }
        }
        let mut running = board.running();
        let held = board.held();
        wanted.retain(|(function, _), _| !held.contains(function));
        let mut ending = HashSet::new();
        for (place, stop) in running.iter() {
            if wanted.remove(place).is_none() {
                stop.cancel();
                ending.insert(place.0.clone());
            }
        }
        // The new source of a trigger that was changed may want what the old one still has. Its end is news.
        wanted.retain(|(function, _), _| !ending.contains(function));
        for (place, (function, index)) in wanted {
            let trigger = &function.version.manifest.triggers[index];
            let Some(source) = self.deployments.open_source(function.name(), trigger) else { continue };
            let stop = CancellationToken::new();
            running.insert(place.clone(), stop.clone());
            let ended = Ended { deployments: Arc::clone(&self.deployments), place };
            let deployments = Arc::clone(&self.deployments);
            tokio::spawn(async move {
                // Dropped last, and also when the source panics.
                let _ended = ended;
                let _ = stop.run_until_cancelled(keep_running(&deployments, &function, index, &*source)).await;
            });
        }
    }
}

/// Tells that a source has ended.
struct Ended {
    deployments: Arc<Deployments>,
    place: Place,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let board = self.deployments.sources();
        board.running().remove(&self.place);
        board.ended.notify_waiters();
        board.changed();
    }
}

/// Runs a source, again and again when it fails.
async fn keep_running(deployments: &Deployments, function: &ActiveFunction, index: usize, source: &dyn Source) {
    let manifest = &function.version.manifest;
    let Some(topic) = manifest.topic_of(&manifest.triggers[index]) else { return };
    let intake = TriggerIntake {
        consumer: ConsumerName { function: function.name().clone(), topic },
        version: function.version.clone(),
        publishes: manifest.publish.iter().chain(&manifest.allow.publish).cloned().collect(),
        backend: deployments.backend().clone(),
        logs: Arc::clone(deployments.logs()) as _,
        status: Arc::clone(&function.statuses[index]),
    };
    let mut pause = FIRST;
    let mut told = None;
    loop {
        let begun = Instant::now();
        let error = match run_once(&intake, source).await {
            Ok(()) => {
                intake.status.ended();
                // It has nothing to do any more, but is there: only a deploy takes it away.
                return std::future::pending().await;
            }
            Err(error) => error.to_string(),
        };
        if begun.elapsed() > LONGEST {
            pause = FIRST;
        }
        // The same failure, once a minute for ever, would push everything else out of the function's log.
        if told.as_ref() != Some(&error) {
            let kind = manifest.triggers[index].kind();
            tracing::warn!(function = %function.name(), trigger = kind, %error, "a source failed, and is tried again");
            intake.say(format!("its {kind} trigger failed, and is tried again: {error}"));
            told = Some(error.clone());
        }
        intake.status.failed(error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn run_once(intake: &TriggerIntake, source: &dyn Source) -> Result<(), SourceError> {
    let topic = vec![intake.topic().clone()];
    intake.backend.log.create(topic).await.map_err(|error| SourceError::new(error.to_string()))?;
    // Before the first event: a consumer begins with those that come after it.
    intake.backend.consumers.open(&intake.consumer, Start::Now).await?;
    source.run(intake).await
}
