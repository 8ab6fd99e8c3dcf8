//! The one function that changes metadata: pure, total, the same on every node.
//!
//! No clock, no chance, no I/O: a command brings its time and its ids. A refused command changes
//! nothing. What is checked here is part of the log's meaning for ever: an older log must replay
//! to the same image, so a check may only change together with a new command.

use std::collections::BTreeSet;
use std::sync::Arc;

use braid_base::model::{BrokerId, LeaderEpoch, QueueId, ShardId};
use imbl::OrdMap;
use uuid::Uuid;

use crate::command::{
    AllocateProducerIds, ClusterInit, ConfigChange, CreatePartitions, CreateTopics, DeleteTopics,
    FenceBroker, MetadataCommand, NewTopic, PartitionRun, RegisterBroker, SetBrokerConfigs,
    SetResourceConfigs, SetTopicConfigs,
};
use crate::image::{
    BrokerImage, BrokersImage, Configs, MetadataImage, PartitionImage, ShardImage, TopicImage,
};
use crate::outcome::{
    AllocateProducerIdsRejection, ClusterInitRejection, CreatePartitionsRejection,
    CreateTopicRejection, DeleteTopicRejection, FenceBrokerRejection, InvalidPartitionCount,
    InvalidReplicas, Outcome, ProducerIdBlock, RegisterBrokerRejection, SetTopicConfigsRejection,
    TopicCreated,
};
use crate::plan::names;

/// The most partitions one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: u32 = 1_000_000;

/// Applies a command to the image and says what came of it.
pub fn apply(image: &mut MetadataImage, command: &MetadataCommand) -> Outcome {
    match command {
        MetadataCommand::ClusterInit(it) => Outcome::ClusterInit(init_cluster(image, it)),
        MetadataCommand::RegisterBroker(it) => Outcome::RegisterBroker(register_broker(image, it)),
        MetadataCommand::CreateTopics(it) => Outcome::CreateTopics(create_topics(image, it)),
        MetadataCommand::DeleteTopics(it) => Outcome::DeleteTopics(delete_topics(image, it)),
        MetadataCommand::CreatePartitions(it) => {
            Outcome::CreatePartitions(create_partitions(image, it))
        }
        MetadataCommand::SetTopicConfigs(it) => {
            Outcome::SetTopicConfigs(set_topic_configs(image, it))
        }
        MetadataCommand::SetBrokerConfigs(it) => {
            set_broker_configs(image, it);
            Outcome::SetBrokerConfigs
        }
        MetadataCommand::AllocateProducerIds(it) => {
            Outcome::AllocateProducerIds(allocate_producer_ids(image, it))
        }
        MetadataCommand::SetResourceConfigs(it) => {
            set_resource_configs(image, it);
            Outcome::SetResourceConfigs
        }
        MetadataCommand::FenceBroker(it) => Outcome::FenceBroker(fence_broker(image, it)),
        MetadataCommand::CreateShards(it) => {
            Outcome::CreateShards(shards::create_shards(image, it))
        }
        MetadataCommand::ChangeSyncSet(it) => {
            Outcome::ChangeSyncSet(shards::change_sync_set(image, it))
        }
        MetadataCommand::ElectLeaders(it) => {
            Outcome::ElectLeaders(shards::elect_leaders(image, it))
        }
        MetadataCommand::StartBroker(it) => Outcome::StartBroker(shards::start_broker(image, it)),
        MetadataCommand::DrainBroker(it) => Outcome::DrainBroker(shards::drain_broker(image, it)),
        MetadataCommand::AdmitDirectory(it) => {
            let cluster = Arc::make_mut(&mut image.cluster);
            if cluster.directories.insert(it.node, it.directory) != Some(it.directory) {
                cluster.empty.insert(it.node);
            }
            Outcome::AdmitDirectory
        }
    }
}

