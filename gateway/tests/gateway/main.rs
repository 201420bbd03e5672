//! The tests of this room that need no WebAssembly: one binary, since each takes a minute to build.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod admin;
mod data_plane;
mod dispatch;
