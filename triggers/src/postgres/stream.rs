//! The stream of changes: from the slot into the topic.
//!
//! What is there already is gathered and taken in one commit; nothing is waited for, so that a single change is taken at
//! once and a thousand are taken together. A transaction of any size goes through in pieces of a batch: it comes with the
//! place of its commit, so an event's id is known before the transaction has been read to its end.

use super::{
    Memory, Position, Postgres,
    catalog::{Catalog, Column, Table},
    connection::{Connection, Copied, identifier, literal},
    lsn::Lsn,
    pgoutput::{Message, Old, Relation, Transaction, Value},
    setup::{Wish, patiently},
};
use crate::database::{self, Addressed, BATCH, BATCH_BYTES, Change, Moment, PART_BYTES, transaction_event};
use dunlin_events::{
    manifest::{Deliver, Operation},
    source::{Intake, SourceError},
};
use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};
use tokio::time::Instant;

/// How often the server hears that somebody is there. It gives a silent reader up after `wal_sender_timeout`, 60 seconds
/// unless set otherwise.
const STATUS: Duration = Duration::from_secs(5);
/// How often a place in the log is remembered that nothing was taken from.
const IDLE: Duration = Duration::from_secs(10);

/// How long a server that is asked every few seconds may say nothing before it is taken for gone.
const SILENCE: Duration = Duration::from_secs(60);

/// A running stream.
pub(super) struct Feed<'a> {
    source: &'a Postgres,
    intake: &'a dyn Intake,
    connection: Connection,
    catalog: Catalog,
    tables: HashMap<u32, Arc<Read>>,
    /// How things stand once the batch is taken.
    memory: Memory,
    history: String,
    batch: Vec<Addressed>,
    bytes: usize,
    open: Option<Open>,
    /// How far the memory on disk allows the server to throw its log away.
    safe: Lsn,
    /// When the memory was last written.
    remembered: Instant,
}

/// A table of the stream, and what of it is wanted.
struct Read {
    table: Table,
    /// `None` for a table the manifest does not name.
    columns: Option<Vec<String>>,
}

impl Read {
    fn takes(&self, column: &Column) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.is_empty() || columns.contains(&column.name))
    }
}

/// The transaction that is being read.
struct Open {
    transaction: Transaction,
    moment: Moment,
    /// The place of its next change.
    index: u64,
    /// Changes before this one were taken already.
    from: u64,
    /// Changes that become one event, and the place of the first.
    part: Vec<Change>,
    first: u64,
    bytes: usize,
}

