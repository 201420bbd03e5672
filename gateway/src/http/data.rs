//! The data plane: the listener on which functions are called, and nothing else is.
//!
//! It owns the listener, the limits of what a caller may do to it, and the way from a request to its function. What a
//! function is given and how its answer is taken is `call`'s; threads are `workers`', time-outs `connection`'s.

use crate::{
    active::ActiveFunction,
    deploy::{Deployments, Table},
    dispatch::requests,
    http::{
        call::{self, Answer, CallContext, READ_WHOLE},
        connection::{Exchange, Outgoing, Traffic},
        later,
        problem::Problem,
        routes::{Found, Parameters},
        tls::{Tls, TlsConfig, TlsError},
        webhook::Webhook,
        whole::Room,
        workers::{Accepted, Workers},
    },
};
use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use dunlin_events::{Failure, InvocationId, logs::LogSink};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{ALLOW, CONNECTION, EXPECT, HOST},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::{rt::TokioExecutor, server::conn::auto};
use std::{
    convert::Infallible,
    io,
    net::{self, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's head. More is refused with 431.
const HEAD_SIZE: u32 = 64 << 10;

/// Headers of a request. It is hyper's own number for HTTP/1.1, for which it reads heads without allocating.
const HEADERS: usize = 100;

/// How the data plane serves.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Serves HTTPS in place of HTTP.
    pub tls: Option<TlsConfig>,
    /// Threads that serve connections and run functions. Default: one for each core.
    pub workers: NonZeroUsize,
    /// Connections at once. With so many no more are accepted until one has ended. Default 10,000.
    pub connections: usize,
    pub timeouts: Timeouts,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// From a connection's start or a request's first byte to the end of its head. Default 10s.
    pub head: Duration,
    /// Without a request on a connection. Default 60s.
    pub idle: Duration,
    /// Between two parts of a request's body while it is being read. Default 20s.
    pub request: Duration,
    /// While a caller takes nothing of a response that is there. Default 30s.
    pub response: Duration,
    /// The TLS handshake. Default 10s.
    pub handshake: Duration,
    /// For requests in flight to end when the platform stops. Default 30s.
    pub grace: Duration,
}

impl Config {
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            tls: None,
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            connections: 10_000,
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            request: Duration::from_secs(20),
            response: Duration::from_secs(30),
            handshake: Duration::from_secs(10),
            grace: Duration::from_secs(30),
        }
    }
}

/// Why the data plane can't serve.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("`{address}` can't be listened on: {error}")]
    Address { address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the worker threads can't be started: {0}")]
    Workers(io::Error),
}

impl BindError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Address { .. } | Self::Workers(_) => true,
            Self::Tls(error) => error.retryable(),
        }
    }
}

/// Where the functions that are active now are found.
pub trait Tables: Send + Sync {
    /// Called for every request: it waits for nothing.
    fn table(&self) -> Guard<Arc<Table>>;

    /// Where webhooks are kept, and requests that are answered later. `None` where they can't be.
    fn deployments(&self) -> Option<&Deployments> {
        None
    }
}

impl Tables for Deployments {
    fn table(&self) -> Guard<Arc<Table>> {
        self.table()
    }

    fn deployments(&self) -> Option<&Deployments> {
        Some(self)
    }
}

impl Tables for ArcSwap<Table> {
    fn table(&self) -> Guard<Arc<Table>> {
        self.load()
    }
}

/// The data plane, listening.
pub struct DataPlane {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    workers: Workers,
}

impl DataPlane {
    /// Listens. Connections are accepted once it runs.
    pub async fn bind(config: Config, tables: Arc<dyn Tables>, logs: Arc<dyn LogSink>) -> Result<Self, BindError> {
        let address = config.listen;
        let unusable = |error| BindError::Address { address, error };
        let tls = config.tls.map(Tls::open).transpose()?;
        let listener = TcpListener::bind(address).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let plane = Arc::new(Plane::new(tables, logs, config.timeouts));
        let workers = Workers::start(config.workers, &plane).map_err(BindError::Workers)?;
        Ok(Self { listener, address, tls, places: Arc::new(Semaphore::new(config.connections)), workers })
    }

