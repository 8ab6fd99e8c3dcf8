//! A disk that fails or is full.

use super::support::*;
use crate::env::sim::{Fault, SimFs};
use crate::model::{Offset, Position, QueueId};
use crate::store::{
    AppendError, Class, LogFailed, LogHandle, MaintainError, OnDamage, OpenError, Store,
    StoreConfig,
};

const Q: QueueId = QueueId(1);

fn open(fs: &SimFs) -> Store {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    store.handle().open_queue(Q);
    store
}

/// With space left for indexes and checkpoints, as a broker has it.
fn open_reserving(fs: &SimFs) -> Store {
    let config = StoreConfig { reserve_bytes: 48 << 10, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(fs), config);
    store.handle().open_queue(Q);
    store
}

#[test]
fn a_failed_write_ends_the_log_and_acknowledges_nothing() {
    for fault in [Fault::Eio, Fault::ShortWrite, Fault::Enospc] {
        let fs = SimFs::new(1);
        let store = open(&fs);
        let log = store.handle();
        append(&log, 1, 1, b"kept").unwrap();
        write_all(&store);
        let durable = log.durable();
        let lost = append(&log, 1, 1, &[9; 3000]).unwrap();
        let waiting = log.wait_durable(lost.end);
        fs.fail_at(fs.operations() + 1, fault);
        assert!(matches!(store.write_ready(), Err(LogFailed::Io(_))), "{fault:?}");
        // The next write would succeed, and must not be tried.
        assert!(store.write_ready().is_err());
        assert!(matches!(append(&log, 1, 1, b"x"), Err(AppendError::Failed(LogFailed::Io(_)))));
        assert_eq!(log.durable(), durable);
        assert!(ready(waiting).is_err());
        assert!(matches!(ready(log.failed()), LogFailed::Io(_)));
        assert_eq!(read_all(&log, 1).unwrap().len(), 1, "what was durable is still served");
        assert!(matches!(store.close(), Err(MaintainError::Failed(_))));
        let store = open_inline(&sim_env(&fs.restart()), tiny(&sim_dir()));
        let read = read_all(&store.handle(), 1).unwrap();
        assert_eq!(read[0].body, b"kept");
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("not ready"),
    }
}

/// Every single operation of a life fails once with EIO: either nothing comes of it, or the log
/// ends; what was acknowledged is there in any case.
#[test]
fn one_failing_operation_anywhere_loses_nothing_acknowledged() {
    let life = |fs: &SimFs| -> (u64, bool) {
        let Ok(store) =
            Store::open_inline(&sim_env(fs), tiny(&sim_dir()), Box::new(Recorder::default()))
        else {
            return (0, false);
        };
        let log = store.handle();
        log.open_queue(Q);
        let mut acked = 0;
        for i in 0..60u8 {
            let Ok(_) = append(&log, 1, 1, &[i; 700]) else { break };
            if i == 40 {
                drop(log.set_log_start(Q, Offset(20)));
            }
            while store.write_ready().unwrap_or(false) {}
            acked = u64::try_from(log.offsets(Q).unwrap().high_watermark.0).unwrap();
            drop(store.maintain());
            drop(log.recycle());
        }
        let closed = store.close().is_ok();
        (acked, closed)
    };
    let whole = SimFs::new(1);
    assert_eq!(life(&whole), (60, true));
    for operation in 1..=whole.operations() {
        let fs = SimFs::new(1);
        fs.fail_at(operation, Fault::Eio);
        let (acked, _) = life(&fs);
        let killed = fs.restart();
        // What a restart finds and calls durable is so, whatever the failed write left.
        let rebooted = fs.reboot(operation);
        for (fs, again) in [(killed, true), (rebooted, false)] {
            let store = match Store::open_inline(
                &sim_env(&fs),
                tiny(&sim_dir()),
                Box::new(Recorder::default()),
            ) {
                Ok(store) => store,
                Err(error) => panic!("operation {operation}: {error}\n{}", fs.dump()),
            };
            let log = store.handle();
            log.open_queue(Q);
            let next = u64::try_from(log.offsets(Q).unwrap().next.0).unwrap();
            assert!(next >= acked, "operation {operation}: {next} of {acked}");
            assert_eq!(store.damage(), [], "operation {operation}");
            for batch in read_all(&log, 1).unwrap() {
                let i = u8::try_from(batch.base_offset).unwrap();
                assert_eq!(batch.body, [i; 700], "operation {operation}");
            }
            if again {
                // And what is appended after it, into files that the failed run may have left.
                for i in next..next + 40 {
                    append(&log, 1, 1, &[u8::try_from(i).unwrap(); 700]).unwrap();
                    write_all(&store);
                    store.maintain().unwrap();
                }
                let next = next + 40;
                for seed in 0..4 {
                    let store = open_inline(&sim_env(&fs.reboot(seed)), tiny(&sim_dir()));
                    let after = store.handle().offsets(Q).map_or(0, |offsets| offsets.next.0);
                    assert!(after >= i64::try_from(next).unwrap(), "operation {operation}");
                }
            }
        }
    }
}

