//! The writer: the one thread that changes the file.
//!
//! It owns the order of changes and their commits, and knows nothing of what they do. The design choice is group commit:
//! an fsync costs the same for one change as for a hundred, so all that wait go into one transaction. When that
//! transaction fails, each change is made again alone, so that none pays for another.
//!
//! ```text
//!  waiting   c b a ──▶ BEGIN │ a │ b │ c │ COMMIT (fsync) ──▶ a, b and c hear of it
//!            └ at most QUEUE bytes: who finds no room waits, or is told so
//! ```
//!
//! A change that is refused must not leave traces. Most refuse before they write anything, and then there is nothing to
//! undo. So a batch is made without savepoints at first, which would copy each page a change touches; only when a change
//! was refused that had written already is the batch made again, with a savepoint for each.

use crate::{Stop, checkpoint::Checkpoints, ids::Ids};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    io,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender, TryRecvError},
    },
    thread::{self, JoinHandle},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// What may wait for the writer, in bytes. About half a second of work for a disk that keeps up.
pub(crate) const QUEUE: u32 = 32 << 20;
/// What a change takes of the queue beside the bytes it brings: the smallest keep the writer busy too.
const CHANGE: u32 = 1 << 10;
/// A commit takes no more changes once it has so many bytes of the queue: it would make the first wait longer without
/// making an fsync any cheaper.
const BATCH: usize = 2 << 20;

/// Rows that change before the chore is looked at again: what was done may have made one.
const ROWS: u64 = 10_000;

/// Work nobody waits for, done a bounded piece at a time when no change waits, and otherwise one piece after each batch.
/// Answers whether there is more.
pub(crate) type Chore = fn(&Tx<'_>) -> rusqlite::Result<bool>;

/// A transaction: the file, and what the writer keeps in memory beside it.
pub(crate) struct Tx<'a> {
    connection: &'a Connection,
    pub(crate) ids: &'a Ids,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection, ids: &'a Ids) -> Self {
        Self { connection, ids }
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// The handle of the writer's thread. Dropping it waits for the changes that are queued.
pub(crate) struct Writer {
    // `None` once dropping has begun.
    queue: Option<Sender<Box<dyn Change>>>,
    room: Arc<Semaphore>,
    chore: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A change's place in the queue. It is given back when the change was made.
pub(crate) struct Room(OwnedSemaphorePermit);

impl Writer {
    /// The chore is begun at once: it may have been left unfinished.
    pub(crate) fn start(connection: Connection, ids: Ids, checkpoints: Checkpoints, chore: Chore) -> io::Result<Self> {
        let (queue, changes) = mpsc::channel();
        let due = Arc::new(AtomicBool::new(true));
        let thread = Thread { connection, ids, changes, checkpoints, chore, chore_due: due.clone(), looked_at: 0 };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(|| thread.run())?;
        let room = Arc::new(Semaphore::new(QUEUE as usize));
        Ok(Self { queue: Some(queue), room, chore: due, thread: Some(thread) })
    }

    /// Waits until there is room for a change that brings so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Room {
        let permit = self.room.clone().acquire_many_owned(weight(bytes)).await;
        Room(permit.expect("the semaphore is never closed"))
    }

    /// Room for a change that brings so many bytes, if there is some and nobody waits for it.
    pub(crate) fn room_now(&self, bytes: usize) -> Option<Room> {
        self.room.clone().try_acquire_many_owned(weight(bytes)).ok().map(Room)
    }

    /// What a change sets to have the chore done.
    pub(crate) fn chore(&self) -> Arc<AtomicBool> {
        self.chore.clone()
    }

    /// Queues a change and waits until it is on disk. `then` runs as soon as it is, also when the caller has gone away.
    /// `None` when the writer's thread has died.
    pub(crate) async fn change<T, E>(
        &self,
        room: Room,
        work: impl FnMut(&Tx<'_>) -> Result<T, Stop<E>> + Send + 'static,
        then: impl FnOnce(&T) + Send + 'static,
    ) -> Option<Result<T, Stop<E>>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let change = Waiting { room, work, then, outcome: None, caller };
        self.queue.as_ref().expect("only dropping takes it").send(Box::new(change)).ok()?;
        answer.await.ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It has panicked, and its panic was reported then.
            let _ = thread.join();
        }
    }
}

/// What a change takes of the queue. One that is larger than the queue waits until it is alone there.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(QUEUE).saturating_add(CHANGE).min(QUEUE)
}

