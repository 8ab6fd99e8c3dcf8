//! Three brokers of one cluster on a simulated network.

use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::*;

use super::ask::*;
use super::client::Client;
use super::groups::join_as;
use super::native::http::Http;
use super::transactions::{INVALID_TXN_STATE, NONE, Tx, id};
use super::world::config;
use crate::config::Config;
use crate::env::Env;
use crate::env::sim::{self, SimHandles, SimNet};
use crate::node::{Node, StartError};

pub(super) const LONG: Duration = Duration::from_secs(60);
const NOT_LEADER: i16 = 6;

pub(super) fn host(id: i32) -> String {
    format!("broker-{id}")
}

pub(super) fn address(id: i32) -> String {
    format!("{}:9092", host(id))
}

fn config_of(id: i32, more: &[(&str, &str)]) -> Config {
    let (id_text, at) = (id.to_string(), host(id));
    let listeners = format!("PLAINTEXT://{at}:9092,CONTROLLER://{at}:9093");
    let voters: Vec<String> = (1..4).map(|id| format!("{id}@{}:9093", host(id))).collect();
    let voters = voters.join(",");
    let native = format!("http://{at}:8081");
    let mut settings = vec![
        ("node.id", id_text.as_str()),
        ("listeners", &listeners),
        ("controller.listener.names", "CONTROLLER"),
        ("controller.quorum.voters", &voters),
        ("braid.cluster.secret", "a secret of the tests"),
        ("braid.native.listeners", &native),
        ("braid.native.i.know.there.is.no.authentication", "true"),
        ("broker.heartbeat.interval.ms", "500"),
        ("broker.session.timeout.ms", "3000"),
    ];
    settings.extend_from_slice(more);
    config(&settings)
}

pub(super) struct Machine {
    id: i32,
    env: Env,
    sim: SimHandles,
    pub(super) node: Option<Node>,
    /// What it is told beside what every broker is.
    more: &'static [(&'static str, &'static str)],
}

impl Machine {
    pub(super) async fn try_start(&mut self) -> Result<(), StartError> {
        self.node =
            Some(Box::pin(Node::start(self.env.clone(), config_of(self.id, self.more))).await?);
        Ok(())
    }

    pub(super) async fn start(&mut self) {
        tokio::time::timeout(LONG, self.try_start()).await.unwrap().unwrap();
    }

    pub(super) fn kill(&mut self) {
        (self.env, self.sim) = self.sim.restart();
        drop(self.node.take());
    }

    /// Its power goes; the seed picks among what that may leave of what was not synced.
    pub(super) fn lose_power(&mut self, seed: u64) {
        (self.env, self.sim) = self.sim.reboot(seed);
        drop(self.node.take());
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }
}

pub(super) struct Cluster {
    pub(super) net: SimNet,
    /// Where the clients are.
    pub(super) outside: Env,
    machines: [Machine; 3],
}

impl Cluster {
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(super) async fn start_with(more: &'static [(&'static str, &'static str)]) -> Self {
        let net = SimNet::default();
        let machine = |id: i32| {
            let (env, sim) = sim::env_on(u64::from(id.unsigned_abs()), net.host(&host(id)));
            Machine { id, env, sim, node: None, more }
        };
        let machines = [machine(1), machine(2), machine(3)];
        let (outside, _) = sim::env_on(9, net.host("outside"));
        let mut cluster = Self { net: net.clone(), outside, machines };
        let [a, b, c] = &mut cluster.machines;
        tokio::join!(a.start(), b.start(), c.start());
        cluster
    }

    /// A machine loses its disk.
    pub(super) fn wipe(&mut self, id: i32) {
        let net = self.net.host(&host(id));
        let machine = self.machine(id);
        machine.kill();
        (machine.env, machine.sim) = sim::env_on(77, net);
    }

    pub(super) async fn client(&self, id: i32) -> Client {
        Client::connect(&self.outside, &address(id)).await
    }

    pub(super) fn machine(&mut self, id: i32) -> &mut Machine {
        self.machines.iter_mut().find(|machine| machine.id == id).unwrap()
    }

    pub(super) fn machines_mut(&mut self) -> impl Iterator<Item = &mut Machine> {
        self.machines.iter_mut()
    }

