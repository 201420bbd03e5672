//! The suite every back end of consumers must pass, together with the log and the state its commits change.
//!
//! A back end says in a [`Place`] how it is opened, and runs two things in its own tests: [`keeps_the_contract`], each rule
//! by example (as those of [`crate::topics`] and [`crate::state`] do), and [`agrees_with_the_model`], whatever
//! [`operations`] come to mind against a model in memory.

#![allow(clippy::unwrap_used, reason = "tests, though they are compiled as a library")]

mod model;

pub use model::{Operation, agrees_with_the_model, operations};

use crate::{
    state::{key, value},
    topics::read_all,
};
use dunlin_events::{
    BoxFuture, Event,
    consumers::{
        Commit, CommitError, ConsumerName, ConsumerState, Consumers, DeadLetter, DeadLetterFilter, Fate, Parked,
        Progress, Settlement, Start, Taken,
    },
    state::{Revision, StateStore},
    topics::{Appended, EventLog, Offset, TopicName},
};
use futures_util::future::{FutureExt, join_all};
use std::sync::Arc;

/// A back end, as its contracts.
pub struct BackEnd {
    pub log: Arc<dyn EventLog>,
    pub consumers: Arc<dyn Consumers>,
    pub state: Arc<dyn StateStore>,
}

/// Where a back end keeps its data.
pub trait Place {
    /// Opens the back end that keeps its data here; at first there is none. The one opened before has been dropped.
    fn open(&self) -> BoxFuture<'_, BackEnd>;
}

/// Tests every rule of the contract, each in a place of its own.
pub async fn keeps_the_contract<P: Place>(new_place: impl Fn() -> P) {
    consumers_begin_where_they_are_told(&new_place()).await;
    a_commit_happens_whole(&new_place()).await;
    a_refused_commit_changes_nothing(&new_place()).await;
    what_a_source_takes_happens_whole(&new_place()).await;
    a_commit_nobody_waits_for_happens_whole_or_not_at_all(&new_place()).await;
    an_offset_is_done_once(&new_place()).await;
    an_output_is_appended_once(&new_place()).await;
    transactions_are_serializable(&new_place()).await;
    what_is_parked_waits(&new_place()).await;
    keys_keep_their_order_while_parked(&new_place()).await;
    dead_letters_are_kept(&new_place()).await;
    dead_letters_are_redriven(&new_place()).await;
    dead_letters_of_a_topic_that_is_gone_stay(&new_place()).await;
    seeking_begins_anew(&new_place()).await;
    what_is_forgotten_is_gone(&new_place()).await;
    what_is_not_there_is_said_so(&new_place()).await;
}

async fn consumers_begin_where_they_are_told(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    assert_eq!(consumers.consumers().await, Ok(vec![]));
    log.trim(&topic("a"), 3, false).await.unwrap();
    let time = read_all(log, &topic("a")).await.events[0].appended_at;
    for (i, (start, position)) in [
        (Start::Beginning, 3),
        (Start::Now, 10),
        (Start::Offset(5), 5),
        (Start::Offset(1), 3),
        (Start::Offset(u64::MAX), 10),
        (Start::Time(0), 3),
        (Start::Time(time), 3),
        (Start::Time(u64::MAX), 10),
    ]
    .into_iter()
    .enumerate()
    {
        let name = consumer(&format!("f{i}"), "a");
        assert_eq!(consumers.open(&name, start).await, Ok(at(position)), "{start:?}");
        assert_eq!(consumers.open(&name, Start::Offset(7)).await, Ok(at(position)), "it is there already");
        assert_eq!(consumers.seek(&name, Start::Now).await, Ok(at(10)));
        assert_eq!(consumers.seek(&name, start).await, Ok(at(position)), "{start:?}");
    }
    let before = consumers.consumers().await.unwrap();
    let names: Vec<_> = before.iter().map(|consumer| consumer.name.clone()).collect();
    assert!(names.is_sorted() && names.len() == 8);
    assert!(before.iter().all(|consumer| consumer.end == 10));
    drop(back_end);
    assert_eq!(place.open().await.consumers.consumers().await, Ok(before));
}

