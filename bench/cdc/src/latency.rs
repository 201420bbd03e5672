//! `latency`: from a commit to the function.

use crate::{Settings, database, server::Server, topic::Admin};
use anyhow::{Context, Result, ensure};
use dunlin_bench_harness::{self as harness, Report, Times};
use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};
use tokio::runtime::Builder;

/// Times of the protocol count from 2000-01-01.
const EPOCH: Duration = Duration::from_secs(946_684_800);
/// What is committed in the first second warms up.
const WARM: Duration = Duration::from_secs(1);

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    report.table(
        "Latency",
        &format!(
            "{} commits of one row a second. From the commit's own time, which is before its flush.",
            harness::number(settings.rate as f64)
        ),
        &["what", "p50", "p99"],
    );
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 1..=settings.rounds {
        eprintln!("latency, round {round}");
        theirs.append(peer(settings)?);
        ours.append(dunlin(settings)?);
    }
    for (name, times) in [("Dunlin, the function has returned", &mut ours), ("pg_recvlogical has it", &mut theirs)] {
        report.row(&[name.to_owned(), harness::time(times.at(0.5)), harness::time(times.at(0.99))]);
    }
    Ok(())
}

/// Commits a row at a time, at the rate that is set. Answers when it began.
fn commit(settings: &Settings, server: &Server) -> Result<SystemTime> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("insert.sql");
    fs::write(&script, "INSERT INTO orders (customer, total, note) VALUES (1, 19.90, repeat('x', 100));\n")?;
    for path in [folder.path(), &script] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let begun = SystemTime::now();
    let mut pgbench: Command = server.program("pgbench");
    pgbench.args(["-n", "-c", "4", "-R", &settings.rate.to_string()]);
    pgbench.args(["-T", &(WARM + settings.time).as_secs().to_string(), "-f"]).arg(&script).arg("shop");
    let output = pgbench.output()?;
    ensure!(output.status.success(), "pgbench: {}", String::from_utf8_lossy(&output.stderr));
    Ok(begun)
}

fn dunlin(settings: &Settings) -> Result<Times> {
    let server = database::start();
    let platform = database::deploy(&settings.dunlin, &server)?;
    let warm = commit(settings, &server)? + WARM;
    let rows: u64 = server.sql("SELECT count(*) FROM orders").parse()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut admin = runtime.block_on(Admin::connect(&platform))?;
    database::until("not all is relayed", || runtime.block_on(admin.end("relayed")).is_ok_and(|end| end >= rows))?;
    let mut times = Times::default();
    for event in runtime.block_on(admin.events("relayed"))? {
        let time = |value: &serde_json::Value| {
            humantime::parse_rfc3339(value.as_str().unwrap_or_default()).context("an event without its times")
        };
        let committed = time(&event["data"]["transaction"]["commit_time"])?;
        if committed >= warm {
            times.add(time(&event["time"])?.duration_since(committed).unwrap_or_default());
        }
    }
    Ok(times)
}

fn peer(settings: &Settings) -> Result<Times> {
    let server = database::start();
    let platform = database::deploy(&settings.dunlin, &server)?;
    // It must not read at the same time.
    let _stopped = platform.stopped()?;
    let mut command = database::recvlogical(&server, "-", None);
    let mut reader = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut output = reader.stdout.take().context("piped")?;
    let reading = thread::spawn(move || {
        let (mut received, mut buffer, mut piece) = (Vec::new(), Vec::new(), [0; 65536]);
        while let Ok(length @ 1..) = output.read(&mut piece) {
            let now = SystemTime::now();
            buffer.extend_from_slice(&piece[..length]);
            while let Some((message, rest)) = message(&buffer) {
                if message[0] == b'C' {
                    let micros = u64::from_be_bytes(message[18..26].try_into().expect("eight bytes"));
                    received.push((SystemTime::UNIX_EPOCH + EPOCH + Duration::from_micros(micros), now));
                }
                buffer.drain(..rest);
            }
        }
        received
    });
    let warm = commit(settings, &server)? + WARM;
    thread::sleep(Duration::from_secs(1));
    reader.kill()?;
    reader.wait()?;
    let received = reading.join().map_err(|_| anyhow::anyhow!("the reader's output was not understood"))?;
    ensure!(!received.is_empty(), "pg_recvlogical received nothing");
    let mut times = Times::default();
    for (committed, received) in received {
        if committed >= warm {
            times.add(received.duration_since(committed).unwrap_or_default());
        }
    }
    Ok(times)
}

/// The first message of pgoutput in the output, which puts a line end behind each; and where the next one begins.
fn message(buffer: &[u8]) -> Option<(&[u8], usize)> {
    let number = |at: usize, bytes: usize| {
        Some(buffer.get(at..at + bytes)?.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    let text = |at: usize| Some(at + buffer.get(at..)?.iter().position(|byte| *byte == 0)? + 1);
    let length = match buffer.first()? {
        b'B' => 21,
        b'C' => 26,
        b'R' => {
            let mut at = text(text(5)?)? + 1;
            let columns = number(at, 2)?;
            at += 2;
            for _ in 0..columns {
                at = text(at + 1)? + 8;
            }
            at
        }
        b'I' => {
            let (columns, mut at) = (number(6, 2)?, 8);
            for _ in 0..columns {
                at += if *buffer.get(at)? == b't' { 5 + number(at + 1, 4)? } else { 1 };
            }
            at
        }
        other => panic!("an insert has no message `{}`", char::from(*other)),
    };
    (buffer.len() > length).then(|| (&buffer[..length], length + 1))
}
