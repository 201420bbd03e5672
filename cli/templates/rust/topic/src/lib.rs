//! Counts the events of each type, and tells how many there were.

use dunlin::{Event, Result, log::info, state};
use serde::Serialize;

#[derive(Serialize)]
struct Counted {
    kind: String,
    count: i64,
}

#[dunlin::handler]
fn on_event(event: Event) -> Result<Event<Counted>> {
    let kind = event.kind().to_owned();
    let count = state::bucket().increment(&kind, 1)?;
    info!(kind, count, "counted");
    Ok(Event::new("event.counted", Counted { kind, count }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    #[test]
    fn events_are_counted_by_type() {
        for count in 1..=2 {
            let event = testing::event("order.created", "anything".into());
            assert_eq!(on_event(event).unwrap().data.count, count);
        }
        assert_eq!(testing::state()["order.created"], 2);
    }
}
