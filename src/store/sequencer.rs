//! The one upward call of the store, by inversion: whoever owns producer state decides, where
//! the single order of the log is made, whether a batch may be appended.

use std::ops::Range;

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

    /// Where readers of committed records of a queue stop, if everything below `durable` is.
    fn last_stable(&mut self, queue: QueueId, durable: Offset) -> Offset {
        let _ = queue;
        durable
    }

    /// The void transactions that have records in a range of a queue, by where they begin.
    fn aborted(&self, queue: QueueId, range: Range<Offset>) -> Vec<AbortedTransaction> {
        let _ = (queue, range);
        Vec::new()
    }

    /// A queue's records below `log_start` are gone.
    fn trim(&mut self, queue: QueueId, log_start: Offset) {
        let _ = (queue, log_start);
    }

    /// Nothing is left of the void transactions of a queue that these markers ended.
    fn cleaned(&mut self, queue: QueueId, markers: &[Offset]) {
        let _ = (queue, markers);
    }

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
    /// Sequence of the last record it appended; -1 if none is known of its epoch.
    pub last_sequence: i32,
    /// Wall time of its last append or marker; -1 if only its transaction is known.
    pub last_store_time_ms: i64,
    /// Epoch of the coordinator that ended its last transaction; -1 if there was none.
    pub coordinator_epoch: i32,
    /// First record of its open transaction.
    pub open_from: Option<Offset>,
}

/// A transaction whose records are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its marker.
    pub end: Offset,
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
    /// Its producer has a transaction open, which the batch is no part of.
    #[error("the producer's transaction is open, and the batch is no part of it")]
    OutsideTransaction,
    /// It was stored in a transaction of its producer that is over: it cannot be part of the one
    /// that is under way.
    #[error("sequence {got} was stored in a transaction that is over; abort and start anew")]
    EndedTransaction {
        /// First sequence of the batch.
        got: i32,
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