async fn a_commit_happens_whole(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let name = consumer("f", "a");
    back_end.consumers.open(&name, Start::Beginning).await.unwrap();
    back_end.log.create(vec![topic("b")]).await.unwrap();
    let run = Commit {
        settled: vec![
            (2, Settlement::Done),
            (0, Settlement::Done),
            (5, parked(5, Some("k"), Some(100))),
            (3, dead(3, None)),
            (9, Settlement::Done),
        ],
        outputs: vec![(topic("b"), event("/f", 1)), (topic("a"), event("/f", 2)), (topic("b"), event("/f", 3))],
        writes: vec![(key("x"), value("1")), (key("y"), value("2"))],
        ..commit(&name)
    };
    back_end.consumers.commit(run).await.unwrap();
    // An empty one is no error.
    back_end.consumers.commit(commit(&name)).await.unwrap();
    drop(back_end);

    let BackEnd { log, consumers, state } = place.open().await;
    let progress = Progress { position: 1, ahead: vec![(2, 4), (5, 6), (9, 10)], parked: 1 };
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(progress.clone()));
    assert_eq!(consumers.consumers().await, Ok(vec![ConsumerState { name: name.clone(), progress, end: 11, dead: 1 }]));
    let b: Vec<_> = read_all(&*log, &topic("b")).await.events.into_iter().map(|stored| stored.event).collect();
    assert_eq!(b, [event("/f", 1), event("/f", 3)], "in their order");
    assert_eq!(read_all(&*log, &topic("a")).await.events[10].event, event("/f", 2));
    let entries = state.get(vec![key("x"), key("y")]).await.unwrap();
    let values: Vec<_> = entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect();
    assert_eq!(values, [value("1"), value("2")]);
    assert_eq!(consumers.parked(&name, 0, 10).await, Ok(vec![unboxed(parked(5, Some("k"), Some(100)))]));
    let letters = consumers.dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(Settlement::Dead(Box::new(DeadLetter { number: 0, ..letter.clone() })), dead(3, None));

    // The gaps are closed, and the ranges with them.
    let settled = [1, 4, 6, 8].map(|offset| (offset, Settlement::Done));
    consumers.commit(Commit { settled: settled.into(), ..commit(&name) }).await.unwrap();
    let progress = Progress { position: 7, ahead: vec![(8, 10)], parked: 1 };
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(progress));
    consumers.commit(Commit { settled: vec![(7, Settlement::Done)], ..commit(&name) }).await.unwrap();
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(Progress { parked: 1, ..at(10) }));
}

