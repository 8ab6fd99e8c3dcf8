//! What a store promises its callers, one fact at a time.

use std::sync::Arc;

use tokio::sync::Notify;

use super::support::*;
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, Position, QueueId};
use crate::store::{
    AppendError, Class, OpenError, ReadError, ReadSpec, SequenceRejected, Store, StoreConfig,
};

const Q: QueueId = QueueId(1);

fn open(fs: &SimFs) -> Store {
    let store = open_inline(&sim_env(fs), tiny(&sim_dir()));
    store.handle().open_queue(Q);
    store
}

#[test]
fn nothing_is_read_before_it_is_durable_and_all_of_it_then() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    let first = append(&log, 1, 3, b"one").unwrap();
    assert_eq!((first.base_offset, first.last_offset), (Offset(0), Offset(2)));
    assert_eq!(read_all(&log, 1).unwrap(), []);
    assert!(log.durable() < first.end);
    write_all(&store);
    assert!(log.durable() >= first.end);
    let expected = ReadBack { base_offset: 0, records: 3, body: b"one".to_vec() };
    assert_eq!(read_all(&log, 1).unwrap(), [expected]);
    let offsets = log.offsets(Q).unwrap();
    assert_eq!((offsets.high_watermark, offsets.next), (Offset(3), Offset(3)));
}

#[test]
fn a_clean_stop_and_a_kill_both_give_everything_back() {
    for clean in [true, false] {
        let fs = SimFs::new(1);
        let store = open(&fs);
        let log = store.handle();
        for i in 0..200u8 {
            log.open_queue(QueueId(u32::from(i) % 3));
            append(&log, u32::from(i) % 3, 2, &vec![i; 100 + usize::from(i)]).unwrap();
            write_all(&store);
            store.maintain().unwrap();
        }
        let before: Vec<_> = (0..3).map(|queue| read_all(&log, queue).unwrap()).collect();
        assert!(log.stats().segments > 2);
        let fs = if clean {
            store.close().unwrap();
            fs
        } else {
            fs.restart()
        };
        let recorder = Recorder::default();
        let store = Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(recorder.clone()))
            .unwrap();
        let log = store.handle();
        assert!(store.damage().is_empty());
        let after: Vec<_> = (0..3).map(|queue| read_all(&log, queue).unwrap()).collect();
        assert_eq!(before, after, "clean: {clean}");
        let bases =
            recorder.seen().batches.iter().map(|(q, base, _)| (*q, *base)).collect::<Vec<_>>();
        let expected = (0..200).map(|i| (i % 3, i64::from(i / 3) * 2)).collect::<Vec<_>>();
        assert_eq!(bases, expected, "the sequencer saw every batch once, in order");
        assert_eq!(append(&log, 1, 1, b"next").unwrap().base_offset, Offset(67 * 2));
        assert_eq!(fs.violations(), Vec::<String>::new());
    }
}

#[test]
fn a_real_disk_and_threads_of_its_own_do_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        chunk_size_bytes: 64 << 10,
        segment_size_bytes: 256 << 10,
        reserve_bytes: 0,
        ..StoreConfig::new(dir.path().join("a/b"), CLUSTER)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let store = Store::open(&real_env(), config.clone(), Box::new(Recorder::default())).unwrap();
    let log = store.handle();
    runtime.block_on(async {
        for i in 0..2000u32 {
            log.room(461).await;
            log.open_queue(QueueId(i % 7));
            let appended = append(&log, i % 7, 1, &i.to_be_bytes().repeat(100)).unwrap();
            if i % 50 == 0 {
                log.wait_durable(appended.end).await.unwrap();
            }
        }
        log.wait_durable(log.appended()).await.unwrap();
    });
    let before: Vec<_> = (0..7).map(|queue| read_all(&log, queue).unwrap()).collect();
    assert_eq!(before.iter().map(Vec::len).sum::<usize>(), 2000);
    store.close().unwrap();
    let store = Store::open(&real_env(), config, Box::new(Recorder::default())).unwrap();
    let log = store.handle();
    let after: Vec<_> = (0..7).map(|queue| read_all(&log, queue).unwrap()).collect();
    assert_eq!(before, after);
}

