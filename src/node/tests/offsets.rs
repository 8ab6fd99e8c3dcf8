//! Offsets by time, and the ends of epochs.

use braid_protocol::records::{BatchSpec, Codec};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, OffsetForLeaderEpochRequest};

use super::ask::{NOW_MS, batch, batch_with, topic_name};
use super::client::Client;
use super::world::World;

pub(super) fn ask(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let part = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(timestamp)
        .with_current_leader_epoch(-1);
    let topic =
        ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![part]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

async fn list(
    client: &mut Client,
    version: i16,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let answer = client.call(version, &ask(topic, partition, timestamp)).await;
    answer.topics[0].partitions[0].clone()
}

/// Where a partition begins.
pub(super) async fn earliest(client: &mut Client, topic: &str) -> i64 {
    let part = list(client, 7, topic, 0, -2).await;
    assert_eq!(part.error_code, 0);
    part.offset
}

/// Offset and timestamp, without an error.
async fn found(client: &mut Client, version: i16, timestamp: i64) -> (i64, i64) {
    let part = list(client, version, "t", 0, timestamp).await;
    assert_eq!(part.error_code, 0);
    (part.offset, part.timestamp)
}

#[tokio::test(start_paused = true)]
async fn special_timestamps_are_answered_from_the_version_that_brought_them() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let times = [(10, None, "a"), (30, None, "b"), (20, None, "c")];
    client.produce("t", 0, batch_with(BatchSpec::default(), &times)).await;
    let expected = [
        (-1, 1, (3, -1)),
        (-2, 1, (0, -1)),
        (-3, 7, (1, 30)),
        (-4, 8, (0, -1)),
        (-5, 9, (-1, -1)),
        (-6, 11, (-1, -1)),
    ];
    for version in 1..=11 {
        for (timestamp, since, answer) in expected {
            let part = list(&mut client, version, "t", 0, timestamp).await;
            let told = (part.error_code, (part.offset, part.timestamp));
            let wanted = if version < since { (35, (-1, -1)) } else { (0, answer) };
            assert_eq!(told, wanted, "version {version} timestamp {timestamp}");
            let epoch = if version >= 4 && told.1.0 >= 0 { 0 } else { -1 };
            assert_eq!(part.leader_epoch, epoch);
        }
        assert_eq!(list(&mut client, version, "t", 0, -7).await.error_code, 35);
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_partition_has_marks_and_no_records() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for (timestamp, answer) in
        [(-1, (0, -1)), (-2, (0, -1)), (-3, (-1, -1)), (-4, (0, -1)), (0, (-1, -1))]
    {
        assert_eq!(found(&mut client, 10, timestamp).await, answer, "timestamp {timestamp}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_time_finds_the_first_record_at_or_after_it() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for (codec, base) in [(Codec::None, 100), (Codec::Lz4, 200), (Codec::Zstd, 300)] {
        let spec = BatchSpec { codec, ..BatchSpec::default() };
        let records = [(base, None, "a"), (base + 10, None, "b"), (base + 10, None, "c")];
        client.produce("t", 0, batch_with(spec, &records)).await;
    }
    for (timestamp, answer) in [
        (0, (0, 100)),
        (100, (0, 100)),
        (101, (1, 110)),
        (110, (1, 110)),
        (111, (3, 200)),
        (205, (4, 210)),
        (300, (6, 300)),
        (310, (7, 310)),
        (311, (-1, -1)),
        (i64::MAX, (-1, -1)),
    ] {
        assert_eq!(found(&mut client, 10, timestamp).await, answer, "timestamp {timestamp}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_greatest_timestamp_finds_the_first_record_that_has_it() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for times in [[50, 40], [70, 70], [70, 10]] {
        let records = times.map(|time| (time, None, "v"));
        client.produce("t", 0, batch_with(BatchSpec::default(), &records)).await;
    }
    assert_eq!(found(&mut client, 10, -3).await, (2, 70));
}

#[tokio::test(start_paused = true)]
async fn expired_records_are_found_no_more() {
    let settings = [("log.retention.check.interval.ms", "1000")];
    let world = World::start_with(&settings).await;
    let mut client = world.client().await;
    client.create("t", 1, &[("retention.ms", "60000")]).await;
    let old = [(NOW_MS, None, "old")];
    client.produce("t", 0, batch_with(BatchSpec::default(), &old)).await;
    world.sim.clock.jump_wall_ms(50_000);
    let new = [(NOW_MS + 50_000, None, "new")];
    client.produce("t", 0, batch_with(BatchSpec::default(), &new)).await;
    world.sim.clock.jump_wall_ms(20_000);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(found(&mut client, 10, -2).await, (1, -1));
    assert_eq!(found(&mut client, 10, 0).await, (1, NOW_MS + 50_000));
    assert_eq!(found(&mut client, 10, -3).await, (1, NOW_MS + 50_000));
    assert_eq!(client.fetch("t", 0, 0).await.error_code, 1);
    // With the last record gone the partition is empty, and its offsets go on.
    world.sim.clock.jump_wall_ms(90_000);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(found(&mut client, 10, -2).await, (2, -1));
    assert_eq!(found(&mut client, 10, -1).await, (2, -1));
    assert_eq!(found(&mut client, 10, 0).await, (-1, -1));
    assert_eq!(found(&mut client, 10, -3).await, (-1, -1));
    let part = client.fetch("t", 0, 2).await;
    assert_eq!((part.error_code, part.log_start_offset, part.high_watermark), (0, 2, 2));
    drop(client);
    let world = world.restart().await;
    let mut client = world.client().await;
    assert_eq!(found(&mut client, 10, -2).await, (2, -1), "also after a restart");
    assert_eq!(client.produce("t", 0, batch(&["next"])).await, 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_up_has_its_error() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    assert_eq!(list(&mut client, 10, "nope", 0, -1).await.error_code, 3);
    assert_eq!(list(&mut client, 10, "t", 1, -1).await.error_code, 3);
    for (epoch, code) in [(0, 0), (1, 75), (-3, 74)] {
        let mut request = ask("t", 0, -1);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = client.call(10, &request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, code, "epoch {epoch}");
    }
    let mut twice = ask("t", 0, -1);
    let part = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(part);
    let answer = client.call(10, &twice).await;
    let codes: Vec<_> = answer.topics[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [42, 42], "a partition named twice");
}

#[tokio::test(start_paused = true)]
async fn an_epoch_ends_where_the_log_does() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let ask = |topic: &str, partition: i32, current: i32, epoch: i32| {
        let part = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![part]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    for version in 2..=4 {
        for (topic, partition, current, epoch, wanted) in [
            ("t", 0, -1, 0, (0, 0, 2)),
            ("t", 0, 0, 0, (0, 0, 2)),
            ("t", 0, -1, 1, (0, -1, -1)),
            ("t", 0, -1, -1, (0, -1, -1)),
            ("t", 0, 1, 0, (75, -1, -1)),
            ("t", 1, -1, 0, (3, -1, -1)),
            ("nope", 0, -1, 0, (3, -1, -1)),
        ] {
            let mut request = ask(topic, partition, current, epoch);
            if version >= 3 {
                request.replica_id = BrokerId(-1);
            }
            let answer = client.call(version, &request).await;
            let part = &answer.topics[0].partitions[0];
            let told = (part.error_code, part.leader_epoch, part.end_offset);
            assert_eq!(told, wanted, "version {version}: {topic} {partition} {current} {epoch}");
        }
    }
}
