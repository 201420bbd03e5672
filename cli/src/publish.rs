//! `dunlin publish`: events into a topic, one from the command line or many from a file or pipe.
//!
//! Many go in their order: a request with as many as have come, and the next when that one is on disk. A thread reads and
//! checks lines meanwhile, so what is waited for is the slower of input and platform. A line that is no event stops it
//! there, with all before it published: whoever mends the line goes on from it.

use crate::{
    client::{CallError, Client, SOON, ServerArgs, full},
    output::{event_counter, print, tell},
    report::Failure,
};
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use dunlin_events::{
    Event,
    event::{InvalidEvent, http::STRUCTURED},
    topics::{Offset, TopicName},
};
use dunlin_gateway::api::{ProblemDocument, PublishResponse, Published};
use http::{Method, header};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::Path,
    str::FromStr,
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::{io::AsyncReadExt as _, sync::mpsc};
use uuid::Uuid;

/// Publish events to a topic.
///
/// One event is made of the options. With --ndjson events come one a line: CloudEvents in JSON, or with --type any JSON,
/// which becomes the data of an event of that type. They are published in their order, and are on disk when it ends.
///
/// A topic takes an event once: of those with a `source` and `id` it has already nothing is added.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin publish orders --type order.created --data '{\"id\":7}' --key customer-12
  dunlin publish scans --type scan.done --data @page.png --content-type image/png
  dunlin publish orders --ndjson < events.ndjson
  jq -c '.rows[]' export.json | dunlin publish rows --ndjson --type row.imported")]
pub(crate) struct PublishArgs {
    /// The topic.
    topic: TopicName,
    /// The event's type, such as `order.created`.
    #[arg(long = "type", short = 't', value_name = "TYPE", required_unless_present = "ndjson")]
    kind: Option<String>,
    /// The event's data: a text, @FILE for a file's content, or - for stdin. With --ndjson, where the lines are [default: -]
    #[arg(long, short, value_name = "DATA")]
    data: Option<String>,
    /// The media type of the data [default: application/json if it is JSON, else text/plain or application/octet-stream]
    #[arg(long, value_name = "TYPE", conflicts_with = "ndjson")]
    content_type: Option<String>,
    /// The event's id [default: a new UUID]
    #[arg(long, conflicts_with = "ndjson")]
    id: Option<String>,
    /// Where the event comes from, a URI reference [default: dunlin-cli]
    #[arg(long, value_name = "URI", requires = "kind")]
    source: Option<String>,
    /// What the event is about, within its source.
    #[arg(long, requires = "kind")]
    subject: Option<String>,
    /// Its `partitionkey`: events of the same key are handled one after another.
    #[arg(long, requires = "kind")]
    key: Option<String>,
    /// Another attribute, as `name=value`. Can be given more than once.
    #[arg(long = "attribute", short, value_name = "ATTRIBUTE", requires = "kind")]
    attributes: Vec<Attribute>,
    /// Publish an event for each line.
    #[arg(long)]
    ndjson: bool,
    /// Print a JSON object for each event.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attribute(String, String);

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as `name=value`")?;
        Ok(Self(name.to_owned(), value.to_owned()))
    }
}

/// What the command line says of every event.
#[derive(Debug, Clone)]
struct Template {
    kind: String,
    source: String,
    subject: Option<String>,
    key: Option<String>,
    attributes: Vec<Attribute>,
}

impl Template {
    fn of(args: &PublishArgs) -> Option<Self> {
        Some(Self {
            kind: args.kind.clone()?,
            source: args.source.clone().unwrap_or_else(|| "dunlin-cli".into()),
            subject: args.subject.clone(),
            key: args.key.clone(),
            attributes: args.attributes.clone(),
        })
    }

    fn event(&self, id: String, data: Option<(&str, Bytes)>) -> Result<Event, InvalidEvent> {
        let mut event = Event::new(id, &self.source, &self.kind)?;
        event.set_time(humantime::format_rfc3339_millis(SystemTime::now()).to_string())?;
        if let Some(subject) = &self.subject {
            event.set_subject(subject)?;
        }
        if let Some(key) = &self.key {
            event.set_extension("partitionkey", key.as_str())?;
        }
        for Attribute(name, value) in &self.attributes {
            event.set_attribute(name, value.as_str())?;
        }
        if let Some((content_type, data)) = data {
            event.set_data(Some(content_type), data)?;
        }
        Ok(event)
    }
}

