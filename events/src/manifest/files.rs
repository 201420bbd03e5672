//! The files trigger: which files a function runs for, and what becomes of them.

use super::{Problem, Trigger, as_text, is_default};
use crate::{
    topics::TopicName,
    units::{self, ByteSize},
};
use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    path::{Component, Path},
    str::FromStr,
    time::Duration,
};

/// What an event may hold of a file or record: more than this is no event any more, but a file.
const MOST_INLINE: ByteSize = ByteSize::mib(1);
/// How long a file may have to stay as it is.
const LONGEST_SETTLE: Duration = Duration::from_secs(3600);
/// A folder that is looked through more often is looked through all the time.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// The files a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesTrigger {
    /// The folder, relative to this file: `./inbox`.
    pub path: String,
    /// Also files in folders below it. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recursive: bool,
    /// Which files: `*.csv` by their name, `invoices/**/*.pdf` by their path in the folder. All when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<Glob>,
    /// Which of those not. By default names that programs give to files they haven't finished: `*.tmp`, `*.part`,
    /// `*.partial`, `*.filepart`, `*.crdownload`, `*~`.
    #[serde(default = "unfinished", skip_serializing_if = "is_unfinished")]
    pub exclude: Vec<Glob>,
    /// Also the files that are there when the trigger first looks. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub existing: bool,
    /// How long a file must stay as it is to count as complete, where nobody tells that it was closed. Default 1s.
    #[serde(default = "one_second", with = "units::duration", skip_serializing_if = "is_one_second")]
    #[schemars(schema_with = "units::duration_schema")]
    pub settle: Duration,
    /// How often the folder is looked through. Absent, the system tells what changes, and a folder of a network file
    /// system, where it can't, is looked through every 10s.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub poll: Option<Duration>,
    /// The content of files up to this size is the event's data. Larger ones the function opens itself. Default 64KiB.
    #[serde(default = "inline", skip_serializing_if = "is_inline")]
    pub inline: ByteSize,
    /// An event for each record of a file, instead of one for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
    /// What becomes of a file once the function has taken it. Default keep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub then: Then,
    /// Where `then: move` puts files, within the folder or absolute. Default `done`.
    #[serde(default = "done", skip_serializing_if = "is_done")]
    pub done: String,
    /// Where files go that the function gave up, unless they are kept. Default `failed`.
    #[serde(default = "failed", skip_serializing_if = "is_failed")]
    pub failed: String,
    /// The topic its events are in. Default `<function>.files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// What becomes of a file once the function has taken it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It stays where it is.
    #[default]
    Keep,
    /// It goes to `done/`, or to `failed/` when the function gave it up.
    Move,
    /// It is deleted, or goes to `failed/` when the function gave it up.
    Delete,
}

/// What the records of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Lines {
    /// Comma-separated values as RFC 4180 has them; the first record names the fields.
    Csv,
    /// The same, separated by semicolons.
    Ssv,
    /// The same, separated by tabs.
    Tsv,
    /// A JSON text a line.
    Ndjson,
    /// Any text, a line a record.
    Text,
}

impl FilesTrigger {
    /// Whether a path in the folder is that of a file it runs for. Hidden files are only those of patterns that say so.
    pub fn selection(&self) -> Selection {
        let matchers = |globs: &[Glob]| globs.iter().map(Glob::matcher).collect();
        Selection { include: matchers(&self.include), exclude: matchers(&self.exclude) }
    }

    /// Another trigger of the function that has the same files.
    pub(super) fn clash(&self, before: &[Trigger]) -> Option<Problem> {
        let same = |other: &Trigger| matches!(other, Trigger::Files(other) if other.path == self.path && other.topic == self.topic);
        let other = before.iter().position(same)?;
        let problem = Problem::new("/path", format!("trigger {other} has the files of `{}` already", self.path));
        Some(problem.help("join the two: `include` takes several patterns; or give one a `topic` of its own"))
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.trim().is_empty() {
            problems.push(Problem::new("/path", "`path` is empty").help("write the folder, such as `./inbox`"));
        }
        if self.inline > MOST_INLINE {
            let message = format!("`{}` is more of a file than an event can hold: {MOST_INLINE}", self.inline);
            problems.push(
                Problem::new("/inline", message)
                    .help("leave it out: the function finds larger files in its own folder"),
            );
        }
        if self.settle > LONGEST_SETTLE {
            let message = format!("`{}` is longer than an hour", humantime::format_duration(self.settle));
            problems.push(Problem::new("/settle", message).help("leave it out for a second"));
        }
        if self.poll.is_some_and(|poll| poll < SHORTEST_POLL) {
            problems.push(
                Problem::new("/poll", "a folder can't be looked through more often than every 100ms")
                    .help("leave it out: the system tells what changes"),
            );
        }
        for (at, place) in [("done", &self.done), ("failed", &self.failed)] {
            let path = Path::new(place);
            let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
            if place.is_empty() || !(plain || path.is_absolute()) {
                problems.push(
                    Problem::new(format!("/{at}"), format!("`{place}` is no place for files"))
                        .help(format!("write a folder within `path`, such as `{at}`, or an absolute one")),
                );
            }
        }
        if self.done == self.failed {
            problems.push(
                Problem::new("/failed", format!("`{}` is also where files go that were taken", self.failed))
                    .help("give one of the two another name"),
            );
        }
        problems
    }
}

