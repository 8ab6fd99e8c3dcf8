//! The metadata log as a synchronous structure over segment files.
//!
//! Every call that changes something returns when the change is on disk. A failed write or sync
//! closes the log for good: what the disk holds is then unknown, and only a restart reads it
//! back. Room is reserved before it is needed, so that a full disk refuses a proposal instead of
//! failing a write. Blocking: openraft reaches it through [`super::LogStore`].

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_base::env::fs::{File, Fs, Mode};

use super::error::{LogError, io_error};
use super::format::{self, LogState, Place, Record};
use super::recovery;
use crate::dirs;
use crate::types::{Entry, LogId, Vote};

/// Sizes, so that tests can make every boundary happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A segment that has reached this size is followed by a new one.
    pub(crate) segment_bytes: u64,
    /// Room is reserved in steps of this size.
    pub(crate) allocate_bytes: u64,
    /// Room kept for votes and the like, which cannot be refused.
    pub(crate) spare_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 4 << 20, allocate_bytes: 128 << 10, spare_bytes: 64 << 10 }
    }
}

/// How much of the reserved room frames may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// What is left beside the spare bytes.
    Ordinary,
    /// All of it: for what cannot be refused.
    Spare,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryRef {
    pub(super) log_id: LogId,
    pub(super) segment: u64,
    pub(super) position: u64,
    pub(super) frame_len: usize,
}

/// A segment file.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn File>,
    /// Index of the first entry written to it, or of the first that could have been.
    pub(super) next_index: u64,
}

/// The log. Frames are appended to its last segment.
#[derive(Debug)]
pub(crate) struct LogFiles {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    limits: Limits,
    segments: BTreeMap<u64, Segment>,
    /// Number of the last segment; zero before there is one.
    active: u64,
    /// End of the frames in the last segment; all before it is on disk.
    end: u64,
    /// Bytes reserved for the last segment.
    allocated: u64,
    state: LogState,
    committed_on_disk: Option<LogId>,
    entries: VecDeque<EntryRef>,
    next_index: u64,
    failed: bool,
}

/// The path of a segment.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

impl LogFiles {
    /// Opens the log of a directory, creating both when there is none.
    ///
    /// # Errors
    /// The file system refuses, or what had been on disk is damaged.
    pub(crate) fn open(fs: &Arc<dyn Fs>, dir: &Path, limits: Limits) -> Result<Self, LogError> {
        let unsynced = dirs::create(&**fs, dir).map_err(io_error("create", dir))?;
        let found = recovery::recover(&**fs, dir)?;
        let mut log = Self {
            fs: Arc::clone(fs),
            dir: dir.to_owned(),
            limits,
            active: found.segments.keys().next_back().copied().unwrap_or(0),
            segments: found.segments,
            end: found.end,
            // What was reserved a failed sync may have taken back: the next write reserves anew.
            allocated: found.end,
            committed_on_disk: found.state.committed,
            state: found.state,
            entries: found.entries,
            next_index: found.next_index,
            failed: false,
        };
        if log.active == 0 {
            match log.start_segment() {
                Ok(()) => {}
                Err(StartError::Unnamed(error) | StartError::Named(error)) => return Err(error),
            }
        }
        dirs::sync(&**fs, &unsynced).map_err(io_error("sync", dir))?;
        Ok(log)
    }

    /// Whether a directory has any segment.
    pub(crate) fn exist(fs: &dyn Fs, dir: &Path) -> Result<bool, LogError> {
        recovery::any_segment(fs, dir)
    }

    /// Whether nothing was ever voted or written.
    pub(crate) fn is_pristine(&self) -> bool {
        self.state == LogState::default() && self.next_index == 0
    }

    pub(crate) fn state(&self) -> LogState {
        self.state
    }

