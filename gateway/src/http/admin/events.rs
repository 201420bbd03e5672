//! Reading a topic: a page of it, one event, or all that comes from now on.
//!
//! A page is ours (`application/json`, with what the topic knows of each event) or a batch any CloudEvents library reads.
//! A follower gets server-sent events, so that a browser can be one, and one that lost its connection goes on where it was.
//! Where events leave as CloudEvents, their place in the topic is in two extension attributes: `dunlinoffset`, and
//! `dunlinappended` for the time.

use super::{
    App,
    openapi::{Content, Operation},
    refusal::Refusal,
    request::{Answer, Asked, JSON, Named, NamedTwo, Shared, bad, json},
    topics::known,
};
use crate::api::{EventPage, EventQuery, EventRecord};
use axum::{body::Body, extract::State, response::IntoResponse};
use bytes::Bytes;
use dunlin_events::{
    Event,
    event::http::BATCH,
    topics::{EventLog, LogError, Offset, Page, StoredEvent, Topic, TopicName},
    units::epoch_millis,
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio_util::sync::CancellationToken;

/// Events of a page when nobody says how many.
const SOME: usize = 100;
/// Events of a page at most.
const MOST: usize = 10_000;
/// Where a page ends whatever its limit: it is held in memory more than once.
const PAGE_BYTES: usize = 8 << 20;
/// What a follower gets at a time.
const PIECE: usize = 500;
const PIECE_BYTES: usize = 1 << 20;
/// A follower hears something this often, so that proxies don't take the connection for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
const STREAM: &str = "text/event-stream";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/topics/{topic}/events",
            "events",
            "Reads a topic from some place on. `Accept` chooses the form; as `text/event-stream` it is followed, from now \
             on unless the query or `Last-Event-ID` says otherwise.",
            events,
        )
        .query::<EventQuery>()
        .answers(Content::json::<EventPage>().or::<Vec<Event>>(BATCH).or_raw(STREAM))
        .refuses(&[400, 404, 406, 503]),
        Operation::get("/api/topics/{topic}/events/{offset}", "event", "One event of a topic.", event)
            .answers(Content::json::<EventRecord>())
            .refuses(&[400, 404, 503]),
    ]
}

/// What a reader wants to be answered with.
#[derive(Clone, Copy)]
enum Form {
    Page,
    Batch,
    Stream,
}

async fn events(
    State(app): Shared,
    Named(name): Named<TopicName>,
    Asked(query): Asked<EventQuery>,
    headers: HeaderMap,
) -> Answer {
    let form = form(&headers)?;
    let topic = known(&app, app.backend.log.topic(&name).await).await?;
    let from = position(&app, &topic, &query).await?;
    if let Form::Stream = form {
        let resumed = headers.get(LAST_EVENT_ID).map(|id| {
            let id = id.to_str().ok().and_then(|id| id.trim().parse::<Offset>().ok());
            id.ok_or_else(|| bad("`Last-Event-ID` is no offset: send the `id` of the last event that came"))
        });
        let follower = Follower {
            log: Arc::clone(&app.backend.log),
            topic: name,
            next: resumed.transpose()?.map(|last| last.saturating_add(1)).or(from).unwrap_or(topic.end),
            left: query.limit.unwrap_or(usize::MAX),
            stopping: app.stopping.clone(),
        };
        let body = Body::from_stream(futures_util::stream::unfold(follower, following));
        return Ok(([(header::CONTENT_TYPE, STREAM), (header::CACHE_CONTROL, "no-store")], body).into_response());
    }
    let limit = query.limit.unwrap_or(SOME).min(MOST);
    let page = page(&*app.backend.log, &name, from.unwrap_or(topic.first), limit, PAGE_BYTES).await?;
    Ok(match form {
        Form::Batch => ([(header::CONTENT_TYPE, BATCH)], batch(&page.events)).into_response(),
        _ => json(&EventPage {
            events: page.events.into_iter().map(EventRecord::from).collect(),
            first: page.first,
            end: page.end,
            next: page.next,
        }),
    })
}

async fn event(State(app): Shared, NamedTwo(name, offset): NamedTwo<TopicName, Offset>) -> Answer {
    let log = &app.backend.log;
    let topic = known(&app, log.topic(&name).await).await?;
    let gone = |detail: String| Refusal::new(StatusCode::NOT_FOUND, detail);
    if offset >= topic.end {
        return Err(gone(format!("`{name}` has no event {offset} yet: the next one will be {}", topic.end)));
    }
    let page = log.read(&name, offset, 1, PIECE_BYTES).await?;
    match page.events.into_iter().next().filter(|event| event.offset == offset) {
        Some(event) => Ok(json(&EventRecord::from(event))),
        None => Err(gone(format!("`{name}` has event {offset} no longer: its first one is {}", page.first))),
    }
}

