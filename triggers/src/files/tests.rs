use super::*;
use crate::testing::{Known, TestIntake};
use dunlin_events::{
    consumers::{ConsumerName, DeadLetter, Settlement},
    event::Data,
    topics::Offset,
};
use std::{fs, os::unix::ffi::OsStrExt as _, time::SystemTime};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A folder, a source on it, and the store it fills.
struct Inbox {
    folder: TempDir,
    _data: TempDir,
    intake: Arc<TestIntake>,
    running: Option<JoinHandle<Result<(), SourceError>>>,
}

impl Inbox {
    async fn new() -> Self {
        let (folder, data) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let intake = Arc::new(TestIntake::open(data.path()).await);
        Self { folder, _data: data, intake, running: None }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), content).unwrap();
    }

    /// Runs a source whose manifest has this beside the path.
    fn start(&mut self, mut manifest: serde_json::Value) {
        manifest["path"] = self.folder.path().to_str().unwrap().into();
        let source = files(manifest);
        let intake = Arc::clone(&self.intake);
        self.running = Some(tokio::spawn(async move { source.run(&*intake).await }));
    }

    /// Ends it, as a crash would, at whatever it is.
    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    /// Waits for so many events, and answers with all there are: their subjects and data.
    async fn events(&self, count: u64) -> Vec<(String, String)> {
        self.intake.wait_for(count).await;
        let events = self.intake.events().await;
        events.iter().map(|event| (event.subject().unwrap().to_owned(), text(event))).collect()
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let holding = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), holding).await;
        assert!(ended.is_ok(), "not {what}: {:?}", self.intake.reports());
    }

    async fn until_there(&self, path: &str) {
        self.until(&format!("at `{path}`"), async || self.path(path).exists()).await;
    }

    /// Waits until nothing is remembered of any file.
    async fn until_forgotten(&self) {
        self.until("forgotten", async || self.remembered().await == 0).await;
    }

    async fn remembered(&self) -> usize {
        let keys = self.intake.keys("files/", None, 1000).await.unwrap();
        keys.iter().filter(|key| key.matches('/').count() == 2).count()
    }

    /// Drops a file of its own and waits for its event: by then all that came before has been looked at.
    async fn done_with_all_before(&self, name: &str) {
        self.write(name, name);
        self.until(name, async || self.intake.events().await.iter().any(|event| event.subject() == Some(name))).await;
    }

    async fn settle(&self, offset: Offset, dead: bool) {
        let event = self.intake.events().await.remove(offset as usize);
        let settlement = if dead { Settlement::Dead(Box::new(letter(offset, event))) } else { Settlement::Done };
        self.intake.settle(vec![(offset, settlement)]).await;
    }
}

/// The source of a trigger.
fn files(trigger: serde_json::Value) -> Files {
    let trigger = serde_json::from_value(trigger).unwrap();
    Files::new(&trigger, AllowedFolders::default(), Arc::new(Known("")), Wire::default())
}

pub(super) fn letter(offset: Offset, event: Event) -> DeadLetter {
    DeadLetter {
        number: 0,
        consumer: ConsumerName { function: "f".parse().unwrap(), topic: "t".parse().unwrap() },
        offset,
        key: None,
        attempts: 1,
        failed_at: 0,
        reason: "rejected".into(),
        error: "not mine".into(),
        event,
    }
}

