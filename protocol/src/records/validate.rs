//! What a broker checks before it stores a batch a client produced.
//!
//! The rules and their error classes are those of Kafka's `ProduceRequest`, `UnifiedLog` and
//! `LogValidator`. As there, an uncompressed batch is walked in one pass without allocation, and a
//! compressed one is decompressed piece by piece, since timestamps, keys and offsets of its
//! records are checked too; its content is never held whole.
//!
//! Where this is stricter than Kafka, Kafka stores what some consumer then fails on: offset deltas
//! must count up from zero, record lengths must fit for compressed batches too, nothing may follow
//! the batch, LZ4 blocks must be independent, the flags `LogAppendTime` and delete horizon are
//! refused from clients, and a producer id needs an epoch. Where Kafka answers
//! `UNKNOWN_SERVER_ERROR` (unknown codec, broken stream) there is a proper class here.

use super::compression::{
    Chunks, Codec, DecompressError, GzipChunks, Lz4Chunks, SnappyChunks, Stream, StreamFault,
    UnknownCodec, ZstdChunks, has_linked_blocks,
};
use super::header::{BatchHeader, HeaderError};
use super::walk::{RecordFault, Slice, Source, outline};

/// What a topic and a request version allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Greatest size of a batch as sent: `max.message.bytes`.
    pub size_bytes_max: usize,
    /// Greatest size of the records of a compressed batch once decompressed.
    pub content_size_bytes_max: usize,
    /// Whose timestamps count, and how far the producer's may be off.
    pub timestamps: TimestampRule,
    /// Whether every record needs a key: the topic is compacted.
    pub require_keys: bool,
    /// Whether zstd may be used: not in Produce requests below version 7.
    pub allow_zstd: bool,
}

impl BatchLimits {
    /// A default for `content_size_bytes_max`: the largest request Kafka takes, which is what a
    /// producer without compression could send at most.
    pub const CONTENT_SIZE_BYTES_MAX: usize = 100 * 1024 * 1024;
}

/// How timestamps of produced records are judged (`message.timestamp.type` and its bounds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampRule {
    /// The producer's timestamps stay, if within the bounds.
    CreateTime {
        /// How far in the past: `message.timestamp.before.max.ms`.
        before_max_ms: i64,
        /// How far in the future: `message.timestamp.after.max.ms`.
        after_max_ms: i64,
    },
    /// The broker's time replaces them, so they are not judged.
    LogAppendTime,
}

/// A batch that may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// The header as sent.
    pub header: BatchHeader,
    /// The greatest record timestamp found. Some clients send another one in the header; Kafka
    /// corrects it, and so does [`super::conform`].
    pub max_timestamp: i64,
    /// The codec of the records.
    pub codec: Codec,
}

/// The Kafka error a refused batch is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// `CORRUPT_MESSAGE` (2), retriable.
    CorruptMessage,
    /// `MESSAGE_TOO_LARGE` (10): the Java client splits the batch and sends it again.
    MessageTooLarge,
    /// `INVALID_TIMESTAMP` (32).
    InvalidTimestamp,
    /// `UNSUPPORTED_COMPRESSION_TYPE` (76).
    UnsupportedCompressionType,
    /// `INVALID_RECORD` (87).
    InvalidRecord,
}

