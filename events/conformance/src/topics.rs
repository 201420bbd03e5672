//! The suite every log must pass: each rule by example. What happens to a topic while its consumers work is tested by
//! [`crate::consumers::agrees_with_the_model`] as well.

#![allow(clippy::unwrap_used, reason = "tests, though they are compiled as a library")]

use crate::consumers::{Place, commit, consumer, event, parked, topic, yield_now};
use bytes::Bytes;
use dunlin_events::{
    Event,
    consumers::{Commit, ConsumerName, Consumers, Progress, Settlement, Start},
    topics::{Appended, EventLog, LogError, Offset, Page, Retention, TopicName},
    units::ByteSize,
};
use futures_util::future::{FutureExt, join, join_all};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Tests every rule of the contract, each in a place of its own.
pub async fn keeps_the_contract<P: Place>(new_place: impl Fn() -> P) {
    offsets_have_no_gaps_and_are_never_used_twice(&new_place()).await;
    an_append_happens_whole_or_not_at_all(&new_place()).await;
    a_topic_takes_an_event_once(&new_place()).await;
    the_same_event_from_many_at_once_is_taken_once(&new_place()).await;
    events_come_out_as_they_went_in(&new_place()).await;
    pages_keep_to_their_limits(&new_place()).await;
    a_reader_sees_every_offset_in_order(&new_place()).await;
    times_grow_with_offsets(&new_place()).await;
    who_waits_is_woken(&new_place()).await;
    trimming_stops_at_what_is_not_settled(&new_place()).await;
    trimming_by_force_passes_everybody(&new_place()).await;
    retention_says_what_is_expired(&new_place()).await;
    topics_come_and_go(&new_place()).await;
    a_large_topic_is_trimmed_and_removed(&new_place()).await;
    what_is_not_there_is_said_so(&new_place()).await;
}

async fn offsets_have_no_gaps_and_are_never_used_twice(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    assert_eq!(append(log, &a, 0..3).await, [0, 1, 2]);
    assert_eq!(append(log, &a, 3..4).await, [3]);
    assert_eq!(log.append(&a, vec![]).await, Ok(vec![]));
    assert_eq!(log.trim(&a, u64::MAX, false).await, Ok(4), "all of it");
    assert_eq!(append(log, &a, 4..6).await, [4, 5]);
    drop(back_end);

    let back_end = place.open().await;
    let log = &*back_end.log;
    assert_eq!(append(log, &a, 6..7).await, [6]);
    let page = read_all(log, &a).await;
    assert_eq!((page.first, page.end, offsets(&page)), (4, 7, vec![4, 5, 6]));
    assert_eq!(log.trim(&a, 7, false).await, Ok(7));
    drop(back_end);

    let back_end = place.open().await;
    let log = &*back_end.log;
    assert_eq!(append(log, &a, 7..8).await, [7], "also when nothing is left that had an offset");
    log.remove(&a).await.unwrap();
    log.create(vec![a.clone()]).await.unwrap();
    let anew = log.topic(&a).await.unwrap();
    assert_eq!((anew.first, anew.end), (8, 8));
    // The same events, to which the topic that is gone had given offsets.
    assert_eq!(append(log, &a, 0..2).await, [8, 9], "also not by a topic of the same name");
    log.remove(&a).await.unwrap();
    drop(back_end);

    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone(), topic("b")]).await.unwrap();
    assert_eq!(append(log, &a, 0..1).await, [10]);
    assert_eq!(append(log, &topic("b"), 0..1).await, [0]);
}

async fn an_append_happens_whole_or_not_at_all(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    // Nobody waits for them; one that is waited for comes after.
    for i in 0..20 {
        drop(log.append(&a, vec![event("/s", 2 * i), event("/s", 2 * i + 1)]).now_or_never());
    }
    append(log, &a, 100..101).await;
    let page = read_all(log, &a).await;
    let ids: BTreeSet<&str> = page.events.iter().map(|stored| stored.event.id()).collect();
    assert!(ids.contains("100"));
    for i in 0..20_u64 {
        let half = |id: u64| ids.contains(&*id.to_string());
        assert_eq!(half(2 * i), half(2 * i + 1), "half of append {i}");
    }
    drop(back_end);
    assert_eq!(read_all(&*place.open().await.log, &a).await, page);
}

