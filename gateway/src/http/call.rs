//! One invocation over HTTP: what a function is given beside the caller's request, and what becomes of its answer.
//!
//! Both planes run functions through here, so ids, trace context, header rules, limits, counters and the operator's log
//! are the same for them. It knows no connection. The one rule: a failure of a function is a [`Problem`] to the caller and
//! a line of the log to the operator, and nothing is told twice.

use crate::{
    active::ActiveFunction,
    http::{
        problem::{INVOCATION, Problem},
        routes::Parameters,
        trace,
    },
};
use bytes::{Bytes, BytesMut};
use dunlin_events::{
    Body, Failure, Invocation, InvocationId,
    invocation::Effected,
    logs::{LogRecord, LogSink},
};
use futures_util::task::noop_waker;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
        UPGRADE,
    },
    request,
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use std::{
    future::poll_fn,
    io::Write,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

/// Bodies up to here are read whole before the function is called, so that a slow caller holds no sandbox.
pub(super) const READ_WHOLE: u64 = 64 << 10;

/// How long the end of a body without a declared length is waited for. Such a body may be one half of a conversation, so
/// the function must begin before it ends.
const READ_AHEAD: Duration = Duration::from_millis(100);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What belongs to a connection and never crosses to the next (RFC 9110, 7.6.1), and `Expect`, which is answered here.
/// `Trailer` is not among them: it says what the body's end will bring.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Who asks for an invocation, beside the request.
pub struct CallContext {
    pub id: InvocationId,
    /// Which worker thread is asking, as [`Invocation::worker`] has it.
    pub worker: usize,
    /// The caller's address, as `x-forwarded-for` writes it.
    pub caller: Option<HeaderValue>,
    pub parameters: Parameters,
    /// Where the operator reads how the function failed.
    pub logs: Arc<dyn LogSink>,
    /// Set by the request's body when it ends with an error because the caller was too slow.
    pub slow: Option<Arc<AtomicBool>>,
}

impl CallContext {
    /// An invocation with a new id, asked for by worker `worker`.
    pub fn new(worker: usize, logs: Arc<dyn LogSink>) -> Self {
        Self { id: InvocationId::new(), worker, caller: None, parameters: Parameters::new(), logs, slow: None }
    }
}

/// Runs a function for a request with an absolute URI. It never fails: a failure is a problem response, or, once the
/// response's head is out, the error that ends its body.
///
/// Cancel safe: dropping the future or the response's body ends the invocation.
pub async fn call(function: &Arc<ActiveFunction>, request: Request<Body>, context: CallContext) -> Response<Body> {
    answer(function, request, context).await.map(BodyExt::boxed_unsync)
}

/// [`call`] without the boxes.
pub(super) async fn answer<B>(
    function: &Arc<ActiveFunction>,
    request: Request<B>,
    context: CallContext,
) -> Response<Answer>
where
    B: HttpBody<Data = Bytes, Error = Failure> + Send + Unpin + 'static,
{
    let CallContext { id, worker, caller, parameters, logs, slow } = context;
    let (mut head, body) = request.into_parts();
    let marks = Marks::new(&head.headers, id);
    prepare(&mut head, caller, parameters, &marks);
    let head_only = head.method == Method::HEAD;
    // An invocation that is dropped from here on is counted too.
    let mut open = Open(Some(Run { function: Arc::clone(function), id, logs, started: Instant::now() }));
    let outcome = match read(body, function.version.manifest.limits.request_body.bytes()).await {
        Ok(body) => {
            let invocation = Invocation { id, worker, effects: Effected::Function(Arc::clone(&function.effects)) };
            function.handle.invoke(Request::from_parts(head, body), invocation).await
        }
        Err(Unread::TooLarge) => Err(Failure::RequestTooLarge { limit: function.version.manifest.limits.request_body }),
        Err(Unread::Broken(failure)) => Err(failure),
    };
    let outcome = outcome.and_then(|response| match response.status().is_informational() {
        false => Ok(response),
        true => Err(Failure::ErrorAnswer(format!("`{}` is no final status", response.status().as_u16()))),
    });
    match outcome {
        Ok(response) => {
            let (mut head, body) = response.into_parts();
            remove_dropped(&mut head.headers, |_| false);
            let bodiless = head_only || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            let declared = match head.headers.get(CONTENT_LENGTH) {
                _ if bodiless => None,
                Some(length) => length.to_str().ok().and_then(|length| length.parse().ok()),
                None => body.size_hint().exact(), // becomes the header
            };
            marks.write(&mut head.headers);
            let streamed = Streamed { body, run: open.0.take(), bodiless, declared, sent: 0, trailed: false };
            Response::from_parts(head, Answer::Streamed(streamed))
        }
        Err(failure) => {
            if let Some(run) = open.0.take() {
                run.ended(Err(&failure));
            }
            let mut problem = Problem::from(&failure);
            if matches!(failure, Failure::RequestBody(_)) && slow.is_some_and(|slow| slow.load(Relaxed)) {
                problem.status = StatusCode::REQUEST_TIMEOUT;
            }
            let mut response = problem.response(id).map(Answer::Own);
            marks.write(response.headers_mut());
            response
        }
    }
}

/// What marks a request and its response: who the invocation is, and which trace and request it belongs to.
pub(super) struct Marks {
    invocation: HeaderValue,
    request: HeaderValue,
    traceparent: HeaderValue,
    continued: bool,
}

impl Marks {
    fn new(headers: &HeaderMap, id: InvocationId) -> Self {
        // Both texts share one allocation.
        let mut text = Vec::with_capacity(36 + trace::LENGTH);
        write!(text, "{id}").expect("a vector takes everything");
        let uuid: [u8; 36] = text.as_slice().try_into().expect("a UUID has 36 characters");
        let continued = trace::write(headers, &uuid, &mut text);
        let mut text = Bytes::from(text);
        let value =
            |bytes| HeaderValue::from_maybe_shared(bytes).expect("a UUID and a trace context are visible ASCII");
        let invocation = value(text.split_to(uuid.len()));
        let request = match headers
            .get(REQUEST_ID)
            .filter(|value| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic))
        {
            Some(value) => value.clone(),
            None => invocation.clone(),
        };
        Self { traceparent: value(text), invocation, request, continued }
    }

    pub(super) fn write(self, headers: &mut HeaderMap) {
        headers.reserve(3);
        headers.insert(INVOCATION, self.invocation);
        headers.insert(REQUEST_ID, self.request);
        headers.insert(trace::TRACEPARENT, self.traceparent);
    }
}

