//! The contract of state: small values under keys, which functions remember things in.
//!
//! A key is in a bucket: every function has one of its own, and functions may share others by name. Each write gives the
//! key a new [`Revision`], which is how a transaction ([`crate::consumers::Commit`]) knows that what it read is so still.
//!
//! Rules every back end MUST keep, and the suite in `events/conformance/src/state.rs` tests:
//!
//! 1. The changes of one [`StateStore::apply`] happen all or none, and are on disk (fsync'd) before it returns.
//! 2. A revision is never given twice, so a key that was deleted and written again doesn't look unchanged.
//! 3. Who wrote reads at least what was written.

use crate::{BoxFuture, function::FunctionName};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// The largest value, in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// A bucket: a function's own (`function:billing`), one that is shared by name (`shared:carts`), or what the sources of a
/// function's triggers remember (`triggers:billing`), which no function reaches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    Function(FunctionName),
    Shared(BucketName),
    Triggers(FunctionName),
}

/// The name of a shared bucket: as a function's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

/// Why a text is no bucket's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a bucket's name: use 1 to 63 lowercase letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
)]
pub struct InvalidBucketName(pub String);

impl BucketName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BucketName {
    type Err = InvalidBucketName;

    fn from_str(text: &str) -> Result<Self, InvalidBucketName> {
        match text.parse::<FunctionName>() {
            Ok(name) => Ok(Self(name.as_str().into())),
            Err(_) => Err(InvalidBucketName(text.to_owned())),
        }
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

crate::manifest::as_text!(BucketName, "BucketName", { "type": "string", "pattern": "^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$" });

/// Why a text names no bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no bucket: write `function:NAME` for a function's own, `shared:NAME`, or `triggers:NAME`")]
pub struct InvalidBucket(pub String);

impl FromStr for Bucket {
    type Err = InvalidBucket;

    fn from_str(text: &str) -> Result<Self, InvalidBucket> {
        let invalid = || InvalidBucket(text.to_owned());
        match text.split_once(':') {
            Some(("function", name)) => name.parse().map(Self::Function).map_err(|_| invalid()),
            Some(("shared", name)) => name.parse().map(Self::Shared).map_err(|_| invalid()),
            Some(("triggers", name)) => name.parse().map(Self::Triggers).map_err(|_| invalid()),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(name) => write!(f, "function:{name}"),
            Self::Shared(name) => write!(f, "shared:{name}"),
            Self::Triggers(name) => write!(f, "triggers:{name}"),
        }
    }
}

crate::manifest::as_text!(Bucket, "Bucket", { "type": "string", "examples": ["function:billing", "shared:carts"] });

/// A place for a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub bucket: Bucket,
    /// 1 to [`MAX_KEY`] bytes of text without control characters.
    pub key: Arc<str>,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {MAX_KEY} bytes and no control characters: {0}")]
pub struct InvalidKey(pub String);

impl Key {
    pub fn new(bucket: Bucket, key: &str) -> Result<Self, InvalidKey> {
        let reason = match key.len() {
            0 => "this one is empty".to_owned(),
            length if length > MAX_KEY => format!("this one has {length} bytes"),
            _ if key.chars().any(char::is_control) => format!("`{}` has some", key.escape_debug()),
            _ => return Ok(Self { bucket, key: key.into() }),
        };
        Err(InvalidKey(reason))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

/// Which write of a key it was; 0 for a key that holds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Bytes,
    pub revision: Revision,
}

/// A bucket and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BucketInfo {
    pub bucket: Bucket,
    pub keys: u64,
    /// Of keys and values together.
    pub bytes: u64,
}

/// Values under keys.
///
/// All calls are cancel safe: a change whose caller went away happens whole or not at all.
pub trait StateStore: Send + Sync {
    /// What the keys hold, in their order, all as of one moment.
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Entry>>, StateError>>;

    /// Keys of a bucket in the order of their bytes, those after `after`, of those that begin with `prefix`. At most `limit`.
    fn keys(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StateError>>;

    /// Buckets that hold something, by name.
    fn buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>, StateError>>;

    /// Writes values (`None` deletes), if all `reads` are still so. Each key once.
    fn apply(
        &self,
        reads: Vec<(Key, Revision)>,
        writes: Vec<(Key, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), StateError>>;

    /// Empties a bucket, and answers how many keys there were.
    fn clear(&self, bucket: &Bucket) -> BoxFuture<'_, Result<u64, StateError>>;
}

/// Why the state was not read or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Somebody else wrote it in between.
    #[error("the state of `{key}` has changed")]
    Conflict { key: Key },
    /// The disk or the database failed.
    #[error("the state can't be used: {0}")]
    Unavailable(String),
}

impl StateError {
    pub const fn retryable(&self) -> bool {
        true
    }
}
