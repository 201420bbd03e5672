//! What functions printed, read and followed.

use super::{
    openapi::{Content, LINES, Operation},
    request::{Answer, Asked, Shared},
};
use crate::{
    api::{LogLine, LogQuery},
    logs::{Filter, Reader},
};
use axum::{body::Body, extract::State, response::IntoResponse};
use bytes::Bytes;
use http::header;
use std::convert::Infallible;
use tokio_util::sync::CancellationToken;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/logs",
            "logs",
            "What functions printed and the platform wrote of them, a JSON object a line.",
            logs,
        )
        .query::<LogQuery>()
        .answers(Content::lines::<LogLine>())
        .refuses(&[400]),
    ]
}

async fn logs(State(app): Shared, Asked(query): Asked<LogQuery>) -> Answer {
    let filter = Filter { function: query.function, invocation: query.invocation };
    let reader = app.deployments.logs().read(filter, query.tail);
    let lines = if query.follow {
        Body::from_stream(futures_util::stream::unfold((reader.follow(), app.stopping.clone()), following))
    } else {
        // A part at a time, so that a slow reader holds no copy of the whole log.
        Body::from_stream(futures_util::stream::iter(reader.map(|lines| Lines::Ok(text(&lines)))))
    };
    Ok(([(header::CONTENT_TYPE, LINES)], lines).into_response())
}

type Lines = Result<Bytes, Infallible>;

/// The next lines, as soon as there are some. Ends with the plane.
async fn following(
    (mut reader, stopping): (Reader, CancellationToken),
) -> Option<(Lines, (Reader, CancellationToken))> {
    loop {
        match reader.next() {
            Some(lines) if lines.is_empty() => tokio::task::yield_now().await, // none of many matched
            Some(lines) => return Some((Ok(text(&lines)), (reader, stopping))),
            None => stopping.run_until_cancelled(reader.ready()).await?,
        }
    }
}

fn text(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("a log line has text for keys");
        text.push(b'\n');
    }
    text.into()
}
