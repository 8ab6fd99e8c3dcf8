//! The cluster and this broker, as they are told.

use std::sync::Arc;

use braid_raft::ReplaceError;
use braid_raft::image::BrokerImage;
use uuid::Uuid;

use super::Native;
use crate::model::BrokerId;

/// Everything in short.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) id: Option<String>,
    /// The broker that answers.
    pub(crate) this: BrokerId,
    pub(crate) brokers: Vec<Arc<BrokerImage>>,
    pub(crate) topics: usize,
    pub(crate) partitions: u64,
    pub(crate) stopping: bool,
}

impl Native {
    /// Has a new directory stand for a node that has lost its own.
    pub(crate) async fn replace_node(
        &self,
        node: BrokerId,
        directory: Uuid,
    ) -> Result<(), ReplaceError> {
        self.metadata.replace(node, directory).await
    }

    /// The cluster as the broker knows it now.
    pub(crate) fn cluster(&self) -> Cluster {
        let image = self.metadata.image();
        Cluster {
            id: image.cluster_id().map(ToString::to_string),
            this: self.config.node.id,
            brokers: image.brokers().cloned().collect(),
            topics: image.topics().len(),
            partitions: image.topics().partition_count(),
            stopping: *self.stopping.borrow(),
        }
    }
}
