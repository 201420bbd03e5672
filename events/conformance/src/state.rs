//! The suite every state store must pass: each rule by example.

#![allow(clippy::unwrap_used, reason = "tests, though they are compiled as a library")]

use crate::consumers::{Place, yield_now};
use bytes::Bytes;
use dunlin_events::state::{Bucket, BucketInfo, Entry, Key, MAX_KEY, MAX_VALUE, Revision, StateError, StateStore};
use futures_util::future::{FutureExt, join, join_all};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
};

/// Tests every rule of the contract, each in a place of its own.
pub async fn keeps_the_contract<P: Place>(new_place: impl Fn() -> P) {
    what_is_written_is_there_after_reopening(&new_place()).await;
    writes_happen_all_or_none(&new_place()).await;
    a_revision_is_never_given_twice(&new_place()).await;
    nobody_overwrites_what_they_have_not_read(&new_place()).await;
    readers_never_see_half_a_change(&new_place()).await;
    a_change_nobody_waits_for_happens_whole_or_not_at_all(&new_place()).await;
    keys_are_listed_in_order(&new_place()).await;
    buckets_are_apart(&new_place()).await;
}

async fn what_is_written_is_there_after_reopening(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    assert_eq!(state.get(vec![]).await, Ok(vec![]));
    assert_eq!(state.get(vec![key("a")]).await, Ok(vec![None]));
    state.apply(vec![], vec![]).await.unwrap();
    let values = [
        (key("a"), Bytes::from_static(b"one")),
        (key("empty"), Bytes::new()),
        (key("bytes"), Bytes::from((0..=255).collect::<Vec<u8>>())),
        (key(&"k".repeat(MAX_KEY)), Bytes::from(vec![7; MAX_VALUE])),
        (key("ключ 🐦 ' \" % _"), Bytes::from_static(b"any text is a key")),
    ];
    let writes = values.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
    state.apply(vec![], writes).await.unwrap();
    let keys: Vec<Key> = values.iter().map(|(key, _)| key.clone()).chain([key("absent")]).collect();
    let before = state.get(keys.clone()).await.unwrap();
    for ((_, value), entry) in values.iter().zip(&before) {
        assert_eq!(Some(value), entry.as_ref().map(|entry| &entry.value));
    }
    assert_eq!(before.last(), Some(&None));
    let twice = state.get(vec![key("a"), key("a")]).await.unwrap();
    assert_eq!(twice[0], twice[1]);
    assert_eq!(twice[0], before[0]);
    drop(back_end);

    let back_end = place.open().await;
    let state = &*back_end.state;
    assert_eq!(state.get(keys).await, Ok(before));
    let many: Vec<Key> = (0..100).map(|i| key(&format!("many {i}"))).collect();
    state.apply(vec![], many.iter().map(|key| (key.clone(), Some(Bytes::from_static(b"1")))).collect()).await.unwrap();
    assert!(state.get(many).await.unwrap().iter().all(Option::is_some));
    state.apply(vec![], vec![(key("a"), None), (key("absent"), None)]).await.unwrap();
    assert_eq!(state.get(vec![key("a")]).await, Ok(vec![None]));
}

async fn writes_happen_all_or_none(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    set(state, "a", "1").await;
    set(state, "b", "1").await;
    let (a, b) = (entry(state, "a").await, entry(state, "b").await);
    set(state, "b", "2").await;
    let writes = vec![(key("a"), None), (key("b"), value("3")), (key("c"), value("3"))];
    let reads = vec![(key("a"), a.revision), (key("b"), b.revision)];
    let refused = state.apply(reads, writes).await;
    assert_eq!(refused, Err(StateError::Conflict { key: key("b") }));
    assert!(refused.unwrap_err().retryable());
    assert_eq!(entry(state, "a").await, a);
    assert_eq!(entry(state, "b").await.value, "2");
    assert_eq!(state.get(vec![key("c")]).await, Ok(vec![None]));
}

