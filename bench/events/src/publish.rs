//! `publish`: publishers that wait until their events are kept.

use crate::{
    Settings,
    contestant::{COUNT, Contestant},
    event::Ids,
    publisher::Pace,
    ratio, runtime,
};
use anyhow::{Result, ensure};
use dunlin_bench_harness::{self as harness, Load, Report};
use std::time::Duration;

/// What is measured: a name, that of the topic, the publishers, and their pace.
const CASES: [(&str, &str, usize, Pace); 4] = [
    ("1 publisher", "one", 1, Pace::OneByOne),
    ("64 publishers", "many", 64, Pace::OneByOne),
    ("64 publishers, 100 under way", "under-way", 64, Pace::UnderWay(100)),
    ("64 publishers, batches of 100", "batches", 64, Pace::Batch(100)),
];

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        let contestants = Contestant::all(settings)?;
        let mut loads: [[Vec<Load>; COUNT]; CASES.len()] = Default::default();
        // Events that were answered for, to be compared with what is there in the end.
        let mut answered = [[0; COUNT]; CASES.len()];
        for contestant in &contestants {
            for (_, topic, ..) in CASES {
                contestant.create(topic).await?;
            }
        }
        // The first round warms up.
        for round in 0..=settings.rounds {
            let time = if round == 0 { Duration::from_secs(1) } else { settings.time };
            for ((what, topic, publishers, pace), (loads, answered)) in
                CASES.into_iter().zip(loads.iter_mut().zip(&mut answered))
            {
                for ((contestant, loads), answered) in contestants.iter().zip(loads).zip(answered) {
                    eprintln!("publish, round {round}: {what}: {}", contestant.name());
                    let mut published = contestant.publish(topic, publishers, pace, Ids::Ordered, time).await?;
                    *answered += published.events;
                    if round > 0 {
                        loads.push(published.load());
                    }
                }
            }
        }
        for ((_, topic, ..), answered) in CASES.into_iter().zip(answered) {
            for (contestant, answered) in contestants.iter().zip(answered) {
                let (name, held) = (contestant.name(), contestant.held(topic).await?);
                ensure!(held == answered, "{name}: {answered} events were answered for, and {held} are there");
            }
        }

        report.table(
            "Publish",
            "Publishers wait for their answers. Dunlin's say that the events are on disk, and so do JetStream's with \
             `sync_interval: always`; with its default, that the kernel has them. Dunlin's publishers have a connection \
             each, over HTTP/1.1; JetStream's share one, which is faster for it. A hundred under way are a hundred messages \
             that wait for an answer each, and a batch is one that JetStream keeps whole or not at all; with Dunlin either \
             is a request with a hundred events. `÷ always` and `÷ default` are Dunlin's figure divided by JetStream's.",
            &["what", "events/s", "÷ always", "÷ default", "p50", "p99", "÷ always", "÷ default"],
        );
        for ((what, ..), loads) in CASES.into_iter().zip(loads) {
            let loads = loads.map(|loads| Load::median(&loads));
            let [always, default, dunlin] = loads;
            for (contestant, load) in contestants.iter().zip(loads) {
                let against = |peer: Load, of: fn(Load) -> f64| match contestant {
                    Contestant::Dunlin(_) => ratio(of(dunlin), of(peer)),
                    Contestant::JetStream(..) => String::new(),
                };
                let p99 = |load: Load| load.p99.as_secs_f64();
                report.row(&[
                    format!("{what}: {}", contestant.name()),
                    harness::number(load.rate),
                    against(always, |load| load.rate),
                    against(default, |load| load.rate),
                    harness::time(load.p50),
                    harness::time(load.p99),
                    against(always, p99),
                    against(default, p99),
                ]);
            }
        }
        Ok(())
    })
}
