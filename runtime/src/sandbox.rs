//! A sandbox: one store with one instance, the invocations it serves, and everything that ends it.
//!
//! ```text
//!   drive                 polls the guest, counts what it computes, and between two polls asks: is a deadline over, is
//!    │                    the computing time used up, has the caller gone? Only from out here can a guest that never
//!    ▼                    gives way be ended, by dropping it (inside, wasmtime's event loop stands still: #11869).
//!   serve                 inside the store: takes calls, runs the handler, waits for what the guest does afterwards.
//! ```
//!
//! A sandbox that may be used again offers itself on its shard between two calls: see [`Seat`].

use crate::{
    access::Account,
    call::{Call, Caller, Fate},
    engine::{TICK, TickerGuard},
    function::{Loaded, Policy},
    host::Host,
    keyvalue::Unavailable,
    lanes::Meter,
    output::{Log, Output},
};
use dunlin_events::Failure;
use futures_util::{
    StreamExt,
    future::{BoxFuture, poll_fn},
    stream::FuturesUnordered,
    task::AtomicWaker,
};
use http::{HeaderValue, uri::Scheme};
use std::{
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use wasmtime::{AsContextMut, Store, component::Accessor};
use wasmtime_wasi_http::{WasiHttpView, p2, p3};

/// A component that answers HTTP.
pub(crate) enum HandlerPre {
    P2(p2::bindings::ProxyPre<Host>),
    P3(p3::bindings::ServicePre<Host>),
}

/// What keeps a sandbox's places taken while it lives.
pub(crate) struct Tenancy {
    pub(crate) _sandbox: OwnedSemaphorePermit,
    pub(crate) _ticker: TickerGuard,
}

/// What a sandbox's inside and outside tell each other.
pub(crate) struct Ward {
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory_exceeded: Arc<AtomicBool>,
    running: Mutex<Running>,
}

struct Running {
    calls: Vec<(Instant, Arc<dyn Caller>)>,
    /// When what the guest does without a call must have ended: after-work at the deadline of the last call, waiting for
    /// the next call at the end of the idle time.
    rest: Instant,
    /// Takes no more calls.
    retired: bool,
    /// Calls have ended since the guest was last without work, so some of what it does may be after-work of theirs.
    afterwork: bool,
    /// Computing time the guest may use, for all calls since it was last without one.
    computing: std::time::Duration,
}

impl Ward {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            meter: Arc::default(),
            memory_exceeded: Arc::default(),
            running: Mutex::new(Running {
                calls: Vec::new(),
                rest: Instant::now(),
                retired: false,
                afterwork: false,
                computing: std::time::Duration::ZERO,
            }),
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins. Says whether it has the sandbox for itself.
    pub(crate) fn begin(&self, deadline: Instant, caller: Arc<dyn Caller>, computing: std::time::Duration) -> bool {
        let mut running = self.running();
        let alone = running.calls.is_empty();
        self.meter.begin(alone);
        if alone {
            self.memory_exceeded.store(false, SeqCst);
            running.computing = computing;
        } else {
            running.computing = running.computing.saturating_add(computing);
        }
        running.calls.push((deadline, caller));
        running.rest = deadline;
        alone
    }

    /// The next call begins of a caller that has one after the other. It stays in the lane the calls before it brought it
    /// to: events that come without end are no reason to keep requests waiting.
    pub(crate) fn renew(&self, deadline: Instant, computing: std::time::Duration) {
        let mut running = self.running();
        self.memory_exceeded.store(false, SeqCst);
        // The poll under way is counted when it ends, a tick after it began, and most of it may be of the calls before.
        running.computing = self.meter.computed().saturating_add(computing).saturating_add(2 * TICK);
        for (end, _) in &mut running.calls {
            *end = deadline;
        }
        running.rest = deadline;
    }

    pub(crate) fn done(&self, fate: &Arc<Fate>) {
        let mut running = self.running();
        running.calls.retain(|(_, other)| !std::ptr::addr_eq(Arc::as_ptr(fate), Arc::as_ptr(other)));
        running.afterwork = true;
    }

    /// There is no call, and it waits for the next for so long.
    fn rest(&self, idle: std::time::Duration) {
        self.running().rest = Instant::now() + idle;
    }

    fn retired(&self) -> bool {
        self.running().retired
    }

    /// Ends all calls there are. The sandbox is about to go.
    pub(crate) fn fail_all(&self, failure: &Failure, log: &Log) {
        let calls = {
            let mut running = self.running();
            running.retired = true;
            std::mem::take(&mut running.calls)
        };
        for (_, caller) in calls {
            caller.fail_late(failure, log);
        }
    }

    /// Why the guest broke off.
    pub(crate) fn explain(&self, error: &wasmtime::Error, policy: &Policy, output: &Output) -> Failure {
        if let Some(Unavailable(reason)) = error.downcast_ref() {
            return Failure::Unavailable(reason.clone());
        }
        if self.memory_exceeded.load(SeqCst) {
            return Failure::Memory { limit: policy.limits.memory };
        }
        if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return Failure::Exit { code: u8::try_from(exit.0 & 0xff).unwrap_or(1) };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Failure::Exhausted(error.to_string());
        }
        // What matters comes first: a list shows a line.
        let reason = output.last_words().unwrap_or_else(|| error.root_cause().to_string());
        Failure::Trap(format!("{reason}\n{error:?}"))
    }
}

