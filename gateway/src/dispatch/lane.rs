//! A lane: some events that one sandbox runs one after another, and the one commit of all they did.
//!
//! ```text
//!   items   a1  b1  a2  c1  b2          the letter is the key
//!   calls   ok  ✗   ok  ok  –           b1 failed, so b2 is not run: it waits behind b1
//!   commit  done: a1 a2 c1   parked: b1, b2   and the events, the state, the dead letters, in one transaction
//! ```
//!
//! Starting a sandbox and committing are paid once for a lane. In a call with a batch that fails as a whole nobody knows
//! which event is to blame, so its halves are called again until it is found; the others spend no attempt.

use super::{
    answer,
    output::{self, Origin},
    reading::Reading,
    requests,
    retry::{self, jitter},
    transaction::{Output, Transaction},
};
use dunlin_events::{
    Body, Event, Failure, Invocation, InvocationId, Shape,
    consumers::{Commit, CommitError, ConsumerName, DeadLetter, Parked, Settlement},
    effects::{Delivery, Draft, Effects, Outcome},
    invocation::Effected,
    runtime::Feed,
    source::ContentError,
    topics::{Offset, TopicName},
    units::{millis, now_millis},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{
    collections::{HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A lane takes no further call after this long, so that what is done is committed soon.
const SLICE: Duration = Duration::from_millis(10);

/// An event to run.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) offset: Offset,
    pub(super) key: Option<Arc<str>>,
    pub(super) event: Arc<Event>,
    /// As it is parked, if it is.
    pub(super) parked: Option<Box<Parked>>,
}

impl Item {
    fn attempts(&self) -> u32 {
        self.parked.as_ref().map_or(0, |parked| parked.attempts)
    }

    /// The dead letter it becomes after so many attempts.
    pub(super) fn letter(&self, consumer: &ConsumerName, attempts: u32, reason: &str, error: String) -> DeadLetter {
        DeadLetter {
            number: 0, // the store's to give
            consumer: consumer.clone(),
            offset: self.offset,
            key: self.key.as_deref().map(str::to_owned),
            attempts,
            failed_at: now_millis(),
            reason: reason.to_owned(),
            error,
            event: Event::clone(&self.event),
        }
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// It failed, or waits behind one that did.
    Parked,
    Dead,
    /// It was not run, or nothing came of it: it is to be run again.
    Returned,
}

/// What became of a lane.
pub(super) struct Result {
    pub(super) items: Vec<(Arc<Item>, Ended)>,
    /// The commit was refused since others changed what it read.
    pub(super) conflict: bool,
    /// Items that brought the function down, or ran into a limit: it did not say so itself.
    pub(super) crashed: usize,
    /// The platform could not run the function; the events are not to blame.
    pub(super) postponed: Option<Failure>,
    /// When the first of what it parked is due, in milliseconds since the Unix epoch.
    pub(super) due: Option<u64>,
    /// The consumer is not what it was: it was removed, or moved.
    pub(super) lost: Option<CommitError>,
}

pub(super) struct Lane {
    reading: Arc<Reading>,
    worker: usize,
    items: Vec<Arc<Item>>,
    transaction: Arc<Transaction>,
    progress: Mutex<Progress>,
}

struct Progress {
    /// The items of calls to come, by their place.
    calls: VecDeque<Vec<usize>>,
    /// Those of the call under way.
    current: Vec<usize>,
    called: Instant,
    ends: Vec<Option<End>>,
    outputs: Vec<Output>,
    failed_keys: HashSet<Arc<str>>,
    begun: Option<Instant>,
    invocation: InvocationId,
    postponed: Option<Failure>,
}

#[derive(Debug)]
enum End {
    Done,
    Failed(Mistake, retry::Verdict),
    /// Not run, since one of its key failed.
    Behind,
}

/// Why a function did not take an event.
#[derive(Debug, Clone)]
pub(super) struct Mistake {
    /// In a word.
    pub(super) reason: &'static str,
    pub(super) error: String,
    /// The function did not say so itself: it broke off.
    pub(super) crash: bool,
    /// Trying again is in vain.
    pub(super) last: bool,
    pub(super) after: Option<Duration>,
}

impl Lane {
    pub(super) fn new(reading: Arc<Reading>, worker: usize, items: Vec<Arc<Item>>) -> Self {
        let places: Vec<usize> = (0..items.len()).collect();
        let progress = Progress {
            calls: places.chunks(reading.settings.call_size()).map(<[usize]>::to_vec).collect(),
            current: Vec::new(),
            called: Instant::now(),
            ends: items.iter().map(|_| None).collect(),
            outputs: Vec::new(),
            failed_keys: HashSet::new(),
            begun: None,
            invocation: InvocationId::new(),
            postponed: None,
        };
        let transaction = Arc::new(Transaction::new(Arc::clone(&reading.backend.state)));
        Self { reading, worker, items, transaction, progress: Mutex::new(progress) }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the items, and commits what came of them.
    pub(super) async fn run(self) -> Result {
        let lane = Arc::new(self);
        lane.call().await;
        lane.commit().await
    }

    async fn call(self: &Arc<Self>) {
        let handler = self.reading.function.version.component.shape == Shape::Handler;
        while self.more() {
            let invocation = Invocation {
                id: self.progress().invocation,
                worker: self.worker,
                effects: Effected::Event(Arc::clone(&self.transaction) as _),
            };
            if handler {
                if let Err(failure) = self.reading.function.handle.handle(Arc::clone(self) as _, invocation).await {
                    self.progress().postponed = Some(failure);
                }
            } else if let Some(deliveries) = Feed::next(&**self) {
                if let [Delivery { event, topic, .. }] = &deliveries[..]
                    && requests::function_of(topic).is_some()
                    && let Some(request) = requests::request(event)
                {
                    self.answer_later(request, event, invocation).await;
                    continue;
                }
                let content = match self.content(&deliveries).await {
                    Ok(content) => content,
                    Err(ContentError::Lost(error)) => {
                        let mistake = Mistake { reason: "content", error, crash: false, last: true, after: None };
                        self.failed_together(&mistake);
                        continue;
                    }
                    Err(ContentError::Unavailable(error)) => {
                        Feed::ended(&**self, Err(Failure::Start(error)));
                        continue;
                    }
                };
                let answer = answer::deliver(&self.reading.function, &deliveries, content, invocation).await;
                match answer {
                    Ok(Ok(outcomes)) => Feed::ended(&**self, Ok(outcomes)),
                    Ok(Err(mistake)) => self.failed_together(&mistake),
                    Err(failure) => Feed::ended(&**self, Err(failure)),
                }
            }
        }
    }

    /// The content of an event that is handed over alone, where it is more than the event has of it.
    async fn content(&self, deliveries: &[Delivery]) -> std::result::Result<Option<(u64, Body)>, ContentError> {
        match (&self.reading.contents, deliveries) {
            (Some(contents), [delivery]) => contents.open(&delivery.event).await,
            _ => Ok(None),
        }
    }

    /// Runs a request whose answer is kept. Any answer is one, whatever its status.
    async fn answer_later(&self, request: Request<Body>, event: &Event, invocation: Invocation) {
        let answer = async {
            let (head, body) = self.reading.function.handle.invoke(request, invocation).await?.into_parts();
            Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        match answer.await {
            Ok(response) => {
                if let Some((key, value)) = requests::answered(event, &response) {
                    self.transaction.write(key, value);
                }
                Feed::ended(self, Ok(vec![Outcome::Done(Vec::new())]));
            }
            Err(failure) => Feed::ended(self, Err(failure)),
        }
    }

    /// Whether there is a call to make.
    fn more(&self) -> bool {
        let progress = self.progress();
        let over = progress.begun.is_some_and(|begun| begun.elapsed() > SLICE);
        !over && progress.postponed.is_none() && !progress.calls.is_empty()
    }

    /// The whole call failed, and each of its events may be why.
    fn failed_together(&self, mistake: &Mistake) {
        self.transaction.discard();
        let progress = &mut *self.progress();
        let mut current = mem::take(&mut progress.current);
        if current.len() > 1 {
            let other = current.split_off(current.len() / 2);
            progress.calls.push_front(other);
            progress.calls.push_front(current);
            return;
        }
        for place in current {
            self.failed(progress, place, mistake.clone());
        }
    }

    fn failed(&self, progress: &mut Progress, place: usize, mistake: Mistake) {
        let item = &self.items[place];
        let now = now_millis();
        let verdict = self.reading.settings.verdict(item.attempts() + 1, first_failure(item, now), now, &mistake);
        // One that is given up is no longer in the way of those behind it.
        if let (Some(key), retry::Verdict::Again(_)) = (&item.key, verdict) {
            progress.failed_keys.insert(Arc::clone(key));
        }
        let message = format!(
            "offset {} of `{}`, attempt {}: {}: {}",
            item.offset,
            self.reading.name.topic,
            item.attempts() + 1,
            mistake.reason,
            mistake.error
        );
        self.reading.logs.record(self.reading.line(message).of(progress.invocation));
        progress.ends[place] = Some(End::Failed(mistake, verdict));
    }

    /// Makes events of what an item's run returned and published.
    fn outputs(
        &self,
        place: usize,
        drafts: Vec<Draft>,
        published: Vec<(TopicName, Draft)>,
    ) -> std::result::Result<Vec<Output>, String> {
        let item = &self.items[place];
        let function = self.reading.function.name();
        let origin = Origin::Run { function, topic: &self.reading.name.topic, offset: item.offset, event: &item.event };
        let returned = match &self.reading.function.version.manifest.publish {
            Some(topic) => drafts.into_iter().map(|draft| (topic.clone(), draft)).collect::<Vec<_>>(),
            None if drafts.is_empty() => Vec::new(),
            None => {
                let help = "name the topic they go to: `publish: TOPIC` in its manifest";
                return Err(format!("it returned {} events and has nowhere to publish them. {help}", drafts.len()));
            }
        };
        let all = published.into_iter().chain(returned).enumerate();
        all.map(|(number, (topic, draft))| Ok((topic, output::event(draft, &origin, number)?))).collect()
    }

    /// Commits, for as long as it takes the store to take it.
    async fn commit(&self) -> Result {
        let Self { reading, items, transaction, .. } = self;
        let (progress_ends, mut outputs, postponed) = {
            let progress = &mut *self.progress();
            (mem::take(&mut progress.ends), mem::take(&mut progress.outputs), progress.postponed.take())
        };
        let now = now_millis();
        let crashed = |end: &Option<End>| matches!(end, Some(End::Failed(mistake, _)) if mistake.crash);
        let crashed = progress_ends.iter().filter(|end| crashed(end)).count();
        let mut due: Option<u64> = None;
        let (mut settled, mut ends) = (Vec::new(), Vec::new());
        let (reads, mut writes) = transaction.take();
        for (item, end) in items.iter().zip(progress_ends) {
            let (settlement, ended) = match end {
                None => {
                    ends.push(Ended::Returned);
                    continue;
                }
                Some(End::Done) => (Settlement::Done, Ended::Done),
                // One that is parked stays as it is.
                Some(End::Behind) if item.parked.is_some() => {
                    ends.push(Ended::Returned);
                    continue;
                }
                Some(End::Behind) => (Settlement::Parked(Box::new(behind(item))), Ended::Parked),
                Some(End::Failed(mistake, verdict)) => match verdict {
                    retry::Verdict::Again(pause) => {
                        let at = now.saturating_add(millis(jitter(pause)));
                        due = Some(due.map_or(at, |due| due.min(at)));
                        let parked = Parked {
                            attempts: item.attempts() + 1,
                            due: Some(at),
                            failed_at: Some(first_failure(item, now)),
                            error: mistake.error,
                            ..behind(item)
                        };
                        (Settlement::Parked(Box::new(parked)), Ended::Parked)
                    }
                    retry::Verdict::GiveUp => {
                        let letter = item.letter(&reading.name, item.attempts() + 1, mistake.reason, mistake.error);
                        let (announced, answered) = reading.told(&letter);
                        outputs.extend(announced);
                        writes.extend(answered);
                        (Settlement::Dead(Box::new(letter)), Ended::Dead)
                    }
                },
            };
            settled.push((item.offset, settlement));
            ends.push(ended);
        }
        let mut result = Result { items: Vec::new(), conflict: false, crashed, postponed, due, lost: None };
        if !settled.is_empty() {
            let commit = Commit { consumer: reading.name.clone(), settled, outputs, reads, writes };
            match reading.commit(commit).await {
                Ok(()) => {}
                Err(error) => {
                    result.due = None;
                    ends.iter_mut().for_each(|end| *end = Ended::Returned);
                    match error {
                        CommitError::Conflict { .. } => result.conflict = true,
                        error => result.lost = Some(error),
                    }
                }
            }
        }
        result.items = items.iter().cloned().zip(ends).collect();
        result
    }
}

/// An item as one that waits behind another of its key.
pub(super) fn behind(item: &Item) -> Parked {
    match &item.parked {
        Some(parked) => (**parked).clone(),
        None => Parked {
            offset: item.offset,
            key: item.key.as_deref().map(str::to_owned),
            attempts: 0,
            due: None,
            failed_at: None,
            error: String::new(),
            event: None,
        },
    }
}

fn first_failure(item: &Item, now: u64) -> u64 {
    item.parked.as_ref().and_then(|parked| parked.failed_at).unwrap_or(now)
}

impl Feed for Lane {
    fn next(&self) -> Option<Vec<Delivery>> {
        if !self.more() {
            return None;
        }
        let progress = &mut *self.progress();
        loop {
            let mut call = progress.calls.pop_front()?;
            call.retain(|place| {
                let waits = self.items[*place].key.as_ref().is_some_and(|key| progress.failed_keys.contains(key));
                if waits {
                    progress.ends[*place] = Some(End::Behind);
                }
                !waits
            });
            if call.is_empty() {
                continue;
            }
            let deliveries = call.iter().map(|place| {
                let item = &self.items[*place];
                let topic = self.reading.name.topic.clone();
                let addressed = self.reading.contents.as_ref().and_then(|contents| contents.addressed(&item.event));
                let event = addressed.map_or_else(|| Arc::clone(&item.event), Arc::new);
                Delivery { topic, offset: item.offset, attempt: item.attempts() + 1, event }
            });
            let deliveries = deliveries.collect();
            progress.begun.get_or_insert_with(Instant::now);
            progress.called = Instant::now();
            progress.current = call;
            return Some(deliveries);
        }
    }

    fn ended(&self, outcomes: std::result::Result<Vec<Outcome>, Failure>) {
        let took = self.progress().called.elapsed();
        self.reading.function.counters.record(outcomes.as_ref().map(|_| ()), took);
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(failure) if failure.retryable() => {
                // The platform's trouble, which spends no attempt.
                self.transaction.discard();
                let progress = &mut *self.progress();
                let current = mem::take(&mut progress.current);
                progress.calls.push_front(current);
                progress.postponed = Some(failure);
                return;
            }
            Err(failure) => {
                let (reason, error) = (failure.reason(), failure.to_string());
                return self.failed_together(&Mistake { reason, error, crash: true, last: false, after: None });
            }
        };
        let progress = &mut *self.progress();
        let current = mem::take(&mut progress.current);
        let failed = outcomes.iter().filter(|outcome| !matches!(outcome, Outcome::Done(_))).count();
        let wrote = !self.transaction.is_empty();
        let mut published = if failed == 0 { self.transaction.keep() } else { Vec::new() };
        self.transaction.discard();
        if wrote && (1..outcomes.len()).contains(&failed) {
            // What the call wrote can't be told apart by event. The good ones are called again, without those that failed.
            let mut again = Vec::new();
            for (place, outcome) in current.into_iter().zip(outcomes) {
                match mistake(outcome) {
                    Some(mistake) => self.failed(progress, place, mistake),
                    None => again.push(place),
                }
            }
            progress.calls.push_front(again);
            return;
        }
        for (place, outcome) in current.into_iter().zip(outcomes) {
            let waits = self.items[place].key.as_ref().is_some_and(|key| progress.failed_keys.contains(key));
            match outcome {
                // Of its key one failed in the same call: it comes after that one.
                Outcome::Done(_) if waits => progress.ends[place] = Some(End::Behind),
                Outcome::Done(drafts) => match self.outputs(place, drafts, mem::take(&mut published)) {
                    Ok(outputs) => {
                        progress.outputs.extend(outputs);
                        progress.ends[place] = Some(End::Done);
                    }
                    Err(error) => {
                        let mistake = Mistake { reason: "output", error, crash: false, last: false, after: None };
                        self.failed(progress, place, mistake);
                    }
                },
                outcome => {
                    if let Some(mistake) = mistake(outcome) {
                        self.failed(progress, place, mistake);
                    }
                }
            }
        }
    }

    fn effects(&self) -> &dyn Effects {
        &*self.transaction
    }
}

/// Why an outcome is none.
fn mistake(outcome: Outcome) -> Option<Mistake> {
    match outcome {
        Outcome::Done(_) => None,
        Outcome::Retry { reason, after } => {
            Some(Mistake { reason: "retry", error: reason, crash: false, last: false, after })
        }
        Outcome::Reject { reason } => {
            Some(Mistake { reason: "rejected", error: reason, crash: false, last: true, after: None })
        }
    }
}
