//! The idempotence window: what each producer last appended to each queue.
//!
//! Pure: fed under the shard's lock by the sequencer and by replay, so that a retry is told from
//! a new batch at the one place where order is decided. Keeps the last five batches per producer
//! and queue, as Kafka's `ProducerStateEntry` does (a client keeps at most five in flight).
//! Invariant: within one epoch the batches of a window follow each other without a gap.

use std::collections::{BTreeMap, VecDeque};

use braid_base::model::{Offset, ProducerId, QueueId};

use crate::store::ActiveProducer;

/// Batches remembered per producer and queue (`NUM_BATCHES_TO_RETAIN` in Kafka).
const BATCHES_MAX: usize = 5;
const SNAPSHOT_VERSION: u8 = 1;

/// The producer fields of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Who produced it.
    pub(crate) producer_id: ProducerId,
    /// The producer's epoch.
    pub(crate) epoch: i16,
    /// Sequence number of the first record.
    pub(crate) base_sequence: i32,
    /// Records in the batch, at least one.
    pub(crate) records_count: i32,
}

impl Stamp {
    /// Sequence number of the last record; sequences wrap from `i32::MAX` to 0.
    fn last_sequence(self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.records_count) - 1;
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(i32::MAX)
    }
}

/// What a stamped batch is to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next batch of its producer.
    New,
    /// A retry of a batch that stands at this offset.
    Duplicate {
        /// First offset of the batch as appended the first time.
        base_offset: Offset,
    },
}

/// Why a stamped batch cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SequenceError {
    /// A batch before this one is missing.
    #[error(
        "out of order sequence number for producer {producer_id}: {found} (incoming seq. number), \
         {expected} (expected)"
    )]
    OutOfOrder {
        /// The producer.
        producer_id: ProducerId,
        /// First sequence of the refused batch.
        found: i32,
        /// What would have been accepted.
        expected: i32,
    },
    /// A newer instance of the producer has written already.
    #[error(
        "epoch of producer {producer_id} is {found}, which is smaller than the last seen {last}"
    )]
    StaleEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// Epoch of the refused batch.
        found: i16,
        /// Epoch last appended.
        last: i16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Appended {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    store_time_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    epoch: i16,
    batches: VecDeque<Appended>,
}

/// The windows of all producers on all queues of a shard.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Producers {
    windows: BTreeMap<(QueueId, ProducerId), Window>,
}

impl Producers {
    /// Judges a batch before it is appended. Changes nothing.
    ///
    /// # Errors
    /// The batch is out of order or from a fenced instance.
    pub(crate) fn judge(&self, queue: QueueId, stamp: Stamp) -> Result<Verdict, SequenceError> {
        let Some(window) = self.windows.get(&(queue, stamp.producer_id)) else {
            // Kafka takes any sequence of a producer it no longer knows: its state may have
            // expired together with its records.
            return Ok(Verdict::New);
        };
        if stamp.epoch < window.epoch {
            return Err(SequenceError::StaleEpoch {
                producer_id: stamp.producer_id,
                found: stamp.epoch,
                last: window.epoch,
            });
        }
        if stamp.epoch > window.epoch {
            return expect_sequence(stamp, 0);
        }
        let last = stamp.last_sequence();
        let same =
            |b: &&Appended| b.base_sequence == stamp.base_sequence && b.last_sequence == last;
        if let Some(batch) = window.batches.iter().find(same) {
            return Ok(Verdict::Duplicate { base_offset: batch.base_offset });
        }
        match window.batches.back() {
            Some(batch) => expect_sequence(stamp, next_sequence(batch.last_sequence)),
            None => Ok(Verdict::New),
        }
    }

    /// Remembers an appended or replayed batch.
    pub(crate) fn record(
        &mut self,
        queue: QueueId,
        stamp: Stamp,
        base_offset: Offset,
        store_time_ms: i64,
    ) {
        let window = self
            .windows
            .entry((queue, stamp.producer_id))
            .or_insert_with(|| Window { epoch: stamp.epoch, batches: VecDeque::new() });
        if window.epoch != stamp.epoch {
            window.epoch = stamp.epoch;
            window.batches.clear();
        }
        if window.batches.len() == BATCHES_MAX {
            window.batches.pop_front();
        }
        window.batches.push_back(Appended {
            base_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence(),
            base_offset,
            store_time_ms,
        });
    }

    /// What is remembered of a queue's producers.
    pub(crate) fn active(&self, queue: QueueId) -> Vec<ActiveProducer> {
        let of_queue = (queue, ProducerId(i64::MIN))..=(queue, ProducerId(i64::MAX));
        let windows = self.windows.range(of_queue);
        let active = windows.filter_map(|((_, id), window)| {
            let last = window.batches.back()?;
            Some(ActiveProducer {
                id: *id,
                epoch: window.epoch,
                last_sequence: last.last_sequence,
                last_store_time_ms: last.store_time_ms,
            })
        });
        active.collect()
    }

