//! The log: topics and their events.
//!
//! An event is kept as it is written in JSON, so that any SQLite tool can read it. The design choice: a topic counts the
//! bytes it ever took, and each event knows how many were before it. So what a piece of a topic weighs is a difference of
//! two numbers, and so is where its retention by size ends; times grow with offsets, so that a time is found by bisection.

use crate::{
    Failed, Stop, Store, consumers, ids, int, json, parked, parsed, text, unreadable,
    writer::{self, Tx},
};
use dunlin_events::{
    BoxFuture, Event,
    topics::{Appended, EventLog, LogError, Offset, Page, Retention, StoredEvent, Topic, TopicName},
    units::{millis, now_millis},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row};
use std::sync::atomic::Ordering;

/// Events that are dropped in one change, and bytes of them: a few milliseconds in which no append is made.
pub(crate) const PIECE: (u64, u64) = (500, 4 << 20);
/// Events, and bytes of them, that are read on the async thread: some 20 µs of work.
const LOOK: (u64, usize) = (8, 64 << 10);

/// A query for topics, with the conditions given; [`topic`] reads its rows.
macro_rules! select_topics {
    ($conditions:literal) => {
        concat!("SELECT name, created_at, first, end, written - trimmed, retention FROM topics ", $conditions)
    };
}

type Result<T, E = Stop<LogError>> = std::result::Result<T, E>;