/// What a request may hold; the platform takes one of 16 MiB, and what waits behind it is delayed by less.
const MOST_EVENTS: usize = 1000;
const MOST_BYTES: usize = 1 << 20;
/// An event may have 1 MiB, and base64 and escapes make it longer.
const MOST_LINE: usize = 8 << 20;
/// Of the data of one event; the platform refuses more.
const MOST_DATA: u64 = 1 << 20;
/// How long a platform that takes no more is asked again.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<()> {
    let publisher = Publisher { client: Client::new(&args.server)?, topic: args.topic.clone() };
    if args.ndjson { lines(&publisher, args).await } else { one(&publisher, args).await }
}

struct Publisher {
    client: Client,
    topic: TopicName,
}

impl Publisher {
    /// Publishes some events. Waits for a platform that is too busy: what it refuses so it has not taken.
    async fn send(&self, media_type: &str, body: Bytes) -> Result<PublishResponse, CallError> {
        let began = Instant::now();
        loop {
            let request = self.client.request(Method::POST, &format!("/api/topics/{}/events", self.topic));
            let request = request.header(header::CONTENT_TYPE, media_type);
            match self.client.call(request, full(body.clone()), SOON).await {
                Err(CallError::Problem(problem))
                    if matches!(problem.status, 429 | 503) && began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                answer => return answer,
            }
        }
    }
}

async fn one(publisher: &Publisher, args: PublishArgs) -> anyhow::Result<()> {
    let template = Template::of(&args).expect("clap asks for a type");
    let data = match &args.data {
        Some(text) => Some(data(text, MOST_DATA, "an event's data").await?),
        None => None,
    };
    let content_type = args.content_type.as_deref();
    let data = data.map(|data| (content_type.unwrap_or_else(|| guessed(&data)), data));
    let id = args.id.unwrap_or_else(new_id);
    let event = template.event(id, data).map_err(|error| Failure::refused(format!("the event can't be: {error}")))?;
    let response = publisher.send(STRUCTURED, event.to_json().into()).await?;
    let Some(Published::Taken { offset, duplicate, .. }) = response.events.first() else {
        anyhow::bail!("the platform's answer says nothing of the event");
    };
    if args.json {
        return Ok(print(serde_json::to_string(&response.events[0])?)?);
    }
    let already = if *duplicate { " already" } else { "" };
    Ok(print(format!("`{}` has it{already}, at offset {offset}", publisher.topic))?)
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// The media type of data nobody gave one.
fn guessed(data: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() {
        "application/json"
    } else if std::str::from_utf8(data).is_ok() {
        "text/plain"
    } else {
        "application/octet-stream"
    }
}

/// What an argument stands for: a text, a file's content, or stdin.
pub(crate) async fn data(text: &str, limit: u64, what: &str) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    match (text, text.strip_prefix('@')) {
        ("-" | "@-", _) => {
            let read = tokio::io::stdin().take(limit + 1).read_to_end(&mut bytes).await;
            read.context("stdin can't be read")?;
        }
        (_, Some(path)) => {
            let failed = || format!("`{path}` can't be read");
            let file = tokio::fs::File::open(path).await.with_context(failed)?;
            file.take(limit + 1).read_to_end(&mut bytes).await.with_context(failed)?;
        }
        (text, None) => return Ok(text.to_owned().into()),
    }
    if bytes.len() as u64 > limit {
        return Err(Failure::refused(format!("{what} may have {} KiB, and there is more", limit >> 10)).into());
    }
    Ok(bytes.into())
}

