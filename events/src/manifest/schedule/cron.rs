//! Cron expressions: which times on a clock they name.
//!
//! It knows calendars and no time zones: times are *local seconds*, the seconds a clock on the wall has shown since
//! 1970-01-01T00:00:00 on it. What the wall clock does when summer comes is the business of who runs the schedule.
//! Written here rather than taken from a crate so that a mistake is told by field and with its fix while the manifest is
//! read. Fields are bit masks: the next time is found by counting zeros, a month at a time, and never by trying.

use std::{fmt, str::FromStr};

/// A cron expression: minute, hour, day of the month, month, day of the week; with a second before them when it has six
/// fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronExpression {
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    days: Days,
}

/// The days of a month. Where both a day of the month and a day of the week are asked for, either will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Days {
    /// Days by their number; `None` for `*`.
    of_month: Option<OfMonth>,
    /// Days by their name; `None` for `*`.
    of_week: Option<OfWeek>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfMonth {
    days: u64,
    /// `L` and `L-3`: days before the last.
    before_last: u64,
    /// `15W`: the weekday nearest to it.
    nearest: u64,
    /// `LW`: the last weekday, Monday to Friday.
    last_weekday: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfWeek {
    days: u64,
    /// `FRI#2`: for each of the five times a day of the week can come in a month, which.
    nth: [u64; 5],
    /// `FRIL`: the last.
    last: u64,
}

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a schedule: {reason}", .text.escape_debug())]
pub struct InvalidCron {
    pub text: String,
    pub reason: String,
}

/// A field: what it is called, what its numbers may be, and their names.
struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
    /// The field whose step is next larger, for a step that is too large.
    larger: &'static str,
}

const SECOND: Field = Field { name: "second", least: 0, most: 59, names: &[], larger: "minute" };
const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[], larger: "hour" };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[], larger: "day" };
const DAY: Field = Field { name: "day of the month", least: 1, most: 31, names: &[], larger: "month" };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    larger: "",
};
/// 7 is Sunday too.
const WEEKDAY: Field = Field {
    name: "day of the week",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    larger: "day of the month",
};

const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Longer than any expression that means something.
const MAX_TEXT: usize = 256;
const DAY_SECONDS: i64 = 86_400;
/// The Gregorian calendar repeats itself after 400 years: what hasn't come by then never comes.
const CYCLE_MONTHS: usize = 400 * 12;

impl CronExpression {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it runs in each hour of a day: its rhythm is then that of time as it passes, and not of the day's hours.
    pub fn runs_every_hour(&self) -> bool {
        self.hours == all(&HOUR)
    }

    /// The first time after this one, both in local seconds.
    pub fn next(&self, after: i64) -> Option<i64> {
        let from = after.checked_add(1)?;
        let (today, second) = (from.div_euclid(DAY_SECONDS), from.rem_euclid(DAY_SECONDS));
        let (mut year, mut month, day) = civil(today);
        let mut first = today - i64::from(day - 1);
        let mut least = day;
        for _ in 0..=CYCLE_MONTHS {
            let length = month_length(year, month);
            if has(self.months, month) {
                let mut days = self.days.in_month(length, weekday(first)) & (!0 << least);
                while days != 0 {
                    let date = first + i64::from(days.trailing_zeros()) - 1;
                    let time = self.time_from(if date == today { second } else { 0 });
                    if let Some(time) = time {
                        return Some(date * DAY_SECONDS + time);
                    }
                    days &= days - 1;
                }
            }
            first += i64::from(length);
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            least = 1;
        }
        None
    }

    /// Whether it names this time, in local seconds.
    pub fn names(&self, time: i64) -> bool {
        self.next(time - 1) == Some(time)
    }

    /// The first of its times of a day at or after this second of the day.
    fn time_from(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let mut at = [hour, minute, second].map(|n| u32::try_from(n).expect("parts of a day are small"));
        let masks = [self.hours, self.minutes, self.seconds];
        let mut place = 0;
        while place < 3 {
            match from(masks[place], at[place]) {
                Some(found) => {
                    if found > at[place] {
                        at[place + 1..].fill(0);
                    }
                    at[place] = found;
                    place += 1;
                }
                // None left here: the next larger part moves on.
                None => {
                    place = place.checked_sub(1)?;
                    at[place] += 1;
                    at[place + 1..].fill(0);
                }
            }
        }
        Some(i64::from(at[0] * 3600 + at[1] * 60 + at[2]))
    }

