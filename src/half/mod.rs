//! Half messages: sent now, seen when their producer commits them, or never.
//!
//! A half message is a record in the queue `HALF`, with the record batch it is to become as its
//! value. Committing it appends that batch to its target and the event that says so to `HALF`, in
//! one group: both are in the log or neither is. What is known of the halves is [`table::Table`], a
//! pure state machine that changes by events of the log only; one task owns it, everybody else
//! speaks to that task through a handle. Producers that do not decide are asked (RocketMQ's
//! check-back), and what nobody decides goes to a discard topic.
//!
//! Nothing but this module reads `HALF`. It knows no HTTP and no Kafka requests.

mod ends;
mod event;
mod groups;
mod id;
mod table;

#[allow(unused_imports, reason = "callers name them")]
pub(crate) use event::{Ender, Expiry};
#[allow(unused_imports, reason = "callers name them")]
pub(crate) use id::{NoTransactionId, TransactionId};

#[cfg(test)]
mod tests;
