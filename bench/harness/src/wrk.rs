//! Load by wrk.

use crate::{Load, Server};
use anyhow::{Context, Result, ensure};
use std::{process::Command, time::Duration};

/// Loads a server and says what wrk measured.
pub fn run(server: &Server, path: &str, connections: u32, time: Duration) -> Result<Load> {
    run_with(server, path, connections, time, &[])
}

/// The same with headers, as `name: value`.
pub fn run_with(server: &Server, path: &str, connections: u32, time: Duration, headers: &[&str]) -> Result<Load> {
    let output = Command::new("wrk")
        .args(headers.iter().flat_map(|header| ["-H", header]))
        .args(["-t1", &format!("-c{connections}"), &format!("-d{}s", time.as_secs().max(1)), "--latency"])
        .arg(format!("http://{}{path}", server.address()))
        .output()
        .context("wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    // A server that refuses is fast.
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "not every request was answered: {text}");
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .map(str::trim)
            .with_context(|| format!("no `{label}` in what wrk printed: {text}"))
    };
    Ok(Load { rate: after("Requests/sec:")?.parse()?, p50: time_of(after("50%")?)?, p99: time_of(after("99%")?)? })
}

/// A duration as wrk prints it: `45.60us`, `1.23ms`, `1.02s`.
fn time_of(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).with_context(|| format!("`{text}` has no unit"))?;
    let (value, unit) = text.split_at(split);
    let unit = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => anyhow::bail!("`{text}` has an unknown unit"),
    };
    Ok(Duration::from_secs_f64(value.parse::<f64>()? * unit))
}
