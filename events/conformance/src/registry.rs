//! The suite every registry must pass.
//!
//! A back end says in a [`Place`] how its registry is opened, and runs two things in its own tests: [`keeps_the_contract`],
//! each rule by example, and [`agrees_with_the_model`], whatever [`operations`] come to mind against a model in memory.

#![allow(clippy::unwrap_used, reason = "tests, though they are compiled as a library")]

use bytes::Bytes;
use dunlin_events::{
    BoxFuture,
    function::{Component, Digest, FunctionName, Shape, Version},
    registry::{Deployed, NewVersion, Registry, RegistryError, Versions},
};
use futures_util::future::{FutureExt, join, join_all};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

/// Where a registry is kept.
pub trait Place {
    /// Opens the registry that is kept here; at first it is empty. The one opened before has been dropped.
    fn open(&self) -> BoxFuture<'_, Box<dyn Registry>>;
}

/// Tests every rule of the contract, each in a place of its own.
pub async fn keeps_the_contract<P: Place>(new_place: impl Fn() -> P) {
    what_is_deployed_is_there_after_reopening(&new_place()).await;
    a_deploy_happens_whole_or_not_at_all(&new_place()).await;
    what_is_active_already_makes_no_version(&new_place()).await;
    numbers_are_never_used_twice(&new_place()).await;
    rollback_activates_what_is_there(&new_place()).await;
    components_live_as_long_as_their_versions(&new_place()).await;
    one_function_may_bring_the_component_of_another(&new_place()).await;
    what_is_not_there_is_said_so(&new_place()).await;
    deploys_at_the_same_time_all_happen(&new_place()).await;
    readers_never_see_half_a_deploy(&new_place()).await;
    a_deploy_nobody_waits_for_happens_whole_or_not_at_all(&new_place()).await;
}

async fn what_is_deployed_is_there_after_reopening(place: &impl Place) {
    let registry = place.open().await;
    assert_eq!(registry.active().await, Ok(vec![]));
    assert_eq!(registry.deploy(vec![]).await, Ok(vec![]));
    let given = [new("b", "one", b"B"), new("a", "one", b"A")];
    let deployed = registry.deploy(given.to_vec()).await.unwrap();
    assert_eq!(deployed.len(), 2, "one answer for each, in the order given");
    for (given, deployed) in given.iter().zip(&deployed) {
        assert!(!deployed.unchanged);
        assert_eq!(deployed.version.number, 1);
        assert_eq!((&deployed.version.manifest, &deployed.version.component), (&given.manifest, &given.component));
        assert!(deployed.version.deployed_at > 1_700_000_000_000, "milliseconds since 1970");
    }
    let [b, a] = <[Deployed; 2]>::try_from(deployed).unwrap().map(|deployed| deployed.version);
    drop(registry);

    let registry = place.open().await;
    assert_eq!(registry.active().await, Ok(vec![a.clone(), b]), "by name");
    assert_eq!(registry.versions(a.name()).await, Ok(Versions { active: 1, versions: vec![a] }));
    let [_, NewVersion { component, bytes: Some(bytes), .. }] = given else { unreachable!() };
    assert_eq!(registry.component_bytes(component.digest).await, Ok(bytes));
    assert_eq!(registry.component(component.digest).await, Ok(Some(component)));
}

async fn a_deploy_happens_whole_or_not_at_all(place: &impl Place) {
    let registry = place.open().await;
    registry.deploy(vec![new("a", "one", b"A")]).await.unwrap();
    let before = registry.active().await.unwrap();
    let missing = without_bytes(new("c", "one", b"never uploaded"));
    let refused = [
        (missing.clone(), RegistryError::NoComponent(missing.component.digest)),
        (new("a", "three", b"A"), RegistryError::Twice(name("a"))),
    ];
    for (bad, error) in refused {
        let deploy = vec![new("a", "two", b"A2"), new("b", "one", b"B"), bad];
        assert_eq!(registry.deploy(deploy).await, Err(error));
        assert_eq!(registry.active().await.as_ref(), Ok(&before));
        assert_eq!(registry.versions(&name("a")).await.unwrap().versions, before);
        assert_eq!(registry.versions(&name("b")).await, Err(RegistryError::NoFunction(name("b"))));
        for bytes in [&b"A2"[..], b"B"] {
            assert_eq!(registry.component(Digest::of(bytes)).await, Ok(None), "no component without a version");
        }
    }
    drop(registry);
    assert_eq!(place.open().await.active().await, Ok(before));
}

