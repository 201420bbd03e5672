//! Consumers: positions, and the transaction that moves them together with what a run did.
//!
//! A commit first looks at all that could speak against it, and then writes: one that is refused has written nothing, so
//! it costs the changes it is made with nothing either (see `writer`).

use crate::{
    Failed, Stop, Store, dead_letters, int, json, parked, parsed,
    settled::Settled,
    state, text,
    topics::{self, Appends, Encoded, Log},
    writer::Tx,
};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, FunctionName,
    consumers::{
        Commit, CommitError, ConsumerName, ConsumerState, Consumers, DeadLetter, DeadLetterFilter, Due, Fate, Parked,
        Progress, Settlement, Start, Taken,
    },
    state::{Key, Revision},
    topics::{Appended, Offset, TopicName},
    units::now_millis,
};
use rusqlite::{Connection, OptionalExtension, Row};
use std::{collections::BTreeSet, sync::atomic::Ordering};

/// Parked events that are read on the async thread.
const LOOK: usize = 64;

type Result<T, E = Stop<CommitError>> = std::result::Result<T, E>;

/// What became of each event, and the new ends of the topics that have grown.
type Grown = (Vec<Appended>, topics::Ends);

impl Consumers for Store {
    fn open(&self, name: &ConsumerName, start: Start) -> BoxFuture<'_, Result<Progress, CommitError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.write(move |connection| open(connection, &name, start)).await?) })
    }

    fn consumers(&self) -> BoxFuture<'_, Result<Vec<ConsumerState>, CommitError>> {
        Box::pin(async { Ok(self.read(list).await?) })
    }

    fn forget(&self, function: &FunctionName) -> BoxFuture<'_, Result<(), CommitError>> {
        let function = function.clone();
        Box::pin(async move {
            let room = self.writer.room(0).await;
            Ok(self.write_then(room, move |connection| Ok(forget(connection, &function)?), self.sweep_later()).await?)
        })
    }

    fn seek(&self, name: &ConsumerName, to: Start) -> BoxFuture<'_, Result<Progress, CommitError>> {
        let name = name.clone();
        Box::pin(async move {
            let room = self.writer.room(0).await;
            Ok(self.write_then(room, move |connection| seek(connection, &name, to), self.sweep_later()).await?)
        })
    }

    fn progress(&self, name: &ConsumerName) -> BoxFuture<'_, Result<Progress, CommitError>> {
        let name = name.clone();
        Box::pin(async move {
            let progress = self.look(|connection| {
                let transaction = connection.unchecked_transaction()?;
                Ok(found(&transaction, &name)?.progress(&transaction)?)
            });
            Ok(progress.await?)
        })
    }

    fn fates(&self, name: &ConsumerName, offsets: Vec<Offset>) -> BoxFuture<'_, Result<Vec<Fate>, CommitError>> {
        let name = name.clone();
        Box::pin(async move { Ok(self.read(move |connection| fates(connection, &name, &offsets)).await?) })
    }

    fn take(&self, taken: Taken) -> BoxFuture<'_, Result<Vec<Appended>, CommitError>> {
        let ends = self.ends.clone();
        Box::pin(async move {
            let Taken { consumer, events, others, reads, writes } = taken;
            let all = events.iter().chain(others.iter().map(|(_, event)| event));
            let room = self.writer.room(all.map(topics::weight).sum::<usize>() + state::weight(&writes)).await;
            let events: Vec<Encoded> = events.into_iter().map(Encoded::from).collect();
            let others: Vec<(TopicName, Encoded)> =
                others.into_iter().map(|(topic, event)| (topic, event.into())).collect();
            let take = move |tx: &Tx<'_>| take(tx, &consumer, &events, &others, &reads, &writes);
            let then = move |(_, reached): &Grown| ends.reached(reached);
            Ok(self.write_then(room, take, then).await?.0)
        })
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<(), CommitError>> {
        let ends = self.ends.clone();
        Box::pin(async move {
            let room = self.writer.room(weight(&commit)).await;
            let run = Run::from(commit);
            let then = move |reached: &Vec<_>| ends.reached(reached);
            self.write_then(room, move |tx| run.make(tx, now_millis()), then).await?;
            Ok(())
        })
    }

    fn due(&self, name: &ConsumerName, now: u64, limit: usize) -> BoxFuture<'_, Result<Due, CommitError>> {
        let name = name.clone();
        Box::pin(async move {
            let due = move |connection: &Connection| {
                let transaction = connection.unchecked_transaction()?;
                let consumer = found(&transaction, &name)?;
                Ok(parked::due(&transaction, consumer.id, now, limit)?)
            };
            Ok(if limit <= LOOK { self.look(due).await? } else { self.read(due).await? })
        })
    }

    fn line(&self, name: &ConsumerName, key: &str, limit: usize) -> BoxFuture<'_, Result<Vec<Parked>, CommitError>> {
        let (name, key) = (name.clone(), key.to_owned());
        Box::pin(async move {
            let list = move |connection: &Connection| {
                let transaction = connection.unchecked_transaction()?;
                let consumer = found(&transaction, &name)?;
                Ok(parked::of_key(&transaction, consumer.id, &key, limit)?)
            };
            Ok(if limit <= LOOK { self.look(list).await? } else { self.read(list).await? })
        })
    }

    fn parked(
        &self,
        name: &ConsumerName,
        from: Offset,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Parked>, CommitError>> {
        let name = name.clone();
        Box::pin(async move {
            let list = move |connection: &Connection| {
                let transaction = connection.unchecked_transaction()?;
                let consumer = found(&transaction, &name)?;
                Ok(parked::list(&transaction, consumer.id, from, limit)?)
            };
            Ok(if limit <= LOOK { self.look(list).await? } else { self.read(list).await? })
        })
    }

    fn dead_letters(
        &self,
        filter: DeadLetterFilter,
        before: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DeadLetter>, CommitError>> {
        Box::pin(async move {
            let list = self.read(move |connection| Ok(dead_letters::list(connection, &filter, before, limit)?));
            Ok(list.await?)
        })
    }

    fn redrive(
        &self,
        filter: DeadLetterFilter,
        now: u64,
    ) -> BoxFuture<'_, Result<(Vec<ConsumerName>, u64), CommitError>> {
        Box::pin(async move {
            let letters = self.read(move |connection| Ok(dead_letters::in_order(connection, &filter)?)).await?;
            let (mut consumers, mut redriven) = (BTreeSet::new(), 0);
            for piece in letters.chunks(dead_letters::PIECE) {
                let piece = piece.to_vec();
                // Each piece is a change of its own, so that others come between.
                let given = self.write(move |connection| Ok(dead_letters::redrive(connection, &piece, now)?)).await?;
                redriven += given.values().sum::<u64>();
                consumers.extend(given.into_keys());
            }
            Ok((consumers.into_iter().collect(), redriven))
        })
    }

    fn drop_dead_letters(&self, filter: DeadLetterFilter) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async move {
            let letters = self.read(move |connection| Ok(dead_letters::in_order(connection, &filter)?)).await?;
            let mut dropped = 0;
            for piece in letters.chunks(dead_letters::PIECE) {
                let piece = piece.to_vec();
                dropped += self.write(move |connection| Ok(dead_letters::delete(connection, &piece)?)).await?;
            }
            Ok(dropped)
        })
    }
}

