//! The database trigger: which changes of which tables a function runs for.
//!
//! One type for all databases: what they share is most of it, and a manifest moves from one to another by its `url`. What
//! only one of them has is refused for the others in [`DatabaseTrigger::problems`].

use super::{Problem, Trigger, as_text, is_default};
use crate::{
    secrets::SecretName,
    topics::TopicName,
    units::{self, ByteSize},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

/// The changes of a database a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTrigger {
    /// The server and database, without the password: `postgresql://dunlin@db.example.com/shop`, `mysql://...`,
    /// `mariadb://...`. `?sslmode=` says how the server is trusted, `?sslrootcert=` by which certificates.
    pub url: DatabaseUrl,
    /// The secret that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretName>,
    /// The tables, with their schema: `public.orders`, or `{ name: public.orders, columns: [id, total], where: "total > 100" }`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<DatabaseTable>,
    /// Which changes: `insert`, `update`, `delete`, `truncate`. Default all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub operations: BTreeSet<Operation>,
    /// Whether the rows that are there already are events too. Default initial.
    #[serde(default, skip_serializing_if = "is_default")]
    pub snapshot: Snapshot,
    /// What an event is: a change, or all changes of a transaction. Default changes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deliver: Deliver,
    /// A table whose new rows are events in themselves, instead of `tables`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Outbox>,
    /// What happens when the database no longer has changes that were not taken. Default stop.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lost: Lost,
    /// How much log the database may have to keep for this trigger before `lost` decides. No limit when absent.
    /// PostgreSQL only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<ByteSize>,
    /// How often a quiet trigger moves on, so that the database can throw log away; `0s` for never. Default 10s.
    /// PostgreSQL only.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub heartbeat: Option<Duration>,
    /// The replication slot. Default `dunlin_<function>`, made when it is missing. PostgreSQL only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotName>,
    /// The publication. Default is the slot's name, made and kept as `tables` says; one that is there already is left as it
    /// is. PostgreSQL only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<String>,
    /// The number this trigger has among the replicas of the server. Default made from the function's name. MySQL and
    /// MariaDB only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<u32>,
    /// The topic its events are in. Default `<function>.database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// A change of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Operation {
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// Its name in manifests and events: `insert`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }
}

/// Whether the rows that are there already are events too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Snapshot {
    /// Once, before the first change.
    #[default]
    Initial,
    /// Never: only changes from now on.
    Never,
    /// Each time the platform starts or the trigger is deployed, after the changes up to then.
    Always,
}

/// What an event is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// One change.
    #[default]
    Changes,
    /// All changes of one transaction.
    Transactions,
}

/// What happens when the database no longer has changes that were not taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lost {
    /// The trigger fails, and says so, until somebody decides.
    #[default]
    Stop,
    /// All rows are taken again, as events of a snapshot, and then what changes.
    Snapshot,
}

/// A table, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseTable {
    pub name: TableName,
    /// The columns an event has; all when empty.
    pub columns: Vec<String>,
    /// Which rows: an expression in the database's SQL.
    pub filter: Option<String>,
}

/// How a [`DatabaseTable`] is written when it is more than a name.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct PartOfTable {
    /// The table, with its schema.
    name: TableName,
    /// The columns an event has, the key among them. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    /// Which rows: an expression in the database's SQL, `total > 100`. Default all.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
}

