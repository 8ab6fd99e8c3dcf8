//! Three nodes on a simulated network, in time that jumps.

use braid_base::env::sim::{SimHandles, SimNet};
use uuid::Uuid;

use super::*;
use crate::command::FenceBroker;
use crate::testing::register_broker;
use crate::{ElectionPolicy, ReplaceError};

pub(super) const SESSION: Duration = Duration::from_secs(3);
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn name(id: i32) -> String {
    format!("node-{id}")
}

fn config(id: i32) -> MetadataConfig {
    let at = |id: i32| (BrokerId(id), format!("{}:9093", name(id)));
    MetadataConfig {
        node_id: BrokerId(id),
        quorum: Some(QuorumConfig {
            voters: (1..4).map(at).collect(),
            listen: at(id).1,
            secret: crate::ClusterSecret::new("secret"),
            election_timeout: Duration::from_secs(1),
            session_timeout: SESSION,
            elections: ElectionPolicy {
                rebalance_interval: Some(Duration::from_secs(300)),
                unclean: false,
            },
        }),
        ..super::config(Path::new("/data"))
    }
}

/// A machine and what runs on it.
pub(super) struct Machine {
    pub(super) id: i32,
    pub(super) env: Env,
    handles: SimHandles,
    pub(super) node: Option<MetadataNode>,
}

impl Machine {
    fn new(id: i32, seed: u64, net: &SimNet) -> Self {
        let seed = seed.wrapping_mul(31).wrapping_add(u64::from(id.unsigned_abs()));
        let (env, handles) = sim::env_on(seed, net.host(&name(id)));
        Self { id, env, handles, node: None }
    }

    async fn try_open(&mut self) -> Result<(), OpenError> {
        // So small that segments roll and snapshots are taken in a test.
        let limits = Limits { segment_bytes: 4096, allocate_bytes: 4096, spare_bytes: 1024 };
        let policy = SnapshotPolicy { debt_bytes_min: 4096 };
        let opened = MetadataNode::open_with(&self.env, config(self.id), limits, policy).await;
        self.node = Some(opened?);
        Ok(())
    }

    pub(super) async fn open(&mut self) {
        tokio::time::timeout(LONG, self.try_open()).await.unwrap().unwrap();
    }

    pub(super) fn node(&self) -> &MetadataNode {
        self.node.as_ref().unwrap()
    }

    /// kill -9, and the machine stays.
    pub(super) fn kill(&mut self) {
        self.node = None;
        (self.env, self.handles) = self.handles.restart();
    }

    /// The power goes.
    pub(super) fn cut_power(&mut self, seed: u64) {
        self.node = None;
        (self.env, self.handles) = self.handles.reboot(seed);
    }

    /// Waits until its image has a topic.
    async fn sees(&self, topic: &str) {
        let mut images = self.node().watch();
        let seen = images.wait_for(|image| image.topic(topic).is_some());
        drop(tokio::time::timeout(LONG, seen).await.unwrap().unwrap());
    }

    async fn create(&self, number: u128) -> Result<(), ProposeError> {
        let topics = vec![topic(&format!("t{number}"), 100 + number, 1)];
        self.node().propose(create(topics)).await.map(drop)
    }
}

