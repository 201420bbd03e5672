//! PostgreSQL: the changes of tables by logical replication.
//!
//! ```text
//!   log ──▶ slot ──▶ pgoutput ──▶ stream ──▶ Intake::take(events, place in the log)
//!            ▲                                    │
//!            └────────── confirmed ◀──────────────┘     only what is on disk here, so that the slot never loses
//! ```
//!
//! The one design choice: **there are two records of how far a trigger has come, and the one here is ahead.** The slot in
//! the database keeps the log from the place that was confirmed to it; what is remembered with the events says which change
//! was taken last, to the change within its transaction. What the slot sends again after a crash is skipped by that. The
//! slot can be behind, and never ahead: where it is, somebody else has read from it, or it was made anew, and changes may be
//! missing. That is told, and never passed over.
//!
//! Module by module: what is asked of the database (`connection`, with `tls`; `setup`), what it sends (`pgoutput`,
//! `catalog`, `values`), and the three things a source does with it: `snapshot`, `stream` and `watch`.

mod catalog;
mod connection;
mod lsn;
mod pgoutput;
mod setup;
mod snapshot;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod values;
mod watch;

use crate::database;
use bytes::Bytes;
use catalog::{Catalog, number, string};
use connection::{Connection, ConnectionError};
use dunlin_events::{
    BoxFuture, FunctionName,
    manifest::{DatabaseTrigger, Lost, Problem, Snapshot, TableName},
    secrets::{SecretValue, Secrets},
    source::{Intake, Report, Source, SourceError},
    units::ByteSize,
};
use lsn::Lsn;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use stream::Feed;

/// How long a deploy waits for the database.
const CHECKING: Duration = Duration::from_secs(14);

/// The source of a trigger whose database is PostgreSQL.
pub(crate) struct Postgres {
    trigger: DatabaseTrigger,
    secrets: Arc<dyn Secrets>,
    slot: String,
    publication: String,
    /// What its events have as `source`.
    place: String,
    /// Whether it has yet to take the snapshot that `snapshot: always` asks for.
    restarted: AtomicBool,
}

/// What is remembered beside the events. Persisted, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// The server's identifier of itself: another one is another history.
    system: String,
    /// How often events had to begin anew there, since changes were lost.
    #[serde(default)]
    generation: u32,
    /// What was taken last. `None` until the first snapshot has its place in the log.
    position: Option<Position>,
    /// How far the slot may have been told that it is read.
    confirmed: Lsn,
    /// The tables whose rows a snapshot has taken.
    #[serde(default)]
    snapshot: Vec<TableName>,
    /// A snapshot is to be taken whatever the manifest says, since changes were lost.
    #[serde(default)]
    owed: bool,
}

/// A place among all changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// The commit of a transaction. Those before it were taken.
    commit: Lsn,
    /// Which of its changes comes next; `None` when all were taken.
    next: Option<u64>,
}

impl Memory {
    /// What the ids of events begin with. A place in the log is one only within a server's history, and only until it
    /// was lost.
    fn history(&self) -> String {
        let system = self.system.parse::<u64>().map_or_else(|_| self.system.clone(), |system| format!("{system:x}"));
        if self.generation == 0 { system } else { format!("{system}.{}", self.generation) }
    }

    fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers can be written").into()
    }
}

/// Why a source's work ended.
#[derive(Debug)]
enum Stop {
    Failed(SourceError),
    /// The database had to keep more than `max_lag` of its log.
    Overrun {
        retained: u64,
    },
}

impl From<SourceError> for Stop {
    fn from(error: SourceError) -> Self {
        Self::Failed(error)
    }
}

impl Postgres {
    pub(crate) fn new(function: &FunctionName, trigger: DatabaseTrigger, secrets: Arc<dyn Secrets>) -> Self {
        let slot = match &trigger.slot {
            Some(slot) => slot.to_string(),
            None => default_slot(function, trigger.topic.as_ref().map(|topic| topic.as_str())),
        };
        let publication = trigger.publication.clone().unwrap_or_else(|| slot.clone());
        let place = trigger.url.place();
        Self { trigger, secrets, slot, publication, place, restarted: AtomicBool::new(true) }
    }

    fn password(&self) -> Result<Option<SecretValue>, SourceError> {
        database::password(&self.trigger, &*self.secrets)
    }

