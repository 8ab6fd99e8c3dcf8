//! The file of a sorted segment: frames, index, footer. Opening it, also with its end damaged.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use bytes::{Buf, BufMut};

use crate::env::Fs;
use crate::env::fs::{File, Map, Mode, is_unreadable};
use crate::model::Position;
use crate::store::error::{Damage, DamageReason, IoFailure};
use crate::store::frame::{Header, Lineage};
use crate::store::index::{Entry, MappedIndex, MemIndex, Run, TimeBase, file as index_file};
use crate::store::scan::{Found, Scanner};
use crate::store::segment::{Segment, SegmentReader};
use crate::store::width::{index, narrow64};

const MAGIC: [u8; 4] = *b"BST\x01";
/// Bytes of the footer, which ends the file.
const FOOTER_BYTES: usize = 32;
/// The index begins at a multiple of this.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// What ends the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) log_tag: u32,
    /// Address of the segment's first byte.
    pub(super) first: u64,
    /// Bytes of frames.
    pub(super) frames_bytes: u64,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_BYTES);
        out.put_slice(&MAGIC);
        out.put_u32(self.log_tag);
        out.put_u64(self.first);
        out.put_u64(self.frames_bytes);
        out.put_u32(0);
        out.put_u32(crc32fast::hash(&out));
        out
    }

    fn decode(bytes: &[u8; FOOTER_BYTES]) -> Option<Self> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(covered).to_be_bytes() != *crc {
            return None;
        }
        let mut rest = covered.strip_prefix(&MAGIC)?;
        Some(Self { log_tag: rest.get_u32(), first: rest.get_u64(), frames_bytes: rest.get_u64() })
    }

    fn index_range(&self, file_bytes: u64) -> Option<Range<usize>> {
        let start = self.frames_bytes.checked_next_multiple_of(BLOCK_BYTES)?;
        let end = file_bytes.checked_sub(FOOTER_BYTES as u64)?;
        (start <= end).then_some(index(start)..index(end))
    }
}

/// Where the frames of a file end, and its index, if both are whole.
///
/// # Errors
/// The file cannot be read.
pub(in crate::store) fn frames_and_index(
    fs: &Arc<dyn Fs>,
    path: &Path,
    first: u64,
    log_tag: u32,
) -> Result<Option<(u64, MappedIndex)>, IoFailure> {
    let file = fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
    let map = file.map().map_err(IoFailure::of("map", path))?;
    let index = own_index(&*file, &map, first, log_tag).map_err(IoFailure::of("read", path))?;
    Ok(index.map(|index| (index.segment().end, index)))
}

/// A sorted segment that was brought back.
#[derive(Debug)]
pub(in crate::store) struct Opened {
    pub(in crate::store) segment: Segment,
    /// Its end was damaged; the index was made again from the frames, and this is wrong with them.
    pub(in crate::store) damage: Option<Vec<Damage>>,
}

/// Opens the sorted segment of an address.
///
/// # Errors
/// The file cannot be read. Damage is no error.
pub(in crate::store) fn open(
    fs: &Arc<dyn Fs>,
    path: &Path,
    first: u64,
    log_tag: u32,
) -> Result<Opened, IoFailure> {
    let file = fs.open(path, Mode::Read).map_err(IoFailure::of("open", path))?;
    let map = file.map().map_err(IoFailure::of("map", path))?;
    let size_bytes = (*map).as_ref().len() as u64;
    let found = own_index(&*file, &map, first, log_tag).map_err(IoFailure::of("read", path))?;
    let (mapped, damage) = match found {
        Some(mapped) => (mapped, None),
        None => {
            tracing::error!(path = %path.display(), "a sorted segment's index is damaged: made again");
            let (entries, damage) = Scanner::new(file, first, size_bytes - size_bytes % 8, log_tag)
                .and_then(|scanner| read_frames(scanner, path))
                .map_err(IoFailure::of("read", path))?;
            let made: Map = Arc::new(entries.encode(first, log_tag, first + size_bytes));
            let wrong = |_| IoFailure {
                operation: "index",
                path: path.to_owned(),
                source: io::ErrorKind::InvalidData.into(),
            };
            (MappedIndex::open(made).map_err(wrong)?, Some(damage))
        }
    };
    let total_bytes = mapped.queue_runs().flatten().map(|run| u64::from(run.bytes)).sum();
    let segment = Segment {
        first,
        size_bytes,
        closed_at: Some(mapped.segment().end),
        live: 0,
        live_bytes: 0,
        total_bytes,
        lineage: Lineage::FIRST,
        written_to: first,
        reader: Arc::new(SegmentReader::mapped(fs, path, first, (map, mapped))),
        direct: None,
        mem: None,
    };
    Ok(Opened { segment, damage })
}

