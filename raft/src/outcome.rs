//! What applying a command yields: the facts its proposer needs, or why it was refused.
//!
//! A refusal is an outcome like any other: it is decided in `apply`, on every node alike, and
//! changes nothing. The texts are Kafka's where Kafka has one, since clients and tests read them.

use braid_base::model::{BrokerId, LeaderEpoch, ProducerId, ShardId, TopicId};
use serde::{Deserialize, Serialize};

use crate::command::{
    AdmitDirectory, AllocateProducerIds, ChangeSyncSet, ClusterId, ClusterInit, Command,
    CreatePartitions, CreateShards, CreateTopics, DeleteTopics, DrainBroker, ElectLeaders,
    FenceBroker, MetadataCommand, RegisterBroker, SetBrokerConfigs, SetResourceConfigs,
    SetTopicConfigs, StartBroker,
};
use crate::plan::names::InvalidTopicName;
use crate::shard::{ChangeRefused, Replica, SyncSet};

/// A topic that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCreated {
    /// Its id.
    pub id: TopicId,
    /// Its number of partitions.
    pub partition_count: u32,
}

/// Producer ids from `first` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    /// The first id of the block.
    pub first: i64,
    /// The id after the block's last.
    pub end: i64,
}

impl ProducerIdBlock {
    /// The ids, in order.
    pub fn ids(self) -> impl Iterator<Item = ProducerId> {
        (self.first..self.end).map(ProducerId)
    }
}

/// A replica list that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum InvalidReplicas {
    /// No replica at all.
    #[error("The manual partition assignment includes an empty replica list.")]
    Empty,
    /// A broker that never registered.
    #[error(
        "The manual partition assignment includes broker {0}, but no such broker is registered."
    )]
    UnknownBroker(BrokerId),
    /// A broker twice.
    #[error("The manual partition assignment includes the broker {0} more than once.")]
    Duplicate(BrokerId),
}

/// A number of partitions that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum InvalidPartitionCount {
    /// None, or a run of none.
    #[error("Number of partitions must be larger than 0.")]
    Zero,
    /// More than one topic may have.
    #[error("The topic would have {count} partitions; the most a topic may have is {max}.")]
    TooMany {
        /// What it would have.
        count: u64,
        /// What it may have.
        max: u32,
    },
    /// Every queue number has been used.
    #[error("The cluster has used up its partition numbers.")]
    Exhausted,
}

/// Why a topic was not created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CreateTopicRejection {
    /// The name breaks Kafka's rules.
    #[error(transparent)]
    InvalidName(InvalidTopicName),
    /// The name is taken.
    #[error("Topic '{0}' already exists.")]
    AlreadyExists(String),
    /// The name differs from another only in `.` against `_`, which metric names cannot tell.
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    Collides {
        /// The name asked for.
        name: String,
        /// The topic in the way.
        existing: String,
    },
    /// The id is taken, or is the nil id.
    #[error("Topic id {0} is already in use.")]
    IdInUse(TopicId),
    /// The partitions cannot be.
    #[error(transparent)]
    Partitions(InvalidPartitionCount),
    /// A replica list cannot be.
    #[error(transparent)]
    Replicas(InvalidReplicas),
}

/// Why a topic was not deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DeleteTopicRejection {
    /// No topic has this id.
    #[error("This server does not host this topic ID.")]
    UnknownId(TopicId),
}

/// Why partitions were not added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CreatePartitionsRejection {
    /// No topic has this id.
    #[error("This server does not host this topic ID.")]
    UnknownId(TopicId),
    /// Someone else changed the number of partitions meanwhile; plan again.
    #[error("The topic has {actual} partition(s), not {expected}, by now.")]
    CountChanged {
        /// The number the command was planned on.
        expected: u32,
        /// The number there is.
        actual: u32,
    },
    /// The partitions cannot be.
    #[error(transparent)]
    Partitions(InvalidPartitionCount),
    /// A replica list cannot be.
    #[error(transparent)]
    Replicas(InvalidReplicas),
}