async fn a_revision_is_never_given_twice(place: &impl Place) {
    let mut given = BTreeSet::new();
    for _ in 0..3 {
        let back_end = place.open().await;
        let state = &*back_end.state;
        for value in ["same", "same", "other"] {
            set(state, "a", value).await;
            set(state, "b", value).await;
            for key in ["a", "b"] {
                assert!(given.insert(entry(state, key).await.revision), "a revision was given twice");
            }
            state.apply(vec![], vec![(key("a"), None)]).await.unwrap();
        }
        state.clear(&bucket()).await.unwrap();
    }
    assert!(!given.contains(&Revision(0)), "0 stands for nothing");
}

async fn nobody_overwrites_what_they_have_not_read(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    let conflict = Err(StateError::Conflict { key: key("a") });
    let apply = |revision, new| state.apply(vec![(key("a"), Revision(revision))], vec![(key("a"), new)]);
    assert_eq!(apply(1, value("x")).await, conflict, "there is nothing");
    assert_eq!(apply(u64::MAX, value("x")).await, conflict);
    apply(0, value("1")).await.unwrap();
    assert_eq!(apply(0, value("x")).await, conflict, "there is something");
    let first = entry(state, "a").await.revision.0;
    apply(first, value("2")).await.unwrap();
    assert_eq!(apply(first, value("x")).await, conflict);
    let second = entry(state, "a").await.revision.0;
    apply(second, None).await.unwrap();
    assert_eq!(apply(second, value("x")).await, conflict, "it was deleted");
    apply(0, value("2")).await.unwrap();
    assert_eq!(apply(second, value("x")).await, conflict, "it was deleted and written again");
    // To look without writing is to ask whether it is so still.
    let third = entry(state, "a").await.revision;
    assert_eq!(state.apply(vec![(key("a"), third), (key("b"), Revision(0))], vec![]).await, Ok(()));
    assert_eq!(state.apply(vec![(key("a"), Revision(first))], vec![]).await, conflict);

    // Many at once: as if one after another.
    set(state, "sum", "0").await;
    let add = (0..8).map(async |_| {
        for _ in 0..5 {
            loop {
                let Entry { value: sum, revision } = entry(state, "sum").await;
                let sum: u64 = std::str::from_utf8(&sum).unwrap().parse().unwrap();
                let writes = vec![(key("sum"), value(&(sum + 1).to_string()))];
                match state.apply(vec![(key("sum"), revision)], writes).await {
                    Ok(()) => break,
                    Err(error) => assert_eq!(error, StateError::Conflict { key: key("sum") }),
                }
            }
        }
    });
    join_all(add).await;
    assert_eq!(entry(state, "sum").await.value, "40");
}

async fn readers_never_see_half_a_change(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    let done = AtomicBool::new(false);
    let write = async {
        for i in 0..50 {
            // Both, or neither.
            let new = if i % 5 == 4 { None } else { value(&i.to_string()) };
            state.apply(vec![], vec![(key("a"), new.clone()), (key("b"), new)]).await.unwrap();
            // Who wrote reads what was written.
            let now = state.get(vec![key("a")]).await.unwrap().remove(0);
            assert_eq!(now.is_none(), i % 5 == 4);
        }
        done.store(true, Ordering::Relaxed);
    };
    let read = async {
        while !done.load(Ordering::Relaxed) {
            let both = state.get(vec![key("a"), key("b")]).await.unwrap();
            let values: Vec<_> = both.into_iter().map(|entry| entry.map(|entry| entry.value)).collect();
            assert_eq!(values[0], values[1], "half a change");
            yield_now().await;
        }
    };
    join(write, read).await;
}

async fn a_change_nobody_waits_for_happens_whole_or_not_at_all(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    for i in 0..20 {
        let writes = vec![(key(&format!("a{i}")), value("1")), (key(&format!("b{i}")), value("1"))];
        drop(state.apply(vec![], writes).now_or_never());
    }
    set(state, "last", "1").await;
    for i in 0..20 {
        let pair = state.get(vec![key(&format!("a{i}")), key(&format!("b{i}"))]).await.unwrap();
        assert_eq!(pair[0].is_some(), pair[1].is_some(), "half of change {i}");
    }
}