impl EventLog for Store {
    fn create(&self, names: Vec<TopicName>) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            let create = self.write(move |connection| {
                let mut insert = connection.prepare_cached(
                    "INSERT INTO topics (name, created_at, first, end)
                     SELECT ?1, ?2, former, former
                       FROM (SELECT coalesce((SELECT end FROM former_topics WHERE name = ?1), 0) AS former) WHERE true
                     ON CONFLICT (name) DO NOTHING",
                )?;
                let now = int(now_millis());
                for name in &names {
                    insert.execute((name.as_str(), now))?;
                }
                Ok(())
            });
            Ok(create.await?)
        })
    }

    fn topics(&self) -> BoxFuture<'_, Result<Vec<Topic>, LogError>> {
        Box::pin(async { Ok(self.read(|connection| list(connection, ALL)).await?) })
    }

    fn topic(&self, name: &TopicName) -> BoxFuture<'_, Result<Topic, LogError>> {
        let name = name.clone();
        Box::pin(async move {
            let topic = self.look(|connection| {
                let mut statement = connection.prepare_cached(select_topics!("WHERE name = ?1"))?;
                found(&name, statement.query_row([name.as_str()], topic).optional())
            });
            Ok(topic.await?)
        })
    }

    fn retain(&self, name: &TopicName, retention: Retention) -> BoxFuture<'_, Result<Topic, LogError>> {
        let name = name.clone();
        Box::pin(async move {
            let retain = self.write(move |connection| {
                let mut update = connection.prepare_cached("UPDATE topics SET retention = ?2 WHERE name = ?1")?;
                update.execute((name.as_str(), text(&retention)))?;
                let mut statement = connection.prepare_cached(select_topics!("WHERE name = ?1"))?;
                found(&name, statement.query_row([name.as_str()], topic).optional())
            });
            Ok(retain.await?)
        })
    }

    fn remove(&self, name: &TopicName) -> BoxFuture<'_, Result<(), LogError>> {
        let (name, removed) = (name.clone(), name.clone());
        let (ends, chore) = (self.ends.clone(), self.writer.chore());
        let then = move |_: &()| {
            ends.removed(&removed);
            chore.store(true, Ordering::Relaxed);
        };
        Box::pin(async move {
            Ok(self.write_then(self.writer.room(0).await, move |connection| remove(connection, &name), then).await?)
        })
    }

    fn append(&self, topic: &TopicName, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<Appended>, LogError>> {
        let (name, known) = (topic.clone(), self.ends.clone());
        let then = move |(_, ends): &(_, Ends)| known.reached(ends);
        Box::pin(async move {
            let Some(room) = self.writer.room_now(events.iter().map(weight).sum()) else {
                return Err(LogError::Busy(format!(
                    "{} MiB wait to be written, which is all that may: try again in a moment",
                    writer::QUEUE >> 20
                )));
            };
            // Here, and not on the writer's thread, of which there is only one.
            let events: Vec<_> = events.into_iter().map(Encoded::from).collect();
            let append = self.write_then(room, move |connection| append(connection, &name, &events), then);
            Ok(append.await?.0)
        })
    }

    fn read(
        &self,
        topic: &TopicName,
        from: Offset,
        events: usize,
        bytes: usize,
    ) -> BoxFuture<'_, Result<Page, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            let events = events.max(1);
            // A consumer that keeps up asks for many events and gets the few that have just come.
            let few = |count| count <= LOOK.0;
            if few(events as u64) || self.ends.known(&topic).is_some_and(|end| few(end.saturating_sub(from))) {
                // Should they be large, the page is shorter than it was asked to be.
                let bytes = bytes.min(LOOK.1);
                let events = events.min(LOOK.0 as usize);
                return Ok(self.look(|connection| read(connection, &topic, from, events, bytes)).await?);
            }
            Ok(self.read(move |connection| read(connection, &topic, from, events, bytes)).await?)
        })
    }

    fn offset_at(&self, topic: &TopicName, time: u64) -> BoxFuture<'_, Result<Offset, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            let offset = self.read(move |connection| {
                let transaction = connection.unchecked_transaction()?;
                let log = found(&topic, Log::find(&transaction, &topic))?;
                Ok(log.offset_at(&transaction, time)?)
            });
            Ok(offset.await?)
        })
    }

    fn appended(&self, topic: &TopicName, offset: Offset) -> BoxFuture<'_, Result<(), LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            // Before looking, so that no append can fall between.
            let mut end = self.ends.watch(&topic);
            let unknown = end.borrow().is_none();
            if unknown {
                match self.look(|connection| found(&topic, Log::find(connection, &topic))).await {
                    Ok(log) if log.end > offset => return Ok(()),
                    Ok(_) => {}
                    Err(error) => {
                        drop(end);
                        self.ends.mistaken(&topic);
                        return Err(error.into());
                    }
                }
            }
            let reached = end.wait_for(|end| end.is_some_and(|end| end > offset)).await.is_ok();
            if reached { Ok(()) } else { Err(LogError::NoTopic(topic)) }
        })
    }

    fn trim(&self, topic: &TopicName, before: Offset, force: bool) -> BoxFuture<'_, Result<Offset, LogError>> {
        let topic = topic.clone();
        Box::pin(async move {
            loop {
                let topic = topic.clone();
                // Each piece is a change of its own, so that others come between.
                let (first, more) = self.write(move |connection| trim(connection, &topic, before, force)).await?;
                if !more {
                    return Ok(first);
                }
            }
        })
    }

    fn retained(&self) -> BoxFuture<'_, Result<Vec<Topic>, LogError>> {
        Box::pin(async { Ok(self.read(|connection| list(connection, RETAINED)).await?) })
    }

    fn expired(&self, topic: &TopicName) -> BoxFuture<'_, Result<Offset, LogError>> {
        let topic = topic.clone();
        Box::pin(async move { Ok(self.read(move |connection| expired(connection, &topic, now_millis())).await?) })
    }
}

