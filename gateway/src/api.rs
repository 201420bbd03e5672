//! What the admin API says, as types: the server answers with them, `dunlin` the client reads them, and the OpenAPI
//! document is made from them. Everything here is on the wire: fields may be added, never renamed or removed.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /health` | | [`Health`] |
//! | `GET /api/components/{digest}` | | [`Component`](dunlin_events::Component), or 404 |
//! | `PUT /api/components/{digest}` | the component | [`Component`](dunlin_events::Component) |
//! | `POST /api/deployments` | [`DeployRequest`] | [`DeployResponse`] |
//! | `GET /api/functions` | | [`FunctionList`] |
//! | `GET /api/functions/{name}` | | [`FunctionDetail`] |
//! | `DELETE /api/functions/{name}` | | 204 |
//! | `GET /api/functions/{name}/versions` | | [`VersionList`] |
//! | `POST /api/functions/{name}/rollback` | [`RollbackRequest`] or nothing | [`FunctionSummary`] |
//! | any `/api/functions/{name}/invoke[/{path}]` | the request's | the function's |
//! | `GET /api/triggers` | | [`TriggerList`] |
//! | `GET /api/topics` | | [`TopicList`] |
//! | `GET /api/topics/{topic}` | | [`Topic`] |
//! | `PUT /api/topics/{topic}` | [`TopicSettings`] or nothing | [`Topic`] |
//! | `DELETE /api/topics/{topic}` | | 204 |
//! | `POST /api/topics/{topic}/trim` | [`TrimRequest`] | [`Topic`] |
//! | `POST /api/topics/{topic}/events` | events | 202 and [`PublishResponse`] |
//! | `GET /api/topics/{topic}/events` | | [`EventPage`], a batch of CloudEvents, or a stream of them |
//! | `GET /api/topics/{topic}/events/{offset}` | | [`EventRecord`] |
//! | `GET /api/consumers` | | [`ConsumerList`] |
//! | `GET /api/consumers/{function}/{topic}` | | [`ConsumerDetail`] |
//! | `POST /api/consumers/{function}/{topic}/seek` | [`SeekRequest`] | [`ConsumerSummary`] |
//! | `GET /api/dead-letters` | | [`DeadLetterList`] |
//! | `GET /api/dead-letters/{number}` | | [`DeadLetter`] |
//! | `POST /api/dead-letters/redrive` | [`DeadLetterSelection`] | [`Redriven`] |
//! | `POST /api/dead-letters/drop` | [`DeadLetterSelection`] | [`Dropped`] |
//! | `GET /api/state` | | [`BucketList`] |
//! | `GET /api/state/{bucket}` | | [`KeyList`] |
//! | `DELETE /api/state/{bucket}` | | [`Cleared`] |
//! | `GET /api/state/{bucket}/{key}` | | the value |
//! | `PUT /api/state/{bucket}/{key}` | the value | 204 |
//! | `DELETE /api/state/{bucket}/{key}` | | 204 |
//! | `GET /api/logs` | | lines of [`LogLine`], `application/x-ndjson` |
//!
//! Whatever goes wrong is answered with a [`ProblemDocument`], `application/problem+json`.

use dunlin_events::{
    Digest, Event, FunctionName, Manifest, Shape, Version,
    consumers::{ConsumerName, DeadLetter, Parked},
    logs::LogRecord,
    manifest::{self, Problem, Trigger},
    state::BucketInfo,
    topics::{Offset, Retention, Topic, TopicName},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// That the platform is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// The platform's version: `0.1.0`.
    pub version: String,
    /// The largest component it takes, in bytes.
    pub max_component: u64,
}

/// Functions to deploy together: all of them become active, or nothing changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    pub functions: Vec<NewFunction>,
    /// Check everything and change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// One function of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFunction {
    pub manifest: Manifest,
    /// The component's digest. The component was uploaded before, or some version already uses it.
    pub component: Digest,
}

