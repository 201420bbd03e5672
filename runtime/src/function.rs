//! One version of a function: who may run it now, its code while that is loaded, and the way of a call into a sandbox.
//!
//! An idle function is this struct and nothing else. The first call loads its code; a sweep drops it again after an idle
//! time ([`WasmFunction::sweep`]).

use crate::{
    Shared,
    access::Rights,
    call::{Answer, Call, Caller, Fate, declared_length, guest_request},
    code::{Code, Entry},
    command,
    gather::gather,
    handler::{self, Errand, Shift},
    host::{Host, Surroundings},
    outgoing::Client,
    output::{Log, Output, to_mask},
    sandbox::{self, Seat, Shard, Tenancy, Ward},
    sink,
};
use arc_swap::ArcSwapOption;
use dunlin_events::{
    Body, BoxFuture, Failure, Function, Invocation, Manifest, Shape, Version,
    allow::Destinations,
    invocation::Effected,
    manifest::{Limits, Reuse, Trigger},
    runtime::{Feed, Load},
    secrets::SecretValue,
    units::ByteSize,
};
use http::{Request, Response};
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

/// How `wasmtime serve` reuses WASI 0.3 instances.
const REUSE_03: (u32, u32) = (128, 16);
const IDLE_03: Duration = Duration::from_secs(1);
/// Calls one sandbox of an event handler gets. A sandbox costs some 100 times what a small event does.
const CALLS_OF_A_HANDLER: u32 = 128;

/// A version that can be run.
pub(crate) struct WasmFunction {
    shared: Arc<Shared>,
    version: Version,
    log: Arc<Log>,
    places: Arc<Semaphore>,
    running_limit: u32,
    waiting: AtomicU32,
    loaded: ArcSwapOption<Loaded>,
    loading: Mutex<()>,
    used: AtomicBool,
}

/// A function whose code is in memory.
pub(crate) struct Loaded {
    shared: Arc<Shared>,
    pub(crate) policy: Policy,
    code: Arc<Code>,
    surroundings: Surroundings,
    masked: Arc<[SecretValue]>,
    log: Arc<Log>,
    /// One for each worker thread.
    shards: Box<[Arc<Shard>]>,
}

/// What of the manifest matters while the function runs.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) limits: Limits,
    pub(crate) reuse: Reuse,
}

impl Policy {
    fn of(version: &Version) -> Self {
        let of = |count, concurrency, idle| Reuse {
            count: NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN),
            concurrency: NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN),
            idle,
        };
        let default = match version.component.shape {
            Shape::Http03 => of(REUSE_03.0, REUSE_03.1, IDLE_03),
            Shape::Handler => of(CALLS_OF_A_HANDLER, 1, Duration::ZERO),
            Shape::Http02 | Shape::Command => of(1, 1, Duration::ZERO),
        };
        Self { limits: version.manifest.limits.clone(), reuse: version.manifest.reuse.clone().unwrap_or(default) }
    }

    /// Whether a sandbox runs several calls at the same time.
    pub(crate) fn shared(&self) -> bool {
        self.reuse.concurrency.get() > 1 && self.reused()
    }

    fn reused(&self) -> bool {
        self.reuse.count.get() > 1
    }
}

impl WasmFunction {
    pub(crate) fn new(shared: Arc<Shared>, version: &Version) -> Arc<Self> {
        let running_limit = version.manifest.limits.concurrency.get();
        Arc::new(Self {
            log: Arc::new(Log {
                function: version.name().clone(),
                version: version.number,
                sink: Arc::clone(&shared.logs),
            }),
            shared,
            places: Arc::new(Semaphore::new(running_limit as usize)),
            running_limit,
            version: version.clone(),
            waiting: AtomicU32::new(0),
            loaded: ArcSwapOption::empty(),
            loading: Mutex::new(()),
            used: AtomicBool::new(false),
        })
    }

    /// Drops the code if nothing ran since the last sweep. Says whether it is still loaded.
    pub(crate) fn sweep(&self) -> bool {
        if self.used.swap(false, Relaxed) {
            return true;
        }
        self.loaded.store(None);
        false
    }

