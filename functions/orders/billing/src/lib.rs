//! Charges for orders. One event in, one out: `order.paid`, or `payment.declined` for more than the limit.
//!
//! The payment itself is made up. A real one would hand the event's id to the bank as its idempotency key: a run that is
//! repeated after a crash charges once.

use dunlin::{Event, Outgoing, Result, config, log::info};
use order_events::{Created, ORDER_PAID, PAYMENT_DECLINED, Paid, Refused};

#[dunlin::handler]
fn charge(event: Event<Created>) -> Result<Outgoing> {
    let limit: u64 = config::get_or("CHARGE_LIMIT", 100_000)?;
    let Created { order, customer, total, .. } = event.data;
    let answer = if total > limit {
        info!(order, customer, total, limit, "declined");
        let reason = format!("{total} cents are more than the limit of {limit}");
        Event::new(PAYMENT_DECLINED, Refused { order: order.clone(), reason }).erase()
    } else {
        info!(order, customer, total, "charged");
        Event::new(ORDER_PAID, Paid { order: order.clone(), amount: total }).erase()
    };
    Ok(answer.with_subject(&order).with_key(&order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    fn created(total: u64) -> Event<Created> {
        let created = Created { order: "7".into(), customer: "ada".into(), items: Vec::new(), total };
        testing::event("order.created", created)
    }

    #[test]
    fn what_is_within_the_limit_is_paid() {
        testing::env("CHARGE_LIMIT", "5000");
        let paid: Event<Paid> = charge(created(5000)).unwrap().into_event().unwrap();
        assert_eq!((paid.kind(), paid.key(), paid.data.amount), (ORDER_PAID, Some("7"), 5000));
    }

    #[test]
    fn what_is_more_is_declined() {
        testing::env("CHARGE_LIMIT", "5000");
        let declined: Event<Refused> = charge(created(5001)).unwrap().into_event().unwrap();
        assert_eq!((declined.kind(), declined.subject()), (PAYMENT_DECLINED, Some("7")));
        assert_eq!(declined.data.reason, "5001 cents are more than the limit of 5000");
    }

    #[test]
    fn what_is_no_order_is_a_dead_letter() {
        let error = testing::deliver(charge, testing::event("order.created", "tea")).unwrap_err();
        assert!(error.is_reject() && error.message().contains("is no `Created`"), "{error}");
    }
}
