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

mod catalog;
mod dead_letters;
mod decide;
mod deliveries;
mod entries;
mod error;
mod event;
mod filter;
mod look;
mod message;
mod owner;
mod part;
mod ranges;
mod receipt;
mod request;
mod settings;
mod table;
mod wire;

#[allow(unused_imports, reason = "for the floor above, which is built on it next")]
pub(crate) use {
    catalog::{
        Catalog, DEAD_LETTER_PREFIX, DISCARDED_HALVES, DISCARDED_TIMERS, DeadLetterTopic,
        NoDeadLetterTopic, TopicView, dead_letter_name, is_reserved,
    },
    deliveries::Deliveries,
    error::{LeaseError, ReceiveError, ResetError, Unavailable},
    filter::{FilterError, TagFilter},
    message::Message,
    request::{
        DeadLetters, Delivered, DeliveryTotals, GroupSummary, Lag, Outcome, Progress,
        ReceiveRequest, Settled, Target, Which,
    },
    settings::{
        BackOff, DELAY_MS_MAX, GroupSettings, INVISIBLE_MS_MAX, INVISIBLE_MS_MIN, RECEIVE_MAX,
        StartFrom,
    },
};

#[cfg(test)]
mod tests;
