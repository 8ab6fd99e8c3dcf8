//! Braid: Kafka on the wire, RocketMQ inside. The floors, from the ground up.

pub use braid_base::{env, model};

pub mod config;
pub mod loggers;
pub mod store;
mod traffic;

mod delivery;
pub mod group;
mod half;
mod partition;
pub mod replication;
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
