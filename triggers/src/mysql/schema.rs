//! What the columns of a table are: as the server's catalogue has them now, and as the binlog had them when it was written.
//!
//! With `binlog_row_metadata=FULL` every table map says by itself what the columns were at that place, and the catalogue
//! only adds what no map says: which text is JSON, which bytes are a `uuid`. Without it the columns are those of the
//! catalogue, as long as they fit what the map does have. They are read again when a statement that defines tables comes
//! by.

use super::{
    session::{Session, SessionError},
    value::Wire,
    wire::{Malformed, Reader},
};
use dunlin_events::manifest::TableName;
use encoding_rs::Encoding;
use mysql_async::prelude::Queryable as _;
use std::{borrow::Cow, collections::HashMap};

/// A table as the catalogue has it.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: TableName,
    pub(super) engine: String,
    pub(super) columns: Vec<Column>,
    /// The columns of its primary key, or else of a unique index without NULLs. Empty when it has neither.
    pub(super) key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) unsigned: bool,
    pub(super) kind: Kind,
}

/// What a column's values mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Float,
    Decimal,
    Bit,
    Year,
    Date,
    /// With so many digits after the second.
    Time {
        digits: usize,
    },
    DateTime {
        digits: usize,
    },
    Timestamp {
        digits: usize,
    },
    Text(Charset),
    Bytes,
    Json,
    Uuid,
    Inet4,
    Inet6,
    Enum(Vec<String>),
    Set(Vec<String>),
    Geometry,
    /// A type, or a character set, that can't be read. With what it is called.
    Unknown(String),
}

/// How a text is written in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    Utf32,
    Other(&'static Encoding),
}

impl Charset {
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(Self::Other(match name {
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => return Some(Self::Utf8),
            "utf32" => return Some(Self::Utf32),
            "latin1" => encoding_rs::WINDOWS_1252,
            "latin2" => encoding_rs::ISO_8859_2,
            "latin5" => encoding_rs::WINDOWS_1254,
            "latin7" => encoding_rs::ISO_8859_13,
            "greek" => encoding_rs::ISO_8859_7,
            "hebrew" => encoding_rs::ISO_8859_8,
            "tis620" => encoding_rs::WINDOWS_874,
            "cp1250" => encoding_rs::WINDOWS_1250,
            "cp1251" => encoding_rs::WINDOWS_1251,
            "cp1256" => encoding_rs::WINDOWS_1256,
            "cp1257" => encoding_rs::WINDOWS_1257,
            "cp866" => encoding_rs::IBM866,
            "koi8r" => encoding_rs::KOI8_R,
            "koi8u" => encoding_rs::KOI8_U,
            "macroman" => encoding_rs::MACINTOSH,
            "big5" => encoding_rs::BIG5,
            "gb2312" | "gbk" => encoding_rs::GBK,
            "gb18030" => encoding_rs::GB18030,
            "euckr" => encoding_rs::EUC_KR,
            "ujis" => encoding_rs::EUC_JP,
            "sjis" | "cp932" => encoding_rs::SHIFT_JIS,
            "ucs2" | "utf16" => encoding_rs::UTF_16BE,
            "utf16le" => encoding_rs::UTF_16LE,
            _ => return None,
        }))
    }

    pub(super) fn text(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes),
            Self::Other(encoding) => encoding.decode_without_bom_handling(bytes).0,
            Self::Utf32 => bytes
                .chunks_exact(4)
                .map(|four| {
                    char::from_u32(u32::from_be_bytes([four[0], four[1], four[2], four[3]])).unwrap_or('\u{fffd}')
                })
                .collect(),
        }
    }
}

