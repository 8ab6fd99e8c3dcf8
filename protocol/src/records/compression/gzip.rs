//! gzip: members in a row, as Java's reader takes them; each checked against its own CRC.

use std::io::{ErrorKind, Read, Write};

use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Chunks, Codec, CompressError, DecompressError};

const CODEC: Codec = Codec::Gzip;
const CHUNK: usize = 32 * 1024;

#[derive(Debug)]
pub(in super::super) struct GzipChunks<'a> {
    decoder: MultiGzDecoder<&'a [u8]>,
    chunk: Box<[u8]>,
    filled: usize,
}

impl<'a> GzipChunks<'a> {
    pub(in super::super) fn new(stream: &'a [u8]) -> Self {
        // Deflate gives at most 1032 bytes for one: a small stream needs no large buffer.
        let size = stream.len().saturating_mul(1032).clamp(1, CHUNK);
        Self {
            decoder: MultiGzDecoder::new(stream),
            chunk: vec![0; size].into_boxed_slice(),
            filled: 0,
        }
    }
}

impl Chunks for GzipChunks<'_> {
    fn advance(&mut self) -> Result<bool, DecompressError> {
        self.filled = 0;
        // Filled up, so that the pieces do not get small where the deflate blocks are.
        while self.filled < self.chunk.len() {
            let (_, room) = self.chunk.split_at_mut(self.filled);
            match self.decoder.read(room) {
                Ok(0) => break,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Err(DecompressError::Truncated { codec: CODEC });
                }
                Err(_) => return Err(DecompressError::Corrupt { codec: CODEC }),
            }
        }
        Ok(self.filled > 0)
    }

    fn current(&self) -> &[u8] {
        self.chunk.get(..self.filled).unwrap_or_default()
    }
}

pub(super) fn compress(content: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressError> {
    let level = level
        .and_then(|level| u32::try_from(level).ok())
        .filter(|level| (1..=9).contains(level))
        .map_or_else(Compression::default, Compression::new);
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 2 + 32), level);
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .map_err(|_| CompressError::Encoder { codec: CODEC })
}
