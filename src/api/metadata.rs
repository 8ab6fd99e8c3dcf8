//! Metadata v0–13: brokers, topics, partitions, and topics made on first use.
//!
//! v0 asks for all topics with an empty list, later versions with null. v4 lets the client forbid
//! auto-creation; v10 adds topic ids, v12 asks by id alone. Errors per topic:
//! UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST.
//! A topic that was just created is answered at once: the image has it before the answer leaves.

use std::collections::HashSet;
use std::sync::Arc;

use braid_protocol::messages::metadata_request::MetadataRequestTopic;
use braid_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use braid_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::{MetadataImage, TopicImage};
use uuid::Uuid;

use super::Broker;
use super::create_topics::auto_create;
use super::respond::{
    ALL_CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, brokers_on, is_internal, node_id, text,
};
use crate::model::TopicId;

/// Every operation on a topic: there is no authorizer, so everything is allowed.
pub(super) const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    listener: &str,
    header: &RequestHeader,
    request: MetadataRequest,
) -> MetadataResponse {
    let mut image = broker.metadata.image();
    if request.allow_auto_topic_creation && broker.config.topics.auto_create {
        let missing = missing_names(&image, request.topics.as_deref().unwrap_or_default());
        if !missing.is_empty() {
            auto_create(broker, &missing).await;
            image = broker.metadata.image();
        }
    }
    let operations = if request.include_topic_authorized_operations {
        ALL_TOPIC_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let leader = node_id(broker);
    let cluster_operations = if request.include_cluster_authorized_operations {
        ALL_CLUSTER_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let topics = match request.topics {
        None => image.topics().iter().map(|topic| describe(topic, leader)).collect(),
        Some(asked) => {
            // As in Kafka, names are not looked at once there is an id: Java's admin client writes an empty one beside it.
            let ids_alone = asks_by_id(&asked);
            let asked = asked.into_iter().filter(|t| !(ids_alone && t.topic_id.is_nil()));
            // Named twice is answered once: clients keep the answers in maps.
            let mut seen = HashSet::new();
            let key =
                |t: &MetadataRequestTopic| (t.topic_id, t.name.clone().filter(|_| !ids_alone));
            let asked = asked.filter(|t| seen.insert(key(t)));
            let ids = feature::metadata_has_topic_ids(header.api_version);
            asked.map(|asked| one(&image, asked, ids, leader)).collect::<Vec<_>>()
        }
    };
    let topics = topics.into_iter().map(|t| t.with_topic_authorized_operations(operations));
    let brokers = brokers_on(&image, listener)
        .map(|b| {
            MetadataResponseBroker::default()
                .with_node_id(b.node_id)
                .with_host(b.host)
                .with_port(b.port)
                .with_rack(b.rack)
        })
        .collect();
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_cluster_id(image.cluster_id().map(|id| text(id.as_str())))
        .with_controller_id(leader)
        .with_topics(topics.collect())
        .with_cluster_authorized_operations(cluster_operations)
}

fn asks_by_id(asked: &[MetadataRequestTopic]) -> bool {
    asked.iter().any(|topic| !topic.topic_id.is_nil())
}

fn missing_names(image: &MetadataImage, asked: &[MetadataRequestTopic]) -> Vec<String> {
    if asks_by_id(asked) {
        return Vec::new();
    }
    asked
        .iter()
        .filter_map(|topic| topic.name.as_ref())
        .filter(|name| image.topic(name).is_none())
        .map(|name| name.to_string())
        .collect()
}

fn one(
    image: &MetadataImage,
    asked: MetadataRequestTopic,
    by_id: bool,
    leader: BrokerId,
) -> MetadataResponseTopic {
    if !asked.topic_id.is_nil() {
        // Kafka refuses an id in the versions that only carry it.
        if !by_id {
            return failed(ErrorCode::INVALID_REQUEST, asked.name, asked.topic_id);
        }
        return match image.topic_by_id(TopicId(asked.topic_id)) {
            Some(topic) => describe(topic, leader),
            None => failed(ErrorCode::UNKNOWN_TOPIC_ID, None, asked.topic_id),
        };
    }
    let Some(name) = asked.name else {
        return failed(ErrorCode::INVALID_REQUEST, None, asked.topic_id);
    };
    if let Some(topic) = image.topic(&name) {
        return describe(topic, leader);
    }
    let code = match braid_raft::plan::names::check(&name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    failed(code, Some(name), Uuid::nil())
}

fn failed(code: ErrorCode, name: Option<TopicName>, topic_id: Uuid) -> MetadataResponseTopic {
    // Versions below 12 cannot carry a null name.
    let internal = name.as_ref().is_some_and(|name| is_internal(name));
    MetadataResponseTopic::default()
        .with_error_code(code.0)
        .with_is_internal(internal)
        .with_name(name)
        .with_topic_id(topic_id)
}

fn describe(topic: &TopicImage, leader: BrokerId) -> MetadataResponseTopic {
    let partitions = (0..)
        .zip(&topic.partitions)
        .map(|(index, _)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(leader)
                .with_leader_epoch(super::respond::LEADER_EPOCH.0)
                .with_replica_nodes(vec![leader])
                .with_isr_nodes(vec![leader])
        })
        .collect();
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.name))))
        .with_topic_id(topic.id.0)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions)
}