/// Some lines as one request has them.
#[derive(Debug, Default)]
struct Piece {
    /// Their numbers, from 1.
    numbers: Vec<u64>,
    body: Vec<u8>,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.numbers.len() >= MOST_EVENTS || self.body.len() >= MOST_BYTES
    }

    fn has_room_for(&self, other: &Self) -> bool {
        self.numbers.len() + other.numbers.len() <= MOST_EVENTS && self.body.len() + other.body.len() <= MOST_BYTES
    }

    fn push(&mut self, number: u64, json: &[u8]) {
        self.numbers.push(number);
        self.body.extend_from_slice(json);
        self.body.push(b'\n');
    }

    fn append(&mut self, other: Self) {
        self.numbers.extend(other.numbers);
        self.body.extend(other.body);
    }
}

/// What was published so far.
#[derive(Debug, Default)]
struct Sum {
    events: u64,
    duplicates: u64,
    first: Option<Offset>,
    last: Option<Offset>,
}

/// One event that is on disk, for programs.
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    offset: Offset,
    id: &'a str,
    duplicate: bool,
}

async fn lines(publisher: &Publisher, args: PublishArgs) -> anyhow::Result<()> {
    let input: Box<dyn Read + Send> = match args.data.as_deref() {
        None | Some("-" | "@-") => Box::new(io::stdin()),
        Some(text) => match text.strip_prefix('@').map(Path::new) {
            Some(path) => Box::new(File::open(path).with_context(|| format!("`{}` can't be read", path.display()))?),
            None => return Err(Failure::refused("with `--ndjson` the lines come from `@FILE` or stdin").into()),
        },
    };
    let template = Template::of(&args);
    let (pieces, mut received) = mpsc::channel(16);
    // A thread of its own and not the runtime's, which would wait for it: it may be reading from a terminal.
    let reading = thread::Builder::new().name("lines".into());
    reading.spawn(move || read(BufReader::with_capacity(256 << 10, input), template.as_ref(), &pieces))?;

    let bar = event_counter(format!("publishing to {}", publisher.topic));
    let mut sum = Sum::default();
    let published = publish(publisher, &mut received, &mut sum, args.json, &bar).await;
    bar.finish_and_clear();
    match published {
        // Not `refused`, which means that nothing has changed.
        Err(error) if sum.events > 0 => {
            let failure = Failure::new(format!("not all was published: {}", sum.written(publisher))).because(error);
            Err(match args.kind {
                None => failure.help("publish it all once more when it is mended: what the topic has adds nothing"),
                // With new ids it would all be new.
                Some(_) => failure,
            }
            .into())
        }
        Err(error) => Err(error),
        Ok(()) if args.json => Ok(()),
        Ok(()) if sum.events == 0 => {
            tell("there was nothing to publish");
            Ok(())
        }
        Ok(()) => Ok(print(sum.written(publisher))?),
    }
}

async fn publish(
    publisher: &Publisher,
    received: &mut mpsc::Receiver<Result<Piece, Failure>>,
    sum: &mut Sum,
    json: bool,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut next = received.recv().await;
    while let Some(piece) = next {
        let mut piece = piece?;
        next = loop {
            // What came meanwhile goes along.
            match received.try_recv() {
                Ok(Ok(more)) if piece.has_room_for(&more) => piece.append(more),
                Ok(other) => break Some(other),
                Err(_) => break None,
            }
        };
        let answer = publisher.send("application/x-ndjson", std::mem::take(&mut piece.body).into()).await;
        let response = answer.map_err(|error| refused(error, &piece))?;
        sum.add(&response, &piece, json)?;
        bar.inc(response.events.len() as u64);
        if next.is_none() {
            next = received.recv().await;
        }
    }
    Ok(())
}

/// Why a piece was not published.
fn refused(error: CallError, piece: &Piece) -> anyhow::Error {
    match &error {
        CallError::Problem(problem) if !problem.events.is_empty() => none_taken(problem, piece).into(),
        _ => {
            let lines = match (piece.numbers.first(), piece.numbers.last()) {
                (Some(first), Some(last)) if first != last => format!("lines {first} to {last}"),
                (first, _) => format!("line {}", first.unwrap_or(&0)),
            };
            // An answer that never came leaves open whether they were taken.
            let were =
                if matches!(error, CallError::Problem(_)) { "were not published" } else { "may not be published" };
            anyhow::Error::from(error).context(format!("{lines} {were}"))
        }
    }
}

