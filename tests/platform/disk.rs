//! A disk that fails: what was acknowledged stays, what was not is told so, and work goes on as soon as the disk does.
//!
//! The disk is `failsync.c`, put in front of the real process.

use crate::{
    events::{obeying, order},
    harness::{Answer, Platform, arguments_of_up, dunlin, guest, repository},
    webhooks::{SECRET, github},
};
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A disk under the database of a platform.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let source = repository().join("tests/platform/failsync.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("failsync.so")).arg(source);
        assert!(compiler.args(["-ldl", "-lpthread"]).status().unwrap().success());
        Self(folder)
    }

    fn start(&self, data: &Path) -> Platform {
        let mut command = Command::new(dunlin());
        command.env("LD_PRELOAD", self.0.path().join("failsync.so")).env("DUNLIN_TEST_DISK", self.0.path());
        command.env("DUNLIN_SECRET_HOOK", SECRET);
        Platform::start_command(data, command.args(arguments_of_up(data)))
    }

    fn fail(&self) {
        fs::write(self.0.path().join("fail"), "").unwrap();
    }

    fn work(&self) {
        fs::remove_file(self.0.path().join("fail")).unwrap();
    }

    /// What is there after the power went: what reached the disk, and nothing of what was in memory.
    fn without_power(&self, data: &Path) {
        fs::create_dir(data).unwrap();
        for name in ["dunlin.db", "dunlin.db-wal"] {
            fs::copy(self.0.path().join(name), data.join(name)).unwrap();
        }
    }
}

/// What publishers have heard: the offset of every event that was acknowledged.
#[derive(Default)]
struct Acknowledged(BTreeMap<String, u64>);

impl Acknowledged {
    /// Publishes events side by side, each with a request of its own.
    async fn publish(&mut self, platform: &Platform, ids: &[String], expected: StatusCode) {
        let requests = ids.iter().map(async |id| {
            let event = order(id, Some(&id[..1]), json!([{ "count": { "key": "runs", "by": 1 } }, { "return": 1 }]));
            let kind = [("content-type", "application/cloudevents+json")];
            platform.post_events("orders", &kind, event.to_string()).await
        });
        for (id, answer) in ids.iter().zip(futures_util::future::join_all(requests).await) {
            assert_eq!(answer.status, expected, "{answer:?}");
            if expected == StatusCode::ACCEPTED {
                let known = self.0.insert(id.clone(), offset(&answer));
                assert!(known.is_none_or(|known| known == offset(&answer)), "{id}: {known:?}, then {answer:?}");
            } else {
                assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
                assert!(answer.text().contains("check the disk"), "{answer:?}");
            }
        }
    }

    /// What was acknowledged is where it was said to be, and nothing is there twice.
    async fn check(&self, platform: &Platform) -> Vec<Value> {
        let events = platform.events("orders").await;
        for (id, offset) in &self.0 {
            assert_eq!(events[usize::try_from(*offset).unwrap()]["id"], **id, "at {offset} of {events:?}");
        }
        let ids: BTreeSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), events.len());
        events
    }

    /// Everything in the topic ran, and each once.
    async fn ran_once(&self, platform: &Platform) {
        let events = self.check(platform).await.len();
        platform.caught_up("obey", "orders").await;
        assert_eq!(platform.state("function:obey", "runs").await, events);
        platform.events_once("results", events).await;
    }
}

fn offset(answer: &Answer) -> u64 {
    answer.json()["events"][0]["offset"].as_u64().unwrap()
}

fn ids(round: impl std::fmt::Display) -> Vec<String> {
    (0..8).map(|n| format!("{n}-{round}")).collect()
}

