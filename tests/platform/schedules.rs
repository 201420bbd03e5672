//! Schedules on the real platform: over crashes, downtime and changes of clocks. Where a test needs another time of the year,
//! libfaketime starts the platform's wall clock where the test wants it.

use crate::harness::{Platform, Random, arguments_of_up, command, dunlin, guest, repository, shown, write_function};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A platform whose wall clock starts at this time of UTC. What is slept and waited goes by another, which is left alone.
fn start_at(data: &Path, time: &str) -> Platform {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let library = libraries.find(|library| library.exists()).expect("libfaketime is installed: run `make tools`");
    let mut command = Command::new(dunlin());
    command.args(arguments_of_up(data)).env("LD_PRELOAD", library);
    command.env("TZ", "UTC").env("FAKETIME", format!("@{time}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    Platform::start_command(data, &mut command)
}

/// Ends it as an operator would: killed, the library would leave something in `/dev/shm` that stops another process with the
/// same number.
fn stop(mut platform: Platform) {
    platform.signal("TERM");
    platform.wait();
}

/// When a schedule's event was scheduled, in milliseconds since the Unix epoch.
fn millis(event: &Value) -> u128 {
    let time = humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap();
    time.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()
}

/// Killed again and again while three schedules run ten times a second, at moments that fall between any two steps: each
/// time has its event once, and the function's effects with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn killed_a_hundred_times() {
    const KILLS: u64 = 100;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = Platform::start_in(&data, &[]);
    let schedules = ["100ms", "133ms", "166ms"]
        .map(|every| json!({ "schedule": { "name": format!("every-{every}"), "every": every, "missed": "all" } }));
    let manifest = json!({ "triggers": schedules, "publish": "told", "allow": { "state": true } });
    platform.deploy("digest", &guest("digest"), manifest);
    let mut random = Random::default();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        platform.signal("KILL");
        platform.wait();
        platform = Platform::start_in(&data, &[]);
    }
    platform.caught_up("digest", "digest.schedule").await;
    // It goes on while it is looked at: what is told is for the events up to some moment.
    let told = platform.events("told").await.len();
    let mut times: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    let events = platform.events("digest.schedule").await;
    for event in &events {
        times.entry(event["subject"].as_str().unwrap().to_owned()).or_default().push(millis(event));
    }
    assert_eq!(times.keys().collect::<Vec<_>>(), ["every-100ms", "every-133ms", "every-166ms"]);
    for (name, interval) in [("every-100ms", 100), ("every-133ms", 133), ("every-166ms", 166)] {
        let times = &times[name];
        let lost = times.windows(2).find(|two| two[1] != two[0] + interval);
        assert_eq!(lost, None, "`{name}`: each once, in order, none left out");
        assert!(times.len() > KILLS as usize / 3, "it did too little between the kills: {}", times.len());
    }
    assert!(told <= events.len());
    platform.caught_up("digest", "digest.schedule").await;
    let (told, events) = (platform.events("told").await, platform.events("digest.schedule").await);
    let missed = events.iter().filter(|event| event["data"]["missed"] == true).count();
    assert!(missed > 0 && missed < events.len(), "some were missed, and not all: {missed} of {}", events.len());
    assert!(events.len() - told.len() < 100, "{} events, and {} were told", events.len(), told.len());
}

