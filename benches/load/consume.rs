//! The consuming side: connections that read partitions from the beginning, again and again, one
//! fetch on its way at a time as Kafka's consumers do. Of the records only batch headers are looked
//! at, so that the program is not the bottleneck.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Consume, frames};

/// What a run yielded.
pub(crate) struct Figures {
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency_us: Histogram<u64>,
}

impl Figures {
    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |q| self.latency_us.value_at_quantile(q);
        write!(
            f,
            "{:.1} MB/s, {:.0} batches/s, {} fetches, latency us p50 {} p99 {} max {}",
            self.bytes_per_second() / 1e6,
            self.batches as f64 / self.elapsed.as_secs_f64(),
            self.latency_us.len(),
            at(0.5),
            at(0.99),
            self.latency_us.max()
        )
    }
}

/// Runs a load to its end.
pub(crate) async fn consume(shape: &Consume) -> Figures {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(shape.seconds);
    let tasks: Vec<_> = (0..shape.connections)
        .map(|number| {
            let shape = shape.clone();
            tokio::spawn(async move { Reader::connect(&shape, number).await.run(end).await })
        })
        .collect();
    let mut sum = Figures {
        bytes: 0,
        batches: 0,
        elapsed: Duration::ZERO,
        latency_us: Histogram::new(3).unwrap(),
    };
    for task in tasks {
        let part = task.await.unwrap();
        sum.bytes += part.bytes;
        sum.batches += part.batches;
        sum.latency_us.add(&part.latency_us).unwrap();
    }
    sum.elapsed = start.elapsed();
    sum
}

/// One connection, which reads its share of the partitions one after the other.
struct Reader {
    shape: Consume,
    stream: TcpStream,
    partitions: Vec<i32>,
    turn: usize,
    offset: i64,
    input: BytesMut,
    figures: Figures,
}

/// What one answer brought.
struct Part {
    records_bytes: usize,
    batches: u64,
    /// None at the end of the partition.
    next_offset: Option<i64>,
}

impl Reader {
    async fn connect(shape: &Consume, number: usize) -> Self {
        let stream = TcpStream::connect(&shape.to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mine = |p: &i32| *p as usize % shape.connections == number % shape.partitions as usize;
        let partitions: Vec<i32> = (0..shape.partitions).filter(mine).collect();
        let figures = Figures {
            bytes: 0,
            batches: 0,
            elapsed: Duration::ZERO,
            latency_us: Histogram::new(3).unwrap(),
        };
        Self {
            shape: shape.clone(),
            stream,
            partitions,
            turn: 0,
            offset: 0,
            input: BytesMut::with_capacity(2 << 20),
            figures,
        }
    }

    async fn run(mut self, end: Instant) -> Figures {
        let mut empty = 0;
        while Instant::now() < end {
            let part = self.fetch().await;
            self.figures.bytes += part.records_bytes as u64;
            self.figures.batches += part.batches;
            if let Some(next) = part.next_offset {
                (self.offset, empty) = (next, 0);
            } else {
                empty += 1;
                assert!(empty <= self.partitions.len(), "there is nothing to consume");
                (self.offset, self.turn) = (0, self.turn + 1);
            }
        }
        self.figures
    }

    async fn fetch(&mut self) -> Part {
        let partition = self.partitions[self.turn % self.partitions.len()];
        let max = self.shape.max_bytes;
        let start = Instant::now();
        let request = frames::fetch(&self.shape.topic, partition, self.offset, max);
        self.stream.write_all(&request).await.unwrap();
        loop {
            if self.input.len() >= 4 {
                let length = i32::from_be_bytes(self.input[..4].try_into().unwrap()) as usize;
                if self.input.len() >= 4 + length {
                    let part = part(&self.input[4..4 + length], &self.shape.topic);
                    self.input.advance(4 + length);
                    self.figures.latency_us.record(start.elapsed().as_micros() as u64).unwrap();
                    return part;
                }
                self.input.reserve(4 + length - self.input.len());
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "hung up");
        }
    }
}

/// Takes an answer to [`frames::fetch`] apart.
fn part(answer: &[u8], topic: &str) -> Part {
    // Correlation id, throttle time, topics, name, partitions, index.
    let mut rest = &answer[4 + 4 + 4 + 2 + topic.len() + 4 + 4..];
    assert_eq!(rest.get_i16(), 0, "the broker refused a fetch");
    let (_high_watermark, _last_stable) = (rest.get_i64(), rest.get_i64());
    let aborted = rest.get_i32().max(0) as usize;
    rest.advance(16 * aborted);
    let records_bytes = rest.get_i32().max(0) as usize;
    let (mut batches, mut next_offset) = (0, None);
    while rest.len() >= 61 {
        let base = i64::from_be_bytes(rest[..8].try_into().unwrap());
        let length = i32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        let last_delta = i32::from_be_bytes(rest[23..27].try_into().unwrap());
        next_offset = Some(base + i64::from(last_delta) + 1);
        batches += 1;
        rest = rest.get(12 + length..).unwrap_or_default();
    }
    Part { records_bytes, batches, next_offset }
}
