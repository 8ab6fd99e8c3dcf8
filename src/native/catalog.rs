//! Topics and groups' settings as the engines see them: what they ask of the metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_raft::command::ConfigResource;
use braid_raft::image::TopicImage;

use super::made::{Maker, Shape};
use super::partitioner;
use crate::config::{BackoffConfig, DeliveryConfig, LiveConfig, Settings, TimestampType};
use crate::delivery::{
    BackOff, Catalog, DISCARDED_HALVES, DeadLetterTopic, GroupSettings, NoDeadLetterTopic,
    StartFrom, TopicView, dead_letter_name,
};
use crate::half::{Discard, Target, Targets};
use crate::model::TopicId;
use crate::partition::TopicSettingsCache;

/// The metadata as [`Catalog`] and as [`Targets`].
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub(crate) maker: Maker,
    pub(crate) live: Arc<LiveConfig>,
    pub(crate) topic_settings: Arc<TopicSettingsCache>,
}

/// A topic of one partition that keeps what is in it until somebody says otherwise.
fn kept(name: &str) -> Shape {
    let configs = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    Shape { name: name.to_owned(), partitions: 1, configs }
}

impl Topics {
    fn half_target(&self, topic: &Arc<TopicImage>, partition: i32) -> Option<Target> {
        let settings = self.topic_settings.of(topic);
        Some(Target {
            queue: topic.partition(partition)?.queue,
            log_append_time: settings.config.timestamp_type == TimestampType::LogAppendTime,
            compression: settings.codec,
        })
    }
}

impl Targets for Topics {
    fn target(&self, topic: TopicId, partition: i32) -> Option<Target> {
        let image = self.maker.metadata.image();
        self.half_target(image.topic_by_id(topic)?, partition)
    }

    fn discard(&self) -> Discard<'_> {
        Box::pin(async {
            match self.maker.own_partition(kept(DISCARDED_HALVES)).await {
                Ok((topic, partition)) => self.half_target(&topic, partition),
                Err(error) => {
                    tracing::error!(topic = DISCARDED_HALVES, %error, "half messages cannot expire");
                    None
                }
            }
        })
    }
}

fn view(settings: &TopicSettingsCache, topic: &Arc<TopicImage>) -> TopicView {
    TopicView {
        id: topic.id,
        name: Arc::clone(&topic.name),
        queues: topic.partitions.iter().map(|partition| partition.queue).collect(),
        log_append_time: settings.of(topic).config.timestamp_type == TimestampType::LogAppendTime,
    }
}

fn settings(config: &DeliveryConfig) -> GroupSettings {
    GroupSettings {
        attempts_max: config.retries_max.saturating_add(1),
        back_off: match config.backoff {
            BackoffConfig::Table(table) => BackOff::Table(table),
            BackoffConfig::Exponential { initial_ms, max_ms, multiplier_percent } => {
                BackOff::Exponential { initial_ms, max_ms, multiplier_percent }
            }
        },
        is_ordered: config.ordered,
        start: if config.starts_latest { StartFrom::Latest } else { StartFrom::Earliest },
        in_flight_max: config.in_flight_max,
    }
}

impl Catalog for Topics {
    fn topic(&self, id: TopicId) -> Option<TopicView> {
        let image = self.maker.metadata.image();
        image.topic_by_id(id).map(|topic| view(&self.topic_settings, topic))
    }

    fn topic_named(&self, name: &str) -> Option<TopicView> {
        let image = self.maker.metadata.image();
        image.topic(name).map(|topic| view(&self.topic_settings, topic))
    }

    fn partition_of(&self, key: &[u8], partitions: usize) -> usize {
        partitioner::of_key(key, partitions)
    }

    fn settings(&self, group: &str) -> GroupSettings {
        let image = self.maker.metadata.image();
        let none = Settings::new();
        let own = image.resource_configs(&ConfigResource::Group(group.to_owned()));
        settings(&self.live.load().delivery(own.unwrap_or(&none)))
    }

    fn dead_letter_topic(&self, group: &str) -> DeadLetterTopic {
        let (maker, name) = (self.maker.clone(), dead_letter_name(group));
        let settings = Arc::clone(&self.topic_settings);
        Box::pin(async move {
            let no_topic = |why: String| NoDeadLetterTopic { topic: name.clone(), why };
            let topic =
                maker.topic(kept(&name)).await.map_err(|error| no_topic(error.to_string()))?;
            let (image, own) = (maker.metadata.image(), maker.config.node.id);
            match topic.partitions.iter().all(|partition| image.is_led_by(*partition, own)) {
                true => Ok(view(&settings, &topic)),
                false => Err(no_topic("it is on another broker".to_owned())),
            }
        })
    }
}
