//! The store alone: what an append costs, how fast groups reach the disk beside what the disk can
//! do, how fast batches are read, and how long a start takes.
//!
//! `cargo bench --bench store [-- DIR [PART]...]`, with parts `queues`, `append`, `holds`, `latency`,
//! `stalls`, `produce`, `read` and `start`; DIR is on the disk to measure, the system's temporary one without it.
//! Figures are ratios to limits of the same run wherever there is a limit. benches/README.md says
//! how to read them.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a measuring program: it prints, takes the time, and stops at the first surprise"
)]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use braid::env::fs::{DIRECT_ALIGN_BYTES, Mode};
use braid::env::{Env, real};
use braid::model::{LeaderEpoch, Offset, QueueId};
use braid::store::{
    ActiveProducer, AppendError, Class, LogHandle, ReadSpec, RestoreError, SequenceRejected,
    Sequenced, Sequencer, SnapshotMark, Store, StoreConfig,
};
use braid_protocol::records::BatchHeader;
use hdrhistogram::Histogram;

struct Anything;

impl Sequencer for Anything {
    fn judge(
        &mut self,
        _queue: QueueId,
        _batch: &BatchHeader,
        _now_ms: i64,
    ) -> Result<Sequenced, SequenceRejected> {
        Ok(Sequenced::Append)
    }

    fn record(&mut self, _queue: QueueId, _base: Offset, _batch: &BatchHeader, _now_ms: i64) {}

    fn replay(&mut self, _queue: QueueId, _base: Offset, _batch: &BatchHeader, _time_ms: i64) {}
    fn forget(&mut self, _queue: QueueId) {}
    fn producers(&self, _queue: QueueId) -> Vec<ActiveProducer> {
        Vec::new()
    }
    fn snapshot(&self, _after: Option<SnapshotMark>, _out: &mut Vec<u8>) -> Option<SnapshotMark> {
        None
    }
    fn restore(&mut self, _snapshot: &[u8]) -> Result<(), RestoreError> {
        Ok(())
    }
}

fn batch(size_bytes: usize) -> (Vec<u8>, BatchHeader) {
    let header = BatchHeader {
        base_offset: 0,
        batch_length: i32::try_from(size_bytes).unwrap() - 12,
        partition_leader_epoch: -1,
        crc: 0,
        attributes: 0,
        last_offset_delta: 0,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: 1,
        marker: None,
    };
    let mut bytes = header.encode().to_vec();
    bytes.resize(size_bytes, 7);
    (bytes, header)
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { reserve_bytes: 0, ..StoreConfig::new(dir.to_owned(), uuid::Uuid::nil()) }
}

fn open(env: &Env, config: StoreConfig) -> Store {
    Store::open(env, config, Box::new(Anything)).unwrap()
}

fn fresh(root: &Path) -> PathBuf {
    let dir = root.join("braid-bench-store");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    dir
}

