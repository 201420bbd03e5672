//! The source against a real server.

#[path = "../../../tests/servers/mariadb.rs"]
#[allow(dead_code, reason = "the platform's tests use another part of it")]
mod server;

use super::Mysql;
use crate::testing::{Known, TestIntake, all, data, failure, folder, rebuilt, while_running};
use dunlin_events::{manifest::DatabaseTrigger, source::Report};
use serde_json::{Value, json};
use server::{MariaDb, PASSWORD, SETTINGS};
use std::{sync::Arc, time::Duration};

fn source(server: &MariaDb, mut trigger: Value) -> Mysql {
    for (key, value) in [("url", server.url()), ("password", "DB".to_owned())] {
        if trigger[key].is_null() {
            trigger[key] = json!(value);
        }
    }
    let trigger: DatabaseTrigger = serde_json::from_value(trigger).unwrap();
    Mysql::new(&"f".parse().unwrap(), trigger, Arc::new(Known(PASSWORD)))
}

/// Waits until the source has come to the end of the log.
async fn caught_up(intake: &TestIntake) {
    let lag = Report::Detail("lag_seconds", json!(0));
    let begun = std::time::Instant::now();
    while !intake.reports().contains(&lag) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", intake.reports());
        tokio::time::sleep(Duration::from_millis(10)).await;
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
    let compressed = ["--log-bin=bin", "--binlog-format=ROW", "--server-id=1", "--log-bin-compress"];
    for settings in [&SETTINGS[..], &compressed[..]] {
        let server = MariaDb::start_with(settings);
        server.sql(&format!("SET sql_mode = ''; {TYPES}; {}", types_row("1")));
        let (_folder, intake) = folder().await;
        let source = source(&server, json!({ "tables": ["shop.types"] }));
        while_running(&source, &intake, async {
            intake.wait_for(1).await;
            let row = types_row("18446744073709551615");
            server.sql(&format!("SET sql_mode = ''; {row} UPDATE shop.types SET nul = 5 WHERE id = 1"));
            intake.wait_for(3).await;
        })
        .await;
        let events = all(&intake).await;
        let kinds: Vec<_> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["snapshot", "insert", "update"]);
        let expected: Value = serde_json::from_str(
            r#"{
            "id": 1, "t": -128, "tu": 255, "s": -32768, "su": 65535, "m": -8388608, "mu": 16777215, "i": -2147483648,
            "iu": 4294967295, "b": -9223372036854775808, "bu": 18446744073709551615,
            "d": "-12345678901234567890123456789012345.000000000000000000000000000001", "dn": "-1234567890",
            "f": 3.1415927, "db": 2.718281828459045, "bit1": 1, "bit64": 18446744073709551615, "y": 2026, "da": "2026-02-28",
            "zd": "0000-00-00", "dt": "1000-01-01T23:59:59.999999", "zdt": "0000-00-00T00:00:00",
            "ts": "2026-01-02T01:04:05.123Z", "zts": "0000-00-00T00:00:00Z", "tm": "838:59:59", "tn": "-100:59:59.07",
            "c": "ab", "cb": "wörld", "bin": "AQIAAAAA", "vb": "/wA=", "v": "naïve 🦀 \"q\"\n", "l1": "€ä", "u2": "ж",
            "u32": "🦀", "sj": "テスト", "k8": "Привет", "tt": "t", "tx": "text", "mt": "medium", "lt": "long", "tb": "AA==",
            "bl": "AP8=", "mb": "AQ==", "lb": "", "j": { "n": 12345678901234567890.123456789012345678901, "a": [1, null] },
            "e": "d'e", "en": "ß", "st": ["x", "z"],
            "g": { "srid": 4326, "wkb": "AQEAAAAAAAAAAADwPwAAAAAAAABA" }, "p": { "srid": 0, "wkb": "AQEAAAAAAAAAAAAIQAAAAAAAABBA" },
            "uu": "123e4567-e89b-12d3-a456-426655440000", "i4": "10.0.0.1", "i6": "2001:db8::1",
            "vg": -2147483647, "sg": -2147483646, "inv": 7, "nul": null
        }"#,
        )
        .unwrap();
        assert_eq!(events[0]["after"], expected);
        let mut inserted = events[1]["after"].clone();
        assert_eq!(inserted["id"], u64::MAX);
        inserted["id"] = json!(1);
        assert_eq!(inserted, expected);
        assert_eq!(events[2]["before"], expected);
        let mut updated = events[2]["after"].clone();
        assert_eq!(updated["nul"], 5);
        updated["nul"] = Value::Null;
        assert_eq!(updated, expected);
        let raw = String::from_utf8(intake.events().await[0].data().unwrap().bytes().to_vec()).unwrap();
        assert!(raw.contains("12345678901234567890.123456789012345678901"), "a JSON number keeps its digits: {raw}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_come_in_the_order_of_commits_with_what_is_known_of_them() {
    let server = MariaDb::start();
    server.sql(
        "CREATE TABLE shop.orders (a INT, b VARCHAR(20), total DECIMAL(10,2), secret TEXT, PRIMARY KEY (b, a));
         CREATE TABLE shop.other (id INT PRIMARY KEY); CREATE TABLE shop.`odd.``name` (id INT UNIQUE NOT NULL);
         INSERT INTO shop.orders VALUES (1, 'x', 1, 's'), (2, 'y', 2, 's')",
    );
    let (_folder, intake) = folder().await;
    let tables = json!([{ "name": "shop.orders", "columns": ["a", "b", "total"] }, "shop.\"odd.`name\""]);
    let source = source(&server, json!({ "tables": tables }));
    while_running(&source, &intake, async {
        caught_up(&intake).await;
        server.sql(
            "USE shop; BEGIN; INSERT INTO orders VALUES (3, 'z', 3.5, 's'); INSERT INTO other VALUES (1);
             UPDATE orders SET total = 9 WHERE a < 3; SAVEPOINT s; DELETE FROM orders; ROLLBACK TO s; COMMIT;
             BEGIN; INSERT INTO orders VALUES (4, 'never', 0, ''); ROLLBACK;
             UPDATE orders SET a = 30 WHERE a = 3; DELETE FROM orders WHERE a = 1;
             INSERT INTO `odd.``name` VALUES (7); /* why */ TRUNCATE -- it
             TABLE `odd.``name`; TRUNCATE other;
             XA START 'one'; INSERT INTO orders VALUES (5, 'xa', 5, ''); XA END 'one'; XA PREPARE 'one'",
        );
        server.sql(
            "USE shop; XA START 'two'; INSERT INTO orders VALUES (6, 'xa', 6, ''); XA END 'two'; XA PREPARE 'two'",
        );
        server.sql("USE shop; XA ROLLBACK 'two'; XA COMMIT 'one'; INSERT INTO orders VALUES (8, 'last', 8, '')");
        intake.wait_for(11).await;
    })
    .await;
    let events = all(&intake).await;
    let row = |a: u32, b: &str, total: &str| json!({ "a": a, "b": b, "total": total });
    let key = |a: u32, b: &str| json!({ "b": b, "a": a });
    let null = Value::Null;
    let expected = [
        ("snapshot", key(1, "x"), null.clone(), row(1, "x", "1.00")),
        ("snapshot", key(2, "y"), null.clone(), row(2, "y", "2.00")),
        ("insert", key(3, "z"), null.clone(), row(3, "z", "3.50")),
        ("update", key(1, "x"), row(1, "x", "1.00"), row(1, "x", "9.00")),
        ("update", key(2, "y"), row(2, "y", "2.00"), row(2, "y", "9.00")),
        ("update", key(30, "z"), row(3, "z", "3.50"), row(30, "z", "3.50")),
        ("delete", key(1, "x"), row(1, "x", "9.00"), null.clone()),
        ("insert", json!({ "id": 7 }), null.clone(), json!({ "id": 7 })),
        ("truncate", null.clone(), null.clone(), null.clone()),
        ("insert", key(5, "xa"), null.clone(), row(5, "xa", "5.00")),
        ("insert", key(8, "last"), null.clone(), row(8, "last", "8.00")),
    ];
    for (event, (operation, key, before, after)) in events.iter().zip(&expected) {
        assert_eq!(
            (&event["op"], &event["key"], &event["before"], &event["after"]),
            (&json!(operation), key, before, after),
            "{event:#}"
        );
    }
    let transaction = |index: usize| events[index]["transaction"]["id"].as_str().unwrap().to_owned();
    assert!(transaction(2) == transaction(4) && transaction(4) != transaction(5), "{events:#?}");
    assert!(transaction(2).starts_with("0-1-"), "{events:#?}");
    assert_eq!([&events[2]["index"], &events[4]["index"], &events[5]["index"]], [0, 2, 0]);
    let made = intake.events().await;
    assert_eq!(made[4].kind(), "dunlin.database.update");
    assert_eq!(made[4].partition_key(), Some(r#"shop.orders:["y","2"]"#));
    assert_eq!(made[8].subject(), Some(r#"shop."odd.`name""#));
    assert!(made[4].time().is_some() && made[4].source().starts_with("mariadb://127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_have_the_columns_of_their_time() {
    let server = MariaDb::start();
    server.sql("CREATE TABLE shop.t (id INT PRIMARY KEY, a INT); INSERT INTO shop.t VALUES (1, 1)");
    let (_folder, intake) = folder().await;
    let made = source(&server, json!({ "tables": ["shop.t"], "lost": "snapshot" }));
    while_running(&made, &intake, caught_up(&intake)).await;
    // Nobody reads while the table is altered again and again.
    server.sql(
        "USE shop; INSERT INTO t VALUES (2, 2); ALTER TABLE t RENAME COLUMN a TO b; INSERT INTO t VALUES (3, 3);
         ALTER TABLE t MODIFY b ENUM('x', 'y', '3', '2', '1') CHARACTER SET latin1; INSERT INTO t VALUES (4, 'y');
         ALTER TABLE t ADD u BIGINT UNSIGNED FIRST; INSERT INTO t VALUES (18446744073709551615, 5, 'x');
         ALTER TABLE t DROP b, ADD j JSON; INSERT INTO t VALUES (1, 6, '[1]')",
    );
    while_running(&made, &intake, intake.wait_for(6)).await;
    let rows: Vec<_> = all(&intake).await.into_iter().map(|event| event["after"].clone()).collect();
    let expected = [
        json!({ "id": 1, "a": 1 }),
        json!({ "id": 2, "a": 2 }),
        json!({ "id": 3, "b": 3 }),
        json!({ "id": 4, "b": "y" }),
        json!({ "u": u64::MAX, "id": 5, "b": "x" }),
        json!({ "u": 1, "id": 6, "j": [1] }),
    ];
    assert_eq!(rows, expected);

    // A log that does not name columns: they are asked for whenever they may have changed.
    server.sql("SET GLOBAL binlog_row_metadata = NO_LOG");
    while_running(&made, &intake, async {
        server.sql("USE shop; INSERT INTO t VALUES (2, 7, '{}')");
        intake.wait_for(7).await;
        server
            .sql("USE shop; ALTER TABLE t RENAME COLUMN u TO v; INSERT INTO t VALUES (18446744073709551614, 8, '{}')");
        intake.wait_for(8).await;
    })
    .await;
    assert_eq!(all(&intake).await[7]["after"], json!({ "v": u64::MAX - 1, "id": 8, "j": {} }));
    server.sql("USE shop; INSERT INTO t VALUES (3, 9, '{}'); ALTER TABLE t DROP v");
    let error = failure(&made, &intake).await.to_string();
    assert!(error.contains("does not say what its columns were") && error.contains("binlog_row_metadata"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_after_it_broke_off_and_meets_the_log_without_gap() {
    let server = MariaDb::start();
    server.sql(
        "USE shop; CREATE TABLE a (x VARCHAR(20) COLLATE utf8mb4_general_ci, y DATETIME, n INT, PRIMARY KEY (x, y));
         CREATE TABLE b (e ENUM('q', 'w') NOT NULL, f INT, n INT, PRIMARY KEY (e, f));
         INSERT INTO a SELECT CONCAT('Ä', seq), '2026-01-01', 0 FROM seq_1_to_4000;
         INSERT INTO b SELECT 'q', seq, 0 FROM seq_1_to_2500; INSERT INTO b SELECT 'w', seq, 0 FROM seq_1_to_500",
    );
    let (_folder, intake) = folder().await;
    let trigger = json!({ "tables": ["shop.a", "shop.b"] });
    let change = |n: u32| {
        server.sql(&format!(
            "USE shop; UPDATE a SET n = {n} WHERE x LIKE '%7%'; DELETE FROM a WHERE x LIKE '%{n}3'; UPDATE b SET n = {n};
             INSERT INTO a VALUES ('new {n}', '2026-02-02', {n}); DELETE FROM b WHERE f = {n}; UPDATE a SET y = y + INTERVAL 1 DAY WHERE x LIKE '%99%'",
        ))
    };
    // Once in the first table, once in the second, which can't be gone on with from the middle.
    for (n, until) in [(1, 1_000), (2, 3_000), (3, 9_000)] {
        while_running(&source(&server, trigger.clone()), &intake, intake.wait_for(until)).await;
        change(n);
    }
    let made = source(&server, trigger);
    while_running(&made, &intake, async {
        change(4);
        server.sql("INSERT INTO shop.a VALUES ('end', '2026-03-03', 0)");
        while intake.last().await.is_none_or(|event| data(&event)["key"]["x"] != "end") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let events = all(&intake).await;
    for (table, columns) in [("shop.a", "x, y, n"), ("shop.b", "e, f, n")] {
        let rows = rebuilt(&events, table);
        let mut told: Vec<_> = rows
            .values()
            .map(|row| {
                let row: Vec<_> = row.as_object().unwrap().values().collect();
                row.iter()
                    .map(|value| value.as_str().map_or(value.to_string(), |s| s.replace('T', " ")))
                    .collect::<Vec<_>>()
                    .join("\t")
            })
            .collect();
        let mut there: Vec<_> =
            server.sql(&format!("SELECT {columns} FROM {table}")).lines().map(|line| line.replace('T', " ")).collect();
        told.sort();
        there.sort();
        assert_eq!(told, there, "{table}");
        let snapshot: Vec<_> =
            events.iter().filter(|event| event["op"] == "snapshot" && event["table"] == table).collect();
        let keys: std::collections::HashSet<_> = snapshot.iter().map(|event| event["key"].to_string()).collect();
        assert_eq!(keys.len(), snapshot.len(), "a row of a snapshot comes once");
    }
    // A table that comes later is caught up with, and the others are not read again.
    server.sql("CREATE TABLE shop.c (id INT PRIMARY KEY); INSERT INTO shop.c VALUES (1), (2)");
    let before = events.len() as u64;
    let made = source(&server, json!({ "tables": ["shop.a", "shop.b", "shop.c"] }));
    while_running(&made, &intake, async {
        intake.wait_for(before + 2).await;
        server.sql("INSERT INTO shop.c VALUES (3)");
        intake.wait_for(before + 3).await;
    })
    .await;
    let late: Vec<_> = all(&intake).await.split_off(events.len()).iter().map(|event| event["op"].clone()).collect();
    assert_eq!(late, ["snapshot", "snapshot", "insert"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_can_be_one_event_and_goes_on_in_another_when_it_is_large() {
    let server = MariaDb::start();
    server.sql("CREATE TABLE shop.t (id INT PRIMARY KEY, v TEXT)");
    let (_folder, intake) = folder().await;
    let made = source(&server, json!({ "tables": ["shop.t"], "deliver": "transactions", "snapshot": "never" }));
    while_running(&made, &intake, async {
        caught_up(&intake).await;
        server.sql("USE shop; BEGIN; INSERT INTO t VALUES (1, 'a'), (2, 'b'); DELETE FROM t WHERE id = 1; COMMIT");
        server.sql("INSERT INTO shop.t SELECT seq, REPEAT('x', 1000) FROM shop.seq_10_to_1009");
        intake.wait_for(4).await;
    })
    .await;
    let events = all(&intake).await;
    let operations: Vec<_> = events[0]["changes"].as_array().unwrap().iter().map(|change| &change["op"]).collect();
    assert_eq!(operations, ["insert", "insert", "delete"]);
    assert_eq!((&events[0]["first"], &events[0]["last"]), (&json!(0), &json!(true)));
    let mut expected = 0;
    for event in &events[1..] {
        assert_eq!(event["first"], expected);
        expected += event["changes"].as_array().unwrap().len();
        assert_eq!(event["last"], expected == 1_000);
    }
    assert_eq!(
        expected,
        1_000,
        "{:?}",
        intake.events().await.iter().map(|event| (event.id().to_owned(), event.size())).collect::<Vec<_>>()
    );
    assert_eq!(intake.events().await[1].kind(), "dunlin.database.transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_may_be_missing_are_told_and_never_passed_over() {
    let server = MariaDb::start();
    server.sql("CREATE TABLE shop.t (id INT PRIMARY KEY); INSERT INTO shop.t VALUES (1)");
    let (_folder, intake) = folder().await;
    let stop = source(&server, json!({ "tables": ["shop.t"] }));
    let snapshot = source(&server, json!({ "tables": ["shop.t"], "lost": "snapshot" }));
    while_running(&stop, &intake, intake.wait_for(1)).await;
    let ways = [
        // The log is thrown away.
        ("INSERT INTO shop.t VALUES (2); FLUSH BINARY LOGS", "bin.000002"),
        // It begins anew, and is shorter than it was.
        ("RESET MASTER", "bin.000001"),
        // It begins anew, and has something else at the same place.
        ("RESET MASTER; SET gtid_domain_id = 7; INSERT INTO shop.t SELECT seq FROM shop.seq_100_to_900", "bin.000001"),
    ];
    for (way, file) in ways {
        let before = intake.events().await.len() as u64;
        // A log that is being read is not thrown away.
        let readers = || server.sql("SELECT id FROM information_schema.PROCESSLIST WHERE COMMAND = 'Binlog Dump'");
        readers().lines().for_each(|thread| drop(server.sql(&format!("KILL {thread}"))));
        while !readers().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.sql(way);
        server.purge(file);
        let error = failure(&stop, &intake).await.to_string();
        assert!(error.contains("may be missing") && error.contains("lost: snapshot"), "{way}: {error}");
        let rows: u64 = server.sql("SELECT COUNT(*) FROM shop.t").parse().unwrap();
        while_running(&snapshot, &intake, intake.wait_for(before + rows)).await;
        let told = |report: &Report| matches!(report, Report::Warning(text) if text.contains("may be missing"));
        assert!(intake.reports().iter().any(told), "{:?}", intake.reports());
        let events = all(&intake).await;
        assert_eq!(events.len() as u64, before + rows, "{way}");
        assert!(events[before as usize..].iter().all(|event| event["op"] == "snapshot"), "{events:#?}");
        // From there on it goes on as ever, also with `lost: stop`.
        while_running(&stop, &intake, async {
            server.sql(&format!("INSERT INTO shop.t VALUES ({})", 1_000 + before));
            intake.wait_for(before + rows + 1).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_an_outbox_are_the_events_they_describe() {
    let server = MariaDb::start();
    server.sql(
        "CREATE TABLE shop.outbox (id UUID PRIMARY KEY DEFAULT UUID(), type VARCHAR(50), payload JSON, customer VARCHAR(20));
         INSERT INTO shop.outbox VALUES ('123e4567-e89b-12d3-a456-426655440000', 'order.placed', '{\"n\": 1}', 'c1')",
    );
    let (_folder, intake) = folder().await;
    let outbox = json!({ "table": "shop.outbox", "key": "customer", "subject": "customer" });
    let made = source(&server, json!({ "outbox": outbox }));
    while_running(&made, &intake, async {
        intake.wait_for(1).await;
        server.sql(
            "INSERT INTO shop.outbox VALUES (DEFAULT, 'order.paid', '{\"n\": 2}', 'c2'); DELETE FROM shop.outbox;
             INSERT INTO shop.outbox VALUES (DEFAULT, NULL, '{\"n\": 3}', 'c3')",
        );
        intake.wait_for(3).await;
    })
    .await;
    let events = intake.events().await;
    assert_eq!((events[0].id(), events[0].kind()), ("123e4567-e89b-12d3-a456-426655440000", "order.placed"));
    assert_eq!(
        (events[1].kind(), events[1].partition_key(), events[1].subject()),
        ("order.paid", Some("c2"), Some("c2"))
    );
    assert_eq!(data(&events[1]), json!({ "n": 2 }));
    // What is no event is not passed over.
    assert_eq!(data(&events[2])["after"]["payload"], json!({ "n": 3 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_work_is_told_with_its_fix() {
    let server = MariaDb::start();
    server.sql(
        "USE shop; CREATE TABLE orders (id INT PRIMARY KEY, total INT, old VARCHAR(9) CHARACTER SET armscii8);
         CREATE TABLE keyless (a INT); CREATE TABLE loose (a INT PRIMARY KEY) ENGINE = Aria; CREATE TABLE `Upper` (a INT PRIMARY KEY);
         CREATE USER poor@'127.0.0.1' IDENTIFIED BY 'wrong'; GRANT SELECT ON shop.* TO poor@'127.0.0.1';
         CREATE USER blind@'127.0.0.1' IDENTIFIED BY 'wrong'; GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO blind@'127.0.0.1';
         GRANT SELECT ON shop.keyless TO blind@'127.0.0.1'",
    );
    let url = server.url();
    let as_user = |user: &str| url.replace("dunlin@", &format!("{user}@"));
    let part = |columns: Value| json!([{ "name": "shop.orders", "columns": columns }]);
    let cases = [
        (
            json!({ "tables": ["shop.orders"], "password": "WRONG" }),
            "/password",
            "refuses `dunlin`",
            "the secret `WRONG`",
        ),
        (json!({ "tables": ["shop.orders"], "password": "NONE" }), "/password", "no secret `NONE`", ""),
        (
            json!({ "tables": ["shop.orders"], "url": url.replace("/shop", "/shpo") }),
            "/url",
            "`shpo` can't be used",
            "see its name",
        ),
        (
            json!({ "tables": ["shop.orders"], "url": "mariadb://dunlin@127.0.0.1:1/shop" }),
            "/url",
            "`127.0.0.1:1` can't be reached",
            "see that the server runs",
        ),
        (
            json!({ "tables": part(json!(["id"])), "url": as_user("poor"), "password": "WRONG" }),
            "/url",
            "lacks `REPLICATION SLAVE`",
            "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO poor",
        ),
        (
            json!({ "tables": part(json!(["id"])), "url": as_user("blind"), "password": "WRONG" }),
            "/tables/0",
            "no table `shop.orders`, or `blind` may not read it",
            "GRANT SELECT ON `shop`.`orders` TO blind",
        ),
        (json!({ "tables": ["shop.order"] }), "/tables/0", "no table `shop.order`", "did you mean `shop.orders`?"),
        (json!({ "tables": ["shop.keyless"] }), "/tables/0", "has no key", "ADD PRIMARY KEY"),
        (json!({ "tables": ["shop.loose"] }), "/tables/0", "is kept by Aria", "ENGINE = InnoDB"),
        (json!({ "tables": ["shop.orders"] }), "/tables/0", "armscii8", "list the `columns` without it"),
        (
            json!({ "tables": part(json!(["id", "totl"])) }),
            "/tables/0/columns/1",
            "no column `totl`",
            "did you mean `total`?",
        ),
        (
            json!({ "tables": part(json!(["total"])) }),
            "/tables/0/columns",
            "the key's column `id` is not among them",
            "add `id`",
        ),
        (
            json!({ "tables": [{ "name": "shop.orders", "columns": ["id"], "where": "id > 1" }] }),
            "/tables/0/where",
            "narrowed",
            "`filter`",
        ),
        (json!({ "tables": part(json!(["id"])), "server_id": 1 }), "/server_id", "is the number of", "choose one"),
    ];
    for (trigger, pointer, message, help) in cases {
        let problems = source(&server, trigger.clone()).check().await;
        let found = problems.iter().any(|problem| {
            problem.pointer == pointer
                && problem.message.contains(message)
                && problem.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found, "{trigger}: {problems:#?}");
    }
    for (setting, value, back) in [("binlog_format", "MIXED", "ROW"), ("binlog_row_image", "MINIMAL", "FULL")] {
        server.sql(&format!("SET GLOBAL {setting} = {value}"));
        let problems = source(&server, json!({ "tables": part(json!(["id"])) })).check().await;
        server.sql(&format!("SET GLOBAL {setting} = {back}"));
        assert!(problems[0].message.contains(&format!("`{setting}` is {value}")), "{problems:#?}");
        assert!(
            problems[0].help.as_ref().unwrap().contains(&format!("SET GLOBAL {setting} = {back}")),
            "{problems:#?}"
        );
    }
    let problems = source(&server, json!({ "tables": part(json!(["id"])) })).check().await;
    assert_eq!(problems, [], "and what can work is not refused");
    let silent = MariaDb::start_with(&["--server-id=1"]);
    silent.sql("CREATE TABLE shop.orders (id INT PRIMARY KEY)");
    let problems = source(&silent, json!({ "tables": ["shop.orders"] })).check().await;
    assert!(problems[0].message.contains("`log_bin` is off"), "{problems:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_as_far_as_sslmode_says() {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    let mut server = MariaDb::start();
    server.sql("CREATE TABLE shop.t (id INT PRIMARY KEY)");
    let ours = server.file("ca.pem", &authority_pem);
    let other =
        server.file("other.pem", &rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap().cert.pem());
    let refused =
        source(&server, json!({ "tables": ["shop.t"], "url": server.url() + "?sslmode=require" })).check().await;
    assert!(refused[0].message.contains("offers no TLS"), "never in clear when TLS was asked for: {refused:#?}");
    let (certificate, key) =
        (server.file("server.crt", &certificate.pem()), server.file("server.key", &key.serialize_pem()));
    server.restart_with(&[format!("--ssl-cert={}", certificate.display()), format!("--ssl-key={}", key.display())]);
    server.sql("ALTER USER dunlin@'127.0.0.1' REQUIRE SSL");
    let (ours, other) = (format!("&sslrootcert={}", ours.display()), format!("&sslrootcert={}", other.display()));
    for (host, mode, roots, expected) in [
        ("localhost", "verify-full", &*ours, None),
        ("127.0.0.1", "verify-full", &ours, Some("certificate")),
        ("127.0.0.1", "verify-ca", &ours, Some("`sslmode=verify-ca`")),
        ("localhost", "verify-full", &other, Some("certificate")),
        ("localhost", "verify-full", "", Some("certificate")),
        ("127.0.0.1", "require", "", None),
        ("127.0.0.1", "disable", "", Some("refuses")),
        ("localhost", "verify-full", "&sslrootcert=/nowhere.pem", Some("/nowhere.pem")),
    ] {
        let url = format!("{}?sslmode={mode}{roots}", server.url().replace("127.0.0.1", host));
        let problems = source(&server, json!({ "tables": ["shop.t"], "url": url })).check().await;
        match expected {
            None => assert_eq!(problems, [], "{url}"),
            Some(part) => assert!(problems[0].message.contains(part), "{url}: {problems:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_taken_once_never_or_always() {
    let server = MariaDb::start();
    server.sql("CREATE TABLE shop.t (id INT PRIMARY KEY, v INT); INSERT INTO shop.t VALUES (1, 1), (2, 2)");
    for (snapshot, first, second) in [("initial", 2, 0), ("never", 0, 0), ("always", 2, 2)] {
        let (_folder, intake) = folder().await;
        let trigger = json!({ "tables": ["shop.t"], "snapshot": snapshot, "operations": ["update"] });
        let made = source(&server, trigger.clone());
        while_running(&made, &intake, caught_up(&intake)).await;
        assert_eq!(all(&intake).await.len(), first, "{snapshot}");
        // A deploy, or a start of the platform.
        let made = source(&server, trigger);
        server.sql("UPDATE shop.t SET v = v + 1 WHERE id = 1; INSERT INTO shop.t VALUES (3, 3); DELETE FROM shop.t WHERE id = 3");
        while_running(&made, &intake, intake.wait_for((first + 1 + second) as u64)).await;
        let operations: Vec<_> = all(&intake).await.split_off(first).iter().map(|event| event["op"].clone()).collect();
        let expected = ["update"].into_iter().chain(std::iter::repeat_n("snapshot", second));
        assert!(operations.iter().eq(expected.clone()), "{snapshot}: {operations:?}");
    }
}
