//! Starting platforms, deploying guests and calling them.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `dunlin up`. Dropping it kills it, as hard as a power cut would.
pub(crate) struct Platform {
    child: Child,
    pub(crate) functions: String,
    pub(crate) admin: String,
    pub(crate) data: PathBuf,
    /// Kept so that the folder lives as long as the platform.
    pub(crate) folder: Option<TempDir>,
    client: Client<HttpConnector, Full<Bytes>>,
    /// What the platform itself has logged.
    log: Arc<Mutex<String>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The `reason` of a problem document, and that it is one.
    pub(crate) fn reason(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        self.json()["reason"].as_str().unwrap_or_else(|| panic!("no reason in {self:?}")).to_owned()
    }
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let mut platform = Self::start_in(&folder.path().join("data"), arguments);
        platform.folder = Some(folder);
        platform
    }

    /// Starts a platform on a data directory that may have been used before.
    pub(crate) fn start_in(data: &Path, arguments: &[&str]) -> Self {
        Self::start_command(data, Command::new(dunlin()).args(arguments_of_up(data)).args(arguments))
    }

    /// Starts a platform that knows a secret under each of these names.
    pub(crate) fn start_knowing(data: &Path, secrets: &[(&str, &str)]) -> Self {
        let mut command = Command::new(dunlin());
        command.args(arguments_of_up(data));
        command.envs(secrets.iter().map(|(name, value)| (format!("DUNLIN_SECRET_{name}"), value)));
        Self::start_command(data, &mut command)
    }

    pub(crate) fn start_command(data: &Path, command: &mut Command) -> Self {
        // A user's settings must not change what is tested.
        clean(command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = |name: &str| {
            let line = lines.next().and_then(Result::ok);
            line.and_then(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        let (Some(functions), Some(admin)) = (address("functions"), address("admin")) else {
            let mut log = String::new();
            let _ = child.stderr.take().unwrap().read_to_string(&mut log);
            panic!("the platform did not start: {log}");
        };
        // Somebody must read the log, or the platform would block on a full pipe.
        let log = Arc::<Mutex<String>>::default();
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(64).build_http();
        Self { child, functions, admin, data: data.to_owned(), folder: None, client, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command of `dunlin` as a client of this platform.
    pub(crate) fn dunlin(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("DUNLIN_SERVER", &self.admin);
        command
    }

    /// Deploys one function, which must go well.
    pub(crate) fn deploy(&self, name: &str, guest: &Path, manifest: Value) {
        let folder = TempDir::new().unwrap();
        write_function(folder.path(), name, guest, manifest);
        let output = self.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert!(output.status.success(), "{}", shown(&output));
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(self.url(path)).body(Full::default()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Request::post(self.url(path)).body(Full::new(body.into())).unwrap()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.functions)
    }

    /// Sends a request and reads the answer to its end, which must be whole.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends a request; the error is of a connection or a body that broke off.
    pub(crate) async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?;
            let trailers = body.trailers().cloned();
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
        };
        tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "no answer in a minute".to_owned())?
    }

    /// Sends a request and hands out the response as it streams.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        self.client.request(request).await.unwrap()
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.admin));
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.send(request.header("content-type", "application/json").body(Full::new(body)).unwrap()).await
    }

    /// The log of a function, once it holds a line with this text.
    pub(crate) async fn log_with(&self, function: &str, text: &str) -> Vec<Value> {
        self.log(&format!("function={function}"), text).await
    }

    /// The log of the invocation this answers, once it holds a line with this text.
    pub(crate) async fn log_of(&self, answer: &Answer, text: &str) -> Vec<Value> {
        self.log(&format!("invocation={}", answer.headers["dunlin-invocation"].to_str().unwrap()), text).await
    }

    async fn log(&self, query: &str, text: &str) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let answer = self.admin(Method::GET, &format!("/api/logs?{query}"), Value::Null).await;
            let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(text))) {
                return lines;
            }
            assert!(start.elapsed() < PATIENCE, "no `{text}` in {lines:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many invocations of the function run and so many wait.
    pub(crate) async fn busy(&self, function: &str, running: u64, waiting: u64) {
        let start = Instant::now();
        loop {
            let answer = self.admin(Method::GET, &format!("/api/functions/{function}"), Value::Null).await.json();
            if answer["activity"]["running"] == running && answer["activity"]["waiting"] == waiting {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "not {running} running and {waiting} waiting: {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the function has neither running nor waiting invocations.
    pub(crate) async fn quiet(&self, function: &str) {
        self.busy(function, 0, 0).await;
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it doesn't stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory of the process that is resident now, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// What the platform itself has logged.
    pub(crate) fn told(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the platform's end before the test's: {ended:?}, its log:\n{}", self.log.lock().unwrap());
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(patience: Duration, what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < patience, "not {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Numbers that follow no pattern, and are the same in every run: an xorshift, from a seed that is not 0.
pub(crate) struct Random(pub(crate) u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9)
    }
}

impl Random {
    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

pub(crate) fn dunlin() -> &'static str {
    env!("CARGO_BIN_EXE_dunlin")
}

pub(crate) fn arguments_of_up(data: &Path) -> [String; 7] {
    ["up", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(str::to_owned)
}

/// A command of `dunlin` that knows of no platform.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(dunlin());
    clean(&mut command);
    command.args(arguments);
    command
}

fn clean(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("DUNLIN_")) {
        command.env_remove(name);
    }
}

/// Everything a command printed, for the message of a failed assertion.
pub(crate) fn shown(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Writes a function's folder: its component and its manifest. `manifest` holds what comes beside name and component.
pub(crate) fn write_function(folder: &Path, name: &str, guest: &Path, mut manifest: Value) {
    fs::create_dir_all(folder).unwrap();
    fs::copy(guest, folder.join("function.wasm")).unwrap();
    manifest["name"] = json!(name);
    manifest["component"] = json!("function.wasm");
    // JSON is YAML.
    fs::write(folder.join("function.yaml"), manifest.to_string()).unwrap();
}

/// A manifest's part for one HTTP route below which everything belongs to the function.
pub(crate) fn below(path: &str) -> Value {
    json!({ "triggers": [{ "http": { "path": format!("{path}/{{*rest}}") } }] })
}

/// `below`, with limits.
pub(crate) fn limited(path: &str, limits: Value) -> Value {
    let mut manifest = below(path);
    manifest["limits"] = limits;
    manifest
}

/// The compiled guest of this name.
pub(crate) fn guest(name: &str) -> PathBuf {
    let target = repository().join("functions/target");
    let found = ["wasm32-wasip2/release", "wasm32-wasip1/release", "foreign"]
        .iter()
        .map(|folder| target.join(folder).join(format!("{name}.wasm")))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("the guest `{name}` is not built: run `make guests`"))
}

/// Another component that does the same: with so many bytes of nothing, in a custom section that holds a mark.
pub(crate) fn padded(guest: &Path, folder: &Path, bytes: usize, mark: &str) -> PathBuf {
    let mut section = vec![7];
    section.extend(b"padding");
    section.extend(mark.as_bytes());
    section.resize(section.len().max(bytes), 0);
    let mut component = fs::read(guest).unwrap();
    component.push(0);
    let mut length = section.len();
    while length > 0x7f {
        component.push(length as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend(section);
    let path = folder.join(format!("padded-{}.wasm", mark.replace(' ', "-")));
    fs::write(&path, component).unwrap();
    path
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// The guest of this name as a WASI preview 1 module.
pub(crate) fn module(name: &str) -> PathBuf {
    repository().join("functions/target/wasm32-wasip1/release").join(format!("{name}.wasm"))
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