impl From<Failed<LogError>> for LogError {
    fn from(failed: Failed<LogError>) -> Self {
        match failed {
            Failed::Refused(error) => error,
            Failed::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

const ALL: &str = select_topics!("WHERE name IS NOT NULL ORDER BY name");
const RETAINED: &str = select_topics!("WHERE name IS NOT NULL AND retention <> '{}' ORDER BY name");

fn list(connection: &Connection, select: &str) -> Result<Vec<Topic>> {
    let mut statement = connection.prepare_cached(select)?;
    Ok(statement.query_map([], topic)?.collect::<rusqlite::Result<_>>()?)
}

fn topic(row: &Row<'_>) -> rusqlite::Result<Topic> {
    Ok(Topic {
        name: parsed(row, 0)?,
        created_at: row.get(1)?,
        first: row.get(2)?,
        end: row.get(3)?,
        bytes: row.get(4)?,
        retention: json(row, 5)?,
    })
}

fn found<T>(name: &TopicName, row: rusqlite::Result<Option<T>>) -> Result<T> {
    row?.ok_or_else(|| Stop::Refused(LogError::NoTopic(name.clone())))
}

/// An event on its way into the log.
pub(crate) struct Encoded {
    event: Event,
    json: String,
}

impl From<Event> for Encoded {
    fn from(event: Event) -> Self {
        let json = event_text(&event);
        Self { event, json }
    }
}

/// What an event takes of the writer's queue, where it is as an event and as text.
pub(crate) fn weight(event: &Event) -> usize {
    2 * event.size()
}

pub(crate) fn event_text(event: &Event) -> String {
    String::from_utf8(event.to_json()).expect("JSON is UTF-8")
}

pub(crate) fn event(row: &Row<'_>, column: usize) -> rusqlite::Result<Event> {
    Event::from_json(row.get_ref(column)?.as_bytes()?).map_err(|error| unreadable(column, error))
}

/// The numbers of a topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    pub(crate) id: i64,
    pub(crate) first: Offset,
    pub(crate) end: Offset,
    written: u64,
    trimmed: u64,
    appended_at: u64,
}

/// A query for the numbers of a topic, with the conditions given; [`Log::of`] reads its rows.
macro_rules! select_logs {
    ($conditions:literal) => {
        concat!("SELECT id, first, end, written, trimmed, appended_at FROM topics ", $conditions)
    };
}

impl Log {
    pub(crate) fn find(connection: &Connection, name: &TopicName) -> rusqlite::Result<Option<Self>> {
        connection.prepare_cached(select_logs!("WHERE name = ?1"))?.query_row([name.as_str()], Self::of).optional()
    }

    /// A topic that was removed and still has its events.
    fn removed(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection.prepare_cached(select_logs!("WHERE name IS NULL LIMIT 1"))?.query_row([], Self::of).optional()
    }

    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            first: row.get(1)?,
            end: row.get(2)?,
            written: row.get(3)?,
            trimmed: row.get(4)?,
            appended_at: row.get(5)?,
        })
    }

    /// The first offset that was appended at a time or later.
    pub(crate) fn offset_at(&self, connection: &Connection, time: u64) -> rusqlite::Result<Offset> {
        let mut statement =
            connection.prepare_cached("SELECT appended_at FROM events WHERE topic = ?1 AND offset = ?2")?;
        bisect(self.first, self.end, |offset| {
            Ok(statement.query_row((self.id, int(offset)), |row| row.get::<_, u64>(0))? >= time)
        })
    }

    /// The first offset from which on the events weigh no more than so many bytes.
    fn offset_of_last(&self, connection: &Connection, bytes: u64) -> rusqlite::Result<Offset> {
        let mut statement = connection.prepare_cached("SELECT behind FROM events WHERE topic = ?1 AND offset = ?2")?;
        bisect(self.first, self.end, |offset| {
            let behind: u64 = statement.query_row((self.id, int(offset)), |row| row.get(0))?;
            Ok(self.written - behind <= bytes)
        })
    }

    /// The topic as it is when events were dropped from its beginning, up to an offset and not more than a piece.
    fn without_piece(mut self, connection: &Connection, to: Offset) -> rusqlite::Result<Self> {
        let (count, bytes) = PIECE;
        let last = to.min(self.first.saturating_add(count));
        let mut rows = connection.prepare_cached(
            "SELECT offset, behind FROM events WHERE topic = ?1 AND offset > ?2 AND offset <= ?3 ORDER BY offset",
        )?;
        let rows = rows.query_map((self.id, int(self.first), int(last)), |row| Ok((row.get(0)?, row.get(1)?)))?;
        // The end has no row.
        let end = (last == self.end).then_some(Ok((self.end, self.written)));
        let Self { first, trimmed, .. } = self;
        for row in rows.chain(end) {
            let (offset, behind): (Offset, u64) = row?;
            // One is dropped however large it is.
            if behind - trimmed > bytes && self.first > first {
                break;
            }
            (self.first, self.trimmed) = (offset, behind);
        }
        Ok(self)
    }

    /// Drops what is before `first`.
    fn drop_events(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        ids::forget(tx, self.id, self.first)?;
        tx.prepare_cached("DELETE FROM events WHERE topic = ?1 AND offset < ?2")?
            .execute((self.id, int(self.first)))?;
        ids::unsettle(tx)?;
        tx.prepare_cached("UPDATE topics SET first = ?2, trimmed = ?3 WHERE id = ?1")?.execute((
            self.id,
            int(self.first),
            int(self.trimmed),
        ))?;
        Ok(())
    }

    /// How far a topic can be trimmed without a consumer losing something.
    fn settled(&self, connection: &Connection) -> rusqlite::Result<Offset> {
        let mut statement = connection.prepare_cached(
            "SELECT min(min(c.position, coalesce(
                (SELECT min(p.offset) FROM parked p WHERE p.consumer = c.id AND p.event IS NULL), c.position
             ))) FROM consumers c WHERE c.topic = ?1",
        )?;
        let settled: Option<u64> = statement.query_row([self.id], |row| row.get(0))?;
        Ok(settled.unwrap_or(self.end))
    }
}