/// Drives a guest to its end or the end of what it may use, whichever comes first.
pub(crate) async fn drive(
    guest: impl Future<Output = wasmtime::Result<()>>,
    ward: &Ward,
    policy: &Policy,
    seat: Option<&Seat>,
    log: &Log,
    output: &Output,
) {
    let mut guest = pin!(guest);
    let mut sleep: Option<Pin<Box<Sleep>>> = None;
    let mut moved = false;
    poll_fn(|cx| {
        // A timer is of the lane it was made on, and must not outlive it: the heavy lane ends last.
        if ward.meter.moved() != moved {
            (moved, sleep) = (true, None);
        }
        match ward.meter.measure(|| guest.as_mut().poll(cx)) {
            Poll::Ready(Ok(())) => return Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                ward.fail_all(&ward.explain(&error, policy, output), log);
                return Poll::Ready(());
            }
            Poll::Pending => {}
        }
        // A sandbox with calls can take one more when they wait for something. A guest that computed for that long in one
        // go does not.
        if let Some(seat) = seat
            && ward.meter.last() < TICK / 2
        {
            seat.offer();
        }
        loop {
            match judge(ward, policy, seat, log, cx) {
                Verdict::End => return Poll::Ready(()),
                Verdict::Until(deadline) => {
                    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                    // A timer that goes off too early only asks once more, which is cheaper than moving it for every call.
                    if sleep.is_elapsed() || deadline < sleep.deadline() {
                        sleep.as_mut().reset(deadline);
                    }
                    match sleep.as_mut().poll(cx) {
                        // Time has passed: some deadline is over now.
                        Poll::Ready(()) => {}
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
        }
    })
    .await;
}

enum Verdict {
    End,
    /// Let it run, and ask again then at the latest.
    Until(Instant),
}

fn judge(ward: &Ward, policy: &Policy, seat: Option<&Seat>, log: &Log, cx: &Context<'_>) -> Verdict {
    let now = Instant::now();
    let mut running = ward.running();
    if ward.meter.computed() > running.computing {
        drop(running);
        ward.fail_all(&Failure::Cpu { limit: policy.limits.cpu }, log);
        return Verdict::End;
    }
    // Before anything is asked of them, so that nothing that happens in between is missed.
    for (_, caller) in &running.calls {
        caller.watch(cx);
    }
    // A call can't be ended without its sandbox. So it is when nobody waits for any call in it; what an earlier call of a
    // shared sandbox goes on doing after its answer is no business of those who left.
    let shared = seat.is_some() && policy.shared();
    let left = !(shared && running.afterwork) && running.calls.iter().all(|(_, caller)| caller.abandoned());
    let before = running.calls.len();
    let mut over = Vec::new();
    running.calls.retain(|(deadline, caller)| {
        let late = *deadline <= now;
        if late {
            over.push(Arc::clone(caller));
        }
        !(late || left)
    });
    let ended = running.calls.len() < before;
    if ended {
        running.retired = true;
    }
    let empty = running.calls.is_empty();
    let next = running.calls.iter().map(|(deadline, _)| *deadline).min().unwrap_or(running.rest);
    drop(running);
    for caller in over {
        caller.fail_late(&Failure::Time { limit: policy.limits.time }, log);
    }
    if empty && (ended || next <= now) {
        // A call may have come in since; if so the sandbox goes on, and its deadline counts.
        if !ended && seat.is_some_and(|seat| !seat.withdraw()) {
            return Verdict::Until(now + std::time::Duration::from_millis(1));
        }
        return Verdict::End;
    }
    Verdict::Until(next)
}

/// Runs the calls of one HTTP sandbox.
pub(crate) async fn serve(
    mut store: Store<Host>,
    pre: &HandlerPre,
    first: Call,
    loaded: &Loaded,
    ward: &Ward,
    output: &Output,
    seat: Option<&Seat>,
) -> wasmtime::Result<()> {
    let policy = &loaded.policy;
    begin(store.data_mut(), &first, policy, ward, output, seat.is_some());
    match pre {
        HandlerPre::P2(pre) => {
            let proxy = pre.instantiate_async(&mut store).await?;
            serve_in_turn(store, &proxy, first, policy, ward, output, seat).await
        }
        HandlerPre::P3(pre) => {
            let service = &pre.instantiate_async(&mut store).await?;
            store
                .run_concurrent(async |accessor| {
                    let Some(seat) = seat else {
                        handle(accessor, service, first, policy, ward).await?;
                        return poll_fn(|cx| accessor.poll_no_interesting_tasks(cx).map(Ok)).await;
                    };
                    serve_many(accessor, service, first, policy, ward, output, seat).await
                })
                .await?
        }
    }
}

/// Serves one call after the other: all that WASI 0.2 can.
async fn serve_in_turn(
    mut store: Store<Host>,
    proxy: &p2::bindings::Proxy,
    first: Call,
    policy: &Policy,
    ward: &Ward,
    output: &Output,
    seat: Option<&Seat>,
) -> wasmtime::Result<()> {
    let mut next = first;
    let mut served = 0;
    loop {
        let Call { request, fate, permit, .. } = next;
        let scheme = match request.uri().scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => p2::bindings::http::types::Scheme::Https,
            _ => p2::bindings::http::types::Scheme::Http,
        };
        let mut http = store.data_mut().http();
        let request = http.new_incoming_request(scheme, request)?;
        let (answered, limit) = (Arc::clone(&fate), policy.limits.response_body);
        let out = http.new_response_outparam_from_callback(move |response| match response {
            Ok(response) => answered.respond(response, limit),
            Err(code) => answered.fail(Failure::ErrorAnswer(format!("{code:?}"))),
        })?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, out).await?;
        if !fate.answered() {
            fate.fail(Failure::NoAnswer);
        }
        ward.done(&fate);
        drop(permit);

        served += 1;
        let Some(seat) = seat.filter(|_| served < policy.reuse.count.get() && !ward.retired()) else { return Ok(()) };
        output.end();
        ward.rest(policy.reuse.idle);
        seat.open();
        seat.offer();
        next = poll_fn(|cx| seat.poll_take(cx)).await;
        begin(store.data_mut(), &next, policy, ward, output, true);
    }
}

