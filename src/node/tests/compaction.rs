//! Compaction through the broker, over hours of simulated time: what the settings of a topic and of
//! the broker make of the same records.

use braid_protocol::records::{BatchSpec, BatchWriter, RecordReader};
use bytes::Bytes;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use tokio::time::{Duration, sleep};

use super::ask::{batches, text};
use super::client::Client;
use super::offsets::earliest;
use super::world::{World, config};

/// What is older than a second is compacted, however little of it is new; looked at every second.
const EAGER: &[(&str, &str)] = &[("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0")];
const BROKER: &[(&str, &str)] = &[
    ("log.cleaner.backoff.ms", "1000"),
    ("log.retention.check.interval.ms", "1000"),
    ("connections.max.idle.ms", "-1"),
];

/// Offset, key and value; a tombstone has no value.
type Row = (i64, Option<String>, Option<String>);

fn row(offset: i64, key: &str, value: &str) -> Row {
    (offset, Some(key.to_owned()), Some(value.to_owned()))
}

fn tombstone(offset: i64, key: &str) -> Row {
    (offset, Some(key.to_owned()), None)
}

async fn world(settings: &[(&str, &str)]) -> (World, Client) {
    let world = World::start_with(&[BROKER, settings].concat()).await;
    let client = world.client().await;
    (world, client)
}

async fn create(client: &mut Client, topic: &str, settings: &[(&str, &str)]) {
    client.create(topic, 1, &[EAGER, settings].concat()).await;
}

/// Each record is a batch of its own, stamped with the time it is written.
async fn put(world: &World, client: &mut Client, topic: &str, records: &[(&str, Option<&str>)]) {
    for (key, value) in records {
        let key = (!key.is_empty()).then_some(key.as_bytes());
        let mut writer = BatchWriter::new(BatchSpec::default());
        let now_ms = world.env.clock.wall_ms();
        writer.append(now_ms, key, value.map(str::as_bytes), &[]).unwrap();
        client.produce(topic, 0, writer.finish().unwrap()).await;
    }
}

fn rows(batch: &Bytes) -> Vec<Row> {
    let owned = |bytes: Option<&[u8]>| bytes.map(|it| String::from_utf8(it.to_vec()).unwrap());
    let reader = RecordReader::open(batch, 1 << 20).unwrap();
    let record = |record: Result<braid_protocol::records::Record<'_>, _>| {
        let record = record.unwrap();
        (record.offset, owned(record.key), owned(record.value))
    };
    reader.records().map(record).collect()
}

