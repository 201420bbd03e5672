//! Reading files record by record: lines, and records of separated values, which may have lines within.
//!
//! Records are read in pieces that fit a transaction. Each piece says where the next begins, so reading goes on there
//! after a crash. A record that is longer than an event may be is left out, and counted.

use super::{
    folder::Found,
    inbox::{Inbox, Opened},
    memory::Progress,
};
use csv_core::ReadRecordResult;
use dunlin_events::manifest::Lines;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use tokio::{runtime::Handle, sync::mpsc};

/// The longest record.
const LONGEST: usize = 1 << 20;
/// A piece has no more records, and no more bytes of them, once it has so many.
const PIECE: (usize, usize) = (500, 1 << 20);
/// Bytes before a place that tell whether it is still the place it was.
const TAIL: u64 = 1 << 10;

/// A record of a file.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    /// Counted from 1.
    pub(super) number: u64,
    /// Where it begins, in bytes.
    pub(super) at: u64,
    /// Its content type, and its bytes.
    pub(super) kind: &'static str,
    pub(super) data: Vec<u8>,
}

/// Some records of a file, in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Piece {
    pub(super) records: Vec<Record>,
    /// Where the next begins.
    pub(super) at: u64,
    /// How many there were up to here, those that were left out among them.
    pub(super) number: u64,
    /// Of this piece, records that were too long.
    pub(super) lost: u64,
    pub(super) tail: u64,
    /// Whether nothing follows.
    pub(super) last: bool,
}

/// Reads a file from where `progress` says, if it is the same file before that, or else from its beginning. `known` is
/// whether it has the stamp that `progress` was made with. The first message says from where.
pub(super) fn read(
    inbox: Inbox,
    file: Found,
    format: Lines,
    progress: Progress,
    known: bool,
) -> mpsc::Receiver<io::Result<Message>> {
    let (sender, receiver) = mpsc::channel(2);
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let told = |message| sender.blocking_send(message).is_ok();
        if let Err(error) = pieces(&inbox, &runtime, &file, format, &progress, known, told) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

#[derive(Debug)]
pub(super) enum Message {
    /// It goes on where it was.
    Resumed,
    /// It is read from its beginning.
    Anew,
    Piece(Piece),
    /// It is another file by now.
    Changed,
}

fn pieces(
    inbox: &Inbox,
    runtime: &Handle,
    file: &Found,
    format: Lines,
    progress: &Progress,
    known: bool,
    told: impl Fn(io::Result<Message>) -> bool,
) -> io::Result<()> {
    let Some(opened) = inbox.read(file, runtime)? else {
        told(Ok(Message::Changed));
        return Ok(());
    };
    let same = progress.at <= file.stamp.size && (known || is_grown(file, &opened, progress)?);
    let resumed = progress.at > 0 && same;
    let (at, number) = if resumed { (progress.at, progress.records) } else { (0, 0) };
    if !told(Ok(if resumed { Message::Resumed } else { Message::Anew })) {
        return Ok(());
    }
    let mut reader = Reader::new(opened, format, at, number)?;
    loop {
        let mut piece = reader.piece()?;
        piece.tail = tail(reader.file.get_ref(), piece.at)?;
        let last = piece.last;
        if !told(Ok(Message::Piece(piece))) || last {
            return Ok(());
        }
    }
}

/// Whether a file was only added to. An object can't be: it is another then.
fn is_grown(file: &Found, opened: &Opened, progress: &Progress) -> io::Result<bool> {
    Ok(file.etag.is_none() && tail(opened, progress.at)? == progress.tail)
}

/// A digest of the bytes before a place.
fn tail(file: &Opened, at: u64) -> io::Result<u64> {
    let bytes = match file.bytes(at.saturating_sub(TAIL), at) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(0),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
        Err(error) => return Err(error),
    };
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    Ok(u64::from_le_bytes(digest[..8].try_into().expect("8 of 32 bytes")))
}

/// Reads records of one file.
struct Reader {
    file: BufReader<Opened>,
    at: u64,
    number: u64,
    format: Format,
}

enum Format {
    Lines { json: bool },
    Values { parser: Box<csv_core::Reader>, fields: Vec<String>, kind: &'static str },
}

/// One record as it was read.
enum Next {
    Record {
        kind: &'static str,
        data: Vec<u8>,
        /// Bytes before it that are left of line breaks.
        skipped: u64,
    },
    Lost,
    /// Nothing that counts: an empty line.
    Nothing,
    End,
}

impl Reader {
    fn new(file: Opened, format: Lines, at: u64, number: u64) -> io::Result<Self> {
        let values = |delimiter, kind| {
            let parser = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
            Format::Values { parser: Box::new(parser), fields: Vec::new(), kind }
        };
        let format = match format {
            Lines::Csv => values(b',', "text/csv"),
            Lines::Ssv => values(b';', "text/csv"),
            Lines::Tsv => values(b'\t', "text/tab-separated-values"),
            Lines::Ndjson => Format::Lines { json: true },
            Lines::Text => Format::Lines { json: false },
        };
        let mut reader = Self { file: BufReader::with_capacity(64 << 10, file), at: 0, number, format };
        reader.file.seek(SeekFrom::Start(0))?;
        reader.skip_mark()?;
        if let Format::Values { .. } = reader.format {
            // The header tells what later records mean, so it is read again.
            reader.read_header()?;
        }
        if at > 0 {
            reader.file.seek(SeekFrom::Start(at))?;
            reader.at = at;
        }
        Ok(reader)
    }

