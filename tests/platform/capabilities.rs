//! What a function can reach: what its manifest allows, and nothing else.

use crate::harness::{Platform, arguments_of_up, below, dunlin, guest, module, shown, write_function};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant, SystemTime},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A manifest that allows this, with a route below `/f`.
fn allowing(allow: Value) -> Value {
    let mut manifest = below("/f");
    manifest["allow"] = allow;
    manifest
}

/// A server that functions call: `/redirect` leads to another host.
struct Upstream {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// The `traceparent` of each request, or nothing.
    traces: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Self { port, connections: Arc::default(), traces: Arc::default() };
        let (connections, traces) = (Arc::clone(&upstream.connections), Arc::clone(&upstream.traces));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let traces = Arc::clone(&traces);
                let answer = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let trace = request.headers().get("traceparent");
                    traces.lock().unwrap().push(trace.map_or(String::new(), |t| t.to_str().unwrap().to_owned()));
                    let response = match request.uri().path() {
                        "/redirect" => Response::builder()
                            .status(StatusCode::FOUND)
                            .header("location", format!("http://localhost:{port}/pong")),
                        _ => Response::builder(),
                    };
                    async move { Ok::<_, Infallible>(response.body(Full::new(Bytes::from("pong"))).unwrap()) }
                });
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        upstream
    }

    fn requests(&self) -> usize {
        self.traces.lock().unwrap().len()
    }
}

/// Has the function at `/f` fetch this, and answers how that ended.
async fn fetched(platform: &Platform, url: &str) -> String {
    fetch(platform, &format!("url={url}&n=1")).await
}

async fn fetch(platform: &Platform, query: &str) -> String {
    let answer = platform.get(&format!("/f/fetch?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {answer:?}");
    let outcomes = answer.json()["outcomes"].as_object().unwrap().clone();
    assert_eq!(outcomes.len(), 1, "{query}: {outcomes:?}");
    outcomes.into_iter().next().unwrap().0.trim_start_matches("ErrorCode::").to_owned()
}

/// A function sees the variables of its manifest and its secrets, and nothing of the platform's own environment.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_what_the_manifest_says() {
    let platform = platform_with_secrets();
    let manifest = || {
        allowing(json!({
            "http": [], "env": { "GREETING": "good morning", "EMPTY": "" }, "secrets": ["FROM_VARIABLE", "FROM_FILE"],
        }))
    };
    let expected = json!({
        "GREETING": "good morning", "EMPTY": "", "FROM_VARIABLE": IN_VARIABLE, "FROM_FILE": IN_FILE,
    });
    platform.deploy("f", &guest("misbehave"), manifest());
    let seen = platform.get("/f/env").await.json();
    assert_eq!(seen["variables"], expected);
    assert_eq!(seen["arguments"], json!([]));

    // To a command the environment also says what was asked (RFC 3875); that of the manifest wins.
    for (name, file) in [("component", guest("misbehave-command")), ("module", module("misbehave-command"))] {
        let mut command = manifest();
        command["triggers"][0]["http"]["path"] = json!(format!("/{name}"));
        command["allow"]["env"]["HTTP_X_ROLE"] = json!("set by the manifest");
        platform.deploy(name, &file, command);
        let request = Request::post(platform.url(&format!("/{name}"))).header("x-role", "set by the caller");
        let text = platform.send(request.body(Full::new(Bytes::from("env"))).unwrap()).await.text();
        let variables: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(variables[name.as_str()], value.as_str().unwrap(), "{text}");
        }
        assert_eq!(variables["HTTP_X_ROLE"], "set by the manifest", "{text}");
        for own in ["PATH", "HOME", "DUNLIN_SECRET_FROM_VARIABLE", "DUNLIN_SECRETS"] {
            assert!(!variables.contains_key(own), "{text}");
        }
    }
}

const IN_VARIABLE: &str = "value-from-a-variable";
const IN_FILE: &str = "value-from-a-file";
/// A secret of several lines, as keys are.
const KEY: &str = "-----BEGIN KEY-----\nbm90IGEgcmVhbCBrZXk\n-----END KEY-----";