    /// Whether there is a day it runs on, in any year.
    fn ever_runs(&self) -> bool {
        (1..=12).filter(|month| has(self.months, *month)).any(|month| {
            let lengths = if month == 2 { 28..=29 } else { month_length(2001, month)..=month_length(2001, month) };
            lengths.into_iter().any(|length| (0..7).any(|first| self.days.in_month(length, first) != 0))
        })
    }
}

impl Days {
    /// The days of a month of this length whose first is this day of the week, each as the bit of its number.
    fn in_month(&self, length: u32, first: u32) -> u64 {
        match (&self.of_month, &self.of_week) {
            (None, None) => below(length + 1) & !1,
            (Some(days), None) => days.in_month(length, first),
            (None, Some(days)) => days.in_month(length, first),
            (Some(one), Some(other)) => one.in_month(length, first) | other.in_month(length, first),
        }
    }
}

impl OfMonth {
    fn in_month(&self, length: u32, first: u32) -> u64 {
        let weekday = |day: u32| (first + day - 1) % 7;
        let mut days = self.days & below(length + 1);
        for back in bits(self.before_last).filter(|back| *back < length) {
            days |= 1 << (length - back);
        }
        for day in bits(self.nearest).filter(|day| *day <= length) {
            // It never leaves the month.
            days |= 1
                << match weekday(day) {
                    6 if day == 1 => 3,
                    6 => day - 1,
                    0 if day == length => day - 2,
                    0 => day + 1,
                    _ => day,
                };
        }
        if self.last_weekday {
            days |= 1
                << match weekday(length) {
                    6 => length - 1,
                    0 => length - 2,
                    _ => length,
                };
        }
        days
    }
}

impl OfWeek {
    fn in_month(&self, length: u32, first: u32) -> u64 {
        let mut found = 0;
        for day in 1..=length {
            let weekday = (first + day - 1) % 7;
            let nth = self.nth[((day - 1) / 7) as usize];
            let last = if day + 7 > length { self.last } else { 0 };
            if has(self.days | nth | last, weekday) {
                found |= 1 << day;
            }
        }
        found
    }
}

impl FromStr for CronExpression {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let invalid = |reason: String| InvalidCron { text: text.chars().take(MAX_TEXT).collect(), reason };
        if text.len() > MAX_TEXT {
            return Err(invalid(format!("it has more than {MAX_TEXT} bytes")));
        }
        let words = text.trim();
        let fields = if words.starts_with('@') { nickname(words).map_err(invalid)? } else { words };
        let mut fields: Vec<_> = fields.split_ascii_whitespace().collect();
        if fields.len() == 5 {
            fields.insert(0, "0");
        }
        let [second, minute, hour, day, month, weekday] = fields[..] else {
            let count = fields.len();
            return Err(invalid(format!(
                "it has {count} field{}, not five or six: write minute, hour, day of the month, month and day of the \
                 week, such as `0 3 * * *`, with a second before them where that matters",
                if count == 1 { "" } else { "s" },
            )));
        };
        let read = |field: &Field, text| field.read(text).map_err(invalid);
        let cron = Self {
            text: text.trim().split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            seconds: read(&SECOND, second)?,
            minutes: read(&MINUTE, minute)?,
            hours: read(&HOUR, hour)?,
            months: read(&MONTH, month)?,
            days: Days { of_month: of_month(day).map_err(invalid)?, of_week: of_week(weekday).map_err(invalid)? },
        };
        if !cron.ever_runs() {
            return Err(invalid(format!(
                "it never runs, since no month it names has a day `{day}`: change the day or the month"
            )));
        }
        Ok(cron)
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn nickname(text: &str) -> Result<&'static str, String> {
    let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, fields)) = known {
        return Ok(fields);
    }
    Err(if text.to_ascii_lowercase().starts_with("@every") {
        "an interval is written without cron, such as `every: 30s`".into()
    } else if text.eq_ignore_ascii_case("@reboot") {
        "a schedule knows times, and not when the platform starts".into()
    } else {
        let names: Vec<_> = NICKNAMES.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("there is no such name: known are {}", names.join(", "))
    })
}

fn of_month(text: &str) -> Result<Option<OfMonth>, String> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    let mut days = OfMonth::default();
    for item in text.split(',') {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            days.before_last |= 1;
        } else if upper == "LW" || upper == "WL" {
            days.last_weekday = true;
        } else if let Some(back) = upper.strip_prefix("L-") {
            let back = number(back).filter(|back| (1..=30).contains(back)).ok_or_else(|| {
                format!("`{item}` is no day of the month: `L-3` is the third before the last, up to `L-30`")
            })?;
            days.before_last |= 1 << back;
        } else if let Some(day) = upper.strip_suffix('W') {
            let day = number(day).filter(|day| (1..=31).contains(day)).ok_or_else(|| {
                format!(
                    "`{item}` is no day of the month: `15W` is the weekday nearest to the 15th, `LW` the last weekday"
                )
            })?;
            days.nearest |= 1 << day;
        } else {
            days.days |= DAY.item(item)?;
        }
    }
    Ok(Some(days))
}