fn append(log: &LogHandle, queue: u32, bytes: &[u8], header: &BatchHeader) {
    loop {
        match log.append(QueueId(queue), LeaderEpoch(0), Class::Data, bytes, header) {
            Ok(_) => return,
            Err(AppendError::SegmentNotReady) => block_on(log.room(bytes.len())),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

fn rss_mb() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / 1e6
}

/// The append alone: nothing is written while it is measured.
fn append_cost(env: &Env, root: &Path, queues: u32, size_bytes: usize) {
    let count = (300 << 20) / size_bytes.max(200) as u32;
    let config = StoreConfig { segment_size_bytes: 1 << 30, ..config(&fresh(root)) };
    let store = Store::open_inline(env, config, Box::new(Anything)).unwrap();
    let log = store.handle();
    for queue in 0..queues {
        log.open_queue(QueueId(queue));
    }
    let (bytes, header) = batch(size_bytes);
    let count = count.min(1_000_000);
    let start = Instant::now();
    for i in 0..count {
        append(&log, i.wrapping_mul(7919) % queues, &bytes, &header);
    }
    let nanos = start.elapsed().as_nanos() as f64 / f64::from(count);
    println!("append {size_bytes:>7} B, {queues:>6} queues: {nanos:>8.0} ns");
}

fn raw_disk(env: &Env, root: &Path, size_bytes: usize, count: u64) -> (f64, f64) {
    let path = root.join("braid-bench-raw");
    drop(std::fs::remove_file(&path));
    let file = env.fs.open(&path, Mode::CreateNew).unwrap();
    let total = size_bytes as u64 * count;
    file.allocate(total).unwrap();
    let zeros = vec![0u8; 1 << 20];
    for at in (0..total).step_by(1 << 20) {
        let n = (total - at).min(1 << 20) as usize;
        file.write_at(&[IoSlice::new(&zeros[..n])], at).unwrap();
    }
    file.sync().unwrap();
    drop(file);
    let file = env.fs.open(&path, Mode::Direct).unwrap();
    let buffer = vec![1u8; size_bytes + DIRECT_ALIGN_BYTES];
    let skip = buffer.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
    let aligned = &buffer[skip..skip + size_bytes];
    let mut nanos = Histogram::<u64>::new(3).unwrap();
    let start = Instant::now();
    for i in 0..count {
        let one = Instant::now();
        file.write_synced_at(&[IoSlice::new(aligned)], i * size_bytes as u64).unwrap();
        nanos.record(one.elapsed().as_nanos() as u64).unwrap();
    }
    let rate = total as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    (nanos.value_at_quantile(0.5) as f64 / 1e3, rate)
}

/// One batch at a time, each waited for.
fn synced_latency(env: &Env, root: &Path) {
    let (raw_us, _) = raw_disk(env, root, 4096, 4000);
    let store = open(env, config(&fresh(root)));
    let log = store.handle();
    log.open_queue(QueueId(0));
    let (bytes, header) = batch(200);
    let mut nanos = Histogram::<u64>::new(3).unwrap();
    for _ in 0..20_000 {
        let start = Instant::now();
        append(&log, 0, &bytes, &header);
        block_on(log.wait_durable(log.appended())).unwrap();
        nanos.record(start.elapsed().as_nanos() as u64).unwrap();
    }
    let us = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "synced append: p50 {:.1} us, p90 {:.1}, p99 {:.1}, max {:.0}; raw 4 KiB p50 {raw_us:.1}; \
         p50 less 1.3 raw: {:.1} us",
        us(0.5),
        us(0.9),
        us(0.99),
        us(1.0),
        us(0.5) - 1.3 * raw_us,
    );
}

fn tail_of(nanos: &Histogram<u64>) -> String {
    let ms = |quantile: f64| nanos.value_at_quantile(quantile) as f64 / 1e6;
    format!(
        "p50 {:.2} ms, p99 {:.2}, p99.9 {:.2}, max {:.1}",
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0)
    )
}

/// Does `one` every half millisecond until the time is over.
fn every_half_millisecond(until: Instant, mut one: impl FnMut() -> Duration) -> Histogram<u64> {
    let mut nanos = Histogram::<u64>::new(3).unwrap();
    while Instant::now() < until {
        nanos.record(one().as_nanos() as u64).unwrap();
        std::thread::sleep(Duration::from_micros(500));
    }
    nanos
}

/// What one slow client sees of segments being made, sealed and recorded under a steady load,
/// beside what a file that nobody looks after sees of the same disk at the same time.
fn stalls(env: &Env, root: &Path, mb_per_s: u64) {
    const SIZE_BYTES: usize = 400;
    let path = root.join("braid-bench-raw");
    drop(std::fs::remove_file(&path));
    let raw = env.fs.open(&path, Mode::CreateNew).unwrap();
    let (zeros, raw_bytes) = (vec![0u8; 1 << 20], 8 << 20);
    for at in (0..raw_bytes).step_by(1 << 20) {
        raw.write_at(&[IoSlice::new(&zeros)], at).unwrap();
    }
    raw.sync().unwrap();
    let raw = env.fs.open(&path, Mode::Direct).unwrap();
    let store = open(env, config(&fresh(root)));
    let log = store.handle();
    for queue in 0..1000 {
        log.open_queue(QueueId(queue));
    }
    let until = Instant::now() + Duration::from_secs(20);
    let (mut rooms, mut appends) = (Histogram::<u64>::new(3).unwrap(), Histogram::new(3).unwrap());
    let (acks, raws) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (bytes, header) = batch(SIZE_BYTES);
            let (start, mut i) = (Instant::now(), 0u32);
            while Instant::now() < until {
                let due = start.elapsed().as_micros() as u64 * mb_per_s / SIZE_BYTES as u64;
                while u64::from(i) < due {
                    block_on(log.room(bytes.len()));
                    append(&log, i % 1000, &bytes, &header);
                    i += 1;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        let raws = scope.spawn(|| {
            let buffer = vec![1u8; 2 * DIRECT_ALIGN_BYTES];
            let skip = buffer.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
            let block = &buffer[skip..skip + DIRECT_ALIGN_BYTES];
            let mut at = 0;
            every_half_millisecond(until, || {
                let start = Instant::now();
                raw.write_synced_at(&[IoSlice::new(block)], at).unwrap();
                at = (at + DIRECT_ALIGN_BYTES as u64) % raw_bytes;
                start.elapsed()
            })
        });
        let (bytes, header) = batch(SIZE_BYTES);
        let acks = every_half_millisecond(until, || {
            let start = Instant::now();
            block_on(log.room(bytes.len()));
            rooms.record(start.elapsed().as_nanos() as u64).unwrap();
            let before = Instant::now();
            append(&log, 0, &bytes, &header);
            appends.record(before.elapsed().as_nanos() as u64).unwrap();
            block_on(log.wait_durable(log.appended())).unwrap();
            start.elapsed()
        });
        (acks, raws.join().unwrap())
    });
    let ratio = acks.value_at_quantile(0.999) as f64 / raws.value_at_quantile(0.999) as f64;
    println!(
        "under {mb_per_s} MB/s of {SIZE_BYTES} B batches, {:.1} segments:",
        log.appended().0 as f64 / 134e6
    );
    println!("  raw    {}", tail_of(&raws));
    println!("  ack    {}; p99.9 is {ratio:.1} of raw", tail_of(&acks));
    println!("  room   {}", tail_of(&rooms));
    println!("  append {}", tail_of(&appends));
    std::fs::remove_file(&path).unwrap();
}

