//! Requests that are answered later: `Prefer: respond-async` (RFC 7240, 4.1), and the address where the answer will be.
//!
//! | request | answer |
//! | --- | --- |
//! | any, with `Prefer: respond-async` | 202 once it is on disk, with `Location` |
//! | `GET` there | `{"status": "pending"}` with 202 and `Retry-After`, `{"status": "done", "code": 200, "result": …}`, or `{"status": "failed", "reason": …}` |
//! | `GET` there, with `/result` added | the function's answer as it was; 404 while there is none |
//!
//! Addresses are kept for a day.

use crate::{
    active::ActiveFunction,
    deploy::Deployments,
    dispatch::requests::{self, MAX_BODY, PATH, Status},
    http::{
        call::{self, Answer, CallContext},
        data::Tables,
        problem::Problem,
        whole::{Room, Unread, read},
    },
};
use bytes::Bytes;
use dunlin_events::{Failure, InvocationId, topics::LogError};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use serde_json::json;
use std::sync::Arc;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Whether the caller would rather be answered later.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split([',', ';']));
    preferences.any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}

/// Keeps a request.
pub(super) async fn accept<B>(
    deployments: &Deployments,
    function: &Arc<ActiveFunction>,
    request: Request<B>,
    context: CallContext,
    room: &Arc<Room>,
) -> Response<Answer>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    let id = context.id;
    let (mut head, body) = request.into_parts();
    head.headers.remove(PREFER);
    let marked = call::prepared(&mut head, &context);
    let limit = function.version.manifest.limits.request_body.bytes().min(MAX_BODY);
    let kept = match read(body, limit, room).await {
        Ok((body, _held)) => {
            requests::accept(deployments.backend(), function.name(), id, &head, &body).await.map_err(problem)
        }
        Err(Unread::TooLarge) => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request-too-large",
            format!("the request body is larger than is kept for later ({limit} bytes)"),
        )),
        Err(Unread::NoRoom) => Err(problem(LogError::Busy(String::new()))),
        Err(Unread::Broken(failure)) => Err(Problem::from(&failure)),
    };
    let mut response = match kept {
        Ok((address, new)) => {
            if new {
                deployments.topics_changed();
            }
            let mut response = json(StatusCode::ACCEPTED, &json!({ "status": "pending", "location": address }));
            let location = HeaderValue::try_from(address).expect("names and numbers are visible ASCII");
            response.headers_mut().insert(header::LOCATION, location);
            response.headers_mut().insert(APPLIED, HeaderValue::from_static("respond-async"));
            response
        }
        Err(problem) => problem.response(id).map(Answer::Own),
    };
    marked.write(response.headers_mut());
    response
}

fn problem(error: LogError) -> Problem {
    let text = "the request can't be kept now";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        if matches!(error, LogError::Busy(_)) { "busy" } else { "unavailable" },
        text,
    )
    .later(1)
}

/// What has become of an earlier request.
pub(super) async fn status<B>(tables: &dyn Tables, request: &Request<B>, id: InvocationId) -> Response<Answer> {
    let refused = |status, reason, text: &'static str| Problem::new(status, reason, text).response(id).map(Answer::Own);
    let path = request.uri().path();
    let Some((deployments, address)) = tables.deployments().zip(path.strip_prefix(PATH)) else {
        return refused(StatusCode::NOT_FOUND, "not-found", "there is no such request");
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response =
            refused(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "an answer can be read, nothing else");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (address, whole) = match address.strip_suffix("/result") {
        Some(address) => (address, true),
        None => (address, false),
    };
    match requests::status(deployments.backend(), address).await {
        Ok(Status::Unknown) => refused(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is no such request, or it was answered more than a day ago",
        ),
        Ok(Status::Done(response)) if whole => response.map(|body| Answer::Own(Full::new(body))),
        Ok(_) if whole => refused(StatusCode::NOT_FOUND, "pending", "there is no answer yet"),
        Ok(Status::Pending) => {
            let mut response = json(StatusCode::ACCEPTED, &json!({ "status": "pending" }));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Ok(Status::Done(response)) => {
            let result = format!("{PATH}{address}/result");
            json(StatusCode::OK, &json!({ "status": "done", "code": response.status().as_u16(), "result": result }))
        }
        Ok(Status::Failed { reason, attempts }) => {
            json(StatusCode::OK, &json!({ "status": "failed", "reason": reason, "attempts": attempts }))
        }
        Err(error) => {
            tracing::warn!(%error, "a request's answer can't be read");
            refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the answer can't be read now")
        }
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Answer> {
    let mut response = Response::new(Answer::Own(Full::new(Bytes::from(value.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
