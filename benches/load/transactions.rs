//! What transactions cost: the same closed loop of an idempotent producer's batches once outside of
//! any transaction and once in transactions that are committed every so often; then transactions of
//! a few messages, one after the other, and how long their ends take.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use braid_protocol::records::{BatchSpec, BatchWriter, Producer as Stamp};
use bytes::{Buf, BufMut, BytesMut};
use hdrhistogram::Histogram;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    EndTxnRequest, InitProducerIdRequest, ProduceRequest, ProducerId, RequestHeader,
    ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::broker::{Broker, SERVER_CPU};
use crate::{Produce, client};

const TOPIC: &str = "measured";
const PRODUCE: i16 = 12;
const END_TXN: i16 = 5;
/// As many as an idempotent producer may have on their way.
const IN_FLIGHT: usize = 5;
const SIZE_BYTES: usize = 100;
/// How often a transaction is committed.
const INTERVALS_MS: [u64; 3] = [10, 100, 1000];
/// Messages of a small transaction.
const SMALL: usize = 10;

/// Runs the rounds and prints a line for each measurement.
pub(crate) async fn run(program: &Path, dir: &Path, shape: Shape) {
    let dir = tempfile::tempdir_in(dir).unwrap();
    let data = dir.path().join("data");
    let broker = Broker::start(program, &data, Some(SERVER_CPU));
    let topic = Produce {
        to: broker.address.clone(),
        topic: TOPIC.into(),
        partitions: shape.connections as i32,
        connections: 1,
        in_flight: 1,
        records: 1,
        size_bytes: SIZE_BYTES,
        acks: -1,
        rate: None,
        seconds: 0.1,
    };
    client::create_topic(&topic).await;
    for round in 0..shape.rounds {
        for interval_ms in INTERVALS_MS {
            let plain = load(&broker.address, shape, None).await;
            let every = Some(Duration::from_millis(interval_ms));
            let transactional = load(&broker.address, shape, every).await;
            println!(
                "round {round}, committed every {interval_ms} ms: {:.0} msg/s, plain {:.0} msg/s, ratio {:.3}; {} ends, us p50 {} p99 {}",
                transactional.messages_per_second,
                plain.messages_per_second,
                transactional.messages_per_second / plain.messages_per_second,
                transactional.end_us.len(),
                transactional.end_us.value_at_quantile(0.5),
                transactional.end_us.value_at_quantile(0.99),
            );
        }
        let small = load(&broker.address, Shape { records: SMALL, ..shape }, Some(Duration::ZERO));
        let small = small.await;
        println!(
            "round {round}, transactions of {SMALL} messages: {:.0} a second on {} connections; ends, us p50 {} p99 {}",
            small.messages_per_second / SMALL as f64,
            shape.connections,
            small.end_us.value_at_quantile(0.5),
            small.end_us.value_at_quantile(0.99),
        );
    }
    broker.kill();
}

/// The shape of the load.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Producers, each on a connection and a partition of its own.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Records per batch of 100 bytes each.
    #[arg(long, default_value_t = 100)]
    records: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

struct Figures {
    messages_per_second: f64,
    end_us: Histogram<u64>,
}

async fn load(address: &str, shape: Shape, commit_every: Option<Duration>) -> Figures {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(shape.seconds);
    let tasks: Vec<_> = (0..shape.connections)
        .map(|number| {
            let address = address.to_owned();
            tokio::spawn(async move {
                let mut producer =
                    Producer::begin(&address, number, shape.records, commit_every.is_some()).await;
                producer.run(end, commit_every).await
            })
        })
        .collect();
    let (mut messages, mut end_us) = (0, Histogram::new(3).unwrap());
    for task in tasks {
        let (batches, ends) = task.await.unwrap();
        messages += batches * shape.records;
        end_us.add(&ends).unwrap();
    }
    let messages_per_second = messages as f64 / start.elapsed().as_secs_f64();
    Figures { messages_per_second, end_us }
}

/// A producer as a client library has it, less the library.
struct Producer {
    stream: TcpStream,
    name: Option<String>,
    id: i64,
    epoch: i16,
    sequence: i32,
    records: usize,
    frame: BytesMut,
    batch_at: std::ops::Range<usize>,
    input: BytesMut,
    next_id: i32,
}

