//! What can be asked of the admin plane: the list, which the router and the OpenAPI document are made of.

use super::{
    App, consumers, dead_letters, events,
    functions::{self, invoke},
    logs,
    openapi::{Content, Operation},
    publish,
    request::{JSON, Shared, json},
    state, topics, triggers,
};
use crate::{api::Health, metrics};
use axum::{Router, extract::State, response::Response, routing::any};
use http::header;
use std::sync::Arc;

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every operation.
pub(super) fn all() -> Vec<Operation> {
    let platform = vec![
        Operation::get("/health", "health", "Whether the platform is there. Needs no token.", health)
            .answers(Content::json::<Health>()),
        Operation::get("/metrics", "metrics", "The counters, for Prometheus.", async |State(app): Shared| {
            ([(header::CONTENT_TYPE, METRICS)], metrics::text(&app.deployments))
        })
        .answers(Content::raw(METRICS)),
        Operation::get("/api/openapi.json", "openapi", "This document.", async |State(app): Shared| {
            ([(header::CONTENT_TYPE, JSON)], app.openapi.clone())
        })
        .answers(Content::raw(JSON)),
    ];
    [
        platform,
        functions::operations(),
        triggers::operations(),
        topics::operations(),
        publish::operations(),
        events::operations(),
        consumers::operations(),
        dead_letters::operations(),
        state::operations(),
        logs::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The router of all operations.
pub(super) fn router() -> Router<Arc<App>> {
    all()
        .into_iter()
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.handler))
        .route("/api/functions/{name}/invoke/", any(invoke)) // `{*path}` doesn't match no path at all
        .fallback(super::not_found)
        .method_not_allowed_fallback(super::method_not_allowed)
}

async fn health(State(app): Shared) -> Response {
    let version = env!("CARGO_PKG_VERSION").into();
    json(&Health { status: "ok".into(), version, max_component: app.component_limit })
}
