//! What functions print and what the platform has to say about them, line by line.

use crate::{
    function::{FunctionName, Version},
    invocation::InvocationId,
    units::now_millis,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    Stdout,
    Stderr,
    /// Dunlin itself: why an invocation failed, what was dropped, what was deployed.
    Platform,
}

/// One line of a function's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogRecord {
    /// When, in milliseconds since the Unix epoch.
    pub time: u64,
    #[schemars(with = "String")]
    pub function: FunctionName,
    /// The version's number.
    pub version: u64,
    /// The invocation it belongs to, a UUID. Absent where a sandbox serves several requests at once and the line can't be
    /// told to belong to one of them, and for what the platform says of the function itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation: Option<String>,
    pub stream: LogStream,
    /// The text, without its line end. Invalid UTF-8 is replaced, the values of the function's secrets are masked.
    pub message: String,
}

impl LogRecord {
    pub fn new(function: &FunctionName, version: u64, stream: LogStream, message: impl Into<String>) -> Self {
        Self {
            time: now_millis(),
            function: function.clone(),
            version,
            invocation: None,
            stream,
            message: message.into(),
        }
    }

    /// What the platform has to say about a function.
    pub fn of_platform(version: &Version, message: impl Into<String>) -> Self {
        Self::new(version.name(), version.number, LogStream::Platform, message)
    }

    #[must_use]
    pub fn of(mut self, invocation: InvocationId) -> Self {
        self.invocation = Some(invocation.to_string());
        self
    }
}

/// Where log records go. Taking one never blocks and never fails: a full log drops its oldest records.
pub trait LogSink: Send + Sync {
    fn record(&self, record: LogRecord);
}