fn of_week(text: &str) -> Result<Option<OfWeek>, String> {
    if matches!(text, "*" | "?") {
        return Ok(None);
    }
    let mut days = OfWeek::default();
    for item in text.split(',') {
        let upper = item.to_ascii_uppercase();
        if let Some((day, nth)) = upper.split_once('#') {
            let day = WEEKDAY.value(day)? % 7;
            let nth = number(nth).filter(|nth| (1..=5).contains(nth)).ok_or_else(|| {
                format!("`{item}` is no day of the week: `FRI#2` is the second Friday of a month, up to `#5`, and `FRIL` the last")
            })?;
            days.nth[nth as usize - 1] |= 1 << day;
        } else if upper == "L" {
            return Err(
                "`L` alone is no day of the week: write which, such as `FRIL` for the last Friday of a month".into()
            );
        } else if let Some(day) = upper.strip_suffix('L') {
            days.last |= 1 << (WEEKDAY.value(day)? % 7);
        } else {
            days.days |= WEEKDAY.item(item)?;
        }
    }
    Ok(Some(days))
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |all, item| Ok(all | self.item(item)?))
    }

    /// `5`, `MON-FRI`, `*/15`, `10-50/20`, `10/20`: the numbers it names, as bits.
    fn item(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(text, step)?)),
            None => (text, None),
        };
        // As far as it goes round: 7 is Sunday, which is there already.
        let top = if self.most == 7 { 6 } else { self.most };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, top),
            _ if range == "?" => {
                return Err(format!("`?` stands for any day, and not for any {}: write `*`", self.name));
            }
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { top.max(value) } else { value })
            }
        };
        let mut found = 0;
        // A range that goes round, such as `22-2` or `FRI-MON`, goes on with the least.
        let span = top - self.least + 1;
        let last = if last < first { last + span } else { last };
        let mut value = first;
        while value <= last {
            found |= 1 << ((value - self.least) % span + self.least);
            value += step.unwrap_or(1);
        }
        Ok(found)
    }

    fn step(&self, item: &str, text: &str) -> Result<u32, String> {
        let most = if self.most == 7 { 6 } else { self.most };
        match number(text) {
            Some(step) if step >= 1 && step <= most => Ok(step),
            Some(step) if step > most && !self.larger.is_empty() => Err(format!(
                "`{item}` has a step that is longer than the field: what happens less often than each {} is for the field of the {}",
                match self.name {
                    "second" => "minute",
                    "minute" => "hour",
                    "hour" => "day",
                    "day of the month" => "month",
                    _ => "week",
                },
                self.larger,
            )),
            _ => Err(format!(
                "`{item}` has no step: `*/5` is each fifth {}, and the step is a number from 1 to {most}",
                self.name
            )),
        }
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(place) = named {
            return Ok(self.least + u32::try_from(place).expect("there are twelve at most"));
        }
        let (least, most) = (self.least, self.most);
        if let Some(number) = number(text).filter(|number| (least..=most).contains(number)) {
            return Ok(number);
        }
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or a name, {first} to {last}"),
            _ => String::new(),
        };
        Err(format!("`{text}` is no {}: it is a number from {least} to {most}{names}", self.name))
    }
}

/// A short number of digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u32> {
    if text.len() > 4 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn all(field: &Field) -> u64 {
    below(field.most + 1) & !below(field.least)
}

/// The bits below this one.
const fn below(bit: u32) -> u64 {
    (1 << bit) - 1
}

const fn has(mask: u64, bit: u32) -> bool {
    mask & (1 << bit) != 0
}

fn bits(mask: u64) -> impl Iterator<Item = u32> {
    (0..u64::BITS).filter(move |bit| has(mask, *bit))
}

/// The first bit at or after this one.
const fn from(mask: u64, bit: u32) -> Option<u32> {
    let rest = mask & (!0 << bit);
    if rest == 0 { None } else { Some(rest.trailing_zeros()) }
}

/// The day of the week of a day since 1970-01-01, which was a Thursday. Sunday is 0.
fn weekday(day: i64) -> u32 {
    u32::try_from((day + 4).rem_euclid(7)).expect("it is below 7")
}

