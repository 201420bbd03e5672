//! PostgreSQL's values as JSON.
//!
//! A value comes as the text its type writes. What JSON can hold without loss becomes JSON: integers, floats that are
//! numbers, booleans, JSON itself, arrays, ranges and composites of these. All else is a string: `numeric` and `money`,
//! since most readers of JSON make a float of a number; NaN and the infinities; times, in ISO 8601; `bytea`, in base64.
//! What is written is JSON text and not a tree of values, so that a number in a `json` column keeps its digits.

use crate::database::write_string;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{fmt::Write as _, sync::Arc};

/// What a type's values become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Float,
    Json,
    Bytes,
    Timestamp,
    TimestampWithZone,
    /// Any type whose text is a string.
    Text,
    Array {
        of: Arc<Kind>,
        delimiter: u8,
    },
    Range(Arc<Kind>),
    Multirange(Arc<Kind>),
    Composite(Arc<[(String, Kind)]>),
}

impl Kind {
    /// A type every server has, by its object id; `None` for those that are made of others, or made by users.
    pub(super) const fn built_in(oid: u32) -> Option<Self> {
        Some(match oid {
            16 => Self::Boolean,
            20 | 21 | 23 | 26 | 28 | 29 => Self::Integer,
            700 | 701 => Self::Float,
            114 | 3802 => Self::Json,
            17 => Self::Bytes,
            1114 => Self::Timestamp,
            1184 => Self::TimestampWithZone,
            // char, name, text, xml, bpchar, varchar, money, numeric, date, time, timetz, interval, uuid, inet, cidr, macaddr
            18 | 19 | 25 | 142 | 1042 | 1043 | 790 | 1700 | 1082 | 1083 | 1266 | 1186 | 2950 | 869 | 650 | 829 => {
                Self::Text
            }
            _ => return None,
        })
    }

    /// Writes a value as JSON.
    pub(super) fn write(&self, text: &str, json: &mut String) {
        match self {
            Self::Boolean => json.push_str(if text == "t" || text == "true" { "true" } else { "false" }),
            Self::Integer => json.push_str(text),
            Self::Float => write_float(text, json),
            Self::Json => write_json(text, json),
            Self::Bytes => write_bytes(text, json),
            Self::Timestamp => write_string(&timestamp(text).unwrap_or_else(|| text.to_owned()), json),
            Self::TimestampWithZone => {
                let written = timestamp(text).and_then(|text| text.strip_suffix("+00").map(|utc| format!("{utc}Z")));
                write_string(&written.unwrap_or_else(|| text.to_owned()), json);
            }
            Self::Text => write_string(text, json),
            Self::Array { of, delimiter } => {
                if write_array(text, of, *delimiter, json).is_none() {
                    write_string(text, json);
                }
            }
            Self::Range(of) => {
                let before = json.len();
                if write_range(&mut Scanner { text, at: 0 }, of, json) != Some(text.len()) {
                    json.truncate(before);
                    write_string(text, json);
                }
            }
            Self::Multirange(of) => {
                if write_multirange(text, of, json).is_none() {
                    write_string(text, json);
                }
            }
            Self::Composite(fields) => {
                if write_composite(text, fields, json).is_none() {
                    write_string(text, json);
                }
            }
        }
    }
}

/// JSON has no NaN and no infinities: they are strings.
fn write_float(text: &str, json: &mut String) {
    match text {
        "NaN" | "Infinity" | "-Infinity" => write_string(text, json),
        number => json.push_str(number),
    }
}

/// What is JSON already. What serde would refuse, deeper than it goes, stays a string.
fn write_json(text: &str, json: &mut String) {
    match serde_json::from_str::<&serde_json::value::RawValue>(text) {
        Ok(raw) => json.push_str(raw.get()),
        Err(_) => write_string(text, json),
    }
}

fn write_bytes(text: &str, json: &mut String) {
    match text.strip_prefix("\\x").and_then(|digits| hex::decode(digits).ok()) {
        Some(bytes) => {
            json.push('"');
            STANDARD.encode_string(bytes, json);
            json.push('"');
        }
        None => write_string(text, json),
    }
}

