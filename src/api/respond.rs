//! What most handlers share: texts, who this broker is, and finding a partition or its error.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::StrBytes;
use braid_protocol::messages::BrokerId;
use braid_raft::image::{MetadataImage, PartitionImage, TopicImage};

use super::Broker;
use crate::model::{self, LeaderEpoch, QueueId};
use crate::partition::{LedShard, Partitions};

/// The epoch of every partition in a broker's own log: it stays there.
pub(crate) const LEADER_EPOCH: LeaderEpoch = LeaderEpoch(0);

/// Kafka's mark for "authorized operations were not asked for".
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;

/// Every operation on a cluster: there is no authorizer, so everything is allowed.
pub(crate) const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

/// Kafka's sentence for UNKNOWN_TOPIC_OR_PARTITION.
pub(crate) const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// Kafka's sentence for UNKNOWN_TOPIC_ID.
pub(crate) const UNKNOWN_TOPIC_ID: &str = "This server does not host this topic ID.";

pub(crate) use crate::config::is_internal_topic as is_internal;

/// Why clients may not write to a topic, if so: only the broker itself keeps these.
pub(crate) fn internal_write_refused(name: &str) -> Option<&'static str> {
    is_internal(name)
        .then_some("This topic is the broker's own; commit offsets through the group APIs instead.")
}

/// Text for an answer.
pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// This broker's number.
pub(crate) fn node_id(broker: &Broker) -> BrokerId {
    BrokerId(broker.config.node.id.0)
}

/// A broker as a client of one listener sees it.
pub(crate) struct Seen {
    pub(crate) node_id: BrokerId,
    pub(crate) host: StrBytes,
    pub(crate) port: i32,
    pub(crate) rack: Option<StrBytes>,
}

/// The brokers that live and have an address on a listener.
pub(crate) fn brokers_on<'a>(
    image: &'a Arc<MetadataImage>,
    listener: &'a str,
) -> impl Iterator<Item = Seen> + 'a {
    let alive = image.brokers().filter(|broker| !broker.fenced);
    alive.filter_map(move |broker| seen(broker, listener))
}

/// A broker, if it has an address on a listener.
pub(crate) fn seen(broker: &braid_raft::image::BrokerImage, listener: &str) -> Option<Seen> {
    let endpoint = broker.endpoint(listener)?;
    Some(Seen {
        node_id: BrokerId(broker.id.0),
        host: text(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_deref().map(text),
    })
}

/// Who clients are told is the controller: the leader of the metadata quorum as far as this broker
/// knows. Every broker takes what is meant for the controller.
pub(crate) fn controller_id(broker: &Broker, image: &MetadataImage) -> BrokerId {
    let leader = broker.metadata.leader().filter(|leader| image.is_alive(*leader));
    leader.map_or_else(|| node_id(broker), |leader| BrokerId(leader.0))
}

/// Where a partition is, as clients are told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// None while the broker that leads it is not heard of.
    pub(crate) leader: Option<BrokerId>,
    pub(crate) replicas: Vec<BrokerId>,
    pub(crate) in_sync: Vec<BrokerId>,
    pub(crate) offline: Vec<BrokerId>,
    /// The replicas out of sync that hold everything committed (KIP-966).
    pub(crate) eligible: Vec<BrokerId>,
    pub(crate) epoch: LeaderEpoch,
}

/// Kafka's mark for a partition without a leader.
pub(crate) const NO_LEADER: BrokerId = BrokerId(-1);

pub(crate) fn placement(image: &MetadataImage, partition: PartitionImage) -> Placement {
    let ids = |ids: &[model::BrokerId]| ids.iter().map(|id| BrokerId(id.0)).collect::<Vec<_>>();
    let shard = image.shard(partition.shard);
    let replicas = shard.map_or(&[][..], |shard| shard.replicas());
    let offline = replicas.iter().filter(|id| !image.is_alive(**id));
    Placement {
        leader: image.leader(partition).map(|id| BrokerId(id.0)),
        replicas: ids(replicas),
        in_sync: shard.map_or_else(Vec::new, |shard| {
            shard.in_sync_members().map(|id| BrokerId(id.0)).collect()
        }),
        offline: offline.map(|id| BrokerId(id.0)).collect(),
        eligible: shard
            .map_or_else(Vec::new, |shard| shard.eligible().map(|id| BrokerId(id.0)).collect()),
        epoch: leader_epoch(image, partition),
    }
}

/// The term of a partition's leader, as clients are told.
pub(crate) fn leader_epoch(image: &MetadataImage, partition: PartitionImage) -> LeaderEpoch {
    let replicated = image.shard(partition.shard).filter(|shard| shard.is_replicated());
    replicated.map_or(LEADER_EPOCH, |shard| shard.epoch())
}

/// Where the records of a partition are that this broker leads.
pub(crate) enum Home<'a> {
    /// In its own log.
    Own(&'a Partitions),
    /// In the log of a replicated shard.
    Led(Arc<LedShard>),
}

impl Home<'_> {
    pub(crate) fn partitions(&self) -> &Partitions {
        match self {
            Self::Own(partitions) => partitions,
            Self::Led(led) => led.partitions(),
        }
    }

    /// The term in which it leads.
    pub(crate) fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Own(_) => LEADER_EPOCH,
            Self::Led(led) => led.epoch(),
        }
    }

    /// Refuses to say where a partition ends while that is not known (KIP-207).
    pub(crate) fn check_end_known(&self) -> Result<(), ErrorCode> {
        match self {
            Self::Led(led) if !led.knows_committed() => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
            Self::Own(_) | Self::Led(_) => Ok(()),
        }
    }

    /// Checks the epoch a client believes in; -1 means it has no belief.
    pub(crate) fn check_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        match current_leader_epoch {
            -1 => Ok(()),
            epoch if epoch < self.epoch().0 => Err(ErrorCode::FENCED_LEADER_EPOCH),
            epoch if epoch > self.epoch().0 => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }
}

/// A partition that this broker leads.
pub(crate) struct There<'a> {
    pub(crate) queue: QueueId,
    pub(crate) home: Home<'a>,
}

impl There<'_> {
    pub(crate) fn partitions(&self) -> &Partitions {
        self.home.partitions()
    }
}

/// A topic's partition that this broker leads, or the code for why there is none here.
pub(crate) fn led_here<'a>(
    broker: &'a Broker,
    image: &MetadataImage,
    topic: Option<&TopicImage>,
    partition: i32,
) -> Result<There<'a>, ErrorCode> {
    let partition = topic.and_then(|topic| topic.partition(partition));
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let home = broker.home(image, partition).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    Ok(There { queue: partition.queue, home })
}

/// The queue of a topic's partition that is in this broker's own log, or the code for why there is
/// none.
pub(crate) fn queue_of(
    broker: &Broker,
    image: &MetadataImage,
    topic: Option<&TopicImage>,
    partition: i32,
) -> Result<QueueId, ErrorCode> {
    let partition = topic.and_then(|topic| topic.partition(partition));
    let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if broker.leads(image, partition) {
        Ok(partition.queue)
    } else {
        Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
    }
}
