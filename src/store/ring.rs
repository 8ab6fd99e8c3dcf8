//! The recent end of the log in memory: chunks in order of position, the last being filled.
//!
//! Owned by the shard's state, under its lock; readers and the writer thread take references to
//! chunks and work outside it. Chunks that are durable and exceed the budget are taken out; one
//! that nobody holds is filled again, one that a reader still holds is freed when he lets go.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::chunk::{Chunk, ChunkWriter};
use super::config::BLOCK_BYTES;
use super::width::index;

/// Part of a chunk.
pub(super) type Piece = (Arc<Chunk>, Range<usize>);

#[derive(Debug)]
pub(super) struct Ring {
    chunks: VecDeque<Arc<Chunk>>,
    writer: Option<ChunkWriter>,
    free: Vec<Arc<Chunk>>,
    chunk_size_bytes: usize,
    size_bytes_max: usize,
}

impl Ring {
    pub(super) fn new(chunk_size_bytes: usize, size_bytes_max: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            writer: None,
            free: Vec::new(),
            chunk_size_bytes,
            size_bytes_max,
        }
    }

    /// First position held, if any.
    pub(super) fn start(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.base())
    }

    /// Bytes of memory mapped for it.
    pub(super) fn mapped_bytes(&self) -> usize {
        (self.chunks.len() + self.free.len()) * self.chunk_size_bytes
    }

    /// Makes sure that appending `bytes` bytes in all, with at most one jump, cannot fail; takes
    /// out what lies below `durable` and exceeds the budget.
    pub(super) fn reserve(&mut self, bytes: u64, jumps: bool, durable: u64) -> io::Result<()> {
        if !jumps && self.writer.as_ref().is_some_and(|w| w.room() as u64 >= bytes) {
            return Ok(());
        }
        let needed = index(bytes).div_ceil(self.chunk_size_bytes) + if jumps { 2 } else { 1 };
        self.trim(needed, durable);
        while self.free.len() < needed {
            self.free.push(Arc::new(Chunk::allocate(self.chunk_size_bytes)?));
        }
        Ok(())
    }

    /// Appends behind what is there, or, after a jump, at the start of a block.
    ///
    /// # Panics
    /// When the room was not reserved.
    pub(super) fn append(&mut self, mut position: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let writer = match &mut self.writer {
                Some(writer) if writer.room() > 0 && writer.chunk().end() == position => writer,
                Some(_) | None => {
                    let next = self.start_chunk(position);
                    self.writer.insert(next)
                }
            };
            let n = writer.append(bytes);
            position += n as u64;
            bytes = &bytes[n..];
        }
    }

    /// The pieces that hold a range which does not jump; `None` when part of it is gone.
    pub(super) fn pieces(&self, range: Range<u64>) -> Option<Vec<Piece>> {
        let first = self.chunks.partition_point(|chunk| chunk.end() <= range.start);
        pieces_in(self.chunks.range(first..), range)
    }

    /// The chunks that touch a range.
    pub(super) fn chunks_in(&self, range: Range<u64>) -> impl Iterator<Item = &Arc<Chunk>> {
        let first = self.chunks.partition_point(|chunk| chunk.end() <= range.start);
        self.chunks.range(first..).take_while(move |chunk| chunk.base() < range.end)
    }

    fn start_chunk(&mut self, base: u64) -> ChunkWriter {
        assert!(base.is_multiple_of(BLOCK_BYTES), "chunks begin with a block, not at {base}");
        self.writer = None;
        loop {
            let Some(chunk) = self.free.pop() else {
                unreachable!("appends reserve their chunks before");
            };
            // A chunk that somebody still holds is dropped: `trim` frees only lonely ones.
            if let Ok(writer) = ChunkWriter::start(chunk, base) {
                self.chunks.push_back(Arc::clone(writer.chunk()));
                return writer;
            }
        }
    }

    fn trim(&mut self, coming: usize, durable: u64) {
        let held = |ring: &Self| (ring.chunks.len() + coming) * ring.chunk_size_bytes;
        while held(self) > self.size_bytes_max
            && self.chunks.len() > 1
            && self.chunks.front().is_some_and(|chunk| chunk.end() <= durable)
        {
            if let Some(mut chunk) = self.chunks.pop_front()
                && Arc::get_mut(&mut chunk).is_some()
                && self.free.len() < coming
            {
                self.free.push(chunk);
            }
        }
    }
}

/// The pieces of `chunks`, which are in order, that hold a range; `None` when they do not.
pub(super) fn pieces_in<'a>(
    chunks: impl IntoIterator<Item = &'a Arc<Chunk>>,
    range: Range<u64>,
) -> Option<Vec<Piece>> {
    let mut at = range.start;
    let mut pieces = Vec::with_capacity(1);
    for chunk in chunks {
        if at >= range.end {
            break;
        }
        if chunk.end() <= at {
            continue;
        }
        if chunk.base() > at {
            return None;
        }
        let end = range.end.min(chunk.end());
        pieces.push((Arc::clone(chunk), index(at - chunk.base())..index(end - chunk.base())));
        at = end;
    }
    (at >= range.end).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ring: &Ring, range: Range<u64>) -> Option<Vec<u8>> {
        let pieces = ring.pieces(range)?;
        Some(pieces.iter().flat_map(|(chunk, range)| chunk.get(range.clone()).to_vec()).collect())
    }

    #[test]
    fn what_was_appended_is_read_back_across_chunks() {
        let mut ring = Ring::new(4096, 3 * 4096);
        let bytes: Vec<u8> = (0..10_000u32).map(|i| i.to_be_bytes()[3]).collect();
        ring.reserve(10_000, false, 0).unwrap();
        ring.append(8192, &bytes);
        assert_eq!(read(&ring, 8192..18_192).unwrap(), bytes);
        assert_eq!(read(&ring, 12_000..12_500).unwrap(), bytes[3808..4308]);
        assert_eq!(read(&ring, 8191..8193), None);
        assert_eq!(read(&ring, 18_000..18_193), None);
    }

    #[test]
    fn a_jump_begins_a_new_chunk_and_the_gap_cannot_be_read() {
        let mut ring = Ring::new(4096, 1 << 20);
        ring.reserve(20, true, 0).unwrap();
        ring.append(0, &[1; 10]);
        ring.append(4096, &[2; 10]);
        assert_eq!(read(&ring, 0..10).unwrap(), [1; 10]);
        assert_eq!(read(&ring, 4096..4106).unwrap(), [2; 10]);
        assert_eq!(read(&ring, 5..4100), None);
    }

    #[test]
    fn only_durable_chunks_leave_and_the_budget_is_kept() {
        let mut ring = Ring::new(4096, 2 * 4096);
        let put = |ring: &mut Ring, at: u64, durable: u64| {
            ring.reserve(4096, false, durable).unwrap();
            ring.append(at, &[7; 4096]);
        };
        for i in 0..4 {
            put(&mut ring, i * 4096, 0);
        }
        assert_eq!(ring.start(), Some(0), "nothing was durable");
        for i in 4..20 {
            put(&mut ring, i * 4096, i * 4096);
        }
        assert!(ring.mapped_bytes() <= 3 * 4096, "{}", ring.mapped_bytes());
        assert_eq!(ring.start(), Some(18 * 4096));
    }
}