/// `2026-11-24 12:00:00` with a `T`. Infinities, and times before Christ, have no other form.
fn timestamp(text: &str) -> Option<String> {
    let (date, time) = text.split_once(' ').filter(|(date, time)| date.len() >= 10 && !time.contains(' '))?;
    Some(format!("{date}T{time}"))
}

/// Reads the texts of which arrays, ranges and composites are made.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A value up to one of `ends`, and whether it was quoted. Within quotes a quote is doubled or has a backslash before.
    fn value(&mut self, ends: &[u8]) -> Option<(String, bool)> {
        let mut bytes = Vec::new();
        let (mut quoted, mut inside) = (false, false);
        loop {
            let byte = self.peek()?;
            if !inside && ends.contains(&byte) {
                return Some((String::from_utf8(bytes).ok()?, quoted));
            }
            self.at += 1;
            match byte {
                b'\\' => {
                    bytes.push(self.peek()?);
                    self.at += 1;
                }
                b'"' if inside && self.peek() == Some(b'"') => {
                    bytes.push(b'"');
                    self.at += 1;
                }
                b'"' => {
                    inside = !inside;
                    quoted = true;
                }
                other => bytes.push(other),
            }
        }
    }
}

/// `{1,NULL,{..}}`, which may begin with its bounds: `[0:2]={..}`.
fn write_array(text: &str, of: &Kind, delimiter: u8, json: &mut String) -> Option<()> {
    let start = text.find('{')?;
    let mut written = String::with_capacity(text.len());
    let mut scanner = Scanner { text, at: start };
    write_elements(&mut scanner, of, delimiter, &mut written)?;
    if scanner.at != text.len() {
        return None;
    }
    json.push_str(&written);
    Some(())
}

fn write_elements(scanner: &mut Scanner<'_>, of: &Kind, delimiter: u8, json: &mut String) -> Option<()> {
    if !scanner.eat(b'{') {
        return None;
    }
    json.push('[');
    let mut first = true;
    while !scanner.eat(b'}') {
        if !first {
            if !scanner.eat(delimiter) {
                return None;
            }
            json.push(',');
        }
        first = false;
        if scanner.peek() == Some(b'{') {
            write_elements(scanner, of, delimiter, json)?;
            continue;
        }
        let (value, quoted) = scanner.value(&[delimiter, b'}'])?;
        if !quoted && value == "NULL" {
            json.push_str("null");
        } else {
            of.write(&value, json);
        }
    }
    json.push(']');
    Some(())
}

