//! Where messages go that the broker delivers itself: the partitions of topics, and the topics it
//! makes for what has nowhere to go.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_raft::MetadataNode;
use braid_raft::command::{Command, CreateTopics};
use braid_raft::plan::{Assignment, Limits, TopicRequest, place_topic};

use super::made::{one_more, own_partition};
use crate::config::{Config, TimestampType};
use crate::delivery::DISCARDED_TIMERS;
use crate::env::Env;
use crate::model::TopicId;
use crate::partition::TopicSettingsCache;
use crate::timer::{Destination, Destinations, Target};

/// The topics of the metadata as [`Destinations`].
#[derive(Debug)]
pub(crate) struct TopicDestinations {
    pub(crate) env: Env,
    pub(crate) config: Arc<Config>,
    pub(crate) metadata: MetadataNode,
    pub(crate) topic_settings: Arc<TopicSettingsCache>,
}

impl Destinations for TopicDestinations {
    fn resolve(&self, target: Target) -> Option<Destination> {
        let image = self.metadata.image();
        let topic = image.topic_by_id(target.topic)?;
        let partition = topic.partition(target.partition)?;
        let timestamps = self.topic_settings.of(topic).config.timestamp_type;
        let log_append_time = timestamps == TimestampType::LogAppendTime;
        Some(Destination { queue: partition.queue, log_append_time })
    }

    fn discard(&self) -> Option<Destination> {
        let image = self.metadata.image();
        if let Some(topic) = image.topic(DISCARDED_TIMERS)
            && let Some(partition) = own_partition(&image, topic, self.config.node.id)
        {
            return self.resolve(Target { topic: topic.id, partition });
        }
        self.make(DISCARDED_TIMERS);
        None
    }
}

impl TopicDestinations {
    /// Makes a topic of one partition on this broker, or gives it one there; whoever waits for it looks
    /// again. Made twice it is there once.
    fn make(&self, name: &'static str) {
        let image = self.metadata.image();
        if let Some(topic) = image.topic(name) {
            return self.propose(name, one_more(topic, self.config.node.id));
        }
        let request = TopicRequest {
            name: name.to_owned(),
            id: TopicId(self.env.rng.next_uuid()),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![Assignment { partition: 0, replicas: vec![self.config.node.id] }],
            // What nobody read is kept until somebody deletes it.
            configs: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
        };
        let limits = Limits {
            default_partitions: self.config.topics.partitions,
            default_replication_factor: self.config.topics.replication_factor,
            partitions_max: u32::MAX,
            // What the engines keep beside its records is not replicated.
            replication_factor_max: 1,
        };
        let planned = match place_topic(&image, request, &limits) {
            Ok(planned) => planned,
            Err(error) => return tracing::error!(topic = name, %error, "cannot make a topic"),
        };
        let command = CreateTopics { topics: vec![planned], created_ms: self.env.clock.wall_ms() };
        self.propose(name, command);
    }

    fn propose<C: Command + Send + 'static>(&self, name: &'static str, command: C)
    where
        C::Outcome: Send,
    {
        let metadata = self.metadata.clone();
        drop(self.env.spawner.connection(async move {
            if let Err(error) = metadata.propose(command).await {
                tracing::error!(topic = name, %error, "cannot make a topic");
            }
        }));
    }
}
