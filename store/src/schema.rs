//! What is in `dunlin.db`, and how a connection to it is set up.
//!
//! The file says itself what it is: `application_id` that it is ours, `user_version` how many of the migrations below it
//! has seen. A migration that was released never changes; a change to the schema is a new one at the end. They all run in
//! one transaction, so a file is of one version or of another, never between.

use crate::{OpenError, checkpoint::BUSY, explain};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    fs::OpenOptions,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
};

/// `DUNL` in ASCII.
const APPLICATION_ID: i64 = 0x44_55_4E_4C;

/// The migrations; the first makes version 1 of an empty file.
const MIGRATIONS: &[&str] = &[
    // 1: the registry.
    "CREATE TABLE components (
        id       INTEGER PRIMARY KEY,
        digest   TEXT NOT NULL UNIQUE,           -- sha256:<64 hex digits>
        info     TEXT NOT NULL,                  -- dunlin_events::Component as JSON
        bytes    BLOB NOT NULL                   -- the last column: what reads the others never touches its pages
    ) STRICT;

    CREATE TABLE versions (
        function    TEXT NOT NULL,
        number      INTEGER NOT NULL,            -- from 1, never used twice while the function exists
        component   INTEGER NOT NULL REFERENCES components (id),
        deployed_at INTEGER NOT NULL,            -- milliseconds since the Unix epoch
        manifest    TEXT NOT NULL,               -- dunlin_events::Manifest as JSON
        PRIMARY KEY (function, number)
    ) STRICT;
    CREATE INDEX versions_by_component ON versions (component);

    CREATE TABLE functions (
        name     TEXT PRIMARY KEY,
        active   INTEGER NOT NULL,
        FOREIGN KEY (name, active) REFERENCES versions (function, number)
    ) STRICT, WITHOUT ROWID;",
    // 2: topics, consumers and state.
    //
    // `events` and its indexes are made for appending. A row goes behind the last one (`seq`), and so does its entry in
    // `events_by_offset`, as long as one topic is written; ids that count up per source keep their entries in `events_by_id`
    // together, where random ones touch a page each. No foreign key from an event to its topic: a lookup for each event,
    // when nothing but a program's error could break it.
    "CREATE TABLE topics (
        id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice: events of a removed topic go little by little
        name        TEXT UNIQUE,                 -- NULL once it is removed, until its last event is gone
        created_at  INTEGER NOT NULL,            -- milliseconds since the Unix epoch, as all times here
        first       INTEGER NOT NULL DEFAULT 0,  -- offset of the oldest event kept
        end         INTEGER NOT NULL DEFAULT 0,  -- offset of the next event
        written     INTEGER NOT NULL DEFAULT 0,  -- bytes of all events it ever had
        trimmed     INTEGER NOT NULL DEFAULT 0,  -- of these, bytes of those that are gone
        appended_at INTEGER NOT NULL DEFAULT 0,  -- of the newest event
        retention   TEXT NOT NULL DEFAULT '{}'   -- dunlin_events::topics::Retention as JSON
    ) STRICT;

    CREATE TABLE events (
        seq         INTEGER PRIMARY KEY,
        topic       INTEGER NOT NULL,            -- topics.id
        offset      INTEGER NOT NULL,
        appended_at INTEGER NOT NULL,            -- never less than that of the offset before
        behind      INTEGER NOT NULL,            -- bytes of all events of the topic before this one
        source      TEXT NOT NULL,
        id          TEXT NOT NULL,
        event       TEXT NOT NULL                -- the whole event in the JSON format of CloudEvents; the last column
    ) STRICT;
    CREATE UNIQUE INDEX events_by_offset ON events (topic, offset);
    CREATE UNIQUE INDEX events_by_id ON events (topic, source, id);

    -- For people: what is in the file, for any SQLite tool.
    CREATE VIEW event_history AS
        SELECT t.name AS topic, e.offset, e.appended_at, e.id, e.source, e.event ->> '$.type' AS type,
               e.event ->> '$.subject' AS subject, e.event ->> '$.time' AS time, e.event
        FROM events e JOIN topics t ON t.id = e.topic WHERE t.name IS NOT NULL;

    CREATE TABLE consumers (
        id       INTEGER PRIMARY KEY,
        function TEXT NOT NULL,
        topic    INTEGER NOT NULL REFERENCES topics (id),
        position INTEGER NOT NULL,               -- every offset before it is settled
        ahead    TEXT NOT NULL DEFAULT '[]',     -- settled beyond it: [[from, to], ...] as JSON, `to` not included
        UNIQUE (function, topic)
    ) STRICT;
    CREATE INDEX consumers_by_topic ON consumers (topic);

    CREATE TABLE parked (
        consumer  INTEGER NOT NULL REFERENCES consumers (id) ON DELETE CASCADE,
        offset    INTEGER NOT NULL,
        head      INTEGER NOT NULL,              -- 1: the first of its key, or without a key
        key       TEXT,
        attempts  INTEGER NOT NULL,
        due       INTEGER,
        failed_at INTEGER,
        error     TEXT NOT NULL,
        event     TEXT                           -- where the topic doesn't hold it (any more)
    ) STRICT;
    CREATE UNIQUE INDEX parked_by_offset ON parked (consumer, offset);
    CREATE INDEX parked_by_key ON parked (consumer, key, offset) WHERE key IS NOT NULL;
    CREATE INDEX parked_by_due ON parked (consumer, due, offset) WHERE head = 1;
    -- What keeps a topic from being trimmed.
    CREATE INDEX parked_in_topic ON parked (consumer, offset) WHERE event IS NULL;

    CREATE TABLE dead_letters (
        number    INTEGER PRIMARY KEY AUTOINCREMENT,
        function  TEXT NOT NULL,
        topic     TEXT NOT NULL,
        topic_id  INTEGER NOT NULL,              -- topics.id: a topic made anew under the name is another one
        offset    INTEGER NOT NULL,
        key       TEXT,
        attempts  INTEGER NOT NULL,
        failed_at INTEGER NOT NULL,
        reason    TEXT NOT NULL,
        error     TEXT NOT NULL,
        event     TEXT NOT NULL
    ) STRICT;
    CREATE INDEX dead_letters_by_consumer ON dead_letters (function, topic);
    CREATE INDEX dead_letters_by_topic ON dead_letters (topic);

    -- With a rowid: overwriting a value, the most frequent change, then leaves the index alone, and large values don't
    -- stand between the keys.
    CREATE TABLE state (
        id       INTEGER PRIMARY KEY,
        bucket   TEXT NOT NULL,                  -- function:NAME or shared:NAME
        key      TEXT NOT NULL,
        revision INTEGER NOT NULL,
        value    BLOB NOT NULL                   -- the last column
    ) STRICT;
    CREATE UNIQUE INDEX state_by_key ON state (bucket, key);

    CREATE TABLE revisions (
        last INTEGER NOT NULL                    -- the last revision given; it only grows
    ) STRICT;
    INSERT INTO revisions VALUES (0);",
    // 3: a consumer that is gone leaves what it parked, which may be much, to be removed little by little.
    //
    // So there is no foreign key any more from what is parked to its consumer. A number in `forgotten` is not given to
    // another consumer.
    "ALTER TABLE parked RENAME TO parked_2;
    CREATE TABLE parked (
        consumer  INTEGER NOT NULL,              -- consumers.id, or one in `forgotten`
        offset    INTEGER NOT NULL,
        head      INTEGER NOT NULL,              -- 1: the first of its key, or without a key
        key       TEXT,
        attempts  INTEGER NOT NULL,
        due       INTEGER,
        failed_at INTEGER,
        error     TEXT NOT NULL,
        event     TEXT                           -- where the topic doesn't hold it (any more)
    ) STRICT;
    INSERT INTO parked SELECT consumer, offset, head, key, attempts, due, failed_at, error, event FROM parked_2;
    DROP TABLE parked_2;
    CREATE UNIQUE INDEX parked_by_offset ON parked (consumer, offset);
    CREATE INDEX parked_by_key ON parked (consumer, key, offset) WHERE key IS NOT NULL;
    CREATE INDEX parked_by_due ON parked (consumer, due, offset) WHERE head = 1;
    -- What keeps a topic from being trimmed.
    CREATE INDEX parked_in_topic ON parked (consumer, offset) WHERE event IS NULL;

    CREATE TABLE forgotten (
        consumer INTEGER PRIMARY KEY             -- has parked events, and is gone
    ) STRICT;
    CREATE TRIGGER consumers_forgotten AFTER DELETE ON consumers
        WHEN EXISTS (SELECT 1 FROM parked WHERE consumer = old.id)
        BEGIN INSERT INTO forgotten VALUES (old.id); END;",
    // 4: what became of one event is asked for often.
    "DROP INDEX dead_letters_by_consumer;
    CREATE INDEX dead_letters_by_consumer ON dead_letters (function, topic, offset);",
    // 5: an offset is never used twice, also when a topic is removed and made again: events are named after it.
    "CREATE TABLE former_topics (
        name TEXT PRIMARY KEY,
        end  INTEGER NOT NULL                    -- where a topic of this name goes on
    ) STRICT, WITHOUT ROWID;",
    // 6: ids are looked up by their hashes, those of the newest events in memory: see `ids`.
    "CREATE TABLE event_ids (
        hash INTEGER NOT NULL,
        seq  INTEGER NOT NULL,                   -- events.seq
        PRIMARY KEY (hash, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE settled_ids (
        seq  INTEGER NOT NULL                    -- every event up to this one is in `event_ids`
    ) STRICT;
    INSERT INTO settled_ids VALUES (0);
    DROP INDEX events_by_id;",
    // 7: hashes on disk are in runs. Those that are there are read from `events` again.
    "DROP TABLE event_ids;
    UPDATE settled_ids SET seq = 0;              -- every event up to this one is in a run
    CREATE TABLE id_runs (
        run    INTEGER PRIMARY KEY,
        above  INTEGER NOT NULL,                 -- its events come after this one (events.seq) ...
        upto   INTEGER NOT NULL,                 -- ... up to this one
        live   INTEGER NOT NULL                  -- how many of them are there still
    ) STRICT;
    CREATE TABLE id_filters (
        run    INTEGER PRIMARY KEY,              -- id_runs.run
        filter BLOB NOT NULL
    ) STRICT;
    CREATE TABLE id_parts (
        id      INTEGER PRIMARY KEY,             -- run * 4096 + part
        entries BLOB NOT NULL                    -- hashes, each with events.seq: 8 bytes each, little-endian
    ) STRICT;",
];

