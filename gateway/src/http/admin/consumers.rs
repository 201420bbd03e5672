//! Consumers: how far each function has come in each topic, and moving one.

use super::{
    openapi::{Content, Operation},
    request::{Answer, NamedTwo, Shared, json, read_json},
};
use crate::api::{ConsumerDetail, ConsumerList, ConsumerSummary, SeekRequest};
use axum::{body::Body, extract::State};
use dunlin_events::{
    FunctionName,
    consumers::{CommitError, ConsumerName, ConsumerState, Consumers},
    topics::TopicName,
};

/// Parked events shown of one consumer.
const MOST_PARKED: usize = 100;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/consumers", "consumers", "Every consumer and how far it has come.", consumers)
            .answers(Content::json::<ConsumerList>())
            .refuses(&[503]),
        Operation::get(
            "/api/consumers/{function}/{topic}",
            "consumer",
            "One consumer with the events it has parked.",
            consumer,
        )
        .answers(Content::json::<ConsumerDetail>())
        .refuses(&[400, 404, 503]),
        Operation::post(
            "/api/consumers/{function}/{topic}/seek",
            "seek",
            "Moves a consumer: it goes on from there, and what it parked is forgotten. What runs now ends first.",
            seek,
        )
        .takes(Content::json::<SeekRequest>())
        .answers(Content::json::<ConsumerSummary>())
        .refuses(&[400, 404, 408, 409, 413, 503]),
    ]
}

async fn consumers(State(app): Shared) -> Answer {
    let consumers = app.backend.consumers.consumers().await?;
    Ok(json(&ConsumerList { consumers: consumers.into_iter().map(ConsumerSummary::from).collect() }))
}

async fn consumer(State(app): Shared, NamedTwo(function, topic): NamedTwo<FunctionName, TopicName>) -> Answer {
    let consumers = &*app.backend.consumers;
    let consumer = find(consumers, ConsumerName { function, topic }).await?;
    let waiting = consumers.parked(&consumer.name, 0, MOST_PARKED).await?;
    Ok(json(&ConsumerDetail { consumer, waiting }))
}

async fn seek(State(app): Shared, NamedTwo(function, topic): NamedTwo<FunctionName, TopicName>, body: Body) -> Answer {
    let SeekRequest { to } = read_json(body).await?;
    let name = ConsumerName { function, topic };
    app.deployments.seek(&name, to.into()).await?;
    Ok(json(&find(&*app.backend.consumers, name).await?))
}

async fn find(consumers: &dyn Consumers, name: ConsumerName) -> Result<ConsumerSummary, CommitError> {
    let consumer = consumers.consumers().await?.into_iter().find(|consumer| consumer.name == name);
    consumer.map(ConsumerSummary::from).ok_or(CommitError::NoConsumer(name))
}

impl From<ConsumerState> for ConsumerSummary {
    fn from(ConsumerState { name, progress, end, dead }: ConsumerState) -> Self {
        let lag = progress.lag(end);
        Self { name, position: progress.position, end, lag, parked: progress.parked, dead }
    }
}
