//! The image as text, a fact per line in a fixed order: for golden scenarios and for people.

use std::fmt::{self, Display};

use braid_base::model::BrokerId;

use super::{MetadataImage, ShardImage, TopicImage};
use crate::command::ConfigResource;

impl Display for MetadataImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.cluster_id() {
            writeln!(f, "cluster {id}")?;
        }
        for (name, level) in self.features() {
            writeln!(f, "feature {name} {level}")?;
        }
        for (node, directory) in self.replaced_directories() {
            let empty = if self.begins_with_nothing(*node) { ", empty" } else { "" };
            writeln!(f, "voter {node} has directory {directory}{empty}")?;
        }
        for broker in self.brokers() {
            write!(f, "broker {} incarnation {}", broker.id, broker.incarnation)?;
            if let Some(rack) = &broker.rack {
                write!(f, " rack {rack}")?;
            }
            if broker.run > 0 {
                write!(f, " run {}", broker.run)?;
            }
            let fenced = if broker.fenced { " fenced" } else { "" };
            let draining = if broker.draining { " draining" } else { "" };
            writeln!(f, " registered {}{fenced}{draining}", broker.registered_ms)?;
            for endpoint in &broker.endpoints {
                writeln!(f, "  {} {}:{}", endpoint.listener, endpoint.host, endpoint.port)?;
            }
        }
        for (broker, configs) in &self.configs.brokers {
            match broker {
                Some(broker) => writeln!(f, "broker-configs {broker}")?,
                None => writeln!(f, "broker-configs default")?,
            }
            for (key, value) in &**configs {
                writeln!(f, "  {key}={value}")?;
            }
        }
        for (resource, configs) in self.configured_resources() {
            match resource {
                ConfigResource::Group(id) => writeln!(f, "group-configs {id}")?,
                ConfigResource::ClientMetrics(name) => writeln!(f, "client-metrics {name}")?,
            }
            for (key, value) in configs {
                writeln!(f, "  {key}={value}")?;
            }
        }
        for shard in self.shards() {
            write_shard(f, shard)?;
        }
        for topic in self.topics.iter() {
            write_topic(f, topic)?;
        }
        writeln!(f, "next queue {} producer {}", self.next_queue_id(), self.next_producer_id)
    }
}

fn write_shard(f: &mut fmt::Formatter<'_>, shard: &ShardImage) -> fmt::Result {
    let ids = |ids: &mut dyn Iterator<Item = BrokerId>| ids.map(|id| id.0).collect::<Vec<_>>();
    write!(f, "shard {} replicas {:?}", shard.id, ids(&mut shard.replicas().iter().copied()))?;
    match shard.state.leader {
        Some(leader) if shard.is_replicated() => {
            write!(f, " leader {}/{}", leader.broker, leader.incarnation)?;
        }
        Some(leader) => write!(f, " leader {}", leader.broker)?,
        None => write!(f, " leader none")?,
    }
    write!(f, " epoch {} in-sync {:?}", shard.epoch(), ids(&mut shard.in_sync_members()))?;
    if let Some(store) = shard.store_id {
        let (version, min) = (shard.in_sync().version, shard.state.in_sync_min);
        let eligible = ids(&mut shard.eligible());
        write!(f, " version {version} eligible {eligible:?} min {min} store {}", store.as_u128())?;
    }
    writeln!(f)
}

fn write_topic(f: &mut fmt::Formatter<'_>, topic: &TopicImage) -> fmt::Result {
    writeln!(f, "topic {} id {} created {}", topic.name, topic.id, topic.created_ms)?;
    for (key, value) in &topic.configs {
        writeln!(f, "  {key}={value}")?;
    }
    for (number, partition) in topic.partitions.iter().enumerate() {
        writeln!(f, "  {number}: queue {} shard {}", partition.queue, partition.shard)?;
    }
    Ok(())
}
