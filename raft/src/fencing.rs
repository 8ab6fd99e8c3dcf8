//! The controller's watch over brokers, while this node leads the quorum: hears them, fences those
//! that are silent or dead, and gives leadership back to the replicas that are preferred. Whoever is
//! fenced is followed by another leader in the same step, by [`apply`](crate::apply::apply).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use braid_base::env::Net;
use braid_base::model::BrokerId;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::command::{ElectLeaders, ElectionKind, FenceBroker, ShardElection};
use crate::controller::{Controller, NotNow};
use crate::image::{MetadataImage, ShardImage};
use crate::lease::Timing;
use crate::liveness::Liveness;
use crate::network::message::HeartbeatAnswer;
use crate::outcome::Outcome;
use crate::proposer::ProposeError;

/// How many times in a session the controller looks who is silent.
const LOOKS_IN_SESSION: u32 = 10;
/// How long a broker that may be dead may take to be found alive.
const PROBE_WITHIN: Duration = Duration::from_millis(300);
/// A process that ends closes its sockets one after the other: it is asked again.
const PROBES: u32 = 4;
const PROBE_AGAIN_AFTER: Duration = Duration::from_millis(30);
/// How long this node may take to see what it knows to be agreed.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Elections in one command.
const ELECTIONS_MAX: usize = 1000;
/// The key that says, for the cluster, whether any replica may lead where no other is left.
const UNCLEAN: &str = "unclean.leader.election.enable";

/// What the controller knows of brokers' lives.
pub(crate) struct Watch {
    pub(crate) timing: Timing,
    elections: ElectionPolicy,
    liveness: Mutex<Liveness>,
    /// The term in which this node was last certain to lead, and when it began to make sure.
    certain: Mutex<Option<(u64, Duration)>>,
    /// Whoever makes sure does so for all who wait.
    making_sure: Semaphore,
    /// Somebody may be dead.
    suspected: Notify,
}

/// When the controller elects without being asked, beyond what every loss of a leader brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionPolicy {
    /// How often leadership is given back to preferred replicas; none is never
    /// (`auto.leader.rebalance.enable`, `leader.imbalance.check.interval.seconds`).
    pub rebalance_interval: Option<Duration>,
    /// Whether a replica that may lack records leads where no other is up, unless the cluster's
    /// dynamic configs say (`unclean.leader.election.enable`).
    pub unclean: bool,
}

impl Watch {
    pub(crate) fn new(session: Duration, elections: ElectionPolicy) -> Self {
        Self {
            timing: Timing { session },
            elections,
            liveness: Mutex::new(Liveness::new(session)),
            certain: Mutex::default(),
            making_sure: Semaphore::new(1),
            suspected: Notify::new(),
        }
    }

