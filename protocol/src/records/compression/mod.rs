//! The codecs of record batches, as Kafka's clients write them.
//!
//! Decoding goes piece by piece through [`Chunks`], under a budget for the output and, for zstd,
//! a budget for the window; no piece is larger than what its compressed bytes can become. Encoding
//! gives what the Java client writes: one gzip member, xerial-framed snappy, an LZ4 frame of
//! independent 64 KiB blocks, one zstd frame.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

pub(super) use gzip::GzipChunks;
pub(super) use lz4::{Lz4Chunks, has_linked_blocks};
pub(super) use snappy::SnappyChunks;
pub(super) use zstd::ZstdChunks;

use super::walk::{RecordFault, Source};

/// A codec of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Records as they are.
    None,
    /// gzip members.
    Gzip,
    /// Snappy, xerial-framed (Java) or one raw block (librdkafka).
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// zstd frames.
    Zstd,
}

/// A codec number that Kafka does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression codec {id}")]
pub struct UnknownCodec {
    /// The number in the attributes, 5 to 7.
    pub id: i16,
}

/// Why compressed bytes do not give their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// The stream ends early.
    #[error("{codec:?} stream ends early")]
    Truncated {
        /// The codec.
        codec: Codec,
    },
    /// The stream is not of the codec, or fails its own checksum.
    #[error("{codec:?} stream is corrupt")]
    Corrupt {
        /// The codec.
        codec: Codec,
    },
    /// Bytes follow the end of the stream.
    #[error("bytes follow the {codec:?} stream")]
    LeftOver {
        /// The codec.
        codec: Codec,
    },
    /// The content exceeds the budget.
    #[error("content exceeds {size_bytes_max} bytes")]
    OverBudget {
        /// The budget.
        size_bytes_max: usize,
    },
}

/// Why bytes were not compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// The encoder of the codec refused; none does for bytes in memory and a level in range.
    #[error("{codec:?} encoder failed")]
    Encoder {
        /// The codec.
        codec: Codec,
    },
    /// The content is longer than the codec's length fields can say.
    #[error("content of {size_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        size_bytes: usize,
    },
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this number in the attributes.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_id(id: i16) -> Result<Codec, UnknownCodec> {
        match id {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            id => Err(UnknownCodec { id }),
        }
    }

    /// The codec's number in the attributes.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec's name, as Kafka's `compression.type` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Compresses `content`. The level counts for gzip (1–9), lz4 (1–17) and zstd (as its library has
/// it); without one, or outside its range, the codec's default is taken.
///
/// # Errors
/// When the codec cannot represent the content.
pub fn compress(
    codec: Codec,
    level: Option<i32>,
    content: &[u8],
) -> Result<Vec<u8>, CompressError> {
    match codec {
        Codec::None => Ok(content.to_vec()),
        Codec::Gzip => gzip::compress(content, level),
        Codec::Snappy => snappy::compress(content),
        Codec::Lz4 => lz4::compress(content, level),
        Codec::Zstd => zstd::compress(content, level),
    }
}

/// Decompresses `stream` into at most `size_bytes_max` bytes.
///
/// # Errors
/// When the stream is broken or its content exceeds the budget.
pub fn decompress(
    codec: Codec,
    stream: &[u8],
    size_bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    match codec {
        Codec::None if stream.len() > size_bytes_max => {
            Err(DecompressError::OverBudget { size_bytes_max })
        }
        Codec::None => Ok(stream.to_vec()),
        Codec::Gzip => collect(GzipChunks::new(stream), stream.len(), size_bytes_max),
        Codec::Snappy => {
            collect(SnappyChunks::new(stream, size_bytes_max), stream.len(), size_bytes_max)
        }
        Codec::Lz4 => collect(Lz4Chunks::new(stream)?, stream.len(), size_bytes_max),
        Codec::Zstd => {
            collect(ZstdChunks::new(stream, size_bytes_max)?, stream.len(), size_bytes_max)
        }
    }
}

/// A decoder that yields its content piece by piece.
pub(super) trait Chunks {
    /// Decodes the next piece, never an empty one; false at the proper end of the stream.
    fn advance(&mut self) -> Result<bool, DecompressError>;
    /// The piece decoded last; empty before the first and after the end.
    fn current(&self) -> &[u8];
    /// That piece to keep, from a decoder whose only piece it is.
    fn take_whole(&mut self) -> Option<Vec<u8>> {
        None
    }
}

fn collect<C: Chunks>(
    mut chunks: C,
    stream_len: usize,
    size_bytes_max: usize,
) -> Result<Vec<u8>, DecompressError> {
    let mut content = Vec::new();
    while chunks.advance()? {
        let chunk = chunks.current();
        let room = size_bytes_max - content.len();
        if chunk.len() > room {
            return Err(DecompressError::OverBudget { size_bytes_max });
        }
        if let Some(whole) = chunks.take_whole() {
            return Ok(whole);
        }
        let chunk = chunks.current();
        if content.capacity() - content.len() < chunk.len() {
            let more = content.len().max(chunk.len()).max(stream_len.saturating_mul(2));
            content.reserve_exact(more.min(room));
        }
        content.extend_from_slice(chunk);
    }
    Ok(content)
}

/// A compressed payload as a [`Source`] that holds one piece at a time.
#[derive(Debug)]
pub(super) struct Stream<C> {
    chunks: C,
    /// Bytes of the current piece that are consumed.
    at: usize,
    /// Bytes of all pieces before the current one.
    before: u64,
    size_bytes_max: usize,
}

/// A payload may fail as a stream or as records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamFault {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    #[error(transparent)]
    Record(#[from] RecordFault),
}

impl<C: Chunks> Stream<C> {
    pub(super) fn new(chunks: C, size_bytes_max: usize) -> Self {
        Self { chunks, at: 0, before: 0, size_bytes_max }
    }

    /// Moves on to the next piece; false at the end. The current one is consumed whole.
    #[cold]
    fn refill(&mut self) -> Result<bool, DecompressError> {
        self.before += self.chunks.current().len() as u64;
        self.at = 0;
        let more = self.chunks.advance()?;
        if self.before + self.chunks.current().len() as u64 > self.size_bytes_max as u64 {
            return Err(DecompressError::OverBudget { size_bytes_max: self.size_bytes_max });
        }
        Ok(more)
    }
}

impl<C: Chunks> Source for Stream<C> {
    type Error = StreamFault;

    #[inline]
    fn byte(&mut self) -> Result<u8, StreamFault> {
        loop {
            if let Some(&byte) = self.chunks.current().get(self.at) {
                self.at += 1;
                return Ok(byte);
            }
            if !self.refill()? {
                return Err(RecordFault::Truncated.into());
            }
        }
    }

    #[inline]
    fn skip(&mut self, mut count: usize) -> Result<(), StreamFault> {
        loop {
            let left = self.chunks.current().len() - self.at;
            if count <= left {
                self.at += count;
                return Ok(());
            }
            count -= left;
            if !self.refill()? {
                return Err(RecordFault::Truncated.into());
            }
        }
    }

    #[inline]
    fn consumed(&self) -> u64 {
        self.before + self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, StreamFault> {
        if self.at < self.chunks.current().len() {
            return Ok(false);
        }
        Ok(!self.refill()?)
    }
}

#[cfg(test)]
mod tests;
