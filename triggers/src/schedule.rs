//! The schedule trigger's source: makes an event whenever a schedule's time has come.
//!
//! A time has its event, with an id that follows from function, schedule and time alone; what is remembered is up to which
//! time all is settled. So a crash between any two steps, or another node that does the same, adds nothing. What is due
//! is worked out from the wall clock and that memory alone ([`Schedule::due`]), each time anew: a clock that was set, or a machine that
//! slept, needs no case of its own.

mod clock;
mod times;

use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Event, FunctionName,
    manifest::{Missed, Overlap, Problem, ScheduleTrigger},
    source::{Intake, Report, Source, SourceError},
    units::{epoch_millis, millis},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use times::Times;

/// The `type` of the events.
const KIND: &str = "dunlin.schedule";
/// How late a time may come without being missed. A machine that was asleep, or a clock that was wrong, is later.
const LATE: i64 = 60_000;
/// The longest sleep: sleeping doesn't notice that the wall clock was set. Ten thousand schedules wake 167 times a second
/// for it, which is a thousandth of a core.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// How long ago a missed time may be, by default.
const CATCH_UP: Duration = Duration::from_secs(24 * 3600);
/// Events of one commit, when many are made up for.
const CHUNK: usize = 500;

/// The source of one schedule.
pub(crate) struct Schedule {
    times: Result<Times, SourceError>,
    /// The name of its memory.
    memory: String,
    /// What its times follow from: another rule begins anew, and makes up for nothing.
    rule: String,
    missed: Missed,
    catch_up: i64,
    /// How much later than scheduled it runs.
    delay: i64,
    overlap: Overlap,
    /// The beginning of its events' ids, and their `source` and `subject`.
    id: String,
    source: String,
    subject: String,
    data: Option<Value>,
    /// When it first ran, or what the clock was set back to since.
    begun: AtomicI64,
}

/// What a schedule remembers.
#[derive(Serialize, Deserialize)]
struct Memory {
    rule: String,
    /// Up to when all its times are settled, in milliseconds since the Unix epoch.
    settled: i64,
}

/// What is to be made of the times that have come.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// Those after this moment,
    after: i64,
    /// up to this one, have an event.
    until: i64,
    /// Those up to this one were missed.
    missed_until: i64,
}

/// What of a schedule can't be, as far as it needs zones and the time to know.
pub(crate) fn check(trigger: &ScheduleTrigger, now: SystemTime) -> Vec<Problem> {
    let times = match Times::new(trigger) {
        Ok(times) => times,
        Err(problem) => return vec![problem],
    };
    if times.next(moment(now)).is_some() {
        return Vec::new();
    }
    let problem = match (&trigger.at, &trigger.end) {
        (Some(at), _) => Problem::new("/at", format!("`{at}` is over, so the schedule would never run"))
            .help("write a time to come, or take the trigger out"),
        (None, Some(end)) => Problem::new("/end", format!("`{trigger}` has no time left before it ends at `{end}`"))
            .help("write a later `end`, or take the trigger out"),
        (None, None) => Problem::new("", format!("`{trigger}` never runs")).help("write a time that comes"),
    };
    vec![problem]
}

/// A moment as its schedule's zone shows it, for people: `2026-11-24T03:00:00+01:00`.
pub fn shown_in_zone(trigger: &ScheduleTrigger, moment: u64) -> Option<String> {
    Some(Times::new(trigger).ok()?.shown(i64::try_from(moment).ok()?))
}

impl Schedule {
    pub(crate) fn new(function: &FunctionName, trigger: &ScheduleTrigger) -> Self {
        let key = trigger.key();
        let times = Times::new(trigger).map_err(|problem| SourceError { message: problem.message, help: problem.help });
        let bounds = [("start", &trigger.start), ("end", &trigger.end)];
        let mut rule = format!("{trigger}, {}", trigger.timezone);
        for (name, time) in bounds {
            if let Some(time) = time {
                let _ = write!(rule, ", {name} {time}");
            }
        }
        Self {
            times,
            memory: format!("schedule/{key}"),
            rule,
            missed: trigger.missed(),
            catch_up: whole(trigger.catch_up.unwrap_or(CATCH_UP)),
            delay: delay(function, &key, whole(trigger.jitter)),
            overlap: trigger.overlap,
            id: format!("{function}/{key}"),
            source: format!("/functions/{function}/schedules/{}", encoded(&key)),
            subject: key,
            data: trigger.data.clone(),
            begun: AtomicI64::new(i64::MAX),
        }
    }

