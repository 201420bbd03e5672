//! The admin plane and deploys, over its socket and against the real store.

mod consumers;
mod events;
mod platform;
mod sources;
mod state;

use bytes::Bytes;
use dunlin_events::{
    Digest,
    logs::{LogRecord, LogSink, LogStream},
};
use dunlin_gateway::{
    active::ActiveFunction,
    http::{
        admin::{AdminBindError, AdminConfig, AdminPlane},
        call::{CallContext, call},
        routes::Found,
    },
};
use futures_util::{FutureExt, StreamExt, stream};
use http::{Method, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use platform::{Answer, COMPONENT_LIMIT, Platform, TOKEN, component, deployment, manifest};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_refused_deploy_names_everything_wrong_and_changes_nothing() {
    let platform = Platform::start().await;
    let digest = platform.upload(&component("a")).await;
    platform.deployed(manifest("taken", "/taken/{id}"), digest).await;
    let before = platform.get("/api/functions").await.body;

    let unknown = Digest::of(b"never uploaded");
    let with = |mut manifest: Value, key: &str, value: Value| {
        manifest[key] = value;
        manifest
    };
    let answer = platform
        .deploy(&[
            (manifest("good", "/good"), digest),
            (with(manifest("typo", "/typo"), "alow", json!({})), digest),
            (with(manifest("zero", "/zero"), "limits", json!({ "memory": "0B" })), digest),
            (with(manifest("secret", "/secret"), "allow", json!({ "secrets": ["MISSING"] })), digest),
            (manifest("unknown", "/unknown"), unknown),
            (manifest("conflict", "/taken/{name}"), unknown),
            (with(manifest("bad", "/bad"), "triggers", json!([{ "http": { "path": "bad" } }])), digest),
            (manifest("good", "/again"), digest),
        ])
        .await;
    assert_eq!(answer.status, 422);
    let at = |index, pointer: &str| (index, pointer.to_owned());
    assert_eq!(
        answer.errors().into_iter().collect::<HashSet<_>>(),
        HashSet::from([
            at(1, "/alow"),
            at(2, "/limits/memory"),
            at(3, "/allow/secrets/0"),
            at(4, "/component"),
            at(5, "/component"),
            at(5, "/triggers/0/http/path"),
            at(6, "/triggers/0/http/path"),
            at(7, "/name"),
        ]),
    );
    let problem = answer.problem();
    let conflict = problem.errors.iter().find(|e| e.index == 5 && e.problem.pointer.ends_with("path")).unwrap();
    assert_eq!(conflict.problem.message, "the route `any method /taken/{name}` is taken by trigger 0 of `taken`");
    assert!(problem.errors.iter().all(|error| error.function.is_some()));
    assert_eq!(platform.get("/api/functions").await.body, before);

    let twice = r#"{"functions":[{"manifest":{"name":"a","name":"b","component":"a.wasm"},"component":"sha256:"}]}"#;
    let answer = platform.ask(Method::POST, "/api/deployments", twice).await;
    assert_eq!(answer.errors(), [(0, "/component".to_owned())]);
    let twice = twice.replace("sha256:", &digest.to_string());
    let answer = platform.ask(Method::POST, "/api/deployments", twice).await;
    assert!(answer.problem().errors[0].problem.message.starts_with("duplicate field `name`"), "{answer:?}");

    // Two that are new and conflict with each other are refused as well.
    let answer = platform.deploy(&[(manifest("one", "/x"), digest), (manifest("two", "/x"), digest)]).await;
    assert_eq!(answer.errors(), [(1, "/triggers/0/http/path".to_owned())]);
    // A route may move from one function to another within a deploy.
    let moved = [(manifest("taken", "/elsewhere"), digest), (manifest("heir", "/taken/{id}"), digest)];
    assert_eq!(platform.deploy(&moved).await.status, 200);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let platform = Platform::start().await;
    let digest = platform.upload(&component("a")).await;
    platform.deployed(manifest("same", "/same"), digest).await;
    let next = platform.upload(&component("b")).await;
    let functions = [(manifest("same", "/same"), digest), (manifest("new", "/new"), next)];

    let answer = platform.ask(Method::POST, "/api/deployments", deployment(&functions, true)).await.json();
    assert_eq!(answer["dry_run"], true);
    assert_eq!((&answer["functions"][0]["version"], &answer["functions"][0]["unchanged"]), (&json!(1), &json!(true)));
    assert_eq!(
        (&answer["functions"][1]["version"], &answer["functions"][1]["unchanged"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(platform.get("/api/functions/new").await.status, 404);
    assert_eq!(platform.uploads().len(), 1, "the upload still waits");

    let answer = platform.deploy(&functions).await.json();
    assert_eq!((&answer["functions"][0]["version"], &answer["functions"][0]["unchanged"]), (&json!(1), &json!(true)));
    assert_eq!((&answer["functions"][1]["version"], &answer["functions"][1]["unchanged"]), (&json!(1), &json!(false)));
    assert!(platform.uploads().is_empty(), "the registry has it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deploys_under_load_fail_no_request() {
    const LAST: u64 = 25;
    let platform = Platform::start().await;
    let digest = platform.upload(&component("a")).await;
    let deploy = |n: u64| {
        let mut manifest = manifest("hello", "/hello");
        manifest["allow"] = json!({ "env": { "N": n.to_string() } });
        platform.deployed(manifest, digest)
    };
    assert_eq!(deploy(1).await, 1);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let deployments = Arc::clone(&platform.deployments);
            tokio::spawn(async move {
                let mut seen = 0;
                while seen < LAST {
                    let found = deployments.table().routes.find(None, &Method::GET, "/hello");
                    let Found::Function { function, .. } = found else { panic!("the route was gone") };
                    let version = version_of(&function).await;
                    assert!(version >= seen, "the versions went back from {seen} to {version}");
                    seen = version;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 2..=LAST {
        assert_eq!(deploy(n).await, n);
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let activity = platform.get("/api/functions/hello").await.json()["activity"].clone();
    assert!(activity["invocations"].as_u64() >= Some(4), "counters outlive deploys");
    assert_eq!(activity["invocations"], activity["succeeded"]);
}

async fn version_of(function: &Arc<ActiveFunction>) -> u64 {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get("http://localhost/hello").body(body).unwrap();
    let response = call(function, request, CallContext::new(0, Arc::new(Nowhere))).await;
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Value>(&body).unwrap()["version"].as_u64().unwrap()
}

struct Nowhere;

impl LogSink for Nowhere {
    fn record(&self, _: LogRecord) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_ends_on_its_version() {
    let platform = Arc::new(Platform::start().await);
    let digest = platform.upload(&component("a")).await;
    platform.deployed(manifest("slow", "/wait"), digest).await;
    let in_flight = tokio::spawn({
        let platform = Arc::clone(&platform);
        async move { platform.get("/api/functions/slow/invoke/wait").await.json() }
    });
    platform.guests.waiting.notified().await;
    let next = platform.upload(&component("b")).await;
    assert_eq!(platform.deployed(manifest("slow", "/wait"), next).await, 2);
    assert_eq!(platform.invoked("slow").await, 2);
    assert_eq!(platform.ask(Method::DELETE, "/api/functions/slow", "").await.status, 204);
    platform.guests.go_on.notify_one();
    assert_eq!(in_flight.await.unwrap()["version"], 1);
}

#[tokio::test]
async fn a_deploy_whose_caller_leaves_is_whole_all_the_same() {
    let platform = Platform::start().await;
    let digest = platform.upload(&component("a")).await;
    let manifest = serde_json::from_value(manifest("hello", "/hello")).unwrap();
    assert!(platform.deployments.deploy(vec![(manifest, digest)]).now_or_never().is_none(), "the caller was too late");
    let active = async {
        while !platform.deployments.table().functions.contains_key("hello") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), active).await.expect("the deploy never became active");
    assert_eq!(platform.invoked("hello").await, 1);
    assert_eq!(platform.get("/api/functions/hello/versions").await.json()["active"], 1);
}

#[tokio::test]
async fn everything_is_there_after_a_restart_also_what_was_rolled_back() {
    let platform = Platform::start().await;
    let (a, b) = (platform.upload(&component("a")).await, platform.upload(&component("b")).await);
    let name = "/api/functions/hello";
    assert_eq!(platform.deployed(manifest("hello", "/one"), a).await, 1);
    let nothing_before = platform.ask(Method::POST, &format!("{name}/rollback"), "").await;
    assert_eq!(nothing_before.problem().status, 409);
    assert_eq!(platform.deployed(manifest("hello", "/two"), b).await, 2);
    assert_eq!(platform.deployed(manifest("other", "/one"), a).await, 1);

    // Its old route was given away meanwhile.
    let refused = platform.ask(Method::POST, &format!("{name}/rollback"), "").await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.errors(), [(0, "/triggers/0/http/path".to_owned())]);
    assert_eq!(platform.invoked("hello").await, 2);

    assert_eq!(platform.ask(Method::DELETE, "/api/functions/other", "").await.status, 204);
    let missing = platform.ask(Method::POST, &format!("{name}/rollback"), r#"{"to":7}"#).await;
    assert_eq!(missing.problem().detail.unwrap(), "`hello` has no version 7");
    let rolled_back = platform.ask(Method::POST, &format!("{name}/rollback"), r#"{"to":1}"#).await;
    assert_eq!(rolled_back.json()["version"], 1, "{rolled_back:?}");
    assert_eq!(platform.invoked("hello").await, 1);

    platform.upload(&component("never deployed")).await;
    let listed = platform.get(&format!("{name}/versions")).await.json();
    // The new process has an empty code cache, as after an upgrade, and compiles what it needs from the registry.
    let platform = platform.restart().await;
    assert!(platform.uploads().is_empty(), "what nobody deployed is gone");
    assert_eq!(platform.invoked("hello").await, 1);
    assert_eq!(platform.get(&format!("{name}/versions")).await.json(), listed);
    assert_eq!((&listed["active"], &listed["versions"][0]["number"]), (&json!(1), &json!(2)));
    assert_eq!(platform.get("/api/functions").await.json()["functions"].as_array().unwrap().len(), 1);
    // What isn't active isn't compiled either, until somebody goes back to it.
    assert_eq!(platform.ask(Method::POST, &format!("{name}/rollback"), r#"{"to":2}"#).await.status, 200);
    assert_eq!(platform.invoked("hello").await, 2);
    // A component that is deployed needn't be uploaded again.
    assert_eq!(platform.get(&format!("/api/components/{b}")).await.json()["size"], 5);
    assert_eq!(platform.deployed(manifest("hello", "/three"), b).await, 3);
    platform.stop().await;
}

#[tokio::test]
async fn bad_uploads_are_refused_and_leave_nothing() {
    let platform = Platform::start().await;
    let put = |digest: Digest, bytes: Vec<u8>| {
        let path = format!("/api/components/{digest}");
        let platform = &platform;
        async move { platform.ask(Method::PUT, &path, bytes).await.problem() }
    };
    let good = component("good");
    let digest = Digest::of(&good);
    assert_eq!(platform.get(&format!("/api/components/{digest}")).await.status, 404);

    let damaged = put(digest, component("goof")).await;
    assert_eq!(damaged.status, 400);
    assert!(damaged.detail.unwrap().contains("damaged or misnamed"));
    assert_eq!(put(Digest::of(b"text"), b"text".to_vec()).await.status, 422);
    let full = component("full disk");
    assert_eq!(put(Digest::of(&full), full).await.status, 503);
    assert_eq!(platform.ask(Method::PUT, "/api/components/sha256:12", good.clone()).await.problem().status, 400);

    // With its length declared a component that is too large is refused before a byte of it was sent.
    let mut raw = tokio::net::TcpStream::connect(platform.address).await.unwrap();
    let length = COMPONENT_LIMIT + 1;
    let head = format!("PUT /api/components/{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    raw.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    raw.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");

    // Without, as soon as it has grown too large.
    let chunks = stream::iter((0..9).map(|_| Ok(Frame::data(Bytes::from(vec![0; COMPONENT_LIMIT / 8])))));
    let request = platform.request(Method::PUT, &format!("/api/components/{digest}"));
    let request = request.body(BodyExt::boxed(StreamBody::new(chunks))).unwrap();
    let answer = Answer::of(platform.send(request).await).await;
    assert_eq!(answer.problem().status, 413);
    assert!(answer.problem().detail.unwrap().contains("4KiB"), "{answer:?}");

    assert!(platform.uploads().is_empty());
    // The folder can't take a file: what a disk does that fails.
    std::fs::remove_dir(platform.folder.path().join("uploads")).unwrap();
    assert_eq!(put(digest, good.clone()).await.status, 503);
    assert_eq!(platform.get(&format!("/api/components/{digest}")).await.status, 404, "nothing half uploaded is known");
    std::fs::create_dir(platform.folder.path().join("uploads")).unwrap();
    platform.upload(&good).await;
    assert_eq!(platform.deployed(manifest("hello", "/"), digest).await, 1);
}

#[tokio::test]
async fn an_invocation_keeps_its_request_and_the_planes_secrets() {
    let platform = Platform::with_token().await;
    let digest = platform.upload(&component("a")).await;
    platform.deployed(manifest("hello", "/items/{id}"), digest).await;

    let request = platform
        .request(Method::PATCH, "/api/functions/hello/invoke/items/a%2Fb?q=%20")
        .header("x-own", "1")
        .body(http_body_util::Full::from("body").boxed())
        .unwrap();
    let answer = Answer::of(platform.send(request).await).await;
    let seen = answer.json();
    assert_eq!((&seen["method"], &seen["body"]), (&json!("PATCH"), &json!("body")));
    assert_eq!(seen["uri"], format!("http://{}/items/a%2Fb?q=%20", platform.address));
    assert_eq!((&seen["headers"]["x-own"], &seen["headers"]["dunlin-param-id"]), (&json!("1"), &json!("a%2Fb")));
    assert!(!String::from_utf8_lossy(&answer.body).contains(TOKEN), "the function saw the admin token");
    assert_eq!(answer.headers["content-security-policy"], "sandbox");
    assert_eq!(answer.headers["x-guest"], "was here");

    let request =
        platform.request(Method::GET, "/api/functions/hello/invoke/").header("dunlin-authorization", "Basic x");
    let seen = Answer::of(platform.send(request.body(Empty::new().boxed()).unwrap()).await).await.json();
    assert_eq!(seen["headers"]["authorization"], "Basic x", "what is meant for the function reaches it");
    assert_eq!(seen["uri"], format!("http://{}/", platform.address));

    assert_eq!(platform.get("/api/functions/hello/invoke/trap").await.problem().reason.as_deref(), Some("trap"));
    assert_eq!(platform.get("/api/functions/nobody/invoke").await.problem().status, 404);

    let metrics = platform.get("/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    for line in [
        "dunlin_functions 1",
        "dunlin_invocations_total{function=\"hello\",outcome=\"succeeded\"} 2",
        "dunlin_invocations_total{function=\"hello\",outcome=\"trap\"} 1",
        "dunlin_invocation_duration_seconds_bucket{function=\"hello\",le=\"+Inf\"} 3",
        "dunlin_invocation_duration_seconds_count{function=\"hello\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    let activity = platform.get("/api/functions/hello").await.json()["activity"].clone();
    assert_eq!((&activity["invocations"], &activity["failed"]), (&json!(3), &json!({ "trap": 1 })));
}

#[tokio::test]
async fn only_those_with_the_token_or_on_this_machine_get_in() {
    let platform = Platform::with_token().await;
    let ask = |path: &str, authorization: &str| {
        let request = Request::get(format!("http://{}{path}", platform.address));
        let request = request.header("authorization", authorization).body(Empty::new().boxed()).unwrap();
        async { Answer::of(platform.send(request).await).await }
    };
    assert_eq!(ask("/api/functions", "Bearer wrong").await.problem().status, 401);
    assert_eq!(ask("/no/such/path", "").await.headers["www-authenticate"], "Bearer");
    assert_eq!(ask("/health", "").await.json()["status"], "ok");
    assert_eq!(ask("/api/functions", &format!("Bearer {TOKEN}")).await.status, 200);

    let open = AdminConfig { listen: ([0, 0, 0, 0], 0).into(), ..AdminConfig::default() };
    let refused = AdminPlane::bind(open, Arc::clone(&platform.deployments)).await.err();
    assert!(matches!(refused, Some(AdminBindError::Open(_))));

    let platform = Platform::start().await;
    let post = |name: &str, value: &str| {
        let request = platform.request(Method::POST, "/api/deployments").header(name, value);
        let request = request.body(http_body_util::Full::from("{\"functions\":[]}").boxed()).unwrap();
        async { platform.send(request).await.status().as_u16() }
    };
    assert_eq!(post("host", "rebound.example").await, 403);
    assert_eq!(post("origin", "https://evil.example").await, 403);
    assert_eq!(post("origin", &format!("http://{}", platform.address)).await, 200);
}

#[tokio::test]
async fn logs_are_followed_until_the_plane_stops() {
    let platform = Platform::start().await;
    let logs = Arc::clone(platform.deployments.logs());
    let print = |function: &str, text: &str| {
        logs.record(LogRecord::new(&function.parse().unwrap(), 1, LogStream::Stdout, text));
    };
    for n in 0..5 {
        print("a", &format!("a{n}"));
        print("b", &format!("b{n}"));
    }
    let text = |answer: Answer| String::from_utf8(answer.body.to_vec()).unwrap();
    let messages = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| serde_json::from_str::<LogRecord>(line).unwrap());
        lines.map(|record| record.message).collect()
    };
    let answer = platform.get("/api/logs?function=b&tail=2").await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    assert_eq!(messages(&text(answer)), ["b3", "b4"]);
    assert_eq!(messages(&text(platform.get("/api/logs").await)).len(), 10);
    assert_eq!(platform.get("/api/logs?tail=minus").await.problem().status, 400);

    let request = platform.request(Method::GET, "/api/logs?function=b&tail=1&follow=true");
    let response = platform.send(request.body(Empty::new().boxed()).unwrap()).await;
    let mut body = response.into_body().into_data_stream();
    let mut seen = String::new();
    while messages(&seen).is_empty() {
        seen.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    print("a", "not asked for");
    print("b", "b5");
    while messages(&seen).len() < 2 {
        seen.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(messages(&seen), ["b4", "b5"]);
    platform.shut_down();
    assert!(body.next().await.is_none(), "the stream ends in good order");
    platform.stop().await;
}

#[tokio::test]
async fn the_document_is_openapi_and_what_it_lists_is_served() {
    let platform = Platform::start().await;
    let document = platform.get("/api/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());

    let mut ids = HashSet::new();
    let mut served = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let item = item.as_object().unwrap();
        for (method, operation) in item {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            assert!(!operation["summary"].as_str().unwrap().is_empty());
            let parameters = operation["parameters"].as_array().unwrap();
            let declared: HashSet<_> = parameters
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| {
                    assert_eq!(parameter["required"], true);
                    parameter["name"].as_str().unwrap()
                })
                .collect();
            let named = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(declared, named.collect(), "{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            let success = responses.keys().filter(|status| status.starts_with('2') || *status == "default");
            assert_eq!(success.count(), 1, "{method} {path}");
            assert!(responses.contains_key("401") && responses.contains_key("403"));

            // Served: what is refused is refused by the operation, not for want of one.
            let address = path
                .replace("{digest}", &Digest::of(b"").to_string())
                .replace("{name}", "nobody")
                .replace("{path}", "a/b")
                .replace("{function}", "nobody")
                .replace("{topic}", "nothing")
                .replace("{offset}", "0")
                .replace("{number}", "0")
                .replace("{bucket}", "shared:nothing")
                .replace("{key}", "a/b");
            let asked = platform.ask(method.to_uppercase().parse().unwrap(), &address, "").await;
            let status = asked.status.as_u16().to_string();
            assert_ne!(status, "405", "{method} {path}");
            let ours = |body: &[u8]| String::from_utf8_lossy(body).contains("has no such path");
            assert!(!ours(&asked.body), "{method} {path} isn't served");
            if !responses.contains_key("default") {
                assert!(responses.contains_key(&status), "{method} {path} answers {status}, which isn't documented");
            }
            served += 1;
        }
        if !item.contains_key("patch") {
            let path = path.replace("{bucket}/{key}", "shared:nothing/a");
            let answer = platform.ask(Method::PATCH, &path.replace("{name}", "nobody"), "").await;
            assert_eq!(answer.problem().status, 405, "{path} serves what it doesn't list");
            assert!(answer.headers.contains_key("allow"), "{path}");
        }
    }
    assert_eq!(served, 34 + 2 * 7);
    assert_eq!(platform.get("/api/functions/").await.problem().status, 404);

    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').expect("every reference is local");
        assert!(document.pointer(pointer).is_some(), "`{reference}` leads nowhere");
    }
    let published = &document["paths"]["/api/topics/{topic}/events"]["post"];
    let modes: HashSet<_> =
        published["requestBody"]["content"].as_object().unwrap().keys().map(String::as_str).collect();
    let batch = "application/cloudevents-batch+json";
    assert_eq!(modes, HashSet::from(["*/*", "application/cloudevents+json", batch, "application/x-ndjson"]));
    assert!(published["responses"]["202"].is_object());
    let query: Vec<_> = document["paths"]["/api/logs"]["get"]["parameters"].as_array().unwrap().iter().collect();
    assert_eq!(
        query.iter().map(|p| p["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["function", "invocation", "tail", "follow"]
    );
    let manifest = &document["components"]["schemas"]["Manifest"];
    assert!(manifest["properties"]["limits"].is_object(), "the manifest is described by the types of the contract");
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "$ref" => vec![text.as_str()],
                value => references(value),
            })
            .collect(),
        Value::Array(array) => array.iter().flat_map(references).collect(),
        _ => vec![],
    }
}
