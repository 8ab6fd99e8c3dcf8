//! Reading batches of a queue: whole batches, as few slices as pay off.
//!
//! `locate` looks at memory alone. What is still in the ring is *hot* and can be had at once; the
//! rest is *cold* and must be loaded on the reader pool, where it is read, or faulted in, and every
//! frame is checked before it is served. Small batches are gathered by copy, larger ones leave as
//! slices of the ring or of the map, which keep their memory alive. Nothing at or above the high
//! watermark is ever returned.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::chunk::Chunk;
use super::error::{DamageReason, ReadError};
use super::frame::{HEADER_BYTES, Header, Kind};
use super::handle::{LogHandle, Offsets};
use super::page::{ENTRIES_AT_ONCE, Extent, Page, Walk, time_base};
use super::segment::SegmentReader;
use super::sequencer::AbortedTransaction;
use super::shared::Shared;
use super::state::State;
use super::width::index;
use crate::model::{Offset, QueueId};

/// Most bytes read from a file at once, and the most of them that may be of no use in between.
const SPAN_BYTES_MAX: u64 = 1 << 20;
const SPAN_GAP_BYTES_MAX: u64 = 16 << 10;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpec {
    /// The batch that holds this offset comes first.
    pub from: Offset,
    /// Batches that reach beyond this offset are left out, as are those beyond the high watermark.
    pub up_to: Option<Offset>,
    /// Most bytes.
    pub size_bytes_max: usize,
    /// Whether the first batch comes even if it is larger.
    pub at_least_one: bool,
}

/// Whole batches in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batches {
    /// The bytes; batches may span slices and slices may hold several batches.
    pub slices: Vec<Bytes>,
    /// Bytes in all.
    pub size_bytes: usize,
    /// Offset behind the last record; `None` without batches.
    pub next_offset: Option<Offset>,
}

/// Batches that are found and not read yet.
#[derive(Debug)]
#[must_use = "nothing is read before it is loaded"]
pub struct Located {
    offsets: Offsets,
    stable: Stable,
    place: PlaceOf,
}

/// What transactions make of a queue.
#[derive(Debug)]
struct Stable {
    last_stable: Offset,
    void: Vec<AbortedTransaction>,
}

#[derive(Debug)]
enum PlaceOf {
    Nothing,
    Ring { extents: Vec<Extent>, chunks: Vec<Arc<Chunk>>, gather_below_bytes: usize },
    Disk { shared: Arc<Shared>, queue: QueueId, spec: ReadSpec },
}

impl LogHandle {
    /// Finds batches without touching a file.
    ///
    /// # Errors
    /// The queue is unknown, the offset outside it, or its frame lost.
    pub fn locate(&self, queue: QueueId, spec: ReadSpec) -> Result<Located, ReadError> {
        self.located(queue, spec, false)
    }

    /// As [`LogHandle::locate`], none of them beyond the last stable offset of that moment, and which
    /// transactions are void up to there.
    ///
    /// # Errors
    /// As [`LogHandle::locate`].
    pub fn locate_committed(&self, queue: QueueId, spec: ReadSpec) -> Result<Located, ReadError> {
        self.located(queue, spec, true)
    }

    fn located(
        &self,
        queue: QueueId,
        mut spec: ReadSpec,
        committed: bool,
    ) -> Result<Located, ReadError> {
        let shared = &self.shared;
        let mut hot = Hot { extents: Vec::new(), chunks: Vec::new(), size_bytes: 0 };
        let mut from = spec.from.0;
        let mut known = None;
        loop {
            let mut state = shared.state();
            let stable = match known.take() {
                Some(stable) => stable,
                None => shared.stable(&mut state, queue, spec.from, committed)?,
            };
            if committed {
                let last_stable = stable.last_stable;
                spec.up_to = Some(spec.up_to.map_or(last_stable, |up_to| up_to.min(last_stable)));
            }
            let (offsets, step) = shared.locate_step(&state, queue, from, spec, &mut hot)?;
            drop(state);
            let place = match step {
                Step::Again { next } => {
                    from = next;
                    known = Some(stable);
                    continue;
                }
                Step::Cold => PlaceOf::Disk { shared: Arc::clone(shared), queue, spec },
                Step::Done if hot.extents.is_empty() => PlaceOf::Nothing,
                Step::Done => PlaceOf::Ring {
                    extents: hot.extents,
                    chunks: hot.chunks,
                    gather_below_bytes: shared.config.gather_below_bytes,
                },
            };
            return Ok(Located { offsets, stable, place });
        }
    }
}

