//! `dunlin`, the one binary: the platform (`up`), and the client of a running one (all else).
//!
//! This room alone names concrete types of the others: it reads configuration, wires store, runtime and gateway, and handles
//! signals. The client half knows the platform only by its admin API, so it works the same on one that runs elsewhere.

#![forbid(unsafe_code)]

mod build;
mod client;
mod consumers;
mod dead_letters;
mod deploy;
mod dev;
mod doctor;
mod events;
mod functions;
mod invoke;
mod logs;
mod manifest;
mod new;
mod output;
mod publish;
mod report;
mod schema;
mod secrets;
mod state;
mod test;
mod topics;
mod triggers;
mod up;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use report::Exit;
use std::process::ExitCode;

/// A fresh sandbox for every request is many small allocations, freed on the thread that made them: what this one is for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Run WebAssembly functions when things happen.
///
/// `dunlin up` runs the platform. The other commands talk to one, here or elsewhere (--server). A function is a compiled
/// component and a `function.yaml` that says when it runs and what it may touch.
#[derive(Debug, Parser)]
#[command(
    name = "dunlin",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
To begin:
  dunlin new                make a function from a template
  dunlin up                 run the platform, in a terminal of its own
  dunlin deploy DIR         deploy every function.yaml in and below a folder
  dunlin invoke NAME        call a function
  dunlin publish TOPIC      publish an event
  dunlin dev DIR            build, deploy and watch, with a platform of its own

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused and nothing changed, 4 no platform answers,
5 the function answered with an error (invoke), 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::UpArgs>),
    Dev(dev::DevArgs),
    Test(test::TestArgs),
    #[command(flatten)]
    Client(ClientCommand),
    /// Print the JSON Schema of function.yaml, for editors.
    Schema,
    /// Print a script that completes `dunlin` commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// What runs in a moment and ends.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Deploy(deploy::DeployArgs),
    List(functions::ListArgs),
    Show(functions::ShowArgs),
    Invoke(invoke::InvokeArgs),
    Logs(logs::LogsArgs),
    Publish(Box<publish::PublishArgs>),
    Events(events::EventsArgs),
    Topics(Box<topics::TopicsArgs>),
    Triggers(triggers::TriggersArgs),
    Schedules(triggers::SchedulesArgs),
    Consumers(consumers::ConsumersArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    State(state::StateArgs),
    Versions(functions::VersionsArgs),
    Rollback(functions::RollbackArgs),
    Remove(functions::RemoveArgs),
    Doctor(doctor::DoctorArgs),
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| report::report(&error))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => up::run(*args).map(done),
        Command::Schema => schema::run().map(done),
        Command::Completions { shell } => completions(shell).map(done),
        Command::Dev(args) => with_platform(dev::run(args)),
        Command::Test(args) => with_platform(interruptible(test::run(args))),
        Command::Client(command) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("no event loop can be had")?;
            let ended = runtime.block_on(interruptible(run_client(command)));
            // Not dropped, which would wait for whoever reads stdin until its end.
            runtime.shutdown_background();
            ended
        }
    }
}

/// Runs a command with a platform in this process: there is more than one thing to do at a time.
fn with_platform(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be had")?;
    let ended = runtime.block_on(command);
    // It ends with the process: sandboxes that wait to be used again hold on to its clock.
    std::mem::forget(runtime);
    ended
}

async fn run_client(command: ClientCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClientCommand::New(args) => new::run(args).await.map(done),
        ClientCommand::Build(args) => build::run(args).await.map(done),
        ClientCommand::Deploy(args) => deploy::run(args).await.map(done),
        ClientCommand::List(args) => functions::list(args).await.map(done),
        ClientCommand::Show(args) => functions::show(args).await.map(done),
        ClientCommand::Invoke(args) => invoke::run(args).await,
        ClientCommand::Logs(args) => logs::run(args).await.map(done),
        ClientCommand::Publish(args) => publish::run(*args).await.map(done),
        ClientCommand::Events(args) => events::run(args).await.map(done),
        ClientCommand::Topics(args) => topics::run(*args).await.map(done),
        ClientCommand::Triggers(args) => triggers::run(args).await.map(done),
        ClientCommand::Schedules(args) => triggers::schedules(args).await.map(done),
        ClientCommand::Consumers(args) => consumers::run(args).await.map(done),
        ClientCommand::DeadLetters(args) => dead_letters::run(args).await.map(done),
        ClientCommand::State(args) => state::run(args).await.map(done),
        ClientCommand::Versions(args) => functions::versions(args).await.map(done),
        ClientCommand::Rollback(args) => functions::rollback(args).await.map(done),
        ClientCommand::Remove(args) => functions::remove(args).await.map(done),
        ClientCommand::Doctor(args) => doctor::run(args).await,
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Ctrl-C drops what a command is doing: a request is cancelled, a build killed, a progress bar taken off the screen.
async fn interruptible(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = command => ended,
        signal = tokio::signal::ctrl_c() => {
            signal.context("Ctrl-C can't be heard")?;
            Ok(Exit::Interrupted.into())
        }
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dunlin", &mut script);
    output::print(String::from_utf8(script)?).context("the script can't be written")
}

#[cfg(test)]
mod tests;
