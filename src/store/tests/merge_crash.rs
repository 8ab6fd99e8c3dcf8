//! Merging under power cuts, kills and failing disks, at every single operation.

use super::support::*;
use crate::env::Fs;
use crate::env::sim::{Fault, SimFs};
use crate::model::{Offset, QueueId};
use crate::store::{AppendError, MaintainError, OpenError, Store, StoreConfig, check};

const LONG: QueueId = QueueId(1);
/// Records of a batch of the long-lived queue.
const RECORDS: i32 = 3;

/// What a life has been told is lasting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Acked {
    /// Offset behind the last durable record of the long-lived queue.
    next: i64,
    /// Its durable log start.
    log_start: i64,
    /// Short-lived queues that are gone for good: all below.
    dropped: u32,
}

/// Why a life ended.
#[derive(Debug)]
struct Stopped;

impl From<MaintainError> for Stopped {
    fn from(_: MaintainError) -> Self {
        Self
    }
}

impl From<crate::store::LogFailed> for Stopped {
    fn from(_: crate::store::LogFailed) -> Self {
        Self
    }
}

fn body(offset: i64) -> Vec<u8> {
    offset.to_be_bytes().repeat(10)
}

fn short(number: u32) -> QueueId {
    QueueId(100 + number)
}

fn config() -> StoreConfig {
    // Segments so small that one merge writes several sorted ones.
    StoreConfig { segment_size_bytes: 8 << 10, ..tiny(&sim_dir()) }
}

fn try_open(fs: &SimFs) -> Result<Store, OpenError> {
    Store::open_inline(&sim_env(fs), config(), Box::new(Recorder::default()))
}

/// Puts one batch of the long-lived queue between many of a short-lived one that is dropped.
fn round(store: &Store, number: u32, acked: &mut Acked) -> Result<(), Stopped> {
    let log = store.handle();
    let write = || -> Result<(), Stopped> {
        while store.write_ready()? {}
        Ok(())
    };
    let put = |queue: QueueId, records: i32, body: &[u8]| -> Result<(), Stopped> {
        log.open_queue(queue);
        loop {
            match append(&log, queue.0, records, body) {
                Ok(_) => return Ok(()),
                Err(AppendError::SegmentNotReady) => store.maintain()?,
                Err(_) => return Err(Stopped),
            }
        }
    };
    let next = log.offsets(LONG).map_err(|_| Stopped)?.next.0;
    put(LONG, RECORDS, &body(next))?;
    for _ in 0..3 {
        put(short(number), 1, &[7; 1000])?;
    }
    write()?;
    acked.next = log.offsets(LONG).map_err(|_| Stopped)?.high_watermark.0;
    store.maintain()?;
    log.drop_queue(short(number)).map_err(|_| Stopped)?;
    write()?;
    acked.dropped = number + 1;
    Ok(())
}

/// A life in which segments are merged, sorted ones among them, while the log start moves on.
fn life(fs: &SimFs, acked: &mut Acked) -> Result<(), Stopped> {
    let store = try_open(fs).map_err(|_| Stopped)?;
    let log = store.handle();
    log.open_queue(LONG);
    for number in 0..24 {
        round(&store, number, acked)?;
        if number % 8 == 7 {
            log.clean(NOW_MS, &[], LIMITS)?;
        }
        if number == 16 {
            log.set_log_start(LONG, Offset(10)).map_err(|_| Stopped)?;
            while store.write_ready()? {}
            acked.log_start = 10;
        }
    }
    log.clean(NOW_MS, &[], LIMITS)?;
    store.maintain()?;
    Ok(store.close()?)
}