    /// Where it listens, with the port the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets the requests in flight end within the grace period.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while let Some(step) = shutdown.run_until_cancelled(self.accept()).await {
            match step {
                Ok(accepted) => self.workers.serve(accepted),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of file descriptors, nearly always. Those that end make room; hurrying would only burn the core.
                    tracing::warn!(%error, "no connection can be accepted now");
                    let _ = shutdown.run_until_cancelled(sleep(Duration::from_millis(100))).await;
                }
            }
        }
        self.accept_waiting();
        drop(self.listener);
        self.workers.drain().await;
    }

    /// Takes a place before a connection: what can't be served stays with the system.
    async fn accept(&mut self) -> io::Result<Accepted> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the semaphore is never closed");
        let (socket, peer) = self.listener.accept().await?;
        let tls = self.tls.as_mut().map(Tls::current);
        Ok(Accepted { socket: socket.into_std()?, peer, tls, place })
    }

    /// Takes what the system accepted already: closing the listener would reset those connections, with requests in them.
    fn accept_waiting(&mut self) {
        let Ok(listener) = duplicate(&self.listener) else {
            return;
        };
        while let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let Ok((socket, peer)) = listener.accept() else {
                return;
            };
            if socket.set_nonblocking(true).is_ok() {
                let tls = self.tls.as_mut().map(Tls::current);
                self.workers.serve(Accepted { socket, peer, tls, place });
            }
        }
    }
}

fn duplicate(listener: &TcpListener) -> io::Result<net::TcpListener> {
    use std::os::fd::AsFd;
    Ok(net::TcpListener::from(listener.as_fd().try_clone_to_owned()?))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// What all connections share.
pub(super) struct Plane {
    tables: Arc<dyn Tables>,
    logs: Arc<dyn LogSink>,
    pub(super) timeouts: Timeouts,
    room: Arc<Room>,
    /// HTTP/1.1, or HTTP/2 by its preface.
    pub(super) any: auto::Builder<TokioExecutor>,
    pub(super) http1: auto::Builder<TokioExecutor>,
    pub(super) http2: auto::Builder<TokioExecutor>,
}

impl Plane {
    fn new(tables: Arc<dyn Tables>, logs: Arc<dyn LogSink>, timeouts: Timeouts) -> Self {
        let mut server = auto::Builder::new(TokioExecutor::new());
        server
            .http1()
            .header_read_timeout(None) // `connection` has its own
            .max_buf_size(HEAD_SIZE as usize);
        server
            .http2()
            .max_header_list_size(HEAD_SIZE)
            .max_concurrent_streams(128)
            // Against floods of streams that are begun and reset (CVE-2023-44487, CVE-2025-8671).
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(128)
            // As much of a body as is read before the function begins, and room for several streams at once.
            .initial_stream_window_size(u32::try_from(READ_WHOLE).expect("a small number"))
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(64 << 10);
        Self {
            tables,
            logs,
            timeouts,
            room: Arc::default(),
            http1: server.clone().http1_only(),
            http2: server.clone().http2_only(),
            any: server,
        }
    }
}

/// The requests of one connection.
pub(super) struct Requests {
    pub(super) plane: Arc<Plane>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) worker: usize,
    /// The caller's address.
    pub(super) caller: HeaderValue,
    /// The address that was called, for requests that don't say whom they call.
    pub(super) local: Authority,
    pub(super) scheme: Scheme,
}

/// Whom a request is for.
enum Target {
    Function(Arc<ActiveFunction>, Parameters, Option<Arc<Webhook>>),
    /// It asks for the answer of an earlier one.
    Answer,
}

/// Why no function is called.
struct Refusal {
    problem: Problem,
    allow: Option<HeaderValue>,
}

