#![allow(clippy::indexing_slicing, reason = "a test may fail by panic")]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::records::{BatchSpec, BatchWriter, Producer, RecordReader, Target, recompress};

const NOW: i64 = 1_700_000_000_000;

fn limits() -> BatchLimits {
    BatchLimits {
        size_bytes_max: 1 << 20,
        content_size_bytes_max: 1 << 20,
        timestamps: TimestampRule::CreateTime { before_max_ms: i64::MAX, after_max_ms: 3_600_000 },
        require_keys: false,
        allow_zstd: true,
    }
}

fn batch(codec: Codec) -> Vec<u8> {
    let mut writer = BatchWriter::new(BatchSpec { codec, ..BatchSpec::default() });
    writer.append(NOW, Some(b"k"), Some(&[b'v'; 300]), &[(b"h", Some(b"1"))]).unwrap();
    writer.append(NOW + 5, None, Some(b"v"), &[]).unwrap();
    writer.append(NOW - 5, Some(b"k"), None, &[]).unwrap();
    writer.finish().unwrap().to_vec()
}

/// The batch with changed header fields and a CRC that fits them.
fn with(batch: &[u8], change: impl Fn(&mut BatchHeader)) -> Vec<u8> {
    let mut header = BatchHeader::parse(batch).unwrap();
    change(&mut header);
    let payload = &batch[BatchHeader::SIZE_BYTES..];
    [&header.sealed(payload).encode()[..], payload].concat()
}

/// A batch of `count` records around hand-made bytes.
fn around(codec: Codec, count: i32, records: &[u8]) -> Vec<u8> {
    let payload = crate::records::compress(codec, None, records).unwrap();
    let bare = BatchWriter::new(BatchSpec::default()).finish().unwrap();
    let header = BatchHeader::parse(&bare).unwrap().with_codec(codec);
    let header = BatchHeader {
        batch_length: header.batch_length + i32::try_from(payload.len()).unwrap(),
        records_count: count,
        last_offset_delta: count - 1,
        ..header
    };
    [&header.sealed(&payload).encode()[..], &payload].concat()
}

fn refusal(batch: &[u8]) -> BatchError {
    validate_batch(batch, &limits(), NOW).unwrap_err()
}

#[test]
fn good_batches_of_every_codec_pass() {
    for codec in Codec::ALL {
        let batch = batch(codec);
        let valid = validate_batch(&batch, &limits(), NOW).unwrap();
        assert_eq!(valid.codec, codec);
        assert_eq!(valid.max_timestamp, NOW + 5);
        assert_eq!(valid.header, BatchHeader::parse(&batch).unwrap());
    }
}

#[test]
fn the_extent_must_be_one_whole_batch_at_offset_zero() {
    use ErrorClass::{CorruptMessage, InvalidRecord, MessageTooLarge};
    let good = batch(Codec::None);
    let size = good.len();
    let edit = |at: usize, byte: u8| {
        let mut batch = good.clone();
        batch[at] = byte;
        batch
    };
    let cases: Vec<(&str, Vec<u8>, ErrorClass, BatchError)> = vec![
        ("nothing", vec![], InvalidRecord, BatchError::Empty),
        (
            "a part of a header",
            good[..60].to_vec(),
            InvalidRecord,
            BatchError::Header(HeaderError::Truncated { have: 60 }),
        ),
        (
            "a few bytes",
            good[..3].to_vec(),
            InvalidRecord,
            BatchError::Header(HeaderError::Truncated { have: 3 }),
        ),
        (
            "a part of a batch",
            good[..size - 1].to_vec(),
            InvalidRecord,
            BatchError::Incomplete { declared: size, have: size - 1 },
        ),
        (
            "two batches",
            [&good[..], &good[..]].concat(),
            InvalidRecord,
            BatchError::Trailing { count: size },
        ),
        (
            "one more byte",
            [&good[..], &[0]].concat(),
            InvalidRecord,
            BatchError::Trailing { count: 1 },
        ),
        (
            "another base offset",
            edit(7, 1),
            InvalidRecord,
            BatchError::BaseOffset { base_offset: 1 },
        ),
        (
            "magic 1",
            edit(16, 1),
            InvalidRecord,
            BatchError::Header(HeaderError::UnsupportedMagic { magic: 1 }),
        ),
        (
            "a short message of magic 0",
            vec![0; 26],
            InvalidRecord,
            BatchError::Header(HeaderError::UnsupportedMagic { magic: 0 }),
        ),
        (
            "magic 3",
            edit(16, 3),
            CorruptMessage,
            BatchError::Header(HeaderError::UnknownMagic { magic: 3 }),
        ),
        (
            "a negative length",
            edit(8, 0xff),
            CorruptMessage,
            BatchError::Header(HeaderError::ShortLength {
                length: i32::from_be_bytes([0xff, good[9], good[10], good[11]]),
            }),
        ),
    ];
    for (what, batch, class, expect) in cases {
        let error = refusal(&batch);
        assert_eq!(error, expect, "{what}");
        assert_eq!(error.class(), class, "{what}");
    }
    let tight = BatchLimits { size_bytes_max: size - 1, ..limits() };
    let error = validate_batch(&good, &tight, NOW).unwrap_err();
    assert_eq!(error, BatchError::TooLarge { size_bytes: size, size_bytes_max: size - 1 });
    assert_eq!(error.class(), MessageTooLarge);
    let fitting = BatchLimits { size_bytes_max: size, ..limits() };
    assert!(validate_batch(&good, &fitting, NOW).is_ok());
}

