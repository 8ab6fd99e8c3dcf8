//! A voter that lost its directory is replaced by one of the same number with another directory.
//!
//! What the lost one had promised is lost with it, so it must not vote with the memory of an empty
//! disk. It is taken out of the quorum first, durably, by the rest of it; then the new directory is
//! agreed on, joins as a learner that has no vote, and gets its vote back once it has the log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use braid_base::model::BrokerId;
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::command::AdmitDirectory;
use crate::controller::{Controller, NotNow};
use crate::log_store::Room;
use crate::types::TypeConfig;

/// Bytes that a change of the membership takes in the log, generously.
const MEMBERSHIP_BYTES: u64 = 16 << 10;
/// How long a change of the membership may take.
const CHANGED_WITHIN: Duration = Duration::from_secs(2);
/// How many entries a learner may be behind when it gets its vote.
const BEHIND_MAX: u64 = 100;

/// Why a node's directory is not replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReplaceError {
    /// It is none of the voters.
    #[error("node {0} is not among controller.quorum.voters")]
    NoVoter(BrokerId),
    /// It is heard of, so it has not lost anything.
    #[error("node {0} is running; stop it first")]
    Running(BrokerId),
    /// The directory already is another node's, or the nil one.
    #[error("directory {0} cannot be a new one")]
    DirectoryInUse(Uuid),
    /// The quorum cannot decide now; tried again, it goes on where it stopped.
    #[error("the metadata quorum cannot be changed now: {0}")]
    Unavailable(String),
}

type Changed = Result<
    openraft::raft::ClientWriteResponse<TypeConfig>,
    RaftError<u64, ClientWriteError<u64, BasicNode>>,
>;

impl Controller {
    /// Has a new directory stand for a voter that lost its own, if this node leads. Asked again it does
    /// what is left to do.
    pub(crate) async fn replace(
        &self,
        node: BrokerId,
        directory: Uuid,
    ) -> Result<Result<(), ReplaceError>, NotNow> {
        if self.leads().is_none() {
            return Err(NotNow::NotLeader(self.other_leader()));
        }
        Ok(self.take_in(node, directory).await)
    }

    async fn take_in(&self, node: BrokerId, directory: Uuid) -> Result<(), ReplaceError> {
        let Some(address) = self.member.addresses.get(&node) else {
            return Err(ReplaceError::NoVoter(node));
        };
        let known = self.member.directories();
        let of_another = |(id, at): &(BrokerId, Uuid)| *id != node && *at == directory;
        if directory.is_nil() || known.iter().any(of_another) {
            return Err(ReplaceError::DirectoryInUse(directory));
        }
        let raft = self.raft().map_err(|why| unavailable(&why))?;
        let id = u64::from(node.0.unsigned_abs());
        let is_there = known.contains(&(node, directory));
        if !is_there {
            if node == self.member.node_id || self.machine.image().is_alive(node) {
                return Err(ReplaceError::Running(node));
            }
            // With its vote the new one could undo what the lost one had helped to agree on.
            self.make_room().await?;
            let out = ChangeMembers::RemoveVoters(BTreeSet::from([id]));
            if self.votes(id) {
                within(raft.change_membership(out, false)).await?;
            }
            let admit = AdmitDirectory { node, directory };
            let admitted = self.propose_here(admit.into()).await;
            admitted.map_err(|error| ReplaceError::Unavailable(error.to_string()))?;
        }
        if !self.votes(id) {
            self.make_room().await?;
            let nodes = BTreeMap::from([(id, BasicNode::new(address))]);
            within(raft.change_membership(ChangeMembers::AddNodes(nodes), true)).await?;
        }
        Ok(())
    }

    /// Gives their votes to the learners that have the log: all nodes vote, so whoever does not is on
    /// its way to. To be called now and then.
    pub(crate) async fn promote_learners(&self) {
        let Ok(raft) = self.raft() else { return };
        let ready: BTreeSet<u64> = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let Some(replication) = &metrics.replication else { return };
            let end = metrics.last_log_index.unwrap_or(0);
            let learners = metrics.membership_config.membership().learner_ids();
            let has_log = |id: &u64| {
                let matched = replication.get(id).copied().flatten();
                matched.is_some_and(|matched| matched.index + BEHIND_MAX >= end)
            };
            learners.filter(has_log).collect()
        };
        if ready.is_empty() || self.make_room().await.is_err() {
            return;
        }
        let back = ChangeMembers::AddVoterIds(ready.clone());
        match within(raft.change_membership(back, true)).await {
            Ok(()) => tracing::info!(nodes = ?ready, "nodes have their votes back"),
            Err(error) => tracing::debug!(%error, "votes are given back later"),
        }
    }

    fn votes(&self, id: u64) -> bool {
        self.raft().is_ok_and(|raft| {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.voter_ids().any(|voter| voter == id)
        })
    }

    /// To openraft a full disk is the end; here it is a reason to wait.
    async fn make_room(&self) -> Result<(), ReplaceError> {
        let reserved = self.log.reserve(MEMBERSHIP_BYTES, Room::Spare).await;
        reserved.map_err(|error| ReplaceError::Unavailable(error.to_string()))
    }
}

fn unavailable(why: &NotNow) -> ReplaceError {
    ReplaceError::Unavailable(match why {
        NotNow::NotLeader(_) => "this node does not lead it".to_owned(),
        NotNow::Unready(why) => why.clone(),
    })
}

/// Waits for a change of the membership; one that takes longer may happen yet.
async fn within(change: impl Future<Output = Changed>) -> Result<(), ReplaceError> {
    match timeout(CHANGED_WITHIN, change).await {
        Ok(changed) => {
            changed.map(drop).map_err(|error| ReplaceError::Unavailable(error.to_string()))
        }
        Err(_) => Err(ReplaceError::Unavailable("no majority answers".to_owned())),
    }
}
