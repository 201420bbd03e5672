//! The ceiling: what hyper answers when there is no function to run. One single-threaded runtime per core on a shared port,
//! so that no request ever changes threads.
//!
//! It takes a free port, prints its address once it accepts, and runs until it is killed.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Socket, Type};
use std::{convert::Infallible, net::SocketAddr, thread};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let first = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = first.local_addr()?;
    let cores = thread::available_parallelism()?.get();
    let others: Vec<_> = (1..cores).map(|_| listen(address)).collect::<Result<_, _>>()?;
    println!("ceiling  http://{address}");
    let threads: Vec<_> =
        [first].into_iter().chain(others).map(|listener| thread::spawn(move || serve(listener))).collect();
    threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn serve(listener: std::net::TcpListener) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                // The answer of functions/hello, header for header.
                service_fn(|_| async {
                    let body = Full::new(Bytes::from_static(b"Hello, world!\n"));
                    let response =
                        Response::builder().header(header::CONTENT_TYPE, "text/plain; charset=utf-8").body(body);
                    Ok::<_, Infallible>(response.expect("the header is well-formed"))
                }),
            ));
        }
    }))
}