/// The example, with an evening on which the platform was down.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_example_tells_each_evening_once() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let example = repository().join("functions/digest");
    let message = |id: &str, from: &str| json!({ "specversion": "1.0", "id": id, "source": "/a", "type": "message", "data": { "from": from } });

    // A Friday.
    let platform = start_at(&data, "2026-11-20 12:00:00");
    let output = platform.dunlin(&["deploy", example.to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    platform.publish("messages", &[message("1", "ada"), message("2", "bob"), message("3", "ada")]).await;
    platform.caught_up("digest", "messages").await;
    waits(&platform, FRIDAY).await;
    stop(platform);
    // Moments before six in Berlin; on a machine so slow that it comes before the platform, it is made up for.
    let platform = start_at(&data, "2026-11-20 16:59:58");
    let told = platform.events_once("digests", 1).await;
    assert_eq!(told[0]["data"], json!({ "day": "2026-11-20", "messages": { "ada": 2, "bob": 1 } }));
    let schedule = platform.events("digest.schedule").await.remove(0);
    assert_eq!(schedule["id"], "digest/evening/2026-11-20T17:00:00Z");
    assert_eq!(schedule["source"], "/functions/digest/schedules/evening");
    assert_eq!(schedule["data"]["scheduled"], "2026-11-20T18:00:00+01:00");
    let output = platform.dunlin(&["schedules"]);
    let table = shown(&output);
    for line in
        ["digest    evening: 0 18 * * MON-FRI Europe/Berlin", "2026-11-23T18:00:00+01:00", "2026-11-27T18:00:00+01:00"]
    {
        assert!(table.contains(line), "no `{line}` in {table}");
    }
    assert_eq!(table.matches("T18:00:00+01:00").count(), 5, "{table}");
    stop(platform);

    // Down over Monday's and Tuesday's evening.
    let platform = start_at(&data, "2026-11-24 22:00:00");
    let told = platform.events_once("digests", 2).await;
    assert_eq!(told[1]["data"], json!({ "day": "2026-11-24", "messages": {} }));
    let schedule = platform.events("digest.schedule").await.remove(1);
    assert_eq!((&schedule["time"], &schedule["data"]["missed"]), (&json!("2026-11-24T17:00:00Z"), &json!(true)));
    stop(platform);

    // A clock that was set back: what comes again has come.
    let platform = start_at(&data, "2026-11-20 16:59:58");
    platform.publish("messages", &[message("4", "ada")]).await;
    platform.caught_up("digest", "messages").await;
    waits(&platform, FRIDAY + 3 * 86_400_000).await;
    assert_eq!(platform.events("digest.schedule").await.len(), 2);
    stop(platform);
}

/// 18:00 in Berlin on 2026-11-20, in milliseconds since the Unix epoch.
const FRIDAY: u64 = 1_795_194_000_000;

/// Waits until all schedules wait, and the first for this time.
async fn waits(platform: &Platform, until: u64) {
    let start = Instant::now();
    loop {
        let list = platform.admin(http::Method::GET, "/api/triggers", Value::Null).await.json();
        let triggers = list["triggers"].as_array().unwrap().iter();
        let schedules: Vec<_> = triggers.filter(|trigger| trigger["trigger"]["schedule"].is_object()).collect();
        if schedules[0]["until"] == until && schedules.iter().all(|schedule| schedule["until"].is_u64()) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it doesn't wait for {until}: {list:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What becomes of a time whose run before hasn't ended: both run, it is left out, or it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn runs_overlap_as_the_manifest_says() {
    let platform = Platform::start();
    for overlap in ["allow", "skip", "queue"] {
        let schedule = json!({ "every": "200ms", "overlap": overlap, "data": [{ "sleep": 700 }] });
        let manifest =
            json!({ "triggers": [{ "schedule": schedule }], "publish": "results", "allow": { "state": true } });
        platform.deploy(overlap, &guest("obey"), manifest);
    }
    // The most that ran at once, until each has run often enough.
    let mut most = BTreeMap::new();
    let start = Instant::now();
    loop {
        let list = platform.admin(http::Method::GET, "/api/functions", Value::Null).await.json();
        let mut done = true;
        for function in list["functions"].as_array().unwrap() {
            let activity = &function["activity"];
            let running = most.entry(function["name"].as_str().unwrap().to_owned()).or_insert(0);
            *running = activity["running"].as_u64().unwrap().max(*running);
            done &= activity["invocations"].as_u64().unwrap() >= 4;
        }
        if done {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "they don't run: {list:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(most["allow"] > 1, "{most:?}");
    assert_eq!((most["skip"], most["queue"]), (1, 1), "{most:?}");
    let events = async |overlap: &str| platform.events(&format!("{overlap}.schedule")).await;
    let (skip, queue) = (events("skip").await, events("queue").await);
    for pair in queue.windows(2) {
        assert_eq!(millis(&pair[1]) - millis(&pair[0]), 200, "no time is left out: {pair:?}");
    }
    assert!(
        skip.windows(2).all(|pair| millis(&pair[1]) - millis(&pair[0]) >= 600),
        "only after the one before: {skip:?}"
    );
    assert!(queue.len() >= 2 * skip.len(), "{} wait, {} were not left out", queue.len(), skip.len());
}

/// Berlin's clocks go forward at 01:00 UTC and back at 01:00 UTC: the half hour that is skipped runs at the change, and the
/// one that comes twice runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_change_of_clocks_while_it_runs() {
    // `once` where the machine is so slow that the change comes before the platform.
    let schedule = |name: &str, cron: &str| json!({ "schedule": { "name": name, "cron": cron, "timezone": "Europe/Berlin", "missed": "once" } });
    for (deployed, before, first, expected) in [
        (
            "2026-03-29 00:10:00",
            "2026-03-29 00:59:58",
            1_774_746_000_000,
            json!({ "fixed": "2026-03-29T03:00:00+02:00", "hourly": "2026-03-29T03:00:00+02:00" }),
        ),
        // The second two o'clock.
        (
            "2026-10-25 00:40:00",
            "2026-10-25 00:59:58",
            1_792_976_400_000,
            json!({ "hourly": "2026-10-25T02:00:00+01:00" }),
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let triggers = [schedule("fixed", "0,30 2 * * *"), schedule("hourly", "0 * * * *")];
        let platform = start_at(&data, deployed);
        let manifest = json!({ "triggers": triggers, "publish": "told", "allow": { "state": true } });
        platform.deploy("clocks", &guest("digest"), manifest);
        waits(&platform, first).await;
        stop(platform);
        let platform = start_at(&data, before);
        let expected = expected.as_object().unwrap();
        for event in platform.events_once("clocks.schedule", expected.len()).await {
            let name = event["subject"].as_str().unwrap();
            assert_eq!(Some(&event["data"]["scheduled"]), expected.get(name), "{event}");
        }
        stop(platform);
    }
}

/// Each mistake is told where it is, with its fix, and nothing is deployed.
#[test]
fn mistakes_are_told_at_deploy() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "bad", &guest("digest"), json!({}));
    for (schedule, expected) in [
        ("{ cron: \"0 24 * * *\" }", ["5:32", "`24` is no hour", "from 0 to 23"]),
        ("{ cron: \"0 0 30 2 *\" }", ["5:32", "it never runs", "change the day or the month"]),
        ("{ cron: \"0 3 * *\" }", ["5:32", "it has 4 fields", "such as `0 3 * * *`"]),
        ("{ every: 10ms }", ["5:33", "`10ms` is not an interval", "from 100ms"]),
        (
            "{ every: 1h, timezone: Europe/Berln }",
            ["5:47", "there is no time zone `Europe/Berln`", "did you mean `Europe/Berlin`?"],
        ),
        ("{ at: 2020-01-01T00:00 }", ["5:30", "is over, so the schedule would never run", "write a time to come"]),
        ("{ at: tomorrow }", ["5:30", "`tomorrow` is not a time", "`2027-01-01T09:00`"]),
        ("{ every: 1h, end: 2026-01-01 }", ["5:42", "has no time left before it ends", "write a later `end`"]),
        ("{ every: 1h, cron: \"@daily\" }", ["5:33", "both `cron` and `every`", "keep one of the two"]),
        ("{ missed: all }", ["5:14", "says no times", "write one of"]),
        ("{ every: 1h, missed: twice }", ["5:45", "`twice`", "`skip`"]),
        ("{ evry: 1h }", ["5:26", "unknown key `evry`", "did you mean `every`?"]),
    ] {
        let manifest = format!(
            "name: bad\ncomponent: function.wasm\npublish: told\nallow: {{ state: true }}\ntriggers: [{{ schedule: {schedule} }}]\n"
        );
        std::fs::write(folder.path().join("function.yaml"), manifest).unwrap();
        let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        let text = shown(&output);
        assert!(!output.status.success(), "{schedule}: {text}");
        for part in expected {
            assert!(text.contains(part), "{schedule}: no `{part}` in {text}");
        }
    }
    let output = platform.dunlin(&["schedules"]);
    assert!(shown(&output).contains("no deployed function has a schedule"), "{}", shown(&output));
    assert!(!command(&["schedules"]).output().unwrap().status.success());
}