impl Store {
    /// For a change that leaves something to be swept.
    fn sweep_later<T>(&self) -> impl FnOnce(&T) + Send + use<T> {
        let chore = self.writer.chore();
        move |_| chore.store(true, Ordering::Relaxed)
    }
}

impl From<Failed<CommitError>> for CommitError {
    fn from(failed: Failed<CommitError>) -> Self {
        match failed {
            Failed::Refused(error) => error,
            Failed::Unavailable(reason) => Self::Unavailable(reason),
        }
    }
}

/// A consumer's row, and its topic's numbers.
pub(crate) struct Consumer {
    pub(crate) id: i64,
    pub(crate) log: Log,
    pub(crate) settled: Settled,
}

impl Consumer {
    pub(crate) fn find(connection: &Connection, name: &ConsumerName) -> rusqlite::Result<Option<Self>> {
        match Log::find(connection, &name.topic)? {
            Some(log) => Self::of(connection, log, &name.function),
            None => Ok(None),
        }
    }

    fn of(connection: &Connection, log: Log, function: &FunctionName) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached("SELECT position, ahead, id FROM consumers WHERE function = ?1 AND topic = ?2")?
            .query_row((function.as_str(), log.id), |row| Ok(Self { log, settled: settled(row, 0)?, id: row.get(2)? }))
            .optional()
    }

    pub(crate) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        save(connection, self.id, &self.settled)
    }

    fn progress(self, connection: &Connection) -> rusqlite::Result<Progress> {
        let Settled { position, ahead } = self.settled;
        Ok(Progress { position, ahead, parked: parked::count(connection, self.id)? })
    }
}

fn found(connection: &Connection, name: &ConsumerName) -> Result<Consumer> {
    let Some(log) = Log::find(connection, &name.topic)? else {
        return Err(Stop::Refused(CommitError::NoTopic(name.topic.clone())));
    };
    Consumer::of(connection, log, &name.function)?.ok_or_else(|| Stop::Refused(CommitError::NoConsumer(name.clone())))
}