#[test]
fn any_changed_bit_under_the_crc_is_corrupt() {
    let good = batch(Codec::None);
    for at in 17..good.len() {
        let mut batch = good.clone();
        batch[at] ^= 4;
        let error = refusal(&batch);
        assert!(matches!(error, BatchError::Crc { .. }), "{at}: {error}");
        assert_eq!(error.class(), ErrorClass::CorruptMessage);
    }
    // The leader epoch is the broker's and lies outside.
    let mut batch = good;
    batch[15] = 0;
    assert!(validate_batch(&batch, &limits(), NOW).is_ok());
}

#[test]
fn header_fields_must_agree() {
    type Change = fn(&mut BatchHeader);
    use ErrorClass::{InvalidRecord, UnsupportedCompressionType};
    let cases: &[(&str, Change, ErrorClass)] = &[
        ("a count of 0", |it| it.records_count = 0, InvalidRecord),
        ("a negative count", |it| it.records_count = -1, InvalidRecord),
        ("the least count", |it| it.records_count = i32::MIN, InvalidRecord),
        ("a higher count", |it| it.records_count += 1, InvalidRecord),
        ("a higher delta", |it| it.last_offset_delta += 1, InvalidRecord),
        ("the greatest delta", |it| it.last_offset_delta = i32::MAX, InvalidRecord),
        (
            "a higher count and delta",
            |it| {
                it.records_count += 1;
                it.last_offset_delta += 1;
            },
            InvalidRecord,
        ),
        (
            "a lower count and delta",
            |it| {
                it.records_count -= 1;
                it.last_offset_delta -= 1;
            },
            InvalidRecord,
        ),
        ("control", |it| it.attributes |= 1 << 5, InvalidRecord),
        ("a delete horizon", |it| it.attributes |= 1 << 6, InvalidRecord),
        ("a producer id alone", |it| it.producer_id = 1, InvalidRecord),
        (
            "no sequence",
            |it| {
                it.producer_id = 1;
                it.producer_epoch = 0;
            },
            InvalidRecord,
        ),
        (
            "no epoch",
            |it| {
                it.producer_id = 1;
                it.base_sequence = 0;
            },
            InvalidRecord,
        ),
        ("a transaction of nobody", |it| it.attributes |= 1 << 4, InvalidRecord),
        ("codec 5", |it| it.attributes |= 5, UnsupportedCompressionType),
        ("codec 7", |it| it.attributes |= 7, UnsupportedCompressionType),
        ("gzip that is none", |it| it.attributes |= 1, InvalidRecord),
        ("snappy that is none", |it| it.attributes |= 2, InvalidRecord),
        ("lz4 that is none", |it| it.attributes |= 3, InvalidRecord),
        ("zstd that is none", |it| it.attributes |= 4, InvalidRecord),
        ("a base timestamp too high", |it| it.base_timestamp = i64::MAX, InvalidRecord),
    ];
    for (what, change, class) in cases {
        let error = refusal(&with(&batch(Codec::None), change));
        assert_eq!(error.class(), *class, "{what}: {error}");
        assert!(error.record_errors().is_empty(), "{what}");
    }
    let accepted: &[(&str, Change)] = &[
        ("zeros left by a client without producer id", |it| {
            it.producer_epoch = 0;
            it.base_sequence = 0;
        }),
        ("a transaction", |it| {
            it.attributes |= 1 << 4;
            (it.producer_id, it.producer_epoch, it.base_sequence) = (0, 0, 0);
        }),
        ("attribute bits of the future", |it| it.attributes |= 1 << 7),
    ];
    for (what, change) in accepted {
        let valid = validate_batch(&with(&batch(Codec::None), change), &limits(), NOW);
        assert!(valid.is_ok(), "{what}: {valid:?}");
    }
}

