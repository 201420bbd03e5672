//! Checkpoints: what is in the log (`dunlin.db-wal`) is written back to `dunlin.db`, and the log begins anew.
//!
//! Left alone, SQLite does it inside a commit, and every caller of that commit waits for it. Here a thread of its own does
//! it while the writer goes on, each time the log has grown by [`PIECE`].
//!
//! ```text
//!  log   │ written back │ being written back │ new │ ◀── the writer
//!        └─────────────────── at most LIMIT ───────┘
//! ```
//!
//! The log can begin anew only when all of it is written back, and a writer that never pauses is always ahead of the thread.
//! So when the log has reached [`LIMIT`], the writer itself writes back the rest, which is little by then.

use rusqlite::Connection;
use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Pages of the log that are written back together: 4 MiB. Pages that change often are then written once for many changes.
const PIECE: i64 = 1 << 10;
/// Pages of the log at which the writer sees to it that the log begins anew: 32 MiB.
const LIMIT: i64 = 8 << 10;
/// How long the writer waits for readers that still read from the log. Those of the store take less; one that takes longer
/// keeps the log growing, and no change waits for it.
const READERS: Duration = Duration::from_millis(20);
/// How long any connection waits for a lock another program holds.
pub(crate) const BUSY: Duration = Duration::from_secs(5);

/// The writer's side. Dropping it ends the thread.
pub(crate) struct Checkpoints {
    // `None` once dropping has begun.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// SQLite refuses a second checkpoint while one is going on; with this, the second waits.
    turn: Arc<Mutex<()>>,
    /// Pages of the log at which to try again to begin it anew.
    limit: i64,
}

impl Checkpoints {
    /// `connection` is the thread's own.
    pub(crate) fn start(connection: Connection) -> io::Result<Self> {
        // One wake that waits is as good as many.
        let (wake, wakes) = mpsc::sync_channel(1);
        let turn = Arc::<Mutex<()>>::default();
        let its_turn = turn.clone();
        let work = move || run(&connection, &wakes, &its_turn);
        let thread = thread::Builder::new().name("store-checkpoint".into()).spawn(work)?;
        Ok(Self { wake: Some(wake), thread: Some(thread), turn, limit: LIMIT })
    }

    /// To be called by the writer between commits.
    pub(crate) fn committed(&mut self, writer: &Connection) {
        let Ok((log, done)) = checkpoint(writer, "NOOP") else { return };
        if log - done >= PIECE
            && let Some(wake) = &self.wake
        {
            // It is awake already if it can't be woken.
            let _ = wake.try_send(());
        }
        if log < self.limit {
            return;
        }
        let begun = {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = writer.busy_timeout(READERS);
            let begun = checkpoint(writer, "RESTART");
            waits.and_then(|()| writer.busy_timeout(BUSY)).and(begun).is_ok()
        };
        self.limit = if begun { LIMIT } else { log + LIMIT / 2 };
    }

    /// Gives the space of the log back, as far as readers let it. For when the disk is full.
    pub(crate) fn truncate(&self, writer: &Connection) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // What doesn't work now works when there is space.
        let _ = checkpoint(writer, "TRUNCATE");
    }

    /// Leaves no log behind, so that the next start has nothing to recover. It would be right also with one.
    pub(crate) fn end(&self, writer: &Connection) {
        if writer.busy_timeout(READERS).is_ok() {
            self.truncate(writer);
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It has panicked, and its panic was reported then.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, wakes: &Receiver<()>, turn: &Mutex<()>) {
    while wakes.recv().is_ok() {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        // Readers may keep a part from being written back, or the disk may be full: the next wake tries again, and until
        // then everything is in the log.
        let _ = checkpoint(connection, "PASSIVE");
    }
}

/// Answers with the pages in the log, and with those of them that are written back.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    let mut statement = connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?;
    let (busy, log, done) = statement.query_row([], |row| Ok((row.get::<_, bool>(0)?, row.get(1)?, row.get(2)?)))?;
    if busy {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(code, None));
    }
    Ok((log, done))
}
