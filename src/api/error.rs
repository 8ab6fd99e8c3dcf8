//! The one map from domain errors to Kafka's codes. No arm is `_`: a new error has to decide here.
//!
//! UNKNOWN_SERVER_ERROR is never used: clients take it for final.

use braid_protocol::ErrorCode;
use braid_protocol::records::{BatchError, ConformError, ErrorClass};
use braid_raft::ProposeError;
use braid_raft::outcome::{CreatePartitionsRejection, CreateTopicRejection};
use braid_raft::plan::PlacementError;

use crate::group::GroupError;
use crate::partition::{FetchError, LedAppendError, LookupError, NotAdmitted, NotSettled};
use crate::store::{AppendError, LogFailed, LogStartError, ReadError, SequenceRejected};

/// The code of a batch that was refused before it reached the log.
pub(crate) fn batch_code(error: &ConformError) -> ErrorCode {
    match error {
        ConformError::Batch(batch) => batch_class_code(batch),
        ConformError::Compress(_) => ErrorCode::INVALID_RECORD,
    }
}

fn batch_class_code(error: &BatchError) -> ErrorCode {
    match error.class() {
        ErrorClass::CorruptMessage => ErrorCode::CORRUPT_MESSAGE,
        ErrorClass::MessageTooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        ErrorClass::InvalidTimestamp => ErrorCode::INVALID_TIMESTAMP,
        ErrorClass::UnsupportedCompressionType => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ErrorClass::InvalidRecord => ErrorCode::INVALID_RECORD,
    }
}

/// The code of an append that the group coordinator reported.
pub(crate) fn group_code(error: GroupError) -> ErrorCode {
    match error {
        GroupError::MetadataTooLarge => ErrorCode::RECORD_LIST_TOO_LARGE,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
        GroupError::CoordinatorLoadInProgress => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        GroupError::CoordinatorNotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        GroupError::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InvalidCommitOffsetSize => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        GroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
        GroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::GroupMaxSizeReached => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::GroupSubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        GroupError::UnstableOffsetCommit => ErrorCode::UNSTABLE_OFFSET_COMMIT,
    }
}

/// The code of a topic that cannot be placed.
pub(crate) fn placement_code(error: &PlacementError) -> ErrorCode {
    match error {
        PlacementError::Rejected(rejection) => create_rejection_code(rejection),
        PlacementError::FactorWithAssignment | PlacementError::CountWithAssignment => {
            ErrorCode::INVALID_REQUEST
        }
        PlacementError::DuplicateAssignment(_)
        | PlacementError::AssignmentGap
        | PlacementError::UnevenAssignment { .. }
        | PlacementError::AssignmentCount { .. }
        | PlacementError::AllFenced(_)
        | PlacementError::Replicas(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        PlacementError::NonPositiveFactor
        | PlacementError::TooFewBrokers { .. }
        | PlacementError::NotReplicated { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
        PlacementError::NonPositiveCount
        | PlacementError::CountUnchanged(_)
        | PlacementError::NotAnIncrease { .. } => ErrorCode::INVALID_PARTITIONS,
        PlacementError::TooManyPartitions => ErrorCode::POLICY_VIOLATION,
    }
}

/// The code of a topic that the metadata quorum refused.
pub(crate) fn create_rejection_code(rejection: &CreateTopicRejection) -> ErrorCode {
    match rejection {
        CreateTopicRejection::InvalidName(_) | CreateTopicRejection::Collides { .. } => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        CreateTopicRejection::AlreadyExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        CreateTopicRejection::IdInUse(_) => ErrorCode::INVALID_REQUEST,
        CreateTopicRejection::Partitions(_) => ErrorCode::INVALID_PARTITIONS,
        CreateTopicRejection::Replicas(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
    }
}

/// The code of partitions that the metadata quorum refused to add.
pub(crate) fn add_rejection_code(rejection: &CreatePartitionsRejection) -> ErrorCode {
    match rejection {
        CreatePartitionsRejection::UnknownId(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CreatePartitionsRejection::CountChanged { .. }
        | CreatePartitionsRejection::Partitions(_) => ErrorCode::INVALID_PARTITIONS,
        CreatePartitionsRejection::Replicas(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
    }
}

/// The code of a log start that could not be moved.
pub(crate) fn log_start_code(error: &LogStartError) -> ErrorCode {
    match error {
        LogStartError::Read(error) => read_code(error),
        LogStartError::Append(error) => append_code(error),
    }
}

/// The code of a command that the metadata quorum did not take.
pub(crate) fn propose_code(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::NotLeader { .. } => ErrorCode::NOT_CONTROLLER,
        ProposeError::DiskFull => ErrorCode::KAFKA_STORAGE_ERROR,
        ProposeError::TooLarge { .. } => ErrorCode::INVALID_REQUEST,
        ProposeError::Stopped | ProposeError::Interrupted => ErrorCode::REQUEST_TIMED_OUT,
    }
}

/// The code of an append that is in the log of a replicated shard, and cannot be acknowledged.
pub(crate) fn not_settled_code(error: &NotSettled) -> ErrorCode {
    match error {
        NotSettled::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        NotSettled::TooFewInSync => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        NotSettled::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        NotSettled::Failed => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The code of a batch that the log of a replicated shard did not take.
pub(crate) fn led_append_code(error: &LedAppendError) -> ErrorCode {
    match error {
        LedAppendError::NotAdmitted(NotAdmitted::NotLeader) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        LedAppendError::NotAdmitted(NotAdmitted::TooFewInSync { .. }) => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        // It was closed since this broker leads no more.
        LedAppendError::Append(AppendError::Failed(LogFailed::Closed)) => {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
        LedAppendError::Append(error) => append_code(error),
    }
}

/// The code of a batch that the log did not take.
pub(crate) fn append_code(error: &AppendError) -> ErrorCode {
    match error {
        // The topic is being deleted.
        AppendError::UnknownQueue(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AppendError::Fenced { .. } | AppendError::Elsewhere(_) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        AppendError::NotTheBatch { .. } => ErrorCode::CORRUPT_MESSAGE,
        AppendError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        AppendError::Rejected(rejected) => sequence_code(*rejected),
        // All of these pass, or another broker takes over: the client tries again.
        AppendError::DiskFull
        | AppendError::SegmentNotReady
        | AppendError::NoMemory
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn sequence_code(rejected: SequenceRejected) -> ErrorCode {
    match rejected {
        // Clients abort the transaction that they are in and take a new epoch.
        SequenceRejected::OutOfOrder { .. } | SequenceRejected::EndedTransaction { .. } => {
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        }
        SequenceRejected::DuplicateForgotten { .. } => ErrorCode::DUPLICATE_SEQUENCE_NUMBER,
        SequenceRejected::ProducerFenced { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        SequenceRejected::OutsideTransaction => ErrorCode::INVALID_TXN_STATE,
        SequenceRejected::UnknownProducer => ErrorCode::UNKNOWN_PRODUCER_ID,
    }
}

/// The code of a read that failed.
pub(crate) fn read_code(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownQueue(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        ReadError::Damaged(_) => ErrorCode::CORRUPT_MESSAGE,
        ReadError::Io(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The code of a fetch that failed.
pub(crate) fn fetch_code(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::Read(error) => read_code(error),
        FetchError::Pool(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// The code of a lookup by time that failed.
pub(crate) fn lookup_code(error: &LookupError) -> ErrorCode {
    match error {
        LookupError::Fetch(error) => fetch_code(error),
        LookupError::Batch(_) => ErrorCode::CORRUPT_MESSAGE,
    }
}
