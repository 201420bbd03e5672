//! What the databases share: the shape of a change as an event, the outbox, and which tables a snapshot has yet to take.
//! Which database it is follows from the scheme of the url.
//!
//! The one design choice: values are JSON text from the moment they leave a database's own form. An event's data is put
//! together from these texts, so that a number keeps its digits and nothing is parsed twice.

use crate::{mysql, postgres};
use bytes::Bytes;
use dunlin_events::{
    Event, FunctionName,
    event::InvalidEvent,
    manifest::{DatabaseKind, DatabaseTable, DatabaseTrigger, Operation, Outbox, Problem, Snapshot, TableName},
    secrets::{SecretValue, Secrets},
    source::{Intake, Report, Source, SourceError},
    topics::TopicName,
};
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How many events are taken in one commit at most, and about how many bytes.
pub(crate) const BATCH: usize = 1_000;
pub(crate) const BATCH_BYTES: usize = 4 << 20;
/// About how many bytes an event of a whole transaction has before it is continued in another.
pub(crate) const PART_BYTES: usize = 512 * 1024;
/// The longest key that is a partition key as it is. A longer one is its digest.
const LONGEST_KEY: usize = 1_024;

/// The source of a database trigger.
pub(crate) fn open(
    function: &FunctionName,
    trigger: &DatabaseTrigger,
    secrets: Arc<dyn Secrets>,
) -> Option<Box<dyn Source>> {
    match trigger.url.kind {
        DatabaseKind::Postgres => Some(Box::new(postgres::Postgres::new(function, trigger.clone(), secrets))),
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            Some(Box::new(mysql::Mysql::new(function, trigger.clone(), secrets)))
        }
    }
}

/// What can be known of a database trigger at deploy. Pointers are into the trigger.
pub(crate) async fn check(
    function: &FunctionName,
    trigger: &DatabaseTrigger,
    secrets: Arc<dyn Secrets>,
) -> Vec<Problem> {
    match trigger.url.kind {
        DatabaseKind::Postgres => postgres::Postgres::new(function, trigger.clone(), secrets).check().await,
        DatabaseKind::Mysql | DatabaseKind::Mariadb => {
            mysql::Mysql::new(function, trigger.clone(), secrets).check().await
        }
    }
}

/// The password of a trigger, as it is now.
pub(crate) fn password(trigger: &DatabaseTrigger, secrets: &dyn Secrets) -> Result<Option<SecretValue>, SourceError> {
    let known = |name| secrets.get(name).map_err(|error| SourceError::new(error.to_string()));
    trigger.password.as_ref().map(known).transpose()
}

/// Columns and their values, each as JSON text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) Vec<(String, String)>);

impl Row {
    fn write(&self, json: &mut String) {
        json.push('{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            write_string(name, json);
            json.push(':');
            json.push_str(value);
        }
        json.push('}');
    }

    fn value(&self, column: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == column).map(|(_, value)| &**value)
    }

    fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
    }
}

/// One change of a table, or one row of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// `None` for a row of a snapshot.
    pub(crate) operation: Option<Operation>,
    pub(crate) table: TableName,
    /// The values of its primary key, where the table has one.
    pub(crate) key: Option<Row>,
    /// The row as it was, as far as the database tells.
    pub(crate) before: Option<Row>,
    /// The row as it is.
    pub(crate) after: Option<Row>,
    /// Columns of `after` that did not change and whose values the database did not tell.
    pub(crate) unchanged: Vec<String>,
}

/// The transaction a change is part of, or the moment of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The transaction's own number, where it has one.
    pub(crate) id: Option<String>,
    /// Where it is in the database's log, by the name the database has for that: `("lsn", "16/B374D848")`.
    pub(crate) position: (&'static str, String),
    /// When it was committed.
    pub(crate) time: Option<SystemTime>,
}

impl Moment {
    fn write(&self, json: &mut String) {
        json.push('{');
        if let Some(id) = &self.id {
            json.push_str("\"id\":");
            write_string(id, json);
            json.push(',');
        }
        let _ = write!(json, "\"{}\":", self.position.0);
        write_string(&self.position.1, json);
        if let Some(time) = self.time {
            let _ = write!(json, ",\"commit_time\":\"{}\"", rfc3339(time));
        }
        json.push('}');
    }
}