/// What a deploy did, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployResponse {
    pub functions: Vec<DeployedFunction>,
    /// Nothing was changed: this is what a deploy would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a deploy did with one function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeployedFunction {
    pub name: FunctionName,
    /// The number of the active version. Absent in a dry run that would make a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The same manifest and component were active already: no version was made.
    pub unchanged: bool,
    pub triggers: Vec<Trigger>,
}

/// Every function, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionList {
    pub functions: Vec<FunctionSummary>,
}

/// One function at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionSummary {
    pub name: FunctionName,
    /// The number of the active version.
    pub version: u64,
    pub shape: Shape,
    pub triggers: Vec<Trigger>,
    pub component: Digest,
    /// The component's size in bytes.
    pub size: u64,
    /// When the active version was deployed, in milliseconds since the Unix epoch.
    pub deployed_at: u64,
    pub activity: Activity,
}

/// One function in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionDetail {
    pub name: FunctionName,
    /// The active version with its manifest. Secrets are in it by name only.
    pub active: Version,
    pub activity: Activity,
}

/// What a function is doing and has done since the platform started, over all its versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Activity {
    /// Invocations of the active version that run now.
    pub running: u32,
    /// Invocations of the active version that wait for one of `limits.concurrency` places.
    pub waiting: u32,
    /// Invocations that ended.
    pub invocations: u64,
    /// Those of them that answered in full, whatever the status.
    pub succeeded: u64,
    /// The others, counted by reason: `trap`, `time`, `memory`, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, u64>,
    /// How long all of them took together, in seconds.
    pub seconds: f64,
}

/// A function's versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionList {
    /// The number of the active one.
    pub active: u64,
    /// Newest first.
    pub versions: Vec<Version>,
}

/// Which version to go back to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The version's number; the one before the active one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
}

/// Every topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopicList {
    pub topics: Vec<Topic>,
}

/// What a topic shall be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Replaces its retention as a whole. Absent, a topic that is there stays as it is, and a new one keeps everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// Whether to remove a topic that functions name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveTopicQuery {
    /// Remove it even if deployed functions read it or publish to it.
    #[serde(default)]
    pub force: bool,
}

/// Which events of a topic to drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrimRequest {
    /// All before this offset.
    pub before: Offset,
    /// Drop also what a consumer has yet to settle. Without it the trim stops there.
    #[serde(default)]
    pub force: bool,
}

/// What became of published events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishResponse {
    /// One for each event, in their order.
    pub events: Vec<Published>,
}

/// What became of one published event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Published {
    /// It is on disk.
    Taken {
        offset: Offset,
        id: String,
        /// The topic had an event of this `source` and `id` already, at that offset: nothing was added.
        duplicate: bool,
    },
    /// It is none, or too large.
    Refused { error: EventProblem },
}

/// Why something published was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventProblem {
    /// Its place in the batch, from 0.
    pub index: usize,
    /// The attribute that is wrong; empty when it is the event as a whole.
    pub attribute: String,
    /// What is wrong with it, to be read after its name: "is missing".
    pub reason: String,
}

/// Which events of a topic are wanted: those from one place on, which is the beginning when nothing says another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// From this offset on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Offset>,
    /// The last so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// From the first event appended at this time or later: RFC 3339, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// At most so many: 100 when absent, and never more than 10,000. A stream has no end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A piece of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// In order, without gaps.
    pub events: Vec<EventRecord>,
    /// The offset of the oldest event the topic has.
    pub first: Offset,
    /// The offset the topic's next event will have.
    pub end: Offset,
    /// Where to read on, `from`.
    pub next: Offset,
}

/// An event in its topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventRecord {
    pub offset: Offset,
    /// When it was appended, in milliseconds since the Unix epoch.
    pub appended_at: u64,
    pub event: Event,
}

/// Every consumer, by function and topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerList {
    pub consumers: Vec<ConsumerSummary>,
}

/// Every trigger, by function and its place in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerList {
    pub triggers: Vec<TriggerSummary>,
}

