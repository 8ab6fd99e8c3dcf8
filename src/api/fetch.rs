//! Fetch v4–18: reads whole batches, in request order, waiting for `min_bytes` up to `max_wait`.
//!
//! v7 adds sessions, v9 the client's idea of the leader epoch, v12 diverging epochs, v13 topic ids.
//! The first batch found is returned whole even above the limits, so that a client is never stuck
//! (KIP-74). With read_committed nothing behind the last stable offset is read, and the answer names
//! the void transactions in what it holds.
//! A partition that another broker leads is answered with who that is (v12, with its address v16).
//! Errors per partition: NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID,
//! FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, CORRUPT_MESSAGE, KAFKA_STORAGE_ERROR; for all:
//! FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use braid_protocol::fetch_response::{
    AbortedTransaction as AbortedInAnswer, FetchResponse, Partition, Topic,
};
use braid_protocol::messages::{FetchRequest, TopicName};
use braid_protocol::records::Batches;
use braid_protocol::{ErrorCode, RequestHeader, Response, feature};
use braid_raft::image::{MetadataImage, TopicImage};
use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::answer_memory::Lease;
use super::error::fetch_code;
use super::fetch_session::{
    PartitionKey, Plan, SessionError, SessionRequest, Told, TopicKey, Wanted,
};
use super::leader_hints::LeaderHints;
use super::respond::{There, led_here, text};
use super::{Broker, Reply};
use crate::model::{Offset, TopicId};
use crate::store::AbortedTransaction;
use crate::traffic::TopicTraffic;

const READ_COMMITTED: i8 = 1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    listener: &str,
    header: RequestHeader,
    request: FetchRequest,
) -> Reply {
    let limits = Limits {
        max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        size_bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
        size_bytes_max: usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(broker.limits.fetch_size_bytes_max),
        read_committed: request.isolation_level == READ_COMMITTED,
    };
    match begin(broker, &header, request) {
        Ok(plan) => {
            let (reads, lease) = read_until_enough(broker, &plan, &limits).await;
            let response = answer(broker, listener, plan, reads, limits.read_committed);
            Reply::Records(Box::new((header, Response::Fetch(response))), lease)
        }
        Err(error) => {
            let error = match error {
                SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
                SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
                SessionError::TopicIdMismatch => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
            };
            let response = FetchResponse { error, ..FetchResponse::default() };
            Reply::answer(header, Response::Fetch(response))
        }
    }
}

struct Limits {
    max_wait: Duration,
    size_bytes_min: usize,
    size_bytes_max: usize,
    read_committed: bool,
}

/// One partition's part of an answer.
struct Read {
    error: ErrorCode,
    high_watermark: i64,
    log_start: i64,
    last_stable: i64,
    /// What is void among the records, for readers of committed ones.
    aborted: Vec<AbortedTransaction>,
    records: Vec<Bytes>,
}

impl Read {
    fn failed(error: ErrorCode) -> Self {
        Self {
            error,
            high_watermark: -1,
            log_start: -1,
            last_stable: -1,
            aborted: Vec::new(),
            records: Vec::new(),
        }
    }
    fn size_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

fn begin(
    broker: &Broker,
    header: &RequestHeader,
    request: FetchRequest,
) -> Result<Plan, SessionError> {
    let by_topic_id = feature::fetch_has_topic_ids(header.api_version);
    let key = |name: &TopicName, id: Uuid| {
        if by_topic_id { TopicKey::Id(TopicId(id)) } else { TopicKey::Name(name.to_string()) }
    };
    let partitions = request
        .topics
        .iter()
        .flat_map(|topic| {
            let key = key(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |p| {
                let wanted = Wanted {
                    current_leader_epoch: p.current_leader_epoch,
                    fetch_offset: Offset(p.fetch_offset),
                    size_bytes_max: p.partition_max_bytes,
                };
                ((key.clone(), p.partition), wanted)
            })
        })
        .collect();
    let forgotten = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| {
            let key = key(&topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |p| (key.clone(), *p))
        })
        .collect();
    let asked = SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        by_topic_id,
        partitions,
        forgotten,
    };
    let now_ms = i64::try_from(broker.env.clock.monotonic().as_millis()).unwrap_or(i64::MAX);
    let fresh_id = || (broker.env.rng.next_u64() >> 33).try_into().unwrap_or(1);
    broker
        .fetch_sessions
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .begin(now_ms, asked, fresh_id)
}