impl Table {
    /// Reads what the catalogue has of a table. `None` when there is no such table, or it may not be read.
    pub(super) async fn read(session: &mut Session, name: &TableName) -> Result<Option<Self>, SessionError> {
        let mariadb = session.mariadb;
        let connection = &mut session.connection;
        let place = (&name.schema, &name.name);
        let found: Option<(Option<String>, String)> = connection
            .exec_first(
                "SELECT ENGINE, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
                place,
            )
            .await?;
        let Some((Some(engine), _)) = found.filter(|(_, kind)| kind == "BASE TABLE") else { return Ok(None) };
        type Described = (String, String, String, Option<String>, Option<u64>);
        let described: Vec<Described> = connection
            .exec(
                "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, DATETIME_PRECISION \
                 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
                place,
            )
            .await?;
        // MariaDB's `json` is a text with this check.
        let checked: Vec<String> = if mariadb {
            connection
                .exec(
                    "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = ? \
                     AND TABLE_NAME = ? AND LEVEL = 'Column' AND CHECK_CLAUSE LIKE 'json\\_valid(%'",
                    place,
                )
                .await?
        } else {
            Vec::new()
        };
        let columns = described
            .into_iter()
            .map(|(name, kind, full, charset, digits)| {
                // In another character set it would not be JSON as it is.
                let is_json = checked.contains(&name) && charset.as_ref().is_some_and(|set| set.starts_with("utf8"));
                let unsigned = full.contains(" unsigned");
                let kind = if is_json { Kind::Json } else { Kind::of(&kind, &full, charset.as_deref(), digits) };
                Column { name, unsigned, kind }
            })
            .collect();
        let indexed: Vec<(String, Option<String>, String, Option<u64>)> = connection
            .exec(
                "SELECT INDEX_NAME, COLUMN_NAME, NULLABLE, SUB_PART FROM information_schema.STATISTICS \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? AND NON_UNIQUE = 0 \
                 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX",
                place,
            )
            .await?;
        Ok(Some(Self { name: name.clone(), engine, columns, key: key(&indexed) }))
    }
}

/// The columns of the first index whose values tell rows apart.
fn key(indexed: &[(String, Option<String>, String, Option<u64>)]) -> Vec<String> {
    indexed
        .chunk_by(|(index, ..), (other, ..)| index == other)
        .find_map(|columns| {
            // The key of a prefix, which SUB_PART tells, is a key all the same when it is the primary one.
            let whole = |part: &Option<u64>, index: &str| part.is_none() || index == "PRIMARY";
            let names = columns
                .iter()
                .map(|(index, name, nullable, part)| name.clone().filter(|_| nullable != "YES" && whole(part, index)));
            names.collect()
        })
        .unwrap_or_default()
}

impl Kind {
    fn of(kind: &str, full: &str, charset: Option<&str>, digits: Option<u64>) -> Self {
        let digits = digits.map_or(0, |digits| digits as usize);
        let unknown = || Self::Unknown(kind.to_owned());
        if full.contains("COMPRESSED") {
            return Self::Unknown(format!("{kind} compressed"));
        }
        match kind {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => Self::Int,
            "float" | "double" => Self::Float,
            "decimal" => Self::Decimal,
            "bit" => Self::Bit,
            "year" => Self::Year,
            "date" => Self::Date,
            "time" => Self::Time { digits },
            "datetime" => Self::DateTime { digits },
            "timestamp" => Self::Timestamp { digits },
            "json" => Self::Json,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            "enum" => Self::Enum(names(full)),
            "set" => Self::Set(names(full)),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => match charset {
                Some(charset) => Charset::of(charset)
                    .map_or_else(|| Self::Unknown(format!("{kind} character set {charset}")), Self::Text),
                None => Self::Bytes,
            },
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => Self::Bytes,
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Self::Geometry,
            _ => unknown(),
        }
    }
}

/// The names in `enum('a','b''c')`.
fn names(full: &str) -> Vec<String> {
    let Some(list) = full.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map(|(list, _)| list) else {
        return Vec::new();
    };
    let (mut names, mut rest) = (Vec::new(), list);
    while let Some(quoted) = rest.strip_prefix('\'') {
        let mut name = String::new();
        rest = quoted;
        while let Some(end) = rest.find('\'') {
            name += &rest[..end];
            rest = &rest[end + 1..];
            let Some(more) = rest.strip_prefix('\'') else { break };
            name.push('\'');
            rest = more;
        }
        names.push(name);
        rest = rest.strip_prefix(',').unwrap_or_default();
    }
    names
}

/// A table map: what the binlog has of a table before the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableMap {
    pub(super) id: u64,
    pub(super) name: TableName,
    pub(super) wires: Vec<Wire>,
    /// What `binlog_row_metadata=FULL` adds.
    described: Option<Described>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Described {
    names: Vec<String>,
    unsigned: Vec<bool>,
    /// Of each text and each enum or set: the number of its collation.
    collations: Vec<Option<u64>>,
    enums: Vec<Vec<Vec<u8>>>,
    sets: Vec<Vec<Vec<u8>>>,
    key: Vec<usize>,
}