/// Makes of the caller's request the one the function gets, to be run later. Answers with what marks the response.
pub(super) fn prepared(head: &mut request::Parts, context: &CallContext) -> Marks {
    let marks = Marks::new(&head.headers, context.id);
    prepare(head, context.caller.clone(), context.parameters.clone(), &marks);
    marks
}

/// The headers of a response that no function was called for.
pub(super) fn mark(request: &HeaderMap, id: InvocationId, response: &mut HeaderMap) {
    Marks::new(request, id).write(response);
}

/// Makes of the caller's headers those the function gets.
fn prepare(head: &mut request::Parts, caller: Option<HeaderValue>, parameters: Parameters, marks: &Marks) {
    let headers = &mut head.headers;
    headers.reserve(5 + parameters.len());
    remove_dropped(headers, |name| name.as_str().starts_with("dunlin-"));
    headers.insert(REQUEST_ID, marks.request.clone());
    headers.insert(trace::TRACEPARENT, marks.traceparent.clone());
    if !marks.continued {
        headers.remove(trace::TRACESTATE);
    }
    if let Some(caller) = caller {
        let chain = match headers.get(FORWARDED_FOR) {
            None => caller,
            Some(_) => {
                let mut chain = Vec::new();
                for value in headers.get_all(FORWARDED_FOR) {
                    chain.extend_from_slice(value.as_bytes());
                    chain.extend_from_slice(b", ");
                }
                chain.extend_from_slice(caller.as_bytes());
                HeaderValue::from_maybe_shared(Bytes::from(chain)).expect("made of header values")
            }
        };
        headers.insert(FORWARDED_FOR, chain);
    }
    if let Some(scheme) = head.uri.scheme_str() {
        let scheme = match scheme {
            "https" => HeaderValue::from_static("https"),
            _ => HeaderValue::from_static("http"),
        };
        headers.insert(FORWARDED_PROTO, scheme);
    }
    let host = match headers.get(HOST) {
        Some(host) => Some(host.clone()),
        None => head.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()),
    };
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
    for (name, value) in parameters {
        headers.insert(name, value);
    }
}

