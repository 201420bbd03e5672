//! Two lanes for running guests: the hot lane, on the thread the request came in on, and the heavy lane beside it.
//!
//! Most invocations compute for microseconds. They are fastest when nothing moves, so each starts on the thread that
//! accepted its request. One that has computed for longer than [`HOT_LIMIT`] is moved, in the middle of its run, to the
//! heavy lane: threads of lower priority, where long computations share what the others leave. So an endless loop delays
//! its neighbours by a few milliseconds once, and not by its slice again and again until its time is up.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// What one invocation may compute on the thread of its request.
const HOT_LIMIT: Duration = Duration::from_millis(5);

/// How much a sandbox has computed, and where it does.
#[derive(Default)]
pub(crate) struct Meter {
    /// Nanoseconds spent computing since the sandbox was last without an invocation.
    computed: AtomicU64,
    /// Nanoseconds it may before it is heavy: more, the more invocations it serves at once.
    hot: AtomicU64,
    heavy: AtomicBool,
    /// Nanoseconds of the last poll.
    last: AtomicU64,
}

impl Meter {
    /// How long the last poll computed.
    pub(crate) fn last(&self) -> Duration {
        Duration::from_nanos(self.last.load(Relaxed))
    }

    /// An invocation begins; `alone` when the sandbox has no other.
    pub(crate) fn begin(&self, alone: bool) {
        let before = if alone { 0 } else { self.hot.load(Relaxed) };
        self.hot.store(before.saturating_add(HOT_LIMIT.as_nanos() as u64), Relaxed);
        if alone {
            self.computed.store(0, Relaxed);
        }
    }

    /// Whether the sandbox has been moved to the heavy lane.
    pub(crate) fn moved(&self) -> bool {
        self.heavy.load(Relaxed)
    }

    fn is_heavy(&self) -> bool {
        self.computed.load(Relaxed) >= self.hot.load(Relaxed)
    }

    pub(crate) fn computed(&self) -> Duration {
        Duration::from_nanos(self.computed.load(Relaxed))
    }

    /// Polls a sandbox and counts the time it takes. In the hot lane that is the time on the clock, which costs next to
    /// nothing to read; in the heavy lane, where threads wait for a processor, the processor time of the thread.
    pub(crate) fn measure<T>(&self, poll: impl FnOnce() -> T) -> T {
        let spent;
        let result;
        if self.heavy.load(Relaxed) {
            let start = thread_time();
            result = poll();
            spent = thread_time().saturating_sub(start);
        } else {
            let start = Instant::now();
            result = poll();
            spent = start.elapsed();
        }
        // One thread at a time polls a sandbox, so load and store need not be one step.
        let spent = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.last.store(spent, Relaxed);
        self.computed.store(self.computed.load(Relaxed).saturating_add(spent), Relaxed);
        result
    }
}

fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The threads of the heavy lane.
pub(crate) struct Lanes {
    heavy: tokio::runtime::Handle,
}

/// A sandbox's run.
pub(crate) type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Lanes {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let heavy = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("heavy")
            .enable_all()
            .on_thread_start(lower_priority)
            .build()?;
        let handle = heavy.handle().clone();
        // It ends with the process. A runtime that is shut down takes its clock from tasks that are being polled, which panics.
        std::mem::forget(heavy);
        Ok(Self { heavy: handle })
    }

    /// Runs a sandbox on the current thread's runtime until it turns out to be heavy.
    pub(crate) fn spawn(&self, run: Run, meter: Arc<Meter>) {
        tokio::spawn(Hot { run: Some(run), meter, heavy: self.heavy.clone() });
    }
}

/// Lets the hot lane and the rest of the platform go first. Where that is not possible, the heavy lane competes.
pub(crate) fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        // On Linux the priority of "process" `tid` is that of the one thread.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 10);
    }
}

struct Hot {
    run: Option<Run>,
    meter: Arc<Meter>,
    heavy: tokio::runtime::Handle,
}

impl Future for Hot {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(run) = &mut this.run else { return Poll::Ready(()) };
        if run.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.meter.is_heavy() {
            this.meter.heavy.store(true, Relaxed);
            if let Some(run) = this.run.take() {
                this.heavy.spawn(run);
            }
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