/// The index behind the frames, if it and the footer are whole.
fn own_index(
    file: &dyn File,
    map: &Map,
    first: u64,
    log_tag: u32,
) -> io::Result<Option<MappedIndex>> {
    let file_bytes = file.len()?;
    let mut footer = [0; FOOTER_BYTES];
    let read = file.read_at(&mut footer, file_bytes.saturating_sub(FOOTER_BYTES as u64));
    let probed = read.map(|_| Footer::decode(&footer)).and_then(|footer| {
        let ours = footer.filter(|footer| footer.first == first && footer.log_tag == log_tag);
        let range = ours.and_then(|footer| footer.index_range(file_bytes));
        range.map(|range| MappedIndex::probe(file, range.start as u64).map(|()| range)).transpose()
    });
    let range = match probed {
        Ok(Some(range)) => range,
        Ok(None) => return Ok(None),
        Err(error) if is_unreadable(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let part = Part { map: Map::clone(map), range };
    let Ok(index) = MappedIndex::open(Arc::new(part)) else { return Ok(None) };
    let of = index.segment();
    Ok((of.first == first && of.log_tag == log_tag).then_some(index))
}

/// Part of a map.
struct Part {
    map: Map,
    range: Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        (*self.map).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

/// What stands in a sorted segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Seen {
    /// A whole frame.
    Frame(Header),
    /// A frame whose batch is damaged.
    Bent(Header),
    /// Frames are lost from here on.
    Lost(u64),
}

/// Steps through the frames of a sorted segment, and returns where they end.
///
/// # Errors
/// The file cannot be read, or what `each` says.
pub(in crate::store) fn walk<E: From<io::Error>>(
    scanner: &mut Scanner,
    mut each: impl FnMut(Seen, &mut Scanner) -> Result<(), E>,
) -> Result<u64, E> {
    // Frames of all times lie side by side.
    let since = Lineage::FIRST;
    let mut at = scanner.first();
    loop {
        let (seen, next) = match scanner.at(at, since)? {
            Found::Frame(header) => (Seen::Frame(header), header.end()),
            Found::BentBody(header) => (Seen::Bent(header), header.end()),
            Found::Nothing => match scanner.header_from(at + 1, since)? {
                Some(header) => (Seen::Lost(at), header.position),
                None => return Ok(at),
            },
        };
        each(seen, scanner)?;
        at = next;
    }
}

/// Reads all frames of a file whose index is lost.
fn read_frames(mut scanner: Scanner, path: &Path) -> io::Result<(Entries, Vec<Damage>)> {
    let (mut entries, mut damage) = (Entries::default(), Vec::new());
    walk(&mut scanner, |seen, scanner| {
        let mut found = |at, reason| {
            damage.push(Damage { path: path.to_owned(), at: Position(at), reason });
        };
        match seen {
            Seen::Frame(header) => {
                let batch = scanner.payload(&header)?.and_then(|it| BatchHeader::parse(it).ok());
                let max_timestamp = batch.map_or(header.store_time_ms, |batch| index_time(&batch));
                entries.push(&header, max_timestamp);
            }
            Seen::Bent(header) => {
                found(header.position, DamageReason::Body);
                entries.push(&header, header.store_time_ms);
            }
            Seen::Lost(at) => found(at, DamageReason::Header),
        }
        Ok::<_, io::Error>(())
    })?;
    Ok((entries, damage))
}

/// The timestamp by which the index finds a batch. One that compaction emptied is found by none.
pub(super) fn index_time(batch: &BatchHeader) -> i64 {
    if batch.records_count == 0 { -1 } else { batch.max_timestamp }
}

/// The entries of a sorted segment being made, in the order of its frames.
#[derive(Debug, Default)]
pub(super) struct Entries {
    runs: Vec<Run>,
    /// Store times, as the entries come.
    times: Vec<i64>,
}

impl Entries {
    pub(super) fn count(&self) -> usize {
        self.times.len()
    }

    /// Adds a frame behind all others.
    pub(super) fn push(&mut self, frame: &Header, max_timestamp: i64) {
        if self.runs.last().is_none_or(|run| run.queue != frame.queue) {
            let (queue, entries) = (frame.queue, Vec::new());
            self.runs.push(Run { queue, entries, max_timestamp: i64::MIN });
        }
        let Some(run) = self.runs.last_mut() else { return };
        run.max_timestamp = run.max_timestamp.max(max_timestamp);
        run.entries.push(Entry {
            base_offset: frame.base_offset,
            max_timestamp,
            at: narrow64(frame.position & u64::from(u32::MAX)),
            length: frame.length,
            offsets: frame.offsets,
            store_delta: 0,
        });
        self.times.push(frame.store_time_ms);
    }

    /// The bytes of the index.
    pub(super) fn encode(mut self, first: u64, log_tag: u32, end: u64) -> Vec<u8> {
        let (earliest, latest) = (self.times.iter().min(), self.times.iter().max());
        let time_base = TimeBase::spanning(*earliest.unwrap_or(&0), *latest.unwrap_or(&0));
        let entries = self.runs.iter_mut().flat_map(|run| &mut run.entries);
        for (entry, time_ms) in entries.zip(&self.times) {
            entry.store_delta = time_base.steps(*time_ms);
        }
        let segment = index_file::Segment { log_tag, first, end, lineage: Lineage::FIRST };
        index_file::encode(segment, &MemIndex::of_runs(time_base, self.runs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_footer_are_those_of_the_format() {
        let footer = Footer { log_tag: 0xfeed, first: 7 << 32 | 1 << 63, frames_bytes: 0x1388 };
        let bytes = footer.encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex[..56], *"425354010000feed8000000700000000000000000000138800000000");
        assert_eq!(bytes[28..], crc32fast::hash(&bytes[..28]).to_be_bytes());
        let decode = |bytes: &[u8]| Footer::decode(bytes.first_chunk().unwrap());
        assert_eq!(decode(&bytes), Some(footer));
        assert_eq!(footer.index_range(3 * 4096 + 32), Some(8192..12_288));
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bent), None, "bit {bit}");
        }
    }
}
