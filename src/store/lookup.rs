//! Questions about a queue by time, by epoch and by age. All of them may touch index files: they
//! block, and belong on the reader pool.

use std::sync::Arc;

use super::error::{DamageReason, LogStartError, ReadError};
use super::frame::{HEADER_BYTES, Header};
use super::handle::LogHandle;
use super::index::Entry;
use super::page::{Extent, Walk};
use super::queue::Place;
use super::segment::SegmentReader;
use super::shared::Shared;
use super::sorted;
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
            Some((_, start)) => {
                let first = self.shared.first_after(queue, found.0, start.0)?;
                Ok(Some((*found, first)))
            }
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

    /// The first offset of a queue that was appended after an epoch; the next one began at a
    /// position.
    fn first_after(&self, queue: QueueId, epoch: i32, start: u64) -> Result<Offset, ReadError> {
        let (places, next, log_start) = {
            let state = self.state();
            let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
            let reader = |place: &Place| {
                state.segment(place.segment).map(|segment| (*place, Arc::clone(&segment.reader)))
            };
            let places: Vec<_> = known.places.iter().filter_map(reader).collect();
            (places, known.next, known.log_start)
        };
        let mut first = next;
        for (place, reader) in places.iter().rev() {
            let boundary = if sorted::is_sorted(place.segment) {
                self.sorted_after(queue, place, first, epoch, reader)?
            } else {
                self.hot_after(queue, place, start, reader)?
            };
            match boundary {
                Boundary::Before => first = place.first_offset,
                Boundary::At(offset) => return Ok(Offset(offset.max(log_start))),
                Boundary::Behind => break,
            }
        }
        Ok(Offset(first.max(log_start)))
    }

    fn hot_after(
        &self,
        queue: QueueId,
        place: &Place,
        start: u64,
        reader: &SegmentReader,
    ) -> Result<Boundary, ReadError> {
        if place.segment >= start {
            return Ok(Boundary::Before);
        }
        let before = |entry: &Entry| place.segment + u64::from(entry.at) < start;
        if let Some(run) = self.state().mem_run(place) {
            let first = run.seek(place.first_offset);
            let entries = run.entries.get(first..).unwrap_or_default();
            let found = entries.partition_point(before);
            return Ok(Boundary::of(found, entries.get(found)));
        }
        search(queue, place, i64::MAX, reader, |entry| Ok(before(entry)))
    }

    /// Frames in a sorted segment have left their positions, and say their epoch.
    fn sorted_after(
        &self,
        queue: QueueId,
        place: &Place,
        until: i64,
        epoch: i32,
        reader: &Arc<SegmentReader>,
    ) -> Result<Boundary, ReadError> {
        search(queue, place, until, reader, |entry| {
            let at = place.segment + u64::from(entry.at);
            let header = Header::parse(&reader.read(at..at + HEADER_BYTES as u64)?);
            let header = header.ok_or_else(|| reader.damage(at, DamageReason::Header))?;
            Ok(header.epoch <= epoch)
        })
    }
}

/// Where something begins, seen from a place of a queue.
enum Boundary {
    /// With the place's first offset or before.
    Before,
    /// At this offset of the place.
    At(i64),
    /// Behind the place.
    Behind,
}

impl Boundary {
    fn of(number: usize, entry: Option<&Entry>) -> Self {
        match entry {
            Some(_) if number == 0 => Self::Before,
            Some(entry) => Self::At(entry.base_offset),
            None => Self::Behind,
        }
    }
}

/// Finds the first entry of a place in a sealed segment, below `until`, that is not `before`.
fn search(
    queue: QueueId,
    place: &Place,
    until: i64,
    reader: &SegmentReader,
    before: impl Fn(&Entry) -> Result<bool, ReadError>,
) -> Result<Boundary, ReadError> {
    let damaged = |_| ReadError::Damaged(reader.damage(reader.first, DamageReason::Index));
    let Some(index) = reader.index() else { return Ok(Boundary::Behind) };
    let Some(run) = index.queue_run(queue).map_err(damaged)? else { return Ok(Boundary::Behind) };
    let mut cursor = index.cursor(run);
    let first = cursor.seek(place.first_offset).map_err(damaged)?;
    let end = if until == i64::MAX { run.entries } else { cursor.seek(until).map_err(damaged)? };
    let (mut low, mut high) = (first, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(&cursor.get(middle).map_err(damaged)?)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let found = if low < end { Some(cursor.get(low).map_err(damaged)?) } else { None };
    Ok(Boundary::of((low - first) as usize, found.as_ref()))
}
