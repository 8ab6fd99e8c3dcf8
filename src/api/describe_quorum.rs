//! DescribeQuorum v0–2: the metadata quorum, a single voter that leads it. v1 adds times, v2 the
//! addresses of nodes. Offsets are indexes of the metadata log.
//! Error: UNKNOWN_TOPIC_OR_PARTITION for anything but partition 0 of `__cluster_metadata`.

use braid_protocol::ErrorCode;
use braid_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use braid_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName,
};

use super::Broker;
use super::respond::{UNKNOWN_TOPIC, node_id, text};

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) fn handle(broker: &Broker, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let about_metadata = match request.topics.as_slice() {
        [topic] => {
            let partitions: Vec<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
            topic.topic_name.as_str() == METADATA_TOPIC && partitions == [0]
        }
        _ => false,
    };
    if !about_metadata {
        return unknown(request);
    }
    let image = broker.metadata.image();
    let own = node_id(broker);
    let leader = broker.metadata.leader().map_or(BrokerId(-1), |leader| BrokerId(leader.0));
    let end = i64::try_from(image.applied_index().saturating_add(1)).unwrap_or(i64::MAX);
    let now_ms = broker.env.clock.wall_ms();
    let voter = ReplicaState::default()
        .with_replica_id(own)
        .with_log_end_offset(end)
        .with_last_fetch_timestamp(now_ms)
        .with_last_caught_up_timestamp(now_ms);
    let partition = PartitionData::default()
        .with_leader_id(leader)
        .with_leader_epoch(i32::try_from(broker.metadata.term()).unwrap_or(i32::MAX))
        .with_high_watermark(end)
        .with_current_voters(vec![voter]);
    let topic = TopicData::default()
        .with_topic_name(TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    let endpoints = image.broker(crate::model::BrokerId(own.0)).map(|b| b.endpoints.as_slice());
    let listeners = endpoints.unwrap_or_default().iter().map(|endpoint| {
        Listener::default()
            .with_name(text(&endpoint.listener))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port)
    });
    let node = Node::default().with_node_id(own).with_listeners(listeners.collect());
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(vec![node])
}

fn unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0)
                .with_error_message(Some(text(UNKNOWN_TOPIC)))
                .with_leader_id(BrokerId(-1))
                .with_leader_epoch(-1)
                .with_high_watermark(-1)
        });
        TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions.collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect())
}