impl Requests {
    pub(super) async fn respond(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        exchange: Exchange,
    ) -> Result<Response<Outgoing<Answer>>, Infallible> {
        let http1 = request.version() < Version::HTTP_2;
        let id = InvocationId::new();
        let mut response = match self.locate(&mut request) {
            Ok(Target::Answer) => later::status(&*self.plane.tables, &request, id).await,
            Ok(Target::Function(function, parameters, webhook)) => {
                let limit = match &webhook {
                    Some(webhook) => webhook.body_limit(&function),
                    None => function.version.manifest.limits.request_body.bytes(),
                };
                let refused = request.body().size_hint().lower() > limit;
                let close = http1 && refused;
                let (head, body) = request.into_parts();
                let body = Inbound::new(body, self.plane.timeouts.request, http1.then(|| Arc::clone(&self.traffic)));
                let context = CallContext {
                    id,
                    worker: self.worker,
                    caller: Some(self.caller.clone()),
                    parameters,
                    logs: Arc::clone(&self.plane.logs),
                    slow: body.slow.clone(),
                };
                let request = Request::from_parts(head, body);
                let mut response = match (webhook, self.plane.tables.deployments()) {
                    (Some(webhook), Some(deployments)) => {
                        webhook.answer(deployments, &function, request, context, &self.plane.room).await
                    }
                    (Some(_), None) => {
                        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "no webhooks are taken here")
                            .response(id)
                            .map(Answer::Own)
                    }
                    (None, Some(deployments)) if later::is_wanted(request.headers()) => {
                        later::accept(deployments, &function, request, context, &self.plane.room).await
                    }
                    (None, _) => call::answer(&function, request, context).await,
                };
                if close {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            Err(refusal) => self.refuse(&request, id, refusal, http1),
        };
        if http1 && self.traffic.draining() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response.map(|body| Outgoing::new(body, exchange)))
    }

    /// The function a request is for. Makes the request's URI absolute on the way.
    fn locate(&self, request: &mut Request<Incoming>) -> Result<Target, Refusal> {
        if request.headers().len() > HEADERS {
            return Err(Refusal::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers",
                "the request has too many headers",
            ));
        }
        if request.method() == Method::CONNECT {
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "not-implemented", "functions open no tunnels"));
        }
        let authority = self.authority(request)?;
        let path = match request.uri().path_and_query() {
            Some(path) => path.clone(),
            None => PathAndQuery::from_static("/"),
        };
        if !is_plain(path.path()) {
            return Err(Refusal::bad("the path has a `.` or `..` segment, or characters a URL must encode"));
        }
        if path.path().starts_with(requests::PATH) && self.plane.tables.deployments().is_some() {
            return Ok(Target::Answer);
        }
        let found = self.plane.tables.table().routes.find(Some(authority.host()), request.method(), path.path());
        match found {
            Found::Function { function, parameters, webhook } => {
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(self.scheme.clone());
                uri.authority = Some(authority);
                uri.path_and_query = Some(path);
                // `*`, the one path that is no path, has no route.
                *request.uri_mut() = Uri::from_parts(uri).expect("it has a scheme, an authority and a path");
                Ok(Target::Function(function, parameters, webhook))
            }
            Found::MethodNotAllowed { allow } => Err(Refusal {
                allow: Some(allow),
                ..Refusal::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method-not-allowed",
                    "no function answers this method here; `Allow` has those that are answered",
                )
            }),
            Found::NotFound => {
                Err(Refusal::new(StatusCode::NOT_FOUND, "not-found", "no function answers this host and path"))
            }
        }
    }

    /// Whom a request calls (RFC 9112, 3.2 and 3.3; RFC 9113, 8.3.1).
    fn authority(&self, request: &mut Request<Incoming>) -> Result<Authority, Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (host, another) = (hosts.next(), hosts.next());
        if another.is_some() {
            return Err(Refusal::bad("the request has more than one `Host`"));
        }
        let authority = match (request.uri().authority(), host) {
            (Some(authority), _) => authority.clone(),
            (None, Some(host)) if !host.is_empty() => Authority::try_from(host.as_bytes())
                .map_err(|_| Refusal::bad("`Host` is no host name with or without a port"))?,
            (None, None) if request.version() == Version::HTTP_11 => {
                return Err(Refusal::bad("the request has no `Host`"));
            }
            (None, _) => self.local.clone(),
        };
        if authority.as_str().contains('@') {
            return Err(Refusal::bad("the request's host names a user"));
        }
        // The URI decides, and the function must not see another host in the header.
        if request.uri().authority().is_some() && host.is_some_and(|host| host != authority.as_str()) {
            let host = HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII");
            request.headers_mut().insert(HOST, host);
        }
        Ok(authority)
    }

    fn refuse(&self, request: &Request<Incoming>, id: InvocationId, refusal: Refusal, http1: bool) -> Response<Answer> {
        let mut response = refusal.problem.response(id).map(Answer::Own);
        let headers = response.headers_mut();
        call::mark(request.headers(), id, headers);
        if let Some(allow) = refusal.allow {
            headers.insert(ALLOW, allow);
        }
        if http1 && !request.body().is_end_stream() {
            self.traffic.unread();
            // A small body has come along with the head, and the connection can go on after it.
            let small = request.body().size_hint().exact().is_some_and(|size| size <= READ_WHOLE);
            if !small || request.headers().contains_key(EXPECT) {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        response
    }
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, detail: &'static str) -> Self {
        Self { problem: Problem::new(status, reason, detail), allow: None }
    }

    fn bad(detail: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }
}

