//! What is asked about a cluster, answered by the one broker there is.

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;

use super::ask::{text, topic_name};
use super::client::Client;
use super::world::{World, config};

async fn world_with_topic() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 2, &[]).await;
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn no_election_is_needed() {
    let (_world, mut client) = world_with_topic().await;
    let named = |name: &str, partitions: &[i32]| {
        TopicPartitions::default().with_topic(topic_name(name)).with_partitions(partitions.into())
    };
    let topics = vec![named("t", &[0, 1, 2]), named("nope", &[0])];
    for version in 0..=2 {
        let request = ElectLeadersRequest::default().with_topic_partitions(Some(topics.clone()));
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        let codes: Vec<Vec<i16>> = answer
            .replica_election_results
            .iter()
            .map(|topic| topic.partition_result.iter().map(|p| p.error_code).collect())
            .collect();
        assert_eq!(codes, [vec![84, 84, 3], vec![3]], "version {version}");
        if version >= 1 {
            let led = &answer.replica_election_results[0].partition_result[0];
            let why = led.error_message.as_deref();
            assert_eq!(why, Some("Leader election not needed for topic partition."));
        }
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        let answer = client.call(version, &all).await;
        let told = answer.replica_election_results.iter();
        let told: Vec<_> = told.map(|t| (t.topic.as_str(), t.partition_result.len())).collect();
        assert_eq!(told, [("t", 0)]);
    }
    let unknown = ElectLeadersRequest::default().with_topic_partitions(None).with_election_type(7);
    assert_eq!(client.call(2, &unknown).await.error_code, 42);
}

