//! Which ids a topic has, so that an event that comes again counts once.
//!
//! An index of ids touches a page wherever the id happens to fall. Random ids fall anywhere: a commit of a hundred events
//! would write a hundred pages, and the more there are, the less often one is met again. So ids are looked up by a hash, and
//! the hashes of the newest events are in memory alone. When they are many, they go to the disk in the order of their hashes,
//! a piece at a time, so that a page takes several at once.
//!
//! ```text
//!   events      │ … up to `settled_ids`      │ since then … │
//!   hashes in   │ event_ids, on disk         │ `Ids`        │   read again from `events` when the file is opened
//! ```
//!
//! What is in memory changes with the transaction of the writer, and is undone with it. A hash alone decides nothing: the
//! event it belongs to is compared.

use crate::{int, writer::Tx};
use dunlin_events::topics::Offset;
use rusqlite::{Connection, OptionalExtension, functions::FunctionFlags};
use sha2::{Digest, Sha256};
use std::{cell::RefCell, collections::BTreeSet};

/// Hashes in memory before they are moved to the disk: 6 MiB. As many events are read when the file is opened.
const RECENT: i64 = if cfg!(test) { 64 } else { 256 << 10 };
/// The part of them that is moved at a time. With one piece after each commit, more come to it meanwhile than leave only
/// when commits are large, and then pieces become as large.
const PIECES: i64 = if cfg!(test) { 8 } else { 256 };

const SETTLED_OF: &str = "SELECT seq FROM event_ids WHERE hash = ?1";
const EVENT: &str = "SELECT topic, source, id, offset FROM events WHERE seq = ?1";

/// A hash, and the number of an event that has it.
type Entry = (i64, i64);

/// What the writer keeps of ids in memory.
#[derive(Default)]
pub(crate) struct Ids(RefCell<Recent>);

#[derive(Default)]
struct Recent {
    entries: BTreeSet<Entry>,
    /// What is under way to the disk: up to which event, and from which hash on.
    moving: Option<(i64, i64)>,
    /// The transaction and its savepoints that are open, and what they have changed.
    open: usize,
    changes: Vec<Change>,
}

enum Change {
    Added(Entry),
    Removed(Entry),
}

/// A transaction or a savepoint of one. What was changed since it began is undone when it is dropped, unless it is kept.
#[must_use]
pub(crate) struct Undo<'a> {
    ids: &'a Ids,
    changes: usize,
    moving: Option<(i64, i64)>,
}

impl Undo<'_> {
    /// It was committed.
    pub(crate) fn keep(self) {
        let mut recent = self.ids.0.borrow_mut();
        recent.open -= 1;
        // The transaction that this is a savepoint of may still be undone.
        if recent.open == 0 {
            recent.changes.clear();
        }
        drop(recent);
        std::mem::forget(self);
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let mut recent = self.ids.0.borrow_mut();
        let Recent { entries, moving, open, changes } = &mut *recent;
        *open -= 1;
        for change in changes.drain(self.changes..).rev() {
            match change {
                Change::Added(entry) => entries.remove(&entry),
                Change::Removed(entry) => entries.insert(entry),
            };
        }
        *moving = self.moving;
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

/// Makes the hash known to SQL, for what is done to many rows at once.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("event_id_hash", 3, flags, |arguments| {
        Ok(hash(arguments.get(0)?, arguments.get_raw(1).as_str()?, arguments.get_raw(2).as_str()?))
    })
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