impl<'a> Feed<'a> {
    /// Begins to read at the slot's place.
    pub(super) async fn start(
        source: &'a Postgres,
        intake: &'a dyn Intake,
        memory: Memory,
    ) -> Result<Self, SourceError> {
        let mut connection = source.connect(true).await?;
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '1', publication_names {})",
            identifier(&source.slot),
            literal(&identifier(&source.publication))
        );
        let started = patiently(&mut connection, Wish::Replicate(&command)).await;
        started.map_err(|error| source.explained(&error))?;
        Ok(Self {
            source,
            intake,
            connection,
            catalog: source.catalog()?,
            tables: HashMap::new(),
            history: memory.history(),
            safe: memory.confirmed,
            memory,
            batch: Vec::new(),
            bytes: 0,
            open: None,
            remembered: Instant::now(),
        })
    }

    /// What is remembered by now.
    pub(super) fn into_memory(self) -> Memory {
        self.memory
    }

    /// Takes what comes, for ever or until everything committed before `until` was taken.
    pub(super) async fn follow(&mut self, until: Option<Lsn>) -> Result<(), SourceError> {
        let mut status = Instant::now() + STATUS;
        let mut heard = Instant::now();
        if until.is_some() {
            self.confirm(true).await?;
        }
        loop {
            let copied = match self.connection.copied_already() {
                Ok(Some(copied)) => copied,
                Ok(None) => {
                    self.take().await?;
                    tokio::select! {
                        copied = self.connection.copied() => copied.map_err(|error| self.source.explained(&error))?,
                        () = tokio::time::sleep_until(status) => {
                            status = Instant::now() + STATUS;
                            if heard.elapsed() > SILENCE {
                                return Err(SourceError::new("the database has said nothing for a minute"));
                            }
                            // It answers how far it is: where nothing that matters happens, its log is let go all the same.
                            self.confirm(true).await?;
                            continue;
                        }
                    }
                }
                Err(error) => return Err(self.source.explained(&error)),
            };
            heard = Instant::now();
            match copied {
                Copied::Data(body) => {
                    let message = Message::read(body).map_err(|error| self.source.explained(&error))?;
                    if let (Message::Begin(transaction), Some(until)) = (&message, until)
                        && transaction.commit >= until
                    {
                        return self.take().await;
                    }
                    self.message(message).await?;
                    if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES {
                        self.take().await?;
                    }
                }
                Copied::Keepalive { sent, reply } => {
                    self.take().await?;
                    if self.open.is_none() {
                        self.idle(sent, reply).await?;
                        if until.is_some_and(|until| sent >= until) {
                            return Ok(());
                        }
                    }
                    if reply {
                        self.confirm(false).await?;
                    }
                }
                Copied::End => return Err(SourceError::new("the database has ended the replication")),
            }
        }
    }

    /// Everything before `sent` was taken, or is nothing to be taken.
    async fn idle(&mut self, sent: Lsn, now: bool) -> Result<(), SourceError> {
        self.memory.confirmed = self.memory.confirmed.max(sent);
        // A server that stops waits until it is told; otherwise a write now and then is enough.
        if self.memory.confirmed > self.safe && (now || self.remembered.elapsed() >= IDLE) {
            self.source.remember(self.intake, &self.memory).await?;
            self.remembered();
            self.confirm(false).await?;
        }
        Ok(())
    }

    /// The memory is on disk.
    fn remembered(&mut self) {
        self.safe = self.memory.confirmed;
        self.remembered = Instant::now();
    }

    /// Tells the server how far it need not keep its log, and may ask it how far it is.
    async fn confirm(&mut self, ask: bool) -> Result<(), SourceError> {
        self.connection.confirm(self.safe, ask).await.map_err(|error| self.source.explained(&error))
    }

    /// Takes what was gathered, and tells the server.
    async fn take(&mut self) -> Result<(), SourceError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let mut events = Vec::with_capacity(self.batch.len());
        let mut others = Vec::new();
        for (topic, event) in std::mem::take(&mut self.batch) {
            match topic {
                Some(topic) if topic != *self.intake.topic() => others.push((topic, event)),
                _ => events.push(event),
            }
        }
        let remember = vec![(self.source.key(), Some(self.memory.bytes()))];
        let mut taking = pin!(self.intake.take_with(events, others, remember));
        loop {
            tokio::select! {
                taken = &mut taking => {
                    taken?;
                    break;
                }
                // The log may take nothing for a while, and the server would give us up.
                () = tokio::time::sleep(STATUS) => {
                    self.connection.confirm(self.safe, false).await.map_err(|error| self.source.explained(&error))?;
                }
            }
        }
        let before = self.safe;
        self.remembered();
        if self.safe > before { self.confirm(false).await } else { Ok(()) }
    }

    async fn message(&mut self, message: Message) -> Result<(), SourceError> {
        match message {
            Message::Begin(transaction) => {
                let from = match self.memory.position {
                    Some(Position { commit, .. }) if transaction.commit < commit => u64::MAX,
                    Some(Position { commit, next }) if transaction.commit == commit => next.unwrap_or(u64::MAX),
                    _ => 0,
                };
                let moment = Moment {
                    id: Some(transaction.id.to_string()),
                    position: ("lsn", transaction.commit.to_string()),
                    time: Some(transaction.time),
                };
                self.open = Some(Open { transaction, moment, index: 0, from, part: Vec::new(), first: 0, bytes: 0 });
            }
            Message::Commit { end } => {
                self.part(true)?;
                let Some(open) = self.open.take() else { return Ok(()) };
                if open.from != u64::MAX {
                    self.memory.position = Some(Position { commit: open.transaction.commit, next: None });
                }
                self.memory.confirmed = self.memory.confirmed.max(end);
                // Nothing of it was wanted: it is remembered with the next, or when the server is told for another reason.
            }
            Message::Relation(relation) => self.describe(relation).await?,
            Message::Insert { relation, new } => self.change(relation, Operation::Insert, None, Some(new))?,
            Message::Update { relation, old, new } => self.change(relation, Operation::Update, old, Some(new))?,
            Message::Delete { relation, old } => self.change(relation, Operation::Delete, Some(old), None)?,
            Message::Truncate { relations } => {
                for relation in relations {
                    self.change(relation, Operation::Truncate, None, None)?;
                }
            }
            Message::Other => {}
        }
        Ok(())
    }

    async fn describe(&mut self, relation: Relation) -> Result<(), SourceError> {
        let table = self.catalog.table(&relation).await.map_err(|error| self.source.explained(&error))?;
        let wanted = self.source.tables().into_iter().find(|wanted| wanted.name == table.name);
        self.tables.insert(relation.id, Arc::new(Read { table, columns: wanted.map(|wanted| wanted.columns) }));
        Ok(())
    }

    fn change(
        &mut self,
        relation: u32,
        operation: Operation,
        old: Option<Old>,
        new: Option<Vec<Value>>,
    ) -> Result<(), SourceError> {
        let (Some(open), Some(read)) = (&mut self.open, self.tables.get(&relation)) else {
            return Err(SourceError::new("the database tells a change of a table it has not described"));
        };
        // Every change has its place, whatever becomes of it: a manifest that takes others does not move them.
        let index = open.index;
        open.index += 1;
        if index < open.from || read.columns.is_none() || !self.source.trigger.takes(operation) {
            return Ok(());
        }
        let change = changed(read, operation, old, new);
        if self.source.trigger.deliver == Deliver::Transactions {
            let size = change.size();
            if !open.part.is_empty() && open.bytes + size > PART_BYTES {
                self.part(false)?;
            }
            let Some(open) = &mut self.open else { return Ok(()) };
            if open.part.is_empty() {
                open.first = index;
            }
            open.bytes += size;
            open.part.push(change);
            return Ok(());
        }
        let id = format!("{}-{}-{index}", self.history, open.transaction.commit);
        let event = self.source.event(self.intake, id, &change, &open.moment, index)?;
        self.memory.position = Some(Position { commit: open.transaction.commit, next: Some(index + 1) });
        self.bytes += event.1.size();
        self.batch.push(event);
        Ok(())
    }

    /// Makes an event of the changes gathered so far.
    fn part(&mut self, last: bool) -> Result<(), SourceError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.part.is_empty() {
            return Ok(());
        }
        let (commit, first) = (open.transaction.commit, open.first);
        let id = format!("{}-{commit}-{first}", self.history);
        let changes = std::mem::take(&mut open.part);
        open.bytes = 0;
        let event = transaction_event(&self.source.place, id, &changes, &open.moment, first, last)?;
        // The change that is being read comes after those that are in it.
        let next = open.index - u64::from(!last);
        self.memory.position = Some(Position { commit, next: Some(next) });
        self.bytes += event.size();
        self.batch.push((None, event));
        Ok(())
    }
}

