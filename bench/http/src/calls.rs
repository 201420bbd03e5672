//! Calls timed one by one: on one connection, from the first byte written to the last byte of the answer.

use anyhow::{Result, ensure};
use bytes::Bytes;
use dunlin_bench_harness::{Server, Times};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use std::time::{Duration, Instant};

/// Calls each path once, after a hundred calls that warm up the connection and the platform itself.
pub fn call_each(server: &Server, warm: &str, paths: &[String]) -> Result<Times> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.address()).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        for _ in 0..100 {
            call(&mut sender, server.address(), warm).await?;
        }
        let mut times = Times::default();
        for path in paths {
            times.add(call(&mut sender, server.address(), path).await?);
        }
        Ok(times)
    })
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
