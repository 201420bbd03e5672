//! Dead letters: looking at what functions could not be brought to take, giving it to them again, and dropping it.

use super::{
    App,
    openapi::{Content, Operation},
    refusal::Refusal,
    request::{Answer, Asked, Named, Shared, bad, json, read_json},
};
use crate::api::{DeadLetterList, DeadLetterQuery, DeadLetterSelection, Dropped, Redriven};
use axum::{body::Body, extract::State};
use dunlin_events::{
    consumers::{DeadLetter, DeadLetterFilter},
    units::now_millis,
};
use http::StatusCode;

/// Dead letters of an answer when nobody says how many.
const SOME: usize = 100;
/// Dead letters of an answer at most.
const MOST: usize = 1_000;
/// Dead letters read at a time, and where an answer ends whatever its limit: each may hold an event of 1 MiB.
const PIECE: usize = 16;
const PAGE_BYTES: usize = 8 << 20;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/dead-letters",
            "dead-letters",
            "Events functions have given up, newest first.",
            dead_letters,
        )
        .query::<DeadLetterQuery>()
        .answers(Content::json::<DeadLetterList>())
        .refuses(&[400, 503]),
        Operation::get("/api/dead-letters/{number}", "dead-letter", "One dead letter in full.", dead_letter)
            .answers(Content::json::<DeadLetter>())
            .refuses(&[400, 404, 503]),
        Operation::post(
            "/api/dead-letters/redrive",
            "redrive",
            "Gives dead letters to their functions again. Those whose consumer is gone stay.",
            redrive,
        )
        .takes(Content::json::<DeadLetterSelection>())
        .answers(Content::json::<Redriven>())
        .refuses(&[400, 404, 408, 409, 413, 503]),
        Operation::post("/api/dead-letters/drop", "drop", "Drops dead letters for good.", drop_them)
            .takes(Content::json::<DeadLetterSelection>())
            .answers(Content::json::<Dropped>())
            .refuses(&[400, 404, 408, 413, 503]),
    ]
}

async fn dead_letters(State(app): Shared, Asked(query): Asked<DeadLetterQuery>) -> Answer {
    let limit = query.limit.unwrap_or(SOME).min(MOST);
    let filter = DeadLetterFilter { function: query.function, topic: query.topic, number: None };
    let (mut dead_letters, mut before, mut bytes) = (Vec::new(), query.before, 0);
    let next = loop {
        let wanted = PIECE.min(limit - dead_letters.len());
        if wanted == 0 || bytes > PAGE_BYTES {
            break before;
        }
        let piece = app.backend.consumers.dead_letters(filter.clone(), before, wanted).await?;
        let last = piece.len() < wanted;
        before = piece.last().map(|dead| dead.number).or(before);
        bytes += piece.iter().map(size).sum::<usize>();
        dead_letters.extend(piece);
        if last {
            break None;
        }
    };
    Ok(json(&DeadLetterList { dead_letters, next }))
}

fn size(dead: &DeadLetter) -> usize {
    dead.event.size() + dead.error.len()
}

async fn dead_letter(State(app): Shared, Named(number): Named<u64>) -> Answer {
    Ok(json(&find(&app, number).await?))
}

async fn find(app: &App, number: u64) -> Result<DeadLetter, Refusal> {
    let filter = DeadLetterFilter { number: Some(number), ..DeadLetterFilter::default() };
    let found = app.backend.consumers.dead_letters(filter, None, 1).await?;
    found.into_iter().next().ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            format!("there is no dead letter {number}: it was redriven or dropped, or never was"),
        )
    })
}

async fn redrive(State(app): Shared, body: Body) -> Answer {
    let filter = selected(&app, read_json(body).await?).await?;
    let number = filter.number;
    let redriven = {
        let app = app.clone();
        // Also when the client goes away: what is given back has to be run.
        let redriving = tokio::spawn(async move {
            let result = app.backend.consumers.redrive(filter, now_millis()).await;
            let given: Vec<_> = match &result {
                Ok((consumers, _)) => consumers.clone(),
                // It may have come to some of them.
                Err(_) => app.backend.consumers.consumers().await?.into_iter().map(|consumer| consumer.name).collect(),
            };
            given.iter().for_each(|consumer| app.deployments.wake(consumer));
            result.map(|(_, redriven)| redriven)
        });
        redriving.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?
    };
    match number {
        Some(number) if redriven == 0 => {
            let consumer = find(&app, number).await?.consumer;
            let detail = format!(
                "dead letter {number} stays: `{}` reads `{}` no longer. deploy it with that trigger, or drop the dead letter",
                consumer.function, consumer.topic
            );
            Err(Refusal::new(StatusCode::CONFLICT, detail))
        }
        _ => Ok(json(&Redriven { redriven })),
    }
}

async fn drop_them(State(app): Shared, body: Body) -> Answer {
    let filter = selected(&app, read_json(body).await?).await?;
    Ok(json(&Dropped { dropped: app.backend.consumers.drop_dead_letters(filter).await? }))
}

/// Which dead letters are meant. One that is meant by its number has to be there, and to be what else is said of it.
async fn selected(app: &App, selection: DeadLetterSelection) -> Result<DeadLetterFilter, Refusal> {
    let DeadLetterSelection { function, topic, number, all } = selection;
    if function.is_none() && topic.is_none() && number.is_none() && !all {
        return Err(bad("say which dead letters: a `function`, a `topic`, a `number`, or `all`"));
    }
    if let Some(number) = number {
        let consumer = find(app, number).await?.consumer;
        let other = function.as_ref().is_some_and(|function| *function != consumer.function)
            || topic.as_ref().is_some_and(|topic| *topic != consumer.topic);
        if other {
            let (function, topic) = (consumer.function, consumer.topic);
            return Err(bad(format!("dead letter {number} is one of `{function}` and the topic `{topic}`")));
        }
    }
    Ok(DeadLetterFilter { function, topic, number })
}