/// A change, as far as the database tells it.
fn changed(read: &Read, operation: Operation, old: Option<Old>, new: Option<Vec<Value>>) -> Change {
    let table = &read.table;
    let whole = match &old {
        Some(Old::Whole(row)) => Some(&**row),
        _ => None,
    };
    let before = old.as_ref().map(|old| match old {
        Old::Whole(row) => table.row(row, None, |_, column| read.takes(column)).0,
        Old::Key(row) => table.row(row, None, |_, column| column.identity && read.takes(column)).0,
    });
    let old_row = old.as_ref().map(|(Old::Whole(row) | Old::Key(row))| &**row);
    let key = match (&new, old_row) {
        (Some(new), old) => table.key(new, old),
        (None, Some(old)) => table.key(old, None),
        (None, None) => None,
    };
    let (after, unchanged) = match &new {
        Some(new) => {
            let (after, unchanged) = table.row(new, whole, |_, column| read.takes(column));
            (Some(after), unchanged)
        }
        None => (None, Vec::new()),
    };
    Change { operation: Some(operation), table: table.name.clone(), key, before, after, unchanged }
}

impl Postgres {
    /// The event of a change: what the row of an outbox says, or what happened to a table.
    pub(super) fn event(
        &self,
        intake: &dyn Intake,
        id: String,
        change: &Change,
        moment: &Moment,
        index: u64,
    ) -> Result<Addressed, SourceError> {
        database::event(&self.trigger, &self.place, intake, id, change, moment, index)
    }
}

/// A row of a table that is there already.
pub(super) fn existing(table: &Table, row: &[Value]) -> Change {
    let (after, _) = table.row(row, None, |_, _| true);
    let key = table.key(row, None);
    Change { operation: None, table: table.name.clone(), key, before: None, after: Some(after), unchanged: Vec::new() }
}