fn platform_with_secrets() -> Platform {
    let folder = TempDir::new().unwrap();
    let (data, secrets) = (folder.path().join("data"), folder.path().join("secrets"));
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("FROM_FILE"), format!("{IN_FILE}\n")).unwrap();
    fs::write(secrets.join("KEY"), KEY).unwrap();
    let mut command = Command::new(dunlin());
    command.args(arguments_of_up(&data)).arg("--secrets").arg(&secrets);
    command.env("DUNLIN_SECRET_FROM_VARIABLE", IN_VARIABLE);
    let mut platform = Platform::start_command(&data, &mut command);
    platform.folder = Some(folder);
    platform
}

/// Whoever looks at a function from outside finds the names of its secrets and never their values.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_never_shown() {
    let platform = platform_with_secrets();
    let names = json!(["FROM_VARIABLE", "FROM_FILE", "KEY"]);
    platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [], "secrets": names })));
    let values = [IN_VARIABLE, IN_FILE, KEY.lines().nth(1).unwrap()];

    // Printed by the function itself, in the middle of a line.
    for value in values {
        let answer = platform.get(&format!("/f/logs?lines=1&text=the+secret+is+{value}+indeed")).await;
        let log = platform.log_of(&answer, "the secret is").await;
        assert_eq!(log[0]["message"], "the secret is *** indeed 0");
    }
    // Failures have all of the guest's last words in the log.
    let failed = platform.get("/f/panic").await;
    platform.log_of(&failed, "it trapped").await;

    let mut told = vec![failed.text()];
    for command in [
        &["show", "f", "--json"][..],
        &["show", "f"],
        &["list", "--json"],
        &["versions", "f", "--json"],
        &["logs", "f"],
        &["logs", "f", "--json"],
    ] {
        let output = platform.dunlin(command);
        assert!(output.status.success(), "{command:?}: {}", shown(&output));
        told.push(shown(&output));
    }
    for path in ["/api/functions", "/api/functions/f", "/api/functions/f/versions", "/api/logs", "/metrics"] {
        let answer = platform.admin(Method::GET, path, Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
        told.push(answer.text());
    }
    assert!(told.iter().any(|text| text.contains("FROM_VARIABLE")), "nothing tells which secrets it has: {told:?}");
    for text in &told {
        for value in values {
            assert!(!text.contains(value), "{text}");
        }
    }
    // Nor are they kept.
    let kept = everything_below(&platform.data);
    assert!(kept.len() > 1000);
    for value in values {
        assert!(
            !kept.windows(value.len()).any(|window| window == value.as_bytes()),
            "{value} is in the data directory"
        );
    }

    // A secret the platform doesn't have is missed at the deploy.
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "g", &guest("hello"), json!({ "allow": { "secrets": ["NOT_THERE"] } }));
    let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
    assert!(!output.status.success() && shown(&output).contains("DUNLIN_SECRET_NOT_THERE"), "{}", shown(&output));
}

fn everything_below(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.append(&mut everything_below(&path));
        } else {
            bytes.append(&mut fs::read(&path).unwrap());
        }
    }
    bytes
}

