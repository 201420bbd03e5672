//! `history`: what it costs that much is stored already.

use crate::{
    Settings,
    contestant::{Contestant, Pass},
    event::Ids,
    publisher::Pace,
    runtime,
};
use anyhow::{Result, ensure};
use dunlin_bench_harness::{self as harness, Report, median};

/// Batches of a hundred, each of them on disk, fill JetStream with so many in minutes.
const MOST_OF_JETSTREAM: u64 = 2_000_000;

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        let history = harness::number(settings.history as f64);
        let columns =
            ["what", "publish/s, new", &format!("after {history}"), "change", "pass/s, new", &format!("after {history}"), "change"];
        report.table(
            "History",
            &format!(
                "A new log, and one of {history} events, half of them in the topic that is published to and read, half in the \
                 one the function publishes to, in turns. 64 publishers, one by one; {} events to pass on, each time in {:?} at most. Dunlin looks each id up: UUIDs of version 7 are ordered, those of version 4 random. What the function \
                 makes has ids of the platform's, which are ordered. JetStream is left out where the history is longer than {}: \
                 filling it takes too long.",
                harness::number(settings.events as f64 / 2.0),
                2 * settings.time,
                harness::number(MOST_OF_JETSTREAM as f64),
            ),
            &columns,
        );
        for (start, ids, what) in [
            (Contestant::always as fn(&Settings) -> Result<Contestant>, Ids::Ordered, ""),
            (Contestant::default, Ids::Ordered, ""),
            (Contestant::dunlin, Ids::Ordered, ", ordered ids"),
            (Contestant::dunlin, Ids::Random, ", random ids"),
        ] {
            let (mut new, mut old) = (start(settings)?, start(settings)?);
            if matches!(new, Contestant::JetStream(..)) && settings.history > MOST_OF_JETSTREAM {
                continue;
            }
            let name = format!("{}{what}", new.name());
            for contestant in [&mut new, &mut old] {
                for topic in ["in", "out"] {
                    contestant.create(topic).await?;
                }
            }
            eprintln!("history: {name}, filling");
            old.fill(&["in", "out"], settings.history / 2, ids).await?;
            // In turns: a machine that is shared with others is faster at one time than at another.
            let mut rounds: [(Vec<f64>, Vec<f64>); 2] = Default::default();
            for round in 1..=settings.rounds {
                for (contestant, (published, passed)) in [&mut new, &mut old].into_iter().zip(&mut rounds) {
                    eprintln!("history: {name}, round {round}");
                    let (publish, pass) = rates(settings, contestant, ids, &format!("relay-{round}")).await?;
                    published.push(publish);
                    passed.push(pass);
                }
            }
            let [(publish, pass), (publish_then, pass_then)] =
                rounds.map(|(published, passed)| (median(published), median(passed)));
            let change = |before: f64, then: f64| format!("{:+.0} %", (then / before - 1.0) * 100.0);
            report.row(&[
                name,
                harness::number(publish),
                harness::number(publish_then),
                change(publish, publish_then),
                harness::number(pass),
                harness::number(pass_then),
                change(pass, pass_then),
            ]);
        }
        Ok(())
    })
}

/// Events a second that are published, and that are passed on from then on.
async fn rates(settings: &Settings, contestant: &mut Contestant, ids: Ids, function: &str) -> Result<(f64, f64)> {
    let (count, before) = (settings.events / 2, contestant.held("in").await?);
    let published = contestant.publish("in", 64, Pace::OneByOne, ids, settings.time).await?;
    let offset = contestant.held("in").await?;
    ensure!(offset == before + published.events, "{} events were answered for", published.events);
    contestant.fill(&["in"], count, ids).await?;
    let pass =
        Pass { from: "in", offset, to: "out", function, at_once: 256, trigger: "", count, limit: 2 * settings.time };
    let passed = contestant.pass(&pass, || Ok(())).await?;
    Ok((published.rate(), passed.rate()))
}
