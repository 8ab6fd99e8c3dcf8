//! What the controller makes of a replicated shard: who leads it, who is in sync, who may be elected.
//!
//! Pure rules, applied by [`apply`](crate::apply::apply) on every node alike. The replicas' side of
//! them is the broker's; docs/adr/0010 has the reasons.

mod mistake;
mod state;

pub use mistake::{Mistake, Rules};
pub use state::{
    ChangeRefused, Election, Loss, NoLeader, Proposal, Replica, ShardState, SyncSet, Unclean, Up,
};
