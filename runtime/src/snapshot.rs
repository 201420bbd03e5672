//! Snapshots: a module runs as far as its initialisation goes, and becomes a module that begins there.
//!
//! So an interpreter has read a function's program before the function is deployed. It runs with nothing around it but its
//! input: it has no time, no randomness, no files, so that the same input gives the same bytes. The interpreter itself is
//! compiled once, and kept.

use dunlin_events::Digest;
use futures_util::FutureExt as _;
use std::{
    fmt, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Cursor, Read as _},
    path::Path,
};
use wasmparser::ValType;
use wasmtime::{Caller, Config, Engine, Extern, Instance, Linker, Memory, Module, Store, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, Wizer};

/// The module's export that reads its input.
const INITIALIZE: &str = "wizer-initialize";
/// Interpreters go deep.
const STACK: usize = 2 << 20;

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The module ended with an error, and said this: what is wrong with its input.
    #[error("{0}")]
    Refused(String),
    #[error("the module can't be run: {0}")]
    Engine(String),
    #[error("the compiled module can't be kept: {0}")]
    Cache(#[from] io::Error),
}

fn failed(error: wasmtime::Error) -> SnapshotError {
    SnapshotError::Engine(format!("{error:#}"))
}

/// Runs a module of WASI preview 1 on its input, and answers with the module it has become. `cache` is a folder for what was
/// compiled; it holds native code that is run, so it must be the user's own.
pub fn snapshot(module: &[u8], input: Vec<u8>, cache: &Path) -> Result<Vec<u8>, SnapshotError> {
    let mut config = Config::new();
    config.max_wasm_stack(STACK).async_stack_size(STACK + (1 << 20));
    let engine = Engine::new(&config).map_err(failed)?;
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALIZE);
    let (context, instrumented) = wizer.instrument(module).map_err(failed)?;
    let compiled = compiled(&engine, &instrumented, cache)?;
    let mut store = Store::new(&engine, Host { input: Cursor::new(input), said: Vec::new() });
    let linker = linker(&engine, &compiled).map_err(failed)?;
    let instance = linker.instantiate(&mut store, &compiled).map_err(failed)?;
    for name in ["_initialize", INITIALIZE] {
        let Ok(function) = instance.get_typed_func::<(), ()>(&mut store, name) else { continue };
        if let Err(error) = function.call(&mut store, ()) {
            let said = String::from_utf8_lossy(&store.data().said).trim_end().to_owned();
            return Err(if said.is_empty() { failed(error) } else { SnapshotError::Refused(said) });
        }
    }
    let mut state = State { store: &mut store, instance };
    let snapshot = wizer.snapshot(&context, &mut state).now_or_never();
    snapshot.ok_or_else(|| SnapshotError::Engine("its memory could not be read at once".into()))?.map_err(failed)
}

/// The module as native code, from the folder if it is there.
fn compiled(engine: &Engine, module: &[u8], cache: &Path) -> Result<Module, SnapshotError> {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let path = cache.join(format!("{}-{:016x}.cwasm", Digest::of(module).hex(), hasher.finish()));
    if path.exists() {
        // SAFETY: it was written below, by this user, into a folder of this user's own.
        #[allow(unsafe_code, reason = "it runs code that this process, or an earlier one of its user, compiled")]
        if let Ok(module) = unsafe { Module::deserialize_file(engine, &path) } {
            return Ok(module);
        }
    }
    let compiled = Module::new(engine, module).map_err(failed)?;
    fs::create_dir_all(cache)?;
    let part = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&part, compiled.serialize().map_err(failed)?)?;
    fs::rename(&part, &path)?;
    Ok(compiled)
}

/// What a module sees while it is initialised.
struct Host {
    input: Cursor<Vec<u8>>,
    said: Vec<u8>,
}

/// The module has ended itself.
#[derive(Debug)]
struct Exit(i32);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it ended with code {}", self.0)
    }
}

impl std::error::Error for Exit {}

const SUCCESS: i32 = 0;
/// Errno `badf`.
const BAD_DESCRIPTOR: i32 = 8;