    async fn keep_on(&self, intake: &dyn Intake) -> Result<(), SourceError> {
        let times = self.times.as_ref().map_err(Clone::clone)?;
        self.begun.fetch_min(moment(SystemTime::now()), Ordering::Relaxed);
        let mut settled = self.recall(intake).await?;
        let mut skipped: u64 = 0;
        let mut told = None;
        if self.delay > 0 {
            let delay = humantime::format_duration(Duration::from_millis(self.delay.unsigned_abs()));
            intake.report(Report::Detail("jitter", delay.to_string().into()));
        }
        loop {
            let now = moment(SystemTime::now());
            // The clock was wrong, and was set back. What comes again has the id it had.
            if settled > now + LATE {
                settled = now;
            }
            let begun = self.begun.fetch_min(now, Ordering::Relaxed).min(now);
            let due = self.due(times, settled, now, begun);
            let mut coming = times.after(due.after).take_while(|time| *time <= due.until).peekable();
            while coming.peek().is_some() {
                // Whether one overlaps with the one before is known only when that one is there.
                let most = if self.overlap == Overlap::Skip { 1 } else { CHUNK };
                let chunk: Vec<_> = coming.by_ref().take(most).collect();
                let Some(last) = chunk.last().copied() else { break };
                let left_out = self.overlap == Overlap::Skip && intake.unsettled().await? > 0;
                let events = if left_out { &[][..] } else { &chunk };
                let events = events.iter().map(|time| self.event(times, *time, *time <= due.missed_until));
                let events = events.collect::<Result<_, _>>()?;
                intake.take(events, vec![self.remember(last)?]).await?;
                if left_out {
                    skipped += 1;
                    intake.report(Report::Detail("skipped", skipped.into()));
                }
            }
            settled = settled.max(due.until);
            let Some(next) = times.next(settled) else { return Ok(()) };
            let until = next.saturating_add(self.delay);
            if told != Some(until) {
                intake.report(Report::Waiting { until: time(until) });
                told = Some(until);
            }
            // Woken before its time it looks at the clock alone: that is what ten thousand of them do each minute.
            loop {
                let now = moment(SystemTime::now());
                self.begun.fetch_min(now, Ordering::Relaxed);
                if now >= until || settled > now + LATE {
                    break;
                }
                let ahead = Duration::from_millis(until.abs_diff(now));
                tokio::time::sleep(ahead.min(LONGEST_SLEEP)).await;
            }
        }
    }

    /// Up to when all is settled. A schedule that begins makes up for nothing, and what it misses from now on it knows.
    async fn recall(&self, intake: &dyn Intake) -> Result<i64, SourceError> {
        let now = moment(SystemTime::now());
        let remembered = intake.recall(vec![self.memory.clone()]).await?.into_iter().next().flatten();
        if let Some(bytes) = remembered {
            let memory: Memory = serde_json::from_slice(&bytes).map_err(|error| {
                SourceError::new(format!("what `{}` remembers can't be read: {error}", self.subject))
                    .help("give the schedule another `name`: it then begins anew")
            })?;
            if memory.rule == self.rule {
                return Ok(memory.settled);
            }
        }
        intake.take(Vec::new(), vec![self.remember(now)?]).await?;
        Ok(now)
    }

    fn remember(&self, settled: i64) -> Result<(String, Option<Bytes>), SourceError> {
        let memory = Memory { rule: self.rule.clone(), settled };
        let bytes = serde_json::to_vec(&memory).map_err(|error| SourceError::new(error.to_string()))?;
        Ok((self.memory.clone(), Some(bytes.into())))
    }

    /// What is due now of the times that aren't settled. Nothing could run before it had `begun`.
    fn due(&self, times: &Times, settled: i64, now: i64, begun: i64) -> Due {
        let until = now - self.delay;
        let missed_until = (begun - self.delay).max(until - LATE);
        let oldest = settled.max(until.saturating_sub(self.catch_up).saturating_sub(1));
        let after = match self.missed {
            Missed::Skip => settled.max(missed_until),
            Missed::Once => times.last(oldest, missed_until).map_or(settled.max(missed_until), |last| last - 1),
            Missed::All => oldest,
        };
        Due { after, until, missed_until }
    }

