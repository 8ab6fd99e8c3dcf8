//! MirrorMaker 2 from one broker to another: records, settings and a group's place arrive under the source's name.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Client, Kind, Start};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::Server;
use braid_compat_tests::service::Service;
use braid_compat_tests::tools::java_connect;
use serde_json::{Value, json};

use crate::text;

const LINES: usize = 3000;
const PARTITIONS: i32 = 3;
const TIMEOUT: Duration = Duration::from_secs(90);
const TOPIC: &str = "mirror.lines";
const MIRRORED: &str = "a.mirror.lines";
const GROUP: &str = "mirror.group";

pub(crate) fn add(suite: &mut Suite) {
    suite.add("mirror::a_topic_and_a_group_arrive_at_the_other_broker", mirror);
}

fn mirror(world: &World) -> Result<()> {
    let a = world.server()?;
    let b = Server::start(&[])?;
    let client = Kind::Java.shared()?;
    client.new_topic(a, TOPIC, PARTITIONS, &[("retention.ms", "123456789")])?;
    text::produce(client, a, TOPIC, 0, &text::lines(LINES)?)?;
    let ends = ends(client, a, TOPIC)?;
    let dir = tempfile::Builder::new().prefix("mirror-").tempdir_in(install::scratch()?)?;
    let settings = format!(
        "clusters=a,b\na.bootstrap.servers={}\nb.bootstrap.servers={}\na->b.enabled=true\na->b.topics=mirror\\\\..*\n\
         a->b.groups=mirror\\\\..*\nb->a.enabled=false\nreplication.factor=1\ncheckpoints.topic.replication.factor=1\n\
         heartbeats.topic.replication.factor=1\noffset-syncs.topic.replication.factor=1\n\
         offset.storage.replication.factor=1\nstatus.storage.replication.factor=1\nconfig.storage.replication.factor=1\n\
         sync.group.offsets.enabled=true\nsync.group.offsets.interval.seconds=1\nemit.checkpoints.interval.seconds=1\n\
         refresh.topics.interval.seconds=1\nrefresh.groups.interval.seconds=1\noffset.lag.max=0\n",
        a.bootstrap(),
        b.bootstrap()
    );
    let path = dir.path().join("mirror.properties");
    std::fs::write(&path, settings)?;
    let mut command = java_connect(512)?;
    command.arg("org.apache.kafka.connect.mirror.MirrorMaker").arg(&path);
    let mut maker = Service::start("MirrorMaker", &mut command)?;

    maker.wait(TIMEOUT, || {
        let names = client.ask("list_topics", &b, json!({}))?;
        let there =
            names["topics"].as_array().is_some_and(|names| names.contains(&json!(MIRRORED)));
        Ok((there && self::ends(client, &b, MIRRORED)? == ends).then_some(()))
    })?;
    let sent = by_partition(client.consume(a, &[TOPIC], Start::Earliest)?);
    let found = by_partition(client.consume(&b, &[MIRRORED], Start::Earliest)?);
    ensure!(sent.values().map(Vec::len).sum::<usize>() == LINES, "the source lacks records");
    ensure!(sent == found, "mirrored records differ");
    let told = client.ask("describe_configs", &b, json!({"kind": "topic", "name": MIRRORED}))?;
    ensure!(told["configs"]["retention.ms"] == "123456789", "{told}");

    // The group is to be seen only now: its place is translated by syncs of what has been mirrored.
    let offsets = |at: i64| (0..PARTITIONS).map(move |partition| (partition, at));
    let place: Vec<Value> = ends
        .iter()
        .map(|(partition, end)| json!({"topic": TOPIC, "partition": partition, "offset": end, "metadata": ""}))
        .collect();
    client.ask("commit", a, json!({"group": GROUP, "offsets": place}))?;
    let partitions: Vec<i32> = offsets(0).map(|(partition, _)| partition).collect();
    let asked = json!({"group": GROUP, "topic": MIRRORED, "partitions": partitions});
    maker.wait(TIMEOUT, || {
        let told = client.ask("committed", &b, asked.clone())?;
        let offsets = told["offsets"].as_array().context("offsets")?;
        let arrived =
            offsets.iter().all(|at| at["offset"].as_i64().is_some_and(|offset| offset > 0));
        for at in offsets {
            let end = at["partition"].as_i64().and_then(|p| ends.get(&p)).copied();
            ensure!(at["offset"].as_i64() <= end, "beyond the end: {told}");
        }
        Ok((arrived && offsets.len() == ends.len()).then_some(()))
    })?;
    maker.stop()?;
    world.ran(Program::MirrorMaker, LINES + 1 + ends.len());
    Ok(())
}

/// Where each partition ends.
fn ends(client: &Client, server: &Server, topic: &str) -> Result<BTreeMap<i64, i64>> {
    let partitions: Vec<i32> = (0..PARTITIONS).collect();
    let asked = json!({"topic": topic, "partitions": partitions, "at": "latest"});
    let told = client.ask("list_offsets", server, asked)?;
    let pair = |at: &Value| Some((at["partition"].as_i64()?, at["offset"].as_i64()?));
    let ends =
        told["offsets"].as_array().context("offsets")?.iter().map(pair).collect::<Option<_>>();
    ends.with_context(|| format!("{told}"))
}

type Content = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn by_partition(records: Vec<Record>) -> BTreeMap<i32, Vec<Content>> {
    let mut partitions: BTreeMap<i32, Vec<(i64, Content)>> = BTreeMap::new();
    for record in records {
        let content = (record.key, record.value, record.timestamp);
        partitions.entry(record.partition).or_default().push((record.offset, content));
    }
    let ordered = |mut records: Vec<(i64, Content)>| {
        records.sort_unstable_by_key(|(offset, _)| *offset);
        records.into_iter().map(|(_, content)| content).collect()
    };
    partitions.into_iter().map(|(partition, records)| (partition, ordered(records))).collect()
}
