//! The index: one entry per data frame, per segment, per queue.
//!
//! Of the segment being written it is in memory ([`MemIndex`]), filled in the same step as the
//! frame; a sealed segment has it in a file beside it ([`file`]), mapped and searched in place.

pub(super) mod file;
mod mem;

pub(super) use file::MappedIndex;
pub(super) use mem::{MemIndex, Run};

use crate::store::width::narrow64;

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
    /// Store time, in steps after the index's base time; see [`TimeBase`].
    pub(super) store_delta: u32,
}

/// What the store times of an index's entries count from, and how finely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TimeBase {
    pub(super) base_ms: i64,
    /// A step is two to this power, in milliseconds: a sorted segment may hold years.
    pub(super) shift: u32,
}

impl TimeBase {
    /// A base and step for all times from `first_ms` to `last_ms`.
    pub(super) fn spanning(first_ms: i64, last_ms: i64) -> Self {
        let span = last_ms.abs_diff(first_ms);
        let shift = (u64::BITS - span.leading_zeros()).saturating_sub(u32::BITS - 1);
        Self { base_ms: first_ms, shift }
    }

    /// Whether the steps up to a time can be told.
    pub(super) fn reaches(self, time_ms: i64) -> bool {
        let after = u64::try_from(time_ms.saturating_sub(self.base_ms)).unwrap_or(0);
        after.div_ceil(1 << self.shift) <= u64::from(u32::MAX)
    }

    /// The steps up to a time, rounded up: nothing looks older than it is.
    pub(super) fn steps(self, time_ms: i64) -> u32 {
        let after = u64::try_from(time_ms.saturating_sub(self.base_ms)).unwrap_or(0);
        narrow64(after.div_ceil(1 << self.shift))
    }

    /// The time of an entry.
    pub(super) fn time_ms(self, steps: u32) -> i64 {
        let after = (u64::from(steps) << self.shift).cast_signed();
        self.base_ms.saturating_add(after)
    }
}

const _: () = assert!(size_of::<Entry>() == 32, "an entry costs 32 bytes in memory and on disk");

impl Entry {
    /// Offset behind its last record.
    pub(super) fn next(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.offsets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_span_are_kept_and_never_made_older() {
        const DAY_MS: i64 = 86_400_000;
        for (span, precision_ms) in
            [(0, 0), (DAY_MS, 0), (24 * DAY_MS, 0), (60 * DAY_MS, 4), (3650 * DAY_MS, 512)]
        {
            let base = TimeBase::spanning(1000, 1000 + span);
            for time_ms in [1000, 1001, 1000 + span / 3, 1000 + span] {
                let kept = base.time_ms(base.steps(time_ms));
                assert!((0..=precision_ms).contains(&(kept - time_ms)), "{span} {time_ms} {kept}");
            }
        }
        assert_eq!(TimeBase::spanning(5, 5).steps(3), 0, "earlier times count as the base");
    }
}