/// Why a produced batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The partition's records are empty or null.
    #[error("no record batch")]
    Empty,
    /// What is there does not start a batch.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The batch declares more bytes than were sent.
    #[error("batch of {declared} bytes ends after {have}")]
    Incomplete {
        /// Bytes declared, header included.
        declared: usize,
        /// Bytes sent.
        have: usize,
    },
    /// More than one batch, or bytes after it.
    #[error("{count} bytes follow the batch; exactly one batch per partition is allowed")]
    Trailing {
        /// Bytes after the first batch.
        count: usize,
    },
    /// Offsets are the broker's to assign.
    #[error("base offset is {base_offset} instead of 0")]
    BaseOffset {
        /// The header's value.
        base_offset: i64,
    },
    /// The batch exceeds `max.message.bytes`.
    #[error("batch of {size_bytes} bytes exceeds the maximum of {size_bytes_max}")]
    TooLarge {
        /// The batch's size.
        size_bytes: usize,
        /// The limit.
        size_bytes_max: usize,
    },
    /// The checksum does not fit.
    #[error("stored crc is {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// The header's value.
        stored: u32,
        /// The CRC-32C of the bytes.
        computed: u32,
    },
    /// Count and offset range are not positive and equal.
    #[error("batch counts {records_count} records with a last offset delta of {last_offset_delta}")]
    Count {
        /// The header's count.
        records_count: i32,
        /// The header's delta.
        last_offset_delta: i32,
    },
    /// Control records are the broker's.
    #[error("clients may not write control records")]
    Control,
    /// Delete horizons are the log cleaner's.
    #[error("clients may not set a delete horizon")]
    DeleteHorizon,
    /// A producer id without epoch or sequence, or a transaction without a producer id.
    #[error(
        "producer id {producer_id}, epoch {producer_epoch} and sequence {base_sequence} do not agree"
    )]
    Producer {
        /// The header's value.
        producer_id: i64,
        /// The header's value.
        producer_epoch: i16,
        /// The header's value.
        base_sequence: i32,
    },
    /// No such codec.
    #[error(transparent)]
    Codec(#[from] UnknownCodec),
    /// zstd in a request too old for it.
    #[error("this version of the produce request does not allow zstd")]
    ZstdTooEarly,
    /// LZ4 with linked blocks, which Java's consumers cannot read.
    #[error("lz4 blocks depend on each other")]
    LinkedLz4,
    /// The compressed records cannot be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record is malformed.
    #[error("record {index}: {fault}")]
    Malformed {
        /// The record's place in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// Records are well-formed but not acceptable.
    #[error("One or more records have been rejected due to {}", .0.reasons())]
    Rejected(RecordErrors),
}

/// The records of a batch that were rejected one by one; `record_errors` of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordErrors {
    /// How many there are.
    pub count: u32,
    /// The first of them, at most [`RecordErrors::LISTED_MAX`].
    pub listed: Vec<RecordError>,
    /// Whether any of all is about a timestamp, which then is the error of the batch.
    pub any_timestamp: bool,
}

/// One rejected record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordError {
    /// The record's place in the batch, from 0: `batch_index`.
    pub index: i32,
    /// Why; its text is the `batch_index_error_message`.
    pub problem: RecordProblem,
}

/// Why a single record is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordProblem {
    /// The topic is compacted.
    #[error("Compacted topic cannot accept message without key")]
    NoKey,
    /// Too old or too far ahead.
    #[error("timestamp {timestamp} is out of range; it should be within [{from}, {to}]")]
    TimestampOutOfRange {
        /// The record's timestamp.
        timestamp: i64,
        /// Lowest one allowed.
        from: i64,
        /// Greatest one allowed.
        to: i64,
    },
    /// The producer claims the broker's timestamp type.
    #[error("producer should not set timestamp type to LogAppendTime")]
    LogAppendTime,
}

impl RecordErrors {
    /// So many rejected records are listed, that a hostile batch cannot make the answer large.
    pub const LISTED_MAX: usize = 1000;

    fn add(&mut self, index: i32, problem: RecordProblem) {
        self.count = self.count.saturating_add(1);
        self.any_timestamp |= match problem {
            RecordProblem::NoKey => false,
            RecordProblem::TimestampOutOfRange { .. } | RecordProblem::LogAppendTime => true,
        };
        if self.listed.len() < Self::LISTED_MAX {
            self.listed.push(RecordError { index, problem });
        }
    }

    /// Kafka's words.
    fn reasons(&self) -> impl std::fmt::Display {
        const SHOWN_MAX: usize = 3;
        std::fmt::from_fn(|f| {
            if self.any_timestamp {
                return f.write_str("invalid timestamp");
            }
            let count = self.count;
            write!(f, "{count} record errors in total, and only showing the first three errors")?;
            f.write_str(" at most: ")?;
            for (n, error) in self.listed.iter().take(SHOWN_MAX).enumerate() {
                let comma = if n == 0 { "" } else { ", " };
                write!(f, "{comma}record {}: {}", error.index, error.problem)?;
            }
            Ok(())
        })
    }
}

