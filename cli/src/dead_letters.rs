//! `dunlin dead-letters`: events functions have given up, to be looked at, given to them again, or dropped.

use crate::{
    client::{Client, ServerArgs},
    consumers::first_line,
    events::in_full,
    output::{BOLD, PLAIN, ago, confirm, count, print, print_json, printable, table, tell, timestamp},
};
use clap::{Args, Subcommand};
use dunlin_events::{FunctionName, consumers::DeadLetter, topics::TopicName};
use dunlin_gateway::api::{DeadLetterList, DeadLetterSelection, Dropped, Redriven};
use std::time::SystemTime;

/// Look at the events functions have given up, give them to the functions again, or drop them.
#[derive(Debug, Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    List(ListArgs),
    Show(ShowArgs),
    Redrive(RedriveArgs),
    Drop(DropArgs),
}

/// List dead letters, newest first.
#[derive(Debug, Args)]
struct ListArgs {
    /// Only this function's.
    #[arg(long)]
    function: Option<FunctionName>,
    /// Only those of this topic's events.
    #[arg(long)]
    topic: Option<TopicName>,
    /// At most so many.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Show one dead letter in full: what failed, how, and the event.
#[derive(Debug, Args)]
struct ShowArgs {
    /// Its number.
    number: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Give dead letters to their functions again, as if they had never been tried.
///
/// Best after the function was mended and deployed. They keep the order of their key.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin dead-letters redrive 17 18
  dunlin dead-letters redrive --function billing
  dunlin dead-letters redrive --all")]
struct RedriveArgs {
    #[command(flatten)]
    which: Which,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Drop dead letters for good.
#[derive(Debug, Args)]
struct DropArgs {
    #[command(flatten)]
    which: Which,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// The numbers of those that are meant.
    #[arg(value_name = "NUMBER", conflicts_with_all = ["function", "topic", "all"])]
    numbers: Vec<u64>,
    /// All of this function.
    #[arg(long)]
    function: Option<FunctionName>,
    /// All of this topic's events.
    #[arg(long)]
    topic: Option<TopicName>,
    /// All there are.
    #[arg(long, conflicts_with_all = ["function", "topic"])]
    all: bool,
}

impl Which {
    /// What to ask the platform, a request each.
    fn selections(&self) -> Vec<DeadLetterSelection> {
        if self.numbers.is_empty() {
            let (function, topic) = (self.function.clone(), self.topic.clone());
            return vec![DeadLetterSelection { function, topic, number: None, all: self.all }];
        }
        let one = |number: &u64| DeadLetterSelection { number: Some(*number), ..DeadLetterSelection::default() };
        self.numbers.iter().map(one).collect()
    }

