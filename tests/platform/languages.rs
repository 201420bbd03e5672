//! Functions in each language, from nothing: `dunlin new`, `build`, the language's own tests, `test`, `deploy`, and calls.

use crate::{
    cli::Dev,
    harness::{Platform, command, repository, shown},
};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What sets a language apart here.
struct Language {
    name: &'static str,
    /// The command for its own tests.
    tests: &'static [&'static str],
    /// A file, what to put in place of what to break it, and what its compiler says then.
    mistake: (&'static str, &'static str, &'static str, &'static str),
}

/// A folder for functions within this repository, so that they share its tools.
struct Project(TempDir);

impl Project {
    fn new() -> Self {
        Self(TempDir::new_in(repository().join("functions/target")).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn dunlin(&self, arguments: &[&str]) -> Output {
        self.own(command(arguments)).output().unwrap()
    }

    /// One that has no tools yet.
    fn apart() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(".git")).unwrap();
        Self(folder)
    }

    /// In Rust, what both functions need is built once.
    fn own(&self, mut command: Command) -> Command {
        command.current_dir(self.0.path()).env("CARGO_TARGET_DIR", self.0.path().join("target"));
        command
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.dunlin(arguments);
        assert!(output.status.success(), "dunlin {}: {}", arguments.join(" "), shown(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn make(&self, name: &str, language: &str, trigger: &str) {
        self.succeeds(&["new", name, "--lang", language, "--trigger", trigger]);
    }
}

async fn begins(language: Language) {
    let Language { name, tests, mistake: (file, right, wrong, complaint) } = language;
    let project = Project::new();
    // A function may be named as its language is: not every compiler takes every name.
    let (web, count) = (format!("web-{name}"), name.to_owned());
    project.make(&web, name, "http");
    project.make(&count, name, "topic");

    // Built, and tested in the sandbox, as the README says.
    for function in [&web, &count] {
        let told = project.succeeds(&["test", function]);
        assert!(told.contains("1 case passed, 0 failed"), "{told}");
        if let [program, arguments @ ..] = tests {
            let program = match program.strip_prefix(".dunlin") {
                Some(rest) => repository().join(format!(".dunlin{rest}").replace("{name}", function)),
                None => PathBuf::from(program),
            };
            let mut own = project.own(Command::new(program));
            let output = own.args(arguments).current_dir(project.path(function)).output().unwrap();
            assert!(output.status.success(), "{}", shown(&output));
        }
    }

    // The same source gives the same bytes, made from nothing, and where folders are listed in another order. A mistake leaves
    // what was there.
    let component = project.path(&format!("{count}/build/{count}.wasm"));
    let built = fs::read(&component).unwrap();
    fs::remove_file(&component).unwrap();
    let kept = repository().join(".dunlin/built").join(name).join(&count);
    if kept.exists() {
        fs::remove_dir_all(kept).unwrap();
    }
    let mut again = project.own(command(&["build", &count]));
    if Path::new("/dev/shm").is_dir() {
        again.env("TMPDIR", "/dev/shm");
    }
    let output = again.output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(fs::read(&component).unwrap() == built, "the same source gave other bytes");
    let source = project.path(&format!("{count}/{file}"));
    let text = fs::read_to_string(&source).unwrap();
    assert!(text.contains(right), "{text}");
    fs::write(&source, text.replacen(right, wrong, 1)).unwrap();
    let output = project.dunlin(&["build", &count]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    assert!(shown(&output).contains(complaint), "{}", shown(&output));
    assert!(fs::read(&component).unwrap() == built);
    fs::write(&source, text).unwrap();

    let platform = Platform::start();
    let output = platform.dunlin(&["deploy", project.0.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    let answer = if name == "c" {
        platform.post(&format!("/{web}"), "a quiet bird").await
    } else {
        platform.get(&format!("/{web}/ada")).await
    };
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    for _ in 0..3 {
        publish(&platform, "orders", "order.created", "{\"total\": 5}");
    }
    let returned = events(&platform, &format!("{count}.events"), 3).await;
    assert_eq!(returned.len(), 3);
}

fn publish(platform: &Platform, topic: &str, kind: &str, data: &str) {
    let output = platform.dunlin(&["publish", topic, "--type", kind, "--data", data]);
    assert!(output.status.success(), "{}", shown(&output));
}

/// The events of a topic, once there are so many.
async fn events(platform: &Platform, topic: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let answer = platform.admin(Method::GET, &format!("/api/topics/{topic}/events?from=0"), Value::Null).await;
        if answer.status.is_success() {
            let events = answer.json()["events"].as_array().cloned().unwrap_or_default();
            if events.len() >= count {
                return events;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "`{topic}`: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rust() {
    let mistake = ("src/lib.rs", "event.kind()", "event.sort()", "no method named `sort`");
    begins(Language { name: "rust", tests: &["cargo", "test", "--quiet"], mistake }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c() {
    begins(Language {
        name: "c",
        tests: &[],
        mistake: ("main.c", "long words", "lang words", "use of undeclared identifier 'lang'"),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript() {
    let mistake = ("src/index.ts", "state.increment(", "state.increment((", "Expected \")\"");
    begins(Language { name: "javascript", tests: &["npm", "test", "--silent"], mistake }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python() {
    let mistake = ("app.py", "def on_event(", "def on_event((", "SyntaxError");
    begins(Language { name: "python", tests: &[".dunlin/venv/{name}/bin/python", "-m", "unittest"], mistake }).await;
}

/// Nobody would notice if it wasn't, but for the time it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_python_is_rehearsed_and_its_library_is_all_there() {
    const WEB: &str = "\
from pathlib import Path

import dunlin
from dunlin import _importer, _rehearsal, _standard_library

listed = _importer.modules_below(Path(_importer.standard_library()))
others = set(listed) ^ set(_standard_library.FILES)


@dunlin.http
def show(request: dunlin.Request):
    return repr((_rehearsal.failed, others))
";
    const COUNT: &str = "import dunlin\nfrom dunlin import Event, _rehearsal\n\n\n@dunlin.handler\ndef show(event: Event) -> Event:\n    return Event(\"shown\", repr(_rehearsal.failed))\n";
    let project = Project::new();
    for (name, trigger, source) in [("web-rehearsed", "http", WEB), ("rehearsed", "topic", COUNT)] {
        project.make(name, "python", trigger);
        fs::write(project.path(&format!("{name}/app.py")), source).unwrap();
        project.succeeds(&["build", name]);
    }
    let platform = Platform::start();
    let output = platform.dunlin(&["deploy", project.0.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(platform.get("/web-rehearsed/ada").await.text(), "(None, set())");
    publish(&platform, "orders", "order.created", "{\"total\": 5}");
    assert_eq!(events(&platform, "rehearsed.events", 1).await[0]["event"]["data"], "None");
}

/// Its component is made once, and gets the folder's files with each call: a module reads them as where it is built.
#[test]
fn python_is_developed_with_its_files() {
    const SOURCE: &str = r#"
import importlib.resources
import json
from pathlib import Path

import dunlin
import part

HERE = Path(__file__).resolve().parent
PRICES = json.loads(HERE.joinpath("prices.json").read_text())
QUERIES = [path.read_text() for path in HERE.rglob("*.sql")]
DATA = importlib.resources.files(part).joinpath("data.bin").read_bytes()


@dunlin.http
def show(request: dunlin.Request):
    if request.params["who"] == "late":
        return HERE.joinpath("prices.json").read_text()
    return repr((PRICES, QUERIES, DATA))
"#;
    let project = Project::new();
    project.make("priced", "python", "http");
    let folder = project.path("priced");
    write(&folder, "app.py", SOURCE);
    write(&folder, "prices.json", "{\"tea\": 3}");
    write(&folder, "sql/all.sql", "select 1");
    write(&folder, "part/__init__.py", "");
    fs::write(folder.join("part/data.bin"), b"\xff\0").unwrap();
    let data = TempDir::new().unwrap();
    let mut dev = Dev::start(&folder, data.path());
    dev.told.until("waiting for a change");
    let shown = |price: u8| format!("({{'tea': {price}}}, ['select 1'], b'\\xff\\x00')");
    let answer = dev.get("/priced/ada");
    assert!(answer.contains(&shown(3)), "{answer}");
    dev.get("/priced/late");
    dev.told.until("help: there are no files when a function is called");

    write(&folder, "prices.json", "{\"tea\": 4}");
    dev.until("/priced/ada", |answer| answer.contains(&shown(4)));
    // A sandbox that is asked again says again what is wrong.
    write(&folder, "app.py", &format!("{SOURCE}\nimport nothing\n"));
    dev.until("/priced/ada", |answer| !answer.contains(&shown(4)));
    let answer = dev.get("/priced/ada");
    assert!(answer.contains("500") && answer.contains("application/problem+json"), "{answer}");
    for _ in 0..2 {
        dev.told.until("ModuleNotFoundError: No module named 'nothing'");
        dev.told.until("import nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn go() {
    let mistake = ("main.go", "dunlin.Handle(", "dunlin.Handel(", "undefined: dunlin.Handel");
    begins(Language { name: "go", tests: &["go", "test", "./..."], mistake }).await;
}

/// A folder for a case that is no template.
fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_are_recorded_from_a_topic_and_fail_when_the_function_changes() {
    let platform = Platform::start();
    platform.dunlin(&["topics", "create", "parcels"]);
    publish(&platform, "parcels", "parcel.sent", "{\"weight\": 6}");
    publish(&platform, "parcels", "parcel.sent", "{\"weight\": 7}");

    let project = Project::new();
    let manifest = format!(
        "name: relay\ncomponent: {}\ntriggers:\n  - topic: {{ name: parcels }}\npublish: relayed\n",
        repository().join("functions/target/wasm32-wasip2/release/relay.wasm").display()
    );
    write(&project.path("relay"), "function.yaml", &manifest);
    let told = project.succeeds(&["test", "relay", "--from", "parcels", "--offset", "1", "--server", &platform.admin]);
    assert!(told.contains("tests/parcels-1.event.json, recorded") && told.contains("1 case passed"), "{told}");

    let case = project.path("relay/tests/parcels-1.event.json");
    let recorded: Value = serde_json::from_str(&fs::read_to_string(&case).unwrap()).unwrap();
    assert_eq!(recorded["topic"], "parcels");
    assert_eq!(recorded["event"]["data"]["weight"], 7);
    assert_eq!(recorded["returns"][0]["data"]["weight"], 7, "{recorded:#}");
    let told = project.succeeds(&["test", "relay"]);
    assert!(told.contains("1 case passed, 0 failed") && !told.contains("recorded"), "{told}");

    // What is expected is another thing now.
    let mut other = recorded.clone();
    other["returns"][0]["data"]["weight"] = json!(8);
    fs::write(&case, other.to_string()).unwrap();
    let output = project.dunlin(&["test", "relay"]);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let told = shown(&output);
    assert!(told.contains("FAIL") && told.contains("expected {\"weight\":8}"), "{told}");
    project.succeeds(&["test", "relay", "--record"]);
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(&case).unwrap()).unwrap(), recorded);

    // And what is no case is told with its place.
    fs::write(&case, "{ \"event\": { \"type\": \"a\" }, \"retruns\": [] }").unwrap();
    let output = project.dunlin(&["test", "relay"]);
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    assert!(shown(&output).contains("parcels-1.event.json` is no case: unknown field `retruns`"), "{}", shown(&output));
}

/// The shop's functions, each in a language of its own, and the chain from an order to what came of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_shop_speaks_five_languages() {
    let shop = repository().join("functions/orders");
    let others = ["invoicing", "ledger", "mailer", "labels"];
    for function in others {
        let folder = shop.join(function);
        let output = command(&["build", folder.to_str().unwrap()]).env_remove("CARGO_TARGET_DIR").output().unwrap();
        assert!(output.status.success(), "{}", shown(&output));
    }
    let labels = shop.join("labels");
    let output = command(&["test", labels.to_str().unwrap(), "--no-build"]).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));

    let platform = Platform::start();
    let rust = ["orders-api", "billing", "inventory", "shipment", "order-view", "orders-query"];
    let folders: Vec<_> = rust.iter().chain(&others).map(|name| shop.join(name).display().to_string()).collect();
    let mut arguments = vec!["deploy"];
    arguments.extend(folders.iter().map(String::as_str));
    let output = platform.dunlin(&arguments);
    assert!(output.status.success(), "{}", shown(&output));
    let order = json!({ "customer": "ada", "items": [{ "sku": "tea", "quantity": 2, "price": 450 }] });
    for number in 0..3 {
        let request = http::Request::post(platform.url("/orders"))
            .header("content-type", "application/json")
            .header("idempotency-key", number.to_string())
            .body(order.to_string().into())
            .unwrap();
        assert_eq!(platform.send(request).await.status, StatusCode::ACCEPTED);
    }

    let invoices = events(&platform, "invoices", 3).await;
    let numbers: Vec<_> = invoices.iter().map(|event| event["event"]["data"]["invoice"].as_str().unwrap()).collect();
    let year = &numbers[0][..4];
    assert_eq!(numbers, [1, 2, 3].map(|number| format!("{year}-{number:06}")), "no gap");
    let posted = events(&platform, "ledger", 3).await;
    assert_eq!(posted[2]["event"]["type"], "ledger.posted");
    let mails = events(&platform, "mails", 6).await;
    assert!(mails.iter().all(|mail| mail["event"]["type"] == "mail.wanted"), "{mails:#?}");
    let labels = events(&platform, "labels", 3).await;
    assert!(labels[0]["event"]["data"].as_str().unwrap().contains("| ORDER "), "{labels:#?}");
    let revenue = platform.dunlin(&["state", "list", "function:ledger"]);
    assert!(shown(&revenue).contains("revenue"), "{}", shown(&revenue));
}

/// A handler that goes wrong in the way its event's type says.
const RUST: &str = r#"
use dunlin::{Event, Result};

#[dunlin::handler]
fn on_event(event: Event) -> Result<()> {
    match event.kind() {
        "throws" => charge(),
        "recurses" => drop(deep(1)),
        "fills" => fill(),
        _ => loop {
            std::hint::black_box(());
        },
    }
    Ok(())
}

fn charge() {
    panic!("card refused");
}

#[inline(never)]
fn deep(n: u64) -> u64 {
    std::hint::black_box(deep(std::hint::black_box(n + 1)) + n)
}

fn fill() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
"#;

const TYPESCRIPT: &str = r#"
import { handler } from "dunlin";

export default handler(async (event) => {
  if (event.type === "throws") charge();
  else if (event.type === "recurses") deep(1);
  else if (event.type === "fills") fill();
  else for (;;);
});

function charge() {
  throw new TypeError("card refused");
}

function deep(n: number): number {
  return deep(n + 1) + n;
}

function fill() {
  const all = [];
  for (;;) all.push(new Uint8Array(1 << 20).fill(1));
}
"#;

const PYTHON: &str = r#"
import dunlin
from dunlin import Event


@dunlin.handler
def on_event(event: Event) -> None:
    if event.type == "throws":
        charge()
    elif event.type == "recurses":
        deep(1)
    elif event.type == "fills":
        fill()
    while True:
        pass


def charge() -> None:
    raise ValueError("card refused")


def deep(n: int) -> int:
    return deep(n + 1) + n


def fill() -> None:
    everything = []
    while True:
        everything.append(bytearray(1 << 20))
"#;

const GO: &str = r#"package main

import (
	"context"

	"dunlin.dev/go"
)

func main() { dunlin.Consume(onEvent) }

func onEvent(ctx context.Context, event dunlin.Event[any]) error {
	switch event.Type {
	case "throws":
		charge()
	case "recurses":
		deep(1)
	case "fills":
		fill()
	}
	for {
	}
}

func charge() { panic("card refused") }

//go:noinline
func deep(n int) int { return deep(n+1) + n }

func fill() {
	var all [][]byte
	for {
		all = append(all, make([]byte, 1<<20))
	}
}
"#;

/// What goes wrong in a function comes back with its own words and its own stack, whatever the language.
#[test]
fn what_goes_wrong_is_told_in_the_functions_own_words() {
    let spins = "it computed longer than";
    let languages = [
        (
            "rust",
            "src/lib.rs",
            RUST,
            ["card refused", "call stack exhausted", "memory", spins],
            "panicked at src/lib.rs:",
        ),
        (
            "javascript",
            "src/index.ts",
            TYPESCRIPT,
            ["TypeError: card refused", "RangeError: Maximum call stack size exceeded", "memory", spins],
            "at charge (src/index.ts:",
        ),
        ("python", "app.py", PYTHON, ["ValueError: card refused", "RecursionError", "MemoryError", spins], "in charge"),
        ("go", "main.go", GO, ["panic: card refused", "call stack exhausted", "memory", spins], "main.charge"),
    ];
    let project = Project::new();
    for (language, file, source, fails, stack) in languages {
        let name = format!("wrong-{language}");
        project.make(&name, language, "topic");
        let folder = project.path(&name);
        fs::write(folder.join(file), source).unwrap();
        let manifest = folder.join("function.yaml");
        let text = fs::read_to_string(&manifest).unwrap();
        let limits = text.find("limits:").unwrap();
        fs::write(&manifest, format!("{}limits: {{ memory: 64MiB, cpu: 2s }}\n", &text[..limits])).unwrap();
        fs::remove_dir_all(folder.join("tests")).unwrap();
        for (kind, fails) in ["throws", "recurses", "fills", "spins"].into_iter().zip(fails) {
            let case = json!({ "event": { "type": kind }, "fails": fails });
            write(&folder, &format!("tests/{kind}.event.json"), &case.to_string());
        }
        let case = json!({ "event": { "type": "throws" }, "fails": stack });
        write(&folder, "tests/stack.event.json", &case.to_string());
        let told = project.succeeds(&["test", &name]);
        assert!(told.contains("5 cases passed, 0 failed"), "{told}");
    }
}

/// Says the beginning of an answer, and panics at once or when its request has ended.
const BREAKS_OFF: &str = r#"package main

import (
	"fmt"
	"io"
	"net/http"

	"dunlin.dev/go/dunlinhttp"
)

func main() {
	dunlinhttp.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "begun")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		panic("card refused")
	}))
}
"#;

/// What a handler in Go has flushed is no whole answer when it panics: a 502 while nothing of it is with the caller, and
/// broken off afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_go_has_begun_never_looks_whole() {
    let project = Project::new();
    project.make("breaks-off", "go", "http");
    fs::write(project.path("breaks-off/main.go"), BREAKS_OFF).unwrap();
    let manifest =
        "name: breaks-off\ncomponent: build/a.wasm\nbuild: { go: . }\ntriggers: [{ http: { path: /breaks-off } }]\n";
    write(&project.path("breaks-off"), "function.yaml", manifest);
    project.succeeds(&["build", "breaks-off"]);
    let platform = Platform::start();
    let output = platform.dunlin(&["deploy", project.path("breaks-off").to_str().unwrap()]);
    assert!(output.status.success(), "{}", shown(&output));

    // It panics right after the flush: either may be first on its way to the caller.
    match platform.try_send(Request::get(platform.url("/breaks-off")).body(Full::default()).unwrap()).await {
        Ok(answer) => {
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (StatusCode::BAD_GATEWAY, "error-answer"),
                "{answer:?}"
            );
        }
        Err(broken) => assert!(broken.contains("UnexpectedEof"), "{broken}"),
    }
    platform.log_with("breaks-off", "card refused").await;

    let mut caller = TcpStream::connect(platform.functions.trim_start_matches("http://")).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = "POST /breaks-off HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    caller.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut part) = (String::new(), [0; 1024]);
    while !answer.contains("begun") {
        let read = caller.read(&mut part).unwrap();
        assert!(read > 0, "{answer}");
        answer.push_str(str::from_utf8(&part[..read]).unwrap());
    }
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    caller.write_all(b"0\r\n\r\n").unwrap();
    caller.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("begun\r\n"), "it has no last chunk: {answer:?}");
}

/// What a program in JavaScript can't have here is told when it is built: what it is, where it is wanted, and what to do.
#[test]
fn javascript_that_needs_node_or_intl_is_told_what_to_do() {
    let project = Project::new();
    let folder = project.path("wants");
    write(&folder, "function.yaml", "name: wants\ncomponent: build/a.wasm\nbuild: { javascript: index.js }\n");
    let build = |source: &str| {
        write(&folder, "index.js", source);
        let output = project.dunlin(&["build", "wants"]);
        (output.status.code(), shown(&output))
    };
    let answer = "export default { fetch: () => new Response(String(wanted)) };";
    // By a package as well.
    write(&folder, "node_modules/reader/index.js", "import fs from \"fs\"; export const read = fs.readFileSync;");
    let of_node = format!(
        "import {{ read }} from \"reader\"; import zlib from \"node:zlib\"; const wanted = [read, zlib]; {answer}"
    );
    let (code, told) = build(&of_node);
    assert_eq!(code, Some(1), "{told}");
    for part in [
        "node_modules/reader/index.js:1:15",
        "`fs` is a module of Node",
        "`fs` and `node:zlib` are of Node",
        "use what the web has",
    ] {
        assert!(told.contains(part), "no `{part}`: {told}");
    }
    assert!(!told.contains("--platform"), "{told}");

    let (code, told) = build(&format!("const wanted = new Intl.NumberFormat(); {answer}"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("at index.js:1:") && told.contains("there is no `Intl` here"), "{told}");
    // Nobody knows whether it is ever called.
    let (code, told) = build(&format!("const wanted = () => new Intl.NumberFormat(); {answer}"));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("warning: `index.js` uses `Intl`"), "{told}");
}

#[test]
fn what_a_build_lacks_is_told_with_the_fix() {
    let project = Project::apart();
    write(&project.path("a"), "function.yaml", "name: a\ncomponent: build/a.wasm\nbuild: { rust: ./nowhere }\n");
    let told = shown(&project.dunlin(&["build", "a"]));
    assert!(told.contains("there is no `") && told.contains("nowhere`"), "{told}");
    write(&project.path("a"), "function.yaml", "name: a\ncomponent: build/a.wasm\nbuild: { cobol: main.cob }\n");
    let told = shown(&project.dunlin(&["build", "a"]));
    assert!(told.contains("cobol") && told.contains("function.yaml:3"), "{told}");

    // Without tools on the path.
    write(&project.path("a"), "function.yaml", "name: a\ncomponent: build/a.wasm\nbuild: { rust: . }\n");
    let output = command(&["build", "a"]).current_dir(project.0.path()).env("PATH", "/nonexistent").output().unwrap();
    assert!(
        shown(&output).contains("there is no `cargo`") && shown(&output).contains("https://rustup.rs"),
        "{}",
        shown(&output)
    );
    write(&project.path("a"), "main.c", "int main(void) { return 0; }");
    write(&project.path("a"), "function.yaml", "name: a\ncomponent: build/a.wasm\nbuild: { c: main.c }\n");
    let output = command(&["build", "a"]).current_dir(project.0.path()).env("PATH", "/nonexistent").output().unwrap();
    assert!(shown(&output).contains("there is no `python3`"), "{}", shown(&output));

    let output = project.dunlin(&["test", "a"]);
    assert!(shown(&output).contains("there is no case"), "{}", shown(&output));
    // Nobody is there to be asked.
    let output = command(&["new"]).stdin(std::process::Stdio::null()).current_dir(project.0.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
}
