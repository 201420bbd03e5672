//! The webhook trigger: which service calls, and how it shows that it is the one who calls.

use super::{HostPattern, Problem, RoutePath, is_default};
use crate::{secrets::SecretName, topics::TopicName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The webhooks a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTrigger {
    /// Where the service sends them: `/hooks/stripe`.
    pub path: RoutePath,
    /// The host name, as of an `http` trigger; any host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// Who calls.
    pub provider: Provider,
    /// The secrets a call may be signed with; several while one is replaced by another.
    pub secrets: Vec<SecretName>,
    /// When the service is answered. Default accepted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub respond: Respond,
    /// The topic the events are in. Default `<function>.webhook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// A service whose webhooks are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    Github,
    Stripe,
}

/// When the service that calls is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Respond {
    /// With 202, when the event is on disk; the function runs then.
    #[default]
    Accepted,
    /// With the function's answer. Nothing is kept.
    Sync,
}

impl WebhookTrigger {
    pub(super) fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}
