//! What four consoles ask on their start and their pages, with their own client libraries at their versions. Each call is
//! answered as by Apache Kafka, against which the same scenarios run.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use braid_compat_tests::client::{Input, Kind, Produce};
use braid_compat_tests::install;
use braid_compat_tests::programs::Program;
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};
use serde_json::json;

const PARTITIONS: i32 = 3;
const RECORDS: i32 = 10;
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn add(suite: &mut Suite) {
    suite.add("consoles::kafbat_is_answered_as_by_kafka", |world| {
        java(world, Program::Kafbat, "kafbat", "newer", KAFBAT)
    });
    suite.add("consoles::akhq_is_answered_as_by_kafka", |world| {
        java(world, Program::Akhq, "akhq", "older", AKHQ)
    });
    suite.add("consoles::kafdrop_is_answered_as_by_kafka", |world| {
        java(world, Program::Kafdrop, "kafdrop", "newer", KAFDROP)
    });
    suite.add("consoles::redpanda_console_is_answered_as_by_kafka", redpanda);
}

fn java(world: &World, program: Program, name: &str, jars: &str, wanted: &str) -> Result<()> {
    let server = world.server()?;
    let topic = format!("console.{name}");
    fill(server, &topic)?;
    let home = install::consoles()?;
    let classes = std::env::join_paths([home.join(jars).join("*"), home.join("classes")])?;
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.arg(format!("-Dlog4j2.configurationFile={}", install::java_logging().display()));
    command.arg("-cp").arg(classes).args(["Consoles", name, &server.bootstrap(), &topic]);
    let said = install::run(&mut command)?;
    world.ran(program, compare(&said, wanted)?);
    Ok(())
}

fn redpanda(world: &World) -> Result<()> {
    let server = world.server()?;
    let topic = "console.redpanda";
    fill(server, topic)?;
    let mut command = Command::new(install::redpanda_console()?);
    let said = install::run(command.args([&server.bootstrap(), topic]))?;
    world.ran(Program::RedpandaConsole, compare(&said, REDPANDA)?);
    Ok(())
}

/// Ten records in each of three partitions, the seventh of which is the latest, and a group at the ends.
fn fill(server: &Server, name: &str) -> Result<()> {
    let client = Kind::Java.shared()?;
    client.new_topic(server, name, PARTITIONS, &[])?;
    let hour_ago_ms =
        i64::try_from((SystemTime::now() - HOUR).duration_since(UNIX_EPOCH)?.as_millis())?;
    let one = |i: i32| {
        let mut record = Record::new(name, Some(b"key"), Some(format!("value {i}").as_bytes()));
        record.partition = i % PARTITIONS;
        let seventh = i / PARTITIONS == 6;
        record.timestamp = hour_ago_ms + if seventh { 1_000_000 } else { i64::from(i) };
        record
    };
    let records: Vec<Record> = (0..RECORDS * PARTITIONS).map(one).collect();
    // Idempotent, so that there is a producer to describe.
    client.produce_all(
        server,
        &Produce { idempotent: true, ..Produce::new(Input::Records(&records)) },
    )?;
    let end = |partition: i32| json!({"topic": name, "partition": partition, "offset": RECORDS, "metadata": ""});
    let offsets: Vec<_> = (0..PARTITIONS).map(end).collect();
    client.ask("commit", server, json!({"group": name, "offsets": offsets}))?;
    Ok(())
}

/// What a console is told otherwise by Apache Kafka: quotas and users with passwords are not built here.
const OTHERWISE_ON_KAFKA: [(&str, &str); 3] =
    [("endpoint compatibility", "ok []"), ("change quotas", "ok"), ("create user", "ok 1")];

/// Holds what was printed against what is wanted, line by line, and counts the lines.
fn compare(said: &str, wanted: &str) -> Result<usize> {
    let parse = |text: &str, between: char| -> Result<Vec<(String, String)>> {
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let pairs = lines.map(|line| {
            let (name, result) = line.split_once(between).with_context(|| format!("{line:?}"))?;
            Ok((name.trim().to_owned(), result.trim().to_owned()))
        });
        pairs.collect()
    };
    let (said, wanted) = (parse(said, '\t')?, parse(wanted, '|')?);
    for (found, wanted) in said.iter().zip(&wanted) {
        let otherwise = OTHERWISE_ON_KAFKA.iter().find(|(name, _)| *name == wanted.0);
        if let (server::Kind::Kafka, Some((name, result))) = (server::kind(), otherwise) {
            ensure!(found.0 == *name && found.1.starts_with(result), "{found:?} on Kafka");
            continue;
        }
        ensure!(found == wanted, "{} ended with {}, not with {wanted:?}", found.0, found.1);
    }
    ensure!(said.len() == wanted.len(), "{} calls instead of {}", said.len(), wanted.len());
    Ok(wanted.len())
}

