//! All replicas of this broker.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braid_raft::image::{MetadataImage, ShardImage};
use braid_raft::{Lease, MetadataNode};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::letter::{Carried, Letter};
use super::replica::{self, Input, Parts, ProposalFailed, dir_of};
use crate::env::Env;
use crate::model::{BrokerId, LeaderEpoch, ShardId};
use crate::partition::{LedShards, serve_inline};
use crate::replication::{Envelope, Proposal, Replica, SyncSet};
use crate::store::{IoFailure, LogFailed, OpenError, Sequencer, Store, StoreConfig};

/// Messages that wait for a replica. More are dropped: whoever misses one asks again.
const INBOX_LEN: usize = 64;

/// What a question to the controller comes to.
pub(crate) type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What the controller is asked.
pub(crate) trait Control: Send + Sync {
    /// Asks for another set of replicas in sync.
    fn propose(&self, shard: ShardId, proposal: Proposal)
    -> Asked<Result<SyncSet, ProposalFailed>>;

    /// Says that the leader of this epoch has given up, and asks for an election.
    fn resign(&self, shard: ShardId, epoch: LeaderEpoch) -> Asked<()>;

    /// Until when this broker may act, and every change of that.
    fn lease(&self) -> watch::Receiver<Option<Lease>>;
}

/// The metadata quorum as replicas ask it.
impl Control for MetadataNode {
    fn propose(
        &self,
        shard: ShardId,
        proposal: Proposal,
    ) -> Asked<Result<SyncSet, ProposalFailed>> {
        use braid_raft::command::ChangeSyncSet;
        use braid_raft::outcome::ChangeSyncSetRejection as Rejection;
        let metadata = self.clone();
        Box::pin(async move {
            match MetadataNode::propose(&metadata, ChangeSyncSet { shard, proposal }).await {
                Ok(Ok(set)) => Ok(set),
                Ok(Err(Rejection::Refused(why))) => Err(ProposalFailed::Refused(why)),
                Ok(Err(Rejection::UnknownShard(shard))) => {
                    Err(ProposalFailed::Unknown(format!("shard {shard} is unknown")))
                }
                Err(error) => Err(ProposalFailed::Unknown(error.to_string())),
            }
        })
    }

    fn resign(&self, shard: ShardId, epoch: LeaderEpoch) -> Asked<()> {
        use braid_raft::command::{ElectLeaders, ElectionKind, ShardElection};
        let metadata = self.clone();
        Box::pin(async move {
            let election =
                ShardElection { shard, kind: ElectionKind::Resigned, epoch: Some(epoch) };
            let elections = vec![election];
            match MetadataNode::propose(&metadata, ElectLeaders { elections }).await {
                Ok(outcome) => tracing::info!(%shard, ?outcome, "asked for an election"),
                Err(error) => tracing::info!(%shard, %error, "an election is asked for later"),
            }
        })
    }

    fn lease(&self) -> watch::Receiver<Option<Lease>> {
        MetadataNode::lease(self)
    }
}

/// What a replica's log cannot go on from: the process has to end, and recovery makes it whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShardFailed {
    /// A write or sync failed.
    #[error("the log of shard {0}: {1}")]
    Log(ShardId, LogFailed),
    /// A cut failed half-way; the next start makes it.
    #[error("the log of shard {0} could not be cut: {1}")]
    Cut(ShardId, #[source] Arc<IoFailure>),
    /// The log did not open.
    #[error("the log of shard {0} cannot be opened: {1}")]
    Open(ShardId, #[source] Arc<OpenError>),
    /// The pool of threads is gone.
    #[error("the log of shard {0}: {1}")]
    Pool(ShardId, #[source] Arc<std::io::Error>),
}

/// What replicas have in common.
pub(crate) struct ShardsConfig {
    /// The cluster, as stores and messages name it.
    pub(crate) cluster: Uuid,
    /// Where the replicas' logs lie, each in a directory of its own.
    pub(crate) dir: PathBuf,
    /// Settings of every log; its place and name are put in.
    pub(crate) store: StoreConfig,
    /// Makes what decides in the order of a log.
    pub(crate) sequencer: Box<dyn Fn() -> Box<dyn Sequencer> + Send + Sync>,
    /// How long a replica in sync may lag behind.
    pub(crate) lag_max_ms: u64,
}

/// Sends a message, or loses it.
pub(crate) type Post = Box<dyn Fn(Letter) + Send + Sync>;

pub(super) struct Inner {
    pub(super) env: Env,
    pub(super) config: ShardsConfig,
    /// This run of this broker.
    pub(super) me: Replica,
    pub(super) led: LedShards,
    pub(super) control: Box<dyn Control>,
    pub(super) post: Post,
    failed: watch::Sender<Option<ShardFailed>>,
    replicas: Mutex<BTreeMap<ShardId, Living>>,
}

struct Living {
    image: watch::Sender<Arc<ShardImage>>,
    inbox: mpsc::Sender<Input>,
}

/// Stores of replicas, opened before anybody knows that the broker is back.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    stores: BTreeMap<ShardId, Store>,
    /// Shards whose logs lack what this broker may have acknowledged.
    pub(crate) damaged: Vec<ShardId>,
}

/// All replicas of this broker. Clones share them.
#[derive(Clone)]
pub(crate) struct Shards(Arc<Inner>);

impl std::fmt::Debug for Shards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shards").field("me", &self.0.me).finish_non_exhaustive()
    }
}

