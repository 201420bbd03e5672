//! What the admin API answers when it doesn't do what it was asked: every error of the platform's mapped to a status.

use crate::{
    api::ProblemDocument,
    deploy::{DeployError, RollbackError, StageError},
};
use axum::response::{IntoResponse, Response};
use dunlin_events::{registry::RegistryError, runtime::CompileError};
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

fn compile(error: &CompileError) -> StatusCode {
    match error {
        CompileError::NotWasm { .. }
        | CompileError::Invalid { .. }
        | CompileError::Precompiled
        | CompileError::NoStart { .. }
        | CompileError::OtherWorld { .. }
        | CompileError::Import { .. }
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