#[test]
fn zstd_needs_a_request_that_allows_it() {
    let early = BatchLimits { allow_zstd: false, ..limits() };
    for codec in Codec::ALL {
        let result = validate_batch(&batch(codec), &early, NOW);
        if codec == Codec::Zstd {
            let error = result.unwrap_err();
            assert_eq!(error.class(), ErrorClass::UnsupportedCompressionType);
        } else {
            assert!(result.is_ok());
        }
    }
}

#[test]
fn records_must_be_whole_and_counted_from_zero() {
    const FIRST: &[u8] = &[0x0c, 0, 0, 0, 1, 1, 0];
    const SECOND: &[u8] = &[0x0c, 0, 0, 2, 1, 1, 0];
    let cases: &[(i32, &[&[u8]], i32, RecordFault)] = &[
        (2, &[FIRST], 1, RecordFault::Truncated),
        (1, &[FIRST, SECOND], 0, RecordFault::LeftOver),
        (1, &[FIRST, &[0]], 0, RecordFault::LeftOver),
        (2, &[FIRST, FIRST], 1, RecordFault::OffsetDelta { expected: 1, found: 0 }),
        (1, &[SECOND], 0, RecordFault::OffsetDelta { expected: 0, found: 1 }),
        (1, &[&[0x0c, 0, 0, 1, 1, 1, 0]], 0, RecordFault::OffsetDelta { expected: 0, found: -1 }),
        (1, &[&[0x0a, 0, 0, 0, 1, 1, 0]], 0, RecordFault::Size { declared: 5, found: 6 }),
        (1, &[&[0x0c, 0, 0, 0, 3, 1, 0]], 0, RecordFault::Length { length: -2 }),
        (1, &[&[0x0c, 0, 0, 0, 1, 1, 1]], 0, RecordFault::Length { length: -1 }),
        (1, &[&[0x0c, 0, 0, 0, 20, 1, 0]], 0, RecordFault::Truncated),
        (1, &[&[0x0c, 0, 0, 0, 1, 1, 0x80, 0x80, 0x80, 0x80, 0x7f]], 0, RecordFault::Varint),
    ];
    for codec in Codec::ALL {
        let good = around(codec, 2, &[FIRST, SECOND].concat());
        assert!(validate_batch(&good, &limits(), NOW).is_ok(), "{codec:?}");
        for (count, records, index, fault) in cases {
            let error = refusal(&around(codec, *count, &records.concat()));
            let expect = BatchError::Malformed { index: *index, fault: *fault };
            assert_eq!(error, expect, "{codec:?} {records:02x?}");
            assert_eq!(error.class(), ErrorClass::InvalidRecord);
        }
    }
}

#[test]
fn every_record_out_of_bounds_is_named() {
    let bounds = |before_max_ms, after_max_ms| BatchLimits {
        timestamps: TimestampRule::CreateTime { before_max_ms, after_max_ms },
        ..limits()
    };
    // The records are at +0, +5 and -5.
    for codec in Codec::ALL {
        let batch = batch(codec);
        let rejected = |limits: &BatchLimits, now_ms| match validate_batch(&batch, limits, now_ms) {
            Ok(_) => Vec::new(),
            Err(error) => {
                assert_eq!(error.class(), ErrorClass::InvalidTimestamp);
                error.record_errors().iter().map(|error| error.index).collect()
            }
        };
        assert_eq!(rejected(&bounds(5, 5), NOW), [0; 0]);
        assert_eq!(rejected(&bounds(4, 5), NOW), [2]);
        assert_eq!(rejected(&bounds(5, 4), NOW), [1]);
        assert_eq!(rejected(&bounds(0, 0), NOW + 1), [0, 1, 2]);
        assert_eq!(rejected(&bounds(i64::MAX, i64::MAX), 0), [0; 0]);
        let broker_time = BatchLimits { timestamps: TimestampRule::LogAppendTime, ..bounds(0, 0) };
        assert_eq!(rejected(&broker_time, 0), [0; 0]);
    }
}