/// Whether the image takes the topic, and with how many partitions.
///
/// # Errors
/// The first reason against it. `apply` answers the same for the same image.
pub fn check_new_topic(
    image: &MetadataImage,
    topic: &NewTopic,
) -> Result<u32, CreateTopicRejection> {
    names::check(&topic.name).map_err(CreateTopicRejection::InvalidName)?;
    if image.topic(&topic.name).is_some() {
        return Err(CreateTopicRejection::AlreadyExists(topic.name.clone()));
    }
    if let Some(existing) = image.topics.colliding(&topic.name) {
        return Err(CreateTopicRejection::Collides {
            name: topic.name.clone(),
            existing: existing.to_string(),
        });
    }
    if topic.id.0.is_nil() || image.topic_by_id(topic.id).is_some() {
        return Err(CreateTopicRejection::IdInUse(topic.id));
    }
    check_replicas(image, &topic.partitions).map_err(CreateTopicRejection::Replicas)?;
    count_partitions(image, 0, &topic.partitions).map_err(CreateTopicRejection::Partitions)
}

fn init_cluster(
    image: &mut MetadataImage,
    command: &ClusterInit,
) -> Result<(), ClusterInitRejection> {
    if let Some(id) = image.cluster_id() {
        return Err(ClusterInitRejection::AlreadyInitialised(id.clone()));
    }
    let cluster = Arc::make_mut(&mut image.cluster);
    cluster.cluster_id = Some(command.cluster_id.clone());
    cluster.features.clone_from(&command.features);
    Ok(())
}

/// A broker that starts anew leads its shards in a new epoch, so that nothing from its former
/// life can be taken for its own.
fn register_broker(
    image: &mut MetadataImage,
    command: &RegisterBroker,
) -> Result<(), RegisterBrokerRejection> {
    if command.broker.0 < 0 {
        return Err(RegisterBrokerRejection::NegativeId(command.broker));
    }
    let mut listeners = BTreeSet::new();
    for endpoint in &command.endpoints {
        if !listeners.insert(&endpoint.listener) {
            return Err(RegisterBrokerRejection::DuplicateListener(endpoint.listener.clone()));
        }
    }
    let brokers = Arc::make_mut(&mut image.brokers);
    let broker = BrokerImage {
        id: command.broker,
        incarnation: command.incarnation,
        endpoints: command.endpoints.clone(),
        rack: command.rack.clone(),
        registered_ms: command.registered_ms,
        fenced: false,
        run: brokers.brokers.get(&command.broker).map_or(0, |before| before.run),
        draining: false,
    };
    let before = brokers.brokers.insert(broker.id, Arc::new(broker));
    if before.is_some_and(|before| before.incarnation != command.incarnation) {
        start_epochs(brokers, command.broker);
    }
    Ok(())
}

fn fence_broker(
    image: &mut MetadataImage,
    command: &FenceBroker,
) -> Result<(), FenceBrokerRejection> {
    let broker = fenceable(image, command.broker, command.incarnation)?;
    let broker = BrokerImage { fenced: command.fenced, ..(*broker).clone() };
    Arc::make_mut(&mut image.brokers).brokers.insert(broker.id, Arc::new(broker));
    shards::fence(image, command.broker, command.fenced);
    Ok(())
}

/// The broker, if it is in the life that was judged.
fn fenceable(
    image: &MetadataImage,
    id: BrokerId,
    incarnation: Uuid,
) -> Result<Arc<BrokerImage>, FenceBrokerRejection> {
    let broker = image.broker(id).ok_or(FenceBrokerRejection::Unknown(id))?;
    if known_as(image, id, incarnation) {
        Ok(Arc::clone(broker))
    } else {
        Err(FenceBrokerRejection::StartedAgain(id))
    }
}

/// Whether a broker is registered in this life of it.
fn known_as(image: &MetadataImage, broker: BrokerId, incarnation: Uuid) -> bool {
    image.broker(broker).is_some_and(|known| known.incarnation == incarnation)
}

