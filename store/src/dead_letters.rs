//! Dead letters: events their functions could not be brought to take.
//!
//! They name their consumer, and outlive it. Only its topic they remember by number: a topic that was removed and made
//! anew has other events at their offsets, and none of them goes back there.

use crate::{
    consumers::Consumer,
    int, parked, parsed,
    topics::{event, event_text},
};
use dunlin_events::{
    consumers::{ConsumerName, DeadLetter, DeadLetterFilter, Parked},
    topics::Offset,
};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value};
use std::collections::BTreeMap;

/// Letters that are redriven or dropped in one change: some milliseconds in which no append is made.
pub(crate) const PIECE: usize = 100;

pub(crate) fn insert(
    connection: &Connection,
    name: &ConsumerName,
    topic: i64,
    offset: Offset,
    letter: &DeadLetter,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (function, topic, topic_id, offset, key, attempts, failed_at, reason, error, event)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            name.function.as_str(),
            name.topic.as_str(),
            topic,
            int(offset),
            &letter.key,
            letter.attempts,
            int(letter.failed_at),
            &letter.reason,
            &letter.error,
            event_text(&letter.event),
        ))?;
    Ok(())
}

/// Whether a consumer has given up the event at an offset.
pub(crate) fn is_dead(
    connection: &Connection,
    name: &ConsumerName,
    topic: i64,
    offset: Offset,
) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM dead_letters WHERE function = ?1 AND topic = ?2 AND topic_id = ?3 AND offset = ?4",
        )?
        .exists((name.function.as_str(), name.topic.as_str(), topic, int(offset)))
}

/// A filter as a condition and its values.
fn condition(filter: &DeadLetterFilter) -> (String, Vec<Value>) {
    let DeadLetterFilter { function, topic, number } = filter;
    let mut condition = "true".to_owned();
    let mut values = Vec::new();
    let mut add = |column: &str, value: Option<Value>| {
        if let Some(value) = value {
            condition.push_str(&format!(" AND {column} = ?"));
            values.push(value);
        }
    };
    add("number", number.map(|number| int(number).into()));
    add("function", function.as_ref().map(|function| function.as_str().to_owned().into()));
    add("topic", topic.as_ref().map(|topic| topic.as_str().to_owned().into()));
    (condition, values)
}

pub(crate) fn list(
    connection: &Connection,
    filter: &DeadLetterFilter,
    before: Option<u64>,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let (condition, mut values) = condition(filter);
    values.extend([int(before.unwrap_or(u64::MAX)).into(), int(limit as u64).into()]);
    let sql = format!(
        "SELECT number, function, topic, offset, key, attempts, failed_at, reason, error, event FROM dead_letters
         WHERE {condition} AND number < ? ORDER BY number DESC LIMIT ?"
    );
    connection.prepare_cached(&sql)?.query_map(params_from_iter(values), letter)?.collect()
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        number: row.get(0)?,
        consumer: ConsumerName { function: parsed(row, 1)?, topic: parsed(row, 2)? },
        offset: row.get(3)?,
        key: row.get(4)?,
        attempts: row.get(5)?,
        failed_at: row.get(6)?,
        reason: row.get(7)?,
        error: row.get(8)?,
        event: event(row, 9)?,
    })
}

/// The numbers of letters in the order of their offsets. One that is given back before another of its key is then never
/// to be run after it.
pub(crate) fn in_order(connection: &Connection, filter: &DeadLetterFilter) -> rusqlite::Result<Vec<i64>> {
    let (condition, values) = condition(filter);
    let sql = format!("SELECT number FROM dead_letters WHERE {condition} ORDER BY offset, number");
    connection.prepare_cached(&sql)?.query_map(params_from_iter(values), |row| row.get(0))?.collect()
}

/// Gives letters back to their consumers, and answers how many to each.
pub(crate) fn redrive(
    connection: &Connection,
    numbers: &[i64],
    now: u64,
) -> rusqlite::Result<BTreeMap<ConsumerName, u64>> {
    let mut consumers: BTreeMap<ConsumerName, Option<Consumer>> = BTreeMap::new();
    let mut given = BTreeMap::<ConsumerName, u64>::new();
    for number in numbers {
        let found: Option<(DeadLetter, i64)> = connection
            .prepare_cached(
                "SELECT number, function, topic, offset, key, attempts, failed_at, reason, error, event, topic_id
                 FROM dead_letters WHERE number = ?1",
            )?
            .query_row([number], |row| Ok((letter(row)?, row.get(10)?)))
            .optional()?;
        // Somebody else has redriven or dropped it meanwhile.
        let Some((letter, topic)) = found else { continue };
        let DeadLetter { consumer: name, offset, key, event, .. } = letter;
        if !consumers.contains_key(&name) {
            consumers.insert(name.clone(), Consumer::find(connection, &name)?);
        }
        let consumer = consumers.get_mut(&name).and_then(Option::as_mut);
        let Some(consumer) = consumer.filter(|consumer| consumer.log.id == topic) else { continue };
        // It may have been moved back before the event since. The event is done once, whoever comes to it first.
        if !consumer.settled.contains(offset) {
            consumer.settled.insert(offset);
        }
        let event = (offset < consumer.log.first).then_some(event);
        let waiting = Parked { offset, key, attempts: 0, due: Some(now), failed_at: None, error: String::new(), event };
        parked::park(connection, consumer.id, offset, &waiting)?;
        connection.prepare_cached("DELETE FROM dead_letters WHERE number = ?1")?.execute([number])?;
        *given.entry(name).or_default() += 1;
    }
    for consumer in consumers.values().flatten() {
        consumer.save(connection)?;
    }
    Ok(given)
}

pub(crate) fn delete(connection: &Connection, numbers: &[i64]) -> rusqlite::Result<u64> {
    let mut delete = connection.prepare_cached("DELETE FROM dead_letters WHERE number = ?1")?;
    numbers.iter().try_fold(0, |dropped, number| Ok(dropped + delete.execute([number])? as u64))
}
