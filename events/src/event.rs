//! The event: CloudEvents 1.0.2, always valid.
//!
//! An [`Event`] can't be made without passing the rules of the specification, so nobody checks one again. How events look
//! on the wire is in [`json`] (the JSON format and its batches) and [`http`] (the HTTP binding); other bindings gather
//! attributes in a [`Builder`].
//!
//! The one design choice: **what kind of data an event holds follows from its content type and its bytes, and from nothing
//! else** ([`Data`]). So an event can be taken apart into attributes and bytes (an HTTP message, a row, a Kafka record) and
//! put together again without a note of how it came. The price is that JSON data which came without a content type gets
//! the `application/json` it implies; the specification calls the two equivalent.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>

pub mod http;
pub mod json;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use schemars::JsonSchema;
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt, net::Ipv6Addr, ops::Range};

/// The `specversion` of every event.
pub const SPEC_VERSION: &str = "1.0";
/// All attributes of an event together, names and values, in bytes. What the specification asks everybody to forward is
/// 64 KiB for a whole event.
pub const MAX_ATTRIBUTES: usize = 64 * 1024;
/// The extension attributes of an event.
pub const MAX_EXTENSIONS: usize = 128;
/// The length of an attribute's name; the specification advises 20 and sets no limit.
pub const MAX_NAME: usize = 64;

/// One CloudEvent. Always valid.
// The attributes are `Box<str>`, and the core ones empty when absent (none of them may be empty): that keeps an event at
// 184 bytes, and events are moved between queues more often than they are changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    id: Box<str>,
    source: Box<str>,
    kind: Box<str>,
    subject: Box<str>,
    time: Box<str>,
    data_schema: Box<str>,
    data_content_type: Box<str>,
    /// Sorted by name.
    extensions: Vec<(Box<str>, Value)>,
    data: Option<Data>,
    /// Bytes of all names and values above, without `specversion`.
    attributes: usize,
}

/// The value of an extension attribute, as far as the wire tells types apart: bytes, URIs and times arrive as strings, and
/// over HTTP everything does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Boolean(bool),
    Integer(i32),
    String(String),
}

/// The data of an event.
///
/// | content type | bytes | data |
/// | --- | --- | --- |
/// | absent | any | `Binary` |
/// | `*/json`, `*/*+json` | JSON | `Json` |
/// | | anything else | refused |
/// | bytes by nature (`image/*`, `application/octet-stream`, protobuf, …), or a `charset` other than UTF-8 | any | `Binary` |
/// | any other | UTF-8 | `Text` |
/// | | anything else | `Binary` |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// One JSON text without white space around it, byte for byte as it came.
    Json(Bytes),
    /// UTF-8.
    Text(Bytes),
    Binary(Bytes),
}

/// Why something is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", Culprit(attribute))]
pub struct InvalidEvent {
    /// The attribute, by its CloudEvents name, `data` or `data_base64`; empty when it is the event as a whole.
    pub attribute: String,
    /// What is wrong with it and what would be right, to be read after its name: "is missing".
    pub reason: String,
}

struct Culprit<'a>(&'a str);

impl fmt::Display for Culprit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("the event") } else { write!(f, "`{}`", self.0) }
    }
}

impl InvalidEvent {
    fn new(attribute: &str, reason: impl Into<String>) -> Self {
        Self { attribute: shown(attribute), reason: reason.into() }
    }
}

/// A text from outside as an error repeats it: short, and without what would upset a terminal.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_NAME).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_NAME).is_some() {
        shown.push('…');
    }
    shown
}

impl Event {
    /// An event with the attributes every event has. `kind` is its `type`.
    pub fn new(
        id: impl Into<String>,
        source: impl Into<String>,
        kind: impl Into<String>,
    ) -> Result<Self, InvalidEvent> {
        let mut event = Self::empty();
        event.put("id", id.into().into())?;
        event.put("source", source.into().into())?;
        event.put("type", kind.into().into())?;
        Ok(event)
    }

