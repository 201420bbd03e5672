//! `dunlin events`: what is in a topic, and what comes.

use crate::{
    client::{Client, ServerArgs, segment},
    logs::Lines,
    output::{BOLD, DIM, PLAIN, YELLOW, print, print_json, printable, shortened, size, tell, timestamp},
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use dunlin_events::{
    Event,
    event::Data,
    topics::{Offset, TopicName},
    units::epoch_millis,
};
use dunlin_gateway::api::{EventPage, EventRecord};
use http::{Method, header};
use std::{
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

/// Read the events of a topic.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    Tail(TailArgs),
    Show(ShowArgs),
}

/// Print events of a topic, a line each.
///
/// The last 10 unless told otherwise. With --json a line is a JSON object with the whole event.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin events tail orders -f
  dunlin events tail orders --since 1h
  dunlin events tail orders --from 0 --json | jq -c .event > events.ndjson
  dunlin publish copies --ndjson < events.ndjson")]
struct TailArgs {
    /// The topic.
    topic: TopicName,
    #[command(flatten)]
    begin: Begin,
    /// Stay and print what comes.
    #[arg(long, short)]
    follow: bool,
    /// Print at most so many.
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// Print a JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Begin {
    /// Begin with this offset; 0 is the beginning.
    #[arg(long, value_name = "OFFSET")]
    from: Option<Offset>,
    /// Begin with the last so many.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Begin with what was appended at this time (`2026-01-01T00:00:00Z`) or that long ago (`1h`).
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Since(SystemTime);

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self(SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH)));
        }
        let time = humantime::parse_rfc3339_weak(text);
        time.map(Self)
            .map_err(|_| "write a time in UTC, as `2026-01-01T00:00:00Z`, or how long ago, as `1h 30m`".into())
    }
}

/// Show one event of a topic in full.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The topic.
    topic: TopicName,
    /// The event's offset.
    offset: Offset,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: EventsArgs) -> anyhow::Result<()> {
    match args.command {
        EventsCommand::Tail(args) if args.follow => follow(args).await,
        EventsCommand::Tail(args) => tail(args).await,
        EventsCommand::Show(args) => show(args).await,
    }
}

/// Events a request asks for.
const PAGE: usize = 1000;

impl Begin {
    /// As the API's query has it.
    fn query(&self) -> String {
        match self {
            Self { from: Some(from), .. } => format!("from={from}"),
            Self { since: Some(Since(time)), .. } => {
                format!("since={}", segment(&humantime::format_rfc3339_millis(*time).to_string()))
            }
            Self { last, .. } => format!("last={}", last.unwrap_or(10)),
        }
    }
}

/// Prints what is there now.
async fn tail(args: TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let (mut begin, mut left) = (args.begin.query(), args.limit.unwrap_or(usize::MAX));
    let mut end = None;
    while left > 0 {
        let path = format!("/api/topics/{}/events?{begin}&limit={}", args.topic, left.min(PAGE));
        let page: EventPage = client.get(&path).await?;
        // What comes while it prints is for those who follow.
        let end = *end.get_or_insert(page.end);
        let records = page.events.iter().take_while(|record| record.offset < end);
        for record in records {
            print_record(record, args.json)?;
        }
        if page.events.is_empty() || page.next >= end {
            break;
        }
        left -= page.events.len();
        begin = format!("from={}", page.next);
    }
    Ok(())
}

/// Prints what is there and what comes, until the platform stops.
async fn follow(args: TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let limit = args.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
    let path = format!("/api/topics/{}/events?{}{limit}", args.topic, args.begin.query());
    let request = client.request(Method::GET, &path).header(header::ACCEPT, "text/event-stream");
    let mut lines = Lines::of(&client, request).await?;
    let (mut json, mut next) = (Vec::new(), None);
    while let Some(line) = lines.next().await? {
        if let Some(data) = line.strip_prefix(b"data: ") {
            json.extend_from_slice(data);
            json.push(b'\n');
        } else if line.is_empty() && !json.is_empty() {
            let record = received(&json)?;
            if let Some(missed) = next.and_then(|next| record.offset.checked_sub(next)).filter(|missed| *missed > 0) {
                tell(format_args!("{YELLOW}{missed} events were trimmed before they could be read{PLAIN}"));
            }
            next = Some(record.offset + 1);
            print_record(&record, args.json)?;
            json.clear();
        }
    }
    Ok(())
}

/// The event of a message, with the place it says it has.
fn received(json: &[u8]) -> anyhow::Result<EventRecord> {
    let strange = "the platform sent an event that is none";
    let mut event = Event::from_json(json).context(strange)?;
    let mut place = |name: &str| event.remove_extension(name).map(|value| value.text().into_owned()).context(strange);
    let offset = place("dunlinoffset")?.parse().context(strange)?;
    let appended = humantime::parse_rfc3339(&place("dunlinappended")?).context(strange)?;
    Ok(EventRecord { offset, appended_at: epoch_millis(appended), event })
}

fn print_record(record: &EventRecord, json: bool) -> anyhow::Result<()> {
    Ok(print(if json { line(record)? } else { written(record) })?)
}

