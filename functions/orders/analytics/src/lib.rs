//! Counts orders and revenue per day. Deployed long after the others, it begins with the oldest event and catches up, and
//! none of the others has to know.
//!
//! It takes events in batches: one write for each day of a batch, and not one for each event. A batch is one transaction, so
//! no event is counted twice. `dunlin state list function:analytics` and `dunlin state get` show what it has counted.

use dunlin::{
    Error, Event, Result,
    state::{self, Bucket},
};
use order_events::{ORDER_CREATED, ORDER_PAID};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is counted of an event's data. Only payments have it.
#[derive(Serialize, Deserialize)]
struct Counted {
    #[serde(default)]
    amount: u64,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Day {
    orders: u64,
    paid: u64,
    /// In cents.
    revenue: u64,
}

#[dunlin::handler]
fn count(events: Vec<Event<Counted>>) -> Result<Vec<Result<()>>> {
    let days = state::bucket();
    let mut batch = BTreeMap::new();
    // An event that can't be counted is rejected; those around it still count.
    let outcomes = events.iter().map(|event| add(event, &days, &mut batch)).collect();
    days.set_many(batch)?;
    Ok(outcomes)
}

fn add(event: &Event<Counted>, days: &Bucket, batch: &mut BTreeMap<String, Day>) -> Result<()> {
    let name = day_of(event)?;
    if !batch.contains_key(name) {
        batch.insert(name.to_owned(), days.get(name)?.unwrap_or_default());
    }
    let day = batch.get_mut(name).expect("it was put there, if it wasn't there already");
    match event.kind() {
        ORDER_CREATED => day.orders += 1,
        ORDER_PAID => {
            day.paid += 1;
            day.revenue += event.data.amount;
        }
        other => return Err(Error::reject(format_args!("`{other}` isn't counted"))),
    }
    Ok(())
}

/// The day of an event, in UTC: the platform writes its times so.
fn day_of<T>(event: &Event<T>) -> Result<&str> {
    let day = event.time().and_then(|time| time.get(..10));
    day.ok_or_else(|| Error::reject(format_args!("the event `{}` has no time", event.id())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;
    use serde_json::json;

    #[test]
    fn days_add_up_over_batches() {
        let event = |kind: &str, day: u32, amount| {
            testing::event(kind, Counted { amount }).with_time(format!("2026-01-{day:02}T10:00:00Z"))
        };
        let batch = [event(ORDER_CREATED, 1, 0), event(ORDER_PAID, 1, 900), event(ORDER_CREATED, 2, 0)];
        assert!(testing::deliver_all(count, batch).iter().all(Result::is_ok));
        let batch = [event(ORDER_PAID, 2, 100), event("order.shipped", 1, 0), event(ORDER_PAID, 1, 50)];
        let outcomes = testing::deliver_all(count, batch);
        assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok(), "{outcomes:?}");

        let days = testing::state();
        assert_eq!(days["2026-01-01"], json!({ "orders": 1, "paid": 2, "revenue": 950 }));
        assert_eq!(days["2026-01-02"], json!({ "orders": 1, "paid": 1, "revenue": 100 }));
    }
}
