//! Questions about a queue by time, by epoch and by age. All of them may touch index files: they
//! block, and belong on the reader pool.

use super::error::{DamageReason, LogStartError, ReadError};
use super::handle::LogHandle;
use super::index::Entry;
use super::page::{Extent, Walk};
use super::shared::Shared;
use crate::model::{LeaderEpoch, Offset, Position, QueueId};

/// A batch as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEntry {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset behind its last record.
    pub next_offset: Offset,
    /// Greatest timestamp of its records.
    pub max_timestamp: i64,
}

impl From<&Extent> for BatchEntry {
    fn from(extent: &Extent) -> Self {
        Self {
            base_offset: Offset(extent.base_offset),
            next_offset: Offset(extent.next),
            max_timestamp: extent.max_timestamp,
        }
    }
}

/// What a queue keeps. The oldest batches go, one by one, while either limit allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Age in milliseconds that a batch reaches; none for ever.
    ///
    /// A batch's age counts from its greatest timestamp, but at the latest from when it was
    /// stored: a timestamp from the future does not keep it, or those behind it, for ever.
    pub age_ms: Option<i64>,
    /// Bytes of batches that are kept at least, as far as there are any; none for all.
    pub size_bytes: Option<u64>,
}

impl LogHandle {
    /// The first batch with a record of this time or later. Blocks.
    ///
    /// # Errors
    /// The queue is unknown, or its index unreadable.
    pub fn entry_at_time(
        &self,
        queue: QueueId,
        timestamp: i64,
    ) -> Result<Option<BatchEntry>, ReadError> {
        let walk = Walk { min_timestamp: timestamp, ..Walk::ALL };
        let mut found = None;
        self.shared.each_entry(queue, walk, |extent| {
            let hit = extent.max_timestamp >= timestamp;
            if hit {
                found = Some(BatchEntry::from(extent));
            }
            !hit
        })?;
        Ok(found)
    }

    /// The first batch with the greatest timestamp of all. Blocks.
    ///
    /// # Errors
    /// The queue is unknown, or its index unreadable.
    pub fn max_timestamp_entry(&self, queue: QueueId) -> Result<Option<BatchEntry>, ReadError> {
        let mut best: Option<BatchEntry> = None;
        self.shared.each_entry(queue, Walk::ALL, |extent| {
            if best.is_none_or(|best| best.max_timestamp < extent.max_timestamp) {
                best = Some(BatchEntry::from(extent));
            }
            true
        })?;
        Ok(best)
    }

    /// The leader epochs of the shard and where each began.
    #[must_use]
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Position)> {
        let state = self.shared.state();
        state.epochs.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Position(*start))).collect()
    }

    /// The greatest epoch not above `epoch`, and the offset of a queue at which the next one
    /// began, or its next offset if none has. `None` for an epoch above the current one or below
    /// the first. Blocks.
    ///
    /// # Errors
    /// The queue is unknown, or its index unreadable.
    pub fn epoch_end(
        &self,
        queue: QueueId,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        let epochs = self.epochs();
        let above = epochs.partition_point(|(known, _)| *known <= epoch);
        let Some((found, _)) = above.checked_sub(1).and_then(|last| epochs.get(last)) else {
            return Ok(None);
        };
        match epochs.get(above) {
            Some((_, start)) => Ok(Some((*found, self.shared.offset_at(queue, start.0)?))),
            None if *found == epoch => Ok(Some((*found, self.offsets(queue)?.next))),
            None => Ok(None),
        }
    }

    /// Moves a queue's log start over what its retention lets go, and returns it. Blocks.
    ///
    /// # Errors
    /// The queue is unknown, its index unreadable, or the move cannot be logged.
    pub fn expire(
        &self,
        queue: QueueId,
        now_ms: i64,
        retention: Retention,
    ) -> Result<Offset, LogStartError> {
        let log_start = self.offsets(queue)?.log_start;
        let mut surplus = match retention.size_bytes {
            Some(kept) => self.shared.live_bytes(queue, kept)?.saturating_sub(kept),
            None => 0,
        };
        let mut start = log_start.0;
        self.shared.each_entry(queue, Walk::ALL, |extent| {
            let length = u64::from(extent.length);
            let too_old = retention.age_ms.is_some_and(|age_ms| {
                age_ms >= 0 && now_ms.saturating_sub(born_ms(extent)) > age_ms
            });
            if !too_old && surplus < length {
                return false;
            }
            surplus = surplus.saturating_sub(length);
            start = extent.next;
            true
        })?;
        if start > log_start.0 {
            self.set_log_start(queue, Offset(start))?;
        }
        Ok(Offset(start))
    }
}

