//! Schedules beside those of croniter, another library in another language: ten thousand random expressions, zones and
//! moments, half of them near a change of clocks.
//!
//! They differ, and all of it is meant:
//!
//! - Of a time of day that comes twice croniter takes both, and a schedule here the first. What it says comes again is left
//!   out, for schedules that don't run every hour.
//! - What is skipped runs at the change, to the second; croniter keeps the second of an expression that has one. The minute
//!   of a change is left out for those.
//! - On Lord Howe Island, whose clocks move by half an hour, a schedule that runs every hour may lose a time; here it comes at
//!   the change. It is left out for those: `times.rs` tests it.
//! - Where both a day of the month and a day of the week are asked for, either will do; croniter wants both at once if one of
//!   them is `15W`, `FRI#2` or `L5`, or refuses it. Those are asked for alone.
//! - Where both begin with `*/`, croniter wants both as well. One of the two does.
//! - `31W` is in months that have a 31st; croniter takes the last weekday of the others. Up to `28W` they agree.
//! - A range of one, `5-5`, is that one here; croniter takes it to go all the way round. Ranges have two ends.
//! - `LW`, `L-3` and lists with `W` are unknown to croniter, and aren't asked for. It writes the last Friday `L5`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use dunlin_events::{
    manifest::{CronExpression, Trigger},
    secrets::{SecretError, SecretName, SecretValue, Secrets},
    source::Sources as _,
    units::epoch_millis,
};
use dunlin_triggers::{AllowedFolders, Upstreams};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

const CASES: usize = 10_000;

/// With changes by an hour, half an hour and two, at midnight, over the date line, backwards in summer, and with none.
const ZONES: [&str; 20] = [
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "Europe/Dublin",
    "America/New_York",
    "America/Los_Angeles",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Havana",
    "America/Asuncion",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Antarctica/Troll",
];

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        Err(SecretError::Unknown { name: name.clone(), help: String::new() })
    }
}

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn from<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    /// A field of numbers from `least` to `most`.
    fn field(&mut self, least: u64, most: u64) -> String {
        let mut number = || least + self.below(most - least + 1);
        let (one, two, three) = (number(), number(), number());
        let (first, last) = (one.min(two), one.max(two));
        let step = 1 + self.below(most / 2);
        match self.below(8) {
            0 | 1 => one.to_string(),
            2 if first < last => format!("{first}-{last}"),
            3 => format!("*/{step}"),
            4 if first < last => format!("{first}-{last}/{}", 1 + step % (last - first)),
            5 => format!("{one}/{step}"),
            6 if first < last => format!("{one},{three},{first}-{last}"),
            _ => format!("{one},{two},{three}"),
        }
    }

    fn field_or_any(&mut self, any: u64, least: u64, most: u64) -> String {
        if self.chance(any) { "*".into() } else { self.field(least, most) }
    }

    /// An expression, as it is written here and as croniter writes it.
    fn expression(&mut self) -> (String, String) {
        let seconds = if self.chance(20) { Some(self.field_or_any(10, 0, 59)) } else { None };
        let minutes = self.field_or_any(15, 0, 59);
        // The hours around which clocks change are more interesting than others.
        let hours = if self.chance(30) { self.below(4).to_string() } else { self.field_or_any(40, 0, 23) };
        // What is special about days is asked for alone.
        let special = self.below(20);
        let days = match if special < 2 { 0 } else { self.below(20) } {
            _ if special == 2 => format!("{}W", 1 + self.below(28)),
            0..=9 => "*".into(),
            10 => "?".into(),
            11 => "L".into(),
            12 => format!("{},L", 1 + self.below(31)),
            _ => self.field(1, 31),
        };
        let months = match self.below(10) {
            0..=6 => "*".into(),
            7 => self.from(&["JAN", "feb", "MAR-OCT", "Apr,OCT", "NOV-feb", "2"]).into(),
            _ => self.field(1, 12),
        };
        let (weekdays, theirs) = match self.below(20) {
            _ if special == 0 => {
                let nth = format!("{}#{}", self.below(7), 1 + self.below(5));
                (nth.clone(), nth)
            }
            _ if special == 1 => {
                let day = self.below(7);
                (format!("{day}L"), format!("L{day}"))
            }
            _ if special == 2 => ("*".into(), "*".into()),
            0..=11 => ("*".into(), "*".into()),
            12..=14 => {
                let names = self.from(&["MON-FRI", "sun", "FRI-MON", "Tue,THU", "SAT-SUN", "5-7", "7", "6,0"]);
                (names.into(), names.into())
            }
            _ => {
                let field = self.field(0, 6);
                let days = if days.starts_with("*/") { field.trim_start_matches("*/").into() } else { field };
                (days.clone(), days)
            }
        };
        let seconds = seconds.map(|seconds| format!("{seconds} ")).unwrap_or_default();
        let head = format!("{seconds}{minutes} {hours} {days} {months}");
        (format!("{head} {weekdays}"), format!("{head} {theirs}"))
    }

    /// A moment from 2000 to 2037, half of the time near a change of the zone's clocks.
    fn moment(&mut self, zone: &str) -> i64 {
        let moment = 946_684_800 + self.below(37 * 365 * 86_400) as i64;
        let zone = TimeZone::get(zone).unwrap();
        let change = zone.following(Timestamp::from_second(moment).unwrap()).next();
        match change {
            Some(change) if self.chance(50) && change.timestamp().as_second() < 2_145_916_800 => {
                change.timestamp().as_second() - 10_800 + self.below(6 * 3600) as i64
            }
            _ => moment,
        }
    }
}

