//! A platform to test against: the real store, deployments and admin plane, and a runtime that keeps the contract of
//! `dunlin_events::Runtime` without WebAssembly: its functions answer with what they were called with.

use bytes::Bytes;
use dunlin_events::{
    Body, BoxFuture, Component, Digest, Failure, Function, Invocation, Manifest, Runtime, Shape, Version,
    effects::Outcome,
    manifest::Problem,
    runtime::{CompileError, Feed, Load},
    source::Sources,
    units::ByteSize,
};
use dunlin_gateway::{
    api::ProblemDocument,
    backend::Backend,
    deploy::Deployments,
    http::admin::{AdminConfig, AdminPlane},
    logs::LogBuffer,
};
use dunlin_store::Store;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const TOKEN: &str = "correct horse";
pub(crate) const COMPONENT_LIMIT: usize = 4096;

/// The runtime.
#[derive(Default)]
pub(crate) struct Guests {
    compiled: Mutex<HashSet<Digest>>,
    /// A call of `/wait` is there.
    pub(crate) waiting: Arc<Notify>,
    /// Lets it go on.
    pub(crate) go_on: Arc<Notify>,
}

struct Guest {
    version: u64,
    waiting: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl Runtime for Guests {
    fn compile(&self, component: Bytes) -> BoxFuture<'_, Result<Component, CompileError>> {
        Box::pin(async move {
            if !component.starts_with(b"\0asm") {
                return Err(CompileError::NotWasm { found: "something else".into() });
            }
            if component.ends_with(b"full disk") {
                return Err(CompileError::Cache("no space left on device".into()));
            }
            let digest = Digest::of(&component);
            self.compiled.lock().unwrap().insert(digest);
            let size = component.len() as u64;
            Ok(Component { digest, size, shape: Shape::Http02, imports: vec![], initial_memory: 0 })
        })
    }

    fn is_compiled(&self, digest: Digest) -> bool {
        self.compiled.lock().unwrap().contains(&digest)
    }

    fn check(&self, manifest: &Manifest, _: &Component) -> Vec<Problem> {
        let secrets = manifest.allow.secrets.iter().enumerate();
        secrets
            .map(|(n, secret)| Problem::new(format!("/allow/secrets/{n}"), format!("there is no secret `{secret}`")))
            .collect()
    }

    fn function(&self, version: &Version) -> Arc<dyn Function> {
        let (waiting, go_on) = (Arc::clone(&self.waiting), Arc::clone(&self.go_on));
        Arc::new(Guest { version: version.number, waiting, go_on })
    }

    fn prune(&self, keep: &HashSet<Digest>) -> io::Result<()> {
        self.compiled.lock().unwrap().retain(|digest| keep.contains(digest));
        Ok(())
    }
}

impl Function for Guest {
    fn invoke<'a>(&'a self, request: Request<Body>, _: Invocation) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            match head.uri.path() {
                "/trap" => return Err(Failure::Trap("unreachable".into())),
                "/wait" => {
                    self.waiting.notify_one();
                    self.go_on.notified().await;
                }
                _ => {}
            }
            let headers: serde_json::Map<_, _> = head
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
                .collect();
            let answer = json!({
                "version": self.version, "method": head.method.as_str(), "uri": head.uri.to_string(),
                "headers": headers, "body": String::from_utf8_lossy(&body),
            });
            let body = Full::from(answer.to_string()).map_err(|never| match never {}).boxed_unsync();
            Ok(Response::builder().header("x-guest", "was here").body(body).unwrap())
        })
    }

    fn handle<'a>(&'a self, feed: Arc<dyn Feed>, _: Invocation) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            while let Some(deliveries) = feed.next() {
                feed.ended(Ok(deliveries.into_iter().map(|_| Outcome::Done(vec![])).collect()));
            }
            Ok(())
        })
    }

    fn load(&self) -> Load {
        Load { running: 0, waiting: 0 }
    }
}

