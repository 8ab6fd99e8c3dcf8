//! Power cuts under a mixed workload of the whole broker: produce with and without idempotence,
//! retries, offset commits, topics that come and go, an orderly stop in between.
//!
//! The workload runs once uncut to count the disk's operations; then it runs again and again with
//! the power cut at one of them, the disk keeping of what was unsynced whatever chance says; or
//! that operation fails. What the next start must show: everything acknowledged is there, in the
//! order sent; of the rest a prefix per partition; retries are told from new batches; offsets and
//! topics are as acknowledged.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    DeleteTopicsRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest,
};
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::ask::{batch, create_topics, new_topic, produce, produced, stamped, text, topic_name};
use super::client::Client;
use super::groups::{commit, committed};
use super::world::{World, config};
use crate::config::Config;
use crate::env::rng::SeededRng;
use crate::env::sim::{self, Fault, SimHandles};
use crate::env::{Env, Rng};

const ROUNDS: i32 = 24;
/// An orderly stop and start comes before this round.
const STOP_BEFORE: i32 = 13;
/// Simulated time after which a broker that says nothing is dead.
const PATIENCE: Duration = Duration::from_secs(600);

/// The broker has died; what was asked last is not acknowledged.
#[derive(Debug)]
struct Dead;

/// What a topic is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Asked,
    Created(Uuid),
    DeletionAsked,
    Deleted,
}

/// Batches of one partition in the order they were sent.
#[derive(Debug, Default)]
struct Sent {
    batches: Vec<Vec<String>>,
    /// So many of them, from the first on, are acknowledged.
    acknowledged: usize,
}

impl Sent {
    fn values(&self, batches: usize) -> Vec<String> {
        self.batches[..batches].concat()
    }

    fn records(&self, batches: usize) -> i64 {
        i64::try_from(self.values(batches).len()).unwrap()
    }
}

/// What the client of the workload knows.
#[derive(Debug, Default)]
struct Known {
    seed: u64,
    topics: BTreeMap<String, Fate>,
    partitions: BTreeMap<(String, i32), Sent>,
    producer: i64,
    /// A batch was sent behind all others to see who is alive.
    alive_sent: bool,
    committed: i64,
    commit_sent: i64,
}

fn crash_config() -> Config {
    let mut config = config(&[("offsets.topic.num.partitions", "1")]);
    config.storage.segment_size_bytes = 16 << 10;
    config
}

async fn answer<R: Request>(
    client: &mut Client,
    version: i16,
    request: &R,
) -> Result<R::Response, Dead> {
    client.send(version, request).await;
    receive::<R>(client, version).await
}

async fn receive<R: Request>(client: &mut Client, version: i16) -> Result<R::Response, Dead> {
    let answer = client.try_receive::<R>(version);
    tokio::time::timeout(PATIENCE, answer).await.ok().flatten().ok_or(Dead)
}

impl Known {
    fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A batch of the idempotent producer, whose sequence is that of its records.
    fn stamped(&self, key: &(String, i32), number: usize) -> Bytes {
        let sent = &self.partitions[key];
        let values: Vec<&str> = sent.batches[number].iter().map(String::as_str).collect();
        let sequence = i32::try_from(sent.records(number)).unwrap();
        stamped(self.producer, 0, sequence, &values)
    }

    async fn create(
        &mut self,
        client: &mut Client,
        name: &str,
        partitions: i32,
    ) -> Result<(), Dead> {
        self.topics.insert(name.to_owned(), Fate::Asked);
        let request = create_topics(vec![new_topic(name, partitions, &[])]);
        let result = answer(client, 7, &request).await?.topics.remove(0);
        if result.error_code != 0 {
            return Err(Dead);
        }
        self.topics.insert(name.to_owned(), Fate::Created(result.topic_id));
        for partition in 0..partitions {
            self.partitions.insert((name.to_owned(), partition), Sent::default());
        }
        Ok(())
    }

    async fn delete(&mut self, client: &mut Client, name: &str) -> Result<(), Dead> {
        self.topics.insert(name.to_owned(), Fate::DeletionAsked);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
        if answer(client, 5, &request).await?.responses[0].error_code != 0 {
            return Err(Dead);
        }
        self.topics.insert(name.to_owned(), Fate::Deleted);
        Ok(())
    }

