//! Kafka transactions from outside: old and new protocol, crashes between, zombies, offsets.

use braid_protocol::records::{BatchSpec, Producer};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DescribeProducersRequest,
    DescribeTransactionsRequest, EndTxnRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, ListTransactionsRequest, OffsetFetchRequest, ProduceRequest, ProducerId,
    TransactionalId, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use tokio::time::Duration;

use super::ask::{batch_of, batches, fetch, produce, produced, records, text, topic_name};
use super::client::Client;
use super::world::World;

pub(super) const NONE: i16 = 0;
pub(super) const INVALID_PRODUCER_EPOCH: i16 = 47;
pub(super) const INVALID_TXN_STATE: i16 = 48;
pub(super) const UNSTABLE_OFFSET_COMMIT: i16 = 88;
pub(super) const PRODUCER_FENCED: i16 = 90;

pub(super) fn id(name: &str) -> TransactionalId {
    TransactionalId(text(name))
}

/// A transactional producer as its client library keeps it.
#[derive(Debug, Clone)]
pub(super) struct Tx {
    pub(super) name: String,
    pub(super) producer_id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

impl Tx {
    pub(super) async fn begin(client: &mut Client, name: &str) -> Self {
        let find = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![text(name)]);
        let found = client.call(6, &find).await;
        assert_eq!(found.coordinators[0].error_code, NONE, "{:?}", found.coordinators[0]);
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(id(name)))
            .with_transaction_timeout_ms(60_000);
        let answer = client.call(5, &init).await;
        assert_eq!(answer.error_code, NONE);
        let (producer_id, epoch) = (answer.producer_id.0, answer.producer_epoch);
        Self { name: name.to_owned(), producer_id, epoch, sequence: 0 }
    }

    pub(super) fn batch(&self, values: &[&str]) -> Bytes {
        let (id, epoch, base_sequence) = (self.producer_id, self.epoch, self.sequence);
        let producer = Some(Producer { id, epoch, base_sequence });
        batch_of(BatchSpec { producer, transactional: true, ..BatchSpec::default() }, values)
    }

    /// The request that writes a value.
    pub(super) fn produce(&self, topic: &str, value: &str) -> ProduceRequest {
        produce(topic, 0, self.batch(&[value])).with_transactional_id(Some(id(&self.name)))
    }

    /// The request that ends the transaction.
    pub(super) fn end_txn(&self, commits: bool) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(id(&self.name))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_committed(commits)
    }

    /// The request that adds the group `g`, for old clients.
    pub(super) fn add_offsets(&self) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(id(&self.name))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_group_id(GroupId(text("g")))
    }

    /// The code of a produce.
    pub(super) async fn try_write(
        &mut self,
        client: &mut Client,
        version: i16,
        value: &str,
    ) -> i16 {
        self.try_write_to(client, version, "t", value).await
    }

    pub(super) async fn try_write_to(
        &mut self,
        client: &mut Client,
        version: i16,
        topic: &str,
        value: &str,
    ) -> i16 {
        let answer = client.call(version, &self.produce(topic, value)).await;
        let part = produced(&answer);
        if part.error_code == NONE {
            self.sequence += 1;
        }
        part.error_code
    }

    pub(super) async fn write(&mut self, client: &mut Client, value: &str) {
        assert_eq!(self.try_write(client, 12, value).await, NONE);
    }

    /// The code of an end; a raised epoch is taken over.
    pub(super) async fn try_end(
        &mut self,
        client: &mut Client,
        version: i16,
        commits: bool,
    ) -> i16 {
        let answer = client.call(version, &self.end_txn(commits)).await;
        if answer.error_code == NONE && version >= 5 {
            self.producer_id = answer.producer_id.0;
            self.epoch = answer.producer_epoch;
            self.sequence = 0;
        }
        answer.error_code
    }

    pub(super) async fn end(&mut self, client: &mut Client, commits: bool) {
        assert_eq!(self.try_end(client, 5, commits).await, NONE);
    }

    /// The request that adds partition 0 of each topic, for old clients.
    pub(super) fn add_partitions(&self, topics: &[&str]) -> AddPartitionsToTxnRequest {
        let topics = topics.iter().map(|topic| {
            let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(topic));
            topic.with_partitions(vec![0])
        });
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id(&self.name))
            .with_v3_and_below_producer_id(ProducerId(self.producer_id))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(topics.collect())
    }

    pub(super) async fn add(&self, client: &mut Client, version: i16, topic: &str) -> i16 {
        let answer = client.call(version, &self.add_partitions(&[topic])).await;
        answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    pub(super) fn offsets(&self, offset: i64) -> TxnOffsetCommitRequest {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("note")));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(id(&self.name))
            .with_group_id(GroupId(text("g")))
            .with_producer_id(ProducerId(self.producer_id))
            .with_producer_epoch(self.epoch)
            .with_topics(vec![topic])
    }

    pub(super) async fn commit_offset(
        &self,
        client: &mut Client,
        version: i16,
        offset: i64,
    ) -> i16 {
        let answer = client.call(version, &self.offsets(offset)).await;
        answer.topics[0].partitions[0].error_code
    }
}

