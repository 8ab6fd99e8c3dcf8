//! All transactions, as the log says they are. No I/O, no lock: the coordinator holds one around it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::state::{GroupOffsets, Txn};
use crate::model::Position;

/// A state, and where the log has it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) txn: Txn,
    pub(super) end: Position,
}

pub(super) type Key = (Arc<str>, i32);

/// What the lock protects.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) known: HashMap<Arc<str>, Known>,
    /// Transactions with offsets under way, by group.
    pub(super) by_group: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// Offsets that are about to join a transaction, by group.
    pub(super) intents: HashMap<Arc<str>, Vec<(u64, Vec<Key>)>>,
    pub(super) next_intent: u64,
    pub(super) is_loaded: bool,
}

impl Book {
    pub(super) fn txn(&self, id: &str) -> Option<&Txn> {
        self.known.get(id).map(|known| &known.txn)
    }

    /// Takes over what the log says now.
    pub(super) fn apply(&mut self, id: &Arc<str>, txn: Option<Txn>, end: Position) {
        if let Some(before) = self.known.remove(id) {
            for group in before.txn.offsets.keys() {
                if let Some(ids) = self.by_group.get_mut(group) {
                    ids.remove(id);
                    if ids.is_empty() {
                        self.by_group.remove(group);
                    }
                }
            }
        }
        let Some(txn) = txn else { return };
        for group in txn.offsets.keys() {
            self.by_group.entry(Arc::clone(group)).or_default().insert(Arc::clone(id));
        }
        self.known.insert(Arc::clone(id), Known { txn, end });
    }

    pub(super) fn pending(&self, group: &str) -> HashSet<Key> {
        let intents = self.intents.get(group).into_iter().flatten();
        let intents = intents.flat_map(|(_, keys)| keys);
        let ids = self.by_group.get(group).into_iter().flatten();
        let txns = ids.filter_map(|id| self.txn(id)?.offsets.get(group));
        intents.chain(txns.flat_map(GroupOffsets::keys)).cloned().collect()
    }
}
