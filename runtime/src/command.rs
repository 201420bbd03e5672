//! Commands: programs that read their request on stdin and write their answer to stdout.
//!
//! Exit code 0 is success. What a program wrote before it failed is not an answer, so up to [`HELD`] of it is held until
//! the program ends; only a longer output is streamed, and a failure after that breaks the response off. The request
//! arrives as RFC 3875 (CGI) has it: the body on stdin, method, path, query and headers in the environment.

use crate::{
    access::Account,
    call::{Call, Caller, Fate},
    function::Loaded,
    host::{Host, Stdio},
    output::Output,
    sandbox::Ward,
};
use bytes::Bytes;
use dunlin_events::Failure;
use futures_util::{StreamExt, TryStreamExt, future::poll_fn};
use http::{HeaderValue, Response, header, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use std::{
    io,
    sync::{Arc, atomic::AtomicBool},
};
use sync_wrapper::SyncStream;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::io::{ReaderStream, StreamReader};
use wasmtime_wasi::{
    I32Exit,
    cli::{AsyncStdinStream, AsyncStdoutStream},
    p2::bindings::CommandPre,
};
use wasmtime_wasi_http::{Error, WasiBody};

/// Output that is held back until the program has ended.
const HELD: usize = 64 << 10;

pub(crate) async fn run(
    pre: &CommandPre<Host>,
    call: Call,
    loaded: &Loaded,
    ward: &Ward,
    output: &Output,
    exceeded: Arc<AtomicBool>,
) -> wasmtime::Result<()> {
    let policy = &loaded.policy;
    ward.begin(call.deadline, Arc::clone(&call.fate) as Arc<dyn Caller>, policy.limits.cpu);
    output.begin(Some(call.fate.id), policy.limits.log.bytes(), true);
    let trace = call.request.headers().get("traceparent").cloned();
    let (parts, body) = call.request.into_parts();
    let (stdout, written) = tokio::io::duplex(HELD);
    let stdio = Stdio {
        arguments: vec![loaded.name().to_owned()],
        environment: meta_variables(&parts),
        stdin: AsyncStdinStream::new(stdin(body)),
        stdout: AsyncStdoutStream::new(HELD, stdout),
    };
    let mut store = Host::command_store(loaded.engine(), loaded.surroundings(), output, exceeded, stdio);
    store.data_mut().begin(Account::of(&call.effects), true);
    store.data_mut().outgoing.begin(policy.limits.http_requests, trace, true);

    let (exit, exited) = tokio::sync::oneshot::channel();
    let fate = &call.fate;
    let program = async move {
        let ended = match pre.instantiate_async(&mut store).await {
            Ok(command) => command.wasi_cli_run().call_run(&mut store).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(Ok(())) => drop(exit.send(0)),
            Ok(Err(())) => drop(exit.send(1)),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(code) => drop(exit.send(u8::try_from(code.0).unwrap_or(1))),
                None => fate.fail(ward.explain(&error, policy, output)),
            },
        }
        // Only now: the store holds stdout, so whoever reads that sees its end after the verdict.
        drop(store);
    };
    tokio::join!(program, answer(fate, written, exited, policy.limits.response_body));
    ward.done(fate);
    drop(call.permit);
    Ok(())
}

/// The request's body as a reader.
fn stdin(body: WasiBody) -> impl tokio::io::AsyncRead + Send + Sync {
    // The reader must be `Sync`, which a boxed body is not.
    let frames = BodyStream::new(body).try_filter_map(|frame| async move { Ok(frame.into_data().ok()) });
    StreamReader::new(SyncStream::new(Box::pin(frames.map_err(|error: Error| io::Error::other(error)))))
}

/// Makes a response of what the program writes.
async fn answer(
    fate: &Arc<Fate>,
    mut written: DuplexStream,
    exited: tokio::sync::oneshot::Receiver<u8>,
    limit: dunlin_events::units::ByteSize,
) {
    let mut held = Vec::new();
    let whole = loop {
        match (&mut written).take((HELD + 1 - held.len()) as u64).read_buf(&mut held).await {
            Ok(0) | Err(_) => break true,
            Ok(_) if held.len() > HELD => break false,
            Ok(_) => {}
        }
    };
    if whole {
        match exited.await {
            Ok(0) => fate
                .respond(response(Full::new(Bytes::from(held)).map_err(|never| match never {}).boxed_unsync()), limit),
            Ok(code) => fate.fail(Failure::Exit { code }),
            // It trapped: whoever drives it knows why.
            Err(_) => {}
        }
        return;
    }
    let verdict = Arc::clone(fate);
    let rest = ReaderStream::with_capacity(written, HELD)
        .map_ok(Frame::data)
        .map_err(|error| Error::InternalError(Some(error.to_string())));
    let end = futures_util::stream::once(async move {
        match exited.await {
            Ok(0) => None,
            Ok(code) => {
                verdict.fail(Failure::Exit { code });
                Some(Err(Error::HttpResponseIncomplete))
            }
            Err(_) => Some(Err(Error::HttpResponseIncomplete)),
        }
    })
    .filter_map(|end| async move { end });
    let body = futures_util::stream::iter([Ok(Frame::data(Bytes::from(held)))]).chain(rest).chain(end);
    fate.respond(response(StreamBody::new(body).boxed_unsync()), limit);
    poll_fn(|cx| fate.poll_ended(cx)).await;
}

fn response(body: WasiBody) -> Response<WasiBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// The request as RFC 3875 §4.1 describes it to a program.
fn meta_variables(parts: &Parts) -> Vec<(String, String)> {
    let mut variables = vec![
        ("GATEWAY_INTERFACE".to_owned(), "CGI/1.1".to_owned()),
        ("SERVER_PROTOCOL".to_owned(), format!("{:?}", parts.version)),
        ("REQUEST_METHOD".to_owned(), parts.method.to_string()),
        ("PATH_INFO".to_owned(), parts.uri.path().to_owned()),
        ("QUERY_STRING".to_owned(), parts.uri.query().unwrap_or_default().to_owned()),
    ];
    let mut set = |name: &str, value: Option<&HeaderValue>| {
        if let Some(value) = value.and_then(|value| value.to_str().ok()) {
            variables.push((name.to_owned(), value.to_owned()));
        }
    };
    set("CONTENT_TYPE", parts.headers.get(header::CONTENT_TYPE));
    set("CONTENT_LENGTH", parts.headers.get(header::CONTENT_LENGTH));
    for name in parts.headers.keys() {
        // Credentials stay out of the environment (RFC 3875 §4.1.18), and `Proxy` would redirect the program's own
        // calls (httpoxy).
        if !matches!(name.as_str(), "content-type" | "content-length" | "authorization" | "proxy" | "cookie") {
            let variable = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
            set(&variable, parts.headers.get(name));
        }
    }
    variables
}