impl ShardsConfig {
    fn store_config(&self, shard: ShardId, store_id: Uuid) -> StoreConfig {
        StoreConfig {
            dir: dir_of(&self.dir, shard),
            cluster_id: self.cluster,
            replica_of: Some(store_id),
            expects_log: false,
            // Who reads while the log is closed and opened again holds files that nobody may write
            // again: they are removed, and live as long as they are read.
            spare_segments_max: 0,
            ..self.store.clone()
        }
    }

    fn open(&self, env: &Env, shard: ShardId, store_id: Uuid) -> Result<Store, OpenError> {
        let config = self.store_config(shard, store_id);
        if env.spawner.is_inline() {
            let store = Store::open_inline(env, config, (self.sequencer)())?;
            drop(env.spawner.critical("shard log", serve_inline(store.driver())));
            Ok(store)
        } else {
            Store::open(env, config, (self.sequencer)())
        }
    }

    /// Opens the logs of all shards that this broker has a replica of. One that is damaged, or is not
    /// there though it has to be, is put aside and begins anew: the controller must be told of it
    /// before the broker is taken for up.
    ///
    /// # Errors
    /// A log cannot be opened for another reason than damage.
    pub(crate) fn open_all(
        &self,
        env: &Env,
        image: &MetadataImage,
        broker: BrokerId,
    ) -> Result<Opened, OpenError> {
        let mut opened = Opened::default();
        for shard in image.shards().filter(|shard| shard.replicas().contains(&broker)) {
            let Some(store_id) = shard.store_id else { continue };
            let dir = dir_of(&self.dir, shard.id);
            let meta = env.fs.size(&dir.join("meta"));
            if meta.map_err(IoFailure::of("look up", &dir))?.is_none() {
                // What was never opened here may have been in sync all the same.
                let state = &shard.state;
                if state.in_sync.members.contains(&broker) || state.eligible.contains(&broker) {
                    opened.damaged.push(shard.id);
                }
                continue;
            }
            match self.open(env, shard.id, store_id) {
                Ok(store) if store.damage().is_empty() => {
                    opened.stores.insert(shard.id, store);
                }
                Ok(store) => {
                    tracing::error!(shard = %shard.id, damage = ?store.damage(), "a replica is damaged");
                    drop(store);
                    self.put_aside(env, shard.id)?;
                    opened.damaged.push(shard.id);
                }
                Err(error @ (OpenError::Unreadable { .. } | OpenError::Missing { .. })) => {
                    tracing::error!(shard = %shard.id, %error, "a replica is damaged");
                    self.put_aside(env, shard.id)?;
                    opened.damaged.push(shard.id);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(opened)
    }

    /// Keeps what is left of a damaged log for people to look at.
    fn put_aside(&self, env: &Env, shard: ShardId) -> Result<(), IoFailure> {
        let dir = dir_of(&self.dir, shard);
        let aside = (1..).map(|n: u32| self.dir.join(format!("{shard}.damaged-{n}")));
        for aside in aside {
            let is_taken = env.fs.size(&aside.join("meta"));
            if is_taken.map_err(IoFailure::of("look up", &aside))?.is_some() {
                continue;
            }
            env.fs.rename(&dir, &aside).map_err(IoFailure::of("rename", &dir))?;
            env.fs.sync_dir(&self.dir).map_err(IoFailure::of("sync directory", &self.dir))?;
            tracing::warn!(%shard, aside = %aside.display(), "kept what is left of a damaged log");
            break;
        }
        Ok(())
    }
}

impl Shards {
    pub(crate) fn start(
        env: &Env,
        config: ShardsConfig,
        me: Replica,
        led: LedShards,
        control: Box<dyn Control>,
        post: Post,
    ) -> Self {
        Self(Arc::new(Inner {
            env: env.clone(),
            config,
            me,
            led,
            control,
            post,
            failed: watch::Sender::new(None),
            replicas: Mutex::default(),
        }))
    }

    /// Takes note of what the controller says of this broker's shards.
    pub(crate) fn follow(&self, image: &MetadataImage, mut opened: Opened) {
        let me = self.0.me.broker;
        for shard in image.shards() {
            if shard.is_replicated() && shard.replicas().contains(&me) {
                self.assign(shard, opened.stores.remove(&shard.id));
            }
        }
    }

    /// Takes note of what the controller says of a shard; opens its log if it is new.
    pub(crate) fn assign(&self, shard: &Arc<ShardImage>, store: Option<Store>) {
        let mut replicas = self.0.replicas();
        if let Some(living) = replicas.get(&shard.id) {
            living.image.send_if_modified(|known| {
                let is_news = known != shard;
                *known = Arc::clone(shard);
                is_news
            });
            return;
        }
        let (image, images) = watch::channel(Arc::clone(shard));
        let (inbox, inputs) = mpsc::channel(INBOX_LEN);
        let parts = Parts {
            inner: Arc::clone(&self.0),
            shard: shard.id,
            image: images,
            lease: self.0.control.lease(),
            inbox: inputs,
            to_self: inbox.clone(),
            store,
        };
        drop(self.0.env.spawner.critical("shard replica", replica::live(parts)));
        replicas.insert(shard.id, Living { image, inbox });
    }

    /// Takes a message from another broker, or drops it if there is too much.
    pub(crate) fn received(&self, envelope: Envelope, carried: Carried) {
        let replicas = self.0.replicas();
        if let Some(living) = replicas.get(&envelope.stamp.shard) {
            // What is lost is asked for again.
            drop(living.inbox.try_send(Input::Received(envelope, carried)));
        }
    }

    /// Resolves when a log has failed.
    pub(crate) async fn failed(&self) -> ShardFailed {
        let mut failed = self.0.failed.subscribe();
        loop {
            if let Some(failed) = &*failed.borrow_and_update() {
                return failed.clone();
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes all logs in order, each once what it holds is on disk.
    pub(crate) async fn stop(&self) {
        let all: Vec<Living> = std::mem::take(&mut *self.0.replicas()).into_values().collect();
        let mut closed = Vec::new();
        for living in &all {
            let (told, done) = oneshot::channel();
            if living.inbox.send(Input::Close(told)).await.is_ok() {
                closed.push(done);
            }
        }
        for done in closed {
            // A replica that failed says so elsewhere.
            drop(done.await);
        }
    }
}

impl Inner {
    fn replicas(&self) -> MutexGuard<'_, BTreeMap<ShardId, Living>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn open(
        self: &Arc<Self>,
        shard: ShardId,
        store_id: Uuid,
    ) -> Result<Store, ShardFailed> {
        let inner = Arc::clone(self);
        let open = move || inner.config.open(&inner.env, shard, store_id);
        match self.env.spawner.blocking(open).await {
            Ok(Ok(store)) => Ok(store),
            Ok(Err(error)) => Err(ShardFailed::Open(shard, Arc::new(error))),
            Err(gone) => Err(ShardFailed::Pool(shard, Arc::new(gone))),
        }
    }

    pub(super) fn fail(&self, failed: ShardFailed) {
        tracing::error!(%failed, "a replica failed");
        self.failed
            .send_if_modified(|known| known.is_none().then(|| *known = Some(failed)).is_some());
    }
}
