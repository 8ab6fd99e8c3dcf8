//! Brings a directory back: the newest checkpoint, the sealed indexes, and the frames behind.
//!
//! Every frame of a segment without an index file is read. Where the log ends in a torn frame it
//! is cut, by the start frame that the next generation begins with; damage (`walk` says which is
//! which) is never cut and never served.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_protocol::records::BatchHeader;

use super::checkpoint::{Checkpoint, Clean, Meta};
use super::chunk::AlignedBuffer;
use super::config::{BLOCK_BYTES, OnDamage, StoreConfig};
use super::error::{Damage, DamageReason, IoFailure, OpenError};
use super::frame::{ACCEPTS_LOSS, HEADER_BYTES, Header, Kind, Lineage};
use super::group::{Member, OpenGroup};
use super::index::{Entry, MappedIndex, MemIndex, file::QueueRun};
use super::keeper::{Keeper, Leftover};
use super::queue::Place;
use super::ring::Ring;
use super::scan::Scanner;
use super::segment::{Segment, SegmentReader, name};
use super::sequencer::Sequencer;
use super::sorted;
use super::state::{Prepared, State};
use super::unreadable::read_around;
use super::walk::{Durability, Step};
use super::width::{index, narrow, narrow64};
use crate::env::Env;
use crate::env::fs::{File, Map, Mode, is_unreadable};
use crate::model::{Position, QueueId};

/// What a directory holds, once brought back.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) keeper: Keeper,
    pub(super) spares: Vec<PathBuf>,
    /// All damage met.
    pub(super) damage: Vec<Damage>,
    /// Where unknown offsets may be lost, if anywhere.
    pub(super) unknown_loss: Option<u64>,
    /// Position up to which everything is in the checkpoint.
    pub(super) checkpoint: u64,
}

/// Names in a directory, by kind.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) logs: BTreeMap<u64, u64>,
    pub(super) spares: BTreeMap<u64, u64>,
    pub(super) checkpoints: Vec<u64>,
    /// Sorted segments, by number, and their sizes.
    pub(super) sorted: BTreeMap<u64, u64>,
    indexes: Vec<u64>,
    /// Files that were being written when a run ended.
    unfinished: Vec<String>,
}

impl Listing {
    pub(super) fn read(env: &Env, dir: &Path) -> Result<Self, IoFailure> {
        let mut listing = Self::default();
        for entry in env.fs.list(dir).map_err(IoFailure::of("list", dir))? {
            match name::parse(&entry.name) {
                name::Named::Log(first) => {
                    listing.logs.insert(first, entry.size_bytes);
                }
                name::Named::Spare(first) => {
                    listing.spares.insert(first, entry.size_bytes);
                }
                name::Named::Checkpoint(number) => listing.checkpoints.push(number),
                name::Named::Index(first) => listing.indexes.push(first),
                name::Named::Sorted(number) => {
                    listing.sorted.insert(number, entry.size_bytes);
                }
                name::Named::Other if entry.name.ends_with(name::UNFINISHED) => {
                    listing.unfinished.push(entry.name);
                }
                name::Named::Other => {}
            }
        }
        listing.checkpoints.sort_unstable();
        Ok(listing)
    }
}

/// The newest whole checkpoint, and the numbers of it and of the one before.
pub(super) fn newest_checkpoint(
    env: &Env,
    dir: &Path,
    log_tag: u32,
    numbers: &[u64],
) -> Result<Option<(Checkpoint, Vec<u64>)>, IoFailure> {
    for (i, number) in numbers.iter().enumerate().rev() {
        let path = name::checkpoint(dir, *number);
        let bytes = match env.fs.read_all(&path) {
            Err(error) if is_unreadable(&error) => Vec::new(),
            bytes => bytes.map_err(IoFailure::of("read", &path))?,
        };
        match Checkpoint::decode(&bytes) {
            Ok(checkpoint) if checkpoint.log_tag == log_tag && checkpoint.number == *number => {
                let from = i.saturating_sub(1);
                return Ok(Some((checkpoint, numbers[from..=i].to_vec())));
            }
            Ok(_) | Err(_) => {
                tracing::error!(path = %path.display(), "a checkpoint is damaged: taking the one before");
            }
        }
    }
    Ok(None)
}

