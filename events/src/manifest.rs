//! The manifest: when a function runs, what it may touch, and how much it may use.
//!
//! The types here are the one description of `function.yaml`: `cli` reads YAML into them, the admin API reads JSON into
//! them, the registry stores them, and `dunlin schema` prints the JSON Schema made from them. Anything that can be judged
//! from a single value is judged while it is read, so that the error carries that value's place; what needs two values is
//! in [`Manifest::problems`]. Reading `${VAR}` and files is the business of `cli`: a manifest is complete in itself.

mod build;
mod database;
mod files;
mod schedule;
mod webhook;

pub use build::{Build, Source};
pub use database::{
    DatabaseKind, DatabaseTable, DatabaseTrigger, DatabaseUrl, Deliver, Lost, Operation, Outbox, SlotName, Snapshot,
    SslMode, TableName,
};
pub use files::{
    Content, FilesTrigger, Glob, InvalidGlob, InvalidS3BucketName, InvalidS3Endpoint, Lines, S3BucketName, S3Endpoint,
    Selection, Then,
};
pub use schedule::{
    CronExpression, Interval, InvalidCron, Missed, Overlap, ScheduleName, ScheduleTime, ScheduleTrigger, TimeZoneName,
};
pub use webhook::{
    Algorithm, Encoding, Header, Piece, Place, Provider, PublicUrl, Respond, SignedText, Timestamp, WebhookTrigger,
};

use crate::{
    allow::HttpOrigin,
    function::FunctionName,
    secrets::SecretName,
    state::BucketName,
    topics::{Offset, TopicName, TopicPattern},
    units::{self, ByteSize},
};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, collections::BTreeMap, fmt, num::NonZeroU32, str::FromStr, time::Duration};

/// A function's manifest, `function.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Dunlin function manifest")]
pub struct Manifest {
    /// The function's name: 1 to 63 lowercase letters, digits and hyphens.
    pub name: FunctionName,
    /// The compiled function: the path of a `.wasm` file, relative to this file.
    pub component: String,
    /// What makes the component, for `dunlin build` and `dunlin dev`: a command, run in this file's folder, or a language with
    /// its source, such as `{ python: app.py }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// What makes the function run. Without any it runs only when called by `dunlin invoke`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<Trigger>,
    /// The topic its returned events go to. A function that returns events needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<TopicName>,
    /// What the function may touch. Nothing is reachable by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow: Allow,
    /// How much one invocation may use, and how many may run at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// How often a sandbox is used again. The default is a fresh sandbox for every request of a WASI 0.2 component or
    /// command, 128 requests, 16 at once, for a WASI 0.3 component, and 128 calls, one after another, for a component that
    /// handles events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reuse: Option<Reuse>,
    /// What becomes of an event the function fails on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
}

/// One rule for when the function runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Run for HTTP requests.
    Http(HttpTrigger),
    /// Run for the webhooks of another service, once their signature is checked.
    Webhook(Box<WebhookTrigger>),
    /// Run at certain times.
    Schedule(Box<ScheduleTrigger>),
    /// Run for files that are put into a folder or bucket.
    Files(Box<FilesTrigger>),
    /// Run for the changes of a database's tables.
    Database(Box<DatabaseTrigger>),
    /// Run for the events of a topic.
    Topic(Box<TopicTrigger>),
}

