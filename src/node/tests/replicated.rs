//! What clients are told of partitions with several replicas, in a cluster of three: where they are,
//! who is in sync and who leads, while brokers die, stop and come back.

use kafka_protocol::messages::create_topics_request::CreatableTopicConfig;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;

use super::administration::more;
use super::ask::*;
use super::client::Client;
use super::cluster::{Cluster, metadata, with_factor};

const REPLICATED: &[(&str, &str)] = &[
    ("braid.replication.enable", "true"),
    ("default.replication.factor", "3"),
    ("min.insync.replicas", "2"),
    ("auto.leader.rebalance.enable", "false"),
];

fn ids(ids: &[BrokerId]) -> Vec<i32> {
    let mut ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids
}

/// The partition that a broker leads first.
fn preferred(partitions: &[MetadataResponsePartition], broker: i32) -> &MetadataResponsePartition {
    partitions.iter().find(|partition| partition.replica_nodes[0].0 == broker).unwrap()
}

/// What becomes of an election for one partition.
async fn elect(client: &mut Client, kind: i8, partition: i32) -> i16 {
    let topic =
        TopicPartitions::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
    let request = ElectLeadersRequest::default()
        .with_election_type(kind)
        .with_topic_partitions(Some(vec![topic]))
        .with_timeout_ms(30_000);
    let answer = client.call(2, &request).await;
    assert_eq!(answer.error_code, 0);
    answer.replica_election_results[0].partition_result[0].error_code
}

#[tokio::test(start_paused = true)]
async fn replicas_leaders_and_epochs_are_told_as_brokers_come_and_go() {
    let mut cluster = Cluster::start_with(REPLICATED).await;
    let made = cluster.client(1).await.call(7, &with_factor("t", 3, -1)).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].replication_factor), (0, 3));
    let mut leaders = cluster.leaders(2, "t").await;
    leaders.sort_unstable();
    assert_eq!(leaders, [1, 2, 3]);
    let mut client = cluster.client(1).await;
    let told = metadata(&mut client, "t").await.topics[0].clone();
    for partition in &told.partitions {
        assert_eq!(ids(&partition.replica_nodes), [1, 2, 3]);
        assert_eq!(ids(&partition.isr_nodes), [1, 2, 3]);
        assert_eq!(partition.leader_id, partition.replica_nodes[0]);
        assert_eq!(partition.leader_epoch, 1);
        assert!(partition.offline_replicas.is_empty());
        assert_eq!(elect(&mut client, 0, partition.partition_index).await, 84, "not needed");
    }
    let index = preferred(&told.partitions, 3).partition_index;
    let at = usize::try_from(index).unwrap();

    cluster.machine(3).kill();
    let moved = |topic: &metadata_response::MetadataResponseTopic| {
        let partition = &topic.partitions[at];
        partition.leader_epoch == 2 && partition.error_code == 0
    };
    let told = cluster.until(1, "t", moved).await;
    for partition in &told.partitions {
        assert_ne!(partition.leader_id.0, 3);
        assert_eq!(ids(&partition.isr_nodes), [1, 2]);
        assert_eq!(ids(&partition.offline_replicas), [3]);
    }
    let mut client = cluster.client(1).await;
    assert_eq!(elect(&mut client, 0, index).await, 80, "the preferred leader is dead");
    assert_eq!(elect(&mut client, 1, index).await, 84, "there is a leader");
    assert_eq!(elect(&mut client, 0, 7).await, 3);

    // It is back, and in sync once it has what the others have: then it may lead.
    cluster.machine(3).start().await;
    let back = |topic: &metadata_response::MetadataResponseTopic| {
        topic.partitions.iter().all(|partition| ids(&partition.isr_nodes) == [1, 2, 3])
    };
    let told = cluster.until(1, "t", back).await;
    assert!(told.partitions[at].offline_replicas.is_empty());
    let mut client = cluster.client(3).await;
    assert_eq!(elect(&mut client, 0, index).await, 0);
    let told = cluster.until(1, "t", |topic| topic.partitions[at].leader_id.0 == 3).await;
    assert_eq!(told.partitions[at].leader_epoch, 3);

    // Two go, in order: the last replica leads alone, below the least size.
    for id in [3, 2] {
        let node = cluster.machine(id).node.take().unwrap();
        node.stop().await;
    }
    let alone = |topic: &metadata_response::MetadataResponseTopic| {
        topic.partitions.iter().all(|partition| ids(&partition.isr_nodes) == [1])
    };
    let told = cluster.until(1, "t", alone).await;
    assert!(told.partitions.iter().all(|partition| partition.leader_id.0 == 1), "{told:?}");
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![TopicRequest::default().with_name(topic_name("t"))])
        .with_response_partition_limit(100);
    let described = cluster.client(1).await.call(0, &request).await;
    for partition in &described.topics[0].partitions {
        let eligible = partition.eligible_leader_replicas.as_ref().unwrap();
        assert_eq!(ids(eligible), [2], "it has all that is committed");
        let at = usize::try_from(partition.partition_index).unwrap();
        assert_eq!(partition.leader_epoch, told.partitions[at].leader_epoch);
    }
}

