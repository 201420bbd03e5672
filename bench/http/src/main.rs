//! The HTTP benchmark: Dunlin, `wasmtime serve` and bare hyper side by side. `run.sh` starts it.
//!
//! Four parts, each on platforms of its own that listen on free ports:
//!
//! - `load`: requests a second and latency, fresh and reused sandboxes, beside the peers that do the same.
//! - `idle`: processor time and memory of a platform that nobody calls.
//! - `first`: the first call of a function whose code is not loaded.
//! - `many`: ten thousand deployed functions: memory, start, and what they cost the one that is called.
//!
//! Servers are loaded in turn, A B C A B C …, and the median of the rounds counts, so that whatever else the machine does
//! meets all of them alike. Server and load generator share the cores: only the ratios mean something elsewhere.

mod calls;

use anyhow::Result;
use calls::call_each;
use dunlin_bench_harness::{self as harness, Functions, Load, Report, Server, Times, variable, wrk};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// What the environment says, see `run.sh`.
struct Settings {
    dunlin: PathBuf,
    wasmtime: PathBuf,
    rounds: usize,
    time: Duration,
    /// A large component to time the first call of.
    python: Option<PathBuf>,
}

impl Settings {
    fn from_env() -> Result<Self> {
        Ok(Self {
            dunlin: harness::dunlin()?,
            wasmtime: variable("WASMTIME")?,
            rounds: variable("ROUNDS")?,
            time: Duration::from_secs(variable("SECONDS_")?),
            python: std::env::var("PYTHON").ok().map(Into::into),
        })
    }

    fn platform(&self, functions: &Functions) -> Result<Server> {
        let mut server = Server::platform(&self.dunlin)?;
        server.deploy(functions)?;
        Ok(server)
    }

    fn wasmtime(&self, component: &Path, options: &[&str]) -> Result<Server> {
        let mut command = Command::new(&self.wasmtime);
        command.args(["serve", "-Scli", "--addr", "127.0.0.1:0"]).args(options).arg(component);
        Server::other(command, Server::url)
    }
}

/// Adds a function that answers at a path; everything else is the platform's default.
fn add(functions: &mut Functions, name: &str, component: &Path, path: &str, reuse: Option<u32>) -> Result<()> {
    // Components that can make outgoing calls are refused unless the manifest says so; none is made here.
    let mut manifest = format!("triggers:\n  - http: {{ path: {path} }}\nallow: {{ http: [] }}\n");
    if let Some(count) = reuse {
        manifest += &format!("reuse: {{ count: {count} }}\n");
    }
    functions.add(name, component, &manifest)
}

fn main() -> Result<()> {
    let settings = Settings::from_env()?;
    let facts = [
        ("peer", Report::first_line(&settings.wasmtime, "--version")?),
        ("load", format!("wrk, one thread; {} rounds of {:?}, the median", settings.rounds, settings.time)),
    ];
    let report = Report::new("HTTP", &settings.dunlin, &facts)?;
    let parts = [
        ("load", measure_load as _),
        ("idle", measure_idle as _),
        ("first", measure_first as _),
        ("many", measure_many as _),
    ];
    harness::run(&settings, &parts, report, Path::new("bench/http/results.md"))
}

/// One server under load, with the server it is compared to.
struct Contestant {
    what: &'static str,
    server: Server,
    path: &'static str,
    /// Where in the list its peer stands.
    peer: Option<usize>,
    loaded: Vec<Load>,
    single: Vec<Load>,
}