/// Removes what belongs to a connection, what `Connection` names, and what else is to be dropped.
///
/// Nearly always there is nothing to remove, and one look at every name is cheaper than a lookup for each candidate.
fn remove_dropped(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name) || also(name)) {
        return;
    }
    let mut dropped: Vec<HeaderName> =
        headers.keys().filter(|name| HOP_BY_HOP.contains(name) || also(name)).cloned().collect();
    for value in headers.get_all(CONNECTION) {
        let names = value.as_bytes().split(|byte| *byte == b',');
        // `Host` would be the function's idea of where it was called; no caller may take it away.
        dropped.extend(
            names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).filter(|name| name != HOST),
        );
    }
    for name in dropped {
        headers.remove(name);
    }
}

/// Why a request has no body to give.
enum Unread {
    TooLarge,
    Broken(Failure),
}

/// Reads a small body whole; a large one is left to stream.
async fn read<B>(mut body: B, limit: u64) -> Result<Body, Unread>
where
    B: HttpBody<Data = Bytes, Error = Failure> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return Ok(Empty::new().map_err(|never| match never {}).boxed_unsync()); // allocates nothing
    }
    let size = body.size_hint();
    if size.lower() > limit {
        return Err(Unread::TooLarge);
    }
    let declared = size.exact().is_some();
    if size.exact().is_some_and(|size| size > READ_WHOLE) {
        return Ok(body.boxed_unsync());
    }
    let mut head = Beginning::default();
    let mut patience = None;
    let ended = poll_fn(|cx| {
        loop {
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => head.push(frame),
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Err(Unread::Broken(failure))),
                Poll::Ready(None) => return Poll::Ready(Ok(true)),
                Poll::Pending if declared => return Poll::Pending,
                Poll::Pending => {
                    let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_AHEAD)));
                    ready!(patience.as_mut().poll(cx));
                    return Poll::Ready(Ok(false));
                }
            }
            if head.length > limit {
                return Poll::Ready(Err(Unread::TooLarge));
            }
            if head.length > READ_WHOLE {
                return Poll::Ready(Ok(false));
            }
        }
    })
    .await?;
    let data = head.data.map(BytesMut::freeze).or(head.first);
    Ok(match (ended, head.trailers) {
        (true, None) => Full::new(data.unwrap_or_default()).map_err(|never| match never {}).boxed_unsync(),
        (ended, trailers) => Prefixed { data, trailers, rest: Some(body).filter(|_| !ended) }.boxed_unsync(),
    })
}

/// What was read of a body. One frame, which is the rule, is kept as it came.
#[derive(Default)]
struct Beginning {
    first: Option<Bytes>,
    data: Option<BytesMut>,
    trailers: Option<HeaderMap>,
    length: u64,
}

impl Beginning {
    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.length += data.len() as u64;
                match (self.first.take(), &mut self.data) {
                    (None, None) => self.first = Some(data),
                    (_, Some(all)) => all.extend_from_slice(&data),
                    (Some(first), None) => {
                        let mut all = BytesMut::with_capacity(first.len() + data.len());
                        all.extend_from_slice(&first);
                        all.extend_from_slice(&data);
                        self.data = Some(all);
                    }
                }
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }
}

/// A body whose beginning was read already.
struct Prefixed<B> {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// What is still to come. Absent when it was read to its end.
    rest: Option<B>,
}

impl<B: HttpBody<Data = Bytes, Error = Failure> + Unpin> HttpBody for Prefixed<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none() && self.rest.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = self.rest.as_ref().map(HttpBody::size_hint) else {
            return SizeHint::with_exact(read);
        };
        let mut size = SizeHint::new();
        size.set_lower(read + rest.lower());
        if let Some(upper) = rest.upper() {
            size.set_upper(read + upper);
        }
        size
    }
}

/// An invocation that has begun and is to be accounted for once.
struct Run {
    function: Arc<ActiveFunction>,
    id: InvocationId,
    logs: Arc<dyn LogSink>,
    started: Instant,
}

