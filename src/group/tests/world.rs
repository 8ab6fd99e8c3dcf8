//! A shard with a clock and a log that tests hold in their hands. It checks what must always hold:
//! every request is answered at most once, tokens count up, and the log decides what is durable.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::GroupConfig;
use crate::group::record::Record;
use crate::group::{Effect, GroupLogError, Input, Now, Reply, Request, RequestId, Shard, Token};

pub(super) const START_WALL_MS: i64 = 1_000_000_000_000;

pub(super) fn config() -> GroupConfig {
    GroupConfig {
        initial_rebalance_delay: Duration::from_secs(3),
        session_timeout_min: Duration::from_secs(6),
        session_timeout_max: Duration::from_secs(1_800),
        members_max: 100,
        offsets_partitions: 50,
        offsets_segment_bytes: 104_857_600,
        offsets_replication_factor: 1,
        offsets_retention: Duration::from_secs(7 * 24 * 3_600),
        offsets_retention_check_interval: Duration::from_secs(600),
        offset_metadata_bytes_max: 16,
    }
}

/// What a step brought, in order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Append(Token, Vec<Record>),
    Reply(RequestId, Reply),
    Restated(bool),
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) config: GroupConfig,
    elapsed: Duration,
    /// Appended, not reported.
    pub(super) in_flight: VecDeque<(Token, Vec<Record>)>,
    /// The log: what was durable.
    pub(super) log: Vec<Record>,
    pub(super) open: BTreeSet<RequestId>,
    next_token: u64,
    /// Where the log ended when everything began to be said again: the durable records, and the
    /// writes that were under way.
    restating_from: Option<(usize, usize)>,
}

impl World {
    pub(super) fn new(config: GroupConfig) -> Self {
        let mut shard = Shard::new(config);
        let now = Now { monotonic: Duration::ZERO, wall_ms: START_WALL_MS };
        shard.loaded(now, &mut Vec::new());
        Self {
            shard,
            config,
            elapsed: Duration::ZERO,
            in_flight: VecDeque::new(),
            log: Vec::new(),
            open: BTreeSet::new(),
            next_token: 0,
            restating_from: None,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    pub(super) fn now(&self) -> Now {
        let wall_ms = START_WALL_MS + i64::try_from(self.elapsed.as_millis()).unwrap();
        Now { monotonic: self.elapsed, wall_ms }
    }

    pub(super) fn request(&mut self, id: u64, request: Request) -> Vec<Event> {
        assert!(self.open.insert(RequestId(id)), "request ids are used once");
        self.step(Input::Request(RequestId(id), request))
    }

    pub(super) fn step(&mut self, input: Input) -> Vec<Event> {
        let mut effects = Vec::new();
        self.shard.step(self.now(), input, &mut effects);
        self.take(effects)
    }

    /// Reports the oldest records, as durable or not.
    pub(super) fn written(&mut self, result: Result<(), GroupLogError>) -> Vec<Event> {
        let (token, records) = self.in_flight.pop_front().expect("something is in flight");
        if let Some((from, under_way @ 1..)) = &mut self.restating_from {
            *under_way -= 1;
            *from += if result.is_ok() { records.len() } else { 0 };
        }
        if result.is_ok() {
            self.log.extend(records);
        }
        self.step(Input::Written(token, result))
    }

    /// Lets time pass, ticking when the shard asks for it.
    pub(super) fn advance(&mut self, by: Duration) -> Vec<(Duration, Event)> {
        let until = self.elapsed + by;
        let mut events = Vec::new();
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= until) {
            self.elapsed = self.elapsed.max(due);
            let at = self.elapsed;
            events.extend(self.step(Input::Tick).into_iter().map(|event| (at, event)));
        }
        self.elapsed = until;
        events
    }

    /// Has everything said once more, as a long log would.
    pub(super) fn restate(&mut self) -> Vec<Event> {
        if self.restating_from.is_none() {
            self.restating_from = Some((self.log.len(), self.in_flight.len()));
        }
        self.step(Input::Restate)
    }

    /// A new process: knows what the log says, and nothing of what was under way.
    pub(super) fn restart(&mut self) -> Vec<Event> {
        self.in_flight.clear();
        self.open.clear();
        self.next_token = 0;
        self.restating_from = None;
        self.shard = Shard::new(self.config);
        for record in &self.log {
            self.shard.replay(&record.key, record.value.as_deref()).unwrap();
        }
        let mut effects = Vec::new();
        self.shard.loaded(self.now(), &mut effects);
        self.take(effects)
    }

    fn take(&mut self, effects: Vec<Effect>) -> Vec<Event> {
        self.shard.check();
        let mut events = Vec::new();
        for effect in effects {
            events.push(self.take_one(effect));
        }
        events
    }

    fn take_one(&mut self, effect: Effect) -> Event {
        match effect {
            Effect::Append(token, records) => {
                assert_eq!(token, Token(self.next_token), "tokens count up");
                assert!(!records.is_empty(), "nothing to append");
                self.next_token += 1;
                self.in_flight.push_back((token, records.clone()));
                Event::Append(token, records)
            }
            Effect::Reply(id, reply) => {
                assert!(self.open.remove(&id), "{id:?} was answered twice, or never asked");
                Event::Reply(id, reply)
            }
            Effect::Restated { is_complete } => {
                let (from, under_way) = self.restating_from.take().expect("it was asked for");
                assert_eq!(under_way, 0, "it waits for what was under way");
                if is_complete {
                    // Every write since was durable, so the place is where it was.
                    self.log.drain(..from);
                }
                Event::Restated(is_complete)
            }
        }
    }
}
