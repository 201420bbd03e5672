//! A function that gets traffic: the active version, the handle that runs it, and what was counted.
//!
//! It is shared by `Arc` between the routes, the list of functions and the requests in flight, so swapping it for another
//! version never disturbs a request. The [`Counters`] are shared further: every version of one name counts in the same.

use crate::sources::Status;
use dunlin_events::{Failure, Function, FunctionName, Version, effects::Effects};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The active version of a function.
pub struct ActiveFunction {
    pub version: Version,
    pub handle: Arc<dyn Function>,
    pub counters: Arc<Counters>,
    /// What its calls over HTTP may do to state and topics.
    pub effects: Arc<dyn Effects>,
    /// How its triggers stand, in their order.
    pub statuses: Vec<Arc<Status>>,
}

impl ActiveFunction {
    pub fn name(&self) -> &FunctionName {
        self.version.name()
    }

    /// How the triggers of the next version stand: as before, where it has the same.
    pub(crate) fn statuses_for(before: Option<&Self>, version: &Version) -> Vec<Arc<Status>> {
        let of = |trigger| {
            let before = before?;
            let place = before.version.manifest.triggers.iter().position(|other| other == trigger)?;
            Some(Arc::clone(&before.statuses[place]))
        };
        version.manifest.triggers.iter().map(|trigger| of(trigger).unwrap_or_default()).collect()
    }
}

/// The bounds of the duration histogram's buckets, in seconds. The last bucket, without a bound, follows them.
///
/// From a fresh sandbox of a small component to the longest time a function is usually given, some threefold each.
pub(crate) const BUCKETS: [f64; 10] = [0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

/// The words of [`Failure::reason`], in the order in which [`Counters`] keeps them.
pub(crate) const REASONS: [&str; 14] = [
    "busy",
    "exhausted",
    "time",
    "cpu",
    "memory",
    "request-too-large",
    "response-too-large",
    "request-body",
    "trap",
    "no-answer",
    "error-answer",
    "exit",
    "start",
    "unavailable",
];

/// What the invocations of one function came to, since the platform started.
///
/// Plain atomics: counting costs three additions and no lock, and a function that was never called holds these 27 words.
#[derive(Debug, Default)]
pub struct Counters {
    succeeded: AtomicU64,
    failed: [AtomicU64; REASONS.len()],
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len() + 1],
}

impl Counters {
    /// Counts one invocation that has ended: answered in full, or failed, and how long it took from first to last byte.
    pub fn record(&self, outcome: Result<(), &Failure>, took: Duration) {
        match outcome {
            Ok(()) => &self.succeeded,
            Err(failure) => &self.failed[place(failure)],
        }
        .fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
    }

    /// The counts now. They are read one after the other: an invocation that ends meanwhile may be in some of them only.
    pub fn read(&self) -> Counts {
        let counts = |atomics: &[AtomicU64]| atomics.iter().map(|atomic| atomic.load(Relaxed)).collect();
        Counts {
            succeeded: self.succeeded.load(Relaxed),
            failed: counts(&self.failed),
            seconds: Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64(),
            buckets: counts(&self.buckets),
        }
    }
}

/// What [`Counters`] held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    pub succeeded: u64,
    /// By reason, in the order of `REASONS`.
    failed: Vec<u64>,
    /// How long all invocations took together.
    pub seconds: f64,
    /// One count for each of `BUCKETS` and one for what is slower; not cumulative.
    pub(crate) buckets: Vec<u64>,
}

impl Counts {
    /// Invocations that ended, whichever way.
    pub fn invocations(&self) -> u64 {
        self.succeeded + self.failed.iter().sum::<u64>()
    }

    /// The reasons that occurred, with how often.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS.into_iter().zip(self.failed.iter().copied()).filter(|(_, count)| *count > 0)
    }
}

/// Where a failure's reason stands in [`REASONS`].
const fn place(failure: &Failure) -> usize {
    match failure {
        Failure::Busy { .. } => 0,
        Failure::Exhausted(_) => 1,
        Failure::Time { .. } => 2,
        Failure::Cpu { .. } => 3,
        Failure::Memory { .. } => 4,
        Failure::RequestTooLarge { .. } => 5,
        Failure::ResponseTooLarge { .. } => 6,
        Failure::RequestBody(_) => 7,
        Failure::Trap(_) => 8,
        Failure::NoAnswer => 9,
        Failure::ErrorAnswer(_) => 10,
        Failure::Exit { .. } => 11,
        Failure::Start(_) => 12,
        Failure::Unavailable(_) => 13,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_events::units::ByteSize;

    #[test]
    fn every_failure_is_counted_under_its_own_reason() {
        let limit = ByteSize::kib(1);
        let failures = [
            Failure::Busy { concurrency: 1, queue: 1 },
            Failure::Exhausted(String::new()),
            Failure::Time { limit: Duration::ZERO },
            Failure::Cpu { limit: Duration::ZERO },
            Failure::Memory { limit },
            Failure::RequestTooLarge { limit },
            Failure::ResponseTooLarge { limit },
            Failure::RequestBody(String::new()),
            Failure::Trap(String::new()),
            Failure::NoAnswer,
            Failure::ErrorAnswer(String::new()),
            Failure::Exit { code: 1 },
            Failure::Start(String::new()),
            Failure::Unavailable(String::new()),
        ];
        let counters = Counters::default();
        for failure in &failures {
            assert_eq!(REASONS[place(failure)], failure.reason());
            counters.record(Err(failure), Duration::from_millis(2));
        }
        counters.record(Ok(()), Duration::from_secs(60));
        let counts = counters.read();
        assert_eq!(counts.failed().collect::<Vec<_>>(), REASONS.map(|reason| (reason, 1)));
        assert_eq!((counts.succeeded, counts.invocations()), (1, 15));
        assert_eq!(counts.buckets, [0, 0, 14, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((counts.seconds - 60.028).abs() < 1e-9);
    }
}
