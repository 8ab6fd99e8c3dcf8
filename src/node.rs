//! Floor F6: the composition root. Builds every part in floor order, stops them in reverse. The
//! only place that sees all parts; nobody is handed a [`Node`].

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use braid_raft::command::{ClusterId, Endpoint, RegisterBroker, StartBroker};
use braid_raft::{
    ClusterSecret, ElectionPolicy, MetadataConfig, MetadataFailed, MetadataImage, MetadataNode,
    ProposeError, QuorumConfig,
};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use crate::api::{
    AnswerMemory, Broker, FetchSessions, Limits, OFFSETS_TOPIC, ProducerIds, Refusals,
    TRANSACTION_VERSION, TRANSACTIONS_TOPIC, watch_over,
};
use crate::config::{Config, LiveConfig};
use crate::delivery::Deliveries;
use crate::env::Env;
use crate::env::net::Listener;
use crate::group::{GroupCoordinator, OffsetsTopicLog};
use crate::half::Halves;
use crate::http;
use crate::loggers::Loggers;
use crate::model::{BrokerId, ShardId};
use crate::native::Native;
use crate::native::catalog::Topics;
use crate::native::destinations::TopicDestinations;
use crate::native::ids::MessageIds;
use crate::native::made::Maker;
use crate::native::progress::Teller;
use crate::partition::{
    IsOwn, LedShards, Partitions, ShardSequencer, TopicSettingsCache, serve_inline, system,
};
use crate::reconcile::{self, ReconcileError, Reconciler};
use crate::replication::driver::{Opened, Shards, ShardsConfig, Streams};
use crate::replication::{Replica, ShardFailed};
use crate::server::listener::{self, Census, Common};
use crate::server::memory::RequestMemory;
use crate::store::{self, OnDamage, Store, StoreConfig};
use crate::timer::{self, Timers};
use crate::traffic::Traffic;
use crate::txn::{self, Transactions};

/// A session unused for this long may give way to a new one
/// (`min.incremental.fetch.session.eviction.ms`).
const FETCH_SESSION_EVICTION_MS: i64 = 120_000;

/// How long a start waits for the locks of the process before it.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How long a stop waits for others to lead.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);
/// How often it asks.
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(20);

/// How long a replica in sync may lag behind (Kafka's default of `replica.lag.time.max.ms`).
const REPLICA_LAG_MAX_MS: u64 = 30_000;

/// Where the logs of replicas lie below the data directory, each in a directory of its own.
pub const SHARDS_DIR: &str = "shards";

