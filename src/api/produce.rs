//! Produce v3–13, in two stages: [`submit`] validates and appends, so that the order of a
//! connection's requests is the order in the log; the answer follows when the bytes are on disk.
//!
//! On a topic of type DELAY records are scheduled instead ([`delayed_produce`]).
//! v7 allows zstd; v8 lists the records that were refused; v13 names topics by id. acks=1 waits for
//! the leader's disk, acks=all for those of all replicas in sync; as in Kafka, min.insync.replicas
//! asks for no more replicas than a partition has. acks=0 is never answered, and an error closes the connection.
//! A transactional batch joins its transaction (v12) or is verified to be in it, in the step that
//! appends it: no delayed request can join or follow another transaction.
//! A partition that another broker leads is answered with who that is and where (v10).
//! Errors: NOT_LEADER_OR_FOLLOWER, CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP, MESSAGE_TOO_LARGE,
//! UNSUPPORTED_COMPRESSION_TYPE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUIRED_ACKS,
//! OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, NOT_ENOUGH_REPLICAS,
//! NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUEST_TIMED_OUT, POLICY_VIOLATION, KAFKA_STORAGE_ERROR,
//! INVALID_TXN_STATE, TRANSACTION_ABORTABLE, CONCURRENT_TRANSACTIONS, INVALID_PRODUCER_ID_MAPPING.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use braid_protocol::header::Head;
use braid_protocol::produce::{
    ProduceAnswer, ProduceHead, Refusal, Stored, TopicKey, Walk, fail, fail_some,
};
use braid_protocol::records::{
    BatchHeader, BatchLimits, ConformError, RecordError, RecordProblem, conform,
};
use braid_protocol::request::{BodyError, DecodeError};
use braid_protocol::{ApiKey, ErrorCode, feature};
use braid_raft::image::{PartitionImage, TopicImage};

use super::delayed_produce::{self, DelayedPlace};
use super::error::{append_code, batch_code, led_append_code, not_settled_code};
use super::heavy_produce::Found;
use super::leader_hints::LeaderHints;
use super::refusal::tell_produce;
use super::respond::{Home, internal_write_refused};
use super::transactions::{SPREAD, coordinates, produce_code};
use super::{Accepted, Broker, Caller, CloseReason, Moment, Reply};
use crate::config::MessageType;
use crate::model::{Position, QueueId, TopicId};
use crate::partition::{Acks, LedShard, TopicSettings};
use crate::store::Appended;

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// A produce whose batches have their place in the log. Its answer stands ready among the answers
/// of its connection.
pub(crate) struct Produced {
    version: i16,
    answer_size_bytes: usize,
    /// The answer is true once everything below is on disk in this broker's own log,
    end: Position,
    /// and these have what was appended to replicated shards.
    awaited: Vec<Awaited>,
}

/// What a produce has appended to a replicated shard.
struct Awaited {
    led: Arc<LedShard>,
    end: Position,
    acks: Acks,
    deadline: Instant,
    /// Which of the answer's successes it is, by number.
    success: usize,
}

/// First stage: validates and appends every batch of a well-formed request, in request order, and
/// writes the answer to the end of `answers`. `found` is what is known of its batches already.
///
/// # Errors
/// The answer cannot be put into a frame, or the body was not well-formed after all.
pub(crate) fn submit<'a>(
    broker: &Broker,
    caller: &Caller,
    now: &Moment,
    asked: &Head<'a>,
    found: Vec<Found<'a>>,
    answers: &mut BytesMut,
) -> Result<Accepted, CloseReason> {
    let version = asked.api_version;
    let (head, walk) =
        Walk::begin(version, asked.body).map_err(|error| malformed(version, &error))?;
    broker.traffic.request(ApiKey::Produce.code());
    let mut appending = Appending {
        broker,
        caller,
        asked,
        acks: head.acks,
        allow_zstd: feature::produce_has_zstd(version),
        refused: refusal_of_all(&head),
        transactional_id: head.transactional_id,
        now,
        end: Position(0),
        awaited: Vec::new(),
        deadline: None,
        timeout_ms: head.timeout_ms,
        stored: 0,
        failed: false,
        found: found.into_iter(),
        hints: LeaderHints::default(),
    };
    let mut answer = ProduceAnswer::begin(answers, version, asked.correlation_id, head.topics);
    if let Err(error) = appending.append_all(head.topics, walk, &mut answer) {
        answer.take_back();
        return Err(malformed(version, &error));
    }
    if head.acks == ACKS_NONE {
        answer.take_back();
        // The client can learn of a failure only from a closed connection.
        return Ok(Accepted::Done(if appending.failed {
            Reply::Close(CloseReason::UnacknowledgedProduceFailed)
        } else {
            Reply::Nothing
        }));
    }
    let answer_size_bytes =
        answer.finish(&std::mem::take(&mut appending.hints).into_endpoints())?;
    let (end, awaited) = (appending.end, appending.awaited);
    Ok(Accepted::Produced(Produced { version, answer_size_bytes, end, awaited }))
}

