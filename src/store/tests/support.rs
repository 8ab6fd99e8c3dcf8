//! What the tests of the store share: batches, an environment on either disk, a sequencer that
//! remembers everything.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use braid_protocol::records::BatchHeader;

use crate::env::clock::ManualClock;
use crate::env::real::{RealFs, Tcp};
use crate::env::rng::SeededRng;
use crate::env::sim::SimFs;
use crate::env::spawn::Blocking;
use crate::env::{Env, Fs, Spawner};
use crate::model::{LeaderEpoch, Offset, ProducerId, QueueId};
use crate::store::{
    ActiveProducer, AppendError, Appended, Class, CleanLimits, LogHandle, ReadError, ReadSpec,
    RestoreError, SequenceRejected, Sequenced, Sequencer, SnapshotMark, Store, StoreConfig,
};

pub(super) const EPOCH: LeaderEpoch = LeaderEpoch(0);
pub(super) const CLUSTER: uuid::Uuid = uuid::Uuid::from_u128(7);
/// As much as there is.
pub(super) const LIMITS: CleanLimits =
    CleanLimits { bytes_per_second_max: u64::MAX, key_memory_bytes: 1 << 20 };
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// An environment on a file system, with a clock that stands still.
pub(super) fn env_on(fs: Arc<dyn Fs>) -> Env {
    Env {
        clock: Arc::new(ManualClock::at_wall_ms(NOW_MS)),
        rng: Arc::new(SeededRng::from_seed(1)),
        fs,
        net: Arc::new(Tcp),
        spawner: Spawner::new(|why| panic!("{why}"), Blocking::Inline),
    }
}

pub(in crate::store) fn real_env() -> Env {
    env_on(Arc::new(RealFs))
}

pub(super) fn sim_env(fs: &SimFs) -> Env {
    env_on(Arc::new(fs.clone()))
}

/// Sizes so small that every boundary is crossed all the time.
pub(super) fn tiny(dir: &Path) -> StoreConfig {
    StoreConfig {
        segment_size_bytes: 16 << 10,
        chunk_size_bytes: 4 << 10,
        ring_size_bytes: 12 << 10,
        group_size_bytes_max: 8 << 10,
        unsynced_size_bytes_max: 8 << 10,
        reserve_bytes: 0,
        zero_ahead_bytes: 0,
        ..StoreConfig::new(dir.to_owned(), CLUSTER)
    }
}

pub(super) fn sim_dir() -> PathBuf {
    PathBuf::from("/data/0")
}

/// A batch of `records` offsets whose body is `body`, or at least looks so to the store.
pub(super) fn batch_at(records: i32, body: &[u8], max_timestamp: i64) -> (Vec<u8>, BatchHeader) {
    let header = BatchHeader {
        base_offset: 0,
        batch_length: i32::try_from(body.len()).unwrap() + 49,
        partition_leader_epoch: -1,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: max_timestamp,
        max_timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        records_count: records,
        marker: None,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(body);
    (bytes, header)
}

pub(super) fn append(
    log: &LogHandle,
    queue: u32,
    records: i32,
    body: &[u8],
) -> Result<Appended, AppendError> {
    let (bytes, header) = batch_at(records, body, NOW_MS);
    log.append(QueueId(queue), EPOCH, Class::Data, &bytes, &header)
}

/// A batch as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadBack {
    pub(super) base_offset: i64,
    pub(super) records: i32,
    pub(super) body: Vec<u8>,
}

pub(super) fn parse_batches(slices: &[bytes::Bytes]) -> Vec<ReadBack> {
    let all: Vec<u8> = slices.iter().flatten().copied().collect();
    let mut rest = all.as_slice();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).expect("reads return whole batches");
        let (batch, behind) = rest.split_at(header.size_bytes());
        found.push(ReadBack {
            base_offset: header.base_offset,
            records: header.records_count,
            body: batch[61..].to_vec(),
        });
        rest = behind;
    }
    found
}

pub(super) fn spec(from: i64) -> ReadSpec {
    ReadSpec { from: Offset(from), up_to: None, size_bytes_max: 1 << 30, at_least_one: true }
}

