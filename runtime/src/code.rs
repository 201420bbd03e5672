//! Compiled code: made once at deploy, kept on disk, mapped into memory when it is first called.
//!
//! The cache holds what the engine compiled, one file a component, named by the component's digest below a folder named by
//! the engine's compatibility (version, settings, processor), so that another build of the platform never reads it:
//!
//! ```text
//! cache/0.2/<engine>/<digest>.cwasm      and 0.3/, for each engine: see `machine.rs`
//! ```
//!
//! Its files are native code that the platform will run. So the folder belongs to the platform's user alone (0700), files
//! come to be whole or not at all (written aside, fsync'd, renamed), and nothing uploaded is ever put there as it is.

use crate::{bindings::function::FunctionPre, component, host::Host, sandbox::HandlerPre};
use dunlin_events::{Digest, Shape, runtime::CompileError};
use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};
use wasmtime::{
    Engine,
    component::{Component, Linker},
};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::{p2, p3};

/// Compiled files that no version uses are kept this long, for a deploy that is under way.
const KEPT: Duration = Duration::from_secs(3600);

/// The code of one component, ready to be instantiated.
pub(crate) struct Code {
    /// The engine it runs in.
    pub(crate) engine: Engine,
    pub(crate) entry: Entry,
}

pub(crate) enum Entry {
    Http(HandlerPre),
    Command(CommandPre<Host>),
    Handler(FunctionPre<Host>),
}

/// Why a component that validates does not link.
pub(crate) enum LinkError {
    /// It imports what isn't there.
    Import(wasmtime::Error),
    /// What it is called through is not what its name promises.
    Export(wasmtime::Error),
}

impl Code {
    /// Links a component against what the platform offers.
    pub(crate) fn link(component: &Component, linker: &Linker<Host>, shape: Shape) -> Result<Self, LinkError> {
        let pre = linker.instantiate_pre(component).map_err(LinkError::Import)?;
        let entry = match shape {
            Shape::Http02 => p2::bindings::ProxyPre::new(pre).map(HandlerPre::P2).map(Entry::Http),
            Shape::Http03 => p3::bindings::ServicePre::new(pre).map(HandlerPre::P3).map(Entry::Http),
            Shape::Command => CommandPre::new(pre).map(Entry::Command),
            Shape::Handler => FunctionPre::new(pre).map(Entry::Handler),
        };
        Ok(Self { engine: linker.engine().clone(), entry: entry.map_err(LinkError::Export)? })
    }
}

/// The code cache, on disk and what of it is in memory.
pub(crate) struct Cache {
    dir: PathBuf,
    /// Code in use: functions of the same component share it.
    mapped: Mutex<HashMap<Digest, Weak<Code>>>,
}

impl Cache {
    /// The caches of these engines below a folder that is theirs alone.
    pub(crate) fn open(dir: &Path, engines: &[Engine]) -> io::Result<Vec<Self>> {
        let current: Vec<_> = engines.iter().map(folder).collect();
        create_private(dir)?;
        // What other builds left behind would never be read again.
        for entry in fs::read_dir(dir)?.flatten() {
            let known = current.iter().any(|current| entry.file_name() == **current);
            if !known && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        current.iter().map(|current| Self::open_own(dir.join(current))).collect()
    }

    fn open_own(own: PathBuf) -> io::Result<Self> {
        create_private(&own)?;
        // What a process began and was killed before the end of. By now the data directory is this one's alone.
        for entry in fs::read_dir(&own)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { dir: own, mapped: Mutex::default() })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("{}.cwasm", digest.hex()))
    }

    /// Whether the code of a component is there, whole. A file that was cut off, as a damaged disk leaves it, is none: it
    /// is compiled again.
    pub(crate) fn holds(&self, digest: Digest) -> bool {
        let mut header = [0; 64];
        let opened = fs::File::open(self.path(digest)).and_then(|mut file| {
            file.read_exact(&mut header)?;
            file.metadata()
        });
        // It is an ELF file that ends with its table of sections: `e_shoff`, `e_shentsize` and `e_shnum` of the header.
        let table = u64::from_le_bytes(header[40..48].try_into().expect("these are 8 bytes"));
        let [entry, entries] = [58, 60].map(|at| u64::from(u16::from_le_bytes([header[at], header[at + 1]])));
        opened.is_ok_and(|file| header.starts_with(b"\x7fELF") && file.len() == table.saturating_add(entry * entries))
    }

    /// Puts compiled code there, whole or not at all.
    pub(crate) fn store(&self, digest: Digest, code: &[u8]) -> Result<(), CompileError> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let aside = self.dir.join(format!("{}.{}.{unique}.tmp", digest.hex(), std::process::id()));
        let written = (|| {
            let mut file = fs::File::create_new(&aside)?;
            file.write_all(code)?;
            file.sync_all()?;
            fs::rename(&aside, self.path(digest))?;
            fs::File::open(&self.dir)?.sync_all()
        })();
        written.map_err(|error: io::Error| {
            let _ = fs::remove_file(&aside);
            CompileError::Cache(format!("{}: {error}", self.dir.display()))
        })
    }

    /// Marks compiled code as used, so that [`Cache::prune`] spares it.
    pub(crate) fn touch(&self, digest: Digest) {
        if let Ok(file) = fs::File::open(self.path(digest)) {
            let _ = file.set_modified(SystemTime::now());
        }
    }

    /// The code of a component, mapped anew or shared with a function that has it already.
    pub(crate) fn map(&self, digest: Digest, shape: Shape, linker: &Linker<Host>) -> wasmtime::Result<Arc<Code>> {
        if let Some(code) = self.shared(digest) {
            return Ok(code);
        }
        let component = self.deserialize(linker.engine(), digest)?;
        let linked = Code::link(&component, linker, shape);
        let code = Arc::new(linked.map_err(|(LinkError::Import(error) | LinkError::Export(error))| error)?);
        let mut mapped = self.mapped();
        mapped.retain(|_, code| code.strong_count() > 0);
        mapped.insert(digest, Arc::downgrade(&code));
        Ok(code)
    }

    pub(crate) fn shared(&self, digest: Digest) -> Option<Arc<Code>> {
        self.mapped().get(&digest).and_then(Weak::upgrade)
    }

    /// The size of the compiled code in bytes.
    pub(crate) fn size(&self, digest: Digest) -> u64 {
        fs::metadata(self.path(digest)).map_or(0, |metadata| metadata.len())
    }

    #[expect(unsafe_code, reason = "running native code is what the cache is for")]
    pub(crate) fn deserialize(&self, engine: &Engine, digest: Digest) -> wasmtime::Result<Component> {
        // SAFETY: the file was written by `store` with what this engine compiled: the folder is named by the engine's
        // compatibility and writable for the platform's user alone, and files come into it by rename only.
        unsafe { Component::deserialize_file(engine, self.path(digest)) }
    }

    /// Removes what is not in `keep` and was not used lately.
    pub(crate) fn prune(&self, keep: &HashSet<Digest>) -> io::Result<()> {
        let keep: HashSet<String> = keep.iter().map(|digest| format!("{}.cwasm", digest.hex())).collect();
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let old = entry.metadata().and_then(|metadata| metadata.modified());
            let old = old.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > KEPT));
            if old && entry.file_name().to_str().is_none_or(|name| !keep.contains(name)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn mapped(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Weak<Code>>> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of an engine's folder.
fn folder(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    component::ADAPTER_VERSION.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700).create(dir)?;
        // It may have been there before, with other rights.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
    }
    #[cfg(not(unix))]
    builder.create(dir)
}
