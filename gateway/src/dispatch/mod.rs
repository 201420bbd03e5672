//! Functions on events: what is in a topic is handed to the functions that read it.
//!
//! ```text
//!   Deployments ──▶ Dispatcher: a consumer for every function and topic, started, changed and stopped with deploys
//!                      │
//!                      ▼
//!                  consumer ──▶ lane ──▶ Function::handle, or a request (answer)     on the dispatcher's worker threads
//!                      ▲          │
//!                      └──────────┴──▶ one commit: events, state, position           retry, dead letters
//! ```
//!
//! It owns filters, order, attempts and what of a run takes effect. It knows no storage and no sandbox; both are contracts.

mod answer;
mod consumer;
mod filter;
mod immediate;
mod lane;
pub(crate) mod loops;
mod output;
mod reading;
pub(crate) mod requests;
mod retention;
mod retry;
mod settings;
mod transaction;

pub use immediate::Immediate;
pub use output::{DEPTH, MAX_EVENT};

use crate::{
    active::ActiveFunction,
    backend::Backend,
    deploy::Deployments,
    roster::{Roster, Stop},
};
use consumer::Consumer;
use dunlin_events::{
    Manifest,
    consumers::{CommitError, ConsumerName, Progress, Start},
    manifest::{Problem, TopicTrigger},
    topics::{LogError, TopicName},
};
use filter::Filter;
use reading::Reading;
use settings::Settings;
use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::Notify,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What of a manifest's topic triggers can't be, beyond what the manifest itself knows.
pub(crate) fn problems(manifest: &Manifest) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, trigger) in manifest.topic_triggers() {
        if let Some(Err(error)) = trigger.filter.as_deref().map(Filter::compile) {
            problems.push(Problem::new(format!("/triggers/{index}/topic/filter"), error.to_string()));
        }
    }
    problems
}

/// Where a function begins in a topic it reads.
pub(crate) fn start_of(manifest: &Manifest, topic: &TopicName) -> Start {
    let mut triggers = manifest.subscriptions().into_iter().map(|(_, trigger)| trigger);
    triggers.find(|trigger| trigger.name.matches(topic)).map_or(Start::Now, |trigger| trigger.from.into())
}

/// Makes a topic, and a function's place in it, where they are missing. It comes before the first event: a consumer begins
/// with those that come after it.
pub(crate) async fn open(backend: &Backend, consumer: &ConsumerName, start: Start) -> Result<(), CommitError> {
    let created = backend.log.create(vec![consumer.topic.clone()]).await;
    created.map_err(|error| CommitError::Unavailable(error.to_string()))?;
    backend.consumers.open(consumer, start).await?;
    Ok(())
}

/// Which of these topics a function reads, and by which trigger; requests that are answered later are no topic of anybody's
/// trigger. Only a pattern has to be compared with all of them: with
/// ten thousand functions and as many topics it is the names that are many.
pub(crate) fn read_by<'a>(
    manifest: &'a Manifest,
    topics: &HashSet<TopicName>,
) -> Vec<(TopicName, Cow<'a, TopicTrigger>)> {
    let mut read = Vec::new();
    for (_, trigger) in manifest.subscriptions() {
        match trigger.name.name() {
            Some(name) => read.extend(topics.contains(&name).then_some((name, trigger))),
            None => {
                let matching = topics.iter().filter(|topic| trigger.name.matches(topic));
                read.extend(matching.map(|topic| (topic.clone(), trigger.clone())));
            }
        }
    }
    read.retain(|(topic, _)| requests::function_of(topic).is_none());
    read
}

/// Every topic, after those of these that weren't there were made.
pub(crate) async fn known(backend: &Backend, named: HashSet<TopicName>) -> Result<HashSet<TopicName>, LogError> {
    let mut topics: HashSet<_> = backend.log.topics().await?.into_iter().map(|topic| topic.name).collect();
    let missing: Vec<_> = named.into_iter().filter(|name| !topics.contains(name)).collect();
    if !missing.is_empty() {
        backend.log.create(missing.clone()).await?;
        topics.extend(missing);
    }
    Ok(topics)
}

/// The running consumers.
pub(crate) type Switchboard = Roster<ConsumerName, Running>;

pub(crate) struct Running {
    /// The version that runs.
    function: Arc<ActiveFunction>,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Stop for Running {
    fn stop(&self) {
        self.stop.cancel();
    }
}

impl Switchboard {
    /// What a consumer has parked was changed.
    pub(crate) fn wake(&self, name: &ConsumerName) {
        if let Some(running) = self.running().get(name) {
            running.wake.notify_one();
        }
    }

    /// Moves a consumer: it is stopped, moved, and started again, however the move ends.
    pub(crate) async fn seek(
        &self,
        backend: &Backend,
        name: &ConsumerName,
        to: Start,
    ) -> Result<Progress, CommitError> {
        let _held = self.hold(name.clone(), |other| other == name).await;
        backend.consumers.seek(name, to).await
    }
}

/// Why the dispatcher can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no thread can be started for events: {0}")]
    Thread(#[from] io::Error),
}

/// Hands events to functions.
pub struct Dispatcher {
    deployments: Arc<Deployments>,
    workers: Arc<Workers>,
    /// Ends the threads. Not the workers' own: what runs on them holds them.
    _threads: DropGuard,
}

/// The threads events are handled on.
pub(crate) struct Workers {
    handles: Vec<Handle>,
    /// Of the first among the platform's workers.
    first: usize,
    next: AtomicUsize,
}

impl Workers {
    fn start(first: usize, count: NonZeroUsize, end: &CancellationToken) -> io::Result<Self> {
        let mut handles = Vec::new();
        for index in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let end = end.clone();
            thread::Builder::new().name(format!("dunlin-events-{index}")).spawn(move || {
                runtime.block_on(end.cancelled());
                runtime.shutdown_background();
            })?;
        }
        Ok(Self { handles, first, next: AtomicUsize::new(0) })
    }

