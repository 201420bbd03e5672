//! `dunlin topics`: which topics there are, how long they keep their events, and making and removing them.

use crate::{
    client::{CallError, Client, ServerArgs},
    output::{BOLD, PLAIN, ago, confirm, print, print_json, size, table, tell, timestamp},
    report::Failure,
};
use clap::{Args, Subcommand};
use dunlin_events::{
    topics::{Offset, Retention, Topic, TopicName},
    units::ByteSize,
};
use dunlin_gateway::api::{TopicList, TopicSettings, TrimRequest};
use std::{
    fmt::Display,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// List the topics, or make, change and remove one.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TopicsArgs {
    #[command(subcommand)]
    command: Option<TopicsCommand>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum TopicsCommand {
    Show(OneArgs),
    Create(CreateArgs),
    Set(SetArgs),
    Remove(RemoveArgs),
    Trim(TrimArgs),
}

/// Show one topic.
#[derive(Debug, Args)]
struct OneArgs {
    /// The topic.
    topic: TopicName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Create a topic.
///
/// Topics a deployed function names are there already. Without a limit a topic keeps its events for ever.
#[derive(Debug, Args)]
struct CreateArgs {
    /// The topic: lowercase letters, digits, `-` and `_`, in parts separated by dots.
    topic: TopicName,
    #[command(flatten)]
    retention: RetentionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Change how long a topic keeps its events.
///
/// What is not given stays as it is; `none` takes a limit away. Events that a consumer has yet to settle are kept in any case.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin topics set orders --max-age 30d --max-size 10GiB
  dunlin topics set orders --max-age none")]
struct SetArgs {
    /// The topic.
    topic: TopicName,
    #[command(flatten)]
    retention: RetentionArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct RetentionArgs {
    /// Keep events so long, as `7d`.
    #[arg(long, value_name = "AGE")]
    max_age: Option<Limit<Age>>,
    /// Keep the newest events of so many bytes together, as `10GiB`.
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Limit<ByteSize>>,
    /// Keep so many of the newest events.
    #[arg(long, value_name = "COUNT")]
    max_count: Option<Limit<u64>>,
}

/// A limit, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit<T> {
    None,
    Of(T),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Age(Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| "write a number and a unit, such as `7d` or `12h`".into())
    }
}

impl<T: FromStr<Err: Display>> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::Of).map_err(|error: T::Err| format!("{error}; `none` for no limit")),
        }
    }
}

impl RetentionArgs {
    fn is_empty(&self) -> bool {
        self.max_age.is_none() && self.max_size.is_none() && self.max_count.is_none()
    }

    /// A retention with what was given in place of what it had.
    fn change(&self, was: Retention) -> Retention {
        fn pick<T: Copy>(given: Option<Limit<T>>, was: Option<T>) -> Option<T> {
            match given {
                None => was,
                Some(Limit::None) => None,
                Some(Limit::Of(limit)) => Some(limit),
            }
        }
        Retention {
            age: pick(self.max_age, was.age.map(Age)).map(|age| age.0),
            size: pick(self.max_size, was.size),
            count: pick(self.max_count, was.count),
        }
    }
}