/// How long the shard's lock is held at most while segments are filled, sealed and freed and
/// checkpoints written: what somebody who only takes that lock waits for. A busy machine makes that
/// longer and never shorter, so of many rounds the shortest longest wait comes nearest.
fn holds(env: &Env, root: &Path, queues: u32) {
    const ROUNDS: usize = 24;
    let config = StoreConfig { segment_size_bytes: 16 << 20, ..config(&fresh(root)) };
    let store = open(env, config);
    let log = store.handle();
    for queue in 0..queues {
        log.open_queue(QueueId(queue));
    }
    let (bytes, header) = batch(150);
    let mut longest = Vec::new();
    let mut waits = Histogram::<u64>::new(3).unwrap();
    for round in 0..ROUNDS {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut waits = Histogram::<u64>::new(3).unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let start = Instant::now();
                    log.offsets(QueueId(0)).unwrap();
                    waits.record(start.elapsed().as_nanos() as u64).unwrap();
                    std::thread::sleep(Duration::from_micros(50));
                }
                waits
            });
            // More than one segment, so that one is sealed and a checkpoint written.
            for i in 0..90_000 {
                block_on(log.room(bytes.len()));
                append(&log, i % queues, &bytes, &header);
            }
            block_on(log.wait_durable(log.appended())).unwrap();
            if round % 4 == 3 {
                for queue in 0..queues {
                    let end = log.offsets(QueueId(queue)).unwrap().high_watermark;
                    while log.set_log_start(QueueId(queue), end).is_err() {
                        block_on(log.room(bytes.len()));
                    }
                }
            }
            log.recycle().unwrap();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let of_round = waiter.join().unwrap();
            longest.push(Duration::from_nanos(of_round.max()));
            waits.add(of_round).unwrap();
        });
    }
    longest.sort_unstable();
    println!(
        "wait for the lock, {queues:>6} queues: longest of a round: least {:.0?}, half {:.0?}; of all: {}",
        longest[0],
        longest[ROUNDS / 2],
        tail_of(&waits)
    );
}

/// Producers that never wait but for room.
fn throughput(env: &Env, root: &Path, size_bytes: usize, threads: u32) {
    let (_, raw) = raw_disk(env, root, 1 << 20, 512);
    let store = open(env, config(&fresh(root)));
    let log = store.handle();
    let total: u64 = 1 << 30;
    let each = total / u64::from(threads) / size_bytes as u64;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for queue in 0..threads {
            let log = log.clone();
            log.open_queue(QueueId(queue));
            scope.spawn(move || {
                let (bytes, header) = batch(size_bytes);
                for _ in 0..each {
                    block_on(log.room(bytes.len()));
                    append(&log, queue, &bytes, &header);
                }
            });
        }
    });
    block_on(log.wait_durable(log.appended())).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let rate = (each * u64::from(threads) * size_bytes as u64) as f64 / seconds;
    let appends = (each * u64::from(threads)) as f64 / seconds;
    println!(
        "produce {size_bytes:>7} B x {threads}: {:>6.0} MB/s, {appends:>9.0} appends/s, {:.2} of \
         the disk's {:.0} MB/s",
        rate / 1e6,
        rate / raw,
        raw / 1e6
    );
}

fn read_back(log: &LogHandle, queue: u32) -> (u64, u64, bool) {
    let (mut from, mut bytes, mut reads, mut hot) = (Offset(0), 0, 0, true);
    loop {
        let spec = ReadSpec { from, up_to: None, size_bytes_max: 1 << 20, at_least_one: true };
        let located = log.locate(QueueId(queue), spec).unwrap();
        hot &= located.is_hot();
        let read = located.load().unwrap();
        let Some(next) = read.next_offset else { return (bytes, reads, hot) };
        bytes += read.size_bytes as u64;
        reads += 1;
        from = next;
    }
}