/// Reads `position` and, in the column after it, `ahead`.
fn settled(row: &Row<'_>, column: usize) -> rusqlite::Result<Settled> {
    let ahead = match row.get_ref(column + 1)?.as_str()? {
        "[]" => Vec::new(), // as it is most of the time
        _ => json(row, column + 1)?,
    };
    Ok(Settled { position: row.get(column)?, ahead })
}

fn save(connection: &Connection, consumer: i64, settled: &Settled) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE consumers SET position = ?2, ahead = ?3 WHERE id = ?1")?.execute((
        consumer,
        int(settled.position),
        text(&settled.ahead),
    ))?;
    Ok(())
}

/// Where a consumer that begins so begins.
fn begin(connection: &Connection, log: &Log, start: Start) -> rusqlite::Result<Settled> {
    let position = match start {
        Start::Beginning => log.first,
        Start::Now => log.end,
        Start::Offset(offset) => offset.clamp(log.first, log.end),
        Start::Time(time) => log.offset_at(connection, time)?,
    };
    Ok(Settled { position, ahead: Vec::new() })
}

pub(crate) fn open(connection: &Connection, name: &ConsumerName, start: Start) -> Result<Progress> {
    let Some(log) = Log::find(connection, &name.topic)? else {
        return Err(Stop::Refused(CommitError::NoTopic(name.topic.clone())));
    };
    if let Some(consumer) = Consumer::of(connection, log, &name.function)? {
        return Ok(consumer.progress(connection)?);
    }
    Ok(make(connection, name, &log, start)?)
}

/// Makes a consumer. What one that is gone has parked, and isn't swept yet, stays of a number of its own.
fn make(connection: &Connection, name: &ConsumerName, log: &Log, start: Start) -> rusqlite::Result<Progress> {
    let Settled { position, ahead } = begin(connection, log, start)?;
    connection
        .prepare_cached(
            "INSERT INTO consumers (id, function, topic, position) VALUES (
                1 + max((SELECT coalesce(max(id), 0) FROM consumers), (SELECT coalesce(max(consumer), 0) FROM forgotten)),
                ?1, ?2, ?3
             )",
        )?
        .execute((name.function.as_str(), log.id, int(position)))?;
    Ok(Progress { position, ahead, parked: 0 })
}

/// Makes the consumer anew somewhere else.
pub(crate) fn seek(connection: &Connection, name: &ConsumerName, to: Start) -> Result<Progress> {
    let consumer = found(connection, name)?;
    connection.prepare_cached("DELETE FROM consumers WHERE id = ?1")?.execute([consumer.id])?;
    Ok(make(connection, name, &consumer.log, to)?)
}

/// Takes the consumers of a function away at once, and leaves what they parked, which may be much, to be swept.
pub(crate) fn forget(connection: &Connection, function: &FunctionName) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM consumers WHERE function = ?1")?.execute([function.as_str()])?;
    Ok(())
}

fn list(connection: &Connection) -> Result<Vec<ConsumerState>> {
    let mut statement = connection.prepare_cached(
        "SELECT c.function, t.name, c.position, c.ahead, t.end,
            (SELECT count(*) FROM parked p WHERE p.consumer = c.id),
            (SELECT count(*) FROM dead_letters d WHERE d.function = c.function AND d.topic = t.name)
         FROM consumers c JOIN topics t ON t.id = c.topic ORDER BY c.function, t.name",
    )?;
    let consumers = statement.query_map([], |row| {
        let Settled { position, ahead } = settled(row, 2)?;
        Ok(ConsumerState {
            name: ConsumerName { function: parsed(row, 0)?, topic: parsed(row, 1)? },
            progress: Progress { position, ahead, parked: row.get(5)? },
            end: row.get(4)?,
            dead: row.get(6)?,
        })
    })?;
    Ok(consumers.collect::<Result<_, _>>()?)
}

fn fates(connection: &Connection, name: &ConsumerName, offsets: &[Offset]) -> Result<Vec<Fate>> {
    let transaction = connection.unchecked_transaction()?;
    let consumer = found(&transaction, name)?;
    let fate = |offset: &Offset| {
        Ok(if !consumer.settled.contains(*offset) || parked::is_parked(&transaction, consumer.id, *offset)? {
            Fate::Waiting
        } else if dead_letters::is_dead(&transaction, name, consumer.log.id, *offset)? {
            Fate::Dead
        } else {
            Fate::Done
        })
    };
    offsets.iter().map(fate).collect()
}

