//! A broker that keeps its promises, with clients that copy in transactions and die: histories that must be found clean,
//! of any size, the same for the same seed. Tests break them on purpose.

use std::collections::BTreeMap;

use crate::history::History;
use crate::op::{F, Isolation, Mode, Op, Record, Role, Type};

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// How many records are written to be copied.
    pub inputs: usize,
    pub partitions: i32,
    /// In per cent of the transactions: aborted, and ended by the death of their client.
    pub aborts: u64,
    pub deaths: u64,
}

/// Where the records to copy are, and where the copies go.
pub const TOPICS: [&str; 2] = ["in", "out"];
const GROUP: &str = "copiers";
const COMMITTED: Isolation = Isolation::ReadCommitted;
const ALL: Isolation = Isolation::ReadUncommitted;

/// What holds a record back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

/// An entry of a partition; a marker has no value.
#[derive(Clone, Debug)]
struct Slot {
    value: Option<String>,
    txn: Option<usize>,
}

/// One partition.
#[derive(Debug, Default)]
struct Log {
    slots: Vec<Slot>,
    /// First offset of each open transaction.
    open: BTreeMap<usize, i64>,
}

fn offset(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

impl Log {
    fn append(&mut self, value: Option<String>, txn: Option<usize>) -> i64 {
        let at = offset(self.slots.len());
        if let (Some(txn), true) = (txn, value.is_some()) {
            self.open.entry(txn).or_insert(at);
        }
        self.slots.push(Slot { value, txn });
        at
    }

    fn end(&self) -> i64 {
        offset(self.slots.len())
    }

    fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end())
    }

    fn read(&self, from: i64, count: usize, isolation: Isolation, txns: &[State]) -> Vec<Record> {
        let until = if isolation == COMMITTED { self.last_stable() } else { self.end() };
        let range = usize::try_from(from).unwrap_or(0)..usize::try_from(until).unwrap_or(0);
        let seen = self.slots.iter().enumerate().take(range.end).skip(range.start).filter_map(
            |(at, slot)| {
                let hidden = isolation == COMMITTED
                    && slot.txn.is_some_and(|txn| txns[txn] != State::Committed);
                Some((offset(at), slot.value.clone().filter(|_| !hidden)?))
            },
        );
        seen.take(count).collect()
    }
}

/// A client that copies one partition.
#[derive(Debug)]
struct Copier {
    process: u32,
    partition: i32,
    epoch: i16,
    position: i64,
    free_at: u64,
    /// It has to be initialised before it goes on.
    is_new: bool,
}

/// A client that only reads.
#[derive(Debug)]
struct Reader {
    process: u32,
    isolation: Isolation,
    next: BTreeMap<(usize, i32), i64>,
}

struct World {
    plan: Plan,
    random: u64,
    now: u64,
    logs: BTreeMap<(usize, i32), Log>,
    txns: Vec<State>,
    /// Group offsets, by partition, and those that come with a transaction.
    offsets: BTreeMap<i32, i64>,
    copies: u64,
    ops: Vec<Op>,
    processes: u32,
    steps: u64,
}

/// A history in which every promise is kept.
#[must_use]
pub fn history(plan: Plan) -> History {
    let mut world = World::new(plan);
    let mut copiers: Vec<Copier> = (0..plan.partitions).map(|p| world.copier(p)).collect();
    let mut readers = [COMMITTED, ALL].map(|isolation| world.reader(isolation));
    let producers = [world.process(), world.process()];
    let mut written = 0;
    while written < plan.inputs {
        let burst = usize::try_from(1 + world.below(20)).unwrap_or(1).min(plan.inputs - written);
        let producer = producers[usize::try_from(world.below(2)).unwrap_or(0)];
        world.produce(producer, written, burst);
        written += burst;
        for copier in &mut copiers {
            world.copy(copier, true);
        }
        if world.below(4) == 0 {
            readers.iter_mut().for_each(|reader| world.look(reader));
            world.sample();
        }
    }
    world.finish(&mut copiers);
    readers.iter_mut().for_each(|reader| world.look(reader));
    world.drain();
    let mut ops = world.ops;
    ops.sort_by_key(|op| (op.t_invoke, op.process, op.op));
    History::of(ops)
}