fn measure_load(settings: &Settings, report: &mut Report) -> Result<()> {
    let (hello, hello3) = (harness::guest("hello")?, harness::guest("hello_async")?);
    let peer = |component: &Path, options: &[&str]| settings.wasmtime(component, options);
    let dunlin = |component: &Path, reuse: Option<u32>| {
        let mut functions = Functions::new()?;
        add(&mut functions, "hello", component, "/", reuse)?;
        settings.platform(&functions)
    };
    let ceiling = Server::other(Command::new(std::env::current_exe()?.with_file_name("ceiling")), Server::url)?;
    let tuned = ["-Opooling-max-unused-warm-slots=1000", "-Opooling-decommit-batch-size=32"];
    let all = [
        ("hyper alone, no sandbox", ceiling, None),
        ("0.2, fresh: `wasmtime serve`, its default", peer(&hello, &[])?, None),
        ("0.2, fresh: `wasmtime serve`, pool tuned", peer(&hello, &tuned)?, None),
        ("0.2, fresh: **Dunlin**, its default", dunlin(&hello, None)?, Some(1)),
        ("0.2, 1000 uses: `wasmtime serve`", peer(&hello, &["--max-instance-reuse-count=1000"])?, None),
        ("0.2, 1000 uses: **Dunlin**", dunlin(&hello, Some(1000))?, Some(4)),
        ("0.3, 128 uses: `wasmtime serve`, its default", peer(&hello3, &[])?, None),
        ("0.3, 128 uses: **Dunlin**, its default", dunlin(&hello3, None)?, Some(6)),
        ("0.3, fresh: `wasmtime serve`", peer(&hello3, &["--max-instance-reuse-count=1"])?, None),
        ("0.3, fresh: **Dunlin**", dunlin(&hello3, Some(1))?, Some(8)),
    ];
    let mut contestants: Vec<_> = all
        .into_iter()
        .map(|(what, server, peer)| Contestant {
            what,
            server,
            path: "/",
            peer,
            loaded: Vec::new(),
            single: Vec::new(),
        })
        .collect();
    for contestant in &contestants {
        wrk::run(&contestant.server, contestant.path, 32, Duration::from_secs(1))?;
    }
    for round in 0..settings.rounds {
        for contestant in &mut contestants {
            eprintln!("load, round {}: {}", round + 1, contestant.what);
            contestant.loaded.push(wrk::run(&contestant.server, contestant.path, 32, settings.time)?);
            contestant.single.push(wrk::run(&contestant.server, contestant.path, 1, settings.time / 2)?);
        }
    }

    report.table(
        "Load",
        "32 connections, and then one. `÷ peer` is the figure divided by that of the `wasmtime serve` that does the same. \
         Memory is that of the process after it.",
        &["what", "requests/s", "÷ peer", "p50", "p99", "÷ peer", "p50, one connection", "÷ peer", "memory"],
    );
    let results: Vec<_> = contestants.iter().map(|c| (Load::median(&c.loaded), Load::median(&c.single))).collect();
    for (contestant, (loaded, single)) in contestants.iter().zip(&results) {
        let against = contestant.peer.map(|peer| &results[peer]);
        let ratio = |of: fn(&Load) -> f64, one: bool| {
            against.map_or(String::new(), |(many_peer, one_peer)| {
                let (ours, theirs) = if one { (single, one_peer) } else { (loaded, many_peer) };
                format!("{:.2}", of(ours) / of(theirs))
            })
        };
        report.row(&[
            contestant.what.to_owned(),
            harness::number(loaded.rate),
            ratio(|l| l.rate, false),
            harness::time(loaded.p50),
            harness::time(loaded.p99),
            ratio(|l| l.p99.as_secs_f64(), false),
            harness::time(single.p50),
            ratio(|l| l.p50.as_secs_f64(), true),
            harness::memory(contestant.server.resident()?),
        ]);
    }
    Ok(())
}

fn measure_idle(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut functions = Functions::new()?;
    for guest in ["hello", "hello_async", "convert", "upper", "fan_out"] {
        let name = guest.replace('_', "-");
        add(&mut functions, &name, &harness::guest(guest)?, &format!("/{name}"), None)?;
    }
    let dunlin = settings.platform(&functions)?;
    let wasmtime = settings.wasmtime(&harness::guest("hello")?, &[])?;
    report.table("Idle", "Nobody calls: processor time over 10 s, and memory.", &["what", "processor", "memory"]);
    for (what, server) in [("`wasmtime serve`, one component", &wasmtime), ("**Dunlin**, five functions", &dunlin)] {
        let wait = Duration::from_secs(10);
        let before = server.processor_time()?;
        std::thread::sleep(wait);
        let share = (server.processor_time()? - before).as_secs_f64() / wait.as_secs_f64();
        report.row(&[what.to_owned(), format!("{:.1} %", share * 100.0), harness::memory(server.resident()?)]);
    }
    Ok(())
}