fn topic_of<'a>(image: &'a MetadataImage, key: &TopicKey) -> Result<&'a TopicImage, ErrorCode> {
    match key {
        TopicKey::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
        TopicKey::Name(name) => image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
    }
    .map(AsRef::as_ref)
}

/// Reads until there is enough, something failed, or the time is over.
async fn read_until_enough(
    broker: &Arc<Broker>,
    plan: &Plan,
    limits: &Limits,
) -> (Vec<Read>, Lease) {
    let enough = |reads: &[Read]| {
        reads.iter().map(Read::size_bytes).sum::<usize>() >= limits.size_bytes_min
            || reads.iter().any(|read| read.error != ErrorCode::NONE)
    };
    let (reads, lease) = read_leased(broker, plan, limits).await;
    if enough(&reads) || limits.max_wait.is_zero() || plan.partitions.is_empty() {
        return (reads, lease);
    }
    drop((reads, lease));
    let deadline = tokio::time::Instant::now() + limits.max_wait;
    let news = Arc::new(Notify::new());
    let image = broker.metadata.image();
    // Subscribed before the next read, so that nothing arrives unseen between the two.
    let subscriptions: Vec<_> = plan
        .partitions
        .iter()
        .filter_map(|((key, index), _)| {
            let topic = topic_of(&image, key).ok()?;
            let there = led_here(broker, &image, Some(topic), *index).ok()?;
            there.partitions().subscribe(there.queue, &news)
        })
        .collect();
    let mut stopping = broker.stopping.clone();
    // What is there is not read again and again while it grows.
    while !is_worth_reading(broker, plan, limits) {
        let is_over = tokio::select! {
            woken = tokio::time::timeout_at(deadline, news.notified()) => woken.is_err(),
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        if is_over {
            break;
        }
    }
    drop(subscriptions);
    read_leased(broker, plan, limits).await
}

/// Whether a read would end the wait: there is enough, or an error to tell. Looks at no record.
fn is_worth_reading(broker: &Broker, plan: &Plan, limits: &Limits) -> bool {
    let image = broker.metadata.image();
    let mut size_bytes = 0;
    for ((key, index), wanted) in &plan.partitions {
        let Ok(there) = asked_here(broker, &image, (key, *index), wanted) else { return true };
        let (queue, partitions) = (there.queue, there.partitions());
        let size_bytes_max = wanted.size_bytes_max();
        let (from, committed) = (wanted.fetch_offset, limits.read_committed);
        match partitions.readable(queue, from, committed, size_bytes_max) {
            Ok(Some(readable)) => size_bytes += readable,
            // On disk: a reader that far behind need not wait.
            Ok(None) | Err(_) => return true,
        }
        if size_bytes >= limits.size_bytes_min {
            return true;
        }
    }
    false
}

/// Reads as much as memory allows.
async fn read_leased(broker: &Arc<Broker>, plan: &Plan, limits: &Limits) -> (Vec<Read>, Lease) {
    let wanted = plan.partitions.iter().map(|(_, wanted)| wanted.size_bytes_max());
    let wanted = wanted.fold(0, usize::saturating_add).min(limits.size_bytes_max);
    let mut lease = broker.answer_memory.lease(wanted);
    let reads = read_all(broker, plan, lease.size_bytes(), limits.read_committed).await;
    lease.fit(reads.iter().map(Read::size_bytes).sum());
    (reads, lease)
}

async fn read_all(
    broker: &Arc<Broker>,
    plan: &Plan,
    size_bytes_max: usize,
    committed: bool,
) -> Vec<Read> {
    let image = broker.metadata.image();
    let mut left = size_bytes_max;
    let mut nothing_yet = true;
    let mut reads = Vec::with_capacity(plan.partitions.len());
    for ((key, index), wanted) in &plan.partitions {
        let read = match asked_here(broker, &image, (key, *index), wanted) {
            Ok(there) => read_one(&there, wanted, (left, nothing_yet), committed).await,
            Err(code) => Read::failed(code),
        };
        let size = read.size_bytes();
        left = left.saturating_sub(size);
        nothing_yet &= size == 0;
        reads.push(read);
    }
    reads
}

/// A partition that is asked for, if this broker leads it in the epoch that the client knows.
fn asked_here<'a>(
    broker: &'a Broker,
    image: &MetadataImage,
    (key, index): (&TopicKey, i32),
    wanted: &Wanted,
) -> Result<There<'a>, ErrorCode> {
    let there = led_here(broker, image, Some(topic_of(image, key)?), index)?;
    there.home.check_epoch(wanted.current_leader_epoch)?;
    Ok(there)
}

