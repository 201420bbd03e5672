//! The source against a real object store.

#[allow(dead_code, reason = "the tests of the platform use the rest")]
#[path = "../../../../tests/servers/s3.rs"]
mod server;

use super::{super::Files, *};
use crate::{
    files::{AllowedFolders, tests::letter},
    testing::{TestIntake, all, failure, folder, while_running},
};
use dunlin_events::{
    consumers::Settlement,
    secrets::{SecretError, SecretName, SecretValue},
    source::{Intake as _, Report},
    topics::Offset,
};
use serde_json::{Value, json};
use server::{ID, KEY, Server};

/// The key of the object store, and wrong ones.
struct Keys;

impl Secrets for Keys {
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        match name.as_str() {
            "ID" => Ok(SecretValue::new(ID.into())),
            "KEY" => Ok(SecretValue::new(KEY.into())),
            "OTHER" => Ok(SecretValue::new("OTHERKEY000000000001".into())),
            _ => Err(SecretError::Unknown { name: name.clone(), help: "set it".into() }),
        }
    }
}

/// The source of a trigger on the server's bucket.
fn source(server: &Server, more: Value) -> Files {
    let mut trigger = json!({
        "bucket": server::BUCKET, "endpoint": server.endpoint(), "access_key": "ID", "secret_key": "KEY", "poll": "100ms",
    });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let trigger: FilesTrigger = serde_json::from_value(trigger).unwrap();
    Files::new(&trigger, AllowedFolders::default(), Arc::new(Keys), Wire::default())
}

/// Waits until something is so.
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let start = std::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(60), "not {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The subjects and data of all events, in their order.
async fn events(intake: &TestIntake) -> Vec<(String, String)> {
    let text = |event: &dunlin_events::Event| {
        event.data().map_or_else(|| "-".into(), |data| String::from_utf8_lossy(data.bytes()).into_owned())
    };
    intake.events().await.iter().map(|event| (event.subject().unwrap().to_owned(), text(event))).collect()
}

async fn settle(intake: &TestIntake, offset: Offset, dead: bool) {
    let event = intake.events().await.remove(offset as usize);
    let settlement = if dead { Settlement::Dead(Box::new(letter(offset, event))) } else { Settlement::Done };
    intake.settle(vec![(offset, settlement)]).await;
}

async fn remembered(intake: &TestIntake) -> usize {
    let keys = intake.keys("files/", None, 10_000).await.unwrap();
    keys.iter().filter(|key| key.matches('/').count() == 2).count()
}

#[tokio::test]
async fn each_state_of_an_object_is_one_event() {
    let server = Server::start();
    for key in
        ["in/a.csv", "in/deep/ü +&%41.csv", "in/a.txt", "in/done/old.csv", "in/.git/b.csv", "in/b.csv.part", "in-c.csv"]
    {
        server.put(key, key).await;
    }
    let (_folder, intake) = folder().await;
    let trigger = json!({ "prefix": "in/", "include": ["*.csv"] });
    while_running(&source(&server, trigger.clone()), &intake, async {
        intake.wait_for(2).await;
        server.put("in/new.csv", "new").await;
        intake.wait_for(3).await;
    })
    .await;
    let mut first = events(&intake).await;
    first[..2].sort();
    let named = |subject: &str, data: &str| (subject.to_owned(), data.to_owned());
    assert_eq!(
        first,
        [
            named("a.csv", "in/a.csv"),
            // As in a folder, a `%` is written as `%25`.
            named("deep/ü +&%2541.csv", "in/deep/ü +&%41.csv"),
            named("new.csv", "new"),
        ]
    );
    // One that is replaced while nobody looks, and one with the same content again.
    server.put("in/a.csv", "changed").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    server.put("in/new.csv", "new").await;
    while_running(&source(&server, trigger), &intake, intake.wait_for(5)).await;
    let mut again = events(&intake).await.split_off(3);
    again.sort();
    assert_eq!(again, [named("a.csv", "changed"), named("new.csv", "new")]);

    let event = intake.events().await.into_iter().rfind(|event| event.subject() == Some("a.csv")).unwrap();
    assert_eq!((event.kind(), event.source()), ("dunlin.file", "s3://inbox/in/"));
    assert_eq!((event.data_content_type(), event.partition_key()), (Some("text/csv"), Some("a.csv")));
    let attribute = |name: &str| event.attribute(name).map(|value| value.to_string());
    assert_eq!(attribute("filesize"), Some("7".into()));
    assert_eq!(attribute("filelocation"), Some("s3://inbox/in/a.csv".into()));
    // printf changed | md5sum
    assert_eq!(attribute("fileetag"), Some("8977dfac2f8e04cb96e66882235f5aba".into()));
}

