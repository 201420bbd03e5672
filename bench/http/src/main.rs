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
mod functions;
mod load;
mod report;
mod server;

use anyhow::{Context, Result, ensure};
use calls::Calls;
use functions::Functions;
use load::Load;
use report::Report;
use server::{Serve, Server};
use std::{path::PathBuf, time::Duration};

/// What the environment says, see `run.sh`.
struct Settings {
    root: PathBuf,
    dunlin: PathBuf,
    wasmtime: PathBuf,
    rounds: usize,
    time: Duration,
    /// A large component to time the first call of.
    python: Option<PathBuf>,
}

impl Settings {
    fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set; start run.sh"));
        let settings = Self {
            root: std::env::current_dir()?,
            dunlin: variable("DUNLIN")?.into(),
            wasmtime: variable("WASMTIME")?.into(),
            rounds: variable("ROUNDS")?.parse().context("ROUNDS is not a number")?,
            time: Duration::from_secs(variable("SECONDS_")?.parse().context("SECONDS_ is not a number")?),
            python: std::env::var("PYTHON").ok().map(Into::into),
        };
        ensure!(settings.dunlin.exists(), "there is no {}; `make build` makes it", settings.dunlin.display());
        ensure!(settings.guest("hello").exists(), "the guests are not built; `make guests` builds them");
        Ok(settings)
    }

    fn guest(&self, name: &str) -> PathBuf {
        self.root.join(format!("functions/target/wasm32-wasip2/release/{name}.wasm"))
    }
}

fn main() -> Result<()> {
    type Part = fn(&Settings, &mut Report) -> Result<()>;
    const PARTS: [(&str, Part); 4] =
        [("load", measure_load), ("idle", measure_idle), ("first", measure_first), ("many", measure_many)];
    let settings = Settings::from_env()?;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for part in &asked {
        ensure!(PARTS.iter().any(|(name, _)| name == part), "there is no part `{part}`");
    }
    let mut report = Report::new(&settings)?;
    for (name, measure) in PARTS {
        if asked.is_empty() || asked.iter().any(|part| part == name) {
            measure(&settings, &mut report).with_context(|| format!("part `{name}`"))?;
        }
    }
    // A run of some parts is for looking at; the file holds whole runs.
    if asked.is_empty() {
        std::fs::write(settings.root.join("bench/http/results.md"), report.text())?;
    }
    println!("{}", report.text());
    Ok(())
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
    let (hello, hello3) = (settings.guest("hello"), settings.guest("hello_async"));
    let peer = |component: &PathBuf, options: &[&str]| Serve::Wasmtime {
        component: component.clone(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
    };
    let dunlin = |component: &PathBuf, reuse: Option<u32>| -> Result<Serve> {
        let mut functions = Functions::new()?;
        functions.add("hello", component, "/", reuse)?;
        Ok(Serve::Dunlin(functions))
    };
    let tuned = ["-Opooling-max-unused-warm-slots=1000", "-Opooling-decommit-batch-size=32"];
    let all = [
        ("hyper alone, no sandbox", Serve::Ceiling, None),
        ("0.2, fresh: `wasmtime serve`, its default", peer(&hello, &[]), None),
        ("0.2, fresh: `wasmtime serve`, pool tuned", peer(&hello, &tuned), None),
        ("0.2, fresh: **Dunlin**, its default", dunlin(&hello, None)?, Some(1)),
        ("0.2, 1000 uses: `wasmtime serve`", peer(&hello, &["--max-instance-reuse-count=1000"]), None),
        ("0.2, 1000 uses: **Dunlin**", dunlin(&hello, Some(1000))?, Some(4)),
        ("0.3, 128 uses: `wasmtime serve`, its default", peer(&hello3, &[]), None),
        ("0.3, 128 uses: **Dunlin**, its default", dunlin(&hello3, None)?, Some(6)),
        ("0.3, fresh: `wasmtime serve`", peer(&hello3, &["--max-instance-reuse-count=1"]), None),
        ("0.3, fresh: **Dunlin**", dunlin(&hello3, Some(1))?, Some(8)),
    ];
    let mut contestants = Vec::new();
    for (what, serve, peer) in all {
        let server = Server::start(settings, serve).with_context(|| what.to_owned())?;
        contestants.push(Contestant { what, server, path: "/", peer, loaded: Vec::new(), single: Vec::new() });
    }
    for contestant in &contestants {
        Load::run(&contestant.server, contestant.path, 32, Duration::from_secs(1))?;
    }
    for round in 0..settings.rounds {
        for contestant in &mut contestants {
            eprintln!("load, round {}: {}", round + 1, contestant.what);
            contestant.loaded.push(Load::run(&contestant.server, contestant.path, 32, settings.time)?);
            contestant.single.push(Load::run(&contestant.server, contestant.path, 1, settings.time / 2)?);
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
            report::number(loaded.rate),
            ratio(|l| l.rate, false),
            report::time(loaded.p50),
            report::time(loaded.p99),
            ratio(|l| l.p99.as_secs_f64(), false),
            report::time(single.p50),
            ratio(|l| l.p50.as_secs_f64(), true),
            report::memory(contestant.server.resident()?),
        ]);
    }
    Ok(())
}

