//! Commands for tests, by hand and by chance.

use std::collections::BTreeMap;

use braid_base::model::{BrokerId, LeaderEpoch, ShardId, TopicId};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::command::{
    AdmitDirectory, AllocateProducerIds, ChangeSyncSet, ClusterId, ClusterInit, ConfigChange,
    ConfigResource, CreatePartitions, CreateShards, CreateTopics, DeleteTopics, DrainBroker,
    ElectLeaders, ElectionKind, Endpoint, FenceBroker, MetadataCommand, NewShard, NewTopic,
    PartitionRun, RegisterBroker, SetBrokerConfigs, SetResourceConfigs, SetTopicConfigs,
    ShardElection, StartBroker,
};
use crate::shard::{Proposal, Replica};

pub(crate) fn topic_id(id: u128) -> TopicId {
    TopicId(Uuid::from_u128(id))
}

/// Broker 1 in one of its lives.
pub(crate) fn register(incarnation: u128) -> RegisterBroker {
    register_broker(1, incarnation)
}

pub(crate) fn register_broker(broker: i32, incarnation: u128) -> RegisterBroker {
    RegisterBroker {
        broker: BrokerId(broker),
        incarnation: Uuid::from_u128(incarnation),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        rack: None,
        registered_ms: 1_000,
    }
}

/// Partitions on broker 1.
pub(crate) fn on_broker_1(count: u32) -> Vec<PartitionRun> {
    vec![PartitionRun { count, replicas: vec![BrokerId(1)] }]
}

/// A topic on broker 1.
pub(crate) fn topic(name: &str, id: u128, partitions: u32) -> NewTopic {
    NewTopic {
        name: name.to_owned(),
        id: topic_id(id),
        partitions: on_broker_1(partitions),
        configs: BTreeMap::new(),
    }
}

pub(crate) fn create(topics: Vec<NewTopic>) -> CreateTopics {
    CreateTopics { topics, created_ms: 2_000 }
}

pub(crate) fn set(key: &str, value: &str) -> ConfigChange {
    ConfigChange { key: key.to_owned(), value: Some(value.to_owned()) }
}

/// Any command, over names and ids so few that commands meet each other's traces.
pub(crate) fn any_command() -> impl Strategy<Value = MetadataCommand> {
    let id = || (0..8u128).prop_map(topic_id);
    let broker = || (-1..4i32).prop_map(BrokerId);
    let runs = || {
        let run = (0..4u32, vec(broker(), 0..3));
        vec(run.prop_map(|(count, replicas)| PartitionRun { count, replicas }), 0..3)
    };
    let change = (
        prop::sample::select(std::vec!["a", "b", "c"]),
        option::of(prop::sample::select(std::vec!["1", "2"])),
    )
        .prop_map(|(key, value)| ConfigChange {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        });
    let changes = vec(change, 0..4);
    let new_topic = ("[ab][._]?[ab]?|", id(), runs(), btree_map("[ab]", "[12]", 0..2))
        .prop_map(|(name, id, partitions, configs)| NewTopic { name, id, partitions, configs });
    let endpoint = ("[AB]", 0..9u16).prop_map(|(listener, port)| Endpoint {
        listener,
        host: "h".to_owned(),
        port,
    });
    prop_oneof![
        1 => "[xy]".prop_map(|id| ClusterInit {
            cluster_id: ClusterId::new(id),
            features: BTreeMap::from([("f".to_owned(), 1)]),
        }.into()),
        4 => (broker(), 0..3u128, vec(endpoint, 0..3), option::of("[rs]")).prop_map(
            |(broker, incarnation, endpoints, rack)| RegisterBroker {
                broker,
                incarnation: Uuid::from_u128(incarnation),
                endpoints,
                rack,
                registered_ms: 7,
            }.into()
        ),
        6 => (vec(new_topic, 0..4), 0..9i64)
            .prop_map(|(topics, created_ms)| CreateTopics { topics, created_ms }.into()),
        2 => vec(id(), 0..3).prop_map(|topics| DeleteTopics { topics }.into()),
        3 => (id(), 0..6u32, runs()).prop_map(|(topic, expected_count, added)| {
            CreatePartitions { topic, expected_count, added }.into()
        }),
        2 => (id(), changes.clone())
            .prop_map(|(topic, changes)| SetTopicConfigs { topic, changes }.into()),
        2 => (option::of(broker()), changes.clone())
            .prop_map(|(broker, changes)| SetBrokerConfigs { broker, changes }.into()),
        2 => (any::<bool>(), "[ab]", changes).prop_map(|(group, name, changes)| {
            let resource =
                if group { ConfigResource::Group(name) } else { ConfigResource::ClientMetrics(name) };
            SetResourceConfigs { resource, changes }.into()
        }),
        3 => (broker(), 0..3u128, any::<bool>()).prop_map(|(broker, incarnation, fenced)| {
            FenceBroker { broker, incarnation: Uuid::from_u128(incarnation), fenced }.into()
        }),
        1 => (0..5u32).prop_map(|count| AllocateProducerIds { count }.into()),
        8 => any_shard_command(),
    ]
}

/// Any command about replicated shards and the brokers that hold them, over few of both.
fn any_shard_command() -> impl Strategy<Value = MetadataCommand> {
    let broker = || (1..4i32).prop_map(BrokerId);
    let brokers = || vec(broker(), 0..4);
    let shard = || (0..4u32).prop_map(ShardId);
    let run =
        || (broker(), 0..4u64).prop_map(|(broker, incarnation)| Replica { broker, incarnation });
    let kind = prop::sample::select(std::vec![
        ElectionKind::Preferred,
        ElectionKind::Clean,
        ElectionKind::Unclean
    ]);
    let epoch = || (0..5i32).prop_map(LeaderEpoch);
    let election = (shard(), kind, option::of(epoch()))
        .prop_map(|(shard, kind, epoch)| ShardElection { shard, kind, epoch });
    prop_oneof![
        (brokers(), 0..4u32, 0..6u128).prop_map(|(replicas, in_sync_min, store_id)| {
            let store_id = Uuid::from_u128(store_id);
            CreateShards { shards: vec![NewShard { replicas, in_sync_min, store_id }] }.into()
        }),
        (shard(), run(), epoch(), 0..5u32, brokers(), vec(run(), 0..3)).prop_map(
            |(shard, leader, epoch, version, members, added)| {
                let members = members.into_iter().collect();
                let proposal = Proposal { leader, epoch, version, members, added };
                ChangeSyncSet { shard, proposal }.into()
            }
        ),
        vec(election, 0..3).prop_map(|elections| ElectLeaders { elections }.into()),
        (1..4i32, 0..3u128, vec(shard(), 0..2)).prop_map(|(broker, incarnation, damaged)| {
            StartBroker { registration: register_broker(broker, incarnation), damaged }.into()
        }),
        (broker(), 1..4u128).prop_map(|(node, directory)| {
            AdmitDirectory { node, directory: Uuid::from_u128(directory) }.into()
        }),
        (broker(), 0..3u128).prop_map(|(broker, incarnation)| {
            DrainBroker { broker, incarnation: Uuid::from_u128(incarnation) }.into()
        }),
    ]
}

/// Bytes as hexadecimal, for golden bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
