//! The table against a naive model: a list of messages, and the log as a list of what was written.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const START_MS: i64 = 1_800_000_000_000;

/// What the log holds, in its order.
#[derive(Debug, Clone, Copy)]
enum Written {
    Scheduled(TimerId),
    Ended(u32, u32, End),
    Noted(u32),
    Dropped(u32),
}

/// What a message is to whoever sent it: an index into the log and no cleverness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Waits,
    Ended(End),
    Forgotten,
}

struct World {
    table: Table,
    log: Vec<Written>,
    durable: usize,
    now_ms: i64,
    loading: Option<(Load, Read)>,
}

impl World {
    fn new() -> Self {
        let table = Table::of(0, []);
        Self { table, log: Vec::new(), durable: 0, now_ms: START_MS, loading: None }
    }

    fn schedule(&mut self, due_ms: i64) -> TimerId {
        let place = self.table.place(self.now_ms, due_ms);
        let is_in =
            |it: &&Written| matches!(it, Written::Scheduled(id) if id.bucket == place.bucket);
        let offset = u32::try_from(self.log.iter().filter(is_in).count()).unwrap();
        let id = TimerId { bucket: place.bucket, offset, due_ms };
        if let Some(floor) = place.note {
            self.log.push(Written::Noted(floor));
            self.table.noted(floor);
        }
        self.log.push(Written::Scheduled(id));
        self.table.scheduled(self.now_ms, id);
        id
    }

    fn end(&mut self, id: TimerId, end: End) {
        self.log.push(Written::Ended(id.bucket, id.offset, end));
        self.table.ended(id.bucket, id.offset, end);
    }

    /// The naive truth.
    fn known(&self, id: TimerId) -> Known {
        let mut known = Known::Forgotten;
        for written in &self.log {
            match written {
                Written::Scheduled(of) if *of == id => known = Known::Waits,
                Written::Ended(bucket, offset, end)
                    if (*bucket, *offset) == (id.bucket, id.offset) =>
                {
                    assert_eq!(known, Known::Waits, "{id:?} ended twice");
                    known = Known::Ended(*end);
                }
                Written::Dropped(bucket) if *bucket == id.bucket => {
                    assert_ne!(known, Known::Waits, "{id:?} was dropped while it waited");
                    known = Known::Forgotten;
                }
                _ => {}
            }
        }
        known
    }

    fn messages(&self) -> Vec<TimerId> {
        let id = |it: &Written| match it {
            Written::Scheduled(id) => Some(*id),
            _ => None,
        };
        self.log.iter().filter_map(id).collect()
    }

    /// A number that was dropped is never written to again, and offsets are dense.
    fn check_log(&self) {
        let mut dropped = BTreeSet::new();
        let mut next: BTreeMap<u32, u32> = BTreeMap::new();
        for written in &self.log {
            match written {
                Written::Scheduled(id) => {
                    assert!(!dropped.contains(&id.bucket), "{id:?} is in a dropped bucket");
                    let next = next.entry(id.bucket).or_default();
                    assert_eq!(id.offset, *next);
                    *next += 1;
                }
                Written::Ended(bucket, ..) => assert!(!dropped.contains(bucket)),
                Written::Dropped(bucket) => assert!(dropped.insert(*bucket)),
                Written::Noted(_) => {}
            }
        }
    }

    fn begin_load(&mut self) -> bool {
        if self.loading.is_none() {
            self.loading = self.table.begin_load(self.now_ms).map(|load| (load, self.read(load)));
        }
        self.loading.is_some()
    }

    /// What is in the log now, as the loader reads it.
    fn read(&self, load: Load) -> Read {
        let (Load::Bucket(number) | Load::Ends(number)) = load;
        let mut read = Read::default();
        for written in &self.log {
            match written {
                Written::Scheduled(id) if id.bucket == number => {
                    read.scheduled.push((id.offset, id.due_ms));
                }
                Written::Ended(bucket, offset, end) if *bucket == number => {
                    read.ends.push((*offset, *end));
                }
                _ => {}
            }
        }
        read
    }

    fn finish_load(&mut self, fails: bool) {
        match self.loading.take() {
            Some((load, _)) if fails => self.table.load_failed(load),
            Some((Load::Bucket(number), read)) => self.table.loaded(number, read),
            Some((Load::Ends(number), read)) => {
                self.table.ends_loaded(number, read.ends.into_iter().collect());
            }
            None => {}
        }
    }

    fn load_all(&mut self) {
        loop {
            while self.begin_load() {
                self.finish_load(false);
            }
            if !self.table.retry_loads() {
                return;
            }
        }
    }

    fn status(&mut self, id: TimerId) -> Status {
        for _ in 0..3 {
            match self.table.status(id) {
                Ok(status) => return status,
                Err(NotLoaded) => self.load_all(),
            }
            self.finish_load(false);
        }
        panic!("{id:?} is not loaded whatever is loaded");
    }