fn fill(log: &LogHandle, store: &Store) -> u32 {
    let mut appended = 0;
    loop {
        match append(log, 1, 1, &[7; 1000]) {
            Ok(_) => appended += 1,
            Err(AppendError::DiskFull) => return appended,
            Err(AppendError::SegmentNotReady) => {}
            Err(error) => panic!("{error}"),
        }
        write_all(store);
        store.maintain().unwrap();
        assert!(appended < 1000, "the disk never fills");
    }
}

#[test]
fn a_full_disk_refuses_records_serves_the_rest_and_recovers_by_itself() {
    let fs = SimFs::new(1);
    let store = open_reserving(&fs);
    let log = store.handle();
    fs.set_capacity(Some(fs.used_bytes() + (90 << 10)));
    let filled = fill(&log, &store);
    assert!(filled > 10);
    assert!(log.stats().disk_full);
    assert_eq!(read_all(&log, 1).unwrap().len(), filled as usize, "reads go on");
    let (bytes, header) = batch_at(1, b"offset commit", NOW_MS);
    let commit = || log.append(Q, EPOCH, Class::System, &bytes, &header);
    for _ in 0..5 {
        commit().unwrap();
        write_all(&store);
    }
    assert!(matches!(append(&log, 1, 1, b"x"), Err(AppendError::DiskFull)));
    let fs = {
        // A restart changes nothing about it.
        drop(store);
        fs.restart()
    };
    let store = open_reserving(&fs);
    let log = store.handle();
    assert!(matches!(append(&log, 1, 1, b"x"), Err(AppendError::DiskFull)));
    assert_eq!(read_all(&log, 1).unwrap().len(), filled as usize + 5);
    fs.set_capacity(None);
    store.maintain().unwrap();
    assert_eq!(append(&log, 1, 1, b"x").unwrap().base_offset.0, i64::from(filled) + 5);
    write_all(&store);
}

#[test]
fn records_that_go_make_room_on_a_full_disk() {
    let fs = SimFs::new(1);
    let store = open_reserving(&fs);
    let log = store.handle();
    fs.set_capacity(Some(fs.used_bytes() + (120 << 10)));
    let filled = fill(&log, &store);
    log.set_log_start(Q, Offset(i64::from(filled))).unwrap();
    write_all(&store);
    log.recycle().unwrap();
    assert!(!log.stats().disk_full);
    append(&log, 1, 1, b"x").unwrap();
    write_all(&store);
    assert_eq!(log.offsets(Q).unwrap().high_watermark, Offset(i64::from(filled) + 1));
}

#[test]
fn a_full_disk_at_the_start_is_an_error_with_a_name() {
    let fs = SimFs::new(1);
    fs.set_capacity(Some(20 << 10));
    let opened = Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(Recorder::default()));
    assert!(matches!(opened, Err(OpenError::Append(AppendError::DiskFull))), "{opened:?}");
    fs.set_capacity(None);
    open(&fs);
}

/// Not even a start frame fits: the segment is full to its end, and so is the disk.
fn filled_to_the_brim() -> (SimFs, i64) {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    fs.set_capacity(Some(fs.used_bytes()));
    let mut stored = 0;
    for (class, body) in [(Class::Data, &[7; 1000][..]), (Class::System, b"eleven byte")] {
        let (bytes, header) = batch_at(1, body, NOW_MS);
        loop {
            match log.append(Q, EPOCH, class, &bytes, &header) {
                Ok(_) => stored += 1,
                Err(AppendError::SegmentNotReady) => drop(store.maintain()),
                Err(AppendError::DiskFull) => break,
                Err(error) => panic!("{error}"),
            }
            write_all(&store);
        }
        drop(store.maintain());
    }
    assert_eq!(log.offsets(Q).unwrap().high_watermark, Offset(stored));
    drop(store);
    let left = (16 << 10) - log.appended().0 % (16 << 10);
    // A start frame takes 72 bytes; a control frame fills up what is left.
    assert!(left < 144, "{left}");
    fs.set_capacity(Some(fs.used_bytes()));
    (fs.restart(), stored)
}

