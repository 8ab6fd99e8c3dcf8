//! The image as text, a fact per line in a fixed order: for golden scenarios and for people.

use std::fmt::{self, Display};

use super::{MetadataImage, TopicImage};
use crate::command::ConfigResource;

impl Display for MetadataImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.cluster_id() {
            writeln!(f, "cluster {id}")?;
        }
        for (name, level) in self.features() {
            writeln!(f, "feature {name} {level}")?;
        }
        for broker in self.brokers() {
            write!(f, "broker {} incarnation {}", broker.id, broker.incarnation)?;
            if let Some(rack) = &broker.rack {
                write!(f, " rack {rack}")?;
            }
            let fenced = if broker.fenced { " fenced" } else { "" };
            writeln!(f, " registered {}{fenced}", broker.registered_ms)?;
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
            writeln!(
                f,
                "shard {} replicas {:?} leader {} epoch {} in-sync {:?}",
                shard.id,
                shard.replicas.iter().map(|b| b.0).collect::<Vec<_>>(),
                shard.leader,
                shard.epoch,
                shard.sync_state_set.iter().map(|b| b.0).collect::<Vec<_>>(),
            )?;
        }
        for topic in self.topics.iter() {
            write_topic(f, topic)?;
        }
        writeln!(f, "next queue {} producer {}", self.next_queue_id(), self.next_producer_id)
    }
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