    async fn connect(&self, replication: bool) -> Result<Connection, SourceError> {
        let password = self.password()?;
        let opened = Connection::open(&self.trigger.url, password.as_ref(), replication).await;
        opened.map_err(|error| self.explained(&error))
    }

    /// Where its memory is.
    fn key(&self) -> String {
        format!("database/{}", self.slot)
    }

    async fn remember(&self, intake: &dyn Intake, memory: &Memory) -> Result<(), SourceError> {
        intake.take(Vec::new(), vec![(self.key(), Some(memory.bytes()))]).await.map(|_| ())
    }

    /// What can be known at deploy. Pointers are into the trigger.
    pub(crate) async fn check(&self) -> Vec<Problem> {
        match tokio::time::timeout(CHECKING, self.checked()).await {
            Ok(problems) => problems,
            Err(_) => {
                let message = format!("`{}` does not answer", self.place);
                vec![
                    Problem::new("/url", message)
                        .help("see whether it waits for a lock or for its disk, and deploy again"),
                ]
            }
        }
    }

    async fn checked(&self) -> Vec<Problem> {
        let problem = |pointer: &str, error: SourceError| Problem {
            pointer: pointer.into(),
            message: error.message,
            help: error.help,
        };
        let password = match self.password() {
            Ok(password) => password,
            Err(error) => return vec![problem("/password", error)],
        };
        let explained = |error: ConnectionError| {
            let pointer = match error.code() {
                Some("28P01") if self.trigger.password.is_some() => "/password",
                _ => "/url",
            };
            problem(pointer, self.explained(&error))
        };
        let mut connection = match Connection::open(&self.trigger.url, password.as_ref(), false).await {
            Ok(connection) => connection,
            Err(error) => return vec![explained(error)],
        };
        let mut problems = match self.problems(&mut connection).await {
            Ok(problems) => problems,
            Err(error) => return vec![explained(error)],
        };
        // Whether this user may replicate is only known by trying: some hosters have ways of their own to allow it.
        if problems.iter().all(|problem| problem.pointer != "/url")
            && let Err(error) = Connection::open(&self.trigger.url, password.as_ref(), true).await
        {
            problems.push(explained(error));
        }
        problems
    }

    /// Sees to it that publication and slot are there, and that the slot is the one this trigger has read so far.
    async fn prepare(&self, intake: &dyn Intake) -> Result<Memory, SourceError> {
        let mut connection = self.connect(true).await?;
        let failed = |error: ConnectionError| self.explained(&error);
        let problems = self.problems(&mut connection).await.map_err(failed)?;
        if let Some(problem) = problems.into_iter().next() {
            return Err(SourceError { message: problem.message, help: problem.help });
        }
        let system = connection.query("IDENTIFY_SYSTEM").await.map_err(failed)?;
        let system = system.first().cloned().unwrap_or_default();
        let (identifier, written) = (string(&system, 0), number::<Lsn>(&system, 2).unwrap_or_default());
        let slot = self.slot(&mut connection).await.map_err(failed)?;
        let memory = intake.recall(vec![self.key()]).await?.pop().flatten();
        let memory: Option<Memory> = memory.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let lost = match (&memory, &slot) {
            (None, _) => None,
            (Some(memory), _) if memory.system != identifier => Some("the database is another one".to_owned()),
            (Some(_), None) => Some(format!("the slot `{}` is gone", self.slot)),
            (Some(_), Some(slot)) if slot.lost => {
                Some(format!("the database has thrown away log that the slot `{}` still needed", self.slot))
            }
            (Some(memory), Some(slot)) if slot.confirmed > memory.confirmed => Some(format!(
                "the slot `{}` is at {} while this trigger has read up to {}: it was made anew, or somebody else has read from it",
                self.slot, slot.confirmed, memory.confirmed
            )),
            (Some(memory), Some(_)) if written < memory.confirmed => Some(format!(
                "the database is at {written} while this trigger has read up to {}: it went back",
                memory.confirmed
            )),
            _ => None,
        };
        self.make_publication(&mut connection).await.map_err(failed)?;
        if let (Some(memory), Some(lost)) = (&memory, &lost) {
            self.recover(intake, &mut connection, memory, lost, identifier).await
        } else if let (Some(memory), Some(_)) = (memory, &slot) {
            Ok(memory)
        } else {
            let confirmed = match slot {
                // It is there without having been read here: named by the manifest, or left from an earlier life.
                Some(slot) if !slot.lost => slot.confirmed,
                Some(_) => {
                    self.drop_slot(&mut connection).await.map_err(failed)?;
                    self.make_slot(&mut connection).await.map_err(failed)?
                }
                None => self.make_slot(&mut connection).await.map_err(failed)?,
            };
            let position = Some(Position { commit: confirmed, next: Some(0) });
            let memory = Memory {
                system: identifier,
                generation: 0,
                position: position.filter(|_| self.trigger.snapshot == Snapshot::Never),
                confirmed,
                snapshot: Vec::new(),
                owed: false,
            };
            self.remember(intake, &memory).await?;
            Ok(memory)
        }
    }

