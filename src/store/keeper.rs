//! Looks after segments behind the writer: seals full ones, writes checkpoints, frees what nobody
//! needs, and sees to it that the next one is made when nobody else does.
//!
//! Runs on a thread of its own, or inline. Nothing here is on the way of an append; the state is
//! locked only for short moments. A full disk delays this work and fails nothing; any other error
//! of the disk ends the log.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::begin::Writes;
use super::checkpoint::{Checkpoint, Clean, PlaceRow, QueueRow};
use super::error::{IoFailure, LogFailed, MaintainError};
use super::frame::Lineage;
use super::index::{MappedIndex, MemIndex, file};
use super::queue::Queue;
use super::segment::{Segment, SegmentReader, name};
use super::shared::Shared;
use super::sorted;
use super::state::State;
use crate::env::fs::Mode;

/// How long a full disk is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How many queues a checkpoint copies under one hold of the lock.
const QUEUES_AT_ONCE: usize = 1024;

/// What only the keeper knows.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Numbers of the checkpoints on disk, oldest first.
    pub(super) checkpoints: Vec<u64>,
    /// Segments that the newest checkpoint does not name, by first position.
    pub(super) condemned: Vec<u64>,
    /// Files of the configured or another size that the last run left and no checkpoint names.
    pub(super) leftovers: Vec<Leftover>,
    /// A segment was sealed since the last checkpoint.
    owed: bool,
    /// A checkpoint of a replica that waits for what it reflects to be committed.
    built: Option<Box<Built>>,
    /// Segments that no checkpoint names and a reader may still hold.
    dying: Vec<Leftover>,
}

impl Keeper {
    /// A keeper of a directory with these checkpoints.
    pub(super) fn new(checkpoints: Vec<u64>) -> Self {
        Self { checkpoints, ..Self::default() }
    }

    /// Whether freeing something has to wait until nobody reads it.
    pub(super) fn waits_for_readers(&self) -> bool {
        !self.dying.is_empty()
    }
}

/// A segment file that is to be freed.
#[derive(Debug)]
pub(super) struct Leftover {
    pub(super) first: u64,
    pub(super) size_bytes: u64,
    pub(super) reader: Option<Arc<SegmentReader>>,
}

/// A checkpoint that is ready to be written.
#[derive(Debug)]
struct Built {
    checkpoint: Checkpoint,
    dead: Vec<u64>,
    /// What it holds may reflect all frames below.
    reflected: u64,
}

/// What a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Running,
    /// Nothing is appended any more, and nobody else writes.
    Last,
}

/// A closed segment whose index is to be written.
struct Closed {
    first: u64,
    closed_at: u64,
    lineage: Lineage,
    reader: Arc<SegmentReader>,
    mem: Arc<MemIndex>,
}

impl Shared {
    /// One round of everything; `checkpoint` asks for one in any case.
    pub(super) fn keep(&self, keeper: &mut Keeper, checkpoint: bool) -> Result<(), MaintainError> {
        self.state().keeper_due = false;
        if self.state().damaged.is_some() {
            return Ok(());
        }
        self.make_room()?;
        let kept = self.seal_and_checkpoint(keeper, checkpoint);
        self.free(keeper)?;
        if self.state().full {
            self.make_room()?;
        }
        self.drop_old_indexes();
        kept
    }

    fn make_room(&self) -> Result<(), MaintainError> {
        self.prepare_segment()?;
        self.begin_run(Writes::ByTheWriter)?;
        Ok(())
    }

    fn seal_and_checkpoint(&self, keeper: &mut Keeper, asked: bool) -> Result<(), MaintainError> {
        keeper.owed |= self.seal_closed()?;
        // What the last run left can go only when the checkpoint before the newest is written over.
        let leftovers = !keeper.leftovers.is_empty();
        let built = keeper.built.is_some();
        if keeper.owed || asked || leftovers || built || self.has_dead_segments(keeper) {
            self.write_checkpoint(keeper, Purpose::Running)?;
        }
        Ok(())
    }

    /// Frees every segment without living records that nobody reads.
    pub(super) fn recycle(&self) -> Result<(), MaintainError> {
        let mut keeper = self.locked(&self.keeper);
        if self.state().closing {
            // Whoever still holds a handle must not touch the directory of the next run.
            return Err(LogFailed::Closed.into());
        }
        self.keep(&mut keeper, false)?;
        if !keeper.condemned.is_empty() {
            // The checkpoint before the newest still names them: write it over.
            self.keep(&mut keeper, true)?;
        }
        Ok(())
    }

    fn seal_closed(&self) -> Result<bool, MaintainError> {
        let closed = self.closed_segments();
        for segment in &closed {
            let index = self.write_index(&name::index(&self.config.dir, segment.first), segment)?;
            segment.reader.seal(index);
        }
        Ok(!closed.is_empty())
    }

