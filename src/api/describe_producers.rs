//! DescribeProducers v0: the idempotent producers a partition remembers, from the windows that
//! tell retries apart, and where their open transactions begin. The coordinator's epoch is that of
//! the last marker.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION.

use braid_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use braid_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::image::{MetadataImage, TopicImage};

use super::Broker;
use super::respond::{UNKNOWN_TOPIC, led_here};
use crate::store::ActiveProducer;

pub(crate) fn handle(
    broker: &Broker,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let image = broker.metadata.image();
    let topics = request
        .topics
        .into_iter()
        .map(|asked| {
            let invalid = braid_raft::plan::names::check(&asked.name).err();
            let topic = image.topic(&asked.name).map(AsRef::as_ref);
            let partitions = asked
                .partition_indexes
                .iter()
                .map(|index| match &invalid {
                    Some(error) => {
                        refused(*index, ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string())
                    }
                    None => partition(broker, (&image, topic), *index),
                })
                .collect();
            TopicResponse::default().with_name(asked.name).with_partitions(partitions)
        })
        .collect();
    DescribeProducersResponse::default().with_topics(topics)
}

fn partition(
    broker: &Broker,
    (image, topic): (&MetadataImage, Option<&TopicImage>),
    index: i32,
) -> PartitionResponse {
    match led_here(broker, image, topic, index) {
        Ok(there) => {
            let producers =
                there.partitions().producers(there.queue).into_iter().map(state).collect();
            PartitionResponse::default()
                .with_partition_index(index)
                .with_active_producers(producers)
        }
        Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) => {
            let why = "Another broker leads this partition.".to_owned();
            refused(index, ErrorCode::NOT_LEADER_OR_FOLLOWER, why)
        }
        Err(code) => refused(index, code, UNKNOWN_TOPIC.to_owned()),
    }
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id.0))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_store_time_ms)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.open_from.map_or(-1, |first| first.0))
}

fn refused(index: i32, code: ErrorCode, why: String) -> PartitionResponse {
    PartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.0)
        .with_error_message(Some(StrBytes::from_string(why)))
}
