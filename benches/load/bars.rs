//! The first bars of docs/performance.md: every figure beside its limit, measured in one run.

use std::path::Path;

use crate::broker::{Broker, SERVER_CPU, seconds_to_first_ack};
use crate::client::{self, Figures};
use crate::{Consume, Produce, limits};

fn shape(connections: usize, in_flight: usize, records: usize, size_bytes: usize) -> Produce {
    Produce {
        to: String::new(),
        topic: "bars".into(),
        partitions: 1,
        connections,
        in_flight,
        records,
        size_bytes,
        acks: -1,
        rate: None,
        seconds: 2.0,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn run_on(broker: &Broker, shape: &Produce) -> Figures {
    let shape = Produce { to: broker.address.clone(), ..shape.clone() };
    client::create_topic(&shape).await;
    client::produce(&shape).await
}

/// Runs every bar and prints the table. The program must be pinned to the other processor.
pub(crate) async fn run(program: &Path, dir: &Path, rounds: usize, stored_gib: f64) {
    let data = dir.join(format!("braid-bars-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    println!("| bar | measured | limit in this run | ratio |");
    println!("|---|---|---|---|");
    start_and_memory(program, &data).await;
    throughput(program, &data, rounds).await;
    latency(program, &data, dir, rounds).await;
    consuming(program, &data, rounds).await;
    recovery(program, &data, stored_gib).await;
    partitions(program, &data).await;
    std::fs::remove_dir_all(&data).unwrap();
}

async fn start_and_memory(program: &Path, data: &Path) {
    let dir = data.join("start");
    let (seconds, broker) = seconds_to_first_ack(program, &dir).await;
    println!("| cold start to first acknowledged message | {:.1} ms | 50 ms | |", seconds * 1e3);
    println!(
        "| RSS after one message | {:.1} MB | 20 MB | |",
        broker.memory_bytes("VmRSS") as f64 / 1e6
    );
    broker.kill();
}

async fn throughput(program: &Path, data: &Path, rounds: usize) {
    let cases = [
        ("100 B x 1, 64 in flight, 1 connection", shape(1, 64, 1, 100)),
        ("100 B x 1, 16 in flight, 64 connections", shape(64, 16, 1, 100)),
        ("100 B x 1, 64 in flight, 64 connections", shape(64, 64, 1, 100)),
        ("100 B x 1000, 2 in flight, 8 connections", shape(8, 2, 1000, 100)),
        ("1 KiB x 900, 2 in flight, 4 connections", shape(4, 2, 900, 1024)),
    ];
    for (number, (name, shape)) in cases.into_iter().enumerate() {
        let (mut ours, mut ceiling, mut cpu, mut disk) = (vec![], vec![], vec![], vec![]);
        for round in 0..rounds {
            let dir = data.join(format!("throughput-{number}-{round}"));
            let broker = Broker::start(program, &dir, Some(SERVER_CPU));
            let before = broker.cpu_seconds();
            let figures = run_on(&broker, &shape).await;
            let used = broker.cpu_seconds() - before;
            cpu.push(used / figures.requests as f64 / shape.records as f64 * 1e6);
            ours.push(figures.requests_per_second());
            broker.kill();
            std::fs::remove_dir_all(&dir).unwrap();
            let null = Broker::start_null(Some(SERVER_CPU));
            ceiling.push(run_on(&null, &shape).await.requests_per_second());
            null.kill();
            disk.push(limits::measure(data).await.disk_bytes_per_second);
        }
        let (ours, ceiling) = (median(ours), median(ceiling));
        let batch = crate::frames::batch(shape.records, shape.size_bytes).len() as f64;
        println!(
            "| {name} | {ours:.0} req/s, {:.1} MB/s, {:.2} CPU s per M messages | null broker \
             {ceiling:.0} req/s; disk {:.0} MB/s | {:.2} of null, {:.2} of disk |",
            ours * batch / 1e6,
            median(cpu),
            median(disk.clone()) / 1e6,
            ours / ceiling,
            ours * batch / median(disk)
        );
    }
}

async fn latency(program: &Path, data: &Path, dir: &Path, rounds: usize) {
    let (mut p50, mut bar) = (vec![], vec![]);
    for round in 0..rounds {
        let run_dir = data.join(format!("latency-{round}"));
        let broker = Broker::start(program, &run_dir, Some(SERVER_CPU));
        let figures = run_on(&broker, &shape(1, 1, 1, 100)).await;
        broker.kill();
        let limits = limits::measure(dir).await;
        p50.push(figures.latency_us.value_at_quantile(0.5) as f64);
        bar.push(limits.round_trip_us + 1.3 * limits.synced_write_us + 25.0);
    }
    let (p50, bar) = (median(p50), median(bar));
    println!(
        "| one connection, one in flight: synced ack p50 | {p50:.1} us | {bar:.1} us (round trip + \
         1.3 x synced 4 KiB write + 25 us) | {:.2} |",
        p50 / bar
    );
}

/// The bars of consuming alone.
pub(crate) async fn run_consuming(program: &Path, dir: &Path, rounds: usize) {
    let data = dir.join(format!("braid-bars-{}", std::process::id()));
    std::fs::create_dir_all(&data).unwrap();
    println!("| bar | measured | limit in this run | ratio |");
    println!("|---|---|---|---|");
    consuming(program, &data, rounds).await;
    std::fs::remove_dir_all(&data).unwrap();
}

/// What is in the page cache, read by clients: large batches one behind the other, and 1 KiB
/// batches of one partition among those of many.
async fn consuming(program: &Path, data: &Path, rounds: usize) {
    let cases = [
        ("consume contiguous batches of 900 KB, 4 connections", 1, shape(4, 2, 900, 1024)),
        ("consume 1 KiB batches scattered among 100 partitions, 4 connections", 100, {
            shape(4, 100, 1, 900)
        }),
    ];
    for (number, (name, partitions, shape)) in cases.into_iter().enumerate() {
        let dir = data.join(format!("consuming-{number}"));
        let broker = Broker::start(program, &dir, Some(SERVER_CPU));
        let produce = Produce { partitions, ..shape };
        run_on(&broker, &produce).await;
        let consume = Consume {
            to: broker.address.clone(),
            topic: produce.topic.clone(),
            partitions,
            connections: 4,
            max_bytes: 1 << 20,
            seconds: 2.0,
        };
        let (mut ours, mut ceiling, mut cpu) = (vec![], vec![], vec![]);
        for _ in 0..rounds {
            let before = broker.cpu_seconds();
            let figures = crate::consume::consume(&consume).await;
            cpu.push((broker.cpu_seconds() - before) / figures.bytes as f64 * 1e9);
            ours.push(figures.bytes_per_second());
            let stream = Broker::start_stream(Some(SERVER_CPU));
            let duration = std::time::Duration::from_secs(2);
            ceiling.push(crate::stream::measure(&stream.address, 4, duration).await);
            stream.kill();
        }
        broker.kill();
        std::fs::remove_dir_all(&dir).unwrap();
        let (ours, ceiling) = (median(ours), median(ceiling));
        println!(
            "| {name} | {:.0} MB/s, {:.2} CPU s per GB | sendfile over loopback {:.0} MB/s | {:.2} |",
            ours / 1e6,
            median(cpu),
            ceiling / 1e6,
            ours / ceiling
        );
    }
}

/// kill -9 with much stored, to the first acknowledged message.
async fn recovery(program: &Path, data: &Path, stored_gib: f64) {
    let dir = data.join("recovery");
    let broker = Broker::start(program, &dir, None);
    let mut stored = 0.0;
    let shape = Produce { partitions: 12, seconds: 1.0, ..shape(4, 2, 900, 1024) };
    while stored < stored_gib * (1_u64 << 30) as f64 {
        let figures = run_on(&broker, &shape).await;
        stored += figures.bytes_per_second() * figures.elapsed.as_secs_f64();
    }
    broker.kill();
    let (seconds, broker) = seconds_to_first_ack(program, &dir).await;
    println!(
        "| kill -9 with {:.1} GiB stored to first acknowledged message | {:.0} ms | 1,000 ms | |",
        stored / (1_u64 << 30) as f64,
        seconds * 1e3
    );
    broker.kill();
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Many partitions created, written and restarted.
async fn partitions(program: &Path, data: &Path) {
    const PARTITIONS: i32 = 100_000;
    let dir = data.join("partitions");
    let broker = Broker::start(program, &dir, None);
    let start = std::time::Instant::now();
    let mut shape = Produce {
        to: broker.address.clone(),
        partitions: PARTITIONS,
        seconds: 0.0001,
        ..shape(1, 64, 1, 100)
    };
    client::create_topic(&shape).await;
    let created = start.elapsed();
    // Every partition in turn, until each has been written.
    shape.seconds = 1.0;
    let mut written = 0;
    while written < 2 * PARTITIONS as u64 {
        written += client::produce(&shape).await.requests;
    }
    let peak = broker.memory_bytes("VmHWM");
    broker.kill();
    let (seconds, broker) = seconds_to_first_ack(program, &dir).await;
    println!(
        "| {PARTITIONS} partitions: created in {:.2} s, written, killed and restarted in {:.2} s | peak \
         {:.0} MB, after restart {:.0} MB | 512 MB | |",
        created.as_secs_f64(),
        seconds,
        peak as f64 / 1e6,
        broker.memory_bytes("VmHWM") as f64 / 1e6
    );
    broker.kill();
}
