//! State: values under keys.
//!
//! Revisions are counted for the whole file, by one row that only grows. So none is ever given twice, and a key that was
//! deleted leaves nothing behind that would have to be remembered for that.

use crate::{Failed, Stop, Store, int, parsed, writer::Tx};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture,
    state::{Bucket, BucketInfo, Entry, Key, Revision, StateError, StateStore},
};
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// Keys that are read on the async thread.
const LOOK: usize = 16;

type Result<T, E = Stop<StateError>> = std::result::Result<T, E>;

impl StateStore for Store {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Entry>>, StateError>> {
        Box::pin(async move {
            let look = keys.len() <= LOOK;
            let read = move |connection: &Connection| {
                // For one key its own statement is the one moment.
                let _moment = (keys.len() > 1).then(|| connection.unchecked_transaction()).transpose()?;
                Ok(keys.iter().map(|key| get(connection, key)).collect::<Result<_, _>>()?)
            };
            Ok(if look { self.look(read).await? } else { self.read(read).await? })
        })
    }

    fn keys(
        &self,
        bucket: &Bucket,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StateError>> {
        let (bucket, prefix, after) = (bucket.to_string(), prefix.to_owned(), after.map(str::to_owned));
        Box::pin(async move {
            let look = limit <= LOOK;
            let read = move |connection: &Connection| keys(connection, &bucket, &prefix, after.as_deref(), limit);
            Ok(if look { self.look(read).await? } else { self.read(read).await? })
        })
    }

    fn buckets(&self) -> BoxFuture<'_, Result<Vec<BucketInfo>, StateError>> {
        Box::pin(async {
            let buckets = self.read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT bucket, count(*), sum(octet_length(key) + octet_length(value)) FROM state
                     GROUP BY bucket ORDER BY bucket",
                )?;
                let buckets = statement.query_map([], |row| {
                    Ok(BucketInfo { bucket: parsed(row, 0)?, keys: row.get(1)?, bytes: row.get(2)? })
                })?;
                Ok(buckets.collect::<Result<_, _>>()?)
            });
            Ok(buckets.await?)
        })
    }

    fn apply(
        &self,
        reads: Vec<(Key, Revision)>,
        writes: Vec<(Key, Option<Bytes>)>,
    ) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(async move {
            let room = self.writer.room(weight(&writes)).await;
            let apply = move |tx: &Tx<'_>| {
                if let Some(key) = changed(tx, &reads)? {
                    return Err(Stop::Refused(StateError::Conflict { key }));
                }
                Ok(write(tx, &writes)?)
            };
            Ok(self.write_then(room, apply, |()| {}).await?)
        })
    }

    fn clear(&self, bucket: &Bucket) -> BoxFuture<'_, Result<u64, StateError>> {
        let bucket = bucket.to_string();
        Box::pin(async move {
            let clear = self.write(move |connection| {
                let mut delete = connection.prepare_cached("DELETE FROM state WHERE bucket = ?1")?;
                Ok(delete.execute([&bucket])? as u64)
            });
            Ok(clear.await?)
        })
    }
}

impl From<Failed<StateError>> for StateError {
    fn from(failed: Failed<StateError>) -> Self {
        match failed {
            Failed::Refused(error) => error,
            Failed::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

fn get(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached("SELECT value, revision FROM state WHERE bucket = ?1 AND key = ?2")?
        .query_row((key.bucket.to_string(), &*key.key), |row| {
            let value = Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
            Ok(Entry { value, revision: Revision(row.get(1)?) })
        })
        .optional()
}

fn keys(
    connection: &Connection,
    bucket: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Arc<str>>> {
    // One bound, so that SQLite begins there; a key that doesn't begin with the prefix is behind all that do.
    let (sql, from) = match after {
        Some(after) if after >= prefix => {
            ("SELECT key FROM state WHERE bucket = ?1 AND key > ?2 ORDER BY key LIMIT ?3", after)
        }
        _ => ("SELECT key FROM state WHERE bucket = ?1 AND key >= ?2 ORDER BY key LIMIT ?3", prefix),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((bucket, from, int(limit as u64)))?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let key = row.get_ref(0)?.as_str()?;
        if !key.starts_with(prefix) {
            break;
        }
        keys.push(key.into());
    }
    Ok(keys)
}

/// What writes take of the writer's queue.
pub(crate) fn weight(writes: &[(Key, Option<Bytes>)]) -> usize {
    writes.iter().map(|(key, value)| key.key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
}

/// The first of the keys that is no longer as it was read.
pub(crate) fn changed(connection: &Connection, reads: &[(Key, Revision)]) -> rusqlite::Result<Option<Key>> {
    if reads.is_empty() {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached("SELECT revision FROM state WHERE bucket = ?1 AND key = ?2")?;
    for (key, revision) in reads {
        let now: Option<u64> = statement.query_row((key.bucket.to_string(), &*key.key), |row| row.get(0)).optional()?;
        if now.unwrap_or_default() != revision.0 {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

pub(crate) fn write(connection: &Connection, writes: &[(Key, Option<Bytes>)]) -> rusqlite::Result<()> {
    let count = writes.iter().filter(|(_, value)| value.is_some()).count();
    let mut revision = 0;
    if count > 0 {
        // Each write one of its own, counted from the last that was given.
        revision = connection
            .prepare_cached("UPDATE revisions SET last = last + ?1 RETURNING last - ?1")?
            .query_row([count as i64], |row| row.get::<_, i64>(0))?;
    }
    for (key, value) in writes {
        let bucket = key.bucket.to_string();
        match value {
            Some(value) => {
                revision += 1;
                connection
                    .prepare_cached(
                        "INSERT INTO state (bucket, key, revision, value) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, value = excluded.value",
                    )?
                    .execute((bucket, &*key.key, revision, &value[..]))?;
            }
            None => {
                connection
                    .prepare_cached("DELETE FROM state WHERE bucket = ?1 AND key = ?2")?
                    .execute((bucket, &*key.key))?;
            }
        }
    }
    Ok(())
}
