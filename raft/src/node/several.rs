//! A node in a quorum of several: opening it, and what it asks of its leader.

use std::sync::PoisonError;
use std::time::Duration;

use braid_base::env::Spawner;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Arc, BTreeMap, BrokerId, ClusterInit, Env, Health, Inner, Limits, LogStore, MetadataConfig,
    MetadataNode, OpenError, Pending, ProposeError, QUEUE_LEN, Raft, RaftSnapshotPolicy,
    SnapshotFile, SnapshotPolicy, StateMachine, directory, keeper, mpsc, proposer, watch,
};
use crate::command::{DrainBroker, FenceBroker};
use crate::controller::{Controller, NotNow};
use crate::fencing::{self, ElectionPolicy, Watch};
use crate::lease::Lease;
use crate::network::link::{CallError, Link};
use crate::network::listener;
use crate::network::member::{Member, Parts};
use crate::network::message::{HeartbeatAnswer, QuorumState, Request, Response};
use crate::network::peers::Peers;
use crate::network::session::{ClusterSecret, VOTERS_MAX};
use crate::network::stream::{self, PeerStream};
use crate::replacement::ReplaceError;
use crate::{formation, route};

/// Entries that stay in the log behind a snapshot, for members that are a little behind.
const ENTRIES_KEPT: u64 = 1000;
/// How long a leader waits for its own log and a majority.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a leader may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a stop waits to be told to the controller.
const RETIRE_WITHIN: Duration = Duration::from_secs(2);
/// Before a leader is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often a node that waits for its quorum says so.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The quorum that a node is one of several voters of.
#[derive(Debug, Clone)]
pub struct QuorumConfig {
    /// All voters and where they listen, as host and port; this node is among them.
    pub voters: BTreeMap<BrokerId, String>,
    /// Where this node listens for the others.
    pub listen: String,
    /// What the voters have in common; see [`ClusterSecret`].
    pub secret: ClusterSecret,
    /// Without a leader for this long, up to twice as long, a voter stands for election.
    pub election_timeout: Duration,
    /// A broker that is not heard for so long is fenced.
    pub session_timeout: Duration,
    /// When leaders of shards are elected without being asked for.
    pub elections: ElectionPolicy,
}

/// What makes a node one of several. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Several {
    controller: Arc<Controller>,
    net: Arc<dyn braid_base::env::Net>,
    spawner: Spawner,
    stopping: watch::Sender<bool>,
    /// The broker that lives beside this node, from its first heartbeat to its end.
    alive: watch::Sender<Option<(BrokerId, Uuid)>>,
    /// The lease of that broker.
    lease: watch::Sender<Option<Lease>>,
    /// Whether that broker is well; one that is not is not to be heard.
    well: watch::Sender<bool>,
}

impl Several {
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    pub(super) fn leader(&self) -> Option<BrokerId> {
        self.controller.leader()
    }
}

/// What a node was asked that only the quorum's leader knows, and did not learn.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata quorum cannot be asked now: {0}")]
pub struct QuorumUnavailable(String);

