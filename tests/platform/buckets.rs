//! Buckets: what is put into one is handed over once, and put away when the function is done with it. Each test starts an
//! object store for itself.

#[allow(dead_code, reason = "the tests of the source use the rest")]
#[path = "../servers/s3.rs"]
mod server;

use crate::harness::{Platform, Random, guest, shown, until, write_function};
use http::Method;
use serde_json::{Value, json};
use server::{BUCKET, ID, KEY, Server};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(120);

/// A platform that knows the key.
fn start(data: &Path) -> Platform {
    Platform::start_knowing(data, &[("S3_ID", ID), ("S3_KEY", KEY), ("WRONG", "of-another")])
}

/// A manifest with this trigger on the server's bucket.
fn on_bucket(server: &Server, trigger: Value, more: Value) -> Value {
    let mut files = json!({
        "bucket": BUCKET, "endpoint": server.endpoint(), "access_key": "S3_ID", "secret_key": "S3_KEY", "poll": "100ms",
    });
    files.as_object_mut().unwrap().extend(trigger.as_object().unwrap().clone());
    let mut manifest = json!({ "triggers": [{ "files": files }], "retry": { "attempts": 2, "backoff": "10ms..10ms" } });
    manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    manifest
}

/// What the guest `weigh` says of bytes.
fn weight(bytes: &[u8]) -> (Value, Value) {
    let sum = bytes
        .iter()
        .zip(1_u64..)
        .fold(0_u64, |sum, (byte, place)| sum.wrapping_add(place.wrapping_mul((*byte).into())));
    (json!(bytes.len()), json!(sum))
}

