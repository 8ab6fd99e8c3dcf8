//! Topics, configs and the cluster as each admin client sees them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Produce, Start};
use braid_compat_tests::kcat;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use serde_json::{Value, json};

const UNKNOWN_TOPIC_OR_PARTITION: i64 = 3;
const INVALID_TOPIC: i64 = 17;
const TOPIC_ALREADY_EXISTS: i64 = 36;
const INVALID_PARTITIONS: i64 = 37;
const INVALID_REPLICATION_FACTOR: i64 = 38;
const INVALID_CONFIG: i64 = 40;

pub(crate) fn add(suite: &mut Suite) {
    for client in Kind::ALL {
        if Capability::Topics.excuse(client).is_none() {
            suite.add(format!("admin::topics_come_and_go_with_{client}"), move |world| {
                topics(world, client)
            });
        }
        if Capability::Configs.excuse(client).is_none() {
            suite.add(format!("admin::configs_are_told_to_{client}"), move |world| {
                configs(world, client)
            });
        }
    }
    suite.add("admin::all_clients_see_one_cluster", cluster);
}

fn names(client: &Client, server: &Server) -> Result<Vec<String>> {
    let listed = client.ask("list_topics", server, json!({}))?;
    Ok(serde_json::from_value(listed["topics"].clone())?)
}

fn topics(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let client = kind.shared()?;
    let topic = format!("topics.{kind}");
    client.new_topic(server, &topic, 7, &[("retention.ms", "86400000")])?;
    let described = client.ask("describe_topics", server, json!({"topics": [topic]}))?;
    let told = &described["topics"][&topic];
    let partitions = told["partitions"].as_array().context("partitions")?;
    ensure!(partitions.len() == 7 && told["error"] == 0, "{described}");
    let leader = &partitions[0]["leader"];
    ensure!(leader.as_i64().is_some_and(|id| id >= 0), "{described}");
    for (i, partition) in partitions.iter().enumerate() {
        let fits = partition["partition"] == i && partition["leader"] == *leader;
        let replicas =
            partition["replicas"] == json!([leader]) && partition["isr"] == json!([leader]);
        ensure!(fits && replicas, "{described}");
    }
    ensure!(names(client, server)?.contains(&topic), "the new topic is not listed");

    let create = |topic: Value| -> Result<i64> {
        let name = topic["name"].as_str().context("a name")?.to_owned();
        let answer = client.ask("create_topics", server, json!({"topics": [topic]}))?;
        answer["results"][&name].as_i64().context("a result")
    };
    let refusals = [
        (json!({"name": topic, "partitions": 1, "replication": 1}), TOPIC_ALREADY_EXISTS),
        (json!({"name": "not a name", "partitions": 1, "replication": 1}), INVALID_TOPIC),
        (json!({"name": "..", "partitions": 1, "replication": 1}), INVALID_TOPIC),
        (json!({"name": "x".repeat(250), "partitions": 1, "replication": 1}), INVALID_TOPIC),
        (
            json!({"name": format!("{topic}.0"), "partitions": 0, "replication": 1}),
            INVALID_PARTITIONS,
        ),
        (
            json!({"name": format!("{topic}.3"), "partitions": 1, "replication": 3}),
            INVALID_REPLICATION_FACTOR,
        ),
        (
            json!({"name": format!("{topic}.c"), "partitions": 1, "replication": 1, "configs": {"retention.ms": "soon"}}),
            INVALID_CONFIG,
        ),
        (
            json!({"name": format!("{topic}.c"), "partitions": 1, "replication": 1, "configs": {"no.such.key": "1"}}),
            INVALID_CONFIG,
        ),
    ];
    let mut refused = 0;
    for (wanted, code) in &refusals {
        // librdkafka refuses these itself.
        if kind == Kind::Librdkafka && *code == INVALID_PARTITIONS {
            continue;
        }
        let found = create(wanted.clone())?;
        ensure!(found == *code, "creating {wanted} ended with {found}, expected {code}");
        refused += 1;
    }
    // aiokafka leaves nothing to the broker.
    if kind != Kind::AioKafka {
        let defaults = format!("{topic}.defaults");
        ensure!(create(json!({"name": defaults}))? == 0, "defaults are refused");
        let described = client.ask("describe_topics", server, json!({"topics": [defaults]}))?;
        let count = described["topics"][&defaults]["partitions"].as_array().map(Vec::len);
        ensure!(count == Some(4), "num.partitions is 4: {described}");
    }

    deleted_and_made_again(client, server, &topic)?;
    let gone = client.ask("delete_topics", server, json!({"topics": ["never-made"]}))?;
    ensure!(gone["results"]["never-made"] == UNKNOWN_TOPIC_OR_PARTITION, "{gone}");
    world.shown(kind, Capability::Topics, 7 + refused);
    Ok(())
}

