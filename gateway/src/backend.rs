//! Where the platform keeps what must not be lost, as the contracts of `dunlin-events`. One store implements them all, or
//! several do.

use dunlin_events::{Registry, consumers::Consumers, state::StateStore, topics::EventLog};
use std::sync::Arc;

/// The back end of the platform.
#[derive(Clone)]
pub struct Backend {
    pub registry: Arc<dyn Registry>,
    pub log: Arc<dyn EventLog>,
    pub consumers: Arc<dyn Consumers>,
    pub state: Arc<dyn StateStore>,
}

impl Backend {
    /// A back end of one store.
    pub fn of<S: Registry + EventLog + Consumers + StateStore + 'static>(store: Arc<S>) -> Self {
        Self {
            registry: Arc::clone(&store) as _,
            log: Arc::clone(&store) as _,
            consumers: Arc::clone(&store) as _,
            state: store,
        }
    }
}
