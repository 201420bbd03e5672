//! Which ids a topic has, so that an event that comes again counts once.
//!
//! An index of ids touches a page wherever the id happens to fall. Random ids fall anywhere: a commit of a hundred events
//! would read and write a hundred pages, and the more there are, the less often one is met again. So ids are looked up by a
//! hash, and the hashes of the newest events are in memory alone. When they are many, they go to the disk as a *run*: in the
//! order of their hashes, behind everything else, so that pages are filled one after the other. A filter in memory for each
//! run says which one a hash may be in, and for a new id that is next to never any.
//!
//! ```text
//!   events      │ 1 … 262,144     │ … 524,288       │ … up to `settled_ids` │ since then … │
//!   hashes in   │ a run, a filter │ a run, a filter │ a run, a filter       │ `Recent`     │  read again from `events`
//!                                                                                             when the file is opened
//! ```
//!
//! A run has a row of `id_parts` for each part of all possible hashes: the hashes, each with the number of its event. Nothing is
//! taken out of it when events are dropped. That is possible because a hash alone decides nothing: the event it belongs to is
//! looked up and compared. When most events of a run are gone, it is made into one with its neighbour, without them.
//!
//! What is in memory changes with the transaction of the writer, and is undone with it.

mod filter;

use crate::{int, writer::Tx};
use dunlin_events::topics::Offset;
use filter::{Filter, Probe};
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};
use std::{cell::RefCell, collections::BTreeSet, ops::RangeInclusive, sync::Arc};

/// Events of a run, whose hashes are in memory before: 6 MiB. As many events, or twice that, are read when the file is opened.
const RUN: i64 = if cfg!(test) { 64 } else { 256 << 10 };
/// Parts of a run, by the upper bits of a hash: some 64 hashes each, of which a page takes three.
const PART_BITS: u32 = if cfg!(test) { 3 } else { 12 };
const PARTS: i64 = 1 << PART_BITS;
/// Parts that are moved at a time, at least and at most: as many as it takes to have moved all before half as many events have
/// come as a run has.
const PIECE: (i64, i64) = if cfg!(test) { (1, 4) } else { (4, 128) };

const PART: &str = "SELECT entries FROM id_parts WHERE id = ?1";
const EVENT: &str = "SELECT topic, source, id, offset FROM events WHERE seq = ?1";

/// A hash, and the number of an event that has it.
type Entry = (i64, i64);

/// What the writer keeps of ids in memory.
#[derive(Default)]
pub(crate) struct Ids(RefCell<Recent>);

#[derive(Default)]
struct Recent {
    entries: BTreeSet<Entry>,
    runs: Arc<[Run]>,
    moving: Option<Moving>,
    /// The transaction and its savepoints that are open, and what they have changed of the entries.
    open: usize,
    changes: Vec<Change>,
}

enum Change {
    Added(Entry),
    Removed(Entry),
}

/// A run on disk.
#[derive(Clone)]
struct Run {
    number: i64,
    filter: Arc<Filter>,
}

/// A run that is being made. Its parts up to `next` are there, and what is in them is in memory no more.
#[derive(Clone)]
struct Moving {
    run: Run,
    /// Its events come after the one, up to the other.
    above: i64,
    upto: i64,
    /// The runs that go into it. Without any it is made of the newest.
    of: Arc<[i64]>,
    next: i64,
    /// The newest event when it was begun.
    since: i64,
    /// Entries moved, and those of them whose events were dropped meanwhile.
    moved: i64,
    gone: i64,
}

impl Moving {
    fn has(&self, seq: i64) -> bool {
        self.above < seq && seq <= self.upto
    }
}

/// A transaction or a savepoint of one. What was changed since it began is undone when it is dropped, unless it is kept.
#[must_use]
pub(crate) struct Undo<'a> {
    ids: &'a Ids,
    changes: usize,
    runs: Arc<[Run]>,
    moving: Option<Moving>,
}

