//! TxnOffsetCommit v0–6: offsets that count once the transaction is committed. From v3 on the
//! member is checked against its group (KIP-447); from v5 on the group joins the transaction here;
//! v6 names topics by id (KIP-1319). A partition that does not exist is refused alone.
//!
//! The offsets count as pending before the group is asked, so that whoever takes the partitions
//! over meanwhile waits for them, or makes the group refuse.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use braid_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use braid_protocol::transactions::{TxnOffsetCommit, TxnOffsetCommitAnswer};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::{MetadataImage, TopicImage};
use uuid::Uuid;

use super::Broker;
use super::delivery_groups;
use super::error::group_code;
use super::transactions::{SPREAD, STATE_SIZE_BYTES, coordinates, coordinates_group, refusal_code};
use crate::group::{CommitPartition, CommitRequest, CommitTopic, GroupError};
use crate::model::TopicId;
use crate::txn::{GroupOffsets, Identity, PendingOffset, Refusal};

/// By place of the topic in the request, and partition.
type Codes = HashMap<(usize, i32), ErrorCode>;

/// A topic of the request that exists, with its place there.
type Wanted = (usize, CommitTopic);

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    asked: TxnOffsetCommit,
) -> TxnOffsetCommitAnswer {
    let TxnOffsetCommit { request, topic_ids } = asked;
    let version = header.api_version;
    let by_id = feature::txn_offset_commit_has_topic_ids(version).then_some(&topic_ids[..]);
    let mut codes = Codes::new();
    let topics = wanted(&broker.metadata.image(), &request, by_id, &mut codes);
    let all = if topics.is_empty() {
        ErrorCode::NONE
    } else {
        match join(broker, version, &request, topics, &mut codes).await {
            Ok(()) => ErrorCode::NONE,
            Err(code) => code,
        }
    };
    let topics = request.topics.into_iter().enumerate().map(|(place, topic)| {
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            let code = codes.get(&(place, index)).copied().unwrap_or(all);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.0)
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    let response = TxnOffsetCommitResponse::default().with_topics(topics.collect());
    TxnOffsetCommitAnswer { response, topic_ids }
}

/// The offsets of partitions that exist; the others get their code.
fn wanted(
    image: &MetadataImage,
    request: &TxnOffsetCommitRequest,
    by_id: Option<&[Uuid]>,
    codes: &mut Codes,
) -> Vec<Wanted> {
    let mut topics = Vec::new();
    for (place, asked) in request.topics.iter().enumerate() {
        let (topic, unknown) = match by_id {
            Some(ids) => {
                let id = ids.get(place).copied().unwrap_or_default();
                (image.topic_by_id(TopicId(id)), ErrorCode::UNKNOWN_TOPIC_ID)
            }
            None => (image.topic(&asked.name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        };
        let topic: Option<&TopicImage> = topic.map(AsRef::as_ref);
        let unknown = topic.map_or(unknown, |_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let mut partitions = Vec::new();
        for partition in &asked.partitions {
            let index = partition.partition_index;
            if topic.is_some_and(|topic| topic.partition(index).is_some()) {
                partitions.push(CommitPartition {
                    partition: index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.committed_metadata.as_ref().map(ToString::to_string),
                });
            } else {
                codes.insert((place, index), unknown);
            }
        }
        if let Some(topic) = topic
            && !partitions.is_empty()
        {
            let name = topic.name.to_string();
            topics.push((place, CommitTopic { name, topic_id: topic.id, partitions }));
        }
    }
    topics
}

async fn join(
    broker: &Arc<Broker>,
    version: i16,
    request: &TxnOffsetCommitRequest,
    topics: Vec<Wanted>,
    codes: &mut Codes,
) -> Result<(), ErrorCode> {
    let group = request.group_id.as_str();
    if !coordinates_group(broker, group) {
        return Err(ErrorCode::NOT_COORDINATOR);
    }
    if !coordinates(broker, &request.transactional_id) {
        tracing::warn!(transactional_id = %request.transactional_id.0, "{SPREAD}");
        return Err(ErrorCode::INVALID_TXN_STATE);
    }
    let keys = topics.iter().flat_map(|(_, topic)| {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        topic.partitions.iter().map(move |it| (Arc::clone(&name), it.partition))
    });
    let intent = broker.transactions.intend(group, keys.collect());
    let check = CommitRequest {
        group_id: group.to_owned(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        retention_ms: -1,
        topics: topics.iter().map(|(_, topic)| topic.clone()).collect(),
    };
    let code = |error| match error {
        GroupError::GroupIdNotFound if !feature::txn_offset_commit_has_member_epochs(version) => {
            ErrorCode::ILLEGAL_GENERATION
        }
        error => group_code(error),
    };
    let why = GroupError::GroupIdNotFound;
    delivery_groups::check_free(broker, group, why).map_err(code)?;
    let checked = broker.groups.check_for_transaction(check).await.map_err(code)?;
    // In the order of the request.
    for ((place, _), topic) in topics.iter().zip(checked) {
        for (partition, result) in topic.partitions {
            if let Err(error) = result {
                codes.insert((*place, partition), group_code(error));
            }
        }
    }
    let offsets = offsets(topics, codes);
    let who = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    let home = broker.groups.partition_for(group);
    let joins = feature::txn_offset_commit_adds_group(version);
    broker.partitions.room(STATE_SIZE_BYTES).await;
    let end = broker
        .transactions
        .add_offsets(&request.transactional_id, who, home, (group, offsets), joins)
        .map_err(|refusal| match refusal {
            // What every version of this request knows.
            Refusal::Fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
            refusal => {
                refusal_code(&refusal, feature::txn_offset_commit_has_abortable_error(version))
            }
        })?;
    // From here on they are pending as part of the transaction.
    drop(intent);
    broker.partitions.wait_durable(end).await.map_err(|_| ErrorCode::COORDINATOR_NOT_AVAILABLE)
}

fn offsets(topics: Vec<Wanted>, codes: &Codes) -> GroupOffsets {
    let mut offsets = GroupOffsets::new();
    for (place, CommitTopic { name, topic_id, partitions }) in topics {
        let topic: Arc<str> = Arc::from(name.as_str());
        for it in partitions {
            if codes.contains_key(&(place, it.partition)) {
                continue;
            }
            let pending = PendingOffset {
                offset: it.offset,
                leader_epoch: it.leader_epoch,
                metadata: it.metadata.map_or_else(|| Arc::from(""), Arc::from),
                topic_id,
            };
            offsets.insert((Arc::clone(&topic), it.partition), pending);
        }
    }
    offsets
}
