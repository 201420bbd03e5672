//! The embedded back end: everything Dunlin remembers, in one SQLite file.
//!
//! ```text
//!  calls that change ──▶ writer: one thread, one connection ──▶ dunlin.db-wal ──▶ dunlin.db
//!                        (what waits is committed together)          │  checkpoint   │
//!  calls that read ────▶ readers: a connection each ◀────────────────┴───────────────┘
//! ```
//!
//! This file owns the data directory: its lock, the writer and the readers. `schema` says what is in the file; each
//! contract of `dunlin-events` has a module that implements it for [`Store`]: `registry`, `topics`, `consumers`, `state`. All of them share the one file, so that what
//! belongs together commits together.
//!
//! The design choice: a change is on disk (fsync'd, `synchronous=FULL`) before its caller hears of it, and the cost of
//! that is shared among all changes that wait, not avoided.

#![forbid(unsafe_code)]

mod checkpoint;
mod consumers;
mod dead_letters;
mod ends;
mod ids;
mod parked;
mod registry;
mod schema;
mod settled;
mod state;
mod topics;
mod writer;

use checkpoint::Checkpoints;
use ends::Ends;
use ids::Ids;
use rusqlite::{
    Connection, ErrorCode, Row,
    types::{FromSqlError, Type},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    num::NonZeroUsize,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use writer::{Room, Tx, Writer};

/// Reads at once, for each core. More would not be done sooner, and each has a connection with pages of its own: a
/// thousand consumers that read at the same time had a gigabyte of them.
const READS: usize = 4;

/// How long a directory may still be another process's: one that was killed goes when the system comes to it, and one that
/// starts a program lends it its files for a moment.
const PARTING: Duration = Duration::from_millis(500);

/// The store of one data directory.
pub struct Store {
    // Dropped in this order: the writer ends, and only then may another process have the directory.
    writer: Writer,
    readers: Arc<Readers>,
    ends: Arc<Ends>,
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
        let unavailable = |error| OpenError::Unavailable(explain(&error, &file));
        let connection = schema::open(&file)?;
        let ids = Ids::open(&connection).map_err(unavailable)?;
        let checkpointer = schema::open_checkpointer(&file).map_err(unavailable)?;
        let checkpoints = Checkpoints::start(checkpointer).map_err(unusable)?;
        let writer = Writer::start(connection, ids, checkpoints, sweep).map_err(unusable)?;
        let readers = Arc::new(Readers::new(file));
        Ok(Self { writer, readers, ends: Arc::default(), _lock: lock })
    }

    /// Reads all of the database in this directory for damage, and changes nothing. `false` where there is none yet. It takes
    /// as long as reading the file does, and refuses while a platform has the directory.
    pub fn examine(dir: &Path) -> Result<bool, OpenError> {
        let file = dir.join("dunlin.db");
        if !file.is_file() {
            return Ok(false);
        }
        let _lock = lock(dir)?;
        schema::examine(&file)?;
        Ok(true)
    }

    /// Makes a change: whole, and on disk when this returns, or not at all.
    ///
    /// Cancel safe: `work` runs to its end also when its caller went away. It runs again when the changes it was to be
    /// committed with failed, so it must take everything it does from its arguments.
    async fn write<T, E>(
        &self,
        work: impl FnMut(&Tx<'_>) -> Result<T, Stop<E>> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.write_then(self.writer.room(0).await, work, |_| {}).await
    }

    /// As `write`, for a change that takes more of the queue than its place, or that others are to hear of: `then` runs
    /// when it is on disk, also if the caller went away.
    async fn write_then<T, E>(
        &self,
        room: Room,
        work: impl FnMut(&Tx<'_>) -> Result<T, Stop<E>> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.writer.change(room, work, then).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(stop)) => Err(self.readers.failed(stop)),
            None => Err(Failed::Unavailable(writer_is_gone())),
        }
    }

    /// Reads on a connection of its own, off the async threads, when it is its turn. One statement sees one state; for
    /// several, `work` opens a transaction.
    async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Stop<E>> + Send + 'static,
    ) -> Result<T, Failed<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let readers = self.readers.clone();
        let turn = readers.turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let read = move || {
            // Also when the caller goes away, the read goes on.
            let _turn = turn;
            readers.read(work)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(result) => result,
            Err(error) => Err(Failed::Unavailable(format!("the read broke off: {error}"))),
        }
    }

    /// Reads at once, on the async thread that calls. For what touches a few rows: that takes microseconds when the pages
    /// are in memory, less than it takes to hand the work to another thread and back (10 to 20 µs), and the time of one
    /// read of the disk when they aren't. It waits for no turn: there are never more of them than async threads.
    async fn look<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, Stop<E>>) -> Result<T, Failed<E>> {
        // Who looks again and again would otherwise never let another task of its thread run.
        tokio::task::coop::consume_budget().await;
        self.readers.read(work)
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

impl<E> From<FromSqlError> for Stop<E> {
    fn from(error: FromSqlError) -> Self {
        Self::Database(error.into())
    }
}

/// Why a call failed, as the contracts put it.
enum Failed<E> {
    Refused(E),
    Unavailable(String),
}

/// Does a piece of what nobody waits for, and answers whether there is more.
fn sweep(tx: &Tx<'_>) -> rusqlite::Result<bool> {
    Ok(ids::settle(tx)? || parked::sweep(tx)? || topics::sweep(tx)?)
}

/// Connections that read while the writer writes.
struct Readers {
    file: PathBuf,
    turns: Arc<Semaphore>,
    /// As many are kept as there are turns.
    most: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn new(file: PathBuf) -> Self {
        let most = READS * thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { file, turns: Arc::new(Semaphore::new(most)), most, idle: Mutex::default() }
    }

    fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, Stop<E>>) -> Result<T, Failed<E>> {
        let connection = self.take().map_err(|error| self.failed(error.into()))?;
        let result = work(&connection).map_err(|stop| self.failed(stop));
        self.put(connection);
        result
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| schema::open_reader(&self.file), Ok)
    }

    fn put(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.most {
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
    let until = Instant::now() + PARTING;
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
        locked = file.try_lock();
    }
    match locked {
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

/// A number as SQLite has it: what it can't count to is beyond all it holds.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a column holds as JSON.
fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|error| unreadable(column, error))
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is kept as JSON are maps of names to plain values")
}

