//! Triggers: what makes each function run, and how that stands.

use super::{
    App,
    openapi::{Content, Operation},
    request::{Answer, Shared, json},
};
use crate::api::{TriggerList, TriggerState, TriggerSummary};
use axum::extract::State;
use dunlin_events::units::epoch_millis;
use std::time::SystemTime;

/// Coming times that are told.
const UPCOMING: usize = 5;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/triggers", "triggers", "Every trigger of every function, and how it stands.", triggers)
            .answers(Content::json::<TriggerList>()),
    ]
}

async fn triggers(State(app): Shared) -> Answer {
    let now = SystemTime::now();
    Ok(json(&TriggerList { triggers: list(&app, now) }))
}

fn list(app: &App, now: SystemTime) -> Vec<TriggerSummary> {
    let mut all = Vec::new();
    for function in app.deployments.table().functions.values() {
        let manifest = &function.version.manifest;
        for (index, (trigger, status)) in manifest.triggers.iter().zip(&function.statuses).enumerate() {
            let upcoming = match app.deployments.open_source(function.name(), trigger) {
                Some(source) => source.upcoming(now, UPCOMING),
                None => Vec::new(),
            };
            let status = status.snapshot();
            let runs = trigger.has_source();
            all.push(TriggerSummary {
                function: function.name().clone(),
                index,
                trigger: trigger.clone(),
                topic: manifest.topic_of(trigger),
                state: if runs { status.state } else { TriggerState::Running },
                since: if runs { status.since } else { function.version.deployed_at },
                until: status.until,
                error: status.error,
                events: status.events,
                last_event: status.last_event,
                details: status.details,
                upcoming: upcoming.into_iter().map(epoch_millis).collect(),
            });
        }
    }
    all
}
