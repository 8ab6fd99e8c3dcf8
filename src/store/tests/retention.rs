//! Log starts by age and size, and what becomes of emptied segments.

use super::support::*;
use crate::env::fs::Fs;
use crate::env::sim::SimFs;
use crate::model::{Offset, QueueId};
use crate::store::{BatchEntry, Class, LogHandle, ReadError, ReadSpec, Retention, Store};

const Q: QueueId = QueueId(1);
const HOUR_MS: i64 = 3_600_000;

fn open(fs: &SimFs) -> Store {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    store.handle().open_queue(Q);
    store
}

/// Appends a batch of ten records with a timestamp relative to now.
fn put(store: &Store, max_timestamp: i64) {
    let (bytes, header) = batch_at(10, &[1; 39], max_timestamp);
    store.handle().append(Q, EPOCH, Class::Data, &bytes, &header).unwrap();
    write_all(store);
    store.maintain().unwrap();
}

fn expire(log: &LogHandle, now_ms: i64, age_ms: Option<i64>, size_bytes: Option<u64>) -> i64 {
    log.expire(Q, now_ms, Retention { age_ms, size_bytes }).unwrap().0
}

#[test]
fn batches_go_exactly_when_they_reach_their_age() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    for hours in [-5, -4, -3, -2] {
        put(&store, NOW_MS + hours * HOUR_MS);
    }
    assert_eq!(expire(&log, NOW_MS, None, None), 0);
    assert_eq!(expire(&log, NOW_MS, Some(5 * HOUR_MS), None), 0, "not a moment earlier");
    assert_eq!(expire(&log, NOW_MS + 1, Some(5 * HOUR_MS), None), 10);
    assert_eq!(expire(&log, NOW_MS, Some(2 * HOUR_MS), None), 30);
    assert_eq!(expire(&log, NOW_MS, Some(0), None), 40);
    assert_eq!(log.offsets(Q).unwrap().log_start, Offset(40));
}

#[test]
fn a_young_batch_keeps_those_behind_it_and_a_timestamp_from_the_future_does_not_for_ever() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    put(&store, NOW_MS - HOUR_MS);
    put(&store, NOW_MS + 1_000_000 * HOUR_MS);
    put(&store, NOW_MS - 9 * HOUR_MS);
    put(&store, -1);
    assert_eq!(expire(&log, NOW_MS, Some(HOUR_MS / 2), None), 10);
    assert_eq!(expire(&log, NOW_MS + HOUR_MS, Some(HOUR_MS / 2), None), 40, "age since it came");
}

#[test]
fn the_oldest_go_while_enough_bytes_are_left() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    for _ in 0..400 {
        put(&store, NOW_MS);
    }
    assert!(log.stats().segments > 2);
    assert_eq!(expire(&log, NOW_MS, None, Some(40_000)), 0);
    assert_eq!(expire(&log, NOW_MS, None, Some(39_901)), 0, "at least so many bytes stay");
    assert_eq!(expire(&log, NOW_MS, None, Some(39_900)), 10);
    log.set_log_start(Q, Offset(55)).unwrap();
    assert_eq!(expire(&log, NOW_MS, None, Some(39_400)), 60, "bytes below the start are gone");
    assert_eq!(expire(&log, NOW_MS, None, Some(250)), 3970);
    assert_eq!(expire(&log, NOW_MS, None, Some(0)), 4000);
    assert_eq!(read_all(&log, 1).unwrap(), []);
}

#[test]
fn emptied_segments_are_used_again_and_held_ones_are_not_touched() {
    let fs = SimFs::new(1);
    let config = crate::store::StoreConfig { gather_below_bytes: 1, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(&fs), config);
    let log = store.handle();
    log.open_queue(Q);
    for _ in 0..400 {
        put(&store, NOW_MS);
    }
    let few = ReadSpec { size_bytes_max: 500, ..spec(0) };
    let held = log.locate(Q, few).unwrap();
    assert!(!held.is_hot());
    let held = held.load().unwrap();
    let before = parse_batches(&held.slices);
    let files = |fs: &SimFs| -> Vec<String> {
        let names = fs.list(&sim_dir()).unwrap().into_iter().map(|entry| entry.name);
        names.filter(|name| name.ends_with(".log") || name.ends_with(".spare")).collect()
    };
    let most = files(&fs).len() + 3;
    for _ in 0..5 {
        let start = log.offsets(Q).unwrap().high_watermark;
        log.set_log_start(Q, start).unwrap();
        log.recycle().unwrap();
        for _ in 0..400 {
            put(&store, NOW_MS);
        }
    }
    assert_eq!(parse_batches(&held.slices), before, "a reader keeps what it holds");
    assert!(files(&fs).len() <= most, "{:?}", files(&fs));
    drop(held);
    log.set_log_start(Q, log.offsets(Q).unwrap().high_watermark).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    let left = files(&fs);
    assert!(!left.contains(&"00000000000000000000.log".to_owned()), "{left:?}");
    assert_eq!(fs.violations(), Vec::<String>::new());
    let logs = left.iter().filter(|name| name.ends_with(".log")).count();
    assert!(logs <= 3, "{left:?}");
}

#[test]
fn records_that_go_between_looking_and_loading_are_out_of_range_and_not_lost() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    for _ in 0..400 {
        put(&store, NOW_MS);
    }
    let located = log.locate(Q, spec(10)).unwrap();
    assert!(!located.is_hot());
    log.set_log_start(Q, Offset(2000)).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    assert!(matches!(located.load(), Err(ReadError::OutOfRange { log_start: Offset(2000), .. })));
}

/// A sealed segment is read through a map, and nobody may write to a mapped file.
#[test]
fn a_segment_is_sealed_once_all_of_it_is_durable_and_not_before() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    while log.appended().0 <= 16 << 10 {
        append(&log, 1, 1, &[1; 1000]).unwrap();
    }
    let index = sim_dir().join("00000000000000000000.index");
    let is_sealed = || fs.size(&index).unwrap().is_some();
    let mut durable = log.durable().0;
    while durable < 16 << 10 {
        store.maintain().unwrap();
        assert_eq!(log.durable().0, durable, "nothing was to be done that needs it durable");
        assert!(!is_sealed(), "sealed at {durable}");
        assert!(store.write_ready().unwrap());
        durable = log.durable().0;
    }
    store.maintain().unwrap();
    assert!(is_sealed());
}

#[test]
fn lookups_by_time_find_the_first_batch_that_reaches_it() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    for i in 0..400i64 {
        // Times go up and down; one peak.
        put(&store, 1000 + 10 * (i / 2) + if i == 300 { 100_000 } else { 0 });
    }
    let entry = |i: i64, max_timestamp| BatchEntry {
        base_offset: Offset(i * 10),
        next_offset: Offset(i * 10 + 10),
        max_timestamp,
    };
    let at = |timestamp| log.entry_at_time(Q, timestamp).unwrap();
    assert_eq!(at(0), Some(entry(0, 1000)));
    assert_eq!(at(1000), Some(entry(0, 1000)));
    assert_eq!(at(1001), Some(entry(2, 1010)));
    assert_eq!(at(2490), Some(entry(298, 2490)));
    assert_eq!(at(2491), Some(entry(300, 102_500)));
    assert_eq!(at(102_501), None);
    assert_eq!(log.max_timestamp_entry(Q).unwrap(), Some(entry(300, 102_500)));
    log.set_log_start(Q, Offset(3010)).unwrap();
    assert_eq!(at(0), Some(entry(301, 2500)));
    assert_eq!(log.max_timestamp_entry(Q).unwrap(), Some(entry(398, 2990)));
}