/// Where the CommitLog lies below the data directory.
pub const COMMITLOG_DIR: &str = "commitlog";

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata log.
    #[error("cannot open the metadata: {0}")]
    Metadata(#[from] braid_raft::OpenError),
    /// The CommitLog.
    #[error("cannot open the log: {0}")]
    Store(#[from] store::OpenError),
    /// Queues of the log that the metadata does not explain.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// A listener.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A listener of the native API.
    #[error(
        "cannot listen on {address} for the native API: {source}; braid.native.listeners names another address, or none to do without"
    )]
    ListenNative {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The broker's own registration.
    #[error("cannot register the broker: {0}")]
    Register(#[from] ProposeError),
    /// The registration was refused.
    #[error("the metadata refuses this broker: {0}")]
    Refused(#[from] braid_raft::outcome::RegisterBrokerRejection),
    /// The data directory.
    #[error("cannot create {dir}: {source}")]
    Dir {
        /// The directory.
        dir: String,
        /// What the system said.
        source: io::Error,
    },
    /// What the log says of scheduled messages.
    #[error("cannot read what the log says of scheduled messages: {0}")]
    Timers(Box<dyn std::error::Error + Send + Sync>),
    /// The log of a replica.
    #[error("cannot open the log of a replica: {0}")]
    Replica(store::OpenError),
    /// A thread.
    #[error("cannot start the group coordinator: {0}")]
    Groups(io::Error),
}

/// A running broker.
#[derive(Debug)]
pub struct Node {
    addresses: Vec<SocketAddr>,
    native_addresses: Vec<SocketAddr>,
    metadata: MetadataNode,
    store: Store,
    shards: Option<Shards>,
    partitions: Partitions,
    groups: GroupCoordinator,
    deliveries: Deliveries,
    halves: Halves,
    census: Arc<Census>,
    memory: Arc<RequestMemory>,
    stopping: watch::Sender<bool>,
    /// Yields `None` once every listener and connection has ended.
    open: mpsc::Receiver<()>,
}

/// What ended a broker that was not asked to end.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The metadata quorum.
    #[error("the metadata failed: {0}")]
    Metadata(MetadataFailed),
    /// The CommitLog: a write or sync failed, which is never retried.
    #[error("{0}")]
    Log(store::LogFailed),
    /// The log of a replicated shard.
    #[error("{0}")]
    Shard(ShardFailed),
}

async fn shard_failed(shards: Option<&Shards>) -> ShardFailed {
    match shards {
        Some(shards) => shards.failed().await,
        None => std::future::pending().await,
    }
}

impl Node {
    /// Opens the data directory, recovers, and serves.
    ///
    /// # Errors
    /// A part did not start; what was started is stopped.
    pub async fn start(env: Env, config: Config) -> Result<Self, StartError> {
        Self::start_with(env, config, Loggers::default()).await
    }

    /// As [`Node::start`], with the loggers of the process, whose levels clients may change.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_with(
        env: Env,
        mut config: Config,
        loggers: Loggers,
    ) -> Result<Self, StartError> {
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        config.storage.dir = data_dir(&env, &config.storage.dir)?;
        let config = Arc::new(config);
        let metadata =
            within_patience(async || MetadataNode::open(&env, metadata_config(&config)).await)
                .await?;
        let started = Self::start_on(env, config, metadata.clone(), loggers).await;
        if started.is_err() {
            // Its tasks would outlive this attempt, with its files open.
            metadata.shutdown().await;
        }
        started
    }

    async fn start_on(
        env: Env,
        config: Arc<Config>,
        metadata: MetadataNode,
        loggers: Loggers,
    ) -> Result<Self, StartError> {
        let live = live(&config, &metadata.image());
        let store = within_patience(async || open_store(&env, &live, &metadata.image())).await?;
        if env.spawner.is_inline() {
            drop(env.spawner.critical("log", serve_inline(store.driver())));
        }
        let partitions = Partitions::new(store.handle(), env.clone());
        let led = LedShards::default();
        let several = metadata.is_one_of_several();
        let partitions = partitions.only(own_queues(&config, &metadata));
        let partitions = if several { partitions.beside(led.clone()) } else { partitions };
        reconcile::adopt(&metadata.image(), &partitions)?;
        let (stopping, stopped) = watch::channel(false);
        let shards = Box::pin(start_shards(&env, &live, &metadata)).await?;
        let listeners = bind(&env, &config).await?;
        let native_listeners = bind_native(&env, &config).await?;
        let damaged = shards.as_ref().map_or_else(Vec::new, |it| it.opened.damaged.clone());
        let run = register(&env, &config, &metadata, &listeners, damaged).await?;
        let shards = shards.map(|it| it.serve(&env, &metadata, run, led, stopped.clone()));
        let traffic = Arc::new(Traffic::default());
        let groups = open_groups(&env, &config, &metadata, &partitions).await;
        let topic_settings = Arc::new(TopicSettingsCache::new(Arc::clone(&live)));
        let maker =
            Maker { env: env.clone(), config: Arc::clone(&config), metadata: metadata.clone() };
        let topics = Arc::new(Topics {
            maker: maker.clone(),
            live: Arc::clone(&live),
            topic_settings: Arc::clone(&topic_settings),
        });
        let halves = Halves::start(&env, config.half, &partitions, Arc::clone(&topics) as _);
        let deliveries = Deliveries::start(&env, partitions.clone(), topics);
        let transactions = open_transactions(&env, &config, &metadata, &partitions);
        let reconciler = Reconciler {
            env: env.clone(),
            retention_check_interval: config.storage.retention_check_interval,
            metadata: metadata.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            deliveries: deliveries.clone(),
            topic_settings: Arc::clone(&topic_settings),
            traffic: Arc::clone(&traffic),
            broker: config.node.id,
            live: Arc::clone(&live),
            offsets_topic: OFFSETS_TOPIC,
            shards: shards.clone(),
        };
        let destinations = TopicDestinations {
            env: env.clone(),
            config: Arc::clone(&config),
            metadata: metadata.clone(),
            topic_settings: Arc::clone(&topic_settings),
        };
        let destinations = Arc::new(destinations);
        let bounds = timer_limits(&config);
        let (has_lost, stopping_timers) = (!store.damage().is_empty(), stopped.clone());
        let timers = Timers::start(
            &env,
            partitions.clone(),
            destinations,
            bounds,
            has_lost,
            stopping_timers,
        )
        .await
        .map_err(|error| StartError::Timers(Box::new(error)))?;
        if has_lost {
            deliveries.loaded().await;
        }
        let memory = Arc::new(RequestMemory::new(config.network.request_memory_bytes));
        let config_changes = Arc::new(tokio::sync::Semaphore::new(1));
        let native = Arc::new(Native {
            env: env.clone(),
            config: Arc::clone(&config),
            live: Arc::clone(&live),
            metadata: metadata.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            topic_settings: Arc::clone(&topic_settings),
            config_changes: Arc::clone(&config_changes),
            ids: MessageIds::start(&env, &partitions, message_id_window_ms(&config)),
            turn: std::sync::atomic::AtomicUsize::new(0),
            maker: maker.clone(),
            deliveries: deliveries.clone(),
            halves: halves.clone(),
            timers: timers.clone(),
            traffic: Arc::clone(&traffic),
            stopping: stopped.clone(),
        });
        let broker = Arc::new(Broker {
            env: env.clone(),
            limits: limits(&config),
            stopping: stopped.clone(),
            metadata: metadata.clone(),
            partitions: partitions.clone(),
            groups: groups.clone(),
            deliveries: deliveries.clone(),
            traffic,
            transactions,
            answer_memory: AnswerMemory::new(config.network.request_memory_bytes / 2),
            fetch_sessions: Mutex::new(FetchSessions::new(
                config.fetch.sessions_max,
                FETCH_SESSION_EVICTION_MS,
            )),
            producer_ids: ProducerIds::default(),
            config_changes,
            topic_settings: Arc::clone(&topic_settings),
            refusals: Refusals::default(),
            heavy_turns: tokio::sync::Semaphore::new(env.spawner.parallelism().div_ceil(2)),
            timers,
            config,
            live,
            loggers,
        });
        reconciler.spawn(stopped.clone());
        let teller = Teller { maker, deliveries: deliveries.clone(), groups: groups.clone() };
        drop(env.spawner.critical("group progress", teller.run(stopped.clone())));
        let watch = watch_over(Arc::clone(&broker), stopped.clone());
        drop(env.spawner.critical("transactions", watch));
        let (open, all_closed) = mpsc::channel(1);
        let mut native_addresses = Vec::new();
        let posted = http::post_checks(Arc::clone(&native), stopped.clone());
        drop(env.spawner.critical("webhooks", posted));
        let common = http::Common::new(native);
        for (listener, address) in native_listeners {
            native_addresses.push(address);
            let served = http::serve(listener, common.clone(), stopped.clone(), open.clone());
            env.spawner.critical("native listener", served);
            tracing::info!("the native API is at http://{address}");
        }
        let census = Arc::new(Census::default());
        let common = Common { broker, census: Arc::clone(&census), memory: Arc::clone(&memory) };
        let mut addresses = Vec::new();
        for (name, listener, address) in listeners {
            addresses.push(address);
            env.spawner.critical(
                "listener",
                listener::serve(listener, name, common.clone(), stopped.clone(), open.clone()),
            );
            tracing::info!("listening on {address}");
        }
        let open = all_closed;
        Ok(Self {
            addresses,
            native_addresses,
            metadata,
            store,
            shards,
            partitions,
            groups,
            deliveries,
            halves,
            census,
            memory,
            stopping,
            open,
        })
    }

    /// Where it listens, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the native API is served, in the order of the configuration.
    #[must_use]
    pub fn native_addresses(&self) -> &[SocketAddr] {
        &self.native_addresses
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.census.count()
    }

    /// Bytes of the request memory that no request under way holds.
    #[must_use]
    pub fn free_request_memory_bytes(&self) -> usize {
        self.memory.free_bytes()
    }

    /// Resolves when a part fails that the broker cannot go on without. The process then has to
    /// end at once; recovery is what makes it whole again.
    pub async fn failed(&self) -> Failed {
        tokio::select! {
            failed = self.metadata.failed() => Failed::Metadata(failed),
            failed = self.partitions.failed() => Failed::Log(failed),
            failed = shard_failed(self.shards.as_ref()) => Failed::Shard(failed),
        }
    }

    /// Has others lead what they can, while this broker still answers.
    async fn drain(&self) {
        let image = self.metadata.image();
        let own = self.metadata.node_id();
        if !image.shards().any(|shard| shard.is_replicated() && shard.leader() == Some(own)) {
            return;
        }
        match tokio::time::timeout(DRAIN_WITHIN, self.metadata.drain()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(kept)) => tracing::info!(shards = kept, "nobody else can lead some shards"),
            Ok(Err(error)) => tracing::info!(%error, "leadership was not handed on"),
            Err(_) => tracing::info!("leadership was not handed on in time"),
        }
    }

    /// Stops in order: no new requests, answers of those under way, then the parts. A stopped
    /// broker starts again without scanning its log.
    pub async fn stop(mut self) {
        self.drain().await;
        self.stopping.send_replace(true);
        // Whoever looks for a leader now need not come here first.
        self.metadata.retire().await;
        // First the groups: members that wait for others are told to look elsewhere.
        self.groups.stop().await;
        self.deliveries.stop().await;
        self.halves.stop().await;
        // Every listener and connection holds a sender; the channel closes with the last of them.
        while self.open.recv().await.is_some() {}
        if let Some(shards) = &self.shards {
            shards.stop().await;
        }
        self.metadata.shutdown().await;
        if let Err(error) = self.store.close() {
            tracing::error!(%error, "the log was not closed in order; the next start will scan it");
        }
        tracing::info!("stopped");
    }
}