async fn a_refused_commit_changes_nothing(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let (log, consumers, state) = (&*back_end.log, &*back_end.consumers, &*back_end.state);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    state.apply(vec![], vec![(key("x"), value("1"))]).await.unwrap();
    let settled = vec![(0, Settlement::Done), (4, parked(4, None, Some(1)))];
    consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    let before = read_everything(&back_end).await;
    let good = Commit {
        settled: vec![(1, Settlement::Done), (4, Settlement::Done), (5, dead(5, None)), (6, parked(6, None, None))],
        outputs: vec![(topic("a"), event("/f", 1))],
        reads: vec![(key("y"), Revision(0))],
        writes: vec![(key("x"), value("2"))],
        ..commit(&name)
    };
    let settled = |offset| CommitError::Settled { topic: topic("a"), offset };
    type Spoil<'a> = &'a dyn Fn(&mut Commit);
    let refused: [(Spoil<'_>, CommitError); 8] = [
        (&|commit| commit.settled.push((0, Settlement::Done)), settled(0)),
        (&|commit| commit.settled.push((0, parked(0, None, Some(1)))), settled(0)),
        (&|commit| commit.settled.push((0, dead(0, None))), settled(0)),
        (&|commit| commit.settled.push((10, Settlement::Done)), CommitError::NoConsumer(name.clone())),
        (&|commit| commit.outputs.push((topic("no"), event("/f", 2))), CommitError::NoTopic(topic("no"))),
        (&|commit| commit.reads.push((key("x"), Revision(0))), CommitError::Conflict { key: key("x") }),
        (&|commit| commit.consumer = consumer("no", "a"), CommitError::NoConsumer(consumer("no", "a"))),
        (&|commit| commit.consumer = consumer("f", "no"), CommitError::NoTopic(topic("no"))),
    ];
    for (spoil, error) in refused {
        let mut run = good.clone();
        spoil(&mut run);
        assert_eq!(consumers.commit(run).await, Err(error.clone()));
        assert_eq!(read_everything(&back_end).await, before, "{error}");
        assert_eq!(error.retryable(), matches!(error, CommitError::Conflict { .. }));
    }
    consumers.commit(good).await.unwrap();
    assert_eq!(log.topic(&topic("a")).await.unwrap().end, 11);
}

async fn what_a_source_takes_happens_whole(place: &impl Place) {
    let back_end = open(place, "a", 2).await;
    let name = consumer("f", "a");
    back_end.consumers.open(&name, Start::Now).await.unwrap();
    back_end.log.create(vec![topic("b")]).await.unwrap();
    let known = event("/s", 1);
    let taken = Taken {
        consumer: name.clone(),
        events: vec![known, event("/up", 1), event("/up", 2)],
        others: vec![(topic("b"), event("/up", 3))],
        reads: vec![],
        writes: vec![(key("position"), value("2"))],
    };
    let fresh = |offset| Appended { offset, duplicate: false };
    let waiting = {
        let log = Arc::clone(&back_end.log);
        async move { log.appended(&topic("a"), 2).await }
    };
    let (appended, woken) = futures_util::future::join(back_end.consumers.take(taken.clone()), waiting).await;
    assert_eq!(appended, Ok(vec![Appended { offset: 1, duplicate: true }, fresh(2), fresh(3)]));
    assert_eq!(woken, Ok(()));
    let b = read_all(&*back_end.log, &topic("b")).await;
    assert_eq!(b.events[0].event, event("/up", 3), "in its own topic");
    let before = read_everything(&back_end).await;
    let nowhere = Taken { others: vec![(topic("no"), event("/up", 4))], ..taken.clone() };
    assert_eq!(back_end.consumers.take(nowhere).await, Err(CommitError::NoTopic(topic("no"))));
    let again = Taken { reads: vec![(key("position"), Revision(0))], ..taken.clone() };
    let conflict = CommitError::Conflict { key: key("position") };
    assert_eq!(back_end.consumers.take(again).await, Err(conflict));
    let nobody = Taken { consumer: consumer("no", "a"), ..taken.clone() };
    assert_eq!(back_end.consumers.take(nobody).await, Err(CommitError::NoConsumer(consumer("no", "a"))));
    assert_eq!(read_everything(&back_end).await, before);

    drop(back_end);
    let back_end = place.open().await;
    assert_eq!(read_everything(&back_end).await, before, "it was on disk");
    assert_eq!(back_end.consumers.progress(&name).await, Ok(at(2)));
    let settled = vec![(2, Settlement::Done), (3, dead(3, None))];
    back_end.consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    let fates = back_end.consumers.fates(&name, vec![4, 3, 2]).await;
    assert_eq!(fates, Ok(vec![Fate::Waiting, Fate::Dead, Fate::Done]), "in the order asked for");
    back_end.consumers.redrive(DeadLetterFilter::default(), 1).await.unwrap();
    assert_eq!(back_end.consumers.fates(&name, vec![3]).await, Ok(vec![Fate::Waiting]));
    // The source of a function that is removed adds nothing any more.
    back_end.consumers.forget(&name.function).await.unwrap();
    assert_eq!(back_end.consumers.take(taken).await, Err(CommitError::NoConsumer(name.clone())));
    assert_eq!(back_end.consumers.progress(&name).await, Err(CommitError::NoConsumer(name)));
}

async fn a_commit_nobody_waits_for_happens_whole_or_not_at_all(place: &impl Place) {
    let back_end = open(place, "a", 21).await;
    let (consumers, state) = (&*back_end.consumers, &*back_end.state);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let run = |offset: Offset| Commit {
        settled: vec![(offset, Settlement::Done)],
        outputs: vec![(topic("a"), event("/f", offset))],
        writes: vec![(key(&offset.to_string()), value("1"))],
        ..commit(&name)
    };
    for offset in 0..20 {
        drop(consumers.commit(run(offset)).now_or_never());
    }
    consumers.commit(run(20)).await.unwrap();
    let appended = read_all(&*back_end.log, &topic("a")).await.events;
    for offset in 0..20 {
        let output = appended.iter().any(|stored| stored.event == event("/f", offset));
        let written = state.get(vec![key(&offset.to_string())]).await.unwrap()[0].is_some();
        let settled = consumers.commit(Commit { settled: vec![(offset, Settlement::Done)], ..commit(&name) }).await;
        assert_eq!((output, written), (settled.is_err(), settled.is_err()), "half of commit {offset}");
    }
}

async fn an_offset_is_done_once(place: &impl Place) {
    let back_end = open(place, "a", 20).await;
    let consumers = &*back_end.consumers;
    let name = consumer("f", "a");
    consumers.open(&name, Start::Offset(2)).await.unwrap();
    let settle = |offset, settlement| Commit { settled: vec![(offset, settlement)], ..commit(&name) };
    let done = |offset| consumers.commit(settle(offset, Settlement::Done));
    let settled = |offset| Err(CommitError::Settled { topic: topic("a"), offset });
    assert_eq!(done(1).await, settled(1), "it begins behind it");
    for offset in [2, 5, 4, 7] {
        assert_eq!(done(offset).await, Ok(()));
        assert_eq!(done(offset).await, settled(offset));
    }
    // What is given up is done; what is parked isn't, until it is.
    consumers.commit(settle(9, dead(9, None))).await.unwrap();
    assert_eq!(done(9).await, settled(9));
    for again in [Some(1), Some(2)] {
        consumers.commit(settle(10, parked(10, None, again))).await.unwrap();
    }
    assert_eq!(done(10).await, Ok(()));
    assert_eq!(done(10).await, settled(10));
    consumers.commit(settle(11, parked(11, None, Some(1)))).await.unwrap();
    consumers.commit(settle(11, dead(11, None))).await.unwrap();
    assert_eq!(done(11).await, settled(11));
    let other = consumer("other", "a");
    consumers.open(&other, Start::Beginning).await.unwrap();
    let others = Commit { settled: vec![(2, Settlement::Done)], ..commit(&other) };
    assert_eq!(consumers.commit(others).await, Ok(()), "each consumer for itself");

    let race = join_all((0..20).map(|_| done(15))).await;
    assert_eq!(race.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert!(race.iter().all(|answer| answer.is_ok() || *answer == settled(15)));
    drop(back_end);
    let consumers = place.open().await.consumers;
    assert_eq!(consumers.commit(settle(15, Settlement::Done)).await, settled(15));
    assert_eq!(consumers.commit(settle(9, Settlement::Done)).await, settled(9));
}

async fn an_output_is_appended_once(place: &impl Place) {
    let back_end = open(place, "a", 5).await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let run = |offset, ids: &[u64]| Commit {
        settled: vec![(offset, Settlement::Done)],
        outputs: ids.iter().map(|id| (topic("a"), event("/f", *id))).collect(),
        ..commit(&name)
    };
    consumers.commit(run(0, &[1, 1, 2])).await.unwrap();
    consumers.commit(run(1, &[2, 1])).await.unwrap();
    consumers.commit(run(2, &[2, 3])).await.unwrap();
    let page = read_all(log, &topic("a")).await;
    let outputs: Vec<_> = page.events[5..].iter().map(|stored| (stored.offset, stored.event.clone())).collect();
    assert_eq!(outputs, [(5, event("/f", 1)), (6, event("/f", 2)), (7, event("/f", 3))]);
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(at(3)));
}

async fn transactions_are_serializable(place: &impl Place) {
    let back_end = open(place, "a", 40).await;
    let (consumers, state) = (&*back_end.consumers, &*back_end.state);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    // Each moves one from one key to the other, as it sees them.
    let run = async |offset| {
        loop {
            let entries = state.get(vec![key("x"), key("y")]).await.unwrap();
            let numbers = entries.iter().map(|entry| {
                let text = entry.as_ref().map_or("0", |entry| std::str::from_utf8(&entry.value).unwrap());
                text.parse::<i64>().unwrap()
            });
            let [x, y] = <[i64; 2]>::try_from(numbers.collect::<Vec<_>>()).unwrap();
            assert_eq!(x + y, 0);
            let revision = |at: usize| entries[at].as_ref().map_or(Revision(0), |entry| entry.revision);
            let run = Commit {
                settled: vec![(offset, Settlement::Done)],
                reads: vec![(key("x"), revision(0)), (key("y"), revision(1))],
                writes: vec![(key("x"), value(&(x + 1).to_string())), (key("y"), value(&(y - 1).to_string()))],
                ..commit(&name)
            };
            match consumers.commit(run).await {
                Ok(()) => break,
                Err(error) => assert!(matches!(error, CommitError::Conflict { .. }), "{error}"),
            }
        }
    };
    join_all((0..40).map(run)).await;
    let entries = state.get(vec![key("x"), key("y")]).await.unwrap();
    let values: Vec<_> = entries.into_iter().map(|entry| entry.map(|entry| entry.value)).collect();
    assert_eq!(values, [value("40"), value("-40")]);
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(at(40)));
}

