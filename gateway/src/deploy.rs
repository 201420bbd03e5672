//! What is active, and every change of it.
//!
//! ```text
//!   stage ──▶ uploads ─┐
//!                      ▼
//!   deploy ──▶ check all ──▶ registry.deploy ──▶ swap the table      one change at a time; a request that began with
//!              (no change)   (on disk, whole)    (cannot fail)       the old table ends with it
//! ```
//!
//! The registry is the truth and the [`Table`] its image in memory. All that can fail is done before the registry is
//! asked, and what follows it runs to its end even when the caller has gone, so the two never part. The table is replaced
//! whole, never edited: a request sees all of a deploy or nothing of it.

use crate::{
    active::ActiveFunction,
    api::FunctionProblem,
    backend::Backend,
    dispatch::{self, Immediate, Switchboard},
    http::{
        routes::{Conflict, Routes},
        webhook,
    },
    logs::LogBuffer,
    sources,
    uploads::Uploads,
};
use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use dunlin_events::{
    BoxFuture, Component, Digest, FunctionName, Manifest, Runtime, Shape, Version,
    consumers::{CommitError, ConsumerName, Progress, Start},
    logs::{LogRecord, LogSink},
    manifest::{Problem, Trigger},
    registry::{Deployed, NewVersion, RegistryError, Versions},
    runtime::CompileError,
    secrets::Secrets,
    source::{Contents, Source, SourceError, Sources},
    state::Bucket,
};
use futures_util::{StreamExt as _, future::try_join_all, stream};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex, Notify},
    task::spawn_blocking,
};

/// Manifests of a deploy that are checked at once: a database that doesn't answer takes seconds to say so.
const CHECKS: usize = 32;
/// How long an upload waits for its deploy.
const UPLOAD_AGE: Duration = Duration::from_secs(3600);

/// The active functions and the routes to them.
#[derive(Default)]
pub struct Table {
    pub routes: Routes,
    pub functions: BTreeMap<FunctionName, Arc<ActiveFunction>>,
}

/// Deploys functions and knows the active ones.
pub struct Deployments {
    backend: Backend,
    runtime: Arc<dyn Runtime>,
    logs: Arc<LogBuffer>,
    uploads: Arc<Uploads>,
    table: ArcSwap<Table>,
    board: Switchboard,
    limits_set: Notify,
    sources: Arc<dyn Sources>,
    secrets: Arc<dyn Secrets>,
    source_board: sources::Board,
    /// Held by every change from its first check to the swap.
    changes: Mutex<()>,
}

/// What a deploy would do with one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    pub manifest: Manifest,
    pub component: Component,
    /// The number of the active version, where it is the same already.
    pub unchanged: Option<u64>,
    /// The registry hasn't got the component yet.
    new_component: bool,
}

/// Why the active functions can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the uploads folder `{}` can't be used: {error}", path.display())]
    Uploads { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What was deployed together can't be any more: this build of the platform routes otherwise than an earlier one.
    #[error("deployed functions contradict each other: {0}")]
    Conflict(Conflict),
}

/// Why an upload was refused. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("the bytes are those of {actual}, not of {named}: the upload was damaged or misnamed")]
    Digest { named: Digest, actual: Digest },
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error("the upload can't be kept: {0}")]
    Storage(io::Error),
}

/// Why a deploy was refused. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Everything that speaks against it, for all functions.
    #[error("{} found, so nothing was deployed", count(.0.len()))]
    Problems(Vec<FunctionProblem>),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("a component can't be compiled now: {0}")]
    Compile(CompileError),
    #[error("an uploaded component can't be read: {0}")]
    Storage(io::Error),
}

/// Why a function was not rolled back. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// What was fit to deploy then and isn't now.
    #[error("{} found, so nothing was rolled back", count(.0.len()))]
    Problems(Vec<FunctionProblem>),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("its component can't be compiled: {0}")]
    Compile(CompileError),
}

/// Why a function was not removed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("what its {trigger} trigger made upstream can't be taken away: {error}")]
    Upstream { trigger: &'static str, error: SourceError },
}

/// Why a deployed component is not in the code cache.
#[derive(Debug, thiserror::Error)]
enum NotCompiled {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Compile(#[from] CompileError),
}

impl From<NotCompiled> for RollbackError {
    fn from(error: NotCompiled) -> Self {
        match error {
            NotCompiled::Registry(error) => Self::Registry(error),
            NotCompiled::Compile(error) => Self::Compile(error),
        }
    }
}

impl OpenError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Uploads { .. } => true,
            Self::Registry(error) => error.retryable(),
            Self::Conflict(_) => false,
        }
    }
}

