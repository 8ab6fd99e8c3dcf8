//! The words of the domain. One word, one meaning; the glossary is in ARCHITECTURE.md.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A broker's number in the cluster (Kafka's `node.id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BrokerId(pub i32);

/// A topic's identity: unique per creation, so a topic made again under an old name differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub uuid::Uuid);

/// A partition as the store sees it. Numbers are handed out once and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub u32);

impl QueueId {
    /// Partitions of topics have numbers below; those from here on are for what the broker keeps
    /// for itself in the log.
    pub const PARTITIONS_END: Self = Self(0x4000_0000);
}

/// A shard's number: one replicated CommitLog with one leader at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u32);

/// Byte address in a shard's CommitLog. Only grows; never a record number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position `size_bytes` further on.
    #[must_use]
    pub fn plus(self, size_bytes: u64) -> Self {
        Self(self.0 + size_bytes)
    }
    /// Bytes from `start` up to this position; zero if `start` lies beyond it.
    #[must_use]
    pub fn bytes_since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

/// Record number in a queue: dense, 64-bit, never reused. Never a byte address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a queue.
    pub const ZERO: Self = Self(0);

    /// The offset `records` further on.
    #[must_use]
    pub fn plus(self, records: i64) -> Self {
        Self(self.0 + records)
    }
}

/// Leadership term of a shard (Kafka's leader epoch).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LeaderEpoch(pub i32);

/// A producer's identity for idempotence; `NONE` is Kafka's -1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// No producer id: the batch is not idempotent.
    pub const NONE: Self = Self(-1);
}

macro_rules! display_inner {
    ($($t:ident),+) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    )+};
}
display_inner!(BrokerId, TopicId, QueueId, ShardId, Position, Offset, LeaderEpoch, ProducerId);
