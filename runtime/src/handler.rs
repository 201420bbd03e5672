//! Event handlers: components that take events as values of their own types, one call after another in one sandbox.
//!
//! ```text
//!   feed ──next──▶ Shift ──deliveries──▶ guest's `handle`          a call under way ends in exactly one word to the
//!     ▲                                        │                   feed: its outcomes, or why there are none
//!     └──ended──── Shift ◀──────outcomes───────┘
//! ```
//!
//! A sandbox costs more than most events do, so it is paid for once for many. Between two calls nothing waits and nothing
//! is allocated that outlives them: the next deliveries are there, or the sandbox ends.

use crate::{
    access::{Account, weight},
    bindings::function::{
        FunctionPre,
        dunlin::function::types::{AttributeParam, Event},
        exports::dunlin::function::handler::{self, Delivery},
    },
    call::Caller,
    function::Loaded,
    host::Host,
    output::{Log, Output},
    sandbox::Ward,
};
use dunlin_events::{
    Failure, InvocationId,
    effects::{self, Draft, Outcome},
    event::Value,
    runtime::Feed,
    units::ByteSize,
};
use futures_util::task::AtomicWaker;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};
use wasmtime::Store;

/// What one sandbox does for a feed.
pub(crate) struct Shift {
    id: InvocationId,
    state: Mutex<State>,
    driver: AtomicWaker,
}

struct State {
    /// `None` when nobody waits for the shift any more: the feed must not hear of it again.
    feed: Option<Arc<dyn Feed>>,
    /// There are deliveries the feed has not been told the end of.
    under_way: bool,
}

impl Shift {
    pub(crate) fn new(id: InvocationId, feed: Arc<dyn Feed>) -> Arc<Self> {
        let state = State { feed: Some(feed), under_way: false };
        Arc::new(Self { id, state: Mutex::new(state), driver: AtomicWaker::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The deliveries of the next call.
    fn next(&self) -> Option<Vec<effects::Delivery>> {
        let mut state = self.state();
        let deliveries = state.feed.as_ref()?.next()?;
        state.under_way = true;
        Some(deliveries)
    }

    /// Tells the feed how the call under way ended, if there is one.
    pub(crate) fn ended(&self, outcomes: Result<Vec<Outcome>, Failure>) {
        let mut state = self.state();
        if std::mem::take(&mut state.under_way)
            && let Some(feed) = &state.feed
        {
            feed.ended(outcomes);
        }
    }
}

impl Caller for Shift {
    fn watch(&self, cx: &Context<'_>) {
        self.driver.register(cx.waker());
    }

    fn abandon(&self) {
        let feed = self.state().feed.take();
        self.driver.wake();
        drop(feed);
    }

    fn abandoned(&self) -> bool {
        self.state().feed.is_none()
    }

    fn fail_late(&self, failure: &Failure, _: &Log) {
        self.ended(Err(failure.clone()));
    }
}

/// A shift on its way into a sandbox, with its place among the function's `limits.concurrency` and who waits for its end.
pub(crate) struct Errand {
    pub(crate) shift: Arc<Shift>,
    pub(crate) feed: Arc<dyn Feed>,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) done: oneshot::Sender<()>,
}

/// Runs the calls of a shift.
pub(crate) async fn run(
    mut store: Store<Host>,
    pre: &FunctionPre<Host>,
    errand: &Errand,
    loaded: &Loaded,
    ward: &Ward,
    output: &Output,
) -> wasmtime::Result<()> {
    let (policy, shift) = (&loaded.policy, &errand.shift);
    let limits = &policy.limits;
    let mut function = None;
    for _ in 0..policy.reuse.count.get() {
        let Some(deliveries) = shift.next() else { break };
        let deadline = Instant::now() + limits.time;
        match function {
            None => drop(ward.begin(deadline, Arc::clone(shift) as Arc<dyn Caller>, limits.cpu)),
            Some(_) => ward.renew(deadline, limits.cpu),
        }
        output.begin(Some(shift.id), limits.log.bytes(), true);
        let host = store.data_mut();
        host.begin(Account::Feed(Arc::clone(&errand.feed)), true);
        host.outgoing.begin(limits.http_requests, None, true);
        let instance = match &function {
            Some(instance) => instance,
            // Only now: what the guest does when it starts is the first call's to pay for.
            None => function.insert(pre.instantiate_async(&mut store).await?),
        };
        let results = call(&mut store, instance.dunlin_function_handler(), &deliveries).await?;
        match outcomes(results, deliveries.len(), limits.response_body) {
            Ok(outcomes) => shift.ended(Ok(outcomes)),
            Err(failure) => {
                shift.ended(Err(failure));
                break;
            }
        }
    }
    Ok(())
}

/// Calls the guest with deliveries, which are written into it from where they lie.
async fn call(
    store: &mut Store<Host>,
    handler: &handler::Guest,
    deliveries: &[effects::Delivery],
) -> wasmtime::Result<Vec<Result<Vec<handler::Draft>, handler::Failure>>> {
    let extensions: Vec<_> = deliveries.iter().map(extensions).collect();
    let lowered: Vec<_> =
        deliveries.iter().zip(&extensions).map(|(delivery, extensions)| lower(delivery, extensions)).collect();
    handler.call_handle(store, &lowered).await
}

type Extension<'a> = (&'a str, AttributeParam<'a>);

fn extensions(delivery: &effects::Delivery) -> Vec<Extension<'_>> {
    let attribute = |value| match value {
        &Value::Boolean(value) => AttributeParam::Boolean(value),
        &Value::Integer(value) => AttributeParam::Integer(value),
        Value::String(text) => AttributeParam::Text(text),
    };
    delivery.event.extensions().map(|(name, value)| (name, attribute(value))).collect()
}

fn lower<'a>(delivery: &'a effects::Delivery, extensions: &'a [Extension<'a>]) -> Delivery<'a> {
    let effects::Delivery { topic, offset, attempt, event } = delivery;
    Delivery {
        topic: topic.as_str(),
        offset: *offset,
        attempt: *attempt,
        event: Event {
            id: event.id(),
            source: event.source(),
            kind: event.kind(),
            subject: event.subject(),
            time: event.time(),
            data_content_type: event.data_content_type(),
            data_schema: event.data_schema(),
            extensions,
            data: event.data().map(|data| &data.bytes()[..]),
        },
    }
}

/// What became of each delivery, if the guest's answer is one the platform can go by.
fn outcomes(
    results: Vec<Result<Vec<handler::Draft>, handler::Failure>>,
    deliveries: usize,
    limit: ByteSize,
) -> Result<Vec<Outcome>, Failure> {
    if results.len() != deliveries {
        let answers = results.len();
        return Err(Failure::ErrorAnswer(format!("it was given {deliveries} events and answered for {answers}")));
    }
    let mut bytes = 0;
    let outcome = |result| match result {
        Ok(drafts) => {
            let drafts: Vec<Draft> = Vec::into_iter(drafts).map(Into::into).collect();
            bytes += drafts.iter().map(weight).sum::<usize>();
            Outcome::Done(drafts)
        }
        Err(handler::Failure::Retry((reason, after))) => {
            bytes += reason.len();
            Outcome::Retry { reason, after: after.map(Duration::from_millis) }
        }
        Err(handler::Failure::Reject(reason)) => {
            bytes += reason.len();
            Outcome::Reject { reason }
        }
    };
    let outcomes = results.into_iter().map(outcome).collect();
    if bytes as u64 > limit.bytes() { Err(Failure::ResponseTooLarge { limit }) } else { Ok(outcomes) }
}
