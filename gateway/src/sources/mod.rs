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

use crate::{active::ActiveFunction, deploy::Deployments, dispatch, roster::Roster};
use dunlin_events::{
    FunctionName,
    consumers::{ConsumerName, Start},
    manifest::Trigger,
    source::{Intake as _, Source, SourceError},
};
use intake::TriggerIntake;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pause after a source has failed: the first, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The running sources. A function's are held together.
pub(crate) type Board = Roster<Place, CancellationToken, FunctionName>;

/// Whose trigger, and what it says.
pub(crate) type Place = (FunctionName, String);

fn place(function: &FunctionName, trigger: &Trigger) -> Place {
    (function.clone(), serde_json::to_string(trigger).expect("a trigger can be written"))
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
                board.news().await;
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
        self.deployments.sources().ended(&self.place);
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
    let start = dispatch::start_of(manifest, intake.topic());
    let mut pause = FIRST;
    let mut told = None;
    loop {
        let begun = Instant::now();
        let error = match run_once(&intake, start, source).await {
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

async fn run_once(intake: &TriggerIntake, start: Start, source: &dyn Source) -> Result<(), SourceError> {
    dispatch::open(&intake.backend, &intake.consumer, start).await?;
    source.run(intake).await
}
