#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use dunlin_events::{
    effects::*, event::Event, function::*, invocation::*, logs::*, manifest::*, runtime::*, secrets::*, state::*,
    topics::*, *,
};
use dunlin_runtime::*;
use http_body_util::BodyExt;
use std::{collections::*, num::NonZeroU32, sync::*, time::*};

struct Sec;
impl Secrets for Sec {
    fn get(&self, _: &SecretName) -> Result<SecretValue, SecretError> {
        Ok(SecretValue::new("no funds".into()))
    }
}
#[derive(Default)]
struct Lg(Mutex<Vec<String>>);
impl LogSink for Lg {
    fn record(&self, r: LogRecord) {
        self.0.lock().unwrap().push(format!("{:?} {} {}", r.stream, r.invocation.is_some(), r.message));
    }
}

#[derive(Default)]
struct Mem {
    kv: Mutex<BTreeMap<Key, Bytes>>,
    published: Mutex<Vec<(String, Draft)>>,
}
impl Effects for Mem {
    fn get(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Bytes>>, EffectError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            if keys.iter().any(|k| &*k.key == "unavailable") {
                return Err(EffectError::Unavailable("the disk is gone".into()));
            }
            let kv = self.kv.lock().unwrap();
            Ok(keys.iter().map(|k| kv.get(k).cloned()).collect())
        })
    }
    fn set(&self, entries: Vec<(Key, Option<Bytes>)>) -> BoxFuture<'_, Result<(), EffectError>> {
        Box::pin(async move {
            let mut kv = self.kv.lock().unwrap();
            for (k, v) in entries {
                match v {
                    Some(v) => drop(kv.insert(k, v)),
                    None => drop(kv.remove(&k)),
                }
            }
            Ok(())
        })
    }
    fn keys<'a>(
        &'a self,
        bucket: &'a Bucket,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, EffectError>> {
        Box::pin(async move {
            Ok(self
                .kv
                .lock()
                .unwrap()
                .keys()
                .filter(|k| k.bucket == *bucket && after.is_none_or(|a| &*k.key > a))
                .map(|k| Arc::clone(&k.key))
                .take(limit)
                .collect())
        })
    }
    fn increment(&self, key: Key, delta: i64) -> BoxFuture<'_, Result<i64, EffectError>> {
        Box::pin(async move {
            let mut kv = self.kv.lock().unwrap();
            let n = kv.get(&key).map_or(0, |v| std::str::from_utf8(v).unwrap().parse::<i64>().unwrap()) + delta;
            kv.insert(key, n.to_string().into());
            Ok(n)
        })
    }
    fn swap(&self, key: Key, expected: Option<Bytes>, value: Bytes) -> BoxFuture<'_, Result<bool, EffectError>> {
        Box::pin(async move {
            let mut kv = self.kv.lock().unwrap();
            let same = kv.get(&key) == expected.as_ref();
            if same {
                kv.insert(key, value);
            }
            Ok(same)
        })
    }
    fn publish(&self, topic: &TopicName, events: Vec<Draft>) -> BoxFuture<'_, Result<(), EffectError>> {
        let topic = topic.to_string();
        Box::pin(async move {
            self.published.lock().unwrap().extend(events.into_iter().map(|e| (topic.clone(), e)));
            Ok(())
        })
    }
}
struct List {
    todo: Mutex<VecDeque<Vec<Delivery>>>,
    got: Mutex<Vec<Result<Vec<Outcome>, Failure>>>,
    mem: Mem,
}
impl Feed for List {
    fn next(&self) -> Option<Vec<Delivery>> {
        self.todo.lock().unwrap().pop_front()
    }
    fn ended(&self, o: Result<Vec<Outcome>, Failure>) {
        self.got.lock().unwrap().push(o);
    }
    fn effects(&self) -> &dyn Effects {
        &self.mem
    }
}
fn event(kind: &str) -> Delivery {
    let mut e = Event::new("1", "/test", kind).unwrap();
    e.set_subject("s").unwrap();
    e.set_extension("partitionkey", "k").unwrap();
    e.set_data(Some("application/json"), Bytes::from_static(br#"{"order":17,"items":[1,2,3],"total":"10.00"}"#))
        .unwrap();
    Delivery { topic: "orders".parse().unwrap(), offset: 7, attempt: 1, event: e }
}
fn feed(kinds: &[&str]) -> Arc<List> {
    Arc::new(List {
        todo: Mutex::new(kinds.iter().map(|k| vec![event(k)]).collect()),
        got: Mutex::default(),
        mem: Mem::default(),
    })
}
fn manifest(v: serde_json::Value) -> Manifest {
    let mut m = serde_json::json!({ "name": "t", "component": "x.wasm" });
    m.as_object_mut().unwrap().extend(v.as_object().unwrap().clone());
    serde_json::from_value(m).unwrap()
}
fn inv() -> Invocation {
    Invocation { id: InvocationId::new(), worker: 0, effects: Effected::Event(Arc::new(Mem::default())) }
}

fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(run());
}
async fn run() {
    let dir = std::path::PathBuf::from("/tmp/evcache");
    let logs = Arc::new(Lg::default());
    let wasm = Wasm::start(&RuntimeConfig::new(dir, NonZeroU32::new(1).unwrap()), Arc::new(Sec), logs.clone()).unwrap();
    for wat in std::env::args().skip(1) {
        let bytes = std::fs::read(&wat).unwrap();
        match wasm.compile(bytes.into()).await {
            Ok(c) => println!("{wat}: {:?} {:?}", c.shape, c.imports),
            Err(e) => println!("{wat}: {e}"),
        }
    }
    let component = wasm
        .compile(std::fs::read("/tmp/evguest/target/wasm32-wasip2/release/evguest.wasm").unwrap().into())
        .await
        .unwrap();
    println!("{:?} {:?}", component.shape, component.imports);
    for p in wasm.check(&manifest(serde_json::json!({ "triggers": [{"http": {"path": "/"}}, {"topic": {"name": "orders"}}], "reuse": {"count": 5, "concurrency": 2} })), &component) { println!("check: {} {} — {:?}", p.pointer, p.message, p.help); }
    let full = serde_json::json!({ "publish": "out", "allow": { "state": ["carts"], "env": {"A": "b"}, "secrets": ["S"] }, "limits": {"time": "1s", "cpu": "300ms", "memory": "32MiB"} });
    assert!(wasm.check(&manifest(full.clone()), &component).is_empty());
    let make = |m: serde_json::Value| {
        let m = manifest(m);
        wasm.function(&Version { number: 1, manifest: m, component: component.clone(), deployed_at: 0 })
    };
    let f = make(full.clone());
    for kinds in [
        &["nop", "return", "echo", "retry", "reject", "count", "count", "kv", "publish", "log", "env"][..],
        &["nop", "trap", "nop"],
        &["nop", "loop", "nop"],
        &["hog", "nop"],
        &["none", "nop"],
        &["unavailable", "nop"],
        &["huge", "nop"],
        &["full", "full"],
        &["flood", "flood"],
        &["spin", "spin", "spin"],
    ] {
        let l = feed(kinds);
        let t = Instant::now();
        let r = f.handle(l.clone(), inv()).await;
        println!("{kinds:?}: {r:?} in {:?}, left {}", t.elapsed(), l.todo.lock().unwrap().len());
        for o in l.got.lock().unwrap().iter() {
            let text = match o {
                Ok(o) => format!(
                    "{:?}",
                    o.iter()
                        .map(|o| match o {
                            Outcome::Done(d) => format!(
                                "{:?}",
                                d.iter()
                                    .map(|d| format!(
                                        "{:?} {:?} {:?}",
                                        d.kind,
                                        d.extensions,
                                        d.data.as_ref().map(|d| String::from_utf8_lossy(d).into_owned())
                                    ))
                                    .collect::<Vec<_>>()
                            ),
                            o => format!("{o:?}"),
                        })
                        .collect::<Vec<_>>()
                ),
                Err(e) => format!("{e}").lines().next().unwrap_or("").to_owned(),
            };
            println!("    {}", text.chars().take(600).collect::<String>());
        }
    }
    assert_eq!(f.load().running, 0);
    // dropped
    let l = feed(&["loop", "nop"]);
    tokio::select! { _ = f.handle(l.clone(), inv()) => panic!(), () = tokio::time::sleep(Duration::from_millis(50)) => {} }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(l.got.lock().unwrap().is_empty());
    println!("dropped: running {} left {}", f.load().running, l.todo.lock().unwrap().len());
    // request to a handler
    let r =
        f.invoke(http::Request::new(http_body_util::Empty::new().map_err(|n| match n {}).boxed_unsync()), inv()).await;
    println!("{:?}", r.map(|_| ()));
    println!("{:#?}", logs.0.lock().unwrap());
    sink(&wasm).await;
    // speed
    let f = make(serde_json::json!({ "publish": "out", "allow": {"state": true} }));
    for (kind, n) in [("nop", 1), ("return", 1), ("echo", 1), ("count", 1), ("nop", 100)] {
        for _ in 0..2 {
            let total = 200_000;
            let l = Arc::new(List {
                todo: Mutex::new((0..total / n).map(|_| vec![event(kind); n]).collect()),
                got: Mutex::default(),
                mem: Mem::default(),
            });
            let t = Instant::now();
            let mut handles = 0;
            while !l.todo.lock().unwrap().is_empty() {
                f.handle(l.clone(), inv()).await.unwrap();
                handles += 1;
            }
            assert_eq!(l.got.lock().unwrap().len(), total / n);
            println!("{kind} x{n}: {:?} per event, {handles} sandboxes", t.elapsed() / total as u32);
        }
    }
}

async fn sink(wasm: &Wasm) {
    let component = wasm
        .compile(std::fs::read("/tmp/sinkguest/target/wasm32-wasip2/release/sinkguest.wasm").unwrap().into())
        .await
        .unwrap();
    for (what, m) in [
        ("publish", serde_json::json!({ "publish": "out", "allow": {"publish": ["more"]} })),
        ("nothing", serde_json::json!({ "allow": {"http": []} })),
        ("reuse", serde_json::json!({ "publish": "out", "reuse": {"count": 3} })),
    ] {
        let m = manifest(m);
        println!("{what}: {:?}", wasm.check(&m, &component));
        let f = wasm.function(&Version { number: 1, manifest: m, component: component.clone(), deployed_at: 0 });
        let ce = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/x"),
            ("ce-type", "t"),
            ("content-type", "application/json"),
        ];
        let structured = r#"{"specversion":"1.0","id":"1","source":"/x","type":"t","data":{"a":1}}"#;
        for (method, path, headers, body) in [
            ("POST", "/", &ce[..], "{}".to_owned()),
            ("POST", "/", &ce[..], "{".to_owned()),
            ("POST", "/", &[("content-type", "application/cloudevents+json")], structured.to_owned()),
            (
                "POST",
                "/topics/more",
                &[("content-type", "application/cloudevents-batch+json")],
                format!("[{structured},{structured}]"),
            ),
            (
                "POST",
                "/topics/more",
                &[("content-type", "application/cloudevents-batch+json")],
                format!("[{structured},{{}}]"),
            ),
            ("POST", "/topics/other", &ce[..], "{}".to_owned()),
            ("POST", "/x", &ce[..], "{}".to_owned()),
            ("POST", "/", &[], "{}".to_owned()),
            ("GET", "/", &ce[..], String::new()),
        ] {
            let mem = Arc::new(Mem::default());
            let mut r = http::Request::builder().method(method).uri(format!("http://h{path}"));
            for (n, v) in headers {
                r = r.header(*n, *v);
            }
            let r = r.body(http_body_util::Full::from(body).map_err(|n| match n {}).boxed_unsync()).unwrap();
            let i = Invocation {
                id: InvocationId::new(),
                worker: 0,
                effects: if what == "reuse" { Effected::Function(mem.clone()) } else { Effected::Event(mem.clone()) },
            };
            let a = f.invoke(r, i).await.unwrap();
            let status = a.status();
            let text = a.into_body().collect().await.unwrap().to_bytes();
            println!(
                "  {method} {path} {status} {} — {:?}",
                String::from_utf8_lossy(&text),
                mem.published
                    .lock()
                    .unwrap()
                    .iter()
                    .map(|(t, d)| format!("{t} {:?} {:?} {:?}", d.id, d.data_content_type, d.data))
                    .collect::<Vec<_>>()
            );
        }
    }
}