struct Hot {
    extents: Vec<Extent>,
    chunks: Vec<Arc<Chunk>>,
    size_bytes: usize,
}

enum Step {
    /// There may be more; the lock was held long enough.
    Again {
        next: i64,
    },
    /// The first batch is not in the ring.
    Cold,
    Done,
}

impl Shared {
    /// Where readers of committed records stop now, and for them what is void up to there. Asked for
    /// under the lock that finds the records: what is void is forgotten when its records go.
    fn stable(
        &self,
        state: &mut State,
        queue: QueueId,
        from: Offset,
        committed: bool,
    ) -> Result<Stable, ReadError> {
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let high_watermark = Offset(state.high_watermark(known, self.watermark.visible()));
        let log_start = Offset(known.log_start);
        // Retention goes by records, whatever transaction they are of.
        let last_stable = state.sequencer.last_stable(queue, high_watermark).max(log_start);
        let void = match committed {
            true => state.sequencer.aborted(queue, from..last_stable),
            false => Vec::new(),
        };
        Ok(Stable { last_stable, void })
    }

    fn locate_step(
        &self,
        state: &State,
        queue: QueueId,
        from: i64,
        spec: ReadSpec,
        hot: &mut Hot,
    ) -> Result<(Offsets, Step), ReadError> {
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let high_watermark = state.high_watermark(known, self.watermark.visible());
        let offsets = Offsets {
            log_start: Offset(known.log_start),
            high_watermark: Offset(high_watermark),
            next: Offset(known.next),
        };
        if from < known.log_start || from > high_watermark {
            if !hot.extents.is_empty() {
                return Ok((offsets, Step::Done));
            }
            let asked = Offset(from);
            let (log_start, high_watermark) = (offsets.log_start, offsets.high_watermark);
            return Err(ReadError::OutOfRange { asked, log_start, high_watermark });
        }
        let limit = high_watermark.min(spec.up_to.map_or(i64::MAX, |up_to| up_to.0));
        let number = known.place_of(from);
        let Some(place) = known.places.get(number).filter(|_| from < limit) else {
            return Ok((offsets, Step::Done));
        };
        let hot_from = state.ring.start().unwrap_or(u64::MAX).max(state.opened_at);
        let Some(run) = state.mem_run(place) else {
            return Ok((offsets, if hot.extents.is_empty() { Step::Cold } else { Step::Done }));
        };
        let time_base = time_base(state, place.segment);
        // A segment may hold what a place no longer stands for.
        let first = run.seek(from.max(place.first_offset));
        let (mut taken, mut expected) = (0, from.max(known.compacted_to));
        for entry in run.entries.iter().skip(first).take(ENTRIES_AT_ONCE) {
            let extent = Extent::of(place.segment, time_base, entry);
            if extent.next > limit {
                return Ok((offsets, Step::Done));
            }
            // Only frames that this run appended are in the ring as they were appended.
            let is_lost = extent.base_offset > expected;
            if hot.extents.is_empty() && (extent.position < hot_from || is_lost) {
                return Ok((offsets, Step::Cold));
            }
            if is_lost {
                return Ok((offsets, Step::Done));
            }
            expected = extent.next;
            if !spec.takes(hot.size_bytes, extent.length) {
                return Ok((offsets, Step::Done));
            }
            for chunk in state.ring.chunks_in(extent.position..extent.end()) {
                if hot.chunks.last().is_none_or(|last| !Arc::ptr_eq(last, chunk)) {
                    hot.chunks.push(Arc::clone(chunk));
                }
            }
            hot.size_bytes += extent.length as usize;
            hot.extents.push(extent);
            taken += 1;
        }
        let next_place = known.places.get(number + 1).map(|next| next.first_offset);
        let next = match hot.extents.last() {
            Some(last) if taken > 0 => last.next,
            // Nothing here ends behind `from`: what held it may be lost, which a read finds out.
            Some(_) | None => match next_place {
                Some(_) if hot.extents.is_empty() => return Ok((offsets, Step::Cold)),
                Some(_) | None => return Ok((offsets, Step::Done)),
            },
        };
        Ok((offsets, Step::Again { next }))
    }

    fn read_cold(&self, queue: QueueId, spec: ReadSpec) -> Result<Batches, ReadError> {
        let mut gather = Gather::new(self.config.gather_below_bytes);
        match self.read_pages(queue, spec, &mut gather) {
            Ok(()) => Ok(gather.finish()),
            // What is whole before the damage is served; the next read meets it first.
            Err(_) if gather.size_bytes > 0 => Ok(gather.finish()),
            Err(error) => Err(self.out_of_range(queue, spec.from)?.unwrap_or(error)),
        }
    }