/// Everything that can be read of a queue, over as many reads as it takes.
pub(super) fn read_all(log: &LogHandle, queue: u32) -> Result<Vec<ReadBack>, ReadError> {
    let queue = QueueId(queue);
    let mut from = log.offsets(queue)?.log_start;
    let mut found = Vec::new();
    loop {
        let read = log.locate(queue, spec(from.0))?.load()?;
        assert_eq!(read.size_bytes, read.slices.iter().map(bytes::Bytes::len).sum::<usize>());
        let Some(next) = read.next_offset else { return Ok(found) };
        assert!(next > from, "reading goes on");
        found.extend(parse_batches(&read.slices));
        from = next;
    }
}

/// Remembers what passed; can be told to call batches duplicates.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Queue, base offset and records of every batch sequenced or replayed, in order.
    pub(super) batches: Vec<(u32, i64, i32)>,
    pub(super) forgotten: Vec<u32>,
    pub(super) reject: Option<SequenceRejected>,
    pub(super) duplicate: Option<(i64, i64)>,
    /// The producers it tells of, of every queue.
    pub(super) producers: Vec<ActiveProducer>,
}

impl Recorder {
    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }
}

impl Sequencer for Recorder {
    fn judge(
        &mut self,
        _queue: QueueId,
        _batch: &BatchHeader,
        _now_ms: i64,
    ) -> Result<Sequenced, SequenceRejected> {
        let seen = self.seen();
        if let Some(rejected) = seen.reject {
            return Err(rejected);
        }
        Ok(match seen.duplicate {
            Some((base, last)) => {
                Sequenced::Duplicate { base_offset: Offset(base), last_offset: Offset(last) }
            }
            None => Sequenced::Append,
        })
    }

    fn record(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, _now_ms: i64) {
        self.seen().batches.push((queue.0, base.0, batch.records_count));
    }

    fn replay(&mut self, queue: QueueId, base: Offset, batch: &BatchHeader, _store_time_ms: i64) {
        let mut seen = self.seen();
        // A snapshot taken while appends went on may hold it.
        if !seen.batches.iter().any(|(known, at, _)| (*known, *at) == (queue.0, base.0)) {
            seen.batches.push((queue.0, base.0, batch.records_count));
        }
    }

    fn forget(&mut self, queue: QueueId) {
        let mut seen = self.seen();
        seen.batches.retain(|(known, _, _)| *known != queue.0);
        seen.forgotten.push(queue.0);
    }

    fn producers(&self, _queue: QueueId) -> Vec<ActiveProducer> {
        self.seen().producers.clone()
    }

    /// In parts of three, told apart by their number.
    fn snapshot(&self, after: Option<SnapshotMark>, out: &mut Vec<u8>) -> Option<SnapshotMark> {
        let from = after.map_or(0, |mark| usize::try_from(mark.producer.0).unwrap());
        let seen = self.seen();
        let part = seen.batches.get(from..).unwrap_or_default();
        for (queue, base, records) in part.iter().take(3) {
            out.extend_from_slice(&queue.to_be_bytes());
            out.extend_from_slice(&base.to_be_bytes());
            out.extend_from_slice(&records.to_be_bytes());
        }
        let producer = ProducerId(i64::try_from(from + 3).unwrap());
        (part.len() > 3).then_some(SnapshotMark { queue: QueueId(0), producer })
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let (rows, rest) = snapshot.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(RestoreError { at: snapshot.len() });
        }
        self.seen().batches = rows
            .iter()
            .map(|row| {
                let queue = u32::from_be_bytes(*row.first_chunk().unwrap());
                let base = i64::from_be_bytes(row[4..12].try_into().unwrap());
                (queue, base, i32::from_be_bytes(*row.last_chunk().unwrap()))
            })
            .collect();
        Ok(())
    }
}

pub(super) fn open_inline(env: &Env, config: StoreConfig) -> Store {
    Store::open_inline(env, config, Box::new(Recorder::default())).unwrap()
}

/// Writes until everything is durable.
pub(super) fn write_all(store: &Store) {
    while store.write_ready().unwrap() {}
}