/// The error of a body that is not what its version says.
pub(super) fn malformed(version: i16, error: &BodyError) -> CloseReason {
    let reason = error.to_string();
    DecodeError::Malformed { api: ApiKey::Produce, version, reason }.into()
}

/// Why nothing of a request may be appended.
fn refusal_of_all(request: &ProduceHead<'_>) -> Option<(ErrorCode, &'static str)> {
    if !matches!(request.acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL) {
        return Some((
            ErrorCode::INVALID_REQUIRED_ACKS,
            "acks must be 0, 1 or -1 (all); set the producer's acks accordingly.",
        ));
    }
    None
}

struct Appending<'a> {
    broker: &'a Broker,
    caller: &'a Caller,
    asked: &'a Head<'a>,
    acks: i16,
    allow_zstd: bool,
    refused: Option<(ErrorCode, &'static str)>,
    transactional_id: Option<&'a str>,
    now: &'a Moment,
    end: Position,
    awaited: Vec<Awaited>,
    /// Until when other replicas are waited for; taken once one is.
    deadline: Option<Instant>,
    timeout_ms: i32,
    /// How many batches have found their place.
    stored: usize,
    failed: bool,
    found: std::vec::IntoIter<Found<'a>>,
    hints: LeaderHints,
}

impl<'a> Appending<'a> {
    fn append_all(
        &mut self,
        topics: usize,
        mut walk: Walk<'a>,
        answer: &mut ProduceAnswer<'_>,
    ) -> Result<(), BodyError> {
        for _ in 0..topics {
            let (key, partitions) = walk.topic()?;
            answer.topic(key, partitions);
            let topic = match key {
                TopicKey::Id(id) => self.now.image.topic_by_id(TopicId(id)),
                TopicKey::Name(name) => self.now.image.topic(name),
            };
            let settings = topic.map(|topic| self.broker.topic_settings.of(topic));
            let traffic = topic.map(|topic| self.broker.traffic.topic(topic.id));
            let found = match (topic, settings.as_deref()) {
                (Some(topic), Some(settings)) => Ok((topic.as_ref(), settings)),
                _ => Err(unknown_topic(key)),
            };
            for _ in 0..partitions {
                let (index, records) = walk.partition()?;
                let checked = self.found.next().flatten();
                let records = records.unwrap_or_default();
                let stored = self.append(found, checked, index, records);
                if let Some(traffic) = &traffic {
                    traffic.produced(records.len(), stored.is_ok());
                }
                match stored {
                    Ok(stored) => {
                        self.stored += 1;
                        answer.partition(index, Ok(stored));
                    }
                    Err(refusal) => {
                        if !std::mem::replace(&mut self.failed, true) {
                            tell_produce(self.broker, self.caller, self.asked, key, &refusal);
                        }
                        answer.partition(index, Err(&refusal));
                    }
                }
            }
            walk.end()?;
            answer.end_topic();
        }
        walk.end()
    }

