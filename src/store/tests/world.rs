//! A naive model of a store, and random lives of a real one checked against it.
//!
//! A life opens the store on a simulated disk, does random things until its steps are over or the
//! disk stops it, and remembers what was acknowledged. The next life must find all of that, in
//! order, and nothing that was never appended.

use std::collections::{BTreeMap, HashSet};

use super::support::*;
use crate::env::rng::{Rng, SeededRng};
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, QueueId};
use crate::store::{
    AppendError, Appended, Class, LogHandle, LogStartError, MaintainError, OpenError, Part,
    Retention, Store, StoreConfig,
};

#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    base: i64,
    records: i32,
    body: Vec<u8>,
    /// Position that has to be durable for the batch to be.
    end: u64,
    /// The group it was appended in, until that has survived a life.
    group: Option<u64>,
}

impl Batch {
    fn next(&self) -> i64 {
        self.base + i64::from(self.records)
    }
}

#[derive(Debug, Clone, Default)]
struct ModelQueue {
    batches: Vec<Batch>,
    /// Log starts asked for, with the position that makes each durable.
    log_starts: Vec<(i64, u64)>,
    dropped: Option<u64>,
}

impl ModelQueue {
    fn next(&self) -> i64 {
        self.batches.last().map_or(0, Batch::next)
    }

    fn log_start(&self) -> i64 {
        self.log_starts.last().map_or(0, |(start, _)| *start)
    }

    fn log_start_durable(&self, durable: u64) -> i64 {
        let durable = self.log_starts.iter().rev().find(|(_, end)| *end <= durable);
        durable.map_or(0, |(start, _)| *start)
    }

    /// The batches a reader sees when the log is durable up to a position.
    fn readable(&self, log_start: i64, durable: u64) -> Vec<ReadBack> {
        let seen = |batch: &&Batch| batch.next() > log_start && batch.end <= durable;
        let read = |batch: &Batch| ReadBack {
            base_offset: batch.base,
            records: batch.records,
            body: batch.body.clone(),
        };
        self.batches.iter().filter(seen).map(read).collect()
    }
}

/// Why a life ended early.
#[derive(Debug)]
pub(super) struct Stopped;

/// The model, across lives.
#[derive(Debug, Default)]
pub(super) struct World {
    queues: BTreeMap<u32, ModelQueue>,
    next_queue: u32,
    next_body: u32,
    next_group: u64,
    epoch: i32,
    /// How far the log was durable when the last life ended.
    acked: u64,
    pub(super) recorder: Recorder,
}

/// Random numbers of a test: of a seed, or a script that a property test can shrink.
pub(super) enum Dice {
    Seed(Box<SeededRng>),
    Script(std::cell::RefCell<std::vec::IntoIter<u64>>),
}

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Self::Seed(Box::new(SeededRng::from_seed(seed)))
    }

    pub(super) fn scripted(script: Vec<u64>) -> Self {
        Self::Script(std::cell::RefCell::new(script.into_iter()))
    }

    pub(super) fn below(&self, n: u64) -> u64 {
        match self {
            Self::Seed(rng) => rng.next_u64() % n,
            Self::Script(script) => script.borrow_mut().next().unwrap_or(0) % n,
        }
    }
}

/// A configuration with boundaries everywhere.
pub(super) fn random_config(dice: &Dice) -> StoreConfig {
    StoreConfig {
        segment_size_bytes: (3 + dice.below(4)) * 4096,
        chunk_size_bytes: 4096 << dice.below(2),
        ring_size_bytes: 4096 << dice.below(4),
        group_size_bytes_max: 4096 << dice.below(3),
        zero_ahead_bytes: 8192 * dice.below(2),
        gather_below_bytes: 256,
        spare_segments_max: usize::try_from(dice.below(3)).unwrap(),
        ..tiny(&sim_dir())
    }
}

