//! The directory of a metadata node, from the lock to what it holds, before openraft starts.
//!
//! In a new directory the first segment of the log comes first, then the identity, then the names
//! of the directory and its parents; nothing is voted or written before. So an identity without
//! any segment means that a log was lost, and such a directory must not start afresh.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use braid_base::env::Env;
use braid_base::env::fs::{Fs, Lock};
use braid_base::model::BrokerId;
use uuid::Uuid;

use crate::command::ClusterId;
use crate::dirs;
use crate::identity::{Candidate, Identity, IdentityError};
use crate::log_store::{Limits, LogError, LogFiles};
use crate::node::MetadataConfig;
use crate::snapshot::{Applied, SnapshotError, SnapshotFile};

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
    /// The directory is of a member of a quorum of several, and is opened alone.
    #[error(
        "{} belongs to a cluster whose metadata is agreed on by nodes {voters}; name them in \
         controller.quorum.voters", dir.display()
    )]
    OfSeveral {
        /// The directory.
        dir: PathBuf,
        /// The voters, as a list.
        voters: String,
    },
    /// The directory is of a node alone, or of other voters than those of the configuration.
    #[error(
        "{} belongs to a cluster whose metadata is agreed on by nodes {found}, not by {wanted} as \
         controller.quorum.voters says; changing the voters of a cluster is not built yet",
        dir.display()
    )]
    OtherVoters {
        /// The directory.
        dir: PathBuf,
        /// Its voters, as a list.
        found: String,
        /// Those of the configuration.
        wanted: String,
    },
    /// The configured voters do not include this node.
    #[error("node {0} is not among controller.quorum.voters")]
    NoVoter(BrokerId),
    /// What a member wrote of its identity is gone.
    #[error(
        "{} holds a metadata log, but the file that says whose it is is gone; restore it", dir.display()
    )]
    IdentityLost {
        /// The directory.
        dir: PathBuf,
    },
    /// The others know this node by a directory that had been filled before.
    #[error(
        "{} is empty, but node {node_id} was a member of cluster {cluster_id} before: what it had \
         promised the others is lost, and it must not vote again. Bring its directory back, or have \
         the others take it for a new one, with directory {directory}",
        dir.display()
    )]
    Emptied {
        /// The directory.
        dir: PathBuf,
        /// This node.
        node_id: BrokerId,
        /// The cluster.
        cluster_id: ClusterId,
        /// The mark that the directory has now.
        directory: Uuid,
    },
    /// The controller listener.
    #[error("cannot listen on {address} for the other controllers: {source}")]
    Listen {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The quorum stopped while it started.
    #[error("the metadata quorum stopped while starting: {0}")]
    Stopped(String),
}

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) lock: Box<dyn Lock>,
    /// None if it was taken away from a log that is there, or if there is no cluster yet.
    pub(crate) identity: Option<Identity>,
    /// The directory's mark; none without an identity, unless it waits for its cluster.
    pub(crate) directory_id: Option<Uuid>,
    pub(crate) log: LogFiles,
    pub(crate) snapshot: Option<Applied>,
}

/// Opens a directory, off the async workers. What it holds is durable when this returns.
pub(crate) async fn open(
    env: &Env,
    config: &MetadataConfig,
    limits: Limits,
) -> Result<Opened, OpenError> {
    let (opener, config) = (env.clone(), config.clone());
    match env.spawner.blocking(move || open_now(&opener, &config, limits)).await {
        Ok(result) => result,
        Err(panic) => Err(OpenError::Stopped(panic.to_string())),
    }
}

fn open_now(env: &Env, config: &MetadataConfig, limits: Limits) -> Result<Opened, OpenError> {
    let (fs, dir, log_dir) = (&env.fs, &config.dir, config.dir.join("log"));
    let unsynced = dirs::create(&**fs, &log_dir).map_err(io_error("create", dir))?;
    let lock = take_lock(&**fs, dir)?;
    let found = Identity::read(&**fs, dir)?;
    if let Some(identity) = &found {
        check_identity(&**fs, config, identity, &log_dir)?;
    }
    let log = LogFiles::open(fs, &log_dir, limits)?;
    let mut candidate = None;
    let identity = match found {
        Some(identity) => {
            // A killed process may have renamed a file whose name is not durable yet.
            fs.sync_dir(dir).map_err(io_error("sync", dir))?;
            Candidate::remove(&**fs, dir)?;
            Some(identity)
        }
        None if config.quorum.is_some() => {
            if !log.is_pristine() {
                return Err(OpenError::IdentityLost { dir: dir.clone() });
            }
            candidate = Some(mark(env, config)?);
            None
        }
        None if log.is_pristine() => {
            let random = || ClusterId::from_uuid(env.rng.next_uuid());
            let cluster_id = config.cluster_id.clone().unwrap_or_else(random);
            Some(write_identity(env, config, cluster_id)?)
        }
        None => None,
    };
    let directory_id = identity.as_ref().map(|identity| identity.directory_id).or(candidate);
    dirs::sync(&**fs, &unsynced).map_err(io_error("sync", dir))?;
    let snapshot = SnapshotFile::new(fs, dir).load()?;
    Ok(Opened { lock, identity, directory_id, log, snapshot })
}

