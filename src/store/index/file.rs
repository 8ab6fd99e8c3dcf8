//! An index file: a header, a directory sorted by queue, and blocks of entries sorted by queue
//! and offset. docs/formats.md is the law.
//!
//! The header and the directory are checked when the file is opened. A block of entries carries
//! its own checksum, looked at whenever one of its entries is used, so a damaged index is an error
//! and never a wrong answer. Reading may touch cold pages: it belongs on the reader pool.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use std::io;

use bytes::{Buf, BufMut};

use super::mem::{MemIndex, Run};
use super::{Entry, TimeBase};
use crate::env::fs::{File, Map};
use crate::model::QueueId;
use crate::store::frame::Lineage;
use crate::store::width::{index, narrow};

pub(in crate::store) const MAGIC: [u8; 4] = *b"BIX\x01";
const HEADER_BYTES: usize = 64;
/// Where the header counts the queues.
const QUEUES_AT: usize = 32;
const DIRECTORY_ENTRY_BYTES: usize = 48;
const BLOCK_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 32;
const ENTRIES_PER_BLOCK: usize = 127;
const BLOCK_CRC_AT: usize = BLOCK_BYTES - 4;

/// What the file says of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Segment {
    pub(in crate::store) log_tag: u32,
    /// Position of the segment's first byte.
    pub(in crate::store) first: u64,
    /// Position behind its last frame.
    pub(in crate::store) end: u64,
    /// Of its last frame.
    pub(in crate::store) lineage: Lineage,
}

/// What the directory says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct QueueRun {
    pub(in crate::store) queue: QueueId,
    pub(in crate::store) entries: u32,
    first_entry: u32,
    /// Bytes of its batches.
    pub(in crate::store) bytes: u32,
    pub(in crate::store) first_offset: i64,
    pub(in crate::store) next_offset: i64,
    pub(in crate::store) max_timestamp: i64,
}

/// The bytes do not match their checksum, or contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct IndexDamaged;

/// Encodes the index of a segment.
pub(in crate::store) fn encode(segment: Segment, index: &MemIndex) -> Vec<u8> {
    let mut runs: Vec<&Run> = index.runs().iter().filter(|run| !run.entries.is_empty()).collect();
    // Stable: runs of one queue stay in the order of their offsets.
    runs.sort_by_key(|run| run.queue);
    let mut directory: Vec<QueueRun> = Vec::new();
    let mut count = 0usize;
    for run in &runs {
        add_to_directory(&mut directory, run, narrow(count));
        count += run.entries.len();
    }

    let mut encoded_directory = Vec::with_capacity(directory.len() * DIRECTORY_ENTRY_BYTES);
    directory.iter().for_each(|run| put_queue_run(&mut encoded_directory, run));
    let entries_at = (HEADER_BYTES + encoded_directory.len()).next_multiple_of(BLOCK_BYTES);
    let blocks = count.div_ceil(ENTRIES_PER_BLOCK);
    let mut out = Vec::with_capacity(entries_at + blocks * BLOCK_BYTES);
    out.put_slice(&MAGIC);
    out.put_u32(segment.log_tag);
    out.put_u64(segment.first);
    out.put_u64(segment.end);
    out.put_i64(index.time_base().base_ms);
    out.put_u32(narrow(directory.len()));
    out.put_u32(narrow(count));
    out.put_i32(segment.lineage.epoch);
    out.put_u32(segment.lineage.generation);
    out.put_u32(crc32fast::hash(&encoded_directory));
    out.put_u64(u64::from(index.time_base().shift));
    let crc = crc32fast::hash(&out);
    out.put_u32(crc);
    out.extend_from_slice(&encoded_directory);
    out.resize(entries_at, 0);
    let entries: Vec<&Entry> = runs.iter().flat_map(|run| &run.entries).collect();
    for block in entries.chunks(ENTRIES_PER_BLOCK) {
        put_block(&mut out, block);
    }
    out
}

fn add_to_directory(directory: &mut Vec<QueueRun>, run: &Run, first_entry: u32) {
    let (Some(first), Some(last)) = (run.entries.first(), run.entries.last()) else { return };
    let bytes = run.entries.iter().map(|entry| entry.length).sum::<u32>();
    match directory.last_mut() {
        Some(known) if known.queue == run.queue => {
            known.entries += narrow(run.entries.len());
            known.bytes += bytes;
            known.next_offset = last.next();
            known.max_timestamp = known.max_timestamp.max(run.max_timestamp);
        }
        Some(_) | None => directory.push(QueueRun {
            queue: run.queue,
            entries: narrow(run.entries.len()),
            first_entry,
            bytes,
            first_offset: first.base_offset,
            next_offset: last.next(),
            max_timestamp: run.max_timestamp,
        }),
    }
}

