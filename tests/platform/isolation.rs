//! What a function does wrong stays its own: it ends in its own clear outcome, its caller learns nothing of its inside,
//! and whoever runs beside it doesn't notice.

use crate::harness::{Answer, Platform, below, guest, limited, module};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What no caller may ever see: the guests say it whenever they fail.
const INSIDE: &str = "told by the guest";

/// A function that misbehaves, deployed under the name of its guest at a path of that name.
#[derive(Clone, Copy)]
struct Bad<'a> {
    platform: &'a Platform,
    guest: Guest,
}

/// The same misbehaviour in every shape a function can have.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Guest {
    Http02,
    Http03,
    /// A command of WASI 0.2.
    Command,
    /// A command of WASI preview 1.
    Module,
}

use Guest::{Command, Http02, Http03, Module};

const EVERY: [Guest; 4] = [Http02, Http03, Command, Module];

impl Guest {
    const fn name(self) -> &'static str {
        match self {
            Http02 => "misbehave",
            Http03 => "misbehave-async",
            Command => "misbehave-command",
            Module => "misbehave-module",
        }
    }

    fn file(self) -> PathBuf {
        match self {
            Http02 => guest("misbehave"),
            Http03 => guest("misbehave_async"),
            Command => guest("misbehave-command"),
            Module => module("misbehave-command"),
        }
    }
}

impl<'a> Bad<'a> {
    fn deploy(platform: &'a Platform, guest: Guest, limits: Value) -> Self {
        Self::deploy_with(platform, guest, limited(&format!("/{}", guest.name()), limits))
    }

    fn deploy_with(platform: &'a Platform, guest: Guest, mut manifest: Value) -> Self {
        // The guests import `wasi:http`, so the manifest must say what they reach: nothing, if nothing is said.
        if manifest["allow"].is_null() {
            manifest["allow"] = json!({ "http": [] });
        }
        platform.deploy(guest.name(), &guest.file(), manifest);
        Self { platform, guest }
    }

    /// A request to do something: `loop`, `sleep 5000`, `flood 1000`.
    fn request(self, what: &str) -> Request<Full<Bytes>> {
        self.request_with(what, "")
    }

    /// HTTP guests read what to do from path and query, commands from the first line of the body.
    fn request_with(self, what: &str, body: &str) -> Request<Full<Bytes>> {
        let name = self.guest.name();
        if matches!(self.guest, Command | Module) {
            let body = Bytes::from(format!("{what}\n{body}"));
            return Request::post(self.platform.url(&format!("/{name}/x"))).body(Full::new(body)).unwrap();
        }
        let target = match what.split_once(' ') {
            Some((way, number)) => format!("{way}?{}={number}", parameter(way)),
            None => what.to_owned(),
        };
        let request = Request::post(self.platform.url(&format!("/{name}/{target}")));
        request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()
    }

    async fn ask(self, what: &str) -> Answer {
        self.platform.send(self.request(what)).await
    }

    async fn quiet(self) {
        self.platform.quiet(self.guest.name()).await;
    }
}

fn parameter(way: &str) -> &'static str {
    match way {
        "sleep" | "background" => "ms",
        "flood" => "bytes",
        "logs" => "lines",
        "exit" => "code",
        _ => panic!("`{way}` takes no number"),
    }
}

/// It failed in this way, and its caller was told nothing else.
fn assert_failed(answer: &Answer, status: StatusCode, reason: &str) {
    assert_eq!((answer.status, answer.reason().as_str()), (status, reason), "{answer:?}");
    assert_eq!(answer.json()["invocation"], answer.headers["dunlin-invocation"].to_str().unwrap(), "{answer:?}");
    assert!(!answer.text().contains(INSIDE) && !format!("{:?}", answer.headers).contains(INSIDE), "{answer:?}");
}

/// Reads a response until it ends or breaks off. Answers how much came, and whether it broke off.
async fn read(response: Response<Incoming>) -> (u64, bool) {
    assert_eq!(response.status(), StatusCode::OK);
    let (mut body, mut bytes) = (response.into_body(), 0);
    loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => return (bytes, true),
            None => return (bytes, false),
        }
    }
}

