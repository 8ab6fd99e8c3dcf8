//! The store with its own threads, on a real disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use braid_protocol::records::BatchSpec;
use tokio::sync::Notify;

use super::compact_world::{ALL, keyed, read_records, table};
use super::support::*;
use crate::model::{Offset, Position, QueueId};
use crate::store::{AppendError, Class, LogHandle, Store, StoreConfig};

fn small(dir: &std::path::Path) -> StoreConfig {
    StoreConfig {
        segment_size_bytes: 1 << 20,
        chunk_size_bytes: 64 << 10,
        ring_size_bytes: 256 << 10,
        unsynced_size_bytes_max: 256 << 10,
        reserve_bytes: 0,
        ..StoreConfig::new(dir.join("shard"), CLUSTER)
    }
}

async fn produce(log: LogHandle, queue: u32, count: u32) -> Position {
    let mut end = Position(0);
    for i in 0..count {
        let body = [queue.to_be_bytes(), i.to_be_bytes()].concat().repeat(40);
        log.room(body.len()).await;
        // Whoever waited for room is not refused, however many wait beside it.
        end = append(&log, queue, 1, &body).unwrap().end;
        if i % 97 == 0 {
            log.wait_durable(end).await.unwrap();
        }
    }
    log.wait_durable(end).await.unwrap();
    end
}

async fn consume(log: LogHandle, queue: u32, count: u32) {
    let notify = Arc::new(Notify::new());
    let subscription = log.subscribe(QueueId(queue), &notify).unwrap();
    let mut next = 0;
    while next < i64::from(count) {
        let located = log.locate(QueueId(queue), spec(next)).unwrap();
        let read = match located.load_hot() {
            Ok(read) => read,
            Err(cold) => tokio::task::spawn_blocking(|| cold.load()).await.unwrap().unwrap(),
        };
        if read.slices.is_empty() {
            notify.notified().await;
            continue;
        }
        for batch in parse_batches(&read.slices) {
            assert_eq!(batch.base_offset, next, "dense and in order");
            let i = u32::try_from(next).unwrap();
            assert_eq!(batch.body[..8], [queue.to_be_bytes(), i.to_be_bytes()].concat());
            next += 1;
        }
    }
    drop(subscription);
}

#[test]
fn producers_and_consumers_of_many_queues_see_everything_in_order() {
    const QUEUES: u32 = 5;
    const COUNT: u32 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&real_env(), small(dir.path()), Box::new(Recorder::default())).unwrap();
    let log = store.handle();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for queue in 0..QUEUES {
            log.open_queue(QueueId(queue));
            tasks.spawn(consume(log.clone(), queue, COUNT));
            let log = log.clone();
            tasks.spawn(async move {
                produce(log, queue, COUNT).await;
            });
        }
        let retention = {
            // Frees segments below the others' feet all the time.
            let (log, done) = (log.clone(), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                log.open_queue(QueueId(99));
                while !done.load(Ordering::Relaxed) {
                    if append(&log, 99, 1, &[9; 5000]).is_ok() {
                        let offsets = log.offsets(QueueId(99)).unwrap();
                        log.set_log_start(QueueId(99), offsets.high_watermark).ok();
                    }
                    log.recycle().unwrap();
                }
            })
        };
        while let Some(finished) = tasks.join_next().await {
            finished.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        retention.await.unwrap();
    });
    store.close().unwrap();
    let store = Store::open(&real_env(), small(dir.path()), Box::new(Recorder::default())).unwrap();
    for queue in 0..QUEUES {
        assert_eq!(store.handle().offsets(QueueId(queue)).unwrap().next, Offset(i64::from(COUNT)));
        assert_eq!(read_all(&store.handle(), queue).unwrap().len(), COUNT as usize);
    }
}

/// Far more producers than segments can be made for in time.
#[test]
fn no_append_that_waited_for_room_meets_a_segment_that_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&real_env(), small(dir.path()), Box::new(Recorder::default())).unwrap();
    let log = store.handle();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for queue in 0..200u32 {
            log.open_queue(QueueId(queue));
            let log = log.clone();
            tasks.spawn(async move {
                for n in 1..8usize {
                    let body = vec![7; 10_000 * (1 + (n * queue as usize) % 9)];
                    log.room(body.len()).await;
                    append(&log, queue, 1, &body).unwrap();
                }
            });
        }
        while let Some(finished) = tasks.join_next().await {
            finished.unwrap();
        }
    });
    assert!(log.stats().segments > 30);
    store.close().unwrap();
}

