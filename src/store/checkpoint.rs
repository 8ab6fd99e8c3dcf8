//! Checkpoints and the other small files of a store: pure encoding.
//!
//! A checkpoint holds what the frames below its position amount to, so that a recovery need not
//! read them. It is written only after everything it may reflect is durable. Two are kept: a
//! segment is freed only once neither needs it. docs/formats.md is the law.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use bytes::{Buf, BufMut, TryGetError};

use super::frame::Lineage;
use super::width::{index, narrow};

const CHECKPOINT_MAGIC: [u8; 4] = *b"BCP\x02";
/// A checkpoint of a version that knew no sorted segments.
const CHECKPOINT_MAGIC_1: [u8; 4] = *b"BCP\x01";
const META_MAGIC: [u8; 4] = *b"BMT\x01";
const CLEAN_MAGIC: [u8; 4] = *b"BCL\x01";

/// Why bytes are not a file of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// What the frames below a position amount to. Queues and the sequencer's snapshot may reflect
/// frames above it too, up to `durable`; replaying those again changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Checkpoint {
    pub(super) log_tag: u32,
    /// Grows with every checkpoint of the store.
    pub(super) number: u64,
    /// Frames from here on are to be replayed.
    pub(super) position: u64,
    /// Everything below was durable when the checkpoint was written.
    pub(super) durable: u64,
    pub(super) epoch: i32,
    pub(super) generation: u32,
    /// Leader epochs and the positions they began at.
    pub(super) epochs: Vec<(i32, u64)>,
    /// First position and size of every segment that holds what is needed.
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) queues: Vec<QueueRow>,
    /// Number and size of every sorted segment that holds what is needed.
    pub(super) sorted: Vec<(u64, u64)>,
    /// No sorted segment had this number or a higher one.
    pub(super) next_sorted: u64,
    /// What the queues have in sorted segments, of each queue by offset.
    pub(super) sorted_places: Vec<PlaceRow>,
    /// Queues and the offsets up to which they are compacted: their records below are in sorted
    /// segments only.
    pub(super) compacted: Vec<(u32, i64)>,
    /// The sequencer's snapshot.
    pub(super) sequencer: Vec<u8>,
}

/// A queue in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QueueRow {
    pub(super) queue: u32,
    pub(super) log_start: i64,
    pub(super) next: i64,
}

/// A queue's place in a sorted segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceRow {
    pub(super) queue: u32,
    pub(super) first_offset: i64,
    /// The sorted segment's number.
    pub(super) number: u64,
    pub(super) bytes: u32,
}

