//! The moments of a schedule, in milliseconds since the Unix epoch.

use super::clock;
use dunlin_events::{
    manifest::{CronExpression, Problem, ScheduleTime, ScheduleTrigger, TimeZoneName},
    similar,
    units::millis,
};
use jiff::{
    Timestamp,
    tz::{self, TimeZone},
};

/// When a schedule runs.
pub(super) struct Times {
    kind: Kind,
    zone: TimeZone,
    /// The first moment it may run at, and the last.
    start: i64,
    end: i64,
}

enum Kind {
    Cron(CronExpression),
    /// So many milliseconds apart, counted from this moment.
    Every {
        interval: i64,
        from: i64,
    },
    At(i64),
}

impl Times {
    /// Pointers of the problem are into the trigger.
    pub(super) fn new(trigger: &ScheduleTrigger) -> Result<Self, Problem> {
        let zone = zone(&trigger.timezone)?;
        let moment = |key: &str, time: &ScheduleTime, add: i64| {
            let moment = match time.offset {
                Some(offset) => Some(time.local - offset),
                None => clock::moment(&zone, time.local + add),
            };
            let seconds = moment.filter(|seconds| Timestamp::from_second(*seconds).is_ok());
            let unknown = || Problem::new(format!("/{key}"), format!("`{time}` is beyond all calendars"));
            seconds.map(|seconds| seconds * 1000).ok_or_else(|| unknown().help("write a year before 9999"))
        };
        let start = trigger.start.as_ref().map(|start| moment("start", start, 0)).transpose()?;
        let end = match &trigger.end {
            // The whole of the day, up to the beginning of the next.
            Some(end) if end.date_only => moment("end", end, 86_400)? - 1,
            Some(end) => moment("end", end, 0)?,
            None => i64::MAX,
        };
        if let (Some(start), Some(given)) = (start, &trigger.end)
            && end < start
        {
            return Err(Problem::new("/end", format!("it ends at `{given}`, before it starts"))
                .help("write an `end` after `start`"));
        }
        let kind = match (&trigger.cron, &trigger.every, &trigger.at) {
            (Some(cron), ..) => Kind::Cron(cron.clone()),
            (None, Some(every), _) => {
                let interval = i64::try_from(millis(every.duration())).expect("an interval is a year at most");
                Kind::Every { interval, from: start.unwrap_or(0) }
            }
            (None, None, Some(at)) => Kind::At(moment("at", at, 0)?),
            (None, None, None) => {
                return Err(Problem::new("", "the schedule says no times")
                    .help("write one of `cron: \"0 3 * * *\"`, `every: 30s` and `at: 2027-01-01T00:00`"));
            }
        };
        Ok(Self { kind, zone, start: start.unwrap_or(i64::MIN), end })
    }

    /// The first after this moment.
    pub(super) fn next(&self, after: i64) -> Option<i64> {
        let after = after.max(self.start.saturating_sub(1));
        let next = match &self.kind {
            Kind::Cron(cron) => {
                let times = |after| cron.next(after);
                clock::next(&self.zone, &times, cron.runs_every_hour(), after.div_euclid(1000))? * 1000
            }
            Kind::Every { interval, from } => {
                let passed = after.checked_sub(*from)?.div_euclid(*interval);
                from.checked_add((passed + 1).checked_mul(*interval)?)?
            }
            Kind::At(at) => *at,
        };
        (after < next && next <= self.end).then_some(next)
    }

    /// All after this moment, in order.
    pub(super) fn after(&self, moment: i64) -> impl Iterator<Item = i64> {
        std::iter::successors(self.next(moment), |time| self.next(*time))
    }

    /// The last after one moment and not after another.
    pub(super) fn last(&self, after: i64, until: i64) -> Option<i64> {
        // Looked for in spans that grow from the end: there may be millions of them.
        let mut span = 60_000;
        loop {
            let from = until.saturating_sub(span).max(after);
            let last = self.after(from).take_while(|time| *time <= until).last();
            if last.is_some() || from == after {
                return last;
            }
            span = span.saturating_mul(16);
        }
    }

    /// A moment as clocks in the schedule's zone show it: `2026-11-24T03:00:00+01:00`.
    pub(super) fn shown(&self, moment: i64) -> String {
        let time = Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX);
        time.display_with_offset(self.zone.to_offset(time)).to_string()
    }
}