async fn read_one(
    there: &There<'_>,
    wanted: &Wanted,
    (left, first): (usize, bool),
    committed: bool,
) -> Read {
    let size_bytes_max = wanted.size_bytes_max().min(left);
    let (from, queue, partitions) = (wanted.fetch_offset, there.queue, there.partitions());
    let read = if committed {
        partitions.read_committed(queue, from, size_bytes_max, first).await
    } else {
        partitions.read(queue, from, size_bytes_max, first).await
    };
    match read {
        Ok(read) => Read {
            error: ErrorCode::NONE,
            high_watermark: read.offsets.high_watermark.0,
            log_start: read.offsets.log_start.0,
            last_stable: read.last_stable.0,
            aborted: told(read.void, &read.batches),
            records: read.batches,
        },
        Err(error) => Read::failed(fetch_code(&error)),
    }
}

/// Which void transactions are told with the batches of an answer: a reader far behind is not told
/// of all that is to come.
fn told(mut void: Vec<AbortedTransaction>, batches: &[Bytes]) -> Vec<AbortedTransaction> {
    if batches.is_empty() || void.is_empty() {
        return Vec::new();
    }
    let headers = Batches::new(Bytes::from(batches.concat())).filter_map(Result::ok);
    if let Some((last, _)) = headers.last() {
        void.retain(|void| void.first.0 < last.next_offset());
    }
    void
}

fn answer(
    broker: &Broker,
    listener: &str,
    plan: Plan,
    reads: Vec<Read>,
    read_committed: bool,
) -> FetchResponse {
    let image = broker.metadata.image();
    let mut sessions = broker.fetch_sessions.lock().unwrap_or_else(PoisonError::into_inner);
    let mut topics: Vec<Topic> = Vec::new();
    let mut last: Option<TopicKey> = None;
    let mut traffic: Option<(TopicKey, Option<Arc<TopicTraffic>>)> = None;
    let mut hints = LeaderHints::default();
    for ((key, _), read) in plan.partitions.into_iter().zip(reads) {
        if traffic.as_ref().is_none_or(|(of, _)| *of != key.0) {
            let topic = topic_of(&image, &key.0).ok();
            traffic = Some((key.0.clone(), topic.map(|topic| broker.traffic.topic(topic.id))));
        }
        if let Some((_, Some(traffic))) = &traffic {
            traffic.fetched((read.error == ErrorCode::NONE).then(|| read.size_bytes()));
        }
        let news = plan.session_id == 0
            || sessions.tell(
                plan.session_id,
                &key,
                Told { high_watermark: read.high_watermark, log_start: read.log_start },
                !read.records.is_empty(),
                read.error != ErrorCode::NONE,
            );
        if plan.incremental && !news {
            continue;
        }
        let (topic_key, index): PartitionKey = key;
        if last.as_ref() != Some(&topic_key) {
            topics.push(named(&image, &topic_key));
            last = Some(topic_key);
        }
        if let (Some(topic), Some(key)) = (topics.last_mut(), &last) {
            let moved = read.error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
            let led = topic_of(&image, key).ok().and_then(|topic| topic.partition(index));
            let current_leader =
                led.filter(|_| moved).and_then(|led| hints.leader(&image, listener, led));
            let partition = partition(index, read, read_committed);
            topic.partitions.push(Partition { current_leader, ..partition });
        }
    }
    let node_endpoints = hints.into_endpoints();
    FetchResponse {
        session_id: plan.session_id,
        topics,
        node_endpoints,
        ..FetchResponse::default()
    }
}

fn named(image: &MetadataImage, key: &TopicKey) -> Topic {
    let (name, id) = match key {
        TopicKey::Name(name) => (TopicName(text(name)), Uuid::nil()),
        TopicKey::Id(id) => {
            let name = image.topic_by_id(*id).map_or("", |topic| &topic.name);
            (TopicName(text(name)), id.0)
        }
    };
    Topic { name, id, partitions: Vec::new() }
}

fn partition(index: i32, read: Read, read_committed: bool) -> Partition {
    Partition {
        index,
        error: read.error,
        high_watermark: read.high_watermark,
        last_stable_offset: read.last_stable,
        log_start_offset: read.log_start,
        aborted_transactions: read_committed.then(|| {
            let told = read.aborted.iter().map(|void| AbortedInAnswer {
                producer_id: void.producer.0,
                first_offset: void.first.0,
            });
            told.collect()
        }),
        records: read.records,
        ..Partition::default()
    }
}
