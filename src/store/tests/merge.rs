//! Merging: space comes back although something in every segment lives on.

use super::support::*;
use crate::env::Fs;
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, QueueId};
use crate::store::{Class, DumpSpec, LogHandle, Retention, Store, check, dump};

const LONG: u32 = 1;

fn open(fs: &SimFs) -> Store {
    open_inline(&sim_env(fs), tiny(&sim_dir()))
}

fn put(store: &Store, queue: u32, body: &[u8]) {
    let log = store.handle();
    log.open_queue(QueueId(queue));
    append(&log, queue, 3, body).unwrap();
    write_all(store);
    store.maintain().unwrap();
}

/// Fills segments with a little of a long-lived queue and much of others, and drops those.
fn shared_by_many(store: &Store, rounds: std::ops::Range<u32>) {
    let log = store.handle();
    for round in rounds {
        put(store, LONG, &round.to_be_bytes().repeat(20));
        let short = 100 + round;
        for _ in 0..4 {
            put(store, short, &[7; 1000]);
        }
        log.drop_queue(QueueId(short)).unwrap();
    }
    write_all(store);
}

fn files(fs: &SimFs, suffix: &str) -> Vec<String> {
    let names = fs.list(&sim_dir()).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with(suffix)).collect()
}

fn no_findings(fs: &SimFs) {
    let report = check(&sim_env(fs), &sim_dir()).unwrap();
    assert_eq!(report.findings, [], "{}", fs.dump());
}

#[test]
fn deleted_queues_give_space_back_although_a_long_lived_one_shares_every_segment() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    shared_by_many(&store, 0..40);
    log.recycle().unwrap();
    let (before, used) = (read_all(&log, LONG).unwrap(), fs.used_bytes());
    assert_eq!(before.len(), 40);
    assert!(log.stats().segments > 8, "a record that lives holds every segment");
    let cleaned = log.clean(NOW_MS, &[], LIMITS).unwrap();
    assert!(cleaned.merged > 8, "{cleaned:?}");
    assert_eq!(read_all(&log, LONG).unwrap(), before);
    assert!(log.stats().segments <= 2, "{:?}", log.stats());
    assert!(fs.used_bytes() * 3 < used, "{} of {used}", fs.used_bytes());
    assert_eq!(log.clean(NOW_MS, &[], LIMITS).unwrap().merged, 0, "once is enough");
    // Whichever way the broker ends, everything is there again.
    let mut fs = fs;
    for clean in [false, true] {
        fs = fs.restart();
        let store = open(&fs);
        assert_eq!(read_all(&store.handle(), LONG).unwrap(), before);
        if clean {
            store.close().unwrap();
        }
    }
    no_findings(&fs.restart());
}

#[test]
fn records_in_and_behind_sorted_segments_are_found_by_offset_time_and_epoch() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    log.open_queue(QueueId(LONG));
    let mut epoch = 0;
    for i in 0..60i32 {
        let (bytes, header) = batch_at(3, &i.to_be_bytes(), NOW_MS + i64::from(i) * 10);
        log.append(QueueId(LONG), LeaderEpoch(epoch), Class::Data, &bytes, &header).unwrap();
        log.open_queue(QueueId(200));
        let (bytes, header) = batch_at(1, &[1; 3000], NOW_MS);
        log.append(QueueId(200), LeaderEpoch(epoch), Class::Data, &bytes, &header).unwrap();
        write_all(&store);
        store.maintain().unwrap();
        if i % 20 == 19 {
            epoch += 1;
            log.start_epoch(LeaderEpoch(epoch)).unwrap();
        }
    }
    log.drop_queue(QueueId(200)).unwrap();
    write_all(&store);
    assert!(log.clean(NOW_MS, &[], LIMITS).unwrap().merged > 0);
    assert!(!files(&fs, ".sorted").is_empty());
    let is_all_there = |log: &LogHandle| {
        for i in 0..60i64 {
            let read = log.locate(QueueId(LONG), spec(i * 3 + 1)).unwrap().load().unwrap();
            assert_eq!(parse_batches(&read.slices)[0].base_offset, i * 3);
            let entry = log.entry_at_time(QueueId(LONG), NOW_MS + i * 10 - 5).unwrap().unwrap();
            assert_eq!(entry.base_offset, Offset(i * 3));
        }
        let end = |epoch| log.epoch_end(QueueId(LONG), LeaderEpoch(epoch)).unwrap();
        for epoch in 0..3 {
            let expected = (LeaderEpoch(epoch), Offset(i64::from(epoch + 1) * 60));
            assert_eq!(end(epoch), Some(expected));
        }
        let kept = log.size_bytes(QueueId(LONG)).unwrap();
        assert_eq!(kept, 60 * 65);
    };
    is_all_there(&log);
    is_all_there(&open(&fs.restart()).handle());
}

