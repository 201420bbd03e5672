//! The rows that are there already, each as an event.
//!
//! All of a snapshot's rows are as they were at one place of the log, and what the log has from there on follows. A snapshot
//! that breaks off goes on at a later place, behind the row it came to: the changes up to there are taken first. A row's id
//! is that of its key, so a row that is read twice counts once.

use super::{
    Begun, Mysql,
    binlog::Position,
    feed::Feed,
    schema::{Column, Kind, Table},
    session::{Session, SessionError},
    value::of_answer,
};
use crate::database::{self, BATCH, BATCH_BYTES, Change, Moment, Row};
use dunlin_events::{
    manifest::TableName,
    source::{Intake, Report, SourceError},
};
use futures_util::StreamExt as _;
use mysql_async::{Row as Answers, Value, prelude::Queryable as _};
use sha2::{Digest as _, Sha256};
use std::{mem, time::SystemTime};

/// How long a server waits for somebody who reads an answer slowly: as slowly as a full log takes events.
const PATIENCE: &str = "SET SESSION net_write_timeout = 86400, SESSION wait_timeout = 86400";
/// The longest key that is part of an id as it is.
const LONGEST_KEY: usize = 256;

/// A view of all tables at one moment.
pub(super) struct View {
    session: Session,
    pub(super) position: Position,
}

impl View {
    /// Opens one. `tables` are those that will be read.
    pub(super) async fn open(mut session: Session, tables: &[TableName]) -> Result<Self, SessionError> {
        session.connection.query_drop(PATIENCE).await?;
        session.connection.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
        if session.mariadb {
            session.connection.query_drop(begin).await?;
            // Nothing is locked: the server knows at which place of the log its snapshot is.
            let place: Vec<(String, String)> =
                session.connection.query("SHOW SESSION STATUS LIKE 'binlog_snapshot_%'").await?;
            let value =
                |name: &str| place.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            let at = value("binlog_snapshot_position").and_then(|at| at.parse().ok());
            let file = value("binlog_snapshot_file").filter(|file| !file.is_empty());
            let (Some(file), Some(at)) = (file, at) else {
                return Err(SessionError::Refused("it does not tell where in its log a snapshot is".into()));
            };
            let position = Position { file: file.clone(), at };
            return Ok(Self { session, position });
        }
        // MySQL does not know. Nobody writes to these tables for as long as it takes to ask.
        let mut locks = session.again().await?;
        let locked: Vec<_> = tables.iter().map(|table| format!("{} READ", name(table))).collect();
        locks.connection.query_drop(format!("LOCK TABLES {}", locked.join(", "))).await?;
        session.connection.query_drop(begin).await?;
        let position = session.position().await?;
        locks.connection.query_drop("UNLOCK TABLES").await?;
        Ok(Self { session, position })
    }
}

impl Mysql {
    /// Takes the rows of a table, from where an earlier attempt came to.
    pub(super) async fn take_table(
        &self,
        view: &mut View,
        feed: &mut Feed<'_>,
        table: &TableName,
        intake: &dyn Intake,
    ) -> Result<(), SourceError> {
        let told = |error: SessionError| error.told(&self.trigger).1;
        let position = view.position.clone();
        let Some(described) = Table::read(&mut view.session, table).await.map_err(told)? else {
            return Err(
                SourceError::new(format!("the table `{table}` is not there")).help("take it out of the manifest")
            );
        };
        let begun = match feed.memory.begun.take().filter(|begun| begun.table == *table && begun.key == described.key) {
            Some(begun) => begun,
            None => Begun { table: table.clone(), id: started(), key: described.key.clone(), after: None },
        };
        let chosen = self.columns(table);
        let columns: Vec<&Column> = described
            .columns
            .iter()
            .filter(|column| {
                chosen.as_ref().is_none_or(|chosen| chosen.contains(&column.name))
                    || described.key.contains(&column.name)
            })
            .collect();
        let places: Vec<_> =
            described.key.iter().filter_map(|key| columns.iter().position(|column| column.name == *key)).collect();
        let query = query(table, &columns, &described.key, begun.after.as_deref());
        let moment = Moment { id: None, position: ("binlog", position.to_string()), time: None };

        feed.memory.begun = Some(begun.clone());
        let mut taken = 0_u64;
        let (mut events, mut bytes, mut last) = (Vec::new(), 0, None);
        let connection = &mut view.session.connection;
        // As statements that were prepared are answered: text would have lost digits of floats.
        let mut rows = connection
            .exec_stream::<Answers, _, _>(query, ())
            .await
            .map_err(|error| told(SessionError::Server(error)))?;
        loop {
            let answers = rows.next().await.transpose().map_err(|error| told(SessionError::Server(error)))?;
            if answers.is_none() || events.len() >= BATCH || bytes >= BATCH_BYTES {
                let memory = &mut feed.memory;
                if answers.is_none() {
                    memory.begun = None;
                    memory.done.retain(|done| done != table);
                    memory.done.push(table.clone());
                } else if let (Some(begun), Some(after)) = (&mut memory.begun, last.take()) {
                    begun.after = after;
                }
                bytes = 0;
                self.take(intake, mem::take(&mut events), &feed.memory).await?;
                intake.report(Report::Detail("snapshot", format!("{table}: {taken} rows").into()));
            }
            let Some(answers) = answers else { return Ok(()) };
            let values = answers.unwrap();
            last = Some(literals(&places, &columns, &values));
            let mut row = Vec::with_capacity(columns.len());
            for (column, value) in columns.iter().zip(values) {
                let mut json = String::new();
                of_answer(value, column, &mut json)
                    .map_err(|what| SourceError::new(format!("a row of `{table}` can't be read: {what}")))?;
                row.push((column.name.clone(), json));
            }
            let key = Row(places.iter().map(|place| row[*place].clone()).collect());
            row.retain(|(name, _)| chosen.as_ref().is_none_or(|chosen| chosen.contains(name)));
            let change = Change {
                operation: None,
                table: table.clone(),
                key: Some(key).filter(|key| !key.0.is_empty()),
                before: None,
                after: Some(Row(row)),
                unchanged: Vec::new(),
            };
            bytes += change.size();
            let id = id(&begun.id, &change, taken);
            events.push(database::event(&self.trigger, &self.place, intake, id, &change, &moment, taken)?);
            taken += 1;
        }
    }
}

