//! The table against a naive model that keeps one line per record, through restarts at any durable
//! prefix of the log: what is delivered, to whom, how often, in which order (I20–I25).

use proptest::prelude::*;

use crate::delivery::decide::{Seen, Take, Taken, Verdict, deliverable, exhausted, judge, take};
use crate::delivery::event::{Change, Event, PartKey};
use crate::delivery::part::Part;
use crate::delivery::receipt::Receipt;
use crate::delivery::settings::{BackOff, GroupSettings, StartFrom};
use crate::delivery::table::Table;
use crate::model::TopicId;

const ATTEMPTS_MAX: u16 = 3;
const NACK_MS: i64 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// In the log, not yet given to anybody.
    Fresh,
    Leased {
        until_ms: i64,
        receive: u64,
    },
    Resting {
        until_ms: i64,
    },
    /// Condemned, not copied yet.
    Dying,
    Acked,
    DeadLetter,
    /// Filtered, or cut off by the log.
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    is_wanted: bool,
    group: u32,
    fate: Fate,
    attempts: u16,
    copies: u32,
}

impl Line {
    fn is_over(&self) -> bool {
        matches!(self.fate, Fate::Acked | Fate::DeadLetter | Fate::Gone)
    }
}

/// What a person with paper and pencil would keep.
#[derive(Debug, Clone, Default)]
struct Naive {
    lines: Vec<Line>,
    generation: i64,
}

impl Naive {
    /// Whether the record may be delivered now.
    fn is_ready(&self, at: usize, now_ms: i64) -> bool {
        let line = &self.lines[at];
        let is_first = line.group == 0
            || self.lines[..at]
                .iter()
                .all(|before| before.group != line.group || before.is_over() || !before.is_wanted);
        let is_free = match line.fate {
            Fate::Fresh => line.is_wanted,
            Fate::Leased { until_ms, .. } | Fate::Resting { until_ms } => {
                until_ms <= now_ms && line.attempts < ATTEMPTS_MAX
            }
            Fate::Dying | Fate::Acked | Fate::DeadLetter | Fate::Gone => false,
        };
        is_first && is_free
    }

    fn ready(&self, now_ms: i64) -> usize {
        (0..self.lines.len()).filter(|at| self.is_ready(*at, now_ms)).count()
    }
}

struct World {
    settings: GroupSettings,
    key: PartKey,
    now_ms: i64,
    table: Table,
    /// Encoded, with their offsets; from `log_from` on, the earlier ones are let go.
    log: Vec<Vec<u8>>,
    log_from: usize,
    /// The model after so many events.
    history: Vec<Naive>,
    naive: Naive,
    durable: usize,
    handles: Vec<Receipt>,
    /// Generation, where the first piece is, and the offset to go on from.
    pieces: Option<(i64, Option<i64>, i64)>,
}