    fn append(
        &mut self,
        topic: Result<(&TopicImage, &TopicSettings), ErrorCode>,
        checked: Found<'a>,
        index: i32,
        records: &'a [u8],
    ) -> Result<Stored, Box<Refusal>> {
        if let Some((code, why)) = self.refused {
            return Err(refused(code, Some(why)));
        }
        let (topic, settings) = topic.map_err(|code| refused(code, None))?;
        if let Some(why) = internal_write_refused(&topic.name) {
            return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(why)));
        }
        let Some(partition) = topic.partition(index) else {
            return Err(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
        };
        let broker = self.broker;
        let Some(home) = broker.home(&self.now.image, partition) else {
            return Err(self.led_elsewhere(partition));
        };
        let limits = BatchLimits { allow_zstd: self.allow_zstd, ..settings.limits };
        let batch = checked
            .unwrap_or_else(|| conform(records, &limits, settings.codec, self.now.wall_ms))
            .map_err(|error| batch_refused(&error, &topic.name, index))?;
        if let Home::Led(led) = home {
            return self.append_replicated(led, partition, settings, (&batch.batch, &batch.header));
        }
        if settings.config.message_type == MessageType::Delay && !batch.header.is_transactional() {
            let place = DelayedPlace { topic, index, queue: partition.queue };
            let (stored, end) = delayed_produce::schedule(self.broker, self.now, place, &batch)?;
            self.end = self.end.max(end);
            return Ok(stored);
        }
        let appended = if batch.header.is_transactional() {
            let place = (&*topic.name, index, partition.queue);
            self.append_in_transaction(place, settings, (&batch.batch, &batch.header))?
        } else {
            self.broker
                .partitions
                .append(self.now.wall_ms, partition.queue, &batch.batch, &batch.header)
                .map_err(|error| refused_because(append_code(&error), error.to_string()))?
        };
        self.end = self.end.max(appended.end);
        Ok(stored(&appended, &batch.header))
    }
}

fn stored(appended: &Appended, header: &BatchHeader) -> Stored {
    Stored {
        base_offset: appended.base_offset.0,
        log_append_time_ms: if header.log_append_time() { header.max_timestamp } else { -1 },
        log_start_offset: appended.log_start.0,
    }
}

impl Appending<'_> {
    fn led_elsewhere(&mut self, partition: PartitionImage) -> Box<Refusal> {
        let why = "Another broker leads this partition.";
        let leader = self.hints.leader(&self.now.image, &self.caller.listener, partition);
        let refusal = refused(ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(why));
        Box::new(Refusal { leader, ..*refusal })
    }

    /// Appends to the log of a replicated shard, which may be led elsewhere by now. What the broker's
    /// own engines would have to keep beside the records is not replicated yet.
    fn append_replicated(
        &mut self,
        led: Arc<LedShard>,
        partition: PartitionImage,
        settings: &TopicSettings,
        batch: (&[u8], &BatchHeader),
    ) -> Result<Stored, Box<Refusal>> {
        if batch.1.is_transactional() {
            let why = "Topics with more than one replica take no transactions yet: send without \
                       transactional.id, or to a topic with replication factor 1.";
            return Err(refused(ErrorCode::INVALID_TXN_STATE, Some(why)));
        }
        if settings.config.message_type != MessageType::Normal
            && settings.config.message_type != MessageType::Fifo
        {
            let why = "Topics with message.type DELAY or TRANSACTION work with one replica only: make \
                       the topic with replication factor 1.";
            return Err(refused(ErrorCode::POLICY_VIOLATION, Some(why)));
        }
        let acks = if self.acks == ACKS_ALL {
            let replicas =
                self.now.image.shard(partition.shard).map_or(1, |it| it.replicas().len());
            let wanted = usize::try_from(settings.config.min_insync_replicas).unwrap_or(1);
            Acks::InSync(wanted.min(replicas))
        } else {
            Acks::Leader
        };
        let appended = match led.append(self.now.wall_ms, partition.queue, batch, acks) {
            Ok(appended) => appended,
            Err(error) => {
                let code = led_append_code(&error);
                if code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                    return Err(self.led_elsewhere(partition));
                }
                return Err(refused_because(code, error.to_string()));
            }
        };
        let timeout_ms = u64::try_from(self.timeout_ms).unwrap_or(0);
        let deadline = *self
            .deadline
            .get_or_insert_with(|| Instant::now() + Duration::from_millis(timeout_ms));
        let (end, success) = (appended.end, self.stored);
        self.awaited.push(Awaited { led, end, acks, deadline, success });
        Ok(stored(&appended, batch.1))
    }

    /// From v12 on the partition joins the producer's transaction with the batch; before, it must
    /// have been added.
    fn append_in_transaction(
        &self,
        place: (&str, i32, QueueId),
        settings: &TopicSettings,
        batch: (&[u8], &BatchHeader),
    ) -> Result<Appended, Box<Refusal>> {
        let Some(id) = self.transactional_id else {
            let why = "The batch is part of a transaction, and the request names no transactional \
                       id: set transactional.id.";
            return Err(refused(ErrorCode::INVALID_TXN_STATE, Some(why)));
        };
        if !coordinates(self.broker, id) {
            return Err(refused(ErrorCode::INVALID_TXN_STATE, Some(SPREAD)));
        }
        match settings.config.message_type {
            MessageType::Normal | MessageType::Fifo => {}
            MessageType::Delay | MessageType::Transaction => {
                let why = "Topics with message.type DELAY or TRANSACTION take no Kafka \
                           transactions: send without transactional.id, or to a NORMAL topic.";
                return Err(refused(ErrorCode::INVALID_TXN_STATE, Some(why)));
            }
        }
        let version = self.asked.api_version;
        let joins = feature::produce_adds_partitions_to_transaction(version);
        let has_abortable = feature::produce_has_abortable_error(version);
        let appended = self.broker.transactions.append(self.now.wall_ms, id, place, batch, joins);
        appended.map_err(|refusal| {
            refused_because(produce_code(&refusal, joins, has_abortable), refusal.to_string())
        })
    }
}

