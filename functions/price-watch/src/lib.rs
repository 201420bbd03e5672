//! Tells when something became cheaper: an event `price.dropped` for each update of a product that lowers its price.
//!
//! Whoever changes prices need not know of it, with whatever program: it runs for what the database has committed.

use dunlin::{Event, Result, log::info};
use serde::{Deserialize, Serialize};

/// An event of the database trigger, as far as it matters here.
#[derive(Serialize, Deserialize)]
struct Change {
    before: Option<Product>,
    after: Option<Product>,
}

#[derive(Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    /// In cents.
    price: u64,
}

#[derive(Serialize, Deserialize)]
struct PriceDropped {
    name: String,
    from: u64,
    to: u64,
}

#[dunlin::handler]
fn watch(event: Event<Change>) -> Result<Option<Event<PriceDropped>>> {
    let (Some(before), Some(after)) = (event.data.before, event.data.after) else { return Ok(None) };
    if after.price >= before.price {
        return Ok(None);
    }
    info!(product = after.id, from = before.price, to = after.price, "cheaper");
    let dropped = PriceDropped { name: after.name, from: before.price, to: after.price };
    Ok(Some(Event::new("price.dropped", dropped).with_subject(after.id.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    fn update(before: u64, after: u64) -> Event<Change> {
        let product = |price| Some(Product { id: 7, name: "tea".into(), price });
        testing::event("dunlin.database.update", Change { before: product(before), after: product(after) })
    }

    #[test]
    fn only_what_became_cheaper_is_told() {
        let dropped = watch(update(300, 250)).unwrap().unwrap();
        assert_eq!((dropped.subject(), dropped.data.from, dropped.data.to), (Some("7"), 300, 250));
        assert!(watch(update(300, 300)).unwrap().is_none());
        assert!(watch(update(300, 301)).unwrap().is_none());
    }
}
