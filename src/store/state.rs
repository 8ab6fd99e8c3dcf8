//! What the shard's lock protects, and the one step that appends a frame.
//!
//! Everything here is memory: no call performs I/O or waits. The order of the log, offsets, the
//! sequencer's decision, the frame in the ring and the index entry are made in one step, so they
//! can never disagree. Positions grow without gaps except from a segment's last frame to its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use tokio::sync::Notify;

use super::error::{AppendError, LogFailed};
use super::follow::Barriers;
use super::frame::{self, HEADER_BYTES, Header, Kind, Lineage, frame_bytes};
use super::group::Groups;
use super::index::{Entry, MemIndex, Run};
use super::queue::{Place, Queue, Queues};
use super::ring::Ring;
use super::segment::{Segment, SegmentReader};
use super::sequencer::{Sequenced, Sequencer};
use super::sorted;
use super::width::{index, narrow64};
use crate::env::fs::File;
use crate::model::{LeaderEpoch, Offset, Position, QueueId};

/// Who appends, which decides what a full disk refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Records of clients: refused as soon as no further segment can be had.
    Data,
    /// What keeps the broker working (offset commits, log starts): goes on in the space left.
    System,
}

/// A batch in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// It is durable once the log is durable up to here.
    pub end: Position,
    /// First offset of the queue.
    pub log_start: Offset,
    /// It was in the log before; the offsets are those of then.
    pub duplicate: bool,
}

/// A segment file that waits for its turn.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) size_bytes: u64,
    pub(super) reader: Arc<SegmentReader>,
    pub(super) direct: Arc<dyn File>,
    pub(super) written_to: u64,
}

/// See the module.
pub(super) struct State {
    pub(super) sequencer: Box<dyn Sequencer>,
    pub(super) queues: Queues,
    /// Queues dropped in this run. Whoever has not heard of it yet must not open them again.
    pub(super) dropped: HashSet<QueueId>,
    /// By first position; the last is the active one.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// The sorted segments, by first position.
    pub(super) sorted: BTreeMap<u64, Segment>,
    /// Number of the next sorted segment.
    pub(super) next_sorted: u64,
    /// The segment behind the active one.
    pub(super) prepared: Option<Prepared>,
    /// The index of the active segment.
    pub(super) index: MemIndex,
    pub(super) ring: Ring,
    /// Position behind the last frame.
    pub(super) appended: u64,
    /// Where this run began to append. What the ring holds below comes from disk, unchecked.
    pub(super) opened_at: u64,
    pub(super) epoch: i32,
    pub(super) epochs: Vec<(i32, u64)>,
    pub(super) generation: u32,
    pub(super) log_tag: u32,
    pub(super) segment_size_bytes: u64,
    /// Allocating a segment failed for want of space.
    pub(super) full: bool,
    /// Damage that forbids appends.
    pub(super) damaged: Option<u64>,
    /// Flags of this run's start frame as long as that is not on disk; nothing is appended before.
    pub(super) unbegun: Option<u8>,
    pub(super) closing: bool,
    /// The writer sleeps and wants to be woken.
    pub(super) writer_idle: bool,
    /// The keeper sleeps and wants to be woken.
    pub(super) keeper_idle: bool,
    /// The allocator sleeps and wants to be woken.
    pub(super) allocator_idle: bool,
    /// There is something for the keeper to do.
    pub(super) keeper_due: bool,
    /// The last frame is no mark: its durability is recorded nowhere.
    pub(super) unmarked: bool,
    /// The groups that are not durable yet.
    pub(super) groups: Groups,
    /// A replica that does not lead: only what a leader sends is appended.
    pub(super) following: bool,
    /// The next frame begins a segment, and so a chunk of the ring.
    pub(super) jumps: bool,
    /// Where writes of received frames have to end.
    pub(super) barriers: Barriers,
    /// How far a checkpoint reaches that waits to be written until that is committed.
    pub(super) checkpoint_waits: Option<u64>,
    /// Queues whose subscribers are to be told once a position is durable.
    to_notify: BinaryHeap<Reverse<(u64, u32)>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("appended", &self.appended).finish_non_exhaustive()
    }
}

