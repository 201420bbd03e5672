//! The writer: the one thread that changes the file.
//!
//! It owns the order of changes and their commits, and knows nothing of what they do. The design choice is group commit:
//! an fsync costs the same for one change as for a hundred, so all that wait go into one transaction, each in a savepoint
//! of its own. When that transaction fails, each change is made again alone, so that none pays for another.
//!
//! ```text
//!  waiting   c b a ──▶ BEGIN │ a │ b │ c │ COMMIT (fsync) ──▶ a, b and c hear of it
//!                              one savepoint each: a refused change is undone alone
//! ```

use crate::Stop;
use rusqlite::{Connection, TransactionBehavior};
use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;

/// Changes in one commit at most: more would make the first wait longer without making an fsync any cheaper.
const BATCH: usize = 1000;

/// The handle of the writer's thread. Dropping it waits for the changes that are queued.
pub(crate) struct Writer {
    // `None` once dropping has begun.
    queue: Option<Sender<Box<dyn Change>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> io::Result<Self> {
        let (queue, changes) = mpsc::channel();
        let thread = thread::Builder::new().name("store-writer".into()).spawn(|| run(connection, changes))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a change and waits until it is on disk. `None` when the writer's thread has died.
    pub(crate) async fn change<T, E>(
        &self,
        work: impl FnMut(&Connection) -> Result<T, Stop<E>> + Send + 'static,
    ) -> Option<Result<T, Stop<E>>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let change = Waiting { work, outcome: None, caller };
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

trait Change: Send {
    /// Makes the change inside a transaction; it may be asked again after a failure. `false` when it was refused and
    /// is to be undone.
    fn make(&mut self, connection: &Connection) -> rusqlite::Result<bool>;

    /// Tells the caller how it ended.
    fn answer(self: Box<Self>, committed: rusqlite::Result<()>);
}

struct Waiting<W, T, E> {
    work: W,
    outcome: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, Stop<E>>>,
}

impl<W, T, E> Change for Waiting<W, T, E>
where
    W: FnMut(&Connection) -> Result<T, Stop<E>> + Send,
    T: Send,
    E: Send,
{
    fn make(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let outcome = match (self.work)(connection) {
            Ok(value) => Ok(value),
            Err(Stop::Refused(error)) => Err(error),
            Err(Stop::Database(error)) => return Err(error),
        };
        Ok(self.outcome.insert(outcome).is_ok())
    }

    fn answer(self: Box<Self>, committed: rusqlite::Result<()>) {
        let result = match committed {
            Ok(()) => self.outcome.expect("what was committed was made").map_err(Stop::Refused),
            Err(error) => Err(Stop::Database(error)),
        };
        // A caller that went away doesn't hear of it; the change stands.
        let _ = self.caller.send(result);
    }
}

fn run(mut connection: Connection, changes: Receiver<Box<dyn Change>>) {
    while let Ok(first) = changes.recv() {
        let mut batch = vec![first];
        batch.extend(changes.try_iter().take(BATCH - 1));
        match commit(&mut connection, &mut batch) {
            Ok(()) => batch.into_iter().for_each(|change| change.answer(Ok(()))),
            Err(error) => match <[_; 1]>::try_from(batch) {
                Ok([change]) => change.answer(Err(error)),
                Err(batch) => {
                    for mut change in batch {
                        let committed = commit(&mut connection, std::slice::from_mut(&mut change));
                        change.answer(committed);
                    }
                }
            },
        }
    }
}

/// Makes changes and commits them: all that were not refused, or none.
fn commit(connection: &mut Connection, batch: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
    let result = attempt(connection, batch);
    if result.is_err() {
        // On a full disk it is often the failed change itself that fills it: what it wrote to the log is worthless now,
        // and only this gives the space back before the next checkpoint. The error to report is the first one.
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    result
}

fn attempt(connection: &mut Connection, batch: &mut [Box<dyn Change>]) -> rusqlite::Result<()> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in batch {
        let savepoint = transaction.savepoint()?;
        if change.make(&savepoint)? {
            savepoint.commit()?;
        } else {
            savepoint.finish()?;
        }
    }
    transaction.commit()
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

    fn writer() -> (tempfile::TempDir, Writer, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let open = || Connection::open(dir.path().join("t.db")).unwrap();
        open().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (value INTEGER CHECK (value < 100))").unwrap();
        let writer = Writer::start(open()).unwrap();
        let reader = open();
        (dir, writer, reader)
    }

    fn values(reader: &Connection) -> Vec<i64> {
        let mut statement = reader.prepare("SELECT value FROM t ORDER BY value").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Holds the writer in a change until the sender is used, so that what is queued meanwhile becomes one batch.
    async fn hold(writer: &Writer) -> (Sender<()>, impl Future<Output = Option<Answer>>) {
        let (release, held) = mpsc::channel::<()>();
        let (begun, beginning) = oneshot::channel();
        let mut begun = Some(begun);
        let mut holding = Box::pin(writer.change(move |_| {
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
        let (_dir, writer, reader) = writer();
        let (release, holding) = hold(&writer).await;
        let (seen, sees) = mpsc::channel();
        let mut first = Box::pin(writer.change(|connection| insert(connection, 1)));
        assert!((&mut first).now_or_never().is_none());
        let (go, wait) = mpsc::channel::<()>();
        let mut second = Box::pin(writer.change(move |connection| {
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
        let (_dir, writer, reader) = writer();
        let (release, holding) = hold(&writer).await;
        let runs = Arc::new(Mutex::new(0));
        let counted = runs.clone();
        let changes = [1, 2, 300, 4].map(|value| {
            let counted = counted.clone();
            writer.change(move |connection| {
                *counted.lock().unwrap() += 1;
                insert(connection, value)?;
                if value == 2 { Err(Stop::Refused("two")) } else { Ok(()) }
            })
        });
        let mut changes = Box::pin(join_all(changes));
        assert!((&mut changes).now_or_never().is_none());
        release.send(()).unwrap();
        assert!(holding.await.is_some());

        let answers = changes.await;
        assert!(matches!(
            answers[..],
            [Some(Ok(())), Some(Err(Stop::Refused("two"))), Some(Err(Stop::Database(_))), Some(Ok(()))]
        ));
        assert_eq!(values(&reader), [1, 4]);
        assert_eq!(*runs.lock().unwrap(), 3 + 4, "together up to the failing one, then each alone");
    }
}
