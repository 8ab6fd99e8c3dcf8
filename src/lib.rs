//! Braid: Kafka on the wire, RocketMQ inside. The floors, from the ground up.

pub use braid_base::{env, model};

pub mod config;
pub mod loggers;
pub mod store;

#[allow(dead_code, reason = "the floor above is built on it next")]
mod delivery;
pub mod group;
#[allow(dead_code, reason = "the native API reaches it")]
mod half;
mod partition;
#[allow(dead_code, unused_imports, reason = "the interfaces that use all of it come one by one")]
mod timer;
mod txn;

mod api;
mod native;
mod reconcile;

mod http;
mod server;

pub mod cli;
pub mod node;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tidy;