fn unknown_topic(key: TopicKey<'_>) -> ErrorCode {
    match key {
        TopicKey::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicKey::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
    }
}

pub(super) fn refused(code: ErrorCode, why: Option<&'static str>) -> Box<Refusal> {
    let message = why.map(Into::into);
    Box::new(Refusal { code, message, record_errors: Vec::new(), leader: None })
}

pub(super) fn refused_because(code: ErrorCode, why: String) -> Box<Refusal> {
    let message = Some(why.into());
    Box::new(Refusal { code, message, record_errors: Vec::new(), leader: None })
}

fn batch_refused(error: &ConformError, topic: &str, partition: i32) -> Box<Refusal> {
    let listed = match error {
        ConformError::Batch(batch) => batch.record_errors(),
        ConformError::Compress(_) => &[],
    };
    let text = |e: &RecordError| (e.index, record_text(e, topic, partition));
    let record_errors = listed.iter().map(text).collect();
    let message = Some(error.to_string().into());
    Box::new(Refusal { code: batch_code(error), message, record_errors, leader: None })
}

/// What Kafka says of a single record: clients show it as it is.
fn record_text(error: &RecordError, topic: &str, partition: i32) -> String {
    match error.problem {
        RecordProblem::NoKey => {
            format!("{} in topic partition {topic}-{partition}", error.problem)
        }
        RecordProblem::TimestampOutOfRange { timestamp, from, to } => format!(
            "Timestamp {timestamp} of message with offset {} is out of range. The timestamp should \
             be within [{from}, {to}]",
            error.index
        ),
        RecordProblem::LogAppendTime => error.problem.to_string(),
    }
}

impl Produced {
    /// Whether the answer is true by now.
    pub(crate) fn is_durable(&self, broker: &Broker) -> bool {
        broker.partitions.durable() >= self.end
            && self.awaited.iter().all(|it| it.led.settled(it.end, it.acks) == Some(Ok(())))
    }

    /// Size of the answer that stands ready.
    pub(crate) fn answer_size_bytes(&self) -> usize {
        self.answer_size_bytes
    }

    /// Waits until the bytes are on disk, or a log has failed; with acks=all until the other replicas
    /// in sync have them, too, for as long as the request says. Then `answer`, which is this
    /// produce's, takes back every success that is none. Dropping the future loses nothing.
    pub(crate) async fn wait(
        &self,
        broker: &Broker,
        answers: &mut BytesMut,
    ) -> Result<(), CloseReason> {
        let is_durable = broker.partitions.wait_durable(self.end).await.is_ok();
        let mut failed = Vec::new();
        for Awaited { led, end, acks, deadline, success } in &self.awaited {
            if let Err(error) = led.settle(*end, *acks, *deadline).await {
                failed.push((*success, not_settled_code(&error)));
            }
        }
        if is_durable && failed.is_empty() {
            return Ok(());
        }
        let answer = answers.get_mut(..self.answer_size_bytes).unwrap_or_default();
        let told = if is_durable {
            fail_some(answer, self.version, &failed)
        } else {
            fail(answer, self.version, ErrorCode::KAFKA_STORAGE_ERROR)
        };
        told.map_err(|error| malformed(self.version, &error.into()))
    }
}
