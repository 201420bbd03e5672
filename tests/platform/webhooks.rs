//! Webhooks: a call that is the service's own is kept once and runs the function, any other is refused, whatever happens to
//! the platform meanwhile.

use crate::harness::{Answer, Platform, Random, guest, repository, shown, write_function};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use ring::hmac;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const SECRET: &str = "It's a Secret to Everybody";

/// A platform that knows a secret under each of these names.
fn start(secrets: &[(&str, &str)]) -> Platform {
    let folder = TempDir::new().unwrap();
    let mut platform = Platform::start_knowing(&folder.path().join("data"), secrets);
    platform.folder = Some(folder);
    platform
}

fn hmac_of(secret: &str, text: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), text);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call as GitHub makes it.
pub(crate) fn github(url: String, secret: &str, delivery: &str, event: &str, body: &Value) -> Request<Full<Bytes>> {
    let body = Bytes::from(body.to_string());
    Request::post(url)
        .header("content-type", "application/json")
        .header("x-github-delivery", delivery)
        .header("x-github-event", event)
        .header("x-hub-signature-256", format!("sha256={}", hmac_of(secret, &body)))
        .body(Full::new(body))
        .unwrap()
}

fn release(version: &str) -> Value {
    json!({
        "action": "published",
        "release": { "tag_name": version, "html_url": format!("https://github.com/ada/engine/releases/tag/{version}") },
        "repository": { "full_name": "ada/engine" },
    })
}

impl Platform {
    /// Deploys an example with its own manifest.
    fn deploy_example(&self, name: &str) {
        let output = self.dunlin(&["deploy", repository().join("functions").join(name).to_str().unwrap()]);
        assert!(output.status.success(), "{}", shown(&output));
    }

    /// The one trigger of a function, as `dunlin triggers` has it.
    async fn trigger(&self, function: &str) -> Value {
        let all = self.admin(Method::GET, "/api/triggers", Value::Null).await.json();
        let triggers = all["triggers"].as_array().unwrap();
        triggers.iter().find(|trigger| trigger["function"] == function).unwrap().clone()
    }

