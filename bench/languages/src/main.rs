//! The benchmark of languages: the function `dunlin new NAME --lang LANGUAGE --trigger http` makes, which greets whom the path
//! names, in each language. `run.sh` starts it.
//!
//! - `build`: how long `dunlin build` takes with all tools installed: at first, and after an edit; and what comes of it.
//! - `call`: the first call after a start of the platform, then calls in fresh and in reused sandboxes, beside
//!   `wasmtime serve` with the same component.
//!
//! C is left out: its function is a command, which `wasmtime serve` doesn't take.

mod stub;

use anyhow::{Context, Result, ensure};
use dunlin_bench_harness::{self as harness, Functions, Load, Report, Server, Times, guest, variable, wrk};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A language, and its file to edit, with a comment.
const LANGUAGES: [(&str, &str, &str); 4] = [
    ("rust", "src/lib.rs", "// edited"),
    ("javascript", "src/index.ts", "// edited"),
    ("python", "app.py", "# edited"),
    ("go", "main.go", "// edited"),
];

struct Settings {
    dunlin: PathBuf,
    wasmtime: PathBuf,
    rounds: usize,
    time: Duration,
    /// The functions: a project in a repository, so that they share tools.
    project: TempDir,
}

impl Settings {
    fn folder(&self, language: &str) -> PathBuf {
        self.project.path().join(language)
    }

    fn component(&self, language: &str) -> PathBuf {
        self.folder(language).join(format!("build/{language}.wasm"))
    }

    /// Runs `dunlin` and says how long that took.
    fn dunlin(&self, arguments: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        let mut command = Command::new(&self.dunlin);
        // Its own target folder, whatever the benchmark is built in.
        command.args(arguments).current_dir(self.project.path()).env_remove("CARGO_TARGET_DIR");
        let output = command.output().context("dunlin")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "dunlin {}: {said}", arguments.join(" "));
        Ok(start.elapsed())
    }
}

fn main() -> Result<()> {
    let settings = Settings {
        dunlin: harness::dunlin()?,
        wasmtime: variable("WASMTIME")?,
        rounds: variable("ROUNDS")?,
        time: Duration::from_secs(variable("SECONDS_")?),
        project: tempfile::tempdir()?,
    };
    fs::create_dir(settings.project.path().join(".git"))?;
    for (language, ..) in LANGUAGES {
        eprintln!("making the function in {language}, and installing its tools");
        settings.dunlin(&["new", language, "--lang", language, "--trigger", "http"])?;
        settings.dunlin(&["build", language])?;
    }
    let facts = [
        ("peer", Report::first_line(&settings.wasmtime, "--version")?),
        ("load", format!("wrk, one thread; {} rounds of {:?}, the median", settings.rounds, settings.time)),
    ];
    let report = Report::new("Languages", &settings.dunlin, &facts)?;
    let parts = [("build", measure_build as _), ("call", measure_call as _)];
    harness::run(&settings, &parts, report, Path::new("bench/languages/results.md"))
}

fn measure_build(settings: &Settings, report: &mut Report) -> Result<()> {
    report.table(
        "Build",
        "`dunlin build` with its tools installed. At first: what the language's own tools keep is thrown away (Rust's `target`; \
         Go keeps its library). Deploy: upload, compile and commit.",
        &["language", "component", "at first", "after an edit", "deploy"],
    );
    for (language, file, comment) in LANGUAGES {
        eprintln!("build: {language}");
        for kept in ["target", "build"] {
            let _ = fs::remove_dir_all(settings.folder(language).join(kept));
        }
        let _ = fs::remove_dir_all(settings.project.path().join(format!(".dunlin/built/{language}")));
        let first = settings.dunlin(&["build", language])?;
        let file = settings.folder(language).join(file);
        let mut edits = Vec::new();
        for number in 0..settings.rounds {
            let text = fs::read_to_string(&file)?;
            fs::write(&file, format!("{text}{comment} {number}\n"))?;
            edits.push(settings.dunlin(&["build", language])?);
        }
        let component = settings.component(language);
        let mut platform = Server::platform(&settings.dunlin)?;
        let mut functions = Functions::new()?;
        add(&mut functions, language, &component, None)?;
        platform.deploy(&functions)?;
        let size = fs::metadata(&component)?.len() as f64 / 1e6;
        let [first, edit, deploy] = [first, harness::median(edits), platform.deploy_time()].map(harness::time);
        report.row(&[language.to_owned(), format!("{size:.2} MB"), first, edit, deploy]);
    }
    Ok(())
}