async fn a_topic_takes_an_event_once(place: &impl Place) {
    let (a, b) = (topic("a"), topic("b"));
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone(), b.clone()]).await.unwrap();
    let added = |offset| Appended { offset, duplicate: false };
    let known = |offset| Appended { offset, duplicate: true };
    let events = vec![event("/s", 1), event("/s", 2), event("/s", 1), event("/other", 1)];
    assert_eq!(
        log.append(&a, events).await,
        Ok(vec![added(0), added(1), known(0), added(2)]),
        "id and source together"
    );
    // It is told by its id and source, whatever else is in it.
    let mut different = event("/s", 2);
    different.set_subject("changed").unwrap();
    assert_eq!(log.append(&a, vec![different, event("/s", 3)]).await, Ok(vec![known(1), added(3)]));
    assert_eq!(log.append(&b, vec![event("/s", 1)]).await, Ok(vec![added(0)]), "another topic");
    drop(back_end);

    let back_end = place.open().await;
    let log = &*back_end.log;
    assert_eq!(log.append(&a, vec![event("/s", 1)]).await, Ok(vec![known(0)]));
    let page = read_all(log, &a).await;
    assert_eq!((offsets(&page), page.end), (vec![0, 1, 2, 3], 4));
    assert_eq!(page.events[1].event, event("/s", 2), "the first one stays");
    assert_eq!(log.trim(&a, 1, false).await, Ok(1));
    assert_eq!(log.append(&a, vec![event("/s", 1)]).await, Ok(vec![added(4)]), "the topic holds it no longer");
}

