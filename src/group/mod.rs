//! Consumer groups: Kafka's classic group coordinator.
//!
//! A group belongs to the partition of `__consumer_offsets` that its id hashes to
//! ([`partition_for`]). Everything a partition's groups know is one [`Shard`]: a pure state
//! machine, `step(now, input) -> effects`, that does no I/O, reads no clock and draws no random
//! number. [`GroupCoordinator`] is the handle, the tasks behind it own the shards: they feed
//! requests in, write the records that come out through a [`GroupLog`], and release each answer
//! when what it promises is durable. After a restart the records are replayed into the same state.
//!
//! Invariant: every request is answered exactly once, and no answer that claims a write leaves
//! before the write is durable. The module knows no Kafka request struct; `api` translates.

mod batch;
mod classic;
mod commit;
mod coordinator;
mod error;
mod expire;
mod join;
mod leave;
mod load;
mod log;
mod member;
mod offsets;
mod offsets_topic;
mod query;
mod rebalance;
pub mod record;
mod request;
mod restate;
mod state;
mod step;
mod sync;
mod timers;
mod worker;

pub use crate::partition::partition_for;
pub use coordinator::{GroupCoordinator, Ticket};
pub use error::{GroupError, GroupLogError};
pub use load::Replayed;
pub use log::{GroupLog, LoadError, PendingWrite};
pub(crate) use offsets_topic::OffsetsTopicLog;
pub use request::{
    CommitPartition, CommitReply, CommitRequest, CommitTopic, CommittedTopic, DeleteOffsetsRequest,
    DeletedTopic, DescribedGroup, DescribedMember, FetchReply, FetchRequest, FetchTopic,
    FetchedOffset, FetchedPartition, FetchedTopic, HeartbeatReply, HeartbeatRequest, JoinProtocol,
    JoinRejected, JoinReply, JoinRequest, Joined, JoinedMember, LeaveMember, LeaveReply,
    LeaveRequest, LeftMember, ListFilter, ListedGroup, SyncReply, SyncRequest, Synced,
};
pub use state::{Shard, State};
pub use step::{Effect, Input, Now, Reply, Request, RequestId, Token};

#[cfg(test)]
mod tests;