#[test]
fn retention_and_log_starts_go_on_in_sorted_segments_and_free_them() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    shared_by_many(&store, 0..40);
    log.clean(NOW_MS, &[], LIMITS).unwrap();
    assert_eq!(files(&fs, ".sorted").len(), 1);
    let kept = Retention { size_bytes: Some(141 * 10), age_ms: None };
    assert_eq!(log.expire(QueueId(LONG), NOW_MS, kept).unwrap(), Offset(30 * 3));
    write_all(&store);
    assert_eq!(read_all(&log, LONG).unwrap().len(), 10);
    log.set_log_start(QueueId(LONG), Offset(120)).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    assert_eq!(files(&fs, ".sorted"), Vec::<String>::new());
    put(&store, LONG, b"more");
    assert_eq!(read_all(&log, LONG).unwrap().len(), 1);
}

#[test]
fn small_sorted_segments_become_one() {
    let fs = SimFs::new(1);
    let config = crate::store::StoreConfig { segment_size_bytes: 96 << 10, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(&fs), config);
    let log = store.handle();
    let mut most = 0;
    for round in 0..30 {
        shared_by_many(&store, round * 20..round * 20 + 20);
        put(&store, 50 + round, b"of its own");
        log.clean(NOW_MS, &[], LIMITS).unwrap();
        most = most.max(files(&fs, ".sorted").len());
    }
    assert!((2..=12).contains(&most), "{most}");
    assert_eq!(read_all(&log, LONG).unwrap().len(), 600);
    for round in 0..30 {
        assert_eq!(read_all(&log, 50 + round).unwrap().len(), 1);
    }
}

#[test]
fn a_reader_keeps_what_it_holds_of_a_segment_that_is_merged() {
    let fs = SimFs::new(1);
    let config = crate::store::StoreConfig { gather_below_bytes: 1, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(&fs), config);
    let log = store.handle();
    shared_by_many(&store, 0..40);
    let located = log.locate(QueueId(LONG), spec(0)).unwrap();
    let held = located.load().unwrap();
    let late = log.locate(QueueId(LONG), spec(0)).unwrap();
    assert!(!late.is_hot());
    let before = parse_batches(&held.slices);
    log.clean(NOW_MS, &[], LIMITS).unwrap();
    shared_by_many(&store, 40..80);
    assert_eq!(parse_batches(&held.slices), before);
    let now = parse_batches(&late.load().unwrap().slices);
    assert_eq!(now[..before.len()], before);
}

#[test]
fn a_segment_with_damage_is_left_and_the_others_are_merged() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    shared_by_many(&store, 0..40);
    let first = sim_dir().join(format!("{:020}.log", 0));
    let bytes = fs.read_all(&first).unwrap();
    // The first batch of the long-lived queue.
    let at = bytes.windows(4).position(|it| it == *b"BFR\x01").unwrap();
    let body = (at..).find(|at| bytes[*at..].starts_with(&[0, 0, 0, 0].repeat(20))).unwrap();
    fs.flip_bit(&first, u64::try_from(body).unwrap(), 0).unwrap();
    let log = store.handle();
    assert!(log.clean(NOW_MS, &[], LIMITS).unwrap().merged > 5);
    assert!(log.locate(QueueId(LONG), spec(0)).unwrap().load().is_err(), "never served");
    assert_eq!(files(&fs, ".log").first().unwrap(), &format!("{:020}.log", 0));
    let read = log.locate(QueueId(LONG), spec(3)).unwrap().load().unwrap();
    assert_eq!(parse_batches(&read.slices).len(), 39);
}