    /// Takes one of the function's places, or waits for one in the bounded queue.
    async fn place(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(permit);
        }
        struct Waiting<'a>(&'a AtomicU32);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let queue = self.version.manifest.limits.queue;
        let busy = || Failure::Busy { concurrency: self.running_limit, queue };
        let ahead = self.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= queue {
            return Err(busy());
        }
        match timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }

    async fn load(self: &Arc<Self>) -> Result<Arc<Loaded>, Failure> {
        self.used.store(true, Relaxed);
        if let Some(loaded) = self.loaded.load_full() {
            return Ok(loaded);
        }
        let _loading = self.loading.lock().await;
        if let Some(loaded) = self.loaded.load_full() {
            return Ok(loaded);
        }
        let code = self.shared.code(self.version.component.digest, self.version.component.shape).await?;
        let loaded = Arc::new(self.equip(code)?);
        self.loaded.store(Some(Arc::clone(&loaded)));
        self.shared.watch(self);
        Ok(loaded)
    }

    /// Gives the code what the manifest allows.
    fn equip(&self, code: Arc<Code>) -> Result<Loaded, Failure> {
        let allow = &self.version.manifest.allow;
        let mut configuration: Vec<(String, String)> =
            allow.env.iter().map(|(name, value)| (name.as_str().to_owned(), value.clone())).collect();
        let mut secrets = Vec::new();
        for name in &allow.secrets {
            let value = self.shared.secrets.get(name).map_err(|error| Failure::Start(error.to_string()))?;
            configuration.push((name.as_str().to_owned(), value.expose().to_owned()));
            secrets.push(value);
        }
        let client =
            allow.http.as_ref().map(|_| Arc::new(Client::new(Destinations::new(allow), Arc::clone(&self.shared.tls))));
        let policy = Policy::of(&self.version);
        let rights = Rights::new(&self.version.manifest);
        // A variable the manifest sets itself stands.
        let sink = rights.returned().is_ok() && !configuration.iter().any(|(name, _)| name == "K_SINK");
        let shards = (0..self.shared.workers).map(|_| Arc::default()).collect();
        Ok(Loaded {
            shared: Arc::clone(&self.shared),
            surroundings: Surroundings {
                configuration: configuration.into(),
                sink: sink.then_some(sink::URL),
                memory: policy.limits.memory.bytes(),
                client,
                rights: Arc::new(rights),
                folders: folders(&self.version.manifest),
            },
            policy,
            code,
            masked: to_mask(&secrets),
            log: Arc::clone(&self.log),
            shards,
        })
    }

    async fn run(self: &Arc<Self>, request: Request<Body>, invocation: Invocation) -> Answer {
        if self.version.component.shape == Shape::Handler {
            return Err(Failure::Start("it takes events, not requests".into()));
        }
        let limits = &self.version.manifest.limits;
        let limit = match &invocation.effects {
            Effected::Function(_) => limits.request_body,
            // What the platform hands over itself was let in already, and a file is read only as fast as it is taken.
            Effected::Event(_) => ByteSize(u64::MAX),
        };
        if declared_length(request.headers()).is_some_and(|length| length > limit.bytes()) {
            return Err(Failure::RequestTooLarge { limit });
        }
        let deadline = Instant::now() + limits.time;
        let permit = self.place(deadline).await?;
        let loaded = self.load().await?;
        loaded.surroundings.ready().await?;
        let (fate, answer) = Fate::new(invocation.id);
        let abandon = Abandon(Some(&*fate));
        let (request, effects) = (guest_request(request, &fate, limit), invocation.effects);
        let call = Call { request, fate: Arc::clone(&fate), deadline, permit, effects };
        loaded.start(call, invocation.worker).await?;
        let answer = answer.await;
        abandon.defuse();
        gather(answer.unwrap_or_else(|_| Err(cut_off()))?).await
    }

    async fn handle(self: &Arc<Self>, feed: Arc<dyn Feed>, invocation: Invocation) -> Result<(), Failure> {
        if self.version.component.shape != Shape::Handler {
            let shape = self.version.component.shape;
            return Err(Failure::Start(format!("it is of the shape `{shape}` and takes requests, not events")));
        }
        let places = Arc::clone(&self.places);
        let permit = places.acquire_owned().await.map_err(|error| Failure::Start(error.to_string()))?;
        let loaded = self.load().await?;
        loaded.surroundings.ready().await?;
        let tenancy = self.shared.tenancy(None).await?;
        let shift = Shift::new(invocation.id, Arc::clone(&feed));
        let abandon = Abandon(Some(&*shift));
        let (done, ended) = oneshot::channel();
        loaded.send(Errand { shift: Arc::clone(&shift), feed, permit, done }, tenancy);
        if ended.await.is_err() {
            shift.ended(Err(cut_off()));
        }
        abandon.defuse();
        Ok(())
    }
}

/// The folders of a function's files triggers, each once.
fn folders(manifest: &Manifest) -> Vec<String> {
    let mut folders: Vec<String> = Vec::new();
    for trigger in &manifest.triggers {
        if let Trigger::Files(files) = trigger
            && let Some(path) = &files.path
            && !folders.contains(path)
        {
            folders.push(path.clone());
        }
    }
    folders
}

/// The platform is shutting down, or something in it panicked.
fn cut_off() -> Failure {
    Failure::Trap("its sandbox was ended without a word".into())
}

