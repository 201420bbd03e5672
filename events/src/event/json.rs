//! The JSON format of events, and their JSON batches.
//!
//! Data is never turned into a tree: reading keeps the bytes between two members, writing puts them back. So JSON data
//! comes out as it went in, to the last space and digit, and costs one scan however deep it nests.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>

use super::{
    Builder, Data, Event, InvalidEvent, MAX_EXTENSIONS, SPEC_VERSION, Value, check_name, foreign_charset, is_json,
};
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// RFC 4648 §4. Some producers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Event {
    pub fn from_json(json: &[u8]) -> Result<Self, InvalidEvent> {
        match serde_json::from_slice::<Parsed>(json) {
            Ok(Parsed(parsed)) => parsed,
            Err(error) => Err(InvalidEvent::new("", format!("is no JSON object: {error}"))),
        }
    }

    /// The event in one JSON object. Its members have a fixed order: what every event has, other attributes, extensions by
    /// name, data. Data that is JSON keeps its own line breaks.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size() + 128);
        self.write_json(&mut out);
        out
    }

    /// Appends what [`Event::to_json`] answers.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":");
        write_string(out, SPEC_VERSION);
        for (name, text) in [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.kind),
            ("subject", &self.subject),
            ("time", &self.time),
            ("dataschema", &self.data_schema),
            ("datacontenttype", &self.data_content_type),
        ] {
            if !text.is_empty() {
                write_name(out, name);
                write_string(out, text);
            }
        }
        for (name, value) in self.extensions() {
            write_name(out, name);
            match value {
                Value::String(text) => write_string(out, text),
                other => out.extend_from_slice(other.text().as_bytes()),
            }
        }
        match &self.data {
            None => {}
            Some(Data::Json(json)) => {
                write_name(out, "data");
                out.extend_from_slice(json);
            }
            Some(Data::Text(text)) => {
                write_name(out, "data");
                write_string(out, std::str::from_utf8(text).expect("text data is UTF-8"));
            }
            Some(Data::Binary(bytes)) => {
                write_name(out, "data_base64");
                write_base64(out, bytes);
            }
        }
        out.push(b'}');
    }
}

/// Reads a batch. An event that is none doesn't spoil the others; a batch that is no JSON array does.
pub fn batch_from_json(json: &[u8]) -> Result<Vec<Result<Event, InvalidEvent>>, InvalidEvent> {
    if let Ok(events) = serde_json::from_slice::<Vec<Parsed>>(json) {
        return Ok(events.into_iter().map(|Parsed(event)| event).collect());
    }
    // Either the array is broken, or something in it is no object. Telling them apart takes a second scan, which every
    // batch would pay for if it were the only way.
    let events: Vec<&RawValue> = serde_json::from_slice(json)
        .map_err(|error| InvalidEvent::new("", format!("batch is no JSON array of events: {error}")))?;
    Ok(events.into_iter().map(|event| Event::from_json(event.get().as_bytes())).collect())
}

pub fn batch_to_json<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u8> {
    let mut out = vec![b'['];
    for event in events {
        if out.len() > 1 {
            out.push(b',');
        }
        event.write_json(&mut out);
    }
    out.push(b']');
    out
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes()); // names need no escapes
    out.extend_from_slice(b"\":");
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = base64::encoded_len(bytes.len(), true).expect("four thirds of what is in memory can be counted");
    out.push(b'"');
    let start = out.len();
    out.resize(start + length, 0);
    BASE64.encode_slice(bytes, &mut out[start..]).expect("there is room for it");
    out.push(b'"');
}

/// What a JSON object turned out to be. The error of an event is not an error of the parser, which would wrap it into a
/// text, and which has to read on to the end of the object either way.
struct Parsed(Result<Event, InvalidEvent>);

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

struct Members;

/// A member's name, borrowed unless it is written with escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Members {
    type Value = Result<Event, InvalidEvent>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one event (several are a batch, which has a media type of its own)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut draft = Draft::default();
        while let Some(Name(name)) = members.next_key()? {
            if let Err(invalid) = draft.member(name, members.next_value()?) {
                while members.next_entry::<IgnoredAny, &RawValue>()?.is_some() {}
                return Ok(Err(invalid));
            }
        }
        Ok(draft.finish())
    }
}

#[derive(Default)]
struct Draft<'a> {
    builder: Builder,
    data: Option<&'a RawValue>,
    data_base64: Option<&'a RawValue>,
    /// Members that are `null`: as good as absent, but there all the same when they come again.
    nulls: Vec<Cow<'a, str>>,
}

