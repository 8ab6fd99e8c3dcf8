//! One entry of the CommitLog: a header of 72 bytes, a payload, zeros up to a multiple of 8.
//!
//! Pure encoding and checking; docs/formats.md is the law. The header has a checksum of its own,
//! so that a frame with a damaged payload still says which offsets it held. The body checksum
//! leaves out the first 16 bytes of a batch, where the broker stamps base offset, length and
//! epoch: they repeat header fields and are compared instead, so the checksum of a large batch
//! is computed before the shard's lock is taken.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use bytes::{Buf, BufMut};

use super::width::{index, narrow};
use crate::model::QueueId;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 72;
/// Frames begin at multiples of this.
pub(super) const ALIGN: u64 = 8;
/// Bytes of a batch that repeat header fields.
pub(super) const STAMPED_BYTES: usize = 16;
/// The first bytes of every frame: a name and the version of the layout.
pub(super) const MAGIC: [u8; 4] = *b"BFR\x01";
/// Flag of a start frame: the operator gave up what is damaged before it.
pub(super) const ACCEPTS_LOSS: u8 = 1;
/// Flag of a data frame: it counts only together with the frame behind it.
pub(super) const JOINED: u8 = 1;

const CRC_AT: usize = HEADER_BYTES - 4;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record batch.
    Data,
    /// The rest of the segment holds nothing.
    Filler,
    /// The log was opened: whatever an earlier generation left from here on is void.
    Start,
    /// A leader epoch of the shard begins.
    EpochStart,
    /// Offsets of the queue below the base offset are gone.
    LogStart,
    /// The queue is gone.
    QueueDropped,
    /// Nothing but the durable watermark in its header.
    Mark,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Filler => 2,
            Self::Start => 3,
            Self::EpochStart => 4,
            Self::LogStart => 5,
            Self::QueueDropped => 6,
            Self::Mark => 7,
        }
    }

    fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Data,
            2 => Self::Filler,
            3 => Self::Start,
            4 => Self::EpochStart,
            5 => Self::LogStart,
            6 => Self::QueueDropped,
            7 => Self::Mark,
            _ => return None,
        })
    }
}

/// What orders the frames of one log: they never go back in it. The generation counts first: an
/// epoch may have begun behind a torn end, and is void with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lineage {
    pub(super) generation: u32,
    pub(super) epoch: i32,
}

impl Lineage {
    /// Below that of every frame.
    pub(super) const FIRST: Self = Self { generation: 0, epoch: i32::MIN };
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What it is.
    pub(super) kind: Kind,
    /// Bits by kind.
    pub(super) flags: u8,
    /// Bytes of payload; of a filler, the bytes up to the segment's end.
    pub(super) length: u32,
    /// Whose records these are; 0 when no queue's.
    pub(super) queue: QueueId,
    /// Leader epoch of the shard.
    pub(super) epoch: i32,
    /// Which run wrote it; grows with every start.
    pub(super) generation: u32,
    /// Where the frame is.
    pub(super) position: u64,
    /// Offset of the first record; the new log start of a log-start frame.
    pub(super) base_offset: i64,
    /// How many offsets the frame takes.
    pub(super) offsets: u32,
    /// First bytes of the store's identity.
    pub(super) log_tag: u32,
    /// When it was appended, by the broker's wall clock.
    pub(super) store_time_ms: i64,
    /// Everything below this position was durable when the frame was appended.
    pub(super) durable: u64,
    /// Checksum of the payload from its 16th byte on.
    pub(super) body_crc: u32,
}