    /// Not valid: for those who put in what is required before they let it out.
    fn empty() -> Self {
        let none = || Box::<str>::from("");
        Self {
            id: none(),
            source: none(),
            kind: none(),
            subject: none(),
            time: none(),
            data_schema: none(),
            data_content_type: none(),
            extensions: Vec::new(),
            data: None,
            attributes: 0,
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The attribute `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn subject(&self) -> Option<&str> {
        present(&self.subject)
    }

    /// An RFC 3339 time, as its producer wrote it.
    pub fn time(&self) -> Option<&str> {
        present(&self.time)
    }

    pub fn data_schema(&self) -> Option<&str> {
        present(&self.data_schema)
    }

    pub fn data_content_type(&self) -> Option<&str> {
        present(&self.data_content_type)
    }

    /// The extension `partitionkey`: events of a topic with the same key run one after another.
    pub fn partition_key(&self) -> Option<&str> {
        match self.extension("partitionkey") {
            Some(Value::String(key)) => Some(key),
            _ => None,
        }
    }

    pub fn extension(&self, name: &str) -> Option<&Value> {
        self.find(name).ok().map(|at| &self.extensions[at].1)
    }

    /// The extensions, by name.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.extensions.iter().map(|(name, value)| (&**name, value))
    }

    /// Any attribute, `specversion` and extensions among them, by its CloudEvents name and as text.
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match (name, self.core(name)) {
            ("specversion", _) => Some(SPEC_VERSION.into()),
            (_, Some(text)) => present(text).map(Cow::Borrowed),
            (_, None) => self.extension(name).map(Value::text),
        }
    }

    /// All attributes that are present as their names and texts: the required ones first, extensions last and by name.
    /// What bindings write that give each attribute a header of its own.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let core = [
            ("specversion", SPEC_VERSION),
            ("id", &*self.id),
            ("source", &*self.source),
            ("type", &*self.kind),
            ("subject", &*self.subject),
            ("time", &*self.time),
            ("dataschema", &*self.data_schema),
            ("datacontenttype", &*self.data_content_type),
        ];
        let core =
            core.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name, Cow::Borrowed(text)));
        core.chain(self.extensions().map(|(name, value)| (name, value.text())))
    }

    pub fn data(&self) -> Option<&Data> {
        self.data.as_ref()
    }

    /// About how many bytes the event takes: names and values of its attributes, and its data.
    pub fn size(&self) -> usize {
        self.attributes + self.data.as_ref().map_or(0, |data| data.bytes().len())
    }

    pub fn set_subject(&mut self, subject: impl Into<String>) -> Result<(), InvalidEvent> {
        self.put("subject", subject.into().into())
    }

    /// `time` is an RFC 3339 time: `2026-01-31T12:00:00.5+01:00`.
    pub fn set_time(&mut self, time: impl Into<String>) -> Result<(), InvalidEvent> {
        self.put("time", time.into().into())
    }

    pub fn set_data_schema(&mut self, uri: impl Into<String>) -> Result<(), InvalidEvent> {
        self.put("dataschema", uri.into().into())
    }

    /// Sets an extension; `set_attribute` takes any attribute.
    pub fn set_extension(&mut self, name: &str, value: impl Into<Value>) -> Result<(), InvalidEvent> {
        if name == "specversion" || self.core(name).is_some() {
            return Err(InvalidEvent::new(name, "is no extension: the specification defines it"));
        }
        self.put(name, value.into())
    }

    pub fn remove_extension(&mut self, name: &str) -> Option<Value> {
        let (name, value) = self.extensions.remove(self.find(name).ok()?);
        self.attributes -= name.len() + value.len();
        Some(value)
    }

    /// Sets any attribute by its CloudEvents name. Where it fails, the event is as it was.
    pub fn set_attribute(&mut self, name: &str, value: impl Into<Value>) -> Result<(), InvalidEvent> {
        self.put(name, value.into())
    }

    /// Sets the data and the `datacontenttype`. See [`Data`] for what is made of the bytes; without a content type nothing
    /// is assumed about them, even if they happen to be JSON.
    pub fn set_data(&mut self, content_type: Option<&str>, bytes: Bytes) -> Result<(), InvalidEvent> {
        let data = classify(content_type.unwrap_or_default(), bytes)?;
        let before = self.data.take();
        let set = match content_type {
            Some(content_type) => self.put("datacontenttype", Value::from(content_type)),
            None => {
                self.attributes -= weight("datacontenttype", self.data_content_type.len());
                self.data_content_type = "".into();
                Ok(())
            }
        };
        self.data = if set.is_ok() { Some(data) } else { before };
        set
    }

    /// Takes the data away. The `datacontenttype` stays.
    pub fn remove_data(&mut self) -> Option<Data> {
        self.data.take()
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.extensions.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// The attributes the specification defines, `specversion` aside; empty where absent.
    fn core(&self, name: &str) -> Option<&str> {
        Some(match name {
            "id" => &self.id,
            "source" => &self.source,
            "type" => &self.kind,
            "subject" => &self.subject,
            "time" => &self.time,
            "dataschema" => &self.data_schema,
            "datacontenttype" => &self.data_content_type,
            _ => return None,
        })
    }

    fn core_mut(&mut self, name: &str) -> Option<&mut Box<str>> {
        Some(match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.kind,
            "subject" => &mut self.subject,
            "time" => &mut self.time,
            "dataschema" => &mut self.data_schema,
            "datacontenttype" => &mut self.data_content_type,
            _ => return None,
        })
    }

    /// The one way in for every attribute.
    fn put(&mut self, name: &str, value: Value) -> Result<(), InvalidEvent> {
        let invalid = |reason: String| InvalidEvent::new(name, reason);
        if name == "specversion" {
            return match value {
                Value::String(version) if version == SPEC_VERSION => Ok(()),
                other => Err(invalid(format!("is `{}`; only \"{SPEC_VERSION}\" can be read", shown(&other.text())))),
            };
        }
        if let Some(before) = self.core(name).map(str::len) {
            let mut text = value.string().map_err(invalid)?;
            check_core(name, &text).map_err(invalid)?;
            if name == "datacontenttype" {
                text.truncate(text.trim_end().len());
            }
            let attributes = self.grown(name, weight(name, before), weight(name, text.len()))?;
            if name == "datacontenttype"
                && let Some(data) = &self.data
            {
                self.data = Some(classify(&text, data.bytes().clone())?);
            }
            self.attributes = attributes;
            *self.core_mut(name).expect("`core` has it") = text.into();
            return Ok(());
        }
        check_name(name).map_err(invalid)?;
        if name == "partitionkey" {
            let Value::String(key) = &value else { return value.string().map(drop).map_err(invalid) };
            not_empty(key).map_err(invalid)?;
        }
        if let Value::String(text) = &value {
            check_text(text).map_err(invalid)?;
        }
        let (at, length) = (self.find(name), value.len());
        match at {
            Ok(at) => {
                self.attributes = self.grown(name, self.extensions[at].1.len(), length)?;
                self.extensions[at].1 = value;
            }
            Err(_) if self.extensions.len() == MAX_EXTENSIONS => {
                return Err(invalid(format!("is one too many: an event has at most {MAX_EXTENSIONS} extensions")));
            }
            Err(at) => {
                self.attributes = self.grown(name, 0, name.len() + length)?;
                self.extensions.insert(at, (name.into(), value));
            }
        }
        Ok(())
    }

    /// What `attributes` is after one of them changed from `before` to `after` bytes.
    fn grown(&self, name: &str, before: usize, after: usize) -> Result<usize, InvalidEvent> {
        let grown = self.attributes - before + after;
        if grown <= MAX_ATTRIBUTES {
            Ok(grown)
        } else {
            let reason = format!("makes the attributes exceed {MAX_ATTRIBUTES} bytes together: what is large is data");
            Err(InvalidEvent::new(name, reason))
        }
    }
}

fn present(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// What a core attribute adds to the size of its event: nothing when it is absent.
fn weight(name: &str, length: usize) -> usize {
    if length == 0 { 0 } else { name.len() + length }
}

/// Gathers the attributes of an event that comes in pieces, as headers or members in any order.
#[derive(Debug, Clone)]
pub struct Builder {
    event: Event,
    version: bool,
}

impl Default for Builder {
    fn default() -> Self {
        Self { event: Event::empty(), version: false }
    }
}

impl Builder {
    /// Adds an attribute, `specversion` and `datacontenttype` among them. Each may come once.
    pub fn attribute(&mut self, name: &str, value: impl Into<Value>) -> Result<(), InvalidEvent> {
        if self.has(name) {
            return Err(InvalidEvent::new(name, "is there twice"));
        }
        self.event.put(name, value.into())?;
        self.version |= name == "specversion";
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        match self.event.core(name) {
            Some(text) => !text.is_empty(),
            None if name == "specversion" => self.version,
            None => self.event.find(name).is_ok(),
        }
    }

    /// The event, if it has all it needs. No data and empty data are two things: where a protocol can't tell them apart,
    /// `data` is `None`.
    pub fn build(self, data: Option<Bytes>) -> Result<Event, InvalidEvent> {
        let data = data.map(|bytes| classify(&self.event.data_content_type, bytes)).transpose()?;
        self.finish(data)
    }

    /// The event, with data that is what [`classify`] would answer.
    fn finish(mut self, data: Option<Data>) -> Result<Event, InvalidEvent> {
        for (name, there) in [
            ("specversion", self.version),
            ("id", self.has("id")),
            ("source", self.has("source")),
            ("type", self.has("type")),
        ] {
            if !there {
                let reason = "is missing: every event has `specversion`, `id`, `source` and `type`";
                return Err(InvalidEvent::new(name, reason));
            }
        }
        self.event.data = data;
        Ok(self.event)
    }
}

impl Value {
    /// The canonical string of CloudEvents: `true`, `-5`, or the string itself.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::String(text) => Cow::Borrowed(text),
        }
    }

    fn len(&self) -> usize {
        self.text().len()
    }

    /// The value of an attribute that is always a string.
    fn string(self) -> Result<String, String> {
        match self {
            Self::String(text) => Ok(text),
            Self::Boolean(_) => Err(format!("is a boolean; write the string \"{}\"", self.text())),
            Self::Integer(_) => Err(format!("is a number; write the string \"{}\"", self.text())),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl Data {
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// The table at [`Data`]. An empty content type is an absent one.
fn classify(content_type: &str, bytes: Bytes) -> Result<Data, InvalidEvent> {
    if is_json(content_type) {
        return match serde_json::from_slice::<&RawValue>(&bytes) {
            // White space around the text is no part of the value, and the JSON format could not keep it.
            Ok(json) => Ok(Data::Json(bytes.slice_ref(json.get().as_bytes()))),
            Err(error) => {
                let reason = format!("is not JSON, as `datacontenttype` `{}` has it: {error}", shown(content_type));
                Err(InvalidEvent::new("data", reason))
            }
        };
    }
    let text = !content_type.is_empty()
        && !is_bytes(essence(content_type))
        && foreign_charset(content_type).is_none()
        && std::str::from_utf8(&bytes).is_ok();
    Ok(if text { Data::Text(bytes) } else { Data::Binary(bytes) })
}

/// A content type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// JSON format §3.1.1: the subtype is `json` or ends in `+json`.
fn is_json(content_type: &str) -> bool {
    let subtype = essence(content_type).split_once('/').map_or("", |(_, subtype)| subtype);
    subtype.eq_ignore_ascii_case("json") || ends_with(subtype, "+json")
}

fn ends_with(text: &str, end: &str) -> bool {
    let at = text.len().checked_sub(end.len());
    // Bytes, not `str` slices: the text may hold anything.
    at.is_some_and(|at| text.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes()))
}

/// Media types whose content is bytes even where it happens to be UTF-8, so that a producer's events don't change between
/// `data` and `data_base64` with what is in them.
fn is_bytes(media_type: &str) -> bool {
    const SUBTYPES: [&str; 18] = [
        "octet-stream",
        "pdf",
        "zip",
        "gzip",
        "zstd",
        "wasm",
        "cbor",
        "avro",
        "vnd.apache.avro+binary",
        "msgpack",
        "x-msgpack",
        "vnd.msgpack",
        "protobuf",
        "x-protobuf",
        "vnd.google.protobuf",
        "vnd.apache.parquet",
        "vnd.apache.arrow.stream",
        "vnd.apache.thrift.compact",
    ];
    const ENDS: [&str; 8] = [".binary", "+binary", "+protobuf", "+avro", "+cbor", "+zip", "+gzip", "+zstd"];
    let Some((kind, subtype)) = media_type.split_once('/') else { return false };
    ["image", "audio", "video", "font"].iter().any(|media| kind.eq_ignore_ascii_case(media))
        && !ends_with(subtype, "+xml")
        || SUBTYPES.iter().any(|known| subtype.eq_ignore_ascii_case(known))
        || ENDS.iter().any(|end| ends_with(subtype, end))
}

/// The `charset` of a content type, where it is another than UTF-8.
fn foreign_charset(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, charset) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let charset = charset.trim().trim_matches('"');
    let utf8 = ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known));
    (!utf8).then_some(charset)
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("is empty: give it a value or leave it out".into()) } else { Ok(()) }
}

/// The rules of the attributes that the specification defines.
fn check_core(name: &str, text: &str) -> Result<(), String> {
    not_empty(text)?;
    check_text(text)?;
    match name {
        "source" => check_uri(text).map(drop),
        "dataschema" => match check_uri(text)? {
            true => Ok(()),
            false => Err("is no absolute URI: it begins with a scheme, as `https://` or `urn:`".into()),
        },
        "time" if !is_time(text) => {
            Err(format!("is `{}`, which is no RFC 3339 time; write `2026-01-31T12:00:00Z`", shown(text)))
        }
        "datacontenttype" => check_media_type(text),
        _ => Ok(()),
    }
}

