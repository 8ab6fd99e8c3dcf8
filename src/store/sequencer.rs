//! The one upward call of the store, by inversion: whoever owns producer state decides, where
//! the single order of the log is made, whether a batch may be appended.

use braid_protocol::records::BatchHeader;

use crate::model::{Offset, ProducerId, QueueId};

/// Decides at the point of order. Every method runs under the shard's lock: it is total, fast
/// and performs no I/O. What `judge` lets pass and is recorded is appended; nothing can fail in
/// between.
pub trait Sequencer: Send {
    /// Whether the batch may be appended to a queue. Records nothing.
    ///
    /// # Errors
    /// The batch's producer may not append it.
    fn judge(
        &mut self,
        queue: QueueId,
        batch: &BatchHeader,
        now_ms: i64,
    ) -> Result<Sequenced, SequenceRejected>;

    /// Records a batch that was judged to be new and is appended at `base`, exactly as `replay`
    /// would.
    fn record(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, now_ms: i64);

    /// Records a stored batch during recovery. Gaps are possible where the log was damaged, and
    /// the restored snapshot may hold it already.
    fn replay(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, store_time_ms: i64);

    /// Drops what is known of a queue.
    fn forget(&mut self, queue: QueueId);

    /// The producers that are known to have appended to a queue, by id.
    fn producers(&self, queue: QueueId) -> Vec<ActiveProducer>;

    /// Appends a part of everything known to `out`, for a checkpoint: the first, or that behind
    /// `after`. `None` with the last. Between parts the lock is free, and more may be recorded;
    /// whatever was recorded since the first is replayed on top of what is restored.
    fn snapshot(&self, after: Option<SnapshotMark>, out: &mut Vec<u8>) -> Option<SnapshotMark>;

    /// Replaces everything known by a snapshot, the parts one behind the other.
    ///
    /// # Errors
    /// The bytes are no snapshot of this version.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;
}

/// Where a part of a snapshot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last queue in it.
    pub queue: QueueId,
    /// The last producer of that queue.
    pub producer: ProducerId,
}

/// A producer that appended to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Who it is.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: i16,
    /// Sequence of the last record it appended.
    pub last_sequence: i32,
    /// Wall time of that append.
    pub last_store_time_ms: i64,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sequenced {
    /// It is new.
    Append,
    /// It is stored already.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset of its last record.
        last_offset: Offset,
    },
}

/// Why a batch may not be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SequenceRejected {
    /// Its sequence does not follow its producer's last one.
    #[error("sequence {got} does not follow {last}")]
    OutOfOrder {
        /// Last sequence stored.
        last: i32,
        /// First sequence of the batch.
        got: i32,
    },
    /// It was stored so long ago that its offset is no longer known.
    #[error("sequence {got} was stored before what is remembered")]
    DuplicateForgotten {
        /// First sequence of the batch.
        got: i32,
    },
    /// A newer instance of its producer has appended.
    #[error("producer epoch {got} is older than {current}")]
    ProducerFenced {
        /// Newest epoch seen.
        current: i16,
        /// Epoch of the batch.
        got: i16,
    },
    /// Its producer is unknown here and the sequence is not a first one.
    #[error("nothing is known of the producer")]
    UnknownProducer,
}

/// A snapshot that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sequencer's snapshot is unreadable at byte {at}")]
pub struct RestoreError {
    /// Where reading stopped making sense.
    pub at: usize,
}