    /// Takes what is due; of what is taken something may be recalled before it is delivered.
    fn deliver(&mut self, most: usize, recalled: bool, fails: bool) -> bool {
        let taken = self.table.take_due(self.now_ms, most);
        for id in &taken {
            assert!(id.due_ms <= self.now_ms, "{id:?} is early");
        }
        if recalled && let Some(first) = taken.first() {
            self.recall(*first);
        }
        if fails {
            self.table.put_back(taken);
            return false;
        }
        for id in &taken {
            if self.table.is_waiting(*id) {
                self.end(*id, End::Delivered);
            }
        }
        !taken.is_empty()
    }

    fn recall(&mut self, id: TimerId) {
        match (self.status(id), self.known(id)) {
            (Status::Pending, Known::Waits) => self.end(id, End::Recalled),
            (Status::Ended(end), known) => assert_eq!(known, Known::Ended(end)),
            (Status::Unknown, known) => assert_eq!(known, Known::Forgotten),
            (Status::Pending, known) => panic!("{id:?} waits, and the log says {known:?}"),
        }
    }

    fn drop_finished(&mut self) -> bool {
        let Some((bucket, note)) = self.table.finished(self.now_ms) else { return false };
        if let Some(floor) = note {
            self.log.push(Written::Noted(floor));
            self.table.noted(floor);
        }
        self.log.push(Written::Dropped(bucket));
        self.table.dropped(bucket);
        true
    }

    /// Keeps what is durable and, of the rest, a part.
    fn restart(&mut self, lost: usize) {
        self.log.truncate((self.log.len().saturating_sub(lost)).max(self.durable));
        self.durable = self.log.len();
        let (mut floor, mut present) = (0, BTreeSet::new());
        for written in &self.log {
            match written {
                Written::Scheduled(id) => drop(present.insert(id.bucket)),
                Written::Dropped(bucket) => drop(present.remove(bucket)),
                Written::Noted(noted) => floor = *noted,
                Written::Ended(..) => {}
            }
        }
        self.table = Table::of(floor, present);
        self.loading = None;
    }

