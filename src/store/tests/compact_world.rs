//! A model of compacted queues, and random lives of a real store checked against it.
//!
//! What a reader makes of a queue by taking its records one after the other - the last value of
//! every key - is the same whether and how often the queue was compacted, killed or cut. The head
//! is as it was written.

use std::collections::BTreeMap;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter, Codec, RecordReader};
use bytes::Bytes;

use super::support::*;
use super::world::{Dice, Stopped};
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, QueueId};
use crate::store::{AppendError, Class, Compaction, LogHandle, MaintainError, Store, StoreConfig};

/// Key, value or tombstone.
type Content = (Vec<u8>, Option<Vec<u8>>);

/// A record as it was read back.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.value.as_ref().map(|value| &value[..4.min(value.len())]);
        write!(f, "{} {}={value:?}", self.offset, self.key.escape_ascii())
    }
}

#[derive(Debug, Clone)]
struct Batch {
    base: i64,
    content: Vec<Content>,
    bytes: usize,
    end: u64,
}

impl Batch {
    fn next(&self) -> i64 {
        self.base + i64::try_from(self.content.len()).unwrap()
    }
}

#[derive(Debug, Default)]
struct ModelQueue {
    batches: Vec<Batch>,
    log_start: i64,
    /// Log starts asked for, durable or not.
    log_start_asked: i64,
    /// Below this it may have been compacted.
    touched_to: i64,
}

impl ModelQueue {
    fn next(&self) -> i64 {
        self.batches.last().map_or(0, Batch::next)
    }

    fn records(&self, below: i64) -> Vec<Record> {
        let records = self.batches.iter().flat_map(|batch| {
            (batch.base..).zip(&batch.content).map(|(offset, (key, value))| Record {
                offset,
                key: key.clone(),
                value: value.clone(),
            })
        });
        records.filter(|record| record.offset < below).collect()
    }
}

/// The last value of every key.
pub(super) fn table(records: &[Record]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut table = BTreeMap::new();
    for Record { key, value, .. } in records {
        match value {
            Some(value) => table.insert(key.clone(), value.clone()),
            None => table.remove(key),
        };
    }
    table
}

/// All records of a queue, of whole batches from the one with its log start on.
pub(super) fn read_records(log: &LogHandle, queue: u32) -> Vec<Record> {
    let offsets = log.offsets(QueueId(queue)).unwrap();
    let mut from = offsets.log_start;
    let mut records = Vec::new();
    while from < offsets.high_watermark {
        let read = log.locate(QueueId(queue), spec(from.0)).unwrap().load().unwrap();
        let next = read.next_offset.expect("the end of the queue is reached");
        assert!(next > from);
        from = next;
        let all = Bytes::from(read.slices.concat());
        for batch in braid_protocol::records::Batches::new(all) {
            let (header, batch) = batch.unwrap();
            assert!(header.crc_matches(&batch));
            let reader = RecordReader::open(&batch, 1 << 20).unwrap();
            records.extend(reader.into_iter().map(|record| {
                let record = record.unwrap();
                let (key, value) = (record.key.unwrap(), record.value.map(<[u8]>::to_vec));
                Record { offset: record.offset, key: key.to_vec(), value }
            }));
        }
    }
    assert!(records.is_sorted_by(|a, b| a.offset < b.offset), "offsets ascend");
    records
}

/// A batch of records.
pub(super) fn keyed(spec: BatchSpec, content: &[Content], at_ms: i64) -> (Bytes, BatchHeader) {
    let mut writer = BatchWriter::new(spec);
    for (key, value) in content {
        writer.append(at_ms, Some(key), value.as_deref(), &[]).unwrap();
    }
    let batch = writer.finish().unwrap();
    let header = BatchHeader::parse(&batch).unwrap();
    (batch, header)
}

/// Everything is compacted at every occasion.
pub(super) const ALL: Compaction = Compaction {
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    dirty_ratio_min: 0.0,
    delete_retention_ms: 1000,
    head_age_ms: 0,
    head_size_bytes: u64::MAX,
};