fn start_epochs(brokers: &mut BrokersImage, leader: BrokerId) {
    let is_own =
        |shard: &&Arc<ShardImage>| !shard.is_replicated() && shard.leader() == Some(leader);
    let led: Vec<Arc<ShardImage>> = brokers.shards.values().filter(is_own).cloned().collect();
    for shard in led {
        let mut next = ShardImage::clone(&shard);
        next.state.epoch = LeaderEpoch(shard.epoch().0.saturating_add(1));
        brokers.shards.insert(shard.id, Arc::new(next));
    }
}

fn create_topics(
    image: &mut MetadataImage,
    command: &CreateTopics,
) -> Vec<Result<TopicCreated, CreateTopicRejection>> {
    command.topics.iter().map(|topic| create_topic(image, topic, command.created_ms)).collect()
}

fn create_topic(
    image: &mut MetadataImage,
    topic: &NewTopic,
    created_ms: i64,
) -> Result<TopicCreated, CreateTopicRejection> {
    let partition_count = check_new_topic(image, topic)?;
    let partitions = new_partitions(image, partition_count, &topic.partitions);
    Arc::make_mut(&mut image.topics).insert(TopicImage {
        id: topic.id,
        name: topic.name.as_str().into(),
        created_ms,
        partitions,
        configs: topic.configs.clone(),
    });
    Ok(TopicCreated { id: topic.id, partition_count })
}

fn delete_topics(
    image: &mut MetadataImage,
    command: &DeleteTopics,
) -> Vec<Result<(), DeleteTopicRejection>> {
    let topics = Arc::make_mut(&mut image.topics);
    command
        .topics
        .iter()
        .map(|&id| match topics.remove(id) {
            Some(_) => Ok(()),
            None => Err(DeleteTopicRejection::UnknownId(id)),
        })
        .collect()
}

fn create_partitions(
    image: &mut MetadataImage,
    command: &CreatePartitions,
) -> Result<u32, CreatePartitionsRejection> {
    let Some(topic) = image.topic_by_id(command.topic).map(Arc::clone) else {
        return Err(CreatePartitionsRejection::UnknownId(command.topic));
    };
    // A topic never has more partitions than the maximum, so this is its exact number.
    let actual = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    if actual != command.expected_count {
        let expected = command.expected_count;
        return Err(CreatePartitionsRejection::CountChanged { expected, actual });
    }
    check_replicas(image, &command.added).map_err(CreatePartitionsRejection::Replicas)?;
    let added = count_partitions(image, actual, &command.added)
        .map_err(CreatePartitionsRejection::Partitions)?;
    let mut topic = TopicImage::clone(&topic);
    topic.partitions.extend(new_partitions(image, added, &command.added));
    Arc::make_mut(&mut image.topics).insert(topic);
    Ok(actual + added)
}

fn set_topic_configs(
    image: &mut MetadataImage,
    command: &SetTopicConfigs,
) -> Result<(), SetTopicConfigsRejection> {
    let Some(topic) = image.topic_by_id(command.topic) else {
        return Err(SetTopicConfigsRejection::UnknownId(command.topic));
    };
    let mut topic = TopicImage::clone(topic);
    change(&mut topic.configs, &command.changes);
    Arc::make_mut(&mut image.topics).insert(topic);
    Ok(())
}

fn set_broker_configs(image: &mut MetadataImage, command: &SetBrokerConfigs) {
    let configs = Arc::make_mut(&mut image.configs);
    change_one(&mut configs.brokers, &command.broker, &command.changes);
}

fn set_resource_configs(image: &mut MetadataImage, command: &SetResourceConfigs) {
    let configs = Arc::make_mut(&mut image.configs);
    change_one(&mut configs.resources, &command.resource, &command.changes);
}