/// §"Attribute naming convention". The name `data` belongs to the formats.
fn check_name(name: &str) -> Result<(), String> {
    let valid = name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if name.is_empty() {
        Err("has an attribute without a name".into())
    } else if !valid {
        Err(format!("is no attribute name: use 1 to {MAX_NAME} of a-z and 0-9"))
    } else if name == "data" {
        Err("is no attribute name: it is kept for the event's data".into())
    } else {
        Ok(())
    }
}

/// §"Type system", `String`. Rust's strings hold no surrogates; what unpaired ones look like is the formats' to know.
fn check_text(text: &str) -> Result<(), String> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Ok(());
    }
    for c in text.chars() {
        let (code, refused) = match c {
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => (c as u32, "control character"),
            '\u{fdd0}'..='\u{fdef}' => (c as u32, "noncharacter"),
            _ if c as u32 & 0xfffe == 0xfffe => (c as u32, "noncharacter"),
            _ => continue,
        };
        return Err(format!("holds U+{code:04X}, a {refused}: attributes hold printable text"));
    }
    Ok(())
}

/// RFC 2046, as far as it matters here: `type/subtype`, then parameters nobody but the consumer reads. ASCII, because HTTP
/// writes it into a header as it is.
fn check_media_type(text: &str) -> Result<(), String> {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let valid = text.is_ascii()
        && !text.starts_with(' ')
        && essence(text).split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if valid {
        Ok(())
    } else {
        Err(format!(
            "is `{}`, which is no media type; write `application/json` or `text/plain; charset=utf-8`",
            shown(text)
        ))
    }
}

