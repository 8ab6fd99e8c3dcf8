//! Topics of type DELAY: what producers send is in its partition when it is due, and not before.

use std::time::Duration;

use braid_protocol::records::{BatchSpec, BatchWriter, Codec, Producer};
use bytes::Bytes;
use kafka_protocol::messages::{DeleteTopicsRequest, ProduceRequest};

use super::ask::{NOW_MS, batch, batches, produce, produced, topic_name};
use super::client::Client;
use super::world::{World, config};
use crate::partition::system;

const DELAY: &[(&str, &str)] = &[("message.type", "DELAY")];
const DELIVER_MS: &str = "TIMER_DELIVER_MS";
const DELAY_MS: &str = "TIMER_DELAY_MS";

async fn world_with_topic(configs: &[(&str, &str)]) -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 2, configs).await;
    (world, client)
}

/// A batch of records with a header each.
fn delayed(spec: BatchSpec, records: &[(&str, &str, &str)]) -> Bytes {
    let mut writer = BatchWriter::new(spec);
    for (value, header, ms) in records {
        let headers = [(header.as_bytes(), Some(ms.as_bytes()))];
        writer.append(NOW_MS, Some(b"k"), Some(value.as_bytes()), &headers).unwrap();
    }
    writer.finish().unwrap()
}

fn plain(value: &str, delay_ms: i64) -> Bytes {
    delayed(BatchSpec::default(), &[(value, DELAY_MS, &delay_ms.to_string())])
}

