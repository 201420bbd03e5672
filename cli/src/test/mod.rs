//! `dunlin test`: runs functions on recorded events and requests, in the real sandbox, and compares what comes of it.
//!
//! It starts a platform of its own on free ports, deploys one function at a time there and makes each case happen: an event
//! is published, a request is sent. So what is tested is the component with its manifest's limits, rights and retries, and
//! not a stand-in. What a case says, and what differs, is in [`case`]; how it is made to happen, in [`stage`].

mod case;
mod stage;

use self::{case::Case, stage::Stage};
use crate::{
    build,
    client::{Client, ServerArgs},
    manifest::{self, ManifestFile, process_environment},
    output::{BOLD, DIM, GREEN, PLAIN, RED, count, print, tell},
    report::{Exit, Failure},
};
use anyhow::Context as _;
use clap::Args;
use dunlin_events::topics::{Offset, TopicName};
use dunlin_gateway::api::EventPage;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Run functions on recorded events and requests, in the real sandbox.
///
/// Every `*.event.json` and `*.request.json` beside a function.yaml, and in the folder `tests` there, is a case: what comes
/// in, and what must come of it. The functions are built first. No platform is needed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin test                                    the functions in and below this folder
  dunlin test billing --record                   write down what comes of each case as what must
  dunlin test billing --from orders --limit 20   make cases of events that a platform has, and run them

A case is a JSON file:
  { \"event\": { \"type\": \"order.created\", \"data\": { \"total\": 5 } },
    \"returns\": [{ \"type\": \"order.paid\" }], \"state\": { \"orders\": 1 } }
  { \"request\": { \"path\": \"/greeter/ada\" }, \"response\": { \"status\": 200 } }

The exit code is 1 when a case fails.")]
pub(crate) struct TestArgs {
    /// A function.yaml, or a folder.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Write what comes of each case into it, as what must.
    #[arg(long)]
    record: bool,
    /// Make a case of each event of this topic, on the platform --server names. It is recorded, where there is none of its
    /// name.
    #[arg(long, value_name = "TOPIC")]
    from: Option<TopicName>,
    /// The first event that is taken from there.
    #[arg(long, value_name = "OFFSET", requires = "from", default_value_t = 0)]
    offset: Offset,
    /// Take at most so many.
    #[arg(long, value_name = "N", requires = "from", default_value_t = 100)]
    limit: usize,
    /// Take the components as they are.
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let files = manifest::read_all(&[&args.path], &process_environment)?;
    if let Some(topic) = &args.from {
        let [file] = &files[..] else {
            let failure =
                Failure::refused(format!("`--from` makes cases for one function, and here are {}", files.len()));
            return Err(failure.help("name the function's folder: `dunlin test billing --from orders`").into());
        };
        take(file, topic, &args).await?;
    }
    let mut tested = Vec::new();
    for file in files {
        let cases = Case::all(file.folder())?;
        if !cases.is_empty() {
            tested.push((file, cases));
        }
    }
    if tested.is_empty() {
        let failure = Failure::refused(format!("there is no case for any function in `{}`", args.path.display()));
        let help = "put a `first.event.json` or `first.request.json` into `tests` beside its function.yaml: `dunlin test --help` shows one";
        return Err(failure.help(help).into());
    }
    if !args.no_build {
        for (file, _) in &tested {
            build::build(file).await?;
        }
    }
    let stage = Stage::open(&args.path).await?;
    let ended = play(&stage, tested, args.record).await;
    stage.close().await;
    let (passed, failed) = ended?;
    let colour = if failed == 0 { GREEN } else { RED };
    print(format!("{colour}{} passed, {failed} failed{PLAIN}", count(passed, "case")))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { Exit::Failed.into() })
}

/// Runs all cases. Answers with how many passed, and how many failed.
async fn play(stage: &Stage, tested: Vec<(ManifestFile, Vec<Case>)>, record: bool) -> anyhow::Result<(u64, u64)> {
    let (mut passed, mut failed) = (0, 0);
    for (file, mut cases) in tested {
        let name = file.manifest.name.clone();
        let function = stage.deploy(file, &cases).await?;
        for case in &mut cases {
            let outcome = function.play(case).await.with_context(|| format!("`{}` could not be run", case.name()))?;
            let recorded = (record || case.is_new()) && case.record(&outcome)?;
            let differences = case.differences(&outcome);
            let shown = format!("{BOLD}{name}{PLAIN} {}", case.name());
            if differences.is_empty() {
                passed += 1;
                let note = if recorded { format!("{DIM}, recorded{PLAIN}") } else { String::new() };
                print(format!("{GREEN}ok{PLAIN}    {shown}{note}"))?;
            } else {
                failed += 1;
                print(format!("{RED}FAIL{PLAIN}  {shown}"))?;
                for difference in differences {
                    print(format!("      {}", difference.replace('\n', "\n      ")))?;
                }
                for line in function.logged(&outcome).await? {
                    print(format!("      {DIM}log:{PLAIN} {line}"))?;
                }
            }
        }
        function.remove().await?;
    }
    Ok((passed, failed))
}

/// Makes cases of a topic's events.
async fn take(file: &ManifestFile, topic: &TopicName, args: &TestArgs) -> anyhow::Result<()> {
    let path = format!("/api/topics/{topic}/events?from={}&limit={}", args.offset, args.limit.clamp(1, 10_000));
    let page: EventPage = Client::new(&args.server)?.get(&path).await?;
    let folder = file.folder().join("tests");
    let mut made = 0;
    for record in &page.events {
        made += u64::from(Case::make(&folder, topic, record)?);
    }
    tell(format_args!("{} made in `{}`", count(made, "new case"), folder.display()));
    Ok(())
}

/// A path as it is shown: from the folder that is looked at.
fn shown(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).display().to_string()
}
