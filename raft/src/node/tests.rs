mod crash;
mod elections;
mod scale;
mod several;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use braid_base::env::{real, sim};
use braid_base::model::{BrokerId, LeaderEpoch, QueueId};

use super::*;
use crate::command::{
    AllocateProducerIds, ConfigChange, DeleteTopics, SetBrokerConfigs, SetTopicConfigs,
};
use crate::outcome::ProducerIdBlock;
use crate::testing::{create, register, set, topic, topic_id};

fn config(dir: &Path) -> MetadataConfig {
    MetadataConfig {
        dir: dir.join("metadata"),
        node_id: BrokerId(1),
        cluster_id: None,
        features: BTreeMap::from([("metadata.version".to_owned(), 25)]),
        quorum: None,
    }
}

async fn open(dir: &Path) -> MetadataNode {
    MetadataNode::open(&real::env(), config(dir)).await.unwrap()
}

#[tokio::test]
async fn a_fresh_node_leads_and_creates_topics_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    assert_eq!(node.leader(), Some(BrokerId(1)));
    assert_eq!(node.image().cluster_id().unwrap().as_str().len(), 22);
    assert_eq!(node.image().features()["metadata.version"], 25);

    node.propose(register(1)).await.unwrap().unwrap();
    let created = node.propose(create(vec![topic("a", 1, 3), topic("a", 2, 1)])).await.unwrap();
    assert_eq!(created[0].as_ref().unwrap().partition_count, 3);
    assert_eq!(created[1].as_ref().unwrap_err().to_string(), "Topic 'a' already exists.");

    let image = node.image();
    let topic = image.topic("a").unwrap();
    assert_eq!(topic.partition(2).unwrap().queue, QueueId(2));
    assert_eq!(topic.partition(3), None);
    assert_eq!(topic.partition(-1), None);
    assert_eq!(image.queue(QueueId(2)).unwrap().partition, 2);
    assert_eq!(image.queue(QueueId(3)), None);
    assert_eq!(image.next_queue_id(), QueueId(3));
    node.shutdown().await;
}

#[tokio::test]
async fn everything_acknowledged_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    node.propose(register(1)).await.unwrap().unwrap();
    drop(node.propose(create(vec![topic("a", 1, 3), topic("b", 2, 1)])).await.unwrap());
    node.propose(DeleteTopics { topics: vec![topic_id(1)] }).await.unwrap()[0].as_ref().unwrap();
    let changes = vec![set("retention.ms", "5")];
    let topic_b = topic_id(2);
    node.propose(SetTopicConfigs { topic: topic_b, changes: changes.clone() })
        .await
        .unwrap()
        .unwrap();
    node.propose(SetBrokerConfigs { broker: None, changes }).await.unwrap();
    let block = node.propose(AllocateProducerIds { count: 1000 }).await.unwrap().unwrap();
    assert_eq!(block, ProducerIdBlock { first: 0, end: 1000 });
    let before = node.image();
    node.shutdown().await;

    let node = open(dir.path()).await;
    let after = node.image();
    assert_eq!(after.to_string(), before.to_string());
    // Deleted queues' numbers are not handed out again, nor are producer ids.
    assert_eq!(after.next_queue_id(), QueueId(4));
    assert_eq!(after.queue(QueueId(0)), None);
    let block = node.propose(AllocateProducerIds { count: 1000 }).await.unwrap().unwrap();
    assert_eq!(block.first, 1000);
    node.shutdown().await;
}

/// As after a kill: openraft is dropped where it stands and nothing is closed.
#[tokio::test]
async fn a_node_that_was_killed_leads_again_with_its_whole_image() {
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for round in 0..5u128 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let path = dir.path().to_owned();
        let seen: Vec<String> = runtime
            .spawn(async move {
                let node = open(&path).await;
                drop(node.propose(register(round)).await.unwrap());
                let name = format!("t{round}");
                drop(node.propose(create(vec![topic(&name, 10 + round, 1)])).await.unwrap());
                let image = node.image();
                image.topics().iter().map(|topic| topic.name.to_string()).collect()
            })
            .await
            .unwrap();
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
        names.push(format!("t{round}"));
        assert_eq!(seen, names);
    }
}

