//! Values of columns as JSON: those of rows in the binlog, and those a query answers with. Both ways give the same text for
//! the same value, so that a row reads the same whether the snapshot or a change brought it.
//!
//! The bytes of rows are read here and not by the library, which reads a negative `time(2)` wrong and can't tell a column
//! of `binary` from one of `uuid`.

use crate::database::write_string;

use super::{
    schema::{Column, Kind},
    wire::{Malformed, Reader},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use mysql_async::{Value as Answer, binlog::jsonb};
use mysql_common::io::ParseBuf;
use serde_json::{Value, value::RawValue};
use std::{
    borrow::Cow,
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

/// How a column's values are written in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Int {
        bytes: usize,
    },
    Float,
    Double,
    Decimal {
        precision: usize,
        scale: usize,
    },
    Bit {
        bits: usize,
    },
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
    /// The forms of tables that are older than MySQL 5.6.
    OldTime,
    OldDateTime,
    OldTimestamp,
    /// After a length of so many bytes. What is `fixed` is as long as that, and comes without the padding at its end.
    Bytes {
        length: usize,
        fixed: Option<usize>,
    },
    Geometry {
        length: usize,
    },
    /// MySQL's own form of JSON.
    BinaryJson {
        length: usize,
    },
    Enum {
        bytes: usize,
    },
    Set {
        bytes: usize,
    },
}

impl Wire {
    /// Reads what a table map has of a column's type beside the type itself.
    pub(super) fn read(kind: u8, meta: &mut Reader<'_>) -> Result<Self, Malformed> {
        let digits = |meta: &mut Reader<'_>| meta.byte().map(usize::from);
        Ok(match kind {
            1 => Self::Int { bytes: 1 },
            2 => Self::Int { bytes: 2 },
            3 => Self::Int { bytes: 4 },
            8 => Self::Int { bytes: 8 },
            9 => Self::Int { bytes: 3 },
            4 => {
                meta.byte()?;
                Self::Float
            }
            5 => {
                meta.byte()?;
                Self::Double
            }
            246 => Self::Decimal { precision: meta.size(1)?, scale: meta.size(1)? },
            16 => {
                let (bits, bytes) = (meta.size(1)?, meta.size(1)?);
                Self::Bit { bits: bytes * 8 + bits }
            }
            13 => Self::Year,
            10 | 14 => Self::Date,
            7 => Self::OldTimestamp,
            11 => Self::OldTime,
            12 => Self::OldDateTime,
            17 => Self::Timestamp { digits: digits(meta)? },
            18 => Self::DateTime { digits: digits(meta)? },
            19 => Self::Time { digits: digits(meta)? },
            15 | 253 => Self::Bytes { length: if meta.little(2)? < 256 { 1 } else { 2 }, fixed: None },
            249..=252 => Self::Bytes { length: meta.size(1)?, fixed: None },
            255 => Self::Geometry { length: meta.size(1)? },
            245 => Self::BinaryJson { length: meta.size(1)? },
            247 | 248 | 254 => {
                let (first, second) = (meta.size(1)?, meta.size(1)?);
                match first {
                    247 => Self::Enum { bytes: second },
                    248 => Self::Set { bytes: second },
                    // The two upper bits of a length over 255 are in the type, upside down.
                    _ => {
                        let length = second | ((first & 0x30) ^ 0x30) << 4;
                        Self::Bytes { length: if length < 256 { 1 } else { 2 }, fixed: Some(length) }
                    }
                }
            }
            140 | 141 => return Err(Malformed("a column is stored COMPRESSED, which the binlog has as it is".into())),
            other => return Err(Malformed(format!("a column has the type {other}, which nobody knows here"))),
        })
    }

    /// Whether it has a bit among those that say which numbers are unsigned.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int { .. } | Self::Float | Self::Double | Self::Decimal { .. } | Self::Year)
    }

    /// Whether values of a column of this kind are written like that.
    pub(super) fn is_of(self, kind: &Kind) -> bool {
        match self {
            Self::Int { .. } => matches!(kind, Kind::Int),
            Self::Float | Self::Double => matches!(kind, Kind::Float),
            Self::Decimal { .. } => matches!(kind, Kind::Decimal),
            Self::Bit { .. } => matches!(kind, Kind::Bit),
            Self::Year => matches!(kind, Kind::Year),
            Self::Date => matches!(kind, Kind::Date),
            Self::Time { .. } | Self::OldTime => matches!(kind, Kind::Time { .. }),
            Self::DateTime { .. } | Self::OldDateTime => matches!(kind, Kind::DateTime { .. }),
            Self::Timestamp { .. } | Self::OldTimestamp => matches!(kind, Kind::Timestamp { .. }),
            Self::Bytes { .. } => {
                matches!(kind, Kind::Text(_) | Kind::Bytes | Kind::Json | Kind::Uuid | Kind::Inet4 | Kind::Inet6)
            }
            Self::Geometry { .. } => matches!(kind, Kind::Geometry),
            Self::BinaryJson { .. } => matches!(kind, Kind::Json),
            Self::Enum { .. } => matches!(kind, Kind::Enum(_)),
            Self::Set { .. } => matches!(kind, Kind::Set(_)),
        }
    }
}

