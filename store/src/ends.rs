//! The ends of topics, for those who wait for an append.
//!
//! The writer says how far a topic has come as soon as a commit is on disk; who waits sleeps until then. Only topics
//! somebody has waited for are remembered.

use dunlin_events::topics::{Offset, TopicName};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
use tokio::sync::watch;

/// `None` until somebody has looked.
type End = Option<Offset>;

#[derive(Default)]
pub(crate) struct Ends(Mutex<HashMap<TopicName, watch::Sender<End>>>);

impl Ends {
    /// The end, as far as it is known here. No commit that was answered is missing in it.
    pub(crate) fn known(&self, topic: &TopicName) -> End {
        self.with(|ends| *ends.get(topic)?.borrow())
    }

    /// Tells the end from now on; it is closed when the topic is removed.
    pub(crate) fn watch(&self, topic: &TopicName) -> watch::Receiver<End> {
        self.with(|ends| match ends.get(topic) {
            Some(end) => end.subscribe(),
            None => ends.entry(topic.clone()).or_default().subscribe(),
        })
    }

    /// Topics have come so far. What comes late doesn't move them back.
    pub(crate) fn reached(&self, reached: &[(TopicName, Offset)]) {
        self.with(|ends| {
            for (topic, reached) in reached {
                let Some(end) = ends.get(topic) else { continue };
                end.send_if_modified(|end| {
                    let grown = end.is_none_or(|end| end < *reached);
                    if grown {
                        *end = Some(*reached);
                    }
                    grown
                });
            }
        });
    }

    pub(crate) fn removed(&self, topic: &TopicName) {
        self.with(|ends| ends.remove(topic));
    }

    /// Forgets a topic that turned out not to be there, unless somebody else waits for it.
    pub(crate) fn mistaken(&self, topic: &TopicName) {
        self.with(|ends| {
            if ends.get(topic).is_some_and(|end| end.receiver_count() == 0) {
                ends.remove(topic);
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<TopicName, watch::Sender<End>>) -> T) -> T {
        // Nothing under the lock can panic half-way.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
