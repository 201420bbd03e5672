//! What a function's manifest says of one of its topic triggers, ready for use.

use super::{
    filter::{Filter, FilterError},
    lane::Mistake,
    retry,
};
use dunlin_events::{
    Manifest,
    manifest::{From, Order, Retry, TopicTrigger},
    topics::TopicName,
};
use std::{num::NonZeroU32, time::Duration};

pub(super) struct Settings {
    pub(super) filter: Option<Filter>,
    pub(super) order: Order,
    /// Lanes at once.
    pub(super) concurrency: usize,
    batch: Option<(usize, Duration)>,
    retry: Retry,
}

impl Settings {
    pub(super) fn new(manifest: &Manifest, trigger: &TopicTrigger) -> Result<Self, FilterError> {
        let concurrency = trigger.concurrency.min(manifest.limits.concurrency).get() as usize;
        Ok(Self {
            filter: trigger.filter.as_deref().map(Filter::compile).transpose()?,
            order: trigger.order,
            concurrency: if trigger.order == Order::Strict { 1 } else { concurrency },
            batch: trigger.batch.as_ref().map(|batch| (batch.size.get() as usize, batch.wait)),
            retry: manifest.retry.clone(),
        })
    }

    /// Events of one call at most.
    pub(super) fn call_size(&self) -> usize {
        self.batch.map_or(1, |(size, _)| size)
    }

    /// Events of one lane at most: one call's where calls are large.
    pub(super) fn lane_size(&self) -> usize {
        const LANE: usize = 64;
        self.call_size().max(LANE)
    }

    /// How long a call waits to be full.
    pub(super) fn wait(&self) -> Duration {
        self.batch.map_or(Duration::ZERO, |(_, wait)| wait)
    }

    pub(super) fn verdict(&self, attempts: u32, first: u64, now: u64, mistake: &Mistake) -> retry::Verdict {
        retry::verdict(&self.retry, attempts, first, now, mistake)
    }
}

/// The trigger of the requests that are answered later.
pub(super) fn requests(topic: &TopicName) -> TopicTrigger {
    TopicTrigger {
        name: topic.as_str().parse().expect("a topic's name is a pattern"),
        filter: None,
        from: From::Beginning,
        order: Order::None,
        // As many as the function's own limit lets.
        concurrency: NonZeroU32::MAX,
        batch: None,
    }
}
