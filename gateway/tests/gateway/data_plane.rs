//! Drives the real data plane over sockets. Functions are written here in place of sandboxes: they keep the contract of
//! `events::Function`, which is all the data plane knows of the runtime. Most callers are raw sockets, because an HTTP
//! client would hide what matters: half a head, a second request behind a bad one, a connection that never reads.

use arc_swap::ArcSwap;
use bytes::Bytes;
use dunlin_events::{
    Body, BoxFuture, Failure, Function, Invocation, Version,
    effects::NoEffects,
    logs::{LogRecord, LogSink},
    runtime::Load,
    units::ByteSize,
};
use dunlin_gateway::{
    active::{ActiveFunction, Counters},
    deploy::Table,
    http::{
        TlsConfig,
        data::{Config, DataPlane},
        routes::Routes,
    },
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer},
};
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(20);

type Outcome = Result<Response<Body>, Failure>;

/// A function of the test.
struct Handler<F>(F);

impl<F, R> Function for Handler<F>
where
    F: Fn(Request<Body>, Invocation) -> R + Send + Sync,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn invoke<'a>(&'a self, request: Request<Body>, invocation: Invocation) -> BoxFuture<'a, Outcome> {
        Box::pin((self.0)(request, invocation))
    }

    fn load(&self) -> Load {
        Load { running: 0, waiting: 0 }
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<LogRecord>>);

impl LogSink for Log {
    fn record(&self, record: LogRecord) {
        self.0.lock().unwrap().push(record);
    }
}

/// A running data plane whose every path leads to the function of the test.
struct Plane {
    address: SocketAddr,
    counters: Arc<Counters>,
    log: Arc<Log>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

fn config() -> Config {
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    config.workers = NonZeroUsize::new(2).unwrap();
    config
}

async fn start<F, R>(config: Config, handler: F) -> Plane
where
    F: Fn(Request<Body>, Invocation) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    let counters = Arc::new(Counters::default());
    let handle: Arc<dyn Function> = Arc::new(Handler(handler));
    let function = |name: &str, limit: &str, triggers: serde_json::Value| {
        let version: Version = serde_json::from_value(serde_json::json!({
            "number": 7, "deployed_at": 0,
            "manifest": {
                "name": name, "component": "x.wasm", "triggers": triggers, "limits": { "request_body": limit },
            },
            "component": {
                "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "shape": "http02", "imports": [],
                "initial_memory": 0,
            },
        }))
        .unwrap();
        let (handle, counters, effects) = (Arc::clone(&handle), Arc::clone(&counters), Arc::new(NoEffects));
        let statuses = version.manifest.triggers.iter().map(|_| Arc::default()).collect();
        Arc::new(ActiveFunction { version, handle, counters, effects, statuses })
    };
    let functions = [
        function(
            "subject",
            "1MB",
            serde_json::json!([
                { "http": { "path": "/" } }, { "http": { "path": "/{*path}" } },
                { "http": { "path": "/items/{id}/{Part}" } }, { "http": { "path": "/get", "methods": ["GET"] } },
            ]),
        ),
        function("small", "1kB", serde_json::json!([{ "http": { "path": "/small" } }])),
    ];
    let routes = Routes::build(functions.clone()).unwrap_or_else(|conflicts| panic!("{conflicts:?}"));
    let functions = functions.map(|function| (function.version.name().clone(), function)).into();
    let tables = Arc::new(ArcSwap::from_pointee(Table { routes, functions }));
    let log = Arc::new(Log::default());
    let plane = DataPlane::bind(config, tables, Arc::clone(&log) as Arc<dyn LogSink>).await.unwrap();
    let address = plane.address();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(plane.run(shutdown.clone()));
    Plane { address, counters, log, shutdown, running }
}

