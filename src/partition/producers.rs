//! The idempotence window: what each producer last appended to each queue.
//!
//! Pure: fed under the shard's lock by the sequencer and by replay, so that a retry is told from
//! a new batch at the one place where order is decided. Keeps the last five batches per producer
//! and queue, as Kafka's `ProducerStateEntry` does (a client keeps at most five in flight).
//! A transaction's marker raises the epoch of its producer's window, so that what a fenced instance
//! still sends is refused here, too (`ProducerAppendInfo` in Kafka).
//! Invariant: within one epoch the batches of a window follow each other without a gap. A producer
//! that was idle for `producer.id.expiration.ms` counts as unknown from that moment on; its window
//! goes a little later, a few with each append, so that no append waits for a sweep.

use std::collections::{BTreeMap, VecDeque};

use crate::model::{Offset, ProducerId, QueueId};

use crate::store::ActiveProducer;

/// Batches remembered per producer and queue (`NUM_BATCHES_TO_RETAIN` in Kafka).
const BATCHES_MAX: usize = 5;
/// Windows kept at once, some 200 MB; beyond, the longest idle go. Kafka keeps any number.
const WINDOWS_MAX: usize = 1 << 20;
/// Windows in one part of a snapshot: what is encoded under one hold of the shard's lock.
const PART_WINDOWS: usize = 512;
/// Idle windows looked at with each append: more than one, so that they get fewer.
const LOOKED_AT: usize = 2;
const SNAPSHOT_VERSION: u8 = 2;
/// Without markers.
const SNAPSHOT_VERSION_OLD: u8 = 1;

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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Appended {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    store_time_ms: i64,
}

/// The end of a producer's last transaction on a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: Offset,
    pub(crate) store_time_ms: i64,
    /// Epoch of the coordinator that wrote it.
    pub(crate) coordinator_epoch: i32,
}

/// The newest batches of a producer on a queue, oldest first; none if a marker raised its epoch
/// since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    epoch: i16,
    count: u8,
    batches: [Appended; BATCHES_MAX],
    mark: Option<Mark>,
}

impl Window {
    fn new(epoch: i16) -> Self {
        Self { epoch, count: 0, batches: [Appended::default(); BATCHES_MAX], mark: None }
    }

    fn batches(&self) -> &[Appended] {
        self.batches.get(..usize::from(self.count)).unwrap_or_default()
    }

    fn last(&self) -> Option<&Appended> {
        self.batches().last()
    }

    fn last_ms(&self) -> i64 {
        let batch_ms = self.last().map_or(i64::MIN, |batch| batch.store_time_ms);
        self.mark.map_or(batch_ms, |mark| batch_ms.max(mark.store_time_ms))
    }

    /// Offset of the newest batch or marker in it.
    fn last_at(&self) -> Option<Offset> {
        self.last().map(|batch| batch.base_offset).max(self.mark.map(|mark| mark.at))
    }

    fn push(&mut self, batch: Appended) {
        if usize::from(self.count) == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.count -= 1;
        }
        if let Some(free) = self.batches.get_mut(usize::from(self.count)) {
            *free = batch;
            self.count += 1;
        }
    }
}

type Key = (QueueId, ProducerId);

/// The windows of all producers on all queues of a shard.
#[derive(Debug, Clone)]
pub(crate) struct Producers {
    windows: BTreeMap<Key, Window>,
    /// Every window once, with the time of its last append when it was put here: the longest idle
    /// come to the front. Dropped queues leave entries behind.
    idle: VecDeque<(i64, Key)>,
    expire_after_ms: i64,
    windows_max: usize,
    /// Time of the newest append.
    now_ms: i64,
}

impl Producers {
    /// No windows; they will expire when idle for so long.
    pub(crate) fn new(expire_after_ms: i64) -> Self {
        Self {
            windows: BTreeMap::new(),
            idle: VecDeque::new(),
            expire_after_ms,
            windows_max: WINDOWS_MAX,
            now_ms: i64::MIN,
        }
    }

    /// Changes how long a producer may be idle.
    pub(crate) fn expire_after(&mut self, expire_after_ms: i64) {
        self.expire_after_ms = expire_after_ms;
    }

    fn is_expired(&self, last_ms: i64, now_ms: i64) -> bool {
        last_ms < now_ms.saturating_sub(self.expire_after_ms)
    }

