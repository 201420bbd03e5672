//! The contract of the place that remembers what is deployed.
//!
//! ```text
//!  billing   1 ── 2 ── 3 ── 4        versions: immutable, numbered by the registry, never renumbered
//!                      ▲
//!                      active        at most one per function: a deploy moves it to the new version,
//!                                    a rollback to an older one
//! ```
//!
//! Rules every back end MUST keep, and the suite in `events/conformance/src/registry.rs` tests:
//!
//! 1. A change happens whole or not at all, also when the process dies in it, and is on disk (fsync'd) before the call returns.
//! 2. Readers see the state before a change or after it, never between.
//! 3. A version's component bytes are there for as long as the version is.
//! 4. Deploying what is active already makes no new version.

use crate::{
    BoxFuture,
    function::{Component, Digest, FunctionName, Version},
    manifest::Manifest,
};
use bytes::Bytes;

/// One function of a deploy.
#[derive(Debug, Clone)]
pub struct NewVersion {
    pub manifest: Manifest,
    pub component: Component,
    /// The component as uploaded. `None` where the registry has it ([`Registry::component`]); a deploy that turns
    /// out to need it fails with [`RegistryError::NoComponent`].
    pub bytes: Option<Bytes>,
}

/// What a deploy made of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    pub version: Version,
    /// The same manifest and component were active already: no version was made.
    pub unchanged: bool,
}

/// Functions, their versions, and which version is active.
///
/// All calls are cancel safe: a change whose caller went away happens whole or not at all.
pub trait Registry: Send + Sync {
    /// Deploys all of them or none, each as a new active version. Answers in the order given. Two of one name are
    /// refused ([`RegistryError::Twice`]).
    fn deploy(&self, functions: Vec<NewVersion>) -> BoxFuture<'_, Result<Vec<Deployed>, RegistryError>>;

    /// The active version of every function, by name.
    fn active(&self) -> BoxFuture<'_, Result<Vec<Version>, RegistryError>>;

    /// The versions of one function, newest first.
    fn versions(&self, name: &FunctionName) -> BoxFuture<'_, Result<Versions, RegistryError>>;

    /// Makes an existing version the active one: the one given, or the one before the active one by number.
    fn rollback(&self, name: &FunctionName, to: Option<u64>) -> BoxFuture<'_, Result<Version, RegistryError>>;

    /// Forgets a function with all its versions, and the components no other version uses.
    fn remove(&self, name: &FunctionName) -> BoxFuture<'_, Result<(), RegistryError>>;

    /// What is known of a component that some version uses, or `None`.
    fn component(&self, digest: Digest) -> BoxFuture<'_, Result<Option<Component>, RegistryError>>;

    /// The bytes of a component that some version uses.
    fn component_bytes(&self, digest: Digest) -> BoxFuture<'_, Result<Bytes, RegistryError>>;
}

/// A function's versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// The number of the active one.
    pub active: u64,
    /// Newest first.
    pub versions: Vec<Version>,
}

/// Why the registry did not do it. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no function `{0}`")]
    NoFunction(FunctionName),
    #[error("`{name}` has no version {number}")]
    NoVersion { name: FunctionName, number: u64 },
    #[error("`{name}` has no version before {active}, the active one")]
    NoEarlier { name: FunctionName, active: u64 },
    #[error("`{0}` is there twice: one deploy can hold a function once")]
    Twice(FunctionName),
    #[error("the component {0} is not in the registry")]
    NoComponent(Digest),
    /// The disk or the database failed.
    #[error("the registry can't be used: {0}")]
    Unavailable(String),
}

impl RegistryError {
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
