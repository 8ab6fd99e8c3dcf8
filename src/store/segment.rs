//! One segment: its file, and what readers and the writer need of it.
//!
//! A [`SegmentReader`] stands for the file as long as anybody may read it: while the segment is
//! written it reads through a descriptor, once sealed through a map. Every slice of the map keeps
//! the reader alive, and the file is written again only when the store holds the last reference.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::error::{Damage, DamageReason, IoFailure, ReadError};
use super::frame::Lineage;
use super::index::{MappedIndex, MemIndex};
use super::queue::Place;
use super::width::index;
use crate::env::fs::{File, Fs, Map, Mode};
use crate::model::Position;

/// A segment as the shard's state knows it.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) size_bytes: u64,
    /// Position behind its last byte worth writing, once nothing more is appended to it.
    pub(super) closed_at: Option<u64>,
    /// Places of queues that are here.
    pub(super) live: u32,
    /// Bytes of the batches that those places stand for.
    pub(super) live_bytes: u64,
    /// Bytes of all batches stored here.
    pub(super) total_bytes: u64,
    /// Of its last frame.
    pub(super) lineage: Lineage,
    /// How far its blocks were written ever before: overwriting them needs no journal commit.
    pub(super) written_to: u64,
    pub(super) reader: Arc<SegmentReader>,
    /// The descriptor of the writer; none once all is written.
    pub(super) direct: Option<Arc<dyn File>>,
    /// Its index while that is in memory and the segment is closed.
    pub(super) mem: Option<Arc<MemIndex>>,
}

impl Segment {
    /// Position behind its last byte.
    pub(super) fn end(&self) -> u64 {
        self.first + self.size_bytes
    }

    /// A queue's place in it begins to count.
    pub(super) fn take(&mut self, place: &Place) {
        self.live += 1;
        self.live_bytes += u64::from(place.bytes);
    }

    /// A queue's place in it counts no more.
    pub(super) fn release(&mut self, place: &Place) {
        self.live = self.live.saturating_sub(1);
        self.live_bytes = self.live_bytes.saturating_sub(u64::from(place.bytes));
    }
}

/// A segment's file as readers see it.
#[derive(Debug)]
pub(super) struct SegmentReader {
    pub(super) first: u64,
    pub(super) path: PathBuf,
    fs: Arc<dyn Fs>,
    /// Only while the segment is not sealed.
    file: Mutex<Option<Arc<dyn File>>>,
    index: OnceLock<MappedIndex>,
    map: Mutex<MapSlot>,
    /// Pieces of the file, by number, that were read since this run began.
    probed: Mutex<HashSet<u64>>,
}

/// Bytes of one call that finds out whether they can be read; they stay in the processor's cache.
const PROBE_BYTES: u64 = 128 << 10;

#[derive(Default)]
struct MapSlot(Option<Map>);

impl std::fmt::Debug for MapSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MapSlot").field(&self.0.is_some()).finish()
    }
}

impl SegmentReader {
    /// A reader of a segment that is still written.
    pub(super) fn open(fs: &Arc<dyn Fs>, path: &Path, first: u64) -> Result<Self, IoFailure> {
        let file = fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
        Ok(Self::of(fs, path, first, Some(file)))
    }

    /// A reader of a sealed segment that is mapped already.
    pub(super) fn mapped(
        fs: &Arc<dyn Fs>,
        path: &Path,
        first: u64,
        (map, index): (Map, MappedIndex),
    ) -> Self {
        let this = Self { map: Mutex::new(MapSlot(Some(map))), ..Self::of(fs, path, first, None) };
        this.seal(index);
        this
    }

    /// A reader of a sealed segment.
    pub(super) fn sealed(fs: &Arc<dyn Fs>, path: &Path, first: u64, index: MappedIndex) -> Self {
        let this = Self::of(fs, path, first, None);
        this.seal(index);
        this
    }

    fn of(fs: &Arc<dyn Fs>, path: &Path, first: u64, file: Option<Arc<dyn File>>) -> Self {
        Self {
            first,
            path: path.to_owned(),
            fs: Arc::clone(fs),
            file: Mutex::new(file),
            index: OnceLock::new(),
            map: Mutex::default(),
            probed: Mutex::default(),
        }
    }