    fn read_pages(
        &self,
        queue: QueueId,
        spec: ReadSpec,
        gather: &mut Gather,
    ) -> Result<(), ReadError> {
        let up_to = spec.up_to.map_or(i64::MAX, |up_to| up_to.0);
        let walk = Walk { up_to, min_timestamp: i64::MIN };
        let mut from = spec.from.0;
        while let Some(page) = self.page(queue, from, walk)? {
            match read_page(&page, queue, from, spec, gather)? {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(())
    }

    /// What to say when the log start has passed an offset since it was located.
    fn out_of_range(&self, queue: QueueId, asked: Offset) -> Result<Option<ReadError>, ReadError> {
        let durable = self.watermark.visible();
        let state = self.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let log_start = Offset(known.log_start);
        let high_watermark = Offset(state.high_watermark(known, durable));
        let gone = asked < log_start;
        Ok(gone.then_some(ReadError::OutOfRange { asked, log_start, high_watermark }))
    }
}

/// Reads what fits of a page; where to go on, if anything more may fit.
fn read_page(
    page: &Page,
    queue: QueueId,
    mut from: i64,
    spec: ReadSpec,
    gather: &mut Gather,
) -> Result<Option<i64>, ReadError> {
    let mut taken = 0;
    let mut size_bytes = gather.size_bytes;
    let mut dense = true;
    for extent in &page.extents {
        dense = extent.base_offset <= from.max(page.compacted_to);
        if !dense || !spec.takes(size_bytes, extent.length) {
            break;
        }
        size_bytes += extent.length as usize;
        from = extent.next;
        taken += 1;
    }
    let (fitting, rest) = page.extents.split_at(taken);
    let coming = spans(fitting, false)
        .filter_map(|span| Some(span.first()?.position..span.last()?.payload_end()));
    page.reader.prefetch(coming)?;
    for span in spans(fitting, page.reader.is_sealed()) {
        read_span(&page.reader, queue, span, gather)?;
    }
    match rest.first() {
        None => Ok(Some(from)),
        Some(lost) if !dense && gather.size_bytes == 0 => {
            Err(page.reader.damage(lost.position, DamageReason::Lost).into())
        }
        Some(_) => Ok(None),
    }
}

/// Extents that are read together.
fn spans(extents: &[Extent], sealed: bool) -> impl Iterator<Item = &[Extent]> {
    let mut start = extents.first().map_or(0, |first| first.position);
    extents.chunk_by(move |before, extent| {
        // A slice of a map costs nothing, whatever lies in between.
        let together = sealed
            || extent.position - before.end() <= SPAN_GAP_BYTES_MAX
                && extent.end() - start <= SPAN_BYTES_MAX;
        if !together {
            start = extent.position;
        }
        together
    })
}

fn read_span(
    reader: &Arc<SegmentReader>,
    queue: QueueId,
    span: &[Extent],
    gather: &mut Gather,
) -> Result<(), ReadError> {
    let (Some(first), Some(last)) = (span.first(), span.last()) else { return Ok(()) };
    let start = first.position;
    let bytes = reader.read(start..last.payload_end())?;
    for extent in span {
        let frame = index(extent.position - start)..index(extent.payload_end() - start);
        check(&bytes[frame.clone()], queue, extent)
            .map_err(|reason| reader.damage(extent.position, reason))?;
        gather.take(&bytes, frame.start + HEADER_BYTES..frame.end, extent.next);
    }
    Ok(())
}

/// The header of stored bytes, if they are the frame that the index names.
pub(super) fn check(frame: &[u8], queue: QueueId, extent: &Extent) -> Result<Header, DamageReason> {
    let header = Header::parse(frame).ok_or(DamageReason::Header)?;
    let is_named = header.kind == Kind::Data
        && header.queue == queue
        && header.position == extent.position
        && header.base_offset == extent.base_offset
        && header.length == extent.length;
    if !is_named {
        return Err(DamageReason::OtherFrame);
    }
    if header.body_matches(&frame[HEADER_BYTES..]) { Ok(header) } else { Err(DamageReason::Body) }
}

impl ReadSpec {
    /// Whether a batch of `length` bytes still fits behind `size_bytes`.
    fn takes(&self, size_bytes: usize, length: u32) -> bool {
        let fits = size_bytes.saturating_add(length as usize) <= self.size_bytes_max;
        fits || self.at_least_one && size_bytes == 0
    }
}

impl Located {
    /// Where the queue began and ended when this was located.
    #[must_use]
    pub fn offsets(&self) -> Offsets {
        self.offsets
    }

    /// Where readers of committed records of the queue stopped when this was located.
    #[must_use]
    pub fn last_stable(&self) -> Offset {
        self.stable.last_stable
    }

    /// The void transactions that have records from where the read begins to there, by where they
    /// begin; none where all records were asked for.
    #[must_use]
    pub fn take_void(&mut self) -> Vec<AbortedTransaction> {
        std::mem::take(&mut self.stable.void)
    }

    /// Whether loading touches no file.
    #[must_use]
    pub fn is_hot(&self) -> bool {
        match self.place {
            PlaceOf::Nothing | PlaceOf::Ring { .. } => true,
            PlaceOf::Disk { .. } => false,
        }
    }

    /// Bytes of the batches, if that is known without reading an index file.
    #[must_use]
    pub fn size_bytes(&self) -> Option<usize> {
        match &self.place {
            PlaceOf::Nothing => Some(0),
            PlaceOf::Ring { extents, .. } => {
                Some(extents.iter().map(|extent| extent.length as usize).sum())
            }
            PlaceOf::Disk { .. } => None,
        }
    }

    /// The batches, if all of them are in memory.
    ///
    /// # Errors
    /// Gives `self` back when they have to be loaded from disk.
    pub fn load_hot(self) -> Result<Batches, Self> {
        match self.place {
            PlaceOf::Nothing => Ok(Batches::default()),
            PlaceOf::Ring { extents, chunks, gather_below_bytes } => {
                Ok(from_ring(&extents, &chunks, gather_below_bytes))
            }
            PlaceOf::Disk { .. } => Err(self),
        }
    }

    /// The batches. Blocks when they are on disk: call it on the reader pool.
    ///
    /// # Errors
    /// The disk failed or the bytes are damaged; whole batches before the damage come first.
    pub fn load(self) -> Result<Batches, ReadError> {
        match self.place {
            PlaceOf::Nothing => Ok(Batches::default()),
            PlaceOf::Ring { extents, chunks, gather_below_bytes } => {
                Ok(from_ring(&extents, &chunks, gather_below_bytes))
            }
            PlaceOf::Disk { shared, queue, spec } => shared.read_cold(queue, spec),
        }
    }
}

fn from_ring(extents: &[Extent], chunks: &[Arc<Chunk>], gather_below_bytes: usize) -> Batches {
    let mut gather = Gather::new(gather_below_bytes);
    for extent in extents {
        let is_small = (extent.length as usize) < gather_below_bytes;
        let range = extent.payload_start()..extent.payload_end();
        let first = chunks.partition_point(|chunk| chunk.end() <= range.start);
        for chunk in chunks.iter().skip(first).take_while(|chunk| chunk.base() < range.end) {
            let start = range.start.max(chunk.base()) - chunk.base();
            let end = range.end.min(chunk.end()) - chunk.base();
            let within = index(start)..index(end);
            if is_small {
                gather.copy(chunk.get(within));
            } else {
                gather.slice(chunk.bytes(within));
            }
        }
        gather.next_offset = Some(Offset(extent.next));
    }
    gather.finish()
}

/// Collects batches: small ones by copy, large ones as slices.
#[derive(Debug)]
struct Gather {
    gather_below_bytes: usize,
    slices: Vec<Bytes>,
    copied: Vec<u8>,
    size_bytes: usize,
    next_offset: Option<Offset>,
}

impl Gather {
    fn new(gather_below_bytes: usize) -> Self {
        let (slices, copied) = (Vec::new(), Vec::new());
        Self { gather_below_bytes, slices, copied, size_bytes: 0, next_offset: None }
    }

    fn take(&mut self, bytes: &Bytes, range: Range<usize>, next: i64) {
        if range.len() < self.gather_below_bytes {
            self.copy(&bytes[range]);
        } else {
            self.slice(bytes.slice(range));
        }
        self.next_offset = Some(Offset(next));
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len();
        self.copied.extend_from_slice(bytes);
    }

    fn slice(&mut self, bytes: Bytes) {
        self.size_bytes += bytes.len();
        self.flush();
        self.slices.push(bytes);
    }

    fn flush(&mut self) {
        if !self.copied.is_empty() {
            self.slices.push(std::mem::take(&mut self.copied).into());
        }
    }

    fn finish(mut self) -> Batches {
        self.flush();
        let Self { slices, size_bytes, next_offset, .. } = self;
        Batches { slices, size_bytes, next_offset }
    }
}