#[test]
fn what_there_is_room_for_is_appended_whatever_its_size() {
    let fs = SimFs::new(1);
    let config = StoreConfig { unsynced_size_bytes_max: 1 << 20, ..tiny(&sim_dir()) };
    let store = open_inline(&sim_env(&fs), config);
    let log = store.handle();
    log.open_queue(QueueId(1));
    let mut waited = 0;
    for i in 0..200usize {
        let body = vec![7; (i * 7919) % 15_000];
        if !log.has_room(body.len() + 61) {
            assert!(
                matches!(append(&log, 1, 1, &[7; 16_240]), Err(AppendError::SegmentNotReady)),
                "nobody waits without need"
            );
            waited += 1;
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(log.room(body.len() + 61));
        }
        append(&log, 1, 1, &body).unwrap();
        write_all(&store);
    }
    assert!(waited > 40, "{waited}");
}

#[test]
fn reads_keep_to_their_bounds() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    for _ in 0..5 {
        append(&log, 1, 10, &[7; 39]).unwrap();
    }
    write_all(&store);
    let read = |from: i64, up_to: Option<i64>, size: usize, at_least_one: bool| {
        let spec = ReadSpec {
            from: Offset(from),
            up_to: up_to.map(Offset),
            size_bytes_max: size,
            at_least_one,
        };
        let read = log.locate(Q, spec).unwrap().load_hot().unwrap();
        parse_batches(&read.slices).iter().map(|batch| batch.base_offset).collect::<Vec<_>>()
    };
    assert_eq!(read(0, None, 1000, false), [0, 10, 20, 30, 40]);
    assert_eq!(read(15, None, 1000, false), [10, 20, 30, 40], "the batch that holds the offset");
    assert_eq!(read(0, Some(30), 1000, false), [0, 10, 20]);
    assert_eq!(read(0, Some(29), 1000, false), [0, 10], "never part of a batch");
    assert_eq!(read(0, None, 299, false), [0, 10]);
    assert_eq!(read(0, None, 99, false), [0i64; 0]);
    assert_eq!(read(0, None, 99, true), [0]);
    assert_eq!(read(50, None, 1000, true), [0i64; 0]);
    for outside in [-1, 51] {
        let error = log.locate(Q, spec(outside)).unwrap_err();
        assert!(matches!(error, ReadError::OutOfRange { high_watermark: Offset(50), .. }));
    }
    assert!(matches!(log.locate(QueueId(9), spec(0)), Err(ReadError::UnknownQueue(_))));
}

#[test]
fn refused_appends_leave_no_trace() {
    let recorder = Recorder::default();
    let fs = SimFs::new(1);
    let store =
        Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(recorder.clone())).unwrap();
    let log = store.handle();
    log.open_queue(Q);
    let before = log.appended();
    let (bytes, header) = batch_at(1, b"x", 0);
    let try_with =
        |queue, epoch, bytes: &[u8]| log.append(queue, epoch, Class::Data, bytes, &header);
    assert!(matches!(try_with(QueueId(5), EPOCH, &bytes), Err(AppendError::UnknownQueue(_))));
    assert!(matches!(try_with(Q, LeaderEpoch(1), &bytes), Err(AppendError::Fenced { .. })));
    assert!(matches!(try_with(Q, EPOCH, &bytes[1..]), Err(AppendError::NotTheBatch { .. })));
    assert!(matches!(append(&log, 1, 1, &[0; 17 << 10]), Err(AppendError::TooLarge { .. })));
    let rejected = SequenceRejected::OutOfOrder { last: 1, got: 3 };
    recorder.seen().reject = Some(rejected);
    assert!(matches!(append(&log, 1, 1, b"x"), Err(AppendError::Rejected(it)) if it == rejected));
    assert_eq!(log.appended(), before);
    assert_eq!(log.offsets(Q).unwrap().next, Offset(0));
}

#[test]
fn a_duplicate_answers_with_the_first_offsets_and_waits_for_the_original() {
    let recorder = Recorder::default();
    let fs = SimFs::new(1);
    let store =
        Store::open_inline(&sim_env(&fs), tiny(&sim_dir()), Box::new(recorder.clone())).unwrap();
    let log = store.handle();
    log.open_queue(Q);
    let original = append(&log, 1, 2, b"x").unwrap();
    recorder.seen().duplicate = Some((0, 1));
    let again = append(&log, 1, 2, b"x").unwrap();
    assert!(again.duplicate && !original.duplicate);
    assert_eq!((again.base_offset, again.last_offset), (Offset(0), Offset(1)));
    assert_eq!(again.end, original.end);
    assert_eq!(log.appended(), original.end);
}

