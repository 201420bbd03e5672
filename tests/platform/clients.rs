//! The CloudEvents SDKs of other languages as clients: what they publish is taken, and they can read what was taken.
//!
//! The programs are in `tests/clients`; `make tools` sees to it that what runs them is there.

use crate::harness::{Platform, repository, shown};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn folder(language: &str) -> PathBuf {
    repository().join("tests/clients").join(language)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run `make tools`"));
    assert!(output.status.success(), "{command:?}\n{}", shown(&output));
}

/// Runs a client on a topic of its own, and looks at what is there then.
async fn publishes_and_reads(language: &str, client: impl Fn(&str) -> Command) {
    let platform = Platform::start();
    platform.create_topic("orders").await;
    run(&mut client(&format!("{}/api/topics/orders/events", platform.admin)));
    let events = platform.events("orders").await;
    let ids: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["binary", "bytes", "structured", "first", "second"], "{language}");
    for event in &events {
        assert_eq!(event["source"], format!("/clients/{language}"), "{event}");
        let expected: [(&str, Value); 4] = match event["id"] == "bytes" {
            true => [
                ("type", "image.taken".into()),
                ("datacontenttype", "image/png".into()),
                ("data_base64", "AAH/".into()),
                ("data", Value::Null),
            ],
            false => [
                ("type", "order.created".into()),
                ("subject", "Grüße, €".into()),
                ("partitionkey", "k".into()),
                ("data", json!({ "text": "Grüße, €", "total": 5 })),
            ],
        };
        for (name, value) in expected {
            assert_eq!(event[name], value, "{language}, `{name}` of {event}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_go_sdk() {
    publishes_and_reads("go", |address| {
        let mut command = Command::new("go");
        // The binary is for this run only; what commit it is of doesn't matter, and can't be told of every checkout.
        command.args(["run", "-buildvcs=false", ".", address]).current_dir(folder("go"));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_javascript_sdk() {
    let folder = folder("javascript");
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder));
    publishes_and_reads("javascript", |address| {
        let mut command = Command::new("node");
        command.arg(folder.join("main.mjs")).arg(address);
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_python_sdk() {
    let (folder, environment) = (folder("python"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-client"));
    let python = environment.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    run(install.arg(folder.join("requirements.txt")));
    publishes_and_reads("python", |address| {
        let mut command = Command::new(&python);
        command.arg(folder.join("main.py")).arg(address);
        command
    })
    .await;
}
