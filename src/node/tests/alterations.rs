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

#[tokio::test(start_paused = true)]
async fn broker_settings_are_not_changed_while_it_runs() {
    let (_world, mut client) = world_with_topic().await;
    for name in ["1", ""] {
        let set = [("log.retention.ms", SET, Some("1")), ("num.io.threads", SET, Some("2"))];
        let (code, why) = alter(&mut client, BROKER, name, &set).await;
        assert_eq!(code, 42);
        let kafka =
            "Cannot update these configs dynamically: Set(log.retention.ms, num.io.threads)";
        assert!(why.starts_with(kafka), "{why}");
        assert!(why.contains("configuration file"), "{why}");
        let delete = [("log.retention.ms", DELETE, None)];
        assert_eq!(alter(&mut client, BROKER, name, &delete).await.0, 0, "nothing was set");
    }
    for (name, reason) in [
        ("2", "Unexpected broker id, expected 1, but received 2"),
        ("one", "Node id must be an integer, but it is: one"),
    ] {
        let (code, why) = alter(&mut client, BROKER, name, &[]).await;
        assert_eq!((code, &*why), (42, reason));
    }
    for kind in [0, 1, 8, 16, 32, 77] {
        assert_eq!(alter(&mut client, kind, "1", &[]).await.0, 42, "{kind}");
    }
}
