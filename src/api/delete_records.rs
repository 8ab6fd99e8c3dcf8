//! DeleteRecords v0–2: moves log starts up; -1 means the high watermark. Answered with the new
//! log start when it is durable, so that deleted records never come back.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, OFFSET_OUT_OF_RANGE, POLICY_VIOLATION for topics that are
//! only compacted, INVALID_TOPIC_EXCEPTION for the broker's own topics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use braid_protocol::ErrorCode;
use braid_protocol::messages::delete_records_request::DeleteRecordsPartition;
use braid_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use braid_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::error::{log_start_code, not_settled_code};
use super::respond::{Home, There, is_internal, led_here};
use crate::model::{Offset, Position};
use crate::partition::Acks;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let image = broker.metadata.image();
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
    let deadline = Instant::now() + Duration::from_millis(timeout_ms);
    // Every log start is moved before the first wait: one sync makes all of them durable.
    let mut moved = Vec::new();
    for topic in request.topics {
        let found = image.topic(&topic.name);
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|asked| (asked.partition_index, delete(broker, (&image, found), asked)))
            .collect();
        moved.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(moved.len());
    for (name, partitions) in moved {
        let mut results = Vec::with_capacity(partitions.len());
        for (index, outcome) in partitions {
            let low_watermark = match outcome {
                Ok((there, durable_at)) => settled(&there, durable_at, deadline).await,
                Err(code) => Err(code),
            };
            results.push(result(index, low_watermark));
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(results));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete<'a>(
    broker: &'a Broker,
    (image, topic): (&MetadataImage, Option<&Arc<TopicImage>>),
    asked: &DeleteRecordsPartition,
) -> Result<(There<'a>, Position), ErrorCode> {
    let there = led_here(broker, image, topic.map(AsRef::as_ref), asked.partition_index)?;
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if is_internal(&topic.name) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let policy = broker.topic_settings.of(topic).config;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let offset = match asked.offset {
        HIGH_WATERMARK => there.partitions().offsets(there.queue).high_watermark,
        offset => Offset(offset),
    };
    let moved = there.partitions().release(there.queue, offset);
    let durable_at = moved.map_err(|e| log_start_code(&e))?;
    if let Home::Led(led) = &there.home {
        led.appended();
    }
    Ok((there, durable_at))
}

/// Waits until what was deleted never comes back: whoever leads next knows it, too.
async fn settled(
    there: &There<'_>,
    durable_at: Position,
    deadline: Instant,
) -> Result<i64, ErrorCode> {
    match &there.home {
        Home::Own(partitions) => {
            let durable = partitions.wait_durable(durable_at).await;
            durable.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
        }
        Home::Led(led) => {
            let settled = led.settle(durable_at, Acks::InSync(1), deadline).await;
            settled.map_err(|error| not_settled_code(&error))?;
        }
    }
    Ok(there.partitions().offsets(there.queue).log_start.0)
}

fn result(index: i32, low_watermark: Result<i64, ErrorCode>) -> DeleteRecordsPartitionResult {
    let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match low_watermark {
        Ok(offset) => result.with_low_watermark(offset),
        Err(code) => result.with_low_watermark(-1).with_error_code(code.0),
    }
}
