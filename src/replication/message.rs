//! What the replicas of a shard tell each other. Every message is repeatable: delayed, doubled or
//! lost ones change nothing, because each says what it is an answer to.

use uuid::Uuid;

use super::Replica;
use super::history::Tail;
use crate::model::{LeaderEpoch, Position, ShardId};

/// Who says something to whom, in which term. On every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The cluster.
    pub cluster: Uuid,
    /// The shard.
    pub shard: ShardId,
    /// The term that the sender is in.
    pub epoch: LeaderEpoch,
    /// The sender.
    pub from: Replica,
    /// The receiver.
    pub to: Replica,
}

/// A message and its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// Who to whom.
    pub stamp: Stamp,
    /// What.
    pub message: Message,
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// Follower to leader: this is where my log ends; give me what follows. It acknowledges what
    /// lies below `durable`, too. An answer comes when there is one.
    Fetch {
        /// The end of the follower's log.
        tail: Tail,
        /// Everything below is on the follower's disk.
        durable: Position,
    },
    /// Leader to follower: your log is a beginning of mine. The frames behind it, if any, follow
    /// this message.
    Frames {
        /// The follower's tail that this answers.
        after: Tail,
        /// Everything below is committed, as far as the leader knows.
        committed: Position,
    },
    /// Leader to follower: your log is no beginning of mine.
    Diverged {
        /// The follower's tail that this answers.
        after: Tail,
        /// The last epoch of the leader's log that is not above the tail's, and where it ends.
        known: Tail,
    },
    /// Leader to follower: there is no answer.
    Refused {
        /// The follower's tail that this answers.
        after: Tail,
        /// Why.
        why: Refusal,
    },
}

/// Why a follower gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It is none of the shard's replicas.
    #[error("the broker is no replica of the shard")]
    NotAReplica,
    /// The leader no longer has what follows: the replica has to begin with a copy of what lives.
    #[error("the log before {0} is gone")]
    Gone(Position),
}
