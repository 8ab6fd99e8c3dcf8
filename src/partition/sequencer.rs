//! The sequencing decision, made where order is made: under the shard's lock.

use std::ops::Range;
use std::sync::Arc;

use braid_protocol::records::BatchHeader;

use super::producers::{Mark, Producers, SequenceError, Stamp, Verdict};
use super::transactions::Transactions;
use crate::config::LiveConfig;
use crate::model::{Offset, ProducerId, QueueId};
use crate::store::{
    AbortedTransaction, ActiveProducer, RestoreError, SequenceRejected, Sequenced, Sequencer,
    SnapshotMark,
};

/// Appends between two looks at the configuration.
const LOOK_EVERY: u32 = 1024;

/// Version of a snapshot with transactions in it; one without begins with the windows' own.
const SNAPSHOT_VERSION: u8 = 2;

/// The idempotence windows of a shard and the transactions of its queues, fed by its log.
#[derive(Debug)]
pub(crate) struct ShardSequencer {
    producers: Producers,
    transactions: Transactions,
    /// Says `producer.id.expiration.ms`, which may change.
    live: Arc<LiveConfig>,
    until_look: u32,
}

impl ShardSequencer {
    /// Windows of producers that are forgotten when idle for `producer.id.expiration.ms`.
    pub(crate) fn new(live: Arc<LiveConfig>) -> Self {
        let producers = Producers::new(expiration_ms(&live));
        Self { producers, transactions: Transactions::default(), live, until_look: LOOK_EVERY }
    }

    fn look_at_config(&mut self) {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = LOOK_EVERY;
            self.producers.expire_after(expiration_ms(&self.live));
        }
    }

    /// What a batch in the log means to its producer's transaction.
    fn follow(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader) {
        let producer = ProducerId(batch.producer_id);
        if batch.is_control() {
            if let Some(marker) = batch.marker {
                self.transactions.end(queue, producer, marker.kind, base);
            }
        } else if batch.is_transactional() {
            self.transactions.write(queue, producer, batch.producer_epoch, base);
        }
    }
}

fn expiration_ms(live: &LiveConfig) -> i64 {
    i64::try_from(live.load().producer.expiration.as_millis()).unwrap_or(i64::MAX)
}

/// Who wrote a marker, and the marker as windows remember it; none if the batch holds none.
fn mark_of(
    batch: &BatchHeader,
    at: Offset,
    store_time_ms: i64,
) -> Option<((ProducerId, i16), Mark)> {
    let coordinator_epoch = batch.marker?.coordinator_epoch;
    let mark = Mark { at, store_time_ms, coordinator_epoch };
    Some(((ProducerId(batch.producer_id), batch.producer_epoch), mark))
}

fn stamp_of(batch: &BatchHeader) -> Option<Stamp> {
    // Markers have no sequence: whoever writes one has decided.
    (batch.has_producer_id() && !batch.is_control()).then_some(Stamp {
        producer_id: ProducerId(batch.producer_id),
        epoch: batch.producer_epoch,
        base_sequence: batch.base_sequence,
        records_count: batch.records_count,
    })
}

impl Sequencer for ShardSequencer {
    fn judge(
        &mut self,
        queue: QueueId,
        batch: &BatchHeader,
        now_ms: i64,
    ) -> Result<Sequenced, SequenceRejected> {
        if batch.is_control() {
            let producer = ProducerId(batch.producer_id);
            let who = (producer, batch.producer_epoch);
            self.producers.judge_mark(queue, who, now_ms).map_err(rejected)?;
            // Its window may have expired.
            let open = self.transactions.open_of(queue, producer);
            return match open.filter(|open| open.epoch > batch.producer_epoch) {
                Some(open) => Err(SequenceRejected::ProducerFenced {
                    current: open.epoch,
                    got: batch.producer_epoch,
                }),
                None => Ok(Sequenced::Append),
            };
        }
        let Some(stamp) = stamp_of(batch) else { return Ok(Sequenced::Append) };
        let open = self.transactions.open_of(queue, stamp.producer_id);
        if !batch.is_transactional() && open.is_some() {
            return Err(SequenceRejected::OutsideTransaction);
        }
        match self.producers.judge(queue, stamp, now_ms).map_err(rejected)? {
            Verdict::New => Ok(Sequenced::Append),
            // Its producer would take it for part of the transaction under way.
            Verdict::Duplicate { base_offset }
                if batch.is_transactional() && open.is_none_or(|it| base_offset < it.first) =>
            {
                Err(SequenceRejected::EndedTransaction { got: stamp.base_sequence })
            }
            Verdict::Duplicate { base_offset } => Ok(Sequenced::Duplicate {
                base_offset,
                last_offset: base_offset.plus(i64::from(stamp.records_count) - 1),
            }),
        }
    }