/// `[1,10)` or `empty`. An absent bound is null. Answers where it ends.
fn write_range(scanner: &mut Scanner<'_>, of: &Kind, json: &mut String) -> Option<usize> {
    if scanner.text[scanner.at..].starts_with("empty") {
        json.push_str(r#"{"empty":true}"#);
        scanner.at += 5;
        return Some(scanner.at);
    }
    let open = scanner.peek().filter(|byte| matches!(byte, b'[' | b'('))?;
    scanner.at += 1;
    json.push_str(r#"{"lower":"#);
    write_bound(scanner.value(b",")?, of, json);
    scanner.at += 1;
    json.push_str(r#","upper":"#);
    write_bound(scanner.value(b"])")?, of, json);
    let close = scanner.peek()?;
    scanner.at += 1;
    let _ = write!(json, r#","bounds":"{}{}"}}"#, char::from(open), char::from(close));
    Some(scanner.at)
}

fn write_bound((value, quoted): (String, bool), of: &Kind, json: &mut String) {
    if value.is_empty() && !quoted { json.push_str("null") } else { of.write(&value, json) }
}

/// `{[1,3),[5,7)}`.
fn write_multirange(text: &str, of: &Kind, json: &mut String) -> Option<()> {
    let mut scanner = Scanner { text, at: 0 };
    let mut written = String::from("[");
    if !scanner.eat(b'{') {
        return None;
    }
    while !scanner.eat(b'}') {
        if written.len() > 1 {
            if !scanner.eat(b',') {
                return None;
            }
            written.push(',');
        }
        write_range(&mut scanner, of, &mut written)?;
    }
    written.push(']');
    json.push_str(&written);
    Some(())
}

/// `(1,"a b",)`: an empty field that isn't quoted is null.
fn write_composite(text: &str, fields: &[(String, Kind)], json: &mut String) -> Option<()> {
    let mut scanner = Scanner { text, at: 0 };
    let mut written = String::from("{");
    if !scanner.eat(b'(') {
        return None;
    }
    for (index, (name, kind)) in fields.iter().enumerate() {
        if index > 0 {
            if !scanner.eat(b',') {
                return None;
            }
            written.push(',');
        }
        write_string(name, &mut written);
        written.push(':');
        write_bound(scanner.value(b",)")?, kind, &mut written);
    }
    if !scanner.eat(b')') || scanner.at != text.len() {
        return None;
    }
    written.push('}');
    json.push_str(&written);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: &Kind, text: &str, expected: serde_json::Value) {
        let mut json = String::new();
        kind.write(text, &mut json);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).unwrap_or_else(|e| panic!("{e}: {json}")),
            expected
        );
    }

    #[test]
    fn texts_that_are_made_of_others_come_apart() {
        use serde_json::json;
        let integers = Kind::Array { of: Arc::new(Kind::Integer), delimiter: b',' };
        let texts = Kind::Array { of: Arc::new(Kind::Text), delimiter: b',' };
        check(&integers, "{}", json!([]));
        check(&integers, "{{1,2},{3,NULL}}", json!([[1, 2], [3, null]]));
        check(&integers, "[0:1]={5,6}", json!([5, 6]));
        check(&texts, r#"{"a,b","NULL",NULL,"q\"\\","ü {"}"#, json!(["a,b", "NULL", null, "q\"\\", "ü {"]));
        let range = Kind::Range(Arc::new(Kind::Integer));
        check(&range, "[1,10)", json!({ "lower": 1, "upper": 10, "bounds": "[)" }));
        check(&range, "(,)", json!({ "lower": null, "upper": null, "bounds": "()" }));
        check(&range, "empty", json!({ "empty": true }));
        let times = Kind::Range(Arc::new(Kind::TimestampWithZone));
        let expected = json!({ "lower": "2026-01-01T00:00:00Z", "upper": null, "bounds": "[)" });
        check(&times, r#"["2026-01-01 00:00:00+00",)"#, expected);
        let ranges = Kind::Multirange(Arc::new(Kind::Integer));
        let two = json!([{ "lower": 1, "upper": 3, "bounds": "[)" }, { "lower": 5, "upper": 7, "bounds": "[)" }]);
        check(&ranges, "{[1,3),[5,7)}", two);
        check(&ranges, "{}", json!([]));
        let pair = Kind::Composite([("n".to_owned(), Kind::Integer), ("t".to_owned(), Kind::Text)].into());
        check(&pair, r#"(1,"a ""b"", c")"#, json!({ "n": 1, "t": "a \"b\", c" }));
        check(&pair, "(,\"\")", json!({ "n": null, "t": "" }));
        // What does not read as its type says stays what it was.
        check(&integers, "{1,2", json!("{1,2"));
        check(&pair, "(1)", json!("(1)"));
        check(&range, "[1,", json!("[1,"));
    }

    #[test]
    fn what_json_can_not_hold_is_a_string() {
        use serde_json::json;
        for text in ["NaN", "Infinity", "-Infinity"] {
            check(&Kind::Float, text, json!(text));
        }
        check(&Kind::Float, "1.5e+300", json!(1.5e300));
        check(&Kind::Bytes, "\\x00ff10", json!("AP8Q"));
        check(&Kind::TimestampWithZone, "2026-11-24 12:00:00.123456+00", json!("2026-11-24T12:00:00.123456Z"));
        check(&Kind::TimestampWithZone, "infinity", json!("infinity"));
        check(&Kind::TimestampWithZone, "0044-03-15 00:00:00+00 BC", json!("0044-03-15 00:00:00+00 BC"));
        check(&Kind::Timestamp, "2026-11-24 12:00:00", json!("2026-11-24T12:00:00"));
        let mut json = String::new();
        Kind::Json.write(r#"{"n": 123456789012345678901234567890.1}"#, &mut json);
        assert_eq!(json, r#"{"n": 123456789012345678901234567890.1}"#);
        check(&Kind::Json, &"[".repeat(3), json!("[[["));
    }
}
