//! The database trigger on a real MariaDB: every change is an event, once, whatever is killed.

use crate::harness::{Platform, guest, shown, write_function};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "pass'word";

/// A MariaDB server of the test's own, with the database `shop` and the account `dunlin`.
struct MariaDb {
    folder: TempDir,
    child: Child,
    port: u16,
    settings: Vec<String>,
}

/// What a feed needs, as in the documentation.
const SETTINGS: [&str; 4] = ["--log-bin=bin", "--binlog-format=ROW", "--binlog-row-metadata=FULL", "--server-id=1"];

impl MariaDb {
    fn start() -> Self {
        Self::start_with(&SETTINGS)
    }

    fn start_with(settings: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        // The server runs as another user, when the test is root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copied = Command::new("cp").arg("-a").arg(template()).arg(folder.path().join("data")).status().unwrap();
        assert!(copied.success());
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
        let child = spawn(folder.path(), port, &settings);
        let server = Self { folder, child, port, settings };
        server.wait();
        server.sql(&format!(
            "CREATE DATABASE shop; CREATE USER dunlin@'127.0.0.1' IDENTIFIED BY '{}';
             GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO dunlin@'127.0.0.1';
             GRANT SELECT ON shop.* TO dunlin@'127.0.0.1';",
            PASSWORD.replace('\'', "''")
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
    fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.folder.path(), self.port, &self.settings);
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

    /// Runs statements, which must go well.
    fn sql(&self, sql: &str) -> String {
        let output = self.client(sql);
        assert!(output.status.success(), "{sql}\n{}", shown(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn url(&self) -> String {
        format!("mariadb://dunlin@127.0.0.1:{}/shop", self.port)
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

fn spawn(folder: &Path, port: u16, settings: &[String]) -> Child {
    let data = folder.join("data");
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut server = Command::new("mariadbd");
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
        assert!(output.status.success(), "{}", shown(&output));
        folder
    });
    folder.path().join("data")
}

/// A manifest whose trigger has more on top of the server and its password. Its function runs for none of the events: they
/// are what is looked at here.
fn fed_by(server: &MariaDb, more: Value) -> Value {
    let mut trigger = json!({ "url": server.url(), "password": "SHOP_DB" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "triggers": [
        { "database": trigger },
        { "topic": { "name": "feed.database", "filter": "event.type == 'none'" } },
    ] })
}

/// A platform that knows the password.
fn platform(data: &Path) -> Platform {
    let mut command = Command::new(crate::harness::dunlin());
    command.args(crate::harness::arguments_of_up(data)).env("DUNLIN_SECRET_SHOP_DB", PASSWORD);
    Platform::start_command(data, &mut command)
}

impl Platform {
    fn feed(&self, manifest: Value) {
        self.deploy("feed", &guest("upper"), manifest);
    }

    /// The trigger, once this holds of it.
    async fn trigger_once(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let list = self.admin(Method::GET, "/api/triggers", Value::Null).await.json();
            let trigger = &list["triggers"][0];
            if holds(trigger) {
                return trigger.clone();
            }
            assert!(start.elapsed() < PATIENCE, "{trigger:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn running(&self) {
        self.trigger_once(|trigger| trigger["state"] == "running" && trigger["details"]["lag_seconds"] == 0).await;
    }
}

/// Every type there is, at its edges.
const TYPES: &str = "CREATE TABLE shop.types (
    id BIGINT UNSIGNED PRIMARY KEY, t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, su SMALLINT UNSIGNED, m MEDIUMINT,
    mu MEDIUMINT UNSIGNED, i INT, iu INT UNSIGNED, b BIGINT, bu BIGINT UNSIGNED, d DECIMAL(65,30), dn DECIMAL(10,0),
    f FLOAT, db DOUBLE, bit1 BIT(1), bit64 BIT(64), y YEAR, da DATE, zd DATE, dt DATETIME(6), zdt DATETIME, ts TIMESTAMP(3) NULL,
    zts TIMESTAMP NULL, tm TIME, tn TIME(2), c CHAR(10), cb CHAR(255) CHARACTER SET utf8mb4, bin BINARY(6), vb VARBINARY(300),
    v VARCHAR(300), l1 VARCHAR(20) CHARACTER SET latin1, u2 VARCHAR(20) CHARACTER SET ucs2, u32 VARCHAR(20) CHARACTER SET utf32,
    sj VARCHAR(20) CHARACTER SET sjis, k8 VARCHAR(20) CHARACTER SET koi8r,
    tt TINYTEXT, tx TEXT, mt MEDIUMTEXT, lt LONGTEXT, tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB,
    j JSON, e ENUM('a','b,c','d''e') CHARACTER SET latin1, en ENUM('é','ß'), st SET('x','y','z'), g GEOMETRY, p POINT,
    uu UUID, i4 INET4, i6 INET6, vg INT AS (i + 1) VIRTUAL, sg INT AS (i + 2) STORED, inv INT INVISIBLE DEFAULT 7, nul INT
) CHARACTER SET utf8mb4";

fn types_row(id: &str) -> String {
    format!(
        "SET time_zone = '+02:00'; INSERT INTO shop.types (id,t,tu,s,su,m,mu,i,iu,b,bu,d,dn,f,db,bit1,bit64,y,da,zd,dt,zdt,ts,zts,tm,tn,
         c,cb,bin,vb,v,l1,u2,u32,sj,k8,tt,tx,mt,lt,tb,bl,mb,lb,j,e,en,st,g,p,uu,i4,i6) VALUES
         ({id},-128,255,-32768,65535,-8388608,16777215,-2147483648,4294967295,-9223372036854775808,18446744073709551615,
         -12345678901234567890123456789012345.000000000000000000000000000001,-1234567890,3.1415927,2.718281828459045,1,
         18446744073709551615,2026,'2026-02-28','0000-00-00','1000-01-01 23:59:59.999999','0000-00-00 00:00:00',
         '2026-01-02 03:04:05.123','0000-00-00 00:00:00','838:59:59','-100:59:59.07','ab','wörld',x'010200000000',x'ff00',
         'naïve 🦀 \"q\"\\n','€ä','ж','🦀','テスト','Привет','t','text','medium','long',x'00',x'00ff',x'01',x'',
         '{{\"n\": 12345678901234567890.123456789012345678901, \"a\": [1, null]}}','d''e','ß','x,z',
         ST_GeomFromText('POINT(1 2)', 4326), ST_GeomFromText('POINT(3 4)'),
         '123e4567-e89b-12d3-a456-426655440000','10.0.0.1','2001:db8::1');"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_reads_the_same_from_a_snapshot_and_from_the_log() {
    for settings in [&SETTINGS[..], &["--log-bin=bin", "--binlog-format=ROW", "--server-id=1", "--log-bin-compress"][..]] {
        let server = MariaDb::start_with(settings);
        server.sql(&format!("SET sql_mode = ''; {TYPES}; {}", types_row("1")));
        let folder = TempDir::new().unwrap();
        let platform = platform(folder.path());
        platform.feed(fed_by(&server, json!({ "tables": ["shop.types"] })));
        platform.events_once("feed.database", 1).await;
        server.sql(&format!("SET sql_mode = ''; {} UPDATE shop.types SET nul = 5 WHERE id = 1", types_row("18446744073709551615")));
        let events = platform.events_once("feed.database", 3).await;
        let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["dunlin.database.snapshot", "dunlin.database.insert", "dunlin.database.update"]);
        let expected = json!({
            "id": 1, "t": -128, "tu": 255, "s": -32768, "su": 65535, "m": -8388608, "mu": 16777215, "i": -2147483648_i64,
            "iu": 4294967295_u32, "b": i64::MIN, "bu": u64::MAX,
            "d": "-12345678901234567890123456789012345.000000000000000000000000000001", "dn": "-1234567890",
            "f": 3.1415927, "db": 2.718281828459045, "bit1": 1, "bit64": u64::MAX, "y": 2026, "da": "2026-02-28",
            "zd": "0000-00-00", "dt": "1000-01-01T23:59:59.999999", "zdt": "0000-00-00T00:00:00",
            "ts": "2026-01-02T01:04:05.123Z", "zts": "0000-00-00T00:00:00Z", "tm": "838:59:59", "tn": "-100:59:59.07",
            "c": "ab", "cb": "wörld", "bin": "AQIAAAAA", "vb": "/wA=", "v": "naïve 🦀 \"q\"\n", "l1": "€ä", "u2": "ж",
            "u32": "🦀", "sj": "テスト", "k8": "Привет", "tt": "t", "tx": "text", "mt": "medium", "lt": "long", "tb": "AA==",
            "bl": "AP8=", "mb": "AQ==", "lb": "", "j": { "n": 12345678901234567890.123456789012345678901, "a": [1, null] },
            "e": "d'e", "en": "ß", "st": ["x", "z"],
            "g": { "srid": 4326, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA" }, "p": { "srid": 0, "wkb": "AQEAAAAAAAAAAAAIQAAAAAAAABBA" },
            "uu": "123e4567-e89b-12d3-a456-426655440000", "i4": "10.0.0.1", "i6": "2001:db8::1",
            "vg": -2147483647, "sg": -2147483646, "inv": 7, "nul": null,
        });
        let after = |event: &Value| event["data"]["after"].clone();
        assert_eq!(after(&events[0]), expected);
        let mut inserted = after(&events[1]);
        assert_eq!(inserted["id"], u64::MAX);
        inserted["id"] = json!(1);
        assert_eq!(inserted, expected);
        assert_eq!(events[2]["data"]["before"], expected);
        let mut updated = after(&events[2]);
        assert_eq!(updated["nul"], 5);
        updated["nul"] = Value::Null;
        assert_eq!(updated, expected);
    }
}