/// Serves several calls at once, as WASI 0.3 can.
async fn serve_many(
    accessor: &Accessor<Host>,
    service: &p3::bindings::Service,
    first: Call,
    policy: &Policy,
    ward: &Ward,
    output: &Output,
    seat: &Seat,
) -> wasmtime::Result<()> {
    let func = *service.wasi_http_handler().func_handle().func();
    let mut served = 1;
    let mut calls = FuturesUnordered::new();
    calls.push(handle(accessor, service, first, policy, ward));
    poll_fn(move |cx| {
        loop {
            while let Poll::Ready(Some(done)) = calls.poll_next_unpin(cx) {
                done?;
            }
            // What is in the slot is served, whatever the count says: its caller waits for nobody else.
            if let Poll::Ready(call) = seat.poll_take(cx) {
                served += 1;
                accessor.with(|mut access| begin(access.data_mut(), &call, policy, ward, output, true));
                calls.push(handle(accessor, service, call, policy, ward));
                continue;
            }
            let may = served < policy.reuse.count.get() && !ward.retired();
            let room = calls.len() < policy.reuse.concurrency.get() as usize;
            let ready = accessor.poll_ready_for_concurrent_call(func, cx).is_ready();
            if may && room && ready {
                seat.open();
            } else if !seat.withdraw() {
                continue; // a call came in at the same moment
            }
            if !calls.is_empty() || accessor.poll_no_interesting_tasks(cx).is_pending() {
                return Poll::Pending;
            }
            if !may {
                return Poll::Ready(Ok(()));
            }
            output.end();
            ward.rest(policy.reuse.idle);
            seat.offer();
            return Poll::Pending;
        }
    })
    .await
}

/// Gives the sandbox what one more invocation may use. `seated` is one that may get others.
fn begin(host: &mut Host, call: &Call, policy: &Policy, ward: &Ward, output: &Output, seated: bool) {
    let shared = seated && policy.shared();
    let alone = ward.begin(call.deadline, Arc::clone(&call.fate) as Arc<dyn Caller>, policy.limits.cpu);
    output.begin((!shared).then_some(call.fate.id), policy.limits.log.bytes(), alone);
    let trace: Option<HeaderValue> = call.request.headers().get("traceparent").cloned();
    host.begin(Account::of(&call.effects), alone);
    host.outgoing.begin(policy.limits.http_requests, trace, alone && !shared);
}

