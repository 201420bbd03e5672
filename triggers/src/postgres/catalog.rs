//! What the stream does not tell of a table: its primary key, and what its types are.
//!
//! It is asked on a connection of its own, since the one that replicates can't be asked, and anew whenever the stream
//! describes a table. It is the catalog of now, while the stream is of some time ago: where the two don't fit, the stream
//! is right, and what is missing here is left out.

use super::{
    connection::{Connection, ConnectionError, Row, identifier, literal},
    pgoutput::{Relation, Value},
    values::Kind,
};
use crate::database;
use bytes::Bytes;
use dunlin_events::{BoxFuture, manifest::DatabaseUrl, manifest::TableName, secrets::SecretValue};
use std::{collections::HashMap, sync::Arc};

/// A table whose rows can be read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) columns: Vec<Column>,
    /// The places of the columns that tell a row from another; empty where there are none.
    pub(super) key: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Whether an old row has it.
    pub(super) identity: bool,
}

impl Table {
    /// A value as JSON.
    fn json(&self, column: usize, text: &[u8]) -> String {
        let mut json = String::with_capacity(text.len() + 2);
        self.columns[column].kind.write(&String::from_utf8_lossy(text), &mut json);
        json
    }

    /// The columns that `takes` takes, and the names of those that were not told. What is not told in `row` is looked for in
    /// `before`.
    pub(super) fn row(
        &self,
        row: &[Value],
        before: Option<&[Value]>,
        takes: impl Fn(usize, &Column) -> bool,
    ) -> (database::Row, Vec<String>) {
        let (mut values, mut unchanged) = (Vec::with_capacity(self.columns.len()), Vec::new());
        for (index, column) in self.columns.iter().enumerate().filter(|(index, column)| takes(*index, column)) {
            let known = |row: &'_ [Value]| match row.get(index) {
                Some(Value::Text(text)) => Some(self.json(index, text)),
                Some(Value::Null) => Some("null".to_owned()),
                Some(Value::Unchanged) | None => None,
            };
            match known(row).or_else(|| before.and_then(known)) {
                Some(value) => values.push((column.name.clone(), value)),
                None => unchanged.push(column.name.clone()),
            }
        }
        (database::Row(values), unchanged)
    }

    /// The values of its key, in the key's own order.
    pub(super) fn key(&self, row: &[Value], before: Option<&[Value]>) -> Option<database::Row> {
        let values = self.key.iter().map(|at| {
            let (mut one, _) = self.row(row, before, |index, _| index == *at);
            one.0.pop()
        });
        let values: Option<Vec<_>> = values.collect();
        values.filter(|values| !values.is_empty()).map(database::Row)
    }
}

/// Asks a database about its tables.
pub(super) struct Catalog {
    url: DatabaseUrl,
    password: Option<SecretValue>,
    connection: Option<Connection>,
    kinds: HashMap<u32, Kind>,
}

