//! What the operations share: how path, query and body of a request are read, and how JSON is answered.

use super::{App, refusal::Refusal};
use axum::{
    body::{Body, HttpBody},
    extract::{FromRequestParts, Query, RawPathParams, State},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use dunlin_events::units::ByteSize;
use http::{StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt::Display, str::FromStr, sync::Arc, time::Duration};

/// What a small JSON request may hold.
const SMALL_LIMIT: u64 = 64 << 10;
/// How long a body may stand still.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) const JSON: &str = "application/json";

pub(super) type Shared = State<Arc<App>>;
pub(super) type Answer = Result<Response, Refusal>;

pub(super) fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, detail)
}

/// The path's first parameter, read as what it names.
pub(super) struct Named<T>(pub(super) T);

/// The path's first two parameters, read as what they name.
pub(super) struct NamedTwo<A, B>(pub(super) A, pub(super) B);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        parameter(&parameters(parts, state).await?, 0).map(Self)
    }
}

impl<S: Send + Sync, A: FromStr<Err: Display>, B: FromStr<Err: Display>> FromRequestParts<S> for NamedTwo<A, B> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let parameters = parameters(parts, state).await?;
        Ok(Self(parameter(&parameters, 0)?, parameter(&parameters, 1)?))
    }
}

async fn parameters<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Refusal> {
    RawPathParams::from_request_parts(parts, state).await.map_err(|error| bad(error.body_text()))
}

fn parameter<T: FromStr<Err: Display>>(parameters: &RawPathParams, index: usize) -> Result<T, Refusal> {
    let (name, text) = parameters.iter().nth(index).expect("its routes have as many parameters");
    text.parse().map_err(|error: T::Err| {
        let reason = error.to_string();
        // Names say what they are when they are wrong; a number only says that it is none.
        bad(if reason.contains(text) { reason } else { format!("`{text}` is no {name}: {reason}") })
    })
}

/// What stands behind the `?`.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| bad(error.body_text()))
    }
}

/// Reads a body that may hold so many bytes. What is larger is refused as soon as that is known: before the first byte,
/// when its length was declared.
pub(super) async fn read(mut body: Body, limit: u64, what: &str) -> Result<Bytes, Refusal> {
    let too_large = || {
        let limit = ByteSize(limit);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the {what} is larger than the platform takes ({limit})"))
    };
    let declared = body.size_hint().lower();
    if declared > limit {
        return Err(too_large());
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(declared).map_err(|_| too_large())?);
    loop {
        let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await.map_err(|_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the {what} did not come on for {BODY_TIMEOUT:?}"))
        })?;
        match frame {
            None => return Ok(bytes.freeze()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (bytes.len() + data.len()) as u64 > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
            Some(Err(error)) => return Err(bad(format!("the {what} broke off: {error}"))),
        }
    }
}

/// Reads a small JSON request.
pub(super) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    parse(&read(body, SMALL_LIMIT, "request").await?)
}

/// Reads a small JSON request that may be left out.
pub(super) async fn read_json_or_nothing<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refusal> {
    let bytes = read(body, SMALL_LIMIT, "request").await?;
    if bytes.is_empty() { Ok(T::default()) } else { parse(&bytes) }
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| bad(format!("the request is not what it should be: {error}")))
}

pub(super) fn json<T: Serialize>(value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("the API's types have text for keys");
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}