/// What a frame says besides its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) queue: QueueId,
    pub(super) base_offset: i64,
    pub(super) offsets: u32,
    pub(super) body_crc: u32,
    pub(super) payload: &'a [u8],
}

impl Content<'_> {
    /// A frame without payload.
    pub(super) fn control(kind: Kind, queue: QueueId, base_offset: i64) -> Self {
        Self { kind, flags: 0, queue, base_offset, offsets: 0, body_crc: 0, payload: &[] }
    }
}

/// When and how far durable the log was when a frame was appended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_ms: i64,
    pub(super) durable: u64,
}

impl State {
    pub(super) fn new(
        sequencer: Box<dyn Sequencer>,
        ring: Ring,
        segment_size_bytes: u64,
        log_tag: u32,
    ) -> Self {
        Self {
            sequencer,
            queues: Queues::default(),
            dropped: HashSet::new(),
            segments: BTreeMap::new(),
            sorted: BTreeMap::new(),
            next_sorted: 0,
            prepared: None,
            index: MemIndex::default(),
            ring,
            appended: 0,
            opened_at: 0,
            epoch: 0,
            epochs: Vec::new(),
            generation: 0,
            log_tag,
            segment_size_bytes,
            full: false,
            damaged: None,
            unbegun: None,
            closing: false,
            writer_idle: false,
            keeper_idle: false,
            allocator_idle: false,
            keeper_due: false,
            unmarked: false,
            groups: Groups::default(),
            following: false,
            jumps: false,
            barriers: Barriers::default(),
            checkpoint_waits: None,
            to_notify: BinaryHeap::new(),
        }
    }

    /// Appends a batch, or says why not; then nothing has changed.
    pub(super) fn append(
        &mut self,
        queue: QueueId,
        epoch: LeaderEpoch,
        class: Class,
        batch: (&[u8], &BatchHeader, u32),
        moment: Moment,
    ) -> Result<Appended, AppendError> {
        let (bytes, header, _) = batch;
        self.check_epoch(epoch)?;
        self.check_begun()?;
        self.reserve(frame_bytes(bytes.len()), class, moment.durable)?;
        let known = self.queues.get(queue).ok_or(AppendError::UnknownQueue(queue))?;
        let (log_start, last_end) = (known.log_start, known.last_end);
        match self.sequencer.judge(queue, header, moment.now_ms)? {
            Sequenced::Append => Ok(self.enter(queue, 0, batch, moment)),
            Sequenced::Duplicate { base_offset, last_offset } => {
                // The original may be on its way to disk still.
                let end = Position(last_end);
                let log_start = Offset(log_start);
                Ok(Appended { base_offset, last_offset, end, log_start, duplicate: true })
            }
        }
    }

    /// Puts a batch, for which room was reserved and which was judged, at the end of its queue.
    pub(super) fn enter(
        &mut self,
        queue: QueueId,
        flags: u8,
        batch: (&[u8], &BatchHeader, u32),
        moment: Moment,
    ) -> Appended {
        let (bytes, header, body_crc) = batch;
        let Some(known) = self.queues.get(queue) else {
            unreachable!("whoever enters a batch has found its queue, and holds the lock");
        };
        let (base, log_start) = (known.next, known.log_start);
        self.sequencer.record(queue, Offset(base), header, moment.now_ms);
        let last_delta = header.last_offset_delta.unsigned_abs();
        let content = Content {
            kind: Kind::Data,
            flags,
            queue,
            base_offset: base,
            offsets: last_delta.saturating_add(1),
            body_crc,
            payload: bytes,
        };
        let frame = self.put(content, moment);
        let Some(active) = self.segments.last_entry() else {
            unreachable!("a frame was just put into the active segment");
        };
        let Some(known) = self.queues.get_mut(queue) else {
            unreachable!("the queue was there a moment ago, and the lock is held");
        };
        note(known, &mut self.index, active.into_mut(), &frame, header.max_timestamp);
        known.next = base + i64::from(content.offsets);
        known.last_end = frame.end();
        if known.is_subscribed() && !known.to_notify {
            known.to_notify = true;
            self.to_notify.push(Reverse((frame.end(), queue.0)));
        }
        Appended {
            base_offset: Offset(base),
            last_offset: Offset(base + i64::from(last_delta)),
            end: Position(frame.end()),
            log_start: Offset(log_start),
            duplicate: false,
        }
    }