mod descriptors;
#[doc(hidden)]
pub mod measure;
#[cfg(test)]
mod tests;

pub use descriptors::fit_connections;

/// Makes the data directory and says where it is from the root on, as tools are told it.
fn data_dir(env: &Env, dir: &Path) -> Result<PathBuf, StartError> {
    let failed = |source| StartError::Dir { dir: dir.display().to_string(), source };
    let absolute = env.fs.absolute(dir).map_err(failed)?;
    env.fs.create_dir_synced(&absolute).map_err(failed)?;
    Ok(absolute)
}

/// The configuration under what was set while the broker ran before.
fn live(config: &Arc<Config>, image: &MetadataImage) -> Arc<LiveConfig> {
    let live = LiveConfig::new(Arc::clone(config));
    let (of_this, of_all) =
        (image.broker_configs(Some(config.node.id)), image.broker_configs(None));
    live.follow(image.applied_index(), of_this, of_all);
    Arc::new(live)
}

fn metadata_config(config: &Config) -> MetadataConfig {
    let features = BTreeMap::from([
        ("metadata.version".to_owned(), crate::api::METADATA_VERSION),
        ("transaction.version".to_owned(), TRANSACTION_VERSION),
    ]);
    let quorum = config.node.quorum.as_ref().map(|quorum| QuorumConfig {
        voters: quorum.voters.clone(),
        listen: quorum.listen.clone(),
        secret: ClusterSecret::new(quorum.secret.as_str()),
        election_timeout: quorum.election_timeout,
        session_timeout: quorum.session_timeout,
        elections: ElectionPolicy {
            rebalance_interval: quorum.rebalance_interval,
            unclean: quorum.unclean_elections,
        },
    });
    MetadataConfig {
        quorum,
        dir: config.storage.dir.join("metadata"),
        node_id: config.node.id,
        cluster_id: config.node.cluster_id.clone().map(ClusterId::new),
        features,
    }
}

