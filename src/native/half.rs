//! Half messages: stored now, seen by nobody until their producer commits them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::Native;
use super::message::{InvalidMessage, Message, NewMessage, Way};
use super::property;
use super::topic::NoTopic;
use crate::config::is_internal_topic;
use crate::half::{self, HalfMessage, HalfSent, SendHalf};

/// What a record takes in a batch of its own, beside its texts, at most.
const OVERHEAD_BYTES: usize = 512;

/// Why a half message was not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendHalfError {
    #[error(transparent)]
    Topic(#[from] NoTopic),
    #[error("topic {0} is the broker's own")]
    Internal(String),
    #[error(transparent)]
    Message(#[from] InvalidMessage),
    #[error("topic {topic} has no partition {partition}")]
    Partition { topic: String, partition: i32 },
    #[error("the topic is compacted, so that a message needs a key")]
    NoKey,
    #[error("the message has about {size} bytes; the topic takes {max}")]
    TooLarge { size: usize, max: usize },
    #[error(transparent)]
    Engine(half::SendError),
}

impl Native {
    /// Stores a half message for a topic of the type TRANSACTION. On return it is on disk.
    pub(crate) async fn send_half(
        &self,
        topic: &str,
        mut message: NewMessage,
        producer_group: String,
        immunity_ms: u32,
    ) -> Result<(i32, HalfSent), SendHalfError> {
        let topic = self.own_topic(topic)?;
        if is_internal_topic(&topic.name) {
            return Err(SendHalfError::Internal(topic.name.to_string()));
        }
        let settings = self.topic_settings.of(&topic);
        message.check(settings.config.message_type, Way::Half)?;
        if settings.limits.require_keys && message.key.is_none() {
            return Err(SendHalfError::NoKey);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let partition = message.partition_among(topic.partitions.len(), turn);
        if topic.partition(partition).is_none() {
            let topic = topic.name.to_string();
            return Err(SendHalfError::Partition { topic, partition });
        }
        let max = settings.limits.size_bytes_max;
        let size = message.texts_size_bytes() + OVERHEAD_BYTES;
        if size > max {
            return Err(SendHalfError::TooLarge { size, max });
        }
        let message_id = message.message_id.take().or_else(|| message.take_id_header());
        let headers = message.all_headers("");
        let headers = headers
            .into_iter()
            // The engine puts it in.
            .filter(|(name, _)| name != property::MESSAGE_ID)
            .map(|(name, value)| (Bytes::from(name), value));
        let half = SendHalf {
            topic_id: topic.id,
            topic: topic.name.to_string(),
            partition,
            group: producer_group,
            message_id,
            immunity_ms,
            message: half::Message {
                key: message.key.clone(),
                value: message.payload.clone(),
                headers: headers.collect(),
            },
        };
        let sent = self.halves.send(half).await.map_err(SendHalfError::Engine)?;
        Ok((partition, sent))
    }
}

/// A half message's content in the words of the API; its offset is not known yet.
pub(crate) fn content_of(half: HalfMessage) -> Message {
    let name = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
    let headers = half.message.headers.iter().map(|(key, value)| (name(key), value.clone()));
    Message {
        topic: Arc::from(half.topic),
        partition: half.partition,
        offset: -1,
        timestamp_ms: half.born_ms,
        headers: headers.collect(),
        key: half.message.key,
        payload: half.message.value,
    }
}