fn none_taken(problem: &ProblemDocument, piece: &Piece) -> Failure {
    let first = &problem.events[0];
    refused_line(piece.numbers.get(first.index), &first.attribute, &first.reason)
}

fn refused_line(number: Option<&u64>, attribute: &str, reason: &str) -> Failure {
    let what = if attribute.is_empty() { "the event".to_owned() } else { format!("`{attribute}`") };
    Failure::refused(format!("line {} is no event that can be published: {what} {reason}", number.unwrap_or(&0)))
}

impl Sum {
    /// Counts what a piece came to, and prints it for programs.
    fn add(&mut self, response: &PublishResponse, piece: &Piece, json: bool) -> anyhow::Result<()> {
        anyhow::ensure!(
            response.events.len() == piece.numbers.len(),
            "the platform answered for {} of {} events",
            response.events.len(),
            piece.numbers.len()
        );
        let mut refused = None;
        let mut text = Vec::new();
        for (published, number) in response.events.iter().zip(&piece.numbers) {
            match published {
                Published::Taken { offset, id, duplicate } => {
                    self.events += 1;
                    self.duplicates += u64::from(*duplicate);
                    self.first = Some(self.first.map_or(*offset, |first| first.min(*offset)));
                    self.last = Some(self.last.map_or(*offset, |last| last.max(*offset)));
                    if json {
                        let line = Line { line: *number, offset: *offset, id, duplicate: *duplicate };
                        serde_json::to_writer(&mut text, &line)?;
                        text.push(b'\n');
                    }
                }
                Published::Refused { error } => {
                    refused.get_or_insert_with(|| refused_line(Some(number), &error.attribute, &error.reason));
                }
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&text)?;
        stdout.flush()?;
        refused.map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn written(&self, publisher: &Publisher) -> String {
        let events = if self.events == 1 { "1 event is".to_owned() } else { format!("{} events are", self.events) };
        let offsets = match (self.first, self.last) {
            (Some(first), Some(last)) if first != last => format!(", at offsets {first} to {last}"),
            (Some(first), _) => format!(", at offset {first}"),
            _ => String::new(),
        };
        let already = match self.duplicates {
            0 => String::new(),
            duplicates => format!("; {duplicates} of them were there already"),
        };
        format!("{events} in `{}`{offsets}{already}", publisher.topic)
    }
}

/// Reads lines and hands them out in pieces: as soon as one is full, or no more can be had without waiting.
fn read(mut input: BufReader<impl Read>, template: Option<&Template>, pieces: &mpsc::Sender<Result<Piece, Failure>>) {
    let mut piece = Piece::default();
    // A receiver that is gone has failed, and needs no more.
    let send = |piece: &mut Piece| pieces.blocking_send(Ok(std::mem::take(piece))).is_ok();
    let mut line = Vec::new();
    let failure = 'failed: {
        for number in 1.. {
            let waits = !piece.numbers.is_empty() && !input.buffer().contains(&b'\n');
            if (waits || piece.is_full()) && !send(&mut piece) {
                return;
            }
            line.clear();
            match input.by_ref().take(MOST_LINE as u64 + 1).read_until(b'\n', &mut line) {
                Ok(0) => break 'failed None,
                Ok(_) if line.len() > MOST_LINE => {
                    break 'failed Some(Failure::refused(format!(
                        "line {number} is longer than {} MiB",
                        MOST_LINE >> 20
                    )));
                }
                Ok(_) => {}
                Err(error) => {
                    break 'failed Some(Failure::new(format!("line {number} can't be read")).because(error));
                }
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let checked = match template {
                None => Event::from_json(text).map(|_| piece.push(number, text)),
                Some(template) => {
                    let data = Bytes::copy_from_slice(text);
                    let event = template.event(new_id(), Some(("application/json", data)));
                    event.map(|event| piece.push(number, &event.to_json()))
                }
            };
            if let Err(InvalidEvent { attribute, reason }) = checked {
                break 'failed Some(refused_line(Some(&number), &attribute, &reason));
            }
        }
        None
    };
    if !piece.numbers.is_empty() && !send(&mut piece) {
        return;
    }
    if let Some(failure) = failure {
        let _ = pieces.blocking_send(Err(failure)); // as in `send`
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Template {
        Template {
            kind: "t".into(),
            source: "s".into(),
            subject: Some("what".into()),
            key: Some("k".into()),
            attributes: vec![Attribute("tenant".into(), "a=b".into())],
        }
    }

    fn pieces(input: &str, template: Option<&Template>, buffer: usize) -> (Vec<Vec<u64>>, Option<String>) {
        let (sender, mut receiver) = mpsc::channel(1 << 16);
        read(BufReader::with_capacity(buffer, input.as_bytes()), template, &sender);
        drop(sender);
        let (mut numbers, mut failure) = (Vec::new(), None);
        while let Some(piece) = receiver.blocking_recv() {
            match piece {
                Ok(piece) => numbers.push(piece.numbers),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        (numbers, failure)
    }

    #[test]
    fn an_event_is_made_of_the_options() {
        let json = template().event("1".into(), Some((guessed(b"{\"a\": 1}"), Bytes::from("{\"a\": 1}")))).unwrap();
        assert_eq!((json.id(), json.source(), json.kind(), json.subject()), ("1", "s", "t", Some("what")));
        assert_eq!((json.partition_key(), json.attribute("tenant").as_deref()), (Some("k"), Some("a=b")));
        assert_eq!(json.data_content_type(), Some("application/json"));
        assert_eq!([guessed(b"text"), guessed(&[0xff])], ["text/plain", "application/octet-stream"]);
        let bad = Template { attributes: vec![Attribute("Bad".into(), "x".into())], ..template() };
        assert_eq!(bad.event("1".into(), None).unwrap_err().attribute, "Bad");
    }

    #[test]
    fn lines_are_published_up_to_the_one_that_is_wrong() {
        let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        let input = format!("{event}\n\n  {event}\r\n{{\"specversion\":\"1.0\",\"id\":\"3\"}}\n{event}\n");
        let (numbers, failure) = pieces(&input, None, 1 << 16);
        assert_eq!(numbers, [[1, 3]]);
        let failure = failure.unwrap();
        assert!(failure.starts_with("line 4 is no event that can be published: `source` is missing"), "{failure}");

        let (numbers, failure) = pieces("1\n\"two\"\nthree", Some(&template()), 1 << 16);
        assert_eq!(numbers, [[1, 2]]);
        assert!(failure.unwrap().contains("line 3 is no event"));
    }

    #[test]
    fn a_piece_is_bounded_and_waits_for_nothing() {
        let input = "1\n".repeat(2500);
        let (numbers, failure) = pieces(&input, Some(&template()), 1 << 20);
        assert_eq!(numbers.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(numbers[2].last(), Some(&2500));
        assert!(failure.is_none());
        // What a pipe has not brought yet is not waited for while there is something to publish.
        let (numbers, _) = pieces("1\n2\n3\n", Some(&template()), 2);
        assert_eq!(numbers, [[1], [2], [3]]);
        let (numbers, failure) = pieces(&"x".repeat(MOST_LINE + 5), None, 1 << 16);
        assert!(numbers.is_empty());
        assert_eq!(failure.unwrap(), "line 1 is longer than 8 MiB");
    }

    #[test]
    fn a_sum_says_where_the_events_are() {
        let publisher =
            Publisher { client: Client::new(&ServerArgs::default()).unwrap(), topic: "orders".parse().unwrap() };
        let mut sum = Sum { events: 1, duplicates: 0, first: Some(4), last: Some(4) };
        assert_eq!(sum.written(&publisher), "1 event is in `orders`, at offset 4");
        sum = Sum { events: 3, duplicates: 2, last: Some(6), ..sum };
        assert_eq!(
            sum.written(&publisher),
            "3 events are in `orders`, at offsets 4 to 6; 2 of them were there already"
        );
    }
}
