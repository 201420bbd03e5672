//! Topics, and the ways into and out of them.

use super::platform::{Answer, Platform, component, manifest};
use futures_util::StreamExt;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};

const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const EVENTS: &str = "/api/topics/orders/events";

pub(crate) fn event(id: &str) -> Value {
    json!({ "specversion": "1.0", "id": id, "source": "/shop", "type": "order.created", "data": { "n": id } })
}

impl Platform {
    /// Makes a topic, which must succeed.
    pub(crate) async fn topic(&self, name: &str) {
        let answer = self.ask(Method::PUT, &format!("/api/topics/{name}"), "").await;
        assert_eq!(answer.json()["name"], name, "{answer:?}");
    }

    /// Publishes events with these ids, which must succeed, and answers their offsets.
    pub(crate) async fn publish(&self, topic: &str, ids: impl IntoIterator<Item = impl ToString>) -> Vec<u64> {
        let events: Vec<_> = ids.into_iter().map(|id| event(&id.to_string())).collect();
        let path = format!("/api/topics/{topic}/events");
        let body = serde_json::to_vec(&events).unwrap();
        let answer = self.ask_with(Method::POST, &path, &[("content-type", BATCH)], body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        let events = answer.json()["events"].clone();
        events.as_array().unwrap().iter().map(|event| event["offset"].as_u64().unwrap()).collect()
    }

    async fn post(&self, content_type: &str, body: impl ToString) -> Answer {
        self.ask_with(Method::POST, EVENTS, &[("content-type", content_type)], body.to_string()).await
    }
}

#[tokio::test]
async fn events_come_in_every_mode() {
    let platform = Platform::start().await;
    platform.topic("orders").await;
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/shop"),
        ("ce-type", "order.created"),
        ("ce-partitionkey", "a%20b"),
        ("ce-dunlindepth", "7"),
        ("content-type", "text/plain"),
    ];
    let answer = platform.ask_with(Method::POST, EVENTS, &binary, "the data").await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), json!({ "events": [{ "offset": 0, "id": "1", "duplicate": false }] }));
    let answer = platform.post(STRUCTURED, event("2")).await.json();
    assert_eq!(answer, json!({ "events": [{ "offset": 1, "id": "2", "duplicate": false }] }));
    // The topic has the second already; the fourth is none.
    let answer = platform.post(BATCH, json!([event("3"), event("2"), { "id": "4" }, event("5")])).await;
    assert_eq!(answer.status, 202);
    let events = answer.json()["events"].clone();
    assert_eq!(events[0], json!({ "offset": 2, "id": "3", "duplicate": false }));
    assert_eq!(events[1], json!({ "offset": 1, "id": "2", "duplicate": true }));
    assert_eq!((&events[2]["error"]["index"], &events[2]["error"]["attribute"]), (&json!(2), &json!("specversion")));
    assert_eq!(events[3]["offset"], 3);
    let lines = format!("{}\r\n\n  {}\nno JSON\n", event("6"), event("7"));
    let answer = platform.post("application/x-ndjson; charset=utf-8", lines).await.json();
    assert_eq!((&answer["events"][0]["offset"], &answer["events"][1]["offset"]), (&json!(4), &json!(5)));
    assert_eq!(answer["events"][2]["error"]["index"], 2);
    assert_eq!(platform.post(BATCH, "[]").await.json(), json!({ "events": [] }));
    // With `ce-` headers a body of lines is the data of one event.
    let lines = [&binary[..1], &[("ce-id", "8")], &binary[2..4], &[("content-type", "application/x-ndjson")]].concat();
    assert_eq!(platform.ask_with(Method::POST, EVENTS, &lines, "1\n2\n").await.json()["events"][0]["offset"], 6);

    let page = platform.get(EVENTS).await.json();
    assert_eq!((&page["first"], &page["end"], &page["next"]), (&json!(0), &json!(7), &json!(7)));
    let ids: Vec<_> = page["events"].as_array().unwrap().iter().map(|record| record["event"]["id"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3", "5", "6", "7", "8"]);
    let first = &page["events"][0];
    assert!(first["appended_at"].as_u64() > Some(1_700_000_000_000));
    assert_eq!((&first["event"]["data"], &first["event"]["partitionkey"]), (&json!("the data"), &json!("a b")));
    assert_eq!(first["event"]["dunlindepth"], Value::Null, "what the platform counts with is not for others to set");
    assert_eq!(page["events"][1]["event"]["data"], json!({ "n": "2" }));
    assert_eq!(page["events"][6]["event"]["data"], "1\n2\n");

    let page = platform.get(&format!("{EVENTS}?from=2&limit=2")).await.json();
    assert_eq!((&page["events"][1]["offset"], &page["next"]), (&json!(3), &json!(4)));
    let page = platform.get(&format!("{EVENTS}?last=1")).await.json();
    assert_eq!((&page["events"][0]["offset"], &page["events"][1]), (&json!(6), &Value::Null));
    let page = platform.get(&format!("{EVENTS}?since=2020-01-01T00:00:00Z&limit=1")).await.json();
    assert_eq!(page["events"][0]["offset"], 0);
    let page = platform.get(&format!("{EVENTS}?since=2100-01-01T00:00:00Z")).await.json();
    assert_eq!((&page["events"], &page["next"]), (&json!([]), &json!(7)));
    assert_eq!(platform.get(&format!("{EVENTS}?from=1&last=1")).await.problem().status, 400);
    assert_eq!(platform.get(&format!("{EVENTS}?since=yesterday")).await.problem().status, 400);

    let batch = platform.ask_with(Method::GET, &format!("{EVENTS}?from=5"), &[("accept", BATCH)], "").await;
    assert_eq!(batch.headers["content-type"], BATCH);
    let batch = batch.json();
    assert_eq!((&batch[0]["id"], &batch[0]["dunlinoffset"]), (&json!("7"), &json!("5")));
    assert!(batch[0]["dunlinappended"].as_str().unwrap().ends_with('Z'));
    // What was read so can be published as it is, to another topic.
    platform.topic("copies").await;
    let copied = [("content-type", BATCH)];
    let answer = platform.ask_with(Method::POST, "/api/topics/copies/events", &copied, batch.to_string()).await;
    assert_eq!(answer.json()["events"][0]["offset"], 0, "{answer:?}");
    let one = platform.get("/api/topics/copies/events/0").await.json();
    assert_eq!((&one["event"]["id"], &one["event"]["dunlinoffset"]), (&json!("7"), &Value::Null));
    assert_eq!(platform.ask_with(Method::GET, EVENTS, &[("accept", "image/png")], "").await.problem().status, 406);
    platform.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_published_events_is_told() {
    let platform = Platform::start().await;
    platform.topic("orders").await;
    let problem =
        platform.post(STRUCTURED, json!({ "specversion": "1.0", "id": "", "source": "/s", "type": "t" })).await;
    assert_eq!(problem.status, 400);
    let problem = problem.problem();
    assert_eq!((problem.events[0].index, problem.events[0].attribute.as_str()), (0, "id"));
    assert!(problem.detail.unwrap().starts_with("`id` is empty"));

    let problem = platform.post(BATCH, json!([{ "specversion": "1.0" }, 5])).await.problem();
    assert_eq!(problem.status, 400);
    assert_eq!(problem.events.iter().map(|event| event.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(platform.post(BATCH, "{}").await.problem().status, 400);

    for (content_type, body) in
        [("application/json", "{}"), ("text/plain", "text"), ("application/cloudevents+xml", "<a/>")]
    {
        let problem = platform.post(content_type, body).await.problem();
        assert_eq!(problem.status, 415);
        let detail = problem.detail.unwrap();
        assert!(detail.contains(STRUCTURED) && detail.contains(BATCH) && detail.contains("`ce-"), "{detail}");
    }
    let zipped = [("content-type", STRUCTURED), ("content-encoding", "gzip")];
    assert_eq!(platform.ask_with(Method::POST, EVENTS, &zipped, "x").await.problem().status, 415);

    let mut large = event("large");
    large["data"] = "x".repeat(1 << 20).into();
    let problem = platform.post(STRUCTURED, &large).await.problem();
    assert_eq!(problem.status, 413);
    assert!(problem.detail.unwrap().contains("may have 1MiB"));
    let answer = platform.post(BATCH, json!([large, event("small")])).await.json();
    assert!(answer["events"][0]["error"]["reason"].as_str().unwrap().contains("may have 1MiB"));
    assert_eq!(answer["events"][1]["offset"], 0, "one that is too large doesn't spoil the others");
    let many: Vec<_> = (0..10_001).map(|n| event(&n.to_string())).collect();
    assert_eq!(platform.post(BATCH, Value::from(many)).await.problem().status, 413);
    assert_eq!(platform.post(STRUCTURED, " ".repeat((16 << 20) + 1)).await.problem().status, 413);
    assert_eq!(platform.get("/api/topics/orders").await.json()["end"], 1, "nothing else was taken");

    let path = "/api/topics/oders/events";
    let problem = platform.ask_with(Method::POST, path, &[("content-type", STRUCTURED)], event("1").to_string()).await;
    let problem = problem.problem();
    assert_eq!(problem.status, 404);
    let detail = problem.detail.unwrap();
    assert!(detail.contains("did you mean `orders`?") && detail.contains("`dunlin topics create oders`"), "{detail}");
    let path = "/api/topics/dunlin.audit/events";
    let problem = platform.ask_with(Method::POST, path, &[("content-type", STRUCTURED)], event("1").to_string()).await;
    assert_eq!(problem.problem().status, 403);
    assert_eq!(platform.get("/api/topics/Bad..Name").await.problem().status, 400);
    platform.stop().await;
}

#[tokio::test]
async fn a_topic_is_followed_until_the_plane_stops() {
    let platform = Platform::start().await;
    platform.topic("orders").await;
    platform.publish("orders", 0..3).await;
    let follow = async |query: &str, last: Option<&str>| {
        let request = platform.request(Method::GET, &format!("{EVENTS}{query}")).header("accept", "text/event-stream");
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let response = platform.send(request.body(Empty::new().boxed()).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body().into_data_stream()
    };
    let mut now = follow("", None).await;
    let mut last = follow("?last=1", None).await;
    let mut resumed = follow("?from=0", Some("0")).await;
    platform.publish("orders", ["3"]).await;
    let ids = async |stream: &mut http_body_util::BodyDataStream<hyper::body::Incoming>, wanted: usize| {
        let mut text = String::new();
        while text.matches("\n\n").count() < wanted {
            text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
        }
        let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect();
        (ids, text)
    };
    let (seen, text) = ids(&mut now, 1).await;
    assert_eq!(seen, ["3"]);
    assert!(text.starts_with("id: 3\nevent: order.created\ndata: {\"dunlinoffset\":\"3\","), "{text}");
    assert_eq!(ids(&mut last, 2).await.0, ["2", "3"]);
    assert_eq!(ids(&mut resumed, 3).await.0, ["1", "2", "3"]);

    // Line breaks of the data don't end the message.
    let broken = "{\"specversion\":\"1.0\",\"id\":\"x\",\"source\":\"/s\",\"type\":\"t\",\"data\":{\r\n\n\"a\":1}}";
    assert_eq!(platform.post(STRUCTURED, broken).await.status, 202);
    let (_, text) = ids(&mut now, 1).await;
    let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(serde_json::from_str::<Value>(&data.join("\n")).unwrap()["data"], json!({ "a": 1 }));

    let mut enough = follow("?from=1&limit=2", None).await;
    assert_eq!(ids(&mut enough, 2).await.0, ["1", "2"]);
    assert!(enough.next().await.is_none());
    let request = Request::get(format!("http://{}{EVENTS}", platform.address)).header("accept", "text/event-stream");
    let request = request.header("last-event-id", "x").body(Empty::new().boxed()).unwrap();
    assert_eq!(platform.send(request).await.status(), 400);

    platform.topic("gone").await;
    let request = platform.request(Method::GET, "/api/topics/gone/events").header("accept", "text/event-stream");
    let mut gone = platform.send(request.body(Empty::new().boxed()).unwrap()).await.into_body().into_data_stream();
    assert_eq!(platform.ask(Method::DELETE, "/api/topics/gone", "").await.status, 204);
    assert!(gone.next().await.is_none(), "a stream ends with its topic");
    platform.shut_down();
    assert!(now.next().await.is_none(), "the stream ends in good order");
    platform.stop().await;
}

#[tokio::test]
async fn topics_are_made_changed_trimmed_and_removed() {
    let platform = Platform::start().await;
    let put = async |name: &str, body: Value| {
        platform.ask(Method::PUT, &format!("/api/topics/{name}"), body.to_string()).await
    };
    let topic = put("orders", json!({ "retention": { "age": "7d", "size": "10GiB" } })).await.json();
    assert_eq!(topic["retention"], json!({ "age": "7days", "size": "10GiB" }));
    platform.topic("orders").await;
    assert_eq!(platform.get("/api/topics/orders").await.json()["retention"], topic["retention"], "it stays as it is");
    assert_eq!(put("orders", json!({ "retention": { "count": 5 } })).await.json()["retention"], json!({ "count": 5 }));
    assert_eq!(put("orders", json!({ "retention": {} })).await.json()["retention"], json!({}));
    for bad in [json!({ "retention": { "count": 0 } }), json!({ "retention": { "age": "a while" } }), json!({ "x": 1 })]
    {
        assert_eq!(put("orders", bad).await.problem().status, 400);
    }
    assert_eq!(put("dunlin.own", json!({})).await.problem().status, 403);

    platform.publish("orders", 0..10).await;
    let digest = platform.upload(&component("a")).await;
    let mut reader = manifest("reader", "/reader");
    reader["triggers"] = json!([{ "topic": { "name": "ord*", "from": "beginning" } }]);
    assert_eq!(platform.deploy(&[(reader.clone(), digest)]).await.status, 422, "no such pattern");
    reader["triggers"][0]["topic"]["name"] = "orders".into();
    assert_eq!(platform.deployed(reader, digest).await, 1);

    let trim = async |body: Value| platform.ask(Method::POST, "/api/topics/orders/trim", body.to_string()).await;
    assert_eq!(trim(json!({ "before": 4 })).await.json()["first"], 0, "the reader has yet to come to them");
    assert_eq!(trim(json!({ "before": 4, "force": true })).await.json()["first"], 4);
    let gone = platform.get(&format!("{EVENTS}/3")).await.problem();
    assert_eq!(
        (gone.status, gone.detail.as_deref()),
        (404, Some("`orders` has event 3 no longer: its first one is 4"))
    );
    assert_eq!(platform.get(&format!("{EVENTS}/10")).await.problem().status, 404);
    assert_eq!(platform.get(&format!("{EVENTS}/x")).await.problem().status, 400);
    assert_eq!(platform.get(&format!("{EVENTS}?from=0&limit=1")).await.json()["events"][0]["offset"], 4);
    assert_eq!(trim(json!({ "before": 1000, "force": true })).await.json()["first"], 10);

    let refused = platform.ask(Method::DELETE, "/api/topics/orders", "").await.problem();
    assert_eq!(refused.status, 409);
    assert!(refused.detail.unwrap().contains("by `reader`"));
    assert_eq!(platform.ask(Method::DELETE, "/api/topics/orders?force=true", "").await.status, 204);
    platform.topic("other").await;
    let names: Vec<_> = platform.get("/api/topics").await.json()["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["name"].clone())
        .collect();
    assert_eq!(names, ["other"]);
    assert_eq!(platform.ask(Method::DELETE, "/api/topics/orders", "").await.problem().status, 409);
    assert_eq!(platform.ask(Method::DELETE, "/api/topics/othe", "").await.problem().status, 404);
    platform.stop().await;
}
