//! The passes over a history, in an order such that one cause is reported once: what an earlier pass has blamed, later
//! ones leave alone.

use std::collections::{BTreeMap, HashSet};

use crate::anomaly::{Anomaly, Invariant, Violation};
use crate::index::{Fate, Index};
use crate::looks::{Looks, Ops};
use crate::op::Op;

mod copies;
mod groups;
mod lost;
mod order;
mod places;
mod polls;
mod producers;
mod state;
mod transactions;

/// What the passes share.
pub(crate) struct Case<'a> {
    pub(crate) index: Index<'a>,
    pub(crate) fates: Vec<Fate>,
    pub(crate) found: Vec<Violation>,
    /// How many facts each invariant was held against.
    pub(crate) judged: BTreeMap<Invariant, u64>,
    /// Values that something is already known to be wrong with.
    blamed: HashSet<usize>,
    /// Acknowledgements, by their operation, that are known to be wrong.
    wrong_acks: HashSet<usize>,
    /// Transactions whose group offsets were seen, and so must have been committed.
    shown_by_offsets: Vec<Option<usize>>,
}

impl Case<'_> {
    fn report(
        &mut self,
        anomaly: Anomaly,
        subject: String,
        explanation: String,
        evidence: impl IntoIterator<Item = usize>,
    ) {
        let mut evidence: Vec<usize> = evidence.into_iter().collect();
        evidence.sort_unstable();
        evidence.dedup();
        self.found.push(Violation { anomaly, subject, explanation, evidence });
    }

    fn judge(&mut self, invariant: Invariant, facts: usize) {
        if facts > 0 {
            *self.judged.entry(invariant).or_default() += facts as u64;
        }
    }

    /// The operations that say how a transaction ended.
    fn ends(&self, txn: usize) -> impl Iterator<Item = usize> {
        self.index.txns[txn].ends.iter().copied()
    }

    /// Those that tell of a value: its send and the end of its transaction.
    fn told_of(&self, value: usize) -> Vec<usize> {
        let facts = &self.index.values[value];
        let ends = facts.txn.into_iter().flat_map(|txn| self.ends(txn));
        facts.sends.iter().copied().chain(ends).collect()
    }
}

/// Runs all passes, which count what they look at.
pub(crate) fn run(ops: &[Op], looks: &Looks) -> (Vec<Violation>, BTreeMap<Invariant, u64>) {
    let index = Index::new(Ops::new(ops, looks));
    let fates: Vec<Fate> = (0..index.txns.len()).map(|txn| index.fate(txn)).collect();
    let shown_by_offsets = vec![None; fates.len()];
    let mut case = Case {
        index,
        fates,
        found: Vec::new(),
        judged: BTreeMap::new(),
        blamed: HashSet::new(),
        wrong_acks: HashSet::new(),
        shown_by_offsets,
    };
    places::check(&mut case);
    order::check(&mut case);
    polls::check(&mut case);
    groups::check(&mut case);
    transactions::check(&mut case);
    lost::check(&mut case);
    copies::check(&mut case);
    producers::check(&mut case);
    state::check(&mut case);
    (case.found, case.judged)
}