impl Undo<'_> {
    /// It was committed.
    pub(crate) fn keep(mut self) {
        let mut recent = self.ids.0.borrow_mut();
        // The transaction that this is a savepoint of may still be undone.
        if recent.open == 1 {
            recent.changes.clear();
        }
        self.changes = recent.changes.len();
        self.runs = Arc::clone(&recent.runs);
        self.moving.clone_from(&recent.moving);
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let mut recent = self.ids.0.borrow_mut();
        let Recent { entries, runs, moving, open, changes } = &mut *recent;
        *open -= 1;
        for change in changes.drain(self.changes..).rev() {
            match change {
                Change::Added(entry) => entries.remove(&entry),
                Change::Removed(entry) => entries.insert(entry),
            };
        }
        *runs = Arc::clone(&self.runs);
        *moving = self.moving.take();
    }
}

impl Recent {
    fn add(&mut self, entry: Entry) {
        if self.entries.insert(entry) {
            self.changes.push(Change::Added(entry));
        }
    }

    fn remove(&mut self, entry: Entry) {
        if self.entries.remove(&entry) {
            self.changes.push(Change::Removed(entry));
        }
    }
}

/// What an id is looked up by. It is in the file, so it stays what it is for ever.
pub(crate) fn hash(topic: i64, source: &str, id: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(topic.to_le_bytes());
    hash.update((source.len() as u64).to_le_bytes());
    hash.update(source);
    hash.update(id);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    i64::from_le_bytes(first)
}

/// The part of a run that a hash is in, counted from the lowest hashes.
fn part_of(hash: i64) -> i64 {
    (hash >> (64 - PART_BITS)) + PARTS / 2
}

/// The hashes of a part.
fn hashes_of(part: i64) -> RangeInclusive<i64> {
    let first = (part - PARTS / 2) << (64 - PART_BITS);
    first..=first + (u64::MAX >> PART_BITS) as i64
}

impl Ids {
    /// Reads the newest again.
    pub(crate) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let mut events = connection
            .prepare("SELECT topic, source, id, seq FROM events WHERE seq > (SELECT seq FROM settled_ids)")?;
        let entries = events.query_map([], |row| {
            Ok((hash(row.get(0)?, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?), row.get(3)?))
        })?;
        let mut runs = connection.prepare("SELECT run, filter FROM id_filters ORDER BY run")?;
        let runs = runs.query_map([], |row| {
            let filter = Filter::from_bytes(row.get_ref(1)?.as_blob()?);
            let damaged = || rusqlite::Error::InvalidColumnType(1, "filter".into(), rusqlite::types::Type::Blob);
            Ok(Run { number: row.get(0)?, filter: Arc::new(filter.ok_or_else(damaged)?) })
        })?;
        Ok(Self(RefCell::new(Recent {
            entries: entries.collect::<Result<_, _>>()?,
            runs: runs.collect::<Result<_, _>>()?,
            ..Recent::default()
        })))
    }

    /// A transaction begins, or a savepoint in it.
    pub(crate) fn begin(&self) -> Undo<'_> {
        let mut recent = self.0.borrow_mut();
        recent.open += 1;
        Undo { ids: self, changes: recent.changes.len(), runs: Arc::clone(&recent.runs), moving: recent.moving.clone() }
    }
}

/// Where a topic has an event of this source and id.
pub(crate) fn find(tx: &Tx<'_>, hash: i64, topic: i64, source: &str, id: &str) -> rusqlite::Result<Option<Offset>> {
    let here = |seq: i64| -> rusqlite::Result<Option<Offset>> {
        let mut event = tx.prepare_cached(EVENT)?;
        let offset = event.query_row([seq], |row| {
            let same = row.get::<_, i64>(0)? == topic
                && row.get_ref(1)?.as_str()? == source
                && row.get_ref(2)?.as_str()? == id;
            Ok(same.then_some(row.get(3)?))
        });
        Ok(offset.optional()?.flatten())
    };
    let recent = tx.ids.0.borrow();
    for (_, seq) in recent.entries.range((hash, i64::MIN)..=(hash, i64::MAX)) {
        if let Some(offset) = here(*seq)? {
            return Ok(Some(offset));
        }
    }
    let probe = Probe::new(hash);
    let moving = recent.moving.iter().map(|moving| &moving.run);
    for run in recent.runs.iter().chain(moving).filter(|run| run.filter.may_have(&probe)) {
        for (_, seq) in read(tx, run.number, part_of(hash))?.into_iter().filter(|entry| entry.0 == hash) {
            if let Some(offset) = here(seq)? {
                return Ok(Some(offset));
            }
        }
    }
    Ok(None)
}

