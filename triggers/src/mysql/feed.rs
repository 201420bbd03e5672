//! From the log to events: what happens to the trigger's tables, transaction by transaction.
//!
//! A transaction is held until the log says that it was committed. What is remembered is the place after a transaction whose
//! events are taken, so that a source that begins again finds whole ones; the events of one that was taken only in part have
//! the same ids again.

use super::{
    Memory, Mysql, Stop,
    binlog::{Entry, Log, LogError, Position, Rows, Statement},
    schema::{Column, Table, TableMap, charsets},
    value::Wire,
};
use crate::database::{self, Addressed, BATCH, BATCH_BYTES, Change, Moment, PART_BYTES, Row, transaction_event};
use dunlin_events::{
    manifest::{Deliver, Operation, TableName},
    source::{Intake, Report, SourceError},
};
use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// About how many bytes of a transaction are held. A larger one is taken before its end is known.
const HELD: usize = 64 << 20;
/// How often the place in the log is remembered while nothing happens to the tables.
const MOVE_ON: Duration = Duration::from_secs(10);

/// What there is to know between two transactions.
pub(super) struct Feed<'a> {
    source: &'a Mysql,
    intake: &'a dyn Intake,
    pub(super) memory: Memory,
    /// Tables whose changes don't count yet: a snapshot is about to take them as they are.
    pub(super) waiting: HashSet<TableName>,
    /// What the catalogue has of the trigger's tables, and whether it may have changed since.
    catalogue: HashMap<TableName, Table>,
    stale: HashSet<TableName>,
    charsets: HashMap<u64, String>,
    /// The tables of the rows to come, by their numbers. `None` is one that is not the trigger's.
    tables: HashMap<u64, Option<Arc<Mapped>>>,
    transaction: Option<Held>,
    /// The id of the last transaction that began.
    last: Option<String>,
    /// Transactions that were prepared, and where they begin.
    prepared: HashMap<Vec<u8>, Held>,
    events: Vec<Addressed>,
    bytes: usize,
    remembered: Instant,
    warned: HashSet<&'static str>,
}

/// A table as the log has it.
struct Mapped {
    map: TableMap,
    wires: Vec<Wire>,
    columns: Vec<Column>,
    /// Of each column, whether an event has it or its key.
    wanted: Vec<bool>,
    /// The columns of an event, when not all are.
    chosen: Option<Vec<String>>,
    key: Vec<String>,
}

/// A transaction whose end has not come.
struct Held {
    start: Position,
    /// The id of the one before.
    previous: Option<String>,
    moment: Moment,
    alone: bool,
    prepared: bool,
    /// With the ids of their events.
    changes: Vec<(String, Change)>,
    bytes: usize,
    /// How many of its changes were taken already.
    taken: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(source: &'a Mysql, intake: &'a dyn Intake, memory: Memory) -> Self {
        Self {
            source,
            intake,
            memory,
            waiting: HashSet::new(),
            catalogue: HashMap::new(),
            stale: HashSet::new(),
            charsets: HashMap::new(),
            tables: HashMap::new(),
            transaction: None,
            last: None,
            prepared: HashMap::new(),
            events: Vec::new(),
            bytes: 0,
            remembered: Instant::now(),
            warned: HashSet::new(),
        }
    }

    /// Takes what the log has, up to a place, or for ever.
    pub(super) async fn follow(&mut self, log: &mut Log, until: Option<&Position>) -> Result<(), Stop> {
        self.tables.clear();
        self.transaction = None;
        self.prepared.clear();
        self.last.clone_from(&self.memory.transaction);
        loop {
            if let Some(until) = until
                && log.position.reaches(until)
                && self.transaction.is_none()
            {
                return Ok(self.take(log).await?);
            }
            let entry = match log.ready() {
                Some(entry) => entry,
                None => {
                    let moved = self.memory.position.as_ref() != Some(&log.position);
                    if !self.events.is_empty() || moved && self.remembered.elapsed() > MOVE_ON {
                        self.take(log).await?;
                    }
                    self.tell(log, false);
                    log.next().await
                }
            };
            let entry = entry.map_err(|error| self.source.ended(error))?;
            self.entry(log, entry).await?;
            if self.events.len() >= BATCH || self.bytes >= BATCH_BYTES {
                self.take(log).await?;
                self.tell(log, true);
            }
        }
    }

