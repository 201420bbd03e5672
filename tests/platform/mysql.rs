//! Functions that run for the changes of a MariaDB database, which each test starts for itself.

#[path = "../servers/mariadb.rs"]
#[allow(dead_code, reason = "the tests of `triggers` use another part of it")]
mod server;

use crate::harness::{Platform, Random, guest, shown, write_function};
use http::Method;
use serde_json::{Value, json};
use server::{MariaDb, PASSWORD};
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A platform that knows the database's password as the secret `DB`.
fn start(data: &Path) -> Platform {
    Platform::start_knowing(data, &[("DB", PASSWORD)])
}

fn trigger(server: &MariaDb, more: Value) -> Value {
    let mut trigger = json!({ "url": server.url(), "password": "DB" });
    trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "triggers": [{ "database": trigger }], "allow": { "state": true } })
}

const ORDERS: &str = "USE shop; CREATE TABLE orders (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer VARCHAR(50) NOT NULL,
    cents BIGINT NOT NULL, note TEXT); INSERT INTO orders (customer, cents, note) SELECT CONCAT('c', seq % 7), seq, 'old' FROM seq_1_to_200;";

/// Two sessions that insert, update and delete, alone and in transactions, until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(server: &Arc<MariaDb>, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..2_u64).map(|worker| {
            let (server, stop) = (Arc::clone(server), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut n = worker;
                while !stop.load(Ordering::Relaxed) {
                    n += 2;
                    let (one, many) = (n * 7919 % 400 + 1, n * 104_729 % 30 + 1);
                    // A server that is being started again refuses: what was committed is committed.
                    server.try_sql(&format!(
                        "USE shop; INSERT INTO orders (customer, cents, note) VALUES ('c{c}', {n}, 'é');
                         BEGIN; UPDATE orders SET cents = cents + 1, note = 'u' WHERE id = {one};
                         INSERT INTO orders (customer, cents) SELECT CONCAT('c', seq % 7), seq FROM seq_1_to_{many};
                         DELETE FROM orders WHERE id % 97 = {d} AND id > 200; COMMIT;
                         BEGIN; DELETE FROM orders; ROLLBACK; UPDATE orders SET customer = 'c{c}' WHERE id = {one} + 3",
                        c = n % 7,
                        d = n % 97,
                    ));
                    std::thread::sleep(pause);
                }
            })
        });
        Self { threads: threads.collect(), stop }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Waits until the row that is written now, after everything else, is in the topic; and answers with all its events.
