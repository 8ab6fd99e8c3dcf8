//! What compaction has to know of the transactions of a queue. Pure; `CleanedTransactionMetadata` in
//! Kafka.
//!
//! Everything that is compacted is decided: it lies below the last stable offset. The records of a
//! void transaction go; those of the others are records like any. A marker stays as long as anything
//! of its transaction does, and then until a time that it is given, so that whoever reads along has
//! seen it. That a transaction was void is forgotten once nothing of it is left and before its
//! marker goes: a reader who was told of it and met no marker would skip what its producer wrote
//! later.

use std::collections::{HashMap, HashSet};

use braid_protocol::records::BatchHeader;

use crate::model::Offset;
use crate::store::sequencer::AbortedTransaction;

/// See the module. Fed with the batches of a queue in their order.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// First offset and marker of the void transactions of each producer, in order: a producer has
    /// one at a time.
    void: HashMap<i64, Vec<(i64, i64)>>,
    /// Producers that something was kept of since their last marker.
    kept: HashSet<i64>,
    /// Markers of void transactions that nothing is left of.
    gone: Vec<Offset>,
}

/// What becomes of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerFate {
    /// Something of its transaction is there still.
    Needed,
    /// It is void, which is forgotten now. Then the marker may go as any other.
    Next,
    /// Nothing is left of its transaction.
    Free,
}

impl Decided {
    pub(super) fn new(void: &[AbortedTransaction]) -> Self {
        let mut decided = Self::default();
        for AbortedTransaction { producer, first, end } in void {
            decided.void.entry(producer.0).or_default().push((first.0, end.0));
        }
        decided.void.values_mut().for_each(|of| of.sort_unstable());
        decided
    }

    /// The marker of the last void transaction that its producer began at a batch or before.
    fn void_around(&self, batch: &BatchHeader) -> Option<i64> {
        let of = self.void.get(&batch.producer_id)?;
        let behind = of.partition_point(|(first, _)| *first <= batch.base_offset);
        Some(of.get(behind.checked_sub(1)?)?.1)
    }

    /// Whether the records of a batch are void.
    pub(super) fn is_void(&self, batch: &BatchHeader) -> bool {
        batch.is_transactional()
            && !batch.is_control()
            && self.void_around(batch).is_some_and(|end| batch.base_offset < end)
    }

    /// Something of a batch stays.
    pub(super) fn keep(&mut self, batch: &BatchHeader) {
        if batch.is_transactional() && !batch.is_control() {
            self.kept.insert(batch.producer_id);
        }
    }

    /// What becomes of the marker in a control batch.
    pub(super) fn end(&mut self, batch: &BatchHeader) -> MarkerFate {
        let is_needed = self.kept.remove(&batch.producer_id);
        let is_void = self.void_around(batch) == Some(batch.base_offset);
        match (is_needed, is_void) {
            (true, _) => MarkerFate::Needed,
            (false, true) => {
                self.gone.push(Offset(batch.base_offset));
                MarkerFate::Next
            }
            (false, false) => MarkerFate::Free,
        }
    }

    /// Markers of the void transactions that are forgotten.
    pub(super) fn gone(self) -> Vec<Offset> {
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProducerId;
    use braid_protocol::records::{BatchSpec, BatchWriter, Marker, Producer};

    fn data(base_offset: i64, id: i64) -> BatchHeader {
        let producer = Some(Producer { id, epoch: 0, base_sequence: 0 });
        let spec = BatchSpec { base_offset, producer, transactional: true, ..BatchSpec::default() };
        let mut writer = BatchWriter::new(spec);
        writer.append(1, Some(b"k"), Some(b"v"), &[]).unwrap();
        BatchHeader::parse(&writer.finish().unwrap()).unwrap()
    }

    fn marker(base_offset: i64, id: i64) -> BatchHeader {
        let batch = Marker::Abort.batch((id, 0), 0, 1).unwrap();
        BatchHeader { base_offset, ..BatchHeader::parse(&batch).unwrap() }
    }

    #[test]
    fn markers_outlive_what_they_end_and_void_ones_are_forgotten_first() {
        let void = |first, end| AbortedTransaction {
            producer: ProducerId(7),
            first: Offset(first),
            end: Offset(end),
        };
        let mut decided = Decided::new(&[void(1, 4), void(6, 8)]);
        assert!(!decided.is_void(&data(0, 7)) && decided.is_void(&data(1, 7)));
        assert!(!decided.is_void(&data(2, 8)) && !decided.is_void(&marker(3, 7)));
        assert!(!decided.is_void(&data(4, 7)) && decided.is_void(&data(7, 7)));
        decided.keep(&data(0, 8));
        assert_eq!(decided.end(&marker(4, 7)), MarkerFate::Next);
        assert_eq!(decided.end(&marker(5, 8)), MarkerFate::Needed);
        decided.keep(&data(6, 7));
        assert_eq!(decided.end(&marker(8, 7)), MarkerFate::Needed, "its header was kept");
        assert_eq!(decided.end(&marker(9, 8)), MarkerFate::Free);
        assert_eq!(decided.gone(), [Offset(4)]);
    }
}