    /// A thread for the next lane, and its number among the platform's workers.
    fn next(&self) -> (usize, &Handle) {
        let index = self.next.fetch_add(1, Relaxed) % self.handles.len();
        (self.first + index, &self.handles[index])
    }
}

impl Dispatcher {
    /// Starts `count` threads, which are the platform's workers from `first` on.
    pub fn start(deployments: Arc<Deployments>, first: usize, count: NonZeroUsize) -> Result<Self, StartError> {
        let end = CancellationToken::new();
        let workers = Arc::new(Workers::start(first, count, &end)?);
        Ok(Self { deployments, workers, _threads: end.drop_guard() })
    }

    /// Keeps a consumer running for every function and topic, until `shutdown`; then lets what runs end for as long as
    /// `grace`. What is cut off then is repeated after the next start: nothing of it has happened.
    pub async fn run(self, shutdown: CancellationToken, grace: Duration) {
        let board = self.deployments.switchboard();
        let tidy = retention::run(self.deployments.backend().clone(), self.deployments.limits_set());
        let keep = async {
            loop {
                if let Err(error) = self.match_deployed().await {
                    tracing::warn!(%error, "consumers can't be started, and are tried again");
                    let _ = tokio::time::timeout(Duration::from_secs(1), board.news()).await;
                    continue;
                }
                board.news().await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = keep => {}
            () = tidy => {}
        }
        if tokio::time::timeout(grace, board.stop(|_| true)).await.is_err() {
            tracing::warn!(
                "runs on events did not end in time and were cut off; they are repeated after the next start"
            );
        }
    }

    /// Starts, changes and stops consumers so that they are those of what is deployed.
    async fn match_deployed(&self) -> Result<(), LogError> {
        let backend = self.deployments.backend();
        let board = self.deployments.switchboard();
        let functions: Vec<_> = self.deployments.table().functions.values().cloned().collect();
        let named = functions.iter().flat_map(|function| function.version.manifest.topics());
        let topics = known(backend, named.collect()).await?;
        let mut wanted: HashMap<ConsumerName, (Arc<ActiveFunction>, TopicTrigger)> = HashMap::new();
        for function in functions {
            let mut read: Vec<_> = read_by(&function.version.manifest, &topics)
                .into_iter()
                .map(|(topic, trigger)| (topic, trigger.into_owned()))
                .collect();
            let asked = requests::topic(function.name());
            if topics.contains(&asked) {
                let trigger = settings::requests(&asked);
                read.push((asked, trigger));
            }
            for (topic, trigger) in read {
                let name = ConsumerName { function: function.name().clone(), topic };
                wanted.insert(name, (Arc::clone(&function), trigger));
            }
        }
        {
            let (running, held) = (board.running(), board.held());
            wanted.retain(|name, _| !held.contains(name));
            for (name, running) in running.iter() {
                let now = wanted.remove(name);
                // Its end is news, and what is wanted in its place is started then.
                if now.is_none_or(|(function, _)| !Arc::ptr_eq(&function, &running.function)) {
                    running.stop.cancel();
                }
            }
        }
        for (name, (function, trigger)) in wanted {
            self.start_consumer(name, function, &trigger);
        }
        Ok(())
    }

    fn start_consumer(&self, name: ConsumerName, function: Arc<ActiveFunction>, trigger: &TopicTrigger) {
        let settings = match Settings::new(&function.version.manifest, trigger) {
            Ok(settings) => settings,
            // It was checked at deploy, by this platform or an earlier one.
            Err(error) => return tracing::error!(function = %name.function, %error, "a trigger can't be used"),
        };
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let running = Running { function: Arc::clone(&function), wake: Arc::clone(&wake), stop: stop.clone() };
        self.deployments.switchboard().running().insert(name.clone(), running);
        let reading = Reading {
            name: name.clone(),
            settings,
            contents: self.deployments.contents(&function.version.manifest),
            function,
            backend: self.deployments.backend().clone(),
            logs: Arc::clone(self.deployments.logs()) as _,
        };
        let consumer = Consumer {
            reading: Arc::new(reading),
            start: trigger.from.into(),
            workers: Arc::clone(&self.workers),
            wake,
            stop,
        };
        let deployments = Arc::clone(&self.deployments);
        let (_, handle) = self.workers.next();
        handle.spawn(async move {
            consumer.run().await;
            deployments.switchboard().ended(&name);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pattern_reads_all_topics_but_those_of_requests() {
        let topic = json!({ "name": "**" });
        let manifest = json!({ "name": "audit", "component": "a.wasm", "triggers": [{ "topic": topic }] });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let topics = ["orders", "orders.eu", "dunlin.requests.audit", "dunlin.requests.orders"];
        let topics: HashSet<TopicName> = topics.map(|topic| topic.parse().unwrap()).into();
        let mut read: Vec<_> = read_by(&manifest, &topics).into_iter().map(|(topic, _)| topic.to_string()).collect();
        read.sort();
        assert_eq!(read, ["orders", "orders.eu"]);
    }
}