fn text(event: &Event) -> String {
    event.data().map(|data| String::from_utf8_lossy(data.bytes()).into_owned()).unwrap_or_else(|| "-".into())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

fn now() -> serde_json::Value {
    serde_json::json!({ "settle": "10ms" })
}

#[tokio::test]
async fn a_file_is_taken_when_it_is_closed_and_not_before() {
    use std::io::Write as _;
    let mut inbox = Inbox::new().await;
    inbox.start(now());
    inbox.done_with_all_before("first").await;
    let mut slow = fs::File::create(inbox.path("slow")).unwrap();
    slow.write_all(b"one ").unwrap();
    // Long enough for `settle`, many times over.
    for n in 0..5 {
        inbox.done_with_all_before(&format!("quick{n}")).await;
    }
    slow.write_all(b"two").unwrap();
    drop(slow);
    let events = inbox.events(7).await;
    assert_eq!(events[6], ("slow".into(), "one two".into()), "{events:?}");
    // Moved in, linked in, added to.
    let other = TempDir::new_in(inbox.folder.path().parent().unwrap()).unwrap();
    fs::write(other.path().join("moved"), "m").unwrap();
    fs::rename(other.path().join("moved"), inbox.path("moved")).unwrap();
    inbox.intake.wait_for(8).await;
    fs::write(other.path().join("linked"), "l").unwrap();
    fs::hard_link(other.path().join("linked"), inbox.path("linked")).unwrap();
    inbox.intake.wait_for(9).await;
    fs::OpenOptions::new().append(true).open(inbox.path("moved")).unwrap().write_all(b"more").unwrap();
    let events = inbox.events(10).await;
    assert_eq!(events[7..], pairs(&[("moved", "m"), ("linked", "l"), ("moved", "mmore")]));
}

#[tokio::test]
async fn an_event_tells_what_the_file_is() {
    let mut inbox = Inbox::new().await;
    inbox.write("a.json", " {\"n\": 1}\n");
    inbox.write("large.csv", "0123456789");
    inbox.write("no.json", "{");
    fs::write(inbox.folder.path().join(std::ffi::OsStr::from_bytes(b"b\xff%.txt")), "x").unwrap();
    inbox.write("empty.txt", "");
    inbox.start(serde_json::json!({ "settle": "10ms", "inline": "9B" }));
    inbox.intake.wait_for(5).await;
    let events = inbox.intake.events().await;
    let of = |subject: &str| events.iter().find(|event| event.subject() == Some(subject)).unwrap();
    let json = of("a.json");
    assert_eq!((json.kind(), json.data_content_type()), ("dunlin.file", Some("application/json")));
    assert_eq!(json.data(), None, "it has 10 bytes");
    let modified: SystemTime = fs::metadata(inbox.path("a.json")).unwrap().modified().unwrap();
    assert_eq!(humantime::parse_rfc3339(json.time().unwrap()).unwrap(), modified);
    let real = inbox.folder.path().canonicalize().unwrap();
    assert_eq!(json.source(), format!("file://{}", real.display()));
    assert_eq!(json.attribute("filelocation").unwrap(), real.join("a.json").to_str().unwrap());
    assert_eq!(json.attribute("filesize").unwrap(), "10");
    // printf ' {"n": 1}\n' | sha256sum
    assert_eq!(
        json.attribute("filesha256").unwrap(),
        "d5bb25ff15b10547981416a83f172d3790b7e4e4dacfce6e7d9fe829581f931f"
    );
    assert_eq!((of("large.csv").data(), of("large.csv").data_content_type()), (None, Some("text/csv")));
    assert_eq!(of("no.json").data(), Some(&Data::Text(Bytes::from_static(b"{"))), "it is no JSON");
    let odd = of("b%FF%25.txt");
    assert_eq!((odd.attribute("filepathbase64").unwrap(), text(odd)), ("Yv8lLnR4dA==".into(), "x".into()));
    assert_eq!(odd.attribute("filelocation"), None, "no text names it");
    assert_eq!(of("empty.txt").data().unwrap().bytes().len(), 0);
}

#[tokio::test]
async fn only_what_is_meant_is_taken_and_links_lead_nowhere() {
    let mut inbox = Inbox::new().await;
    for path in ["a.csv", "b.txt", "a.csv.part", ".a.csv", "done/c.csv", "failed/c.csv", "sub/deep/d.csv", ".git/e.csv"]
    {
        inbox.write(path, "x");
    }
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret.csv"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.csv"), inbox.path("link.csv")).unwrap();
    std::os::unix::fs::symlink(outside.path(), inbox.path("linked")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, inbox.path("pipe.csv"), rustix::fs::Mode::RWXU).unwrap();
    inbox.start(serde_json::json!({ "settle": "10ms", "include": ["*.csv"], "recursive": true }));
    inbox.intake.wait_for(2).await;
    inbox.write("new/folder/f.csv", "x");
    inbox.write("new/folder/f.txt", "x");
    inbox.intake.wait_for(3).await;
    // A folder that is moved here with what is in it.
    fs::create_dir_all(outside.path().join("g/h")).unwrap();
    fs::write(outside.path().join("g/h/i.csv"), "x").unwrap();
    fs::rename(outside.path().join("g"), inbox.path("g")).unwrap();
    inbox.done_with_all_before("last.csv").await;
    inbox.intake.wait_for(5).await;
    let mut subjects: Vec<_> = inbox.events(5).await.into_iter().map(|(subject, _)| subject).collect();
    subjects.sort();
    assert_eq!(subjects, ["a.csv", "g/h/i.csv", "last.csv", "new/folder/f.csv", "sub/deep/d.csv"]);
}