#[test]
fn the_epoch_fences_appends_and_tells_where_epochs_end() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    append(&log, 1, 5, b"old").unwrap();
    log.start_epoch(LeaderEpoch(3)).unwrap();
    assert!(matches!(
        append(&log, 1, 1, b"x"),
        Err(AppendError::Fenced { current: LeaderEpoch(3), .. })
    ));
    assert!(matches!(log.start_epoch(LeaderEpoch(2)), Err(AppendError::Fenced { .. })));
    let (bytes, header) = batch_at(2, b"new", 0);
    let appended = log.append(Q, LeaderEpoch(3), Class::Data, &bytes, &header).unwrap();
    assert_eq!(appended.base_offset, Offset(5));
    write_all(&store);
    let fs = fs.restart();
    let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
    let log = store.handle();
    assert_eq!(log.epoch(), LeaderEpoch(3));
    let end = |epoch| log.epoch_end(Q, LeaderEpoch(epoch)).unwrap();
    assert_eq!(end(0), Some((LeaderEpoch(0), Offset(5))));
    assert_eq!(end(2), Some((LeaderEpoch(0), Offset(5))));
    assert_eq!(end(3), Some((LeaderEpoch(3), Offset(7))));
    assert_eq!(end(4), None);
    let read = log.locate(Q, spec(5)).unwrap().load().unwrap();
    assert_eq!(read.slices[0][12..16], 3i32.to_be_bytes(), "the leader epoch is stamped");
}

#[test]
fn subscribers_are_told_once_data_is_durable() {
    let store = open(&SimFs::new(1));
    let log = store.handle();
    let notify = Arc::new(Notify::new());
    let told = |notify: &Arc<Notify>| {
        use futures_lite_poll::poll_once;
        poll_once(notify.notified())
    };
    append(&log, 1, 1, b"before").unwrap();
    let subscription = log.subscribe(Q, &notify).unwrap();
    assert!(!told(&notify));
    write_all(&store);
    assert!(told(&notify), "what was on its way counts");
    append(&log, 1, 1, b"more").unwrap();
    assert!(!told(&notify));
    write_all(&store);
    assert!(told(&notify) && !told(&notify));
    drop(subscription);
    append(&log, 1, 1, b"unheard").unwrap();
    write_all(&store);
    assert!(!told(&notify));
    let subscription = log.subscribe(Q, &notify).unwrap();
    log.drop_queue(Q).unwrap();
    assert!(told(&notify), "a dropped queue wakes its readers");
    drop(subscription);
}

mod futures_lite_poll {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// Whether a future is ready now.
    pub(super) fn poll_once(future: impl Future) -> bool {
        pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }
}

#[test]
fn log_starts_and_drops_survive_and_bound_reads() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let log = store.handle();
    log.open_queue(QueueId(2));
    for _ in 0..4 {
        append(&log, 1, 10, b"x").unwrap();
        append(&log, 2, 1, b"y").unwrap();
    }
    assert!(log.set_log_start(Q, Offset(15)).is_err(), "not durable yet");
    write_all(&store);
    log.set_log_start(Q, Offset(15)).unwrap();
    log.set_log_start(Q, Offset(12)).unwrap();
    log.drop_queue(QueueId(2)).unwrap();
    log.open_queue(QueueId(2));
    let late = append(&log, 2, 1, b"late");
    assert!(matches!(late, Err(AppendError::UnknownQueue(_))), "a drop is for good");
    write_all(&store);
    let fs = fs.restart();
    let store = open_inline(&sim_env(&fs), tiny(&sim_dir()));
    let log = store.handle();
    assert_eq!(log.offsets(Q).unwrap().log_start, Offset(15));
    assert!(matches!(log.locate(Q, spec(14)), Err(ReadError::OutOfRange { .. })));
    assert_eq!(read_all(&log, 1).unwrap()[0].base_offset, 10, "batches stay whole");
    assert_eq!(log.queues(), [Q]);
    assert!(log.set_log_start(Q, Offset(41)).is_err());
}

#[test]
fn a_directory_serves_one_broker_of_one_cluster() {
    let fs = SimFs::new(1);
    let store = open(&fs);
    let try_open = |config: StoreConfig| {
        Store::open_inline(&sim_env(&fs), config, Box::new(Recorder::default())).map(|_| ())
    };
    assert!(matches!(try_open(tiny(&sim_dir())), Err(OpenError::InUse { .. })));
    drop(store);
    let other = StoreConfig { cluster_id: uuid::Uuid::from_u128(8), ..tiny(&sim_dir()) };
    assert!(matches!(try_open(other), Err(OpenError::OtherCluster { .. })));
    assert!(try_open(tiny(&sim_dir())).is_ok());
}

#[test]
fn waiting_for_what_never_comes_ends_with_the_store() {
    let store = open(&SimFs::new(1));
    let wait = store.handle().wait_durable(Position(u64::MAX));
    drop(store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(wait).is_err());
}