/// What a reader of committed records sees, reading as clients do; and where it stops.
pub(super) async fn committed(client: &mut Client, topic: &str) -> (Vec<String>, i64) {
    let request = fetch(topic, 0, 0).with_isolation_level(1);
    let answer = client.call(12, &request).await;
    let part = &answer.responses[0].partitions[0];
    assert_eq!(part.error_code, NONE);
    let mut void: Vec<(i64, i64)> = part
        .aborted_transactions
        .iter()
        .flatten()
        .map(|it| (it.first_offset, it.producer_id.0))
        .collect();
    assert!(void.is_sorted());
    let mut skipped = std::collections::BTreeSet::new();
    let mut seen = Vec::new();
    let values = records(part);
    for (header, _) in batches(part) {
        assert!(header.next_offset() <= part.last_stable_offset);
        void.retain(|(first, producer)| {
            let begins = *first <= header.last_offset();
            if begins {
                skipped.insert(*producer);
            }
            !begins
        });
        if header.is_control() {
            skipped.remove(&header.producer_id);
        } else if !(header.is_transactional() && skipped.contains(&header.producer_id)) {
            let range = header.base_offset..=header.last_offset();
            seen.extend(
                values.iter().filter(|(at, _)| range.contains(at)).map(|(_, value)| value.clone()),
            );
        }
    }
    (seen, part.last_stable_offset)
}

pub(super) async fn stable_offset(client: &mut Client) -> (i64, i16) {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let answer = client.call(9, &request).await;
    assert_eq!(answer.groups[0].error_code, NONE);
    let part = &answer.groups[0].topics[0].partitions[0];
    (part.committed_offset, part.error_code)
}