/// A function that behaves, called over one connection without a pause, and how long its answers take.
struct Neighbour {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    before: Duration,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

/// Calls that a 99th percentile is taken of, at least.
const CALLS: usize = 400;

/// What a 99th percentile may grow by, whatever it was before: a call that takes half a millisecond on an idle machine
/// waits that long for a processor where other programs want it too. A neighbour that were really held up would wait for
/// the loop, the sleep or the flood beside it to end, which takes half a second and more.
const FLOOR: Duration = Duration::from_millis(20);

impl Neighbour {
    async fn beside(platform: &Platform) -> Self {
        // Tests that run at the same time would measure each other.
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ALONE.lock().await;
        platform.deploy("neighbour", &guest("hello"), below("/neighbour"));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut neighbour = Self { client, url: platform.url("/neighbour/x"), before: Duration::ZERO, _alone: alone };
        neighbour.call().await;
        let mut times = Vec::new();
        for _ in 0..CALLS {
            times.push(neighbour.call().await);
        }
        neighbour.before = p99(times);
        neighbour
    }

    async fn call(&self) -> Duration {
        let start = Instant::now();
        let response = self.client.get(self.url.parse().unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"Hello"), "{body:?}");
        start.elapsed()
    }

    /// Has something bad done, again and again until there is enough to measure, and watches the neighbour meanwhile.
    async fn is_undisturbed_by<T>(&self, what: &str, bad: impl AsyncFn() -> T) -> T {
        let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        let watch = async {
            let mut times = Vec::new();
            while !done.load(SeqCst) {
                times.push(self.call().await);
                calls.fetch_add(1, SeqCst);
            }
            times
        };
        let repeat = async {
            loop {
                let outcome = bad().await;
                if calls.load(SeqCst) >= CALLS {
                    done.store(true, SeqCst);
                    return outcome;
                }
            }
        };
        let (times, outcome) = tokio::join!(watch, repeat);
        let (before, calls, now) = (self.before, times.len(), p99(times));
        println!("{what}: p99 {before:?} before, {now:?} meanwhile, of {calls} calls");
        assert!(now <= (before * 2).max(before + FLOOR), "{what}: the neighbour's p99 went from {before:?} to {now:?}");
        outcome
    }
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Every way to fail has its own status and reason. The caller learns no more, the operator all of it.
#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_own_outcome() {
    type Way = (&'static str, &'static str, &'static [&'static str]); // what is done, the reason, what the log holds
    const MEMORY: Way = ("memory", "memory", &["`limits.memory` allows (64MiB)"]);
    const TRAP: Way = ("trap", "trap", &[INSIDE, "it trapped", "unreachable"]);
    const PANIC: Way = ("panic", "trap", &[INSIDE, "it trapped", "unreachable"]);
    let ways = |guest| -> Vec<Way> {
        match guest {
            Http02 => vec![
                TRAP,
                PANIC,
                MEMORY,
                ("exit", "exit", &["it exited with code 1"]), // WASI 0.2 tells success from failure and no more
                ("error-code", "error-answer", &[INSIDE]),
                ("answer-never", "no-answer", &["without an answer"]),
                ("recursion", "trap", &["call stack exhausted"]),
            ],
            // In a sandbox that several requests share, nobody knows whose the lines are.
            Http03 => vec![
                ("trap", "trap", &["it trapped", "unreachable"]),
                ("panic", "trap", &["it trapped", "unreachable"]),
                MEMORY,
                ("error-code", "error-answer", &[INSIDE]),
            ],
            Command => vec![TRAP, PANIC, MEMORY, ("exit 7", "exit", &[INSIDE, "it exited with code 1"])],
            Module => vec![TRAP, PANIC, MEMORY, ("exit 7", "exit", &[INSIDE, "it exited with code"])],
        }
    };
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "memory": "64MiB" }));
        for (what, reason, logged) in ways(guest) {
            let answer = neighbour.is_undisturbed_by(&format!("{guest:?} {what}"), async || bad.ask(what).await).await;
            assert_failed(&answer, StatusCode::BAD_GATEWAY, reason);
            for text in logged {
                platform.log_of(&answer, text).await;
            }
        }
        // And it is well again at once.
        assert_eq!(bad.ask("ok").await.text(), "ok\n", "{guest:?}");
        bad.quiet().await;
    }
    // Also of what is known of one request only by its log line is nothing lost.
    platform.log_with("misbehave-async", INSIDE).await;
}