impl MetadataNode {
    /// Opens a member of a quorum of several. Returns once a majority is there and this node's image
    /// has all that was acknowledged before.
    pub(super) async fn open_several(
        env: &Env,
        config: &MetadataConfig,
        quorum: &QuorumConfig,
        limits: Limits,
        policy: SnapshotPolicy,
    ) -> Result<Self, OpenError> {
        let node_id = config.node_id;
        if !quorum.voters.contains_key(&node_id) || quorum.voters.len() > VOTERS_MAX {
            return Err(OpenError::NoVoter(node_id));
        }
        let opened = directory::open(env, config, limits).await?;
        let Some(directory_id) = opened.directory_id else {
            return Err(OpenError::IdentityLost { dir: config.dir.clone() });
        };
        let listen = |source| OpenError::Listen { address: quorum.listen.clone(), source };
        let socket = env.net.listen(&quorum.listen).await.map_err(listen)?;
        let parts = Parts {
            node_id,
            directory_id,
            addresses: quorum.voters.clone(),
            wanted: config.cluster_id.clone(),
            secret: quorum.secret.clone(),
            identity: opened.identity,
        };
        let member = Arc::new(Member::new(&env.rng, parts));
        let log = LogStore::new(env.spawner.clone(), opened.log, opened.lock);
        let file = SnapshotFile::new(&env.fs, &config.dir);
        let machine = StateMachine::new(env.spawner.clone(), file, opened.snapshot);
        let shared = machine.shared();
        member.follow(shared.watch());
        let (own, own_queue) = mpsc::channel(QUEUE_LEN);
        let controller = Arc::new(Controller::new(
            env,
            &member,
            config.dir.clone(),
            (log.clone(), Arc::clone(&shared)),
            own,
            Watch::new(quorum.session_timeout, quorum.elections),
        ));
        let (stopping, stopped) = watch::channel(false);
        let served = listener::serve(
            env.spawner.clone(),
            socket,
            Arc::clone(&member),
            Arc::clone(&controller),
            stopped,
        );
        let _detached = env.spawner.critical("controller listener", served);
        let several = Several {
            controller: Arc::clone(&controller),
            net: Arc::clone(&env.net),
            spawner: env.spawner.clone(),
            stopping,
            alive: watch::Sender::new(None),
            lease: watch::Sender::new(None),
            well: watch::Sender::new(true),
        };
        // A start that is given up closes the listener.
        let guard = StopUnlessKept(several.stopping.clone(), false);
        if let Err(error) = formation::form(env, &controller).await {
            drop(log.close().await);
            return Err(error);
        }
        let peers = Peers::Several { net: Arc::clone(&env.net), member: Arc::clone(&member) };
        let raft_id = u64::from(node_id.0.unsigned_abs());
        let raft = Raft::new(raft_id, raft_config(quorum), peers, log.clone(), machine)
            .await
            .map_err(|fatal| OpenError::Stopped(fatal.to_string()))?;
        controller.join(raft.clone());
        let (health_sender, health) = watch::channel(Health::Running);
        let keeper = keeper::run(raft.clone(), Arc::clone(&shared), policy, health_sender);
        let _detached = env.spawner.critical("metadata keeper", keeper);
        let proposer = proposer::run(raft.clone(), log.clone(), Some(PATIENCE), own_queue);
        let _detached = env.spawner.critical("metadata proposer", proposer);
        let (proposals, queue) = mpsc::channel::<Pending>(QUEUE_LEN);
        let router = route::run(Arc::clone(&env.net), Arc::clone(&controller), queue);
        let _detached = env.spawner.critical("metadata router", router);
        let stopped = several.stopping.subscribe();
        let fencing = fencing::run(Arc::clone(&controller), Arc::clone(&env.net), stopped);
        let _detached = env.spawner.critical("broker fencing", fencing);
        let several = Some(several);
        let inner = Inner { raft, log, node_id, machine: shared, proposals, health, several };
        let node = Self { inner: Arc::new(inner) };
        match node.take_part(config).await {
            Ok(()) => {
                guard.keep();
                Ok(node)
            }
            Err(error) => {
                node.shutdown().await;
                Err(error)
            }
        }
    }

    /// Begins the quorum if that is this node's part, waits for it, and names the cluster.
    async fn take_part(&self, config: &MetadataConfig) -> Result<(), OpenError> {
        let stopped = |error: &dyn std::fmt::Display| OpenError::Stopped(error.to_string());
        let Some(several) = &self.inner.several else { return Ok(()) };
        let identity = several.controller.member.formed().await;
        let raft = &self.inner.raft;
        // Who was told of the cluster finds it begun, whatever its number.
        let is_first = !identity.joined
            && identity.voters.first().is_some_and(|(id, _)| *id == self.inner.node_id);
        if is_first && !raft.is_initialized().await.map_err(|fatal| stopped(&fatal))? {
            // Once in the life of a cluster: the identity is written before, the vote with this.
            let voters = &several.controller.member.addresses;
            let nodes: BTreeMap<u64, openraft::BasicNode> = voters
                .iter()
                .map(|(id, at)| (u64::from(id.0.unsigned_abs()), openraft::BasicNode::new(at)))
                .collect();
            raft.initialize(nodes).await.map_err(|error| stopped(&error))?;
        }
        self.wait_until_current().await.map_err(|failed| stopped(&failed))?;
        if self.image().cluster_id().is_none() {
            let (cluster_id, features) = (identity.cluster_id.clone(), config.features.clone());
            // Others do the same; the first one names it.
            while let Err(error) = self
                .propose(ClusterInit { cluster_id: cluster_id.clone(), features: features.clone() })
                .await
            {
                tracing::info!(%error, "naming the cluster is tried again");
                if let Health::Failed(_) | Health::Stopped = &*self.inner.health.borrow() {
                    return Err(stopped(&error));
                }
            }
        }
        match self.image().cluster_id() {
            Some(found) => directory::check_cluster(&config.dir, Some(&identity.cluster_id), found),
            None => Err(OpenError::Stopped("the cluster has no name".to_owned())),
        }
    }

