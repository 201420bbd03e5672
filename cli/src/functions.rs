//! `dunlin list`, `show`, `versions`, `rollback` and `remove`: what is deployed, and which version of it.

use crate::{
    build,
    client::{Client, ServerArgs, segment},
    output::{BOLD, PLAIN, ago, confirm, print, print_json, size, table, tell, timestamp},
};
use clap::Args;
use dunlin_events::{FunctionName, manifest::Trigger};
use dunlin_gateway::api::{Activity, FunctionDetail, FunctionList, FunctionSummary, RollbackRequest, VersionList};
use std::time::SystemTime;

/// List the deployed functions.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Show one function: its active version, manifest and activity.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The function.
    name: FunctionName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// List the versions of a function, newest first.
#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The function.
    name: FunctionName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Make an earlier version of a function the active one.
///
/// Requests that are running finish on the version they began with. Nothing is compiled or uploaded.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// The function.
    name: FunctionName,
    /// The version to go to; the one before the active one when not given.
    #[arg(long, value_name = "VERSION")]
    to: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Remove a function with all its versions.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The function.
    name: FunctionName,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Take away first what its triggers made elsewhere, such as replication slots.
    #[arg(long)]
    dispose: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn list(args: ListArgs) -> anyhow::Result<()> {
    let list: FunctionList = Client::new(&args.server)?.get("/api/functions").await?;
    if args.json {
        return print_json(&list);
    }
    if list.functions.is_empty() {
        tell("nothing is deployed yet: `dunlin deploy DIR` deploys every function.yaml in and below a folder");
        return Ok(());
    }
    Ok(print(list_table(&list, SystemTime::now()))?)
}

fn list_table(list: &FunctionList, now: SystemTime) -> String {
    let rows = list.functions.iter().map(|function| {
        let FunctionSummary { name, version, shape, triggers, deployed_at, activity, .. } = function;
        [
            name.to_string(),
            version.to_string(),
            shape.to_string(),
            triggered_by(triggers),
            activity.invocations.to_string(),
            failed(activity).to_string(),
            ago(*deployed_at, now),
        ]
    });
    table(["NAME", "VERSION", "KIND", "TRIGGERS", "INVOCATIONS", "FAILED", "DEPLOYED"], rows)
}

fn failed(activity: &Activity) -> u64 {
    activity.failed.values().sum()
}

/// A function's triggers in one line: `GET,POST api.example.com/invoices/{id}  topic orders`.
pub(crate) fn triggered_by(triggers: &[Trigger]) -> String {
    let triggers: Vec<String> = triggers
        .iter()
        .map(|trigger| match trigger {
            Trigger::Http(_) => described(trigger),
            other => format!("{} {}", other.kind(), described(other)),
        })
        .collect();
    if triggers.is_empty() { "-".into() } else { triggers.join("  ") }
}

/// What sets a trigger off, beside its kind: `POST /invoices/{id}`, `0 3 * * *`.
pub(crate) fn described(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Http(http) => {
            let methods: Vec<_> = http.methods.iter().map(|method| method.as_str()).collect();
            let host = http.host.as_ref().map(|host| host.as_str()).unwrap_or_default();
            let space = if methods.is_empty() { "" } else { " " };
            format!("{}{space}{host}{}", methods.join(","), http.path)
        }
        Trigger::Webhook(webhook) => {
            let host = webhook.host.as_ref().map(|host| host.as_str()).unwrap_or_default();
            format!("{host}{}", webhook.path)
        }
        Trigger::Schedule(schedule) => schedule.to_string(),
        Trigger::Files(files) => files.place(),
        Trigger::Database(database) => database.table_names().map(ToString::to_string).collect::<Vec<_>>().join(","),
        Trigger::Topic(topic) => topic.name.to_string(),
    }
}

pub(crate) async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let path = format!("/api/functions/{}", args.name);
    let detail: FunctionDetail = Client::new(&args.server)?.get(&path).await?;
    if args.json { print_json(&detail) } else { Ok(print(show_text(&detail)?)?) }
}

fn show_text(detail: &FunctionDetail) -> anyhow::Result<String> {
    let FunctionDetail { name, active, activity } = detail;
    let component = &active.component;
    let mut lines = vec![
        format!("{BOLD}{name}{PLAIN} version {}, deployed {}", active.number, timestamp(active.deployed_at)),
        format!("triggers   {}", triggered_by(&active.manifest.triggers)),
        format!("component  {}, {} ({})", component.shape, size(component.size), component.digest),
        format!("now        {} running, {} waiting", activity.running, activity.waiting),
        format!("so far     {} invocations, {} failed{}", activity.invocations, failed(activity), reasons(activity)),
    ];
    if activity.invocations > 0 {
        let average = activity.seconds * 1000.0 / activity.invocations as f64;
        lines.push(format!("average    {average:.2} ms"));
    }
    if !component.imports.is_empty() {
        lines.push(format!("imports    {}", component.imports.join("\n           ")));
    }
    lines.push("manifest".into());
    let manifest = serde_yaml::to_string(&build::shown(active.manifest.clone()))?;
    lines.extend(manifest.lines().map(|line| format!("  {line}")));
    Ok(lines.join("\n"))
}

