//! `$K_SINK`: publishing without an SDK, as a CloudEvent sent by HTTP, answered by the platform itself.
//!
//! ```text
//!   POST http://sink.dunlin.internal/                 to the manifest's `publish`
//!   POST http://sink.dunlin.internal/topics/NAME      to one of `allow.publish`, or `publish`
//! ```
//!
//! 202 means what it means for the import `publish`: in a run on an event they are published when the run has succeeded,
//! and otherwise they are on disk. No such request leaves the process, and none counts as one of `limits.http_requests`.

use crate::access::Access;
use bytes::BytesMut;
use dunlin_events::{
    Event,
    effects::{Draft, EffectError},
    event::{
        InvalidEvent,
        http::{HttpError, Received, from_http},
    },
    topics::TopicName,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody};

/// The host name the sink goes by. `.internal` is no domain of the Internet's (ICANN, 2024).
pub(crate) const HOST: &str = "sink.dunlin.internal";
/// What `$K_SINK` says.
pub(crate) const URL: &str = "http://sink.dunlin.internal/";

/// Why nothing was published.
struct Refusal(StatusCode, String);

impl From<InvalidEvent> for Refusal {
    fn from(error: InvalidEvent) -> Self {
        Self(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// Publishes what a request brings. An error is one of the guest's own: its request broke off.
pub(crate) async fn answer(access: Access, request: Request<WasiBody>) -> Result<Response<WasiBody>, Error> {
    let refusal = match receive(&access, request).await? {
        Ok(()) => {
            let mut response = Response::new(body(String::new()));
            *response.status_mut() = StatusCode::ACCEPTED;
            return Ok(response);
        }
        Err(refusal) => refusal,
    };
    let Refusal(status, detail) = refusal;
    let title = status.canonical_reason().unwrap_or_default();
    let problem =
        serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(body(problem.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
        StatusCode::SERVICE_UNAVAILABLE => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    Ok(response)
}

fn body(text: String) -> WasiBody {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

async fn receive(access: &Access, request: Request<WasiBody>) -> Result<Result<(), Refusal>, Error> {
    if request.method() != Method::POST {
        return Ok(Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "events are sent with POST".into())));
    }
    let topic = match topic(access, request.uri().path()) {
        Ok(topic) => topic.clone(),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (parts, mut body) = request.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            // Counted as they come: the guest may have many such requests under way.
            if let Err(error) = access.keep(data.len()) {
                return Ok(Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())));
            }
            bytes.extend_from_slice(&data);
        }
    }
    let drafts = match from_http(&parts.headers, bytes.freeze()).map_err(not_an_event).and_then(drafts) {
        Ok(drafts) if drafts.is_empty() => return Ok(Ok(())),
        Ok(drafts) => drafts,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Err(error) = access.keep_events(drafts.len()) {
        return Ok(Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())));
    }
    let published = match access.effects() {
        Ok(effects) => effects.publish(&topic, drafts).await,
        Err(error) => Err(error),
    };
    Ok(published.map_err(|error| match error {
        EffectError::Refused(reason) => Refusal(StatusCode::BAD_REQUEST, reason),
        EffectError::Unavailable(reason) => Refusal(StatusCode::SERVICE_UNAVAILABLE, reason),
    }))
}

fn topic<'a>(access: &'a Access, path: &str) -> Result<&'a TopicName, Refusal> {
    let rights = access.rights();
    match path.strip_prefix("/topics/") {
        Some(name) => rights.topic(name),
        None if matches!(path, "/" | "") => rights.returned(),
        None => {
            let help = "events are sent to `/`, or to `/topics/NAME`";
            return Err(Refusal(StatusCode::NOT_FOUND, help.into()));
        }
    }
    .map_err(|reason| Refusal(StatusCode::FORBIDDEN, reason))
}

fn not_an_event(error: HttpError) -> Refusal {
    let status = match error {
        HttpError::NotAnEvent | HttpError::Invalid(_) => StatusCode::BAD_REQUEST,
        HttpError::UnsupportedMediaType(_) | HttpError::UnsupportedEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
    };
    Refusal(status, error.to_string())
}

/// All events that were sent, or why one of them is none: a batch is published whole or not at all.
fn drafts(received: Received) -> Result<Vec<Draft>, Refusal> {
    match received {
        Received::One(event) => Ok(vec![draft(&event)]),
        Received::Batch(events) => {
            let numbered = events.into_iter().enumerate();
            let read = numbered.map(|(index, event)| match event {
                Ok(event) => Ok(draft(&event)),
                Err(error) => {
                    Err(Refusal(StatusCode::BAD_REQUEST, format!("event {} of the batch: {error}", index + 1)))
                }
            });
            read.collect()
        }
    }
}

fn draft(event: &Event) -> Draft {
    let owned = |text: &str| text.to_owned();
    Draft {
        id: Some(event.id().to_owned()),
        source: Some(event.source().to_owned()),
        kind: event.kind().to_owned(),
        subject: event.subject().map(owned),
        time: event.time().map(owned),
        data_content_type: event.data_content_type().map(owned),
        data_schema: event.data_schema().map(owned),
        extensions: event.extensions().map(|(name, value)| (name.to_owned(), value.clone())).collect(),
        data: event.data().map(|data| data.bytes().clone()),
    }
}