async fn what_is_parked_waits(place: &impl Place) {
    let back_end = open(place, "a", 20).await;
    let name = consumer("f", "a");
    let consumers = &*back_end.consumers;
    consumers.open(&name, Start::Beginning).await.unwrap();
    assert_eq!(consumers.due(&name, u64::MAX, 10).await, Ok((vec![], None)));
    let full = Parked {
        offset: 7,
        key: Some("key 🐦".into()),
        attempts: 3,
        due: Some(70),
        failed_at: Some(7),
        error: "trap:\n \"unreachable\"".into(),
        event: None,
    };
    let settled = vec![
        (3, parked(3, None, Some(30))),
        (5, parked(5, None, Some(10))),
        (4, parked(4, None, Some(30))),
        (7, Settlement::Parked(Box::new(full.clone()))),
    ];
    consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    drop(back_end);

    let consumers = place.open().await.consumers;
    assert_eq!(consumers.parked(&name, 6, 10).await, Ok(vec![full]));
    let due = async |now, limit| {
        let (parked, next) = consumers.due(&name, now, limit).await.unwrap();
        (parked.into_iter().map(|parked| parked.offset).collect::<Vec<_>>(), next)
    };
    assert_eq!(due(0, 10).await, (vec![], Some(10)));
    assert_eq!(due(10, 10).await, (vec![5], Some(30)));
    assert_eq!(due(69, 10).await, (vec![5, 3, 4], Some(70)), "the longest due first");
    assert_eq!(due(70, 10).await, (vec![5, 3, 4, 7], None));
    assert_eq!(due(70, 2).await, (vec![5, 3], Some(30)), "the first of what is left");
    assert_eq!(due(u64::MAX, 1000).await, (vec![5, 3, 4, 7], None));
    let listed = async |from, limit| {
        let parked = consumers.parked(&name, from, limit).await.unwrap();
        parked.into_iter().map(|parked| parked.offset).collect::<Vec<_>>()
    };
    assert_eq!(listed(0, 10).await, [3, 4, 5, 7]);
    assert_eq!(listed(4, 2).await, [4, 5]);
    assert_eq!(listed(8, 2).await, [0; 0]);
    // It waits longer, is done, is given up.
    let settled = vec![(5, parked(5, None, Some(80))), (3, Settlement::Done), (4, dead(4, None))];
    consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    assert_eq!(due(u64::MAX, 10).await, (vec![7, 5], None));
    assert_eq!(consumers.open(&name, Start::Now).await.unwrap().parked, 2);
}