fn measure_first(settings: &Settings, report: &mut Report) -> Result<()> {
    const FUNCTIONS: usize = 200;
    let mut functions = Functions::new()?;
    add(&mut functions, "warm", &harness::guest("hello")?, "/warm", None)?;
    let mut paths = Vec::new();
    for number in 0..FUNCTIONS {
        // Its own digest, so its own compiled code.
        let component = functions.distinct(&harness::guest("hello")?, number)?;
        let path = format!("/first/{number}");
        add(&mut functions, &format!("first-{number}"), &component, &path, None)?;
        paths.push(path);
    }
    let mut server = settings.platform(&functions)?;
    let mut calls = Times::default();
    let mut loaded = Times::default();
    for _ in 0..settings.rounds {
        server = server.restart()?;
        calls.append(call_each(&server, "/warm", &paths)?);
        loaded.append(call_each(&server, "/warm", &paths)?);
    }

    report.table(
        "First call",
        "One call after the other on one connection, after a start of the platform: the function's code is mapped from \
         the code cache and a sandbox made. The code cache is in the page cache.",
        &["what", "calls", "p50", "p99", "slowest"],
    );
    let size = std::fs::metadata(harness::guest("hello")?)?.len();
    let mut row = |what: String, calls: &mut Times| {
        let mut time = |at| harness::time(calls.at(at));
        let (p50, p99, slowest) = (time(0.5), time(0.99), time(1.0));
        report.row(&[what, calls.count().to_string(), p50, p99, slowest]);
    };
    row(format!("Rust, {} KB, not loaded", size / 1000), &mut calls);
    row("the same, called again".to_owned(), &mut loaded);
    if let Some(python) = &settings.python {
        let mut functions = Functions::new()?;
        add(&mut functions, "warm", &harness::guest("hello")?, "/warm", None)?;
        add(&mut functions, "large", python, "/large", None)?;
        let mut server = settings.platform(&functions)?;
        let mut calls = Times::default();
        for _ in 0..10 * settings.rounds {
            server = server.restart()?;
            calls.append(call_each(&server, "/warm", &["/large".to_owned()])?);
        }
        row(format!("Python, {} MB, not loaded", std::fs::metadata(python)?.len() / 1_000_000), &mut calls);
    }
    Ok(())
}

fn measure_many(settings: &Settings, report: &mut Report) -> Result<()> {
    const FUNCTIONS: usize = 10_000;
    let hello = harness::guest("hello")?;
    let mut few = Functions::new()?;
    add(&mut few, "hello", &hello, "/many/5000", None)?;
    let few = settings.platform(&few)?;

    let mut functions = Functions::new()?;
    for number in 0..FUNCTIONS {
        add(&mut functions, &format!("f-{number}"), &hello, &format!("/many/{number}"), None)?;
    }
    let many = settings.platform(&functions)?;
    let (deploy, deployed) = (many.deploy_time(), many.resident()?);
    let many = many.restart()?;
    let (start, started) = (many.start_time(), many.resident()?);

    let mut rounds = [Vec::new(), Vec::new()];
    for server in [&few, &many] {
        wrk::run(server, "/many/5000", 32, Duration::from_secs(1))?;
    }
    for _ in 0..settings.rounds {
        for (server, loads) in [&few, &many].into_iter().zip(&mut rounds) {
            loads.push(wrk::run(server, "/many/5000", 32, settings.time)?);
        }
    }
    let [alone, among] = rounds.map(|loads| Load::median(&loads));
    report.table(
        "10,000 functions",
        "Deployed from one folder, of one component; then one of them is called.",
        &["what", "measured"],
    );
    let change = (among.rate / alone.rate - 1.0) * 100.0;
    for (what, measured) in [
        ("deploy", harness::time(deploy)),
        ("memory after the deploy", harness::memory(deployed)),
        ("start", harness::time(start)),
        ("memory after the start", harness::memory(started)),
        ("requests/s of one function, alone", harness::number(alone.rate)),
        ("requests/s of one function among 10,000", format!("{} ({change:+.1} %)", harness::number(among.rate))),
        ("memory after that", harness::memory(many.resident()?)),
    ] {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}
