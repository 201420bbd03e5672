//! The source against a real server.

#[allow(dead_code, reason = "the tests of the platform use the rest")]
#[path = "../../../tests/servers/postgres.rs"]
mod server;

use super::Postgres;
use crate::testing::{Known, TestIntake, all, data, failure, folder, rebuilt, while_running};
use dunlin_events::{
    manifest::DatabaseTrigger,
    source::{Intake, Report, Source as _},
};
use serde_json::{Value, json};
use server::{PASSWORD, Server};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tempfile::TempDir;

/// The source of a trigger of `shop`, as the server's owner.
fn source(server: &Server, mut trigger: Value) -> Postgres {
    if trigger["url"].is_null() {
        trigger["url"] = json!(server.url("postgres"));
    }
    if trigger["password"].is_null() {
        trigger["password"] = json!("DB");
    }
    if trigger["heartbeat"].is_null() {
        trigger["heartbeat"] = json!("200ms");
    }
    let trigger: DatabaseTrigger = serde_json::from_value(trigger).unwrap();
    Postgres::new(&"f".parse().unwrap(), trigger, Arc::new(Known(PASSWORD)))
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_the_same_by_snapshot_and_by_stream() {
    let server = Server::start();
    server.sql(
        r#"CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"');
        CREATE DOMAIN percent AS numeric CHECK (VALUE <= 100);
        CREATE TYPE pair AS (n int, t text);
        CREATE TABLE kinds (
            id bigint, part text, b boolean, i2 smallint, i4 integer, i8 bigint, n numeric, f4 real, f8 double precision,
            money money, t text, c char(4), v varchar(9), bytes bytea, ts timestamp, tz timestamptz, d date, tm time,
            ttz timetz, iv interval, u uuid, j json, jb jsonb, m mood, p percent, pr pair, ints int[], texts text[][],
            prs pair[], ir int4range, tr tstzrange, mr int4multirange, ip inet, net cidr, mac macaddr, bits bit varying,
            pt point, x xml, ms mood[], ps percent[], boxes box[], g integer GENERATED ALWAYS AS (1) STORED,
            PRIMARY KEY (part, id)
        );"#,
    );
    let insert = |id: u32| {
        format!(
            r#"INSERT INTO kinds VALUES ({id}, 'é"', true, -32768, 2147483647, 9223372036854775807,
            12345678901234567890.123456789000, 0.1, 'NaN', '12.50', E'a\tb\\c\n"', 'ab', 'x', '\x00ff', '2026-11-24 12:00:00.5',
            '2026-11-24 13:00:00.000001+01', '2026-11-24', '12:00:00', '12:00:00+01', '1 year 2 days 03:00:00.5',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{{"n": 1.10, "n": 2}}', '{{"b": [1, null]}}', 'it''s "ok"', 99.5, (1, 'a,"b'),
            '{{1,NULL,3}}', '{{{{a,"b,c"}},{{"NULL",NULL}}}}', ARRAY[(1,'x')::pair, NULL], '[1,5)', '[2026-01-01 00:00+00,infinity)',
            '{{[1,2),[5,6)}}', '10.0.0.1', '10.0.0.0/8', '08:00:2b:01:02:03', B'101', '(1,2)', '<a>1</a>', '{{sad}}', '{{1,2.50}}',
            '{{(1,1),(0,0);(2,2),(1,1)}}')"#
        )
    };
    server.sql(&insert(1));
    server.sql("INSERT INTO kinds (id, part, n, f8, tz, d, ir) VALUES (2, 'b', 'NaN', '-Infinity', '-infinity', 'infinity', 'empty')");
    let (_folder, intake) = folder().await;
    let source = source(&server, json!({ "tables": ["public.kinds"] }));
    while_running(&source, &intake, async {
        intake.wait_for(2).await;
        server.sql(&insert(3));
        intake.wait_for(3).await;
    })
    .await;
    let events = all(&intake).await;
    let expected: Value = serde_json::from_str(
        r#"{
            "id": 1, "part": "é\"", "b": true, "i2": -32768, "i4": 2147483647, "i8": 9223372036854775807,
            "n": "12345678901234567890.123456789000", "f4": 0.1, "f8": "NaN", "money": "$12.50", "t": "a\tb\\c\n\"",
            "c": "ab  ", "v": "x", "bytes": "AP8=", "ts": "2026-11-24T12:00:00.5", "tz": "2026-11-24T12:00:00.000001Z",
            "d": "2026-11-24", "tm": "12:00:00", "ttz": "12:00:00+01", "iv": "P1Y2DT3H0.5S",
            "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "j": { "n": 2 }, "jb": { "b": [1, null] }, "m": "it's \"ok\"",
            "p": "99.5", "pr": { "n": 1, "t": "a,\"b" }, "ints": [1, null, 3], "texts": [["a", "b,c"], ["NULL", null]],
            "prs": [{ "n": 1, "t": "x" }, null], "ir": { "lower": 1, "upper": 5, "bounds": "[)" },
            "tr": { "lower": "2026-01-01T00:00:00Z", "upper": "infinity", "bounds": "[)" },
            "mr": [{ "lower": 1, "upper": 2, "bounds": "[)" }, { "lower": 5, "upper": 6, "bounds": "[)" }],
            "ip": "10.0.0.1", "net": "10.0.0.0/8", "mac": "08:00:2b:01:02:03", "bits": "101", "pt": "(1,2)",
            "x": "<a>1</a>", "ms": ["sad"], "ps": ["1", "2.50"], "boxes": ["(1,1),(0,0)", "(2,2),(1,1)"]
        }"#,
    )
    .unwrap();
    assert_eq!(events[0]["op"], "snapshot");
    assert_eq!(events[0]["after"], expected);
    assert_eq!(events[0]["key"], json!({ "part": "é\"", "id": 1 }));
    let after = &events[1]["after"];
    assert_eq!((&after["n"], &after["f8"], &after["tz"]), (&json!("NaN"), &json!("-Infinity"), &json!("-infinity")));
    assert_eq!((&after["d"], &after["ir"], &after["t"]), (&json!("infinity"), &json!({ "empty": true }), &Value::Null));
    let mut streamed = expected;
    streamed["id"] = json!(3);
    assert_eq!(events[2]["op"], "insert");
    assert_eq!(events[2]["after"], streamed);
    let inserted = &intake.events().await[2];
    assert_eq!(inserted.kind(), "dunlin.database.insert");
    assert_eq!(inserted.subject(), Some("public.kinds"));
    assert_eq!(inserted.source(), format!("postgresql://127.0.0.1:{}/shop", server.port()));
    assert_eq!(inserted.partition_key(), Some(r#"public.kinds:["é\"","3"]"#));
    assert!(inserted.time().is_some_and(|time| time.ends_with('Z')));
    // The digits of a JSON column are the database's.
    let text = std::str::from_utf8(inserted.data().unwrap().bytes()).unwrap();
    assert!(text.contains(r#""j":{"n": 1.10, "n": 2}"#), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_have_the_images_that_the_replica_identity_allows() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, small text, big text); ALTER TABLE a ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE whole (id int PRIMARY KEY, small text, big text); ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
         ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL;
         CREATE TABLE other (id int PRIMARY KEY);",
    );
    let (_folder, intake) = folder().await;
    let trigger = json!({ "tables": ["public.a", "public.whole", "public.keyless"], "snapshot": "never" });
    let source = source(&server, trigger);
    let big = "x".repeat(5000);
    while_running(&source, &intake, async {
        eventually("no slot", async || server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "1")
            .await;
        server.sql(&format!(
            "BEGIN; INSERT INTO a VALUES (1, 's', '{big}'); INSERT INTO whole VALUES (1, 's', '{big}');
             INSERT INTO other VALUES (1); UPDATE a SET small = 't'; UPDATE whole SET small = 't'; UPDATE a SET id = 2;
             DELETE FROM a; DELETE FROM whole; INSERT INTO keyless VALUES (1), (1); COMMIT"
        ));
        server.sql("TRUNCATE a, other");
        server.sql("ALTER TABLE a ADD extra numeric DEFAULT 7; ALTER TABLE a RENAME small TO little");
        server.sql("INSERT INTO a VALUES (3, 'l', 'b', 1.50)");
        server.sql("ALTER TABLE a DROP COLUMN big; UPDATE a SET extra = NULL");
        intake.wait_for(12).await;
    })
    .await;
    let events = all(&intake).await;
    let operations: Vec<_> = events.iter().map(|event| event["op"].as_str().unwrap()).collect();
    let expected = [
        "insert", "insert", "update", "update", "update", "delete", "delete", "insert", "insert", "truncate", "insert",
        "update",
    ];
    assert_eq!(operations, expected);
    // The value out of line did not change and was not told: it is said to be so, and is not null.
    assert_eq!(events[2]["after"], json!({ "id": 1, "small": "t" }));
    assert_eq!((&events[2]["unchanged"], &events[2]["before"]), (&json!(["big"]), &Value::Null));
    // With the whole row as identity it is told as part of the old one.
    assert_eq!(events[3]["after"], json!({ "id": 1, "small": "t", "big": big }));
    assert_eq!(events[3]["before"], json!({ "id": 1, "small": "s", "big": big }));
    assert!(events[3].get("unchanged").is_none());
    assert_eq!((&events[4]["key"], &events[4]["before"]), (&json!({ "id": 2 }), &json!({ "id": 1 })));
    assert_eq!((&events[5]["key"], &events[5]["before"]), (&json!({ "id": 2 }), &json!({ "id": 2 })));
    assert_eq!((&events[6]["before"]["small"], &events[6]["after"]), (&json!("t"), &Value::Null));
    assert_eq!((&events[7]["key"], &events[7]["after"]), (&Value::Null, &json!({ "v": 1 })));
    assert_eq!((&events[9]["table"], &events[9]["key"]), (&json!("public.a"), &Value::Null));
    assert_eq!(events[10]["after"], json!({ "id": 3, "little": "l", "big": "b", "extra": "1.50" }));
    assert_eq!(events[11]["after"], json!({ "id": 3, "little": "l", "extra": null }));
    let transactions: Vec<_> = events.iter().map(|event| &event["transaction"]["lsn"]).collect();
    assert!(transactions[..9].iter().all(|lsn| *lsn == transactions[0]) && transactions[9] != transactions[0]);
    let places: Vec<_> = events[..9].iter().map(|event| event["index"].as_u64().unwrap()).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let keys: Vec<_> = intake.events().await.iter().map(|event| event.partition_key().unwrap().to_owned()).collect();
    assert_eq!((&*keys[0], &*keys[4], &*keys[7]), ("public.a:1", "public.a:2", "public.keyless"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_meets_the_stream_without_gap_while_rows_change() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL); INSERT INTO t SELECT n, 0 FROM generate_series(1, 5000) n",
    );
    let writer = |server: &Server| {
        let script = "DO $$ BEGIN FOR i IN 1..400 LOOP \
             UPDATE t SET v = v + 1 WHERE id = (random() * 5000)::int; DELETE FROM t WHERE id = (random() * 5000)::int; \
             INSERT INTO t VALUES (5000 + nextval('s'), i); COMMIT; END LOOP; END $$";
        server.psql("shop").arg("-c").arg(script).stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    server.sql("CREATE SEQUENCE s");
    let (_folder, intake) = folder().await;
    let mut begun = 0;
    let running = || intake.reports().into_iter().filter(|report| *report == Report::Running).count();
    // Broken off twice while it reads, and begun again.
    for (round, patience) in [1_000, 3_000, 0].into_iter().enumerate() {
        let source = source(&server, json!({ "tables": ["public.t"] }));
        let mut writing = writer(&server);
        let before = running();
        while_running(&source, &intake, async {
            if patience > 0 {
                intake.wait_for(begun + patience).await;
            } else {
                assert!(tokio::task::block_in_place(|| writing.wait()).unwrap().success());
                // The rows of a snapshot come after the changes before it: the last row is one only when it is done.
                eventually("the snapshot", async || running() > before).await;
                server.sql("INSERT INTO t VALUES (1000000, 1)");
                eventually("the last row", async || {
                    intake.last().await.is_some_and(|event| data(&event)["key"]["id"] == 1_000_000)
                })
                .await;
            }
        })
        .await;
        begun = intake.events().await.len() as u64;
        assert!(tokio::task::block_in_place(|| writing.wait()).unwrap().success(), "{round}");
    }
    let rows = rebuilt(&all(&intake).await, "public.t");
    let rows: BTreeMap<i64, i64> =
        rows.values().map(|row| (row["id"].as_i64().unwrap(), row["v"].as_i64().unwrap())).collect();
    let table: BTreeMap<i64, i64> = server
        .sql("SELECT id, v FROM t")
        .lines()
        .map(|line| line.split_once('|').unwrap())
        .map(|(id, v)| (id.parse().unwrap(), v.parse().unwrap()))
        .collect();
    assert_eq!(rows, table);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_columns_rows_and_operations_are_those_the_manifest_names() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE a (id int PRIMARY KEY, total int, secret text); CREATE TABLE b (id int PRIMARY KEY);
         INSERT INTO a VALUES (1, 50, 'x'), (2, 500, 'x'); INSERT INTO b VALUES (1)",
    );
    let (_folder, intake) = folder().await;
    let part = json!({ "name": "public.a", "columns": ["total", "id"], "where": "id > 1" });
    let first = source(&server, json!({ "tables": [part.clone()], "operations": ["insert", "delete"] }));
    assert_eq!(first.check().await, []);
    while_running(&first, &intake, async {
        intake.wait_for(1).await;
        server.sql("INSERT INTO a VALUES (3, 1, 'y'), (0, 1, 'y'); UPDATE a SET total = 2 WHERE id = 3; DELETE FROM a WHERE id = 3");
        intake.wait_for(3).await;
    })
    .await;
    // The slot and the memory go on with a manifest that names more; what is new is caught up with.
    let second = source(&server, json!({ "tables": [part, "public.b"], "operations": ["insert", "delete"] }));
    while_running(&second, &intake, async {
        intake.wait_for(4).await;
        server.sql("INSERT INTO b VALUES (2); INSERT INTO a VALUES (4, 1, 'y')");
        intake.wait_for(6).await;
    })
    .await;
    let events = all(&intake).await;
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            (event["op"].as_str().unwrap(), event["table"].as_str().unwrap(), event["key"]["id"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("snapshot", "public.a", 2),
            ("insert", "public.a", 3),
            ("delete", "public.a", 3),
            ("snapshot", "public.b", 1),
            ("insert", "public.b", 2),
            ("insert", "public.a", 4),
        ]
    );
    assert_eq!(events[1]["after"], json!({ "id": 3, "total": 1 }));
    assert_eq!(events[0]["after"], json!({ "id": 2, "total": 500 }));
    second.dispose().await.unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM pg_replication_slots"), "0");
    assert_eq!(server.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_can_be_one_event_and_goes_on_in_another_when_it_is_large() {
    let server = Server::start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    let (_folder, intake) = folder().await;
    let trigger = json!({ "tables": ["public.t"], "snapshot": "never", "deliver": "transactions" });
    let source = source(&server, trigger);
    while_running(&source, &intake, async {
        eventually("no slot", async || server.sql("SELECT count(*) FROM pg_replication_slots WHERE active") == "1")
            .await;
        server.sql(
            "BEGIN; INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (2, 'b'); DELETE FROM t WHERE id = 1; COMMIT",
        );
        server.sql("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(10, 1009) n");
        server.sql("INSERT INTO t VALUES (5000, 'end')");
        eventually("the end", async || {
            intake.last().await.is_some_and(|event| data(&event)["changes"][0]["key"]["id"] == 5000)
        })
        .await;
    })
    .await;
    let events = all(&intake).await;
    let first = &events[0];
    assert_eq!((&first["first"], &first["last"]), (&json!(0), &json!(true)));
    let operations: Vec<_> = first["changes"].as_array().unwrap().iter().map(|change| &change["op"]).collect();
    assert_eq!(operations, ["insert", "insert", "delete"]);
    let large = &events[1..events.len() - 1];
    assert!(large.len() >= 2, "{}", large.len());
    let mut next = 0;
    for (index, part) in large.iter().enumerate() {
        assert_eq!((part["first"].as_u64(), part["last"].as_bool()), (Some(next), Some(index + 1 == large.len())));
        assert_eq!(part["transaction"], large[0]["transaction"]);
        next += part["changes"].as_array().unwrap().len() as u64;
    }
    assert_eq!(next, 1000);
    assert_eq!(intake.events().await[0].kind(), "dunlin.database.transaction");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rows_of_an_outbox_are_the_events_they_describe() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), kind text, aggregate text, payload jsonb,
         topic text, tenant text, at timestamptz)",
    );
    let (_folder, intake) = folder().await;
    let outbox = json!({
        "table": "public.outbox", "type": "kind", "subject": "aggregate", "key": "aggregate", "topic": "topic",
        "time": "at", "extensions": ["tenant"],
    });
    let source = source(&server, json!({ "outbox": outbox }));
    assert_eq!(source.check().await, []);
    server.sql(
        "INSERT INTO outbox VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'order.created', 'order/1', '{\"total\": 5}',
         NULL, 'acme', '2026-01-01 00:00+00')",
    );
    while_running(&source, &intake, async {
        intake.wait_for(1).await;
        server.sql("INSERT INTO outbox (kind, payload, topic) VALUES ('order.paid', '1', 'allowed.payments')");
        server.sql("INSERT INTO outbox (kind, payload, topic) VALUES ('order.paid', '2', 'forbidden')");
        server.sql("INSERT INTO outbox (kind, payload) VALUES (NULL, '3')");
        // Whoever deletes what was handed over is not heard.
        server.sql("DELETE FROM outbox; INSERT INTO outbox (kind) VALUES ('empty')");
        intake.wait_for(4).await;
    })
    .await;
    let events = intake.events().await;
    let first = &events[0];
    assert_eq!((first.id(), first.kind()), ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "order.created"));
    assert_eq!((first.subject(), first.partition_key()), (Some("order/1"), Some("order/1")));
    assert_eq!((first.time(), data(first)), (Some("2026-01-01T00:00:00Z"), json!({ "total": 5 })));
    assert_eq!(first.attribute("tenant").as_deref(), Some("acme"));
    assert!(first.source().ends_with("/shop/public.outbox"), "{}", first.source());
    // What is no event, or may not go where it wants, is handed over as the change that it is.
    assert_eq!(
        (events[1].kind(), &data(&events[1])["after"]["topic"]),
        ("dunlin.database.insert", &json!("forbidden"))
    );
    assert_eq!((events[2].kind(), &data(&events[2])["after"]["payload"]), ("dunlin.database.insert", &json!(3)));
    assert_eq!((events[3].kind(), events[3].data()), ("empty", None));
    let elsewhere = intake.events_of("allowed.payments").await;
    assert_eq!((elsewhere.len(), elsewhere[0].kind()), (1, "order.paid"));
    let warnings = intake.reports().into_iter().filter(|report| matches!(report, Report::Warning(_))).count();
    assert_eq!(warnings, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_may_be_missing_are_told_and_never_passed_over() {
    let mut server = Server::start();
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let (_folder, intake) = folder().await;
    let stops = source(&server, json!({ "tables": ["public.t"] }));
    let snapshots = source(&server, json!({ "tables": ["public.t"], "snapshot": "never", "lost": "snapshot" }));
    while_running(&stops, &intake, intake.wait_for(1)).await;

    // Somebody else reads from the slot.
    server.sql("INSERT INTO t VALUES (2)");
    eventually("the slot is free", async || server.sql("SELECT active FROM pg_replication_slots") == "f").await;
    server.sql("SELECT pg_replication_slot_advance('dunlin_f', pg_current_wal_lsn())");
    let error = failure(&stops, &intake).await;
    assert!(error.message.contains("may be missing") && error.message.contains("somebody else"), "{error}");
    assert!(error.help.unwrap().contains("`lost: snapshot`"));
    while_running(&snapshots, &intake, intake.wait_for(3)).await;

    // The slot is gone, as after a failover; and made anew by somebody who means well.
    server.restart(true);
    server.sql("SELECT pg_drop_replication_slot('dunlin_f'); INSERT INTO t VALUES (3)");
    let error = failure(&stops, &intake).await;
    assert!(error.message.contains("the slot `dunlin_f` is gone"), "{error}");
    server.sql("SELECT pg_create_logical_replication_slot('dunlin_f', 'pgoutput')");
    let error = failure(&stops, &intake).await;
    assert!(error.message.contains("it was made anew"), "{error}");
    while_running(&snapshots, &intake, async {
        intake.wait_for(6).await;
        server.sql("INSERT INTO t VALUES (4)");
        intake.wait_for(7).await;
    })
    .await;

    // The database throws away what the slot needs.
    server.set(&["wal_level=logical", "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB"]);
    server.restart(false);
    server.sql("CREATE TABLE noise (t text)");
    for _ in 0..4 {
        server.sql("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000); SELECT pg_switch_wal(); CHECKPOINT");
    }
    assert_eq!(server.sql("SELECT wal_status FROM pg_replication_slots"), "lost");
    let error = failure(&stops, &intake).await;
    assert!(error.message.contains("thrown away log"), "{error}");
    while_running(&snapshots, &intake, intake.wait_for(11)).await;
    let rows: Vec<_> = all(&intake).await[7..].iter().map(|event| event["after"]["id"].clone()).collect();
    assert_eq!(rows, [1, 2, 3, 4]);
    let warned =
        intake.reports().iter().any(|report| matches!(report, Report::Warning(w) if w.contains("may be missing")));
    assert!(warned);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_table_does_not_hold_the_log_of_a_busy_database() {
    let server = Server::start();
    server.sql("CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE busy (t text)");
    let (_folder, intake) = folder().await;
    let source = source(&server, json!({ "tables": ["public.quiet"], "max_lag": "16MiB", "lost": "snapshot" }));
    while_running(&source, &intake, async {
        let confirmed = async || server.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE active");
        eventually("no slot", async || !confirmed().await.is_empty()).await;
        server.sql("INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 4000)");
        let written = server.sql("SELECT pg_current_wal_lsn()");
        eventually("the slot stays behind", async || {
            server.sql(&format!("SELECT confirmed_flush_lsn >= '{written}' FROM pg_replication_slots")) == "t"
        })
        .await;
        eventually("no figures", async || {
            let reports = intake.reports();
            ["lag_bytes", "retained_wal_bytes", "lsn", "wal_status"]
                .iter()
                .all(|wanted| reports.iter().any(|report| matches!(report, Report::Detail(name, _) if name == wanted)))
        })
        .await;
        // A transaction that doesn't end keeps the log: more than may be, and all begins anew.
        let mut open = server.psql("shop");
        let open = open.arg("-c").arg("INSERT INTO busy VALUES ('open'); SELECT pg_sleep(600)");
        let mut open = open.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        eventually("not open", async || {
            server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND backend_xid IS NOT NULL") != "0"
        })
        .await;
        server.sql("INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
        eventually("no warning", async || {
            intake.reports().iter().any(|report| matches!(report, Report::Warning(w) if w.contains("more than `max_lag`")))
        })
        .await;
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
        let _ = tokio::task::block_in_place(|| open.wait());
        server.sql("INSERT INTO quiet VALUES (1)");
        intake.wait_for(1).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_told_at_deploy_with_its_fix() {
    let mut server = Server::start();
    server.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, total int); CREATE TABLE keyless (v int); CREATE VIEW v AS SELECT 1;
         CREATE UNLOGGED TABLE fast (id int PRIMARY KEY); CREATE ROLE plain LOGIN PASSWORD 'wrong';
         CREATE ROLE repl LOGIN REPLICATION PASSWORD 'wrong'",
    );
    let check = async |trigger: Value| source(&server, trigger).check().await;
    let orders = json!(["public.orders"]);
    for (trigger, pointer, message, help) in [
        (
            json!({ "tables": orders, "password": "WRONG" }),
            "/password",
            "refuses the password of `postgres`",
            "`WRONG`",
        ),
        (json!({ "tables": orders, "password": "NONE" }), "/password", "no secret `NONE`", ""),
        (
            json!({ "tables": ["public.order"] }),
            "/tables/0",
            "no table `public.order`",
            "did you mean `public.orders`?",
        ),
        (
            json!({ "tables": ["public.orders", "public.keyless"] }),
            "/tables/1",
            "no primary key",
            "REPLICA IDENTITY FULL",
        ),
        (json!({ "tables": ["public.v"] }), "/tables/0", "is no table", ""),
        (json!({ "tables": ["public.fast"] }), "/tables/0", "unlogged", "SET LOGGED"),
        (
            json!({ "tables": [{ "name": "public.orders", "columns": ["id", "sum"] }] }),
            "/tables/0/columns/1",
            "no column `sum`",
            "`id`, `total`",
        ),
        (
            json!({ "tables": [{ "name": "public.orders", "columns": ["total"] }] }),
            "/tables/0/columns",
            "leaves out `id` of its key",
            "add it",
        ),
        (json!({ "tables": [{ "name": "public.orders", "where": "total >" }] }), "/tables/0/where", "syntax error", ""),
        (
            json!({ "tables": [{ "name": "public.orders", "where": "total > 5" }] }),
            "/tables/0/where",
            "not part of the replica identity",
            "REPLICA IDENTITY FULL",
        ),
        (json!({ "outbox": { "table": "public.orders" } }), "/outbox/type", "no column `type`", "it has `id`, `total`"),
        (
            json!({ "tables": orders, "url": server.url("plain"), "password": "WRONG", "snapshot": "never" }),
            "/tables/0",
            "`plain` does not own `public.orders`",
            "CREATE PUBLICATION",
        ),
        (
            json!({ "tables": orders, "url": server.url("postgres").replace("/shop", "/shoes") }),
            "/url",
            "the database `shoes` does not exist",
            "",
        ),
        (
            json!({ "tables": orders, "url": "postgresql://postgres@127.0.0.1:1/shop" }),
            "/url",
            "can't be reached",
            "running",
        ),
        (
            json!({ "tables": orders, "url": format!("{}?sslmode=require", server.url("postgres")) }),
            "/url",
            "the server has no TLS",
            "sslmode=disable",
        ),
    ] {
        let problems = check(trigger.clone()).await;
        let found = problems.iter().find(|problem| {
            problem.pointer == pointer
                && problem.message.contains(message)
                && problem.help.as_deref().unwrap_or_default().contains(help)
        });
        assert!(found.is_some(), "{trigger}: {problems:#?}");
    }
    assert_eq!(check(json!({ "tables": ["public.keyless"], "operations": ["insert"] })).await, []);
    server.sql("CREATE PUBLICATION theirs FOR TABLE orders; GRANT SELECT ON orders TO plain, repl");
    let named = |user: &str| json!({ "tables": ["public.orders"], "url": server.url(user), "password": "WRONG", "publication": "theirs" });
    let problems = check(named("plain")).await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("replicat"), "{problems:?}");
    assert!(problems[0].help.as_ref().unwrap().contains("ALTER ROLE \"plain\" REPLICATION"), "{problems:?}");
    // Whoever may replicate needs no more than a publication that was made for him.
    assert_eq!(check(named("repl")).await, []);
    server.set(&["wal_level=replica"]);
    server.restart(false);
    let problems = source(&server, json!({ "tables": orders })).check().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("`wal_level = replica`"), "{problems:?}");
    assert!(problems[0].help.as_ref().unwrap().contains("ALTER SYSTEM SET wal_level = logical"), "{problems:?}");
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
    let mut server = Server::start();
    let (certificate, key) =
        (server.file("server.crt", &certificate.pem()), server.file("server.key", &key.serialize_pem()));
    let settings = [
        "wal_level=logical".to_owned(),
        "ssl=on".into(),
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    server.set(&settings.each_ref().map(String::as_str));
    server.restart(false);
    server.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let folder = TempDir::new().unwrap();
    let roots = folder.path().join("ca.pem");
    std::fs::write(&roots, authority_pem).unwrap();
    let url = |host: &str, mode: &str, roots: &str| {
        let url = server.url("postgres").replace("127.0.0.1", host);
        json!({ "tables": ["public.t"], "url": format!("{url}?sslmode={mode}{roots}") })
    };
    let ours = format!("&sslrootcert={}", roots.display());
    for (trigger, expected) in [
        (url("localhost", "verify-full", &ours), None),
        (url("127.0.0.1", "verify-full", &ours), Some("certificate")),
        (url("127.0.0.1", "verify-ca", &ours), None),
        (url("localhost", "verify-ca", ""), Some("certificate")),
        (url("localhost", "require", ""), None),
        (url("localhost", "verify-full", "&sslrootcert=/nowhere"), Some("`/nowhere` can't be read")),
    ] {
        let problems = source(&server, trigger.clone()).check().await;
        match expected {
            None => assert_eq!(problems, [], "{trigger}"),
            Some(message) => {
                assert!(problems.iter().any(|problem| problem.message.contains(message)), "{trigger}: {problems:?}");
            }
        }
    }
    // The stream, too, is encrypted.
    let intake = TestIntake::open(folder.path()).await;
    let source = source(&server, url("localhost", "verify-full", &ours));
    while_running(&source, &intake, async {
        intake.wait_for(1).await;
        server.sql("INSERT INTO t VALUES (2)");
        intake.wait_for(2).await;
        let plain = server.sql("SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'dunlin' AND NOT s.ssl");
        assert_eq!(plain, "0");
    })
    .await;
    assert_eq!(intake.topic().as_str(), "t");
}
