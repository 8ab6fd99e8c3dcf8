//! What cleaning costs those who write: an open loop of small writes beside a topic whose records replace
//! each other, once while the broker compacts it all the time and once while it keeps all of it.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broker::{Broker, SERVER_CPU};
use crate::{Produce, client, frames};

/// Records of each batch of the topic beside, and the bytes of each.
const RECORDS: usize = 10;
const RECORD_BYTES: usize = 1_000;
/// Batches of different keys, written in turn.
const TURNS: usize = 1_000;
/// Measured writes per second.
const RATE: f64 = 500.0;

/// Runs the rounds and prints a line for each policy.
pub(crate) async fn run(program: &Path, dir: &Path, megabytes: f64, seconds: f64, rounds: usize) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    for round in 0..rounds {
        let mut p99_us = Vec::new();
        for policy in ["delete", "compact"] {
            let data = dir.path().join(format!("{round}-{policy}"));
            let more = ["log.cleaner.backoff.ms=100", "braid.commitlog.segment.bytes=67108864"];
            let broker = Broker::start_with(program, &data, Some(SERVER_CPU), &more);
            let settings = [
                ("cleanup.policy", policy),
                ("segment.ms", "1000"),
                ("min.cleanable.dirty.ratio", "0.1"),
            ];
            let mut stream = TcpStream::connect(&broker.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            ask(&mut stream, &frames::create_topic_with("beside", 1, &settings)).await;
            let beside = tokio::spawn(write_beside(stream, megabytes, seconds));
            let shape = Produce {
                to: broker.address.clone(),
                topic: "measured".into(),
                partitions: 1,
                connections: 4,
                in_flight: 1,
                records: 1,
                size_bytes: 100,
                acks: -1,
                rate: Some(RATE),
                seconds,
            };
            client::create_topic(&shape).await;
            let figures = client::produce(&shape).await;
            let written = beside.await.unwrap();
            p99_us.push(figures.latency_us.value_at_quantile(0.99) as f64);
            println!(
                "{policy}: {figures}; beside {:.1} MB/s, {} MB of files, {:.1} CPU s",
                written as f64 / seconds / 1e6,
                files_bytes(&data) / 1_000_000,
                broker.cpu_seconds(),
            );
            broker.kill();
        }
        println!("p99 while it compacts: {:.2} of that without", p99_us[1] / p99_us[0]);
    }
}

async fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
}

/// Writes at a steady pace, or as fast as it can if that is less; how many bytes.
async fn write_beside(mut stream: TcpStream, megabytes: f64, seconds: f64) -> usize {
    let requests: Vec<_> = (0..TURNS)
        .map(|turn| frames::keyed_batch(RECORDS, RECORD_BYTES, turn * RECORDS))
        .map(|batch| frames::produce("beside", 0, -1, &batch))
        .collect();
    let (start, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut written = 0;
    for request in requests.iter().cycle() {
        if start.elapsed() >= end {
            break;
        }
        ask(&mut stream, request).await;
        written += request.len();
        let due = start + Duration::from_secs_f64(written as f64 / (megabytes * 1e6));
        tokio::time::sleep_until(due.into()).await;
    }
    written
}

fn files_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { files_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