    /// Sends batches to some partitions in one flight and takes the answers.
    async fn produce(
        &mut self,
        client: &mut Client,
        round: i32,
        keys: &[(String, i32)],
    ) -> Result<(), Dead> {
        for (key, n) in keys.iter().zip(0..) {
            let sent = self.partitions.entry(key.clone()).or_default();
            let number = sent.batches.len();
            let seed = i32::try_from(self.seed).unwrap();
            let size = usize::try_from((round * 37 + n * 211) * seed % 900).unwrap();
            let value =
                |record: i32| format!("{}/{} {number}.{record} {}", key.0, key.1, "x".repeat(size));
            sent.batches.push((0..=(round + n) % 3).map(value).collect());
            let records = if is_idempotent(key) {
                self.stamped(key, number)
            } else {
                let values: Vec<_> =
                    self.partitions[key].batches[number].iter().map(String::as_str).collect();
                batch(&values)
            };
            client.send(9, &produce(&key.0, key.1, records)).await;
        }
        let mut outcome = Ok(());
        for key in keys {
            let response = receive::<kafka_protocol::messages::ProduceRequest>(client, 9).await?;
            let part = produced(&response);
            let sent = self.partitions.get_mut(key).unwrap();
            if part.error_code == 0 && outcome.is_ok() {
                assert_eq!(part.base_offset, sent.records(sent.acknowledged), "{key:?}");
                sent.acknowledged += 1;
            } else if part.error_code == 0 {
                // Durable, though one before it in the log was not? Never.
                panic!("{key:?} was acknowledged after a failure");
            } else {
                outcome = Err(Dead);
            }
        }
        outcome
    }

    /// Sends the last batch of a partition again: it is answered as the first time.
    async fn retry(&self, client: &mut Client, key: &(String, i32)) -> Result<(), Dead> {
        let sent = &self.partitions[key];
        let number = sent.acknowledged - 1;
        let request = produce(&key.0, key.1, self.stamped(key, number));
        let response = answer(client, 9, &request).await?;
        let part = produced(&response);
        if part.error_code != 0 {
            return Err(Dead);
        }
        assert_eq!(part.base_offset, sent.records(number), "a retry of {key:?}");
        Ok(())
    }

    async fn commit(&mut self, client: &mut Client, offset: i64) -> Result<(), Dead> {
        self.commit_sent = offset;
        let response = answer(client, 7, &commit("g", None, offset)).await?;
        // While the groups are read back, a client is told to wait.
        if response.topics[0].partitions[0].error_code == 0 {
            self.committed = offset;
            Ok(())
        } else {
            Err(Dead)
        }
    }
}

fn is_idempotent(key: &(String, i32)) -> bool {
    key.0 == "t"
}

fn key(topic: &str, partition: i32) -> (String, i32) {
    (topic.to_owned(), partition)
}

/// The workload until its end or the broker's. Leaves the broker in `world` while it runs.
async fn work(
    env: Env,
    sim: SimHandles,
    known: &mut Known,
    world: &mut Option<World>,
) -> Result<(), Dead> {
    let mut client = start(env, sim, world).await?;
    known.create(&mut client, "t", 2).await?;
    let init = InitProducerIdRequest::default().with_transactional_id(None);
    known.producer = answer(&mut client, 4, &init).await?.producer_id.0;
    if known.producer < 0 {
        return Err(Dead);
    }
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]);
    if answer(&mut client, 4, &find).await?.coordinators[0].error_code != 0 {
        return Err(Dead);
    }
    for round in 0..ROUNDS {
        if round == STOP_BEFORE {
            drop(client);
            let World { env, sim, node, .. } = world.take().ok_or(Dead)?;
            node.stop().await;
            client = start(env, sim, world).await?;
            wait_for_groups(&mut client).await?;
        }
        let extra = format!("x{}", round / 4);
        match round % 4 {
            0 => known.create(&mut client, &extra, 1).await?,
            3 if round % 8 == 3 => known.delete(&mut client, &extra).await?,
            _ => {}
        }
        let mut keys = vec![key("t", 0), key("t", 1), key("t", 0)];
        if matches!(known.topics.get(&extra), Some(Fate::Created(_))) {
            keys.push(key(&extra, 0));
        }
        known.produce(&mut client, round, &keys).await?;
        known.retry(&mut client, &key("t", round % 2)).await?;
        known.commit(&mut client, i64::from(round) + 1).await?;
    }
    Ok(())
}

async fn start(env: Env, sim: SimHandles, world: &mut Option<World>) -> Result<Client, Dead> {
    let started = World::on(env, sim, crash_config()).await.map_err(|_| Dead)?;
    let client = started.client().await;
    *world = Some(started);
    Ok(client)
}

