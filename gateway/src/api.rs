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
//! | `GET /api/logs` | | lines of [`LogLine`], `application/x-ndjson` |
//!
//! Whatever goes wrong is answered with a [`ProblemDocument`], `application/problem+json`.

use dunlin_events::{
    Digest, FunctionName, Manifest, Shape, Version,
    logs::LogRecord,
    manifest::{Problem, Trigger},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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
