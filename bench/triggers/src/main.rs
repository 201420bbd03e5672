//! The benchmark of many triggers: what they cost a platform. `run.sh` starts it.
//!
//! - `schedules`: ten thousand functions with a schedule each, none of them due: the start, and what the platform takes then.
//!   After that as many that run once a minute.
//! - `webhooks`: a thousand functions with a webhook each.
//! - `files`: a folder into which a hundred thousand files are dropped at once, until each is an event on disk and the
//!   function has had it; and a start with all of them there.
//! - `large`: one file of ten gigabytes, which is the body of a request to a function that reads all of it.
//!
//! There is no peer: what others call idle is a service that waits in a container.

use anyhow::{Context, Result, ensure};
use dunlin_bench_harness::{self as harness, Functions, Report, Server, guest, variable};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// What the environment says, see `run.sh`.
struct Settings {
    dunlin: PathBuf,
    time: Duration,
    schedules: usize,
    webhooks: usize,
    files: usize,
    large: u64,
}

/// How long anything may take before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> Result<()> {
    let settings = Settings {
        dunlin: harness::dunlin()?,
        time: Duration::from_secs(variable("SECONDS_")?),
        schedules: variable("SCHEDULES")?,
        webhooks: variable("WEBHOOKS")?,
        files: variable("FILES")?,
        large: variable("LARGE")?,
    };
    let report = Report::new("Many triggers", &settings.dunlin, &[])?;
    let parts = [
        ("schedules", measure_schedules as _),
        ("webhooks", measure_webhooks as _),
        ("files", measure_files as _),
        ("large", measure_large as _),
    ];
    harness::run(&settings, &parts, report, Path::new("bench/triggers/results.md"))
}

