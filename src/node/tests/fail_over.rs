//! Records of partitions with several replicas, in a cluster of three whose brokers die, lose power and
//! are cut off: what was acknowledged is there, once, and in its place, and all logs are one.

use std::collections::BTreeMap;
use std::time::Duration;

use braid_raft::image::MetadataImage;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use tokio::sync::watch;

use super::ask::*;
use super::client::Client;
use super::cluster::{Cluster, LONG, address, host, list_offsets, with_factor};
use crate::env::Env;
use crate::env::rng::{Rng, SeededRng};
use crate::model::Position;
use crate::node::{SHARDS_DIR, cluster_uuid};
use crate::partition::ShardSequencer;
use crate::store::{LogHandle, Store, StoreConfig};

const REPLICATED: &[(&str, &str)] = &[
    ("braid.replication.enable", "true"),
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
];

const PARTITIONS: i32 = 3;

fn all_in_sync(topic: &MetadataResponseTopic) -> bool {
    let whole = |p: &MetadataResponsePartition| p.error_code == 0 && p.isr_nodes.len() == 3;
    topic.error_code == 0 && topic.partitions.iter().all(whole)
}

async fn with_topic() -> Cluster {
    let cluster = Cluster::start_with(REPLICATED).await;
    let made = cluster.client(1).await.call(7, &with_factor("t", PARTITIONS, 3)).await;
    assert_eq!(made.topics[0].error_code, 0, "{:?}", made.topics[0].error_message);
    cluster.until(1, "t", all_in_sync).await;
    cluster
}

