//! AlterPartitionReassignments v0–1: moving a partition to where it is already is done at once;
//! there is nowhere else to move it to.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT, NO_REASSIGNMENT_IN_PROGRESS.

use std::collections::BTreeSet;

use braid_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use braid_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use braid_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::image::MetadataImage;
use braid_raft::outcome::InvalidReplicas;

use super::Broker;
use crate::model::BrokerId;

pub(crate) fn handle(
    broker: &Broker,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = broker.metadata.image();
    let responses = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic.partitions.iter();
            let partitions = partitions.map(|asked| answer(&image, &topic.name, asked)).collect();
            ReassignableTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions)
        })
        .collect();
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(responses)
}

fn answer(
    image: &MetadataImage,
    name: &str,
    asked: &ReassignablePartition,
) -> ReassignablePartitionResponse {
    let response =
        ReassignablePartitionResponse::default().with_partition_index(asked.partition_index);
    match reassign(image, name, asked) {
        Ok(()) => response.with_error_message(None),
        Err((code, why)) => {
            response.with_error_code(code.0).with_error_message(why.map(StrBytes::from_string))
        }
    }
}

fn reassign(
    image: &MetadataImage,
    name: &str,
    asked: &ReassignablePartition,
) -> Result<(), (ErrorCode, Option<String>)> {
    let unknown = |why| (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(why));
    let topic = image
        .topic(name)
        .ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
    let index = asked.partition_index;
    let partition = topic
        .partition(index)
        .ok_or_else(|| unknown(format!("Unable to find partition {name}:{index}.")))?;
    let Some(replicas) = &asked.replicas else {
        return Err((ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, None));
    };
    let wanted: Vec<BrokerId> = replicas.iter().map(|id| BrokerId(id.0)).collect();
    let invalid = |why: String| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some(why));
    check(image, &wanted).map_err(|error| invalid(error.to_string()))?;
    let current = image.shard(partition.shard).map(|shard| shard.replicas());
    if current == Some(&wanted) {
        return Ok(());
    }
    Err(invalid("Braid cannot move partitions between brokers yet.".to_owned()))
}

fn check(image: &MetadataImage, wanted: &[BrokerId]) -> Result<(), InvalidReplicas> {
    if wanted.is_empty() {
        return Err(InvalidReplicas::Empty);
    }
    let mut seen = BTreeSet::new();
    for &broker in wanted {
        if image.broker(broker).is_none() {
            return Err(InvalidReplicas::UnknownBroker(broker));
        }
        if !seen.insert(broker) {
            return Err(InvalidReplicas::Duplicate(broker));
        }
    }
    Ok(())
}
