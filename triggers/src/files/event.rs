//! The events of files and of their records.
//!
//! An event's data is what is in the file, so that a function handles a dropped file as it does any other event; what the
//! file is stands in attributes. The id is a digest of what tells this state of this file from every other.

use super::{content::Content, folder::Found, inbox::Inbox, name, records::Record};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use dunlin_events::{Event, event::InvalidEvent};
use sha2::{Digest as _, Sha256};
use std::{os::unix::ffi::OsStrExt as _, path::Path};

/// The types of its events.
pub(super) const FILE: &str = "dunlin.file";
const RECORD: &str = "dunlin.file.record";

/// The event of a file.
pub(super) fn of_file(inbox: &Inbox, file: &Found, id: String, content: Content) -> Result<Event, InvalidEvent> {
    let mut event = about(inbox, file, id, FILE)?;
    if let Some(sha256) = content.sha256 {
        event.set_extension("filesha256", hex::encode(sha256))?;
    }
    match content.data {
        Some(data) => put(&mut event, content_type(&file.path), data)?,
        None => event.set_attribute("datacontenttype", content_type(&file.path))?,
    }
    Ok(event)
}

/// The event of a record.
pub(super) fn of_record(inbox: &Inbox, file: &Found, id: &str, record: Record) -> Result<Event, InvalidEvent> {
    let mut event = about(inbox, file, format!("{id}-{}", record.number), RECORD)?;
    event.set_extension("filerecord", record.number.to_string())?;
    event.set_extension("fileposition", record.at.to_string())?;
    put(&mut event, record.kind, record.data)?;
    Ok(event)
}

fn about(inbox: &Inbox, file: &Found, id: String, kind: &str) -> Result<Event, InvalidEvent> {
    let path = name::written(&file.path);
    let mut event = Event::new(id, inbox.uri(), kind)?;
    event.set_time(humantime::format_rfc3339_nanos(file.stamp.modified()).to_string())?;
    event.set_extension("filesize", file.stamp.size.to_string())?;
    if let Some(etag) = &file.etag {
        event.set_extension("fileetag", &**etag)?;
    }
    // Where the function can open it: as it is, or not at all.
    if let Some(location) = inbox.location(&file.path) {
        let _ = event.set_extension("filelocation", location);
    }
    if file.path.to_str() != Some(&*path) {
        event.set_extension("filepathbase64", BASE64_STANDARD.encode(file.path.as_os_str().as_bytes()))?;
    }
    // Changes of one file are handled in their order.
    event.set_extension("partitionkey", path.clone())?;
    event.set_subject(path)?;
    Ok(event)
}

/// Data of this type, if it is what it says; else as text, or as bytes.
fn put(event: &mut Event, kind: &str, data: Vec<u8>) -> Result<(), InvalidEvent> {
    let data = Bytes::from(data);
    let text = if std::str::from_utf8(&data).is_ok() { "text/plain" } else { "application/octet-stream" };
    event.set_data(Some(kind), data.clone()).or_else(|_| event.set_data(Some(text), data))
}

/// What tells this state of this file from every other; with its content's digest or ETag where that is known.
pub(super) fn id(file: &Found, content: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(file.path.as_os_str().as_bytes())
        .chain_update([0])
        .chain_update(file.stamp.bytes())
        .chain_update(file.changed.0.to_le_bytes())
        .chain_update(file.changed.1.to_le_bytes())
        .chain_update(content);
    hex::encode(&digest.finalize()[..16])
}

/// What a file of this name holds, by its ending.
fn content_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match &*ending {
        "json" => "application/json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "txt" | "log" => "text/plain",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "xml" => "application/xml",
        "yaml" | "yml" => "application/yaml",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "parquet" => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}
