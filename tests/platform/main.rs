//! The platform as its users have it: every test starts the real `dunlin`, on free ports and in a folder of its own, and
//! drives it by its command line and over HTTP. The guests of `functions/` and `tests/guests/` are what it runs; `make
//! guests` builds them.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

mod bad_input;
mod buckets;
mod capabilities;
mod cli;
mod clients;
mod deploys;
mod disk;
mod events;
mod files;
mod harness;
mod isolation;
mod languages;
mod mysql;
mod postgres;
mod reference;
mod rooms;
mod schedules;
mod serving;
mod webhooks;