#[tokio::test]
async fn a_broker_that_starts_anew_leads_in_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    node.propose(register(1)).await.unwrap().unwrap();
    drop(node.propose(create(vec![topic("a", 1, 2)])).await.unwrap());
    let epoch = |node: &MetadataNode| node.image().shards().next().unwrap().epoch();
    assert_eq!(epoch(&node), LeaderEpoch(0));
    node.propose(register(1)).await.unwrap().unwrap();
    assert_eq!(epoch(&node), LeaderEpoch(0));
    node.propose(register(2)).await.unwrap().unwrap();
    assert_eq!(epoch(&node), LeaderEpoch(1));
    node.shutdown().await;
}

#[tokio::test]
async fn concurrent_proposals_all_take_effect_and_share_entries() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    node.propose(register(1)).await.unwrap().unwrap();
    let before = node.image().applied_index();
    let mut proposals = Vec::new();
    for i in 0..200u128 {
        let node = node.clone();
        let create = create(vec![topic(&format!("t{i}"), 100 + i, 1)]);
        proposals.push(real::env().spawner.critical("test", async move {
            let outcome = node.propose(create).await.unwrap();
            assert!(outcome[0].is_ok());
            assert!(node.image().topic(&format!("t{i}")).is_some());
        }));
    }
    for proposal in proposals {
        proposal.await.unwrap();
    }
    assert_eq!(node.image().topics().len(), 200);
    let entries = node.image().applied_index() - before;
    assert!(entries <= 100, "{entries} entries for 200 proposals");
    node.shutdown().await;
}

#[tokio::test]
async fn a_directory_is_held_by_one_node_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let second = MetadataNode::open(&real::env(), config(dir.path())).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    node.shutdown().await;
    open(dir.path()).await.shutdown().await;
}

#[tokio::test]
async fn a_directory_of_another_node_or_cluster_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.shutdown().await;
    let other_node = MetadataConfig { node_id: BrokerId(2), ..config(dir.path()) };
    let error = MetadataNode::open(&real::env(), other_node).await.unwrap_err();
    assert!(error.to_string().ends_with("belongs to node 1, not to node 2"), "{error}");
    let cluster_id = Some(ClusterId::new("another"));
    let other_cluster = MetadataConfig { cluster_id, ..config(dir.path()) };
    let error = MetadataNode::open(&real::env(), other_cluster).await.unwrap_err();
    assert!(matches!(error, OpenError::WrongCluster { .. }), "{error}");
}

#[tokio::test]
async fn a_given_cluster_id_names_a_new_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let cluster_id = Some(ClusterId::new("MkU3OEVBNTcwNTJENDM2Qg"));
    let config = MetadataConfig { cluster_id: cluster_id.clone(), ..config(dir.path()) };
    let node = MetadataNode::open(&real::env(), config).await.unwrap();
    assert_eq!(node.image().cluster_id(), cluster_id.as_ref());
    node.shutdown().await;
}

#[tokio::test]
async fn a_directory_that_lost_its_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.shutdown().await;
    let env = real::env();
    let log = dir.path().join("metadata/log");
    for entry in env.fs.list(&log).unwrap() {
        env.fs.remove(&log.join(entry.name)).unwrap();
    }
    let error = MetadataNode::open(&env, config(dir.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::LogLost { .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_died_before_it_was_fully_formed_is_formed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).await.shutdown().await;
    let env = real::env();
    env.fs.remove(&dir.path().join("metadata/identity")).unwrap();
    let node = open(dir.path()).await;
    assert!(node.image().cluster_id().is_some());
    assert!(env.fs.size(&dir.path().join("metadata/identity")).unwrap().is_some());
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_was_shut_down_refuses_proposals_and_has_not_failed() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    node.shutdown().await;
    let refused = node.propose(AllocateProducerIds { count: 1 }).await;
    assert_eq!(refused, Err(ProposeError::Stopped));
    let failed = tokio::time::timeout(Duration::from_millis(20), node.failed()).await;
    assert!(failed.is_err(), "{failed:?}");
}

#[tokio::test]
async fn a_command_beyond_all_limits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path()).await;
    let value = Some("x".repeat(COMMAND_BYTES_MAX));
    let changes = vec![ConfigChange { key: "k".to_owned(), value }];
    let refused = node.propose(SetBrokerConfigs { broker: None, changes }).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    node.shutdown().await;
}

