//! Queues that are written in transactions and compacted, against a model: random lives of a real
//! log, killed and cut at any moment.
//!
//! What a reader of committed records makes of a queue, reading as Kafka's clients do, is the same
//! whether and how often the queue was compacted, wherever it begins to read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, Batches, Marker, Producer, RecordReader,
};
use bytes::Bytes;

use crate::config::{Config, LiveConfig};
use crate::env::clock::ManualClock;
use crate::env::real::Tcp;
use crate::env::rng::SeededRng;
use crate::env::sim::SimFs;
use crate::env::spawn::Blocking;
use crate::env::{Env, Spawner};
use crate::model::{LeaderEpoch, Offset, QueueId};
use crate::partition::ShardSequencer;
use crate::store::{
    AppendError, Class, CleanLimits, Compaction, LogHandle, MaintainError, ReadSpec, Store,
    StoreConfig,
};

const QUEUE: QueueId = QueueId(3);
const START_MS: i64 = 1_700_000_000_000;
const RETENTION_MS: i64 = 1000;
const LIMITS: CleanLimits =
    CleanLimits { bytes_per_second_max: u64::MAX, key_memory_bytes: 1 << 20 };
const RULE: Compaction = Compaction {
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    dirty_ratio_min: 0.0,
    delete_retention_ms: RETENTION_MS,
    head_age_ms: 0,
    head_size_bytes: u64::MAX,
};

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        let (factor, addend) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(factor).wrapping_add(addend);
        (self.0 >> 33) % n
    }
}

/// What stands at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Record { producer: Option<i64>, key: u8, value: Option<u32> },
    End { producer: i64, marker: Marker },
}

/// The log stopped: the power is off.
#[derive(Debug)]
struct Stopped;

#[derive(Debug, Default)]
struct World {
    items: Vec<Item>,
    /// Epoch and next sequence of each producer.
    producers: BTreeMap<i64, (i16, i32)>,
    acked: usize,
    next_value: u32,
    now_ms: i64,
    compacted: usize,
}

impl World {
    /// How the transaction of a record ended, as far as it has.
    fn end_of(&self, at: usize, of: i64) -> Option<Marker> {
        self.items[at..].iter().find_map(|item| match item {
            Item::End { producer, marker } if *producer == of => Some(*marker),
            Item::End { .. } | Item::Record { .. } => None,
        })
    }

    fn is_open(&self, of: i64) -> bool {
        let last = self
            .items
            .iter()
            .rposition(|item| matches!(item, Item::Record { producer: Some(it), .. } if *it == of));
        last.is_some_and(|at| self.end_of(at, of).is_none())
    }

    /// Where readers of committed records stop.
    fn stable(&self) -> usize {
        let is_undecided = |(at, item): (usize, &Item)| match item {
            Item::Record { producer: Some(of), .. } => self.end_of(at, *of).is_none(),
            Item::Record { producer: None, .. } | Item::End { .. } => false,
        };
        self.items.iter().enumerate().position(is_undecided).unwrap_or(self.items.len())
    }

    /// The records that count below an offset.
    fn committed(&self, below: usize) -> Vec<(i64, u8, Option<u32>)> {
        let records = self.items.iter().enumerate().take(below).filter_map(|(at, item)| {
            let Item::Record { producer, key, value } = *item else { return None };
            let counts = producer.is_none_or(|of| self.end_of(at, of) == Some(Marker::Commit));
            counts.then_some((i64::try_from(at).unwrap(), key, value))
        });
        records.collect()
    }

    fn live(&mut self, fs: &SimFs, dice: &mut Dice, steps: usize) -> Result<(), Stopped> {
        let config = Config::of(&[]).unwrap();
        let live = Arc::new(LiveConfig::new(Arc::new(config)));
        let sequencer = Box::new(ShardSequencer::new(live));
        let opened = Store::open_inline(&env(fs), tiny(), sequencer);
        let Ok(store) = opened else {
            assert!(fs.is_off(), "a store did not open");
            return Err(Stopped);
        };
        let log = store.handle();
        log.open_queue(QUEUE);
        self.recovered(&log);
        for _ in 0..steps {
            self.step(&store, &log, dice)?;
        }
        if dice.below(2) == 0 { store.close().map_err(|_| Stopped) } else { Ok(()) }
    }

