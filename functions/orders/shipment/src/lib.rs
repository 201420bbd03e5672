//! Ships an order when it is paid and its items are set aside, whichever comes first. An aggregator: two topics in, one out.
//!
//! What is known of an order is in the state, and is written in one transaction with the event it leads to. The two events
//! of an order may be handled at the same moment; then one of the two runs is repeated and sees the other's. So an order is
//! shipped once, also when a run is repeated after a crash.

use dunlin::{Event, Result, log::info, state};
use order_events::{ORDER_PAID, ORDER_SHIPPED, STOCK_RESERVED, Shipped};
use serde::{Deserialize, Serialize};

/// What the events of both topics have.
#[derive(Serialize, Deserialize)]
struct OfOrder {
    order: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Progress {
    paid: bool,
    reserved: bool,
    shipped: bool,
}

#[dunlin::handler]
fn ship(event: Event<OfOrder>) -> Result<Option<Event<Shipped>>> {
    let order = &event.data.order;
    let orders = state::bucket();
    let mut progress: Progress = orders.get(order)?.unwrap_or_default();
    progress.paid |= event.kind() == ORDER_PAID;
    progress.reserved |= event.kind() == STOCK_RESERVED;
    let ship = progress.paid && progress.reserved && !progress.shipped;
    progress.shipped |= ship;
    orders.set(order, &progress)?;
    if !ship {
        return Ok(None);
    }
    info!(order, "shipped");
    Ok(Some(Event::new(ORDER_SHIPPED, Shipped { order: order.clone() }).with_subject(order).with_key(order)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    fn shipped(kind: &str, order: &str) -> bool {
        ship(testing::event(kind, OfOrder { order: order.into() })).unwrap().is_some()
    }

    #[test]
    fn an_order_is_shipped_when_both_are_there() {
        assert!(!shipped(ORDER_PAID, "1"));
        assert!(!shipped(STOCK_RESERVED, "2"));
        assert!(shipped(STOCK_RESERVED, "1"));
        assert!(shipped(ORDER_PAID, "2"));
    }

    #[test]
    fn and_only_once() {
        assert!(!shipped(ORDER_PAID, "1"));
        assert!(!shipped(ORDER_PAID, "1"));
        assert!(shipped(STOCK_RESERVED, "1"));
        assert!(!shipped(STOCK_RESERVED, "1"));
        assert!(!shipped(ORDER_PAID, "1"));
    }
}