impl Trigger {
    /// Its name in a manifest: `schedule`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Webhook(_) => "webhook",
            Self::Schedule(_) => "schedule",
            Self::Files(_) => "files",
            Self::Database(_) => "database",
            Self::Topic(_) => "topic",
        }
    }

    /// The topic that was chosen for the events it makes. `None` for the function's own, and for a trigger that makes none.
    fn chosen_topic(&self) -> Option<&TopicName> {
        match self {
            Self::Http(_) | Self::Topic(_) => None,
            Self::Webhook(webhook) => webhook.topic.as_ref(),
            Self::Schedule(schedule) => schedule.topic.as_ref(),
            Self::Files(files) => files.topic.as_ref(),
            Self::Database(database) => database.topic.as_ref(),
        }
    }

    /// Whether it turns something that happened elsewhere into events of a topic.
    pub const fn makes_events(&self) -> bool {
        match self {
            Self::Http(_) | Self::Topic(_) => false,
            Self::Webhook(webhook) => matches!(webhook.respond, Respond::Accepted),
            Self::Schedule(_) | Self::Files(_) | Self::Database(_) => true,
        }
    }

    /// Whether its events are made by a source, rather than by requests that reach the platform.
    pub const fn has_source(&self) -> bool {
        self.makes_events() && !matches!(self, Self::Webhook(_))
    }

    /// What of its events runs one after another, where no topic trigger says otherwise.
    const fn order(&self) -> Order {
        match self {
            Self::Schedule(schedule) => schedule.overlap.order(),
            _ => Order::Key,
        }
    }

    /// That nothing tells it from one before it, so that both would remember where they are in the same place. The pointer
    /// is into the trigger.
    fn clash(&self, before: &[Self]) -> Option<Problem> {
        match self {
            Self::Http(_) | Self::Topic(_) | Self::Webhook(_) => None,
            Self::Schedule(schedule) => schedule.clash(before),
            Self::Files(files) => files.clash(before),
            Self::Database(database) => database.clash(before),
        }
    }

    /// What is wrong with it beyond its single values; pointers are into the trigger.
    fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Http(_) | Self::Topic(_) => Vec::new(),
            Self::Webhook(webhook) => webhook.problems(),
            Self::Schedule(schedule) => schedule.problems(),
            Self::Files(files) => files.problems(),
            Self::Database(database) => database.problems(),
        }
    }
}

/// The events a function handles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicTrigger {
    /// The topic, or all that match: `orders`, `shop.*` (one part), `shop.**` (one or more).
    pub name: TopicPattern,
    /// Which of its events: a CEL expression over `event`, such as `event.type == "order.created" && event.data.total > 100`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Where a new consumer begins: `beginning`, `now`, `{ offset: 100 }` or `{ time: 2026-01-01T00:00:00Z }`. Default now.
    /// It counts once, when the function first reads the topic; later deploys go on where the last one was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub from: From,
    /// What runs one after another: the events of one `partitionkey` (`key`, the default; events without one run in any
    /// order), all (`strict`), or nothing (`none`).
    #[serde(default, skip_serializing_if = "is_default")]
    pub order: Order,
    /// Calls that run at once. Default 16, and never more than `limits.concurrency`.
    #[serde(default = "sixteen", skip_serializing_if = "is_sixteen")]
    pub concurrency: NonZeroU32,
    /// Hand over several events in one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

impl TopicTrigger {
    /// How a function reads the topic its own trigger fills. From now on: what its topic holds of an earlier life of the
    /// function is history.
    fn of_source(name: TopicPattern, order: Order) -> Self {
        Self { name, filter: None, from: From::Now, order, concurrency: sixteen(), batch: None }
    }
}

/// Where a new consumer begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// With the oldest event the topic keeps.
    Beginning,
    /// With the next event.
    #[default]
    Now,
    /// With the event of this offset.
    Offset(Offset),
    /// With the first event appended at this time (RFC 3339) or later.
    #[serde(with = "time")]
    #[schemars(with = "String")]
    Time(std::time::SystemTime),
}

/// A point in time, as RFC 3339 writes it.
mod time {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::SystemTime;

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339_weak(&text).map_err(|_| {
            serde::de::Error::custom(format_args!("`{text}` is not a time: write it in UTC, as `2026-01-01T00:00:00Z`"))
        })
    }
}

/// Which events of a topic run one after another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Those of the same `partitionkey`.
    #[default]
    Key,
    /// None.
    None,
    /// All.
    Strict,
}

/// Several events in one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// The most events of one call, up to 10,000.
    pub size: NonZeroU32,
    /// How long a call waits to be full. Default 0s: it takes what is there.
    #[serde(default, with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub wait: Duration,
}

/// What becomes of an event a function fails on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often it is tried, the first time included. Default 5.
    pub attempts: NonZeroU32,
    /// The pause before the second attempt and the longest pause, as `200ms..1m`: it doubles each time, and varies by a
    /// fifth. Default 200ms..1m.
    pub backoff: Backoff,
    /// How long it is tried, from the first failure on. No limit when absent.
    #[serde(skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub max_age: Option<Duration>,
    /// A topic that gets an event for each one given up. It is kept among the dead letters in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<TopicName>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::new(5).expect("5 is not 0"),
            backoff: Backoff { first: Duration::from_millis(200), most: Duration::from_secs(60) },
            max_age: None,
            dead_letter: None,
        }
    }
}

