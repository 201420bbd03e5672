//! Looking after the slot while the stream runs: how far behind it is, and what it costs the database.
//!
//! A slot keeps the log of the whole server, whichever database is written to. So a trigger whose tables are quiet moves on
//! by a heartbeat: a message in the log that means nothing, which comes through the stream like everything else.

use super::{
    Postgres, Stop,
    catalog::{number, optional},
    connection::{Connection, ConnectionError, literal},
};
use crate::database::heartbeat;
use dunlin_events::{
    source::{Intake, Report},
    units::ByteSize,
};
use std::time::Duration;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// Kept log that is worth a warning where the manifest names no limit.
const MUCH: u64 = 1 << 30;

/// The slot at one moment.
struct Reading {
    /// Log behind the place that was confirmed, in bytes.
    lag: u64,
    /// Log that is kept for the slot, in bytes.
    retained: u64,
    confirmed: String,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    status: String,
    /// What may yet be written before the slot is lost, where the server has a limit.
    left: Option<u64>,
}

impl Postgres {
    /// Looks after the slot, and ends when it keeps too much.
    pub(super) async fn watch(&self, intake: &dyn Intake) -> Stop {
        let beat = heartbeat(&self.trigger);
        let every = beat.unwrap_or(LOOK).clamp(Duration::from_millis(100), Duration::from_secs(60));
        let mut connection: Option<Connection> = None;
        // Each doubling is told once.
        let mut told = 0;
        let mut failing = false;
        loop {
            match self.reading(&mut connection, beat.is_some()).await {
                Ok(Some(reading)) => {
                    failing = false;
                    intake.report(Report::Detail("lsn", reading.confirmed.clone().into()));
                    intake.report(Report::Detail("lag_bytes", reading.lag.into()));
                    intake.report(Report::Detail("retained_wal_bytes", reading.retained.into()));
                    intake.report(Report::Detail("wal_status", reading.status.clone().into()));
                    if let Some(left) = reading.left {
                        intake.report(Report::Detail("wal_left_bytes", left.into()));
                    }
                    if let Some(limit) = self.trigger.max_lag
                        && reading.retained > limit.bytes()
                    {
                        return Stop::Overrun { retained: reading.retained };
                    }
                    let much = self.trigger.max_lag.map_or(MUCH, |limit| limit.bytes() / 2).max(1);
                    let level = (reading.retained / much).checked_ilog2().map_or(0, |doublings| doublings + 1);
                    let short = reading.status == "unreserved"
                        || reading.left.is_some_and(|left| left < reading.retained.saturating_mul(2) / 3);
                    if level > told || (short && told == 0) {
                        intake.report(Report::Warning(self.warning(&reading, short)));
                    }
                    told = if short { level.max(1) } else { level };
                }
                // There is none before the source has made it.
                Ok(None) => {}
                Err(error) => {
                    connection = None;
                    // If the database is gone, the stream says so.
                    if !failing && !matches!(error, ConnectionError::Broken(_) | ConnectionError::Unreachable(..)) {
                        let error = self.explained(&error);
                        intake.report(Report::Warning(format!("the lag can't be looked at: {error}")));
                    }
                    failing = true;
                }
            }
            tokio::time::sleep(every).await;
        }
    }

    fn warning(&self, reading: &Reading, short: bool) -> String {
        let retained = rounded(reading.retained);
        let slot = &self.slot;
        match reading.left {
            Some(left) if short => format!(
                "the database keeps {retained} of its log for the slot `{slot}` and will drop it after {} more: `max_slot_wal_keep_size`",
                rounded(left)
            ),
            _ => format!(
                "the database keeps {retained} of its log for the slot `{slot}`, and its disk may fill: see whether a transaction runs for long, or set `max_lag`"
            ),
        }
    }

    async fn reading(
        &self,
        connection: &mut Option<Connection>,
        beat: bool,
    ) -> Result<Option<Reading>, ConnectionError> {
        let connection = match connection {
            Some(connection) => connection,
            none => {
                let password = self.password().ok().flatten();
                none.insert(Connection::open(&self.trigger.url, password.as_ref(), false).await?)
            }
        };
        if beat {
            connection
                .query(&format!("SELECT pg_logical_emit_message(false, 'dunlin', {})", literal(&self.slot)))
                .await?;
        }
        let sql = format!(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::int8, \
             pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8, confirmed_flush_lsn, wal_status, safe_wal_size \
             FROM pg_replication_slots WHERE slot_name = {}",
            literal(&self.slot)
        );
        let rows = connection.query_soon(&sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let bytes = |at| number::<i64>(row, at).map(|bytes| u64::try_from(bytes).unwrap_or(0));
        Ok(Some(Reading {
            lag: bytes(0).unwrap_or(0),
            retained: bytes(1).unwrap_or(0),
            confirmed: optional(row, 2).unwrap_or_default(),
            status: optional(row, 3).unwrap_or_default(),
            left: bytes(4),
        }))
    }
}

/// A size for people: whole units.
fn rounded(bytes: u64) -> ByteSize {
    match bytes {
        ..0x10_0000 => ByteSize(bytes >> 10 << 10),
        0x10_0000..0x4000_0000 => ByteSize(bytes >> 20 << 20),
        0x4000_0000.. => ByteSize(bytes >> 30 << 30),
    }
}