    fn liveness(&self) -> MutexGuard<'_, Liveness> {
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controller {
    /// Takes a broker's heartbeat, if this node is certain to lead.
    pub(crate) async fn hear(
        &self,
        id: BrokerId,
        incarnation: Uuid,
    ) -> Result<HeartbeatAnswer, NotNow> {
        self.be_certain().await?;
        let Some(known) = self.machine.image().broker(id).map(Arc::clone) else {
            return Ok(HeartbeatAnswer::Superseded);
        };
        if known.incarnation != incarnation {
            return Ok(HeartbeatAnswer::Superseded);
        }
        if known.fenced && known.draining {
            return Err(NotNow::Unready("the broker has said goodbye".to_owned()));
        }
        let now = self.env.clock.monotonic();
        if !self.watch.liveness().hear(now, id) {
            return Err(NotNow::Unready("the broker is being fenced".to_owned()));
        }
        if known.fenced {
            let unfence = FenceBroker { broker: id, incarnation, fenced: false };
            match self.propose_here(unfence.into()).await {
                Ok((Outcome::FenceBroker(Ok(())), _)) => {
                    tracing::info!(broker = %id, "a broker is heard again");
                }
                Ok(_) => return Ok(HeartbeatAnswer::Superseded),
                Err(error) => return Err(NotNow::Unready(error.to_string())),
            }
        }
        Ok(HeartbeatAnswer::Heard)
    }

    /// Makes sure that this node leads, and sees all that earlier leaders agreed on; what was sure a
    /// moment ago is.
    async fn be_certain(&self) -> Result<(), NotNow> {
        let _one = self.watch.making_sure.acquire().await;
        let Some(term) = self.leads() else { return Err(NotNow::NotLeader(self.other_leader())) };
        let now = self.env.clock.monotonic();
        let certain = *self.watch.certain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, began)) = certain
            && known == term
            && now.saturating_sub(began) <= self.watch.timing.certain_for()
        {
            return Ok(());
        }
        let index = self.read_index().await?;
        let mut images = self.machine.watch();
        let seen = images.wait_for(|image| image.applied_index() >= index);
        if !matches!(timeout(SEEN_WITHIN, seen).await, Ok(Ok(_))) {
            return Err(NotNow::Unready("its image is behind its log".to_owned()));
        }
        if self.leads() != Some(term) {
            return Err(NotNow::NotLeader(self.other_leader()));
        }
        *self.watch.certain.lock().unwrap_or_else(PoisonError::into_inner) = Some((term, now));
        Ok(())
    }

    /// A member may be dead: this is looked into, if this node leads.
    pub(crate) fn suspect(&self, member: BrokerId) {
        if member != self.member.node_id {
            self.watch.liveness().suspect(member);
            self.watch.suspected.notify_one();
        }
    }

    /// Fences the brokers that were not heard for a session. To be called many times in a session.
    async fn fence_silent(&self) {
        let now = self.env.clock.monotonic();
        let silent = self.watch.liveness().silent(now, self.leads(), &self.machine.image());
        for (id, incarnation) in silent {
            self.fence_judged(id, incarnation, "a broker is not heard any more").await;
        }
    }

    /// Fences those of the suspects that are dead: at whose address nothing listens, though their
    /// machine answers. Whose machine is silent may be alive.
    async fn fence_dead(&self, net: &dyn Net) {
        let suspects = self.watch.liveness().take_suspects();
        for id in suspects {
            let Some(address) = self.member.addresses.get(&id) else { continue };
            if id == self.member.node_id || !self.machine.image().is_alive(id) {
                continue;
            }
            if !is_dead(net, address).await {
                continue;
            }
            let buried = self.watch.liveness().bury(id, &self.machine.image());
            if let Some(incarnation) = buried {
                self.fence_judged(id, incarnation, "the process of a broker has ended").await;
            }
        }
    }

    async fn fence_judged(&self, id: BrokerId, incarnation: Uuid, why: &'static str) {
        let fence = FenceBroker { broker: id, incarnation, fenced: true };
        match self.propose_here(fence.into()).await {
            Ok((Outcome::FenceBroker(Ok(())), _)) => {
                tracing::warn!(broker = %id, "{why}; what it led is led by others, if they can");
                self.watch.liveness().settle(id);
            }
            Ok(_) => self.watch.liveness().settle(id),
            // It may come to be fenced yet: until that is known, it is not heard.
            Err(error @ (ProposeError::Interrupted | ProposeError::Stopped)) => {
                tracing::debug!(broker = %id, %error, "whether a broker is fenced is unknown");
            }
            Err(error) => {
                tracing::debug!(broker = %id, %error, "a broker is fenced later");
                self.watch.liveness().settle(id);
            }
        }
    }

    /// Holds the elections that somebody has to ask for, if this node leads.
    async fn hold(&self, elections: Vec<ShardElection>) {
        for some in elections.chunks(ELECTIONS_MAX) {
            let command = ElectLeaders { elections: some.to_vec() };
            match self.propose_here(command.into()).await {
                Ok((Outcome::ElectLeaders(held), _)) => {
                    for (election, elected) in some.iter().zip(held) {
                        let (shard, kind) = (election.shard, election.kind);
                        match elected {
                            Ok(elected) if elected.unclean => tracing::warn!(
                                %shard, leader = %elected.leader.broker,
                                "a replica leads that may lack committed records"
                            ),
                            Ok(elected) => tracing::info!(
                                %shard, leader = %elected.leader.broker, ?kind, "elected"
                            ),
                            Err(why) => tracing::debug!(%shard, %why, ?kind, "nobody elected"),
                        }
                    }
                }
                Ok((other, _)) => tracing::error!(?other, "the outcome of another command"),
                Err(error) => tracing::debug!(%error, "elections are held later"),
            }
        }
    }
}

