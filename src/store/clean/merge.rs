//! Merging: segments with little that lives give it to a sorted one and go.
//!
//! Records below a log start and those of dropped queues are what has died. Which segments are
//! taken does not matter for correctness: a queue's records go place by place, wherever the places
//! before and behind are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frames::Frames;
use super::rewrite::{Rewrite, What};
use super::{CleanLimits, Cleaner, Halt};
use crate::model::QueueId;
use crate::store::error::{IoFailure, MaintainError};
use crate::store::page::{Walk, sealed_extents};
use crate::store::queue::Place;
use crate::store::segment::{Segment, SegmentReader};
use crate::store::shared::Shared;

/// How many queues are looked at under one hold of the lock.
const QUEUES_AT_ONCE: usize = 256;
/// Segments of the CommitLog that one merge may write, in sum.
const OUTPUT_SEGMENTS_MAX: u64 = 8;
/// A segment is merged when at most one part in so many of it lives.
const LIVING_PART: u64 = 2;
/// More small sorted segments than this are made one; small is a quarter of a CommitLog's.
const SMALL_SEGMENTS_MAX: usize = 8;

/// More segments at once are not merged.
const VICTIMS_MAX: usize = 256;

/// Segments to be merged, by first position.
type Victims = BTreeMap<u64, Arc<SegmentReader>>;

/// A queue's records in a segment to be merged.
#[derive(Debug)]
struct Source {
    queue: QueueId,
    place: Place,
    /// Lower offsets are gone.
    log_start: i64,
    /// What lies from here on is to be had elsewhere.
    until: i64,
}

impl Shared {
    /// Merges until nothing is worth it; how many segments.
    pub(super) fn merge_sparse(
        &self,
        cleaner: &mut Cleaner,
        limits: CleanLimits,
    ) -> Result<usize, MaintainError> {
        let mut merged = 0;
        loop {
            let victims = self.choose_victims(cleaner)?;
            if victims.is_empty() {
                return Ok(merged);
            }
            match self.merge(&victims, limits) {
                Ok(()) => merged += victims.len(),
                Err(Halt::Source { segment, error }) => {
                    tracing::error!(%error, "a segment cannot be merged, and keeps its space");
                    cleaner.spoiled.insert(segment);
                }
                Err(Halt::Maintain(error)) => return Err(error),
            }
            drop(victims);
            self.recycle()?;
        }
    }

    fn choose_victims(&self, cleaner: &Cleaner) -> Result<Victims, MaintainError> {
        let dir = &self.config.dir;
        let free = self.env.fs.free_bytes(dir).map_err(IoFailure::of("measure", dir))?;
        let segment_size_bytes = self.config.segment_size_bytes;
        let budget = (free / 2).min(OUTPUT_SEGMENTS_MAX * segment_size_bytes);
        let state = self.state();
        let candidates = || {
            let sealed = state.segments.values().chain(state.sorted.values());
            sealed.filter(|segment| {
                let is_old = segment.reader.is_sealed() && segment.live > 0;
                is_old && !cleaner.spoiled.contains(&segment.first)
            })
        };
        let is_sparse =
            |segment: &&Segment| segment.live_bytes * LIVING_PART <= segment.total_bytes;
        let mut sparse: Vec<&Segment> = candidates().filter(is_sparse).collect();
        sparse.sort_by_key(|segment| living_bytes(segment));
        let (mut left, mut gain, mut count) = (budget, 0, 0);
        sparse.retain(|segment| {
            let living = living_bytes(segment);
            let taken = living <= left && count < VICTIMS_MAX;
            if taken {
                count += 1;
                left -= living;
                gain += segment.size_bytes.saturating_sub(living);
            }
            taken
        });
        if gain * 2 < segment_size_bytes {
            sparse.clear();
            let small = |segment: &&Segment| {
                crate::store::sorted::is_sorted(segment.first)
                    && segment.size_bytes < segment_size_bytes / 4
            };
            let all: Vec<&Segment> = candidates().filter(small).take(VICTIMS_MAX).collect();
            let bytes: u64 = all.iter().map(|segment| segment.size_bytes).sum();
            if all.len() > SMALL_SEGMENTS_MAX && bytes <= free / 2 {
                sparse = all;
            }
        }
        let victim = |segment: &Segment| (segment.first, Arc::clone(&segment.reader));
        Ok(sparse.into_iter().map(victim).collect())
    }

    fn merge(&self, victims: &Victims, limits: CleanLimits) -> Result<(), Halt> {
        let mut frames = Frames::default();
        let mut rewrite = Rewrite::new(self, limits);
        for source in self.sources(victims) {
            let Some(reader) = victims.get(&source.place.segment) else { continue };
            rewrite.begin(source.queue, What::Place(source.place));
            if let Err(halt) = copy(&mut rewrite, &source, reader, &mut frames) {
                rewrite.abandon();
                return Err(halt);
            }
        }
        Ok(rewrite.switch()?)
    }

    /// What lives in the victims, by queue and offset.
    fn sources(&self, victims: &Victims) -> Vec<Source> {
        let mut sources = Vec::new();
        let mut slot = 0;
        loop {
            let state = self.state();
            let Some(window) = state.queues.window(slot, QUEUES_AT_ONCE) else { break };
            for queue in window {
                let here = queue.places.iter().enumerate();
                let here = here.filter(|(_, place)| victims.contains_key(&place.segment));
                sources.extend(here.map(|(number, place)| Source {
                    queue: queue.id,
                    place: *place,
                    log_start: queue.log_start,
                    until: queue.end_of_place(number),
                }));
            }
            slot += QUEUES_AT_ONCE;
        }
        sources.sort_by_key(|source| (source.queue, source.place.first_offset));
        sources
    }
}

/// Bytes of a segment that would have to be written again.
fn living_bytes(segment: &Segment) -> u64 {
    let part = u128::from(segment.size_bytes) * u128::from(segment.live_bytes)
        / u128::from(segment.total_bytes.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn copy(
    rewrite: &mut Rewrite<'_>,
    source: &Source,
    reader: &SegmentReader,
    frames: &mut Frames,
) -> Result<(), Halt> {
    let halt = |error| Halt::Source { segment: source.place.segment, error };
    let walk = Walk { up_to: source.until, ..Walk::ALL };
    let mut from = source.place.first_offset.max(source.log_start);
    loop {
        let extents = sealed_extents(reader, source.queue, from, walk).map_err(halt)?;
        let Some(last) = extents.last() else { return Ok(()) };
        from = last.next;
        for extent in &extents {
            let (header, parsed, batch) =
                frames.read(reader, source.queue, extent).map_err(halt)?;
            rewrite.put(&header, &batch, &parsed)?;
        }
    }
}
