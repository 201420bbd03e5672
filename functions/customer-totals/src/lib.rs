//! Keeps what each customer has ordered for in all, up to date with a table of orders: `dunlin state get customer-totals ada`.
//!
//! It is a view of the table that needs no query of it. The rows that were there come first, then every change, each once:
//! so sums can be added to, and are right.

use dunlin::{Event, Result, state};
use serde::{Deserialize, Serialize};

/// An event of the database trigger, as far as it matters here.
#[derive(Serialize, Deserialize)]
struct Change {
    before: Option<Order>,
    after: Option<Order>,
}

#[derive(Serialize, Deserialize)]
struct Order {
    customer: String,
    cents: i64,
}

#[dunlin::handler]
fn keep(event: Event<Change>) -> Result<()> {
    let totals = state::bucket();
    if let Some(order) = event.data.before {
        totals.increment(&order.customer, -order.cents)?;
    }
    if let Some(order) = event.data.after {
        totals.increment(&order.customer, order.cents)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    fn change(before: Option<(&str, i64)>, after: Option<(&str, i64)>) {
        let order = |(customer, cents): (&str, i64)| Order { customer: customer.into(), cents };
        let data = Change { before: before.map(order), after: after.map(order) };
        keep(testing::event("dunlin.database.update", data)).unwrap();
    }

    #[test]
    fn totals_follow_the_orders() {
        change(None, Some(("ada", 500)));
        change(None, Some(("ada", 250)));
        change(Some(("ada", 250)), Some(("bob", 300)));
        change(Some(("ada", 500)), None);
        let total = |customer| state::bucket().get::<i64>(customer).unwrap();
        assert_eq!((total("ada"), total("bob")), (Some(0), Some(300)));
    }
}
