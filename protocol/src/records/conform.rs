//! Brings a produced batch into the form its topic stores.
//!
//! The ordinary batch is stored as it came, without a copy. It is copied and stamped when the
//! topic keeps the broker's time or the client's max timestamp is wrong, and recompressed when the
//! topic's `compression.type` names another codec; the records' bytes stay the same in all cases.

use std::borrow::Cow;

use super::compression::{
    Codec, CompressError, DecompressError, UnknownCodec, compress, decompress,
};
use super::header::{BatchHeader, HeaderError, TimestampType};
use super::validate::{BatchError, BatchLimits, TimestampRule, ValidatedBatch, validate_batch};

/// The codec a topic asks for: any `compression.type` other than `producer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The codec; `None` for `uncompressed`.
    pub codec: Codec,
    /// `compression.gzip.level`, `compression.lz4.level` or `compression.zstd.level`; the codec's
    /// default without.
    pub level: Option<i32>,
}

/// A batch to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conformed<'a> {
    /// The whole batch; as it came if nothing had to be changed.
    pub batch: Cow<'a, [u8]>,
    /// Its header.
    pub header: BatchHeader,
}

/// Why a produced batch cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConformError {
    /// The batch is refused.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is fine but does not compress with the topic's codec.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Why a batch was not recompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecompressError {
    /// It is not one whole batch.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its length is not that of the bytes.
    #[error("batch of {declared} bytes comes in {have}")]
    Extent {
        /// Bytes declared.
        declared: usize,
        /// Bytes given.
        have: usize,
    },
    /// Its codec is unknown.
    #[error(transparent)]
    Codec(#[from] UnknownCodec),
    /// Its records cannot be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// Its records cannot be compressed anew.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// Validates a produced `batch` and gives the form in which its topic stores it. Base offset and
/// leader epoch are left to the append.
///
/// # Errors
/// When the batch is refused, or grows beyond the limit with the topic's codec.
pub fn conform<'a>(
    batch: &'a [u8],
    limits: &BatchLimits,
    target: Option<Target>,
    now_ms: i64,
) -> Result<Conformed<'a>, ConformError> {
    let valid = validate_batch(batch, limits, now_ms)?;
    let Some(target) = target.filter(|target| target.codec != valid.codec) else {
        return Ok(stamped(batch, &valid, limits.timestamps, now_ms));
    };
    let (_, payload) = batch.split_at(BatchHeader::SIZE_BYTES);
    let content = decompress(valid.codec, payload, limits.content_size_bytes_max)
        .map_err(BatchError::from)?;
    let header = timed(&valid, limits.timestamps, now_ms);
    let batch =
        seal(header.with_codec(target.codec), &compress(target.codec, target.level, &content)?)?;
    let size_bytes_max = limits.size_bytes_max;
    if batch.batch.len() > size_bytes_max {
        return Err(BatchError::TooLarge { size_bytes: batch.batch.len(), size_bytes_max }.into());
    }
    Ok(batch)
}

/// Compresses the records of a whole `batch` anew, keeping every header field but codec, length
/// and CRC.
///
/// # Errors
/// When the batch is damaged or its content exceeds `content_size_bytes_max`.
pub fn recompress(
    batch: &[u8],
    target: Target,
    content_size_bytes_max: usize,
) -> Result<Conformed<'static>, RecompressError> {
    let header = BatchHeader::parse(batch)?;
    let (declared, have) = (header.size_bytes(), batch.len());
    if declared != have {
        return Err(RecompressError::Extent { declared, have });
    }
    let (_, payload) = batch.split_at(BatchHeader::SIZE_BYTES);
    let content = decompress(header.codec()?, payload, content_size_bytes_max)?;
    Ok(seal(header.with_codec(target.codec), &compress(target.codec, target.level, &content)?)?)
}

/// The batch as it came, or a copy with another header where its topic wants other timestamps.
fn stamped<'a>(
    batch: &'a [u8],
    valid: &ValidatedBatch,
    rule: TimestampRule,
    now_ms: i64,
) -> Conformed<'a> {
    let header = timed(valid, rule, now_ms);
    if header == valid.header {
        return Conformed { batch: Cow::Borrowed(batch), header };
    }
    let (_, payload) = batch.split_at(BatchHeader::SIZE_BYTES);
    let header = header.sealed(payload);
    let mut copy = Vec::with_capacity(batch.len());
    copy.extend_from_slice(&header.encode());
    copy.extend_from_slice(payload);
    Conformed { batch: Cow::Owned(copy), header }
}

fn timed(valid: &ValidatedBatch, rule: TimestampRule, now_ms: i64) -> BatchHeader {
    match rule {
        TimestampRule::CreateTime { .. } => {
            BatchHeader { max_timestamp: valid.max_timestamp, ..valid.header }
        }
        TimestampRule::LogAppendTime => {
            let header = valid.header.with_timestamp_type(TimestampType::LogAppendTime);
            BatchHeader { max_timestamp: now_ms, ..header }
        }
    }
}

/// Puts a header, its length and CRC renewed, in front of `payload`.
fn seal(header: BatchHeader, payload: &[u8]) -> Result<Conformed<'static>, CompressError> {
    let size_bytes = BatchHeader::SIZE_BYTES + payload.len();
    let batch_length = i32::try_from(size_bytes - BatchHeader::LENGTH_END)
        .map_err(|_| CompressError::TooLong { size_bytes })?;
    let header = BatchHeader { batch_length, ..header }.sealed(payload);
    let mut batch = Vec::with_capacity(size_bytes);
    batch.extend_from_slice(&header.encode());
    batch.extend_from_slice(payload);
    Ok(Conformed { batch: Cow::Owned(batch), header })
}

#[cfg(test)]
mod tests;
