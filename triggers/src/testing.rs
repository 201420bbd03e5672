//! An intake over the real store, for tests of sources without a platform around them.

use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Event, FunctionName,
    consumers::{Commit, ConsumerName, Consumers, Fate, Settlement, Start, Taken},
    secrets::{SecretError, SecretName, SecretValue, Secrets},
    source::{Intake, Report, Source, SourceError},
    state::{Bucket, Key, StateStore as _},
    topics::{Appended, EventLog as _, Offset, TopicName},
};
use dunlin_store::Store;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// The password of a database as the secret `DB`, and a wrong one as `WRONG`.
pub(crate) struct Known(pub(crate) &'static str);

impl Secrets for Known {
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        match name.as_str() {
            "DB" => Ok(SecretValue::new(self.0.into())),
            "WRONG" => Ok(SecretValue::new("wrong".into())),
            _ => Err(SecretError::Unknown { name: name.clone(), help: "set it".into() }),
        }
    }
}

/// Runs a source for as long as something takes. The source must not fail before that.
pub(crate) async fn while_running<T>(source: &dyn Source, intake: &TestIntake, until: impl Future<Output = T>) -> T {
    tokio::select! {
        ended = source.run(intake) => panic!("it ended: {ended:?}"),
        reached = until => reached,
    }
}

/// How a source fails that does.
pub(crate) async fn failure(source: &dyn Source, intake: &TestIntake) -> SourceError {
    let run = tokio::time::timeout(Duration::from_secs(60), source.run(intake)).await;
    run.unwrap_or_else(|_| panic!("it goes on: {:?}", intake.reports())).unwrap_err()
}

/// A new intake, in a folder that goes with it.
pub(crate) async fn folder() -> (TempDir, TestIntake) {
    let folder = TempDir::new().unwrap();
    let intake = TestIntake::open(folder.path()).await;
    (folder, intake)
}

/// The data of an event, which is JSON.
pub(crate) fn data(event: &Event) -> Value {
    serde_json::from_slice(event.data().unwrap().bytes()).unwrap()
}

/// The data of all events that were taken, in order.
pub(crate) async fn all(intake: &TestIntake) -> Vec<Value> {
    intake.events().await.iter().map(data).collect()
}

/// The rows of a table as its changes have them, by key.
pub(crate) fn rebuilt(changes: &[Value], table: &str) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for change in changes.iter().filter(|change| change["table"] == table) {
        let key = change["key"].to_string();
        match change["op"].as_str().unwrap() {
            "truncate" => rows.clear(),
            "delete" => drop(rows.remove(&key)),
            _ => {
                if let (Some(key), Some(before)) = (change["key"].as_object(), change["before"].as_object()) {
                    // Its key may have been another.
                    let was: Map<_, _> = key.keys().map(|name| (name.clone(), before[name].clone())).collect();
                    rows.remove(&Value::Object(was).to_string());
                }
                rows.insert(key, change["after"].clone());
            }
        }
    }
    rows
}

/// The intake of the function `f`, whose trigger's events are in the topic `t`.
pub(crate) struct TestIntake {
    pub(crate) store: Arc<Store>,
    consumer: ConsumerName,
    reports: Mutex<Vec<Report>>,
}

impl TestIntake {
    /// An intake in a store in this folder, which may have been used before.
    pub(crate) async fn open(folder: &Path) -> Self {
        let store = Arc::new(Store::open(folder).unwrap());
        let consumer = ConsumerName { function: "f".parse().unwrap(), topic: "t".parse().unwrap() };
        store.create(vec![consumer.topic.clone()]).await.unwrap();
        Consumers::open(&*store, &consumer, Start::Now).await.unwrap();
        Self { store, consumer, reports: Mutex::default() }
    }

    /// All events taken, in order.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.events_of(self.consumer.topic.as_str()).await
    }

    /// The event taken last.
    pub(crate) async fn last(&self) -> Option<Event> {
        let end = self.store.topic(&self.consumer.topic).await.unwrap().end;
        let page = self.store.read(&self.consumer.topic, end.saturating_sub(1), 1, usize::MAX).await.unwrap();
        page.events.into_iter().next().map(|stored| stored.event)
    }

    /// All events that went to a topic, in order.
    pub(crate) async fn events_of(&self, topic: &str) -> Vec<Event> {
        let (topic, mut events, mut from) = (topic.parse().unwrap(), Vec::new(), 0);
        loop {
            // A page may be shorter than it was asked to be.
            let page = self.store.read(&topic, from, 1_000_000, usize::MAX).await.unwrap();
            from = page.next;
            events.extend(page.events.into_iter().map(|stored| stored.event));
            if from >= page.end {
                return events;
            }
        }
    }

    /// Waits until so many events were taken.
    pub(crate) async fn wait_for(&self, events: u64) {
        if events > 0 {
            let appended = self.store.appended(&self.consumer.topic, events - 1);
            tokio::time::timeout(std::time::Duration::from_secs(60), appended).await.unwrap().unwrap();
        }
    }

    /// Settles events as the function would.
    pub(crate) async fn settle(&self, settled: Vec<(Offset, Settlement)>) {
        let commit = Commit {
            consumer: self.consumer.clone(),
            settled,
            outputs: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
        };
        self.store.commit(commit).await.unwrap();
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.reports.lock().unwrap().clone()
    }

    fn key(&self, key: &str) -> Key {
        Key::new(Bucket::Triggers(self.consumer.function.clone()), key).unwrap()
    }
}

impl Intake for TestIntake {
    fn function(&self) -> &FunctionName {
        &self.consumer.function
    }

    fn topic(&self) -> &TopicName {
        &self.consumer.topic
    }

    fn recall(&self, keys: Vec<String>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, SourceError>> {
        Box::pin(async move {
            let entries = self.store.get(keys.iter().map(|key| self.key(key)).collect()).await.unwrap();
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
            let bucket = Bucket::Triggers(self.consumer.function.clone());
            let keys = self.store.keys(&bucket, prefix, after, limit).await.unwrap();
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
            let writes = remember.into_iter().map(|(key, value)| (self.key(&key), value)).collect();
            self.store.create(others.iter().map(|(topic, _)| topic.clone()).collect()).await.unwrap();
            let taken = Taken { consumer: self.consumer.clone(), events, others, reads: Vec::new(), writes };
            Ok(self.store.take(taken).await?)
        })
    }

    fn may_publish(&self, topic: &TopicName) -> bool {
        *topic == self.consumer.topic || topic.as_str().starts_with("allowed")
    }

    fn fates(&self, offsets: Vec<Offset>) -> BoxFuture<'_, Result<Vec<Fate>, SourceError>> {
        Box::pin(async move { Ok(self.store.fates(&self.consumer, offsets).await?) })
    }

    fn unsettled(&self) -> BoxFuture<'_, Result<u64, SourceError>> {
        Box::pin(async move {
            let progress = self.store.progress(&self.consumer).await?;
            let end = self.store.topic(&self.consumer.topic).await.unwrap().end;
            Ok(progress.lag(end) + progress.parked)
        })
    }

    fn report(&self, report: Report) {
        self.reports.lock().unwrap().push(report);
    }
}
