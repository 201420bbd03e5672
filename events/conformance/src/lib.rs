//! The suites that every back end of the contracts in `dunlin-events` runs in its own tests: a module for each contract.

pub mod consumers;
pub mod registry;
pub mod state;
pub mod topics;