pub(super) struct World {
    pub(super) net: SimNet,
    pub(super) machines: [Machine; 3],
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let net = SimNet::default();
        let machines = [1, 2, 3].map(|id| Machine::new(id, seed, &net));
        Self { net, machines }
    }

    /// Three nodes of one cluster, with broker 1.
    async fn formed(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.open_all().await;
        world.machines[0].node().propose(register(1)).await.unwrap().unwrap();
        world
    }

    pub(super) async fn open_all(&mut self) {
        let [a, b, c] = &mut self.machines;
        tokio::join!(a.open(), b.open(), c.open());
    }

    /// A node dies with its disk, and its start with an empty one is refused. Returns the mark of that.
    async fn lose_disk(&mut self, lost: usize) -> Uuid {
        self.machines[lost].kill();
        let id = self.machine(lost).id;
        let net = self.net.host(&name(id));
        (self.machines[lost].env, self.machines[lost].handles) = sim::env_on(99, net);
        let refused = tokio::time::timeout(LONG, self.machines[lost].try_open()).await.unwrap();
        let OpenError::Emptied { directory, .. } = refused.unwrap_err() else {
            panic!("another reason")
        };
        directory
    }

    /// Asks for another directory until the quorum, which may just be between two leaders, decides, and
    /// has noticed who is dead.
    async fn replace(
        &self,
        at: usize,
        node: BrokerId,
        directory: Uuid,
    ) -> Result<(), ReplaceError> {
        let end = tokio::time::Instant::now() + LONG;
        loop {
            let replaced = self.machine(at).node().replace(node, directory).await;
            if !matches!(replaced, Err(ReplaceError::Unavailable(_) | ReplaceError::Running(_))) {
                return replaced;
            }
            assert!(tokio::time::Instant::now() < end, "{replaced:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until so many vote.
    async fn votes(&self, seen_by: usize, count: usize) {
        let end = tokio::time::Instant::now() + LONG;
        let node = self.machine(seen_by).node();
        while !matches!(node.quorum().await, Ok(quorum) if quorum.voters.len() == count) {
            assert!(tokio::time::Instant::now() < end, "{:?}", node.quorum().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The machine that leads, as the others see it.
    pub(super) fn leader(&self) -> usize {
        let leaders = self.machines.iter().filter_map(|machine| machine.node.as_ref()?.leader());
        let leader = leaders.max_by_key(|leader| {
            self.machines
                .iter()
                .filter(|m| m.node.as_ref().is_some_and(|n| n.leader() == Some(*leader)))
                .count()
        });
        usize::try_from(leader.unwrap().0 - 1).unwrap()
    }

    pub(super) fn machine(&self, index: usize) -> &Machine {
        &self.machines[index]
    }

    /// All images are the same once everybody has caught up.
    pub(super) async fn agree(&self) -> String {
        let mut texts = Vec::new();
        for machine in &self.machines {
            let mut tries = 0;
            while let Err(error) = machine.node().catch_up().await {
                assert!(tries < 200, "{error}");
                tries += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        for machine in &self.machines {
            texts.push(machine.node().image().to_string());
        }
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[1], texts[2]);
        texts.swap_remove(0)
    }
}

#[tokio::test(start_paused = true)]
async fn three_empty_nodes_form_one_cluster_and_agree() {
    let world = World::formed(1).await;
    let ids: Vec<_> =
        world.machines.iter().map(|m| m.node().image().cluster_id().unwrap().clone()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[1], ids[2]);
    // Whoever is asked, the leader decides, and the asker sees what came of it.
    for (number, machine) in (0..).zip(&world.machines) {
        machine.create(number).await.unwrap();
        assert!(machine.node().image().topic(&format!("t{number}")).is_some());
        let again = machine.node().propose(create(vec![topic("t0", 7, 1)])).await.unwrap();
        assert_eq!(again[0].as_ref().unwrap_err().to_string(), "Topic 't0' already exists.");
    }
    let ids = world.machines[2].node().propose(AllocateProducerIds { count: 10 }).await.unwrap();
    assert_eq!(ids.unwrap(), ProducerIdBlock { first: 0, end: 10 });
    let ids = world.machines[1].node().propose(AllocateProducerIds { count: 10 }).await.unwrap();
    assert_eq!(ids.unwrap(), ProducerIdBlock { first: 10, end: 20 });
    let quorum = world.machines[0].node().quorum().await.unwrap();
    assert_eq!(quorum.voters.len(), 3);
    assert_eq!(Some(quorum.leader), world.machines[0].node().leader());
    world.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_not_formed_before_all_voters_are_there() {
    let mut world = World::new(2);
    let [a, b, c] = &mut world.machines;
    let two = async { tokio::join!(a.try_open(), b.try_open()) };
    let opened = tokio::time::timeout(LONG, two).await;
    assert!(opened.is_err());
    // Those starts were given up; the directories are as good as before.
    (a.env, a.handles) = a.handles.restart();
    (b.env, b.handles) = b.handles.restart();
    tokio::join!(a.open(), b.open(), c.open());
    world.agree().await;
}

#[tokio::test(start_paused = true)]
async fn metadata_goes_on_without_its_leader_which_comes_back() {
    let mut world = World::formed(3).await;
    world.machines[0].create(0).await.unwrap();
    for round in 1..4u128 {
        let leader = world.leader();
        world.machines[leader].kill();
        let other = world.machine((leader + 1) % 3);
        let before = tokio::time::Instant::now();
        // What was on its way to the dead leader may be lost; what is answered is not.
        while other.create(round).await.is_err() {}
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        world.machines[leader].open().await;
        world.machines[leader].sees(&format!("t{round}")).await;
    }
    let text = world.agree().await;
    assert!((0..4).all(|n| text.contains(&format!("topic t{n} "))), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_changes_nothing_and_yields() {
    let world = World::formed(4).await;
    let leader = world.leader();
    let [other, third] = [(leader + 1) % 3, (leader + 2) % 3];
    for peer in [other, third] {
        world.net.set_silent(&name(world.machine(leader).id), &name(world.machine(peer).id), true);
    }
    let lost = world.machine(leader).create(1);
    let kept = async {
        let mut tries = 0;
        while world.machine(other).create(2).await.is_err() {
            tries += 1;
            assert!(tries < 10);
        }
    };
    let (lost, ()) = tokio::join!(lost, kept);
    assert_eq!(lost, Err(ProposeError::Interrupted));
    assert!(world.machine(leader).node().catch_up().await.is_err(), "it cannot know what is new");
    assert!(world.machine(leader).node().image().topic("t2").is_none());
    for peer in [other, third] {
        world.net.set_silent(&name(world.machine(leader).id), &name(world.machine(peer).id), false);
    }
    world.machine(leader).sees("t2").await;
    let text = world.agree().await;
    assert!(!text.contains("topic t1 "), "an entry that no majority took is gone: {text}");
}

#[tokio::test(start_paused = true)]
async fn all_nodes_may_lose_power_at_once() {
    let mut world = World::formed(5).await;
    for round in 0..4u64 {
        let at = usize::try_from(round % 3).unwrap();
        world.machines[at].create(u128::from(round)).await.unwrap();
        for machine in &mut world.machines {
            machine.cut_power(round);
        }
        world.open_all().await;
        let text = world.agree().await;
        assert!((0..=round).all(|n| text.contains(&format!("topic t{n} "))), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_disk_was_emptied_is_not_who_it_was() {
    let mut world = World::formed(6).await;
    let leader = world.leader();
    world.machines[leader].kill();
    let id = world.machine(leader).id;
    let net = world.net.host(&name(id));
    let (env, handles) = sim::env_on(99, net);
    (world.machines[leader].env, world.machines[leader].handles) = (env, handles);
    let refused = tokio::time::timeout(LONG, world.machines[leader].try_open()).await.unwrap();
    let refused = refused.unwrap_err();
    assert!(matches!(refused, OpenError::Emptied { .. }), "{refused}");
    world.machine((leader + 1) % 3).create(1).await.unwrap();
}

/// A node of each number and in each part loses its disk, and is replaced by an empty one.
#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_disk_is_replaced() {
    for (seed, lost) in [(60, 0), (61, 1), (62, 2), (63, 0)] {
        let mut world = World::formed(seed).await;
        world.machines[lost].create(1).await.unwrap();
        let directory = world.lose_disk(lost).await;
        let id = BrokerId(world.machine(lost).id);
        let other = (lost + 1) % 3;
        let node = BrokerId(9);
        let refused = world.replace(other, node, directory).await;
        assert_eq!(refused, Err(ReplaceError::NoVoter(node)));
        let nobody = Uuid::nil();
        let refused = world.replace(other, id, nobody).await;
        assert_eq!(refused, Err(ReplaceError::DirectoryInUse(nobody)));
        // Asked twice it is done once.
        for _ in 0..2 {
            assert_eq!(world.replace(other, id, directory).await, Ok(()));
        }
        world.machine(other).create(2).await.unwrap();
        world.machines[lost].open().await;
        world.votes(other, 3).await;
        let text = world.agree().await;
        assert!(text.contains("topic t1 ") && text.contains("topic t2 "), "{text}");
        // It counts: with one of the others it is a majority, also after everybody has started anew.
        for machine in &mut world.machines {
            machine.cut_power(seed);
        }
        world.open_all().await;
        world.machines[other].kill();
        world.machines[lost].create(3).await.unwrap();
        world.machines[other].open().await;
        assert!(world.agree().await.contains("topic t3 "));
    }
}

#[tokio::test(start_paused = true)]
async fn who_runs_is_not_replaced_and_who_was_replaced_stays_outside() {
    let mut world = World::formed(64).await;
    let leader = world.leader();
    let [lost, other] = [(leader + 1) % 3, (leader + 2) % 3];
    let id = BrokerId(world.machine(lost).id);
    let directory = Uuid::from_u128(5);
    let register = register_broker(id.0, 7);
    world.machine(lost).node().propose(register).await.unwrap().unwrap();
    let refused = world.machine(other).node().replace(id, directory).await;
    assert_eq!(refused, Err(ReplaceError::Running(id)));
    let own = BrokerId(world.machine(leader).id);
    let refused = world.machine(leader).node().replace(own, directory).await;
    assert_eq!(refused, Err(ReplaceError::Running(own)));
    // It is cut off, taken for lost, and replaced; then it is back.
    for peer in [leader, other] {
        world.net.set_silent(&name(id.0), &name(world.machine(peer).id), true);
    }
    let fence = FenceBroker { broker: id, incarnation: Uuid::from_u128(7), fenced: true };
    world.machine(leader).node().propose(fence).await.unwrap().unwrap();
    world.machine(other).node().replace(id, directory).await.unwrap();
    for peer in [leader, other] {
        world.net.set_silent(&name(id.0), &name(world.machine(peer).id), false);
    }
    world.machine(other).create(1).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert!(world.machine(lost).node().image().topic("t1").is_none());
    assert!(world.machine(lost).create(2).await.is_err());
    world.machine(other).create(3).await.unwrap();
    let quorum = world.machine(leader).node().quorum().await.unwrap();
    assert_eq!(quorum.voters.len(), 2);
    world.machines[lost].kill();
}

#[tokio::test(start_paused = true)]
async fn a_directory_keeps_its_kind_of_quorum() {
    let mut world = World::formed(7).await;
    world.machines[0].kill();
    let alone = MetadataConfig { quorum: None, ..config(1) };
    let refused = MetadataNode::open(&world.machines[0].env, alone).await.unwrap_err();
    assert!(matches!(refused, OpenError::OfSeveral { .. }), "{refused}");
    let mut fewer = config(1);
    fewer.quorum.as_mut().unwrap().voters.remove(&BrokerId(3));
    let refused = MetadataNode::open(&world.machines[0].env, fewer).await.unwrap_err();
    let told = "agreed on by nodes 1,2,3, not by 1,2 as controller.quorum.voters says";
    assert!(refused.to_string().contains(told), "{refused}");

    let (env, _machine) = sim::env(8);
    let alone = MetadataConfig { quorum: None, ..config(1) };
    MetadataNode::open(&env, alone).await.unwrap().shutdown().await;
    let refused = MetadataNode::open(&env, config(1)).await.unwrap_err();
    let told = "agreed on by nodes 1, not by 1,2,3";
    assert!(refused.to_string().contains(told), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_long_catches_up_by_a_snapshot() {
    let mut world = World::formed(9).await;
    let away = (world.leader() + 1) % 3;
    world.machines[away].kill();
    let present = world.leader();
    for number in 0..1500 {
        world.machine(present).create(number).await.unwrap();
    }
    world.machines[away].open().await;
    let text = world.agree().await;
    assert!(text.contains("topic t1499 "));
    let log = Path::new("/data/metadata/snapshot");
    assert!(world.machine(away).env.fs.size(log).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_falls_silent_is_fenced_until_it_is_heard() {
    let mut world = World::formed(10).await;
    let leader = world.leader();
    let silent = (leader + 1) % 3;
    for machine in &world.machines {
        let life = Uuid::from_u128(7);
        machine.node().propose(register_broker(machine.id, 7)).await.unwrap().unwrap();
        machine.node().keep_alive(BrokerId(machine.id), life, Duration::from_millis(500));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let fenced = |world: &World| {
        let image = world.machine(leader).node().image();
        image.brokers().filter(|broker| broker.fenced).map(|broker| broker.id).collect::<Vec<_>>()
    };
    assert_eq!(fenced(&world), []);
    let id = world.machine(silent).id;
    for other in world.machines.iter().filter(|machine| machine.id != id) {
        world.net.set_silent(&name(id), &name(other.id), true);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(fenced(&world), [BrokerId(id)]);
    let image = world.machine(leader).node().image();
    assert!(!image.is_alive(BrokerId(id)));
    for other in world.machines.iter().filter(|machine| machine.id != id) {
        world.net.set_silent(&name(id), &name(other.id), false);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(fenced(&world), []);
    // A life that is over is not heard.
    let stale = world.machine(silent).node();
    stale.propose(register_broker(id, 8)).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(fenced(&world), [BrokerId(id)]);
    world.machines[silent].kill();
}

/// Kills, power cuts and silence at random, while topics are made: what was answered is there in the
/// end, the same everywhere.
#[tokio::test(start_paused = true)]
async fn whatever_happens_what_was_acknowledged_stays() {
    for seed in 0..6u64 {
        let mut world = World::formed(100 + seed).await;
        let chance = braid_base::env::rng::SeededRng::from_seed(seed);
        let draw = |n: u64| usize::try_from(Rng::next_u64(&chance) % n).unwrap();
        let mut acknowledged = Vec::new();
        for round in 0..12u128 {
            let victim = draw(3);
            let (a, b) = (name(world.machine(victim).id), name(world.machine((victim + 1) % 3).id));
            match draw(4) {
                0 => world.machines[victim].kill(),
                1 => world.machines[victim].cut_power(seed),
                2 => world.net.set_silent(&a, &b, true),
                _ => world.net.cut_between(&a, &b),
            }
            for step in 0..3u128 {
                let number = round * 3 + step;
                let asked = draw(3);
                if let Some(node) = &world.machine(asked).node {
                    let topics = vec![topic(&format!("t{number}"), 100 + number, 1)];
                    if node.propose(create(topics)).await.is_ok() {
                        acknowledged.push(number);
                    }
                }
            }
            world.net.set_silent(&a, &b, false);
            if world.machine(victim).node.is_none() {
                world.machines[victim].open().await;
            }
        }
        let text = world.agree().await;
        assert!(acknowledged.len() >= 12, "seed {seed}: {acknowledged:?}");
        for number in &acknowledged {
            assert!(text.contains(&format!("topic t{number} ")), "seed {seed}: t{number}\n{text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_on_the_controller_listener_are_harmless() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::formed(11).await;
    let (outside, _) = sim::env_on(12, world.net.host("outside"));
    let greeting = crate::network::session::Introduction {
        cluster_id: world.machines[0].node().image().cluster_id().cloned(),
        node_id: BrokerId(2),
        target: BrokerId(1),
        directory_id: Uuid::from_u128(1),
        incarnation: Uuid::from_u128(2),
        voters: (1..4).map(BrokerId).collect(),
        nonce: Uuid::from_u128(3),
    };
    let greeting = greeting.encode();
    let framed = |content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[..], content].concat()
    };
    let guess = [framed(&greeting), framed(&[7; 32])].concat();
    for bytes in [
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        framed(&[]),
        framed(&greeting),
        guess,
        framed(&vec![0; 1025]),
    ] {
        let mut stream = outside.net.connect("node-1:9093").await.unwrap();
        // Whoever sends more than is taken is cut off in the middle of it.
        drop(stream.write_all(&bytes).await);
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{bytes:?} holds a connection open");
        assert!(answer.len() < 300, "{bytes:?}");
    }
    world.machines[0].create(1).await.unwrap();
    world.agree().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_with_another_secret_stays_outside() {
    let mut world = World::formed(13).await;
    world.machines[2].kill();
    let mut other = config(3);
    other.quorum.as_mut().unwrap().secret = crate::ClusterSecret::new("another");
    let opened = MetadataNode::open(&world.machines[2].env, other);
    assert!(tokio::time::timeout(LONG, opened).await.is_err());
    world.machines[0].create(1).await.unwrap();
    world.machines[2].kill();
    world.machines[2].open().await;
    world.agree().await;
}
