//! The schedule trigger: at which times a function runs.
//!
//! Here is what can be judged without time zones. Which moments the times are, and whether there is a zone of that name,
//! `triggers` knows.

mod cron;

pub use cron::{CronExpression, InvalidCron};

use super::{Order, Problem, Trigger, as_text, is_default};
use crate::{topics::TopicName, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// The times a function runs at. Exactly one of `cron`, `every` and `at` says which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTrigger {
    /// Its name, which is part of its events' ids and tells it from other schedules of the function. Default what it says:
    /// `0 3 * * * Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ScheduleName>,
    /// A cron expression of five fields, or of six with seconds first, or `@daily` and the like: `0 3 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronExpression>,
    /// An interval: `30s`. It is counted from `start`, or else from 1970-01-01T00:00:00Z: `15m` are the quarters of hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Interval>,
    /// Once, at this time: `2027-01-01T00:00`, or `2027-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<ScheduleTime>,
    /// The time zone of `cron`, and of times that are written without one: `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timezone: TimeZoneName,
    /// When it begins: a time, or a date for the beginning of that day. Default at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<ScheduleTime>,
    /// When it ends: a time, which is the last it may run at, or a date for the end of that day. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<ScheduleTime>,
    /// What becomes of times that passed while the platform did not run. Default skip, and once for `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// How long ago a missed time may be to be made up for. Default 1day.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub catch_up: Option<Duration>,
    /// The longest it runs later than scheduled, so that not all schedules run at once. How much later follows from the
    /// function's name and the schedule's, and is always the same. Default 0s.
    #[serde(default, skip_serializing_if = "Duration::is_zero", with = "units::duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub jitter: Duration,
    /// What happens when the run before hasn't ended yet. Default allow.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// What its events have as `data.data`: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
    /// The topic its events are in. Default `<function>.schedule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// What becomes of times that passed while the platform did not run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Missed {
    /// Nothing.
    #[default]
    Skip,
    /// The last of them is made up for.
    Once,
    /// Each of them is made up for, in order.
    All,
}

/// What happens when the run before hasn't ended yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// Both run at once.
    #[default]
    Allow,
    /// The time is left out.
    Skip,
    /// It runs when the one before has ended.
    Queue,
}

impl Overlap {
    pub(super) const fn order(self) -> Order {
        match self {
            Self::Allow => Order::None,
            Self::Skip | Self::Queue => Order::Strict,
        }
    }
}

impl ScheduleTrigger {
    /// What tells it from other schedules of its function: its name, or what it says.
    pub fn key(&self) -> String {
        self.name.as_ref().map_or_else(|| self.to_string(), ToString::to_string)
    }

    /// What becomes of missed times. A time that comes once is worth making up for.
    pub fn missed(&self) -> Missed {
        self.missed.unwrap_or(if self.at.is_some() { Missed::Once } else { Missed::Skip })
    }

    /// Another schedule of the function that nothing tells from this one: their events would have the same ids.
    pub(super) fn clash(&self, before: &[Trigger]) -> Option<Problem> {
        let key = self.key();
        let same = |other: &Trigger| matches!(other, Trigger::Schedule(other) if other.key() == key);
        let other = before.iter().position(same)?;
        let problem = Problem::new("", format!("it is `{key}`, as trigger {other} is"));
        Some(
            problem
                .help("give one of the two a `name` of its own, since a function runs once for a schedule and a time"),
        )
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let kinds = [("cron", self.cron.is_some()), ("every", self.every.is_some()), ("at", self.at.is_some())];
        let given: Vec<_> = kinds.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind).collect();
        // Without any there may have been one that can't be read, and is told: what runs the schedule says the rest.
        if let [first, second, ..] = given[..] {
            problems.push(
                Problem::new(format!("/{second}"), format!("the schedule has both `{first}` and `{second}`"))
                    .help("keep one of the two, and write a schedule of its own for the other"),
            );
        }
        if self.at.is_some() {
            for (key, there) in [("start", self.start.is_some()), ("end", self.end.is_some())] {
                if there {
                    problems.push(
                        Problem::new(format!("/{key}"), format!("`at` is a single time, and has no `{key}`"))
                            .help("leave it out"),
                    );
                }
            }
        }
        if self.at.as_ref().is_some_and(|at| at.date_only) {
            problems.push(
                Problem::new("/at", "`at` is a date without a time").help("write the time as well: `2027-01-01T09:00`"),
            );
        }
        if self.missed() == Missed::Skip && self.catch_up.is_some() {
            problems.push(
                Problem::new("/catch_up", "nothing is caught up with, since missed times are skipped")
                    .help("write `missed: once` or `missed: all`, or leave `catch_up` out"),
            );
        }
        if self.missed() == Missed::All && self.overlap == Overlap::Skip {
            problems.push(
                Problem::new("/overlap", "`missed: all` and `overlap: skip` contradict each other: missed times come all at once, and all but the first would be left out")
                    .help("write `overlap: queue`, or `missed: once`"),
            );
        }
        problems
    }
}