/// A trigger, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerSummary {
    pub function: FunctionName,
    /// Its place in the manifest's `triggers`, counted from 0.
    pub index: usize,
    /// As the manifest has it.
    pub trigger: Trigger,
    /// The topic its events go to. Absent for a trigger that makes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    pub state: TriggerState,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Until when it waits, where it waits for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Why it fails; or, for one that runs, what was last wrong with a single thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// New events it has made since the platform started.
    pub events: u64,
    /// When the last of them was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<u64>,
    /// Figures of its own, by name: how far it has come, how much waits.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// When it will make its next events, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upcoming: Vec<u64>,
}

/// How a trigger stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriggerState {
    /// It is about to begin.
    Starting,
    /// It takes what comes.
    Running,
    /// It waits for a time.
    Waiting,
    /// It does not work, and is tried again.
    Failing,
    /// It has nothing to do any more.
    Ended,
}

/// Whether a function's triggers take away what they made upstream before it is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveQuery {
    /// Drop replication slots and whatever else they made; where that fails, nothing is removed.
    #[serde(default)]
    pub dispose: bool,
}

/// A consumer and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerSummary {
    #[serde(flatten)]
    pub name: ConsumerName,
    /// Every event before this offset is done, or parked.
    pub position: Offset,
    /// The offset the topic's next event will have.
    pub end: Offset,
    /// Events it has yet to come to; parked ones aren't among them.
    pub lag: u64,
    /// Events that wait for another attempt, or behind one of their key that does.
    pub parked: u64,
    /// Its dead letters.
    pub dead: u64,
}

/// A consumer in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConsumerDetail {
    #[serde(flatten)]
    pub consumer: ConsumerSummary,
    /// The first 100 of its parked events, in the order of offsets.
    pub waiting: Vec<Parked>,
}

/// Where a consumer shall go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekRequest {
    /// `"beginning"`, `"now"`, `{"offset": 5}` or `{"time": "2026-01-01T00:00:00Z"}`.
    pub to: manifest::From,
}

/// Which dead letters are wanted. What is not given doesn't matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterQuery {
    /// Only this function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Only those of this topic's events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// Only those with a number below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most so many: 100 when absent, and never more than 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// Newest first.
    pub dead_letters: Vec<DeadLetter>,
    /// Where to read on, `before`. Absent where there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Which dead letters are meant: those that are all of what is given. Something has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSelection {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
}

/// How many dead letters were given back to their functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redriven {
    pub redriven: u64,
}

/// How many dead letters were dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    pub dropped: u64,
}

/// The buckets that hold something, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BucketList {
    pub buckets: Vec<BucketInfo>,
}

/// Which keys of a bucket are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyQuery {
    /// Only those that begin with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Only those that come after this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many: 1,000 when absent, and never more than 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Keys of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyList {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// Where to read on, `after`. Absent where there are no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many keys a bucket had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleared {
    pub cleared: u64,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    /// Only this function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Only those of this invocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// The last so many of the lines kept; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<usize>,
    /// Stay and send what comes.
    #[serde(default)]
    pub follow: bool,
}

/// One line of `GET /api/logs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LogLine {
    Record(LogRecord),
    /// The reader was slower than the functions print: so many records of all functions went by unseen.
    Missed {
        missed: u64,
    },
}

/// What went wrong (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDocument {
    /// Names the kind of problem. `about:blank` where the status says it all.
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The invocation that failed, where a function ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    /// Why it failed, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Everything that speaks against a deploy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FunctionProblem>,
    /// What is wrong with the events that were published: none of them was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventProblem>,
}

/// Something that speaks against deploying one of the functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunctionProblem {
    /// The function's name. Absent where its manifest has none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionName>,
    /// Its place in the request's `functions`.
    pub index: usize,
    /// What is wrong and where in the manifest.
    #[serde(flatten)]
    pub problem: Problem,
}

fn about_blank() -> String {
    "about:blank".into()
}
