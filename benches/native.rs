//! The engines of native messaging beside plain appends and reads, on one log, in one run.
//!
//! `cargo bench --bench native [-- DIR]`. Each row has a rate and the processor time of a message;
//! ratios are to the plain row above it, of the same run. Medians of rounds.
//!
//! `cargo bench --bench native -- burst [DIR]`: a million messages due within one second, and what a
//! plain producer waits for each of its writes meanwhile, beside what it waits when it is alone.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a measuring program: it prints, takes the time, and stops at the first surprise"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use braid::node::measure::Bench;

const ROUNDS: usize = 5;
const VALUE_SIZE_BYTES: usize = 1024;
const TASKS: usize = 64;
const MESSAGES: usize = 32_000;
const BURST: usize = 200_000;
const STORED: usize = 200_000;
const MILLION: usize = 1_000_000;
const PROBE_EVERY: Duration = Duration::from_millis(2);

/// What some messages took.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn minus(self, other: Cost) -> Cost {
        Cost { wall: self.wall - other.wall, cpu: self.cpu - other.cpu }
    }
}

/// Processor time of this process, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u32 =
        fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

async fn cost(work: impl Future<Output = ()>) -> Cost {
    let (wall, before) = (Instant::now(), cpu());
    work.await;
    Cost { wall: wall.elapsed().as_secs_f64(), cpu: cpu() - before }
}

/// The same work by many tasks at once.
async fn by_tasks<F, W>(work: F)
where
    F: Fn() -> W,
    W: Future<Output = ()> + Send + 'static,
{
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(work())).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let wall = costs[costs.len() / 2].wall;
    costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    Cost { wall, cpu: costs[costs.len() / 2].cpu }
}

fn row(name: &str, messages: usize, cost: Cost, plain: Cost) {
    let count = f64::from(u32::try_from(messages).unwrap());
    let (rate, cpu_us) = (count / cost.wall, cost.cpu / count * 1e6);
    let (faster, dearer) = (plain.wall / cost.wall, cost.cpu / plain.cpu);
    println!("| {name} | {rate:.0} | {cpu_us:.1} | {faster:.2} | {dearer:.2} |");
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

async fn open(dir: &std::path::Path) -> (tempfile::TempDir, Arc<Bench>) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let bench = Bench::open(&dir.path().join("log"), VALUE_SIZE_BYTES).await.unwrap();
    (dir, Arc::new(bench))
}

/// Plain sends, half messages alone, half messages with their commits.
async fn sends(dir: &std::path::Path) -> [Cost; 3] {
    let (_dir, bench) = open(dir).await;
    bench.halves(1, true).await.unwrap();
    let each = MESSAGES / TASKS;
    let plain = {
        let bench = &bench;
        cost(by_tasks(move || {
            let bench = Arc::clone(bench);
            async move { bench.produce(each, 1).await.unwrap() }
        }))
        .await
    };
    let halves = async |commit: bool| {
        let bench = &bench;
        cost(by_tasks(move || {
            let bench = Arc::clone(bench);
            async move { bench.halves(each, commit).await.unwrap() }
        }))
        .await
    };
    [plain, halves(false).await, halves(true).await]
}

/// Plain sends in batches, the same scheduled, and the burst when they are due.
async fn timers(dir: &std::path::Path) -> [Cost; 3] {
    let (_dir, bench) = open(dir).await;
    let plain = cost(async { bench.produce(BURST, 500).await.unwrap() }).await;
    let due_ms = now_ms() + 8_000;
    let scheduled = cost(async { bench.schedule(BURST, 500, due_ms).await.unwrap() }).await;
    let early = u64::try_from(due_ms - now_ms()).expect("scheduling takes less than 8 s");
    tokio::time::sleep(Duration::from_millis(early)).await;
    let all = i64::try_from(2 * BURST).unwrap();
    let fired = cost(bench.delivered(all)).await;
    [plain, scheduled, fired]
}

/// Plain reads, and receiving with acknowledging.
async fn reads(dir: &std::path::Path) -> [Cost; 2] {
    let (_dir, bench) = open(dir).await;
    bench.produce(STORED, 100).await.unwrap();
    let plain = cost(async { assert_eq!(bench.consume().await.unwrap(), STORED) }).await;
    let popped = cost(async { assert_eq!(bench.pop("g", 500).await.unwrap(), STORED) }).await;
    [plain, popped]
}

