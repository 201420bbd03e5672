//! Sources: which run when, what operators see of them, and that what they take is there.

use super::platform::{Answer, Platform, component};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Digest, Event, FunctionName, Manifest,
    manifest::{Problem, Trigger},
    source::{Intake, Report, Source, SourceError, Sources},
};
use dunlin_gateway::sources::Supervisor;
use http::Method;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

/// What sources do is decided by the folder their trigger names: `/ends`, `/fails`, `/stuck` (it can't be disposed of),
/// `/refused` (at deploy); any other takes one event after another, up to the number it is told.
#[derive(Clone)]
struct World {
    seen: Arc<Mutex<Vec<String>>>,
    events: watch::Sender<u64>,
}

struct Upstream {
    path: String,
    world: World,
}

/// Notes when a run ends, however it does.
struct Run<'a>(&'a Upstream);

impl World {
    fn note(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }

    /// What happened since it was last asked.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.world.note(format!("{} ended", self.0.path));
    }
}

impl Sources for World {
    fn check<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Vec<Problem>> {
        let refused = |(index, trigger): (usize, &Trigger)| {
            let Trigger::Files(files) = trigger else { return None };
            (files.place() == "/refused")
                .then(|| Problem::new(format!("/triggers/{index}/files/path"), "it is not there"))
        };
        let problems = manifest.triggers.iter().enumerate().filter_map(refused).collect();
        Box::pin(async move { problems })
    }

    fn open(&self, _: &FunctionName, trigger: &Trigger) -> Option<Box<dyn Source>> {
        let Trigger::Files(files) = trigger else { return None };
        Some(Box::new(Upstream { path: files.place(), world: self.clone() }))
    }
}

impl Source for Upstream {
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.world.note(format!("{} began", self.path));
            let _run = Run(self);
            match &*self.path {
                "/ends" => return Ok(()),
                "/fails" => return Err(SourceError::new("there is no `/fails`").help("make it")),
                _ => intake.report(Report::Running),
            }
            intake.report(Report::Detail("folder", self.path.clone().into()));
            let mut wanted = self.world.events.subscribe();
            loop {
                let taken = intake.recall(vec!["taken".into()]).await?.remove(0);
                let taken: u64 = taken.map_or(0, |taken| std::str::from_utf8(&taken).unwrap().parse().unwrap());
                if taken < *wanted.borrow_and_update() {
                    let event = Event::new(taken.to_string(), "/upstream", "test.taken").unwrap();
                    let remember = ("taken".to_owned(), Some(Bytes::from((taken + 1).to_string())));
                    intake.take(vec![event], vec![remember]).await?;
                } else {
                    wanted.changed().await.unwrap();
                }
            }
        })
    }

    fn dispose(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            self.world.note(format!("{} disposed of", self.path));
            if self.path == "/stuck" { Err(SourceError::new("it is stuck")) } else { Ok(()) }
        })
    }
}