fn reasons(activity: &Activity) -> String {
    if activity.failed.is_empty() {
        return String::new();
    }
    let reasons: Vec<_> = activity.failed.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!(" ({})", reasons.join(", "))
}

pub(crate) async fn versions(args: VersionsArgs) -> anyhow::Result<()> {
    let path = format!("/api/functions/{}/versions", args.name);
    let list: VersionList = Client::new(&args.server)?.get(&path).await?;
    if args.json { print_json(&list) } else { Ok(print(versions_table(&list, SystemTime::now()))?) }
}

fn versions_table(list: &VersionList, now: SystemTime) -> String {
    let rows = list.versions.iter().map(|version| {
        let component = &version.component;
        [
            version.number.to_string(),
            if version.number == list.active { "active".into() } else { String::new() },
            ago(version.deployed_at, now),
            component.shape.to_string(),
            size(component.size),
            component.digest.to_string().chars().take("sha256:".len() + 12).collect(),
        ]
    });
    table(["VERSION", "", "DEPLOYED", "KIND", "SIZE", "COMPONENT"], rows)
}

pub(crate) async fn rollback(args: RollbackArgs) -> anyhow::Result<()> {
    let path = format!("/api/functions/{}/rollback", args.name);
    let request = RollbackRequest { to: args.to };
    let summary: FunctionSummary = Client::new(&args.server)?.post(&path, &request).await?;
    if args.json {
        return print_json(&summary);
    }
    Ok(print(format!("`{}` is at version {} now", summary.name, summary.version))?)
}

pub(crate) async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let path = format!("/api/functions/{}", segment(args.name.as_str()));
    let detail: FunctionDetail = client.get(&path).await?;
    let feeds = detail.active.manifest.triggers.iter().any(|trigger| matches!(trigger, Trigger::Database(_)));
    if feeds && !args.dispose {
        tell(
            "what its database trigger made in the database stays there: a replication slot keeps the database from \
             throwing its log away. `--dispose` drops it",
        );
    }
    if !args.yes {
        let question = format!("Remove `{}` with all its versions from {}?", args.name, client.server());
        confirm(&question, &format!("`{}` was not removed", args.name)).await?;
    }
    let dispose = if args.dispose { "?dispose=true" } else { "" };
    client.delete(&format!("{path}{dispose}")).await?;
    Ok(print(format!("`{}` is removed", args.name))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn detail() -> FunctionDetail {
        serde_json::from_value(serde_json::json!({
            "name": "billing",
            "active": {
                "number": 3, "deployed_at": 1_000_000,
                "manifest": {
                    "name": "billing", "component": "billing.wasm",
                    "triggers": [
                        { "http": { "path": "/invoices/{id}", "methods": ["GET", "POST"], "host": "api.example.com" } },
                        { "http": { "path": "/" } },
                        { "topic": { "name": "shop.*" } },
                    ],
                    "allow": { "secrets": ["STRIPE_KEY"] },
                },
                "component": {
                    "digest": format!("sha256:{}", "ab".repeat(32)), "size": 92_160, "shape": "http02",
                    "imports": ["wasi:cli/stdout@0.2.0"], "initial_memory": 0,
                },
            },
            "activity": {
                "running": 1, "waiting": 0, "invocations": 10, "succeeded": 7, "failed": { "time": 2, "trap": 1 }, "seconds": 0.05,
            },
        }))
        .unwrap()
    }

    #[test]
    fn one_function_at_a_glance() {
        let FunctionDetail { name, active, activity } = detail();
        let summary = FunctionSummary {
            name,
            version: active.number,
            shape: active.component.shape,
            triggers: active.manifest.triggers.clone(),
            component: active.component.digest,
            size: active.component.size,
            deployed_at: active.deployed_at,
            activity,
        };
        let now = UNIX_EPOCH + Duration::from_secs(1120);
        assert_eq!(
            list_table(&FunctionList { functions: vec![summary] }, now),
            "NAME     VERSION  KIND      TRIGGERS                                                 INVOCATIONS  FAILED  DEPLOYED\n\
             billing  3        http 0.2  GET,POST api.example.com/invoices/{id}  /  topic shop.*  10           3       2m ago"
        );
        let versions = VersionList { active: 3, versions: vec![active] };
        assert_eq!(
            versions_table(&versions, now),
            "VERSION          DEPLOYED  KIND      SIZE      COMPONENT\n\
             3        active  2m ago    http 0.2  90.0 KiB  sha256:abababababab"
        );
    }

    #[test]
    fn one_function_in_full() {
        let text = show_text(&detail()).unwrap();
        for line in [
            "triggers   GET,POST api.example.com/invoices/{id}  /  topic shop.*",
            "so far     10 invocations, 3 failed (2 time, 1 trap)",
            "average    5.00 ms",
            "imports    wasi:cli/stdout@0.2.0",
            "  name: billing",
        ] {
            assert!(text.lines().any(|printed| printed == line), "{line:?} is not in\n{text}");
        }
    }
}