async fn the_same_event_from_many_at_once_is_taken_once(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    let answers = join_all((0..40).map(|i| log.append(&a, vec![event("/s", 1000 + i), event("/s", 1)]))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    let same: BTreeSet<Offset> = answers.iter().map(|answer| answer[1].offset).collect();
    assert_eq!(same.len(), 1, "one place for it");
    assert_eq!(answers.iter().filter(|answer| !answer[1].duplicate).count(), 1);
    let all: BTreeSet<Offset> = answers.iter().map(|answer| answer[0].offset).chain(same).collect();
    assert_eq!(all, (0..41).collect());
}

async fn events_come_out_as_they_went_in(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    let with = |id, content_type: Option<&str>, data: Bytes| {
        let mut event = event("/s", id);
        event.set_data(content_type, data).unwrap();
        event
    };
    let mut all = event("urn:s%20:1?q=&a", 1);
    all.set_subject("a \"quoted\" \\ sübject 🐦").unwrap();
    all.set_time("2026-01-31T12:00:00.50+01:00").unwrap();
    all.set_data_schema("https://example.com/schema").unwrap();
    all.set_extension("partitionkey", "key").unwrap();
    all.set_extension("number", -7).unwrap();
    all.set_extension("flag", true).unwrap();
    let events = vec![
        all,
        with(2, Some("application/json"), Bytes::from_static(b"{ \"spaces\" :1.00, \"n\":\"\\u0000\" }")),
        with(3, Some("text/plain"), Bytes::from_static("line\nßtring\0".as_bytes())),
        with(4, None, Bytes::from((0..=255).collect::<Vec<u8>>())),
        with(5, None, Bytes::new()),
        with(6, None, Bytes::from(vec![7; 1 << 20])),
    ];
    log.append(&a, events.clone()).await.unwrap();
    drop(back_end);
    let page = read_all(&*place.open().await.log, &a).await;
    assert_eq!(page.events.into_iter().map(|stored| stored.event).collect::<Vec<_>>(), events);
}

async fn pages_keep_to_their_limits(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    let read = async |from, events, bytes| {
        let page = log.read(&a, from, events, bytes).await.unwrap();
        assert_eq!((page.first, page.end), (log.topic(&a).await.unwrap().first, log.topic(&a).await.unwrap().end));
        (offsets(&page), page.next)
    };
    assert_eq!(read(0, 10, 1000).await, (vec![], 0));
    assert_eq!(read(5, 10, 1000).await, (vec![], 5));
    append(log, &a, 0..30).await;
    assert_eq!(read(0, 3, usize::MAX).await, (vec![0, 1, 2], 3));
    assert_eq!(read(3, 1, usize::MAX).await, (vec![3], 4));
    assert_eq!(read(29, 3, usize::MAX).await, (vec![29], 30));
    for from in [30, 31, u64::MAX] {
        assert_eq!(read(from, 3, usize::MAX).await, (vec![], from));
    }
    assert_eq!(read(4, 10, 1).await, (vec![4], 5), "at least one");
    assert_eq!(read(4, 10, 0).await, (vec![4], 5));
    let (some, _) = read(0, usize::MAX, 5 * event("/s", 0).size()).await;
    assert!((1..=10).contains(&some.len()), "about five: {some:?}");
    assert_eq!(some, (0..some.len() as u64).collect::<Vec<_>>());
    log.trim(&a, 7, false).await.unwrap();
    assert_eq!(read(0, 2, usize::MAX).await, (vec![7, 8], 9), "from what is left");
    log.trim(&a, 30, false).await.unwrap();
    assert_eq!(read(3, 2, usize::MAX).await, (vec![], 30), "beyond what is gone");
}

async fn a_reader_sees_every_offset_in_order(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    let done = AtomicBool::new(false);
    let writing = async {
        let writers = (0..4).map(async |writer| {
            for i in 0..25 {
                let id = 1000 * writer + 3 * i;
                log.append(&a, (id..id + 3).map(|id| event("/s", id)).collect()).await.unwrap();
            }
        });
        join_all(writers).await;
        done.store(true, Ordering::Relaxed);
    };
    let reading = async {
        let mut next = 0;
        loop {
            let last = done.load(Ordering::Relaxed);
            let page = log.read(&a, next, 7, usize::MAX).await.unwrap();
            assert_eq!(offsets(&page), (next..page.next).collect::<Vec<_>>());
            // The three of an append are next to each other, and not one is there without the others.
            assert!(page.end.is_multiple_of(3), "half an append");
            for pair in page.events.windows(2).filter(|pair| !pair[1].offset.is_multiple_of(3)) {
                let id = |at: usize| pair[at].event.id().parse::<u64>().unwrap();
                assert_eq!(id(0) + 1, id(1));
            }
            if last && page.events.is_empty() {
                break assert_eq!(next, 300);
            }
            next = page.next;
            yield_now().await;
        }
    };
    join(writing, reading).await;
}

async fn times_grow_with_offsets(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    assert_eq!(log.offset_at(&a, 0).await, Ok(0));
    for i in 0..20 {
        append(log, &a, 2 * i..2 * i + 2).await;
    }
    let check = async |log: &dyn EventLog| {
        let page = read_all(log, &a).await;
        let times: Vec<u64> = page.events.iter().map(|stored| stored.appended_at).collect();
        assert!(times.is_sorted() && times[0] > 1_700_000_000_000, "milliseconds since 1970");
        assert!(log.topic(&a).await.unwrap().created_at <= times[0]);
        let ask = times.iter().flat_map(|time| [time - 1, *time, time + 1]).chain([0, u64::MAX]);
        for time in ask {
            let first = page.events.iter().find(|stored| stored.appended_at >= time);
            assert_eq!(log.offset_at(&a, time).await, Ok(first.map_or(page.end, |stored| stored.offset)));
        }
    };
    check(log).await;
    log.trim(&a, 9, false).await.unwrap();
    check(log).await;
    drop(back_end);
    check(&*place.open().await.log).await;
}

async fn who_waits_is_woken(place: &impl Place) {
    let (a, b) = (topic("a"), topic("b"));
    let back_end = place.open().await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    log.create(vec![a.clone(), b.clone()]).await.unwrap();
    append(log, &a, 0..2).await;
    assert_eq!(log.appended(&a, 0).await, Ok(()));
    assert_eq!(log.appended(&a, 1).await, Ok(()), "it is there already");

    let mut waiting: Vec<_> = [2, 2, 3, 5].map(|offset| log.appended(&a, offset)).into();
    assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()));
    append(log, &a, 0..2).await;
    assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()), "nothing was added");
    append(log, &b, 0..10).await;
    assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()), "another topic");
    append(log, &a, 2..3).await;
    let woken = join_all(waiting.drain(..2)).await;
    assert_eq!(woken, [Ok(()), Ok(())]);
    assert!(waiting.iter_mut().all(|wait| wait.now_or_never().is_none()));

    // What a run returns wakes like what is published.
    let name = consumer("f", "b");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let outputs = vec![(a.clone(), event("/f", 1))];
    let run = Commit { settled: vec![(0, Settlement::Done)], outputs, ..commit(&name) };
    consumers.commit(run).await.unwrap();
    assert_eq!(waiting.remove(0).await, Ok(()));

    // Who waits for what never comes hears of that; not of a topic that has come to have the name.
    assert!((&mut waiting[0]).now_or_never().is_none());
    log.remove(&a).await.unwrap();
    log.create(vec![a.clone()]).await.unwrap();
    assert_eq!(waiting.remove(0).await, Err(LogError::NoTopic(a.clone())));
    let mut wait = log.appended(&a, log.topic(&a).await.unwrap().end);
    assert!((&mut wait).now_or_never().is_none());
    append(log, &a, 0..1).await;
    assert_eq!(wait.await, Ok(()));

    let appends = async {
        for i in 1..50 {
            append(log, &a, i..i + 1).await;
        }
    };
    let follow = async {
        for offset in 0..50 {
            log.appended(&a, offset).await.unwrap();
            assert!(log.topic(&a).await.unwrap().end > offset);
        }
    };
    join(appends, follow).await;
}