impl fmt::Display for ScheduleTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cron, &self.every, &self.at) {
            (Some(cron), ..) => write!(f, "{cron}")?,
            (None, Some(every), _) => return write!(f, "every {every}"),
            (None, None, Some(at)) => {
                write!(f, "at {at}")?;
                if at.offset.is_some() {
                    return Ok(());
                }
            }
            (None, None, None) => return f.write_str("never"),
        }
        if self.timezone != TimeZoneName::default() {
            write!(f, " {}", self.timezone)?;
        }
        Ok(())
    }
}

/// The name of a schedule: 1 to 63 lowercase letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleName(String);

/// Why a text is no name of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a schedule's name: use 1 to 63 lowercase letters, digits and hyphens", .0.escape_debug())]
pub struct InvalidScheduleName(pub String);

impl FromStr for ScheduleName {
    type Err = InvalidScheduleName;

    fn from_str(text: &str) -> Result<Self, InvalidScheduleName> {
        let valid = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidScheduleName(text.to_owned())) }
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a time zone, as the IANA database has it: `Europe/Berlin`. Whether there is one is known where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeZoneName(String);

/// Why a text is no name of a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a time zone: write its name in the IANA database, such as `Europe/Berlin` or `UTC`", .0.escape_debug())]
pub struct InvalidTimeZoneName(pub String);

impl TimeZoneName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TimeZoneName {
    fn default() -> Self {
        Self("UTC".into())
    }
}

impl FromStr for TimeZoneName {
    type Err = InvalidTimeZoneName;

    fn from_str(text: &str) -> Result<Self, InvalidTimeZoneName> {
        let valid = (1..=64).contains(&text.len())
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidTimeZoneName(text.to_owned())) }
    }
}

impl fmt::Display for TimeZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The time between two runs, in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(Duration);

/// Why a text is no interval.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an interval: write a duration from 100ms to 1year, such as `30s`, `15m` or `1h 30m`", .0.escape_debug())]
pub struct InvalidInterval(pub String);

impl Interval {
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Interval {
    type Err = InvalidInterval;

    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        // Each run is an event on disk: ten a second are what a disk does without being noticed.
        const LEAST: Duration = Duration::from_millis(100);
        const MOST: Duration = Duration::from_secs(366 * 24 * 3600);
        let duration = humantime::parse_duration(text).ok();
        let valid = duration.filter(|d| (LEAST..=MOST).contains(d) && d.subsec_nanos() % 1_000_000 == 0);
        valid.map(Self).ok_or_else(|| InvalidInterval(text.to_owned()))
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A time or a date, as RFC 3339 writes it; without an offset it is one in the schedule's time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleTime {
    text: String,
    /// In seconds since 1970-01-01T00:00:00 on a clock that shows it.
    pub local: i64,
    /// How far that clock is ahead of UTC, in seconds. `None` for one in the schedule's time zone.
    pub offset: Option<i64>,
    /// It is a date; `local` is the beginning of that day.
    pub date_only: bool,
}

/// Why a text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a time: write `2027-01-01T09:00` for one in the schedule's time zone, or `2027-01-01T09:00:00Z`", .0.escape_debug())]
pub struct InvalidScheduleTime(pub String);

impl FromStr for ScheduleTime {
    type Err = InvalidScheduleTime;

