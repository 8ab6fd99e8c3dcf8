//! The table against a model that keeps every half's whole history and computes each answer from
//! it anew. Restarts rebuild the table from what was durable at some earlier moment; the wall clock
//! is set forwards and back meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use crate::half::event::{Ender, Event, Expiry, Placed, Sent};
use crate::half::id::TransactionId;
use crate::half::table::{Blocked, CheckBlocked, DueCheck, HalfFilter, Needed, Rules, Table};
use crate::model::{Offset, QueueId, TopicId};

const RULES: Rules =
    Rules { first_check_ms: 6_000, check_interval_ms: 30_000, checks_max: 3, age_max_ms: 300_000 };
const GROUPS: [&str; 3] = ["orders", "payments", "stock"];
const REMEMBER_MS: i64 = 600_000;
const REMEMBER_SLACK_MS: i64 = 60_000;
/// As long as it takes to ask as often as may be.
const KEPT_MS: i64 = 96_000;

#[derive(Debug, Clone)]
enum Op {
    Send {
        group: usize,
        immunity_ms: u32,
        message: Option<u8>,
    },
    End {
        half: usize,
        commits: bool,
        named: Option<usize>,
    },
    Poll {
        group: usize,
        max: usize,
    },
    Return {
        half: usize,
        number: u16,
        after_ms: i64,
    },
    CheckNow {
        half: usize,
    },
    Expire {
        max: usize,
    },
    Pass {
        ms: i64,
    },
    /// The wall clock is set.
    Jump {
        ms: i64,
    },
    Shorten,
    /// The newest groups of events that were not durable are lost.
    Restart {
        lost: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let half = 0usize..40;
    let immunity = prop_oneof![Just(0u32), 0u32..60_000];
    let named = proptest::option::of(0usize..3);
    let message = proptest::option::of(0u8..6);
    prop_oneof![
        6 => (0usize..3, immunity, message)
            .prop_map(|(group, immunity_ms, message)| Op::Send { group, immunity_ms, message }),
        4 => (half.clone(), any::<bool>(), named)
            .prop_map(|(half, commits, named)| Op::End { half, commits, named }),
        6 => (0usize..3, 1usize..5).prop_map(|(group, max)| Op::Poll { group, max }),
        2 => (half.clone(), 0u16..4, 0i64..40_000)
            .prop_map(|(half, number, after_ms)| Op::Return { half, number, after_ms }),
        1 => half.prop_map(|half| Op::CheckNow { half }),
        3 => (1usize..4).prop_map(|max| Op::Expire { max }),
        6 => (0i64..40_000).prop_map(|ms| Op::Pass { ms }),
        1 => Just(Op::Pass { ms: 700_000 }),
        2 => prop_oneof![Just(20_000i64), Just(-20_000), Just(20_000_000), Just(-9_000_000)]
            .prop_map(|ms| Op::Jump { ms }),
        2 => Just(Op::Shorten),
        2 => prop_oneof![2 => Just(0usize), 1 => 0usize..6].prop_map(|lost| Op::Restart { lost }),
    ]
}

/// A time of the wall clock, and by how much jumps had put it ahead since the start.
#[derive(Debug, Clone, Copy, PartialEq)]
struct When {
    wall_ms: i64,
    ahead_ms: i64,
}

impl When {
    fn ms(self) -> i64 {
        self.wall_ms - self.ahead_ms
    }
}

/// What happened to a half, oldest first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Happened {
    Checked(When),
    Returned { due: When },
    Asked(When),
    Ended { at: i64, when: When },
}

#[derive(Debug, Clone)]
struct ModelHalf {
    born: When,
    /// The event that says so.
    sent_at: i64,
    immunity_ms: i64,
    group: &'static str,
    message: Option<u8>,
    history: Vec<Happened>,
}

impl ModelHalf {
    fn end(&self) -> Option<(i64, i64)> {
        self.history.iter().find_map(|happened| match happened {
            Happened::Ended { at, when } => Some((*at, when.ms())),
            _ => None,
        })
    }

