//! The rules of the house that no compiler checks: which room may know which, and that every guest has a test.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Every crate of the workspace and the rooms it may depend on, in tests too. A crate that isn't here has no place yet.
const ROOMS: [(&str, &[&str]); 7] = [
    ("dunlin-events", &[]),
    ("dunlin-conformance", &["dunlin-events"]),
    ("dunlin-store", &["dunlin-events"]),
    ("dunlin-runtime", &["dunlin-events"]),
    ("dunlin-gateway", &["dunlin-events"]),
    ("dunlin-triggers", &["dunlin-events"]),
    ("dunlin", &["dunlin-events", "dunlin-store", "dunlin-runtime", "dunlin-gateway", "dunlin-triggers"]),
];

/// What a crate may know in its tests alone: the suites it must pass, and for deploys and sources the real store.
const IN_TESTS: [(&str, &str); 3] =
    [("dunlin-store", "dunlin-conformance"), ("dunlin-gateway", "dunlin-store"), ("dunlin-triggers", "dunlin-store")];

/// What only one room knows: dependencies by the beginning of their name.
const KNOWN_TO_ONE: [(&str, &str); 3] =
    [("wasmtime", "dunlin-runtime"), ("rusqlite", "dunlin-store"), ("axum", "dunlin-gateway")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("cli/ lies in the repository").to_owned()
}

/// The crates of the workspace with the names of what they depend on, of any kind.
fn crates() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let in_tests = |package: &serde_json::Value, dependency: &serde_json::Value| {
        let pair = |(one, other): &(&str, &str)| package["name"] == *one && dependency["name"] == *other;
        dependency["kind"] == "dev" && IN_TESTS.iter().any(pair)
    };
    let known = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        dependencies.filter(|dependency| !in_tests(package, dependency)).map(name).collect()
    };
    packages.iter().map(|package| (name(package), known(package))).collect()
}

#[test]
fn rooms_meet_in_events_only() {
    let allowed: BTreeMap<_, _> = ROOMS.into_iter().collect();
    let crates = crates();
    assert_eq!(
        crates.keys().collect::<Vec<_>>(),
        allowed.keys().collect::<Vec<_>>(),
        "a crate without a place in ROOMS"
    );
    for (name, dependencies) in &crates {
        for dependency in dependencies.iter().filter(|d| allowed.contains_key(d.as_str())) {
            assert!(
                allowed[name.as_str()].contains(&dependency.as_str()),
                "`{name}` must not depend on `{dependency}`"
            );
        }
        for (known, room) in KNOWN_TO_ONE {
            let leak = dependencies.iter().find(|d| d.starts_with(known)).filter(|_| name != room);
            assert_eq!(leak, None, "only `{room}` may depend on `{known}`, not `{name}`");
        }
    }
}

#[test]
fn unsafe_code_is_in_runtime_only() {
    for source in
        ["events/src/lib.rs", "store/src/lib.rs", "gateway/src/lib.rs", "triggers/src/lib.rs", "cli/src/main.rs"]
    {
        let text = fs::read_to_string(root().join(source)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "`{source}` must forbid unsafe code");
    }
}

#[test]
fn every_guest_has_a_test() {
    let tests: String = fs::read_dir(root().join("tests/platform"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs") && !path.ends_with("rooms.rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let code = tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    // A guest is named as its folder is, or as Cargo names the file it makes of it.
    let words: BTreeSet<_> = code
        .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_'))
        .map(|word| word.replace('_', "-"))
        .collect();
    let guests: Vec<_> = ["functions", "tests/guests"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert!(!guests.is_empty());
    let untested: Vec<_> = guests.iter().filter(|guest| !words.contains(&guest.replace('_', "-"))).collect();
    assert!(untested.is_empty(), "no test under tests/platform/ names these guests: {untested:?}");
}