#[tokio::test]
async fn a_file_runs_once_until_it_is_dropped_again() {
    let mut inbox = Inbox::new().await;
    inbox.write("a", "1");
    inbox.start(now());
    inbox.intake.wait_for(1).await;
    inbox.stop().await;
    inbox.write("b", "2");
    inbox.start(now());
    inbox.done_with_all_before("c").await;
    inbox.until("b", async || inbox.intake.events().await.len() == 3).await;
    // The same file, away and back: it was dropped again.
    let away = TempDir::new_in(inbox.folder.path().parent().unwrap()).unwrap();
    fs::rename(inbox.path("a"), away.path().join("a")).unwrap();
    inbox.until("gone", async || inbox.remembered().await == 2).await;
    fs::rename(away.path().join("a"), inbox.path("a")).unwrap();
    inbox.until("again", async || inbox.intake.events().await.len() == 4).await;
    // One that went while nobody looked is forgotten.
    inbox.stop().await;
    fs::remove_file(inbox.path("b")).unwrap();
    inbox.start(now());
    inbox.until("gone", async || inbox.remembered().await == 2).await;
    assert_eq!(inbox.intake.events().await.len(), 4);
}

#[tokio::test]
async fn what_was_there_before_can_be_passed_over() {
    let mut inbox = Inbox::new().await;
    inbox.write("old", "1");
    inbox.start(serde_json::json!({ "settle": "10ms", "existing": false }));
    inbox.until("begun", async || inbox.remembered().await == 1).await;
    inbox.done_with_all_before("new").await;
    inbox.stop().await;
    inbox.write("meanwhile", "3");
    inbox.start(serde_json::json!({ "settle": "10ms", "existing": false }));
    inbox.intake.wait_for(2).await;
    inbox.write("old", "2");
    assert_eq!(inbox.events(3).await, pairs(&[("new", "new"), ("meanwhile", "3"), ("old", "2")]));
}

#[tokio::test]
async fn a_folder_nobody_tells_of_is_looked_through() {
    let mut inbox = Inbox::new().await;
    inbox.write("a", "1");
    inbox.start(serde_json::json!({ "settle": "10ms", "poll": "100ms" }));
    inbox.intake.wait_for(1).await;
    inbox.write("b", "2");
    assert_eq!(inbox.events(2).await, pairs(&[("a", "1"), ("b", "2")]));
    fs::remove_file(inbox.path("a")).unwrap();
    inbox.until("gone", async || inbox.remembered().await == 1).await;
    let told = Report::Detail("watching", "looks every 100ms".into());
    assert!(inbox.intake.reports().contains(&told));
}

/// More than is kept of what was told: the folder is looked through instead, and nothing is missed or taken twice.
#[tokio::test]
async fn more_files_at_once_than_can_be_told_of() {
    const FILES: usize = 11_000;
    let mut inbox = Inbox::new().await;
    inbox.start(now());
    inbox.done_with_all_before("first").await;
    for n in 0..FILES {
        inbox.write(&n.to_string(), "x");
    }
    inbox.intake.wait_for(FILES as u64 + 1).await;
    inbox.done_with_all_before("last").await;
    let subjects: HashSet<_> = inbox.events(FILES as u64 + 2).await.into_iter().map(|(subject, _)| subject).collect();
    assert_eq!((subjects.len(), inbox.intake.events().await.len()), (FILES + 2, FILES + 2));
}