impl Plane {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and reads what comes until the connection ends.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut socket = self.connect().await;
        socket.write_all(request.as_ref()).await.unwrap();
        rest(&mut socket).await
    }

    async fn http1(&self) -> conn::http1::SendRequest<Body> {
        let (sender, connection) = conn::http1::handshake(TokioIo::new(self.connect().await)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    async fn http2(&self) -> conn::http2::SendRequest<Body> {
        let io = TokioIo::new(self.connect().await);
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(LATE, self.running).await.expect("it drains").unwrap();
    }
}

async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset ends what was sent as well as a close does.
    let _ = timeout(LATE, socket.read_to_end(&mut all)).await.expect("the connection is closed");
    String::from_utf8(all).unwrap()
}

/// Reads until `end` has come.
async fn until(socket: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let byte = timeout(LATE, socket.read_u8()).await.expect("an answer");
        all.push(byte.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&all))));
    }
    String::from_utf8(all).unwrap()
}

/// Waits for something that must come true.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LATE, wait).await.unwrap_or_else(|_| panic!("{what} does not happen"));
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn stream(frames: mpsc::Receiver<Result<Frame<Bytes>, Failure>>) -> Body {
    struct Frames(mpsc::Receiver<Result<Frame<Bytes>, Failure>>);
    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Failure;
        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
            self.0.poll_recv(cx)
        }
    }
    Frames(frames).boxed_unsync()
}

/// A body without an end, which counts its frames and tells when it is dropped.
struct Endless {
    frames: Arc<AtomicU64>,
    dropped: Arc<Notify>,
}

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = Failure;
    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.frames.fetch_add(1, SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 << 10])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.notify_one();
    }
}

/// Answers with what it was given: the request line and the headers, then the body and the trailers.
async fn describe(request: Request<Body>, _: Invocation) -> Outcome {
    let (head, body) = request.into_parts();
    let body = body.collect().await?;
    let mut lines = vec![format!("{} {}", head.method, head.uri)];
    let trailers = body.trailers().cloned().unwrap_or_default();
    for (name, value) in head.headers.iter().chain(&trailers) {
        lines.push(format!("{name}: {}", value.to_str().unwrap()));
    }
    lines[1..].sort();
    lines.push(String::from_utf8(body.to_bytes().to_vec()).unwrap());
    Ok(Response::new(full(lines.join("\n"))))
}

fn header<'a>(response: &'a str, name: &str) -> &'a str {
    let line = response.lines().find(|line| line.split(':').next().unwrap().eq_ignore_ascii_case(name));
    line.unwrap_or_else(|| panic!("no {name} in {response}")).split_once(": ").unwrap().1
}

#[tokio::test]
async fn a_function_is_given_what_it_can_trust() {
    let plane = start(config(), describe).await;
    let response = plane
        .raw(
            "POST /items/a%2Fb/c?q=1 HTTP/1.1\r\nHost: Example.com:81\r\nDunlin-Param-Id: forged\r\ndunlin-invocation: x\r\n\
             X-Request-Id: mine-1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
             tracestate: a=b\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: forged\r\n\
             Connection: close, X-Private\r\nX-Private: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\n\
             Proxy-Authorization: x\r\nX-Kept: 1\r\nContent-Length: 4\r\n\r\nbody",
        )
        .await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    let id = header(head, "dunlin-invocation");
    let span = id[19..].replace('-', "");
    let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{span}-01");
    assert_eq!(header(head, "traceparent"), traceparent);
    assert_eq!(header(head, "x-request-id"), "mine-1");
    assert_eq!(
        body.lines().collect::<Vec<_>>(),
        [
            "POST http://Example.com:81/items/a%2Fb/c?q=1",
            "content-length: 4",
            "dunlin-param-id: a%2Fb",
            "dunlin-param-part: c",
            "host: Example.com:81",
            &format!("traceparent: {traceparent}"),
            "tracestate: a=b",
            "x-forwarded-for: 9.9.9.9, 127.0.0.1",
            "x-forwarded-host: Example.com:81",
            "x-forwarded-proto: http",
            "x-kept: 1",
            "x-request-id: mine-1",
            "body",
        ]
    );

    let long = "i".repeat(129);
    for bad in ["", "two words", "ümlaut", &long] {
        let request =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-Id: {bad}\r\ntracestate: a=b\r\n\r\n");
        let response = plane.raw(request).await;
        let id = header(&response, "dunlin-invocation");
        assert_eq!(header(&response, "x-request-id"), id, "{bad}");
        assert!(header(&response, "traceparent").starts_with(&format!("00-{}-", id.replace('-', ""))));
        assert!(!response.contains("tracestate"));
    }
    plane.stop().await;
}