impl BatchError {
    /// The Kafka error to answer with.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            BatchError::Header(
                HeaderError::ShortLength { .. } | HeaderError::UnknownMagic { .. },
            )
            | BatchError::Crc { .. } => ErrorClass::CorruptMessage,
            BatchError::TooLarge { .. }
            | BatchError::Decompress(DecompressError::OverBudget { .. }) => {
                ErrorClass::MessageTooLarge
            }
            BatchError::Codec(_) | BatchError::ZstdTooEarly => {
                ErrorClass::UnsupportedCompressionType
            }
            BatchError::Rejected(errors) if errors.any_timestamp => ErrorClass::InvalidTimestamp,
            BatchError::Empty
            | BatchError::Header(
                HeaderError::Truncated { .. } | HeaderError::UnsupportedMagic { .. },
            )
            | BatchError::Incomplete { .. }
            | BatchError::Trailing { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::Count { .. }
            | BatchError::Control
            | BatchError::DeleteHorizon
            | BatchError::Producer { .. }
            | BatchError::LinkedLz4
            | BatchError::Decompress(
                DecompressError::Truncated { .. }
                | DecompressError::Corrupt { .. }
                | DecompressError::LeftOver { .. },
            )
            | BatchError::Malformed { .. }
            | BatchError::Rejected(_) => ErrorClass::InvalidRecord,
        }
    }

    /// The rejected records, if the batch is refused because of single ones.
    #[must_use]
    pub fn record_errors(&self) -> &[RecordError] {
        if let BatchError::Rejected(errors) = self { &errors.listed } else { &[] }
    }
}

/// Checks that `batch` is exactly one batch that a client may append, at the time `now_ms`.
///
/// # Errors
/// With the first rule broken; single records that are not acceptable are listed together.
pub fn validate_batch(
    batch: &[u8],
    limits: &BatchLimits,
    now_ms: i64,
) -> Result<ValidatedBatch, BatchError> {
    if batch.is_empty() {
        return Err(BatchError::Empty);
    }
    let header = BatchHeader::parse(batch)?;
    check_extent(&header, batch, limits)?;
    check_crc(&header, batch)?;
    let codec = check_fields(&header, limits)?;
    let Some(payload) = batch.get(BatchHeader::SIZE_BYTES..) else {
        unreachable!("a parsed batch holds a header");
    };
    let rules = RecordRules::new(&header, limits, now_ms);
    let max_timestamp = check_payload(&rules, codec, payload)?;
    Ok(ValidatedBatch { header, max_timestamp, codec })
}

fn check_extent(
    header: &BatchHeader,
    batch: &[u8],
    limits: &BatchLimits,
) -> Result<(), BatchError> {
    let declared = header.size_bytes();
    let have = batch.len();
    if have < declared {
        return Err(BatchError::Incomplete { declared, have });
    }
    if have > declared {
        return Err(BatchError::Trailing { count: have - declared });
    }
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset { base_offset: header.base_offset });
    }
    if declared > limits.size_bytes_max {
        let size_bytes_max = limits.size_bytes_max;
        return Err(BatchError::TooLarge { size_bytes: declared, size_bytes_max });
    }
    Ok(())
}

fn check_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(batch.get(BatchHeader::CRC_START..).unwrap_or_default());
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::Crc { stored: header.crc, computed })
    }
}

