//! Topics that the broker makes itself when it first needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_raft::command::{CreatePartitions, CreateTopics, PartitionRun};
use braid_raft::image::{MetadataImage, TopicImage};
use braid_raft::outcome::CreateTopicRejection;
use braid_raft::plan::{Assignment, Limits, TopicRequest, place_topic};
use braid_raft::{MetadataNode, ProposeError, plan::PlacementError};

use crate::config::Config;
use crate::env::Env;
use crate::model::{BrokerId, TopicId};

/// Where Kafka's groups keep their offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What making a topic takes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) metadata: MetadataNode,
}

/// A partition of a topic whose records are on a broker.
pub(crate) fn own_partition(
    image: &MetadataImage,
    topic: &TopicImage,
    broker: BrokerId,
) -> Option<i32> {
    let own = topic.partitions.iter().position(|partition| image.is_led_by(*partition, broker))?;
    i32::try_from(own).ok()
}

/// One more partition for a topic, on a broker that has none of it.
pub(crate) fn one_more(topic: &TopicImage, broker: BrokerId) -> CreatePartitions {
    CreatePartitions {
        topic: topic.id,
        expected_count: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        added: vec![PartitionRun { count: 1, replicas: vec![broker] }],
    }
}

/// A topic as it is to be.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) configs: BTreeMap<String, String>,
}

/// Why a topic cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum MakeError {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    Rejected(#[from] CreateTopicRejection),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
    #[error("topic {0} was deleted at once")]
    Deleted(String),
}

impl Maker {
    /// The topic, made if it is not there. Asked for twice at once it is made once.
    pub(crate) async fn topic(&self, shape: Shape) -> Result<Arc<TopicImage>, MakeError> {
        if let Some(topic) = self.metadata.image().topic(&shape.name) {
            return Ok(Arc::clone(topic));
        }
        // What the engines of this broker write is to be on this broker.
        let assignments = match shape.partitions {
            1 => vec![Assignment { partition: 0, replicas: vec![self.config.node.id] }],
            _ => Vec::new(),
        };
        let request = TopicRequest {
            name: shape.name.clone(),
            id: TopicId(self.env.rng.next_uuid()),
            partitions: if assignments.is_empty() { shape.partitions } else { -1 },
            replication_factor: -1,
            assignments,
            configs: shape.configs,
        };
        let limits = Limits {
            default_partitions: self.config.topics.partitions,
            default_replication_factor: self.config.topics.replication_factor,
            partitions_max: u32::MAX,
            // What the engines keep beside its records is not replicated.
            replication_factor_max: 1,
        };
        let exists = |rejection: &CreateTopicRejection| {
            matches!(rejection, CreateTopicRejection::AlreadyExists(_))
        };
        match place_topic(&self.metadata.image(), request, &limits) {
            Ok(planned) => {
                let created_ms = self.env.clock.wall_ms();
                let command = CreateTopics { topics: vec![planned], created_ms };
                for outcome in self.metadata.propose(command).await? {
                    match outcome {
                        Err(rejection) if !exists(&rejection) => return Err(rejection.into()),
                        Ok(_) | Err(_) => {}
                    }
                }
            }
            // Somebody else was faster.
            Err(PlacementError::Rejected(rejection)) if exists(&rejection) => {}
            Err(error) => return Err(error.into()),
        }
        let image = self.metadata.image();
        image.topic(&shape.name).cloned().ok_or(MakeError::Deleted(shape.name))
    }

    /// A topic of the broker's own and a partition of it on this broker, both made if they are not there.
    pub(crate) async fn own_partition(
        &self,
        shape: Shape,
    ) -> Result<(Arc<TopicImage>, i32), MakeError> {
        let name = shape.name.clone();
        let mut topic = self.topic(shape).await?;
        loop {
            let image = self.metadata.image();
            if let Some(own) = own_partition(&image, &topic, self.config.node.id) {
                return Ok((topic, own));
            }
            // Refused when somebody else added one at the same time.
            drop(self.metadata.propose(one_more(&topic, self.config.node.id)).await?);
            let image = self.metadata.image();
            topic = image.topic(&name).cloned().ok_or(MakeError::Deleted(name.clone()))?;
        }
    }

    /// The topic of group offsets, as Kafka's clients would make it.
    pub(crate) async fn offsets_topic(&self) -> Result<Arc<TopicImage>, MakeError> {
        let configs = [("cleanup.policy", "compact"), ("compression.type", "producer")];
        let configs = configs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.topic(Shape {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: self.config.group.offsets_partitions,
            configs: configs.into(),
        })
        .await
    }
}
