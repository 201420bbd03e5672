//! `dunlin logs`: what functions print, and what the platform has to say about them.

use crate::{
    client::{Client, ServerArgs, empty, segment},
    output::{BOLD, DIM, PLAIN, RED, YELLOW, print, printable, timestamp},
};
use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use clap::Args;
use dunlin_events::{
    FunctionName,
    logs::{LogRecord, LogStream},
};
use dunlin_gateway::api::LogLine;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// Print what functions wrote to stdout and stderr, and why invocations failed.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Only this function's.
    name: Option<FunctionName>,
    /// Stay and print what comes.
    #[arg(short, long)]
    follow: bool,
    /// How many of the lines so far.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    tail: usize,
    /// Only those of one invocation: its id is in the `dunlin-invocation` header of the answer.
    #[arg(long, value_name = "ID")]
    invocation: Option<String>,
    /// Print a JSON object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: LogsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let query = Query { function: args.name, invocation: args.invocation, tail: args.tail, follow: args.follow };
    let mut lines = Lines::open(&client, &query).await?;
    while let Some(line) = lines.next().await? {
        if args.json {
            print(String::from_utf8_lossy(&line))?;
        } else {
            let line = serde_json::from_slice(&line).context("the platform sent a log line that is none")?;
            print(written(&line))?;
        }
    }
    Ok(())
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) function: Option<FunctionName>,
    pub(crate) invocation: Option<String>,
    pub(crate) tail: usize,
    pub(crate) follow: bool,
}

impl Query {
    fn path(&self) -> String {
        let mut path = format!("/api/logs?tail={}&follow={}", self.tail, self.follow);
        if let Some(function) = &self.function {
            path.push_str(&format!("&function={function}"));
        }
        if let Some(invocation) = &self.invocation {
            path.push_str(&format!("&invocation={}", segment(invocation)));
        }
        path
    }
}

/// The lines of a response as they come.
pub(crate) struct Lines {
    body: Incoming,
    /// What was read and not handed out: no line, whole lines, or the beginning of one.
    buffer: BytesMut,
    client: Client,
}

impl Lines {
    pub(crate) async fn open(client: &Client, query: &Query) -> anyhow::Result<Self> {
        Self::of(client, client.request(Method::GET, &query.path())).await
    }

    /// Those a request without a body is answered with.
    pub(crate) async fn of(client: &Client, request: http::request::Builder) -> anyhow::Result<Self> {
        let request = request.body(empty()).context("the request can't be built")?;
        let response = client.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            let body = response.into_body().collect().await.map_err(|error| client.broken_off().because(error))?;
            return Err(client.problem(status, &body.to_bytes()).into());
        }
        Ok(Self { body: response.into_body(), buffer: BytesMut::new(), client: client.clone() })
    }

    /// The next line without its end, or `None` after the last. Cancel safe.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.map_err(|error| self.client.broken_off().because(error))?;
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

/// A line for people.
pub(crate) fn written(line: &LogLine) -> String {
    match line {
        LogLine::Missed { missed } => {
            format!("{YELLOW}{missed} lines went by unseen: they came faster than they could be sent{PLAIN}")
        }
        LogLine::Record(LogRecord { time, function, version, stream, message, .. }) => {
            let (colour, mark) = match stream {
                LogStream::Stdout => ("", "|"),
                LogStream::Stderr => (RED, "!"),
                LogStream::Platform => (YELLOW, "*"),
            };
            let head = format!("{DIM}{}{PLAIN} {BOLD}{function}{PLAIN}{DIM}@{version}{PLAIN}", timestamp(*time));
            // The platform's own word on a trap has a line per frame of the guest's stack.
            let lines = message.lines().chain(message.is_empty().then_some(""));
            lines.map(|line| format!("{head} {mark} {colour}{}{PLAIN}", printable(line))).collect::<Vec<_>>().join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_says_when_who_and_where() {
        let mut record = LogRecord::new(&"hello".parse().unwrap(), 3, LogStream::Stdout, "plain");
        record.time = 1_700_000_000_123;
        let plain =
            |record: &LogRecord| anstream::adapter::strip_str(&written(&LogLine::Record(record.clone()))).to_string();
        assert_eq!(plain(&record), "2023-11-14T22:13:20.123Z hello@3 | plain");
        record.stream = LogStream::Platform;
        record.message = "it trapped: unreachable\n  0: main".into();
        assert_eq!(
            plain(&record),
            "2023-11-14T22:13:20.123Z hello@3 * it trapped: unreachable\n2023-11-14T22:13:20.123Z hello@3 *   0: main"
        );
        record.message = "\x1b]0;owned\x07".into();
        let text = written(&LogLine::Record(record));
        assert!(text.contains("\\u{1b}]0;owned\\u{7}"), "a function can't write to the terminal: {text:?}");
    }

    #[test]
    fn what_is_asked_for_is_in_the_query() {
        let query =
            Query { function: Some("a".parse().unwrap()), invocation: Some("x&y".into()), tail: 5, follow: true };
        assert_eq!(query.path(), "/api/logs?tail=5&follow=true&function=a&invocation=x%26y");
    }
}
