//! The leaf every room of Dunlin meets in: what a function is, what its manifest may say, and the contracts between the rooms.
//!
//! The four middle crates (`store`, `runtime`, `gateway`, `triggers`) never depend on each other. They depend on this
//! crate, and `cli` hands one's implementation to another as a trait object. So this crate names no database, no
//! WebAssembly engine and no server; it owns words, their validation, and who may assume what of whom.

#![forbid(unsafe_code)]

pub mod allow;
pub mod consumers;
pub mod effects;
pub mod event;
pub mod function;
pub mod invocation;
pub mod logs;
pub mod manifest;
pub mod registry;
pub mod runtime;
pub mod secrets;
mod similar;
pub mod source;
pub mod state;
pub mod topics;
pub mod units;

pub use event::Event;
pub use function::{Component, Digest, FunctionName, Shape, Version};
pub use invocation::{Body, Failure, Invocation, InvocationId};
pub use manifest::Manifest;
pub use registry::Registry;
pub use runtime::{Function, Runtime};
pub use similar::similar;

/// A boxed future, the form in which async calls cross the edges between crates.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
