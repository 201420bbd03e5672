//! A WASI 0.2 function that does what its path says, most of it what no function should. The last segment of the path
//! picks the behaviour, so it can be deployed under any prefix; numbers and the like come in the query.

mod answer;
mod fetch;

use answer::Answer;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    env, fs,
    hint::black_box,
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    process,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{ErrorCode, Fields, FutureTrailers, IncomingBody, IncomingRequest, ResponseOutparam},
    io::streams::StreamError,
};

struct Misbehave;

wasip2::http::proxy::export!(Misbehave);

impl Guest for Misbehave {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        let answer = Answer::new(out);
        match path.rsplit('/').next().unwrap_or_default() {
            "ok" => answer.text("ok\n"),
            "count" => count(answer),
            "env" => answer.json(&environment()),
            "random" => answer.json(&json!(wasip2::random::random::get_random_u64().to_string())),
            "clock" => answer.json(&clock()),
            "echo" => echo(&request, answer),
            "sink" => sink(&request, answer),
            "sleep" => {
                thread::sleep(query.milliseconds(1000));
                answer.text("slept\n");
            }
            "trailers" => trailers(answer),
            "slow-body" => slow_body(answer, query.number("chunks", 10), query.milliseconds(100)),

            "loop" => spin(answer, query.get("ms").is_some().then(|| query.milliseconds(0))),
            "memory" => memory(answer, query.get("then") == Some("answer")),
            "recursion" => answer.text(&format!("{}\n", recursion(u64::MAX))),
            "flood" => flood(answer, query.number("bytes", 10_000_000_000), query.get("declared").is_some()),
            "logs" => logs(answer, query.number("lines", 1_000_000), query.get("text").unwrap_or("a line of log")),
            "fetch" => {
                let url = query.get("url").unwrap_or_default();
                let timeout = query.get("timeout_ms").is_some().then(|| query.number("timeout_ms", 0));
                answer.json(&fetch::many(url, query.number("n", 10_000), query.number("at_once", 1), timeout));
            }
            "files" => answer.json(&files()),
            "folder" => answer.json(&folder(query.get("path").unwrap_or("/"))),
            "sockets" => answer.json(&sockets(query.get("address").unwrap_or("127.0.0.1:80"))),

            "ignore-body" => answer.text("ignored\n"),
            "hold-body" => {
                let _held = request.consume();
                sleep_forever();
            }
            "answer-never" => drop(answer),
            "answer-twice" => answer.twice(),
            "answer-and-stay" => {
                answer.text("answered\n");
                sleep_forever();
            }
            "half" => half(answer),
            "abandon" => answer.begin(200, &[]).abandon(b"the first half, "),
            "error-code" => answer.error(ErrorCode::InternalError(Some("told by the guest".into()))),
            "trap" => trap(),
            "panic" => panic!("told by the guest"),
            "exit" => process::exit(i32::try_from(query.number("code", 3)).unwrap_or(1)),
            _ => answer.status(404, "no such behaviour\n"),
        }
    }
}

struct Query(HashMap<String, String>);

impl Query {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    fn milliseconds(&self, default: u64) -> Duration {
        Duration::from_millis(self.number("ms", default))
    }
}

/// How often this sandbox was called: more than 1 where sandboxes are reused.
fn count(answer: Answer) {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    answer.text(&format!("{}\n", CALLS.fetch_add(1, Ordering::Relaxed) + 1));
}

fn environment() -> Value {
    json!({
        "variables": env::vars().collect::<BTreeMap<_, _>>(),
        "arguments": env::args().collect::<Vec<_>>(),
    })
}

fn clock() -> Value {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let before = Instant::now();
    json!({
        "milliseconds_since_1970": now.as_millis() as u64,
        "monotonic_went_back": Instant::now() < before,
    })
}

/// Sends the body and trailers back as they come, and the head as headers that begin with `echo-`.
fn echo(request: &IncomingRequest, answer: Answer) {
    let mut headers = vec![
        ("echo-method".into(), format!("{:?}", request.method()).into_bytes()),
        ("echo-scheme".into(), format!("{:?}", request.scheme()).into_bytes()),
        ("echo-authority".into(), request.authority().unwrap_or_default().into_bytes()),
        ("echo-target".into(), request.path_with_query().unwrap_or_default().into_bytes()),
    ];
    headers.extend(request.headers().entries().into_iter().map(|(name, value)| (format!("echo-{name}"), value)));
    // HTTP/1.1 carries only trailers that were announced.
    headers.extend(request.headers().get("trailer").into_iter().map(|value| ("trailer".into(), value)));
    let body = request.consume().expect("nobody consumed the request yet");
    let response = answer.begin(200, &headers);
    let read = read(&body, |chunk| response.write(chunk).is_ok());
    if read.is_ok() {
        response.finish(trailers_of(body));
    } else {
        response.abandon(b"");
    }
}

/// Reads the body to its end and answers how long it was, or how it broke off.
fn sink(request: &IncomingRequest, answer: Answer) {
    let body = request.consume().expect("nobody consumed the request yet");
    let mut bytes = 0_u64;
    let outcome = read(&body, |chunk| {
        bytes += chunk.len() as u64;
        true
    });
    let error = outcome.err().map(|error| match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "closed".into(),
    });
    let trailers = trailers_of(body).map_or(0, |trailers| trailers.entries().len());
    answer.json(&json!({ "bytes": bytes, "trailers": trailers, "error": error }));
}

