//! Floor F3: the coordinator of Kafka transactions.
//!
//! A transactional id belongs to the partition of `__transaction_state` that it hashes to. What is
//! known of it is a [`Txn`]; [`decide`] says, purely, what a request makes of one; the records of
//! the log are the only memory. One node has one log, so a transaction ends in one step: the new
//! state and the markers of all its partitions are one group of the log, all of it or nothing.
//! [`Transactions`] is a lock, not a task: a produced batch has its place in the log when its
//! request is taken, and joins its transaction in that same step.
//!
//! Offsets that a transaction commits stand in its state until it ends; then they are written to
//! `__consumer_offsets` like any others, again and again until that succeeded.
//! Invariant: what a restart makes of the records is what was there before.

mod book;
mod coordinator;
pub(crate) mod decide;
mod error;
mod load;
pub(crate) mod record;
mod state;

pub(crate) use coordinator::{
    COORDINATOR_EPOCH, Ended, Mark, MarkedPartition, Settings, ToCommit, Transactions,
};
pub(crate) use error::Refusal;
pub(crate) use state::{GroupOffsets, Identity, PendingOffset, Status};
