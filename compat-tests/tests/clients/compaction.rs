//! Compacted topics: what every client reads of one, through kill -9 too; and space that deleted topics give back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use braid_compat_tests::capability::Capability;
use braid_compat_tests::client::{CODECS, Input, Kind, Produce, Start};
use braid_compat_tests::record::Record;
use braid_compat_tests::runner::{Suite, World};
use braid_compat_tests::server::{self, Server};
use serde_json::json;

const TIMEOUT: Duration = Duration::from_secs(60);
const KEYS: usize = 20;
/// Keys whose last record is a tombstone.
const GONE: usize = 5;

pub(crate) fn add(suite: &mut Suite) {
    suite.add("compaction::the_last_value_of_every_key_stays", last_values);
    suite.add("compaction::tombstones_go_after_their_time", tombstones_go);
    suite.add("compaction::deleted_topics_give_space_back", space);
}

fn record(topic: &str, key: &str, value: Option<&str>) -> Record {
    let mut record = Record::new(topic, Some(key.as_bytes()), value.map(str::as_bytes));
    record.partition = 0;
    record
}

/// Key, offset and value of every record but the ticks.
type Seen = BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)>;

/// What is there, and how many records besides the ticks.
fn read(server: &Server, client: Kind, topic: &str) -> Result<(Seen, usize)> {
    let records = client.shared()?.consume(server, &[topic], Start::Earliest)?;
    let ascending = records.is_sorted_by(|a, b| a.offset < b.offset);
    ensure!(ascending, "{client} reads offsets that do not ascend");
    let others = records.into_iter().filter(|record| record.key.as_deref() != Some(b"tick"));
    let others: Vec<_> = others
        .map(|record| (record.key.unwrap_or_default(), (record.offset, record.value)))
        .collect();
    let count = others.len();
    Ok((others.into_iter().collect(), count))
}

/// Goes on writing one more key, as Kafka compacts nothing of the segment it writes, until `is_done`.
fn until(
    server: &Server,
    topic: &str,
    what: &str,
    is_done: impl Fn(&Seen, usize) -> bool,
) -> Result<Seen> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let tick = [record(topic, "tick", Some("tock"))];
        Kind::Java.shared()?.produce_all(server, &Produce::new(Input::Records(&tick)))?;
        let (seen, count) = read(server, Kind::Java, topic)?;
        if is_done(&seen, count) {
            return Ok(seen);
        }
        ensure!(
            Instant::now() < deadline,
            "{what}: {count} records of {} keys are left\n{}",
            seen.len(),
            server.log_tail(20)
        );
    }
}

/// What is older than a fifth of a second is compacted, however little of it is new.
fn new_topic(server: &Server, topic: &str, delete_retention_ms: &str) -> Result<()> {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", delete_retention_ms),
    ];
    Kind::Java.shared()?.new_topic(server, topic, 1, &settings)
}

/// With a tombstone of its key gone a record is as if it had never been.
fn tombstones_go(_: &World) -> Result<()> {
    let mut server = Server::start(&[("log.cleaner.backoff.ms", "200")])?;
    let topic = "forgotten";
    new_topic(&server, topic, "2000")?;
    let written = [
        record(topic, "gone", Some("value")),
        record(topic, "stays", Some("value")),
        record(topic, "gone", None),
    ];
    Kind::Java.shared()?.produce_all(&server, &Produce::new(Input::Records(&written)))?;
    let expected = Seen::from([(b"stays".to_vec(), (1, Some(b"value".to_vec())))]);
    until(&server, topic, "the tombstone", |seen, count| *seen == expected && count == 1)?;
    server.stop()
}

