//! `dunlin doctor`: looks at what tends to be wrong, and names the fix.

use crate::{
    build::first_line,
    client::{CallError, Client, ServerArgs, empty},
    output::{GREEN, PLAIN, RED, YELLOW, count, print, print_json},
    report::Exit,
};
use clap::Args;
use dunlin_gateway::api::{FunctionList, Health};
use dunlin_store::{OpenError, Store};
use http::{Method, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// Check the platform, this machine and the tools that build functions.
///
/// The exit code is 1 when a check fails; warnings are none.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The folder `dunlin up` keeps its data in.
    #[arg(long, value_name = "DIR", env = "DUNLIN_DATA", default_value = ".dunlin")]
    data: PathBuf,
    /// Where `dunlin up` serves functions.
    #[arg(long, value_name = "ADDR", env = "DUNLIN_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was seen.
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), fix: Some(fix.into()) }
    }
}

pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let mut checks = platform(&client).await;
    let runs = checks[0].verdict == Verdict::Ok;
    checks.push(port(args.listen, runs));
    checks.push(data_folder(&args.data));
    checks.extend(database(&args.data));
    checks.extend(open_files());
    checks.extend(toolchain().await);
    if args.json {
        print_json(&checks)?;
    } else {
        print(written(&checks))?;
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { Exit::Failed.into() } else { ExitCode::SUCCESS })
}

