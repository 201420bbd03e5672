//! What the benchmarks stand on: servers as processes, functions to deploy, figures, and results as Markdown.
//!
//! What is measured and against whom is each benchmark's own business.

mod figures;
mod functions;
mod report;
mod server;
pub mod wrk;

pub use figures::{Load, Times, median};
pub use functions::Functions;
pub use report::{Report, memory, number, time};
pub use server::{Server, Stopped};

use anyhow::{Context, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A part of a benchmark: it measures and reports.
pub type Part<S> = (&'static str, fn(&S, &mut Report) -> Result<()>);

/// Runs the parts the command line names, or all where it names none, and prints what they report. A run of all is kept in
/// the file: one of some is for looking at.
pub fn run<S>(settings: &S, parts: &[Part<S>], mut report: Report, file: &Path) -> Result<()> {
    let asked: Vec<String> = env::args().skip(1).collect();
    for part in &asked {
        ensure!(parts.iter().any(|(name, _)| name == part), "there is no part `{part}`");
    }
    for (name, measure) in parts {
        if asked.is_empty() || asked.iter().any(|part| part == name) {
            measure(settings, &mut report).with_context(|| format!("part `{name}`"))?;
        }
    }
    if asked.is_empty() {
        std::fs::write(file, report.text())?;
    }
    println!("{}", report.text());
    Ok(())
}

/// A variable that `run.sh` sets.
pub fn variable<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(name: &str) -> Result<T> {
    let value = env::var(name).with_context(|| format!("{name} is not set; start run.sh"))?;
    value.parse().with_context(|| format!("{name} can't be `{value}`"))
}

/// The platform's binary.
pub fn dunlin() -> Result<PathBuf> {
    let dunlin: PathBuf = variable("DUNLIN")?;
    ensure!(dunlin.exists(), "there is no {}; `make build` makes it", dunlin.display());
    Ok(dunlin)
}

/// One of the example functions, seen from the repository.
pub fn guest(name: &str) -> Result<PathBuf> {
    let guest = env::current_dir()?.join(format!("functions/target/wasm32-wasip2/release/{name}.wasm"));
    ensure!(guest.exists(), "there is no {}; `make guests` builds it", guest.display());
    Ok(guest)
}