#[tokio::test]
async fn what_was_there_before_can_be_passed_over_and_large_objects_are_not_read() {
    let server = Server::start();
    server.put("old", "old").await;
    let (_folder, intake) = folder().await;
    while_running(&source(&server, json!({ "existing": false, "inline": "4B" })), &intake, async {
        until("begun", async || remembered(&intake).await == 1).await;
        server.put("large", "large").await;
        intake.wait_for(1).await;
    })
    .await;
    assert_eq!(events(&intake).await, [("large".to_owned(), "-".to_owned())]);
    assert_eq!(intake.events().await[0].attribute("filesha256"), None);
}

/// More than a page, and stopped at any moment: every object is one event, and none is put away unsettled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_hundred_objects_stopped_at_any_moment() {
    const OBJECTS: u64 = 1500;
    let server = Server::start();
    let puts = stream::iter(0..OBJECTS).map(|n| {
        let server = &server;
        async move { server.put(&format!("in/{n}"), n.to_string()).await }
    });
    puts.buffer_unordered(16).collect::<Vec<_>>().await;
    let (_folder, intake) = folder().await;
    let trigger = json!({ "prefix": "in", "then": "move", "done": "/archive" });
    let (mut settled, mut stops) = (0, 0);
    while settled < OBJECTS {
        // Until some more are taken, or put away, and then a moment of some length.
        let (more, left) = ((settled + 1 + (stops * 7919) % 150).min(OBJECTS), remembered(&intake).await);
        while_running(&source(&server, trigger.clone()), &intake, async {
            intake.wait_for(more).await;
            until("put away", async || settled == 0 || remembered(&intake).await != left).await;
            tokio::time::sleep(Duration::from_millis((stops * 31) % 70)).await;
        })
        .await;
        let taken = intake.events().await.len() as u64;
        intake.settle((settled..taken).map(|offset| (offset, Settlement::Done)).collect()).await;
        settled = taken;
        stops += 1;
    }
    while_running(&source(&server, trigger), &intake, until("forgotten", async || remembered(&intake).await == 0))
        .await;
    assert!(stops > 3, "it was stopped {stops} times");
    let mut subjects: Vec<_> =
        events(&intake).await.into_iter().map(|(subject, data)| (subject == data).then_some(subject)).collect();
    assert_eq!(subjects.len() as u64, OBJECTS);
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len() as u64, OBJECTS, "each once");
    assert!(subjects.iter().all(Option::is_some), "each with its own content");
    assert_eq!(server.keys().await, (0..OBJECTS).map(|n| format!("archive/{n}")).collect());
}

