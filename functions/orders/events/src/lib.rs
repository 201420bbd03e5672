//! What the functions of the orders demo say to each other: the types of their events, and what is in them.
//!
//! It is all they share. Every event has its order's id as subject and as `partitionkey`, so the events of one order are
//! handled in their order, and those of different orders at the same time.

use serde::{Deserialize, Serialize};

/// Topic `orders`: somebody ordered something.
pub const ORDER_CREATED: &str = "order.created";
/// Topic `payments`: an order was paid.
pub const ORDER_PAID: &str = "order.paid";
/// Topic `payments`: an order could not be paid.
pub const PAYMENT_DECLINED: &str = "payment.declined";
/// Topic `stock`: an order's items are set aside.
pub const STOCK_RESERVED: &str = "stock.reserved";
/// Topic `stock`: an order's items are not all there, and none is set aside.
pub const STOCK_REJECTED: &str = "stock.rejected";
/// Topic `shipments`: an order is on its way.
pub const ORDER_SHIPPED: &str = "order.shipped";

/// Some of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    pub sku: String,
    pub quantity: u32,
    /// Of one, in cents.
    pub price: u64,
}

/// The data of [`ORDER_CREATED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    pub order: String,
    pub customer: String,
    pub items: Vec<Item>,
    /// In cents.
    pub total: u64,
}

/// The data of [`ORDER_PAID`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    pub order: String,
    /// In cents.
    pub amount: u64,
}

/// The data of [`PAYMENT_DECLINED`] and [`STOCK_REJECTED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub order: String,
    pub reason: String,
}

/// The data of [`STOCK_RESERVED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserved {
    pub order: String,
    pub items: Vec<Item>,
}

/// The data of [`ORDER_SHIPPED`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    pub order: String,
}
