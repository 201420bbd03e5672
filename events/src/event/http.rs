//! The HTTP binding of events, for requests and responses alike: binary, structured and batched messages.
//!
//! It knows headers and whole bodies, no server and no client. We write binary messages: the data goes through as it is,
//! and what reads no CloudEvents still finds its body and content type.
//!
//! <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>

use super::{Builder, Event, InvalidEvent, foreign_charset, json::batch_from_json};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use std::borrow::Cow;

/// The content type of one event in the JSON format.
pub const STRUCTURED: &str = "application/cloudevents+json";
/// The content type of a JSON batch.
pub const BATCH: &str = "application/cloudevents-batch+json";
/// What the content types of all formats begin with.
const FORMATS: &str = "application/cloudevents";
/// What the header of every attribute but `datacontenttype` begins with.
const PREFIX: &str = "ce-";

/// What an HTTP message brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    One(Event),
    /// Each event of the batch, or why it is none.
    Batch(Vec<Result<Event, InvalidEvent>>),
}

/// Why an HTTP message brought no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    #[error("not a CloudEvent: send `ce-` headers, or the content type `{STRUCTURED}` or `{BATCH}`")]
    NotAnEvent,
    /// Answer 415.
    #[error("`{0}` is no event format that can be read: send `{STRUCTURED}` or `{BATCH}` in UTF-8, or `ce-` headers")]
    UnsupportedMediaType(String),
    /// Answer 415.
    #[error("the body has the content encoding `{0}`: send it without one")]
    UnsupportedEncoding(String),
    #[error(transparent)]
    Invalid(#[from] InvalidEvent),
}

impl HttpError {
    pub const fn retryable(&self) -> bool {
        false
    }
}

enum Mode {
    Binary,
    Structured,
    Batch,
    Unknown,
}

/// Whether a message says that it is an event, right or wrong.
pub fn is_event(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion") || !matches!(mode(headers), Mode::Binary)
}

/// The event or events of a message. The body must have no content encoding (gzip, say) any more.
pub fn from_http(headers: &HeaderMap, body: Bytes) -> Result<Received, HttpError> {
    let mode = mode(headers);
    if matches!(mode, Mode::Binary) && !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Err(HttpError::NotAnEvent);
    }
    // Kept as data, the bytes would outlive the header that explains them.
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(HttpError::UnsupportedEncoding(super::shown(&String::from_utf8_lossy(encoding.as_bytes()))));
    }
    match mode {
        Mode::Binary => Ok(Received::One(from_binary(headers, body)?)),
        Mode::Structured => Ok(Received::One(Event::from_json(&body)?)),
        Mode::Batch => Ok(Received::Batch(batch_from_json(&body)?)),
        Mode::Unknown => {
            let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            Err(HttpError::UnsupportedMediaType(super::shown(&String::from_utf8_lossy(content_type))))
        }
    }
}

/// The message of an event: headers and body.
///
/// It is a binary one, with one exception: an event whose own data is an event or a batch (a dead letter that holds what
/// failed, say) would be taken for that, so it is wrapped into a structured message.
pub fn to_http(event: &Event) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::with_capacity(8 + event.extensions.len());
    if is_format(event.data_content_type.as_bytes()) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
        return (headers, event.to_json().into());
    }
    for (name, text) in event.attributes() {
        let (header, value) = match name {
            "datacontenttype" => (CONTENT_TYPE, text),
            _ => (header_name(name), encode(&text)),
        };
        headers.insert(header, HeaderValue::from_str(&value).expect("it is printable ASCII"));
    }
    (headers, event.data().map(|data| data.bytes().clone()).unwrap_or_default())
}

fn header_name(attribute: &str) -> HeaderName {
    match attribute {
        "specversion" => HeaderName::from_static("ce-specversion"),
        "id" => HeaderName::from_static("ce-id"),
        "source" => HeaderName::from_static("ce-source"),
        "type" => HeaderName::from_static("ce-type"),
        "subject" => HeaderName::from_static("ce-subject"),
        "time" => HeaderName::from_static("ce-time"),
        _ => HeaderName::try_from(format!("{PREFIX}{attribute}"))
            .expect("attribute names are lowercase letters and digits"),
    }
}

