//! Reading: limits, long polls, marks, epochs, topic ids.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchTopic, ReplicaState};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use tokio::time::Instant;
use uuid::Uuid;

use super::ask::{batch, batches, fetch, fetch_all, fetch_partition, records};
use super::client::Client;
use super::world::World;

async fn world_with_topic() -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 3, &[]).await;
    (world, client)
}

/// Offsets of all partitions' records, in the order of the answer.
fn offsets(response: &FetchResponse) -> Vec<(i32, Vec<i64>)> {
    let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
    parts
        .map(|p| (p.partition_index, records(p).iter().map(|(offset, _)| *offset).collect()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn every_version_reads_what_was_written() {
    let (_world, mut client) = world_with_topic().await;
    let id = client.create("by-id", 1, &[]).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    client.produce("by-id", 0, batch(&["c"])).await;
    for version in 4..=18 {
        let mut request = fetch("t", 0, 1).with_isolation_level(1);
        let mut expected = (1, vec![(0, "a".to_owned()), (1, "b".to_owned())]);
        if version >= 13 {
            request.topics[0].topic = Default::default();
            request.topics[0].topic_id = id;
            request.topics[0].partitions[0].fetch_offset = 0;
            expected = (0, vec![(0, "c".to_owned())]);
        }
        if version >= 15 {
            request.replica_state = ReplicaState::default();
        }
        let answer = client.call(version, &request).await;
        let part = &answer.responses[0].partitions[0];
        assert_eq!((part.error_code, records(part)), (0, expected.1), "version {version}");
        assert_eq!(part.high_watermark, part.last_stable_offset);
        assert_eq!(part.aborted_transactions, Some(vec![]), "a committed reader gets a list");
        let log_start = if version < 5 { -1 } else { 0 };
        assert_eq!(part.log_start_offset, log_start);
        assert_eq!(part.preferred_read_replica, BrokerId(-1));
    }
}

/// Whoever reads asks for records and how far they are decided in one step: producers wait for the
/// lock of the shard.
#[tokio::test(start_paused = true)]
async fn a_fetch_takes_the_lock_of_the_shard_twice_whatever_it_reads() {
    let (world, mut client) = world_with_topic().await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for isolation_level in [0, 1] {
        let request = fetch("t", 0, 0).with_isolation_level(isolation_level);
        let before = world.node.partitions.times_locked();
        let answer = client.call(12, &request).await;
        let taken = world.node.partitions.times_locked() - before;
        assert_eq!(records(&answer.responses[0].partitions[0]).len(), 2);
        // Once to see whether it is worth reading, once to read.
        assert_eq!(taken, 2, "isolation level {isolation_level}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_uncommitted_reader_gets_no_list_of_aborted_transactions() {
    let (_world, mut client) = world_with_topic().await;
    let part = client.fetch("t", 0, 0).await;
    assert_eq!(part.aborted_transactions, None);
}

#[tokio::test(start_paused = true)]
async fn an_empty_partition_and_the_end_of_one_give_nothing_and_no_error() {
    let (_world, mut client) = world_with_topic().await;
    let part = client.fetch("t", 0, 0).await;
    assert_eq!((part.error_code, part.high_watermark, part.log_start_offset), (0, 0, 0));
    assert_eq!(part.records.as_ref().map(bytes::Bytes::len), Some(0), "empty, not null");
    client.produce("t", 0, batch(&["a", "b"])).await;
    let part = client.fetch("t", 0, 2).await;
    assert_eq!((part.error_code, part.high_watermark), (0, 2));
    assert!(batches(&part).is_empty());
}

#[tokio::test(start_paused = true)]
async fn offsets_outside_are_out_of_range() {
    let (_world, mut client) = world_with_topic().await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for (partition, offset) in [(0, 3), (0, -1), (0, i64::MAX), (1, 1), (1, -5)] {
        let part = client.fetch("t", partition, offset).await;
        assert_eq!((part.error_code, part.high_watermark), (1, -1), "{partition} {offset}");
        assert!(batches(&part).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_names_partitions_and_ids_have_their_errors() {
    let (_world, mut client) = world_with_topic().await;
    assert_eq!(client.fetch("nope", 0, 0).await.error_code, 3);
    assert_eq!(client.fetch("t", 3, 0).await.error_code, 3);
    assert_eq!(client.fetch("t", -1, 0).await.error_code, 3);
    let unknown = FetchTopic::default()
        .with_topic_id(Uuid::from_u128(9))
        .with_partitions(vec![fetch_partition(0, 0)]);
    let answer = client.call(13, &fetch_all(&[]).with_topics(vec![unknown])).await;
    assert_eq!(answer.responses[0].topic_id, Uuid::from_u128(9));
    assert_eq!(answer.responses[0].partitions[0].error_code, 100);
}

#[tokio::test(start_paused = true)]
async fn the_epoch_a_client_believes_in_is_checked() {
    let (_world, mut client) = world_with_topic().await;
    client.produce("t", 0, batch(&["a"])).await;
    for (epoch, code) in [(-1, 0), (0, 0), (1, 75), (-2, 74)] {
        let mut request = fetch("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = client.call(12, &request).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, code, "epoch {epoch}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_wakes_on_new_data() {
    let (world, mut client) = world_with_topic().await;
    let mut producer = world.client().await;
    let start = Instant::now();
    client.send(12, &fetch("t", 1, 0).with_max_wait_ms(60_000)).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    producer.produce("t", 0, batch(&["elsewhere"])).await;
    producer.produce("t", 1, batch(&["here"])).await;
    let answer = client.receive::<FetchRequest>(12).await;
    assert_eq!(offsets(&answer), [(1, vec![0])]);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_empty_when_its_time_is_over() {
    let (_world, mut client) = world_with_topic().await;
    let start = Instant::now();
    let answer = client.call(12, &fetch("t", 0, 0).with_max_wait_ms(7_000)).await;
    assert_eq!((answer.error_code, offsets(&answer)), (0, vec![(0, vec![])]));
    let waited = start.elapsed();
    assert!((Duration::from_secs(7)..Duration::from_secs(8)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_as_many_bytes_as_were_asked_for() {
    let (world, mut client) = world_with_topic().await;
    let mut producer = world.client().await;
    let kilobyte = "x".repeat(1000);
    client.send(12, &fetch("t", 0, 0).with_max_wait_ms(60_000).with_min_bytes(3_000)).await;
    for _ in 0..3 {
        producer.produce("t", 0, batch(&[&kilobyte])).await;
    }
    let answer = client.receive::<FetchRequest>(12).await;
    assert_eq!(offsets(&answer), [(0, vec![0, 1, 2])]);
    // What is there already is not waited for.
    let start = Instant::now();
    drop(client.call(12, &fetch("t", 0, 0).with_max_wait_ms(60_000).with_min_bytes(3_000)).await);
    drop(client.call(12, &fetch("t", 0, 3).with_max_wait_ms(60_000).with_min_bytes(0)).await);
    drop(client.call(12, &fetch("nope", 0, 0).with_max_wait_ms(60_000)).await);
    drop(client.call(12, &fetch_all(&[]).with_max_wait_ms(60_000)).await);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_on_a_topic_that_is_deleted_ends_with_its_error() {
    let (world, mut client) = world_with_topic().await;
    let mut other = world.client().await;
    let start = Instant::now();
    client.send(12, &fetch("t", 0, 0).with_max_wait_ms(60_000)).await;
    tokio::task::yield_now().await;
    let delete = kafka_protocol::messages::DeleteTopicsRequest::default()
        .with_topic_names(vec![super::ask::topic_name("t")]);
    assert_eq!(other.call(5, &delete).await.responses[0].error_code, 0);
    let answer = client.receive::<FetchRequest>(12).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 3);
    assert!(start.elapsed() < Duration::from_secs(59), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_first_batch_comes_whole_and_the_rest_keeps_to_the_limits() {
    let (_world, mut client) = world_with_topic().await;
    let value = "x".repeat(1000);
    for partition in 0..3 {
        for _ in 0..4 {
            client.produce("t", partition, batch(&[&value])).await;
        }
    }
    let all = [("t", 2, 0), ("t", 0, 0), ("t", 1, 0)];
    // Smaller than one batch: the first partition in the order of the request has its say.
    let answer = client.call(12, &fetch_all(&all).with_max_bytes(10)).await;
    assert_eq!(offsets(&answer), [(2, vec![0]), (0, vec![]), (1, vec![])]);
    // A limit in between takes whole batches, partition by partition.
    let answer = client.call(12, &fetch_all(&all).with_max_bytes(5_500)).await;
    assert_eq!(offsets(&answer), [(2, vec![0, 1, 2, 3]), (0, vec![0]), (1, vec![])]);
    let mut narrow = fetch_all(&all);
    for part in &mut narrow.topics[0].partitions {
        part.partition_max_bytes = 2_500;
    }
    let answer = client.call(12, &narrow).await;
    assert_eq!(offsets(&answer), [(2, vec![0, 1]), (0, vec![0, 1]), (1, vec![0, 1])]);
    for part in &mut narrow.topics[0].partitions {
        part.partition_max_bytes = 0;
    }
    let answer = client.call(12, &narrow).await;
    assert_eq!(offsets(&answer), [(2, vec![0]), (0, vec![]), (1, vec![])]);
    // An empty partition first does not use the privilege up.
    client.create("empty", 1, &[]).await;
    let answer =
        client.call(12, &fetch_all(&[("empty", 0, 0), ("t", 1, 2)]).with_max_bytes(1)).await;
    assert_eq!(offsets(&answer), [(0, vec![]), (1, vec![2])]);
}

#[tokio::test(start_paused = true)]
async fn the_broker_has_a_limit_of_its_own() {
    let world = World::start_with(&[("fetch.max.bytes", "3000")]).await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    for _ in 0..5 {
        client.produce("t", 0, batch(&["x".repeat(1000).as_str()])).await;
    }
    let answer = client.call(12, &fetch("t", 0, 0)).await;
    assert_eq!(offsets(&answer), [(0, vec![0, 1])]);
}

#[tokio::test(start_paused = true)]
async fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let (_world, mut client) = world_with_topic().await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    client.produce("t", 0, batch(&["d"])).await;
    let part = client.fetch("t", 0, 1).await;
    let bases: Vec<_> =
        batches(&part).iter().map(|(h, _)| (h.base_offset, h.last_offset())).collect();
    assert_eq!(bases, [(0, 2), (3, 3)]);
}

#[tokio::test(start_paused = true)]
async fn what_left_the_memory_is_read_from_disk() {
    let mut config = super::world::config(&[]);
    config.storage.segment_size_bytes = 64 << 10;
    let world = World::start_as(config).await;
    let mut client = world.client().await;
    client.create("t", 2, &[]).await;
    let value = |n: usize| format!("{n} {}", "x".repeat(9_000));
    for n in 0..400 {
        client.produce("t", i32::try_from(n % 2).unwrap(), batch(&[&value(n)])).await;
    }
    for partition in 0..2 {
        let read = client.read("t", partition, 0).await;
        assert_eq!(read.len(), 200);
        for (offset, got) in read {
            let n = usize::try_from(offset).unwrap() * 2 + usize::try_from(partition).unwrap();
            assert_eq!(got, value(n));
        }
    }
    assert_eq!(world.sim.fs.violations(), Vec::<String>::new());
}
