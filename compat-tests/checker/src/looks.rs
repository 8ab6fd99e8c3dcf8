//! Facts that count how often one of them is looked at: what judging costs, whatever else the machine does.

use std::cell::Cell;
use std::ops::{Index, IndexMut};

use crate::op::Op;

/// How often.
pub(crate) type Looks = Cell<u64>;

fn count(looks: &Looks) {
    looks.set(looks.get() + 1);
}

/// The operations of a history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ops<'a> {
    all: &'a [Op],
    looks: &'a Looks,
}

impl<'a> Ops<'a> {
    pub(crate) fn new(all: &'a [Op], looks: &'a Looks) -> Ops<'a> {
        Ops { all, looks }
    }

    pub(crate) fn at(self, at: usize) -> &'a Op {
        count(self.looks);
        &self.all[at]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = &'a Op> {
        self.all.iter().inspect(move |_| count(self.looks))
    }

    pub(crate) fn looks(self) -> &'a Looks {
        self.looks
    }
}

/// What is known of the things in a history, each by its number.
#[derive(Debug)]
pub(crate) struct Facts<'a, T> {
    all: Vec<T>,
    looks: &'a Looks,
}

impl<'a, T> Facts<'a, T> {
    pub(crate) fn new(looks: &'a Looks) -> Facts<'a, T> {
        Facts { all: Vec::new(), looks }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn push(&mut self, fact: T) {
        self.all.push(fact);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().inspect(|_| count(self.looks))
    }
}

impl<T> Index<usize> for Facts<'_, T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        count(self.looks);
        &self.all[at]
    }
}

impl<T> IndexMut<usize> for Facts<'_, T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        count(self.looks);
        &mut self.all[at]
    }
}