/// Brings the log of `meta` in the configured directory back.
pub(super) fn recover(
    env: &Env,
    config: &StoreConfig,
    meta: Meta,
    mut sequencer: Box<dyn Sequencer>,
) -> Result<Recovered, OpenError> {
    let dir = &config.dir;
    let listing = Listing::read(env, dir)?;
    let log_tag = meta.log_tag();
    let found = newest_checkpoint(env, dir, log_tag, &listing.checkpoints)?;
    let Some((checkpoint, numbers)) = found else {
        let path = name::checkpoint(dir, 1);
        return Err(match listing.checkpoints.last() {
            Some(last) => OpenError::Unreadable {
                path: name::checkpoint(dir, *last),
                what: "no checkpoint is whole",
            },
            None => OpenError::Missing { path },
        });
    };
    if !checkpoint.sequencer.is_empty() {
        sequencer.restore(&checkpoint.sequencer)?;
    }
    let ring = Ring::new(config.chunk_size_bytes, config.ring_size_bytes);
    let mut state = State::new(sequencer, ring, config.segment_size_bytes, log_tag);
    state.epoch = checkpoint.epoch;
    state.epochs.clone_from(&checkpoint.epochs);
    state.generation = checkpoint.generation;
    for row in &checkpoint.queues {
        let queue = state.queues.open(QueueId(row.queue));
        queue.log_start = row.log_start;
        queue.next = row.next;
    }
    let mut recovery = Recovery {
        env,
        config,
        listing: &listing,
        durability: Durability {
            fs: Arc::clone(&env.fs),
            dir: dir.clone(),
            logs: listing.logs.clone(),
            log_tag,
            known: checkpoint.durable,
        },
        checkpoint: &checkpoint,
        state,
        lineage: Lineage::FIRST,
        damage: Vec::new(),
        unknown_loss: None,
    };
    recovery.attach_sorted()?;
    let tail = recovery.read_segments()?;
    recovery.check_behind()?;
    recovery.order_places();
    if recovery.unknown_loss.is_none() || config.on_damage == OnDamage::AcceptLoss {
        recovery.write_again(tail)?;
    }
    recovery.finish_tail(tail)?;
    if config.expects_log && recovery.state.segments.is_empty() && checkpoint.position == 0 {
        return Err(OpenError::NoLog { dir: dir.clone() });
    }
    let (damage, unknown_loss) = (recovery.damage, recovery.unknown_loss);
    let state = recovery.state;
    let keeper = Keeper::new(numbers);
    let checkpoint = checkpoint.position;
    let spares = Vec::new();
    let mut recovered = Recovered { state, keeper, spares, damage, unknown_loss, checkpoint };
    let is_final = unknown_loss.is_none() || config.on_damage == OnDamage::AcceptLoss;
    if is_final {
        recovered.sort_files(env, config, &listing)?;
    }
    Ok(recovered)
}

struct Recovery<'a> {
    env: &'a Env,
    config: &'a StoreConfig,
    listing: &'a Listing,
    checkpoint: &'a Checkpoint,
    durability: Durability,
    state: State,
    /// Of the last frame seen.
    lineage: Lineage,
    damage: Vec<Damage>,
    unknown_loss: Option<u64>,
}

/// How reading a segment ended.
enum Ended {
    /// Its frames reach its end; the next segment goes on.
    Full { closed_at: u64 },
    /// The log ends here.
    Tail(u64),
}