/// Notes the event that was just inserted.
pub(crate) fn add(tx: &Tx<'_>, hash: i64) {
    tx.ids.0.borrow_mut().add((hash, tx.last_insert_rowid()));
}

/// Forgets the events of a topic before an offset, which are about to be dropped.
pub(crate) fn forget(tx: &Tx<'_>, topic: i64, first: Offset) -> rusqlite::Result<()> {
    let mut runs = tx.prepare_cached("SELECT run, above, upto FROM id_runs ORDER BY upto, run")?;
    let runs: Vec<(i64, i64, i64)> = runs.query_map([], |row| row.try_into())?.collect::<Result<_, _>>()?;
    let mut gone = vec![0; runs.len()];
    let mut recent = tx.ids.0.borrow_mut();
    let mut dropped = tx.prepare_cached("SELECT seq, source, id FROM events WHERE topic = ?1 AND offset < ?2")?;
    let mut dropped = dropped.query((topic, int(first)))?;
    while let Some(row) = dropped.next()? {
        let seq = row.get(0)?;
        let index = runs.partition_point(|(_, _, upto)| *upto < seq);
        let settled = runs.get(index).is_some_and(|(_, above, _)| *above < seq);
        if settled {
            gone[index] += 1;
        }
        let moving = recent.moving.as_mut().filter(|moving| moving.has(seq));
        if settled && moving.is_none() {
            continue;
        }
        let hash = hash(topic, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        match moving {
            Some(moving) if part_of(hash) < moving.next => moving.gone += 1,
            _ => recent.remove((hash, seq)),
        }
    }
    let mut update = tx.prepare_cached("UPDATE id_runs SET live = live - ?2 WHERE run = ?1")?;
    for ((run, ..), gone) in runs.into_iter().zip(gone).filter(|(_, gone)| *gone > 0) {
        update.execute((run, gone))?;
    }
    Ok(())
}

/// To be called when events were dropped: the number of one that was the last is given again, and the one that gets it is new.
pub(crate) fn unsettle(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let newest = newest(tx)?;
    tx.prepare_cached("UPDATE settled_ids SET seq = ?1 WHERE seq > ?1")?.execute([newest])?;
    tx.prepare_cached("UPDATE id_runs SET upto = ?1 WHERE upto > ?1")?.execute([newest])?;
    if let Some(moving) = &mut tx.ids.0.borrow_mut().moving {
        moving.upto = newest.min(moving.upto);
    }
    Ok(())
}

/// Moves a piece to the disk when there are many, or makes one of two runs with little left, and answers whether there is more.
pub(crate) fn settle(tx: &Tx<'_>) -> rusqlite::Result<bool> {
    let newest = newest(tx)?;
    let mut recent = tx.ids.0.borrow_mut();
    let moving = match recent.moving.take() {
        Some(moving) => Some(moving),
        None => begin_move(tx, newest, &recent.runs)?,
    };
    let Some(mut moving) = moving else { return Ok(false) };
    let due = PARTS * (newest - moving.since) / (RUN / 2);
    let end = due.clamp(moving.next + PIECE.0, moving.next + PIECE.1).min(PARTS);
    let mut write = tx.prepare_cached("INSERT OR REPLACE INTO id_parts (id, entries) VALUES (?1, ?2)")?;
    // A copy of its own: should this be undone, the one before has what it had.
    let filter = Arc::make_mut(&mut moving.run.filter);
    for part in moving.next..end {
        let entries = if moving.of.is_empty() {
            let (first, last) = hashes_of(part).into_inner();
            let here = recent.entries.range((first, i64::MIN)..=(last, i64::MAX));
            here.filter(|(_, seq)| *seq <= moving.upto).copied().collect()
        } else {
            left_of(tx, &moving.of, part)?
        };
        // Also an empty one: a crash in the middle of a move leaves parts behind.
        write.execute((id(moving.run.number, part), written(&entries)))?;
        for entry in &entries {
            filter.add(entry.0);
            recent.remove(*entry);
        }
        moving.moved += entries.len() as i64;
    }
    moving.next = end;
    if end < PARTS {
        recent.moving = Some(moving);
    } else {
        recent.runs = finish(tx, &moving, &recent.runs)?;
    }
    Ok(true)
}

/// The next move that is due.
fn begin_move(tx: &Tx<'_>, newest: i64, runs: &[Run]) -> rusqlite::Result<Option<Moving>> {
    let settled: i64 = tx.prepare_cached("SELECT seq FROM settled_ids")?.query_row([], |row| row.get(0))?;
    let (of, above, upto, most) = if newest - settled >= RUN {
        (Vec::new(), settled, settled + RUN, RUN)
    } else if let Some(thin) = tx.prepare_cached(THIN)?.query_row([RUN / 2], thin).optional()? {
        thin
    } else {
        return Ok(None);
    };
    // They are in the order of their numbers.
    let last = runs.last().map_or(0, |run| run.number);
    let run = Run { number: last + 1, filter: Arc::new(Filter::for_hashes(most as usize)) };
    // Where no event is left there is nothing to look through.
    let any = "SELECT 1 FROM events WHERE seq > ?1 AND seq <= ?2 LIMIT 1";
    let next = if tx.prepare_cached(any)?.exists((above, upto))? { 0 } else { PARTS };
    Ok(Some(Moving { run, above, upto, of: of.into(), next, since: newest, moved: 0, gone: 0 }))
}

/// A run with nothing left, or two with little. They are neighbours, so that a run stays what has the events between two
/// numbers. What comes of two has the events of half a run at most: it is full again only after as many were dropped.
const THIN: &str = "
    WITH pairs AS (
        SELECT run, above, upto, live, lead(run) OVER w AS other, lead(upto) OVER w AS other_upto,
               live + lead(live) OVER w AS both
        FROM id_runs WINDOW w AS (ORDER BY upto, run)
    )
    SELECT run, NULL, above, upto, 0 FROM pairs WHERE live <= 0
    UNION ALL SELECT run, other, above, other_upto, both FROM pairs WHERE both <= ?1
    LIMIT 1";

fn thin(row: &Row<'_>) -> rusqlite::Result<(Vec<i64>, i64, i64, i64)> {
    let of: [Option<i64>; 2] = [row.get(0)?, row.get(1)?];
    Ok((of.into_iter().flatten().collect(), row.get(2)?, row.get(3)?, row.get(4)?))
}

/// The run is whole: from here on it counts, instead of those it was made of.
fn finish(tx: &Tx<'_>, moving: &Moving, runs: &[Run]) -> rusqlite::Result<Arc<[Run]>> {
    let Moving { run, above, upto, of, moved, gone, .. } = moving;
    let nothing = *moved == 0;
    for number in of.iter().chain(nothing.then_some(&run.number)) {
        tx.prepare_cached("DELETE FROM id_runs WHERE run = ?1")?.execute([number])?;
        tx.prepare_cached("DELETE FROM id_filters WHERE run = ?1")?.execute([number])?;
        let parts = (id(*number, 0), id(*number, PARTS - 1));
        tx.prepare_cached("DELETE FROM id_parts WHERE id BETWEEN ?1 AND ?2")?.execute(parts)?;
    }
    tx.prepare_cached("UPDATE settled_ids SET seq = ?1 WHERE seq < ?1")?.execute([upto])?;
    let rest = runs.iter().filter(|run| !of.contains(&run.number)).cloned();
    if nothing {
        return Ok(rest.collect());
    }
    let insert = "INSERT INTO id_runs (run, above, upto, live) VALUES (?1, ?2, ?3, ?4)";
    tx.prepare_cached(insert)?.execute((run.number, above, upto, moved - gone))?;
    let filter = "INSERT INTO id_filters (run, filter) VALUES (?1, ?2)";
    tx.prepare_cached(filter)?.execute((run.number, run.filter.to_bytes()))?;
    Ok(rest.chain([run.clone()]).collect())
}

/// What is left of runs in a part: entries whose events are there.
fn left_of(tx: &Tx<'_>, runs: &[i64], part: i64) -> rusqlite::Result<Vec<Entry>> {
    let mut exists = tx.prepare_cached("SELECT 1 FROM events WHERE seq = ?1")?;
    let mut left = Vec::new();
    for run in runs {
        for entry in read(tx, *run, part)? {
            if exists.exists([entry.1])? {
                left.push(entry);
            }
        }
    }
    Ok(left)
}

fn id(run: i64, part: i64) -> i64 {
    run << PART_BITS | part
}

fn written(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|(hash, seq)| [hash.to_le_bytes(), seq.to_le_bytes()]).flatten().collect()
}