/// Runs the guest's handler for one call.
async fn handle(
    accessor: &Accessor<Host>,
    service: &p3::bindings::Service,
    call: Call,
    policy: &Policy,
    ward: &Ward,
) -> wasmtime::Result<()> {
    let Call { request, fate, permit, .. } = call;
    let (request, body_result) = accessor.with(|mut access| {
        let http = access.data_mut().http();
        let (request, body_result) = p3::Request::from_http(http.hooks, request);
        // Boxed, so that it does not borrow the hooks it was made with.
        let body_result: BoxFuture<'static, _> = Box::pin(body_result);
        wasmtime::error::Ok((http.table.push(request)?, body_result))
    })?;
    let handle = service.wasi_http_handler().func_handle();
    match handle.call_concurrent(accessor, (request,)).await? {
        (Ok(response),) => {
            let response = accessor.with(|mut access| {
                let response = access.data_mut().http().table.delete(response)?;
                response.into_http_with_getter(access.as_context_mut(), body_result, Host::http)
            })?;
            fate.respond(response, policy.limits.response_body);
            // The body comes out of this store, so the call lasts as long as it does.
            poll_fn(|cx| fate.poll_ended(cx)).await;
        }
        (Err(code),) => fate.fail(Failure::ErrorAnswer(format!("{code:?}"))),
    }
    ward.done(&fate);
    drop(permit);
    Ok(())
}

/// The sandboxes of one function on one worker thread that could take another call right now.
#[derive(Default)]
pub(crate) struct Shard(Mutex<Vec<Arc<Slot>>>);

#[derive(Default)]
struct Slot {
    call: Mutex<Option<Call>>,
    waker: AtomicWaker,
}

impl Shard {
    fn offers(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a call to the sandbox that offered itself last, so that those not needed run out of idle time. Gives the
    /// call back when there is none.
    #[expect(clippy::result_large_err, reason = "the error is the call itself, on its way to another sandbox")]
    pub(crate) fn dispatch(&self, call: Call) -> Result<(), Call> {
        let mut offers = self.offers();
        let Some(slot) = offers.pop() else { return Err(call) };
        *slot.call.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
        drop(offers);
        slot.waker.wake();
        Ok(())
    }
}

/// A sandbox's place on its shard. It takes one call at a time: inside, the sandbox says when it could take one
/// ([`Seat::open`]); that is offered to callers ([`Seat::offer`]) at once when it has nothing to do, and from outside when
/// what it does turns out to be waiting.
pub(crate) struct Seat {
    shard: Arc<Shard>,
    slot: Arc<Slot>,
    open: AtomicBool,
    offered: AtomicBool,
    /// Gets the call that was put into the slot of a sandbox that died before it could take it.
    orphan: Box<dyn Fn(Call) + Send + Sync>,
}

impl Seat {
    pub(crate) fn new(shard: Arc<Shard>, orphan: impl Fn(Call) + Send + Sync + 'static) -> Self {
        Self {
            shard,
            slot: Arc::default(),
            open: AtomicBool::new(false),
            offered: AtomicBool::new(false),
            orphan: Box::new(orphan),
        }
    }

    fn take(&self) -> Option<Call> {
        self.slot.call.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The sandbox could take a call.
    fn open(&self) {
        self.open.store(true, SeqCst);
    }

    /// Takes the call that came.
    fn poll_take(&self, cx: &Context<'_>) -> Poll<Call> {
        if !self.open.load(SeqCst) {
            return Poll::Pending;
        }
        self.slot.waker.register(cx.waker());
        match self.take() {
            Some(call) => {
                self.open.store(false, SeqCst);
                self.offered.store(false, SeqCst);
                Poll::Ready(call)
            }
            None => Poll::Pending,
        }
    }

    /// Offers the sandbox, if it is open and not offered yet.
    fn offer(&self) {
        if self.open.load(SeqCst) && !self.offered.swap(true, SeqCst) {
            self.shard.offers().push(Arc::clone(&self.slot));
        }
    }

    /// Takes the offer back. `false` when a call has come in.
    fn withdraw(&self) -> bool {
        if !self.offered.load(SeqCst) {
            self.open.store(false, SeqCst);
            return true;
        }
        let mut offers = self.shard.offers();
        let before = offers.len();
        offers.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        // Whoever takes an offer fills the slot under the same lock: an offer that is gone has its call in the slot.
        let withdrawn = offers.len() < before;
        if withdrawn {
            self.open.store(false, SeqCst);
            self.offered.store(false, SeqCst);
        }
        withdrawn
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.withdraw()
            && let Some(call) = self.take()
        {
            (self.orphan)(call);
        }
    }
}
