//! The dispatcher against a model: whatever functions answer and whenever the platform dies, every event ends as its fate
//! says, its effects happen once, and the order of its key holds.
//!
//! The store is the real one. The runtime is a double that keeps the contract of `dunlin_events::Runtime`: its function does
//! what the event's data says, with pauses of random length, so that every run interleaves otherwise.

use bytes::Bytes;
use dunlin_events::{
    Body, BoxFuture, Component, Digest, Event, Failure, Function, Invocation, Manifest, Runtime, Shape, Version,
    consumers::{ConsumerName, DeadLetterFilter},
    effects::{Draft, Outcome},
    manifest::Problem,
    runtime::{CompileError, Feed, Load},
    state::{Bucket, Key},
    topics::TopicName,
    units::ByteSize,
};
use dunlin_gateway::{
    backend::Backend,
    deploy::Deployments,
    dispatch::{DEPTH, Dispatcher},
    logs::LogBuffer,
};
use dunlin_store::{OpenError, Store};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashSet},
    io,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

const ATTEMPTS: u32 = 3;

/// How an event is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    Good,
    /// Asked for again that often, and good then.
    Later(u32),
    /// Brings its sandbox down that often.
    Crashes(u32),
    Rejected,
    /// Never taken.
    Hopeless,
}

impl Fate {
    fn is_taken(self) -> bool {
        matches!(self, Self::Good | Self::Later(_) | Self::Crashes(_))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    number: u32,
    key: Option<String>,
    fate: Fate,
}

/// Numbers that are the same for the same seed.
#[derive(Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)))
    }

    fn below(&self, bound: u64) -> u64 {
        let mut x = self.0.load(Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Relaxed);
        (x >> 11) % bound
    }
}

struct Guests(Dice);
struct Guest(Dice);

impl Runtime for Guests {
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<Component, CompileError>> {
        let (digest, size) = (Digest::of(&component), component.len() as u64);
        let component = Component { digest, size, shape: Shape::Handler, imports: Vec::new(), initial_memory: 0 };
        Box::pin(async { Ok(component) })
    }

    fn is_compiled(&self, _: Digest) -> bool {
        true
    }

    fn check(&self, _: &Manifest, _: &Component) -> Vec<Problem> {
        Vec::new()
    }

    fn function(&self, _: &Version) -> Arc<dyn Function> {
        Arc::new(Guest(self.0.clone()))
    }

    fn prune(&self, _: &HashSet<Digest>) -> io::Result<()> {
        Ok(())
    }
}

impl Function for Guest {
    fn invoke<'a>(&'a self, _: Request<Body>, _: Invocation) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        Box::pin(async { Err(Failure::NoAnswer) })
    }

    fn handle<'a>(&'a self, feed: Arc<dyn Feed>, _: Invocation) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.0.below(20) == 0 {
                return Err(Failure::Exhausted("all of them are in use".into()));
            }
            for _ in 0..1 + self.0.below(10) {
                let Some(deliveries) = feed.next() else { return Ok(()) };
                let mut outcomes = Vec::new();
                for delivery in deliveries {
                    let order: Order = serde_json::from_slice(delivery.event.data().unwrap().bytes()).unwrap();
                    match self.run(&*feed, &order, delivery.attempt).await {
                        Ok(outcome) => outcomes.push(outcome),
                        Err(failure) => {
                            feed.ended(Err(failure));
                            return Ok(());
                        }
                    }
                }
                feed.ended(Ok(outcomes));
            }
            Ok(())
        })
    }

    fn load(&self) -> Load {
        Load { running: 0, waiting: 0 }
    }
}

impl Guest {
    async fn pause(&self) {
        match self.0.below(8) {
            0 => tokio::time::sleep(Duration::from_micros(self.0.below(2000))).await,
            1 => tokio::task::yield_now().await,
            _ => {}
        }
    }

    /// Adds the order to the list of its key and to the count of all, and returns an event; or does what its fate says.
    async fn run(&self, feed: &dyn Feed, order: &Order, attempt: u32) -> Result<Outcome, Failure> {
        let bucket = Bucket::Function("obey".parse().unwrap());
        let list = Key::new(bucket.clone(), order.key.as_deref().unwrap_or("none")).unwrap();
        let count = Key::new(bucket, "count").unwrap();
        self.pause().await;
        let held = feed.effects().get(vec![list.clone()]).await.unwrap().remove(0);
        let mut numbers: Vec<u32> = held.map(|held| serde_json::from_slice(&held).unwrap()).unwrap_or_default();
        numbers.push(order.number);
        self.pause().await;
        feed.effects().set(vec![(list, Some(serde_json::to_vec(&numbers).unwrap().into()))]).await.unwrap();
        feed.effects().increment(count, 1).await.unwrap();
        self.pause().await;
        // Only now, so that there is something to undo.
        match order.fate {
            Fate::Later(times) if attempt <= times => {
                return Ok(Outcome::Retry { reason: "later".into(), after: None });
            }
            Fate::Crashes(times) if attempt <= times => return Err(Failure::Trap("unreachable".into())),
            Fate::Rejected => return Ok(Outcome::Reject { reason: "never".into() }),
            Fate::Hopeless => return Ok(Outcome::Retry { reason: "hopeless".into(), after: None }),
            Fate::Good | Fate::Later(_) | Fate::Crashes(_) => {}
        }
        let data = Some(order.number.to_string().into());
        Ok(Outcome::Done(vec![Draft {
            kind: "taken".into(),
            data,
            data_content_type: Some("application/json".into()),
            ..Draft::default()
        }]))
    }
}

