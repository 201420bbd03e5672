//! The files trigger: which files a function runs for, and what becomes of them.

use super::{Problem, is_default};
use crate::topics::TopicName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The files a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesTrigger {
    /// The folder, relative to this file: `./inbox`.
    pub path: String,
    /// What becomes of a file once the function has taken it. Default keep.
    #[serde(default, skip_serializing_if = "is_default")]
    pub then: Then,
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

impl FilesTrigger {
    pub(super) fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}
