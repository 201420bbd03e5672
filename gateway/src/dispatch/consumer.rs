//! A consumer at work: one function's reading of one topic.
//!
//! ```text
//!              read ──▶ filter ──▶ buffer (bounded, by offset) ──┐     lanes: each takes events whose keys no other
//!   topic                 │            key is parked?            ├──▶  lane has, runs them, commits
//!                         ▼                ▼                     │         │
//!                      skipped          behind           parked, due       ▼
//!                         └── settled, many in one commit ◀──────────  done, parked, dead, or back into the buffer
//! ```
//!
//! One task owns all of this and never waits for a guest: lanes run beside it and report. What must survive is in the store;
//! what is here can be built again from it, and is when the platform starts.

use super::{
    Workers,
    lane::{self, Ended, Item, Lane},
    output::{MAX_DEPTH, depth},
    reading::Reading,
    retry::jitter,
};
use dunlin_events::{
    Failure,
    consumers::{Commit, CommitError, Parked, Settlement, Start},
    manifest::Order,
    topics::{LogError, Offset, StoredEvent},
    units::now_millis,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Events that are read and not run yet.
const BUFFER: usize = 2000;
/// Their size, in bytes.
const BUFFER_BYTES: usize = 8 << 20;
/// Events of one read.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 4 << 20;
/// Keys whose parked events are got at once.
const DUE: usize = 64;
/// Parked events of one key that are got at once, and run in one lane.
const LINE: usize = 64;
/// A consumer that has parked so many events reads no further: something is wrong with more than some of them.
const MOST_PARKED: u64 = 100_000;
/// What is settled without being run waits for this many, or for [`SETTLE_AFTER`], to be committed together.
const SETTLE: usize = 1000;
const SETTLE_AFTER: Duration = Duration::from_millis(200);
/// Lanes in a row in which the function crashed and took nothing, after which it is tried with one event at a time, and with
/// pauses.
const CRASHES: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What a consumer is made of.
pub(super) struct Consumer {
    pub(super) reading: Arc<Reading>,
    pub(super) start: Start,
    pub(super) workers: Arc<Workers>,
    /// Told when what is parked was changed by somebody else.
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Consumer {
    /// Runs until it is stopped, or its topic is gone. What runs is waited for.
    pub(super) async fn run(self) {
        let mut pause = Duration::from_millis(100);
        while !self.stop.is_cancelled() {
            match self.work().await {
                Ok(()) => return,
                // Its topic was removed, or its function; if both are there again by now, it is started anew.
                Err(CommitError::NoTopic(_) | CommitError::NoConsumer(_)) => return,
                Err(error) => {
                    tracing::warn!(function = %self.reading.name.function, topic = %self.reading.name.topic, %error, "a consumer starts anew");
                    self.stop.run_until_cancelled(tokio::time::sleep(jitter(pause))).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    async fn work(&self) -> Result<(), CommitError> {
        let reading = &*self.reading;
        let progress = reading.backend.consumers.open(&reading.name, self.start).await?;
        let (reports, reported) = mpsc::unbounded_channel();
        let mut desk = Desk {
            consumer: self,
            reading,
            cursor: progress.position,
            ahead: progress.ahead,
            end: progress.position,
            buffer: BTreeMap::new(),
            bytes: 0,
            parked: HashMap::new(),
            parked_count: 0,
            ready: VecDeque::new(),
            running: Running::default(),
            settled: Vec::new(),
            settle_at: None,
            due_at: None,
            look_for_due: true,
            window: reading.settings.concurrency as f64,
            crashes: 0,
            paused_until: None,
            full_at: None,
            lost: None,
            reports,
        };
        desk.count_parked().await?;
        desk.work(reported).await
    }
}

/// What runs.
#[derive(Default)]
struct Running {
    lanes: usize,
    keys: HashSet<Arc<str>>,
    /// Parked events among them.
    parked: HashSet<Offset>,
}

struct Desk<'a> {
    consumer: &'a Consumer,
    reading: &'a Reading,
    /// Where to read on.
    cursor: Offset,
    /// What is settled beyond the position, from before this consumer started.
    ahead: Vec<(Offset, Offset)>,
    /// Of the topic, when it was last read.
    end: Offset,
    buffer: BTreeMap<Offset, Arc<Item>>,
    bytes: usize,
    /// How many events each key has parked.
    parked: HashMap<Arc<str>, u64>,
    parked_count: u64,
    /// Parked events that are due: of each key the first, and those behind it in their order.
    ready: VecDeque<Vec<Arc<Item>>>,
    running: Running,
    /// What is settled and not committed yet.
    settled: Vec<(Offset, Settlement)>,
    settle_at: Option<Instant>,
    /// When the next parked event is due, in milliseconds since the Unix epoch.
    due_at: Option<u64>,
    look_for_due: bool,
    /// Lanes that may run now: fewer after conflicts, since those that run beside one another are in each other's way.
    window: f64,
    crashes: u32,
    paused_until: Option<Instant>,
    /// When a batch that isn't full goes out all the same.
    full_at: Option<Instant>,
    lost: Option<CommitError>,
    reports: mpsc::UnboundedSender<lane::Result>,
}

impl Desk<'_> {
    async fn work(&mut self, mut reported: mpsc::UnboundedReceiver<lane::Result>) -> Result<(), CommitError> {
        let stop = &self.consumer.stop;
        loop {
            let stopping = stop.is_cancelled() || self.lost.is_some();
            if stopping && self.running.lanes == 0 {
                self.settle().await?;
                return self.lost.take().map_or(Ok(()), Err);
            }
            if self.settled.len() >= SETTLE {
                self.settle().await?;
            }
            if !stopping {
                if self.look_for_due {
                    self.find_due().await?;
                }
                while self.wants_more() && self.cursor < self.end {
                    self.read().await?;
                }
                self.start_lanes();
            }
            let read_on = !stopping && self.wants_more();
            let topic = &self.reading.name.topic;
            tokio::select! {
                biased;
                Some(report) = reported.recv() => {
                    self.hear(report);
                    while let Ok(report) = reported.try_recv() {
                        self.hear(report);
                    }
                }
                () = stop.cancelled(), if !stopping => {}
                () = self.consumer.wake.notified(), if !stopping => self.count_parked().await?,
                () = until(self.alarm()), if !stopping => {
                    self.look_for_due |= self.due_at.is_some_and(|due| due <= now_millis());
                    if self.settle_at.is_some_and(|at| at <= Instant::now()) {
                        self.settle().await?;
                    }
                }
                appended = self.reading.backend.log.appended(topic, self.cursor), if read_on => match appended {
                    Ok(()) => self.end = self.end.max(self.cursor + 1),
                    Err(error) => return Err(lost(error)),
                },
            }
        }
    }

    /// When something is to be done though nothing happens.
    fn alarm(&self) -> Option<Instant> {
        let due = self.due_at.map(|due| Instant::now() + Duration::from_millis(due.saturating_sub(now_millis())));
        // What is due while it is paused, or runs already, is looked for again then.
        [due, self.settle_at, self.paused_until, self.full_at].into_iter().flatten().min()
    }

    fn wants_more(&self) -> bool {
        self.buffer.len() < BUFFER && self.bytes < BUFFER_BYTES && self.parked_count < MOST_PARKED
    }

    /// Reads a page, and sorts its events.
    async fn read(&mut self) -> Result<(), CommitError> {
        let Reading { name, backend, .. } = self.reading;
        let page = backend.log.read(&name.topic, self.cursor, PAGE, PAGE_BYTES).await.map_err(lost)?;
        for stored in page.events {
            if !self.is_settled(stored.offset) {
                self.take(stored);
            }
        }
        if page.next == self.cursor {
            self.end = self.cursor; // nothing was there after all
        } else {
            self.cursor = page.next;
            self.end = page.end;
        }
        Ok(())
    }

    fn is_settled(&self, offset: Offset) -> bool {
        let after = self.ahead.partition_point(|(_, end)| *end <= offset);
        self.ahead.get(after).is_some_and(|(start, _)| *start <= offset)
    }

    fn take(&mut self, stored: StoredEvent) {
        let StoredEvent { offset, event, .. } = stored;
        let settings = &self.reading.settings;
        if settings.filter.as_ref().is_some_and(|filter| !filter.matches(&event)) {
            return self.settle_later(offset, Settlement::Done);
        }
        let key = match settings.order {
            Order::Key => event.partition_key().map(Arc::from),
            Order::Strict => Some(Arc::from("")),
            Order::None => None,
        };
        let item = Item { offset, key, event: Arc::new(event), parked: None };
        if depth(&item.event) > MAX_DEPTH {
            let error = format!("it has come through {MAX_DEPTH} functions, so these go round in a circle");
            let letter = item.letter(&self.reading.name, 0, "loop", error);
            return self.settle_later(offset, Settlement::Dead(Box::new(letter)));
        }
        match &item.key {
            Some(key) if self.parked.contains_key(key) => self.park_behind(&item),
            _ => self.put(Arc::new(item)),
        }
    }

    fn put(&mut self, item: Arc<Item>) {
        self.bytes += item.event.size();
        self.buffer.insert(item.offset, item);
    }

    /// Parks an event behind those of its key.
    fn park_behind(&mut self, item: &Item) {
        self.parked_more(item);
        self.settle_later(item.offset, Settlement::Parked(Box::new(lane::behind(item))));
    }

    fn parked_more(&mut self, item: &Item) {
        self.parked_count += 1;
        if let Some(key) = &item.key {
            *self.parked.entry(Arc::clone(key)).or_default() += 1;
        }
    }

    fn settle_later(&mut self, offset: Offset, settlement: Settlement) {
        self.settled.push((offset, settlement));
        self.settle_at.get_or_insert_with(|| Instant::now() + SETTLE_AFTER);
    }

    /// Commits what was settled without a lane.
    async fn settle(&mut self) -> Result<(), CommitError> {
        self.settle_at = None;
        if self.settled.is_empty() {
            return Ok(());
        }
        let settled = std::mem::take(&mut self.settled);
        let (mut outputs, mut writes) = (Vec::new(), Vec::new());
        for (_, settlement) in &settled {
            if let Settlement::Dead(letter) = settlement {
                let (announced, answered) = self.reading.told(letter);
                outputs.extend(announced);
                writes.extend(answered);
            }
        }
        let consumer = self.reading.name.clone();
        self.reading.commit(Commit { consumer, settled, outputs, reads: Vec::new(), writes }).await
    }

    /// Counts what is parked, by key.
    async fn count_parked(&mut self) -> Result<(), CommitError> {
        // What is about to be parked must be among it.
        self.settle().await?;
        const PIECE: usize = 1000;
        self.parked.clear();
        self.parked_count = 0;
        let mut from = 0;
        loop {
            let piece = self.reading.backend.consumers.parked(&self.reading.name, from, PIECE).await?;
            self.parked_count += piece.len() as u64;
            for parked in &piece {
                if let Some(key) = &parked.key {
                    *self.parked.entry(Arc::from(key.as_str())).or_default() += 1;
                }
            }
            match piece.last() {
                Some(last) if piece.len() == PIECE => from = last.offset + 1,
                _ => break,
            }
        }
        self.move_behind();
        self.look_for_due = true;
        Ok(())
    }

    /// Parks what was read before its key was.
    fn move_behind(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        let waits = |item: &Item| item.key.as_ref().is_some_and(|key| self.parked.contains_key(key));
        let behind: Vec<_> = self.buffer.values().filter(|item| waits(item)).cloned().collect();
        for item in behind {
            self.buffer.remove(&item.offset);
            self.bytes -= item.event.size();
            self.park_behind(&item);
        }
    }

    /// Gets the parked events that are due.
    async fn find_due(&mut self) -> Result<(), CommitError> {
        self.look_for_due = false;
        if self.parked_count == 0 {
            self.due_at = None;
            return Ok(());
        }
        // Those behind the first of a key must be there to be found.
        self.settle().await?;
        let Reading { name, backend, .. } = self.reading;
        let waiting: HashSet<Offset> = self.ready.iter().flatten().map(|item| item.offset).collect();
        let limit = DUE + self.running.parked.len() + self.ready.len();
        let (due, next) = backend.consumers.due(name, now_millis(), limit).await?;
        let full = due.len() == limit;
        self.due_at = next;
        for parked in due {
            if self.running.parked.contains(&parked.offset) || waiting.contains(&parked.offset) {
                continue;
            }
            let line = match &parked.key {
                Some(key) => backend.consumers.line(name, key, LINE).await?,
                None => vec![parked],
            };
            let mut items = Vec::with_capacity(line.len());
            for parked in line {
                items.extend(self.item(parked).await?);
            }
            if !items.is_empty() {
                self.ready.push_back(items);
            }
        }
        if full {
            self.due_at = Some(now_millis() + 10);
        }
        Ok(())
    }

    /// A parked event with its event. `None` where that is gone, which settles it.
    async fn item(&mut self, parked: Parked) -> Result<Option<Arc<Item>>, CommitError> {
        let Reading { name, backend, .. } = self.reading;
        let offset = parked.offset;
        let event = match parked.event.clone() {
            Some(event) => Some(event),
            None => {
                let page = backend.log.read(&name.topic, offset, 1, 1).await.map_err(lost)?;
                page.events.into_iter().find(|stored| stored.offset == offset).map(|stored| stored.event)
            }
        };
        let key = parked.key.as_deref().map(Arc::from);
        if let Some(event) = event {
            let event = Arc::new(event);
            return Ok(Some(Arc::new(Item { offset, key, event, parked: Some(Box::new(parked)) })));
        }
        self.say(format!("offset {offset} waited for another attempt, and is no longer in the topic"));
        self.parked_less(&parked);
        self.settled.push((offset, Settlement::Done));
        self.settle_at.get_or_insert_with(Instant::now);
        self.look_for_due = true;
        Ok(None)
    }

    fn parked_less(&mut self, parked: &Parked) {
        self.parked_count = self.parked_count.saturating_sub(1);
        if let Some(key) = parked.key.as_deref()
            && let Some(count) = self.parked.get_mut(key)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.parked.remove(key);
            }
        }
    }

    fn start_lanes(&mut self) {
        if let Some(until) = self.paused_until {
            if Instant::now() < until {
                return;
            }
            self.paused_until = None;
        }
        let careful = self.crashes >= CRASHES;
        let most = if careful { 1 } else { (self.window as usize).clamp(1, self.reading.settings.concurrency) };
        while self.running.lanes < most {
            let size = match careful {
                true => 1,
                // What there is is spread over the lanes there may be, so that none waits while another is full.
                false => (self.ready.iter().map(Vec::len).sum::<usize>() + self.buffer.len())
                    .div_ceil(most - self.running.lanes)
                    .clamp(self.reading.settings.call_size(), self.reading.settings.lane_size()),
            };
            let items = self.assemble(size, careful);
            if items.is_empty() {
                return;
            }
            self.start_lane(items);
        }
    }

    /// Takes events for one lane: parked ones first, then new ones whose keys are free.
    fn assemble(&mut self, size: usize, careful: bool) -> Vec<Arc<Item>> {
        let mut items = Vec::new();
        while items.len() < size
            && let Some(mut line) = self.ready.pop_front()
        {
            if careful {
                line.truncate(1);
            }
            items.extend(line);
        }
        // A lane of parked events is one of those alone: what has failed once may well take the sandbox down.
        if items.is_empty() {
            if !careful && !self.is_full() {
                return items;
            }
            let mut taken: Vec<Offset> = Vec::new();
            let mut skipped: HashSet<&Arc<str>> = HashSet::new();
            for item in self.buffer.values() {
                if taken.len() == size {
                    break;
                }
                let free =
                    item.key.as_ref().is_none_or(|key| !self.running.keys.contains(key) && !skipped.contains(key));
                if free {
                    taken.push(item.offset);
                } else if let Some(key) = &item.key {
                    skipped.insert(key);
                }
            }
            for offset in taken {
                let item = self.buffer.remove(&offset).expect("it was there just now");
                self.bytes -= item.event.size();
                items.push(item);
            }
        }
        for item in &items {
            self.running.keys.extend(item.key.clone());
            if item.parked.is_some() {
                self.running.parked.insert(item.offset);
            }
        }
        items
    }

    /// Whether there is enough for a call, or it has waited long enough.
    fn is_full(&mut self) -> bool {
        let settings = &self.reading.settings;
        if settings.wait().is_zero() || self.buffer.len() >= settings.call_size() {
            self.full_at = None;
            return true;
        }
        if self.buffer.is_empty() {
            self.full_at = None;
            return false;
        }
        let full_at = *self.full_at.get_or_insert_with(|| Instant::now() + settings.wait());
        let over = Instant::now() >= full_at;
        if over {
            self.full_at = None;
        }
        over
    }

    fn start_lane(&mut self, items: Vec<Arc<Item>>) {
        self.running.lanes += 1;
        let (worker, handle) = self.consumer.workers.next();
        let lane = Lane::new(Arc::clone(&self.consumer.reading), worker, items);
        let reports = self.reports.clone();
        handle.spawn(async move {
            // Nobody hears it when the platform ends meanwhile.
            let _ = reports.send(lane.run().await);
        });
    }

    /// Hears what became of a lane.
    fn hear(&mut self, report: lane::Result) {
        let lane::Result { items, conflict, crashed, postponed, due, lost } = report;
        self.running.lanes -= 1;
        let (mut done, mut failed) = (0, 0);
        for (item, ended) in items {
            if let Some(key) = &item.key {
                self.running.keys.remove(key);
            }
            let was_parked = item.parked.is_some();
            if was_parked {
                self.running.parked.remove(&item.offset);
                self.look_for_due = true;
            }
            match ended {
                Ended::Done | Ended::Dead => {
                    done += usize::from(ended == Ended::Done);
                    failed += usize::from(ended == Ended::Dead);
                    if let Some(parked) = &item.parked {
                        self.parked_less(parked);
                    }
                }
                Ended::Parked => {
                    failed += 1;
                    if !was_parked {
                        self.parked_more(&item);
                    }
                }
                Ended::Returned if was_parked => {}
                Ended::Returned => self.put(item),
            }
        }
        if failed > 0 {
            self.move_behind();
        }
        self.due_at = match (self.due_at, due) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.adapt(conflict, postponed.as_ref(), done, crashed);
        if lost.is_some() {
            self.lost = lost;
        }
    }

    fn adapt(&mut self, conflict: bool, postponed: Option<&Failure>, done: usize, crashed: usize) {
        if conflict {
            self.window = (self.window / 2.0).max(1.0);
            return;
        }
        if done > 0 {
            self.window = (self.window + 1.0 / self.window).min(self.reading.settings.concurrency as f64);
            self.crashes = 0;
        } else if crashed > 0 || postponed.is_some() {
            self.crashes = self.crashes.saturating_add(1);
        }
        if let Some(failure) = postponed {
            let pause = Duration::from_millis(50).saturating_mul(1 << self.crashes.min(16));
            let pause = jitter(pause.min(Duration::from_secs(5)));
            if self.crashes == 1 {
                self.say(format!("events wait: {failure}"));
            }
            self.paused_until = Some(Instant::now() + pause);
        } else if self.crashes >= CRASHES {
            let pause = Duration::from_millis(200).saturating_mul(1 << (self.crashes - CRASHES).min(16));
            let pause = jitter(pause.min(LONGEST_PAUSE));
            if self.crashes == CRASHES {
                self.say(format!(
                    "{CRASHES} runs in a row crashed, so it is tried less and less often until one succeeds"
                ));
            }
            self.paused_until = Some(Instant::now() + pause);
        }
    }

    /// Tells the operator, in the function's log.
    fn say(&self, message: String) {
        let line = self.reading.line(format!("reading `{}`: {message}", self.reading.name.topic));
        self.reading.logs.record(line);
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

fn lost(error: LogError) -> CommitError {
    match error {
        LogError::NoTopic(topic) => CommitError::NoTopic(topic),
        error => CommitError::Unavailable(error.to_string()),
    }
}
