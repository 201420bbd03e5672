//! The room that runs functions, and the only one that knows wasmtime.
//!
//! [`Wasm`] implements the runtime's contract of `dunlin_events::runtime`. It compiles components into a code cache, and
//! makes functions of versions; an invocation runs in a sandbox of its own on the thread that asks for it, under the
//! limits of the manifest, and reaches only what the manifest allows.
//!
//! Read `function.rs` for the way of a call, `sandbox.rs` for what ends it, `handler.rs` for the way of events, `access.rs`
//! for what a guest may do to state and topics, `code.rs` for the cache, `component.rs` for what is accepted as a function.

#![deny(unsafe_code)]

mod access;
mod bindings;
mod call;
mod code;
mod command;
mod component;
mod engine;
mod function;
mod gather;
mod handler;
mod host;
mod keyvalue;
mod lanes;
mod limits;
mod machine;
mod outgoing;
mod output;
mod publish;
mod sandbox;
mod sink;
mod snapshot;

pub use snapshot::{SnapshotError, snapshot};

use crate::{
    code::Code,
    component::Inspected,
    engine::Ticker,
    function::{FunctionHandle, WasmFunction},
    lanes::Lanes,
    machine::Machine,
    outgoing::Tls,
    sandbox::Tenancy,
};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Component, Digest, Failure, Function, Manifest, Runtime, Shape, Version,
    logs::LogSink,
    manifest::{Build, Content, Problem, Trigger},
    runtime::CompileError,
    secrets::Secrets,
    units::ByteSize,
};
use std::{
    collections::HashSet,
    io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// Code larger than this is mapped off the request's thread, since linking it takes milliseconds.
const MAPPED_IN_PLACE: u64 = 4 << 20;

/// What the operator decides about running functions.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Where compiled code is kept. It is a cache: losing it costs compiling again.
    pub cache: PathBuf,
    /// Sandboxes that may exist at once, for all functions together.
    pub sandboxes: NonZeroU32,
    /// Worker threads that invoke functions: the `worker` of an invocation is below this.
    pub workers: NonZeroU32,
    /// How long a function's code stays in memory after its last invocation.
    pub idle: Duration,
    pub compiler: Compiler,
}

/// How components are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compiler {
    /// To fast code.
    Optimizing,
    /// Fast, to code that is some times slower: for who changes a function and wants to see it run.
    Baseline,
}

impl RuntimeConfig {
    pub fn new(cache: PathBuf, workers: NonZeroU32) -> Self {
        Self {
            cache,
            sandboxes: NonZeroU32::new(1000).expect("1000 is not 0"),
            workers,
            idle: Duration::from_secs(60),
            compiler: Compiler::Optimizing,
        }
    }
}

/// Why the runtime can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the WebAssembly engine can't be set up: {0}")]
    Engine(String),
    #[error("the code cache `{}` can't be used: {source}", path.display())]
    Cache { path: PathBuf, source: io::Error },
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
}

/// The runtime: runs functions in wasmtime.
pub struct Wasm(Arc<Shared>);

pub(crate) struct Shared {
    /// For components of WASI 0.2, commands and event handlers. What the first can't compile is for the next.
    plain: Vec<Arc<Machine>>,
    /// For components of WASI 0.3.
    concurrent: Vec<Arc<Machine>>,
    ticker: Ticker,
    pub(crate) lanes: Lanes,
    /// One component is compiled at a time, on all cores.
    compiling: Mutex<()>,
    compiler: Compiler,
    sandboxes: Arc<Semaphore>,
    pub(crate) workers: usize,
    idle: Duration,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) logs: Arc<dyn LogSink>,
    pub(crate) tls: Arc<Tls>,
    loaded: Mutex<Vec<Weak<WasmFunction>>>,
    some_loaded: Notify,
}

impl Wasm {
    pub fn start(
        config: &RuntimeConfig,
        secrets: Arc<dyn Secrets>,
        logs: Arc<dyn LogSink>,
    ) -> Result<Self, StartError> {
        let (plain, concurrent) = (Machine::all(config, false)?, Machine::all(config, true)?);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self(Arc::new(Shared {
            ticker: Ticker::start(plain.iter().chain(&concurrent).map(|machine| &machine.engine))
                .map_err(StartError::Thread)?,
            lanes: Lanes::start(threads).map_err(StartError::Thread)?,
            plain,
            concurrent,
            compiling: Mutex::default(),
            compiler: config.compiler,
            sandboxes: Arc::new(Semaphore::new(config.sandboxes.get() as usize)),
            workers: config.workers.get() as usize,
            idle: config.idle,
            secrets,
            logs,
            tls: Arc::default(),
            loaded: Mutex::default(),
            some_loaded: Notify::new(),
        })))
    }

    /// Drops the code of functions that were idle for long enough, until `shutdown`. Sleeps while nothing is loaded.
    pub async fn run(&self, shutdown: CancellationToken) {
        let shared = &self.0;
        let sweeps = async {
            loop {
                if shared.loaded().is_empty() {
                    shared.some_loaded.notified().await;
                }
                tokio::time::sleep(shared.idle.max(Duration::from_millis(10))).await;
                shared.loaded().retain(|function| function.upgrade().is_some_and(|function| function.sweep()));
            }
        };
        shutdown.run_until_cancelled(sweeps).await;
    }
}

