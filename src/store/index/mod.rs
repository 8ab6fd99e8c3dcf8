//! The index: one entry per data frame, per segment, per queue.
//!
//! Of the segment being written it is in memory ([`MemIndex`]), filled in the same step as the
//! frame; a sealed segment has it in a file beside it ([`file`]), mapped and searched in place.

pub(super) mod file;
mod mem;

pub(super) use file::MappedIndex;
pub(super) use mem::{MemIndex, Run};

/// What the index knows of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) base_offset: i64,
    pub(super) max_timestamp: i64,
    /// Bytes from the segment's start to the frame.
    pub(super) at: u32,
    /// Bytes of the batch.
    pub(super) length: u32,
    /// How many offsets the batch takes.
    pub(super) offsets: u32,
    /// Store time, in milliseconds after the index's base time.
    pub(super) store_delta_ms: u32,
}

const _: () = assert!(size_of::<Entry>() == 32, "an entry costs 32 bytes in memory and on disk");

impl Entry {
    /// Offset behind its last record.
    pub(super) fn next(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.offsets))
    }
}
