//! Reads the frames of one segment file in order, trusting nothing.
//!
//! A frame counts only with the right magic, checksum, log, position and lineage, so neither a
//! recycled file's old frames nor another log's can be taken for this one's. Used by recovery and
//! by the offline tools.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::frame::{ALIGN, HEADER_BYTES, Header, Kind, Lineage, MAGIC};
use super::unreadable::read_around;
use super::width::index;
use crate::env::fs::File;

/// Bytes of a record batch's own header.
const BATCH_HEADER_BYTES: u32 = 61;

/// How far behind a torn place all is searched: more than the largest write of a run.
const DENSE_BYTES: u64 = 16 << 20;
/// How much of each of the further pieces is searched.
const PROBE_BYTES: u64 = 64 << 10;
const PROBE_EVERY_BYTES: u64 = 1 << 20;

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

#[derive(Debug)]
pub(super) struct Scanner {
    file: Arc<dyn File>,
    first: u64,
    end: u64,
    /// What lies behind reads as zeros.
    written_to: u64,
    log_tag: u32,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
    /// Ranges of positions met that the device cannot read; they were taken for zeros.
    unreadable: Vec<Range<u64>>,
}

impl Scanner {
    /// A scanner of the segment with these positions.
    pub(super) fn new(
        file: Arc<dyn File>,
        first: u64,
        size_bytes: u64,
        log_tag: u32,
    ) -> io::Result<Self> {
        // Of a new segment most was never written; asked before anything is read ahead.
        let written = file.data_end()?.min(size_bytes);
        Ok(Self {
            file,
            first,
            end: first + size_bytes,
            written_to: first + written,
            log_tag,
            window: Vec::new(),
            window_at: first,
            window_bytes: index(size_bytes.min(4 << 20)),
            unreadable: Vec::new(),
        })
    }

    /// Position of the segment's first byte.
    pub(super) fn first(&self) -> u64 {
        self.first
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
        position: u64,
        since: Lineage,
    ) -> io::Result<Option<Header>> {
        self.header_within(position..self.end, since)
    }

    /// The first whole header that begins within a range.
    fn header_within(&mut self, range: Range<u64>, since: Lineage) -> io::Result<Option<Header>> {
        let mut position = range.start.next_multiple_of(ALIGN);
        while position < range.end {
            let Some(first) = self.magic_within(position..range.end)? else { return Ok(None) };
            if let Some(header) = self.header_at(first, since)? {
                return Ok(Some(header));
            }
            position = first + ALIGN;
        }
        Ok(None)
    }

    /// A whole header from `position` on, but for one that hides among larger frames far behind:
    /// all of the next [`DENSE_BYTES`] are searched, and then a part of each megabyte. What a run
    /// left behind the end of the log lies within its last write, so this finds out whether the
    /// log goes on without reading all of a used-again segment.
    pub(super) fn any_header_from(
        &mut self,
        position: u64,
        since: Lineage,
    ) -> io::Result<Option<Header>> {
        let dense_end = self.end.min(position.saturating_add(DENSE_BYTES));
        if let Some(header) = self.header_within(position..dense_end, since)? {
            return Ok(Some(header));
        }
        let window_bytes = std::mem::replace(&mut self.window_bytes, index(PROBE_BYTES));
        let mut found = None;
        let mut probe = dense_end;
        while found.is_none() && probe < self.written_to {
            let end = self.end.min(probe + PROBE_BYTES);
            found = self.header_within(probe..end, since)?;
            probe += PROBE_EVERY_BYTES;
        }
        self.window_bytes = window_bytes;
        Ok(found)
    }

    /// Whether the segment begins with a frame.
    pub(super) fn begins(&mut self, since: Lineage) -> io::Result<bool> {
        self.window_bytes = HEADER_BYTES;
        Ok(self.header_at(self.first, since)?.is_some())
    }

    /// The first place within a range where a frame might begin.
    fn magic_within(&mut self, range: Range<u64>) -> io::Result<Option<u64>> {
        let mut position = range.start;
        while position < range.end && position + HEADER_BYTES as u64 <= self.end {
            if self.bytes(position, HEADER_BYTES)?.is_none() {
                return Ok(None);
            }
            let window = self.window.get(index(position - self.window_at)..).unwrap_or_default();
            let (places, _) = window.as_chunks::<ALIGN_BYTES>();
            match first_magic(places) {
                Some(found) => {
                    let found = position + found as u64 * ALIGN;
                    return Ok((found < range.end).then_some(found));
                }
                None => position += (places.len() as u64 * ALIGN).max(ALIGN),
            }
        }
        Ok(None)
    }

    fn holds(&self, position: u64, length: usize) -> bool {
        let window_end = self.window_at + self.window.len() as u64;
        self.window_at <= position && position + length as u64 <= window_end
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

    /// Bytes of the segment; `None` when they reach beyond what was ever written.
    fn bytes(&mut self, position: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let end = position + length as u64;
        if end > self.written_to {
            return Ok(None);
        }
        if !self.holds(position, length) {
            self.read_window(position, length)?;
        }
        let at = index(position - self.window_at);
        Ok(self.window.get(at..at + length))
    }

    fn read_window(&mut self, position: u64, length: usize) -> io::Result<()> {
        let left = index(self.written_to - position);
        self.window.resize(length.max(self.window_bytes).min(left), 0);
        self.window_at = position;
        let (n, bad) = read_around(&*self.file, &mut self.window, position - self.first)?;
        self.window.truncate(n);
        for range in bad {
            let range = self.first + range.start..self.first + range.end;
            if !self.unreadable.contains(&range) {
                self.unreadable.push(range);
            }
        }
        Ok(())
    }

    /// Whether part of a range that was looked at cannot be read.
    pub(super) fn is_unreadable(&self, range: Range<u64>) -> bool {
        self.unreadable.iter().any(|bad| bad.start < range.end && range.start < bad.end)
    }

    /// The first position from `position` on whose block can be read, as far as it was looked at.
    pub(super) fn readable_from(&self, mut position: u64) -> u64 {
        while let Some(bad) = self.unreadable.iter().find(|bad| bad.contains(&position)) {
            position = bad.end;
        }
        position
    }
}

/// Number of the first place that begins with the magic. Looks at many at a time, without a branch
/// for each: this reads the whole rest of a segment after a kill.
fn first_magic(places: &[[u8; ALIGN_BYTES]]) -> Option<usize> {
    const TOGETHER: usize = 64;
    let magic = u64::from(u32::from_be_bytes(MAGIC));
    let is_magic = |place: &[u8; ALIGN_BYTES]| u64::from_be_bytes(*place) >> 32 == magic;
    for (number, group) in places.chunks(TOGETHER).enumerate() {
        if group.iter().fold(false, |found, place| found | is_magic(place)) {
            let within = group.iter().position(is_magic)?;
            return Some(number * TOGETHER + within);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_magic_is_found_wherever_it_is_and_nowhere_else() {
        let mut places = vec![[0xff; ALIGN_BYTES]; 200];
        assert_eq!(first_magic(&places), None);
        for at in [199, 130, 64, 63, 1, 0] {
            places[at][..4].copy_from_slice(&MAGIC);
            assert_eq!(first_magic(&places), Some(at));
        }
        let shifted = [[0, b'B', b'F', b'R', 1, 0, 0, 0]; 3];
        assert_eq!(first_magic(&shifted), None, "frames begin at multiples of eight");
    }
}
