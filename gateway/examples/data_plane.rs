//! What the data plane costs beside hyper alone: both answer `hello` from memory, each on its own port and with the same
//! number of single-threaded workers. Run it with `--release`, then `wrk -t1 -c1 http://127.0.0.1:9100/` and `:9101/`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use arc_swap::ArcSwap;
use bytes::Bytes;
use dunlin_events::{
    Body, BoxFuture, Failure, Function, Invocation, Version,
    effects::NoEffects,
    logs::{LogRecord, LogSink},
    runtime::Load,
};
use dunlin_gateway::{
    active::{ActiveFunction, Counters},
    deploy::Table,
    http::{
        data::{Config, DataPlane},
        routes::Routes,
    },
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, num::NonZeroUsize, sync::Arc, thread};
use tokio::{net::TcpListener, runtime::Builder};
use tokio_util::sync::CancellationToken;

struct Hello;

impl Function for Hello {
    fn invoke<'a>(&'a self, _: Request<Body>, _: Invocation) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        let body = Full::new(Bytes::from_static(b"hello\n")).map_err(|never| match never {}).boxed_unsync();
        Box::pin(std::future::ready(Ok(Response::new(body))))
    }

    fn load(&self) -> Load {
        Load { running: 0, waiting: 0 }
    }
}

struct NoLog;

impl LogSink for NoLog {
    fn record(&self, _: LogRecord) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    thread::spawn(|| Builder::new_current_thread().enable_all().build()?.block_on(hyper_alone()));
    let version: Version = serde_json::from_value(serde_json::json!({
        "number": 1, "deployed_at": 0,
        "manifest": { "name": "hello", "component": "x.wasm", "triggers": [{ "http": { "path": "/{*any}" } }, { "http": { "path": "/" } }] },
        "component": { "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "shape": "http02", "imports": [], "initial_memory": 0 },
    }))?;
    let (handle, effects) = (Arc::new(Hello), Arc::new(NoEffects));
    let (counters, statuses) = (Arc::new(Counters::default()), vec![Arc::default()]);
    let hello = Arc::new(ActiveFunction { version, handle, counters, effects, statuses });
    let routes = Routes::build([hello]).map_err(|conflicts| format!("{conflicts:?}"))?;
    let tables = Arc::new(ArcSwap::from_pointee(Table { routes, ..Table::default() }));
    let mut config = Config::new("127.0.0.1:9101".parse()?);
    config.workers = NonZeroUsize::MIN;
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let plane = DataPlane::bind(config, tables, Arc::new(NoLog)).await?;
        println!("hyper alone http://127.0.0.1:9100/, the data plane http://{}/", plane.address());
        plane.run(CancellationToken::new()).await;
        Ok(())
    })
}

async fn hyper_alone() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:9100").await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let hello = |_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
        };
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service_fn(hello)));
    }
}