fn add(functions: &mut Functions, name: &str, component: &Path, reuse: Option<u32>) -> Result<()> {
    // What an SDK imports the manifest has to allow. None of it is used.
    let mut manifest = format!(
        "triggers:\n  - http: {{ path: \"/{name}/{{who}}\" }}\nallow: {{ http: [], state: true, publish: [none] }}\nlimits: {{ memory: 256MiB }}\n"
    );
    if let Some(count) = reuse {
        manifest += &format!("reuse: {{ count: {count} }}\n");
    }
    functions.add(name, component, &manifest)
}

fn measure_call(settings: &Settings, report: &mut Report) -> Result<()> {
    /// Starts of the platform for each round.
    const STARTS: usize = 7;
    report.table(
        "Call",
        "The first call of the function after a start of the platform, which has answered for another one: the code is mapped and a sandbox made. Then one connection, and 32. \
         `wasmtime serve` makes a fresh sandbox for each request; interfaces it doesn't know are put into the component as traps, and never called. The path's parameter \
         comes to it as a header of the caller's.",
        &[
            "language",
            "first call, p50",
            "slowest",
            "fresh: p50, one connection",
            "p99",
            "requests/s",
            "`wasmtime serve`: requests/s",
            "÷",
            "reused: p50",
            "requests/s",
        ],
    );
    for (language, ..) in LANGUAGES {
        eprintln!("call: {language}");
        let component = settings.component(language);
        let path = format!("/{language}/ada");
        let serve = |reuse: u32| {
            let mut platform = Server::platform(&settings.dunlin)?;
            let mut functions = Functions::new()?;
            add(&mut functions, language, &component, Some(reuse))?;
            add(&mut functions, "before", &guest("hello")?, None)?;
            platform.deploy(&functions)?;
            anyhow::Ok(platform)
        };
        let mut fresh = serve(1)?;
        let mut first = Times::default();
        for _ in 0..STARTS * settings.rounds {
            fresh = fresh.restart()?;
            call(&fresh, "/before/ada")?;
            first.add(call(&fresh, &path)?);
        }
        let reused = serve(1000)?;
        let mut command = Command::new(&settings.wasmtime);
        let served = component.with_extension("served.wasm");
        fs::write(&served, stub::without_platform(fs::read(&component)?)?)?;
        command.args(["serve", "-Scli", "--addr", "127.0.0.1:0"]).arg(&served);
        let peer = Server::other(command, Server::url)?;

        let (mut ones, mut many, mut peers, mut reused_ones, mut reused_many) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..settings.rounds {
            ones.push(load(&fresh, &path, 1, settings.time)?);
            many.push(load(&fresh, &path, 32, settings.time)?);
            peers.push(load(&peer, &path, 32, settings.time).inspect_err(|error| eprintln!("{error:#}")).ok());
            reused_ones.push(load(&reused, &path, 1, settings.time)?);
            reused_many.push(load(&reused, &path, 32, settings.time)?);
        }
        let [one, many, reused_one, reused_many] =
            [&ones, &many, &reused_ones, &reused_many].map(|loads| Load::median(loads));
        let peer = peers.into_iter().collect::<Option<Vec<_>>>().map(|loads| Load::median(&loads));
        report.row(&[
            language.to_owned(),
            harness::time(first.at(0.5)),
            harness::time(first.at(1.0)),
            harness::time(one.p50),
            harness::time(one.p99),
            harness::number(many.rate),
            peer.as_ref().map_or_else(|| "refuses".to_owned(), |peer| harness::number(peer.rate)),
            peer.as_ref().map_or_else(String::new, |peer| format!("{:.2}", many.rate / peer.rate)),
            harness::time(reused_one.p50),
            harness::number(reused_many.rate),
        ]);
    }
    Ok(())
}

/// Loads a server. The header is what Dunlin makes of the path, and of this one it takes no notice.
fn load(server: &Server, path: &str, connections: u32, time: Duration) -> Result<Load> {
    wrk::run_with(server, path, connections, time, &["dunlin-param-who: ada"])
}

/// One call on a connection of its own, timed from the first byte written to the end of the answer.
fn call(server: &Server, path: &str) -> Result<Duration> {
    let mut stream = TcpStream::connect(server.address())?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.address());
    let start = Instant::now();
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let time = start.elapsed();
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path}: {}", String::from_utf8_lossy(&answer));
    Ok(time)
}