async fn keys_keep_their_order_while_parked(place: &impl Place) {
    let back_end = open(place, "a", 20).await;
    let name = consumer("f", "a");
    let consumers = &*back_end.consumers;
    consumers.open(&name, Start::Beginning).await.unwrap();
    let settle = async |settled: Vec<(Offset, Settlement)>| {
        consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    };
    let due = async |now| {
        let (parked, next) = consumers.due(&name, now, 10).await.unwrap();
        (parked.into_iter().map(|parked| parked.offset).collect::<Vec<_>>(), next)
    };
    settle(vec![
        (1, parked(1, Some("k"), Some(10))),
        (2, parked(2, Some("k"), None)),
        (3, parked(3, Some("l"), Some(5))),
        (4, parked(4, Some("k"), None)),
        (5, parked(5, None, Some(7))),
    ])
    .await;
    assert_eq!(due(6).await, (vec![3], Some(7)));
    assert_eq!(due(10).await, (vec![3, 5, 1], None), "2 and 4 are behind 1");
    let line = async |key, limit| {
        let line = consumers.line(&name, key, limit).await.unwrap();
        line.into_iter().map(|parked| parked.offset).collect::<Vec<_>>()
    };
    assert_eq!((line("k", 10).await, line("k", 2).await, line("l", 10).await), (vec![1, 2, 4], vec![1, 2], vec![3]));
    settle(vec![(1, Settlement::Done)]).await;
    assert_eq!(due(0).await, (vec![2], Some(5)), "now 2 is the first, and due at once");
    settle(vec![(2, parked(2, Some("k"), Some(20)))]).await;
    assert_eq!(due(19).await, (vec![3, 5], Some(20)), "it failed as well, and 4 is behind it");
    settle(vec![(2, dead(2, Some("k"))), (3, Settlement::Done)]).await;
    assert_eq!(due(0).await, (vec![4], Some(7)));
    assert_eq!((line("k", 10).await, line("l", 10).await), (vec![4], vec![]));
    // One that is before all of its key, whenever it comes.
    settle(vec![(0, parked(0, Some("k"), Some(30)))]).await;
    assert_eq!(due(10).await, (vec![5], Some(30)));
    settle(vec![(4, Settlement::Done), (0, Settlement::Done)]).await;
    assert_eq!(due(10).await, (vec![5], None));
    assert!(line("k", 10).await.is_empty());
}

