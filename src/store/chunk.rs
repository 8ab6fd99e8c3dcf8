//! A piece of the ring: page-aligned memory that one writer fills from front to back while any
//! number of readers hold what is already filled. The only `unsafe` of this package.
//!
//! The rule that makes it sound: the one [`ChunkWriter`] touches only bytes at or above `filled`,
//! readers only bytes below it, and `filled` only grows while more than one reference lives. The
//! writer publishes with a release store, readers look with an acquire load; no Rust slice ever
//! spans the boundary. A chunk is reused only by whoever holds the last reference.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions, MmapRaw};

/// Memory for consecutive positions of the log.
pub(super) struct Chunk {
    memory: MmapRaw,
    base: u64,
    filled: AtomicUsize,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("base", &self.base).field("filled", &self.filled()).finish()
    }
}

impl Chunk {
    /// Maps anonymous zeroed memory; pages cost nothing until touched.
    pub(super) fn allocate(size_bytes: usize) -> io::Result<Self> {
        let memory = MmapOptions::new().len(size_bytes).map_anon()?;
        Ok(Self { memory: MmapRaw::from(memory), base: 0, filled: AtomicUsize::new(0) })
    }

    /// Position of its first byte.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.memory.len()
    }

    /// Bytes that readers may see.
    pub(super) fn filled(&self) -> usize {
        self.filled.load(Ordering::Acquire)
    }

    /// Position behind the last byte that readers may see.
    pub(super) fn end(&self) -> u64 {
        self.base + self.filled() as u64
    }

    /// Filled bytes.
    ///
    /// # Panics
    /// When the range is not filled.
    pub(super) fn get(&self, range: Range<usize>) -> &[u8] {
        let filled = self.filled();
        assert!(range.start <= range.end && range.end <= filled, "{range:?} of {filled} filled");
        // SAFETY: the range lies below `filled`, checked above, and `filled` never exceeds the
        // map's length. Bytes below `filled` are initialised and are not written again before
        // `restart`, which needs `&mut self`; the writer stays at or above `filled`.
        #[expect(unsafe_code, reason = "a slice below the published mark")]
        unsafe {
            std::slice::from_raw_parts(self.memory.as_ptr().add(range.start), range.len())
        }
    }

    /// Filled bytes that keep the chunk alive.
    ///
    /// # Panics
    /// When the range is not filled.
    pub(super) fn bytes(self: &Arc<Self>, range: Range<usize>) -> Bytes {
        assert!(range.end <= self.filled(), "{range:?} is not filled");
        Bytes::from_owner(ChunkSlice { chunk: Arc::clone(self), range })
    }

    fn restart(&mut self, base: u64) {
        self.base = base;
        *self.filled.get_mut() = 0;
    }
}

struct ChunkSlice {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl AsRef<[u8]> for ChunkSlice {
    fn as_ref(&self) -> &[u8] {
        self.chunk.get(self.range.clone())
    }
}

/// The one writer of a chunk.
#[derive(Debug)]
pub(super) struct ChunkWriter {
    chunk: Arc<Chunk>,
    at: usize,
}

impl ChunkWriter {
    /// Takes a chunk that nobody else holds for positions from `base` on; gives it back when
    /// somebody does.
    pub(super) fn start(mut chunk: Arc<Chunk>, base: u64) -> Result<Self, Arc<Chunk>> {
        match Arc::get_mut(&mut chunk) {
            Some(alone) => {
                alone.restart(base);
                Ok(Self { chunk, at: 0 })
            }
            None => Err(chunk),
        }
    }

    pub(super) fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    pub(super) fn room(&self) -> usize {
        self.chunk.size_bytes() - self.at
    }

    /// Copies as many of `bytes` as there is room for and publishes them; returns their number.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.room());
        // SAFETY: `at + n` stays within the map, by `room`. No reader looks at or above `filled`,
        // which equals `at`, and this is the only writer: `start` needs the only reference, and
        // hands out no second one. The source is a live slice that cannot overlap: a Rust slice of
        // this chunk lies below `filled`.
        #[expect(unsafe_code, reason = "bytes above the published mark are the writer's own")]
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.chunk.memory.as_mut_ptr().add(self.at),
                n,
            );
        }
        self.at += n;
        self.chunk.filled.store(self.at, Ordering::Release);
        n
    }
}

/// Page-aligned scratch memory of one owner, for the block that a write ends in and for zeros.
pub(super) struct AlignedBuffer(MmapMut);

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuffer").field("len", &self.0.len()).finish()
    }
}

impl AlignedBuffer {
    pub(super) fn allocate(size_bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapOptions::new().len(size_bytes).map_anon()?))
    }

    pub(super) fn get(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn get_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(size: usize) -> ChunkWriter {
        let chunk = Arc::new(Chunk::allocate(size).unwrap());
        ChunkWriter::start(chunk, 4096).unwrap()
    }

    #[test]
    fn appends_stop_at_the_end_and_are_seen_at_once() {
        let mut writer = writer(4096);
        assert_eq!(writer.append(&[1; 4000]), 4000);
        assert_eq!(writer.append(&[2; 200]), 96);
        let chunk = Arc::clone(writer.chunk());
        assert_eq!((chunk.base(), chunk.end(), writer.room()), (4096, 8192, 0));
        assert_eq!(chunk.get(3999..4001), [1, 2]);
    }

    #[test]
    #[should_panic(expected = "filled")]
    fn nothing_above_the_filled_part_can_be_read() {
        let mut writer = writer(4096);
        writer.append(&[1; 10]);
        writer.chunk().get(5..11);
    }

    #[test]
    fn a_chunk_is_not_reused_while_a_slice_of_it_lives() {
        let mut first = writer(4096);
        first.append(b"kept");
        let slice = first.chunk().bytes(0..4);
        let chunk = first.chunk;
        let chunk = ChunkWriter::start(chunk, 0).unwrap_err();
        assert_eq!(slice, b"kept"[..]);
        drop(slice);
        let mut again = ChunkWriter::start(chunk, 0).unwrap();
        again.append(b"new");
        assert_eq!(again.chunk().get(0..3), b"new");
    }

    #[test]
    fn readers_on_other_threads_see_whole_appends_only() {
        let mut writer = writer(1 << 16);
        let chunk = Arc::clone(writer.chunk());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while chunk.filled() < 1 << 16 {
                    let filled = chunk.filled();
                    assert_eq!(filled % 64, 0);
                    let seen = chunk.get(0..filled);
                    for (i, piece) in seen.chunks(64).enumerate() {
                        assert!(piece.iter().all(|b| usize::from(*b) == i % 251));
                    }
                }
            });
            for i in 0u16..1024 {
                writer.append(&[u8::try_from(i % 251).unwrap(); 64]);
            }
        });
    }
}