/// Tells the sandbox when nobody waits for it any more.
struct Abandon<'a>(Option<&'a dyn Caller>);

impl Abandon<'_> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(caller) = self.0 {
            caller.abandon();
        }
    }
}

impl Loaded {
    /// Brings a call into a sandbox: one that waits for it, or a new one.
    async fn start(self: &Arc<Self>, call: Call, worker: usize) -> Result<(), Failure> {
        let shard = &self.shards[worker % self.shards.len()];
        let call = if self.policy.reused() && call.sociable() {
            match shard.dispatch(call) {
                Ok(()) => return Ok(()),
                Err(call) => call,
            }
        } else {
            call
        };
        let tenancy = self.shared.tenancy(Some(call.deadline)).await?;
        self.open(call, tenancy, shard);
        Ok(())
    }

    /// Opens a new sandbox for a call.
    fn open(self: &Arc<Self>, call: Call, tenancy: Tenancy, shard: &Arc<Shard>) {
        let ward = Ward::new();
        let meter = Arc::clone(&ward.meter);
        let run = Arc::clone(self).occupy(call, tenancy, Arc::clone(shard), ward);
        self.shared.lanes.spawn(Box::pin(run), meter);
    }

    async fn occupy(self: Arc<Self>, call: Call, tenancy: Tenancy, shard: Arc<Shard>, ward: Arc<Ward>) {
        let output = Output::new(Arc::clone(&self.log), Arc::clone(&self.masked));
        let exceeded = Arc::clone(&ward.memory_exceeded);
        match &self.code.entry {
            Entry::Http(pre) => {
                let seat = (self.policy.reused() && call.sociable()).then(|| {
                    let (loaded, home) = (Arc::clone(&self), Arc::clone(&shard));
                    Seat::new(shard, move |call| loaded.rehome(call, &home))
                });
                let store = Host::store(self.engine(), &self.surroundings, &output, exceeded);
                let guest = sandbox::serve(store, pre, call, &self, &ward, &output, seat.as_ref());
                sandbox::drive(guest, &ward, &self.policy, seat.as_ref(), &self.log, &output).await;
            }
            Entry::Command(pre) => {
                let guest = command::run(pre, call, &self, &ward, &output, exceeded);
                sandbox::drive(guest, &ward, &self.policy, None, &self.log, &output).await;
            }
            Entry::Handler(_) => call.fate.fail(Failure::Start("it takes events, not requests".into())),
        }
        drop(tenancy);
    }

    /// Opens a new sandbox for the calls of a feed.
    fn send(self: &Arc<Self>, errand: Errand, tenancy: Tenancy) {
        let ward = Ward::new();
        let meter = Arc::clone(&ward.meter);
        let run = Arc::clone(self).attend(errand, tenancy, ward);
        self.shared.lanes.spawn(Box::pin(run), meter);
    }

    async fn attend(self: Arc<Self>, errand: Errand, tenancy: Tenancy, ward: Arc<Ward>) {
        let output = Output::new(Arc::clone(&self.log), Arc::clone(&self.masked));
        if let Entry::Handler(pre) = &self.code.entry {
            let store = Host::store(self.engine(), &self.surroundings, &output, Arc::clone(&ward.memory_exceeded));
            let guest = handler::run(store, pre, &errand, &self, &ward, &output);
            sandbox::drive(guest, &ward, &self.policy, None, &self.log, &output).await;
        }
        drop(tenancy);
        drop(errand.permit);
        let _ = errand.done.send(());
    }

    /// A call whose sandbox died before it began gets a new one.
    fn rehome(self: &Arc<Self>, call: Call, shard: &Arc<Shard>) {
        let (loaded, shard) = (Arc::clone(self), Arc::clone(shard));
        tokio::spawn(async move {
            match loaded.shared.tenancy(Some(call.deadline)).await {
                Ok(tenancy) => loaded.open(call, tenancy, &shard),
                Err(failure) => call.fate.fail(failure),
            }
        });
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.code.engine
    }

    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub(crate) fn name(&self) -> &str {
        self.log.function.as_str()
    }
}

/// The handle the rest of the platform holds.
pub(crate) struct FunctionHandle(pub(crate) Arc<WasmFunction>);

impl Function for FunctionHandle {
    fn invoke<'a>(
        &'a self,
        request: Request<Body>,
        invocation: Invocation,
    ) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        Box::pin(self.0.run(request, invocation))
    }

    fn handle<'a>(&'a self, feed: Arc<dyn Feed>, invocation: Invocation) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.0.handle(feed, invocation))
    }

    fn load(&self) -> Load {
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(u32::MAX);
        Load { running: self.0.running_limit.saturating_sub(free), waiting: self.0.waiting.load(Relaxed) }
    }
}
