//! What is known of a transactional id. Plain values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::TopicId;

/// Where a transaction stands. Numbers and names are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i8)]
pub(crate) enum Status {
    /// None has begun since the producer was initialised.
    Empty = 0,
    /// It has partitions.
    Ongoing = 1,
    /// It is committed; its group offsets are being written.
    PrepareCommit = 2,
    /// It is aborted, and its markers are being written: never so in a log of ours.
    PrepareAbort = 3,
    CompleteCommit = 4,
    CompleteAbort = 5,
    /// The id is being forgotten.
    Dead = 6,
    /// The producer is being fenced: never so in a log of ours.
    PrepareEpochFence = 7,
}

impl Status {
    pub(crate) const ALL: [Self; 8] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
        Self::Dead,
        Self::PrepareEpochFence,
    ];

    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
            Self::Dead => "Dead",
            Self::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub(crate) fn of(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|status| *status as i8 == number)
    }
}

/// Who a producer says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
}

/// An offset that counts once its transaction is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PendingOffset {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Arc<str>,
    pub(crate) topic_id: TopicId,
}

/// By topic and partition.
pub(crate) type GroupOffsets = BTreeMap<(Arc<str>, i32), PendingOffset>;

/// What is known of a transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Txn {
    pub(crate) producer_id: i64,
    /// The id before the epochs of that one were used up, or -1.
    pub(crate) previous_producer_id: i64,
    /// The id that follows once the transaction is over, or -1.
    pub(crate) next_producer_id: i64,
    pub(crate) epoch: i16,
    /// The epoch before an increase that its producer asked for, or -1. Not in the log: a retry
    /// over a restart is taken for another instance, as in Kafka.
    pub(crate) last_epoch: i16,
    pub(crate) timeout_ms: i32,
    pub(crate) status: Status,
    /// By topic.
    pub(crate) partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
    /// By group.
    pub(crate) offsets: BTreeMap<Arc<str>, GroupOffsets>,
    /// Since when it is ongoing, or -1.
    pub(crate) started_ms: i64,
    pub(crate) updated_ms: i64,
    /// 2 if its producer's epoch is raised by every end, 0 if not.
    pub(crate) client_version: i16,
}

impl Txn {
    pub(crate) fn contains(&self, topic: &str, partition: i32) -> bool {
        self.partitions.get(topic).is_some_and(|known| known.contains(&partition))
    }
}