impl TableMap {
    /// `MYSQL_TYPE_...` of what is only told in the description of a text.
    pub(super) fn read(data: &[u8], mariadb: bool) -> Result<Self, Malformed> {
        let mut reader = Reader(data);
        let id = reader.little(6)?;
        reader.take(2)?;
        let name = |reader: &mut Reader<'_>| -> Result<String, Malformed> {
            let length = reader.size(1)?;
            let name = String::from_utf8_lossy(reader.take(length)?).into_owned();
            reader.byte()?;
            Ok(name)
        };
        let name = TableName { schema: name(&mut reader)?, name: name(&mut reader)? };
        let count = reader.length()?;
        let kinds = reader.take(count)?;
        let mut meta = Reader(reader.counted()?);
        let wires: Vec<_> = kinds.iter().map(|kind| Wire::read(*kind, &mut meta)).collect::<Result<_, _>>()?;
        reader.take(count.div_ceil(8))?;
        let described = Described::read(&mut reader, &wires, mariadb)?;
        Ok(Self { id, name, wires, described })
    }

    /// Whether it says by itself what its columns are called.
    pub(super) fn is_described(&self) -> bool {
        self.described.is_some()
    }

    /// Whether all its columns are among those of the catalogue's table.
    pub(super) fn is_known(&self, table: &Table) -> bool {
        match &self.described {
            Some(described) => {
                described.names.iter().all(|name| table.columns.iter().any(|column| column.name == *name))
            }
            None => {
                self.wires.len() == table.columns.len()
                    && self.wires.iter().zip(&table.columns).all(|(wire, column)| wire.is_of(&column.kind))
            }
        }
    }

    /// The columns the rows that follow have, and the key's. `table` is what the catalogue has.
    pub(super) fn columns(&self, table: Option<&Table>, charsets: &HashMap<u64, String>) -> (Vec<Column>, Vec<String>) {
        let Some(described) = &self.described else {
            return table.map(|table| (table.columns.clone(), table.key.clone())).unwrap_or_default();
        };
        let (mut enums, mut sets) = (described.enums.iter(), described.sets.iter());
        let columns: Vec<_> = described
            .names
            .iter()
            .zip(&self.wires)
            .enumerate()
            .map(|(index, (name, wire))| {
                let known = table.and_then(|table| table.columns.iter().find(|column| column.name == *name));
                let charset = described.collations.get(index).copied().flatten();
                let charset = charset.and_then(|collation| charsets.get(&collation)).map(String::as_str);
                let encoding = charset.map_or(Some(Charset::Utf8), Charset::of);
                let texts = |names: Option<&Vec<Vec<u8>>>| {
                    let names = names.map(Vec::as_slice).unwrap_or_default().iter();
                    names.map(|name| encoding.unwrap_or(Charset::Utf8).text(name).into_owned()).collect()
                };
                let kind = match wire {
                    Wire::Int { .. } => Kind::Int,
                    Wire::Float | Wire::Double => Kind::Float,
                    Wire::Decimal { .. } => Kind::Decimal,
                    Wire::Bit { .. } => Kind::Bit,
                    Wire::Year => Kind::Year,
                    Wire::Date => Kind::Date,
                    Wire::Time { digits } => Kind::Time { digits: *digits },
                    Wire::DateTime { digits } => Kind::DateTime { digits: *digits },
                    Wire::Timestamp { digits } => Kind::Timestamp { digits: *digits },
                    Wire::OldTime => Kind::Time { digits: 0 },
                    Wire::OldDateTime => Kind::DateTime { digits: 0 },
                    Wire::OldTimestamp => Kind::Timestamp { digits: 0 },
                    Wire::Geometry { .. } => Kind::Geometry,
                    Wire::BinaryJson { .. } => Kind::Json,
                    Wire::Enum { .. } => Kind::Enum(texts(enums.next())),
                    Wire::Set { .. } => Kind::Set(texts(sets.next())),
                    Wire::Bytes { fixed, .. } => match known.map(|column| &column.kind) {
                        Some(kind @ (Kind::Uuid | Kind::Inet6)) if *fixed == Some(16) => kind.clone(),
                        Some(kind @ Kind::Inet4) if *fixed == Some(4) => kind.clone(),
                        Some(kind @ Kind::Json) => kind.clone(),
                        _ => match (charset, encoding) {
                            (Some("binary"), _) => Kind::Bytes,
                            (_, Some(encoding)) => Kind::Text(encoding),
                            (other, None) => Kind::Unknown(format!("character set {}", other.unwrap_or_default())),
                        },
                    },
                };
                let unsigned = described.unsigned.get(index).copied().unwrap_or(false);
                Column { name: name.clone(), unsigned, kind }
            })
            .collect();
        let key: Vec<_> =
            described.key.iter().filter_map(|index| described.names.get(*index)).map(String::clone).collect();
        // A map names the primary key alone.
        let key = if key.is_empty() { table.map(|table| table.key.clone()).unwrap_or_default() } else { key };
        (columns, key)
    }
}

