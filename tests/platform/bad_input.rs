//! Bad input: each is refused with a message that names the place, the thing and the fix, and nothing changes.

use crate::harness::{Platform, below, files, guest, shown};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A platform on which functions are deployed that nothing bad may change.
struct Untouched {
    platform: Platform,
    before: (Value, Value, String),
}

impl Untouched {
    async fn start() -> Self {
        Self::start_with(Platform::start()).await
    }

    async fn start_with(platform: Platform) -> Self {
        platform.deploy("good", &guest("hello"), below("/first"));
        platform.deploy("good", &guest("hello"), below("/good"));
        let before = Self::look(&platform).await;
        Self { platform, before }
    }

    /// All that is deployed, and that it answers. The counters are none of it.
    async fn look(platform: &Platform) -> (Value, Value, String) {
        let output = platform.dunlin(&["list", "--json"]);
        assert!(output.status.success(), "{}", shown(&output));
        let mut list: Value = serde_json::from_slice(&output.stdout).unwrap();
        for function in list["functions"].as_array_mut().unwrap() {
            function["activity"] = Value::Null;
        }
        let versions = platform.admin(Method::GET, "/api/functions/good/versions", Value::Null).await.json();
        (list, versions, platform.get("/good/x").await.text())
    }

    /// Deploys a folder, which must be refused with a message that has these parts, and nothing changes.
    async fn refuses(&self, folder: &Path, parts: &[&str]) {
        let output = self.platform.dunlin(&["deploy", folder.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        assert!(output.stdout.is_empty(), "{}", shown(&output));
        let told = String::from_utf8(output.stderr).unwrap();
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in\n{told}");
        }
        assert!(!told.contains("panicked"), "{told}");
        self.is_unchanged().await;
    }

    /// The same for a manifest that is alone in its folder, beside a good component `hello.wasm`.
    async fn refuses_manifest(&self, manifest: impl AsRef<[u8]>, parts: &[&str]) {
        let folder = TempDir::new().unwrap();
        fs::copy(guest("hello"), folder.path().join("hello.wasm")).unwrap();
        fs::write(folder.path().join("function.yaml"), manifest).unwrap();
        self.refuses(folder.path(), parts).await;
    }

    /// The same for a component whose manifest is right.
    async fn refuses_component(&self, component: impl AsRef<[u8]>, parts: &[&str]) {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("bad.wasm"), component).unwrap();
        fs::write(folder.path().join("function.yaml"), "name: bad\ncomponent: bad.wasm\n").unwrap();
        self.refuses(folder.path(), parts).await;
    }

