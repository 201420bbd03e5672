//! What is in `dunlin.db`, and how a connection to it is set up.
//!
//! The file says itself what it is: `application_id` that it is ours, `user_version` how many of the migrations below it
//! has seen. A migration that was released never changes; a change to the schema is a new one at the end. They all run in
//! one transaction, so a file is of one version or of another, never between.

use crate::{OpenError, explain};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::{path::Path, time::Duration};

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
    migrate(&mut connection).map_err(unavailable)?;
    Ok(connection)
}

/// Opens the file for reading. The writer has it open, so it is there and up to date.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    connect(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn connect(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // A connection is used by one thread at a time, so SQLite's own mutex is not needed.
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // People look into the file with other tools, which may hold a lock for a moment.
    connection.busy_timeout(Duration::from_secs(5))?;
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
    // One large deploy must not leave a log of its size behind for ever.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
    // Readers go on while the writer writes.
    connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
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
