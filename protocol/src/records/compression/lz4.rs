//! LZ4 frames (format 1.6.1): independent and linked blocks, content size, all three checksums.
//!
//! The frame layer is ours, over `lz4_flex`'s blocks, for two reasons: a block's buffer follows
//! the compressed bytes and not the 4 MiB the frame may declare, and the validator can tell linked
//! blocks, which librdkafka reads but Java's consumers do not. The C library compresses blocks of
//! the levels that `lz4_flex` has not; it never reads what comes from outside.

use std::hash::Hasher;
use std::ops::RangeInclusive;

use ::lz4::block::CompressionMode;
use twox_hash::XxHash32;

use super::{Chunks, Codec, CompressError, DecompressError};

const CODEC: Codec = Codec::Lz4;
const MAGIC: u32 = 0x184d_2204;
/// Bytes before the optional content size: magic, flags, block descriptor.
const FLAGS_AT: usize = 4;
const VERSION_BITS: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 0b0010_0000;
const BLOCK_CHECKSUM: u8 = 0b0001_0000;
const CONTENT_SIZE: u8 = 0b0000_1000;
const CONTENT_CHECKSUM: u8 = 0b0000_0100;
/// Reserved, and the dictionary id, which no reader of Kafka could resolve.
const REFUSED_FLAGS: u8 = 0b0000_0011;
/// Block descriptor of the Java client: 64 KiB.
const BLOCKS_OF_64_KIB: u8 = 0b0100_0000;
const BLOCK: usize = 64 * 1024;
const UNCOMPRESSED_BIT: u32 = 1 << 31;
/// How far back a linked block may point.
const WINDOW: usize = 64 * 1024;

#[derive(Debug)]
pub(in super::super) struct Lz4Chunks<'a> {
    rest: &'a [u8],
    flags: u8,
    block_size_max: usize,
    content_size: Option<u64>,
    chunk: Vec<u8>,
    /// The last 64 KiB before the current block, kept for linked blocks only.
    window: Vec<u8>,
    produced: u64,
    checksum: XxHash32,
    ended: bool,
}

/// Whether `stream` starts an LZ4 frame whose blocks point into each other.
pub(in super::super) fn has_linked_blocks(stream: &[u8]) -> bool {
    stream.get(FLAGS_AT).is_some_and(|flags| flags & INDEPENDENT == 0)
}

impl<'a> Lz4Chunks<'a> {
    pub(in super::super) fn new(stream: &'a [u8]) -> Result<Self, DecompressError> {
        let corrupt = DecompressError::Corrupt { codec: CODEC };
        let mut rest = stream;
        if take_u32(&mut rest)? != MAGIC {
            return Err(corrupt);
        }
        let descriptor = rest;
        let [flags, block_descriptor] = take::<2>(&mut rest)?;
        if flags & VERSION_BITS != VERSION || flags & REFUSED_FLAGS != 0 {
            return Err(corrupt);
        }
        let block_size_max = match block_descriptor {
            0x40 => 64 * 1024,
            0x50 => 256 * 1024,
            0x60 => 1024 * 1024,
            0x70 => 4 * 1024 * 1024,
            _ => return Err(corrupt),
        };
        let content_size =
            if flags & CONTENT_SIZE == 0 { None } else { Some(take_u64(&mut rest)?) };
        let described = descriptor.len() - rest.len();
        let [check] = take::<1>(&mut rest)?;
        if check != descriptor_check(descriptor.get(..described).unwrap_or_default()) {
            return Err(corrupt);
        }
        Ok(Self {
            rest,
            flags,
            block_size_max,
            content_size,
            chunk: Vec::new(),
            window: Vec::new(),
            produced: 0,
            checksum: XxHash32::with_seed(0),
            ended: false,
        })
    }

    fn linked(&self) -> bool {
        self.flags & INDEPENDENT == 0
    }

    /// Decodes one block; false at the end mark.
    fn next_block(&mut self) -> Result<bool, DecompressError> {
        let corrupt = DecompressError::Corrupt { codec: CODEC };
        let word = take_u32(&mut self.rest)?;
        let size = usize::try_from(word & !UNCOMPRESSED_BIT).map_err(|_| corrupt)?;
        if size == 0 {
            return Ok(false);
        }
        if size > self.block_size_max {
            return Err(corrupt);
        }
        let (block, rest) =
            self.rest.split_at_checked(size).ok_or(DecompressError::Truncated { codec: CODEC })?;
        self.rest = rest;
        if self.flags & BLOCK_CHECKSUM != 0
            && take_u32(&mut self.rest)? != XxHash32::oneshot(0, block)
        {
            return Err(corrupt);
        }
        self.remember();
        if word & UNCOMPRESSED_BIT != 0 {
            self.chunk.extend_from_slice(block);
        } else {
            self.decode(block)?;
        }
        self.produced += self.chunk.len() as u64;
        if self.flags & CONTENT_CHECKSUM != 0 {
            self.checksum.write(&self.chunk);
        }
        Ok(true)
    }

