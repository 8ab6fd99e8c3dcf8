//! What may change replicated shards: making them, who is in sync, who leads, and the lives of the
//! brokers that hold them.

use braid_base::model::{BrokerId, LeaderEpoch, ShardId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RegisterBroker;
use crate::shard::Proposal;

/// One replicated shard to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewShard {
    /// The brokers that shall hold it, the preferred leader first; at least two.
    pub replicas: Vec<BrokerId>,
    /// Fewest replicas in sync with which anything is committed; from one to all of them.
    pub in_sync_min: u32,
    /// What the store of each replica is made with: random, unique.
    pub store_id: Uuid,
}

/// Makes replicated shards, each with its own result. One that is there already is left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateShards {
    /// The shards.
    pub shards: Vec<NewShard>,
}

/// A leader asks for another set of replicas in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSyncSet {
    /// The shard it leads.
    pub shard: ShardId,
    /// What it asks for.
    pub proposal: Proposal,
}

/// By which rule a leader is elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ElectionKind {
    /// The first replica, if it is up and in sync, takes the place of another one.
    Preferred,
    /// Where nobody leads, one that holds all that is committed.
    Clean,
    /// Where nobody leads and nobody is up who holds all that is committed, any replica.
    Unclean,
    /// The leader has given up for good in its epoch, since its lease was over, and lives: one that
    /// holds all that is committed leads in a new one, perhaps the same.
    Resigned,
}

/// One election to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardElection {
    /// The shard.
    pub shard: ShardId,
    /// By which rule.
    pub kind: ElectionKind,
    /// The epoch in which it was found to be needed; in another one nothing happens. None is any.
    pub epoch: Option<LeaderEpoch>,
}

/// Holds elections, each with its own result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectLeaders {
    /// The elections, in this order.
    pub elections: Vec<ShardElection>,
}

/// Makes a broker of a cluster known at its start. Its earlier life has ended, and what it led is
/// led anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartBroker {
    /// Who it is and where it is reached.
    pub registration: RegisterBroker,
    /// The replicated shards whose logs lack what it may have acknowledged: lost or damaged.
    pub damaged: Vec<ShardId>,
}

/// Has another directory stand for a voter of the metadata quorum, which has lost its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitDirectory {
    /// The voter. It must not be one while this is decided.
    pub node: BrokerId,
    /// The mark of its new directory.
    pub directory: Uuid,
}

/// Says that a broker is about to stop: what others can lead, they lead from now on. It stays in
/// sync and is heard until it is fenced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBroker {
    /// The broker.
    pub broker: BrokerId,
    /// The life of it that is about to end; another one is left alone.
    pub incarnation: Uuid,
}
