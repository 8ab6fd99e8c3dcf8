//! Producers that wait to be asked, and the checks that are on their way to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::owner::Told;
use super::request::Unavailable;
use super::table::DueCheck;

/// Polls that may wait at once.
const POLLS_MAX: usize = 10_000;

/// Somebody who wants checks.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) max: usize,
    /// When to answer that there are none, by the monotonic clock.
    pub(super) deadline: Duration,
    pub(super) reply: oneshot::Sender<Result<Handed, Unavailable>>,
}

/// Checks handed out. Whatever was not delivered when it is dropped is given back.
#[derive(Debug)]
pub(super) struct Handed {
    checks: Vec<DueCheck>,
    owner: mpsc::WeakSender<Told>,
}

impl Handed {
    pub(super) fn new(checks: Vec<DueCheck>, owner: mpsc::WeakSender<Told>) -> Self {
        Self { checks, owner }
    }

    pub(super) fn checks(&self) -> &[DueCheck] {
        &self.checks
    }

    /// All that were not postponed have reached somebody.
    pub(super) fn delivered(mut self) {
        self.checks.clear();
    }

    /// This one cannot be delivered: it does not count, and comes again after the interval.
    pub(super) fn postpone(&mut self, check: DueCheck) {
        self.checks.retain(|other| *other != check);
        self.give_back(check, true);
    }

    fn give_back(&self, check: DueCheck, postponed: bool) {
        if let Some(owner) = self.owner.upgrade() {
            // If the owner is too busy the check stays counted: there is another one after it.
            let _full = owner.try_send(Told::Return { check, postponed, reply: None });
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for check in std::mem::take(&mut self.checks) {
            self.give_back(check, false);
        }
    }
}

/// The waiting polls, first come first served within a group.
#[derive(Debug, Default)]
pub(super) struct Polls {
    groups: BTreeMap<Arc<str>, VecDeque<(u64, Poll)>>,
    deadlines: BTreeSet<(Duration, u64, Arc<str>)>,
    next: u64,
}

impl Polls {
    /// Lets a poll wait; gives it back if too many do.
    pub(super) fn push(&mut self, group: &Arc<str>, poll: Poll) -> Result<(), Poll> {
        if self.deadlines.len() >= POLLS_MAX {
            return Err(poll);
        }
        let number = self.next;
        self.next += 1;
        self.deadlines.insert((poll.deadline, number, Arc::clone(group)));
        self.groups.entry(Arc::clone(group)).or_default().push_back((number, poll));
        Ok(())
    }

    pub(super) fn is_waiting(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The groups that have polls waiting.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// The next poll of a group whose asker is still there.
    pub(super) fn pop(&mut self, group: &Arc<str>) -> Option<Poll> {
        loop {
            let polls = self.groups.get_mut(group)?;
            let popped = polls.pop_front();
            if polls.is_empty() {
                self.groups.remove(group);
            }
            let (number, poll) = popped?;
            self.deadlines.remove(&(poll.deadline, number, Arc::clone(group)));
            if !poll.reply.is_closed() {
                return Some(poll);
            }
        }
    }

    /// A poll that waited long enough.
    pub(super) fn pop_late(&mut self, now: Duration) -> Option<Poll> {
        let first = self.deadlines.first()?;
        if first.0 > now {
            return None;
        }
        let (_, number, group) = self.deadlines.pop_first()?;
        let polls = self.groups.get_mut(&group)?;
        let at = polls.iter().position(|(other, _)| *other == number)?;
        let (_, poll) = polls.remove(at)?;
        if polls.is_empty() {
            self.groups.remove(&group);
        }
        Some(poll)
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }
}