impl Change {
    /// Its name in events: `insert`, or `snapshot`.
    fn operation(&self) -> &'static str {
        self.operation.map_or("snapshot", Operation::as_str)
    }

    /// About how many bytes it has in an event.
    pub(crate) fn size(&self) -> usize {
        [&self.key, &self.before, &self.after].into_iter().flatten().map(Row::size).sum::<usize>() + 128
    }

    /// What runs one after another: the changes of one row; all of a table that has no key.
    pub(crate) fn partition_key(&self) -> String {
        let Some(Row(key)) = &self.key else { return self.table.to_string() };
        let values: Vec<_> = key.iter().map(|(_, value)| text(value)).collect();
        let values = if let [one] = &*values { one.clone() } else { serde_json::Value::from(values).to_string() };
        if values.len() > LONGEST_KEY {
            return format!("{}:{}", self.table, hex::encode(Sha256::digest(values)));
        }
        format!("{}:{values}", self.table)
    }

    fn write(&self, json: &mut String) {
        let _ = write!(json, "{{\"op\":\"{}\",\"table\":", self.operation());
        write_string(&self.table.to_string(), json);
        for (name, row) in [("key", &self.key), ("before", &self.before), ("after", &self.after)] {
            let _ = write!(json, ",\"{name}\":");
            match row {
                Some(row) => row.write(json),
                None => json.push_str("null"),
            }
        }
        if !self.unchanged.is_empty() {
            let _ = write!(json, ",\"unchanged\":{}", serde_json::Value::from(&*self.unchanged));
        }
    }
}

/// An event, and the topic it goes to where that isn't the trigger's.
pub(crate) type Addressed = (Option<TopicName>, Event);

/// The event of one change. `index` is its place in its transaction.
pub(crate) fn change_event(
    source: &str,
    id: String,
    change: &Change,
    moment: &Moment,
    index: u64,
) -> Result<Event, SourceError> {
    let mut json = String::with_capacity(change.size() + 256);
    change.write(&mut json);
    json.push_str(",\"transaction\":");
    moment.write(&mut json);
    let _ = write!(json, ",\"index\":{index}}}");
    let made = || {
        let mut event = Event::new(id, source, format!("dunlin.database.{}", change.operation()))?;
        event.set_subject(change.table.to_string())?;
        event.set_extension("partitionkey", change.partition_key())?;
        finished(event, moment, json)
    };
    made().map_err(|error: InvalidEvent| unfit(&change.table, &error))
}

/// The event of a transaction, or of a part of one: its changes from `first` on.
pub(crate) fn transaction_event(
    source: &str,
    id: String,
    changes: &[Change],
    moment: &Moment,
    first: u64,
    last: bool,
) -> Result<Event, SourceError> {
    let mut json = String::from("{\"transaction\":");
    moment.write(&mut json);
    let _ = write!(json, ",\"first\":{first},\"last\":{last},\"changes\":[");
    for (index, change) in changes.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        change.write(&mut json);
        json.push('}');
    }
    json.push_str("]}");
    let made = || {
        let mut event = Event::new(id, source, "dunlin.database.transaction")?;
        // Transactions touch many rows: only one after another are they in order.
        event.set_extension("partitionkey", source)?;
        finished(event, moment, json)
    };
    made().map_err(|error: InvalidEvent| SourceError::new(format!("a transaction is no event: {error}")))
}

fn finished(mut event: Event, moment: &Moment, json: String) -> Result<Event, InvalidEvent> {
    if let Some(time) = moment.time {
        event.set_time(rfc3339(time))?;
    }
    event.set_data(Some("application/json"), Bytes::from(json))?;
    Ok(event)
}

fn unfit(table: &TableName, error: &InvalidEvent) -> SourceError {
    SourceError::new(format!("a change of `{table}` is no event: {error}"))
}

/// The event of a change: what the row of an outbox says, or what happened to a table.
pub(crate) fn event(
    trigger: &DatabaseTrigger,
    place: &str,
    intake: &dyn Intake,
    id: String,
    change: &Change,
    moment: &Moment,
    index: u64,
) -> Result<Addressed, SourceError> {
    if let (Some(outbox), Some(row)) = (&trigger.outbox, &change.after) {
        let made = outbox_event(outbox, row, place, moment).and_then(|(topic, event)| match topic {
            Some(topic) if !intake.may_publish(&topic) => {
                Err(format!("its topic `{topic}` is not in the manifest's `publish` or `allow.publish`"))
            }
            topic => Ok((topic, event)),
        });
        match made {
            Ok(event) => return Ok(event),
            // It is not passed over, and holds nothing up: the function gets it as what it is.
            Err(reason) => intake.report(Report::Warning(format!(
                "a row of `{}` is no event, and is handed over as the change that it is: {reason}",
                outbox.table
            ))),
        }
    }
    Ok((None, change_event(place, id, change, moment, index)?))
}

