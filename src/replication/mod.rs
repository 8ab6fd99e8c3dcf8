//! Floor F3: the rules by which the replicas of a shard stay one log, and [`driver`], which carries
//! them out.
//!
//! Pure state machines: [`Leader`] and [`Follower`] turn inputs into effects, without clock, disk
//! or network. What the controller makes of proposals, losses and elections, [`ShardState`], is the
//! metadata quorum's and only named here.
//! Whoever drives them owns one per shard, hands in what the log looks like ([`LogView`]), and
//! carries the effects out. Bytes never pass through here: a [`LeaderEffect::Stream`] names a place
//! in the log, and the driver reads it from the store.
//!
//! What holds: a record is committed when it is durable on every replica that may be elected, by
//! the leader's own set of in-sync replicas joined with every set it has asked for; logs are cut
//! where their epochs part, never at the committed mark; nobody acts on a message of another
//! cluster, epoch or incarnation. Sources: KIP-101, 279, 320 (truncation), KIP-497 and 903
//! (changing the set), KIP-966 (eligible replicas). docs/adr/0010 and 0011 have the reasons.

pub(crate) mod driver;
mod follower;
mod history;
mod leader;
mod message;
#[cfg(test)]
mod tests;

pub use crate::partition::{NotAdmitted, Settled, Standing};
pub use braid_raft::shard::{
    ChangeRefused, Election, Loss, NoLeader, Proposal, Replica, ShardState, SyncSet, Unclean,
};
use braid_raft::shard::{Mistake, Rules};
pub use driver::ShardFailed;
pub use follower::{Follower, FollowerEffect, FollowerInput, Following};
pub use history::{LogView, Tail};
pub use leader::{Leader, LeaderEffect, LeaderInput, LeaderLimits, Progress, Term};
pub use message::{Envelope, Message, Refusal, Stamp};
