//! Three brokers: clients that know one of them reach all, and go on while brokers die and come back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{Client, Input, Kind, Produce, Start};
use braid_compat_tests::cluster;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use serde_json::json;

use crate::crashes::{Stream, check_all, run};

/// How long the metadata may have no leader, generously: tests share their machine.
const ELECTED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) fn add(suite: &mut Suite) {
    suite.add_alone("cluster::any_broker_leads_to_all_of_them", any_broker);
    suite.add_alone("cluster::idempotent_writes_come_once_through_kills_of_each_broker", killed);
    suite.add_alone("cluster::replicated_writes_come_once_through_kills_of_leaders", fail_over);
    suite.add_alone("cluster::metadata_is_changed_without_its_leader", without_controller);
}

/// Records of a topic of six partitions, ten for each.
fn records(topic: &str) -> Vec<Record> {
    let one = |partition| {
        let mut record = Record::new(topic, Some(b"k"), Some(b"v"));
        record.partition = partition;
        record
    };
    (0..60).map(|number| one(number % 6)).collect()
}

/// A topic is made through one broker; each client writes through another and reads through the third.
fn any_broker(_: &World) -> Result<()> {
    let servers = cluster::start(3, &[])?;
    for kind in [Kind::Java, Kind::Librdkafka, Kind::Kcat] {
        let topic = format!("spread.{kind}");
        Kind::Java.shared()?.new_topic(&servers[0], &topic, 6, &[])?;
        let client = Client::start(kind)?;
        client.produce_all(&servers[1], &Produce::new(Input::Records(&records(&topic))))?;
        let read = client.consume(&servers[2], &[&topic], Start::Earliest)?;
        ensure!(read.len() == 60, "{kind} read {} of 60", read.len());
        for partition in 0..6 {
            let of = read.iter().filter(|record| record.partition == partition).count();
            ensure!(of == 10, "{kind}: {of} records in partition {partition}");
        }
    }
    Ok(())
}

fn killed(world: &World) -> Result<()> {
    let streams = [Kind::Java, Kind::Librdkafka].map(|kind| Stream::new(kind, true, "all"));
    let mut servers = cluster::start(3, &[])?;
    let produced = run(&mut servers, &streams, 3, 1000, 500)?;
    let counts = check_all(&servers[1], &streams, &produced)?;
    for (stream, count) in streams.iter().zip(counts) {
        world.shown(stream.kind, Capability::Idempotence, usize::try_from(count)?);
    }
    Ok(())
}

/// Three replicas, of which two acknowledge at least: each broker is killed in turn, and others lead.
fn fail_over(_: &World) -> Result<()> {
    let streams = [Kind::Java, Kind::Librdkafka].map(|kind| Stream::new(kind, true, "all"));
    let mut servers = cluster::start(
        3,
        &[
            ("braid.replication.enable", "true"),
            ("default.replication.factor", "3"),
            ("min.insync.replicas", "2"),
        ],
    )?;
    let produced = run(&mut servers, &streams, 6, 1000, 500)?;
    check_all(&servers[1], &streams, &produced)?;
    Ok(())
}

/// kill -9 of whoever leads the metadata: topics are made again within seconds, records on other brokers are
/// written all the time, and the broker that was killed comes back with what it had.
fn without_controller(_: &World) -> Result<()> {
    let mut servers = cluster::start(3, &[])?;
    let java = Kind::Java.shared()?;
    java.new_topic(&servers[0], "before", 6, &[])?;
    java.produce_all(&servers[0], &Produce::new(Input::Records(&records("before"))))?;
    let leader = controller(&servers[0])?;
    servers[leader].kill()?;
    let other = &servers[(leader + 1) % 3];
    let before = Instant::now();
    let mut tries = 0;
    loop {
        tries += 1;
        match java.new_topic(other, &format!("after.{tries}"), 2, &[]) {
            Ok(()) => break,
            Err(error) => ensure!(before.elapsed() < ELECTED_WITHIN, "{error:#}"),
        }
    }
    println!("    a topic was made {} ms after the kill", before.elapsed().as_millis());
    servers[leader].restart()?;
    let read = java.consume(&servers[leader], &["before"], Start::Earliest)?;
    ensure!(read.len() == 60, "{} of 60", read.len());
    Ok(())
}

/// The place of the broker that leads the metadata.
fn controller(server: &Server) -> Result<usize> {
    let described = Kind::Java.shared()?.ask("describe_cluster", server, json!({}))?;
    let id = described["controller"].as_u64().context("there is a controller")?;
    Ok(usize::try_from(id)? - 1)
}
