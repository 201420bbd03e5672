//! What a guest finds around it: the data of one store, and the linker that offers WASI and the platform's own interfaces
//! on it.
//!
//! Everything of WASI 0.2 and 0.3 links, so that standard components run unmodified, but nothing is behind it that the
//! manifest doesn't allow: no directory is preopened but those of its files triggers, to read, no socket address is permitted, no name is resolved, the
//! environment holds what `allow` lists, `wasi:http` asks [`Outgoing`] about every call, and state and topics ask
//! [`Access`].

use crate::{
    access::{Access, Account, Rights},
    bindings::{function, others},
    limits::MemoryBudget,
    outgoing::{Client, Outgoing},
    output::Output,
};
use dunlin_events::Failure;
use std::sync::{Arc, atomic::AtomicBool};
use wasmtime::{
    Engine, Store,
    component::{HasSelf, Linker, ResourceTable},
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, cli::StdinStream, cli::StdoutStream};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles a guest may hold at once; each costs the host some memory the guest isn't charged for.
const HANDLES: usize = 10_000;
/// Size of all headers of one message, as the host keeps them.
const HEADER_BYTES: usize = 128 << 10;

/// The data of one sandbox's store.
pub(crate) struct Host {
    pub(crate) table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) access: Access,
    /// Bytes that the guest's `cas` handles hold in [`Host::table`].
    pub(crate) looks: usize,
    pub(crate) configuration: Arc<[(String, String)]>,
    pub(crate) output: Output,
    memory: MemoryBudget,
}

/// What the sandboxes of one function have in common.
pub(crate) struct Surroundings {
    /// What the manifest gives the function by name, secrets among it: its configuration, and its environment variables.
    pub(crate) configuration: Arc<[(String, String)]>,
    /// The variable `K_SINK`, where there is a sink.
    pub(crate) sink: Option<&'static str>,
    pub(crate) memory: u64,
    pub(crate) client: Option<Arc<Client>>,
    pub(crate) rights: Arc<Rights>,
    /// The folders of its files triggers. It finds them where they are, and can read them.
    pub(crate) folders: Vec<String>,
}

impl Surroundings {
    /// Says which of the folders isn't there. It is the platform's trouble, and no reason to give an event up.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        for folder in &self.folders {
            // Not on this thread: a network file system may take its time.
            if let Err(error) = tokio::fs::read_dir(folder).await {
                return Err(Failure::Start(format!("its folder `{folder}` can't be read: {error}")));
            }
        }
        Ok(())
    }
}

/// What is special to a command: its program name, its input and its output.
pub(crate) struct Stdio<I, O> {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) stdin: I,
    pub(crate) stdout: O,
}

impl Host {
    pub(crate) fn store(
        engine: &Engine,
        surroundings: &Surroundings,
        output: &Output,
        exceeded: Arc<AtomicBool>,
    ) -> Store<Self> {
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output.stdout());
        Self::finish(engine, surroundings, output, exceeded, wasi)
    }

    pub(crate) fn command_store<I, O>(
        engine: &Engine,
        surroundings: &Surroundings,
        output: &Output,
        exceeded: Arc<AtomicBool>,
        stdio: Stdio<I, O>,
    ) -> Store<Self>
    where
        I: StdinStream + 'static,
        O: StdoutStream + 'static,
    {
        let mut wasi = WasiCtxBuilder::new();
        wasi.args(&stdio.arguments).envs(&stdio.environment).stdin(stdio.stdin).stdout(stdio.stdout);
        Self::finish(engine, surroundings, output, exceeded, wasi)
    }

    fn finish(
        engine: &Engine,
        surroundings: &Surroundings,
        output: &Output,
        exceeded: Arc<AtomicBool>,
        mut wasi: WasiCtxBuilder,
    ) -> Store<Self> {
        wasi.stderr(output.stderr()).envs(&surroundings.configuration).allow_tcp(false).allow_udp(false);
        if let Some(sink) = surroundings.sink {
            wasi.env("K_SINK", sink);
        }
        for folder in &surroundings.folders {
            // One that has gone since it was asked for is missed when it is used.
            let _ = wasi.preopened_dir(folder, folder, FsPerms::ReadOnly);
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HEADER_BYTES);
        let access = Access::new(Arc::clone(&surroundings.rights));
        let mut store = Store::new(
            engine,
            Self {
                table,
                wasi: wasi.build(),
                http,
                outgoing: Outgoing::new(surroundings.client.clone(), access.clone()),
                access,
                looks: 0,
                configuration: Arc::clone(&surroundings.configuration),
                output: output.clone(),
                memory: MemoryBudget::new(surroundings.memory, exceeded),
            },
        );
        store.limiter(|host| &mut host.memory);
        // Give way to others at every tick. Whether its time is up is asked between two polls, outside of the store.
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        store
    }

    /// A call begins that changes data on this account.
    pub(crate) fn begin(&mut self, account: Account, alone: bool) {
        self.access.begin(account, alone);
        self.outgoing.access = self.access.clone();
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// What components of WASI 0.2 find, and with `concurrent` also those of 0.3. The platform's own interfaces are there for
/// all of them.
pub(crate) fn new_linker(engine: &Engine, concurrent: bool) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    }
    function::Function::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    others::Others::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}