/// What each write of a plain producer takes, one every few milliseconds, until `done`.
async fn probe(bench: Arc<Bench>, done: impl Fn() -> bool) -> Vec<Duration> {
    let mut taken = Vec::new();
    while !done() {
        let begun = Instant::now();
        bench.produce(1, 1).await.unwrap();
        taken.push(begun.elapsed());
        tokio::time::sleep(PROBE_EVERY.saturating_sub(begun.elapsed())).await;
    }
    taken
}

fn told(name: &str, mut taken: Vec<Duration>) -> f64 {
    taken.sort_unstable();
    let at = |per_mille: usize| taken[(taken.len() - 1) * per_mille / 1000].as_secs_f64() * 1e3;
    let (count, p50, p99, longest) = (taken.len(), at(500), at(990), at(1000));
    println!("| {name} | {count} | {p50:.2} ms | {p99:.2} ms | {longest:.2} ms |");
    p99
}

/// A million messages that are due within one second.
async fn burst(dir: &std::path::Path) {
    let (_dir, bench) = open(dir).await;
    let alone_until = Instant::now() + Duration::from_secs(5);
    let alone = probe(Arc::clone(&bench), || Instant::now() >= alone_until).await;
    // As long as it will take to schedule them, and half as long again.
    let begun = Instant::now();
    for _ in 0..10 {
        bench.schedule(MILLION / 1000, MILLION / 1000, now_ms() + 3_600_000).await.unwrap();
    }
    let lead = begun.elapsed() * 150 + Duration::from_secs(5);
    let due_ms = now_ms() + i64::try_from(lead.as_millis()).unwrap();
    for ms in 0..1000 {
        bench.schedule(MILLION / 1000, MILLION / 1000, due_ms + ms).await.unwrap();
    }
    let early = u64::try_from(due_ms - now_ms()).expect("scheduling takes less than the lead");
    println!("scheduled a million with {early} ms to go");
    tokio::time::sleep(Duration::from_millis(early)).await;
    let all = MILLION as u64;
    let (begun, before) = (Instant::now(), cpu());
    let fired = {
        let bench = Arc::clone(&bench);
        move || bench.fired() >= all
    };
    let during = probe(bench, fired).await;
    let (taken, cpu) = (begun.elapsed().as_secs_f64(), cpu() - before);
    println!("delivered within {taken:.2} s of the first one's time, {cpu:.2} CPU s");
    println!("| plain writes | count | p50 | p99 | longest |");
    println!("|---|---|---|---|---|");
    let alone = told("alone", alone);
    let during = told("during the burst", during);
    println!("p99 during the burst to p99 alone: {:.2}", during / alone);
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let only_burst = arguments.first().is_some_and(|first| first == "burst");
    let dir = arguments.get(usize::from(only_burst));
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if only_burst {
        return runtime.block_on(burst(&dir));
    }
    let (mut sent, mut timed, mut read) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        for _ in 0..ROUNDS {
            sent.push(sends(&dir).await);
            timed.push(timers(&dir).await);
            read.push(reads(&dir).await);
        }
    });
    println!("| 1 KiB messages | per second | CPU µs | rate to plain | CPU to plain |");
    println!("|---|---|---|---|---|");
    let plain = median(sent.iter().map(|it| it[0]).collect());
    let half = median(sent.iter().map(|it| it[1]).collect());
    let both = median(sent.iter().map(|it| it[2]).collect());
    row("sent one by one, 64 at a time", MESSAGES, plain, plain);
    row("half messages sent", MESSAGES, half, plain);
    row("half messages sent and committed", MESSAGES, both, plain);
    row("the commit alone", MESSAGES, both.minus(half), plain);
    let plain = median(timed.iter().map(|it| it[0]).collect());
    row("sent in batches of 500", BURST, plain, plain);
    row(
        "scheduled in batches of 500",
        BURST,
        median(timed.iter().map(|it| it[1]).collect()),
        plain,
    );
    row(
        "delivered when all are due at once",
        BURST,
        median(timed.iter().map(|it| it[2]).collect()),
        plain,
    );
    let plain = median(read.iter().map(|it| it[0]).collect());
    row("read, stored in batches of 100", STORED, plain, plain);
    row(
        "received and acknowledged, 500 at once",
        STORED,
        median(read.iter().map(|it| it[1]).collect()),
        plain,
    );
}
