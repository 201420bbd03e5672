//! Calls timed one by one: on one connection, from the first byte written to the last byte of the answer.

use crate::server::Server;
use anyhow::{Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct Calls(Vec<Duration>);

impl Calls {
    /// Calls each path once, after a hundred calls that warm up the connection and the platform itself.
    pub fn add(&mut self, server: &Server, warm: &str, paths: &[String]) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(server.address()).await?;
            stream.set_nodelay(true)?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            for _ in 0..100 {
                call(&mut sender, server.address(), warm).await?;
            }
            for path in paths {
                self.0.push(call(&mut sender, server.address(), path).await?);
            }
            self.0.sort_unstable();
            Ok(())
        })
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which this share of the calls was answered.
    pub fn at(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }
}

async fn call(sender: &mut http1::SendRequest<Empty<Bytes>>, host: &str, path: &str) -> Result<Duration> {
    let request = Request::get(path).header(HOST, host).body(Empty::new())?;
    let start = Instant::now();
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let time = start.elapsed();
    ensure!(status.is_success(), "{path} answered {status}: {}", String::from_utf8_lossy(&body));
    Ok(time)
}