/// All that is left of a topic, from where it begins.
async fn left(client: &mut Client, topic: &str) -> Vec<Row> {
    let mut found = Vec::new();
    let mut from = earliest(client, topic).await;
    loop {
        let part = client.fetch(topic, 0, from).await;
        assert_eq!(part.error_code, 0);
        let read = batches(&part);
        let Some((last, _)) = read.last() else { return found };
        found.extend(read.iter().flat_map(|(_, batch)| rows(batch)).filter(|row| row.0 >= from));
        from = last.next_offset();
    }
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

async fn set(client: &mut Client, topic: &str, key: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(1, &request).await;
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

#[tokio::test(start_paused = true)]
async fn compact_and_delete_does_what_each_of_them_does() {
    let (world, mut client) = world(&[]).await;
    let topics = [("c", "compact"), ("d", "delete"), ("cd", "compact,delete")];
    let records = [("a", Some("1")), ("b", Some("1")), ("a", Some("2")), ("c", Some("1"))];
    for (topic, policy) in topics {
        let settings = [("cleanup.policy", policy), ("retention.ms", "60000")];
        create(&mut client, topic, &settings).await;
        put(&world, &mut client, topic, &records).await;
    }
    let all = vec![row(0, "a", "1"), row(1, "b", "1"), row(2, "a", "2"), row(3, "c", "1")];
    let last = all[1..].to_vec();
    pass(10).await;
    for (topic, expected) in [("c", &last), ("d", &all), ("cd", &last)] {
        assert_eq!(left(&mut client, topic).await, *expected, "{topic} after ten seconds");
    }
    pass(40).await;
    for (topic, _) in topics {
        put(&world, &mut client, topic, &[("b", Some("2"))]).await;
    }
    pass(5).await;
    let young = row(4, "b", "2");
    let compacted = vec![all[2].clone(), all[3].clone(), young.clone()];
    let kept = [all.as_slice(), std::slice::from_ref(&young)].concat();
    for (topic, expected) in [("c", &compacted), ("d", &kept), ("cd", &compacted)] {
        assert_eq!(left(&mut client, topic).await, *expected, "{topic} before its retention");
    }
    pass(10).await;
    // Last values go, too, where records are deleted by age.
    let only_young = vec![young];
    for (topic, expected) in [("c", &compacted), ("d", &only_young), ("cd", &only_young)] {
        assert_eq!(left(&mut client, topic).await, *expected, "{topic} after its retention");
    }
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    for (topic, expected) in [("c", &compacted), ("d", &only_young), ("cd", &only_young)] {
        assert_eq!(left(&mut client, topic).await, *expected, "{topic} after kill -9");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_changed_to_compact_is_compacted_and_no_longer_when_changed_back() {
    let (world, mut client) = world(&[]).await;
    create(&mut client, "t", &[("retention.ms", "-1")]).await;
    let records = [("a", Some("1")), ("", Some("no key")), ("a", Some("2")), ("b", Some("1"))];
    put(&world, &mut client, "t", &records).await;
    pass(3600).await;
    assert_eq!(left(&mut client, "t").await.len(), 4, "it is not compacted yet");
    set(&mut client, "t", "cleanup.policy", "compact").await;
    pass(10).await;
    // What has no key is nobody's last value; Kafka's cleaner discards it, too.
    let expected = vec![row(2, "a", "2"), row(3, "b", "1")];
    assert_eq!(left(&mut client, "t").await, expected);
    set(&mut client, "t", "cleanup.policy", "delete").await;
    put(&world, &mut client, "t", &[("a", Some("3")), ("a", Some("4"))]).await;
    pass(3600).await;
    assert_eq!(left(&mut client, "t").await.len(), 4, "it is not compacted any more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compacted_while_the_cleaner_is_off() {
    let off = ("log.cleaner.enable", "false");
    let (world, mut client) = world(&[off]).await;
    create(&mut client, "t", &[("cleanup.policy", "compact")]).await;
    put(&world, &mut client, "t", &[("a", Some("1")), ("a", Some("2"))]).await;
    pass(3600).await;
    assert_eq!(left(&mut client, "t").await.len(), 2);
    drop(client);
    let World { env, sim, node, .. } = world;
    node.stop().await;
    let world = World::on(env, sim, config(BROKER)).await.expect("the broker starts");
    pass(10).await;
    let mut client = world.client().await;
    assert_eq!(left(&mut client, "t").await, [row(1, "a", "2")], "and is when it is on");
}

#[tokio::test(start_paused = true)]
async fn a_record_stays_for_min_compaction_lag_and_goes_after_it() {
    let (world, mut client) = world(&[]).await;
    let lag = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "60000")];
    create(&mut client, "t", &lag).await;
    create(&mut client, "no-lag", &lag[..1]).await;
    for topic in ["t", "no-lag"] {
        put(&world, &mut client, topic, &[("a", Some("1")), ("a", Some("2"))]).await;
    }
    pass(55).await;
    assert_eq!(left(&mut client, "no-lag").await, [row(1, "a", "2")]);
    assert_eq!(left(&mut client, "t").await.len(), 2);
    // A young one behind them does not keep them, and is not what supersedes.
    put(&world, &mut client, "t", &[("a", Some("3"))]).await;
    pass(10).await;
    assert_eq!(left(&mut client, "t").await, [row(1, "a", "2"), row(2, "a", "3")]);
    pass(60).await;
    assert_eq!(left(&mut client, "t").await, [row(2, "a", "3")]);
}

#[tokio::test(start_paused = true)]
async fn a_record_does_not_wait_longer_than_max_compaction_lag() {
    let (world, mut client) = world(&[]).await;
    // By themselves the records would be the head of the topic for a week, and too few.
    let waits = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "604800000"),
        ("min.cleanable.dirty.ratio", "1"),
    ];
    let bounded = [waits.as_slice(), &[("max.compaction.lag.ms", "60000")]].concat();
    client.create("t", 1, &bounded).await;
    client.create("no-lag", 1, &waits).await;
    for topic in ["t", "no-lag"] {
        put(&world, &mut client, topic, &[("a", Some("1")), ("a", Some("2"))]).await;
    }
    pass(55).await;
    assert_eq!(left(&mut client, "t").await.len(), 2);
    pass(10).await;
    assert_eq!(left(&mut client, "t").await, [row(1, "a", "2")]);
    pass(3600).await;
    assert_eq!(left(&mut client, "no-lag").await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_stays_until_delete_retention_has_passed_and_then_goes() {
    let (mut world, mut client) = world(&[]).await;
    let settings = [("cleanup.policy", "compact"), ("delete.retention.ms", "60000")];
    for topic in ["t", "crashed"] {
        create(&mut client, topic, &settings).await;
        let records = [("a", Some("1")), ("b", Some("1")), ("a", None), ("c", Some("1"))];
        put(&world, &mut client, topic, &records).await;
    }
    // The time counts from when compaction first met it.
    pass(5).await;
    let with = vec![row(1, "b", "1"), tombstone(2, "a"), row(3, "c", "1")];
    let without = vec![with[0].clone(), with[2].clone()];
    for seconds in [0, 20, 30] {
        pass(seconds).await;
        assert_eq!(left(&mut client, "t").await, with, "{seconds} seconds later");
    }
    pass(20).await;
    assert_eq!(left(&mut client, "t").await, without);
    assert_eq!(left(&mut client, "crashed").await, without);

    // A crash between neither ends the time nor begins it anew.
    put(&world, &mut client, "crashed", &[("b", None), ("c", Some("2"))]).await;
    pass(5).await;
    let with = vec![tombstone(4, "b"), row(5, "c", "2")];
    assert_eq!(left(&mut client, "crashed").await, with);
    drop(client);
    world = world.kill_and_restart().await;
    pass(45).await;
    client = world.client().await;
    put(&world, &mut client, "crashed", &[("d", Some("1"))]).await;
    assert_eq!(left(&mut client, "crashed").await[..2], with);
    pass(20).await;
    assert_eq!(left(&mut client, "crashed").await, [row(5, "c", "2"), row(6, "d", "1")]);
}