/// The pauses between attempts: the first, and the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

/// Why a text is no backoff.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a backoff: write the first pause and the longest, such as `200ms..1m`, the first not 0s")]
pub struct InvalidBackoff(pub String);

impl FromStr for Backoff {
    type Err = InvalidBackoff;

    fn from_str(text: &str) -> Result<Self, InvalidBackoff> {
        let invalid = || InvalidBackoff(text.to_owned());
        let (first, most) = text.split_once("..").ok_or_else(invalid)?;
        let duration = |text: &str| humantime::parse_duration(text.trim()).map_err(|_| invalid());
        let backoff = Self { first: duration(first)?, most: duration(most)? };
        if backoff.first.is_zero() || backoff.most < backoff.first { Err(invalid()) } else { Ok(backoff) }
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", humantime::format_duration(self.first), humantime::format_duration(self.most))
    }
}

/// The HTTP requests a function answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpTrigger {
    /// The path, with `{name}` for one segment and a final `{*name}` for all that follow, which may be nothing:
    /// `/invoices/{id}`.
    pub path: RoutePath,
    /// The methods; any method when absent. `GET` includes `HEAD`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// The host name, exact (`api.example.com`) or one level of wildcard (`*.example.com`); any host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
}

/// A method a route can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// What a function may touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// The HTTP servers it may call: `https://api.stripe.com`, `https://*.example.com`, `http://127.0.0.1:9000`.
    /// An empty list lets a component import `wasi:http` without reaching anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Vec<HttpOrigin>>,
    /// The private networks its HTTP calls may reach: `10.0.0.0/8`. Loopback, link-local and private addresses are
    /// refused after name resolution unless they are in here, or `http` names the address itself or `localhost`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<IpNet>,
    /// Environment variables and their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<EnvName, String>,
    /// Secrets, by name; each reaches the function as an environment variable. The platform knows their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretName>,
    /// State: `true` for a bucket of the function's own, or the names of the shared buckets it uses beside that one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub state: AllowState,
    /// The topics it may publish to while it runs, beside `publish`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<TopicName>,
}

/// Which buckets of state a function may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "`true`, or a list of shared buckets such as `[carts]`")]
pub enum AllowState {
    /// Its own, or none.
    Own(bool),
    /// Its own and these.
    Shared(Vec<BucketName>),
}

impl Default for AllowState {
    fn default() -> Self {
        Self::Own(false)
    }
}

/// What one invocation may use. Sizes and durations carry their unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of the whole sandbox: all linear memories and tables together. Default 128MiB.
    pub memory: ByteSize,
    /// From the start of the invocation to the end of its response. Default 30s.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub time: Duration,
    /// Time spent computing. Default 10s.
    #[serde(with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub cpu: Duration,
    /// Invocations that run at once. Default 100.
    pub concurrency: NonZeroU32,
    /// Invocations that wait for one of those places; more are refused with 429. Default 1000.
    pub queue: u32,
    /// Size of a request body. Default 16MiB.
    pub request_body: ByteSize,
    /// Size of a response body. Default 64MiB.
    pub response_body: ByteSize,
    /// Output on stdout and stderr kept as log of one invocation; what exceeds it is counted and dropped. Default 1MiB.
    pub log: ByteSize,
    /// Outgoing HTTP requests of one invocation. Default 1000.
    pub http_requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(128),
            time: Duration::from_secs(30),
            cpu: Duration::from_secs(10),
            concurrency: NonZeroU32::new(100).expect("100 is not 0"),
            queue: 1000,
            request_body: ByteSize::mib(16),
            response_body: ByteSize::mib(64),
            log: ByteSize::mib(1),
            http_requests: 1000,
        }
    }
}