/// The few functions of WASI preview 1 there are. Any other is a trap.
fn linker(engine: &Engine, module: &Module) -> wasmtime::Result<Linker<Host>> {
    const WASI: &str = "wasi_snapshot_preview1";
    let mut linker = Linker::new(engine);
    linker.func_wrap(WASI, "fd_read", |mut caller: Caller<'_, Host>, fd: u32, at: u32, count: u32, read: u32| {
        if fd != 0 {
            return Ok(BAD_DESCRIPTOR);
        }
        let mut sum = 0;
        for (start, length) in vectors(&mut caller, at, count)? {
            let memory = memory(&mut caller)?;
            let (data, host) = memory.data_and_store_mut(&mut caller);
            let piece = data.get_mut(start..start.saturating_add(length)).ok_or_else(beyond)?;
            sum += host.input.read(piece)?;
        }
        put(&mut caller, read, u32::try_from(sum)?)?;
        Ok(SUCCESS)
    })?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut caller: Caller<'_, Host>, fd: u32, at: u32, count: u32, written: u32| {
            if fd != 1 && fd != 2 {
                return Ok(BAD_DESCRIPTOR);
            }
            let mut sum = 0;
            for (start, length) in vectors(&mut caller, at, count)? {
                let memory = memory(&mut caller)?;
                let (data, host) = memory.data_and_store_mut(&mut caller);
                host.said.extend_from_slice(data.get(start..start.saturating_add(length)).ok_or_else(beyond)?);
                sum += length;
            }
            put(&mut caller, written, u32::try_from(sum)?)?;
            Ok(SUCCESS)
        },
    )?;
    linker.func_wrap(WASI, "random_get", |mut caller: Caller<'_, Host>, at: u32, length: u32| {
        let (at, length) = (at as usize, length as usize);
        let memory = memory(&mut caller)?;
        memory.data_mut(&mut caller).get_mut(at..at.saturating_add(length)).ok_or_else(beyond)?.fill(0);
        Ok(SUCCESS)
    })?;
    linker.func_wrap(WASI, "environ_sizes_get", |mut caller: Caller<'_, Host>, count: u32, size: u32| {
        put(&mut caller, count, 0)?;
        put(&mut caller, size, 0)?;
        Ok(SUCCESS)
    })?;
    linker.func_wrap(WASI, "environ_get", |_: u32, _: u32| SUCCESS)?;
    linker.func_wrap(WASI, "proc_exit", |code: i32| -> wasmtime::Result<()> { Err(Exit(code).into()) })?;
    linker.define_unknown_imports_as_traps(module)?;
    Ok(linker)
}

fn beyond() -> wasmtime::Error {
    wasmtime::Error::msg("it points beyond its memory")
}

fn memory(caller: &mut Caller<'_, Host>) -> wasmtime::Result<Memory> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(wasmtime::Error::msg("it exports no memory")),
    }
}

/// Start and length of the pieces of an `iovec` array.
fn vectors(caller: &mut Caller<'_, Host>, at: u32, count: u32) -> wasmtime::Result<Vec<(usize, usize)>> {
    let memory = memory(caller)?;
    let (at, length) = (at as usize, (count as usize).saturating_mul(8));
    let vectors = memory.data(&caller).get(at..at.saturating_add(length)).ok_or_else(beyond)?;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("these are 4 bytes")) as usize;
    Ok(vectors.chunks_exact(8).map(|vector| (word(&vector[..4]), word(&vector[4..]))).collect())
}

fn put(caller: &mut Caller<'_, Host>, at: u32, value: u32) -> wasmtime::Result<()> {
    let memory = memory(caller)?;
    let at = at as usize;
    let place = memory.data_mut(caller).get_mut(at..at.saturating_add(4)).ok_or_else(beyond)?;
    place.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// What Wizer looks at.
struct State<'a> {
    store: &'a mut Store<Host>,
    instance: Instance,
}

impl InstanceState for State<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let global = self.instance.get_global(&mut *self.store, name).expect("Wizer exports what it asks for");
        match global.get(&mut *self.store) {
            Val::I32(value) => SnapshotVal::I32(value),
            Val::I64(value) => SnapshotVal::I64(value),
            Val::F32(value) => SnapshotVal::F32(value),
            Val::F64(value) => SnapshotVal::F64(value),
            other => unreachable!("Wizer refuses modules with globals of this type: {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let memory = self.instance.get_memory(&mut *self.store, name).expect("Wizer exports what it asks for");
        contents(memory.data(&*self.store));
    }
}
