//! OffsetFetch v1–10: the offsets of one group or (v8) several. v2 asks for all topics with null,
//! v7 can insist on stable offsets, v9 takes member epochs, v10 topic ids. A group or partition
//! without an offset is answered with -1 and no error, whether the group exists or not.

use std::collections::HashSet;
use std::sync::Arc;

use braid_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use braid_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use braid_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::MetadataImage;

use super::Broker;
use super::error::group_code;
use super::respond::text;
use crate::group::{FetchRequest, FetchTopic, FetchedPartition, FetchedTopic, GroupError};
use crate::model::TopicId;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    let by_id = feature::offset_fetch_has_topic_ids(header.api_version);
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in request.groups {
        groups.push(one(broker, asked, by_id, request.require_stable).await);
    }
    OffsetFetchResponse::default().with_groups(groups)
}

async fn one(
    broker: &Arc<Broker>,
    asked: OffsetFetchRequestGroup,
    by_id: bool,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = broker.metadata.image();
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    let mut unknown = Vec::new();
    let topics = asked.topics.map(|topics| {
        topics.into_iter().filter_map(|topic| resolve(&image, topic, by_id, &mut unknown)).collect()
    });
    let wanted = FetchRequest { group_id: asked.group_id.to_string(), topics, require_stable };
    // Asked before the offsets are read: what is pending now may have become an offset by then, and
    // what becomes pending later is not yet one.
    let group = asked.group_id.to_string();
    if require_stable && !broker.transactions.is_loaded() {
        return answer.with_error_code(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0);
    }
    let pending = if require_stable && broker.transactions.has_pending(&group) {
        Some(broker.transactions.pending(&group))
    } else {
        None
    };
    match broker.groups.fetch(wanted).await {
        Ok(mut fetched) => {
            if let Some(pending) = pending {
                hide(&mut fetched, &pending);
            }
            let topics = fetched.into_iter().filter_map(|topic| named(&image, topic, by_id));
            answer.with_topics(topics.chain(unknown).collect())
        }
        Err(error) => answer.with_error_code(group_code(error).0),
    }
}

/// Offsets that an open transaction may change are not told.
fn hide(fetched: &mut [FetchedTopic], pending: &HashSet<(Arc<str>, i32)>) {
    for topic in fetched {
        for partition in &mut topic.partitions {
            if pending.contains(&(Arc::clone(&topic.name), partition.partition)) {
                partition.result = Err(GroupError::UnstableOffsetCommit);
            }
        }
    }
}

/// A topic of the request by name; an id that names no topic is answered right away.
fn resolve(
    image: &MetadataImage,
    asked: OffsetFetchRequestTopics,
    by_id: bool,
    unknown: &mut Vec<OffsetFetchResponseTopics>,
) -> Option<FetchTopic> {
    if !by_id {
        return Some(FetchTopic {
            name: asked.name.to_string(),
            topic_id: image.topic(&asked.name).map(|topic| topic.id),
            partitions: asked.partition_indexes,
        });
    }
    let id = TopicId(asked.topic_id);
    if let Some(topic) = image.topic_by_id(id) {
        return Some(FetchTopic {
            name: topic.name.to_string(),
            topic_id: Some(id),
            partitions: asked.partition_indexes,
        });
    }
    let partitions = asked
        .partition_indexes
        .into_iter()
        .map(|index| nothing(index).with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0))
        .collect();
    unknown.push(
        OffsetFetchResponseTopics::default()
            .with_topic_id(asked.topic_id)
            .with_partitions(partitions),
    );
    None
}

fn named(
    image: &MetadataImage,
    topic: FetchedTopic,
    by_id: bool,
) -> Option<OffsetFetchResponseTopics> {
    let answer = OffsetFetchResponseTopics::default()
        .with_partitions(topic.partitions.into_iter().map(partition).collect());
    if by_id {
        // Offsets of a topic deleted meanwhile cannot be named by id.
        let id = image.topic(&topic.name)?.id;
        return Some(answer.with_topic_id(id.0));
    }
    Some(answer.with_name(TopicName(text(&topic.name))))
}

fn partition(fetched: FetchedPartition) -> OffsetFetchResponsePartitions {
    match fetched.result {
        Ok(Some(offset)) => OffsetFetchResponsePartitions::default()
            .with_partition_index(fetched.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_metadata(Some(text(&offset.metadata))),
        Ok(None) => nothing(fetched.partition),
        Err(error) => nothing(fetched.partition).with_error_code(group_code(error).0),
    }
}

fn nothing(index: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(text("")))
}