    /// Judges a batch before it is appended. Changes nothing.
    ///
    /// # Errors
    /// The batch is out of order or from a fenced instance.
    pub(crate) fn judge(
        &self,
        queue: QueueId,
        stamp: Stamp,
        now_ms: i64,
    ) -> Result<Verdict, SequenceError> {
        let known = self.windows.get(&(queue, stamp.producer_id));
        let Some(window) = known.filter(|known| !self.is_expired(known.last_ms(), now_ms)) else {
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
        if let Some(batch) = window.batches().iter().find(same) {
            return Ok(Verdict::Duplicate { base_offset: batch.base_offset });
        }
        match window.last() {
            Some(batch) => expect_sequence(stamp, next_sequence(batch.last_sequence)),
            // Its epoch is a marker's.
            None => expect_sequence(stamp, 0),
        }
    }

    /// Judges a marker before it is appended: one of a fenced instance ends nothing.
    ///
    /// # Errors
    /// The producer has a newer epoch.
    pub(crate) fn judge_mark(
        &self,
        queue: QueueId,
        (producer_id, epoch): (ProducerId, i16),
        now_ms: i64,
    ) -> Result<(), SequenceError> {
        let known = self.windows.get(&(queue, producer_id));
        match known.filter(|known| !self.is_expired(known.last_ms(), now_ms)) {
            Some(window) if epoch < window.epoch => {
                Err(SequenceError::StaleEpoch { producer_id, found: epoch, last: window.epoch })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Remembers an appended marker.
    pub(crate) fn mark(
        &mut self,
        queue: QueueId,
        (producer_id, epoch): (ProducerId, i16),
        mark: Mark,
    ) {
        let window = self.window_for(queue, producer_id, epoch, mark.store_time_ms);
        window.mark = Some(mark);
    }

    /// Remembers a stored marker, unless a snapshot has it already.
    pub(crate) fn replay_mark(&mut self, queue: QueueId, who: (ProducerId, i16), mark: Mark) {
        let known = self.windows.get(&(queue, who.0)).and_then(Window::last_at);
        if known.is_none_or(|last| last < mark.at) {
            self.mark(queue, who, mark);
        }
    }

    /// Remembers an appended batch.
    pub(crate) fn record(
        &mut self,
        queue: QueueId,
        stamp: Stamp,
        base_offset: Offset,
        store_time_ms: i64,
    ) {
        let window = self.window_for(queue, stamp.producer_id, stamp.epoch, store_time_ms);
        window.push(Appended {
            base_sequence: stamp.base_sequence,
            last_sequence: stamp.last_sequence(),
            base_offset,
            store_time_ms,
        });
    }

    /// The window that something of this epoch is remembered in: an empty one unless it goes on.
    fn window_for(
        &mut self,
        queue: QueueId,
        producer_id: ProducerId,
        epoch: i16,
        store_time_ms: i64,
    ) -> &mut Window {
        self.now_ms = self.now_ms.max(store_time_ms);
        self.forget_some_idle(store_time_ms);
        let key = (queue, producer_id);
        let expired = match self.windows.get(&key) {
            Some(window) => self.is_expired(window.last_ms(), store_time_ms),
            None => {
                self.make_room();
                self.idle.push_back((store_time_ms, key));
                false
            }
        };
        let window = self.windows.entry(key).or_insert_with(|| Window::new(epoch));
        if expired {
            *window = Window::new(epoch);
        } else if window.epoch != epoch {
            *window = Window { mark: window.mark, ..Window::new(epoch) };
        }
        window
    }

    /// Remembers a stored batch, unless a snapshot has it already.
    pub(crate) fn replay(
        &mut self,
        queue: QueueId,
        stamp: Stamp,
        base_offset: Offset,
        store_time_ms: i64,
    ) {
        let known = self.windows.get(&(queue, stamp.producer_id)).and_then(Window::last_at);
        if known.is_none_or(|last| last < base_offset) {
            self.record(queue, stamp, base_offset, store_time_ms);
        }
    }

    /// Drops a few of the windows whose producer appended nothing for `producer.id.expiration.ms`.
    fn forget_some_idle(&mut self, now_ms: i64) {
        for _ in 0..LOOKED_AT {
            let Some((put_ms, key)) = self.idle.front().copied() else { return };
            let last_ms = self.windows.get(&key).map(Window::last_ms);
            if last_ms.is_some() && !self.is_expired(put_ms, now_ms) {
                return;
            }
            self.idle.pop_front();
            match last_ms {
                Some(last_ms) if self.is_expired(last_ms, now_ms) => {
                    self.windows.remove(&key);
                }
                Some(last_ms) => self.idle.push_back((last_ms, key)),
                None => {}
            }
        }
    }

    /// Makes sure that another window may be added: the first that was not used since it came to
    /// the front goes, or after a few the next one.
    fn make_room(&mut self) {
        let mut patience = 8;
        while self.windows.len() >= self.windows_max {
            let Some((put_ms, key)) = self.idle.pop_front() else { return };
            match self.windows.get(&key).map(Window::last_ms) {
                Some(last_ms) if last_ms > put_ms && patience > 0 => {
                    self.idle.push_back((last_ms, key));
                    patience -= 1;
                }
                Some(_) => {
                    self.windows.remove(&key);
                }
                None => {}
            }
        }
    }

    /// What is remembered of a queue's producers.
    pub(crate) fn active(&self, queue: QueueId) -> Vec<ActiveProducer> {
        let of_queue = (queue, ProducerId(i64::MIN))..=(queue, ProducerId(i64::MAX));
        let windows = self.windows.range(of_queue);
        let known = windows.filter(|(_, window)| !self.is_expired(window.last_ms(), self.now_ms));
        let active = known.map(|((_, id), window)| ActiveProducer {
            id: *id,
            epoch: window.epoch,
            last_sequence: window.last().map_or(-1, |last| last.last_sequence),
            last_store_time_ms: window.last_ms(),
            coordinator_epoch: window.mark.map_or(-1, |mark| mark.coordinator_epoch),
            open_from: None,
        });
        active.collect()
    }

    /// Drops every window of a queue.
    pub(crate) fn forget(&mut self, queue: QueueId) {
        let of_queue = (queue, ProducerId(i64::MIN))..=(queue, ProducerId(i64::MAX));
        let gone: Vec<Key> = self.windows.range(of_queue).map(|(key, _)| *key).collect();
        for key in gone {
            self.windows.remove(&key);
        }
        if self.idle.len() > 1024 + 2 * self.windows.len() {
            let windows = &self.windows;
            self.idle.retain(|(_, key)| windows.contains_key(key));
        }
    }

    #[cfg(test)]
    fn count_of(&self, queue: QueueId) -> usize {
        self.windows.keys().filter(|(of, _)| *of == queue).count()
    }

    /// Appends one part of a snapshot, the windows behind `after`, to `out`
    /// (docs/formats.md, "Producer windows"). Returns where to go on, if there may be more.
    pub(crate) fn encode_part(&self, after: Option<Key>, out: &mut Vec<u8>) -> Option<Key> {
        use std::ops::Bound::{Excluded, Unbounded};
        if after.is_none() {
            out.push(SNAPSHOT_VERSION);
        }
        let from = after.map_or(Unbounded, Excluded);
        let mut last = None;
        for ((queue, producer_id), window) in
            self.windows.range((from, Unbounded)).take(PART_WINDOWS)
        {
            out.extend_from_slice(&queue.0.to_be_bytes());
            out.extend_from_slice(&producer_id.0.to_be_bytes());
            out.extend_from_slice(&window.epoch.to_be_bytes());
            let mark = window.mark.unwrap_or(NO_MARK);
            out.extend_from_slice(&mark.at.0.to_be_bytes());
            out.extend_from_slice(&mark.store_time_ms.to_be_bytes());
            out.extend_from_slice(&mark.coordinator_epoch.to_be_bytes());
            out.push(window.count);
            for batch in window.batches() {
                out.extend_from_slice(&batch.base_sequence.to_be_bytes());
                out.extend_from_slice(&batch.last_sequence.to_be_bytes());
                out.extend_from_slice(&batch.base_offset.0.to_be_bytes());
                out.extend_from_slice(&batch.store_time_ms.to_be_bytes());
            }
            last = Some((*queue, *producer_id));
        }
        last
    }

    #[cfg(test)]
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut after = self.encode_part(None, &mut out);
        while after.is_some() {
            after = self.encode_part(after, &mut out);
        }
        out
    }

    /// Reads the parts that [`Producers::encode_part`] wrote, one behind the other.
    ///
    /// # Errors
    /// The byte at which the snapshot stops making sense.
    pub(crate) fn decode(bytes: &[u8], expire_after_ms: i64) -> Result<Self, usize> {
        let mut rest = bytes;
        let mut producers = Self::new(expire_after_ms);
        producers.decode_from(&mut rest).ok_or(bytes.len() - rest.len())?;
        producers.idle =
            producers.windows.iter().map(|(key, window)| (window.last_ms(), *key)).collect();
        producers.idle.make_contiguous().sort_unstable();
        producers.now_ms = producers.idle.back().map_or(i64::MIN, |(last_ms, _)| *last_ms);
        Ok(producers)
    }

    fn decode_from(&mut self, rest: &mut &[u8]) -> Option<()> {
        let [version] = take(rest)?;
        if !matches!(version, SNAPSHOT_VERSION_OLD | SNAPSHOT_VERSION) {
            return None;
        }
        while !rest.is_empty() {
            let queue = QueueId(u32::from_be_bytes(take(rest)?));
            let producer_id = ProducerId(i64::from_be_bytes(take(rest)?));
            let epoch = i16::from_be_bytes(take(rest)?);
            let mut window = Window::new(epoch);
            if version == SNAPSHOT_VERSION {
                let mark = Mark {
                    at: Offset(i64::from_be_bytes(take(rest)?)),
                    store_time_ms: i64::from_be_bytes(take(rest)?),
                    coordinator_epoch: i32::from_be_bytes(take(rest)?),
                };
                window.mark = (mark.at != NO_MARK.at).then_some(mark);
            }
            let [count] = take(rest)?;
            for _ in 0..count {
                window.push(Appended {
                    base_sequence: i32::from_be_bytes(take(rest)?),
                    last_sequence: i32::from_be_bytes(take(rest)?),
                    base_offset: Offset(i64::from_be_bytes(take(rest)?)),
                    store_time_ms: i64::from_be_bytes(take(rest)?),
                });
            }
            self.windows.insert((queue, producer_id), window);
        }
        Some(())
    }
}

/// How a snapshot says that there was none.
const NO_MARK: Mark = Mark { at: Offset(-1), store_time_ms: -1, coordinator_epoch: -1 };

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
    const IDLE_MS: i64 = 5000;

    fn stamp(epoch: i16, base_sequence: i32, records_count: i32) -> Stamp {
        Stamp { producer_id: ProducerId(4), epoch, base_sequence, records_count }
    }

    fn appended(stamps: &[Stamp]) -> Producers {
        let mut producers = Producers::new(IDLE_MS);
        let mut offset = Offset::ZERO;
        for s in stamps {
            assert_eq!(producers.judge(QUEUE, *s, 1000), Ok(Verdict::New), "{s:?}");
            producers.record(QUEUE, *s, offset, 1000);
            offset = offset.plus(i64::from(s.records_count));
        }
        producers
    }

    #[test]
    fn a_retry_inside_the_window_is_answered_with_its_first_offset() {
        let producers = appended(&[stamp(0, 0, 3), stamp(0, 3, 1), stamp(0, 4, 2)]);
        let duplicate = Verdict::Duplicate { base_offset: Offset(3) };
        assert_eq!(producers.judge(QUEUE, stamp(0, 3, 1), 1000), Ok(duplicate));
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
            coordinator_epoch: -1,
            open_from: None,
        };
        assert_eq!(active, [expected]);
    }

    #[test]
    fn a_retry_older_than_five_batches_is_out_of_order() {
        let stamps: Vec<_> = (0..6).map(|i| stamp(0, i, 1)).collect();
        let producers = appended(&stamps);
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, 0, 1), 1000),
            Err(SequenceError::OutOfOrder { found: 0, expected: 6, .. })
        ));
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, 1, 1), 1000),
            Ok(Verdict::Duplicate { .. })
        ));
    }

    #[test]
    fn a_gap_is_out_of_order_and_leaves_the_window_alone() {
        let producers = appended(&[stamp(0, 0, 3)]);
        assert!(producers.judge(QUEUE, stamp(0, 4, 1), 1000).is_err());
        assert_eq!(producers.judge(QUEUE, stamp(0, 3, 1), 1000), Ok(Verdict::New));
    }

    #[test]
    fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
        let mut producers = appended(&[stamp(0, 0, 3)]);
        assert!(producers.judge(QUEUE, stamp(1, 3, 1), 1000).is_err());
        assert_eq!(producers.judge(QUEUE, stamp(1, 0, 1), 1000), Ok(Verdict::New));
        producers.record(QUEUE, stamp(1, 0, 1), Offset(3), 1000);
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, 3, 1), 1000),
            Err(SequenceError::StaleEpoch { found: 0, last: 1, .. })
        ));
    }

    #[test]
    fn sequences_wrap_to_zero_between_and_inside_batches() {
        let mut producers = Producers::new(IDLE_MS);
        producers.record(QUEUE, stamp(0, i32::MAX, 1), Offset(0), 1);
        assert_eq!(producers.judge(QUEUE, stamp(0, 0, 1), 1000), Ok(Verdict::New));
        producers.record(QUEUE, stamp(0, i32::MAX - 1, 4), Offset(1), 1);
        assert_eq!(producers.judge(QUEUE, stamp(0, 2, 1), 1000), Ok(Verdict::New));
    }

    #[test]
    fn the_snapshot_is_what_the_formats_page_says() {
        let mut producers = Producers::new(IDLE_MS);
        producers.record(QUEUE, stamp(2, 5, 3), Offset(9), 0x0102);
        let key: &[&[u8]] = &[&[0, 0, 0, 7], &[0, 0, 0, 0, 0, 0, 0, 4], &[0, 2]];
        let batch: &[&[u8]] = &[
            &[1],
            &[0, 0, 0, 5],
            &[0, 0, 0, 7],
            &[0, 0, 0, 0, 0, 0, 0, 9],
            &[0, 0, 0, 0, 0, 0, 1, 2],
        ];
        let (key, batch) = (key.concat(), batch.concat());
        assert_eq!(producers.encode(), [&[2][..], &key, &[0xff; 20], &batch].concat());
        // As it was written before there were markers.
        let old = Producers::decode(&[&[1][..], &key, &batch].concat(), IDLE_MS).unwrap();
        assert_eq!(old.windows, producers.windows);
        let mark = Mark { at: Offset(12), store_time_ms: 0x0103, coordinator_epoch: 1 };
        producers.mark(QUEUE, (ProducerId(4), 2), mark);
        let mark: &[&[u8]] =
            &[&[0, 0, 0, 0, 0, 0, 0, 12], &[0, 0, 0, 0, 0, 0, 1, 3], &[0, 0, 0, 1]];
        assert_eq!(producers.encode(), [&[2][..], &key, &mark.concat(), &batch].concat());
        assert_eq!(Producers::decode(&[3], IDLE_MS).err(), Some(1), "another version");
    }

    fn mark(at: i64) -> Mark {
        Mark { at: Offset(at), store_time_ms: 1000, coordinator_epoch: 0 }
    }

    #[test]
    fn a_marker_of_a_raised_epoch_fences_what_its_producer_sent_before() {
        let mut producers = appended(&[stamp(5, 0, 3)]);
        let who = |epoch| (ProducerId(4), epoch);
        assert!(producers.judge_mark(QUEUE, who(4), 1000).is_err());
        assert_eq!(producers.judge_mark(QUEUE, who(5), 1000), Ok(()));
        producers.mark(QUEUE, who(5), mark(3));
        assert_eq!(producers.judge(QUEUE, stamp(5, 3, 1), 1000), Ok(Verdict::New), "it goes on");
        producers.mark(QUEUE, who(6), mark(3));
        for late in [stamp(5, 0, 3), stamp(5, 3, 1)] {
            let refused = producers.judge(QUEUE, late, 1000);
            assert!(matches!(refused, Err(SequenceError::StaleEpoch { found: 5, last: 6, .. })));
        }
        assert!(producers.judge(QUEUE, stamp(6, 3, 1), 1000).is_err(), "it starts anew");
        assert_eq!(producers.judge(QUEUE, stamp(6, 0, 1), 1000), Ok(Verdict::New));
        let active = producers.active(QUEUE);
        assert_eq!((active[0].epoch, active[0].last_sequence), (6, -1));
        assert_eq!((active[0].last_store_time_ms, active[0].coordinator_epoch), (1000, 0));
        let again = Producers::decode(&producers.encode(), IDLE_MS).unwrap();
        assert_eq!(again.windows, producers.windows);
    }

    #[test]
    fn a_marker_replayed_over_a_snapshot_that_has_it_changes_nothing() {
        let mut producers = appended(&[stamp(5, 0, 3)]);
        producers.mark(QUEUE, (ProducerId(4), 6), mark(3));
        producers.record(QUEUE, stamp(6, 0, 1), Offset(4), 1000);
        let before = producers.windows.clone();
        producers.replay(QUEUE, stamp(5, 0, 3), Offset(0), 1000);
        producers.replay_mark(QUEUE, (ProducerId(4), 6), mark(3));
        producers.replay(QUEUE, stamp(6, 0, 1), Offset(4), 1000);
        assert_eq!(producers.windows, before);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::new(IDLE_MS).judge(QUEUE, stamp(3, 17, 1), 0), Ok(Verdict::New));
    }

    #[test]
    fn forgetting_a_queue_keeps_its_neighbours() {
        let mut producers = Producers::new(IDLE_MS);
        for queue in [6, 7, 8] {
            producers.record(QueueId(queue), stamp(0, 0, 1), Offset(0), 1);
        }
        producers.forget(QUEUE);
        assert_eq!(producers.count_of(QueueId(6)), 1);
        assert_eq!(producers.count_of(QUEUE), 0);
        assert_eq!(producers.count_of(QueueId(8)), 1);
    }

    #[test]
    fn a_producer_is_unknown_from_the_moment_it_expires_and_goes_with_later_appends() {
        let mut producers = appended(&[stamp(3, 0, 1)]);
        let gap = stamp(3, 17, 1);
        assert!(producers.judge(QUEUE, gap, 1000 + IDLE_MS).is_err());
        assert!(producers.judge(QUEUE, stamp(2, 1, 1), 1000 + IDLE_MS).is_err());
        assert_eq!(producers.judge(QUEUE, gap, 1001 + IDLE_MS), Ok(Verdict::New));
        // Back under an older epoch: what was known does not come back with it.
        let mut returned = producers.clone();
        returned.record(QUEUE, stamp(2, 17, 1), Offset(9), 1001 + IDLE_MS);
        let early = returned.judge(QUEUE, stamp(2, 0, 1), 1001 + IDLE_MS);
        assert!(matches!(early, Err(SequenceError::OutOfOrder { expected: 18, .. })));
        assert_eq!(returned.count_of(QUEUE), 1);
        // Another one's append takes it away.
        producers.record(QueueId(8), stamp(0, 0, 1), Offset(0), 1001 + IDLE_MS);
        assert_eq!((producers.count_of(QUEUE), producers.idle.len()), (0, 1));
    }

    #[test]
    fn those_who_go_on_stay_however_many_come_and_go() {
        let mut producers = Producers::new(IDLE_MS);
        let mut sequence = 0;
        for now in 0..50_000i64 {
            let one = Stamp { producer_id: ProducerId(1000 + now), ..stamp(0, 0, 1) };
            producers.record(QUEUE, one, Offset(2 * now), now);
            if now % 100 == 0 {
                let faithful = stamp(0, sequence, 1);
                assert_eq!(producers.judge(QUEUE, faithful, now), Ok(Verdict::New));
                producers.record(QUEUE, faithful, Offset(2 * now + 1), now);
                sequence += 1;
            }
            assert!(producers.windows.len() <= 2 * 5000 + 2, "{}", producers.windows.len());
            assert_eq!(producers.idle.len(), producers.windows.len());
        }
        assert!(matches!(
            producers.judge(QUEUE, stamp(0, sequence - 1, 1), 50_000),
            Ok(Verdict::Duplicate { .. })
        ));
    }

    #[test]
    fn beyond_the_limit_the_longest_idle_make_room() {
        let mut producers = Producers { windows_max: 100, ..Producers::new(i64::MAX) };
        for n in 0..10_000i64 {
            let one = Stamp { producer_id: ProducerId(1000 + n), ..stamp(0, 0, 1) };
            producers.record(QUEUE, one, Offset(2 * n), n);
            if n % 10 == 0 {
                let sequence = i32::try_from(n / 10).unwrap();
                producers.record(QUEUE, stamp(0, sequence, 1), Offset(2 * n + 1), n);
            }
            assert!(producers.windows.len() <= 100);
        }
        assert!(producers.judge(QUEUE, stamp(0, 7, 1), 10_000).is_err(), "the busy one is known");
        let recent = Stamp { producer_id: ProducerId(10_999), ..stamp(0, 7, 1) };
        assert!(producers.judge(QUEUE, recent, 10_000).is_err(), "and the newest");
    }

    #[test]
    fn queues_that_come_and_go_leave_nothing_behind() {
        let mut producers = Producers::new(i64::MAX);
        for queue in 0..20_000 {
            producers.record(QueueId(queue), stamp(0, 0, 1), Offset(0), 1);
            producers.forget(QueueId(queue));
        }
        assert!(producers.windows.is_empty() && producers.idle.len() <= 1025);
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
            let mut producers = Producers::new(IDLE_MS);
            // The first batch is sent first: an unknown producer may start anywhere.
            producers.record(QUEUE, batches[0], Offset(0), 1);
            let mut log = vec![batches[0]];
            for send in sends {
                let batch = batches[send % batches.len()];
                if producers.judge(QUEUE, batch, 1000) == Ok(Verdict::New) {
                    let next = i64::from(batch.base_sequence);
                    producers.record(QUEUE, batch, Offset(next), 1);
                    log.push(batch);
                }
            }
            prop_assert_eq!(&log[..], &batches[..log.len()]);
            let again = Producers::decode(&producers.encode(), IDLE_MS).unwrap();
            prop_assert_eq!(again.windows, producers.windows);
        }

        /// A snapshot in parts, with appends between them, and everything since its beginning
        /// replayed on top: as if it had been taken in one moment.
        #[test]
        fn parts_taken_while_appends_go_on_and_a_replay_are_the_windows(
            sends in prop::collection::vec((0..3u32, 0..900i64, 0..40u32), 1..60),
            parts_at in prop::collection::btree_set(0..60usize, 1..6),
        ) {
            let mut live = Producers::new(IDLE_MS);
            let mut sequences: BTreeMap<(u32, i64), (i16, i32)> = BTreeMap::new();
            for id in 0..900 {
                live.record(QueueId(1), Stamp { producer_id: ProducerId(id), ..stamp(0, 0, 1) }, Offset(id), 1);
                sequences.insert((1, id), (0, 1));
            }
            let (mut snapshot, mut after, mut begun, mut log) = (Vec::new(), None, false, Vec::new());
            let mut take_part = |live: &Producers, log: &mut Vec<_>, all: bool| {
                while !begun || after.is_some() {
                    if !begun {
                        log.clear();
                    }
                    after = live.encode_part(after, &mut snapshot);
                    begun = true;
                    if !all { break }
                }
            };
            for (n, (queue, id, dice)) in sends.into_iter().enumerate() {
                if parts_at.contains(&n) {
                    take_part(&live, &mut log, false);
                }
                let (epoch, sequence) = sequences.entry((queue, id)).or_insert((0, 0));
                if dice == 0 {
                    (*epoch, *sequence) = (*epoch + 1, 0);
                }
                let next = Stamp { producer_id: ProducerId(id), ..stamp(*epoch, *sequence, 1) };
                *sequence += 1;
                let batch = (QueueId(queue), next, Offset(1000 + i64::try_from(n).unwrap()), 2);
                live.record(batch.0, batch.1, batch.2, batch.3);
                log.push(batch);
            }
            take_part(&live, &mut log, true);
            let mut restored = Producers::decode(&snapshot, IDLE_MS).unwrap();
            for (queue, stamp, offset, time_ms) in log {
                restored.replay(queue, stamp, offset, time_ms);
            }
            prop_assert_eq!(restored.windows, live.windows);
        }

        /// Cut anywhere, a snapshot is refused or is that of fewer producers; it never panics.
        #[test]
        fn decoding_any_bytes_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            match Producers::decode(&bytes, IDLE_MS) {
                Ok(producers) => {
                    let again = Producers::decode(&producers.encode(), IDLE_MS).unwrap();
                    prop_assert_eq!(again.windows, producers.windows);
                }
                Err(at) => prop_assert!(at <= bytes.len()),
            }
        }
    }
}