    /// Begins anew after changes were lost, if the manifest says so.
    async fn recover(
        &self,
        intake: &dyn Intake,
        connection: &mut Connection,
        memory: &Memory,
        lost: &str,
        system: String,
    ) -> Result<Memory, SourceError> {
        if self.trigger.lost == Lost::Stop {
            return Err(SourceError::new(format!("changes after {} may be missing: {lost}", memory.confirmed))
                .help("deploy it with `lost: snapshot` to have all rows taken again and go on from there"));
        }
        intake.report(Report::Warning(format!(
            "changes after {} may be missing: {lost}. All rows are taken again by a new snapshot",
            memory.confirmed
        )));
        let failed = |error: ConnectionError| self.explained(&error);
        self.drop_slot(connection).await.map_err(failed)?;
        let confirmed = self.make_slot(connection).await.map_err(failed)?;
        let generation = memory.generation + 1;
        let memory = Memory { system, generation, position: None, confirmed, snapshot: Vec::new(), owed: true };
        self.remember(intake, &memory).await?;
        Ok(memory)
    }

    /// Works until something fails. It ends only so.
    async fn work(&self, intake: &dyn Intake) -> Result<(), Stop> {
        let mut memory = self.prepare(intake).await?;
        let follow = async {
            self.snapshot(intake, &mut memory).await?;
            let mut feed = Feed::start(self, intake, memory).await?;
            intake.report(Report::Running);
            feed.follow(None).await
        };
        tokio::select! {
            followed = follow => Ok(followed?),
            watched = self.watch(intake) => Err(watched),
        }
    }

    /// The catalog of its database.
    fn catalog(&self) -> Result<Catalog, SourceError> {
        Ok(Catalog::new(self.trigger.url.clone(), self.password()?))
    }
}

/// The slot of a trigger that names none: the function's name, with the topic's where it has one of its own.
fn default_slot(function: &FunctionName, topic: Option<&str>) -> String {
    let name = match topic {
        Some(topic) => format!("dunlin_{function}_{topic}"),
        None => format!("dunlin_{function}"),
    };
    let valid = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
    let slot: String = name.chars().flat_map(char::to_lowercase).map(valid).collect();
    if slot.len() <= 53 {
        return slot;
    }
    format!("{}_{}", &slot[..44], &hex::encode(Sha256::digest(name))[..8])
}

impl Source for Postgres {
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            loop {
                let retained = match self.work(intake).await {
                    Ok(()) => return Ok(()),
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Overrun { retained }) => retained,
                };
                let lost = format!(
                    "the database keeps {} of its log for this trigger, more than `max_lag`",
                    ByteSize(retained)
                );
                if self.trigger.lost == Lost::Stop {
                    return Err(SourceError::new(lost).help(
                        "raise `max_lag` to let it catch up, or write `lost: snapshot` to have the log dropped and all rows taken again",
                    ));
                }
                let memory = intake.recall(vec![self.key()]).await?.pop().flatten();
                let Some(memory) = memory.and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok()) else {
                    continue;
                };
                let mut connection = self.connect(true).await?;
                let system = memory.system.clone();
                self.recover(intake, &mut connection, &memory, &lost, system).await?;
            }
        })
    }

    fn dispose(&self) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            let mut connection = self.connect(false).await?;
            self.take_away(&mut connection).await.map_err(|error| self.explained(&error))
        })
    }
}
