use braid_protocol::records::{Codec, TimestampType};

use super::*;
use crate::store::tests::support::real_env;

const NOW_MS: i64 = 5_000;

type Content<'a> = (Option<&'a str>, Option<&'a str>);

fn batch(spec: BatchSpec, records: &[Content<'_>]) -> (Bytes, BatchHeader) {
    let mut writer = BatchWriter::new(spec);
    for (i, (key, value)) in records.iter().enumerate() {
        let timestamp = 1_000 + i64::try_from(i).unwrap();
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        writer.append(timestamp, key, value, &[(b"h", Some(b"1")), (b"h", None)]).unwrap();
    }
    let batch = writer.finish().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    (batch, header)
}

/// Keys and the offsets of their last records.
fn keys(last: &[(&str, i64)]) -> Keys {
    let mut keys = Keys::new(&real_env(), 1 << 20);
    last.iter().for_each(|(key, offset)| keys.note(key.as_bytes(), *offset));
    keys
}

fn filter(keys: &Keys) -> Filter<'_> {
    Filter { keys, now_ms: NOW_MS, delete_retention_ms: 100, next_horizon_ms: None }
}

fn at(base_offset: i64) -> BatchSpec {
    BatchSpec { base_offset, partition_leader_epoch: 3, ..BatchSpec::default() }
}

#[test]
fn superseded_records_go_and_the_rest_keeps_everything_else() {
    let producer = Producer { id: 7, epoch: 2, base_sequence: 40 };
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let spec = BatchSpec { codec, producer: Some(producer), ..at(10) };
        let content = [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5")];
        let content = content.map(|(key, value)| (Some(key), Some(value)));
        let (bytes, header) = batch(spec, &content);
        let keys = keys(&[("a", 12), ("b", 99), ("c", 13)]);
        let Kept::Less(less) = filter(&keys).keep(&bytes, &header, false) else { panic!() };
        let reader = RecordReader::open(&less, 1 << 20).unwrap();
        let left: Vec<_> = reader
            .into_iter()
            .map(|it| it.unwrap())
            .map(|it| (it.offset, it.timestamp, it.key.unwrap(), it.value.unwrap()))
            .collect();
        assert_eq!(left, [(12, 1_002, &b"a"[..], &b"3"[..]), (13, 1_003, b"c", b"4")]);
        let headers = reader.into_iter().next().unwrap().unwrap().headers;
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [(&b"h"[..], Some(&b"1"[..])), (b"h", None)]
        );
        let after = *reader.header();
        assert!(after.crc_matches(&less));
        assert_eq!(after.codec(), Ok(codec));
        assert_eq!((after.base_offset, after.last_offset_delta), (10, 4));
        assert_eq!((after.producer_id, after.producer_epoch, after.base_sequence), (7, 2, 40));
        assert_eq!((after.last_sequence(), after.partition_leader_epoch), (44, 3));
        assert_eq!((after.records_count, after.max_timestamp), (2, 1_003));
    }
}

#[test]
fn a_batch_of_last_records_stays_byte_for_byte() {
    let (bytes, header) = batch(at(0), &[(Some("a"), Some("1")), (Some("b"), Some("2"))]);
    assert_eq!(filter(&keys(&[("b", 1)])).keep(&bytes, &header, false), Kept::Whole);
}