async fn dead_letters_are_kept(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let consumers = &*back_end.consumers;
    back_end.log.create(vec![topic("b")]).await.unwrap();
    let events = (0..10).map(|id| event("/s", id)).collect();
    back_end.log.append(&topic("b"), events).await.unwrap();
    let names = [consumer("f", "a"), consumer("g", "a"), consumer("f", "b")];
    for (offset, name) in names.iter().cycle().enumerate().take(9) {
        consumers.open(name, Start::Beginning).await.unwrap();
        let Settlement::Dead(letter) = dead(offset as u64, Some("key")) else { unreachable!() };
        let letter = DeadLetter { consumer: name.clone(), ..*letter };
        let settled = vec![(offset as u64, Settlement::Dead(Box::new(letter)))];
        consumers.commit(Commit { settled, ..commit(name) }).await.unwrap();
    }
    let letters = async |filter, before, limit| {
        let letters = consumers.dead_letters(filter, before, limit).await.unwrap();
        letters.into_iter().map(|letter| letter.number).collect::<Vec<_>>()
    };
    let all = DeadLetterFilter::default;
    let numbers = letters(all(), None, 100).await;
    assert!(numbers.len() == 9 && numbers.is_sorted_by(|a, b| a > b), "newest first: {numbers:?}");
    assert_eq!(letters(all(), None, 2).await, numbers[..2]);
    assert_eq!(letters(all(), Some(numbers[1]), 2).await, numbers[2..4]);
    assert_eq!(letters(all(), Some(numbers[8]), 2).await, [0; 0]);
    let every = |from: usize| numbers.iter().skip(from).step_by(3).copied().collect::<Vec<_>>();
    let of = |name: &ConsumerName| DeadLetterFilter {
        function: Some(name.function.clone()),
        topic: Some(name.topic.clone()),
        number: None,
    };
    for (name, from) in names.iter().zip([2, 1, 0]) {
        assert_eq!(letters(of(name), None, 100).await, every(from));
    }
    let function = DeadLetterFilter { topic: None, ..of(&names[0]) };
    assert_eq!(letters(function.clone(), None, 100).await.len(), 6);
    assert_eq!(letters(DeadLetterFilter { function: None, ..of(&names[0]) }, None, 100).await.len(), 6);
    assert_eq!(letters(DeadLetterFilter { number: Some(numbers[3]), ..all() }, None, 9).await, [numbers[3]]);
    assert_eq!(letters(DeadLetterFilter { number: Some(numbers[3]), ..of(&names[0]) }, None, 9).await, [0; 0]);
    let whole = consumers.dead_letters(DeadLetterFilter { number: Some(numbers[0]), ..all() }, None, 9).await.unwrap();
    let Settlement::Dead(letter) = dead(8, Some("key")) else { unreachable!() };
    assert_eq!(whole, [DeadLetter { number: numbers[0], consumer: names[2].clone(), ..*letter }]);
    let dead_of = async |name: &ConsumerName| {
        let all = consumers.consumers().await.unwrap();
        all.into_iter().find(|consumer| consumer.name == *name).unwrap().dead
    };
    assert_eq!(dead_of(&names[0]).await, 3);

    let newest = DeadLetterFilter { number: Some(numbers[0]), ..all() };
    assert_eq!(consumers.drop_dead_letters(newest.clone()).await, Ok(1));
    assert_eq!(consumers.drop_dead_letters(newest).await, Ok(0));
    assert_eq!(consumers.drop_dead_letters(of(&names[0])).await, Ok(3));
    assert_eq!(dead_of(&names[0]).await, 0);
    assert_eq!(consumers.drop_dead_letters(function).await, Ok(2));
    assert_eq!(letters(all(), None, 100).await, every(1));
    // They outlive consumer and topic, and the number of one that was dropped isn't given again.
    consumers.forget(&names[1].function).await.unwrap();
    back_end.log.remove(&topic("a")).await.unwrap();
    drop(back_end);
    let consumers = place.open().await.consumers;
    consumers.commit(Commit { settled: vec![(0, dead(0, None))], ..commit(&names[2]) }).await.unwrap();
    let left = consumers.dead_letters(all(), None, 100).await.unwrap();
    let left: Vec<_> = left.into_iter().map(|letter| letter.number).collect();
    assert_eq!(left[1..], every(1));
    assert!(left[0] > numbers[0]);
}

