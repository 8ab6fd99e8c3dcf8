//! Three nodes with brokers that hold shards together: who leads when brokers die, fall silent, are
//! cut off with or without the controller, say goodbye and come back.

use std::collections::BTreeSet;

use braid_base::model::{LeaderEpoch, ShardId};
use uuid::Uuid;

use super::several::{LONG, SESSION, World, name};
use super::*;
use crate::command::{ChangeSyncSet, CreateShards, NewShard, StartBroker};
use crate::image::ShardImage;
use crate::shard::Proposal;
use crate::testing::register_broker;

/// How often a broker is heard.
const BEAT: Duration = Duration::from_millis(300);
/// Within which a dead broker is followed by another.
const SOON: Duration = Duration::from_secs(1);

impl World {
    /// Three brokers, and three shards on all of them; shard n is led by machine n.
    async fn with_shards(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.open_all().await;
        for index in 0..3 {
            world.start_broker(index).await;
        }
        let shards = [[1, 2, 3], [2, 3, 1], [3, 1, 2]].map(|replicas| NewShard {
            replicas: replicas.map(BrokerId).to_vec(),
            in_sync_min: 2,
            store_id: Uuid::from_u128(u128::from(replicas[0].unsigned_abs())),
        });
        let made = CreateShards { shards: shards.to_vec() };
        let made = world.machines[0].node().propose(made).await.unwrap();
        assert_eq!(made, [Ok(ShardId(0)), Ok(ShardId(1)), Ok(ShardId(2))]);
        world.sync().await;
        world
    }

    /// The broker of a machine starts and is heard.
    async fn start_broker(&self, index: usize) {
        let machine = self.machine(index);
        let life = machine.env.rng.next_u64();
        let registration = register_broker(machine.id, u128::from(life));
        let start = StartBroker { registration, damaged: Vec::new() };
        while machine.node().propose(start.clone()).await.is_err() {}
        machine.node().keep_alive(BrokerId(machine.id), Uuid::from_u128(u128::from(life)), BEAT);
    }

    fn shard(&self, seen_by: usize, shard: u32) -> Arc<ShardImage> {
        Arc::clone(self.machine(seen_by).node().image().shard(ShardId(shard)).unwrap())
    }

    /// Waits until a machine sees something of a shard.
    async fn until(
        &self,
        seen_by: usize,
        shard: u32,
        is_so: impl Fn(&ShardImage) -> bool,
    ) -> Arc<ShardImage> {
        let mut images = self.machine(seen_by).node().watch();
        let seen = images.wait_for(|image| image.shard(ShardId(shard)).is_some_and(|it| is_so(it)));
        drop(tokio::time::timeout(LONG, seen).await.unwrap().unwrap());
        self.shard(seen_by, shard)
    }

    /// The same, until the controller has looked whose leadership is whose.
    async fn until_long(
        &self,
        seen_by: usize,
        shard: u32,
        is_so: impl Fn(&ShardImage) -> bool,
    ) -> Arc<ShardImage> {
        let end = tokio::time::Instant::now() + Duration::from_secs(700);
        while !is_so(&self.shard(seen_by, shard)) {
            assert!(tokio::time::Instant::now() < end);
            self.watch_leases(Duration::from_secs(1)).await;
        }
        self.shard(seen_by, shard)
    }

    /// All replicas catch up, and the leaders of all shards say so.
    async fn sync(&self) {
        self.agree().await;
        for shard in (0..3).map(ShardId) {
            let mut tries = 0;
            // Whether a leader is heard by the quorum is a matter of time.
            while !matches!(self.machines[0].node().propose(self.all_in(shard)).await, Ok(Ok(_))) {
                assert!(tries < 20, "{:?}", self.shard(0, shard.0));
                tries += 1;
                self.agree().await;
            }
        }
        self.agree().await;
    }

    /// What the leader of a shard proposes once all of its replicas have caught up.
    fn all_in(&self, shard: ShardId) -> ChangeSyncSet {
        let image = self.machines[0].node().image();
        let state = &image.shard(shard).unwrap().state;
        let members: BTreeSet<BrokerId> = state.replicas.iter().copied().collect();
        let added = members.iter().filter_map(|broker| image.replica(*broker)).collect();
        let (version, epoch) = (state.in_sync.version, state.epoch);
        let leader = state.leader.unwrap();
        ChangeSyncSet { shard, proposal: Proposal { leader, epoch, version, members, added } }
    }

    /// Lets time pass, and looks all the while whether a broker that has a lease is fenced.
    async fn watch_leases(&self, how_long: Duration) {
        let end = tokio::time::Instant::now() + how_long;
        while tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.check_leases();
        }
    }

    fn check_leases(&self) {
        let running = self.machines.iter().filter(|machine| machine.node.is_some());
        for machine in running.clone() {
            if machine.leased() {
                for other in running.clone() {
                    let image = other.node().image();
                    let broker = image.broker(BrokerId(machine.id)).unwrap();
                    assert!(!broker.fenced, "broker {} is fenced and has a lease", machine.id);
                }
            }
        }
    }

    fn cut_off(&self, index: usize, is_silent: bool) {
        let id = self.machine(index).id;
        for other in self.machines.iter().filter(|machine| machine.id != id) {
            self.net.set_silent(&name(id), &name(other.id), is_silent);
        }
    }
}