/// A guest that is refused memory and lives with that is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_may_live_with_the_memory_it_gets() {
    let platform = Platform::start();
    let bad = Bad::deploy(&platform, Http02, json!({ "memory": "64MiB" }));
    let answer = bad.ask("memory?then=answer").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let got: u64 = answer.text().trim_end().trim_end_matches(" MiB").parse().unwrap();
    assert!((48..64).contains(&got), "{got} of 64 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_ends_when_it_has_computed_enough() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "cpu": "300ms" }));
        // More of them than there are processors on a small machine.
        let loops = async || join_all((0..4).map(|_| bad.ask("loop"))).await;
        for answer in neighbour.is_undisturbed_by(&format!("{guest:?} loops"), loops).await {
            assert_failed(&answer, StatusCode::GATEWAY_TIMEOUT, "cpu");
            platform.log_of(&answer, "`limits.cpu` allows (300ms)").await;
        }
        bad.quiet().await;
    }
}

/// Whoever neither computes nor answers is ended too: a loop before it has computed too much, a sleeper, and one that
/// waits for what never comes.
#[tokio::test(flavor = "multi_thread")]
async fn time_ends_for_all() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "cpu": "1h", "time": "300ms" }));
        let ways: &[&str] = match guest {
            Http02 => &["loop", "sleep 3600000", "hold-body"],
            Http03 => &["loop", "sleep 3600000", "hold-body", "answer-never"],
            Command | Module => &["loop", "sleep 3600000", "hold"],
        };
        for what in ways {
            let answer = neighbour.is_undisturbed_by(&format!("{guest:?} {what}"), async || bad.ask(what).await).await;
            assert_failed(&answer, StatusCode::GATEWAY_TIMEOUT, "time");
            platform.log_of(&answer, "`limits.time` allows (300ms)").await;
        }
        bad.quiet().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_end_breaks_off_at_its_limit() {
    const LIMIT: u64 = 256 << 20;
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "response_body": "256MiB" }));
        let flood = "flood 10000000000";
        assert_eq!(bad.ask("flood 1000000").await.body.len(), 1_000_000);
        let resident = platform.resident();
        let (bytes, broken, grown) = neighbour
            .is_undisturbed_by(&format!("{guest:?} flood"), async || {
                let response = platform.open(bad.request(flood)).await;
                let (bytes, broken) = read(response).await;
                (bytes, broken, platform.resident().saturating_sub(resident))
            })
            .await;
        assert!(broken, "{guest:?}: the response ended as if it were whole");
        assert!(bytes <= LIMIT && bytes > LIMIT - (1 << 20), "{guest:?}: {bytes} bytes");
        assert!(grown < 32 << 20, "{guest:?}: grew by {grown} bytes");
        platform.log_with(guest.name(), "`limits.response_body` allows (256MiB)").await;

        // A caller that doesn't read holds the guest back, not its response in memory.
        let held = platform.open(bad.request(flood)).await;
        for _ in 0..CALLS {
            neighbour.call().await;
        }
        let grown = platform.resident().saturating_sub(resident);
        assert!(grown < 32 << 20, "{guest:?}: grew by {grown} bytes");
        drop(held);
        bad.quiet().await;
    }
    // One that says beforehand how much it is going to send is refused beforehand.
    let bad = Bad::deploy(&platform, Http02, json!({ "response_body": "1MiB" }));
    let answer = bad.ask("flood?bytes=1048577&declared").await;
    assert_failed(&answer, StatusCode::BAD_GATEWAY, "response-too-large");
    assert_eq!(bad.ask("flood?bytes=1048576&declared").await.body.len(), 1 << 20);
    // And a command's output that was held until its end is known beforehand as well.
    let bad = Bad::deploy(&platform, Module, json!({ "response_body": "1KiB" }));
    assert_failed(&bad.ask("flood 1025").await, StatusCode::BAD_GATEWAY, "response-too-large");
    assert_eq!(bad.ask("flood 1024").await.body.len(), 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_log_lines_are_bounded_and_counted() {
    const LINES: u64 = 1_000_000;
    const LIMIT: u64 = 64 << 10;
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in [Http02, Command, Module] {
        let bad = Bad::deploy(&platform, guest, json!({ "log": "64KiB", "cpu": "1m", "time": "1m" }));
        let ask = async || bad.ask(&format!("logs {LINES}")).await;
        let answer = neighbour.is_undisturbed_by(&format!("{guest:?} logs"), ask).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let lines = platform.log_of(&answer, "bytes of output were dropped").await;
        let (by_platform, by_guest): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["stream"] == "platform");
        let kept: u64 = by_guest.iter().map(|line| line["message"].as_str().unwrap().len() as u64 + 1).sum();
        assert!(kept <= LIMIT + 2 && kept > LIMIT / 2, "{kept} bytes kept");
        let written: u64 = (0..LINES).map(|line| format!("a line of log {line}\n").len() as u64).sum();
        assert!(
            by_platform[0]["message"].as_str().unwrap().starts_with(&(written - LIMIT).to_string()),
            "{by_platform:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_outgoing_requests_are_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            let answer = hyper::service::service_fn(move |_| {
                counter.fetch_add(1, SeqCst);
                async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("pong")))) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    let mut manifest = limited("/misbehave", json!({ "http_requests": 500 }));
    manifest["allow"] = json!({ "http": [format!("http://{address}")] });
    let bad = Bad::deploy_with(&platform, Http02, manifest);
    let runs = AtomicUsize::new(0);
    let answer = neighbour
        .is_undisturbed_by("10,000 requests", async || {
            runs.fetch_add(1, SeqCst);
            bad.ask(&format!("fetch?url=http://{address}/&n=10000&at_once=50")).await
        })
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let outcomes = answer.json()["outcomes"].clone();
    assert_eq!(outcomes["200 with 4 bytes"], 500, "{outcomes}");
    assert_eq!(outcomes["ErrorCode::ConnectionLimitReached"], 9500, "{outcomes}");
    assert_eq!(reached.load(SeqCst), 500 * runs.load(SeqCst));
}

