//! What the coordinator needs of the partitions of `__consumer_offsets`; `partition` implements it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use super::error::GroupLogError;

/// Resolves when the batch is durable (acknowledged as `acks=all` would be), or never will be.
pub type PendingWrite = Pin<Box<dyn Future<Output = Result<(), GroupLogError>> + Send>>;

/// Why a partition's groups could not be read back.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The partition could not be read.
    #[error("cannot read partition {partition} of __consumer_offsets")]
    Read {
        /// The partition.
        partition: i32,
        /// What the log said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log has records behind this offset, and does not give them.
    #[error("partition {partition} of __consumer_offsets cannot be read beyond offset {offset}")]
    NoProgress {
        /// The partition.
        partition: i32,
        /// The offset of the next record.
        offset: i64,
    },
}

/// The log under the coordinator: the partitions of `__consumer_offsets` that this broker leads.
pub trait GroupLog: Send + Sync + 'static {
    /// Appends one record batch (magic 2) to a partition. Never blocks. When it returns, the order
    /// among this partition's batches is fixed; the returned future tells when it is durable.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append(&self, partition: i32, batch: Bytes) -> Result<PendingWrite, GroupLogError>;

    /// The offset that the next record of the partition gets; `None` if this log is kept whole.
    fn next_offset(&self, partition: i32) -> Option<i64> {
        let _ = partition;
        None
    }

    /// No record of the partition before `offset` is needed any more: the log may start there.
    fn release(&self, partition: i32, offset: i64) {
        let _ = (partition, offset);
    }

    /// Hands every batch of the partition to `visit`, from its log start to the end it has when
    /// called, in order. Blocks on the disk; called on the pool for blocking work. Each slice
    /// holds whole batches.
    ///
    /// # Errors
    /// The partition cannot be read to its end. What was visited before is void.
    fn load(&self, partition: i32, visit: &mut dyn FnMut(Bytes)) -> Result<(), LoadError>;
}