async fn keys_are_listed_in_order(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    let all = ["%", "A", "a", "a/1", "a/10", "a/2", "aa", "b", "ä", "\u{ffff}", "🐦"];
    assert!(all.is_sorted(), "by their bytes");
    for name in all.iter().rev() {
        set(state, name, "1").await;
    }
    let bucket = bucket();
    let keys = async |prefix: &str, after: Option<&str>, limit| {
        let keys = state.keys(&bucket, prefix, after, limit).await.unwrap();
        keys.iter().map(|key| key.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(keys("", None, 100).await, all);
    assert_eq!(keys("", None, 3).await, all[..3]);
    assert_eq!(keys("", Some("a"), 2).await, all[3..5], "those after it");
    assert_eq!(keys("", Some("a/11"), 100).await, all[5..], "that needn't be there");
    assert_eq!(keys("", Some("🐦"), 100).await, [""; 0]);
    assert_eq!(keys("a", None, 100).await, ["a", "a/1", "a/10", "a/2", "aa"]);
    assert_eq!(keys("a/", None, 100).await, ["a/1", "a/10", "a/2"]);
    assert_eq!(keys("a/", Some("a/1"), 1).await, ["a/10"]);
    assert_eq!(keys("a/", Some("A"), 2).await, ["a/1", "a/10"], "that may be before all of them");
    assert_eq!(keys("a/", Some("b"), 100).await, [""; 0], "or behind");
    assert_eq!(keys("🐦", None, 100).await, ["🐦"]);
    assert_eq!(keys("none", None, 100).await, [""; 0]);
    // Page by page, as one lists what is large.
    let mut pages = keys("", None, 2).await;
    while let Some(last) = pages.last().cloned() {
        let page = keys("", Some(&last), 2).await;
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(pages, all);
}

async fn buckets_are_apart(place: &impl Place) {
    let back_end = place.open().await;
    let state = &*back_end.state;
    let buckets: Vec<Bucket> = ["function:a", "function:b", "shared:a"].map(|name| name.parse().unwrap()).into();
    let of = |bucket: &Bucket, key: &str| Key::new(bucket.clone(), key).unwrap();
    assert_eq!(state.buckets().await, Ok(vec![]));
    // One change may be about several.
    let writes = buckets.iter().flat_map(|bucket| {
        let name = Bytes::from(bucket.to_string());
        [(of(bucket, "k"), Some(name)), (of(bucket, "key 2"), Some(Bytes::new()))]
    });
    state.apply(vec![], writes.collect()).await.unwrap();
    let names = state.get(buckets.iter().map(|bucket| of(bucket, "k")).collect()).await.unwrap();
    for (entry, bucket) in names.into_iter().zip(&buckets) {
        assert_eq!(entry.unwrap().value, bucket.to_string());
    }
    let info = |bucket: &Bucket, keys| BucketInfo {
        bucket: bucket.clone(),
        keys,
        bytes: bucket.to_string().len() as u64 + 1 + 5 * (keys - 1),
    };
    assert_eq!(state.buckets().await, Ok(buckets.iter().map(|bucket| info(bucket, 2)).collect()), "by name");
    assert_eq!(state.clear(&buckets[1]).await, Ok(2));
    assert_eq!(state.clear(&buckets[1]).await, Ok(0));
    assert_eq!(state.keys(&buckets[1], "", None, 10).await, Ok(vec![]));
    state.apply(vec![], vec![(of(&buckets[2], "key 2"), None)]).await.unwrap();
    drop(back_end);
    let state = place.open().await.state;
    assert_eq!(state.buckets().await, Ok(vec![info(&buckets[0], 2), info(&buckets[2], 1)]));
}

pub(crate) fn bucket() -> Bucket {
    Bucket::Function("f".parse().expect("a name"))
}

pub(crate) fn key(key: &str) -> Key {
    Key::new(bucket(), key).expect("the suite uses valid keys")
}

pub(crate) fn value(text: &str) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(text.as_bytes()))
}

async fn set(state: &dyn StateStore, name: &str, text: &str) {
    state.apply(vec![], vec![(key(name), value(text))]).await.unwrap();
}

async fn entry(state: &dyn StateStore, name: &str) -> Entry {
    state.get(vec![key(name)]).await.unwrap().remove(0).unwrap()
}
