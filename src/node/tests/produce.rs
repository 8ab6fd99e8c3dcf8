//! What becomes of produced batches: order, acks, refusals, timestamps, codecs.

use braid_protocol::records::{BatchSpec, Codec, Producer, TimestampType};
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use uuid::Uuid;

use super::ask::{
    NOW_MS, batch, batch_of, batch_with, batches, fetch_all, produce, produce_all, produced,
    stamped, topic_name,
};
use super::client::Client;
use super::world::World;

async fn world_with_topic(configs: &[(&str, &str)]) -> (World, Client) {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 3, configs).await;
    (world, client)
}

#[tokio::test(start_paused = true)]
async fn every_version_appends_and_names_its_topic_as_it_was_named() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let id = client.create("by-id", 1, &[]).await;
    for version in 3..=12 {
        let answer = client.call(version, &produce("t", 0, batch(&["v"]))).await;
        assert_eq!(answer.responses[0].name, topic_name("t"));
        let part = produced(&answer);
        assert_eq!((part.error_code, part.base_offset), (0, i64::from(version - 3)));
        let log_start = if version < 5 { -1 } else { 0 };
        assert_eq!((part.log_append_time_ms, part.log_start_offset), (-1, log_start));
    }
    let mut by_id = produce("", 0, batch(&["v"]));
    by_id.topic_data[0].topic_id = id;
    let answer = client.call(13, &by_id).await;
    assert_eq!(answer.responses[0].topic_id, id);
    assert_eq!(produced(&answer).error_code, 0);
    by_id.topic_data[0].topic_id = Uuid::from_u128(77);
    assert_eq!(produced(&client.call(13, &by_id).await).error_code, 100);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_in_flight_are_appended_and_answered_in_order() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let value = |n: usize| format!("value {n}");
    for n in 0..100 {
        let (two, one) = (format!("{} a", value(n)), format!("{} b", value(n)));
        let parts = vec![
            ("t", i32::try_from(n % 3).unwrap(), Some(batch(&[&two, &one]))),
            ("t", i32::try_from((n + 1) % 3).unwrap(), Some(batch(&[&value(n)]))),
        ];
        client.send(9, &produce_all(-1, parts)).await;
    }
    let mut next = [0_i64; 3];
    for n in 0..100 {
        let answer = client.receive::<ProduceRequest>(9).await;
        for (part, records) in answer.responses[0].partition_responses.iter().zip([2, 1]) {
            let partition = usize::try_from(part.index).unwrap();
            assert_eq!((part.error_code, part.base_offset), (0, next[partition]), "request {n}");
            next[partition] += records;
        }
    }
    for (partition, end) in (0..).zip(next) {
        let read = client.read("t", partition, 0).await;
        assert_eq!(i64::try_from(read.len()).unwrap(), end);
        let numbers: Vec<usize> =
            read.iter().map(|(_, v)| v.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "partition {partition}: {numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn acks_0_is_never_answered_and_acks_1_is() {
    let (_world, mut client) = world_with_topic(&[]).await;
    for n in 0..5 {
        let value = format!("{n}");
        client.send_unanswered(9, &produce_all(0, vec![("t", 0, Some(batch(&[&value])))])).await;
    }
    let answer = client.call(9, &produce_all(1, vec![("t", 0, Some(batch(&["5"])))])).await;
    assert_eq!((produced(&answer).error_code, produced(&answer).base_offset), (0, 5));
    assert_eq!(client.read("t", 0, 0).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_error_with_acks_0_closes_the_connection() {
    let (world, mut client) = world_with_topic(&[]).await;
    let parts = vec![("t", 0, Some(batch(&["good"]))), ("nope", 0, Some(batch(&["lost"])))];
    client.send_unanswered(9, &produce_all(0, parts)).await;
    client.assert_closed().await;
    let mut other = world.client().await;
    assert_eq!(other.read("t", 0, 0).await.len(), 1, "the good part was taken");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_nothing_does_not_hurry_the_only_replica() {
    let (_world, mut client) = world_with_topic(&[]).await;
    for timeout_ms in [0, -1, 1] {
        let request = produce("t", 0, batch(&["v"])).with_timeout_ms(timeout_ms);
        assert_eq!(produced(&client.call(9, &request).await).error_code, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn other_acks_are_refused() {
    let (_world, mut client) = world_with_topic(&[]).await;
    for acks in [2, -2, i16::MAX, i16::MIN] {
        let answer = client.call(9, &produce_all(acks, vec![("t", 0, Some(batch(&["v"])))])).await;
        assert_eq!(produced(&answer).error_code, 21, "acks={acks}");
    }
    assert!(client.read("t", 0, 0).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn acks_all_needs_no_more_replicas_than_there_are() {
    let (_world, mut client) = world_with_topic(&[("min.insync.replicas", "2")]).await;
    assert_eq!(client.produce("t", 0, batch(&["v"])).await, 0, "as Kafka 4 has it");
    let answer = client.call(9, &produce_all(1, vec![("t", 0, Some(batch(&["v"])))])).await;
    assert_eq!(produced(&answer).error_code, 0);
}

/// A copy of a batch with some bytes of its header replaced; the checksum fits again.
fn with_header(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut copy = batch.to_vec();
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&copy[21..]).to_be_bytes();
    copy[17..21].copy_from_slice(&crc);
    copy.into()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_batch_of_a_client_is_refused_and_the_connection_goes_on() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let good = batch(&["a", "b"]);
    let mut bad_crc = good.to_vec();
    *bad_crc.last_mut().unwrap() ^= 1;
    let two = [batch(&["a"]), batch(&["b"])].concat();
    let producer = |id, epoch, base_sequence| BatchSpec {
        producer: Some(Producer { id, epoch, base_sequence }),
        ..BatchSpec::default()
    };
    let control = BatchSpec { control: true, ..producer(1, 0, -1) };
    let transactional = BatchSpec { transactional: true, ..producer(1, 0, 0) };
    let gzipped = batch_of(BatchSpec { codec: Codec::Gzip, ..BatchSpec::default() }, &["z"]);
    let mut torn = gzipped.to_vec();
    let end = torn.len() - 4;
    torn.truncate(end);
    let length = u32::try_from(end - 12).unwrap().to_be_bytes();
    let torn = with_header(&torn.into(), 8, &length);
    let table: Vec<(&str, Bytes, i16)> = vec![
        ("nothing", Bytes::new(), 87),
        ("two batches", two.into(), 87),
        ("a bent checksum", bad_crc.into(), 2),
        ("half a batch", good.slice(..good.len() / 2), 87),
        ("half a header", good.slice(..30), 87),
        ("bytes behind", [&good[..], b"x"].concat().into(), 87),
        ("a control batch", batch_of(control, &["a"]), 87),
        ("a transaction without its id", batch_of(transactional, &["a"]), 48),
        ("an old format", with_header(&good, 16, &[1]), 87),
        ("an unknown format", with_header(&good, 16, &[3]), 2),
        ("a base offset", with_header(&good, 0, &7_i64.to_be_bytes()), 87),
        ("more records than there are", with_header(&good, 57, &3_i32.to_be_bytes()), 87),
        ("no records", with_header(&good, 57, &0_i32.to_be_bytes()), 87),
        ("a gap of offsets", with_header(&good, 23, &9_i32.to_be_bytes()), 87),
        ("a producer without epoch", batch_of(producer(1, -1, 0), &["a"]), 87),
        ("a producer without sequence", batch_of(producer(1, 0, -1), &["a"]), 87),
        ("an unknown codec", with_header(&good, 21, &[0, 7]), 76),
        ("gzip of something else", with_header(&good, 21, &[0, 1]), 87),
        ("half of what was compressed", torn, 87),
        ("more than max.message.bytes", batch(&["x".repeat(50_000).as_str()]), 10),
    ];
    for (what, bytes, code) in table {
        assert_eq!(client.refused("t", 0, bytes).await, code, "{what}");
    }
    let null = client.call(9, &produce_all(-1, vec![("t", 0, None)])).await;
    assert_eq!(produced(&null).error_code, 87);
    assert_eq!(client.refused("nope", 0, good.clone()).await, 3);
    assert_eq!(client.refused("t", 3, good.clone()).await, 3);
    assert_eq!(client.refused("t", -1, good.clone()).await, 3);
    assert_eq!(client.produce("t", 0, good).await, 0, "nothing of all that was appended");
}

#[tokio::test(start_paused = true)]
async fn a_request_fails_in_parts() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let parts = vec![
        ("t", 0, Some(batch(&["a"]))),
        ("t", 9, Some(batch(&["b"]))),
        ("nope", 0, Some(batch(&["c"]))),
        ("t", 1, Some(batch(&["d"]))),
    ];
    let answer = client.call(9, &produce_all(-1, parts)).await;
    let codes: Vec<_> = answer
        .responses
        .iter()
        .flat_map(|t| t.partition_responses.iter().map(|p| (p.index, p.error_code)))
        .collect();
    assert_eq!(codes, [(0, 0), (9, 3), (0, 3), (1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn the_brokers_own_topics_take_no_records_of_clients() {
    let world = World::start_with(&[("auto.create.topics.enable", "true")]).await;
    let mut client = world.client().await;
    let find = kafka_protocol::messages::FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![super::ask::text("g")]);
    assert_eq!(client.call(4, &find).await.coordinators[0].error_code, 0);
    assert_eq!(client.refused("__consumer_offsets", 0, batch(&["a"])).await, 17);
}

#[tokio::test(start_paused = true)]
async fn zstd_needs_a_version_that_has_it() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let spec = BatchSpec { codec: Codec::Zstd, ..BatchSpec::default() };
    let request = produce("t", 0, batch_of(spec, &["z"]));
    for (version, code) in [(3, 76), (6, 76), (7, 0), (9, 0)] {
        assert_eq!(produced(&client.call(version, &request).await).error_code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn records_without_key_are_refused_one_by_one_on_a_compacted_topic() {
    let (_world, mut client) = world_with_topic(&[("cleanup.policy", "compact")]).await;
    let mixed = [(NOW_MS, Some("k"), "a"), (NOW_MS, None, "b"), (NOW_MS, None, "c")];
    let request = produce("t", 0, batch_with(BatchSpec::default(), &mixed));
    let answer = client.call(8, &request).await;
    let part = produced(&answer);
    assert_eq!(part.error_code, 87);
    let why = part.error_message.as_deref().unwrap();
    assert!(
        why.starts_with("One or more records have been rejected due to 2 record errors"),
        "{why}"
    );
    let listed: Vec<_> = part.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(listed, [1, 2]);
    let why = "Compacted topic cannot accept message without key in topic partition t-0";
    assert_eq!(part.record_errors[0].batch_index_error_message.as_deref(), Some(why));
    // Older clients learn the code alone.
    let answer = client.call(7, &request).await;
    assert_eq!(produced(&answer).error_code, 87);
    let keyed = [(NOW_MS, Some("k"), "a")];
    assert_eq!(client.produce("t", 0, batch_with(BatchSpec::default(), &keyed)).await, 0);
}

#[tokio::test(start_paused = true)]
async fn timestamps_outside_the_topics_bounds_are_refused() {
    let bounds =
        [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "500")];
    let (_world, mut client) = world_with_topic(&bounds).await;
    let at = |ms: i64| batch_with(BatchSpec::default(), &[(NOW_MS + ms, None, "v")]);
    for (ms, code) in [(-2000, 32), (5000, 32)] {
        let answer = client.call(9, &produce("t", 0, at(ms))).await;
        let part = produced(&answer);
        assert_eq!(part.error_code, code);
        assert_eq!(part.record_errors[0].batch_index, 0);
        let whole = "One or more records have been rejected due to invalid timestamp";
        assert_eq!(part.error_message.as_deref(), Some(whole));
        let why = part.record_errors[0].batch_index_error_message.as_deref().unwrap();
        let expected = format!(
            "Timestamp {} of message with offset 0 is out of range. The timestamp should be within [",
            NOW_MS + ms
        );
        assert!(why.starts_with(&expected), "{why}");
    }
    assert_eq!(client.produce("t", 0, at(-500)).await, 0);
    assert_eq!(client.produce("t", 0, at(400)).await, 1);
}

#[tokio::test(start_paused = true)]
async fn log_append_time_is_told_to_the_producer_and_to_consumers() {
    let (world, mut client) =
        world_with_topic(&[("message.timestamp.type", "LogAppendTime")]).await;
    world.sim.clock.jump_wall_ms(5000);
    let old = batch_with(BatchSpec::default(), &[(17, None, "a"), (18, None, "b")]);
    let answer = client.call(9, &produce("t", 0, old)).await;
    let stamp = produced(&answer).log_append_time_ms;
    assert!((NOW_MS + 5000..NOW_MS + 6000).contains(&stamp), "{stamp}");
    let fetched = client.fetch("t", 0, 0).await;
    let (header, bytes) = &batches(&fetched)[0];
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, stamp);
    assert!(header.crc_matches(bytes));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_served_byte_for_byte_in_every_codec() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for (codec, offset) in codecs.into_iter().zip(0..) {
        let sent = batch_of(BatchSpec { codec, ..BatchSpec::default() }, &["same", "bytes"]);
        assert_eq!(client.produce("t", 0, sent.clone()).await, offset * 2);
        let fetched = client.fetch("t", 0, offset * 2).await;
        let (header, got) = batches(&fetched).remove(0);
        assert_eq!((header.base_offset, header.partition_leader_epoch), (offset * 2, 0));
        assert_eq!(got[16..], sent[16..], "{codec:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topics_own_codec_replaces_the_producers() {
    let world = World::start().await;
    let mut client = world.client().await;
    for (name, codec) in [
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
        ("uncompressed", Codec::None),
    ] {
        client.create(name, 1, &[("compression.type", name)]).await;
        for sent in [Codec::None, Codec::Zstd, Codec::Gzip] {
            let spec = BatchSpec { codec: sent, ..BatchSpec::default() };
            client.produce(name, 0, batch_of(spec, &["a", "b"])).await;
        }
        let fetched = client.fetch(name, 0, 0).await;
        for (header, bytes) in batches(&fetched) {
            assert_eq!(header.codec().unwrap(), codec);
            assert!(header.crc_matches(&bytes));
        }
        let values: Vec<_> = client.read(name, 0, 0).await.into_iter().map(|(_, v)| v).collect();
        assert_eq!(values, ["a", "b", "a", "b", "a", "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_is_answered_with_its_first_offset_also_after_a_restart() {
    let (world, mut client) = world_with_topic(&[]).await;
    let id = client.producer_id().await;
    let sequence = |n: i32| stamped(id, 0, n * 2, &["a", "b"]);
    for n in 0..6 {
        assert_eq!(client.produce("t", 0, sequence(n)).await, i64::from(n) * 2);
    }
    for n in 1..6 {
        assert_eq!(client.produce("t", 0, sequence(n)).await, i64::from(n) * 2, "a retry");
    }
    assert_eq!(client.refused("t", 0, sequence(0)).await, 45, "older than five batches");
    drop(client);
    let world = world.restart().await;
    let mut client = world.client().await;
    assert_eq!(client.produce("t", 0, sequence(5)).await, 10, "after a stop");
    drop(client);
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(client.produce("t", 0, sequence(4)).await, 8, "after kill -9");
    assert_eq!(client.produce("t", 0, sequence(6)).await, 12);
    assert_eq!(client.read("t", 0, 0).await.len(), 14, "nothing twice");
}

#[tokio::test(start_paused = true)]
async fn a_gap_and_an_old_epoch_are_refused() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let id = client.producer_id().await;
    client.produce("t", 0, stamped(id, 0, 0, &["a"])).await;
    assert_eq!(client.refused("t", 0, stamped(id, 0, 2, &["c"])).await, 45);
    client.produce("t", 0, stamped(id, 0, 1, &["b"])).await;
    assert_eq!(client.refused("t", 0, stamped(id, 1, 5, &["x"])).await, 45, "a new epoch at 0");
    client.produce("t", 0, stamped(id, 1, 0, &["c"])).await;
    assert_eq!(client.refused("t", 0, stamped(id, 0, 2, &["d"])).await, 47);
    // Each partition counts for itself.
    client.produce("t", 1, stamped(id, 0, 0, &["a"])).await;
}

#[tokio::test(start_paused = true)]
async fn a_retry_in_the_same_flight_is_answered_after_its_original() {
    let (_world, mut client) = world_with_topic(&[]).await;
    let id = client.producer_id().await;
    let request = produce("t", 0, stamped(id, 0, 0, &["a"]));
    for _ in 0..3 {
        client.send(9, &request).await;
    }
    for _ in 0..3 {
        let answer = client.receive::<ProduceRequest>(9).await;
        assert_eq!((produced(&answer).error_code, produced(&answer).base_offset), (0, 0));
    }
    let response = client.call(12, &fetch_all(&[("t", 0, 0)])).await;
    assert_eq!(batches(&response.responses[0].partitions[0]).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_never_handed_out_twice() {
    let mut world = World::start().await;
    let mut seen = std::collections::BTreeSet::new();
    for life in 0..4 {
        let mut client = world.client().await;
        // More than one block of them.
        for _ in 0..if life == 1 { 1500 } else { 3 } {
            assert!(seen.insert(client.producer_id().await), "handed out twice");
        }
        drop(client);
        world = if life % 2 == 0 { world.restart().await } else { world.kill_and_restart().await };
    }
}

#[tokio::test(start_paused = true)]
async fn what_init_producer_id_does_not_serve_is_refused() {
    use kafka_protocol::messages::{InitProducerIdRequest, ProducerId, TransactionalId};
    let world = World::start().await;
    let mut client = world.client().await;
    let transactional = |id: &str, timeout_ms| {
        InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(super::ask::text(id))))
            .with_transaction_timeout_ms(timeout_ms)
    };
    for version in 0..=5 {
        for (id, timeout_ms, code) in [("", 1000, 42), ("tx", 0, 50), ("tx", 900_001, 50)] {
            let answer = client.call(version, &transactional(id, timeout_ms)).await;
            assert_eq!((answer.error_code, answer.producer_id), (code, ProducerId(-1)));
        }
    }
    let with = |id: i64, epoch: i16| {
        InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch)
    };
    for (id, epoch, code) in [(5, -1, 42), (-1, 5, 42), (-2, -2, 42), (5, 3, 0), (-1, -1, 0)] {
        let answer = client.call(4, &with(id, epoch)).await;
        assert_eq!(answer.error_code, code, "{id} {epoch}");
        if code == 0 {
            assert_eq!(answer.producer_epoch, 0);
        }
    }
}

/// A batch of one record whose content is so large, compressed.
fn heavy(codec: Codec, size_bytes: usize, fill: &str) -> Bytes {
    batch_of(BatchSpec { codec, ..BatchSpec::default() }, &[fill.repeat(size_bytes).as_str()])
}

#[tokio::test(start_paused = true)]
async fn heavy_batches_keep_their_place_among_light_ones() {
    let (world, mut client) = world_with_topic(&[]).await;
    let codecs = [Codec::Zstd, Codec::Gzip, Codec::Lz4];
    let mut sent = Vec::new();
    for n in 0..30 {
        let records = match n % 5 {
            0 | 2 => heavy(codecs[n % 3], 900_000, "h"),
            1 => heavy(codecs[n % 3], 1_000, "s"),
            _ => batch(&["plain"]),
        };
        assert!(records.len() < 40_000);
        client.send(9, &produce("t", 0, records.clone())).await;
        sent.push(records);
    }
    for n in 0..30 {
        let answer = client.receive::<ProduceRequest>(9).await;
        let part = produced(&answer);
        assert_eq!((part.error_code, part.base_offset), (0, n));
    }
    let part = client.fetch("t", 0, 0).await;
    let stored = part.records.unwrap();
    let mut rest = &stored[..];
    for batch in &sent {
        let (this, more) = rest.split_at(batch.len());
        // Behind base offset and leader epoch nothing has changed.
        assert_eq!(this[16..], batch[16..]);
        rest = more;
    }
    assert!(rest.is_empty(), "each is there once");
    drop(world);
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_heavy_batch_in_the_middle_is_carried_out_once() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 4, &[]).await;
    let light = || heavy(Codec::Lz4, 10, "l");
    let parts = vec![
        ("t", 0, Some(light())),
        ("nowhere", 0, Some(light())),
        ("t", 1, Some(heavy(Codec::Zstd, 900_000, "h"))),
        ("t", 9, Some(light())),
        ("t", 2, Some(batch(&["plain"]))),
        ("t", 3, Some(light())),
    ];
    let answer = client.call(9, &produce_all(-1, parts)).await;
    let codes: Vec<(i32, i16, i64)> = answer
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|p| (p.index, p.error_code, p.base_offset))
        .collect();
    assert_eq!(codes, [(0, 0, 0), (0, 3, -1), (1, 0, 0), (9, 3, -1), (2, 0, 0), (3, 0, 0)]);
    for partition in 0..4 {
        assert_eq!(client.fetch("t", partition, 0).await.high_watermark, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_heavy_batch_is_stored_though_its_client_leaves_and_a_bomb_is_refused() {
    let (world, mut client) = world_with_topic(&[]).await;
    let mut gone = world.client().await;
    let request = produce("t", 0, heavy(Codec::Zstd, 900_000, "h")).with_acks(0);
    gone.send_unanswered(9, &request).await;
    gone.finish_sending().await;
    drop(gone);
    while client.fetch("t", 0, 0).await.high_watermark < 1 {}
    let answer = client.call(9, &produce("t", 0, heavy(Codec::Zstd, 105_000_000, "b"))).await;
    assert_eq!(produced(&answer).error_code, 10);
    // An error with acks=0 ends the connection, on the pool as elsewhere.
    let mut unlucky = world.client().await;
    let request = produce("t", 0, heavy(Codec::Zstd, 105_000_000, "b")).with_acks(0);
    unlucky.send_unanswered(9, &request).await;
    unlucky.assert_closed().await;
    assert_eq!(client.fetch("t", 0, 0).await.high_watermark, 1);
}