/// Opens the file for writing, and brings it to the newest schema.
pub(crate) fn open(file: &Path) -> Result<Connection, OpenError> {
    let unavailable = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { file: file.to_owned() },
        _ => OpenError::Unavailable(explain(&error, file)),
    };
    let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(unavailable)?;
    // Before anything is written: whose file is it?
    check(&connection, file).unwrap_or_else(|error| Err(unavailable(error)))?;
    if set_up(&connection).map_err(unavailable)? != "wal" {
        return Err(OpenError::Unavailable(format!(
            "the disk that holds `{}` has no shared memory for its readers, as on network shares: choose a data directory on a local disk",
            file.display()
        )));
    }
    keep_log(&mut connection, file)?;
    migrate(&mut connection).map_err(unavailable)?;
    probe(&connection).map_err(unavailable)?;
    Ok(connection)
}

/// Opens the file for checkpoints.
pub(crate) fn open_checkpointer(file: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

/// Opens the file for reading. The writer has it open, so it is there and up to date.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Looks for damage in all of the file.
pub(crate) fn examine(file: &Path) -> Result<(), OpenError> {
    let unavailable = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::Foreign { file: file.to_owned() },
        _ => OpenError::Unavailable(explain(&error, file)),
    };
    let mut connection = connect(file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(unavailable)?;
    check(&connection, file).unwrap_or_else(|error| Err(unavailable(error)))?;
    // When it is closed, SQLite writes the log back.
    keep_log(&mut connection, file)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(unavailable)?;
    match found.as_str() {
        "ok" => Ok(()),
        damage => Err(OpenError::Unavailable(format!("`{}` is damaged ({damage})", file.display()))),
    }
}

fn connect(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // A connection is used by one thread at a time, so SQLite's own mutex is not needed.
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // People look into the file with other tools, which may hold a lock for a moment.
    connection.busy_timeout(BUSY)?;
    // More than there are statements in this crate: none is compiled twice.
    connection.set_prepared_statement_cache_capacity(128);
    // A plan holds for all values: SQLite would look at some again for each.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // A disk that fails under a mapped file is a signal that ends the process; under a read it is an error.
    connection.pragma_update(None, "mmap_size", 0)?;
    Ok(connection)
}

fn check(connection: &Connection, file: &Path) -> rusqlite::Result<Result<(), OpenError>> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = version(connection)?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let new = application == 0 && version == 0 && tables == 0;
    let known = MIGRATIONS.len() as i64;
    Ok(if !new && application != APPLICATION_ID {
        Err(OpenError::Foreign { file: file.to_owned() })
    } else if version > known {
        Err(OpenError::Newer { file: file.to_owned(), found: version, known })
    } else {
        Ok(())
    })
}