/// What tells one snapshot of a table from another of it.
fn started() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}", now.as_millis())
}

/// The id of a row: it stays the same when the snapshot is taken up again.
fn id(snapshot: &str, change: &Change, index: u64) -> String {
    let table = &change.table;
    let Some(Row(key)) = &change.key else { return format!("snapshot-{snapshot}:{table}:{index}") };
    let values: Vec<_> = key.iter().map(|(_, value)| &**value).collect();
    let mut values = values.join(",");
    if values.len() > LONGEST_KEY {
        values = hex::encode(Sha256::digest(values));
    }
    format!("snapshot-{snapshot}:{table}:{values}")
}

fn query(table: &TableName, columns: &[&Column], key: &[String], after: Option<&[String]>) -> String {
    let list = |names: &mut dyn Iterator<Item = &String>| names.map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let mut query = format!("SELECT {} FROM {}", list(&mut columns.iter().map(|column| &column.name)), name(table));
    if let Some(after) = after {
        // (a, b) > (1, 2), as the server finds it by an index.
        let behind: Vec<_> = (0..key.len())
            .map(|last| {
                let parts: Vec<_> = key[..=last]
                    .iter()
                    .zip(after)
                    .enumerate()
                    .map(|(index, (column, value))| {
                        format!("{} {} {value}", quoted(column), if index == last { ">" } else { "=" })
                    })
                    .collect();
                format!("({})", parts.join(" AND "))
            })
            .collect();
        query += &format!(" WHERE {}", behind.join(" OR "));
    }
    if !key.is_empty() {
        query += &format!(" ORDER BY {}", list(&mut key.iter()));
    }
    query
}

pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

pub(super) fn name(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.name))
}

/// A key in SQL. `None` where SQL does not compare such values as it orders them.
fn literals(places: &[usize], columns: &[&Column], values: &[Value]) -> Option<Vec<String>> {
    if places.is_empty() {
        return None;
    }
    let literal = |place: &usize| {
        let (column, value) = (columns.get(*place)?, values.get(*place)?);
        Some(match (&column.kind, value) {
            (Kind::Int | Kind::Year, Value::Int(number)) => number.to_string(),
            (Kind::Int | Kind::Year, Value::UInt(number)) => number.to_string(),
            (Kind::Decimal, Value::Bytes(digits)) => String::from_utf8(digits.clone()).ok()?,
            (Kind::Text(_), Value::Bytes(text)) => format!("_utf8mb4 x'{}'", hex::encode(text)),
            (Kind::Bytes, Value::Bytes(bytes)) => format!("x'{}'", hex::encode(bytes)),
            (Kind::Uuid | Kind::Inet4 | Kind::Inet6, Value::Bytes(text)) => {
                format!("'{}'", String::from_utf8(text.clone()).ok()?)
            }
            (Kind::Date | Kind::DateTime { .. } | Kind::Timestamp { .. }, Value::Date(..)) => value.as_sql(false),
            (Kind::Time { .. }, Value::Time(..)) => value.as_sql(false),
            _ => return None,
        })
    };
    places.iter().map(literal).collect()
}