    fn closed_segments(&self) -> Vec<Closed> {
        // What is not committed may be cut, and nothing that is sealed ever is.
        let durable = self.watermark.visible();
        let state = self.state();
        let unsealed = |segment: &&Segment| segment.end() <= durable && !segment.reader.is_sealed();
        let closed = |segment: &Segment| {
            Some(Closed {
                first: segment.first,
                closed_at: segment.closed_at?,
                lineage: segment.lineage,
                reader: Arc::clone(&segment.reader),
                mem: Arc::clone(segment.mem.as_ref()?),
            })
        };
        state.segments.values().filter(unsealed).filter_map(closed).collect()
    }

    fn write_index(
        &self,
        path: &std::path::Path,
        of: &Closed,
    ) -> Result<MappedIndex, MaintainError> {
        let segment = file::Segment {
            log_tag: self.state().log_tag,
            first: of.first,
            end: of.closed_at,
            lineage: of.lineage,
        };
        let bytes = file::encode(segment, &of.mem);
        self.replace(path, &bytes)?;
        let fs = &self.env.fs;
        let map = fs
            .open(path, Mode::Read)
            .and_then(|file| file.map())
            .map_err(|source| self.fail(IoFailure::of("map", path)(source)))?;
        MappedIndex::open(map).map_err(|_| {
            let wrong = std::io::ErrorKind::InvalidData.into();
            self.fail(IoFailure::of("read back", path)(wrong)).into()
        })
    }

    /// Writes a small file as a whole. A full disk is tried again later, anything else ends the log.
    fn replace(&self, path: &std::path::Path, bytes: &[u8]) -> Result<(), MaintainError> {
        let fs = &self.env.fs;
        match fs.replace(path, bytes).map_err(IoFailure::of("write", path)) {
            Ok(()) => Ok(()),
            Err(failure) if failure.is_full() => {
                // Half of it takes space too. If it cannot be removed, the next attempt does.
                drop(fs.remove(&path.with_extension("new")));
                Err(MaintainError::Io(failure))
            }
            Err(failure) => Err(self.fail(failure).into()),
        }
    }

    fn has_dead_segments(&self, keeper: &Keeper) -> bool {
        let condemned: HashSet<u64> = keeper.condemned.iter().copied().collect();
        let state = self.state();
        let appended = state.appended;
        let mut segments = state.segments.values().chain(state.sorted.values());
        segments.any(|segment| is_dead(segment, appended) && !condemned.contains(&segment.first))
    }

    fn write_checkpoint(&self, keeper: &mut Keeper, purpose: Purpose) -> Result<(), MaintainError> {
        if let Some(built) = keeper.built.take()
            && purpose == Purpose::Running
        {
            self.state().checkpoint_waits = None;
            return self.write_when_committed(keeper, purpose, *built);
        }
        let (mut checkpoint, dead) = self.begin_checkpoint(keeper);
        let mut slot = 0;
        while self.copy_queues(&mut checkpoint, slot) {
            slot += QUEUES_AT_ONCE;
        }
        self.copy_sequencer(&mut checkpoint);
        // What was copied may reflect all that is appended by now.
        let reflected = self.state().appended;
        if self.watermark.is_replica() {
            return self.write_when_committed(
                keeper,
                purpose,
                Built { checkpoint, dead, reflected },
            );
        }
        if self.threaded && purpose == Purpose::Running {
            self.watermark.wait_blocking(reflected)?;
        } else {
            self.write_all()?;
        }
        self.put_checkpoint(keeper, purpose, checkpoint, dead)
    }

    /// What a checkpoint of a replica reflects may still be cut until it is committed. Nobody waits
    /// for that here: it may take until a replica is back.
    fn write_when_committed(
        &self,
        keeper: &mut Keeper,
        purpose: Purpose,
        built: Built,
    ) -> Result<(), MaintainError> {
        if !self.threaded || purpose == Purpose::Last {
            self.write_all()?;
        }
        let mut state = self.state();
        if self.watermark.visible() >= built.reflected {
            drop(state);
            return self.put_checkpoint(keeper, purpose, built.checkpoint, built.dead);
        }
        if purpose == Purpose::Running {
            state.checkpoint_waits = Some(built.reflected);
            keeper.built = Some(Box::new(built));
        }
        Ok(())
    }

