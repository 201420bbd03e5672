//! Functions for Dunlin, in Rust.
//!
//! ```
//! use dunlin::{Error, Event, Result};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { id: String, total: u64 }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Payment { order: String, amount: u64 }
//!
//! #[dunlin::handler]
//! fn on_order(event: Event<Order>) -> Result<Event<Payment>> {
//!     let Order { id, total } = event.data;
//!     if total == 0 {
//!         return Err(Error::reject("there is nothing to pay"));
//!     }
//!     Ok(Event::new("order.paid", Payment { order: id.clone(), amount: total }).with_key(id))
//! }
//!
//! // The function is still a function: a test calls it.
//! let order = Order { id: "7".into(), total: 1290 };
//! let paid = on_order(dunlin::testing::event("order.created", order))?;
//! assert_eq!((paid.kind(), paid.data.amount), ("order.paid", 1290));
//! # Ok::<(), Error>(())
//! ```
//! It is built with `cargo build --release --target wasm32-wasip2` from a crate whose `[lib]` has
//! `crate-type = ["cdylib"]`, and the component needs nothing else: what is used of this crate is what it imports.
//!
//! | | |
//! | --- | --- |
//! | [`handler`](macro@handler), [`Event`], [`Error`] | functions that handle events |
//! | [`http`](mod@http) | functions that answer requests |
//! | [`publish`](publish()), [`publish_all`] | events beside those a handler returns |
//! | [`state`] | values that outlast the run |
//! | [`log`], [`config`] | log lines with fields, variables and secrets |
//! | [`testing`] | all of it in memory, for tests |
//!
//! The one design choice: only [`host`] knows whether it is built for WebAssembly. Natively it is a platform in memory, and
//! everything above is the same, so that `cargo test` runs what will be deployed.
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]
#![cfg_attr(target_family = "wasm", deny(unsafe_code))]
#![warn(missing_docs, unreachable_pub)]
#![allow(rustdoc::private_intra_doc_links, reason = "the design choice is for those who read the code")]

mod data;
mod error;
mod event;
mod handler;
mod host;
mod publish;

pub mod config;
pub mod http;
pub mod log;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use data::{Bytes, FromData, IntoData};
pub use error::{Error, ResultExt};
pub use event::{Attribute, Erased, Event, Outgoing};
pub use handler::{Handler, Returned, ReturnedEach};
pub use publish::{PublishError, publish, publish_all};
/// JSON of any shape.
pub use serde_json::Value;

/// What a handler answers with where it may fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Makes a function the one that handles the component's events.
///
/// It takes one [`Event<T>`], or a `Vec` of them where the manifest's trigger has a `batch`. What it can answer with is in
/// [`Returned`] and [`ReturnedEach`]. Events whose data can't be read as `T` are rejected without calling it.
///
/// ```
/// use dunlin::{Event, Result};
///
/// /// Several at once, each with an answer of its own.
/// #[dunlin::handler]
/// fn on_events(events: Vec<Event<u32>>) -> Vec<Result<()>> {
///     events.into_iter().map(|event| if event.data > 9 { Err("a".parse::<u32>().unwrap_err().into()) } else { Ok(()) }).collect()
/// }
/// ```
///
/// ```compile_fail
/// // The data has to be something that can be deserialized.
/// #[dunlin::handler]
/// fn on_event(event: dunlin::Event<std::time::Instant>) {}
/// ```
///
/// ```compile_fail
/// #[dunlin::handler]
/// async fn on_event(event: dunlin::Event) {}
/// ```
pub use dunlin_macros::handler;

/// Makes a function the one that answers the component's requests: see the [module](mod@http).
pub use dunlin_macros::http;

/// For the attributes, which write it into the function's crate.
#[doc(hidden)]
pub mod __private {
    pub use crate::{event::Received, handler::handle, http::respond};
    pub use ::http::{Request, Response};

    pub use crate::{__export_handler as export_handler, __export_http as export_http};

    #[cfg(target_family = "wasm")]
    pub use crate::{
        host::platform::{bindings, run as run_handler},
        http::wasi::run as run_http,
    };
    #[cfg(target_family = "wasm")]
    pub use wasip2;
}

/// The examples of the README, which are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// In a native build the exports are there as types alone: what doesn't fit is found by `cargo test` and the editor too, and
// the function isn't taken for unused.

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    ($function:ident) => {
        const _: fn(
            ::std::vec::Vec<$crate::__private::Received>,
        ) -> ::std::vec::Vec<::std::result::Result<::std::vec::Vec<$crate::Outgoing>, $crate::Error>> =
            |events| $crate::__private::handle($function, events);
    };
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    ($function:ident) => {
        const _: () = {
            use $crate::__private::bindings::exports::dunlin::function::handler;

            struct Component;

            impl handler::Guest for Component {
                fn handle(
                    deliveries: ::std::vec::Vec<handler::Delivery>,
                ) -> ::std::vec::Vec<::std::result::Result<::std::vec::Vec<handler::Draft>, handler::Failure>> {
                    $crate::__private::run_handler(deliveries, |events| $crate::__private::handle($function, events))
                }
            }

    $crate::__private::bindings::export!(Component with_types_in $crate::__private::bindings);
        };
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_http {
    ($function:ident) => {
        const _: fn(
            $crate::__private::Request<::std::vec::Vec<u8>>,
        ) -> $crate::__private::Response<::std::vec::Vec<u8>> =
            |request| $crate::__private::respond($function, request);
    };
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_http {
    ($function:ident) => {
        const _: () = {
            use $crate::__private::wasip2;

            struct Component;

            impl wasip2::exports::http::incoming_handler::Guest for Component {
                fn handle(
                    request: wasip2::http::types::IncomingRequest,
                    answer: wasip2::http::types::ResponseOutparam,
                ) {
                    $crate::__private::run_http(request, answer, |request| {
                        $crate::__private::respond($function, request)
                    });
                }
            }

    wasip2::http::proxy::export!(Component with_types_in wasip2);
        };
    };
}