/// What is there is what was acknowledged, and more at most of what was asked for.
fn check_life(fs: &SimFs, acked: Acked, what: &str) {
    let store = try_open(fs).unwrap_or_else(|error| panic!("{what}: {error}\n{}", fs.dump()));
    let log = store.handle();
    assert_eq!(store.damage(), [], "{what}");
    log.open_queue(LONG);
    let offsets = log.offsets(LONG).unwrap();
    assert!(offsets.next.0 >= acked.next, "{what}: {} of {}", offsets.next, acked.next);
    assert!(offsets.log_start.0 >= acked.log_start && offsets.log_start.0 <= 10, "{what}");
    for number in 0..acked.dropped {
        assert!(!log.queues().contains(&short(number)), "{what}: queue {number} came back");
    }
    let read_right = |log: &crate::store::LogHandle| {
        let read = read_all(log, LONG.0).unwrap_or_else(|error| panic!("{what}: {error}"));
        let first = offsets.log_start.0 / i64::from(RECORDS) * i64::from(RECORDS);
        let mut expected = first;
        for batch in &read {
            assert_eq!((batch.base_offset, &batch.body), (expected, &body(expected)), "{what}");
            expected += i64::from(RECORDS);
        }
        assert!(expected >= offsets.next.0, "{what}: {expected} of {}", offsets.next);
    };
    read_right(&log);
    // Nothing is left lying about: every sorted file is one that the log knows.
    let names: Vec<String> =
        fs.list(&sim_dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(!names.iter().any(|name| name.ends_with(".new")), "{what}: {names:?}");
    // And the work goes on: merged again, appended to, and still the same.
    log.clean(NOW_MS, &[], LIMITS).unwrap_or_else(|error| panic!("{what}: {error}"));
    read_right(&log);
    append(&log, LONG.0, RECORDS, &body(offsets.next.0)).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    let used = fs.used_bytes();
    assert!(used < 160 << 10, "{what}: {used} bytes for a few records\n{}", fs.dump());
    assert_eq!(fs.violations(), Vec::<String>::new(), "{what}");
    store.close().unwrap();
    let report = check(&sim_env(fs), &sim_dir()).unwrap();
    assert_eq!(report.findings, [], "{what}\n{}", fs.dump());
    let store = try_open(fs).unwrap();
    let read = read_all(&store.handle(), LONG.0).unwrap();
    assert_eq!(read.last().unwrap().base_offset, offsets.next.0, "{what}");
}

/// A whole life's operations, and that it merged at all.
fn operations() -> u64 {
    let fs = SimFs::new(1);
    let mut acked = Acked::default();
    life(&fs, &mut acked).unwrap();
    assert_eq!(acked, Acked { next: 24 * 3, log_start: 10, dropped: 24 });
    let names: Vec<String> =
        fs.list(&sim_dir()).unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().any(|name| name.ends_with(".sorted")), "{names:?}");
    let operations = fs.operations();
    check_life(&fs.restart(), acked, "uncut");
    operations
}

#[test]
fn a_cut_at_any_operation_of_lives_that_merge_loses_nothing_and_brings_nothing_back() {
    for cut in 1..=operations() {
        let fs = SimFs::new(1);
        fs.cut_at(cut);
        let mut acked = Acked::default();
        assert!(life(&fs, &mut acked).is_err(), "cut {cut} was never reached");
        check_life(&fs.reboot(cut), acked, &format!("cut {cut}"));
        check_life(&fs.reboot(!cut), acked, &format!("cut {cut}, another outcome"));
        check_life(&fs.restart(), acked, &format!("killed in {cut}"));
    }
}

/// Two cuts: the second while what the first left is brought back, cleaned up and merged again.
#[test]
fn a_cut_in_the_recovery_from_a_cut_loses_nothing_either() {
    let operations = operations();
    let mut second_cuts = 0;
    for cut in (1..=operations).rev().step_by(7) {
        let fs = SimFs::new(1);
        fs.cut_at(cut);
        let mut acked = Acked::default();
        assert!(life(&fs, &mut acked).is_err());
        for offset in [1, 2, 3, 5, 8, 13, 21] {
            let fs = fs.reboot(cut);
            let again = fs.operations() + offset;
            fs.cut_at(again);
            let recovered = try_open(&fs).map_err(|_| Stopped).and_then(|store| {
                store.handle().clean(NOW_MS, &[], LIMITS)?;
                Ok(store.close()?)
            });
            second_cuts += u64::from(recovered.is_err());
            check_life(&fs.reboot(again), acked, &format!("cut {cut}, then {offset} on"));
        }
    }
    assert!(second_cuts > operations / 3, "{second_cuts}");
}

#[test]
fn one_failing_operation_anywhere_in_lives_that_merge_loses_nothing() {
    for operation in 1..=operations() {
        for fault in [Fault::Eio, Fault::Enospc, Fault::ShortWrite] {
            let fs = SimFs::new(1);
            fs.fail_at(operation, fault);
            let mut acked = Acked::default();
            drop(life(&fs, &mut acked));
            let what = format!("{fault:?} at {operation}");
            check_life(&fs.restart(), acked, &what);
            check_life(&fs.reboot(operation), acked, &format!("{what}, and a cut"));
        }
    }
}
