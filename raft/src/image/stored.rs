//! The image's form in a snapshot: plain structs with the same rule as commands (a version's
//! fields never change; a new need is a new version).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use braid_base::model::{BrokerId, LeaderEpoch, QueueId, ShardId, TopicId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    BrokerImage, BrokersImage, ClusterImage, Configs, ConfigsImage, MetadataImage, PartitionImage,
    ShardImage, TopicImage, TopicsImage,
};
use crate::apply::PARTITIONS_PER_TOPIC_MAX;
use crate::command::{ClusterId, ConfigResource, Endpoint};
use crate::shard::{Replica, ShardState, SyncSet};

/// The snapshot's bytes are not an image this version knows.
#[derive(Debug, thiserror::Error)]
pub enum ImageDecodeError {
    /// Written by a newer version, or damage that the checksum missed.
    #[error("the image is of an unknown version or malformed: {0}")]
    Malformed(#[from] postcard::Error),
    /// A topic with more partitions than it may have, or with queues that were never handed out.
    #[error("topic {0} has impossible partitions")]
    Partitions(TopicId),
}

#[derive(Serialize, Deserialize)]
enum StoredImage {
    V1(ImageV1),
    /// With the configs of what is neither topic nor broker.
    V2(ImageV1, Vec<(ConfigResource, Configs)>),
    /// With the brokers that are fenced.
    V3(ImageV1, Vec<(ConfigResource, Configs)>, Vec<BrokerId>),
    /// With what a cluster of several has; its replicated shards are not in the first part.
    V4(ImageV1, Vec<(ConfigResource, Configs)>, ClusterV1),
}

#[derive(Default, Serialize, Deserialize)]
struct ClusterV1 {
    lives: Vec<LifeV1>,
    shards: Vec<ReplicatedV1>,
    directories: BTreeMap<BrokerId, Uuid>,
    empty: BTreeSet<BrokerId>,
}

#[derive(Serialize, Deserialize)]
struct LifeV1 {
    id: BrokerId,
    run: u64,
    fenced: bool,
    draining: bool,
}

#[derive(Serialize, Deserialize)]
struct ReplicatedV1 {
    id: ShardId,
    store_id: Uuid,
    replicas: Vec<BrokerId>,
    in_sync_min: u32,
    epoch: LeaderEpoch,
    leader: Option<Replica>,
    in_sync: SyncSet,
    eligible: BTreeSet<BrokerId>,
}

#[derive(Serialize, Deserialize)]
struct ImageV1 {
    applied_index: u64,
    cluster_id: Option<ClusterId>,
    features: BTreeMap<String, i16>,
    brokers: Vec<BrokerV1>,
    shards: Vec<ShardV1>,
    next_shard_id: u32,
    topics: Vec<TopicV1>,
    next_queue_id: QueueId,
    broker_configs: Vec<(Option<BrokerId>, Configs)>,
    next_producer_id: i64,
}

#[derive(Serialize, Deserialize)]
struct BrokerV1 {
    id: BrokerId,
    incarnation: Uuid,
    endpoints: Vec<Endpoint>,
    rack: Option<String>,
    registered_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct ShardV1 {
    id: ShardId,
    replicas: Vec<BrokerId>,
    leader: BrokerId,
    epoch: LeaderEpoch,
    sync_state_set: Vec<BrokerId>,
}

#[derive(Serialize, Deserialize)]
struct TopicV1 {
    id: TopicId,
    name: String,
    created_ms: i64,
    /// Runs of partitions with consecutive queues on one shard: first queue, shard, count.
    partitions: Vec<(QueueId, ShardId, u32)>,
    configs: Configs,
}

/// The image's bytes.
pub(crate) fn encode(image: &MetadataImage) -> Vec<u8> {
    let first = ImageV1 {
        applied_index: image.applied_index,
        cluster_id: image.cluster.cluster_id.clone(),
        features: image.cluster.features.clone(),
        brokers: image.brokers().map(|broker| store_broker(broker)).collect(),
        shards: image.shards().filter_map(|shard| store_own(shard)).collect(),
        next_shard_id: image.brokers.next_shard_id,
        topics: image.topics.iter().map(|topic| store_topic(topic)).collect(),
        next_queue_id: image.next_queue_id(),
        broker_configs: image
            .configs
            .brokers
            .iter()
            .map(|(broker, configs)| (*broker, (**configs).clone()))
            .collect(),
        next_producer_id: image.next_producer_id,
    };
    let resources = image
        .configured_resources()
        .map(|(resource, configs)| (resource.clone(), configs.clone()))
        .collect();
    let lives: Vec<LifeV1> = image.brokers().map(|broker| store_life(broker)).collect();
    let replicated: Vec<ReplicatedV1> =
        image.shards().filter_map(|shard| store_replicated(shard)).collect();
    let directories = image.replaced_directories().clone();
    let is_several = !replicated.is_empty()
        || !directories.is_empty()
        || lives.iter().any(|it| it.run > 0 || it.draining);
    let stored = if is_several {
        let (shards, empty) = (replicated, image.cluster.empty.clone());
        StoredImage::V4(first, resources, ClusterV1 { lives, shards, directories, empty })
    } else if lives.iter().any(|life| life.fenced) {
        let fenced = lives.iter().filter(|life| life.fenced).map(|life| life.id).collect();
        StoredImage::V3(first, resources, fenced)
    } else {
        StoredImage::V2(first, resources)
    };
    match postcard::to_stdvec(&stored) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("images always serialize: {error}"),
    }
}

/// The image of the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<MetadataImage, ImageDecodeError> {
    let (stored, resources, of_several) = match postcard::from_bytes(bytes)? {
        StoredImage::V1(stored) => (stored, Vec::new(), ClusterV1::default()),
        StoredImage::V2(stored, resources) => (stored, resources, ClusterV1::default()),
        StoredImage::V3(stored, resources, fenced) => {
            let life = |id| LifeV1 { id, run: 0, fenced: true, draining: false };
            let lives = fenced.into_iter().map(life).collect();
            (stored, resources, ClusterV1 { lives, ..ClusterV1::default() })
        }
        StoredImage::V4(stored, resources, of_several) => (stored, resources, of_several),
    };
    let ClusterV1 { lives, shards, directories, empty } = of_several;
    let mut brokers = BrokersImage { next_shard_id: stored.next_shard_id, ..Default::default() };
    for broker in stored.brokers {
        let life = lives.iter().find(|life| life.id == broker.id);
        let broker = load_broker(broker, life);
        brokers.brokers.insert(broker.id, Arc::new(broker));
    }
    let own = stored.shards.into_iter().map(load_own);
    for shard in own.chain(shards.into_iter().map(load_replicated)) {
        brokers.shard_by_replicas.insert(shard.replicas().to_vec(), shard.id);
        brokers.shards.insert(shard.id, Arc::new(shard));
    }
    let mut topics = TopicsImage::default();
    for topic in stored.topics {
        topics.insert(load_topic(topic, stored.next_queue_id)?);
    }
    topics.set_next_queue_id(stored.next_queue_id);
    let configs =
        stored.broker_configs.into_iter().map(|(id, configs)| (id, Arc::new(configs))).collect();
    let resources =
        resources.into_iter().map(|(resource, configs)| (resource, Arc::new(configs))).collect();
    Ok(MetadataImage {
        applied_index: stored.applied_index,
        cluster: Arc::new(ClusterImage {
            cluster_id: stored.cluster_id,
            features: stored.features,
            directories,
            empty,
        }),
        brokers: Arc::new(brokers),
        topics: Arc::new(topics),
        configs: Arc::new(ConfigsImage { brokers: configs, resources }),
        next_producer_id: stored.next_producer_id,
    })
}