async fn dead_letters_are_redriven(place: &impl Place) {
    let back_end = open(place, "a", 20).await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let settled = vec![
        (0, Settlement::Done),
        (1, dead(1, Some("k"))),
        (2, dead(2, None)),
        (3, parked(3, Some("k"), Some(3))),
        (4, dead(4, Some("k"))),
    ];
    consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    log.trim(&topic("a"), 2, false).await.unwrap();
    let all = DeadLetterFilter::default;
    assert_eq!(consumers.redrive(all(), 100).await, Ok((vec![name.clone()], 3)));
    assert_eq!(consumers.redrive(all(), 100).await, Ok((vec![], 0)));
    assert_eq!(consumers.dead_letters(all(), None, 10).await, Ok(vec![]));
    let again = |offset, key: Option<&str>| Parked {
        offset,
        key: key.map(str::to_owned),
        attempts: 0,
        due: Some(100),
        failed_at: None,
        error: String::new(),
        event: None,
    };
    let first = Parked { event: Some(event("/s", 1)), ..again(1, Some("k")) };
    let waiting = unboxed(parked(3, Some("k"), Some(3)));
    let listed = vec![first.clone(), again(2, None), waiting, again(4, Some("k"))];
    assert_eq!(consumers.parked(&name, 0, 10).await, Ok(listed));
    assert_eq!(consumers.due(&name, 99, 10).await, Ok((vec![], Some(100))), "3 is behind 1 again");
    assert_eq!(consumers.due(&name, 100, 10).await, Ok((vec![first, again(2, None)], None)));
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(Progress { parked: 4, ..at(5) }));
    assert_eq!(log.trim(&topic("a"), 20, false).await, Ok(2), "2 is needed again");
    drop(back_end);

    // One that its consumer was moved back before is done once, whichever way.
    let back_end = place.open().await;
    let consumers = &*back_end.consumers;
    let settled = vec![(2, dead(2, None)), (4, dead(4, None))];
    consumers.commit(Commit { settled, ..commit(&name) }).await.unwrap();
    consumers.seek(&name, Start::Offset(3)).await.unwrap();
    assert_eq!(consumers.redrive(all(), 1).await, Ok((vec![name.clone()], 2)));
    let progress = Progress { position: 3, ahead: vec![(4, 5)], parked: 2 };
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(progress));
    let done = Commit { settled: vec![(4, Settlement::Done)], ..commit(&name) };
    assert_eq!(consumers.commit(done.clone()).await, Ok(()));
    assert_eq!(consumers.commit(done).await, Err(CommitError::Settled { topic: topic("a"), offset: 4 }));

    // Those whose consumer is gone stay, and go when it is back.
    consumers.commit(Commit { settled: vec![(5, dead(5, None))], ..commit(&name) }).await.unwrap();
    consumers.forget(&name.function).await.unwrap();
    assert_eq!(consumers.redrive(all(), 1).await, Ok((vec![], 0)));
    assert_eq!(consumers.dead_letters(all(), None, 10).await.unwrap().len(), 1);
    consumers.open(&name, Start::Now).await.unwrap();
    assert_eq!(consumers.redrive(all(), 1).await, Ok((vec![name], 1)));
}

async fn dead_letters_of_a_topic_that_is_gone_stay(place: &impl Place) {
    let back_end = open(place, "a", 5).await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    consumers.commit(Commit { settled: vec![(1, dead(1, None))], ..commit(&name) }).await.unwrap();
    log.remove(&topic("a")).await.unwrap();
    log.create(vec![topic("a")]).await.unwrap();
    log.append(&topic("a"), vec![event("/new", 0), event("/new", 1)]).await.unwrap();
    consumers.open(&name, Start::Beginning).await.unwrap();
    // Its offset is before all that the topic has now.
    assert_eq!(consumers.redrive(DeadLetterFilter::default(), 1).await, Ok((vec![], 0)));
    assert_eq!(consumers.open(&name, Start::Now).await, Ok(at(5)));
    assert_eq!(consumers.dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().len(), 1);
}

async fn seeking_begins_anew(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let (log, consumers) = (&*back_end.log, &*back_end.consumers);
    let name = consumer("f", "a");
    consumers.open(&name, Start::Beginning).await.unwrap();
    let settled =
        vec![(0, Settlement::Done), (3, Settlement::Done), (5, parked(5, Some("k"), Some(1))), (6, dead(6, None))];
    consumers.commit(Commit { settled: settled.clone(), ..commit(&name) }).await.unwrap();
    assert_eq!(consumers.seek(&name, Start::Beginning).await, Ok(at(0)));
    assert_eq!(consumers.parked(&name, 0, 10).await, Ok(vec![]));
    assert_eq!(consumers.line(&name, "k", 10).await, Ok(vec![]));
    assert_eq!(consumers.commit(Commit { settled, ..commit(&name) }).await, Ok(()), "all of it again");
    assert_eq!(consumers.seek(&name, Start::Now).await, Ok(at(10)));
    assert_eq!(log.trim(&topic("a"), 10, false).await, Ok(10));
    drop(back_end);
    let consumers = place.open().await.consumers;
    assert_eq!(consumers.open(&name, Start::Beginning).await, Ok(at(10)));
    assert_eq!(consumers.seek(&name, Start::Offset(4)).await, Ok(at(10)), "no further back than there is something");
    let letters = consumers.dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap();
    assert_eq!(letters.len(), 2, "each time");
}

async fn what_is_forgotten_is_gone(place: &impl Place) {
    let back_end = open(place, "a", 10).await;
    let consumers = &*back_end.consumers;
    back_end.log.create(vec![topic("b")]).await.unwrap();
    let names = [consumer("f", "a"), consumer("f", "b"), consumer("g", "a")];
    for name in &names {
        consumers.open(name, Start::Beginning).await.unwrap();
    }
    for name in [&names[0], &names[2]] {
        let settled = vec![(1, parked(1, Some("k"), Some(1)))];
        consumers.commit(Commit { settled, ..commit(name) }).await.unwrap();
    }
    consumers.forget(&names[0].function).await.unwrap();
    consumers.forget(&names[0].function).await.unwrap();
    let left: Vec<_> = consumers.consumers().await.unwrap().into_iter().map(|consumer| consumer.name).collect();
    assert_eq!(left, [names[2].clone()]);
    assert_eq!(consumers.open(&names[0], Start::Beginning).await, Ok(at(0)));
    assert_eq!(consumers.parked(&names[0], 0, 10).await, Ok(vec![]));
    assert_eq!(consumers.parked(&names[2], 0, 10).await.unwrap().len(), 1);
}

