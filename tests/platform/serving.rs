//! The main job: a function of every shape is deployed, and answers.

use crate::harness::{Platform, below, guest, limited, module, repository, shown};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::json;
use std::{fs, path::PathBuf, time::Duration};

/// The folders of the examples, without those that need a database: they have tests of their own.
fn examples() -> Vec<PathBuf> {
    let folders = fs::read_dir(repository().join("functions")).unwrap().map(|entry| entry.unwrap().path());
    let needs_nothing = |folder: &PathBuf| match fs::read_to_string(folder.join("function.yaml")) {
        Ok(manifest) => !manifest.contains("- database:"),
        Err(_) => folder.ends_with("orders"),
    };
    folders.filter(needs_nothing).collect()
}

/// Every example deploys with its own manifest, all of them at once, and does what it is there to show.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_deploy_and_answer() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start_knowing(&data, &[("GITHUB_WEBHOOK", "a secret")]);
    let mut deploy = platform.command(&["deploy"]);
    deploy.args(examples());
    // Functions can call each other only where the manifest says the platform is.
    deploy.env("DUNLIN_FUNCTIONS", &platform.functions).current_dir(repository());
    let output = deploy.output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));

    let hello = platform.get("/hello").await;
    assert_eq!(hello.status, StatusCode::OK, "{hello:?}");
    assert!(hello.text().contains("ello"), "{hello:?}");
    // A small answer goes out in one piece, its length known.
    assert_eq!(hello.headers["content-length"], hello.body.len().to_string(), "{hello:?}");
    let hello = platform.get("/hello-async").await;
    assert_eq!(hello.status, StatusCode::OK, "{hello:?}");

    let upper = platform.post("/upper", "a stream of text").await;
    assert_eq!(upper.text(), "A STREAM OF TEXT");
    let count = platform.post("/word-count", "two words\n").await;
    assert_eq!(count.status, StatusCode::OK, "{count:?}");
    assert!(count.text().contains('2'), "{count:?}");

    let fan_out = platform.get("/fan-out").await;
    assert_eq!(fan_out.status, StatusCode::OK, "{fan_out:?}");
}

/// Standard components that were not written for Dunlin run unmodified.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_components_run_unmodified() {
    let platform = Platform::start();
    let mut manifest = below("/wstd");
    manifest["triggers"] = json!([{ "http": { "path": "/{*rest}" } }]);
    platform.deploy("wstd-example", &guest("http_server"), manifest);
    assert_eq!(platform.get("/wait-body").await.status, StatusCode::OK);
    let echo = platform.post("/echo", "as it came").await;
    assert_eq!((echo.status, echo.text().as_str()), (StatusCode::OK, "as it came"));
    assert_eq!(platform.get("/nothing/here").await.status, StatusCode::NOT_FOUND);

    let proxy = limited("/proxy", json!({}));
    let mut proxy = proxy;
    proxy["allow"] = json!({ "http": [] });
    platform.deploy("wasip3-example", &guest("http_proxy"), proxy);
    assert!(platform.get("/proxy/x").await.status.as_u16() > 0);
}

/// The same program as a preview 1 module and as a 0.2 command: the body on stdin, the answer on stdout.
#[tokio::test(flavor = "multi_thread")]
async fn commands_answer_on_stdout() {
    let platform = Platform::start();
    for (name, path) in [("module", module("misbehave-command")), ("component", guest("misbehave-command"))] {
        platform.deploy(name, &path, below(&format!("/{name}")));
        let echo = platform.post(&format!("/{name}/x"), "echo\nwhat comes\nback").await;
        assert_eq!((echo.status, echo.text().trim_end()), (StatusCode::OK, "what comes\nback"), "{echo:?}");
        let exit = platform.post(&format!("/{name}/x"), "exit 3").await;
        assert_eq!((exit.status, exit.reason().as_str()), (StatusCode::BAD_GATEWAY, "exit"), "{exit:?}");
        assert!(!exit.text().contains("told by the guest"), "{exit:?}");
        let environment = platform
            .send(
                Request::put(platform.url(&format!("/{name}/some/where?a=b")))
                    .header("content-type", "text/x-test")
                    .header("authorization", "Basic c2VjcmV0")
                    .header("x-some", "thing")
                    .body(Full::new(Bytes::from("env")))
                    .unwrap(),
            )
            .await
            .text();
        for expected in ["REQUEST_METHOD", "PUT", "/some/where", "a=b", "text/x-test", "HTTP_X_SOME", "thing"] {
            assert!(environment.contains(expected), "{expected} in {environment}");
        }
        assert!(!environment.contains("c2VjcmV0"), "{environment}");
    }
}

/// Bodies and trailers pass in both directions, also when they are larger than what is buffered anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_pass_both_ways() {
    let platform = Platform::start();
    for (name, file) in [("sync", "misbehave"), ("async", "misbehave_async")] {
        let path = format!("/{name}");
        let mut manifest = below(&path);
        manifest["allow"] = json!({ "http": [] });
        platform.deploy(name, &guest(file), manifest);
        let body = Bytes::from(vec![b'x'; 3 << 20]);
        let echo = platform.post(&format!("{path}/echo"), body.clone()).await;
        assert_eq!(echo.status, StatusCode::OK);
        assert_eq!(echo.body.len(), body.len());
        assert!(echo.body == body);
    }
    let trailers = platform
        .send(Request::get(platform.url("/sync/trailers")).header("te", "trailers").body(Full::default()).unwrap())
        .await;
    assert!(trailers.trailers.is_some(), "{trailers:?}");
}

/// A sandbox is fresh for each request unless the manifest says otherwise; then it is used as often as it says.
#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_are_fresh_or_reused_as_the_manifest_says() {
    // One worker: another one would have sandboxes of its own.
    let mut platform = Platform::start_with(&["--workers", "1"]);
    let count = async |path: &str| -> u64 {
        let text = platform.get(path).await.text();
        text.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or_else(|_| panic!("{text}"))
    };
    let with_http = |path: &str| {
        let mut manifest = below(path);
        manifest["allow"] = json!({ "http": [] });
        manifest
    };
    // WASI 0.3 components are reused by default.
    platform.deploy("async", &guest("misbehave_async"), with_http("/async"));
    assert_eq!(count("/async/count").await, 1);
    assert_eq!(count("/async/count").await, 2);
    platform.deploy("fresh", &guest("misbehave"), with_http("/fresh"));
    for _ in 0..3 {
        assert_eq!(count("/fresh/count").await, 1);
    }
    let mut reused = with_http("/reused");
    reused["reuse"] = json!({ "count": 3, "idle": "30s" });
    platform.deploy("reused", &guest("misbehave"), reused);
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(count("/reused/count").await);
    }
    assert_eq!(seen, [1, 2, 3, 1, 2, 3, 1]);
    // Also after a call that computed for a while, on either lane. It may have answered before its sandbox is free again: on the
    // heavy lane, where the machine is busy.
    for ms in [2, 20] {
        let reused = async || {
            while count("/reused/count").await != 1 {}
            assert_eq!(platform.get(&format!("/reused/loop?ms={ms}")).await.status, StatusCode::OK);
            tokio::time::sleep(Duration::from_millis(10)).await;
            count("/reused/count").await == 2
        };
        let mut tries = 0;
        while !reused().await {
            tries += 1;
            assert!(tries < 20, "never after {ms} ms");
        }
    }
    // One that waits on the heavy lane is no reason to stop with a complaint.
    platform.signal("TERM");
    assert!(platform.wait().success());
    assert!(!platform.told().contains("panicked"), "{}", platform.told());
}
