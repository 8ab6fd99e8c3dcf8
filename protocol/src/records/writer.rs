//! Builds record batches: for `__consumer_offsets`, for tests and load programs, later for
//! compaction and transaction markers.
//!
//! Records are encoded as they are appended; `finish` compresses them and puts the header in
//! front. A batch may be empty and may keep offset gaps, which compaction needs.

use bytes::{Bytes, BytesMut};

use super::compression::{Codec, CompressError, compress};
use super::header::{BatchHeader, TimestampType};

/// Header fields a batch is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpec {
    /// Offset of the first record; 0 in what producers send.
    pub base_offset: i64,
    /// Leader epoch; −1 in what producers send.
    pub partition_leader_epoch: i32,
    /// Codec of the records.
    pub codec: Codec,
    /// Level for gzip and zstd; the codec's default without.
    pub level: Option<i32>,
    /// Identity of an idempotent producer.
    pub producer: Option<Producer>,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
    /// Whether the records are control records.
    pub control: bool,
    /// The append time, which makes the batch `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
    /// When tombstones and markers of the batch may go.
    pub delete_horizon_ms: Option<i64>,
}

/// What an idempotent producer puts on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the first record; −1 for transaction markers.
    pub base_sequence: i32,
}

impl Default for BatchSpec {
    /// What a producer without idempotence or compression sends.
    fn default() -> Self {
        Self {
            base_offset: 0,
            partition_leader_epoch: -1,
            codec: Codec::None,
            level: None,
            producer: None,
            transactional: false,
            control: false,
            log_append_time_ms: None,
            delete_horizon_ms: None,
        }
    }
}

/// Why a batch was not built. The batch so far is unharmed by a failed append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A key, value, header or record is longer than its length field can say.
    #[error("{size_bytes} bytes are too long for a record")]
    TooLong {
        /// The length.
        size_bytes: usize,
    },
    /// The offset is not behind the one before, or too far from the base offset.
    #[error("offset delta {offset_delta} cannot follow {last:?}")]
    OffsetDelta {
        /// The delta given.
        offset_delta: i32,
        /// The delta before.
        last: Option<i32>,
    },
    /// The timestamp is too far from the first one.
    #[error("timestamp {timestamp} is too far from the base {base_timestamp}")]
    Timestamp {
        /// The timestamp given.
        timestamp: i64,
        /// The base timestamp.
        base_timestamp: i64,
    },
    /// The records do not compress.
    #[error(transparent)]
    Compress(#[from] CompressError),
}

/// A batch under construction.
#[derive(Debug, Clone)]
pub struct BatchWriter {
    spec: BatchSpec,
    payload: Vec<u8>,
    /// The record being encoded, kept for its capacity.
    body: Vec<u8>,
    records_count: i32,
    last_offset_delta: Option<i32>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
}

impl BatchWriter {
    /// Starts a batch without records.
    #[must_use]
    pub fn new(spec: BatchSpec) -> Self {
        Self {
            payload: Vec::new(),
            body: Vec::new(),
            records_count: 0,
            last_offset_delta: None,
            base_timestamp: spec.delete_horizon_ms,
            max_timestamp: -1,
            spec,
        }
    }

    /// Appends a record at the next offset.
    ///
    /// # Errors
    /// When a length, the offset or the timestamp cannot be represented.
    pub fn append(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), WriteError> {
        let offset_delta = self.last_offset_delta.map_or(0, |last| last.wrapping_add(1));
        self.append_at(offset_delta, timestamp, key, value, headers)
    }