/// The event that a row of an outbox is. `place` is what its source begins with, when the row names none. What is wrong is
/// told as a fragment.
pub(crate) fn outbox_event(outbox: &Outbox, row: &Row, place: &str, moment: &Moment) -> Result<Addressed, String> {
    let column = |name: &str| row.value(name).filter(|value| *value != "null").map(text);
    let needed = |name: &str| column(name).ok_or_else(|| format!("its column `{name}` is null or missing"));
    let chosen = |name: &Option<String>| name.as_deref().and_then(column);
    let invalid = |error: InvalidEvent| error.to_string();
    let source = chosen(&outbox.source).unwrap_or_else(|| format!("{place}/{}", outbox.table));
    let mut event = Event::new(needed(&outbox.id)?, source, needed(&outbox.kind)?).map_err(invalid)?;
    if let Some(subject) = chosen(&outbox.subject) {
        event.set_subject(subject).map_err(invalid)?;
    }
    if let Some(key) = chosen(&outbox.key) {
        event.set_extension("partitionkey", key).map_err(invalid)?;
    }
    if let Some(time) = chosen(&outbox.time).or_else(|| moment.time.map(rfc3339)) {
        event.set_time(time).map_err(invalid)?;
    }
    for name in &outbox.extensions {
        if let Some(value) = column(name) {
            event.set_extension(name, value).map_err(invalid)?;
        }
    }
    match row.value(&outbox.data) {
        None => return Err(format!("it has no column `{}`", outbox.data)),
        Some("null") => {}
        Some(value) => {
            // JSON may be kept in a column of text.
            let inner = text(value);
            let structured =
                inner.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(&inner).is_ok();
            let (kind, data) = match value.starts_with('"') {
                true if structured => ("application/json", inner),
                true => ("text/plain", inner),
                false => ("application/json", value.to_owned()),
            };
            event.set_data(Some(kind), Bytes::from(data)).map_err(invalid)?;
        }
    }
    let topic = match chosen(&outbox.topic) {
        None => None,
        Some(topic) => Some(topic.parse().map_err(|error| format!("its topic can't be: {error}"))?),
    };
    Ok((topic, event))
}

/// A value as text: a string without its quotes, all else as JSON has it.
fn text(json: &str) -> String {
    if json.starts_with('"') { serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()) } else { json.to_owned() }
}

/// Writes a string as JSON.
pub(crate) fn write_string(text: &str, json: &mut String) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

/// A time in UTC, to the microsecond.
fn rfc3339(time: SystemTime) -> String {
    // What is before 1970 was not committed then: a clock stood wrong.
    humantime::format_rfc3339_micros(time.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// The tables whose rows a snapshot has yet to take. `done` are those that were taken, `restarted` says that this is the
/// source's first run since the platform started or the trigger was deployed.
pub(crate) fn due<'a>(
    trigger: &'a DatabaseTrigger,
    done: &[TableName],
    restarted: bool,
) -> Vec<std::borrow::Cow<'a, DatabaseTable>> {
    use std::borrow::Cow;
    let outbox = trigger
        .outbox
        .iter()
        .map(|outbox| Cow::Owned(DatabaseTable { name: outbox.table.clone(), columns: Vec::new(), filter: None }));
    let all = trigger.tables.iter().map(Cow::Borrowed).chain(outbox);
    match trigger.snapshot {
        Snapshot::Never => Vec::new(),
        Snapshot::Always if restarted => all.collect(),
        Snapshot::Initial | Snapshot::Always => all.filter(|table| !done.contains(&table.name)).collect(),
    }
}

/// How often a trigger that waits looks after its database.
pub(crate) fn heartbeat(trigger: &DatabaseTrigger) -> Option<Duration> {
    Some(trigger.heartbeat.unwrap_or(Duration::from_secs(10))).filter(|every| !every.is_zero())
}
