//! What operators are told of calls that were refused: the reason in the function's log and beside its trigger, each reason
//! now and then. Who floods a webhook with forged calls shall push nothing else out of the log.

use crate::active::ActiveFunction;
use dunlin_events::{
    InvocationId,
    logs::{LogRecord, LogSink},
    source::Report,
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A line of the log for each reason at most this often. There are a dozen reasons.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Refusals(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    total: u64,
    /// By reason: when it was last told, and how many were not since.
    told: HashMap<&'static str, (Instant, u64)>,
    /// The last call was refused.
    last: bool,
}

impl Refusals {
    /// A call of the function's `trigger`th trigger was refused.
    pub(super) fn tell(
        &self,
        function: &ActiveFunction,
        trigger: usize,
        logs: &dyn LogSink,
        id: InvocationId,
        (reason, why): (&'static str, impl FnOnce() -> String),
    ) {
        let status = &function.statuses[trigger];
        let (total, untold) = {
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counted.total += 1;
            counted.last = true;
            let untold = match counted.told.get_mut(reason) {
                Some((told, untold)) if told.elapsed() < PAUSE => {
                    *untold += 1;
                    None
                }
                Some((told, untold)) => {
                    *told = Instant::now();
                    Some(std::mem::take(untold))
                }
                None => {
                    counted.told.insert(reason, (Instant::now(), 0));
                    Some(0)
                }
            };
            (counted.total, untold)
        };
        status.report(Report::Detail("refused", total.into()));
        let Some(untold) = untold else { return };
        let why = why();
        let more =
            if untold > 0 { format!(" ({untold} more were refused since the last such line)") } else { String::new() };
        logs.record(
            LogRecord::of_platform(&function.version, format!("a webhook call was refused: {why}{more}")).of(id),
        );
        status.report(Report::Warning(why));
    }

    /// A call was taken: what was wrong isn't any more.
    pub(super) fn over(&self, function: &ActiveFunction, trigger: usize) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut counted.last) {
            function.statuses[trigger].recovered();
        }
    }
}
