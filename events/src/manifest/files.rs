//! The files trigger: which files of a folder, or objects of a bucket, a function runs for, and what becomes of them.
//!
//! One type for both: what they share is most of it. What only one of them has is refused for the other in
//! [`FilesTrigger::problems`].

use super::{Problem, Trigger, as_text, is_default};
use crate::{
    secrets::SecretName,
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
    /// The folder, relative to this file: `./inbox`. This, or `bucket`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The bucket of an object store that speaks S3, instead of `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<S3BucketName>,
    /// Where the object store answers: `https://storage.example.com`. Default AWS, in `region`. Buckets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<S3Endpoint>,
    /// The region requests are signed for. Default us-east-1. Buckets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only objects whose keys begin so: `inbox/`. Buckets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The secret that holds the id of the access key. Absent, requests aren't signed. Buckets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<SecretName>,
    /// The secret that holds the access key itself. Buckets only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SecretName>,
    /// Also files in folders below it. Default false. Folders only: in a bucket all that begin with `prefix` are meant.
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
    /// How long a file must stay as it is to count as complete, where nobody tells that it was closed. Default 1s. Folders
    /// only.
    #[serde(default = "one_second", with = "units::duration", skip_serializing_if = "is_one_second")]
    #[schemars(schema_with = "units::duration_schema")]
    pub settle: Duration,
    /// How often the folder is looked through, or the bucket listed. Absent, the system tells what changes in a folder; one
    /// of a network file system, where it can't, is looked through every 10s, and a bucket listed every 30s.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub poll: Option<Duration>,
    /// The content of files up to this size is the event's data. Larger ones the function reads itself. Default 64KiB.
    #[serde(default = "inline", skip_serializing_if = "is_inline")]
    pub inline: ByteSize,
    /// How the function gets larger ones: it finds them at `filelocation` (`location`), or gets them as the body of the
    /// request (`stream`). Default location.
    #[serde(default, skip_serializing_if = "is_default")]
    pub content: Content,
    /// An event for each record of a file, instead of one for the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Lines>,
    /// What becomes of a file once the function has taken it. Default keep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub then: Then,
    /// Where `then: move` puts files, within the folder or absolute; of objects, below `prefix`, or with a `/` first below
    /// nothing. Default `done`.
    #[serde(default = "done", skip_serializing_if = "is_done")]
    pub done: String,
    /// Where files go that the function gave up, unless they are kept. Default `failed`.
    #[serde(default = "failed", skip_serializing_if = "is_failed")]
    pub failed: String,
    /// The topic its events are in. Default `<function>.files`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// How a function gets a file that is too large for an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// The event says where it is: a path the function opens, or a URL it fetches.
    #[default]
    Location,
    /// It is the body of the request the event comes with. For functions that take requests, and commands.
    Stream,
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

    /// Where its files are: a path, or `s3://bucket/prefix/`.
    pub fn place(&self) -> String {
        match (&self.bucket, &self.path) {
            (Some(bucket), _) => format!("s3://{bucket}/{}", self.key_prefix()),
            (None, path) => path.clone().unwrap_or_default(),
        }
    }

    /// What the keys of its objects begin with: nothing, or what ends with a `/`.
    pub fn key_prefix(&self) -> String {
        match self.prefix.as_deref().map(|prefix| prefix.trim_end_matches('/')) {
            None | Some("") => String::new(),
            Some(prefix) => format!("{prefix}/"),
        }
    }

    /// The region its requests are signed for.
    pub fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// Where the object store of its bucket answers.
    pub fn endpoint(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None => format!("https://s3.{}.amazonaws.com", self.region()),
        }
    }

    /// Another trigger of the function that has the same files.
    pub(super) fn clash(&self, before: &[Trigger]) -> Option<Problem> {
        let whose = |trigger: &Self| {
            let endpoint = trigger.bucket.as_ref().map(|_| trigger.endpoint());
            (trigger.place(), endpoint, trigger.topic.clone())
        };
        let same = |other: &Trigger| matches!(other, Trigger::Files(other) if whose(other) == whose(self));
        let other = before.iter().position(same)?;
        let at = if self.bucket.is_some() { "/bucket" } else { "/path" };
        let problem = Problem::new(at, format!("trigger {other} has the files of `{}` already", self.place()));
        Some(problem.help("join the two: `include` takes several patterns; or give one a `topic` of its own"))
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.misplaced();
        let bucket = self.bucket.is_some();
        if self.path.as_ref().is_some_and(|path| path.trim().is_empty()) {
            problems.push(Problem::new("/path", "`path` is empty").help("write the folder, such as `./inbox`"));
        }
        if self.prefix.as_ref().is_some_and(|prefix| prefix.starts_with('/') || prefix.contains("//")) {
            problems.push(
                Problem::new("/prefix", "no part of a prefix is empty")
                    .help("write `inbox/`, without a `/` first; leave it out for the whole bucket"),
            );
        }
        if self.region.as_ref().is_some_and(|region| !is_region(region)) {
            problems.push(Problem::new("/region", "this is no region").help("write it as `eu-central-1`"));
        }
        if self.inline > MOST_INLINE {
            let message = format!("`{}` is more of a file than an event can hold: {MOST_INLINE}", self.inline);
            problems.push(
                Problem::new("/inline", message).help("leave it out: the function reads larger files where they are"),
            );
        }
        if self.settle > LONGEST_SETTLE {
            let message = format!("`{}` is longer than an hour", humantime::format_duration(self.settle));
            problems.push(Problem::new("/settle", message).help("leave it out for a second"));
        }
        if self.poll.is_some_and(|poll| poll < SHORTEST_POLL) {
            let help = if bucket { "leave it out for 30s" } else { "leave it out: the system tells what changes" };
            problems.push(Problem::new("/poll", "files can't be looked for more often than every 100ms").help(help));
        }
        for (at, place) in [("done", &self.done), ("failed", &self.failed)] {
            let path = Path::new(place);
            let within = if bucket { place.strip_prefix('/').map_or(path, Path::new) } else { path };
            let plain = within.components().all(|part| matches!(part, Component::Normal(_)));
            if within == Path::new("") || !(plain || path.is_absolute() && !bucket) {
                let help = if bucket {
                    format!("write a folder below `prefix`, such as `{at}`, or one of the whole bucket: `/{at}`")
                } else {
                    format!("write a folder within `path`, such as `{at}`, or an absolute one")
                };
                let message = format!("`{place}` is no place for files");
                problems.push(Problem::new(format!("/{at}"), message).help(help));
            }
        }
        if self.lines.is_some() && self.content == Content::Stream {
            problems.push(
                Problem::new("/content", "with `lines` no event stands for a whole file").help("leave the line out"),
            );
        }
        if self.done == self.failed {
            problems.push(
                Problem::new("/failed", format!("`{}` is also where files go that were taken", self.failed))
                    .help("give one of the two another name"),
            );
        }
        problems
    }

    /// Keys that don't go together.
    fn misplaced(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match (&self.path, &self.bucket) {
            (None, None) => problems
                .push(Problem::new("", "it names no files").help("write the folder, `path: ./inbox`, or a `bucket`")),
            (Some(_), Some(_)) => problems.push(
                Problem::new("/bucket", "it has both a folder and a bucket").help("give each a trigger of its own"),
            ),
            _ => {}
        }
        for (key, given, of_buckets) in [
            ("endpoint", self.endpoint.is_some(), true),
            ("region", self.region.is_some(), true),
            ("prefix", self.prefix.is_some(), true),
            ("access_key", self.access_key.is_some(), true),
            ("secret_key", self.secret_key.is_some(), true),
            ("recursive", self.recursive, false),
            ("settle", self.settle != one_second(), false),
        ] {
            if given && of_buckets != self.bucket.is_some() {
                let whose = if of_buckets { "buckets" } else { "folders" };
                problems.push(
                    Problem::new(format!("/{key}"), format!("`{key}` is for {whose}")).help("leave the line out"),
                );
            }
        }
        if self.bucket.is_some() && self.access_key.is_some() != self.secret_key.is_some() {
            let (at, other) =
                if self.access_key.is_some() { ("access_key", "secret_key") } else { ("secret_key", "access_key") };
            problems.push(
                Problem::new(format!("/{at}"), format!("there is no `{other}` beside it"))
                    .help(format!("name the secret that holds it: `{other}: S3_{}`", other.to_uppercase())),
            );
        }
        problems
    }
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The name of a bucket in an object store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3BucketName(String);

