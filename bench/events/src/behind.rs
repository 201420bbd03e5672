//! `behind`: memory while a function catches up.

use crate::{
    Settings,
    contestant::{Contestant, Pass},
    event::Ids,
    runtime,
};
use anyhow::Result;
use dunlin_bench_harness::{self as harness, Report};
use std::time::Duration;

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        let count = harness::number(settings.behind as f64);
        report.table(
            "Catching up",
            &format!(
                "{count} events are there when the function is deployed. Memory of the server's process, and the part of it \
                 that isn't a mapped file. JetStream's program is not counted: it is part of this one."
            ),
            &["what", "before", "most while catching up", "of it its own", "after", "events/s"],
        );
        for start in [Contestant::default, Contestant::dunlin] {
            let mut contestant = start(settings)?;
            eprintln!("behind: {}", contestant.name());
            for topic in ["in", "out"] {
                contestant.create(topic).await?;
            }
            contestant.fill(&["in"], settings.behind, Ids::Ordered).await?;
            let pass = Pass {
                from: "in",
                offset: 0,
                to: "out",
                function: "relay",
                at_once: 256,
                trigger: "",
                count: settings.behind,
                limit: Duration::from_secs(300),
            };
            let before = contestant.server().resident()?;
            let (mut most, mut own) = (0, 0);
            let watch = || {
                most = most.max(contestant.server().resident()?);
                own = own.max(contestant.server().anonymous()?);
                Ok(())
            };
            let passed = contestant.pass(&pass, watch).await?;
            report.row(&[
                contestant.name().to_owned(),
                harness::memory(before),
                harness::memory(most),
                harness::memory(own),
                harness::memory(contestant.server().resident()?),
                harness::number(passed.rate()),
            ]);
        }
        Ok(())
    })
}