#[tokio::test]
async fn an_object_is_put_away_only_when_the_function_has_settled_it() {
    let server = Server::start();
    for key in ["in/a.csv", "in/sub/b.csv", "in/c.csv"] {
        server.put(key, key).await;
    }
    let (_folder, intake) = folder().await;
    let moving = json!({ "prefix": "in/", "then": "move" });
    let offset =
        |events: &[(String, String)], data: &str| events.iter().position(|(_, is)| is == data).unwrap() as Offset;
    let has = async |key: &str| server.get(key).await.is_some();
    while_running(&source(&server, moving.clone()), &intake, async {
        intake.wait_for(3).await;
        let all = events(&intake).await;
        settle(&intake, offset(&all, "in/a.csv"), false).await;
        until("moved", async || has("in/done/a.csv").await && !has("in/a.csv").await).await;
        settle(&intake, offset(&all, "in/sub/b.csv"), true).await;
        until("given up", async || has("in/failed/sub/b.csv").await && !has("in/sub/b.csv").await).await;
        assert!(has("in/c.csv").await, "it isn't settled");
        // Another of the same name goes beside the first.
        server.put("in/a.csv", "another").await;
        intake.wait_for(4).await;
        settle(&intake, 3, false).await;
        until("put away", async || !has("in/a.csv").await).await;
    })
    .await;
    assert_eq!(server.get("in/done/a.csv").await.unwrap(), "in/a.csv");
    let done: Vec<_> = server.keys().await.into_iter().filter(|key| key.starts_with("in/done/a.")).collect();
    assert_eq!(done.len(), 2, "{done:?}");

    // A new one in the place of one that is settled stays until it is settled itself.
    server.put("in/c.csv", "new").await;
    settle(&intake, offset(&events(&intake).await, "in/c.csv"), false).await;
    while_running(&source(&server, moving), &intake, async {
        intake.wait_for(5).await;
        assert_eq!(server.get("in/c.csv").await.unwrap(), "new");
        settle(&intake, 4, false).await;
        until("moved", async || has("in/done/c.csv").await && !has("in/c.csv").await).await;
        until("forgotten", async || remembered(&intake).await == 0).await;
    })
    .await;
    assert_eq!(server.get("in/done/c.csv").await.unwrap(), "new");

    // Deleted; but not what was given up.
    server.put("out/a", "1").await;
    server.put("out/b", "2").await;
    let (_folder, intake) = folder().await;
    while_running(&source(&server, json!({ "prefix": "out", "then": "delete", "failed": "/lost" })), &intake, async {
        intake.wait_for(2).await;
        let all = events(&intake).await;
        settle(&intake, offset(&all, "1"), false).await;
        settle(&intake, offset(&all, "2"), true).await;
        until("put away", async || has("lost/b").await && remembered(&intake).await == 0).await;
    })
    .await;
    assert!(!server.keys().await.iter().any(|key| key.starts_with("out/")));
}

/// S3 doesn't copy more than 5 GiB: such an object stays, and that is told.
#[tokio::test]
async fn an_object_that_is_too_large_to_be_moved_stays() {
    let server = Server::start();
    server.put_large("in/large", (5 << 30) + 1);
    let (_folder, intake) = folder().await;
    while_running(&source(&server, json!({ "prefix": "in", "then": "move" })), &intake, async {
        intake.wait_for(1).await;
        settle(&intake, 0, false).await;
        let told = |report: &Report| matches!(report, Report::Warning(what) if what.contains("5GiB"));
        until("told", async || intake.reports().iter().any(told)).await;
    })
    .await;
    assert_eq!(server.keys().await, ["in/large".to_owned()].into());
    assert_eq!(intake.events().await.len(), 1);
    while_running(&source(&server, json!({ "prefix": "in", "then": "delete" })), &intake, async {
        until("deleted", async || server.keys().await.is_empty()).await;
    })
    .await;
}

/// A crash after the copy and before the object is deleted: there is one copy, and the object goes.
#[tokio::test]
async fn a_copied_object_is_not_copied_beside_itself_after_a_crash() {
    let server = Server::start();
    server.put("a", "1").await;
    let (_folder, intake) = folder().await;
    let moving = json!({ "then": "move" });
    while_running(&source(&server, moving.clone()), &intake, async {
        let waiting = Report::Detail("waiting_files", 1.into());
        until("remembered", async || intake.reports().contains(&waiting)).await;
    })
    .await;
    server.put("done/a", "1").await;
    settle(&intake, 0, false).await;
    while_running(&source(&server, moving), &intake, until("put away", async || remembered(&intake).await == 0)).await;
    assert_eq!(server.keys().await, ["done/a".to_owned()].into());
}