#[derive(Debug, Clone)]
enum Op {
    Produce {
        records: Vec<(bool, u32)>,
    },
    Receive {
        max: usize,
        invisible_ms: i64,
        receive: u64,
    },
    Judge {
        handle: prop::sample::Index,
        verdict: Verdict,
    },
    Pass {
        ms: i64,
    },
    Condemn,
    Copy {
        max: usize,
    },
    Trim {
        by: usize,
    },
    Reset {
        to: prop::sample::Index,
    },
    /// The end of the partition is lost, the operator accepts that, and a start follows.
    Lose {
        by: usize,
    },
    Sync,
    Restate,
    /// Says a piece of everything again.
    Piece {
        size_bytes: usize,
    },
    Restart {
        lost: prop::sample::Index,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let verdict = prop_oneof![
        6 => Just(Verdict::Ack),
        3 => Just(Verdict::Nack { delay_ms: None }),
        1 => (0i64..100).prop_map(|ms| Verdict::Nack { delay_ms: Some(ms) }),
        2 => (1i64..100).prop_map(|ms| Verdict::Extend { invisible_ms: ms }),
        1 => Just(Verdict::DeadLetter { reason: Some("bad".into()) }),
    ];
    prop_oneof![
        4 => prop::collection::vec((prop::bool::weighted(0.8), 0u32..4), 1..8)
            .prop_map(|records| Op::Produce { records }),
        8 => (1usize..6, 1i64..80, 0u64..4)
            .prop_map(|(max, invisible_ms, receive)| Op::Receive { max, invisible_ms, receive }),
        10 => (any::<prop::sample::Index>(), verdict)
            .prop_map(|(handle, verdict)| Op::Judge { handle, verdict }),
        5 => (1i64..60).prop_map(|ms| Op::Pass { ms }),
        3 => Just(Op::Condemn),
        2 => (1usize..4).prop_map(|max| Op::Copy { max }),
        1 => (0usize..4).prop_map(|by| Op::Trim { by }),
        1 => any::<prop::sample::Index>().prop_map(|to| Op::Reset { to }),
        1 => (0usize..6).prop_map(|by| Op::Lose { by }),
        3 => Just(Op::Sync),
        2 => Just(Op::Restate),
        4 => (1usize..90).prop_map(|size_bytes| Op::Piece { size_bytes }),
        2 => any::<prop::sample::Index>().prop_map(|lost| Op::Restart { lost }),
    ]
}

impl World {
    fn new(is_ordered: bool) -> Self {
        let key = PartKey {
            group: "orders".into(),
            topic: TopicId(uuid::Uuid::from_u128(1)),
            partition: 0,
        };
        let settings = GroupSettings {
            attempts_max: ATTEMPTS_MAX,
            back_off: BackOff::Exponential {
                initial_ms: NACK_MS,
                max_ms: NACK_MS,
                multiplier_percent: 100,
            },
            is_ordered,
            start: StartFrom::Earliest,
            in_flight_max: 10_000,
        };
        let mut world = Self {
            settings,
            key,
            now_ms: 1_000,
            table: Table::default(),
            log: Vec::new(),
            log_from: 0,
            history: vec![Naive::default()],
            naive: Naive::default(),
            durable: 0,
            handles: Vec::new(),
            pieces: None,
        };
        world.naive.generation = 1_000;
        world.append(Change::Reset { to: 0, generation: 1_000 });
        world.durable = 1;
        world
    }

    fn part(&self) -> &Part {
        self.table.part(&self.key).unwrap()
    }

    /// The model was changed before: both are remembered under the new length of the log.
    fn append(&mut self, change: Change) {
        let before = self.table.part(&self.key).map_or(0, Part::start);
        let is_reset = matches!(change, Change::Reset { .. } | Change::Cut { .. });
        let event = Event::Part { key: self.key.clone(), change };
        self.log.push(event.encode());
        let at = i64::try_from(self.log.len() - 1).unwrap();
        self.table.apply(at, &Event::decode(&self.log[self.log.len() - 1]).unwrap());
        self.history.push(self.naive.clone());
        assert!(is_reset || self.part().start() >= before, "the start went back");
    }

    fn seen(&self, is_ordered: bool) -> Vec<Seen> {
        let from = usize::try_from(self.part().scanned_to()).unwrap();
        let lines = self.naive.lines.iter().enumerate().skip(from);
        // What is cut off the log is not found by whoever reads.
        let there = lines.filter(|(_, line)| line.fate != Fate::Gone || !line.is_wanted);
        let seen = there.map(|(at, line)| Seen {
            offset: i64::try_from(at).unwrap(),
            is_wanted: line.is_wanted,
            message_group: if is_ordered { line.group } else { 0 },
        });
        seen.collect()
    }