fn check_fields(header: &BatchHeader, limits: &BatchLimits) -> Result<Codec, BatchError> {
    let BatchHeader { records_count, last_offset_delta, .. } = *header;
    if records_count < 1 || records_count - 1 != last_offset_delta {
        return Err(BatchError::Count { records_count, last_offset_delta });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.delete_horizon_ms().is_some() {
        return Err(BatchError::DeleteHorizon);
    }
    // Without a producer id the other two mean nothing: some clients leave zeros there.
    let complete = header.producer_epoch >= 0 && header.base_sequence >= 0;
    if (header.has_producer_id() && !complete)
        || (header.is_transactional() && !header.has_producer_id())
    {
        return Err(BatchError::Producer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    match header.codec()? {
        Codec::Zstd if !limits.allow_zstd => Err(BatchError::ZstdTooEarly),
        codec => Ok(codec),
    }
}

fn check_payload(rules: &RecordRules, codec: Codec, payload: &[u8]) -> Result<i64, BatchError> {
    match codec {
        Codec::None => check_records(rules, Slice::new(payload)),
        Codec::Gzip => check_stream(rules, GzipChunks::new(payload)),
        Codec::Snappy => {
            check_stream(rules, SnappyChunks::new(payload, rules.content_size_bytes_max))
        }
        Codec::Lz4 => {
            let chunks = Lz4Chunks::new(payload)?;
            if has_linked_blocks(payload) {
                return Err(BatchError::LinkedLz4);
            }
            check_stream(rules, chunks)
        }
        Codec::Zstd => check_stream(rules, ZstdChunks::new(payload, rules.content_size_bytes_max)?),
    }
}

fn check_stream<C: Chunks>(rules: &RecordRules, chunks: C) -> Result<i64, BatchError> {
    check_records(rules, Stream::new(chunks, rules.content_size_bytes_max))
}

/// Walks all records; the greatest timestamp if every one is acceptable.
fn check_records<S>(rules: &RecordRules, mut source: S) -> Result<i64, BatchError>
where
    S: Source,
    StreamFault: From<S::Error>,
{
    let mut max_timestamp = -1;
    let mut rejected = None::<Box<RecordErrors>>;
    for index in 0..rules.records_count {
        let fail = |fault| BatchError::at(index, fault);
        let record = outline(&mut source).map_err(|fault| fail(StreamFault::from(fault)))?;
        if record.offset_delta != index {
            let fault = RecordFault::OffsetDelta { expected: index, found: record.offset_delta };
            return Err(fail(fault.into()));
        }
        let timestamp = rules
            .base_timestamp
            .checked_add(record.timestamp_delta)
            .ok_or_else(|| fail(RecordFault::Timestamp.into()))?;
        max_timestamp = max_timestamp.max(timestamp);
        if let Some(problem) = rules.problem(timestamp, record.has_key) {
            rejected.get_or_insert_default().add(index, problem);
        }
    }
    let last = rules.records_count - 1;
    if !source.at_end().map_err(|fault| BatchError::at(last, fault.into()))? {
        return Err(BatchError::at(last, RecordFault::LeftOver.into()));
    }
    match rejected {
        Some(errors) => Err(BatchError::Rejected(*errors)),
        None => Ok(max_timestamp),
    }
}

impl BatchError {
    fn at(index: i32, fault: StreamFault) -> BatchError {
        match fault {
            StreamFault::Decompress(error) => BatchError::Decompress(error),
            StreamFault::Record(fault) => BatchError::Malformed { index, fault },
        }
    }
}

/// The limits as they apply to the records of one batch.
#[derive(Debug)]
struct RecordRules {
    content_size_bytes_max: usize,
    records_count: i32,
    base_timestamp: i64,
    /// Range of timestamps allowed, both ends included.
    timestamps: Option<(i64, i64)>,
    log_append_time: bool,
    require_keys: bool,
}

impl RecordRules {
    fn new(header: &BatchHeader, limits: &BatchLimits, now_ms: i64) -> Self {
        let timestamps = match limits.timestamps {
            TimestampRule::CreateTime { before_max_ms, after_max_ms } => {
                Some((now_ms.saturating_sub(before_max_ms), now_ms.saturating_add(after_max_ms)))
            }
            TimestampRule::LogAppendTime => None,
        };
        Self {
            content_size_bytes_max: limits.content_size_bytes_max,
            records_count: header.records_count,
            base_timestamp: header.base_timestamp,
            timestamps,
            log_append_time: header.log_append_time(),
            require_keys: limits.require_keys,
        }
    }

    fn problem(&self, timestamp: i64, has_key: bool) -> Option<RecordProblem> {
        if self.require_keys && !has_key {
            return Some(RecordProblem::NoKey);
        }
        if self.log_append_time {
            return Some(RecordProblem::LogAppendTime);
        }
        let (from, to) = self.timestamps?;
        // −1 says that there is none.
        if timestamp == -1 || (from..=to).contains(&timestamp) {
            return None;
        }
        Some(RecordProblem::TimestampOutOfRange { timestamp, from, to })
    }
}

#[cfg(test)]
mod tests;