/// RFC 3986 §4.1, a URI-reference; answers whether it has a scheme, so whether it is a URI.
fn check_uri(text: &str) -> Result<bool, String> {
    let no_uri = |why: &str| format!("is `{}`, which is no URI-reference: {why}", shown(text));
    for (at, c) in text.char_indices() {
        let digits = || text.as_bytes().get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit));
        match c {
            '%' if !digits() => return Err(no_uri("`%` is followed by two hexadecimal digits, or written `%25`")),
            'a'..='z' | 'A'..='Z' | '0'..='9' | '%' => {}
            _ if "-._~:/?#[]@!$&'()*+,;=".contains(c) => {}
            _ => return Err(no_uri(&format!("`{}` has to be percent-encoded", c.escape_debug()))),
        }
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.find([':', '/']).filter(|at| rest.as_bytes()[*at] == b':') {
        Some(colon) => (Some(&rest[..colon]), &rest[colon + 1..]),
        None => (None, rest),
    };
    if let Some(scheme) = scheme
        && !(scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)))
    {
        return Err(no_uri("what comes before its first `:` is no scheme; write `%3A`"));
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    if fragment.contains('#') {
        return Err(no_uri("it has two `#`; write `%23`"));
    }
    if [path, query, fragment].iter().any(|part| part.contains(['[', ']'])) {
        return Err(no_uri("`[` and `]` belong around an IPv6 address; write `%5B` and `%5D`"));
    }
    if !is_authority(authority) {
        return Err(no_uri("after `//` come a host and perhaps a port"));
    }
    Ok(scheme.is_some())
}