impl Recovery<'_> {
    /// Reads all segments in order and returns where the log ends.
    fn read_segments(&mut self) -> Result<u64, OpenError> {
        if let Some(tail) = self.read_clean()? {
            return Ok(tail);
        }
        let mut tail = 0;
        let position = self.checkpoint.position;
        let mut next = match self.checkpoint.segments.first() {
            Some((first, _)) => Some(*first),
            None => self.unnamed_segment(position),
        };
        let mut named = self.checkpoint.segments.iter();
        let mut last_named = named.next().copied();
        while let Some(first) = next {
            let size_bytes = match last_named {
                Some((_, size_bytes)) => size_bytes,
                None => self.listing.logs.get(&first).copied().unwrap_or(0),
            };
            tail = first + size_bytes;
            if tail > position {
                // Frames from here on may drop places, which needs them in order.
                self.order_places();
            }
            match self.read_segment(first, size_bytes)? {
                Ended::Full { closed_at } => self.close_active(closed_at),
                Ended::Tail(at) => return Ok(at),
            }
            // Behind the segments that the checkpoint names, files follow without a gap.
            last_named = named.next().copied();
            next = match last_named {
                Some((first, _)) => Some(first),
                None => self.unnamed_segment(tail),
            };
        }
        // A log that ends with a segment: the last one is the active one again, and full.
        if let Some(last) = self.state.segments.values_mut().next_back()
            && let Some(mem) = last.mem.take()
        {
            last.closed_at = None;
            self.state.index = Arc::try_unwrap(mem).unwrap_or_default();
        }
        Ok(tail)
    }

    /// Opens the sorted segments and gives the queues what they have there.
    fn attach_sorted(&mut self) -> Result<(), OpenError> {
        let (dir, listing) = (&self.config.dir, self.listing);
        for (number, size_bytes) in &self.checkpoint.sorted {
            let path = name::sorted(dir, *number);
            match listing.sorted.get(number) {
                None => return Err(OpenError::Missing { path }),
                Some(size) if size < size_bytes => {
                    return Err(OpenError::Unreadable { path, what: "the file was cut" });
                }
                Some(_) => {}
            }
            let first = sorted::first_of(*number);
            let opened = sorted::open(&self.env.fs, &path, first, self.state.log_tag)?;
            for damage in opened.damage.into_iter().flatten() {
                tracing::error!(%damage, "what was durable is damaged; it is kept and not served");
                self.damage.push(damage);
            }
            self.state.sorted.insert(first, opened.segment);
        }
        let last = listing.sorted.last_key_value().map_or(0, |(number, _)| number + 1);
        self.state.next_sorted = self.checkpoint.next_sorted.max(last);
        for (queue, to) in &self.checkpoint.compacted {
            if let Some(queue) = self.state.queues.get_mut(QueueId(*queue)) {
                queue.compacted_to = *to;
            }
        }
        for row in &self.checkpoint.sorted_places {
            let place = Place {
                first_offset: row.first_offset,
                segment: sorted::first_of(row.number),
                bytes: row.bytes,
                slot: 0,
            };
            let State { queues, sorted, .. } = &mut self.state;
            if let Some(queue) = queues.get_mut(QueueId(row.queue))
                && let Some(segment) = sorted.get_mut(&place.segment)
            {
                queue.places.push(place);
                segment.take(&place);
            }
        }
        Ok(())
    }

    /// Puts the places of queues with records in sorted segments in order: segments are read one
    /// kind after the other.
    fn order_places(&mut self) {
        let mut last = None;
        for row in &self.checkpoint.sorted_places {
            if last.replace(row.queue) != Some(row.queue)
                && let Some(queue) = self.state.queues.get_mut(QueueId(row.queue))
            {
                queue.places.sort_by_key(|place| place.first_offset);
            }
        }
    }

    /// The file of a segment that no checkpoint names yet. Files get their size before the log
    /// can reach them, so a file without one is none.
    fn unnamed_segment(&self, first: u64) -> Option<u64> {
        let size_bytes = self.listing.logs.get(&first)?;
        (*size_bytes > 0 && size_bytes.is_multiple_of(BLOCK_BYTES)).then_some(first)
    }

    fn read_segment(&mut self, first: u64, size_bytes: u64) -> Result<Ended, OpenError> {
        let path = name::log(&self.config.dir, first);
        match self.listing.logs.get(&first) {
            None => return Err(OpenError::Missing { path }),
            Some(size) if *size < size_bytes => {
                return Err(OpenError::Unreadable { path, what: "the file was cut" });
            }
            Some(_) => {}
        }
        if first + size_bytes <= self.checkpoint.position
            && let Some(index) = self.open_index(first)?
        {
            return Ok(self.attach_sealed(&path, (first, size_bytes), index));
        }
        let reader = SegmentReader::open(&self.env.fs, &path, first)?;
        self.state.appended = first;
        self.push_segment(Arc::new(reader), first, size_bytes);
        let file = self.env.fs.open(&path, Mode::Read).map_err(IoFailure::of("open", &path))?;
        let log_tag = self.state.log_tag;
        let mut scanner =
            Scanner::new(file, first, size_bytes, log_tag).map_err(IoFailure::of("read", &path))?;
        self.scan(&mut scanner, &path)
    }

    /// Refuses a directory whose log goes on behind what was read. Files there are empty, or a
    /// file before them is gone; then what they hold is not to be taken for nothing.
    fn check_behind(&self) -> Result<(), OpenError> {
        let state = &self.state;
        let end =
            state.segments.values().next_back().map_or(self.checkpoint.position, Segment::end);
        let since = self.since(u64::MAX);
        for (first, size_bytes) in self.listing.logs.range(end..) {
            let path = name::log(&self.config.dir, *first);
            let file = self.env.fs.open(&path, Mode::Read).map_err(IoFailure::of("open", &path))?;
            let begins = Scanner::new(file, *first, *size_bytes, state.log_tag)
                .and_then(|mut scanner| scanner.begins(since))
                .map_err(IoFailure::of("read", &path))?;
            if begins && *first == end {
                return Err(OpenError::Unreadable { path, what: "the file was cut" });
            } else if begins {
                return Err(OpenError::Missing { path: name::log(&self.config.dir, end) });
            }
        }
        // What was sealed is there until it is below the log's end and freed.
        match self.listing.indexes.iter().find(|first| **first >= end) {
            Some(first) => Err(OpenError::Missing { path: name::log(&self.config.dir, *first) }),
            None => Ok(()),
        }
    }

    fn open_index(&self, first: u64) -> Result<Option<MappedIndex>, OpenError> {
        let path = name::index(&self.config.dir, first);
        if self.env.fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_none_or(|n| n == 0)
        {
            return Ok(None);
        }
        let map = self.map_index(&path)?;
        let index = map.and_then(|map| MappedIndex::open(map).ok()).filter(|index| {
            index.segment().first == first && index.segment().log_tag == self.state.log_tag
        });
        if index.is_none() {
            tracing::error!(path = %path.display(), "an index is damaged: made again from its segment");
        }
        Ok(index)
    }

    /// Maps an index; none when its beginning cannot be read, which a map would die of.
    fn map_index(&self, path: &Path) -> Result<Option<Map>, IoFailure> {
        let file = self.env.fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
        match MappedIndex::probe(&*file, 0).and_then(|()| file.map()) {
            Ok(map) => Ok(Some(map)),
            Err(error) if is_unreadable(&error) => Ok(None),
            Err(source) => Err(IoFailure::of("map", path)(source)),
        }
    }

    fn attach_sealed(&mut self, path: &Path, extent: (u64, u64), index: MappedIndex) -> Ended {
        let (first, size_bytes) = extent;
        let closed_at = index.segment().end;
        self.lineage = self.lineage.max(index.segment().lineage);
        let mut places = Vec::new();
        let mut total_bytes = 0;
        for run in index.queue_runs().flatten() {
            total_bytes += u64::from(run.bytes);
            if let Some(queue) = self.state.queues.get_mut(run.queue)
                && run.next_offset > queue.gone_below()
            {
                let place = Place {
                    first_offset: run.first_offset.max(queue.compacted_to),
                    segment: first,
                    bytes: bytes_left(&index, run, queue.compacted_to),
                    slot: 0,
                };
                queue.places.push(place);
                places.push(place);
            }
        }
        let reader = SegmentReader::sealed(&self.env.fs, path, first, index);
        self.push_segment(Arc::new(reader), first, size_bytes);
        if let Some(segment) = self.state.segments.get_mut(&first) {
            segment.lineage = self.lineage;
            segment.total_bytes = total_bytes;
            places.iter().for_each(|place| segment.take(place));
        }
        Ended::Full { closed_at }
    }

    fn push_segment(&mut self, reader: Arc<SegmentReader>, first: u64, size_bytes: u64) {
        let segment = Segment {
            first,
            size_bytes,
            closed_at: None,
            live: 0,
            live_bytes: 0,
            total_bytes: 0,
            lineage: self.lineage,
            written_to: first,
            reader,
            direct: None,
            mem: None,
        };
        self.state.segments.insert(first, segment);
    }

    fn close_active(&mut self, closed_at: u64) {
        let mem = std::mem::take(&mut self.state.index);
        if let Some(last) = self.state.segments.values_mut().next_back() {
            last.closed_at = Some(closed_at);
            if !last.reader.is_sealed() {
                last.mem = Some(Arc::new(mem));
            }
        }
    }

    fn scan(&mut self, scanner: &mut Scanner, path: &Path) -> Result<Ended, OpenError> {
        let io = |source| IoFailure { operation: "read", path: path.to_owned(), source };
        let mut at = self.state.appended;
        let mut group = OpenGroup::default();
        loop {
            let since = self.since(at);
            let step = self.durability.step(scanner, at, since).map_err(io)?;
            match step {
                Step::Frame(header) => {
                    // Segments are written in order, each on disk before the next is begun.
                    let known = self.durability.known.max(header.durable).max(self.state.appended);
                    self.durability.known = known;
                    let batch = match header.kind {
                        Kind::Data => scanner.payload(&header).map_err(io)?,
                        _ => None,
                    };
                    let batch = batch.and_then(|payload| BatchHeader::parse(payload).ok());
                    self.replay_group(group.push(header, batch));
                }
                Step::Bent(header) => {
                    self.report(path, at, reason(scanner, &step, DamageReason::Body));
                    self.replay_group(group.push(header, None));
                }
                Step::Lost { .. } | Step::LostTail { .. } => {
                    self.report(path, at, reason(scanner, &step, DamageReason::Header));
                    self.unknown_loss.get_or_insert(at);
                    // What is lost was durable, and so the group that it belongs to.
                    self.replay_group(group.take());
                }
                Step::Full { .. } => self.replay_group(group.take()),
                Step::Tail(_) => {}
            }
            match step {
                Step::Full { closed_at } => return Ok(Ended::Full { closed_at }),
                Step::LostTail { tail, .. } => return Ok(Ended::Tail(tail)),
                // An unfinished group is torn from its first frame on.
                Step::Tail(tail) => return Ok(Ended::Tail(group.start().unwrap_or(tail))),
                Step::Frame(_) | Step::Bent(_) | Step::Lost { .. } => {}
            }
            at = step.next().unwrap_or(scanner.end());
        }
    }

    /// The lineage that a frame at a position must have at least.
    fn since(&self, at: u64) -> Lineage {
        if at >= self.checkpoint.position {
            self.lineage.max(self.checkpoint.lineage())
        } else {
            self.lineage
        }
    }

    fn report(&mut self, path: &Path, at: u64, reason: DamageReason) {
        let damage = Damage { path: path.to_owned(), at: Position(at), reason };
        tracing::error!(%damage, "what was durable is damaged; it is kept and not served");
        self.damage.push(damage);
    }

    fn replay_group(&mut self, frames: Vec<Member>) {
        for (header, batch) in frames {
            self.replay(&header, batch.as_ref());
        }
    }

    /// Does again what a frame did. Frames below the checkpoint only enter the index.
    fn replay(&mut self, header: &Header, batch: Option<&BatchHeader>) {
        self.lineage = self.lineage.max(header.lineage());
        if let Some(active) = self.state.segments.values_mut().next_back() {
            active.lineage = self.lineage;
        }
        if header.kind == Kind::Start && header.flags & ACCEPTS_LOSS != 0 {
            self.unknown_loss = None;
        }
        let is_new = header.position >= self.checkpoint.position;
        drop(self.state.replay(header, batch, is_new));
    }

    /// Takes the log as a clean stop left it, without reading a frame.
    fn read_clean(&mut self) -> Result<Option<u64>, OpenError> {
        let fs = &self.env.fs;
        let path = self.config.dir.join(name::CLEAN);
        if fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_none() {
            return Ok(None);
        }
        let bytes = match fs.read_all(&path) {
            Err(error) if is_unreadable(&error) => return Ok(None),
            bytes => bytes.map_err(IoFailure::of("read", &path))?,
        };
        let expected = Clean {
            log_tag: self.state.log_tag,
            number: self.checkpoint.number,
            position: self.checkpoint.position,
        };
        if Clean::decode(&bytes) != Ok(expected) {
            return Ok(None);
        }
        let Some(tail) = self.open_tail_index()? else { return Ok(None) };
        let Some(((active, size_bytes), sealed)) = self.checkpoint.segments.split_last() else {
            return Ok(None);
        };
        for (first, size_bytes) in sealed {
            // A segment without its index is read as usual.
            match self.read_segment(*first, *size_bytes)? {
                Ended::Full { closed_at } => self.close_active(closed_at),
                Ended::Tail(at) => return Ok(Some(at)),
            }
        }
        let path = name::log(&self.config.dir, *active);
        match self.listing.logs.get(active) {
            None => return Err(OpenError::Missing { path }),
            Some(size) if size < size_bytes => {
                return Err(OpenError::Unreadable { path, what: "the file was cut" });
            }
            Some(_) => {}
        }
        let reader = SegmentReader::open(fs, &path, *active)?;
        self.push_segment(Arc::new(reader), *active, *size_bytes);
        self.attach_tail(tail);
        Ok(Some(expected.position))
    }

    fn open_tail_index(&self) -> Result<Option<MemIndex>, OpenError> {
        let path = self.config.dir.join(name::TAIL_INDEX);
        let fs = &self.env.fs;
        if fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_none_or(|n| n == 0) {
            return Ok(None);
        }
        let bytes: Map = match fs.read_all(&path) {
            Err(error) if is_unreadable(&error) => return Ok(None),
            bytes => Arc::new(bytes.map_err(IoFailure::of("read", &path))?),
        };
        let index = MappedIndex::open(bytes).ok();
        let last = self.checkpoint.segments.last().map(|(first, _)| *first);
        Ok(index.and_then(|index| {
            let of = index.segment();
            let fits = of.log_tag == self.state.log_tag
                && Some(of.first) == last
                && of.end == self.checkpoint.position;
            if fits { index.to_mem().ok() } else { None }
        }))
    }

    fn attach_tail(&mut self, tail: MemIndex) {
        fn bytes<'a>(entries: impl Iterator<Item = &'a Entry>) -> u64 {
            entries.map(|entry| u64::from(entry.length)).sum()
        }
        let Some(active) = self.state.segments.values_mut().next_back() else { return };
        for (slot, run) in tail.runs().iter().enumerate() {
            let Some(queue) = self.state.queues.get_mut(run.queue) else { continue };
            let (Some(first), Some(last)) = (run.entries.first(), run.entries.last()) else {
                continue;
            };
            active.total_bytes += bytes(run.entries.iter());
            if last.next() > queue.gone_below() {
                let compacted_to = queue.compacted_to;
                let left = run.entries.iter().filter(|entry| entry.next() > compacted_to);
                let place = Place {
                    first_offset: first.base_offset.max(compacted_to),
                    segment: active.first,
                    bytes: narrow64(bytes(left)),
                    slot: narrow(slot),
                };
                queue.places.push(place);
                active.take(&place);
            }
        }
        self.state.index = tail;
    }

    /// Writes the end of the log once more, as far as nothing says that it was durable. The last
    /// run may have died of a failed write: then the page cache can show whole frames that are
    /// not on disk, and a sync would call them so.
    fn write_again(&self, tail: u64) -> Result<(), OpenError> {
        let from = self.durability.known.min(tail);
        for segment in self.state.segments.range(..tail).map(|(_, segment)| segment) {
            let start = from.max(segment.first);
            let end = segment.closed_at.unwrap_or(segment.end()).min(tail);
            if segment.reader.is_sealed() || start >= end {
                continue;
            }
            let path = &segment.reader.path;
            let read = self.env.fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
            let write =
                self.env.fs.open(path, Mode::Direct).map_err(IoFailure::of("open", path))?;
            let within = start - segment.first..end - segment.first;
            rewrite(&*read, &*write, within).map_err(IoFailure::of("write again", path))?;
        }
        Ok(())
    }

    /// Makes the log end at `tail`: opens the active segment for writing and fills the ring with
    /// the beginning of its last block.
    fn finish_tail(&mut self, mut tail: u64) -> Result<(), OpenError> {
        let last_block = match self.last_block(tail)? {
            Some(bytes) => bytes,
            None => {
                // Written over, it could be read again, and what it held would be gone for good.
                tail = tail.next_multiple_of(BLOCK_BYTES);
                Vec::new()
            }
        };
        let state = &mut self.state;
        state.appended = tail;
        state.opened_at = tail;
        state.epoch = state.epoch.max(self.lineage.epoch);
        state.generation = state.generation.max(self.lineage.generation);
        let Some(active) = state.segments.values_mut().next_back() else { return Ok(()) };
        if tail >= active.end() {
            return Ok(());
        }
        let path = &active.reader.path;
        active.written_to = tail.next_multiple_of(BLOCK_BYTES);
        active.direct =
            Some(self.env.fs.open(path, Mode::Direct).map_err(IoFailure::of("open", path))?);
        if !last_block.is_empty() {
            let reserved = state.ring.reserve(last_block.len() as u64, true, 0);
            reserved.map_err(IoFailure::of("take memory for", path))?;
            state.ring.append(tail - last_block.len() as u64, &last_block);
        }
        Ok(())
    }

    /// The beginning of the block that the log ends in; none when it cannot be read.
    fn last_block(&mut self, tail: u64) -> Result<Option<Vec<u8>>, OpenError> {
        let block = tail - tail % BLOCK_BYTES;
        let mut bytes = vec![0; index(tail - block)];
        let active = self.state.segments.values().next_back().filter(|it| tail < it.end());
        let Some(active) = active.filter(|_| block < tail) else { return Ok(Some(Vec::new())) };
        let path = active.reader.path.clone();
        let file = self.env.fs.open(&path, Mode::Read).map_err(IoFailure::of("open", &path))?;
        match file.read_at(&mut bytes, block - active.first) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if is_unreadable(&error) => {
                self.report(&path, block, DamageReason::Unreadable);
                self.unknown_loss.get_or_insert(block);
                Ok(None)
            }
            Err(source) => Err(IoFailure::of("read", &path)(source).into()),
        }
    }
}