impl<'a> Draft<'a> {
    fn member(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), InvalidEvent> {
        let slot = match &*name {
            "data" => Some(&mut self.data),
            "data_base64" => Some(&mut self.data_base64),
            _ => None,
        };
        if let Some(slot) = slot {
            // Whether a `null` is data depends on a content type that may be yet to come.
            return match slot.replace(value) {
                None => Ok(()),
                Some(_) => Err(InvalidEvent::new(&name, "is there twice")),
            };
        }
        if self.nulls.contains(&name) {
            return Err(InvalidEvent::new(&name, "is there twice"));
        }
        match attribute(value.get()).map_err(|reason| InvalidEvent::new(&name, reason))? {
            Some(value) => self.builder.attribute(&name, value),
            None if self.builder.has(&name) => Err(InvalidEvent::new(&name, "is there twice")),
            None if self.nulls.len() > MAX_EXTENSIONS => {
                Err(InvalidEvent::new(&name, "is one `null` too many: leave out what is absent"))
            }
            None => {
                check_name(&name).map_err(|reason| InvalidEvent::new(&name, reason))?;
                self.nulls.push(name);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Result<Event, InvalidEvent> {
        let base64 = self.data_base64.map(RawValue::get).filter(|base64| *base64 != "null");
        let bytes = match (self.data.map(RawValue::get), base64) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err(InvalidEvent::new(
                    "data_base64",
                    "is there together with `data`: an event has one of them",
                ));
            }
            (None, Some(base64)) => Some(bytes(base64).map_err(|reason| InvalidEvent::new("data_base64", reason))?),
            (Some(json), None) => {
                // §3.1.2. What has no content type is JSON here, and nowhere else: it has to say so from now on.
                if !self.builder.has("datacontenttype") {
                    self.builder.attribute("datacontenttype", "application/json")?;
                }
                let content_type = &self.builder.event.data_content_type;
                if is_json(content_type) {
                    // Scanned already, as part of the object.
                    let json = Bytes::copy_from_slice(json.as_bytes());
                    return self.builder.finish(Some(Data::Json(json)));
                }
                not_json(content_type, json).map_err(|reason| InvalidEvent::new("data", reason))?
            }
        };
        self.builder.build(bytes)
    }
}

/// §2.2. `None` is `null`.
fn attribute(json: &str) -> Result<Option<Value>, String> {
    Ok(Some(match json.as_bytes().first() {
        Some(b'"') => Value::String(string(json)?.into_owned()),
        Some(b't') => Value::Boolean(true),
        Some(b'f') => Value::Boolean(false),
        Some(b'n') => return Ok(None),
        // JSON's grammar is behind us: what `i32` takes beyond it (`+5`, `007`) can't be here. `-0` is 0.
        Some(b'-' | b'0'..=b'9') => match json.parse() {
            Ok(number) => Value::Integer(number),
            Err(_) => {
                return Err("is no whole number from -2147483648 to 2147483647: write other numbers as strings".into());
            }
        },
        _ => {
            return Err(
                "is an array or object: attributes are strings, booleans and whole numbers, the rest is data".into()
            );
        }
    }))
}

/// The text of a JSON string that is known to be well-formed.
fn string(json: &str) -> Result<Cow<'_, str>, String> {
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        // Escapes have the right form, or the object would not have been read; what is left to go wrong is a surrogate.
        _ => serde_json::from_str(json).map(Cow::Owned).map_err(|_| "holds an unpaired surrogate".into()),
    }
}

/// The bytes that a `data` member stands for whose content type isn't JSON. `None` is no data.
fn not_json(content_type: &str, json: &str) -> Result<Option<Bytes>, String> {
    if json == "null" {
        return Ok(None); // there is no such thing as a `null` in XML
    }
    if !json.starts_with('"') {
        // Against the letter of its own content type. Refusing it would be allowed; its JSON text is what was meant.
        return Ok(Some(Bytes::copy_from_slice(json.as_bytes())));
    }
    let text = string(json)?;
    match foreign_charset(content_type) {
        // Every charset in use but the wide ones agrees with UTF-8 on ASCII. More would take a table for each of them.
        Some(charset)
            if !text.is_ascii() || charset.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("utf-")) =>
        {
            Err(format!(
                "can't be written in `{}`, the charset of `datacontenttype`: use `data_base64` or UTF-8",
                super::shown(charset)
            ))
        }
        _ => Ok(Some(Bytes::from(text.into_owned()))),
    }
}

fn bytes(json: &str) -> Result<Bytes, String> {
    if !json.starts_with('"') {
        return Err("is no string: it holds bytes in base64".into());
    }
    match BASE64.decode(string(json)?.as_bytes()) {
        Ok(bytes) => Ok(Bytes::from(bytes)),
        Err(error) => Err(format!("is no base64 (RFC 4648 §4): {error}")),
    }
}

/// The JSON format. Works with `serde_json` alone, and not inside untagged or flattened types: both ways go around a tree.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json = self.to_json();
        serde_json::from_slice::<&RawValue>(&json).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// See `Serialize`.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Owned, so that it works from readers too.
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(json.get().as_bytes()).map_err(serde::de::Error::custom)
    }
}
