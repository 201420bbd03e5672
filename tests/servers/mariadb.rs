//! A MariaDB server of a test's own: on loopback, on a free port, in a folder that goes with it. Both the tests of `triggers`
//! and those of the platform have this file as a module.
//!
//! It is Debian's MariaDB 10.11. As root it runs as the user `mysql`.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The password of the account `dunlin`.
pub(crate) const PASSWORD: &str = "p'ss \\word é";

/// A MariaDB server of the test's own, with the database `shop` and the account `dunlin`.
pub(crate) struct MariaDb {
    folder: TempDir,
    // Several threads of a test may talk to the server while one ends it.
    child: Mutex<Child>,
    port: u16,
    settings: Vec<String>,
}

/// What a feed needs, as in the documentation.
pub(crate) const SETTINGS: [&str; 4] =
    ["--log-bin=bin", "--binlog-format=ROW", "--binlog-row-metadata=FULL", "--server-id=1"];

impl MariaDb {
    pub(crate) fn start() -> Self {
        Self::start_with(&SETTINGS)
    }

    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        // The server runs as another user, when the test is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copied = Command::new("cp").arg("-a").arg(template()).arg(folder.path().join("data")).status().unwrap();
        assert!(copied.success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        let child = spawn(folder.path(), port, &settings);
        let server = Self { folder, child: Mutex::new(child), port, settings };
        server.wait();
        server.sql(&format!(
            "CREATE DATABASE shop; CREATE USER dunlin@'127.0.0.1' IDENTIFIED BY '{}';
             GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO dunlin@'127.0.0.1';
             GRANT SELECT ON shop.* TO dunlin@'127.0.0.1';",
            PASSWORD.replace('\\', "\\\\").replace('\'', "''")
        ));
        server
    }

    fn wait(&self) {
        let start = Instant::now();
        while !self.client("").status.success() {
            assert!(start.elapsed() < PATIENCE, "{}", fs::read_to_string(self.folder.path().join("log")).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as a power cut would, and starts it again.
    pub(crate) fn crash(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        *child = spawn(self.folder.path(), self.port, &self.settings);
        drop(child);
        self.wait();
    }

    fn client(&self, sql: &str) -> Output {
        let socket = self.folder.path().join("data/socket");
        let mut client = Command::new("mariadb")
            .args(["--no-defaults", "-uroot", "-N", "-B", "--raw", "--default-character-set=utf8mb4", "-S"])
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = client.stdin.take().unwrap().write_all(sql.as_bytes());
        client.wait_with_output().unwrap()
    }

    /// Runs statements, as far as that goes.
    pub(crate) fn try_sql(&self, sql: &str) {
        let _ = self.client(sql);
    }

    /// Runs statements, which must go well.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.client(sql);
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Throws its log away, up to a file. It does so as soon as it no longer needs it itself.
    pub(crate) fn purge(&self, to: &str) {
        let start = Instant::now();
        while !self.sql("SHOW BINARY LOGS").starts_with(to) {
            assert!(start.elapsed() < PATIENCE, "{}", self.sql("SHOW BINARY LOGS; SHOW PROCESSLIST"));
            self.sql(&format!("PURGE BINARY LOGS TO '{to}'"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again with these settings on top.
    pub(crate) fn restart_with(&mut self, settings: &[String]) {
        self.settings.extend_from_slice(settings);
        self.crash();
    }

    /// A file for the server to read.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }

    pub(crate) fn url(&self) -> String {
        format!("mariadb://dunlin@127.0.0.1:{}/shop", self.port)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

fn spawn(folder: &Path, port: u16, settings: &[String]) -> Child {
    let data = folder.join("data");
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    // Debian has it where only root looks.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut server = Command::new("mariadbd");
    server.env("PATH", path);
    server.args([
        "--no-defaults",
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        "--sync-binlog=1",
        "--skip-name-resolve",
    ]);
    if is_root() {
        server.arg("--user=mysql");
    }
    server.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", data.join("socket").display()));
    // What lies about there is thrown away when one starts, whosever it is.
    server.arg(format!("--tmpdir={}", data.display()));
    server.arg(format!("--pid-file={}", data.join("pid").display())).arg(format!("--port={port}")).args(settings);
    server.stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// The data of a server that was never started: making it takes seconds, copying it none.
fn template() -> PathBuf {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    let folder = TEMPLATE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let mut install = Command::new("mariadb-install-db");
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--innodb-log-file-size=16M"]).arg(format!("--datadir={}", data.display()));
        if is_root() {
            assert!(Command::new("chown").arg("mysql").arg(&data).status().unwrap().success());
            install.arg("--user=mysql");
        }
        let output = install.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    });
    folder.path().join("data")
}