impl World {
    /// Opens the store and checks what it brought back; then lives for some steps.
    pub(super) fn live(
        &mut self,
        fs: &SimFs,
        config: &StoreConfig,
        dice: &Dice,
        steps: u64,
    ) -> Result<(), Stopped> {
        self.recorder = Recorder::default();
        let opened =
            Store::open_inline(&sim_env(fs), config.clone(), Box::new(self.recorder.clone()));
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                assert!(fs.is_off(), "a store did not open: {error}\n{}", fs.dump());
                // What was found is checked by the life that opens.
                if !matches!(error, OpenError::Io(_) | OpenError::Failed(_)) {
                    panic!("{error}");
                }
                return Err(Stopped);
            }
        };
        let log = store.handle();
        self.check_recovered(&store, &log);
        let done = self.run(&store, &log, dice, steps);
        self.acked = self.acked.max(log.durable().0);
        let ended = match done {
            Ok(true) => store.close().map_err(|error| self.stopped_by(fs, &error)),
            Ok(false) => Ok(()),
            Err(stopped) => Err(stopped),
        };
        if matches!(ended, Ok(())) {
            self.acked = self.acked.max(log.durable().0);
        }
        assert_eq!(fs.violations(), Vec::<String>::new());
        ended
    }

    fn stopped_by(&self, fs: &SimFs, error: &dyn std::fmt::Display) -> Stopped {
        assert!(fs.is_off(), "only the power stops a life here: {error}");
        Stopped
    }

    /// Everything acknowledged is there, in order, and nothing else; forgets the rest.
    fn check_recovered(&mut self, store: &Store, log: &LogHandle) {
        assert_eq!(store.damage(), [], "a cut is no damage");
        let acked = self.acked;
        let mut halved = Halved::default();
        let known: Vec<u32> = log.queues().iter().map(|queue| queue.0).collect();
        for (id, queue) in &mut self.queues {
            let queue_id = QueueId(*id);
            if let Some(dropped) = queue.dropped {
                if !known.contains(id) {
                    *queue = ModelQueue { dropped: Some(0), ..ModelQueue::default() };
                    continue;
                }
                assert!(dropped > acked, "queue {id} came back from a durable drop");
                queue.dropped = None;
            }
            log.open_queue(queue_id);
            let offsets = log.offsets(queue_id).unwrap();
            let log_start = offsets.log_start.0;
            assert!(log_start >= queue.log_start_durable(acked), "queue {id}: log start went back");
            assert!(log_start <= queue.log_start(), "queue {id}: log start never asked for");
            let kept = queue.batches.iter().take_while(|it| it.next() <= offsets.next.0).count();
            let lost = queue.batches.split_off(kept);
            assert!(lost.iter().all(|batch| batch.end > acked), "queue {id} lost what was acked");
            halved.see(&mut queue.batches, &lost);
            assert_eq!(queue.next(), offsets.next.0, "queue {id}: offsets were invented");
            assert_eq!(offsets.high_watermark, offsets.next);
            let read = read_all(log, *id).unwrap();
            assert_eq!(read, queue.readable(log_start, u64::MAX), "queue {id}");
            queue.log_starts = vec![(log_start, 0)];
            queue.batches.iter_mut().for_each(|batch| batch.end = 0);
            let seen = self.recorder.seen();
            let sequenced: Vec<_> = seen.batches.iter().filter(|(q, _, _)| q == id).collect();
            let expected: Vec<_> =
                queue.batches.iter().map(|batch| (*id, batch.base, batch.records)).collect();
            assert_eq!(sequenced, expected.iter().collect::<Vec<_>>(), "queue {id}: sequencer");
        }
        halved.check();
        for id in known {
            assert!(self.queues.contains_key(&id), "queue {id} was invented");
        }
        let epoch = log.epoch().0;
        assert!(epoch <= self.epoch);
        self.epoch = epoch;
        self.acked = log.durable().0;
    }

    /// Takes steps; whether to close cleanly afterwards.
    fn run(
        &mut self,
        store: &Store,
        log: &LogHandle,
        dice: &Dice,
        steps: u64,
    ) -> Result<bool, Stopped> {
        let mut held: Vec<(Vec<bytes::Bytes>, Vec<ReadBack>)> = Vec::new();
        for _ in 0..steps {
            match dice.below(100) {
                0..=31 => self.append(store, log, dice)?,
                32..=39 => self.append_all(store, log, dice)?,
                40..=69 => drop(store.write_ready().map_err(|_| Stopped)?),
                70..=79 => maintained(store.maintain())?,
                80..=82 => self.move_log_start(log, dice),
                83..=84 => maintained(log.clean(NOW_MS, &[], LIMITS).map(|_| ()))?,
                85..=88 => self.expire(log, dice),
                89 => self.drop_queue(log, dice),
                90..=92 => maintained(log.recycle())?,
                93 => {
                    if log.start_epoch(LeaderEpoch(self.epoch + 1)).is_ok() {
                        self.epoch += 1;
                    }
                }
                94 => held.clear(),
                _ => held.extend(self.read(log, dice)),
            }
            self.acked = log.durable().0;
        }
        for (slices, read) in held {
            assert_eq!(parse_batches(&slices), read, "slices keep their bytes");
        }
        Ok(dice.below(2) == 0)
    }

    fn pick(&mut self, log: &LogHandle, dice: &Dice) -> u32 {
        let alive: Vec<u32> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.dropped.is_none())
            .map(|(id, _)| *id)
            .collect();
        if alive.len() < 3 || alive.len() < 6 && dice.below(20) == 0 {
            let id = self.next_queue;
            self.next_queue += 1;
            self.queues.insert(id, ModelQueue::default());
            log.open_queue(QueueId(id));
            return id;
        }
        alive[usize::try_from(dice.below(alive.len() as u64)).unwrap()]
    }

    /// A body that no other batch has, and how many records it pretends to be.
    fn body(&mut self, dice: &Dice) -> (i32, Vec<u8>) {
        let length = match dice.below(10) {
            0 => dice.below(11_000),
            1 | 2 => dice.below(5000),
            // Frames of 144 bytes, twice a control frame: ends meet the starts of stale ones.
            3..=6 => 7,
            _ => dice.below(300),
        };
        let records = i32::try_from(1 + dice.below(5)).unwrap();
        self.next_body += 1;
        let mut body =
            self.next_body.to_be_bytes().repeat(usize::try_from(length / 4).unwrap() + 1);
        body.truncate(usize::try_from(length).unwrap() + 4);
        (records, body)
    }

    fn append(&mut self, store: &Store, log: &LogHandle, dice: &Dice) -> Result<(), Stopped> {
        let id = self.pick(log, dice);
        let (records, body) = self.body(dice);
        let (bytes, header) =
            batch_at(records, &body, NOW_MS + i64::try_from(dice.below(1000)).unwrap());
        let class = if dice.below(5) == 0 { Class::System } else { Class::Data };
        let append = || log.append(QueueId(id), LeaderEpoch(self.epoch), class, &bytes, &header);
        let Some(appended) = tried(store, append)? else { panic!("a batch fits a segment") };
        self.note(id, records, body, appended, None);
        Ok(())
    }

    fn append_all(&mut self, store: &Store, log: &LogHandle, dice: &Dice) -> Result<(), Stopped> {
        let mut parts = Vec::new();
        for _ in 0..=dice.below(4) {
            let (id, (records, body)) = (self.pick(log, dice), self.body(dice));
            parts.push((id, records, batch_at(records, &body, NOW_MS), body));
        }
        let epoch = LeaderEpoch(self.epoch);
        let append = || {
            let parts: Vec<Part<'_>> = parts
                .iter()
                .map(|(id, _, (batch, header), _)| Part { queue: QueueId(*id), batch, header })
                .collect();
            log.append_all(NOW_MS, epoch, Class::Data, &parts)
        };
        let before = log.appended();
        let Some(appended) = tried(store, append)? else {
            assert_eq!(log.appended(), before, "what is too large leaves nothing");
            return Ok(());
        };
        self.next_group += 1;
        for ((id, records, _, body), appended) in parts.into_iter().zip(appended) {
            assert_eq!(appended.end, log.appended());
            self.note(id, records, body, appended, Some(self.next_group));
        }
        Ok(())
    }

    fn note(
        &mut self,
        id: u32,
        records: i32,
        body: Vec<u8>,
        appended: Appended,
        group: Option<u64>,
    ) {
        let queue = self.queues.get_mut(&id).unwrap();
        assert_eq!(appended.base_offset, Offset(queue.next()));
        assert_eq!(appended.log_start, Offset(queue.log_start()));
        let (base, end) = (queue.next(), appended.end.0);
        queue.batches.push(Batch { base, records, body, end, group });
    }

    fn read(&mut self, log: &LogHandle, dice: &Dice) -> Option<(Vec<bytes::Bytes>, Vec<ReadBack>)> {
        let id = self.pick(log, dice);
        let queue = &self.queues[&id];
        let expected = queue.readable(queue.log_start(), log.durable().0);
        assert_eq!(read_all(log, id).unwrap(), expected, "queue {id}");
        let first = expected.first()?;
        let read = log.locate(QueueId(id), spec(first.base_offset.max(queue.log_start()))).unwrap();
        let slices = read.load().unwrap().slices;
        let batches = parse_batches(&slices);
        Some((slices, batches))
    }

    fn move_log_start(&mut self, log: &LogHandle, dice: &Dice) {
        let id = self.pick(log, dice);
        let high_watermark = log.offsets(QueueId(id)).unwrap().high_watermark.0;
        let queue = self.queues.get_mut(&id).unwrap();
        let room = u64::try_from(high_watermark - queue.log_start()).unwrap();
        let to = queue.log_start() + i64::try_from(dice.below(room + 1)).unwrap();
        match log.set_log_start(QueueId(id), Offset(to)) {
            Ok(end) if to > queue.log_start() => queue.log_starts.push((to, end.0)),
            Ok(_) | Err(LogStartError::Append(_)) => {}
            Err(LogStartError::Read(error)) => panic!("{error}"),
        }
    }

    fn expire(&mut self, log: &LogHandle, dice: &Dice) {
        let id = self.pick(log, dice);
        let kept = dice.below(20_000);
        let retention = Retention { size_bytes: Some(kept), age_ms: None };
        let queue = self.queues.get_mut(&id).unwrap();
        let live: Vec<(i64, u64)> = queue
            .batches
            .iter()
            .filter(|batch| batch.next() > queue.log_start())
            .map(|batch| (batch.next(), batch.body.len() as u64 + 61))
            .collect();
        let readable = queue.readable(queue.log_start(), log.durable().0).len();
        let mut surplus = live.iter().map(|(_, length)| length).sum::<u64>().saturating_sub(kept);
        let mut expected = queue.log_start();
        for (next, length) in live.iter().take(readable).take_while(|(_, length)| {
            let goes = *length <= surplus;
            surplus = surplus.saturating_sub(*length);
            goes
        }) {
            assert!(*length > 0);
            expected = *next;
        }
        match log.expire(QueueId(id), NOW_MS, retention) {
            Ok(start) => {
                assert_eq!(start, Offset(expected), "queue {id}");
                if expected > queue.log_start() {
                    queue.log_starts.push((expected, log.appended().0));
                }
            }
            Err(LogStartError::Append(_)) => {}
            Err(LogStartError::Read(error)) => panic!("{error}"),
        }
    }

    fn drop_queue(&mut self, log: &LogHandle, dice: &Dice) {
        let id = self.pick(log, dice);
        if let Ok(end) = log.drop_queue(QueueId(id)) {
            self.queues.get_mut(&id).unwrap().dropped = Some(end.0);
        }
    }
}