impl Run {
    fn ended(self, outcome: Result<(), &Failure>) {
        self.function.counters.record(outcome, self.started.elapsed());
        match outcome {
            // Under overload these would push everything else out of the log; the counters have them.
            Ok(()) | Err(Failure::Busy { .. }) => {}
            Err(failure) => {
                let line = LogRecord::of_platform(&self.function.version, failure.to_string());
                self.logs.record(line.of(self.id));
            }
        }
    }

    /// The caller went away. The function isn't told off for it, so it gets no line in the log.
    fn abandoned(self) {
        let gone = Failure::RequestBody(String::new());
        self.function.counters.record(Err(&gone), self.started.elapsed());
    }
}

/// Counts an invocation whose future was dropped.
struct Open(Option<Run>);

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run.abandoned();
        }
    }
}

/// The body of a response.
pub(super) enum Answer {
    /// The platform's own.
    Own(Full<Bytes>),
    Streamed(Streamed),
}

/// The function's answer, accounted for when it ends.
pub(super) struct Streamed {
    body: Body,
    /// Until the invocation was accounted for.
    run: Option<Run>,
    /// The caller gets no body, whatever the function sends: it asked with `HEAD`, or the status has none.
    bodiless: bool,
    /// The function's `content-length`.
    declared: Option<u64>,
    sent: u64,
    /// The trailers, which come last, were handed on.
    trailed: bool,
}

impl Streamed {
    fn ended(&mut self, outcome: Result<(), &Failure>) {
        if let Some(run) = self.run.take() {
            run.ended(outcome);
        }
    }

    fn broken(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.ended(Err(&failure));
        Poll::Ready(Some(Err(failure)))
    }

    /// The caller has all it was promised, which need not be all the function does.
    fn delivered(&self) -> bool {
        self.bodiless || self.trailed || self.declared == Some(self.sent)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(failure)) => return self.broken(failure),
            None => {
                if let Some(declared) = self.declared.filter(|declared| *declared != self.sent) {
                    let sent = self.sent;
                    return self.broken(Failure::ErrorAnswer(format!(
                        "it declared {declared} bytes as `content-length` and sent {sent}"
                    )));
                }
                self.ended(Ok(()));
                return Poll::Ready(None);
            }
        };
        let frame = match frame.into_data() {
            Ok(data) => {
                self.sent += data.len() as u64;
                if let Some(declared) = self.declared.filter(|declared| *declared < self.sent) {
                    return self.broken(Failure::ErrorAnswer(format!(
                        "it declared {declared} bytes as `content-length` and sent more"
                    )));
                }
                Frame::data(data)
            }
            Err(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_dropped(trailers, |_| false);
                    self.trailed = true;
                }
                frame
            }
        };
        if self.body.is_end_stream() && (self.trailed || self.declared.is_none_or(|size| size == self.sent)) {
            self.ended(Ok(()));
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Streamed {
    /// The server drops a body as soon as nothing more of it can be sent, which is before the function has ended when it
    /// was asked with `HEAD` or has sent all it declared. Its invocation ends with the body, so then the rest of it is
    /// awaited aside: what a function does after its last byte is part of it, and a sandbox cut off can't be used again.
    fn drop(&mut self) {
        let Some(run) = self.run.take() else {
            return;
        };
        if self.body.is_end_stream() {
            return run.ended(Ok(()));
        }
        if !self.delivered() {
            return run.abandoned();
        }
        let mut body = std::mem::replace(&mut self.body, Empty::new().map_err(|never| match never {}).boxed_unsync());
        let mut end = move |cx: &mut Context<'_>| {
            loop {
                match ready!(Pin::new(&mut body).poll_frame(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(failure)) => return Poll::Ready(Err(failure)),
                    None => return Poll::Ready(Ok(())),
                }
            }
        };
        match end(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(outcome) => run.ended(outcome.as_ref().copied()),
            Poll::Pending => match tokio::runtime::Handle::try_current() {
                Ok(runtime) => {
                    runtime.spawn(async move { run.ended(poll_fn(end).await.as_ref().copied()) });
                }
                Err(_) => run.ended(Ok(())), // the platform ends, and the invocation with it
            },
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            // HTTP/2 takes a body for what it is, also in the answer to a `HEAD`.
            Self::Streamed(body) => body.bodiless || body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Streamed(body) => body.body.size_hint(),
        }
    }
}
