//! The feed of MySQL and MariaDB: the changes of tables, out of the server's binary log.
//!
//! ```text
//!   snapshot at P ──▶ rows ──┐
//!                            ├──▶ take: events, and the place in the log, in one transaction
//!   log from P on ─▶ changes ┘
//! ```
//!
//! To the server a source is a replica, which needs a number no other has. The one design choice: the place in the log is
//! file and position, which both databases have, and which is checked against the transaction that was there. The server
//! keeps nothing for us: the place is ours to remember, and when the log before it is thrown away, it says so.

mod binlog;
mod check;
mod feed;
mod schema;
mod session;
mod snapshot;
#[cfg(test)]
mod tests;
mod value;
mod wire;

use crate::database::{self, Addressed};
use binlog::{Log, Position};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, FunctionName,
    manifest::{DatabaseTrigger, Lost, Snapshot, TableName},
    secrets::Secrets,
    source::{Intake, Report, Source, SourceError},
};
use feed::Feed;
use mysql_async::prelude::Queryable as _;
use serde::{Deserialize, Serialize};
use session::{Session, SessionError};
use snapshot::View;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The source of a trigger for MySQL or MariaDB.
pub(crate) struct Mysql {
    trigger: DatabaseTrigger,
    secrets: Arc<dyn Secrets>,
    /// The `source` of its events.
    place: String,
    server_id: u32,
    /// Whether it has yet to take the snapshot that `snapshot: always` asks for.
    restarted: AtomicBool,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Everything before it is taken.
    position: Option<Position>,
    /// The last transaction before it.
    transaction: Option<String>,
    /// Tables whose rows were taken.
    #[serde(default)]
    done: Vec<TableName>,
    /// The table whose rows are being taken.
    begun: Option<Begun>,
    /// All rows are to be taken whatever the manifest says, since changes were lost.
    #[serde(default)]
    owed: bool,
}

/// How far a table's rows were taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    table: TableName,
    /// What the ids of its events have in common.
    id: String,
    key: Vec<String>,
    /// The key of the last row, in SQL.
    after: Option<Vec<String>>,
}