/// How often one sandbox is used before it is thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reuse {
    /// Requests one sandbox serves; 1 means a fresh sandbox for each.
    pub count: NonZeroU32,
    /// Requests one sandbox serves at the same time. Only WASI 0.3 components can serve more than one.
    #[serde(default = "one")]
    pub concurrency: NonZeroU32,
    /// How long an idle sandbox is kept. Default 1s.
    #[serde(default = "one_second", with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub idle: Duration,
}

/// Networks, with an error that says how to write one.
fn networks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    struct Network(IpNet);

    impl<'de> Deserialize<'de> for Network {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            text.parse().map(Self).map_err(|_| {
                serde::de::Error::custom(format_args!(
                    "`{text}` is not a network: write an address and the length of its prefix, such as `10.0.0.0/8`"
                ))
            })
        }
    }

    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|network| network.0).collect())
}

fn sixteen() -> NonZeroU32 {
    NonZeroU32::new(16).expect("16 is not 0")
}

fn is_sixteen(value: &NonZeroU32) -> bool {
    *value == sixteen()
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The path of a route: segments of text, `{name}` for one whole segment, a final `{*name}` for all that follow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoutePath {
    text: String,
    parameters: Vec<String>,
}

/// Why a text is no route path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a route: {reason}")]
pub struct InvalidRoutePath {
    pub path: String,
    pub reason: String,
}

impl RoutePath {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

impl FromStr for RoutePath {
    type Err = InvalidRoutePath;

    fn from_str(text: &str) -> Result<Self, InvalidRoutePath> {
        let invalid = |reason: String| InvalidRoutePath { path: text.to_owned(), reason };
        let Some(rest) = text.strip_prefix('/') else {
            return Err(invalid("it must begin with `/`".into()));
        };
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '\\' | '"' | '<' | '>'))
        {
            let help = "write what the path matches, percent-encoded and without a query";
            return Err(invalid(format!("{c:?} cannot stand in a path; {help}")));
        }
        let mut parameters: Vec<String> = Vec::new();
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment == "." || segment == ".." {
                return Err(invalid(format!("`{segment}` is not a segment a request can have")));
            }
            if segment.is_empty() && segments.peek().is_some() {
                return Err(invalid("it has an empty segment".into()));
            }
            if !segment.contains(['{', '}']) {
                continue;
            }
            let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')).unwrap_or_default();
            let (name, rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
            let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
            if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(invalid(format!(
                    "a parameter is a whole segment, `{{name}}` or a final `{{*name}}`, of letters, digits and `_`; found `{segment}`"
                )));
            }
            if rest && segments.peek().is_some() {
                return Err(invalid(format!("`{segment}` takes all that follows, so it must come last")));
            }
            // They reach the function as headers, whose names have no case.
            if parameters.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                return Err(invalid(format!("it has two parameters named `{name}`")));
            }
            parameters.push(name.to_owned());
        }
        Ok(Self { text: text.to_owned(), parameters })
    }
}

/// A host name a route answers: exact, or `*.` and a name for exactly one more label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(String);

/// Why a text is no host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a host name: write `api.example.com` or `*.example.com`, without scheme and port")]
pub struct InvalidHost(pub String);

impl HostPattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostPattern {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if is_host_name(name) { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidHost(text.to_owned())) }
    }
}

/// Whether a text is a host name of RFC 1123.
pub(crate) fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// The name of an environment variable: letters, digits and `_`, not beginning with a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvName(String);

/// Why a text is no variable name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a variable name: use letters, digits and `_`, not beginning with a digit")]
pub struct InvalidEnvName(pub String);

impl EnvName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvName {
    type Err = InvalidEnvName;

    fn from_str(text: &str) -> Result<Self, InvalidEnvName> {
        let valid = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
            && text.len() <= 255;
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidEnvName(text.to_owned())) }
    }
}