/// The bucket goes away in the middle, and the source is stopped again and again: each record is one event, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_read_on_where_they_were() {
    const RECORDS: usize = 40_000;
    let mut server = Server::start();
    let rows: String = (0..RECORDS).map(|n| format!("{n},\"row\n{n}\"\n")).collect();
    server.put("in/rows.csv", format!("n,text\n{rows}")).await;
    let (_folder, intake) = folder().await;
    let trigger = json!({ "prefix": "in", "lines": "csv", "then": "move" });
    let mut runs = 0;
    let mut taken = 0;
    while taken < RECORDS as u64 {
        let next = (taken + 3000).min(RECORDS as u64);
        while_running(&source(&server, trigger.clone()), &intake, intake.wait_for(next)).await;
        taken = intake.events().await.len() as u64;
        runs += 1;
        if runs == 3 {
            // What it has come to while the server is down is an error, and no event.
            server.stop();
            let error = failure(&source(&server, trigger.clone()), &intake).await;
            assert!(error.to_string().contains("no connection"), "{error}");
            server.restart();
        }
    }
    assert!(runs > 3, "it was never stopped in between");
    let read: Vec<_> = all(&intake).await;
    let expected: Vec<_> = (0..RECORDS).map(|n| json!({ "n": n.to_string(), "text": format!("row\n{n}") })).collect();
    assert!(read == expected, "{} records", read.len());
    intake.settle((0..RECORDS as u64).map(|offset| (offset, Settlement::Done)).collect()).await;
    while_running(
        &source(&server, trigger),
        &intake,
        until("moved", async || server.get("in/rows.csv").await.is_none()),
    )
    .await;
    assert_eq!(server.keys().await, ["in/done/rows.csv".to_owned()].into());
}

#[tokio::test]
async fn what_can_not_work_is_told_with_its_place_and_the_fix() {
    let server = Server::start();
    for (wrong, place, parts) in [
        (json!({ "bucket": "outbox" }), "/bucket", ["has no bucket `outbox`", "make it"]),
        (json!({ "access_key": "OTHER" }), "/access_key", ["doesn't know this access key", "its value right"]),
        (json!({ "secret_key": "OTHER" }), "/secret_key", ["refuses the access key's secret", "its value right"]),
        (json!({ "secret_key": "NONE" }), "/secret_key", ["no secret `NONE`", ""]),
        (json!({ "region": "eu-west-1" }), "/region", ["not in the region `eu-west-1`", "write the region"]),
        (json!({ "endpoint": "http://127.0.0.1:1" }), "/endpoint", ["no connection", "its address"]),
        (
            json!({ "endpoint": server.endpoint().replace("http:", "https:") }),
            "/endpoint",
            ["no connection", "its address"],
        ),
    ] {
        let problems = source(&server, wrong.clone()).check().await;
        let [problem] = &problems[..] else { panic!("{wrong}: {problems:?}") };
        assert_eq!(problem.pointer, place, "{wrong}: {problem:?}");
        let told = format!("{} {}", problem.message, problem.help.as_deref().unwrap_or_default());
        assert!(parts.iter().all(|part| told.contains(part)), "{wrong}: {told}");
        assert!(!told.contains("X-Amz-Signature"), "an URL is a key: {told}");
    }
    assert_eq!(source(&server, json!({})).check().await, []);
}

