//! The threads that serve connections.
//!
//! ```text
//!   accept ──▶ the worker with the fewest connections ──▶ handshake, requests, sandboxes, answers: all on that thread
//! ```
//!
//! Each worker is one thread with a runtime of its own, and a connection never leaves the one it was given to. A runtime
//! that steals work moves a request between threads at every await; measured with a sandbox in it, that costs a third of
//! the throughput and doubles the slowest percent.

use crate::http::{
    connection::{self, Traffic},
    data::{Plane, Requests},
};
use http::{HeaderValue, uri::Scheme};
use hyper::service::service_fn;
use rustls::ServerConfig;
use std::{
    collections::HashMap,
    io,
    net::{self, SocketAddr},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// A connection that was accepted and is served by nobody yet.
pub(super) struct Accepted {
    pub(super) socket: net::TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Its place among the connections there may be.
    pub(super) place: OwnedSemaphorePermit,
}

/// The worker threads. Dropping this drains them.
pub(super) struct Workers(Vec<Worker>);

struct Worker {
    connections: Arc<AtomicUsize>,
    accepted: mpsc::UnboundedSender<Accepted>,
    ended: oneshot::Receiver<()>,
}

impl Workers {
    pub(super) fn start(count: NonZeroUsize, plane: &Arc<Plane>) -> io::Result<Self> {
        (0..count.get()).map(|index| Worker::start(index, Arc::clone(plane))).collect::<io::Result<_>>().map(Self)
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn serve(&self, accepted: Accepted) {
        let worker = self.0.iter().min_by_key(|worker| worker.connections.load(Relaxed)).expect("there is one or more");
        worker.connections.fetch_add(1, Relaxed);
        // A worker that is gone has panicked; its connections are closed, and what it counts keeps it from getting more.
        let _ = worker.accepted.send(accepted);
    }

    /// Lets all connections end and waits for that, for as long as the grace period allows.
    pub(super) async fn drain(self) {
        let ended: Vec<_> = self.0.into_iter().map(|worker| worker.ended).collect(); // which closes the channels
        for ended in ended {
            let _ = ended.await; // an error says that the thread has ended, as `Ok` would
        }
    }
}

impl Worker {
    fn start(index: usize, plane: Arc<Plane>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (accepted, receiver) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel::<()>();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::Builder::new().name(format!("dunlin-worker-{index}")).spawn(move || {
            serve(index, &plane, &runtime, receiver, &count);
            // What is left after the grace period is cut here: the tasks are dropped with their runtime.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(Self { connections, accepted, ended })
    }
}

/// Serves connections until no more can come and those there are have ended.
fn serve(
    index: usize,
    plane: &Arc<Plane>,
    runtime: &Runtime,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    count: &Arc<AtomicUsize>,
) {
    let open = Arc::new(Mutex::new(HashMap::new()));
    let tasks = TaskTracker::new();
    runtime.block_on(async {
        let mut number = 0_u64;
        while let Some(accepted) = accepted.recv().await {
            number += 1;
            let traffic = Arc::new(Traffic::default());
            open.lock().expect("nothing panics under this lock").insert(number, Arc::clone(&traffic));
            let entry = Entry { number, open: Arc::clone(&open), count: Arc::clone(count) };
            let plane = Arc::clone(plane);
            tasks.spawn(async move {
                let _entry = entry;
                converse(index, plane, accepted, traffic).await;
            });
        }
        for traffic in open.lock().expect("nothing panics under this lock").values() {
            traffic.drain();
        }
        tasks.close();
        if timeout(plane.timeouts.grace, tasks.wait()).await.is_err() {
            tracing::warn!(connections = tasks.len(), "the grace period is over, open connections are cut");
        }
    });
}

/// A connection's entry among those of its worker.
struct Entry {
    number: u64,
    open: Arc<Mutex<HashMap<u64, Arc<Traffic>>>>,
    count: Arc<AtomicUsize>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().expect("nothing panics under this lock").remove(&self.number);
        self.count.fetch_sub(1, Relaxed);
    }
}

/// One connection from handshake to end. What goes wrong on it is the caller's and its own affair, so nobody is told.
async fn converse(worker: usize, plane: Arc<Plane>, accepted: Accepted, traffic: Arc<Traffic>) {
    let Accepted { socket, peer, tls, place: _place } = accepted;
    let Ok(socket) = TcpStream::from_std(socket) else {
        return;
    };
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let _ = socket.set_nodelay(true); // slower without, not wrong
    let requests = Arc::new(Requests {
        plane: Arc::clone(&plane),
        traffic: Arc::clone(&traffic),
        worker,
        caller: HeaderValue::from_str(&peer.ip().to_canonical().to_string()).expect("an address is visible ASCII"),
        local: local.to_string().parse().expect("an address and a port are an authority"),
        scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
    });
    let service = service_fn(|request| {
        let exchange = requests.traffic.begin(request.version());
        Arc::clone(&requests).respond(request, exchange)
    });
    match tls {
        None => connection::serve(socket, service, &plane.any, &plane.timeouts, traffic).await,
        Some(config) => {
            let handshake = timeout(plane.timeouts.handshake, TlsAcceptor::from(config).accept(socket));
            let Ok(Ok(socket)) = handshake.await else {
                return;
            };
            let server = match socket.get_ref().1.alpn_protocol() {
                Some(b"h2") => &plane.http2,
                _ => &plane.http1,
            };
            connection::serve(socket, service, server, &plane.timeouts, traffic).await;
        }
    }
}