/// Gives a type that is written as a text its `serde` and schema form.
macro_rules! as_text {
    ($type:ty, $name:literal, $schema:tt) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
pub(crate) use as_text;

as_text!(RoutePath, "RoutePath", { "type": "string", "pattern": "^/", "examples": ["/invoices/{id}", "/files/{*path}"] });
as_text!(HostPattern, "HostPattern", { "type": "string", "examples": ["api.example.com", "*.example.com"] });
as_text!(Backoff, "Backoff", { "type": "string", "examples": ["200ms..1m"] });
as_text!(EnvName, "EnvName", { "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" });

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something wrong with a manifest, with its place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Where, as a JSON Pointer (RFC 6901) into the manifest: `/triggers/0/http/path`. Empty for the whole manifest.
    pub pointer: String,
    /// What is wrong: a lowercase fragment that names the thing in backticks.
    pub message: String,
    /// What to do about it, often the line to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Manifest {
    /// What is wrong with this manifest beyond its single values. Empty when it is fit to deploy, as far as the manifest
    /// alone can tell.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.component.trim().is_empty() {
            problems
                .push(Problem::new("/component", "`component` is empty").help(
                    "write the path of the compiled function, such as `target/wasm32-wasip2/release/hello.wasm`",
                ));
        }
        for (at, limit, zero) in [
            ("memory", "memory", self.limits.memory.0 == 0),
            ("time", "time", self.limits.time.is_zero()),
            ("cpu", "computing time", self.limits.cpu.is_zero()),
        ] {
            if zero {
                problems.push(
                    Problem::new(format!("/limits/{at}"), format!("no function can run with no {limit}"))
                        .help("leave the line out for the default"),
                );
            }
        }
        for (index, secret) in self.allow.secrets.iter().enumerate() {
            let pointer = format!("/allow/secrets/{index}");
            if self.allow.env.keys().any(|name| name.as_str() == secret.as_str()) {
                problems.push(
                    Problem::new(pointer, format!("`{secret}` is both a secret and a variable of `allow.env`"))
                        .help("keep one of the two: both reach the function as the same environment variable"),
                );
            } else if self.allow.secrets[..index].contains(secret) {
                problems.push(Problem::new(pointer, format!("the secret `{secret}` is named twice")));
            }
        }
        for (index, trigger) in self.triggers.iter().enumerate() {
            if self.triggers[..index].contains(trigger) {
                problems.push(Problem::new(format!("/triggers/{index}"), "this trigger is there twice"));
                continue;
            }
            if self.streams_into_batches(trigger) {
                problems.push(
                    Problem::new(
                        format!("/triggers/{index}/files/content"),
                        "its events are handed over in batches, and a request has one body",
                    )
                    .help("leave out the `batch` of the topic trigger, or this"),
                );
            }
            let clash = trigger.clash(&self.triggers[..index]);
            problems.extend(trigger.problems().into_iter().chain(clash).map(|problem| Problem {
                pointer: format!("/triggers/{index}/{}{}", trigger.kind(), problem.pointer),
                ..problem
            }));
            let Trigger::Topic(topic) = trigger else { continue };
            let mut before = self.topic_triggers().take_while(|(other, _)| *other < index);
            if let Some((other, _)) = before.find(|(_, other)| topic.name.overlaps(&other.name)) {
                let message = format!("`{}` names topics that trigger {other} reads already", topic.name);
                problems.push(
                    Problem::new(format!("/triggers/{index}/topic/name"), message)
                        .help("a function reads a topic once: join the two filters with `||`"),
                );
            }
            if topic.batch.as_ref().is_some_and(|batch| batch.size.get() > 10_000) {
                problems.push(
                    Problem::new(format!("/triggers/{index}/topic/batch/size"), "a batch has 10000 events at most")
                        .help("a smaller batch is as fast: 1000 is much already"),
                );
            }
        }
        problems.extend(self.order_problems());
        problems
    }

    /// Two triggers whose events are in one topic, and are to run in different orders.
    fn order_problems(&self) -> Vec<Problem> {
        let implied: Vec<_> = self.implied().collect();
        let mut problems = Vec::new();
        for (at, (index, topic)) in implied.iter().enumerate() {
            let order = self.triggers[*index].order();
            let mut earlier = implied[..at].iter().filter(|(_, other)| other == topic);
            let Some((other, _)) = earlier.find(|(other, _)| self.triggers[*other].order() != order) else { continue };
            let kind = self.triggers[*index].kind();
            problems.push(
                Problem::new(
                    format!("/triggers/{index}/{kind}"),
                    format!(
                        "its events are in `{topic}` with those of trigger {other}, and are to run in another order"
                    ),
                )
                .help("give one of the two a `topic` of its own"),
            );
        }
        problems
    }

    /// The HTTP triggers with their place in `triggers`.
    pub fn http_triggers(&self) -> impl Iterator<Item = (usize, &HttpTrigger)> {
        self.triggers.iter().enumerate().filter_map(|(index, trigger)| match trigger {
            Trigger::Http(http) => Some((index, http)),
            _ => None,
        })
    }

    /// The webhook triggers with their place in `triggers`.
    pub fn webhook_triggers(&self) -> impl Iterator<Item = (usize, &WebhookTrigger)> {
        self.triggers.iter().enumerate().filter_map(|(index, trigger)| match trigger {
            Trigger::Webhook(webhook) => Some((index, &**webhook)),
            _ => None,
        })
    }

    /// The topic triggers it has written, with their place in `triggers`.
    pub fn topic_triggers(&self) -> impl Iterator<Item = (usize, &TopicTrigger)> {
        self.triggers.iter().enumerate().filter_map(|(index, trigger)| match trigger {
            Trigger::Topic(topic) => Some((index, &**topic)),
            _ => None,
        })
    }

    /// The topic a trigger's events are in: the one it names, or `<function>.<kind>`. `None` for a trigger that makes none.
    pub fn topic_of(&self, trigger: &Trigger) -> Option<TopicName> {
        if !trigger.makes_events() {
            return None;
        }
        let own =
            || format!("{}.{}", self.name, trigger.kind()).parse().expect("names of functions are parts of topics'");
        Some(trigger.chosen_topic().cloned().unwrap_or_else(own))
    }

    /// The triggers that make events which no topic trigger reads, with their topics: the function reads those too.
    fn implied(&self) -> impl Iterator<Item = (usize, TopicName)> {
        self.triggers.iter().enumerate().filter_map(|(index, trigger)| {
            let topic = self.topic_of(trigger)?;
            let read = self.topic_triggers().any(|(_, trigger)| trigger.name.matches(&topic));
            (!read).then_some((index, topic))
        })
    }

    /// Whether files of this trigger would be the bodies of requests that have several events.
    fn streams_into_batches(&self, trigger: &Trigger) -> bool {
        let Trigger::Files(files) = trigger else { return false };
        let topic = self.topic_of(trigger).filter(|_| files.content == Content::Stream);
        let batched =
            |topic| self.topic_triggers().any(|(_, other)| other.batch.is_some() && other.name.matches(topic));
        topic.as_ref().is_some_and(batched)
    }

    /// What the function reads, with the place of the trigger that says so: its topic triggers, and the topics its other
    /// triggers put their events in.
    pub fn subscriptions(&self) -> Vec<(usize, Cow<'_, TopicTrigger>)> {
        let mut all: Vec<_> = self.topic_triggers().map(|(index, topic)| (index, Cow::Borrowed(topic))).collect();
        for (index, topic) in self.implied() {
            let name: TopicPattern = topic.as_str().parse().expect("a topic's name is a pattern");
            if all.iter().all(|(_, other)| other.name != name) {
                all.push((index, Cow::Owned(TopicTrigger::of_source(name, self.triggers[index].order()))));
            }
        }
        all
    }

    /// The topics it names: those it reads, publishes to, and gives its dead letters to. Patterns are not among them.
    pub fn topics(&self) -> impl Iterator<Item = TopicName> {
        let read = self.topic_triggers().filter_map(|(_, topic)| topic.name.name());
        let made = self.triggers.iter().filter_map(|trigger| self.topic_of(trigger));
        let written = self.publish.iter().chain(&self.allow.publish).chain(&self.retry.dead_letter).cloned();
        read.chain(made).chain(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_paths_say_what_is_wrong() {
        for good in ["/", "/hello", "/hello/", "/a/{b}/c/{*rest}", "/{a}", "/%C3%A4"] {
            assert_eq!(good.parse::<RoutePath>().unwrap().as_str(), good);
        }
        for (bad, reason) in [
            ("hello", "must begin with `/`"),
            ("/a b", "cannot stand in a path"),
            ("/a?b", "without a query"),
            ("/a//b", "empty segment"),
            ("/../a", "not a segment"),
            ("/{a}b", "whole segment"),
            ("/{}", "whole segment"),
            ("/{a:[0-9]+}", "whole segment"),
            ("/{*a}/b", "must come last"),
            ("/{a}/{a}", "two parameters named `a`"),
            ("/{id}/{Id}", "two parameters named `Id`"),
        ] {
            let error = bad.parse::<RoutePath>().unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn a_manifest_survives_the_registry() {
        let json = serde_json::json!({
            "name": "billing", "component": "billing.wasm",
            "triggers": [{ "http": { "path": "/invoices/{id}", "methods": ["GET", "POST"], "host": "*.example.com" } }],
            "allow": { "http": ["https://api.stripe.com"], "env": { "CURRENCY": "EUR" }, "secrets": ["STRIPE_KEY"], "networks": ["10.0.0.0/8"] },
            "limits": { "memory": "64MiB", "time": "1m 30s" },
            "reuse": { "count": 10 },
        });
        let manifest: Manifest = serde_json::from_value(json).unwrap();
        let written = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&written).unwrap(), manifest);
        assert!(manifest.problems().is_empty());
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<Manifest>(r#"{"name":"a","component":"a.wasm","alow":{}}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `alow`"), "{error}");
    }

    #[test]
    fn a_topic_is_read_once() {
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "name": "a", "component": "a.wasm",
            "triggers": [
                { "topic": { "name": "shop.*", "from": { "offset": 5 }, "order": "none", "batch": { "size": 20_000 } } },
                { "topic": { "name": "shop.orders", "from": "beginning" } },
                { "topic": { "name": "payments", "from": { "time": "2026-01-01T00:00:00Z" } } },
            ],
            "publish": "events", "retry": { "attempts": 3, "backoff": "1s..10s", "dead_letter": "a.dead" },
            "allow": { "state": ["carts"], "publish": ["audit"] },
        }))
        .unwrap();
        let places: Vec<_> = manifest.problems().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(places, ["/triggers/0/topic/batch/size", "/triggers/1/topic/name"]);
        let topics: Vec<_> = manifest.topics().map(|topic| topic.to_string()).collect();
        assert_eq!(topics, ["shop.orders", "payments", "events", "audit", "a.dead"]);
        let written = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&written).unwrap(), manifest);
        for bad in ["10s..1s", "0s..1s", "1s", "..", "1..2"] {
            assert!(bad.parse::<Backoff>().is_err(), "{bad}");
        }
    }

    /// A file is the body of the request its event makes, so each event must be a request of its own.
    #[test]
    fn files_that_are_streamed_are_not_handed_over_in_batches() {
        let places = |content: &str, topic: serde_json::Value| {
            let files = serde_json::json!({ "files": { "path": "/in", "content": content, "topic": "shop.files" } });
            let manifest = serde_json::json!({ "name": "a", "component": "a.wasm", "triggers": [files, topic] });
            let manifest: Manifest = serde_json::from_value(manifest).unwrap();
            manifest.problems().into_iter().map(|problem| problem.pointer).collect::<Vec<_>>()
        };
        let batch = serde_json::json!({ "size": 10 });
        for topic in ["shop.files", "shop.*"] {
            let batched = serde_json::json!({ "topic": { "name": topic, "batch": batch } });
            assert_eq!(places("stream", batched.clone()), ["/triggers/0/files/content"]);
            assert!(places("location", batched).is_empty());
            assert!(places("stream", serde_json::json!({ "topic": { "name": topic } })).is_empty());
        }
        assert!(places("stream", serde_json::json!({ "topic": { "name": "other", "batch": batch } })).is_empty());
    }

    #[test]
    fn contradictions_are_found_with_their_place() {
        let manifest: Manifest = serde_json::from_value(serde_json::json!({
            "name": "a", "component": " ",
            "triggers": [{ "http": { "path": "/" } }, { "http": { "path": "/" } }],
            "allow": { "env": { "KEY": "x" }, "secrets": ["KEY", "OTHER", "OTHER"] },
            "limits": { "time": "0s" },
        }))
        .unwrap();
        let places: Vec<_> = manifest.problems().into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(places, ["/component", "/limits/time", "/allow/secrets/0", "/allow/secrets/2", "/triggers/1"]);
    }
}