fn last_values(world: &World) -> Result<()> {
    let mut server = Server::start(&[("log.cleaner.backoff.ms", "200")])?;
    let topic = "compacted";
    // A day: no tombstone of this topic goes while the test runs.
    new_topic(&server, topic, "86400000")?;
    let mut expected = Seen::new();
    let mut offset = 0;
    for round in 0..30 {
        let producer = Kind::ALL[round % Kind::ALL.len()];
        let (codec, _) = CODECS[round % CODECS.len()];
        let value = format!("round {round} by {producer}, {}", "x".repeat(50 * (round % 7)));
        let records: Vec<Record> =
            (0..KEYS).map(|i| record(topic, &format!("key-{i}"), Some(&value))).collect();
        // One client each keeps its order; the next writes behind it.
        let produce = Produce { codec, linger_ms: 50, ..Produce::new(Input::Records(&records)) };
        producer.shared()?.produce_all(&server, &produce)?;
        for record in records {
            expected.insert(record.key.unwrap_or_default(), (offset, record.value));
            offset += 1;
        }
    }
    let gone: Vec<Record> = (0..GONE).map(|i| record(topic, &format!("key-{i}"), None)).collect();
    let java = Kind::Java.shared()?;
    java.produce_all(&server, &Produce::new(Input::Records(&gone)))?;
    for record in gone {
        expected.insert(record.key.unwrap_or_default(), (offset, None));
        offset += 1;
    }
    let is_clean = |seen: &Seen, count: usize| *seen == expected && count == expected.len();
    until(&server, topic, "the last values", is_clean)?;
    for client in Kind::ALL {
        let (seen, _) = read(&server, client, topic)?;
        ensure!(seen == expected, "{client} reads {seen:?}, expected {expected:?}");
        // In the midst of a gap.
        let read = client.shared()?.consume(&server, &[topic], Start::Offset(7))?;
        let first = expected.values().map(|(offset, _)| *offset).min();
        ensure!(read.first().map(|record| record.offset) == first, "{client} from within a gap");
        world.shown(client, Capability::Compaction, seen.len() + 1);
    }
    let earliest = java.list_offsets(&server, topic, &[0], "earliest")?[0].0;
    ensure!(earliest == 0, "the log begins at {earliest}");
    server.kill()?;
    server.restart()?;
    let (seen, _) = read(&server, Kind::Java, topic)?;
    ensure!(seen == expected, "after kill -9: {seen:?}");
    // It goes on: a new value supersedes what was compacted before.
    let again = [record(topic, "key-7", Some("newest"))];
    java.produce_all(&server, &Produce::new(Input::Records(&again)))?;
    let newest = b"newest".as_slice();
    let seen = until(&server, topic, "a newer value", |seen, count| {
        let value = seen.get(b"key-7".as_slice()).and_then(|(_, value)| value.as_deref());
        value == Some(newest) && count == expected.len()
    })?;
    ensure!(seen.len() == expected.len(), "{seen:?}");
    server.stop()
}

/// Topics that live long and short share one log here; in Kafka each has files of its own.
fn space(_: &World) -> Result<()> {
    if server::kind() == server::Kind::Kafka {
        return Ok(());
    }
    let settings =
        [("log.cleaner.backoff.ms", "200"), ("braid.commitlog.segment.bytes", "2097152")];
    let mut server = Server::start(&settings)?;
    let java = Kind::Java.shared()?;
    java.new_topic(&server, "long-lived", 1, &[])?;
    let mut written = Vec::new();
    let big = "x".repeat(300_000);
    let mut names = Vec::new();
    for round in 0..40 {
        let name = format!("short-lived-{round}");
        java.new_topic(&server, &name, 1, &[])?;
        let value = format!("value {round}");
        let records = [
            record(&name, "k", Some(&big)),
            record("long-lived", "k", Some(&value)),
            record(&name, "k", Some(&big)),
        ];
        java.produce_all(&server, &Produce::new(Input::Records(&records)))?;
        written.push(Some(value.into_bytes()));
        names.push(name);
    }
    let full = server.disk_bytes()?;
    ensure!(full > 20 << 20, "only {full} bytes on disk");
    let deleted = java.ask("delete_topics", &server, json!({"topics": names}))?;
    ensure!(deleted["results"]["short-lived-0"] == 0, "{deleted}");
    let values = |server: &Server| -> Result<Vec<Option<Vec<u8>>>> {
        let read = java.consume(server, &["long-lived"], Start::Earliest)?;
        Ok(read.into_iter().map(|record| record.value).collect())
    };
    let deadline = Instant::now() + TIMEOUT;
    loop {
        ensure!(values(&server)? == written, "a record of the long-lived topic is gone");
        let left = server.disk_bytes()?;
        if left * 3 < full {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "{left} of {full} bytes are left\n{}",
            server.log_tail(20)
        );
    }
    server.kill()?;
    server.restart()?;
    ensure!(values(&server)? == written, "a record is gone after kill -9");
    server.stop()
}