impl World {
    fn new(plan: Plan) -> World {
        let places =
            (0..TOPICS.len()).flat_map(|topic| (0..plan.partitions).map(move |p| (topic, p)));
        World {
            plan,
            random: plan.seed,
            now: 1000,
            logs: places.map(|place| (place, Log::default())).collect(),
            txns: Vec::new(),
            offsets: BTreeMap::new(),
            copies: 0,
            ops: Vec::new(),
            processes: 0,
            steps: 0,
        }
    }

    /// splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn process(&mut self) -> u32 {
        self.processes += 1;
        self.processes
    }

    fn tick(&mut self) -> u64 {
        self.now += 1 + self.below(5);
        self.now
    }

    /// Takes down an operation that is carried out now.
    fn take(&mut self, process: u32, kind: Type, times: (u64, u64), f: F) {
        let op = self.ops.len() as u64;
        let t_done = (kind != Type::Info).then_some(times.1);
        let client = String::new();
        self.ops.push(Op {
            process,
            op,
            client,
            kind,
            t_invoke: times.0,
            t_done,
            node: Some(1),
            f,
        });
    }

    fn log(&mut self, topic: usize, partition: i32) -> &mut Log {
        self.logs.entry((topic, partition)).or_default()
    }

    fn send(topic: usize, partition: i32, value: String, offset: Option<i64>) -> F {
        F::Send {
            topic: TOPICS[topic].to_owned(),
            partition,
            value,
            offset,
            txn: None,
            producer: None,
            epoch: None,
            leader_epoch: None,
            input: None,
            idempotent: true,
        }
    }

    /// A burst of records that are under way together.
    fn produce(&mut self, process: u32, first: usize, count: usize) {
        let begun: Vec<u64> = (0..count).map(|_| self.tick()).collect();
        for (index, begun) in begun.into_iter().enumerate() {
            let partitions = u64::try_from(self.plan.partitions).unwrap_or(1);
            let partition = i32::try_from(self.below(partitions)).unwrap_or(0);
            let value = format!("{process}-{}", first + index);
            let done = self.tick() + self.below(40);
            let luck = self.below(200);
            let (kind, at) = match luck {
                0 => (Type::Fail, None),
                1 => (Type::Info, None),
                2 => {
                    self.log(0, partition).append(Some(value.clone()), None);
                    (Type::Info, None)
                }
                _ => (Type::Ok, Some(self.log(0, partition).append(Some(value.clone()), None))),
            };
            self.take(process, kind, (begun, done), World::send(0, partition, value, at));
        }
    }

    fn copier(&mut self, partition: i32) -> Copier {
        let process = self.process();
        Copier { process, partition, epoch: 0, position: 0, free_at: 0, is_new: true }
    }

    /// One step of a copier: it becomes one, or carries out a transaction. Whether it copied anything.
    fn copy(&mut self, copier: &mut Copier, may_break: bool) -> bool {
        if self.now < copier.free_at {
            return true;
        }
        let producer = format!("copier-{}", copier.partition);
        if copier.is_new {
            self.begin(copier, &producer);
            return true;
        }
        let partition = copier.partition;
        let asked = self.tick();
        let count = usize::try_from(1 + self.below(30)).unwrap_or(1);
        let log = &self.logs[&(0, partition)];
        let records = log.read(copier.position, count, COMMITTED, &self.txns);
        let marks = (Some(log.end()), Some(log.last_stable()));
        let Some((last, _)) = records.last() else { return false };
        let next = last + 1;
        let txn = self.txns.len();
        self.txns.push(State::Open);
        let name = format!("{producer}#{txn}");
        let poll = F::Poll {
            topic: TOPICS[0].to_owned(),
            partition,
            isolation: COMMITTED,
            mode: Mode::Subscribe,
            generation: Some(i64::from(copier.process)),
            records: records.clone(),
            txn: Some(name.clone()),
            high_watermark: marks.0,
            last_stable: marks.1,
        };
        let answered = self.tick();
        self.take(copier.process, Type::Ok, (asked, answered), poll);
        for (at, input) in records {
            self.copies += 1;
            let value = format!("{input}:{}", self.copies);
            let to = i32::try_from(at % i64::from(self.plan.partitions)).unwrap_or(0);
            let times = (self.tick(), self.tick());
            let at = self.log(1, to).append(Some(value.clone()), Some(txn));
            let mut send = World::send(1, to, value, Some(at));
            if let F::Send { txn, producer: of, epoch, input: made_of, .. } = &mut send {
                (*txn, *of, *epoch) =
                    (Some(name.clone()), Some(producer.clone()), Some(copier.epoch));
                *made_of = Some(input);
            }
            self.take(copier.process, Type::Ok, times, send);
        }
        let times = (self.tick(), self.tick());
        let (group, topic) = (GROUP.to_owned(), TOPICS[0].to_owned());
        let commit =
            F::CommitOffset { group, topic, partition, offset: next, txn: Some(name.clone()) };
        self.take(copier.process, Type::Ok, times, commit);
        self.end(copier, (txn, name), next, may_break);
        true
    }

    /// Ends a transaction in one of the ways in which one ends.
    fn end(
        &mut self,
        copier: &mut Copier,
        (txn, name): (usize, String),
        next: i64,
        may_break: bool,
    ) {
        let begun = self.tick();
        let luck = if may_break { self.below(100) } else { 100 };
        let dies = luck < self.plan.deaths;
        let aborts = !dies && luck < self.plan.deaths + self.plan.aborts;
        let carried_out = !aborts && (!dies || self.below(2) == 0);
        if carried_out {
            self.settle(txn, State::Committed);
            self.offsets.insert(copier.partition, next);
        } else if aborts {
            self.settle(txn, State::Aborted);
        }
        let done = self.tick() + self.below(60);
        let end = |commit| F::End {
            txn: name.clone(),
            commit,
            producer: Some(format!("copier-{}", copier.partition)),
            epoch: Some(copier.epoch),
        };
        if aborts {
            self.take(copier.process, Type::Ok, (begun, done), end(false));
            // Its reader goes back to where the group stands, as after a new assignment.
            let (topic, partition) = (TOPICS[0].to_owned(), copier.partition);
            let offset = self.offsets.get(&partition).copied().unwrap_or(0);
            let back = F::Assign { topic, partition, offset: Some(offset) };
            self.take(copier.process, Type::Ok, (done + 1, done + 2), back);
            copier.position = offset;
        } else if dies {
            // Half of those that die do so before they have said that they are to commit.
            if carried_out || self.below(2) == 0 {
                self.take(copier.process, Type::Info, (begun, done), end(true));
            }
            let process = self.process();
            *copier = Copier { process, epoch: copier.epoch + 1, is_new: true, ..*copier };
        } else {
            self.take(copier.process, Type::Ok, (begun, done), end(true));
            copier.position = next;
        }
        copier.free_at = done + 3;
    }

    fn settle(&mut self, txn: usize, state: State) {
        self.txns[txn] = state;
        for log in self.logs.values_mut() {
            if log.open.remove(&txn).is_some() {
                log.append(None, Some(txn));
            }
        }
    }

    /// Initialises a copier, which ends what its predecessor left open.
    fn begin(&mut self, copier: &mut Copier, producer: &str) {
        let times = (self.tick(), self.tick());
        for txn in 0..self.txns.len() {
            let is_open = self.txns[txn] == State::Open;
            if is_open && self.logs.values().any(|log| log.open.contains_key(&txn)) {
                // All others run to their end in one step: what is open is its own.
                self.settle(txn, State::Aborted);
            }
        }
        let (producer_id, epoch) = (Some(i64::from(copier.partition)), Some(copier.epoch));
        let init = F::Init { producer: producer.to_owned(), producer_id, epoch };
        self.take(copier.process, Type::Ok, times, init);
        let times = (self.tick(), self.tick());
        let partition = copier.partition;
        let offset = self.offsets.get(&partition).copied().unwrap_or(-1);
        let (group, topic) = (GROUP.to_owned(), TOPICS[0].to_owned());
        self.take(
            copier.process,
            Type::Ok,
            times,
            F::FetchOffset { group, topic, partition, offset },
        );
        copier.position = offset.max(0);
        copier.is_new = false;
    }

    fn reader(&mut self, isolation: Isolation) -> Reader {
        let process = self.process();
        let next: BTreeMap<(usize, i32), i64> = self.logs.keys().map(|place| (*place, 0)).collect();
        for (topic, partition) in next.keys().copied() {
            let times = (self.tick(), self.tick());
            let topic = TOPICS[topic].to_owned();
            self.take(process, Type::Ok, times, F::Assign { topic, partition, offset: Some(0) });
        }
        Reader { process, isolation, next }
    }

    fn look(&mut self, reader: &mut Reader) {
        for (place, next) in &mut reader.next {
            let asked = self.tick();
            let count = usize::try_from(1 + self.below(100)).unwrap_or(1);
            let log = &self.logs[place];
            let records = log.read(*next, count, reader.isolation, &self.txns);
            let marks = (Some(log.end()), Some(log.last_stable()));
            *next = records.last().map_or(*next, |(offset, _)| offset + 1);
            let poll = F::Poll {
                topic: TOPICS[place.0].to_owned(),
                partition: place.1,
                isolation: reader.isolation,
                mode: Mode::Assign,
                generation: None,
                records,
                txn: None,
                high_watermark: marks.0,
                last_stable: marks.1,
            };
            let answered = self.tick();
            self.take(reader.process, Type::Ok, (asked, answered), poll);
        }
    }

    /// One cut through three brokers, the third of which lags and does not count.
    fn sample(&mut self) {
        self.steps += 1;
        let now = self.tick();
        for node in 1..=3 {
            for ((topic, partition), log) in &self.logs {
                let (end, stable) = (log.end(), log.last_stable());
                let behind = if node == 3 { stable.min(end / 2) } else { end };
                self.ops.push(Op {
                    process: 0,
                    op: self.ops.len() as u64,
                    client: String::new(),
                    kind: Type::Ok,
                    t_invoke: now,
                    t_done: Some(now),
                    node: Some(node),
                    f: F::State {
                        step: self.steps,
                        topic: TOPICS[*topic].to_owned(),
                        partition: *partition,
                        role: if node == 1 { Role::Leader } else { Role::Follower },
                        epoch: 1,
                        last_stable: stable.min(behind),
                        high_watermark: behind,
                        durable: behind,
                        log_end: behind,
                        in_sync: if node == 1 { vec![1, 2] } else { Vec::new() },
                    },
                });
            }
        }
    }

    /// Nothing breaks any more, and everything is copied.
    fn finish(&mut self, copiers: &mut [Copier]) {
        let mut idle = false;
        while !idle {
            idle = true;
            self.now += 100;
            for copier in copiers.iter_mut() {
                idle &= !self.copy(copier, false);
            }
        }
        let times = (self.tick(), self.tick());
        let copy = F::Copy { topic: TOPICS[0].to_owned(), output: TOPICS[1].to_owned() };
        self.take(0, Type::Ok, times, copy);
    }

    fn drain(&mut self) {
        let process = self.process();
        for ((topic, partition), isolation) in self
            .logs
            .keys()
            .copied()
            .flat_map(|place| [COMMITTED, ALL].map(|i| (place, i)))
            .collect::<Vec<_>>()
        {
            let log = &self.logs[&(topic, partition)];
            let end = if isolation == COMMITTED { log.last_stable() } else { log.end() };
            let records = log.read(0, usize::MAX, isolation, &self.txns);
            let topic = TOPICS[topic].to_owned();
            let times = (self.now + 1000, self.now + 2000);
            self.take(
                process,
                Type::Ok,
                times,
                F::Drain { topic, partition, isolation, from: 0, end, records },
            );
        }
        for (partition, offset) in self.offsets.clone() {
            let times = (self.now + 1000, self.now + 2000);
            let (group, topic) = (GROUP.to_owned(), TOPICS[0].to_owned());
            self.take(process, Type::Ok, times, F::FetchOffset { group, topic, partition, offset });
        }
    }
}