impl Serialize for DatabaseTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.columns.is_empty() && self.filter.is_none() {
            return self.name.serialize(serializer);
        }
        PartOfTable { name: self.name.clone(), columns: self.columns.clone(), filter: self.filter.clone() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DatabaseTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not an untagged enum: that would say only that neither form fits.
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = DatabaseTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table such as `public.orders`, or `{ name: public.orders, columns: [id, total] }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<DatabaseTable, E> {
                let name = text.parse().map_err(E::custom)?;
                Ok(DatabaseTable { name, columns: Vec::new(), filter: None })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<DatabaseTable, A::Error> {
                let PartOfTable { name, columns, filter } =
                    PartOfTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(DatabaseTable { name, columns, filter })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for DatabaseTable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DatabaseTable".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (name, part) = (generator.subschema_for::<TableName>(), generator.subschema_for::<PartOfTable>());
        schemars::json_schema!({ "anyOf": [name, part] })
    }
}

impl fmt::Display for DatabaseTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A table whose new rows are events in themselves. Each key but `table` names a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// The table, with its schema: `public.outbox`.
    pub table: TableName,
    /// The event's `id`. Default id.
    #[serde(default = "id", skip_serializing_if = "is_id")]
    pub id: String,
    /// The event's `type`. Default type.
    #[serde(default = "kind", rename = "type", skip_serializing_if = "is_kind")]
    pub kind: String,
    /// Its data. Default payload.
    #[serde(default = "payload", skip_serializing_if = "is_payload")]
    pub data: String,
    /// Its `source`. The database and table when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its `partitionkey`: the events of one run one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its `time`. When the row was committed, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The topic it goes to; the trigger's own where the column is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Columns that are extension attributes of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<String>,
}

impl Outbox {
    /// The columns it names, each with the key that names it, as a JSON Pointer.
    pub fn columns(&self) -> impl Iterator<Item = (String, &String)> {
        let needed = [("id", &self.id), ("type", &self.kind), ("data", &self.data)];
        let optional = [
            ("source", &self.source),
            ("subject", &self.subject),
            ("key", &self.key),
            ("time", &self.time),
            ("topic", &self.topic),
        ];
        let optional = optional.into_iter().filter_map(|(key, column)| Some((key, column.as_ref()?)));
        let one = needed.into_iter().chain(optional).map(|(key, column)| (format!("/{key}"), column));
        let extensions = self.extensions.iter().enumerate();
        one.chain(extensions.map(|(index, column)| (format!("/extensions/{index}"), column)))
    }
}

fn id() -> String {
    "id".into()
}

fn is_id(column: &str) -> bool {
    column == "id"
}

fn kind() -> String {
    "type".into()
}

fn is_kind(column: &str) -> bool {
    column == "type"
}

fn payload() -> String {
    "payload".into()
}

fn is_payload(column: &str) -> bool {
    column == "payload"
}

/// A table's name, with its schema: `public.orders`, `"My Schema"."a.b"`. MySQL calls the schema a database.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

/// Why a text is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a table: write schema and name, such as `public.orders`, with double quotes where one has a dot")]
pub struct InvalidTableName(pub String);

impl FromStr for TableName {
    type Err = InvalidTableName;

    fn from_str(text: &str) -> Result<Self, InvalidTableName> {
        let invalid = || InvalidTableName(text.to_owned());
        let (schema, rest) = first_name(text).ok_or_else(invalid)?;
        let rest = rest.strip_prefix('.').ok_or_else(invalid)?;
        match first_name(rest) {
            Some((name, "")) => Ok(Self { schema, name }),
            _ => Err(invalid()),
        }
    }
}

/// The name a text begins with, without its quotes, and what follows. Case is kept in both forms.
fn first_name(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let valid = end > 0 && !text[..end].contains(['"', '\0', ' ', '*']);
        return valid.then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('"')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (!name.is_empty() && !name.contains('\0')).then_some((name, rest)),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |name: &str| {
            if name.contains(['.', '"', ' ', '*']) {
                format!("\"{}\"", name.replace('"', "\"\""))
            } else {
                name.to_owned()
            }
        };
        write!(f, "{}.{}", written(&self.schema), written(&self.name))
    }
}

/// The name of a replication slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotName(String);

/// Why a text is no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a slot: use 1 to 63 lowercase letters, digits and `_`")]
pub struct InvalidSlotName(pub String);

impl SlotName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SlotName {
    type Err = InvalidSlotName;

    fn from_str(text: &str) -> Result<Self, InvalidSlotName> {
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSlotName(text.to_owned())) }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The databases there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatabaseKind {
    Postgres,
    Mysql,
    Mariadb,
}

impl DatabaseKind {
    /// The port its servers listen on.
    pub const fn port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::Mysql | Self::Mariadb => 3306,
        }
    }

    /// The scheme of its addresses.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }
}

/// How far a database's server is trusted, in the words of PostgreSQL's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SslMode {
    /// Nothing is encrypted. The default for a server on this machine.
    Disable,
    /// Encrypted; whoever answers is trusted.
    Require,
    /// Encrypted, and the certificate comes from a known authority.
    VerifyCa,
    /// And it is that of the host. The default.
    VerifyFull,
}

/// The address of a database: `postgresql://user@host:5432/database?sslmode=verify-full`.
///
/// It never has a password: a manifest is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseUrl {
    text: String,
    pub kind: DatabaseKind,
    pub user: String,
    /// A name or an address, an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
    pub database: String,
    pub sslmode: SslMode,
    /// A file with the certificates of those who vouch for the server, instead of the ones the system knows.
    pub sslrootcert: Option<String>,
}

