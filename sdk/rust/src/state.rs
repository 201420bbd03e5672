//! State: small values under keys that outlast the run.
//!
//! Every function has a bucket of its own ([`bucket`], with `allow: { state: true }` in its manifest), and functions share
//! others by name ([`shared`], with `allow: { state: [carts] }`). Values are JSON, which `dunlin state` shows as it is;
//! [`Bucket::get_bytes`] and [`Bucket::set_bytes`] leave it at bytes.
//!
//! In a handler of events all writes happen when it has succeeded, in one transaction with the events it returns, and none
//! if it fails: a count is never off by the runs that were repeated. A handler reads what it wrote. Where another run has
//! changed in the meantime what this one read, this one is repeated, so a plain `get` and `set` is enough. In a handler of
//! requests each call takes effect at once; there, [`Bucket::update`] and [`Bucket::increment`] are what doesn't lose a
//! write to another request.
//!
//! ```
//! use dunlin::{Event, Result, state};
//! # #[derive(serde::Deserialize)] struct Order { customer: String }
//!
//! #[dunlin::handler]
//! fn on_order(event: Event<Order>) -> Result<()> {
//!     state::bucket().increment(&event.data.customer, 1)?;
//!     Ok(())
//! }
//! # let order = dunlin::testing::event("order.created", Order { customer: "ada".into() });
//! # on_order(order).unwrap();
//! # assert_eq!(state::bucket().get("ada"), Ok(Some(1)));
//! ```

use crate::{data, host};
use serde::{Serialize, de::DeserializeOwned};
use std::{cell::OnceCell, collections::VecDeque, fmt};

/// The function's own bucket.
pub fn bucket() -> Bucket {
    shared("default")
}

/// A bucket that functions share, by its name.
pub fn shared(name: impl Into<String>) -> Bucket {
    Bucket { name: name.into(), opened: OnceCell::new() }
}

/// Values under keys of 1 to 1,024 bytes of text. A value has up to 1 MiB.
// Opened at its first use: there is one `?` for what can go wrong, and it is where something is done.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    opened: OnceCell<host::Bucket>,
}

