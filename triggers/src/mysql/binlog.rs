//! The server's binary log as a stream of entries: where transactions begin and end, which tables they touch, and the rows.
//!
//! The library asks for the log and cuts it into events. What the events mean is read here: half of those of MariaDB have
//! numbers the library does not know, and the rows' values are this crate's business anyway.

use crate::database::Row;

use super::{
    schema::{Column, TableMap},
    session::{Session, SessionError},
    value::{Wire, of_row, skip},
    wire::{Malformed, Reader},
};
use dunlin_events::manifest::{Operation, TableName};
use flate2::read::ZlibDecoder;
use futures_util::{FutureExt as _, StreamExt as _};
use mysql_async::{BinlogStream, BinlogStreamRequest, Error, prelude::Queryable as _};
use serde::{Deserialize, Serialize};
use std::{fmt, io::Read as _, time::Duration};

/// How often a server with nothing to say says so.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A server that says nothing for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// A place in the log: between two events of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) file: String,
    pub(super) at: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.at)
    }
}

impl Position {
    /// The number of the file: they are numbered for ever, in the order they were written.
    fn number(&self) -> Option<u64> {
        self.file.rsplit_once('.').and_then(|(_, number)| number.parse().ok())
    }

    /// Whether it is as far as another.
    pub(super) fn reaches(&self, other: &Self) -> bool {
        (self.number(), self.at) >= (other.number(), other.at)
    }
}

/// What the log has to tell.
#[derive(Debug)]
pub(super) enum Entry {
    /// A transaction begins, with its id where the server gives it one. It is one statement, or will be `prepared`.
    Begin {
        id: Option<String>,
        alone: bool,
        prepared: bool,
    },
    /// MySQL only: the transaction that has begun is more than one statement after all.
    Open {
        prepared: bool,
    },
    /// A statement that was logged as text, and the database it was made in.
    Statement {
        schema: String,
        text: String,
    },
    Table(TableMap),
    Rows(Rows),
    /// The transaction is over, and was committed.
    Commit,
    /// The transaction is over and prepared, under this id. What becomes of it is told later.
    Prepared(Vec<u8>),
    /// The server was started again and begins a file; what it was writing before was never committed.
    Restarted,
    /// The server says that it may have lost something.
    Incident,
    /// Nothing happened, or nothing that matters.
    Quiet,
}

/// Rows of one table that one statement changed.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) operation: Operation,
    pub(super) table: u64,
    count: usize,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
    data: Vec<u8>,
}

/// The log from some place on.
pub(super) struct Log {
    stream: BinlogStream,
    mariadb: bool,
    /// After the last entry.
    pub(super) position: Position,
    /// Where the last entry begins.
    pub(super) start: Position,
    /// When the last entry was written, in seconds since 1970.
    pub(super) written: u64,
}

/// Why the log ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum LogError {
    #[error(transparent)]
    Session(#[from] SessionError),
    /// With what the server says.
    #[error("the server no longer has the log from there: {0}")]
    Gone(String),
    #[error("the server has ended the connection")]
    Ended,
    #[error("the log can't be read at `{at}`: {what}")]
    Malformed { at: Position, what: Malformed },
}

impl From<Error> for LogError {
    fn from(error: Error) -> Self {
        Self::Session(SessionError::Server(error))
    }
}

impl Log {
    /// Asks for the log from a position on.
    pub(super) async fn open(mut session: Session, server_id: u32, from: Position) -> Result<Self, LogError> {
        let heartbeat = HEARTBEAT.as_nanos();
        // Without the capability MariaDB hides from a replica what it takes to be too new for it.
        session
            .connection
            .query_drop(format!("SET @master_heartbeat_period = {heartbeat}, @mariadb_slave_capability = 4"))
            .await?;
        let mariadb = session.mariadb;
        let file = from.file.clone();
        let request = BinlogStreamRequest::new(server_id).with_filename(file.as_bytes()).with_pos(from.at);
        let stream = session.connection.get_binlog_stream(request).await?;
        Ok(Self { stream, mariadb, start: from.clone(), position: from, written: 0 })
    }

    /// The next entry, if it is there already.
    pub(super) fn ready(&mut self) -> Option<Result<Entry, LogError>> {
        let event = self.stream.next().now_or_never()?;
        Some(self.read(event))
    }

    /// Waits for the next entry. A server that is alive makes it wait no longer than [`SILENCE`].
    pub(super) async fn next(&mut self) -> Result<Entry, LogError> {
        let event = tokio::time::timeout(SILENCE, self.stream.next()).await.map_err(|_| LogError::Ended)?;
        self.read(event)
    }

