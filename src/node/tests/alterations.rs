//! Changing configurations through the wire.

use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource as ReplacedResource, AlterableConfig as ReplacedConfig,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::*;

use super::ask::{batch, text};
use super::client::Client;
use super::configs::describe;
use super::world::World;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Change<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, name: &str, changes: &[Change<'_>]) -> AlterConfigsResource {
    let configs = changes.iter().map(|(key, operation, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect())
}

/// The code and text that changing one resource is answered with.
async fn alter(client: &mut Client, kind: i8, name: &str, changes: &[Change<'_>]) -> (i16, String) {
    let resources = vec![resource(kind, name, changes)];
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    let answer = client.call(1, &request).await;
    let response = &answer.responses[0];
    assert_eq!((response.resource_type, response.resource_name.as_str()), (kind, name));
    (response.error_code, response.error_message.as_deref().unwrap_or_default().to_owned())
}

async fn value(client: &mut Client, key: &str) -> (Option<String>, i8) {
    let described = describe(client, 4, TOPIC, "t", Some(&[key])).await;
    let config = &described.configs[0];
    (config.value.as_deref().map(str::to_owned), config.config_source)
}

async fn world_with_topic() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn what_is_set_takes_effect_at_once_and_what_is_deleted_falls_back() {
    let (world, mut client) = world_with_topic().await;
    let large = "x".repeat(2000);
    client.produce("t", 0, batch(&[&large])).await;
    let set = [("max.message.bytes", SET, Some("1000"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &set).await, (0, String::new()));
    assert_eq!(client.refused("t", 0, batch(&[&large])).await, 10);
    assert_eq!(value(&mut client, "max.message.bytes").await, (Some("1000".to_owned()), 1));
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(client.refused("t", 0, batch(&[&large])).await, 10, "a change survives");
    let delete = [("max.message.bytes", DELETE, None), ("retention.ms", DELETE, None)];
    assert_eq!(alter(&mut client, TOPIC, "t", &delete).await.0, 0);
    client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(value(&mut client, "max.message.bytes").await.0.as_deref(), Some("40000"));
}

#[tokio::test(start_paused = true)]
async fn lists_are_appended_to_and_subtracted_from() {
    let (_world, mut client) = world_with_topic().await;
    for (operation, part, expected) in [
        (APPEND, "compact", "delete,compact"),
        (APPEND, "compact", "delete,compact"),
        (SUBTRACT, "delete", "compact"),
        (SUBTRACT, "compact", ""),
    ] {
        let change = [("cleanup.policy", operation, Some(part))];
        assert_eq!(alter(&mut client, TOPIC, "t", &change).await, (0, String::new()));
        assert_eq!(value(&mut client, "cleanup.policy").await.0.as_deref(), Some(expected));
    }
    let (code, why) = alter(&mut client, TOPIC, "t", &[("retention.ms", APPEND, Some("1"))]).await;
    let reason = "Can't APPEND to key retention.ms because its type is not LIST.";
    assert_eq!((code, &*why), (40, reason));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_change_is_refused_in_kafkas_words_and_changes_nothing() {
    let (_world, mut client) = world_with_topic().await;
    let long = "x".repeat(32_768);
    for (name, changes, code, reason) in [
        (
            "t",
            &[("retention.ms", SET, Some("5")), ("max.message.bytes", SET, Some("many"))][..],
            40,
            "Invalid value many for configuration max.message.bytes: Not a number of type INT",
        ),
        ("t", &[("retention.sm", SET, Some("5"))], 40, "Unknown topic config name: retention.sm"),
        ("t", &[("retention.ms", SET, None)], 42, "Null value not supported for : retention.ms"),
        ("t", &[("retention.ms", 9, Some("1"))], 42, "Unknown operations type 9"),
        (
            "t",
            &[("retention.ms", SET, Some("5")), ("retention.ms", DELETE, None)],
            42,
            "Error due to duplicate config keys",
        ),
        (
            "t",
            &[("leader.replication.throttled.replicas", SET, Some(&long))],
            40,
            "The configuration value cannot be added because it exceeds the maximum value size",
        ),
        ("nope", &[("retention.ms", SET, Some("5"))], 3, "The topic 'nope' does not exist."),
        ("", &[("retention.ms", SET, Some("5"))], 42, "Default topic resources are not allowed."),
        ("in valid", &[("retention.ms", SET, Some("5"))], 17, ""),
    ] {
        let (told, why) = alter(&mut client, TOPIC, name, changes).await;
        assert_eq!(told, code, "{changes:?}");
        assert!(why.starts_with(reason), "{why}");
    }
    assert_eq!(value(&mut client, "retention.ms").await.1, 5, "still the default");
}

#[tokio::test(start_paused = true)]
async fn validation_alone_changes_nothing_and_a_resource_stands_once() {
    let (_world, mut client) = world_with_topic().await;
    let set = resource(TOPIC, "t", &[("retention.ms", SET, Some("5"))]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![set.clone()]);
    for version in 0..=1 {
        let answer = client.call(version, &request.clone().with_validate_only(true)).await;
        assert_eq!(
            (answer.responses[0].error_code, &answer.responses[0].error_message),
            (0, &None)
        );
    }
    let twice = request.with_resources(vec![set.clone(), set]);
    let answer = client.call(1, &twice).await;
    let codes: Vec<_> = answer.responses.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [42, 42]);
    assert_eq!(value(&mut client, "retention.ms").await.1, 5);
}

#[tokio::test(start_paused = true)]
async fn replacing_takes_away_what_is_not_named() {
    let (_world, mut client) = world_with_topic().await;
    for (version, key, gone) in [
        (0, "retention.ms", "max.message.bytes"),
        (1, "max.message.bytes", "retention.ms"),
        (2, "retention.ms", "max.message.bytes"),
    ] {
        let config = ReplacedConfig::default().with_name(text(key)).with_value(Some(text("1000")));
        let resource = ReplacedResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.call(version, &request).await;
        assert_eq!(
            (answer.responses[0].error_code, &answer.responses[0].error_message),
            (0, &None)
        );
        assert_eq!(value(&mut client, key).await, (Some("1000".to_owned()), 1));
        assert_ne!(value(&mut client, gone).await.1, 1, "version {version}");
    }
}

/// Value, source and synonyms' sources of a key.
async fn told(
    client: &mut Client,
    kind: i8,
    name: &str,
    key: &str,
) -> Option<(Option<String>, i8, Vec<i8>)> {
    let described = describe(client, 4, kind, name, Some(&[key])).await;
    let config = described.configs.first()?;
    let synonyms = config.synonyms.iter().map(|synonym| synonym.source).collect();
    Some((config.value.as_deref().map(str::to_owned), config.config_source, synonyms))
}

fn some(value: &str, source: i8, synonyms: &[i8]) -> Option<(Option<String>, i8, Vec<i8>)> {
    Some((Some(value.to_owned()), source, synonyms.to_vec()))
}

#[tokio::test(start_paused = true)]
async fn a_brokers_own_setting_beats_that_of_all_beats_the_file_and_survives() {
    let (world, mut client) = world_with_topic().await;
    let key = "message.max.bytes";
    let large = "x".repeat(2000);
    assert_eq!(told(&mut client, BROKER, "1", key).await, some("40000", 4, &[4, 5]));
    let set = |value| [(key, SET, Some(value))];
    assert_eq!(alter(&mut client, BROKER, "", &set("1500")).await, (0, String::new()));
    assert_eq!(client.refused("t", 0, batch(&[&large])).await, 10, "in force at once");
    assert_eq!(told(&mut client, BROKER, "1", key).await, some("1500", 3, &[3, 4, 5]));
    assert_eq!(told(&mut client, BROKER, "", key).await, some("1500", 3, &[3]));
    assert_eq!(
        told(&mut client, TOPIC, "t", "max.message.bytes").await,
        some("1500", 3, &[3, 4, 5])
    );
    assert_eq!(alter(&mut client, BROKER, "1", &set("3000")).await.0, 0);
    client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(told(&mut client, BROKER, "1", key).await, some("3000", 2, &[2, 3, 4, 5]));
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(told(&mut client, BROKER, "1", key).await, some("3000", 2, &[2, 3, 4, 5]));
    client.produce("t", 0, batch(&[&large])).await;
    let own = [("max.message.bytes", SET, Some("1000"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &own).await.0, 0);
    assert_eq!(client.refused("t", 0, batch(&[&large])).await, 10, "a topic's own is stronger");
    assert_eq!(alter(&mut client, TOPIC, "t", &[("max.message.bytes", DELETE, None)]).await.0, 0);
    for name in ["1", ""] {
        assert_eq!(alter(&mut client, BROKER, name, &[(key, DELETE, None)]).await.0, 0);
    }
    assert_eq!(told(&mut client, BROKER, "1", key).await, some("40000", 4, &[4, 5]));
    assert_eq!(told(&mut client, BROKER, "", key).await, None);
    client.produce("t", 0, batch(&[&large])).await;
}

#[tokio::test(start_paused = true)]
async fn replacing_works_on_brokers_groups_and_subscriptions_and_not_on_loggers() {
    let (_world, mut client) = world_with_topic().await;
    let mut replace = async |kind: i8, name: &str, config: Option<(&str, &str)>| {
        let config = config.map(|(key, value)| {
            ReplacedConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let resource = ReplacedResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(config.into_iter().collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.call(2, &request).await;
        let code = answer.responses[0].error_code;
        let described = describe(&mut client, 4, kind, name, None).await;
        let own = described.configs.iter().filter(|c| matches!(c.config_source, 2 | 3 | 7 | 8));
        (code, own.map(|config| config.name.to_string()).collect::<Vec<_>>())
    };
    for (kind, name, first, second) in [
        (BROKER, "1", ("message.max.bytes", "2000"), ("log.retention.ms", "5000")),
        (BROKER, "", ("foo.bar", "1"), ("message.max.bytes", "2000")),
        (
            GROUP,
            "g",
            ("share.isolation.level", "read_committed"),
            ("share.session.timeout.ms", "50000"),
        ),
        (METRICS, "m", ("interval.ms", "1000"), ("metrics", "a,b")),
    ] {
        for config in [first, second] {
            let told = replace(kind, name, Some(config)).await;
            assert_eq!(told, (0, vec![config.0.to_owned()]), "{kind} {name}");
        }
        assert_eq!(replace(kind, name, None).await, (0, vec![]), "{kind} {name}");
    }
    assert_eq!(replace(BROKER, "1", Some(("node.id", "7"))).await, (42, vec![]));
    assert_eq!(replace(LOGGER, "1", Some(("root", "WARN"))).await.0, 42);
}

#[tokio::test(start_paused = true)]
async fn a_changed_limit_of_connections_holds_for_the_next() {
    let (world, mut client) = world_with_topic().await;
    let set = [("max.connections.per.ip", SET, Some("1"))];
    assert_eq!(alter(&mut client, BROKER, "1", &set).await.0, 0);
    let mut second = world.client().await;
    second.send(1, &MetadataRequest::default().with_topics(Some(vec![]))).await;
    second.assert_closed().await;
    let delete = [("max.connections.per.ip", DELETE, None)];
    assert_eq!(alter(&mut client, BROKER, "1", &delete).await.0, 0);
    let mut another = world.client().await;
    another.create("u", 1, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn lists_of_a_broker_are_edited_and_foreign_keys_are_kept_as_secrets() {
    let (_world, mut client) = world_with_topic().await;
    let key = "log.cleanup.policy";
    for (operation, part, expected) in
        [(APPEND, "compact", "delete,compact"), (SUBTRACT, "delete", "compact")]
    {
        assert_eq!(alter(&mut client, BROKER, "1", &[(key, operation, Some(part))]).await.0, 0);
        assert_eq!(
            told(&mut client, TOPIC, "t", "cleanup.policy").await,
            some(expected, 2, &[2, 5])
        );
    }
    for (key, reason) in [
        ("num.io.threads", "Config value append is not allowed for config key: num.io.threads"),
        ("foo.bar", "Unknown config name: foo.bar"),
    ] {
        let refused = alter(&mut client, BROKER, "1", &[(key, APPEND, Some("1"))]).await;
        assert_eq!(refused, (40, reason.to_owned()));
    }
    for name in ["1", ""] {
        assert_eq!(alter(&mut client, BROKER, name, &[("foo.bar", SET, Some("s"))]).await.0, 0);
    }
    let described = describe(&mut client, 4, BROKER, "1", Some(&["foo.bar"])).await;
    let foreign = &described.configs[0];
    assert_eq!(
        (foreign.value.as_deref(), foreign.config_source, foreign.config_type),
        (None, 2, 0)
    );
    assert!(foreign.is_sensitive && foreign.read_only && foreign.documentation.is_none());
    assert_eq!(told(&mut client, BROKER, "", "foo.bar").await, Some((None, 3, vec![3])));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_change_of_a_broker_is_refused_in_kafkas_words_and_changes_nothing() {
    let (_world, mut client) = world_with_topic().await;
    let read_only = "Cannot update these configs dynamically: [node.id, num.partitions]";
    let at_broker = "Cannot update these configs at default cluster level, broker id must be \
                     specified: [sasl.jaas.config]";
    for (name, changes, reason) in [
        (
            "1",
            &[
                ("num.partitions", SET, Some("2")),
                ("message.max.bytes", SET, Some("2")),
                ("node.id", SET, Some("7")),
            ][..],
            read_only,
        ),
        ("", &[("sasl.jaas.config", SET, Some("x"))], at_broker),
        (
            "1",
            &[("log.retention.ms", SET, None)],
            "Null value not supported for : log.retention.ms",
        ),
        ("2", &[], "Unexpected broker id, expected 1, but received 2"),
        ("one", &[], "Node id must be an integer, but it is: one"),
    ] {
        let (code, why) = alter(&mut client, BROKER, name, changes).await;
        assert_eq!(code, 42, "{changes:?}");
        assert!(why.starts_with(reason), "{why}");
    }
    let validated = resource(BROKER, "1", &[("message.max.bytes", SET, Some("5"))]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![validated]);
    let answer = client.call(1, &request.with_validate_only(true)).await;
    assert_eq!(answer.responses[0].error_code, 0);
    let unchanged = told(&mut client, BROKER, "1", "message.max.bytes").await;
    assert_eq!(unchanged, some("40000", 4, &[4, 5]));
    for kind in [0, 1, 77] {
        let (code, why) = alter(&mut client, kind, "1", &[]).await;
        assert_eq!((code, why), (42, format!("Unknown resource type {kind}")));
    }
}

#[tokio::test(start_paused = true)]
async fn levels_of_loggers_are_told_and_changed() {
    let (_world, mut client) = world_with_topic().await;
    let logger = "braid.store";
    assert_eq!(told(&mut client, LOGGER, "1", logger).await, some("INFO", 6, &[]));
    let set = [(logger, SET, Some("TRACE")), ("root", SET, Some("FATAL"))];
    assert_eq!(alter(&mut client, LOGGER, "1", &set).await, (0, String::new()));
    assert_eq!(told(&mut client, LOGGER, "1", logger).await, some("TRACE", 6, &[]));
    assert_eq!(told(&mut client, LOGGER, "1", "openraft").await, some("FATAL", 6, &[]));
    assert_eq!(alter(&mut client, LOGGER, "1", &[(logger, DELETE, None)]).await.0, 0);
    assert_eq!(told(&mut client, LOGGER, "1", logger).await, some("FATAL", 6, &[]));
    for (name, change, code, reason) in [
        (
            "1",
            ("root", DELETE, None),
            42,
            "Removing the log level of the root logger is not allowed",
        ),
        (
            "1",
            ("root", SET, Some("debug")),
            40,
            "Cannot set the log level of root to debug as it is not a supported log level. Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN",
        ),
        ("1", ("kafka.server", SET, Some("INFO")), 40, "Logger kafka.server does not exist!"),
        (
            "1",
            ("root", APPEND, Some("INFO")),
            42,
            "APPEND operation is not allowed for the BROKER_LOGGER resource",
        ),
        ("2", ("root", SET, Some("INFO")), 42, "Unexpected broker id, expected 1, but received 2"),
        ("", ("root", SET, Some("INFO")), 42, "Node id must be an integer, but it is: "),
    ] {
        let (told, why) = alter(&mut client, LOGGER, name, &[change]).await;
        assert_eq!(told, code, "{change:?}");
        assert!(why.starts_with(reason), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn settings_of_groups_and_subscriptions_are_kept_told_and_listed() {
    let (world, mut client) = world_with_topic().await;
    let timeout = "consumer.session.timeout.ms";
    assert_eq!(told(&mut client, GROUP, "g", timeout).await, some("45000", 5, &[5]));
    assert_eq!(alter(&mut client, GROUP, "g", &[(timeout, SET, Some("50000"))]).await.0, 0);
    let subscription = [("interval.ms", SET, Some("1000")), ("match", SET, Some("client_id=a"))];
    assert_eq!(alter(&mut client, METRICS, "m", &subscription).await.0, 0);
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(told(&mut client, GROUP, "g", timeout).await, some("50000", 8, &[8, 5]));
    assert_eq!(told(&mut client, METRICS, "m", "interval.ms").await, some("1000", 7, &[7]));
    assert_eq!(told(&mut client, METRICS, "unseen", "interval.ms").await, some("300000", 5, &[]));
    let listed = client.call(1, &ListConfigResourcesRequest::default()).await;
    let listed =
        listed.config_resources.iter().map(|r| (r.resource_type, r.resource_name.as_str()));
    let expected = [(BROKER, "1"), (LOGGER, "1"), (TOPIC, "t"), (GROUP, "g"), (METRICS, "m")];
    assert_eq!(listed.collect::<Vec<_>>(), expected);
    for (kind, name, change, code, reason) in [
        (GROUP, "g", ("foo", SET, Some("1")), 40, "Unknown group config name: foo"),
        (
            GROUP,
            "g",
            (timeout, APPEND, Some("1")),
            40,
            "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST.",
        ),
        (GROUP, "", (timeout, SET, Some("50000")), 42, "Default group resources are not allowed."),
        (METRICS, "m", ("foo", SET, Some("1")), 42, "Unknown client metrics configuration: foo"),
        (
            METRICS,
            "m",
            ("metrics", APPEND, Some("a")),
            40,
            "Can't APPEND to key metrics because its type is not LIST.",
        ),
        (
            METRICS,
            "m",
            ("match", SET, Some("foo=bar")),
            40,
            "Illegal client matching pattern: foo=bar",
        ),
        (METRICS, "", ("interval.ms", SET, Some("1000")), 42, "Subscription name can't be empty"),
    ] {
        let refused = alter(&mut client, kind, name, &[change]).await;
        assert_eq!(refused, (code, reason.to_owned()), "{kind} {name} {change:?}");
    }
    assert_eq!(alter(&mut client, GROUP, "g", &[(timeout, DELETE, None)]).await.0, 0);
    assert_eq!(told(&mut client, GROUP, "g", timeout).await, some("45000", 5, &[5]));
    for (kind, why) in [
        (GROUP, "Group name must not be empty"),
        (METRICS, "Client metrics subscription name must not be empty"),
    ] {
        let refused = describe(&mut client, 4, kind, "", None).await;
        assert_eq!((refused.error_code, refused.error_message.as_deref()), (42, Some(why)));
    }
}