#[tokio::test]
async fn requests_that_could_mean_two_things_are_refused() {
    let plane = start(config(), describe).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: user@a\r\nConnection: close\r\n\r\n", 400),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        ("GET /a/.%2e HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        ("GET /a/%2E/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        ("GET /a\u{e4} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 400),
        ("GET /.well-known/..x/...?../ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\na", 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", 400),
    ] {
        let response = plane.raw(request).await;
        assert!(
            response.starts_with("HTTP/1.1 ") && response[9..].starts_with(&status.to_string()),
            "{request}{response}"
        );
    }
    let many = "X: 1\r\n".repeat(200);
    assert!(plane.raw(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")).await.starts_with("HTTP/1.1 431 "));
    let large = "x".repeat(70_000);
    assert!(plane.raw(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {large}\r\n\r\n")).await.starts_with("HTTP/1.1 431 "));

    // The absolute form decides whom a request calls, whatever `Host` says.
    let response = plane.raw("GET http://real/x HTTP/1.1\r\nHost: forged\r\nConnection: close\r\n\r\n").await;
    assert!(response.contains("GET http://real/x\n") && response.contains("\nhost: real\n"), "{response}");

    // With both lengths the chunks count, in either order, and no other request is read from the connection: whoever was
    // in between may have seen its end elsewhere.
    for lengths in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 60"]
    {
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: a\r\n{lengths}\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let response = plane.raw(request).await;
        assert!(response.contains("\nPOST http://a/first\n") && response.ends_with("\nabc"), "{response}");
        assert!(!response.contains("second"), "{response}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn every_failure_is_a_problem_and_the_guest_stays_hidden() {
    let limit = ByteSize::kib(1);
    let time = Duration::from_secs(2);
    let cases = Arc::new([
        (Failure::Busy { concurrency: 1, queue: 0 }, 429, Some("1")),
        (Failure::Exhausted("secret".into()), 503, Some("1")),
        (Failure::Start("secret".into()), 503, Some("5")),
        (Failure::Time { limit: time }, 504, None),
        (Failure::Cpu { limit: time }, 504, None),
        (Failure::RequestTooLarge { limit }, 413, None),
        (Failure::RequestBody("secret".into()), 400, None),
        (Failure::Memory { limit }, 502, None),
        (Failure::Trap("secret".into()), 502, None),
        (Failure::NoAnswer, 502, None),
        (Failure::ErrorAnswer("secret".into()), 502, None),
        (Failure::Exit { code: 3 }, 502, None),
        (Failure::ResponseTooLarge { limit }, 502, None),
    ]);
    let failures = Arc::clone(&cases);
    let plane = start(config(), move |request: Request<Body>, _| {
        let index: usize = request.uri().path()[1..].parse().unwrap();
        let failure = failures[index].0.clone();
        async { Err(failure) }
    })
    .await;
    let mut sender = plane.http1().await;
    for (index, (failure, status, retry)) in cases.iter().enumerate() {
        let request = Request::get(format!("/{index}")).header("host", "a").body(empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status().as_u16(), *status, "{failure}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers().get("retry-after").map(|value| value.to_str().unwrap()), *retry);
        let id = response.headers()["dunlin-invocation"].to_str().unwrap().to_owned();
        let body = response.collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(!problem.to_string().contains("secret"), "{problem}");
        assert_eq!((&problem["reason"], &problem["invocation"]), (&failure.reason().into(), &id.clone().into()));
        assert_eq!((&problem["status"], &problem["type"]), (&(*status).into(), &"about:blank".into()));
        let logged: Vec<_> = plane
            .log
            .0
            .lock()
            .unwrap()
            .drain(..)
            .map(|record| (record.invocation, record.version, record.message))
            .collect();
        match failure {
            Failure::Busy { .. } => assert!(logged.is_empty()),
            _ => assert_eq!(logged, [(Some(id), 7, failure.to_string())]),
        }
    }
    assert_eq!(plane.counters.read().failed().collect::<Vec<_>>().len(), cases.len());

    let response = sender.send_request(Request::post("/get").header("host", "a").body(empty()).unwrap()).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &HeaderValue::from_static("GET, HEAD"))
    );
    assert!(response.headers().contains_key("dunlin-invocation"));
    plane.stop().await;
}

#[tokio::test]
async fn a_body_too_large_is_refused_unread() {
    let plane = start(config(), describe).await;
    // No `100 Continue`: the caller is told before it sends.
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000001\r\nExpect: 100-continue\r\n\r\n";
    let response = plane.raw(request).await;
    assert!(response.starts_with("HTTP/1.1 413 ") && response.contains("\r\nconnection: close\r\n"), "{response}");
    // One that sends regardless gets the answer too, and no reset before it.
    let mut socket = plane.connect().await;
    socket.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").await.unwrap();
    let chunk = vec![0; 64 << 10];
    for _ in 0..64 {
        socket.write_all(&chunk).await.unwrap();
    }
    assert!(rest(&mut socket).await.starts_with("HTTP/1.1 413 "));
    // Without a declared length it is counted, and the function isn't called for the beginning of it.
    let (frames, body) = mpsc::channel(1);
    let request = Request::post(plane.uri("/small")).body(stream(body)).unwrap();
    let response = tokio::spawn(plane.http2().await.send_request(request));
    frames.send(Ok(Frame::data(Bytes::from(vec![b'x'; 1001])))).await.unwrap();
    assert_eq!(timeout(LATE, response).await.unwrap().unwrap().unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut socket = plane.connect().await;
    socket
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
        )
        .await
        .unwrap();
    assert_eq!(until(&mut socket, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ok").await.unwrap();
    let response = rest(&mut socket).await;
    assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with("\nok"), "{response}");
    plane.stop().await;
}

#[tokio::test]
async fn slow_callers_hold_no_sandbox() {
    let called = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&called);
    let mut config = config();
    (config.timeouts.head, config.timeouts.idle, config.timeouts.request) = (SOON, SOON, SOON);
    let plane = start(config, move |request: Request<Body>, _| {
        count.fetch_add(1, SeqCst);
        async move {
            request.into_body().collect().await?;
            Ok(Response::new(empty()))
        }
    })
    .await;
    for beginning in ["", "GE", "GET / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\n"] {
        assert_eq!(plane.raw(beginning).await, "", "{beginning}");
    }
    // A byte now and then doesn't help: the head has one time for all of it.
    let mut socket = plane.connect().await;
    let (mut reader, mut writer) = socket.split();
    let drip = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SOON / 8).await;
        }
    };
    tokio::select! {
        () = drip => {}
        end = timeout(LATE, reader.read_u8()) => assert!(end.expect("the connection is closed").is_err()),
    }
    let response = plane.raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert!(response.starts_with("HTTP/1.1 408 ") && response.contains("request-body"), "{response}");
    assert_eq!(called.load(SeqCst), 0);
    // A large body streams, so the function runs; the caller is still told what went wrong.
    let response = plane.raw("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhalf").await;
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert_eq!(called.load(SeqCst), 1);
    // An idle connection is closed, after as long as it may be idle and not before its answer.
    let response = plane.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    plane.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_cut_off() {
    let frames = Arc::new(AtomicU64::new(0));
    let dropped = Arc::new(Notify::new());
    let body = (Arc::clone(&frames), Arc::clone(&dropped));
    let mut config = config();
    config.timeouts.response = SOON;
    let plane = start(config, move |_, _| {
        let body = Endless { frames: Arc::clone(&body.0), dropped: Arc::clone(&body.1) };
        async { Ok(Response::new(body.boxed_unsync())) }
    })
    .await;
    let mut socket = plane.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    timeout(LATE, dropped.notified()).await.expect("the invocation is ended");
    // What went out is what the sockets hold, not all the function could have made.
    assert!(frames.load(SeqCst) < 2000, "{} frames", frames.load(SeqCst));

    frames.store(0, SeqCst);
    let response = plane.http2().await.send_request(Request::get(plane.uri("/")).body(empty()).unwrap()).await.unwrap();
    timeout(LATE, dropped.notified()).await.expect("the stream without window is ended");
    assert!(frames.load(SeqCst) < 300, "{} frames", frames.load(SeqCst)); // the client's window is 2 MiB
    drop(response);
    assert_eq!(plane.counters.read().failed().collect::<Vec<_>>(), [("request-body", 2)]);
    plane.stop().await;
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once_with_trailers() {
    let plane = start(config(), |request: Request<Body>, _| async {
        let body = request.into_body().map_frame(|frame| match frame.into_data() {
            Ok(data) => Frame::data(Bytes::from(data.to_ascii_uppercase())),
            Err(frame) => frame,
        });
        let mut response = Response::new(body.boxed_unsync());
        response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("x-sum"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("x-gone"));
        response.headers_mut().insert("x-gone", HeaderValue::from_static("1"));
        Ok(response)
    })
    .await;
    let trailers: HeaderMap = [("x-sum", "42"), ("dunlin-forged", "1")]
        .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
        .into_iter()
        .collect();
    for http2 in [false, true] {
        let (frames, body) = mpsc::channel(1);
        let request = Request::post(plane.uri("/"))
            .header("host", "a")
            .header("te", "trailers")
            .header("trailer", "x-sum, dunlin-forged")
            .body(stream(body))
            .unwrap();
        let response = if http2 {
            tokio::spawn(plane.http2().await.send_request(request))
        } else {
            tokio::spawn(plane.http1().await.send_request(request))
        };
        frames.send(Ok(Frame::data("first ".into()))).await.unwrap();
        // The answer begins while the request is still going on.
        let response = timeout(LATE, response).await.expect("a head").unwrap().unwrap();
        assert!(!response.headers().contains_key("x-gone") && !response.headers().contains_key("connection"));
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "FIRST ");
        frames.send(Ok(Frame::data("second".into()))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "SECOND");
        frames.send(Ok(Frame::trailers(trailers.clone()))).await.unwrap();
        drop(frames);
        let end = body.collect().await.unwrap();
        let end = end.trailers().expect("trailers");
        assert_eq!((end.len(), &end["x-sum"]), (1, &HeaderValue::from_static("42")), "http2: {http2}");
    }
    eventually("both succeed", || plane.counters.read().succeeded == 2).await;
    plane.stop().await;
}

#[tokio::test]
async fn heads_and_old_clients_get_what_they_understand() {
    let ends = Arc::new(Notify::new());
    let end = Arc::clone(&ends);
    let plane = start(config(), move |request: Request<Body>, _| {
        let (frames, body) = mpsc::channel(1);
        let end = Arc::clone(&end);
        async move {
            let declared = request.uri().path() == "/declared";
            tokio::spawn(async move {
                frames.send(Ok(Frame::data("hello".into()))).await.unwrap();
                // The function goes on after its last byte, and is let to.
                tokio::task::yield_now().await;
                let _ = frames.send(Ok(Frame::data(Bytes::new()))).await;
                end.notify_one();
            });
            let mut response = Response::new(stream(body));
            if declared {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("5"));
            }
            Ok(response)
        }
    })
    .await;
    let response = plane.raw("HEAD /declared HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(response.ends_with("\r\n\r\n") && response.contains("content-length: 5\r\n"), "{response}");
    timeout(LATE, ends.notified()).await.unwrap();
    let response = plane.raw("GET /declared HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(response.ends_with("\r\n\r\nhello"), "{response}");
    timeout(LATE, ends.notified()).await.unwrap();
    let response = plane.raw("GET / HTTP/1.0\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.0 200 ") && response.ends_with("\r\n\r\nhello"), "{response}");
    assert!(!response.contains("transfer-encoding"), "{response}");
    let mut http2 = plane.http2().await;
    let head = Request::builder().method(Method::HEAD).uri(plane.uri("/declared")).body(empty()).unwrap();
    let response = http2.send_request(head).await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert!(response.into_body().is_end_stream());
    eventually("every one succeeds", || plane.counters.read().succeeded == 4).await;
    assert_eq!(plane.counters.read().invocations(), 4);
    plane.stop().await;
}

#[tokio::test]
async fn a_failure_after_the_head_is_seen_by_the_caller_and_logged() {
    let seen = Arc::new(Notify::new());
    let fail = Arc::clone(&seen);
    let plane = start(config(), move |request: Request<Body>, _| {
        let fail = Arc::clone(&fail);
        async move {
            let declared = request.uri().path() == "/declared";
            let (frames, body) = mpsc::channel(1);
            tokio::spawn(async move {
                frames.send(Ok(Frame::data("part".into()))).await.unwrap();
                fail.notified().await;
                if !declared {
                    frames.send(Err(Failure::Trap("secret".into()))).await.unwrap();
                }
            });
            let mut response = Response::new(stream(body));
            if declared {
                response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
            }
            Ok(response)
        }
    })
    .await;
    // In HTTP/1.0 a close is how a body ends, so it must be a reset.
    for (request, begins, end) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "4\r\npart\r\n", Ok(0)),
        ("GET /declared HTTP/1.1\r\nHost: a\r\n\r\n", "part", Ok(0)),
        ("GET / HTTP/1.0\r\n\r\n", "part", Err(std::io::ErrorKind::ConnectionReset)),
    ] {
        let mut socket = plane.connect().await;
        socket.write_all(request.as_bytes()).await.unwrap();
        assert!(until(&mut socket, begins).await.contains(" 200 OK\r\n"));
        seen.notify_one();
        let ended = timeout(LATE, socket.read_to_end(&mut Vec::new())).await.expect("the connection is closed");
        assert_eq!(ended.map_err(|error| error.kind()), end, "{request}");
    }
    let request = Request::get(plane.uri("/")).body(empty()).unwrap();
    let response = plane.http2().await.send_request(request).await.unwrap();
    seen.notify_one();
    assert!(response.collect().await.is_err(), "the stream is reset");
    let messages: Vec<_> = plane.log.0.lock().unwrap().iter().map(|record| record.message.clone()).collect();
    let trap = "it trapped: secret";
    assert_eq!(
        messages,
        [trap, "it answered with an error: it declared 9 bytes as `content-length` and sent 4", trap, trap]
    );
    assert_eq!(plane.counters.read().failed().collect::<Vec<_>>(), [("trap", 3), ("error-answer", 1)]);
    plane.stop().await;
}

#[tokio::test]
async fn draining_under_load_fails_no_request() {
    let plane = Arc::new(
        start(config(), |_, invocation: Invocation| async move {
            // All of it on the worker that was named.
            let thread = std::thread::current();
            assert_eq!(thread.name(), Some(&*format!("dunlin-worker-{}", invocation.worker)));
            tokio::time::sleep(Duration::from_millis(3)).await;
            assert_eq!(std::thread::current().id(), thread.id());
            Ok(Response::new(full("done")))
        })
        .await,
    );
    let answered = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for number in 0..24 {
        let (plane, answered) = (Arc::clone(&plane), Arc::clone(&answered));
        callers.push(tokio::spawn(async move {
            let http2 = number % 3 == 0;
            if http2 {
                let mut sender = plane.http2().await;
                while sender.ready().await.is_ok() {
                    let request = Request::get(plane.uri("/")).body(empty()).unwrap();
                    match sender.send_request(request).await {
                        Ok(response) => assert_eq!(response.collect().await.unwrap().to_bytes(), "done"),
                        // Streams beyond the GOAWAY were not begun, and may be sent elsewhere.
                        Err(error) => {
                            assert!(error.is_canceled() || format!("{error:?}").contains("GoAway"), "{error:?}")
                        }
                    }
                    answered.fetch_add(1, SeqCst);
                }
                return;
            }
            let mut socket = plane.connect().await;
            loop {
                socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                let head = until(&mut socket, "\r\n\r\ndone").await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                answered.fetch_add(1, SeqCst);
                if head.contains("connection: close") {
                    return;
                }
            }
        }));
    }
    eventually("load", || answered.load(SeqCst) > 200).await;
    plane.shutdown.cancel();
    for caller in callers {
        timeout(LATE, caller).await.expect("callers are told to stop").unwrap();
    }
    let Ok(plane) = Arc::try_unwrap(plane) else { panic!("callers have ended") };
    assert!(TcpStream::connect(plane.address).await.is_err(), "it no longer listens");
    plane.stop().await;
}

#[tokio::test]
async fn the_grace_period_ends_what_does_not_end_itself() {
    let began = Arc::new(Notify::new());
    let begin = Arc::clone(&began);
    let mut config = config();
    config.timeouts.grace = SOON;
    let plane = start(config, move |_, _| {
        begin.notify_one();
        std::future::pending()
    })
    .await;
    let mut socket = plane.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    began.notified().await;
    plane.stop().await;
    assert_eq!(rest(&mut socket).await, "");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let mut config = config();
    config.connections = 1;
    let plane = start(config, describe).await;
    let mut first = plane.connect().await;
    first.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut first, "x-request-id: ").await;
    let mut second = plane.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(timeout(SOON, second.read_u8()).await.is_err(), "it is not served beside the first");
    drop(first);
    assert!(rest(&mut second).await.starts_with("HTTP/1.1 200 "));
    plane.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_invocation() {
    let began = Arc::new(Notify::new());
    let begin = Arc::clone(&began);
    let plane = start(config(), move |_, _| {
        begin.notify_one();
        std::future::pending()
    })
    .await;
    let mut socket = plane.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    began.notified().await;
    drop(socket);
    eventually("the invocation ends", || plane.counters.read().invocations() == 1).await;
    assert!(plane.log.0.lock().unwrap().is_empty());
    plane.stop().await;
}

/// Writes a certificate for `localhost` and its key, and gives back what trusts it.
fn certificate(folder: &Path) -> ClientConfig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec())).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

