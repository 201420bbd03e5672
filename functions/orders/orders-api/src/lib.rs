//! Takes orders: the command side. It answers once the event is on disk, and knows nothing of what is done with it.
//!
//! ```text
//! POST /orders  {"customer": "ada", "items": [{"sku": "tea", "quantity": 2, "price": 450}]}
//! 202           Location: /orders/{id}
//! ```
//! A caller that got no answer asks again with the same `idempotency-key`: it makes the same order id, which is the event's
//! id too, and a topic takes an id once.

use dunlin::{
    Error, Event, Result,
    http::{Json, Request, RequestExt, Response, StatusCode, header},
};
use order_events::{Created, Item, ORDER_CREATED};
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

/// What order ids are made in from idempotency keys.
const KEYS: Uuid = uuid!("5f0c35a1-6d0b-4c7e-9a55-2c6c4b1f2f0e");
const MAX_ITEMS: usize = 100;
const MAX_TEXT: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    customer: String,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
struct Accepted {
    order: String,
}

#[dunlin::http]
fn create(request: Request<Json<Order>>) -> Result<Response<Json<Accepted>>> {
    let key = request.header("idempotency-key").map(str::to_owned);
    let Json(Order { customer, items }) = request.into_body();
    let total = check(&customer, &items)?;
    let id = match key {
        // One caller's key says nothing about another's.
        Some(key) => Uuid::new_v5(&KEYS, format!("{customer}\n{key}").as_bytes()),
        None => Uuid::now_v7(),
    };
    let order = id.to_string();
    let created = Created { order: order.clone(), customer, items, total };
    let event = Event::new(ORDER_CREATED, created).with_id(&order).with_subject(&order).with_key(&order);
    dunlin::publish("orders", event)?;
    Ok(Response::builder()
        .status(StatusCode::ACCEPTED)
        .header(header::LOCATION, format!("/orders/{order}"))
        .body(Json(Accepted { order }))?)
}

/// What the order comes to.
fn check(customer: &str, items: &[Item]) -> Result<u64> {
    let text = |what: &str, text: &str| {
        if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return Err(Error::reject(format_args!("{what} must be a text of 1 to {MAX_TEXT} bytes")));
        }
        Ok(())
    };
    text("`customer`", customer)?;
    if items.is_empty() || items.len() > MAX_ITEMS {
        return Err(Error::reject(format_args!("`items` must be 1 to {MAX_ITEMS}, not {}", items.len())));
    }
    let mut total = 0_u64;
    for (index, item) in items.iter().enumerate() {
        text(&format!("`items[{index}].sku`"), &item.sku)?;
        if item.quantity == 0 {
            return Err(Error::reject(format_args!("`items[{index}].quantity` must be at least 1")));
        }
        let price = item.price.checked_mul(item.quantity.into()).and_then(|price| total.checked_add(price));
        total = price.ok_or_else(|| Error::reject("the order comes to more than can be counted"))?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;
    use serde_json::{Value, json};

    fn post(body: &Value, key: Option<&str>) -> Response<Vec<u8>> {
        let mut request = Request::post("/orders").header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        testing::respond(create, request.body(body.to_string()).unwrap())
    }

    fn order() -> Value {
        json!({ "customer": "ada", "items": [
            { "sku": "tea", "quantity": 2, "price": 450 },
            { "sku": "cup", "quantity": 1, "price": 900 },
        ] })
    }

    #[test]
    fn an_order_becomes_an_event() {
        let response = post(&order(), None);
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        let [event] = &testing::published_to("orders")[..] else { panic!("one event") };
        let event: Event<Created> = event.clone().into_event().unwrap();
        assert_eq!((event.kind(), event.data.total, event.data.items.len()), (ORDER_CREATED, 1800, 2));
        assert_eq!(response.headers()["location"], format!("/orders/{}", event.data.order).as_str());
        assert_eq!(event.key(), Some(&*event.data.order));
        assert_eq!(serde_json::from_slice::<Value>(response.body()).unwrap(), json!({ "order": event.id() }));
    }

    #[test]
    fn the_same_key_is_the_same_order() {
        let mut other = order();
        other["customer"] = json!("bob");
        for (body, key) in
            [(&order(), Some("a")), (&order(), Some("a")), (&order(), Some("b")), (&other, Some("a")), (&order(), None)]
        {
            assert_eq!(post(body, key).status(), StatusCode::ACCEPTED);
        }
        let events = testing::published_to("orders");
        let ids: Vec<_> =
            events.into_iter().map(|event| event.into_event::<Created>().unwrap().id().to_owned()).collect();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for (pointer, value, reason) in [
            ("/customer", json!(""), "`customer` must be a text"),
            ("/items", json!([]), "`items` must be 1 to 100, not 0"),
            ("/items/1/sku", json!("\n"), "`items[1].sku` must be a text"),
            ("/items/0/quantity", json!(0), "`items[0].quantity` must be at least 1"),
            ("/items/0/price", json!(u64::MAX), "more than can be counted"),
            ("/items/0/price", json!("450"), "at `items[0].price`: invalid type"),
        ] {
            let mut order = order();
            *order.pointer_mut(pointer).unwrap() = value;
            let response = post(&order, None);
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{order}");
            let problem: Value = serde_json::from_slice(response.body()).unwrap();
            assert!(problem["detail"].as_str().unwrap().contains(reason), "{problem}");
        }
        assert!(testing::published().is_empty());
    }
}