/// Why a text is no address of a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDatabaseUrl {
    #[error(
        "the url of a database holds a password: take it out, and name the secret that has it: `password: DB_PASSWORD`"
    )]
    Password,
    #[error("`{url}` is not the url of a database: {reason}")]
    Invalid { url: String, reason: String },
}

impl DatabaseUrl {
    /// Server and database without user and parameters: `postgresql://host:5432/database`.
    pub fn place(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}://{host}:{}/{}", self.kind.scheme(), self.port, encoded(&self.database))
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let invalid = |reason: &str| InvalidDatabaseUrl::Invalid { url: text.to_owned(), reason: reason.to_owned() };
        // Before anything repeats the text. A password may hold what ends it in a URL that is right.
        let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
        let user = after_scheme.split_once('@').map_or("", |(user, _)| user);
        if user.contains(':') || text.contains("password=") {
            return Err(InvalidDatabaseUrl::Password);
        }
        let form = "write `postgresql://user@host:5432/database`, `mysql://...` or `mariadb://...`";
        let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(form))?;
        let kind = match scheme {
            "postgresql" | "postgres" => DatabaseKind::Postgres,
            "mysql" => DatabaseKind::Mysql,
            "mariadb" => DatabaseKind::Mariadb,
            _ => return Err(invalid(form)),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.is_empty() {
            return Err(invalid("it names no user: write `postgresql://user@host/database`"));
        }
        if database.is_empty() {
            return Err(invalid("it names no database: write `postgresql://user@host/database`"));
        }
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| invalid("a `[` has no `]`"))?;
                (host, rest.strip_prefix(':'))
            }
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() || host.contains([',', '/', ' ']) {
            return Err(invalid("it names no host, or more than one"));
        }
        let port = match port {
            None => kind.port(),
            Some(port) => port.parse().map_err(|_| invalid("its port is not a number up to 65535"))?,
        };
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        let mut sslmode = if local { SslMode::Disable } else { SslMode::VerifyFull };
        let mut sslrootcert = None;
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("sslmode", "disable") => sslmode = SslMode::Disable,
                ("sslmode", "require") => sslmode = SslMode::Require,
                ("sslmode", "verify-ca") => sslmode = SslMode::VerifyCa,
                ("sslmode", "verify-full") => sslmode = SslMode::VerifyFull,
                ("sslmode", _) => {
                    return Err(invalid("`sslmode` is `verify-full`, `verify-ca`, `require` or `disable`"));
                }
                ("sslrootcert", path) => {
                    sslrootcert = Some(decoded(path).ok_or_else(|| invalid("its `sslrootcert` is not UTF-8"))?);
                }
                (other, _) => {
                    let reason = format!("it has `{other}`; there are `sslmode` and `sslrootcert`");
                    return Err(invalid(&reason));
                }
            }
        }
        let part = |text: &str| decoded(text).ok_or_else(|| invalid("what is percent-encoded in it is not UTF-8"));
        let (user, database) = (part(user)?, part(database)?);
        Ok(Self { text: text.to_owned(), kind, user, host: host.to_owned(), port, database, sslmode, sslrootcert })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Undoes percent-encoding; what is no encoding stays.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|_| first == b'%').and_then(|digits| {
            u8::from_str_radix(std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?, 16).ok()
        });
        bytes.push(escape.unwrap_or(first));
        rest = if escape.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes what can't stand in a path.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

as_text!(DatabaseUrl, "DatabaseUrl", {
    "type": "string",
    "pattern": "^(postgres(ql)?|mysql|mariadb)://",
    "examples": ["postgresql://dunlin@db.example.com/shop?sslmode=verify-full"]
});
as_text!(TableName, "TableName", { "type": "string", "examples": ["public.orders"] });
as_text!(SlotName, "SlotName", { "type": "string", "pattern": "^[a-z0-9_]{1,63}$" });

impl DatabaseTrigger {
    /// The tables it reads: `tables`, or the outbox.
    pub fn table_names(&self) -> impl Iterator<Item = &TableName> {
        self.tables.iter().map(|table| &table.name).chain(self.outbox.iter().map(|outbox| &outbox.table))
    }

