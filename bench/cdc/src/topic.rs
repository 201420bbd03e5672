//! Reading a platform's topics.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use dunlin_bench_harness::Server;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A connection to the admin API.
pub struct Admin {
    sender: http1::SendRequest<Empty<Bytes>>,
    host: String,
}

impl Admin {
    pub async fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.admin()).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: server.admin().to_owned() })
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        self.sender.ready().await?;
        let request = Request::get(path).header(HOST, &self.host).body(Empty::new())?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    /// How many events a topic has.
    pub async fn end(&mut self, topic: &str) -> Result<u64> {
        self.get(&format!("/api/topics/{topic}")).await?["end"].as_u64().context("a topic without end")
    }

    /// All events of a topic.
    pub async fn events(&mut self, topic: &str) -> Result<Vec<Value>> {
        let (mut events, mut from) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/api/topics/{topic}/events?from={from}&limit=10000")).await?;
            let piece = page["events"].as_array().context("a page without events")?;
            events.extend(piece.iter().map(|stored| stored["event"].clone()));
            from = page["next"].as_u64().context("a page without next")?;
            if from >= page["end"].as_u64().context("a page without end")? {
                return Ok(events);
            }
        }
    }
}
