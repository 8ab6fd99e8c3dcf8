//! The metadata node: a member of the quorum that agrees on the cluster's metadata. One node alone
//! is a quorum of one, ready at once.
//!
//! [`MetadataNode::propose`] is the only way to change metadata; [`MetadataNode::image`] and
//! [`MetadataNode::watch`] are how it is read. All openraft is behind this; its tasks run on the
//! tokio runtime that [`MetadataNode::open`] was called on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_base::env::Env;
use braid_base::env::fs::Lock;
use braid_base::model::BrokerId;
use openraft::{Raft, ServerState, SnapshotPolicy as RaftSnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{ClusterId, ClusterInit, Command};
use crate::dirs;
use crate::identity::{Identity, IdentityError};
use crate::image::MetadataImage;
use crate::keeper::{self, Health, SnapshotPolicy};
use crate::log_store::{Limits, LogError, LogFiles, LogStore};
use crate::network::Alone;
use crate::proposer::{self, COMMAND_BYTES_MAX, Pending, ProposeError};
use crate::snapshot::{Applied, SnapshotError, SnapshotFile};
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
}

/// Why a metadata node did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or locked.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The directory or file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The metadata log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The identity file cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directory's identity is there but its log is not.
    #[error(
        "{} belongs to node {node_id} of cluster {cluster_id}, but its metadata log is gone; \
         restore it, or start with an empty directory and another node id", dir.display()
    )]
    LogLost {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        node_id: BrokerId,
        /// Its cluster.
        cluster_id: ClusterId,
    },
    /// A node's number is not negative.
    #[error("node id {0} is negative")]
    NegativeNodeId(BrokerId),
    /// The directory is of another node.
    #[error("{} belongs to node {found}, not to node {wanted}", dir.display())]
    WrongNode {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who asked.
        wanted: BrokerId,
    },
    /// The directory is of another cluster.
    #[error("{} belongs to cluster {found}, not to cluster {wanted}", dir.display())]
    WrongCluster {
        /// The directory.
        dir: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The cluster wanted.
        wanted: ClusterId,
    },
    /// The metadata log's members do not include this node.
    #[error("{} is the directory of a metadata quorum without node {node_id}", dir.display())]
    NotAMember {
        /// The directory.
        dir: PathBuf,
        /// Who asked.
        node_id: BrokerId,
    },
    /// The quorum stopped while it started.
    #[error("the metadata quorum stopped while starting: {0}")]
    Stopped(String),
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
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("node_id", &self.node_id).finish_non_exhaustive()
    }
}

/// What a directory holds, read before openraft starts.
struct Loaded {
    lock: Box<dyn Lock>,
    identity: Option<Identity>,
    log: LogFiles,
    snapshot: Option<Applied>,
}

impl MetadataNode {
    /// Opens the node of a directory; forms a new cluster of one in an empty one. When this
    /// returns the node leads, and its image has everything that was ever acknowledged.
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
        let loaded = load(env, &config, limits).await?;
        let log = LogStore::new(env.spawner.clone(), loaded.log, loaded.lock);
        let file = SnapshotFile::new(&env.fs, &config.dir);
        let machine = StateMachine::new(env.spawner.clone(), file, loaded.snapshot);
        let shared = machine.shared();
        let raft = Raft::new(raft_id, raft_config(), Alone, log.clone(), machine)
            .await
            .map_err(|fatal| OpenError::Stopped(fatal.to_string()))?;