/// Reads a value of a row and writes it as JSON.
pub(super) fn of_row(wire: Wire, column: &Column, row: &mut Reader<'_>, json: &mut String) -> Result<(), Malformed> {
    match wire {
        Wire::Int { bytes } => {
            let raw = row.little(bytes)?;
            let unused = 64 - 8 * bytes as u32;
            if column.unsigned { plain(raw, json) } else { plain((raw << unused) as i64 >> unused, json) }
        }
        Wire::Float => float(f32::from_bits(row.little(4)? as u32), json),
        Wire::Double => double(f64::from_bits(row.little(8)?), json),
        Wire::Decimal { precision, scale } => quoted(&decimal(precision, scale, row)?, json),
        Wire::Bit { bits } => plain(row.big(bits.div_ceil(8))?, json),
        Wire::Year => {
            let year = row.little(1)?;
            plain(if year == 0 { 0 } else { 1900 + year }, json);
        }
        Wire::Date => {
            let raw = row.little(3)?;
            quoted(&date(raw >> 9, raw >> 5 & 15, raw & 31), json);
        }
        Wire::Time { digits } => {
            // One number in two's complement around the middle; so a fraction of a negative time counts downwards too.
            let fraction = digits.div_ceil(2).min(3);
            let middle = 0x80_0000_i64 << (8 * fraction);
            let raw = row.big(3 + fraction)? as i64 - middle;
            let (whole, part) =
                (raw.unsigned_abs() >> (8 * fraction), raw.unsigned_abs() & ((1 << (8 * fraction)) - 1));
            let micros = part * 100_u64.pow(3 - fraction as u32);
            quoted(&time(raw < 0, whole >> 12 & 0x3ff, whole >> 6 & 0x3f, whole & 0x3f, micros, digits), json);
        }
        Wire::OldTime => {
            let raw = (row.little(3)? << 40) as i64 >> 40;
            let whole = raw.unsigned_abs();
            quoted(&time(raw < 0, whole / 10_000, whole / 100 % 100, whole % 100, 0, 0), json);
        }
        Wire::DateTime { digits } => {
            let raw = row.big(5)?.wrapping_sub(0x80_0000_0000);
            let (days, clock) = (raw >> 17, raw & 0x1_ffff);
            let months = days >> 5;
            let micros = fraction(digits, row)?;
            let clock = time(false, clock >> 12, clock >> 6 & 0x3f, clock & 0x3f, micros, digits);
            quoted(&format!("{}T{clock}", date(months / 13, months % 13, days & 31)), json);
        }
        Wire::OldDateTime => {
            let raw = row.little(8)?;
            let (days, clock) = (raw / 1_000_000, raw % 1_000_000);
            let clock = time(false, clock / 10_000, clock / 100 % 100, clock % 100, 0, 0);
            quoted(&format!("{}T{clock}", date(days / 10_000, days / 100 % 100, days % 100)), json);
        }
        Wire::Timestamp { digits } => {
            let seconds = row.big(4)?;
            quoted(&timestamp(seconds, fraction(digits, row)?, digits), json);
        }
        Wire::OldTimestamp => quoted(&timestamp(row.little(4)?, 0, 0), json),
        Wire::Bytes { length, fixed } => {
            let length = row.size(length)?;
            let mut bytes = Cow::Borrowed(row.take(length)?);
            let padded = matches!(column.kind, Kind::Bytes | Kind::Uuid | Kind::Inet4 | Kind::Inet6);
            if let Some(full) = fixed.filter(|full| padded && *full > length) {
                bytes.to_mut().resize(full, 0);
            }
            of_bytes(&bytes, column, json)?;
        }
        Wire::Geometry { length } => {
            let length = row.size(length)?;
            geometry(row.take(length)?, json);
        }
        Wire::BinaryJson { length } => {
            let length = row.size(length)?;
            binary_json(row.take(length)?, json)?;
        }
        Wire::Enum { bytes } => {
            let number = row.size(bytes)?;
            let Kind::Enum(names) = &column.kind else { return Err(other_kind(column)) };
            match number.checked_sub(1) {
                // What is no value of the enum is stored as number 0, and reads as an empty text.
                None => write_string("", json),
                Some(index) => write_string(names.get(index).ok_or_else(|| other_kind(column))?, json),
            }
        }
        Wire::Set { bytes } => {
            let bits = row.little(bytes)?;
            let Kind::Set(names) = &column.kind else { return Err(other_kind(column)) };
            let chosen = names.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
            list(chosen.map(|(_, name)| &**name), json);
        }
    }
    Ok(())
}

