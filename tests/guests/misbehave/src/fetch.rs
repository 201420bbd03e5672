//! Outgoing requests by the thousand.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use wasip2::{
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, FutureIncomingResponse, OutgoingRequest, RequestOptions, Scheme},
    },
    io::streams::StreamError,
};

/// Sends `n` requests, `at_once` of them at a time, and counts how they ended. `timeout`, in milliseconds, bounds each step
/// of a request.
pub fn many(url: &str, n: u64, at_once: u64, timeout: Option<u64>) -> Value {
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut left = n;
    while left > 0 {
        let batch = left.min(at_once.max(1));
        let sent: Vec<_> = (0..batch).map(|_| send(url, timeout)).collect();
        for response in sent {
            let outcome = response.and_then(receive).unwrap_or_else(|code| format!("{code:?}"));
            *outcomes.entry(outcome).or_default() += 1;
        }
        left -= batch;
    }
    json!({ "url": url, "n": n, "outcomes": outcomes })
}

fn send(url: &str, timeout: Option<u64>) -> Result<FutureIncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let request = OutgoingRequest::new(Fields::new());
    request
        .set_scheme(Some(&scheme))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    let options = timeout.map(|milliseconds| {
        let (options, nanoseconds) = (RequestOptions::new(), Some(milliseconds * 1_000_000));
        let set = options
            .set_connect_timeout(nanoseconds)
            .and_then(|()| options.set_first_byte_timeout(nanoseconds))
            .and_then(|()| options.set_between_bytes_timeout(nanoseconds));
        set.expect("the host takes time-outs");
        options
    });
    outgoing_handler::handle(request, options)
}

/// Reads the response to its end and answers its status and length.
fn receive(future: FutureIncomingResponse) -> Result<String, ErrorCode> {
    future.subscribe().block();
    let response = future.get().expect("it is ready").expect("it was not taken yet")?;
    let body = response.consume().expect("nobody consumed the response yet");
    let stream = body.stream().expect("nobody took the stream yet");
    let mut bytes = 0;
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(chunk) => bytes += chunk.len(),
            Err(StreamError::Closed) => return Ok(format!("{} with {bytes} bytes", response.status())),
            Err(StreamError::LastOperationFailed(error)) => return Ok(error.to_debug_string()),
        }
    }
}