    /// Takes the events there are, and remembers how far the log was read if that is between transactions.
    async fn take(&mut self, log: &Log) -> Result<(), SourceError> {
        if self.transaction.is_none() {
            // A prepared transaction is read again from its beginning: its rows come only once.
            let first = self
                .prepared
                .values()
                .reduce(|first, other| if first.start.reaches(&other.start) { other } else { first });
            let (position, last) = match first {
                Some(held) => (&held.start, &held.previous),
                None => (&log.position, &self.last),
            };
            self.memory.position = Some(position.clone());
            self.memory.transaction.clone_from(last);
        }
        self.remembered = Instant::now();
        self.bytes = 0;
        self.source.take(self.intake, mem::take(&mut self.events), &self.memory).await
    }

    fn tell(&self, log: &Log, behind: bool) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let lag = if behind && log.written > 0 { now.saturating_sub(log.written) } else { 0 };
        self.intake.report(Report::Detail("position", log.position.to_string().into()));
        self.intake.report(Report::Detail("lag_seconds", lag.into()));
    }

    async fn entry(&mut self, log: &Log, entry: Entry) -> Result<(), SourceError> {
        match entry {
            Entry::Quiet => {}
            Entry::Begin { id, alone, prepared } => {
                let previous = self.last.clone();
                if id.is_some() {
                    self.last.clone_from(&id);
                }
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(log.written);
                let moment = Moment { id, position: ("binlog", log.start.to_string()), time: Some(time) };
                self.transaction = Some(Held {
                    start: log.start.clone(),
                    previous,
                    moment,
                    alone,
                    prepared,
                    changes: Vec::new(),
                    bytes: 0,
                    taken: 0,
                });
            }
            Entry::Table(map) => self.table(log, map).await?,
            Entry::Rows(rows) => self.rows(log, &rows).await?,
            Entry::Statement { schema, text } => self.statement(log, &schema, &text)?,
            Entry::Commit => self.commit()?,
            Entry::Open { prepared } => {
                if let Some(held) = &mut self.transaction {
                    (held.alone, held.prepared) = (false, prepared);
                }
            }
            Entry::Prepared(id) => {
                if let Some(held) = self.transaction.take() {
                    self.prepared.insert(id, held);
                }
            }
            // What the server was writing when it ended was not committed.
            Entry::Restarted => self.transaction = None,
            Entry::Incident => {
                self.warn("incident", format!("the server says at `{}` that its log may lack changes", log.start));
            }
        }
        Ok(())
    }

    fn warn(&mut self, about: &'static str, message: String) {
        // Once for each run: a log full of them would push all else out.
        if self.warned.insert(about) {
            self.intake.report(Report::Warning(message));
        }
    }

    async fn table(&mut self, log: &Log, map: TableMap) -> Result<(), SourceError> {
        let (id, name) = (map.id, map.name.clone());
        if !self.source.trigger.table_names().any(|table| *table == name) {
            self.tables.insert(id, None);
            return Ok(());
        }
        let same = |mapped: &&Arc<Mapped>| mapped.map == map;
        if let Some(Some(_)) = self.tables.get(&id).map(|known| known.as_ref().filter(same))
            && !self.stale.contains(&name)
        {
            return Ok(());
        }
        let known = self.catalogue.get(&name).filter(|table| map.is_known(table));
        if known.is_none() || self.stale.contains(&name) || self.charsets.is_empty() {
            let mut session = self.source.session().await?;
            let read = async {
                self.charsets = charsets(&mut session).await?;
                Table::read(&mut session, &name).await
            };
            match read.await.map_err(|error| self.source.told(LogError::Session(error)))? {
                Some(table) => drop(self.catalogue.insert(name.clone(), table)),
                None => drop(self.catalogue.remove(&name)),
            }
            self.stale.remove(&name);
        }
        let known = self.catalogue.get(&name);
        if !map.is_described() && !known.is_some_and(|table| map.is_known(table)) {
            return Err(SourceError::new(format!(
                "at `{}` the log has rows of `{name}` as it was before it was altered, and does not say what its columns were",
                log.start
            ))
            .help("set `binlog_row_metadata = FULL` on the server, remove the trigger, and deploy it again for a new snapshot"));
        }
        let (columns, key) = map.columns(known, &self.charsets);
        let chosen = self.source.columns(&name);
        let wanted = columns
            .iter()
            .map(|column| {
                chosen.as_ref().is_none_or(|chosen| chosen.contains(&column.name)) || key.contains(&column.name)
            })
            .collect();
        let wires = map.wires.clone();
        self.tables.insert(id, Some(Arc::new(Mapped { map, wires, columns, wanted, chosen, key })));
        Ok(())
    }

    async fn rows(&mut self, log: &Log, rows: &Rows) -> Result<(), SourceError> {
        // The number of no table only says that a statement is over.
        let Some(Some(table)) = self.tables.get(&rows.table).cloned() else { return Ok(()) };
        if !self.source.trigger.takes(rows.operation) || self.waiting.contains(&table.map.name) {
            return Ok(());
        }
        let malformed = |what| self.source.told(LogError::Malformed { at: log.start.clone(), what });
        let images = rows.images(&table.wires, &table.columns, &table.wanted).map_err(malformed)?;
        let mut partial = false;
        let Some(held) = &mut self.transaction else { return Ok(()) };
        for (index, [before, after]) in images.into_iter().enumerate() {
            let change = table.change(rows.operation, before, after);
            partial |= !change.unchanged.is_empty();
            held.bytes += change.size();
            held.changes.push((id(&log.start, &index.to_string(), log.written), change));
        }
        let early = held.bytes > HELD && !held.prepared;
        if partial {
            let message = format!(
                "`{}` is changed by a session that does not log whole rows: set `binlog_row_image = FULL` there",
                table.map.name
            );
            self.warn("partial", message);
        }
        if early {
            self.emit(false)?;
            self.take(log).await?;
        }
        Ok(())
    }

    fn statement(&mut self, log: &Log, schema: &str, text: &str) -> Result<(), SourceError> {
        match Statement::read(schema, text) {
            Statement::Truncate(table) => {
                let ours = self.source.trigger.table_names().any(|other| *other == table);
                if ours && self.source.trigger.takes(Operation::Truncate) && !self.waiting.contains(&table) {
                    let operation = Some(Operation::Truncate);
                    let (key, before, after) = (None, None, None);
                    let change = Change { operation, table, key, before, after, unchanged: Vec::new() };
                    if let Some(held) = &mut self.transaction {
                        held.changes.push((id(&log.start, "0", log.written), change));
                    }
                }
            }
            Statement::Define => self.stale.extend(self.source.trigger.table_names().cloned()),
            Statement::Change => {
                let message = format!(
                    "at `{}` the log has a statement instead of the rows it changed: `{}`",
                    log.start,
                    short(text)
                );
                self.warn("statement", message + "; see that every session has `binlog_format = ROW`");
            }
            Statement::EndPrepared { id, commit } => {
                let held = self.prepared.remove(&id);
                if let Some(held) = held.filter(|_| commit) {
                    self.transaction = Some(held);
                }
                return self.commit();
            }
            Statement::Rollback => self.transaction = None,
            Statement::Other => {}
        }
        // It is a transaction without an end of its own.
        if self.transaction.as_ref().is_some_and(|held| held.alone) {
            return self.commit();
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), SourceError> {
        self.emit(true)?;
        self.transaction = None;
        Ok(())
    }

    /// Makes events of what the transaction holds.
    fn emit(&mut self, last: bool) -> Result<(), SourceError> {
        let Some(held) = &mut self.transaction else { return Ok(()) };
        let changes = mem::take(&mut held.changes);
        held.bytes = 0;
        if changes.is_empty() {
            return Ok(());
        }
        let (trigger, place) = (&self.source.trigger, &self.source.place);
        let first = held.taken;
        held.taken += changes.len() as u64;
        match trigger.deliver {
            Deliver::Changes => {
                for (index, (id, change)) in (first..).zip(changes) {
                    self.bytes += change.size();
                    self.events.push(database::event(trigger, place, self.intake, id, &change, &held.moment, index)?);
                }
            }
            Deliver::Transactions => {
                let (mut rest, mut first) = (changes, first);
                while !rest.is_empty() {
                    let mut size = 0;
                    let fits = rest.iter().take_while(|(_, change)| {
                        let fits = size == 0 || size + change.size() <= PART_BYTES;
                        size += change.size();
                        fits
                    });
                    let more = rest.split_off(fits.count());
                    let id = format!("{}.transaction", rest[0].0);
                    let part: Vec<_> = rest.into_iter().map(|(_, change)| change).collect();
                    let ends = last && more.is_empty();
                    self.bytes += size;
                    self.events.push((None, transaction_event(place, id, &part, &held.moment, first, ends)?));
                    first += part.len() as u64;
                    rest = more;
                }
            }
        }
        Ok(())
    }
}

