//! One connection: what is going on on it, for how long that may go on, and its end.
//!
//! ```text
//!            first byte            whole head            last byte of the last answer
//!  opening ─────────────▶ head ────────────────▶ running ─────────────────────────────▶ idle ──▶ head …
//!                                                  ▲  │ bytes are there for the caller
//!                                                  └──▼
//!                                                 sending
//! ```
//!
//! Every phase but `running`, which the function's own limits bound, has a longest time. A connection has one timer for
//! all of them. It is moved only when it fires or when something must happen earlier than it would, so a request that
//! comes and goes as requests do costs no timer operation at all; hyper's own time-out costs two, and counts the idle
//! time before a request to its head.

use crate::http::data::Timeouts;
use bytes::Bytes;
use dunlin_events::Failure;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};
use tokio_rustls::server::TlsStream;

/// How long a caller may take to see the end of a connection that is closed before it has sent all it had.
const LINGER: Duration = Duration::from_secs(2);

/// How long a drained connection is kept open for a request that may be on its way.
const PARTING: Duration = Duration::from_millis(500);

/// What is going on on a connection, written by its parts and read by its clock.
///
/// All of them are on one thread: these are atomics only because tasks must be `Send`, and a load and a store do for an
/// addition.
#[derive(Default)]
pub(super) struct Traffic {
    /// Requests whose head was read and whose answer isn't over.
    open: AtomicU32,
    /// Those of them whose answer has bytes that the connection didn't take yet.
    sending: AtomicU32,
    /// Moves with everything that happens to an answer.
    moves: AtomicU32,
    /// Bytes came while no request was open.
    head: AtomicBool,
    http2: AtomicBool,
    draining: AtomicBool,
    /// The caller may still be sending what nobody will read.
    unread: AtomicBool,
    lingering: AtomicBool,
    /// The connection must not end as if all was well.
    reset: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

fn add(counter: &AtomicU32, n: i32) {
    counter.store(counter.load(Relaxed).wrapping_add_signed(n), Relaxed);
}

impl Traffic {
    /// Lets the connection end as soon as what is going on is over. Called from anywhere.
    pub(super) fn drain(&self) {
        self.draining.store(true, Relaxed);
        if let Some(waker) = &*self.waker.lock().expect("nothing panics under this lock") {
            waker.wake_by_ref();
        }
    }

    pub(super) fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// A request was read.
    pub(super) fn begin(self: &Arc<Self>, version: http::Version) -> Exchange {
        self.head.store(false, Relaxed);
        if version == http::Version::HTTP_2 {
            self.http2.store(true, Relaxed);
        }
        add(&self.open, 1);
        Exchange { traffic: Arc::clone(self), sending: false, until_close: version < http::Version::HTTP_11 }
    }
}

/// One request and its answer.
pub(super) struct Exchange {
    traffic: Arc<Traffic>,
    sending: bool,
    /// The end of the connection may be the end of the body, HTTP/1.0's way.
    until_close: bool,
}

impl Exchange {
    fn sending(&mut self, sending: bool) {
        add(&self.traffic.moves, 1);
        if self.sending != sending {
            self.sending = sending;
            add(&self.traffic.sending, if sending { 1 } else { -1 });
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.sending(false);
        add(&self.traffic.open, -1);
    }
}

/// The body of an answer on its way out.
pub(super) struct Outgoing<B> {
    body: B,
    exchange: Exchange,
}

impl<B> Outgoing<B> {
    pub(super) fn new(body: B, mut exchange: Exchange) -> Self {
        exchange.sending(true);
        Self { body, exchange }
    }
}

impl<B: Body<Data = Bytes, Error = Failure> + Unpin> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        // Whoever asks for the next frame has handed on the one before.
        this.exchange.sending(frame.is_ready());
        if this.exchange.until_close && matches!(frame, Poll::Ready(Some(Err(_)))) {
            this.exchange.traffic.reset.store(true, Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket, encrypted or not.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A socket that notes when a head begins, and that closes so that the caller sees the last answer.
struct Io<S: Socket> {
    socket: S,
    traffic: Arc<Traffic>,
}

impl<S: Socket> AsyncRead for Io<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before && self.traffic.open.load(Relaxed) == 0 {
            self.traffic.head.store(true, Relaxed);
        }
        result
    }
}

impl<S: Socket> AsyncWrite for Io<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Closing a socket with unread bytes in it makes the kernel send a reset, which can overtake the answer that said
    /// why the rest isn't wanted. So the own side is closed, and what still comes is thrown away until the caller has seen
    /// it and closes too; [`LINGER`] bounds that.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.traffic.reset.load(Relaxed) {
            return Poll::Ready(Ok(())); // the reset is sent by `drop`
        }
        if !this.traffic.lingering.load(Relaxed) {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            if !this.traffic.unread.load(Relaxed) {
                return Poll::Ready(Ok(()));
            }
            this.traffic.lingering.store(true, Relaxed);
        }
        let mut scratch = [0; 8 << 10];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }
}