    fn recovered(&mut self, log: &LogHandle) {
        let next = usize::try_from(log.offsets(QUEUE).unwrap().next.0).unwrap();
        assert!((self.acked..=self.items.len()).contains(&next), "{next} of {}", self.acked);
        self.items.truncate(next);
        self.acked = next;
        // Whoever comes back takes a new epoch, as clients do.
        self.producers.values_mut().for_each(|(epoch, sequence)| {
            (*epoch, *sequence) = (*epoch + 1, 0);
        });
        self.check(log);
    }

    fn step(&mut self, store: &Store, log: &LogHandle, dice: &mut Dice) -> Result<(), Stopped> {
        let of = i64::try_from(dice.below(3)).unwrap();
        match dice.below(20) {
            0..=6 => self.write(store, log, dice, Some(of))?,
            7..=9 => self.write(store, log, dice, None)?,
            10..=12 if self.is_open(of) => self.end(store, log, dice, of)?,
            13..=15 => self.clean(store, log)?,
            16 => self.now_ms += i64::try_from(dice.below(900)).unwrap(),
            17 => done(store.maintain())?,
            _ => self.check(log),
        }
        Ok(())
    }

    fn append(&mut self, store: &Store, log: &LogHandle, batch: &Bytes) -> Result<(), Stopped> {
        let header = BatchHeader::parse(batch).unwrap();
        let append =
            || log.append_at(self.now_ms, QUEUE, LeaderEpoch(0), Class::System, (batch, &header));
        let appended = match append() {
            Err(AppendError::SegmentNotReady) => {
                done(store.maintain())?;
                append()
            }
            appended => appended,
        };
        match appended {
            Ok(appended) => {
                assert_eq!(appended.base_offset.0, i64::try_from(self.items.len()).unwrap());
                Ok(())
            }
            Err(AppendError::Failed(_)) => Err(Stopped),
            Err(error) => panic!("{error}"),
        }
    }

    fn write(
        &mut self,
        store: &Store,
        log: &LogHandle,
        dice: &mut Dice,
        producer: Option<i64>,
    ) -> Result<(), Stopped> {
        let state = producer.map(|id| (id, *self.producers.entry(id).or_insert((0, 0))));
        let stamp = state.map(|(id, (epoch, base_sequence))| Producer { id, epoch, base_sequence });
        let spec =
            BatchSpec { producer: stamp, transactional: stamp.is_some(), ..BatchSpec::default() };
        let mut writer = BatchWriter::new(spec);
        let mut items = Vec::new();
        for _ in 0..=dice.below(3) {
            let key = u8::try_from(dice.below(6)).unwrap();
            self.next_value += 1;
            let value = (dice.below(6) > 0).then_some(self.next_value);
            let bytes = value.map(|value| value.to_be_bytes().repeat(10));
            writer.append(self.now_ms, Some(&[key]), bytes.as_deref(), &[]).unwrap();
            items.push(Item::Record { producer, key, value });
        }
        self.append(store, log, &writer.finish().unwrap())?;
        if let Some(id) = producer
            && let Some((_, sequence)) = self.producers.get_mut(&id)
        {
            *sequence += i32::try_from(items.len()).unwrap();
        }
        self.items.extend(items);
        self.sync(store)
    }

    fn end(
        &mut self,
        store: &Store,
        log: &LogHandle,
        dice: &mut Dice,
        producer: i64,
    ) -> Result<(), Stopped> {
        let marker = if dice.below(2) == 0 { Marker::Commit } else { Marker::Abort };
        let (epoch, _) = self.producers[&producer];
        let batch = marker.batch((producer, epoch + 1), 0, self.now_ms).unwrap();
        self.append(store, log, &batch)?;
        self.producers.insert(producer, (epoch + 1, 0));
        self.items.push(Item::End { producer, marker });
        self.sync(store)
    }

    fn sync(&mut self, store: &Store) -> Result<(), Stopped> {
        while store.write_ready().map_err(|_| Stopped)? {}
        self.acked = self.items.len();
        Ok(())
    }

