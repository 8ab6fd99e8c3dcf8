use bytes::Bytes;

use super::*;
use crate::records::{BatchSpec, BatchWriter, Producer, RecordReader};

const NOW: i64 = 1_700_000_000_000;

fn limits(timestamps: TimestampRule) -> BatchLimits {
    BatchLimits {
        size_bytes_max: 4000,
        content_size_bytes_max: 1 << 20,
        timestamps,
        require_keys: false,
        allow_zstd: true,
    }
}

const CREATE_TIME: TimestampRule =
    TimestampRule::CreateTime { before_max_ms: i64::MAX, after_max_ms: 1000 };

fn batch(codec: Codec, value_size: usize) -> Bytes {
    let producer = Some(Producer { id: 4, epoch: 1, base_sequence: 9 });
    let spec = BatchSpec { codec, producer, transactional: true, ..BatchSpec::default() };
    let mut writer = BatchWriter::new(spec);
    for (timestamp, key) in [(NOW, "a"), (NOW + 9, "b"), (NOW + 2, "a")] {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"h", Some(b"1")), (b"h", None)];
        let value = vec![b'v'; value_size];
        writer.append(timestamp, Some(key.as_bytes()), Some(&value), &headers).unwrap();
    }
    writer.finish().unwrap()
}

/// Everything a consumer sees of a batch.
fn seen(batch: &[u8]) -> Vec<String> {
    let reader = RecordReader::open(&Bytes::copy_from_slice(batch), 1 << 20).unwrap();
    let see = |record: crate::records::Record<'_>| {
        let headers: Vec<_> = record.headers.iter().collect();
        format!(
            "{} {} {:?} {:?} {headers:?}",
            record.offset, record.timestamp, record.key, record.value
        )
    };
    reader.records().map(|record| see(record.unwrap())).collect()
}

#[test]
fn an_ordinary_batch_is_stored_as_it_came_without_a_copy() {
    for codec in Codec::ALL {
        let batch = batch(codec, 100);
        for target in [None, Some(Target { codec, level: Some(1) })] {
            let conformed = conform(&batch, &limits(CREATE_TIME), target, NOW).unwrap();
            assert_eq!(*conformed.batch, *batch);
            assert_eq!(conformed.batch.as_ptr(), batch.as_ptr());
            assert_eq!(conformed.header, BatchHeader::parse(&batch).unwrap());
        }
    }
}

#[test]
fn a_wrong_max_timestamp_is_corrected() {
    let good = batch(Codec::Gzip, 10);
    let header = BatchHeader::parse(&good).unwrap();
    let (_, payload) = good.split_at(61);
    for max_timestamp in [-1, 0, i64::MAX] {
        let header = BatchHeader { max_timestamp, ..header }.sealed(payload);
        let lying = Bytes::from([header.encode().as_slice(), payload].concat());
        let conformed = conform(&lying, &limits(CREATE_TIME), None, NOW).unwrap();
        assert_eq!(*conformed.batch, *good);
        assert_eq!(conformed.header, BatchHeader::parse(&good).unwrap());
    }
}

#[test]
fn the_broker_s_time_replaces_the_producer_s() {
    for codec in Codec::ALL {
        let limits = limits(TimestampRule::LogAppendTime);
        let batch = batch(codec, 10);
        let conformed = conform(&batch, &limits, None, NOW + 500).unwrap();
        assert_eq!(conformed.header, BatchHeader::parse(&conformed.batch).unwrap());
        assert!(conformed.header.crc_matches(&conformed.batch));
        assert!(conformed.header.log_append_time());
        assert_eq!(conformed.header.max_timestamp, NOW + 500);
        assert_eq!(conformed.header.base_timestamp, NOW);
    }
}

#[test]
fn another_codec_keeps_every_record_and_field() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let batch = batch(from, 100);
            let before = BatchHeader::parse(&batch).unwrap();
            let target = Target { codec: to, level: None };
            let conformed = conform(&batch, &limits(CREATE_TIME), Some(target), NOW).unwrap();
            let after = conformed.header;
            assert_eq!(after, BatchHeader::parse(&conformed.batch).unwrap());
            assert!(after.crc_matches(&conformed.batch));
            assert_eq!(after.codec(), Ok(to));
            let BatchHeader { batch_length, crc, attributes, .. } = before;
            assert_eq!(BatchHeader { batch_length, crc, attributes, ..after }, before);
            assert_eq!(seen(&conformed.batch), seen(&batch));
            if from != to {
                assert_eq!(recompress(&batch, target, 1 << 20), Ok(conformed));
            }
        }
    }
}

#[test]
fn another_codec_and_the_broker_s_time_go_together() {
    let target = Some(Target { codec: Codec::Zstd, level: Some(19) });
    let limits = limits(TimestampRule::LogAppendTime);
    let batch = batch(Codec::Lz4, 100);
    let conformed = conform(&batch, &limits, target, NOW + 7).unwrap();
    assert!(conformed.header.log_append_time() && conformed.header.crc_matches(&conformed.batch));
    assert_eq!(conformed.header.codec(), Ok(Codec::Zstd));
    assert_eq!(
        RecordReader::open(&Bytes::from(conformed.batch.into_owned()), 1 << 20)
            .unwrap()
            .records()
            .count(),
        3
    );
}

#[test]
fn a_batch_that_grows_beyond_the_limit_is_too_large() {
    let batch = batch(Codec::Zstd, 2000);
    let target = Some(Target { codec: Codec::None, level: None });
    let error = conform(&batch, &limits(CREATE_TIME), target, NOW).unwrap_err();
    assert!(matches!(
        error,
        ConformError::Batch(BatchError::TooLarge { size_bytes_max: 4000, .. })
    ));
}

#[test]
fn damaged_batches_are_not_recompressed() {
    let batch = batch(Codec::Gzip, 100);
    let target = Target { codec: Codec::None, level: None };
    let extent = RecompressError::Extent { declared: batch.len(), have: batch.len() - 1 };
    let (short, _) = batch.split_at(batch.len() - 1);
    assert_eq!(recompress(short, target, 1 << 20), Err(extent));
    let over = DecompressError::OverBudget { size_bytes_max: 99 };
    assert_eq!(recompress(&batch, target, 99), Err(RecompressError::Decompress(over)));
}