/// When the age of a batch begins to count.
fn born_ms(extent: &Extent) -> i64 {
    if extent.max_timestamp < 0 {
        extent.store_time_ms
    } else {
        extent.max_timestamp.min(extent.store_time_ms)
    }
}

impl Shared {
    /// Calls `each` with the durable entries from the log start on until it returns false.
    fn each_entry(
        &self,
        queue: QueueId,
        walk: Walk,
        mut each: impl FnMut(&Extent) -> bool,
    ) -> Result<(), ReadError> {
        let known = |state: &super::state::State| state.queues.get(queue).map(|q| q.log_start);
        let mut from = known(&self.state()).ok_or(ReadError::UnknownQueue(queue))?;
        while let Some(page) = self.page(queue, from, walk)? {
            for extent in &page.extents {
                if !each(extent) {
                    return Ok(());
                }
                from = extent.next;
            }
        }
        Ok(())
    }

    /// Bytes of a queue's batches from its log start on; not looked at closely if they cannot
    /// exceed `enough`.
    fn live_bytes(&self, queue: QueueId, enough: u64) -> Result<u64, ReadError> {
        let (all, first_offset, log_start) = {
            let state = self.state();
            let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
            let all = known.places.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
            let first = known.places.first().map_or(known.next, |place| place.first_offset);
            (all, first, known.log_start)
        };
        if all <= enough {
            return Ok(all);
        }
        let mut gone = 0;
        let mut from = first_offset;
        let walk = Walk { up_to: log_start, ..Walk::ALL };
        while let Some(page) = self.page(queue, from, walk)? {
            for extent in &page.extents {
                gone += u64::from(extent.length);
                from = extent.next;
            }
        }
        Ok(all.saturating_sub(gone))
    }

    /// The first offset of a queue that lies at a position or behind it.
    fn offset_at(&self, queue: QueueId, position: u64) -> Result<Offset, ReadError> {
        let state = self.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let behind = known.places.partition_point(|place| place.segment <= position);
        let next = known.places.get(behind).map_or(known.next, |place| place.first_offset);
        let lowest = known.log_start;
        let Some(place) = behind.checked_sub(1).and_then(|last| known.places.get(last)) else {
            return Ok(Offset(next.max(lowest)));
        };
        let before = |entry: &Entry| place.segment + u64::from(entry.at) < position;
        if let Some(run) = state.mem_run(place) {
            let found = run.entries.get(run.entries.partition_point(before));
            return Ok(Offset(found.map_or(next, |entry| entry.base_offset).max(lowest)));
        }
        let segment =
            state.segments.get(&place.segment).map(|it| std::sync::Arc::clone(&it.reader));
        let place = *place;
        drop(state);
        let Some(reader) = segment else { return Ok(Offset(next.max(lowest))) };
        let damaged = |_| ReadError::Damaged(reader.damage(reader.first, DamageReason::Index));
        let run = match reader.index() {
            Some(index) => index.queue_run(queue).map_err(damaged)?.map(|run| (index, run)),
            None => None,
        };
        let Some((index, run)) = run else { return Ok(Offset(next.max(lowest))) };
        let mut cursor = index.cursor(run);
        let (mut low, mut high) = (0, run.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = cursor.get(middle).map_err(damaged)?;
            if place.segment + u64::from(entry.at) < position {
                low = middle + 1
            } else {
                high = middle
            }
        }
        let found =
            if low < run.entries { cursor.get(low).map_err(damaged)?.base_offset } else { next };
        Ok(Offset(found.max(lowest)))
    }
}