async fn what_is_active_already_makes_no_version(place: &impl Place) {
    let registry = place.open().await;
    let first = deploy(&*registry, new("a", "one", b"A")).await;
    for again in [new("a", "one", b"A"), without_bytes(new("a", "one", b"A"))] {
        let answer = registry.deploy(vec![again]).await.unwrap();
        assert_eq!(answer, [Deployed { version: first.clone(), unchanged: true }]);
    }
    assert_eq!(registry.versions(&name("a")).await.unwrap().versions, [first]);
    // The manifest alone, or the component alone, is a change.
    assert_eq!(deploy(&*registry, without_bytes(new("a", "two", b"A"))).await.number, 2);
    assert_eq!(deploy(&*registry, new("a", "two", b"B")).await.number, 3);
    // What was active once is not active now.
    assert_eq!(deploy(&*registry, new("a", "one", b"A")).await.number, 4);
}

async fn numbers_are_never_used_twice(place: &impl Place) {
    let registry = place.open().await;
    for (number, manifest) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(deploy(&*registry, new("a", manifest, b"A")).await.number, number);
    }
    assert_eq!(registry.rollback(&name("a"), Some(1)).await.unwrap().number, 1);
    let answer = registry.deploy(vec![new("a", "one", b"A")]).await.unwrap();
    assert!(answer[0].unchanged, "1 is active");
    drop(registry);

    let registry = place.open().await;
    assert_eq!(deploy(&*registry, new("a", "three", b"A")).await.number, 4, "3 isn't active, and 2 is taken");
    let versions = registry.versions(&name("a")).await.unwrap();
    assert_eq!(versions.active, 4);
    assert_eq!(numbers(&versions), [4, 3, 2, 1], "newest first");
}

async fn rollback_activates_what_is_there(place: &impl Place) {
    let registry = place.open().await;
    let mut deployed = Vec::new();
    for manifest in ["one", "two", "three"] {
        deployed.push(deploy(&*registry, new("a", manifest, manifest.as_bytes())).await);
    }
    for (to, number) in [(None, 2), (None, 1), (Some(3), 3), (Some(3), 3), (Some(1), 1)] {
        let version = &deployed[number as usize - 1];
        assert_eq!(registry.rollback(&name("a"), to).await.as_ref(), Ok(version));
        assert_eq!(registry.active().await.as_deref(), Ok(std::slice::from_ref(version)));
        assert_eq!(registry.versions(&name("a")).await.unwrap().active, number);
    }
    let a = name("a");
    assert_eq!(registry.rollback(&a, None).await, Err(RegistryError::NoEarlier { name: a.clone(), active: 1 }));
    for number in [0, 4, u64::MAX] {
        let error = RegistryError::NoVersion { name: a.clone(), number };
        assert_eq!(registry.rollback(&a, Some(number)).await, Err(error));
    }
    drop(registry);
    let versions = place.open().await.versions(&a).await.unwrap();
    assert_eq!((versions.active, numbers(&versions)), (1, vec![3, 2, 1]));
}