/// The mark of a directory that waits for its cluster; it is on disk when this returns.
fn mark(env: &Env, config: &MetadataConfig) -> Result<Uuid, OpenError> {
    let (fs, dir) = (&*env.fs, &config.dir);
    if let Some(candidate) = Candidate::read(fs, dir)? {
        if candidate.node_id != config.node_id {
            let (found, wanted) = (candidate.node_id, config.node_id);
            return Err(OpenError::WrongNode { dir: dir.clone(), found, wanted });
        }
        fs.sync_dir(dir).map_err(io_error("sync", dir))?;
        return Ok(candidate.directory_id);
    }
    let candidate = Candidate { node_id: config.node_id, directory_id: env.rng.next_uuid() };
    candidate.write(fs, dir)?;
    Ok(candidate.directory_id)
}

/// Writes down that a directory is part of a cluster, off the async workers. It cannot be a candidate
/// again: should its files be lost in part, it is unknown to the others, not without a past.
pub(crate) async fn become_member(
    env: &Env,
    dir: &Path,
    identity: &Identity,
) -> Result<(), OpenError> {
    let (fs, at, identity) = (Arc::clone(&env.fs), dir.to_owned(), identity.clone());
    let write = move || {
        identity.write(&*fs, &at)?;
        Candidate::remove(&*fs, &at)
    };
    match env.spawner.blocking(write).await {
        Ok(result) => Ok(result?),
        Err(panic) => Err(OpenError::Stopped(panic.to_string())),
    }
}

/// Writes the identity of a directory whose log is there, off the async workers.
pub(crate) async fn restore_identity(
    env: &Env,
    config: &MetadataConfig,
    cluster_id: ClusterId,
) -> Result<(), OpenError> {
    let (writer, config) = (env.clone(), config.clone());
    let write = move || write_identity(&writer, &config, cluster_id).map(drop);
    match env.spawner.blocking(write).await {
        Ok(result) => result,
        Err(panic) => Err(OpenError::Stopped(panic.to_string())),
    }
}

/// Whether the cluster is the one wanted, if any.
pub(crate) fn check_cluster(
    dir: &Path,
    wanted: Option<&ClusterId>,
    found: &ClusterId,
) -> Result<(), OpenError> {
    match wanted {
        Some(wanted) if wanted != found => {
            let (found, wanted) = (found.clone(), wanted.clone());
            Err(OpenError::WrongCluster { dir: dir.to_owned(), found, wanted })
        }
        Some(_) | None => Ok(()),
    }
}

fn check_identity(
    fs: &dyn Fs,
    config: &MetadataConfig,
    identity: &Identity,
    log_dir: &Path,
) -> Result<(), OpenError> {
    let dir = &config.dir;
    if identity.node_id != config.node_id {
        let (found, wanted) = (identity.node_id, config.node_id);
        return Err(OpenError::WrongNode { dir: dir.clone(), found, wanted });
    }
    check_cluster(dir, config.cluster_id.as_ref(), &identity.cluster_id)?;
    check_voters(config, identity)?;
    if LogFiles::exist(fs, log_dir)? {
        return Ok(());
    }
    let (node_id, cluster_id) = (identity.node_id, identity.cluster_id.clone());
    Err(OpenError::LogLost { dir: dir.clone(), node_id, cluster_id })
}

fn check_voters(config: &MetadataConfig, identity: &Identity) -> Result<(), OpenError> {
    let list = |ids: &mut dyn Iterator<Item = BrokerId>| {
        ids.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    };
    let dir = config.dir.clone();
    let recorded = list(&mut identity.voters.iter().map(|(id, _)| *id));
    match &config.quorum {
        None if recorded.is_empty() => Ok(()),
        None => Err(OpenError::OfSeveral { dir, voters: recorded }),
        Some(quorum) => {
            let wanted = list(&mut quorum.voters.keys().copied());
            if recorded == wanted {
                return Ok(());
            }
            let alone = identity.node_id.to_string();
            let found = if recorded.is_empty() { alone } else { recorded };
            Err(OpenError::OtherVoters { dir, found, wanted })
        }
    }
}

fn write_identity(
    env: &Env,
    config: &MetadataConfig,
    cluster_id: ClusterId,
) -> Result<Identity, OpenError> {
    let (node_id, directory_id) = (config.node_id, env.rng.next_uuid());
    let identity =
        Identity { cluster_id, node_id, directory_id, voters: Vec::new(), joined: false };
    identity.write(&*env.fs, &config.dir)?;
    Ok(identity)
}

fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join("lock");
    match fs.lock(&path) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(OpenError::InUse { dir: dir.to_owned() })
        }
        Err(error) => Err(io_error("lock", &path)(error)),
    }
}

fn io_error<'a>(
    operation: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { operation, path: path.to_owned(), source }
}
