//! Reads the frames of one segment file in order, trusting nothing.
//!
//! A frame counts only with the right magic, checksum, log, position and lineage, so neither a
//! recycled file's old frames nor another log's can be taken for this one's. Used by recovery and
//! by the offline tools.

use std::io;
use std::sync::Arc;

use super::frame::{ALIGN, HEADER_BYTES, Header, Kind, MAGIC};
use super::width::index;
use crate::env::fs::File;

/// Bytes of a record batch's own header.
const BATCH_HEADER_BYTES: u32 = 61;

const ALIGN_BYTES: usize = 8;
const _: () = assert!(ALIGN_BYTES as u64 == ALIGN, "frames begin at every step of the search");

/// What is at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A whole frame.
    Frame(Header),
    /// A whole header whose payload is not what was written.
    BentBody(Header),
    /// No frame of this log.
    Nothing,
}

/// Epoch and generation.
pub(super) type Lineage = (i32, u32);

#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn File>,
    first: u64,
    end: u64,
    log_tag: u32,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
}

impl Scanner {
    /// A scanner of the segment with these positions.
    pub(super) fn new(file: Arc<dyn File>, first: u64, size_bytes: u64, log_tag: u32) -> Self {
        let window_bytes = index(size_bytes.min(4 << 20));
        let end = first + size_bytes;
        Self { file, first, end, log_tag, window: Vec::new(), window_at: first, window_bytes }
    }

    /// Position behind the segment.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// What is at a position, given the lineage of what comes before.
    pub(super) fn at(&mut self, position: u64, since: Lineage) -> io::Result<Found> {
        let Some(header) = self.header_at(position, since)? else { return Ok(Found::Nothing) };
        if self.payload(&header)?.is_some_and(|payload| header.body_matches(payload)) {
            Ok(Found::Frame(header))
        } else {
            Ok(Found::BentBody(header))
        }
    }

    /// The payload of a frame whose header is known, as far as it is in the file.
    pub(super) fn payload(&mut self, header: &Header) -> io::Result<Option<&[u8]>> {
        let length = if header.kind == Kind::Filler { 0 } else { header.length };
        self.bytes(header.position + HEADER_BYTES as u64, length as usize)
    }

    /// The first whole header from `position` on.
    pub(super) fn header_from(
        &mut self,
        mut position: u64,
        since: Lineage,
    ) -> io::Result<Option<Header>> {
        position = position.next_multiple_of(ALIGN);
        while position + HEADER_BYTES as u64 <= self.end {
            let Some(first) = self.magic_from(position)? else { return Ok(None) };
            if let Some(header) = self.header_at(first, since)? {
                return Ok(Some(header));
            }
            position = first + ALIGN;
        }
        Ok(None)
    }

    /// Whether the segment begins with a frame.
    pub(super) fn begins(&mut self, since: Lineage) -> io::Result<bool> {
        self.window_bytes = HEADER_BYTES;
        Ok(self.header_at(self.first, since)?.is_some())
    }

    /// The first place from `position` on where a frame might begin.
    fn magic_from(&mut self, mut position: u64) -> io::Result<Option<u64>> {
        while position + HEADER_BYTES as u64 <= self.end {
            if self.bytes(position, HEADER_BYTES)?.is_none() {
                return Ok(None);
            }
            let window = self.window.get(index(position - self.window_at)..).unwrap_or_default();
            let (places, _) = window.as_chunks::<ALIGN_BYTES>();
            match places.iter().position(|place| place.starts_with(&MAGIC)) {
                Some(found) => return Ok(Some(position + found as u64 * ALIGN)),
                None => position += (places.len() as u64 * ALIGN).max(ALIGN),
            }
        }
        Ok(None)
    }

    fn header_at(&mut self, position: u64, since: Lineage) -> io::Result<Option<Header>> {
        let (log_tag, end) = (self.log_tag, self.end);
        let Some(bytes) = self.bytes(position, HEADER_BYTES)? else { return Ok(None) };
        Ok(Header::parse(bytes).filter(|header| {
            let fits = match header.kind {
                Kind::Filler => header.end() == end,
                Kind::Data => header.length >= BATCH_HEADER_BYTES && header.end() <= end,
                Kind::Start
                | Kind::EpochStart
                | Kind::LogStart
                | Kind::QueueDropped
                | Kind::Mark => header.length == 0 && header.end() <= end,
            };
            fits && header.log_tag == log_tag
                && header.position == position
                && header.lineage() >= since
        }))
    }

    /// Bytes of the segment; `None` when they reach beyond it or beyond the file.
    fn bytes(&mut self, position: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let end = position + length as u64;
        if end > self.end {
            return Ok(None);
        }
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || end > window_end {
            self.read_window(position, length)?;
        }
        let at = index(position - self.window_at);
        Ok(self.window.get(at..at + length))
    }

    fn read_window(&mut self, position: u64, length: usize) -> io::Result<()> {
        let left = index(self.end - position);
        self.window.resize(length.max(self.window_bytes).min(left), 0);
        self.window_at = position;
        let n = self.file.read_at(&mut self.window, position - self.first)?;
        self.window.truncate(n);
        Ok(())
    }
}