impl Shared {
    fn machines(&self, shape: Shape) -> &[Arc<Machine>] {
        match shape {
            Shape::Http02 | Shape::Command | Shape::Handler => &self.plain,
            Shape::Http03 => &self.concurrent,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Machine> {
        self.plain.iter().chain(&self.concurrent).map(Arc::as_ref)
    }

    /// The machine that has compiled a component.
    fn home(&self, digest: Digest, shape: Shape) -> Option<&Arc<Machine>> {
        self.machines(shape).iter().find(|machine| machine.cache.holds(digest))
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, Vec<Weak<WasmFunction>>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a function swept from now on.
    pub(crate) fn watch(&self, function: &Arc<WasmFunction>) {
        let mut loaded = self.loaded();
        if !loaded.iter().any(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(function))) {
            loaded.push(Arc::downgrade(function));
        }
        drop(loaded);
        self.some_loaded.notify_one();
    }

    /// A place among the platform's sandboxes, waited for until the deadline if there is one.
    pub(crate) async fn tenancy(&self, deadline: Option<Instant>) -> Result<Tenancy, Failure> {
        let permit = match Arc::clone(&self.sandboxes).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let place = Arc::clone(&self.sandboxes).acquire_owned();
                match deadline {
                    Some(deadline) => timeout_at(deadline, place).await.ok().and_then(Result::ok),
                    None => place.await.ok(),
                }
            }
        };
        let permit = permit.ok_or_else(|| Failure::Exhausted("all of them are in use".into()))?;
        Ok(Tenancy { _sandbox: permit, _ticker: self.ticker.enter() })
    }

    pub(crate) async fn code(self: &Arc<Self>, digest: Digest, shape: Shape) -> Result<Arc<Code>, Failure> {
        if let Some(code) = self.machines(shape).iter().find_map(|machine| machine.cache.shared(digest)) {
            return Ok(code);
        }
        let unusable = |why: String| Failure::Start(format!("its compiled code can't be loaded: {why}"));
        let machine = self.home(digest, shape).ok_or_else(|| unusable("it isn't in the cache".into()))?;
        let mapped = if machine.cache.size(digest) <= MAPPED_IN_PLACE {
            machine.map(digest, shape)
        } else {
            let machine = Arc::clone(machine);
            tokio::task::spawn_blocking(move || machine.map(digest, shape))
                .await
                .unwrap_or_else(|error| Err(wasmtime::Error::from(error)))
        };
        mapped.map_err(|error| unusable(format!("{error:#}")))
    }

    /// Compiling is the heaviest thing the platform does, and nobody's request waits for it: its threads go last, unless it
    /// is for somebody who has changed a function and looks. They are made for it and end with it, since idle threads would
    /// keep the hundred megabytes it takes.
    fn precompile(&self, inspected: &Inspected) -> Result<(&Arc<Machine>, Vec<u8>), CompileError> {
        let _compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.compiler == Compiler::Optimizing;
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|n| format!("compile-{n}"))
            .start_handler(move |_| {
                if last {
                    lanes::lower_priority()
                }
            })
            .build()
            .map_err(|error| CompileError::Cache(format!("no threads can be had to compile: {error}")))?;
        let mut refused = None;
        for machine in self.machines(inspected.shape) {
            match threads.install(|| machine.engine.precompile_component(&inspected.bytes)) {
                Ok(compiled) => {
                    if let Some(reason) = refused {
                        tracing::debug!(%reason, "compiled by the slower compiler what the faster one refuses");
                    }
                    return Ok((machine, compiled));
                }
                Err(error) => {
                    component::validate(&inspected.bytes)?;
                    refused = Some(format!("{error:#}"));
                }
            }
        }
        // Of the last, which knows most.
        Err(CompileError::Invalid { offset: 0, reason: refused.unwrap_or_default() })
    }

    fn compile(&self, upload: &Bytes) -> Result<Component, CompileError> {
        let digest = Digest::of(upload);
        let inspected = component::inspect(upload)?;
        let machine = match self.home(digest, inspected.shape) {
            Some(machine) => {
                machine.cache.touch(digest);
                machine
            }
            None => {
                let (machine, compiled) = self.precompile(&inspected)?;
                machine.cache.store(digest, &compiled)?;
                machine
            }
        };
        let component = machine.component(digest).map_err(|error| {
            component::too_demanding(&error)
                .unwrap_or_else(|| CompileError::Cache(format!("what was written can't be read: {error:#}")))
        })?;
        machine.link(&component, inspected.shape).map_err(|error| component::link_error(&error, &inspected))?;
        Ok(Component {
            digest,
            size: upload.len() as u64,
            shape: inspected.shape,
            initial_memory: component::initial_memory(&component)?,
            imports: inspected.imports,
        })
    }
}