#[tokio::test(start_paused = true)]
async fn committed_records_are_seen_and_void_ones_are_not_over_crashes() {
    let mut world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    assert_eq!(committed(&mut client, "t").await, (vec![], 0), "open");
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await, (vec!["a".to_owned()], 2));
    tx.write(&mut client, "b").await;
    for life in 0..3 {
        world = if life == 1 { world.restart().await } else { world.kill_and_restart().await };
        client = world.client().await;
        assert_eq!(committed(&mut client, "t").await.1, 2, "the second is open still");
    }
    tx.write(&mut client, "c").await;
    tx.end(&mut client, false).await;
    tx.write(&mut client, "d").await;
    tx.end(&mut client, true).await;
    for life in 0..3 {
        let expected = vec!["a".to_owned(), "d".to_owned()];
        assert_eq!(committed(&mut client, "t").await, (expected, 7), "life {life}");
        world = if life == 1 { world.restart().await } else { world.kill_and_restart().await };
        client = world.client().await;
    }
    let answer = client.fetch("t", 0, 0).await;
    assert_eq!(batches(&answer).len(), 7, "other readers get all of it, markers too");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_or_doubled_request_joins_and_ends_no_other_transaction() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    let mut before = tx.clone();
    tx.end(&mut client, true).await;
    // The end is sent again, its answer was lost: the same answer.
    let mut again = before.clone();
    again.end(&mut client, true).await;
    assert_eq!((again.producer_id, again.epoch), (tx.producer_id, tx.epoch));
    tx.write(&mut client, "b").await;
    // Now they come from the transaction before, late.
    assert_eq!(before.clone().try_end(&mut client, 5, true).await, PRODUCER_FENCED);
    assert_eq!(before.clone().try_end(&mut client, 5, false).await, PRODUCER_FENCED);
    assert_eq!(before.try_write(&mut client, 12, "late").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(before.try_write(&mut client, 11, "late").await, INVALID_PRODUCER_EPOCH);
    tx.end(&mut client, false).await;
    assert_eq!(committed(&mut client, "t").await.0, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_old_client_adds_partitions_first_and_is_verified() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    assert_eq!(tx.try_write(&mut client, 9, "a").await, INVALID_TXN_STATE, "not added");
    for version in 0..=3 {
        assert_eq!(tx.add(&mut client, version, "t").await, NONE, "version {version}");
        assert_eq!(tx.add(&mut client, version, "none").await, 3);
        assert_eq!(tx.add(&mut client, version, "__consumer_offsets").await, 29);
    }
    assert_eq!(tx.try_write(&mut client, 9, "a").await, NONE);
    assert_eq!(tx.try_end(&mut client, 3, true).await, NONE);
    assert_eq!(tx.try_end(&mut client, 3, true).await, NONE, "sent again");
    assert_eq!(tx.try_end(&mut client, 3, false).await, INVALID_TXN_STATE);
    // A late write of the transaction before: its partition is not in the next one.
    assert_eq!(tx.try_write(&mut client, 9, "late").await, INVALID_TXN_STATE);
    assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
    assert_eq!(tx.try_write(&mut client, 9, "b").await, NONE);
    assert_eq!(tx.try_end(&mut client, 0, false).await, NONE);
    assert_eq!(committed(&mut client, "t").await.0, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_fences_the_one_before_and_voids_what_it_left() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut zombie = Tx::begin(&mut client, "tx").await;
    zombie.write(&mut client, "z").await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    assert_eq!((tx.producer_id, tx.epoch), (zombie.producer_id, zombie.epoch + 1));
    assert_eq!(zombie.try_write(&mut client, 12, "z").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(zombie.add(&mut client, 3, "t").await, PRODUCER_FENCED);
    assert_eq!(zombie.add(&mut client, 1, "t").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(zombie.try_end(&mut client, 4, true).await, PRODUCER_FENCED);
    assert_eq!(zombie.try_end(&mut client, 1, true).await, INVALID_PRODUCER_EPOCH);
    assert_eq!(zombie.commit_offset(&mut client, 5, 9).await, INVALID_PRODUCER_EPOCH);
    tx.write(&mut client, "a").await;
    tx.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await.0, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_takes_too_long_is_void_and_its_producer_fenced() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(committed(&mut client, "t").await, (vec![], 0));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(committed(&mut client, "t").await, (vec![], 2));
    assert_eq!(tx.try_write(&mut client, 12, "b").await, INVALID_PRODUCER_EPOCH);
    assert_eq!(tx.try_end(&mut client, 5, true).await, INVALID_TXN_STATE);
}

#[tokio::test(start_paused = true)]
async fn offsets_count_with_their_transaction_and_block_stable_readers_until_then() {
    let mut world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    client.call(4, &find).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    assert_eq!(tx.commit_offset(&mut client, 5, 3).await, NONE);
    assert_eq!(stable_offset(&mut client).await, (-1, UNSTABLE_OFFSET_COMMIT));
    world = world.kill_and_restart().await;
    client = world.client().await;
    assert_eq!(stable_offset(&mut client).await, (-1, UNSTABLE_OFFSET_COMMIT));
    tx.end(&mut client, true).await;
    assert_eq!(stable_offset(&mut client).await, (3, NONE));
    tx.write(&mut client, "x").await;
    assert_eq!(tx.commit_offset(&mut client, 5, 7).await, NONE);
    tx.end(&mut client, false).await;
    world = world.kill_and_restart().await;
    client = world.client().await;
    assert_eq!(stable_offset(&mut client).await, (3, NONE), "void offsets never were");
    // As older clients do it.
    assert_eq!(tx.commit_offset(&mut client, 3, 8).await, INVALID_TXN_STATE);
    assert_eq!(client.call(3, &tx.add_offsets()).await.error_code, NONE);
    assert_eq!(tx.commit_offset(&mut client, 3, 8).await, NONE);
    assert_eq!(tx.try_end(&mut client, 4, true).await, NONE);
    world = world.kill_and_restart().await;
    client = world.client().await;
    assert_eq!(stable_offset(&mut client).await, (8, NONE));
    // A member of another generation may not.
    let zombie = tx.offsets(9).with_generation_id(5).with_member_id(text("m"));
    let answer = client.call(5, &zombie).await;
    assert_ne!(answer.topics[0].partitions[0].error_code, NONE);
    assert_eq!(stable_offset(&mut client).await, (8, NONE));
}

#[tokio::test(start_paused = true)]
async fn tools_see_transactions_and_can_end_one_that_hangs() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("t", 1, &[]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    tx.write(&mut client, "a").await;
    let listed = client.call(2, &ListTransactionsRequest::default().with_duration_filter(-1)).await;
    assert_eq!(listed.transaction_states.len(), 1);
    assert_eq!(&*listed.transaction_states[0].transaction_state, "Ongoing");
    let none = ListTransactionsRequest::default()
        .with_duration_filter(-1)
        .with_transactional_id_pattern(Some(text("other.*")));
    assert!(client.call(2, &none).await.transaction_states.is_empty());
    let describe =
        DescribeTransactionsRequest::default().with_transactional_ids(vec![id("tx"), id("no")]);
    let described = client.call(0, &describe).await.transaction_states;
    assert_eq!(
        (described[0].producer_id.0, described[0].producer_epoch),
        (tx.producer_id, tx.epoch)
    );
    assert_eq!(described[0].topics[0].partitions, [0]);
    assert_eq!(described[1].error_code, 105);
    let topic = TopicRequest::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let producers = DescribeProducersRequest::default().with_topics(vec![topic]);
    let open = |answer: &kafka_protocol::messages::DescribeProducersResponse| {
        answer.topics[0].partitions[0].active_producers[0].current_txn_start_offset
    };
    assert_eq!(open(&client.call(0, &producers).await), 0);
    let abort = |epoch| {
        let topic = WritableTxnMarkerTopic::default()
            .with_name(topic_name("t"))
            .with_partition_indexes(vec![0]);
        WriteTxnMarkersRequest::default().with_markers(vec![
            WritableTxnMarker::default()
                .with_producer_id(ProducerId(tx.producer_id))
                .with_producer_epoch(epoch)
                .with_transaction_result(false)
                .with_topics(vec![topic]),
        ])
    };
    let code = |answer: kafka_protocol::messages::WriteTxnMarkersResponse| {
        answer.markers[0].topics[0].partitions[0].error_code
    };
    assert_eq!(code(client.call(1, &abort(tx.epoch - 1)).await), INVALID_PRODUCER_EPOCH);
    assert_eq!(code(client.call(1, &abort(tx.epoch)).await), NONE);
    assert_eq!(open(&client.call(0, &producers).await), -1);
    assert_eq!(committed(&mut client, "t").await, (vec![], 2));
}

#[tokio::test(start_paused = true)]
async fn topics_of_halves_and_delayed_messages_take_no_kafka_transactions() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.create("d", 1, &[("message.type", "DELAY")]).await;
    client.create("x", 1, &[("message.type", "TRANSACTION")]).await;
    let mut tx = Tx::begin(&mut client, "tx").await;
    for topic in ["d", "x"] {
        assert_eq!(tx.try_write_to(&mut client, 12, topic, "a").await, INVALID_TXN_STATE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_over_partitions_of_many_topics_is_all_or_nothing() {
    let mut world = World::start().await;
    let mut client = world.client().await;
    for topic in ["t", "u", "v"] {
        client.create(topic, 1, &[]).await;
    }
    let mut tx = Tx::begin(&mut client, "tx").await;
    for commits in [true, false, true] {
        for topic in ["t", "u", "v"] {
            // Sequences count per partition.
            let sequence = std::mem::replace(&mut tx.sequence, 0);
            let value = if commits { "yes" } else { "no" };
            assert_eq!(tx.try_write_to(&mut client, 12, topic, value).await, NONE);
            tx.sequence = sequence;
        }
        tx.end(&mut client, commits).await;
        world = world.kill_and_restart().await;
        client = world.client().await;
    }
    for topic in ["t", "u", "v"] {
        assert_eq!(committed(&mut client, topic).await, (vec!["yes".to_owned(); 2], 6));
    }
}