    /// Passes over the mark of UTF-8 that some programs begin a file with.
    fn skip_mark(&mut self) -> io::Result<()> {
        if self.file.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            self.file.consume(3);
            self.at = 3;
        }
        Ok(())
    }

    fn piece(&mut self) -> io::Result<Piece> {
        let mut piece = Piece::default();
        let mut bytes = 0;
        while piece.records.len() + usize::try_from(piece.lost).unwrap_or(usize::MAX) < PIECE.0 && bytes < PIECE.1 {
            let at = self.at;
            match self.next()? {
                Next::Record { kind, data, skipped } => {
                    self.number += 1;
                    bytes += data.len();
                    piece.records.push(Record { number: self.number, at: at + skipped, kind, data });
                }
                Next::Lost => {
                    self.number += 1;
                    piece.lost += 1;
                }
                Next::Nothing => {}
                Next::End => {
                    piece.last = true;
                    break;
                }
            }
        }
        (piece.at, piece.number) = (self.at, self.number);
        Ok(piece)
    }

    fn next(&mut self) -> io::Result<Next> {
        match &self.format {
            Format::Lines { json } => {
                let json = *json;
                self.line(json)
            }
            Format::Values { .. } => self.values(),
        }
    }

    fn line(&mut self, json: bool) -> io::Result<Next> {
        let mut line = Vec::new();
        let read = (&mut self.file).take(LONGEST as u64 + 2).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(Next::End);
        }
        self.at += read as u64;
        if line.last() != Some(&b'\n') && read > LONGEST {
            self.skip_line()?;
            return Ok(Next::Lost);
        }
        while line.pop_if(|last| matches!(last, b'\n' | b'\r')).is_some() {}
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Next::Nothing);
        }
        Ok(Next::Record { kind: if json { "application/json" } else { "text/plain" }, data: line, skipped: 0 })
    }

    /// Passes over the rest of a line, however long it is.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let block = self.file.fill_buf()?;
            let end = block.iter().position(|byte| *byte == b'\n');
            let (length, done) = (end.map_or(block.len(), |end| end + 1), end.is_some() || block.is_empty());
            self.file.consume(length);
            self.at += length as u64;
            if done {
                return Ok(());
            }
        }
    }

    fn read_header(&mut self) -> io::Result<()> {
        let Some((_, values)) = self.split()? else { return Ok(()) };
        let Format::Values { fields, .. } = &mut self.format else { return Ok(()) };
        for value in values.unwrap_or_default() {
            let name = String::from_utf8_lossy(&value).trim().to_owned();
            // Of two fields with one name the second would hide the first.
            let taken = fields.iter().filter(|known| **known == name).count();
            fields.push(if taken == 0 { name } else { format!("{name}_{}", taken + 1) });
        }
        Ok(())
    }

    /// The next record as an object of its fields; as it stands where it doesn't fit the header.
    fn values(&mut self) -> io::Result<Next> {
        let Some((mut raw, values)) = self.split()? else { return Ok(Next::End) };
        let Some(values) = values else { return Ok(Next::Lost) };
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let begin = raw.iter().position(|byte| !is_break(byte)).unwrap_or_default();
        let end = raw.iter().rposition(|byte| !is_break(byte)).map_or(begin, |last| last + 1);
        let Format::Values { fields, kind, .. } = &self.format else { return Ok(Next::End) };
        let texts: Option<Vec<_>> = values.into_iter().map(|value| String::from_utf8(value).ok()).collect();
        Ok(match texts {
            Some(texts) if texts.len() == fields.len() => {
                let object: Map<_, _> = fields.iter().cloned().zip(texts.into_iter().map(Value::from)).collect();
                let data = Value::Object(object).to_string().into_bytes();
                Next::Record { kind: "application/json", data, skipped: begin as u64 }
            }
            _ => {
                raw.truncate(end);
                Next::Record { kind, data: raw.split_off(begin), skipped: begin as u64 }
            }
        })
    }

    /// The next record's bytes, and its fields; without these where it is too long. `None` at the end.
    #[allow(clippy::type_complexity, reason = "it is used twice, right here")]
    fn split(&mut self) -> io::Result<Option<(Vec<u8>, Option<Vec<Vec<u8>>>)>> {
        let Format::Values { parser, .. } = &mut self.format else { return Ok(None) };
        let (mut raw, mut output, mut ends) = (Vec::new(), vec![0; 4 << 10], vec![0; 64]);
        let (mut written, mut ended, mut lost) = (0, 0, false);
        loop {
            let block = self.file.fill_buf()?;
            let (result, read, wrote, ends_wrote) =
                parser.read_record(block, &mut output[written..], &mut ends[ended..]);
            if !lost {
                raw.extend_from_slice(&block[..read]);
            }
            self.file.consume(read);
            self.at += read as u64;
            written += wrote;
            ended += ends_wrote;
            if raw.len() > LONGEST || lost {
                // What it is made of doesn't matter any more: the same room is used again.
                (lost, written, ended) = (true, 0, 0);
                raw.clear();
            }
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => output.resize(output.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => ends.resize(ends.len() * 2, 0),
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        if lost {
            return Ok(Some((raw, None)));
        }
        let mut from = 0;
        let field = |end: &usize| output[std::mem::replace(&mut from, *end)..*end].to_vec();
        let values = ends[..ended].iter().map(field).collect();
        Ok(Some((raw, Some(values))))
    }
}