    fn event(&self, times: &Times, scheduled: i64, missed: bool) -> Result<Event, SourceError> {
        let invalid = |error: dunlin_events::event::InvalidEvent| SourceError::new(error.to_string());
        let written = times::written(scheduled);
        let mut event = Event::new(format!("{}/{written}", self.id), &*self.source, KIND).map_err(invalid)?;
        event.set_subject(&*self.subject).map_err(invalid)?;
        event.set_time(written).map_err(invalid)?;
        let mut data = json!({ "scheduled": times.shown(scheduled), "missed": missed });
        if let Some(given) = &self.data {
            data["data"] = given.clone();
        }
        event.set_data(Some("application/json"), data.to_string().into()).map_err(invalid)?;
        Ok(event)
    }
}

impl Source for Schedule {
    fn run<'a>(&'a self, intake: &'a dyn Intake) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.keep_on(intake))
    }

    fn upcoming(&self, now: SystemTime, limit: usize) -> Vec<SystemTime> {
        let Ok(times) = &self.times else { return Vec::new() };
        let coming = times.after(moment(now) - self.delay);
        coming.take(limit).map(|scheduled| time(scheduled.saturating_add(self.delay))).collect()
    }
}

/// How much later it runs: a part of `jitter` that follows from the names alone. A hash that is the same for ever, and
/// not that of `std`, which may change with the compiler.
fn delay(function: &FunctionName, key: &str, jitter: i64) -> i64 {
    let hash = Sha256::digest(format!("{function}/{key}"));
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let part = u64::from_be_bytes(first) % (jitter.unsigned_abs() + 1);
    i64::try_from(part).expect("it is no more than the jitter")
}

/// A text as one segment of a URI's path.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~*,:@".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

/// Milliseconds since the Unix epoch. Centuries of them fit.
fn moment(time: SystemTime) -> i64 {
    i64::try_from(epoch_millis(time)).unwrap_or(i64::MAX / 2)
}

fn time(moment: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(moment).unwrap_or(0))
}

