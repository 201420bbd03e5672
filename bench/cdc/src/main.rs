//! The benchmark of the database trigger: Dunlin and `pg_recvlogical`, PostgreSQL's own reader of a slot. `run.sh` starts it.
//!
//! Two parts, on a PostgreSQL server of its own that flushes as it does everywhere:
//!
//! - `behind`: changes that were committed while nobody read, and how fast they are read then: in transactions of one row,
//!   and of a thousand. Both read the same log from the same place: the peer's slot is a copy of the trigger's. Dunlin's
//!   changes are on disk in a topic, as events; the peer writes what it gets to `/dev/null`.
//! - `latency`: from a commit to the function. Dunlin's time ends when `functions/relay` has returned: a bit more than its
//!   start. The peer's ends when its output has the commit: it keeps nothing and runs nothing.
//!
//! Reader, database and load share the cores: only the ratios mean something elsewhere.

#[allow(clippy::unwrap_used, dead_code, reason = "the tests' own server")]
#[path = "../../../tests/servers/postgres.rs"]
mod server;

mod behind;
mod database;
mod latency;
mod topic;

use anyhow::Result;
use dunlin_bench_harness::{self as harness, Report, variable};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// What the environment says, see `run.sh`.
struct Settings {
    dunlin: PathBuf,
    rounds: usize,
    time: Duration,
    changes: u64,
    rate: u64,
}

fn main() -> Result<()> {
    let settings = Settings {
        dunlin: harness::dunlin()?,
        rounds: variable("ROUNDS")?,
        time: Duration::from_secs(variable("SECONDS_")?),
        changes: variable("CHANGES")?,
        rate: variable("RATE")?,
    };
    let facts = [("peer", database::version()?), ("rounds", format!("{}, the median", settings.rounds))];
    let report = Report::new("Changes of a database", &settings.dunlin, &facts)?;
    let parts = [("behind", behind::measure as _), ("latency", latency::measure as _)];
    harness::run(&settings, &parts, report, Path::new("bench/cdc/results.md"))
}