/// A broker that does not do what it is asked says that it has failed, or does it again soon.
async fn is_alive_or_says_so(world: &World) -> bool {
    let goes_on = async {
        let mut client = world.client().await;
        loop {
            let request = produce("t", 0, batch(&["alive"]));
            match answer(&mut client, 9, &request).await {
                Ok(response) if produced(&response).error_code == 0 => return,
                _ => tokio::time::advance(Duration::from_secs(1)).await,
            }
        }
    };
    let verdict = async {
        tokio::select! {
            failed = world.node.failed() => drop(failed),
            () = goes_on => {}
        }
    };
    !world.sim.fatal().is_empty() || tokio::time::timeout(PATIENCE, verdict).await.is_ok()
}

async fn wait_for_groups(client: &mut Client) -> Result<(), Dead> {
    let read = async { while !super::groups::are_loaded(client, "g").await {} };
    tokio::time::timeout(PATIENCE, read).await.map_err(|_| Dead)
}

/// What the broker must show after the next start, and that it goes on.
async fn check(world: &World, known: &Known, what: &str) {
    let mut client = world.client().await;
    let described = describe(&mut client, known).await;
    for (name, fate) in &known.topics {
        let id = described[name];
        match fate {
            Fate::Asked | Fate::DeletionAsked => {}
            Fate::Created(created) => assert_eq!(id, Some(*created), "{what}: {name}"),
            Fate::Deleted => assert_eq!(id, None, "{what}: {name}"),
        }
    }
    for (key, sent) in &known.partitions {
        if described[&key.0].is_none() {
            continue;
        }
        let read = client.read(&key.0, key.1, 0).await;
        let offsets: Vec<i64> = read.iter().map(|(offset, _)| *offset).collect();
        let dense: Vec<i64> = (0..i64::try_from(read.len()).unwrap()).collect();
        assert_eq!(offsets, dense, "{what}: {key:?}");
        let mut values: Vec<String> = read.into_iter().map(|(_, value)| value).collect();
        if known.alive_sent {
            values.retain(|value| value != "alive");
        }
        let kept = (sent.acknowledged..=sent.batches.len()).find(|n| sent.values(*n) == values);
        assert!(
            kept.is_some(),
            "{what}: {key:?} has {} records; {} of {} batches are acknowledged",
            values.len(),
            sent.acknowledged,
            sent.batches.len()
        );
    }
    let has_producer = known.producer > 0 && !known.alive_sent;
    if matches!(known.topics.get("t"), Some(Fate::Created(_))) && has_producer {
        resume(&mut client, known, what).await;
    }
    if known.committed > 0 {
        wait_for_groups(&mut client).await.expect("groups are read back");
        let offset = committed(&mut client, "g").await;
        let fine = (known.committed..=known.commit_sent).contains(&offset);
        assert!(fine, "{what}: {offset} is committed, {} was acknowledged", known.committed);
    }
    client.create("afterwards", 1, &[]).await;
    assert_eq!(client.produce("afterwards", 0, batch(&["fine"])).await, 0);
    let fresh = client.producer_id().await;
    assert!(fresh != known.producer || known.producer == 0, "{what}: a producer id twice");
    assert_eq!(world.sim.fs.violations(), Vec::<String>::new(), "{what}");
}

/// The producer sends again what it has no answer for, and one batch more.
async fn resume(client: &mut Client, known: &Known, what: &str) {
    for partition in 0..2 {
        let key = key("t", partition);
        let Some(sent) = known.partitions.get(&key) else { continue };
        for number in sent.acknowledged.saturating_sub(1)..sent.batches.len() {
            let offset = client.produce("t", partition, known.stamped(&key, number)).await;
            assert_eq!(offset, sent.records(number), "{what}: {key:?} batch {number} again");
        }
        let read = client.read("t", partition, 0).await;
        let values: Vec<String> = read.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, sent.values(sent.batches.len()), "{what}: {key:?} once each");
    }
}

async fn describe(client: &mut Client, known: &Known) -> BTreeMap<String, Option<Uuid>> {
    let names = known.topics.keys();
    let topics =
        names.map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
    let request = MetadataRequest::default().with_topics(Some(topics.collect()));
    let answer = client.call(12, &request).await;
    let found = answer.topics.iter().map(|topic| {
        let name = topic.name.as_ref().unwrap().as_str().to_owned();
        (name, (topic.error_code == 0).then_some(topic.topic_id))
    });
    found.collect()
}

