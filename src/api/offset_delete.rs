//! OffsetDelete v0: forgets a group's offsets of some partitions; answered when that is durable.
//! Errors: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP; per partition UNKNOWN_TOPIC_OR_PARTITION,
//! GROUP_SUBSCRIBED_TO_TOPIC.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use braid_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use braid_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use braid_raft::image::MetadataImage;

use super::Broker;
use super::delivery_groups;
use super::error::group_code;
use crate::group::{DeleteOffsetsRequest, GroupError};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let image = broker.metadata.image();
    let topics = request.topics.iter().map(|topic| existing(&image, topic));
    let topics = topics.filter(|(_, partitions)| !partitions.is_empty()).collect();
    let asked = DeleteOffsetsRequest { group_id: request.group_id.to_string(), topics };
    let why = GroupError::GroupIdNotFound;
    let deleted = match delivery_groups::check_free(broker, &asked.group_id, why) {
        Ok(()) => broker.groups.delete_offsets(asked).await,
        Err(error) => Err(error),
    };
    let deleted = match deleted {
        Ok(deleted) => deleted,
        Err(error) => {
            return OffsetDeleteResponse::default().with_error_code(group_code(error).0);
        }
    };
    let codes: HashMap<(&str, i32), ErrorCode> = deleted
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|(partition, result)| {
                let code = result.map_or_else(group_code, |()| ErrorCode::NONE);
                ((topic.name.as_str(), *partition), code)
            })
        })
        .collect();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| {
                    let index = partition.partition_index;
                    // What was not handed on does not exist.
                    let code = codes.get(&(topic.name.as_str(), index)).copied();
                    OffsetDeleteResponsePartition::default()
                        .with_partition_index(index)
                        .with_error_code(code.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).0)
                })
                .collect();
            OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        })
        .collect();
    OffsetDeleteResponse::default().with_topics(topics)
}

/// The partitions of a topic that exist.
fn existing(image: &MetadataImage, asked: &OffsetDeleteRequestTopic) -> (String, Vec<i32>) {
    let partitions = image.topic(&asked.name).map_or_else(Vec::new, |topic| {
        let indexes = asked.partitions.iter().map(|partition| partition.partition_index);
        indexes.filter(|index| topic.partition(*index).is_some()).collect()
    });
    (asked.name.to_string(), partitions)
}