    /// Appends a frame without payload.
    pub(super) fn append_control(
        &mut self,
        content: Content<'_>,
        moment: Moment,
    ) -> Result<Position, AppendError> {
        self.check_leads()?;
        self.check_begun()?;
        self.reserve(frame_bytes(content.payload.len()), Class::System, moment.durable)?;
        Ok(Position(self.put(content, moment).end()))
    }

    /// Appends this run's start frame, which voids what earlier runs left from here on.
    pub(super) fn append_start(
        &mut self,
        flags: u8,
        moment: Moment,
    ) -> Result<Position, AppendError> {
        self.reserve(frame_bytes(0), Class::System, moment.durable)?;
        self.generation += 1;
        let start = Content { flags, ..Content::control(Kind::Start, QueueId(0), 0) };
        Ok(Position(self.put(start, moment).end()))
    }

    /// A follower appends nothing of its own, whatever the epoch.
    pub(super) fn check_leads(&self) -> Result<(), AppendError> {
        let current = LeaderEpoch(self.epoch);
        if self.following { Err(AppendError::Fenced { current, got: current }) } else { Ok(()) }
    }

    pub(super) fn check_epoch(&self, epoch: LeaderEpoch) -> Result<(), AppendError> {
        if epoch.0 == self.epoch && !self.following {
            return Ok(());
        }
        Err(AppendError::Fenced { current: LeaderEpoch(self.epoch), got: epoch })
    }

    /// Only for want of space does a store open without having begun its run.
    pub(super) fn check_begun(&self) -> Result<(), AppendError> {
        if self.unbegun.is_some() { Err(AppendError::DiskFull) } else { Ok(()) }
    }

    /// Makes sure that frames of so many bytes can be put into one segment, whatever happens. Says
    /// whether that is the next one.
    pub(super) fn reserve(
        &mut self,
        bytes: u64,
        class: Class,
        durable: u64,
    ) -> Result<bool, AppendError> {
        if self.closing {
            return Err(LogFailed::Closed.into());
        }
        if let Some(at) = self.damaged {
            return Err(AppendError::Damaged { at: Position(at) });
        }
        if bytes > self.segment_size_bytes {
            let max = self.segment_size_bytes - HEADER_BYTES as u64;
            return Err(AppendError::TooLarge { max, got: bytes - HEADER_BYTES as u64 });
        }
        let rolls = self.room_in_segment() < bytes;
        if self.prepared.is_none() {
            if self.full && (rolls || class == Class::Data) {
                return Err(AppendError::DiskFull);
            }
            if rolls {
                self.keeper_due = true;
                return Err(AppendError::SegmentNotReady);
            }
        }
        let with_filler = bytes + HEADER_BYTES as u64;
        self.ring
            .reserve(with_filler, rolls || self.jumps, durable)
            .map_err(|_| AppendError::NoMemory)?;
        Ok(rolls)
    }

    /// Bytes left in the active segment.
    pub(super) fn room_in_segment(&self) -> u64 {
        self.segments.values().next_back().map_or(0, |active| active.end() - self.appended)
    }

    /// Whether the segment behind the active one is to be made.
    pub(super) fn lacks_segment(&self) -> bool {
        self.prepared.is_none() && !self.full && self.damaged.is_none()
    }

    /// Bytes that find room in the segments at hand; all where waiting for another is no use.
    pub(super) fn free_bytes(&self) -> u64 {
        if self.closing || self.full || self.damaged.is_some() {
            return u64::MAX;
        }
        let prepared = self.prepared.as_ref().map_or(0, |prepared| prepared.size_bytes);
        self.room_in_segment() + prepared
    }

