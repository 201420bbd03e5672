//! Deploys: what is active changes as a whole, under load, through crashes and on a full disk, and never gets lost.

use crate::harness::{Platform, arguments_of_up, below, command, dunlin, files, guest, padded, shown, write_function};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::task::block_in_place;

/// A version that can be told from others: `env` below its path answers with this word.
fn saying(path: &str, word: impl ToString) -> Value {
    let mut manifest = below(path);
    manifest["allow"] = json!({ "http": [], "env": { "WORD": word.to_string() } });
    manifest
}

async fn word(platform: &Platform, path: &str) -> String {
    let answer = platform.get(&format!("{path}/env")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    answer.json()["variables"]["WORD"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

/// The numbers of a function's versions, newest first, and of the active one.
async fn versions(platform: &Platform, name: &str) -> (Vec<u64>, u64) {
    let list = platform.admin(Method::GET, &format!("/api/functions/{name}/versions"), Value::Null).await.json();
    let numbers = list["versions"].as_array().unwrap().iter().map(|version| version["number"].as_u64().unwrap());
    (numbers.collect(), list["active"].as_u64().unwrap())
}

/// What a deploy that broke off may have left behind, and must not.
fn leftovers(data: &Path) -> Vec<PathBuf> {
    let mut found = files(&data.join("uploads"));
    found.extend(
        files(&data.join("cache")).into_iter().filter(|path| path.extension().is_none_or(|end| end != "cwasm")),
    );
    found
}

/// The compiled code of a deployed function.
async fn code_of(platform: &Platform, name: &str) -> PathBuf {
    let detail = platform.admin(Method::GET, &format!("/api/functions/{name}"), Value::Null).await.json();
    let digest = detail["active"]["component"]["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let file = files(&platform.data.join("cache")).into_iter().find(|path| path.to_str().unwrap().contains(&digest));
    file.unwrap_or_else(|| panic!("no code of {digest}"))
}

/// A request in flight: its body has begun, its end has not been sent, and the function's answer has begun.
struct InFlight {
    stream: TcpStream,
    received: Vec<u8>,
}

impl InFlight {
    /// Calls a function that echoes.
    fn begin(platform: &Platform, path: &str) -> Self {
        let mut stream = TcpStream::connect(platform.functions.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
            .unwrap();
        // More than is read ahead of the call.
        const SIZE: usize = 128 << 10;
        write!(stream, "{SIZE:x}\r\n{}\r\n", "x".repeat(SIZE)).unwrap();
        let mut this = Self { stream, received: Vec::new() };
        while !this.text().contains("\r\n\r\n") || !this.text().ends_with('x') {
            let mut buffer = [0; 4096];
            let n = this.stream.read(&mut buffer).unwrap();
            assert!(n > 0, "it broke off: {}", this.text());
            this.received.extend_from_slice(&buffer[..n]);
        }
        assert!(this.text().starts_with("HTTP/1.1 200"), "{}", this.text());
        this
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    /// Sends the end of the body, and the answer must come to its end.
    fn finish(mut self) {
        write!(self.stream, "8\r\nthe last\r\n0\r\n\r\n").unwrap();
        self.stream.read_to_end(&mut self.received).unwrap();
        let end = self.text().split_off(self.received.len() - 40);
        assert!(end.contains("the last") && end.ends_with("0\r\n\r\n"), "{end}");
    }
}

/// Versions count up, going back makes an old one active, and all of it outlives a kill right after it was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn versions_and_rollbacks_outlive_the_process() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = Platform::start_in(&data, &[]);
    for (number, text) in ["one", "two", "three", "three"].iter().enumerate() {
        platform.deploy("word", &guest("misbehave"), saying("/word", text));
        assert_eq!(word(&platform, "/word").await, *text);
        assert_eq!(versions(&platform, "word").await.1, (number as u64 + 1).min(3), "the same again is no version");
    }
    platform.deploy("hello", &guest("hello"), below("/hello"));
    drop(platform);

    platform = Platform::start_in(&data, &[]);
    assert_eq!(word(&platform, "/word").await, "three");
    assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");
    let output = platform.dunlin(&["rollback", "word"]);
    assert!(output.status.success(), "{}", shown(&output));
    drop(platform);

    platform = Platform::start_in(&data, &[]);
    assert_eq!(word(&platform, "/word").await, "two");
    assert!(platform.dunlin(&["rollback", "word", "--to", "3"]).status.success());
    assert_eq!(word(&platform, "/word").await, "three");
    assert!(platform.dunlin(&["rollback", "word", "--to", "1"]).status.success());
    assert_eq!(word(&platform, "/word").await, "one");
    for (arguments, reason) in [
        (&["rollback", "word"][..], "`word` has no version before 1"),
        (&["rollback", "word", "--to", "9"], "`word` has no version 9"),
        (&["rollback", "none"], "there is no function `none`"),
    ] {
        let output = platform.dunlin(arguments);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        assert!(shown(&output).contains(reason), "{}", shown(&output));
    }
    assert_eq!(versions(&platform, "word").await, (vec![3, 2, 1], 1));
    // The next number is a new one, also when an old one is active.
    platform.deploy("word", &guest("misbehave"), saying("/word", "four"));
    assert_eq!(versions(&platform, "word").await, (vec![4, 3, 2, 1], 4));
    assert!(platform.dunlin(&["remove", "hello", "--yes"]).status.success());
    assert_eq!(platform.get("/hello/x").await.status, StatusCode::NOT_FOUND);
    drop(platform);

    platform = Platform::start_in(&data, &[]);
    assert_eq!(platform.get("/hello/x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(platform.dunlin(&["versions", "hello"]).status.code(), Some(3));
    assert_eq!(word(&platform, "/word").await, "four");
    platform.signal("TERM");
    assert_eq!(platform.wait().code(), Some(0));
}

/// A route moves from one function to another only by a deploy of both or after a removal, and a rollback that would take
/// a route somebody else has by now is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_takes_no_route_of_others() {
    let platform = Platform::start();
    platform.deploy("first", &guest("misbehave"), saying("/shared", "first"));
    platform.deploy("first", &guest("misbehave"), saying("/own", "first"));
    platform.deploy("second", &guest("misbehave"), saying("/shared", "second"));
    let output = platform.dunlin(&["rollback", "first"]);
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    assert!(shown(&output).contains("`second`") && shown(&output).contains("/shared"), "{}", shown(&output));
    assert_eq!((word(&platform, "/shared").await, word(&platform, "/own").await), ("second".into(), "first".into()));
    assert!(platform.dunlin(&["remove", "second", "--yes"]).status.success());
    assert!(platform.dunlin(&["rollback", "first"]).status.success());
    assert_eq!(word(&platform, "/shared").await, "first");
}

/// Under load no request fails, none is answered by a version that was replaced before it began, and none by nothing.
#[tokio::test(flavor = "multi_thread")]
async fn deploying_under_load_fails_no_request() {
    let platform = Arc::new(Platform::start());
    let folder = TempDir::new().unwrap();
    let components = [guest("misbehave"), padded(&guest("misbehave"), folder.path(), 1000, "other")];
    platform.deploy("word", &components[0], saying("/word", 0));
    let (begun, acknowledged) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (platform, stop) = (platform.clone(), stop.clone());
            let (begun, acknowledged) = (begun.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while !stop.load(SeqCst) {
                    let oldest = acknowledged.load(SeqCst);
                    let seen: u64 = word(&platform, "/word").await.parse().unwrap();
                    let newest = begun.load(SeqCst);
                    assert!((oldest..=newest).contains(&seen), "{seen} is not in {oldest}..={newest}");
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    for number in 1..=20 {
        begun.store(number, SeqCst);
        let component = &components[number as usize % 2];
        block_in_place(|| platform.deploy("word", component, saying("/word", number)));
        acknowledged.store(number, SeqCst);
    }
    stop.store(true, SeqCst);
    for caller in callers {
        assert!(caller.await.unwrap() > 20, "there was load");
    }
    let detail = platform.admin(Method::GET, "/api/functions/word", Value::Null).await.json();
    assert_eq!(detail["activity"]["invocations"], detail["activity"]["succeeded"], "{detail:#}");
}

/// A request in flight ends on the version it began with, whatever becomes of the function meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_end_on_their_version() {
    let platform = Platform::start();
    platform.deploy("echo", &guest("misbehave"), saying("/echo", 1));
    let first = InFlight::begin(&platform, "/echo/echo");
    // The new version can't echo, so what still does is the old one.
    platform.deploy("echo", &guest("hello"), below("/echo"));
    assert_eq!(platform.get("/echo/echo").await.text(), "Hello, world!\n");
    platform.deploy("echo", &guest("misbehave"), saying("/elsewhere", 3));
    let second = InFlight::begin(&platform, "/elsewhere/echo");
    assert!(platform.dunlin(&["remove", "echo", "--yes"]).status.success());
    assert_eq!(platform.get("/elsewhere/echo").await.status, StatusCode::NOT_FOUND);
    first.finish();
    second.finish();
}

/// One bad function of a folder, and none of it is deployed.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_deployed_whole_or_not_at_all() {
    let platform = Platform::start();
    platform.deploy("old", &guest("misbehave"), saying("/old", "before"));
    let before = platform.dunlin(&["list", "--json"]);
    for (component, path, reason) in [
        ("hello.wasm", "/old/{*rest}", "`old`"),
        ("hello.wasm", "/new/{*other}", "`bad`"),
        ("missing.wasm", "/bad", "missing.wasm"),
        ("text.wasm", "/bad", "not WebAssembly"),
    ] {
        let folder = TempDir::new().unwrap();
        write_function(&folder.path().join("new"), "new", &guest("hello"), below("/new"));
        write_function(&folder.path().join("zoo"), "zoo", &guest("convert"), below("/zoo"));
        let bad = folder.path().join("bad");
        fs::create_dir(&bad).unwrap();
        fs::copy(guest("hello"), bad.join("hello.wasm")).unwrap();
        fs::write(bad.join("text.wasm"), "no wasm").unwrap();
        let manifest = json!({ "name": "bad", "component": component, "triggers": [{ "http": { "path": path } }] });
        fs::write(bad.join("function.yaml"), manifest.to_string()).unwrap();
        let output = platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        assert!(shown(&output).contains(reason), "{}", shown(&output));
        assert_eq!(platform.dunlin(&["list", "--json"]).stdout, before.stdout);
        assert_eq!(platform.get("/new/x").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(word(&platform, "/old").await, "before");
}

/// Killed at any moment of a deploy, the platform comes back with all of it or nothing, without litter, and takes the
/// next one.
#[tokio::test(flavor = "multi_thread")]
async fn killed_during_a_deploy() {
    /// When to kill: told the data directory and how long the deploy runs.
    type Moment = Box<dyn Fn(&Path, Duration) -> bool>;
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = Platform::start_in(&data, &[]);
    // 4 MiB more to send, to write and to commit.
    let write = |word: u64| {
        let functions = TempDir::new().unwrap();
        let component = padded(&guest("fan_out"), functions.path(), 4 << 20, &format!("deploy {word}"));
        for name in ["a", "b"] {
            let (path, other) = (format!("/{name}"), guest("misbehave"));
            let other = padded(&other, functions.path(), 1000, &format!("deploy {word}"));
            write_function(&functions.path().join(name), name, &other, saying(&path, word));
        }
        write_function(&functions.path().join("c"), "c", &component, saying("/c", word));
        functions
    };
    let deploy = |platform: &Platform, functions: &TempDir| {
        let mut command = platform.command(&["deploy", functions.path().to_str().unwrap()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let begun = Instant::now();
    assert!(deploy(&platform, &write(0)).wait().unwrap().success());
    let whole = begun.elapsed();

    let has = |data: &Path, folder: &str, end: &str| {
        files(&data.join(folder)).iter().any(|path| path.extension().is_some_and(|found| found == end))
    };
    let mut moments: Vec<Moment> = vec![
        Box::new(move |data, _| has(data, "cache", "tmp")),
        Box::new(move |data, _| !files(&data.join("uploads")).is_empty()),
        Box::new(move |data, _| files(&data.join("uploads")).len() > 1),
        // The end of the deploy itself, and right after it.
        Box::new(|data, _| fs::metadata(data.join("dunlin.db-wal")).is_ok_and(|file| file.len() > 4 << 20)),
        Box::new(|_, _| false),
    ];
    moments.extend((0..6).map(|part| Box::new(move |_: &Path, run| run >= whole * part / 6) as Moment));

    let mut state = 0;
    for (number, moment) in (1..).zip(moments) {
        let functions = write(number);
        let begun = Instant::now();
        let mut deploy = deploy(&platform, &functions);
        while !moment(&data, begun.elapsed()) && deploy.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        drop(platform);
        let ended = deploy.wait().unwrap();
        assert!(matches!(ended.code(), Some(0 | 4)), "{ended}");

        platform = Platform::start_in(&data, &[]);
        let after = word(&platform, "/a").await.parse::<u64>().unwrap();
        assert_eq!(word(&platform, "/b").await, after.to_string());
        let detail = platform.admin(Method::GET, "/api/functions/c", Value::Null).await.json();
        assert_eq!(detail["active"]["manifest"]["allow"]["env"]["WORD"], after.to_string());
        assert!(after == state || after == number, "{after} after {number}, before it was {state}");
        assert!(!ended.success() || after == number, "{number} was acknowledged, and {after} is there");
        assert_eq!(leftovers(&data), Vec::<PathBuf>::new(), "in round {number}");
        state = after;
    }
    assert!(deploy(&platform, &write(100)).wait().unwrap().success());
    assert_eq!(word(&platform, "/b").await, "100");
}

/// Killed in the middle of an upload.
#[tokio::test(flavor = "multi_thread")]
async fn killed_during_an_upload() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start_in(&data, &[]);
    let component = fs::read(guest("upper")).unwrap();
    let mut stream = TcpStream::connect(platform.admin.strip_prefix("http://").unwrap()).unwrap();
    let (length, digest) = (component.len(), "0".repeat(64));
    write!(
        stream,
        "PUT /api/components/sha256:{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
    )
    .unwrap();
    stream.write_all(&component[..length / 2]).unwrap();
    drop(platform);
    let platform = Platform::start_in(&data, &[]);
    assert_eq!(leftovers(&data), Vec::<PathBuf>::new());
    platform.deploy("upper", &guest("upper"), below("/upper"));
}

/// A limit on file sizes stands for a full disk: writing fails in the code cache, in the uploads and in the registry. Each is
/// told, changes nothing, and what fits is still taken.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    // 4,096 blocks are 2 MiB or 4, depending on the shell. Without the trap the signal would end the process.
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh", dunlin()]).args(arguments_of_up(&data));
    let platform = Platform::start_command(&data, &mut limited);
    platform.deploy("word", &guest("misbehave"), saying("/word", "before"));

    let refused = async |component: &Path, reasons: &[&str]| {
        let functions = TempDir::new().unwrap();
        write_function(functions.path(), "word", component, saying("/word", "after"));
        let output = platform.dunlin(&["deploy", functions.path().to_str().unwrap()]);
        if output.status.success() {
            return false;
        }
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(reasons.iter().all(|reason| shown(&output).contains(reason)), "{}", shown(&output));
        assert_eq!(word(&platform, "/word").await, "before");
        assert_eq!(versions(&platform, "word").await, (vec![1], 1));
        assert!(!files(&data).iter().any(|path| path.extension().is_some_and(|end| end == "tmp")));
        true
    };
    // Data that the code maps makes large code; what is no code makes only a large upload.
    let module = wat::parse_str(format!(
        r#"(module (memory (export "memory") 100) (data (i32.const 0) "{}") (func (export "_start")))"#,
        "x".repeat(5 << 20)
    ));
    let large = folder.path().join("large.wasm");
    fs::write(&large, module.unwrap()).unwrap();
    assert!(refused(&large, &["code cache", "File too large"]).await);
    let large = padded(&guest("misbehave"), folder.path(), 5 << 20, "large");
    assert!(refused(&large, &["upload", "File too large"]).await);
    assert_eq!(leftovers(&data), Vec::<PathBuf>::new());

    // Each fits, until the registry's file is as large as it may be.
    for number in 0.. {
        let component = padded(&guest("misbehave"), folder.path(), 1_500_000, &format!("{number}"));
        assert!(number < 10, "the registry took more than it has room for");
        let functions = TempDir::new().unwrap();
        write_function(functions.path(), "large", &component, json!({ "allow": { "http": [] } }));
        let output = platform.dunlin(&["deploy", functions.path().to_str().unwrap()]);
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
            assert!(shown(&output).contains("dunlin.db") && shown(&output).contains("ulimit -f"), "{}", shown(&output));
            if number > 0 {
                assert_eq!(versions(&platform, "large").await.1, number);
            }
            break;
        }
    }
    assert_eq!(word(&platform, "/word").await, "before");
    drop(platform);
    // With room again all is well.
    let platform = Platform::start_in(&data, &[]);
    assert_eq!(word(&platform, "/word").await, "before");
    platform.deploy("word", &guest("misbehave"), saying("/word", "after"));
    assert_eq!(word(&platform, "/word").await, "after");
}

/// A disk with every amount of room from nothing to enough.
#[tokio::test(flavor = "multi_thread")]
async fn full_disk_during_a_deploy() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    // A disk of our own takes a user namespace, which some systems don't give to everybody; the test above needs none.
    let script = r#"mount -t tmpfs -o size=32m,mode=700 tmpfs "$0" && exec "$@""#;
    let mounts = |command: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, data.to_str().unwrap()])
            .args(command);
        unshare
    };
    if !mounts(&["true"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("not tested: no file system can be mounted here");
        return;
    }
    let platform = Platform::start_command(&data, mounts(&[dunlin()]).args(arguments_of_up(&data)));
    // The disk as the platform sees it.
    let inside = PathBuf::from(format!("/proc/{}/root{}", platform.pid(), data.display()));
    platform.deploy("word", &guest("misbehave"), saying("/word", 0));

    let filler = inside.join("filler");
    let (mut state, mut refused) = (0, 0);
    for (number, room) in (1..).zip([0, 16, 64, 256, 512, 1024, 1536, 2048, 4096, 8192]) {
        let mut file = fs::File::create(&filler).unwrap();
        let block = vec![1; 64 << 10];
        while file.write_all(&block).is_ok() {}
        let filled = file.metadata().unwrap().len();
        file.set_len(filled.saturating_sub(room << 10)).unwrap();

        let functions = TempDir::new().unwrap();
        let component = padded(&guest("misbehave"), functions.path(), 300_000, &format!("{room}"));
        write_function(&functions.path().join("f"), "word", &component, saying("/word", number));
        let output = platform.dunlin(&["deploy", functions.path().to_str().unwrap()]);
        if output.status.success() {
            state = number;
        } else {
            refused += 1;
            assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
            let told = shown(&output);
            assert!(told.contains("No space left on device") || told.contains("is full"), "{told}");
        }
        assert_eq!(word(&platform, "/word").await, state.to_string(), "with {room} KiB: {}", shown(&output));
        assert!(!files(&inside).iter().any(|path| path.extension().is_some_and(|end| end == "tmp")));
    }
    assert!(refused >= 3, "{refused} were refused");
    fs::remove_file(&filler).unwrap();
    platform.deploy("word", &guest("misbehave"), saying("/word", 100));
    assert_eq!(word(&platform, "/word").await, "100");
}

/// The code cache is a cache: lost it is made again, and damaged it costs one function, until that is deployed again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_damaged_code_cache() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let platform = Platform::start_in(&data, &[]);
    platform.deploy("hello", &guest("hello"), below("/hello"));
    platform.deploy("word", &guest("misbehave"), saying("/word", "here"));
    drop(platform);
    fs::remove_dir_all(data.join("cache")).unwrap();

    let platform = Platform::start_in(&data, &[]);
    assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");
    assert_eq!(word(&platform, "/word").await, "here");
    let code = code_of(&platform, "hello").await;
    drop(platform);

    let whole = fs::read(&code).unwrap();
    for damaged in [&whole[..whole.len() / 2], &whole[..0], b"\x7fELF, and no more"] {
        fs::write(&code, damaged).unwrap();
        let platform = Platform::start_in(&data, &[]);
        assert_eq!(word(&platform, "/word").await, "here", "the others are not concerned");
        let answer = platform.get("/hello/x").await;
        if answer.status != StatusCode::OK {
            assert_eq!((answer.status, answer.reason().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "start"));
            platform.log_with("hello", "compiled code can't be loaded").await;
        }
        platform.deploy("hello", &guest("hello"), below("/hello"));
        assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");
        drop(platform);
        let platform = Platform::start_in(&data, &[]);
        assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");
    }
}

/// A data directory belongs to one platform.
#[tokio::test(flavor = "multi_thread")]
async fn two_platforms_on_one_data_directory() {
    let platform = Platform::start();
    platform.deploy("hello", &guest("hello"), below("/hello"));
    let output = command(&[]).args(arguments_of_up(&platform.data)).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in ["in use by another dunlin process", &platform.pid().to_string(), platform.data.to_str().unwrap()] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");
    platform.deploy("hello", &guest("hello"), below("/hello-again"));
}

/// Code of an idle function leaves memory and comes back with the next call; that of a busy one stays.
#[tokio::test(flavor = "multi_thread")]
async fn idle_code_is_unloaded() {
    // The engine keeps the code that the memory of a sandbox was last used with, until that memory is used again: with few
    // sandboxes soon.
    let platform = Platform::start_with(&["--code-idle", "100ms", "--sandboxes", "2"]);
    platform.deploy("busy", &guest("hello"), below("/busy"));
    platform.deploy("idle", &guest("misbehave"), saying("/idle", "here"));
    let (busy, idle) = (code_of(&platform, "busy").await, code_of(&platform, "idle").await);
    let maps = format!("/proc/{}/maps", platform.pid());
    let mapped = |code: &Path| fs::read_to_string(&maps).unwrap().contains(code.to_str().unwrap());
    assert!(!mapped(&busy) && !mapped(&idle), "what was never called is not loaded");
    for _ in 0..3 {
        assert_eq!(word(&platform, "/idle").await, "here");
        assert!(mapped(&idle));
        let begun = Instant::now();
        while mapped(&idle) {
            assert!(begun.elapsed() < Duration::from_secs(30), "it stays loaded");
            assert_eq!(platform.get("/busy/x").await.text(), "Hello, world!\n");
        }
        assert!(mapped(&busy));
    }
}

/// On SIGTERM nothing new is accepted, and what is in flight ends as if nothing happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_lets_requests_finish() {
    for signal in ["TERM", "INT"] {
        let mut platform = Platform::start();
        platform.deploy("word", &guest("misbehave"), saying("/word", "here"));
        let request = InFlight::begin(&platform, "/word/echo");
        platform.signal(signal);
        let address = platform.functions.strip_prefix("http://").unwrap().to_owned();
        let begun = Instant::now();
        while TcpStream::connect(&address).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it still accepts");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        request.finish();
        assert_eq!(platform.wait().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(20), "nothing is waited for that has ended");
    }
}

/// A second signal ends it at once, and so does the end of the grace period.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    for (arguments, signals) in [(&["--grace", "1h"][..], 2), (&["--grace", "200ms"], 1)] {
        let mut platform = Platform::start_with(arguments);
        platform.deploy("word", &guest("misbehave"), saying("/word", "here"));
        let request = InFlight::begin(&platform, "/word/echo");
        let begun = Instant::now();
        for _ in 0..signals {
            platform.signal("TERM");
            // Two of a kind at once would be one.
            let address = platform.functions.strip_prefix("http://").unwrap().to_owned();
            while TcpStream::connect(&address).is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        assert_eq!(platform.wait().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(20));
        drop(request);
    }
}

/// What can't start says why, and ends with the code of a failure.
#[test]
fn a_platform_that_cannot_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let [file, data] = [&file, &data].map(|path| path.to_str().unwrap());
    for (arguments, code, reason) in [
        (&["--data", file][..], 1, file),
        (&["--data", data, "--listen", "127.0.0.1:0", "--admin", &taken], 1, &taken),
        (&["--data", data, "--listen", &taken, "--admin", "127.0.0.1:0"], 1, &taken),
        (&["--data", data, "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"], 1, "without a token"),
        (&["--data", data, "--listen", "nowhere"], 2, "nowhere"),
    ] {
        let output = command(&["up"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", shown(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(reason), "{reason} in {}", shown(&output));
        assert!(output.stdout.is_empty(), "{}", shown(&output));
    }
}
