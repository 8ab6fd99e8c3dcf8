//! Braid: Kafka on the wire, RocketMQ inside.

pub use braid_base::{env, model};

pub mod cli;
pub mod config;
pub mod group;
pub mod store;

#[cfg(test)]
mod docs;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tidy;