    /// Nothing is left to be done now: whatever is due was delivered.
    fn settle(&mut self) {
        self.finish_load(false);
        self.load_all();
        while self.deliver(3, false, false) {}
        for id in self.messages() {
            if self.known(id) == Known::Waits {
                assert!(id.due_ms > self.now_ms, "{id:?} is overlooked at {}", self.now_ms);
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Schedule { delay_ms: i64 },
    Recall(prop::sample::Index),
    DeliverNow(prop::sample::Index),
    Deliver { most: usize, recalled: bool, fails: bool },
    BeginLoad,
    FinishLoad { fails: bool },
    DropFinished,
    Pass(i64),
    Durable,
    Restart { lost: usize },
    Settle,
}

fn delay() -> impl Strategy<Value = i64> {
    prop_oneof![
        -2 * BUCKET_MS..2 * BUCKET_MS,
        0_i64..1000,
        0_i64..100 * BUCKET_MS,
        Just(-START_MS),
        Just(-START_MS + BUCKET_MS),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => delay().prop_map(|delay_ms| Act::Schedule { delay_ms }),
        3 => any::<prop::sample::Index>().prop_map(Act::Recall),
        1 => any::<prop::sample::Index>().prop_map(Act::DeliverNow),
        4 => (1_usize..4, any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(most, recalled, fails)| Act::Deliver { most, recalled, fails }),
        2 => Just(Act::BeginLoad),
        2 => prop::bool::weighted(0.2).prop_map(|fails| Act::FinishLoad { fails }),
        2 => Just(Act::DropFinished),
        3 => prop_oneof![
            0_i64..2000,
            0_i64..3 * BUCKET_MS,
            -3 * BUCKET_MS..0,
            Just(144 * BUCKET_MS),
            Just(-144 * BUCKET_MS),
        ].prop_map(Act::Pass),
        1 => Just(Act::Durable),
        1 => (0_usize..4).prop_map(|lost| Act::Restart { lost }),
        1 => Just(Act::Settle),
    ]
}

fn run(acts: Vec<Act>) {
    let mut world = World::new();
    for act in acts {
        let messages = world.messages();
        match act {
            Act::Schedule { delay_ms } => {
                let due_ms = world.now_ms.saturating_add(delay_ms).max(0);
                world.schedule(due_ms);
            }
            Act::Recall(_) | Act::DeliverNow(_) if messages.is_empty() => {}
            Act::Recall(which) => world.recall(*which.get(&messages)),
            Act::DeliverNow(which) => {
                let id = *which.get(&messages);
                if world.status(id) == Status::Pending {
                    world.end(id, End::Delivered);
                }
            }
            Act::Deliver { most, recalled, fails } => {
                world.deliver(most, recalled, fails);
            }
            Act::BeginLoad => {
                world.begin_load();
            }
            Act::FinishLoad { fails } => world.finish_load(fails),
            Act::DropFinished => {
                world.drop_finished();
            }
            Act::Pass(by_ms) => world.now_ms = (world.now_ms + by_ms).max(0),
            Act::Durable => world.durable = world.log.len(),
            Act::Restart { lost } => world.restart(lost),
            Act::Settle => world.settle(),
        }
    }
    world.settle();
    // Once all time has passed, all is delivered or recalled, and forgotten.
    world.now_ms = world.messages().iter().map(|id| id.due_ms).fold(world.now_ms, i64::max);
    world.settle();
    world.now_ms += 10_000 * BUCKET_MS;
    world.load_all();
    while world.drop_finished() {}
    world.check_log();
    for id in world.messages() {
        assert_eq!(world.known(id), Known::Forgotten, "{id:?}");
        assert_eq!(world.status(id), Status::Unknown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// Never early, exactly one end each, none overlooked, no bucket used twice: whatever races,
    /// however the clock jumps, wherever a restart cuts the log.
    #[test]
    fn every_message_ends_once_and_never_early(acts in prop::collection::vec(act(), 1..60)) {
        run(acts);
    }
}

#[test]
fn a_forged_handle_names_nothing() {
    let mut world = World::new();
    let id = world.schedule(START_MS + 5_000);
    assert_eq!(world.status(id), Status::Pending);
    assert_eq!(world.status(TimerId { offset: id.offset + 1, ..id }), Status::Unknown);
    assert_eq!(world.status(TimerId { due_ms: id.due_ms + 1, ..id }), Status::Unknown);
    assert_eq!(world.status(TimerId { bucket: id.bucket + 1, ..id }), Status::Unknown);
    assert!(!world.table.is_waiting(TimerId { due_ms: id.due_ms - 1, ..id }));
}

#[test]
fn a_far_bucket_holds_no_messages_in_memory() {
    let mut world = World::new();
    for _ in 0..100 {
        world.schedule(START_MS + 50 * BUCKET_MS);
    }
    assert_eq!((world.table.next_due_ms(), world.table.pending()), (None, 0));
    world.now_ms += 50 * BUCKET_MS - LEAD_MS;
    world.load_all();
    assert_eq!(world.table.pending(), 100);
}

#[test]
fn many_that_were_recalled_are_passed_a_few_at_a_time() {
    let mut world = World::new();
    let ids: Vec<TimerId> = (0..100).map(|_| world.schedule(START_MS)).collect();
    ids.iter().skip(1).rev().skip(1).for_each(|id| world.recall(*id));
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.extend(world.table.take_due(START_MS, 2).into_iter().map(|id| id.offset));
    }
    assert_eq!(seen, [0, 99]);
}

#[test]
fn a_floor_far_ahead_of_the_clock_does_not_hold_everything_for_ever() {
    let mut world = World::new();
    world.now_ms += 1_000 * BUCKET_MS;
    let first = world.schedule(0);
    world.now_ms -= 1_000 * BUCKET_MS;
    let mut next = BTreeMap::from([(first.bucket, 1)]);
    for _ in 0..=FUTURE_FLOOR_MAX {
        let place = world.table.place(world.now_ms, world.now_ms);
        if let Some(floor) = place.note {
            world.table.noted(floor);
        }
        let next = next.entry(place.bucket).or_default();
        let id = TimerId { bucket: place.bucket, offset: *next, due_ms: world.now_ms };
        *next += 1;
        world.table.scheduled(world.now_ms, id);
        world.table.ended(id.bucket, id.offset, End::Delivered);
    }
    assert_eq!(next.into_keys().collect::<Vec<_>>(), [first.bucket, first.bucket + 1]);
    world.table.ended(first.bucket, first.offset, End::Delivered);
    assert_eq!(world.table.finished(world.now_ms), Some((first.bucket, None)));
}

#[test]
fn a_message_costs_32_bytes_when_it_is_near_and_none_when_it_is_far() {
    // As many as the growing of the two collections leaves no room beside.
    const MESSAGES: u32 = 1 << 18;
    let costs = |due_ms: i64| {
        let mut table = Table::of(0, []);
        let allocated = allocation_counter::measure(|| {
            for offset in 0..MESSAGES {
                let id = TimerId { bucket: bucket_of(due_ms), offset, due_ms };
                table.scheduled(START_MS, id);
            }
        });
        (allocated.bytes_current, table.pending())
    };
    let (near, pending) = costs(START_MS + 1_000);
    assert_eq!(pending, MESSAGES as usize);
    assert!((24..=33).contains(&(near / i64::from(MESSAGES))), "{near} bytes");
    let (far, pending) = costs(START_MS + 1_000 * BUCKET_MS);
    assert_eq!(pending, 0);
    assert!(far < 1_000, "{far} bytes");
}