/// Patterns for paths. One without `/` is for the name, one with `/` for the whole path in the folder. `*` and `?` stand
/// for anything but `/`, `**` for any folders, `{a,b}` for either, `[a-z]` for one of them.
#[derive(Clone)]
pub struct Glob {
    text: String,
    matcher: GlobMatcher,
}

/// Why a text is no pattern for files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no pattern for files: {reason}")]
pub struct InvalidGlob {
    pub text: String,
    pub reason: String,
}

impl Glob {
    fn matcher(&self) -> Pattern {
        let last = self.text.rsplit('/').next().unwrap_or_default();
        Pattern { matcher: self.matcher.clone(), whole: self.text.contains('/'), hidden: last.starts_with('.') }
    }
}

impl FromStr for Glob {
    type Err = InvalidGlob;

    fn from_str(text: &str) -> Result<Self, InvalidGlob> {
        let invalid = |reason: String| InvalidGlob { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(invalid("it is empty: leave it out for all files".into()));
        }
        if text.starts_with('/') || text.split('/').any(|part| part == ".." || part == ".") {
            return Err(invalid("it is for paths within the folder: write `*.csv`, or `invoices/**/*.pdf`".into()));
        }
        let built = GlobBuilder::new(text).literal_separator(true).empty_alternates(true).build();
        let glob = built.map_err(|error| invalid(format!("{}; `[*]` stands for a plain `*`", error.kind())))?;
        Ok(Self { text: text.to_owned(), matcher: glob.compile_matcher() })
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(Glob, "Glob", { "type": "string", "examples": ["*.csv", "invoices/**/*.pdf", "{a,b}-*.json"] });

/// The files that are meant.
#[derive(Debug, Clone)]
pub struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: GlobMatcher,
    /// Whether it is for the whole path.
    whole: bool,
    /// Whether it names hidden files.
    hidden: bool,
}

impl Pattern {
    fn matches(&self, path: &Path) -> bool {
        let what = if self.whole { path.as_os_str() } else { path.file_name().unwrap_or_default() };
        self.matcher.is_match(what)
    }
}

impl Selection {
    /// Whether a file of this path, relative to the folder, is meant.
    pub fn has(&self, path: &Path) -> bool {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let named = |pattern: &Pattern| (!hidden || pattern.hidden) && pattern.matches(path);
        let included = if self.include.is_empty() { !hidden } else { self.include.iter().any(named) };
        included && !self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}

fn unfinished() -> Vec<Glob> {
    ["*.tmp", "*.part", "*.partial", "*.filepart", "*.crdownload", "*~"]
        .iter()
        .map(|glob| glob.parse().expect("these are patterns"))
        .collect()
}

fn is_unfinished(globs: &[Glob]) -> bool {
    globs == unfinished()
}

const fn yes() -> bool {
    true
}

const fn is_yes(value: &bool) -> bool {
    *value
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn is_one_second(value: &Duration) -> bool {
    *value == one_second()
}

const fn inline() -> ByteSize {
    ByteSize::kib(64)
}

fn is_inline(value: &ByteSize) -> bool {
    *value == inline()
}

fn done() -> String {
    "done".into()
}

fn is_done(value: &str) -> bool {
    value == "done"
}

fn failed() -> String {
    "failed".into()
}

fn is_failed(value: &str) -> bool {
    value == "failed"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(json: serde_json::Value) -> FilesTrigger {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn patterns_choose_by_name_or_path() {
        let files = trigger(serde_json::json!({
            "path": "/in", "include": ["*.csv", "deep/**/*.{json,JSON}", ".env*"], "exclude": ["draft-*", "old/**"],
        }));
        let selection = files.selection();
        for (path, chosen) in [
            ("a.csv", true),
            ("sub/a.csv", true),
            ("a.csv.gz", false),
            ("draft-a.csv", false),
            ("old/a.csv", false),
            ("deep/x/y/a.json", true),
            ("deep/a.JSON", true),
            ("a.json", false),
            (".hidden.csv", false),
            (".env.local", true),
        ] {
            assert_eq!(selection.has(Path::new(path)), chosen, "{path}");
        }
        let all = trigger(serde_json::json!({ "path": "/in" })).selection();
        assert!(all.has(Path::new("a")) && !all.has(Path::new("a.part")) && !all.has(Path::new(".a")));
    }

    #[test]
    fn what_can_not_be_is_told_with_its_place() {
        for (bad, reason) in
            [("[a", "unclosed"), ("{a", "unclosed"), ("", "empty"), ("../x", "within"), ("/x", "within")]
        {
            let error = bad.parse::<Glob>().unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        let files = trigger(serde_json::json!({
            "path": " ", "inline": "2MiB", "settle": "2h", "poll": "1ms", "done": "../x", "failed": "../x",
        }));
        let places: Vec<_> = files.problems().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(places, ["/path", "/inline", "/settle", "/poll", "/done", "/failed", "/failed"]);
        let plain = trigger(serde_json::json!({ "path": "/in" }));
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"path":"/in"}"#, "defaults aren't written");
    }
}
