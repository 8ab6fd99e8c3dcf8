//! The 61-byte header of a record batch as a plain value.
//!
//! `parse` looks at the header only: it promises the length and the magic are sane, so that a
//! caller may step over the batch, and says nothing about the CRC, the counts or the records.
//! All arithmetic on the fields saturates or wraps as Kafka does, because stored headers are
//! read back from disks that lie.

use super::compression::{Codec, UnknownCodec};
use super::marker::MarkerRecord;

const BASE_OFFSET: usize = 0;
const BATCH_LENGTH: usize = 8;
const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORDS_COUNT: usize = 57;

const _: () = assert!(RECORDS_COUNT + 4 == BatchHeader::SIZE_BYTES);

/// The header of a batch. Field names and meanings are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; outside the CRC.
    pub base_offset: i64,
    /// Bytes that follow this field; at least 49 after a successful parse.
    pub batch_length: i32,
    /// Leader epoch of the append; outside the CRC, −1 from clients.
    pub partition_leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type and flags; see the accessors.
    pub attributes: i16,
    /// Offset of the last record (also of one removed by compaction) less the base offset.
    pub last_offset_delta: i32,
    /// Timestamp the record deltas count from, or the delete horizon when that bit is set.
    pub base_timestamp: i64,
    /// Greatest record timestamp, or the append time under `LogAppendTime`; −1 if none.
    pub max_timestamp: i64,
    /// −1 without idempotence.
    pub producer_id: i64,
    /// −1 without idempotence.
    pub producer_epoch: i16,
    /// Sequence of the first record; −1 without idempotence.
    pub base_sequence: i32,
    /// Records present in the batch.
    pub records_count: i32,
    /// How a transaction ended, if the batch is a control batch that says so, and its bytes were
    /// at hand. No field of Kafka's header: the first record's content.
    pub marker: Option<MarkerRecord>,
}

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Set by the producer.
    CreateTime,
    /// Set by the broker: every record carries the batch's max timestamp.
    LogAppendTime,
}

/// Why bytes are not the start of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("{have} bytes are too few for a batch header of 61")]
    Truncated {
        /// Bytes given.
        have: usize,
    },
    /// The length field is negative or smaller than the rest of a header.
    #[error("batch length {length} is smaller than the rest of a batch header, 49")]
    ShortLength {
        /// The field's value.
        length: i32,
    },
    /// A message set of magic 0 or 1, which no broker since Kafka 4.0 takes.
    #[error("message format {magic} is unsupported; only format 2 is")]
    UnsupportedMagic {
        /// 0 or 1.
        magic: i8,
    },
    /// A magic that no format has.
    #[error("unknown magic {magic}")]
    UnknownMagic {
        /// The byte found.
        magic: i8,
    },
}

impl BatchHeader {
    /// Bytes of a batch header.
    pub const SIZE_BYTES: usize = 61;
    /// Bytes before and including the length field, which `batch_length` does not count.
    pub const LENGTH_END: usize = 12;
    /// First byte covered by the CRC.
    pub const CRC_START: usize = ATTRIBUTES;
    /// The only format there is.
    pub const MAGIC: i8 = 2;

    const LENGTH_MIN: i32 = 49;
    const CODEC_BITS: i16 = 0b111;
    const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
    const TRANSACTIONAL_BIT: i16 = 1 << 4;
    const CONTROL_BIT: i16 = 1 << 5;
    const DELETE_HORIZON_BIT: i16 = 1 << 6;