/// What happened at a place of the log is told apart from what a server wrote there after its log was thrown away by when.
fn id(at: &Position, row: &str, written: u64) -> String {
    format!("{at}:{row}@{written}")
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl Mapped {
    fn change(&self, operation: Operation, before: Option<Row>, after: Option<Row>) -> Change {
        let value = |row: &Option<Row>, name: &String| {
            row.as_ref().and_then(|Row(row)| row.iter().find(|(column, _)| column == name)).cloned()
        };
        // A row that isn't logged whole has its key only before.
        let key: Option<Vec<_>> =
            self.key.iter().map(|name| value(&after, name).or_else(|| value(&before, name))).collect();
        let unchanged = match &after {
            Some(Row(after)) if operation == Operation::Update => self
                .columns
                .iter()
                .zip(&self.wanted)
                .filter(|(column, wanted)| **wanted && after.iter().all(|(name, _)| *name != column.name))
                .map(|(column, _)| column.name.clone())
                .collect(),
            _ => Vec::new(),
        };
        let chosen = |row: Option<Row>| match (&self.chosen, row) {
            (Some(chosen), Some(Row(row))) => {
                Some(Row(row.into_iter().filter(|(name, _)| chosen.contains(name)).collect()))
            }
            (_, row) => row,
        };
        Change {
            operation: Some(operation),
            table: self.map.name.clone(),
            key: key.filter(|key| !key.is_empty()).map(Row),
            before: chosen(before),
            after: chosen(after),
            unchanged,
        }
    }
}

impl Mysql {
    /// Why the log ends, for operators.
    pub(super) fn ended(&self, error: LogError) -> Stop {
        match error {
            LogError::Gone(said) => Stop::Lost(format!("changes may be missing: the server says `{said}`")),
            error => Stop::Failed(self.told(error)),
        }
    }

    /// An error of the log, for operators.
    pub(super) fn told(&self, error: LogError) -> SourceError {
        match error {
            LogError::Session(error) => error.told(&self.trigger).1,
            LogError::Ended => SourceError::new(format!(
                "`{}:{}` has ended the connection",
                self.trigger.url.host, self.trigger.url.port
            ))
            .help(format!(
                "when it does so again and again, another replica has the number {}: choose one with `server_id`",
                self.server_id
            )),
            LogError::Gone(_) | LogError::Malformed { .. } => SourceError::new(error.to_string()),
        }
    }
}