impl StageError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Digest { .. } => false,
            Self::Compile(error) => error.retryable(),
            Self::Storage(_) => true,
        }
    }
}

impl DeployError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Problems(_) => false,
            Self::Registry(error) => error.retryable(),
            Self::Compile(error) => error.retryable(),
            Self::Storage(_) => true,
        }
    }
}

impl RemoveError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Registry(error) => error.retryable(),
            Self::Upstream { .. } => true,
        }
    }
}

impl RollbackError {
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Problems(_) => false,
            Self::Registry(error) => error.retryable(),
            Self::Compile(error) => error.retryable(),
        }
    }
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".into() } else { format!("{problems} problems") }
}

impl Deployments {
    /// Loads what is active, and compiles what the code cache lacks of it: after an upgrade that is everything.
    ///
    /// A function whose component this platform can't compile doesn't keep the others from starting. It stays deployed,
    /// its calls fail, and its log says why.
    pub async fn open(
        backend: Backend,
        runtime: Arc<dyn Runtime>,
        sources: Arc<dyn Sources>,
        secrets: Arc<dyn Secrets>,
        logs: Arc<LogBuffer>,
        uploads: PathBuf,
    ) -> Result<Arc<Self>, OpenError> {
        let folder = uploads.clone();
        let uploads = blocking(move || Uploads::open(folder))
            .await
            .map_err(|error| OpenError::Uploads { path: uploads, error })?;
        let versions = backend.registry.active().await?;
        let this = Self {
            backend,
            runtime,
            logs,
            uploads,
            table: ArcSwap::default(),
            board: Switchboard::default(),
            limits_set: Notify::new(),
            sources,
            secrets,
            source_board: sources::Board::default(),
            changes: Mutex::default(),
        };

        let digests: HashSet<_> = versions.iter().map(|version| version.component.digest).collect();
        for digest in digests {
            if let Err(error) = this.compile_deployed(digest).await {
                tracing::error!(component = %digest, %error, "a deployed component can't be compiled");
                for version in versions.iter().filter(|version| version.component.digest == digest) {
                    this.say(version, format!("it can't be compiled by this platform, so it can't run: {error}"));
                }
            }
        }
        let functions = versions.into_iter().map(|version| this.activate(version, None));
        let functions = functions.map(|function| (function.name().clone(), function)).collect();
        let table = Table::build(functions).map_err(|mut conflicts| OpenError::Conflict(conflicts.remove(0)))?;
        this.table.store(Arc::new(table));
        Ok(Arc::new(this))
    }

