//! A PostgreSQL server of a test's own: on loopback, on a free port, in a folder that goes with it. Both the tests of
//! `triggers` and those of the platform have this file as a module.
//!
//! It is Debian's PostgreSQL 15. That refuses to run as root, so as root it runs as the user `postgres`.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The password of the server's owner, `postgres`.
pub(crate) const PASSWORD: &str = "p'ss \\word é";

/// A running server. Dropping it ends it as a crash would.
pub(crate) struct Server {
    child: Child,
    port: u16,
    settings: Vec<String>,
    folder: TempDir,
}

impl Server {
    /// A server that can tell changes, with the database `shop`.
    pub(crate) fn start() -> Self {
        Self::start_with(&["wal_level=logical"])
    }

    /// A server with these settings beside those of every test.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let password = folder.path().join("password");
        fs::create_dir(&data).unwrap();
        fs::write(&password, PASSWORD).unwrap();
        for path in [folder.path(), &data] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        if let Some((user, group)) = owner() {
            for path in [folder.path(), &data, &password] {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
        let output = program("initdb")
            .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data)
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let child = spawn(&data, port, &settings);
        let mut server = Self { child, port, settings, folder };
        server.ready();
        server.sql_in("postgres", "CREATE DATABASE shop");
        server
    }

    /// A file for the server to read, which must be its own.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = owner() {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        path
    }

    /// The address of `shop` for a user.
    pub(crate) fn url(&self, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/shop", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL in `shop` as the server's owner. Answers what it answers, a line for each row.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_in("shop", sql)
    }

    pub(crate) fn sql_in(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs SQL that may fail.
    pub(crate) fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(database).arg("-c").arg(sql).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// A `psql` as the server's owner.
    pub(crate) fn psql(&self, database: &str) -> Command {
        let mut command = program("psql");
        command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]);
        command.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string()]);
        command
    }

    /// One of PostgreSQL's programs, connected as the server's owner.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = program(name);
        command.arg("-h").arg(self.folder.path()).args(["-p", &self.port.to_string(), "-U", "postgres"]);
        command
    }

    /// Stops the server, in order or as a crash does, and starts it again.
    pub(crate) fn restart(&mut self, crash: bool) {
        self.stop(crash);
        self.child = spawn(&self.folder.path().join("data"), self.port, &self.settings);
        self.ready();
    }

    /// Changes the settings for the next start.
    pub(crate) fn set(&mut self, settings: &[&str]) {
        self.settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
    }

    pub(crate) fn stop(&mut self, crash: bool) {
        // INT ends sessions and stops in order; QUIT stops at once, and the next start recovers.
        let signal = if crash { "-QUIT" } else { "-INT" };
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "the database doesn't stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ready(&mut self) {
        let start = Instant::now();
        while let Err(error) = self.try_sql("postgres", "SELECT 1") {
            assert!(self.child.try_wait().unwrap().is_none(), "the database ended: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "the database does not start: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("data/log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the database's log:\n{}", self.log());
        }
    }
}

fn spawn(data: &Path, port: u16, settings: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(data.join("log")).unwrap();
    let mut command = program("postgres");
    command.arg("-D").arg(data).arg("-k").arg(data.parent().unwrap()).args(["-p", &port.to_string()]);
    // Slots are noticed to be free sooner, and nothing waits for a disk: what is tested is the other side.
    for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=50", "shared_buffers=32MB"] {
        command.args(["-c", setting]);
    }
    for setting in settings {
        command.args(["-c", setting]);
    }
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// One of PostgreSQL's programs, as a user it accepts.
fn program(name: &str) -> Command {
    let debian = Path::new("/usr/lib/postgresql/15/bin").join(name);
    let path = if debian.is_file() { debian } else { PathBuf::from(name) };
    let mut command = match owner() {
        Some(_) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
            command
        }
        None => Command::new(path),
    };
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    command.current_dir("/");
    command
}

/// Whom the server's files must belong to, where that is not who runs the tests.
fn owner() -> Option<(u32, u32)> {
    let id = |argument: &[&str]| -> u32 {
        let output = Command::new("id").args(argument).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}
