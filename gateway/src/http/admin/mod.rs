//! The admin plane: the listener operators and `dunlin` the client talk to.
//!
//! It owns who may talk to it ([`guard`]), what can be asked ([`operations`], with a file for each kind of thing), its
//! description ([`openapi`]) and the answers when something can't be done ([`refusal`]). Its speed matters little and its surface much, so it is a plain axum router
//! on the process's own runtime, apart from the data plane's workers: a deploy of ten thousand functions delays no request.

mod consumers;
mod dead_letters;
mod events;
mod functions;
mod guard;
mod logs;
mod openapi;
mod operations;
mod publish;
mod refusal;
mod request;
mod state;
mod topics;
mod triggers;

use crate::{
    backend::Backend,
    deploy::Deployments,
    http::tls::{Tls, TlsConfig, TlsError},
};
use axum::{Router, body::Body, response::IntoResponse};
use bytes::Bytes;
use dunlin_events::{secrets::SecretValue, units::ByteSize};
use guard::Guard;
use http::{Request, Response, StatusCode, uri::Scheme};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use refusal::Refusal;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

/// How the admin plane is served.
pub struct AdminConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a request must present. Without one the plane listens on loopback addresses only.
    pub token: Option<SecretValue>,
    /// Serves HTTPS in place of HTTP.
    pub tls: Option<TlsConfig>,
    /// The largest component an upload may hold.
    pub component_limit: ByteSize,
    /// The first number that no worker of the data plane has: functions invoked through the admin plane run as that one's.
    pub worker: usize,
    /// How long requests may take to end after the plane was told to stop.
    pub grace: Duration,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8081)),
            token: None,
            tls: None,
            component_limit: ByteSize::mib(100),
            worker: 0,
            grace: Duration::from_secs(30),
        }
    }
}

/// Why the admin plane can't listen.
#[derive(Debug, thiserror::Error)]
pub enum AdminBindError {
    #[error(
        "the admin plane won't listen on `{0}` without a token: whoever reaches it could deploy code. set a token, or listen on `127.0.0.1`"
    )]
    Open(SocketAddr),
    #[error("the admin plane's token is empty")]
    EmptyToken,
    #[error("the admin plane can't listen on `{address}`: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl AdminBindError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Open(_) | Self::EmptyToken => false,
            Self::Listen { .. } => true,
            Self::Tls(error) => error.retryable(),
        }
    }
}

/// The admin plane, listening.
pub struct AdminPlane {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    guard: Arc<Guard>,
    app: Arc<App>,
    grace: Duration,
}

/// What the operations work on.
pub(crate) struct App {
    deployments: Arc<Deployments>,
    backend: Backend,
    component_limit: u64,
    worker: usize,
    openapi: Bytes,
    scheme: Scheme,
    /// `Authorization` is for the plane, not for the functions invoked through it.
    token: bool,
    /// Ends what would never end by itself: those who follow the log or a topic.
    stopping: CancellationToken,
}

/// Connections served at once; more wait to be accepted. Operators are few, and each connection costs memory.
const CONNECTIONS: usize = 256;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const TIDY_INTERVAL: Duration = Duration::from_secs(600);

impl AdminPlane {
    pub async fn bind(config: AdminConfig, deployments: Arc<Deployments>) -> Result<Self, AdminBindError> {
        match &config.token {
            Some(token) if token.expose().is_empty() => return Err(AdminBindError::EmptyToken),
            None if !config.listen.ip().is_loopback() => return Err(AdminBindError::Open(config.listen)),
            _ => {}
        }
        let tls = config.tls.map(Tls::open).transpose()?;
        let listen = |error| AdminBindError::Listen { address: config.listen, error };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let app = App {
            backend: deployments.backend().clone(),
            deployments,
            component_limit: config.component_limit.bytes(),
            worker: config.worker,
            openapi: openapi::document(&operations::all()).to_string().into(),
            scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            token: config.token.is_some(),
            stopping: CancellationToken::new(),
        };
        Ok(Self {
            listener,
            address,
            tls,
            guard: Arc::new(Guard { token: config.token }),
            app: Arc::new(app),
            grace: config.grace,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets requests end for the grace period. Meanwhile it also keeps house: uploads nobody
    /// deployed and compiled code nobody needs are removed.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (graceful, connections, cut) = (GracefulShutdown::new(), TaskTracker::new(), CancellationToken::new());
        let app = Arc::clone(&self.app);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.accept(&graceful, &connections, &cut) => {}
            () = tidy(&app.deployments) => {}
        }
        drop(self.listener);
        self.app.stopping.cancel();
        connections.close();
        let ended = async {
            graceful.shutdown().await;
            connections.wait().await;
        };
        if time::timeout(self.grace, ended).await.is_err() {
            tracing::warn!("requests to the admin plane did not end in time and were cut off");
            cut.cancel();
            connections.wait().await;
        }
    }

    async fn accept(&mut self, graceful: &GracefulShutdown, connections: &TaskTracker, cut: &CancellationToken) {
        let router = operations::router().with_state(Arc::clone(&self.app));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or a connection that was gone already: either passes.
                    tracing::warn!(%error, "the admin plane can't accept a connection");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let tls = self.tls.as_mut().map(|tls| TlsAcceptor::from(tls.current()));
            let (router, guard, watcher) = (router.clone(), Arc::clone(&self.guard), graceful.watcher());
            connections.spawn(cut.clone().run_until_cancelled_owned(async move {
                let _place = place;
                let service = service_fn(move |request| answer(router.clone(), Arc::clone(&guard), request));
                let mut server = auto::Builder::new(TokioExecutor::new());
                server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                server.http2().timer(TokioTimer::new()).keep_alive_interval(Some(Duration::from_secs(20)));
                let ended = match tls {
                    None => {
                        let _ = stream.set_nodelay(true);
                        watcher.watch(server.serve_connection(TokioIo::new(stream), service).into_owned()).await
                    }
                    Some(tls) => match handshake(tls, stream).await {
                        Ok(stream) => {
                            watcher.watch(server.serve_connection(TokioIo::new(stream), service).into_owned()).await
                        }
                        Err(error) => Err(error.into()),
                    },
                };
                if let Err(error) = ended {
                    tracing::debug!(error = &*error, "a connection to the admin plane broke off");
                }
            }));
        }
    }
}

async fn handshake(tls: TlsAcceptor, stream: TcpStream) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await?
}

/// Answers one request, if it may be made at all.
async fn answer(
    mut router: Router,
    guard: Arc<Guard>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    match guard.admit(&request) {
        Ok(()) => router.call(request).await,
        Err(refusal) => Ok(refusal.into_response()),
    }
}

async fn tidy(deployments: &Deployments) {
    let mut interval = time::interval(TIDY_INTERVAL);
    loop {
        interval.tick().await;
        deployments.tidy().await;
    }
}

async fn not_found() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "the admin API has no such path; `/api/openapi.json` lists what it has")
}

async fn method_not_allowed() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "the path is there, but not with this method")
}