/// What other servers say.
#[test]
fn a_wrong_region_is_told_with_the_right_one() {
    let trigger = json!({ "bucket": "inbox", "region": "us-east-1" });
    let remote = Remote::open(&serde_json::from_value(trigger).unwrap(), &(), Wire::default()).unwrap();
    let told = |status: u16, body: &str, region: Option<&str>| {
        let status = http::StatusCode::from_u16(status).unwrap();
        let (place, error) = remote.explain(&s3::refused(status, body, region.map(str::to_owned)));
        assert_eq!(place, "/region", "{error}");
        error.to_string()
    };
    let aws = "<Error><Code>AuthorizationQueryParametersError</Code><Message>the region 'us-east-1' is wrong; expecting \
               'eu-west-1'</Message><Region>eu-west-1</Region></Error>";
    assert!(told(400, aws, None).ends_with("write `region: eu-west-1`"));
    assert!(told(301, "", Some("eu-west-2")).ends_with("write `region: eu-west-2`"));
    let other = aws.replace("<Region>eu-west-1</Region>", "");
    assert!(told(400, &other, None).contains("expecting 'eu-west-1': write the region"));
}

#[test]
fn what_has_gone_is_noticed_at_some_look_however_many_objects_there_are() {
    let name = |n: u64| hex::encode(&Sha256::digest(n.to_le_bytes())[..16]);
    let mut seen = Seen::default();
    let objects = SEEN as u64 * 3 / 2;
    let mut missed = HashSet::new();
    for _ in 0..4 {
        seen.begin();
        (0..objects).filter(|n| n % 10_000 != 0).for_each(|n| seen.add(&name(n)));
        assert!(seen.names.len() <= SEEN);
        missed.extend((0..objects).filter(|n| seen.misses(&name(*n))));
    }
    assert_eq!(missed, (0..objects).filter(|n| n % 10_000 == 0).collect());
}

/// What a function is handed with the event of a large object.
#[tokio::test]
async fn a_large_object_is_handed_over_by_a_url_or_as_it_is_read() {
    use dunlin_events::{Manifest, source::ContentError, source::Contents as _};
    use http_body_util::BodyExt as _;
    let mut server = Server::start();
    let content: Vec<u8> = (0..500_000_u32).flat_map(u32::to_le_bytes).collect();
    server.put("in/a b.bin", content.clone()).await;
    let (_folder, intake) = folder().await;
    let trigger = json!({ "prefix": "in", "inline": "1KiB", "content": "stream" });
    while_running(&source(&server, trigger.clone()), &intake, intake.wait_for(1)).await;
    let event = intake.events().await.remove(0);
    let mut files =
        json!({ "bucket": server::BUCKET, "endpoint": server.endpoint(), "access_key": "ID", "secret_key": "KEY" });
    files.as_object_mut().unwrap().extend(trigger.as_object().unwrap().clone());
    let manifest = json!({ "name": "f", "component": "f.wasm", "triggers": [{ "files": files }] });
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    let secrets: Arc<dyn Secrets> = Arc::new(Keys);
    let handed = crate::files::Handed::of(&manifest, &AllowedFolders::default(), &secrets, &Wire::default()).unwrap();

    let addressed = handed.addressed(&event).unwrap();
    let url: http::Uri = addressed.attribute("filelocation").unwrap().parse().unwrap();
    let client: hyper_util::client::legacy::Client<_, http_body_util::Empty<Bytes>> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let fetched = client.get(url).await.unwrap();
    assert_eq!(fetched.into_body().collect().await.unwrap().to_bytes(), content);

    let (size, body) = handed.open(&event).await.unwrap().unwrap();
    assert_eq!(size, content.len() as u64);
    assert_eq!(body.collect().await.unwrap().to_bytes(), content);
    // One that breaks off in the middle goes on where it was.
    let (_, mut body) = handed.open(&event).await.unwrap().unwrap();
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if read.is_empty() {
            server.restart();
        }
        read.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    assert!(read == content, "{} bytes", read.len());

    server.put("in/a b.bin", "another").await;
    let lost = handed.open(&event).await.err().unwrap();
    assert!(matches!(&lost, ContentError::Lost(why) if why.contains("another by now")), "{lost}");
    server.stop();
    let unavailable = handed.open(&event).await.err().unwrap();
    assert!(unavailable.retryable() && unavailable.to_string().contains("no connection"), "{unavailable}");
}
