//! `fanout`: one topic, and many functions that read it.

use crate::{
    Settings,
    dunlin::{self, Admin, Trigger},
    event::{Events, Ids},
    runtime,
};
use anyhow::Result;
use dunlin_bench_harness::{self as harness, Functions, Report, Server};
use std::time::Duration;

/// Functions that read the topic, and how many events it holds: a hundred thousand runs where each runs for all, and up to
/// five million choices where each has a filter.
const ALL: [(u64, u64); 3] = [(1, 100_000), (10, 10_000), (1000, 100)];
const FILTERED: [(u64, u64); 3] = [(1, 100_000), (10, 100_000), (1000, 5000)];
const LIMIT: Duration = Duration::from_secs(20);

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        report.table(
            "Many functions on one topic",
            &format!(
                "Copies of `functions/relay` under different names, deployed when the events are there, for {LIMIT:?} at \
                 most. Where each runs for its share, its filter takes one in as many events as there are functions, and a \
                 choice is one look of one function at one event. One run each; memory is that of the platform after it."
            ),
            &["functions", "events", "each runs for", "runs", "runs/s", "choices/s", "memory"],
        );
        for (filtered, sizes) in [(false, ALL), (true, FILTERED)] {
            for (count, events) in sizes {
                eprintln!("fanout: {count} functions, filtered: {filtered}");
                let server = Server::platform(&settings.dunlin)?;
                Admin::connect(&server).await?.create("in").await?;
                let made = if filtered { Events::of_subjects(count) } else { Events::new(Ids::Ordered) };
                dunlin::fill(&server, &["in"], events, &made).await?;
                let mut functions = Functions::new()?;
                for number in 0..count {
                    let more = if filtered { format!("filter: 'event.subject == \"s{number}\"'") } else { String::new() };
                    let trigger = Trigger { from: "in", offset: 0, more: &more };
                    dunlin::add_relay(&mut functions, &format!("relay-{number}"), &trigger, "out")?;
                }
                let runs = if filtered { events } else { events * count };
                let passed = dunlin::pass(&server, &functions, "out", runs, LIMIT, || Ok(())).await?;
                // Of those who aren't done it is taken that they have looked at as large a part as they have run for.
                let choices = passed.rate() * (events * count) as f64 / runs as f64;
                report.row(&[
                    harness::number(count as f64),
                    harness::number(events as f64),
                    if filtered { "its share" } else { "all" }.to_owned(),
                    match passed.events {
                        all if all == runs => harness::number(runs as f64),
                        some => format!("{} of {}", harness::number(some as f64), harness::number(runs as f64)),
                    },
                    harness::number(passed.rate()),
                    harness::number(choices),
                    harness::memory(server.resident()?),
                ]);
            }
        }
        Ok(())
    })
}
