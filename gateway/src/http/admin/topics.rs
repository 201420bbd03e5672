//! Topics: making them, how long they keep their events, and taking them away.

use super::{
    App,
    openapi::{Content, Operation},
    refusal::Refusal,
    request::{Answer, Asked, Named, Shared, bad, json, read_json, read_json_or_nothing},
};
use crate::api::{RemoveTopicQuery, TopicList, TopicSettings, TrimRequest};
use axum::{body::Body, extract::State};
use dunlin_events::{
    FunctionName, similar,
    topics::{LogError, Retention, Topic, TopicName},
    units::ByteSize,
};
use http::StatusCode;

/// What the names of the platform's own topics begin with.
const OWN: &str = "dunlin.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/topics", "topics", "Every topic, by name.", topics)
            .answers(Content::json::<TopicList>())
            .refuses(&[503]),
        Operation::get("/api/topics/{topic}", "topic", "A topic and what it holds.", topic)
            .answers(Content::json::<Topic>())
            .refuses(&[400, 404, 503]),
        Operation::put(
            "/api/topics/{topic}",
            "set-topic",
            "Creates a topic, or changes how long one keeps its events.",
            set,
        )
        .takes(Content::json::<TopicSettings>().optional())
        .answers(Content::json::<Topic>())
        .refuses(&[400, 408, 413, 429, 503]),
        Operation::delete(
            "/api/topics/{topic}",
            "remove-topic",
            "Removes a topic with its events and consumers. 409 while deployed functions read it or publish to it.",
            remove,
        )
        .query::<RemoveTopicQuery>()
        .refuses(&[400, 404, 409, 429, 503]),
        Operation::post(
            "/api/topics/{topic}/trim",
            "trim-topic",
            "Drops the oldest events of a topic. Stops at what a consumer has yet to settle, unless `force` is set.",
            trim,
        )
        .takes(Content::json::<TrimRequest>())
        .answers(Content::json::<Topic>())
        .refuses(&[400, 404, 408, 409, 413, 429, 503]),
    ]
}

async fn topics(State(app): Shared) -> Answer {
    Ok(json(&TopicList { topics: app.backend.log.topics().await? }))
}

async fn topic(State(app): Shared, Named(name): Named<TopicName>) -> Answer {
    Ok(json(&known(&app, app.backend.log.topic(&name).await).await?))
}

async fn set(State(app): Shared, Named(name): Named<TopicName>, body: Body) -> Answer {
    let TopicSettings { retention } = read_json_or_nothing(body).await?;
    if let Some(Retention { age, size, count }) = &retention {
        let nothing = age.is_some_and(|age| age.is_zero()) || *size == Some(ByteSize(0)) || *count == Some(0);
        if nothing {
            return Err(bad(format!("a retention of 0 would keep no event of `{name}`: leave out what has no limit")));
        }
    }
    let log = &app.backend.log;
    let topic = match log.topic(&name).await {
        Err(LogError::NoTopic(_)) => {
            not_own(&name, "created")?;
            log.create(vec![name.clone()]).await?;
            app.deployments.topics_changed();
            log.topic(&name).await?
        }
        found => found?,
    };
    match retention {
        Some(retention) if retention != topic.retention => {
            let topic = log.retain(&name, retention).await?;
            app.deployments.limits_set().notify_one();
            Ok(json(&topic))
        }
        _ => Ok(json(&topic)),
    }
}

async fn remove(
    State(app): Shared,
    Named(name): Named<TopicName>,
    Asked(query): Asked<RemoveTopicQuery>,
) -> Result<StatusCode, Refusal> {
    not_own(&name, "removed")?;
    let users = users(&app, &name);
    if !users.is_empty() && !query.force {
        let names: Vec<_> = users.iter().map(|function| format!("`{function}`")).collect();
        let detail = format!(
            "the topic `{name}` is read or published to by {}: remove what names it first, or ask with `?force=true`",
            names.join(", ")
        );
        return Err(Refusal::new(StatusCode::CONFLICT, detail));
    }
    known(&app, app.backend.log.remove(&name).await).await?;
    app.deployments.topics_changed();
    Ok(StatusCode::NO_CONTENT)
}

async fn trim(State(app): Shared, Named(name): Named<TopicName>, body: Body) -> Answer {
    let TrimRequest { before, force } = read_json(body).await?;
    let log = &app.backend.log;
    let topic = known(&app, log.topic(&name).await).await?;
    log.trim(&name, before.min(topic.end), force).await?;
    Ok(json(&log.topic(&name).await?))
}

/// The deployed functions that name a topic, or read it by a pattern.
fn users(app: &App, topic: &TopicName) -> Vec<FunctionName> {
    let table = app.deployments.table();
    let uses = table.functions.values().filter(|function| {
        let manifest = &function.version.manifest;
        manifest.topics().any(|named| named == *topic)
            || manifest.subscriptions().iter().any(|(_, trigger)| trigger.name.matches(topic))
    });
    uses.map(|function| function.name().clone()).collect()
}

/// Refuses to do to a topic of the platform's own what only the platform may.
pub(super) fn not_own(topic: &TopicName, done: &str) -> Result<(), Refusal> {
    if !topic.as_str().starts_with(OWN) {
        return Ok(());
    }
    let detail = format!("`{topic}` can't be {done}: topics whose names begin with `{OWN}` are the platform's own");
    Err(Refusal::new(StatusCode::FORBIDDEN, detail))
}

/// The answer of the log; where the topic isn't there, with the one that may have been meant.
pub(super) async fn known<T>(app: &App, answer: Result<T, LogError>) -> Result<T, Refusal> {
    let name = match answer {
        Err(LogError::NoTopic(name)) => name,
        answer => return Ok(answer?),
    };
    let topics = app.backend.log.topics().await?;
    match similar(name.as_str(), topics.iter().map(|topic| topic.name.as_str())) {
        Some(meant) => {
            let detail = format!(
                "there is no topic `{name}`; did you mean `{meant}`? if not, create it with `dunlin topics create {name}`"
            );
            Err(Refusal::new(StatusCode::NOT_FOUND, detail))
        }
        None => Err(LogError::NoTopic(name).into()),
    }
}