impl Bucket {
    /// What a key holds, or `None`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.get_bytes(key)?.map(|value| self.read(key, &value)).transpose()
    }

    /// What several keys hold, in their order and as of one moment.
    pub fn get_many<T: DeserializeOwned>(&self, keys: &[impl AsRef<str>]) -> Result<Vec<Option<T>>, Error> {
        let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        let values = self.open()?.get_many(&keys).map_err(|failure| self.failed(failure))?;
        keys.iter().zip(values).map(|(key, value)| value.map(|value| self.read(key, &value)).transpose()).collect()
    }

    /// Writes a value.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        self.set_bytes(key, &self.write(key, value)?)
    }

    /// Writes several values: all of them or, with an error, none.
    pub fn set_many<K: AsRef<str>, T: Serialize>(
        &self,
        entries: impl IntoIterator<Item = (K, T)>,
    ) -> Result<(), Error> {
        let entries = entries.into_iter().map(|(key, value)| {
            let key = key.as_ref();
            Ok((key.to_owned(), self.write(key, &value)?))
        });
        let entries = entries.collect::<Result<Vec<_>, Error>>()?;
        self.open()?.set_many(&entries).map_err(|failure| self.failed(failure))
    }

    /// What a key holds, as it is.
    pub fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.open()?.get(key).map_err(|failure| self.failed(failure))
    }

    /// Writes bytes as they are.
    pub fn set_bytes(&self, key: &str, value: &[u8]) -> Result<(), Error> {
        self.open()?.set(key, value).map_err(|failure| self.failed(failure))
    }

    /// Takes away what a key holds, if it holds something.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.open()?.delete(key).map_err(|failure| self.failed(failure))
    }

    /// Takes away what several keys hold.
    pub fn delete_many(&self, keys: &[impl AsRef<str>]) -> Result<(), Error> {
        let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
        self.open()?.delete_many(&keys).map_err(|failure| self.failed(failure))
    }

    /// Whether a key holds something.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.open()?.exists(key).map_err(|failure| self.failed(failure))
    }

    /// Adds to the number a key holds, 0 where it holds nothing, and answers with the sum.
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, Error> {
        self.open()?.increment(key, delta).map_err(|failure| self.failed(failure))
    }

    /// Replaces what a key holds by what is made of it, and answers with that. If somebody else was faster, it is made anew
    /// of what is there then.
    ///
    /// ```
    /// # use dunlin::state;
    /// let names = state::bucket().update("names", |old: Option<Vec<String>>| {
    ///     let mut names = old.unwrap_or_default();
    ///     names.push("ada".to_owned());
    ///     names
    /// })?;
    /// assert_eq!(names, ["ada"]);
    /// # Ok::<(), dunlin::Error>(())
    /// ```
    pub fn update<T>(&self, key: &str, mut change: impl FnMut(Option<T>) -> T) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        self.try_update(key, |old| Ok(change(old)))
    }

    /// As [`update`](Self::update), where the change may be refused: then nothing is written, and the reason is the answer.
    ///
    /// ```
    /// # use dunlin::{Error, state};
    /// state::bucket().set("stock", &3)?;
    /// let left = state::bucket().try_update("stock", |old: Option<u32>| {
    ///     old.unwrap_or(0).checked_sub(5).ok_or_else(|| Error::reject("there are not 5 left"))
    /// });
    /// assert_eq!(left, Err(Error::reject("there are not 5 left")));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn try_update<T, E>(&self, key: &str, mut change: impl FnMut(Option<T>) -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
    {
        let (mut handle, mut held) = self.open()?.look(key).map_err(|failure| self.failed(failure))?;
        loop {
            let old = held.map(|value| self.read(key, &value)).transpose()?;
            let new = change(old)?;
            match handle.swap(&self.write(key, &new)?).map_err(|failure| self.failed(failure))? {
                None => return Ok(new),
                Some(changed) => (handle, held) = changed,
            }
        }
    }

    /// All its keys. They are asked for a thousand at a time, so a bucket may have any number of them.
    ///
    /// ```
    /// # use dunlin::state;
    /// state::bucket().set("a", &1)?;
    /// state::bucket().set("b", &2)?;
    /// let keys = state::bucket().keys().collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!(keys, ["a", "b"]);
    /// # Ok::<(), dunlin::Error>(())
    /// ```
    pub fn keys(&self) -> Keys {
        Keys { bucket: shared(self.name.clone()), page: VecDeque::new(), next: Next::First }
    }

    fn open(&self) -> Result<&host::Bucket, Error> {
        if let Some(bucket) = self.opened.get() {
            return Ok(bucket);
        }
        let bucket = host::Bucket::open(&self.name).map_err(|failure| self.failed(failure))?;
        Ok(self.opened.get_or_init(|| bucket))
    }

    fn read<T: DeserializeOwned>(&self, key: &str, value: &[u8]) -> Result<T, Error> {
        data::from_json(value).map_err(|reason| {
            self.error(format!("`{key}` holds no `{}`: {reason}", data::name_of::<T>()), Cause::Value)
        })
    }

    fn write<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(value)
            .map_err(|error| self.error(format!("the value for `{key}` can't be written: {error}"), Cause::Value))
    }

    fn failed(&self, failure: Failure) -> Error {
        match failure {
            Failure::NoSuchStore => self.error("there is no such bucket".to_owned(), Cause::Denied),
            Failure::AccessDenied if self.name == "default" => {
                self.error("the manifest doesn't allow it: add `allow: { state: true }`".to_owned(), Cause::Denied)
            }
            Failure::AccessDenied => {
                let reason = format!("the manifest doesn't allow it: add `allow: {{ state: [{}] }}`", self.name);
                self.error(reason, Cause::Denied)
            }
            Failure::Other(reason) => self.error(reason, Cause::Platform),
        }
    }

    fn error(&self, reason: String, cause: Cause) -> Error {
        Error { bucket: self.name.clone(), reason, cause }
    }
}

/// The keys of a bucket: see [`Bucket::keys`].
#[derive(Debug)]
pub struct Keys {
    bucket: Bucket,
    page: VecDeque<String>,
    next: Next,
}

/// Where the next page begins.
#[derive(Debug)]
enum Next {
    First,
    At(String),
    Nowhere,
}

impl Iterator for Keys {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // A page may be empty and not the last.
        while self.page.is_empty() {
            let cursor = match std::mem::replace(&mut self.next, Next::Nowhere) {
                Next::First => None,
                Next::At(cursor) => Some(cursor),
                Next::Nowhere => return None,
            };
            let page = self
                .bucket
                .open()
                .and_then(|opened| opened.list_keys(cursor).map_err(|failure| self.bucket.failed(failure)));
            match page {
                Ok((keys, cursor)) => {
                    self.page = keys.into();
                    self.next = cursor.map_or(Next::Nowhere, Next::At);
                }
                Err(error) => return Some(Err(error)),
            }
        }
        self.page.pop_front().map(Ok)
    }
}

/// Why state was not read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    bucket: String,
    reason: String,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Denied,
    Value,
    Platform,
}

impl Error {
    /// Whether the manifest doesn't allow the bucket.
    pub fn is_denied(&self) -> bool {
        self.cause == Cause::Denied
    }

    /// Whether a value is not what the function takes it for, or can't be written.
    pub fn is_value(&self) -> bool {
        self.cause == Cause::Value
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bucket.as_str() {
            "default" => write!(f, "the function's state: {}", self.reason),
            name => write!(f, "the state `{name}`: {}", self.reason),
        }
    }
}

impl std::error::Error for Error {}

/// What the platform says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "in a test every bucket is there and allowed"))]
pub(crate) enum Failure {
    NoSuchStore,
    AccessDenied,
    Other(String),
}
