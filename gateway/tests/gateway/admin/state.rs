//! State.

use super::platform::Platform;
use http::Method;
use serde_json::json;

const KEY: &str = "/api/state/shared:carts/customer/12%20%C3%A4";

#[tokio::test]
async fn values_are_kept_as_they_are_and_changed_on_condition() {
    let platform = Platform::start().await;
    let put = async |headers: &[(&str, &str)], value: &[u8]| {
        platform.ask_with(Method::PUT, KEY, headers, value.to_vec()).await.status.as_u16()
    };
    assert_eq!(platform.get(KEY).await.problem().detail.unwrap(), "`shared:carts/customer/12 ä` holds nothing");
    assert_eq!(put(&[("if-match", "*")], b"no").await, 412);
    assert_eq!(put(&[("if-none-match", "*")], b"\0first").await, 204);
    assert_eq!(put(&[("if-none-match", "*")], b"no").await, 412);
    let first = platform.get(KEY).await;
    assert_eq!(&first.body[..], b"\0first");
    assert_eq!(first.headers["content-type"], "application/octet-stream");
    assert_eq!(first.headers["content-security-policy"], "sandbox");
    let tag = first.headers["etag"].to_str().unwrap();
    assert_eq!(put(&[("if-match", tag)], b"second").await, 204);
    assert_eq!(put(&[("if-match", tag)], b"no").await, 412);
    assert_eq!(put(&[("if-match", "7")], b"no").await, 400);
    assert_eq!(put(&[], b"").await, 204);
    let third = platform.get(KEY).await;
    assert_eq!((third.status.as_u16(), &third.body[..]), (200, &b""[..]), "an empty value is a value");
    let either = format!("{tag}, {}", third.headers["etag"].to_str().unwrap());
    assert_eq!(put(&[("if-match", &either)], b"fourth").await, 204);

    let delete =
        async |headers: &[(&str, &str)]| platform.ask_with(Method::DELETE, KEY, headers, "").await.status.as_u16();
    assert_eq!(delete(&[("if-match", tag)]).await, 412);
    assert_eq!(delete(&[]).await, 204);
    assert_eq!(delete(&[]).await, 404);
    assert_eq!(put(&[("if-match", tag)], b"no").await, 412, "a key that was written again is another one");

    let large = vec![0; (1 << 20) + 1];
    assert_eq!(platform.ask(Method::PUT, KEY, large).await.problem().status, 413);
    let long = format!("/api/state/shared:carts/{}", "x".repeat(1025));
    assert_eq!(platform.ask(Method::PUT, &long, "x").await.problem().status, 400);
    let wrong = platform.get("/api/state/carts/x").await.problem();
    assert_eq!(wrong.status, 400);
    assert!(wrong.detail.unwrap().contains("`shared:NAME`"));
    platform.stop().await;
}

#[tokio::test]
async fn buckets_are_listed_and_cleared() {
    let platform = Platform::start().await;
    for key in ["a/1", "a/2", "a/3", "b"] {
        let path = format!("/api/state/function:counter/{key}");
        assert_eq!(platform.ask(Method::PUT, &path, "12345").await.status, 204);
    }
    let buckets = platform.get("/api/state").await.json();
    assert_eq!(buckets, json!({ "buckets": [{ "bucket": "function:counter", "keys": 4, "bytes": 30 }] }));
    let bucket = "/api/state/function:counter";
    let keys = platform.get(&format!("{bucket}?prefix=a/&limit=2")).await.json();
    assert_eq!(keys, json!({ "keys": ["a/1", "a/2"], "next": "a/2" }));
    let keys = platform.get(&format!("{bucket}?prefix=a/&limit=2&after=a/2")).await.json();
    assert_eq!(keys, json!({ "keys": ["a/3"] }));
    assert_eq!(platform.get("/api/state/shared:none").await.json(), json!({ "keys": [] }));
    assert_eq!(platform.get(&format!("{bucket}?x=1")).await.problem().status, 400);
    assert_eq!(platform.ask(Method::DELETE, bucket, "").await.json(), json!({ "cleared": 4 }));
    assert_eq!(platform.get("/api/state").await.json(), json!({ "buckets": [] }));
    platform.stop().await;
}
