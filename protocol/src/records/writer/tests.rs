#![allow(clippy::indexing_slicing, reason = "a test may fail by panic")]

use kafka_protocol::records as foreign;

use super::*;
use crate::records::RecordReader;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Fields in order, CRCs from an independent implementation.
const TWO_RECORDS: &str = concat!(
    "0000000000000000", // base offset
    "00000046",         // batch length
    "ffffffff",         // leader epoch
    "02",               // magic
    "a65e94e7",         // crc
    "0000",             // attributes
    "00000001",         // last offset delta
    "00000000000003e8", // base timestamp
    "0000000000000428", // max timestamp
    "ffffffffffffffff", // producer id
    "ffff",             // producer epoch
    "ffffffff",         // base sequence
    "00000002",         // records
    "18000000026b0276020268",
    "0231",             // length, attributes, deltas, k, v, one header h=1
    "0e00800102010100", // timestamp delta 64, offset delta 1, nulls
);

const CONTROL: &str = concat!(
    "000000000000002a",
    "00000042",
    "00000009",
    "02",
    "d42be584",
    "0030",
    "00000000",
    "00000000000003e8",
    "00000000000003e8",
    "0000000000000007",
    "0003",
    "ffffffff",
    "00000001",
    "20000000080000",
    "00010c00000000000500",
);

#[test]
fn two_records_are_written_byte_for_byte() {
    let mut writer = BatchWriter::new(BatchSpec::default());
    writer.append(1000, Some(b"k"), Some(b"v"), &[(b"h", Some(b"1"))]).unwrap();
    writer.append(1064, None, None, &[]).unwrap();
    assert_eq!(writer.size_bytes(), 82);
    assert_eq!(hex(&writer.finish().unwrap()), TWO_RECORDS);
}

#[test]
fn a_control_batch_is_written_byte_for_byte() {
    let mut writer = BatchWriter::new(BatchSpec {
        base_offset: 42,
        partition_leader_epoch: 9,
        producer: Some(Producer { id: 7, epoch: 3, base_sequence: -1 }),
        transactional: true,
        control: true,
        ..BatchSpec::default()
    });
    writer.append(1000, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 5]), &[]).unwrap();
    let batch = writer.finish().unwrap();
    assert_eq!(hex(&batch), CONTROL);
    let header = BatchHeader::parse(&batch).unwrap();
    assert!(header.is_control() && header.is_transactional() && !header.log_append_time());
}

#[test]
fn an_empty_batch_keeps_its_offsets_and_producer() {
    let producer = Producer { id: 5, epoch: 1, base_sequence: 40 };
    let mut writer = BatchWriter::new(BatchSpec {
        base_offset: 100,
        codec: Codec::Zstd,
        producer: Some(producer),
        ..BatchSpec::default()
    });
    writer.reach(9).unwrap();
    writer.raise_max_timestamp(77);
    let batch = writer.finish().unwrap();
    assert_eq!(batch.len(), BatchHeader::SIZE_BYTES);
    let header = BatchHeader::parse(&batch).unwrap();
    assert!(header.crc_matches(&batch));
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (100, 109, 110));
    assert_eq!((header.base_sequence, header.last_sequence()), (40, 49));
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, 77));
    assert_eq!(header.codec(), Ok(Codec::None));
    assert_eq!(RecordReader::open(&batch, 0).unwrap().records().count(), 0);
}

#[test]
fn offset_gaps_survive_and_offsets_never_go_back() {
    let mut writer = BatchWriter::new(BatchSpec { base_offset: 10, ..BatchSpec::default() });
    writer.append_at(3, 1, None, Some(b"a"), &[]).unwrap();
    writer.append(1, None, Some(b"b"), &[]).unwrap();
    let refused = Err(WriteError::OffsetDelta { offset_delta: 4, last: Some(4) });
    assert_eq!(writer.append_at(4, 1, None, None, &[]), refused);
    assert_eq!(writer.reach(3), Err(WriteError::OffsetDelta { offset_delta: 3, last: Some(4) }));
    writer.reach(8).unwrap();
    let batch = writer.finish().unwrap();
    let reader = RecordReader::open(&batch, 0).unwrap();
    let offsets: Vec<i64> = reader.records().map(|record| record.unwrap().offset).collect();
    assert_eq!(offsets, [13, 14]);
    assert_eq!(reader.header().last_offset(), 18);
}

#[test]
fn a_delete_horizon_stands_in_the_base_timestamp() {
    let mut writer =
        BatchWriter::new(BatchSpec { delete_horizon_ms: Some(5000), ..BatchSpec::default() });
    writer.append(1000, Some(b"k"), None, &[]).unwrap();
    let batch = writer.finish().unwrap();
    let reader = RecordReader::open(&batch, 0).unwrap();
    assert_eq!(reader.header().delete_horizon_ms(), Some(5000));
    assert_eq!(reader.header().max_timestamp, 1000);
    assert_eq!(reader.records().next().unwrap().unwrap().timestamp, 1000);
}