    /// Reads a header from the start of `bytes`, which need not hold the whole batch.
    ///
    /// # Errors
    /// When the bytes cannot be the start of a batch of format 2.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, HeaderError> {
        // The magic is looked at first: a message of format 0 may be shorter than our header,
        // and has to be called unsupported rather than truncated.
        match bytes.get(MAGIC).map(|byte| byte.cast_signed()) {
            None => return Err(HeaderError::Truncated { have: bytes.len() }),
            Some(Self::MAGIC) => {}
            Some(magic @ (0 | 1)) => return Err(HeaderError::UnsupportedMagic { magic }),
            Some(magic) => return Err(HeaderError::UnknownMagic { magic }),
        }
        let Some((bytes, records)) = bytes.split_first_chunk::<{ Self::SIZE_BYTES }>() else {
            return Err(HeaderError::Truncated { have: bytes.len() });
        };
        let batch_length = i32::from_be_bytes(field(bytes, BATCH_LENGTH));
        if batch_length < Self::LENGTH_MIN {
            return Err(HeaderError::ShortLength { length: batch_length });
        }
        let attributes = i16::from_be_bytes(field(bytes, ATTRIBUTES));
        let is_control = attributes & Self::CONTROL_BIT != 0;
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(bytes, BASE_OFFSET)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(field(bytes, LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(bytes, CRC)),
            attributes,
            last_offset_delta: i32::from_be_bytes(field(bytes, LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, BASE_SEQUENCE)),
            records_count: i32::from_be_bytes(field(bytes, RECORDS_COUNT)),
            marker: if is_control { MarkerRecord::of(records) } else { None },
        })
    }

    /// The 61 bytes of this header, with the CRC it holds.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE_BYTES] {
        let mut bytes = [0; Self::SIZE_BYTES];
        put(&mut bytes, BASE_OFFSET, self.base_offset.to_be_bytes());
        put(&mut bytes, BATCH_LENGTH, self.batch_length.to_be_bytes());
        put(&mut bytes, LEADER_EPOCH, self.partition_leader_epoch.to_be_bytes());
        put(&mut bytes, MAGIC, Self::MAGIC.to_be_bytes());
        put(&mut bytes, CRC, self.crc.to_be_bytes());
        put(&mut bytes, ATTRIBUTES, self.attributes.to_be_bytes());
        put(&mut bytes, LAST_OFFSET_DELTA, self.last_offset_delta.to_be_bytes());
        put(&mut bytes, BASE_TIMESTAMP, self.base_timestamp.to_be_bytes());
        put(&mut bytes, MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
        put(&mut bytes, PRODUCER_ID, self.producer_id.to_be_bytes());
        put(&mut bytes, PRODUCER_EPOCH, self.producer_epoch.to_be_bytes());
        put(&mut bytes, BASE_SEQUENCE, self.base_sequence.to_be_bytes());
        put(&mut bytes, RECORDS_COUNT, self.records_count.to_be_bytes());
        bytes
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0).saturating_add(Self::LENGTH_END)
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset that follows the batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence of the last record, which wraps from `i32::MAX` to 0; −1 without a sequence.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// When the attributes name none of Kafka's five.
    pub fn codec(&self) -> Result<Codec, UnknownCodec> {
        Codec::from_id(self.attributes & Self::CODEC_BITS)
    }

    /// Whose clock the timestamps are.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & Self::LOG_APPEND_TIME_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the broker set the timestamps.
    #[must_use]
    pub fn log_append_time(&self) -> bool {
        self.timestamp_type() == TimestampType::LogAppendTime
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes & Self::TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records (transaction markers), hidden from consumers.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & Self::CONTROL_BIT != 0
    }

    /// When tombstones and markers of the batch may go, if a cleaner decided that already.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & Self::DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp)
    }

    /// Whether an idempotent producer wrote the batch.
    #[must_use]
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > -1
    }

    /// Whether the stored CRC is that of `batch`, the whole batch this header was read from.
    #[must_use]
    pub fn crc_matches(&self, batch: &[u8]) -> bool {
        batch
            .get(Self::CRC_START..self.size_bytes())
            .is_some_and(|it| crc32c::crc32c(it) == self.crc)
    }

    pub(super) fn with_codec(self, codec: Codec) -> Self {
        Self { attributes: (self.attributes & !Self::CODEC_BITS) | codec.id(), ..self }
    }

    pub(super) fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        let others = self.attributes & !Self::LOG_APPEND_TIME_BIT;
        let bit = match timestamp_type {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => Self::LOG_APPEND_TIME_BIT,
        };
        Self { attributes: others | bit, ..self }
    }

    pub(super) fn with_flags(self, transactional: bool, control: bool, horizon: bool) -> Self {
        let mut attributes = self.attributes;
        for (set, bit) in [
            (transactional, Self::TRANSACTIONAL_BIT),
            (control, Self::CONTROL_BIT),
            (horizon, Self::DELETE_HORIZON_BIT),
        ] {
            attributes = if set { attributes | bit } else { attributes & !bit };
        }
        Self { attributes, ..self }
    }

    /// The header with the CRC that fits its own fields and `records`, the bytes after it.
    pub(super) fn sealed(self, records: &[u8]) -> Self {
        let header = self.encode();
        let (_, covered) = header.split_at(Self::CRC_START);
        Self { crc: crc32c::crc32c_append(crc32c::crc32c(covered), records), ..self }
    }
}

/// The `N` bytes at `at`, which the callers' constants keep inside the header.
fn field<const N: usize>(bytes: &[u8; BatchHeader::SIZE_BYTES], at: usize) -> [u8; N] {
    let (_, rest) = bytes.split_at(at);
    match rest.first_chunk::<N>() {
        Some(found) => *found,
        None => unreachable!("every field ends within the header"),
    }
}

fn put<const N: usize>(bytes: &mut [u8; BatchHeader::SIZE_BYTES], at: usize, value: [u8; N]) {
    let (_, rest) = bytes.split_at_mut(at);
    match rest.first_chunk_mut::<N>() {
        Some(place) => *place = value,
        None => unreachable!("every field ends within the header"),
    }
}

#[cfg(test)]
mod tests;