    fn clean(&mut self, store: &Store, log: &LogHandle) -> Result<(), Stopped> {
        let cleaned = log.clean(self.now_ms, &[(QUEUE, RULE)], LIMITS);
        match cleaned {
            Ok(cleaned) => self.compacted += cleaned.compacted,
            Err(MaintainError::Failed(_)) => return Err(Stopped),
            Err(MaintainError::Io(failure)) => panic!("{failure}"),
        }
        self.sync(store)?;
        self.check(log);
        Ok(())
    }

    fn check(&self, log: &LogHandle) {
        let stable = self.stable();
        let end = i64::try_from(stable).unwrap();
        assert_eq!(log.last_stable(QUEUE).unwrap(), Offset(end));
        let expected = self.committed(stable);
        let read = read(log, 0, end);
        for record in &read {
            assert!(expected.contains(record), "{record:?} does not count");
        }
        assert_eq!(table(&read), table(&expected));
        for from in (0..end).step_by(3) {
            let rest: Vec<_> = read.iter().filter(|it| it.0 >= from).copied().collect();
            assert_eq!(self::read(log, from, end), rest, "from {from}");
        }
    }
}

fn done(result: Result<(), MaintainError>) -> Result<(), Stopped> {
    match result {
        Ok(()) => Ok(()),
        Err(MaintainError::Failed(_)) => Err(Stopped),
        Err(MaintainError::Io(failure)) => panic!("{failure}"),
    }
}

/// The last value of every key.
fn table(records: &[(i64, u8, Option<u32>)]) -> BTreeMap<u8, u32> {
    let mut table = BTreeMap::new();
    for (_, key, value) in records {
        match value {
            Some(value) => table.insert(*key, *value),
            None => table.remove(key),
        };
    }
    table
}

/// All batches from one offset up to another.
fn batches(log: &LogHandle, from: i64, end: i64) -> Vec<(BatchHeader, Bytes)> {
    let (mut from, mut found) = (Offset(from), Vec::new());
    while from < Offset(end) {
        let up_to = Some(Offset(end));
        let spec = ReadSpec { from, up_to, size_bytes_max: 1 << 20, at_least_one: true };
        let part = log.locate(QUEUE, spec).unwrap().load().unwrap();
        let all = Bytes::from(part.slices.concat());
        found.extend(Batches::new(all).map(Result::unwrap));
        let Some(next) = part.next_offset else { break };
        from = next;
    }
    found
}

/// What a client that reads committed records delivers to its user.
fn read(log: &LogHandle, from: i64, end: i64) -> Vec<(i64, u8, Option<u32>)> {
    let mut void = log.aborted(QUEUE, Offset(from)..Offset(end));
    assert!(void.is_sorted_by_key(|it| it.first));
    let (mut skipped, mut found) = (BTreeSet::new(), Vec::new());
    for (header, batch) in batches(log, from, end) {
        void.retain(|it| {
            let begins = it.first.0 <= header.last_offset();
            if begins {
                skipped.insert(it.producer.0);
            }
            !begins
        });
        if header.is_control() {
            if header.marker.is_some_and(|marker| marker.kind == Marker::Abort) {
                skipped.remove(&header.producer_id);
            }
            continue;
        }
        if header.is_transactional() && skipped.contains(&header.producer_id) {
            continue;
        }
        let reader = RecordReader::open(&batch, 1 << 20).unwrap();
        for record in &reader {
            let record = record.unwrap();
            let value =
                record.value.map(|value| u32::from_be_bytes(*value.first_chunk::<4>().unwrap()));
            if record.offset >= from {
                found.push((record.offset, record.key.unwrap()[0], value));
            }
        }
    }
    found
}

fn env(fs: &SimFs) -> Env {
    Env {
        clock: Arc::new(ManualClock::at_wall_ms(START_MS)),
        rng: Arc::new(SeededRng::from_seed(1)),
        fs: Arc::new(fs.clone()),
        net: Arc::new(Tcp),
        spawner: Spawner::new(|why| panic!("{why}"), Blocking::Inline),
    }
}