    async fn call(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_kept_once_and_runs_the_function_once() {
    let platform = start(&[("GITHUB_WEBHOOK", SECRET)]);
    platform.deploy_example("releases");
    let call = |delivery: &str, event: &str, body: &Value| {
        platform.send(github(platform.url("/hooks/github"), SECRET, delivery, event, body))
    };
    let first = call("d-1", "release", &release("v1.0.0")).await;
    assert_eq!((first.status, first.text().as_str()), (StatusCode::ACCEPTED, ""), "{first:?}");
    assert!(first.headers.contains_key("dunlin-invocation") && !first.headers.contains_key("dunlin-duplicate"));
    let again = call("d-1", "release", &release("v1.0.0")).await;
    assert_eq!((again.status, &again.headers["dunlin-duplicate"]), (StatusCode::ACCEPTED, &"true".parse().unwrap()));
    assert_eq!(call("d-2", "ping", &json!({ "zen": "Keep it logically awesome." })).await.status, StatusCode::ACCEPTED);
    assert_eq!(call("d-3", "release", &release("v1.1.0")).await.status, StatusCode::ACCEPTED);

    let kept = platform.events_once("releases.webhook", 3).await;
    let seen: Vec<_> =
        kept.iter().map(|event| (event["id"].as_str().unwrap(), event["type"].as_str().unwrap())).collect();
    assert_eq!(seen, [("d-1", "github.release"), ("d-2", "github.ping"), ("d-3", "github.release")]);
    assert_eq!((&kept[0]["source"], &kept[0]["data"]), (&json!("/webhooks/releases/hooks/github"), &release("v1.0.0")));
    let announced = platform.events_once("releases.published", 2).await;
    assert_eq!(announced[1]["data"]["version"], "v1.1.0");
    platform.caught_up("releases", "releases.webhook").await;
    assert_eq!(platform.state("function:releases", "ada%2Fengine").await, "v1.1.0");

    let trigger = platform.trigger("releases").await;
    assert_eq!(
        (&trigger["events"], &trigger["state"], &trigger["topic"]),
        (&json!(3), &json!("running"), &json!("releases.webhook"))
    );
    let listed = shown(&platform.dunlin(&["triggers"]));
    assert!(listed.contains("webhook") && listed.contains("/hooks/github"), "{listed}");
}

/// The caller learns nothing, the operator what to look at, and a flood of forged calls floods no log.
#[tokio::test(flavor = "multi_thread")]
async fn forged_calls_are_refused_and_only_the_operator_is_told_why() {
    let platform = start(&[("GITHUB_WEBHOOK", SECRET)]);
    platform.deploy_example("releases");
    let forged =
        |n: u32| github(platform.url("/hooks/github"), "another", &format!("d-{n}"), "release", &release("v6"));
    let unsigned = platform.post("/hooks/github", "{}").await;
    assert_eq!(unsigned.status, StatusCode::UNAUTHORIZED);
    for n in 0..50 {
        let answer = platform.send(forged(n)).await;
        assert_eq!((answer.status, answer.reason().as_str()), (StatusCode::UNAUTHORIZED, "unverified"), "{answer:?}");
        let text = answer.text().to_lowercase();
        assert!(!["signature", "secret", "github", "sha256"].iter().any(|told| text.contains(told)), "{text}");
    }
    let why = "its signature matches no secret: is `GITHUB_WEBHOOK` the secret of this webhook at github";
    let log = platform.log_with("releases", why).await;
    let lines = log.iter().filter(|line| line["message"].as_str().unwrap().contains("was refused")).count();
    assert!(lines < 10, "{lines} lines for 51 calls");
    let trigger = platform.trigger("releases").await;
    assert_eq!((&trigger["events"], &trigger["details"]["refused"]), (&json!(0), &json!(51)));
    assert!(trigger["error"].as_str().unwrap().starts_with(why), "{trigger:#}");
    assert!(platform.events("releases.webhook").await.is_empty());

    let right = github(platform.url("/hooks/github"), SECRET, "d-1", "release", &release("v1"));
    assert_eq!(platform.send(right).await.status, StatusCode::ACCEPTED);
    let trigger = platform.trigger("releases").await;
    assert_eq!((&trigger["events"], &trigger["error"]), (&json!(1), &Value::Null), "{trigger:#}");
    assert_eq!(platform.get("/hooks/github").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

/// A value that is replaced counts at once, and of two names either does.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_replaced_without_a_deploy() {
    let folder = TempDir::new().unwrap();
    let secrets = folder.path().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("OLD"), "old one\n").unwrap();
    fs::write(secrets.join("NEW"), "new one\n").unwrap();
    let platform = Platform::start_in(&folder.path().join("data"), &["--secrets", secrets.to_str().unwrap()]);
    let webhook = json!({ "path": "/hook", "provider": "github", "secrets": ["OLD", "NEW"] });
    platform.deploy("relay", &guest("relay"), json!({ "triggers": [{ "webhook": webhook }], "publish": "relayed" }));
    let delivery = AtomicU64::new(0);
    let status = async |secret: &str| {
        let delivery = delivery.fetch_add(1, Relaxed).to_string();
        platform.send(github(platform.url("/hook"), secret, &delivery, "ping", &json!({}))).await.status
    };
    let until = async |secret: &str, wanted: StatusCode| {
        let start = Instant::now();
        while status(secret).await != wanted {
            assert!(start.elapsed() < PATIENCE, "`{secret}` is not answered with {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for secret in ["old one", "new one"] {
        assert_eq!(status(secret).await, StatusCode::ACCEPTED, "{secret}");
    }
    assert_eq!(status("newest").await, StatusCode::UNAUTHORIZED);
    fs::write(secrets.join("NEW"), "newest").unwrap();
    until("newest", StatusCode::ACCEPTED).await;
    assert_eq!((status("new one").await, status("old one").await), (StatusCode::UNAUTHORIZED, StatusCode::ACCEPTED));
    // One of several may go.
    fs::remove_file(secrets.join("OLD")).unwrap();
    until("old one", StatusCode::UNAUTHORIZED).await;
    assert_eq!(status("newest").await, StatusCode::ACCEPTED);
    // Not the last: nobody is taken for anybody then, and the service is to try again.
    fs::write(secrets.join("NEW"), "").unwrap();
    until("newest", StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(status("").await, StatusCode::SERVICE_UNAVAILABLE);
    platform.log_with("relay", "the secret `NEW` can't be read: it is empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_webhook_is_told_at_deploy() {
    let platform = start(&[("KEY", "key"), ("EMPTY", "")]);
    let http = json!({ "triggers": [{ "http": { "path": "/hook", "methods": ["POST"] } }] });
    platform.deploy("hello", &guest("hello"), http);
    let folder = TempDir::new().unwrap();
    let refused = |name: &str, webhook: &str| {
        write_function(folder.path(), "bad", &guest(name), json!({}));
        let manifest = format!("name: bad\ncomponent: function.wasm\ntriggers:\n  - webhook:\n{webhook}publish: out\n");
        fs::write(folder.path().join("function.yaml"), manifest).unwrap();
        let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert!(!output.status.success(), "{}", shown(&output));
        shown(&output)
    };
    for (guest, webhook, parts) in [
        (
            "relay",
            "      path: /a\n      provider: github\n      secrets: [KEY, NOT_THERE]\n",
            &["function.yaml:7:22", "the platform has no secret `NOT_THERE`", "DUNLIN_SECRET_NOT_THERE", "--secrets"][..],
        ),
        ("relay", "      path: /a\n      provider: github\n      secrets: [EMPTY]\n", &["7:17", "`EMPTY` is empty"]),
        (
            "relay",
            "      path: /a\n      provider: svix\n      secrets: [KEY]\n",
            &["7:17", "`KEY` is no key of Standard Webhooks", "`whsec_` and base64"],
        ),
        ("relay", "      path: /a\n      provider: basic\n      secrets: [KEY]\n", &["7:17", "`user:password`"]),
        (
            "relay",
            "      path: /hook\n      provider: github\n      secrets: [KEY]\n",
            &["5:13", "the route `POST /hook` is taken by trigger 0 of `hello`"],
        ),
        (
            "relay",
            "      path: /a\n      provider: github\n      secrets: [KEY]\n      respond: sync\n",
            &["8:16", "it takes events and answers nobody", "leave `respond` out"],
        ),
        (
            "relay",
            "      path: /a\n      provider: githup\n      secrets: [KEY]\n",
            &["6:17", "unknown value `githup`", "did you mean `github`?"],
        ),
        (
            "relay",
            "      path: /a\n      provider: github\n      secrets: [KEY]\n      encoding: base64\n",
            &["8:17", "`encoding` has no meaning for the provider `github`", "it is for `hmac`"],
        ),
        (
            "relay",
            "      path: /a\n      provider: hmac\n      secrets: [KEY]\n      header: X-Sig\n      signed: \"{timestamp}\"\n",
            &["9:15", "leaves out the body", "write `{body}`"],
        ),
        (
            "relay",
            "      path: /a\n      provider: hmac\n      secrets: [KEY]\n",
            &["needs to know where the signature is", "header: X-Signature"],
        ),
    ] {
        let told = refused(guest, webhook);
        assert!(parts.iter().all(|part| told.contains(part)), "not {parts:?} in {told}");
    }
    assert_eq!(platform.post("/a", "").await.status, StatusCode::NOT_FOUND, "nothing of it was deployed");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_is_answered_as_it_wants() {
    let platform = start(&[("SLACK", "8f742231b10e8888abcd99yyyzzz85a5")]);
    let webhook = json!({ "path": "/slack", "provider": "slack", "secrets": ["SLACK"] });
    platform.deploy("relay", &guest("relay"), json!({ "triggers": [{ "webhook": webhook }], "publish": "relayed" }));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let call = async |content_type: &str, body: &str, time: u64| {
        let signature = hmac_of("8f742231b10e8888abcd99yyyzzz85a5", format!("v0:{time}:{body}").as_bytes());
        let (signature, time) = (format!("v0={signature}"), time.to_string());
        let headers =
            [("content-type", content_type), ("x-slack-signature", &*signature), ("x-slack-request-timestamp", &*time)];
        platform.call("/slack", &headers, body.to_owned()).await
    };
    let challenge = r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#;
    let answer = call("application/json", challenge, now).await;
    assert_eq!(
        (answer.status, &*answer.text()),
        (StatusCode::OK, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    );
    assert_eq!(
        platform.call("/slack", &[("content-type", "application/json")], challenge).await.status,
        StatusCode::UNAUTHORIZED
    );
    let command = call("application/x-www-form-urlencoded", "command=%2Fdeploy&text=billing+now", now).await;
    assert_eq!((command.status, &*command.text()), (StatusCode::OK, ""));
    let stale = call("application/x-www-form-urlencoded", "command=%2Fdeploy&text=billing+now", now - 600).await;
    assert_eq!(stale.status, StatusCode::UNAUTHORIZED);
    let kept = platform.events_once("relay.webhook", 1).await;
    assert_eq!((&kept[0]["type"], &kept[0]["data"]["text"]), (&json!("slack.command"), &json!("billing now")));
    platform.log_with("relay", "ago, and 5m are allowed").await;
}

/// The function answers, but only who is known to it.
#[tokio::test(flavor = "multi_thread")]
async fn with_respond_sync_the_caller_has_the_function_s_answer() {
    let platform = start(&[("TOKEN", "s3cret")]);
    let webhook = json!({ "path": "/count/{who}", "provider": "bearer", "secrets": ["TOKEN"], "respond": "sync" });
    platform.deploy("word-count", &guest("word-count"), json!({ "triggers": [{ "webhook": webhook }] }));
    let answer = platform.call("/count/me", &[("authorization", "Bearer s3cret")], "a quiet bird").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert!(answer.text().contains("3 words"), "{answer:?}");
    for token in ["Bearer s3cre", "Bearer s3cret1", "s3cret"] {
        let answer = platform.call("/count/me", &[("authorization", token)], "a quiet bird").await;
        assert_eq!((answer.status, &*answer.reason()), (StatusCode::UNAUTHORIZED, "unverified"), "{token}");
    }
    let topics = platform.admin(Method::GET, "/api/topics", Value::Null).await.text();
    assert!(!topics.contains("word-count"), "nothing is kept: {topics}");
}

/// What can't be an event is refused with the reason, once it is known who calls; and ids are those of one address.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_make_no_event_are_told_why() {
    let platform = start(&[("KEY", "key")]);
    let webhook = json!({
        "path": "/hooks/{tenant}", "provider": "hmac", "secrets": ["KEY"], "header": "X-Signature",
        "id": "X-Id", "type": "/kind", "topic": "calls",
    });
    platform.deploy("relay", &guest("relay"), json!({ "triggers": [{ "webhook": webhook }], "publish": "relayed" }));
    let call = async |path: &str, id: &str, more: &[(&str, &str)], body: &[u8]| {
        let signature = hmac_of("key", body);
        let mut headers = vec![("x-signature", &*signature), ("x-id", id)];
        headers.extend(more);
        platform.call(path, &headers, body.to_vec()).await
    };
    let json = [("content-type", "application/json")];
    for (more, body, status, detail) in [
        (&json[..], &b"{\"kind\":"[..], StatusCode::BAD_REQUEST, "`data`"),
        (
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            b"{}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "`gzip`",
        ),
        (&json, &vec![b' '; 1 << 20], StatusCode::BAD_REQUEST, "`data`"),
        (&json, &vec![b' '; (1 << 20) + 1], StatusCode::PAYLOAD_TOO_LARGE, "1048576 bytes"),
        (&[("content-type", "text/plain")], &vec![b'x'; 1 << 20], StatusCode::PAYLOAD_TOO_LARGE, "1048576 bytes"),
    ] {
        let answer = call("/hooks/a", "1", more, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(detail), "{answer:?}");
    }
    for (path, id) in [("/hooks/a", "1"), ("/hooks/b", "1"), ("/hooks/a", "1"), ("/hooks/a", "2")] {
        assert_eq!(call(path, id, &json, br#"{"kind":"thing.done"}"#).await.status, StatusCode::ACCEPTED);
    }
    let kept = platform.events_once("calls", 3).await;
    let seen: Vec<_> = kept.iter().map(|event| format!("{} {}", event["source"], event["id"])).collect();
    let [a, b] = ["a", "b"].map(|tenant| format!("\"/webhooks/relay/hooks/{tenant}\""));
    assert_eq!(seen, [format!("{a} \"1\""), format!("{b} \"1\""), format!("{a} \"2\"")]);
    assert_eq!(kept[0]["type"], "webhook.thing.done");
    platform.events_once("relayed", 3).await;

    // A topic that was removed under it is made again, with the function's place in it.
    let removed = platform.admin(Method::DELETE, "/api/topics/calls?force=true", Value::Null).await;
    assert!(removed.status.is_success(), "{removed:?}");
    assert_eq!(call("/hooks/a", "3", &json, br#"{"kind":"thing.done"}"#).await.status, StatusCode::ACCEPTED);
    let consumer = platform.caught_up("relay", "calls").await;
    assert_eq!(consumer["position"], 4, "its offsets go on where the one before ended: {consumer:#}");
}

/// Calls from several sides, each repeated, while the platform is killed again and again: what was answered with 202 is
/// there, once, and so is what the function made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_a_hundred_times_under_load() {
    const KILLS: u32 = 100;
    const CALLERS: u64 = 4;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let secrets = [("KEY", SECRET)];
    let mut platform = Arc::new(Platform::start_knowing(&data, &secrets));
    let webhook = json!({ "path": "/hook", "provider": "github", "secrets": ["KEY"] });
    platform.deploy("relay", &guest("relay"), json!({ "triggers": [{ "webhook": webhook }], "publish": "relayed" }));
    let acknowledged = Arc::<Mutex<HashSet<String>>>::default();
    let sent = Arc::new(AtomicU64::new(0));
    let mut random = Random::default();
    // What each caller has yet to hear of. It is sent again until it is acknowledged, as services do.
    let mut open = vec![None; CALLERS as usize];
    for kill in 0..KILLS {
        // One that is answered in each round, so that there is something to lose however slow the machine is.
        let delivery = format!("first-{kill}");
        let first = github(platform.url("/hook"), SECRET, &delivery, "push", &json!({ "number": 1_000_000 + kill }));
        assert_eq!(platform.send(first).await.status, StatusCode::ACCEPTED);
        acknowledged.lock().unwrap().insert(delivery);
        let deadline = tokio::time::Instant::now() + Duration::from_millis(random.below(60));
        let callers: Vec<_> = open
            .iter()
            .copied()
            .enumerate()
            .map(|(caller, mut now)| {
                let (platform, acknowledged, sent) =
                    (Arc::clone(&platform), Arc::clone(&acknowledged), Arc::clone(&sent));
                tokio::spawn(async move {
                    loop {
                        let number = *now.get_or_insert_with(|| sent.fetch_add(1, Relaxed));
                        let delivery = format!("{caller}-{number}");
                        let body = json!({ "number": number });
                        let call = || github(platform.url("/hook"), SECRET, &delivery, "push", &body);
                        let answer = tokio::time::timeout_at(deadline, platform.try_send(call())).await;
                        let Ok(Ok(answer)) = answer else { return now };
                        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
                        acknowledged.lock().unwrap().insert(delivery.clone());
                        // Now and then the service hasn't heard the answer.
                        if number % 3 == 0
                            && let Ok(Ok(again)) = tokio::time::timeout_at(deadline, platform.try_send(call())).await
                        {
                            assert_eq!(again.headers["dunlin-duplicate"], "true", "{again:?}");
                        }
                        now = None;
                    }
                })
            })
            .collect();
        tokio::time::sleep_until(deadline).await;
        platform.signal("KILL");
        for (open, caller) in open.iter_mut().zip(callers) {
            *open = caller.await.unwrap();
        }
        let Ok(mut killed) = Arc::try_unwrap(platform) else { panic!("all callers have ended") };
        killed.wait();
        platform = Arc::new(Platform::start_knowing(&data, &secrets));
    }
    platform.caught_up("relay", "relay.webhook").await;
    let events = platform.events("relay.webhook").await;
    let mut there: HashMap<&str, u32> = HashMap::new();
    for event in &events {
        *there.entry(event["id"].as_str().unwrap()).or_default() += 1;
    }
    assert!(there.values().all(|count| *count == 1), "{there:?}");
    let acknowledged = acknowledged.lock().unwrap().clone();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !there.contains_key(id.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), acknowledged.len());
    let mut relayed: HashMap<u64, u32> = HashMap::new();
    for event in platform.events("relayed").await {
        *relayed.entry(event["data"]["number"].as_u64().unwrap()).or_default() += 1;
    }
    assert_eq!(relayed.len(), events.len());
    assert!(relayed.values().all(|count| *count == 1), "{relayed:?}");
}

/// A thousand functions with a webhook each: the platform starts, none of them costs anything, and each can be called.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_webhooks_cost_nothing_until_they_are_called() {
    const COUNT: usize = 1000;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start_knowing(&data, &[("KEY", SECRET)]);
    platform.deploy("relay", &guest("relay"), json!({ "publish": "relayed" }));
    let before = platform.resident();
    let relay = platform.admin(Method::GET, "/api/functions/relay", Value::Null).await.json();
    let functions: Vec<_> = (0..COUNT)
        .map(|n| {
            let webhook = json!({ "path": format!("/hooks/{n}"), "provider": "github", "secrets": ["KEY"] });
            let manifest = json!({
                "name": format!("hook-{n}"), "component": "relay.wasm", "publish": "relayed",
                "triggers": [{ "webhook": webhook }],
            });
            json!({ "manifest": manifest, "component": relay["active"]["component"]["digest"] })
        })
        .collect();
    let deployed = platform.admin(Method::POST, "/api/deployments", json!({ "functions": functions })).await;
    assert_eq!(deployed.status, StatusCode::OK, "{deployed:?}");
    drop(platform);

    let begun = Instant::now();
    let platform = Platform::start_knowing(&data, &[("KEY", SECRET)]);
    let started = begun.elapsed();
    let call = async |n: usize| {
        let answer =
            platform.send(github(platform.url(&format!("/hooks/{n}")), SECRET, "d-1", "push", &json!({}))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{n}: {answer:?}");
    };
    call(0).await;
    platform.caught_up("hook-0", "hook-0.webhook").await;
    let ticks = idle_ticks(&platform).await;
    let grown = platform.resident().saturating_sub(before) / COUNT as u64;
    println!("1,000 webhooks: started in {started:?}, {grown} bytes each, {ticks} ticks of 10 ms in a second");
    assert!(grown < 256 << 10, "{grown} bytes for each");
    for n in (1..COUNT).step_by(50) {
        call(n).await;
    }
    platform.events_once("relayed", 1 + COUNT.div_ceil(50)).await;
}

/// Processor time an idle platform uses in a second, once it has become idle.
async fn idle_ticks(platform: &Platform) -> u64 {
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", platform.pid())).unwrap();
        let fields: Vec<u64> =
            stat.rsplit_once(')').unwrap().1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        fields[11] + fields[12]
    };
    let start = Instant::now();
    loop {
        let before = used();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ticks = used() - before;
        if ticks == 0 {
            return ticks;
        }
        assert!(start.elapsed() < PATIENCE, "{ticks} ticks in a second, and nothing to do");
    }
}