fn in_minute_of_a_change(zone: &TimeZone, moment: i64) -> bool {
    let change = zone.preceding(Timestamp::from_second(moment + 1).unwrap()).next();
    change.is_some_and(|change| moment - change.timestamp().as_second() < 60)
}

/// Python with croniter, installed when it isn't there.
fn python() -> PathBuf {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/schedules/requirements.txt");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("croniter");
    let python = folder.join("bin/python");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    // Written last: an installation that broke off is made again.
    let installed = folder.join("requirements.txt");
    let wanted = std::fs::read(&requirements).unwrap();
    if std::fs::read(&installed).ok().as_deref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements));
        std::fs::write(installed, wanted).unwrap();
    }
    python
}

#[test]
fn schedules_run_when_croniter_says_so() {
    let mut random = Random(0x5eed_0c40_1235_0001);
    let cases: Vec<_> = (0..CASES)
        .map(|_| {
            let zone = random.from(&ZONES);
            let (ours, theirs) = random.expression();
            (ours, zone, random.moment(zone), theirs)
        })
        .collect();

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/schedules/runs.py");
    let mut child = Command::new(python())
        .arg(script)
        // The zones of its package, and not those of the machine.
        .env("PYTHONTZPATH", "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let asked: String = cases
        .iter()
        .map(|(_, zone, after, cron)| format!("{}\n", json!({ "cron": cron, "zone": zone, "after": after })))
        .collect();
    let writer = std::thread::spawn(move || stdin.write_all(asked.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len());

    let upstreams = Upstreams::new(Arc::new(NoSecrets), AllowedFolders::default());
    let (mut compared, mut repeated, mut never) = (0, 0, 0);
    let mut different = Vec::new();
    for ((cron, zone, after, theirs), answer) in cases.iter().zip(&answers) {
        let Ok(expression) = cron.parse::<CronExpression>() else {
            // All are well written: it can only be one that never runs.
            if !answer.is_null() {
                different.push(format!("`{cron}` is refused, and croniter runs it: {answer}"));
            }
            never += 1;
            continue;
        };
        let Some(runs) = answer.as_array() else {
            different.push(format!("`{theirs}` is refused by croniter"));
            continue;
        };
        let every_hour = expression.runs_every_hour();
        if every_hour && *zone == "Australia/Lord_Howe" {
            continue;
        }
        let once: Vec<_> = runs.iter().filter(|run| every_hour || run[1] == false).collect();
        repeated += usize::from(once.len() < runs.len());
        let clocks = TimeZone::get(zone).unwrap();
        let with_seconds = cron.split(' ').count() == 6;
        let counts = |run: &i64| !with_seconds || !in_minute_of_a_change(&clocks, *run);
        let mut expected: Vec<i64> = once.iter().map(|run| run[0].as_i64().unwrap()).filter(counts).collect();
        let trigger: Trigger =
            serde_json::from_value(json!({ "schedule": { "cron": cron, "timezone": zone } })).unwrap();
        let source = upstreams.open(&"f".parse().unwrap(), &trigger).unwrap();
        let mut found: Vec<_> = source
            .upcoming(UNIX_EPOCH + Duration::from_secs(after.unsigned_abs()), runs.len() + 1)
            .into_iter()
            .map(|time| (epoch_millis(time) / 1000) as i64)
            .filter(counts)
            .collect();
        let both = found.len().min(expected.len());
        found.truncate(both);
        expected.truncate(both);
        compared += found.len();
        if found != expected {
            let at = found.iter().zip(&expected).position(|(found, expected)| found != expected).unwrap_or(0);
            let shown = |moments: &[i64]| {
                let shown =
                    |moment: &i64| Timestamp::from_second(*moment).unwrap().to_zoned(clocks.clone()).to_string();
                moments[at.saturating_sub(1)..].iter().take(4).map(shown).collect::<Vec<_>>().join(", ")
            };
            different.push(format!("`{cron}` after {after}: {} and not {}", shown(&found), shown(&expected)));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    println!("{compared} runs compared, {repeated} schedules with repeated times, {never} that never run");
    assert!(compared > 70_000 && repeated > 20 && never > 0, "{compared}, {repeated}, {never}");
}