    /// Whether changes of this kind become events.
    pub fn takes(&self, operation: Operation) -> bool {
        match &self.outbox {
            Some(_) => operation == Operation::Insert,
            None => self.operations.is_empty() || self.operations.contains(&operation),
        }
    }

    /// The columns its manifest wants of a table; all when empty.
    pub fn columns_of(&self, table: &TableName) -> &[String] {
        self.tables.iter().find(|wanted| wanted.name == *table).map_or(&[], |wanted| &wanted.columns)
    }

    /// Another trigger of the function that would keep its place in the database under the same name.
    pub(super) fn clash(&self, before: &[Trigger]) -> Option<Problem> {
        // A slot is remembered by its name wherever it is, so that a trigger can follow its database to another host.
        let names = |trigger: &Self| match (trigger.url.kind, &trigger.slot) {
            (DatabaseKind::Postgres, Some(slot)) => (None, Some(slot.clone()), None, None),
            (DatabaseKind::Postgres, None) => (None, None, None, trigger.topic.clone()),
            _ => (Some(trigger.url.place()), None, trigger.server_id, trigger.topic.clone()),
        };
        let (index, other) = before.iter().enumerate().find_map(|(index, other)| match other {
            Trigger::Database(other) if names(other) == names(self) => Some((index, other)),
            _ => None,
        })?;
        Some(if other.url.place() == self.url.place() {
            Problem::new("", format!("it reads the changes of the same database as trigger {index}"))
                .help("name all tables in one of them, or give one a `slot` or a `topic` of its own")
        } else {
            Problem::new("", format!("its slot has the same name as that of trigger {index}"))
                .help("give one a `slot` or a `topic` of its own")
        })
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match &self.outbox {
            None if self.tables.is_empty() => problems.push(
                Problem::new("/tables", "it names no table").help("write `tables: [public.orders]`, or an `outbox`"),
            ),
            Some(_) if !self.tables.is_empty() => problems.push(
                Problem::new("/outbox", "it has both `tables` and an `outbox`")
                    .help("give each a trigger of its own: the rows of an outbox are events in themselves"),
            ),
            Some(_) if !self.operations.is_empty() => problems.push(
                Problem::new(
                    "/operations",
                    "the rows of an outbox are events when they are inserted, and at no other time",
                )
                .help("leave `operations` out"),
            ),
            Some(_) if self.deliver == Deliver::Transactions => {
                problems.push(Problem::new("/deliver", "each row of an outbox is an event").help("leave `deliver` out"))
            }
            _ => {}
        }
        for (index, table) in self.tables.iter().enumerate() {
            if self.tables[..index].iter().any(|other| other.name == table.name) {
                problems.push(
                    Problem::new(format!("/tables/{index}"), format!("the table `{}` is named twice", table.name))
                        .help("keep one of the two"),
                );
            }
        }
        let postgres = self.url.kind == DatabaseKind::Postgres;
        for (key, given, of_postgres) in [
            ("slot", self.slot.is_some(), true),
            ("publication", self.publication.is_some(), true),
            ("heartbeat", self.heartbeat.is_some(), true),
            ("max_lag", self.max_lag.is_some(), true),
            ("server_id", self.server_id.is_some(), false),
        ] {
            if given && of_postgres != postgres {
                let others = if postgres { "MySQL and MariaDB" } else { "PostgreSQL" };
                problems.push(
                    Problem::new(format!("/{key}"), format!("`{key}` is for {others}")).help("leave the line out"),
                );
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_what_is_wrong_and_never_hold_a_password() {
        let url: DatabaseUrl =
            "postgres://a%40b@[::1]:6000/my%20db?sslmode=require&sslrootcert=/etc/ca.pem".parse().unwrap();
        assert_eq!((&*url.user, &*url.host, url.port, &*url.database), ("a@b", "::1", 6000, "my db"));
        assert_eq!((url.sslmode, url.sslrootcert.as_deref()), (SslMode::Require, Some("/etc/ca.pem")));
        assert_eq!(url.place(), "postgresql://[::1]:6000/my%20db");
        let mode = |text: &str| text.parse::<DatabaseUrl>().unwrap().sslmode;
        assert_eq!(mode("mysql://a@localhost/b"), SslMode::Disable);
        assert_eq!(mode("mariadb://a@db.example.com/b"), SslMode::VerifyFull);
        for (bad, reason) in [
            ("http://a@b/c", "write `postgresql://"),
            ("postgresql://host/db", "names no user"),
            ("postgresql://user@host", "names no database"),
            ("postgresql://user@host:x/db", "its port"),
            ("postgresql://user@a,b/db", "more than one"),
            ("postgresql://user@host/db?sslmode=prefer", "`verify-full`"),
            ("postgresql://user@host/db?application_name=x", "it has `application_name`"),
        ] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        for bad in [
            "postgresql://user:hunter2@host/db",
            "postgresql://user@host/db?password=hunter2",
            "postgresql://user:hunter2/?@host/db",
            "mongodb://user:hunter2@host/db",
            "user:hunter2@host/db",
        ] {
            let error = bad.parse::<DatabaseUrl>().unwrap_err().to_string();
            assert!(error.contains("password: DB_PASSWORD") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn tables_are_read_and_written_back() {
        for (text, schema, name) in [
            ("public.orders", "public", "orders"),
            (r#""a.b"."c""d""#, "a.b", "c\"d"),
            ("Shop.Orders", "Shop", "Orders"),
        ] {
            let table: TableName = text.parse().unwrap();
            assert_eq!((&*table.schema, &*table.name), (schema, name));
            assert_eq!(table.to_string().parse::<TableName>().unwrap(), table);
        }
        for bad in ["orders", "a.b.c", "", ".", "a.", "\"a.b", "public.*"] {
            assert!(bad.parse::<TableName>().is_err(), "{bad}");
        }
    }

    fn trigger(json: serde_json::Value) -> Result<DatabaseTrigger, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_trigger_survives_the_registry_and_tells_contradictions() {
        let written = serde_json::json!({
            "url": "postgresql://a@b/c",
            "password": "DB",
            "tables": ["public.a", { "name": "public.b", "columns": ["id"], "where": "id > 1" }],
            "operations": ["insert", "delete"],
            "max_lag": "1GiB",
            "heartbeat": "30s",
        });
        let read = trigger(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        assert!(read.problems().is_empty());
        assert!(read.takes(Operation::Delete) && !read.takes(Operation::Update));

        let error = trigger(serde_json::json!({ "url": "mysql://a@b/c", "tables": ["orders"] })).unwrap_err();
        assert!(error.contains("`orders` is not a table"), "{error}");
        let error = trigger(serde_json::json!({ "url": "mysql://a@b/c", "tables": [{ "nam": "a.b" }] })).unwrap_err();
        assert!(error.contains("unknown field `nam`"), "{error}");

        let places =
            |json| -> Vec<_> { trigger(json).unwrap().problems().into_iter().map(|problem| problem.pointer).collect() };
        let url = "mysql://a@b/c";
        assert_eq!(places(serde_json::json!({ "url": url })), ["/tables"]);
        assert_eq!(places(serde_json::json!({ "url": url, "tables": ["a.b", "a.b"] })), ["/tables/1"]);
        assert_eq!(places(serde_json::json!({ "url": url, "tables": ["a.b"], "slot": "x" })), ["/slot"]);
        let both = serde_json::json!({ "url": url, "tables": ["a.b"], "outbox": { "table": "a.outbox" } });
        assert_eq!(places(both), ["/outbox"]);
    }

    #[test]
    fn two_triggers_of_one_database_are_told_apart() {
        let two = |second: serde_json::Value| {
            let mut triggers = [serde_json::json!({ "url": "postgresql://a@b/c", "tables": ["a.b"] }), second];
            if triggers[1].get("url").is_none() {
                triggers[1]["url"] = "postgresql://other@b/c".into();
            }
            let triggers = triggers.map(|trigger| serde_json::json!({ "database": trigger }));
            let manifest = serde_json::json!({ "name": "f", "component": "f.wasm", "triggers": triggers });
            let manifest: super::super::Manifest = serde_json::from_value(manifest).unwrap();
            manifest.problems().into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
        };
        assert_eq!(two(serde_json::json!({ "tables": ["a.c"] })), ["/triggers/1/database"]);
        assert!(two(serde_json::json!({ "tables": ["a.c"], "slot": "other" })).is_empty());
        assert_eq!(
            two(serde_json::json!({ "tables": ["a.c"], "url": "postgresql://a@other/c" })),
            ["/triggers/1/database"]
        );
        assert!(two(serde_json::json!({ "tables": ["a.c"], "url": "mariadb://a@b/c" })).is_empty());
        assert!(two(serde_json::json!({ "tables": ["a.c"], "topic": "other" })).is_empty());
    }
}
