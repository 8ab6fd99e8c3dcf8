//! What a producer is told: acks 0, 1 and all; a record that is too large; a topic that is not there.

use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Produce, Start, TIMEOUT};
use braid_compat_tests::driver::ClientError;
use braid_compat_tests::kcat;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use serde_json::json;

use crate::round_trip::noise;

const UNKNOWN_TOPIC_OR_PARTITION: i64 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;

pub(crate) fn add(suite: &mut Suite) {
    for client in Kind::ALL {
        let able = |capability: Capability| capability.excuse(client).is_none();
        suite.add(format!("acks::too_large_is_told_to_{client}"), move |world| {
            too_large(world, client)
        });
        if able(Capability::Acks) {
            suite.add(format!("acks::every_level_stores_with_{client}"), move |world| {
                every_level(world, client)
            });
        }
        if able(Capability::AutoCreate) {
            suite.add(format!("acks::first_write_creates_for_{client}"), move |world| {
                auto_create(world, client)
            });
        }
    }
    suite.add("acks::a_missing_topic_is_told", missing_topic);
}

fn numbered(topic: &str, partition: i32, count: usize) -> Vec<Record> {
    let one = |i: usize| {
        let mut record = Record::new(topic, None, Some(format!("record {i}").as_bytes()));
        record.partition = partition;
        record
    };
    (0..count).map(one).collect()
}

/// Asks for the end until it is `end`: the only sign that a write without acknowledgement has arrived.
fn await_end(client: &Client, server: &Server, topic: &str, end: i64) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = client.list_offsets(server, topic, &[0], "latest")?[0].0;
        if found == end {
            return Ok(());
        }
        ensure!(
            found < end && Instant::now() < deadline,
            "the topic ends at {found}, expected {end}"
        );
    }
}

fn every_level(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let java = Kind::Java.shared()?;
    let topic = format!("acks.{kind}");
    java.new_topic(server, &topic, 1, &[])?;
    let records = numbered(&topic, 0, 100);
    for (i, acks) in ["0", "1", "all"].into_iter().enumerate() {
        let produced = kind
            .shared()?
            .produce_all(server, &Produce { acks, ..Produce::new(Input::Records(&records)) })?;
        ensure!(produced.sent == 100, "{} sent", produced.sent);
        if acks != "0" && kind != Kind::Kcat {
            let expected = i64::try_from(i * 100)?;
            let last =
                produced.acks.iter().map(|ack| ack.offset).max().context("no acknowledgement")?;
            ensure!(last == expected + 99, "acks={acks}: last offset {last}");
        }
        await_end(java, server, &topic, i64::try_from((i + 1) * 100)?)?;
    }
    let read = kind.shared()?.consume(server, &[&topic], Start::Earliest)?;
    let same =
        read.iter().zip(records.iter().cycle()).all(|(found, wanted)| found.value == wanted.value);
    ensure!(read.len() == 300 && same, "{} records came back, or others", read.len());
    world.shown(kind, Capability::Acks, 300);
    Ok(())
}

fn too_large(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let topic = format!("too-large.{kind}");
    Kind::Java.shared()?.new_topic(server, &topic, 1, &[("max.message.bytes", "10000")])?;
    let client = kind.shared()?;
    let mut large = Record::new(&topic, None, Some(&noise(1, 20_000)));
    large.partition = 0;
    let refused = client.produce(server, &Produce::new(Input::Records(&[large])))?;
    ensure!(refused.failed == 1 && refused.acked == 0, "{refused:?}");
    if kind != Kind::Kcat {
        ensure!(refused.acks[0].code == MESSAGE_TOO_LARGE, "{:?}", refused.acks);
    }
    client.produce_all(server, &Produce::new(Input::Records(&numbered(&topic, 0, 3))))?;
    let read = client.consume(server, &[&topic], Start::Earliest)?;
    ensure!(read.len() == 3 && read[0].offset == 0, "{read:?}");
    world.shown(kind, Capability::RecordTooLarge, 2);
    Ok(())
}

fn auto_create(world: &World, kind: Kind) -> Result<()> {
    let server = world.server()?;
    let topic = format!("auto-create.{kind}");
    let records = numbered(&topic, 3, 10);
    kind.shared()?.produce_all(server, &Produce::new(Input::Records(&records)))?;
    let described =
        Kind::Java.shared()?.ask("describe_topics", server, json!({"topics": [topic]}))?;
    let partitions = described["topics"][&topic]["partitions"].as_array().map_or(0, Vec::len);
    ensure!(partitions == 4, "num.partitions is 4, the topic has {partitions}");
    let read = kind.shared()?.consume(server, &[&topic], Start::Earliest)?;
    ensure!(read.len() == 10 && read.iter().all(|record| record.partition == 3), "{read:?}");
    world.shown(kind, Capability::AutoCreate, 2);
    Ok(())
}

/// Where topics are not created by their first mention. Each client takes its time to believe it, so all ask at once.
fn missing_topic(world: &World) -> Result<()> {
    let server = Server::start(&[("auto.create.topics.enable", "false")])?;
    std::thread::scope(|scope| {
        let server = &server;
        let asking = Kind::ALL.map(|kind| (kind, scope.spawn(move || missing_for(server, kind))));
        for (kind, told) in asking {
            told.join().map_err(|_| anyhow!("{kind}: panicked, see above"))??;
            world.shown(kind, Capability::UnknownTopic, 2);
        }
        anyhow::Ok(())
    })?;
    let topics = Kind::Java.shared()?.ask("list_topics", &server, json!({}))?;
    ensure!(topics["topics"] == json!([]), "asking has created {topics}");
    Ok(())
}

fn missing_for(server: &Server, kind: Kind) -> Result<()> {
    let client = kind.shared()?;
    let records = numbered("missing", 0, 1);
    let input = Input::Records(&records);
    let produced =
        client.produce(server, &Produce { delivery_timeout_ms: 4000, ..Produce::new(input) });
    match &produced {
        Ok(told) => ensure!(told.failed == 1 && told.acked == 0, "{kind}: {told:?}"),
        Err(error) => ensure!(error.is::<ClientError>(), "{kind}: {error:#}"),
    }
    if kind == Kind::Kcat {
        let said = kcat::failure_to_read(server, "missing")?;
        ensure!(said.contains("Unknown topic"), "kcat said {said:?}");
    } else if Capability::Topics.excuse(kind).is_none() {
        let described = client.ask("describe_topics", server, json!({"topics": ["missing"]}))?;
        let code = described["topics"]["missing"]["error"].as_i64();
        ensure!(code == Some(UNKNOWN_TOPIC_OR_PARTITION), "{kind}: {described}");
    }
    Ok(())
}
