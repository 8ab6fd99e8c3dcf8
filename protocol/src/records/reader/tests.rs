#![allow(clippy::indexing_slicing, reason = "a test may fail by panic")]

use proptest::prelude::*;

use super::*;
use crate::records::{BatchSpec, BatchWriter};

type OwnedHeaders = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn written(spec: BatchSpec, fill: impl Fn(&mut BatchWriter)) -> Bytes {
    let mut writer = BatchWriter::new(spec);
    fill(&mut writer);
    writer.finish().unwrap()
}

/// A batch around hand-made record bytes.
fn around(records_count: i32, payload: &[u8]) -> Bytes {
    let empty = written(BatchSpec::default(), |_| {});
    let header = BatchHeader::parse(&empty).unwrap();
    let batch_length = header.batch_length + i32::try_from(payload.len()).unwrap();
    let header = BatchHeader { batch_length, records_count, ..header }.sealed(payload);
    Bytes::from([&header.encode()[..], payload].concat())
}

fn faults(batch: &Bytes) -> Vec<Result<i64, ReadError>> {
    let reader = RecordReader::open(batch, 1 << 20).unwrap();
    reader.records().map(|record| record.map(|record| record.offset)).collect()
}

#[test]
fn duplicate_and_non_utf8_header_keys_survive_in_order() {
    let headers: [(&[u8], Option<&[u8]>); 5] = [
        (b"k", Some(b"1")),
        (b"k", Some(b"2")),
        (b"\xff\xfe", None),
        (b"", Some(b"")),
        (b"k", None),
    ];
    for codec in Codec::ALL {
        let batch = written(BatchSpec { codec, ..BatchSpec::default() }, |writer| {
            writer.append(1, None, None, &headers).unwrap();
        });
        let reader = RecordReader::open(&batch, 1 << 20).unwrap();
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!((record.headers.len(), record.headers.is_empty()), (5, false));
        assert_eq!(record.headers.iter().collect::<Vec<_>>(), headers, "{codec:?}");
    }
}

#[test]
fn log_append_time_gives_every_record_the_append_time() {
    let spec = BatchSpec { log_append_time_ms: Some(9000), ..BatchSpec::default() };
    let batch = written(spec, |writer| {
        for timestamp in [5, 7, 6] {
            writer.append(timestamp, None, None, &[]).unwrap();
        }
    });
    let reader = RecordReader::open(&batch, 0).unwrap();
    assert_eq!(reader.header().base_timestamp, 5);
    assert!(reader.records().all(|record| record.unwrap().timestamp == 9000));
}

