//! `dunlin triggers` and `dunlin schedules`: what makes functions run, how it stands, and when it will happen next.

use crate::{
    client::{Client, ServerArgs},
    functions::described,
    output::{ago, print, print_json, table, tell, timestamp},
};
use clap::Args;
use dunlin_events::{FunctionName, manifest::Trigger};
use dunlin_gateway::api::{TriggerList, TriggerState, TriggerSummary};
use std::time::SystemTime;

/// List the triggers of the deployed functions and how they stand.
#[derive(Debug, Args)]
pub(crate) struct TriggersArgs {
    /// Only those of this function, with all that is known of them.
    function: Option<FunctionName>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// List the schedules and the next times they run at.
#[derive(Debug, Args)]
pub(crate) struct SchedulesArgs {
    /// Only those of this function.
    function: Option<FunctionName>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: TriggersArgs) -> anyhow::Result<()> {
    let list = of(&args.server, args.function.as_ref(), |_| true).await?;
    if args.json {
        return print_json(&list);
    }
    if list.triggers.is_empty() {
        tell("no deployed function has a trigger");
        return Ok(());
    }
    let now = SystemTime::now();
    match args.function {
        None => Ok(print(trigger_table(&list, now))?),
        Some(_) => {
            let texts: Vec<_> = list.triggers.iter().map(|trigger| trigger_text(trigger, now)).collect();
            Ok(print(texts.join("\n\n"))?)
        }
    }
}

pub(crate) async fn schedules(args: SchedulesArgs) -> anyhow::Result<()> {
    let list = of(&args.server, args.function.as_ref(), |trigger| matches!(trigger, Trigger::Schedule(_))).await?;
    if args.json {
        return print_json(&list);
    }
    if list.triggers.is_empty() {
        tell("no deployed function has a schedule");
        return Ok(());
    }
    Ok(print(schedule_table(&list))?)
}

async fn of(
    server: &ServerArgs,
    function: Option<&FunctionName>,
    wanted: impl Fn(&Trigger) -> bool,
) -> anyhow::Result<TriggerList> {
    let mut list: TriggerList = Client::new(server)?.get("/api/triggers").await?;
    list.triggers
        .retain(|trigger| wanted(&trigger.trigger) && function.is_none_or(|function| trigger.function == *function));
    Ok(list)
}

fn trigger_table(list: &TriggerList, now: SystemTime) -> String {
    let rows = list.triggers.iter().map(|trigger| {
        let events = if trigger.trigger.makes_events() { trigger.events.to_string() } else { "-".into() };
        [
            trigger.function.to_string(),
            trigger.trigger.kind().into(),
            described(&trigger.trigger),
            state(trigger, now),
            events,
            trigger.last_event.map_or_else(|| "-".into(), |time| ago(time, now)),
            trigger.error.clone().unwrap_or_default(),
        ]
    });
    table(["FUNCTION", "TRIGGER", "WHAT", "STATE", "EVENTS", "LAST", "ERROR"], rows)
}

/// `running`, `failing since 5 minutes ago`.
fn state(trigger: &TriggerSummary, now: SystemTime) -> String {
    match trigger.state {
        TriggerState::Starting => "starting".into(),
        TriggerState::Running => "running".into(),
        TriggerState::Waiting => "waiting".into(),
        TriggerState::Failing => format!("failing since {}", ago(trigger.since, now)),
        TriggerState::Ended => "ended".into(),
    }
}

fn trigger_text(trigger: &TriggerSummary, now: SystemTime) -> String {
    let mut lines = vec![
        ("trigger", format!("{} {}", trigger.trigger.kind(), described(&trigger.trigger))),
        ("state", state(trigger, now)),
    ];
    if let Some(until) = trigger.until {
        lines.push(("until", timestamp(until)));
    }
    if let Some(error) = &trigger.error {
        lines.push(("error", error.clone()));
    }
    if let Some(topic) = &trigger.topic {
        lines.push(("topic", topic.to_string()));
        lines.push(("events", trigger.events.to_string()));
        lines.push(("last event", trigger.last_event.map_or_else(|| "-".into(), |time| ago(time, now))));
    }
    lines.extend(
        trigger
            .details
            .iter()
            .map(|(name, value)| (&**name, value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))),
    );
    if !trigger.upcoming.is_empty() {
        lines.push((
            "next",
            trigger.upcoming.iter().map(|time| timestamp(*time)).collect::<Vec<_>>().join("\n            "),
        ));
    }
    lines.iter().map(|(name, value)| format!("{name:<12}{value}")).collect::<Vec<_>>().join("\n")
}

fn schedule_table(list: &TriggerList) -> String {
    let rows = list.triggers.iter().map(|trigger| {
        let Trigger::Schedule(schedule) = &trigger.trigger else {
            return [trigger.function.to_string(), described(&trigger.trigger), String::new()];
        };
        let shown = |time: &u64| dunlin_triggers::shown_in_zone(schedule, *time).unwrap_or_else(|| timestamp(*time));
        let upcoming: Vec<_> = trigger.upcoming.iter().map(shown).collect();
        let name = schedule.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let next = match (&trigger.error, upcoming.is_empty()) {
            (Some(error), true) => error.clone(),
            (None, true) => "never again".into(),
            (_, false) => upcoming.join("\n"),
        };
        [trigger.function.to_string(), format!("{name}{schedule}"), next]
    });
    table(["FUNCTION", "SCHEDULE", "NEXT"], rows)
}
