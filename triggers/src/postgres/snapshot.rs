//! The rows that are there already, and the hand-off to what changes.
//!
//! ```text
//!   slot made ────────── P ─────────────────────▶ log
//!                        │ changes from P on ───▶ stream
//!              rows as they are at P ──────────▶ snapshot
//! ```
//!
//! A slot for the time of the snapshot, made after the trigger's own, gives both at once: a place P in the log, and the
//! rows exactly as they are there. So nothing is missing between the two and nothing is told twice. The first snapshot
//! begins the stream at P. A later one (a table that was added, a restart, one that was broken off) takes all changes up to
//! P first: rows and changes then come in the order in which they were true.

use super::{
    Memory, Position, Postgres,
    catalog::{Table, qualified, string},
    connection::{Connection, ConnectionError, identifier},
    lsn::Lsn,
    pgoutput::Value,
    setup::consistent_point,
    stream::{Feed, existing},
};
use crate::database::{BATCH, BATCH_BYTES, Change, Moment, due};
use dunlin_events::{
    manifest::DatabaseTable,
    source::{Intake, Report, SourceError},
};
use std::{borrow::Cow, sync::atomic::Ordering};

impl Postgres {
    /// Takes the rows of all tables a snapshot is due of.
    pub(super) async fn snapshot(&self, intake: &dyn Intake, memory: &mut Memory) -> Result<(), SourceError> {
        let restarted = self.restarted.load(Ordering::Relaxed);
        let due: Vec<Cow<'_, DatabaseTable>> = if memory.owed {
            let done = &memory.snapshot;
            self.tables().into_iter().filter(|table| !done.contains(&table.name)).map(Cow::Owned).collect()
        } else {
            due(&self.trigger, &memory.snapshot, restarted)
        };
        if due.is_empty() {
            if memory.position.is_none() {
                memory.position = Some(Position { commit: memory.confirmed, next: Some(0) });
                self.remember(intake, memory).await?;
            }
            return Ok(());
        }
        let failed = |error: ConnectionError| self.explained(&error);
        intake.report(Report::Detail("snapshot", "waits for transactions that run".into()));
        let mut connection = self.connect(true).await?;
        let at = self.freeze(&mut connection).await.map_err(failed)?;
        if memory.position.is_none() {
            memory.position = Some(Position { commit: at, next: Some(0) });
            self.remember(intake, memory).await?;
        } else {
            intake.report(Report::Detail("snapshot", "takes what changed before".into()));
            let mut feed = Feed::start(self, intake, memory.clone()).await?;
            feed.follow(Some(at)).await?;
            *memory = feed.into_memory();
        }
        let mut catalog = self.catalog()?;
        for table in &due {
            let Some(known) = catalog.table_now(&table.name).await.map_err(failed)? else {
                return Err(SourceError::new(format!("there is no table `{}`", table.name)));
            };
            self.rows(intake, &mut connection, table, known, at, memory).await?;
            if !memory.snapshot.contains(&table.name) {
                memory.snapshot.push(table.name.clone());
            }
        }
        memory.snapshot.retain(|name| self.trigger.table_names().any(|wanted| wanted == name));
        memory.owed = false;
        self.remember(intake, memory).await?;
        self.restarted.store(false, Ordering::Relaxed);
        intake.report(Report::Detail("snapshot", "done".into()));
        Ok(())
    }

    /// Begins a transaction that sees everything as it is at the place in the log this answers.
    async fn freeze(&self, connection: &mut Connection) -> Result<Lsn, ConnectionError> {
        // One of an attempt before this may have yet to vanish: the name is that of the server's process.
        let process = connection.query("SELECT pg_backend_pid()").await?;
        let process = process.first().map(|row| string(row, 0)).unwrap_or_default();
        let name = identifier(&format!("{}_{process}", &self.slot[..self.slot.len().min(52)]));
        connection.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ").await?;
        // Temporary: it ends with the connection, however that ends.
        let create = format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput USE_SNAPSHOT");
        consistent_point(&connection.query(&create).await?)
    }

    /// Takes the rows of one table.
    async fn rows(
        &self,
        intake: &dyn Intake,
        connection: &mut Connection,
        wanted: &DatabaseTable,
        mut table: Table,
        at: Lsn,
        memory: &Memory,
    ) -> Result<(), SourceError> {
        let failed = |error: ConnectionError| self.explained(&error);
        let mut columns = self.trigger.columns_of(&wanted.name).to_vec();
        columns.retain(|column| table.columns.iter().any(|known| known.name == *column));
        if !columns.is_empty() {
            let key: Vec<_> = table.key.iter().map(|index| table.columns[*index].name.clone()).collect();
            table.columns.retain(|column| columns.contains(&column.name));
            let places = key.iter().map(|name| table.columns.iter().position(|column| column.name == *name));
            table.key = places.collect::<Option<_>>().unwrap_or_default();
        }
        let names: Vec<_> = table.columns.iter().map(|column| identifier(&column.name)).collect();
        let mut sql = format!("SELECT {} FROM {}", names.join(", "), qualified(&wanted.name));
        if let Some(filter) = &wanted.filter {
            sql.push_str(&format!(" WHERE ({filter})"));
        }
        let moment = Moment { id: None, position: ("lsn", at.to_string()), time: None };
        let (mut events, mut others, mut bytes, mut index) = (Vec::new(), Vec::new(), 0, 0);
        connection.ask(&sql).await.map_err(failed)?;
        loop {
            let row = connection.next_row(&mut None).await.map_err(failed)?;
            let ended = row.is_none();
            if let Some(row) = row {
                let row: Vec<_> = row.into_iter().map(|value| value.map_or(Value::Null, Value::Text)).collect();
                let change = existing(&table, &row);
                let id = format!("{}-{at}-{}", memory.history(), name(&change, index));
                let (topic, event) = self.event(intake, id, &change, &moment, index)?;
                bytes += event.size();
                index += 1;
                match topic.filter(|topic| topic != intake.topic()) {
                    Some(topic) => others.push((topic, event)),
                    None => events.push(event),
                }
            }
            let full = events.len() + others.len() >= BATCH || bytes >= BATCH_BYTES;
            if full || (ended && !(events.is_empty() && others.is_empty())) {
                intake.take_with(std::mem::take(&mut events), std::mem::take(&mut others), Vec::new()).await?;
                bytes = 0;
                intake.report(Report::Detail("snapshot", format!("{index} rows of {}", wanted.name).into()));
            }
            if ended {
                return Ok(());
            }
        }
    }
}

/// What tells a row of a snapshot from the others: its key, or its number.
fn name(change: &Change, index: u64) -> String {
    match &change.key {
        Some(_) => change.partition_key(),
        None => format!("{}#{index}", change.table),
    }
}
