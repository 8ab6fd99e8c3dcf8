//! What goes into a shard's step and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::error::{GroupError, GroupLogError};
use super::record::Record;
use super::request::{
    CommitReply, CommitRequest, DeleteOffsetsRequest, DeletedTopic, DescribedGroup, FetchReply,
    FetchRequest, HeartbeatReply, HeartbeatRequest, JoinRejected, JoinReply, JoinRequest,
    LeaveReply, LeaveRequest, SyncReply, SyncRequest,
};
use crate::model::TopicId;

/// The time of a step, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For everything that counts a duration.
    pub monotonic: Duration,
    /// For what is written down.
    pub wall_ms: i64,
}

/// Names a request until it is answered. The owner's to choose; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names records until they are durable. Counts up within a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a shard can be asked by a client.
#[derive(Debug, Clone)]
pub enum Request {
    /// With a fresh random id, used if the member has none yet.
    Join(JoinRequest, Uuid),
    Sync(SyncRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveRequest),
    Commit(CommitRequest),
    /// Whether offsets may join a transaction; writes nothing.
    CheckForTransaction(CommitRequest),
    /// The offsets of a committed transaction, whoever the members are by now.
    CommitOfTransaction(CommitRequest),
    Fetch(FetchRequest),
    Describe(String),
    Delete(String),
    DeleteOffsets(DeleteOffsetsRequest),
}

/// What a shard reacts to.
#[derive(Debug, Clone)]
pub enum Input {
    /// A client's request.
    Request(RequestId, Request),
    /// The records of a token are durable, or never will be. In the order of the tokens.
    Written(Token, Result<(), GroupLogError>),
    /// A topic is gone; its offsets go too.
    TopicDeleted { name: Arc<str>, topic_id: TopicId },
    /// Time has passed.
    Tick,
    /// The log has become long: say everything that is known once more.
    Restate,
    /// This broker no longer coordinates these groups. The shard is of no use afterwards.
    Resign,
}

/// What is to be done after a step, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Append the records to this shard's partition, and report the token.
    Append(Token, Vec<Record>),
    /// Answer a request.
    Reply(RequestId, Reply),
    /// What [`Input::Restate`] asked for is done. If complete, no record is needed any more that
    /// lies before the place where the log ended when it was asked for.
    Restated {
        /// No write failed meanwhile.
        is_complete: bool,
    },
}

/// An answer: one variant per request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(HeartbeatReply),
    Leave(LeaveReply),
    Commit(CommitReply),
    Fetch(FetchReply),
    Describe(Result<DescribedGroup, GroupError>),
    Delete(Result<(), GroupError>),
    DeleteOffsets(Result<Vec<DeletedTopic>, GroupError>),
}

impl Request {
    /// The group the request is about.
    #[must_use]
    pub fn group_id(&self) -> &str {
        match self {
            Self::Join(request, _) => &request.group_id,
            Self::Sync(request) => &request.group_id,
            Self::Heartbeat(request) => &request.group_id,
            Self::Leave(request) => &request.group_id,
            Self::Commit(request)
            | Self::CheckForTransaction(request)
            | Self::CommitOfTransaction(request) => &request.group_id,
            Self::Fetch(request) => &request.group_id,
            Self::Describe(group_id) | Self::Delete(group_id) => group_id,
            Self::DeleteOffsets(request) => &request.group_id,
        }
    }

    /// The answer while the group's partition is being read back. Heartbeats are taken on trust,
    /// and a sync starts over with a join: clients know no "loading" for either.
    pub(super) fn loading(&self) -> Reply {
        match self {
            Self::Heartbeat(_) => Reply::Heartbeat(Ok(())),
            Self::Sync(_) => self.refused(GroupError::RebalanceInProgress),
            Self::Join(..)
            | Self::Leave(_)
            | Self::Commit(_)
            | Self::CheckForTransaction(_)
            | Self::CommitOfTransaction(_)
            | Self::Fetch(_)
            | Self::Describe(_)
            | Self::Delete(_)
            | Self::DeleteOffsets(_) => self.refused(GroupError::CoordinatorLoadInProgress),
        }
    }

    /// The answer when too much else is waiting: the client asks again.
    pub(super) fn overloaded(&self) -> Reply {
        match self {
            Self::Heartbeat(_) | Self::Sync(_) => self.refused(GroupError::CoordinatorNotAvailable),
            Self::Join(..)
            | Self::Leave(_)
            | Self::Commit(_)
            | Self::CheckForTransaction(_)
            | Self::CommitOfTransaction(_)
            | Self::Fetch(_)
            | Self::Describe(_)
            | Self::Delete(_)
            | Self::DeleteOffsets(_) => self.refused(GroupError::CoordinatorLoadInProgress),
        }
    }

    /// The answer that refuses this request whole.
    #[must_use]
    pub fn refused(&self, error: GroupError) -> Reply {
        match self {
            Self::Join(request, _) => Reply::Join(Err(JoinRejected {
                error,
                member_id: Arc::from(request.member_id.as_str()),
            })),
            Self::Sync(_) => Reply::Sync(Err(error)),
            Self::Heartbeat(_) => Reply::Heartbeat(Err(error)),
            Self::Leave(_) => Reply::Leave(Err(error)),
            Self::Commit(_) | Self::CheckForTransaction(_) | Self::CommitOfTransaction(_) => {
                Reply::Commit(Err(error))
            }
            Self::Fetch(_) => Reply::Fetch(Err(error)),
            Self::Describe(_) => Reply::Describe(Err(error)),
            Self::Delete(_) => Reply::Delete(Err(error)),
            Self::DeleteOffsets(_) => Reply::DeleteOffsets(Err(error)),
        }
    }
}