fn measure_schedules(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = settings.schedules;
    report.table(
        &format!("{} schedules", harness::number(count as f64)),
        &format!(
            "As many functions of one component, deployed at once, and a start after that. At first each has a minute of its \
             own in the year, so that next to none is due; then each runs once a minute, at a second of its own. Watched for \
             {:?}.",
            settings.time
        ),
        &["what", "measured"],
    );
    let component = guest("upper")?;
    let mut idle = Functions::new()?;
    for number in 0..count {
        // Next year's, month by month.
        let (minute, hour, day, month) = (number % 60, number / 60 % 24, 1 + number / 1440 % 28, 1 + number % 12);
        let cron = format!("{minute} {hour} {day} {month} *");
        idle.add(&format!("s-{number}"), &component, &schedule(&format!("cron: \"{cron}\"")))?;
    }
    idle_platform(settings, report, &idle, &[])?;

    let mut busy = Functions::new()?;
    for number in 0..count {
        busy.add(&format!("s-{number}"), &component, &schedule(&format!("cron: \"{} * * * * *\"", number % 60)))?;
    }
    let mut server = Server::platform(&settings.dunlin)?;
    server.deploy(&busy)?;
    // The first minute compiles, and makes the topics.
    sleep(Duration::from_secs(60));
    let (before, runs) = (server.processor_time()?, invocations(settings, &server)?);
    let start = Instant::now();
    sleep(settings.time);
    let runs = invocations(settings, &server)? - runs;
    let (time, used) = (start.elapsed(), server.processor_time()? - before);
    for (what, measured) in [
        ("runs/s, once a minute each", format!("{:.0}", runs as f64 / time.as_secs_f64())),
        ("processor while they run", share(used, time)),
        ("memory while they run", harness::memory(server.resident()?)),
    ] {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}

fn schedule(when: &str) -> String {
    format!("triggers:\n  - schedule: {{ {when} }}\n")
}

fn measure_webhooks(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = settings.webhooks;
    report.table(
        &format!("{} webhooks", harness::number(count as f64)),
        &format!(
            "As many functions of one component with a path each, and one secret. Watched for {:?}.",
            settings.time
        ),
        &["what", "measured"],
    );
    let component = guest("upper")?;
    let mut functions = Functions::new()?;
    for number in 0..count {
        let manifest =
            format!("triggers:\n  - webhook: {{ path: /hooks/{number}, provider: github, secrets: [HOOK] }}\n");
        functions.add(&format!("w-{number}"), &component, &manifest)?;
    }
    idle_platform(settings, report, &functions, &[("DUNLIN_SECRET_HOOK", "It's a Secret to Everybody")])
}

/// What it costs to deploy functions, to start with them, and to have them.
fn idle_platform(
    settings: &Settings,
    report: &mut Report,
    functions: &Functions,
    variables: &[(&str, &str)],
) -> Result<()> {
    let mut server = Server::platform_with(&settings.dunlin, variables)?;
    server.deploy(functions)?;
    let deploy = server.deploy_time();
    let server = server.restart()?;
    let (used, rest) = idle(settings, &server)?;
    for (what, measured) in [
        ("deploy", harness::time(deploy)),
        ("start", harness::time(server.start_time())),
        ("until nothing happens", harness::time(rest)),
        ("processor, idle", used),
        ("memory, idle", harness::memory(server.resident()?)),
    ] {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}

fn measure_files(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = settings.files;
    report.table(
        &format!("{} files", harness::number(count as f64)),
        &format!(
            "Files of 200 bytes, renamed into the folder of one function in a moment, and kept. Watched for {:?} after that, and \
             after a start with all of them there.",
            settings.time
        ),
        &["what", "measured"],
    );
    let inbox = tempfile::tempdir()?;
    let (aside, folder) = (inbox.path().join("aside"), inbox.path().join("inbox"));
    fs::create_dir(&aside)?;
    fs::create_dir(&folder)?;
    for number in 0..count {
        fs::write(aside.join(format!("{number}.txt")), format!("{number:0200}"))?;
    }
    let mut functions = Functions::new()?;
    let manifest = format!("triggers:\n  - files: {{ path: {} }}\n", folder.display());
    functions.add("reader", &guest("upper")?, &manifest)?;
    let mut server = Server::platform(&settings.dunlin)?;
    server.deploy(&functions)?;

    let mut watch = Watch::begin(&server)?;
    for number in 0..count {
        let name = format!("{number}.txt");
        fs::rename(aside.join(&name), folder.join(&name))?;
    }
    let dropped = watch.start.elapsed();
    let events = watch.until(|| Ok(end(settings, &server, "reader.files")? >= count as u64))?;
    let handled = watch.until(|| Ok(invocations(settings, &server)? >= count as u64))?;
    let Watch { before, most, .. } = watch;
    let (used, _) = idle(settings, &server)?;
    let after = server.resident()?;
    let rows = [
        ("dropping them", harness::time(dropped)),
        ("until all are events on disk", harness::time(events)),
        ("until the function has had all", harness::time(handled)),
        ("memory before", harness::memory(before)),
        ("most memory meanwhile", harness::memory(most)),
        ("processor, idle", used),
        ("memory, idle", harness::memory(after)),
    ];
    let server = server.restart()?;
    let (used, rest) = idle(settings, &server)?;
    ensure!(end(settings, &server, "reader.files")? == count as u64, "a file was seen twice");
    let again = [
        ("start", harness::time(server.start_time())),
        ("until nothing happens", harness::time(rest)),
        ("processor, idle after the start", used),
        ("memory, idle after the start", harness::memory(server.resident()?)),
    ];
    for (what, measured) in rows.into_iter().chain(again) {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}

fn measure_large(settings: &Settings, report: &mut Report) -> Result<()> {
    report.table(
        &format!("A file of {} GB", harness::number(settings.large as f64 / 1e9)),
        "One file of zeros, renamed into the folder. Its event is on disk when all of it has been hashed; the function gets it as the body of a request (`content: stream`), and adds up its bytes.",
        &["what", "measured"],
    );
    let inbox = tempfile::tempdir()?;
    let (aside, folder) = (inbox.path().join("zeros.bin"), inbox.path().join("inbox"));
    fs::create_dir(&folder)?;
    fs::File::create(&aside)?.set_len(settings.large)?;
    let manifest = format!(
        "triggers:\n  - files: {{ path: {}, content: stream }}\npublish: weighed\nallow: {{ http: [] }}\n\
         limits: {{ memory: 16MiB, time: 10m, cpu: 10m }}\n",
        folder.display()
    );
    let mut functions = Functions::new()?;
    functions.add("weigh", &guest("weigh")?, &manifest)?;
    let mut server = Server::platform(&settings.dunlin)?;
    server.deploy(&functions)?;

    let mut watch = Watch::begin(&server)?;
    fs::rename(&aside, folder.join("zeros.bin"))?;
    let mut reached = |topic| watch.until(|| Ok(end(settings, &server, topic)? > 0));
    let (event, read) = (reached("weigh.files")?, reached("weighed")?);
    let Watch { before, most, .. } = watch;
    for (what, measured) in [
        ("until its event is on disk", harness::time(event)),
        ("until the function has read it", harness::time(read)),
        ("memory before", harness::memory(before)),
        ("most memory meanwhile", harness::memory(most)),
    ] {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}

/// A platform at work: since when, and its memory before and at most.
struct Watch<'a> {
    server: &'a Server,
    start: Instant,
    before: u64,
    most: u64,
}

impl<'a> Watch<'a> {
    fn begin(server: &'a Server) -> Result<Self> {
        let before = server.resident()?;
        Ok(Self { server, start: Instant::now(), before, most: before })
    }

    /// How long it took until something is done.
    fn until(&mut self, done: impl Fn() -> Result<bool>) -> Result<Duration> {
        while !done()? {
            ensure!(self.start.elapsed() < PATIENCE, "the platform has not done it in {PATIENCE:?}");
            self.most = self.most.max(self.server.resident()?);
            sleep(Duration::from_millis(200));
        }
        Ok(self.start.elapsed())
    }
}

/// Waits until the platform has come to rest: how much of a processor it takes then, and how long that took.
fn idle(settings: &Settings, server: &Server) -> Result<(String, Duration)> {
    /// Threads that read files and the store end when nobody has needed them for ten seconds, and that is work.
    const THREADS: Duration = Duration::from_secs(12);
    let start = Instant::now();
    let mut before = server.processor_time()?;
    loop {
        sleep(Duration::from_secs(1));
        let now = server.processor_time()?;
        if now - before <= Duration::from_millis(20) {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "the platform does not come to rest");
        before = now;
    }
    let rest = start.elapsed() - Duration::from_secs(1);
    sleep(THREADS);
    let before = server.processor_time()?;
    sleep(settings.time);
    Ok((share(server.processor_time()? - before, settings.time), rest))
}

fn share(used: Duration, time: Duration) -> String {
    format!("{:.2} %", used.as_secs_f64() / time.as_secs_f64() * 100.0)
}

/// What the platform answers a command with, as JSON.
fn asked(settings: &Settings, server: &Server, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(&settings.dunlin);
    command.args(arguments).args(["--json", "--server", &format!("http://{}", server.admin())]);
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn end(settings: &Settings, server: &Server, topic: &str) -> Result<u64> {
    let topic = asked(settings, server, &["topics", "show", topic])?;
    topic["end"].as_u64().with_context(|| format!("a topic without end: {topic}"))
}

/// How often functions ran, all together.
fn invocations(settings: &Settings, server: &Server) -> Result<u64> {
    let list = asked(settings, server, &["list"])?;
    let functions = list["functions"].as_array().with_context(|| format!("no functions: {list}"))?;
    Ok(functions.iter().filter_map(|function| function["activity"]["invocations"].as_u64()).sum())
}