async fn components_live_as_long_as_their_versions(place: &impl Place) {
    let registry = place.open().await;
    let (old, shared) = (Digest::of(b"old"), Digest::of(b"shared"));
    registry.deploy(vec![new("a", "one", b"old"), new("b", "one", b"shared")]).await.unwrap();
    deploy(&*registry, without_bytes(new("a", "two", b"shared"))).await;
    assert_eq!(registry.component_bytes(old).await, Ok(Bytes::from_static(b"old")), "version 1 is inactive, but there");

    registry.remove(&name("a")).await.unwrap();
    assert_eq!(registry.component(old).await, Ok(None));
    assert_eq!(registry.component_bytes(old).await, Err(RegistryError::NoComponent(old)));
    assert_eq!(registry.component_bytes(shared).await, Ok(Bytes::from_static(b"shared")), "`b` uses it");
    assert_eq!(registry.versions(&name("a")).await, Err(RegistryError::NoFunction(name("a"))));
    let again = without_bytes(new("a", "one", b"old"));
    assert_eq!(registry.deploy(vec![again]).await, Err(RegistryError::NoComponent(old)));
    assert_eq!(deploy(&*registry, new("a", "one", b"old")).await.number, 1, "the `a` that was is forgotten");

    registry.remove(&name("a")).await.unwrap();
    registry.remove(&name("b")).await.unwrap();
    drop(registry);
    let registry = place.open().await;
    assert_eq!(registry.active().await, Ok(vec![]));
    assert_eq!(registry.component(shared).await, Ok(None));
}

async fn one_function_may_bring_the_component_of_another(place: &impl Place) {
    let registry = place.open().await;
    let functions =
        vec![without_bytes(new("a", "one", b"A")), new("b", "one", b"A"), without_bytes(new("c", "one", b"A"))];
    registry.deploy(functions).await.unwrap();
    assert_eq!(registry.active().await.unwrap().len(), 3);
}

async fn what_is_not_there_is_said_so(place: &impl Place) {
    let registry = place.open().await;
    deploy(&*registry, new("a", "one", b"A")).await;
    let unknown = name("unknown");
    let error = RegistryError::NoFunction(unknown.clone());
    assert_eq!(registry.versions(&unknown).await, Err(error.clone()));
    assert_eq!(registry.rollback(&unknown, None).await, Err(error.clone()));
    assert_eq!(registry.rollback(&unknown, Some(1)).await, Err(error.clone()));
    assert_eq!(registry.remove(&unknown).await, Err(error));
    let digest = Digest::of(b"unknown");
    assert_eq!(registry.component(digest).await, Ok(None));
    assert_eq!(registry.component_bytes(digest).await, Err(RegistryError::NoComponent(digest)));
}

async fn deploys_at_the_same_time_all_happen(place: &impl Place) {
    let registry = place.open().await;
    let other = name("other");
    let different = join_all((0..40).map(|i| registry.deploy(vec![new(&format!("f{i}"), "one", b"A")])));
    let same = join_all((0..10).map(|i| registry.deploy(vec![new("same", &format!("m{i}"), b"B")])));
    let refused = join_all((0..10).map(|_| registry.rollback(&other, None)));
    let (different, (same, refused)) = join(different, join(same, refused)).await;
    assert!(different.iter().all(Result::is_ok));
    assert!(refused.iter().all(|answer| *answer == Err(RegistryError::NoFunction(other.clone()))));
    let numbers: BTreeSet<u64> = same.into_iter().map(|answer| answer.unwrap()[0].version.number).collect();
    assert_eq!(numbers, (1..=10).collect());
    drop(registry);
    let active = place.open().await.active().await.unwrap();
    assert_eq!(active.len(), 41);
}

async fn readers_never_see_half_a_deploy(place: &impl Place) {
    let registry = place.open().await;
    let done = AtomicBool::new(false);
    let writing = async {
        for i in 1..=50_u64 {
            let manifest = format!("m{i}");
            let deployed = registry.deploy(vec![new("a", &manifest, b"A"), new("b", &manifest, b"B")]).await.unwrap();
            assert!(deployed.iter().all(|deployed| deployed.version.number == i));
        }
        done.store(true, Ordering::Relaxed);
    };
    let reading = async {
        let mut newest = 0;
        while !done.load(Ordering::Relaxed) {
            match registry.active().await.unwrap().as_slice() {
                [] => assert_eq!(newest, 0, "a reader went back in time"),
                [a, b] => {
                    assert_eq!((a.number, &a.manifest.component), (b.number, &b.manifest.component));
                    assert!(a.number >= newest, "a reader went back in time");
                    newest = a.number;
                }
                half => panic!("half a deploy: {half:?}"),
            }
        }
    };
    join(writing, reading).await;
}

