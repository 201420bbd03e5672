//! What runs under a name until it is told to stop: the consumers of topics, and the sources of triggers.
//!
//! It owns who runs, who is held, and how all that is told. Whoever starts them compares the roster with what is deployed,
//! each time there is news: what is missing is started, what is too much is stopped, and the end of one is news again.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

/// What runs, by name (`K`), and what must not run meanwhile (`H`).
pub(crate) struct Roster<K, V, H = K> {
    running: Mutex<HashMap<K, V>>,
    held: Mutex<HashSet<H>>,
    /// Told when what should run has changed.
    news: Notify,
    /// Told when something has ended.
    ended: Notify,
}

/// Something that ends once it is told to.
pub(crate) trait Stop {
    fn stop(&self);
}

impl Stop for CancellationToken {
    fn stop(&self) {
        self.cancel();
    }
}

impl<K, V, H> Default for Roster<K, V, H> {
    fn default() -> Self {
        Self { running: Mutex::default(), held: Mutex::default(), news: Notify::new(), ended: Notify::new() }
    }
}

impl<K: Eq + Hash, V: Stop, H: Eq + Hash + Clone> Roster<K, V, H> {
    pub(crate) fn running(&self) -> MutexGuard<'_, HashMap<K, V>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, HashSet<H>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What should run may have changed.
    pub(crate) fn changed(&self) {
        self.news.notify_one();
    }

    /// Waits until what should run may have changed.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// One has ended.
    pub(crate) fn ended(&self, name: &K) {
        self.running().remove(name);
        self.ended.notify_waiters();
        self.changed();
    }

    /// Tells some to stop, and waits until none of them runs.
    pub(crate) async fn stop(&self, which: impl Fn(&K) -> bool) {
        loop {
            let ended = self.ended.notified();
            let mut any = false;
            for (_, value) in self.running().iter().filter(|(name, _)| which(name)) {
                value.stop();
                any = true;
            }
            if !any {
                return;
            }
            // Looked at again now and then: it may be started anew meanwhile.
            let _ = timeout(Duration::from_millis(100), ended).await;
        }
    }

    /// Stops some, waits for their end, and keeps them from running until what this answers is dropped.
    pub(crate) async fn hold(&self, what: H, which: impl Fn(&K) -> bool) -> Held<'_, K, V, H> {
        self.held().insert(what.clone());
        let held = Held { roster: self, what };
        self.stop(which).await;
        held
    }
}

/// What doesn't run for as long as this lives.
pub(crate) struct Held<'a, K: Eq + Hash, V: Stop, H: Eq + Hash + Clone> {
    roster: &'a Roster<K, V, H>,
    what: H,
}

impl<K: Eq + Hash, V: Stop, H: Eq + Hash + Clone> Drop for Held<'_, K, V, H> {
    fn drop(&mut self) {
        self.roster.held().remove(&self.what);
        self.roster.changed();
    }
}