trait Change: Send {
    /// Bytes of the queue it takes.
    fn weight(&self) -> usize;

    /// Makes the change inside a transaction; it may be asked again after a failure. `false` when it was refused and
    /// is to be undone.
    fn make(&mut self, tx: &Tx<'_>) -> rusqlite::Result<bool>;

    /// Tells the caller how it ended.
    fn answer(self: Box<Self>, committed: rusqlite::Result<()>);
}

struct Waiting<W, F, T, E> {
    room: Room,
    work: W,
    then: F,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, Stop<E>>>,
}

impl<W, F, T, E> Change for Waiting<W, F, T, E>
where
    W: FnMut(&Tx<'_>) -> Result<T, Stop<E>> + Send,
    F: FnOnce(&T) + Send,
    T: Send,
    E: Send,
{
    fn weight(&self) -> usize {
        self.room.0.num_permits()
    }

    fn make(&mut self, tx: &Tx<'_>) -> rusqlite::Result<bool> {
        let outcome = match (self.work)(tx) {
            Ok(value) => Ok(value),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Database(error)) => return Err(error),
        };
        Ok(self.outcome.insert(outcome).is_ok())
    }

    fn answer(self: Box<Self>, committed: rusqlite::Result<()>) {
        let Self { room, then, outcome, caller, .. } = *self;
        let result = match committed {
            Ok(()) => outcome.expect("what was committed was made").map_err(Stop::Refused),
            Err(error) => Err(Stop::Database(error)),
        };
        if let Ok(value) = &result {
            then(value);
        }
        // First, so that whoever was answered finds its room free.
        drop(room);
        // A caller that went away doesn't hear of it; the change stands.
        let _ = caller.send(result);
    }
}

struct Thread {
    connection: Connection,
    ids: Ids,
    changes: Receiver<Box<dyn Change>>,
    // Its thread ends with this one.
    checkpoints: Checkpoints,
    chore: Chore,
    chore_due: Arc<AtomicBool>,
    /// Rows that had changed when the chore was last found due for it.
    looked_at: u64,
}

impl Thread {
    fn run(mut self) {
        loop {
            let first = if self.chore_due.load(Ordering::Relaxed) {
                match self.changes.try_recv() {
                    Ok(change) => change,
                    Err(TryRecvError::Empty) => {
                        self.do_chore();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => break,
                }
            } else {
                let Ok(change) = self.changes.recv() else { break };
                change
            };
            let mut bytes = first.weight();
            let mut batch = vec![first];
            while bytes < BATCH
                && let Ok(change) = self.changes.try_recv()
            {
                bytes += change.weight();
                batch.push(change);
            }
            self.make(batch);
            // Nobody waits for it.
            self.checkpoints.committed(&self.connection);
            if self.connection.total_changes() - self.looked_at >= ROWS {
                self.looked_at = self.connection.total_changes();
                self.chore_due.store(true, Ordering::Relaxed);
            }
            if self.chore_due.load(Ordering::Relaxed) {
                self.do_chore();
            }
        }
        self.checkpoints.end(&self.connection);
    }

    fn make(&mut self, mut batch: Vec<Box<dyn Change>>) {
        match self.commit(&mut batch) {
            Ok(()) => batch.into_iter().for_each(|change| change.answer(Ok(()))),
            Err(error) => match <[_; 1]>::try_from(batch) {
                Ok([change]) => change.answer(Err(error)),
                Err(batch) => {
                    for mut change in batch {
                        let committed = self.commit(std::slice::from_mut(&mut change));
                        change.answer(committed);
                    }
                }
            },
        }
    }

    /// Makes changes and commits them: all that were not refused, or none.
    fn commit(&mut self, batch: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
        let result = match attempt(&mut self.connection, &self.ids, batch, false) {
            Ok(true) => Ok(()),
            Ok(false) => attempt(&mut self.connection, &self.ids, batch, true).map(|_| ()),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // On a full disk it is often the failed change itself that fills it: what it wrote to the log is worthless
            // now, and only this gives the space back. The error to report is the first one.
            self.checkpoints.truncate(&self.connection);
        }
        result
    }

    /// It need not be on disk when it returns: the next commit that somebody waits for takes it along, and after a crash before
    /// that it is done again.
    fn do_chore(&mut self) {
        let wait = |connection: &Connection, synchronous: &str| {
            connection.pragma_update(None, "synchronous", synchronous).expect("it is said between transactions")
        };
        wait(&self.connection, "normal");
        // What it could not do now it does when there is something new to do, or after the next start.
        let more = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(|transaction| {
            let undo = self.ids.begin();
            let more = (self.chore)(&Tx::new(&transaction, &self.ids))?;
            transaction.commit()?;
            undo.keep();
            Ok(more)
        });
        wait(&self.connection, "full");
        self.checkpoints.committed(&self.connection);
        if !matches!(more, Ok(true)) {
            self.chore_due.store(false, Ordering::Relaxed);
        }
    }
}

/// Makes a batch in one transaction. `false`: a change was refused after it had written something, and without savepoints
/// it could not be undone alone, so nothing was done.
fn attempt(
    connection: &mut Connection,
    ids: &Ids,
    batch: &mut [Box<dyn Change>],
    savepoints: bool,
) -> rusqlite::Result<bool> {
    // Dropped before it is committed, or when its commit failed, it is rolled back.
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let undo = ids.begin();
    for change in batch {
        if savepoints {
            let savepoint = transaction.savepoint()?;
            let undo = ids.begin();
            if change.make(&Tx::new(&savepoint, ids))? {
                savepoint.commit()?;
                undo.keep();
            } else {
                savepoint.finish()?;
            }
        } else {
            let before = transaction.total_changes();
            if !change.make(&Tx::new(&transaction, ids))? && transaction.total_changes() != before {
                return Ok(false);
            }
        }
    }
    transaction.commit()?;
    undo.keep();
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, future::join_all};
    use std::sync::{Arc, Mutex};

