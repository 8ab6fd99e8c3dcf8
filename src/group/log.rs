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
    /// This broker does not lead the partition (any more).
    #[error("this broker does not lead partition {partition} of __consumer_offsets")]
    NotLeader {
        /// The partition.
        partition: i32,
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

    /// Hands every batch of the partition to `visit`, from its log start to the end it has when
    /// called, in order. Blocks on the disk; called on the pool for blocking work. Each slice
    /// holds whole batches.
    ///
    /// # Errors
    /// The partition cannot be read to its end. What was visited before is void.
    fn load(&self, partition: i32, visit: &mut dyn FnMut(Bytes)) -> Result<(), LoadError>;
}
