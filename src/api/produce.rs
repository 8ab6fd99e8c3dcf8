//! Produce v3–13, in two stages: [`submit`] validates and appends, so that the order of a
//! connection's requests is the order in the log; the answer follows when the bytes are on disk.
//!
//! v7 allows zstd; v8 lists the records that were refused; v13 names topics by id. acks=1 and
//! acks=all both wait for the disk; acks=0 is never answered, and an error closes the connection.
//! Errors: CORRUPT_MESSAGE, INVALID_RECORD, INVALID_TIMESTAMP, MESSAGE_TOO_LARGE,
//! UNSUPPORTED_COMPRESSION_TYPE, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUIRED_ACKS,
//! OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR.

use std::sync::Arc;

use braid_protocol::messages::produce_request::PartitionProduceData;
use braid_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use braid_protocol::messages::{ProduceRequest, ProduceResponse};
use braid_protocol::records::{BatchLimits, ConformError, conform};
use braid_protocol::{ErrorCode, RequestHeader, Response, feature};
use braid_raft::image::TopicImage;

use super::error::{append_code, batch_code};
use super::respond::{internal_write_refused, text};
use super::{Accepted, Broker, CloseReason, Moment, Reply};
use crate::model::{Position, TopicId};
use crate::partition::TopicSettings;

const ACKS_NONE: i16 = 0;
const ACKS_LEADER: i16 = 1;
const ACKS_ALL: i16 = -1;

/// A produce whose batches have their place in the log.
pub(crate) struct Produced {
    header: RequestHeader,
    response: ProduceResponse,
    /// The answer is true once everything below is on disk.
    end: Position,
}

/// First stage: validates and appends every batch, in request order.
pub(crate) fn submit(
    broker: &Arc<Broker>,
    header: RequestHeader,
    now: Moment,
    request: ProduceRequest,
) -> Accepted {
    let acks = request.acks;
    let mut appending = Appending {
        broker,
        acks,
        allow_zstd: feature::produce_has_zstd(header.api_version),
        by_id: feature::produce_has_topic_ids(header.api_version),
        refused: refusal_of_all(&request),
        now_ms: now.wall_ms,
        end: Position(0),
        failed: false,
    };
    let image = broker.metadata.image();
    let responses = request
        .topic_data
        .into_iter()
        .map(|data| {
            let topic = if appending.by_id {
                image.topic_by_id(TopicId(data.topic_id))
            } else {
                image.topic(&data.name)
            };
            let settings = topic.map(|topic| broker.topic_settings.of(topic));
            let partition_responses = data
                .partition_data
                .into_iter()
                .map(|part| appending.append(topic.map(AsRef::as_ref), settings.as_deref(), part))
                .collect();
            TopicProduceResponse::default()
                .with_name(data.name)
                .with_topic_id(data.topic_id)
                .with_partition_responses(partition_responses)
        })
        .collect();
    let (end, failed) = (appending.end, appending.failed);
    if acks == ACKS_NONE {
        // The client can learn of a failure only from a closed connection.
        return Accepted::Done(if failed {
            Reply::Close(CloseReason::UnacknowledgedProduceFailed)
        } else {
            Reply::Nothing
        });
    }
    let response = ProduceResponse::default().with_responses(responses);
    Accepted::Produced(Produced { header, response, end })
}

/// Why nothing of a request may be appended.
fn refusal_of_all(request: &ProduceRequest) -> Option<(ErrorCode, &'static str)> {
    if !matches!(request.acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL) {
        return Some((
            ErrorCode::INVALID_REQUIRED_ACKS,
            "acks must be 0, 1 or -1 (all); set the producer's acks accordingly.",
        ));
    }
    if request.transactional_id.is_some() {
        return Some((
            ErrorCode::INVALID_REQUEST,
            "Transactions are not served by this version of Braid: leave transactional.id unset.",
        ));
    }
    None
}

/// Replicas that hold everything acknowledged: this broker's alone.
const SYNC_STATE_SET_SIZE: i32 = 1;

struct Appending<'a> {
    broker: &'a Broker,
    acks: i16,
    allow_zstd: bool,
    by_id: bool,
    refused: Option<(ErrorCode, &'static str)>,
    now_ms: i64,
    end: Position,
    failed: bool,
}