    /// The id of the last entry, which may be purged already.
    pub(crate) fn last_log_id(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.state.purged)
    }

    /// Reserves room for frames of `bytes` in all.
    ///
    /// # Errors
    /// With [`LogError::is_full`] nothing happened, and it may be tried again later.
    pub(crate) fn reserve(&mut self, bytes: u64, room: Room) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        self.failed = true;
        self.roll_if_due()?;
        let result = self.make_room(bytes, room);
        self.failed = result.as_ref().is_err_and(|error| !error.is_full());
        result
    }

    pub(crate) fn save_vote(&mut self, vote: Vote) -> Result<(), LogError> {
        self.write(vec![Record::Vote(vote)])?;
        self.state.vote = Some(vote);
        Ok(())
    }

    /// Notes how far the log is committed. Reaches the disk with the next frames: after a crash
    /// it may be older, never wrong.
    pub(crate) fn set_committed(&mut self, committed: Option<LogId>) {
        self.state.committed = committed;
    }

    /// Appends entries. Those at or below the last purged one are passed over: a snapshot holds
    /// what they did. Returns the entries that the log now has, in order.
    pub(crate) fn append(&mut self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, LogError> {
        let purged = self.state.purged.map(|id| id.index);
        entries.retain(|entry| Some(entry.log_id.index) > purged);
        if entries.is_empty() {
            return Ok(entries);
        }
        let mut next = self.next_index;
        for entry in &entries {
            let index = entry.log_id.index;
            // Only the very first entry of a log may have any index.
            if index != next && next != 0 {
                return Err(LogError::Hole { index, next });
            }
            next = index + 1;
        }
        // Clones of entries share their commands.
        let frames = self.write(entries.iter().cloned().map(Record::Entry).collect())?;
        for (entry, (position, frame_len)) in entries.iter().zip(frames) {
            let (log_id, segment) = (entry.log_id, self.active);
            self.entries.push_back(EntryRef { log_id, segment, position, frame_len });
        }
        self.next_index = next;
        Ok(entries)
    }

    /// Drops the entries from index `from` on.
    pub(crate) fn truncate(&mut self, from: u64) -> Result<(), LogError> {
        self.write(vec![Record::Truncate { from }])?;
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
            self.entries.pop_back();
        }
        self.next_index = self.next_index.min(from);
        Ok(())
    }

    /// Drops the entries up to and including `upto`, and the segments that hold nothing else.
    pub(crate) fn purge(&mut self, upto: LogId) -> Result<(), LogError> {
        self.write(vec![Record::Purge(upto)])?;
        self.state.purged = Some(upto);
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.entries.pop_front();
        }
        self.next_index = self.next_index.max(upto.index + 1);
        while let Some(number) = self.removable(upto.index) {
            let path = segment_path(&self.dir, number);
            self.fs.remove(&path).map_err(io_error("remove", &path))?;
            self.segments.remove(&number);
        }
        Ok(())
    }

    /// The entries with `from <= index < end` that the log has.
    pub(crate) fn read(&self, from: u64, end: u64) -> Result<Vec<Entry>, LogError> {
        let Some(first) = self.entries.front().map(|entry| entry.log_id.index) else {
            return Ok(Vec::new());
        };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip);
        entries.take_while(|entry| entry.log_id.index < end).map(|at| self.read_one(at)).collect()
    }

    /// Closes the log in order: a later damage to its last frames will not pass for a torn tail.
    pub(crate) fn close(&mut self) -> Result<(), LogError> {
        self.write(vec![Record::Close])?;
        self.failed = true;
        Ok(())
    }

    fn read_one(&self, at: &EntryRef) -> Result<Entry, LogError> {
        let path = segment_path(&self.dir, at.segment);
        let Some(segment) = self.segments.get(&at.segment) else {
            unreachable!("a segment stays as long as one of its entries");
        };
        let mut frame = vec![0; at.frame_len];
        let read =
            segment.file.read_at(&mut frame, at.position).map_err(io_error("read", &path))?;
        frame.truncate(read);
        match format::decode(&frame, at.segment, at.position) {
            Ok((_, Record::Entry(entry))) => Ok(entry),
            Ok(_) => Err(LogError::OutOfSequence { path, position: at.position, what: "record" }),
            Err(reason) => Err(LogError::Corrupt { path, position: at.position, reason }),
        }
    }

    /// The oldest segment, if all its entries are purged and it is not the one written to.
    fn removable(&self, purged_index: u64) -> Option<u64> {
        let mut numbers = self.segments.iter();
        let (&oldest, _) = numbers.next()?;
        let (_, next) = numbers.next()?;
        (next.next_index <= purged_index + 1).then_some(oldest)
    }

    /// Puts the records on disk behind each other with one synced write, led by the committed
    /// index when it moved. Returns position and length of each record's frame.
    fn write(&mut self, records: Vec<Record>) -> Result<Vec<(u64, usize)>, LogError> {
        if self.failed {
            return Err(LogError::Failed);
        }
        // Until the frames are on disk nothing may be written behind them.
        self.failed = true;
        let frames = self.write_frames(&records)?;
        self.failed = false;
        Ok(frames)
    }

    fn write_frames(&mut self, records: &[Record]) -> Result<Vec<(u64, usize)>, LogError> {
        self.roll_if_due()?;
        let (bytes, frames) = self.encode(records);
        self.make_room(bytes.len() as u64, Room::Spare)?;
        let path = segment_path(&self.dir, self.active);
        let Some(segment) = self.segments.get(&self.active) else {
            unreachable!("the active segment is open");
        };
        segment
            .file
            .write_synced_at(&[IoSlice::new(&bytes)], self.end)
            .map_err(io_error("write to", &path))?;
        self.end += bytes.len() as u64;
        self.committed_on_disk = self.state.committed;
        Ok(frames)
    }

    fn encode(&self, records: &[Record]) -> (Vec<u8>, Vec<(u64, usize)>) {
        let mut bytes = Vec::new();
        let mut put = |record: &Record| {
            let position = self.end + bytes.len() as u64;
            let place = Place { segment: self.active, position, durable_end: self.end };
            (position, format::encode(record, place, &mut bytes))
        };
        if self.state.committed != self.committed_on_disk
            && let Some(committed) = self.state.committed
        {
            put(&Record::Committed(committed));
        }
        let frames = records.iter().map(put).collect();
        (bytes, frames)
    }

    /// Reserves room in the last segment, and writes it once: a synced write over blocks that were
    /// written before need not wait for the file system's journal.
    fn make_room(&mut self, bytes: u64, room: Room) -> Result<(), LogError> {
        let spare_bytes = match room {
            Room::Ordinary => self.limits.spare_bytes,
            Room::Spare => 0,
        };
        let wanted = self.end + bytes + spare_bytes;
        if wanted > self.allocated {
            let allocated = wanted.next_multiple_of(self.limits.allocate_bytes);
            let path = segment_path(&self.dir, self.active);
            let Some(segment) = self.segments.get(&self.active) else {
                unreachable!("the active segment is open");
            };
            segment.file.allocate(allocated).map_err(io_error("reserve room in", &path))?;
            let blank_from = self.allocated.max(self.end + bytes);
            write_zeros(&*segment.file, blank_from, allocated).map_err(io_error("fill", &path))?;
            self.allocated = allocated;
        }
        Ok(())
    }

    /// Starts the next segment once the last has its size. On a full disk the last one goes on
    /// while its room lasts.
    fn roll_if_due(&mut self) -> Result<(), LogError> {
        if self.end < self.limits.segment_bytes {
            return Ok(());
        }
        match self.start_segment() {
            Err(StartError::Unnamed(error)) if error.is_full() => Ok(()),
            Err(StartError::Unnamed(error) | StartError::Named(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Makes the next segment. It gets its name only when its head is on disk, so that a segment
    /// with a bad head is damage, never a crash.
    fn start_segment(&mut self) -> Result<(), StartError> {
        let number = self.active + 1;
        let beside = self.dir.join(format!("{number:020}.new"));
        let head = Record::Segment { state: self.state, next_index: self.next_index };
        let mut bytes = Vec::new();
        format::encode(&head, Place { segment: number, position: 0, durable_end: 0 }, &mut bytes);
        let file = self.write_head(&beside, &bytes).map_err(StartError::Unnamed)?;
        let path = segment_path(&self.dir, number);
        let named = self.fs.rename(&beside, &path).and_then(|()| self.fs.sync_dir(&self.dir));
        named.map_err(io_error("name", &path)).map_err(StartError::Named)?;
        self.segments.insert(number, Segment { file, next_index: self.next_index });
        self.active = number;
        self.end = bytes.len() as u64;
        self.allocated = self.limits.allocate_bytes;
        self.committed_on_disk = self.state.committed;
        Ok(())
    }

    fn write_head(&self, path: &Path, head: &[u8]) -> Result<Arc<dyn File>, LogError> {
        if self.fs.size(path).map_err(io_error("look for", path))?.is_some() {
            self.fs.remove(path).map_err(io_error("remove", path))?;
        }
        let file = self.fs.open(path, Mode::CreateNew).map_err(io_error("create", path))?;
        let room = self.limits.allocate_bytes.max(head.len() as u64);
        file.allocate(room).map_err(io_error("reserve room in", path))?;
        file.write_at(&[IoSlice::new(head)], 0).map_err(io_error("write to", path))?;
        write_zeros(&*file, head.len() as u64, room).map_err(io_error("fill", path))?;
        file.sync().map_err(io_error("sync", path))?;
        Ok(file)
    }
}

fn write_zeros(file: &dyn File, from: u64, end: u64) -> std::io::Result<()> {
    let count = usize::try_from(end.saturating_sub(from)).map_err(std::io::Error::other)?;
    if count == 0 { Ok(()) } else { file.write_at(&[IoSlice::new(&vec![0; count])], from) }
}

/// Where making a segment failed.
enum StartError {
    /// Before it was part of the log: the log is as it was.
    Unnamed(LogError),
    /// When it may have become part of the log.
    Named(LogError),
}

#[cfg(test)]
mod tests;
