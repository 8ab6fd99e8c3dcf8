//! DescribeQuorum v0–2: the metadata quorum, as its leader sees it, whichever broker is asked. v1 adds
//! times, v2 the addresses of nodes. Offsets are indexes of the metadata log.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION for anything but partition 0 of `__cluster_metadata`,
//! LEADER_NOT_AVAILABLE while nobody leads.

use braid_protocol::ErrorCode;
use braid_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use braid_protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, TopicName,
};

use super::Broker;
use super::respond::{UNKNOWN_TOPIC, text};

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) async fn handle(
    broker: &Broker,
    request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
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
    let quorum = match broker.metadata.quorum().await {
        Ok(quorum) => quorum,
        Err(error) => return unavailable(&error.to_string()),
    };
    let now_ms = broker.env.clock.wall_ms();
    let end = |index: u64| i64::try_from(index.saturating_add(1)).unwrap_or(i64::MAX);
    let voters = quorum.voters.iter().map(|voter| {
        let state = ReplicaState::default().with_replica_id(BrokerId(voter.node_id.0));
        // When a voter was heard last is not kept; one whose log is at the end was just now.
        match voter.matched {
            Some(matched) if matched >= quorum.committed => state
                .with_log_end_offset(end(matched))
                .with_last_fetch_timestamp(now_ms)
                .with_last_caught_up_timestamp(now_ms),
            Some(matched) => state
                .with_log_end_offset(end(matched))
                .with_last_fetch_timestamp(-1)
                .with_last_caught_up_timestamp(-1),
            None => state
                .with_log_end_offset(-1)
                .with_last_fetch_timestamp(-1)
                .with_last_caught_up_timestamp(-1),
        }
    });
    let partition = PartitionData::default()
        .with_leader_id(BrokerId(quorum.leader.0))
        .with_leader_epoch(i32::try_from(quorum.term).unwrap_or(i32::MAX))
        .with_high_watermark(end(quorum.committed))
        .with_current_voters(voters.collect());
    let topic = TopicData::default()
        .with_topic_name(TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    let image = broker.metadata.image();
    let nodes = quorum.voters.iter().map(|voter| {
        let endpoints = image.broker(voter.node_id).map(|b| b.endpoints.as_slice());
        let listeners = endpoints.unwrap_or_default().iter().map(|endpoint| {
            Listener::default()
                .with_name(text(&endpoint.listener))
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port)
        });
        let id = BrokerId(voter.node_id.0);
        Node::default().with_node_id(id).with_listeners(listeners.collect())
    });
    DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(nodes.collect())
}

/// Nobody leads who could tell.
fn unavailable(why: &str) -> DescribeQuorumResponse {
    let partition = PartitionData::default()
        .with_error_code(ErrorCode::LEADER_NOT_AVAILABLE.0)
        .with_error_message(Some(text(why)))
        .with_leader_id(BrokerId(-1))
        .with_leader_epoch(-1)
        .with_high_watermark(-1);
    let topic = TopicData::default()
        .with_topic_name(TopicName(text(METADATA_TOPIC)))
        .with_partitions(vec![partition]);
    DescribeQuorumResponse::default().with_topics(vec![topic])
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
