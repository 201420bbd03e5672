//! What becomes of an event a function failed on: another attempt after a pause, or the dead letters.

use super::{lane::Mistake, output::DEPTH};
use bytes::Bytes;
use dunlin_events::{Event, consumers::DeadLetter, event::Value, manifest::Retry};
use std::time::{Duration, SystemTime};

/// The type of the events in a dead-letter topic.
pub(super) const DEAD_LETTER: &str = "dunlin.dead-letter";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Try again after that long.
    Again(Duration),
    GiveUp,
}

/// What becomes of an event after so many attempts, the first of which failed at `first`.
pub(super) fn verdict(retry: &Retry, attempts: u32, first: u64, now: u64, mistake: &Mistake) -> Verdict {
    let age = Duration::from_millis(now.saturating_sub(first));
    if mistake.last || attempts >= retry.attempts.get() || retry.max_age.is_some_and(|most| age >= most) {
        return Verdict::GiveUp;
    }
    let doubled = retry.backoff.first.saturating_mul(1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX));
    // What the function asks for counts, up to an hour: it may know better than the manifest.
    let asked = mistake.after.map(|after| after.min(Duration::from_secs(3600)));
    Verdict::Again(asked.unwrap_or_else(|| doubled.min(retry.backoff.most)))
}

/// A pause that varies by a fifth either way, so that what failed together doesn't come back together.
pub(super) fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.8 + 0.4 * f64::from(random() >> 8) / f64::from(1_u32 << 24))
}

/// Enough to spread pauses.
fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// The event that tells of a dead letter.
pub(super) fn announcement(letter: &DeadLetter) -> Event {
    let id =
        format!("{}.{}.{:012}.{}", letter.consumer.function, letter.consumer.topic, letter.offset, letter.failed_at);
    let source = format!("/functions/{}", letter.consumer.function);
    let mut event = Event::new(id, source, DEAD_LETTER).expect("names and numbers make an id and a source");
    // An attribute of one event is fit for another.
    let mut set = |name: &str, value: Value| event.set_extension(name, value).expect("it was the other's attribute");
    if let Some(key) = letter.event.partition_key() {
        set("partitionkey", Value::String(key.to_owned()));
    }
    set(DEPTH, Value::Integer(super::output::depth(&letter.event).saturating_add(1)));
    if let Some(subject) = letter.event.subject() {
        event.set_subject(subject).expect("it was the other's subject");
    }
    event.set_time(humantime::format_rfc3339_millis(SystemTime::now()).to_string()).expect("it is a time");
    let data = serde_json::to_vec(letter).expect("a dead letter has text for keys");
    event.set_data(Some("application/json"), Bytes::from(data)).expect("it is JSON");
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_attempts_end() {
        let retry = Retry { backoff: "200ms..1s".parse().unwrap(), ..Retry::default() };
        let failed = Mistake { reason: "retry", error: String::new(), crash: false, last: false, after: None };
        let pauses: Vec<_> = (1..=5).map(|attempts| verdict(&retry, attempts, 0, 0, &failed)).collect();
        let again = |millis| Verdict::Again(Duration::from_millis(millis));
        assert_eq!(pauses, [again(200), again(400), again(800), again(1000), Verdict::GiveUp]);

        let asked = Mistake { after: Some(Duration::from_secs(7)), ..failed.clone() };
        assert_eq!(verdict(&retry, 1, 0, 0, &asked), again(7000));
        let rejected = Mistake { last: true, ..failed.clone() };
        assert_eq!(verdict(&retry, 1, 0, 0, &rejected), Verdict::GiveUp);
        let aged = Retry { max_age: Some(Duration::from_secs(10)), ..retry };
        assert_eq!(verdict(&aged, 1, 1000, 10_999, &failed), again(200));
        assert_eq!(verdict(&aged, 1, 1000, 11_000, &failed), Verdict::GiveUp);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for _ in 0..1000 {
            let pause = jitter(Duration::from_secs(1));
            assert!((Duration::from_millis(800)..=Duration::from_millis(1200)).contains(&pause), "{pause:?}");
        }
    }
}
