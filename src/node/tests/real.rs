//! The broker on the real machine: threads, files and sockets, many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};

use super::ask::{batch, fetch, produce, produced, stamped};
use super::client::Client;
use super::groups::{are_loaded, commit, committed, find};
use super::world::config;
use crate::config::Config;
use crate::env::rng::SeededRng;
use crate::env::{Env, Rng, real};
use crate::node::Node;

const CLIENTS: usize = 4;
const FLIGHTS: usize = 15;
const FLIGHT: usize = 40;

struct Machine {
    env: Env,
    config: Config,
    _dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        // The records of the tests are stamped with a time long ago.
        let mut config = config(&[("log.dir", path), ("log.retention.ms", "-1")]);
        config.storage.segment_size_bytes = 1 << 20;
        Self { env: real::env(), config, _dir: dir }
    }

    async fn start(&self) -> Node {
        Node::start(self.env.clone(), self.config.clone()).await.expect("the broker starts")
    }

    async fn client(&self, node: &Node) -> Client {
        Client::connect(&self.env, &node.addresses()[0].to_string()).await
    }
}

/// An idempotent producer on a partition of its own, with many requests in flight.
async fn produce_many(mut client: Client, partition: i32, flights: usize) -> Client {
    let id = client.producer_id().await;
    let mut sequence = 0;
    for _ in 0..flights {
        for n in 0..FLIGHT {
            let value = format!(
                "{partition} {} {}",
                sequence + i32::try_from(n).unwrap(),
                "x".repeat(n * 50)
            );
            let records = stamped(id, 0, sequence + i32::try_from(n).unwrap(), &[&value]);
            client.send(9, &produce("t", partition, records)).await;
        }
        for n in 0..FLIGHT {
            let answer = client.receive::<ProduceRequest>(9).await;
            let part: &PartitionProduceResponse = produced(&answer);
            let offset = i64::from(sequence) + i64::try_from(n).unwrap();
            assert_eq!((part.error_code, part.base_offset), (0, offset));
        }
        sequence += i32::try_from(FLIGHT).unwrap();
    }
    client
}

/// Follows a partition with long polls until it has seen so many records.
async fn consume(mut client: Client, partition: i32, records: usize) {
    let mut next = 0;
    while next < i64::try_from(records).unwrap() {
        let request = fetch("t", partition, next).with_max_wait_ms(10_000);
        let answer = client.call(12, &request).await;
        let part = &answer.responses[0].partitions[0];
        assert_eq!(part.error_code, 0);
        for (offset, value) in super::ask::records(part) {
            if offset >= next {
                assert_eq!(offset, next);
                assert!(value.starts_with(&format!("{partition} {offset} ")), "{value}");
                next += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_are_served_at_once_and_all_of_it_survives_a_restart() {
    let machine = Machine::new();
    let node = machine.start().await;
    let mut client = machine.client(&node).await;
    find(&mut client).await;
    client.create("t", i32::try_from(CLIENTS).unwrap(), &[]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..i32::try_from(CLIENTS).unwrap() {
        let (producer, consumer) = (machine.client(&node).await, machine.client(&node).await);
        tasks.spawn(async move { drop(produce_many(producer, partition, FLIGHTS).await) });
        tasks.spawn(consume(consumer, partition, FLIGHT * FLIGHTS));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let answer = client.call(7, &commit("g", None, 9)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    drop(client);
    node.stop().await;

    let node = machine.start().await;
    let second = Node::start(machine.env.clone(), machine.config.clone()).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    let mut client = machine.client(&node).await;
    for partition in 0..i32::try_from(CLIENTS).unwrap() {
        assert_eq!(client.read("t", partition, 0).await.len(), FLIGHT * FLIGHTS);
    }
    while !are_loaded(&mut client, "g").await {}
    assert_eq!(committed(&mut client, "g").await, 9);
    drop(client);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_amid_traffic_loses_nothing_that_was_answered() {
    let machine = Machine::new();
    let mut kept = 0;
    for round in 0..3 {
        let node = machine.start().await;
        let mut client = machine.client(&node).await;
        if round == 0 {
            client.create("t", 1, &[]).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let mut producer = machine.client(&node).await;
            tasks.spawn(async move {
                for n in 0..FLIGHT * 10 {
                    producer.send(9, &produce("t", 0, batch(&[&format!("{n}")]))).await;
                }
                let mut answered = 0_usize;
                while let Some(answer) = producer.try_receive::<ProduceRequest>(9).await {
                    assert_eq!(produced(&answer).error_code, 0);
                    answered += 1;
                }
                answered
            });
        }
        // The stop comes when the traffic has begun.
        while client.fetch("t", 0, 0).await.high_watermark < i64::try_from(kept).unwrap() + 50 {}
        drop(client);
        node.stop().await;
        while let Some(answered) = tasks.join_next().await {
            kept += answered.unwrap();
        }
        let node = machine.start().await;
        let mut client = machine.client(&node).await;
        let stored = client.read("t", 0, 0).await.len();
        assert!(stored >= kept, "{stored} of {kept} answered records are there");
        kept = stored;
        drop(client);
        node.stop().await;
    }
}

/// A number below `end`.
fn below(chance: &dyn Rng, end: usize) -> usize {
    usize::try_from(chance.next_u64() % end as u64).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_come_and_go_under_traffic() {
    const TOPICS: usize = 3;
    let machine = Arc::new(Machine::new());
    let node = machine.start().await;
    let address = node.addresses()[0].to_string();
    let done = Arc::new(AtomicBool::new(false));
    let mut traffic = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS as u64 {
        let (machine, address, done) = (Arc::clone(&machine), address.clone(), Arc::clone(&done));
        traffic.spawn(async move {
            let chance = SeededRng::from_seed(seed);
            let mut client = Client::connect(&machine.env, &address).await;
            let mut stored = 0;
            while !done.load(Ordering::Relaxed) {
                let name = format!("t{}", below(&chance, TOPICS));
                for _ in 0..10 {
                    client.send(9, &produce(&name, 0, batch(&["value"]))).await;
                }
                client.send(12, &fetch(&name, 0, 0).with_max_wait_ms(5)).await;
                for _ in 0..10 {
                    let answer = client.receive::<ProduceRequest>(9).await;
                    let code = produced(&answer).error_code;
                    assert!([0, 3].contains(&code), "{code}");
                    stored += usize::from(code == 0);
                }
                let answer = client.receive::<FetchRequest>(12).await;
                let part = &answer.responses[0].partitions[0];
                assert!([0, 3].contains(&part.error_code), "{}", part.error_code);
                let offsets: Vec<_> = super::ask::records(part).iter().map(|(o, _)| *o).collect();
                let dense: Vec<_> = (0..).take(offsets.len()).collect();
                assert_eq!(offsets, dense, "a topic made anew begins at 0");
            }
            stored
        });
    }
    let mut client = machine.client(&node).await;
    for round in 0..60 {
        let name = format!("t{}", round % TOPICS);
        client.create(&name, 1, &[]).await;
        client.produce(&name, 0, batch(&["mine"])).await;
        super::life::delete(&mut client, &name).await;
        assert_eq!(client.refused(&name, 0, batch(&["late"])).await, 3);
    }
    done.store(true, Ordering::Relaxed);
    let stored: usize = traffic.join_all().await.into_iter().sum();
    assert!(stored > 0, "the traffic met no topic");
    drop(client);
    node.stop().await;
    let node = machine.start().await;
    assert_eq!(node.partitions.queues(), [], "no queue without a topic is left");
    node.stop().await;
}