impl several::Machine {
    fn leased(&self) -> bool {
        let lease = *self.node().lease().borrow();
        lease.is_some_and(|lease| self.env.clock.monotonic() < lease.until)
    }
}

/// Another machine than the two.
fn third(a: usize, b: usize) -> usize {
    (0..3).find(|index| *index != a && *index != b).unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_broker_leads_its_share_and_has_a_lease() {
    let world = World::with_shards(1).await;
    for (shard, broker) in (0..3).zip(1..) {
        let shard = world.shard(0, shard);
        assert_eq!(shard.leader(), Some(BrokerId(broker)));
        assert_eq!(shard.in_sync().members.len(), 3);
    }
    world.watch_leases(SESSION * 10).await;
    assert!(world.machines.iter().all(several::Machine::leased));
    let text = world.agree().await;
    assert!(!text.contains("fenced"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_is_followed_at_once_and_gets_its_shards_back() {
    let mut world = World::with_shards(2).await;
    let controller = world.leader();
    for (round, dead) in (1..4).zip([(controller + 1) % 3, (controller + 2) % 3, controller]) {
        let shard = u32::try_from(dead).unwrap();
        let before = world.shard(dead, shard);
        let with_controller = world.leader() == dead;
        world.machines[dead].kill();
        let killed = tokio::time::Instant::now();
        let other = (dead + 1) % 3;
        let after = world.until(other, shard, |shard| shard.epoch() > before.epoch()).await;
        let took = killed.elapsed();
        // Where the controller died, too, there is an election of the quorum before.
        assert!(took < SOON || with_controller, "{took:?}");
        assert_eq!(after.leader(), Some(before.replicas()[1]));
        assert!(!after.in_sync().members.contains(&before.replicas()[0]));
        world.machines[dead].open().await;
        world.start_broker(dead).await;
        world.until(dead, shard, |shard| shard.epoch() == after.epoch()).await;
        world.sync().await;
        // Its shard goes back to it when the controller looks whose they should be.
        let back =
            world.until_long(dead, shard, |shard| shard.leader() == Some(before.replicas()[0]));
        assert!(back.await.epoch() > after.epoch(), "round {round}");
        world.sync().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_elected_while_a_silent_leader_has_its_lease() {
    for seed in 0..4 {
        let world = World::with_shards(20 + seed).await;
        let controller = world.leader();
        // Once with the controller, once without.
        let silent = if seed % 2 == 0 { controller } else { (controller + 1) % 3 };
        let shard = u32::try_from(silent).unwrap();
        let before = world.shard(silent, shard);
        world.cut_off(silent, true);
        let other = (silent + 1) % 3;
        let mut images = world.machine(other).node().watch();
        let is_led = |shard: &Arc<ShardImage>| shard.epoch() > before.epoch();
        let led = images.wait_for(|image| image.shard(before.id).is_some_and(is_led));
        let deadline = tokio::time::Instant::now() + LONG;
        tokio::pin!(led);
        loop {
            tokio::select! {
                led = &mut led => break drop(led.unwrap()),
                () = tokio::time::sleep(Duration::from_millis(20)) => world.check_leases(),
            }
            assert!(tokio::time::Instant::now() < deadline);
        }
        assert!(!world.machine(silent).leased());
        world.watch_leases(SESSION * 3).await;
        assert!(!world.machine(silent).leased(), "who hears itself only has no lease");
        world.cut_off(silent, false);
        world.until(silent, shard, |shard| shard.epoch() > before.epoch()).await;
        world.watch_leases(SESSION * 3).await;
        assert!(world.machine(silent).leased());
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_goodbye_is_followed_before_it_goes() {
    let mut world = World::with_shards(3).await;
    let leaving = (world.leader() + 1) % 3;
    let shard = u32::try_from(leaving).unwrap();
    let before = world.shard(leaving, shard);
    assert_eq!(world.machine(leaving).node().drain().await, Ok(0));
    let moved = world.shard(leaving, shard);
    assert_eq!(moved.leader(), Some(before.replicas()[1]));
    assert_eq!(moved.in_sync().members, before.in_sync().members, "it follows on");
    // Neither does the controller take it for the preferred leader.
    world.watch_leases(Duration::from_secs(400)).await;
    assert_eq!(world.shard(leaving, shard).state, moved.state);
    assert!(world.machine(leaving).leased());
    world.machine(leaving).node().retire().await;
    assert!(!world.machine(leaving).leased());
    let other = (leaving + 1) % 3;
    let left = world.until(other, shard, |shard| shard.in_sync().members.len() == 2).await;
    assert_eq!(left.state.leader, moved.state.leader);
    world.watch_leases(SESSION * 3).await;
    let id = BrokerId(world.machine(leaving).id);
    assert!(!world.machine(other).node().image().is_alive(id));
    // In its next life it counts again.
    world.machines[leaving].kill();
    world.machines[leaving].open().await;
    world.start_broker(leaving).await;
    world.sync().await;
    let back = world.until_long(other, shard, |shard| shard.leader() == Some(id));
    assert!(back.await.epoch() > LeaderEpoch(moved.epoch().0));
}

#[tokio::test(start_paused = true)]
async fn a_live_process_that_is_not_well_leads_nothing() {
    let world = World::with_shards(5).await;
    let sick = (world.leader() + 1) % 3;
    let shard = u32::try_from(sick).unwrap();
    let before = world.shard(sick, shard);
    world.machine(sick).node().be_well(false);
    world.watch_leases(SESSION * 2).await;
    let after = world.shard(sick, shard);
    assert_eq!(after.leader(), Some(before.replicas()[1]));
    assert!(!world.machine(sick).leased());
    world.machine(sick).node().be_well(true);
    world.watch_leases(SESSION).await;
    assert!(world.machine(sick).leased());
    assert!(world.machine(sick).node().image().is_alive(BrokerId(world.machine(sick).id)));
}

#[tokio::test(start_paused = true)]
async fn the_last_one_in_sync_is_waited_for() {
    let mut world = World::with_shards(4).await;
    let controller = world.leader();
    let [a, b] = [(controller + 1) % 3, (controller + 2) % 3];
    let shard = u32::try_from(a).unwrap();
    // Only broker a is in sync; then it dies.
    let state = world.shard(a, shard).state.clone();
    let leader = state.leader.unwrap();
    let members = [leader.broker].into();
    let (version, epoch) = (state.in_sync.version, state.epoch);
    let proposal = Proposal { leader, epoch, version, members, added: Vec::new() };
    let change = ChangeSyncSet { shard: ShardId(shard), proposal };
    world.machine(b).node().propose(change).await.unwrap().unwrap();
    let alone = world.shard(b, shard);
    assert_eq!(alone.eligible().count(), 2, "below its least size nothing is committed");
    world.machines[a].kill();
    // So those that left may lead, and the one that died may again.
    let next = world.until(b, shard, |shard| shard.epoch() > epoch).await;
    assert_ne!(next.leader(), Some(leader.broker));
    assert!(next.eligible().any(|broker| broker == leader.broker));
    world.machines[a].open().await;
    world.start_broker(a).await;
    world.until(a, shard, |shard| shard.epoch() == next.epoch()).await;
    // All the others go, power and all: whoever comes back first leads.
    let last = third(a, b);
    world.machines[b].cut_power(1);
    world.machines[last].cut_power(2);
    world.machines[a].cut_power(3);
    world.open_all().await;
    for index in 0..3 {
        world.start_broker(index).await;
    }
    let led = world.until(a, shard, |shard| shard.state.leader.is_some()).await;
    assert!(led.epoch() > next.epoch());
    world.watch_leases(SESSION * 3).await;
}

/// Deaths, power cuts and silence at random: no broker that has a lease is ever fenced, epochs and
/// versions grow, and in the end everybody leads again.
#[tokio::test(start_paused = true)]
async fn whatever_happens_one_leads_at_a_time() {
    for seed in 0..6u64 {
        let mut world = World::with_shards(200 + seed).await;
        let chance = braid_base::env::rng::SeededRng::from_seed(seed);
        let draw = |n: u64| usize::try_from(Rng::next_u64(&chance) % n).unwrap();
        for _ in 0..8 {
            let before: Vec<_> = (0..3).map(|shard| world.shard(0, shard)).collect();
            let victim = draw(3);
            match draw(4) {
                0 => world.machines[victim].kill(),
                1 => world.machines[victim].cut_power(seed),
                2 => world.cut_off(victim, true),
                _ => {
                    let (a, b) = (world.machine(victim).id, world.machine((victim + 1) % 3).id);
                    world.net.set_silent(&name(a), &name(b), true);
                }
            }
            world.watch_leases(Duration::from_millis(100 + 100 * draw(80) as u64)).await;
            world.cut_off(victim, false);
            if world.machine(victim).node.is_none() {
                world.machines[victim].open().await;
                world.start_broker(victim).await;
            }
            world.watch_leases(SESSION * 2).await;
            world.sync().await;
            for (before, shard) in before.iter().zip(0..) {
                let after = world.shard(0, shard);
                assert!(after.epoch() >= before.epoch());
                assert!(after.in_sync().version >= before.in_sync().version);
                let same = after.state.leader == before.state.leader;
                assert!(same || after.epoch() > before.epoch());
            }
        }
    }
}
