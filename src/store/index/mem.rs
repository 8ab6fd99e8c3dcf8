//! The index of a segment that has no index file yet. Grows under the shard's lock while its
//! segment is written; then it is frozen behind an `Arc` as a whole, which takes no time.

use super::{Entry, TimeBase};
use crate::model::QueueId;
use crate::store::width::narrow;

#[derive(Debug, Default)]
pub(in crate::store) struct MemIndex {
    time_base: Option<TimeBase>,
    runs: Vec<Run>,
}

/// The entries of one queue, by offset. A queue whose records were all removed in between has
/// more than one run; later runs hold later offsets.
#[derive(Debug)]
pub(in crate::store) struct Run {
    pub(in crate::store) queue: QueueId,
    pub(in crate::store) entries: Vec<Entry>,
    pub(in crate::store) max_timestamp: i64,
}

impl MemIndex {
    /// An index as an index file held it.
    pub(in crate::store) fn of_runs(time_base: TimeBase, runs: Vec<Run>) -> Self {
        Self { time_base: Some(time_base), runs }
    }

    /// What the entries' store times count from.
    pub(in crate::store) fn time_base(&self) -> TimeBase {
        self.time_base.unwrap_or_default()
    }

    pub(in crate::store) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Opens a run and returns its slot.
    pub(in crate::store) fn open_run(&mut self, queue: QueueId) -> u32 {
        let slot = narrow(self.runs.len());
        self.runs.push(Run { queue, entries: Vec::new(), max_timestamp: i64::MIN });
        slot
    }

    /// Adds a frame to a run; `entry`'s store time is set here. A store time before the first
    /// frame's counts as that one's.
    pub(in crate::store) fn push(&mut self, slot: u32, store_time_ms: i64, entry: Entry) {
        let first = TimeBase { base_ms: store_time_ms, shift: 0 };
        let mut base = *self.time_base.get_or_insert(first);
        while !base.reaches(store_time_ms) {
            // Where little is written, a segment takes months to fill.
            base.shift += 1;
            let entries = self.runs.iter_mut().flat_map(|run| &mut run.entries);
            entries.for_each(|entry| entry.store_delta = entry.store_delta.div_ceil(2));
            self.time_base = Some(base);
        }
        let store_delta = base.steps(store_time_ms);
        if let Some(run) = self.runs.get_mut(slot as usize) {
            debug_assert!(run.entries.last().is_none_or(|last| last.next() <= entry.base_offset));
            run.max_timestamp = run.max_timestamp.max(entry.max_timestamp);
            run.entries.push(Entry { store_delta, ..entry });
        }
    }

    pub(in crate::store) fn run(&self, slot: u32) -> Option<&Run> {
        self.runs.get(slot as usize)
    }
}

impl Run {
    /// Number of the first entry that ends behind `offset`.
    pub(in crate::store) fn seek(&self, offset: i64) -> usize {
        // Readers at the tail look for the last entries.
        match self.entries.last() {
            Some(last) if last.next() <= offset => self.entries.len(),
            Some(last) if last.base_offset <= offset => self.entries.len() - 1,
            Some(_) | None => self.entries.partition_point(|entry| entry.next() <= offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_takes_months_to_fill_keeps_its_times() {
        const DAY_MS: i64 = 86_400_000;
        let mut index = MemIndex::default();
        let slot = index.open_run(QueueId(1));
        let times: Vec<i64> = (0..400).map(|day| 1_700_000_000_000 + day * DAY_MS).collect();
        for (i, time_ms) in (0..).zip(&times) {
            let entry = Entry {
                base_offset: i,
                max_timestamp: 0,
                at: 0,
                length: 0,
                offsets: 1,
                store_delta: 0,
            };
            index.push(slot, *time_ms, entry);
        }
        let base = index.time_base();
        for (entry, time_ms) in index.run(slot).unwrap().entries.iter().zip(&times) {
            let late_ms = base.time_ms(entry.store_delta) - time_ms;
            assert!((0..64).contains(&late_ms), "{late_ms} ms late, never early");
        }
    }
}
