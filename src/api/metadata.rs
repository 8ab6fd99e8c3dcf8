//! Metadata v0–13: brokers, topics, partitions, and topics made on first use.
//!
//! v0 asks for all topics with an empty list, later versions with null. v4 lets the client forbid
//! auto-creation; v10 adds topic ids, v12 asks by id alone. Errors per topic:
//! LEADER_NOT_AVAILABLE and LISTENER_NOT_FOUND per partition, UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST.
//! A topic that was just created is answered at once: the image has it before the answer leaves.

use std::collections::HashSet;
use std::sync::Arc;

use braid_protocol::messages::metadata_request::MetadataRequestTopic;
use braid_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use braid_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use braid_protocol::{ErrorCode, RequestHeader, feature};
use braid_raft::image::{MetadataImage, TopicImage};
use uuid::Uuid;

use super::Broker;
use super::create_topics::auto_create;
use super::respond::{
    ALL_CLUSTER_OPERATIONS, NO_LEADER, OPERATIONS_NOT_ASKED, brokers_on, controller_id,
    is_internal, placement, text,
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
    let view = View { image: &image, listener, version: header.api_version };
    let cluster_operations = if request.include_cluster_authorized_operations {
        ALL_CLUSTER_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    let topics = match request.topics {
        None => image.topics().iter().map(|topic| view.describe(topic)).collect(),
        Some(asked) => {
            // As in Kafka, names are not looked at once there is an id: Java's admin client writes an empty one beside it.
            let ids_alone = asks_by_id(&asked);
            let asked = asked.into_iter().filter(|t| !(ids_alone && t.topic_id.is_nil()));
            // Named twice is answered once: clients keep the answers in maps.
            let mut seen = HashSet::new();
            let key =
                |t: &MetadataRequestTopic| (t.topic_id, t.name.clone().filter(|_| !ids_alone));
            let asked = asked.filter(|t| seen.insert(key(t)));
            asked.map(|asked| view.one(asked)).collect::<Vec<_>>()
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
        .with_controller_id(controller_id(broker, &image))
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

/// What a client of a listener is told of topics, in a version.
struct View<'a> {
    image: &'a Arc<MetadataImage>,
    listener: &'a str,
    version: i16,
}

impl View<'_> {
    fn one(&self, asked: MetadataRequestTopic) -> MetadataResponseTopic {
        if !asked.topic_id.is_nil() {
            // Kafka refuses an id in the versions that only carry it.
            if !feature::metadata_has_topic_ids(self.version) {
                return failed(ErrorCode::INVALID_REQUEST, asked.name, asked.topic_id);
            }
            return match self.image.topic_by_id(TopicId(asked.topic_id)) {
                Some(topic) => self.describe(topic),
                None => failed(ErrorCode::UNKNOWN_TOPIC_ID, None, asked.topic_id),
            };
        }
        let Some(name) = asked.name else {
            return failed(ErrorCode::INVALID_REQUEST, None, asked.topic_id);
        };
        if let Some(topic) = self.image.topic(&name) {
            return self.describe(topic);
        }
        let code = match braid_raft::plan::names::check(&name) {
            Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        failed(code, Some(name), Uuid::nil())
    }

    fn describe(&self, topic: &TopicImage) -> MetadataResponseTopic {
        let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
            let placed = placement(self.image, *partition);
            let (code, leader) = match placed.leader {
                None => (ErrorCode::LEADER_NOT_AVAILABLE, NO_LEADER),
                Some(leader) if self.has_address(leader.0) => (ErrorCode::NONE, leader),
                Some(_) if feature::metadata_has_listener_error(self.version) => {
                    (ErrorCode::LISTENER_NOT_FOUND, NO_LEADER)
                }
                Some(_) => (ErrorCode::LEADER_NOT_AVAILABLE, NO_LEADER),
            };
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.0)
                .with_leader_id(leader)
                .with_leader_epoch(placed.epoch.0)
                .with_replica_nodes(placed.replicas)
                .with_isr_nodes(placed.in_sync)
                .with_offline_replicas(placed.offline)
        });
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_topic_id(topic.id.0)
            .with_is_internal(is_internal(&topic.name))
            .with_partitions(partitions.collect())
    }

    fn has_address(&self, broker: i32) -> bool {
        let broker = self.image.broker(crate::model::BrokerId(broker));
        broker.is_some_and(|broker| broker.endpoint(self.listener).is_some())
    }
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
