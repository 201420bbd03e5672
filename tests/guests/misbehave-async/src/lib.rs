//! A WASI 0.3 function that does what its path says, most of it what no function should. The last segment of the path
//! picks the behaviour, so it can be deployed under any prefix; numbers and the like come in the query.

use std::{
    cell::Cell,
    collections::HashMap,
    hint::black_box,
    time::{Duration, Instant},
};
use wasip3::{
    clocks::monotonic_clock::wait_for,
    exports::http::handler::Guest,
    http::types::{ErrorCode, Fields, Request, Response},
    spawn_local,
    wit_bindgen::{FutureWriter, StreamWriter},
    wit_future, wit_stream,
};

struct Misbehave;

wasip3::http::service::export!(Misbehave);

impl Guest for Misbehave {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(form_urlencoded::parse(query.as_bytes()).into_owned().collect());
        match path.rsplit('/').next().unwrap_or_default() {
            "ok" => Ok(text("ok\n")),
            "count" => Ok(text(&format!("{}\n", count()))),
            "echo" => Ok(echo(request)),
            "sleep" => {
                sleep(query.milliseconds(1000)).await;
                Ok(text("slept\n"))
            }
            "slow-body" => Ok(slow_body(query.number("chunks", 10), query.milliseconds(100))),
            "background" => Ok(background(query.milliseconds(1000))),

            "loop" => Ok(spin(query.get("ms").is_some().then(|| query.milliseconds(0)))),
            "memory" => Ok(memory()),
            "flood" => Ok(flood(query.number("bytes", 10_000_000_000))),
            "answer-never" => {
                // Nobody writes to this stream, and nobody closes it.
                let (_writer, mut reader) = wit_stream::new::<u8>();
                reader.next().await;
                unreachable!("the stream has nothing to read")
            }
            "hold-body" => {
                let _held = request;
                loop {
                    sleep(Duration::from_secs(3600)).await;
                }
            }
            "half" => Ok(half()),
            "error-code" => Err(ErrorCode::InternalError(Some("told by the guest".into()))),
            "trap" => trap(),
            "panic" => panic!("told by the guest"),
            _ => {
                let response = text("no such behaviour\n");
                response.set_status_code(404).expect("the status is one of HTTP");
                Ok(response)
            }
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

type Trailers = FutureWriter<Result<Option<Fields>, ErrorCode>>;

/// A response, and the ends to write its body and its trailers to.
fn response(headers: Fields) -> (Response, StreamWriter<u8>, Trailers) {
    let (body, reader) = wit_stream::new();
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(reader), trailers_reader);
    (response, body, trailers)
}

fn text(text: &str) -> Response {
    let headers = Fields::new();
    headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]).expect("the header is well-formed");
    let (response, mut body, _) = response(headers);
    let text = text.as_bytes().to_vec();
    spawn_local(async move {
        body.write_all(text).await;
    });
    response
}

async fn sleep(time: Duration) {
    wait_for(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).await;
}

/// How often this sandbox was called: more than 1 where sandboxes are reused.
fn count() -> u64 {
    thread_local!(static CALLS: Cell<u64> = const { Cell::new(0) });
    CALLS.set(CALLS.get() + 1);
    CALLS.get()
}

/// Sends the body and trailers back as they come, and the head as headers that begin with `echo-`.
fn echo(request: Request) -> Response {
    let mut headers = vec![
        ("echo-method".to_owned(), format!("{:?}", request.get_method()).into_bytes()),
        ("echo-scheme".to_owned(), format!("{:?}", request.get_scheme()).into_bytes()),
        ("echo-authority".to_owned(), request.get_authority().unwrap_or_default().into_bytes()),
        ("echo-target".to_owned(), request.get_path_with_query().unwrap_or_default().into_bytes()),
    ];
    headers.extend(request.get_headers().copy_all().into_iter().map(|(name, value)| (format!("echo-{name}"), value)));
    // HTTP/1.1 carries only trailers that were announced.
    headers.extend(request.get_headers().get("trailer").into_iter().map(|value| ("trailer".to_owned(), value)));
    let headers = Fields::from_list(&headers).expect("the headers are well-formed");
    let (_, consumed) = wit_future::new(|| Ok(()));
    let (body, trailers) = Request::consume_body(request, consumed);
    Response::new(headers, Some(body), trailers).0
}

fn slow_body(chunks: u64, pause: Duration) -> Response {
    let (response, mut body, _) = response(Fields::new());
    spawn_local(async move {
        for chunk in 0..chunks {
            if !body.write_all(format!("{chunk}\n").into_bytes()).await.is_empty() {
                return;
            }
            sleep(pause).await;
        }
    });
    response
}

/// Answers at once and goes on working for that long, with a line of log at the end.
fn background(time: Duration) -> Response {
    spawn_local(async move {
        sleep(time).await;
        println!("done in the background");
    });
    text("answered\n")
}

/// Computes for as long as it is told, or for ever.
fn spin(time: Option<Duration>) -> Response {
    let start = Instant::now();
    let mut turns = 0_u64;
    while time.is_none_or(|time| start.elapsed() < time) {
        for _ in 0..100_000 {
            turns = black_box(turns.wrapping_add(1));
        }
    }
    text(&format!("{turns}\n"))
}

/// Takes memory until there is none left.
fn memory() -> Response {
    let mut taken: Vec<Vec<u8>> = Vec::with_capacity(4096);
    loop {
        taken.push(black_box(vec![1; 1 << 20]));
    }
}

fn flood(bytes: u64) -> Response {
    let (response, mut body, _) = response(Fields::new());
    spawn_local(async move {
        let mut block = vec![b'x'; 64 * 1024];
        let mut left = bytes;
        while left > 0 {
            block.resize(left.min(64 * 1024) as usize, b'x');
            left -= block.len() as u64;
            let (length, unwritten) = (block.len(), body.write_all(block).await);
            if !unwritten.is_empty() {
                return;
            }
            block = unwritten;
            block.resize(length, b'x');
        }
    });
    response
}

/// Answers, sends half of what it promised, and traps.
fn half() -> Response {
    let (response, mut body, _) = response(Fields::new());
    spawn_local(async move {
        body.write_all(b"the first half, ".to_vec()).await;
        trap()
    });
    response
}

fn trap() -> ! {
    eprintln!("told by the guest");
    core::arch::wasm32::unreachable()
}
