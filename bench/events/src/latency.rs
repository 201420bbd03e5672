//! `latency`: from publishing an event to the function's run.

use crate::{
    Settings,
    contestant::Contestant,
    dunlin::{self, Admin, HttpPublisher, Trigger},
    event::{Events, Ids},
    jetstream::{JetStream, JetStreamPublisher},
    publisher::{Pace, Published, Publisher, at_a_rate},
    runtime,
};
use anyhow::{Context, Result, anyhow, ensure};
use dunlin_bench_harness::{self as harness, Functions, Load, Report, Server, Times};
use futures_util::StreamExt;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, timeout};

/// Events a second, all publishers together.
const RATE: u32 = 5000;
const PUBLISHERS: usize = 64;
/// What is published in the first second warms up.
const WARM: Duration = Duration::from_secs(1);

pub fn measure(settings: &Settings, report: &mut Report) -> Result<()> {
    runtime()?.block_on(async {
        report.table(
            "Latency",
            &format!(
                "{PUBLISHERS} publishers, {} events a second in all. Dunlin's time runs from the publisher's clock before it \
                 sends to the platform's when `functions/relay` has returned: a bit more than to its start. JetStream's \
                 ends when a native program has the message in its hands: it runs nothing. Who can't take as many takes fewer. The answer is what the \
                 publisher waited for.",
                harness::number(RATE.into())
            ),
            &["what", "events/s", "p50", "p99", "answer p50", "answer p99"],
        );
        for start in [Contestant::always, Contestant::default, Contestant::dunlin] {
            let mut passages = Vec::new();
            let mut answers = Vec::new();
            let mut name = "";
            for round in 1..=settings.rounds {
                let contestant = start(settings)?;
                name = contestant.name();
                eprintln!("latency, round {round}: {name}");
                let time = WARM + settings.time;
                let (mut published, mut times) = match &contestant {
                    Contestant::JetStream(_, peer) => peer_passages(peer, time).await?,
                    Contestant::Dunlin(server) => passages_through(server, time).await?,
                };
                let rate = published.rate();
                answers.push(published.load());
                passages.push(Load { rate, p50: times.at(0.5), p99: times.at(0.99) });
            }
            let (passage, answer) = (Load::median(&passages), Load::median(&answers));
            report.row(&[
                name.to_owned(),
                harness::number(passage.rate),
                harness::time(passage.p50),
                harness::time(passage.p99),
                harness::time(answer.p50),
                harness::time(answer.p99),
            ]);
        }
        Ok(())
    })
}

async fn passages_through(server: &Server, time: Duration) -> Result<(Published, Times)> {
    let mut admin = Admin::connect(server).await?;
    admin.create("in").await?;
    let mut functions = Functions::new()?;
    dunlin::add_relay(&mut functions, "relay", &Trigger { from: "in", offset: 0, more: "" }, "out")?;
    Server::deployed(server.deploying(&functions)?)?;
    let mut publishers = HttpPublisher::several(PUBLISHERS, server, "in", Pace::OneByOne).await?;
    publishers[0].publish(&mut Events::new(Ids::Ordered)).await?;
    relayed(&mut admin, 1).await?;

    let warm = SystemTime::now() + WARM;
    let published = at_a_rate(&mut publishers, RATE, time).await?;
    relayed(&mut admin, 1 + published.events).await?;
    let mut times = Times::default();
    for passage in admin.passages("out", 1).await? {
        if passage.published >= warm {
            times.add(passage.returned.duration_since(passage.published).context("the clock was set back")?);
        }
    }
    Ok((published, times))
}

/// Waits until relay has made so many events.
async fn relayed(admin: &mut Admin, count: u64) -> Result<()> {
    let start = Instant::now();
    loop {
        let end = admin.end("out").await?;
        if end >= count {
            return Ok(());
        }
        ensure!(start.elapsed() < Duration::from_secs(60), "{end} of {count} events were relayed in a minute");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn peer_passages(peer: &JetStream, time: Duration) -> Result<(Published, Times)> {
    peer.create("in").await?;
    let mut messages = peer.consume("in", 0).await?;
    let mut publishers = JetStreamPublisher::several(PUBLISHERS, peer, "in", Pace::OneByOne).await?;
    let warm = SystemTime::now() + WARM;
    let received = async {
        let (mut times, mut count) = (Times::default(), 0);
        // Ends when nothing has come for a while.
        while let Ok(message) = timeout(Duration::from_secs(2), messages.next()).await {
            let message = message.context("the consumer ended")??;
            let now = SystemTime::now();
            let published = dunlin::published(&message.payload)?;
            message.ack().await.map_err(|error| anyhow!(error))?;
            count += 1;
            if published >= warm {
                times.add(now.duration_since(published).context("the clock was set back")?);
            }
        }
        anyhow::Ok((count, times))
    };
    let (published, (received, times)) = tokio::try_join!(at_a_rate(&mut publishers, RATE, time), received)?;
    ensure!(received == published.events, "{received} of {} messages were received", published.events);
    Ok((published, times))
}
