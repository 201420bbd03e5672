//! `dunlin consumers`: how far functions have come in the topics they read, and moving one.

use crate::{
    client::{Client, ServerArgs},
    output::{BOLD, PLAIN, confirm, print, print_json, shortened, table, tell, timestamp},
};
use clap::{Args, Subcommand};
use dunlin_events::{FunctionName, consumers::Parked, manifest, topics::TopicName};
use dunlin_gateway::api::{ConsumerDetail, ConsumerList, ConsumerSummary, SeekRequest};
use std::str::FromStr;

/// List how far functions have come in the topics they read, or move one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ConsumersArgs {
    #[command(subcommand)]
    command: Option<ConsumersCommand>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum ConsumersCommand {
    Show(OneArgs),
    Seek(SeekArgs),
}

/// Show one consumer, and the events it has parked.
#[derive(Debug, Args)]
struct OneArgs {
    /// The function.
    function: FunctionName,
    /// The topic it reads.
    topic: TopicName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Move a consumer: its function goes on from another event.
///
/// What runs now ends first. What it has parked is forgotten. Going back repeats events, with all their effects; going
/// forward skips some.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin consumers seek billing orders --to beginning
  dunlin consumers seek billing orders --to 1200
  dunlin consumers seek billing orders --to 2026-01-01T00:00:00Z --yes")]
struct SeekArgs {
    /// The function.
    function: FunctionName,
    /// The topic it reads.
    topic: TopicName,
    /// `beginning`, `now`, an offset, or a time.
    #[arg(long, value_name = "PLACE")]
    to: Place,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(manifest::From);

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let from = match text {
            "beginning" => manifest::From::Beginning,
            "now" => manifest::From::Now,
            text => match (text.parse(), humantime::parse_rfc3339_weak(text)) {
                (Ok(offset), _) => manifest::From::Offset(offset),
                (_, Ok(time)) => manifest::From::Time(time),
                _ => return Err("write `beginning`, `now`, an offset, or a time as `2026-01-01T00:00:00Z`".into()),
            },
        };
        Ok(Self(from))
    }
}

impl Place {
    fn written(self) -> String {
        match self.0 {
            manifest::From::Beginning => "the beginning".into(),
            manifest::From::Now => "what comes from now on".into(),
            manifest::From::Offset(offset) => format!("offset {offset}"),
            manifest::From::Time(time) => format!("what came since {}", humantime::format_rfc3339(time)),
        }
    }
}

pub(crate) async fn run(args: ConsumersArgs) -> anyhow::Result<()> {
    match args.command {
        None => list(args.json, &args.server).await,
        Some(ConsumersCommand::Show(args)) => show(args).await,
        Some(ConsumersCommand::Seek(args)) => seek(args).await,
    }
}

async fn list(json: bool, server: &ServerArgs) -> anyhow::Result<()> {
    let list: ConsumerList = Client::new(server)?.get("/api/consumers").await?;
    if json {
        return print_json(&list);
    }
    if list.consumers.is_empty() {
        tell("no function reads a topic yet: one does when its function.yaml has a `topic` among its triggers");
        return Ok(());
    }
    Ok(print(list_table(&list))?)
}

fn list_table(list: &ConsumerList) -> String {
    let rows = list.consumers.iter().map(|consumer| {
        let ConsumerSummary { name, position, end, lag, parked, dead } = consumer;
        [
            name.function.to_string(),
            name.topic.to_string(),
            position.to_string(),
            end.to_string(),
            lag.to_string(),
            parked.to_string(),
            dead.to_string(),
        ]
    });
    table(["FUNCTION", "TOPIC", "POSITION", "END", "LAG", "PARKED", "DEAD"], rows)
}

async fn show(args: OneArgs) -> anyhow::Result<()> {
    let path = format!("/api/consumers/{}/{}", args.function, args.topic);
    let detail: ConsumerDetail = Client::new(&args.server)?.get(&path).await?;
    if args.json { print_json(&detail) } else { Ok(print(written(&detail))?) }
}