fn store_broker(broker: &BrokerImage) -> BrokerV1 {
    BrokerV1 {
        id: broker.id,
        incarnation: broker.incarnation,
        endpoints: broker.endpoints.clone(),
        rack: broker.rack.clone(),
        registered_ms: broker.registered_ms,
    }
}

fn store_life(broker: &BrokerImage) -> LifeV1 {
    let BrokerImage { id, run, fenced, draining, .. } = *broker;
    LifeV1 { id, run, fenced, draining }
}

fn load_broker(broker: BrokerV1, life: Option<&LifeV1>) -> BrokerImage {
    BrokerImage {
        id: broker.id,
        incarnation: broker.incarnation,
        endpoints: broker.endpoints,
        rack: broker.rack,
        registered_ms: broker.registered_ms,
        fenced: life.is_some_and(|life| life.fenced),
        run: life.map_or(0, |life| life.run),
        draining: life.is_some_and(|life| life.draining),
    }
}

fn store_own(shard: &ShardImage) -> Option<ShardV1> {
    let leader = shard.leader().filter(|_| !shard.is_replicated())?;
    Some(ShardV1 {
        id: shard.id,
        replicas: shard.replicas().to_vec(),
        leader,
        epoch: shard.epoch(),
        sync_state_set: shard.in_sync_members().collect(),
    })
}

