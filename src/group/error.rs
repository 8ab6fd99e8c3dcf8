//! What a group request can be refused with, and what the log under the coordinator can fail with.
//!
//! `api` maps each [`GroupError`] to its Kafka code; the numbers in the docs are those codes.
//! Nothing here becomes UNKNOWN_SERVER_ERROR: clients treat that as fatal.

/// Why a group request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum GroupError {
    /// RECORD_LIST_TOO_LARGE (18): the group's metadata record does not fit into the log. Kafka has
    /// the same error from its log and hides it behind UNKNOWN_SERVER_ERROR.
    #[error("the group's metadata is too large to be stored")]
    MetadataTooLarge,
    /// OFFSET_METADATA_TOO_LARGE (12).
    #[error("the offset's metadata is longer than offset.metadata.max.bytes")]
    OffsetMetadataTooLarge,
    /// COORDINATOR_LOAD_IN_PROGRESS (14): ask again, here.
    #[error("the coordinator is loading this group")]
    CoordinatorLoadInProgress,
    /// COORDINATOR_NOT_AVAILABLE (15): ask again, after looking the coordinator up.
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// NOT_COORDINATOR (16): another broker coordinates this group.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// ILLEGAL_GENERATION (22).
    #[error("the generation is not the group's current one")]
    IllegalGeneration,
    /// INCONSISTENT_GROUP_PROTOCOL (23).
    #[error("the member's protocols do not fit those of the group")]
    InconsistentGroupProtocol,
    /// INVALID_GROUP_ID (24).
    #[error("the group id is empty")]
    InvalidGroupId,
    /// UNKNOWN_MEMBER_ID (25).
    #[error("the group has no such member")]
    UnknownMemberId,
    /// INVALID_SESSION_TIMEOUT (26).
    #[error("the session timeout is outside the configured bounds")]
    InvalidSessionTimeout,
    /// REBALANCE_IN_PROGRESS (27).
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    /// INVALID_COMMIT_OFFSET_SIZE (28): the commit's records do not fit into the log.
    #[error("the commit is too large to be stored")]
    InvalidCommitOffsetSize,
    /// NON_EMPTY_GROUP (68).
    #[error("the group has members")]
    NonEmptyGroup,
    /// GROUP_ID_NOT_FOUND (69). Before OffsetCommit v9 `api` answers ILLEGAL_GENERATION (22).
    #[error("there is no such group")]
    GroupIdNotFound,
    /// MEMBER_ID_REQUIRED (79): join again with the id in the answer.
    #[error("the member must join again with the id it was given")]
    MemberIdRequired,
    /// GROUP_MAX_SIZE_REACHED (81).
    #[error("the group has as many members as group.max.size allows")]
    GroupMaxSizeReached,
    /// FENCED_INSTANCE_ID (82): a newer member holds the same instance id.
    #[error("another member has taken over this instance id")]
    FencedInstanceId,
    /// GROUP_SUBSCRIBED_TO_TOPIC (86).
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// UNSTABLE_OFFSET_COMMIT (88): a transaction that commits this offset is still open.
    #[error("the offset is part of an open transaction")]
    UnstableOffsetCommit,
}

/// Why records could not be made durable in a partition of `__consumer_offsets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupLogError {
    /// This broker does not lead the partition (any more).
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The disk failed; the broker is about to stop.
    #[error("the storage failed")]
    StorageFailed,
    /// Not now: replicas are missing, the disk is full, the write timed out, the broker stops.
    #[error("the partition does not take writes now")]
    Unavailable,
    /// The batch is larger than the log takes.
    #[error("the batch is too large")]
    TooLarge,
}

/// What is told to the client whose offset commit or deletion could not be written.
pub(super) fn commit_error(cause: GroupLogError) -> GroupError {
    match cause {
        GroupLogError::NotLeader | GroupLogError::StorageFailed => GroupError::NotCoordinator,
        GroupLogError::Unavailable => GroupError::CoordinatorNotAvailable,
        GroupLogError::TooLarge => GroupError::InvalidCommitOffsetSize,
    }
}

/// What is told to members whose group's metadata could not be written.
pub(super) fn metadata_error(cause: GroupLogError) -> GroupError {
    match cause {
        GroupLogError::NotLeader | GroupLogError::StorageFailed => GroupError::NotCoordinator,
        GroupLogError::Unavailable => GroupError::CoordinatorNotAvailable,
        GroupLogError::TooLarge => GroupError::MetadataTooLarge,
    }
}