#[test]
fn a_record_may_have_no_timestamp() {
    let mut writer = BatchWriter::new(BatchSpec::default());
    writer.append(-1, None, Some(b"v"), &[]).unwrap();
    let batch = writer.finish().unwrap();
    let timestamps = TimestampRule::CreateTime { before_max_ms: 0, after_max_ms: 0 };
    let strict = BatchLimits { timestamps, ..limits() };
    assert_eq!(validate_batch(&batch, &strict, NOW).unwrap().max_timestamp, -1);
}

#[test]
fn the_broker_s_timestamp_type_is_refused_from_clients() {
    for timestamps in [limits().timestamps, TimestampRule::LogAppendTime] {
        let limits = BatchLimits { timestamps, ..limits() };
        let batch = with(&batch(Codec::None), |it| it.attributes |= 1 << 3);
        let error = validate_batch(&batch, &limits, NOW).unwrap_err();
        assert_eq!(error.class(), ErrorClass::InvalidTimestamp);
        assert_eq!(error.record_errors().len(), 3);
    }
}

#[test]
fn a_compacted_topic_names_each_record_without_key() {
    let compacted = BatchLimits { require_keys: true, ..limits() };
    for codec in Codec::ALL {
        let error = validate_batch(&batch(codec), &compacted, NOW).unwrap_err();
        assert_eq!(error.class(), ErrorClass::InvalidRecord);
        assert_eq!(
            error.record_errors(),
            [RecordError { index: 1, problem: RecordProblem::NoKey }]
        );
        assert_eq!(
            error.to_string(),
            "One or more records have been rejected due to 1 record errors in total, and only \
             showing the first three errors at most: record 1: Compacted topic cannot accept \
             message without key"
        );
    }
    // A bad timestamp anywhere decides the class of the batch.
    let timestamps = TimestampRule::CreateTime { before_max_ms: 4, after_max_ms: 5 };
    let error = validate_batch(&batch(Codec::None), &BatchLimits { timestamps, ..compacted }, NOW);
    assert_eq!(error.unwrap_err().class(), ErrorClass::InvalidTimestamp);
}

#[test]
fn the_list_of_rejected_records_is_bounded() {
    let mut writer = BatchWriter::new(BatchSpec { codec: Codec::Gzip, ..BatchSpec::default() });
    for _ in 0..5000 {
        writer.append(NOW, None, None, &[]).unwrap();
    }
    let compacted = BatchLimits { require_keys: true, ..limits() };
    let error = validate_batch(&writer.finish().unwrap(), &compacted, NOW).unwrap_err();
    assert_eq!(error.record_errors().len(), RecordErrors::LISTED_MAX);
    assert!(matches!(error, BatchError::Rejected(errors) if errors.count == 5000));
}

#[test]
fn content_beyond_the_budget_is_too_large() {
    for codec in Codec::ALL {
        let tight = BatchLimits { content_size_bytes_max: 100, ..limits() };
        let result = validate_batch(&batch(codec), &tight, NOW);
        if codec == Codec::None {
            assert!(result.is_ok());
        } else {
            assert_eq!(result.unwrap_err().class(), ErrorClass::MessageTooLarge, "{codec:?}");
        }
    }
}

#[test]
fn lz4_that_java_cannot_read_is_refused() {
    use std::io::Write;
    let mut encoder = lz4::EncoderBuilder::new()
        .block_mode(lz4::BlockMode::Linked)
        .block_size(lz4::BlockSize::Max64KB)
        .build(Vec::new())
        .unwrap();
    encoder.write_all(&[0x0c, 0, 0, 0, 1, 1, 0]).unwrap();
    let payload = encoder.finish().0;
    let good = around(Codec::Lz4, 1, &[]);
    let header = BatchHeader::parse(&good).unwrap();
    let batch_length = i32::try_from(49 + payload.len()).unwrap();
    let header = BatchHeader { batch_length, ..header }.sealed(&payload);
    let batch = Bytes::from([&header.encode()[..], &payload].concat());
    assert_eq!(refusal(&batch), BatchError::LinkedLz4);
    assert_eq!(RecordReader::open(&batch, 100).unwrap().records().count(), 1);
}