fn read(body: &IncomingBody, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), StreamError> {
    let stream = body.stream().expect("nobody took the stream yet");
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) if take(&chunk) => {}
            Ok(_) | Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn trailers_of(body: IncomingBody) -> Option<Fields> {
    let trailers: FutureTrailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    trailers.get()?.ok()?.ok()?
}

fn trailers(answer: Answer) {
    let response = answer.begin(200, &[("trailer".into(), b"x-after".to_vec())]);
    let _ = response.write(b"the body\n");
    let trailers = Fields::new();
    trailers.set("x-after", &[b"the trailer".to_vec()]).expect("the trailer is well-formed");
    response.finish(Some(trailers));
}

fn slow_body(answer: Answer, chunks: u64, pause: Duration) {
    let response = answer.begin(200, &[]);
    for chunk in 0..chunks {
        if response.write(format!("{chunk}\n").as_bytes()).is_err() {
            return;
        }
        thread::sleep(pause);
    }
    response.finish(None);
}

/// Computes for as long as it is told, or for ever.
fn spin(answer: Answer, time: Option<Duration>) {
    let start = Instant::now();
    let mut turns = 0_u64;
    while time.is_none_or(|time| start.elapsed() < time) {
        for _ in 0..100_000 {
            turns = black_box(turns.wrapping_add(1));
        }
    }
    answer.text(&format!("{turns}\n"));
}

/// Takes memory until there is none left. Then it answers how much it got, or aborts as most programs do.
fn memory(answer: Answer, then_answer: bool) {
    const MIB: usize = 1 << 20;
    let mut taken: Vec<Vec<u8>> = Vec::with_capacity(4096);
    loop {
        let mut block = Vec::new();
        if then_answer && block.try_reserve_exact(MIB).is_err() {
            break;
        }
        block.resize(MIB, 1);
        taken.push(black_box(block));
    }
    let got = taken.len();
    drop(taken);
    answer.text(&format!("{got} MiB\n"));
}

/// Overflows the stack. What is hidden from the compiler after the call keeps it from making a loop of this.
#[inline(never)]
fn recursion(depth: u64) -> u64 {
    if depth == 0 { 0 } else { black_box(recursion(depth - 1)) + 1 }
}

fn flood(answer: Answer, bytes: u64, declared: bool) {
    let block = vec![b'x'; 64 * 1024];
    let length = ("content-length".into(), bytes.to_string().into_bytes());
    let response = answer.begin(200, if declared { std::slice::from_ref(&length) } else { &[] });
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len() as u64);
        if response.write(&block[..length as usize]).is_err() {
            return;
        }
        left -= length;
    }
    response.finish(None);
}

/// Prints lines in turn on stdout and stderr.
fn logs(answer: Answer, lines: u64, text: &str) {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let mut failed = 0_u64;
    for line in 0..lines {
        let out: &mut dyn Write = if line % 2 == 0 { &mut stdout } else { &mut stderr };
        failed += u64::from(writeln!(out, "{text} {line}").is_err());
    }
    answer.text(&format!("{lines} lines, {failed} failed\n"));
}

fn files() -> Value {
    let preopens: Vec<String> =
        wasip2::filesystem::preopens::get_directories().into_iter().map(|(_, path)| path).collect();
    json!({
        "preopens": preopens,
        "read": outcome(fs::read_to_string("/etc/passwd")),
        "write": outcome(fs::write("/tmp/misbehave", b"x")),
        "list": outcome(fs::read_dir("/").map(|entries| entries.count())),
    })
}

/// What can be done in a folder it was given, in which there is a file `a`, and a link `link` to one that is outside.
fn folder(path: &str) -> Value {
    let at = |name: &str| format!("{path}/{name}");
    json!({
        "read": outcome(fs::read_to_string(at("a"))),
        "list": outcome(fs::read_dir(path).map(|entries| entries.count())),
        "link": outcome(fs::read_to_string(at("link"))),
        "above": outcome(fs::read_to_string(at("../outside"))),
        "overwrite": outcome(fs::write(at("a"), b"x")),
        "append": outcome(fs::OpenOptions::new().append(true).open(at("a"))),
        "create": outcome(fs::write(at("b"), b"x")),
        "rename": outcome(fs::rename(at("a"), at("b"))),
        "remove": outcome(fs::remove_file(at("a"))),
        "folder": outcome(fs::create_dir(at("c"))),
    })
}

fn sockets(address: &str) -> Value {
    json!({
        "tcp": outcome(TcpStream::connect(address)),
        "udp": outcome(UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", address))),
        "listen": outcome(std::net::TcpListener::bind("127.0.0.1:0")),
        "lookup": outcome("localhost:80".to_socket_addrs().map(|found| found.collect::<Vec<_>>())),
    })
}

/// `{"error": …}` where it was refused, `{"done": …}` where it was not.
fn outcome<T: std::fmt::Debug>(result: io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({ "done": format!("{value:?}") }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Answers, sends half of what it promised, and traps.
fn half(answer: Answer) {
    let response = answer.begin(200, &[]);
    let _ = response.write(b"the first half, ");
    let _ = response.flush();
    trap();
}

fn trap() -> ! {
    eprintln!("told by the guest");
    core::arch::wasm32::unreachable()
}

fn sleep_forever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
