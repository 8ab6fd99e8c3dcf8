//! Metadata, and topics that come and go.

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, DeleteTopicsRequest, MetadataRequest, MetadataResponse};
use uuid::Uuid;

use super::ask::{create_topics, new_topic, topic_name};
use super::client::Client;
use super::world::World;

fn about(names: &[&str]) -> MetadataRequest {
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
        .collect();
    MetadataRequest::default().with_topics(Some(topics))
}

fn codes(response: &MetadataResponse) -> Vec<(&str, i16)> {
    response
        .topics
        .iter()
        .map(|t| (t.name.as_ref().map_or("", |name| name.as_str()), t.error_code))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_version_describes_brokers_and_topics() {
    let world = World::start().await;
    let mut client = world.client().await;
    let id = client.create("t", 3, &[]).await;
    for version in 0..=13 {
        let answer = client.call(version, &about(&["t"])).await;
        let broker = &answer.brokers[0];
        assert_eq!((broker.node_id, broker.host.as_str()), (BrokerId(1), "127.0.0.1"));
        assert_eq!(broker.port, i32::from(world.node.addresses()[0].port()));
        assert_eq!(answer.brokers.len(), 1);
        if version >= 1 {
            assert_eq!(answer.controller_id, BrokerId(1));
        }
        if version >= 2 {
            assert_eq!(answer.cluster_id.as_ref().unwrap().len(), 22);
        }
        let topic = &answer.topics[0];
        assert_eq!((topic.error_code, topic.is_internal), (0, false));
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::nil() });
        assert_eq!(topic.partitions.len(), 3);
        for (part, index) in topic.partitions.iter().zip(0..) {
            assert_eq!((part.error_code, part.partition_index), (0, index));
            assert_eq!(
                (part.leader_id, part.leader_epoch),
                (BrokerId(1), if version >= 7 { 0 } else { -1 })
            );
            assert_eq!(part.replica_nodes, [BrokerId(1)]);
            assert_eq!(part.isr_nodes, [BrokerId(1)]);
            assert!(part.offline_replicas.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_topics_are_an_empty_list_in_version_0_and_null_later() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("a", 1, &[]).await;
    client.create("b", 1, &[]).await;
    let none = MetadataRequest::default().with_topics(Some(vec![]));
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(client.call(0, &none).await.topics.len(), 2);
    for version in 1..=13 {
        assert_eq!(client.call(version, &none).await.topics.len(), 0, "version {version}");
        assert_eq!(client.call(version, &all).await.topics.len(), 2, "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_auto_creation_an_unknown_name_is_unknown() {
    let world = World::start().await;
    let mut client = world.client().await;
    let request = about(&["nope", "in valid", "", "..", &"x".repeat(250)]);
    for version in [0, 1, 4, 9, 12, 13] {
        let answer = client.call(version, &request).await;
        let codes: Vec<_> = answer.topics.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [3, 17, 17, 17, 17], "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_auto_creation_both_sides_have_to_want_it() {
    let settings = [("auto.create.topics.enable", "true"), ("num.partitions", "4")];
    let world = World::start_with(&settings).await;
    let mut client = world.client().await;
    let mut unwanted = about(&["a"]);
    unwanted.allow_auto_topic_creation = false;
    assert_eq!(codes(&client.call(4, &unwanted).await), [("a", 3)]);
    let answer = client.call(4, &about(&["a", "b", "in valid"])).await;
    assert_eq!(codes(&answer), [("a", 0), ("b", 0), ("in valid", 17)]);
    assert_eq!(answer.topics[0].partitions.len(), 4);
    // Versions before the choice always want it.
    assert_eq!(codes(&client.call(1, &about(&["c"])).await), [("c", 0)]);
    // A name that collides with another (`.` and `_` are one in metrics) is invalid.
    assert_eq!(codes(&client.call(4, &about(&["x.y", "x_y"])).await).len(), 2);
    // Listing creates nothing.
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(client.call(9, &all).await.topics.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn topics_are_found_by_id_and_unknown_ids_are_said_so() {
    let world = World::start().await;
    let mut client = world.client().await;
    let id = client.create("t", 1, &[]).await;
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    for version in 12..=13 {
        let answer = client.call(version, &by_id(id)).await;
        assert_eq!(codes(&answer), [("t", 0)]);
        let answer = client.call(version, &by_id(Uuid::from_u128(4))).await;
        assert_eq!((answer.topics[0].error_code, &answer.topics[0].name), (100, &None));
        assert_eq!(answer.topics[0].topic_id, Uuid::from_u128(4));
    }
    // Java's admin client writes an empty name beside an id. Kafka looks at no name once there is an id, and makes no topic.
    let beside = |id, name| MetadataRequestTopic::default().with_topic_id(id).with_name(name);
    for name in ["", "t", "other"] {
        let topics = vec![
            beside(id, Some(topic_name(name))),
            beside(Uuid::from_u128(4), Some(topic_name("t"))),
            beside(Uuid::nil(), Some(topic_name("made"))),
            beside(Uuid::nil(), None),
        ];
        let answer = client.call(12, &MetadataRequest::default().with_topics(Some(topics))).await;
        assert_eq!(codes(&answer), [("t", 0), ("", 100)], "beside {name:?}");
        assert_eq!(answer.topics[1].name, None);
    }
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(codes(&client.call(12, &all).await), [("t", 0)]);
    // Versions 10 and 11 have the field and must not use it.
    for version in 10..=11 {
        let answer = client.call(version, &by_id(id)).await;
        assert_eq!(answer.topics[0].error_code, 42, "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_named_twice_is_described_once() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let answer = client.call(9, &about(&["t", "u", "t", "u"])).await;
    assert_eq!(codes(&answer), [("t", 0), ("u", 3)]);
}

#[tokio::test(start_paused = true)]
async fn allowed_operations_are_told_when_asked_for() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let asking = about(&["t"]).with_include_topic_authorized_operations(true);
    for version in 8..=13 {
        let mut request = asking.clone();
        if version <= 10 {
            request.include_cluster_authorized_operations = true;
        }
        let answer = client.call(version, &request).await;
        let ops = |bits: &[i32]| bits.iter().map(|bit| 1 << bit).sum::<i32>();
        assert_eq!(answer.topics[0].topic_authorized_operations, ops(&[3, 4, 5, 6, 7, 8, 10, 11]));
        let cluster = if version <= 10 { ops(&[5, 7, 8, 9, 10, 11, 12]) } else { i32::MIN };
        assert_eq!(answer.cluster_authorized_operations, cluster, "version {version}");
    }
    let answer = client.call(9, &about(&["t"])).await;
    assert_eq!(answer.topics[0].topic_authorized_operations, i32::MIN);
    assert_eq!(answer.cluster_authorized_operations, i32::MIN);
}

async fn create(client: &mut Client, version: i16, topic: CreatableTopic) -> CreatableTopicResult {
    let answer = client.call(version, &create_topics(vec![topic])).await;
    assert_eq!(answer.topics.len(), 1);
    answer.topics[0].clone()
}

#[tokio::test(start_paused = true)]
async fn every_version_creates_topics() {
    let world = World::start().await;
    let mut client = world.client().await;
    for version in 2..=7 {
        let name = format!("v{version}");
        let result =
            create(&mut client, version, new_topic(&name, 2, &[("retention.ms", "5000")])).await;
        assert_eq!(result.error_code, 0);
        if version >= 5 {
            assert_eq!((result.num_partitions, result.replication_factor), (2, 1));
            let configs = result.configs.unwrap();
            let retention = configs.iter().find(|c| c.name.as_str() == "retention.ms").unwrap();
            assert_eq!(retention.value.as_deref(), Some("5000"));
            assert_eq!(retention.config_source, 1, "a topic's own");
            let policy = configs.iter().find(|c| c.name.as_str() == "cleanup.policy").unwrap();
            assert_eq!((policy.value.as_deref(), policy.config_source), (Some("delete"), 5));
        }
        assert_eq!(result.topic_id.is_nil(), version < 7);
        let described = client.call(12, &about(&[&name])).await;
        assert_eq!(described.topics[0].partitions.len(), 2);
        if version == 7 {
            assert_eq!(described.topics[0].topic_id, result.topic_id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn counts_left_open_are_the_brokers() {
    let world = World::start_with(&[("num.partitions", "6")]).await;
    let mut client = world.client().await;
    let result = create(&mut client, 7, new_topic("t", -1, &[])).await;
    assert_eq!((result.error_code, result.num_partitions, result.replication_factor), (0, 6, 1));
}

#[tokio::test(start_paused = true)]
async fn topics_that_cannot_be_are_refused_with_their_reason() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("taken", 1, &[]).await;
    client.create("a.b", 1, &[]).await;
    let replicas = |ids: &[i32]| {
        let ids = ids.iter().map(|id| BrokerId(*id)).collect();
        vec![CreatableReplicaAssignment::default().with_partition_index(0).with_broker_ids(ids)]
    };
    let assigned =
        |name: &str, ids: &[i32]| new_topic(name, -1, &[]).with_assignments(replicas(ids));
    let table = [
        (new_topic("taken", 1, &[]), 36),
        (new_topic("a_b", 1, &[]), 17),
        (new_topic("no spaces", 1, &[]), 17),
        (new_topic("", 1, &[]), 17),
        (new_topic(".", 1, &[]), 17),
        (new_topic(&"x".repeat(250), 1, &[]), 17),
        (new_topic("zero", 0, &[]), 37),
        (new_topic("negative", -2, &[]), 37),
        (new_topic("many", 1_000_000_000, &[]), 44),
        (new_topic("factor", 1, &[]).with_replication_factor(2), 38),
        (new_topic("factor", 1, &[]).with_replication_factor(0), 38),
        (new_topic("key", 1, &[("no.such.key", "1")]), 40),
        (new_topic("value", 1, &[("retention.ms", "soon")]), 40),
        (new_topic("value", 1, &[("cleanup.policy", "burn")]), 40),
        (assigned("stranger", &[7]), 39),
        (assigned("twice", &[1, 1]), 39),
        (assigned("none", &[]), 39),
        (assigned("both", &[1]).with_num_partitions(1), 42),
        (new_topic("__consumer_offsets", 1, &[]), 37),
        (new_topic("__cluster_metadata", 1, &[]), 29),
    ];
    for (topic, code) in table {
        let what = format!("{:?}", topic.name);
        for validate_only in [true, false] {
            let request = create_topics(vec![topic.clone()]).with_validate_only(validate_only);
            let answer = client.call(7, &request).await;
            let result = &answer.topics[0];
            assert_eq!(result.error_code, code, "{what}: {:?}", result.error_message);
            assert!(result.error_message.is_some(), "{what}");
            assert!(result.topic_id.is_nil());
        }
    }
    let fine = create(&mut client, 7, assigned("assigned", &[1])).await;
    assert_eq!((fine.error_code, fine.num_partitions), (0, 1));
    let offsets = create(&mut client, 7, new_topic("__consumer_offsets", -1, &[])).await;
    assert_eq!((offsets.error_code, offsets.num_partitions), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn a_request_for_too_many_partitions_in_all_is_refused_whole() {
    let settings = [("num.partitions", "5000"), ("auto.create.topics.enable", "true")];
    let world = World::start_with(&settings).await;
    let mut client = world.client().await;
    let name = |number: usize| format!("t{number}");
    for last in [new_topic("c", 1, &[]), new_topic("c", -1, &[])] {
        let topics = vec![new_topic("a", 5000, &[]), new_topic("b", -1, &[]), last];
        let answer = client.call(7, &create_topics(topics)).await;
        let codes: Vec<_> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [44; 3], "{answer:?}");
    }
    // A request of some bytes cannot make the broker hold a billion partitions.
    let many = (0..10_000).map(|number| new_topic(&name(number), 100_000, &[])).collect();
    let answer = client.call(7, &create_topics(many)).await;
    assert!(answer.topics.len() == 10_000 && answer.topics.iter().all(|it| it.error_code == 44));
    // Nor can naming topics that do not exist.
    let answer = client.call(13, &about(&["x", "y", "z"])).await;
    assert_eq!(codes(&answer), [("x", 3), ("y", 3), ("z", 3)]);
    let all = client.call(13, &MetadataRequest::default().with_topics(None)).await;
    assert_eq!(codes(&all), []);
    let answer = client.call(7, &create_topics(vec![new_topic("a", 10_000, &[])])).await;
    assert_eq!(answer.topics[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn validate_only_creates_nothing() {
    let world = World::start().await;
    let mut client = world.client().await;
    for version in 2..=7 {
        let request = create_topics(vec![new_topic("t", 2, &[])]).with_validate_only(true);
        let answer = client.call(version, &request).await;
        assert_eq!(answer.topics[0].error_code, 0);
    }
    assert_eq!(codes(&client.call(9, &about(&["t"])).await), [("t", 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_name_twice_in_one_request_creates_none_of_them() {
    let world = World::start().await;
    let mut client = world.client().await;
    let topics = vec![new_topic("t", 1, &[]), new_topic("u", 1, &[]), new_topic("t", 2, &[])];
    let answer = client.call(7, &create_topics(topics)).await;
    let mut results: Vec<_> =
        answer.topics.iter().map(|t| (t.name.as_str().to_owned(), t.error_code)).collect();
    results.sort();
    assert_eq!(results, [("t".to_owned(), 42), ("u".to_owned(), 0)]);
    assert_eq!(codes(&client.call(9, &about(&["t"])).await), [("t", 3)]);
}

#[tokio::test(start_paused = true)]
async fn names_that_collide_in_one_request_do_not_both_come_to_be() {
    let world = World::start().await;
    let mut client = world.client().await;
    let topics = vec![new_topic("x.y", 1, &[]), new_topic("x_y", 1, &[])];
    let answer = client.call(7, &create_topics(topics)).await;
    let mut results: Vec<_> = answer.topics.iter().map(|t| t.error_code).collect();
    results.sort_unstable();
    assert_eq!(results, [0, 17]);
}

fn delete_names(names: &[&str]) -> DeleteTopicsRequest {
    DeleteTopicsRequest::default().with_topic_names(names.iter().map(|n| topic_name(n)).collect())
}

fn delete_states(states: Vec<(Option<&str>, Uuid)>) -> DeleteTopicsRequest {
    let states = states.into_iter().map(|(name, id)| {
        DeleteTopicState::default().with_name(name.map(topic_name)).with_topic_id(id)
    });
    DeleteTopicsRequest::default().with_topics(states.collect())
}

#[tokio::test(start_paused = true)]
async fn every_version_deletes_topics() {
    let world = World::start().await;
    let mut client = world.client().await;
    for version in 1..=5 {
        client.create("t", 1, &[]).await;
        let answer = client.call(version, &delete_names(&["t", "nope"])).await;
        let mut results: Vec<_> = answer
            .responses
            .iter()
            .map(|r| (r.name.as_ref().unwrap().as_str().to_owned(), r.error_code))
            .collect();
        results.sort();
        assert_eq!(results, [("nope".to_owned(), 3), ("t".to_owned(), 0)], "version {version}");
        if version >= 5 {
            let told = |code| answer.responses.iter().find(|r| r.error_code == code).unwrap();
            let why = told(3).error_message.as_deref();
            assert_eq!(why, Some("This server does not host this topic-partition."));
            assert_eq!(told(0).error_message, None);
        }
        assert_eq!(codes(&client.call(9, &about(&["t"])).await), [("t", 3)]);
    }
    let (a, b) = (client.create("a", 1, &[]).await, client.create("b", 1, &[]).await);
    let unknown = Uuid::from_u128(5);
    let states = vec![(Some("a"), Uuid::nil()), (None, b), (None, unknown)];
    let answer = client.call(6, &delete_states(states)).await;
    let mut results: Vec<_> = answer
        .responses
        .iter()
        .map(|r| (r.name.as_ref().map(|n| n.as_str().to_owned()), r.topic_id, r.error_code))
        .collect();
    results.sort();
    let name = |n: &str| Some(n.to_owned());
    assert_eq!(results, [(None, unknown, 100), (name("a"), a, 0), (name("b"), b, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_not_clear_deletes_nothing() {
    let world = World::start().await;
    let mut client = world.client().await;
    let id = client.create("t", 1, &[]).await;
    let nil = Uuid::nil();
    let table = [
        vec![(Some("t"), nil), (Some("t"), nil)],
        vec![(None, id), (None, id)],
        vec![(None, id), (Some("t"), nil)],
        vec![(Some("t"), nil), (None, id)],
        vec![(Some("t"), id)],
        vec![(None, nil)],
    ];
    for states in table {
        let answer = client.call(6, &delete_states(states.clone())).await;
        let codes: Vec<_> = answer.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [42], "{states:?}");
        assert!(answer.responses[0].error_message.is_some());
    }
    let answer = client.call(3, &delete_names(&["t", "t"])).await;
    assert_eq!(answer.responses.iter().map(|r| r.error_code).collect::<Vec<_>>(), [42]);
    assert_eq!(codes(&client.call(9, &about(&["t"])).await), [("t", 0)], "it is still there");
}

#[tokio::test(start_paused = true)]
async fn deletion_can_be_switched_off() {
    let world = World::start_with(&[("delete.topic.enable", "false")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for (version, code) in [(1, 42), (2, 42), (3, 73), (5, 73)] {
        let answer = client.call(version, &delete_names(&["t"])).await;
        assert_eq!(answer.responses[0].error_code, code, "version {version}");
    }
    let answer = client.call(6, &delete_states(vec![(Some("t"), Uuid::nil())])).await;
    assert_eq!(answer.responses[0].error_code, 73);
    assert_eq!(codes(&client.call(9, &about(&["t"])).await), [("t", 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_created_is_there_after_any_restart() {
    let world = World::start().await;
    let mut client = world.client().await;
    let kept = client.create("kept", 3, &[("retention.ms", "77")]).await;
    client.create("gone", 1, &[]).await;
    drop(client.call(5, &delete_names(&["gone"])).await);
    drop(client);
    let mut world = world.restart().await;
    for life in 0..3 {
        let mut client = world.client().await;
        let answer = client.call(12, &about(&["kept", "gone"])).await;
        assert_eq!(codes(&answer), [("kept", 0), ("gone", 3)], "life {life}");
        assert_eq!(answer.topics[0].topic_id, kept);
        assert_eq!(answer.topics[0].partitions.len(), 3);
        assert_eq!(answer.cluster_id.as_ref().map(|id| id.len()), Some(22));
        drop(client);
        world = world.kill_and_restart().await;
    }
}
