//! Events for functions that know HTTP, and commands: a CloudEvent in a request, and what the response says of it.
//!
//! | response | means |
//! | --- | --- |
//! | 2xx | taken; a CloudEvent in it (binary, structured or batch) is what the function returns |
//! | 404, 408, 409, 429, 5xx | try again; `Retry-After` counts |
//! | any other | never: the dead letters |
//!
//! This is how Knative has it, so that a component written for it behaves the same here. A command gets the request as any
//! other; what it prints is what it returns: CloudEvents in JSON, or the data of one event.

use super::lane::Mistake;
use crate::active::ActiveFunction;
use bytes::Bytes;
use dunlin_events::{
    Body, Event, Failure, Invocation, Shape,
    effects::{Delivery, Draft, Outcome},
    event::{
        Data,
        http::{BATCH, HttpError, Received, from_http, is_event, to_http},
        json::{batch_from_json, batch_to_json},
    },
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use std::time::{Duration, SystemTime};

const TOPIC: HeaderName = HeaderName::from_static("dunlin-topic");
const OFFSET: HeaderName = HeaderName::from_static("dunlin-offset");
const ATTEMPT: HeaderName = HeaderName::from_static("dunlin-attempt");
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// Calls a function with events: one, or several as a batch. Events of a batch are taken or not taken together. What one
/// stands for that is too large to be in it comes as its body.
pub(super) async fn deliver(
    function: &ActiveFunction,
    deliveries: &[Delivery],
    content: Option<(u64, Body)>,
    invocation: Invocation,
) -> Result<Result<Vec<Outcome>, Mistake>, Failure> {
    let request = request(deliveries, content);
    let (head, body) = function.handle.invoke(request, invocation).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let command = function.version.component.shape == Shape::Command;
    Ok(read(&Response::from_parts(head, body), command, function).map(|drafts| {
        // What a batch returns is the first's: they are taken together.
        let mut outcomes = vec![Outcome::Done(drafts)];
        outcomes.resize_with(deliveries.len(), || Outcome::Done(Vec::new()));
        outcomes
    }))
}

fn request(deliveries: &[Delivery], content: Option<(u64, Body)>) -> Request<Body> {
    let (mut headers, body) = match deliveries {
        [delivery] => to_http(&delivery.event),
        _ => {
            let body = batch_to_json(deliveries.iter().map(|delivery| &*delivery.event));
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(BATCH));
            (headers, body.into())
        }
    };
    if let Some(first) = deliveries.first() {
        headers.insert(TOPIC, HeaderValue::from_str(first.topic.as_str()).expect("a topic's name is visible ASCII"));
        headers.insert(OFFSET, first.offset.into());
        headers.insert(ATTEMPT, first.attempt.into());
        for name in [TRACEPARENT, TRACESTATE] {
            if let Some(value) = first.event.attribute(name).and_then(|value| HeaderValue::from_str(&value).ok()) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    let (length, body) =
        content.unwrap_or_else(|| (body.len() as u64, Full::new(body).map_err(|never| match never {}).boxed_unsync()));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::HOST, HeaderValue::from_static("functions.dunlin.internal"));
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static("http://functions.dunlin.internal/");
    *request.headers_mut() = headers;
    request
}

/// What a response says.
fn read(response: &Response<Bytes>, command: bool, function: &ActiveFunction) -> Result<Vec<Draft>, Mistake> {
    let status = response.status();
    if status.is_success() {
        let drafts =
            if command { printed(response.body(), function) } else { returned(response.headers(), response.body()) };
        return drafts.map_err(|error| Mistake { reason: "output", error, crash: false, last: false, after: None });
    }
    let again = status.is_server_error()
        || matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS
        );
    let after = response.headers().get(header::RETRY_AFTER).and_then(retry_after);
    // What it says of the reason helps whoever reads the dead letters.
    let text: String = String::from_utf8_lossy(response.body()).chars().take(1000).collect();
    let error = if text.is_empty() { format!("it answered {status}") } else { format!("it answered {status}: {text}") };
    Err(Mistake { reason: "status", error, crash: false, last: !again, after })
}

/// Seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).unwrap_or_default()),
    }
}

/// The events in a response. One that is no event returns none.
fn returned(headers: &HeaderMap, body: &Bytes) -> Result<Vec<Draft>, String> {
    if !is_event(headers) {
        return Ok(Vec::new());
    }
    match from_http(headers, body.clone()) {
        Ok(Received::One(event)) => Ok(vec![draft(event)]),
        Ok(Received::Batch(events)) => events
            .into_iter()
            .map(|event| event.map(draft).map_err(|error| format!("an event it returned is not valid: {error}")))
            .collect(),
        Err(HttpError::NotAnEvent) => Ok(Vec::new()),
        Err(error) => Err(format!("the event it returned is not valid: {error}")),
    }
}

/// The events a command printed.
fn printed(body: &Bytes, function: &ActiveFunction) -> Result<Vec<Draft>, String> {
    let text = body.trim_ascii();
    if text.is_empty() || function.version.manifest.publish.is_none() {
        return Ok(Vec::new());
    }
    let json = serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let events = match text[0] {
        b'[' if json => batch_from_json(text).ok().filter(|events| events.iter().any(Result::is_ok)),
        b'{' if json && names_specversion(text) => Some(vec![Event::from_json(text)]),
        _ => None,
    };
    if let Some(events) = events {
        let invalid = |error| format!("an event it printed is not valid: {error}");
        return events.into_iter().map(|event| event.map(draft).map_err(invalid)).collect();
    }
    Ok(vec![Draft {
        kind: format!("{}.output", function.name()),
        data_content_type: Some(if json { "application/json" } else { "text/plain; charset=utf-8" }.to_owned()),
        data: Some(body.clone()),
        ..Draft::default()
    }])
}

fn names_specversion(json: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Probe {
        specversion: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(json).is_ok_and(|probe| probe.specversion.is_some())
}

/// A whole event as one a function makes.
fn draft(event: Event) -> Draft {
    Draft {
        id: Some(event.id().to_owned()),
        source: Some(event.source().to_owned()),
        kind: event.kind().to_owned(),
        subject: event.subject().map(str::to_owned),
        time: event.time().map(str::to_owned),
        data_content_type: event.data_content_type().map(str::to_owned),
        data_schema: event.data_schema().map(str::to_owned),
        extensions: event.extensions().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        data: event.data().map(Data::bytes).cloned(),
    }
}
