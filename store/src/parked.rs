//! Parked events: those that wait for another attempt, or behind one of their key that does.
//!
//! The first of each key is marked (`head`) as events come and go, so that what is due is read from an index however many
//! wait behind.

use crate::{
    int,
    topics::{PIECE, event, event_text},
};
use dunlin_events::{
    consumers::{Due, Parked},
    topics::Offset,
};
use rusqlite::{Connection, OptionalExtension, Row};

/// A query for whole parked events, with the conditions given; [`parked`] reads its rows.
macro_rules! select_parked {
    ($conditions:literal) => {
        concat!("SELECT offset, key, attempts, due, failed_at, error, event FROM parked ", $conditions)
    };
}

fn parked(row: &Row<'_>) -> rusqlite::Result<Parked> {
    Ok(Parked {
        offset: row.get(0)?,
        key: row.get(1)?,
        attempts: row.get(2)?,
        due: row.get(3)?,
        failed_at: row.get(4)?,
        error: row.get(5)?,
        event: match row.get_ref(6)? {
            rusqlite::types::ValueRef::Null => None,
            _ => Some(event(row, 6)?),
        },
    })
}

pub(crate) fn is_parked(connection: &Connection, consumer: i64, offset: Offset) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM parked WHERE consumer = ?1 AND offset = ?2")?
        .exists((consumer, int(offset)))
}

pub(crate) fn count(connection: &Connection, consumer: i64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT count(*) FROM parked WHERE consumer = ?1")?
        .query_row([consumer], |row| row.get(0))
}

/// Parks an event, anew if it is parked. Without one of its own it keeps the event it was parked with.
pub(crate) fn park(connection: &Connection, consumer: i64, offset: Offset, parked: &Parked) -> rusqlite::Result<()> {
    let before = unpark(connection, consumer, offset)?.flatten();
    let event = parked.event.as_ref().map(event_text).or(before);
    let mut head = true;
    if let Some(key) = &parked.key
        && let Some(first) = first_of(connection, consumer, key)?
    {
        head = offset < first;
        if head {
            set_head(connection, consumer, first, false)?;
        }
    }
    connection
        .prepare_cached(
            "INSERT INTO parked (consumer, offset, head, key, attempts, due, failed_at, error, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            consumer,
            int(offset),
            head,
            &parked.key,
            parked.attempts,
            parked.due.map(int),
            parked.failed_at.map(int),
            &parked.error,
            event,
        ))?;
    Ok(())
}

/// Ends the waiting of an event. Answers whether it was parked, and with the event if it was parked with one.
pub(crate) fn unpark(
    connection: &Connection,
    consumer: i64,
    offset: Offset,
) -> rusqlite::Result<Option<Option<String>>> {
    let row = connection
        .prepare_cached("DELETE FROM parked WHERE consumer = ?1 AND offset = ?2 RETURNING head, key, event")?
        .query_row((consumer, int(offset)), |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, Option<String>>(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((head, key, event)) = row else { return Ok(None) };
    if let (true, Some(key)) = (head, key)
        && let Some(next) = first_of(connection, consumer, &key)?
    {
        set_head(connection, consumer, next, true)?;
    }
    Ok(Some(event))
}

fn first_of(connection: &Connection, consumer: i64, key: &str) -> rusqlite::Result<Option<Offset>> {
    connection
        .prepare_cached("SELECT min(offset) FROM parked WHERE consumer = ?1 AND key = ?2")?
        .query_row((consumer, key), |row| row.get(0))
}

fn set_head(connection: &Connection, consumer: i64, offset: Offset, head: bool) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE parked SET head = ?3 WHERE consumer = ?1 AND offset = ?2")?.execute((
        consumer,
        int(offset),
        head,
    ))?;
    Ok(())
}

/// Gives the parked events of a topic before an offset, where they are about to go, a copy of their own.
pub(crate) fn keep_events(connection: &Connection, topic: i64, before: Offset) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE parked SET event = (SELECT e.event FROM events e WHERE e.topic = ?1 AND e.offset = parked.offset)
             WHERE event IS NULL AND offset < ?2 AND consumer IN (SELECT id FROM consumers WHERE topic = ?1)",
        )?
        .execute((topic, int(before)))?;
    Ok(())
}

/// Drops a piece of what consumers that are gone have parked, and answers whether there was one.
pub(crate) fn sweep(connection: &Connection) -> rusqlite::Result<bool> {
    let forgotten: Option<i64> = connection
        .prepare_cached("SELECT consumer FROM forgotten LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(consumer) = forgotten else { return Ok(false) };
    let (count, bytes) = PIECE;
    let mut rows = connection
        .prepare_cached("SELECT rowid, coalesce(octet_length(event), 0) FROM parked WHERE consumer = ?1 LIMIT ?2")?;
    let rows = rows.query_map((consumer, int(count)), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut piece, mut weight) = (Vec::new(), 0);
    for row in rows {
        let (row, size): (i64, u64) = row?;
        piece.push(row);
        weight += size;
        if weight >= bytes {
            break;
        }
    }
    let mut delete = connection.prepare_cached("DELETE FROM parked WHERE rowid = ?1")?;
    for row in &piece {
        delete.execute([row])?;
    }
    if piece.is_empty() {
        connection.prepare_cached("DELETE FROM forgotten WHERE consumer = ?1")?.execute([consumer])?;
    }
    Ok(true)
}

pub(crate) fn due(connection: &Connection, consumer: i64, now: u64, limit: usize) -> rusqlite::Result<Due> {
    // One that has come to be its key's first has no `due`; SQLite has those before all others.
    let mut statement =
        connection.prepare_cached(select_parked!("WHERE consumer = ?1 AND head = 1 ORDER BY due, offset"))?;
    let mut rows = statement.query([consumer])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let due = row.get::<_, Option<u64>>(3)?.unwrap_or(now);
        if due > now || events.len() == limit {
            return Ok((events, Some(due)));
        }
        events.push(parked(row)?);
    }
    Ok((events, None))
}

pub(crate) fn list(
    connection: &Connection,
    consumer: i64,
    from: Offset,
    limit: usize,
) -> rusqlite::Result<Vec<Parked>> {
    connection
        .prepare_cached(select_parked!("WHERE consumer = ?1 AND offset >= ?2 ORDER BY offset LIMIT ?3"))?
        .query_map((consumer, int(from), int(limit as u64)), parked)?
        .collect()
}

pub(crate) fn of_key(connection: &Connection, consumer: i64, key: &str, limit: usize) -> rusqlite::Result<Vec<Parked>> {
    connection
        .prepare_cached(select_parked!("WHERE consumer = ?1 AND key = ?2 ORDER BY offset LIMIT ?3"))?
        .query_map((consumer, key, int(limit as u64)), parked)?
        .collect()
}
