//! Sets an order's items aside: all of them, or none where one is not there.
//!
//! The state has a number for each product, `stock/{sku}`. Orders are handled at the same time, and two may want the last
//! of a product; both read that there is one, and the platform lets only one of them commit and repeats the other. So
//! nothing here locks, and nothing is sold twice.

use dunlin::{Event, Outgoing, Result, config, log::info, state};
use order_events::{Created, Refused, Reserved, STOCK_REJECTED, STOCK_RESERVED};
use std::collections::BTreeMap;

#[dunlin::handler]
fn reserve(event: Event<Created>) -> Result<Outgoing> {
    let initial: u64 = config::get_or("INITIAL_STOCK", 100)?;
    let Created { order, items, .. } = event.data;

    // An order may name a product twice.
    let mut wanted = BTreeMap::<String, u64>::new();
    for item in &items {
        *wanted.entry(format!("stock/{}", item.sku)).or_default() += u64::from(item.quantity);
    }
    let stock = state::bucket();
    let keys: Vec<_> = wanted.keys().collect();
    let there = stock.get_many::<u64>(&keys)?;
    let left: Result<Vec<_>, String> = wanted
        .iter()
        .zip(there)
        .map(|((key, wanted), there)| {
            let there = there.unwrap_or(initial);
            let left = there.checked_sub(*wanted);
            left.map(|left| (key, left)).ok_or_else(|| format!("{wanted} of {key} are wanted and {there} are there"))
        })
        .collect();

    let answer = match left {
        Ok(left) => {
            stock.set_many(left)?;
            info!(order, "reserved");
            Event::new(STOCK_RESERVED, Reserved { order: order.clone(), items }).erase()
        }
        Err(reason) => {
            info!(order, reason, "rejected");
            Event::new(STOCK_REJECTED, Refused { order: order.clone(), reason }).erase()
        }
    };
    Ok(answer.with_subject(&order).with_key(&order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;
    use order_events::Item;

    fn order(items: &[(&str, u32)]) -> Event<Created> {
        let items = items.iter().map(|&(sku, quantity)| Item { sku: sku.into(), quantity, price: 1 }).collect();
        testing::event("order.created", Created { order: "7".into(), customer: "ada".into(), items, total: 0 })
    }

    #[test]
    fn items_are_set_aside_once() {
        testing::env("INITIAL_STOCK", "5");
        let reserved: Event<Reserved> =
            reserve(order(&[("tea", 2), ("cup", 1), ("tea", 1)])).unwrap().into_event().unwrap();
        assert_eq!((reserved.kind(), reserved.key(), reserved.data.items.len()), (STOCK_RESERVED, Some("7"), 3));
        assert_eq!(testing::state(), [("stock/cup".into(), 4.into()), ("stock/tea".into(), 2.into())].into());
    }

    #[test]
    fn all_or_none() {
        testing::env("INITIAL_STOCK", "5");
        let rejected: Event<Refused> = reserve(order(&[("cup", 1), ("tea", 6)])).unwrap().into_event().unwrap();
        assert_eq!(rejected.kind(), STOCK_REJECTED);
        assert_eq!(rejected.data.reason, "6 of stock/tea are wanted and 5 are there");
        assert!(testing::state().is_empty());
    }
}