const KAFBAT: &str = "
    start: cluster | ok 1 true false
    start: broker settings | ok {delete.topic.enable=true/DEFAULT_CONFIG/false/true/false, num.partitions=4/STATIC_BROKER_CONFIG/false/true/false}
    start: features | ok true
    acls | SecurityDisabledException
    cluster with operations | ok 1 true true
    topics | ok true
    describe topics | ok 3 false false
    topic settings | ok 1 {cleanup.policy=delete/DEFAULT_CONFIG/false/false/true, max.message.bytes=1048588/DEFAULT_CONFIG/false/false/true, retention.ms=604800000/DEFAULT_CONFIG/false/false/true, segment.bytes=1073741824/DEFAULT_CONFIG/false/false/true}
    settings of no topic | UnknownTopicOrPartitionException
    log dirs | ok 1 3 true
    offsets EarliestSpec | ok [0, 0, 0]
    offsets LatestSpec | ok [10, 10, 10]
    offsets MaxTimestampSpec | ok [6, 6, 6]
    offsets TimestampSpec | ok [0, 0, 0]
    groups | ok [Optional[Empty] true]
    group | ok Empty 0 true
    group offsets | ok {console.kafbat=[10, 10, 10], console.nobody=[]}
    move group | ok null
    delete group offsets | ok null
    quotas | ok {}
    quorum | ok true 1 0
    producers | ok true
    read | ok 30 30
    read from a time | ok 30
    create topic | ok null
    create topic again | TopicExistsException
    add partitions | ok null
    change settings | ok null
    changed settings | ok {cleanup.policy=delete/DEFAULT_CONFIG/false/false/false, retention.ms=1000/DYNAMIC_TOPIC_CONFIG/false/false/false}
    change settings, the older way | ok null
    changed settings | ok {cleanup.policy=delete/DEFAULT_CONFIG/false/false/false, retention.ms=2000/DYNAMIC_TOPIC_CONFIG/false/false/false}
    reassign | ok null
    reassign to nobody | InvalidReplicaAssignmentException
    reassignments | ok {}
    move to no dir | LogDirNotFoundException
    send | ok 0
    delete records | ok 1
    delete topic | ok null
    delete no topic | UnknownTopicOrPartitionException
    delete no group | GroupIdNotFoundException
    delete group | ok null
    groups | ok []
    create acl | SecurityDisabledException
    delete acl | SecurityDisabledException
    change quotas | UnsupportedVersionException
    end | ok
";

const AKHQ: &str = "
    cluster | ok 1 true false
    topics | ok [false]
    describe topic | ok 3
    topic offsets | ok 0 [10]
    log dirs | ok 1 3 true
    groups | ok [Optional[Empty] true]
    group | ok Empty 0 true
    group offsets | ok [10, 10, 10]
    broker settings | ok {num.partitions=4/STATIC_BROKER_CONFIG/false/true/false}
    topic settings | ok {cleanup.policy=delete/DEFAULT_CONFIG/false/false/false, retention.ms=604800000/DEFAULT_CONFIG/false/false/false}
    acls | SecurityDisabledException
    tail | ok 6
    move group | ok
    delete group offsets | ok null
    create topic | ok null
    add partitions | ok null
    change settings | ok null
    changed settings | ok {retention.ms=1000/DYNAMIC_TOPIC_CONFIG/false/false/false}
    change to nonsense | InvalidConfigurationException
    send | ok 0
    empty topic | ok 1
    delete topic | ok null
    delete no group | GroupIdNotFoundException
    delete group | ok null
    groups | ok []
    end | ok
";

const KAFDROP: &str = "
    cluster | ok 1 true false
    topics | ok 3
    topic settings | ok {cleanup.policy=delete/DEFAULT_CONFIG/false/false/false, retention.ms=604800000/DEFAULT_CONFIG/false/false/false}
    groups | ok true
    group offsets | ok [10, 10, 10]
    acls | SecurityDisabledException
    sizes | ok [0] [10]
    read | ok 6
    search from a time | ok 30
    create topic | ok null
    send | ok 0
    delete topic | ok null
    create acl | SecurityDisabledException
    end | ok
";

const REDPANDA: &str = "
    endpoint compatibility | ok [AlterUserSCRAMCredentials]
    version guess | ok true
    cluster | ok [1 true true]
    broker settings | ok [delete.topic.enable=true/DEFAULT_CONFIG/BOOLEAN/1 num.partitions=4/STATIC_BROKER_CONFIG/INT/2]
    topics | ok [3 false 1]
    topic settings | ok [cleanup.policy=delete/DEFAULT_CONFIG/LIST/1 max.message.bytes=1048588/DEFAULT_CONFIG/INT/1]
    log dirs | ok 3
    log dirs of a topic | ok 2
    start offsets | ok [0:0 1:0 2:0]
    end offsets | ok [0:10 1:10 2:10]
    offsets after a time | ok [0:0 1:0 2:0]
    offsets of greatest time | ok [0:6 1:6 2:6]
    read | ok 25
    groups | ok Empty
    group | ok Empty 0
    group offsets | ok 3
    move group | UNKNOWN_TOPIC_ID
    delete group offsets | ok
    delete no group | GROUP_ID_NOT_FOUND
    delete group | ok
    acls | SECURITY_DISABLED
    create acl | SECURITY_DISABLED
    delete acls | SECURITY_DISABLED
    quotas | ok \"\"
    users | ok \"\"
    change quotas | broker is too old; the broker has already indicated it will not know how to handle the request
    create user | broker is too old; the broker has already indicated it will not know how to handle the request
    reassignments | ok 0
    create topic | ok [2 1 true]
    add partitions | ok 1
    change settings | ok 1
    change all settings | ok
    reassign | ok 1
    send | ok 0
    send in a transaction | ok 1
    delete records | ok 1
    delete topic | ok 1
    delete no topic | UNKNOWN_TOPIC_OR_PARTITION
    end | ok
";