fn put_queue_run(out: &mut Vec<u8>, run: &QueueRun) {
    out.put_u32(run.queue.0);
    out.put_u32(run.entries);
    out.put_u32(run.first_entry);
    out.put_u32(run.bytes);
    out.put_i64(run.first_offset);
    out.put_i64(run.next_offset);
    out.put_i64(run.max_timestamp);
    out.put_u64(0);
}

fn get_queue_run(mut bytes: &[u8]) -> Result<QueueRun, IndexDamaged> {
    let damaged = |_| IndexDamaged;
    Ok(QueueRun {
        queue: QueueId(bytes.try_get_u32().map_err(damaged)?),
        entries: bytes.try_get_u32().map_err(damaged)?,
        first_entry: bytes.try_get_u32().map_err(damaged)?,
        bytes: bytes.try_get_u32().map_err(damaged)?,
        first_offset: bytes.try_get_i64().map_err(damaged)?,
        next_offset: bytes.try_get_i64().map_err(damaged)?,
        max_timestamp: bytes.try_get_i64().map_err(damaged)?,
    })
}

fn put_block(out: &mut Vec<u8>, entries: &[&Entry]) {
    let start = out.len();
    for entry in entries {
        out.put_i64(entry.base_offset);
        out.put_i64(entry.max_timestamp);
        out.put_u32(entry.at);
        out.put_u32(entry.length);
        out.put_u32(entry.offsets);
        out.put_u32(entry.store_delta);
    }
    out.resize(start + BLOCK_CRC_AT, 0);
    let crc = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.put_u32(crc);
}

fn get_entry(mut bytes: &[u8]) -> Result<Entry, IndexDamaged> {
    let damaged = |_| IndexDamaged;
    Ok(Entry {
        base_offset: bytes.try_get_i64().map_err(damaged)?,
        max_timestamp: bytes.try_get_i64().map_err(damaged)?,
        at: bytes.try_get_u32().map_err(damaged)?,
        length: bytes.try_get_u32().map_err(damaged)?,
        offsets: bytes.try_get_u32().map_err(damaged)?,
        store_delta: bytes.try_get_u32().map_err(damaged)?,
    })
}

/// An index file, mapped.
pub(in crate::store) struct MappedIndex {
    map: Map,
    segment: Segment,
    time_base: TimeBase,
    queues: usize,
    entries: usize,
}

impl std::fmt::Debug for MappedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedIndex").field("segment", &self.segment).finish_non_exhaustive()
    }
}

impl MappedIndex {
    /// Checks header, directory and size.
    pub(in crate::store) fn open(map: Map) -> Result<Self, IndexDamaged> {
        let bytes = (*map).as_ref();
        let header = bytes.get(..HEADER_BYTES).ok_or(IndexDamaged)?;
        let (covered, crc) = header.split_at_checked(HEADER_BYTES - 4).ok_or(IndexDamaged)?;
        let mut rest = covered.strip_prefix(&MAGIC).ok_or(IndexDamaged)?;
        if crc32fast::hash(covered).to_be_bytes() != *crc {
            return Err(IndexDamaged);
        }
        let (log_tag, first, end) = (rest.get_u32(), rest.get_u64(), rest.get_u64());
        let base_ms = rest.get_i64();
        let (queues, entries) = (rest.get_u32() as usize, rest.get_u32() as usize);
        let (epoch, generation) = (rest.get_i32(), rest.get_u32());
        let lineage = Lineage { generation, epoch };
        let directory_crc = rest.get_u32();
        let shift = u32::try_from(rest.get_u64()).ok().filter(|shift| *shift <= u32::BITS);
        let time_base = TimeBase { base_ms, shift: shift.ok_or(IndexDamaged)? };
        let segment = Segment { log_tag, first, end, lineage };
        let this = Self { segment, time_base, queues, entries, map: Map::clone(&map) };
        let directory = this.directory_bytes().ok_or(IndexDamaged)?;
        let blocks = entries.div_ceil(ENTRIES_PER_BLOCK);
        if crc32fast::hash(directory) != directory_crc
            || bytes.len() != this.entries_at() + blocks * BLOCK_BYTES
        {
            return Err(IndexDamaged);
        }
        Ok(this)
    }

