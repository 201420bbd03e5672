//! One run of a function: what goes in, what comes out, and the ways it can fail.
//!
//! What a guest does wrong is never a host error: it is a [`Failure`] with a reason. Its `Display` is for the operator and
//! may quote the guest; what a caller of the function may see of it is decided by the gateway.

use crate::{effects::Effects, units::ByteSize};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use std::{fmt, str::FromStr, sync::Arc, time::Duration};
use uuid::{ContextV7, Timestamp, Uuid};

/// The body of a request or response, streamed. Data and at most one frame of trailers; an error ends it.
pub type Body = UnsyncBoxBody<Bytes, Failure>;

/// Names one invocation, in answers, logs and traces: a UUID of version 7 (RFC 9562), so that they sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InvocationId(Uuid);

impl InvocationId {
    /// A new id for an invocation that starts now.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        // One context per thread: the `uuid` crate's own is shared under a lock, and every request needs an id.
        thread_local!(static CONTEXT: ContextV7 = const { ContextV7::new() });
        Self(CONTEXT.with(|context| Uuid::new_v7(Timestamp::now(context))))
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for InvocationId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

/// What the caller of a function says about one invocation, beside the request.
#[derive(Clone)]
pub struct Invocation {
    pub id: InvocationId,
    /// Which of the platform's worker threads is asking, counted from 0. Reused sandboxes stay on the worker that made
    /// them: wasm that moves between threads costs a third of the throughput.
    pub worker: usize,
    /// What it may do to state and topics. It has a sandbox for itself where its effects are those of one event.
    pub effects: Effected,
}

/// Whose effects an invocation has.
#[derive(Clone)]
pub enum Effected {
    /// Those of a function that was called: each happens at once, so calls that share a sandbox may share them.
    Function(Arc<dyn Effects>),
    /// Those of a run on an event: they are its own.
    Event(Arc<dyn Effects>),
}

impl Effected {
    pub fn effects(&self) -> &Arc<dyn Effects> {
        match self {
            Self::Function(effects) | Self::Event(effects) => effects,
        }
    }
}

/// Why an invocation came to nothing, or broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The function runs as often as its manifest allows, and as many wait as it allows.
    #[error("{concurrency} invocations run and {queue} wait, the most `limits` allows")]
    Busy { concurrency: u32, queue: u32 },
    /// The platform has no sandbox to give, for any function.
    #[error("the platform has no free sandbox: {0}")]
    Exhausted(String),
    #[error("it ran longer than `limits.time` allows ({})", humantime::format_duration(*.limit))]
    Time { limit: Duration },
    #[error("it computed longer than `limits.cpu` allows ({})", humantime::format_duration(*.limit))]
    Cpu { limit: Duration },
    #[error("it asked for more memory than `limits.memory` allows ({limit})")]
    Memory { limit: ByteSize },
    #[error("the request body is larger than `limits.request_body` allows ({limit})")]
    RequestTooLarge { limit: ByteSize },
    #[error("the response body is larger than `limits.response_body` allows ({limit})")]
    ResponseTooLarge { limit: ByteSize },
    /// The request could not be read to its end: the caller went away, was too slow, or broke the protocol.
    #[error("the request broke off: {0}")]
    RequestBody(String),
    /// The guest trapped. The text is for the operator: what the guest said last or the reason, then the guest's backtrace, a line
    /// each.
    #[error("it trapped: {0}")]
    Trap(String),
    #[error("it ended without an answer")]
    NoAnswer,
    /// The guest answered with an error code of `wasi:http` in place of a response, or broke its response off.
    #[error("it answered with an error: {0}")]
    ErrorAnswer(String),
    #[error("it exited with code {code}")]
    Exit { code: u8 },
    /// The platform could not load the function's code or give it what its manifest allows. Not the guest's doing.
    #[error("it could not be started: {0}")]
    Start(String),
    /// State or topics could not be read or written. Not the guest's doing: its run is ended, and may be repeated.
    #[error("the platform's data could not be used: {0}")]
    Unavailable(String),
}

impl Failure {
    /// A word for metrics and logs; the words are part of the API.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Exhausted(_) => "exhausted",
            Self::Time { .. } => "time",
            Self::Cpu { .. } => "cpu",
            Self::Memory { .. } => "memory",
            Self::RequestTooLarge { .. } => "request-too-large",
            Self::ResponseTooLarge { .. } => "response-too-large",
            Self::RequestBody(_) => "request-body",
            Self::Trap(_) => "trap",
            Self::NoAnswer => "no-answer",
            Self::ErrorAnswer(_) => "error-answer",
            Self::Exit { .. } => "exit",
            Self::Start(_) => "start",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Whether the same request may succeed a little later without anybody changing anything.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Exhausted(_) | Self::Start(_) | Self::Unavailable(_) => true,
            Self::Time { .. }
            | Self::Cpu { .. }
            | Self::Memory { .. }
            | Self::RequestTooLarge { .. }
            | Self::ResponseTooLarge { .. }
            | Self::RequestBody(_)
            | Self::Trap(_)
            | Self::NoAnswer
            | Self::ErrorAnswer(_)
            | Self::Exit { .. } => false,
        }
    }
}