    fn read(&mut self, event: Option<Result<mysql_async::binlog::events::Event, Error>>) -> Result<Entry, LogError> {
        let event = match event {
            Some(Ok(event)) => event,
            // 1236: the log can't be read from there. A replica of the same number that came later ends this one with it too.
            Some(Err(Error::Server(error))) if error.code == 1236 && !error.message.contains("same server_") => {
                return Err(LogError::Gone(error.message));
            }
            Some(Err(Error::Server(error))) => return Err(Error::Server(error).into()),
            Some(Err(_)) | None => return Err(LogError::Ended),
        };
        let header = event.header();
        let kind = header.event_type_raw();
        // What the server makes up for a replica is in no file. Its events have no end, or the flag of an artificial one.
        let artificial = header.log_pos() == 0 || header.flags_raw() & 0x20 != 0;
        if !artificial && kind != HEARTBEAT_EVENT {
            let end = u64::from(header.log_pos());
            let file = self.position.file.clone();
            self.start = Position { file: file.clone(), at: end.saturating_sub(u64::from(header.event_size())) };
            self.position = Position { file, at: end };
            self.written = u64::from(header.timestamp());
        }
        let at = self.start.clone();
        self.entry(kind, header.server_id(), artificial, event.data()).map_err(|what| LogError::Malformed { at, what })
    }

    fn entry(&mut self, kind: u8, server: u32, artificial: bool, data: &[u8]) -> Result<Entry, Malformed> {
        let mut reader = Reader(data);
        Ok(match kind {
            // QUERY_EVENT, and MariaDB's compressed one.
            2 | 165 => {
                reader.take(8)?;
                let schema = reader.size(1)?;
                reader.take(2)?;
                let status = reader.size(2)?;
                reader.take(status)?;
                let schema = String::from_utf8_lossy(reader.take(schema)?).into_owned();
                reader.byte()?;
                let text = if kind == 165 { inflated(reader)? } else { reader.0.to_vec() };
                statement(schema, String::from_utf8_lossy(&text).into_owned())
            }
            // ROTATE_EVENT: another file goes on from here.
            4 => {
                let at = reader.little(8)?;
                // The first one comes before it is known that events end with a checksum, and is of the file asked for.
                let rest = reader.0.strip_prefix(self.position.file.as_bytes());
                let name = match rest {
                    Some(rest) if artificial && rest.len() == 4 => self.position.file.clone(),
                    _ => String::from_utf8_lossy(reader.0).into_owned(),
                };
                self.position = Position { file: name, at };
                self.start = self.position.clone();
                Entry::Quiet
            }
            // FORMAT_DESCRIPTION_EVENT: it has the time at which the server was started, where it was.
            15 => match Reader(data.get(52..).unwrap_or_default()).little(4) {
                Ok(started) if started != 0 && !artificial => Entry::Restarted,
                _ => Entry::Quiet,
            },
            16 => Entry::Commit,
            19 => Entry::Table(TableMap::read(data, self.mariadb)?),
            23..=25 | 30..=32 | 39 | 166..=171 => Entry::Rows(Rows::read(kind, reader)?),
            26 => Entry::Incident,
            // GTID_LOG_EVENT of MySQL, and the one of a server without them.
            33 => {
                reader.byte()?;
                let server = hex::encode(reader.take(16)?);
                let number = reader.little(8)?;
                let parts = [&server[..8], &server[8..12], &server[12..16], &server[16..20], &server[20..]];
                Entry::Begin { id: Some(format!("{}:{number}", parts.join("-"))), alone: true, prepared: false }
            }
            34 => Entry::Begin { id: None, alone: true, prepared: false },
            // XA_PREPARE_LOG_EVENT: also the end of a transaction that is committed in one phase.
            38 => match reader.byte()? {
                0 => {
                    let format = reader.take(4)?;
                    let (global, branch) = (reader.size(4)?, reader.size(4)?);
                    Entry::Prepared([format, reader.take(global + branch)?].concat())
                }
                _ => Entry::Commit,
            },
            // GTID_EVENT of MariaDB.
            162 => {
                let (number, domain, flags) = (reader.little(8)?, reader.little(4)?, reader.byte()?);
                Entry::Begin {
                    id: Some(format!("{domain}-{server}-{number}")),
                    alone: flags & 1 != 0,
                    prepared: flags & 0x40 != 0,
                }
            }
            _ => Entry::Quiet,
        })
    }
}

const HEARTBEAT_EVENT: u8 = 27;

fn statement(schema: String, text: String) -> Entry {
    match text.as_str() {
        "BEGIN" => Entry::Open { prepared: false },
        _ if text.starts_with("XA START") => Entry::Open { prepared: true },
        "COMMIT" => Entry::Commit,
        _ => Entry::Statement { schema, text },
    }
}