    fn record(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, now_ms: i64) {
        if let Some(stamp) = stamp_of(batch) {
            self.look_at_config();
            self.producers.record(queue, stamp, base, now_ms);
        } else if let Some((who, mark)) = mark_of(batch, base, now_ms) {
            self.producers.mark(queue, who, mark);
        }
        self.follow(queue, base, batch);
    }

    fn replay(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, store_time_ms: i64) {
        if let Some(stamp) = stamp_of(batch) {
            self.producers.replay(queue, stamp, base, store_time_ms);
        } else if let Some((who, mark)) = mark_of(batch, base, store_time_ms) {
            self.producers.replay_mark(queue, who, mark);
        }
        self.follow(queue, base, batch);
    }

    fn last_stable(&mut self, queue: QueueId, durable: Offset) -> Offset {
        self.transactions.last_stable(queue, durable)
    }

    fn aborted(&self, queue: QueueId, range: Range<Offset>) -> Vec<AbortedTransaction> {
        self.transactions.aborted(queue, range)
    }

    fn trim(&mut self, queue: QueueId, log_start: Offset) {
        self.transactions.trim(queue, log_start);
    }

    fn cleaned(&mut self, queue: QueueId, markers: &[Offset]) {
        self.transactions.cleaned(queue, markers);
    }

    fn forget(&mut self, queue: QueueId) {
        self.producers.forget(queue);
        self.transactions.forget(queue);
    }

    fn producers(&self, queue: QueueId) -> Vec<ActiveProducer> {
        let mut active = self.producers.active(queue);
        for (id, open) in self.transactions.open(queue) {
            match active.iter_mut().find(|known| known.id == id) {
                Some(known) => known.open_from = Some(open.first),
                None => active.push(ActiveProducer {
                    id,
                    epoch: open.epoch,
                    last_sequence: -1,
                    last_store_time_ms: -1,
                    coordinator_epoch: -1,
                    open_from: Some(open.first),
                }),
            }
        }
        active
    }

    fn snapshot(&self, after: Option<SnapshotMark>, out: &mut Vec<u8>) -> Option<SnapshotMark> {
        if after.is_none() {
            let mut transactions = Vec::new();
            self.transactions.encode(&mut transactions);
            let size_bytes = u32::try_from(transactions.len()).unwrap_or(u32::MAX);
            out.push(SNAPSHOT_VERSION);
            out.extend_from_slice(&size_bytes.to_be_bytes());
            out.append(&mut transactions);
        }
        let after = after.map(|SnapshotMark { queue, producer }| (queue, producer));
        let (queue, producer) = self.producers.encode_part(after, out)?;
        Some(SnapshotMark { queue, producer })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let (transactions, windows) = match snapshot.split_first() {
            Some((&SNAPSHOT_VERSION, rest)) => {
                transactions_in(rest).ok_or(RestoreError { at: 1 })?
            }
            // Before there were transactions.
            _ => (Transactions::default(), snapshot),
        };
        let before = snapshot.len() - windows.len();
        self.producers = Producers::decode(windows, expiration_ms(&self.live))
            .map_err(|at| RestoreError { at: before + at })?;
        self.transactions = transactions;
        Ok(())
    }
}

