//! Topics: list, show, create, change, delete.
//!
//! Planned as Kafka's CreateTopics and AlterConfigs are and proposed as the same commands, so a
//! topic made here is no different.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braid_raft::ProposeError;
use braid_raft::command::{ConfigChange, CreateTopics, DeleteTopics, SetTopicConfigs};
use braid_raft::image::{MetadataImage, PartitionImage, TopicImage};
use braid_raft::outcome::{CreateTopicRejection, DeleteTopicRejection, SetTopicConfigsRejection};
use braid_raft::plan::{Limits, PlacementError, TopicRequest, place_topic};

use super::Native;
use crate::config::{ConfigSource, MessageType, TopicConfigError, is_internal_topic};
use crate::model::{BrokerId, TopicId};
use crate::store::Offsets;

/// Most partitions of one new topic.
const PARTITIONS_MAX: u32 = 100_000;

/// A topic to make.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    /// None: the broker's default.
    pub(crate) partitions: Option<i32>,
    pub(crate) configs: BTreeMap<String, String>,
}

/// A topic as it is told.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) image: Arc<TopicImage>,
    pub(crate) message_type: MessageType,
    pub(crate) internal: bool,
}

/// A setting in force.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    /// Whether the topic has set it itself.
    pub(crate) own: bool,
}

/// Why there is no topic to work with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTopic {
    /// There is none of the name.
    #[error("there is no topic {0}")]
    Unknown(String),
    /// Its messages, or some of them, are not on this broker.
    #[error(
        "partitions of topic {topic} are on brokers {brokers}, not on this one, which is {own}: messages \
         are sent, read and delivered over HTTP on the one broker that has all partitions of a topic"
    )]
    Elsewhere {
        /// The topic.
        topic: String,
        /// The other brokers, as a list.
        brokers: String,
        /// This broker.
        own: BrokerId,
    },
}

/// Why a topic was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("{0} is a name of the broker's own topics")]
    Internal(String),
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Rejected(#[from] CreateTopicRejection),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
}

/// Why a topic's settings were not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigureError {
    #[error(transparent)]
    Unknown(#[from] NoTopic),
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
}