/// Why the work ended.
#[derive(Debug)]
enum Stop {
    Failed(SourceError),
    /// The log no longer has what comes after the place the trigger was at. With what the server says.
    Lost(String),
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl Mysql {
    pub(crate) fn new(function: &FunctionName, trigger: DatabaseTrigger, secrets: Arc<dyn Secrets>) -> Self {
        let place = trigger.url.place();
        let topic = trigger.topic.as_ref().map(ToString::to_string).unwrap_or_default();
        let server_id = trigger.server_id.unwrap_or_else(|| number(&format!("{function}/{topic}/{place}")));
        Self { trigger, secrets, place, server_id, restarted: AtomicBool::new(true) }
    }

    async fn session(&self) -> Result<Session, SourceError> {
        Session::open(&self.trigger, &*self.secrets).await.map_err(|error| error.told(&self.trigger).1)
    }

    /// The columns of a table's events. `None` for all.
    fn columns(&self, table: &TableName) -> Option<Vec<String>> {
        let chosen = self.trigger.columns_of(table);
        (!chosen.is_empty()).then(|| chosen.to_vec())
    }

    /// Where its memory is.
    fn key(&self) -> String {
        format!("database/{}/{}", self.server_id, self.place)
    }

    async fn take(&self, intake: &dyn Intake, events: Vec<Addressed>, memory: &Memory) -> Result<(), SourceError> {
        let memory = serde_json::to_vec(memory).expect("names and numbers can be written");
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for (topic, event) in events {
            match topic.filter(|topic| topic != intake.topic()) {
                Some(topic) => others.push((topic, event)),
                None => own.push(event),
            }
        }
        intake.take_with(own, others, vec![(self.key(), Some(Bytes::from(memory)))]).await.map(drop)
    }

    async fn memory(&self, intake: &dyn Intake) -> Result<Memory, SourceError> {
        match intake.recall(vec![self.key()]).await?.pop().flatten() {
            Some(memory) => serde_json::from_slice(&memory)
                .map_err(|error| SourceError::new(format!("what the trigger remembers can't be read: {error}"))),
            None => Ok(Memory::default()),
        }
    }

    async fn work(&self, intake: &dyn Intake) -> Result<(), Stop> {
        let told = |error: SessionError| error.told(&self.trigger).1;
        let mut session = self.session().await?;
        if let Some(problem) = self.problems(&mut session).await.map_err(told)?.into_iter().next() {
            let error = SourceError::new(problem.message);
            return Err(Stop::Failed(match problem.help {
                Some(help) => error.help(help),
                None => error,
            }));
        }
        let memory = self.memory(intake).await?;
        if let Some(position) = &memory.position
            && let Some(lost) = lost(&mut session, position, memory.transaction.as_deref()).await.map_err(told)?
        {
            return Err(Stop::Lost(lost));
        }
        let initial = DatabaseTrigger { snapshot: Snapshot::Initial, ..self.trigger.clone() };
        let trigger = if memory.owed { &initial } else { &self.trigger };
        let restarted = self.restarted.load(Ordering::Relaxed);
        let due: Vec<_> =
            database::due(trigger, &memory.done, restarted).iter().map(|table| table.name.clone()).collect();
        intake.report(Report::Running);

        let mut feed = Feed::new(self, intake, memory);
        if due.is_empty() {
            if feed.memory.position.is_none() {
                let position = session.position().await.map_err(told)?;
                self.begin(&mut feed, &mut session, position, intake).await?;
            }
        } else {
            let mut view = View::open(session, &due).await.map_err(told)?;
            let position = view.position.clone();
            match feed.memory.position.clone() {
                // What the rows are at the later place must come after the changes that made them so.
                Some(from) => {
                    let begun = feed.memory.begun.as_ref().map(|begun| &begun.table);
                    let done = &feed.memory.done;
                    feed.waiting =
                        due.iter().filter(|table| Some(*table) != begun && !done.contains(table)).cloned().collect();
                    let mut log = self.log(from).await?;
                    feed.follow(&mut log, Some(&position)).await?;
                    feed.waiting.clear();
                }
                None => {
                    let mut session = self.session().await?;
                    self.begin(&mut feed, &mut session, position, intake).await?;
                }
            }
            // The table that was begun goes on first: only of one is it known how far it came.
            let begun = feed.memory.begun.as_ref().map(|begun| begun.table.clone());
            let (first, rest): (Vec<_>, Vec<_>) = due.iter().partition(|table| Some(*table) == begun.as_ref());
            for table in first.into_iter().chain(rest) {
                self.take_table(&mut view, &mut feed, table, intake).await?;
            }
            feed.memory.owed = false;
        }
        self.restarted.store(false, Ordering::Relaxed);
        let from = feed.memory.position.clone().expect("it was remembered above");
        let mut log = self.log(from).await?;
        feed.follow(&mut log, None).await
    }

    /// Remembers where in the log the trigger begins.
    async fn begin(
        &self,
        feed: &mut Feed<'_>,
        session: &mut Session,
        position: Position,
        intake: &dyn Intake,
    ) -> Result<(), SourceError> {
        let transactions = transactions(session, &position).await.map_err(|error| error.told(&self.trigger).1)?;
        feed.memory.transaction = transactions.and_then(|all| all.split(',').next().map(str::to_owned));
        feed.memory.position = Some(position);
        self.take(intake, Vec::new(), &feed.memory).await
    }

    async fn log(&self, from: Position) -> Result<Log, Stop> {
        let session = self.session().await?;
        Log::open(session, self.server_id, from).await.map_err(|error| self.ended(error))
    }
}

/// The number of a replica that follows from a text: one of the upper half, where nobody numbers servers by hand.
fn number(text: &str) -> u32 {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 1 << 31
}

/// Why the log can't be gone on with, when it can't: the file was thrown away, or it isn't the log it was.
async fn lost(
    session: &mut Session,
    position: &Position,
    transaction: Option<&str>,
) -> Result<Option<String>, SessionError> {
    let files: Vec<mysql_async::Row> = session.connection.query("SHOW BINARY LOGS").await?;
    let size = files.into_iter().find_map(|mut row| {
        let name: String = row.take(0)?;
        let size: u64 = row.take(1)?;
        (name == position.file).then_some(size)
    });
    match size {
        None => {
            return Ok(Some(format!(
                "changes after {position} may be missing: the server has thrown away its log `{}`",
                position.file
            )));
        }
        Some(size) if size < position.at => {
            return Ok(Some(format!(
                "changes after {position} may be missing: `{}` ends at {size} now, so it is not the log it was",
                position.file
            )));
        }
        Some(_) => {}
    }
    let Some(transaction) = transaction.filter(|_| session.mariadb) else { return Ok(None) };
    let known = transactions(session, position).await?;
    if known.as_ref().is_some_and(|known| known.split(',').any(|other| other == transaction)) {
        return Ok(None);
    }
    Ok(Some(format!(
        "changes after {position} may be missing: the transaction before it was {transaction} and now is {}, so it is not the log it was",
        known.as_deref().unwrap_or("none")
    )))
}

/// The last transactions before a place in the log. MariaDB only.
async fn transactions(session: &mut Session, position: &Position) -> Result<Option<String>, SessionError> {
    if !session.mariadb {
        return Ok(None);
    }
    let known: Option<Option<String>> =
        session.connection.exec_first("SELECT BINLOG_GTID_POS(?, ?)", (&position.file, position.at)).await?;
    Ok(known.flatten().filter(|known| !known.is_empty()))
}

impl Source for Mysql {
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            loop {
                let lost = match self.work(intake).await {
                    Ok(()) => return Ok(()),
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Lost(lost)) => lost,
                };
                if self.trigger.lost == Lost::Stop {
                    return Err(SourceError::new(lost)
                        .help("deploy it with `lost: snapshot` to have all rows taken again and go on from there"));
                }
                intake.report(Report::Warning(format!("{lost}. All rows are taken again by a new snapshot")));
                let memory = Memory { owed: true, ..Memory::default() };
                self.take(intake, Vec::new(), &memory).await?;
            }
        })
    }
}
