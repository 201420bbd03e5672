//! The schedule trigger: at which times a function runs.

use super::{Order, Problem, is_default};
use crate::topics::TopicName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The times a function runs at. Exactly one of `cron`, `every` and `at` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTrigger {
    /// A cron expression of five or six fields: `0 3 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// What becomes of times that passed while the platform did not run. Default skip.
    #[serde(default, skip_serializing_if = "is_default")]
    pub missed: Missed,
    /// What happens when the run before hasn't ended yet. Default allow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// The topic its events are in. Default `<function>.schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// What becomes of times that passed while the platform did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// The last of them is made up for.
    Once,
    /// Each of them is made up for, in order.
    All,
}

/// What happens when the run before hasn't ended yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Both run at once.
    #[default]
    Allow,
    /// The time is left out.
    Skip,
    /// It runs when the one before has ended.
    Queue,
}

impl Overlap {
    pub(super) const fn order(self) -> Order {
        match self {
            Self::Allow => Order::None,
            Self::Skip | Self::Queue => Order::Strict,
        }
    }
}

impl ScheduleTrigger {
    pub(super) fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}

impl fmt::Display for ScheduleTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cron.as_deref().unwrap_or_default())
    }
}
