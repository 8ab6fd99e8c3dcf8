//! What an operator changes through each admin client: partitions are added, records deleted, settings changed, groups
//! listed, described and deleted, and a group's offsets deleted. What came of it is asked of Java's client.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Membership, Produce, until};
use braid_compat_tests::driver::ClientError;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};
use serde_json::{Value, json};

const OFFSET_OUT_OF_RANGE: i64 = 1;
const INVALID_PARTITIONS: i64 = 37;
const INVALID_CONFIG: i64 = 40;
const NON_EMPTY_GROUP: i64 = 68;
const GROUP_ID_NOT_FOUND: i64 = 69;
const TIMEOUT: Duration = Duration::from_secs(60);

type Scenario = fn(&World, Kind) -> Result<()>;

pub(crate) fn add(suite: &mut Suite) {
    let scenarios: [(&str, Capability, Scenario); 6] = [
        ("partitions_are_added", Capability::AddPartitions, partitions),
        ("records_are_deleted", Capability::DeleteRecords, records),
        ("settings_are_changed", Capability::AlterConfigs, settings),
        ("groups_are_told", Capability::DescribeGroups, groups),
        ("groups_are_deleted", Capability::DeleteGroups, deleted_groups),
        ("offsets_of_a_group_are_deleted", Capability::DeleteOffsets, deleted_offsets),
    ];
    for (name, capability, scenario) in scenarios {
        for client in Kind::ALL.into_iter().filter(|client| capability.excuse(*client).is_none()) {
            suite.add(format!("changes::{name}_by_{client}"), move |world| scenario(world, client));
        }
    }
}

/// The command is refused with this code, by the broker.
fn refused(client: &Client, server: &Server, op: &str, command: Value, wanted: i64) -> Result<()> {
    match client.ask(op, server, command) {
        Ok(answer) => bail!("{op} was not refused but answered with {answer}"),
        Err(error) => {
            let code = error.downcast_ref::<ClientError>().map(|told| told.code);
            ensure!(code == Some(wanted), "{op} was refused with {error:#}, not with {wanted}");
            Ok(())
        }
    }
}

/// What is told fits: at once, or on Kafka, whose controller answers before its broker has heard of a change, soon.
fn told(mut ask: impl FnMut() -> Result<Value>, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let told = ask()?;
        if fits(&told) {
            return Ok(told);
        }
        let may_come = server::kind() == server::Kind::Kafka && Instant::now() < deadline;
        ensure!(may_come, "{told}");
    }
}

fn partitions(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let topic = format!("changes.partitions.{kind}");
    client.new_topic(server, &topic, 2, &[])?;
    client.ask("create_partitions", server, json!({"topic": topic, "count": 5}))?;
    let ask = || Kind::Java.shared()?.ask("describe_topics", server, json!({"topics": [topic]}));
    told(ask, |told| told["topics"][&topic]["partitions"].as_array().map(Vec::len) == Some(5))?;
    // They take records.
    let mut record = Record::new(&topic, None, Some(b"in the fifth"));
    record.partition = 4;
    client.produce_all(server, &Produce::new(Input::Records(&[record])))?;
    for fewer in [5, 3] {
        let wanted = json!({"topic": topic, "count": fewer});
        refused(client, server, "create_partitions", wanted, INVALID_PARTITIONS)?;
    }
    world.shown(kind, Capability::AddPartitions, 4);
    Ok(())
}

fn records(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let topic = format!("changes.records.{kind}");
    client.new_topic(server, &topic, 2, &[])?;
    let one = |i: usize| {
        let mut record = Record::new(&topic, None, Some(format!("{i}").as_bytes()));
        record.partition = 1;
        record
    };
    let written: Vec<Record> = (0..5).map(one).collect();
    client.produce_all(server, &Produce::new(Input::Records(&written)))?;
    let before = |offset: i64| json!({"topic": topic, "partition": 1, "before": offset});
    let begins = || Kind::Java.shared()?.list_offsets(server, &topic, &[0, 1], "earliest");
    let told = client.ask("delete_records", server, before(3))?;
    ensure!(told["low"] == 3 || told["low"] == -1, "{told}");
    let found = begins()?;
    ensure!(found[0].0 == 0 && found[1].0 == 3, "{found:?}");
    // What is gone may be deleted again, and changes nothing.
    client.ask("delete_records", server, before(2))?;
    refused(client, server, "delete_records", before(6), OFFSET_OUT_OF_RANGE)?;
    ensure!(begins()?[1].0 == 3, "the beginning has moved");
    client.ask("delete_records", server, before(5))?;
    ensure!(begins()?[1].0 == 5, "the last record is still there");
    world.shown(kind, Capability::DeleteRecords, 5);
    Ok(())
}