fn open_store(
    env: &Env,
    live: &Arc<LiveConfig>,
    image: &MetadataImage,
) -> Result<Store, store::OpenError> {
    let config = live.load();
    let store_config = StoreConfig {
        segment_size_bytes: config.storage.segment_size_bytes,
        ring_size_bytes: config.storage.ring_size_bytes,
        on_damage: if config.storage.accept_loss {
            OnDamage::AcceptLoss
        } else {
            OnDamage::RefuseAppends
        },
        expects_log: has_partitions(image, config.node.id)
            && !image.begins_with_nothing(config.node.id),
        ..StoreConfig::new(config.storage.dir.join(COMMITLOG_DIR), cluster_uuid(image))
    };
    let sequencer = Box::new(ShardSequencer::new(Arc::clone(live)));
    if env.spawner.is_inline() {
        Store::open_inline(env, store_config, sequencer)
    } else {
        Store::open(env, store_config, sequencer)
    }
}

/// Replicas whose logs are open, of a broker that nobody knows to be back yet.
struct Replicas {
    config: ShardsConfig,
    opened: Opened,
}

/// Opens the logs of this broker's replicas, if it can have any.
async fn start_shards(
    env: &Env,
    live: &Arc<LiveConfig>,
    metadata: &MetadataNode,
) -> Result<Option<Replicas>, StartError> {
    if !metadata.is_one_of_several() {
        return Ok(None);
    }
    let (image, config) = (metadata.image(), live.load());
    let dir = config.storage.dir.join(SHARDS_DIR);
    let failed = |source| StartError::Dir { dir: dir.display().to_string(), source };
    env.fs.create_dir_synced(&dir).map_err(failed)?;
    let of_all = StoreConfig {
        segment_size_bytes: config.storage.segment_size_bytes,
        ring_size_bytes: config.storage.ring_size_bytes,
        ..StoreConfig::new(dir.clone(), cluster_uuid(&image))
    };
    let sequencers = Arc::clone(live);
    let config = ShardsConfig {
        cluster: cluster_uuid(&image),
        dir,
        store: of_all,
        sequencer: Box::new(move || Box::new(ShardSequencer::new(Arc::clone(&sequencers)))),
        lag_max_ms: REPLICA_LAG_MAX_MS,
    };
    let own = metadata.node_id();
    let opened = within_patience(async || config.open_all(env, &image, own)).await;
    Ok(Some(Replicas { opened: opened.map_err(StartError::Replica)?, config }))
}

