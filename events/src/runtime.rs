//! The contract of the room that runs functions.
//!
//! ```text
//!  upload ──▶ compile ──▶ check (with a manifest) ──▶ [registry] ──▶ function ──▶ invoke, invoke, invoke …
//!             once per component, at deploy                          no I/O, no memory to speak of; the first
//!             (never on a request)                                   invoke maps the code, an idle time unmaps it
//! ```

use crate::{
    BoxFuture,
    effects::{Delivery, Effects, Outcome},
    function::{Component, Digest, Version},
    invocation::{Body, Failure, Invocation},
    manifest::{Manifest, Problem},
};
use bytes::Bytes;
use http::{Request, Response};
use std::{collections::HashSet, sync::Arc};

/// Compiles components and makes functions of them.
pub trait Runtime: Send + Sync {
    /// Validates an uploaded component, finds out what it is, and compiles it into the code cache. For a component that
    /// is there already this answers at once. Takes seconds for large components and runs off the async threads.
    ///
    /// Cancel safe: the cache holds a component whole or not at all.
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<Component, CompileError>>;

    /// Whether the code cache holds this component for this build of the platform, on this processor.
    fn is_compiled(&self, digest: Digest) -> bool;

    /// What of this manifest the component or the platform does not go along with: imports the manifest doesn't allow,
    /// limits the platform can't give, secrets it doesn't have. Empty means that the two can be deployed together.
    fn check(&self, manifest: &Manifest, component: &Component) -> Vec<Problem>;

    /// A handle to run one version. It does no I/O and loads nothing: ten thousand of them cost a few megabytes.
    fn function(&self, version: &Version) -> Arc<dyn Function>;

    /// Drops from the code cache what is not in `keep` and was not used within the last hour.
    fn prune(&self, keep: &HashSet<Digest>) -> std::io::Result<()>;
}

/// Runs one version of a function.
pub trait Function: Send + Sync {
    /// Runs the function for one request and answers with its response as soon as its head is there; the body streams.
    ///
    /// It waits for one of the function's `limits.concurrency` places, which the invocation holds until the guest has
    /// ended and its output is handed on. All limits of the manifest are enforced here, for both bodies too. A failure
    /// after the head is the error that ends the response's body.
    ///
    /// Cancel safe: dropping the future, or the response's body before its end, ends the invocation.
    fn invoke<'a>(
        &'a self,
        request: Request<Body>,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>>;

    /// Hands events to a function of the shape [`Shape::Handler`](crate::Shape::Handler): calls it with what `feed` has,
    /// one call after another in one sandbox, until there is no more, the sandbox was used as often as `reuse` allows, or a
    /// call failed. What is left in the feed then is for another `handle`.
    ///
    /// It waits for one of the function's places as `invoke` does, but not in the bounded queue: who hands out events waits
    /// as long as it takes. An error means that no sandbox could be had and no call was made; a call that fails is told to
    /// the feed. The limits of the manifest are those of each call.
    ///
    /// Cancel safe: dropping the future ends the sandbox, and the call under way is not told to the feed.
    ///
    /// A function of another shape gets its events as requests, and has no need to say anything here.
    fn handle<'a>(&'a self, feed: Arc<dyn Feed>, invocation: Invocation) -> BoxFuture<'a, Result<(), Failure>> {
        let _ = (feed, invocation);
        Box::pin(async { Err(Failure::Start("it takes requests, not events".into())) })
    }

    /// Invocations that hold a place now, and that wait for one.
    fn load(&self) -> Load;
}

/// How busy a function is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    pub running: u32,
    pub waiting: u32,
}

/// Why a component can't become a function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("the file is not WebAssembly: it begins with {found}, not with `\\0asm`")]
    NotWasm { found: String },
    #[error("the WebAssembly is damaged or cut off at byte {offset}: {reason}")]
    Invalid { offset: usize, reason: String },
    #[error(
        "the file is machine code compiled by wasmtime (`.cwasm`), which is never accepted: it can't be checked. deploy the `.wasm` it was made from"
    )]
    Precompiled,
    #[error(
        "the core module exports no `_start` of WASI preview 1, so there is nothing to call: it exports {exports}. build it as a command (`wasm32-wasip1`), or as a component (`wasm32-wasip2`)"
    )]
    NoStart { exports: String },
    #[error(
        "the component exports nothing Dunlin can call: it exports {exports}. a function exports `wasi:http/incoming-handler@0.2.x`, `wasi:http/handler@0.3.x`, `dunlin:function/handler@0.1.x` or `wasi:cli/run@0.2.x`"
    )]
    OtherWorld { exports: String },
    /// Linking found something the platform doesn't provide.
    #[error("the component imports `{import}`, which Dunlin does not provide: {reason}")]
    Import { import: String, reason: String },
    /// What it is called through has another type than its name promises.
    #[error("the component exports `{export}`, but not as the world defines it: {reason}")]
    Export { export: String, reason: String },
    #[error("the component needs {what}, and the platform gives at most {most}")]
    TooDemanding { what: String, most: String },
    /// The platform failed, not the component: a full disk, for example. The same upload may succeed later.
    #[error("the code cache can't be written: {0}")]
    Cache(String),
}

impl CompileError {
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Cache(_))
    }
}

/// Where a sandbox gets events from, and where it puts what becomes of them.
///
/// One sandbox asks for one call's deliveries after another, so that starting it is paid for once. While a call runs, its
/// effects go through [`Feed::effects`].
pub trait Feed: Send + Sync {
    /// The deliveries of the next call, at least one. `None` when there are none left: the sandbox ends.
    fn next(&self) -> Option<Vec<Delivery>>;

    /// How the call ended: an outcome for each delivery, in order, or why there are none.
    fn ended(&self, outcomes: Result<Vec<Outcome>, Failure>);

    /// What the call under way may do.
    fn effects(&self) -> &dyn Effects;
}
