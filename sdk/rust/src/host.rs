//! What is on the other side: the platform in WebAssembly, memory in a native build.
//!
//! Both have the same functions, and nothing else in this crate asks which of them it is. So a test runs the code that will
//! run on the platform, down to bytes and names.

#[cfg(not(target_family = "wasm"))]
pub(crate) mod memory;
#[cfg(target_family = "wasm")]
pub(crate) mod platform;

#[cfg(not(target_family = "wasm"))]
pub(crate) use memory::{Bucket, log, publish, variable};
#[cfg(target_family = "wasm")]
pub(crate) use platform::{Bucket, log, publish, variable};

/// What a key held when it was looked at, to be given to `Handle::swap`.
pub(crate) type Looked<Handle> = (Handle, Option<Vec<u8>>);
