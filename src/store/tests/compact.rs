//! Compaction: the last value of every key stays, at every moment and through every crash.

use braid_protocol::records::{BatchHeader, BatchSpec, Producer};
use proptest::prelude::*;

use super::compact_world::{ALL, CompactWorld, Record, keyed, read_records, table};
use super::support::*;
use super::world::{Dice, random_config};
use crate::env::Fs;
use crate::env::sim::SimFs;
use crate::model::{Offset, ProducerId, QueueId};
use crate::store::{ActiveProducer, Class, CleanLimits, Compaction, ReadError, Store, check};

const Q: u32 = 1;
const RULES: &[(QueueId, Compaction)] = &[(QueueId(Q), ALL)];

fn open(fs: &SimFs) -> Store {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    store.handle().open_queue(QueueId(Q));
    store
}

fn put_as(store: &Store, spec: BatchSpec, content: &[(&str, Option<&str>)]) {
    let content: Vec<_> = content
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.map(|it| it.as_bytes().to_vec())))
        .collect();
    let (bytes, header) = keyed(spec, &content, NOW_MS);
    store.handle().append(QueueId(Q), EPOCH, Class::Data, &bytes, &header).unwrap();
    write_all(store);
    store.maintain().unwrap();
}

fn put(store: &Store, content: &[(&str, Option<&str>)]) {
    put_as(store, BatchSpec::default(), content);
}

fn offsets_of(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| record.offset).collect()
}

/// Headers of the batches that are left.
fn headers(store: &Store) -> Vec<BatchHeader> {
    let log = store.handle();
    let mut from = log.offsets(QueueId(Q)).unwrap().log_start.0;
    let mut headers = Vec::new();
    while let Some(next) = {
        let read = log.locate(QueueId(Q), spec(from)).unwrap().load().unwrap();
        let all = bytes::Bytes::from(read.slices.concat());
        headers.extend(braid_protocol::records::Batches::new(all).map(|batch| batch.unwrap().0));
        read.next_offset
    } {
        from = next.0;
    }
    headers
}

#[test]
fn the_last_value_of_every_key_stays_at_its_offset() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..200 {
        let value = format!("value {i}");
        put(&store, &[(["a", "b", "c"][i % 3], Some(&value)), ("every", Some(&value))]);
    }
    let before = read_records(&log, Q);
    assert_eq!(log.clean(NOW_MS, RULES, LIMITS).unwrap().compacted, 1);
    let after = read_records(&log, Q);
    assert_eq!(offsets_of(&after), [394, 396, 398, 399], "b, c, a and every");
    assert_eq!(table(&after), table(&before));
    let offsets = log.offsets(QueueId(Q)).unwrap();
    assert_eq!((offsets.log_start, offsets.next), (Offset(0), Offset(400)), "marks stay");
    assert!(log.size_bytes(QueueId(Q)).unwrap() < 500);
    // What is read from anywhere in the gap is the next record there is.
    for from in [0, 1, 100, 393, 394] {
        let read = log.locate(QueueId(Q), spec(from)).unwrap().load().unwrap();
        assert_eq!(parse_batches(&read.slices)[0].base_offset, 394, "from {from}");
    }
    assert!(matches!(log.locate(QueueId(Q), spec(401)), Err(ReadError::OutOfRange { .. })));
    assert_eq!(log.clean(NOW_MS, RULES, LIMITS).unwrap().compacted, 0, "nothing is new");
    put(&store, &[("a", Some("newest"))]);
    assert_eq!(offsets_of(&read_records(&log, Q)), [394, 396, 398, 399, 400]);
    log.clean(NOW_MS, RULES, LIMITS).unwrap();
    assert_eq!(offsets_of(&read_records(&log, Q)), [394, 398, 399, 400]);
    let table_before = table(&read_records(&log, Q));
    let mut fs = fs;
    for clean in [false, true, false] {
        fs = fs.restart();
        let store = open(&fs);
        assert_eq!(table(&read_records(&store.handle(), Q)), table_before);
        if clean {
            store.close().unwrap();
        }
    }
    assert_eq!(check(&sim_env(&fs.restart()), &sim_dir()).unwrap().findings, []);
}

