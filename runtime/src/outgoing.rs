//! Outgoing HTTP: every call of a guest passes here, and goes only where its manifest allows.
//!
//! The server's name is checked before anything is looked up, and the addresses it resolves to are checked before
//! anything is connected, in the connector itself: so that a kept connection was checked too, and a name can't be pointed
//! elsewhere between check and connect. Connections are pooled for one function alone, since another function's manifest
//! may not allow what this one's does. Redirects are the guest's own: each is a new call.
//!
//! One server is the platform itself, and its name is never looked up: see `sink.rs`.

use crate::{access::Access, sink};
use dunlin_events::allow::{Destinations, parse_address};
use futures_util::future::{BoxFuture, Either, select};
use http::{HeaderValue, Request, Response, Uri, header::HeaderName, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection, capture_connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::pki_types::ServerName;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Until a connection stands, TLS included, where the guest doesn't say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of a response, and between two pieces of its body, where the guest doesn't say. The invocation's own
/// time is the tighter bound nearly always.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_CONNECTIONS: usize = 16;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The `wasi:http` hooks of one sandbox.
pub(crate) struct Outgoing {
    client: Option<Arc<Client>>,
    /// Calls the invocation may still make.
    left: u32,
    /// The trace the invocation belongs to, given to calls that carry none of their own.
    trace: Option<HeaderValue>,
    /// For what is sent to the sink.
    pub(crate) access: Access,
}

impl Outgoing {
    pub(crate) fn new(client: Option<Arc<Client>>, access: Access) -> Self {
        Self { client, left: 0, trace: None, access }
    }

    /// An invocation begins.
    pub(crate) fn begin(&mut self, requests: u32, trace: Option<HeaderValue>, alone: bool) {
        self.left = if alone { requests } else { self.left.saturating_add(requests) };
        self.trace = if alone { trace } else { None };
    }

    fn admit(&mut self, request: &Request<WasiBody>) -> Result<Arc<Client>, Error> {
        let uri = request.uri();
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        let client = self.client.as_ref().ok_or(Error::HttpRequestDenied)?;
        if !client.destinations.names(scheme, host, uri.port_u16()) {
            return Err(Error::HttpRequestDenied);
        }
        self.left = self.left.checked_sub(1).ok_or(Error::ConnectionLimitReached)?;
        Ok(Arc::clone(client))
    }
}

type SendResult = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        if request.uri().host().is_some_and(|host| host.eq_ignore_ascii_case(sink::HOST)) {
            let access = self.access.clone();
            return Box::new(async move { Ok((sink::answer(access, request).await?, done())) });
        }
        let admitted = self.admit(&request);
        if let Some(trace) = &self.trace
            && !request.headers().contains_key(TRACEPARENT)
        {
            request.headers_mut().insert(TRACEPARENT, trace.clone());
        }
        Box::new(async move {
            let response = admitted?.send(request, options.unwrap_or_default()).await?;
            Ok((response, done()))
        })
    }
}

/// Nothing is left to do for a request once its response is there.
fn done() -> Box<dyn Future<Output = Result<(), Error>> + Send> {
    Box::new(async { Ok(()) })
}

/// The connections of one function.
pub(crate) struct Client {
    destinations: Arc<Destinations>,
    pool: legacy::Client<Connector, WasiBody>,
}

impl Client {
    pub(crate) fn new(destinations: Destinations, tls: Arc<Tls>) -> Self {
        let destinations = Arc::new(destinations);
        let pool = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            // What to do about a request that failed on a kept connection is the guest's to say.
            .retry_canceled_requests(true)
            .build(Connector { destinations: Arc::clone(&destinations), tls });
        Self { destinations, pool }
    }

    async fn send(&self, mut request: Request<WasiBody>, options: RequestOptions) -> Result<Response<WasiBody>, Error> {
        let connect = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let first_byte = options.first_byte_timeout.unwrap_or(READ_TIMEOUT);
        let mut connection = capture_connection(&mut request);
        let connected = pin!(async move { drop(connection.wait_for_connection_metadata().await) });
        let response = self.pool.request(request);
        let response = match timeout(connect, select(response, connected)).await {
            Err(_) => return Err(Error::ConnectionTimeout),
            Ok(Either::Left((response, _))) => response,
            Ok(Either::Right(((), response))) => {
                timeout(first_byte, response).await.map_err(|_| Error::ConnectionReadTimeout)?
            }
        };
        let response = response.map_err(explain)?;
        let between_bytes = options.between_bytes_timeout.unwrap_or(READ_TIMEOUT);
        Ok(response.map(|body| TimedBody { body, between_bytes, sleep: None }.boxed_unsync()))
    }
}

