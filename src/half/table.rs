//! The halves that are pending, and what became of the others: a pure state machine.
//!
//! Questions and `decide_*` look and change nothing; what is decided is an event, and only
//! [`Table::apply`] of an event that is in the log changes anything. Applied to the whole queue it
//! makes the table that was there before a restart. No payload is here: a pending half costs the
//! same however large its message is.
//!
//! Invariant: a half is pending from its `Sent` on until the first of `Committed`, `RolledBack` and
//! `Expired`; nothing is decided about it after.
//!
//! What comes in and goes out are times of the wall clock; inside, they are without its jumps
//! ([`Times`]). What was pending at a start is not too old before its producers could be asked as
//! often as they may be, however long the broker was away or the clock says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::ends::Ends;
use super::event::{Ender, Event, Expiry, Placed, Sent};
use super::groups::{GroupNumber, Groups};
use super::id::TransactionId;
use super::ids::{Ids, MessageKey};
use super::times::{Era, Times};
use crate::model::{Offset, TopicId};

/// When producers are asked, and when nobody is asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// From birth to the first check.
    pub(super) first_check_ms: i64,
    /// From a check to the next, and from the last to the expiry.
    pub(super) check_interval_ms: i64,
    /// Checks of one half.
    pub(super) checks_max: u16,
    /// Age at which a half expires, checked or not.
    pub(super) age_max_ms: i64,
}

impl Rules {
    /// How long a half that is overdue at a start is kept: its producers are to be asked before.
    fn kept_ms(&self) -> i64 {
        let checks = i64::from(self.checks_max).saturating_mul(self.check_interval_ms);
        self.first_check_ms.saturating_add(checks).min(self.age_max_ms)
    }
}

/// A pending half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Half {
    /// By the wall clock, in its era.
    born_ms: i64,
    /// When the next check is due or, after the last, when it expires; without jumps.
    due_ms: i64,
    topic_id: TopicId,
    partition: i32,
    group: GroupNumber,
    /// If its sender gave it a message id.
    message: Option<MessageKey>,
    checks: u16,
    era: Era,
}

/// A pending half, as told to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: TransactionId,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: i32,
    pub(crate) group: Arc<str>,
    /// How often its producers were asked.
    pub(crate) checks: u16,
    /// When they are asked next, if somebody is there to be asked; none after the last check.
    pub(crate) next_check_ms: Option<i64>,
    /// When it expires unless it is decided before.
    pub(crate) expires_ms: i64,
}

/// Why nothing can be decided about a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// It never was, or it ended so long ago that nothing is known of it any more.
    Unknown,
    /// It came to its end by the event at this offset.
    Ended(Offset),
    /// It is another group's.
    OtherGroup,
}

/// Why a check is not given back, or not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckBlocked {
    Half(Blocked),
    /// Another check came after it.
    NotTheLast,
    /// Its producers were asked as often as may be.
    UsedUp,
}

/// A check that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueCheck {
    pub(super) id: TransactionId,
    /// Which one of the half this is, from 1.
    pub(super) number: u16,
}

/// Which pending halves to list: all conditions hold.
#[derive(Debug, Clone, Default)]
pub(crate) struct HalfFilter {
    pub(crate) group: Option<String>,
    pub(crate) born_before_ms: Option<i64>,
}

/// A page of pending halves, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HalfPage {
    /// May be fewer than asked for, even none, while there are more.
    pub(crate) halves: Vec<Pending>,
    /// Where to go on; none at the end.
    pub(crate) next: Option<TransactionId>,
}

/// Pending halves looked at for one page, so that a rare filter does not hold everybody up.
const LOOKED_AT_MAX: usize = 50_000;
/// Of so many halves one says where the events of those from there on begin.
const MARKED_EVERY: i64 = 256;

/// Where the two queues are still needed from: everything before may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    pub(super) halves: Offset,
    pub(super) events: Offset,
}

#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    halves: BTreeMap<i64, Half>,
    groups: Groups,
    /// When a half expires as things stand, and which.
    expiring: BTreeSet<(i64, i64)>,
    ends: Ends,
    ids: Ids,
    times: Times,
    /// Until then nothing that was pending at the start is too old; without jumps.
    kept_until_ms: i64,
    /// Of some halves, in order: that no event about it or a later one is before this offset.
    marks: VecDeque<(Offset, Offset)>,
    /// Where the queue of halves begins: older ones are gone.
    first: Offset,
    /// Behind the last half and the last event applied.
    next: Needed,
}

