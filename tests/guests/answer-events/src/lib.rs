//! A guest of the tests that gets events over HTTP, as any standard component would: it answers with the status and the
//! headers an event's data names, and with an event of its own where asked for one.

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