impl Replicas {
    /// Lets them follow and lead, in this run of the broker.
    fn serve(
        self,
        env: &Env,
        metadata: &MetadataNode,
        incarnation: u64,
        led: LedShards,
        stopped: watch::Receiver<bool>,
    ) -> Shards {
        let me = Replica { broker: metadata.node_id(), incarnation };
        let streams = Streams::new(env.clone(), metadata.clone(), stopped);
        let sending = streams.clone();
        let post = Box::new(move |letter| sending.post(letter));
        let control = Box::new(metadata.clone());
        let shards = Shards::start(env, self.config, me, led, control, post);
        shards.follow(&metadata.image(), self.opened);
        streams.receive(shards.clone());
        shards
    }
}

/// Whether records may have been written here: then there has to be a log.
fn has_partitions(image: &MetadataImage, broker: BrokerId) -> bool {
    let mut partitions = image.topics().iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| image.is_led_by(*partition, broker))
}

/// An error that passes when another process has ended.
trait InUse {
    fn is_in_use(&self) -> bool;
}

impl InUse for braid_raft::OpenError {
    fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

impl InUse for store::OpenError {
    fn is_in_use(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

/// Opens a directory, waiting a little for whoever has it: a killed process holds its locks until
/// the system has taken all of it down, and the next one is often started before.
async fn within_patience<T, E: InUse>(mut open: impl AsyncFnMut() -> Result<T, E>) -> Result<T, E> {
    let start = tokio::time::Instant::now();
    loop {
        match open().await {
            Err(error) if error.is_in_use() && start.elapsed() < LOCK_PATIENCE => {
                tokio::time::sleep(LOCK_RETRY_AFTER).await;
            }
            result => return result,
        }
    }
}

/// The cluster id as the store keeps it: any text, in sixteen bytes.
fn cluster_uuid(image: &MetadataImage) -> Uuid {
    let id = image.cluster_id().map_or("", ClusterId::as_str);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
}

async fn open_groups(
    env: &Env,
    config: &Config,
    metadata: &MetadataNode,
    partitions: &Partitions,
) -> GroupCoordinator {
    let log = OffsetsTopicLog::new(OFFSETS_TOPIC, metadata.clone(), partitions.clone());
    // An offsets topic that exists keeps its partitions, whatever the configuration says now.
    let count =
        metadata.image().topic(OFFSETS_TOPIC).map_or(config.group.offsets_partitions, |t| {
            i32::try_from(t.partitions.len()).unwrap_or(i32::MAX)
        });
    let groups = GroupCoordinator::start(env, config.group, Arc::new(log), count);
    // In a cluster `reconcile` says which of them are this broker's.
    let led = if metadata.is_one_of_several() { 0 } else { count };
    for partition in 0..led {
        groups.lead(partition).await;
    }
    groups
}

fn open_transactions(
    env: &Env,
    config: &Config,
    metadata: &MetadataNode,
    partitions: &Partitions,
) -> Transactions {
    let producer = &config.producer;
    let settings = txn::Settings {
        topic: TRANSACTIONS_TOPIC,
        offsets_topic: OFFSETS_TOPIC,
        timeout_max_ms: producer.transaction_timeout_max_ms,
        expiration_ms: i64::try_from(producer.transactional_id_expiration.as_millis())
            .unwrap_or(i64::MAX),
        end_size_bytes_max: usize::try_from(config.storage.segment_size_bytes / 2)
            .unwrap_or(usize::MAX),
    };
    Transactions::new(env.clone(), metadata.clone(), partitions.clone(), settings)
}

fn limits(config: &Config) -> Limits {
    let network = &config.network;
    Limits {
        frame_size_bytes_max: network.request_size_bytes_max,
        idle_max: network.idle_max,
        first_request_max: network.first_request_max,
        fetch_size_bytes_max: config.fetch.response_size_bytes_max,
    }
}

/// Messages that are scheduled or delivered as one lie in one segment, and leave room for others.
fn timer_limits(config: &Config) -> timer::Limits {
    let segment = usize::try_from(config.storage.segment_size_bytes).unwrap_or(usize::MAX);
    timer::Limits {
        delay_max_ms: config.producer.delay_max_ms,
        scheduled_size_bytes_max: (segment / 4).min(16 << 20),
        delivered_size_bytes_max: (segment / 16).min(1 << 20),
    }
}

fn message_id_window_ms(config: &Config) -> i64 {
    i64::try_from(config.native.message_id_window.as_millis()).unwrap_or(i64::MAX)
}

type Bound = (Arc<str>, Box<dyn Listener>, SocketAddr);

async fn bind(env: &Env, config: &Config) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::new();
    for listener in &config.network.listeners {
        let address = listener.bind_address();
        let failed = |source| StartError::Listen { address: address.clone(), source };
        let socket = env.net.listen(&address).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        bound.push((Arc::from(listener.name.as_str()), socket, local));
    }
    Ok(bound)
}

async fn bind_native(
    env: &Env,
    config: &Config,
) -> Result<Vec<(Box<dyn Listener>, SocketAddr)>, StartError> {
    let mut bound = Vec::new();
    for listener in &config.native.listeners {
        let address = listener.bind_address();
        let failed = |source| StartError::ListenNative { address: address.clone(), source };
        let socket = env.net.listen(&address).await.map_err(failed)?;
        let local = socket.local_addr().map_err(failed)?;
        bound.push((socket, local));
    }
    Ok(bound)
}

async fn register(
    env: &Env,
    config: &Config,
    metadata: &MetadataNode,
    bound: &[Bound],
    damaged: Vec<ShardId>,
) -> Result<u64, StartError> {
    let endpoints = config
        .network
        .listeners
        .iter()
        .zip(bound)
        .map(|(listener, (_, _, local))| {
            let (host, port) = listener.advertised(local.port());
            Endpoint { listener: listener.name.clone(), host: host.to_owned(), port }
        })
        .collect();
    let incarnation = env.rng.next_uuid();
    let registration = RegisterBroker {
        broker: config.node.id,
        incarnation,
        endpoints,
        rack: config.node.rack.clone(),
        registered_ms: env.clock.wall_ms(),
    };
    let run = loop {
        let registered = if metadata.is_one_of_several() {
            let (registration, damaged) = (registration.clone(), damaged.clone());
            metadata.propose(StartBroker { registration, damaged }).await
        } else {
            metadata.propose(registration.clone()).await.map(|done| done.map(|()| 0))
        };
        match registered {
            Ok(outcome) => break outcome?,
            // The quorum is between two leaders; registering twice is registering once.
            Err(error @ (ProposeError::NotLeader { .. } | ProposeError::Interrupted)) => {
                tracing::info!(%error, "the broker registers again");
            }
            Err(error) => return Err(error.into()),
        }
    };
    if let Some(quorum) = &config.node.quorum {
        metadata.keep_alive(config.node.id, incarnation, quorum.heartbeat_interval);
    }
    Ok(run)
}

/// Which queues are this broker's, in a cluster. What the image does not know is for the log to refuse.
fn own_queues(config: &Config, metadata: &MetadataNode) -> Option<IsOwn> {
    if !metadata.is_one_of_several() {
        return None;
    }
    let (metadata, own) = (metadata.clone(), config.node.id);
    Some(Arc::new(move |queue| {
        let queue = system::receipts_of(queue).unwrap_or(queue);
        let image = metadata.image();
        let owner = (!system::is_system(queue)).then(|| image.queue(queue)).flatten();
        let partition =
            owner.and_then(|owner| image.topic_by_id(owner.topic)?.partition(owner.partition));
        partition.is_none_or(|partition| image.is_led_by(partition, own))
    }))
}