impl Appending<'_> {
    fn append(
        &mut self,
        topic: Option<&TopicImage>,
        settings: Option<&TopicSettings>,
        part: PartitionProduceData,
    ) -> PartitionProduceResponse {
        let index = part.index;
        let answer = self.try_append(topic, settings, part).unwrap_or_else(|refusal| {
            self.failed = true;
            refusal.with_base_offset(-1).with_log_append_time_ms(-1).with_log_start_offset(-1)
        });
        answer.with_index(index)
    }

    fn try_append(
        &mut self,
        topic: Option<&TopicImage>,
        settings: Option<&TopicSettings>,
        part: PartitionProduceData,
    ) -> Result<PartitionProduceResponse, Box<PartitionProduceResponse>> {
        if let Some((code, why)) = self.refused {
            return Err(refused(code, Some(why)));
        }
        let (Some(topic), Some(settings)) = (topic, settings) else {
            return Err(refused(self.unknown_topic(), None));
        };
        if let Some(why) = internal_write_refused(&topic.name) {
            return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(why)));
        }
        let Some(partition) = topic.partition(part.index) else {
            return Err(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
        };
        if self.acks == ACKS_ALL && settings.config.min_insync_replicas > SYNC_STATE_SET_SIZE {
            let why = "min.insync.replicas of the topic is more than the one replica there is.";
            return Err(refused(ErrorCode::NOT_ENOUGH_REPLICAS, Some(why)));
        }
        let records = part.records.unwrap_or_default();
        let limits = BatchLimits { allow_zstd: self.allow_zstd, ..settings.limits };
        let batch = conform(&records, &limits, settings.codec, self.now_ms)
            .map_err(|error| batch_refused(&error))?;
        if batch.header.is_transactional() {
            let why = "Transactions are not served by this version of Braid.";
            return Err(refused(ErrorCode::INVALID_TXN_STATE, Some(why)));
        }
        let appended = self
            .broker
            .partitions
            .append(self.now_ms, partition.queue, &batch.batch, &batch.header)
            .map_err(|error| refused(append_code(&error), Some(&error.to_string())))?;
        self.end = self.end.max(appended.end);
        let log_append_time_ms =
            if batch.header.log_append_time() { batch.header.max_timestamp } else { -1 };
        Ok(PartitionProduceResponse::default()
            .with_base_offset(appended.base_offset.0)
            .with_log_append_time_ms(log_append_time_ms)
            .with_log_start_offset(appended.log_start.0))
    }

    fn unknown_topic(&self) -> ErrorCode {
        if self.by_id { ErrorCode::UNKNOWN_TOPIC_ID } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION }
    }
}

fn refused(code: ErrorCode, why: Option<&str>) -> Box<PartitionProduceResponse> {
    let answer = PartitionProduceResponse::default().with_error_code(code.0);
    Box::new(answer.with_error_message(why.map(text)))
}

fn batch_refused(error: &ConformError) -> Box<PartitionProduceResponse> {
    let record_errors = match error {
        ConformError::Batch(batch) => batch.record_errors(),
        ConformError::Compress(_) => &[],
    };
    let listed = record_errors
        .iter()
        .map(|e| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(e.index)
                .with_batch_index_error_message(Some(text(&e.problem.to_string())))
        })
        .collect();
    let answer = refused(batch_code(error), Some(&error.to_string()));
    Box::new(answer.with_record_errors(listed))
}

impl Produced {
    /// Whether the answer is true by now.
    pub(crate) fn is_durable(&self, broker: &Broker) -> bool {
        broker.partitions.durable() >= self.end
    }

    /// Waits until the bytes are on disk or the log has failed. The request's timeout is for
    /// waiting on other replicas, of which there are none. Dropping the future loses nothing.
    pub(crate) async fn wait(&mut self, broker: &Broker) {
        if broker.partitions.wait_durable(self.end).await.is_err() {
            self.fail_appended(ErrorCode::KAFKA_STORAGE_ERROR);
        }
    }

    /// The answer, once [`Produced::is_durable`] says so or [`Produced::wait`] has returned.
    pub(crate) fn into_answer(self) -> (RequestHeader, Response) {
        (self.header, Response::Produce(self.response))
    }

    /// Takes back every success that was only appended.
    fn fail_appended(&mut self, code: ErrorCode) {
        let partitions =
            self.response.responses.iter_mut().flat_map(|t| &mut t.partition_responses);
        for partition in partitions.filter(|p| p.error_code == 0) {
            partition.error_code = code.0;
            partition.base_offset = -1;
            partition.log_append_time_ms = -1;
        }
    }
}