    /// The topic as a broker tells it, once it looks like this.
    pub(super) async fn until(
        &self,
        broker: i32,
        topic: &str,
        is_so: impl Fn(&MetadataResponseTopic) -> bool,
    ) -> MetadataResponseTopic {
        let mut client = self.client(broker).await;
        let look = async {
            loop {
                let told = metadata(&mut client, topic).await;
                if is_so(&told.topics[0]) {
                    return told.topics[0].clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, look).await.expect("the topic looks so in the end")
    }

    /// The leaders of the partitions, once a broker knows the topic and all of them.
    pub(super) async fn leaders(&self, broker: i32, topic: &str) -> Vec<i32> {
        let led = |topic: &MetadataResponseTopic| {
            topic.error_code == 0 && topic.partitions.iter().all(|p| p.error_code == 0)
        };
        let told = self.until(broker, topic, led).await;
        told.partitions.iter().map(|partition| partition.leader_id.0).collect()
    }
}

pub(super) async fn metadata(client: &mut Client, topic: &str) -> MetadataResponse {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    client.call(12, &request).await
}

pub(super) fn with_factor(name: &str, partitions: i32, factor: i16) -> CreateTopicsRequest {
    create_topics(vec![new_topic(name, partitions, &[]).with_replication_factor(factor)])
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anywhere_is_spread_and_served_where_it_is_led() {
    let cluster = Cluster::start().await;
    cluster.client(2).await.create("t", 6, &[]).await;
    let leaders = cluster.leaders(1, "t").await;
    for broker in 1..4 {
        assert_eq!(leaders.iter().filter(|leader| **leader == broker).count(), 2, "{leaders:?}");
        assert_eq!(cluster.leaders(broker, "t").await, leaders);
    }
    for (partition, leader) in (0..).zip(&leaders) {
        let mut there = cluster.client(*leader).await;
        let value = format!("v{partition}");
        assert_eq!(there.produce("t", partition, batch(&[&value])).await, 0);
        assert_eq!(there.read("t", partition, 0).await, [(0, value)]);
        let other = leader % 3 + 1;
        let mut elsewhere = cluster.client(other).await;
        assert_eq!(elsewhere.refused("t", partition, batch(&["x"])).await, NOT_LEADER);
        assert_eq!(elsewhere.fetch("t", partition, 0).await.error_code, NOT_LEADER);
        let listed = list_offsets(&mut elsewhere, "t", partition).await;
        assert_eq!(listed, (NOT_LEADER, -1));
        assert_eq!(list_offsets(&mut there, "t", partition).await, (0, 1));
    }
}

pub(super) async fn list_offsets(client: &mut Client, topic: &str, partition: i32) -> (i16, i64) {
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition =
        ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request =
        ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = client.call(7, &request).await;
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.offset)
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_wrong_broker_is_told_the_right_one() {
    let cluster = Cluster::start().await;
    let id = cluster.client(1).await.create("t", 1, &[]).await;
    let leader = cluster.leaders(1, "t").await[0];
    let other = leader % 3 + 1;
    cluster.leaders(other, "t").await;
    let mut client = cluster.client(other).await;
    let answer = client.call(10, &produce("t", 0, batch(&["x"]))).await;
    let hint = &produced(&answer).current_leader;
    assert_eq!((produced(&answer).error_code, hint.leader_id.0), (NOT_LEADER, leader));
    let at = &answer.node_endpoints[0];
    assert_eq!((at.node_id.0, at.host.to_string(), at.port), (leader, host(leader), 9092));

    let mut request = fetch("t", 0, 0);
    request.topics[0].topic_id = id;
    let answer = client.call(16, &request).await;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.error_code, NOT_LEADER);
    assert_eq!(partition.current_leader.leader_id.0, leader);
    assert_eq!(answer.node_endpoints[0].node_id.0, leader);
}

#[tokio::test(start_paused = true)]
async fn one_replica_is_what_there_is_and_is_placed_where_it_is_wanted() {
    let cluster = Cluster::start().await;
    let mut client = cluster.client(3).await;
    let refused = client.call(7, &with_factor("t", 1, 3)).await;
    assert_eq!(refused.topics[0].error_code, 38);
    let why = refused.topics[0].error_message.as_ref().unwrap();
    assert!(why.contains("the largest replication factor of this topic is 1"), "{why}");
    let assigned = |replicas: &[&[i32]]| {
        let assignments = (0..).zip(replicas).map(|(partition, brokers)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition)
                .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
        });
        create_topics(vec![new_topic("a", -1, &[]).with_assignments(assignments.collect())])
    };
    let refused = client.call(7, &assigned(&[&[1, 2]])).await;
    assert_eq!(refused.topics[0].error_code, 38);
    let made = client.call(7, &assigned(&[&[2], &[2], &[3]])).await;
    assert_eq!(made.topics[0].error_code, 0);
    assert_eq!(cluster.leaders(1, "a").await, [2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_where_its_partition_is() {
    let cluster = Cluster::start().await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut homes = std::collections::BTreeSet::new();
    for name in names {
        let mut told = Vec::new();
        for broker in 1..4 {
            let mut client = cluster.client(broker).await;
            let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(name)]);
            loop {
                let answer = client.call(4, &request).await;
                let found = &answer.coordinators[0];
                if found.error_code == 0 {
                    assert_eq!(found.host.to_string(), host(found.node_id.0));
                    told.push(found.node_id.0);
                    break;
                }
                assert_eq!(found.error_code, 15, "not known yet");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert!(told.iter().all(|home| *home == told[0]), "{told:?}");
        homes.insert(told[0]);
        for broker in 1..4 {
            let mut client = cluster.client(broker).await;
            let joined = loop {
                let answer = client.call(5, &join_as(5, name, "")).await;
                // Its partition is being loaded.
                if answer.error_code != 14 {
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            // A first join is told its member id, where it is to be told anything.
            let expected = if broker == told[0] { 79 } else { 16 };
            assert_eq!(joined.error_code, expected, "group {name} on {broker}, of {told:?}");
        }
    }
    assert!(homes.len() > 1, "all on one broker");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_gone_leads_nothing_until_it_is_back() {
    let mut cluster = Cluster::start().await;
    cluster.client(1).await.create("t", 3, &[]).await;
    let leaders = cluster.leaders(1, "t").await;
    let partition = leaders.iter().position(|leader| *leader == 3).unwrap();
    let index = i32::try_from(partition).unwrap();
    cluster.client(3).await.produce("t", index, batch(&["kept"])).await;
    cluster.machine(3).kill();

    let of = |topic: &MetadataResponseTopic| -> MetadataResponsePartition {
        topic.partitions[partition].clone()
    };
    let told = cluster.until(1, "t", |topic| of(topic).error_code == 5).await;
    let dead = of(&told);
    assert_eq!((dead.leader_id.0, dead.offline_replicas.as_slice()), (-1, &[BrokerId(3)][..]));
    let answer = metadata(&mut cluster.client(1).await, "t").await;
    let alive: Vec<i32> = answer.brokers.iter().map(|broker| broker.node_id.0).collect();
    assert_eq!(alive, [1, 2]);
    assert!(alive.contains(&answer.controller_id.0));
    // The others go on, also with changes of metadata, and place nothing on it.
    cluster.client(2).await.create("u", 4, &[]).await;
    assert!(cluster.leaders(1, "u").await.iter().all(|leader| *leader != 3));
    for (index, leader) in (0..).zip(&leaders).filter(|(_, leader)| **leader != 3) {
        assert_eq!(cluster.client(*leader).await.produce("t", index, batch(&["on"])).await, 0);
    }

    cluster.machine(3).start().await;
    assert_eq!(cluster.leaders(1, "t").await, leaders);
    let kept = cluster.client(3).await.read("t", index, 0).await;
    assert_eq!(kept, [(0, "kept".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn whoever_led_the_metadata_dies_and_the_rest_goes_on() {
    let mut cluster = Cluster::start().await;
    cluster.client(1).await.create("t", 3, &[]).await;
    let leaders = cluster.leaders(1, "t").await;
    let told = metadata(&mut cluster.client(1).await, "t").await;
    let controller = told.controller_id.0;
    cluster.machine(controller).kill();
    let others: Vec<i32> = (1..4).filter(|id| *id != controller).collect();
    // Data first: nobody waits for an election to write to a broker that lives.
    for (index, leader) in (0..).zip(&leaders).filter(|(_, leader)| **leader != controller) {
        let before = tokio::time::Instant::now();
        cluster.client(*leader).await.produce("t", index, batch(&["x"])).await;
        assert!(before.elapsed() < Duration::from_millis(100));
    }
    let before = tokio::time::Instant::now();
    let mut asked = cluster.client(others[0]).await;
    loop {
        let made = asked.call(7, &create_topics(vec![new_topic("u", 2, &[])])).await;
        match made.topics[0].error_code {
            // The answer was lost with the leader; what was asked for may have been done.
            0 | 36 => break,
            41 | 7 => {}
            other => panic!("{other}"),
        }
    }
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
    cluster.leaders(others[1], "u").await;
    cluster.machine(controller).start().await;
    assert_eq!(cluster.leaders(controller, "t").await, leaders);
    let ids = [controller, others[0], others[1]];
    let mut seen = std::collections::BTreeSet::new();
    for id in ids {
        assert!(seen.insert(cluster.client(id).await.producer_id().await), "ids are nobody else's");
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_configs_and_deletions_work_from_any_broker() {
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    let cluster = Cluster::start().await;
    cluster.client(1).await.create("t", 2, &[]).await;
    cluster.leaders(2, "t").await;
    let more = CreatePartitionsTopic::default().with_name(topic_name("t"));
    let more = more.with_count(5).with_assignments(None);
    let more = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(5000);
    assert_eq!(cluster.client(2).await.call(3, &more).await.results[0].error_code, 0);
    cluster.until(3, "t", |topic| topic.partitions.len() == 5).await;
    let gone = DeleteTopicState::default().with_name(Some(topic_name("t")));
    let gone = DeleteTopicsRequest::default().with_topics(vec![gone]).with_timeout_ms(5000);
    assert_eq!(cluster.client(3).await.call(6, &gone).await.responses[0].error_code, 0);
    cluster.until(1, "t", |topic| topic.error_code == 3).await;
}

#[tokio::test(start_paused = true)]
async fn the_cluster_and_its_quorum_are_told_by_every_broker() {
    use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
    let mut cluster = Cluster::start().await;
    let quorum = TopicData::default()
        .with_topic_name(topic_name("__cluster_metadata"))
        .with_partitions(vec![PartitionData::default()]);
    let quorum = DescribeQuorumRequest::default().with_topics(vec![quorum]);
    let mut leaders = std::collections::BTreeSet::new();
    for broker in 1..4 {
        let mut client = cluster.client(broker).await;
        let answer = client.call(2, &quorum).await;
        let told = &answer.topics[0].partitions[0];
        assert_eq!(told.error_code, 0);
        let voters: Vec<i32> = told.current_voters.iter().map(|v| v.replica_id.0).collect();
        assert_eq!(voters, [1, 2, 3]);
        assert!(told.current_voters.iter().all(|voter| voter.log_end_offset > 0));
        assert_eq!(answer.nodes.len(), 3);
        leaders.insert(told.leader_id.0);
        let described = client.call(1, &DescribeClusterRequest::default()).await;
        assert_eq!(described.brokers.len(), 3);
        assert_eq!(described.controller_id.0, told.leader_id.0);
    }
    assert_eq!(leaders.len(), 1);
    // One that is not heard is told apart from those that are.
    let silent = leaders.first().map_or(1, |leader| leader % 3 + 1);
    for other in (1..4).filter(|id| *id != silent) {
        cluster.net.set_silent(&host(silent), &host(other), true);
    }
    let leader = *leaders.first().unwrap();
    let mut client = cluster.client(leader).await;
    let fenced = async {
        loop {
            let all = DescribeClusterRequest::default().with_include_fenced_brokers(true);
            let described = client.call(2, &all).await;
            let fenced = described.brokers.iter().filter(|broker| broker.is_fenced);
            let fenced: Vec<i32> = fenced.map(|broker| broker.broker_id.0).collect();
            if !fenced.is_empty() {
                return fenced;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert_eq!(tokio::time::timeout(LONG, fenced).await.unwrap(), [silent]);
    let described = client.call(2, &DescribeClusterRequest::default()).await;
    assert_eq!(described.brokers.len(), 2);
    cluster.machine(silent).kill();
}

/// Topics of one partition each, one on every broker, and their brokers know them.
async fn one_each(cluster: &Cluster) -> [&'static str; 3] {
    let names = ["on-1", "on-2", "on-3"];
    let mut client = cluster.client(1).await;
    for (broker, name) in (1..).zip(names) {
        let assignment =
            CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(broker)]);
        let topic = new_topic(name, -1, &[]).with_assignments(vec![assignment]);
        assert_eq!(client.call(7, &create_topics(vec![topic])).await.topics[0].error_code, NONE);
    }
    for broker in 1..4 {
        cluster.leaders(broker, names[2]).await;
    }
    names
}

#[tokio::test(start_paused = true)]
async fn a_transaction_stays_on_the_broker_that_coordinates_it() {
    let cluster = Cluster::start().await;
    let names = one_each(&cluster).await;
    let find =
        FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("tx")]);
    let mut first = cluster.client(1).await;
    let home = loop {
        let found = first.call(6, &find).await.coordinators[0].clone();
        if found.error_code == NONE {
            break found.node_id.0;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    for broker in (1..4).filter(|broker| *broker != home) {
        cluster.leaders(broker, "__transaction_state").await;
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(id("tx")))
            .with_transaction_timeout_ms(60_000);
        let answer = cluster.client(broker).await.call(5, &init).await;
        assert_eq!(answer.error_code, 16, "broker {broker}, home {home}");
    }
    let mut coordinator = cluster.client(home).await;
    let mut tx = Tx::begin(&mut coordinator, "tx").await;
    let name = |broker: i32| names[usize::try_from(broker - 1).unwrap()];
    // A partition elsewhere cannot join, neither there nor by way of the coordinator.
    let other = home % 3 + 1;
    let mut elsewhere = cluster.client(other).await;
    for version in [11, 12] {
        let code = tx.try_write_to(&mut elsewhere, version, name(other), "lost").await;
        assert_eq!(code, INVALID_TXN_STATE, "version {version}");
    }
    let topic = add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
        .with_name(topic_name(name(other)))
        .with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id("tx"))
        .with_v3_and_below_producer_id(ProducerId(tx.producer_id))
        .with_v3_and_below_producer_epoch(tx.epoch)
        .with_v3_and_below_topics(vec![topic]);
    let added = coordinator.call(3, &add).await;
    let result = &added.results_by_topic_v3_and_below[0].results_by_partition[0];
    assert_eq!(result.partition_error_code, INVALID_TXN_STATE);
    assert_eq!(elsewhere.read(name(other), 0, 0).await, []);
    // On its own broker it is a transaction like any other.
    assert_eq!(tx.try_write_to(&mut coordinator, 12, name(home), "kept").await, NONE);
    tx.end(&mut coordinator, true).await;
    assert_eq!(coordinator.read(name(home), 0, 0).await[0], (0, "kept".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn native_messages_are_taken_where_the_whole_topic_is() {
    use serde_json::json;
    let cluster = Cluster::start().await;
    let names = one_each(&cluster).await;
    cluster.client(1).await.create("spread", 3, &[]).await;
    for broker in 1..4 {
        cluster.leaders(broker, "spread").await;
        let mut http = Http::connect_to(&cluster.outside, &format!("{}:8081", host(broker))).await;
        for (home, name) in (1..).zip(names) {
            let message = json!({"payload": {"text": "m"}});
            let sent = http.post(&format!("/api/v1/topics/{name}/messages"), message).await;
            let read = format!("/api/v1/topics/{name}/partitions/0/messages");
            if home == broker {
                assert_eq!(sent.of(200)["messages"][0]["offset"], 0);
                let read = http.get(&read).await.of(200);
                assert_eq!(read["messages"][0]["payload"]["text"], "m");
            } else {
                assert_eq!(sent.error(421), "TOPIC_ELSEWHERE");
                assert!(sent.text().contains(&format!("on brokers {home},")), "{}", sent.text());
                assert_eq!(http.get(&read).await.error(421), "TOPIC_ELSEWHERE");
            }
        }
        let message = json!({"payload": {"text": "m"}});
        let sent = http.post("/api/v1/topics/spread/messages", message).await;
        assert_eq!(sent.error(421), "TOPIC_ELSEWHERE");
        let told = http.get("/api/v1/topics/spread").await.of(200);
        assert_eq!(told["partitionMarks"].as_array().unwrap().len(), 1, "its own alone");
    }
}