/// Each row: what the manifest allows, what the function calls, and how that ends. The server listens on 127.0.0.1.
#[tokio::test(flavor = "multi_thread")]
async fn calls_reach_what_the_manifest_names() {
    const REACHED: &str = "200 with 4 bytes";
    const NOT_NAMED: &str = "HttpRequestDenied";
    const PRIVATE: &str = "DestinationIpProhibited";
    let (platform, upstream) = (Platform::start(), Upstream::start().await);
    let port = upstream.port;
    let at = |host: &str| format!("http://{host}:{port}");
    for (names, networks, url, expected) in [
        (vec![], vec![], at("127.0.0.1"), NOT_NAMED),
        (vec![at("127.0.0.1")], vec![], at("127.0.0.1"), REACHED),
        (vec![at("localhost")], vec![], at("localhost"), REACHED),
        (vec![at("localhost")], vec![], at("LocalHost"), REACHED),
        // A name is not the address it stands for, nor the other way round.
        (vec![at("localhost")], vec![], at("127.0.0.1"), NOT_NAMED),
        (vec![at("127.0.0.1")], vec![], at("localhost"), NOT_NAMED),
        // Another port, another scheme.
        (vec![format!("http://127.0.0.1:{}", port ^ 1)], vec![], at("127.0.0.1"), NOT_NAMED),
        (vec!["http://127.0.0.1".into()], vec![], at("127.0.0.1"), NOT_NAMED),
        (vec![format!("https://127.0.0.1:{port}")], vec![], at("127.0.0.1"), NOT_NAMED),
        // A private address must be named as what it is: a name or a wildcard that leads there is not enough. `127.1` is
        // a name to a URL and the loopback address to the resolver, with no name server asked.
        (vec![at("127.1")], vec![], at("127.1"), PRIVATE),
        (vec![at("2130706433")], vec![], at("2130706433"), PRIVATE),
        (vec![at("*")], vec![], at("127.0.0.1"), PRIVATE),
        (vec![at("*")], vec![], at("localhost"), PRIVATE),
        (vec![at("*")], vec![], at("[::ffff:127.0.0.1]"), PRIVATE),
        (vec![at("127.1")], vec!["127.0.0.0/8"], at("127.1"), REACHED),
        (vec![at("127.1")], vec!["10.0.0.0/8"], at("127.1"), PRIVATE),
        (vec![at("*")], vec!["127.0.0.0/8"], at("localhost"), REACHED),
        // A wildcard takes what is below it. (Names of digits, for the same reason.)
        (vec![at("*.1")], vec!["127.0.0.0/8"], at("127.1"), REACHED),
        (vec![at("*.127.1")], vec!["127.0.0.0/8"], at("127.1"), NOT_NAMED),
        // What comes before an `@` is no host.
        (vec![at("127.0.0.1")], vec![], at("127.0.0.1@localhost"), NOT_NAMED),
    ] {
        let before = upstream.requests();
        let row = format!("{names:?} {networks:?} {url}");
        platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": names, "networks": networks })));
        let found = fetched(&platform, &url).await;
        if url.contains('@') {
            assert!(found == NOT_NAMED || found == "HttpRequestUriInvalid", "{row}: {found}");
        } else {
            assert_eq!(found, expected, "{row}");
        }
        assert_eq!(upstream.requests() - before, usize::from(expected == REACHED), "{row}");
    }
}

/// A redirect is an answer like any other: following it is one more call of the function, which is judged by itself.
#[tokio::test(flavor = "multi_thread")]
async fn redirects_lead_nowhere_by_themselves() {
    let (platform, upstream) = (Platform::start(), Upstream::start().await);
    let url = format!("http://127.0.0.1:{}", upstream.port);
    platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [url] })));
    assert_eq!(fetched(&platform, &format!("{url}/redirect")).await, "302 with 4 bytes");
    assert_eq!(fetched(&platform, &format!("http://localhost:{}/pong", upstream.port)).await, "HttpRequestDenied");
    assert_eq!(upstream.requests(), 1);
}

/// Connections are kept from one call to the next and from one invocation to the next, for one function alone.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_for_the_function() {
    let (platform, upstream) = (Platform::start(), Upstream::start().await);
    let url = format!("http://127.0.0.1:{}/", upstream.port);
    let allow = || json!({ "http": [url] });
    platform.deploy("f", &guest("misbehave"), allowing(allow()));
    for _ in 0..3 {
        assert_eq!(fetch(&platform, &format!("url={url}&n=20")).await, "200 with 4 bytes");
    }
    // A connection is kept once its response was read, which the next call may be too quick for.
    let kept = upstream.connections.load(SeqCst);
    assert!(kept <= 5, "{kept} connections for 60 requests");
    let mut other = below("/g");
    other["allow"] = allow();
    platform.deploy("g", &guest("misbehave"), other);
    platform.get(&format!("/g/fetch?url={url}&n=1")).await;
    assert_eq!((upstream.requests(), upstream.connections.load(SeqCst)), (61, kept + 1));
}

/// Starts a server that answers the first bytes of a request with these, and ends the connection or stays silent then.
async fn faulty(answer: &'static [u8], ends: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer).await;
            if !ends {
                open.push(stream);
            }
        }
    });
    address.to_string()
}

