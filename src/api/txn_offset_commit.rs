//! TxnOffsetCommit v0–5: offsets that count once the transaction is committed. From v3 on the
//! member is checked against its group (KIP-447); from v5 on the group joins the transaction here.
//! A partition that does not exist is refused alone.
//!
//! The offsets count as pending before the group is asked, so that whoever takes the partitions
//! over meanwhile waits for them, or makes the group refuse.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use braid_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::MetadataImage;

use super::Broker;
use super::delivery_groups;
use super::error::group_code;
use super::transactions::{STATE_SIZE_BYTES, refusal_code};
use crate::group::{CommitPartition, CommitRequest, CommitTopic, GroupError};
use crate::txn::{GroupOffsets, Identity, PendingOffset, Refusal};

type Codes = HashMap<(String, i32), ErrorCode>;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    header: &RequestHeader,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let image = broker.metadata.image();
    let mut codes = Codes::new();
    let topics = wanted(&image, &request, &mut codes);
    let all = if topics.is_empty() {
        ErrorCode::NONE
    } else {
        match join(broker, header.api_version, &request, topics, &mut codes).await {
            Ok(()) => ErrorCode::NONE,
            Err(code) => code,
        }
    };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let key = (topic.name.to_string(), asked.partition_index);
            let code = codes.get(&key).copied().unwrap_or(all);
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code.0)
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

/// The offsets of partitions that exist; the others get their code.
fn wanted(
    image: &MetadataImage,
    request: &TxnOffsetCommitRequest,
    codes: &mut Codes,
) -> Vec<CommitTopic> {
    let mut topics = Vec::new();
    for asked in &request.topics {
        let topic = image.topic(&asked.name);
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
                let key = (asked.name.to_string(), index);
                codes.insert(key, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
        }
        if let Some(topic) = topic
            && !partitions.is_empty()
        {
            topics.push(CommitTopic {
                name: topic.name.to_string(),
                topic_id: topic.id,
                partitions,
            });
        }
    }
    topics
}

async fn join(
    broker: &Arc<Broker>,
    version: i16,
    request: &TxnOffsetCommitRequest,
    topics: Vec<CommitTopic>,
    codes: &mut Codes,
) -> Result<(), ErrorCode> {
    let group = request.group_id.as_str();
    let keys = topics.iter().flat_map(|topic| {
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
        topics: topics.clone(),
    };
    let code = |error| match error {
        GroupError::GroupIdNotFound => ErrorCode::ILLEGAL_GENERATION,
        error => group_code(error),
    };
    let why = GroupError::GroupIdNotFound;
    delivery_groups::check_free(broker, group, why).await.map_err(code)?;
    let checked = broker.groups.check_for_transaction(check).await.map_err(code)?;
    for topic in checked {
        for (partition, result) in topic.partitions {
            if let Err(error) = result {
                codes.insert((topic.name.clone(), partition), group_code(error));
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

fn offsets(topics: Vec<CommitTopic>, codes: &Codes) -> GroupOffsets {
    let mut offsets = GroupOffsets::new();
    for CommitTopic { name, topic_id, partitions } in topics {
        let topic: Arc<str> = Arc::from(name.as_str());
        for it in partitions {
            if codes.contains_key(&(name.clone(), it.partition)) {
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
