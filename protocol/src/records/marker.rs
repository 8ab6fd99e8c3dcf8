//! Transaction markers: control batches that say how a producer's transaction ended.
//!
//! A marker is one record, uncompressed. Its key is a version and a type, its value a version and
//! the epoch of the coordinator that wrote it, as Kafka's `EndTransactionMarker` has them.

use bytes::Bytes;

use super::writer::{BatchSpec, BatchWriter, Producer, WriteError};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Marker {
    /// Its records are void.
    Abort,
    /// Its records count.
    Commit,
}

/// What the record of a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerRecord {
    /// How the transaction ended.
    pub kind: Marker,
    /// Epoch of the coordinator that wrote it; -1 if the record does not tell.
    pub coordinator_epoch: i32,
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;

impl MarkerRecord {
    /// What the records of a control batch begin with; none if that is no marker known here.
    #[must_use]
    pub fn of(records: &[u8]) -> Option<Self> {
        let (kind, mut rest) = Marker::read(records)?;
        let coordinator_epoch = coordinator_epoch(&mut rest).unwrap_or(-1);
        Some(Self { kind, coordinator_epoch })
    }
}

/// Of the value that follows a marker's key.
fn coordinator_epoch(rest: &mut &[u8]) -> Option<i32> {
    // Zigzag: a version and an epoch, or more in a later version.
    let length = varint(rest)?;
    if length < 12 || length & 1 == 1 {
        return None;
    }
    let (_version, behind) = rest.split_first_chunk::<2>()?;
    let (epoch, _) = behind.split_first_chunk::<4>()?;
    Some(i32::from_be_bytes(*epoch))
}

impl Marker {
    /// The kind of the first record, and what is behind its key.
    fn read(records: &[u8]) -> Option<(Self, &[u8])> {
        let mut rest = records;
        let _length = varint(&mut rest)?;
        let (_attributes, behind) = rest.split_first()?;
        rest = behind;
        let _timestamp_delta = varint(&mut rest)?;
        let _offset_delta = varint(&mut rest)?;
        let key_length = varint(&mut rest)?;
        // Zigzag: a length of four or more.
        if key_length < 8 || key_length & 1 == 1 {
            return None;
        }
        let key = rest.get(..usize::try_from(key_length / 2).ok()?)?;
        let behind = rest.get(key.len()..)?;
        let ([_, _, kind @ ..], _) = key.split_first_chunk::<4>()?;
        match i16::from_be_bytes(*kind) {
            ABORT => Some((Self::Abort, behind)),
            COMMIT => Some((Self::Commit, behind)),
            _ => None,
        }
    }

    fn kind(self) -> i16 {
        match self {
            Self::Abort => ABORT,
            Self::Commit => COMMIT,
        }
    }

    /// The batch that ends a producer's transaction on a partition.
    ///
    /// # Errors
    /// Never in fact: a marker fits into every batch.
    pub fn batch(
        self,
        (producer_id, epoch): (i64, i16),
        coordinator_epoch: i32,
        timestamp: i64,
    ) -> Result<Bytes, WriteError> {
        let producer = Some(Producer { id: producer_id, epoch, base_sequence: -1 });
        let spec =
            BatchSpec { producer, transactional: true, control: true, ..BatchSpec::default() };
        let mut writer = BatchWriter::new(spec);
        let mut key = [0; 4];
        let (_version, kind) = key.split_at_mut(2);
        kind.copy_from_slice(&self.kind().to_be_bytes());
        let mut value = [0; 6];
        let (_version, epoch) = value.split_at_mut(2);
        epoch.copy_from_slice(&coordinator_epoch.to_be_bytes());
        writer.append(timestamp, Some(&key), Some(&value), &[])?;
        writer.finish()
    }
}

/// An unsigned reading of a varint of up to ten bytes.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::BatchHeader;

    #[test]
    fn a_marker_is_read_back_from_its_batch() {
        for marker in [Marker::Abort, Marker::Commit] {
            let batch = marker.batch((7, 3), 2, 1000).unwrap();
            let header = BatchHeader::parse(&batch).unwrap();
            assert!(header.is_control() && header.is_transactional() && header.crc_matches(&batch));
            assert_eq!((header.producer_id, header.producer_epoch), (7, 3));
            assert_eq!((header.base_sequence, header.last_offset_delta), (-1, 0));
            let expected = MarkerRecord { kind: marker, coordinator_epoch: 2 };
            assert_eq!(header.marker, Some(expected));
        }
    }

    #[test]
    fn a_marker_has_kafkas_bytes() {
        let batch = Marker::Commit.batch((7, 3), 2, 1000).unwrap();
        let (_, record) = batch.split_at(BatchHeader::SIZE_BYTES);
        let expected: &[&[u8]] =
            &[&[0x20, 0, 0, 0], &[8, 0, 0, 0, 1], &[12, 0, 0, 0, 0, 0, 2], &[0]];
        assert_eq!(record, expected.concat());
    }

    #[test]
    fn anything_else_is_no_marker() {
        for records in [&b""[..], &[0xff; 20], &[0x20, 0, 0, 0, 8, 0, 0, 0, 2], &[0x20, 0, 0, 0, 1]]
        {
            assert_eq!(MarkerRecord::of(records), None, "{records:?}");
        }
    }

    #[test]
    fn a_marker_that_does_not_tell_its_coordinator_is_one_still() {
        for value in [&b""[..], &[0], &[1], &[4, 0, 0], &[12, 0, 0, 0, 0]] {
            let records = [&[0x20, 0, 0, 0, 8, 0, 0, 0, 1][..], value].concat();
            let expected = MarkerRecord { kind: Marker::Commit, coordinator_epoch: -1 };
            assert_eq!(MarkerRecord::of(&records), Some(expected), "{value:?}");
        }
    }
}