    /// What is active now. Lock-free; a request loads it once.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    pub fn logs(&self) -> &Arc<LogBuffer> {
        &self.logs
    }

    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// What webhooks are verified with.
    pub(crate) fn secrets(&self) -> &Arc<dyn Secrets> {
        &self.secrets
    }

    pub(crate) fn switchboard(&self) -> &Switchboard {
        &self.board
    }

    /// The running sources.
    pub(crate) fn sources(&self) -> &sources::Board {
        &self.source_board
    }

    /// The source of a trigger, not yet running.
    pub(crate) fn open_source(&self, function: &FunctionName, trigger: &Trigger) -> Option<Box<dyn Source>> {
        self.sources.open(function, trigger)
    }

    /// What a function is handed with events beyond what topics have of them.
    pub(crate) fn contents(&self, manifest: &Manifest) -> Option<Arc<dyn Contents>> {
        self.sources.contents(manifest)
    }

    /// There are topics that were not there, or some are gone.
    pub fn topics_changed(&self) {
        self.board.changed();
    }

    /// Told when what a topic keeps has been limited.
    pub(crate) fn limits_set(&self) -> &Notify {
        &self.limits_set
    }

    /// What a consumer has parked was changed.
    pub fn wake(&self, name: &ConsumerName) {
        self.board.wake(name);
    }

    /// Moves a consumer. What it runs ends first.
    pub async fn seek(&self, name: &ConsumerName, to: Start) -> Result<Progress, CommitError> {
        self.board.seek(&self.backend, name, to).await
    }

    /// Takes an upload: compiles it and keeps it until a deploy uses it, for an hour.
    ///
    /// Cancel safe: it is kept whole or not at all.
    pub async fn stage(&self, digest: Digest, bytes: Bytes) -> Result<Component, StageError> {
        let hashed = bytes.clone();
        let actual = blocking(move || Digest::of(&hashed)).await;
        if actual != digest {
            return Err(StageError::Digest { named: digest, actual });
        }
        let component = self.runtime.compile(bytes.clone()).await?;
        let (uploads, kept) = (Arc::clone(&self.uploads), component.clone());
        blocking(move || uploads.keep(kept, &bytes, Instant::now())).await.map_err(StageError::Storage)?;
        Ok(component)
    }

    /// What is known of a component that some version uses, or that was uploaded.
    pub async fn component(&self, digest: Digest) -> Result<Option<Component>, RegistryError> {
        Ok(match self.uploads.component(digest) {
            Some(component) => Some(component),
            None => self.backend.registry.component(digest).await?,
        })
    }

    /// Makes all of them active as new versions, or changes nothing. Answers in the order given.
    ///
    /// Cancel safe: once begun it runs to its end.
    pub async fn deploy(self: &Arc<Self>, functions: Vec<(Manifest, Digest)>) -> Result<Vec<Deployed>, DeployError> {
        let this = Arc::clone(self);
        to_the_end(async move {
            let _change = this.changes.lock().await;
            let planned = this.plan(functions).await?;
            let versions = this.new_versions(planned).await?;
            let digests: HashSet<_> = versions.iter().map(|version| version.component.digest).collect();
            let deployed = this.backend.registry.deploy(versions).await?;

            let mut functions = this.table().functions.clone();
            for Deployed { version, .. } in deployed.iter().filter(|deployed| !deployed.unchanged) {
                let name = version.name().clone();
                let function = this.activate(version.clone(), functions.get(&name).map(|old| &**old));
                functions.insert(name, function);
                this.say(version, format!("version {} deployed", version.number));
            }
            let table = Table::build(functions).expect("the same routes were found free of conflicts before");
            this.table.store(Arc::new(table));
            this.begin_reading(&deployed).await;
            this.board.changed();
            this.source_board.changed();
            let uploads = Arc::clone(&this.uploads);
            blocking(move || uploads.forget(digests)).await;
            tracing::info!(functions = deployed.len(), "deployed");
            Ok(deployed)
        })
        .await
    }

    /// What a deploy would do, without doing it.
    pub async fn check(&self, functions: Vec<(Manifest, Digest)>) -> Result<Vec<Planned>, DeployError> {
        let _change = self.changes.lock().await;
        self.plan(functions).await
    }

    /// A function's versions.
    pub async fn versions(&self, name: &FunctionName) -> Result<Versions, RegistryError> {
        self.backend.registry.versions(name).await
    }

    /// Makes an existing version the active one: the one given, or the one before the active one.
    ///
    /// It is checked like a deploy, since routes, secrets and the platform may have changed since. Cancel safe: once
    /// begun it runs to its end.
    pub async fn rollback(
        self: &Arc<Self>,
        name: FunctionName,
        to: Option<u64>,
    ) -> Result<Arc<ActiveFunction>, RollbackError> {
        let this = Arc::clone(self);
        to_the_end(async move {
            let _change = this.changes.lock().await;
            let version = earlier(this.backend.registry.versions(&name).await?, &name, to)?;
            let problem = |problem| FunctionProblem { function: Some(name.clone()), index: 0, problem };
            let mut problems = this.runtime.check(&version.manifest, &version.component);
            problems.extend(webhook::problems(&version.manifest, &version.component, &*this.secrets));
            let mut problems: Vec<_> = problems.into_iter().map(problem).collect();

            let mut functions = this.table().functions.clone();
            let number = version.number;
            let function = this.activate(version, functions.get(&name).map(|old| &**old));
            functions.insert(name.clone(), Arc::clone(&function));
            let table = match Table::build(functions) {
                Ok(table) if problems.is_empty() => table,
                Ok(_) => return Err(RollbackError::Problems(problems)),
                Err(conflicts) => {
                    problems.extend(conflicts.iter().map(|conflict| problem(conflict.problem_of(&name))));
                    return Err(RollbackError::Problems(problems));
                }
            };
            this.compile_deployed(function.version.component.digest).await?;
            this.backend.registry.rollback(&name, Some(number)).await?;
            this.table.store(Arc::new(table));
            this.board.changed();
            this.source_board.changed();
            this.say(&function.version, format!("version {number} is active again"));
            tracing::info!(function = %name, version = number, "rolled back");
            Ok(function)
        })
        .await
    }

    /// Forgets a function with all its versions. Requests in flight end as usual. With `dispose` its triggers take away
    /// first what they made upstream; where one can't, nothing has changed.
    ///
    /// Cancel safe: once begun it runs to its end.
    pub async fn remove(self: &Arc<Self>, name: FunctionName, dispose: bool) -> Result<(), RemoveError> {
        let this = Arc::clone(self);
        to_the_end(async move {
            let _change = this.changes.lock().await;
            let _held = this.source_board.hold(name.clone(), |(of, _)| *of == name).await;
            let function = this.table().functions.get(&name).cloned();
            for trigger in function.iter().flat_map(|function| &function.version.manifest.triggers).filter(|_| dispose) {
                if let Some(source) = this.open_source(&name, trigger) {
                    let failed = |error| RemoveError::Upstream { trigger: trigger.kind(), error };
                    source.dispose().await.map_err(failed)?;
                }
            }
            this.backend.registry.remove(&name).await?;
            let mut functions = this.table().functions.clone();
            functions.remove(&name);
            let table = Table::build(functions).expect("fewer routes make no new conflict");
            this.table.store(Arc::new(table));
            // Its consumers end by themselves when they find that they are gone.
            this.board.changed();
            if let Err(error) = this.backend.consumers.forget(&name).await {
                tracing::warn!(function = %name, %error, "its consumers stay behind: what they have yet to read is kept");
            }
            // One of that name that comes later is another, whose triggers begin anew.
            if let Err(error) = this.backend.state.clear(&Bucket::Triggers(name.clone())).await {
                tracing::warn!(function = %name, %error, "what its triggers remember stays behind");
            }
            tracing::info!(function = %name, "removed");
            Ok(())
        })
        .await
    }

    /// Removes uploads nobody deployed within an hour, and compiled code nobody needs.
    pub async fn tidy(&self) {
        let _change = self.changes.lock().await;
        let mut keep: HashSet<_> =
            self.table().functions.values().map(|function| function.version.component.digest).collect();
        let (uploads, runtime) = (Arc::clone(&self.uploads), Arc::clone(&self.runtime));
        let pruned = blocking(move || {
            uploads.sweep(Instant::now(), UPLOAD_AGE);
            keep.extend(uploads.digests());
            runtime.prune(&keep)
        });
        if let Err(error) = pruned.await {
            tracing::warn!(%error, "the code cache can't be pruned");
        }
    }

    /// What is wrong with a manifest, as far as its component isn't needed to know. Its triggers may ask upstream.
    fn check_manifest<'a>(&'a self, table: &'a Table, manifest: &'a Manifest) -> BoxFuture<'a, Vec<Problem>> {
        Box::pin(async move {
            let mut found = manifest.problems();
            found.extend(dispatch::problems(manifest));
            // Not asked again for what runs already: a database that is down now is no reason to refuse it.
            let active = table.functions.get(&manifest.name);
            if found.is_empty() && active.is_none_or(|active| active.version.manifest.triggers != manifest.triggers) {
                found.extend(self.sources.check(manifest).await);
            }
            found
        })
    }

    /// Checks a deploy: every function for itself, then all routes together. Changes nothing.
    async fn plan(&self, functions: Vec<(Manifest, Digest)>) -> Result<Vec<Planned>, DeployError> {
        let table = self.table.load_full();
        let mut components = HashMap::new();
        for (_, digest) in &functions {
            if !components.contains_key(digest) {
                let deployed = self.backend.registry.component(*digest).await?;
                let new = deployed.is_none();
                let component = deployed.or_else(|| self.uploads.component(*digest));
                components.insert(*digest, component.map(|component| (component, new)));
            }
        }

        let mut checks = Vec::with_capacity(functions.len());
        for (manifest, _) in &functions {
            checks.push(self.check_manifest(&table, manifest));
        }
        let found: Vec<_> = stream::iter(checks).buffered(CHECKS).collect().await;

        let mut problems = Vec::new();
        let mut planned = Vec::with_capacity(functions.len());
        let mut places = HashMap::new();
        for (index, ((manifest, digest), mut found)) in functions.into_iter().zip(found).enumerate() {
            if let Some(first) = places.get(&manifest.name) {
                found.push(
                    Problem::new(
                        "/name",
                        format!("`{}` is also the name of function {first} of this deploy", manifest.name),
                    )
                    .help("one deploy holds a function once: give one of the two another name"),
                );
            } else {
                places.insert(manifest.name.clone(), index);
            }
            let (component, new_component) = match components[&digest].clone() {
                Some((component, new)) => {
                    found.extend(self.runtime.check(&manifest, &component));
                    found.extend(webhook::problems(&manifest, &component, &*self.secrets));
                    (component, new)
                }
                None => {
                    found.push(
                        Problem::new("/component", format!("its component {digest} is not on the platform"))
                            .help(format!("upload it first, to `/api/components/{digest}`")),
                    );
                    // Stands in for it where the routes are compared, so that one answer says all that is wrong.
                    (Component { digest, size: 0, shape: Shape::Http02, imports: Vec::new(), initial_memory: 0 }, true)
                }
            };
            let name = &manifest.name;
            problems.extend(found.into_iter().map(|problem| FunctionProblem {
                function: Some(name.clone()),
                index,
                problem,
            }));
            let active = table.functions.get(name).map(|function| &function.version);
            let unchanged = active
                .filter(|active| active.component.digest == digest && active.manifest == manifest)
                .map(|active| active.number);
            planned.push(Planned { manifest, component, unchanged, new_component });
        }

        problems.extend(self.conflicts(&table, &planned, &places));
        problems.extend(loops(&table, &planned, &places));
        if problems.is_empty() {
            Ok(planned)
        } else {
            problems.sort_by_key(|problem| problem.index);
            Err(DeployError::Problems(problems))
        }
    }

    /// What conflicts among the routes as they would be.
    fn conflicts(
        &self,
        table: &Table,
        planned: &[Planned],
        places: &HashMap<FunctionName, usize>,
    ) -> Vec<FunctionProblem> {
        let staying = table.functions.iter().filter(|(name, _)| !places.contains_key(*name));
        let staying = staying.map(|(_, function)| Arc::clone(function));
        let coming = planned.iter().enumerate().filter(|(index, new)| places[&new.manifest.name] == *index);
        let coming = coming.map(|(_, new)| {
            // The number is the registry's to give, when all is well; the routes don't ask for it.
            let (manifest, component) = (new.manifest.clone(), new.component.clone());
            self.activate(Version { number: 0, manifest, component, deployed_at: 0 }, None)
        });
        // Those that stay come first: a conflict is then always told of one that comes.
        let conflicts = Routes::build(staying.chain(coming)).err().unwrap_or_default();
        conflicts
            .into_iter()
            .map(|conflict| FunctionProblem {
                index: places[&conflict.function],
                problem: conflict.problem_of(&conflict.function),
                function: Some(conflict.function),
            })
            .collect()
    }

    /// Readies what was planned for the registry: compiled, and with the bytes it lacks.
    async fn new_versions(&self, planned: Vec<Planned>) -> Result<Vec<NewVersion>, DeployError> {
        let mut ready: HashMap<Digest, Option<Bytes>> = HashMap::new();
        let mut versions = Vec::with_capacity(planned.len());
        for (index, Planned { manifest, component, new_component, .. }) in planned.into_iter().enumerate() {
            let digest = component.digest;
            let bytes = match ready.get(&digest) {
                Some(bytes) => bytes.clone(),
                None => {
                    let uploads = Arc::clone(&self.uploads);
                    let bytes = if new_component {
                        Some(blocking(move || uploads.bytes(digest)).await.map_err(DeployError::Storage)?)
                    } else {
                        None
                    };
                    // Compiled when it was uploaded, and pruned since or by another build of the platform.
                    let compiled = match &bytes {
                        Some(bytes) if !self.runtime.is_compiled(digest) => {
                            self.runtime.compile(bytes.clone()).await.map(drop).map_err(NotCompiled::Compile)
                        }
                        Some(_) => Ok(()),
                        None => self.compile_deployed(digest).await,
                    };
                    compiled.map_err(|error| match error {
                        NotCompiled::Registry(error) => DeployError::Registry(error),
                        NotCompiled::Compile(error) if error.retryable() => DeployError::Compile(error),
                        NotCompiled::Compile(error) => DeployError::Problems(vec![FunctionProblem {
                            function: Some(manifest.name.clone()),
                            index,
                            problem: Problem::new("/component", error.to_string()),
                        }]),
                    })?;
                    ready.insert(digest, bytes.clone());
                    bytes
                }
            };
            versions.push(NewVersion { manifest, component, bytes });
        }
        Ok(versions)
    }

    /// Compiles a component of the registry, unless the code cache has it.
    async fn compile_deployed(&self, digest: Digest) -> Result<(), NotCompiled> {
        if !self.runtime.is_compiled(digest) {
            let bytes = self.backend.registry.component_bytes(digest).await?;
            self.runtime.compile(bytes).await?;
        }
        Ok(())
    }

    /// Makes the topics of what was deployed, and its consumers: `from: now` is now, not when they are first run.
    async fn begin_reading(&self, deployed: &[Deployed]) {
        let named = deployed.iter().flat_map(|deployed| deployed.version.manifest.topics()).collect();
        let begun = async {
            let topics = dispatch::known(&self.backend, named).await.map_err(|error| error.to_string())?;
            let read = deployed.iter().flat_map(|Deployed { version, .. }| {
                let read = dispatch::read_by(&version.manifest, &topics).into_iter();
                read.map(|(topic, trigger)| {
                    (ConsumerName { function: version.name().clone(), topic }, trigger.from.into())
                })
            });
            // At once, so that they are committed together.
            let opened = read.map(async |(name, start)| self.backend.consumers.open(&name, start).await);
            try_join_all(opened).await.map_err(|error| error.to_string())
        };
        // All is deployed, and the dispatcher tries the same again.
        if let Err(error) = begun.await {
            tracing::warn!(%error, "topics can't be read yet");
        }
    }

    /// A version as it gets traffic, in the place of the one before.
    fn activate(&self, version: Version, before: Option<&ActiveFunction>) -> Arc<ActiveFunction> {
        let counters = before.map(|before| Arc::clone(&before.counters)).unwrap_or_default();
        let statuses = ActiveFunction::statuses_for(before, &version);
        let handle = self.runtime.function(&version);
        let effects = Arc::new(Immediate::new(version.name().clone(), self.backend.clone()));
        Arc::new(ActiveFunction { version, handle, counters, effects, statuses })
    }

    /// Tells the operator, in the function's own log.
    fn say(&self, version: &Version, message: String) {
        self.logs.record(LogRecord::of_platform(version, message));
    }
}

