//! The producer groups that have pending halves, and when each is to be asked about which.
//!
//! A group is known by a small number while it has pending halves; its name is kept once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::Offset;

/// A group's number; used again once the group has no pending halves left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupNumber(u32);

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    pending: u64,
    /// When a check is due, and of which half.
    due: BTreeSet<(i64, i64)>,
}

#[derive(Debug, Default)]
pub(super) struct Groups {
    numbers: HashMap<Arc<str>, u32>,
    groups: Vec<Option<Group>>,
    free: Vec<u32>,
}

impl Groups {
    /// One more pending half of this group.
    pub(super) fn enter(&mut self, name: &str) -> GroupNumber {
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => self.make(name),
        };
        if let Some(group) = self.group_mut(GroupNumber(number)) {
            group.pending += 1;
        }
        GroupNumber(number)
    }

    fn make(&mut self, name: &str) -> u32 {
        let name: Arc<str> = Arc::from(name);
        let number = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            let Ok(last) = u32::try_from(self.groups.len() - 1) else {
                unreachable!("four thousand million groups do not fit into memory")
            };
            last
        });
        if let Some(place) = self.groups.get_mut(place(number)) {
            *place = Some(Group { name: Arc::clone(&name), pending: 0, due: BTreeSet::new() });
        }
        self.numbers.insert(name, number);
        number
    }

    /// One pending half less, whose check is not due any more.
    pub(super) fn leave(&mut self, number: GroupNumber) {
        let Some(group) = self.group_mut(number) else { return };
        group.pending -= 1;
        if group.pending == 0 {
            let name = Arc::clone(&group.name);
            self.numbers.remove(&name);
            if let Some(place) = self.groups.get_mut(place(number.0)) {
                *place = None;
            }
            self.free.push(number.0);
        }
    }

    pub(super) fn set_due(&mut self, number: GroupNumber, due_ms: i64, half: Offset) {
        if let Some(group) = self.group_mut(number) {
            group.due.insert((due_ms, half.0));
        }
    }

    pub(super) fn clear_due(&mut self, number: GroupNumber, due_ms: i64, half: Offset) {
        if let Some(group) = self.group_mut(number) {
            group.due.remove(&(due_ms, half.0));
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<GroupNumber> {
        self.numbers.get(name).copied().map(GroupNumber)
    }

    pub(super) fn name(&self, number: GroupNumber) -> Option<&Arc<str>> {
        self.groups.get(place(number.0))?.as_ref().map(|group| &group.name)
    }

    /// Checks of a group in the order in which they are due: when, and of which half.
    pub(super) fn due<'a>(&'a self, name: &str) -> impl Iterator<Item = (i64, Offset)> + use<'a> {
        let group = self.numbers.get(name).and_then(|number| self.groups.get(place(*number)));
        let due = group.and_then(Option::as_ref).map(|group| group.due.iter());
        due.into_iter().flatten().map(|(due_ms, half)| (*due_ms, Offset(*half)))
    }

    /// The groups with pending halves, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.groups.iter().flatten().map(|group| (&group.name, group.pending))
    }

    fn group_mut(&mut self, number: GroupNumber) -> Option<&mut Group> {
        self.groups.get_mut(place(number.0))?.as_mut()
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