fn open(data: &Path) -> Store {
    let start = Instant::now();
    loop {
        match Store::open(data) {
            Ok(store) => return store,
            // The one before is about to be dropped by the last thread that has it.
            Err(OpenError::InUse { .. }) if start.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A platform's life: from its start to its end, or to a moment in the middle of it.
fn live<T: Send + 'static>(data: &Path, dice: &Dice, ended: impl AsyncFnOnce(Backend, Arc<Deployments>) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = runtime.block_on(async {
        let backend = Backend::of(Arc::new(open(data)));
        let guests = Arc::new(Guests(dice.clone()));
        let logs = LogBuffer::new(ByteSize::mib(1));
        let deployments =
            Deployments::open(backend.clone(), guests, Arc::new(()), Arc::new(()), logs, data.join("uploads"))
                .await
                .unwrap();
        let dispatcher = Dispatcher::start(Arc::clone(&deployments), 0, NonZeroUsize::new(2).unwrap()).unwrap();
        let dispatching = tokio::spawn(dispatcher.run(CancellationToken::new(), Duration::ZERO));
        let result = ended(backend, deployments).await;
        dispatching.abort();
        result
    });
    runtime.shutdown_background();
    result
}

fn check(seed: u64, order: &str, batch: bool) {
    let dice = Dice::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let topic: TopicName = "orders".parse().unwrap();
    let orders: Vec<Order> = (0..80)
        .map(|number| {
            let key = match dice.below(5) {
                0 => None,
                key => Some(format!("k{key}")),
            };
            let fate = match dice.below(12) {
                0 => Fate::Later(1 + dice.below(2) as u32),
                1 => Fate::Crashes(1 + dice.below(2) as u32),
                2 => Fate::Rejected,
                3 => Fate::Hopeless,
                _ => Fate::Good,
            };
            Order { number, key, fate }
        })
        .collect();
    let mut trigger =
        json!({ "name": "orders", "from": "beginning", "order": order, "concurrency": 1 + dice.below(8) });
    if batch {
        trigger["batch"] = json!({ "size": 7 });
    }
    let manifest: Manifest = serde_json::from_value(json!({
        "name": "obey", "component": "obey.wasm", "publish": "results", "allow": { "state": true },
        "triggers": [{ "topic": trigger }], "retry": { "attempts": ATTEMPTS, "backoff": "1ms..5ms" },
    }))
    .unwrap();

    live(folder.path(), &dice, async |backend, deployments| {
        let component = Bytes::from_static(b"a component");
        let digest = deployments.stage(Digest::of(&component), component).await.unwrap().digest;
        deployments.deploy(vec![(manifest, digest)]).await.unwrap();
        for piece in orders.chunks(10) {
            let events = piece.iter().map(|order| {
                let mut event = Event::new(order.number.to_string(), "/test", "order").unwrap();
                event.set_data(Some("application/json"), serde_json::to_vec(order).unwrap().into()).unwrap();
                if let Some(key) = &order.key {
                    event.set_extension("partitionkey", key.as_str()).unwrap();
                }
                event
            });
            backend.log.append(&topic, events.collect()).await.unwrap();
            tokio::time::sleep(Duration::from_micros(dice.below(3000))).await;
        }
    });
    for _ in 0..dice.below(4) {
        live(folder.path(), &dice, async |_, _| tokio::time::sleep(Duration::from_micros(dice.below(40_000))).await);
    }
    let name = ConsumerName { function: "obey".parse().unwrap(), topic: topic.clone() };
    live(folder.path(), &dice, async |backend, _| {
        let start = Instant::now();
        loop {
            let consumers = backend.consumers.consumers().await.unwrap();
            let consumer = consumers.iter().find(|consumer| consumer.name == name).unwrap();
            if consumer.progress.position == 80 && consumer.progress.parked == 0 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "seed {seed}: {consumer:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }

        let mut lists: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for order in orders.iter().filter(|order| order.fate.is_taken()) {
            lists.entry(order.key.as_deref().unwrap_or("none")).or_default().push(order.number);
        }
        let bucket = Bucket::Function(name.function.clone());
        let read = async |key: &str| {
            let key = Key::new(bucket.clone(), key).unwrap();
            backend.state.get(vec![key]).await.unwrap().remove(0).map(|entry| entry.value)
        };
        for (key, expected) in &lists {
            let mut found: Vec<u32> = serde_json::from_slice(&read(key).await.unwrap()).unwrap();
            // Events without a key have no order.
            if *key == "none" && order == "key" || order == "none" {
                found.sort_unstable();
            }
            assert_eq!(found, *expected, "seed {seed}, key {key}");
        }
        let taken = orders.iter().filter(|order| order.fate.is_taken()).count();
        assert_eq!(read("count").await.unwrap(), taken.to_string(), "seed {seed}");
        let results = backend.log.read(&"results".parse().unwrap(), 0, 1000, 1 << 20).await.unwrap();
        let results: Vec<_> =
            results.events.iter().map(|stored| stored.event.data().unwrap().bytes().clone()).collect();
        assert_eq!(results.len(), taken, "seed {seed}");
        assert_eq!(results.iter().collect::<HashSet<_>>().len(), taken, "seed {seed}");

        let letters = backend.consumers.dead_letters(DeadLetterFilter::default(), None, 100).await.unwrap();
        let mut dead: Vec<u32> = letters.iter().map(|letter| letter.offset as u32).collect();
        dead.sort_unstable();
        let expected: Vec<u32> =
            orders.iter().filter(|order| !order.fate.is_taken()).map(|order| order.number).collect();
        assert_eq!(dead, expected, "seed {seed}");
        for letter in letters {
            let hopeless = orders[letter.offset as usize].fate == Fate::Hopeless;
            assert_eq!(letter.attempts, if hopeless { ATTEMPTS } else { 1 }, "seed {seed}: {letter:?}");
        }
    });
}

/// An event that came through too many functions is never run, and whoever is told of dead letters is told of it.
#[test]
fn a_loop_ends_like_every_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let manifest: Manifest = serde_json::from_value(json!({
        "name": "obey", "component": "obey.wasm",
        "triggers": [{ "topic": { "name": "orders", "from": "beginning" } }], "retry": { "dead_letter": "obey.dead" },
    }))
    .unwrap();
    live(folder.path(), &Dice::new(1), async |backend, deployments| {
        let topics: [TopicName; 2] = ["orders", "dunlin.requests.obey"].map(|topic| topic.parse().unwrap());
        backend.log.create(topics.to_vec()).await.unwrap();
        let component = Bytes::from_static(b"a component");
        let digest = deployments.stage(Digest::of(&component), component).await.unwrap().digest;
        deployments.deploy(vec![(manifest, digest)]).await.unwrap();
        for topic in &topics {
            let mut event = Event::new("1", "/test", "dunlin.request").unwrap();
            event.set_extension(DEPTH, dunlin_events::event::Value::Integer(101)).unwrap();
            backend.log.append(topic, vec![event]).await.unwrap();
        }
        let told: TopicName = "obey.dead".parse().unwrap();
        backend.log.create(vec![told.clone()]).await.unwrap();
        let second = tokio::time::timeout(Duration::from_secs(30), backend.log.appended(&told, 1));
        second.await.expect("both are told").unwrap();
        let events = backend.log.read(&told, 0, 10, 1 << 20).await.unwrap().events;
        for stored in &events {
            let letter: serde_json::Value = serde_json::from_slice(stored.event.data().unwrap().bytes()).unwrap();
            assert_eq!((stored.event.kind(), &letter["reason"]), ("dunlin.dead-letter", &json!("loop")), "{letter}");
        }
        assert_eq!(events.len(), 2);
        let key = Key::new(Bucket::Shared("dunlin-requests".parse().unwrap()), "1").unwrap();
        let ended = backend.state.get(vec![key]).await.unwrap().remove(0).expect("the request has ended").value;
        let ended: serde_json::Value = serde_json::from_slice(&ended).unwrap();
        assert_eq!(ended, json!({ "status": "failed", "reason": "loop", "attempts": 0 }));
        let letters = backend.consumers.dead_letters(DeadLetterFilter::default(), None, 100).await.unwrap();
        assert_eq!(letters.len(), 2);
    });
}

#[test]
fn any_interleaving_with_order_by_key() {
    (0..25).for_each(|seed| check(seed, "key", false));
}

#[test]
fn any_interleaving_in_strict_order() {
    (100..110).for_each(|seed| check(seed, "strict", false));
}

#[test]
fn any_interleaving_without_order() {
    (200..210).for_each(|seed| check(seed, "none", false));
}

#[test]
fn any_interleaving_in_batches() {
    (300..315).for_each(|seed| check(seed, "key", true));
}