#[test]
fn cleaning_goes_on_under_producers_and_readers() {
    const COUNT: u32 = 4000;
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { segment_size_bytes: 256 << 10, ..small(dir.path()) };
    let open = || Store::open(&real_env(), config.clone(), Box::new(Recorder::default())).unwrap();
    let store = open();
    let log = store.handle();
    let (compacted, shared) = (QueueId(1), QueueId(2));
    log.open_queue(compacted);
    log.open_queue(shared);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let cleaned = runtime.block_on(async {
        let until_done = |work: fn(&LogHandle) -> usize| {
            let (log, done) = (log.clone(), Arc::clone(&done));
            tokio::task::spawn_blocking(move || {
                let mut sum = 0;
                while !done.load(Ordering::Relaxed) {
                    sum += work(&log);
                }
                sum
            })
        };
        let cleaning = until_done(|log| {
            let cleaned = log.clean(NOW_MS, &[(QueueId(1), ALL)], LIMITS).unwrap();
            cleaned.compacted + cleaned.merged
        });
        let reading = until_done(|log| read_records(log, 1).len());
        for i in 0..COUNT {
            log.room(200).await;
            let content = [(format!("key {}", i % 50).into_bytes(), Some(i.to_string().into()))];
            let (bytes, header) = keyed(BatchSpec::default(), &content, NOW_MS);
            let appended = loop {
                match log.append(compacted, EPOCH, Class::Data, &bytes, &header) {
                    Ok(appended) => break appended,
                    Err(AppendError::SegmentNotReady) => log.room(200).await,
                    Err(error) => panic!("{error}"),
                }
            };
            // Neighbours in the same segments, of which little stays.
            let short = QueueId(100 + i / 200);
            log.open_queue(short);
            drop(append(&log, short.0, 1, &[7; 900]));
            if i % 200 == 0 {
                drop(append(&log, shared.0, 1, &i.to_be_bytes()));
                log.wait_durable(appended.end).await.unwrap();
                drop(log.drop_queue(QueueId(short.0 - 1)));
            }
        }
        log.wait_durable(log.appended()).await.unwrap();
        done.store(true, Ordering::Relaxed);
        reading.await.unwrap();
        cleaning.await.unwrap()
    });
    assert!(cleaned > 5, "{cleaned}");
    log.clean(NOW_MS, &[(compacted, ALL)], LIMITS).unwrap();
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = (COUNT - 50..COUNT)
        .map(|i| (format!("key {}", i % 50).into_bytes(), i.to_string().into()))
        .collect();
    let kept = read_records(&log, 1);
    assert_eq!((kept.len(), table(&kept)), (50, expected));
    let others = read_all(&log, shared.0).unwrap();
    store.close().unwrap();
    let store = open();
    assert_eq!(read_records(&store.handle(), 1), kept);
    assert_eq!(read_all(&store.handle(), shared.0).unwrap(), others);
}

#[test]
fn a_quiet_log_records_how_far_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { mark_after_ms: 1, ..small(dir.path()) };
    let store = Store::open(&real_env(), config, Box::new(Recorder::default())).unwrap();
    let log = store.handle();
    log.open_queue(QueueId(1));
    let appended = append(&log, 1, 1, b"last words").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // Nothing else is appended: only a mark moves the log beyond the batch.
    runtime.block_on(log.wait_durable(appended.end.plus(72))).unwrap();
    drop(store);
    let mut out = Vec::new();
    let spec = crate::store::DumpSpec { from: appended.end, ..Default::default() };
    crate::store::dump(&real_env(), &dir.path().join("shard"), spec, &mut out).unwrap();
    let dumped = String::from_utf8(out).unwrap();
    assert!(
        dumped
            .contains(&format!("mark epoch 0 generation 1 time {NOW_MS} durable {}", appended.end)),
        "{dumped}"
    );
}