    /// Puts a frame for which room was reserved.
    fn put(&mut self, content: Content<'_>, moment: Moment) -> Header {
        if self.room_in_segment() < frame_bytes(content.payload.len()) {
            self.roll(moment);
        }
        let frame = self.header(content, moment);
        self.ring.append(self.appended, &frame.encode());
        let payload_at = self.appended + HEADER_BYTES as u64;
        if let Some(rest) = content.payload.get(frame::STAMPED_BYTES..) {
            self.ring.append(payload_at, &frame.stamped());
            self.ring.append(payload_at + frame::STAMPED_BYTES as u64, rest);
        }
        let unpadded = payload_at + content.payload.len() as u64;
        let padding = frame.end() - unpadded;
        self.ring.append(unpadded, [0; 8].get(..index(padding)).unwrap_or_default());
        self.appended = frame.end();
        self.jumps = false;
        self.unmarked = content.kind != Kind::Mark;
        if let Some(active) = self.segments.values_mut().next_back() {
            active.lineage = frame.lineage();
        }
        frame
    }

    fn header(&self, content: Content<'_>, moment: Moment) -> Header {
        Header {
            kind: content.kind,
            flags: content.flags,
            length: frame::length_field(content.payload),
            queue: content.queue,
            epoch: self.epoch,
            generation: self.generation,
            position: self.appended,
            base_offset: content.base_offset,
            offsets: content.offsets,
            log_tag: self.log_tag,
            store_time_ms: moment.now_ms,
            durable: moment.durable,
            body_crc: content.body_crc,
        }
    }

    /// Closes the active segment and goes on in the prepared one.
    pub(super) fn roll(&mut self, moment: Moment) {
        let room = self.room_in_segment();
        let mut closed_at = self.appended;
        if room >= HEADER_BYTES as u64 {
            let content = Content::control(Kind::Filler, QueueId(0), 0);
            let filler = Header {
                length: narrow64(room - HEADER_BYTES as u64),
                ..self.header(content, moment)
            };
            self.ring.append(self.appended, &filler.encode());
            closed_at += HEADER_BYTES as u64;
        }
        self.go_on(closed_at);
    }

    /// Goes on in the prepared segment; the active one ends at a position.
    pub(super) fn go_on(&mut self, closed_at: u64) {
        let Some(prepared) = self.prepared.take() else {
            unreachable!("rolling was reserved, which needs a prepared segment");
        };
        let mem = Arc::new(std::mem::take(&mut self.index));
        if let Some(active) = self.segments.values_mut().next_back() {
            active.closed_at = Some(closed_at);
            active.mem = Some(mem);
            self.appended = active.end();
        }
        self.activate(prepared);
        self.keeper_due = true;
    }

    /// Makes a segment at the end of the log the active one.
    pub(super) fn activate(&mut self, prepared: Prepared) {
        let segment = Segment {
            first: self.appended,
            size_bytes: prepared.size_bytes,
            closed_at: None,
            live: 0,
            live_bytes: 0,
            total_bytes: 0,
            lineage: Lineage { generation: self.generation, epoch: self.epoch },
            written_to: prepared.written_to,
            reader: prepared.reader,
            direct: Some(prepared.direct),
            mem: None,
        };
        self.segments.insert(self.appended, segment);
    }

    /// Offset behind the last durable frame of a queue.
    pub(super) fn high_watermark(&self, queue: &Queue, durable: u64) -> i64 {
        let mut bound = queue.next;
        if queue.last_end <= durable {
            return bound;
        }
        for place in queue.places.iter().rev() {
            // Only sealed segments have no index in memory, and they are durable.
            let Some(run) = self.mem_run(place) else { return bound };
            let is_durable = |entry: &Entry| {
                let start = place.segment + u64::from(entry.at);
                start + frame_bytes(entry.length as usize) <= durable
            };
            let durable_entries = run.entries.partition_point(is_durable);
            if let Some(first) = run.entries.get(durable_entries) {
                bound = first.base_offset;
            }
            if durable_entries > 0 {
                break;
            }
        }
        bound
    }