/// A moment in UTC, for ids: what is written never changes.
pub(super) fn written(moment: i64) -> String {
    let time = Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX);
    if moment % 1000 == 0 { format!("{time:.0}") } else { format!("{time:.3}") }
}

/// The zone of this name. Zones are compiled in, so that every node has the same.
pub(super) fn zone(name: &TimeZoneName) -> Result<TimeZone, Problem> {
    tz::db().get(name.as_str()).map_err(|_| {
        let known: Vec<_> = tz::db().available().map(|name| name.to_string()).collect();
        // Most write the city alone, or near enough.
        let city =
            |known: &&String| known.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(name.as_str()));
        let meant = known.iter().find(city).map(String::as_str);
        let meant = meant.or_else(|| similar(name.as_str(), known.iter().map(String::as_str)));
        Problem::new("/timezone", format!("there is no time zone `{name}`")).help(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write its name in the IANA database: `Europe/Berlin`, `America/New_York`, `UTC`".to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn times(manifest: Value) -> Times {
        Times::new(&serde_json::from_value(manifest).unwrap()).unwrap()
    }

    fn moment(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    /// The runs of one span of time, as clocks there show them.
    fn runs(cron: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
        let times = times(json!({ "cron": cron, "timezone": zone }));
        let until = moment(until);
        times.after(moment(from) - 1).take_while(|time| *time <= until).map(|time| times.shown(time)).collect()
    }

    /// Minutes between one run and the next.
    fn rhythm(cron: &str, zone: &str, from: &str, until: &str) -> Vec<i64> {
        let times = times(json!({ "cron": cron, "timezone": zone }));
        let until = moment(until);
        let all: Vec<_> = times.after(moment(from) - 1).take_while(|time| *time <= until).collect();
        all.windows(2).map(|two| (two[1] - two[0]) / 60_000).collect()
    }

    #[test]
    fn a_skipped_time_runs_once_at_the_change() {
        for (zone, change, day) in [
            ("Europe/Berlin", "2026-03-29T03:00:00+02:00", "2026-03-29"),
            ("America/New_York", "2026-03-08T03:00:00-04:00", "2026-03-08"),
            ("Australia/Lord_Howe", "2026-10-04T02:30:00+11:00", "2026-10-04"),
        ] {
            let offset = &change[19..];
            let (from, until) = (format!("{day}T00:00:00{offset}"), format!("{day}T23:00:00{offset}"));
            for cron in ["10 2 * * *", "0 2 * * *", "*/5 2 * * *", "29,20 2 * * *", "5 10 2 * * *"] {
                let mut runs = runs(cron, zone, &from, &until);
                // What of the hour is left on Lord Howe Island runs as always.
                runs.retain(|run| **run <= *change);
                assert_eq!(runs, [change], "{cron} in {zone}");
            }
            // One that is due at the change as well runs once.
            let runs = runs("0 2,3 * * *", zone, &from, &until);
            assert_eq!(runs.iter().filter(|run| *run == change).count(), 1, "{zone}: {runs:?}");
            assert_eq!(times(json!({ "at": format!("{day}T02:10"), "timezone": zone })).next(0), Some(moment(change)));
        }
        assert_eq!(
            runs("30 2,3 * * *", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"],
        );
        // Cairo's clocks skip the first hour of a day; Apia's once skipped all of a day.
        assert_eq!(
            runs("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00:00Z", "2026-04-24T12:00:00Z"),
            ["2026-04-24T01:00:00+03:00"],
        );
        assert_eq!(
            runs("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2012-01-31T00:00:00Z"),
            ["2011-12-31T00:00:00+14:00"],
        );
    }

    #[test]
    fn a_repeated_time_runs_once() {
        for (zone, first, day, after) in [
            ("Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25", "+01:00"),
            ("America/New_York", "2026-11-01T01:30:00-04:00", "2026-11-01", "-05:00"),
            ("Australia/Lord_Howe", "2026-04-05T01:30:00+11:00", "2026-04-05", "+10:30"),
        ] {
            let (from, until) = (format!("{day}T00:00:00{after}"), format!("{day}T23:00:00{after}"));
            let hour = &first[11..13];
            let cron = format!("30 {hour} * * *");
            assert_eq!(runs(&cron, zone, &from, &until), [first], "{zone}");
            // Asked from the middle of the second time round.
            let second = format!("{day}T{hour}:29:00{after}");
            let next = times(json!({ "cron": cron, "timezone": zone })).next(moment(&second)).unwrap();
            assert!(next > moment(&until), "{zone}: {}", Timestamp::from_millisecond(next).unwrap());
            assert_eq!(
                times(json!({ "at": format!("{day}T{hour}:30"), "timezone": zone })).next(0),
                Some(moment(first)),
            );
            let often = runs(&format!("*/10 {hour} * * *"), zone, &from, &until);
            let mut clock: Vec<_> = often.iter().map(|run| &run[..19]).collect();
            clock.dedup();
            assert_eq!(clock.len(), often.len(), "{zone}: {often:?}");
            assert!(clock.is_sorted() && often.len() == 6, "{zone}: {often:?}");
        }
    }

    #[test]
    fn one_that_runs_every_hour_keeps_its_rhythm() {
        for (zone, from, until) in [
            ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
            ("Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z"),
            ("America/New_York", "2026-03-08T00:00:00Z", "2026-03-09T00:00:00Z"),
            ("America/New_York", "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-05T00:00:00Z"),
            ("Asia/Kolkata", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
            ("UTC", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
        ] {
            let quarters = rhythm("*/15 * * * *", zone, from, until);
            assert!(quarters.len() >= 95 && quarters.iter().all(|minutes| *minutes == 15), "{zone}: {quarters:?}");
            let hours = rhythm("0 * * * *", zone, from, until);
            // Lord Howe Island's clocks go back by half an hour, and no run can be an hour after the last.
            let most = if zone.ends_with("Howe") && from.contains("04-04") { 90 } else { 60 };
            assert!(hours.iter().all(|minutes| *minutes <= most), "{zone}: {hours:?}");
            if !zone.ends_with("Howe") {
                assert!(hours.iter().all(|minutes| *minutes == 60), "{zone}: {hours:?}");
            }
        }
    }

    #[test]
    fn intervals_go_by_time_and_dates_bound_them() {
        let every =
            times(json!({ "every": "7h", "start": "2026-03-28", "end": "2026-03-29", "timezone": "Europe/Berlin" }));
        let all: Vec<_> = every.after(0).map(|time| every.shown(time)).collect();
        assert_eq!(all[0], "2026-03-28T00:00:00+01:00");
        // The day of the change has 23 hours, and the last date is part of it.
        assert_eq!(all[all.len() - 1], "2026-03-29T19:00:00+02:00");
        assert_eq!(all.len(), 7);
        let quarters = times(json!({ "every": "15m" }));
        assert_eq!(quarters.next(moment("2026-11-24T14:03:00Z")), Some(moment("2026-11-24T14:15:00Z")));
        assert_eq!(quarters.next(moment("2026-11-24T14:15:00Z")), Some(moment("2026-11-24T14:30:00Z")));
        let exact =
            times(json!({ "cron": "0 3 * * *", "start": "2026-11-24T03:00:00Z", "end": "2026-11-25T03:00:00Z" }));
        assert_eq!(exact.after(0).count(), 2);
    }

    #[test]
    fn the_last_of_millions_is_found_at_once() {
        let now = moment("2026-11-24T14:03:00Z");
        for manifest in [
            json!({ "every": "100ms" }),
            json!({ "cron": "0 0 29 2 *" }),
            json!({ "cron": "0 0 1 1 *", "start": "2026-11-01" }),
        ] {
            let times = times(manifest);
            let last = times.last(0, now);
            let brute = times.after(last.unwrap_or(now)).next().unwrap();
            assert!(brute > now && last.is_none_or(|last| last <= now));
        }
        assert_eq!(times(json!({ "every": "100ms" })).last(0, now), Some(now));
        assert_eq!(times(json!({ "cron": "0 0 29 2 *" })).last(0, now), Some(moment("2024-02-29T00:00:00Z")));
        assert_eq!(times(json!({ "every": "1h" })).last(now - 60_000, now), None);
    }
}