async fn a_deploy_nobody_waits_for_happens_whole_or_not_at_all(place: &impl Place) {
    let registry = place.open().await;
    for i in 0..20 {
        let pair = vec![new(&format!("a{i}"), "one", b"A"), new(&format!("b{i}"), "one", b"B")];
        drop(registry.deploy(pair).now_or_never());
    }
    deploy(&*registry, new("last", "one", b"C")).await;
    let active = registry.active().await.unwrap();
    let names: BTreeSet<&str> = active.iter().map(|version| version.name().as_str()).collect();
    assert!(names.contains("last"));
    for i in 0..20 {
        assert_eq!(names.contains(&*format!("a{i}")), names.contains(&*format!("b{i}")), "half of deploy {i}");
    }
}

/// Something to do with a registry. Functions, manifests and components are drawn from a few, so that they meet.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Function, manifest, component, and whether its bytes come with it.
    Deploy(Vec<(u8, u8, u8, bool)>),
    Rollback(u8, Option<u64>),
    Remove(u8),
    Reopen,
}

/// Sequences of operations for [`agrees_with_the_model`].
pub fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let function = 0..4_u8;
    let deploy = (function.clone(), 0..3_u8, 0..3_u8, prop::bool::weighted(0.7));
    let operation = prop_oneof![
        6 => prop::collection::vec(deploy, 1..4).prop_map(Operation::Deploy),
        3 => (function.clone(), prop::option::of(0..6_u64)).prop_map(|(function, to)| Operation::Rollback(function, to)),
        1 => function.prop_map(Operation::Remove),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..30)
}

/// Does the operations with the registry and with a model of it, and compares every answer and all that can be read
/// after each.
pub async fn agrees_with_the_model(place: &impl Place, operations: Vec<Operation>) {
    let mut registry = place.open().await;
    let mut model = Model::default();
    for operation in operations {
        match operation {
            Operation::Deploy(functions) => {
                let functions: Vec<_> = functions.into_iter().map(drawn).collect();
                let answer = registry.deploy(functions.clone()).await;
                // The time of a deploy is the registry's to choose.
                let time = answer.iter().flatten().find(|deployed| !deployed.unchanged);
                let time = time.map_or(0, |deployed| deployed.version.deployed_at);
                assert_eq!(answer, model.deploy(&functions, time));
            }
            Operation::Rollback(function, to) => {
                let name = function_name(function);
                assert_eq!(registry.rollback(&name, to).await, model.rollback(&name, to));
            }
            Operation::Remove(function) => {
                let name = function_name(function);
                let known = model.functions.remove(&name).map(|_| ());
                assert_eq!(registry.remove(&name).await, known.ok_or(RegistryError::NoFunction(name)));
            }
            Operation::Reopen => {
                drop(registry);
                registry = place.open().await;
            }
        }
        model.compare(&*registry).await;
    }
}

/// What a registry is, without a disk. Versions by number.
#[derive(Default)]
struct Model {
    functions: BTreeMap<FunctionName, (u64, BTreeMap<u64, Version>)>,
}

impl Model {
    fn deploy(&mut self, functions: &[NewVersion], deployed_at: u64) -> Result<Vec<Deployed>, RegistryError> {
        let mut names = BTreeSet::new();
        if let Some(twice) = functions.iter().find(|function| !names.insert(&function.manifest.name)) {
            return Err(RegistryError::Twice(twice.manifest.name.clone()));
        }
        let brought = functions.iter().filter(|function| function.bytes.is_some());
        let brought: BTreeSet<Digest> = brought.map(|function| function.component.digest).collect();
        let known: BTreeSet<Digest> = self.components().union(&brought).copied().collect();
        if let Some(missing) = functions.iter().find(|function| !known.contains(&function.component.digest)) {
            return Err(RegistryError::NoComponent(missing.component.digest));
        }
        let deployed = functions.iter().map(|NewVersion { manifest, component, .. }| {
            let (active, versions) = self.functions.entry(manifest.name.clone()).or_default();
            if let Some(version) = versions.get(active)
                && (&version.manifest, &version.component) == (manifest, component)
            {
                return Deployed { version: version.clone(), unchanged: true };
            }
            let number = versions.last_key_value().map_or(1, |(number, _)| number + 1);
            let version = Version { number, manifest: manifest.clone(), component: component.clone(), deployed_at };
            *active = number;
            versions.insert(number, version.clone());
            Deployed { version, unchanged: false }
        });
        Ok(deployed.collect())
    }