    /// Reads what [`MappedIndex::open`] looks at, of an index that begins somewhere in a file: of
    /// what the device cannot read, a map dies.
    pub(in crate::store) fn probe(file: &dyn File, start: u64) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, start)?;
        let queues: [u8; 4] =
            header.get(QUEUES_AT..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let directory = u64::from(u32::from_be_bytes(queues)) * DIRECTORY_ENTRY_BYTES as u64;
        let end = file.len()?.min(start + HEADER_BYTES as u64 + directory);
        let mut piece = vec![0; 64 << 10];
        for at in (start..end).step_by(piece.len()) {
            file.read_at(&mut piece, at)?;
        }
        Ok(())
    }

    pub(in crate::store) fn segment(&self) -> Segment {
        self.segment
    }

    pub(in crate::store) fn time_base(&self) -> TimeBase {
        self.time_base
    }

    /// The directory, by queue.
    pub(in crate::store) fn queue_runs(
        &self,
    ) -> impl Iterator<Item = Result<QueueRun, IndexDamaged>> + '_ {
        let directory = self.directory_bytes().unwrap_or_default();
        directory.chunks_exact(DIRECTORY_ENTRY_BYTES).map(get_queue_run)
    }

    /// What the directory says of a queue.
    pub(in crate::store) fn queue_run(
        &self,
        queue: QueueId,
    ) -> Result<Option<QueueRun>, IndexDamaged> {
        let directory = self.directory_bytes().unwrap_or_default();
        let (rows, _) = directory.as_chunks::<DIRECTORY_ENTRY_BYTES>();
        let of =
            |row: &[u8; DIRECTORY_ENTRY_BYTES]| row.first_chunk().copied().map(u32::from_be_bytes);
        match rows.binary_search_by_key(&Some(queue.0), of) {
            Ok(found) => rows.get(found).map(|row| get_queue_run(row)).transpose(),
            Err(_) => Ok(None),
        }
    }

    /// A cursor over the entries of a run.
    pub(in crate::store) fn cursor(&self, run: QueueRun) -> Cursor<'_> {
        Cursor { index: self, run, checked: None }
    }

    /// The whole index in memory, every block checked.
    pub(in crate::store) fn to_mem(&self) -> Result<MemIndex, IndexDamaged> {
        let mut runs = Vec::new();
        for run in self.queue_runs() {
            let run = run?;
            let mut cursor = self.cursor(run);
            let entries =
                (0..run.entries).map(|number| cursor.get(number)).collect::<Result<_, _>>()?;
            runs.push(Run { queue: run.queue, entries, max_timestamp: run.max_timestamp });
        }
        Ok(MemIndex::of_runs(self.time_base, runs))
    }

    fn directory_bytes(&self) -> Option<&[u8]> {
        let end = HEADER_BYTES + self.queues * DIRECTORY_ENTRY_BYTES;
        (*self.map).as_ref().get(HEADER_BYTES..end)
    }

    fn entries_at(&self) -> usize {
        (HEADER_BYTES + self.queues * DIRECTORY_ENTRY_BYTES).next_multiple_of(BLOCK_BYTES)
    }

    fn block(&self, number: usize) -> Option<&[u8]> {
        let at = self.entries_at() + number * BLOCK_BYTES;
        (*self.map).as_ref().get(at..at + BLOCK_BYTES)
    }
}

/// Reads entries of one queue; remembers which block it has checked.
#[derive(Debug)]
pub(in crate::store) struct Cursor<'a> {
    index: &'a MappedIndex,
    run: QueueRun,
    checked: Option<usize>,
}