#[derive(Debug, Default)]
pub(super) struct CompactWorld {
    queues: BTreeMap<u32, ModelQueue>,
    acked: u64,
    next_value: u32,
    now_ms: i64,
    /// How often a queue was compacted.
    pub(super) compacted: usize,
}

const QUEUES: u32 = 3;

impl CompactWorld {
    pub(super) fn live(
        &mut self,
        fs: &SimFs,
        config: &StoreConfig,
        dice: &Dice,
        steps: u64,
    ) -> Result<(), Stopped> {
        self.now_ms = self.now_ms.max(NOW_MS);
        let recorder = Box::new(Recorder::default());
        let opened = Store::open_inline(&sim_env(fs), config.clone(), recorder);
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                assert!(fs.is_off(), "a store did not open: {error}\n{}", fs.dump());
                return Err(Stopped);
            }
        };
        let log = store.handle();
        self.check_recovered(&store, &log);
        let done = self.run(&store, &log, dice, steps);
        self.acked = self.acked.max(log.durable().0);
        assert_eq!(fs.violations(), Vec::<String>::new());
        match done {
            Ok(()) if dice.below(2) == 0 => {
                let closed = store.close().map_err(|_| Stopped);
                self.acked = self.acked.max(log.durable().0);
                closed
            }
            done => done,
        }
    }

    fn check_recovered(&mut self, store: &Store, log: &LogHandle) {
        assert_eq!(store.damage(), [], "a cut is no damage");
        for (id, queue) in &mut self.queues {
            log.open_queue(QueueId(*id));
            let offsets = log.offsets(QueueId(*id)).unwrap();
            let kept = queue.batches.iter().take_while(|it| it.next() <= offsets.next.0).count();
            let lost = queue.batches.split_off(kept);
            assert!(lost.iter().all(|batch| batch.end > self.acked), "lost what was acked");
            assert_eq!(queue.next(), offsets.next.0);
            assert!(offsets.log_start.0 <= queue.log_start_asked);
            queue.log_start = offsets.log_start.0;
            queue.log_start_asked = queue.log_start;
            queue.batches.iter_mut().for_each(|batch| batch.end = 0);
        }
        self.acked = log.durable().0;
        self.check(log);
    }

    fn run(
        &mut self,
        store: &Store,
        log: &LogHandle,
        dice: &Dice,
        steps: u64,
    ) -> Result<(), Stopped> {
        for _ in 0..steps {
            match dice.below(100) {
                0..=49 => self.append(store, log, dice)?,
                50..=69 => drop(store.write_ready().map_err(|_| Stopped)?),
                70..=76 => maintained(store.maintain())?,
                77..=80 => self.move_log_start(log, dice),
                81..=91 => self.clean(store, log, dice)?,
                92..=95 => self.now_ms += i64::try_from(dice.below(600)).unwrap(),
                _ => self.check(log),
            }
            self.acked = log.durable().0;
        }
        Ok(())
    }

    fn append(&mut self, store: &Store, log: &LogHandle, dice: &Dice) -> Result<(), Stopped> {
        let id = u32::try_from(dice.below(u64::from(QUEUES))).unwrap();
        log.open_queue(QueueId(id));
        let mut content: Vec<Content> = Vec::new();
        for _ in 0..=dice.below(4) {
            let key = format!("key {}", dice.below(9)).into_bytes();
            self.next_value += 1;
            let length = usize::try_from(1 + dice.below(60)).unwrap();
            let value = (dice.below(5) > 0).then(|| self.next_value.to_be_bytes().repeat(length));
            content.push((key, value));
        }
        let codec = [Codec::None, Codec::Gzip, Codec::Lz4, Codec::Zstd]
            [usize::try_from(dice.below(4)).unwrap()];
        let spec = BatchSpec { codec, ..BatchSpec::default() };
        let (bytes, header) = keyed(spec, &content, NOW_MS);
        let append = || log.append(QueueId(id), LeaderEpoch(0), Class::Data, &bytes, &header);
        let appended = match append() {
            Ok(appended) => appended,
            Err(AppendError::SegmentNotReady) => {
                maintained(store.maintain())?;
                append().unwrap()
            }
            Err(AppendError::Failed(_)) => return Err(Stopped),
            Err(error) => panic!("{error}"),
        };
        let queue = self.queues.entry(id).or_default();
        assert_eq!(appended.base_offset, Offset(queue.next()));
        let (base, end) = (queue.next(), appended.end.0);
        queue.batches.push(Batch { base, content, bytes: bytes.len(), end });
        Ok(())
    }

    fn move_log_start(&mut self, log: &LogHandle, dice: &Dice) {
        for (id, queue) in &mut self.queues {
            let high_watermark = log.offsets(QueueId(*id)).unwrap().high_watermark.0;
            let room = u64::try_from(high_watermark - queue.log_start).unwrap();
            let to = queue.log_start + i64::try_from(dice.below(room / 2 + 1)).unwrap();
            if log.set_log_start(QueueId(*id), Offset(to)).is_ok() {
                queue.log_start = to;
                queue.log_start_asked = queue.log_start_asked.max(to);
            }
        }
    }

    fn clean(&mut self, store: &Store, log: &LogHandle, dice: &Dice) -> Result<(), Stopped> {
        let head_size_bytes = if dice.below(2) == 0 { 0 } else { 200 * dice.below(10) };
        let rule = Compaction {
            head_age_ms: i64::MAX,
            head_size_bytes,
            dirty_ratio_min: 0.2 * f64::from(u32::try_from(dice.below(3)).unwrap()),
            ..ALL
        };
        let queues: Vec<u32> = self.queues.keys().copied().filter(|_| dice.below(4) > 0).collect();
        let rules: Vec<_> = queues.iter().map(|id| (QueueId(*id), rule)).collect();
        let before: Vec<_> = queues.iter().map(|id| read_records(log, *id)).collect();
        let cleaned = log.clean(self.now_ms, &rules, LIMITS);
        match cleaned {
            Ok(cleaned) => self.compacted += cleaned.compacted,
            Err(MaintainError::Failed(_)) => return Err(Stopped),
            Err(MaintainError::Io(failure)) => panic!("{failure}"),
        }
        // The store wrote what was on its way.
        let _wrote: bool = store.write_ready().map_err(|_| Stopped)?;
        for (id, before) in queues.iter().zip(before) {
            let begins = self.head(*id, head_size_bytes);
            let touched_to = &mut self.queues.get_mut(id).unwrap().touched_to;
            let head = begins.max(*touched_to);
            *touched_to = head;
            let of_head = |records: &[Record]| -> Vec<Record> {
                records.iter().filter(|record| record.offset >= head).cloned().collect()
            };
            let after = read_records(log, *id);
            let new = before.last().map_or(0, |last| last.offset + 1);
            let known: Vec<_> = after.iter().filter(|it| it.offset < new).cloned().collect();
            assert_eq!(of_head(&known), of_head(&before), "the head of queue {id}");
        }
        self.check(log);
        Ok(())
    }

    /// Where the last `bytes` of a queue begin, at a batch.
    fn head(&self, id: u32, bytes: u64) -> i64 {
        let queue = &self.queues[&id];
        let mut behind = 0;
        let head = queue.batches.iter().rev().take_while(|batch| {
            let is_in = behind < bytes;
            behind += batch.bytes as u64;
            is_in
        });
        head.last().map_or(queue.next(), |batch| batch.base)
    }

    fn check(&self, log: &LogHandle) {
        for (id, queue) in &self.queues {
            let offsets = log.offsets(QueueId(*id)).unwrap();
            let written = queue.records(offsets.high_watermark.0);
            let read = read_records(log, *id);
            for record in &read {
                assert!(written.contains(record), "queue {id} never held {record:?}");
            }
            let live = |records: &[Record]| -> Vec<Record> {
                let from = offsets.log_start.0;
                records.iter().filter(|record| record.offset >= from).cloned().collect()
            };
            assert_eq!(table(&live(&read)), table(&live(&written)), "queue {id}");
        }
    }
}

fn maintained(result: Result<(), MaintainError>) -> Result<(), Stopped> {
    match result {
        Ok(()) => Ok(()),
        Err(MaintainError::Failed(_)) => Err(Stopped),
        Err(MaintainError::Io(failure)) => panic!("{failure}"),
    }
}
