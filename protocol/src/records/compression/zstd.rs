//! zstd frames in a row, streamed, with the window held to 128 MiB.
//!
//! 2^27 is libzstd's own limit and what the producers' highest levels (20–22 of the Java client
//! and librdkafka) declare, so a smaller one would refuse batches Kafka takes. It is an address
//! range and not memory: pages of the window are touched only as content is written, so the cost
//! of a hostile frame stays within the content's budget.

use std::cell::RefCell;

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    max_c_level, min_c_level,
};

use super::{Chunks, Codec, CompressError, DecompressError};

const CODEC: Codec = Codec::Zstd;
const WINDOW_LOG_MAX: u32 = 27;
const CHUNK: usize = 32 * 1024;
/// Decoders of default levels stay below this (a window of 2 MiB) and are kept by their thread.
const KEPT_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;
const LEVEL_DEFAULT: i32 = 3;

thread_local! {
    /// Building a decoder costs more than decoding a small batch.
    static IDLE: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(in super::super) struct ZstdChunks<'a> {
    /// Present until dropped.
    decoder: Option<DCtx<'static>>,
    rest: &'a [u8],
    chunk: Vec<u8>,
    /// Whether the stream stands between frames.
    between_frames: bool,
}

impl std::fmt::Debug for ZstdChunks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdChunks").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

impl<'a> ZstdChunks<'a> {
    pub(in super::super) fn new(stream: &'a [u8]) -> Self {
        Self { decoder: IDLE.take(), rest: stream, chunk: Vec::new(), between_frames: true }
    }

    fn fill(&mut self) -> Result<(), DecompressError> {
        let corrupt = DecompressError::Corrupt { codec: CODEC };
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            empty => empty.insert(new_decoder()?),
        };
        self.chunk.clear();
        self.chunk.reserve_exact(CHUNK);
        let mut output = OutBuffer::around(&mut self.chunk);
        let mut input = InBuffer::around(self.rest);
        loop {
            let before = (input.pos(), output.pos());
            let hint = decoder.decompress_stream(&mut output, &mut input).map_err(|_| corrupt)?;
            self.between_frames = hint == 0;
            let stuck = before == (input.pos(), output.pos());
            let drained = input.pos() == self.rest.len() && output.pos() < output.capacity();
            if stuck || drained || output.pos() == output.capacity() {
                break;
            }
        }
        let consumed = input.pos();
        self.rest = self.rest.get(consumed..).unwrap_or_default();
        Ok(())
    }
}

fn new_decoder() -> Result<DCtx<'static>, DecompressError> {
    let corrupt = DecompressError::Corrupt { codec: CODEC };
    let mut decoder = DCtx::try_create().ok_or(corrupt)?;
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|_| corrupt)?;
    Ok(decoder)
}

impl Chunks for ZstdChunks<'_> {
    fn advance(&mut self) -> Result<bool, DecompressError> {
        // Content may wait inside the decoder after the last input byte.
        if self.rest.is_empty() && self.between_frames {
            self.chunk.clear();
            return Ok(false);
        }
        self.fill()?;
        if !self.chunk.is_empty() {
            return Ok(true);
        }
        if self.rest.is_empty() && self.between_frames {
            return Ok(false);
        }
        Err(DecompressError::Truncated { codec: CODEC })
    }

    fn current(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for ZstdChunks<'_> {
    fn drop(&mut self) {
        if let Some(mut decoder) = self.decoder.take()
            && decoder.sizeof() <= KEPT_SIZE_BYTES_MAX
            && decoder.reset(ResetDirective::SessionOnly).is_ok()
        {
            IDLE.set(Some(decoder));
        }
    }
}

pub(super) fn compress(content: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressError> {
    let failed = CompressError::Encoder { codec: CODEC };
    let level = level
        .filter(|level| (min_c_level()..=max_c_level()).contains(level))
        .unwrap_or(LEVEL_DEFAULT);
    let mut encoder = CCtx::try_create().ok_or(failed)?;
    encoder.set_parameter(CParameter::CompressionLevel(level)).map_err(|_| failed)?;
    let mut stream = Vec::with_capacity(compress_bound(content.len()));
    encoder.compress2(&mut stream, content).map_err(|_| failed)?;
    stream.shrink_to_fit();
    Ok(stream)
}