#[tokio::test(start_paused = true)]
async fn more_replicas_than_brokers_are_refused_and_partitions_are_added_alike() {
    let cluster = Cluster::start_with(REPLICATED).await;
    let mut client = cluster.client(2).await;
    let refused = client.call(7, &with_factor("t", 1, 4)).await;
    assert_eq!(refused.topics[0].error_code, 38);
    let made = client.call(7, &with_factor("t", 2, 2)).await;
    assert_eq!(made.topics[0].error_code, 0);
    let request = more("t", 5);
    let grown = client.call(2, &request).await;
    assert_eq!(grown.results[0].error_code, 0);
    cluster.until(1, "t", |topic| topic.partitions.len() == 5).await;
    let told = metadata(&mut client, "t").await;
    for partition in &told.topics[0].partitions {
        assert_eq!(partition.replica_nodes.len(), 2);
        assert_eq!(partition.leader_id, partition.replica_nodes[0]);
    }
}

/// What coordinators and engines keep beside the records of such topics is on one broker.
#[tokio::test(start_paused = true)]
async fn topics_of_coordinators_and_engines_have_one_replica_whatever_the_defaults_say() {
    const EVERYTHING: &[(&str, &str)] = &[
        ("braid.replication.enable", "true"),
        ("default.replication.factor", "3"),
        ("offsets.topic.replication.factor", "3"),
        ("transaction.state.log.replication.factor", "3"),
    ];
    let cluster = Cluster::start_with(EVERYTHING).await;
    let mut client = cluster.client(1).await;
    for kind in ["DELAY", "TRANSACTION"] {
        let name = kind.to_lowercase();
        for (factor, code, replicas) in [(2, 38, -1), (-1, 0, 1)] {
            let mut request = with_factor(&name, 1, factor);
            request.topics[0].configs = vec![
                CreatableTopicConfig::default()
                    .with_name(text("message.type"))
                    .with_value(Some(text(kind))),
            ];
            let made = client.call(7, &request).await.topics.remove(0);
            assert_eq!((made.error_code, made.replication_factor), (code, replicas), "{kind}");
        }
    }
    for (kind, topic) in [(0, "__consumer_offsets"), (1, "__transaction_state")] {
        let code = client.call(7, &with_factor(topic, 3, 3)).await.topics[0].error_code;
        assert_eq!(code, 38, "{topic}");
        let request = FindCoordinatorRequest::default()
            .with_key_type(kind)
            .with_coordinator_keys(vec![text("g")]);
        let found = client.call(4, &request).await.coordinators.remove(0);
        assert_eq!(found.error_code, 0, "{topic}");
        let told = metadata(&mut client, topic).await.topics[0].clone();
        assert!(told.partitions.iter().all(|it| it.replica_nodes.len() == 1), "{topic}");
        let mut coordinator = cluster.client(found.node_id.0).await;
        let code = match kind {
            0 => {
                coordinator.call(3, &commit("g", "delay")).await.topics[0].partitions[0].error_code
            }
            _ => {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(Some(TransactionalId(text("g"))))
                    .with_transaction_timeout_ms(60_000);
                coordinator.call(3, &request).await.error_code
            }
        };
        assert_eq!(code, 0, "{topic}");
    }
}

fn commit(group: &str, topic: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(0);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}