#[test]
fn damage_of_a_sorted_segment_is_noticed_and_the_rest_is_served() {
    let mut fs = SimFs::new(1);
    let store = open(&fs);
    let log: LogHandle = store.handle();
    shared_by_many(&store, 0..40);
    log.clean(NOW_MS, &[], LIMITS).unwrap();
    let before = read_all(&log, LONG).unwrap();
    let path = sim_dir().join(&files(&fs, ".sorted")[0]);
    store.close().unwrap();
    let whole = fs.read_all(&path).unwrap();
    let step = if cfg!(debug_assertions) { 997 } else { 101 };
    for byte in (0..whole.len()).step_by(step).chain(whole.len() - 32..whole.len()) {
        fs.flip_bit(&path, byte as u64, 0).unwrap();
        let padding = check(&sim_env(&fs), &sim_dir()).unwrap().findings.is_empty();
        fs = fs.restart();
        let store = open(&fs);
        let log = store.handle();
        let mut from = 0;
        let mut seen = Vec::new();
        while from < 120 {
            match log.locate(QueueId(LONG), spec(from)).unwrap().load() {
                Ok(read) => {
                    from = read.next_offset.unwrap().0;
                    seen.extend(parse_batches(&read.slices));
                }
                Err(_) => from += 3,
            }
        }
        assert!(seen.iter().all(|batch| before.contains(batch)), "byte {byte}");
        // A block of the index serves all its entries or none.
        let in_the_index = byte > 8192;
        assert!(seen.len() >= 39 || in_the_index, "byte {byte}: {}", seen.len());
        assert!(!padding || seen == before, "byte {byte} was not noticed");
        drop(store);
        fs.flip_bit(&path, byte as u64, 0).unwrap();
    }
}

#[test]
fn sorted_segments_are_dumped_and_a_missing_one_is_found() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    shared_by_many(&store, 0..40);
    log.clean(NOW_MS, &[], LIMITS).unwrap();
    store.close().unwrap();
    let mut out = Vec::new();
    let of_long = DumpSpec { queue: Some(QueueId(LONG)), ..DumpSpec::default() };
    dump(&sim_env(&fs), &sim_dir(), of_long, &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("sorted segment /data/0/"), "{out}");
    assert_eq!(out.matches("data queue 1 offsets").count(), 40, "{out}");
    no_findings(&fs);
    fs.remove(&sim_dir().join(&files(&fs, ".sorted")[0])).unwrap();
    fs.sync_dir(&sim_dir()).unwrap();
    let report = check(&sim_env(&fs), &sim_dir()).unwrap();
    assert_eq!(report.findings.len(), 1);
    let opened = Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(Recorder::default()));
    assert!(matches!(opened, Err(crate::store::OpenError::Missing { .. })), "{opened:?}");
}

#[test]
fn a_merge_on_a_full_disk_changes_nothing_and_is_done_later() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    shared_by_many(&store, 0..40);
    let before = read_all(&log, LONG).unwrap();
    fs.set_capacity(Some(fs.used_bytes() + 6000));
    drop(log.clean(NOW_MS, &[], LIMITS));
    assert_eq!(read_all(&log, LONG).unwrap(), before);
    assert_eq!(files(&fs, ".sorted.new"), Vec::<String>::new());
    fs.set_capacity(None);
    store.maintain().unwrap();
    log.clean(NOW_MS, &[], LIMITS).unwrap();
    assert!(log.stats().segments <= 2);
    assert_eq!(read_all(&log, LONG).unwrap(), before);
}
