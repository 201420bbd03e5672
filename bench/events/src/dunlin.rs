//! Dunlin: its admin API over connections that stay open, as any publisher speaks to it.

use crate::{
    event::Events,
    publisher::{Pace, Publisher},
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dunlin_bench_harness::{Functions, Server, guest};
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use std::time::{Duration, SystemTime};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// What uploading and compiling may take.
const PATIENCE: Duration = Duration::from_secs(60);
const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// A connection to the admin API.
pub struct Admin {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
}

/// What there is to know of a topic.
#[derive(Deserialize)]
pub struct Topic {
    pub end: u64,
}

/// A piece of a topic.
#[derive(Deserialize)]
struct Page {
    events: Vec<Record>,
    next: u64,
}

#[derive(Deserialize)]
struct Record {
    event: Relayed,
}

/// What relay made: its time is when relay had returned, its data that of the event it was made for.
#[derive(Deserialize)]
struct Relayed {
    #[serde(with = "rfc3339")]
    time: SystemTime,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(with = "rfc3339")]
    at: SystemTime,
}

/// When an event with this data was published.
pub fn published(data: &[u8]) -> Result<SystemTime> {
    Ok(serde_json::from_slice::<Data>(data)?.at)
}

/// An event's way through relay.
pub struct Passage {
    pub published: SystemTime,
    pub returned: SystemTime,
}

impl Admin {
    pub async fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.admin()).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: server.admin().to_owned() })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        content: Option<(&str, Bytes)>,
    ) -> Result<(StatusCode, Bytes)> {
        let (content_type, body) = content.unzip();
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body.unwrap_or_default()))?).await?;
        Ok((response.status(), response.into_body().collect().await?.to_bytes()))
    }

    async fn ask<T: DeserializeOwned>(&mut self, method: Method, path: &str) -> Result<T> {
        let (status, body) = self.send(method, path, None).await?;
        ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("{path} answered {}", String::from_utf8_lossy(&body)))
    }

    pub async fn create(&mut self, topic: &str) -> Result<()> {
        self.ask(Method::PUT, &format!("/api/topics/{topic}")).await.map(|_: Topic| ())
    }

    /// Takes a function away, so that it runs no more.
    pub async fn remove(&mut self, function: &str) -> Result<()> {
        let path = format!("/api/functions/{function}");
        let (status, answer) = self.send(Method::DELETE, &path, None).await?;
        ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    pub async fn end(&mut self, topic: &str) -> Result<u64> {
        Ok(self.ask::<Topic>(Method::GET, &format!("/api/topics/{topic}")).await?.end)
    }

    async fn publish(&mut self, topic: &str, content_type: &str, body: Bytes) -> Result<()> {
        let path = format!("/api/topics/{topic}/events");
        let (status, answer) = self.send(Method::POST, &path, Some((content_type, body))).await?;
        // 202 is also the answer where some of a batch were refused.
        let refused = status != StatusCode::ACCEPTED || answer.windows(7).any(|text| text == b"\"error\"");
        ensure!(!refused, "not every event was taken: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// What relay made, from some offset to the topic's end.
    pub async fn passages(&mut self, topic: &str, mut from: u64) -> Result<Vec<Passage>> {
        let (end, mut passages) = (self.end(topic).await?, Vec::new());
        while from < end {
            let page: Page =
                self.ask(Method::GET, &format!("/api/topics/{topic}/events?from={from}&limit=10000")).await?;
            ensure!(page.next > from, "`{topic}` ends at {from}, and not at {end}");
            from = page.next;
            let passage = |Record { event }| Passage { published: event.data.at, returned: event.time };
            passages.extend(page.events.into_iter().map(passage));
        }
        Ok(passages)
    }
}

/// Publishes over a connection of its own.
pub struct HttpPublisher {
    admin: Admin,
    topic: String,
    /// Events of a request.
    batch: usize,
}

impl HttpPublisher {
    /// With several under way, events go as batches too: a connection has one request at a time.
    pub async fn several(count: usize, server: &Server, topic: &str, pace: Pace) -> Result<Vec<Self>> {
        let batch = match pace {
            Pace::OneByOne => 1,
            Pace::UnderWay(events) | Pace::Batch(events) => events,
        };
        let mut publishers = Vec::with_capacity(count);
        for _ in 0..count {
            publishers.push(Self { admin: Admin::connect(server).await?, topic: topic.to_owned(), batch });
        }
        Ok(publishers)
    }
}

impl Publisher for HttpPublisher {
    async fn publish(&mut self, events: &mut Events) -> Result<u64> {
        let (content_type, body) =
            if self.batch == 1 { (ONE, events.one()) } else { (BATCH, events.batch(self.batch)) };
        self.admin.publish(&self.topic, content_type, body).await?;
        Ok(self.batch as u64)
    }
}

/// Publishes so many events to each of several topics, by turns, as fast as it goes.
pub async fn fill(server: &Server, topics: &[&str], count: u64, events: &Events) -> Result<()> {
    const CONNECTIONS: u64 = 4;
    const MOST: u64 = 1000;
    let fills: FuturesUnordered<_> = (0..CONNECTIONS)
        .map(async |connection| {
            let mut admin = Admin::connect(server).await?;
            let first = count * connection / CONNECTIONS;
            let mut left = count * (connection + 1) / CONNECTIONS - first;
            let mut events = events.clone().beginning_at(first as usize);
            while left > 0 {
                let batch = left.min(MOST);
                for topic in topics {
                    admin.publish(topic, BATCH, events.batch(batch as usize)).await?;
                }
                left -= batch;
            }
            anyhow::Ok(())
        })
        .collect();
    fills.try_collect().await
}

/// What relay reads.
pub struct Trigger<'a> {
    pub from: &'a str,
    /// The offset of the first event.
    pub offset: u64,
    /// What the trigger has beside that, as YAML in one line.
    pub more: &'a str,
}

/// Adds relay under a name.
pub fn add_relay(functions: &mut Functions, name: &str, trigger: &Trigger, to: &str) -> Result<()> {
    let Trigger { from, offset, more } = trigger;
    let trigger = format!("name: {from}, from: {{ offset: {offset} }}, {more}");
    functions.add(name, &guest("relay")?, &format!("triggers:\n  - topic: {{ {trigger} }}\npublish: {to}\n"))
}

/// What came through a function, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub events: u64,
    pub time: Duration,
}