fn whole(duration: Duration) -> i64 {
    // A hundred thousand years: beyond all calendars, and far from overflowing.
    i64::try_from(millis(duration)).unwrap_or(i64::MAX).min(1 << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestIntake, data};
    use tempfile::TempDir;

    const HOUR: i64 = 3_600_000;

    fn schedule(manifest: Value) -> Schedule {
        Schedule::new(&"f".parse().unwrap(), &serde_json::from_value(manifest).unwrap())
    }

    fn now() -> i64 {
        moment(SystemTime::now())
    }

    /// Runs it until so many events are there.
    async fn run_until(schedule: &Schedule, intake: &TestIntake, events: u64) {
        tokio::select! {
            ended = schedule.run(intake) => panic!("it ended: {ended:?}"),
            () = intake.wait_for(events) => (),
        }
    }

    /// Runs it until it waits for a time after this one.
    async fn run_until_waiting(schedule: &Schedule, intake: &TestIntake, after: i64) {
        let waiting = async {
            let waits = |report: &Report| matches!(report, Report::Waiting { until } if moment(*until) > after);
            while !intake.reports().iter().any(waits) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = schedule.run(intake) => panic!("it ended: {ended:?}"),
            () = waiting => (),
        }
    }

    async fn remember(schedule: &Schedule, intake: &TestIntake, settled: i64) {
        intake.take(Vec::new(), vec![schedule.remember(settled).unwrap()]).await.unwrap();
    }

    #[tokio::test]
    async fn goes_on_where_it_was_after_a_stop_at_any_await() {
        let folder = TempDir::new().unwrap();
        let intake = TestIntake::open(folder.path()).await;
        let manifest = json!({ "every": "100ms", "missed": "all", "data": { "of": "me" } });
        for round in 1..=6 {
            // Another object each time, as after a restart.
            run_until(&schedule(manifest.clone()), &intake, round * 2).await;
        }
        let events = intake.events().await;
        let first = events[0].time().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        assert_eq!(first % 100, 0);
        for (event, n) in events.iter().zip(0..) {
            let time = times::written(first + n * 100);
            assert_eq!(event.time(), Some(&*time), "each once, and none left out");
            assert_eq!(event.id(), format!("f/every 100ms/{time}"));
            assert_eq!((event.source(), event.kind()), ("/functions/f/schedules/every%20100ms", "dunlin.schedule"));
            assert_eq!(data(event)["data"], json!({ "of": "me" }));
        }
    }

    #[tokio::test]
    async fn two_nodes_run_no_time_twice() {
        let folder = TempDir::new().unwrap();
        let intake = TestIntake::open(folder.path()).await;
        let node = || schedule(json!({ "every": "100ms", "missed": "all" }));
        let (one, other) = (node(), node());
        tokio::select! {
            ended = one.run(&intake) => panic!("it ended: {ended:?}"),
            ended = other.run(&intake) => panic!("it ended: {ended:?}"),
            () = intake.wait_for(10) => (),
        }
        let events = intake.events().await;
        let times: std::collections::BTreeSet<_> =
            events.iter().map(|event| event.time().unwrap().to_owned()).collect();
        assert_eq!(times.len(), events.len());
    }

    #[tokio::test]
    async fn missed_times_are_made_up_for_as_the_manifest_says() {
        for (missed, expected) in [("skip", 0), ("once", 1), ("all", 5)] {
            let folder = TempDir::new().unwrap();
            let intake = TestIntake::open(folder.path()).await;
            // Five and a half hours ago, whatever time it is now.
            let start = times::written(now() / 1000 * 1000 - 240 * HOUR - HOUR / 2);
            let mut manifest = json!({ "every": "1h", "start": start, "missed": missed });
            if missed != "skip" {
                manifest["catch_up"] = json!("5h");
            }
            let schedule = schedule(manifest);
            let begun = now();
            remember(&schedule, &intake, begun - 10 * HOUR).await;
            run_until_waiting(&schedule, &intake, begun).await;
            let events = intake.events().await;
            assert_eq!(events.len(), expected, "{missed}");
            assert!(events.iter().all(|event| data(event)["missed"] == true));
            let last = events.last().map(|event| event.time().unwrap().parse::<jiff::Timestamp>().unwrap());
            assert!(last.is_none_or(|last| last.as_millisecond() > begun - HOUR), "{missed}: the last, not the first");
        }
    }

    #[tokio::test]
    async fn a_change_of_its_times_makes_up_for_nothing() {
        let folder = TempDir::new().unwrap();
        let intake = TestIntake::open(folder.path()).await;
        let before = schedule(json!({ "name": "a", "every": "1h", "missed": "all" }));
        remember(&before, &intake, now() - 10 * HOUR).await;
        let after = schedule(json!({ "name": "a", "every": "1m", "missed": "all" }));
        run_until_waiting(&after, &intake, now()).await;
        assert_eq!(intake.events().await.len(), 0);
    }

    #[tokio::test]
    async fn a_time_whose_run_before_has_not_ended_is_left_out() {
        use dunlin_events::consumers::Settlement;
        let folder = TempDir::new().unwrap();
        let intake = TestIntake::open(folder.path()).await;
        let schedule = schedule(json!({ "every": "100ms", "overlap": "skip" }));
        let skips = |intake: &TestIntake| {
            intake.reports().iter().filter(|report| matches!(report, Report::Detail("skipped", _))).count()
        };
        let skipped = async {
            while skips(&intake) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(intake.events().await.len(), 1);
            intake.settle(vec![(0, Settlement::Done)]).await;
            intake.wait_for(2).await;
        };
        tokio::select! {
            ended = schedule.run(&intake) => panic!("it ended: {ended:?}"),
            () = skipped => (),
        }
    }

    #[tokio::test]
    async fn a_single_time_comes_once_and_is_over() {
        let folder = TempDir::new().unwrap();
        let intake = TestIntake::open(folder.path()).await;
        let schedule = schedule(json!({ "at": times::written(now() / 1000 * 1000 + 1000) }));
        assert_eq!(schedule.upcoming(SystemTime::now(), 5).len(), 1);
        for _ in 0..2 {
            schedule.run(&intake).await.unwrap();
        }
        let events = intake.events().await;
        assert_eq!((events.len(), data(&events[0])["missed"] == false), (1, true));
        assert!(schedule.upcoming(SystemTime::now(), 5).is_empty());
    }

    #[test]
    fn what_is_due_follows_from_the_clock() {
        let due = |missed: &str, settled, now, begun| {
            let schedule = schedule(json!({ "every": "10s", "missed": missed, "catch_up": "1h" }));
            let times = schedule.times.as_ref().unwrap();
            let due = schedule.due(times, settled, now, begun);
            let all: Vec<_> = times.after(due.after).take_while(|time| *time <= due.until).collect();
            (all.len(), all.iter().filter(|time| **time <= due.missed_until).count())
        };
        let now = 1_800_000_000_000;
        // A little late is not missed, whatever the manifest says; a wall clock that jumped is.
        for (missed, late, jumped) in [("skip", (2, 0), (6, 0)), ("once", (2, 0), (7, 1)), ("all", (2, 0), (361, 355))]
        {
            assert_eq!(due(missed, now - 20_000, now, now - 3 * HOUR), late, "{missed}");
            assert_eq!(due(missed, now - 2 * HOUR, now, now - 3 * HOUR), jumped, "{missed}");
        }
        // Everything before it began was missed, and what comes after is not.
        assert_eq!(due("skip", now - HOUR, now, now - 15_000), (2, 0));
        assert_eq!(due("once", now - HOUR, now, now - 15_000), (3, 1));
        // Nothing is due before its time.
        assert_eq!(due("all", now + 20_000, now, now - HOUR), (0, 0));
    }

    #[test]
    fn jitter_follows_from_the_names_for_ever() {
        let delay = |function: &str, jitter: &str| {
            let trigger = serde_json::from_value(json!({ "cron": "0 3 * * *", "jitter": jitter })).unwrap();
            Schedule::new(&function.parse().unwrap(), &trigger).delay
        };
        // These numbers must never change: a deploy of the platform would move everybody's runs.
        assert_eq!([delay("billing", "1h"), delay("reports", "1h"), delay("billing", "0s")], [226_089, 3_066_265, 0]);
        let spread: Vec<_> = (0..1000).map(|n| delay(&format!("f{n}"), "10m")).collect();
        assert!(spread.iter().all(|delay| (0..=600_000).contains(delay)));
        for minute in 0..10 {
            let there = spread.iter().filter(|delay| **delay / 60_000 == minute).count();
            assert!((60..=140).contains(&there), "minute {minute}: {there} of 1000");
        }
        let late = schedule(json!({ "cron": "0 3 * * *", "jitter": "1h" }));
        let at = |moment: i64| late.upcoming(time(moment), 1).into_iter().map(super::moment).next().unwrap();
        let three = 1_798_772_400_000;
        // The time that is on its way is told until it has come.
        assert_eq!([at(three - 1), at(three + late.delay - 1)], [three + late.delay; 2]);
        assert_eq!(at(three + late.delay), three + late.delay + 24 * HOUR);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_fix() {
        let told = |manifest: Value| {
            let trigger = serde_json::from_value(manifest).unwrap();
            let problems = check(&trigger, UNIX_EPOCH + Duration::from_secs(1_798_761_600));
            let told = |problem: &Problem| (problem.pointer.clone(), problem.help.clone().unwrap_or_default());
            problems.first().map(told).unwrap_or_default()
        };
        let none = (String::new(), String::new());
        assert_eq!(told(json!({ "cron": "0 3 * * *", "timezone": "Europe/Berlin" })), none);
        assert_eq!(told(json!({ "at": "2027-01-01T00:00:01" })), none);
        for (manifest, pointer, help) in [
            (json!({ "cron": "0 3 * * *", "timezone": "Europe/Berln" }), "/timezone", "did you mean `Europe/Berlin`?"),
            (json!({ "cron": "0 3 * * *", "timezone": "berlin" }), "/timezone", "did you mean `Europe/Berlin`?"),
            (json!({ "cron": "0 3 * * *", "timezone": "PDT" }), "/timezone", "in the IANA database"),
            (json!({ "missed": "all" }), "", "write one of `cron"),
            (json!({ "at": "2027-01-01T00:00" }), "/at", "write a time to come"),
            (json!({ "every": "1h", "start": "2028-01-01", "end": "2027-06-01" }), "/end", "after `start`"),
            (json!({ "every": "1h", "end": "2026-12-31" }), "/end", "write a later `end`"),
            (
                json!({ "cron": "0 0 29 2 *", "start": "2029-01-01", "end": "2031-12-31" }),
                "/end",
                "write a later `end`",
            ),
        ] {
            let (at, fix) = told(manifest.clone());
            assert_eq!(at, pointer, "{manifest}");
            assert!(fix.contains(help), "{manifest}: {fix}");
        }
    }
}