impl Runtime for Wasm {
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<Component, CompileError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || shared.compile(&component))
                .await
                .unwrap_or_else(|error| Err(CompileError::Cache(format!("the compiler broke off: {error}"))))
        })
    }

    fn is_compiled(&self, digest: Digest) -> bool {
        self.0.all().any(|machine| machine.cache.holds(digest))
    }

    fn check(&self, manifest: &Manifest, component: &Component) -> Vec<Problem> {
        // What an interpreter imports says nothing. A function in it is refused what it may not when it calls it.
        let telling = !manifest.build.as_ref().is_some_and(Build::imports_everything);
        let mut problems = if telling { access::problems(manifest, component) } else { Vec::new() };
        let sink = manifest.publish.is_some() || !manifest.allow.publish.is_empty();
        if telling
            && manifest.allow.http.is_none()
            // It may be for the sink alone. What else it calls is refused.
            && !sink
            && let Some(import) = component.imports.iter().find(|import| {
                import.starts_with("wasi:http/outgoing-handler@") || import.starts_with("wasi:http/client@")
            })
        {
            problems.push(
                Problem::new("/allow/http", format!("the component imports `{import}`, which the manifest doesn't allow"))
                    .help("add `allow: { http: [\"https://api.example.com\"] }` with the servers it calls, or `http: []` if it calls none"),
            );
        }
        let memory = manifest.limits.memory;
        if memory.bytes() < component.initial_memory {
            problems.push(
                Problem::new(
                    "/limits/memory",
                    format!(
                        "the component starts with {} of memory, more than `memory` allows ({memory})",
                        ByteSize(component.initial_memory)
                    ),
                )
                .help(format!(
                    "allow at least twice that: `memory: {}`",
                    ByteSize::mib((component.initial_memory >> 19) + 1)
                )),
            );
        }
        if memory.bytes() > engine::MAX_MEMORY {
            problems.push(
                Problem::new("/limits/memory", format!("a sandbox can't have {memory} of memory"))
                    .help(format!("the most is {}", ByteSize(engine::MAX_MEMORY))),
            );
        }
        if let Some(reuse) = &manifest.reuse
            && reuse.concurrency.get() > 1
            && component.shape != Shape::Http03
        {
            problems.push(
                Problem::new(
                    "/reuse/concurrency",
                    format!("a component of shape `{}` serves one request at a time", component.shape),
                )
                .help("leave `concurrency` out; only WASI 0.3 components can serve several requests at once"),
            );
        }
        if let Some(reuse) = &manifest.reuse
            && reuse.count.get() > 1
            && component.shape == Shape::Command
        {
            problems.push(
                Problem::new("/reuse/count", "a command ends with its run, so its sandbox can't be used again")
                    .help("leave `reuse` out"),
            );
        }
        if component.shape == Shape::Handler {
            problems.extend(manifest.http_triggers().map(|(index, _)| {
                let what = "the component exports `dunlin:function/handler`, so it takes events, not requests";
                Problem::new(format!("/triggers/{index}/http"), what).help(
                    "give it a `topic` trigger, and put what answers requests into a function of its own, which exports `wasi:http/incoming-handler`",
                )
            }));
        }
        if component.shape == Shape::Handler {
            let streamed =
                |trigger: &Trigger| matches!(trigger, Trigger::Files(files) if files.content == Content::Stream);
            let triggers = manifest.triggers.iter().enumerate().filter(|(_, trigger)| streamed(trigger));
            problems.extend(triggers.map(|(index, _)| {
                let what =
                    "the component exports `dunlin:function/handler`, so it gets events, and no request with a body";
                Problem::new(format!("/triggers/{index}/files/content"), what)
                    .help("leave the line out: `filelocation` says where it finds the file")
            }));
        }
        for (index, name) in manifest.allow.secrets.iter().enumerate() {
            if let Err(error) = self.0.secrets.get(name) {
                problems.push(Problem::new(format!("/allow/secrets/{index}"), error.to_string()));
            }
        }
        problems
    }

    fn function(&self, version: &Version) -> Arc<dyn Function> {
        Arc::new(FunctionHandle(WasmFunction::new(Arc::clone(&self.0), version)))
    }

    fn prune(&self, keep: &HashSet<Digest>) -> io::Result<()> {
        self.0.all().try_for_each(|machine| machine.cache.prune(keep))
    }
}

/// The folder of the code cache below a data directory.
pub fn cache_dir(data: &Path) -> PathBuf {
    data.join("cache")
}