/// What has no configs left is not kept.
fn change_one<K: Ord + Clone>(
    all: &mut OrdMap<K, Arc<Configs>>,
    resource: &K,
    changes: &[ConfigChange],
) {
    let mut changed = all.get(resource).map(|configs| (**configs).clone()).unwrap_or_default();
    change(&mut changed, changes);
    if changed.is_empty() {
        all.remove(resource);
    } else {
        all.insert(resource.clone(), Arc::new(changed));
    }
}

fn change(configs: &mut Configs, changes: &[ConfigChange]) {
    for ConfigChange { key, value } in changes {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
}

fn allocate_producer_ids(
    image: &mut MetadataImage,
    command: &AllocateProducerIds,
) -> Result<ProducerIdBlock, AllocateProducerIdsRejection> {
    if command.count == 0 {
        return Err(AllocateProducerIdsRejection::EmptyBlock);
    }
    let first = image.next_producer_id;
    let Some(end) = first.checked_add(i64::from(command.count)) else {
        return Err(AllocateProducerIdsRejection::Exhausted);
    };
    image.next_producer_id = end;
    Ok(ProducerIdBlock { first, end })
}

fn check_replicas(image: &MetadataImage, runs: &[PartitionRun]) -> Result<(), InvalidReplicas> {
    for run in runs {
        if run.replicas.is_empty() {
            return Err(InvalidReplicas::Empty);
        }
        let mut seen = BTreeSet::new();
        for &broker in &run.replicas {
            if image.broker(broker).is_none() {
                return Err(InvalidReplicas::UnknownBroker(broker));
            }
            if !seen.insert(broker) {
                return Err(InvalidReplicas::Duplicate(broker));
            }
        }
    }
    Ok(())
}

/// The number of partitions in the runs, if a topic that has `present` may have them too.
fn count_partitions(
    image: &MetadataImage,
    present: u32,
    runs: &[PartitionRun],
) -> Result<u32, InvalidPartitionCount> {
    if runs.is_empty() || runs.iter().any(|run| run.count == 0) {
        return Err(InvalidPartitionCount::Zero);
    }
    let added: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    let count = u64::from(present) + added;
    match u32::try_from(added) {
        Ok(added) if count <= u64::from(PARTITIONS_PER_TOPIC_MAX) => {
            if image.topics.has_queues(added) {
                Ok(added)
            } else {
                Err(InvalidPartitionCount::Exhausted)
            }
        }
        _ => Err(InvalidPartitionCount::TooMany { count, max: PARTITIONS_PER_TOPIC_MAX }),
    }
}

/// The partitions of checked runs, each with a queue of its own.
fn new_partitions(
    image: &mut MetadataImage,
    count: u32,
    runs: &[PartitionRun],
) -> Vec<PartitionImage> {
    let Some(first) = Arc::make_mut(&mut image.topics).allocate_queues(count) else {
        unreachable!("the queue numbers left were counted before");
    };
    let brokers = Arc::make_mut(&mut image.brokers);
    let shards = runs.iter().flat_map(|run| {
        let shard = shard_of(brokers, &run.replicas);
        std::iter::repeat_n(shard, run.count as usize)
    });
    shards
        .zip(first.0..)
        .map(|(shard, queue)| PartitionImage { queue: QueueId(queue), shard })
        .collect()
}

/// The shard on these replicas, made now if it is the first of its kind.
fn shard_of(brokers: &mut BrokersImage, replicas: &[BrokerId]) -> ShardId {
    let replicas = replicas.to_vec();
    if let Some(&shard) = brokers.shard_by_replicas.get(&replicas) {
        return shard;
    }
    let id = ShardId(brokers.next_shard_id);
    brokers.next_shard_id += 1;
    let shard = ShardImage::own(id, replicas.clone(), LeaderEpoch(0));
    brokers.shards.insert(id, Arc::new(shard));
    brokers.shard_by_replicas.insert(replicas, id);
    id
}

mod shards;
#[cfg(test)]
mod tests;
