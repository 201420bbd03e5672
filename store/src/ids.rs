//! Which ids a topic has, so that an event that comes again counts once.
//!
//! An index of ids touches a page wherever the id happens to fall. Random ids fall anywhere: a commit of a hundred events
//! would write a hundred pages, and the more there are, the less often one is met again. So ids are looked up by a hash, and
//! the hashes of the newest events are in memory alone. When they are many, they go to the disk in the order of their hashes,
//! a piece at a time, so that a page takes several at once.
//!
//! ```text
//!   events      │ … up to `settled_ids`      │ since then … │
//!   hashes in   │ event_ids, on disk         │ recent_ids   │   read again from `events` when the file is opened
//! ```
//!
//! What is in memory is a temporary table of the writer's connection: it is rolled back with the rest. A hash alone decides
//! nothing: the event it belongs to is compared.

use crate::int;
use dunlin_events::topics::Offset;
use rusqlite::{Connection, OptionalExtension, functions::FunctionFlags};
use sha2::{Digest, Sha256};

/// Hashes in memory before they are moved to the disk: 5 MiB. As many events are read when the file is opened.
const RECENT: i64 = if cfg!(test) { 64 } else { 256 << 10 };
/// The part of them that is moved at a time. With one piece after each commit, more come to it meanwhile than leave only
/// when commits are large, and then pieces become as large.
const PIECES: i64 = if cfg!(test) { 8 } else { 256 };

const RECENT_OF: &str = "SELECT seq FROM recent_ids WHERE hash = ?1";
const SETTLED_OF: &str = "SELECT seq FROM event_ids WHERE hash = ?1";
const DELETE_RECENT: &str = "DELETE FROM recent_ids WHERE hash = ?1 AND seq = ?2";
const DELETE_SETTLED: &str = "DELETE FROM event_ids WHERE hash = ?1 AND seq = ?2";
const EVENT: &str = "SELECT topic, source, id, offset FROM events WHERE seq = ?1";

/// Makes the hash known to SQL, for what is done to many rows at once.
pub(crate) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("event_id_hash", 3, flags, |arguments| {
        Ok(hash(arguments.get(0)?, arguments.get_raw(1).as_str()?, arguments.get_raw(2).as_str()?))
    })
}

/// Reads the newest again. The connection is the writer's, and keeps them.
pub(crate) fn open(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA temp_store = MEMORY;
         CREATE TEMPORARY TABLE recent_ids (
             hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (hash, seq)
         ) STRICT, WITHOUT ROWID;
         -- What is under way: up to which event, and from which hash on.
         CREATE TEMPORARY TABLE moving (seq INTEGER NOT NULL, hash INTEGER NOT NULL) STRICT;
         INSERT INTO recent_ids
             SELECT event_id_hash(topic, source, id), seq FROM events WHERE seq > (SELECT seq FROM settled_ids)",
    )
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

/// Where a topic has an event of this source and id.
pub(crate) fn find(
    connection: &Connection,
    hash: i64,
    topic: i64,
    source: &str,
    id: &str,
) -> rusqlite::Result<Option<Offset>> {
    // Simple statements: SQLite plans a join anew for each value it is given.
    for seqs in [RECENT_OF, SETTLED_OF] {
        let mut seqs = connection.prepare_cached(seqs)?;
        let mut seqs = seqs.query([hash])?;
        while let Some(row) = seqs.next()? {
            let seq: i64 = row.get(0)?;
            let mut event = connection.prepare_cached(EVENT)?;
            let event = event.query_row([seq], |row| {
                let same = row.get::<_, i64>(0)? == topic
                    && row.get_ref(1)?.as_str()? == source
                    && row.get_ref(2)?.as_str()? == id;
                Ok(same.then_some(row.get(3)?))
            });
            if let Some(offset) = event.optional()?.flatten() {
                return Ok(Some(offset));
            }
        }
    }
    Ok(None)
}

/// Notes the event that was just inserted.
pub(crate) fn add(connection: &Connection, hash: i64) -> rusqlite::Result<()> {
    let seq = connection.last_insert_rowid();
    connection.prepare_cached("INSERT INTO recent_ids (hash, seq) VALUES (?1, ?2)")?.execute((hash, seq)).map(drop)
}

/// Forgets the events of a topic before an offset, which are about to be dropped.
pub(crate) fn forget(connection: &Connection, topic: i64, first: Offset) -> rusqlite::Result<()> {
    let mut dropped =
        connection.prepare_cached("SELECT seq, source, id FROM events WHERE topic = ?1 AND offset < ?2")?;
    let dropped = dropped.query_map((topic, int(first)), |row| {
        Ok((hash(topic, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?), row.get(0)?))
    })?;
    let mut dropped: Vec<(i64, i64)> = dropped.collect::<Result<_, _>>()?;
    dropped.sort_unstable();
    for delete in [DELETE_RECENT, DELETE_SETTLED] {
        let mut delete = connection.prepare_cached(delete)?;
        for entry in &dropped {
            delete.execute(*entry)?;
        }
    }
    Ok(())
}

/// To be called when events were dropped: the number of one that was the last is given again, and the one that gets it is new.
pub(crate) fn unsettle(connection: &Connection) -> rusqlite::Result<()> {
    let newest = newest(connection)?;
    for update in ["UPDATE settled_ids SET seq = ?1 WHERE seq > ?1", "UPDATE moving SET seq = ?1 WHERE seq > ?1"] {
        connection.prepare_cached(update)?.execute([newest])?;
    }
    Ok(())
}

