//! Settings of a store. The defaults are those of a broker; tests shrink them so that every
//! boundary is crossed in every run.

use std::path::PathBuf;

use crate::env::fs::DIRECT_ALIGN_BYTES;

/// Unit of a direct write: a device block as the store sees it.
pub(super) const BLOCK_BYTES: u64 = DIRECT_ALIGN_BYTES as u64;

/// What to do about damage in that part of the log whose frames no index names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Serve what is whole and refuse appends: offsets that were handed out in the damaged range
    /// are unknown and must not be given to other records.
    RefuseAppends,
    /// The operator gives up the damaged range: appends go on behind it.
    AcceptLoss,
}

/// Settings of one shard's store.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Directory of this shard alone; created when missing.
    pub dir: PathBuf,
    /// The cluster this directory belongs to; another one's is refused.
    pub cluster_id: uuid::Uuid,
    /// Bytes of one segment file; a multiple of 4096, at most 2 GiB. Bounds the largest batch,
    /// and the bytes that a recovery scans.
    pub segment_size_bytes: u64,
    /// Bytes of one chunk of the ring; a multiple of 4096.
    pub chunk_size_bytes: usize,
    /// Bytes of recent log that stay in memory. Grows beyond only with bytes not yet durable.
    pub ring_size_bytes: usize,
    /// Most bytes of one synced write.
    pub group_size_bytes_max: u64,
    /// Bytes appended and not durable beyond which [`super::LogHandle::room`] waits.
    pub unsynced_size_bytes_max: u64,
    /// Space that allocating a segment leaves free on the file system, for checkpoints, indexes
    /// and everything else that shares the disk.
    pub reserve_bytes: u64,
    /// Emptied segments that are kept for reuse; more are given back to the file system.
    pub spare_segments_max: usize,
    /// Bytes that a small synced write into fresh blocks is extended to with zeros, so that the
    /// writes behind it overwrite written blocks and need no journal commit. 0 turns it off.
    pub zero_ahead_bytes: u64,
    /// Quiet time after which the durable watermark is recorded in the log, so that damage to
    /// what was written last is not taken for a torn write. Milliseconds.
    pub mark_after_ms: u64,
    /// Batches below this size are copied together when read, larger ones leave as slices of
    /// memory. Measured: one system call for many pieces of 1 KiB costs ten times their copy.
    pub gather_below_bytes: usize,
    /// Of which shard's log this is one replica; none for the log of one broker alone. A replica takes
    /// frames of a leader, or leads: see [`super::LogHandle::receive`].
    pub replica_of: Option<uuid::Uuid>,
    /// What to do about damage that may hide handed-out offsets.
    pub on_damage: OnDamage,
    /// Whether somebody knows of records that are to be here: then a directory without a log is
    /// refused, where otherwise a new log begins.
    pub expects_log: bool,
}

impl StoreConfig {
    /// The defaults for a directory of a cluster.
    #[must_use]
    pub fn new(dir: PathBuf, cluster_id: uuid::Uuid) -> Self {
        Self {
            dir,
            cluster_id,
            segment_size_bytes: 128 << 20,
            chunk_size_bytes: 1 << 20,
            ring_size_bytes: 32 << 20,
            group_size_bytes_max: 4 << 20,
            unsynced_size_bytes_max: 16 << 20,
            reserve_bytes: 64 << 20,
            spare_segments_max: 2,
            zero_ahead_bytes: 128 << 10,
            mark_after_ms: 1000,
            gather_below_bytes: 16 << 10,
            replica_of: None,
            on_damage: OnDamage::RefuseAppends,
            expects_log: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let blocks = |n: u64| n > 0 && n.is_multiple_of(BLOCK_BYTES);
        let segment = self.segment_size_bytes;
        if !blocks(segment) || segment > 2 << 30 {
            return Err(ConfigError::SegmentSize(segment));
        }
        if !blocks(self.chunk_size_bytes as u64) {
            return Err(ConfigError::ChunkSize(self.chunk_size_bytes));
        }
        if !blocks(self.group_size_bytes_max) {
            return Err(ConfigError::GroupSize(self.group_size_bytes_max));
        }
        if !self.zero_ahead_bytes.is_multiple_of(BLOCK_BYTES) || self.zero_ahead_bytes > 16 << 20 {
            return Err(ConfigError::ZeroAhead(self.zero_ahead_bytes));
        }
        Ok(())
    }
}

/// A setting the store cannot work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a multiple of 4096 from 4096 to 2 GiB.
    #[error("segment size {0} is not a multiple of 4096 up to 2 GiB")]
    SegmentSize(u64),
    /// Not a multiple of 4096.
    #[error("chunk size {0} is not a multiple of 4096")]
    ChunkSize(usize),
    /// Not a multiple of 4096.
    #[error("group size {0} is not a multiple of 4096")]
    GroupSize(u64),
    /// Not a multiple of 4096 up to 16 MiB.
    #[error("zero-ahead size {0} is not a multiple of 4096 up to 16 MiB")]
    ZeroAhead(u64),
}