    fn written(&self) -> String {
        if !self.numbers.is_empty() {
            let numbers: Vec<_> = self.numbers.iter().map(u64::to_string).collect();
            let noun = if numbers.len() == 1 { "the dead letter" } else { "the dead letters" };
            return format!("{noun} {}", numbers.join(", "));
        }
        let function = self.function.as_ref().map(|function| format!(" of `{function}`")).unwrap_or_default();
        let topic = self.topic.as_ref().map(|topic| format!(" from `{topic}`")).unwrap_or_default();
        format!("all dead letters{function}{topic}")
    }
}

pub(crate) async fn run(args: DeadLettersArgs) -> anyhow::Result<()> {
    match args.command {
        DeadLettersCommand::List(args) => list(args).await,
        DeadLettersCommand::Show(args) => show(args).await,
        DeadLettersCommand::Redrive(args) => redrive(args).await,
        DeadLettersCommand::Drop(args) => drop_them(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let mut filter = String::new();
    if let Some(function) = &args.function {
        filter.push_str(&format!("&function={function}"));
    }
    if let Some(topic) = &args.topic {
        filter.push_str(&format!("&topic={topic}"));
    }
    // An answer is bounded in bytes, so it may have fewer than were asked for.
    let mut list = DeadLetterList { dead_letters: Vec::new(), next: None };
    loop {
        let before = list.next.map(|before| format!("&before={before}")).unwrap_or_default();
        let left = args.limit - list.dead_letters.len();
        let more: DeadLetterList = client.get(&format!("/api/dead-letters?limit={left}{filter}{before}")).await?;
        list.next = more.next;
        list.dead_letters.extend(more.dead_letters);
        if list.next.is_none() || list.dead_letters.len() >= args.limit {
            break;
        }
    }
    if args.json {
        return print_json(&list);
    }
    if list.dead_letters.is_empty() {
        tell("there are no dead letters");
        return Ok(());
    }
    print(list_table(&list, SystemTime::now()))?;
    if list.next.is_some() {
        tell("there are more: `--limit` prints them");
    }
    Ok(())
}

fn list_table(list: &DeadLetterList, now: SystemTime) -> String {
    let rows = list.dead_letters.iter().map(|dead| {
        [
            dead.number.to_string(),
            dead.consumer.function.to_string(),
            dead.consumer.topic.to_string(),
            dead.offset.to_string(),
            dead.attempts.to_string(),
            ago(dead.failed_at, now),
            dead.reason.clone(),
            first_line(&dead.error),
        ]
    });
    table(["NUMBER", "FUNCTION", "TOPIC", "OFFSET", "ATTEMPTS", "FAILED", "REASON", "ERROR"], rows)
}

async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let dead: DeadLetter = Client::new(&args.server)?.get(&format!("/api/dead-letters/{}", args.number)).await?;
    if args.json { print_json(&dead) } else { Ok(print(written(&dead))?) }
}

fn written(dead: &DeadLetter) -> String {
    let DeadLetter { number, consumer, offset, attempts, failed_at, reason, error, event, .. } = dead;
    let tried = if *attempts == 1 { "once".to_owned() } else { format!("{attempts} times") };
    [
        format!("{BOLD}{number}{PLAIN} offset {offset} of `{}`, for `{}`", consumer.topic, consumer.function),
        format!("tried   {tried}, last {}", timestamp(*failed_at)),
        format!("reason  {reason}"),
        format!("error   {}", printable(error).replace('\n', "\n        ")),
        String::new(),
        in_full(event),
    ]
    .join("\n")
}

async fn redrive(args: RedriveArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let mut sum = Redriven { redriven: 0 };
    for selection in args.which.selections() {
        let answer: Redriven = client.post("/api/dead-letters/redrive", &selection).await?;
        sum.redriven += answer.redriven;
    }
    if args.json {
        return print_json(&sum);
    }
    Ok(print(format!("{} redriven", count(sum.redriven, "dead letter")))?)
}

async fn drop_them(args: DropArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        let question = format!("Drop {} from {} for good?", args.which.written(), client.server());
        confirm(&question, "nothing was dropped").await?;
    }
    let mut sum = Dropped { dropped: 0 };
    for selection in args.which.selections() {
        let answer: Dropped = client.post("/api/dead-letters/drop", &selection).await?;
        sum.dropped += answer.dropped;
    }
    if args.json {
        return print_json(&sum);
    }
    Ok(print(format!("{} dropped", count(sum.dropped, "dead letter")))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn dead() -> DeadLetter {
        // From a text, as it comes: an event is read past the tree.
        serde_json::from_str(
            r#"{"number":17,"consumer":{"function":"billing","topic":"orders"},"offset":12,"attempts":5,"failed_at":1000000,
                "reason":"trap","error":"it trapped: unreachable\n  at main",
                "event":{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_dead_letter_at_a_glance_and_in_full() {
        let list = DeadLetterList { dead_letters: vec![dead()], next: None };
        assert_eq!(
            list_table(&list, UNIX_EPOCH + Duration::from_secs(1120)),
            "NUMBER  FUNCTION  TOPIC   OFFSET  ATTEMPTS  FAILED  REASON  ERROR\n\
             17      billing   orders  12      5         2m ago  trap    it trapped: unreachable"
        );
        let text = anstream::adapter::strip_str(&written(&dead())).to_string();
        for part in [
            "17 offset 12 of `orders`, for `billing`\ntried   5 times, last 1970-01-01T00:16:40.000Z\nreason  trap\n",
            "error   it trapped: unreachable\n          at main\n\nspecversion      1.0\n",
            "\n\n{\"a\":1}",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let json = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<DeadLetterList>(&json).unwrap(), list);
    }

    #[test]
    fn what_is_meant_is_asked_for_one_by_one() {
        let numbers = Which { numbers: vec![3, 4], function: None, topic: None, all: false };
        assert_eq!(numbers.selections().iter().map(|s| s.number).collect::<Vec<_>>(), [Some(3), Some(4)]);
        assert_eq!(numbers.written(), "the dead letters 3, 4");
        let function = Which { numbers: vec![], function: Some("a".parse().unwrap()), topic: None, all: false };
        assert_eq!(function.selections().len(), 1);
        assert_eq!(function.written(), "all dead letters of `a`");
    }
}