/// Sizes so small that every boundary is crossed all the time.
fn tiny() -> StoreConfig {
    StoreConfig {
        segment_size_bytes: 8 << 10,
        chunk_size_bytes: 4 << 10,
        ring_size_bytes: 12 << 10,
        group_size_bytes_max: 8 << 10,
        unsynced_size_bytes_max: 8 << 10,
        reserve_bytes: 0,
        zero_ahead_bytes: 0,
        ..StoreConfig::new(PathBuf::from("/data/0"), uuid::Uuid::from_u128(7))
    }
}

fn world() -> World {
    World { now_ms: START_MS, ..World::default() }
}

#[test]
fn whoever_reads_committed_records_sees_the_same_however_often_they_were_compacted() {
    let mut compacted = 0;
    for seed in 0..80 {
        let (mut world, mut dice, mut fs) = (world(), Dice(seed), SimFs::new(seed));
        for _ in 0..3 {
            assert!(world.live(&fs, &mut dice, 60).is_ok(), "seed {seed}");
            fs = fs.restart();
        }
        assert!(world.live(&fs, &mut dice, 0).is_ok());
        compacted += world.compacted;
    }
    assert!(compacted > 500, "{compacted}");
}

#[test]
fn compacted_transactions_survive_every_cut() {
    let (mut cuts, mut compacted) = (0, 0);
    for seed in 0..3 {
        let fs = SimFs::new(seed);
        assert!(world().live(&fs, &mut Dice(seed), 90).is_ok());
        for cut in 1..=fs.operations() {
            let (mut world, mut dice, mut fs) = (world(), Dice(seed), SimFs::new(seed));
            fs.cut_at(cut);
            drop(world.live(&fs, &mut dice, 90));
            fs = if cut % 3 > 0 { fs.reboot(cut) } else { fs.restart() };
            assert!(world.live(&fs, &mut dice, 30).is_ok(), "seed {seed}, cut {cut}");
            fs = fs.restart();
            assert!(world.live(&fs, &mut dice, 0).is_ok(), "seed {seed}, cut {cut}");
            cuts += 1;
            compacted += world.compacted;
        }
    }
    assert!(cuts > 200 && compacted > 1000, "{cuts} cuts, {compacted} compactions");
}

#[test]
fn in_the_end_nothing_is_left_of_what_is_void_but_what_producers_need() {
    let fs = SimFs::new(1);
    let config = Config::of(&[]).unwrap();
    let live = Arc::new(LiveConfig::new(Arc::new(config)));
    let store = Store::open_inline(&env(&fs), tiny(), Box::new(ShardSequencer::new(live))).unwrap();
    let log = store.handle();
    log.open_queue(QUEUE);
    let (mut world, mut dice) = (world(), Dice(5));
    for n in 0..60 {
        for id in 0..3 {
            world.write(&store, &log, &mut dice, Some(id)).unwrap();
            world.write(&store, &log, &mut dice, Some(id)).unwrap();
            if n < 59 || id > 0 {
                world.end(&store, &log, &mut dice, id).unwrap();
            }
        }
    }
    let open_from = world.stable();
    world.clean(&store, &log).unwrap();
    world.clean(&store, &log).unwrap();
    let end = i64::try_from(open_from).unwrap();
    let markers = |log: &LogHandle| {
        batches(log, 0, end).iter().filter(|(header, _)| header.is_control()).count()
    };
    assert!(markers(&log) > 100, "for as long as tombstones");
    assert!(log.aborted(QUEUE, Offset(0)..Offset(end)).len() <= 3);
    world.now_ms += RETENTION_MS;
    world.clean(&store, &log).unwrap();
    world.clean(&store, &log).unwrap();
    let left = batches(&log, 0, end);
    assert!(left.len() <= 6 + 2 * 3 + 1, "six keys, three producers and the end: {}", left.len());
    // What is above is untouched: nothing there is decided for readers, who do not see it yet.
    let high = log.offsets(QUEUE).unwrap().high_watermark.0;
    let untouched: usize = batches(&log, end, high)
        .iter()
        .map(|(header, _)| header.records_count)
        .map(|it| usize::try_from(it).unwrap())
        .sum();
    assert_eq!(untouched, world.items.len() - open_from);
}
