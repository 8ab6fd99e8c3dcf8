//! Deliveries (POP): messages of a topic are leased to consumers that are bound to no partition.
//!
//! What became of every delivery is in the log, as events of the queue `DELIVERY`; the messages
//! themselves are never copied for a retry. [`table::Table`] is the pure state, changed by events
//! only: decide, append, apply. One task owns it. Kafka's share groups can stand on the same states
//! (KIP-932). Nothing here knows HTTP or Kafka's requests.
//!
//! Invariants: a message is handed out only when its lease is durable; it is delivered until it is
//! acknowledged or a dead letter; of a dead letter there is exactly one copy, in one atomic group
//! with the end of its deliveries.

mod decide;
mod error;
mod event;
mod filter;
mod part;
mod ranges;
mod receipt;
mod settings;
mod table;
mod wire;

#[cfg(test)]
mod tests;