    /// Appends a record at an offset of its own, above those before.
    ///
    /// # Errors
    /// When a length, the offset or the timestamp cannot be represented.
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), WriteError> {
        let last = self.last_offset_delta;
        if offset_delta < 0 || last.is_some_and(|last| offset_delta <= last) {
            return Err(WriteError::OffsetDelta { offset_delta, last });
        }
        let base_timestamp = self.base_timestamp.unwrap_or(timestamp);
        let timestamp_delta = timestamp
            .checked_sub(base_timestamp)
            .ok_or(WriteError::Timestamp { timestamp, base_timestamp })?;

        let body = &mut self.body;
        body.clear();
        body.push(0);
        put_varlong(body, timestamp_delta);
        put_varint(body, offset_delta);
        put_nullable(body, key)?;
        put_nullable(body, value)?;
        put_varint(body, length(headers.len())?);
        for (key, value) in headers {
            put_nullable(body, Some(key))?;
            put_nullable(body, *value)?;
        }
        put_varint(&mut self.payload, length(body.len())?);
        self.payload.extend_from_slice(body);

        self.records_count += 1;
        self.last_offset_delta = Some(offset_delta);
        self.base_timestamp = Some(base_timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Makes the batch reach up to an offset beyond its last record, whose successors were
    /// compacted away.
    ///
    /// # Errors
    /// When records lie behind that offset.
    pub fn reach(&mut self, last_offset_delta: i32) -> Result<(), WriteError> {
        let last = self.last_offset_delta;
        if last_offset_delta < last.unwrap_or(0) {
            return Err(WriteError::OffsetDelta { offset_delta: last_offset_delta, last });
        }
        self.last_offset_delta = Some(last_offset_delta);
        Ok(())
    }

    /// Raises the batch's max timestamp, as an emptied batch keeps the one it had.
    pub fn raise_max_timestamp(&mut self, timestamp: i64) {
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Records appended so far.
    #[must_use]
    pub fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        BatchHeader::SIZE_BYTES + self.payload.len()
    }

    /// The whole batch. One without records is not compressed and keeps the fields of its spec.
    ///
    /// # Errors
    /// When the records do not compress or exceed what a batch can hold.
    pub fn finish(self) -> Result<Bytes, WriteError> {
        let codec = if self.records_count == 0 { Codec::None } else { self.spec.codec };
        let header = self.header(codec);
        let payload = match codec {
            Codec::None => self.payload,
            codec => compress(codec, self.spec.level, &self.payload)?,
        };
        let size_bytes = BatchHeader::SIZE_BYTES + payload.len();
        let batch_length = length(size_bytes - BatchHeader::LENGTH_END)?;
        let header = BatchHeader { batch_length, ..header }.sealed(&payload);
        let mut batch = BytesMut::with_capacity(size_bytes);
        batch.extend_from_slice(&header.encode());
        batch.extend_from_slice(&payload);
        Ok(batch.freeze())
    }

    fn header(&self, codec: Codec) -> BatchHeader {
        let spec = &self.spec;
        let producer = spec.producer.unwrap_or(Producer { id: -1, epoch: -1, base_sequence: -1 });
        let timestamp_type = match spec.log_append_time_ms {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        };
        BatchHeader {
            base_offset: spec.base_offset,
            batch_length: 0,
            partition_leader_epoch: spec.partition_leader_epoch,
            crc: 0,
            attributes: 0,
            last_offset_delta: self.last_offset_delta.unwrap_or(0),
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: spec.log_append_time_ms.unwrap_or(self.max_timestamp),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            records_count: self.records_count,
            marker: None,
        }
        .with_codec(codec)
        .with_timestamp_type(timestamp_type)
        .with_flags(spec.transactional, spec.control, spec.delete_horizon_ms.is_some())
    }
}

fn length(size_bytes: usize) -> Result<i32, WriteError> {
    i32::try_from(size_bytes).map_err(|_| WriteError::TooLong { size_bytes })
}

fn put_nullable(body: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), WriteError> {
    match bytes {
        None => put_varint(body, -1),
        Some(bytes) => {
            put_varint(body, length(bytes.len())?);
            body.extend_from_slice(bytes);
        }
    }
    Ok(())
}

fn put_varint(body: &mut Vec<u8>, value: i32) {
    put_varlong(body, i64::from(value));
}

/// Zigzag, seven bits a byte; the same bytes for a value whichever its width.
fn put_varlong(body: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [.., low] = rest.to_be_bytes();
        rest >>= 7;
        if rest == 0 {
            body.push(low);
            return;
        }
        body.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests;