/// What a function sees of servers that are not there, don't answer or talk nonsense.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_fail_are_told_apart() {
    let platform = Platform::start();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let silent = faulty(b"", false).await;
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for (url, expected) in [
        (format!("http://{gone}"), "ConnectionRefused"),
        (format!("http://{silent}"), "ConnectionReadTimeout"),
        (format!("http://{}", faulty(b"", true).await), "ConnectionTerminated"),
        (format!("http://{}", faulty(b"\x16\x03\x01 is no HTTP\r\n\r\n", false).await), "HttpProtocolError"),
        (format!("http://{}", faulty(half, true).await), "error reading a body"),
        (format!("http://{}", faulty(half, false).await), "connection read timeout"),
        (format!("https://{}", faulty(half, true).await), "TlsProtocolError"),
        (format!("https://{}", self_signed().await), "TlsCertificateError"),
    ] {
        platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [url] })));
        let start = Instant::now();
        let found = fetch(&platform, &format!("url={url}/&n=1&timeout_ms=300")).await;
        assert!(found.contains(expected), "{url}: {found}, not {expected}");
        assert!(start.elapsed() < Duration::from_secs(5), "{url}: the function's time-out came late");
    }
    // Whoever sets no time-out of its own has that of the invocation.
    let mut patient = allowing(json!({ "http": [format!("http://{silent}")] }));
    patient["limits"] = json!({ "time": "300ms" });
    platform.deploy("f", &guest("misbehave"), patient);
    let answer = platform.get(&format!("/f/fetch?url=http://{silent}/&n=1")).await;
    assert_eq!((answer.status, answer.reason().as_str()), (StatusCode::GATEWAY_TIMEOUT, "time"), "{answer:?}");
}

/// Starts an HTTPS server whose certificate nobody vouches for.
async fn self_signed() -> String {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    address.to_string()
}

/// What a function calls belongs to the trace it was called in.
#[tokio::test(flavor = "multi_thread")]
async fn calls_carry_the_trace_on() {
    let (platform, upstream) = (Platform::start(), Upstream::start().await);
    let url = format!("http://127.0.0.1:{}", upstream.port);
    platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [url] })));
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let request = Request::get(platform.url(&format!("/f/fetch?url={url}&n=2")))
        .header("traceparent", format!("00-{trace}-{span}-01"))
        .body(Full::default())
        .unwrap();
    let answer = platform.send(request).await;
    let own = answer.headers["traceparent"].to_str().unwrap();
    assert!(own.starts_with(&format!("00-{trace}-")) && !own.contains(span) && own.ends_with("-01"), "{own}");
    assert_eq!(*upstream.traces.lock().unwrap(), [own, own]);
}

/// Interfaces that nothing is allowed behind are there, so that standard components run, and refuse.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_files_and_no_sockets() {
    let (platform, upstream) = (Platform::start(), Upstream::start().await);
    let url = format!("http://127.0.0.1:{}", upstream.port);
    // Not even where it may call the server by HTTP, and its own network is named.
    let allow = json!({ "http": [url], "networks": ["127.0.0.0/8"] });
    platform.deploy("f", &guest("misbehave"), allowing(allow));
    let files = platform.get("/f/files").await.json();
    assert_eq!(files["preopens"], json!([]));
    for what in ["read", "write", "list"] {
        assert!(files[what]["error"].is_string(), "{what}: {files}");
    }
    let sockets = platform.get(&format!("/f/sockets?address=127.0.0.1:{}", upstream.port)).await.json();
    for what in ["tcp", "udp", "listen", "lookup"] {
        assert!(sockets[what]["error"].is_string(), "{what}: {sockets}");
    }
    assert_eq!(upstream.connections.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_and_randomness_are_real() {
    let platform = Platform::start();
    platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [] })));
    let clock = platform.get("/f/clock").await.json();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert!(now.abs_diff(u128::from(clock["milliseconds_since_1970"].as_u64().unwrap())) < 60_000, "{clock} {now}");
    assert_eq!(clock["monotonic_went_back"], false);
    // Each sandbox has its own, and none the seed of another.
    assert_ne!(platform.get("/f/random").await.text(), platform.get("/f/random").await.text());
}

/// What a component needs and its manifest doesn't allow is told at the deploy, with the line that would allow it.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_not_allowed_is_refused() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "f", &guest("misbehave"), below("/f"));
    let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
    let told = shown(&output);
    assert!(!output.status.success(), "{told}");
    assert!(
        told.contains("`wasi:http/outgoing-handler@0.2.") && told.contains("allow:") && told.contains("http:"),
        "{told}"
    );
    assert_eq!(platform.get("/f/ok").await.status, StatusCode::NOT_FOUND);
    platform.deploy("f", &guest("misbehave"), allowing(json!({ "http": [] })));
    assert_eq!(platform.get("/f/ok").await.status, StatusCode::OK);
}
