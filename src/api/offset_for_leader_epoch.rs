//! OffsetForLeaderEpoch v2–4: where an epoch ends, so that a client can see a cut log. A single
//! node's shard has one epoch that never ends: the answer is the end of the log.

use braid_protocol::ErrorCode;
use braid_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use braid_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use braid_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Broker;
use super::respond::{LEADER_EPOCH, check_epoch, queue_of};
use braid_raft::image::{MetadataImage, TopicImage};

const UNDEFINED: i32 = -1;

pub(crate) fn handle(
    broker: &Broker,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = broker.metadata.image();
    let topics = request
        .topics
        .into_iter()
        .map(|asked| {
            let topic = image.topic(&asked.topic);
            let partitions = asked
                .partitions
                .iter()
                .map(|partition| {
                    end_of_epoch(broker, (&image, topic.map(AsRef::as_ref)), partition)
                        .unwrap_or_else(|code| {
                            EpochEndOffset::default()
                                .with_error_code(code.0)
                                .with_leader_epoch(UNDEFINED)
                                .with_end_offset(-1)
                        })
                        .with_partition(partition.partition)
                })
                .collect();
            OffsetForLeaderTopicResult::default()
                .with_topic(asked.topic)
                .with_partitions(partitions)
        })
        .collect();
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

fn end_of_epoch(
    broker: &Broker,
    (image, topic): (&MetadataImage, Option<&TopicImage>),
    asked: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let queue = queue_of(broker, image, topic, asked.partition)?;
    check_epoch(image, topic, asked.partition, asked.current_leader_epoch)?;
    let offsets = broker.partitions.offsets(queue);
    let answer = EpochEndOffset::default();
    Ok(if asked.leader_epoch == LEADER_EPOCH.0 {
        answer.with_leader_epoch(LEADER_EPOCH.0).with_end_offset(offsets.high_watermark.0)
    } else {
        // An epoch that never wrote here: undefined, as Kafka answers it.
        answer.with_leader_epoch(UNDEFINED).with_end_offset(-1)
    })
}