/// A body that nobody reads is not read for nobody, and its caller has an answer all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_nobody_reads_is_held_back() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    let body = "x".repeat(12 << 20);
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "time": "500ms" }));
        let (ignores, holds) = match guest {
            Http02 => ("ignore-body", "hold-body"),
            Http03 => ("ok", "hold-body"),
            Command | Module => ("ok", "hold"),
        };
        bad.ask(ignores).await;
        let resident = platform.resident();
        let ignored = platform.send(bad.request_with(ignores, &body)).await;
        assert_eq!(ignored.status, StatusCode::OK, "{guest:?}: {ignored:?}");
        let held = neighbour
            .is_undisturbed_by(&format!("{guest:?} {holds}"), async || {
                join_all((0..8).map(|_| platform.send(bad.request_with(holds, &body)))).await
            })
            .await;
        for answer in held {
            assert_failed(&answer, StatusCode::GATEWAY_TIMEOUT, "time");
        }
        let grown = platform.resident().saturating_sub(resident);
        assert!(grown < 32 << 20, "{guest:?}: grew by {grown} bytes");
        bad.quiet().await;
    }
}

/// The first answer counts. What a guest does afterwards is the operator's to know and nobody's to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_answer_counts() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    let bad = Bad::deploy(&platform, Http02, json!({ "time": "1s" }));
    let twice = neighbour.is_undisturbed_by("answer-twice", async || bad.ask("answer-twice").await).await;
    assert_eq!((twice.status, twice.text().as_str()), (StatusCode::OK, ""), "{twice:?}");
    let log = platform.log_of(&twice, "it trapped").await;
    assert_eq!(log.iter().filter(|line| line["stream"] == "platform").count(), 1, "{log:#?}");

    let start = Instant::now();
    let stays = bad.ask("answer-and-stay").await;
    assert_eq!((stays.status, stays.text().as_str()), (StatusCode::OK, "answered\n"), "{stays:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "the answer waited for its guest: {:?}", start.elapsed());
    platform.log_of(&stays, "after its answer it ran longer than `limits.time` allows").await;
    bad.quiet().await;
}

