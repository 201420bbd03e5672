//! The command line, end to end: what it prints for people and for programs, and the codes it ends with.

use crate::harness::{Platform, below, command, guest, shown, write_function};
use http::StatusCode;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A function that can say which version it is.
fn saying(path: &str, word: &str) -> Value {
    let mut manifest = below(path);
    manifest["allow"] = json!({ "http": [], "env": { "WORD": word } });
    manifest
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", shown(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn as_json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {}", shown(output)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Checks that a command failed with this code and said this much.
fn fails(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", shown(output));
    assert!(output.stdout.is_empty(), "{}", shown(output));
    for part in parts {
        assert!(stderr(output).contains(part), "`{part}` is not in {}", shown(output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deploying() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    write_function(&folder.path().join("hello"), "hello", &guest("hello"), below("/hello"));
    write_function(&folder.path().join("word"), "word", &guest("misbehave"), saying("/word", "one"));
    let path = folder.path().to_str().unwrap();

    let dry = as_json(&platform.dunlin(&["deploy", path, "--dry-run", "--json"]));
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["functions"][0]["name"], "hello");
    assert!(dry["functions"][0].get("version").is_none(), "{dry:#}");
    let text = stdout(&platform.dunlin(&["deploy", path, "--dry-run"]));
    assert!(text.contains("would be deployed"), "{text}");
    assert_eq!(as_json(&platform.dunlin(&["list", "--json"]))["functions"], json!([]));
    assert_eq!(platform.get("/hello/x").await.status, StatusCode::NOT_FOUND);

    let text = stdout(&platform.dunlin(&["deploy", path]));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            vec!["NAME", "VERSION", "TRIGGERS"],
            vec!["hello", "1", "deployed", "/hello/{*rest}"],
            vec!["word", "1", "deployed", "/word/{*rest}"]
        ]
    );
    assert_eq!(platform.get("/hello/x").await.text(), "Hello, world!\n");

    write_function(&folder.path().join("word"), "word", &guest("misbehave"), saying("/word", "two"));
    let deployed = as_json(&platform.dunlin(&["deploy", path, "--json"]));
    assert_eq!(deployed["functions"][0]["unchanged"], true, "{deployed:#}");
    assert_eq!(deployed["functions"][0]["version"], 1);
    assert_eq!(deployed["functions"][1]["unchanged"], false);
    assert_eq!(deployed["functions"][1]["version"], 2);

    // One manifest, by its path; and the folder one is in.
    let one = folder.path().join("hello/function.yaml");
    assert!(stdout(&platform.dunlin(&["deploy", one.to_str().unwrap()])).contains("unchanged"));
    let here = platform.command(&["deploy"]).current_dir(folder.path().join("word")).output().unwrap();
    assert!(stdout(&here).contains("unchanged"), "{}", shown(&here));
    fails(&platform.dunlin(&["deploy", "/not/there"]), 1, &["/not/there"]);
    let empty = TempDir::new().unwrap();
    fails(&platform.dunlin(&["deploy", empty.path().to_str().unwrap()]), 3, &["no `function.yaml` in or below"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_and_going_back() {
    let platform = Platform::start();
    let nothing = platform.dunlin(&["list"]);
    assert_eq!(stdout(&nothing), "");
    assert!(stderr(&nothing).contains("nothing is deployed yet"), "{}", shown(&nothing));

    for word in ["one", "two"] {
        platform.deploy("word", &guest("misbehave"), saying("/word", word));
    }
    platform.get("/word/ok").await;
    platform.get("/word/trap").await;
    let list = stdout(&platform.dunlin(&["list"]));
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..7], ["word", "2", "http", "0.2", "/word/{*rest}", "2", "1"], "{list}");
    let listed = as_json(&platform.dunlin(&["list", "--json"]));
    assert_eq!(listed["functions"][0]["activity"]["failed"], json!({ "trap": 1 }), "{listed:#}");

    let text = stdout(&platform.dunlin(&["show", "word"]));
    for part in
        ["word version 2", "triggers   /word/{*rest}", "2 invocations, 1 failed (1 trap)", "  name: word", "WORD: two"]
    {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    assert_eq!(as_json(&platform.dunlin(&["show", "word", "--json"]))["active"]["number"], 2);

    let text = stdout(&platform.dunlin(&["versions", "word"]));
    let numbers: Vec<&str> = text.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(numbers, ["2", "1"], "{text}");
    assert!(
        text.lines().nth(1).unwrap().contains("active") && !text.lines().nth(2).unwrap().contains("active"),
        "{text}"
    );
    assert_eq!(as_json(&platform.dunlin(&["versions", "word", "--json"]))["active"], 2);

    assert_eq!(stdout(&platform.dunlin(&["rollback", "word"])), "`word` is at version 1 now\n");
    assert_eq!(as_json(&platform.dunlin(&["rollback", "word", "--to", "2", "--json"]))["version"], 2);
    fails(&platform.dunlin(&["rollback", "word", "--to", "7"]), 3, &["`word` has no version 7"]);

    // Nobody is there to ask, so it must be said.
    let unasked = platform.command(&["remove", "word"]).stdin(Stdio::null()).output().unwrap();
    fails(&unasked, 3, &["was not removed", "--yes"]);
    assert_eq!(platform.get("/word/ok").await.status, StatusCode::OK);
    assert_eq!(stdout(&platform.dunlin(&["remove", "word", "--yes"])), "`word` is removed\n");
    for arguments in [&["show", "word"][..], &["versions", "word"], &["remove", "word", "--yes"], &["invoke", "word"]] {
        fails(&platform.dunlin(arguments), 3, &["there is no function `word`"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invoking() {
    let platform = Platform::start();
    // Without a trigger: by name it can be called all the same.
    platform.deploy("word", &guest("misbehave"), json!({ "allow": { "http": [] } }));
    assert_eq!(stdout(&platform.dunlin(&["invoke", "word", "/ok"])), "ok\n");

    let echo = platform.dunlin(&[
        "invoke",
        "word",
        "/a/echo?b=c",
        "-X",
        "PUT",
        "-H",
        "x-one: 1",
        "-H",
        "X-Two: 2",
        "-d",
        "text",
        "-i",
    ]);
    let text = stdout(&echo);
    assert!(text.starts_with("HTTP/1.1 200 OK\n") && text.ends_with("\n\ntext"), "{text}");
    for header in [
        "echo-method: Method::Put",
        "echo-target: /a/echo?b=c",
        "echo-x-one: 1",
        "echo-x-two: 2",
        "dunlin-invocation: ",
    ] {
        assert!(text.to_lowercase().contains(&header.to_lowercase()), "`{header}` is not in {text}");
    }
    let text = stdout(&platform.dunlin(&["invoke", "word", "/echo", "-d", "x", "-i"]));
    assert!(text.contains("Post"), "with data it is a POST: {text}");
    let text = stdout(&platform.dunlin(&["invoke", "word", "/echo", "-i"]));
    assert!(text.contains("Get"), "{text}");

    let folder = TempDir::new().unwrap();
    let large = vec![b'z'; 3 << 20];
    let file = folder.path().join("data");
    fs::write(&file, &large).unwrap();
    let from_file = platform.dunlin(&["invoke", "word", "/echo", "-d", &format!("@{}", file.display())]);
    assert!(stdout(&from_file).into_bytes() == large);
    for stdin in ["-", "@-"] {
        let mut child = platform.command(&["invoke", "word", "/echo", "-d", stdin]);
        child.stdin(fs::File::open(&file).unwrap());
        assert!(stdout(&child.output().unwrap()).into_bytes() == large);
    }
    fails(&platform.dunlin(&["invoke", "word", "/echo", "-d", "@/not/there"]), 1, &["`/not/there` can't be read"]);

    // What the function answers goes to stdout also when it is an error; the code tells.
    let answer = platform.dunlin(&["invoke", "word", "/nothing"]);
    assert_eq!(answer.status.code(), Some(5), "{}", shown(&answer));
    assert_eq!(answer.stdout, b"no such behaviour\n");
    let answer = platform.dunlin(&["invoke", "word", "/trap"]);
    assert_eq!(answer.status.code(), Some(5), "{}", shown(&answer));
    let problem: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(problem["reason"], "trap");
    // It names the command that tells more, and that command does.
    let invocation = problem["invocation"].as_str().unwrap();
    assert!(stderr(&answer).contains(&format!("dunlin logs word --invocation {invocation}")), "{}", shown(&answer));
    let log = stdout(&platform.dunlin(&["logs", "word", "--invocation", invocation]));
    assert!(log.contains("! told by the guest") && log.contains("word@1 * "), "{log}");
    // An answer that breaks off is none: it is too long to be held back until its end is known.
    let flood = platform.dunlin(&["invoke", "word", "/flood?bytes=100000000"]);
    assert_eq!(flood.status.code(), Some(4), "{}", stderr(&flood));
    assert!(stderr(&flood).contains("broke off"), "{}", stderr(&flood));

    fails(&platform.dunlin(&["invoke", "word", "no-slash"]), 2, &["must begin with `/`"]);
    fails(&platform.dunlin(&["invoke", "word", "-H", "authorization: x"]), 3, &["`authorization`"]);
}

/// Lines of a process as they come.
pub(crate) struct Lines(Receiver<String>, Vec<String>);

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver, Vec::new())
    }

    /// Waits for a line with this text, and hands it out.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let line = self.0.recv_timeout(Duration::from_secs(60));
            let line = line.unwrap_or_else(|error| panic!("no `{text}` ({error}) in {:#?}", self.1));
            self.1.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }
}

/// A child that doesn't outlive the test.
struct Running(Child);

impl Running {
    fn interrupt(&mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-INT", &self.0.id().to_string()]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it doesn't end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_logs() {
    let platform = Platform::start();
    platform.deploy("word", &guest("misbehave"), saying("/word", "one"));
    platform.deploy("other", &guest("misbehave"), saying("/other", "one"));
    platform.get("/word/logs?lines=2&text=first").await;
    platform.get("/other/logs?lines=1&text=elsewhere").await;
    platform.log_with("word", "first 1").await;
    platform.log_with("other", "elsewhere").await;

    let all = stdout(&platform.dunlin(&["logs"]));
    assert!(all.contains("word@1 | first 0") && all.contains("word@1 ! first 1") && all.contains("elsewhere"), "{all}");
    let one = stdout(&platform.dunlin(&["logs", "word"]));
    assert!(!one.contains("elsewhere") && one.contains("word@1 * version 1 deployed"), "{one}");
    let last = stdout(&platform.dunlin(&["logs", "word", "-n", "1"]));
    assert_eq!(last.lines().count(), 1, "{last}");
    let lines = stdout(&platform.dunlin(&["logs", "word", "--json"]));
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.iter().any(|record| record["message"] == "first 0" && record["stream"] == "stdout"), "{lines}");

    let mut follow = platform.command(&["logs", "word", "-f", "-n", "0"]);
    let mut follow = Running(follow.stdout(Stdio::piped()).spawn().unwrap());
    let mut followed = Lines::of(follow.0.stdout.take().unwrap());
    // It may not be there yet for the first ones; what comes while it is there, it gets.
    let begun = Instant::now();
    while followed.0.try_recv().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is followed");
        platform.get("/word/logs?lines=1&text=soon").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    platform.get("/other/logs?lines=1&text=elsewhere").await;
    platform.get("/word/logs?lines=1&text=second").await;
    followed.until("word@1 | second 0");
    platform.get("/word/logs?lines=1&text=third").await;
    followed.until("word@1 | third 0");
    assert!(!followed.1.iter().any(|line| line.contains("first") || line.contains("elsewhere")), "{:#?}", followed.1);
    assert_eq!(follow.interrupt(), Some(130));
}

#[test]
fn what_needs_no_platform() {
    let output = command(&["schema"]).output().unwrap();
    let schema = as_json(&output);
    assert!(schema["properties"]["component"].is_object() && schema["$schema"].is_string(), "{schema:#}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&command(&["completions", shell]).output().unwrap());
        assert!(script.contains("dunlin") && script.contains("rollback"), "{shell}: {script}");
    }
    for arguments in [&["--help"][..], &["deploy", "--help"], &["--version"]] {
        assert!(stdout(&command(arguments).output().unwrap()).contains("dunlin"), "{arguments:?}");
    }
    for arguments in [&[][..], &["deplyo"], &["show"], &["rollback", "a", "--to", "x"]] {
        assert_eq!(command(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
    fails(&command(&["deplyo"]).output().unwrap(), 2, &["deploy"]);
}

#[test]
fn a_platform_that_is_not_there() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = format!("http://127.0.0.1:{port}");
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "hello", &guest("hello"), below("/hello"));
    let path = folder.path().to_str().unwrap();
    for arguments in [
        &["list"][..],
        &["show", "a"],
        &["versions", "a"],
        &["rollback", "a"],
        &["remove", "a", "--yes"],
        &["invoke", "a"],
        &["logs"],
        &["deploy", path],
    ] {
        let output = command(arguments).args(["--server", &server]).output().unwrap();
        fails(&output, 4, &[&format!("no platform answers at `{server}`"), "help: "]);
    }
    fails(
        &command(&["list", "--server", "localhost"]).output().unwrap(),
        3,
        &["`localhost` is not a server's address"],
    );
    let output = command(&["doctor", "--server", &server, "--listen", "127.0.0.1:0", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&checks[0]["name"], &checks[0]["verdict"]), (&json!("platform"), &json!("fail")), "{checks:#}");
    assert!(checks[0]["fix"].as_str().unwrap().contains("dunlin up"), "{checks:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_who_finds_nothing() {
    let platform = Platform::start();
    platform.deploy("hello", &guest("hello"), below("/hello"));
    let listen = platform.functions.strip_prefix("http://").unwrap();
    let arguments = ["doctor", "--data", platform.data.to_str().unwrap(), "--listen", listen];
    let output = platform.dunlin(&arguments);
    let text = stdout(&output);
    for line in [
        "ok    platform",
        "ok    version",
        "ok    access",
        "1 function deployed",
        "ok    clock",
        "ok    port",
        "ok    data",
    ] {
        assert!(text.contains(line), "`{line}` is not in {text}");
    }
    assert!(!text.contains("fail  "), "{text}");
}

/// With a token nothing goes without it, and it is never shown.
#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let token = "a-token-nobody-may-see";
    let platform = Platform::start_with(&["--token", token]);
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "hello", &guest("hello"), below("/hello"));
    let path = folder.path().to_str().unwrap();
    for (arguments, variable) in [
        (&["list"][..], None),
        (&["deploy", path], None),
        (&["logs"], None),
        (&["invoke", "hello"], None),
        (&["list", "--token", "wrong"], None),
        (&["list"], Some("wrong")),
        (&["list"], Some("")),
    ] {
        let mut command = platform.command(arguments);
        command.envs(variable.map(|value| ("DUNLIN_TOKEN", value)));
        fails(&command.output().unwrap(), 3, &["wants a token", "DUNLIN_TOKEN", "--token"]);
    }
    stdout(&platform.dunlin(&["deploy", path, "--token", token]));
    let listed = platform.command(&["list"]).env("DUNLIN_TOKEN", token).output().unwrap();
    assert!(stdout(&listed).contains("hello"));
    let greeting = platform.command(&["invoke", "hello"]).env("DUNLIN_TOKEN", token).output().unwrap();
    assert_eq!(stdout(&greeting), "Hello, world!\n");
    // Callers of functions need none.
    assert_eq!(platform.get("/hello/x").await.status, StatusCode::OK);
    let shown = platform.command(&["show", "hello", "--json"]).env("DUNLIN_TOKEN", token).output().unwrap();
    assert!(!stdout(&shown).contains(token));
}

/// Whoever reads has had enough: that is no failure, and nothing is said.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_to_the_end() {
    let platform = Platform::start();
    platform.deploy("word", &guest("misbehave"), saying("/word", "one"));
    for arguments in [
        &["schema"][..],
        &["completions", "bash"],
        &["list"],
        &["list", "--json"],
        &["show", "word"],
        &["logs"],
        &["doctor"],
        &["invoke", "word", "/ok"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = platform.command(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(stderr(&output), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", shown(&output));
    }
}

/// Colours are for terminals, and for who asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn colours() {
    let platform = Platform::start();
    platform.deploy("word", &guest("misbehave"), saying("/word", "one"));
    platform.get("/word/trap").await;
    platform.log_with("word", "told by the guest").await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("function.yaml"), "nmae: x\n").unwrap();
    for arguments in [
        &["show", "word"][..],
        &["logs"],
        &["doctor"],
        &["deploy", folder.path().to_str().unwrap()],
        &["show", "none"],
        &["invoke", "word", "/trap"],
    ] {
        let coloured = |variables: &[(&str, &str)]| {
            let mut command = platform.command(arguments);
            for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
                command.env_remove(name);
            }
            let output = command.envs(variables.iter().copied()).output().unwrap();
            shown(&output).contains('\x1b')
        };
        assert!(!coloured(&[]), "{arguments:?}");
        assert!(coloured(&[("CLICOLOR_FORCE", "1")]), "{arguments:?}");
        assert!(!coloured(&[("NO_COLOR", "1")]), "{arguments:?}");
    }
}

/// `dunlin dev` with a platform of its own: build, deploy, and again after each change.
pub(crate) struct Dev {
    process: Running,
    pub(crate) told: Lines,
    functions: String,
    folder: PathBuf,
}

impl Dev {
    pub(crate) fn start(folder: &Path, data: &Path) -> Self {
        let mut dev = command(&["dev", folder.to_str().unwrap(), "--data", data.to_str().unwrap()]);
        dev.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).env("DUNLIN_LOG", "dunlin_runtime=debug");
        let mut process = Running(dev.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut told = Lines::of(process.0.stderr.take().unwrap());
        let line = told.until("functions answer at ");
        let functions = line.rsplit("http://").next().unwrap().trim().to_owned();
        Self { process, told, functions, folder: folder.to_owned() }
    }

    /// Waits for an answer that is wanted.
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = self.get(path);
            if wanted(&answer) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{answer}; {:#?}", self.told.1);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn write(&self, manifest: &str) {
        fs::write(self.folder.join("function.yaml"), manifest).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.functions).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// A command whose last call is a tail call, which the compiler of `dunlin dev` doesn't know.
const TAIL_CALL: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\0b\00\00\00")
    (data (i32.const 16) "called last")
    (func $say (result i32) (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (func $last (result i32) (return_call $say))
    (func (export "_start") (drop (call $last))))"#;

#[test]
fn developing() {
    let folder = TempDir::new().unwrap();
    let functions = folder.path().join("functions");
    fs::create_dir(&functions).unwrap();
    fs::copy(guest("misbehave"), functions.join("source.wasm")).unwrap();
    let manifest = |build: &str, word: &str| {
        format!(
            "name: word\ncomponent: out.wasm\nbuild: {build:?}\ntriggers:\n  - http: {{ path: \"/{{*rest}}\" }}\nallow: {{ http: [], env: {{ WORD: {word} }} }}\n"
        )
    };
    let good = "cp source.wasm out.wasm";
    fs::write(functions.join("function.yaml"), manifest(good, "one")).unwrap();
    let mut dev = Dev::start(&functions, &folder.path().join("data"));
    dev.told.until("building `word`");
    dev.told.until("waiting for a change");
    assert!(dev.get("/env").contains("\"WORD\":\"one\""), "{}", dev.get("/env"));

    // What functions print is shown, too.
    dev.get("/logs?lines=1&text=printed");
    dev.told.until("word@1 | printed 0");

    dev.write(&manifest(good, "two"));
    dev.told.until("waiting for a change");
    assert!(dev.get("/env").contains("\"WORD\":\"two\""), "{}", dev.get("/env"));

    // A source that changes is built again.
    fs::copy(guest("hello"), functions.join("source.wasm")).unwrap();
    dev.told.until("building `word`");
    dev.told.until("waiting for a change");
    assert!(dev.get("/x").contains("Hello, world!"), "{}", dev.get("/x"));

    // What the fast compiler can't do, the other one does.
    fs::write(functions.join("source.wasm"), wat::parse_str(TAIL_CALL).unwrap()).unwrap();
    dev.told.until("building `word`");
    let refused = dev.told.until("compiled by the slower compiler");
    assert!(refused.contains("tail calls support is not enabled"), "{refused}");
    dev.told.until("waiting for a change");
    assert!(dev.get("/x").contains("called last"), "{}", dev.get("/x"));
    fs::copy(guest("hello"), functions.join("source.wasm")).unwrap();
    dev.told.until("building `word`");
    dev.told.until("waiting for a change");

    // A build that fails is shown with what it said, and the old version serves on.
    dev.write(&manifest("echo 'error: it does not compile' >&2; exit 3", "three"));
    dev.told.until("error: it does not compile");
    dev.told.until("`word` was not built");
    dev.told.until("ended with exit status: 3");
    dev.told.until("waiting for a change");
    assert!(dev.get("/x").contains("Hello, world!"), "{}", dev.get("/x"));
    // So is a manifest that is wrong, at its place.
    dev.write(&manifest(good, "{}"));
    dev.told.until("function.yaml:6:");
    dev.told.until("waiting for a change");
    assert!(dev.get("/x").contains("Hello, world!"), "{}", dev.get("/x"));

    fs::copy(guest("misbehave"), functions.join("source.wasm")).unwrap();
    dev.write(&manifest(good, "four"));
    dev.until("/env", |answer| answer.contains("\"WORD\":\"four\""));
    assert_eq!(dev.process.interrupt(), Some(130));
    assert!(TcpStream::connect(&dev.functions).is_err(), "its platform ends with it");
}

/// `dunlin dev` with a platform that runs already.
#[tokio::test(flavor = "multi_thread")]
async fn developing_on_a_running_platform() {
    let platform = Platform::start();
    let folder = TempDir::new().unwrap();
    write_function(folder.path(), "word", &guest("misbehave"), saying("/word", "one"));
    let mut dev = platform.command(&["dev", folder.path().to_str().unwrap()]);
    let mut dev = Running(dev.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut told = Lines::of(dev.0.stderr.take().unwrap());
    told.until("waiting for a change");
    assert_eq!(platform.get("/word/env").await.json()["variables"]["WORD"], "one");
    write_function(folder.path(), "word", &guest("misbehave"), saying("/word", "two"));
    told.until("waiting for a change");
    assert_eq!(dev.interrupt(), Some(130));
    assert_eq!(platform.get("/word/env").await.json()["variables"]["WORD"], "two");
}