    fn receive(&mut self, max: usize, invisible_ms: i64, receive: u64) {
        let now_ms = self.now_ms;
        let part = self.part();
        if receive != 0 {
            let held: Vec<_> =
                part.held_by(receive, now_ms).map(|(o, e)| (o, e.attempts)).collect();
            let expected: Vec<_> = (0i64..)
                .zip(&self.naive.lines)
                .filter(|(_, line)| match line.fate {
                    Fate::Leased { until_ms, receive: by } => by == receive && until_ms > now_ms,
                    _ => false,
                })
                .map(|(offset, line)| (offset, line.attempts))
                .collect();
            assert_eq!(held, expected, "the batch of attempt id {receive}");
            if !held.is_empty() {
                return;
            }
        }
        let again = deliverable(part, now_ms, &self.settings, max);
        let seen = self.seen(self.settings.is_ordered);
        let until_ms = now_ms + invisible_ms;
        let ready = self.naive.ready(now_ms);
        let seen_to = i64::try_from(self.naive.lines.len()).unwrap();
        let asked = Take {
            now_ms,
            until_ms,
            receive,
            max,
            settings: &self.settings,
            again: &again,
            seen: &seen,
            seen_to,
        };
        let Some(Taken { change, leases, .. }) = take(part, &asked) else {
            assert_eq!(ready, 0, "nothing delivered though {ready} are ready");
            return;
        };
        assert_eq!(leases.len(), ready.min(max), "of {ready} ready ones");
        let ready_now = self.naive.clone();
        for lease in &leases {
            let at = usize::try_from(lease.offset).unwrap();
            assert!(ready_now.is_ready(at, now_ms), "{at}: {:?}", ready_now.lines[at]);
            let line = &mut self.naive.lines[at];
            assert_eq!(lease.attempt, line.attempts + 1, "attempts of {at}");
            line.attempts += 1;
            line.fate = Fate::Leased { until_ms, receive };
            self.handles.push(Receipt {
                group_hash: 0,
                topic: self.key.topic,
                partition: 0,
                generation: self.naive.generation,
                offset: lease.offset,
                attempt: lease.attempt,
            });
        }
        self.append(change);
    }

    fn judge(&mut self, handle: &Receipt, verdict: &Verdict) {
        let judged = judge(self.part(), self.now_ms, handle, verdict, &self.settings);
        let at = usize::try_from(handle.offset).unwrap();
        // A handle can be of a delivery that a cut took back.
        let is_of_now = handle.generation == self.naive.generation && at < self.naive.lines.len();
        let line = is_of_now.then(|| self.naive.lines[at]);
        let holds = line.is_some_and(|line| {
            matches!(line.fate, Fate::Leased { .. }) && line.attempts == handle.attempt
        });
        if !holds {
            let is_over = line.is_some_and(|line| line.is_over());
            let is_said_again = matches!(verdict, Verdict::DeadLetter { .. })
                && line.is_some_and(|line| {
                    line.fate == Fate::Dying && line.attempts == handle.attempt
                });
            let is_final = matches!(verdict, Verdict::Ack | Verdict::DeadLetter { .. });
            if is_over && is_final && self.part().is_done(handle.offset) || is_said_again {
                assert_eq!(judged, Ok(None));
            } else {
                assert!(judged.is_err(), "{judged:?} for {line:?} by {handle:?}");
            }
            return;
        }
        let change = judged.unwrap().unwrap();
        let line = &mut self.naive.lines[at];
        line.fate = match verdict {
            Verdict::Ack => Fate::Acked,
            Verdict::DeadLetter { .. } => Fate::Dying,
            Verdict::Nack { .. } if line.attempts == ATTEMPTS_MAX => Fate::Dying,
            Verdict::Nack { delay_ms } => {
                Fate::Resting { until_ms: self.now_ms + delay_ms.unwrap_or(NACK_MS) }
            }
            Verdict::Extend { invisible_ms } => {
                let Fate::Leased { receive, .. } = line.fate else { unreachable!() };
                Fate::Leased { until_ms: self.now_ms + invisible_ms, receive }
            }
        };
        self.append(change);
    }