fn written(detail: &ConsumerDetail) -> String {
    let ConsumerSummary { name, position, end, lag, parked, dead } = &detail.consumer;
    let mut text = [
        format!("{BOLD}{}{PLAIN} reads {BOLD}{}{PLAIN}", name.function, name.topic),
        format!("position  {position} of {end}, {lag} to come"),
        format!("parked    {parked}"),
        format!("dead      {dead}"),
    ]
    .join("\n");
    if !detail.waiting.is_empty() {
        let rows = detail.waiting.iter().map(|Parked { offset, key, attempts, due, error, .. }| {
            let due = due.map_or_else(|| "behind its key".into(), timestamp);
            let key = key.as_deref().unwrap_or("-").to_owned();
            [offset.to_string(), key, attempts.to_string(), due, first_line(error)]
        });
        text.push_str("\n\n");
        text.push_str(&table(["OFFSET", "KEY", "ATTEMPTS", "NEXT", "ERROR"], rows));
        let more = parked.saturating_sub(detail.waiting.len() as u64);
        if more > 0 {
            text.push_str(&format!("\nand {more} more"));
        }
    }
    text
}

/// What of an error fits a table: traps have a line per frame of the guest's stack.
pub(crate) fn first_line(error: &str) -> String {
    shortened(error.lines().next().unwrap_or_default(), 80)
}

async fn seek(args: SeekArgs) -> anyhow::Result<()> {
    let SeekArgs { function, topic, to, yes, json, server } = args;
    let client = Client::new(&server)?;
    if !yes {
        let question = format!(
            "Move `{function}` in `{topic}` to {}? What it has parked is forgotten, and events may be repeated or skipped.",
            to.written()
        );
        confirm(&question, &format!("`{function}` was not moved")).await?;
    }
    let path = format!("/api/consumers/{function}/{topic}/seek");
    let consumer: ConsumerSummary = client.post(&path, &SeekRequest { to: to.0 }).await?;
    if json {
        return print_json(&consumer);
    }
    let ConsumerSummary { position, lag, .. } = consumer;
    Ok(print(format!("`{function}` goes on in `{topic}` from offset {position}, {lag} to come"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_at_a_glance_and_in_full() {
        let detail: ConsumerDetail = serde_json::from_value(serde_json::json!({
            "function": "billing", "topic": "orders", "position": 10, "end": 20, "lag": 8, "parked": 2, "dead": 1,
            "waiting": [
                { "offset": 11, "key": "k", "attempts": 2, "due": 1_700_000_000_123_u64, "error": "it trapped\n  at main" },
            ],
        }))
        .unwrap();
        assert_eq!(
            list_table(&ConsumerList { consumers: vec![detail.consumer.clone()] }),
            "FUNCTION  TOPIC   POSITION  END  LAG  PARKED  DEAD\n\
             billing   orders  10        20   8    2       1"
        );
        let text = anstream::adapter::strip_str(&written(&detail)).to_string();
        assert_eq!(
            text,
            "billing reads orders\nposition  10 of 20, 8 to come\nparked    2\ndead      1\n\n\
             OFFSET  KEY  ATTEMPTS  NEXT                      ERROR\n\
             11      k    2         2023-11-14T22:13:20.123Z  it trapped\nand 1 more"
        );
    }

    #[test]
    fn a_place_is_a_word_an_offset_or_a_time() {
        let place = |text: &str| text.parse::<Place>().map(|place| place.0);
        assert_eq!(place("beginning"), Ok(manifest::From::Beginning));
        assert_eq!(place("12"), Ok(manifest::From::Offset(12)));
        assert!(matches!(place("2026-01-01T00:00:00Z"), Ok(manifest::From::Time(_))));
        for bad in ["", "end", "-1", "tomorrow"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }
}