/// Why a text is no bucket of an object store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the name of a bucket: use 3 to 63 lowercase letters, digits, hyphens and dots; `prefix` is a key of its own"
)]
pub struct InvalidS3BucketName(pub String);

impl S3BucketName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for S3BucketName {
    type Err = InvalidS3BucketName;

    fn from_str(text: &str) -> Result<Self, InvalidS3BucketName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let valid = (3..=63).contains(&text.len())
            && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.')
            && text.bytes().next().is_some_and(plain)
            && text.bytes().last().is_some_and(plain)
            && !text.contains("..");
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidS3BucketName(text.to_owned())) }
    }
}

impl fmt::Display for S3BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(S3BucketName, "S3BucketName", { "type": "string", "pattern": "^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", "examples": ["invoices"] });

/// Where an object store answers. It never has a key: a manifest is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Endpoint(String);

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidS3Endpoint {
    #[error(
        "the endpoint holds a user or password: take it out, and name the secrets that have the key: `access_key: S3_ACCESS_KEY` and `secret_key: S3_SECRET_KEY`"
    )]
    Password,
    #[error("`{0}` is not an endpoint: write `https://storage.example.com`, without the bucket")]
    Invalid(String),
}

impl FromStr for S3Endpoint {
    type Err = InvalidS3Endpoint;

