//! Functions that run for the changes of a PostgreSQL database, which each test starts for itself.

#[allow(dead_code, reason = "the tests of the source use the rest")]
#[path = "../servers/postgres.rs"]
mod server;

use crate::harness::{Platform, Random, guest, shown, write_function};
use http::Method;
use serde_json::{Value, json};
use server::{PASSWORD, Server};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A platform that knows the database's password as the secret `DB`.
fn start(data: &Path) -> Platform {
    Platform::start_knowing(data, &[("DB", PASSWORD)])
}

fn trigger(server: &Server, more: Value) -> Value {
    let mut trigger = json!({ "url": server.url("postgres"), "password": "DB", "heartbeat": "500ms" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "triggers": [{ "database": trigger }], "publish": "offers" })
}

/// `pgbench` with a script of our own, until it is stopped.
fn load(server: &Server, script: &Path, rate: &str) -> Child {
    let mut command = server.program("pgbench");
    command.args(["-n", "-c", "3", "-j", "1", "-T", "3600", "-R", rate, "-f"]).arg(script).arg("shop");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[tokio::test]
async fn a_function_runs_for_what_the_database_has_committed() {
    let server = Server::start();
    server.sql(
        "CREATE TABLE products (id bigint PRIMARY KEY, name text NOT NULL, price bigint NOT NULL);
         ALTER TABLE products REPLICA IDENTITY FULL; INSERT INTO products VALUES (7, 'tea', 300), (8, 'milk', 100)",
    );
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    let manifest =
        trigger(&server, json!({ "tables": ["public.products"], "operations": ["update"], "snapshot": "never" }));
    platform.deploy("price-watch", &guest("price_watch"), manifest);
    let begun = Instant::now();
    while server.sql("SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = 'dunlin_price_watch'")
        != "1"
    {
        assert!(begun.elapsed() < PATIENCE, "no slot");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.sql("BEGIN; UPDATE products SET price = 1; ROLLBACK");
    server.sql("UPDATE products SET price = price + 1 WHERE id = 8; UPDATE products SET price = 250 WHERE id = 7");
    let offers = platform.events_once("offers", 1).await;
    assert_eq!(offers[0]["data"], json!({ "name": "tea", "from": 300, "to": 250 }));
    assert_eq!(offers[0]["partitionkey"], "public.products:7");
    let changes = platform.events("price-watch.database").await;
    assert_eq!(changes.len(), 2, "{changes:#?}");

    let begun = Instant::now();
    loop {
        let output = shown(&platform.dunlin(&["triggers", "price-watch"]));
        if ["running", "lag_bytes", "retained_wal_bytes", "wal_status"].iter().all(|part| output.contains(part)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{output}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let output = platform.dunlin(&["remove", "price-watch", "--dispose", "--yes"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(server.sql("SELECT count(*) FROM pg_replication_slots"), "0");
    assert_eq!(server.sql("SELECT count(*) FROM pg_publication"), "0");
}

#[tokio::test]
async fn a_deploy_that_the_database_refuses_says_where_and_what_to_do() {
    let server = Server::start();
    server.sql("CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE keyless (v int)");
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    for (more, expected) in [
        (json!({ "tables": ["public.order"] }), vec!["no table `public.order`", "did you mean `public.orders`?"]),
        (json!({ "tables": ["public.keyless"] }), vec!["has no primary key", "REPLICA IDENTITY FULL"]),
        (json!({ "tables": ["public.orders"], "password": "OTHER" }), vec!["no secret `OTHER`"]),
        (
            json!({ "tables": ["public.orders"], "url": "postgresql://postgres:hunter2@127.0.0.1/shop" }),
            vec!["holds a password", "password: DB_PASSWORD"],
        ),
    ] {
        let function = folder.path().join("f");
        write_function(&function, "f", &guest("price_watch"), trigger(&server, more));
        let output = platform.dunlin(&["deploy", function.to_str().unwrap()]);
        let said = shown(&output);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("function.yaml:1:"), "{said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
    }
    assert_eq!(server.sql("SELECT count(*) FROM pg_replication_slots"), "0", "a refused deploy leaves nothing");
    assert_eq!(server.sql("SELECT count(*) FROM pg_publication"), "0", "a refused deploy leaves nothing");
}

/// Writes what the load does: a new row, a counter of one of fifty rows, and now and then a row less or many at once.
fn script(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("load.sql");
    fs::write(
        &path,
        "\\set k random(1, 50)\n\\set d random(1, 400)\n\\set many random(1, 100) / 99 * 200 + 1\n\
         BEGIN;\nINSERT INTO log (v) SELECT repeat('x', :k) FROM generate_series(1, :many);\n\
         UPDATE counters SET n = n + 1 WHERE id = :k;\nDELETE FROM log WHERE id = :d;\nCOMMIT;\n",
    )
    .unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path
}

const TABLES: &str = "CREATE TABLE log (id bigserial PRIMARY KEY, v text NOT NULL);
    CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL); INSERT INTO counters SELECT n, 0 FROM generate_series(1, 50) n;
    INSERT INTO log (v) SELECT 'old' FROM generate_series(1, 200)";

/// Stops the load, and waits until what it has begun has ended in the database too.
async fn calm(loading: Child, server: &Server) {
    end(loading);
    let begun = Instant::now();
    while server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") != "0" {
        assert!(begun.elapsed() < PATIENCE, "the load does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the row that is written now, after everything else, is in the topic; and answers with all its events. A
/// snapshot that was broken off again and again has to end first: the changes before it come before its rows.
async fn up_to_now(platform: &Platform, server: &Server) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let triggers = platform.admin(Method::GET, "/api/triggers", Value::Null).await.json();
        if triggers["triggers"][0]["state"] == "running" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not run: {triggers:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let last: i64 = server.sql("INSERT INTO log (v) VALUES ('last') RETURNING id").parse().unwrap();
    let begun = Instant::now();
    let (mut events, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/api/topics/changes.database/events?from={from}&limit=10000");
        let page = platform.admin(Method::GET, &path, Value::Null).await.json();
        events.extend(page["events"].as_array().unwrap().iter().map(|stored| stored["event"].clone()));
        from = page["next"].as_u64().unwrap();
        if events.iter().rev().any(|event| event["data"]["table"] == "public.log" && event["data"]["key"]["id"] == last)
        {
            return events;
        }
        if begun.elapsed() > PATIENCE {
            let triggers = platform.admin(Method::GET, "/api/triggers", Value::Null).await.json();
            panic!("row {last} does not come after {} events: {triggers:#}", events.len());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The tables as the events have them are the tables as they are; no change is there twice, and those of a row are in order.
fn compare(events: &[Value], server: &Server) {
    let mut tables = BTreeMap::<_, BTreeMap<i64, String>>::new();
    let mut counted = BTreeMap::<i64, i64>::new();
    let (mut inserted, mut deleted, mut ids) = (HashSet::new(), HashSet::new(), HashSet::new());
    for event in events {
        assert!(ids.insert(event["id"].as_str().unwrap()), "twice: {event:#}");
        let data = &event["data"];
        let (table, key) = (data["table"].as_str().unwrap(), data["key"]["id"].as_i64().unwrap());
        let after = &data["after"];
        let row = if after["n"].is_null() {
            after["v"].as_str().unwrap_or_default().to_owned()
        } else {
            after["n"].to_string()
        };
        match data["op"].as_str().unwrap() {
            "delete" => {
                assert!(deleted.insert((table, key)), "deleted twice: {event:#}");
                tables.entry(table).or_default().remove(&key);
            }
            "insert" => {
                assert!(inserted.insert((table, key)), "inserted twice: {event:#}");
                tables.entry(table).or_default().insert(key, row);
            }
            "update" => {
                let n = after["n"].as_i64().unwrap();
                let before = counted.insert(key, n).unwrap_or(n - 1);
                assert_eq!(n, before + 1, "one is missing, or out of order: {event:#}");
                tables.entry(table).or_default().insert(key, row);
            }
            _ => {
                if let Some(n) = after["n"].as_i64() {
                    assert!(
                        counted.insert(key, n).is_none_or(|before| before == n),
                        "a snapshot out of order: {event:#}"
                    );
                }
                tables.entry(table).or_default().insert(key, row);
            }
        }
    }
    for (table, sql) in [("public.log", "SELECT id, v FROM log"), ("public.counters", "SELECT id, n FROM counters")] {
        let rows: BTreeMap<i64, String> = server
            .sql(sql)
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(id, row)| (id.parse().unwrap(), row.to_owned()))
            .collect();
        let ours = &tables[table];
        let missing: Vec<_> = rows.keys().filter(|id| !ours.contains_key(id)).collect();
        let extra: Vec<_> = ours.keys().filter(|id| !rows.contains_key(id)).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{table}: missing {missing:?}, too many {extra:?}");
        let differs = rows.iter().find(|(id, row)| ours.get(id) != Some(row));
        assert!(
            differs.is_none(),
            "{table}: {differs:?} in the table, {:?} by its events",
            differs.map(|(id, _)| ours.get(id))
        );
    }
}

#[tokio::test]
async fn killed_a_hundred_times_while_the_database_changes() {
    const KILLS: u32 = 100;
    let server = Server::start();
    server.sql(TABLES);
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = start(&data);
    let tables = json!({ "tables": ["public.log", "public.counters"] });
    platform.deploy("changes", &guest("price_watch"), trigger(&server, tables));
    let loading = load(&server, &script(folder.path()), "100");
    let mut random = Random::default();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.below(200))).await;
        platform.signal("KILL");
        platform.wait();
        platform = start(&data);
    }
    calm(loading, &server).await;
    let events = up_to_now(&platform, &server).await;
    compare(&events, &server);
    assert!(events.len() > 1_000, "it did too little to show anything: {} events", events.len());
}

/// Half a minute in the tests; `DUNLIN_LOAD_SECONDS=300` for longer.
#[tokio::test]
async fn tables_and_events_agree_after_restarts_of_both_sides_under_load() {
    let seconds = std::env::var("DUNLIN_LOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(25);
    let mut server = Server::start();
    server.sql(TABLES);
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = start(&data);
    let tables = json!({ "tables": ["public.log", "public.counters"], "lost": "stop" });
    platform.deploy("changes", &guest("price_watch"), trigger(&server, tables));
    let script = script(folder.path());
    let mut loading = load(&server, &script, "200");
    let (begun, mut random, mut round) = (Instant::now(), Random(0x51_7cc1_b727), 0_u32);
    while begun.elapsed() < Duration::from_secs(seconds) {
        tokio::time::sleep(Duration::from_millis(1_000 + random.below(2_000))).await;
        round += 1;
        match round % 4 {
            0 => {
                server.restart(false);
                end(loading);
                loading = load(&server, &script, "200");
            }
            2 => {
                server.restart(true);
                end(loading);
                loading = load(&server, &script, "200");
            }
            odd => {
                platform.signal(if odd == 1 { "KILL" } else { "TERM" });
                platform.wait();
                platform = start(&data);
            }
        }
    }
    calm(loading, &server).await;
    let events = up_to_now(&platform, &server).await;
    compare(&events, &server);
    println!("{} events, {round} restarts, {} rows", events.len(), server.sql("SELECT count(*) FROM log"));
    assert!(events.len() > 1_000, "it did too little to show anything: {} events", events.len());
}
