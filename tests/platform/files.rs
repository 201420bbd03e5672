//! Files: what is dropped into a folder is handed over once, and put away when the function is done with it.

use crate::harness::{Platform, Random, guest, shown, until, write_function};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// A manifest with this files trigger.
fn on_files(trigger: Value, more: Value) -> Value {
    let mut manifest =
        json!({ "triggers": [{ "files": trigger }], "retry": { "attempts": 2, "backoff": "10ms..10ms" } });
    for (name, value) in more.as_object().unwrap() {
        manifest[name] = value.clone();
    }
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dropped_files_run_the_function_and_are_put_away() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    let inbox = folder.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    let lines = |count: i64| {
        let lines = (0..count).map(|n| format!("2026-01-01,entry {n},{n}\n")).collect::<String>();
        format!("date,text,cents\n{lines}")
    };
    fs::write(inbox.join("before.csv"), lines(3)).unwrap();
    // As people write it: the folder relative to the manifest.
    let manifest =
        on_files(json!({ "path": "./inbox", "then": "move", "settle": "50ms" }), json!({ "publish": "read" }));
    write_function(folder.path(), "statements", &guest("statements"), manifest);
    let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    // One that is far too large for an event: the function opens it.
    fs::write(inbox.join("large.csv"), lines(200_000)).unwrap();
    fs::write(inbox.join("tea.csv"), "date,text,cents\ntea\n").unwrap();
    until(PATIENCE, "put away", async || {
        names(&inbox.join("done")).len() == 2 && names(&inbox.join("failed")).len() == 1
    })
    .await;
    assert_eq!(names(&inbox), ["done".to_owned(), "failed".to_owned()].into());
    assert_eq!(names(&inbox.join("failed")), ["tea.csv".to_owned()].into());
    let mut read: Vec<_> = platform.events("read").await.into_iter().map(|event| event["data"].clone()).collect();
    read.sort_by_key(|data| data["entries"].as_u64());
    assert_eq!((&read[0]["file"], &read[0]["cents"]), (&json!("before.csv"), &json!(3)));
    assert_eq!((&read[1]["entries"], &read[1]["cents"]), (&json!(200_000), &json!(19_999_900_000_i64)));

    let output = platform.dunlin(&["triggers", "statements"]);
    let told = String::from_utf8(output.stdout).unwrap();
    for part in ["running", "statements.files", "inbox", "is told of changes"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    // The folder goes away and comes back, with something in it.
    fs::rename(&inbox, folder.path().join("away")).unwrap();
    let failing = async || {
        let told = platform.admin(Method::GET, "/api/triggers", Value::Null).await.json();
        told["triggers"][0]["state"] == "failing" && told["triggers"][0]["error"].as_str().unwrap().contains("mkdir -p")
    };
    until(PATIENCE, "failing", failing).await;
    fs::write(folder.path().join("away/late.csv"), lines(1)).unwrap();
    fs::rename(folder.path().join("away"), &inbox).unwrap();
    until(PATIENCE, "put away", async || names(&inbox.join("done")).contains("late.csv")).await;
}

/// A program without any SDK finds the file on stdin, and each record of another is an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_get_files_on_stdin_and_records_are_events() {
    let platform = Platform::start();
    let (texts, rows) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let trigger = json!({ "path": texts.path(), "then": "delete", "settle": "50ms" });
    platform.deploy("count", &guest("word-count"), on_files(trigger, json!({ "publish": "counted" })));
    fs::write(texts.path().join("a.txt"), "one two three").unwrap();
    until(PATIENCE, "deleted", async || names(texts.path()).is_empty() && platform.events("counted").await.len() == 1)
        .await;
    assert!(platform.events("counted").await[0]["data"].to_string().contains('3'));

    let trigger = json!({ "path": rows.path(), "then": "move", "settle": "50ms", "lines": "ndjson" });
    platform.deploy(
        "obey",
        &guest("obey"),
        on_files(trigger, json!({ "allow": { "state": true }, "publish": "told" })),
    );
    let step = |n: u32| format!("{}\n", json!([{ "append": { "key": "seen", "value": n } }]));
    fs::write(rows.path().join("steps.ndjson"), (0..1000).map(step).collect::<String>()).unwrap();
    until(PATIENCE, "put away", async || names(&rows.path().join("done")).contains("steps.ndjson")).await;
    let seen = platform.admin(Method::GET, "/api/state/function:obey/seen", Value::Null).await.json();
    assert_eq!(seen, json!((0..1000).collect::<Vec<_>>()), "in order, each once");
}