/// Why a topic's configs were not changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SetTopicConfigsRejection {
    /// No topic has this id.
    #[error("This server does not host this topic ID.")]
    UnknownId(TopicId),
}

/// Why no producer ids were set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum AllocateProducerIdsRejection {
    /// A block of none was asked for.
    #[error("a block of producer ids holds at least one")]
    EmptyBlock,
    /// All 2⁶³ ids are used.
    #[error(
        "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit"
    )]
    Exhausted,
}

/// Why a broker was not registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RegisterBrokerRejection {
    /// A broker's number is not negative.
    #[error("broker id {0} is negative")]
    NegativeId(BrokerId),
    /// One listener name stands for two endpoints.
    #[error("listener {0} is given twice")]
    DuplicateListener(String),
}

/// Why a broker was neither fenced nor unfenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FenceBrokerRejection {
    /// No broker of this number ever registered.
    #[error("broker {0} is not registered")]
    Unknown(BrokerId),
    /// The broker has started again since it was judged.
    #[error("broker {0} has started again since")]
    StartedAgain(BrokerId),
}

/// Why a replicated shard was not made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CreateShardRejection {
    /// The replica list cannot be.
    #[error(transparent)]
    Replicas(InvalidReplicas),
    /// One replica is that broker's own log.
    #[error("a replicated shard has at least two replicas")]
    OneReplica,
    /// The least size of the set in sync cannot be.
    #[error("the least number of replicas in sync is between 1 and {replicas}, not {wanted}")]
    InSyncMin {
        /// What was asked for.
        wanted: u32,
        /// The replicas there would be.
        replicas: usize,
    },
    /// The nil id, or that of another shard.
    #[error("store id {0} is already in use")]
    StoreIdInUse(uuid::Uuid),
    /// These replicas have a shard that is not replicated.
    #[error("shard {0} has these replicas, and is not replicated")]
    NotReplicated(ShardId),
}

/// Why the set of replicas in sync is not the one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ChangeSyncSetRejection {
    /// There is no such replicated shard.
    #[error("shard {0} is not known, or not replicated")]
    UnknownShard(ShardId),
    /// The rules do not allow it.
    #[error(transparent)]
    Refused(#[from] ChangeRefused),
}

/// What an election came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elected {
    /// Who leads from now on.
    pub leader: Replica,
    /// The epoch that begins with it.
    pub epoch: LeaderEpoch,
    /// Records that were committed may be lost.
    pub unclean: bool,
}

/// Why nobody was elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ElectionRejection {
    /// There is no such replicated shard.
    #[error("shard {0} is not known, or not replicated")]
    UnknownShard(ShardId),
    /// Another epoch has begun since the election was found to be needed.
    #[error("epoch {0} has begun since")]
    EpochChanged(LeaderEpoch),
    /// It has a leader, or the preferred one leads already.
    #[error("Leader election not needed for topic partition.")]
    NotNeeded,
    /// The preferred leader is not up, or not in sync.
    #[error("The preferred leader was not available.")]
    PreferredUnavailable,
    /// Nobody who may be elected is up.
    #[error("Eligible topic partition leaders are not available.")]
    NobodyEligible,
}

/// Why the cluster was not named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClusterInitRejection {
    /// It has its name already.
    #[error("the cluster is already initialised; its id is {0}")]
    AlreadyInitialised(ClusterId),
}