/// What MariaDB has compressed: a byte that says how long the length is, the length, and a zlib stream.
fn inflated(mut reader: Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let header = reader.byte()?;
    if header & 0xf0 != 0x80 {
        return Err(Malformed("an event is compressed in a way that isn't known".into()));
    }
    let length = reader.big(usize::from(header & 7))?;
    let mut data = Vec::new();
    ZlibDecoder::new(reader.0)
        .take(length)
        .read_to_end(&mut data)
        .map_err(|error| Malformed(format!("an event can't be decompressed: {error}")))?;
    Ok(data)
}

impl Rows {
    fn read(kind: u8, mut reader: Reader<'_>) -> Result<Self, Malformed> {
        // Version 1, which MariaDB writes, version 2, and what MariaDB has compressed of both.
        let (operation, second) = match kind {
            23 | 166 => (Operation::Insert, false),
            24 | 167 => (Operation::Update, false),
            25 | 168 => (Operation::Delete, false),
            30 | 169 => (Operation::Insert, true),
            31 | 170 => (Operation::Update, true),
            32 | 171 => (Operation::Delete, true),
            _ => {
                return Err(Malformed(
                    "it has JSON values in part only: set `binlog_row_value_options = ''`, and take a new snapshot"
                        .into(),
                ));
            }
        };
        let table = reader.little(6)?;
        reader.take(2)?;
        if second {
            let extra = reader.size(2)?;
            reader.take(extra.saturating_sub(2))?;
        }
        let count = reader.length()?;
        let mut bitmap = || reader.take(count.div_ceil(8)).map(<[u8]>::to_vec);
        let before = if operation == Operation::Insert { None } else { Some(bitmap()?) };
        let after = if operation == Operation::Delete { None } else { Some(bitmap()?) };
        let data = if kind >= 166 { inflated(reader)? } else { reader.0.to_vec() };
        Ok(Self { operation, table, count, before, after, data })
    }

    /// The rows, each as it was and as it is, with those of its columns that are `wanted`, by their places.
    pub(super) fn images(
        &self,
        wires: &[Wire],
        columns: &[Column],
        wanted: &[bool],
    ) -> Result<Vec<[Option<Row>; 2]>, Malformed> {
        if self.count != wires.len() || self.count != columns.len() {
            return Err(Malformed("its rows have not the columns their table has".into()));
        }
        let mut reader = Reader(&self.data);
        let mut rows = Vec::new();
        while !reader.is_empty() {
            let mut image = |there: &Option<Vec<u8>>| {
                let there = there.as_ref();
                there.map(|there| image(there, wires, columns, wanted, &mut reader)).transpose()
            };
            rows.push([image(&self.before)?, image(&self.after)?]);
        }
        Ok(rows)
    }
}

fn image(
    there: &[u8],
    wires: &[Wire],
    columns: &[Column],
    wanted: &[bool],
    reader: &mut Reader<'_>,
) -> Result<Row, Malformed> {
    let bit = |bits: &[u8], index: usize| bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1);
    let present: Vec<_> = (0..wires.len()).filter(|index| bit(there, *index)).collect();
    let nulls = reader.take(present.len().div_ceil(8))?;
    let mut row = Vec::with_capacity(present.len());
    for (place, index) in present.into_iter().enumerate() {
        let (is_null, column) = (bit(nulls, place), &columns[index]);
        if wanted[index] {
            let mut json = String::new();
            if is_null {
                json.push_str("null");
            } else {
                of_row(wires[index], column, reader, &mut json)?;
            }
            row.push((column.name.clone(), json));
        } else if !is_null {
            skip(wires[index], reader)?;
        }
    }
    Ok(Row(row))
}

/// What a statement does to tables, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// It empties a table.
    Truncate(TableName),
    /// It defines tables anew.
    Define,
    /// It changes rows, and the log has not which.
    Change,
    /// It ends a prepared transaction, of which it commits or undoes what was done.
    EndPrepared {
        id: Vec<u8>,
        commit: bool,
    },
    /// It undoes the transaction.
    Rollback,
    Other,
}

