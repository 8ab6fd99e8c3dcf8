//! Requests of transactions that arrive late, twice, or in another order than they were sent
//! (KAFKA-17754): none of them joins or decides another transaction than its own.
//!
//! Up to EndTxn v4 the requests of one transaction and the next are the same to the bit, so there
//! some order of arrival cannot be told from what the producer wants; the cases here are those that
//! can be, which are all for newer clients.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::Request;

use super::ask::text;
use super::client::Client;
use super::transactions::{
    INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE, NONE, Tx, committed, stable_offset,
};
use super::world::World;

const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const TRANSACTION_ABORTABLE: i16 = 120;

/// A request on its way.
#[derive(Debug, Clone)]
struct Saved {
    key: i16,
    version: i16,
    header_version: i16,
    body: Bytes,
}

impl Saved {
    fn of<R: Request>(version: i16, request: &R) -> Self {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        let header_version = R::header_version(version);
        Self { key: R::KEY, version, header_version, body: body.freeze() }
    }

    /// It arrives, and nobody waits for its answer.
    async fn arrive(&self, client: &mut Client) {
        client.send_body(self.key, self.version, self.header_version, &self.body).await;
        assert!(client.receive_frame().await.is_some(), "every request is answered");
    }
}

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// A producer of newer clients, and everything it has ever sent.
struct Run {
    dice: Dice,
    client: Client,
    late: Client,
    tx: Tx,
    sent: Vec<Saved>,
    /// What counts, by topic.
    values: [Vec<String>; 2],
    offset: i64,
}

const TOPICS: [&str; 2] = ["t", "u"];

impl Run {
    async fn start(world: &World, seed: u64) -> Self {
        let mut client = world.client().await;
        for topic in TOPICS {
            client.create(topic, 1, &[]).await;
        }
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
        client.call(4, &find).await;
        let tx = Tx::begin(&mut client, "tx").await;
        let late = world.client().await;
        let (sent, values) = (Vec::new(), [Vec::new(), Vec::new()]);
        Self { dice: Dice(seed), client, late, tx, sent, values, offset: -1 }
    }

    /// Some of what was sent arrives once more, or now.
    async fn disturb(&mut self) {
        for _ in 0..self.dice.below(3) {
            if !self.sent.is_empty() {
                let at = self.dice.below(self.sent.len());
                self.sent[at].clone().arrive(&mut self.late).await;
            }
        }
    }

    /// One transaction; a producer whose request is lost gives up and begins anew.
    async fn transaction(&mut self, number: usize) {
        let mut written: [Vec<String>; 2] = [Vec::new(), Vec::new()];
        let mut offset = None;
        for step in 0..self.dice.below(5) {
            self.disturb().await;
            let topic = self.dice.below(2);
            if self.dice.below(4) == 0 {
                let new = i64::try_from(number * 10 + step).unwrap();
                self.sent.push(Saved::of(5, &self.tx.offsets(new)));
                assert_eq!(self.tx.commit_offset(&mut self.client, 5, new).await, NONE);
                offset = Some(new);
                continue;
            }
            let value = format!("{number}-{step}");
            self.tx.sequence = i32::try_from(written[topic].len()).unwrap();
            let request = self.tx.produce(TOPICS[topic], &value);
            self.sent.push(Saved::of(12, &request));
            if self.dice.below(10) == 0 {
                // It is on its way for long.
                return self.give_up().await;
            }
            for _ in 0..=self.dice.below(2) {
                let sequence = self.tx.sequence;
                let code = self.tx.try_write_to(&mut self.client, 12, TOPICS[topic], &value).await;
                assert_eq!(code, NONE);
                self.tx.sequence = sequence;
            }
            written[topic].push(value);
        }
        self.disturb().await;
        let commits = self.dice.below(2) == 0;
        let has_begun = written.iter().any(|it| !it.is_empty()) || offset.is_some();
        if !has_begun && commits {
            // Clients have nothing to say then.
            return;
        }
        let end = self.tx.end_txn(commits);
        self.sent.push(Saved::of(5, &end));
        match self.dice.below(4) {
            0 => return self.give_up().await,
            1 => self.sent[self.sent.len() - 1].clone().arrive(&mut self.late).await,
            _ => {}
        }
        self.tx.end(&mut self.client, commits).await;
        if commits {
            for (all, new) in self.values.iter_mut().zip(written) {
                all.extend(new);
            }
            self.offset = offset.unwrap_or(self.offset);
        }
    }

    async fn give_up(&mut self) {
        self.tx = Tx::begin(&mut self.client, "tx").await;
    }