#[test]
fn a_store_opens_on_a_disk_without_room_for_its_first_frame_and_goes_on_when_there_is() {
    let (mut fs, stored) = filled_to_the_brim();
    // Each start may take the last room for its own frame, the second finds none in any case.
    for _ in 0..3 {
        let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
        let log = store.handle();
        assert!(log.stats().disk_full);
        assert!(matches!(append(&log, 1, 1, b"x"), Err(AppendError::DiskFull)));
        assert_eq!(read_all(&log, 1).unwrap().len(), usize::try_from(stored).unwrap());
        drop(store.maintain());
        assert!(ready_or_not(log.room(1)), "nobody waits for room that may never come");
        drop(store);
        fs = fs.restart();
    }
    let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
    let log = store.handle();
    let (bytes, header) = batch_at(1, b"commit", NOW_MS);
    let commit = || log.append(Q, EPOCH, Class::System, &bytes, &header);
    assert!(matches!(commit(), Err(AppendError::DiskFull)));
    assert!(matches!(log.set_log_start(Q, Offset(1)), Err(crate::store::LogStartError::Append(_))));
    fs.set_capacity(None);
    store.maintain().unwrap();
    assert_eq!(append(&log, 1, 1, b"x").unwrap().base_offset, Offset(stored));
    write_all(&store);
    drop(store);
    let store = open_inline(&sim_env(&fs.reboot(1)), tiny(&sim_dir()));
    assert_eq!(store.damage(), []);
    assert_eq!(read_all(&store.handle(), 1).unwrap().len(), usize::try_from(stored).unwrap() + 1);
}

#[test]
fn power_cuts_while_a_full_disk_gets_room_again_lose_nothing() {
    let life = |fs: &SimFs| -> Option<i64> {
        let opened =
            Store::open_inline(&sim_env(fs), tiny(&sim_dir()), Box::new(Recorder::default()));
        let store = opened.ok()?;
        let log = store.handle();
        fs.set_capacity(None);
        store.maintain().ok()?;
        append(&log, 1, 1, b"x").ok()?;
        while store.write_ready().ok()? {}
        Some(log.offsets(Q).unwrap().high_watermark.0)
    };
    let (fs, stored) = filled_to_the_brim();
    let before = fs.operations();
    assert_eq!(life(&fs), Some(stored + 1));
    let after = fs.operations();
    assert!(after > before + 5);
    for cut in before + 1..=after {
        let (fs, stored) = filled_to_the_brim();
        fs.cut_at(cut);
        let acked = life(&fs).unwrap_or(stored);
        for fs in [fs.reboot(cut), fs.restart()] {
            let found = life(&fs).unwrap();
            assert!(found > acked, "cut {cut}: {found} of {acked}");
        }
    }
}

fn ready_or_not(future: impl Future) -> bool {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.as_mut().poll(&mut context).is_ready()
}

#[test]
fn unreadable_sectors_are_an_error_of_the_read_alone() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..100u8 {
        append(&log, 1, 1, &[i; 700]).unwrap();
        write_all(&store);
        store.maintain().unwrap();
    }
    let first = sim_dir().join(format!("{:020}.log", 0));
    fs.fail_reads(&first, 0..4096).unwrap();
    assert!(log.locate(Q, spec(0)).unwrap().load().is_err());
    assert!(log.locate(Q, spec(60)).unwrap().load().is_ok());
    assert!(append(&log, 1, 1, b"x").is_ok());
}

/// A map has no way to say that the device failed: looking there ends the process.
#[test]
fn what_is_handed_out_of_a_map_was_read_by_a_call_before() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    for i in 0..100u8 {
        append(&log, 1, 1, &[i; 700]).unwrap();
        write_all(&store);
        store.maintain().unwrap();
    }
    let located = log.locate(Q, spec(0)).unwrap();
    assert!(!located.is_hot());
    let before = fs.bytes_read();
    let read = located.load().unwrap();
    assert!(read.size_bytes > 30_000);
    assert!(fs.bytes_read() - before >= read.size_bytes as u64);
    let before = fs.bytes_read();
    let first = crate::store::ReadSpec { size_bytes_max: 5000, ..spec(0) };
    assert!(log.locate(Q, first).unwrap().load().unwrap().size_bytes > 4000);
    assert_eq!(fs.bytes_read(), before, "once is enough");
}

#[test]
fn memory_stays_within_the_ring_however_much_is_written() {
    let fs = SimFs::new(1);
    let config = StoreConfig { on_damage: OnDamage::RefuseAppends, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(&fs), config.clone());
    let log = store.handle();
    log.open_queue(Q);
    let mut most = 0;
    for i in 0..500u32 {
        append(&log, 1, 1, &i.to_be_bytes().repeat(200)).unwrap();
        write_all(&store);
        store.maintain().unwrap();
        most = most.max(log.stats().ring_bytes);
    }
    assert!(log.appended() > Position(400_000));
    assert!(most <= config.ring_size_bytes + 4 * config.chunk_size_bytes, "{most}");
}
