//! The database: a server, a table, and a trigger on it.

use crate::server::{PASSWORD, Server};
use anyhow::{Context, Result, ensure};
use dunlin_bench_harness::{Functions, Server as Process, guest};
use std::{
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// The trigger's slot; the name of its publication is the same.
pub const SLOT: &str = "dunlin_relay";
/// The peer's.
pub const PEER: &str = "peer";
const PATIENCE: Duration = Duration::from_secs(600);

/// PostgreSQL's own name of itself.
pub fn version() -> Result<String> {
    let output = Command::new("/usr/lib/postgresql/15/bin/pg_recvlogical").arg("--version").output();
    let output = output.context("there is no pg_recvlogical: install postgresql-15")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A server with an empty table.
pub fn start() -> Server {
    let server = Server::start_with(&["wal_level=logical", "fsync=on", "shared_buffers=256MB", "max_wal_size=4GB"]);
    server.sql(
        "CREATE TABLE orders (id bigserial PRIMARY KEY, customer int NOT NULL, total numeric NOT NULL, note text)",
    );
    server
}

/// A platform with `relay` on the table, which has made its slot; and a copy of the slot for the peer.
pub fn deploy(dunlin: &Path, server: &Server) -> Result<Process> {
    // Read when the platform is started. Nothing else runs in this process then.
    let mut platform = Process::platform_with(dunlin, &[("DUNLIN_SECRET_DB", PASSWORD)])?;
    let mut functions = Functions::new()?;
    let manifest = format!(
        "triggers:\n  - database:\n      url: {}\n      password: DB\n      tables: [public.orders]\n      snapshot: never\n\
         publish: relayed\n",
        server.url("postgres")
    );
    functions.add("relay", &guest("relay")?, &manifest)?;
    platform.deploy(&functions)?;
    until("the trigger makes no slot", || {
        server.sql(&format!("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '{SLOT}'")) == "1"
    })?;
    server.sql(&format!("SELECT pg_copy_logical_replication_slot('{SLOT}', '{PEER}')"));
    Ok(platform)
}

/// The peer, up to a place in the log or until it is stopped. Its output goes where `file` says; `-` is its own.
pub fn recvlogical(server: &Server, file: &str, end: Option<&str>) -> Command {
    let mut command = server.program("pg_recvlogical");
    command.args(["-d", "shop", "--slot", PEER, "--start", "--no-loop", "-f", file, "-o", "proto_version=1"]);
    command.args(["-o", &format!("publication_names={SLOT}")]);
    if let Some(end) = end {
        command.args(["--endpos", end]);
    }
    command
}

/// Inserts so many rows, in transactions of so many.
pub fn insert(server: &Server, rows: u64, of: u64) -> Result<()> {
    // One session, and no flush for each: what is measured is the reading.
    let sql = format!(
        "SET synchronous_commit = off; DO $$ BEGIN FOR i IN 1..{} LOOP INSERT INTO orders (customer, total, note) \
         SELECT n, n * 1.25, repeat('x', 100) FROM generate_series(1, {of}) n; COMMIT; END LOOP; END $$",
        rows / of
    );
    // Each statement for itself: a transaction around them would not let the block commit.
    let (set, block) = sql.split_once("; ").context("two statements")?;
    let output = server.psql("shop").args(["-c", set, "-c", block]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
