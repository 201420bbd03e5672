//! The embedded back end: everything Dunlin remembers, in one SQLite file.
//!
//! ```text
//!  calls that change ──▶ writer: one thread, one connection ──▶ dunlin.db-wal ──▶ dunlin.db
//!                        (what waits is committed together)          │               │
//!  calls that read ────▶ readers: a connection each ◀────────────────┴───────────────┘
//! ```
//!
//! This file owns the data directory: its lock, the writer and the readers. `schema` says what is in the file; each
//! contract of `dunlin-events` has a module that implements it for [`Store`]. All of them share the one file, so that what
//! belongs together commits together.
//!
//! The design choice: a change is on disk (fsync'd, `synchronous=FULL`) before its caller hears of it, and the cost of
//! that is shared among all changes that wait, not avoided.

#![forbid(unsafe_code)]

mod registry;
mod schema;
mod writer;

use rusqlite::{Connection, ErrorCode};
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use writer::Writer;

/// Idle reader connections that are kept: one for each of a few calls at once. More are opened when needed.
const IDLE_READERS: usize = 4;

/// The store of one data directory.
pub struct Store {
    // Dropped in this order: the writer ends, and only then may another process have the directory.
    writer: Writer,
    readers: Arc<Readers>,
    _lock: File,
}

/// Why the data directory can't be used. Nothing in it has changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the data directory `{}` can't be used ({error}): check that it is a directory this user can write to, with space left",
        dir.display()
    )]
    Directory { dir: PathBuf, error: io::Error },
    #[error(
        "the data directory `{}` is in use by another dunlin process{}: stop that one, or give this one a directory of its own",
        dir.display(), process.as_ref().map(|id| format!(" ({id})")).unwrap_or_default()
    )]
    InUse { dir: PathBuf, process: Option<String> },
    #[error(
        "`{}` was written by a newer dunlin (its schema is {found}, this dunlin knows up to {known}): run that version or a later one",
        file.display()
    )]
    Newer { file: PathBuf, found: i64, known: i64 },
    #[error("`{}` is not a file of dunlin: move it away, or choose another data directory", file.display())]
    Foreign { file: PathBuf },
    #[error("the store can't be opened: {0}")]
    Unavailable(String),
}

impl OpenError {
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Unavailable(_))
    }
}

impl Store {
    /// Opens the store in this directory, making both where they are missing.
    ///
    /// The directory belongs to this process for as long as the store lives. Blocks on the disk.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::Directory { dir: dir.to_owned(), error };
        create(dir).map_err(unusable)?;
        let lock = lock(dir)?;
        let file = dir.join("dunlin.db");
        // SQLite gives its other files the mode of this one. Manifests hold values that are nobody else's business, and
        // the directory may have been there before, open to all.
        OpenOptions::new().append(true).create(true).mode(0o600).open(&file).map_err(unusable)?;
        let connection = schema::open(&file)?;
        let writer = Writer::start(connection).map_err(unusable)?;
        Ok(Self { writer, readers: Arc::new(Readers { file, idle: Mutex::default() }), _lock: lock })
    }

    /// Makes a change: whole, and on disk when this returns, or not at all.
    ///
    /// Cancel safe: `work` runs to its end also when its caller went away. It runs again when the changes it was to be
    /// committed with failed, so it must take everything it does from its arguments.
    async fn write<T, E>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, Stop<E>> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.writer.change(work).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(stop)) => Err(self.readers.failed(stop)),
            None => Err(Failed::Unavailable(writer_is_gone())),
        }
    }

    /// Reads on a connection of its own, off the async threads. One statement sees one state; for several, `work` opens
    /// a transaction.
    async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Stop<E>> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let readers = self.readers.clone();
        let read = move || {
            let connection = readers.take().map_err(|error| readers.failed(error.into()))?;
            let result = work(&connection).map_err(|stop| readers.failed(stop));
            readers.put(connection);
            result
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(result) => result,
            Err(error) => Err(Failed::Unavailable(format!("the read broke off: {error}"))),
        }
    }
}

/// Why work on a connection ended without a result.
enum Stop<E> {
    /// The contract says no.
    Refused(E),
    Database(rusqlite::Error),
}

impl<E> From<rusqlite::Error> for Stop<E> {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Why a call failed, as the contracts put it.
enum Failed<E> {
    Refused(E),
    Unavailable(String),
}

/// Connections that read while the writer writes.
struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.file), Ok)
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
    }

    fn failed<E>(&self, stop: Stop<E>) -> Failed<E> {
        match stop {
            Stop::Refused(error) => Failed::Refused(error),
            Stop::Database(error) => Failed::Unavailable(explain(&error, &self.file)),
        }
    }
}

fn create(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // SQLite makes its files durable in the directory; that the directory is in its parent is for us to make durable.
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Takes the directory for this process. The lock is on a file of its own, because closing any handle of `dunlin.db`
/// would drop the locks SQLite has on it. It ends with the process, however that ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let unusable = |error| OpenError::Directory { dir: dir.to_owned(), error };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join("dunlin.lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            // The number is there for people; a full disk must not keep the store from opening.
            let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            let process = Some(process).filter(|process| !process.is_empty());
            Err(OpenError::InUse { dir: dir.to_owned(), process })
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// What a database error means to the one who runs the platform, and what to do about it.
fn explain(error: &rusqlite::Error, file: &Path) -> String {
    let path = file.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            format!("the disk that holds `{path}` is full: free some space and do it again; nothing was changed")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => format!(
            "`{path}` can't be read or written ({error}): check the disk, its quota and the limit on file sizes (`ulimit -f`)"
        ),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            format!("`{path}` can't be written ({error}): check its owner and permissions, and how its disk is mounted")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program holds a lock on `{path}`: close it and do it again")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("`{path}` is damaged ({error}): restore it from a backup")
        }
        _ => format!("`{path}`: {error}"),
    }
}

fn writer_is_gone() -> String {
    "the store's writer ended after an error in dunlin itself (see the log): restart dunlin".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// No kill of a process can show it: only these settings keep a commit over a loss of power.
    #[tokio::test]
    async fn a_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let read = store.write(|connection| {
            let value = |name| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
            Ok::<_, Stop<Infallible>>([value("journal_mode")?, value("synchronous")?, value("foreign_keys")?])
        });
        let Ok(settings) = read.await else { panic!("the pragmas can be read") };
        assert_eq!(settings, ["wal".to_owned().into(), 2.into(), 1.into()]);
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_survived() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let limit = async |pages: i64| {
            let set = store.write(move |connection| {
                Ok::<_, Stop<Infallible>>(
                    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?,
                )
            });
            assert!(set.await.is_ok());
        };
        let insert = async |size: i64| {
            let work = store.write(move |connection| {
                let sql = "INSERT INTO components (digest, info, bytes) VALUES (?1, '{}', zeroblob(?1))";
                Ok::<_, Stop<Infallible>>(connection.execute(sql, [size])?)
            });
            match work.await {
                Ok(_) => Ok(()),
                Err(Failed::Unavailable(reason)) => Err(reason),
            }
        };
        limit(50).await;
        let reason = insert(1 << 20).await.unwrap_err();
        assert!(reason.contains("is full: free some space") && reason.contains("dunlin.db"), "{reason}");
        assert_eq!(insert(10).await, Ok(()), "what fits still goes in");
        limit(10_000).await;
        assert_eq!(insert(1 << 20).await, Ok(()), "and with the space back, all does");
    }
}