async fn what_is_not_there_is_said_so(place: &impl Place) {
    let back_end = open(place, "a", 1).await;
    let consumers = &*back_end.consumers;
    let (nobody, nowhere) = (consumer("f", "a"), consumer("f", "b"));
    let no_topic = CommitError::NoTopic(topic("b"));
    assert_eq!(consumers.open(&nowhere, Start::Now).await, Err(no_topic.clone()));
    for (name, error) in [(nobody.clone(), CommitError::NoConsumer(nobody)), (nowhere, no_topic)] {
        assert_eq!(consumers.seek(&name, Start::Now).await, Err(error.clone()));
        assert_eq!(consumers.commit(commit(&name)).await, Err(error.clone()));
        assert_eq!(consumers.progress(&name).await, Err(error.clone()));
        assert_eq!(consumers.fates(&name, vec![0]).await, Err(error.clone()));
        assert_eq!(consumers.due(&name, 1, 1).await, Err(error.clone()));
        assert_eq!(consumers.parked(&name, 0, 1).await, Err(error.clone()));
        assert_eq!(consumers.line(&name, "k", 1).await, Err(error));
    }
    assert_eq!(consumers.consumers().await, Ok(vec![]));
}

/// Opens the back end with a topic that holds so many events, of the source `/s` and with the ids of their offsets.
async fn open(place: &impl Place, name: &str, events: u64) -> BackEnd {
    let back_end = place.open().await;
    back_end.log.create(vec![topic(name)]).await.unwrap();
    back_end.log.append(&topic(name), (0..events).map(|id| event("/s", id)).collect()).await.unwrap();
    back_end
}

/// What a refused commit could have changed.
async fn read_everything(back_end: &BackEnd) -> impl PartialEq + std::fmt::Debug + use<> {
    let BackEnd { log, consumers, state } = back_end;
    let name = consumer("f", "a");
    (
        log.topics().await.unwrap(),
        read_all(&**log, &topic("a")).await,
        consumers.consumers().await.unwrap(),
        consumers.parked(&name, 0, 100).await.unwrap(),
        consumers.dead_letters(DeadLetterFilter::default(), None, 100).await.unwrap(),
        state.get(vec![key("x"), key("y")]).await.unwrap(),
    )
}

/// The progress of a consumer that has nothing ahead and nothing parked.
fn at(position: Offset) -> Progress {
    Progress { position, ahead: vec![], parked: 0 }
}

pub(crate) fn topic(name: &str) -> TopicName {
    name.parse().expect("the suite uses valid names")
}

pub(crate) fn consumer(function: &str, topic: &str) -> ConsumerName {
    ConsumerName { function: function.parse().expect("the suite uses valid names"), topic: self::topic(topic) }
}

pub(crate) fn event(source: &str, id: u64) -> Event {
    Event::new(id.to_string(), source, "test").expect("the suite uses valid events")
}

/// A commit that does nothing.
pub(crate) fn commit(consumer: &ConsumerName) -> Commit {
    Commit { consumer: consumer.clone(), settled: vec![], outputs: vec![], reads: vec![], writes: vec![] }
}

pub(crate) fn parked(offset: Offset, key: Option<&str>, due: Option<u64>) -> Settlement {
    Settlement::Parked(Box::new(Parked {
        offset,
        key: key.map(str::to_owned),
        attempts: u32::from(due.is_some()),
        due,
        failed_at: due.map(|_| 1),
        error: if due.is_some() { "failed".into() } else { String::new() },
        event: None,
    }))
}

fn unboxed(settlement: Settlement) -> Parked {
    let Settlement::Parked(parked) = settlement else { unreachable!("it is called for what is parked") };
    *parked
}

/// Given up by `f`, an event of `a` that [`open`] made.
fn dead(offset: Offset, key: Option<&str>) -> Settlement {
    Settlement::Dead(Box::new(DeadLetter {
        number: 0,
        consumer: consumer("f", "a"),
        offset,
        key: key.map(str::to_owned),
        attempts: 3,
        failed_at: 1_700_000_000_000,
        reason: "trap".into(),
        error: "wasm `unreachable` instruction executed\n  0: main".into(),
        event: event("/s", offset),
    }))
}

/// Lets others run: with a back end that answers at once they never would.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