#[test]
fn timestamps_out_of_reach_of_the_base_are_refused_and_harm_nothing() {
    let mut writer = BatchWriter::new(BatchSpec::default());
    writer.append(i64::MIN, None, None, &[]).unwrap();
    let before = writer.size_bytes();
    assert!(matches!(writer.append(1, None, None, &[]), Err(WriteError::Timestamp { .. })));
    assert_eq!((writer.size_bytes(), writer.records_count()), (before, 1));
    writer.append(-1, None, None, &[]).unwrap();
}

#[test]
fn integers_take_the_bytes_they_need() {
    for (value, expect) in [
        (0_i64, "00"),
        (-1, "01"),
        (63, "7e"),
        (-64, "7f"),
        (64, "8001"),
        (i64::from(i32::MAX), "feffffff0f"),
        (i64::from(i32::MIN), "ffffffff0f"),
        (i64::MAX, "feffffffffffffffff01"),
        (i64::MIN, "ffffffffffffffffff01"),
    ] {
        let mut bytes = Vec::new();
        put_varlong(&mut bytes, value);
        assert_eq!(hex(&bytes), expect, "{value}");
    }
}

fn foreign_records() -> Vec<foreign::Record> {
    (0..5_i32)
        .map(|index| foreign::Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 3,
            producer_id: 9,
            producer_epoch: 2,
            timestamp_type: foreign::TimestampType::Creation,
            offset: 70 + i64::from(index),
            sequence: 11 + index,
            timestamp: 1_700_000_000_000 + i64::from(index) * 1000,
            key: (index != 1).then(|| Bytes::from(format!("key {index}"))),
            value: (index != 2)
                .then(|| Bytes::from(vec![b'v'; 40 * usize::try_from(index).unwrap()])),
            headers: (0..index)
                .map(|it| (format!("h{it}").into(), (it != 1).then(Bytes::new)))
                .collect(),
        })
        .collect()
}

fn ours(codec: Codec, records: &[foreign::Record]) -> Bytes {
    let mut writer = BatchWriter::new(BatchSpec {
        base_offset: 70,
        partition_leader_epoch: 3,
        codec,
        producer: Some(Producer { id: 9, epoch: 2, base_sequence: 11 }),
        transactional: true,
        ..BatchSpec::default()
    });
    for record in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|(key, value)| (key.as_bytes(), value.as_deref())).collect();
        writer
            .append(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers)
            .unwrap();
    }
    writer.finish().unwrap()
}

fn theirs(codec: Codec) -> foreign::Compression {
    match codec {
        Codec::None => foreign::Compression::None,
        Codec::Gzip => foreign::Compression::Gzip,
        Codec::Snappy => foreign::Compression::Snappy,
        Codec::Lz4 => foreign::Compression::Lz4,
        Codec::Zstd => foreign::Compression::Zstd,
    }
}

#[test]
fn an_uncompressed_batch_equals_the_one_of_kafka_protocol() {
    let records = foreign_records();
    let options =
        foreign::RecordEncodeOptions { version: 2, compression: foreign::Compression::None };
    let mut expect = BytesMut::new();
    foreign::RecordBatchEncoder::encode(&mut expect, &records, &options).unwrap();
    assert_eq!(hex(&ours(Codec::None, &records)), hex(&expect));
}

#[test]
fn kafka_protocol_reads_our_batches_of_every_codec() {
    let records = foreign_records();
    for codec in Codec::ALL {
        let mut batch = ours(codec, &records);
        let decoded = foreign::RecordBatchDecoder::decode(&mut batch).unwrap();
        assert_eq!(decoded.compression, theirs(codec));
        assert_eq!(decoded.records, records, "{codec:?}");
    }
}

#[test]
fn we_read_batches_of_kafka_protocol_of_every_codec() {
    let records = foreign_records();
    for codec in Codec::ALL {
        let options = foreign::RecordEncodeOptions { version: 2, compression: theirs(codec) };
        let mut batch = BytesMut::new();
        foreign::RecordBatchEncoder::encode(&mut batch, &records, &options).unwrap();
        let batch = batch.freeze();
        let reader = RecordReader::open(&batch, 1 << 20).unwrap();
        assert!(reader.header().crc_matches(&batch));
        assert_eq!(reader.header().codec(), Ok(codec));
        let read: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(read.len(), records.len());
        for (read, expect) in read.iter().zip(&records) {
            assert_eq!((read.offset, read.timestamp), (expect.offset, expect.timestamp));
            assert_eq!((read.key, read.value), (expect.key.as_deref(), expect.value.as_deref()));
            let headers: Vec<_> = read.headers.iter().collect();
            let expect: Vec<_> = expect
                .headers
                .iter()
                .map(|(key, value)| (key.as_bytes(), value.as_deref()))
                .collect();
            assert_eq!(headers, expect);
        }
    }
}