#[tokio::test]
async fn tls_offers_both_protocols_and_follows_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = TlsConfig { certificate: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let old = certificate(folder.path());
    let plane = start(Config { tls: Some(files), ..config() }, describe).await;
    let connect = async |mut trust: ClientConfig, protocol: &[u8]| {
        trust.alpn_protocols = vec![protocol.to_vec()];
        let connector = TlsConnector::from(Arc::new(trust));
        connector.connect("localhost".try_into().unwrap(), plane.connect().await).await
    };
    let mut socket = connect(old.clone(), b"http/1.1").await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    assert!(
        response.contains("GET https://localhost/\n") && response.contains("x-forwarded-proto: https\n"),
        "{response}"
    );

    let socket = connect(old.clone(), b"h2").await.unwrap();
    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("https://localhost/h2").body(empty()).unwrap();
    let body = sender.send_request(request).await.unwrap().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"GET https://localhost/h2\n"));

    // Half a renewal changes nothing, a whole one is taken up.
    std::fs::write(folder.path().join("cert.pem"), "").unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(connect(old.clone(), b"h2").await.is_ok());
    let new = certificate(folder.path());
    let taken_up = async {
        while connect(new.clone(), b"h2").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LATE, taken_up).await.expect("the new certificate is used");
    assert!(connect(old, b"h2").await.is_err());
    plane.stop().await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_says_why() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let tables = || Arc::new(ArcSwap::from_pointee(Table::default()));
    for (certificate, key, reason) in [
        (folder.path().join("none.pem"), key.clone(), "none.pem` can't be read"),
        (key.clone(), key.clone(), "key.pem` has no certificate"),
        (cert.clone(), cert.clone(), "cert.pem` has no private key"),
    ] {
        let config = Config { tls: Some(TlsConfig { certificate, key }), ..config() };
        let error = DataPlane::bind(config, tables(), Arc::new(Log::default())).await.err().unwrap().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