/// A running platform.
pub(crate) struct Platform {
    pub(crate) folder: Arc<TempDir>,
    pub(crate) guests: Arc<Guests>,
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) address: SocketAddr,
    client: Client<HttpConnector, BoxBody<Bytes, Infallible>>,
    token: Option<&'static str>,
    shutdown: CancellationToken,
    plane: JoinHandle<()>,
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::with_sources(Arc::new(())).await
    }

    pub(crate) async fn with_sources(sources: Arc<dyn Sources>) -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()), None, sources).await
    }

    pub(crate) async fn with_token() -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap()), Some(TOKEN), Arc::new(())).await
    }

    async fn open(folder: Arc<TempDir>, token: Option<&'static str>, sources: Arc<dyn Sources>) -> Self {
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let guests = Arc::new(Guests::default());
        let logs = LogBuffer::new(ByteSize::mib(16));
        let (backend, uploads) = (Backend::of(store), folder.path().join("uploads"));
        let deployments =
            Deployments::open(backend, Arc::clone(&guests) as _, sources, Arc::new(()), logs, uploads).await.unwrap();
        let config = AdminConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.map(|token| dunlin_events::secrets::SecretValue::new(token.into())),
            component_limit: ByteSize(COMPONENT_LIMIT as u64),
            ..AdminConfig::default()
        };
        let plane = AdminPlane::bind(config, Arc::clone(&deployments)).await.unwrap();
        let (address, shutdown) = (plane.address(), CancellationToken::new());
        let plane = tokio::spawn(plane.run(shutdown.clone()));
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { folder, guests, deployments, address, client, token, shutdown, plane }
    }

    /// Stops it in good order, and starts it on the same data.
    pub(crate) async fn restart(self) -> Self {
        let (folder, token) = (Arc::clone(&self.folder), self.token);
        self.stop().await;
        Self::open(folder, token, Arc::new(())).await
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.plane.await.unwrap();
    }

    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        match self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub(crate) async fn send(&self, request: Request<BoxBody<Bytes, Infallible>>) -> Response<Incoming> {
        self.client.request(request).await.unwrap()
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = self.request(method, path).body(Full::new(body.into()).boxed()).unwrap();
        Answer::of(self.send(request).await).await
    }

    /// Sends a request with headers and reads the whole answer.
    pub(crate) async fn ask_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let request = self.request(method, path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(self.send(request.body(Full::new(body.into()).boxed()).unwrap()).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, "").await
    }

    /// Uploads a component and answers its digest.
    pub(crate) async fn upload(&self, component: &[u8]) -> Digest {
        let digest = Digest::of(component);
        let answer = self.ask(Method::PUT, &format!("/api/components/{digest}"), component.to_vec()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        digest
    }

    pub(crate) async fn deploy(&self, functions: &[(Value, Digest)]) -> Answer {
        self.ask(Method::POST, "/api/deployments", deployment(functions, false)).await
    }

    /// Deploys a function, which must succeed, and answers its version.
    pub(crate) async fn deployed(&self, manifest: Value, digest: Digest) -> u64 {
        let answer = self.deploy(&[(manifest, digest)]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["functions"][0]["version"].as_u64().unwrap()
    }

    /// Which version answers.
    pub(crate) async fn invoked(&self, name: &str) -> u64 {
        let answer = self.get(&format!("/api/functions/{name}/invoke")).await;
        answer.json()["version"].as_u64().unwrap_or_else(|| panic!("{answer:?}"))
    }

    /// What lies in the uploads folder.
    pub(crate) fn uploads(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.folder.path().join("uploads")).unwrap();
        folder.map(|entry| entry.unwrap().path()).collect()
    }
}

pub(crate) fn deployment(functions: &[(Value, Digest)], dry_run: bool) -> String {
    let functions: Vec<_> =
        functions.iter().map(|(manifest, component)| json!({ "manifest": manifest, "component": component })).collect();
    json!({ "functions": functions, "dry_run": dry_run }).to_string()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem document it is.
    pub(crate) fn problem(&self) -> ProblemDocument {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem: ProblemDocument = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        problem
    }

    /// Where in which function a refused deploy is wrong.
    pub(crate) fn errors(&self) -> Vec<(usize, String)> {
        self.problem().errors.into_iter().map(|error| (error.index, error.problem.pointer)).collect()
    }
}

/// A component; each tag makes another one.
pub(crate) fn component(tag: &str) -> Vec<u8> {
    [b"\0asm", tag.as_bytes()].concat()
}

pub(crate) fn manifest(name: &str, path: &str) -> Value {
    json!({ "name": name, "component": "a.wasm", "triggers": [{ "http": { "path": path } }] })
}