async fn up_to_now(platform: &Platform, server: &MariaDb, topic: &str) -> Vec<Value> {
    server.sql("INSERT INTO shop.orders (customer, cents, note) VALUES ('last', 0, UUID())");
    let last: u64 = server.sql("SELECT MAX(id) FROM shop.orders").parse().unwrap();
    let begun = Instant::now();
    let (mut events, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/api/topics/{topic}/events?from={from}&limit=10000");
        let page = platform.admin(Method::GET, &path, Value::Null).await.json();
        events.extend(page["events"].as_array().unwrap().iter().map(|stored| stored["event"].clone()));
        from = page["next"].as_u64().unwrap();
        if events.iter().rev().any(|event| event["data"]["key"]["id"] == last) {
            return events;
        }
        if begun.elapsed() > PATIENCE {
            panic!("{} events: {}", events.len(), shown(&platform.dunlin(&["triggers"])));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The table as its events tell it, in the order of its key: one line for each row.
fn rebuilt(events: &[Value]) -> Vec<String> {
    let mut rows = BTreeMap::new();
    for event in events {
        let data = &event["data"];
        let id = data["key"]["id"].as_u64().unwrap();
        let (before, after) = (&data["before"], &data["after"]);
        // Every event fits the ones before it. Only a row that a snapshot has yet to take is not known before it changes.
        let known = if after.is_null() { rows.remove(&id) } else { rows.insert(id, after.clone()) };
        match (data["op"].as_str().unwrap(), known) {
            ("insert", known) => assert!(known.is_none(), "{event:#}"),
            ("snapshot", Some(known)) => assert_eq!(known, *after, "{event:#}"),
            (_, Some(known)) => assert_eq!(known, *before, "{event:#}"),
            (_, None) => {}
        }
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string().replace("null", "NULL"), str::to_owned);
    rows.values().map(|row| ["id", "customer", "cents", "note"].map(|name| text(&row[name])).join("\t")).collect()
}

#[track_caller]
fn same_as_the_table(events: &[Value], server: &MariaDb) {
    let ids: HashSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    let rows = rebuilt(events);
    let table = server.sql("SELECT id, customer, cents, note FROM shop.orders ORDER BY id");
    assert_eq!(rows.len(), table.lines().count());
    assert!(rows.iter().map(String::as_str).eq(table.lines()), "the rows differ");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_follows_a_table_while_everything_is_restarted() {
    let server = MariaDb::start();
    server.sql(ORDERS);
    let server = Arc::new(server);
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = start(&data);
    let load = Load::start(&server, Duration::ZERO);
    let tables = json!({ "tables": [{ "name": "shop.orders", "columns": ["id", "customer", "cents", "note"] }] });
    platform.deploy("customer-totals", &guest("customer_totals"), trigger(&server, tables));
    for round in 0..6 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if round % 2 == 0 {
            server.crash();
        } else {
            platform.signal("KILL");
            platform.wait();
            platform = start(&data);
        }
    }
    load.end();
    let events = up_to_now(&platform, &server, "customer-totals.database").await;
    same_as_the_table(&events, &server);
    assert!(events.len() > 2_000, "it did too little to show anything: {}", events.len());
    // And what the function keeps is what the database would answer.
    platform.caught_up("customer-totals", "customer-totals.database").await;
    for line in server.sql("SELECT customer, SUM(cents) FROM shop.orders GROUP BY customer").lines() {
        let (customer, sum) = line.split_once('\t').unwrap();
        let kept = platform.state("function:customer-totals", customer).await;
        assert_eq!(kept.to_string(), sum, "{customer}");
    }
    let shown = shown(&platform.dunlin(&["triggers", "customer-totals"]));
    assert!(["running", "position", "lag_seconds"].iter().all(|part| shown.contains(part)), "{shown}");
}

/// Killed again and again in the middle of the work, the snapshot's too: every change is in the topic, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_a_hundred_times() {
    const KILLS: u32 = 100;
    let server = MariaDb::start();
    server.sql(ORDERS);
    server.sql("INSERT INTO shop.orders (customer, cents) SELECT 'many', seq FROM shop.seq_1_to_3000");
    let server = Arc::new(server);
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let mut platform = start(&data);
    let mut manifest = trigger(&server, json!({ "tables": ["shop.orders"] }));
    // The events are what is looked at here: the function runs for none of them.
    manifest["triggers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "topic": { "name": "changes.database", "filter": "event.type == 'none'" } }));
    platform.deploy("changes", &guest("customer_totals"), manifest);
    let load = Load::start(&server, Duration::from_millis(20));
    let mut random = Random::default();
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(100 + random.below(300))).await;
        platform.signal("KILL");
        platform.wait();
        platform = start(&data);
    }
    load.end();
    let events = up_to_now(&platform, &server, "changes.database").await;
    same_as_the_table(&events, &server);
    let of = |kind: &str| events.iter().filter(|event| event["data"]["op"] == kind).count();
    assert!(
        of("snapshot") >= 200 && of("insert") > 500 && of("update") > 100 && of("delete") > 100,
        "{}",
        events.len()
    );
}

#[tokio::test]
async fn a_deploy_that_the_server_refuses_says_where_and_what_to_do() {
    let server = MariaDb::start();
    server.sql("CREATE TABLE shop.orders (id INT PRIMARY KEY); CREATE TABLE shop.keyless (v INT)");
    let folder = TempDir::new().unwrap();
    let platform = start(&folder.path().join("data"));
    for (more, expected) in [
        (json!({ "tables": ["shop.order"] }), vec!["no table `shop.order`", "did you mean `shop.orders`?"]),
        (json!({ "tables": ["shop.keyless"] }), vec!["has no key", "ADD PRIMARY KEY"]),
        (json!({ "tables": ["shop.orders"], "password": "OTHER" }), vec!["no secret `OTHER`"]),
        (json!({ "tables": ["shop.orders"], "slot": "x" }), vec!["`slot` is for PostgreSQL"]),
    ] {
        let function = folder.path().join("f");
        write_function(&function, "f", &guest("customer_totals"), trigger(&server, more));
        let output = platform.dunlin(&["deploy", function.to_str().unwrap()]);
        let said = shown(&output);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("function.yaml:1:") && expected.iter().all(|part| said.contains(part)), "{said}");
    }
    server.sql("SET GLOBAL binlog_format = STATEMENT");
    let function = folder.path().join("f");
    write_function(&function, "f", &guest("customer_totals"), trigger(&server, json!({ "tables": ["shop.orders"] })));
    let said = shown(&platform.dunlin(&["deploy", function.to_str().unwrap()]));
    assert!(said.contains("`binlog_format` is STATEMENT") && said.contains("SET GLOBAL binlog_format = ROW"), "{said}");
}
