//! The engine every sandbox runs in: how memory is laid out, and how running code is interrupted.
//!
//! Memory comes from a pool whose address space is reserved once, so that a fresh sandbox costs microseconds: a slot is
//! taken, its memory is a copy-on-write view of the component's image, and giving it back is one `madvise`. Reserved
//! addresses cost nothing; what a sandbox writes does.

use crate::{Compiler, RuntimeConfig};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    RegallocAlgorithm, Strategy,
};

/// How often running code looks up: a guest that computes gives way to others after this.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Core modules, memories and tables a component may have. A Rust component has 3 modules, 1 memory and 2 tables; one
/// made by `componentize-py` about 30 modules.
pub(crate) const MODULES_PER_COMPONENT: u32 = 100;
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 8;
pub(crate) const TABLES_PER_COMPONENT: u32 = 32;
/// Elements of one table. CPython's function table has some 12,000.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;
/// What of a slot stays mapped for the next sandbox, where the kernel (Linux 6.7) can say which pages were written: those
/// alone are restored then, and the next sandbox has no page faults for them. It doubles the throughput of fresh
/// sandboxes. Without that kernel the whole range would be written anew, which is slower than giving it back.
const MEMORY_KEPT: usize = 256 << 10;
/// The same for a table; it is zeroed, which at this size is cheaper than any system call.
const TABLE_KEPT: usize = 8 << 10;
/// The largest linear memory of 32-bit WebAssembly.
pub(crate) const MAX_MEMORY: u64 = 4 << 30;

/// An engine for components of WASI 0.2, or, with `concurrent`, of 0.3. Serving several calls in one store at once needs
/// an event loop in that store; sandboxes of 0.2 serve one and go without.
pub(crate) fn new_engine(config: &RuntimeConfig, compiler: Compiler, concurrent: bool) -> wasmtime::Result<Engine> {
    let sandboxes = config.sandboxes.get();
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(sandboxes)
        .total_core_instances(sandboxes.saturating_mul(4).max(MODULES_PER_COMPONENT))
        .total_memories(sandboxes.saturating_add(MEMORIES_PER_COMPONENT))
        .total_tables(sandboxes.saturating_mul(3).max(TABLES_PER_COMPONENT))
        .total_stacks(sandboxes.saturating_mul(2))
        .max_core_instances_per_component(MODULES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY as usize)
        // A slot that keeps its component's image mapped is the cheapest to take again.
        .max_unused_warm_slots(sandboxes)
        .decommit_batch_size(32)
        .table_keep_resident(TABLE_KEPT)
        .pagemap_scan(Enabled::Auto);
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.linear_memory_keep_resident(MEMORY_KEPT);
    }

    let mut engine = Config::new();
    engine
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(MAX_MEMORY)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .wasm_component_model(true)
        .wasm_component_model_async(concurrent)
        .concurrency_support(concurrent)
        .max_wasm_stack(1 << 20)
        .async_stack_size(2 << 20)
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_regalloc_algorithm(RegallocAlgorithm::Backtracking)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
    if compiler == Compiler::Baseline {
        engine.strategy(Strategy::Winch);
    }
    Engine::new(&engine)
}

/// Moves the engines' epochs while sandboxes are alive, and sleeps while there are none: an idle platform takes no
/// processor time.
pub(crate) struct Ticker {
    state: Arc<TickerState>,
    thread: Thread,
}

struct TickerState {
    sandboxes: AtomicUsize,
    parked: AtomicBool,
}

/// Keeps the ticker going; one for every sandbox.
pub(crate) struct TickerGuard(Arc<TickerState>);

impl Ticker {
    pub(crate) fn start<'a>(engines: impl Iterator<Item = &'a Engine>) -> std::io::Result<Self> {
        /// Ticks without a sandbox before it sleeps. Waking it costs a system call, so it is not done for every pause.
        const IDLE_TICKS: u32 = 200;
        let state = Arc::new(TickerState { sandboxes: AtomicUsize::new(0), parked: AtomicBool::new(false) });
        let (engines, shared) = (engines.map(Engine::weak).collect::<Vec<_>>(), Arc::clone(&state));
        let handle = thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut idle = 0;
            // Ends with the engines: nobody is left then whom it could interrupt.
            while let Some(engines) = engines.iter().map(EngineWeak::upgrade).collect::<Option<Vec<_>>>() {
                engines.iter().for_each(Engine::increment_epoch);
                drop(engines);
                idle = if shared.sandboxes.load(SeqCst) == 0 { idle + 1 } else { 0 };
                if idle < IDLE_TICKS {
                    thread::sleep(TICK);
                    continue;
                }
                shared.parked.store(true, SeqCst);
                // A sandbox that came in between sees either `parked`, and wakes us, or is seen here.
                while shared.parked.load(SeqCst) && shared.sandboxes.load(SeqCst) == 0 {
                    // With a time-out only so that the thread ends some time after its engine.
                    thread::park_timeout(Duration::from_secs(60));
                    if Arc::strong_count(&shared) == 1 {
                        return;
                    }
                }
                shared.parked.store(false, SeqCst);
                idle = 0;
            }
        })?;
        Ok(Self { state, thread: handle.thread().clone() })
    }

    pub(crate) fn enter(&self) -> TickerGuard {
        self.state.sandboxes.fetch_add(1, SeqCst);
        if self.state.parked.load(SeqCst) && self.state.parked.swap(false, SeqCst) {
            self.thread.unpark();
        }
        TickerGuard(Arc::clone(&self.state))
    }
}

impl Drop for TickerGuard {
    fn drop(&mut self) {
        self.0.sandboxes.fetch_sub(1, SeqCst);
    }
}