fn data(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_fsync() {
    let (folder, disk) = (TempDir::new().unwrap(), Disk::new());
    let platform = disk.start(&data(&folder, "data"));
    platform.deploy("obey", &guest("obey"), obeying(json!({})));
    let mut acknowledged = Acknowledged::default();
    for round in 0..10 {
        acknowledged.publish(&platform, &ids(format!("good{round}")), StatusCode::ACCEPTED).await;
        // With runs on them under way, whose commits fail as well.
        disk.fail();
        for _ in 0..3 {
            acknowledged.publish(&platform, &ids(format!("bad{round}")), StatusCode::SERVICE_UNAVAILABLE).await;
        }
        let there = acknowledged.check(&platform).await;
        assert_eq!(there.len(), acknowledged.0.len(), "what was refused is there for nobody");
        disk.work();
        // Without a word to the platform, the next attempt succeeds.
        if round % 2 == 0 {
            acknowledged.publish(&platform, &ids(format!("bad{round}")), StatusCode::ACCEPTED).await;
        }
    }
    assert_eq!(acknowledged.0.len(), 10 * 8 + 5 * 8);
    acknowledged.ran_once(&platform).await;
}

/// A service whose delivery can't be kept is asked to come again. When it does, it is kept, and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_while_fsync_fails() {
    let (folder, disk) = (TempDir::new().unwrap(), Disk::new());
    let platform = disk.start(&data(&folder, "data"));
    let hook = json!({ "webhook": { "path": "/hook", "provider": "github", "secrets": ["HOOK"] } });
    platform.deploy("obey", &guest("obey"), obeying(json!({ "triggers": [hook] })));
    let steps = json!([{ "count": { "key": "runs", "by": 1 } }]);
    let deliver = |delivery: &str| platform.send(github(platform.url("/hook"), SECRET, delivery, "push", &steps));
    assert_eq!(deliver("first").await.status, StatusCode::ACCEPTED);
    disk.fail();
    for _ in 0..3 {
        let refused = deliver("second").await;
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    }
    assert_eq!(platform.events("obey.webhook").await.len(), 1, "what was refused is there for nobody");
    disk.work();
    let kept = deliver("second").await;
    assert_eq!(kept.status, StatusCode::ACCEPTED, "{kept:?}");
    assert!(!kept.headers.contains_key("dunlin-duplicate"), "{kept:?}");
    assert_eq!(deliver("second").await.headers["dunlin-duplicate"], "true");
    platform.caught_up("obey", "obey.webhook").await;
    assert_eq!(platform.state("function:obey", "runs").await, 2);
}

/// A commit that failed is still in the log when the process is killed, and is there afterwards. Whatever is committed
/// behind it must not hang on it: it never reached the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_fsync_before_a_crash_and_a_loss_of_power() {
    for crash in [false, true] {
        let (folder, disk) = (TempDir::new().unwrap(), Disk::new());
        let mut platform = disk.start(&data(&folder, "data"));
        platform.create_topic("orders").await;
        let mut acknowledged = Acknowledged::default();
        acknowledged.publish(&platform, &ids("before"), StatusCode::ACCEPTED).await;
        disk.fail();
        acknowledged.publish(&platform, &ids("failed"), StatusCode::SERVICE_UNAVAILABLE).await;
        if crash {
            platform.signal("KILL");
            platform.wait();
            disk.work();
            platform = disk.start(&data(&folder, "data"));
            assert!(acknowledged.check(&platform).await.len() > 8, "the last commit that failed is in the log");
        } else {
            disk.work();
        }
        acknowledged.publish(&platform, &ids("after"), StatusCode::ACCEPTED).await;
        acknowledged.check(&platform).await;
        platform.signal("KILL");
        platform.wait();

        disk.without_power(&data(&folder, "rest"));
        let platform = Platform::start_in(&data(&folder, "rest"), &[]);
        acknowledged.check(&platform).await;
        acknowledged.publish(&platform, &ids("failed"), StatusCode::ACCEPTED).await;
        assert_eq!(acknowledged.check(&platform).await.len(), 3 * 8);
        platform.deploy("obey", &guest("obey"), obeying(json!({})));
        acknowledged.ran_once(&platform).await;
    }
}