/// What the guest did not finish must not look finished.
#[tokio::test(flavor = "multi_thread")]
async fn half_an_answer_breaks_off() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for (guest, what, logged) in [
        (Http02, "half", "it trapped"),
        (Http03, "half", "it trapped"),
        (Http02, "abandon", "it answered with an error"),
    ] {
        let bad = Bad::deploy(&platform, guest, json!({}));
        // It is answered for with a status where nothing was sent yet, and breaks off otherwise. Never is it whole.
        let ask = async || platform.try_send(bad.request(what)).await;
        let outcome = neighbour.is_undisturbed_by(&format!("{guest:?} {what}"), ask).await;
        if let Ok(answer) = outcome {
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{guest:?} {what}: {answer:?}");
        }
        let log = platform.log_with(guest.name(), logged).await;
        assert!(log.iter().any(|line| line["stream"] == "platform" && line["invocation"].is_string()), "{log:#?}");
        bad.quiet().await;
    }
}

/// Sends a request as it is written here and reads what comes back until the connection ends.
async fn raw(platform: &Platform, head: &str, body: Vec<u8>) -> String {
    let (mut from, mut to) = connect(platform, head).await.into_split();
    // The platform may have seen enough before it has seen all.
    let sending = tokio::spawn(async move {
        let _ = to.write_all(&body).await;
        to
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), from.read_to_end(&mut answer)).await.expect("an answer");
    drop(sending.await.unwrap());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    answer
}