    /// Waits until a majority is there and this node's image has everything that was acknowledged.
    async fn wait_until_current(&self) -> Result<(), QuorumUnavailable> {
        let mut said = Instant::now();
        loop {
            let why = match self.catch_up().await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            if let Health::Failed(fatal) = &*self.inner.health.borrow() {
                return Err(QuorumUnavailable(fatal.to_string()));
            }
            if said.elapsed() >= SAY_AGAIN_AFTER {
                tracing::info!("waiting for the metadata quorum: {}", why.0);
                said = Instant::now();
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Waits until this node's image has all that was acknowledged anywhere when this was called: what
    /// is read then is linearizable. At once in a quorum of one.
    ///
    /// # Errors
    /// There is no leader that can be asked.
    pub async fn catch_up(&self) -> Result<(), QuorumUnavailable> {
        let Some(several) = &self.inner.several else { return Ok(()) };
        let own = several.controller.read_index();
        let index = match several.ask(&Request::Barrier, own).await? {
            Asked::Here(index) | Asked::There(Response::Barrier(index)) => index,
            Asked::There(other) => return Err(odd(&other)),
        };
        let mut images = self.watch();
        let seen = images.wait_for(|image| image.applied_index() >= index);
        match timeout(ANSWER_WITHIN, seen).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(QuorumUnavailable("the metadata node has stopped".to_owned())),
            Err(_) => Err(QuorumUnavailable(format!("the log up to {index} is still to come"))),
        }
    }

    /// The quorum as its leader sees it.
    ///
    /// # Errors
    /// There is no leader that can be asked.
    pub async fn quorum(&self) -> Result<QuorumState, QuorumUnavailable> {
        let Some(several) = &self.inner.several else { return Ok(self.quorum_of_one()) };
        let own = async { several.controller.quorum() };
        match several.ask(&Request::Quorum, own).await? {
            Asked::Here(state) | Asked::There(Response::Quorum(state)) => Ok(state),
            Asked::There(other) => Err(odd(&other)),
        }
    }

    /// Has a new directory stand for a node that has lost its own: the node whose start is refused since
    /// its directory was emptied says which. It has its vote once it has caught up. What it kept of
    /// records is lost. Asked again this does what is left to do.
    ///
    /// # Errors
    /// See [`ReplaceError`].
    pub async fn replace(&self, node: BrokerId, directory: Uuid) -> Result<(), ReplaceError> {
        let Some(several) = &self.inner.several else { return Err(ReplaceError::NoVoter(node)) };
        let own = several.controller.replace(node, directory);
        let asked = several.ask(&Request::Replace { node, directory }, own).await;
        match asked.map_err(|error| ReplaceError::Unavailable(error.to_string()))? {
            Asked::Here(replaced) | Asked::There(Response::Replaced(replaced)) => replaced,
            Asked::There(other) => Err(ReplaceError::Unavailable(odd(&other).to_string())),
        }
    }

    /// Opens a stream to another broker, for what brokers say to each other.
    ///
    /// # Errors
    /// It cannot be reached, is none that this one has to do with, or takes none now.
    pub async fn open_stream(&self, to: BrokerId) -> std::io::Result<PeerStream> {
        let Some(several) = &self.inner.several else {
            return Err(std::io::Error::other("a broker alone has nobody to speak to"));
        };
        let member = &several.controller.member;
        if !member.addresses.contains_key(&to) {
            return Err(std::io::Error::other(format!(
                "broker {to} is not among controller.quorum.voters, so nobody knows where it is"
            )));
        }
        stream::open(&Link::new(&several.net, member, to)).await
    }

    /// The streams that others open; none when they were taken before, or nobody can.
    #[must_use]
    pub fn streams(&self) -> Option<mpsc::Receiver<PeerStream>> {
        let opened = &self.inner.several.as_ref()?.controller.opened;
        opened.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether this node is one of several.
    #[must_use]
    pub fn is_one_of_several(&self) -> bool {
        self.inner.several.is_some()
    }

    /// Tells the controller from now on, every so often, that this broker lives, until the node is shut
    /// down. Nothing in a quorum of one.
    pub fn keep_alive(&self, broker: BrokerId, incarnation: Uuid, interval: Duration) {
        if let Some(several) = self.inner.several.clone() {
            several.alive.send_replace(Some((broker, incarnation)));
            let spawner = several.spawner.clone();
            let beat = beat(several, broker, incarnation, interval);
            let _detached = spawner.critical("broker heartbeat", beat);
        }
    }
}

impl MetadataNode {
    /// Has others lead what the broker beside this node leads, since it is about to stop: those that
    /// can. It goes on to be heard, and to follow. Returns how many replicated shards it leads still.
    ///
    /// # Errors
    /// The quorum cannot be told.
    pub async fn drain(&self) -> Result<u32, ProposeError> {
        let Some(several) = &self.inner.several else { return Ok(0) };
        let Some((broker, incarnation)) = *several.alive.borrow() else { return Ok(0) };
        let drained = self.propose(DrainBroker { broker, incarnation }).await?;
        // Another life of the broker has begun: this one leads nothing.
        Ok(drained.unwrap_or(0))
    }

    /// Says that the broker beside this node has stopped leading and is about to end, so that nobody
    /// waits for its silence. If that cannot be said quickly, the silence says it later.
    pub async fn retire(&self) {
        let Some(several) = &self.inner.several else { return };
        let Some((broker, incarnation)) = several.alive.send_replace(None) else { return };
        several.lease.send_replace(None);
        let drain = DrainBroker { broker, incarnation };
        let fence = FenceBroker { broker, incarnation, fenced: true };
        let told = async { tokio::join!(self.propose(drain), self.propose(fence)) };
        if timeout(RETIRE_WITHIN, told).await.is_err() {
            tracing::info!("the controller was not told of the stop");
        }
    }

    /// Says whether the broker beside this node can do what a leader has to, such as write to its disk:
    /// a live process alone is no reason to be heard. While it is not well it is silent, its lease ends
    /// and the controller has others lead; once it is well again it is heard at once.
    pub fn be_well(&self, is_well: bool) {
        if let Some(several) = &self.inner.several {
            let changed = |well: &mut bool| std::mem::replace(well, is_well) != is_well;
            if several.well.send_if_modified(changed) && !is_well {
                tracing::warn!("the broker is not well, and is not heard until it is");
            }
        }
    }

    /// The lease of the broker beside this node, and every change of it: none before its first
    /// heartbeat was answered, once another process has its place, and after its end. Without one, or
    /// after it, the broker may not act as the leader of a replicated shard. In a quorum of one there
    /// is none, and nothing is replicated.
    #[must_use]
    pub fn lease(&self) -> watch::Receiver<Option<Lease>> {
        match &self.inner.several {
            Some(several) => several.lease.subscribe(),
            None => watch::Sender::new(None).subscribe(),
        }
    }
}

/// Closes the listener of a start that came to nothing.
struct StopUnlessKept(watch::Sender<bool>, bool);

impl StopUnlessKept {
    fn keep(mut self) {
        self.1 = true;
    }
}

impl Drop for StopUnlessKept {
    fn drop(&mut self) {
        if !self.1 {
            self.0.send_replace(true);
        }
    }
}

/// An answer, of this node or of another.
enum Asked<T> {
    Here(T),
    There(Response),
}

impl Several {
    /// Asks the leader, or this node if it leads.
    async fn ask<T>(
        &self,
        request: &Request,
        own: impl Future<Output = Result<T, NotNow>>,
    ) -> Result<Asked<T>, QuorumUnavailable> {
        let Some(leader) = self.controller.leader() else {
            return Err(QuorumUnavailable("it has no leader".to_owned()));
        };
        if leader == self.controller.member.node_id {
            return match own.await {
                Ok(answer) => Ok(Asked::Here(answer)),
                Err(NotNow::NotLeader(_)) => {
                    Err(QuorumUnavailable("this node leads no more".to_owned()))
                }
                Err(NotNow::Unready(why)) => Err(QuorumUnavailable(why)),
            };
        }
        let mut link = Link::new(&self.net, &self.controller.member, leader);
        answered(link.call(request, ANSWER_WITHIN).await).map(Asked::There)
    }
}

fn answered(called: Result<Response, CallError>) -> Result<Response, QuorumUnavailable> {
    match called {
        Ok(Response::NotLeader(_)) => Err(QuorumUnavailable("the leader has changed".to_owned())),
        Ok(Response::Unready(why)) => Err(QuorumUnavailable(why)),
        Ok(response) => Ok(response),
        Err(error) => Err(QuorumUnavailable(error.to_string())),
    }
}

fn odd(response: &Response) -> QuorumUnavailable {
    QuorumUnavailable(format!("an answer to another question: {response:?}"))
}

/// Tells the leader that a broker lives.
async fn beat(several: Several, broker: BrokerId, incarnation: Uuid, interval: Duration) {
    let mut stopping = several.stopping.subscribe();
    let mut alive = several.alive.subscribe();
    let mut well = several.well.subscribe();
    let mut link: Option<Link> = None;
    let mut said = false;
    loop {
        tokio::select! {
            _ = well.wait_for(|well| *well) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = alive.wait_for(Option::is_none) => return,
        }
        tokio::select! {
            heard = beat_once(&several, &mut link, broker, incarnation) => {
                if heard == Some(HeartbeatAnswer::Superseded) && !std::mem::replace(&mut said, true) {
                    tracing::error!(%broker, "another process has registered as this broker");
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = alive.wait_for(Option::is_none) => return,
        }
        // A new leader of the quorum is told at once.
        let leader = several.controller.leader();
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = several.controller.leader_changed(leader) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = alive.wait_for(Option::is_none) => return,
        }
    }
}

async fn beat_once(
    several: &Several,
    link: &mut Option<Link>,
    broker: BrokerId,
    incarnation: Uuid,
) -> Option<HeartbeatAnswer> {
    let sent = several.controller.env.clock.monotonic();
    let answer = ask_to_be_heard(several, link, broker, incarnation).await?;
    several.lease.send_replace(match answer {
        HeartbeatAnswer::Heard => {
            Some(Lease { sent, until: sent + several.controller.watch.timing.lease() })
        }
        HeartbeatAnswer::Superseded => None,
    });
    Some(answer)
}

async fn ask_to_be_heard(
    several: &Several,
    link: &mut Option<Link>,
    broker: BrokerId,
    incarnation: Uuid,
) -> Option<HeartbeatAnswer> {
    let leader = several.controller.leader()?;
    let within = several.controller.watch.timing.patience();
    if leader == several.controller.member.node_id {
        let heard = several.controller.hear(broker, incarnation);
        return timeout(within, heard).await.ok()?.ok();
    }
    let link = match link {
        Some(link) if link.target() == leader => link,
        _ => link.insert(Link::new(&several.net, &several.controller.member, leader)),
    };
    let request = Request::Heartbeat { broker, incarnation };
    let called = tokio::select! {
        called = link.call(&request, within) => called,
        // Whoever led before answers no more.
        () = several.controller.leader_changed(Some(leader)) => return None,
    };
    match answered(called) {
        Ok(Response::Heartbeat(answer)) => Some(answer),
        Ok(other) => {
            tracing::error!(?other, "an answer to another question");
            None
        }
        Err(error) => {
            tracing::debug!(%error, "a heartbeat was not heard");
            None
        }
    }
}

/// openraft's settings for a quorum of several. An append waits for the follower's disk, so the
/// interval of heartbeats, which bounds it, is as long as the elections allow.
fn raft_config(quorum: &QuorumConfig) -> Arc<openraft::Config> {
    let election_ms = u64::try_from(quorum.election_timeout.as_millis()).unwrap_or(1000).max(100);
    Arc::new(openraft::Config {
        cluster_name: "braid".to_owned(),
        heartbeat_interval: election_ms / 4,
        election_timeout_min: election_ms,
        election_timeout_max: election_ms * 2,
        install_snapshot_timeout: 30_000,
        snapshot_policy: RaftSnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT,
        replication_lag_threshold: ENTRIES_KEPT,
        ..openraft::Config::default()
    })
}
