//! Half messages: sent now, seen when their producer commits them, or never.
//!
//! A half message is a record in the queue `HALF`, with the record batch it is to become as its
//! value. What happens to it are records of the queue `HALF_EVENTS`. Committing it appends its batch
//! to its target and the event that says so, in one group: both are in the log or neither is. What
//! is known of the halves is a `Table`, a pure state machine that changes by events of the log only,
//! so that a start reads no messages; one task owns it, everybody else
//! speaks to that task through [`Halves`]. Producers that do not decide are asked (RocketMQ's
//! check-back), and what nobody decides goes to a discard topic.
//!
//! Nothing but this module reads the two queues. It knows no HTTP and no Kafka requests.

mod draft;
mod ends;
mod event;
mod expire;
mod groups;
mod halves;
mod id;
mod ids;
mod load;
mod owner;
mod payload;
mod polls;
mod request;
mod table;
mod targets;
mod times;

#[allow(unused_imports, reason = "the words of the handle, for those who call it")]
pub(crate) use {
    event::{Ender, Expiry},
    halves::{CHECKS_MAX, Halves},
    id::{NoTransactionId, TransactionId},
    request::{
        Check, CheckError, Decision, End, EndError, HalfCounts, HalfMessage, HalfSent, HalfState,
        IMMUNITY_MS_MAX, Message, MessageHeaders, NAME_BYTES_MAX, Outcome, SendError, SendHalf,
        ShowError, Unavailable,
    },
    table::{HalfFilter, HalfPage, Pending},
    targets::{Discard, Target, Targets},
};

#[cfg(test)]
mod tests;
