//! Those who are compared: they do the same, each in its own way.

use crate::{
    Settings,
    dunlin::{self, Admin, HttpPublisher, Passed, Trigger},
    event::{Events, Ids},
    jetstream::{JetStream, JetStreamPublisher, SyncInterval},
    publisher::{Pace, Published, at_full_speed},
};
use anyhow::{Result, ensure};
use dunlin_bench_harness::{Functions, Server};
use std::time::Duration;

pub enum Contestant {
    JetStream(&'static str, JetStream),
    Dunlin(Server),
}

/// How many of them there are.
pub const COUNT: usize = 3;

impl Contestant {
    /// All of them, each started anew. Dunlin is the last.
    pub fn all(settings: &Settings) -> Result<[Self; COUNT]> {
        Ok([Self::always(settings)?, Self::default(settings)?, Self::dunlin(settings)?])
    }

    pub fn always(settings: &Settings) -> Result<Self> {
        let server = JetStream::start(&settings.nats, SyncInterval::Always)?;
        Ok(Self::JetStream("JetStream, `sync_interval: always`", server))
    }

    pub fn default(settings: &Settings) -> Result<Self> {
        Ok(Self::JetStream("JetStream, its default", JetStream::start(&settings.nats, SyncInterval::Default)?))
    }

    pub fn dunlin(settings: &Settings) -> Result<Self> {
        Ok(Self::Dunlin(Server::platform(&settings.dunlin)?))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::JetStream(name, _) => name,
            Self::Dunlin(_) => "**Dunlin**",
        }
    }

    pub fn server(&self) -> &Server {
        match self {
            Self::JetStream(_, peer) => peer.server(),
            Self::Dunlin(server) => server,
        }
    }

    /// Makes a topic, or a stream with a subject of the same name.
    pub async fn create(&self, topic: &str) -> Result<()> {
        match self {
            Self::JetStream(_, peer) => peer.create(topic).await,
            Self::Dunlin(server) => Admin::connect(server).await?.create(topic).await,
        }
    }

    /// How many events a topic holds.
    pub async fn held(&self, topic: &str) -> Result<u64> {
        match self {
            Self::JetStream(_, peer) => peer.messages(topic).await,
            Self::Dunlin(server) => Admin::connect(server).await?.end(topic).await,
        }
    }

    /// Publishes for so long.
    pub async fn publish(
        &self,
        topic: &str,
        publishers: usize,
        pace: Pace,
        ids: Ids,
        time: Duration,
    ) -> Result<Published> {
        match self {
            Self::JetStream(_, peer) => {
                let mut publishers = JetStreamPublisher::several(publishers, peer, topic, pace).await?;
                at_full_speed(&mut publishers, ids, time).await
            }
            Self::Dunlin(server) => {
                let mut publishers = HttpPublisher::several(publishers, server, topic, pace).await?;
                at_full_speed(&mut publishers, ids, time).await
            }
        }
    }

    /// Publishes so many events to each of several topics, by turns, as fast as it goes.
    pub async fn fill(&mut self, topics: &[&str], count: u64, ids: Ids) -> Result<()> {
        match self {
            Self::JetStream(_, peer) => peer.fill(topics, count).await,
            Self::Dunlin(server) => dunlin::fill(server, topics, count, &Events::new(ids)).await,
        }
    }

    /// Passes on so many events from one topic to another, or as many as it can in a time.
    pub async fn pass(&self, pass: &Pass<'_>, watch: impl FnMut() -> Result<()>) -> Result<Passed> {
        let passed = match self {
            Self::JetStream(_, peer) => peer.relay(pass, watch).await?,
            Self::Dunlin(server) => {
                let mut functions = Functions::new()?;
                let trigger = Trigger { from: pass.from, offset: pass.offset, more: pass.trigger };
                dunlin::add_relay(&mut functions, pass.function, &trigger, pass.to)?;
                let passed = dunlin::pass(server, &functions, pass.to, pass.count, pass.limit, watch).await?;
                Admin::connect(server).await?.remove(pass.function).await?;
                passed
            }
        };
        ensure!(passed.events > 0, "nothing was passed on in {:?}", passed.time);
        Ok(passed)
    }
}

/// What to pass on.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    pub from: &'a str,
    /// The offset of the first.
    pub offset: u64,
    pub to: &'a str,
    /// The name that relay is deployed by.
    pub function: &'a str,
    /// Messages under way with the peer.
    pub at_once: usize,
    /// What the manifest's trigger has beside that.
    pub trigger: &'a str,
    pub count: u64,
    pub limit: Duration,
}