/// The first offset in a range for which something is so, given that it is so for all that follow it; the end if for none.
fn bisect(
    mut from: Offset,
    mut to: Offset,
    mut is_so: impl FnMut(Offset) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Offset> {
    while from < to {
        let middle = from + (to - from) / 2;
        if is_so(middle)? {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    Ok(from)
}

/// Appends to topics. The row of each is read once and written once, however many events come.
pub(crate) struct Appends<'a> {
    tx: &'a Tx<'a>,
    insert: CachedStatement<'a>,
    now: u64,
    tails: Vec<Tail<'a>>,
}

struct Tail<'a> {
    name: &'a TopicName,
    log: Log,
    grown: bool,
}

impl<'a> Appends<'a> {
    pub(crate) fn new(tx: &'a Tx<'a>, now: u64) -> rusqlite::Result<Self> {
        let insert = tx.prepare_cached(
            "INSERT INTO events (topic, offset, appended_at, behind, source, id, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        Ok(Self { tx, insert, now, tails: Vec::new() })
    }

    /// The handle of a topic for `append`, or `None` if there is no such topic.
    pub(crate) fn topic(&mut self, name: &'a TopicName) -> rusqlite::Result<Option<usize>> {
        // Most often the topic of the event before.
        if let Some(known) = self.tails.iter().rposition(|tail| tail.name == name) {
            return Ok(Some(known));
        }
        let Some(mut log) = Log::find(self.tx, name)? else { return Ok(None) };
        // Times never go back, whatever the clock does.
        log.appended_at = log.appended_at.max(self.now);
        self.tails.push(Tail { name, log, grown: false });
        Ok(Some(self.tails.len() - 1))
    }

    pub(crate) fn append(&mut self, topic: usize, Encoded { event, json }: &Encoded) -> rusqlite::Result<Appended> {
        let Tail { log, grown, .. } = &mut self.tails[topic];
        let (source, id) = (event.source(), event.id());
        let hash = ids::hash(log.id, source, id);
        if let Some(offset) = ids::find(self.tx, hash, log.id, source, id)? {
            return Ok(Appended { offset, duplicate: true });
        }
        let offset = log.end;
        let row = (log.id, int(offset), int(log.appended_at), int(log.written), source, id, json);
        self.insert.execute(row)?;
        ids::add(self.tx, hash);
        log.end += 1;
        log.written += json.len() as u64;
        *grown = true;
        Ok(Appended { offset, duplicate: false })
    }

    /// Writes the rows of the topics that have grown, and answers with their ends.
    pub(crate) fn save(self) -> rusqlite::Result<Ends> {
        let mut update =
            self.tx.prepare_cached("UPDATE topics SET end = ?2, written = ?3, appended_at = ?4 WHERE id = ?1")?;
        let grown = self.tails.into_iter().filter(|tail| tail.grown);
        grown
            .map(|Tail { name, log, .. }| {
                update.execute((log.id, int(log.end), int(log.written), int(log.appended_at)))?;
                Ok((name.clone(), log.end))
            })
            .collect()
    }
}

pub(crate) type Ends = Vec<(TopicName, Offset)>;

fn append(tx: &Tx<'_>, name: &TopicName, events: &[Encoded]) -> Result<(Vec<Appended>, Ends)> {
    let mut appends = Appends::new(tx, now_millis())?;
    let topic = found(name, appends.topic(name))?;
    let appended = events.iter().map(|event| appends.append(topic, event)).collect::<Result<_, _>>()?;
    Ok((appended, appends.save()?))
}

fn read(connection: &Connection, topic: &TopicName, from: Offset, events: usize, bytes: usize) -> Result<Page> {
    let transaction = connection.unchecked_transaction()?;
    let log = found(topic, Log::find(&transaction, topic))?;
    let mut next = from.max(log.first);
    let mut statement = transaction.prepare_cached(
        "SELECT offset, appended_at, event FROM events WHERE topic = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3",
    )?;
    let mut rows = statement.query((log.id, int(next), int(events as u64)))?;
    let (mut page, mut read) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        page.push(StoredEvent { offset: row.get(0)?, appended_at: row.get(1)?, event: event(row, 2)? });
        read += row.get_ref(2)?.as_bytes()?.len();
        if read >= bytes {
            break;
        }
    }
    if let Some(last) = page.last() {
        next = last.offset + 1;
    }
    Ok(Page { events: page, next, first: log.first, end: log.end })
}

fn trim(tx: &Tx<'_>, topic: &TopicName, before: Offset, force: bool) -> Result<(Offset, bool)> {
    let log = found(topic, Log::find(tx, topic))?;
    let mut to = before.min(log.end);
    if !force {
        to = to.min(log.settled(tx)?);
    }
    if to <= log.first {
        return Ok((log.first, false));
    }
    let log = log.without_piece(tx, to)?;
    if force {
        parked::keep_events(tx, log.id, log.first)?;
        consumers::skip(tx, log.id, log.first)?;
    }
    log.drop_events(tx)?;
    Ok((log.first, log.first < to))
}

fn expired(connection: &Connection, topic: &TopicName, now: u64) -> Result<Offset> {
    let transaction = connection.unchecked_transaction()?;
    let log = found(topic, Log::find(&transaction, topic))?;
    let retention: Retention = transaction
        .prepare_cached("SELECT retention FROM topics WHERE id = ?1")?
        .query_row([log.id], |row| json(row, 0))?;
    let mut expired = log.first;
    if let Some(count) = retention.count {
        expired = expired.max(log.end.saturating_sub(count));
    }
    if let Some(size) = retention.size {
        expired = expired.max(log.offset_of_last(&transaction, size.bytes())?);
    }
    if let Some(age) = retention.age
        && let Some(newest) = now.checked_sub(millis(age))
    {
        expired = expired.max(log.offset_at(&transaction, newest.saturating_add(1))?);
    }
    Ok(expired)
}

/// Takes a topic away at once, and leaves its events, and what its consumers parked, to be swept: they may be many.
pub(crate) fn remove(connection: &Connection, name: &TopicName) -> Result<()> {
    let log = found(name, Log::find(connection, name))?;
    connection.prepare_cached("DELETE FROM consumers WHERE topic = ?1")?.execute([log.id])?;
    connection.prepare_cached("UPDATE topics SET name = NULL WHERE id = ?1")?.execute([log.id])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO former_topics (name, end) VALUES (?1, ?2)")?
        .execute((name.as_str(), int(log.end)))?;
    Ok(())
}

/// Drops a piece of a topic that was removed, and answers whether there is more.
pub(crate) fn sweep(tx: &Tx<'_>) -> rusqlite::Result<bool> {
    let Some(log) = Log::removed(tx)? else { return Ok(false) };
    if log.first < log.end {
        log.without_piece(tx, log.end)?.drop_events(tx)?;
    } else {
        tx.prepare_cached("DELETE FROM topics WHERE id = ?1")?.execute([log.id])?;
    }
    Ok(true)
}