/// Why a frame is damaged, if not for being unreadable.
pub(super) fn reason(scanner: &Scanner, step: &Step, otherwise: DamageReason) -> DamageReason {
    let extent = match step {
        Step::Bent(header) => header.position..header.end(),
        Step::Lost { at, .. } | Step::LostTail { at, .. } => *at..*at + HEADER_BYTES as u64,
        Step::Frame(_) | Step::Full { .. } | Step::Tail(_) => return otherwise,
    };
    if scanner.is_unreadable(extent) { DamageReason::Unreadable } else { otherwise }
}

/// Bytes of a queue's batches in a segment that do not lie below an offset.
fn bytes_left(index: &MappedIndex, run: QueueRun, from: i64) -> u32 {
    if run.first_offset >= from {
        return run.bytes;
    }
    let mut cursor = index.cursor(run);
    let Ok(first) = cursor.seek(from) else { return run.bytes };
    (first..run.entries).filter_map(|number| cursor.get(number).ok()).map(|it| it.length).sum()
}

/// Writes the blocks of a range of a file with what they hold, zeros behind its end. Those that
/// cannot be read are left alone.
fn rewrite(read: &dyn File, write: &dyn File, range: Range<u64>) -> std::io::Result<()> {
    const AT_ONCE: u64 = 64 * BLOCK_BYTES;
    let mut at = range.start - range.start % BLOCK_BYTES;
    let end = range.end.next_multiple_of(BLOCK_BYTES);
    let mut buffer = AlignedBuffer::allocate(index(AT_ONCE.min(end - at)))?;
    while at < range.end {
        let bytes = buffer.get_mut();
        bytes.fill(0);
        let length = index((range.end - at).min(bytes.len() as u64));
        let (_, bad) = read_around(read, &mut bytes[..length], at)?;
        let whole = at + (length as u64).next_multiple_of(BLOCK_BYTES);
        let ends = bad.iter().map(|bad| bad.start).chain([whole]);
        let starts = [at].into_iter().chain(bad.iter().map(|bad| bad.end));
        for (start, end) in starts.zip(ends).filter(|(start, end)| start < end) {
            let good = &buffer.get()[index(start - at)..index(end - at)];
            write.write_synced_at(&[IoSlice::new(good)], start)?;
        }
        at = whole;
    }
    Ok(())
}

