//! ListOffsets v1–10: offsets by time and by Kafka's special timestamps.
//!
//! v7 adds -3 (record with the largest timestamp), v8 -4 (earliest local), v9 -5 (latest tiered),
//! v11 -6 (earliest pending upload). Without tiering -4 is the log start and -5 and -6 find nothing.
//! Nothing found is offset -1 without an error. A lookup reads at most one batch. Errors:
//! NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE while a new leader does not know the end yet (LEADER_NOT_AVAILABLE
//! below v5), UNSUPPORTED_VERSION for a special timestamp that the version does not have, INVALID_REQUEST for
//! a partition named twice.

use std::collections::HashSet;
use std::sync::Arc;

use braid_protocol::messages::list_offsets_request::ListOffsetsPartition;
use braid_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use braid_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::error::lookup_code;
use super::respond::led_here;
use crate::model::{LeaderEpoch, QueueId};
use crate::partition::{Found, Partitions};

const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let image = broker.metadata.image();
    let repeated = repeated(&request);
    let committed = request.isolation_level == READ_COMMITTED;
    let mut topics = Vec::new();
    for asked in request.topics {
        let topic = image.topic(&asked.name).cloned();
        let mut partitions = Vec::new();
        for partition in &asked.partitions {
            let key = (asked.name.clone(), partition.partition_index);
            let found = if repeated.contains(&key) {
                Err(ErrorCode::INVALID_REQUEST)
            } else if !feature::list_offsets_has_timestamp(header.api_version, partition.timestamp)
            {
                Err(ErrorCode::UNSUPPORTED_VERSION)
            } else {
                look_up(broker, (&image, topic.as_deref()), partition, committed).await
            };
            let answer = match found {
                Ok((found, epoch)) => ListOffsetsPartitionResponse::default()
                    .with_offset(found.offset)
                    .with_timestamp(found.timestamp)
                    .with_leader_epoch(if found.offset < 0 { -1 } else { epoch.0 }),
                Err(code) => ListOffsetsPartitionResponse::default()
                    .with_error_code(code.0)
                    .with_offset(-1)
                    .with_timestamp(-1)
                    .with_leader_epoch(-1),
            };
            partitions.push(answer.with_partition_index(partition.partition_index));
        }
        topics.push(
            ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions),
        );
    }
    ListOffsetsResponse::default().with_topics(topics)
}

/// Partitions that are asked for more than once: Kafka answers none of them.
fn repeated(request: &ListOffsetsRequest) -> HashSet<(TopicName, i32)> {
    let mut seen = HashSet::new();
    let all = request
        .topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.name.clone(), p.partition_index)));
    all.filter(|key| !seen.insert(key.clone())).collect()
}

async fn look_up(
    broker: &Arc<Broker>,
    (image, topic): (&MetadataImage, Option<&TopicImage>),
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<(Found, LeaderEpoch), ErrorCode> {
    let there = led_here(broker, image, topic, asked.partition_index)?;
    there.home.check_epoch(asked.current_leader_epoch)?;
    if asked.timestamp != EARLIEST && asked.timestamp != EARLIEST_LOCAL {
        there.home.check_end_known()?;
    }
    let found = find(there.partitions(), there.queue, asked.timestamp, committed).await?;
    Ok((found, there.home.epoch()))
}

async fn find(
    partitions: &Partitions,
    queue: QueueId,
    timestamp: i64,
    committed: bool,
) -> Result<Found, ErrorCode> {
    let offsets = partitions.offsets(queue);
    match timestamp {
        LATEST if committed => Ok(Found { offset: partitions.last_stable(queue).0, timestamp: -1 }),
        LATEST => Ok(Found { offset: offsets.high_watermark.0, timestamp: -1 }),
        EARLIEST | EARLIEST_LOCAL => Ok(Found { offset: offsets.log_start.0, timestamp: -1 }),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(Found::NOTHING),
        MAX_TIMESTAMP => {
            let found = partitions.at_max_timestamp(queue).await;
            Ok(decided(partitions, queue, found.map_err(|e| lookup_code(&e))?, committed))
        }
        timestamp if timestamp >= 0 => {
            let found = partitions.at_or_after(queue, timestamp).await;
            Ok(decided(partitions, queue, found.map_err(|e| lookup_code(&e))?, committed))
        }
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

/// What is not decided yet is not there for readers of committed records.
fn decided(partitions: &Partitions, queue: QueueId, found: Found, committed: bool) -> Found {
    let is_hidden = committed && found.offset >= partitions.last_stable(queue).0;
    if is_hidden { Found::NOTHING } else { found }
}
