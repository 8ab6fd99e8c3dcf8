//! Kafka's primitive types, read from a slice and appended to a buffer.
//!
//! Reading checks every length against the bytes that are really there and never allocates.
//! Shared by the header parser, the guard and the hand-written codecs.

use bytes::{BufMut, BytesMut};

/// Why a primitive could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The bytes end before the value does.
    #[error("{claimed_bytes} bytes are claimed where {remaining_bytes} remain")]
    Short { claimed_bytes: usize, remaining_bytes: usize },
    /// A length below what its type allows.
    #[error("the length {0} is negative")]
    NegativeLength(i32),
    /// A variable-length integer of more than 32 bits.
    #[error("a variable-length integer does not fit 32 bits")]
    LongVarint,
}

/// A position in bytes that only moves forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Everything not yet taken.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn take(&mut self, size_bytes: usize) -> Result<&'a [u8], ReadError> {
        let Some((taken, rest)) = self.rest.split_at_checked(size_bytes) else {
            return Err(ReadError::Short {
                claimed_bytes: size_bytes,
                remaining_bytes: self.rest.len(),
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn chunk<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(ReadError::Short { claimed_bytes: N, remaining_bytes: self.rest.len() });
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, ReadError> {
        self.chunk().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, ReadError> {
        self.chunk().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, ReadError> {
        self.chunk().map(i64::from_be_bytes)
    }

    pub(crate) fn unsigned_varint(&mut self) -> Result<u32, ReadError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.chunk()?;
            let low = u32::from(byte & 0x7f);
            if shift == 28 && low > 0x0f {
                return Err(ReadError::LongVarint);
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ReadError::LongVarint)
    }

    /// The length of a string: two bytes, or compact. `None` is null.
    pub(crate) fn string_length(&mut self, compact: bool) -> Result<Option<usize>, ReadError> {
        if compact {
            return self.compact_length();
        }
        plain_length(i32::from(self.i16()?))
    }

    /// The length of bytes, or the count of an array: four bytes, or compact. `None` is null.
    pub(crate) fn length(&mut self, compact: bool) -> Result<Option<usize>, ReadError> {
        if compact {
            return self.compact_length();
        }
        plain_length(self.i32()?)
    }

    fn compact_length(&mut self) -> Result<Option<usize>, ReadError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }

    /// Passes over tagged fields nobody here knows.
    pub(crate) fn skip_tagged_fields(&mut self) -> Result<(), ReadError> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let size_bytes = self.unsigned_varint()? as usize;
            self.take(size_bytes)?;
        }
        Ok(())
    }
}

fn plain_length(length: i32) -> Result<Option<usize>, ReadError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length).map(Some).map_err(|_| ReadError::NegativeLength(length)),
    }
}

/// A value whose length its field on the wire cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a length of {0} does not fit its field")]
pub(crate) struct LengthError(pub(crate) usize);

pub(crate) fn put_unsigned_varint(out: &mut BytesMut, mut value: u32) {
    loop {
        let [.., low] = value.to_be_bytes();
        value >>= 7;
        if value == 0 {
            return out.put_u8(low & 0x7f);
        }
        out.put_u8(low | 0x80);
    }
}

/// The length of bytes, or the count of an array; `None` is null.
pub(crate) fn put_length(
    out: &mut BytesMut,
    compact: bool,
    length: Option<usize>,
) -> Result<(), LengthError> {
    let checked = match length {
        None => -1,
        Some(length) => i32::try_from(length).map_err(|_| LengthError(length))?,
    };
    if compact {
        put_unsigned_varint(out, checked.cast_unsigned().wrapping_add(1));
    } else {
        out.put_i32(checked);
    }
    Ok(())
}

/// A string; `None` is null.
pub(crate) fn put_string(
    out: &mut BytesMut,
    compact: bool,
    value: Option<&str>,
) -> Result<(), LengthError> {
    if compact {
        put_length(out, true, value.map(str::len))?;
    } else {
        let length = value.map_or(Ok(-1), |v| i16::try_from(v.len()));
        out.put_i16(length.map_err(|_| LengthError(value.map_or(0, str::len)))?);
    }
    out.put_slice(value.unwrap_or_default().as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, 0x0fff_ffff, u32::MAX]
        {
            let mut out = BytesMut::new();
            put_unsigned_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.unsigned_varint(), Ok(value));
            assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn a_varint_beyond_32_bits_is_refused() {
        for bytes in [[0xff, 0xff, 0xff, 0xff, 0x1f], [0x80, 0x80, 0x80, 0x80, 0x80]] {
            assert_eq!(Reader::new(&bytes).unsigned_varint(), Err(ReadError::LongVarint));
        }
    }

    #[test]
    fn lengths_tell_null_from_empty_from_negative() {
        assert_eq!(Reader::new(&[0xff, 0xff]).string_length(false), Ok(None));
        assert_eq!(Reader::new(&[0, 0]).string_length(false), Ok(Some(0)));
        assert_eq!(
            Reader::new(&[0xff, 0xfe]).string_length(false),
            Err(ReadError::NegativeLength(-2))
        );
        assert_eq!(Reader::new(&[0]).string_length(true), Ok(None));
        assert_eq!(Reader::new(&[1]).length(true), Ok(Some(0)));
        assert_eq!(Reader::new(&[0, 0, 1, 0]).length(false), Ok(Some(256)));
    }

    #[test]
    fn a_string_too_long_for_its_length_is_refused() {
        let long = "x".repeat(40_000);
        let mut out = BytesMut::new();
        assert_eq!(put_string(&mut out, false, Some(&long)), Err(LengthError(40_000)));
        put_string(&mut out, true, Some(&long)).unwrap();
        assert_eq!(out.len(), 40_003);
    }
}
