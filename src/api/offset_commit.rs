//! OffsetCommit v2–10. v2–4 carry a retention per commit, v9 takes member epochs, v10 topic ids.
//! Offsets of the same partitions in transactions under way are older, and count no more.
//! A partition that does not exist is refused alone: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use braid_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use braid_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::delivery_groups;
use super::error::group_code;
use crate::group::{CommitPartition, CommitReply, CommitRequest, CommitTopic, GroupError};
use crate::model::TopicId;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let by_id = feature::offset_commit_has_topic_ids(header.api_version);
    let image = broker.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut commits = Vec::new();
    for asked in &request.topics {
        let topic = find(&image, asked, by_id);
        commits.extend(topic.map(|topic| asked_of(topic, asked)));
        topics.push(unanswered(asked, topic, by_id));
    }
    commits.retain(|commit| !commit.partitions.is_empty());
    // Nothing to commit still checks the member, unless every partition was refused already.
    if !commits.is_empty() || topics.is_empty() {
        let commit = CommitRequest {
            group_id: request.group_id.to_string(),
            generation: request.generation_id_or_member_epoch,
            member_id: request.member_id.to_string(),
            group_instance_id: request.group_instance_id.map(|id| id.to_string()),
            retention_ms: request.retention_time_ms,
            topics: commits,
        };
        let why = GroupError::GroupIdNotFound;
        let reply = match delivery_groups::check_free(broker, &commit.group_id, why) {
            Ok(()) => commit_of(broker, commit).await,
            Err(error) => Err(error),
        };
        fill(&mut topics, reply.map_err(|error| known(error, header.api_version)), by_id, &image);
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// Commits, and takes what is older out of the transactions under way.
async fn commit_of(broker: &Broker, commit: CommitRequest) -> CommitReply {
    // Which offsets are older and wait in a transaction is known when those are read back.
    if !broker.transactions.is_loaded() {
        return Err(GroupError::CoordinatorLoadInProgress);
    }
    let group = commit.group_id.clone();
    let pending = broker.transactions.pending_in(&group);
    let committed = broker.groups.commit(commit).await?;
    if pending.is_empty() {
        return Ok(committed);
    }
    let keys = committed.iter().flat_map(|topic| {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        let done = topic.partitions.iter().filter(|(_, result)| result.is_ok());
        done.map(move |(partition, _)| (Arc::clone(&name), *partition))
    });
    let keys: Vec<_> = keys.collect();
    let superseded = broker.transactions.supersede(&group, &keys, &pending);
    let not_yet = GroupError::CoordinatorNotAvailable;
    match superseded {
        Ok(end) if broker.partitions.wait_durable(end).await.is_ok() => Ok(committed),
        Ok(_) => Err(not_yet),
        Err(error) => {
            tracing::warn!(group, %error, "a transaction keeps older offsets of a group");
            Err(not_yet)
        }
    }
}

/// Clients below the version that brought the error would take it for final.
fn known(error: GroupError, version: i16) -> GroupError {
    let is_new = error == GroupError::GroupIdNotFound;
    if is_new && !feature::offset_commit_has_member_epochs(version) {
        GroupError::IllegalGeneration
    } else {
        error
    }
}

fn find<'a>(
    image: &'a MetadataImage,
    asked: &OffsetCommitRequestTopic,
    by_id: bool,
) -> Option<&'a TopicImage> {
    if by_id { image.topic_by_id(TopicId(asked.topic_id)) } else { image.topic(&asked.name) }
        .map(AsRef::as_ref)
}

fn asked_of(topic: &TopicImage, asked: &OffsetCommitRequestTopic) -> CommitTopic {
    let partitions = asked
        .partitions
        .iter()
        .filter(|p| topic.partition(p.partition_index).is_some())
        .map(|p| CommitPartition {
            partition: p.partition_index,
            offset: p.committed_offset,
            leader_epoch: p.committed_leader_epoch,
            metadata: p.committed_metadata.as_ref().map(ToString::to_string),
        })
        .collect();
    CommitTopic { name: topic.name.to_string(), topic_id: topic.id, partitions }
}

/// The answer for a topic before the group has spoken: partitions that do not exist are refused,
/// the others wait for [`fill`].
fn unanswered(
    asked: &OffsetCommitRequestTopic,
    topic: Option<&TopicImage>,
    by_id: bool,
) -> OffsetCommitResponseTopic {
    let partitions = asked
        .partitions
        .iter()
        .map(|p| {
            let code = match topic {
                None if by_id => ErrorCode::UNKNOWN_TOPIC_ID,
                Some(topic) if topic.partition(p.partition_index).is_some() => ErrorCode::NONE,
                None | Some(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code.0)
        })
        .collect();
    OffsetCommitResponseTopic::default()
        .with_name(asked.name.clone())
        .with_topic_id(asked.topic_id)
        .with_partitions(partitions)
}

fn fill(
    topics: &mut [OffsetCommitResponseTopic],
    reply: CommitReply,
    by_id: bool,
    image: &MetadataImage,
) {
    let (codes, for_all) = match reply {
        Err(error) => (HashMap::new(), Some(group_code(error))),
        Ok(committed) => {
            let codes = committed
                .into_iter()
                .flat_map(|topic| {
                    let id = topic.topic_id;
                    topic.partitions.into_iter().map(move |(partition, result)| {
                        ((id, partition), result.map_or_else(group_code, |()| ErrorCode::NONE))
                    })
                })
                .collect();
            (codes, None)
        }
    };
    for topic in topics {
        let id = if by_id {
            Some(TopicId(topic.topic_id))
        } else {
            image.topic(&topic.name).map(|topic| topic.id)
        };
        for partition in topic.partitions.iter_mut().filter(|p| p.error_code == 0) {
            let own = id.and_then(|id| codes.get(&(id, partition.partition_index)).copied());
            partition.error_code = for_all.or(own).unwrap_or(ErrorCode::NONE).0;
        }
    }
}
