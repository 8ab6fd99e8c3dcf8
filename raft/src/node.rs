//! The metadata node: a member of the quorum that agrees on the cluster's metadata. One node alone
//! is a quorum of one, ready at once.
//!
//! [`MetadataNode::propose`] is the only way to change metadata; [`MetadataNode::image`] and
//! [`MetadataNode::watch`] are how it is read. All openraft is behind this; its tasks run on the
//! tokio runtime that [`MetadataNode::open`] was called on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_base::env::{Env, Rng};
use braid_base::model::BrokerId;
use openraft::{Raft, ServerState, SnapshotPolicy as RaftSnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{ClusterId, ClusterInit, Command, CreateShards, PartitionRun};
use crate::directory::{self, OpenError};
use crate::identity::Identity;
use crate::image::MetadataImage;
use crate::keeper::{self, Health, SnapshotPolicy};
use crate::log_store::{Limits, LogError, LogStore};
use crate::network::message::{QuorumState, VoterState};
use crate::network::peers::Peers;
use crate::plan::missing_shards;
use crate::proposer::{self, COMMAND_BYTES_MAX, Pending, ProposeError};
use crate::snapshot::SnapshotFile;
use crate::state_machine::{Shared, StateMachine};
use crate::types::TypeConfig;

/// Proposals that may wait for their turn before `propose` itself waits.
const QUEUE_LEN: usize = 1024;

/// What a metadata node needs to know.
#[derive(Debug, Clone)]
pub struct MetadataConfig {
    /// Its own directory.
    pub dir: PathBuf,
    /// Its number; the directory of another number is refused.
    pub node_id: BrokerId,
    /// The cluster it must belong to. None takes what the directory says, and a new random id
    /// where it says nothing.
    pub cluster_id: Option<ClusterId>,
    /// Feature levels that a new cluster begins with.
    pub features: BTreeMap<String, i16>,
    /// The quorum it is part of; none for a node alone.
    pub quorum: Option<QuorumConfig>,
}

/// The quorum's core died; metadata can no longer be changed, and the process should end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata node failed: {0}")]
pub struct MetadataFailed(pub Arc<str>);

/// A handle on the metadata node. Clones share it. The node runs until it is shut down, also
/// when no handle is left.
#[derive(Debug, Clone)]
pub struct MetadataNode {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft<TypeConfig>,
    log: LogStore,
    node_id: BrokerId,
    machine: Arc<Shared>,
    proposals: mpsc::Sender<Pending>,
    health: watch::Receiver<Health>,
    several: Option<Several>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

impl MetadataNode {
    /// Opens the node of a directory; forms a new cluster of one in an empty one. When this
    /// returns the node leads, and its image has everything that was ever acknowledged. With a quorum of
    /// several it waits for a majority of it, and for all of them before the cluster is formed.
    ///
    /// # Errors
    /// The directory is in use, damaged, or of another node or cluster.
    pub async fn open(env: &Env, config: MetadataConfig) -> Result<Self, OpenError> {
        Self::open_with(env, config, Limits::default(), SnapshotPolicy::default()).await
    }

    pub(crate) async fn open_with(
        env: &Env,
        config: MetadataConfig,
        limits: Limits,
        policy: SnapshotPolicy,
    ) -> Result<Self, OpenError> {
        let Ok(raft_id) = u64::try_from(config.node_id.0) else {
            return Err(OpenError::NegativeNodeId(config.node_id));
        };
        if let Some(quorum) = &config.quorum {
            // Boxed: a node alone does not carry what it never does.
            return Box::pin(Self::open_several(env, &config, quorum, limits, policy)).await;
        }
        let opened = directory::open(env, &config, limits).await?;
        let log = LogStore::new(env.spawner.clone(), opened.log, opened.lock);
        let file = SnapshotFile::new(&env.fs, &config.dir);
        let machine = StateMachine::new(env.spawner.clone(), file, opened.snapshot);
        let shared = machine.shared();
        let raft = Raft::new(raft_id, raft_config(), Peers::Alone, log.clone(), machine)
            .await
            .map_err(|fatal| OpenError::Stopped(fatal.to_string()))?;

        let (health_sender, health) = watch::channel(Health::Running);
        let keeper = keeper::run(raft.clone(), Arc::clone(&shared), policy, health_sender);
        let _detached = env.spawner.critical("metadata keeper", keeper);
        let (proposals, queue) = mpsc::channel(QUEUE_LEN);
        let proposer = proposer::run(raft.clone(), log.clone(), None, queue);
        let _detached = env.spawner.critical("metadata proposer", proposer);
        let node = Self {
            inner: Arc::new(Inner {
                raft,
                log,
                node_id: config.node_id,
                machine: shared,
                proposals,
                health,
                several: None,
            }),
        };
        match node.form(env, &config, opened.identity).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.shutdown().await;
                Err(error)
            }
        }
    }

    /// Leads the quorum, forming it first if need be, and names the cluster if it has no name.
    async fn form(
        &self,
        env: &Env,
        config: &MetadataConfig,
        identity: Option<Identity>,
    ) -> Result<(), OpenError> {
        self.lead(&config.dir).await?;
        let wanted = identity.as_ref().map(|identity| &identity.cluster_id);
        let cluster_id = match (self.image().cluster_id(), wanted) {
            (Some(found), _) => found.clone(),
            (None, Some(wanted)) => self.name_cluster(wanted, config).await?,
            // The identity was taken away between two starts, the first of which was cut short.
            (None, None) => {
                let random = || ClusterId::from_uuid(env.rng.next_uuid());
                let wanted = config.cluster_id.clone().unwrap_or_else(random);
                self.name_cluster(&wanted, config).await?
            }
        };
        directory::check_cluster(&config.dir, wanted.or(config.cluster_id.as_ref()), &cluster_id)?;
        match identity {
            Some(_) => Ok(()),
            None => directory::restore_identity(env, config, cluster_id).await,
        }
    }

    /// Becomes the leader and applies all there is in the log. A quorum of one needs no timeout.
    async fn lead(&self, dir: &Path) -> Result<(), OpenError> {
        let stopped = |error: &dyn std::fmt::Display| OpenError::Stopped(error.to_string());
        let raft = &self.inner.raft;
        let Ok(id) = u64::try_from(self.inner.node_id.0) else {
            unreachable!("checked before openraft was started");
        };
        if raft.is_initialized().await.map_err(|fatal| stopped(&fatal))? {
            let (leads, member) = {
                let metrics = raft.metrics();
                let metrics = metrics.borrow();
                let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
                (metrics.current_leader == Some(id), voters == [id])
            };
            if !member {
                let (dir, node_id) = (dir.to_owned(), self.inner.node_id);
                return Err(OpenError::NotAMember { dir, node_id });
            }
            if !leads {
                raft.trigger().elect().await.map_err(|fatal| stopped(&fatal))?;
            }
        } else {
            raft.initialize(BTreeSet::from([id])).await.map_err(|error| stopped(&error))?;
        }
        let mut metrics = raft.metrics();
        let ready = metrics.wait_for(|metrics| {
            let applied = metrics.last_applied.map(|id| id.index);
            let leads = metrics.state == ServerState::Leader;
            metrics.running_state.is_err()
                || (leads && applied.is_some() && applied >= metrics.last_log_index)
        });
        match ready.await {
            Ok(metrics) => match &metrics.running_state {
                Ok(()) => Ok(()),
                Err(fatal) => Err(stopped(fatal)),
            },
            Err(gone) => Err(stopped(&gone)),
        }
    }

    async fn name_cluster(
        &self,
        cluster_id: &ClusterId,
        config: &MetadataConfig,
    ) -> Result<ClusterId, OpenError> {
        let features = config.features.clone();
        let init = ClusterInit { cluster_id: cluster_id.clone(), features };
        match self.propose(init).await {
            Ok(Ok(())) => Ok(cluster_id.clone()),
            Ok(Err(rejection)) => Err(OpenError::Stopped(rejection.to_string())),
            Err(error) => Err(OpenError::Stopped(error.to_string())),
        }
    }

    /// Proposes a command and waits until it is on disk, applied, and visible in
    /// [`image`](Self::image). Concurrent proposals share syncs. Dropping the future does not take
    /// the proposal back.
    ///
    /// # Errors
    /// The command has no outcome; see [`ProposeError`] for whether it may still take effect.
    pub async fn propose<C: Command>(&self, command: C) -> Result<C::Outcome, ProposeError> {
        let command = command.into();
        let encoded = command.encode();
        if encoded.len() > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { size_bytes: encoded.len() });
        }
        let (reply, answer) = oneshot::channel();
        let pending = Pending { command, encoded, reply };
        self.inner.proposals.send(pending).await.map_err(|_| ProposeError::Stopped)?;
        let (outcome, index) = answer.await.map_err(|_| ProposeError::Stopped)??;
        let mut images = self.watch();
        let visible = images.wait_for(|image| image.applied_index() >= index).await;
        visible.map_err(|_| ProposeError::Stopped)?;
        match C::outcome(outcome) {
            Some(outcome) => Ok(outcome),
            None => unreachable!("apply answers each command with its own outcome"),
        }
    }

    /// Makes the replicated shards that partitions are to be on, where they are not there. To be waited
    /// for before partitions are placed on them; whether their replicas can be, that will say.
    ///
    /// # Errors
    /// See [`propose`](Self::propose).
    pub async fn make_shards(
        &self,
        runs: impl Iterator<Item = &PartitionRun>,
        in_sync_min: i32,
        rng: &dyn Rng,
    ) -> Result<(), ProposeError> {
        let shards = missing_shards(&self.image(), runs, in_sync_min, rng);
        if shards.is_empty() {
            return Ok(());
        }
        for refused in
            self.propose(CreateShards { shards }).await?.into_iter().filter_map(Result::err)
        {
            tracing::debug!(%refused, "a shard was not made");
        }
        Ok(())
    }

    /// The image as of now. Load it once per request.
    #[must_use]
    pub fn image(&self) -> Arc<MetadataImage> {
        self.inner.machine.image()
    }

    /// Where every new image appears; a slow reader may miss some, never the newest.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.inner.machine.watch()
    }

    /// This node's number.
    #[must_use]
    pub fn node_id(&self) -> BrokerId {
        self.inner.node_id
    }

    /// The node that leads the quorum, as far as this one knows.
    #[must_use]
    pub fn leader(&self) -> Option<BrokerId> {
        if let Some(several) = &self.inner.several {
            return several.leader();
        }
        let metrics = self.inner.raft.metrics();
        let leader = metrics.borrow().current_leader?;
        i32::try_from(leader).ok().map(BrokerId)
    }

    /// The term of the quorum: grows with every election.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.inner.raft.metrics().borrow().current_term
    }

    fn quorum_of_one(&self) -> QuorumState {
        let applied = self.image().applied_index();
        QuorumState {
            leader: self.inner.node_id,
            term: self.term(),
            committed: applied,
            voters: vec![VoterState { node_id: self.inner.node_id, matched: Some(applied) }],
        }
    }

    /// Waits until the node fails. Never returns while it runs, nor after [`Self::shutdown`].
    pub async fn failed(&self) -> MetadataFailed {
        let mut health = self.inner.health.clone();
        let failed = health.wait_for(|health| matches!(health, Health::Failed(_))).await;
        match failed.as_deref() {
            Ok(Health::Failed(why)) => MetadataFailed(Arc::clone(why)),
            Ok(Health::Running | Health::Stopped) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops the node in order and lets go of its directory. Proposals under way may still take
    /// effect; their callers learn nothing.
    pub async fn shutdown(&self) {
        if let Some(several) = &self.inner.several {
            several.stop();
        }
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the metadata quorum did not stop in order");
        }
        match self.inner.log.close().await {
            Ok(()) | Err(LogError::Failed) => {}
            Err(error) => tracing::warn!(%error, "the metadata log was not closed in order"),
        }
    }
}

/// openraft's settings for a quorum of one. Elections are asked for, never timed; the tick that
/// would time them wakes once in some minutes. Snapshots are the keeper's to trigger.
fn raft_config() -> Arc<openraft::Config> {
    Arc::new(openraft::Config {
        cluster_name: "braid".to_owned(),
        heartbeat_interval: 600_000,
        election_timeout_min: 1_200_000,
        election_timeout_max: 2_400_000,
        enable_tick: false,
        enable_heartbeat: false,
        enable_elect: false,
        snapshot_policy: RaftSnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        ..openraft::Config::default()
    })
}

mod several;
#[cfg(test)]
mod tests;

use several::Several;
pub use several::{QuorumConfig, QuorumUnavailable};