impl From<StoredEvent> for EventRecord {
    fn from(StoredEvent { offset, appended_at, event }: StoredEvent) -> Self {
        Self { offset, appended_at, event }
    }
}

/// The form that `Accept` asks for: the first that is one of ours.
fn form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let mut ranges = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .peekable();
    if ranges.peek().is_none() {
        return Ok(Form::Page);
    }
    let form = ranges.find_map(|range| match range.as_str() {
        JSON | "application/*" | "*/*" => Some(Form::Page),
        BATCH => Some(Form::Batch),
        STREAM | "text/*" => Some(Form::Stream),
        _ => None,
    });
    form.ok_or_else(|| {
        let detail = format!("events come as `{JSON}`, `{BATCH}` or `{STREAM}`, and `Accept` names none of these");
        Refusal::new(StatusCode::NOT_ACCEPTABLE, detail)
    })
}

/// Where to begin, if the query says it.
async fn position(app: &App, topic: &Topic, query: &EventQuery) -> Result<Option<Offset>, Refusal> {
    match (query.from, query.last, &query.since) {
        (None, None, None) => Ok(None),
        (Some(from), None, None) => Ok(Some(from)),
        (None, Some(last), None) => Ok(Some(topic.end.saturating_sub(last).max(topic.first))),
        (None, None, Some(text)) => {
            let time = humantime::parse_rfc3339_weak(text).map_err(|_| {
                bad(format!("`since` is `{text}`, which is no time: write it in UTC, as `2026-01-01T00:00:00Z`"))
            })?;
            Ok(Some(app.backend.log.offset_at(&topic.name, epoch_millis(time)).await?))
        }
        _ => Err(bad("`from`, `last` and `since` each say where to begin: give one of them")),
    }
}

/// Reads a page that isn't empty for the reason alone that the topic was trimmed meanwhile.
async fn page(
    log: &dyn EventLog,
    topic: &TopicName,
    mut from: Offset,
    events: usize,
    bytes: usize,
) -> Result<Page, LogError> {
    loop {
        let page = log.read(topic, from, events, bytes).await?;
        if !page.events.is_empty() || page.next <= from || events == 0 {
            return Ok(page);
        }
        from = page.next;
    }
}

/// Somebody who gets what is appended.
struct Follower {
    log: Arc<dyn EventLog>,
    topic: TopicName,
    next: Offset,
    /// Events until it has enough.
    left: usize,
    stopping: CancellationToken,
}

impl Follower {
    /// The next events, or a sign of life when there are none for a while. `None` when it has enough.
    async fn piece(&mut self) -> Result<Option<Bytes>, LogError> {
        while self.left > 0 {
            let page = page(&*self.log, &self.topic, self.next, self.left.min(PIECE), PIECE_BYTES).await?;
            if !page.events.is_empty() {
                self.left -= page.events.len();
                self.next = page.next;
                return Ok(Some(messages(&page.events)));
            }
            match tokio::time::timeout(HEARTBEAT, self.log.appended(&self.topic, self.next)).await {
                Ok(appended) => appended?,
                Err(_) => return Ok(Some(Bytes::from_static(b":\n\n"))),
            }
        }
        Ok(None)
    }
}

/// What a follower gets next. Ends with the plane, with the topic, and when the log can't be read; whoever comes again
/// with the last `id` has missed nothing.
async fn following(mut follower: Follower) -> Option<(Result<Bytes, Infallible>, Follower)> {
    let stopping = follower.stopping.clone();
    match stopping.run_until_cancelled(follower.piece()).await? {
        Ok(piece) => piece.map(|piece| (Ok(piece), follower)),
        Err(error) => {
            tracing::debug!(%error, topic = %follower.topic, "a follower is let go");
            None
        }
    }
}

/// Events as server-sent ones (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
fn messages(events: &[StoredEvent]) -> Bytes {
    let mut text = Vec::new();
    for event in events {
        text.extend_from_slice(format!("id: {}\nevent: {}\n", event.offset, event.event.kind()).as_bytes());
        // JSON data keeps its line breaks, all of them between two tokens; here one would end the field.
        let json = placed(event);
        for line in json.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
            text.extend_from_slice(b"data: ");
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.push(b'\n');
    }
    text.into()
}

fn batch(events: &[StoredEvent]) -> Vec<u8> {
    let mut json = vec![b'['];
    for event in events {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(&placed(event));
    }
    json.push(b']');
    json
}

/// The JSON of an event with its place.
// Written, not set: an event may have as many attributes as it can hold.
fn placed(stored: &StoredEvent) -> Vec<u8> {
    let mut event = stored.event.clone();
    event.remove_extension("dunlinoffset");
    event.remove_extension("dunlinappended");
    let appended = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(stored.appended_at));
    let mut json = format!("{{\"dunlinoffset\":\"{}\",\"dunlinappended\":\"{appended}\",", stored.offset).into_bytes();
    json.extend_from_slice(&event.to_json()[1..]);
    json
}