fn measure_idle(settings: &Settings, report: &mut Report) -> Result<()> {
    let mut functions = Functions::new()?;
    for guest in ["hello", "hello_async", "convert", "upper", "fan_out"] {
        let name = guest.replace('_', "-");
        functions.add(&name, &settings.guest(guest), &format!("/{name}"), None)?;
    }
    let dunlin = Server::start(settings, Serve::Dunlin(functions))?;
    let wasmtime =
        Server::start(settings, Serve::Wasmtime { component: settings.guest("hello"), options: Vec::new() })?;
    report.table("Idle", "Nobody calls: processor time over 10 s, and memory.", &["what", "processor", "memory"]);
    for (what, server) in [("`wasmtime serve`, one component", &wasmtime), ("**Dunlin**, five functions", &dunlin)] {
        let wait = Duration::from_secs(10);
        let before = server.processor_time()?;
        std::thread::sleep(wait);
        let share = (server.processor_time()? - before).as_secs_f64() / wait.as_secs_f64();
        report.row(&[what.to_owned(), format!("{:.1} %", share * 100.0), report::memory(server.resident()?)]);
    }
    Ok(())
}

fn measure_first(settings: &Settings, report: &mut Report) -> Result<()> {
    const FUNCTIONS: usize = 200;
    let mut functions = Functions::new()?;
    functions.add("warm", &settings.guest("hello"), "/warm", None)?;
    let mut paths = Vec::new();
    for number in 0..FUNCTIONS {
        // Its own digest, so its own compiled code.
        let component = functions.distinct(&settings.guest("hello"), number)?;
        let path = format!("/first/{number}");
        functions.add(&format!("first-{number}"), &component, &path, None)?;
        paths.push(path);
    }
    let mut server = Server::start(settings, Serve::Dunlin(functions))?;
    let mut calls = Calls::default();
    let mut loaded = Calls::default();
    for _ in 0..settings.rounds {
        server = server.restart(settings)?;
        calls.add(&server, "/warm", &paths)?;
        loaded.add(&server, "/warm", &paths)?;
    }

    report.table(
        "First call",
        "One call after the other on one connection, after a start of the platform: the function's code is mapped from \
         the code cache and a sandbox made. The code cache is in the page cache.",
        &["what", "calls", "p50", "p99", "slowest"],
    );
    let size = std::fs::metadata(settings.guest("hello"))?.len();
    let mut row = |what: String, calls: &Calls| {
        let time = |at| report::time(calls.at(at));
        report.row(&[what, calls.count().to_string(), time(0.5), time(0.99), time(1.0)]);
    };
    row(format!("Rust, {} KB, not loaded", size / 1000), &calls);
    row("the same, called again".to_owned(), &loaded);
    if let Some(python) = &settings.python {
        let mut functions = Functions::new()?;
        functions.add("warm", &settings.guest("hello"), "/warm", None)?;
        functions.add("large", python, "/large", None)?;
        let mut server = Server::start(settings, Serve::Dunlin(functions))?;
        let mut calls = Calls::default();
        for _ in 0..10 * settings.rounds {
            server = server.restart(settings)?;
            calls.add(&server, "/warm", &["/large".to_owned()])?;
        }
        row(format!("Python, {} MB, not loaded", std::fs::metadata(python)?.len() / 1_000_000), &calls);
    }
    Ok(())
}

fn measure_many(settings: &Settings, report: &mut Report) -> Result<()> {
    const FUNCTIONS: usize = 10_000;
    let hello = settings.guest("hello");
    let mut few = Functions::new()?;
    few.add("hello", &hello, "/many/5000", None)?;
    let few = Server::start(settings, Serve::Dunlin(few))?;

    let mut functions = Functions::new()?;
    for number in 0..FUNCTIONS {
        functions.add(&format!("f-{number}"), &hello, &format!("/many/{number}"), None)?;
    }
    let many = Server::start(settings, Serve::Dunlin(functions))?;
    let (deploy, deployed) = (many.deploy_time(), many.resident()?);
    let many = many.restart(settings)?;
    let (start, started) = (many.start_time(), many.resident()?);

    let mut rounds = [Vec::new(), Vec::new()];
    for server in [&few, &many] {
        Load::run(server, "/many/5000", 32, Duration::from_secs(1))?;
    }
    for _ in 0..settings.rounds {
        for (server, loads) in [&few, &many].into_iter().zip(&mut rounds) {
            loads.push(Load::run(server, "/many/5000", 32, settings.time)?);
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
        ("deploy", report::time(deploy)),
        ("memory after the deploy", report::memory(deployed)),
        ("start", report::time(start)),
        ("memory after the start", report::memory(started)),
        ("requests/s of one function, alone", report::number(alone.rate)),
        ("requests/s of one function among 10,000", format!("{} ({change:+.1} %)", report::number(among.rate))),
        ("memory after that", report::memory(many.resident()?)),
    ] {
        report.row(&[what.to_owned(), measured]);
    }
    Ok(())
}