impl Recovered {
    /// Finds out what the files are for that hold nothing of the log.
    fn sort_files(
        &mut self,
        env: &Env,
        config: &StoreConfig,
        listing: &Listing,
    ) -> Result<(), OpenError> {
        let last = self.state.segments.values().next_back().map(Segment::end);
        for (first, size_bytes) in &listing.logs {
            if self.state.segments.contains_key(first) {
                continue;
            }
            let (first, size_bytes) = (*first, *size_bytes);
            let fits = size_bytes == config.segment_size_bytes;
            if last.is_some_and(|end| first < end) {
                self.keeper.leftovers.push(Leftover { first, size_bytes, reader: None });
            } else if fits && last == Some(first) {
                self.state.prepared = Some(adopt(env, config, first)?);
            } else {
                let path = name::log(&config.dir, first);
                env.fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
            }
        }
        for (number, size_bytes) in &listing.sorted {
            let (first, size_bytes) = (sorted::first_of(*number), *size_bytes);
            if !self.state.sorted.contains_key(&first) {
                // The checkpoint before the newest may name it.
                self.keeper.leftovers.push(Leftover { first, size_bytes, reader: None });
            }
        }
        let orphans = listing.indexes.iter().filter(|first| !listing.logs.contains_key(first));
        let useless = orphans
            .map(|first| name::index(&config.dir, *first))
            .chain(listing.unfinished.iter().map(|name| config.dir.join(name)));
        for path in useless {
            env.fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
        }
        for (first, size_bytes) in &listing.spares {
            let path = name::spare(&config.dir, *first);
            if *size_bytes == config.segment_size_bytes
                && self.spares.len() < config.spare_segments_max
            {
                self.spares.push(path);
            } else {
                env.fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Takes over the segment that the last run prepared. It has its name, so it is whole.
fn adopt(env: &Env, config: &StoreConfig, first: u64) -> Result<Prepared, IoFailure> {
    let path = name::log(&config.dir, first);
    let size_bytes = config.segment_size_bytes;
    let reader = Arc::new(SegmentReader::open(&env.fs, &path, first)?);
    let direct = env.fs.open(&path, Mode::Direct).map_err(IoFailure::of("open", &path))?;
    Ok(Prepared { size_bytes, reader, direct, written_to: first })
}
