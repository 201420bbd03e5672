//! `pass`: from a topic through a function to another topic.

use crate::{
    Settings,
    contestant::{Contestant, Pass},
    event::Ids,
    ratio, runtime,
};
use anyhow::Result;
use dunlin_bench_harness::{self as harness, Report, median};

/// Who passes on, and how.
struct Way {
    what: &'static str,
    start: fn(&Settings) -> Result<Contestant>,
    at_once: usize,
    trigger: &'static str,
}

const WAYS: [Way; 6] = [
    Way { what: "16 at once", start: Contestant::always, at_once: 16, trigger: "" },
    Way { what: "256 at once", start: Contestant::always, at_once: 256, trigger: "" },
    Way { what: "16 at once", start: Contestant::default, at_once: 16, trigger: "" },
    Way { what: "256 at once", start: Contestant::default, at_once: 256, trigger: "" },
    Way { what: "its default: 16 at once, in order for each key", start: Contestant::dunlin, at_once: 0, trigger: "" },
    Way {
        what: "the same, up to 100 events a call",
        start: Contestant::dunlin,
        at_once: 0,
        trigger: "batch: { size: 100 }",
    },
];

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        let mut rates = [const { Vec::new() }; WAYS.len()];
        let mut names = [""; WAYS.len()];
        for round in 1..=settings.rounds {
            for (number, way) in WAYS.iter().enumerate() {
                let mut contestant = (way.start)(settings)?;
                names[number] = contestant.name();
                eprintln!("pass, round {round}: {}, {}", contestant.name(), way.what);
                for topic in ["in", "out"] {
                    contestant.create(topic).await?;
                }
                contestant.fill(&["in"], settings.events, Ids::Ordered).await?;
                let pass = Pass {
                    from: "in",
                    offset: 0,
                    to: "out",
                    function: "relay",
                    at_once: way.at_once,
                    trigger: way.trigger,
                    count: settings.events,
                    limit: 2 * settings.time,
                };
                rates[number].push(contestant.pass(&pass, || Ok(())).await?.rate());
            }
        }
        let rates = rates.map(median);
        report.table(
            "Pass on",
            &format!(
                "{} events are there when the function is deployed, with 1,000 different keys; the clock runs from the \
                 first event until all are in the other topic, or {:?}. Dunlin's is `functions/relay` in its sandbox, with \
                 position and output in one transaction, on disk: each event has its effects once. With JetStream it is a \
                 native program in Rust that publishes what it gets, waits for the acknowledgement and then acknowledges: \
                 at least once, and on disk with `sync_interval: always` alone. The ratios are to the better of its two.",
                harness::number(settings.events as f64),
                2 * settings.time,
            ),
            &["what", "events/s", "÷ always", "÷ default"],
        );
        for ((way, name), rate) in WAYS.iter().zip(names).zip(rates) {
            let against = |peer: [usize; 2]| match way.at_once {
                0 => ratio(rate, rates[peer[0]].max(rates[peer[1]])),
                _ => String::new(),
            };
            report.row(&[format!("{name}: {}", way.what), harness::number(rate), against([0, 1]), against([2, 3])]);
        }
        Ok(())
    })
}
