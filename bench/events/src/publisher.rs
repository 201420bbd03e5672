//! Publishers: each waits for its answer, which says that what it published is kept.

use crate::event::{Events, Ids};
use anyhow::Result;
use dunlin_bench_harness::{Load, Times};
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How a publisher goes about it.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Each event when the one before it is kept.
    OneByOne,
    /// So many events at a time, which wait for nothing but their own answers.
    UnderWay(usize),
    /// So many events at a time, of which all are kept or none.
    Batch(usize),
}

pub trait Publisher {
    /// Publishes once, which may be several events, and waits until they are kept. Says how many there were.
    async fn publish(&mut self, events: &mut Events) -> Result<u64>;

    /// Publishes until some time, and says how many events that were.
    async fn publish_until(&mut self, events: &mut Events, end: Instant, times: &mut Times) -> Result<u64> {
        one_by_one(self, events, end, times).await
    }
}

/// Publishes again and again until some time, and says how many events that were.
pub async fn one_by_one<P: Publisher + ?Sized>(
    publisher: &mut P,
    events: &mut Events,
    end: Instant,
    times: &mut Times,
) -> Result<u64> {
    let mut count = 0;
    while Instant::now() < end {
        let start = Instant::now();
        count += publisher.publish(events).await?;
        times.add(start.elapsed());
    }
    Ok(count)
}

/// What publishers did together.
pub struct Published {
    pub events: u64,
    time: Duration,
    times: Times,
}

impl Published {
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }

    pub fn load(&mut self) -> Load {
        Load { rate: self.rate(), p50: self.times.at(0.5), p99: self.times.at(0.99) }
    }
}

/// Publishers that go on as soon as they are answered.
pub async fn at_full_speed(publishers: &mut [impl Publisher], ids: Ids, time: Duration) -> Result<Published> {
    let start = Instant::now();
    let runs: FuturesUnordered<_> = publishers
        .iter_mut()
        .enumerate()
        .map(async |(number, publisher)| {
            let mut times = Times::default();
            let mut events = Events::new(ids).beginning_at(number);
            let count = publisher.publish_until(&mut events, start + time, &mut times).await?;
            anyhow::Ok((count, times))
        })
        .collect();
    together(start, runs).await
}

/// Publishers that publish so many events a second together, evenly, whatever their answers take.
pub async fn at_a_rate(publishers: &mut [impl Publisher], rate: u32, time: Duration) -> Result<Published> {
    let start = Instant::now();
    let (interval, all) = (Duration::from_secs(1) * publishers.len() as u32 / rate, publishers.len() as u32);
    let runs: FuturesUnordered<_> = publishers
        .iter_mut()
        .enumerate()
        .map(async |(number, publisher)| {
            let mut times = Times::default();
            let mut events = Events::new(Ids::Ordered).beginning_at(number);
            let (mut count, mut next) = (0, start + interval * number as u32 / all);
            while next < start + time {
                sleep_until(next).await;
                let sent = Instant::now();
                count += publisher.publish(&mut events).await?;
                times.add(sent.elapsed());
                next += interval;
            }
            anyhow::Ok((count, times))
        })
        .collect();
    together(start, runs).await
}

async fn together(
    start: Instant,
    mut runs: FuturesUnordered<impl Future<Output = Result<(u64, Times)>>>,
) -> Result<Published> {
    let mut published = Published { events: 0, time: Duration::ZERO, times: Times::default() };
    while let Some((events, times)) = runs.try_next().await? {
        published.events += events;
        published.times.append(times);
    }
    published.time = start.elapsed();
    Ok(published)
}
