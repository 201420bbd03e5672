//! HTTP serving, which no other part of the platform knows.
//!
//! Two listeners: [`data`] is what callers of functions see and nothing else, [`admin`] is what operators see. Both run
//! functions through [`call`].

pub mod admin;
pub mod call;
mod connection;
pub mod data;
mod later;
pub mod problem;
pub mod routes;
mod tls;
mod trace;
pub mod webhook;
mod whole;
mod workers;

pub use tls::{TlsConfig, TlsError};
