//! The primitives of the events' layout: big-endian numbers, varints, names, runs of offsets.
//!
//! Allocation follows the bytes that are there: a run of offsets is bounded by what one event may
//! name at all, everything else by what can still be read.

use std::sync::Arc;

use crate::model::TopicId;

/// Most offsets one list of an event names.
const OFFSETS_MAX: u64 = 16 * 1024 * 1024;

/// Why bytes are no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the event ends early")]
    Short,
    #[error("{size_bytes} bytes are left behind the event")]
    LeftOver { size_bytes: usize },
    #[error("events of version {version} are not known")]
    Version { version: u8 },
    #[error("events of kind {kind} are not known")]
    Kind { kind: u8 },
    #[error("state {state} is not known")]
    State { state: u8 },
    #[error("a flag is neither 0 nor 1")]
    Flag,
    #[error("a name is no UTF-8")]
    Text,
    #[error("a number is out of its range")]
    Number,
}

/// A name: two bytes of length and UTF-8. Names are checked to be short where they come in.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    put_text(out, name);
}

/// A text, cut at 65,535 bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    let size_bytes = u16::try_from(end).unwrap_or(u16::MAX);
    out.extend_from_slice(&size_bytes.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// Seven bits a byte, least first, the top bit for "more".
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Ascending offsets as runs: how many runs, then of each the gap before it and its length.
pub(super) fn put_offsets(out: &mut Vec<u8>, offsets: &[i64]) {
    let runs = offsets.chunk_by(|a, b| a.wrapping_add(1) == *b);
    put_varint(out, runs.clone().count() as u64);
    let mut reached = 0;
    for run in runs {
        put_varint(out, run[0].wrapping_sub(reached).cast_unsigned());
        put_varint(out, run.len() as u64);
        reached = run[run.len() - 1].wrapping_add(1);
    }
}

/// Takes an event apart.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }
    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }
    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }
    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }
    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }
    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Flag),
        }
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, WireError> {
        self.array().map(|bytes| TopicId(uuid::Uuid::from_bytes(bytes)))
    }

    pub(super) fn name(&mut self) -> Result<Arc<str>, WireError> {
        let size_bytes = usize::from(self.u16()?);
        let (taken, rest) = self.rest.split_at_checked(size_bytes).ok_or(WireError::Short)?;
        self.rest = rest;
        std::str::from_utf8(taken).map(Arc::from).map_err(|_| WireError::Text)
    }

    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(WireError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Number)
    }

    pub(super) fn offsets(&mut self) -> Result<Vec<i64>, WireError> {
        let mut offsets = Vec::new();
        let (mut reached, mut named) = (0_i64, 0_u64);
        for _ in 0..self.varint()? {
            let start = reached.wrapping_add(self.varint()?.cast_signed());
            let len = self.varint()?;
            named = named.saturating_add(len);
            if named > OFFSETS_MAX {
                return Err(WireError::Number);
            }
            let len = i64::try_from(len).map_err(|_| WireError::Number)?;
            reached = start.checked_add(len).ok_or(WireError::Number)?;
            offsets.extend(start..reached);
        }
        Ok(offsets)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            size_bytes => Err(WireError::LeftOver { size_bytes }),
        }
    }
}
