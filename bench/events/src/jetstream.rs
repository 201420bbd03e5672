//! The peer: NATS JetStream, and what a program with its Rust client does there.

use crate::{
    contestant::Pass,
    dunlin::Passed,
    event::{Events, Ids},
    publisher::{Pace, Publisher, one_by_one},
};
use anyhow::{Result, anyhow, ensure};
use async_nats::{
    ConnectOptions, HeaderMap, Subject,
    jetstream::{Context, consumer, context::ContextBuilder, stream},
};
use dunlin_bench_harness::{Server, Times};
use futures_util::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, interval};
use uuid::Uuid;

/// When it writes to disk what it has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before it acknowledges.
    Always,
    /// Every two minutes, its default.
    Default,
}

pub struct JetStream {
    binary: PathBuf,
    sync: SyncInterval,
    // Stops before its folder goes.
    server: Option<Server>,
    store: TempDir,
}

impl JetStream {
    pub fn start(binary: &Path, sync: SyncInterval) -> Result<Self> {
        let mut started = Self { binary: binary.to_owned(), sync, server: None, store: tempfile::tempdir()? };
        started.restart(sync)?;
        Ok(started)
    }

    fn restart(&mut self, sync: SyncInterval) -> Result<()> {
        // Its process ends before the next one opens the same folder.
        self.server = None;
        let config = self.store.path().join("nats.conf");
        let data = self.store.path().join("data");
        let interval = if sync == SyncInterval::Always { "sync_interval: always" } else { "" };
        fs::write(&config, format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: {data:?}, {interval} }}\n"))?;
        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(&config);
        self.server = Some(Server::other(command, |line| Some(line.split_once("client connections on ")?.1.trim()))?);
        Ok(())
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it was started")
    }

    pub async fn connect(&self) -> Result<Context> {
        // How long and how many of them wait is what is measured here: not the client's to decide.
        let (patience, most) = (Duration::from_secs(60), 1 << 20);
        let options = ConnectOptions::new().request_timeout(Some(patience));
        let client = options.connect(self.server().address()).await?;
        Ok(ContextBuilder::new().timeout(patience).max_ack_inflight(most).build(client))
    }

    /// A stream of this name on disk, with the subject of the same name.
    pub async fn create(&self, name: &str) -> Result<()> {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![name.to_owned()],
            allow_atomic_publish: true,
            ..Default::default()
        };
        self.connect().await?.create_stream(config).await?;
        Ok(())
    }

    /// How many messages a stream holds.
    pub async fn messages(&self, name: &str) -> Result<u64> {
        Ok(self.connect().await?.get_stream(name).await?.get_info().await?.state.messages)
    }

    /// Publishes so many events to each of several streams, by turns, as fast as it goes: what isn't measured need not wait
    /// for the disk.
    pub async fn fill(&mut self, names: &[&str], count: u64) -> Result<()> {
        if self.sync != SyncInterval::Default {
            self.restart(SyncInterval::Default)?;
        }
        let (context, mut events) = (self.connect().await?, Events::new(Ids::Ordered));
        let subjects: Vec<_> = names.iter().map(|name| Subject::from(*name)).collect();
        let mut pending = FuturesUnordered::new();
        for _ in 0..count {
            for subject in &subjects {
                if pending.len() == 5000 {
                    pending.try_next().await?;
                }
                pending.push(context.publish(subject.clone(), events.data()).await?.into_future());
            }
        }
        while pending.try_next().await?.is_some() {}
        if self.sync != SyncInterval::Default {
            self.restart(self.sync)?;
        }
        Ok(())
    }

    /// The messages of a stream from some offset on, as a new durable consumer gets them that acknowledges each.
    pub async fn consume(&self, name: &str, offset: u64) -> Result<consumer::pull::Stream> {
        let config = consumer::pull::Config {
            durable_name: Some(format!("relay-{offset}")),
            // Sequences begin at 1.
            deliver_policy: consumer::DeliverPolicy::ByStartSequence { start_sequence: offset + 1 },
            max_ack_pending: 10_000,
            ..Default::default()
        };
        let consumer = self.connect().await?.get_stream(name).await?.create_consumer(config).await?;
        Ok(consumer.stream().max_messages_per_batch(1000).messages().await?)
    }

    /// What relay does, as a program would: takes each message of a stream, publishes its data to another, and acknowledges
    /// it when that is acknowledged; so many at once, until it has done so many or has had so much time.
    pub async fn relay(&self, pass: &Pass<'_>, mut watch: impl FnMut() -> Result<()>) -> Result<Passed> {
        let (context, subject) = (self.connect().await?, Subject::from(pass.to));
        let mut messages = self.consume(pass.from, pass.offset).await?;
        let (start, mut events, mut pending) = (Instant::now(), 0, FuturesUnordered::new());
        let mut ticks = interval(Duration::from_millis(5));
        while events < pass.count && start.elapsed() < pass.limit {
            tokio::select! {
                Some(done) = pending.next(), if !pending.is_empty() => {
                    let () = done?;
                    events += 1;
                }
                message = messages.next(), if pending.len() < pass.at_once => {
                    let message = message.ok_or_else(|| anyhow!("the consumer ended"))??;
                    let (context, subject) = (&context, subject.clone());
                    pending.push(async move {
                        context.publish(subject, message.payload.clone()).await?.await?;
                        message.ack().await.map_err(|error| anyhow!(error))
                    });
                }
                _ = ticks.tick() => watch()?,
            }
        }
        Ok(Passed { events, time: start.elapsed() })
    }
}