#[test]
fn uncompressed_records_are_not_copied() {
    let batch = written(BatchSpec::default(), |writer| {
        writer.append(1, None, Some(b"value"), &[]).unwrap();
    });
    let reader = RecordReader::open(&batch, 0).unwrap();
    let value = reader.records().next().unwrap().unwrap().value.unwrap();
    assert!(batch.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_run_of_batches_is_taken_apart_up_to_a_partial_one() {
    let batch = |base_offset| {
        written(BatchSpec { base_offset, ..BatchSpec::default() }, |writer| {
            writer.append(1, None, Some(b"value"), &[]).unwrap();
        })
    };
    let (first, second) = (batch(3), batch(4));
    let run = [&first[..], &second[..], &first[..70]].concat();
    let mut batches = Batches::new(Bytes::from(run));
    assert_eq!(batches.next().unwrap().unwrap().1, first);
    assert_eq!(batches.next().unwrap().unwrap().0.base_offset, 4);
    let partial = ReadError::Incomplete { declared: first.len(), have: 70 };
    assert_eq!(batches.next().unwrap().unwrap_err(), partial);
    assert!(batches.next().is_none());
    assert!(Batches::new(Bytes::new()).next().is_none());
}

#[test]
fn malformed_records_are_told_apart() {
    const GOOD: &[u8] = &[0x0c, 0, 0, 0, 1, 1, 0];
    let two = [GOOD, GOOD].concat();
    let cases: &[(i32, &[u8], i32, RecordFault)] = &[
        (1, &[], 0, RecordFault::Truncated),
        (1, &GOOD[..5], 0, RecordFault::Truncated),
        (2, GOOD, 1, RecordFault::Truncated),
        (1, &two, 1, RecordFault::LeftOver),
        (0, GOOD, 0, RecordFault::LeftOver),
        (-1, &[], -1, RecordFault::LeftOver),
        (1, &[0x0e, 0, 0, 0, 1, 1, 0], 0, RecordFault::Size { declared: 7, found: 6 }),
        (1, &[1, 0, 0, 0, 1, 1, 0], 0, RecordFault::Length { length: -1 }),
        (1, &[0x0c, 0, 0, 0, 3, 1, 0], 0, RecordFault::Length { length: -2 }),
        (1, &[0x0c, 0, 0, 0, 1, 1, 1], 0, RecordFault::Length { length: -1 }),
        (1, &[0x0e, 0, 0, 0, 1, 1, 2, 1], 0, RecordFault::Length { length: -1 }),
        (1, &[0x0c, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10], 0, RecordFault::Varint),
        (1, &[0x0c, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x8f, 0], 0, RecordFault::Varint),
        (1, &[0x0c, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], 0, RecordFault::Varint),
        (1, &[0x0c, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], 0, RecordFault::Timestamp),
    ];
    for (count, payload, index, fault) in cases {
        let read = faults(&around(*count, payload));
        // The record whose timestamp overflows is one more field short.
        if *fault == RecordFault::Timestamp {
            assert_eq!(read.len(), 1);
            continue;
        }
        let last = *read.last().unwrap();
        let index = (*index).max(0);
        assert_eq!(last, Err(ReadError::Record { index, fault: *fault }), "{payload:02x?}");
    }
}

#[test]
fn a_million_claimed_records_or_headers_cost_nothing() {
    let header =
        BatchHeader { records_count: i32::MAX, ..BatchHeader::parse(&around(0, &[])).unwrap() };
    assert_eq!(faults(&Bytes::copy_from_slice(&header.encode())).len(), 1);
    // i32::MAX headers announced, none there.
    let payload = [0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    let fault = RecordFault::Truncated;
    assert_eq!(faults(&around(1, &payload)), [Err(ReadError::Record { index: 0, fault })]);
}

#[test]
fn compressed_records_stop_at_the_budget() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = written(BatchSpec { codec, ..BatchSpec::default() }, |writer| {
            writer.append(1, None, Some(&[0; 10_000]), &[]).unwrap();
        });
        let over = DecompressError::OverBudget { size_bytes_max: 10_006 };
        let opened = RecordReader::open(&batch, 10_006).map(|_| ());
        assert_eq!(opened, Err(ReadError::Decompress(over)), "{codec:?}");
        assert!(RecordReader::open(&batch, 10_020).is_ok());
    }
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

fn any_headers() -> impl Strategy<Value = OwnedHeaders> {
    let key = proptest::collection::vec(any::<u8>(), 0..5);
    proptest::collection::vec((key, any_bytes()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(
        codec in proptest::sample::select(&Codec::ALL),
        base_offset in 0..i64::MAX / 2,
        records in proptest::collection::vec(
            (0..1_i64 << 50, any_bytes(), any_bytes(), any_headers()), 0..40),
    ) {
        let spec = BatchSpec { base_offset, codec, ..BatchSpec::default() };
        let mut writer = BatchWriter::new(spec);
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
            writer.append(*timestamp, key.as_deref(), value.as_deref(), &headers).unwrap();
        }
        let batch = writer.finish().unwrap();
        let reader = RecordReader::open(&batch, 1 << 20).unwrap();
        prop_assert!(reader.header().crc_matches(&batch));
        let mut rest = records.iter();
        for (expect, record) in (base_offset..).zip(&reader) {
            let (record, (timestamp, key, value, headers)) = (record.unwrap(), rest.next().unwrap());
            prop_assert_eq!((record.offset, record.timestamp), (expect, *timestamp));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            let read: OwnedHeaders = record
                .headers
                .iter()
                .map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
                .collect();
            prop_assert_eq!(&read, headers);
        }
        prop_assert!(rest.next().is_none());
    }
}