/// A broker's own log is led by its first replica and in sync with itself: nothing else was ever
/// written.
fn load_own(shard: ShardV1) -> ShardImage {
    ShardImage::own(shard.id, shard.replicas, shard.epoch)
}

fn store_replicated(shard: &ShardImage) -> Option<ReplicatedV1> {
    let store_id = shard.store_id?;
    let ShardState { replicas, in_sync_min, epoch, leader, in_sync, eligible, .. } =
        shard.state.clone();
    let in_sync_min = u32::try_from(in_sync_min).unwrap_or(u32::MAX);
    let id = shard.id;
    Some(ReplicatedV1 { id, store_id, replicas, in_sync_min, epoch, leader, in_sync, eligible })
}

fn load_replicated(shard: ReplicatedV1) -> ShardImage {
    let mut state = ShardState::new(shard.replicas, shard.in_sync_min as usize);
    state.epoch = shard.epoch;
    state.leader = shard.leader;
    state.in_sync = shard.in_sync;
    state.eligible = shard.eligible;
    ShardImage { id: shard.id, state, store_id: Some(shard.store_id) }
}

fn store_topic(topic: &TopicImage) -> TopicV1 {
    let mut partitions: Vec<(QueueId, ShardId, u32)> = Vec::new();
    for partition in &topic.partitions {
        match partitions.last_mut() {
            Some((first, shard, count))
                if *shard == partition.shard && first.0 + *count == partition.queue.0 =>
            {
                *count += 1;
            }
            _ => partitions.push((partition.queue, partition.shard, 1)),
        }
    }
    TopicV1 {
        id: topic.id,
        name: topic.name.to_string(),
        created_ms: topic.created_ms,
        partitions,
        configs: topic.configs.clone(),
    }
}

/// A few bytes may claim any number of partitions; only possible ones are made.
fn load_topic(topic: TopicV1, next: QueueId) -> Result<TopicImage, ImageDecodeError> {
    let mut partitions = Vec::new();
    for (first, shard, count) in topic.partitions {
        let within = first.0.checked_add(count).is_some_and(|end| end <= next.0);
        if !within || partitions.len() + count as usize > PARTITIONS_PER_TOPIC_MAX as usize {
            return Err(ImageDecodeError::Partitions(topic.id));
        }
        let queues = (first.0..).take(count as usize);
        partitions.extend(queues.map(|queue| PartitionImage { queue: QueueId(queue), shard }));
    }
    Ok(TopicImage {
        id: topic.id,
        name: topic.name.into(),
        created_ms: topic.created_ms,
        partitions,
        configs: topic.configs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claimed_partitions_that_cannot_be_are_refused() {
        for (next_queue_id, partitions) in [
            (10, vec![(0, 11)]),
            (10, vec![(u32::MAX, 2)]),
            (u32::MAX, vec![(0, u32::MAX)]),
            (u32::MAX, vec![(0, PARTITIONS_PER_TOPIC_MAX), (PARTITIONS_PER_TOPIC_MAX, 1)]),
        ] {
            let runs = partitions.iter().map(|&(first, count)| (QueueId(first), ShardId(0), count));
            let topic = TopicV1 {
                id: TopicId(Uuid::from_u128(7)),
                name: "a".to_owned(),
                created_ms: 0,
                partitions: runs.collect(),
                configs: Configs::new(),
            };
            let refused = load_topic(topic, QueueId(next_queue_id)).unwrap_err();
            assert!(matches!(refused, ImageDecodeError::Partitions(_)), "{partitions:?}");
        }
    }
}