    /// Drops every window of a queue.
    pub(crate) fn forget(&mut self, queue: QueueId) {
        let mut rest = self.windows.split_off(&(queue, ProducerId(i64::MIN)));
        let next = (QueueId(queue.0.saturating_add(1)), ProducerId(i64::MIN));
        if queue.0 != u32::MAX {
            self.windows.append(&mut rest.split_off(&next));
        }
    }

    /// Drops the windows whose producer appended nothing since `before_ms`
    /// (`producer.id.expiration.ms`).
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.windows.retain(|_, w| w.batches.back().is_some_and(|b| b.store_time_ms >= before_ms));
    }

    #[cfg(test)]
    fn count_of(&self, queue: QueueId) -> usize {
        self.windows.keys().filter(|(of, _)| *of == queue).count()
    }

    /// All windows as bytes (docs/formats.md, "Producer windows").
    #[must_use]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT_VERSION];
        for ((queue, producer_id), window) in &self.windows {
            out.extend_from_slice(&queue.0.to_be_bytes());
            out.extend_from_slice(&producer_id.0.to_be_bytes());
            out.extend_from_slice(&window.epoch.to_be_bytes());
            out.push(u8::try_from(window.batches.len()).unwrap_or(u8::MAX));
            for batch in &window.batches {
                out.extend_from_slice(&batch.base_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.0.to_be_bytes());
                out.extend_from_slice(&batch.store_time_ms.to_be_bytes());
            }
        }
        out
    }

    /// Reads what [`Producers::encode`] wrote.
    ///
    /// # Errors
    /// The byte at which the snapshot stops making sense.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, usize> {
        let mut rest = bytes;
        Self::decode_from(&mut rest).ok_or(bytes.len() - rest.len())
    }

    fn decode_from(rest: &mut &[u8]) -> Option<Self> {
        let [version] = take(rest)?;
        if version != SNAPSHOT_VERSION {
            return None;
        }
        let mut producers = Self::default();
        while !rest.is_empty() {
            let queue = QueueId(u32::from_be_bytes(take(rest)?));
            let producer_id = ProducerId(i64::from_be_bytes(take(rest)?));
            let epoch = i16::from_be_bytes(take(rest)?);
            let [count] = take(rest)?;
            let mut batches = VecDeque::new();
            for _ in 0..count {
                batches.push_back(Appended {
                    base_sequence: i32::from_be_bytes(take(rest)?),
                    last_sequence: i32::from_be_bytes(take(rest)?),
                    base_offset: Offset(i64::from_be_bytes(take(rest)?)),
                    store_time_ms: i64::from_be_bytes(take(rest)?),
                });
            }
            producers.windows.insert((queue, producer_id), Window { epoch, batches });
        }
        Some(producers)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn next_sequence(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

fn expect_sequence(stamp: Stamp, expected: i32) -> Result<Verdict, SequenceError> {
    if stamp.base_sequence == expected {
        return Ok(Verdict::New);
    }
    Err(SequenceError::OutOfOrder {
        producer_id: stamp.producer_id,
        found: stamp.base_sequence,
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUEUE: QueueId = QueueId(7);

    fn stamp(epoch: i16, base_sequence: i32, records_count: i32) -> Stamp {
        Stamp { producer_id: ProducerId(4), epoch, base_sequence, records_count }
    }

    fn appended(stamps: &[Stamp]) -> Producers {
        let mut producers = Producers::default();
        let mut offset = Offset::ZERO;
        for s in stamps {
            assert_eq!(producers.judge(QUEUE, *s), Ok(Verdict::New), "{s:?}");
            producers.record(QUEUE, *s, offset, 1000);
            offset = offset.plus(i64::from(s.records_count));
        }
        producers
    }

    #[test]
    fn a_retry_inside_the_window_is_answered_with_its_first_offset() {
        let producers = appended(&[stamp(0, 0, 3), stamp(0, 3, 1), stamp(0, 4, 2)]);
        let duplicate = Verdict::Duplicate { base_offset: Offset(3) };
        assert_eq!(producers.judge(QUEUE, stamp(0, 3, 1)), Ok(duplicate));
    }

    #[test]
    fn active_producers_are_those_of_the_queue_with_their_last_record() {
        let mut producers = appended(&[stamp(2, 0, 3), stamp(2, 3, 4)]);
        producers.record(QueueId(8), stamp(0, 0, 1), Offset::ZERO, 1000);
        let active = producers.active(QUEUE);
        let expected = ActiveProducer {
            id: ProducerId(4),
            epoch: 2,
            last_sequence: 6,
            last_store_time_ms: 1000,
        };
        assert_eq!(active, [expected]);
    }

    #[test]
    fn a_retry_older_than_five_batches_is_out_of_order() {
        let stamps: Vec<_> = (0..6).map(|i| stamp(0, i, 1)).collect();
        let producers = appended(&stamps);
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, 0, 1)),
            Err(SequenceError::OutOfOrder { found: 0, expected: 6, .. })
        ));
        assert!(matches!(producers.judge(QUEUE, stamp(0, 1, 1)), Ok(Verdict::Duplicate { .. })));
    }

    #[test]
    fn a_gap_is_out_of_order_and_leaves_the_window_alone() {
        let producers = appended(&[stamp(0, 0, 3)]);
        assert!(producers.judge(QUEUE, stamp(0, 4, 1)).is_err());
        assert_eq!(producers.judge(QUEUE, stamp(0, 3, 1)), Ok(Verdict::New));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = appended(&[stamp(0, 0, 3)]);
        assert!(producers.judge(QUEUE, stamp(1, 3, 1)).is_err());
        assert_eq!(producers.judge(QUEUE, stamp(1, 0, 1)), Ok(Verdict::New));
        producers.record(QUEUE, stamp(1, 0, 1), Offset(3), 1000);
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, 3, 1)),
            Err(SequenceError::StaleEpoch { found: 0, last: 1, .. })
        ));
    }

    #[test]
    fn sequences_wrap_to_zero_between_and_inside_batches() {
        let mut producers = Producers::default();
        producers.record(QUEUE, stamp(0, i32::MAX, 1), Offset(0), 1);
        assert_eq!(producers.judge(QUEUE, stamp(0, 0, 1)), Ok(Verdict::New));
        producers.record(QUEUE, stamp(0, i32::MAX - 1, 4), Offset(1), 1);
        assert_eq!(producers.judge(QUEUE, stamp(0, 2, 1)), Ok(Verdict::New));
    }

    #[test]
    fn the_snapshot_is_what_the_formats_page_says() {
        let mut producers = Producers::default();
        producers.record(QUEUE, stamp(2, 5, 3), Offset(9), 0x0102);
        let bytes = producers.encode();
        let expected: &[&[u8]] = &[
            &[1],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 4],
            &[0, 2],
            &[1],
            &[0, 0, 0, 5],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 9],
            &[0, 0, 0, 0, 0, 0, 1, 2],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Producers::decode(&[2]), Err(1), "another version");
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().judge(QUEUE, stamp(3, 17, 1)), Ok(Verdict::New));
    }

    #[test]
    fn forgetting_a_queue_keeps_its_neighbours() {
        let mut producers = Producers::default();
        for queue in [6, 7, 8] {
            producers.record(QueueId(queue), stamp(0, 0, 1), Offset(0), 1);
        }
        producers.forget(QUEUE);
        assert_eq!(producers.count_of(QueueId(6)), 1);
        assert_eq!(producers.count_of(QUEUE), 0);
        assert_eq!(producers.count_of(QueueId(8)), 1);
    }

    #[test]
    fn idle_producers_expire() {
        let mut producers = appended(&[stamp(0, 0, 1)]);
        producers.expire(1000);
        assert_eq!(producers.count_of(QUEUE), 1);
        producers.expire(1001);
        assert_eq!(producers.count_of(QUEUE), 0);
    }

    proptest! {
        /// Whatever is retried, doubled or reordered, the accepted batches are each sent batch
        /// once and in order.
        #[test]
        fn retries_never_duplicate_and_never_reorder(
            sizes in prop::collection::vec(1..4i32, 1..20),
            sends in prop::collection::vec(0..20usize, 0..200),
        ) {
            let mut batches = Vec::new();
            let mut sequence = 0;
            for size in sizes {
                batches.push(stamp(0, sequence, size));
                sequence += size;
            }
            let mut producers = Producers::default();
            // The first batch is sent first: an unknown producer may start anywhere.
            producers.record(QUEUE, batches[0], Offset(0), 1);
            let mut log = vec![batches[0]];
            for send in sends {
                let batch = batches[send % batches.len()];
                if producers.judge(QUEUE, batch) == Ok(Verdict::New) {
                    let next = i64::from(batch.base_sequence);
                    producers.record(QUEUE, batch, Offset(next), 1);
                    log.push(batch);
                }
            }
            prop_assert_eq!(&log[..], &batches[..log.len()]);
            prop_assert_eq!(Producers::decode(&producers.encode()), Ok(producers));
        }

        /// Cut anywhere, a snapshot is refused or is that of fewer producers; it never panics.
        #[test]
        fn decoding_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            match Producers::decode(&bytes) {
                Ok(producers) => prop_assert_eq!(Producers::decode(&producers.encode()), Ok(producers)),
                Err(at) => prop_assert!(at <= bytes.len()),
            }
        }
    }
}
