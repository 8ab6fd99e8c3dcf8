//! zstd frames in a row.
//!
//! Frames with a window of up to 4 MiB, which all levels below 17 write, are streamed. One of a
//! wider window is decoded in one go, because then its content serves as the window: streaming it
//! would hold both. The widest is 2^27, libzstd's own limit for streams, as the producers' levels
//! 20 to 22 declare it whatever they write; consumers refuse wider ones.

use std::cell::RefCell;

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    get_error_name, get_frame_content_size, max_c_level, min_c_level,
};

use super::{Chunks, Codec, CompressError, DecompressError};

const CODEC: Codec = Codec::Zstd;
const WINDOW_MAX: u64 = 1 << 27;
const STREAMED_WINDOW_LOG_MAX: u32 = 22;
const CHUNK: usize = 32 * 1024;
/// A block gives at most 128 KiB and takes at least four bytes.
const RATIO_MAX: usize = 32 * 1024;
/// Decoders of default levels stay below this (a window of 2 MiB) and are kept by their thread.
const KEPT_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;
const LEVEL_DEFAULT: i32 = 3;

thread_local! {
    /// Building a decoder costs more than decoding a small batch.
    static IDLE: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

pub(in super::super) struct ZstdChunks<'a> {
    /// Present from the first piece on.
    decoder: Option<DCtx<'static>>,
    rest: &'a [u8],
    chunk: Vec<u8>,
    size_bytes_max: usize,
    /// Whether the stream stands between frames.
    between_frames: bool,
    /// Whether the piece is the whole content.
    whole: bool,
}

impl std::fmt::Debug for ZstdChunks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZstdChunks").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

impl<'a> ZstdChunks<'a> {
    pub(in super::super) fn new(
        stream: &'a [u8],
        size_bytes_max: usize,
    ) -> Result<Self, DecompressError> {
        let window = window(stream);
        if window > WINDOW_MAX {
            return Err(DecompressError::Corrupt { codec: CODEC });
        }
        Ok(Self {
            decoder: IDLE.take(),
            rest: stream,
            chunk: Vec::new(),
            size_bytes_max,
            between_frames: true,
            whole: window > 1 << STREAMED_WINDOW_LOG_MAX,
        })
    }

    fn decode_whole(&mut self) -> Result<(), DecompressError> {
        let over = DecompressError::OverBudget { size_bytes_max: self.size_bytes_max };
        let claimed = get_frame_content_size(self.rest).ok().flatten();
        let possible = self.rest.len().saturating_mul(RATIO_MAX);
        let capacity = possible.min(self.size_bytes_max);
        if claimed.is_some_and(|claimed| claimed > capacity as u64) {
            return Err(over);
        }
        // Only pages that content is written to become memory.
        self.chunk.reserve_exact(capacity);
        let decoder = present(&mut self.decoder)?;
        let stream = std::mem::take(&mut self.rest);
        match decoder.decompress(&mut self.chunk, stream) {
            Ok(_) => Ok(()),
            Err(code) if get_error_name(code) == "Destination buffer is too small" => Err(over),
            Err(_) => Err(DecompressError::Corrupt { codec: CODEC }),
        }
    }

    fn decode_piece(&mut self) -> Result<(), DecompressError> {
        let corrupt = DecompressError::Corrupt { codec: CODEC };
        let decoder = present(&mut self.decoder)?;
        self.chunk.clear();
        self.chunk.reserve_exact(CHUNK);
        let mut output = OutBuffer::around(&mut self.chunk);
        let mut input = InBuffer::around(self.rest);
        loop {
            let before = (input.pos(), output.pos());
            let hint = decoder.decompress_stream(&mut output, &mut input).map_err(|_| corrupt)?;
            self.between_frames = hint == 0;
            let full = output.pos() == output.capacity();
            let drained = input.pos() == self.rest.len();
            if full || drained || before == (input.pos(), output.pos()) {
                break;
            }
        }
        let consumed = input.pos();
        self.rest = self.rest.get(consumed..).unwrap_or_default();
        Ok(())
    }
}

/// The window that the first frame of `stream` asks for; 0 where there is no frame.
fn window(stream: &[u8]) -> u64 {
    const SINGLE_SEGMENT: u8 = 0b0010_0000;
    let &[0x28, 0xb5, 0x2f, 0xfd, descriptor, window, ..] = stream else { return 0 };
    if descriptor & SINGLE_SEGMENT != 0 {
        return get_frame_content_size(stream).ok().flatten().unwrap_or(0);
    }
    let base = 1_u64 << (10 + (window >> 3));
    base + base / 8 * u64::from(window & 7)
}

/// The decoder, built if there is none yet.
fn present<'d>(
    decoder: &'d mut Option<DCtx<'static>>,
) -> Result<&'d mut DCtx<'static>, DecompressError> {
    let failed = DecompressError::Corrupt { codec: CODEC };
    if decoder.is_none() {
        let mut new = DCtx::try_create().ok_or(failed)?;
        new.set_parameter(DParameter::WindowLogMax(STREAMED_WINDOW_LOG_MAX)).map_err(|_| failed)?;
        *decoder = Some(new);
    }
    decoder.as_mut().ok_or(failed)
}

impl Chunks for ZstdChunks<'_> {
    fn advance(&mut self) -> Result<bool, DecompressError> {
        self.chunk.clear();
        // Content may wait inside the decoder after the last input byte.
        if self.rest.is_empty() && self.between_frames {
            return Ok(false);
        }
        if self.whole {
            self.decode_whole()?;
            return Ok(!self.chunk.is_empty());
        }
        self.decode_piece()?;
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

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        self.whole.then(|| std::mem::take(&mut self.chunk))
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
