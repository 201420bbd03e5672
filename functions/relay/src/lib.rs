//! Passes events on from one topic to another: the least a function does that reads one and publishes to the other.
//!
//! It makes a new event of each. The one it was given, returned as it is, would keep its id, its source and its time.

use dunlin::{Bytes, Event};

/// The data stays what it was, whatever it is: nothing here reads it. The platform gives the new event its id and time, and
/// the key of the one it was made for.
#[dunlin::handler]
fn relay(event: Event<Bytes>) -> Event<Bytes> {
    let content_type = event.content_type().map(str::to_owned);
    let relayed = Event::new(event.kind().to_owned(), event.data);
    match content_type {
        Some(content_type) => relayed.with_content_type(content_type),
        None => relayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    #[test]
    fn data_is_passed_on_as_it_is() {
        let parcel = testing::event("parcel.sent", r#"{ "weight": 1.50 }"#.to_owned().into_bytes());
        let parcel = parcel.map(Bytes::from).with_content_type("application/json");
        let relayed = relay(parcel.clone());
        assert_eq!((relayed.kind(), relayed.content_type()), ("parcel.sent", Some("application/json")));
        assert_eq!(relayed.data, parcel.data);
        assert_eq!((relayed.id(), relayed.source()), ("", ""), "the platform gives it its own");
    }
}