impl Cursor<'_> {
    /// The entry of a number within the run.
    pub(in crate::store) fn get(&mut self, number: u32) -> Result<Entry, IndexDamaged> {
        let entry = index(u64::from(self.run.first_entry) + u64::from(number));
        if number >= self.run.entries || entry >= self.index.entries {
            return Err(IndexDamaged);
        }
        let (block, slot) = (entry / ENTRIES_PER_BLOCK, entry % ENTRIES_PER_BLOCK);
        let bytes = self.index.block(block).ok_or(IndexDamaged)?;
        if self.checked != Some(block) {
            let (covered, crc) = bytes.split_at_checked(BLOCK_CRC_AT).ok_or(IndexDamaged)?;
            if crc32fast::hash(covered).to_be_bytes() != *crc {
                return Err(IndexDamaged);
            }
            self.checked = Some(block);
        }
        get_entry(bytes.get(slot * ENTRY_BYTES..).ok_or(IndexDamaged)?)
    }

    /// Number of the first entry that ends behind `offset`.
    pub(in crate::store) fn seek(&mut self, offset: i64) -> Result<u32, IndexDamaged> {
        let (mut low, mut high) = (0, self.run.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)?.next() <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SEGMENT: Segment = Segment {
        log_tag: 0xfeed,
        first: 8192,
        end: 9000,
        lineage: Lineage { generation: 2, epoch: 3 },
    };

    fn entry(base_offset: i64, at: u32) -> Entry {
        Entry {
            base_offset,
            max_timestamp: 100 + base_offset,
            at,
            length: 70,
            offsets: 3,
            store_delta: 0,
        }
    }

    fn sample(entries: u32) -> MemIndex {
        let mut index = MemIndex::default();
        let (b, a) = (index.open_run(QueueId(9)), index.open_run(QueueId(4)));
        for i in 0..entries {
            index.push(b, 1000 + i64::from(i), entry(i64::from(i) * 3, i * 80));
        }
        index.push(a, 1005, entry(77, 4000));
        let again = index.open_run(QueueId(9));
        index.push(again, 999, entry(i64::from(entries) * 3 + 6, 4080));
        index
    }

    fn open(bytes: Vec<u8>) -> Result<MappedIndex, IndexDamaged> {
        MappedIndex::open(Arc::new(bytes))
    }

    #[test]
    fn the_bytes_of_an_index_are_those_of_the_format() {
        let bytes = encode(SEGMENT, &sample(1));
        assert_eq!(bytes.len(), 2 * 4096);
        let hex = |range: std::ops::Range<usize>| -> String {
            bytes[range].iter().map(|b| format!("{b:02x}")).collect()
        };
        assert_eq!(
            hex(0..48),
            "424958010000feed0000000000002000000000000000232800000000000003e800000002\
             000000030000000300000002"
        );
        assert_eq!(
            hex(64..112),
            "00000004000000010000000000000046000000000000004d000000000000005000000000000000b1\
             0000000000000000"
        );
        assert_eq!(
            hex(4096..4128),
            "000000000000004d00000000000000b100000fa0000000460000000300000005"
        );
        assert_eq!(crc32fast::hash(&bytes[..60]).to_be_bytes(), bytes[60..64]);
        assert_eq!(crc32fast::hash(&bytes[64..160]).to_be_bytes(), bytes[48..52]);
        assert_eq!(crc32fast::hash(&bytes[4096..8188]).to_be_bytes(), bytes[8188..]);
    }

    #[test]
    fn every_entry_is_found_by_every_offset_it_covers() {
        let index = open(encode(SEGMENT, &sample(1000))).unwrap();
        assert_eq!(index.segment(), SEGMENT);
        let run = index.queue_run(QueueId(9)).unwrap().unwrap();
        assert_eq!((run.entries, run.first_offset, run.next_offset), (1001, 0, 3009));
        assert_eq!((run.bytes, run.max_timestamp), (1001 * 70, 3106));
        for offset in 0..3000 {
            let mut cursor = index.cursor(run);
            let number = cursor.seek(offset).unwrap();
            let found = cursor.get(number).unwrap();
            assert!(found.base_offset <= offset && offset < found.next());
        }
        let mut cursor = index.cursor(run);
        let behind_the_gap = cursor.seek(3000).unwrap();
        assert_eq!(cursor.get(behind_the_gap).unwrap().base_offset, 3006);
        assert_eq!(cursor.seek(3009).unwrap(), 1001);
        assert_eq!(index.queue_run(QueueId(5)).unwrap(), None);
        assert_eq!(index.to_mem().unwrap().runs()[1].entries.len(), 1001);
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_touches_nothing() {
        let good = encode(SEGMENT, &sample(3));
        let read = |bytes: &[u8]| -> Result<Vec<Vec<Entry>>, IndexDamaged> {
            let index = open(bytes.to_vec())?.to_mem()?;
            Ok(index.runs().iter().map(|run| run.entries.clone()).collect())
        };
        let whole = read(&good);
        for at in (0..good.len()).filter(|at| *at < 200 || *at > 4090) {
            let mut bent = good.clone();
            bent[at] ^= 0x10;
            let padding = (160..4096).contains(&at);
            assert_eq!(read(&bent) == whole, padding, "byte {at}");
        }
        assert!(read(&good[..good.len() - 1]).is_err());
    }
}
