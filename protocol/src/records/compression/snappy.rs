//! Snappy: the xerial framing of the Java client, or one raw block as librdkafka writes it.
//!
//! A block says its length in front, and the length can lie. Snappy's densest element gives 64
//! bytes for three, so a length beyond that is refused before anything is allocated.

use super::{Chunks, Codec, CompressError, DecompressError};

const CODEC: Codec = Codec::Snappy;
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, then the version that wrote and the oldest that can read, four bytes each.
const HEADER: usize = 16;
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Block size of the Java client.
const BLOCK: usize = 32 * 1024;
/// 64 bytes from 3, rounded up.
const RATIO_MAX: usize = 22;

#[derive(Debug)]
pub(in super::super) struct SnappyChunks<'a> {
    rest: &'a [u8],
    framed: bool,
    chunk: Vec<u8>,
    size_bytes_max: usize,
}

impl<'a> SnappyChunks<'a> {
    pub(in super::super) fn new(stream: &'a [u8], size_bytes_max: usize) -> Self {
        let framed = stream.starts_with(&MAGIC) && stream.len() >= HEADER;
        let rest = if framed { stream.get(HEADER..).unwrap_or_default() } else { stream };
        Self { rest, framed, chunk: Vec::new(), size_bytes_max }
    }

    fn next_block(&mut self) -> Result<&'a [u8], DecompressError> {
        if !self.framed {
            return Ok(std::mem::take(&mut self.rest));
        }
        let truncated = DecompressError::Truncated { codec: CODEC };
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(truncated)?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| DecompressError::Corrupt { codec: CODEC })?;
        let (block, rest) = rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = rest;
        Ok(block)
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), DecompressError> {
        let corrupt = DecompressError::Corrupt { codec: CODEC };
        let size = snap::raw::decompress_len(block).map_err(|_| corrupt)?;
        if size > block.len().saturating_mul(RATIO_MAX) {
            return Err(corrupt);
        }
        if size > self.size_bytes_max {
            return Err(DecompressError::OverBudget { size_bytes_max: self.size_bytes_max });
        }
        self.chunk.resize(size, 0);
        let written =
            snap::raw::Decoder::new().decompress(block, &mut self.chunk).map_err(|_| corrupt)?;
        self.chunk.truncate(written);
        Ok(())
    }
}

impl Chunks for SnappyChunks<'_> {
    fn advance(&mut self) -> Result<bool, DecompressError> {
        self.chunk.clear();
        while !self.rest.is_empty() {
            let block = self.next_block()?;
            self.decode(block)?;
            if !self.chunk.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn current(&self) -> &[u8] {
        &self.chunk
    }

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        (!self.framed).then(|| std::mem::take(&mut self.chunk))
    }
}

pub(super) fn compress(content: &[u8]) -> Result<Vec<u8>, CompressError> {
    let failed = CompressError::Encoder { codec: CODEC };
    let mut stream = Vec::with_capacity(HEADER + content.len() / 2 + 64);
    stream.extend_from_slice(&MAGIC);
    stream.extend_from_slice(&VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(content.len().min(BLOCK))];
    for piece in content.chunks(BLOCK) {
        let length = encoder.compress(piece, &mut block).map_err(|_| failed)?;
        let block = block.get(..length).ok_or(failed)?;
        let length = u32::try_from(length).map_err(|_| failed)?;
        stream.extend_from_slice(&length.to_be_bytes());
        stream.extend_from_slice(block);
    }
    Ok(stream)
}