impl Table {
    /// The table of queues that begin there, before their first event, at a time of the wall clock
    /// and of the monotonic one.
    pub(super) fn new(rules: Rules, start: Needed, now_ms: i64, monotonic_ms: i64) -> Self {
        Self {
            rules,
            halves: BTreeMap::new(),
            groups: Groups::default(),
            expiring: BTreeSet::new(),
            ends: Ends::default(),
            ids: Ids::default(),
            times: Times::new(now_ms, monotonic_ms),
            kept_until_ms: now_ms.saturating_add(rules.kept_ms()),
            marks: VecDeque::new(),
            first: start.halves,
            next: start,
        }
    }

    /// Looks at the clocks: to be told before anything is asked, decided or applied. Returns by how
    /// much the wall clock has jumped, if it has.
    pub(super) fn look_at_clocks(&mut self, now_ms: i64, monotonic_ms: i64) -> Option<i64> {
        self.times.look(now_ms, monotonic_ms)
    }

    /// Takes over the event at `at`, which is in the log. Total: an event about a half that is not
    /// pending, whose record is gone, changes nothing.
    pub(super) fn apply(&mut self, at: Offset, event: &Event) {
        self.next.events = at.plus(1);
        match event {
            Event::Sent { half, sent } => {
                if *half < self.first {
                    return;
                }
                self.next.halves = self.next.halves.max(half.plus(1));
                if half.0 % MARKED_EVERY == 0 || self.marks.is_empty() {
                    self.marks.push_back((*half, at));
                }
                self.insert(*half, sent);
            }
            Event::Checked { half, at_ms } => {
                let at_ms = self.times.at(*at_ms);
                let due_ms = at_ms.saturating_add(self.rules.check_interval_ms);
                self.change(*half, |half| {
                    half.checks = half.checks.saturating_add(1);
                    half.due_ms = due_ms;
                });
            }
            Event::CheckReturned { half, due_ms, .. } => {
                let due_ms = self.times.at(*due_ms);
                self.change(*half, |half| {
                    half.checks = half.checks.saturating_sub(1);
                    half.due_ms = due_ms;
                });
            }
            Event::CheckAsked { half, at_ms } => {
                let due_ms = self.times.at(*at_ms);
                self.change(*half, |half| half.due_ms = due_ms);
            }
            Event::Committed { half, at_ms, .. }
            | Event::RolledBack { half, at_ms, .. }
            | Event::Expired { half, at_ms, .. } => {
                let Some(ended) = self.remove(*half) else { return };
                let at_ms = self.times.at(*at_ms);
                self.ends.insert(*half, at, at_ms);
                if let Some(message) = ended.message {
                    self.ids.end(message, *half, at_ms);
                }
            }
        }
    }

    fn insert(&mut self, at: Offset, sent: &Sent) {
        self.remove(at);
        let wait_ms = self.rules.first_check_ms.max(i64::from(sent.immunity_ms));
        let era = self.times.era_of(sent.born_ms);
        let half = Half {
            born_ms: sent.born_ms,
            due_ms: self.times.of(era, sent.born_ms).saturating_add(wait_ms),
            topic_id: sent.topic_id,
            partition: sent.partition,
            group: self.groups.enter(&sent.group),
            message: sent.message_key(),
            checks: 0,
            era,
        };
        if let Some(message) = half.message {
            self.ids.insert(message, at);
        }
        self.halves.insert(at.0, half);
        self.enlist(at, half);
    }

    fn change(&mut self, at: Offset, change: impl FnOnce(&mut Half)) {
        let Some(half) = self.halves.get_mut(&at.0) else { return };
        let before = *half;
        change(half);
        let after = *half;
        self.strike(at, before);
        self.enlist(at, after);
    }

    fn remove(&mut self, at: Offset) -> Option<Half> {
        let half = self.halves.remove(&at.0)?;
        self.strike(at, half);
        self.groups.leave(half.group);
        Some(half)
    }

    /// Enters a half where its times are looked up.
    fn enlist(&mut self, at: Offset, half: Half) {
        if half.checks < self.rules.checks_max {
            self.groups.set_due(half.group, half.due_ms, at);
        }
        self.expiring.insert((self.expires_ms(half), at.0));
    }

    fn strike(&mut self, at: Offset, half: Half) {
        self.groups.clear_due(half.group, half.due_ms, at);
        self.expiring.remove(&(self.expires_ms(half), at.0));
    }

    /// Without jumps.
    fn expires_ms(&self, half: Half) -> i64 {
        let born_ms = self.times.of(half.era, half.born_ms);
        let of_age = born_ms.saturating_add(self.rules.age_max_ms).max(self.kept_until_ms);
        if half.checks < self.rules.checks_max { of_age } else { of_age.min(half.due_ms) }
    }

