//! One partition as one group sees it: what is done, and what became of the rest.
//!
//! Everything below `scanned_to` is done but for the entries; nothing from there on is, but for
//! the ranges in `done`. [`Part::apply`] is the only way to change it. Pure.
//!
//! Order: entries with a message group are in `order`, and only the first of each message group
//! can be delivered, expire or be released; so `due` holds no other. That is a rule of the state:
//! a group's settings say only what gets a message group when it is scanned.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::entries::Entries;
use super::event::{Change, Entry, Said, Scan, State};
use super::ranges::Ranges;

/// Bytes an entry takes when it is said, about.
const ENTRY_SIZE_BYTES: usize = 26;

/// The state of a partition for a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Part {
    generation: i64,
    scanned_to: i64,
    entries: Entries,
    done: Ranges,
    /// By time: what may be delivered or expires. No entry that waits for another, none that is
    /// on its way to the dead letters.
    due: BTreeSet<(i64, i64)>,
    /// Message groups and their entries' offsets.
    order: BTreeSet<(u32, i64)>,
    /// Attempt ids and the offsets that their receives leased.
    receives: BTreeSet<(u64, i64)>,
    /// Entries on their way to the dead letters.
    archiving: BTreeSet<i64>,
    reasons: BTreeMap<i64, Arc<str>>,
}

impl Part {
    /// All below is done.
    pub(super) fn start(&self) -> i64 {
        self.entries.first().unwrap_or(self.scanned_to)
    }

    /// Nothing from here on was looked at.
    pub(super) fn scanned_to(&self) -> i64 {
        self.scanned_to
    }

    /// Behind the last record of which anything is known.
    pub(super) fn known_to(&self) -> i64 {
        self.done.end().map_or(self.scanned_to, |end| end.max(self.scanned_to))
    }

    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    pub(super) fn entry(&self, offset: i64) -> Option<&Entry> {
        self.entries.get(offset)
    }

    /// Entries in the order of their offsets.
    pub(super) fn entries(&self) -> impl Iterator<Item = (i64, &Entry)> {
        self.entries.iter()
    }

    /// How many records are looked at and not done.
    pub(super) fn undone(&self) -> usize {
        self.entries.len()
    }

    /// Whether the record is done.
    pub(super) fn is_done(&self, offset: i64) -> bool {
        if offset < self.scanned_to {
            !self.entries.contains(offset)
        } else {
            self.done.contains(offset)
        }
    }

    /// How many of the records from `scanned_to` up to `end` are not done.
    pub(super) fn unscanned(&self, end: i64) -> i64 {
        let done: i64 = self.done.iter().map(|(start, stop)| stop.min(end) - start.min(end)).sum();
        (end - self.scanned_to).max(0) - done
    }

    /// Entries on their way to the dead letters, and why if somebody said so.
    pub(super) fn archiving(&self) -> impl Iterator<Item = (i64, Option<&Arc<str>>)> {
        self.archiving.iter().map(|offset| (*offset, self.reasons.get(offset)))
    }

    /// The entries that may act by `now`, those due first before the others.
    pub(super) fn due(&self, now_ms: i64) -> impl Iterator<Item = (i64, &Entry)> {
        self.due.range(..=(now_ms, i64::MAX)).filter_map(|(_, offset)| {
            let entry = self.entries.get(*offset)?;
            Some((*offset, entry))
        })
    }

    /// The entries that have become able to act after `after_ms` and by `now_ms`.
    pub(super) fn newly_due(
        &self,
        after_ms: i64,
        now_ms: i64,
    ) -> impl Iterator<Item = (i64, &Entry)> {
        let later = (after_ms.saturating_add(1), i64::MIN);
        let by = (now_ms.max(after_ms).saturating_add(1), i64::MIN);
        let due = self.due.range(later..by.max(later)).map(|(_, offset)| *offset);
        due.filter_map(|offset| Some((offset, self.entries.get(offset)?)))
    }

    /// When something is due next after `after_ms`.
    pub(super) fn next_due_ms(&self, after_ms: i64) -> Option<i64> {
        let later = (after_ms.saturating_add(1), i64::MIN);
        self.due.range(later..).next().map(|(time_ms, _)| *time_ms)
    }

    /// What the receive with this attempt id still holds at `now`.
    pub(super) fn held_by(&self, receive: u64, now_ms: i64) -> impl Iterator<Item = (i64, &Entry)> {
        self.receives.range((receive, i64::MIN)..=(receive, i64::MAX)).filter_map(
            move |(_, offset)| {
                let entry = self.entries.get(*offset)?;
                (entry.time_ms > now_ms).then_some((*offset, entry))
            },
        )
    }

