//! The store from outside: the contract it keeps, and what happens to it when a process, a disk or a file goes wrong.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but clippy doesn't count their helpers as tests"
)]

use bytes::Bytes;
use dunlin_conformance::{consumers, registry, state, topics};
use dunlin_events::{
    BoxFuture, Component, Digest, Event, FunctionName, Registry, Shape,
    registry::{NewVersion, RegistryError},
    topics::{EventLog, LogError, TopicName},
};
use dunlin_store::{OpenError, Store};
use futures_util::future::join_all;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;

struct Place(TempDir);

impl registry::Place for Place {
    fn open(&self) -> BoxFuture<'_, Box<dyn Registry>> {
        Box::pin(async { Box::new(Store::open(self.0.path()).unwrap()) as Box<dyn Registry> })
    }
}

impl consumers::Place for Place {
    fn open(&self) -> BoxFuture<'_, consumers::BackEnd> {
        let store = Arc::new(Store::open(self.0.path()).unwrap());
        let back_end = consumers::BackEnd { log: store.clone(), consumers: store.clone(), state: store };
        Box::pin(std::future::ready(back_end))
    }
}

fn new_place() -> Place {
    Place(tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn keeps_the_contract_of_the_registry() {
    registry::keeps_the_contract(new_place).await;
}

#[tokio::test]
async fn keeps_the_contract_of_topics() {
    topics::keeps_the_contract(new_place).await;
}

#[tokio::test]
async fn keeps_the_contract_of_consumers() {
    consumers::keeps_the_contract(new_place).await;
}

#[tokio::test]
async fn keeps_the_contract_of_state() {
    state::keeps_the_contract(new_place).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_registry_agrees_with_its_model(operations in registry::operations()) {
        runtime().block_on(registry::agrees_with_the_model(&new_place(), operations));
    }

    #[test]
    fn topics_consumers_and_state_agree_with_their_model(operations in consumers::operations()) {
        runtime().block_on(consumers::agrees_with_the_model(&new_place(), operations));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// The variable that makes a test the process to be killed or limited: the data directory it is to use.
const VICTIM: &str = "DUNLIN_STORE_TEST_VICTIM";
const WORKERS: u64 = 3;
const FUNCTIONS: u64 = 8;

#[test]
fn kill_9_during_deploys() {
    if let Ok(dir) = std::env::var(VICTIM) {
        deploy_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::from_iter((0..WORKERS).map(|worker| (worker, 0)));
    for round in 0..6 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill_9_during_deploys", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut heard = 0;
        // Until the pipe ends: what it acknowledged in the moment before it died counts as well.
        for line in lines {
            let Some(line) = line.strip_prefix("acknowledged ") else { continue };
            let (worker, number) = line.split_once(' ').unwrap();
            acknowledged.insert(worker.parse().unwrap(), number.parse().unwrap());
            heard += 1;
            if heard == 20 + 7 * round {
                victim.kill().unwrap();
            }
        }
        let status = victim.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
        runtime().block_on(check(dir.path(), &acknowledged));
    }
}

fn deploy_until_killed(dir: &Path) -> ! {
    let runtime = runtime();
    let store = Store::open(dir).unwrap();
    let workers = (0..WORKERS).map(async |worker| {
        for i in 0_u64.. {
            let bytes = Bytes::from(format!("{} {worker} {i}", std::process::id()).repeat(100));
            let functions = (0..FUNCTIONS).map(|i| new(&function(worker, i), bytes.clone())).collect();
            let deployed = store.deploy(functions).await.unwrap();
            println!("\nacknowledged {worker} {}", deployed[0].version.number);
        }
    });
    runtime.block_on(join_all(workers));
    unreachable!("the workers work until they are killed")
}

/// Every deploy that was acknowledged is there, and every deploy that is there is there whole.
async fn check(dir: &Path, acknowledged: &BTreeMap<u64, u64>) {
    let store = Store::open(dir).unwrap();
    for (worker, number) in acknowledged {
        let first = store.versions(&name(&function(*worker, 0))).await.unwrap();
        assert!(first.active >= *number, "worker {worker} was told of {number}, and {} is there", first.active);
        assert_eq!(first.versions.len() as u64, first.active);
        for version in &first.versions {
            let bytes = store.component_bytes(version.component.digest).await.unwrap();
            assert_eq!(Digest::of(&bytes), version.component.digest);
        }
        for i in 1..FUNCTIONS {
            let other = store.versions(&name(&function(*worker, i))).await.unwrap();
            assert_eq!(other.active, first.active, "half a deploy of worker {worker}");
            let components = |versions: &[dunlin_events::Version]| {
                versions.iter().map(|version| version.component.clone()).collect::<Vec<_>>()
            };
            assert_eq!(components(&other.versions), components(&first.versions));
        }
    }
}

#[test]
fn full_disk_during_a_deploy() {
    if let Ok(dir) = std::env::var(VICTIM) {
        runtime().block_on(deploy_too_much(Path::new(&dir)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // No file beyond 2 MiB (4 MiB where the shell counts in KiB), and an error instead of a signal for who tries.
    let status = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -f 4096; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk_during_a_deploy", "--nocapture"])
        .env(VICTIM, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let runtime = runtime();
    let active = runtime.block_on(Store::open(dir.path()).unwrap().active()).unwrap();
    let names: Vec<_> = active.iter().map(|version| version.name().as_str()).collect();
    assert_eq!(names, ["after", "before"]);
}

async fn deploy_too_much(dir: &Path) {
    let store = Store::open(dir).unwrap();
    store.deploy(vec![new("before", "small")]).await.unwrap();
    let before = store.active().await.unwrap();
    let large = Bytes::from(vec![7; 8 << 20]);
    for _ in 0..3 {
        let functions = vec![new("small", "another"), new("before", large.clone()), new("large", large.clone())];
        let error = store.deploy(functions).await.unwrap_err();
        assert!(error.retryable());
        let RegistryError::Unavailable(reason) = error else { panic!("{error}") };
        assert!(reason.contains("dunlin.db") && reason.contains("ulimit -f"), "{reason}");
        assert_eq!(store.active().await.unwrap(), before);
        assert_eq!(store.component(Digest::of(&large)).await, Ok(None));
        let log = fs::metadata(dir.join("dunlin.db-wal")).unwrap().len();
        assert!(log < 1 << 20, "the failed deploy keeps {log} bytes of the disk");
    }
    store.deploy(vec![new("after", "small")]).await.unwrap();
}

#[test]
fn full_disk_during_appends() {
    if let Ok(dir) = std::env::var(VICTIM) {
        runtime().block_on(append_too_much(Path::new(&dir)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // As above, but the process may raise the limit itself: there is space again.
    let status = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk_during_appends", "--nocapture"])
        .env(VICTIM, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

async fn append_too_much(dir: &Path) {
    let orders: TopicName = "orders".parse().unwrap();
    let store = Store::open(dir).unwrap();
    store.create(vec![orders.clone()]).await.unwrap();
    let event = |id: u64| {
        let mut event = Event::new(id.to_string(), "/s", "test").unwrap();
        event.set_data(None, Bytes::from(vec![7; 10_000])).unwrap();
        event
    };
    // Four publish at once, ten events at a time, until none gets through.
    let mut acknowledged = BTreeMap::new();
    let (mut id, mut refused) = (0, 0);
    while refused < 20 {
        let batches: Vec<Vec<_>> = (0..4).map(|i| (0..10).map(|j| event(id + 10 * i + j)).collect()).collect();
        id += 40;
        for (batch, answer) in
            batches.iter().zip(join_all(batches.iter().map(|batch| store.append(&orders, batch.clone()))).await)
        {
            match answer {
                Ok(appended) => {
                    acknowledged.extend(appended.iter().map(|appended| appended.offset).zip(batch.clone()));
                }
                Err(LogError::Unavailable(reason)) => {
                    assert!(reason.contains("dunlin.db"), "{reason}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    let check = async |store: &Store, acknowledged: &BTreeMap<u64, Event>| {
        let page = store.read(&orders, 0, usize::MAX, usize::MAX).await.unwrap();
        assert!(page.events.len() == page.end as usize);
        let there: BTreeMap<_, _> = page.events.into_iter().map(|stored| (stored.offset, stored.event)).collect();
        assert!(there == *acknowledged, "{} were acknowledged, {} are there", acknowledged.len(), there.len());
    };
    assert!(acknowledged.len() > 100);
    check(&store, &acknowledged).await;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
    rustix::process::setrlimit(
        rustix::process::Resource::Fsize,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )
    .unwrap();
    let appended = store.append(&orders, vec![event(id)]).await.unwrap();
    acknowledged.insert(appended[0].offset, event(id));
    check(&store, &acknowledged).await;
    drop(store);
    check(&Store::open(dir).unwrap(), &acknowledged).await;
}

#[test]
fn a_directory_belongs_to_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }) && error.retryable());
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())) && text.contains("directory of its own"),
        "{text}"
    );
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn what_it_makes_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data/dunlin");
    let _store = Store::open(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let sql = |file: &Path, sql: &str| rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap();
    type Make<'a> = &'a dyn Fn(&Path);
    let made_by: [(&str, Make<'_>); 4] = [
        ("run that version", &|file| {
            drop(Store::open(file.parent().unwrap()).unwrap());
            sql(file, "PRAGMA user_version = 1000");
        }),
        ("not a file of dunlin", &|file| sql(file, "CREATE TABLE mine (a)")),
        ("not a file of dunlin", &|file| sql(file, "PRAGMA application_id = 7; PRAGMA user_version = 1")),
        ("not a file of dunlin", &|file| {
            fs::write(file, "my letters to the editor, none of them answered".repeat(20)).unwrap()
        }),
    ];
    for (reason, make) in made_by {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dunlin.db");
        make(&file);
        let before = fs::read(&file).unwrap();
        let error = Store::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(reason) && error.contains("dunlin.db"), "{error}");
        assert!(fs::read(&file).unwrap() == before, "{reason}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(file.path()).err().unwrap();
    assert!(matches!(error, OpenError::Directory { .. }), "{error}");
}

#[tokio::test]
async fn damaged_files_are_refused_and_left_alone() {
    let orders: TopicName = "orders".parse().unwrap();
    let make = async |dir: &Path| {
        let store = Store::open(dir).unwrap();
        store.create(vec![orders.clone()]).await.unwrap();
        let events = (0..5000).map(|id| Event::new(id.to_string(), "/s", "test").unwrap());
        store.append(&orders, events.collect()).await.unwrap();
        drop(store);
        let file = dir.join("dunlin.db");
        let bytes = fs::read(&file).unwrap();
        assert!(bytes.len() > 500_000 && !dir.join("dunlin.db-wal").exists());
        (file, bytes)
    };
    // Cut short, as a copy that broke off.
    for keep in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let (file, mut bytes) = make(dir.path()).await;
        bytes.truncate(bytes.len() * keep / 4);
        fs::write(&file, &bytes).unwrap();
        let error = Store::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("dunlin.db` is damaged") && error.contains("restore it from a backup"), "{error}");
        assert!(fs::read(&file).unwrap() == bytes);
    }
    // Overwritten somewhere: said at once, or by whoever comes across it.
    for part in [1, 3, 5, 7] {
        let dir = tempfile::tempdir().unwrap();
        let (file, mut bytes) = make(dir.path()).await;
        let from = bytes.len() / 4096 * part / 8 * 4096;
        bytes[from..from + 3 * 4096].fill(0xA5);
        fs::write(&file, &bytes).unwrap();
        let reason = match Store::open(dir.path()) {
            Err(error) => error.to_string(),
            Ok(store) => {
                let read = store.read(&orders, 0, usize::MAX, usize::MAX).await;
                let trimmed = store.trim(&orders, u64::MAX, false).await;
                read.err().or(trimmed.err()).unwrap().to_string()
            }
        };
        assert!(reason.contains("is damaged") && reason.contains("restore it from a backup"), "{reason}");
    }
}

#[tokio::test]
async fn history_can_be_read_with_any_sqlite_tool() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (orders, gone): (TopicName, TopicName) = ("orders".parse().unwrap(), "gone".parse().unwrap());
    store.create(vec![orders.clone(), gone.clone()]).await.unwrap();
    let mut event = Event::new("1", "/shop", "order.created").unwrap();
    event.set_subject("bird 🐦").unwrap();
    event.set_time("2026-01-31T12:00:00Z").unwrap();
    event.set_data(Some("application/json"), Bytes::from_static(b"{\"total\": 12}")).unwrap();
    for topic in [&orders, &gone] {
        store.append(topic, vec![event.clone(), Event::new("2", "/shop", "order.paid").unwrap()]).await.unwrap();
    }
    EventLog::remove(&store, &gone).await.unwrap();
    let other = rusqlite::Connection::open(dir.path().join("dunlin.db")).unwrap();
    let sql = "SELECT topic, offset, appended_at, id, source, type, subject, time, event ->> '$.data.total'
               FROM event_history WHERE topic = 'orders' AND type = 'order.created'";
    let row = other
        .query_row(sql, [], |row| (0..9).map(|at| row.get(at)).collect::<Result<Vec<rusqlite::types::Value>, _>>());
    let mut row = row.unwrap();
    assert!(matches!(row.remove(2), rusqlite::types::Value::Integer(1_700_000_000_000..)));
    let text = |text: &str| text.to_owned().into();
    let expected: [rusqlite::types::Value; 8] = [
        text("orders"),
        0.into(),
        text("1"),
        text("/shop"),
        text("order.created"),
        text("bird 🐦"),
        text("2026-01-31T12:00:00Z"),
        12.into(),
    ];
    assert_eq!(row, expected);
    let count = |sql| other.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM event_history"), 2, "none of a topic that was removed");
}

fn function(worker: u64, i: u64) -> String {
    format!("w{worker}-f{i}")
}

fn name(name: &str) -> FunctionName {
    name.parse().unwrap()
}

fn new(name: &str, bytes: impl Into<Bytes>) -> NewVersion {
    let bytes = bytes.into();
    NewVersion {
        manifest: serde_json::from_value(serde_json::json!({ "name": name, "component": "a.wasm" })).unwrap(),
        component: Component {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            shape: Shape::Http02,
            imports: vec![],
            initial_memory: 0,
        },
        bytes: Some(bytes),
    }
}