    fn half(&self, id: TransactionId) -> Result<Half, Blocked> {
        match self.halves.get(&id.half.0) {
            Some(half) if half.born_ms == id.born_ms => Ok(*half),
            Some(_) => Err(Blocked::Unknown),
            None => Err(self.ends.get(id.half).map_or(Blocked::Unknown, Blocked::Ended)),
        }
    }

    /// The half that was sent under the same message id, or under another of the same hash.
    pub(super) fn sent_before(&self, message: MessageKey) -> Option<Offset> {
        self.ids.find(message)
    }

    /// What a commit would append, if the half is pending (and that group's, if one is named).
    pub(super) fn decide_commit(
        &self,
        now_ms: i64,
        id: TransactionId,
        group: Option<&str>,
        by: Ender,
        placed: Placed,
    ) -> Result<Event, Blocked> {
        self.check_group(id, group)?;
        Ok(Event::Committed { half: id.half, at_ms: now_ms, by, placed })
    }

    pub(super) fn decide_rollback(
        &self,
        now_ms: i64,
        id: TransactionId,
        group: Option<&str>,
        by: Ender,
    ) -> Result<Event, Blocked> {
        self.check_group(id, group)?;
        Ok(Event::RolledBack { half: id.half, at_ms: now_ms, by })
    }

    fn check_group(&self, id: TransactionId, group: Option<&str>) -> Result<(), Blocked> {
        let half = self.half(id)?;
        match group {
            Some(group) if self.groups.find(group) != Some(half.group) => Err(Blocked::OtherGroup),
            Some(_) | None => Ok(()),
        }
    }