impl Checkpoint {
    /// That frames from its position on have at least.
    pub(super) fn lineage(&self) -> Lineage {
        Lineage { generation: self.generation, epoch: self.epoch }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            128 + self.queues.len() * 20 + self.sorted_places.len() * 24 + self.sequencer.len(),
        );
        out.put_slice(&CHECKPOINT_MAGIC);
        out.put_u32(self.log_tag);
        out.put_u64(self.number);
        out.put_u64(self.position);
        out.put_u64(self.durable);
        out.put_i32(self.epoch);
        out.put_u32(self.generation);
        out.put_u32(narrow(self.epochs.len()));
        for (epoch, start) in &self.epochs {
            out.put_i32(*epoch);
            out.put_u64(*start);
        }
        out.put_u32(narrow(self.segments.len()));
        for (first, size_bytes) in &self.segments {
            out.put_u64(*first);
            out.put_u64(*size_bytes);
        }
        out.put_u32(narrow(self.queues.len()));
        for row in &self.queues {
            out.put_u32(row.queue);
            out.put_i64(row.log_start);
            out.put_i64(row.next);
        }
        self.put_sorted(&mut out);
        out.put_u32(narrow(self.sequencer.len()));
        out.put_slice(&self.sequencer);
        sealed(out)
    }

    fn put_sorted(&self, out: &mut Vec<u8>) {
        out.put_u64(self.next_sorted);
        out.put_u32(narrow(self.sorted.len()));
        for (number, size_bytes) in &self.sorted {
            out.put_u64(*number);
            out.put_u64(*size_bytes);
        }
        out.put_u32(narrow(self.sorted_places.len()));
        for row in &self.sorted_places {
            out.put_u32(row.queue);
            out.put_i64(row.first_offset);
            out.put_u64(row.number);
            out.put_u32(row.bytes);
        }
        out.put_u32(narrow(self.compacted.len()));
        for (queue, to) in &self.compacted {
            out.put_u32(*queue);
            out.put_i64(*to);
        }
    }

    fn get_sorted(&mut self, rest: &mut &[u8]) -> Result<(), Malformed> {
        self.next_sorted = rest.try_get_u64()?;
        for _ in 0..rest.try_get_u32()? {
            self.sorted.push((rest.try_get_u64()?, rest.try_get_u64()?));
        }
        for _ in 0..rest.try_get_u32()? {
            self.sorted_places.push(PlaceRow {
                queue: rest.try_get_u32()?,
                first_offset: rest.try_get_i64()?,
                number: rest.try_get_u64()?,
                bytes: rest.try_get_u32()?,
            });
        }
        for _ in 0..rest.try_get_u32()? {
            self.compacted.push((rest.try_get_u32()?, rest.try_get_i64()?));
        }
        Ok(())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (mut rest, knows_sorted) = match unsealed(bytes, &CHECKPOINT_MAGIC) {
            Ok(rest) => (rest, true),
            Err(Malformed) => (unsealed(bytes, &CHECKPOINT_MAGIC_1)?, false),
        };
        let mut this = Self {
            log_tag: rest.try_get_u32()?,
            number: rest.try_get_u64()?,
            position: rest.try_get_u64()?,
            durable: rest.try_get_u64()?,
            epoch: rest.try_get_i32()?,
            generation: rest.try_get_u32()?,
            ..Self::default()
        };
        for _ in 0..rest.try_get_u32()? {
            this.epochs.push((rest.try_get_i32()?, rest.try_get_u64()?));
        }
        for _ in 0..rest.try_get_u32()? {
            this.segments.push((rest.try_get_u64()?, rest.try_get_u64()?));
        }
        for _ in 0..rest.try_get_u32()? {
            this.queues.push(QueueRow {
                queue: rest.try_get_u32()?,
                log_start: rest.try_get_i64()?,
                next: rest.try_get_i64()?,
            });
        }
        if knows_sorted {
            this.get_sorted(&mut rest)?;
        }
        let length = index(u64::from(rest.try_get_u32()?));
        let (sequencer, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
        this.sequencer = sequencer.to_vec();
        if behind.is_empty() { Ok(this) } else { Err(Malformed) }
    }
}

/// Whose log a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) store_id: uuid::Uuid,
    pub(super) cluster_id: uuid::Uuid,
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = META_MAGIC.to_vec();
        out.put_slice(self.store_id.as_bytes());
        out.put_slice(self.cluster_id.as_bytes());
        sealed(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let rest = unsealed(bytes, &META_MAGIC)?;
        let (store, cluster) = rest.split_first_chunk().ok_or(Malformed)?;
        let cluster = cluster.try_into().map_err(|_| Malformed)?;
        Ok(Self {
            store_id: uuid::Uuid::from_bytes(*store),
            cluster_id: uuid::Uuid::from_bytes(cluster),
        })
    }

    /// What marks this log's frames.
    pub(super) fn log_tag(&self) -> u32 {
        u32::from_be_bytes(self.store_id.as_bytes().first_chunk().copied().unwrap_or_default())
    }
}

/// Says that a checkpoint holds everything: the log ends at its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clean {
    pub(super) log_tag: u32,
    /// The checkpoint's number.
    pub(super) number: u64,
    pub(super) position: u64,
}

impl Clean {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = CLEAN_MAGIC.to_vec();
        out.put_u32(self.log_tag);
        out.put_u64(self.number);
        out.put_u64(self.position);
        sealed(out)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut rest = unsealed(bytes, &CLEAN_MAGIC)?;
        Ok(Self {
            log_tag: rest.try_get_u32()?,
            number: rest.try_get_u64()?,
            position: rest.try_get_u64()?,
        })
    }
}

