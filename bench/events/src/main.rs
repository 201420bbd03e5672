//! The benchmark of events: Dunlin and NATS JetStream side by side. `run.sh` starts it.
//!
//! Six parts, each on servers of its own that listen on free ports, with data folders of their own on one disk:
//!
//! - `publish`: events a second and latency of publishers that wait until their events are on disk.
//! - `pass`: from one topic through a function to another, and what a program does between two streams of the peer.
//! - `latency`: from publishing an event to the function's run.
//! - `fanout`: one topic with up to a thousand functions that read it.
//! - `history`: the same with a million events stored before.
//! - `behind`: memory while a function catches up with a million events.
//!
//! Every event has 512 bytes of data ([`event`]). Servers are loaded in turn, A B C A B C …, and the median of the rounds
//! counts, so that whatever else the machine does meets all of them alike. Servers and load generator, and with the peer
//! the program that stands for the function, share the cores: only the ratios mean something elsewhere.

mod behind;
mod contestant;
mod dunlin;
mod event;
mod fanout;
mod history;
mod jetstream;
mod latency;
mod pass;
mod publish;
mod publisher;

use anyhow::Result;
use dunlin_bench_harness::{self as harness, Report, Times, variable};
use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

/// What the environment says, see `run.sh`.
struct Settings {
    dunlin: PathBuf,
    nats: PathBuf,
    rounds: usize,
    time: Duration,
    /// Events of `pass`.
    events: u64,
    /// Events stored before, of `history`.
    history: u64,
    /// Events to catch up with, of `behind`.
    behind: u64,
}

impl Settings {
    fn from_env() -> Result<Self> {
        Ok(Self {
            dunlin: harness::dunlin()?,
            nats: variable("NATS")?,
            rounds: variable("ROUNDS")?,
            time: Duration::from_secs(variable("SECONDS_")?),
            events: variable("EVENTS")?,
            history: variable("HISTORY")?,
            behind: variable("BEHIND")?,
        })
    }
}

fn main() -> Result<()> {
    let settings = Settings::from_env()?;
    let facts = [
        ("peer", Report::first_line(&settings.nats, "--version")?),
        ("disk", disk()?),
        (
            "load",
            format!(
                "one thread of this program, which shares the cores with the servers; {} rounds of {:?}, the median",
                settings.rounds, settings.time
            ),
        ),
        (
            "events",
            format!(
                "{} bytes of data; Dunlin's are CloudEvents, which come with id, type, time and key on top and are taken \
                 once for each id; JetStream's have no headers and no ids",
                event::SIZE
            ),
        ),
    ];
    let report = Report::new("Events", &settings.dunlin, &facts)?;
    let parts = [
        ("publish", publish::measure as _),
        ("pass", pass::measure as _),
        ("latency", latency::measure as _),
        ("fanout", fanout::measure as _),
        ("history", history::measure as _),
        ("behind", behind::measure as _),
    ];
    harness::run(&settings, &parts, report, Path::new("bench/events/results.md"))
}

/// One thread: what loads the servers takes no more of their cores than it has to.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// What the data folders are on: its file system, and what a write that is flushed costs there.
fn disk() -> Result<String> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(folder.path()).output()?;
    let mut file = File::create(folder.path().join("file"))?;
    let mut times = Times::default();
    for _ in 0..200 {
        file.write_all(&[1; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.add(start.elapsed());
    }
    let kind = String::from_utf8_lossy(&output.stdout);
    Ok(format!("{}, one fdatasync of 4 KiB {}", kind.trim(), harness::time(times.at(0.5))))
}

/// How many times the one figure is of the other.
fn ratio(ours: f64, theirs: f64) -> String {
    let ratio = ours / theirs;
    if ratio < 2.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}