#[tokio::test]
async fn a_file_is_put_away_only_when_the_function_has_settled_it() {
    let mut inbox = Inbox::new().await;
    for name in ["a.csv", "b.csv", "sub/c.csv"] {
        inbox.write(name, name);
    }
    let moving = serde_json::json!({ "settle": "10ms", "recursive": true, "then": "move" });
    inbox.start(moving.clone());
    let events = inbox.events(3).await;
    let offset = |name: &str| events.iter().position(|(subject, _)| subject == name).unwrap() as Offset;
    inbox.settle(offset("a.csv"), false).await;
    inbox.until_there("done/a.csv").await;
    inbox.settle(offset("sub/c.csv"), true).await;
    inbox.until_there("failed/sub/c.csv").await;
    assert!(inbox.path("b.csv").exists() && !inbox.path("a.csv").exists() && !inbox.path("sub/c.csv").exists());

    // Another of the same name goes beside the first.
    inbox.write("a.csv", "another");
    inbox.intake.wait_for(4).await;
    inbox.settle(3, false).await;
    inbox.until("put away", async || fs::read_dir(inbox.path("done")).unwrap().count() == 2).await;
    assert_eq!(fs::read(inbox.path("done/a.csv")).unwrap(), b"a.csv");

    // A new version takes the place of one that is settled: it stays until it is settled itself.
    inbox.stop().await;
    inbox.write("b.csv", "new");
    inbox.settle(offset("b.csv"), false).await;
    inbox.start(moving);
    inbox.intake.wait_for(5).await;
    assert_eq!(fs::read(inbox.path("b.csv")).unwrap(), b"new");
    inbox.settle(4, false).await;
    inbox.until_there("done/b.csv").await;
    assert_eq!(fs::read(inbox.path("done/b.csv")).unwrap(), b"new");
    inbox.until_forgotten().await;
}

#[tokio::test]
async fn deleting_spares_what_was_given_up() {
    let mut inbox = Inbox::new().await;
    inbox.write("a", "1");
    inbox.write("b", "2");
    inbox.start(serde_json::json!({ "settle": "10ms", "then": "delete" }));
    let events = inbox.events(2).await;
    let a = events.iter().position(|(subject, _)| subject == "a").unwrap() as Offset;
    inbox.settle(a, false).await;
    inbox.settle(1 - a, true).await;
    inbox.until_there("failed/b").await;
    inbox.until_forgotten().await;
    let left: Vec<_> = fs::read_dir(inbox.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["failed"]);
}

/// A crash between claiming a file and putting it away: it goes where it was going, and one that isn't the one goes back.
#[tokio::test]
async fn a_claimed_file_reaches_its_place_after_a_crash() {
    let mut inbox = Inbox::new().await;
    let moving = serde_json::json!({ "settle": "10ms", "then": "move" });
    inbox.write("a", "1");
    inbox.write("b", "2");
    inbox.start(moving.clone());
    let events = inbox.events(2).await;
    let waiting = Report::Detail("waiting_files", 2.into());
    inbox.until("remembered", async || inbox.intake.reports().contains(&waiting)).await;
    inbox.stop().await;
    let key = |name: &str| hex::encode(&<sha2::Sha256 as sha2::Digest>::digest(name)[..16]);
    fs::rename(inbox.path("a"), folder::claim(&inbox.path("a"), &key("a"))).unwrap();
    fs::remove_file(inbox.path("b")).unwrap();
    fs::write(folder::claim(&inbox.path("b"), &key("b")), "not the one").unwrap();
    for offset in 0..events.len() {
        inbox.settle(offset as Offset, false).await;
    }
    inbox.start(moving);
    inbox.until_there("done/a").await;
    inbox.until_there("b").await;
    assert_eq!(inbox.events(3).await[2], ("b".into(), "not the one".into()));
    assert_eq!(inbox.intake.events().await.len(), 3);
}

/// Stopped at any moment, again and again: every file is one event, and none is put away unsettled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_at_any_moment_it_takes_every_file_once() {
    for lines in [None, Some("text")] {
        let mut inbox = Inbox::new().await;
        let mut manifest = serde_json::json!({ "settle": "1ms", "then": "move" });
        if let Some(lines) = lines {
            manifest["lines"] = lines.into();
        }
        let mut settled = 0;
        for round in 0..60_u64 {
            for n in 0..5 {
                inbox.write(&format!("{round}-{n}"), format!("{round} {n}"));
            }
            inbox.start(manifest.clone());
            tokio::time::sleep(Duration::from_micros(round * 700)).await;
            let events = inbox.intake.events().await.len() as u64;
            for offset in settled..events {
                inbox.settle(offset, false).await;
            }
            settled = events;
            tokio::time::sleep(Duration::from_micros((round * 7919) % 30_000)).await;
            inbox.stop().await;
        }
        inbox.start(manifest.clone());
        inbox.intake.wait_for(300).await;
        for offset in settled..300 {
            inbox.settle(offset, false).await;
        }
        inbox.until_forgotten().await;
        let mut subjects: Vec<_> = inbox.events(300).await;
        subjects.sort();
        subjects.dedup();
        assert_eq!((subjects.len(), inbox.intake.events().await.len()), (300, 300));
        assert_eq!(fs::read_dir(inbox.path("done")).unwrap().count(), 300);
    }
}