/// Why a topic was not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    #[error(transparent)]
    Unknown(#[from] NoTopic),
    #[error("topic {0} is the broker's own and cannot be deleted")]
    Internal(String),
    #[error("topic deletion is disabled")]
    Disabled,
    #[error(transparent)]
    Metadata(#[from] ProposeError),
}

impl Native {
    /// The topic of a name.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<TopicImage>, NoTopic> {
        let image = self.metadata.image();
        image.topic(name).cloned().ok_or_else(|| NoTopic::Unknown(name.to_owned()))
    }

    /// Whether a partition's messages are on this broker. A node alone has all of them.
    pub(crate) fn leads(&self, image: &MetadataImage, partition: PartitionImage) -> bool {
        !self.metadata.is_one_of_several() || image.is_led_by(partition, self.config.node.id)
    }

    /// The topic of a name, all of whose messages are on this broker.
    pub(crate) fn own_topic(&self, name: &str) -> Result<Arc<TopicImage>, NoTopic> {
        let topic = self.topic(name)?;
        if !self.metadata.is_one_of_several() {
            return Ok(topic);
        }
        let (image, own) = (self.metadata.image(), self.config.node.id);
        let others: BTreeSet<BrokerId> = topic
            .partitions
            .iter()
            .filter_map(|partition| image.shard(partition.shard))
            .filter(|shard| shard.leader() != Some(own))
            // Who may lead what has no leader.
            .flat_map(|shard| shard.leader().map_or(shard.replicas().to_vec(), |it| vec![it]))
            .collect();
        if others.is_empty() {
            return Ok(topic);
        }
        let brokers = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(NoTopic::Elsewhere { topic: name.to_owned(), brokers, own })
    }

    /// How a topic is told.
    pub(crate) fn told(&self, image: Arc<TopicImage>) -> Topic {
        let message_type = self.topic_settings.of(&image).config.message_type;
        Topic { internal: is_internal_topic(&image.name), message_type, image }
    }

    /// Up to `limit` topics whose names come after `after`, by name.
    pub(crate) fn topics_after(&self, after: Option<&str>, limit: usize) -> Vec<Topic> {
        let image = self.metadata.image();
        let told = |topic: &Arc<TopicImage>| self.told(Arc::clone(topic));
        match after {
            Some(after) => image.topics().iter_after(after).take(limit).map(told).collect(),
            None => image.topics().iter().take(limit).map(told).collect(),
        }
    }

    /// The marks and the bytes of a topic's partitions on this broker, by their numbers.
    pub(crate) fn marks(&self, topic: &TopicImage) -> BTreeMap<usize, (Offsets, u64)> {
        let image = self.metadata.image();
        let own = topic.partitions.iter().enumerate().filter(|(_, p)| self.leads(&image, **p));
        let marks = |queue| (self.partitions.offsets(queue), self.partitions.size_bytes(queue));
        own.map(|(number, partition)| (number, marks(partition.queue))).collect()
    }

    /// A topic's settings that differ from the defaults, or all of them.
    pub(crate) fn settings(&self, topic: &TopicImage, all: bool) -> Vec<Setting> {
        let described = self.live.load().describe_topic(&topic.configs);
        let shown = described.into_iter().filter(|d| all || d.source != ConfigSource::Default);
        shown
            .map(|d| Setting {
                own: topic.configs.contains_key(&d.name),
                name: d.name,
                value: d.value,
            })
            .collect()
    }

    /// Makes a topic; on return it can be used.
    pub(crate) async fn create_topic(&self, new: NewTopic) -> Result<Topic, CreateError> {
        if is_internal_topic(&new.name) {
            return Err(CreateError::Internal(new.name));
        }
        let config = self.live.load();
        let settings = new.configs.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
        let configs = config.validate_topic(settings)?;
        let request = TopicRequest {
            name: new.name.clone(),
            id: TopicId(self.env.rng.next_uuid()),
            partitions: new.partitions.unwrap_or(-1),
            replication_factor: -1,
            assignments: Vec::new(),
            configs,
        };
        let limits = Limits {
            default_partitions: self.config.topics.partitions,
            default_replication_factor: self.config.topics.replication_factor,
            partitions_max: PARTITIONS_MAX,
            // What the engines keep beside its records is not replicated.
            replication_factor_max: 1,
        };
        let planned = place_topic(&self.metadata.image(), request, &limits)?;
        let created_ms = self.env.clock.wall_ms();
        let command = CreateTopics { topics: vec![planned], created_ms };
        for outcome in self.metadata.propose(command).await? {
            outcome?;
        }
        // The quorum answers when the image holds what it has done; somebody may have deleted it.
        let made = self.topic(&new.name);
        made.map(|image| self.told(image)).map_err(|_| ProposeError::Stopped.into())
    }

    /// Sets keys of a topic, or with no value takes them away; the others stay.
    pub(crate) async fn configure_topic(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<Topic, ConfigureError> {
        let Ok(_alone) = self.config_changes.acquire().await else {
            unreachable!("the semaphore is never closed")
        };
        let topic = self.topic(name)?;
        let mut after = topic.configs.clone();
        for (key, value) in &changes {
            match value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(key),
            };
        }
        let config = self.live.load();
        config.validate_topic(after.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))))?;
        let changes = changes.into_iter().map(|(key, value)| ConfigChange { key, value });
        let command = SetTopicConfigs { topic: topic.id, changes: changes.collect() };
        match self.metadata.propose(command).await? {
            Ok(()) => Ok(self.told(self.topic(name)?)),
            Err(SetTopicConfigsRejection::UnknownId(_)) => {
                Err(NoTopic::Unknown(name.to_owned()).into())
            }
        }
    }

    /// Deletes a topic with all its messages.
    pub(crate) async fn delete_topic(&self, name: &str) -> Result<(), DeleteError> {
        let topic = self.topic(name)?;
        if is_internal_topic(name) {
            return Err(DeleteError::Internal(name.to_owned()));
        }
        if !self.config.topics.deletion {
            return Err(DeleteError::Disabled);
        }
        let command = DeleteTopics { topics: vec![topic.id] };
        for outcome in self.metadata.propose(command).await? {
            match outcome {
                Ok(()) => {}
                // Somebody else was faster.
                Err(DeleteTopicRejection::UnknownId(_)) => {
                    return Err(NoTopic::Unknown(name.to_owned()).into());
                }
            }
        }
        Ok(())
    }
}