    fn rollback(&mut self, name: &FunctionName, to: Option<u64>) -> Result<Version, RegistryError> {
        let Some((active, versions)) = self.functions.get_mut(name) else {
            return Err(RegistryError::NoFunction(name.clone()));
        };
        let version = match to {
            Some(number) => {
                versions.get(&number).ok_or_else(|| RegistryError::NoVersion { name: name.clone(), number })?
            }
            None => {
                let earlier = versions.range(..*active).next_back().map(|(_, version)| version);
                earlier.ok_or_else(|| RegistryError::NoEarlier { name: name.clone(), active: *active })?
            }
        };
        *active = version.number;
        Ok(version.clone())
    }

    fn components(&self) -> BTreeSet<Digest> {
        let versions = self.functions.values().flat_map(|(_, versions)| versions.values());
        versions.map(|version| version.component.digest).collect()
    }

    async fn compare(&self, registry: &dyn Registry) {
        let active = self.functions.values().map(|(active, versions)| versions[active].clone());
        assert_eq!(registry.active().await, Ok(active.collect()));
        for function in 0..4 {
            let name = function_name(function);
            let versions = self.functions.get(&name).map(|(active, versions)| Versions {
                active: *active,
                versions: versions.values().rev().cloned().collect(),
            });
            assert_eq!(registry.versions(&name).await, versions.ok_or(RegistryError::NoFunction(name)));
        }
        let known = self.components();
        for component in 0..3 {
            let NewVersion { component, bytes: Some(bytes), .. } = drawn((0, 0, component, true)) else {
                unreachable!()
            };
            let digest = component.digest;
            let here = known.contains(&digest);
            assert_eq!(registry.component(digest).await, Ok(here.then_some(component)));
            let bytes = if here { Ok(bytes) } else { Err(RegistryError::NoComponent(digest)) };
            assert_eq!(registry.component_bytes(digest).await, bytes);
        }
    }
}

fn drawn((function, manifest, component, bytes): (u8, u8, u8, bool)) -> NewVersion {
    let new = new(function_name(function).as_str(), &format!("m{manifest}"), format!("c{component}").as_bytes());
    if bytes { new } else { without_bytes(new) }
}

fn function_name(function: u8) -> FunctionName {
    name(&format!("f{function}"))
}

fn name(name: &str) -> FunctionName {
    name.parse().expect("the suite uses valid names")
}

/// A function to deploy: `manifest` makes one manifest differ from another, and `bytes` one component.
fn new(name: &str, manifest: &str, bytes: &[u8]) -> NewVersion {
    let manifest = serde_json::json!({
        "name": name, "component": format!("{manifest}.wasm"),
        "triggers": [{ "http": { "path": format!("/{name}/{{id}}"), "methods": ["GET"] } }],
        "allow": { "http": ["https://*.example.com"], "env": { "NAME": "välue \u{1F426}" } },
        "limits": { "memory": "64MiB", "time": "1m 30s" },
    });
    NewVersion {
        manifest: serde_json::from_value(manifest).expect("the suite uses valid manifests"),
        component: Component {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            shape: Shape::Http02,
            imports: vec!["wasi:http/types@0.2.3".into()],
            initial_memory: 1 << 20,
        },
        bytes: Some(Bytes::copy_from_slice(bytes)),
    }
}

fn without_bytes(new: NewVersion) -> NewVersion {
    NewVersion { bytes: None, ..new }
}

async fn deploy(registry: &dyn Registry, new: NewVersion) -> Version {
    let mut deployed = registry.deploy(vec![new]).await.expect("nothing stands against it");
    let deployed = deployed.pop().expect("one was deployed");
    assert!(!deployed.unchanged);
    deployed.version
}

fn numbers(versions: &Versions) -> Vec<u64> {
    versions.versions.iter().map(|version| version.number).collect()
}