    fn checks(&self) -> u16 {
        let count = |is: fn(&Happened) -> bool| self.history.iter().filter(|h| is(h)).count();
        let handed_out = count(|happened| matches!(happened, Happened::Checked(_)));
        let returned = count(|happened| matches!(happened, Happened::Returned { .. }));
        u16::try_from(handed_out - returned).unwrap()
    }

    /// When the next check is due or, after the last one, the half is over.
    fn due_ms(&self) -> i64 {
        match self.history.last() {
            None => self.born.ms() + self.immunity_ms.max(RULES.first_check_ms),
            Some(Happened::Checked(at)) => at.ms() + RULES.check_interval_ms,
            Some(Happened::Returned { due }) => due.ms(),
            Some(Happened::Asked(at)) => at.ms(),
            Some(Happened::Ended { .. }) => unreachable!("asked of pending ones only"),
        }
    }

    fn expires_ms(&self, kept_until_ms: i64) -> i64 {
        let of_age = (self.born.ms() + RULES.age_max_ms).max(kept_until_ms);
        if self.checks() == RULES.checks_max { of_age.min(self.due_ms()) } else { of_age }
    }

    /// A start knows of no jumps before it.
    fn forget_jumps(&mut self) {
        self.born.ahead_ms = 0;
        for happened in &mut self.history {
            match happened {
                Happened::Checked(when)
                | Happened::Returned { due: when }
                | Happened::Asked(when)
                | Happened::Ended { when, .. } => when.ahead_ms = 0,
            }
        }
    }
}

/// By offset, since offsets never change what they name.
type Model = BTreeMap<i64, ModelHalf>;

struct World {
    now_ms: i64,
    monotonic_ms: i64,
    /// By how much jumps since the start have put the wall clock ahead.
    ahead_ms: i64,
    has_jumped: bool,
    kept_until_ms: i64,
    log: Vec<Event>,
    /// Where the queue of halves begins, and that of events.
    log_start: i64,
    events_start: i64,
    table: Table,
    model: Model,
    /// After each group of events: how long the log was, and the model.
    durable: Vec<(usize, Model)>,
}

impl World {
    fn new() -> Self {
        let durable = vec![(0, Model::new())];
        Self {
            now_ms: 1_000_000,
            monotonic_ms: 0,
            ahead_ms: 0,
            has_jumped: false,
            kept_until_ms: 1_000_000 + KEPT_MS,
            log: Vec::new(),
            log_start: 0,
            events_start: 0,
            table: Table::new(
                RULES,
                Needed { halves: Offset::ZERO, events: Offset::ZERO },
                1_000_000,
                0,
            ),
            model: Model::new(),
            durable,
        }
    }

    /// Appends a group and applies it, as the owner does.
    fn append(&mut self, events: Vec<Event>) -> i64 {
        let first = i64::try_from(self.log.len()).unwrap();
        for (at, event) in (first..).zip(events) {
            self.table.apply(Offset(at), &event);
            self.log.push(event);
        }
        first
    }

    fn now(&self) -> When {
        When { wall_ms: self.now_ms, ahead_ms: self.ahead_ms }
    }

    fn next_half(&self) -> i64 {
        let sent = self.log.iter().filter(|event| matches!(event, Event::Sent { .. }));
        i64::try_from(sent.count()).unwrap()
    }

    fn remember_durable(&mut self) {
        self.durable.push((self.log.len(), self.model.clone()));
    }

    fn id(&self, half: usize) -> Option<(TransactionId, ModelHalf)> {
        let (at, half) = self.model.iter().nth(half % self.model.len().max(1))?;
        Some((TransactionId { half: Offset(*at), born_ms: half.born.wall_ms }, half.clone()))
    }

    fn happened(&mut self, id: TransactionId, what: Happened) {
        self.model.get_mut(&id.half.0).unwrap().history.push(what);
    }