/// A topic made again under its name is empty and begins at 0.
fn deleted_and_made_again(client: &Client, server: &Server, topic: &str) -> Result<()> {
    let mut record = Record::new(topic, None, Some(b"of the first life"));
    record.partition = 0;
    client.produce_all(server, &Produce::new(Input::Records(&[record])))?;
    let deleted = client.ask("delete_topics", server, json!({"topics": [topic]}))?;
    ensure!(deleted["results"][topic] == 0, "{deleted}");
    ensure!(
        !names(client, server)?.contains(&topic.to_owned()),
        "the deleted topic is still listed"
    );
    client.new_topic(server, topic, 1, &[])?;
    let mut record = Record::new(topic, None, Some(b"of the second life"));
    record.partition = 0;
    client.produce_all(server, &Produce::new(Input::Records(&[record])))?;
    let read = client.consume(server, &[topic], Start::Earliest)?;
    ensure!(read.len() == 1 && read[0].offset == 0, "{read:?}");
    ensure!(read[0].value.as_deref() == Some(b"of the second life"), "{read:?}");
    Ok(())
}

fn configs(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let client = kind.shared()?;
    let topic = format!("configs.{kind}");
    client.new_topic(
        server,
        &topic,
        1,
        &[("retention.ms", "86400000"), ("max.message.bytes", "2000000")],
    )?;
    let told = client.ask("describe_configs", server, json!({"kind": "topic", "name": topic}))?;
    let wanted = [
        ("retention.ms", "86400000"),
        ("max.message.bytes", "2000000"),
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("message.timestamp.type", "CreateTime"),
        ("min.insync.replicas", "1"),
        ("retention.bytes", "-1"),
    ];
    for (key, value) in wanted {
        ensure!(told["configs"][key] == value, "{key} is told as {}", told["configs"][key]);
    }
    let cluster = client.ask("describe_cluster", server, json!({}))?;
    let id = cluster["brokers"][0]["id"].to_string();
    let told = client.ask("describe_configs", server, json!({"kind": "broker", "name": id}))?;
    for (key, value) in [
        ("num.partitions", "4"),
        ("auto.create.topics.enable", "true"),
        ("group.initial.rebalance.delay.ms", "0"),
    ] {
        ensure!(told["configs"][key] == value, "{key} is told as {}", told["configs"][key]);
    }
    world.shown(kind, Capability::Configs, wanted.len() + 3);
    Ok(())
}

fn cluster(world: &World) -> Result<()> {
    let server = world.server()?;
    let mut seen: BTreeMap<String, Kind> = BTreeMap::new();
    let able = |kind: &Kind| Capability::Cluster.excuse(*kind).is_none();
    for kind in Kind::ALL.into_iter().filter(able) {
        let (brokers, id) = if kind == Kind::Kcat {
            let told = kcat::metadata(server)?;
            (
                told["brokers"]
                    .as_array()
                    .context("brokers")?
                    .iter()
                    .map(|b| b["name"].clone())
                    .collect::<Vec<_>>(),
                None,
            )
        } else {
            let told = kind.shared()?.ask("describe_cluster", server, json!({}))?;
            let address = |b: &Value| {
                json!(format!("{}:{}", b["host"].as_str().unwrap_or_default(), b["port"]))
            };
            let id = told["cluster_id"].as_str().context("a cluster id")?.to_owned();
            ensure!(told["controller"].as_i64().is_some_and(|id| id >= 0), "{kind}: {told}");
            (told["brokers"].as_array().context("brokers")?.iter().map(address).collect(), Some(id))
        };
        ensure!(brokers == [json!(server.bootstrap())], "{kind} sees {brokers:?}");
        seen.extend(id.map(|id| (id, kind)));
        world.shown(kind, Capability::Cluster, 1);
    }
    ensure!(seen.len() == 1 && !seen.contains_key(""), "cluster ids differ: {seen:?}");
    Ok(())
}