fn settings(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let topic = format!("changes.settings.{kind}");
    client.new_topic(server, &topic, 1, &[("max.message.bytes", "2000000")])?;
    let set = |key: &str, value: &str| json!({"topic": topic, "set": {key: value}});
    let ask = || {
        let asked = json!({"kind": "topic", "name": topic});
        Kind::Java.shared()?.ask("describe_configs", server, asked)
    };
    client.ask("alter_configs", server, set("retention.ms", "86400000"))?;
    let found = told(ask, |told| told["configs"]["retention.ms"] == "86400000")?;
    // Clients that know the older call alone replace all settings with it.
    let replaces = matches!(kind, Kind::Java2 | Kind::Rdkafka | Kind::AioKafka | Kind::KafkaJs);
    let other = if replaces { "1048588" } else { "2000000" };
    ensure!(found["configs"]["max.message.bytes"] == other, "{found}");
    let nonsense = set("retention.ms", "soon");
    if kind == Kind::Rdkafka {
        // It looks at no resource's error.
        client.ask("alter_configs", server, nonsense)?;
    } else {
        refused(client, server, "alter_configs", nonsense, INVALID_CONFIG)?;
    }
    ensure!(ask()? == found, "what was refused was done");
    world.shown(kind, Capability::AlterConfigs, 4);
    Ok(())
}

/// A group without members that has committed for both partitions of its topic, and the name of both.
fn committed(server: &Server, name: String) -> Result<String> {
    let java = Kind::Java.shared()?;
    java.new_topic(server, &name, 2, &[])?;
    java.commit(server, &name, &[(&name, 0, 0, "a"), (&name, 1, 0, "b")])?;
    Ok(name)
}

fn listed(client: &Client, server: &Server, group: &str) -> Result<bool> {
    let told = client.ask("list_groups", server, json!({}))?;
    let groups: Vec<String> = serde_json::from_value(told["groups"].clone())?;
    Ok(groups.iter().any(|name| name == group))
}

/// What is done while a group has one member.
fn with_member(
    server: &Server,
    group: &str,
    member: Kind,
    what: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let topics = [group];
    let mut member = member.shared()?.join(server, &Membership::new(group, &topics))?;
    until(&mut [&mut member], TIMEOUT, "partitions", |all| Ok(all[0].owned.len() == 2))?;
    let done = what();
    member.leave()?;
    done
}

fn groups(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let group = committed(server, format!("changes.groups.{kind}"))?;
    ensure!(listed(client, server, &group)?, "{group} is not listed");
    ensure!(!listed(client, server, "changes.nobody")?, "there is no such group");
    let told = |state: &str, members: i64| -> Result<()> {
        let told = client.ask("describe_group", server, json!({"group": group}))?;
        let found = told["state"].as_str().unwrap_or_default();
        ensure!(found.eq_ignore_ascii_case(state) && told["members"] == members, "{told}");
        Ok(())
    };
    told("Empty", 0)?;
    // It cannot read what Java's newer clients tell of themselves.
    let member = if kind == Kind::KafkaGo { kind } else { Kind::Java };
    with_member(server, &group, member, || told("Stable", 1))?;
    world.shown(kind, Capability::DescribeGroups, 4);
    Ok(())
}

fn deleted_groups(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let group = committed(server, format!("changes.deleted.{kind}"))?;
    let delete = || json!({"group": group});
    with_member(server, &group, Kind::Java, || {
        refused(client, server, "delete_group", delete(), NON_EMPTY_GROUP)
    })?;
    client.ask("delete_group", server, delete())?;
    let java = Kind::Java.shared()?;
    ensure!(!listed(java, server, &group)?, "{group} is still listed");
    let kept = java.committed(server, &group, &group, &[0, 1])?;
    ensure!(kept.iter().all(|(offset, _)| *offset == -1), "{kept:?}");
    refused(client, server, "delete_group", delete(), GROUP_ID_NOT_FOUND)?;
    world.shown(kind, Capability::DeleteGroups, 4);
    Ok(())
}

fn deleted_offsets(world: &World, kind: Kind) -> Result<()> {
    let (server, client) = (world.server()?, kind.shared()?);
    let group = committed(server, format!("changes.offsets.{kind}"))?;
    let delete = |group: &str| json!({"group": group, "topic": group, "partition": 1});
    client.ask("delete_offset", server, delete(&group))?;
    let kept = Kind::Java.shared()?.committed(server, &group, &group, &[0, 1])?;
    ensure!(kept[0].0 == 0 && kept[1].0 == -1, "{kept:?}");
    refused(client, server, "delete_offset", delete("changes.nobody"), GROUP_ID_NOT_FOUND)?;
    world.shown(kind, Capability::DeleteOffsets, 3);
    Ok(())
}