impl Described {
    /// `None` when the names are missing.
    fn read(reader: &mut Reader<'_>, wires: &[Wire], mariadb: bool) -> Result<Option<Self>, Malformed> {
        let mut described = Self { collations: vec![None; wires.len()], ..Self::default() };
        let numbers: Vec<_> = positions(wires, |wire| wire.is_number());
        // MariaDB counts geometries among the texts here, MySQL doesn't.
        let texts: Vec<_> = positions(wires, |wire| match wire {
            Wire::Bytes { .. } => true,
            Wire::Geometry { .. } => mariadb,
            _ => false,
        });
        let choices: Vec<_> = positions(wires, |wire| matches!(wire, Wire::Enum { .. } | Wire::Set { .. }));
        while !reader.is_empty() {
            let field = reader.byte()?;
            let mut value = Reader(reader.counted()?);
            match field {
                1 => {
                    described.unsigned = vec![false; wires.len()];
                    for (number, column) in numbers.iter().enumerate() {
                        let byte = value.0.get(number / 8).copied().unwrap_or_default();
                        described.unsigned[*column] = byte << (number % 8) & 0x80 != 0;
                    }
                }
                2 | 10 => {
                    let columns = if field == 2 { &texts } else { &choices };
                    let default = value.length()? as u64;
                    columns.iter().for_each(|column| described.collations[*column] = Some(default));
                    while !value.is_empty() {
                        let (index, collation) = (value.length()?, value.length()? as u64);
                        if let Some(column) = columns.get(index) {
                            described.collations[*column] = Some(collation);
                        }
                    }
                }
                3 | 11 => {
                    for column in if field == 3 { &texts } else { &choices } {
                        described.collations[*column] = Some(value.length()? as u64);
                    }
                }
                4 => {
                    while !value.is_empty() {
                        described.names.push(String::from_utf8_lossy(value.counted()?).into_owned());
                    }
                }
                5 | 6 => {
                    let all = if field == 5 { &mut described.sets } else { &mut described.enums };
                    while !value.is_empty() {
                        let count = value.length()?;
                        let names = (0..count).map(|_| Ok(value.counted()?.to_vec()));
                        all.push(names.collect::<Result<_, Malformed>>()?);
                    }
                }
                8 => {
                    while !value.is_empty() {
                        described.key.push(value.length()?);
                    }
                }
                9 => {
                    while !value.is_empty() {
                        described.key.push(value.length()?);
                        value.length()?;
                    }
                }
                // Types of geometries, and whether a column is seen by `SELECT *`: nothing for an event.
                _ => {}
            }
        }
        Ok((described.names.len() == wires.len()).then_some(described))
    }
}

fn positions(wires: &[Wire], which: impl Fn(&Wire) -> bool) -> Vec<usize> {
    wires.iter().enumerate().filter(|(_, wire)| which(wire)).map(|(index, _)| index).collect()
}

/// Which character set a collation is of, by its number.
pub(super) async fn charsets(session: &mut Session) -> Result<HashMap<u64, String>, SessionError> {
    let connection = &mut session.connection;
    let mut all: Vec<(u64, String)> = connection
        .query("SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL AND CHARACTER_SET_NAME IS NOT NULL")
        .await?;
    if session.mariadb {
        // Since 10.10 a collation's name stands for one of each character set, with a number for each.
        let more = "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY";
        all.extend(session.connection.query::<(u64, String), _>(more).await.unwrap_or_default());
    }
    Ok(all.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_enum_come_without_their_quotes() {
        assert_eq!(names("enum('a','b,c','d''e','')"), ["a", "b,c", "d'e", ""]);
        assert_eq!(names("set('x) y')"), ["x) y"]);
    }

    #[test]
    fn a_key_is_the_primary_one_or_one_without_nulls() {
        let part = |index: &str, column: &str, nullable: &str, part: Option<u64>| {
            (index.to_owned(), Some(column.to_owned()), nullable.to_owned(), part)
        };
        let primary = [part("PRIMARY", "a", "", None), part("PRIMARY", "b", "", Some(10)), part("u", "c", "", None)];
        assert_eq!(key(&primary), ["a", "b"]);
        let unique = [part("u", "a", "YES", None), part("v", "b", "", Some(3)), part("w", "c", "", None)];
        assert_eq!(key(&unique), ["c"]);
        assert!(key(&unique[..2]).is_empty());
    }
}
