//! The two machines of the runtime: one for components of WASI 0.2, commands and event handlers, one for WASI 0.3. Each has an engine, what
//! it links components with, and its compiled code; a component lives in the one its shape asks for.

use crate::{
    RuntimeConfig, StartError,
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
    pub(crate) fn new(config: &RuntimeConfig, concurrent: bool) -> Result<Self, StartError> {
        let unusable = |error: wasmtime::Error| StartError::Engine(format!("{error:#}"));
        let engine = engine::new_engine(config, concurrent).map_err(unusable)?;
        let linker = host::new_linker(&engine, concurrent).map_err(unusable)?;
        let path = config.cache.join(if concurrent { "0.3" } else { "0.2" });
        let cache = Cache::open(&path, &engine).map_err(|source| StartError::Cache { path, source })?;
        Ok(Self { engine, linker, cache })
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