#[test]
fn compaction_empties_segments_that_others_share() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    log.open_queue(QueueId(2));
    for i in 0..300 {
        put(&store, &[("a", Some(&"x".repeat(200 + i % 7)))]);
        append(&log, 2, 1, &[7; 20]).unwrap();
    }
    write_all(&store);
    let other = read_all(&log, 2).unwrap();
    let used = fs.used_bytes();
    let cleaned = log.clean(NOW_MS, RULES, LIMITS).unwrap();
    assert!(cleaned.compacted == 1 && cleaned.merged > 2, "{cleaned:?}");
    assert!(fs.used_bytes() < used, "{} of {used}", fs.used_bytes());
    assert_eq!(read_all(&log, 2).unwrap(), other);
    assert_eq!(read_records(&log, Q).len(), 1);
}

#[test]
fn nothing_younger_than_the_lag_nor_the_head_is_touched() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..10 {
        put(&store, &[("a", Some(&i.to_string()))]);
    }
    let is_untouched = |rule: Compaction, now_ms: i64| {
        let cleaned = log.clean(now_ms, &[(QueueId(Q), rule)], LIMITS).unwrap();
        cleaned.compacted == 0 && read_records(&log, Q).len() == 10
    };
    assert!(is_untouched(Compaction { min_lag_ms: 1000, ..ALL }, NOW_MS + 999));
    assert!(is_untouched(Compaction { head_age_ms: 1000, ..ALL }, NOW_MS + 999));
    assert!(is_untouched(Compaction { dirty_ratio_min: 1.0, ..ALL }, NOW_MS + 999));
    let late = Compaction { head_age_ms: i64::MAX, max_lag_ms: 1000, ..ALL };
    assert!(is_untouched(Compaction { dirty_ratio_min: 1.0, ..late }, NOW_MS + 999));
    assert!(is_untouched(Compaction { head_age_ms: i64::MAX, ..ALL }, NOW_MS + 999));
    // The lag that is the most decides over ratio and head.
    let cleaned = log
        .clean(NOW_MS + 1001, &[(QueueId(Q), Compaction { dirty_ratio_min: 1.0, ..late })], LIMITS)
        .unwrap();
    assert_eq!(cleaned.compacted, 1);
    assert_eq!(offsets_of(&read_records(&log, Q)), [9]);
}

#[test]
fn the_head_by_size_stays_and_what_it_supersedes_too() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..10 {
        put(&store, &[("a", Some(&i.to_string()))]);
    }
    let of_three = log.size_bytes(QueueId(Q)).unwrap() * 3 / 10;
    let rule = Compaction { head_age_ms: i64::MAX, head_size_bytes: of_three, ..ALL };
    log.clean(NOW_MS, &[(QueueId(Q), rule)], LIMITS).unwrap();
    assert_eq!(offsets_of(&read_records(&log, Q)), [6, 7, 8, 9]);
    // What is left of a segment that was moved in part is there after a restart, once.
    for _ in 0..40 {
        put(&store, &[("b", Some(&"x".repeat(1000)))]);
    }
    let before = read_records(&log, Q);
    store.close().unwrap();
    let store = open(&fs);
    assert_eq!(read_records(&store.handle(), Q), before);
    drop(store);
    let store = open(&fs.restart());
    assert_eq!(read_records(&store.handle(), Q), before);
    let size = store.handle().size_bytes(QueueId(Q)).unwrap();
    let batches: usize = headers(&store).iter().map(BatchHeader::size_bytes).sum();
    assert_eq!(size, batches as u64);
}