    /// What stands in the way of deciding anything about a half.
    fn blocked(&self, id: TransactionId, half: &ModelHalf) -> Option<Blocked> {
        let (at, _) = half.end()?;
        let is_gone = id.half.0 < self.log_start;
        Some(if is_gone { Blocked::Unknown } else { Blocked::Ended(Offset(at)) })
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Send { group, immunity_ms, message } => {
                self.send(GROUPS[group], immunity_ms, message);
            }
            Op::End { half, commits, named } => self.end(half, commits, named.map(|n| GROUPS[n])),
            Op::Poll { group, max } => self.poll(GROUPS[group], max),
            Op::Return { half, number, after_ms } => self.give_back(half, number, after_ms),
            Op::CheckNow { half } => self.check_now(half),
            Op::Expire { max } => self.expire(max),
            Op::Pass { ms } => self.pass(ms),
            Op::Jump { ms } => {
                self.now_ms += ms;
                self.ahead_ms += ms;
                self.has_jumped = true;
                let jump = self.table.look_at_clocks(self.now_ms, self.monotonic_ms);
                assert_eq!(jump, Some(ms));
            }
            Op::Shorten => self.shorten(),
            Op::Restart { lost } => self.restart(lost),
        }
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.monotonic_ms += ms;
        assert_eq!(self.table.look_at_clocks(self.now_ms, self.monotonic_ms), None);
    }

    /// The half of a message id, if it is pending or ended lately; either may be, in between.
    fn sent_before(&self, group: &str, message: u8) -> (Option<i64>, bool) {
        let of_id = |half: &ModelHalf| half.group == group && half.message == Some(message);
        let Some((at, half)) = self.model.iter().rev().find(|(_, half)| of_id(half)) else {
            return (None, false);
        };
        let is_gone = half.end().is_some() && *at < self.log_start;
        let may_be_forgotten =
            half.end().is_some_and(|(_, at_ms)| is_gone || at_ms < self.now().ms() - REMEMBER_MS);
        (Some(*at), may_be_forgotten)
    }

    fn send(&mut self, group: &'static str, immunity_ms: u32, message: Option<u8>) {
        let sent = Sent {
            topic_id: TopicId(Uuid::nil()),
            partition: 0,
            born_ms: self.now_ms,
            immunity_ms,
            group: group.to_owned(),
            topic: "t".to_owned(),
            message_id: message.map(|number| number.to_string()),
        };
        if let (Some(key), Some(message)) = (sent.message_key(), message) {
            let found = self.table.sent_before(key).map(|half| half.0);
            let (expected, may_be_forgotten) = self.sent_before(group, message);
            assert!(found == expected || may_be_forgotten && found.is_none(), "{found:?}");
            if found.is_some() {
                return;
            }
        }
        let half = self.next_half();
        let sent_at = self.append(vec![Event::Sent { half: Offset(half), sent }]);
        let immunity_ms = i64::from(immunity_ms);
        let (born, history) = (self.now(), Vec::new());
        let sent = ModelHalf { born, sent_at, immunity_ms, group, message, history };
        self.model.insert(half, sent);
        self.remember_durable();
    }

    fn end(&mut self, half: usize, commits: bool, named: Option<&'static str>) {
        let Some((id, half)) = self.id(half) else { return };
        let now_ms = self.now_ms;
        let placed = Placed { queue: QueueId(1), from: Offset(0), crc: 0 };
        let decided = if commits {
            self.table.decide_commit(now_ms, id, named, Ender::Producer, placed)
        } else {
            self.table.decide_rollback(now_ms, id, named, Ender::Operator)
        };
        let other = named.is_some_and(|named| named != half.group);
        let blocked = self.blocked(id, &half).or(other.then_some(Blocked::OtherGroup));
        let Ok(event) = decided else {
            assert_eq!(decided.err(), blocked);
            return;
        };
        assert_eq!(blocked, None);
        assert_eq!(matches!(event, Event::Committed { .. }), commits);
        let at = self.append(vec![event]);
        self.happened(id, Happened::Ended { at, when: self.now() });
        self.remember_durable();
        let again = self.table.decide_rollback(now_ms, id, None, Ender::Producer);
        assert_eq!(again, Err(Blocked::Ended(Offset(at))), "one end, whoever comes later");
    }

    fn is_over(&self, half: &ModelHalf) -> bool {
        half.expires_ms(self.kept_until_ms) <= self.now().ms()
    }

    /// What a group is to be asked, by the model: when due, then by age.
    fn due(&self, group: &str) -> Vec<DueCheck> {
        let mut due: Vec<_> = self
            .model
            .iter()
            .filter(|(_, half)| half.group == group && half.end().is_none())
            .filter(|(_, half)| half.checks() < RULES.checks_max)
            .filter(|(_, half)| half.due_ms() <= self.now().ms() && !self.is_over(half))
            .map(|(at, half)| (half.due_ms(), *at, half.born.wall_ms, half.checks() + 1))
            .collect();
        due.sort_unstable();
        due.into_iter()
            .map(|(_, at, born_ms, number)| DueCheck {
                id: TransactionId { half: Offset(at), born_ms },
                number,
            })
            .collect()
    }

    fn poll(&mut self, group: &'static str, max: usize) {
        let checks: Vec<_> = self.table.due_checks(self.now_ms, group).take(max).collect();
        let mut expected = self.due(group);
        expected.truncate(max);
        assert_eq!(checks, expected);
        if checks.is_empty() {
            return;
        }
        let now_ms = self.now_ms;
        let events = checks.iter().map(|check| self.table.decide_check(now_ms, *check)).collect();
        self.append(events);
        for check in checks {
            self.happened(check.id, Happened::Checked(self.now()));
        }
        let again = self.table.due_checks(now_ms, group).filter(|check| expected.contains(check));
        assert_eq!(again.count(), 0, "nobody else gets the same checks");
        self.remember_durable();
    }

    fn give_back(&mut self, half: usize, number: u16, after_ms: i64) {
        let Some((id, half)) = self.id(half) else { return };
        let due_ms = self.now_ms + after_ms;
        let decided = self.table.decide_return(self.now_ms, DueCheck { id, number }, due_ms);
        let blocked = self.blocked(id, &half).map(CheckBlocked::Half);
        let stale = number == 0 || number != half.checks();
        let blocked = blocked.or(stale.then_some(CheckBlocked::NotTheLast));
        assert_eq!(decided.as_ref().err(), blocked.as_ref());
        if let Ok(event) = decided {
            self.append(vec![event]);
            let due = When { wall_ms: due_ms, ahead_ms: self.ahead_ms };
            self.happened(id, Happened::Returned { due });
            self.remember_durable();
        }
    }

    fn check_now(&mut self, half: usize) {
        let Some((id, half)) = self.id(half) else { return };
        let decided = self.table.decide_check_now(self.now_ms, id);
        let blocked = self.blocked(id, &half).map(CheckBlocked::Half);
        let used_up = half.end().is_none() && half.checks() == RULES.checks_max;
        assert_eq!(
            decided.as_ref().err(),
            blocked.or(used_up.then_some(CheckBlocked::UsedUp)).as_ref()
        );
        if let Ok(event) = decided {
            self.append(vec![event]);
            self.happened(id, Happened::Asked(self.now()));
            self.remember_durable();
        }
    }

    fn expire(&mut self, max: usize) {
        let over: Vec<_> = self.table.expired(self.now_ms).collect();
        let mut expected: Vec<_> = self
            .model
            .iter()
            .filter(|(_, half)| half.end().is_none() && self.is_over(half))
            .map(|(at, half)| (half.expires_ms(self.kept_until_ms), *at))
            .collect();
        expected.sort_unstable();
        let found: Vec<_> = over.iter().map(|id| id.half.0).collect();
        assert_eq!(found, expected.iter().map(|(_, at)| *at).collect::<Vec<_>>());
        for id in over.into_iter().take(max) {
            let half = self.model[&id.half.0].clone();
            let event = self.table.decide_expiry(self.now_ms, id).unwrap();
            let Event::Expired { reason, checks, .. } = event else { panic!("{event:?}") };
            let asked_enough = checks == RULES.checks_max && half.due_ms() <= self.now().ms();
            assert_eq!(reason, if asked_enough { Expiry::Checks } else { Expiry::Age });
            assert_eq!(checks, half.checks());
            assert_eq!(self.table.expiry_of(self.now_ms, id), Some((reason, checks)));
            let at = self.append(vec![event]);
            self.happened(id, Happened::Ended { at, when: self.now() });
            self.remember_durable();
            assert_eq!(self.table.decide_expiry(self.now_ms, id), None);
        }
    }

    fn shorten(&mut self) {
        let needed = self.table.needed_from(self.now_ms);
        let (halves, events) = (needed.halves.0, needed.events.0.max(self.events_start));
        let now_ms = self.now().ms();
        for (at, half) in &self.model {
            let is_needed = match half.end() {
                None => true,
                Some((_, at_ms)) => *at >= self.log_start && at_ms > now_ms - REMEMBER_MS,
            };
            assert!(!is_needed || halves <= *at, "{at} is still needed, {halves} is not");
            assert!(!is_needed || events <= half.sent_at, "the events of {at} are still needed");
        }
        // What is neither pending nor ended lately keeps nothing from being let go.
        let long_ago = now_ms - REMEMBER_MS - REMEMBER_SLACK_MS;
        let keeps = |half: &ModelHalf| half.end().is_none_or(|(_, at_ms)| at_ms > long_ago);
        let kept = self.model.iter().find(|(at, half)| **at >= self.log_start && keeps(half));
        // An end that is dated into the future, since the clock was set back, keeps more.
        let is_strict = !self.has_jumped;
        let expected = kept.map_or(self.next_half(), |(at, _)| *at);
        assert!(!is_strict || halves >= expected, "{halves} of {expected}");
        let end = i64::try_from(self.log.len()).unwrap();
        assert!(!is_strict || kept.is_some() || events == end, "{events} of {end}");
        assert!(halves >= self.log_start);
        (self.log_start, self.events_start) = (halves, events);
        self.table.released(needed.halves);
        // A log start is only moved over what is durable.
        self.durable.clear();
        self.remember_durable();
    }

    fn restart(&mut self, lost: usize) {
        let kept = self.durable.len().saturating_sub(lost).max(1);
        self.durable.truncate(kept);
        let (length, model) = self.durable.last().unwrap().clone();
        self.log.truncate(length);
        self.model = model;
        self.model.values_mut().for_each(ModelHalf::forget_jumps);
        (self.ahead_ms, self.monotonic_ms) = (0, 7);
        self.kept_until_ms = self.now_ms + KEPT_MS;
        let start = Needed { halves: Offset(self.log_start), events: Offset(self.events_start) };
        self.table = Table::new(RULES, start, self.now_ms, self.monotonic_ms);
        let start = usize::try_from(self.events_start).unwrap();
        for (at, event) in (0..).zip(&self.log).skip(start) {
            self.table.apply(Offset(at), event);
        }
    }

    /// Everything that can be asked has the model's answer.
    fn compare(&self) {
        let pending: Vec<_> = self.model.iter().filter(|(_, half)| half.end().is_none()).collect();
        assert_eq!(self.table.pending_count(), pending.len());
        let oldest = pending.first().map(|(_, half)| half.born.wall_ms);
        assert_eq!(self.table.oldest_born_ms(), oldest);
        let expires_ms = |half: &ModelHalf| half.expires_ms(self.kept_until_ms) + self.ahead_ms;
        let first_over = pending.iter().map(|(_, half)| expires_ms(half)).min();
        assert_eq!(self.table.next_expiry_ms(), first_over);
        for group in GROUPS {
            let of_group = pending.iter().filter(|(_, half)| half.group == group);
            let counted = self.table.groups().into_iter().find(|(name, _)| &**name == group);
            let counted = counted.map_or(0, |(_, pending)| pending);
            assert_eq!(counted, of_group.clone().count() as u64);
            let checkable = of_group.filter(|(_, half)| half.checks() < RULES.checks_max);
            let next = checkable.map(|(_, half)| half.due_ms() + self.ahead_ms).min();
            assert_eq!(self.table.next_check_ms(group), next);
        }
        for (at, half) in &self.model {
            let id = TransactionId { half: Offset(*at), born_ms: half.born.wall_ms };
            let found = self.table.find(id);
            match (found, self.blocked(id, half)) {
                (Ok(found), None) => {
                    let stranger = TransactionId { born_ms: id.born_ms + 1, ..id };
                    assert_eq!(self.table.find(stranger), Err(Blocked::Unknown));
                    assert_eq!((found.id, &*found.group), (id, half.group));
                    assert_eq!(found.checks, half.checks());
                    assert_eq!(found.expires_ms, expires_ms(half));
                    let due = half.due_ms() + self.ahead_ms;
                    let due = (half.checks() < RULES.checks_max).then_some(due);
                    assert_eq!(found.next_check_ms, due);
                }
                (found, blocked) => assert_eq!(found.err(), blocked, "of {at}"),
            }
        }
    }

    /// Pages through the pending halves, as a console does.
    fn listed(&self, filter: &HalfFilter, max: usize) -> Vec<i64> {
        let (mut listed, mut from) = (Vec::new(), None);
        loop {
            let page = self.table.list(filter, from, max);
            assert!(page.halves.len() <= max);
            listed.extend(page.halves.iter().map(|half| half.id.half.0));
            match page.next {
                Some(next) => from = Some(next),
                None => return listed,
            }
        }
    }

    fn compare_lists(&self, max: usize) {
        let pending = self.model.iter().filter(|(_, half)| half.end().is_none());
        let all: Vec<i64> = pending.clone().map(|(at, _)| *at).collect();
        assert_eq!(self.listed(&HalfFilter::default(), max), all);
        let before = self.now_ms - 20_000;
        let old = pending.filter(|(_, half)| half.born.wall_ms < before && half.group == GROUPS[0]);
        let filter = HalfFilter { group: Some(GROUPS[0].to_owned()), born_before_ms: Some(before) };
        assert_eq!(self.listed(&filter, max), old.map(|(at, _)| *at).collect::<Vec<_>>());
    }

    /// Nobody decides anything any more: in the end nothing is pending.
    fn drain(&mut self) {
        // Halves that were born under a clock that was ahead may be that much younger.
        self.pass(RULES.age_max_ms + 100_000 + 60 * 20_000_000);
        self.expire(usize::MAX);
        self.compare();
        assert_eq!(self.table.pending_count(), 0);
        assert_eq!(self.table.groups(), []);
    }
}