/// A component that knows HTTP alone, and a program that knows stdin alone, take a file of any size.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_the_body_of_a_request_in_constant_memory() {
    const SIZE: u64 = 512 << 20;
    let platform = Platform::start();
    let (bodies, texts) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let limits = json!({ "memory": "16MiB", "time": "5m", "cpu": "5m" });
    let trigger = |folder: &Path| json!({ "path": folder, "then": "move", "settle": "50ms", "content": "stream" });
    let more = json!({ "publish": "weighed", "allow": { "http": [] }, "limits": limits });
    platform.deploy("weigh", &guest("weigh"), on_files(trigger(bodies.path()), more));
    platform.deploy("count", &guest("word-count"), on_files(trigger(texts.path()), json!({ "publish": "counted" })));
    let before = platform.resident();
    let file = fs::File::create(bodies.path().join("zeros.bin")).unwrap();
    file.set_len(SIZE).unwrap();
    drop(file);
    fs::write(texts.path().join("words.txt"), "word ".repeat(1_000_000)).unwrap();
    let weighing = async {
        let most = std::cell::Cell::new(0);
        until(PATIENCE, "weighed", async || {
            most.set(most.get().max(platform.resident()));
            !platform.events("weighed").await.is_empty()
        })
        .await;
        most.get()
    };
    let most = weighing.await;
    assert!(most < before + (128 << 20), "{before} bytes before, {most} while it was read");
    let told = &platform.events("weighed").await[0]["data"];
    assert_eq!((&told["by"], &told["bytes"], &told["sum"]), (&json!("body"), &json!(SIZE), &json!(0)));
    assert_eq!((&told["file"], &told["length"]), (&json!("zeros.bin"), &json!(SIZE.to_string())));
    assert!(platform.events_once("counted", 1).await[0]["data"].to_string().contains("1000000"));
    until(PATIENCE, "put away", async || names(bodies.path()) == ["done".to_owned()].into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_function_can_read_its_folder_and_nothing_else() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    let inbox = folder.path().join("inbox");
    fs::create_dir(&inbox).unwrap();
    fs::write(inbox.join("a"), "inside").unwrap();
    fs::write(folder.path().join("outside"), "secret").unwrap();
    symlink(folder.path().join("outside"), inbox.join("link")).unwrap();
    let triggers = json!([{ "http": { "path": "/f/{*rest}" } }, { "files": { "path": inbox, "include": ["none"] } }]);
    platform.deploy("f", &guest("misbehave"), json!({ "triggers": triggers, "allow": { "http": [] } }));
    let answer = platform.get(&format!("/f/folder?path={}", inbox.display())).await.json();
    assert_eq!((&answer["read"]["done"], &answer["list"]["done"]), (&json!("\"inside\""), &json!("2")), "{answer}");
    for what in ["link", "above", "overwrite", "append", "create", "rename", "remove", "folder"] {
        assert!(answer[what]["error"].is_string(), "{what}: {answer}");
    }
    assert_eq!(names(&inbox), ["a".to_owned(), "link".to_owned()].into());
    assert_eq!(fs::read(inbox.join("a")).unwrap(), b"inside");
    let elsewhere = platform.get("/f/files").await.json();
    assert_eq!(elsewhere["preopens"], json!([inbox]));
    assert!(elsewhere["read"]["error"].is_string() && elsewhere["list"]["error"].is_string(), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_can_not_work_is_refused_at_deploy() {
    let platform = Platform::start();
    let refused = |trigger: Value| {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        write_function(folder.path(), "obey", &guest("obey"), on_files(trigger, json!({ "allow": { "state": true } })));
        let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    for (trigger, parts) in [
        (json!({ "path": "./in", "include": ["[a-"] }), &["`[a-` is no pattern for files", "function.yaml:1:"][..]),
        (json!({ "path": "./in", "exclude": ["../*.csv"] }), &["within the folder", "function.yaml:1:"]),
        (json!({ "path": "./none" }), &["isn't there", "mkdir -p", "function.yaml:1:"]),
        (json!({ "path": "./file" }), &["is no folder"]),
        (json!({ "path": "./in", "then": "burn" }), &["burn", "keep", "delete"]),
        (json!({ "path": "./in", "poll": "5" }), &["is not a duration"]),
        (json!({ "path": "./in", "inline": "1GiB" }), &["more of a file than an event can hold"]),
        (json!({ "path": "./in", "lines": "xlsx" }), &["xlsx", "ndjson"]),
        (json!({ "path": "./in", "content": "stream" }), &["it gets events, and no request with a body"]),
        (json!({ "path": "./in", "prefix": "a/" }), &["`prefix` is for buckets", "function.yaml:1:"]),
        (json!({}), &["it names no files", "path: ./inbox", "function.yaml:1:"]),
        (json!({ "path": "./in", "then": "move", "done": "/nowhere/at/all" }), &["isn't there", "mkdir -p /nowhere"]),
    ] {
        let told = refused(trigger);
        assert!(parts.iter().all(|part| told.contains(part)), "{parts:?} in\n{told}");
    }
}

/// Killed again and again while files are dropped, taken and put away: every file is in the topic once, its effects
/// happened once, and it ends where it should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_a_hundred_times() {
    const KILLS: u32 = 100;
    let folder = TempDir::new().unwrap();
    let (inbox, rows) = (folder.path().join("inbox"), folder.path().join("rows"));
    let data = folder.path().join("data");
    fs::create_dir(&inbox).unwrap();
    fs::create_dir(&rows).unwrap();
    let mut platform = Platform::start_in(&data, &[]);
    let trigger = json!({ "path": inbox, "then": "move", "settle": "20ms" });
    let more =
        json!({ "allow": { "state": true }, "publish": "told", "retry": { "attempts": 1000, "backoff": "5ms..20ms" } });
    platform.deploy("obey", &guest("obey"), on_files(trigger, more.clone()));
    let trigger = json!({ "path": rows, "then": "delete", "settle": "20ms", "lines": "ndjson" });
    platform.deploy("read", &guest("obey"), on_files(trigger, more));
    let mut random = Random::default();
    let count = json!([{ "count": { "key": "sum", "by": 1 } }]).to_string();
    let (mut files, mut records) = (BTreeSet::new(), 0);
    for round in 0..KILLS {
        for n in 0..3 {
            let name = format!("{round}-{n}.json");
            fs::write(inbox.join(&name), &count).unwrap();
            files.insert(name);
        }
        if round % 4 == 0 {
            // Several pieces of a file each.
            fs::write(rows.join(format!("{round}.ndjson")), format!("{count}\n").repeat(600)).unwrap();
            records += 600;
        }
        let deadline = Instant::now() + Duration::from_millis(random.below(150));
        tokio::time::sleep_until(deadline.into()).await;
        platform.signal("KILL");
        platform.wait();
        platform = Platform::start_in(&data, &[]);
    }
    until(PATIENCE, "all put away", async || names(&inbox.join("done")).len() == files.len()).await;
    until(PATIENCE, "all deleted", async || names(&rows).is_empty()).await;
    assert_eq!(names(&inbox.join("done")), files);
    assert_eq!(names(&inbox), ["done".to_owned()].into());
    let taken = platform.events("obey.files").await;
    let subjects: BTreeSet<_> = taken.iter().map(|event| event["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!((taken.len(), subjects), (files.len(), files.clone()), "each once");
    let taken = platform.events("read.files").await;
    assert_eq!(taken.len(), records, "each once");
    let state = async |function: &str| {
        platform.admin(Method::GET, &format!("/api/state/function:{function}/sum"), Value::Null).await.json()
    };
    assert_eq!((state("obey").await, state("read").await), (json!(files.len()), json!(records)));
}
