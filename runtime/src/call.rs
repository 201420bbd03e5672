//! One invocation, shared by those who have a hand in it: its caller, its sandbox, and the two bodies between them.
//!
//! ```text
//!   caller ──invoke──▶ Call ─────────▶ sandbox        request body:   RequestBody (counts, remembers why it broke)
//!      ▲                                  │           response body:  ResponseBody (counts, ends the invocation when
//!      └──────── answer, once ◀───────────┘                           dropped, tells why it broke)
//! ```
//!
//! There is one answer, and the first one counts: a response head, or a [`Failure`]. A failure after the head is kept for
//! the response body to end with.

use crate::output::Log;
use bytes::Bytes;
use dunlin_events::{Body, Failure, InvocationId, invocation::Effected, units::ByteSize};
use futures_util::task::AtomicWaker;
use http::{Request, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use wasmtime_wasi_http::{Error, WasiBody};

pub(crate) type Answer = Result<Response<Body>, Failure>;

/// Who waits for what a sandbox does, as those see them who drive it.
pub(crate) trait Caller: Send + Sync {
    /// Wakes the sandbox's driver when something of this changes.
    fn watch(&self, cx: &Context<'_>);

    /// Nobody waits any more.
    fn abandon(&self);

    fn abandoned(&self) -> bool;

    /// The sandbox failed, during a call or in what the guest does after it.
    fn fail_late(&self, failure: &Failure, log: &Log);
}

/// A request on its way into a sandbox.
pub(crate) struct Call {
    pub(crate) request: Request<WasiBody>,
    pub(crate) fate: Arc<Fate>,
    /// When its time is up.
    pub(crate) deadline: Instant,
    /// Its place among the function's `limits.concurrency`.
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) effects: Effected,
}

impl Call {
    /// Whether it may share its sandbox with other calls, at the same time or after it.
    pub(crate) fn sociable(&self) -> bool {
        match self.effects {
            Effected::Function(_) => true,
            // What a sandbox does can't be told apart by call, not even by when it happens: a guest may go on after its
            // answer. So what is committed for one event needs a sandbox for itself.
            Effected::Event(_) => false,
        }
    }
}

/// How an invocation ends.
pub(crate) struct Fate {
    pub(crate) id: InvocationId,
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// Why it failed after its answer was on the way.
    failure: OnceLock<Failure>,
    /// Why its request broke off.
    broken: OnceLock<Failure>,
    /// Nobody waits for it any more.
    abandoned: AtomicBool,
    /// The response's body has ended, one way or another.
    ended: AtomicBool,
    /// Who drives the sandbox, and who serves the call within it: two, since each waits with a waker of its own.
    driver: AtomicWaker,
    server: AtomicWaker,
}

impl Fate {
    pub(crate) fn new(id: InvocationId) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let fate = Self {
            id,
            answer: Mutex::new(Some(answer)),
            failure: OnceLock::new(),
            broken: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            driver: AtomicWaker::new(),
            server: AtomicWaker::new(),
        };
        (Arc::new(fate), receiver)
    }

    fn take_answer(&self) -> Option<oneshot::Sender<Answer>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether it was answered, with a response or a failure.
    pub(crate) fn answered(&self) -> bool {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// It failed. Only the first failure counts.
    pub(crate) fn fail(&self, failure: Failure) {
        match self.take_answer() {
            Some(answer) => {
                self.ended.store(true, SeqCst);
                let _ = answer.send(Err(failure));
            }
            None => {
                let _ = self.failure.set(failure);
            }
        }
    }

    /// The guest answered.
    pub(crate) fn respond(self: &Arc<Self>, response: Response<WasiBody>, limit: ByteSize) {
        // The guest saw a request that was cut off, so what it says of it counts for nothing.
        if let Some(failure) = self.broken.get() {
            return self.fail(failure.clone());
        }
        let length = declared_length(response.headers()).unwrap_or(0).max(response.body().size_hint().lower());
        if length > limit.bytes() {
            return self.fail(Failure::ResponseTooLarge { limit });
        }
        let Some(answer) = self.take_answer() else { return };
        let response = response.map(|body| {
            let body = ResponseBody { body, fate: Arc::clone(self), limit, left: limit.bytes(), done: false };
            if body.body.is_end_stream() {
                self.end();
            }
            body.boxed_unsync()
        });
        // Dropping what can't be sent ends the invocation, as dropping a response's body does.
        drop(answer.send(Ok(response)));
    }

    fn end(&self) {
        self.ended.store(true, SeqCst);
        self.driver.wake();
        self.server.wake();
    }

    /// Waits until the response's body has ended.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended.load(SeqCst) {
            return Poll::Ready(());
        }
        self.server.register(cx.waker());
        if self.ended.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Caller for Fate {
    /// It is woken when the caller goes away or the body ends.
    fn watch(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    fn abandon(&self) {
        self.abandoned.store(true, SeqCst);
        self.end();
    }

    fn abandoned(&self) -> bool {
        self.abandoned.load(SeqCst)
    }

    /// The caller may have all it needs by then, so that nobody but the log would ever hear of it.
    fn fail_late(&self, failure: &Failure, log: &Log) {
        if self.answered() && self.ended.load(SeqCst) {
            log.platform(Some(self.id), format!("after its answer {failure}"));
        } else {
            self.fail(failure.clone());
        }
    }
}

/// What `content-length` says, if it says anything.
pub(crate) fn declared_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request's body on its way to the guest.
struct RequestBody {
    body: Body,
    fate: Arc<Fate>,
    limit: ByteSize,
    left: u64,
}

/// Makes a guest's request of a caller's.
pub(crate) fn guest_request(request: Request<Body>, fate: &Arc<Fate>, limit: ByteSize) -> Request<WasiBody> {
    request.map(|body| RequestBody { body, fate: Arc::clone(fate), limit, left: limit.bytes() }.boxed_unsync())
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(failure))) => {
                let _ = this.fate.broken.set(failure);
                return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        if let Some(data) = frame.data_ref() {
            match this.left.checked_sub(data.len() as u64) {
                Some(left) => this.left = left,
                None => {
                    let _ = this.fate.broken.set(Failure::RequestTooLarge { limit: this.limit });
                    return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.limit.bytes())))));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body on its way to the caller.
struct ResponseBody {
    body: WasiBody,
    fate: Arc<Fate>,
    limit: ByteSize,
    left: u64,
    done: bool,
}

impl ResponseBody {
    fn failed(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.done = true;
        self.fate.abandon();
        Poll::Ready(Some(Err(failure)))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    match this.left.checked_sub(data.len() as u64) {
                        Some(left) => this.left = left,
                        None => return this.failed(Failure::ResponseTooLarge { limit: this.limit }),
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // A sandbox that was ended leaves behind a body that looks complete.
            Poll::Ready(None) => match this.fate.failure.get() {
                Some(failure) => this.failed(failure.clone()),
                None => {
                    this.done = true;
                    this.fate.end();
                    Poll::Ready(None)
                }
            },
            Poll::Ready(Some(Err(error))) => {
                let failure = this.fate.failure.get().or_else(|| this.fate.broken.get()).cloned();
                this.failed(failure.unwrap_or_else(|| Failure::ErrorAnswer(error.to_string())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.fate.failure.get().is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.done || self.body.is_end_stream() { self.fate.end() } else { self.fate.abandon() }
    }
}