#[test]
fn records_without_a_key_go() {
    let (bytes, header) = batch(at(0), &[(None, Some("1")), (Some(""), Some("2"))]);
    let none = keys(&[]);
    let Kept::Less(less) = filter(&none).keep(&bytes, &header, false) else { panic!() };
    let reader = RecordReader::open(&less, 1 << 20).unwrap();
    assert_eq!(reader.into_iter().map(|it| it.unwrap().offset).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_tombstone_stays_until_its_time_which_the_first_cleaning_sets() {
    let (bytes, header) = batch(at(0), &[(Some("a"), Some("1")), (Some("b"), None)]);
    let none = keys(&[]);
    let mut first = filter(&none);
    let Kept::Less(marked) = first.keep(&bytes, &header, false) else { panic!() };
    assert_eq!(first.next_horizon_ms, Some(NOW_MS + 100));
    let header = BatchHeader::parse(&marked).unwrap();
    assert_eq!(header.delete_horizon_ms(), Some(NOW_MS + 100));
    let reader = RecordReader::open(&marked, 1 << 20).unwrap();
    let times: Vec<_> = reader.into_iter().map(|it| it.unwrap().timestamp).collect();
    assert_eq!(times, [1_000, 1_001], "the time to go is no record's");

    let at_ms = |now_ms| Filter { now_ms, ..filter(&none) };
    assert_eq!(at_ms(NOW_MS + 99).keep(&marked, &header, false), Kept::Whole);
    let Kept::Less(gone) = at_ms(NOW_MS + 100).keep(&marked, &header, false) else { panic!() };
    let reader = RecordReader::open(&gone, 1 << 20).unwrap();
    assert_eq!(reader.into_iter().map(|it| it.unwrap().offset).collect::<Vec<_>>(), [0]);
    assert_eq!(reader.header().delete_horizon_ms(), None);
    assert_eq!(reader.header().last_offset(), 1);
}

#[test]
fn a_batch_that_must_stay_keeps_its_header() {
    let producer = Producer { id: 7, epoch: 2, base_sequence: 40 };
    let spec = BatchSpec { codec: Codec::Lz4, producer: Some(producer), ..at(10) };
    let (bytes, header) = batch(spec, &[(Some("a"), Some("1")), (Some("a"), Some("2"))]);
    let keys = keys(&[("a", 50)]);
    assert_eq!(filter(&keys).keep(&bytes, &header, false), Kept::Nothing);
    let Kept::Less(empty) = filter(&keys).keep(&bytes, &header, true) else { panic!() };
    let after = BatchHeader::parse(&empty).unwrap();
    assert!(empty.len() == BatchHeader::SIZE_BYTES && after.crc_matches(&empty));
    assert_eq!((after.base_offset, after.last_offset(), after.records_count), (10, 11, 0));
    assert_eq!((after.last_sequence(), after.max_timestamp), (41, 1_001));
    assert_eq!(filter(&keys).keep(&empty, &after, true), Kept::Whole);
    assert_eq!(filter(&keys).keep(&empty, &after, false), Kept::Nothing);
}

#[test]
fn log_append_time_is_kept() {
    let spec = BatchSpec { log_append_time_ms: Some(4_000), ..at(0) };
    let (bytes, header) = batch(spec, &[(Some("a"), Some("1")), (Some("b"), None)]);
    let keys = keys(&[("a", 9)]);
    let Kept::Less(less) = filter(&keys).keep(&bytes, &header, false) else { panic!() };
    let reader = RecordReader::open(&less, 1 << 20).unwrap();
    assert_eq!(reader.header().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(reader.into_iter().next().unwrap().unwrap().timestamp, 4_000);
}

#[test]
fn control_batches_and_what_cannot_be_read_stay_and_do_not_count() {
    let content = [(Some("a"), Some("1"))];
    let spec = BatchSpec { control: true, ..at(0) };
    let control = batch(spec, &content);
    let (bytes, header) = batch(BatchSpec { codec: Codec::Zstd, ..at(0) }, &content);
    let bent = Bytes::from([&bytes[..bytes.len() - 3], &[0; 3]].concat());
    for (bytes, header) in [control, (bent, header)] {
        let superseded = keys(&[("a", 50)]);
        assert_eq!(filter(&superseded).keep(&bytes, &header, false), Kept::Whole);
        let mut counted = keys(&[]);
        note_keys(&mut counted, &bytes, &header);
        assert!(counted.is_last(b"a", -1), "not entered");
    }
}

#[test]
fn what_stays_of_a_transaction_is_part_of_it_still() {
    let producer = Some(Producer { id: 7, epoch: 2, base_sequence: 40 });
    let spec = BatchSpec { producer, transactional: true, ..at(10) };
    let (bytes, header) = batch(spec, &[(Some("a"), Some("1")), (Some("b"), Some("2"))]);
    let keys = keys(&[("a", 50)]);
    let Kept::Less(less) = filter(&keys).keep(&bytes, &header, false) else { panic!() };
    let after = BatchHeader::parse(&less).unwrap();
    assert!(after.is_transactional() && !after.is_control());
    assert_eq!((after.producer_id, after.producer_epoch, after.records_count), (7, 2, 1));
    assert_eq!(Filter::keep_void(&header, false), Kept::Nothing);
    let Kept::Less(empty) = Filter::keep_void(&header, true) else { panic!() };
    let after = BatchHeader::parse(&empty).unwrap();
    assert!(after.is_transactional() && after.records_count == 0);
    assert_eq!(Filter::keep_void(&after, true), Kept::Whole);
}

#[test]
fn a_marker_without_a_transaction_stays_until_its_time() {
    use braid_protocol::records::{Marker, MarkerRecord};
    let bytes = Marker::Abort.batch((7, 2), 5, 1_000).unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    let none = keys(&[]);
    let mut it = filter(&none);
    let fate = MarkerFate::Needed;
    assert_eq!(it.keep_marker(&bytes, &header, fate, false), Kept::Whole);
    assert_eq!(it.next_horizon_ms, None);
    assert_eq!(it.keep_marker(&bytes, &header, MarkerFate::Next, false), Kept::Whole);
    assert_eq!(it.next_horizon_ms, Some(NOW_MS), "once more, soon");
    let mut it = filter(&none);
    let Kept::Less(timed) = it.keep_marker(&bytes, &header, MarkerFate::Free, false) else {
        panic!()
    };
    assert_eq!(it.next_horizon_ms, Some(NOW_MS + 100));
    let after = BatchHeader::parse(&timed).unwrap();
    assert!(after.is_control() && after.is_transactional() && after.crc_matches(&timed));
    assert_eq!(after.delete_horizon_ms(), Some(NOW_MS + 100));
    let said = MarkerRecord { kind: Marker::Abort, coordinator_epoch: 5 };
    assert_eq!((after.marker, after.producer_id, after.producer_epoch), (Some(said), 7, 2));
    let at_ms = |now_ms| Filter { now_ms, ..filter(&none) };
    let fate = MarkerFate::Free;
    let mut early = at_ms(NOW_MS + 99);
    assert_eq!(early.keep_marker(&timed, &after, fate, false), Kept::Whole);
    assert_eq!(at_ms(NOW_MS + 100).keep_marker(&timed, &after, fate, false), Kept::Nothing);
    let Kept::Less(empty) = at_ms(NOW_MS + 100).keep_marker(&timed, &after, fate, true) else {
        panic!()
    };
    let left = BatchHeader::parse(&empty).unwrap();
    assert!(left.is_control() && left.records_count == 0 && left.marker.is_none());
    assert_eq!(early.keep_marker(&empty, &left, fate, true), Kept::Whole);
    assert_eq!(early.keep_marker(&empty, &left, fate, false), Kept::Nothing);
}