    type Answer = Result<(), Stop<&'static str>>;

    fn insert(connection: &Connection, value: i64) -> Answer {
        connection.execute("INSERT INTO t VALUES (?1)", [value])?;
        Ok(())
    }

    fn no_chore(_: &Tx<'_>) -> rusqlite::Result<bool> {
        Ok(false)
    }

    fn writer(chore: Chore) -> (tempfile::TempDir, Writer, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connection::open(dir.path().join("t.db")).unwrap();
        open().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (value INTEGER CHECK (value < 100))").unwrap();
        let writer = Writer::start(open(), Ids::default(), Checkpoints::start(open()).unwrap(), chore).unwrap();
        let reader = open();
        (dir, writer, reader)
    }

    fn values(reader: &Connection) -> Vec<i64> {
        let mut statement = reader.prepare("SELECT value FROM t ORDER BY value").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    async fn change(writer: &Writer, work: impl FnMut(&Tx<'_>) -> Answer + Send + 'static) -> Option<Answer> {
        writer.change(writer.room(0).await, work, |()| {}).await
    }

    /// Holds the writer in a change until the sender is used, so that what is queued meanwhile becomes one batch.
    async fn hold(writer: &Writer) -> (Sender<()>, impl Future<Output = Option<Answer>>) {
        let (release, held) = mpsc::channel::<()>();
        let (begun, beginning) = oneshot::channel();
        let mut begun = Some(begun);
        let mut holding = Box::pin(change(writer, move |_| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
            }
            held.recv().unwrap();
            Ok(())
        }));
        assert!((&mut holding).now_or_never().is_none());
        beginning.await.unwrap();
        (release, holding)
    }

    #[tokio::test]
    async fn changes_that_wait_are_committed_together() {
        let (_dir, writer, reader) = writer(no_chore);
        let (release, holding) = hold(&writer).await;
        let (seen, sees) = mpsc::channel();
        let mut first = Box::pin(change(&writer, |connection| insert(connection, 1)));
        assert!((&mut first).now_or_never().is_none());
        let (go, wait) = mpsc::channel::<()>();
        let mut second = Box::pin(change(&writer, move |connection| {
            insert(connection, 2)?;
            seen.send(values(connection)).unwrap();
            wait.recv().unwrap();
            Ok(())
        }));
        assert!((&mut second).now_or_never().is_none());
        release.send(()).unwrap();
        assert!(matches!(holding.await, Some(Ok(()))));

        // The second is at work and the first was made, but nobody hears or sees of it before both are committed.
        assert_eq!(sees.recv().unwrap(), [1, 2]);
        assert!((&mut first).now_or_never().is_none());
        assert!(values(&reader).is_empty());
        go.send(()).unwrap();
        assert!(matches!((first.await, second.await), (Some(Ok(())), Some(Ok(())))));
        assert_eq!(values(&reader), [1, 2]);
    }