/// Answers with the journal mode, which stays what it was where the file system can't do `wal`.
fn set_up(connection: &Connection) -> rusqlite::Result<String> {
    // A commit returns when it is on disk. In WAL mode the weaker NORMAL would lose the last commits with the power.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // One large deploy must not leave a log of its size behind for ever. Below this the file keeps its size, and a commit
    // that only overwrites it costs no change to the file system's tables.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 << 20, |_| Ok(()))?;
    // Not inside a commit: see `checkpoint`.
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
    // 32 MiB: the upper pages of all indexes and the pages being written, for each of some thousand keys that are.
    connection.pragma_update(None, "cache_size", -(32 << 10))?;
    // Readers go on while the writer writes.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
}

/// Writes what a crash left of the log again, as it is, and waits for the disk.
///
/// A commit whose fsync failed was reported as failed, and nobody has seen it; but it is in the log, and after a crash
/// SQLite finds it whole and takes it for committed. That is right: whoever was refused does it again, and what is there
/// twice counts once. But it isn't on disk, nor would it ever be: after a failed fsync Linux has the pages in memory and
/// counts them as written, so no later fsync writes them. Commits that follow it in the log would be lost with it when the
/// power goes. Written again, it is on disk before anything builds on it.
fn keep_log(connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
    let unavailable = |error| OpenError::Unavailable(explain(&error, file));
    // As long as it is held, nobody appends to the log or begins it anew.
    let _writes = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    rewrite(Path::new(&log)).map_err(|error| {
        let log = log.display();
        OpenError::Unavailable(format!("`{log}` can't be read or written ({error}): check the disk"))
    })
}