async fn trimming_stops_at_what_is_not_settled(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    log.create(vec![a.clone()]).await.unwrap();
    append(log, &a, 0..20).await;
    let (one, two) = (consumer("one", "a"), consumer("two", "a"));
    consumers.open(&one, Start::Beginning).await.unwrap();
    consumers.open(&two, Start::Offset(10)).await.unwrap();
    assert_eq!(log.trim(&a, 20, false).await, Ok(0));
    settle(consumers, &one, 0..5).await;
    settle(consumers, &one, 6..8).await;
    assert_eq!(log.trim(&a, 3, false).await, Ok(3), "not further than it is told");
    assert_eq!(log.trim(&a, 2, false).await, Ok(3), "and never back");
    assert_eq!(log.trim(&a, 20, false).await, Ok(5), "5 is yet to run");
    let park = Commit { settled: vec![(5, parked(5, None, Some(1)))], ..commit(&one) };
    consumers.commit(park).await.unwrap();
    settle(consumers, &one, 8..12).await;
    assert_eq!(log.trim(&a, 20, false).await, Ok(5), "5 is parked");
    settle(consumers, &one, 5..6).await;
    assert_eq!(log.trim(&a, 20, false).await, Ok(10), "the other consumer is there");
    consumers.forget(&two.function).await.unwrap();
    assert_eq!(log.trim(&a, 20, false).await, Ok(12));
    drop(back_end);

    let back_end = place.open().await;
    let log = &*back_end.log;
    assert_eq!(log.trim(&a, 20, false).await, Ok(12));
    let page = read_all(log, &a).await;
    assert_eq!(offsets(&page), (12..20).collect::<Vec<_>>());
    assert_eq!(log.topic(&a).await.unwrap().first, 12);
}

async fn trimming_by_force_passes_everybody(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    log.create(vec![a.clone()]).await.unwrap();
    append(log, &a, 0..20).await;
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let park = [3, 12].map(|offset| (offset, parked(offset, None, Some(offset))));
    consumers.commit(Commit { settled: park.into(), ..commit(&name) }).await.unwrap();
    settle(consumers, &name, 7..11).await;
    assert_eq!(log.trim(&a, 9, true).await, Ok(9));
    let progress = Progress { position: 11, ahead: vec![(12, 13)], parked: 2 };
    assert_eq!(consumers.open(&name, Start::Beginning).await, Ok(progress), "it goes on with what is left");
    let events: Vec<_> = consumers.parked(&name, 0, 10).await.unwrap().into_iter().map(|parked| parked.event).collect();
    assert_eq!(events, [Some(event("/s", 3)), None], "what it has parked it keeps");
    assert_eq!(log.trim(&a, u64::MAX, false).await, Ok(11), "and that needs the topic no longer");
    assert_eq!(log.trim(&a, u64::MAX, true).await, Ok(20));
    // Parked anew, it still has its event.
    consumers.commit(Commit { settled: vec![(3, parked(3, None, Some(30)))], ..commit(&name) }).await.unwrap();
    drop(back_end);

    let back_end = place.open().await;
    let parked = back_end.consumers.parked(&name, 0, 10).await.unwrap();
    let parked: Vec<_> = parked.into_iter().map(|parked| (parked.due, parked.event)).collect();
    assert_eq!(parked, [(Some(30), Some(event("/s", 3))), (Some(12), Some(event("/s", 12)))]);
}

