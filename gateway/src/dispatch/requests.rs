//! Requests that are answered later (`Prefer: respond-async`, RFC 7240): kept as events, run like any other, their answers
//! kept for a day.
//!
//! ```text
//!   request ──▶ event in `dunlin.requests.NAME` ──▶ 202, Location: /.well-known/dunlin/requests/NAME/OFFSET.ID
//!                          │
//!                          ▼
//!                lane ──▶ the request as it came ──▶ the answer, in the bucket `shared:dunlin-requests` under ID,
//!                                                    in one commit with all else the function did
//! ```
//!
//! Whoever knows the address may read the answer: the id in it can't be guessed.

use crate::backend::Backend;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use dunlin_events::{
    Event, FunctionName, InvocationId,
    consumers::DeadLetter,
    event::Data,
    state::{Bucket, Key, StateError},
    topics::{LogError, Offset, Retention, TopicName},
    units::millis,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The type of the events.
pub(super) const REQUEST: &str = "dunlin.request";
/// What their topics' names begin with; the function's name follows.
const TOPIC: &str = "dunlin.requests.";
/// Where answers are read.
pub(crate) const PATH: &str = "/.well-known/dunlin/requests/";
/// The largest body of a request that is answered later: as text it must fit in an event.
pub(crate) const MAX_BODY: u64 = 700 << 10;
/// The largest body of an answer that is kept.
const MAX_ANSWER: usize = 700 << 10;
/// How long requests and answers are kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The topic of a function's requests.
pub(super) fn topic(function: &FunctionName) -> TopicName {
    format!("{TOPIC}{function}").parse().expect("a function's name is a part of a topic's")
}

/// Whose requests a topic holds.
pub(super) fn function_of(topic: &TopicName) -> Option<&str> {
    topic.as_str().strip_prefix(TOPIC)
}

fn key(id: &str) -> Option<Key> {
    let bucket = Bucket::Shared("dunlin-requests".parse().expect("it is a bucket's name"));
    Key::new(bucket, id).ok()
}

/// A request as its event holds it.
#[derive(Serialize, Deserialize)]
struct Kept {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
    /// In base64.
    body: String,
}

/// What became of a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "status")]
enum Ended {
    Done { code: u16, headers: Vec<(String, String)>, body: String },
    Failed { reason: String, attempts: u32 },
}

fn texts(headers: &http::HeaderMap) -> Vec<(String, String)> {
    // A value that is not text can't be in JSON; none of those that matter is.
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    headers.iter().filter_map(text).collect()
}

/// Keeps a request, and answers with the address its answer will be at.
pub(crate) async fn accept(
    backend: &Backend,
    function: &FunctionName,
    id: InvocationId,
    head: &request::Parts,
    body: &[u8],
) -> Result<(String, bool), LogError> {
    let kept = Kept {
        method: head.method.to_string(),
        uri: head.uri.to_string(),
        headers: texts(&head.headers),
        body: STANDARD.encode(body),
    };
    let mut event =
        Event::new(id.to_string(), format!("/functions/{function}"), REQUEST).expect("names make attributes");
    let data = serde_json::to_vec(&kept).expect("texts can be written");
    event.set_data(Some("application/json"), data.into()).expect("it is JSON");
    let topic = topic(function);
    let (appended, new) = match backend.log.append(&topic, vec![event.clone()]).await {
        Err(LogError::NoTopic(_)) => {
            backend.log.create(vec![topic.clone()]).await?;
            backend.log.retain(&topic, Retention { age: Some(KEPT), ..Retention::default() }).await?;
            (backend.log.append(&topic, vec![event]).await?, true)
        }
        appended => (appended?, false),
    };
    Ok((format!("{PATH}{function}/{}.{id}", appended[0].offset), new))
}

/// The request an event holds. `None` for an event that is no request: its topic takes others by mistake only.
pub(super) fn request(event: &Event) -> Option<Request<dunlin_events::Body>> {
    let kept: Kept = serde_json::from_slice(event.data().map(Data::bytes)?).ok()?;
    let mut request = Request::builder().method(Method::from_bytes(kept.method.as_bytes()).ok()?);
    request = request.uri(kept.uri.parse::<Uri>().ok()?);
    for (name, value) in kept.headers {
        request = request.header(name, value);
    }
    let body = Bytes::from(STANDARD.decode(kept.body).ok()?);
    request.body(Full::new(body).map_err(|never| match never {}).boxed_unsync()).ok()
}

/// An answer, to be kept in the request's transaction.
pub(super) fn answered(event: &Event, response: &Response<Bytes>) -> Option<(Key, Option<Bytes>)> {
    let (status, headers, body) = (response.status(), response.headers(), response.body());
    let ended = if body.len() > MAX_ANSWER {
        Ended::Failed { reason: "response-too-large".into(), attempts: 1 }
    } else {
        Ended::Done { code: status.as_u16(), headers: texts(headers), body: STANDARD.encode(body) }
    };
    entry(event.id(), &ended)
}

/// That there is no answer and will be none.
pub(super) fn failed(letter: &DeadLetter) -> Option<(Key, Option<Bytes>)> {
    if letter.event.kind() != REQUEST || function_of(&letter.consumer.topic).is_none() {
        return None;
    }
    entry(letter.event.id(), &Ended::Failed { reason: letter.reason.clone(), attempts: letter.attempts })
}

fn entry(id: &str, ended: &Ended) -> Option<(Key, Option<Bytes>)> {
    Some((key(id)?, Some(serde_json::to_vec(ended).expect("texts can be written").into())))
}

/// What is known of a request.
pub(crate) enum Status {
    /// There is none at this address, or no longer.
    Unknown,
    Pending,
    Done(Response<Bytes>),
    Failed {
        reason: String,
        attempts: u32,
    },
}

/// What has become of the request at an address, given without [`PATH`].
pub(crate) async fn status(backend: &Backend, address: &str) -> Result<Status, String> {
    let Some((name, rest)) = address.split_once('/') else { return Ok(Status::Unknown) };
    let Some((offset, id)) = rest.split_once('.') else { return Ok(Status::Unknown) };
    let (Ok(name), Ok(offset), Some(key)) = (name.parse::<FunctionName>(), offset.parse::<Offset>(), key(id)) else {
        return Ok(Status::Unknown);
    };
    let entry = backend.state.get(vec![key]).await.map_err(|error| error.to_string())?.remove(0);
    if let Some(entry) = entry {
        return Ok(read(&entry.value).unwrap_or(Status::Unknown));
    }
    let page = match backend.log.read(&topic(&name), offset, 1, 1).await {
        Ok(page) => page,
        Err(LogError::NoTopic(_)) => return Ok(Status::Unknown),
        Err(error) => return Err(error.to_string()),
    };
    let there = page.events.iter().any(|stored| stored.offset == offset && stored.event.id() == id);
    Ok(if there { Status::Pending } else { Status::Unknown })
}

fn read(ended: &[u8]) -> Option<Status> {
    match serde_json::from_slice(ended).ok()? {
        Ended::Failed { reason, attempts } => Some(Status::Failed { reason, attempts }),
        Ended::Done { code, headers, body } => {
            let mut response = Response::builder().status(StatusCode::from_u16(code).ok()?);
            for (name, value) in headers.into_iter().filter(|(name, _)| name != header::CONTENT_LENGTH.as_str()) {
                response = response.header(name, value);
            }
            Some(Status::Done(response.body(STANDARD.decode(body).ok()?.into()).ok()?))
        }
    }
}

/// Drops the answers that were kept for long enough. Their ids are in the order of time.
pub(super) async fn tidy(backend: &Backend, now: u64) -> Result<(), StateError> {
    const PIECE: usize = 500;
    let Some(Key { bucket, .. }) = key("any") else { return Ok(()) };
    let before = now.saturating_sub(millis(KEPT));
    loop {
        let keys = backend.state.keys(&bucket, "", None, PIECE).await?;
        let old: Vec<_> = keys.iter().filter(|id| made_at(id).is_none_or(|time| time < before)).collect();
        if old.is_empty() {
            return Ok(());
        }
        let full = old.len() == PIECE;
        let writes = old.into_iter().filter_map(|id| Some((Key::new(bucket.clone(), id).ok()?, None)));
        backend.state.apply(Vec::new(), writes.collect()).await?;
        if !full {
            return Ok(());
        }
    }
}

/// When an id was made, in milliseconds since the Unix epoch (RFC 9562, 5.7).
fn made_at(id: &str) -> Option<u64> {
    let digits: String = id.chars().filter(|c| *c != '-').take(12).collect();
    u64::from_str_radix(&digits, 16).ok()
}