    /// The entries of a queue in a segment whose index is in memory.
    pub(super) fn mem_run(&self, place: &Place) -> Option<&Run> {
        let (active, _) = self.segments.last_key_value()?;
        if *active == place.segment {
            return self.index.run(place.slot);
        }
        self.segments.get(&place.segment)?.mem.as_ref()?.run(place.slot)
    }

    /// Moves a queue's log start in memory and releases what lies below it.
    pub(super) fn move_log_start(&mut self, queue: QueueId, log_start: i64) {
        if let Some(known) = self.queues.get_mut(queue)
            && known.log_start < log_start
        {
            known.log_start = log_start;
            // Only a damaged log has lost the frames between.
            known.next = known.next.max(log_start);
            let dead = known.leave_dead_places();
            self.release(&dead);
            self.sequencer.trim(queue, Offset(log_start));
        }
    }

    /// Forgets a queue in memory; returns whom to tell.
    pub(super) fn forget_queue(&mut self, queue: QueueId) -> Vec<Arc<Notify>> {
        self.dropped.insert(queue);
        let Some(gone) = self.queues.remove(queue) else { return Vec::new() };
        self.release(&gone.places);
        self.sequencer.forget(queue);
        gone.subscribers().map(Arc::clone).collect()
    }

    pub(super) fn release(&mut self, places: &[Place]) {
        for place in places {
            if let Some(segment) = self.segment_mut(place.segment) {
                segment.release(place);
            }
        }
    }

    /// The segment, of either kind, with a first position.
    pub(super) fn segment(&self, first: u64) -> Option<&Segment> {
        let segments = if sorted::is_sorted(first) { &self.sorted } else { &self.segments };
        segments.get(&first)
    }

    /// The same to be changed.
    pub(super) fn segment_mut(&mut self, first: u64) -> Option<&mut Segment> {
        self.segments_of(first).get_mut(&first)
    }

    /// The segments of the kind that one with a first position is of.
    pub(super) fn segments_of(&mut self, first: u64) -> &mut BTreeMap<u64, Segment> {
        if sorted::is_sorted(first) { &mut self.sorted } else { &mut self.segments }
    }

    /// Tells a new subscriber of what is on its way to disk already.
    pub(super) fn notify_when_durable(&mut self, queue: QueueId, durable: u64) {
        if let Some(known) = self.queues.get_mut(queue)
            && known.last_end > durable
            && !known.to_notify
        {
            known.to_notify = true;
            self.to_notify.push(Reverse((known.last_end, queue.0)));
        }
    }

    /// Those who wait for queues that have become durable.
    pub(super) fn take_notified(&mut self, durable: u64) -> Vec<Arc<Notify>> {
        let mut told = Vec::new();
        while let Some(Reverse((end, id))) = self.to_notify.peek().copied()
            && end <= durable
        {
            self.to_notify.pop();
            let queue = QueueId(id);
            let Some(known) = self.queues.get_mut(queue) else { continue };
            known.to_notify = false;
            told.extend(known.subscribers().map(Arc::clone));
            if known.is_subscribed() {
                self.notify_when_durable(queue, durable);
            }
        }
        told
    }
}

/// Enters a data frame of the active segment into the index.
pub(super) fn note(
    queue: &mut Queue,
    index: &mut MemIndex,
    active: &mut Segment,
    frame: &Header,
    max_timestamp: i64,
) {
    if queue.places.last().is_none_or(|place| place.segment != active.first) {
        let slot = index.open_run(queue.id);
        let (first_offset, segment) = (frame.base_offset, active.first);
        queue.places.push(Place { first_offset, segment, bytes: 0, slot });
        active.live += 1;
    }
    let Some(place) = queue.places.last_mut() else { return };
    place.bytes = place.bytes.saturating_add(frame.length);
    active.live_bytes += u64::from(frame.length);
    active.total_bytes += u64::from(frame.length);
    let entry = Entry {
        base_offset: frame.base_offset,
        max_timestamp,
        at: narrow64(frame.position - active.first),
        length: frame.length,
        offsets: frame.offsets,
        store_delta: 0,
    };
    index.push(place.slot, frame.store_time_ms, entry);
}
