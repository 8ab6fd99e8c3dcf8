//! Transactions of a partition: where open ones begin, and which ended ones are void.
//!
//! Pure: fed under the shard's lock by what is appended, and by replay, from batch headers alone.
//! Nothing is decided here; the transaction coordinator decided before. A reader of committed
//! records stops at the *last stable offset*: where the first transaction begins that is open, or
//! whose marker is not durable yet, so that nobody sees an end that a crash could take back.
//! Invariant: a producer has at most one open transaction on a queue.

use std::collections::BTreeMap;

use crate::model::{Offset, ProducerId, QueueId};
use braid_protocol::records::Marker;

use crate::store::AbortedTransaction;

/// A transaction that is open on a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) first: Offset,
    pub(crate) epoch: i16,
}

/// An ended transaction, by its marker's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    producer: ProducerId,
    first: Offset,
    /// Every transaction that ended behind this one began here or behind.
    stable_after: Offset,
}

/// What a queue's transactions are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct OfQueue {
    open: BTreeMap<ProducerId, Open>,
    aborted: BTreeMap<Offset, Ended>,
    /// First offsets of transactions whose markers may not be durable yet, by marker.
    settling: BTreeMap<Offset, Offset>,
}

impl OfQueue {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.aborted.is_empty() && self.settling.is_empty()
    }

    fn first_open(&self) -> Option<Offset> {
        self.open.values().map(|open| open.first).min()
    }
}

/// The transactions of all queues of a shard. Queues without any cost nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    queues: BTreeMap<QueueId, OfQueue>,
}

impl Transactions {
    /// A transactional batch was appended at `base`.
    pub(crate) fn write(&mut self, queue: QueueId, producer: ProducerId, epoch: i16, base: Offset) {
        let queue = self.queues.entry(queue).or_default();
        let open = queue.open.entry(producer).or_insert(Open { first: base, epoch });
        open.epoch = open.epoch.max(epoch);
    }

