//! Publishing: the way into a topic for programs outside.
//!
//! Events come in any mode of the CloudEvents HTTP binding, or one a line. Of several each stands for itself: what is
//! wrong with one is told of that one, and those that are right are appended together, in their order, on disk before
//! the answer begins.

use super::{
    openapi::{Content, LINES, Operation},
    refusal::Refusal,
    request::{Answer, Named, Shared, json, read},
    topics::{known, not_own},
};
use crate::{
    api::{EventProblem, PublishResponse, Published},
    dispatch::MAX_EVENT,
};
use axum::{body::Body, extract::State, response::IntoResponse};
use bytes::Bytes;
use dunlin_events::{
    Event,
    event::{
        InvalidEvent,
        http::{BATCH, HttpError, Received, STRUCTURED, from_http},
    },
    topics::TopicName,
    units::ByteSize,
};
use http::{HeaderMap, StatusCode, header};

/// What one request may hold.
const BODY_LIMIT: ByteSize = ByteSize::mib(16);
/// Events of one request: they are one transaction, and others wait for it.
const MOST_EVENTS: usize = 10_000;
/// What the names of extension attributes begin with that only the platform sets.
const OWN: &str = "dunlin";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post(
            "/api/topics/{topic}/events",
            "publish",
            "Appends CloudEvents to a topic: one (in binary or structured mode), a batch, or one a line. What is answered \
             with an offset is on disk.",
            publish,
        )
        .takes(Content::raw("*/*").or::<Event>(STRUCTURED).or::<Vec<Event>>(BATCH).or::<Event>(LINES))
        .accepts(Content::json::<PublishResponse>())
        .refuses(&[400, 404, 408, 413, 415, 429, 503]),
    ]
}

async fn publish(State(app): Shared, Named(topic): Named<TopicName>, headers: HeaderMap, body: Body) -> Answer {
    not_own(&topic, "published to")?;
    let body = read(body, BODY_LIMIT.bytes(), "request").await?;
    let received = match received(&headers, body)? {
        Received::One(event) => {
            let event =
                admitted(event).map_err(|error| Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))?;
            vec![Ok(event)]
        }
        Received::Batch(events) => events.into_iter().map(|event| event.and_then(admitted)).collect(),
    };
    if received.len() > MOST_EVENTS {
        let detail = format!("{} events are more than the {MOST_EVENTS} one request may have", received.len());
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }

    let mut events = Vec::with_capacity(received.len());
    let mut answers = Vec::with_capacity(received.len());
    for (index, event) in received.into_iter().enumerate() {
        answers.push(match event {
            Ok(event) => {
                let id = event.id().to_owned();
                events.push(event);
                Ok(id)
            }
            Err(InvalidEvent { attribute, reason }) => Err(EventProblem { index, attribute, reason }),
        });
    }
    if events.is_empty() && !answers.is_empty() {
        let problems: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        let mut refusal = Refusal::new(StatusCode::BAD_REQUEST, "none of the events was taken: `events` says why");
        refusal.document.events = problems;
        return Err(refusal);
    }
    let log = &app.backend.log;
    let appended = if events.is_empty() {
        known(&app, log.topic(&topic).await.map(|_| vec![])).await?
    } else {
        known(&app, log.append(&topic, events).await).await?
    };
    let mut appended = appended.into_iter();
    let answers = answers.into_iter().map(|answer| match answer {
        Ok(id) => {
            let appended = appended.next().expect("the log answers for each event");
            Published::Taken { offset: appended.offset, id, duplicate: appended.duplicate }
        }
        Err(error) => Published::Refused { error },
    });
    Ok((StatusCode::ACCEPTED, json(&PublishResponse { events: answers.collect() })).into_response())
}

/// The events of a request, in whichever mode it is.
fn received(headers: &HeaderMap, body: Bytes) -> Result<Received, Refusal> {
    // With `ce-` headers it is one event whose data happens to be lines.
    let lines = is_lines(headers) && !headers.keys().any(|name| name.as_str().starts_with("ce-"));
    if !lines {
        return from_http(headers, body).map_err(|error| match error {
            HttpError::NotAnEvent => Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, no_event(headers)),
            error => error.into(),
        });
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(HttpError::UnsupportedEncoding(String::from_utf8_lossy(encoding.as_bytes()).into()).into());
    }
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    Ok(Received::Batch(lines.map(Event::from_json).collect()))
}

fn is_lines(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(LINES)
}

fn no_event(headers: &HeaderMap) -> String {
    let what = match headers.get(header::CONTENT_TYPE) {
        Some(content_type) => format!("`{}` without `ce-` headers", String::from_utf8_lossy(content_type.as_bytes())),
        None => "a body without content type and `ce-` headers".into(),
    };
    format!(
        "{what} is no event: send `{STRUCTURED}`, `{BATCH}` or `{LINES}`, or the data as it is with the headers \
         `ce-specversion`, `ce-id`, `ce-source` and `ce-type`"
    )
}

/// An event as it may come in from outside.
fn admitted(mut event: Event) -> Result<Event, InvalidEvent> {
    let size = event.size();
    if size > MAX_EVENT {
        let limit = ByteSize(MAX_EVENT as u64);
        let reason = format!("has {size} bytes, and may have {limit}: put what is large elsewhere and name it");
        return Err(InvalidEvent { attribute: String::new(), reason });
    }
    let own: Vec<_> =
        event.extensions().filter(|(name, _)| name.starts_with(OWN)).map(|(name, _)| name.to_owned()).collect();
    for name in own {
        event.remove_extension(&name);
    }
    Ok(event)
}