    #[tokio::test]
    async fn a_failing_change_takes_no_other_with_it() {
        let (_dir, writer, reader) = writer(no_chore);
        // What is queued, which of it are refused after they wrote something, what is there then, and how often they ran.
        for (queued, refused, there, runs) in [
            (&[1, 2, 3][..], None, &[1, 2, 3][..], 3),
            (&[11, 12, 13], Some(12), &[1, 2, 3, 11, 13], 2 + 3),
            (&[21, 300, 23], None, &[1, 2, 3, 11, 13, 21, 23], 2 + 3),
            (&[31, 32, 300, 34], Some(32), &[1, 2, 3, 11, 13, 21, 23, 31, 34], 2 + 3 + 4 + 1),
        ] {
            let (release, holding) = hold(&writer).await;
            let ran = Arc::new(Mutex::new(0));
            let changes = queued.iter().map(|value| {
                let (value, ran) = (*value, ran.clone());
                change(&writer, move |connection| {
                    *ran.lock().unwrap() += 1;
                    insert(connection, value)?;
                    if Some(value) == refused { Err(Stop::Refused("no")) } else { Ok(()) }
                })
            });
            let mut changes = Box::pin(join_all(changes));
            assert!((&mut changes).now_or_never().is_none());
            release.send(()).unwrap();
            assert!(holding.await.is_some());
            for (value, answer) in queued.iter().zip(changes.await) {
                match answer.unwrap() {
                    Ok(()) => assert!(there.contains(value)),
                    Err(Stop::Refused(_)) => assert_eq!(Some(*value), refused),
                    Err(Stop::Database(_)) => assert_eq!(*value, 300),
                }
            }
            assert_eq!(values(&reader), there);
            assert_eq!(*ran.lock().unwrap(), runs, "{queued:?}");
        }
    }

    #[tokio::test]
    async fn a_commit_that_fails_leaves_nothing_behind() {
        let (_dir, writer, reader) = writer(no_chore);
        reader.execute_batch("CREATE TABLE parent (id INTEGER PRIMARY KEY)").unwrap();
        reader
            .execute_batch("CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
            .unwrap();
        // Only COMMIT itself finds fault with it.
        let broken = change(&writer, |connection| {
            insert(connection, 1)?;
            connection.execute("INSERT INTO child VALUES (7)", [])?;
            Ok(())
        });
        assert!(matches!(broken.await, Some(Err(Stop::Database(_)))));
        assert!(matches!(change(&writer, |connection| insert(connection, 2)).await, Some(Ok(()))));
        assert_eq!(values(&reader), [2]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let (_dir, writer, reader) = writer(no_chore);
        let (release, holding) = hold(&writer).await;
        let half = QUEUE as usize / 2;
        let told = Arc::new(Mutex::new(Vec::new()));
        let queue = |value| {
            let (room, told) = (writer.room_now(half), told.clone());
            let work = move |connection: &Tx<'_>| insert(connection, value);
            room.map(|room| writer.change(room, work, move |()| told.lock().unwrap().push(value)))
        };
        let mut first = Box::pin(queue(1).unwrap());
        assert!((&mut first).now_or_never().is_none());
        assert!(queue(2).is_none(), "no room at once");
        let mut waiting = Box::pin(writer.room(10 * QUEUE as usize));
        assert!((&mut waiting).now_or_never().is_none(), "nor for who waits");
        // One that is there but whose caller has gone is made all the same, and others hear of it.
        drop(first);
        release.send(()).unwrap();
        assert!(holding.await.is_some());
        drop(waiting.await);
        assert_eq!(*told.lock().unwrap(), [1]);
        assert_eq!(values(&reader), [1]);
        assert!(queue(2).is_some(), "what was made gave its room back");
    }

    #[tokio::test]
    async fn the_chore_is_done_when_nobody_waits() {
        let chore: Chore = |connection| {
            let more: i64 = connection.query_row("SELECT count(*) FROM t WHERE value < 0", [], |row| row.get(0))?;
            connection.execute("DELETE FROM t WHERE value = (SELECT min(value) FROM t WHERE value < 0)", [])?;
            Ok(more > 1)
        };
        let (_dir, writer, reader) = writer(chore);
        let due = writer.chore();
        let fill = |connection: &Tx<'_>| (-50..3).try_for_each(|value| insert(connection, value));
        let then = move |&(): &()| due.store(true, Ordering::Relaxed);
        assert!(matches!(writer.change(writer.room(0).await, fill, then).await, Some(Ok(()))));
        while values(&reader).len() > 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(values(&reader), [0, 1, 2]);
    }
}