impl Header {
    /// The bytes on disk.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out: &mut [u8] = &mut bytes;
        out.put_slice(&MAGIC);
        out.put_u8(self.kind.code());
        out.put_u8(self.flags);
        out.put_u16(0);
        out.put_u32(self.length);
        out.put_u32(self.queue.0);
        out.put_i32(self.epoch);
        out.put_u32(self.generation);
        out.put_u64(self.position);
        out.put_i64(self.base_offset);
        out.put_u32(self.offsets);
        out.put_u32(self.log_tag);
        out.put_i64(self.store_time_ms);
        out.put_u64(self.durable);
        out.put_u32(self.body_crc);
        let (covered, crc) = bytes.split_at_mut(CRC_AT);
        crc.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
        bytes
    }

    /// Reads the header at the start of `bytes`; `None` when there is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>()?;
        let (covered, crc) = bytes.split_at(CRC_AT);
        let mut rest = covered.strip_prefix(&MAGIC)?;
        if crc32fast::hash(covered).to_be_bytes() != *crc {
            return None;
        }
        let kind = Kind::of(rest.get_u8())?;
        let flags = rest.get_u8();
        rest.advance(2);
        Some(Self {
            kind,
            flags,
            length: rest.get_u32(),
            queue: QueueId(rest.get_u32()),
            epoch: rest.get_i32(),
            generation: rest.get_u32(),
            position: rest.get_u64(),
            base_offset: rest.get_i64(),
            offsets: rest.get_u32(),
            log_tag: rest.get_u32(),
            store_time_ms: rest.get_i64(),
            durable: rest.get_u64(),
            body_crc: rest.get_u32(),
        })
    }

    /// Bytes of the whole frame on disk.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(index(u64::from(self.length)))
    }

    /// Position behind the frame.
    pub(super) fn end(&self) -> u64 {
        self.position.saturating_add(self.frame_bytes())
    }

    pub(super) fn lineage(&self) -> Lineage {
        Lineage { generation: self.generation, epoch: self.epoch }
    }

    /// Whether `payload` is what the frame was written with. A filler has none on disk.
    pub(super) fn body_matches(&self, payload: &[u8]) -> bool {
        match self.kind {
            Kind::Data => {
                let Some((stamped, rest)) = payload.split_first_chunk::<STAMPED_BYTES>() else {
                    return false;
                };
                *stamped == self.stamped() && crc32fast::hash(rest) == self.body_crc
            }
            Kind::Filler => true,
            Kind::Start | Kind::EpochStart | Kind::LogStart | Kind::QueueDropped | Kind::Mark => {
                payload.is_empty()
            }
        }
    }

    /// The first bytes of the batch as stored: base offset, batch length, leader epoch.
    pub(super) fn stamped(&self) -> [u8; STAMPED_BYTES] {
        let mut bytes = [0; STAMPED_BYTES];
        let mut out: &mut [u8] = &mut bytes;
        out.put_i64(self.base_offset);
        out.put_u32(self.length.saturating_sub(12));
        out.put_i32(self.epoch);
        bytes
    }
}

/// Bytes on disk of a frame with a payload of `length` bytes.
pub(super) fn frame_bytes(length: usize) -> u64 {
    ((HEADER_BYTES + length) as u64).next_multiple_of(ALIGN)
}

/// The checksum of a batch before it is stamped.
pub(super) fn body_crc(batch: &[u8]) -> u32 {
    batch.get(STAMPED_BYTES..).map_or(0, crc32fast::hash)
}

/// The length field of a payload, which callers keep below 2 GiB.
pub(super) fn length_field(payload: &[u8]) -> u32 {
    narrow(payload.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        Header {
            kind: Kind::Data,
            flags: 0,
            length: 61,
            queue: QueueId(7),
            epoch: 3,
            generation: 2,
            position: 0x1000,
            base_offset: 42,
            offsets: 5,
            log_tag: 0xdead_beef,
            store_time_ms: 1_700_000_000_000,
            durable: 0x0f00,
            body_crc: 0x0102_0304,
        }
    }

    #[test]
    fn the_bytes_of_a_header_are_those_of_the_format() {
        let hex: String = sample().encode().iter().map(|b| format!("{b:02x}")).collect();
        let expected = concat!(
            "42465201",
            "01",
            "00",
            "0000",
            "0000003d",
            "00000007",
            "00000003",
            "00000002",
            "0000000000001000",
            "000000000000002a",
            "00000005",
            "deadbeef",
            "0000018bcfe56800",
            "0000000000000f00",
            "01020304",
        );
        assert_eq!(hex[..hex.len() - 8], *expected);
        assert_eq!(
            hex[hex.len() - 8..],
            format!("{:08x}", crc32fast::hash(&sample().encode()[..68]))
        );
        assert_eq!(Header::parse(&sample().encode()), Some(sample()));
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bent), None, "bit {bit}");
        }
        assert_eq!(Header::parse(&bytes[..71]), None);
    }

    #[test]
    fn any_flipped_bit_of_a_batch_is_noticed() {
        let mut batch: Vec<u8> = (0..61).collect();
        let header = Header { body_crc: body_crc(&batch), ..sample() };
        batch[..STAMPED_BYTES].copy_from_slice(&header.stamped());
        assert!(header.body_matches(&batch));
        for bit in 0..batch.len() * 8 {
            batch[bit / 8] ^= 1 << (bit % 8);
            assert!(!header.body_matches(&batch), "bit {bit}");
            batch[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn frames_are_multiples_of_eight() {
        assert_eq!([0, 1, 8, 9].map(frame_bytes), [72, 80, 80, 88]);
    }
}