fn written(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let lines = checks.iter().map(|Check { name, verdict, found, fix }| {
        let (colour, word) = match verdict {
            Verdict::Ok => (GREEN, "ok  "),
            Verdict::Warn => (YELLOW, "warn"),
            Verdict::Fail => (RED, "fail"),
        };
        let fix = fix.as_ref().map(|fix| format!("\n      {:width$}  fix: {fix}", "")).unwrap_or_default();
        format!("{colour}{word}{PLAIN}  {name:width$}  {found}{fix}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a platform answers, is of this version, takes the token, and has the same time.
async fn platform(client: &Client) -> Vec<Check> {
    let begun = SystemTime::now();
    let (health, date) = match health(client).await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = "start it with `dunlin up`, or name another with `--server` or `DUNLIN_SERVER`";
            return vec![Check::fail("platform", format!("{error:#}"), fix)];
        }
    };
    let mut checks = vec![Check::ok("platform", format!("answers at {}", client.server()))];
    let mine = env!("CARGO_PKG_VERSION");
    checks.push(if health.version == mine {
        Check::ok("version", format!("{mine}, here and there"))
    } else {
        let found = format!("this is dunlin {mine}, the platform is {}", health.version);
        Check::warn("version", found, "use the `dunlin` of the platform's version")
    });
    checks.push(match client.get::<FunctionList>("/api/functions").await {
        Ok(list) => Check::ok("access", format!("{} deployed", count(list.functions.len() as u64, "function"))),
        Err(CallError::Problem(problem)) => {
            let found = problem.detail.unwrap_or(problem.title);
            Check::fail("access", found, "give the platform's token with `DUNLIN_TOKEN` or `--token`")
        }
        Err(CallError::Failed(error)) => Check::fail("access", format!("{error:#}"), "look at the platform's log"),
    });
    checks.push(clock(date.as_deref(), begun));
    checks
}

async fn health(client: &Client) -> anyhow::Result<(Health, Option<String>)> {
    let request = client.request(Method::GET, "/health").body(empty())?;
    let answer = async {
        let (head, body) = client.send(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::ensure!(head.status.is_success(), "it answers `{}`", head.status);
        let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let health = serde_json::from_slice(&body);
        Ok((health.map_err(|_| anyhow::anyhow!("something else than Dunlin answers at {}", client.server()))?, date))
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await?
}

/// Tokens, certificates and log times need clocks that agree.
fn clock(date: Option<&str>, now: SystemTime) -> Check {
    let Some(theirs) = date.and_then(http_date) else {
        return Check::warn("clock", "the platform tells no time", "is a proxy in between that drops `Date`?");
    };
    let apart = match theirs.duration_since(now) {
        Ok(apart) => apart,
        Err(error) => error.duration(),
    };
    if apart < Duration::from_secs(5) {
        Check::ok("clock", "within 5 seconds of the platform's")
    } else {
        let found = format!("{} seconds from the platform's", apart.as_secs());
        Check::warn("clock", found, "set both clocks by NTP")
    }
}

/// A time as `Date` has it (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    let mut words = text.strip_suffix(" GMT")?.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|known| *known == month)? + 1;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

/// Whether `dunlin up` could serve there, or does.
fn port(address: SocketAddr, platform_runs: bool) -> Check {
    match TcpListener::bind(address) {
        Ok(_) if platform_runs && address.port() != 0 => {
            Check::ok("port", format!("{address} is free: the platform serves functions somewhere else"))
        }
        Ok(_) => Check::ok("port", format!("{address} is free")),
        Err(_) if platform_runs => {
            Check::ok("port", format!("{address} is in use, as it is when the platform serves there"))
        }
        Err(error) => Check::fail(
            "port",
            format!("{address} can't be had: {error}"),
            "end what uses it, or start with `--listen` and another",
        ),
    }
}

/// Whether the data can be written, and whether others can read it.
fn data_folder(path: &Path) -> Check {
    let name = "data";
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return Check::fail(name, format!("`{shown}` is no folder"), "name another with `--data`"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::ok(name, format!("`{shown}` is not there yet: `dunlin up` makes it"));
        }
        Err(error) => return Check::fail(name, format!("`{shown}`: {error}"), "let `dunlin` read it"),
    };
    // A file is the only honest test: permissions, read-only mounts, full disks and quotas all show in it.
    let probe = path.join(format!(".doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, [0; 4096]);
    let _ = std::fs::remove_file(&probe);
    if let Err(error) = written {
        return Check::fail(
            name,
            format!("`{shown}` can't be written: {error}"),
            "make room, or give the folder to the user who runs `dunlin`",
        );
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Check::warn(
                name,
                format!("others on this machine can read `{shown}`"),
                format!("chmod 700 {shown}"),
            );
        }
    }
    let _ = metadata;
    Check::ok(name, format!("`{shown}` can be written"))
}

/// Whether what the platform keeps is whole. A platform that runs has found so itself, as far as it has read.
fn database(path: &Path) -> Option<Check> {
    let name = "database";
    match Store::examine(path) {
        Ok(false) => None,
        Ok(true) => Some(Check::ok(name, "every page of it can be read")),
        Err(OpenError::InUse { .. }) => {
            Some(Check::ok(name, "a platform has it open; stop that to have all of it read"))
        }
        Err(error) => {
            let folder = path.display();
            let fix = format!(
                "don't write to it: copy `{folder}` away, then put a backup in its place, or what `sqlite3 dunlin.db .recover` saves of it"
            );
            Some(Check::fail(name, error.to_string(), fix))
        }
    }
}

/// Every connection is an open file. What counts is the hard limit: `dunlin up` raises the other one to it.
fn open_files() -> Option<Check> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    let hard: u64 = line.split_whitespace().nth(4)?.parse().ok()?;
    Some(if hard >= 12_000 {
        Check::ok("open files", format!("{hard} at once"))
    } else {
        Check::warn(
            "open files",
            format!("{hard} at once, and every connection is one"),
            "`ulimit -Hn 65536` as root, or `LimitNOFILE=` of the service",
        )
    })
}

/// Whether the tools are there that functions are built with, for those languages whose tools `dunlin build` doesn't install.
async fn toolchain() -> Vec<Check> {
    let Some(version) = first_line("rustc", &["--version"]).await else {
        return [
            vec![Check::warn("rust", "there is no `rustc`", "for functions in Rust: https://rustup.rs")],
            others().await,
        ]
        .concat();
    };
    let mut checks = vec![Check::ok("rust", version)];
    for target in ["wasm32-wasip2", "wasm32-wasip1"] {
        let folder = first_line("rustc", &["--print", "target-libdir", "--target", target]).await;
        checks.push(if folder.is_some_and(|folder| Path::new(&folder).is_dir()) {
            Check::ok(target, "installed")
        } else {
            Check::warn(target, "not installed", format!("rustup target add {target}"))
        });
    }
    checks.extend(others().await);
    checks
}

/// Python installs what is missing of the others' tools.
async fn others() -> Vec<Check> {
    let python =
        first_line("python3", &["-c", "import ensurepip, venv, sys; print('Python', sys.version.split()[0])"]).await;
    let mut checks = vec![match &python {
        Some(version) => Check::ok("python", version),
        None => Check::warn(
            "python",
            "there is no `python3` with `venv`",
            "for functions in Python and C, and for tools that are missing: `apt install python3-venv`, or python.org",
        ),
    }];
    for (name, program, argument, languages) in
        [("node", "npm", "--version", "JavaScript and TypeScript"), ("go", "go", "version", "Go")]
    {
        checks.push(match (first_line(program, &[argument]).await, &python) {
            (Some(version), _) => Check::ok(name, format!("{program} {}", version.trim_start_matches("go version "))),
            (None, Some(_)) => {
                Check::ok(name, format!("there is no `{program}`: `dunlin build` installs one by Python"))
            }
            (None, None) => Check::warn(
                name,
                format!("there is no `{program}`"),
                format!("for functions in {languages}: install it, or Python"),
            ),
        });
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn dates_are_read() {
        let time = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(time, UNIX_EPOCH + Duration::from_secs(784_111_777));
        assert_eq!(clock(Some("Sun, 06 Nov 1994 08:49:37 GMT"), time).verdict, Verdict::Ok);
        let late = clock(Some("Sun, 06 Nov 1994 08:49:37 GMT"), time + Duration::from_secs(3600));
        assert_eq!((late.verdict, late.found.as_str()), (Verdict::Warn, "3600 seconds from the platform's"));
        assert_eq!(clock(Some("yesterday"), time).verdict, Verdict::Warn);
    }

    #[test]
    fn a_port_in_use_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port(address, false).verdict, Verdict::Fail);
        assert_eq!(port(address, true).verdict, Verdict::Ok);
    }

    #[test]
    fn a_data_folder_that_is_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(data_folder(&file).verdict, Verdict::Fail);
        assert_eq!(data_folder(&folder.path().join("none")).verdict, Verdict::Ok);
        #[cfg(unix)]
        for (mode, verdict) in [(0o700, Verdict::Ok), (0o755, Verdict::Warn)] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.path(), permissions).unwrap();
            assert_eq!(data_folder(folder.path()).verdict, verdict, "{mode:o}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_damaged_database_is_told_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(database(folder.path()).is_none());
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(database(folder.path()).unwrap().verdict, Verdict::Ok, "it is in use");
        drop(store);
        assert_eq!(database(folder.path()).unwrap().verdict, Verdict::Ok);
        let file = folder.path().join("dunlin.db");
        let mut bytes = std::fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[4096..end - 100].fill(0xaa);
        std::fs::write(&file, &bytes).unwrap();
        let check = database(folder.path()).unwrap();
        assert_eq!(check.verdict, Verdict::Fail);
        assert!(check.found.contains("damaged") && check.fix.unwrap().contains(".recover"), "{}", check.found);
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }

    #[test]
    fn every_line_has_its_fix() {
        let checks = [Check::ok("a", "fine"), Check::warn("longer", "odd", "do this")];
        let text = anstream::adapter::strip_str(&written(&checks)).to_string();
        assert_eq!(text, "ok    a       fine\nwarn  longer  odd\n              fix: do this");
    }
}