impl Passed {
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64()
    }
}

/// Deploys functions that have something to do, and waits until they have published so many events to a topic, or until
/// they have had so much time; none may come of it. `watch` is called all the while.
///
/// The clock starts when the topic was last seen without any of theirs: uploading and compiling isn't counted, the first
/// event is.
pub async fn pass(
    server: &Server,
    functions: &Functions,
    to: &str,
    count: u64,
    limit: Duration,
    mut watch: impl FnMut() -> Result<()>,
) -> Result<Passed> {
    let mut admin = Admin::connect(server).await?;
    admin.create(to).await?;
    let before = admin.end(to).await?;
    let mut deploy = server.deploying(functions)?;
    let deploying = Instant::now();
    let mut start = deploying;
    let passed = loop {
        let asked = Instant::now();
        let events = admin.end(to).await? - before;
        if events == 0 {
            start = asked;
        }
        let passed = Passed { events, time: start.elapsed() };
        if events >= count || (events > 0 && passed.time > limit) {
            break passed;
        }
        if events == 0 && deploying.elapsed() > limit + PATIENCE {
            break Passed { events, time: deploying.elapsed() };
        }
        if deploy.try_wait()?.is_some_and(|status| !status.success()) {
            break passed;
        }
        watch()?;
        sleep(Duration::from_millis(5)).await;
    };
    Server::deployed(deploy)?;
    ensure!(passed.events <= count, "{} events were made of {count}", passed.events);
    Ok(passed)
}

/// Times as events have them.
mod rfc3339 {
    use serde::{Deserialize, Deserializer, de::Error};
    use std::{borrow::Cow, time::SystemTime};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map_err(D::Error::custom)
    }
}