    fn condemn(&mut self) {
        let due = self.part().newly_due(i64::MIN, self.now_ms);
        let change = exhausted(due, &self.settings, 2);
        let is_over = |line: &Line| match line.fate {
            Fate::Leased { until_ms, .. } | Fate::Resting { until_ms } => {
                until_ms <= self.now_ms && line.attempts >= ATTEMPTS_MAX
            }
            _ => false,
        };
        let over = self.naive.lines.iter().filter(|line| is_over(line)).count();
        let Some(Change::Archiving { reason, offsets }) = change else {
            assert_eq!(over, 0, "exhausted ones are left");
            return;
        };
        assert_eq!(offsets.len(), over.min(2));
        for offset in &offsets {
            let line = self.naive.lines[usize::try_from(*offset).unwrap()];
            assert!(is_over(&line), "{offset}: {line:?}");
            self.naive.lines[usize::try_from(*offset).unwrap()].fate = Fate::Dying;
        }
        self.append(Change::Archiving { reason, offsets });
    }

    /// What the owner does: copy to the dead letters and done, in one group.
    fn copy(&mut self, max: usize) {
        let offsets: Vec<i64> = self.part().archiving().map(|(o, _)| o).take(max).collect();
        if offsets.is_empty() {
            assert!(self.naive.lines.iter().all(|line| line.fate != Fate::Dying));
            return;
        }
        for offset in &offsets {
            let line = &mut self.naive.lines[usize::try_from(*offset).unwrap()];
            assert_eq!(line.fate, Fate::Dying);
            line.copies += 1;
            line.fate = Fate::DeadLetter;
        }
        self.append(Change::Archived { offsets });
    }

    fn trim(&mut self, by: usize) {
        let to = (usize::try_from(self.part().start()).unwrap() + by).min(self.naive.lines.len());
        for line in &mut self.naive.lines[..to] {
            if !line.is_over() {
                line.fate = Fate::Gone;
            }
        }
        self.append(Change::Trimmed { to: i64::try_from(to).unwrap() });
    }

    fn reset(&mut self, to: prop::sample::Index) {
        let to = to.index(self.naive.lines.len() + 1);
        self.naive.generation += 1;
        for (at, line) in self.naive.lines.iter_mut().enumerate() {
            line.attempts = 0;
            line.copies = 0;
            line.fate = if at < to { Fate::Gone } else { Fate::Fresh };
        }
        let generation = self.naive.generation;
        self.append(Change::Reset { to: i64::try_from(to).unwrap(), generation });
    }

    fn lose(&mut self, by: usize) {
        let left = self.naive.lines.len().saturating_sub(by);
        self.naive.lines.truncate(left);
        let to = i64::try_from(left).unwrap();
        // What was leased and did not outlive a restart was handed out to nobody.
        let known_to = self.part().known_to();
        self.handles.retain(|handle| handle.offset < to.max(known_to));
        if known_to > to {
            self.naive.generation += 1;
            let generation = self.naive.generation;
            self.append(Change::Cut { to, generation });
        } else {
            let last = self.history.len() - 1;
            self.history[last] = self.naive.clone();
        }
        // Nothing is written at the lost offsets before this is.
        self.sync();
        self.pieces = None;
    }

    /// Says everything again and lets the beginning of the log go.
    fn restate(&mut self) {
        self.sync();
        let said = self.part().said();
        let before = self.part().clone();
        self.append(Change::State(Box::new(said)));
        assert_eq!(*self.part(), before, "what was said differs from what is");
        self.log_from = usize::try_from(self.table.needed_from().unwrap()).unwrap();
        assert_eq!(self.log_from, self.log.len() - 1);
        self.sync();
    }

    /// Says the next piece, and after the last one lets the beginning of the log go.
    fn piece(&mut self, size_bytes: usize) {
        let begun = (self.part().generation(), None, i64::MIN);
        let (generation, since, from) = self.pieces.take().unwrap_or(begun);
        if self.part().generation() != generation {
            return;
        }
        let (said, rest) = self.part().piece(from, size_bytes);
        let before = self.part().clone();
        let first = since.unwrap_or(i64::try_from(self.log.len()).unwrap());
        let since = rest.is_none().then_some(first);
        self.append(Change::Piece { since, said: Box::new(said) });
        assert_eq!(*self.part(), before, "what was said differs from what is");
        match rest {
            Some(from) => self.pieces = Some((generation, Some(first), from)),
            None => {
                self.sync();
                let needed = self.table.needed_from().unwrap();
                assert!(needed >= first, "{needed} is needed though all was said since {first}");
                self.log_from = usize::try_from(needed).unwrap();
            }
        }
    }