    async fn check(&mut self) {
        for (topic, expected) in TOPICS.iter().zip(&self.values) {
            let (seen, stable) = committed(&mut self.client, topic).await;
            assert_eq!(&seen, expected, "{topic}");
            let answer = self.client.fetch(topic, 0, 0).await;
            assert_eq!(stable, answer.high_watermark, "nothing of {topic} is undecided");
        }
        assert_eq!(stable_offset(&mut self.client).await, (self.offset, NONE));
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_arrives_late_twice_or_out_of_order_is_part_of_its_own_transaction_alone() {
    for seed in 0..60 {
        let world = World::start().await;
        let mut run = Run::start(&world, seed).await;
        for number in 0..12 {
            run.transaction(number).await;
        }
        run.give_up().await;
        for _ in 0..100 {
            run.disturb().await;
        }
        run.check().await;
    }
}

/// An old client: partitions are added, and epochs stay.
async fn old(world: &World) -> (Client, Tx) {
    let mut client = world.client().await;
    for topic in TOPICS {
        client.create(topic, 1, &[]).await;
    }
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    client.call(4, &find).await;
    let tx = Tx::begin(&mut client, "tx").await;
    (client, tx)
}

#[tokio::test(start_paused = true)]
async fn a_late_batch_of_an_old_client_is_in_no_transaction_but_its_own() {
    for commits in [true, false] {
        for version in [3, 9, 11] {
            let world = World::start().await;
            let (mut client, mut tx) = old(&world).await;
            assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
            let mut late = tx.clone();
            assert_eq!(tx.try_write(&mut client, version, "a").await, NONE);
            // Twice within its transaction: known, and stored once.
            assert_eq!(late.clone().try_write(&mut client, version, "a").await, NONE);
            assert_eq!(tx.try_end(&mut client, 3, commits).await, NONE);
            let not_in_it = if version < 11 { INVALID_TXN_STATE } else { TRANSACTION_ABORTABLE };
            let refused = late.try_write(&mut client, version, "a").await;
            assert_eq!(refused, not_in_it, "there is no transaction");
            // The next one has other partitions.
            assert_eq!(tx.add(&mut client, 3, "u").await, NONE);
            assert_eq!(late.try_write(&mut client, version, "a").await, not_in_it);
            // And then the same: it must not be taken for part of this one, nor told so.
            assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
            let refused = late.try_write(&mut client, version, "a").await;
            assert_eq!(refused, OUT_OF_ORDER_SEQUENCE_NUMBER);
            assert_eq!(tx.try_write(&mut client, version, "b").await, NONE);
            let refused = late.try_write(&mut client, version, "a").await;
            assert_eq!(refused, OUT_OF_ORDER_SEQUENCE_NUMBER);
            assert_eq!(tx.try_end(&mut client, 3, true).await, NONE);
            let expected: &[&str] = if commits { &["a", "b"] } else { &["b"] };
            assert_eq!(committed(&mut client, "t").await.0, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn late_requests_of_an_old_client_with_nothing_under_way_change_nothing() {
    let world = World::start().await;
    let (mut client, mut tx) = old(&world).await;
    for version in 0..=4 {
        let commits = version % 2 == 0;
        assert_eq!(tx.add(&mut client, version.min(3), "t").await, NONE);
        assert_eq!(client.call(version.min(3), &tx.add_offsets()).await.error_code, NONE);
        assert_eq!(tx.commit_offset(&mut client, version, i64::from(version)).await, NONE);
        let late_write = tx.clone();
        assert_eq!(tx.try_write(&mut client, 9, &version.to_string()).await, NONE);
        assert_eq!(tx.try_end(&mut client, version, commits).await, NONE);
        // An end that comes again is answered as before, and the opposite end is refused.
        for _ in 0..2 {
            assert_eq!(tx.try_end(&mut client, version, commits).await, NONE);
            assert_eq!(tx.try_end(&mut client, version, !commits).await, INVALID_TXN_STATE);
            assert_ne!(tx.commit_offset(&mut client, version, 99).await, NONE);
            assert_eq!(
                late_write.clone().try_write(&mut client, 9, "late").await,
                INVALID_TXN_STATE
            );
        }
    }
    assert_eq!(committed(&mut client, "t").await.0, ["0", "2", "4"]);
    assert_eq!(stable_offset(&mut client).await, (4, NONE));
    // A late addition holds nobody up: it has no records, and is void in the end.
    assert_eq!(tx.add(&mut client, 3, "t").await, NONE);
    let (seen, stable) = committed(&mut client, "t").await;
    assert_eq!((seen.len(), stable), (3, client.fetch("t", 0, 0).await.high_watermark));
    let mut next = Tx::begin(&mut client, "tx").await;
    next.write(&mut client, "5").await;
    next.end(&mut client, true).await;
    assert_eq!(committed(&mut client, "t").await.0, ["0", "2", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_epochs_later_batch_does_not_overtake_its_first() {
    let world = World::start().await;
    let (mut client, mut tx) = old(&world).await;
    for _ in 0..2 {
        let (mut first, mut second) = (tx.clone(), tx.clone());
        second.sequence = 1;
        let refused = second.try_write(&mut client, 12, "second").await;
        assert_eq!(refused, OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(first.try_write(&mut client, 12, "first").await, NONE);
        assert_eq!(second.try_write(&mut client, 12, "second").await, NONE);
        tx.end(&mut client, true).await;
    }
    assert_eq!(committed(&mut client, "t").await.0, ["first", "second", "first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_zombies_batch_is_refused_by_the_partition_even_without_its_transactional_id() {
    let world = World::start().await;
    let (mut client, mut zombie) = old(&world).await;
    zombie.write(&mut client, "z").await;
    let _new = Tx::begin(&mut client, "tx").await;
    let (id, epoch, sequence) = (zombie.producer_id, zombie.epoch, zombie.sequence);
    let batch = super::ask::stamped(id, epoch, sequence, &["outside of any transaction"]);
    assert_eq!(client.refused("t", 0, batch).await, INVALID_PRODUCER_EPOCH);
    assert_eq!(committed(&mut client, "t").await.0, Vec::<String>::new());
}