    fn put_checkpoint(
        &self,
        keeper: &mut Keeper,
        purpose: Purpose,
        mut checkpoint: Checkpoint,
        dead: Vec<u64>,
    ) -> Result<(), MaintainError> {
        checkpoint.durable = self.watermark.visible();
        let path = name::checkpoint(&self.config.dir, checkpoint.number);
        let bytes = checkpoint.encode();
        let mut written = self.replace(&path, &bytes);
        if matches!(written, Err(MaintainError::Io(_))) && keeper.checkpoints.len() > 1 {
            // A full disk must not keep segments from being freed: the newest one suffices.
            self.keep_checkpoints(keeper, 1)?;
            written = self.replace(&path, &bytes);
        }
        written?;
        keeper.owed = false;
        keeper.checkpoints.push(checkpoint.number);
        self.keep_checkpoints(keeper, 2)?;
        self.condemn(keeper, dead);
        match purpose {
            Purpose::Running => Ok(()),
            Purpose::Last => self.write_clean(&checkpoint),
        }
    }

    fn begin_checkpoint(&self, keeper: &Keeper) -> (Checkpoint, Vec<u64>) {
        let state = self.state();
        let appended = state.appended;
        let dead: Vec<u64> = state
            .segments
            .values()
            .chain(state.sorted.values())
            .filter(|segment| is_dead(segment, appended))
            .map(|segment| segment.first)
            .collect();
        let needed = |segment: &&Segment| !is_dead(segment, appended);
        let hot = state.segments.values().filter(needed);
        let sorted = state.sorted.values().filter(needed);
        let checkpoint = Checkpoint {
            log_tag: state.log_tag,
            number: keeper.checkpoints.last().map_or(1, |last| last + 1),
            position: appended,
            durable: 0,
            epoch: state.epoch,
            generation: state.generation,
            epochs: state.epochs.clone(),
            segments: hot.map(|segment| (segment.first, segment.size_bytes)).collect(),
            queues: Vec::new(),
            sorted: sorted.map(|it| (sorted::number_of(it.first), it.size_bytes)).collect(),
            next_sorted: state.next_sorted,
            sorted_places: Vec::new(),
            compacted: Vec::new(),
            sequencer: Vec::new(),
        };
        (checkpoint, dead)
    }

    fn copy_queues(&self, checkpoint: &mut Checkpoint, slot: usize) -> bool {
        // Outside the lock, since it may copy what is there.
        checkpoint.queues.reserve(QUEUES_AT_ONCE);
        let state = self.state();
        let Some(window) = state.queues.window(slot, QUEUES_AT_ONCE) else { return false };
        // A queue that never held anything is opened again by its owner.
        for queue in window.filter(|queue| queue.next > 0 || queue.log_start > 0) {
            let Queue { id, log_start, next, compacted_to, .. } = *queue;
            checkpoint.queues.push(QueueRow { queue: id.0, log_start, next });
            let sorted = queue.places.iter().filter(|place| sorted::is_sorted(place.segment));
            checkpoint.sorted_places.extend(sorted.map(|place| PlaceRow {
                queue: id.0,
                first_offset: place.first_offset,
                number: sorted::number_of(place.segment),
                bytes: place.bytes,
            }));
            if compacted_to > 0 {
                checkpoint.compacted.push((id.0, compacted_to));
            }
        }
        true
    }

    /// Each part under a lock of its own: there may be very many producers, and appends wait.
    fn copy_sequencer(&self, checkpoint: &mut Checkpoint) {
        // Nor do they wait for the copy of all of it when the whole outgrows its memory.
        let mut part = Vec::new();
        let mut after = None;
        loop {
            after = self.state().sequencer.snapshot(after, &mut part);
            checkpoint.sequencer.append(&mut part);
            if after.is_none() {
                return;
            }
        }
    }

