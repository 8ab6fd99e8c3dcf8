//! OffsetForLeaderEpoch v2–4: where an epoch ends, so that a client can see a cut log. A single
//! broker's own log has one epoch that never ends: the answer is the high watermark. That of a
//! replicated shard has one for each of its leaders.

use braid_protocol::ErrorCode;
use braid_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use braid_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use braid_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::Broker;
use super::error::read_code;
use super::respond::{Home, LEADER_EPOCH, led_here};
use crate::model::LeaderEpoch;
use braid_raft::image::{MetadataImage, TopicImage};

const UNDEFINED: i32 = -1;

pub(crate) async fn handle(
    broker: &Broker,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let image = broker.metadata.image();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = image.topic(&asked.topic);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for partition in &asked.partitions {
            let found = end_of_epoch(broker, (&image, topic.map(AsRef::as_ref)), partition).await;
            let answer = found.unwrap_or_else(|code| {
                EpochEndOffset::default()
                    .with_error_code(code.0)
                    .with_leader_epoch(UNDEFINED)
                    .with_end_offset(-1)
            });
            partitions.push(answer.with_partition(partition.partition));
        }
        let topic = OffsetForLeaderTopicResult::default().with_topic(asked.topic);
        topics.push(topic.with_partitions(partitions));
    }
    OffsetForLeaderEpochResponse::default().with_topics(topics)
}

async fn end_of_epoch(
    broker: &Broker,
    (image, topic): (&MetadataImage, Option<&TopicImage>),
    asked: &OffsetForLeaderPartition,
) -> Result<EpochEndOffset, ErrorCode> {
    let there = led_here(broker, image, topic, asked.partition)?;
    there.home.check_epoch(asked.current_leader_epoch)?;
    let (queue, epoch) = (there.queue, LeaderEpoch(asked.leader_epoch));
    let end = match there.home {
        Home::Own(partitions) if epoch == LEADER_EPOCH => {
            Some((LEADER_EPOCH, partitions.offsets(queue).high_watermark))
        }
        Home::Own(_) => None,
        Home::Led(led) => {
            let find = move || led.epoch_end(queue, epoch);
            let found = broker.env.spawner.blocking(find).await;
            let found = found.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?;
            found.map_err(|error| read_code(&error))?
        }
    };
    let answer = EpochEndOffset::default();
    Ok(match end {
        Some((epoch, end)) => answer.with_leader_epoch(epoch.0).with_end_offset(end.0),
        // An epoch that never wrote here: undefined, as Kafka answers it.
        None => answer.with_leader_epoch(UNDEFINED).with_end_offset(-1),
    })
}
