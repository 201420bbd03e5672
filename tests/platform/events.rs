//! Events: what is published is kept, functions run on it, and what they do happens once, in order, whatever fails.

use crate::harness::{Answer, Platform, Random, guest, repository, shown, until, write_function};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

impl Platform {
    /// Publishes to a topic, however that ends.
    pub(crate) async fn post_events(&self, topic: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::post(format!("{}/api/topics/{topic}/events", self.admin));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    /// Publishes events, which must all be taken, and answers with their offsets.
    pub(crate) async fn publish(&self, topic: &str, events: &[Value]) -> Vec<u64> {
        let batch = serde_json::to_vec(events).unwrap();
        let answer = self.post_events(topic, &[("content-type", "application/cloudevents-batch+json")], batch).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let answer = answer.json();
        let events = answer["events"].as_array().unwrap();
        events.iter().map(|event| event["offset"].as_u64().unwrap()).collect()
    }

    pub(crate) async fn create_topic(&self, topic: &str) {
        let answer = self.admin(Method::PUT, &format!("/api/topics/{topic}"), Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    /// Everything a topic holds, oldest first.
    pub(crate) async fn events(&self, topic: &str) -> Vec<Value> {
        let (mut events, mut from) = (Vec::new(), 0);
        loop {
            let path = format!("/api/topics/{topic}/events?from={from}&limit=10000");
            let page = self.admin(Method::GET, &path, Value::Null).await.json();
            let piece = page["events"].as_array().unwrap_or_else(|| panic!("{page}"));
            events.extend(piece.iter().map(|stored| stored["event"].clone()));
            from = page["next"].as_u64().unwrap();
            if from >= page["end"].as_u64().unwrap() {
                return events;
            }
        }
    }

    /// Waits until a topic holds so many events, and answers with them.
    pub(crate) async fn events_once(&self, topic: &str, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let events = self.events(topic).await;
            if events.len() >= count {
                assert_eq!(events.len(), count, "{events:#?}");
                return events;
            }
            assert!(start.elapsed() < PATIENCE, "{} of {count} events in `{topic}`: {events:#?}", events.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn consumer(&self, function: &str, topic: &str) -> Value {
        self.admin(Method::GET, &format!("/api/consumers/{function}/{topic}"), Value::Null).await.json()
    }

    /// Waits until a function has settled all of a topic.
    pub(crate) async fn caught_up(&self, function: &str, topic: &str) -> Value {
        let start = Instant::now();
        loop {
            let consumer = self.consumer(function, topic).await;
            if consumer["position"] == consumer["end"] && consumer["parked"] == 0 && consumer["end"].is_u64() {
                return consumer;
            }
            assert!(start.elapsed() < PATIENCE, "not caught up: {consumer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a function's own bucket, or a shared one, holds under a key.
    pub(crate) async fn state(&self, bucket: &str, key: &str) -> Value {
        let answer = self.admin(Method::GET, &format!("/api/state/{bucket}/{key}"), Value::Null).await;
        if answer.status == StatusCode::NOT_FOUND { Value::Null } else { answer.json() }
    }

    async fn dead_letters(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let answer = self.admin(Method::GET, "/api/dead-letters", Value::Null).await.json();
            let letters = answer["dead_letters"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
            if letters.len() >= count {
                assert_eq!(letters.len(), count, "{letters:#?}");
                return letters;
            }
            assert!(start.elapsed() < PATIENCE, "{letters:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An event for the guest `obey`.
pub(crate) fn order(id: impl ToString, key: Option<&str>, steps: Value) -> Value {
    let mut event =
        json!({ "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "order", "data": steps });
    if let Some(key) = key {
        event["partitionkey"] = key.into();
    }
    event
}

/// A manifest that reads `orders` from the beginning, keeps state, and publishes to `results`; with more on top.
pub(crate) fn obeying(more: Value) -> Value {
    let mut manifest = json!({
        "triggers": [{ "topic": { "name": "orders", "from": "beginning" } }],
        "publish": "results",
        "allow": { "state": true },
        "retry": { "attempts": 3, "backoff": "20ms..50ms" },
    });
    for (name, value) in more.as_object().unwrap() {
        manifest[name] = value.clone();
    }
    manifest
}

/// When a limit is set, and later when it is passed again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_a_topics_limit_is_dropped() {
    let platform = Platform::start();
    platform.create_topic("orders").await;
    let orders = |numbers: std::ops::Range<u32>| {
        numbers.map(|n| json!({ "specversion": "1.0", "type": "order", "source": "/shop", "id": n.to_string() }))
    };
    let topic = async || platform.admin(Method::GET, "/api/topics/orders", Value::Null).await.json();
    let first_becomes = async |first: u64| {
        until(PATIENCE, &format!("trimmed to {first}"), async || topic().await["first"] == first).await;
    };
    platform.publish("orders", &orders(0..10).collect::<Vec<_>>()).await;
    let limit = json!({ "retention": { "count": 4 } });
    assert_eq!(platform.admin(Method::PUT, "/api/topics/orders", limit).await.status, StatusCode::OK);
    first_becomes(6).await;
    platform.publish("orders", &orders(10..15).collect::<Vec<_>>()).await;
    first_becomes(11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_mode_is_taken_and_read_back() {
    let platform = Platform::start();
    platform.create_topic("orders").await;
    let structured =
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-01-01T00:00:00Z","data":{"n":1}}"#;
    let answer = platform.post_events("orders", &[("content-type", "application/cloudevents+json")], structured).await;
    assert_eq!((answer.status, answer.json()["events"][0]["offset"].as_u64()), (StatusCode::ACCEPTED, Some(0)));
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/a"),
        ("ce-type", "Euro%20%E2%82%AC"),
        ("content-type", "text/plain"),
    ];
    assert_eq!(platform.post_events("orders", &binary, "hello").await.status, StatusCode::ACCEPTED);
    // What is there already adds nothing, and of a batch the good ones are taken.
    let batch = json!([
        order("3", Some("k"), json!([])),
        { "specversion": "1.0", "id": "", "source": "/a", "type": "t" },
        { "specversion": "1.0", "id": "1", "source": "/a", "type": "t" },
        { "specversion": "1.0", "id": "4", "source": "/a", "type": "t", "datacontenttype": "image/png", "data_base64": "AAEC" },
    ]);
    let answer = platform
        .post_events("orders", &[("content-type", "application/cloudevents-batch+json")], batch.to_string())
        .await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
    let results = answer.json()["events"].clone();
    assert_eq!((&results[0]["offset"], &results[3]["offset"]), (&json!(2), &json!(3)), "{results}");
    assert_eq!(results[1]["error"]["attribute"], "id", "{results}");
    assert_eq!((&results[2]["offset"], &results[2]["duplicate"]), (&json!(0), &json!(true)), "{results}");

    let events = platform.events("orders").await;
    assert_eq!(events.iter().map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert_eq!((&events[0]["data"]["n"], &events[1]["data"]), (&json!(1), &json!("hello")));
    assert_eq!((&events[1]["type"], &events[3]["data_base64"]), (&json!("Euro €"), &json!("AAEC")));

    for (headers, body, parts) in [
        (&[("content-type", "application/cloudevents+json")][..], "{", &["JSON"][..]),
        (
            &[("content-type", "application/cloudevents+json")],
            r#"{"specversion":"1.0","id":"9","source":"/a"}"#,
            &["`type`"],
        ),
        (
            &[("content-type", "application/cloudevents+json")],
            r#"{"specversion":"0.3","id":"9","source":"/a","type":"t"}"#,
            &["`specversion`"],
        ),
        (&[("ce-specversion", "1.0"), ("ce-id", "9"), ("ce-type", "t")], "", &["`source`"]),
        (&[("content-type", "application/cloudevents-batch+json")], "{}", &[]),
    ] {
        let answer = platform.post_events("orders", headers, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert!(parts.iter().all(|part| answer.text().contains(part)), "{parts:?} in {}", answer.text());
    }
    let huge = format!(r#"{{"specversion":"1.0","id":"9","source":"/a","type":"{}"}}"#, "x".repeat(10 << 20));
    let answer = platform.post_events("orders", &[("content-type", "application/cloudevents+json")], huge).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    let answer = platform.post_events("orders", &[("content-type", "application/json")], "{}").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{}", answer.text());
    let answer = platform.post_events("ordres", &[("content-type", "application/cloudevents+json")], structured).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("orders"), "a near name is named: {}", answer.text());
    assert_eq!(platform.events("orders").await.len(), 4, "nothing of all that was kept");
}

/// The promise: what a function returns, publishes and remembers is there once, and the event is settled with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_function_handles_events_and_its_effects_happen_once() {
    let platform = Platform::start();
    let more = json!({ "allow": { "state": ["totals"], "publish": ["audit"] } });
    platform.deploy("obey", &guest("obey"), obeying(more));
    let steps = json!([
        { "count": { "key": "sum", "by": 2 } },
        { "share": { "bucket": "totals", "key": "all" } },
        { "publish": { "topic": "audit", "data": "seen" } },
        { "return": 2 },
    ]);
    let events: Vec<_> = (0..500).map(|n| order(n, Some(&format!("k{}", n % 7)), steps.clone())).collect();
    platform.publish("orders", &events).await;
    platform.publish("orders", &events).await; // and again: none is new
    platform.caught_up("obey", "orders").await;
    assert_eq!(platform.state("function:obey", "sum").await, 1000);
    assert_eq!(platform.state("shared:totals", "all").await, 500);
    assert_eq!(platform.events_once("audit", 500).await[0]["data"], "seen");
    let results = platform.events_once("results", 1000).await;
    let first = results.iter().find(|event| event["data"]["of"] == "0" && event["data"]["number"] == 0).unwrap();
    assert_eq!((&first["source"], &first["partitionkey"]), (&json!("/functions/obey"), &json!("k0")), "{first}");
    assert_eq!(first["dunlindepth"], 1);

    // A function that comes later reads all of it from the beginning, and nobody else notices.
    let reader = json!({
        "triggers": [{ "topic": { "name": "results", "from": "beginning", "filter": "event.data.number == 1" } }],
        "publish": "later.results", "allow": { "state": true },
    });
    platform.deploy("later", &guest("obey"), reader);
    // Their data is no list of steps, so it goes to the dead letters: 500 of 1,000 passed the filter.
    platform.caught_up("later", "results").await;
    let answer = platform.admin(Method::GET, "/api/dead-letters?function=later&limit=1000", Value::Null).await.json();
    assert_eq!(answer["dead_letters"].as_array().unwrap().len(), 500);
    assert_eq!(answer["dead_letters"][0]["reason"], "rejected", "{}", answer["dead_letters"][0]);
    assert_eq!(platform.state("function:obey", "sum").await, 1000);
}

/// A failing event holds up its own key and nothing else, and what comes after it stays in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failing_event_parks_its_key_only() {
    let platform = Platform::start();
    let retry = json!({ "retry": { "attempts": 1000, "backoff": "10ms..50ms" } });
    platform.deploy("obey", &guest("obey"), obeying(retry));
    let append = |key: &str, n: u32| json!({ "append": { "key": key, "value": n } });
    let mut events = Vec::new();
    for n in 0..20 {
        // The third of `a` fails until somebody helps.
        let steps = if n == 2 { json!([{ "fail-without": "help" }, append("a", n)]) } else { json!([append("a", n)]) };
        events.push(order(format!("a{n}"), Some("a"), steps));
        events.push(order(format!("b{n}"), Some("b"), json!([append("b", n)])));
    }
    platform.publish("orders", &events).await;
    let all: Vec<u32> = (0..20).collect();
    let start = Instant::now();
    while platform.state("function:obey", "b").await != json!(all) {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(platform.state("function:obey", "a").await, json!([0, 1]));
    let start = Instant::now();
    let consumer = loop {
        let consumer = platform.consumer("obey", "orders").await;
        if consumer["parked"] == 18 && consumer["position"] == 40 {
            break consumer;
        }
        assert!(start.elapsed() < PATIENCE, "{consumer:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let first = &consumer["waiting"][0];
    assert_eq!((&first["key"], &first["offset"]), (&json!("a"), &json!(4)), "{consumer:#}");
    assert!(first["error"].as_str().unwrap().contains("there is no `help`"), "{first}");

    let request = Request::put(format!("{}/api/state/function:obey/help", platform.admin)).body(Full::new("1".into()));
    assert!(platform.send(request.unwrap()).await.status.is_success());
    platform.caught_up("obey", "orders").await;
    assert_eq!(platform.state("function:obey", "a").await, json!(all), "in order, each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn dead_letters_tell_why_and_can_be_redriven_in_order() {
    let platform = Platform::start();
    let more = json!({
        "retry": { "attempts": 2, "backoff": "10ms..10ms", "dead_letter": "obey.dead" },
        "limits": { "time": "3s", "cpu": "1s", "memory": "32MiB" },
    });
    platform.deploy("obey", &guest("obey"), obeying(more));
    let append = |n: u32| json!({ "append": { "key": "a", "value": n } });
    let mut events = vec![
        order("trap", None, json!(["trap"])),
        order("panic", None, json!([{ "panic": "no such thing" }])),
        order("loop", None, json!(["loop"])),
        order("hog", None, json!(["hog"])),
        order("slow", None, json!([{ "sleep": 10_000 }])),
        order("reject", None, json!([{ "reject": "not mine" }])),
        order("nonsense", None, json!("nonsense")),
        order("good", None, json!([{ "count": { "key": "good", "by": 1 } }])),
    ];
    events.extend((0..3).map(|n| order(format!("a{n}"), Some("a"), json!([{ "fail-without": "help" }, append(n)]))));
    platform.publish("orders", &events).await;
    platform.caught_up("obey", "orders").await;
    let letters = platform.dead_letters(10).await;
    let letters: HashMap<&str, &Value> =
        letters.iter().map(|letter| (letter["event"]["id"].as_str().unwrap(), letter)).collect();
    for (id, reason, attempts, part) in [
        ("trap", "trap", 2, "unreachable"),
        ("panic", "trap", 2, "on_event"),
        ("loop", "cpu", 2, "limits.cpu"),
        ("hog", "memory", 2, "limits.memory"),
        ("slow", "time", 2, "limits.time"),
        ("reject", "rejected", 1, "not mine"),
        ("nonsense", "rejected", 1, "data"),
        ("a0", "retry", 2, "there is no `help`"),
        ("a2", "retry", 2, "there is no `help`"),
    ] {
        let letter = letters[id];
        let found = (letter["reason"].as_str().unwrap(), letter["attempts"].as_u64().unwrap());
        assert!(found == (reason, attempts) || (id == "loop" && found.0 == "time"), "{letter:#}");
        assert!(
            letter["error"].as_str().unwrap().contains(part) || id == "loop" || id == "panic",
            "{part}: {letter:#}"
        );
    }
    assert_eq!(platform.state("function:obey", "good").await, 1);
    let told = platform.events_once("obey.dead", 10).await;
    assert!(told.iter().all(|event| event["type"] == "dunlin.dead-letter" && event["data"]["event"]["id"].is_string()));

    let request = Request::put(format!("{}/api/state/function:obey/help", platform.admin)).body(Full::new("1".into()));
    assert!(platform.send(request.unwrap()).await.status.is_success());
    let output = platform.dunlin(&["dead-letters", "redrive", "--function", "obey"]);
    assert!(output.status.success(), "{}", shown(&output));
    platform.caught_up("obey", "orders").await;
    assert_eq!(platform.state("function:obey", "a").await, json!([0, 1, 2]), "in the order of their key");
    platform.dead_letters(7).await;
    let output = platform.dunlin(&["dead-letters", "drop", "--all", "-y"]);
    assert!(output.status.success(), "{}", shown(&output));
    platform.dead_letters(0).await;
}

/// Standard components get events over HTTP, and what they answer is read as Knative reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn components_that_know_http_get_events_as_requests() {
    let platform = Platform::start();
    let more = json!({ "allow": {}, "retry": { "attempts": 2, "backoff": "10ms..10ms" } });
    platform.deploy("answer", &guest("answer_events"), obeying(more));
    let mut events = Vec::new();
    for status in [200, 202, 204, 301, 400, 404, 408, 409, 410, 422, 429, 500, 503] {
        events.push(order(format!("status-{status}"), None, json!({ "status": status })));
    }
    for mode in ["structured", "batch", "binary"] {
        events.push(order(mode, None, json!({ "answer": mode })));
    }
    platform.publish("orders", &events).await;
    platform.caught_up("answer", "orders").await;
    let letters = platform.dead_letters(10).await;
    let attempts: BTreeMap<_, _> = letters
        .iter()
        .map(|letter| (letter["event"]["id"].as_str().unwrap().to_owned(), letter["attempts"].as_u64().unwrap()))
        .collect();
    for status in [301, 400, 410, 422] {
        assert_eq!(attempts[&format!("status-{status}")], 1, "{status} is final");
    }
    for status in [404, 408, 409, 429, 500, 503] {
        assert_eq!(attempts[&format!("status-{status}")], 2, "{status} is tried again");
    }
    let results = platform.events_once("results", 4).await;
    let by_id: HashMap<&str, &Value> = results.iter().map(|event| (event["id"].as_str().unwrap(), event)).collect();
    assert_eq!(by_id["s-structured"]["data"]["type"], "order");
    assert_eq!(by_id["s-structured"]["data"]["topic"], "orders");
    assert_eq!(by_id["s-structured"]["data"]["attempt"], "1");
    assert!(by_id.contains_key("b1-batch") && by_id.contains_key("b2-batch"));
    assert_eq!((&by_id["x-binary"]["data"], &by_id["x-binary"]["source"]), (&json!("plain"), &json!("/answer")));
}

/// The examples: what is passed on is passed on once, and a shop of functions that know each other only by their events
/// ships each order once, however often it was placed.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_examples_on_events() {
    let platform = Platform::start();
    let examples = repository().join("functions");
    let example = |name: &str| examples.join(name).to_str().unwrap().to_owned();
    let shop = ["orders-api", "billing", "inventory", "shipment", "order-view", "orders-query"];
    let shop = shop.map(|name| example(&format!("orders/{name}")));
    let mut paths = vec!["deploy"];
    paths.extend(shop.iter().map(String::as_str));
    let relay = example("relay");
    paths.push(&relay);
    let output = platform.dunlin(&paths);
    assert!(output.status.success(), "{}", shown(&output));

    platform
        .publish("parcels", &[json!({ "specversion": "1.0", "id": "1", "source": "/a", "type": "sent", "data": 7 })])
        .await;
    assert_eq!(platform.events_once("parcels.relayed", 1).await[0]["data"], 7);

    let mut addresses = BTreeMap::new();
    for n in (0..30).chain(0..30) {
        // Every tenth is more than is charged.
        let price = if n % 10 == 9 { 200_000 } else { 450 };
        let order = json!({ "customer": "ada", "items": [{ "sku": "tea", "quantity": 1, "price": price }] });
        let request = Request::post(platform.url("/orders"))
            .header("content-type", "application/json")
            .header("idempotency-key", n.to_string());
        let answer = platform.send(request.body(Full::new(order.to_string().into())).unwrap()).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let address = answer.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(*addresses.entry(n).or_insert_with(|| address.clone()), address, "the same order again");
    }
    platform.events_once("orders", 30).await;
    platform.events_once("payments", 30).await;
    platform.events_once("stock", 30).await;
    platform.events_once("shipments", 27).await;
    for topic in ["orders", "payments", "stock", "shipments"] {
        platform.caught_up("order-view", topic).await;
    }
    for (n, address) in &addresses {
        let order = platform.get(address).await.json();
        assert_eq!(order["status"] == "shipped", n % 10 != 9, "{order}");
    }
    let output = platform.dunlin(&["deploy", &example("orders/analytics")]);
    assert!(output.status.success(), "{}", shown(&output));
    platform.caught_up("analytics", "orders").await;
    platform.caught_up("analytics", "payments").await;
    let days = platform.admin(Method::GET, "/api/state/function:analytics", Value::Null).await.json();
    let mut counted = 0;
    for day in days["keys"].as_array().unwrap_or_else(|| panic!("{days}")) {
        let day = platform.state("function:analytics", day.as_str().unwrap()).await;
        counted += day["orders"].as_u64().unwrap_or(0);
    }
    assert_eq!(counted, 30, "{days}");
}

/// Without an SDK, a function publishes with a plain request: at once when it was called, and with all else it did when it
/// runs on an event.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_sink_takes_events_over_http() {
    let platform = Platform::start();
    let more = json!({
        "triggers": [
            { "topic": { "name": "orders", "from": "beginning" } },
            { "http": { "path": "/answer" } },
        ],
        "allow": {}, "retry": { "attempts": 2, "backoff": "10ms..10ms" },
    });
    platform.deploy("answer", &guest("answer_events"), obeying(more));
    let sunk = |id: &str| json!({ "specversion": "1.0", "id": id, "source": "/sink", "type": "sunk", "data": 1 });
    let answer = platform.post("/answer", json!({ "sink": sunk("called") }).to_string()).await;
    assert_eq!((answer.status, &answer.headers["x-sink"]), (StatusCode::OK, &"202".parse().unwrap()), "{answer:?}");
    assert_eq!(platform.events("results").await.len(), 1, "it is there before the caller is answered");
    let answer = platform.post("/answer", json!({ "sink": { "id": "no event" } }).to_string()).await;
    assert_eq!(answer.headers["x-sink"], "400");

    let run = |id: &str, status: u16| order(id, None, json!({ "sink": sunk(id), "status": status }));
    platform.publish("orders", &[run("good", 200), run("bad", 500)]).await;
    platform.caught_up("answer", "orders").await;
    let ids: Vec<_> = platform.events("results").await.iter().map(|event| event["id"].clone()).collect();
    assert_eq!(ids, ["called", "good"], "what failed has published nothing");
}

/// `Prefer: respond-async`: kept, answered later, and there again after a crash.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_are_answered_later() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start_in(&data, &[]);
    let more = json!({
        "triggers": [{ "http": { "path": "/answer" } }], "allow": {}, "retry": { "attempts": 2, "backoff": "10ms..10ms" },
    });
    platform.deploy("answer", &guest("answer_events"), obeying(more));
    let ask = async |platform: &Platform, body: Value| {
        let request = Request::post(platform.url("/answer")).header("prefer", "wait=5, respond-async");
        let answer = platform.send(request.body(Full::new(body.to_string().into())).unwrap()).await;
        assert_eq!(
            (answer.status, &answer.headers["preference-applied"]),
            (StatusCode::ACCEPTED, &"respond-async".parse().unwrap())
        );
        answer.headers["location"].to_str().unwrap().to_owned()
    };
    let ended = async |platform: &Platform, address: &str| {
        let start = Instant::now();
        loop {
            let answer = platform.get(address).await;
            if answer.json()["status"] != "pending" {
                return answer;
            }
            assert_eq!((answer.status, &answer.headers["retry-after"]), (StatusCode::ACCEPTED, &"1".parse().unwrap()));
            assert!(start.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let address = ask(&platform, json!({ "status": 418, "headers": { "x-tea": "yes" } })).await;
    platform.signal("KILL");
    drop(platform);
    let platform = Platform::start_in(&data, &[]);
    let answer = ended(&platform, &address).await;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::OK, &json!(418)), "any status is an answer");
    let result = platform.get(answer.json()["result"].as_str().unwrap()).await;
    assert_eq!(
        (result.status.as_u16(), &result.headers["x-tea"], result.text().as_str()),
        (418, &"yes".parse().unwrap(), "no event")
    );

    let crashed = ask(&platform, json!({ "status": 1 })).await; // no status, so the guest fails
    let answer = ended(&platform, &crashed).await.json();
    assert_eq!((&answer["status"], &answer["attempts"]), (&json!("failed"), &json!(2)), "{answer}");
    assert_eq!(platform.get(&format!("{crashed}/result")).await.status, StatusCode::NOT_FOUND);
    for nowhere in ["0.0", "answer/9.0198", "answer/0.0198", "../x", ""] {
        let answer = platform.get(&format!("/.well-known/dunlin/requests/{nowhere}")).await;
        assert!(matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST), "{nowhere}: {answer:?}");
    }
}

/// A command gets the event's data on stdin, and what it prints is the data of what it returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn commands_read_events_and_print_their_answer() {
    let platform = Platform::start();
    platform.deploy("count", &guest("word-count"), obeying(json!({ "allow": {} })));
    let event = json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "text", "datacontenttype": "text/plain", "data": "one two three",
    });
    platform.publish("orders", &[event]).await;
    let results = platform.events_once("results", 1).await;
    assert_eq!(results[0]["type"], "count.output", "{results:?}");
    assert!(results[0]["data"].to_string().contains('3'), "{results:?}");
}

/// In a batch, the one that brings all down is found, and costs the others no attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_poisoned_batch_is_bisected() {
    let platform = Platform::start();
    for (name, component) in [("obey", "obey"), ("answer", "answer_events")] {
        let more = json!({
            "triggers": [{ "topic": { "name": "orders", "from": "beginning", "batch": { "size": 50, "wait": "200ms" } } }],
            "retry": { "attempts": 1 },
        });
        platform.deploy(name, &guest(component), obeying(more));
    }
    let mut events: Vec<_> =
        (0..100).map(|n| order(n, None, json!([{ "count": { "key": "good", "by": 1 } }]))).collect();
    events[37] = order("poison", None, json!(["trap"]));
    platform.publish("orders", &events).await;
    platform.caught_up("obey", "orders").await;
    assert_eq!(platform.state("function:obey", "good").await, 99);
    let letters = platform.admin(Method::GET, "/api/dead-letters?function=obey", Value::Null).await.json();
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1, "{letters:#}");
    assert_eq!(letters["dead_letters"][0]["event"]["id"], "poison");
    platform.caught_up("answer", "orders").await;

    let poisoned: Vec<_> = (0..50)
        .map(|n| order(format!("h{n}"), None, if n == 20 { json!({ "status": 400 }) } else { json!([]) }))
        .collect();
    platform.publish("orders", &poisoned).await;
    platform.caught_up("answer", "orders").await;
    let letters = platform.admin(Method::GET, "/api/dead-letters?function=answer", Value::Null).await.json();
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1, "{letters:#}");
    assert_eq!(letters["dead_letters"][0]["event"]["id"], "h20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn strict_order_and_wildcards() {
    let platform = Platform::start();
    let strict = json!({ "triggers": [{ "topic": { "name": "shop.*", "from": "beginning", "order": "strict" } }] });
    platform.deploy("obey", &guest("obey"), obeying(strict));
    // Both topics are there after the function is.
    platform.create_topic("shop.orders").await;
    platform.create_topic("shop.returns").await;
    platform.create_topic("shop.orders.late").await;
    for topic in ["shop.orders", "shop.returns"] {
        let mut events: Vec<_> =
            (0..50).map(|n| order(n, None, json!([{ "append": { "key": topic, "value": n } }]))).collect();
        events[10]["data"] = json!([{ "fail-until": 2 }, { "append": { "key": topic, "value": 10 } }]);
        platform.publish(topic, &events).await;
    }
    for topic in ["shop.orders", "shop.returns"] {
        platform.caught_up("obey", topic).await;
        assert_eq!(platform.state("function:obey", topic).await, json!((0..50).collect::<Vec<_>>()));
    }
    assert!(platform.consumer("obey", "shop.orders.late").await["position"].is_null());
}

/// Many runs that change the same key at once: none of their changes is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn transactions_on_one_key_are_serializable() {
    let platform = Platform::start();
    platform.deploy("obey", &guest("obey"), obeying(json!({})));
    let steps = json!([{ "add": { "key": "sum", "by": 1 } }, { "return": 1 }]);
    let events: Vec<_> = (0..2000).map(|n| order(n, None, steps.clone())).collect();
    platform.publish("orders", &events).await;
    platform.caught_up("obey", "orders").await;
    assert_eq!(platform.state("function:obey", "sum").await, 2000);
    platform.events_once("results", 2000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn manifests_that_can_not_work_are_refused() {
    let platform = Platform::start();
    let refused = |manifest: Value| {
        let folder = TempDir::new().unwrap();
        write_function(folder.path(), "obey", &guest("obey"), manifest);
        let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        String::from_utf8(output.stderr).unwrap()
    };
    let with = |topic: Value| obeying(json!({ "triggers": [{ "topic": topic }] }));
    for (manifest, parts) in [
        (with(json!({ "name": "orders", "filter": "event.type ==" })), &["filter", "line 1, column"][..]),
        (with(json!({ "name": "orders", "filter": "x".repeat(5000) })), &["4096"]),
        (with(json!({ "name": "orders", "filter": "x".repeat(1 << 20) })), &["too large for a manifest"]),
        (with(json!({ "name": "orders", "filter": "type == \"a\"" })), &["write `event.type`"]),
        (with(json!({ "name": "Orders" })), &["`Orders`"]),
        (with(json!({ "name": "orders", "from": "yesterday" })), &["yesterday"]),
        (with(json!({ "name": "results" })), &["round for ever", "obey → results → obey"]),
        (obeying(json!({ "allow": {} })), &["wasi:keyvalue", "state: true"]),
        (obeying(json!({ "retry": { "backoff": "1m..1s" } })), &["`1m..1s`"]),
    ] {
        let told = refused(manifest);
        assert!(parts.iter().all(|part| told.contains(part)), "{parts:?} in\n{told}");
    }
}

/// Killed again and again in the middle of the work: every event that was acknowledged is there, every effect happened
/// once, and the order of every key holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_two_hundred_times() {
    const KILLS: u32 = 200;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = Platform::start_in(&data, &[]);
    let retry = json!({ "retry": { "attempts": 1000, "backoff": "5ms..20ms" } });
    platform.deploy("obey", &guest("obey"), obeying(retry));
    let keys = 5;
    let mut acknowledged = vec![0_u32; keys];
    let mut next = vec![0_u32; keys];
    let mut random = Random::default();
    for _ in 0..KILLS {
        let deadline = Instant::now() + Duration::from_millis(random.below(60));
        // Few enough that the lists stay short: the guest reads and writes the whole of one for each event.
        for _ in 0..2 {
            // What was not acknowledged is published again: it may be there all the same, and counts once.
            let batch: Vec<_> = (0..keys)
                .flat_map(|key| (0..4).map(move |more| (key, more)))
                .map(|(key, more)| {
                    let n = acknowledged[key] + more;
                    let fail = if n % 17 == 3 { json!({ "fail-until": 2 }) } else { json!({ "return": 0 }) };
                    let steps = json!([
                        fail,
                        { "append": { "key": format!("k{key}"), "value": n } },
                        { "count": { "key": format!("sum{key}"), "by": n } },
                        { "return": 1 },
                    ]);
                    order(format!("{key}-{n}"), Some(&format!("k{key}")), steps)
                })
                .collect();
            next.iter_mut().zip(&acknowledged).for_each(|(next, acknowledged)| *next = acknowledged + 4);
            let request = Request::post(format!("{}/api/topics/orders/events", platform.admin))
                .header("content-type", "application/cloudevents-batch+json")
                .body(Full::new(serde_json::to_vec(&batch).unwrap().into()))
                .unwrap();
            let sent = tokio::time::timeout_at(deadline.into(), platform.try_send(request)).await;
            if let Ok(Ok(answer)) = sent {
                assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
                acknowledged.clone_from(&next);
            }
        }
        tokio::time::sleep_until(deadline.into()).await;
        platform.signal("KILL");
        platform.wait();
        platform = Platform::start_in(&data, &[]);
    }
    platform.caught_up("obey", "orders").await;
    let events = platform.events("orders").await;
    let mut returned: HashMap<String, u32> = HashMap::new();
    for event in platform.events("results").await {
        *returned.entry(event["data"]["of"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(returned.len(), events.len());
    assert!(returned.values().all(|count| *count == 1), "{returned:?}");
    let mut total = 0;
    for (key, acknowledged) in acknowledged.iter().enumerate() {
        let there: Vec<u64> = platform
            .state("function:obey", &format!("k{key}"))
            .await
            .as_array()
            .map(|list| list.iter().map(|n| n.as_u64().unwrap()).collect())
            .unwrap_or_default();
        let expected: Vec<u64> = (0..there.len() as u64).collect();
        assert_eq!(there, expected, "key {key}: in order, each once");
        assert!(there.len() >= *acknowledged as usize, "key {key}: {} of {acknowledged}", there.len());
        assert_eq!(platform.state("function:obey", &format!("sum{key}")).await, json!(expected.iter().sum::<u64>()));
        total += there.len();
    }
    assert_eq!(total, events.len());
    assert!(total > 100, "it did too little between the kills to show anything: {total} events");
}
