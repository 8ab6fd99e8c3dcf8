//! The producing side: many connections on one thread, each keeping a number of requests on
//! their way (closed loop) or sending by a schedule (open loop).

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{Produce, frames};

/// What a run yielded.
pub(crate) struct Figures {
    pub(crate) requests: u64,
    pub(crate) messages_per_request: u64,
    pub(crate) bytes_per_request: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latency_us: Histogram<u64>,
}

impl Figures {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }
    pub(crate) fn bytes_per_second(&self) -> f64 {
        self.requests_per_second() * self.bytes_per_request as f64
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |q| self.latency_us.value_at_quantile(q);
        write!(
            f,
            "{:.0} req/s, {:.0} msg/s, {:.1} MB/s, latency us p50 {} p99 {} p99.9 {} max {}",
            self.requests_per_second(),
            self.requests_per_second() * self.messages_per_request as f64,
            self.bytes_per_second() / 1e6,
            at(0.5),
            at(0.99),
            at(0.999),
            self.latency_us.max()
        )
    }
}

/// Creates the topic of a load; one that is there already is fine.
pub(crate) async fn create_topic(shape: &Produce) {
    let mut stream = TcpStream::connect(&shape.to).await.unwrap();
    stream.write_all(&frames::create_topic(&shape.topic, shape.partitions)).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    let error_at = 4 + 4 + 4 + 2 + shape.topic.len();
    let code = i16::from_be_bytes([answer[error_at], answer[error_at + 1]]);
    assert!(code == 0 || code == 36, "the topic was not created: error {code}");
}

/// Runs a load to its end.
pub(crate) async fn produce(shape: &Produce) -> Figures {
    let batch = frames::batch(shape.records, shape.size_bytes);
    let start = Instant::now();
    let end = start + shape.duration();
    let tasks: Vec<_> = (0..shape.connections)
        .map(|number| {
            let shape = shape.clone();
            let batch = batch.clone();
            tokio::spawn(async move {
                match shape.rate {
                    None => closed_loop(&shape, number, &batch, end).await,
                    Some(rate) => {
                        let every = shape.connections as f64 / rate;
                        open_loop(&shape, number, &batch, start, end, every).await
                    }
                }
            })
        })
        .collect();
    let mut latency_us = Histogram::new(3).unwrap();
    let mut requests = 0;
    for task in tasks {
        let part = task.await.unwrap();
        requests += part.len();
        latency_us.add(&part).unwrap();
    }
    Figures {
        requests,
        messages_per_request: shape.records as u64,
        bytes_per_request: batch.len() as u64,
        elapsed: start.elapsed(),
        latency_us,
    }
}

/// The requests of one connection: one per partition, used in turn.
struct Requests {
    frames: Vec<BytesMut>,
    sent: usize,
}

impl Requests {
    fn new(shape: &Produce, number: usize, batch: &[u8]) -> Self {
        let frames = (0..shape.partitions)
            .map(|p| {
                let partition = (p + number as i32) % shape.partitions;
                frames::produce(&shape.topic, partition, shape.acks, batch)
            })
            .collect();
        Self { frames, sent: 0 }
    }

    fn write_next(&mut self, out: &mut BytesMut) {
        let turn = self.sent % self.frames.len();
        let frame = &mut self.frames[turn];
        let at = frames::CORRELATION_AT;
        frame[at..at + 4].copy_from_slice(&(self.sent as i32).to_be_bytes());
        out.extend_from_slice(frame);
        self.sent += 1;
    }
}

/// Takes every whole answer out of `input`; each must be without error and in order.
fn take_answers(input: &mut BytesMut, answered: &mut usize, error_at: usize) -> usize {
    let mut count = 0;
    while input.len() >= 4 {
        let length = i32::from_be_bytes(input[..4].try_into().unwrap()) as usize;
        if input.len() < 4 + length {
            break;
        }
        let correlation = i32::from_be_bytes(input[4..8].try_into().unwrap());
        assert_eq!(correlation, *answered as i32, "answers came out of order");
        let at = 4 + error_at;
        let code = i16::from_be_bytes(input[at..at + 2].try_into().unwrap());
        assert_eq!(code, 0, "the broker refused a batch");
        input.advance(4 + length);
        *answered += 1;
        count += 1;
    }
    count
}

async fn connect(shape: &Produce) -> TcpStream {
    let stream = TcpStream::connect(&shape.to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn closed_loop(shape: &Produce, number: usize, batch: &[u8], end: Instant) -> Histogram<u64> {
    let mut stream = connect(shape).await;
    let error_at = frames::produce_error_at(&shape.topic);
    let mut requests = Requests::new(shape, number, batch);
    let mut latency_us = Histogram::new(3).unwrap();
    let (mut input, mut output) = (BytesMut::with_capacity(64 * 1024), BytesMut::new());
    let mut on_their_way: VecDeque<Instant> = VecDeque::new();
    let mut answered = 0;
    loop {
        let now = Instant::now();
        // However short the run, the first requests leave.
        let first = requests.sent == 0;
        while (first || now < end) && on_their_way.len() < shape.in_flight {
            requests.write_next(&mut output);
            on_their_way.push_back(now);
        }
        if on_their_way.is_empty() {
            return latency_us;
        }
        stream.write_all(&output).await.unwrap();
        output.clear();
        assert_ne!(stream.read_buf(&mut input).await.unwrap(), 0, "the broker hung up");
        let count = take_answers(&mut input, &mut answered, error_at);
        let now = Instant::now();
        for sent in on_their_way.drain(..count) {
            latency_us.record((now - sent).as_micros() as u64).unwrap();
        }
    }
}

async fn open_loop(
    shape: &Produce,
    number: usize,
    batch: &[u8],
    start: Instant,
    end: Instant,
    every_seconds: f64,
) -> Histogram<u64> {
    let (mut from, mut to) = connect(shape).await.into_split();
    let error_at = frames::produce_error_at(&shape.topic);
    let mut requests = Requests::new(shape, number, batch);
    // The connections' schedules are spread evenly.
    let first = every_seconds * number as f64 / shape.connections as f64;
    let scheduled =
        move |i: usize| start + Duration::from_secs_f64(first + every_seconds * i as f64);
    let total = (0..).take_while(|i| scheduled(*i) < end).count();
    let sender = tokio::spawn(async move {
        let mut output = BytesMut::new();
        while requests.sent < total {
            tokio::time::sleep_until(scheduled(requests.sent).into()).await;
            let now = Instant::now();
            while requests.sent < total && scheduled(requests.sent) <= now {
                requests.write_next(&mut output);
            }
            to.write_all(&output).await.unwrap();
            output.clear();
        }
        to
    });
    let mut latency_us = Histogram::new(3).unwrap();
    let mut input = BytesMut::with_capacity(64 * 1024);
    let mut answered = 0;
    while answered < total {
        assert_ne!(from.read_buf(&mut input).await.unwrap(), 0, "the broker hung up");
        let before = answered;
        take_answers(&mut input, &mut answered, error_at);
        let now = Instant::now();
        for i in before..answered {
            let waited = now.saturating_duration_since(scheduled(i));
            latency_us.record(waited.as_micros() as u64).unwrap();
        }
    }
    drop(sender.await.unwrap());
    latency_us
}
