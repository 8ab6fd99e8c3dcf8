//! What carries the rules out: one task per replica, which owns its state machine and its store; one
//! task per other broker, which owns the stream to it.
//!
//! [`Shards`] is all of it as others see it. [`replica`] is a replica's life, [`letter`] what brokers
//! say to each other and its bytes, [`outbox`] what waits to be said, [`streams`] the wires. What the
//! controller says and is asked comes by [`Control`], so that a test may be the controller.
//! docs/adr/0013 has the reasons.

mod letter;
mod outbox;
mod replica;
mod shards;
mod streams;

pub use shards::ShardFailed;
pub(crate) use shards::{Opened, Shards, ShardsConfig};
pub(crate) use streams::Streams;