/// Whether a path is one that means what it says: no segment leads elsewhere, encoded or not, and all of it is visible
/// ASCII. A function that joins a parameter to a file name is not to find a `..` in it.
pub(super) fn is_plain(path: &str) -> bool {
    let mut visible = true;
    let mut dots = false;
    for byte in path.bytes() {
        visible &= byte.is_ascii_graphic();
        dots |= byte == b'.' || byte == b'%';
    }
    visible && (!dots || !path.split('/').any(is_dots))
}

/// Whether a segment is `.` or `..`, each dot as it is or as `%2e`.
fn is_dots(segment: &str) -> bool {
    let mut rest = segment.as_bytes();
    let mut dots = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    (1..=2).contains(&dots)
}

/// The body of a request on its way in.
struct Inbound {
    body: Incoming,
    /// How long the next part may take.
    patience: Duration,
    /// Since when somebody waits for it.
    since: Option<Instant>,
    /// Made at the first wait and set anew only when it fires.
    timer: Option<Pin<Box<Sleep>>>,
    /// Absent where there is no body.
    slow: Option<Arc<AtomicBool>>,
    /// Told when the body isn't read to its end, which on HTTP/1.1 is the end of the connection.
    traffic: Option<Arc<Traffic>>,
}

impl Inbound {
    fn new(body: Incoming, patience: Duration, traffic: Option<Arc<Traffic>>) -> Self {
        let (slow, traffic) = match body.is_end_stream() {
            true => (None, None),
            false => (Some(Arc::default()), traffic),
        };
        Self { body, patience, since: None, timer: None, slow, traffic }
    }

    /// Ready when the wait for the next part is over without it.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending if this.poll_patience(cx).is_pending() => Poll::Pending,
            Poll::Pending => {
                if let Some(slow) = &this.slow {
                    slow.store(true, Relaxed);
                }
                let waited = humantime::format_duration(this.patience);
                Poll::Ready(Some(Err(Failure::RequestBody(format!("the caller sent nothing for {waited}")))))
            }
            Poll::Ready(frame) => {
                this.since = None;
                match frame {
                    None => {
                        this.traffic = None;
                        Poll::Ready(None)
                    }
                    Some(Ok(mut frame)) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            remove_trusted(trailers);
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Some(Err(error)) => Poll::Ready(Some(Err(Failure::RequestBody(error.to_string())))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(traffic) = self.traffic.take().filter(|_| !self.body.is_end_stream()) {
            traffic.unread();
        }
    }
}

/// Trailers can bring no header that a function trusts, as headers can't.
fn remove_trusted(trailers: &mut HeaderMap) {
    let trusted: Vec<_> = trailers.keys().filter(|name| name.as_str().starts_with("dunlin-")).cloned().collect();
    for name in trusted {
        trailers.remove(name);
    }
}
