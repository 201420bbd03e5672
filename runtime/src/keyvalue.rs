//! State, as guests have it: `wasi:keyvalue` in draft 2, and in the first draft with the few differences that has.
//!
//! A bucket handle is the name of a bucket and a look is a value that was seen, so nothing is held open anywhere: what a
//! guest does with them are calls of [`Effects`](dunlin_events::effects::Effects), one each. What the guest asks for and
//! can't have is an error it gets; trouble of the platform's is none of its business and traps ([`Unavailable`]).

use crate::{
    bindings::{
        function::wasi::keyvalue::{atomics, batch, store},
        others::wasi::keyvalue as first,
    },
    host::Host,
};
use bytes::Bytes;
use dunlin_events::{
    effects::EffectError,
    state::{Bucket, Key, MAX_VALUE},
};
use std::{collections::HashSet, sync::Arc};
use wasmtime::component::{Resource, ResourceTableError};

/// Keys of one answer to `list-keys`.
const PAGE: usize = 1000;
/// Values that are read at once: more come in pieces, since each may have 1 MiB.
const READ_AT_ONCE: usize = 64;
/// Bytes of one answer to `get-many`, and of all values that looks hold.
const HELD: usize = 64 << 20;

/// A guest's handle of a bucket.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct BucketHandle {
    bucket: Bucket,
    /// What the numbers mean that the first draft has for cursors: the last key of a page.
    pages: Vec<Arc<str>>,
}

/// A guest's handle of a value it looked at, to replace it if it is so still.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Look {
    key: Key,
    seen: Option<Bytes>,
}

/// The platform's trouble, on its way through the guest to who drives it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// Why a guest does not get what it asks of a bucket.
pub(crate) enum StoreError {
    Denied,
    Other(String),
    Trap(wasmtime::Error),
}

/// Why a value was not replaced.
pub(crate) enum SwapError {
    Changed(Resource<Look>),
    Store(StoreError),
}

impl StoreError {
    fn other(error: impl ToString) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<EffectError> for StoreError {
    fn from(error: EffectError) -> Self {
        match error {
            EffectError::Refused(reason) => Self::Other(reason),
            EffectError::Unavailable(reason) => Self::Trap(Unavailable(reason).into()),
        }
    }
}

impl From<ResourceTableError> for StoreError {
    fn from(error: ResourceTableError) -> Self {
        match error {
            ResourceTableError::Full => Self::Other("it holds too many handles: drop some".into()),
            other => Self::Trap(other.into()),
        }
    }
}

type Answer<T> = Result<T, StoreError>;
type Handle = Resource<BucketHandle>;

/// What both drafts do.
impl Host {
    fn bucket(&self, handle: &Handle) -> Answer<&Bucket> {
        Ok(&self.table.get(handle)?.bucket)
    }

    /// A key of a bucket. It counts against what one call may name.
    fn key(&self, handle: &Handle, key: &str) -> Answer<Key> {
        self.key_for(handle, key, 0)
    }

    /// A key to be written, with a value of so many bytes.
    fn key_for(&self, handle: &Handle, key: &str, value: usize) -> Answer<Key> {
        let key = Key::new(self.bucket(handle)?.clone(), key).map_err(StoreError::other)?;
        if value > MAX_VALUE {
            let reason = format!("the value of `{}` has {value} bytes: a value has at most {MAX_VALUE}", key.key);
            return Err(StoreError::Other(reason));
        }
        self.access.keep_entry(&key.key, value)?;
        Ok(key)
    }

    fn open_bucket(&mut self, identifier: &str) -> Answer<Handle> {
        match self.access.rights().bucket(identifier) {
            Ok(bucket) => Ok(self.table.push(BucketHandle { bucket, pages: Vec::new() })?),
            Err(reason) => {
                self.output.note(&reason);
                Err(StoreError::Denied)
            }
        }
    }

    async fn read(&mut self, key: Key) -> Answer<Option<Bytes>> {
        Ok(self.access.effects()?.get(vec![key]).await?.pop().flatten())
    }

    async fn write(&mut self, entries: Vec<(Key, Option<Bytes>)>) -> Answer<()> {
        Ok(self.access.effects()?.set(entries).await?)
    }

    async fn read_many(&mut self, handle: &Handle, keys: &[String]) -> Answer<Vec<Option<Bytes>>> {
        let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for keys in keys.chunks(READ_AT_ONCE) {
            let keys = keys.iter().map(|key| self.key(handle, key)).collect::<Result<_, _>>()?;
            let read = self.access.effects()?.get(keys).await?;
            bytes += read.iter().flatten().map(Bytes::len).sum::<usize>();
            if bytes > HELD {
                return Err(StoreError::Other(format!("the values exceed {HELD} bytes together: read fewer at once")));
            }
            values.extend(read);
        }
        Ok(values)
    }

