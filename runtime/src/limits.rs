//! The memory budget of a whole sandbox. wasmtime's own `StoreLimits` counts each memory for itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Counts all linear memories and tables of one sandbox against one limit.
pub(crate) struct MemoryBudget {
    left: usize,
    exceeded: Arc<AtomicBool>,
}

impl MemoryBudget {
    /// `exceeded` is set when the guest asks for more than there is, which most guests don't survive.
    pub(crate) fn new(limit: u64, exceeded: Arc<AtomicBool>) -> Self {
        Self { left: usize::try_from(limit).unwrap_or(usize::MAX), exceeded }
    }

    fn take(&mut self, more: usize) -> bool {
        match self.left.checked_sub(more) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.exceeded.store(true, Relaxed);
                false
            }
        }
    }
}

impl wasmtime::ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // `false` lets `memory.grow` answer -1, as the specification has it: a guest may collect its garbage and go on.
        Ok(self.take(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take(desired.saturating_sub(current).saturating_mul(size_of::<usize>())))
    }
}
