//! What the broker tells of itself: configs, the cluster, coordinators.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeConfigsRequest, FindCoordinatorRequest,
    MetadataRequest,
};

use super::ask::text;
use super::client::Client;
use super::groups::find;
use super::world::World;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(super) async fn describe(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request = DescribeConfigsRequest::default()
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3)
        .with_resources(vec![resource]);
    let answer = client.call(version, &request).await;
    assert_eq!(answer.results.len(), 1);
    let result = answer.results[0].clone();
    assert_eq!((result.resource_type, result.resource_name.as_str()), (kind, name));
    result
}

#[tokio::test(start_paused = true)]
async fn a_topics_configs_say_where_they_come_from() {
    let world = World::start_with(&[
        ("log.retention.hours", "5"),
        ("log.message.timestamp.type", "LogAppendTime"),
    ])
    .await;
    let mut client = world.client().await;
    client.create("t", 1, &[("max.message.bytes", "2000")]).await;
    for version in 1..=4 {
        let all = describe(&mut client, version, TOPIC, "t", None).await;
        assert_eq!(all.error_code, 0);
        let of = |name: &str| all.configs.iter().find(|c| c.name.as_str() == name).unwrap();
        let own = of("max.message.bytes");
        assert_eq!((own.value.as_deref(), own.config_source), (Some("2000"), 1));
        assert!(!own.read_only && !own.is_sensitive);
        assert_eq!(own.synonyms[0].name.as_str(), "max.message.bytes");
        assert_eq!(of("retention.ms").value.as_deref(), Some("18000000"));
        let of_broker = of("message.timestamp.type");
        assert_eq!(of_broker.value.as_deref(), Some("LogAppendTime"));
        assert_eq!(of_broker.config_source, 4, "the broker's file");
        assert_eq!(of("min.insync.replicas").config_source, 5, "a default");
        if version >= 3 {
            assert_eq!(own.config_type, 3, "an int");
            assert!(own.documentation.as_ref().unwrap().len() > 10);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_keys_asked_for_are_described() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let keys = ["retention.ms", "no.such.key", "cleanup.policy"];
    for version in 1..=4 {
        let some = describe(&mut client, version, TOPIC, "t", Some(&keys)).await;
        let mut names: Vec<_> = some.configs.iter().map(|c| c.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["cleanup.policy", "retention.ms"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_broker_describes_itself_and_nobody_else() {
    let world = World::start().await;
    let mut client = world.client().await;
    let own = describe(&mut client, 4, BROKER, "1", None).await;
    assert_eq!(own.error_code, 0);
    let of = |name: &str| own.configs.iter().find(|c| c.name.as_str() == name).unwrap();
    assert_eq!(of("node.id").value.as_deref(), Some("1"));
    assert_eq!(of("auto.create.topics.enable").value.as_deref(), Some("false"));
    let defaults = describe(&mut client, 4, BROKER, "", None).await;
    assert_eq!((defaults.error_code, defaults.configs.len()), (0, 0));
    for (kind, name, code) in [
        (BROKER, "2", 42),
        (BROKER, "one", 42),
        (TOPIC, "nope", 3),
        (TOPIC, "in valid", 17),
        (TOPIC, "", 17),
        (8, "2", 42),
        (8, "", 42),
        (0, "x", 42),
        (99, "x", 42),
    ] {
        let refused = describe(&mut client, 4, kind, name, None).await;
        assert_eq!(refused.error_code, code, "{kind} {name}");
        // Kafka finds no words for a topic that is not there.
        let is_told = refused.error_message.is_some_and(|why| !why.is_empty());
        assert!(is_told != (code == 3) && refused.configs.is_empty(), "{kind} {name}");
    }
    // A kind that it does not know takes all others with it.
    let asked = |kind, name| {
        DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name))
    };
    let both = vec![asked(BROKER, "1"), asked(99, "x")];
    let request = DescribeConfigsRequest::default().with_resources(both);
    let codes: Vec<i16> =
        client.call(4, &request).await.results.iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [42, 42]);
}

#[tokio::test(start_paused = true)]
async fn the_offsets_topic_has_the_settings_that_kafka_gives_it() {
    let world = World::start_with(&[("offsets.topic.segment.bytes", "7000000")]).await;
    let mut client = world.client().await;
    find(&mut client).await;
    let told = describe(&mut client, 4, TOPIC, "__consumer_offsets", None).await;
    let own: Vec<_> = told.configs.iter().filter(|config| config.config_source == 1).collect();
    let own: Vec<_> =
        own.iter().map(|config| (config.name.as_str(), config.value.as_deref().unwrap())).collect();
    let expected = [
        ("cleanup.policy", "compact"),
        ("compression.type", "producer"),
        ("segment.bytes", "7000000"),
    ];
    assert_eq!(own, expected);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_described_in_every_version() {
    let world = World::start_with(&[("broker.rack", "r1")]).await;
    let mut client = world.client().await;
    for version in 0..=2 {
        let request = DescribeClusterRequest::default()
            .with_include_cluster_authorized_operations(version == 2);
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!((answer.cluster_id.len(), answer.controller_id), (22, BrokerId(1)));
        let broker = &answer.brokers[0];
        assert_eq!((broker.broker_id, broker.rack.as_deref()), (BrokerId(1), Some("r1")));
        assert_eq!(broker.port, i32::from(world.node.addresses()[0].port()));
        assert_eq!(answer.cluster_authorized_operations == i32::MIN, version != 2);
    }
    for (kind, code) in [(2, 114), (3, 115), (0, 115)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(kind);
        assert_eq!(client.call(1, &request).await.error_code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_the_addresses_of_the_listener_they_came_in_on() {
    let settings = [
        ("listeners", "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0"),
        ("advertised.listeners", "INSIDE://inside:0,OUTSIDE://outside.example:7777"),
        ("listener.security.protocol.map", "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT"),
    ];
    let world = World::start_with(&settings).await;
    let inside = i32::from(world.node.addresses()[0].port());
    for (listener, host, port) in [(0, "inside", inside), (1, "outside.example", 7777)] {
        let address = world.node.addresses()[listener].to_string();
        let mut client = Client::connect(&world.env, &address).await;
        let metadata = MetadataRequest::default().with_topics(Some(vec![]));
        let broker = client.call(9, &metadata).await.brokers.remove(0);
        assert_eq!((broker.host.as_str(), broker.port), (host, port));
        let broker = client.call(0, &DescribeClusterRequest::default()).await.brokers.remove(0);
        assert_eq!((broker.host.as_str(), broker.port), (host, port));
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
        let found = client.call(4, &find).await.coordinators.remove(0);
        assert_eq!((found.host.as_str(), found.port), (host, port));
    }
    // Another start takes other ports, and says so.
    let world = world.restart().await;
    let mut client = world.client().await;
    let metadata = MetadataRequest::default().with_topics(Some(vec![]));
    let broker = client.call(9, &metadata).await.brokers.remove(0);
    assert_eq!(broker.port, i32::from(world.node.addresses()[0].port()));
    assert_ne!(broker.port, inside);
}

#[tokio::test(start_paused = true)]
async fn every_version_finds_the_coordinator_of_a_group() {
    let world = World::start().await;
    let mut client = world.client().await;
    let port = i32::from(world.node.addresses()[0].port());
    for version in 0..=6 {
        let mut request = FindCoordinatorRequest::default();
        if version < 4 {
            request.key = text("g");
        } else {
            request.coordinator_keys = vec![text("g"), text("h"), text("")];
        }
        let answer = client.call(version, &request).await;
        if version < 4 {
            assert_eq!((answer.error_code, answer.node_id, answer.port), (0, BrokerId(1), port));
            assert_eq!(answer.host.as_str(), "127.0.0.1");
        } else {
            assert_eq!(answer.coordinators.len(), 3);
            for (found, key) in answer.coordinators.iter().zip(["g", "h", ""]) {
                assert_eq!((found.error_code, found.key.as_str()), (0, key));
                assert_eq!((found.node_id, found.port), (BrokerId(1), port));
            }
        }
    }
    let share = "g:AAAAAAAAAAAAAAAAAAAAAA:0";
    for (kind, version, key, expected) in [
        (1, 4, "k", 0),
        (1, 4, "", 42),
        (2, 6, share, 35),
        (2, 6, "k", 42),
        (9, 4, "k", 42),
        (-1, 3, "k", 42),
    ] {
        let mut request = FindCoordinatorRequest::default().with_key_type(kind);
        if version < 4 {
            request.key = text(key);
        } else {
            request.coordinator_keys = vec![text(key)];
        }
        let answer = client.call(version, &request).await;
        let code = if version < 4 { answer.error_code } else { answer.coordinators[0].error_code };
        assert_eq!(code, expected, "key type {kind}");
    }
}