    async fn write_many(&mut self, handle: &Handle, entries: Vec<(String, Option<Vec<u8>>)>) -> Answer<()> {
        let mut seen = HashSet::with_capacity(entries.len());
        let mut last = Vec::with_capacity(entries.len());
        // Each key once: of several values for one, the last counts.
        for (key, value) in entries.into_iter().rev() {
            let key = self.key_for(handle, &key, value.as_ref().map_or(0, Vec::len))?;
            if seen.insert(Arc::clone(&key.key)) {
                last.push((key, value.map(Bytes::from)));
            }
        }
        if last.is_empty() { Ok(()) } else { self.write(last).await }
    }

    /// A page of keys, and whether there are more.
    async fn page(&mut self, handle: &Handle, after: Option<&str>) -> Answer<(Vec<Arc<str>>, bool)> {
        let mut keys = self.access.effects()?.keys(self.bucket(handle)?, after, PAGE + 1).await?;
        let more = keys.len() > PAGE;
        keys.truncate(PAGE);
        Ok((keys, more))
    }

    async fn add(&mut self, handle: &Handle, key: &str, delta: i64) -> Answer<i64> {
        let key = self.key_for(handle, key, 0)?;
        Ok(self.access.effects()?.increment(key, delta).await?)
    }

    async fn look(&mut self, key: Key) -> Answer<Resource<Look>> {
        let seen = self.read(key.clone()).await?;
        let held = self.looks + seen.as_ref().map_or(0, Bytes::len);
        if held > HELD {
            return Err(StoreError::Other(format!("its `cas` handles hold {HELD} bytes: drop some")));
        }
        let look = self.table.push(Look { key, seen })?;
        self.looks = held;
        Ok(look)
    }

    fn forget(&mut self, look: Resource<Look>) -> Answer<Look> {
        let look = self.table.delete(look)?;
        self.looks -= look.seen.as_ref().map_or(0, Bytes::len);
        Ok(look)
    }
}

fn texts(keys: Vec<Arc<str>>) -> Vec<String> {
    keys.into_iter().map(|key| key.to_string()).collect()
}

impl store::Host for Host {
    async fn open(&mut self, identifier: String) -> Answer<Handle> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, error: StoreError) -> wasmtime::Result<store::Error> {
        match error {
            StoreError::Denied => Ok(store::Error::AccessDenied),
            StoreError::Other(reason) => Ok(store::Error::Other(reason)),
            StoreError::Trap(error) => Err(error),
        }
    }
}

impl store::HostBucket for Host {
    async fn get(&mut self, bucket: Handle, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(self.read(self.key(&bucket, &key)?).await?.map(Vec::from))
    }

    async fn set(&mut self, bucket: Handle, key: String, value: Vec<u8>) -> Answer<()> {
        let key = self.key_for(&bucket, &key, value.len())?;
        self.write(vec![(key, Some(value.into()))]).await
    }

    async fn delete(&mut self, bucket: Handle, key: String) -> Answer<()> {
        self.write(vec![(self.key(&bucket, &key)?, None)]).await
    }

    async fn exists(&mut self, bucket: Handle, key: String) -> Answer<bool> {
        Ok(self.read(self.key(&bucket, &key)?).await?.is_some())
    }

    async fn list_keys(&mut self, bucket: Handle, cursor: Option<String>) -> Answer<store::KeyResponse> {
        let (keys, more) = self.page(&bucket, cursor.as_deref()).await?;
        let keys = texts(keys);
        Ok(store::KeyResponse { cursor: keys.last().filter(|_| more).cloned(), keys })
    }

    async fn drop(&mut self, bucket: Handle) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Host {
    async fn increment(&mut self, bucket: Handle, key: String, delta: i64) -> Answer<i64> {
        self.add(&bucket, &key, delta).await
    }

    async fn swap(&mut self, cas: Resource<Look>, value: Vec<u8>) -> Result<(), SwapError> {
        let Look { key, seen } = self.forget(cas)?;
        if value.len() > MAX_VALUE {
            let reason =
                format!("the value of `{}` has {} bytes: a value has at most {MAX_VALUE}", key.key, value.len());
            return Err(StoreError::Other(reason).into());
        }
        self.access.keep_entry(&key.key, value.len()).map_err(StoreError::from)?;
        let effects = self.access.effects().map_err(StoreError::from)?;
        if effects.swap(key.clone(), seen, value.into()).await.map_err(StoreError::from)? {
            return Ok(());
        }
        Err(SwapError::Changed(self.look(key).await?))
    }

    fn convert_cas_error(&mut self, error: SwapError) -> wasmtime::Result<atomics::CasError> {
        match error {
            SwapError::Changed(look) => Ok(atomics::CasError::CasFailed(look)),
            SwapError::Store(error) => store::Host::convert_error(self, error).map(atomics::CasError::StoreError),
        }
    }
}

impl From<StoreError> for SwapError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl atomics::HostCas for Host {
    async fn new(&mut self, bucket: Handle, key: String) -> Answer<Resource<Look>> {
        let key = self.key(&bucket, &key)?;
        self.look(key).await
    }

