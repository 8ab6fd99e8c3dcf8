//! Reads the records of stored batches.
//!
//! A reader trusts nothing but the length of the bytes: batches come from disks, tests and other
//! programs. It does not check the CRC ([`BatchHeader::crc_matches`] does), decompresses at most
//! the budget it is given, and allocates nothing per record. Offsets may have gaps, as compaction
//! leaves them. Header keys are bytes, in order, with duplicates.

use bytes::Bytes;

use super::compression::{Codec, DecompressError, UnknownCodec, decompress};
use super::header::{BatchHeader, HeaderError};
use super::walk::{
    RecordFault, Slice, Source, end_record, length, nullable_length, varint, varlong,
};

/// Why a batch or one of its records cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What is there is no batch.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The batch ends early.
    #[error("batch of {declared} bytes ends after {have}")]
    Incomplete {
        /// Bytes declared, header included.
        declared: usize,
        /// Bytes given.
        have: usize,
    },
    /// No such codec.
    #[error(transparent)]
    Codec(#[from] UnknownCodec),
    /// The records cannot be decompressed.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record is malformed; none after it can be read.
    #[error("record {index}: {fault}")]
    Record {
        /// The record's place among those present, from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its timestamp; the batch's max timestamp under `LogAppendTime`; −1 if none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record: keys and nullable values, in order. They were checked when the record
/// was read and are taken apart anew by each iteration, so that many cost no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// The records of one batch, decompressed if need be.
#[derive(Debug, Clone)]
pub struct RecordReader {
    header: BatchHeader,
    payload: Bytes,
}

impl RecordReader {
    /// Opens the batch at the start of `batch`; bytes behind it are ignored.
    ///
    /// # Errors
    /// When there is no whole batch, or its records do not decompress to at most
    /// `content_size_bytes_max` bytes (uncompressed ones are not copied and not limited).
    pub fn open(batch: &Bytes, content_size_bytes_max: usize) -> Result<Self, ReadError> {
        let header = BatchHeader::parse(batch)?;
        let (declared, have) = (header.size_bytes(), batch.len());
        if declared > have {
            return Err(ReadError::Incomplete { declared, have });
        }
        let stored = batch.slice(BatchHeader::SIZE_BYTES..declared);
        let payload = match header.codec()? {
            Codec::None => stored,
            // An emptied batch may keep its codec bits without a stream behind them.
            _ if header.records_count == 0 && stored.is_empty() => stored,
            codec => Bytes::from(decompress(codec, &stored, content_size_bytes_max)?),
        };
        Ok(Self { header, payload })
    }

    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What the records' keys, values and headers are slices of.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.payload
    }

    /// Iterates the records. After an error there is none left.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { header: &self.header, source: Slice::new(&self.payload), read: 0, done: false }
    }
}

impl<'a> IntoIterator for &'a RecordReader {
    type Item = Result<Record<'a>, ReadError>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// Iterator over the records of a batch.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    header: &'a BatchHeader,
    source: Slice<'a>,
    read: i32,
    done: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.read;
        let read = if index < self.header.records_count {
            self.read += 1;
            self.record()
        } else {
            self.done = true;
            if self.source.rest().is_empty() && self.header.records_count >= 0 {
                return None;
            }
            Err(RecordFault::LeftOver)
        };
        self.done |= read.is_err();
        Some(read.map_err(|fault| ReadError::Record { index, fault }))
    }
}

impl<'a> Records<'a> {
    fn record(&mut self) -> Result<Record<'a>, RecordFault> {
        let source = &mut self.source;
        let declared = length(source)?;
        let start = source.consumed();
        let _attributes = source.byte()?;
        let timestamp_delta = varlong(source)?;
        let offset_delta = varint(source)?;
        let key = nullable(source)?;
        let value = nullable(source)?;
        let headers = headers(source)?;
        end_record(declared, source.consumed() - start)?;
        let timestamp = if self.header.log_append_time() {
            self.header.max_timestamp
        } else {
            let base = self.header.base_timestamp;
            base.checked_add(timestamp_delta).ok_or(RecordFault::Timestamp)?
        };
        let offset = self.header.base_offset.saturating_add(i64::from(offset_delta));
        Ok(Record { offset, timestamp, key, value, headers })
    }
}

fn nullable<'a>(source: &mut Slice<'a>) -> Result<Option<&'a [u8]>, RecordFault> {
    nullable_length(source)?.map(|count| source.take(count)).transpose()
}

fn headers<'a>(source: &mut Slice<'a>) -> Result<Headers<'a>, RecordFault> {
    let count = length(source)?;
    let all = source.rest();
    for _ in 0..count {
        header(source)?;
    }
    let (bytes, _) = all.split_at(all.len() - source.rest().len());
    Ok(Headers { count, bytes })
}

fn header<'a>(source: &mut Slice<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), RecordFault> {
    let key = length(source)?;
    Ok((source.take(key)?, nullable(source)?))
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Iterates keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut source = Slice::new(self.bytes);
        (0..self.count).map_while(move |_| header(&mut source).ok())
    }
}

/// Takes a run of batches apart, as a fetch answer or a log read holds them.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Starts at the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), ReadError>;

    /// The next whole batch; an error, and then nothing, where there is none.
    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let header = match BatchHeader::parse(&rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error.into())),
        };
        let (declared, have) = (header.size_bytes(), rest.len());
        if declared > have {
            return Some(Err(ReadError::Incomplete { declared, have }));
        }
        let batch = rest.split_to(declared);
        self.rest = rest;
        Some(Ok((header, batch)))
    }
}

#[cfg(test)]
mod tests;