/// Appends what a source saw, and answers for each event, and with the new end of the topic.
fn take(
    tx: &Tx<'_>,
    name: &ConsumerName,
    events: &[Encoded],
    others: &[(TopicName, Encoded)],
    reads: &[(Key, Revision)],
    writes: &[(Key, Option<Bytes>)],
) -> Result<Grown> {
    // Nothing is written before everything that can be refused is through.
    found(tx, name)?;
    if let Some(key) = state::changed(tx, reads)? {
        return Err(Stop::Refused(CommitError::Conflict { key }));
    }
    let mut appends = Appends::new(tx, now_millis())?;
    let no_topic = |name: &TopicName| Stop::Refused(CommitError::NoTopic(name.clone()));
    let topic = appends.topic(&name.topic)?.ok_or_else(|| no_topic(&name.topic))?;
    let mut elsewhere = Vec::with_capacity(others.len());
    for (name, event) in others {
        elsewhere.push((appends.topic(name)?.ok_or_else(|| no_topic(name))?, event));
    }
    for (topic, event) in elsewhere {
        appends.append(topic, event)?;
    }
    let appended = events.iter().map(|event| appends.append(topic, event)).collect::<rusqlite::Result<_>>()?;
    state::write(tx, writes)?;
    Ok((appended, appends.save()?))
}

/// Moves the consumers of a topic on to an offset, for what is before it is gone.
pub(crate) fn skip(connection: &Connection, topic: i64, to: Offset) -> rusqlite::Result<()> {
    let behind: Vec<(i64, Settled)> = connection
        .prepare_cached("SELECT id, position, ahead FROM consumers WHERE topic = ?1 AND position < ?2")?
        .query_map((topic, int(to)), |row| Ok((row.get(0)?, settled(row, 1)?)))?
        .collect::<Result<_, _>>()?;
    for (consumer, mut settled) in behind {
        settled.advance(to);
        save(connection, consumer, &settled)?;
    }
    Ok(())
}

/// What a commit takes of the writer's queue.
fn weight(commit: &Commit) -> usize {
    let settled = commit.settled.iter().map(|(_, settlement)| match settlement {
        Settlement::Done => 0,
        Settlement::Parked(parked) => parked.error.len() + parked.event.as_ref().map_or(0, topics::weight),
        Settlement::Dead(letter) => letter.error.len() + topics::weight(&letter.event),
    });
    let outputs = commit.outputs.iter().map(|(_, event)| topics::weight(event));
    settled.chain(outputs).sum::<usize>() + state::weight(&commit.writes)
}

/// A commit, with its outputs as they will be written.
struct Run {
    consumer: ConsumerName,
    settled: Vec<(Offset, Settlement)>,
    outputs: Vec<(TopicName, Encoded)>,
    reads: Vec<(Key, Revision)>,
    writes: Vec<(Key, Option<Bytes>)>,
}

impl From<Commit> for Run {
    fn from(commit: Commit) -> Self {
        let Commit { consumer, settled, outputs, reads, writes } = commit;
        let outputs = outputs.into_iter().map(|(topic, event)| (topic, event.into())).collect();
        Self { consumer, settled, outputs, reads, writes }
    }
}

impl Run {
    /// Answers with the new ends of the topics it appended to.
    fn make(&self, tx: &Tx<'_>, now: u64) -> Result<Vec<(TopicName, Offset)>> {
        let Self { consumer: name, settled, outputs, reads, writes } = self;
        // Nothing is written before everything that can be refused is through.
        let mut consumer = found(tx, name)?;
        if let Some(key) = state::changed(tx, reads)? {
            return Err(Stop::Refused(CommitError::Conflict { key }));
        }
        let before = consumer.settled.clone();
        for (offset, _) in settled {
            if *offset >= consumer.log.end {
                return Err(Stop::Refused(CommitError::NoConsumer(name.clone())));
            }
            if !consumer.settled.contains(*offset) {
                consumer.settled.insert(*offset);
            } else if !(before.contains(*offset) && parked::is_parked(tx, consumer.id, *offset)?) {
                return Err(Stop::Refused(CommitError::Settled { topic: name.topic.clone(), offset: *offset }));
            }
        }
        let mut appends = Appends::new(tx, now)?;
        let mut topics = Vec::with_capacity(outputs.len());
        for (topic, _) in outputs {
            let found = appends.topic(topic)?;
            topics.push(found.ok_or_else(|| Stop::Refused(CommitError::NoTopic(topic.clone())))?);
        }

        for (topic, (_, event)) in topics.into_iter().zip(outputs) {
            appends.append(topic, event)?;
        }
        for (offset, settlement) in settled {
            let was_settled = before.contains(*offset);
            match settlement {
                Settlement::Parked(parked) => parked::park(tx, consumer.id, *offset, parked)?,
                Settlement::Done | Settlement::Dead(_) if was_settled => {
                    parked::unpark(tx, consumer.id, *offset)?;
                }
                Settlement::Done | Settlement::Dead(_) => {}
            }
            if let Settlement::Dead(letter) = settlement {
                dead_letters::insert(tx, name, consumer.log.id, *offset, letter)?;
            }
        }
        if consumer.settled != before {
            consumer.save(tx)?;
        }
        state::write(tx, writes)?;
        Ok(appends.save()?)
    }
}