/// Whether a machine answers that nothing listens at an address.
async fn is_dead(net: &dyn Net, address: &str) -> bool {
    for probe in 0..PROBES {
        if probe > 0 {
            tokio::time::sleep(PROBE_AGAIN_AFTER).await;
        }
        match timeout(PROBE_WITHIN, net.connect(address)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return true,
            Ok(Ok(_) | Err(_)) => {}
            Err(_) => return false,
        }
    }
    false
}

/// The shards whose preferred leader could lead and does not.
fn imbalanced(image: &MetadataImage) -> Vec<ShardElection> {
    let election = |shard: &Arc<ShardImage>| {
        let preferred = *shard.replicas().first()?;
        let broker = image.broker(preferred)?;
        let may =
            !broker.fenced && !broker.draining && shard.in_sync().members.contains(&preferred);
        let epoch = Some(shard.epoch());
        (shard.is_replicated() && may && shard.leader() != Some(preferred))
            .then_some(ShardElection { shard: shard.id, kind: ElectionKind::Preferred, epoch })
    };
    image.shards().filter_map(election).collect()
}

/// The shards without a leader, though a replica is up, where that may lead.
fn leaderless(image: &MetadataImage, policy: ElectionPolicy) -> Vec<ShardElection> {
    let configs = image.broker_configs(None);
    let dynamic = configs.and_then(|configs| configs.get(UNCLEAN));
    if !dynamic.map_or(policy.unclean, |value| value == "true") {
        return Vec::new();
    }
    let election = |shard: &Arc<ShardImage>| {
        let may = shard.is_replicated()
            && shard.state.leader.is_none()
            && shard.replicas().iter().any(|broker| image.is_alive(*broker));
        let epoch = Some(shard.epoch());
        may.then_some(ShardElection { shard: shard.id, kind: ElectionKind::Unclean, epoch })
    };
    image.shards().filter_map(election).collect()
}

/// The task: watches over brokers until told to stop.
pub(crate) async fn run(
    controller: Arc<Controller>,
    net: Arc<dyn Net>,
    mut stopping: watch::Receiver<bool>,
) {
    let interval = controller.watch.timing.session / LOOKS_IN_SESSION;
    let mut rebalanced = controller.env.clock.monotonic();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = controller.watch.suspected.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        controller.fence_silent().await;
        if controller.leads().is_none() {
            continue;
        }
        controller.fence_dead(&*net).await;
        controller.promote_learners().await;
        let policy = controller.watch.elections;
        let mut elections = leaderless(&controller.machine.image(), policy);
        let now = controller.env.clock.monotonic();
        if policy.rebalance_interval.is_some_and(|every| now.saturating_sub(rebalanced) >= every) {
            rebalanced = now;
            elections.extend(imbalanced(&controller.machine.image()));
        }
        controller.hold(elections).await;
    }
}

#[cfg(test)]
mod tests {
    use braid_base::model::ShardId;

    use super::*;
    use crate::apply::apply;
    use crate::command::{
        ConfigChange, CreateShards, DrainBroker, NewShard, SetBrokerConfigs, StartBroker,
    };
    use crate::testing::{register_broker, set};

    const LIFE: Uuid = Uuid::from_u128(7);