/// Bytes that are already on disk are written over by the same: also a write that breaks off changes none of them.
fn rewrite(file: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let (mut piece, mut at) = (vec![0; 1 << 20], 0);
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..read], at)?;
        at += read as u64;
    }
}

/// Looks at the ends of every table. Damage elsewhere is met when it is read (a look at every page would take minutes for a
/// large file), but a file that was cut short, or overwritten from its beginning, is not opened to be written to.
fn probe(connection: &Connection) -> rusqlite::Result<()> {
    let mut tables = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        connection.prepare(&format!("SELECT * FROM \"{table}\" LIMIT 1"))?.exists([])?;
    }
    connection.prepare("SELECT * FROM events ORDER BY seq DESC LIMIT 1")?.exists([])?;
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let seen = usize::try_from(version(&transaction)?).expect("it was checked to be a known version");
    if seen == MIGRATIONS.len() {
        return Ok(());
    }
    for migration in &MIGRATIONS[seen..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{self, Ids},
        writer::Tx,
    };

    #[test]
    fn a_file_of_an_older_dunlin_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        for seen in 1..MIGRATIONS.len() {
            let file = dir.path().join(format!("{seen}.db"));
            let old = Connection::open(&file).unwrap();
            MIGRATIONS[..seen].iter().for_each(|migration| old.execute_batch(migration).unwrap());
            old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            old.pragma_update(None, "user_version", seen as i64).unwrap();
            old.execute("INSERT INTO components (digest, info, bytes) VALUES ('sha256:0', '{}', x'00')", []).unwrap();
            if seen >= 2 {
                let parked = "INSERT INTO topics (id, name, created_at) VALUES (1, 'a', 0);
                              INSERT INTO consumers (id, function, topic, position) VALUES (1, 'f', 1, 1);
                              INSERT INTO parked (consumer, offset, head, attempts, error) VALUES (1, 0, 1, 1, '')";
                old.execute_batch(parked).unwrap();
                let event = "INSERT INTO events (topic, offset, appended_at, behind, source, id, event)
                             VALUES (1, 0, 0, 0, '/a', 'x', '{}')";
                old.execute_batch(event).unwrap();
            }
            drop(old);
            let connection = open(&file).unwrap();
            assert_eq!(version(&connection).unwrap(), MIGRATIONS.len() as i64);
            assert!(connection.prepare("SELECT 1 FROM components").unwrap().exists([]).unwrap());
            connection.prepare("SELECT 1 FROM event_history").unwrap();
            assert_eq!(connection.prepare("SELECT 1 FROM parked").unwrap().exists([]).unwrap(), seen >= 2);
            let ids = Ids::open(&connection).unwrap();
            let found = ids::find(&Tx::new(&connection, &ids), ids::hash(1, "/a", "x"), 1, "/a", "x").unwrap();
            assert_eq!(found, (seen >= 2).then_some(0));
        }
    }
}
