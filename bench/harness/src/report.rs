//! The results as Markdown.

use anyhow::{Context, Result};
use std::{fmt::Write, fs, path::Path, process::Command, time::Duration};

pub struct Report(String);

impl Report {
    /// With what there is to know of the machine and the platform, and of what else takes part.
    pub fn new(title: &str, dunlin: &Path, facts: &[(&str, String)]) -> Result<Self> {
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)).context("no MemTotal")?;
        let mut text = format!("# {title}: measured\n\nWritten by `make bench`; `src/main.rs` says how.\n\n");
        let cores = std::thread::available_parallelism()?;
        let machine = [
            ("date", Self::first_line(Path::new("date"), "+%F")?),
            ("processor", format!("{}, {cores} cores", model.trim_start_matches([' ', '\t', ':']))),
            ("memory", format!("{} GiB", memory.parse::<u64>()? >> 20)),
            ("kernel", Self::first_line(Path::new("uname"), "-sr")?),
            ("Dunlin", Self::first_line(dunlin, "--version")?),
        ];
        for (what, value) in machine.iter().chain(facts) {
            writeln!(text, "- {what}: {value}")?;
        }
        Ok(Self(text))
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    pub fn table(&mut self, title: &str, note: &str, columns: &[&str]) {
        self.0 +=
            &format!("\n## {title}\n\n{note}\n\n| {} |\n|{}\n", columns.join(" | "), " --- |".repeat(columns.len()));
    }

    pub fn row(&mut self, cells: &[String]) {
        self.0 += &format!("| {} |\n", cells.join(" | "));
    }

    /// What a command says about itself.
    pub fn first_line(command: &Path, argument: &str) -> Result<String> {
        let output = Command::new(command).arg(argument).output().with_context(|| command.display().to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned())
    }
}

/// `12,345`
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `85 us`, `1.23 ms`, `2.5 s`
pub fn time(value: Duration) -> String {
    let seconds = value.as_secs_f64();
    if seconds < 1e-3 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}

/// `42 MB`
pub fn memory(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