    /// Moves the current piece into the window, leaving an empty one.
    fn remember(&mut self) {
        if self.linked() {
            let kept = WINDOW.saturating_sub(self.chunk.len()).min(self.window.len());
            self.window.drain(..self.window.len() - kept);
            let from = self.chunk.len().saturating_sub(WINDOW);
            self.window.extend_from_slice(self.chunk.get(from..).unwrap_or_default());
        }
        self.chunk.clear();
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), DecompressError> {
        // One byte of a block stands for at most 255 of content.
        let size_max = block.len().saturating_mul(255).saturating_add(16).min(self.block_size_max);
        self.chunk.resize(size_max, 0);
        let written = if self.linked() {
            lz4_flex::block::decompress_into_with_dict(block, &mut self.chunk, &self.window)
        } else {
            lz4_flex::block::decompress_into(block, &mut self.chunk)
        };
        self.chunk.truncate(written.map_err(|_| DecompressError::Corrupt { codec: CODEC })?);
        Ok(())
    }

    /// Checks what the frame said of its whole content, and that nothing follows it.
    fn end(&mut self) -> Result<(), DecompressError> {
        if self.flags & CONTENT_CHECKSUM != 0
            && u64::from(take_u32(&mut self.rest)?) != self.checksum.finish()
        {
            return Err(DecompressError::Corrupt { codec: CODEC });
        }
        if self.content_size.is_some_and(|size| size != self.produced) {
            return Err(DecompressError::Corrupt { codec: CODEC });
        }
        if !self.rest.is_empty() {
            return Err(DecompressError::LeftOver { codec: CODEC });
        }
        self.ended = true;
        Ok(())
    }
}

impl Chunks for Lz4Chunks<'_> {
    fn advance(&mut self) -> Result<bool, DecompressError> {
        while !self.ended {
            if !self.next_block()? {
                self.end()?;
            } else if !self.chunk.is_empty() {
                return Ok(true);
            }
        }
        self.chunk.clear();
        Ok(false)
    }

    fn current(&self) -> &[u8] {
        &self.chunk
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecompressError> {
    let (taken, left) =
        rest.split_first_chunk::<N>().ok_or(DecompressError::Truncated { codec: CODEC })?;
    *rest = left;
    Ok(*taken)
}

#[allow(clippy::little_endian_bytes, reason = "the LZ4 frame format is little-endian")]
fn take_u32(rest: &mut &[u8]) -> Result<u32, DecompressError> {
    take::<4>(rest).map(u32::from_le_bytes)
}

#[allow(clippy::little_endian_bytes, reason = "the LZ4 frame format is little-endian")]
fn take_u64(rest: &mut &[u8]) -> Result<u64, DecompressError> {
    take::<8>(rest).map(u64::from_le_bytes)
}

#[allow(clippy::little_endian_bytes, reason = "the LZ4 frame format is little-endian")]
fn put_u32(stream: &mut Vec<u8>, value: u32) {
    stream.extend_from_slice(&value.to_le_bytes());
}

/// The second byte of the descriptor's hash.
fn descriptor_check(descriptor: &[u8]) -> u8 {
    let [_, _, check, _] = XxHash32::oneshot(0, descriptor).to_be_bytes();
    check
}

/// The default of `compression.lz4.level`: for Kafka, the fast compressor.
const LEVEL_DEFAULT: i32 = 9;
const LEVELS: RangeInclusive<i32> = 1..=17;

/// Any other level is the high compressor's, as in Kafka.
pub(super) fn compress(content: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressError> {
    let level = level.filter(|level| *level != LEVEL_DEFAULT && LEVELS.contains(level));
    let failed = CompressError::Encoder { codec: CODEC };
    let mut stream = Vec::with_capacity(content.len() / 2 + 64);
    put_u32(&mut stream, MAGIC);
    let descriptor = [VERSION | INDEPENDENT, BLOCKS_OF_64_KIB];
    stream.extend_from_slice(&descriptor);
    stream.push(descriptor_check(&descriptor));
    let mut block = vec![0; lz4_flex::block::get_maximum_output_size(content.len().min(BLOCK))];
    for piece in content.chunks(BLOCK) {
        let length = match level {
            None => lz4_flex::block::compress_into(piece, &mut block).map_err(|_| failed)?,
            Some(level) => {
                let mode = CompressionMode::HIGHCOMPRESSION(level);
                ::lz4::block::compress_to_buffer(piece, Some(mode), false, &mut block)
                    .map_err(|_| failed)?
            }
        };
        let (bytes, flag) = match block.get(..length) {
            Some(block) if length < piece.len() => (block, 0),
            Some(_) | None => (piece, UNCOMPRESSED_BIT),
        };
        let length = u32::try_from(bytes.len()).map_err(|_| failed)?;
        put_u32(&mut stream, length | flag);
        stream.extend_from_slice(bytes);
    }
    put_u32(&mut stream, 0);
    Ok(stream)
}
