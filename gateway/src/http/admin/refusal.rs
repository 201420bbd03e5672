//! What the admin API answers when it doesn't do what it was asked: every error of the platform's mapped to a status.

use crate::{
    api::{EventProblem, ProblemDocument},
    deploy::{DeployError, RemoveError, RollbackError, StageError},
};
use axum::response::{IntoResponse, Response};
use dunlin_events::{
    consumers::CommitError,
    event::{InvalidEvent, http::HttpError},
    registry::RegistryError,
    runtime::CompileError,
    state::StateError,
    topics::{LogError, TopicName},
};
use http::{HeaderValue, StatusCode, header};
use std::io;

/// A problem document on its way out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) document: Box<ProblemDocument>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            document: Box::new(ProblemDocument {
                kind: "about:blank".into(),
                title: status.canonical_reason().unwrap_or_default().into(),
                status: status.as_u16(),
                detail: Some(detail.into()),
                invocation: None,
                reason: None,
                errors: Vec::new(),
                events: Vec::new(),
            }),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.document.status).expect("it was made from a status");
        let body = serde_json::to_vec(&self.document).expect("a problem document has text for keys");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let (name, value) = match status {
            StatusCode::UNAUTHORIZED => (header::WWW_AUTHENTICATE, "Bearer"),
            StatusCode::TOO_MANY_REQUESTS => (header::RETRY_AFTER, "1"),
            StatusCode::SERVICE_UNAVAILABLE => (header::RETRY_AFTER, "5"),
            _ => return response,
        };
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        let status = match error {
            RegistryError::NoFunction(_) | RegistryError::NoVersion { .. } => StatusCode::NOT_FOUND,
            RegistryError::NoEarlier { .. } => StatusCode::CONFLICT,
            RegistryError::Twice(_) | RegistryError::NoComponent(_) => StatusCode::UNPROCESSABLE_ENTITY,
            RegistryError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<StageError> for Refusal {
    fn from(error: StageError) -> Self {
        let status = match &error {
            StageError::Digest { .. } => StatusCode::BAD_REQUEST,
            StageError::Compile(error) => compile(error),
            StageError::Storage(error) => storage(error),
        };
        Self::new(status, error.to_string())
    }
}

impl From<DeployError> for Refusal {
    fn from(error: DeployError) -> Self {
        let detail = error.to_string();
        match error {
            DeployError::Problems(errors) => {
                let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
                refusal.document.errors = errors;
                refusal
            }
            DeployError::Registry(error) => error.into(),
            DeployError::Compile(error) => Self::new(compile(&error), detail),
            DeployError::Storage(error) => Self::new(storage(&error), detail),
        }
    }
}

impl From<RollbackError> for Refusal {
    fn from(error: RollbackError) -> Self {
        let detail = error.to_string();
        match error {
            RollbackError::Problems(errors) => {
                let mut refusal = Self::new(StatusCode::CONFLICT, detail);
                refusal.document.errors = errors;
                refusal
            }
            RollbackError::Registry(error) => error.into(),
            RollbackError::Compile(error) => Self::new(compile(&error), detail),
        }
    }
}

impl From<RemoveError> for Refusal {
    fn from(error: RemoveError) -> Self {
        let detail = error.to_string();
        match error {
            RemoveError::Registry(error) => error.into(),
            RemoveError::Upstream { .. } => Self::new(StatusCode::BAD_GATEWAY, detail),
        }
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::NoTopic(topic) => no_topic(&topic),
            LogError::Busy(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, detail),
            LogError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}

impl From<CommitError> for Refusal {
    fn from(error: CommitError) -> Self {
        let detail = error.to_string();
        match error {
            CommitError::NoTopic(topic) => no_topic(&topic),
            CommitError::NoConsumer(_) => {
                Self::new(StatusCode::NOT_FOUND, format!("{detail}; `/api/consumers` lists those there are"))
            }
            CommitError::Conflict { .. } | CommitError::Settled { .. } => Self::new(StatusCode::CONFLICT, detail),
            CommitError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        let status = match error {
            StateError::Conflict { .. } => StatusCode::PRECONDITION_FAILED,
            StateError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<HttpError> for Refusal {
    fn from(error: HttpError) -> Self {
        let detail = error.to_string();
        match error {
            HttpError::NotAnEvent | HttpError::UnsupportedMediaType(_) | HttpError::UnsupportedEncoding(_) => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            }
            HttpError::Invalid(invalid) => invalid.into(),
        }
    }
}

impl From<InvalidEvent> for Refusal {
    fn from(invalid: InvalidEvent) -> Self {
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, invalid.to_string());
        refusal.document.events = vec![EventProblem { index: 0, attribute: invalid.attribute, reason: invalid.reason }];
        refusal
    }
}

fn no_topic(topic: &TopicName) -> Refusal {
    let detail = format!("there is no topic `{topic}`; create it with `dunlin topics create {topic}`");
    Refusal::new(StatusCode::NOT_FOUND, detail)
}

fn compile(error: &CompileError) -> StatusCode {
    match error {
        CompileError::NotWasm { .. }
        | CompileError::Invalid { .. }
        | CompileError::Precompiled
        | CompileError::NoStart { .. }
        | CompileError::OtherWorld { .. }
        | CompileError::Import { .. }
        | CompileError::Export { .. }
        | CompileError::TooDemanding { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        CompileError::Cache(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn storage(error: &io::Error) -> StatusCode {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