/// Moves a piece to the disk when there are many, and answers whether there is more.
pub(crate) fn settle(connection: &Connection) -> rusqlite::Result<bool> {
    let settled: i64 = connection.prepare_cached("SELECT seq FROM settled_ids")?.query_row([], |row| row.get(0))?;
    let newest = newest(connection)?;
    let moving = connection
        .prepare_cached("SELECT seq, hash FROM moving")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let (upto, from) = match moving {
        Some(moving) => moving,
        None if newest - settled < RECENT => return Ok(false),
        None => {
            connection.prepare_cached("INSERT INTO moving VALUES (?1, ?2)")?.execute((newest, i64::MIN))?;
            (newest, i64::MIN)
        }
    };
    let most = (newest - settled) / PIECES + 1;
    let next: Option<i64> = connection
        .prepare_cached("SELECT hash FROM recent_ids WHERE hash >= ?1 ORDER BY hash LIMIT 1 OFFSET ?2")?
        .query_row((from, most), |row| row.get(0))
        .optional()?;
    let piece = (from, next.map_or(i64::MAX, |next| next - 1), upto);
    // After a crash in between, some of them are there.
    connection
        .prepare_cached(
            "INSERT OR IGNORE INTO event_ids SELECT hash, seq FROM recent_ids
             WHERE hash BETWEEN ?1 AND ?2 AND seq <= ?3 ORDER BY hash, seq",
        )?
        .execute(piece)?;
    connection.prepare_cached("DELETE FROM recent_ids WHERE hash BETWEEN ?1 AND ?2 AND seq <= ?3")?.execute(piece)?;
    if let Some(next) = next {
        connection.prepare_cached("UPDATE moving SET hash = ?1")?.execute([next])?;
    } else {
        connection.prepare_cached("UPDATE settled_ids SET seq = ?1")?.execute([upto])?;
        connection.prepare_cached("DELETE FROM moving")?.execute([])?;
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
        /// The chore is done once.
        Settle,
        /// What was done since the last commit never was.
        RollBack,
        Commit,
        /// The process ends, and another opens the file.
        Reopen,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 1..40).prop_map(Step::Append),
            1 => (1..60_u64).prop_map(Step::Drop),
            6 => Just(Step::Settle),
            1 => Just(Step::RollBack),
            3 => Just(Step::Commit),
            1 => Just(Step::Reopen),
        ]
    }

    const TOPIC: i64 = 7;

    fn open(file: &Path) -> Connection {
        crate::schema::open(file).unwrap()
    }

    fn insert(connection: &Connection, offset: u64, id: &str) {
        let insert = "INSERT INTO events (topic, offset, appended_at, behind, source, id, event)
                      VALUES (?1, ?2, 0, 0, '/a', ?3, '{}')";
        connection.prepare_cached(insert).unwrap().execute((TOPIC, int(offset), id)).unwrap();
    }

    fn found(connection: &Connection, id: &str) -> Option<Offset> {
        find(connection, hash(TOPIC, "/a", id), TOPIC, "/a", id).unwrap()
    }

    /// A topic as it should be: its ids and where they are, and the next offset.
    type Model = (BTreeMap<String, u64>, u64);

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn an_id_is_found_as_long_as_its_event_is_there(steps in prop::collection::vec(step(), 1..80)) {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("dunlin.db");
            std::fs::write(&file, "").unwrap();
            let mut connection = open(&file);
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            let (mut model, mut committed) = (Model::default(), Model::default());
            for step in steps {
                match step {
                    Step::Append(ids) => for id in ids {
                        let id = id.to_string();
                        prop_assert_eq!(found(&connection, &id), model.0.get(&id).copied());
                        if !model.0.contains_key(&id) {
                            insert(&connection, model.1, &id);
                            add(&connection, hash(TOPIC, "/a", &id)).unwrap();
                            model.0.insert(id, model.1);
                            model.1 += 1;
                        }
                    },
                    Step::Drop(count) => {
                        let first = model.0.values().min().map_or(model.1, |first| (first + count).min(model.1));
                        forget(&connection, TOPIC, first).unwrap();
                        connection.execute("DELETE FROM events WHERE offset < ?1", [int(first)]).unwrap();
                        unsettle(&connection).unwrap();
                        model.0.retain(|_, offset| *offset >= first);
                    }
                    Step::Settle => drop(settle(&connection).unwrap()),
                    Step::RollBack => {
                        connection.execute_batch("ROLLBACK; BEGIN IMMEDIATE").unwrap();
                        model = committed.clone();
                    }
                    Step::Commit => {
                        connection.execute_batch("COMMIT; BEGIN IMMEDIATE").unwrap();
                        committed = model.clone();
                    }
                    Step::Reopen => {
                        drop(connection);
                        connection = open(&file);
                        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                        model = committed.clone();
                    }
                }
            }
            for id in 0..=u8::MAX {
                let id = id.to_string();
                prop_assert_eq!(found(&connection, &id), model.0.get(&id).copied(), "{}", id);
            }
            // What is dropped leaves nothing behind.
            let left = "SELECT (SELECT count(*) FROM event_ids WHERE seq NOT IN (SELECT seq FROM recent_ids))
                             + (SELECT count(*) FROM recent_ids)";
            let left: usize = connection.query_row(left, [], |row| row.get(0)).unwrap();
            prop_assert_eq!(left, model.0.len());
        }
    }

    /// SQLite plans some statements anew for each value, which takes longer than all the rest.
    #[test]
    fn no_statement_is_planned_twice() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dunlin.db");
        std::fs::write(&file, "").unwrap();
        let connection = open(&file);
        for offset in 0..10 {
            assert_eq!(found(&connection, &offset.to_string()), None);
            insert(&connection, offset, &offset.to_string());
            add(&connection, hash(TOPIC, "/a", &offset.to_string())).unwrap();
            assert_eq!(found(&connection, &offset.to_string()), Some(offset));
        }
        for sql in [RECENT_OF, SETTLED_OF, EVENT] {
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
