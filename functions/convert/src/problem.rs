//! What went wrong, as `application/problem+json` (RFC 9457).

use serde::Serialize;
use wstd::http::{Body, Error, Response, StatusCode};

#[derive(Serialize)]
pub struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    pub fn new(status: StatusCode, title: &'static str, detail: String) -> Self {
        Self { title, status: status.as_u16(), detail }
    }

    pub fn into_response(self) -> Result<Response<Body>, Error> {
        Ok(Response::builder()
            .status(self.status)
            .header("content-type", "application/problem+json")
            .body(Body::from_json(&self)?)?)
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "The answer can't be written", error.to_string())
    }
}
