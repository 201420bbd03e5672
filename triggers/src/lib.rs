//! The sources: one file for each kind of trigger that turns what happens elsewhere into events.
//!
//! Each implements [`Source`], and this file says which trigger has which. They know their upstream and nothing of the
//! platform: events, and how far a source has come, go through the [`Intake`](dunlin_events::source::Intake) they are given.

#![forbid(unsafe_code)]

mod database;
mod mysql;
mod postgres;
#[cfg(test)]
mod testing;

use dunlin_events::{
    BoxFuture, FunctionName, Manifest,
    manifest::{Problem, Trigger},
    secrets::Secrets,
    source::{Source, Sources},
};
use std::sync::Arc;

/// Every source there is.
pub struct Upstreams {
    secrets: Arc<dyn Secrets>,
}

impl Upstreams {
    /// Sources that find passwords among these secrets.
    pub fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets }
    }

    /// What of one trigger can't be. Pointers are into the trigger.
    async fn check(&self, function: &FunctionName, trigger: &Trigger) -> Vec<Problem> {
        match trigger {
            Trigger::Schedule(_) | Trigger::Files(_) => Vec::new(),
            Trigger::Database(database) => database::check(function, database, Arc::clone(&self.secrets)).await,
            Trigger::Http(_) | Trigger::Webhook(_) | Trigger::Topic(_) => Vec::new(),
        }
    }
}

impl Sources for Upstreams {
    fn check<'a>(&'a self, manifest: &'a Manifest) -> BoxFuture<'a, Vec<Problem>> {
        Box::pin(async move {
            let mut problems = Vec::new();
            for (index, trigger) in manifest.triggers.iter().enumerate() {
                problems.extend(self.check(&manifest.name, trigger).await.into_iter().map(|problem| Problem {
                    pointer: format!("/triggers/{index}/{}{}", trigger.kind(), problem.pointer),
                    ..problem
                }));
            }
            problems
        })
    }

    fn open(&self, function: &FunctionName, trigger: &Trigger) -> Option<Box<dyn Source>> {
        match trigger {
            Trigger::Schedule(_) | Trigger::Files(_) => None,
            Trigger::Database(database) => database::open(function, database, Arc::clone(&self.secrets)),
            Trigger::Http(_) | Trigger::Webhook(_) | Trigger::Topic(_) => None,
        }
    }
}
