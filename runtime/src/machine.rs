//! The machines of the runtime: one for components of WASI 0.2, commands and event handlers, one for WASI 0.3. Each has an
//! engine, what it links components with, and its compiled code; a component lives in the one its shape asks for.
//!
//! Where components are compiled by the baseline compiler there are two more of them, with the optimizing one, for the
//! components that the first can't compile: code of the two can't be in one engine.

use crate::{
    Compiler, RuntimeConfig, StartError,
    code::{Cache, Code, LinkError},
    engine,
    host::{self, Host},
};
use dunlin_events::{Digest, Shape};
use std::sync::Arc;
use wasmtime::{
    Engine,
    component::{Component, Linker},
};

pub(crate) struct Machine {
    pub(crate) engine: Engine,
    linker: Linker<Host>,
    pub(crate) cache: Cache,
}

impl Machine {
    /// The machines for components of WASI 0.2, or, with `concurrent`, of 0.3: what the first can't compile is for the next.
    pub(crate) fn all(config: &RuntimeConfig, concurrent: bool) -> Result<Vec<Arc<Self>>, StartError> {
        let unusable = |error: wasmtime::Error| StartError::Engine(format!("{error:#}"));
        let compilers = match config.compiler {
            Compiler::Optimizing => &[Compiler::Optimizing][..],
            Compiler::Baseline => &[Compiler::Baseline, Compiler::Optimizing],
        };
        let engines = compilers.iter().map(|compiler| engine::new_engine(config, *compiler, concurrent));
        let engines = engines.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
        let path = config.cache.join(if concurrent { "0.3" } else { "0.2" });
        let caches = Cache::open(&path, &engines).map_err(|source| StartError::Cache { path, source })?;
        let machine = |(engine, cache): (Engine, Cache)| {
            let linker = host::new_linker(&engine, concurrent).map_err(unusable)?;
            Ok(Arc::new(Self { engine, linker, cache }))
        };
        engines.into_iter().zip(caches).map(machine).collect()
    }

    /// A component from the code cache.
    pub(crate) fn component(&self, digest: Digest) -> wasmtime::Result<Component> {
        self.cache.deserialize(&self.engine, digest)
    }

    pub(crate) fn link(&self, component: &Component, shape: Shape) -> Result<Code, LinkError> {
        Code::link(component, &self.linker, shape)
    }

    /// The code of a component, ready to run.
    pub(crate) fn map(&self, digest: Digest, shape: Shape) -> wasmtime::Result<Arc<Code>> {
        self.cache.map(digest, shape, &self.linker)
    }
}