/// Passes over a value of a row, whatever it means.
pub(super) fn skip(wire: Wire, row: &mut Reader<'_>) -> Result<(), Malformed> {
    const LONE: Column = Column { name: String::new(), unsigned: false, kind: Kind::Bytes };
    match wire {
        Wire::Bytes { length, .. } | Wire::Geometry { length } | Wire::BinaryJson { length } => {
            let length = row.size(length)?;
            row.take(length)?;
        }
        Wire::Enum { bytes } | Wire::Set { bytes } => drop(row.take(bytes)?),
        _ => of_row(wire, &LONE, row, &mut String::new())?,
    }
    Ok(())
}

/// Writes a value of a query's answer as JSON. The session's time zone is UTC, and its texts are UTF-8.
pub(super) fn of_answer(answer: Answer, column: &Column, json: &mut String) -> Result<(), Malformed> {
    let digits = match column.kind {
        Kind::Time { digits } | Kind::DateTime { digits } | Kind::Timestamp { digits } => digits,
        _ => 0,
    };
    match (answer, &column.kind) {
        (Answer::NULL, _) => json.push_str("null"),
        (Answer::Int(number), _) => plain(number, json),
        (Answer::UInt(number), _) => plain(number, json),
        (Answer::Float(number), _) => float(number, json),
        (Answer::Double(number), _) => double(number, json),
        (Answer::Date(year, month, day, ..), Kind::Date) => {
            quoted(&date(year.into(), month.into(), day.into()), json);
        }
        (Answer::Date(year, month, day, hour, minute, second, micros), kind) => {
            let clock = time(false, hour.into(), minute.into(), second.into(), micros.into(), digits);
            let zone = if matches!(kind, Kind::Timestamp { .. }) { "Z" } else { "" };
            quoted(&format!("{}T{clock}{zone}", date(year.into(), month.into(), day.into())), json);
        }
        (Answer::Time(negative, days, hours, minutes, seconds, micros), _) => {
            let hours = u64::from(days) * 24 + u64::from(hours);
            quoted(&time(negative, hours, minutes.into(), seconds.into(), micros.into(), digits), json);
        }
        (Answer::Bytes(bytes), Kind::Bit) => plain(Reader(&bytes).big(bytes.len())?, json),
        (Answer::Bytes(bytes), Kind::Bytes) => base64(&bytes, json),
        (Answer::Bytes(bytes), Kind::Geometry) => geometry(&bytes, json),
        (Answer::Bytes(bytes), Kind::Json) => json_text(&bytes, json),
        (Answer::Bytes(bytes), Kind::Set(_)) => {
            list(String::from_utf8_lossy(&bytes).split(',').filter(|name| !name.is_empty()), json);
        }
        (Answer::Bytes(bytes), _) => write_string(&String::from_utf8_lossy(&bytes), json),
    }
    Ok(())
}

fn other_kind(column: &Column) -> Malformed {
    Malformed(format!("the values of the column `{}` are not those that the table's definition has", column.name))
}

fn of_bytes(bytes: &[u8], column: &Column, json: &mut String) -> Result<(), Malformed> {
    match &column.kind {
        Kind::Text(charset) => write_string(&charset.text(bytes), json),
        Kind::Json => json_text(bytes, json),
        Kind::Bytes => base64(bytes, json),
        Kind::Uuid => {
            let bytes: [u8; 16] = bytes.try_into().map_err(|_| other_kind(column))?;
            let digits = hex::encode(bytes);
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            quoted(&parts.join("-"), json);
        }
        Kind::Inet4 => {
            let bytes: [u8; 4] = bytes.try_into().map_err(|_| other_kind(column))?;
            quoted(&Ipv4Addr::from(bytes).to_string(), json);
        }
        Kind::Inet6 => {
            let bytes: [u8; 16] = bytes.try_into().map_err(|_| other_kind(column))?;
            quoted(&Ipv6Addr::from(bytes).to_string(), json);
        }
        _ => return Err(other_kind(column)),
    }
    Ok(())
}

fn plain(number: impl std::fmt::Display, json: &mut String) {
    let _ = write!(json, "{number}");
}

/// A text that has nothing to escape.
fn quoted(text: &str, json: &mut String) {
    let _ = write!(json, "\"{text}\"");
}