/// An event in one line of JSON.
fn line(record: &EventRecord) -> anyhow::Result<String> {
    // JSON data keeps its line breaks. Within strings they are escaped: what is left stands between two tokens.
    Ok(serde_json::to_string(record)?.replace(['\n', '\r'], " "))
}

/// Characters of an event's data in a line for people.
const MOST_DATA: usize = 200;

/// An event in one line for people.
fn written(record: &EventRecord) -> String {
    let EventRecord { offset, appended_at, event } = record;
    let mut text =
        format!("{BOLD}{offset}{PLAIN} {DIM}{}{PLAIN} {BOLD}{}{PLAIN}", timestamp(*appended_at), event.kind());
    text.push_str(&format!(" {DIM}{}", event.source()));
    if let Some(subject) = event.subject() {
        text.push_str(&format!(" {subject}"));
    }
    if let Some(key) = event.partition_key() {
        text.push_str(&format!(" key={key}"));
    }
    text.push_str(PLAIN);
    if let Some(data) = event.data() {
        let shown = shortened(&shown(data, event.data_content_type()), MOST_DATA);
        text.push_str(&format!(" {}", shown.replace(['\n', '\t'], " ")));
    }
    text
}

/// Data as a terminal may show it.
pub(crate) fn shown(data: &Data, content_type: Option<&str>) -> String {
    match data {
        Data::Json(bytes) | Data::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Data::Binary(bytes) => {
            format!("({} of {})", size(bytes.len() as u64), content_type.unwrap_or("bytes nobody named the type of"))
        }
    }
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let path = format!("/api/topics/{}/events/{}", args.topic, args.offset);
    let record: EventRecord = Client::new(&args.server)?.get(&path).await?;
    if args.json {
        return print_json(&record);
    }
    let head = format!(
        "{BOLD}{} {}{PLAIN}, appended {}\n{}",
        args.topic,
        record.offset,
        timestamp(record.appended_at),
        in_full(&record.event)
    );
    Ok(print(head)?)
}

/// An event for people: its attributes, a line each, and its data.
pub(crate) fn in_full(event: &Event) -> String {
    let width = event.attributes().map(|(name, _)| name.len()).max().unwrap_or_default();
    let attributes = event.attributes().map(|(name, value)| format!("{name:width$}  {}", printable(&value)));
    let mut lines: Vec<_> = attributes.collect();
    if let Some(data) = event.data() {
        lines.push(String::new());
        lines.push(printable(&shown(data, event.data_content_type())).into_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "{\"dunlinoffset\":\"12\",\"dunlinappended\":\"2023-11-14T22:13:20.123Z\",\"specversion\":\"1.0\",\
        \"id\":\"1\",\"source\":\"/shop\",\"type\":\"order.created\",\"subject\":\"7\",\"datacontenttype\":\"application/json\",\
        \"partitionkey\":\"k\",\"data\":{\n  \"total\": 5\n}}\n";

    #[test]
    fn a_message_becomes_a_record_and_a_line() {
        let record = received(MESSAGE.as_bytes()).unwrap();
        assert_eq!((record.offset, record.appended_at), (12, 1_700_000_000_123));
        let json = line(&record).unwrap();
        assert!(!json.contains('\n') && !json.contains("dunlin"), "{json}");
        assert_eq!(serde_json::from_str::<EventRecord>(&json).unwrap().event.id(), "1");
        let text = anstream::adapter::strip_str(&written(&record)).to_string();
        assert_eq!(text, "12 2023-11-14T22:13:20.123Z order.created /shop 7 key=k {   \"total\": 5 }");
        assert!(received(b"{}").is_err());
    }

    #[test]
    fn a_terminal_shows_no_bytes_and_obeys_no_data() {
        let mut event = Event::new("1", "/s", "t").unwrap();
        event.set_data(Some("image/png"), vec![0; 2048].into()).unwrap();
        let text = in_full(&event);
        assert!(text.contains("datacontenttype  image/png\n\n(2.0 KiB of image/png)"), "{text}");
        event.set_data(Some("text/plain"), format!("\x1b[2J{}", "x".repeat(300)).into()).unwrap();
        let text = written(&EventRecord { offset: 0, appended_at: 0, event });
        assert!(text.contains("\\u{1b}[2Jxx") && text.ends_with("x…"), "{text}");
    }

    #[test]
    fn where_to_begin_is_in_the_query() {
        let begin =
            |from, last, since: Option<&str>| Begin { from, last, since: since.map(|text| text.parse().unwrap()) };
        assert_eq!(begin(None, None, None).query(), "last=10");
        assert_eq!(begin(Some(3), None, None).query(), "from=3");
        assert_eq!(begin(None, Some(7), None).query(), "last=7");
        assert_eq!(begin(None, None, Some("2026-01-01T00:00:00Z")).query(), "since=2026-01-01T00:00:00.000Z");
        assert!("1h 30m".parse::<Since>().unwrap().0 < SystemTime::now());
        assert!("yesterday".parse::<Since>().is_err());
    }
}
