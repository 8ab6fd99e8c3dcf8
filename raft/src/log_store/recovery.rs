//! Reads a metadata log back: replays its frames, cuts a torn tail, refuses damage.
//!
//! A frame that does not check out ends the log only if no later frame was written on top of it,
//! which every frame tells by its `durable_end`; otherwise it had been on disk and the log is
//! damaged. What is read is what the disk holds: after a mere kill frames may be in memory only, and
//! after a failed sync they are, although the system says otherwise.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_base::env::fs::{File, Fs, Mode};

use super::error::{LogError, io_error};
use super::files::{EntryRef, Segment, segment_path};
use super::format::{self, FrameError, LogState, MAGIC, Record};

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) end: u64,
    pub(super) state: LogState,
    pub(super) entries: VecDeque<EntryRef>,
    pub(super) next_index: u64,
    /// Whether the last frame says that the log was closed.
    pub(super) closed: bool,
    /// Entries below this are in no segment that is here; they must have been purged.
    absent_below: u64,
}

/// Reads the directory. Segments no longer needed and unfinished ones are removed.
pub(super) fn recover(fs: &dyn Fs, dir: &Path) -> Result<Found, LogError> {
    let (numbers, stale) = segment_numbers(fs, dir)?;
    let mut found = Found::default();
    let mut last = None;
    for &number in &numbers {
        let path = segment_path(dir, number);
        let is_last = Some(&number) == numbers.last();
        let mode = if is_last { Mode::Write } else { Mode::Read };
        let file = fs.open(&path, mode).map_err(io_error("open", &path))?;
        if is_last {
            file.sync().map_err(io_error("sync", &path))?;
            file.drop_cached().map_err(io_error("read again", &path))?;
        }
        let bytes = fs.read_all(&path).map_err(io_error("read", &path))?;
        let scan = Scan { path: &path, number, bytes: &bytes, is_last };
        let end = scan.replay(&mut found)?;
        let next_index = scan.head_index(&found);
        found.segments.insert(number, Segment { file: Arc::clone(&file), next_index });
        if is_last {
            last = Some((file, path, bytes, end));
        }
    }
    let purged_end = found.state.purged.map_or(0, |purged| purged.index + 1);
    if found.absent_below > purged_end {
        let before = found.absent_below;
        return Err(LogError::MissingSegments { dir: dir.to_owned(), before });
    }
    if let Some((file, path, bytes, end)) = last {
        found.end = end as u64;
        blank_torn_tail(&*file, &path, &bytes, end)?;
        // A process that was killed may have named the last segment and not yet synced the name.
        // One that closed the log wrote to the segment, hence had.
        if !found.closed {
            fs.sync_dir(dir).map_err(io_error("sync", dir))?;
        }
    }
    for path in stale {
        fs.remove(&path).map_err(io_error("remove", &path))?;
    }
    Ok(found)
}

/// Whether the directory has any segment.
pub(super) fn any_segment(fs: &dyn Fs, dir: &Path) -> Result<bool, LogError> {
    let (numbers, _) = segment_numbers(fs, dir)?;
    Ok(!numbers.is_empty())
}

/// Blanks what follows the last whole frame: a frame written there later must not be continued by
/// a leftover.
fn blank_torn_tail(file: &dyn File, path: &Path, bytes: &[u8], end: usize) -> Result<(), LogError> {
    let tail = bytes.get(end..).unwrap_or_default();
    let Some(last) = tail.iter().rposition(|&byte| byte != 0) else { return Ok(()) };
    let (shown, position) = (path.display(), end);
    tracing::warn!(path = %shown, position, "cutting the torn tail of the metadata log");
    let blank = vec![0; last + 1];
    file.write_synced_at(&[IoSlice::new(&blank)], end as u64).map_err(io_error("cut", path))
}

