//! What callers are told when there is no answer of the function: `application/problem+json` (RFC 9457).
//!
//! `type` is `about:blank`, so `title` is the status's own phrase; what a program should look at is `reason`. Nothing in
//! a problem comes from the guest: how it failed is for the operator, who finds it in the log by `invocation`.

use bytes::Bytes;
use dunlin_events::{Failure, InvocationId};
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde::Serialize;
use std::borrow::Cow;

/// A response in place of the function's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// A word for programs; the words are part of the API.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: Cow<'static, str>,
    /// The same request may succeed after that many seconds.
    pub retry_after: Option<u32>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: &'static str,
    invocation: &'a str,
}

impl Problem {
    pub fn new(status: StatusCode, reason: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, reason, detail: detail.into(), retry_after: None }
    }

    pub(super) fn later(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The response, which names the request's invocation whether or not a function was found to run for it.
    pub fn response(&self, invocation: InvocationId) -> Response<Full<Bytes>> {
        let invocation = invocation.to_string();
        let document = Document {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: self.reason,
            invocation: &invocation,
        };
        let body = serde_json::to_vec(&document).expect("strings and numbers can be written");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(INVOCATION, HeaderValue::from_str(&invocation).expect("a UUID is visible ASCII"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The header that names the invocation in every response.
pub(super) const INVOCATION: HeaderName = HeaderName::from_static("dunlin-invocation");

impl From<&Failure> for Problem {
    /// What a caller may know of a failure.
    fn from(failure: &Failure) -> Self {
        let problem = |status, detail: &'static str| Self::new(status, failure.reason(), detail);
        match failure {
            Failure::Busy { .. } => problem(
                StatusCode::TOO_MANY_REQUESTS,
                "the function runs as often as it may, and as many requests wait",
            )
            .later(1),
            Failure::Exhausted(_) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the platform has no room for another invocation").later(1)
            }
            Failure::Start(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the function could not be started").later(5),
            Failure::Unavailable(_) => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "the platform could not read or write the function's data")
                    .later(5)
            }
            Failure::Time { limit } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                failure.reason(),
                format!("the function ran longer than it may ({})", humantime::format_duration(*limit)),
            ),
            Failure::Cpu { limit } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                failure.reason(),
                format!("the function computed longer than it may ({})", humantime::format_duration(*limit)),
            ),
            Failure::RequestTooLarge { limit } => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                failure.reason(),
                format!("the request body is larger than the function takes ({limit})"),
            ),
            Failure::RequestBody(_) => {
                problem(StatusCode::BAD_REQUEST, "the request body could not be read to its end")
            }
            Failure::Memory { .. } => {
                problem(StatusCode::BAD_GATEWAY, "the function needed more memory than it may use")
            }
            Failure::ResponseTooLarge { .. } => {
                problem(StatusCode::BAD_GATEWAY, "the function answered with more than it may")
            }
            Failure::Trap(_) | Failure::NoAnswer | Failure::ErrorAnswer(_) | Failure::Exit { .. } => {
                problem(StatusCode::BAD_GATEWAY, "the function failed")
            }
        }
    }
}
