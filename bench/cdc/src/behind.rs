//! `behind`: changes that wait to be read.

use crate::{Settings, database, topic::Admin};
use anyhow::{Result, ensure};
use dunlin_bench_harness::{self as harness, Report, median};
use std::{process::Stdio, time::Instant};
use tokio::runtime::Builder;

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    report.table(
        "Behind",
        &format!(
            "{} rows of about 130 bytes were inserted while nobody read. Dunlin's time is from the start of the platform \
             until all of them are on disk as events; the peer's is its whole run, with its output thrown away.",
            harness::number(settings.changes as f64)
        ),
        &["rows a transaction", "Dunlin, changes/s", "pg_recvlogical, changes/s", "ratio"],
    );
    for of in [1, 1_000] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=settings.rounds {
            eprintln!("behind, {of} a transaction, round {round}");
            let server = database::start();
            let platform = database::deploy(&settings.dunlin, &server)?;
            let stopped = platform.stopped()?;
            database::insert(&server, settings.changes, of)?;
            let end = server.sql("SELECT pg_current_wal_insert_lsn()");

            let begun = Instant::now();
            let mut peer = database::recvlogical(&server, "/dev/null", Some(&end));
            let status = peer.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            ensure!(status.success(), "pg_recvlogical failed");
            theirs.push(settings.changes as f64 / begun.elapsed().as_secs_f64());

            let begun = Instant::now();
            let platform = stopped.start()?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let mut admin = runtime.block_on(Admin::connect(&platform))?;
            database::until("the trigger does not catch up", || {
                runtime.block_on(admin.end("relay.database")).is_ok_and(|end| end >= settings.changes)
            })?;
            ours.push(settings.changes as f64 / begun.elapsed().as_secs_f64());
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let ratio = format!("{:.2}", ours / theirs);
        report.row(&[of.to_string(), harness::number(ours), harness::number(theirs), ratio]);
    }
    Ok(())
}
