//! Writes one sorted segment: frames as they come, then the index, then the footer.
//!
//! The file has another name until all of it is on disk, and is synced in pieces on the way, so
//! that its end does not burden the disk with everything at once. Runs where cleaning runs.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_protocol::records::BatchHeader;

use super::file::{BLOCK_BYTES, Entries, Footer, Opened, index_time, open};
use super::first_of;
use crate::env::Fs;
use crate::env::fs::{File, Mode};
use crate::model::QueueId;
use crate::store::error::IoFailure;
use crate::store::frame::{self, HEADER_BYTES, Header};
use crate::store::segment::name;
use crate::store::width::index;

/// Bytes gathered for one write, and bytes written between two syncs.
const WRITE_BYTES: usize = 1 << 20;
const SYNC_BYTES: u64 = 4 << 20;
/// Most entries of one file: they are in memory until it is written.
const ENTRIES_MAX: usize = 1 << 19;

/// See the module.
#[derive(Debug)]
pub(in crate::store) struct SortedWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    number: u64,
    log_tag: u32,
    path: PathBuf,
    file: Arc<dyn File>,
    entries: Entries,
    /// Queue and offset of the last batch.
    last: Option<(QueueId, i64)>,
    /// Bytes given so far, and how many of them are in the file, and of those synced.
    taken: u64,
    written: u64,
    synced: u64,
    buffer: Vec<u8>,
}

impl SortedWriter {
    /// Begins the sorted segment of a number.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(in crate::store) fn create(
        fs: &Arc<dyn Fs>,
        dir: &Path,
        number: u64,
        log_tag: u32,
    ) -> Result<Self, IoFailure> {
        let path = name::unfinished_sorted(dir, number);
        if fs.size(&path).map_err(IoFailure::of("look up", &path))?.is_some() {
            fs.remove(&path).map_err(IoFailure::of("remove", &path))?;
        }
        let file = fs.open(&path, Mode::CreateNew).map_err(IoFailure::of("create", &path))?;
        Ok(Self {
            fs: Arc::clone(fs),
            dir: dir.to_owned(),
            number,
            log_tag,
            path,
            file,
            entries: Entries::default(),
            last: None,
            taken: 0,
            written: 0,
            synced: 0,
            buffer: Vec::new(),
        })
    }

    /// Address of the segment's first byte.
    pub(in crate::store) fn first(&self) -> u64 {
        first_of(self.number)
    }

    /// Whether a batch of `length` bytes has room.
    pub(in crate::store) fn has_room(&self, length: usize, size_bytes_max: u64) -> bool {
        let fits = self.taken + frame::frame_bytes(length) <= size_bytes_max;
        self.entries.count() < ENTRIES_MAX && (fits || self.taken == 0)
    }

    /// Adds a batch behind all others. `header` is that of the frame the batch came in; what
    /// differs is put right here. The batch begins with what a stored one begins with.
    ///
    /// # Errors
    /// The disk failed or is full.
    pub(in crate::store) fn append(
        &mut self,
        header: &Header,
        batch: &[u8],
        parsed: &BatchHeader,
    ) -> Result<(), IoFailure> {
        debug_assert!(self.last < Some((header.queue, header.base_offset)), "sorted");
        let header = Header {
            position: self.first() + self.taken,
            length: frame::length_field(batch),
            body_crc: frame::body_crc(batch),
            // A group was whole before any of it came here.
            flags: 0,
            ..*header
        };
        debug_assert!(header.body_matches(batch), "a batch as it is stored");
        self.last = Some((header.queue, header.base_offset));
        self.entries.push(&header, index_time(parsed));
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(batch);
        let padding = header.frame_bytes() - (HEADER_BYTES + batch.len()) as u64;
        self.pad(padding);
        self.taken += header.frame_bytes();
        if self.buffer.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Ends the file, gives it its name, and opens it.
    ///
    /// # Errors
    /// The disk failed or is full.
    pub(in crate::store) fn finish(mut self) -> Result<Opened, IoFailure> {
        let finished = self.write_end();
        if finished.is_err() {
            // Half of it takes space too. What cannot be removed now, the next start removes.
            drop(self.fs.remove(&self.path));
        }
        finished
    }

    fn write_end(&mut self) -> Result<Opened, IoFailure> {
        let first = self.first();
        let frames_bytes = self.taken;
        self.pad(frames_bytes.next_multiple_of(BLOCK_BYTES) - frames_bytes);
        let entries = std::mem::take(&mut self.entries);
        let bytes = entries.encode(first, self.log_tag, first + frames_bytes);
        self.buffer.extend_from_slice(&bytes);
        let footer = Footer { log_tag: self.log_tag, first, frames_bytes };
        self.buffer.extend_from_slice(&footer.encode());
        self.write()?;
        self.file.sync().map_err(IoFailure::of("sync", &self.path))?;
        let path = name::sorted(&self.dir, self.number);
        self.fs.rename(&self.path, &path).map_err(IoFailure::of("rename", &self.path))?;
        self.fs.sync_dir(&self.dir).map_err(IoFailure::of("sync directory", &self.dir))?;
        open(&self.fs, &path, first, self.log_tag)
    }

    /// Takes back what was written.
    ///
    /// # Errors
    /// The disk failed.
    pub(in crate::store) fn discard(self) -> Result<(), IoFailure> {
        self.fs.remove(&self.path).map_err(IoFailure::of("remove", &self.path))
    }

    fn pad(&mut self, bytes: u64) {
        self.buffer.resize(self.buffer.len() + index(bytes), 0);
    }

    fn write(&mut self) -> Result<(), IoFailure> {
        self.file
            .write_at(&[IoSlice::new(&self.buffer)], self.written)
            .map_err(IoFailure::of("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync().map_err(IoFailure::of("sync", &self.path))?;
            self.synced = self.written;
        }
        Ok(())
    }
}