    async fn current(&mut self, cas: Resource<Look>) -> Answer<Option<Vec<u8>>> {
        Ok(self.table.get(&cas)?.seen.as_deref().map(<[u8]>::to_vec))
    }

    async fn drop(&mut self, cas: Resource<Look>) -> wasmtime::Result<()> {
        match self.forget(cas) {
            Ok(_) | Err(StoreError::Denied | StoreError::Other(_)) => Ok(()),
            Err(StoreError::Trap(error)) => Err(error),
        }
    }
}

impl batch::Host for Host {
    async fn get_many(&mut self, bucket: Handle, keys: Vec<String>) -> Answer<Vec<(String, Option<Vec<u8>>)>> {
        let values = self.read_many(&bucket, &keys).await?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| (key, value.map(Vec::from))).collect())
    }

    async fn set_many(&mut self, bucket: Handle, entries: Vec<(String, Vec<u8>)>) -> Answer<()> {
        self.write_many(&bucket, entries.into_iter().map(|(key, value)| (key, Some(value))).collect()).await
    }

    async fn delete_many(&mut self, bucket: Handle, keys: Vec<String>) -> Answer<()> {
        self.write_many(&bucket, keys.into_iter().map(|key| (key, None)).collect()).await
    }
}

impl first::store::Host for Host {
    async fn open(&mut self, identifier: String) -> Answer<Handle> {
        self.open_bucket(&identifier)
    }

    fn convert_error(&mut self, error: StoreError) -> wasmtime::Result<first::store::Error> {
        match error {
            StoreError::Denied => Ok(first::store::Error::AccessDenied),
            StoreError::Other(reason) => Ok(first::store::Error::Other(reason)),
            StoreError::Trap(error) => Err(error),
        }
    }
}

impl first::store::HostBucket for Host {
    async fn get(&mut self, bucket: Handle, key: String) -> Answer<Option<Vec<u8>>> {
        store::HostBucket::get(self, bucket, key).await
    }

    async fn set(&mut self, bucket: Handle, key: String, value: Vec<u8>) -> Answer<()> {
        store::HostBucket::set(self, bucket, key, value).await
    }

    async fn delete(&mut self, bucket: Handle, key: String) -> Answer<()> {
        store::HostBucket::delete(self, bucket, key).await
    }

    async fn exists(&mut self, bucket: Handle, key: String) -> Answer<bool> {
        store::HostBucket::exists(self, bucket, key).await
    }

    async fn list_keys(&mut self, bucket: Handle, cursor: Option<u64>) -> Answer<first::store::KeyResponse> {
        let after = match cursor {
            None => None,
            Some(cursor) => {
                let known = usize::try_from(cursor).ok().and_then(|at| self.table.get(&bucket).ok()?.pages.get(at));
                let unknown = || StoreError::Other(format!("the cursor {cursor} is none of this bucket handle's"));
                Some(Arc::clone(known.ok_or_else(unknown)?))
            }
        };
        let (keys, more) = self.page(&bucket, after.as_deref()).await?;
        let mut cursor = None;
        if let Some(last) = keys.last().filter(|_| more) {
            self.access.keep_entry(last, 0)?;
            let pages = &mut self.table.get_mut(&bucket)?.pages;
            cursor = Some(pages.len() as u64);
            pages.push(Arc::clone(last));
        }
        Ok(first::store::KeyResponse { keys: texts(keys), cursor })
    }

    async fn drop(&mut self, bucket: Handle) -> wasmtime::Result<()> {
        store::HostBucket::drop(self, bucket).await
    }
}

impl first::atomics::Host for Host {
    async fn increment(&mut self, bucket: Handle, key: String, delta: u64) -> Answer<u64> {
        let delta =
            i64::try_from(delta).map_err(|_| StoreError::Other(format!("{delta} is more than can be added")))?;
        let sum = self.add(&bucket, &key, delta).await?;
        u64::try_from(sum)
            .map_err(|_| StoreError::Other(format!("the sum is {sum}, which this interface can't answer")))
    }
}

impl first::batch::Host for Host {
    async fn get_many(&mut self, bucket: Handle, keys: Vec<String>) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let values = self.read_many(&bucket, &keys).await?;
        Ok(keys.into_iter().zip(values).map(|(key, value)| Some((key, value?.into()))).collect())
    }

    async fn set_many(&mut self, bucket: Handle, entries: Vec<(String, Vec<u8>)>) -> Answer<()> {
        batch::Host::set_many(self, bucket, entries).await
    }

    async fn delete_many(&mut self, bucket: Handle, keys: Vec<String>) -> Answer<()> {
        batch::Host::delete_many(self, bucket, keys).await
    }
}