fn large() -> Vec<u8> {
    (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_gets_objects_small_and_large() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    server.put("in/before.txt", "small").await;
    let large = large();
    // By a URL that it is given: the manifest lets it call the object store.
    let by_url = json!({ "publish": "weighed", "allow": { "http": [server.endpoint()] } });
    platform.deploy("weigh", &guest("weigh"), on_bucket(&server, json!({ "prefix": "in/", "then": "move" }), by_url));
    server.put("in/a b+ü%.bin", large.clone()).await;
    // The same, as the body of the request.
    let streamed = json!({ "prefix": "flow/", "content": "stream", "then": "delete" });
    platform.deploy(
        "flow",
        &guest("weigh"),
        on_bucket(&server, streamed, json!({ "publish": "flown", "allow": { "http": [] } })),
    );
    server.put("flow/large.bin", large.clone()).await;

    let mut weighed: Vec<_> =
        platform.events_once("weighed", 2).await.into_iter().map(|event| event["data"].clone()).collect();
    weighed.sort_by_key(|told| told["bytes"].as_u64());
    assert_eq!((&weighed[0]["by"], &weighed[0]["file"]), (&json!("body"), &json!("before.txt")));
    assert_eq!(weighed[1]["by"], "location");
    assert_eq!((weighed[1]["bytes"].clone(), weighed[1]["sum"].clone()), weight(&large));
    let flown = &platform.events_once("flown", 1).await[0]["data"];
    assert_eq!((&flown["by"], &flown["length"]), (&json!("body"), &json!(large.len().to_string())));
    assert_eq!((flown["bytes"].clone(), flown["sum"].clone()), weight(&large));
    let kept: BTreeSet<_> = ["in/done/a b+ü%.bin", "in/done/before.txt"].map(str::to_owned).into();
    until(PATIENCE, "put away", async || server.keys().await == kept).await;

    // A URL is a key: the topic has none.
    let taken = platform.events("weigh.files").await;
    let locations: BTreeSet<_> = taken.iter().map(|event| event["filelocation"].as_str().unwrap()).collect();
    assert_eq!(locations, ["s3://inbox/in/a b+ü%.bin", "s3://inbox/in/before.txt"].into());
    let told = String::from_utf8(platform.dunlin(&["triggers", "weigh"]).stdout).unwrap();
    for part in ["running", "weigh.files", "s3://inbox/in/", "looks every 100ms"] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_told_and_taken_up_again() {
    let mut server = Server::start();
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    let manifest = on_bucket(&server, json!({ "lines": "csv", "then": "move" }), json!({ "allow": { "state": true } }));
    platform.deploy("count", &guest("word-count"), manifest);
    server.put("a.csv", "n\n1\n2\n").await;
    until(PATIENCE, "moved", async || server.keys().await == ["done/a.csv".to_owned()].into()).await;
    server.stop();
    let state = async || platform.admin(Method::GET, "/api/triggers", Value::Null).await.json()["triggers"][0].clone();
    until(PATIENCE, "failing", async || {
        let state = state().await;
        state["state"] == "failing" && state["error"].as_str().unwrap().contains("is it there")
    })
    .await;
    server.restart();
    server.put("b.csv", "n\n3\n").await;
    until(PATIENCE, "moved", async || server.keys().await.contains("done/b.csv")).await;
    assert_eq!(platform.events("count.files").await.len(), 3, "each record once");
    until(PATIENCE, "running", async || state().await["state"] == "running").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_can_not_work_is_refused_at_deploy() {
    let server = Server::start();
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    for (trigger, parts) in [
        (json!({ "secret_key": "WRONG" }), &["refuses the access key's secret", "function.yaml:1:"][..]),
        (json!({ "access_key": "WRONG" }), &["doesn't know this access key", "function.yaml:1:"]),
        (json!({ "access_key": "NONE" }), &["no secret `NONE`", "function.yaml:1:"]),
        (json!({ "bucket": "outbox" }), &["has no bucket `outbox`", "function.yaml:1:"]),
        (json!({ "bucket": "s3://inbox" }), &["`s3://inbox` is not the name of a bucket", "function.yaml:1:"]),
        (json!({ "endpoint": "http://127.0.0.1:1" }), &["no connection", "function.yaml:1:"]),
        (json!({ "endpoint": "http://id:hunter2@a" }), &["secret_key: S3_SECRET_KEY", "function.yaml:1:"]),
        (json!({ "path": "./in" }), &["both a folder and a bucket", "function.yaml:1:"]),
        (json!({ "recursive": true }), &["`recursive` is for folders", "function.yaml:1:"]),
        (json!({ "content": "stream" }), &["it gets events, and no request with a body", "function.yaml:1:"]),
    ] {
        let function = folder.path().join("f");
        let manifest = on_bucket(&server, trigger, json!({ "allow": { "state": true } }));
        write_function(&function, "f", &guest("obey"), manifest);
        let output = platform.dunlin(&["deploy", function.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(parts.iter().all(|part| told.contains(part)), "{parts:?} in\n{told}");
        assert!(!told.contains("X-Amz-Signature"), "{told}");
    }
}

/// Killed again and again while objects are put, taken and moved: every object is in the topic once, its effects happened
/// once, and it ends where it should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_forty_times() {
    const KILLS: u32 = 40;
    let mut server = Server::start();
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = start(&data);
    let more =
        json!({ "allow": { "state": true }, "publish": "told", "retry": { "attempts": 1000, "backoff": "5ms..20ms" } });
    let manifest = |trigger: Value| on_bucket(&server, trigger, more.clone());
    platform.deploy("obey", &guest("obey"), manifest(json!({ "prefix": "in", "then": "move" })));
    platform.deploy("read", &guest("obey"), manifest(json!({ "prefix": "rows", "then": "delete", "lines": "ndjson" })));
    let mut random = Random::default();
    let count = json!([{ "count": { "key": "sum", "by": 1 } }]).to_string();
    let (mut objects, mut records) = (BTreeSet::new(), 0);
    for round in 0..KILLS {
        for n in 0..3 {
            server.put(&format!("in/{round}-{n}.json"), count.clone()).await;
            objects.insert(format!("{round}-{n}.json"));
        }
        if round % 4 == 0 {
            // Several pieces each.
            server.put(&format!("rows/{round}.ndjson"), format!("{count}\n").repeat(600)).await;
            records += 600;
        }
        tokio::time::sleep(Duration::from_millis(50 + random.below(250))).await;
        if round == KILLS / 2 {
            server.restart();
        }
        platform.signal("KILL");
        platform.wait();
        platform = start(&data);
    }
    let done: BTreeSet<_> = objects.iter().map(|name| format!("in/done/{name}")).collect();
    until(PATIENCE, "all put away", async || server.keys().await == done).await;
    let taken = platform.events("obey.files").await;
    let subjects: BTreeSet<_> = taken.iter().map(|event| event["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!((taken.len(), subjects), (objects.len(), objects.clone()), "each once");
    assert_eq!(platform.events("read.files").await.len(), records, "each once");
    let state = async |function: &str| {
        platform.admin(Method::GET, &format!("/api/state/function:{function}/sum"), Value::Null).await.json()
    };
    assert_eq!((state("obey").await, state("read").await), (json!(objects.len()), json!(records)));
}