    /// The checks of a group that are due, the longest overdue first.
    pub(super) fn due_checks<'a>(
        &'a self,
        now_ms: i64,
        group: &str,
    ) -> impl Iterator<Item = DueCheck> + use<'a> {
        let now_ms = self.times.at(now_ms);
        let due = self.groups.due(group).take_while(move |(due_ms, _)| *due_ms <= now_ms);
        due.filter_map(move |(_, at)| {
            let half = self.halves.get(&at.0)?;
            let is_over = self.expires_ms(*half) <= now_ms;
            let id = TransactionId { half: at, born_ms: half.born_ms };
            (!is_over).then_some(DueCheck { id, number: half.checks + 1 })
        })
    }

    /// When the next check of a group is due.
    pub(super) fn next_check_ms(&self, group: &str) -> Option<i64> {
        self.groups.due(group).next().map(|(due_ms, _)| self.times.on_the_wall(due_ms))
    }

    /// Hands out a check.
    pub(super) fn decide_check(&self, now_ms: i64, check: DueCheck) -> Event {
        Event::Checked { half: check.id.half, at_ms: now_ms }
    }

    /// Takes a check back that reached nobody; the next is due at `due_ms`.
    pub(super) fn decide_return(
        &self,
        now_ms: i64,
        check: DueCheck,
        due_ms: i64,
    ) -> Result<Event, CheckBlocked> {
        let half = self.half(check.id).map_err(CheckBlocked::Half)?;
        if half.checks != check.number || check.number == 0 {
            return Err(CheckBlocked::NotTheLast);
        }
        Ok(Event::CheckReturned { half: check.id.half, at_ms: now_ms, due_ms })
    }

    /// Makes a check due now, immunity or not.
    pub(super) fn decide_check_now(
        &self,
        now_ms: i64,
        id: TransactionId,
    ) -> Result<Event, CheckBlocked> {
        let half = self.half(id).map_err(CheckBlocked::Half)?;
        if half.checks >= self.rules.checks_max {
            return Err(CheckBlocked::UsedUp);
        }
        Ok(Event::CheckAsked { half: id.half, at_ms: now_ms })
    }

    /// The halves whose time is over, the longest overdue first.
    pub(super) fn expired(&self, now_ms: i64) -> impl Iterator<Item = TransactionId> + use<'_> {
        let now_ms = self.times.at(now_ms);
        let over = self.expiring.iter().take_while(move |(at_ms, _)| *at_ms <= now_ms);
        over.filter_map(|(_, at)| {
            let half = self.halves.get(at)?;
            Some(TransactionId { half: Offset(*at), born_ms: half.born_ms })
        })
    }

    /// When the next half expires.
    pub(super) fn next_expiry_ms(&self) -> Option<i64> {
        self.expiring.first().map(|(at_ms, _)| self.times.on_the_wall(*at_ms))
    }

    /// Ends a half whose time is over; none if it is not, or not any more.
    pub(super) fn decide_expiry(&self, now_ms: i64, id: TransactionId) -> Option<Event> {
        let half = self.half(id).ok()?;
        if self.expires_ms(half) > self.times.at(now_ms) {
            return None;
        }
        let (reason, checks) = (self.expiry(now_ms, half), half.checks);
        Some(Event::Expired { half: id.half, at_ms: now_ms, reason, checks })
    }

    fn expiry(&self, now_ms: i64, half: Half) -> Expiry {
        let is_over = half.due_ms <= self.times.at(now_ms);
        let asked_enough = half.checks >= self.rules.checks_max && is_over;
        if asked_enough { Expiry::Checks } else { Expiry::Age }
    }

    /// Why and after how many checks a half would expire now.
    pub(super) fn expiry_of(&self, now_ms: i64, id: TransactionId) -> Option<(Expiry, u16)> {
        let half = self.half(id).ok()?;
        Some((self.expiry(now_ms, half), half.checks))
    }

    /// Where a pending half is to go.
    pub(super) fn target_of(&self, id: TransactionId) -> Result<(TopicId, i32), Blocked> {
        self.half(id).map(|half| (half.topic_id, half.partition))
    }

    /// A pending half, or what there is instead.
    pub(super) fn find(&self, id: TransactionId) -> Result<Pending, Blocked> {
        let half = self.half(id)?;
        self.tell(id.half, half).ok_or(Blocked::Unknown)
    }

    fn tell(&self, at: Offset, half: Half) -> Option<Pending> {
        let due_ms = self.times.on_the_wall(half.due_ms);
        let next_check_ms = (half.checks < self.rules.checks_max).then_some(due_ms);
        Some(Pending {
            id: TransactionId { half: at, born_ms: half.born_ms },
            topic_id: half.topic_id,
            partition: half.partition,
            group: Arc::clone(self.groups.name(half.group)?),
            checks: half.checks,
            next_check_ms,
            expires_ms: self.times.on_the_wall(self.expires_ms(half)),
        })
    }

    /// Pending halves from `from` on, oldest first.
    pub(super) fn list(
        &self,
        filter: &HalfFilter,
        from: Option<TransactionId>,
        max: usize,
    ) -> HalfPage {
        let mut page = HalfPage::default();
        let group = match &filter.group {
            None => None,
            Some(name) => match self.groups.find(name) {
                None => return page,
                found => found,
            },
        };
        let from = from.map_or(0, |id| id.half.0);
        for (looked_at, (at, half)) in self.halves.range(from..).enumerate() {
            if page.halves.len() >= max.max(1) || looked_at == LOOKED_AT_MAX {
                page.next = Some(TransactionId { half: Offset(*at), born_ms: half.born_ms });
                break;
            }
            let is_groups = group.is_none_or(|group| group == half.group);
            let is_older = filter.born_before_ms.is_none_or(|before| half.born_ms < before);
            if is_groups && is_older {
                page.halves.extend(self.tell(Offset(*at), *half));
            }
        }
        page
    }

    /// The groups with pending halves and how many each has, by name.
    pub(super) fn groups(&self) -> Vec<(Arc<str>, u64)> {
        let mut groups: Vec<_> =
            self.groups.iter().map(|(name, pending)| (Arc::clone(name), pending)).collect();
        groups.sort_unstable();
        groups
    }

    pub(super) fn pending_count(&self) -> usize {
        self.halves.len()
    }

    /// When the oldest pending half was born.
    pub(super) fn oldest_born_ms(&self) -> Option<i64> {
        self.halves.first_key_value().map(|(_, half)| half.born_ms)
    }

    /// From where on the queues are still needed. Forgets what was remembered for long enough.
    pub(super) fn needed_from(&mut self, now_ms: i64) -> Needed {
        let now_ms = self.times.at(now_ms);
        self.ids.forget(now_ms);
        let pending = self.halves.first_key_value().map(|(at, _)| Offset(*at));
        let ended = self.ends.oldest_needed(now_ms);
        let Some(halves) = pending.into_iter().chain(ended).min() else {
            self.marks.clear();
            return self.next;
        };
        while self.marks.get(1).is_some_and(|(half, _)| *half <= halves) {
            self.marks.pop_front();
        }
        // Before the first mark nothing is known, and nothing goes.
        let mark = self.marks.front().filter(|(half, _)| *half <= halves);
        Needed { halves, events: mark.map_or(Offset::ZERO, |(_, events)| *events) }
    }

    /// Forgets the ends of halves whose records are gone.
    pub(super) fn released(&mut self, log_start: Offset) {
        self.first = log_start;
        self.ends.forget_below(log_start);
    }
}