fn sealed(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.put_u32(crc);
    out
}

fn unsealed<'a>(bytes: &'a [u8], magic: &[u8; 4]) -> Result<&'a [u8], Malformed> {
    let (covered, crc) = bytes.split_last_chunk::<4>().ok_or(Malformed)?;
    if crc32fast::hash(covered).to_be_bytes() != *crc {
        return Err(Malformed);
    }
    covered.strip_prefix(magic).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Checkpoint {
        Checkpoint {
            log_tag: 0xfeed,
            number: 5,
            position: 0x2000,
            durable: 0x2048,
            epoch: 3,
            generation: 9,
            epochs: vec![(1, 0), (3, 0x1000)],
            segments: vec![(0, 0x1000), (0x1000, 0x2000)],
            queues: vec![QueueRow { queue: 7, log_start: 2, next: 10 }],
            sorted: vec![(6, 0x3000)],
            next_sorted: 8,
            sorted_places: vec![PlaceRow { queue: 7, first_offset: 1, number: 6, bytes: 0x99 }],
            compacted: vec![(7, 9)],
            sequencer: b"seq".to_vec(),
        }
    }

    #[test]
    fn the_bytes_of_a_checkpoint_are_those_of_the_format() {
        let bytes = sample().encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let body = concat!(
            "42435002",
            "0000feed",
            "0000000000000005",
            "0000000000002000",
            "0000000000002048",
            "00000003",
            "00000009",
            "00000002",
            "00000001",
            "0000000000000000",
            "00000003",
            "0000000000001000",
            "00000002",
            "0000000000000000",
            "0000000000001000",
            "0000000000001000",
            "0000000000002000",
            "00000001",
            "00000007",
            "0000000000000002",
            "000000000000000a",
            "0000000000000008",
            "00000001",
            "0000000000000006",
            "0000000000003000",
            "00000001",
            "00000007",
            "0000000000000001",
            "0000000000000006",
            "00000099",
            "00000001",
            "00000007",
            "0000000000000009",
            "00000003",
            "736571",
        );
        assert_eq!(hex[..hex.len() - 8], *body);
        assert_eq!(
            hex[hex.len() - 8..],
            format!("{:08x}", crc32fast::hash(&bytes[..bytes.len() - 4]))
        );
        assert_eq!(Checkpoint::decode(&bytes), Ok(sample()));
    }

    #[test]
    fn a_checkpoint_of_the_first_version_is_read() {
        let without = Checkpoint {
            sorted: Vec::new(),
            next_sorted: 0,
            sorted_places: Vec::new(),
            compacted: Vec::new(),
            ..sample()
        };
        let bytes = without.encode();
        let empty = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let sorted_at = bytes.len() - 4 - 7 - empty.len();
        let mut first = bytes[..sorted_at].to_vec();
        first[3] = 1;
        first.extend_from_slice(&bytes[sorted_at + empty.len()..bytes.len() - 4]);
        assert_eq!(Checkpoint::decode(&sealed(first)), Ok(without));
    }

    #[test]
    fn damage_of_any_small_file_is_noticed() {
        let meta = Meta {
            store_id: uuid::Uuid::from_u128(1 << 100),
            cluster_id: uuid::Uuid::from_u128(2),
        };
        let clean = Clean { log_tag: 1, number: 2, position: 3 };
        assert_eq!(Meta::decode(&meta.encode()), Ok(meta));
        assert_eq!(meta.log_tag(), 0x10);
        assert_eq!(Clean::decode(&clean.encode()), Ok(clean));
        for (good, is_bad) in [
            (sample().encode(), (|b| Checkpoint::decode(b).is_err()) as fn(&[u8]) -> bool),
            (meta.encode(), |b| Meta::decode(b).is_err()),
            (clean.encode(), |b| Clean::decode(b).is_err()),
        ] {
            for at in 0..good.len() {
                let mut bent = good.clone();
                bent[at] ^= 1;
                assert!(is_bad(&bent), "byte {at}");
                assert!(is_bad(&good[..at]), "cut at {at}");
            }
        }
    }
}
