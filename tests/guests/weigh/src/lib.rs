//! A guest of the tests that takes files over HTTP, as any standard component would: it weighs what it gets as the body of a
//! request, or fetches where `filelocation` says, piece by piece, and answers with an event of what it has read.

use serde_json::json;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::{
        outgoing_handler,
        types::{
            Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
            Scheme,
        },
    },
    io::streams::StreamError,
};

struct Weigh;

wasip2::http::proxy::export!(Weigh);

impl Guest for Weigh {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let headers = request.headers();
        let header = |name: &str| {
            let value = headers.get(name).into_iter().next().unwrap_or_default();
            decoded(&value)
        };
        let (subject, location) = (header("ce-subject"), header("ce-filelocation"));
        let length = header("content-length");
        let body = request.consume().expect("nobody consumed the request yet");
        let weight = match weigh(body) {
            Ok(weight) if weight.bytes > 0 => Ok(("body", weight)),
            Ok(_) if location.starts_with("http") => fetch(&location).map(|weight| ("location", weight)),
            Ok(weight) => Ok(("nothing", weight)),
            Err(error) => Err(error),
        };
        match weight {
            Ok((by, Weight { bytes, sum })) => {
                let told = json!({ "file": subject, "by": by, "length": length, "bytes": bytes, "sum": sum });
                answer(out, 200, &header("ce-id"), &told.to_string());
            }
            Err(error) => answer(out, 503, "", &error),
        }
    }
}

/// The value of a header as the HTTP binding of CloudEvents encodes it.
fn decoded(value: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

struct Weight {
    bytes: u64,
    /// Of all bytes, each multiplied by its place, so that pieces that are swapped or missing are noticed.
    sum: u64,
}

fn weigh(body: IncomingBody) -> Result<Weight, String> {
    let stream = body.stream().expect("nobody took the stream yet");
    let mut weight = Weight { bytes: 0, sum: 0 };
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => {
                for byte in piece {
                    weight.bytes += 1;
                    weight.sum = weight.sum.wrapping_add(weight.bytes.wrapping_mul(byte.into()));
                }
            }
            Err(StreamError::Closed) => return Ok(weight),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

fn fetch(url: &str) -> Result<Weight, String> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("it is a scheme");
    request.set_authority(Some(authority)).expect("it is an authority");
    request.set_path_with_query(Some(path)).expect("it is a path");
    let response = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
    response.subscribe().block();
    let response =
        response.get().expect("it is ready").expect("nobody took it yet").map_err(|code| format!("{code:?}"))?;
    if response.status() != 200 {
        return Err(format!("it was answered {}", response.status()));
    }
    weigh(response.consume().expect("nobody consumed it yet"))
}

fn answer(out: ResponseOutparam, status: u16, id: &str, text: &str) {
    let event = [
        ("ce-specversion", "1.0"),
        ("ce-source", "/weigh"),
        ("ce-type", "weighed"),
        ("ce-id", id),
        ("content-type", "application/json"),
    ];
    let headers: Vec<_> = event.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let headers = if status == 200 { Fields::from_list(&headers).expect("they are headers") } else { Fields::new() };
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("it is a status");
    let body = response.body().expect("nobody took it yet");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("nobody took it yet");
    stream.blocking_write_and_flush(text.as_bytes()).expect("it is small");
    drop(stream);
    OutgoingBody::finish(body, None).expect("it is whole");
}
