//! What most handlers share: texts, who this broker is, and finding a partition or its error.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::StrBytes;
use braid_protocol::messages::BrokerId;
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use crate::model::{LeaderEpoch, QueueId};

/// The epoch of the one shard of a single node.
pub(crate) const LEADER_EPOCH: LeaderEpoch = LeaderEpoch(0);

/// Kafka's mark for "authorized operations were not asked for".
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Every operation on a cluster: there is no authorizer, so everything is allowed.
pub(crate) const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Kafka's sentence for UNKNOWN_TOPIC_OR_PARTITION.
pub(crate) const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// Kafka's sentence for UNKNOWN_TOPIC_ID.
pub(crate) const UNKNOWN_TOPIC_ID: &str = "This server does not host this topic ID.";

pub(crate) use crate::config::is_internal_topic as is_internal;

/// Why clients may not write to a topic, if so: only the broker itself keeps these.
pub(crate) fn internal_write_refused(name: &str) -> Option<&'static str> {
    is_internal(name)
        .then_some("This topic is the broker's own; commit offsets through the group APIs instead.")
}

/// Text for an answer.
pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// This broker's number.
pub(crate) fn node_id(broker: &Broker) -> BrokerId {
    BrokerId(broker.config.node.id.0)
}

/// A broker as a client of one listener sees it.
pub(crate) struct Seen {
    pub(crate) node_id: BrokerId,
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) rack: Option<StrBytes>,
}

/// The brokers that have an address on a listener.
pub(crate) fn brokers_on<'a>(
    image: &'a Arc<MetadataImage>,
    listener: &'a str,
) -> impl Iterator<Item = Seen> + 'a {
    image.brokers().filter_map(move |broker| {
        let endpoint = broker.endpoint(listener)?;
        Some(Seen {
            node_id: BrokerId(broker.id.0),
            host: text(&endpoint.host),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(text),
        })
    })
}

/// This broker's number and address on a listener.
pub(crate) fn this_broker(broker: &Broker, listener: &str) -> Option<(BrokerId, StrBytes, i32)> {
    let image = broker.metadata.image();
    let own = node_id(broker);
    brokers_on(&image, listener).find(|b| b.node_id == own).map(|b| (b.node_id, b.host, b.port))
}

/// The queue of a topic's partition, or the code for there being none.
pub(crate) fn queue_of(topic: Option<&TopicImage>, partition: i32) -> Result<QueueId, ErrorCode> {
    topic
        .and_then(|topic| topic.partition(partition))
        .map(|partition| partition.queue)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// Checks the epoch a client believes in; -1 means it has no belief.
pub(crate) fn check_epoch(current_leader_epoch: i32) -> Result<(), ErrorCode> {
    match current_leader_epoch {
        -1 => Ok(()),
        epoch if epoch < LEADER_EPOCH.0 => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > LEADER_EPOCH.0 => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}