impl Statement {
    pub(super) fn read(schema: &str, text: &str) -> Self {
        let mut words = Words(text);
        let first = words.next().unwrap_or_default().to_ascii_uppercase();
        match first.as_str() {
            "TRUNCATE" => {
                let mut name = words.next();
                if name.as_deref().is_some_and(|word| word.eq_ignore_ascii_case("table")) {
                    name = words.next();
                }
                let Some(name) = name else { return Self::Other };
                let (schema, name) = match words.next().as_deref() {
                    Some(".") => (name, words.next().unwrap_or_default()),
                    _ => (schema.to_owned(), name),
                };
                Self::Truncate(TableName { schema, name })
            }
            "CREATE" | "DROP" if words.next().is_some_and(|word| word.eq_ignore_ascii_case("temporary")) => Self::Other,
            "ALTER" | "RENAME" | "CREATE" | "DROP" => Self::Define,
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" => Self::Change,
            "ROLLBACK" if words.next().is_none() => Self::Rollback,
            "XA" => {
                let commit = match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                    "COMMIT" => true,
                    "ROLLBACK" => false,
                    _ => return Self::Other,
                };
                // `XA COMMIT X'676c6f62616c',X'6272616e6368',1`
                let parts: Vec<_> = text.split('\'').collect();
                let (Some(global), Some(branch)) = (parts.get(1), parts.get(3)) else { return Self::Other };
                let format =
                    parts.get(4).and_then(|rest| rest.trim_start_matches(',').trim().parse().ok()).unwrap_or(1_u32);
                let part = |text: &str| hex::decode(text).unwrap_or_default();
                Self::EndPrepared { id: [format.to_le_bytes().to_vec(), part(global), part(branch)].concat(), commit }
            }
            _ => Self::Other,
        }
    }
}

/// The words of a statement, without comments; names without their quotes.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            self.0 = self.0.trim_start();
            let line = self.0.starts_with("-- ") || self.0.starts_with('#');
            if line {
                self.0 = self.0.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.0.strip_prefix("/*") {
                // `/*! ... */` and `/*M! ... */` are not comments to the server: their text counts.
                let text = comment.strip_prefix('M').unwrap_or(comment).strip_prefix('!');
                self.0 = match text {
                    Some(text) => text.trim_start_matches(|c: char| c.is_ascii_digit()),
                    None => comment.split_once("*/").map_or("", |(_, rest)| rest),
                };
            } else if let Some(rest) = self.0.strip_prefix("*/") {
                self.0 = rest;
            } else {
                break;
            }
        }
        let first = self.0.chars().next()?;
        if matches!(first, '`' | '"') {
            let mut name = String::new();
            let mut rest = &self.0[1..];
            while let Some(end) = rest.find(first) {
                name += &rest[..end];
                rest = &rest[end + 1..];
                let Some(more) = rest.strip_prefix(first) else { break };
                name.push(first);
                rest = more;
            }
            self.0 = rest;
            return Some(name);
        }
        let end = self.0.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(self.0.len());
        let end = if end == 0 { first.len_utf8() } else { end };
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_say_what_they_do_to_tables() {
        let table = |schema: &str, name: &str| TableName { schema: schema.into(), name: name.into() };
        for (text, expected) in [
            ("TRUNCATE t", Statement::Truncate(table("shop", "t"))),
            ("truncate /* why */ table `o``dd`.`t.1` -- so", Statement::Truncate(table("o`dd", "t.1"))),
            ("/*!50100 TRUNCATE TABLE */ other . t", Statement::Truncate(table("other", "t"))),
            ("# a\nALTER TABLE t ADD x INT", Statement::Define),
            ("CREATE OR REPLACE TABLE t (a INT)", Statement::Define),
            ("DROP TEMPORARY TABLE IF EXISTS t", Statement::Other),
            ("INSERT INTO t VALUES ('TRUNCATE t')", Statement::Change),
            ("ROLLBACK", Statement::Rollback),
            ("ROLLBACK TO `s`", Statement::Other),
            ("XA COMMIT X'6f',X'',1", Statement::EndPrepared { id: vec![1, 0, 0, 0, b'o'], commit: true }),
            ("XA ROLLBACK X'6f',X'62',7", Statement::EndPrepared { id: vec![7, 0, 0, 0, b'o', b'b'], commit: false }),
            ("", Statement::Other),
        ] {
            assert_eq!(Statement::read("shop", text), expected, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_event_are_told_and_panic_nowhere() {
        let table =
            TableMap::read(&[1, 0, 0, 0, 0, 0, 0, 0, 1, b's', 0, 1, b't', 0, 3, 3, 246, 15, 4, 10, 2, 40, 0, 0], true)
                .unwrap();
        let mut seed = 1_u64;
        let columns: Vec<_> = ["a", "b", "c"]
            .map(|name| Column { name: name.into(), unsigned: false, kind: super::super::schema::Kind::Bytes })
            .into();
        for length in 0..2_000 {
            let bytes: Vec<u8> = (0..length % 60)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                })
                .collect();
            let _ = TableMap::read(&bytes, length % 2 == 0);
            for kind in [23, 24, 25, 30, 31, 32, 166, 170] {
                if let Ok(rows) = Rows::read(kind, Reader(&bytes)) {
                    let _ = rows.images(&table.wires, &columns, &[true, false, true]);
                }
            }
            let mut rows = vec![1, 0, 0, 0, 0, 0, 0, 0, 3, 7];
            rows.extend(&bytes);
            let _ = Rows::read(23, Reader(&rows)).and_then(|rows| rows.images(&table.wires, &columns, &[true; 3]));
        }
    }
}