impl Catalog {
    pub(super) fn new(url: DatabaseUrl, password: Option<SecretValue>) -> Self {
        Self { url, password, connection: None, kinds: HashMap::new() }
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<Row>, ConnectionError> {
        let mut fresh = false;
        loop {
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    fresh = true;
                    none.insert(Connection::open(&self.url, self.password.as_ref(), false).await?)
                }
            };
            match connection.query_soon(sql).await {
                // It has not been used for a while, and something on the way has given it up.
                Err(ConnectionError::Broken(_)) if !fresh => self.connection = None,
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
                rows => return rows,
            }
        }
    }

    /// The table that the stream describes.
    pub(super) async fn table(&mut self, relation: &Relation) -> Result<Table, ConnectionError> {
        // A type may have changed with the table.
        self.kinds.clear();
        let mut columns = Vec::with_capacity(relation.columns.len());
        for column in &relation.columns {
            let kind = self.kind(column.kind).await?;
            columns.push(Column { name: column.name.clone(), kind, identity: column.identity });
        }
        let mut key = self.primary_key(relation.id, &columns).await?;
        // Without a primary key, an index that is the replica identity is one. The whole row is none.
        if key.is_empty() && !columns.iter().all(|column| column.identity) {
            key = (0..columns.len()).filter(|index| columns[*index].identity).collect();
        }
        let name = TableName { schema: relation.schema.clone(), name: relation.name.clone() };
        Ok(Table { name, columns, key })
    }

    /// A table as it is now, for a snapshot: without generated columns, which the stream does not have either.
    pub(super) async fn table_now(&mut self, name: &TableName) -> Result<Option<Table>, ConnectionError> {
        self.kinds.clear();
        let sql = format!(
            "SELECT a.attname, a.atttypid, a.attrelid FROM pg_attribute a WHERE a.attrelid = to_regclass({}) \
             AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum",
            literal(&qualified(name))
        );
        let mut columns = Vec::new();
        let mut id = None;
        for row in self.query(&sql).await? {
            id = number(&row, 2);
            let kind = self.kind(number(&row, 1).unwrap_or_default()).await?;
            columns.push(Column { name: string(&row, 0), kind, identity: false });
        }
        let Some(id) = id else { return Ok(None) };
        let key = self.primary_key(id, &columns).await?;
        Ok(Some(Table { name: name.clone(), columns, key }))
    }

    /// The places of the primary key's columns, in the key's order; empty where one of them is missing.
    async fn primary_key(&mut self, table: u32, columns: &[Column]) -> Result<Vec<usize>, ConnectionError> {
        let sql = format!(
            "SELECT a.attname FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = {table} AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place"
        );
        let names = self.query(&sql).await?;
        let places = names.iter().map(|row| columns.iter().position(|column| column.name == string(row, 0)));
        Ok(places.collect::<Option<_>>().unwrap_or_default())
    }

    /// What the values of a type become.
    fn kind(&mut self, oid: u32) -> BoxFuture<'_, Result<Kind, ConnectionError>> {
        Box::pin(async move {
            if let Some(kind) = Kind::built_in(oid).or_else(|| self.kinds.get(&oid).cloned()) {
                return Ok(kind);
            }
            let sql = format!(
                "SELECT t.typtype, t.typcategory, t.typelem, t.typbasetype, e.typdelim, r.rngsubtype, m.rngsubtype, \
                 t.typrelid FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem \
                 LEFT JOIN pg_range r ON r.rngtypid = t.oid LEFT JOIN pg_range m ON m.rngmultitypid = t.oid \
                 WHERE t.oid = {oid}"
            );
            let kind = match self.query(&sql).await?.first() {
                None => Kind::Text,
                Some(row) => match (&*string(row, 0), &*string(row, 1)) {
                    ("d", _) => self.kind(number(row, 3).unwrap_or_default()).await?,
                    ("r", _) => Kind::Range(Arc::new(self.kind(number(row, 5).unwrap_or_default()).await?)),
                    ("m", _) => Kind::Multirange(Arc::new(self.kind(number(row, 6).unwrap_or_default()).await?)),
                    ("c", _) => {
                        let sql = format!(
                            "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = {} AND attnum > 0 \
                             AND NOT attisdropped ORDER BY attnum",
                            number::<u32>(row, 7).unwrap_or_default()
                        );
                        let mut fields = Vec::new();
                        for row in self.query(&sql).await? {
                            fields.push((string(&row, 0), self.kind(number(&row, 1).unwrap_or_default()).await?));
                        }
                        Kind::Composite(fields.into())
                    }
                    (_, "A") => {
                        let delimiter = string(row, 4).bytes().next().unwrap_or(b',');
                        let of = self.kind(number(row, 2).unwrap_or_default()).await?;
                        Kind::Array { of: Arc::new(of), delimiter }
                    }
                    _ => Kind::Text,
                },
            };
            self.kinds.insert(oid, kind.clone());
            Ok(kind)
        })
    }
}

/// A table's name as SQL has it.
pub(super) fn qualified(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.name))
}

/// A value of an answer as text; empty when null.
pub(super) fn string(row: &Row, at: usize) -> String {
    optional(row, at).unwrap_or_default()
}

/// A value of an answer as text.
pub(super) fn optional(row: &Row, at: usize) -> Option<String> {
    row.get(at)?.as_ref().map(|text: &Bytes| String::from_utf8_lossy(text).into_owned())
}

/// A value of an answer as a number; `None` when it is null or none.
pub(super) fn number<N: std::str::FromStr>(row: &Row, at: usize) -> Option<N> {
    optional(row, at)?.parse().ok()
}

/// Whether a value of an answer is true.
pub(super) fn truth(row: &Row, at: usize) -> bool {
    optional(row, at).as_deref() == Some("t")
}
