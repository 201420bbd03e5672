//! Counts messages by who sent them, and tells the counts every evening: one function with two triggers.
//!
//! Counting, telling and beginning anew are in state and events, so that each message is in exactly one digest, whatever
//! crashes in between.

use dunlin::{Error, Event, Result, state};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What it runs for.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Told {
    Message {
        from: String,
    },
    /// A time of the schedule, as clocks in its zone show it.
    Evening {
        scheduled: String,
    },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Digest {
    day: String,
    messages: BTreeMap<String, u64>,
}

const COUNTS: &str = "counts";

#[dunlin::handler]
fn digest(event: Event<Told>) -> Result<Option<Event<Digest>>> {
    let state = state::bucket();
    let mut messages: BTreeMap<String, u64> = state.get(COUNTS)?.unwrap_or_default();
    match event.data {
        Told::Message { from } => {
            *messages.entry(from).or_default() += 1;
            state.set(COUNTS, &messages)?;
            Ok(None)
        }
        Told::Evening { scheduled } => {
            let day = scheduled.get(..10).ok_or_else(|| Error::reject("the time has no date"))?;
            state.delete(COUNTS)?;
            Ok(Some(Event::new("digest", Digest { day: day.to_owned(), messages })))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    #[test]
    fn a_message_is_in_one_digest() {
        let message = |from: &str| {
            let event = testing::event("message", Told::Message { from: from.into() });
            assert!(testing::deliver(digest, event).unwrap().is_empty());
        };
        let evening = || {
            let scheduled = Told::Evening { scheduled: "2026-11-24T18:00:00+01:00".into() };
            let told = testing::deliver(digest, testing::event("dunlin.schedule", scheduled)).unwrap();
            told.into_iter().next().unwrap().into_event::<Digest>().unwrap().data
        };
        message("ada");
        message("bob");
        message("ada");
        let counted = BTreeMap::from([("ada".to_owned(), 2), ("bob".to_owned(), 1)]);
        assert_eq!(evening(), Digest { day: "2026-11-24".into(), messages: counted });
        assert_eq!(evening().messages, BTreeMap::new());
    }
}