/// Remove a topic with all its events, and what its consumers have yet to handle.
#[derive(Debug, Args)]
struct RemoveArgs {
    /// The topic.
    topic: TopicName,
    /// Also if deployed functions read it or publish to it: then it is made again at once, empty.
    #[arg(long)]
    force: bool,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Drop the oldest events of a topic.
#[derive(Debug, Args)]
struct TrimArgs {
    /// The topic.
    topic: TopicName,
    /// The first offset to keep.
    #[arg(long, value_name = "OFFSET")]
    before: Offset,
    /// Drop also what a consumer has yet to settle.
    #[arg(long)]
    force: bool,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: TopicsArgs) -> anyhow::Result<()> {
    match args.command {
        None => list(args.json, &args.server).await,
        Some(TopicsCommand::Show(args)) => show(args).await,
        Some(TopicsCommand::Create(args)) => create(args).await,
        Some(TopicsCommand::Set(args)) => set(args).await,
        Some(TopicsCommand::Remove(args)) => remove(args).await,
        Some(TopicsCommand::Trim(args)) => trim(args).await,
    }
}

fn path(topic: &TopicName) -> String {
    format!("/api/topics/{topic}")
}

async fn list(json: bool, server: &ServerArgs) -> anyhow::Result<()> {
    let list: TopicList = Client::new(server)?.get("/api/topics").await?;
    if json {
        return print_json(&list);
    }
    if list.topics.is_empty() {
        tell(
            "there is no topic yet: `dunlin topics create NAME` makes one, and so does deploying a function that names one",
        );
        return Ok(());
    }
    Ok(print(list_table(&list, SystemTime::now()))?)
}

fn list_table(list: &TopicList, now: SystemTime) -> String {
    let rows = list.topics.iter().map(|topic| {
        [
            topic.name.to_string(),
            (topic.end - topic.first).to_string(),
            offsets(topic),
            size(topic.bytes),
            kept(&topic.retention),
            ago(topic.created_at, now),
        ]
    });
    table(["NAME", "EVENTS", "OFFSETS", "SIZE", "KEEPS", "CREATED"], rows)
}

/// The offsets a topic has: `7..12`, the last one not among them.
fn offsets(topic: &Topic) -> String {
    format!("{}..{}", topic.first, topic.end)
}

/// A retention in few words.
fn kept(retention: &Retention) -> String {
    let limits = [
        retention.age.map(|age| humantime::format_duration(age).to_string()),
        retention.size.map(|size| size.to_string()),
        retention.count.map(|count| format!("{count} events")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if limits.is_empty() { "everything".into() } else { limits.join(", ") }
}

async fn show(args: OneArgs) -> anyhow::Result<()> {
    let topic: Topic = Client::new(&args.server)?.get(&path(&args.topic)).await?;
    if args.json { print_json(&topic) } else { Ok(print(written(&topic))?) }
}

fn written(topic: &Topic) -> String {
    let events = topic.end - topic.first;
    [
        format!("{BOLD}{}{PLAIN} created {}", topic.name, timestamp(topic.created_at)),
        format!("events   {events}, {}", size(topic.bytes)),
        format!("offsets  {}", offsets(topic)),
        format!("keeps    {}", kept(&topic.retention)),
    ]
    .join("\n")
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    match client.get::<Topic>(&path(&args.topic)).await {
        Err(CallError::Problem(problem)) if problem.status == 404 => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            let failure = Failure::refused(format!("there is a topic `{}` already", args.topic));
            return Err(failure.help("`dunlin topics set` changes how long it keeps its events").into());
        }
    }
    let retention = (!args.retention.is_empty()).then(|| args.retention.change(Retention::default()));
    let topic: Topic = client.put_json(&path(&args.topic), &TopicSettings { retention }).await?;
    if args.json { print_json(&topic) } else { Ok(print(format!("`{}` is there", topic.name))?) }
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    if args.retention.is_empty() {
        let failure = Failure::refused("nothing is to be changed");
        return Err(failure.help("say `--max-age`, `--max-size` or `--max-count`").into());
    }
    let client = Client::new(&args.server)?;
    let topic: Topic = client.get(&path(&args.topic)).await?;
    let settings = TopicSettings { retention: Some(args.retention.change(topic.retention)) };
    let topic: Topic = client.put_json(&path(&args.topic), &settings).await?;
    if args.json {
        return print_json(&topic);
    }
    Ok(print(format!("`{}` keeps {} now", topic.name, kept(&topic.retention)))?)
}

async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        let question = format!("Remove the topic `{}` with all its events from {}?", args.topic, client.server());
        confirm(&question, &format!("`{}` was not removed", args.topic)).await?;
    }
    let force = if args.force { "?force=true" } else { "" };
    client.delete(&format!("{}{force}", path(&args.topic))).await?;
    Ok(print(format!("`{}` is removed", args.topic))?)
}

async fn trim(args: TrimArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        let question =
            format!("Drop all events of `{}` before offset {} from {}?", args.topic, args.before, client.server());
        confirm(&question, "nothing was dropped").await?;
    }
    let request = TrimRequest { before: args.before, force: args.force };
    let topic: Topic = client.post(&format!("{}/trim", path(&args.topic)), &request).await?;
    if topic.first < args.before.min(topic.end) {
        tell(format_args!(
            "it stopped at offset {}, which a consumer has yet to settle (`dunlin consumers`); `--force` drops it all the same",
            topic.first
        ));
    }
    if args.json {
        return print_json(&topic);
    }
    Ok(print(format!("`{}` begins with offset {} now", topic.name, topic.first))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn topic() -> Topic {
        let retention = Retention { age: Some(Duration::from_secs(7 * 86_400)), size: None, count: Some(1000) };
        Topic { name: "shop.orders".parse().unwrap(), created_at: 1_000_000, first: 7, end: 15, bytes: 4096, retention }
    }

    #[test]
    fn topics_at_a_glance() {
        let all = Topic { name: "all".parse().unwrap(), retention: Retention::default(), ..topic() };
        assert_eq!(
            list_table(&TopicList { topics: vec![all, topic()] }, UNIX_EPOCH + Duration::from_secs(1120)),
            "NAME         EVENTS  OFFSETS  SIZE     KEEPS               CREATED\n\
             all          8       7..15    4.0 KiB  everything          2m ago\n\
             shop.orders  8       7..15    4.0 KiB  7days, 1000 events  2m ago"
        );
        assert!(written(&topic()).contains("events   8, 4.0 KiB\noffsets  7..15\nkeeps    7days, 1000 events"));
    }

    #[test]
    fn a_limit_changes_alone_and_none_takes_it_away() {
        let args = RetentionArgs {
            max_age: Some("none".parse().unwrap()),
            max_size: Some("10GiB".parse().unwrap()),
            max_count: None,
        };
        let changed = args.change(topic().retention);
        assert_eq!(changed, Retention { age: None, size: Some(ByteSize(10 << 30)), count: Some(1000) });
        assert_eq!("12h".parse(), Ok(Limit::Of(Age(Duration::from_secs(12 * 3600)))));
        for bad in ["", "5", "never"] {
            assert!(bad.parse::<Limit<Age>>().unwrap_err().ends_with("; `none` for no limit"), "{bad}");
        }
    }
}