/// Appends, after making room if there is none; nothing if it fits no segment.
fn tried<T>(
    store: &Store,
    append: impl Fn() -> Result<T, AppendError>,
) -> Result<Option<T>, Stopped> {
    let mut appended = append();
    if matches!(appended, Err(AppendError::SegmentNotReady)) {
        maintained(store.maintain())?;
        appended = append();
    }
    match appended {
        Ok(appended) => Ok(Some(appended)),
        Err(AppendError::TooLarge { .. }) => Ok(None),
        Err(AppendError::Failed(_)) => Err(Stopped),
        Err(error) => panic!("{error}"),
    }
}

/// Finds groups of which a part was lost.
#[derive(Default)]
struct Halved {
    kept: HashSet<u64>,
    lost: HashSet<u64>,
}

impl Halved {
    fn see(&mut self, kept: &mut [Batch], lost: &[Batch]) {
        self.kept.extend(kept.iter_mut().filter_map(|batch| batch.group.take()));
        self.lost.extend(lost.iter().filter_map(|batch| batch.group));
    }

    fn check(&self) {
        let halved: Vec<_> = self.kept.intersection(&self.lost).collect();
        assert!(halved.is_empty(), "of groups {halved:?} only a part was kept");
    }
}

fn maintained(result: Result<(), MaintainError>) -> Result<(), Stopped> {
    match result {
        Ok(()) => Ok(()),
        Err(MaintainError::Failed(_)) => Err(Stopped),
        Err(MaintainError::Io(failure)) => panic!("{failure}"),
    }
}