impl<S: Socket> Drop for Io<S> {
    fn drop(&mut self) {
        if self.traffic.reset.load(Relaxed) {
            let _ = self.socket.tcp().set_zero_linger(); // a socket that is gone needs no reset
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S, Svc, B>(
    socket: S,
    service: Svc,
    server: &auto::Builder<TokioExecutor>,
    timeouts: &Timeouts,
    traffic: Arc<Traffic>,
) where
    S: Socket,
    Svc: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    Svc::Future: Send + 'static,
    B: Body<Data = Bytes, Error = Failure> + Send + 'static,
{
    let io = TokioIo::new(Io { socket, traffic: Arc::clone(&traffic) });
    let mut connection = pin!(server.serve_connection(io, service));
    let mut clock = Clock::new(timeouts);
    let mut registered = false;
    poll_fn(|cx| {
        if !registered {
            *traffic.waker.lock().expect("nothing panics under this lock") = Some(cx.waker().clone());
            registered = true;
        }
        loop {
            // HTTP/2 can say goodbye while requests run. HTTP/1.1 can only say it in an answer, so a connection without a
            // request is left open for a moment: its caller may be writing one just now, and would lose it.
            let draining = traffic.draining() && !clock.closing;
            if draining && (traffic.http2.load(Relaxed) || traffic.open.load(Relaxed) > 0) {
                clock.close();
                connection.as_mut().graceful_shutdown();
            }
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(()); // an error here is the caller's doing, or was told to it
            }
            match ready!(clock.poll(cx, &traffic)) {
                Expired::Close => {
                    clock.close();
                    connection.as_mut().graceful_shutdown();
                }
                Expired::Cut => return Poll::Ready(()),
            }
        }
    })
    .await;
}

/// What may go on for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Idle,
    Running,
    Sending,
    Parting,
    Lingering,
}

/// What to do when a phase went on for too long.
enum Expired {
    /// End as the protocol has it, and cut if that takes long too.
    Close,
    Cut,
}

struct Clock<'a> {
    timeouts: &'a Timeouts,
    /// The phase, and how often an answer had moved in it: both unchanged means that nothing happened.
    seen: (Phase, u32),
    since: Instant,
    timer: Pin<Box<Sleep>>,
    /// The timer knows whom to wake.
    registered: bool,
    /// The end was announced; the caller has [`LINGER`] to see it.
    closing: bool,
}

impl<'a> Clock<'a> {
    fn new(timeouts: &'a Timeouts) -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + timeouts.head));
        Self { timeouts, seen: (Phase::Head, 0), since: now, timer, registered: false, closing: false }
    }

    /// Ready when the current phase has gone on for too long.
    fn poll(&mut self, cx: &mut Context<'_>, traffic: &Traffic) -> Poll<Expired> {
        let seen = (self.phase(traffic), traffic.moves.load(Relaxed));
        if seen != self.seen {
            self.seen = seen;
            self.since = Instant::now();
        }
        let (limit, expired) = match seen.0 {
            Phase::Head => (self.timeouts.head, Expired::Cut),
            Phase::Idle | Phase::Parting if self.closing => (LINGER, Expired::Cut),
            Phase::Idle => (self.timeouts.idle, Expired::Close),
            Phase::Sending => (self.timeouts.response, Expired::Cut),
            Phase::Parting => (PARTING.min(self.timeouts.idle), Expired::Close),
            Phase::Lingering => (LINGER, Expired::Cut),
            Phase::Running => return self.wait(cx, None).map(|()| Expired::Cut),
        };
        self.wait(cx, Some(self.since + limit)).map(|()| expired)
    }

    fn close(&mut self) {
        self.closing = true;
        self.since = Instant::now();
    }

    fn phase(&self, traffic: &Traffic) -> Phase {
        if traffic.lingering.load(Relaxed) {
            Phase::Lingering
        } else if traffic.open.load(Relaxed) > 0 {
            if traffic.sending.load(Relaxed) > 0 { Phase::Sending } else { Phase::Running }
        } else if traffic.http2.load(Relaxed) {
            Phase::Idle // what comes between requests is no head, but pings and the like
        } else if traffic.head.load(Relaxed) {
            Phase::Head
        } else if traffic.draining() {
            Phase::Parting
        } else if traffic.moves.load(Relaxed) == 0 {
            Phase::Head // nothing has come yet
        } else {
            Phase::Idle
        }
    }

    /// Waits for the deadline, with a timer that may be set for earlier but never for later.
    fn wait(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        if let Some(deadline) = deadline.filter(|deadline| *deadline < self.timer.deadline()) {
            self.timer.as_mut().reset(deadline);
            self.registered = false;
        }
        if self.registered && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            match deadline {
                Some(deadline) if deadline <= now => return Poll::Ready(()),
                Some(deadline) => self.timer.as_mut().reset(deadline),
                None => self.timer.as_mut().reset(now + Duration::from_secs(3600)),
            }
        }
        self.registered = true;
        Poll::Pending
    }
}