fn read(tx: &Tx<'_>, run: i64, part: i64) -> rusqlite::Result<Vec<Entry>> {
    let entries = tx.prepare_cached(PART)?.query_row([id(run, part)], |row| {
        let (numbers, _) = row.get_ref(0)?.as_blob()?.as_chunks();
        let (entries, _) = numbers.as_chunks();
        Ok(entries.iter().map(|entry: &[_; 2]| entry.map(i64::from_le_bytes).into()).collect())
    });
    Ok(entries.optional()?.unwrap_or_default())
}

fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM events")?.query_row([], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::StatementStatus;
    use std::{collections::BTreeMap, path::Path};

    /// What is done to a topic.
    #[derive(Debug, Clone)]
    enum Step {
        /// Events come, some of them again.
        Append(Vec<u8>),
        /// So many of the oldest are dropped.
        Drop(u64),
        /// Both, in a savepoint that is undone alone, or not.
        Savepoint(Vec<u8>, u64, bool),
        /// The chore is done once.
        Settle,
        /// What was done since the last commit never was.
        RollBack,
        Commit,
        /// The process ends, and another opens the file.
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        let events = || prop::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            4 => events().prop_map(Step::Append),
            1 => (1..60_u64).prop_map(Step::Drop),
            1 => (events(), 0..60_u64, any::<bool>()).prop_map(|(ids, drop, undone)| Step::Savepoint(ids, drop, undone)),
            6 => Just(Step::Settle),
            1 => Just(Step::RollBack),
            3 => Just(Step::Commit),
            1 => Just(Step::Reopen),
        ]
    }

    const TOPIC: i64 = 7;

    fn open(file: &Path) -> (Connection, Ids) {
        let connection = crate::schema::open(file).unwrap();
        let ids = Ids::open(&connection).unwrap();
        (connection, ids)
    }

    fn insert(connection: &Connection, offset: u64, id: &str) {
        let insert = "INSERT INTO events (topic, offset, appended_at, behind, source, id, event)
                      VALUES (?1, ?2, 0, 0, '/a', ?3, '{}')";
        connection.prepare_cached(insert).unwrap().execute((TOPIC, int(offset), id)).unwrap();
    }

    fn found(tx: &Tx<'_>, id: &str) -> Option<Offset> {
        find(tx, hash(TOPIC, "/a", id), TOPIC, "/a", id).unwrap()
    }

    /// A topic as it should be: its ids and where they are, and the next offset.
    #[derive(Debug, Clone, Default)]
    struct Model(BTreeMap<String, u64>, u64);

    impl Model {
        fn append(&mut self, tx: &Tx<'_>, ids: Vec<u8>) {
            for id in ids {
                let id = id.to_string();
                assert_eq!(found(tx, &id), self.0.get(&id).copied());
                if !self.0.contains_key(&id) {
                    insert(tx, self.1, &id);
                    add(tx, hash(TOPIC, "/a", &id));
                    self.0.insert(id, self.1);
                    self.1 += 1;
                }
            }
        }

        fn drop_oldest(&mut self, tx: &Tx<'_>, count: u64) {
            let first = self.0.values().min().map_or(self.1, |first| (first + count).min(self.1));
            forget(tx, TOPIC, first).unwrap();
            tx.execute("DELETE FROM events WHERE offset < ?1", [int(first)]).unwrap();
            unsettle(tx).unwrap();
            self.0.retain(|_, offset| *offset >= first);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

        #[test]
        fn an_id_is_found_as_long_as_its_event_is_there(steps in prop::collection::vec(step(), 1..80)) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("dunlin.db");
            std::fs::write(&file, "").unwrap();
            let mut steps = steps.into_iter();
            let mut committed = Model::default();
            let mut reopen = true;
            while std::mem::take(&mut reopen) {
                let (connection, ids) = open(&file);
                let begin = || {
                    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                    ids.begin()
                };
                let (mut model, mut undo) = (committed.clone(), begin());
                let tx = Tx::new(&connection, &ids);
                for step in steps.by_ref() {
                    match step {
                        Step::Append(ids) => model.append(&tx, ids),
                        Step::Drop(count) => model.drop_oldest(&tx, count),
                        Step::Savepoint(events, count, undone) => {
                            connection.execute_batch("SAVEPOINT s").unwrap();
                            let (before, undo) = (model.clone(), ids.begin());
                            model.append(&tx, events);
                            model.drop_oldest(&tx, count);
                            if undone {
                                connection.execute_batch("ROLLBACK TO s").unwrap();
                                model = before;
                                drop(undo);
                            } else {
                                undo.keep();
                            }
                            connection.execute_batch("RELEASE s").unwrap();
                        }
                        Step::Settle => drop(settle(&tx).unwrap()),
                        Step::RollBack => {
                            connection.execute_batch("ROLLBACK").unwrap();
                            drop(undo);
                            (model, undo) = (committed.clone(), begin());
                        }
                        Step::Commit => {
                            connection.execute_batch("COMMIT").unwrap();
                            undo.keep();
                            (committed, undo) = (model.clone(), begin());
                        }
                        Step::Reopen => {
                            reopen = true;
                            break;
                        }
                    }
                }
                if reopen {
                    continue;
                }
                for id in 0..=u8::MAX {
                    let id = id.to_string();
                    prop_assert_eq!(found(&tx, &id), model.0.get(&id).copied(), "{}", id);
                }
                // What is dropped leaves next to nothing behind, once the chore is done.
                while settle(&tx).unwrap() {}
                let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
                let recent = ids.0.borrow();
                let live = recent.entries.len() as i64 + count("SELECT coalesce(sum(live), 0) FROM id_runs");
                prop_assert_eq!(live, model.0.len() as i64);
                let runs = recent.runs.len() as i64;
                prop_assert!(runs <= 1 + 4 * live / RUN, "{} runs for {} events", runs, live);
                prop_assert_eq!(runs, count("SELECT count(*) FROM id_runs"));
                prop_assert_eq!(runs, count("SELECT count(*) FROM id_filters"));
                // A move that a crash broke off leaves parts, which the next one writes over.
                let broken_off = count("SELECT count(*) FROM id_parts") - runs * PARTS;
                prop_assert!((0..=PARTS).contains(&broken_off), "{} parts of no run", broken_off);
            }
        }
    }

    /// SQLite plans some statements anew for each value, which takes longer than all the rest.
    #[test]
    fn no_statement_is_planned_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dunlin.db");
        std::fs::write(&file, "").unwrap();
        let (connection, ids) = open(&file);
        let tx = Tx::new(&connection, &ids);
        for offset in 0..2 * RUN.cast_unsigned() {
            assert_eq!(found(&tx, &offset.to_string()), None);
            insert(&tx, offset, &offset.to_string());
            add(&tx, hash(TOPIC, "/a", &offset.to_string()));
            while settle(&tx).unwrap() {}
            for offset in [0, offset] {
                assert_eq!(found(&tx, &offset.to_string()), Some(offset));
            }
        }
        for sql in [PART, EVENT] {
            let statement = connection.prepare_cached(sql).unwrap();
            assert!(statement.get_status(StatementStatus::Run) >= 10, "{sql}");
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }

    #[test]
    fn the_hash_stays_what_it_is() {
        assert_eq!(hash(1, "/shop", "a"), 957_837_646_023_200_156);
        assert_ne!(hash(1, "/sho", "pa"), hash(1, "/shop", "a"));
    }
}
