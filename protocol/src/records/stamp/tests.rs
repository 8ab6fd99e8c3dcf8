use super::*;
use crate::records::{BatchSpec, BatchWriter, RecordReader};

fn batch() -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    for timestamp in [10, 30, 20] {
        writer.append(timestamp, Some(b"k"), Some(b"v"), &[]).unwrap();
    }
    writer.finish().unwrap().to_vec()
}

fn parsed(batch: &[u8]) -> BatchHeader {
    let header = BatchHeader::parse(batch).unwrap();
    assert!(header.crc_matches(batch));
    header
}

#[test]
fn offset_and_epoch_are_stamped_outside_the_crc() {
    let mut batch = batch();
    let before = parsed(&batch);
    stamp(&mut batch, 1234, 7);
    let expect = BatchHeader { base_offset: 1234, partition_leader_epoch: 7, ..before };
    assert_eq!(parsed(&batch), expect);
    stamp(batch.first_chunk_mut::<16>().unwrap(), 5, 6);
    assert_eq!(parsed(&batch), BatchHeader { base_offset: 5, partition_leader_epoch: 6, ..before });
}

#[test]
fn log_append_time_is_stamped_with_a_new_crc() {
    let mut batch = batch();
    let before = parsed(&batch);
    stamp_log_append_time(&mut batch, 99);
    let after = parsed(&batch);
    assert!(after.log_append_time());
    let expect = BatchHeader { max_timestamp: 99, attributes: 8, crc: after.crc, ..before };
    assert_eq!(after, expect);
    let reader = RecordReader::open(&batch.into(), 0).unwrap();
    assert!(reader.records().all(|record| record.unwrap().timestamp == 99));
}

#[test]
fn the_max_timestamp_is_stamped_with_a_new_crc() {
    let mut batch = batch();
    stamp_log_append_time(&mut batch, 99);
    stamp_max_timestamp(&mut batch, 30);
    assert_eq!(batch, self::batch());
}
