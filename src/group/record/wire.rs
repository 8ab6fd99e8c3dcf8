//! Kafka's primitive types as group records use them: big-endian numbers, strings and bytes behind
//! lengths, and from the first flexible version on compact lengths and tagged fields.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::RecordError;

/// Appends fields.
pub(super) struct Writer {
    bytes: BytesMut,
    flexible: bool,
}

impl Writer {
    /// A key, which never has a flexible version.
    pub(super) fn fixed(version: i16) -> Self {
        Self::versioned(version, false)
    }

    pub(super) fn versioned(version: i16, flexible: bool) -> Self {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_i16(version);
        Self { bytes, flexible }
    }

    pub(super) fn int32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(super) fn int64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    /// # Panics
    /// The text is longer than a record can say; requests are checked before they get here.
    pub(super) fn string(&mut self, text: &str) {
        if self.flexible {
            self.compact_length(text.len());
        } else {
            let Ok(length) = i16::try_from(text.len()) else {
                unreachable!("a text of {} bytes passed the request checks", text.len())
            };
            self.bytes.put_i16(length);
        }
        self.bytes.put_slice(text.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None if self.flexible => self.varint(0),
            None => self.bytes.put_i16(-1),
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.put_slice(bytes);
    }

    /// The length of an array (or of bytes: the same field).
    pub(super) fn count(&mut self, count: usize) {
        if self.flexible {
            self.compact_length(count);
        } else {
            let Ok(count) = i32::try_from(count) else {
                unreachable!("no request is as large as {count}")
            };
            self.bytes.put_i32(count);
        }
    }

    /// Ends a struct that has no tagged fields; nothing before the flexible versions.
    pub(super) fn no_tags(&mut self) {
        if self.flexible {
            self.varint(0);
        }
    }

    /// Ends a struct of a flexible version with one tagged field.
    pub(super) fn one_tag(&mut self, tag: u32, bytes: &[u8]) {
        let Ok(size) = u32::try_from(bytes.len()) else { unreachable!("tagged fields are small") };
        self.varint(1);
        self.varint(tag);
        self.varint(size);
        self.bytes.put_slice(bytes);
    }

    pub(super) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    fn compact_length(&mut self, length: usize) {
        let Ok(length) = u32::try_from(length + 1) else {
            unreachable!("no request is as large as {length}")
        };
        self.varint(length);
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8(low_byte(value) | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(low_byte(value));
    }
}

fn low_byte(value: u32) -> u8 {
    let [.., low] = value.to_be_bytes();
    low
}

/// Takes fields off the front. Every length is checked against the bytes that are there.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, flexible: false }
    }

    /// A value: its version, and a reader behind it.
    pub(super) fn versioned(
        bytes: &'a [u8],
        version_max: i16,
        first_flexible: i16,
    ) -> Result<(Self, i16), RecordError> {
        let mut reader = Self::new(bytes);
        let version = reader.int16()?;
        if !(0..=version_max).contains(&version) {
            return Err(RecordError::ValueVersion(version));
        }
        reader.flexible = version >= first_flexible;
        Ok((reader, version))
    }

    pub(super) fn int16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn int32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn int64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A string; a missing one, where none may miss, is read as empty (Kafka wrote such values).
    pub(super) fn string(&mut self) -> Result<Arc<str>, RecordError> {
        Ok(self.nullable_string()?.unwrap_or_default())
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Arc<str>>, RecordError> {
        let length = if self.flexible {
            self.compact_length()?
        } else {
            nullable_length(i32::from(self.int16()?))?
        };
        let Some(length) = length else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::Text)?;
        Ok(Some(if text.is_empty() { Arc::default() } else { Arc::from(text) }))
    }

    /// Bytes, copied out.
    pub(super) fn bytes(&mut self) -> Result<Bytes, RecordError> {
        let length = self.count()?;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    /// The length of an array (or of bytes: the same field); a missing one counts as empty.
    pub(super) fn count(&mut self) -> Result<usize, RecordError> {
        let length =
            if self.flexible { self.compact_length()? } else { nullable_length(self.int32()?)? };
        Ok(length.unwrap_or(0))
    }

    /// The tagged fields at the end of a struct; nothing before the flexible versions.
    pub(super) fn tags(&mut self, mut visit: impl FnMut(u32, &[u8])) -> Result<(), RecordError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let size = usize::try_from(self.varint()?).map_err(|_| RecordError::Length)?;
            visit(tag, self.take(size)?);
        }
        Ok(())
    }

    fn compact_length(&mut self) -> Result<Option<usize>, RecordError> {
        match self.varint()?.checked_sub(1) {
            None => Ok(None),
            Some(length) => Ok(Some(usize::try_from(length).map_err(|_| RecordError::Length)?)),
        }
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// -1 says "none"; other negative lengths say nothing.
fn nullable_length(length: i32) -> Result<Option<usize>, RecordError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| RecordError::Length),
    }
}