#[tokio::test(start_paused = true)]
async fn a_partition_moves_nowhere_but_to_where_it_is() {
    let (_world, mut client) = world_with_topic().await;
    let listed = ListPartitionReassignmentsRequest::default().with_topics(None);
    let answer = client.call(0, &listed).await;
    assert_eq!((answer.error_code, answer.topics.len()), (0, 0));
    for (name, index, replicas, code) in [
        ("t", 0, Some(&[1][..]), 0),
        ("t", 1, Some(&[2]), 39),
        ("t", 1, Some(&[1, 1]), 39),
        ("t", 1, Some(&[]), 39),
        ("t", 1, None, 85),
        ("t", 2, Some(&[1]), 3),
        ("nope", 0, None, 3),
    ] {
        let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
        let partition =
            ReassignablePartition::default().with_partition_index(index).with_replicas(replicas);
        let topic = ReassignableTopic::default()
            .with_name(topic_name(name))
            .with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        for version in 0..=1 {
            let answer = client.call(version, &request).await;
            let told = &answer.responses[0].partitions[0];
            assert_eq!((answer.error_code, told.error_code), (0, code), "{name} {index}");
            // As in Kafka, calling off what is not under way needs no words.
            assert_eq!(told.error_message.is_some(), ![0, 85].contains(&code));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_quorum_is_one_voter_that_leads() {
    let (world, mut client) = world_with_topic().await;
    let ask = |name: &str, partition: i32| {
        let partition = PartitionData::default().with_partition_index(partition);
        let topic =
            TopicData::default().with_topic_name(topic_name(name)).with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    let mut end = 0;
    for version in 0..=2 {
        let answer = client.call(version, &ask("__cluster_metadata", 0)).await;
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((answer.error_code, partition.error_code), (0, 0));
        assert_eq!(partition.leader_id, BrokerId(1));
        assert!(partition.leader_epoch >= 1);
        let [voter] = &partition.current_voters[..] else { panic!("one voter") };
        assert_eq!(
            (voter.replica_id, voter.log_end_offset),
            (BrokerId(1), partition.high_watermark)
        );
        assert!(partition.observers.is_empty());
        assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
        if version >= 2 {
            let listener = &answer.nodes[0].listeners[0];
            assert_eq!(listener.port, world.node.addresses()[0].port());
        }
        assert!(partition.high_watermark > end, "every change is one entry");
        end = partition.high_watermark;
        client.create(&format!("more-{version}"), 1, &[]).await;
    }
    for (name, partition) in [("t", 0), ("__cluster_metadata", 1)] {
        let answer = client.call(2, &ask(name, partition)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_lie_in_the_only_directory() {
    let (_world, mut client) = world_with_topic().await;
    let asked = DescribeLogDirsRequest::default().with_topics(None);
    let dir = client.call(4, &asked).await.results[0].log_dir.clone();
    let into = |path: &str, name: &str, partitions: &[i32]| {
        let topic = AlterReplicaLogDirTopic::default().with_name(topic_name(name));
        let topic = topic.with_partitions(partitions.into());
        AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![topic])
    };
    let dirs =
        vec![into(&dir, "t", &[0, 1, 2]), into(&dir, "nope", &[0]), into("/else", "t", &[1])];
    for version in 1..=2 {
        let request = AlterReplicaLogDirsRequest::default().with_dirs(dirs.clone());
        let answer = client.call(version, &request).await;
        let told: Vec<(&str, Vec<(i32, i16)>)> = answer
            .results
            .iter()
            .map(|topic| {
                let partitions = topic.partitions.iter();
                let codes = partitions.map(|p| (p.partition_index, p.error_code)).collect();
                (&**topic.topic_name, codes)
            })
            .collect();
        let moved = ("t", vec![(0, 0), (1, 0), (2, 3)]);
        assert_eq!(told, [moved, ("nope", vec![(0, 3)]), ("t", vec![(1, 57)])]);
    }
}

#[tokio::test(start_paused = true)]
async fn there_are_no_acls_no_users_and_no_quotas() {
    let (_world, mut client) = world_with_topic().await;
    for version in 1..=3 {
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(1)
            .with_operation(1)
            .with_permission_type(1);
        let answer = client.call(version, &request).await;
        assert_eq!((answer.error_code, answer.resources.len()), (54, 0));
        let why = answer.error_message.as_deref();
        assert_eq!(why, Some("No Authorizer is configured on the broker"));
        let rules = vec![AclCreation::default(), AclCreation::default()];
        let answer =
            client.call(version, &CreateAclsRequest::default().with_creations(rules)).await;
        let told = answer.results.iter().map(|r| (r.error_code, r.error_message.as_deref()));
        let no_authorizer = (54, Some("No Authorizer is configured."));
        assert_eq!(told.collect::<Vec<_>>(), [no_authorizer; 2]);
        let filters = vec![DeleteAclsFilter::default()];
        let answer =
            client.call(version, &DeleteAclsRequest::default().with_filters(filters)).await;
        let told = answer.filter_results.iter();
        let told = told.map(|r| (r.error_code, r.error_message.as_deref(), r.matching_acls.len()));
        assert_eq!(told.collect::<Vec<_>>(), [(54, no_authorizer.1, 0)]);
    }
    let users = ["a", "b", "a"].map(|name| UserName::default().with_name(text(name)));
    for (asked, codes) in [(None, vec![]), (Some(users.into()), vec![92, 91])] {
        let request = DescribeUserScramCredentialsRequest::default().with_users(asked);
        let answer = client.call(0, &request).await;
        let told: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
        assert_eq!((answer.error_code, told), (0, codes));
        assert_eq!(answer.error_message.as_deref(), Some(""));
    }
    for (kinds, code) in [
        (&[][..], 0),
        (&["user", "client-id"], 0),
        (&["user", "user"], 42),
        (&[""], 42),
        (&["planet"], 35),
        (&["ip", "user"], 42),
        (&["client-id", "ip"], 42),
    ] {
        let components =
            kinds.iter().map(|kind| ComponentData::default().with_entity_type(text(kind)));
        let request = DescribeClientQuotasRequest::default().with_components(components.collect());
        for version in 0..=1 {
            let answer = client.call(version, &request).await;
            assert_eq!(answer.error_code, code, "{kinds:?}");
            assert_eq!(answer.entries.map(|entries| entries.len()), (code == 0).then_some(0));
            // Kafka's words for success are none, but there.
            assert_eq!(answer.error_message.as_deref() == Some(""), code == 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn features_keep_their_levels_and_the_broker_its_registration() {
    let (env, sim) = crate::env::sim::env(1);
    let config = config(&[]);
    // A directory that was formed before there were transactions.
    let mut formed = crate::node::metadata_config(&config);
    formed.features.remove("transaction.version");
    let before = braid_raft::MetadataNode::open(&env, formed).await.unwrap();
    before.shutdown().await;
    let world = World::on(env, sim, config).await.unwrap();
    let mut client = world.client().await;
    let level = crate::api::METADATA_VERSION;
    let asked = ApiVersionsRequest::default()
        .with_client_software_name(text("test"))
        .with_client_software_version(text("1.0"));
    let told = client.call(4, &asked).await;
    let finalized = told.finalized_features.iter().map(|f| (&f.name, f.max_version_level));
    // What cannot be changed is not offered.
    for supported in &told.supported_features {
        assert_eq!(supported.min_version, supported.max_version);
    }
    let supported = told.supported_features.iter().map(|f| (&f.name, f.max_version));
    assert_eq!(finalized.collect::<Vec<_>>(), supported.collect::<Vec<_>>());
    assert_eq!(told.finalized_features.len(), 2);
    for (feature, wanted, upgrade_type, refused) in [
        ("metadata.version", level, 1, None),
        ("metadata.version", level + 1, 1, Some("only supports versions")),
        ("metadata.version", level + 1, 2, Some("Can't downgrade to a newer version.")),
        ("metadata.version", level - 1, 1, Some("without setting the upgrade type")),
        ("metadata.version", level - 1, 2, Some("only supports versions")),
        ("metadata.version", -1, 1, Some("cannot be less than 0")),
        ("transaction.version", 2, 1, None),
        ("transaction.version", 1, 2, Some("only supports versions 2-2")),
        ("flying.version", 1, 1, Some("does not support this feature")),
    ] {
        let update = FeatureUpdateKey::default()
            .with_feature(text(feature))
            .with_max_version_level(wanted)
            .with_upgrade_type(upgrade_type);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        for version in 1..=2 {
            let answer = client.call(version, &request).await;
            let code = if refused.is_some() { 95 } else { 0 };
            assert_eq!(answer.error_code, code, "{feature} {wanted}");
            let why = answer.error_message.as_deref().unwrap_or_default();
            assert!(why.contains(refused.unwrap_or_default()), "{why}");
            assert_eq!(answer.results.len(), usize::from(code == 0 && version < 2));
        }
    }
    for (id, code) in [(1, 42), (9, 102)] {
        let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(id));
        assert_eq!(client.call(0, &request).await.error_code, code);
    }
}
