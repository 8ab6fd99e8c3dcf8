//! Valid request bodies at random, for tests, fuzz corpora and load.
//!
//! They are written from the same schema that the guard reads by, and the generated decoder is the
//! judge of both: it has to take every sample whole. The same seed gives the same bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::schema::{self, Field, Kind};
use crate::api::ApiKey;
use crate::primitives::put_unsigned_varint;

/// Tags from here on are unknown to every version.
const UNKNOWN_TAG_FIRST: u32 = 1000;

/// A body of a served API and version.
#[must_use]
pub fn body(api: ApiKey, version: i16, seed: u64) -> Bytes {
    let flexible = api.api().is_flexible(version);
    let mut sampler = Sampler { state: seed, version, flexible, out: BytesMut::new() };
    sampler.structure(schema::of(api));
    sampler.out.freeze()
}

struct Sampler {
    state: u64,
    version: i16,
    flexible: bool,
    out: BytesMut,
}

impl Sampler {
    /// The next number of a splitmix sequence.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).unwrap_or_default()
    }

    fn structure(&mut self, fields: &'static [Field]) {
        for field in fields {
            if field.tag.is_none() && field.is_in(self.version) {
                self.value(&field.kind, field.is_nullable(self.version));
            }
        }
        if self.flexible {
            self.tagged_fields(fields);
        }
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) {
        let mut tagged = BytesMut::new();
        let mut count = 0;
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            let Some(tag) = field.tag else { continue };
            if self.below(2) == 0 {
                let value = self.apart(|sampler| sampler.value(&field.kind, false));
                count += 1;
                put_tagged(&mut tagged, tag, &value);
            }
        }
        for unknown in 0..self.below(3) {
            let size_bytes = self.below(9) as usize;
            let value = self.apart(|sampler| sampler.letters(size_bytes));
            count += 1;
            put_tagged(&mut tagged, UNKNOWN_TAG_FIRST + unknown, &value);
        }
        put_unsigned_varint(&mut self.out, count);
        self.out.put_slice(&tagged);
    }

    /// What `write` appends, taken out again.
    fn apart(&mut self, write: impl FnOnce(&mut Self)) -> BytesMut {
        let start = self.out.len();
        write(self);
        self.out.split_off(start)
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool) {
        let null = nullable && self.below(4) == 0;
        match kind {
            // A boolean other than 0 and 1 would come back as another byte.
            Kind::Fixed(1) => {
                let bit = self.next() % 2 == 1;
                self.out.put_u8(u8::from(bit));
            }
            Kind::Fixed(size_bytes) => {
                for _ in 0..*size_bytes {
                    let [byte, ..] = self.next().to_be_bytes();
                    self.out.put_u8(byte);
                }
            }
            Kind::String | Kind::Bytes => {
                let length = if null { None } else { Some(self.below(20)) };
                self.length(matches!(kind, Kind::String), length);
                self.letters(length.unwrap_or_default() as usize);
            }
            Kind::Struct(fields) => self.structure(fields),
            Kind::NullableStruct(fields) => {
                if self.below(4) == 0 {
                    self.out.put_i8(-1);
                } else {
                    self.out.put_i8(1);
                    self.structure(fields);
                }
            }
            Kind::Array { element, .. } => {
                let count = if null { None } else { Some(self.below(4)) };
                self.length(false, count);
                for _ in 0..count.unwrap_or_default() {
                    self.value(element, false);
                }
            }
        }
    }

    /// A small length, as strings (`short`) or bytes and arrays have it; `None` is null.
    fn length(&mut self, short: bool, length: Option<u32>) {
        match (self.flexible, short) {
            (true, _) => put_unsigned_varint(&mut self.out, length.map_or(0, |length| length + 1)),
            (false, true) => self
                .out
                .put_i16(length.map_or(-1, |length| i16::try_from(length).unwrap_or_default())),
            (false, false) => self.out.put_i32(length.map_or(-1, u32::cast_signed)),
        }
    }

    fn letters(&mut self, size_bytes: usize) {
        for _ in 0..size_bytes {
            let [byte, ..] = self.next().to_be_bytes();
            self.out.put_u8(b'a' + byte % 26);
        }
    }
}

fn put_tagged(out: &mut BytesMut, tag: u32, value: &[u8]) {
    put_unsigned_varint(out, tag);
    put_unsigned_varint(out, u32::try_from(value.len()).unwrap_or_default());
    out.put_slice(value);
}
