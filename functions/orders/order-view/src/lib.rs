//! Keeps what is known of each order where `orders-query` reads it: a read model, made of the events of four topics.
//!
//! The events of one topic come in their order, those of different topics in any: a payment may be seen before its order.
//! So each event sets what it knows and nothing else, and the status follows from all that is known.

use dunlin::{Error, Event, Result, ResultExt, state};
use order_events::{
    Created, Item, ORDER_CREATED, ORDER_PAID, ORDER_SHIPPED, PAYMENT_DECLINED, Refused, STOCK_REJECTED, STOCK_RESERVED,
};
use serde::{Deserialize, Serialize};

/// As it is kept, and as `GET /orders/{id}` shows it.
#[derive(Default, Serialize, Deserialize)]
struct Order {
    order: String,
    status: String,
    customer: Option<String>,
    /// In cents.
    total: Option<u64>,
    items: Vec<Item>,
    paid: Option<bool>,
    reserved: Option<bool>,
    shipped: bool,
    /// Why it won't be shipped.
    reasons: Vec<String>,
}

#[dunlin::handler]
fn follow(event: Event) -> Result<()> {
    let id = event.subject().ok_or_else(|| Error::reject("the event has no order's id as its subject"))?;
    let orders = state::shared("order-view");
    let mut order: Order = orders.get(id)?.unwrap_or_default();
    id.clone_into(&mut order.order);
    order.learn(&event)?;
    order.status = order.status().to_owned();
    Ok(orders.set(id, &order)?)
}

impl Order {
    fn learn(&mut self, event: &Event) -> Result<()> {
        match event.kind() {
            ORDER_CREATED => {
                let created = Created::deserialize(&event.data).or_reject()?;
                self.customer = Some(created.customer);
                self.total = Some(created.total);
                self.items = created.items;
            }
            ORDER_PAID => self.paid = Some(true),
            PAYMENT_DECLINED => {
                self.paid = Some(false);
                self.reasons.push(Refused::deserialize(&event.data).or_reject()?.reason);
            }
            STOCK_RESERVED => self.reserved = Some(true),
            STOCK_REJECTED => {
                self.reserved = Some(false);
                self.reasons.push(Refused::deserialize(&event.data).or_reject()?.reason);
            }
            ORDER_SHIPPED => self.shipped = true,
            other => return Err(Error::reject(format_args!("`{other}` is no event of an order"))),
        }
        Ok(())
    }

    fn status(&self) -> &'static str {
        match (self.paid, self.reserved) {
            _ if self.shipped => "shipped",
            (Some(false), _) => "declined",
            (_, Some(false)) => "out of stock",
            (Some(true), Some(true)) => "to be shipped",
            (Some(true), None) => "paid",
            (None, Some(true)) => "reserved",
            (None, None) => "created",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;
    use serde_json::{Value, json};

    fn see(kind: &str, data: Value) -> Value {
        let event = testing::event(kind, data).with_subject("7").with_key("7");
        assert_eq!(testing::deliver(follow, event), Ok(vec![]));
        testing::shared("order-view")["7"].clone()
    }

    fn created() -> Value {
        json!({ "order": "7", "customer": "ada", "total": 900, "items": [{ "sku": "tea", "quantity": 2, "price": 450 }] })
    }

    #[test]
    fn an_order_goes_its_way() {
        assert_eq!(see(ORDER_CREATED, created())["status"], "created");
        assert_eq!(see(ORDER_PAID, json!({ "order": "7", "amount": 900 }))["status"], "paid");
        assert_eq!(see(STOCK_RESERVED, json!({ "order": "7", "items": [] }))["status"], "to be shipped");
        let order = see(ORDER_SHIPPED, json!({ "order": "7" }));
        assert_eq!(
            (&order["status"], &order["customer"], &order["total"]),
            (&json!("shipped"), &json!("ada"), &json!(900))
        );
    }

    #[test]
    fn topics_may_be_seen_in_any_order() {
        assert_eq!(see(STOCK_REJECTED, json!({ "order": "7", "reason": "no tea" }))["status"], "out of stock");
        assert_eq!(see(PAYMENT_DECLINED, json!({ "order": "7", "reason": "too much" }))["status"], "declined");
        let order = see(ORDER_CREATED, created());
        assert_eq!((&order["status"], &order["customer"]), (&json!("declined"), &json!("ada")));
        assert_eq!(order["reasons"], json!(["no tea", "too much"]));
    }

    #[test]
    fn what_is_no_event_of_an_order_is_a_dead_letter() {
        let stranger = testing::event("mail.sent", json!({})).with_subject("7");
        assert!(testing::deliver(follow, stranger).unwrap_err().is_reject());
        assert!(testing::deliver(follow, testing::event(ORDER_PAID, json!({}))).unwrap_err().is_reject());
        assert!(testing::shared("order-view").is_empty());
    }
}