/// What a column holds as a text of a form of its own.
fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn writer_is_gone() -> String {
    "the store's writer ended after an error in dunlin itself (see the log): restart dunlin".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_events::{
        Event,
        consumers::{ConsumerName, DeadLetterFilter, Start},
        state::{Bucket, Key, StateStore},
        topics::{EventLog, LogError, TopicName},
    };
    use futures_util::{FutureExt, future::join_all};
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    };

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
        let orders: TopicName = "orders".parse().unwrap();
        store.create(vec![orders.clone()]).await.unwrap();
        let limit = async |pages: i64| {
            let set = store.write(move |connection| {
                Ok::<_, Stop<Infallible>>(
                    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?,
                )
            });
            assert!(set.await.is_ok());
        };
        let append = async |id: &str, size: usize| {
            let mut event = Event::new(id, "/s", "test").unwrap();
            event.set_data(None, vec![7; size].into()).unwrap();
            match store.append(&orders, vec![event]).await {
                Ok(appended) => Ok(appended[0].offset),
                Err(LogError::Unavailable(reason)) => Err(reason),
                Err(error) => panic!("{error}"),
            }
        };
        limit(60).await;
        assert_eq!(append("first", 10).await, Ok(0));
        let mut waiting = Box::pin(store.appended(&orders, 1));
        assert!((&mut waiting).now_or_never().is_none());
        let reason = append("large", 1 << 20).await.unwrap_err();
        assert!(reason.contains("is full: free some space") && reason.contains("dunlin.db"), "{reason}");
        assert!((&mut waiting).now_or_never().is_none(), "nobody hears of what was not appended");
        assert_eq!(append("second", 10).await, Ok(1), "what fits still goes in");
        assert_eq!(waiting.await, Ok(()));
        limit(10_000).await;
        assert_eq!(append("large", 1 << 20).await, Ok(2), "and with the space back, all does");
        let events = EventLog::read(&store, &orders, 0, 10, usize::MAX).await.unwrap().events;
        assert_eq!(events.iter().map(|stored| stored.event.id()).collect::<Vec<_>>(), ["first", "second", "large"]);
    }

    #[tokio::test]
    async fn who_publishes_too_much_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let orders: TopicName = "orders".parse().unwrap();
        store.create(vec![orders.clone()]).await.unwrap();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let mut slow = Box::pin(store.write(move |_| {
            held.recv().unwrap();
            Ok::<_, Stop<Infallible>>(())
        }));
        assert!((&mut slow).now_or_never().is_none());
        let append = |id: &str| {
            let mut event = Event::new(id, "/s", "test").unwrap();
            event.set_data(Some("text/plain"), vec![b'x'; 10 << 20].into()).unwrap();
            Box::pin(store.append(&orders, vec![event]))
        };
        let mut first = append("first");
        assert!((&mut first).now_or_never().is_none());
        let error = append("second").await.unwrap_err();
        assert!(matches!(error, LogError::Busy(_)) && error.retryable(), "{error}");
        // All others wait for their turn.
        let key = Key::new(Bucket::Function("f".parse().unwrap()), "key").unwrap();
        let mut large = store.apply(vec![], vec![(key.clone(), Some(vec![0; 20 << 20].into()))]);
        assert!((&mut large).now_or_never().is_none());
        release.send(()).unwrap();
        assert!(slow.await.is_ok());
        first.await.unwrap();
        large.await.unwrap();
        append("second").await.unwrap();
        assert_eq!(store.topic(&orders).await.unwrap().end, 2);
        assert!(store.get(vec![key]).await.unwrap()[0].is_some());
    }

    /// There is always somebody who reads from `dunlin.db-wal`, and always somebody who writes: it begins anew all the same.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn the_log_file_stays_small_while_all_write_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let key = |i: u8| Key::new(Bucket::Function("f".parse().unwrap()), &i.to_string()).unwrap();
        let readers = (0..2).map(|reader| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    store.get(vec![key(reader)]).await.unwrap();
                }
            })
        });
        let readers: Vec<_> = readers.collect();
        let written = 200;
        for i in 0..written / 2 {
            let write = |at| store.apply(vec![], vec![(key(at), Some(vec![i; 1 << 20].into()))]);
            let (one, two) = futures_util::future::join(write(i % 4), write(4 + i % 4)).await;
            one.and(two).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(join_all(readers).await.into_iter().all(|reader| reader.is_ok()));
        let log = std::fs::metadata(dir.path().join("dunlin.db-wal")).unwrap().len();
        // Twice its limit on an idle machine; on a busy one readers hold it up for longer.
        assert!(log < 100 << 20, "{} MiB of {written}", log >> 20);
    }

    #[tokio::test]
    async fn what_was_not_swept_is_swept_after_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let orders: TopicName = "orders".parse().unwrap();
        let left = async |store: &Store| {
            let left = store.read(|connection| {
                let sql = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM topics)";
                let left: (u64, u64) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok::<_, Stop<Infallible>>(left)
            });
            let Ok(left) = left.await else { panic!("they can be counted") };
            left
        };
        let store = Store::open(dir.path()).unwrap();
        store.create(vec![orders.clone()]).await.unwrap();
        let events = (0..5000).map(|id| Event::new(id.to_string(), "/s", "test").unwrap());
        store.append(&orders, events.collect()).await.unwrap();
        store.remove(&orders).await.unwrap();
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        while left(&store).await != (0, 0) {}
        assert_eq!(store.topics().await, Ok(vec![]));
    }

    /// However many read, a few do at a time, and who only looks waits for none of them.
    #[tokio::test]
    async fn reads_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let most = store.readers.most;
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (running, held) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(held)));
        let reads = (0..3 * most).map(|_| {
            let (running, held) = (running.clone(), held.clone());
            store.read(move |_| {
                running.fetch_add(1, Ordering::Relaxed);
                assert!(held.lock().unwrap().recv().is_err(), "until the other end is dropped");
                Ok::<_, Stop<Infallible>>(())
            })
        });
        let mut reads = Box::pin(join_all(reads));
        assert!((&mut reads).now_or_never().is_none());
        while running.load(Ordering::Relaxed) < most {
            tokio::task::yield_now().await;
        }
        let looked = store.look(|connection| Ok::<_, Stop<Infallible>>(connection.is_autocommit())).await;
        assert!(matches!(looked, Ok(true)));
        assert!((&mut reads).now_or_never().is_none());
        assert_eq!((store.readers.turns.available_permits(), running.load(Ordering::Relaxed)), (0, most));
        drop(release);
        let reads = reads.await;
        assert!(reads.len() == 3 * most && reads.iter().all(Result::is_ok));
        assert!(store.readers.idle.lock().unwrap().len() <= most);
    }

    /// Every publisher waits for the transaction before its own, so none is long: not when 200,000 rows go.
    #[test]
    fn what_takes_many_rows_away_takes_a_piece_at_a_time() {
        const MANY: u64 = 200_000;
        let dir = tempfile::tempdir().unwrap();
        let connection = schema::open(&{
            let file = dir.path().join("dunlin.db");
            std::fs::write(&file, "").unwrap();
            file
        })
        .unwrap();
        connection.execute_batch("PRAGMA synchronous = off").unwrap();
        let ids = Ids::open(&connection).unwrap();
        let changes = |work: &mut dyn FnMut(&Tx<'_>)| {
            let before = connection.total_changes();
            let transaction = connection.unchecked_transaction().unwrap();
            let undo = ids.begin();
            work(&Tx::new(&transaction, &ids));
            transaction.commit().unwrap();
            undo.keep();
            connection.total_changes() - before
        };
        let count = |table: &str| -> u64 {
            connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        let name = ConsumerName { function: "f".parse().unwrap(), topic: "orders".parse().unwrap() };
        let park = |rows: u64| {
            let sql = "INSERT INTO parked (consumer, offset, head, key, attempts, error)
                       SELECT (SELECT max(id) FROM consumers), n, 0, n % 100, 0, '' FROM numbers LIMIT ?1";
            connection.execute(sql, [int(rows)]).unwrap();
        };
        let fill = "CREATE TEMP TABLE numbers AS
                        WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT ?1) SELECT n FROM n";
        connection.execute(fill, [int(MANY)]).unwrap();
        connection.execute_batch("INSERT INTO topics (name, created_at) VALUES ('orders', 0)").unwrap();
        connection.execute_batch("INSERT INTO consumers (function, topic, position) VALUES ('f', 1, 0)").unwrap();

        park(MANY);
        let mut seek = |connection: &Tx<'_>| assert!(consumers::seek(connection, &name, Start::Now).is_ok());
        assert!(changes(&mut seek) < 10);
        park(1000);
        assert!(changes(&mut |connection| consumers::forget(connection, &name.function).unwrap()) < 10);
        let mut open = |connection: &Tx<'_>| {
            let event = Event::new("1", "/s", "test").unwrap();
            assert!(consumers::open(connection, &name, Start::Beginning).is_ok());
            let sql = "INSERT INTO dead_letters (function, topic, topic_id, offset, key, attempts, failed_at, reason, error, event)
                       SELECT 'f', 'orders', 1, ?1 - n, n % 100, 1, 1, 'trap', '', ?2 FROM numbers WHERE n > 0";
            connection.execute(sql, (int(MANY), topics::event_text(&event))).unwrap();
        };
        changes(&mut open);
        assert_eq!((count("parked"), count("forgotten")), (MANY + 1000, 2), "and none of it is another consumer's");
        let letters = dead_letters::in_order(&connection, &DeadLetterFilter::default()).unwrap();
        assert!(letters.is_sorted_by(|a, b| a > b), "the last to die was the first in the topic");
        let (given, dropped) = letters.split_at(2000);
        for piece in given.chunks(dead_letters::PIECE) {
            let mut redrive = |connection: &Tx<'_>| {
                let given = dead_letters::redrive(connection, piece, 1).unwrap();
                assert_eq!(given.values().sum::<u64>(), piece.len() as u64);
            };
            assert!(changes(&mut redrive) < 5 * dead_letters::PIECE as u64);
        }
        assert_eq!((count("dead_letters"), count("parked")), (MANY - 1 - 2000, MANY + 3000));
        for piece in dropped[..2000].chunks(dead_letters::PIECE) {
            let mut delete = |connection: &Tx<'_>| {
                assert_eq!(dead_letters::delete(connection, piece).unwrap(), piece.len() as u64);
            };
            assert_eq!(changes(&mut delete), dead_letters::PIECE as u64);
        }
        assert!(changes(&mut |connection| assert!(topics::remove(connection, &name.topic).is_ok())) < 10);

        let mut more = true;
        let mut pieces = 0;
        while more {
            assert!(changes(&mut |connection| more = sweep(connection).unwrap()) <= topics::PIECE.0);
            pieces += 1;
        }
        assert!(pieces > (MANY + 3000) / topics::PIECE.0);
        assert_eq!((count("parked"), count("forgotten"), count("consumers"), count("topics")), (0, 0, 0, 0));
    }
}