    fn keep_checkpoints(&self, keeper: &mut Keeper, count: usize) -> Result<(), MaintainError> {
        while keeper.checkpoints.len() > count {
            let path = name::checkpoint(&self.config.dir, keeper.checkpoints.remove(0));
            match self.env.fs.remove(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(self.fail(IoFailure::of("remove", &path)(error)).into());
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Lets those die that the last two checkpoints both do without.
    fn condemn(&self, keeper: &mut Keeper, dead: Vec<u64>) {
        let mut state = self.state();
        for first in std::mem::take(&mut keeper.condemned) {
            if let Some(segment) = state.segments_of(first).remove(&first) {
                keeper.dying.push(Leftover {
                    first,
                    size_bytes: segment.size_bytes,
                    reader: Some(segment.reader),
                });
            }
        }
        keeper.dying.append(&mut keeper.leftovers);
        keeper.condemned =
            dead.into_iter().filter(|first| state.segment(*first).is_some()).collect();
    }

    fn free(&self, keeper: &mut Keeper) -> Result<(), MaintainError> {
        let unread = |leftover: &mut Leftover| {
            leftover.reader.as_ref().is_none_or(|reader| Arc::strong_count(reader) == 1)
        };
        let free: Vec<Leftover> = keeper.dying.extract_if(.., unread).collect();
        if free.is_empty() {
            return Ok(());
        }
        for leftover in free {
            let Leftover { first, size_bytes, reader } = leftover;
            // The map has to go before the file may be written again.
            drop(reader);
            self.free_file(first, size_bytes).map_err(|failure| self.fail(failure))?;
        }
        let dir = &self.config.dir;
        self.env
            .fs
            .sync_dir(dir)
            .map_err(|source| self.fail(IoFailure::of("sync directory", dir)(source)).into())
    }

    fn free_file(&self, first: u64, size_bytes: u64) -> Result<(), IoFailure> {
        let (fs, dir) = (&self.env.fs, &self.config.dir);
        if sorted::is_sorted(first) {
            let path = name::sorted(dir, sorted::number_of(first));
            return fs.remove(&path).map_err(IoFailure::of("remove", &path));
        }
        let index = name::index(dir, first);
        if fs.size(&index).map_err(IoFailure::of("look up", &index))?.is_some() {
            fs.remove(&index).map_err(IoFailure::of("remove", &index))?;
        }
        let log = name::log(dir, first);
        let mut allocator = self.locked(&self.allocator);
        if size_bytes == self.config.segment_size_bytes
            && allocator.spares.len() < self.config.spare_segments_max
        {
            let spare = name::spare(dir, first);
            fs.rename(&log, &spare).map_err(IoFailure::of("rename", &log))?;
            allocator.spares.push(spare);
            return Ok(());
        }
        fs.remove(&log).map_err(IoFailure::of("remove", &log))
    }

    /// Lets go of indexes in memory whose segments are sealed and have left the ring.
    fn drop_old_indexes(&self) {
        let mut state = self.state();
        let State { segments, ring, .. } = &mut *state;
        let ring_start = ring.start().unwrap_or(u64::MAX);
        let old = segments
            .values_mut()
            .filter(|segment| segment.reader.is_sealed() && segment.end() <= ring_start);
        let old: Vec<_> = old.filter_map(|segment| segment.mem.take()).collect();
        // A list for each of very many queues is freed, which appends must not wait for.
        drop(state);
        drop(old);
    }

    /// Leaves the directory so that opening it needs no scan. Everything is appended.
    pub(super) fn keep_last(&self) -> Result<(), MaintainError> {
        let mut keeper = self.locked(&self.keeper);
        if self.state().damaged.is_some() {
            return Ok(());
        }
        self.write_all()?;
        self.seal_closed()?;
        self.write_checkpoint(&mut keeper, Purpose::Last)
    }

    fn write_clean(&self, checkpoint: &Checkpoint) -> Result<(), MaintainError> {
        let mut state = self.state();
        let mem = Arc::new(std::mem::take(&mut state.index));
        let Some((_, active)) = state.segments.last_key_value() else { return Ok(()) };
        let tail = Closed {
            first: active.first,
            closed_at: state.appended,
            lineage: active.lineage,
            reader: Arc::clone(&active.reader),
            mem,
        };
        drop(state);
        self.write_index(&self.config.dir.join(name::TAIL_INDEX), &tail)?;
        let clean = Clean {
            log_tag: checkpoint.log_tag,
            number: checkpoint.number,
            position: checkpoint.position,
        };
        self.replace(&self.config.dir.join(name::CLEAN), &clean.encode())
    }
}

/// Whether a segment holds nothing that lives. Its control frames are in every later checkpoint.
fn is_dead(segment: &Segment, appended: u64) -> bool {
    let is_full = sorted::is_sorted(segment.first) || segment.end() <= appended;
    segment.live == 0 && segment.reader.is_sealed() && is_full
}

/// The keeper's thread.
pub(super) fn run(shared: &Shared) {
    loop {
        let mut retry = false;
        {
            let mut keeper = shared.locked(&shared.keeper);
            match shared.keep(&mut keeper, false) {
                Ok(()) => {}
                Err(MaintainError::Io(failure)) => {
                    tracing::warn!(%failure, "maintenance is put off");
                    retry = true;
                }
                Err(MaintainError::Failed(_)) => return,
            }
            retry |= keeper.waits_for_readers();
        }
        let mut state = shared.state();
        retry |= state.full;
        while !state.keeper_due {
            if state.closing || shared.watermark.failed().is_some() {
                return;
            }
            let wait = if retry { RETRY_AFTER } else { Duration::from_secs(3600) };
            state.keeper_idle = true;
            let Ok((woken, timeout)) = shared.keeper_wake.wait_timeout(state, wait) else {
                shared.env.spawner.fatal("a panic left the log half changed")
            };
            state = woken;
            if timeout.timed_out() {
                break;
            }
        }
        if state.closing || shared.watermark.failed().is_some() {
            return;
        }
    }
}