/// What a command yielded; a variant per command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of [`ClusterInit`].
    ClusterInit(Result<(), ClusterInitRejection>),
    /// Of [`RegisterBroker`].
    RegisterBroker(Result<(), RegisterBrokerRejection>),
    /// Of [`CreateTopics`], in the command's order.
    CreateTopics(Vec<Result<TopicCreated, CreateTopicRejection>>),
    /// Of [`DeleteTopics`], in the command's order.
    DeleteTopics(Vec<Result<(), DeleteTopicRejection>>),
    /// Of [`CreatePartitions`]: the new number of partitions.
    CreatePartitions(Result<u32, CreatePartitionsRejection>),
    /// Of [`SetTopicConfigs`].
    SetTopicConfigs(Result<(), SetTopicConfigsRejection>),
    /// Of [`SetBrokerConfigs`], which is never refused.
    SetBrokerConfigs,
    /// Of [`AllocateProducerIds`].
    AllocateProducerIds(Result<ProducerIdBlock, AllocateProducerIdsRejection>),
    /// Of [`SetResourceConfigs`], which is never refused.
    SetResourceConfigs,
    /// Of [`FenceBroker`].
    FenceBroker(Result<(), FenceBrokerRejection>),
    /// Of [`CreateShards`], in the command's order.
    CreateShards(Vec<Result<ShardId, CreateShardRejection>>),
    /// Of [`ChangeSyncSet`]: the set from now on.
    ChangeSyncSet(Result<SyncSet, ChangeSyncSetRejection>),
    /// Of [`ElectLeaders`], in the command's order.
    ElectLeaders(Vec<Result<Elected, ElectionRejection>>),
    /// Of [`StartBroker`]: which life of the broker this is.
    StartBroker(Result<u64, RegisterBrokerRejection>),
    /// Of [`DrainBroker`]: how many replicated shards it leads still, since nobody else can.
    DrainBroker(Result<u32, FenceBrokerRejection>),
    /// Of [`AdmitDirectory`], which is never refused.
    AdmitDirectory,
}

macro_rules! commands {
    ($($name:ident => $outcome:ty, $pattern:pat => $value:expr;)+) => {$(
        impl From<$name> for MetadataCommand {
            fn from(command: $name) -> Self { Self::$name(command) }
        }
        impl Command for $name {
            type Outcome = $outcome;
            fn outcome(outcome: Outcome) -> Option<$outcome> {
                if let $pattern = outcome { Some($value) } else { None }
            }
        }
    )+};
}
commands! {
    ClusterInit => Result<(), ClusterInitRejection>, Outcome::ClusterInit(it) => it;
    RegisterBroker => Result<(), RegisterBrokerRejection>, Outcome::RegisterBroker(it) => it;
    CreateTopics => Vec<Result<TopicCreated, CreateTopicRejection>>, Outcome::CreateTopics(it) => it;
    DeleteTopics => Vec<Result<(), DeleteTopicRejection>>, Outcome::DeleteTopics(it) => it;
    CreatePartitions => Result<u32, CreatePartitionsRejection>, Outcome::CreatePartitions(it) => it;
    SetTopicConfigs => Result<(), SetTopicConfigsRejection>, Outcome::SetTopicConfigs(it) => it;
    SetBrokerConfigs => (), Outcome::SetBrokerConfigs => ();
    SetResourceConfigs => (), Outcome::SetResourceConfigs => ();
    FenceBroker => Result<(), FenceBrokerRejection>, Outcome::FenceBroker(it) => it;
    CreateShards => Vec<Result<ShardId, CreateShardRejection>>, Outcome::CreateShards(it) => it;
    ChangeSyncSet => Result<SyncSet, ChangeSyncSetRejection>, Outcome::ChangeSyncSet(it) => it;
    ElectLeaders => Vec<Result<Elected, ElectionRejection>>, Outcome::ElectLeaders(it) => it;
    StartBroker => Result<u64, RegisterBrokerRejection>, Outcome::StartBroker(it) => it;
    DrainBroker => Result<u32, FenceBrokerRejection>, Outcome::DrainBroker(it) => it;
    AdmitDirectory => (), Outcome::AdmitDirectory => ();
    AllocateProducerIds => Result<ProducerIdBlock, AllocateProducerIdsRejection>,
        Outcome::AllocateProducerIds(it) => it;
}
