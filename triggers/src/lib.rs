//! The sources: one file for each kind of trigger that turns what happens elsewhere into events.
//!
//! Each implements [`Source`], and this file says which trigger has which. They know their upstream and nothing of the
//! platform: events, and how far a source has come, go through the [`Intake`](dunlin_events::source::Intake) they are given.

#![forbid(unsafe_code)]

mod database;
mod files;
mod mysql;
mod postgres;
mod schedule;
#[cfg(test)]
mod testing;

pub use files::AllowedFolders;
pub use schedule::shown_in_zone;

use dunlin_events::{
    BoxFuture, FunctionName, Manifest,
    manifest::{FilesTrigger, Problem, Trigger},
    secrets::Secrets,
    source::{Contents, Source, Sources},
};
use files::{Files, Handed, Wire};
use std::{sync::Arc, time::SystemTime};

/// Every source there is.
pub struct Upstreams {
    secrets: Arc<dyn Secrets>,
    folders: AllowedFolders,
    wire: Wire,
}

impl Upstreams {
    /// Sources that find passwords and keys among these secrets, and files in these folders.
    pub fn new(secrets: Arc<dyn Secrets>, folders: AllowedFolders) -> Self {
        Self { secrets, folders, wire: Wire::default() }
    }

    fn files(&self, trigger: &FilesTrigger) -> Files {
        Files::new(trigger, self.folders.clone(), Arc::clone(&self.secrets), self.wire.clone())
    }

    /// What of one trigger can't be. Pointers are into the trigger.
    async fn check(&self, function: &FunctionName, trigger: &Trigger) -> Vec<Problem> {
        match trigger {
            Trigger::Schedule(schedule) => schedule::check(schedule, SystemTime::now()),
            Trigger::Files(files) => self.files(files).check().await,
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
            Trigger::Schedule(schedule) => Some(Box::new(schedule::Schedule::new(function, schedule))),
            Trigger::Files(files) => Some(Box::new(self.files(files))),
            Trigger::Database(database) => database::open(function, database, Arc::clone(&self.secrets)),
            Trigger::Http(_) | Trigger::Webhook(_) | Trigger::Topic(_) => None,
        }
    }

    fn contents(&self, manifest: &Manifest) -> Option<Arc<dyn Contents>> {
        let handed = Handed::of(manifest, &self.folders, &self.secrets, &self.wire)?;
        Some(Arc::new(handed))
    }
}
