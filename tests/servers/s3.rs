//! An object store of a test's own: on loopback, on a free port, with its objects in a folder that goes with it. Both the
//! tests of `triggers` and those of the platform have this file as a module.
//!
//! It is the Versity S3 Gateway over a folder: `make tools` builds it.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle, actions::ListObjectsV2};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of the server's owner.
pub(crate) const ID: &str = "AKDUNLINTESTS0000001";
pub(crate) const KEY: &str = "of+the/tests";
/// The one bucket there is.
pub(crate) const BUCKET: &str = "inbox";

/// A running server. Dropping it ends it as a crash would.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    bucket: Bucket,
    credentials: Credentials,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir_all(folder.path().join("root").join(BUCKET)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
        let child = spawn(folder.path(), port);
        let mut server = Self {
            child,
            port,
            folder,
            bucket: Bucket::new(endpoint, UrlStyle::Path, BUCKET, "us-east-1").unwrap(),
            credentials: Credentials::new(ID, KEY),
            client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http(),
        };
        server.ready();
        server
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.folder.path(), self.port);
        self.ready();
    }

    fn ready(&mut self) {
        let start = Instant::now();
        while !answers(self.port) {
            assert!(self.child.try_wait().unwrap().is_none(), "the object store ended: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "the object store does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) async fn put(&self, key: &str, content: impl Into<Bytes>) {
        let action = self.bucket.put_object(Some(&self.credentials), key);
        let (status, body) = self.send(action, content.into()).await;
        assert!(status.is_success(), "{key}: {status} {}", String::from_utf8_lossy(&body));
    }

    /// An object of this size that takes no room, put there behind the server's back.
    pub(crate) fn put_large(&self, key: &str, size: u64) {
        let path = self.folder.path().join("root").join(BUCKET).join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(size).unwrap();
    }

    /// The content of an object; `None` where there is none.
    pub(crate) async fn get(&self, key: &str) -> Option<Bytes> {
        let action = self.bucket.get_object(Some(&self.credentials), key);
        let (status, body) = self.send(action, Bytes::new()).await;
        assert!(status.is_success() || status == StatusCode::NOT_FOUND, "{key}: {status}");
        status.is_success().then_some(body)
    }

    /// All keys there are.
    pub(crate) async fn keys(&self) -> BTreeSet<String> {
        let (mut keys, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
            if let Some(after) = after {
                list.with_continuation_token(after);
            }
            let (status, body) = self.send(list, Bytes::new()).await;
            assert!(status.is_success(), "{status}");
            let page = ListObjectsV2::parse_response(std::str::from_utf8(&body).unwrap()).unwrap();
            keys.extend(page.contents.into_iter().map(|object| object.key).filter(|key| !key.ends_with('/')));
            after = page.next_continuation_token;
            if after.is_none() {
                return keys;
            }
        }
    }

    async fn send<'a, A: S3Action<'a>>(&self, action: A, body: Bytes) -> (StatusCode, Bytes) {
        let method = Method::from_bytes(A::METHOD.to_str().as_bytes()).unwrap();
        let url = String::from(action.sign(Duration::from_secs(60)));
        let request = Request::builder().method(method).uri(url).body(Full::new(body)).unwrap();
        let response = self.client.request(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("the object store's log:\n{}", self.log());
        }
    }
}

/// Whether a server answers. That there is a connection says nothing: without a server, a port may be connected to itself.
fn answers(port: u16) -> bool {
    let asked = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: s3\r\nConnection: close\r\n\r\n")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok::<_, io::Error>(answer == *b"HTTP/")
    };
    asked().unwrap_or(false)
}

fn spawn(folder: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    // The one that `make tools` has built, or another.
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools/bin/versitygw");
    let mut command = Command::new(if built.is_file() { built } else { "versitygw".into() });
    command.args(["--port", &format!("127.0.0.1:{port}"), "--access", ID, "--secret", KEY, "--quiet"]);
    command.arg("posix").arg(folder.join("root"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}