/// Sixteen queues interleaved, one of them read.
fn reads(env: &Env, root: &Path, size_bytes: usize) {
    let config = StoreConfig { ring_size_bytes: 512 << 20, ..config(&fresh(root)) };
    let dir = config.dir.clone();
    let store = open(env, config.clone());
    let log = store.handle();
    let (bytes, header) = batch(size_bytes);
    for queue in 0..16 {
        log.open_queue(QueueId(queue));
    }
    for i in 0..(400 << 20) / size_bytes as u32 {
        block_on(log.room(bytes.len()));
        append(&log, i % 16, &bytes, &header);
    }
    block_on(log.wait_durable(log.appended())).unwrap();
    let timed = |what: &str, log: &LogHandle| {
        let start = Instant::now();
        let (bytes, reads, hot) = read_back(log, 3);
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "read {size_bytes:>7} B {what} (hot: {hot}): {:>6.0} MB/s, {:.1} us per read",
            bytes as f64 / seconds / 1e6,
            seconds * 1e6 / reads as f64
        );
    };
    timed("ring", &log);
    store.close().unwrap();
    let store = open(env, StoreConfig { dir, ..config });
    let log = store.handle();
    timed("disk", &log);
    timed("disk again", &log);
}

/// A start after a kill, with unsealed segments to read.
fn recovery(env: &Env, root: &Path, stored: u64, size_bytes: usize) {
    let config = config(&fresh(root));
    let store = open(env, config.clone());
    let log = store.handle();
    let (bytes, header) = batch(size_bytes);
    for queue in 0..1000 {
        log.open_queue(QueueId(queue));
    }
    let mut i = 0;
    while log.appended().0 < stored {
        block_on(log.room(bytes.len()));
        append(&log, i % 1000, &bytes, &header);
        i += 1;
    }
    block_on(log.wait_durable(log.appended())).unwrap();
    // As a kill leaves it: no checkpoint at the end.
    drop(log);
    drop(store);
    drop(std::process::Command::new("sync").status());
    let start = Instant::now();
    let store = open(env, config.clone());
    let killed = start.elapsed();
    store.close().unwrap();
    let start = Instant::now();
    let store = open(env, config);
    println!(
        "start with {:.1} GB of {size_bytes} B batches: {killed:.0?} after a kill, {:.0?} after a stop",
        stored as f64 / 1e9,
        start.elapsed()
    );
    drop(store);
}

fn many_queues(env: &Env, root: &Path) {
    let config = config(&fresh(root));
    let start = Instant::now();
    let store = open(env, config.clone());
    println!("first start: {:.1?}", start.elapsed());
    let before = rss_mb();
    let log = store.handle();
    let (bytes, header) = batch(100);
    let start = Instant::now();
    for queue in 0..100_000 {
        log.open_queue(QueueId(queue));
    }
    let idle = rss_mb();
    let opened = start.elapsed();
    for queue in 0..100_000 {
        block_on(log.room(bytes.len()));
        append(&log, queue, &bytes, &header);
    }
    block_on(log.wait_durable(log.appended())).unwrap();
    println!(
        "100,000 queues: {:.1} MB opened in {opened:.0?}, {:.1} MB written in {:.0?}",
        idle - before,
        rss_mb() - before,
        start.elapsed()
    );
    drop(log);
    drop(store);
    let start = Instant::now();
    let store = open(env, config);
    println!("100,000 queues: started after a kill in {:.0?}, {:.1} MB", start.elapsed(), rss_mb());
    drop(store);
}

fn main() {
    // Cargo passes `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let root = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let only: Vec<String> = args.collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    let env = real::env();
    if wanted("queues") {
        many_queues(&env, &root);
    }
    if wanted("append") {
        for queues in [1, 1000, 100_000] {
            append_cost(&env, &root, queues, 200);
        }
        append_cost(&env, &root, 1, 16 << 10);
        append_cost(&env, &root, 1, 1 << 20);
    }
    if wanted("holds") {
        for queues in [1, 1000, 100_000] {
            holds(&env, &root, queues);
        }
    }
    if wanted("latency") {
        synced_latency(&env, &root);
    }
    if wanted("stalls") {
        for mb_per_s in [20, 100] {
            stalls(&env, &root, mb_per_s);
        }
    }
    if wanted("produce") {
        for (size_bytes, threads) in
            [(200, 1), (200, 4), (16 << 10, 1), (100 << 10, 1), (1 << 20, 2)]
        {
            throughput(&env, &root, size_bytes, threads);
        }
    }
    if wanted("read") {
        for size_bytes in [200, 1 << 10, 16 << 10, 100 << 10] {
            reads(&env, &root, size_bytes);
        }
    }
    if wanted("start") {
        recovery(&env, &root, 1 << 20, 1 << 10);
        recovery(&env, &root, 250 << 20, 1 << 10);
        recovery(&env, &root, 2 << 30, 16 << 10);
    }
    fresh(&root);
}