async fn retention_says_what_is_expired(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone(), topic("keeps-all")]).await.unwrap();
    let expired = async |age, size, count| {
        let retention = Retention { age, size, count };
        let topic = log.retain(&a, retention.clone()).await.unwrap();
        assert_eq!(topic.retention, retention);
        let retained = log.retained().await.unwrap();
        assert_eq!(retained, Vec::from_iter((retention != Retention::default()).then_some(topic)));
        log.expired(&a).await.unwrap()
    };
    assert_eq!(expired(Some(Duration::ZERO), Some(ByteSize(0)), Some(0)).await, 0);
    append(log, &a, 0..10).await;
    let bytes = log.topic(&a).await.unwrap().bytes;
    assert_eq!(expired(None, None, None).await, 0, "nothing has an end");
    assert_eq!(expired(None, None, Some(3)).await, 7);
    assert_eq!(expired(None, None, Some(10)).await, 0);
    assert_eq!(expired(None, None, Some(u64::MAX)).await, 0);
    assert_eq!(expired(None, Some(ByteSize(bytes)), None).await, 0);
    assert_eq!(expired(None, Some(ByteSize(bytes - 1)), None).await, 1);
    assert_eq!(expired(None, Some(ByteSize(0)), None).await, 10);
    assert_eq!(expired(None, Some(ByteSize(bytes / 2)), Some(7)).await, 5, "what expires by any of them");
    assert_eq!(expired(Some(Duration::from_secs(3600)), None, Some(9)).await, 1);
    assert_eq!(expired(Some(Duration::MAX), None, None).await, 0);
    // By age: as soon as the newest is older than nothing at all.
    while expired(Some(Duration::from_millis(1)), None, None).await < 10 {}

    assert_eq!(expired(None, Some(ByteSize(bytes / 2)), None).await, 5);
    assert_eq!(log.trim(&a, 5, false).await, Ok(5));
    assert_eq!(log.topic(&a).await.unwrap().bytes, bytes / 2);
    assert_eq!(expired(None, Some(ByteSize(bytes / 2)), Some(5)).await, 5, "no less than what is gone");
    append(log, &a, 10..11).await;
    assert_eq!(expired(None, None, Some(5)).await, 6);
    assert_eq!(log.trim(&a, u64::MAX, false).await, Ok(11));
    assert_eq!(log.topic(&a).await.unwrap().bytes, 0);
    let retention = log.topic(&a).await.unwrap().retention;
    drop(back_end);
    assert_eq!(place.open().await.log.topic(&a).await.unwrap().retention, retention);
}

async fn topics_come_and_go(place: &impl Place) {
    let (a, b, c) = (topic("a"), topic("b"), topic("c.d-e_f"));
    let back_end = place.open().await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    assert_eq!(log.topics().await, Ok(vec![]));
    log.create(vec![]).await.unwrap();
    log.create(vec![b.clone(), a.clone(), b.clone()]).await.unwrap();
    append(log, &a, 0..3).await;
    log.retain(&a, Retention { count: Some(7), ..Retention::default() }).await.unwrap();
    let before = log.topic(&a).await.unwrap();
    assert_eq!((before.first, before.end, before.retention.count), (0, 3, Some(7)));
    assert!(before.bytes > 0);
    log.create(vec![a.clone(), c.clone()]).await.unwrap();
    let names = async |log: &dyn EventLog| {
        let topics = log.topics().await.unwrap();
        topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
    };
    assert_eq!(names(log).await, [a.clone(), b.clone(), c.clone()], "by name");
    assert_eq!(log.topics().await.unwrap()[0], before, "one that is there stays as it is");

    let (on_a, on_b) = (consumer("f", "a"), consumer("f", "b"));
    for name in [&on_a, &on_b] {
        consumers.open(name, Start::Beginning).await.unwrap();
    }
    let park = Commit { settled: vec![(0, parked(0, Some("k"), Some(1)))], ..commit(&on_a) };
    consumers.commit(park).await.unwrap();
    let former = log.topic(&a).await.unwrap().end;
    log.remove(&a).await.unwrap();
    assert_eq!(names(log).await, [b.clone(), c.clone()]);
    assert_eq!(consumers.consumers().await.unwrap().len(), 1);
    log.create(vec![a.clone()]).await.unwrap();
    append(log, &a, 0..1).await;
    let progress = Progress { position: former, ahead: vec![], parked: 0 };
    assert_eq!(consumers.open(&on_a, Start::Beginning).await, Ok(progress), "a new consumer of a new topic");
    let anew = log.topic(&a).await.unwrap();
    assert_eq!((anew.first, anew.end, anew.retention), (former, former + 1, Retention::default()));
    drop(back_end);
    let log = place.open().await.log;
    assert_eq!(names(&*log).await, [a, b, c]);
}