    fn from_str(text: &str) -> Result<Self, InvalidScheduleTime> {
        parse_time(text).ok_or_else(|| InvalidScheduleTime(text.to_owned()))
    }
}

fn parse_time(text: &str) -> Option<ScheduleTime> {
    // Two digits and what follows them.
    fn two(text: &str) -> Option<(i64, &str)> {
        let digits = text.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        Some((digits.parse().ok()?, &text[2..]))
    }
    fn minutes(text: &str, most: i64) -> Option<(i64, &str)> {
        let (hour, rest) = two(text)?;
        let (minute, rest) = two(rest.strip_prefix(':')?)?;
        (hour <= most && minute <= 59).then_some((hour * 60 + minute, rest))
    }

    let (century, rest) = two(text)?;
    let (year, rest) = two(rest)?;
    let (month, rest) = two(rest.strip_prefix('-')?)?;
    let (day, rest) = two(rest.strip_prefix('-')?)?;
    let month = u32::try_from(month).ok()?;
    let day = cron::day_of(century * 100 + year, month, u32::try_from(day).ok()?)?;
    let mut time = ScheduleTime { text: text.to_owned(), local: day * 86_400, offset: None, date_only: true };
    if rest.is_empty() {
        return Some(time);
    }
    let (minute, mut rest) = minutes(rest.strip_prefix(['T', 't', ' '])?, 23)?;
    time.date_only = false;
    time.local += minute * 60;
    if let Some(seconds) = rest.strip_prefix(':') {
        let (second, after) = two(seconds)?;
        time.local += Some(second).filter(|second| *second <= 59)?;
        rest = after;
    }
    time.offset = match rest {
        "" => None,
        "Z" | "z" => Some(0),
        _ => {
            let (sign, rest) = match rest.split_at(1) {
                ("+", rest) => (1, rest),
                ("-", rest) => (-1, rest),
                _ => return None,
            };
            let (minutes, rest) = minutes(rest, 23)?;
            rest.is_empty().then_some(Some(sign * minutes * 60))?
        }
    };
    Some(time)
}

impl fmt::Display for ScheduleTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

as_text!(ScheduleName, "ScheduleName", { "type": "string", "pattern": "^[a-z0-9-]{1,63}$", "examples": ["nightly"] });
as_text!(TimeZoneName, "TimeZoneName", { "type": "string", "examples": ["Europe/Berlin", "America/New_York", "UTC"] });
as_text!(Interval, "Interval", { "type": "string", "examples": ["30s", "15m", "1h 30m"] });
as_text!(ScheduleTime, "ScheduleTime", {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2})?([Zz]|[+-][0-9]{2}:[0-9]{2})?)?$",
    "examples": ["2027-01-01", "2027-01-01T09:00", "2027-01-01T09:00:00Z"],
});

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(schedule: serde_json::Value) -> Vec<String> {
        let schedule: ScheduleTrigger = serde_json::from_value(schedule).unwrap();
        schedule.problems().into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn contradictions_are_told_where_they_are() {
        assert_eq!(problems(json!({ "cron": "0 3 * * *", "missed": "once", "catch_up": "1h" })), [""; 0]);
        assert_eq!(problems(json!({ "cron": "0 3 * * *", "every": "1h" })), ["/every"]);
        assert_eq!(problems(json!({ "at": "2027-01-01", "end": "2028-01-01" })), ["/end", "/at"]);
        assert_eq!(problems(json!({ "every": "1h", "catch_up": "1h" })), ["/catch_up"]);
        assert_eq!(problems(json!({ "every": "1h", "missed": "all", "overlap": "skip" })), ["/overlap"]);
    }

    #[test]
    fn a_schedule_is_known_by_its_name_or_by_what_it_says() {
        let key = |schedule| serde_json::from_value::<ScheduleTrigger>(schedule).unwrap().key();
        assert_eq!(key(json!({ "cron": " 0  3 * * *", "timezone": "Europe/Berlin" })), "0 3 * * * Europe/Berlin");
        assert_eq!(key(json!({ "every": "90s", "name": "often" })), "often");
        assert_eq!(key(json!({ "every": "90s" })), "every 1m 30s");
        assert_eq!(key(json!({ "at": "2027-01-01T00:00Z", "timezone": "Asia/Tokyo" })), "at 2027-01-01T00:00Z");
        let triggers: Vec<Trigger> = serde_json::from_value(json!([
            { "schedule": { "every": "1h", "data": 1 } },
            { "schedule": { "every": "2h", "name": "a" } },
            { "schedule": { "every": "60m", "data": 2 } },
            { "schedule": { "every": "3h", "name": "a" } },
        ]))
        .unwrap();
        let clashes = |index: usize| triggers[index].clash(&triggers[..index]).is_some();
        assert_eq!([0, 1, 2, 3].map(clashes), [false, false, true, true]);
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, local, offset, date_only) in [
            ("2027-01-01", 1_798_761_600, None, true),
            ("2027-01-01T09:30", 1_798_795_800, None, false),
            ("2027-01-01 09:30:05", 1_798_795_805, None, false),
            ("2027-01-01T09:30:05Z", 1_798_795_805, Some(0), false),
            ("2027-01-01T09:30-05:30", 1_798_795_800, Some(-19_800), false),
        ] {
            let time: ScheduleTime = text.parse().unwrap();
            assert_eq!((time.local, time.offset, time.date_only), (local, offset, date_only), "{text}");
            assert_eq!(time.to_string(), text);
        }
        for bad in [
            "",
            "2027",
            "2027-02-29",
            "2027-01-01T",
            "2027-01-01T24:00",
            "2027-01-01T09:60",
            "2027-01-01T09:00X",
            "2027-01-01T09:00+1",
            "2027-01-01T09:00:60",
            "27-01-01",
            "2027-01-0é",
        ] {
            assert!(bad.parse::<ScheduleTime>().is_err(), "{bad}");
        }
        for bad in ["", "1", "0s", "99ms", "2years", "1500us"] {
            assert!(bad.parse::<Interval>().is_err(), "{bad}");
        }
        assert!("Europe/Bérlin".parse::<TimeZoneName>().is_err() && "../etc".parse::<TimeZoneName>().is_err());
    }
}