/// Sends to whoever leads until it is acknowledged, and says where it is.
async fn deliver(outside: &Env, partition: i32, batch: &bytes::Bytes) -> i64 {
    let mut leader = 1;
    loop {
        let attempt = async {
            let mut client = Client::try_connect(outside, &address(leader)).await?;
            client.send(9, &produce("t", partition, batch.clone())).await;
            client.try_receive::<ProduceRequest>(9).await
        };
        let answer = tokio::time::timeout(Duration::from_secs(4), attempt).await;
        if let Ok(Some(answer)) = &answer {
            let part = produced(answer);
            match part.error_code {
                0 => return part.base_offset,
                3 | 6 | 7 | 19 | 20 | 56 => {}
                other => panic!("{other}: {:?}", part.error_message),
            }
        }
        leader = leader % 3 + 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Written = BTreeMap<i32, Vec<(i64, String)>>;

/// Writes one record after the other, of one idempotent producer, until told to stop.
async fn write(outside: Env, id: i64, mut stop: watch::Receiver<bool>) -> Written {
    let mut written = Written::new();
    for number in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let partition = number % PARTITIONS;
        let value = format!("v{number}");
        let batch = stamped(id, 0, number / PARTITIONS, &[&value]);
        let offset = deliver(&outside, partition, &batch).await;
        written.entry(partition).or_default().push((offset, value));
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    written
}

/// All records of a partition, as a consumer reads them: from whoever leads, up to the end it says.
async fn read_all(cluster: &Cluster, partition: i32) -> Vec<(i64, String)> {
    let at = usize::try_from(partition).unwrap();
    let attempts = async {
        loop {
            let leader = cluster.leaders(1, "t").await[at];
            let mut client = cluster.client(leader).await;
            if let Some(read) = try_read_all(&mut client, partition).await {
                return read;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, attempts).await.expect("somebody leads in the end")
}

async fn try_read_all(client: &mut Client, partition: i32) -> Option<Vec<(i64, String)>> {
    let (code, end) = list_offsets(client, "t", partition).await;
    if code != 0 {
        assert!(matches!(code, 6 | 78), "{code}");
        return None;
    }
    let mut all: Vec<(i64, String)> = Vec::new();
    loop {
        let from = all.last().map_or(0, |(last, _)| last + 1);
        if from >= end {
            return Some(all);
        }
        let answer = client.fetch("t", partition, from).await;
        if answer.error_code != 0 {
            assert_eq!(answer.error_code, 6);
            return None;
        }
        all.extend(records(&answer).into_iter().filter(|(offset, _)| *offset >= from));
    }
}

/// All bytes of the log of each replica, of a cluster at rest that has just died.
fn logs(env: &Env, image: &MetadataImage) -> Vec<Vec<u8>> {
    let replicated = image.shards().filter(|shard| shard.is_replicated());
    let bytes = replicated.map(|shard| {
        let dir = env.fs.absolute(std::path::Path::new("/data")).unwrap();
        let config = StoreConfig {
            segment_size_bytes: 1 << 20,
            replica_of: shard.store_id,
            ..StoreConfig::new(dir.join(SHARDS_DIR).join(shard.id.to_string()), cluster_uuid(image))
        };
        let live = crate::config::LiveConfig::new(super::world::config(&[]).into());
        let store = Store::open_inline(env, config, Box::new(ShardSequencer::new(live.into())));
        let log = store.unwrap().handle();
        bytes_of(&log)
    });
    bytes.collect()
}

fn bytes_of(log: &LogHandle) -> Vec<u8> {
    let (mut all, mut at) = (Vec::new(), Position(0));
    loop {
        let frames = log.read_frames(at, 1 << 20).unwrap();
        if frames.bytes.is_empty() {
            return all;
        }
        at = frames.at.plus(frames.bytes.len() as u64);
        all.extend(frames.bytes);
    }
}

/// Everybody is back and in sync: nothing is lost, nothing is there twice, and all logs are one.
async fn judge(mut cluster: Cluster, written: &Written) {
    for (partition, written) in written {
        let read = read_all(&cluster, *partition).await;
        assert_eq!(read, *written, "partition {partition}");
    }
    // Until all of them have everything, and nobody moves any more.
    let at_rest = async {
        let mut before = None;
        loop {
            let told = cluster.until(1, "t", all_in_sync).await;
            if before.as_ref() == Some(&told) {
                return;
            }
            before = Some(told);
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
    };
    tokio::time::timeout(LONG * 10, at_rest).await.expect("it comes to rest");
    let image = cluster.machine(1).node.as_ref().unwrap().metadata.image();
    for id in 1..4 {
        cluster.machine(id).kill();
    }
    let first = logs(cluster.machine(1).env(), &image);
    assert!(!first.is_empty() && first.iter().all(|log| !log.is_empty()));
    for id in 2..4 {
        assert!(logs(cluster.machine(id).env(), &image) == first, "broker {id} has other bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_when_its_leader_is_not() {
    let mut cluster = with_topic().await;
    let leaders = cluster.leaders(1, "t").await;
    let partition = i32::try_from(leaders.iter().position(|it| *it == 3).unwrap()).unwrap();
    let at = usize::try_from(partition).unwrap();
    let mut client = cluster.client(3).await;
    for number in 0..5 {
        let value = format!("v{number}");
        assert_eq!(client.produce("t", partition, batch(&[&value])).await, number);
    }
    cluster.machine(3).kill();
    let moved = |topic: &MetadataResponseTopic| {
        topic.partitions[at].error_code == 0 && topic.partitions[at].leader_id.0 != 3
    };
    let told = cluster.until(1, "t", moved).await;
    assert_eq!(told.partitions[at].leader_epoch, 2);
    let next = deliver(&cluster.outside, partition, &batch(&["v5"])).await;
    assert_eq!(next, 5);
    let expected: Vec<_> = (0..6).map(|number| (number, format!("v{number}"))).collect();
    assert_eq!(read_all(&cluster, partition).await, expected);
    cluster.machine(3).start().await;
    cluster.until(1, "t", all_in_sync).await;
    assert_eq!(read_all(&cluster, partition).await, expected);
}

#[tokio::test(start_paused = true)]
async fn too_few_replicas_refuse_acks_of_all_and_a_leader_without_a_majority_refuses_everything() {
    let mut cluster = with_topic().await;
    let strict = new_topic("strict", PARTITIONS, &[("min.insync.replicas", "3")]);
    let strict = create_topics(vec![strict.with_replication_factor(3)]);
    assert_eq!(cluster.client(1).await.call(7, &strict).await.topics[0].error_code, 0);
    cluster.until(1, "strict", all_in_sync).await;
    cluster.machine(3).kill();
    let two_left = |topic: &MetadataResponseTopic| {
        topic.partitions.iter().all(|p| p.isr_nodes.len() == 2 && p.error_code == 0)
    };
    let told = cluster.until(1, "strict", two_left).await;
    cluster.until(2, "strict", two_left).await;
    let partition = i32::try_from(
        told.partitions.iter().position(|partition| partition.leader_id.0 == 1).unwrap(),
    )
    .unwrap();
    let mut client = cluster.client(1).await;
    let by_leader = |value| produce_all(1, vec![("strict", partition, Some(batch(&[value])))]);
    // A new leader may take a moment to lead.
    let refused = async {
        loop {
            match client.refused("strict", partition, batch(&["a"])).await {
                6 => tokio::time::sleep(Duration::from_millis(20)).await,
                code => return code,
            }
        }
    };
    assert_eq!(tokio::time::timeout(LONG, refused).await.unwrap(), 19);
    let answer = client.call(9, &by_leader("b")).await;
    assert_eq!(produced(&answer).error_code, 0, "its own disk is enough for acks=1");
    assert_eq!(
        deliver(&cluster.outside, partition, &batch(&["c"])).await,
        0,
        "two are enough for t"
    );
    // Alone it has no lease for long, and nothing is acknowledged without one.
    cluster.machine(2).kill();
    let over = async {
        while produced(&client.call(9, &by_leader("d")).await).error_code == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        client.refused("t", partition, batch(&["e"])).await
    };
    assert_eq!(tokio::time::timeout(LONG, over).await.unwrap(), 6);
    assert_eq!(client.refused("strict", partition, batch(&["f"])).await, 6);
}

/// One of the three, or all of them but one, or all.
async fn trouble(cluster: &mut Cluster, dice: &SeededRng) {
    let below = |n: u64| dice.next_u64() % n;
    let one = i32::try_from(1 + below(3)).unwrap();
    let other = one % 3 + 1;
    let soon = Duration::from_millis(below(5000));
    match below(8) {
        0 | 1 => {
            cluster.machine(one).kill();
            tokio::time::sleep(soon).await;
            cluster.machine(one).start().await;
        }
        2 => {
            cluster.machine(one).lose_power(below(1 << 40));
            tokio::time::sleep(soon).await;
            cluster.machine(one).start().await;
        }
        3 => {
            for id in [one, other] {
                cluster.machine(id).lose_power(below(1 << 40));
            }
            tokio::time::sleep(soon).await;
            start(cluster, &[one, other]).await;
        }
        4 => {
            for id in 1..4 {
                cluster.machine(id).lose_power(below(1 << 40));
            }
            start(cluster, &[1, 2, 3]).await;
        }
        5 => {
            cluster.net.cut_between(&host(one), &host(other));
        }
        6 => {
            cluster.net.set_silent(&host(one), &host(other), true);
            tokio::time::sleep(soon).await;
            cluster.net.set_silent(&host(one), &host(other), false);
        }
        _ => {
            // Nobody hears it, and it hears nobody but its clients.
            let third = other % 3 + 1;
            for peer in [other, third] {
                cluster.net.set_silent(&host(one), &host(peer), true);
            }
            tokio::time::sleep(soon + Duration::from_secs(2)).await;
            for peer in [other, third] {
                cluster.net.set_silent(&host(one), &host(peer), false);
            }
        }
    }
}

async fn start(cluster: &mut Cluster, ids: &[i32]) {
    let starts = cluster.machines_mut().filter(|machine| ids.contains(&machine.id()));
    futures_of(starts.map(|machine| Box::pin(machine.start())).collect()).await;
}

/// Runs futures side by side.
async fn futures_of<F: Future<Output = ()> + Unpin>(mut all: Vec<F>) {
    std::future::poll_fn(|context| {
        all.retain_mut(|one| std::pin::Pin::new(one).poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

async fn live_through(seed: u64) {
    let mut cluster = with_topic().await;
    let id = cluster.client(1).await.producer_id().await;
    let (stop, stopping) = watch::channel(false);
    let outside = cluster.outside.clone();
    let dice = SeededRng::from_seed(seed);
    let troubled = async {
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(dice.next_u64() % 3000)).await;
            trouble(&mut cluster, &dice).await;
        }
        cluster.until(1, "t", all_in_sync).await;
        stop.send_replace(true);
        cluster
    };
    let both = async { tokio::join!(write(outside, id, stopping), troubled) };
    let (written, cluster) = tokio::time::timeout(LONG * 10, both).await.expect("it recovers");
    assert_eq!(written.len(), 3);
    judge(cluster, &written).await;
}

/// A test for each seed, so that a failed one is told by its name.
macro_rules! nothing_acknowledged_is_lost_or_doubled_whatever_happens_to_three_brokers {
    ($($name:ident: $seed:literal),+) => {
        mod nothing_acknowledged_is_lost_or_doubled_whatever_happens_to_three_brokers {
            $(
                #[tokio::test(start_paused = true)]
                async fn $name() {
                    super::live_through($seed).await;
                }
            )+
        }
    };
}

nothing_acknowledged_is_lost_or_doubled_whatever_happens_to_three_brokers! {
    seed_0: 0, seed_1: 1, seed_2: 2, seed_3: 3, seed_4: 4, seed_5: 5,
    seed_6: 6, seed_7: 7, seed_8: 8, seed_9: 9, seed_10: 10, seed_11: 11
}