/// Why the pool could not send, in the words of `wasi:http`.
fn explain(error: legacy::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(refused) = inner.downcast_ref::<ConnectError>() {
            return match refused {
                ConnectError::Prohibited => Error::DestinationIpProhibited,
                ConnectError::Name(reason) => Error::DnsError { rcode: Some(reason.clone()), info_code: None },
                ConnectError::Timeout => Error::ConnectionTimeout,
                ConnectError::Refused(_) => Error::ConnectionRefused,
                ConnectError::Certificate(_) => Error::TlsCertificateError,
                ConnectError::Tls(_) => Error::TlsProtocolError,
            };
        }
        if let Some(io) = inner.downcast_ref::<io::Error>()
            && matches!(
                io.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            )
        {
            return Error::ConnectionTerminated;
        }
        if let Some(hyper) = inner.downcast_ref::<hyper::Error>() {
            if hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed() {
                return Error::ConnectionTerminated;
            }
            if hyper.is_parse() {
                return Error::HttpProtocolError;
            }
        }
        source = inner.source();
    }
    Error::InternalError(Some(error.to_string()))
}

/// How servers are recognised: the system's certificates, or Mozilla's where the system has none. Read when first needed.
#[derive(Default)]
pub(crate) struct Tls(OnceLock<Arc<rustls::ClientConfig>>);

impl Tls {
    fn config(&self) -> Arc<rustls::ClientConfig> {
        Arc::clone(self.0.get_or_init(|| {
            let mut roots = rustls::RootCertStore::empty();
            let native = rustls_native_certs::load_native_certs();
            for error in &native.errors {
                tracing::warn!(%error, "failed to read one of the system's certificates");
            }
            roots.add_parsable_certificates(native.certs);
            if roots.is_empty() {
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring supports the default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(config)
        }))
    }
}

/// Connects to where the manifest allows.
#[derive(Clone)]
struct Connector {
    destinations: Arc<Destinations>,
    tls: Arc<Tls>,
}

#[derive(Debug)]
enum ConnectError {
    /// Every address the name resolves to is one the function may not reach.
    Prohibited,
    Name(String),
    Timeout,
    Refused(io::Error),
    Certificate(io::Error),
    Tls(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prohibited => f.write_str("the address is private and not allowed"),
            Self::Name(reason) => write!(f, "the name can't be resolved: {reason}"),
            Self::Timeout => f.write_str("no connection in time"),
            Self::Refused(error) => write!(f, "no connection: {error}"),
            Self::Certificate(error) => write!(f, "the server's certificate is not trusted: {error}"),
            Self::Tls(error) => write!(f, "no TLS connection: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl Connector {
    async fn connect(self, uri: Uri) -> Result<Stream, ConnectError> {
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.resolve(host, port).await?;
        let tcp = dial(&addresses).await.map_err(ConnectError::Refused)?;
        let _ = tcp.set_nodelay(true);
        if !secure {
            return Ok(Stream::Plain(tcp));
        }
        let name = match parse_address(host) {
            Some(address) => ServerName::IpAddress(address.into()),
            None => ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Name(error.to_string()))?,
        };
        let tls = TlsConnector::from(self.tls.config()).connect(name, tcp).await.map_err(|error| {
            let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match certificate {
                Some(rustls::Error::InvalidCertificate(_)) => ConnectError::Certificate(error),
                _ => ConnectError::Tls(error),
            }
        })?;
        Ok(Stream::Tls(Box::new(tls)))
    }

    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        let found: Vec<IpAddr> = match parse_address(host) {
            Some(address) => vec![address],
            None => tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| ConnectError::Name(error.to_string()))?
                .map(|address| address.ip())
                .collect(),
        };
        if found.is_empty() {
            return Err(ConnectError::Name("it has no address".into()));
        }
        let permitted: Vec<_> = found
            .into_iter()
            .filter(|address| self.destinations.permits(*address))
            .map(|address| SocketAddr::new(address, port))
            .collect();
        if permitted.is_empty() { Err(ConnectError::Prohibited) } else { Ok(permitted) }
    }
}

/// Tries one address after the other.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<TokioIo<Stream>, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connect = self.clone().connect(uri);
        Box::pin(async move {
            let stream = timeout(CONNECT_TIMEOUT, connect).await.map_err(|_| ConnectError::Timeout)??;
            Ok(TokioIo::new(stream))
        })
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            _ => Connected::new(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A response body that must not pause for longer than `between_bytes`.
struct TimedBody {
    body: hyper::body::Incoming,
    between_bytes: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body for TimedBody {
    type Data = bytes::Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(sleep) = &mut this.sleep {
                    sleep.as_mut().reset(Instant::now() + this.between_bytes);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => {
                let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(this.between_bytes)));
                sleep.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
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
