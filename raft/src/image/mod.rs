//! The cluster's metadata as every handler sees it: immutable, published whole, cheap to clone.
//!
//! All maps are persistent: a changed image shares everything unchanged with the one before, so
//! creating topics one by one costs the same for the first and the hundred-thousandth. Iteration
//! is in key order, hence the same on every node. Only [`apply`](crate::apply::apply) makes a new
//! image out of an old one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braid_base::model::{BrokerId, QueueId, ShardId, TopicId};
use imbl::OrdMap;
use uuid::Uuid;

use crate::command::{ClusterId, ConfigResource, Endpoint};
use crate::shard::{Replica, Up};

mod shards;
pub(crate) mod stored;
mod text;
mod topics;

pub use shards::ShardImage;
pub use stored::ImageDecodeError;
pub use topics::{PartitionImage, QueueOwner, TopicImage, TopicsImage};

/// Keys and values of one resource.
pub type Configs = BTreeMap<String, String>;

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its number.
    pub id: BrokerId,
    /// Random, new at every start of its process.
    pub incarnation: Uuid,
    /// Its listeners.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// Wall time of its last registration.
    pub registered_ms: i64,
    /// Whether the controller has not heard of it for too long. What it leads has no leader then.
    pub fenced: bool,
    /// Which of its lives this is: one more with each, in a cluster.
    pub run: u64,
    /// Whether it is about to stop: it leads only what nobody else can.
    pub draining: bool,
}

impl BrokerImage {
    /// The endpoint of the named listener.
    #[must_use]
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.listener == listener)
    }
}

/// Name, features and producer ids of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClusterImage {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) features: BTreeMap<String, i16>,
    /// The directories that stand for voters in the place of those that formed the cluster.
    pub(crate) directories: BTreeMap<BrokerId, Uuid>,
    /// Those of them whose brokers have not started since: they begin with nothing.
    pub(crate) empty: BTreeSet<BrokerId>,
}

/// Brokers and the shards they hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct BrokersImage {
    pub(crate) brokers: OrdMap<BrokerId, Arc<BrokerImage>>,
    pub(crate) shards: OrdMap<ShardId, Arc<ShardImage>>,
    pub(crate) shard_by_replicas: OrdMap<Vec<BrokerId>, ShardId>,
    pub(crate) next_shard_id: u32,
}

/// Dynamic configs of all but topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConfigsImage {
    /// Of brokers; `None` is the default of all.
    pub(crate) brokers: OrdMap<Option<BrokerId>, Arc<Configs>>,
    /// Of everything else; none of them is empty.
    pub(crate) resources: OrdMap<ConfigResource, Arc<Configs>>,
}

/// The metadata as of one index of the metadata log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataImage {
    pub(crate) applied_index: u64,
    pub(crate) cluster: Arc<ClusterImage>,
    pub(crate) brokers: Arc<BrokersImage>,
    pub(crate) topics: Arc<TopicsImage>,
    pub(crate) configs: Arc<ConfigsImage>,
    pub(crate) next_producer_id: i64,
}

impl MetadataImage {
    /// The index of the metadata log up to which this image is applied, inclusive.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The cluster's id; none before the cluster is formed.
    #[must_use]
    pub fn cluster_id(&self) -> Option<&ClusterId> {
        self.cluster.cluster_id.as_ref()
    }

    /// Finalized feature levels by name.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.cluster.features
    }

    /// The directories of voters that were replaced since the cluster was formed.
    #[must_use]
    pub fn replaced_directories(&self) -> &BTreeMap<BrokerId, Uuid> {
        &self.cluster.directories
    }

    /// Whether a broker lost its disk and has not started since: that it has no log is no surprise then.
    #[must_use]
    pub fn begins_with_nothing(&self, broker: BrokerId) -> bool {
        self.cluster.empty.contains(&broker)
    }

    /// All topics, by name and by id, and the queues of their partitions.
    #[must_use]
    pub fn topics(&self) -> &TopicsImage {
        &self.topics
    }

    /// The topic of a name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.by_name(name)
    }

    /// The topic of an id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.by_id(id)
    }

    /// The topic and partition that a queue belongs to.
    #[must_use]
    pub fn queue(&self, queue: QueueId) -> Option<QueueOwner> {
        self.topics.queue(queue)
    }

    /// The first queue number not handed out yet. A number below it that
    /// [`queue`](Self::queue) does not know belonged to a partition since deleted; one at or above
    /// it means that this image is older than the data.
    #[must_use]
    pub fn next_queue_id(&self) -> QueueId {
        self.topics.next_queue_id()
    }

    /// A registered broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerImage>> {
        self.brokers.brokers.get(&id)
    }

    /// All registered brokers, by number.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.brokers.values()
    }

    /// The number of registered brokers.
    #[must_use]
    pub fn broker_count(&self) -> usize {
        self.brokers.brokers.len()
    }

    /// The broker that leads a partition, if there is one now: none while it is fenced.
    #[must_use]
    pub fn leader(&self, partition: PartitionImage) -> Option<BrokerId> {
        let leader = self.shard(partition.shard)?.leader()?;
        self.is_alive(leader).then_some(leader)
    }

    /// Whether a broker is registered and not fenced.
    #[must_use]
    pub fn is_alive(&self, broker: BrokerId) -> bool {
        self.broker(broker).is_some_and(|broker| !broker.fenced)
    }

    /// The brokers that are registered and not fenced, and which life of each it is.
    #[must_use]
    pub fn up(&self) -> Up {
        let up = self.brokers().filter(|broker| !broker.fenced);
        up.map(|broker| (broker.id, broker.run)).collect()
    }

    /// A broker in its present life, as the replicas of a shard call it.
    #[must_use]
    pub fn replica(&self, broker: BrokerId) -> Option<Replica> {
        self.broker(broker).map(|known| Replica { broker, incarnation: known.run })
    }

    /// Whether a partition's records are in this broker's own log, whether or not it is fenced. Those
    /// of a replicated shard are in no broker's own log.
    #[must_use]
    pub fn is_led_by(&self, partition: PartitionImage, broker: BrokerId) -> bool {
        let is_own = |shard: &ShardImage| !shard.is_replicated() && shard.leader() == Some(broker);
        self.shard(partition.shard).is_some_and(|shard| is_own(shard))
    }

    /// A shard.
    #[must_use]
    pub fn shard(&self, id: ShardId) -> Option<&Arc<ShardImage>> {
        self.brokers.shards.get(&id)
    }

    /// The shard on these replicas, in this order.
    #[must_use]
    pub fn shard_of(&self, replicas: &[BrokerId]) -> Option<&Arc<ShardImage>> {
        self.shard(*self.brokers.shard_by_replicas.get(replicas)?)
    }

    /// All shards, by number.
    pub fn shards(&self) -> impl Iterator<Item = &Arc<ShardImage>> {
        self.brokers.shards.values()
    }

    /// The dynamic configs of one broker, or with `None` the default of all brokers.
    #[must_use]
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> Option<&Configs> {
        self.configs.brokers.get(&broker).map(|configs| &**configs)
    }

    /// The dynamic configs of a group or of a subscription to clients' metrics.
    #[must_use]
    pub fn resource_configs(&self, resource: &ConfigResource) -> Option<&Configs> {
        self.configs.resources.get(resource).map(|configs| &**configs)
    }

    /// Everything but topics and brokers that has dynamic configs, in order.
    pub fn configured_resources(&self) -> impl Iterator<Item = (&ConfigResource, &Configs)> {
        self.configs.resources.iter().map(|(resource, configs)| (resource, &**configs))
    }

    /// The first producer id not handed out yet.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }
}
