//! A guest of the tests that gets events over HTTP, as any standard component would: it answers with the status and the
//! headers an event's data names, and with an event of its own where asked for one. What it is to publish it sends to
//! `$K_SINK`.

use http::{Request, Response};
use serde_json::{Value, json};

#[dunlin::http]
fn answer(request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    let said: Value = serde_json::from_slice(request.body()).unwrap_or(Value::Null);
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A batch is answered by its worst.
    let events = said.as_array().cloned().unwrap_or_default();
    let worst = events.iter().map(|event| &event["data"]).find(|data| data["status"].is_u64());
    let said = worst.unwrap_or(&said);
    let mut response = Response::builder().status(said["status"].as_u64().unwrap_or(200) as u16);
    for (name, value) in said["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap_or_default());
    }
    if said["sink"].is_object() {
        response = response.header("x-sink", sink(&said["sink"]).to_string());
    }
    let event = |id: &str| {
        json!({
            "specversion": "1.0", "id": id, "source": "/answer", "type": "answered",
            "data": {
                "type": header("ce-type"), "id": header("ce-id"), "topic": header("dunlin-topic"),
                "attempt": header("dunlin-attempt"), "batch": events.len(),
            },
        })
    };
    let body = match said["answer"].as_str() {
        Some("structured") => {
            response = response.header("content-type", "application/cloudevents+json");
            event(&format!("s-{}", header("ce-id"))).to_string()
        }
        Some("batch") => {
            response = response.header("content-type", "application/cloudevents-batch+json");
            json!([event(&format!("b1-{}", header("ce-id"))), event(&format!("b2-{}", header("ce-id")))]).to_string()
        }
        Some("binary") => {
            for (name, value) in [("ce-specversion", "1.0"), ("ce-source", "/answer"), ("ce-type", "answered")] {
                response = response.header(name, value);
            }
            response = response.header("ce-id", format!("x-{}", header("ce-id"))).header("content-type", "text/plain");
            "plain".to_owned()
        }
        _ => "no event".to_owned(),
    };
    response.body(body.into_bytes()).expect("what the tests send makes a response")
}

/// Publishes an event as any program could, and answers with the status.
#[cfg(target_family = "wasm")]
fn sink(event: &Value) -> u16 {
    use wasip2::http::{
        outgoing_handler,
        types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
    };
    let url = std::env::var("K_SINK").expect("its manifest has `publish`");
    let (authority, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("it is a URL");
    let fields = [("content-type".to_owned(), b"application/cloudevents+json".to_vec())];
    let request = OutgoingRequest::new(Fields::from_list(&fields).expect("it is a header"));
    request.set_method(&Method::Post).expect("it is a method");
    request.set_scheme(Some(&Scheme::Http)).expect("it is a scheme");
    request.set_authority(Some(authority)).expect("it is an authority");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("it is a path");
    let body = request.body().expect("nobody took it yet");
    let response = outgoing_handler::handle(request, None).expect("the host takes it");
    let stream = body.write().expect("nobody took it yet");
    stream.blocking_write_and_flush(event.to_string().as_bytes()).expect("it is small");
    drop(stream);
    OutgoingBody::finish(body, None).expect("it is whole");
    response.subscribe().block();
    let response = response.get().expect("it is ready").expect("nobody took it yet").expect("the sink answers");
    response.status()
}

#[cfg(not(target_family = "wasm"))]
fn sink(_: &Value) -> u16 {
    unreachable!("it runs on the platform only")
}