/// The numbers of the last consecutive segments, and the files that are not needed: unfinished
/// segments, and older ones beyond a gap, left over from a purge whose removals reached the disk
/// in another order.
fn segment_numbers(fs: &dyn Fs, dir: &Path) -> Result<(Vec<u64>, Vec<PathBuf>), LogError> {
    let (mut numbers, mut stale) = (Vec::new(), Vec::new());
    for entry in fs.list(dir).map_err(io_error("list", dir))? {
        if entry.name.ends_with(".new") {
            stale.push(dir.join(&entry.name));
        } else if let Some(number) = entry.name.strip_suffix(".log").and_then(|n| n.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    let gap = numbers.windows(2).rposition(|pair: &[u64]| pair[1] != pair[0] + 1);
    let beyond = numbers.drain(..gap.map_or(0, |at| at + 1));
    stale.extend(beyond.map(|number| segment_path(dir, number)));
    Ok((numbers, stale))
}

/// One segment being read.
struct Scan<'a> {
    path: &'a Path,
    number: u64,
    bytes: &'a [u8],
    is_last: bool,
}

impl Scan<'_> {
    /// Replays the segment's frames; returns where they end.
    fn replay(&self, found: &mut Found) -> Result<usize, LogError> {
        let mut at = 0;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            match format::decode(rest, self.number, at as u64) {
                Ok((header, record)) => {
                    self.apply(found, at, header.frame_len(), record)?;
                    at += header.frame_len();
                }
                Err(reason) if self.is_end(at, &reason) => return Ok(at),
                Err(reason) => {
                    return Err(LogError::Corrupt {
                        path: self.path(),
                        position: at as u64,
                        reason,
                    });
                }
            }
        }
    }

    /// Whether the log may end where no frame could be read.
    fn is_end(&self, at: usize, reason: &FrameError) -> bool {
        let rest = self.bytes.get(at..).unwrap_or_default();
        if at == 0 || reason.is_whole() {
            return false;
        }
        rest.iter().all(|&byte| byte == 0) || (self.is_last && !self.is_written_over(at))
    }

    /// Whether a later frame was written when the bytes at `at` were already on disk.
    fn is_written_over(&self, at: usize) -> bool {
        let magic = MAGIC.to_be_bytes();
        let starts = self.bytes.windows(magic.len()).enumerate().skip(at + 1);
        starts.filter(|(_, window)| **window == magic).any(|(position, _)| {
            let frame = self.bytes.get(position..).unwrap_or_default();
            format::check(frame).is_ok_and(|header| {
                header.place.segment == self.number
                    && header.place.position == position as u64
                    && header.place.durable_end > at as u64
            })
        })
    }

    fn apply(
        &self,
        found: &mut Found,
        at: usize,
        frame_len: usize,
        record: Record,
    ) -> Result<(), LogError> {
        let out_of_sequence =
            |what| LogError::OutOfSequence { path: self.path(), position: at as u64, what };
        found.closed = record == Record::Close;
        match record {
            Record::Segment { state, next_index } => {
                if at != 0 {
                    return Err(out_of_sequence("segment head"));
                }
                let follows = next_index == found.next_index
                    && state.vote == found.state.vote
                    && state.purged == found.state.purged;
                if found.segments.is_empty() {
                    found.next_index = next_index;
                    found.absent_below = next_index;
                } else if !follows {
                    return Err(out_of_sequence("segment head"));
                }
                found.state = state;
            }
            _ if at == 0 => return Err(out_of_sequence("record before the segment's head")),
            Record::Entry(entry) => {
                let log_id = entry.log_id;
                if log_id.index != found.next_index && found.next_index != 0 {
                    return Err(out_of_sequence("entry"));
                }
                let position = at as u64;
                let segment = self.number;
                found.entries.push_back(EntryRef { log_id, segment, position, frame_len });
                found.next_index = log_id.index + 1;
            }
            Record::Vote(vote) => found.state.vote = Some(vote),
            Record::Truncate { from } => {
                while found.entries.back().is_some_and(|entry| entry.log_id.index >= from) {
                    found.entries.pop_back();
                }
                found.next_index = found.next_index.min(from);
                found.absent_below = found.absent_below.min(from);
            }
            Record::Purge(upto) => {
                while found.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
                    found.entries.pop_front();
                }
                found.state.purged = Some(upto);
                found.next_index = found.next_index.max(upto.index + 1);
            }
            Record::Committed(upto) => found.state.committed = Some(upto),
            Record::Close => {}
        }
        Ok(())
    }

    /// The index that the segment's head names.
    fn head_index(&self, found: &Found) -> u64 {
        match format::decode(self.bytes, self.number, 0) {
            Ok((_, Record::Segment { next_index, .. })) => next_index,
            // The replay went through, so the head was read.
            _ => found.next_index,
        }
    }

    fn path(&self) -> PathBuf {
        self.path.to_owned()
    }
}