async fn a_large_topic_is_trimmed_and_removed(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![a.clone()]).await.unwrap();
    // More than any back end drops at once, some of them large.
    let mut events: Vec<_> = (0..2500).map(|id| event("/s", id)).collect();
    for event in events.iter_mut().step_by(100) {
        event.set_data(None, Bytes::from(vec![1; 512 << 10])).unwrap();
    }
    log.append(&a, events.clone()).await.unwrap();
    let bytes = log.topic(&a).await.unwrap().bytes;
    assert_eq!(log.trim(&a, 2450, false).await, Ok(2450));
    let page = read_all(log, &a).await;
    assert_eq!((offsets(&page), page.first), ((2450..2500).collect::<Vec<_>>(), 2450));
    assert!(log.topic(&a).await.unwrap().bytes < bytes / 1000);
    log.append(&a, events[..2000].to_vec()).await.unwrap();
    log.remove(&a).await.unwrap();
    log.create(vec![a.clone()]).await.unwrap();
    let anew: Vec<_> = (4500..4505).collect();
    assert_eq!(append(log, &a, 0..5).await, anew, "while the events of the one before may still be there");
    drop(back_end);
    let back_end = place.open().await;
    assert_eq!(offsets(&read_all(&*back_end.log, &a).await), anew);
    assert_eq!(append(&*back_end.log, &a, 5..7).await, [4505, 4506]);
}

async fn what_is_not_there_is_said_so(place: &impl Place) {
    let a = topic("a");
    let back_end = place.open().await;
    let log = &*back_end.log;
    log.create(vec![topic("b")]).await.unwrap();
    let error = LogError::NoTopic(a.clone());
    assert_eq!(log.topic(&a).await, Err(error.clone()));
    assert_eq!(log.retain(&a, Retention::default()).await, Err(error.clone()));
    assert_eq!(log.remove(&a).await, Err(error.clone()));
    assert_eq!(log.append(&a, vec![event("/s", 1)]).await, Err(error.clone()));
    assert_eq!(log.append(&a, vec![]).await, Err(error.clone()));
    assert_eq!(log.read(&a, 0, 1, 1).await, Err(error.clone()));
    assert_eq!(log.read(&a, 0, 1000, 1 << 20).await, Err(error.clone()));
    assert_eq!(log.offset_at(&a, 0).await, Err(error.clone()));
    assert_eq!(log.appended(&a, 0).await, Err(error.clone()));
    assert_eq!(log.trim(&a, 0, false).await, Err(error.clone()));
    assert_eq!(log.trim(&a, 0, true).await, Err(error.clone()));
    assert_eq!(log.expired(&a).await, Err(error.clone()));
    assert!(!error.retryable());
    assert_eq!(log.topics().await.unwrap().len(), 1);
}

/// Appends new events with these ids, and answers with their offsets.
async fn append(log: &dyn EventLog, topic: &TopicName, ids: std::ops::Range<u64>) -> Vec<Offset> {
    let known: BTreeSet<String> =
        read_all(log, topic).await.events.into_iter().map(|stored| stored.event.id().to_owned()).collect();
    let events: Vec<Event> = ids.map(|id| event("/s", id)).collect();
    let appended = log.append(topic, events.clone()).await.unwrap();
    for (appended, event) in appended.iter().zip(&events) {
        assert_eq!(appended.duplicate, known.contains(event.id()));
    }
    appended.into_iter().map(|appended| appended.offset).collect()
}

/// All the topic holds, read in many pages.
pub(crate) async fn read_all(log: &dyn EventLog, topic: &TopicName) -> Page {
    let mut all = log.read(topic, 0, 1000, usize::MAX).await.unwrap();
    loop {
        let page = log.read(topic, all.next, 1000, usize::MAX).await.unwrap();
        (all.next, all.first, all.end) = (page.next, page.first, page.end);
        if page.events.is_empty() {
            return all;
        }
        all.events.extend(page.events);
    }
}

async fn settle(consumers: &dyn Consumers, name: &ConsumerName, offsets: std::ops::Range<Offset>) {
    let settled = offsets.map(|offset| (offset, Settlement::Done)).collect();
    consumers.commit(Commit { settled, ..commit(name) }).await.unwrap();
}

fn offsets(page: &Page) -> Vec<Offset> {
    page.events.iter().map(|stored| stored.offset).collect()
}
