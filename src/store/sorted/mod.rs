//! Sorted segments: records taken out of other segments, by queue and then by offset, in files
//! of their own that are written once.
//!
//! A sorted segment holds frames as the CommitLog does and, behind them, an index as a sealed
//! segment has beside it; so everything that reads a sealed segment reads this one. Its frames
//! have addresses of their own, above all positions of the CommitLog: the number of the file and
//! the place in it. Which of them counts for a queue the checkpoint says. docs/formats.md has the
//! bytes, docs/adr/0009 the reasons.

mod file;
mod write;

pub(super) use file::{Seen, frames_and_index, open, walk};
pub(super) use write::SortedWriter;

/// Set in the addresses of sorted segments; the CommitLog never reaches it.
const SORTED: u64 = 1 << 63;
/// A file is smaller than this.
const NUMBER_SHIFT: u32 = 32;

/// The address of the first byte of a sorted segment.
pub(super) fn first_of(number: u64) -> u64 {
    debug_assert!(number < SORTED >> NUMBER_SHIFT, "there are two thousand million numbers");
    SORTED | number << NUMBER_SHIFT
}

/// Whether an address is one of a sorted segment.
pub(super) fn is_sorted(address: u64) -> bool {
    address & SORTED != 0
}

/// The number of the sorted segment that an address is in.
pub(super) fn number_of(address: u64) -> u64 {
    (address & !SORTED) >> NUMBER_SHIFT
}