    /// Brokers 1 and 2, and a shard that broker 1 is to lead.
    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        for broker in 1..3 {
            start(&mut image, broker, 7, false);
        }
        let replicas = vec![BrokerId(1), BrokerId(2)];
        let shard = NewShard { replicas, in_sync_min: 1, store_id: Uuid::from_u128(1) };
        apply(&mut image, &CreateShards { shards: vec![shard] }.into());
        image
    }

    fn start(image: &mut MetadataImage, broker: i32, life: u128, damaged: bool) {
        let registration = register_broker(broker, life);
        let damaged = if damaged { vec![ShardId(0)] } else { Vec::new() };
        apply(image, &StartBroker { registration, damaged }.into());
    }

    fn fence(image: &mut MetadataImage, broker: i32, fenced: bool) {
        let broker = BrokerId(broker);
        apply(image, &FenceBroker { broker, incarnation: LIFE, fenced }.into());
    }

    /// All replicas are in sync.
    fn sync(image: &mut MetadataImage) {
        let state = image.shard(ShardId(0)).unwrap().state.clone();
        let members: std::collections::BTreeSet<_> = state.replicas.iter().copied().collect();
        let proposal = crate::shard::Proposal {
            leader: state.leader.unwrap(),
            epoch: state.epoch,
            version: state.in_sync.version,
            added: members.iter().filter_map(|broker| image.replica(*broker)).collect(),
            members,
        };
        apply(image, &crate::command::ChangeSyncSet { shard: ShardId(0), proposal }.into());
    }

    #[test]
    fn leadership_goes_back_to_who_is_preferred_up_in_sync_and_stays() {
        let mut image = image();
        assert_eq!(imbalanced(&image), []);
        fence(&mut image, 1, true);
        assert_eq!(imbalanced(&image), [], "it is not up");
        fence(&mut image, 1, false);
        assert_eq!(imbalanced(&image), [], "it is not in sync");
        sync(&mut image);
        let epoch = Some(image.shard(ShardId(0)).unwrap().epoch());
        let preferred = ShardElection { shard: ShardId(0), kind: ElectionKind::Preferred, epoch };
        assert_eq!(imbalanced(&image), [preferred]);
        let elected =
            apply(&mut image.clone(), &ElectLeaders { elections: vec![preferred] }.into());
        assert!(matches!(elected, Outcome::ElectLeaders(it) if it[0].is_ok()));
        let drain = DrainBroker { broker: BrokerId(1), incarnation: LIFE };
        apply(&mut image, &drain.into());
        assert_eq!(imbalanced(&image), [], "it is about to stop");
    }

    #[test]
    fn anybody_leads_where_nobody_else_may_and_the_cluster_allows_it() {
        let mut image = image();
        fence(&mut image, 2, true);
        fence(&mut image, 1, true);
        let never = ElectionPolicy { rebalance_interval: None, unclean: false };
        let always = ElectionPolicy { unclean: true, ..never };
        assert_eq!(leaderless(&image, always), [], "nobody is up");
        // Broker 1 alone was in sync; broker 2 is back.
        fence(&mut image, 2, false);
        assert_eq!(leaderless(&image, never), []);
        let found = leaderless(&image, always);
        assert_eq!(found.len(), 1);
        let configured = |image: &MetadataImage, change: ConfigChange, policy| {
            let mut image = image.clone();
            let changes = vec![change];
            apply(&mut image, &SetBrokerConfigs { broker: None, changes }.into());
            leaderless(&image, policy).len()
        };
        assert_eq!(configured(&image, set(UNCLEAN, "true"), never), 1);
        assert_eq!(configured(&image, set(UNCLEAN, "false"), always), 0);
        apply(&mut image, &ElectLeaders { elections: found }.into());
        assert_eq!(image.shard(ShardId(0)).unwrap().leader(), Some(BrokerId(2)));
        assert_eq!(leaderless(&image, always), []);
        // Whoever was in sync alone lost its log: it is waited for no longer either.
        fence(&mut image, 2, true);
        start(&mut image, 2, 8, true);
        assert_eq!(leaderless(&image, always).len(), 1);
    }
}