#[test]
fn tombstones_go_when_their_time_has_come_and_the_end_stays_reachable() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    put(&store, &[("a", Some("1")), ("b", Some("2"))]);
    put(&store, &[("a", None)]);
    put(&store, &[("b", None)]);
    log.clean(NOW_MS, RULES, LIMITS).unwrap();
    assert_eq!(offsets_of(&read_records(&log, Q)), [2, 3], "values first");
    log.clean(NOW_MS + 999, RULES, LIMITS).unwrap();
    assert_eq!(offsets_of(&read_records(&log, Q)), [2, 3], "not before their time");
    assert_eq!(log.clean(NOW_MS + 1000, RULES, LIMITS).unwrap().compacted, 1);
    assert_eq!(read_records(&log, Q), []);
    let left = headers(&store);
    assert_eq!(left.len(), 1, "the last batch as a header alone");
    assert_eq!((left[0].base_offset, left[0].last_offset(), left[0].records_count), (3, 3, 0));
    assert_eq!(log.clean(NOW_MS + 9999, RULES, LIMITS).unwrap().compacted, 0);
    assert_eq!(log.entry_at_time(QueueId(Q), 0).unwrap(), None, "no record is found by time");
}

#[test]
fn the_last_batch_of_every_active_producer_keeps_its_header() {
    let fs = SimFs::new(1);
    let recorder = Recorder::default();
    let store =
        Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(recorder.clone())).unwrap();
    store.handle().open_queue(QueueId(Q));
    let of = |id: i64, base_sequence: i32| BatchSpec {
        producer: Some(Producer { id, epoch: 0, base_sequence }),
        ..BatchSpec::default()
    };
    for (id, base_sequence) in [(7, 0), (7, 2), (8, 0), (9, 0)] {
        put_as(&store, of(id, base_sequence), &[("a", Some("1")), ("b", Some("2"))]);
    }
    let active = |id: i64, last_sequence: i32| ActiveProducer {
        id: ProducerId(id),
        epoch: 0,
        last_sequence,
        last_store_time_ms: NOW_MS,
        coordinator_epoch: -1,
        open_from: None,
    };
    recorder.seen().producers = vec![active(7, 3), active(9, 1)];
    store.handle().clean(NOW_MS, RULES, LIMITS).unwrap();
    let left: Vec<_> = headers(&store)
        .iter()
        .map(|header| (header.producer_id, header.base_sequence, header.records_count))
        .collect();
    assert_eq!(left, [(7, 2, 0), (9, 0, 2)], "that of 8 is not active any more");
}

#[test]
fn more_keys_than_fit_into_memory_take_more_passes() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    log.open_queue(QueueId(Q));
    for i in 0..300 {
        put(&store, &[(&format!("key {}", i % 100), Some(&i.to_string()))]);
    }
    let before = table(&read_records(&log, Q));
    let limits = CleanLimits { key_memory_bytes: 64 * 20, ..LIMITS };
    let cleaned = log.clean(NOW_MS, RULES, limits).unwrap();
    assert!(cleaned.compacted >= 15, "{cleaned:?}");
    let after = read_records(&log, Q);
    assert_eq!((after.len(), table(&after)), (100, before));
}

#[test]
fn a_queue_with_damage_is_not_compacted_and_the_others_are() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    put(&store, &[("a", Some("damage me"))]);
    for _ in 0..100 {
        put(&store, &[("a", Some(&"x".repeat(500)))]);
    }
    log.open_queue(QueueId(2));
    for _ in 0..10 {
        let (bytes, header) = keyed(BatchSpec::default(), &[(b"k".to_vec(), None)], NOW_MS);
        log.append(QueueId(2), EPOCH, Class::Data, &bytes, &header).unwrap();
    }
    write_all(&store);
    let first = sim_dir().join(format!("{:020}.log", 0));
    let bytes = fs.read_all(&first).unwrap();
    let at = bytes.windows(9).position(|it| it == b"damage me").unwrap();
    fs.flip_bit(&first, at as u64, 0).unwrap();
    let rules = [(QueueId(Q), ALL), (QueueId(2), ALL)];
    assert_eq!(log.clean(NOW_MS, &rules, LIMITS).unwrap().compacted, 1);
    assert_eq!(read_records(&log, 2).len(), 1);
    let read = log.locate(QueueId(Q), spec(1)).unwrap().load().unwrap();
    assert_eq!(parse_batches(&read.slices).len(), 100, "all as it was");
}