fn base64(bytes: &[u8], json: &mut String) {
    json.push('"');
    BASE64_STANDARD.encode_string(bytes, json);
    json.push('"');
}

fn list<'a>(texts: impl Iterator<Item = &'a str>, json: &mut String) {
    json.push('[');
    for (index, text) in texts.enumerate() {
        if index > 0 {
            json.push(',');
        }
        write_string(text, json);
    }
    json.push(']');
}

/// The shortest decimal number that is this one. Neither kind has infinities or NaN in these databases.
fn float(number: f32, json: &mut String) {
    plain(format_args!("{number:?}"), json);
}

fn double(number: f64, json: &mut String) {
    plain(format_args!("{number:?}"), json);
}

/// Digits, nine of them in four bytes and those that are left in as few as they need. The first bit is upside down, and
/// all of them are when the number is negative.
fn decimal(precision: usize, scale: usize, row: &mut Reader<'_>) -> Result<String, Malformed> {
    const BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
    let integer =
        precision.checked_sub(scale).ok_or_else(|| Malformed("a decimal has more scale than digits".into()))?;
    let groups = |digits: usize| digits / 9 * 4 + BYTES[digits % 9];
    let mut bytes = row.take(groups(integer) + groups(scale))?.to_vec();
    let first = bytes.first_mut().ok_or_else(|| Malformed("a decimal has no digits".into()))?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let mut digits = Reader(&bytes);
    let mut text = String::new();
    let mut group = |width: usize| -> Result<(), Malformed> {
        let number = digits.big(BYTES[width])?;
        let _ = write!(text, "{number:0width$}");
        Ok(())
    };
    let (first, last) = (integer % 9, scale % 9);
    if first > 0 {
        group(first)?;
    }
    (0..integer / 9 + scale / 9).try_for_each(|_| group(9))?;
    if last > 0 {
        group(last)?;
    }
    let (whole, part) = text.split_at(integer);
    let whole = whole.trim_start_matches('0');
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") })
}

/// The part of a second, in millionths.
fn fraction(digits: usize, row: &mut Reader<'_>) -> Result<u64, Malformed> {
    let bytes = digits.div_ceil(2).min(3);
    Ok(row.big(bytes)? * 100_u64.pow(3 - bytes as u32))
}

fn date(year: u64, month: u64, day: u64) -> String {
    format!("{year:04}-{month:02}-{day:02}")
}

fn time(negative: bool, hours: u64, minutes: u64, seconds: u64, micros: u64, digits: usize) -> String {
    let sign = if negative { "-" } else { "" };
    let mut text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}");
    if digits > 0 {
        let micros = format!("{micros:06}");
        text.push('.');
        text += &micros[..digits.min(6)];
    }
    text
}

/// Seconds since 1970 in UTC. Zero stands for the day that isn't one.
fn timestamp(seconds: u64, micros: u64, digits: usize) -> String {
    if seconds == 0 && micros == 0 {
        return format!("{}T{}Z", date(0, 0, 0), time(false, 0, 0, 0, 0, digits));
    }
    let (year, month, day) = day_of(seconds / 86_400);
    let clock = seconds % 86_400;
    let clock = time(false, clock / 3_600, clock / 60 % 60, clock % 60, micros, digits);
    format!("{}T{clock}Z", date(year, month, day))
}

/// The date that is so many days after 1970-01-01, counted from a March, so that a leap day comes last.
fn day_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Well-known binary after the number of its reference system.
fn geometry(bytes: &[u8], json: &mut String) {
    let (srid, wkb) = bytes.split_at_checked(4).unwrap_or((&[], bytes));
    let srid = srid.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let _ = write!(json, "{{\"srid\":{srid},\"wkb\":");
    base64(wkb, json);
    json.push('}');
}

/// A JSON column of MariaDB is a text, which a check sees to; where that was switched off it stays one. What is written is
/// the text itself, so that its numbers keep their digits.
fn json_text(bytes: &[u8], json: &mut String) {
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(raw) => json.push_str(raw.get()),
        Err(_) => write_string(&String::from_utf8_lossy(bytes), json),
    }
}

fn binary_json(bytes: &[u8], json: &mut String) -> Result<(), Malformed> {
    // An empty document is what an invalid default of an old server left there.
    if bytes.is_empty() {
        json.push_str("null");
        return Ok(());
    }
    let malformed = |error: &dyn std::fmt::Display| Malformed(format!("a JSON value can't be read: {error}"));
    let value: jsonb::Value<'_> = ParseBuf(bytes).parse(()).map_err(|error: std::io::Error| malformed(&error))?;
    plain(Value::try_from(value).map_err(|error| malformed(&error))?, json);
    Ok(())
}
