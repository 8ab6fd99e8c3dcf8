//! What other brokers have got wrong about transactions and retries: each test holds what was lost
//! or doubled there, and says so in its name.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, OffsetCommitRequest, ProducerId, TxnOffsetCommitRequest,
    TxnOffsetCommitResponse, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};

use super::ask::{produce, produced, stamped, text, topic_name};
use super::client::Client;
use super::groups;
use super::transactions::{
    INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, NONE, PRODUCER_FENCED, Tx, committed, id,
    stable_offset,
};
use super::world::{World, config};

async fn world() -> (World, Client) {
    let world = World::start().await;
    let client = with_topics(&world).await;
    (world, client)
}

async fn with_topics(world: &World) -> Client {
    let mut client = world.client().await;
    for topic in ["t", "u"] {
        client.create(topic, 1, &[]).await;
    }
    groups::find(&mut client).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_batch_sent_again_is_no_error_and_has_its_first_offset_as_long_as_five_fit_over_a_crash()
{
    let (mut world, mut client) = world().await;
    let id = client.producer_id().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    for n in 0..7 {
        let batch = stamped(id, 0, n, &["plain"]);
        assert_eq!(client.produce("u", 0, batch).await, i64::from(n));
        tx.write(&mut client, "value").await;
    }
    for _ in 0..2 {
        for n in 2..7 {
            let batch = stamped(id, 0, n, &["plain"]);
            assert_eq!(client.produce("u", 0, batch).await, i64::from(n));
            let again = Tx { sequence: n, ..tx.clone() };
            let answer = client.call(12, &again.produce("t", "value")).await;
            let part = produced(&answer);
            assert_eq!((part.error_code, part.base_offset), (NONE, i64::from(n)));
        }
        assert_eq!(client.refused("u", 0, stamped(id, 0, 1, &["plain"])).await, 45);
        world = world.kill_and_restart().await;
        client = world.client().await;
    }
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await.0.len(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_sequence_used_again_after_an_abort_is_never_answered_as_if_it_were_stored() {
    let (_world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
    assert_eq!(tx.try_write(&mut client, 9, "void").await, NONE);
    assert_eq!(tx.try_end(&mut client, 3, false).await, NONE);
    // A client that counts from what was committed.
    tx.sequence = 0;
    assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
    assert_ne!(tx.try_write(&mut client, 9, "new").await, NONE);
    assert_eq!(tx.try_end(&mut client, 3, false).await, NONE);
    // The way out that the error asks for.
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "new").await;
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await.0, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_whose_first_batch_was_acknowledged_is_known_after_a_crash() {
    let (world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    tx.end(&mut client, true).await;
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(committed(&mut client, "t").await.0, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_sent_again_over_a_crash_is_answered_as_the_first_time() {
    let (mut world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    for (version, commits) in [(5, true), (5, false), (4, true), (4, false)] {
        if version < 5 {
            assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
        }
        assert_eq!(tx.try_write(&mut client, if version < 5 { 9 } else { 12 }, "a").await, NONE);
        let before = tx.clone();
        assert_eq!(tx.try_end(&mut client, version, commits).await, NONE);
        for _ in 0..2 {
            let mut again = before.clone();
            assert_eq!(again.try_end(&mut client, version, commits).await, NONE);
            assert_eq!((again.producer_id, again.epoch), (tx.producer_id, tx.epoch));
            let mut other = before.clone();
            let refused = other.try_end(&mut client, version, !commits).await;
            assert_eq!(refused, INVALID_TXN_STATE, "it was ended the other way");
            world = world.kill_and_restart().await;
            client = world.client().await;
        }
    }
    assert_eq!(committed(&mut client, "t").await.0, ["a", "a"]);
}

#[tokio::test(start_paused = true)]
async fn a_fence_that_the_log_does_not_take_raises_no_epoch() {
    let mut config = config(&[]);
    config.storage.segment_size_bytes = 64 << 10;
    let world = World::start_as(config).await;
    let mut client = with_topics(&world).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    let reserve = 64 << 20;
    world.sim.fs.set_capacity(Some(world.sim.fs.used_bytes() + reserve + 4096));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id("tx")))
        .with_transaction_timeout_ms(60_000);
    let mut refused = 0;
    for _ in 0..10_000 {
        let answer = client.call(4, &init).await;
        if answer.error_code == NONE {
            assert_eq!(refused, 0);
            assert_eq!(answer.producer_epoch, tx.epoch + 1);
            tx.epoch = answer.producer_epoch;
        } else {
            assert_eq!(answer.error_code, 15, "try again");
            refused += 1;
        }
        if refused == 20 {
            break;
        }
    }
    assert_eq!(refused, 20, "the disk never fills up");
    world.sim.fs.set_capacity(None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let answer = client.call(4, &init).await;
    assert_eq!((answer.error_code, answer.producer_epoch), (NONE, tx.epoch + 1));
}

/// A marker for partition 0 of `t`.
fn marker(producer_id: i64, epoch: i16, commits: bool) -> WriteTxnMarkersRequest {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(epoch)
        .with_transaction_result(commits)
        .with_topics(vec![topic]);
    WriteTxnMarkersRequest::default().with_markers(vec![marker])
}

async fn mark(client: &mut Client, version: i16, request: &WriteTxnMarkersRequest) -> i16 {
    let answer = client.call(version, request).await;
    answer.markers[0].topics[0].partitions[0].error_code
}

/// A marker of version 2, which is one byte longer.
async fn mark_v2(
    client: &mut Client,
    transaction_version: u8,
    request: &WriteTxnMarkersRequest,
) -> i16 {
    let mut body = BytesMut::new();
    request.encode(&mut body, 1).unwrap();
    // In front of the tagged fields of the marker and of the request.
    let end = body.len() - 2;
    let mut longer = BytesMut::from(&body[..end]);
    longer.put_u8(transaction_version);
    longer.put_slice(&body[end..]);
    let answer = client.call_body::<WriteTxnMarkersRequest>(2, &longer).await;
    answer.markers[0].topics[0].partitions[0].error_code
}

async fn described(client: &mut Client) -> DescribeProducersResponse {
    let topic = TopicRequest::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    client.call(0, &DescribeProducersRequest::default().with_topics(vec![topic])).await
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_no_coordinator_knows_is_found_and_ended_by_tools() {
    let (world, mut client) = world().await;
    // As a coordinator's memory that is lost leaves it.
    let (id, epoch) = (client.producer_id().await, 3);
    let hanging = Tx { name: "lost".to_owned(), producer_id: id, epoch, sequence: 0 };
    let batch = hanging.batch(&["hangs"]);
    let header = braid_protocol::records::BatchHeader::parse(&batch).unwrap();
    let queue = world.node.metadata.image().topic("t").unwrap().partition(0).unwrap().queue;
    world.node.partitions.append_own(queue, &batch, &header).unwrap();
    let mut other = Tx::begin(&mut client, "tx").await;
    other.write(&mut client, "held up").await;
    other.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await, (vec![], 0));
    let state = |answer: &DescribeProducersResponse| {
        let producers = &answer.topics[0].partitions[0].active_producers;
        let it = producers.iter().find(|it| it.producer_id.0 == id).unwrap();
        (it.producer_epoch, it.coordinator_epoch, it.current_txn_start_offset)
    };
    assert_eq!(state(&described(&mut client).await), (3, -1, 0));
    assert_eq!(mark(&mut client, 1, &marker(id, 2, false)).await, INVALID_PRODUCER_EPOCH);
    let zombie = {
        let mut request = marker(id, 3, false);
        request.markers[0].coordinator_epoch = -1;
        request
    };
    assert_eq!(mark(&mut client, 1, &zombie).await, 52, "a coordinator of before");
    // By the rules of transaction.version 2 an end raises the epoch.
    assert_eq!(mark_v2(&mut client, 2, &marker(id, 3, false)).await, INVALID_PRODUCER_EPOCH);
    assert_eq!(committed(&mut client, "t").await, (vec![], 0));
    assert_eq!(mark_v2(&mut client, 0, &marker(id, 3, false)).await, NONE);
    assert_eq!(committed(&mut client, "t").await.0, ["held up"]);
    assert_eq!(state(&described(&mut client).await), (3, 0, -1));
    assert_eq!(mark_v2(&mut client, 2, &marker(id, 3, false)).await, NONE, "sent again");
    assert_eq!(mark_v2(&mut client, 2, &marker(id, 4, false)).await, NONE);
    assert_eq!(state(&described(&mut client).await), (4, 0, -1));
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    assert_eq!(state(&described(&mut client).await), (4, 0, -1));
    assert_eq!(committed(&mut client, "t").await.0, ["held up"]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_transaction_a_tool_aborts_is_not_torn_from_the_others() {
    let (_world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    let other = tx.clone();
    tx.write(&mut client, "a").await;
    assert_eq!(other.clone().try_write_to(&mut client, 12, "u", "a").await, NONE);
    assert_eq!(
        mark(&mut client, 1, &marker(tx.producer_id, tx.epoch, true)).await,
        INVALID_TXN_STATE
    );
    assert_eq!(mark(&mut client, 1, &marker(tx.producer_id, tx.epoch, false)).await, NONE);
    // The producer learns of it, and nothing of the transaction can be committed any more.
    assert_eq!(tx.try_write(&mut client, 12, "b").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(tx.try_end(&mut client, 4, true).await, PRODUCER_FENCED);
    for topic in ["t", "u"] {
        assert_eq!(committed(&mut client, topic).await, (vec![], 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_marker_of_a_tool_with_an_epoch_far_ahead_keeps_no_transaction_from_its_end() {
    let (_world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    let ahead = marker(tx.producer_id, 100, false);
    assert_eq!(mark(&mut client, 1, &ahead).await, NONE);
    assert_eq!(tx.clone().try_write(&mut client, 12, "a").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(tx.try_write_to(&mut client, 12, "u", "a").await, NONE);
    assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "u").await.0, ["a"]);
    assert_eq!(committed(&mut client, "t").await, (vec![], 1));
}

#[tokio::test(start_paused = true)]
async fn a_member_whose_group_rebalances_may_commit_in_its_transaction() {
    let (_world, mut client) = world().await;
    let tx = Tx::begin(&mut client, "tx").await;
    let answer = client.call(5, &groups::join_as(5, "g", "")).await;
    let member = answer.member_id.as_str().to_owned();
    let joined = client.call(5, &groups::join_as(5, "g", &member)).await;
    assert_eq!(joined.error_code, NONE);
    // It has not synced yet: a plain commit has to wait, and this one is not told so, since its
    // clients take that for final.
    let plain = client.call(7, &groups::commit("g", Some(&joined), 5)).await;
    assert_eq!(plain.topics[0].partitions[0].error_code, 27);
    let of = |generation: i32, member: &str| {
        tx.offsets(5).with_generation_id(generation).with_member_id(text(member))
    };
    let mut code = async |request: TxnOffsetCommitRequest| {
        client.call(5, &request).await.topics[0].partitions[0].error_code
    };
    assert_eq!(code(of(joined.generation_id, &member)).await, NONE);
    assert_eq!(code(of(joined.generation_id + 1, &member)).await, 22, "ILLEGAL_GENERATION");
    assert_eq!(code(of(joined.generation_id, "nobody")).await, 25, "UNKNOWN_MEMBER_ID");
    let elsewhere = of(7, &member).with_group_id(GroupId(text("nowhere")));
    assert_eq!(code(elsewhere).await, 22);
    let instance = of(joined.generation_id, &member).with_group_instance_id(Some(text("unknown")));
    assert_eq!(code(instance).await, 25);
}

#[tokio::test(start_paused = true)]
async fn a_later_plain_commit_is_not_undone_by_a_transaction_with_older_offsets() {
    let (mut world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    assert_eq!(tx.commit_offset(&mut client, 5, 50).await, NONE);
    let commit = |partition, offset| {
        let part = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![part]);
        OffsetCommitRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic])
    };
    let answer = client.call(7, &commit(0, 100)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, NONE);
    assert_eq!(stable_offset(&mut client).await, (100, NONE), "nothing is pending any more");
    world = world.kill_and_restart().await;
    client = world.client().await;
    tx.end(&mut client, true).await;
    assert_eq!(stable_offset(&mut client).await, (100, NONE));
    // What comes after it counts.
    assert_eq!(tx.commit_offset(&mut client, 5, 60).await, NONE);
    tx.end(&mut client, true).await;
    assert_eq!(stable_offset(&mut client).await, (60, NONE));
    drop(world);
}

/// A commit that does not know of older offsets in a transaction would be undone by its end.
#[tokio::test(start_paused = true)]
async fn no_plain_commit_is_taken_before_the_transactions_are_read_back() {
    let (world, mut client) = world().await;
    let tx = Tx::begin(&mut client, "tx-to-be-read").await;
    assert_eq!(tx.commit_offset(&mut client, 5, 50).await, NONE);
    let (path, at) = super::disk::find_bytes(&world, b"tx-to-be-read");
    world.sim.fs.flip_bit(&path, at, 0).unwrap();
    let world = world.kill_and_restart().await;
    let mut client = world.client().await;
    while !groups::are_loaded(&mut client, "g").await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = client.call(7, &groups::commit("g", None, 100)).await;
    let code = answer.topics[0].partitions[0].error_code;
    assert_eq!(code, 14, "COORDINATOR_LOAD_IN_PROGRESS");
}

/// TxnOffsetCommit v6 of one partition.
fn by_id(tx: &Tx, topic: uuid::Uuid, partition: i32, offset: i64) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_slice(b"\x03tx\x02g");
    body.put_i64(tx.producer_id);
    body.put_i16(tx.epoch);
    body.put_i32(-1);
    body.put_slice(b"\x01\x00\x02");
    body.put_slice(topic.as_bytes());
    body.put_u8(2);
    body.put_i32(partition);
    body.put_i64(offset);
    body.put_i32(-1);
    body.put_slice(b"\x00\0\0\0");
    body
}

#[tokio::test(start_paused = true)]
async fn offsets_in_a_transaction_may_name_their_topic_by_id() {
    let world = World::start().await;
    let mut client = world.client().await;
    let topic = client.create("t", 1, &[]).await;
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    client.call(4, &find).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    for (asked, partition, code) in
        [(topic, 0, NONE), (topic, 1, 3), (uuid::Uuid::from_u128(5), 0, 100)]
    {
        let body = by_id(&tx, asked, partition, 12);
        let (key, header) =
            (TxnOffsetCommitRequest::KEY, TxnOffsetCommitRequest::header_version(6));
        client.send_body(key, 6, header, &body).await;
        let mut frame = client.receive_frame().await.unwrap();
        let _header = kafka_protocol::messages::ResponseHeader::decode(
            &mut frame,
            TxnOffsetCommitResponse::header_version(5),
        )
        .unwrap();
        let mut expected = BytesMut::new();
        expected.put_slice(&[0, 0, 0, 0, 2]);
        expected.put_slice(asked.as_bytes());
        expected.put_u8(2);
        expected.put_i32(partition);
        expected.put_i16(code);
        expected.put_slice(&[0, 0, 0]);
        assert_eq!(&frame[..], &expected[..]);
    }
    // Its answers were read past the client's count.
    let mut client = world.client().await;
    tx.end(&mut client, true).await;
    assert_eq!(stable_offset(&mut client).await, (12, NONE));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_could_not_be_ended_any_more_is_not_let_become_so_large() {
    let mut config = config(&[]);
    config.storage.segment_size_bytes = 64 << 10;
    let world = World::start_as(config).await;
    let mut client = world.client().await;
    let many: Vec<CreatableTopic> = vec![super::ask::new_topic("many", 400, &[])];
    let answer = client.call(7, &super::ask::create_topics(many)).await;
    assert_eq!(answer.topics[0].error_code, NONE);
    let mut tx = Tx::begin(&mut client, "tx").await;
    let mut added = 0;
    for partition in 0..400 {
        tx.sequence = 0;
        let request =
            produce("many", partition, tx.batch(&["x"])).with_transactional_id(Some(id("tx")));
        let answer = client.call(12, &request).await;
        match produced(&answer).error_code {
            NONE => added += 1,
            code => {
                assert_eq!(code, INVALID_TXN_STATE);
                break;
            }
        }
    }
    assert!((100..400).contains(&added), "{added}");
    tx.end(&mut client, true).await;
    for partition in [0, added - 1] {
        let request = super::ask::fetch("many", partition, 0).with_isolation_level(1);
        let answer = client.call(12, &request).await;
        assert_eq!(answer.responses[0].partitions[0].last_stable_offset, 2);
    }
}

/// Where readers of committed records stop, and the void transactions in what they get.
async fn told(client: &mut Client, from: i64) -> (i64, Vec<(i64, i64)>) {
    let request = super::ask::fetch("t", 0, from).with_isolation_level(1);
    let answer = client.call(12, &request).await;
    let part = &answer.responses[0].partitions[0];
    assert_eq!(part.error_code, NONE);
    let void = part.aborted_transactions.iter().flatten();
    (part.last_stable_offset, void.map(|it| (it.producer_id.0, it.first_offset)).collect())
}

#[tokio::test(start_paused = true)]
async fn what_transactions_amount_to_is_known_after_a_start_that_reads_little() {
    let (mut world, mut client) = world().await;
    let value = "x".repeat(20_000);
    let mut tx = Tx::begin(&mut client, "tx").await;
    let mut open = Tx::begin(&mut client, "open").await;
    for n in 0..400 {
        if n == 390 {
            open.write(&mut client, "open").await;
        }
        tx.write(&mut client, &value).await;
        tx.end(&mut client, n % 2 == 0).await;
    }
    let questions = [0, 100, 401, 700, 779, 780];
    let mut before = Vec::new();
    for from in questions {
        before.push(told(&mut client, from).await);
    }
    assert!(before.iter().all(|(stable, _)| *stable == 780), "{before:?}");
    assert!(before[0].1.len() > 10 && before[5].1.is_empty());
    for life in 0..4 {
        let used = world.sim.fs.used_bytes();
        assert!(used > 8 << 20, "{used}");
        let read_before = if life % 2 == 0 { 0 } else { world.sim.fs.bytes_read() };
        world = if life % 2 == 0 { world.kill_and_restart().await } else { world.restart().await };
        let read = world.sim.fs.bytes_read() - read_before;
        assert!(read < 3 << 20, "{read} of {used} bytes were read to start");
        client = world.client().await;
        for (from, before) in questions.into_iter().zip(&before) {
            assert_eq!(&told(&mut client, from).await, before, "life {life}, from {from}");
        }
    }
    open.end(&mut client, true).await;
    assert_eq!(told(&mut client, 780).await.0, 802);
    // An idempotent retry of what was written long before the starts is one still.
    let again = Tx { sequence: 0, epoch: open.epoch - 1, ..open.clone() };
    let answer = client.call(12, &again.produce("t", "open")).await;
    assert_eq!(produced(&answer).error_code, INVALID_PRODUCER_EPOCH);
}

#[tokio::test(start_paused = true)]
async fn undecided_records_are_not_found_by_time_by_readers_of_committed_ones() {
    let (_world, mut client) = world().await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    for (timestamp, committed, offset) in [
        (-3, false, 0),
        (-3, true, -1),
        (0, false, 0),
        (0, true, -1),
        (-1, true, 0),
        (-1, false, 1),
    ] {
        let isolation_level = i8::from(committed);
        let request = super::offsets::ask("t", 0, timestamp).with_isolation_level(isolation_level);
        let answer = client.call(7, &request).await;
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.error_code, found.offset), (NONE, offset), "{timestamp} {committed}");
    }
}