    async fn is_unchanged(&self) {
        assert_eq!(Self::look(&self.platform).await, self.before);
        let uploads = fs::read_dir(self.platform.data.join("uploads")).unwrap();
        assert_eq!(uploads.count(), 0, "nothing of it is kept");
    }
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_are_none() {
    let untouched = Untouched::start().await;
    // Where the manifest names it, for every one of them.
    let place = "function.yaml:2:12";
    let whole = fs::read(guest("hello")).unwrap();
    let compiled = files(&untouched.platform.data.join("cache")).remove(0);
    assert_eq!(compiled.extension().unwrap(), "cwasm");
    let mut damaged = whole.clone();
    damaged[whole.len() / 3..][..64].fill(0xff);

    for (component, parts) in [
        (b"".to_vec(), &["is not WebAssembly", "it is empty"][..]),
        (b"hello, I am a text\n".to_vec(), &["is not WebAssembly", "`hell`"]),
        (b"(module)".to_vec(), &["is not WebAssembly", "WebAssembly text", "wasm-tools parse"]),
        (b"\x1f\x8b\x08\0".to_vec(), &["is not WebAssembly", "gzip", "unpack it"]),
        (b"\0asm".to_vec(), &["damaged or cut off at byte 4"]),
        (b"\0asm\x63\0\0\0".to_vec(), &["damaged or cut off"]),
        (whole[..whole.len() / 2].to_vec(), &["damaged or cut off at byte"]),
        (damaged, &["damaged or cut off at byte"]),
        (
            wat(
                r#"(component (core module (func (result i32))) (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            ),
            &["damaged or cut off at byte 34", "expected i32 but nothing on stack"],
        ),
        (
            wat(r#"(module (func (export "add") (param i32 i32) (result i32) local.get 0))"#),
            &["core module exports no `_start`", "it exports `add`", "wasm32-wasip1", "wasm32-wasip2"],
        ),
        (wat("(module)"), &["core module exports no `_start`", "it exports nothing"]),
        (
            wat(r#"(component (instance $i) (export "acme:plugins/run@1.0.0" (instance $i)))"#),
            &["exports nothing Dunlin can call", "`acme:plugins/run@1.0.0`", "wasi:http/incoming-handler@0.2.x"],
        ),
        (
            wat(
                r#"(component (import "acme:kv/store@1.0.0" (instance)) (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            ),
            &["imports `acme:kv/store@1.0.0`, which Dunlin does not provide", "wasi:http"],
        ),
        (
            wat(r#"(module (import "env" "fetch" (func)) (memory (export "memory") 1) (func (export "_start")))"#),
            &["imports `env.fetch`, which Dunlin does not provide"],
        ),
        (
            // It says it is a command, and has no `run`.
            wat(r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#),
            &["exports `wasi:cli/run@0.2.0`, but not as the world defines it", "does not have export `run`"],
        ),
        (
            wat(
                r#"(component (import "wasi:cli/nonsense@0.2.0" (instance)) (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#,
            ),
            &["exports `wasi:cli/run@0.2.0`, but not as the world defines it", "does not have export `run`"],
        ),
        (b"\x7fELF and what follows".to_vec(), &["machine code", ".cwasm", "deploy the `.wasm`"]),
        (fs::read(compiled).unwrap(), &["machine code", ".cwasm", "deploy the `.wasm`"]),
    ] {
        let mut all = vec![place, "bad.wasm"];
        all.extend(parts);
        untouched.refuses_component(component, &all).await;
    }
}

/// What a component and its manifest say doesn't go together.
#[tokio::test(flavor = "multi_thread")]
async fn components_that_need_more_than_their_manifest_gives() {
    let untouched = Untouched::start().await;
    let folder = TempDir::new().unwrap();
    fs::copy(guest("fan_out"), folder.path().join("fan_out.wasm")).unwrap();
    fs::copy(guest("upper"), folder.path().join("upper.wasm")).unwrap();
    let large = wat(r#"(module (memory (export "memory") 100) (func (export "_start")))"#);
    fs::write(folder.path().join("large.wasm"), large).unwrap();
    let huge = wat(r#"(module (table 200000 funcref) (memory (export "memory") 1) (func (export "_start")))"#);
    fs::write(folder.path().join("huge.wasm"), huge).unwrap();
    for (manifest, parts) in [
        (
            "name: bad\ncomponent: fan_out.wasm\nlimits: { memory: 32MiB }\n",
            &[
                ":1:1",
                "wasi:http/outgoing-handler@0.2",
                "doesn't allow",
                "allow: { http: [\"https://api.example.com\"] }",
            ][..],
        ),
        (
            "name: bad\ncomponent: fan_out.wasm\nallow:\n  secrets: []\n",
            &[":3:1", "wasi:http/outgoing-handler@0.2", "`http: []` if it calls none"],
        ),
        (
            "name: bad\ncomponent: large.wasm\nlimits: { memory: 1MiB }\n",
            &[":3:19", "starts with 6400KiB of memory", "more than `memory` allows (1MiB)", "`memory: 13MiB`"],
        ),
        ("name: bad\ncomponent: upper.wasm\nlimits: { memory: 5GiB }\n", &[":3:19", "5GiB", "the most is 4GiB"]),
        ("name: bad\ncomponent: huge.wasm\n", &[":2:12", "minimum element size of 200000", "at most 100000"]),
        (
            "name: bad\ncomponent: upper.wasm\nreuse: { count: 10, concurrency: 2 }\n",
            &[":3:34", "one request at a time", "only WASI 0.3"],
        ),
        ("name: bad\ncomponent: large.wasm\nreuse: { count: 10 }\n", &[":3:17", "a command ends with its run"]),
        (
            "name: bad\ncomponent: upper.wasm\nallow:\n  secrets:\n    - NOT_THERE\n",
            &[":5:7", "`NOT_THERE`", "DUNLIN_SECRET_NOT_THERE", "--secrets"],
        ),
    ] {
        fs::write(folder.path().join("function.yaml"), manifest).unwrap();
        let mut all = vec!["function.yaml", "= help: "];
        if manifest.contains("huge") || manifest.contains("NOT_THERE") {
            all.pop();
        }
        all.extend(parts);
        let output = untouched.platform.dunlin(&["deploy", folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        for part in all {
            assert!(shown(&output).contains(part), "`{part}` is not in\n{}", shown(&output));
        }
        assert_eq!(Untouched::look(&untouched.platform).await, untouched.before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_are_wrong() {
    let untouched = Untouched::start().await;
    for (manifest, parts) in [
        ("name: bad\ncomponent: 'hello.wasm\n", &["function.yaml:2:12", "unclosed quote", "help: "][..]),
        ("name: bad\ncomponent: hello.wasm\nlimits: { time: 1s\n", &["function.yaml:3:9", "unclosed bracket"]),
        (
            "name: bad\ncomponent: hello.wasm\nlimits:\n\ttime: 1s\n",
            &["function.yaml:4:1", "tab", "indent it with spaces"],
        ),
        ("", &["function.yaml:1:1", "the file is empty", "write at least `name: ...`"]),
        (
            "name: bad\ncomponent: hello.wasm\nname: worse\n",
            &[
                "function.yaml:3:1",
                "the key `name` is there twice",
                "1 | name: bad",
                "first here",
                "keep one of the two",
            ],
        ),
        (
            "name: bad\ncomponent: hello.wasm\nlimits: { time: 1s, time: 2s }\n",
            &["function.yaml:3:21", "the key `time` is there twice", "keep one of the two"],
        ),
        (
            "name: bad\ncomponent: hello.wasm\ntrigers: []\n",
            &["function.yaml:3:1", "unknown key `trigers`", "3 | trigers: []", "did you mean `triggers`?"],
        ),
        (
            "name: bad\ncomponent: hello.wasm\nallow: { env: { WORD: \"${DUNLIN_TEST_UNSET}\" } }\n",
            &[
                "function.yaml:3:24",
                "the environment variable `DUNLIN_TEST_UNSET` is not set",
                "export DUNLIN_TEST_UNSET=...",
                "${DUNLIN_TEST_UNSET:-...}",
            ],
        ),
        (
            "name: bad\ncomponent: nothing/here.wasm\n",
            &[
                "function.yaml:2:12",
                "there is no file `",
                "nothing/here.wasm",
                "compile the function, or correct the path",
            ],
        ),
        (
            "name: bad\ncomponent: out.wasm\nbuild: make it\n",
            &["function.yaml:2:12", "there is no file `", "dunlin build ", "which runs `make it`"],
        ),
        ("name: bad\ncomponent: .\n", &["function.yaml:2:12", "is a folder", "name the compiled file"]),
        (
            "name: Bad_Name\ncomponent: hello.wasm\nlimits: { time: 10, memory: lots }\n",
            &[
                "function.yaml:1:7",
                "function.yaml:3:17",
                "function.yaml:3:29",
                "`lots` is not a size",
                "such as `64MiB`",
            ],
        ),
    ] {
        untouched.refuses_manifest(manifest, parts).await;
    }
    untouched
        .refuses_manifest(b"name: \xff\xfe\n", &["function.yaml:1:7", "not text in UTF-8", "save it as UTF-8"])
        .await;
    untouched
        .refuses_manifest(vec![b'#'; 2 << 20], &["function.yaml", "2 MiB, too large for a manifest", "the right file?"])
        .await;
}

/// Files that would take all memory if they were believed.
#[tokio::test(flavor = "multi_thread")]
async fn yaml_bombs() {
    let untouched = Untouched::start().await;
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        aliases.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    let mut merges = "a0: &a0 { k0: x, k1: x }\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        merges.push_str(&format!("a{level}: &a{level} {{ x: *a{before}, y: *a{before}, <<: *a{before} }}\n"));
    }
    for bomb in [
        aliases,
        merges,
        format!("name: bad\ncomponent: {}", "[".repeat(100_000)),
        format!("name: bad\ntriggers:\n{}", "- x\n".repeat(100_000)),
        format!("name: bad\nallow: {}x", "{ a: ".repeat(10_000)),
    ] {
        let begun = Instant::now();
        untouched.refuses_manifest(&bomb, &["function.yaml:", "error: ", "help: "]).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", &bomb[..60]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_conflict() {
    let untouched = Untouched::start().await;
    let folder = TempDir::new().unwrap();
    let write = |name: &str, triggers: &str| {
        let own = folder.path().join(name);
        fs::create_dir_all(&own).unwrap();
        fs::copy(guest("hello"), own.join("hello.wasm")).unwrap();
        fs::write(own.join("function.yaml"), format!("name: {name}\ncomponent: hello.wasm\ntriggers:\n{triggers}"))
            .unwrap();
    };
    // With one that is deployed: the names of parameters don't tell routes apart, and any method includes GET.
    write("one", "  - http: { path: /one }\n  - http: { path: \"/good/{*other}\" }\n");
    let conflict =
        ["one/function.yaml:5:19", "`/good/{*rest}` is taken by trigger 0 of `good`", "another path, host or method"];
    untouched.refuses(folder.path(), &conflict[..1]).await;
    untouched.refuses(folder.path(), &["of `good`", conflict[2]]).await;
    // Among two that are new.
    write("one", "  - http: { path: \"/new/{a}\", methods: [GET, POST] }\n");
    write("two", "  - http: { path: /fine }\n  - http: { path: \"/new/{b}\", methods: [PUT, GET] }\n");
    untouched
        .refuses(folder.path(), &["two/function.yaml:5:19", "/new/{", "is taken by trigger 0 of `one`", conflict[2]])
        .await;
    // Of one function with itself.
    fs::remove_dir_all(folder.path().join("one")).unwrap();
    write(
        "two",
        "  - http: { path: /x, methods: [GET] }\n  - http: { path: /x }\n  - http: { path: /x, methods: [GET, PUT] }\n",
    );
    untouched.refuses(folder.path(), &["two/function.yaml:6:19", "of this function", conflict[2]]).await;
    // Other methods, another host or a more special path are no conflict.
    write(
        "two",
        "  - http: { path: /x, methods: [GET] }\n  - http: { path: /x, methods: [PUT] }\n  - http: { path: /good/x }\n  - http: { path: \"/good/{*rest}\", host: a.example }\n",
    );
    let output = untouched.platform.dunlin(&["deploy", "--dry-run", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
}

/// 500 MB are refused before they are sent, and by the platform before they are read.
#[tokio::test(flavor = "multi_thread")]
async fn components_that_are_too_large() {
    let untouched = Untouched::start().await;
    const SIZE: u64 = 500_000_000;
    let folder = TempDir::new().unwrap();
    // Without blocks on the disk: only its length is large.
    fs::File::create(folder.path().join("bad.wasm")).unwrap().set_len(SIZE).unwrap();
    fs::write(folder.path().join("function.yaml"), "name: bad\ncomponent: bad.wasm\n").unwrap();
    let before = untouched.platform.resident();
    untouched
        .refuses(
            folder.path(),
            &["function.yaml:2:12", "has 477 MiB, more than the platform takes (100 MiB)", "--max-component"],
        )
        .await;

    let mut stream = TcpStream::connect(untouched.platform.admin.strip_prefix("http://").unwrap()).unwrap();
    let digest = "0".repeat(64);
    write!(stream, "PUT /api/components/sha256:{digest} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {SIZE}\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");

    // Its length is not told: it is read until it is too much.
    let mut stream = TcpStream::connect(untouched.platform.admin.strip_prefix("http://").unwrap()).unwrap();
    write!(
        stream,
        "PUT /api/components/sha256:{digest} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    .unwrap();
    let chunk = [b"100000\r\n", &vec![0; 1 << 20][..], b"\r\n"].concat();
    let sent = (0..500).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 200, "{sent} MiB were taken");
    let mut answer = [0; 12];
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
    // The limit is 100 MiB, which a buffer that grows may hold several times over while it moves.
    assert!(untouched.platform.resident() < before + (400 << 20), "what was refused is not held");
    untouched.is_unchanged().await;
}

/// The limit is the operator's.
#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_components_can_be_limited() {
    let untouched = Untouched::start_with(Platform::start_with(&["--max-component", "100KiB"])).await;
    let component = fs::read(guest("upper")).unwrap();
    let told = "KiB, more than the platform takes (100 KiB)";
    untouched.refuses_component(component, &["function.yaml:2:12", told]).await;
}

/// What no client of ours sends.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong() {
    let untouched = Untouched::start().await;
    let platform = &untouched.platform;
    let zeros = format!("sha256:{}", "0".repeat(64));
    let put = |digest: &str, body: Vec<u8>| {
        let request = Request::put(format!("{}/api/components/{digest}", platform.admin));
        platform.send(request.body(http_body_util::Full::new(body.into())).unwrap())
    };
    let hello = fs::read(guest("hello")).unwrap();
    let answer = put(&zeros, hello.clone()).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    assert!(answer.text().contains("damaged or misnamed"), "{answer:?}");
    assert_eq!(put("sha256:xyz", hello.clone()).await.status, StatusCode::BAD_REQUEST);

    let deploy = async |body: Value| platform.admin(Method::POST, "/api/deployments", body).await;
    let manifest = json!({ "name": "bad", "component": "bad.wasm" });
    let answer = deploy(json!({ "functions": [{ "manifest": manifest, "component": zeros }] })).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    let error = &answer.json()["errors"][0];
    assert_eq!((&error["function"], &error["pointer"]), (&json!("bad"), &json!("/component")), "{answer:?}");
    assert!(error["help"].as_str().unwrap().contains(&format!("/api/components/{zeros}")), "{answer:?}");

    let mut unknown = manifest.clone();
    unknown["alow"] = json!({});
    let answer = deploy(json!({ "functions": [{ "manifest": unknown, "component": zeros }] })).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    assert!(answer.text().contains("alow"), "{answer:?}");
    for body in [json!({}), json!([]), json!({ "functions": 1 }), json!({ "functions": [], "more": 1 })] {
        let answer = deploy(body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
    }
    untouched.is_unchanged().await;
}