/// The transactions that a snapshot begins with, and the rest of it.
fn transactions_in(snapshot: &[u8]) -> Option<(Transactions, &[u8])> {
    let (size_bytes, rest) = snapshot.split_first_chunk::<4>()?;
    let size_bytes = usize::try_from(u32::from_be_bytes(*size_bytes)).ok()?;
    let (mut transactions, windows) = rest.split_at_checked(size_bytes)?;
    Some((Transactions::decode(&mut transactions)?, windows))
}

fn rejected(error: SequenceError) -> SequenceRejected {
    match error {
        SequenceError::OutOfOrder { found, expected, .. } => {
            // Sequences wrap from the largest to zero.
            let last = expected.checked_sub(1).filter(|last| *last >= 0).unwrap_or(i32::MAX);
            SequenceRejected::OutOfOrder { last, got: found }
        }
        SequenceError::StaleEpoch { found, last, .. } => {
            SequenceRejected::ProducerFenced { current: last, got: found }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use braid_protocol::records::{BatchSpec, BatchWriter, Producer};

    const QUEUE: QueueId = QueueId(3);

    fn sequencer() -> ShardSequencer {
        let config = crate::config::Config::of(&[("producer.id.expiration.ms", "1000")]).unwrap();
        ShardSequencer::new(Arc::new(LiveConfig::new(Arc::new(config))))
    }

    /// What the log does with a batch.
    fn sequence(
        sequencer: &mut ShardSequencer,
        base: i64,
        batch: &BatchHeader,
    ) -> Result<Sequenced, SequenceRejected> {
        let sequenced = sequencer.judge(QUEUE, batch, 5)?;
        if sequenced == Sequenced::Append {
            sequencer.record(QUEUE, Offset(base), batch, 5);
        }
        Ok(sequenced)
    }

    fn snapshot(sequencer: &ShardSequencer) -> Vec<u8> {
        let mut out = Vec::new();
        let mut after = sequencer.snapshot(None, &mut out);
        while after.is_some() {
            after = sequencer.snapshot(after, &mut out);
        }
        out
    }

    fn batch(base_sequence: i32, records: usize) -> BatchHeader {
        let producer = Some(Producer { id: 9, epoch: 0, base_sequence });
        let mut writer = BatchWriter::new(BatchSpec { producer, ..BatchSpec::default() });
        for _ in 0..records {
            writer.append(1000, None, Some(b"v"), &[]).unwrap();
        }
        BatchHeader::parse(&writer.finish().unwrap()).unwrap()
    }

    #[test]
    fn replay_and_snapshot_leave_the_same_windows_as_appending() {
        let mut live = sequencer();
        let mut replayed = sequencer();
        for (base, header) in [(0, batch(0, 2)), (2, batch(2, 1)), (3, batch(3, 3))] {
            assert_eq!(sequence(&mut live, base, &header), Ok(Sequenced::Append));
            replayed.replay(QUEUE, Offset(base), &header, 5);
        }
        assert_eq!(snapshot(&live), snapshot(&replayed));
        let mut restored = sequencer();
        restored.restore(&snapshot(&live)).unwrap();
        let again = sequence(&mut restored, 6, &batch(3, 3));
        let expected = Sequenced::Duplicate { base_offset: Offset(3), last_offset: Offset(5) };
        assert_eq!(again, Ok(expected));
    }

    #[test]
    fn a_gap_names_the_last_stored_sequence() {
        let mut sequencer = sequencer();
        sequence(&mut sequencer, 0, &batch(0, 2)).unwrap();
        let refused = sequence(&mut sequencer, 2, &batch(5, 1));
        assert_eq!(refused, Err(SequenceRejected::OutOfOrder { last: 1, got: 5 }));
    }

    #[test]
    fn an_unreadable_snapshot_is_refused() {
        let mut live = sequencer();
        sequence(&mut live, 0, &batch(0, 2)).unwrap();
        let snapshot = snapshot(&live);
        let cut = sequencer().restore(&snapshot[..snapshot.len() - 1]);
        assert!(cut.is_err());
    }
}