#[test]
fn a_queue_may_be_dropped_and_its_log_start_move_at_any_time() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..100 {
        put(&store, &[(&format!("key {i}"), Some(&"x".repeat(100)))]);
    }
    log.clean(NOW_MS, RULES, LIMITS).unwrap();
    log.set_log_start(QueueId(Q), Offset(50)).unwrap();
    write_all(&store);
    assert_eq!(read_records(&log, Q).len(), 50);
    for i in 0..20 {
        put(&store, &[(&format!("key {}", i + 60), Some("new"))]);
    }
    log.clean(NOW_MS, RULES, LIMITS).unwrap();
    assert_eq!(read_records(&log, Q).len(), 50);
    log.drop_queue(QueueId(Q)).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    let names = fs.list(&sim_dir()).unwrap().into_iter().map(|entry| entry.name);
    assert_eq!(names.filter(|name| name.ends_with(".sorted")).count(), 0);
    log.clean(NOW_MS, RULES, LIMITS).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Appends of keys, compactions, merges, log starts, clean stops and kills: what a reader
    /// makes of a queue is what was written.
    #[test]
    fn a_compacted_queue_is_what_its_model_says(
        sizes in proptest::collection::vec(0u64..1000, 8),
        lives in proptest::collection::vec(
            proptest::collection::vec(0u64..100_000, 0..900), 1..4),
    ) {
        let config = random_config(&Dice::scripted(sizes));
        let mut world = CompactWorld::default();
        let mut fs = SimFs::new(1);
        for script in lives {
            let steps = script.len() as u64 / 6;
            prop_assert!(world.live(&fs, &config, &Dice::scripted(script), steps).is_ok());
            fs = fs.restart();
        }
        prop_assert!(world.live(&fs, &config, &Dice::scripted(Vec::new()), 0).is_ok());
        let report = check(&sim_env(&fs), &sim_dir()).unwrap();
        prop_assert_eq!(report.findings, []);
    }
}

/// Lives until a cut, then another life and a last one that must find everything.
fn cut_and_recover(seed: u64, cut: u64) -> usize {
    let dice = Dice::of(seed);
    let config = random_config(&dice);
    let mut world = CompactWorld::default();
    let mut fs = SimFs::new(seed);
    fs.cut_at(cut);
    drop(world.live(&fs, &config, &dice, 150));
    let later = Dice::of(seed ^ cut << 20);
    fs = if later.below(3) > 0 { fs.reboot(later.below(u64::MAX)) } else { fs.restart() };
    if later.below(2) > 0 {
        fs.cut_at(fs.operations() + 1 + later.below(60));
    }
    drop(world.live(&fs, &config, &later, 40));
    fs = if later.below(2) == 0 { fs.reboot(later.below(u64::MAX)) } else { fs.restart() };
    let last = world.live(&fs, &config, &later, 0);
    assert!(last.is_ok(), "{}", fs.dump());
    let report = check(&sim_env(&fs), &sim_dir()).unwrap();
    assert_eq!(report.findings, [], "{}", fs.dump());
    world.compacted
}

fn cut_everywhere(seeds: std::ops::Range<u64>) -> (u64, usize) {
    let (mut cuts, mut compacted) = (0, 0);
    for seed in seeds {
        let dice = Dice::of(seed);
        let config = random_config(&dice);
        let fs = SimFs::new(seed);
        assert!(CompactWorld::default().live(&fs, &config, &dice, 150).is_ok());
        for cut in 1..=fs.operations() {
            let lived = std::panic::catch_unwind(|| cut_and_recover(seed, cut));
            compacted += lived.unwrap_or_else(|_| panic!("cut_and_recover({seed}, {cut}) failed"));
            cuts += 1;
        }
    }
    (cuts, compacted)
}

#[test]
fn compacted_queues_survive_every_cut_a() {
    let (cuts, compacted) = cut_everywhere(0..2);
    assert!(cuts > 300 && compacted > 2000, "{cuts} cuts, {compacted} compactions");
}

#[test]
fn compacted_queues_survive_every_cut_b() {
    let (cuts, compacted) = cut_everywhere(2..4);
    assert!(cuts > 300 && compacted > 2000, "{cuts} cuts, {compacted} compactions");
}
