//! Consumers and dead letters.

use super::platform::{Platform, component, manifest};
use dunlin_events::consumers::{Commit, ConsumerName, DeadLetter, Parked, Settlement};
use http::Method;
use serde_json::{Value, json};

const CONSUMER: &str = "/api/consumers/billing/orders";

/// A platform with a function that reads a topic of ten events, and no dispatcher.
async fn reading() -> Platform {
    let platform = Platform::start().await;
    platform.topic("orders").await;
    platform.publish("orders", 0..10).await;
    let digest = platform.upload(&component("a")).await;
    let mut billing = manifest("billing", "/");
    billing["triggers"] = json!([{ "topic": { "name": "orders", "from": "beginning" } }]);
    platform.deployed(billing, digest).await;
    platform
}

fn name() -> ConsumerName {
    ConsumerName { function: "billing".parse().unwrap(), topic: "orders".parse().unwrap() }
}

impl Platform {
    /// Settles events of the consumer as a dispatcher would.
    async fn settle(&self, settled: Vec<(u64, Settlement)>) {
        let commit = Commit { consumer: name(), settled, outputs: vec![], reads: vec![], writes: vec![] };
        self.deployments.backend().consumers.commit(commit).await.unwrap();
    }

    async fn dead(&self, offset: u64) -> (u64, Settlement) {
        let event = self.get(&format!("/api/topics/orders/events/{offset}")).await.json()["event"].to_string();
        let dead = DeadLetter {
            number: 0,
            consumer: name(),
            offset,
            key: None,
            attempts: 5,
            failed_at: 1_000,
            reason: "trap".into(),
            error: "it trapped: unreachable".into(),
            event: serde_json::from_str(&event).unwrap(),
        };
        (offset, Settlement::Dead(Box::new(dead)))
    }
}

#[tokio::test]
async fn a_consumer_is_seen_and_moved() {
    let platform = reading().await;
    let summary = platform.get("/api/consumers").await.json()["consumers"][0].clone();
    let expected = json!({ "function": "billing", "topic": "orders", "position": 0, "end": 10, "lag": 10, "parked": 0, "dead": 0 });
    assert_eq!(summary, expected);

    let parked = Parked {
        offset: 1,
        key: Some("k".into()),
        attempts: 2,
        due: Some(5_000),
        failed_at: Some(1_000),
        error: "it trapped".into(),
        event: None,
    };
    let dead = platform.dead(5).await;
    platform.settle(vec![(0, Settlement::Done), (1, Settlement::Parked(Box::new(parked))), dead]).await;
    let detail = platform.get(CONSUMER).await.json();
    assert_eq!((&detail["position"], &detail["lag"]), (&json!(2), &json!(7)), "what is settled ahead is behind it");
    assert_eq!((&detail["parked"], &detail["dead"]), (&json!(1), &json!(1)));
    let waiting = &detail["waiting"][0];
    assert_eq!((&waiting["offset"], &waiting["key"], &waiting["due"]), (&json!(1), &json!("k"), &json!(5_000)));
    assert_eq!((&waiting["attempts"], &waiting["error"]), (&json!(2), &json!("it trapped")));

    let seek = async |to: Value| {
        platform.ask(Method::POST, &format!("{CONSUMER}/seek"), json!({ "to": to }).to_string()).await
    };
    let moved = seek(json!("now")).await.json();
    assert_eq!((&moved["position"], &moved["lag"], &moved["parked"]), (&json!(10), &json!(0), &json!(0)));
    assert_eq!(seek(json!({ "offset": 4 })).await.json()["lag"], 6);
    assert_eq!(seek(json!("beginning")).await.json()["position"], 0);
    assert_eq!(seek(json!({ "time": "2100-01-01T00:00:00Z" })).await.json()["position"], 10);
    for bad in [json!("end"), json!({ "offset": -1 }), json!({ "time": "noon" }), json!({})] {
        assert_eq!(seek(bad).await.problem().status, 400);
    }
    let nobody = "/api/consumers/nobody/orders";
    assert_eq!(platform.get(nobody).await.problem().status, 404);
    let refused = platform.ask(Method::POST, &format!("{nobody}/seek"), r#"{"to":"now"}"#).await.problem();
    assert_eq!(refused.status, 404);
    assert!(refused.detail.unwrap().starts_with("`nobody` is no consumer of `orders`"));
    platform.stop().await;
}

#[tokio::test]
async fn dead_letters_are_read_redriven_and_dropped() {
    let platform = reading().await;
    for offset in 0..5 {
        let dead = platform.dead(offset).await;
        platform.settle(vec![dead]).await;
    }
    let list = platform.get("/api/dead-letters?limit=2").await.json();
    let offsets = |list: &Value| -> Vec<u64> {
        let letters = list["dead_letters"].as_array().unwrap();
        letters.iter().map(|dead| dead["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!(offsets(&list), [4, 3], "newest first");
    let rest = platform.get(&format!("/api/dead-letters?function=billing&before={}", list["next"])).await.json();
    assert_eq!((offsets(&rest), &rest["next"]), (vec![2, 1, 0], &Value::Null));
    assert_eq!(offsets(&platform.get("/api/dead-letters?topic=others").await.json()), [0; 0]);
    assert_eq!(platform.get("/api/dead-letters?function=Bad").await.problem().status, 400);

    let number = list["dead_letters"][0]["number"].as_u64().unwrap();
    let one = platform.get(&format!("/api/dead-letters/{number}")).await.json();
    assert_eq!(
        (&one["consumer"]["function"], &one["reason"], &one["event"]["id"]),
        (&json!("billing"), &json!("trap"), &json!("4"))
    );
    assert_eq!(platform.get("/api/dead-letters/999").await.problem().status, 404);

    let ask = async |what: &str, body: Value| {
        platform.ask(Method::POST, &format!("/api/dead-letters/{what}"), body.to_string()).await
    };
    for what in ["redrive", "drop"] {
        assert_eq!(ask(what, json!({})).await.problem().status, 400, "nothing said is not everything");
        assert_eq!(ask(what, json!({ "number": 999 })).await.problem().status, 404);
        assert_eq!(ask(what, json!({ "number": number, "function": "other" })).await.problem().status, 400);
    }
    assert_eq!(ask("redrive", json!({ "number": number })).await.json(), json!({ "redriven": 1 }));
    let consumer = platform.get(CONSUMER).await.json();
    assert_eq!((&consumer["parked"], &consumer["dead"]), (&json!(1), &json!(4)));
    assert_eq!((&consumer["waiting"][0]["offset"], &consumer["waiting"][0]["attempts"]), (&json!(4), &json!(0)));
    assert_eq!(ask("redrive", json!({ "function": "nobody" })).await.json(), json!({ "redriven": 0 }));
    let next = list["dead_letters"][1]["number"].clone();
    assert_eq!(ask("drop", json!({ "number": next })).await.json(), json!({ "dropped": 1 }));

    // Those of a function that is gone stay until somebody drops them.
    assert_eq!(platform.ask(Method::DELETE, "/api/functions/billing", "").await.status, 204);
    let number = rest["dead_letters"][0]["number"].clone();
    let refused = ask("redrive", json!({ "number": number })).await.problem();
    assert_eq!(refused.status, 409);
    assert!(refused.detail.unwrap().contains("`billing` reads `orders` no longer"));
    assert_eq!(ask("redrive", json!({ "all": true })).await.json(), json!({ "redriven": 0 }));
    assert_eq!(ask("drop", json!({ "all": true })).await.json(), json!({ "dropped": 3 }));
    platform.stop().await;
}