    fn sync(&mut self) {
        self.durable = self.log.len();
    }

    fn restart(&mut self, lost: prop::sample::Index) {
        let keep = self.durable + lost.index(self.log.len() - self.durable + 1);
        let whole = keep == self.log.len();
        self.log.truncate(keep);
        self.history.truncate(keep + 1);
        let records = std::mem::take(&mut self.naive.lines);
        self.naive = self.history[keep].clone();
        // The records themselves are another queue's: what was produced since stays.
        for line in records.iter().skip(self.naive.lines.len()) {
            self.naive.lines.push(Line { fate: Fate::Fresh, attempts: 0, copies: 0, ..*line });
        }
        let mut table = Table::default();
        for (at, event) in self.log.iter().enumerate().skip(self.log_from) {
            table.apply(i64::try_from(at).unwrap(), &Event::decode(event).unwrap());
        }
        if whole {
            assert_eq!(table.part(&self.key), self.table.part(&self.key));
        }
        self.table = table;
        self.pieces = None;
        self.durable = keep;
    }

    /// Everything is delivered until it is acknowledged or a dead letter (I20, I22).
    fn drain(&mut self) {
        for _ in 0..self.naive.lines.len() * 8 + 8 {
            self.now_ms += 200;
            self.condemn();
            self.copy(100);
            let handles = self.handles.len();
            self.receive(4, 100, 0);
            for handle in self.handles.split_off(handles) {
                let verdict = match handle.offset % 3 {
                    0 => Verdict::Nack { delay_ms: None },
                    _ => Verdict::Ack,
                };
                self.judge(&handle, &verdict);
            }
        }
        self.condemn();
        self.copy(1_000);
        let lines = &self.naive.lines;
        assert!(lines.iter().all(|line| line.is_over() || !line.is_wanted), "{lines:?}");
        assert_eq!(self.part().undone(), 0);
        for line in lines.iter().filter(|line| line.fate == Fate::DeadLetter) {
            assert_eq!(line.copies, 1, "one dead letter each");
        }
        assert_eq!(self.part().next_due_ms(i64::MIN), None);
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Produce { records } => {
                let lines = records.into_iter().map(|(is_wanted, group)| {
                    let group = if self.settings.is_ordered { group } else { 0 };
                    Line { is_wanted, group, fate: Fate::Fresh, attempts: 0, copies: 0 }
                });
                self.naive.lines.extend(lines);
                // Records come by another queue, which is durable here.
                let last = self.history.len() - 1;
                self.history[last] = self.naive.clone();
            }
            Op::Receive { max, invisible_ms, receive } => self.receive(max, invisible_ms, receive),
            Op::Judge { handle, verdict } => {
                if !self.handles.is_empty() {
                    let handle = self.handles[handle.index(self.handles.len())];
                    self.judge(&handle, &verdict);
                }
            }
            Op::Pass { ms } => self.now_ms += ms,
            Op::Condemn => self.condemn(),
            Op::Copy { max } => self.copy(max),
            Op::Trim { by } => self.trim(by),
            Op::Reset { to } => self.reset(to),
            Op::Lose { by } => self.lose(by),
            Op::Sync => self.sync(),
            Op::Restate => self.restate(),
            Op::Piece { size_bytes } => self.piece(size_bytes),
            Op::Restart { lost } => self.restart(lost),
        }
    }
}

fn cases() -> u32 {
    std::env::var("BRAID_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn deliveries_are_what_paper_and_pencil_say(
        is_ordered: bool,
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut world = World::new(is_ordered);
        for op in ops {
            world.run(op);
        }
        world.drain();
    }
}
