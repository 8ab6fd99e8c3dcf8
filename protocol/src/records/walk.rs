//! The structure of one record inside the payload, read from a slice or from a stream.
//!
//! Written once over [`Source`], so that the validator (which never needs keys and values, and for
//! compressed batches never holds more than a piece of them) and the reader agree on what a
//! well-formed record is. Stricter than Kafka in two points, both of which Kafka's own and
//! librdkafka's consumers fail on: lengths below −1, and varints with bits beyond their type.

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The payload ends inside the record.
    #[error("payload ends inside the record")]
    Truncated,
    /// A variable-length integer does not fit its type.
    #[error("variable-length integer does not fit its type")]
    Varint,
    /// A key, value, header or record length, or a header count, that none can be.
    #[error("length or count {length} is out of range")]
    Length {
        /// The value found.
        length: i32,
    },
    /// The fields of the record do not fill its declared length.
    #[error("record declares {declared} bytes but holds {found}")]
    Size {
        /// Bytes declared.
        declared: u64,
        /// Bytes its fields take.
        found: u64,
    },
    /// Offsets do not count up from zero.
    #[error("offset delta is {found} instead of {expected}")]
    OffsetDelta {
        /// The record's place in the batch.
        expected: i32,
        /// Delta found.
        found: i32,
    },
    /// Base timestamp and delta add up to no timestamp.
    #[error("timestamp delta overflows")]
    Timestamp,
    /// Bytes follow the last record.
    #[error("bytes follow the last record")]
    LeftOver,
}

/// Bytes of a payload, consumed front to back.
pub(super) trait Source {
    type Error: From<RecordFault>;

    fn byte(&mut self) -> Result<u8, Self::Error>;
    fn skip(&mut self, count: usize) -> Result<(), Self::Error>;
    /// Bytes consumed so far.
    fn consumed(&self) -> u64;
    /// Whether nothing is left.
    fn at_end(&mut self) -> Result<bool, Self::Error>;
}

/// What the validator wants to know of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outline {
    pub(super) offset_delta: i32,
    pub(super) timestamp_delta: i64,
    pub(super) has_key: bool,
}

/// Steps over one record, checking its whole structure.
pub(super) fn outline<S: Source>(source: &mut S) -> Result<Outline, S::Error> {
    let declared = length(source)?;
    let start = source.consumed();
    let _attributes = source.byte()?;
    let timestamp_delta = varlong(source)?;
    let offset_delta = varint(source)?;
    let has_key = skip_nullable(source)?;
    let _has_value = skip_nullable(source)?;
    for _ in 0..length(source)? {
        let key = length(source)?;
        source.skip(key)?;
        skip_nullable(source)?;
    }
    end_record(declared, source.consumed() - start)?;
    Ok(Outline { offset_delta, timestamp_delta, has_key })
}

/// Holds a record to the length it declared.
pub(super) fn end_record(declared: usize, found: u64) -> Result<(), RecordFault> {
    let declared = declared as u64;
    if declared == found { Ok(()) } else { Err(RecordFault::Size { declared, found }) }
}

fn skip_nullable<S: Source>(source: &mut S) -> Result<bool, S::Error> {
    match nullable_length(source)? {
        Some(count) => source.skip(count).map(|()| true),
        None => Ok(false),
    }
}

/// A length or count that cannot be null.
pub(super) fn length<S: Source>(source: &mut S) -> Result<usize, S::Error> {
    let length = varint(source)?;
    usize::try_from(length).map_err(|_| RecordFault::Length { length }.into())
}

/// A length where −1 says null.
pub(super) fn nullable_length<S: Source>(source: &mut S) -> Result<Option<usize>, S::Error> {
    match varint(source)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(RecordFault::Length { length }.into()),
        },
    }
}

/// A zigzag integer of at most five bytes.
pub(super) fn varint<S: Source>(source: &mut S) -> Result<i32, S::Error> {
    let mut byte = source.byte()?;
    let mut value = u32::from(byte & 0x7f);
    let mut shift = 7;
    while byte & 0x80 != 0 {
        byte = source.byte()?;
        // The fifth byte has room for four bits only, and ends the integer.
        if shift == 28 && byte > 0x0f {
            return Err(RecordFault::Varint.into());
        }
        value |= u32::from(byte & 0x7f) << shift;
        shift += 7;
    }
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// A zigzag integer of at most ten bytes.
pub(super) fn varlong<S: Source>(source: &mut S) -> Result<i64, S::Error> {
    let mut byte = source.byte()?;
    let mut value = u64::from(byte & 0x7f);
    let mut shift = 7;
    while byte & 0x80 != 0 {
        byte = source.byte()?;
        // The tenth byte has room for one bit only, and ends the integer.
        if shift == 63 && byte > 1 {
            return Err(RecordFault::Varint.into());
        }
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
    }
    Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

/// A payload that lies in memory.
#[derive(Debug, Clone)]
pub(super) struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], RecordFault> {
        let end = self.at.checked_add(count).ok_or(RecordFault::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(RecordFault::Truncated)?;
        self.at = end;
        Ok(taken)
    }
}

impl Source for Slice<'_> {
    type Error = RecordFault;

    #[inline]
    fn byte(&mut self) -> Result<u8, RecordFault> {
        let &byte = self.bytes.get(self.at).ok_or(RecordFault::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip(&mut self, count: usize) -> Result<(), RecordFault> {
        self.take(count).map(|_| ())
    }

    #[inline]
    fn consumed(&self) -> u64 {
        self.at as u64
    }

    fn at_end(&mut self) -> Result<bool, RecordFault> {
        Ok(self.at == self.bytes.len())
    }
}