#[test]
fn a_producer_s_fields_pass_through() {
    let producer = Producer { id: 12, epoch: 3, base_sequence: i32::MAX - 1 };
    let spec = BatchSpec { producer: Some(producer), transactional: true, ..BatchSpec::default() };
    let mut writer = BatchWriter::new(spec);
    for _ in 0..4 {
        writer.append(NOW, None, None, &[]).unwrap();
    }
    let valid = validate_batch(&writer.finish().unwrap(), &limits(), NOW).unwrap();
    assert_eq!((valid.header.producer_id, valid.header.producer_epoch), (12, 3));
    assert_eq!(valid.header.last_sequence(), 1);
}

/// The batches of `testdata/client_batches.txt`: client, codec, bytes.
fn client_batches() -> Vec<(&'static str, Codec, Bytes)> {
    let lines = include_str!("../testdata/client_batches.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let [client, codec, hex] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let codec = Codec::ALL.into_iter().find(|it| it.name() == codec).unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (client, codec, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

#[test]
fn batches_of_real_clients_pass_and_are_read() {
    let batches = client_batches();
    assert_eq!(batches.len(), 28);
    for (client, codec, batch) in batches {
        let valid = validate_batch(&batch, &limits(), NOW).unwrap();
        assert_eq!((valid.codec, valid.max_timestamp), (codec, NOW + 2), "{client}");
        assert_eq!(valid.header.max_timestamp, NOW + 2, "{client}");
        let reader = RecordReader::open(&batch, 1 << 20).unwrap();
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        let seen: Vec<_> =
            records.iter().map(|it| (it.offset, it.timestamp, it.key, it.value)).collect();
        let expect = [
            (0, NOW, Some(&b"key-0"[..]), Some(&[b'v'; 300][..])),
            (1, NOW + 1, None, Some(&b"value-1"[..])),
            (2, NOW + 2, Some(&b"key-2"[..]), None),
        ];
        assert_eq!(seen, expect, "{client} {codec:?}");
        let mut headers: Vec<(&[u8], Option<&[u8]>)> = vec![(b"h", Some(b"1")), (b"h", None)];
        // Its interface has no null header values.
        if client.starts_with("kafkajs") {
            headers.pop();
        }
        assert!(records[0].headers.iter().eq(headers), "{client} {codec:?}");
    }
}

/// Damages a batch, with or without making the header agree again.
fn damaged(mut batch: Vec<u8>, damage: &[(u16, u8)], cut: Option<u16>, reseal: bool) -> Vec<u8> {
    for (at, value) in damage {
        let at = usize::from(*at) % batch.len();
        batch[at] = *value;
    }
    if let Some(cut) = cut {
        batch.truncate(usize::from(cut) % batch.len());
    }
    if reseal && let Some((header, payload)) = batch.split_first_chunk_mut::<61>() {
        header[16] = 2;
        header[8..12].copy_from_slice(&i32::try_from(payload.len() + 49).unwrap().to_be_bytes());
        if header[7] % 4 != 0 {
            header[0..8].fill(0);
        }
        *header = BatchHeader::parse(header).unwrap().sealed(payload).encode();
    }
    batch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50_000))]

    #[test]
    fn hostile_batches_never_panic_and_what_passes_is_readable(
        codec in proptest::sample::select(&Codec::ALL),
        damage in proptest::collection::vec((0..600_u16, any::<u8>()), 0..4),
        in_records in proptest::collection::vec((60..140_u16, any::<u8>()), 0..2),
        cut in proptest::option::weighted(0.1, any::<u16>()),
        reseal in proptest::bool::weighted(0.9),
    ) {
        let damage = [damage, in_records].concat();
        let batch = Bytes::from(damaged(batch(codec), &damage, cut, reseal));
        let limits = BatchLimits { content_size_bytes_max: 4096, ..limits() };
        let valid = validate_batch(&batch, &limits, NOW);
        let records = RecordReader::open(&batch, 4096)
            .map(|reader| reader.records().collect::<Result<Vec<_>, _>>().map(|it| {
                it.iter().map(|it| (it.offset, it.timestamp)).collect::<Vec<_>>()
            }));
        let target = Target { codec: Codec::Lz4, level: None };
        let again = recompress(&batch, target, 4096);
        if let Ok(valid) = valid {
            let records = records.unwrap().unwrap();
            let count = i64::from(valid.header.records_count);
            prop_assert!(records.iter().map(|it| it.0).eq(0..count));
            let max = records.iter().map(|it| it.1).max().unwrap();
            prop_assert_eq!(max.max(-1), valid.max_timestamp);
            let again = validate_batch(&again.unwrap().batch, &limits, NOW).unwrap();
            prop_assert_eq!(again.max_timestamp, valid.max_timestamp);
        }
    }
}