/// §3: the content type tells the modes apart.
fn mode(headers: &HeaderMap) -> Mode {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return Mode::Binary };
    if !is_format(content_type.as_bytes()) {
        return Mode::Binary;
    }
    match content_type.to_str() {
        Ok(text) if foreign_charset(text).is_some() => Mode::Unknown,
        Ok(text) if super::essence(text).eq_ignore_ascii_case(STRUCTURED) => Mode::Structured,
        Ok(text) if super::essence(text).eq_ignore_ascii_case(BATCH) => Mode::Batch,
        _ => Mode::Unknown,
    }
}

fn is_format(content_type: &[u8]) -> bool {
    content_type.get(..FORMATS.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORMATS.as_bytes()))
}

fn from_binary(headers: &HeaderMap, body: Bytes) -> Result<Event, InvalidEvent> {
    let mut builder = Builder::default();
    for (header, value) in headers {
        if header == CONTENT_TYPE {
            // Not percent-encoded: this header is HTTP's own.
            let text = value.to_str().map_err(|_| InvalidEvent::new("datacontenttype", "is not ASCII"))?;
            builder.attribute("datacontenttype", text.trim())?;
        } else if let Some(name) = header.as_str().strip_prefix(PREFIX) {
            if name == "datacontenttype" {
                return Err(InvalidEvent::new(name, "is the `content-type` header and has no `ce-` header"));
            }
            let text = decode(value.as_bytes()).map_err(|reason| InvalidEvent::new(name, reason))?;
            builder.attribute(name, text)?;
        }
    }
    // HTTP can't tell an empty body from none. Without a content type nothing is known of the data, and nothing guessed:
    // that what has none is JSON holds inside the JSON format only.
    builder.build((!body.is_empty()).then_some(body))
}

/// §3.1.3.2: percent-encodes space, `"`, `%` and what isn't printable ASCII.
fn encode(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b'!'..=b'~') && b != b'"' && b != b'%';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 32);
    for b in text.bytes() {
        if plain(b) {
            encoded.push(b as char);
        } else {
            encoded.extend(['%', hex_digit(b >> 4), hex_digit(b & 15)]);
        }
    }
    Cow::Owned(encoded)
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

/// The reverse: unquotes, which only older producers need, then undoes one round of percent-encoding.
///
/// The SDK for Go, as of its version 2.16, encodes nothing: what it sends beyond ASCII is UTF-8, and its percent signs are
/// just that. So both are taken for what they must be.
fn decode(value: &[u8]) -> Result<String, String> {
    let value = value.trim_ascii();
    if !value.is_ascii() {
        let text = std::str::from_utf8(value).map_err(|_| "is not UTF-8: percent-encode it".to_owned());
        return text.map(str::to_owned);
    }
    let value = if value.first() == Some(&b'"') { Cow::Owned(unquote(value)?) } else { Cow::Borrowed(value) };
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = &value[..];
    while let Some((&b, after)) = rest.split_first() {
        if b != b'%' {
            decoded.push(b);
            rest = after;
            continue;
        }
        let mut byte = [0];
        match after.split_at_checked(2).filter(|(pair, _)| hex::decode_to_slice(pair, &mut byte).is_ok()) {
            Some((_, after)) => {
                decoded.push(byte[0]);
                rest = after;
            }
            None => {
                decoded.push(b);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| "is not UTF-8 after percent-decoding".into())
}

/// RFC 7230 §3.2.6, for a value that begins with a double quote.
fn unquote(value: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::with_capacity(value.len());
    let mut bytes = value.iter().skip(1);
    while let Some(&b) = bytes.next() {
        match b {
            b'"' if bytes.len() == 0 => return Ok(text),
            b'"' => break,
            b'\\' => match bytes.next() {
                Some(&escaped) => text.push(escaped),
                None => break,
            },
            _ => text.push(b),
        }
    }
    Err("begins with a double quote that isn't closed at its end: write `%22`".into())
}