    /// A marker was appended at `at`. One without a transaction to end changes nothing.
    pub(crate) fn end(&mut self, queue: QueueId, producer: ProducerId, marker: Marker, at: Offset) {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return };
        let Some(Open { first, .. }) = of_queue.open.get(&producer).copied() else { return };
        if first > at {
            // Replayed over a snapshot that has it, and a later transaction of the producer.
            return;
        }
        of_queue.open.remove(&producer);
        of_queue.settling.insert(at, first);
        if of_queue.settling.len() > SETTLING_MAX
            && let Some((_, first)) = of_queue.settling.pop_first()
            && let Some(mut next) = of_queue.settling.first_entry()
        {
            // Nobody asked for long. Both settle with the later marker, which is on the safe side.
            *next.get_mut() = first.min(*next.get());
        }
        if marker == Marker::Abort {
            let stable_after = of_queue.first_open().unwrap_or(at.plus(1));
            // Replayed over a snapshot that has it: what began before the snapshot is known there.
            of_queue.aborted.entry(at).or_insert(Ended { producer, first, stable_after });
        }
    }

    /// The transactions that are open on a queue.
    pub(crate) fn open(&self, queue: QueueId) -> impl Iterator<Item = (ProducerId, Open)> {
        let of_queue = self.queues.get(&queue);
        of_queue.into_iter().flat_map(|it| it.open.iter().map(|(id, open)| (*id, *open)))
    }

    /// Where a producer's transaction on a queue is open.
    pub(crate) fn open_of(&self, queue: QueueId, producer: ProducerId) -> Option<Open> {
        self.queues.get(&queue)?.open.get(&producer).copied()
    }

    /// Where readers of committed records of a queue stop, if everything below `durable` is.
    pub(crate) fn last_stable(&mut self, queue: QueueId, durable: Offset) -> Offset {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return durable };
        of_queue.settling = of_queue.settling.split_off(&durable);
        let unsettled = of_queue.settling.values().copied().min();
        let bound = of_queue.first_open().into_iter().chain(unsettled).min();
        if of_queue.is_empty() {
            self.queues.remove(&queue);
        }
        bound.map_or(durable, |bound| bound.min(durable))
    }

    /// The void transactions that have records in a range, by where they begin.
    pub(crate) fn aborted(
        &self,
        queue: QueueId,
        range: std::ops::Range<Offset>,
    ) -> Vec<AbortedTransaction> {
        let Some(of_queue) = self.queues.get(&queue) else { return Vec::new() };
        let mut found = Vec::new();
        for (end, ended) in of_queue.aborted.range(range.start..) {
            if ended.first < range.end {
                let Ended { producer, first, .. } = *ended;
                found.push(AbortedTransaction { producer, first, end: *end });
            }
            if ended.stable_after >= range.end {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| aborted.first);
        found
    }

    /// The records of a queue below `log_start` are gone, and with them what was void there.
    pub(crate) fn trim(&mut self, queue: QueueId, log_start: Offset) {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return };
        if of_queue.aborted.first_key_value().is_some_and(|(at, _)| *at < log_start) {
            of_queue.aborted = of_queue.aborted.split_off(&log_start);
        }
        if of_queue.is_empty() {
            self.queues.remove(&queue);
        }
    }

    /// Nothing is left of the void transactions that these markers ended.
    pub(crate) fn cleaned(&mut self, queue: QueueId, markers: &[Offset]) {
        let Some(of_queue) = self.queues.get_mut(&queue) else { return };
        for marker in markers {
            of_queue.aborted.remove(marker);
        }
        if of_queue.is_empty() {
            self.queues.remove(&queue);
        }
    }

    /// Drops what is known of a queue.
    pub(crate) fn forget(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
    }

    /// Appends everything to `out` (docs/formats.md, "Transactions of partitions").
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (queue, of_queue) in &self.queues {
            for (producer, open) in &of_queue.open {
                out.push(OPEN);
                out.extend_from_slice(&queue.0.to_be_bytes());
                out.extend_from_slice(&producer.0.to_be_bytes());
                out.extend_from_slice(&open.epoch.to_be_bytes());
                out.extend_from_slice(&open.first.0.to_be_bytes());
            }
            for (at, ended) in &of_queue.aborted {
                out.push(ABORTED);
                out.extend_from_slice(&queue.0.to_be_bytes());
                out.extend_from_slice(&ended.producer.0.to_be_bytes());
                out.extend_from_slice(&ended.first.0.to_be_bytes());
                out.extend_from_slice(&ended.stable_after.0.to_be_bytes());
                out.extend_from_slice(&at.0.to_be_bytes());
            }
            // Whether a marker became durable is for the log to say: whoever restores this has
            // read the log behind the snapshot, and everything in it is durable then.
        }
    }

    /// Reads what [`Transactions::encode`] wrote.
    pub(crate) fn decode(rest: &mut &[u8]) -> Option<Self> {
        let mut transactions = Self::default();
        while let Some((kind, behind)) = rest.split_first() {
            *rest = behind;
            let queue = QueueId(u32::from_be_bytes(take(rest)?));
            let producer = ProducerId(i64::from_be_bytes(take(rest)?));
            let of_queue = transactions.queues.entry(queue).or_default();
            match *kind {
                OPEN => {
                    let epoch = i16::from_be_bytes(take(rest)?);
                    let first = Offset(i64::from_be_bytes(take(rest)?));
                    of_queue.open.insert(producer, Open { first, epoch });
                }
                ABORTED => {
                    let first = Offset(i64::from_be_bytes(take(rest)?));
                    let stable_after = Offset(i64::from_be_bytes(take(rest)?));
                    let at = Offset(i64::from_be_bytes(take(rest)?));
                    of_queue.aborted.insert(at, Ended { producer, first, stable_after });
                }
                _ => return None,
            }
        }
        Some(transactions)
    }
}

/// Ended transactions of a queue whose markers are taken for not durable yet.
const SETTLING_MAX: usize = 1024;

const OPEN: u8 = 1;
const ABORTED: u8 = 2;

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod compacted;
#[cfg(test)]
mod tests;