    fn from_str(text: &str) -> Result<Self, InvalidS3Endpoint> {
        if text.contains('@') {
            return Err(InvalidS3Endpoint::Password);
        }
        let invalid = || InvalidS3Endpoint::Invalid(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| invalid())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let port =
            uri.authority().is_some_and(|authority| authority.as_str().rsplit(']').next().unwrap_or("").contains(':'));
        if !known || uri.query().is_some() || uri.host().is_none_or(str::is_empty) || (port && uri.port_u16().is_none())
        {
            return Err(invalid());
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for S3Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(S3Endpoint, "S3Endpoint", { "type": "string", "pattern": "^https?://", "examples": ["https://storage.example.com"] });

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

    #[test]
    fn a_bucket_has_keys_of_its_own() {
        let written = serde_json::json!({
            "bucket": "in.box-1", "endpoint": "http://127.0.0.1:9000/s3", "region": "eu-central-1", "prefix": "a/b",
            "access_key": "ID", "secret_key": "KEY", "then": "move", "done": "/archive/2026",
        });
        let bucket = trigger(written.clone());
        assert_eq!(bucket.problems(), []);
        assert_eq!(serde_json::to_value(&bucket).unwrap(), written);
        assert_eq!((bucket.place(), bucket.key_prefix()), ("s3://in.box-1/a/b/".into(), "a/b/".into()));
        let aws = trigger(serde_json::json!({ "bucket": "inbox", "region": "eu-west-2" }));
        assert_eq!((aws.endpoint(), aws.place()), ("https://s3.eu-west-2.amazonaws.com".into(), "s3://inbox/".into()));
        for (wrong, places) in [
            (serde_json::json!({}), &[""][..]),
            (serde_json::json!({ "path": "/in", "bucket": "inbox" }), &["/bucket"]),
            (
                serde_json::json!({ "path": "/in", "endpoint": "http://a", "region": "a", "prefix": "a", "access_key": "A" }),
                &["/endpoint", "/region", "/prefix", "/access_key"],
            ),
            (serde_json::json!({ "bucket": "inbox", "recursive": true, "settle": "2s" }), &["/recursive", "/settle"]),
            (serde_json::json!({ "bucket": "inbox", "access_key": "A" }), &["/access_key"]),
            (serde_json::json!({ "bucket": "inbox", "secret_key": "A" }), &["/secret_key"]),
            (serde_json::json!({ "bucket": "inbox", "prefix": "/a", "region": "eu central" }), &["/prefix", "/region"]),
            (serde_json::json!({ "path": "/in", "lines": "csv", "content": "stream" }), &["/content"]),
            (serde_json::json!({ "bucket": "inbox", "done": "../a", "failed": "/" }), &["/done", "/failed"]),
        ] {
            let told: Vec<_> = trigger(wrong.clone()).problems().into_iter().map(|problem| problem.pointer).collect();
            assert_eq!(told, places, "{wrong}");
        }
        for bad in ["In", "a", "inbox/a", "-in", "a..b"] {
            assert!(bad.parse::<S3BucketName>().is_err(), "{bad}");
        }
        for bad in ["storage.example.com", "ftp://a", "https://", "https://a?b=c", "http://a:x"] {
            assert!(matches!(bad.parse::<S3Endpoint>(), Err(InvalidS3Endpoint::Invalid(_))), "{bad}");
        }
        let error = "https://id:hunter2@a".parse::<S3Endpoint>().unwrap_err().to_string();
        assert!(error.contains("secret_key: S3_SECRET_KEY") && !error.contains("hunter2"), "{error}");
        assert_eq!("https://[::1]:9000/".parse::<S3Endpoint>().unwrap().to_string(), "https://[::1]:9000");
    }
}