impl Ids {
    /// Reads the newest again.
    pub(crate) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let mut events = connection
            .prepare("SELECT topic, source, id, seq FROM events WHERE seq > (SELECT seq FROM settled_ids)")?;
        let entries = events.query_map([], |row| {
            Ok((hash(row.get(0)?, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?), row.get(3)?))
        })?;
        Ok(Self(RefCell::new(Recent { entries: entries.collect::<Result<_, _>>()?, ..Recent::default() })))
    }

    /// A transaction begins, or a savepoint in it.
    pub(crate) fn begin(&self) -> Undo<'_> {
        let mut recent = self.0.borrow_mut();
        recent.open += 1;
        Undo { ids: self, changes: recent.changes.len(), moving: recent.moving }
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
    for (_, seq) in tx.ids.0.borrow().entries.range((hash, i64::MIN)..=(hash, i64::MAX)) {
        if let Some(offset) = here(*seq)? {
            return Ok(Some(offset));
        }
    }
    // Simple statements: SQLite plans a join anew for each value it is given.
    let mut seqs = tx.prepare_cached(SETTLED_OF)?;
    let mut seqs = seqs.query([hash])?;
    while let Some(row) = seqs.next()? {
        if let Some(offset) = here(row.get(0)?)? {
            return Ok(Some(offset));
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
    let mut dropped = tx.prepare_cached("SELECT seq, source, id FROM events WHERE topic = ?1 AND offset < ?2")?;
    let dropped = dropped.query_map((topic, int(first)), |row| {
        Ok((hash(topic, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?), row.get(0)?))
    })?;
    let mut dropped: Vec<Entry> = dropped.collect::<Result<_, _>>()?;
    dropped.sort_unstable();
    // After a crash in the middle of a move, some are in both.
    let mut delete = tx.prepare_cached("DELETE FROM event_ids WHERE hash = ?1 AND seq = ?2")?;
    for entry in dropped {
        delete.execute(entry)?;
        tx.ids.0.borrow_mut().remove(entry);
    }
    Ok(())
}

/// To be called when events were dropped: the number of one that was the last is given again, and the one that gets it is new.
pub(crate) fn unsettle(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let newest = newest(tx)?;
    tx.prepare_cached("UPDATE settled_ids SET seq = ?1 WHERE seq > ?1")?.execute([newest])?;
    if let Some((upto, _)) = &mut tx.ids.0.borrow_mut().moving {
        *upto = newest.min(*upto);
    }
    Ok(())
}

/// Moves a piece to the disk when there are many, and answers whether there is more.
pub(crate) fn settle(tx: &Tx<'_>) -> rusqlite::Result<bool> {
    let settled: i64 = tx.prepare_cached("SELECT seq FROM settled_ids")?.query_row([], |row| row.get(0))?;
    let newest = newest(tx)?;
    let mut recent = tx.ids.0.borrow_mut();
    let (upto, from) = match recent.moving {
        Some(moving) => moving,
        None if newest - settled < RECENT => return Ok(false),
        None => (newest, i64::MIN),
    };
    let most = (newest - settled) / PIECES + 1;
    let mut rest = recent.entries.range((from, i64::MIN)..);
    let piece: Vec<Entry> = rest.by_ref().take(most as usize).filter(|(_, seq)| *seq <= upto).copied().collect();
    let next = rest.next().map(|(hash, _)| *hash);
    let mut insert = tx.prepare_cached("INSERT OR IGNORE INTO event_ids (hash, seq) VALUES (?1, ?2)")?;
    for entry in piece {
        insert.execute(entry)?;
        recent.remove(entry);
    }
    recent.moving = next.map(|next| (upto, next));
    if next.is_none() {
        tx.prepare_cached("UPDATE settled_ids SET seq = ?1")?.execute([upto])?;
    }
    Ok(true)
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
                // What is dropped leaves nothing behind.
                let settled = "SELECT hash, seq FROM event_ids";
                let mut settled = connection.prepare(settled).unwrap();
                let settled = settled.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                let mut all: BTreeSet<Entry> = settled.collect::<Result<_, _>>().unwrap();
                all.extend(&ids.0.borrow().entries);
                prop_assert_eq!(all.len(), model.0.len());
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
        for offset in 0..10 {
            assert_eq!(found(&tx, &offset.to_string()), None);
            insert(&tx, offset, &offset.to_string());
            add(&tx, hash(TOPIC, "/a", &offset.to_string()));
            assert_eq!(found(&tx, &offset.to_string()), Some(offset));
        }
        for sql in [SETTLED_OF, EVENT] {
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