async fn connect(platform: &Platform, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(platform.functions.trim_start_matches("http://")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_its_limit_is_refused() {
    let platform = Platform::start();
    for guest in [Http02, Http03] {
        Bad::deploy(&platform, guest, json!({ "request_body": "1MiB" }));
        let name = guest.name();
        let path = if guest == Http02 { "sink" } else { "echo" };
        let head =
            |rest: &str| format!("POST /{name}/{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{rest}\r\n\r\n");
        // Said beforehand: refused before a byte of it was sent.
        let answer = raw(&platform, &head("content-length: 1048577"), Vec::new()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request-too-large"), "{answer}");
        let whole = raw(&platform, &head("content-length: 1048576"), vec![b'x'; 1 << 20]).await;
        assert!(whole.starts_with("HTTP/1.1 200 "), "{}", &whole[..whole.len().min(500)]);
        // Not said beforehand: counted.
        let mut chunks = Vec::new();
        for _ in 0..64 {
            chunks.extend_from_slice(b"10000\r\n");
            chunks.resize(chunks.len() + (64 << 10), b'x');
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        let answer = raw(&platform, &head("transfer-encoding: chunked"), chunks).await;
        if guest == Http02 {
            assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request-too-large"), "{answer}");
        } else {
            // It had begun its answer, which can't be taken back: it must not look whole.
            assert!(answer.starts_with("HTTP/1.1 ") && !answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
        }
        platform.log_with(name, "`limits.request_body` allows (1MiB)").await;
        platform.quiet(name).await;
    }
    // A small one is counted before the function is called.
    let mut manifest = limited("/misbehave", json!({ "request_body": "10B" }));
    manifest["allow"] = json!({ "http": [] });
    let bad = Bad::deploy_with(&platform, Http02, manifest);
    let head = "POST /misbehave/sink HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = raw(&platform, head, b"b\r\nhello world\r\n0\r\n\r\n".to_vec()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    bad.quiet().await;
}

/// As many run as may, as many wait as may, and the rest is told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_concurrency_and_queue_hold_are_refused() {
    let platform = Platform::start();
    let bad = Bad::deploy(&platform, Http02, json!({ "concurrency": 1, "queue": 2 }));
    // A body too large to be read before the function is called: the function waits for the rest of it.
    let head = "POST /misbehave/sink HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n";
    let mut waiting = Vec::new();
    for (running, queued) in [(1, 0), (1, 1), (1, 2)] {
        waiting.push(connect(&platform, head).await);
        platform.busy("misbehave", running, queued).await;
    }
    let refused = bad.ask("ok").await;
    assert_failed(&refused, StatusCode::TOO_MANY_REQUESTS, "busy");
    assert_eq!(refused.headers["retry-after"], "1", "{refused:?}");
    // Those who wait get their turn.
    for mut stream in waiting {
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"bytes\":100000"), "{answer}");
    }
    bad.quiet().await;
    assert_eq!(bad.ask("ok").await.status, StatusCode::OK);
}

/// A caller that goes away takes its invocation with it, whatever that is doing.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_frees_its_sandbox() {
    let platform = Platform::start();
    let neighbour = Neighbour::beside(&platform).await;
    for guest in EVERY {
        let bad = Bad::deploy(&platform, guest, json!({ "time": "1h", "cpu": "1h", "response_body": "100GiB" }));
        let ways: &[&str] = match guest {
            Http02 => &["loop", "sleep 3600000", "hold-body", "slow-body?chunks=1000000", "flood 10000000000"],
            Http03 => &["loop", "sleep 3600000", "answer-never", "slow-body?chunks=1000000", "flood 10000000000"],
            Command | Module => &["loop", "sleep 3600000", "hold", "flood 10000000000"],
        };
        for what in ways {
            let request = bad.request(what);
            let body = request.clone().into_body().collect().await.unwrap().to_bytes();
            let (target, length) = (request.uri().path_and_query().unwrap(), body.len());
            let head = format!("POST {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
            neighbour
                .is_undisturbed_by(&format!("{guest:?} {what} left alone"), async || {
                    let mut caller = connect(&platform, &head).await;
                    caller.write_all(&body).await.unwrap();
                    platform.busy(guest.name(), 1, 0).await;
                    drop(caller);
                    bad.quiet().await;
                })
                .await;
        }
    }
}

/// A sandbox that serves several requests is one memory: whoever breaks it breaks it for all that are in it then, and for
/// nobody else. Where that is too much, the manifest has `reuse: { concurrency: 1 }`.
#[tokio::test(flavor = "multi_thread")]
async fn a_trap_takes_those_with_it_who_share_its_sandbox() {
    // One worker, so that its requests meet in one sandbox.
    let platform = Platform::start_with(&["--workers", "1"]);
    for (reuse, shared) in
        [(json!({ "count": 128, "concurrency": 16 }), true), (json!({ "count": 128, "concurrency": 1 }), false)]
    {
        let mut manifest = below("/misbehave-async");
        manifest["reuse"] = reuse;
        let bad = Bad::deploy_with(&platform, Http03, manifest);
        assert_eq!(bad.ask("count").await.text(), "1\n");
        assert_eq!(bad.ask("count").await.text(), "2\n");
        let mut slow = platform.open(bad.request("slow-body?chunks=20&ms=100")).await;
        // By then it has waited some times, and its sandbox was offered for other requests.
        for _ in 0..5 {
            slow.body_mut().frame().await.unwrap().unwrap();
        }
        let ((_, broken), trap) = tokio::join!(read(slow), bad.ask("trap"));
        assert_failed(&trap, StatusCode::BAD_GATEWAY, "trap");
        assert_eq!(broken, shared, "a request beside the one that trapped");
        // The next request has a fresh one, unless its own sandbox was spared.
        let count = bad.ask("count").await;
        assert_eq!(count.text(), if shared { "1\n" } else { "3\n" });
        bad.quiet().await;
    }
}

/// What a guest goes on doing after its answer is part of its invocation: it is logged, and takes its place until it ends.
#[tokio::test(flavor = "multi_thread")]
async fn work_after_the_answer_goes_on() {
    let platform = Platform::start();
    let bad = Bad::deploy(&platform, Http03, json!({}));
    let start = Instant::now();
    assert_eq!(bad.ask("background 500").await.text(), "answered\n");
    assert!(start.elapsed() < Duration::from_millis(500), "the answer waited for the work after it");
    platform.log_with("misbehave-async", "done in the background").await;
}
