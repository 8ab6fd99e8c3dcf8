//! Walks a request body before the generated decoder sees it.
//!
//! The generated decoder allocates whatever an array's count claims, before it has read one
//! element. The guard therefore follows the [`schema`] of the API over the received bytes and
//! refuses every length, count and tagged field that claims more than the bytes behind it justify,
//! at every depth. It also adds up what the decoder is going to allocate and refuses a body of many
//! tiny elements that would grow beyond all proportion. It allocates nothing itself.
//!
//! Invariant: a body that passes is read by the generated decoder within
//! [`MEMORY_PER_BYTE`] × its size + [`MEMORY_FLOOR_BYTES`], and never more than
//! [`MEMORY_MAX_BYTES`].

pub mod sample;
mod schema;
#[cfg(test)]
mod tests;

use crate::api::ApiKey;
use crate::primitives::{ReadError, Reader};
use schema::{Field, Kind};

/// Bytes of memory that one byte of a body may turn into.
pub const MEMORY_PER_BYTE: usize = 16;

/// What any body may turn into, however small it is.
pub const MEMORY_FLOOR_BYTES: usize = 60 << 10;

/// What no body may exceed, however large it is.
pub const MEMORY_MAX_BYTES: usize = 256 << 20;

/// The first unknown tagged field of a structure makes the decoder allocate a map.
const FIRST_TAG_MEMORY_BYTES: usize = 448;

/// And each further one fills a share of such a map's nodes.
const FURTHER_TAG_MEMORY_BYTES: usize = 112;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// A length goes beyond the end, or is none.
    #[error("{0}")]
    Length(#[from] ReadError),
    /// Null where the version has none.
    #[error("a value is null that cannot be")]
    Null,
    /// An array claims more elements than the bytes that follow can hold.
    #[error("{claimed} elements are claimed where {remaining_bytes} bytes remain")]
    Count { claimed: usize, remaining_bytes: usize },
    /// Decoding would take more memory than the received bytes justify.
    #[error("decoding {body_bytes} bytes would take more than {limit_bytes} bytes of memory")]
    Memory { body_bytes: usize, limit_bytes: usize },
    /// A tagged field is longer or shorter than its value.
    #[error("tagged field {tag} claims {claimed_bytes} bytes and has {read_bytes}")]
    TagSize { tag: u32, claimed_bytes: usize, read_bytes: usize },
    /// A tagged field that only a later version has.
    #[error("tagged field {tag} is of a later version")]
    TagVersion { tag: u32 },
}

/// What the walk over a body found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes that belong to the body. What follows is not looked at, as in Kafka.
    pub size_bytes: usize,
    /// Memory that decoding is going to take, at most, beside the body itself.
    pub memory_bytes: usize,
}

/// Checks the body of a served API and version.
///
/// # Errors
/// The body is not what the version says, or claims too much.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<Extent, GuardError> {
    let limit_bytes = body
        .len()
        .saturating_mul(MEMORY_PER_BYTE)
        .saturating_add(MEMORY_FLOOR_BYTES)
        .min(MEMORY_MAX_BYTES);
    let mut walk = Walk {
        reader: Reader::new(body),
        version,
        flexible: api.api().is_flexible(version),
        body_bytes: body.len(),
        limit_bytes,
        memory_bytes: 0,
    };
    walk.structure(schema::of(api))?;
    let size_bytes = body.len() - walk.reader.remaining();
    Ok(Extent { size_bytes, memory_bytes: walk.memory_bytes })
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    flexible: bool,
    body_bytes: usize,
    limit_bytes: usize,
    memory_bytes: usize,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(&field.kind, field.is_nullable(self.version))?;
            }
        }
        if self.flexible { self.tagged_fields(fields) } else { Ok(()) }
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Result<(), GuardError> {
        let count = self.reader.unsigned_varint()?;
        let mut memory_bytes = FIRST_TAG_MEMORY_BYTES;
        for _ in 0..count {
            let tag = self.reader.unsigned_varint()?;
            let claimed_bytes = self.reader.unsigned_varint()? as usize;
            let Some(field) = fields.iter().find(|field| field.tag == Some(tag)) else {
                self.reader.take(claimed_bytes)?;
                self.claim(memory_bytes)?;
                memory_bytes = FURTHER_TAG_MEMORY_BYTES;
                continue;
            };
            if !field.is_in(self.version) {
                return Err(GuardError::TagVersion { tag });
            }
            let before = self.reader.remaining();
            self.value(&field.kind, field.is_nullable(self.version))?;
            let read_bytes = before - self.reader.remaining();
            if read_bytes != claimed_bytes {
                return Err(GuardError::TagSize { tag, claimed_bytes, read_bytes });
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool) -> Result<(), GuardError> {
        match kind {
            Kind::Fixed(size_bytes) => {
                self.reader.take(*size_bytes)?;
            }
            Kind::String => {
                let length = self.reader.string_length(self.flexible)?;
                self.payload(length, nullable)?;
            }
            Kind::Bytes => {
                let length = self.reader.length(self.flexible)?;
                self.payload(length, nullable)?;
            }
            Kind::Struct(fields) => self.structure(fields)?,
            Kind::NullableStruct(fields) => {
                if self.reader.take(1)?.first().is_some_and(|byte| byte.cast_signed() >= 0) {
                    self.structure(fields)?;
                }
            }
            Kind::Array { element, memory_bytes } => {
                let count = self.reader.length(self.flexible)?;
                self.array(count, nullable, element, *memory_bytes)?;
            }
        }
        Ok(())
    }

    fn payload(&mut self, length: Option<usize>, nullable: bool) -> Result<(), GuardError> {
        match length {
            Some(length) => {
                self.reader.take(length)?;
                Ok(())
            }
            None if nullable => Ok(()),
            None => Err(GuardError::Null),
        }
    }

    fn array(
        &mut self,
        count: Option<usize>,
        nullable: bool,
        element: &'static Kind,
        memory_bytes: usize,
    ) -> Result<(), GuardError> {
        let Some(claimed) = count else {
            return if nullable { Ok(()) } else { Err(GuardError::Null) };
        };
        let remaining_bytes = self.reader.remaining();
        let least_bytes = element.least_size_bytes(self.version, self.flexible);
        if claimed > remaining_bytes / least_bytes {
            return Err(GuardError::Count { claimed, remaining_bytes });
        }
        self.claim(claimed.saturating_mul(memory_bytes))?;
        if let Kind::Fixed(size_bytes) = element {
            self.reader.take(claimed * size_bytes)?;
            return Ok(());
        }
        for _ in 0..claimed {
            self.value(element, false)?;
        }
        Ok(())
    }

    fn claim(&mut self, memory_bytes: usize) -> Result<(), GuardError> {
        self.memory_bytes = self.memory_bytes.saturating_add(memory_bytes);
        if self.memory_bytes > self.limit_bytes {
            return Err(GuardError::Memory {
                body_bytes: self.body_bytes,
                limit_bytes: self.limit_bytes,
            });
        }
        Ok(())
    }
}