fn in_simulation<F: Future>(future: F) -> F::Output {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// How many operations the workload takes when nothing goes wrong.
fn operations(seed: u64) -> u64 {
    in_simulation(async {
        let (env, sim) = sim::env(seed);
        let (mut known, mut world) = (Known::of(seed), None);
        work(env, sim.clone(), &mut known, &mut world).await.expect("nothing is cut");
        let operations = sim.fs.operations();
        check(&world.unwrap(), &known, "uncut").await;
        operations
    })
}

/// How a life ends and the next begins.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The power goes, and so does what chance takes of the unsynced.
    Power,
    /// The process alone dies.
    Kill,
    /// One operation of the disk fails; what the broker makes of it is its own business. The power
    /// goes later.
    Fault(Fault),
}

impl End {
    fn plan(self, sim: &SimHandles, operation: u64) {
        match self {
            Self::Power | Self::Kill => sim.fs.cut_at(operation),
            Self::Fault(fault) => sim.fs.fail_at(operation, fault),
        }
    }

    fn next_life(self, sim: &SimHandles, outcome: u64) -> (Env, SimHandles) {
        match self {
            Self::Power | Self::Fault(_) => sim.reboot(outcome),
            Self::Kill => sim.restart(),
        }
    }
}

/// One run that is cut, and perhaps a start after it that is cut as well.
#[derive(Debug, Clone, Copy)]
struct Cut {
    seed: u64,
    operation: u64,
    end: End,
    /// Operation of the next start at which the power goes again.
    again: Option<u64>,
    outcome: u64,
}

impl Cut {
    fn run(self) {
        in_simulation(async {
            let (env, sim) = sim::env(self.seed);
            self.end.plan(&sim, self.operation);
            let (mut known, mut world) = (Known::of(self.seed), None);
            let worked = work(env, sim.clone(), &mut known, &mut world).await;
            if let (Err(Dead), Some(world)) = (worked, &world)
                && matches!(self.end, End::Fault(_))
                && matches!(known.topics.get("t"), Some(Fate::Created(_)))
            {
                assert!(is_alive_or_says_so(world).await, "{self:?}: neither dead nor alive");
                known.alive_sent = true;
            }
            let (mut env, mut sim) = self.end.next_life(&sim, self.outcome);
            sim.fs.clear_faults();
            drop(world);
            if let Some(operation) = self.again {
                sim.fs.cut_at(sim.fs.operations() + operation);
                drop(World::on(env, sim.clone(), crash_config()).await);
                (env, sim) = sim.reboot(self.outcome.rotate_left(32));
            }
            let world = match World::on(env, sim, crash_config()).await {
                Ok(world) => world,
                Err(error) => panic!("{self:?}: {error}"),
            };
            check(&world, &known, &format!("{self:?}")).await;
            // What the check added survives an orderly restart as well.
            let world = world.restart().await;
            let mut client = world.client().await;
            assert_eq!(client.read("afterwards", 0, 0).await.len(), 1, "{self:?}");
        });
    }
}

/// Cuts a seed's workload at every operation, each time with another outcome.
fn cut_everywhere(seed: u64) {
    let all = operations(seed);
    let chance = SeededRng::from_seed(seed);
    // One more than there are: the power goes when everything is done.
    for operation in 1..=all + 1 {
        let draw = chance.next_u64();
        let end = if draw.is_multiple_of(4) { End::Kill } else { End::Power };
        let again = draw.is_multiple_of(3).then_some(1 + draw % 29);
        Cut { seed, operation, end, again, outcome: chance.next_u64() }.run();
    }
    assert!(all > 150, "{all} operations are too few to mean anything");
}

#[test]
fn nothing_acknowledged_is_lost_whichever_operation_fails() {
    let (seed, faults) = (1, [Fault::Eio, Fault::Enospc, Fault::ShortWrite]);
    let chance = SeededRng::from_seed(seed);
    for (operation, fault) in (1..=operations(seed)).zip(faults.into_iter().cycle()) {
        let end = End::Fault(fault);
        Cut { seed, operation, end, again: None, outcome: chance.next_u64() }.run();
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes_1() {
    cut_everywhere(1);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes_2() {
    cut_everywhere(2);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes_3() {
    cut_everywhere(3);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_power_goes_4() {
    cut_everywhere(4);
}