    /// Whether a record of this message group is not done.
    pub(super) fn is_blocked(&self, message_group: u32) -> bool {
        message_group != 0 && self.head(message_group).is_some()
    }

    fn head(&self, message_group: u32) -> Option<i64> {
        let all = (message_group, i64::MIN)..=(message_group, i64::MAX);
        self.order.range(all).next().map(|(_, offset)| *offset)
    }

    /// Whether the entry is the one of its message group that may act.
    fn is_head(&self, offset: i64, entry: &Entry) -> bool {
        entry.message_group == 0 || self.head(entry.message_group) == Some(offset)
    }

    /// Whether the entry is in line for delivery or expiry at its time.
    pub(super) fn is_due(&self, offset: i64, entry: &Entry) -> bool {
        self.due.contains(&(entry.time_ms, offset))
    }

    /// Takes an event in. Total: what names records that are not there changes nothing.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Acquired { until_ms, receive, again, scan } => {
                for offset in again {
                    self.update(*offset, |entry| Entry {
                        time_ms: *until_ms,
                        receive: *receive,
                        attempts: entry.attempts.saturating_add(1),
                        state: State::Acquired,
                        ..entry
                    });
                }
                if let Some(scan) = scan {
                    self.apply_scan(scan, *until_ms, *receive);
                }
            }
            Change::Acked { offsets } | Change::Archived { offsets } => {
                offsets.iter().for_each(|offset| self.finish(*offset));
                self.absorb();
            }
            Change::Extended { until_ms, offsets } => {
                for offset in offsets {
                    self.update(*offset, |entry| Entry { time_ms: *until_ms, ..entry });
                }
            }
            Change::Released { visible_ms, offsets } => {
                for offset in offsets {
                    self.update(*offset, |entry| Entry {
                        time_ms: *visible_ms,
                        receive: 0,
                        state: State::Available,
                        ..entry
                    });
                }
            }
            Change::Archiving { reason, offsets } => self.archive(offsets, reason.as_ref()),
            Change::Trimmed { to } => self.trim(*to),
            Change::Reset { to, generation } => {
                *self = Self { scanned_to: *to, generation: *generation, ..Self::default() };
            }
            Change::Cut { to, generation } => self.cut(*to, *generation),
            Change::State(said) => self.restore(said),
            Change::Piece { said, .. } => self.take_in(said),
        }
    }

    fn apply_scan(&mut self, scan: &Scan, until_ms: i64, receive: u64) {
        for (offset, message_group) in &scan.taken {
            let (time_ms, state) = (until_ms, State::Acquired);
            let message_group = *message_group;
            self.insert(*offset, Entry { time_ms, receive, message_group, attempts: 1, state });
        }
        for (offset, message_group) in &scan.held {
            let (time_ms, receive, state) = (0, 0, State::Available);
            let message_group = *message_group;
            self.insert(*offset, Entry { time_ms, receive, message_group, attempts: 0, state });
        }
        self.scanned_to = self.scanned_to.max(scan.next);
        self.absorb();
    }

    fn archive(&mut self, offsets: &[i64], reason: Option<&Arc<str>>) {
        for offset in offsets {
            self.update(*offset, |entry| Entry {
                time_ms: 0,
                receive: 0,
                state: State::Archiving,
                ..entry
            });
            if let Some(reason) = reason
                && self.entries.contains(*offset)
            {
                self.reasons.insert(*offset, Arc::clone(reason));
            }
        }
    }

    /// Marks a record as done, looked at or not.
    fn finish(&mut self, offset: i64) {
        if offset < self.scanned_to {
            self.remove(offset);
        } else {
            self.done.insert(offset, offset.saturating_add(1));
        }
    }

    fn absorb(&mut self) {
        self.scanned_to = self.done.absorb(self.scanned_to);
    }

    fn trim(&mut self, to: i64) {
        while let Some(first) = self.entries.first() {
            if first >= to {
                break;
            }
            self.remove(first);
        }
        self.scanned_to = self.scanned_to.max(to);
        self.absorb();
    }

    /// Forgets everything about records from an offset on.
    fn cut(&mut self, to: i64, generation: i64) {
        let lost: Vec<i64> = self.entries.iter_from(to).map(|(offset, _)| offset).collect();
        lost.into_iter().for_each(|offset| self.remove(offset));
        self.done.cut(to);
        self.scanned_to = self.scanned_to.min(to);
        self.generation = generation;
    }

    fn restore(&mut self, said: &Said) {
        *self = Self {
            generation: said.generation,
            scanned_to: said.scanned_to,
            reasons: said.reasons.iter().cloned().collect(),
            ..Self::default()
        };
        said.entries.iter().for_each(|(offset, entry)| self.insert(*offset, *entry));
        said.done.iter().for_each(|(start, end)| self.done.insert(*start, *end));
    }

    /// Takes in what is said of some records: where everything was known it changes nothing, and
    /// where nothing was it is made whole by all pieces and what came in between.
    fn take_in(&mut self, said: &Said) {
        self.generation = said.generation;
        self.scanned_to = self.scanned_to.max(said.scanned_to);
        said.entries.iter().for_each(|(offset, entry)| self.insert(*offset, *entry));
        self.reasons.extend(said.reasons.iter().cloned());
        said.done.iter().for_each(|(start, end)| self.done.insert(*start, *end));
        self.absorb();
    }

    /// What there is to say of about so many bytes of records from an offset on, and where to go on.
    pub(super) fn piece(&self, from: i64, size_bytes: usize) -> (Said, Option<i64>) {
        let (generation, scanned_to) = (self.generation, self.scanned_to);
        let mut said = Said { generation, scanned_to, ..Said::default() };
        let mut size = 0;
        for (offset, entry) in self.entries.iter_from(from) {
            if size >= size_bytes {
                return (said, Some(offset));
            }
            size += ENTRY_SIZE_BYTES;
            if let Some(reason) = self.reasons.get(&offset) {
                size += ENTRY_SIZE_BYTES + reason.len();
                said.reasons.push((offset, Arc::clone(reason)));
            }
            said.entries.push((offset, *entry));
        }
        for (start, end) in self.done.iter().filter(|(start, _)| *start >= from) {
            if size >= size_bytes {
                return (said, Some(start));
            }
            size += ENTRY_SIZE_BYTES;
            said.done.push((start, end));
        }
        (said, None)
    }

    /// About how many bytes it takes to say everything.
    pub(super) fn said_size_bytes(&self) -> usize {
        let reasons: usize =
            self.reasons.values().map(|reason| ENTRY_SIZE_BYTES + reason.len()).sum();
        (self.entries.len() + self.done.len()) * ENTRY_SIZE_BYTES + reasons
    }

    /// Everything there is to say.
    pub(super) fn said(&self) -> Said {
        Said {
            generation: self.generation,
            scanned_to: self.scanned_to,
            entries: self.entries.iter().map(|(offset, entry)| (offset, *entry)).collect(),
            done: self.done.iter().collect(),
            reasons: self.reasons.iter().map(|(o, reason)| (*o, Arc::clone(reason))).collect(),
        }
    }

    fn insert(&mut self, offset: i64, entry: Entry) {
        self.remove(offset);
        self.entries.insert(offset, entry);
        if entry.message_group != 0 {
            // A later one may have been first so far.
            if let Some(head) = self.head(entry.message_group).filter(|head| *head > offset)
                && let Some(other) = self.entries.get(head)
            {
                self.due.remove(&(other.time_ms, head));
            }
            self.order.insert((entry.message_group, offset));
        }
        self.link(offset, &entry);
    }

    fn remove(&mut self, offset: i64) {
        let Some(entry) = self.entries.remove(offset) else { return };
        self.unlink(offset, &entry);
        self.reasons.remove(&offset);
        if entry.message_group == 0 {
            return;
        }
        self.order.remove(&(entry.message_group, offset));
        if let Some(head) = self.head(entry.message_group)
            && let Some(next) = self.entries.get(head).copied()
        {
            self.link(head, &next);
        }
    }

    fn update(&mut self, offset: i64, change: impl FnOnce(Entry) -> Entry) {
        let Some(before) = self.entries.get(offset).copied() else { return };
        let after = change(before);
        self.unlink(offset, &before);
        self.entries.insert(offset, after);
        self.link(offset, &after);
    }

    /// Enters an entry where it can be found.
    fn link(&mut self, offset: i64, entry: &Entry) {
        match entry.state {
            State::Archiving => {
                self.archiving.insert(offset);
            }
            State::Available | State::Acquired if self.is_head(offset, entry) => {
                self.due.insert((entry.time_ms, offset));
            }
            State::Available | State::Acquired => {}
        }
        if entry.receive != 0 {
            self.receives.insert((entry.receive, offset));
        }
    }

    fn unlink(&mut self, offset: i64, entry: &Entry) {
        self.due.remove(&(entry.time_ms, offset));
        self.archiving.remove(&offset);
        if entry.receive != 0 {
            self.receives.remove(&(entry.receive, offset));
        }
    }
}