    /// The segment is never written again, and this is its index.
    pub(super) fn seal(&self, index: MappedIndex) {
        if self.index.set(index).is_ok() {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The index, of a sealed segment.
    pub(super) fn index(&self) -> Option<&MappedIndex> {
        self.index.get()
    }

    /// The bytes of a range of positions within the segment. Blocks: on the reader pool only.
    pub(super) fn read(self: &Arc<Self>, range: Range<u64>) -> Result<Bytes, ReadError> {
        let within = index(range.start - self.first)..index(range.end - self.first);
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(file) = file {
            let mut buffer = vec![0; within.len()];
            let n = file
                .read_at(&mut buffer, within.start as u64)
                .map_err(IoFailure::of("read", &self.path))?;
            if n < buffer.len() {
                return Err(self.damage(range.start, DamageReason::Header).into());
            }
            return Ok(buffer.into());
        }
        let map = self.map()?;
        if (*map).as_ref().len() < within.end {
            return Err(self.damage(range.start, DamageReason::Header).into());
        }
        Ok(Bytes::from_owner(MapSlice { map, range: within, _reader: Arc::clone(self) }))
    }

    /// The file, for whoever reads much of it once: of what the device cannot read, a map dies.
    pub(super) fn open_file(&self) -> Result<Arc<dyn File>, IoFailure> {
        self.fs.open(&self.path, Mode::Read).map_err(IoFailure::of("open", &self.path))
    }

    /// Has the system fetch ranges of positions that are about to be read through the map, all at
    /// once, and sees that they can be read.
    pub(super) fn prefetch(
        &self,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<(), IoFailure> {
        if !self.is_sealed() {
            return Ok(());
        }
        let file =
            self.fs.open(&self.path, Mode::Read).map_err(IoFailure::of("open", &self.path))?;
        let ranges: Vec<Range<u64>> = ranges.collect();
        for range in &ranges {
            file.prefetch(range.start - self.first, range.end - range.start)
                .map_err(IoFailure::of("prefetch", &self.path))?;
        }
        for range in ranges {
            self.probe(&*file, range.start - self.first..range.end - self.first)
                .map_err(IoFailure::of("read", &self.path))?;
        }
        Ok(())
    }

    /// Reads what nobody has read before in this run. Of what the device cannot read, a look
    /// through the map ends the process; a call says so.
    fn probe(&self, file: &dyn File, within: Range<u64>) -> io::Result<()> {
        let mut scratch = Vec::new();
        for piece in within.start / PROBE_BYTES..within.end.div_ceil(PROBE_BYTES) {
            if self.probed().contains(&piece) {
                continue;
            }
            scratch.resize(index(PROBE_BYTES), 0);
            match file.read_at(&mut scratch, piece * PROBE_BYTES) {
                Ok(_) => drop(self.probed().insert(piece)),
                Err(_) => {
                    // The bad place may be beside what is asked for.
                    let start = within.start.max(piece * PROBE_BYTES);
                    let end = within.end.min((piece + 1) * PROBE_BYTES);
                    scratch.truncate(index(end - start));
                    file.read_at(&mut scratch, start)?;
                }
            }
        }
        Ok(())
    }

    fn probed(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the segment is read through a map, which makes slices of it cheap.
    pub(super) fn is_sealed(&self) -> bool {
        self.index.get().is_some()
    }

    pub(super) fn damage(&self, at: u64, reason: DamageReason) -> Damage {
        Damage { path: self.path.clone(), at: Position(at), reason }
    }

    fn map(&self) -> Result<Map, IoFailure> {
        let mut slot = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &slot.0 {
            return Ok(Map::clone(map));
        }
        let file =
            self.fs.open(&self.path, Mode::Read).map_err(IoFailure::of("open", &self.path))?;
        let map = file.map().map_err(IoFailure::of("map", &self.path))?;
        slot.0 = Some(Map::clone(&map));
        Ok(map)
    }
}

struct MapSlice {
    map: Map,
    range: Range<usize>,
    _reader: Arc<SegmentReader>,
}

impl AsRef<[u8]> for MapSlice {
    fn as_ref(&self) -> &[u8] {
        &(*self.map).as_ref()[self.range.clone()]
    }
}

/// Names of the store's files. All of them are numbers.
pub(super) mod name {
    use std::path::{Path, PathBuf};

    pub(in crate::store) const LOCK: &str = "lock";
    pub(in crate::store) const META: &str = "meta";
    /// How the name of a file ends that is being written (see `Fs::replace`).
    pub(in crate::store) const UNFINISHED: &str = ".new";
    pub(in crate::store) const CLEAN: &str = "clean";
    /// A cut of the log that was begun.
    pub(in crate::store) const TRUNCATE: &str = "truncate";
    /// The index of the segment being written, left by a clean stop.
    pub(in crate::store) const TAIL_INDEX: &str = "tail.index";
    const LOG: &str = ".log";
    const INDEX: &str = ".index";
    const SPARE: &str = ".spare";
    const CHECKPOINT: &str = ".checkpoint";
    const SORTED: &str = ".sorted";

    pub(in crate::store) fn log(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}{LOG}"))
    }

    pub(in crate::store) fn index(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}{INDEX}"))
    }

    pub(in crate::store) fn spare(dir: &Path, first: u64) -> PathBuf {
        dir.join(format!("{first:020}{SPARE}"))
    }

    pub(in crate::store) fn checkpoint(dir: &Path, number: u64) -> PathBuf {
        dir.join(format!("{number:020}{CHECKPOINT}"))
    }

    pub(in crate::store) fn sorted(dir: &Path, number: u64) -> PathBuf {
        dir.join(format!("{number:020}{SORTED}"))
    }

    /// A sorted segment that is being written. Its number is also a checkpoint's and perhaps a
    /// position, whose files are unfinished under the bare number.
    pub(in crate::store) fn unfinished_sorted(dir: &Path, number: u64) -> PathBuf {
        dir.join(format!("{number:020}{SORTED}{UNFINISHED}"))
    }

    /// What a name in the directory stands for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::store) enum Named {
        Log(u64),
        Index(u64),
        Spare(u64),
        Checkpoint(u64),
        Sorted(u64),
        Other,
    }

    pub(in crate::store) fn parse(name: &str) -> Named {
        let number = |suffix: &str| {
            let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 20)?;
            digits.parse::<u64>().ok()
        };
        if let Some(n) = number(LOG) {
            Named::Log(n)
        } else if let Some(n) = number(INDEX) {
            Named::Index(n)
        } else if let Some(n) = number(SPARE) {
            Named::Spare(n)
        } else if let Some(n) = number(CHECKPOINT) {
            Named::Checkpoint(n)
        } else if let Some(n) = number(SORTED) {
            Named::Sorted(n)
        } else {
            Named::Other
        }
    }
}