#[tokio::test]
async fn a_folder_that_vanishes_is_an_error_with_a_fix_and_counts_again_when_it_is_back() {
    let mut inbox = Inbox::new().await;
    let path = inbox.path("in");
    fs::create_dir(&path).unwrap();
    let source = |path: &Path| files(serde_json::json!({ "path": path, "settle": "1ms" }));
    let run = |path: PathBuf, intake: Arc<TestIntake>| tokio::spawn(async move { source(&path).run(&*intake).await });
    inbox.write("in/a", "1");
    let running = run(path.clone(), Arc::clone(&inbox.intake));
    inbox.intake.wait_for(1).await;
    fs::rename(&path, inbox.path("elsewhere")).unwrap();
    let error = running.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("isn't there") && error.help.unwrap().contains("mkdir -p"));
    fs::rename(inbox.path("elsewhere"), &path).unwrap();
    let running = run(path, Arc::clone(&inbox.intake));
    inbox.write("in/b", "2");
    assert_eq!(inbox.events(2).await, pairs(&[("a", "1"), ("b", "2")]));
    running.abort();
    inbox.running = None;
}

#[tokio::test]
async fn records_are_events_with_their_place() {
    let mut inbox = Inbox::new().await;
    inbox.write("a.csv", "\u{feff}id,name,name\r\n1,\"Smith, \"\"J\"\"\nRoad\",x\r\n\r\n2,b\n3,ü,\n");
    inbox.start(serde_json::json!({ "settle": "10ms", "lines": "csv" }));
    let events = inbox.events(3).await;
    assert_eq!(
        events.iter().map(|(_, data)| data.as_str()).collect::<Vec<_>>(),
        [r#"{"id":"1","name":"Smith, \"J\"\nRoad","name_2":"x"}"#, "2,b", r#"{"id":"3","name":"ü","name_2":""}"#]
    );
    let first = inbox.intake.events().await.remove(0);
    assert_eq!((first.kind(), first.attribute("filerecord").unwrap()), ("dunlin.file.record", "1".into()));
    assert_eq!(first.attribute("fileposition").unwrap(), "17");
    assert_eq!(inbox.intake.events().await[1].attribute("fileposition").unwrap(), "44");
    let ids: HashSet<_> = inbox.intake.events().await.iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids.len(), 3);

    let mut inbox = Inbox::new().await;
    let long = "x".repeat(3 << 20);
    inbox.write("b.ndjson", format!("{{\"n\":1}}\n\nnot json\n\"{long}\"\n{{\"n\":2}}"));
    inbox.start(serde_json::json!({ "settle": "10ms", "lines": "ndjson", "then": "move" }));
    let events = inbox.events(3).await;
    assert_eq!(
        events.iter().map(|(_, data)| data.as_str()).collect::<Vec<_>>(),
        [r#"{"n":1}"#, "not json", r#"{"n":2}"#]
    );
    assert!(
        inbox.intake.reports().iter().any(|report| matches!(report, Report::Warning(what) if what.contains("1MiB")))
    );
    for offset in 0..3 {
        inbox.settle(offset, false).await;
    }
    inbox.until_there("failed/b.ndjson").await;
}

#[tokio::test]
async fn reading_records_goes_on_where_it_was_and_what_is_added_follows() {
    use std::io::Write as _;
    let mut inbox = Inbox::new().await;
    let line = |n: usize| format!("{{\"n\":{n}}}\n");
    inbox.write("a.ndjson", (0..20_000).map(line).collect::<String>());
    let mut starts = 0;
    while inbox.intake.events().await.len() < 20_000 {
        inbox.start(serde_json::json!({ "settle": "1ms", "lines": "ndjson" }));
        let before = inbox.intake.events().await.len() as u64;
        inbox.intake.wait_for((before + 700).min(20_000)).await;
        inbox.stop().await;
        starts += 1;
    }
    assert!(starts > 3, "it was not stopped in the middle: {starts}");
    inbox.start(serde_json::json!({ "settle": "1ms", "lines": "ndjson" }));
    let mut file = fs::OpenOptions::new().append(true).open(inbox.path("a.ndjson")).unwrap();
    file.write_all((20_000..20_010).map(line).collect::<String>().as_bytes()).unwrap();
    drop(file);
    let events = inbox.events(20_010).await;
    assert!(events.iter().enumerate().all(|(n, (_, data))| *data == format!("{{\"n\":{n}}}")), "in order, each once");
    // Another file of that name is read from its beginning.
    inbox.write("a.ndjson", (0..20_020).map(|n| format!("{{\"m\":{n}}}\n")).collect::<String>());
    inbox.events(40_030).await;
}

#[tokio::test]
async fn a_record_without_end_takes_no_memory() {
    let mut inbox = Inbox::new().await;
    inbox.write("a.csv", format!("id\n1\n\"{}\n2\n3\n", "x\n".repeat(8 << 20)));
    inbox.start(serde_json::json!({ "settle": "10ms", "lines": "csv", "then": "move" }));
    inbox.intake.wait_for(1).await;
    inbox.settle(0, false).await;
    inbox.until_there("failed/a.csv").await;
    assert_eq!(inbox.intake.events().await.len(), 1);
}

#[tokio::test]
async fn at_deploy_it_is_told_what_can_not_be() {
    let folder = TempDir::new().unwrap();
    let at = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("in")).unwrap();
    for (manifest, pointer, parts) in [
        (serde_json::json!({ "path": "./in" }), "/path", ["no absolute path", "dunlin deploy"]),
        (serde_json::json!({ "path": at("none") }), "/path", ["isn't there", "mkdir -p"]),
        (serde_json::json!({ "path": at("file") }), "/path", ["is no folder", "name the folder"]),
        (
            serde_json::json!({ "path": at("in"), "then": "move", "done": at("none") }),
            "/done",
            ["isn't there", "mkdir -p"],
        ),
        (
            serde_json::json!({ "path": at("in"), "then": "move", "failed": at("file") }),
            "/failed",
            ["is no folder", ""],
        ),
    ] {
        let problems = files(manifest).check().await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        let told = format!("{} {}", problems[0].message, problems[0].help.as_deref().unwrap_or_default());
        assert_eq!(problems[0].pointer, pointer);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
    let good = serde_json::json!({ "path": at("in"), "then": "move", "done": at("in/sub") });
    let problems = files(good).check().await;
    assert_eq!(problems.len(), 1, "it is absolute, and isn't there");
}

/// What a function is handed that gets files as they are read.
#[tokio::test]
async fn a_large_file_is_handed_over_while_it_is_the_one() {
    use dunlin_events::{
        Manifest,
        source::{ContentError, Contents as _},
    };
    use http_body_util::BodyExt as _;
    let mut inbox = Inbox::new().await;
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    inbox.write("sub/a%b.bin", &content);
    inbox.write("small", "small");
    inbox.start(serde_json::json!({ "settle": "10ms", "recursive": true }));
    inbox.intake.wait_for(2).await;
    let events = inbox.intake.events().await;
    let of = |name: &str| events.iter().find(|event| event.subject() == Some(name)).unwrap();
    let handed = |content: &str| {
        let files = serde_json::json!({ "path": inbox.folder.path(), "recursive": true, "content": content });
        let manifest = serde_json::json!({ "name": "f", "component": "f.wasm", "triggers": [{ "files": files }] });
        let manifest: Manifest = serde_json::from_value(manifest).unwrap();
        let secrets: Arc<dyn Secrets> = Arc::new(Known(""));
        Handed::of(&manifest, &AllowedFolders::default(), &secrets, &Wire::default())
    };
    assert!(handed("location").is_none(), "its events are all there is");
    let handed = handed("stream").unwrap();
    assert!(handed.open(of("small")).await.unwrap().is_none(), "it is in the event");
    let large = of("sub/a%25b.bin");
    let (size, body) = handed.open(large).await.unwrap().unwrap();
    assert_eq!(size, content.len() as u64);
    assert!(body.collect().await.unwrap().to_bytes() == content);
    // Written to while it is read: the reader doesn't take it for whole.
    let (_, mut body) = handed.open(large).await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    inbox.write("sub/a%b.bin", "another");
    while let Some(Ok(_)) = body.frame().await {}
    let (_, lost) = (body, handed.open(large).await.err().unwrap());
    assert!(matches!(&lost, ContentError::Lost(why) if why.contains("another by now")), "{lost}");
    fs::remove_file(inbox.path("sub/a%b.bin")).unwrap();
    let lost = handed.open(large).await.err().unwrap();
    assert!(matches!(&lost, ContentError::Lost(why) if why.contains("isn't there")), "{lost}");
}