/// What would go round in circles.
fn loops(table: &Table, planned: &[Planned], places: &HashMap<FunctionName, usize>) -> Vec<FunctionProblem> {
    let coming: Vec<_> = planned.iter().map(|new| &new.manifest).collect();
    let staying = table.functions.iter().filter(|(name, _)| !places.contains_key(*name));
    let staying = staying.map(|(_, function)| &function.version.manifest);
    let changed: Vec<_> = (0..coming.len()).collect();
    let all: Vec<_> = coming.into_iter().chain(staying).collect();
    let found = dispatch::loops::problems(&all, &changed);
    found
        .into_iter()
        .map(|(index, problem)| FunctionProblem { function: Some(all[index].name.clone()), index, problem })
        .collect()
}

impl Table {
    fn build(functions: BTreeMap<FunctionName, Arc<ActiveFunction>>) -> Result<Self, Vec<Conflict>> {
        Ok(Self { routes: Routes::build(functions.values().cloned())?, functions })
    }
}

impl Conflict {
    /// What one of the two functions is told.
    fn problem_of(&self, name: &FunctionName) -> Problem {
        let (own, kind, other, others) = if self.function == *name {
            (self.trigger, self.kind, &self.other, self.other_trigger)
        } else {
            (self.other_trigger, self.other_kind, &self.function, self.trigger)
        };
        let whose = if other == name { "this function".into() } else { format!("`{other}`") };
        Problem::new(
            format!("/triggers/{own}/{kind}/path"),
            format!("the route `{}` is taken by trigger {others} of {whose}", self.what),
        )
        .help("give one of the two another path, host or method")
    }
}

/// The version a rollback leads to.
fn earlier(versions: Versions, name: &FunctionName, to: Option<u64>) -> Result<Version, RegistryError> {
    let active = versions.active;
    let mut versions = versions.versions.into_iter();
    match to {
        Some(number) => versions
            .find(|version| version.number == number)
            .ok_or_else(|| RegistryError::NoVersion { name: name.clone(), number }),
        None => versions
            .find(|version| version.number < active)
            .ok_or_else(|| RegistryError::NoEarlier { name: name.clone(), active }),
    }
}

/// Runs a change to its end, whether or not its caller stays: registry and table must not part.
async fn to_the_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> T {
    // Only the end of the runtime cancels the task, and that ends the caller too.
    tokio::spawn(change).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