/// RFC 3986 §3.2. An empty one is fine: `file:///tmp`.
fn is_authority(text: &str) -> bool {
    let (user, server) = text.rsplit_once('@').unwrap_or(("", text));
    let (host, port) = match server.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) if address.parse::<Ipv6Addr>().is_ok() || address.starts_with(['v', 'V']) => {
            ("", port)
        }
        Some(_) => return false,
        None => server.split_at(server.find(':').unwrap_or(server.len())),
    };
    let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
    !user.contains(['@', '[', ']'])
        && !host.contains(['[', ']'])
        && port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

/// RFC 3339 §5.6, leap seconds (which are in the last minute of a day in UTC) and any precision included.
// By hand: crates that read times round to what their type can hold, and an event keeps the text.
fn is_time(text: &str) -> bool {
    parse_time(text).is_some()
}

fn parse_time(text: &str) -> Option<()> {
    let digits = |range: Range<usize>| {
        let part = text.get(range)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse::<i32>().ok() } else { None }
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let bytes = text.as_bytes();
    let marks = [bytes[4], bytes[7], bytes[10].to_ascii_uppercase(), bytes[13], bytes[16]] == *b"--T::";

    let mut zone = text.get(19..)?;
    if let Some(fraction) = zone.strip_prefix('.') {
        let end = fraction.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        zone = &fraction[end..];
    }
    let start = text.len() - zone.len();
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(start + 1..start + 3)?, digits(start + 4..start + 6)?);
            let offset = if hours < 24 && minutes < 60 { hours * 60 + minutes } else { return None };
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    let leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap_year => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    let last_minute = (hour * 60 + minute - offset).rem_euclid(24 * 60) == 24 * 60 - 1;
    let valid =
        marks && (1..=days).contains(&day) && hour < 24 && minute < 60 && (second < 60 || second == 60 && last_minute);
    valid.then_some(())
}

impl JsonSchema for Event {
    fn schema_name() -> Cow<'static, str> {
        "Event".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "description": "A CloudEvents 1.0 event in its JSON format; further members are extension attributes.",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": { "const": "1.0" },
                "id": { "type": "string", "minLength": 1 },
                "source": { "type": "string", "minLength": 1, "format": "uri-reference" },
                "type": { "type": "string", "minLength": 1 },
                "subject": { "type": ["string", "null"], "minLength": 1 },
                "time": { "type": ["string", "null"], "format": "date-time" },
                "dataschema": { "type": ["string", "null"], "minLength": 1, "format": "uri" },
                "datacontenttype": { "type": ["string", "null"], "minLength": 1 },
                "data": true,
                "data_base64": { "type": ["string", "null"], "contentEncoding": "base64" },
            },
            "additionalProperties": { "type": ["string", "boolean", "integer", "null"] },
        })
    }
}
