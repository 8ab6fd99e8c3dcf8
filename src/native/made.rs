//! Topics that the broker makes itself when it first needs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_raft::command::CreateTopics;
use braid_raft::image::TopicImage;
use braid_raft::outcome::CreateTopicRejection;
use braid_raft::plan::{Limits, TopicRequest, place_topic};
use braid_raft::{MetadataNode, ProposeError, plan::PlacementError};

use crate::config::Config;
use crate::env::Env;
use crate::model::TopicId;

/// Where Kafka's groups keep their offsets.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What making a topic takes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) metadata: MetadataNode,
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
        let request = TopicRequest {
            name: shape.name.clone(),
            id: TopicId(self.env.rng.next_uuid()),
            partitions: shape.partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: shape.configs,
        };
        let limits = Limits {
            default_partitions: self.config.topics.partitions,
            default_replication_factor: self.config.topics.replication_factor,
            partitions_max: u32::MAX,
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