        let (health_sender, health) = watch::channel(Health::Running);
        let keeper = keeper::run(raft.clone(), Arc::clone(&shared), policy, health_sender);
        let _detached = env.spawner.critical("metadata keeper", keeper);
        let (proposals, queue) = mpsc::channel(QUEUE_LEN);
        let proposer = proposer::run(raft.clone(), log.clone(), queue);
        let _detached = env.spawner.critical("metadata proposer", proposer);
        let node = Self {
            inner: Arc::new(Inner {
                raft,
                log,
                node_id: config.node_id,
                machine: shared,
                proposals,
                health,
            }),
        };
        match node.form(env, &config, loaded.identity).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.shutdown().await;
                Err(error)
            }
        }
    }

    /// Leads the quorum, forming it first if need be, and sees to the directory's identity.
    async fn form(
        &self,
        env: &Env,
        config: &MetadataConfig,
        identity: Option<Identity>,
    ) -> Result<(), OpenError> {
        self.lead(&config.dir).await?;
        let cluster_id = match self.image().cluster_id() {
            Some(id) => id.clone(),
            None => self.name_cluster(env, config).await?,
        };
        check_cluster(config, &cluster_id)?;
        if let Some(identity) = identity {
            return if identity.cluster_id == cluster_id {
                Ok(())
            } else {
                let (dir, wanted) = (config.dir.clone(), identity.cluster_id);
                Err(OpenError::WrongCluster { dir, found: cluster_id, wanted })
            };
        }
        let (node_id, directory_id) = (config.node_id, env.rng.next_uuid());
        let identity = Identity { cluster_id, node_id, directory_id };
        let (fs, dir) = (Arc::clone(&env.fs), config.dir.clone());
        let write = env.spawner.blocking(move || identity.write(&*fs, &dir)).await;
        write.map_err(|panic| OpenError::Stopped(panic.to_string()))??;
        Ok(())
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
                let mut voters = metrics.membership_config.voter_ids();
                (metrics.current_leader == Some(id), voters.any(|voter| voter == id))
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
        env: &Env,
        config: &MetadataConfig,
    ) -> Result<ClusterId, OpenError> {
        let cluster_id = match &config.cluster_id {
            Some(id) => id.clone(),
            None => ClusterId::from_uuid(env.rng.next_uuid()),
        };
        let features = config.features.clone();
        let init = ClusterInit { cluster_id: cluster_id.clone(), features };
        match self.propose(init).await {
            Ok(Ok(())) => Ok(cluster_id),
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
        let metrics = self.inner.raft.metrics();
        let leader = metrics.borrow().current_leader?;
        i32::try_from(leader).ok().map(BrokerId)
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
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the metadata quorum did not stop in order");
        }
        match self.inner.log.close().await {
            Ok(()) | Err(LogError::Failed) => {}
            Err(error) => tracing::warn!(%error, "the metadata log was not closed in order"),
        }
    }
}

fn check_cluster(config: &MetadataConfig, found: &ClusterId) -> Result<(), OpenError> {
    match &config.cluster_id {
        Some(wanted) if wanted != found => {
            let (found, wanted) = (found.clone(), wanted.clone());
            Err(OpenError::WrongCluster { dir: config.dir.clone(), found, wanted })
        }
        Some(_) | None => Ok(()),
    }
}

/// Locks the directory and reads what it holds, off the async workers.
async fn load(env: &Env, config: &MetadataConfig, limits: Limits) -> Result<Loaded, OpenError> {
    let (fs, config) = (Arc::clone(&env.fs), config.clone());
    let load = move || {
        let dir = &config.dir;
        let io = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { operation, path, source }
        };
        dirs::create(&*fs, dir).map_err(io("create", dir))?;
        let lock_path = dir.join("lock");
        let lock = match fs.lock(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(OpenError::InUse { dir: dir.clone() });
            }
            Err(error) => return Err(io("lock", &lock_path)(error)),
        };
        let identity = Identity::read(&*fs, dir)?;
        if let Some(identity) = &identity {
            if identity.node_id != config.node_id {
                let (dir, found, wanted) = (dir.clone(), identity.node_id, config.node_id);
                return Err(OpenError::WrongNode { dir, found, wanted });
            }
            check_cluster(&config, &identity.cluster_id)?;
        }
        // A killed process may have renamed a file and not yet made the name durable.
        fs.sync_dir(dir).map_err(io("sync", dir))?;
        let snapshot = SnapshotFile::new(&fs, dir).load()?;
        let log = LogFiles::open(&fs, &dir.join("log"), limits)?;
        if let Some(identity) = &identity
            && log.is_pristine()
        {
            return Err(OpenError::LogLost {
                dir: dir.clone(),
                node_id: identity.node_id,
                cluster_id: identity.cluster_id.clone(),
            });
        }
        Ok(Loaded { lock, identity, log, snapshot })
    };
    match env.spawner.blocking(load).await {
        Ok(result) => result,
        Err(panic) => Err(OpenError::Stopped(panic.to_string())),
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

#[cfg(test)]
mod tests;
