//! What the output plugin `pgoutput` writes, version 1 of its protocol.
//!
//! <https://www.postgresql.org/docs/15/protocol-logicalrep-message-formats.html>

use super::{
    connection::{ConnectionError, take, take_text, take_u16, take_u32, take_u64, time},
    lsn::Lsn,
};
use bytes::{Buf as _, Bytes};
use std::time::SystemTime;

/// A message of the stream. Transactions come one after another, in the order of their commits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A transaction begins, which has ended by now.
    Begin(Transaction),
    /// It ends.
    Commit {
        /// Behind its commit: what is confirmed up to here does not come again.
        end: Lsn,
    },
    /// What a table is like, before its first change and whenever it has changed.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Types, origins and messages: nothing that is made an event.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Where its commit is in the log. It grows from transaction to transaction.
    pub(super) commit: Lsn,
    pub(super) time: SystemTime,
    pub(super) id: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) id: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<RelationColumn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub(super) identity: bool,
    pub(super) name: String,
    /// The object id of its type.
    pub(super) kind: u32,
}

/// A row, as it was or is.
pub(super) type Tuple = Vec<Value>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// It is kept out of line (TOAST), did not change, and is not told.
    Unchanged,
    Text(Bytes),
}

/// What is told of a row as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Old {
    /// The columns of its replica identity; the others are null.
    Key(Tuple),
    /// All of it.
    Whole(Tuple),
}

impl Message {
    pub(super) fn read(mut body: Bytes) -> Result<Self, ConnectionError> {
        let body = &mut body;
        Ok(match take_byte(body)? {
            b'B' => {
                let commit = Lsn(take_u64(body)?);
                let time = time(take(body, 8)?.get_i64());
                Self::Begin(Transaction { commit, time, id: take_u32(body)? })
            }
            b'C' => {
                take(body, 9)?;
                Self::Commit { end: Lsn(take_u64(body)?) }
            }
            b'R' => {
                let (id, schema, name) = (take_u32(body)?, take_text(body)?, take_text(body)?);
                take_byte(body)?;
                let mut columns = Vec::new();
                for _ in 0..take_u16(body)? {
                    let identity = take_byte(body)? & 1 != 0;
                    let (name, kind) = (take_text(body)?, take_u32(body)?);
                    take(body, 4)?;
                    columns.push(RelationColumn { identity, name, kind });
                }
                // The schema of what every database has is told as an empty one.
                let schema = if schema.is_empty() { "pg_catalog".into() } else { schema };
                Self::Relation(Relation { id, schema, name, columns })
            }
            b'I' => {
                let relation = take_u32(body)?;
                take_byte(body)?;
                Self::Insert { relation, new: tuple(body)? }
            }
            b'U' => {
                let relation = take_u32(body)?;
                let mut which = take_byte(body)?;
                let mut old = None;
                if which != b'N' {
                    old = Some(old_tuple(which, body)?);
                    which = take_byte(body)?;
                }
                if which != b'N' {
                    return Err(ConnectionError::Protocol("an update without a new row"));
                }
                Self::Update { relation, old, new: tuple(body)? }
            }
            b'D' => {
                let relation = take_u32(body)?;
                let which = take_byte(body)?;
                Self::Delete { relation, old: old_tuple(which, body)? }
            }
            b'T' => {
                let count = take_u32(body)?;
                take_byte(body)?;
                let relations = (0..count).map(|_| take_u32(body)).collect::<Result<_, _>>()?;
                Self::Truncate { relations }
            }
            b'Y' | b'O' | b'M' => Self::Other,
            _ => return Err(ConnectionError::Protocol("a message of pgoutput")),
        })
    }
}

fn take_byte(body: &mut Bytes) -> Result<u8, ConnectionError> {
    Ok(take(body, 1)?[0])
}

fn old_tuple(which: u8, body: &mut Bytes) -> Result<Old, ConnectionError> {
    match which {
        b'K' => Ok(Old::Key(tuple(body)?)),
        b'O' => Ok(Old::Whole(tuple(body)?)),
        _ => Err(ConnectionError::Protocol("an old row of no known kind")),
    }
}

fn tuple(body: &mut Bytes) -> Result<Tuple, ConnectionError> {
    let mut tuple = Vec::new();
    for _ in 0..take_u16(body)? {
        tuple.push(match take_byte(body)? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let length = take_u32(body)? as usize;
                Value::Text(take(body, length)?)
            }
            _ => return Err(ConnectionError::Protocol("a value of no known kind")),
        });
    }
    Ok(tuple)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut as _, BytesMut};

    #[test]
    fn a_message_cut_anywhere_is_an_error_and_no_panic() {
        let mut update = BytesMut::new();
        update.put_slice(b"U\0\0\0\x07K\0\x01t\0\0\0\x011N\0\x02t\0\0\0\x012u");
        let update = update.freeze();
        let whole = Message::read(update.clone()).unwrap();
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let expected = Message::Update {
            relation: 7,
            old: Some(Old::Key(vec![text("1")])),
            new: vec![text("2"), Value::Unchanged],
        };
        assert_eq!(whole, expected);
        for end in 0..update.len() {
            assert!(Message::read(update.slice(..end)).is_err(), "{end}");
        }
    }
}