fn month_length(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March, so that the leap day comes last.
fn civil(day: i64) -> (i64, u32, u32) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let small = |n: i64| u32::try_from(n).expect("months and days are small");
    (era * 400 + year + i64::from(month <= 2), small(month), small(date))
}

/// The day since 1970-01-01 of a date. `None` when there is no such date.
pub(super) fn day_of(year: i64, month: u32, date: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || date == 0 || date > month_length(year, month) {
        return None;
    }
    let from_march = year - i64::from(month <= 2);
    let (era, of_era) = (from_march.div_euclid(400), from_march.rem_euclid(400));
    let month = i64::from(if month > 2 { month - 3 } else { month + 9 });
    let of_year = (153 * month + 2) / 5 + i64::from(date) - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

crate::manifest::as_text!(CronExpression, "CronExpression", {
    "type": "string",
    "examples": ["0 3 * * *", "*/15 8-18 * * MON-FRI", "0 9 LW * *", "@daily"],
});

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> i64 {
        let number = |range: std::ops::Range<usize>| text[range].parse::<u32>().unwrap();
        let day = day_of(number(0..4).into(), number(5..7), number(8..10)).unwrap();
        day * DAY_SECONDS + i64::from(number(11..13) * 3600 + number(14..16) * 60 + number(17..19))
    }

    fn text(seconds: i64) -> String {
        let ((year, month, day), time) = (civil(seconds.div_euclid(DAY_SECONDS)), seconds.rem_euclid(DAY_SECONDS));
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", time / 3600, time / 60 % 60, time % 60)
    }

    fn runs(expression: &str, after: &str, count: usize) -> Vec<String> {
        let cron: CronExpression = expression.parse().unwrap_or_else(|error| panic!("{error}"));
        let mut time = seconds(after);
        (0..count)
            .map(|_| {
                time = cron.next(time).unwrap();
                text(time)
            })
            .collect()
    }

    #[test]
    fn dates_and_days_are_the_same() {
        for (year, month, date, day) in
            [(1970, 1, 1, 0), (2000, 2, 29, 11_016), (1969, 12, 31, -1), (2400, 2, 29, 157_113)]
        {
            assert_eq!(day_of(year, month, date), Some(day));
            assert_eq!(civil(day), (year, month, date));
        }
        assert!((-200_000..400_000).all(|day| {
            let (year, month, date) = civil(day);
            day_of(year, month, date) == Some(day)
        }));
        assert_eq!((day_of(2100, 2, 29), day_of(2026, 13, 1), day_of(2026, 4, 31)), (None, None, None));
    }

    #[test]
    fn expressions_run_when_they_say() {
        for (expression, after, expected) in [
            ("0 3 * * *", "2026-11-24 03:00:00", &["2026-11-25 03:00:00", "2026-11-26 03:00:00"][..]),
            ("*/15 * * * *", "2026-12-31 23:40:01", &["2026-12-31 23:45:00", "2027-01-01 00:00:00"]),
            (
                "*/20 * * * * *",
                "2026-11-24 03:00:00",
                &["2026-11-24 03:00:20", "2026-11-24 03:00:40", "2026-11-24 03:01:00"],
            ),
            (
                "30 22-1 * * *",
                "2026-11-24 22:00:00",
                &[
                    "2026-11-24 22:30:00",
                    "2026-11-24 23:30:00",
                    "2026-11-25 00:30:00",
                    "2026-11-25 01:30:00",
                    "2026-11-25 22:30:00",
                ],
            ),
            (
                "0 0 * * fri-mon",
                "2026-11-24 00:00:00",
                &[
                    "2026-11-27 00:00:00",
                    "2026-11-28 00:00:00",
                    "2026-11-29 00:00:00",
                    "2026-11-30 00:00:00",
                    "2026-12-04 00:00:00",
                ],
            ),
            (
                "0 0 * * 5-7",
                "2026-11-24 00:00:00",
                &["2026-11-27 00:00:00", "2026-11-28 00:00:00", "2026-11-29 00:00:00", "2026-12-04 00:00:00"],
            ),
            ("0 0 L * *", "2027-01-31 00:00:00", &["2027-02-28 00:00:00", "2027-03-31 00:00:00"]),
            ("0 0 L-2 * *", "2028-02-01 00:00:00", &["2028-02-27 00:00:00", "2028-03-29 00:00:00"]),
            // The 15th was a Sunday, then a Tuesday, then a Saturday.
            (
                "0 0 15W * *",
                "2026-11-01 00:00:00",
                &["2026-11-16 00:00:00", "2026-12-15 00:00:00", "2027-01-15 00:00:00"],
            ),
            ("0 0 1W * *", "2026-07-31 00:00:00", &["2026-08-03 00:00:00", "2026-09-01 00:00:00"]),
            ("0 0 31W 5 *", "2026-01-01 00:00:00", &["2026-05-29 00:00:00", "2027-05-31 00:00:00"]),
            (
                "0 0 LW * *",
                "2026-05-01 00:00:00",
                &["2026-05-29 00:00:00", "2026-06-30 00:00:00", "2026-07-31 00:00:00"],
            ),
            ("0 0 * * FRI#2", "2026-11-24 00:00:00", &["2026-12-11 00:00:00", "2027-01-08 00:00:00"]),
            ("0 0 * * MON#5", "2026-11-24 00:00:00", &["2026-11-30 00:00:00", "2027-03-29 00:00:00"]),
            ("0 0 * * friL", "2026-11-24 00:00:00", &["2026-11-27 00:00:00", "2026-12-25 00:00:00"]),
            // Either will do.
            ("0 0 13 * FRI", "2026-11-12 00:00:00", &["2026-11-13 00:00:00", "2026-11-20 00:00:00"]),
            ("0 0 29 2 ?", "2097-01-01 00:00:00", &["2104-02-29 00:00:00"]),
            ("0 0 ? FEB MON#5", "2073-01-01 00:00:00", &["2112-02-29 00:00:00"]),
            ("0 0 1 jan,JUL *", "2026-11-24 00:00:00", &["2027-01-01 00:00:00", "2027-07-01 00:00:00"]),
            (
                "5/20 10-20/5 * * *",
                "2026-11-24 00:00:00",
                &["2026-11-24 10:05:00", "2026-11-24 10:25:00", "2026-11-24 10:45:00", "2026-11-24 15:05:00"],
            ),
            ("@Weekly", "2026-11-24 00:00:00", &["2026-11-29 00:00:00"]),
        ] {
            assert_eq!(runs(expression, after, expected.len()), expected, "{expression}");
        }
    }

    #[test]
    fn mistakes_are_told_by_field() {
        for (bad, reason) in [
            ("", "it has 0 fields"),
            ("* * * *", "it has 4 fields"),
            ("0 0 0 1 1 * 2026", "it has 7 fields"),
            ("0 24 * * *", "`24` is no hour: it is a number from 0 to 23"),
            ("60 * * * *", "`60` is no minute"),
            ("0 0 0 * *", "`0` is no day of the month: it is a number from 1 to 31"),
            ("0 0 1 13 *", "`13` is no month: it is a number from 1 to 12 or a name, JAN to DEC"),
            ("0 0 * * 8", "`8` is no day of the week: it is a number from 0 to 7 or a name, SUN to SAT"),
            ("0 0 * * MONDAY", "`MONDAY` is no day of the week"),
            ("*/0 * * * *", "the step is a number from 1 to 59"),
            ("*/90 * * * *", "for the field of the hour"),
            ("-5 * * * *", "`` is no minute"),
            ("+5 * * * *", "`+5` is no minute"),
            ("5, * * * *", "`` is no minute"),
            ("? * * * *", "`?` stands for any day"),
            ("0 0 32W * *", "`15W` is the weekday nearest"),
            ("0 0 L-31 * *", "up to `L-30`"),
            ("0 0 * * FRI#6", "up to `#5`"),
            ("0 0 * * MON-FRI#2", "`MON-FRI` is no day of the week"),
            ("0 0 * * L", "write which"),
            ("0 0 30 2 *", "it never runs, since no month it names has a day `30`"),
            ("0 0 31 4,6,9,11 *", "it never runs"),
            ("@reboot", "not when the platform starts"),
            ("@every 5m", "such as `every: 30s`"),
            ("@nightly", "known are `@yearly`"),
            ("0 3 * * \u{1b}", "\\u{1b}"),
        ] {
            let error = bad.parse::<CronExpression>().unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert!(format!("{}0 * * * *", "0,".repeat(200)).parse::<CronExpression>().is_err());
    }

    #[test]
    fn a_sparse_one_is_found_at_once() {
        let cron: CronExpression = "59 59 23 29W 2 ?".parse().unwrap();
        let mut time = seconds("2000-03-01 00:00:00");
        for _ in 0..1_000 {
            time = cron.next(time).unwrap();
        }
        assert!(text(time).starts_with("6"), "{}", text(time));
    }
}
