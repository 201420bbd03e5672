//! The database trigger: which changes of which tables a function runs for.

use super::Problem;
use crate::{secrets::SecretName, topics::TopicName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The changes of a database a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTrigger {
    /// The server and database, without the password: `postgresql://dunlin@db.example.com/shop`, `mysql://...`.
    pub url: String,
    /// The secret that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretName>,
    /// The tables, with their schema: `public.orders`.
    pub tables: Vec<String>,
    /// The topic its events are in. Default `<function>.database`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

impl DatabaseTrigger {
    pub(super) fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
}