/// Looks at the log alone: one end each, never more checks than allowed, none after the end, none
/// too early if the clock was never set.
fn check_log(log: &[Event], is_steady: bool) {
    let mut earliest: BTreeMap<i64, (i64, u16)> = BTreeMap::new();
    for event in log {
        let of = event.half().map(|half| half.0);
        let open = of.map(|half| earliest.get_mut(&half).unwrap_or_else(|| panic!("{half} ended")));
        match (event, open) {
            (Event::Sent { half, sent }, None) => {
                let wait_ms = RULES.first_check_ms.max(i64::from(sent.immunity_ms));
                earliest.insert(half.0, (sent.born_ms + wait_ms, 0));
            }
            (Event::Checked { at_ms, .. }, Some((due_ms, checks))) => {
                assert!(
                    !is_steady || at_ms >= due_ms,
                    "a check at {at_ms} that is due at {due_ms}"
                );
                (*due_ms, *checks) = (at_ms + RULES.check_interval_ms, *checks + 1);
                assert!(*checks <= RULES.checks_max);
            }
            (Event::CheckReturned { due_ms: again_ms, .. }, Some((due_ms, checks))) => {
                (*due_ms, *checks) = (*again_ms, *checks - 1);
            }
            (Event::CheckAsked { at_ms, .. }, Some((due_ms, _))) => *due_ms = *at_ms,
            (
                Event::Committed { .. } | Event::RolledBack { .. } | Event::Expired { .. },
                Some(_),
            ) => {
                earliest.remove(&of.unwrap());
            }
            (event, _) => panic!("{event:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_table_answers_as_the_model_does(
        ops in proptest::collection::vec(op(), 1..60),
        page in 1usize..6,
    ) {
        let mut world = World::new();
        for (nth, op) in ops.iter().enumerate() {
            world.run(op);
            if nth % 8 == 0 {
                world.compare();
            }
        }
        world.compare();
        world.compare_lists(page);
        world.restart(0);
        world.compare();
        world.drain();
        check_log(&world.log, !world.has_jumped);
    }
}