struct Sourced {
    platform: Platform,
    world: World,
    digest: Digest,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Sourced {
    async fn start() -> Self {
        let world = World { seen: Arc::default(), events: watch::Sender::new(0) };
        let platform = Platform::with_sources(Arc::new(world.clone())).await;
        let digest = platform.upload(&component("a")).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(Supervisor::new(Arc::clone(&platform.deployments)).run(stop.clone()));
        Self { platform, world, digest, stop, running }
    }

    async fn deploy(&self, folders: &[&str], limit: &str) -> Answer {
        let triggers: Vec<_> = folders.iter().map(|path| json!({ "files": { "path": path } })).collect();
        let manifest = json!({ "name": "f", "component": "a.wasm", "triggers": triggers, "limits": { "time": limit } });
        self.platform.deploy(&[(manifest, self.digest)]).await
    }

    /// The triggers, once all that is said of them is so.
    async fn triggers(&self, so: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let triggers = self.platform.get("/api/triggers").await.json()["triggers"].clone();
                if so(&triggers) {
                    return triggers;
                }
                time::sleep(Duration::from_millis(10)).await;
            }
        };
        let found = time::timeout(Duration::from_secs(30), look).await;
        match found {
            Ok(triggers) => triggers,
            Err(_) => panic!("{:#}", self.platform.get("/api/triggers").await.json()),
        }
    }

    async fn ids(&self) -> Vec<String> {
        let page = self.platform.get("/api/topics/f.files/events?from=0").await.json();
        let events = page["events"].as_array().unwrap_or_else(|| panic!("{page}")).iter();
        events.map(|stored| stored["event"]["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_source_runs_from_deploy_to_removal_and_what_it_takes_is_there() {
    let sourced = Sourced::start().await;
    assert_eq!(sourced.deploy(&["/in"], "1s").await.status, 200);
    sourced.world.events.send_replace(3);
    let triggers = sourced.triggers(|triggers| triggers[0]["events"] == 3).await;
    let trigger = &triggers[0];
    assert_eq!(
        (&trigger["function"], &trigger["topic"], &trigger["state"]),
        (&json!("f"), &json!("f.files"), &json!("running"))
    );
    assert_eq!((&trigger["trigger"]["files"]["path"], &trigger["details"]["folder"]), (&json!("/in"), &json!("/in")));
    assert_eq!(sourced.ids().await, ["0", "1", "2"]);
    let consumer = sourced.platform.get("/api/consumers/f/f.files").await.json();
    assert_eq!((&consumer["position"], &consumer["lag"]), (&json!(0), &json!(3)), "it reads what its trigger makes");

    // What is around the trigger changes, or its place: it runs on.
    assert_eq!(sourced.world.seen(), ["/in began"]);
    assert_eq!(sourced.deploy(&["/in"], "2s").await.status, 200);
    assert_eq!(sourced.deploy(&["/ends", "/in"], "2s").await.status, 200);
    let triggers = sourced.triggers(|triggers| triggers[0]["state"] == "ended").await;
    assert_eq!((&triggers[1]["events"], &triggers[1]["state"]), (&json!(3), &json!("running")));
    assert_eq!(sourced.world.seen(), ["/ends began", "/ends ended"]);

    // Another one takes its place, goes on where it was, and begins after its end.
    assert_eq!(sourced.deploy(&["/other"], "2s").await.status, 200);
    sourced.world.events.send_replace(5);
    sourced.triggers(|triggers| triggers[0]["events"] == 2).await;
    assert_eq!(sourced.ids().await, ["0", "1", "2", "3", "4"]);
    assert_eq!(sourced.world.seen(), ["/in ended", "/other began"]);

    let answer = sourced.platform.ask(Method::DELETE, "/api/functions/f", "").await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(sourced.world.seen(), ["/other ended"], "before the answer");
    assert_eq!(sourced.platform.get("/api/triggers").await.json()["triggers"], json!([]));
    assert_eq!(
        sourced.platform.get("/api/state/triggers:f").await.json()["keys"],
        json!([]),
        "one that comes later begins anew"
    );
    sourced.stop.cancel();
    sourced.running.await.unwrap();
}

#[tokio::test]
async fn a_source_that_fails_says_why_and_is_tried_again() {
    let sourced = Sourced::start().await;
    assert_eq!(sourced.deploy(&["/fails", "/in"], "1s").await.status, 200);
    let triggers =
        sourced.triggers(|triggers| triggers[0]["state"] == "failing" && triggers[1]["state"] == "running").await;
    assert_eq!(triggers[0]["error"], "there is no `/fails`: make it");
    let attempts = || sourced.world.seen.lock().unwrap().iter().filter(|what| *what == "/fails began").count();
    time::timeout(Duration::from_secs(30), async {
        while attempts() < 3 {
            time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let log = String::from_utf8(sourced.platform.get("/api/logs?function=f").await.body.to_vec()).unwrap();
    assert_eq!(log.matches("its files trigger failed").count(), 1, "the same is said once: {log}");
}

#[tokio::test]
async fn what_can_be_known_at_deploy_is_told_then() {
    let sourced = Sourced::start().await;
    let answer = sourced.deploy(&["/in", "/refused"], "1s").await;
    assert_eq!((answer.status.as_u16(), answer.errors()), (422, vec![(0, "/triggers/1/files/path".into())]));
    assert_eq!(sourced.world.seen(), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_disposed_of_stays() {
    let sourced = Sourced::start().await;
    assert_eq!(sourced.deploy(&["/stuck"], "1s").await.status, 200);
    sourced.triggers(|triggers| triggers[0]["state"] == "running").await;
    let answer = sourced.platform.ask(Method::DELETE, "/api/functions/f?dispose=true", "").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.problem().detail.unwrap().contains("files trigger made upstream can't be taken away: it is stuck"),
        "{answer:?}"
    );
    sourced.triggers(|_| sourced.world.seen.lock().unwrap().len() == 4).await;
    assert_eq!(sourced.world.seen(), ["/stuck began", "/stuck ended", "/stuck disposed of", "/stuck began"]);
    assert_eq!(sourced.platform.ask(Method::DELETE, "/api/functions/f", "").await.status, 204, "without, it goes");
}