/// Publishes messages. Several share a connection, as their client means them to: with one each they are slower.
pub struct JetStreamPublisher {
    context: Context,
    subject: Subject,
    pace: Pace,
}

impl JetStreamPublisher {
    pub async fn several(count: usize, server: &JetStream, name: &str, pace: Pace) -> Result<Vec<Self>> {
        let context = server.connect().await?;
        let publisher = || Self { context: context.clone(), subject: name.into(), pace };
        Ok(std::iter::repeat_with(publisher).take(count).collect())
    }

    /// Publishes several, all or none of which the stream gets.
    async fn publish_batch(&self, events: &mut Events, count: usize) -> Result<()> {
        let (client, id) = (self.context.client(), Uuid::now_v7().to_string());
        for number in 1..=count {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", id.as_str());
            headers.insert("Nats-Batch-Sequence", number.to_string());
            if number < count {
                client.publish_with_headers(self.subject.clone(), headers, events.data()).await?;
                continue;
            }
            headers.insert("Nats-Batch-Commit", "1");
            let answer = client.request_with_headers(self.subject.clone(), headers, events.data()).await?;
            let answer: Value = serde_json::from_slice(&answer.payload)?;
            ensure!(answer["count"] == count, "the batch was not taken: {answer}");
        }
        Ok(())
    }
}

impl Publisher for JetStreamPublisher {
    async fn publish(&mut self, events: &mut Events) -> Result<u64> {
        if let Pace::Batch(count) = self.pace {
            self.publish_batch(events, count).await?;
            return Ok(count as u64);
        }
        self.context.publish(self.subject.clone(), events.data()).await?.await?;
        Ok(1)
    }

    async fn publish_until(&mut self, events: &mut Events, end: Instant, times: &mut Times) -> Result<u64> {
        let Pace::UnderWay(most) = self.pace else { return one_by_one(self, events, end, times).await };
        let (mut count, mut pending) = (0, FuturesUnordered::new());
        loop {
            while pending.len() < most && Instant::now() < end {
                let start = Instant::now();
                let acknowledged = self.context.publish(self.subject.clone(), events.data()).await?;
                pending.push(async move { acknowledged.await.map(|_| start.elapsed()) });
            }
            let Some(time) = pending.try_next().await? else { return Ok(count) };
            times.add(time);
            count += 1;
        }
    }
}