impl Producer {
    async fn begin(address: &str, number: usize, records: usize, transactional: bool) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = transactional.then(|| format!("producer {number}"));
        let init = InitProducerIdRequest::default()
            .with_transactional_id(name.as_deref().map(transactional_id))
            .with_transaction_timeout_ms(60_000);
        let answer = call(&mut stream, 4, &init).await;
        assert_eq!(answer.error_code, 0);
        let (id, epoch) = (answer.producer_id.0, answer.producer_epoch);
        let spec = BatchSpec {
            producer: Some(Stamp { id, epoch, base_sequence: 0 }),
            transactional,
            ..BatchSpec::default()
        };
        let mut writer = BatchWriter::new(spec);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        for _ in 0..records {
            writer.append(now.as_millis() as i64, None, Some(&[b'x'; SIZE_BYTES]), &[]).unwrap();
        }
        let batch = writer.finish().unwrap();
        let data = PartitionProduceData::default()
            .with_index(number as i32)
            .with_records(Some(batch.clone()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(TOPIC)))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(name.as_deref().map(transactional_id))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let frame = frame_of(PRODUCE, &request);
        // Behind it are the tagged fields of the partition, the topic and the request.
        let batch_end = frame.len() - 3;
        let batch_at = batch_end - batch.len()..batch_end;
        assert_eq!(frame[batch_at.clone()], batch[..]);
        let (sequence, next_id, input) = (0, 0, BytesMut::new());
        Self { stream, name, id, epoch, sequence, records, frame, batch_at, input, next_id }
    }

    /// Writes until the time is over; how many batches, and how long ends took.
    async fn run(
        &mut self,
        end: Instant,
        commit_every: Option<Duration>,
    ) -> (usize, Histogram<u64>) {
        let (mut batches, mut end_us) = (0, Histogram::new(3).unwrap());
        let mut on_their_way = VecDeque::new();
        let mut begun = Instant::now();
        loop {
            let now = Instant::now();
            let is_due = commit_every.is_some_and(|every| now - begun >= every);
            let is_over = now >= end;
            // The first batch of a transaction always goes.
            while !is_over
                && on_their_way.len() < IN_FLIGHT
                && !(is_due && (self.sequence > 0 || !on_their_way.is_empty()))
            {
                self.send().await;
                on_their_way.push_back(());
            }
            if on_their_way.pop_front().is_some() {
                self.receive().await;
                batches += 1;
                continue;
            }
            if self.sequence > 0 && commit_every.is_some() {
                let asked = Instant::now();
                self.commit().await;
                end_us.record(asked.elapsed().as_micros() as u64).unwrap();
                begun = Instant::now();
            }
            if is_over {
                return (batches, end_us);
            }
        }
    }

    async fn send(&mut self) {
        let batch = &mut self.frame[self.batch_at.clone()];
        batch[43..51].copy_from_slice(&self.id.to_be_bytes());
        batch[51..53].copy_from_slice(&self.epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&self.sequence.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        self.sequence += self.records as i32;
        self.frame[8..12].copy_from_slice(&self.next_id.to_be_bytes());
        self.next_id += 1;
        self.stream.write_all(&self.frame).await.unwrap();
    }

    async fn receive(&mut self) {
        loop {
            if let Some(length) = self.input.first_chunk::<4>() {
                let length = i32::from_be_bytes(*length) as usize;
                if self.input.len() >= 4 + length {
                    self.input.advance(4);
                    let answer = self.input.split_to(length).freeze();
                    let answer = decoded::<ProduceRequest>(PRODUCE, answer);
                    let partition = &answer.responses[0].partition_responses[0];
                    assert_eq!(partition.error_code, 0, "{partition:?}");
                    return;
                }
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0, "it hung up");
        }
    }

    async fn commit(&mut self) {
        let name = self.name.as_deref().unwrap_or_default();
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(name))
            .with_producer_id(ProducerId(self.id))
            .with_producer_epoch(self.epoch)
            .with_committed(true);
        let answer = call(&mut self.stream, END_TXN, &request).await;
        assert_eq!(answer.error_code, 0);
        (self.id, self.epoch) = (answer.producer_id.0, answer.producer_epoch);
        self.sequence = 0;
    }
}

fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}

fn frame_of<R: Request>(version: i16, request: &R) -> BytesMut {
    let header =
        RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn decoded<R: Request>(version: i16, mut answer: bytes::Bytes) -> R::Response {
    let _header =
        ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
    R::Response::decode(&mut answer, version).unwrap()
}

async fn call<R: Request>(stream: &mut TcpStream, version: i16, request: &R) -> R::Response {
    stream.write_all(&frame_of(version, request)).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    decoded::<R>(version, answer.into())
}