fn stamped(id: i64, base_sequence: i32, records: &[(&str, &str, &str)]) -> Bytes {
    let producer = Some(Producer { id, epoch: 0, base_sequence });
    delayed(BatchSpec { producer, ..BatchSpec::default() }, records)
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn values(client: &mut Client, topic: &str, partition: i32) -> Vec<String> {
    client.read(topic, partition, 0).await.into_iter().map(|(_, value)| value).collect()
}

#[tokio::test(start_paused = true)]
async fn each_record_appears_with_an_offset_when_it_is_due() {
    let (world, mut client) = world_with_topic(DELAY).await;
    let due_ms = (world.env.clock.wall_ms() + 60_000).to_string();
    for (codec, partition) in [(Codec::None, 0), (Codec::Gzip, 1)] {
        let spec = BatchSpec { codec, ..BatchSpec::default() };
        let records = [
            ("later", DELIVER_MS, due_ms.as_str()),
            ("soon", DELAY_MS, "2000"),
            ("now", DELAY_MS, "0"),
        ];
        assert_eq!(client.produce("t", partition, delayed(spec, &records)).await, -1);
    }
    pass(20).await;
    for partition in [0, 1] {
        assert_eq!(client.read("t", partition, 0).await, [(0, "now".to_owned())]);
    }
    pass(1_900).await;
    assert_eq!(values(&mut client, "t", 0).await, ["now"]);
    pass(100).await;
    assert_eq!(values(&mut client, "t", 0).await, ["now", "soon"]);
    pass(58_000).await;
    for partition in [0, 1] {
        assert_eq!(values(&mut client, "t", partition).await, ["now", "soon", "later"]);
    }
    let answer = client.fetch("t", 0, 2).await;
    let (header, _) = batches(&answer).pop().unwrap();
    assert_eq!(header.max_timestamp.to_string(), due_ms, "dated to its delivery");
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_a_record_does_not_say_when_is_refused_whole() {
    let (world, mut client) = world_with_topic(DELAY).await;
    let records = [("good", DELAY_MS, "1"), ("bad", DELAY_MS, "soon"), ("worse", "TAGS", "x")];
    let request = produce("t", 0, delayed(BatchSpec::default(), &records));
    let answer = client.call(9, &request).await;
    let part = produced(&answer);
    assert_eq!((part.error_code, part.base_offset), (87, -1));
    let message = part.error_message.as_ref().unwrap();
    assert!(message.contains(DELIVER_MS) && message.contains(DELAY_MS), "{message}");
    let named: Vec<i32> = part.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(named, [1, 2]);
    assert_eq!(client.refused("t", 0, batch(&["plain"])).await, 87);
    let far = plain("far", 315_360_000_001);
    assert_eq!(client.refused("t", 0, far).await, 87);
    let spec = BatchSpec {
        transactional: true,
        producer: Some(Producer { id: 7, epoch: 0, base_sequence: 0 }),
        ..BatchSpec::default()
    };
    assert_eq!(client.refused("t", 0, delayed(spec, &[("v", DELAY_MS, "1")])).await, 48);
    pass(5_000).await;
    assert_eq!(values(&mut client, "t", 0).await, [""; 0]);
    assert_eq!(world.sim.fatal(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_holds_more_than_can_be_scheduled_at_once_is_to_be_sent_in_smaller_batches() {
    let (_world, mut client) = world_with_topic(DELAY).await;
    let spec = BatchSpec { codec: Codec::Gzip, ..BatchSpec::default() };
    let large = "x".repeat(200_000);
    let fits = delayed(spec, &[(&large, DELAY_MS, "1")]);
    assert_eq!(client.produce("t", 0, fits).await, -1);
    let bomb = delayed(spec, &[(&large, DELAY_MS, "1"), (&large, DELAY_MS, "1")]);
    assert_eq!(client.refused("t", 0, bomb).await, 10);
    pass(100).await;
    assert_eq!(values(&mut client, "t", 0).await, [large]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_sent_again_is_scheduled_once_also_after_a_restart() {
    let (world, mut client) = world_with_topic(DELAY).await;
    let id = client.producer_id().await;
    let first = stamped(id, 0, &[("a", DELAY_MS, "30000"), ("b", DELAY_MS, "900000")]);
    let second = stamped(id, 2, &[("c", DELAY_MS, "30000")]);
    for batch in [&first, &second, &second, &first] {
        assert_eq!(client.produce("t", 0, batch.clone()).await, -1);
    }
    let gap = stamped(id, 4, &[("x", DELAY_MS, "1")]);
    assert_eq!(client.refused("t", 0, gap).await, 45, "a batch is missing");
    drop(client);
    let mut world = world;
    for kill in [true, false] {
        world = if kill { world.kill_and_restart().await } else { world.restart().await };
        let mut client = world.client().await;
        assert_eq!(client.produce("t", 0, second.clone()).await, -1, "after a restart");
    }
    let mut client = world.client().await;
    let third = stamped(id, 3, &[("d", DELAY_MS, "30000")]);
    assert_eq!(client.produce("t", 0, third.clone()).await, -1, "the next one");
    // The receipts are given up, the producer's window is not.
    pass(70_000).await;
    assert_eq!(client.produce("t", 0, third).await, -1);
    assert_eq!(values(&mut client, "t", 0).await, ["a", "c", "d"]);
    pass(900_000).await;
    let mut client = world.client().await;
    assert_eq!(values(&mut client, "t", 0).await, ["a", "c", "d", "b"]);
}

#[tokio::test(start_paused = true)]
async fn many_requests_in_flight_are_scheduled_and_delivered_in_order() {
    let (_world, mut client) = world_with_topic(DELAY).await;
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    for value in &expected {
        client.send(9, &produce("t", 0, plain(value, 500))).await;
    }
    for _ in &expected {
        let answer = client.receive::<ProduceRequest>(9).await;
        assert_eq!((produced(&answer).error_code, produced(&answer).base_offset), (0, -1));
    }
    pass(600).await;
    assert_eq!(values(&mut client, "t", 0).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_deleted_leaves_its_messages_to_the_discard_topic() {
    let (world, mut client) = world_with_topic(DELAY).await;
    let id = client.producer_id().await;
    client.produce("t", 1, stamped(id, 0, &[("v", DELAY_MS, "5000")])).await;
    let of_receipts = |world: &World| {
        world.node.partitions.queues().into_iter().filter(|it| system::is_receipts(*it)).count()
    };
    assert_eq!(of_receipts(&world), 1);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
    assert_eq!(client.call(5, &request).await.responses[0].error_code, 0);
    pass(8_000).await;
    assert_eq!(of_receipts(&world), 0);
    assert_eq!(values(&mut client, "discarded.timers", 0).await, ["v"]);
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_another_type_takes_the_headers_for_headers() {
    let (_world, mut client) = world_with_topic(&[]).await;
    assert_eq!(client.produce("t", 0, plain("v", 60_000)).await, 0);
    assert_eq!(values(&mut client, "t", 0).await, ["v"]);
}

/// Killed at any operation of the disk, a broker delivers once what it acknowledged.
#[tokio::test(start_paused = true)]
async fn a_kill_at_any_operation_of_the_disk_neither_loses_nor_doubles_an_acknowledged_record() {
    let small = || {
        let mut config = config(&[("offsets.topic.num.partitions", "1")]);
        config.storage.segment_size_bytes = 32 << 10;
        config
    };
    let mut last = 0;
    for cut in 0_u64.. {
        let (env, sim) = crate::env::sim::env(3);
        let world = World::on(env, sim, small()).await.expect("the broker starts");
        let mut client = world.client().await;
        client.create("t", 1, DELAY).await;
        let before = world.sim.fs.operations();
        world.sim.fs.cut_at(before + 1 + cut);
        let mut acknowledged = Vec::new();
        for n in 0..6_i32 {
            let value = n.to_string();
            let batch = stamped(9, n, &[(&value, DELAY_MS, "20")]);
            client.send(9, &produce("t", 0, batch)).await;
            let answer = client.try_receive::<ProduceRequest>(9);
            let answer = tokio::time::timeout(Duration::from_secs(60), answer).await;
            match answer.ok().flatten() {
                Some(answer) if produced(&answer).error_code == 0 => acknowledged.push(value),
                _ => break,
            }
            pass(15).await;
        }
        let is_whole = world.sim.fs.operations() < before + 1 + cut;
        drop(client);
        let (env, sim) = world.sim.reboot(cut);
        drop(world);
        let world = World::on(env, sim, small()).await.expect("the broker starts again");
        let mut client = world.client().await;
        // Who was not answered asks again.
        for n in acknowledged.len()..6 {
            let (value, n) = (n.to_string(), i32::try_from(n).unwrap());
            client.produce("t", 0, stamped(9, n, &[(&value, DELAY_MS, "20")])).await;
        }
        pass(5_000).await;
        let mut seen = values(&mut client, "t", 0).await;
        seen.sort();
        assert_eq!(seen, ["0", "1", "2", "3", "4", "5"], "cut at {cut}");
        if is_whole {
            last = cut;
            break;
        }
    }
    assert!(last > 8, "{last} operations are too few to be a test");
}
