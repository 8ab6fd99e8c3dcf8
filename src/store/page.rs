//! Walks the index of one queue in pages, wherever the entries are: in memory under the lock for
//! a short moment, or in the mapped index of a sealed segment without it.

use std::sync::Arc;

use super::error::{DamageReason, ReadError};
use super::frame::{HEADER_BYTES, frame_bytes};
use super::index::{Entry, TimeBase};
use super::segment::SegmentReader;
use super::shared::Shared;
use super::state::State;
use crate::model::QueueId;

/// Most entries taken under one hold of the lock.
pub(super) const ENTRIES_AT_ONCE: usize = 1024;

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Position of its frame.
    pub(super) position: u64,
    /// Bytes of the batch.
    pub(super) length: u32,
    pub(super) base_offset: i64,
    /// Offset behind its last record.
    pub(super) next: i64,
    pub(super) max_timestamp: i64,
    pub(super) store_time_ms: i64,
}

impl Extent {
    pub(super) fn of(segment: u64, time_base: TimeBase, entry: &Entry) -> Self {
        Self {
            position: segment + u64::from(entry.at),
            length: entry.length,
            base_offset: entry.base_offset,
            next: entry.next(),
            max_timestamp: entry.max_timestamp,
            store_time_ms: time_base.time_ms(entry.store_delta),
        }
    }

    /// Position of its first byte.
    pub(super) fn payload_start(&self) -> u64 {
        self.position + HEADER_BYTES as u64
    }

    /// Position behind its last byte.
    pub(super) fn payload_end(&self) -> u64 {
        self.payload_start() + u64::from(self.length)
    }

    /// Position behind its frame.
    pub(super) fn end(&self) -> u64 {
        self.position + frame_bytes(self.length as usize)
    }
}

/// Some entries of one queue in one segment, in order, all durable.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) reader: Arc<SegmentReader>,
    /// Never empty.
    pub(super) extents: Vec<Extent>,
    /// Below this offset batches may be missing: compaction took them.
    pub(super) compacted_to: i64,
}

/// What a walk looks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    /// Entries that reach beyond this offset, or beyond the high watermark, are not seen.
    pub(super) up_to: i64,
    /// Segments whose records are all older may be passed over.
    pub(super) min_timestamp: i64,
}

impl Walk {
    pub(super) const ALL: Self = Self { up_to: i64::MAX, min_timestamp: i64::MIN };
}

enum Spot {
    Page(Page),
    Sealed { reader: Arc<SegmentReader>, from: i64, next_place: Option<i64>, compacted_to: i64 },
    Pass { next_place: Option<i64> },
}

impl Shared {
    /// The first page with entries that end behind `from`; `None` when there are no more.
    /// Blocks where the entries are in a file.
    pub(super) fn page(
        &self,
        queue: QueueId,
        mut from: i64,
        walk: Walk,
    ) -> Result<Option<Page>, ReadError> {
        loop {
            let next_place = match self.spot(queue, from, walk)? {
                None => return Ok(None),
                Some(Spot::Page(page)) => return Ok(Some(page)),
                Some(Spot::Pass { next_place }) => next_place,
                Some(Spot::Sealed { reader, from, next_place, compacted_to }) => {
                    // What lies behind the next place's first offset is to be had from there.
                    let up_to = walk.up_to.min(next_place.unwrap_or(i64::MAX));
                    let walk = Walk { up_to, ..walk };
                    let extents = sealed_extents(&reader, queue, from, walk)?;
                    if !extents.is_empty() {
                        return Ok(Some(Page { reader, extents, compacted_to }));
                    }
                    next_place
                }
            };
            match next_place {
                Some(first_offset) if first_offset > from => from = first_offset,
                Some(_) | None => return Ok(None),
            }
        }
    }

    fn spot(&self, queue: QueueId, from: i64, walk: Walk) -> Result<Option<Spot>, ReadError> {
        let durable = self.watermark.visible();
        let state = self.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let limit = state.high_watermark(known, durable).min(walk.up_to);
        let number = known.place_of(from);
        let Some(place) = known.places.get(number).filter(|_| from < limit) else {
            return Ok(None);
        };
        let next_place = known.places.get(number + 1).map(|next| next.first_offset);
        // A segment may hold what a place no longer stands for.
        let from = from.max(place.first_offset);
        let Some(segment) = state.segment(place.segment) else { return Ok(None) };
        let reader = Arc::clone(&segment.reader);
        let Some(run) = state.mem_run(place) else {
            let compacted_to = known.compacted_to;
            return Ok(Some(Spot::Sealed { reader, from, next_place, compacted_to }));
        };
        if run.max_timestamp < walk.min_timestamp {
            return Ok(Some(Spot::Pass { next_place }));
        }
        let time_base = time_base(&state, place.segment);
        let extents: Vec<Extent> = run
            .entries
            .iter()
            .skip(run.seek(from))
            .take_while(|entry| entry.next() <= limit)
            .take(ENTRIES_AT_ONCE)
            .map(|entry| Extent::of(place.segment, time_base, entry))
            .collect();
        if extents.is_empty() {
            return Ok(Some(Spot::Pass { next_place }));
        }
        let compacted_to = known.compacted_to;
        Ok(Some(Spot::Page(Page { reader, extents, compacted_to })))
    }
}

/// What the store times of a segment's entries count from.
pub(super) fn time_base(state: &State, segment: u64) -> TimeBase {
    let frozen = state.segments.get(&segment).and_then(|segment| segment.mem.as_ref());
    frozen.map_or_else(|| state.index.time_base(), |mem| mem.time_base())
}

/// Entries of a sealed segment that end behind `from`, in order, up to as many as a page takes.
pub(super) fn sealed_extents(
    reader: &SegmentReader,
    queue: QueueId,
    from: i64,
    walk: Walk,
) -> Result<Vec<Extent>, ReadError> {
    let damaged = |_| ReadError::Damaged(reader.damage(reader.first, DamageReason::Index));
    let Some(index) = reader.index() else { return Ok(Vec::new()) };
    let Some(run) = index.queue_run(queue).map_err(damaged)? else { return Ok(Vec::new()) };
    if run.max_timestamp < walk.min_timestamp {
        return Ok(Vec::new());
    }
    let mut cursor = index.cursor(run);
    let first = cursor.seek(from).map_err(damaged)?;
    let mut extents = Vec::new();
    for number in first..run.entries {
        let entry = cursor.get(number).map_err(damaged)?;
        if entry.next() > walk.up_to || extents.len() == ENTRIES_AT_ONCE {
            break;
        }
        extents.push(Extent::of(reader.first, index.time_base(), &entry));
    }
    Ok(extents)
}
