//! Shards: which brokers hold one, who leads it, who is in sync.

use braid_base::model::{BrokerId, LeaderEpoch, ShardId};
use uuid::Uuid;

use crate::shard::{Replica, ShardState, SyncSet};

/// One CommitLog: the partitions on it share its leader, replicas and epoch.
///
/// A *replicated* shard has several replicas, a log of its own on each of them, and its state changes
/// by the rules of [`ShardState`]. Any other is a broker's own log: led by that broker for ever, in a
/// new epoch whenever it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardImage {
    /// Its number.
    pub id: ShardId,
    /// Replicas, leader, epoch, set in sync. Of a broker's own log the leader's incarnation is zero.
    pub state: ShardState,
    /// Of a replicated shard: the id that the store of each replica is made with.
    pub store_id: Option<Uuid>,
}

impl ShardImage {
    /// The log of the first of these brokers.
    pub(crate) fn own(id: ShardId, replicas: Vec<BrokerId>, epoch: LeaderEpoch) -> Self {
        let mut state = ShardState::new(replicas, 1);
        let leader = state.replicas.first();
        state.leader = leader.map(|broker| Replica { broker: *broker, incarnation: 0 });
        state.epoch = epoch;
        Self { id, state, store_id: None }
    }

    /// Whether its replicas have a log of their own for it, which they keep the same.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        self.store_id.is_some()
    }

    /// The brokers that hold it, the preferred leader first.
    #[must_use]
    pub fn replicas(&self) -> &[BrokerId] {
        &self.state.replicas
    }

    /// The broker that leads in this epoch, whether or not it is heard of.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        self.state.leader.map(|leader| leader.broker)
    }

    /// The leader's term; grows whenever leadership starts anew, also on the same broker.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        self.state.epoch
    }

    /// The replicas that hold everything acknowledged (Kafka's ISR), and the set's version.
    #[must_use]
    pub fn in_sync(&self) -> &SyncSet {
        &self.state.in_sync
    }

    /// The members of the set in sync, in the order of the replicas.
    pub fn in_sync_members(&self) -> impl Iterator<Item = BrokerId> {
        let members = &self.state.in_sync.members;
        self.state.replicas.iter().copied().filter(|broker| members.contains(broker))
    }

    /// Replicas outside of the set that hold everything committed (Kafka's ELR, KIP-966), in the
    /// order of the replicas.
    pub fn eligible(&self) -> impl Iterator<Item = BrokerId> {
        let eligible = &self.state.eligible;
        self.state.replicas.iter().copied().filter(|broker| eligible.contains(broker))
    }
}
