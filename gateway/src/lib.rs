//! The room that maps triggers to functions.
//!
//! ```text
//!   callers ──▶ http::data ──┐ table()                     ┌── stage, deploy, rollback ── http::admin ◀── operators
//!                            ▼                             ▼
//!                    http::routes  ◀── one swap ──  deploy::Deployments ──▶ Registry, Runtime (dunlin-events)
//!                            │
//!                            ▼
//!                    http::call ──▶ Function ──▶ counters, logs::LogBuffer
//! ```
//!
//! It owns what is active, who is called for which request, and both listeners. It knows no database and no WebAssembly
//! engine: those reach it as the contracts of `dunlin-events`. HTTP serving is known below `http` and nowhere else.

#![forbid(unsafe_code)]

pub mod active;
pub mod api;
pub mod backend;
pub mod deploy;
pub mod dispatch;
pub mod http;
pub mod logs;
pub mod metrics;
mod roster;
pub mod sources;
mod uploads;