/// Creates topics one by one and returns the size of the log that is left.
async fn log_bytes_after_topics(policy: SnapshotPolicy) -> u64 {
    let (env, _machine) = sim::env(1);
    let limits = Limits { segment_bytes: 1024, allocate_bytes: 1024, spare_bytes: 512 };
    let open = || MetadataNode::open_with(&env, config(Path::new("/data")), limits, policy);
    let node = open().await.unwrap();
    node.propose(register(1)).await.unwrap().unwrap();
    for i in 0..400u128 {
        let topics = vec![topic(&format!("topic-{i}"), 100 + i, 1)];
        assert!(node.propose(create(topics)).await.unwrap()[0].is_ok());
    }
    let before = node.image().to_string();
    node.shutdown().await;
    let log = env.fs.list(Path::new("/data/metadata/log")).unwrap();
    let node = open().await.unwrap();
    assert_eq!(node.image().to_string(), before);
    node.shutdown().await;
    log.iter().map(|entry| entry.size_bytes).sum()
}

#[tokio::test]
async fn snapshots_are_taken_and_the_log_behind_them_is_dropped() {
    let never = SnapshotPolicy { debt_bytes_min: u64::MAX };
    let whole = log_bytes_after_topics(never).await;
    let often = SnapshotPolicy { debt_bytes_min: 1024 };
    let rest = log_bytes_after_topics(often).await;
    assert!(rest < whole / 2, "{rest} of {whole} bytes are left");
}

/// What a first start costs: every sync is a wait for the disk. Two are for the segment, two for
/// the identity, three for the names of directories, five for the quorum and the cluster's name, and
/// one for each proposal.
#[tokio::test]
async fn a_first_start_and_topic_wait_for_the_disk_fourteen_times() {
    let (env, machine) = sim::env(1);
    let node = MetadataNode::open(&env, config(Path::new("/data"))).await.unwrap();
    node.propose(register(1)).await.unwrap().unwrap();
    assert!(node.propose(create(vec![topic("a", 1, 1)])).await.unwrap()[0].is_ok());
    let trace = machine.fs.trace();
    assert_eq!(trace.lines().filter(|line| line.contains("sync")).count(), 14, "{trace}");
}

#[tokio::test]
async fn a_restart_waits_for_the_disk_three_times_after_a_kill_and_twice_after_a_stop() {
    let (env, machine) = sim::env(1);
    drop(MetadataNode::open(&env, config(Path::new("/data"))).await.unwrap());
    let (env, machine) = machine.restart();
    for syncs in [3, 2] {
        let before = machine.fs.trace().lines().count();
        let node = MetadataNode::open(&env, config(Path::new("/data"))).await.unwrap();
        assert_eq!(node.leader(), Some(BrokerId(1)));
        let trace = machine.fs.trace();
        let new: Vec<&str> = trace.lines().skip(before).collect();
        assert_eq!(new.iter().filter(|line| line.contains("sync")).count(), syncs, "{new:?}");
        node.shutdown().await;
    }
}

/// In time that jumps from timer to timer, each one that fires is a wake-up.
#[tokio::test(start_paused = true)]
async fn an_idle_node_wakes_less_than_once_a_minute() {
    let (env, machine) = sim::env(1);
    let node = MetadataNode::open(&env, config(Path::new("/data"))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runtime = tokio::runtime::Handle::current().metrics();
    let (parks, operations) = (runtime.worker_park_count(0), machine.fs.operations());
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let woken = runtime.worker_park_count(0) - parks;
    assert!(woken < 60, "woken {woken} times in an hour");
    assert_eq!(machine.fs.operations(), operations);
    node.shutdown().await;
}
