//! Two stores, one log: a leader's and a follower's, that crash, lose what was not synced, change
//! places and part. Whatever happens, the follower ends with the leader's bytes and what they mean.

use std::sync::atomic::{AtomicU64, Ordering};

use super::support::*;
use super::world::{Dice, random_config};
use crate::env::sim::SimFs;
use crate::model::{LeaderEpoch, Offset, Position, QueueId};
use crate::store::{
    AppendError, Class, FramesError, LogHandle, MaintainError, OpenError, Part, ReceiveError,
    Store, StoreConfig, TruncateError, check,
};

const SHARD: uuid::Uuid = uuid::Uuid::from_u128(0xface_0000_0000_0000_0000_0000_0000_0001);

/// A replica of the shard on a disk of its own.
struct Replica {
    fs: SimFs,
    config: StoreConfig,
    recorder: Recorder,
    store: Option<Store>,
}

/// The power went out.
#[derive(Debug)]
struct Off;

impl Replica {
    fn new(seed: u64, config: StoreConfig) -> Self {
        let config = StoreConfig { replica_of: Some(SHARD), ..config };
        Self { fs: SimFs::new(seed), config, recorder: Recorder::default(), store: None }
    }

    fn open(&mut self) -> Result<(), Off> {
        self.recorder = Recorder::default();
        let env = sim_env(&self.fs);
        match Store::open_inline(&env, self.config.clone(), Box::new(self.recorder.clone())) {
            Ok(store) => {
                assert_eq!(store.damage(), [], "a cut is no damage\n{}", self.fs.dump());
                self.store = Some(store);
                Ok(())
            }
            Err(OpenError::Io(_) | OpenError::Failed(_)) if self.fs.is_off() => Err(Off),
            Err(error) => panic!("{error}\n{}", self.fs.dump()),
        }
    }

    fn log(&self) -> LogHandle {
        self.store.as_ref().unwrap().handle()
    }

    /// Starts again after a kill, or after a power cut if there was one or one is wanted.
    fn start_again(&mut self, dice: &Dice) {
        drop(self.store.take());
        let cut = self.fs.is_off() || dice.below(2) == 0;
        self.fs = if cut { self.fs.reboot(dice.below(u64::MAX)) } else { self.fs.restart() };
        assert!(self.open().is_ok(), "nothing cuts the power here");
    }

    fn write(&self) -> Result<bool, Off> {
        self.store.as_ref().unwrap().write_ready().map_err(|_| self.off())
    }

    fn write_all(&self) -> Result<(), Off> {
        while self.write()? {}
        Ok(())
    }

    fn maintain(&self) -> Result<(), Off> {
        match self.store.as_ref().unwrap().maintain() {
            Ok(()) => Ok(()),
            Err(MaintainError::Failed(_)) => Err(self.off()),
            Err(MaintainError::Io(failure)) => panic!("{failure}"),
        }
    }

    fn off(&self) -> Off {
        assert!(self.fs.is_off(), "only the power stops a store here");
        Off
    }

    /// Takes everything from a position on out of the log.
    fn truncate(&mut self, to: Position) -> Result<(), Off> {
        match self.store.take().unwrap().truncate(to) {
            Ok(()) => {}
            Err(TruncateError::Io(_)) if self.fs.is_off() => return Err(Off),
            Err(error) => panic!("{error}"),
        }
        self.open()?;
        assert!(self.log().tail().1 <= to, "what was cut is back");
        Ok(())
    }
}

fn epochs(log: &LogHandle) -> Vec<(LeaderEpoch, Position)> {
    log.epochs()
}

/// Where a follower's log has to be cut, if it is no beginning of the leader's; as
/// `replication::LogView` says it, in one go.
fn parting(leader: &LogHandle, follower: &LogHandle) -> Option<Position> {
    let (mine, theirs) = (epochs(follower), epochs(leader));
    let end_in = |list: &[(LeaderEpoch, Position)], at: usize, end: Position| {
        list.get(at + 1).map_or(end, |(_, start)| *start)
    };
    let (my_end, their_end) = (follower.tail().1, leader.tail().1);
    for (at, (epoch, start)) in mine.iter().enumerate().rev() {
        let Some(there) = theirs.iter().position(|(known, _)| known == epoch) else { continue };
        assert_eq!(theirs[there].1, *start, "an epoch began in one place");
        let end = end_in(&mine, at, my_end).min(end_in(&theirs, there, their_end));
        return (end < my_end).then_some(end);
    }
    panic!("both begin with the same epoch");
}

struct Pair {
    leader: Replica,
    follower: Replica,
    epoch: i32,
    bodies: u32,
}

impl Pair {
    fn new(seed: u64, dice: &Dice) -> Self {
        let config = random_config(dice);
        let other =
            StoreConfig { segment_size_bytes: config.segment_size_bytes, ..random_config(dice) };
        let mut pair = Self {
            leader: Replica::new(seed, config),
            follower: Replica::new(seed + 1, other),
            epoch: 0,
            bodies: 0,
        };
        assert!(pair.leader.open().is_ok());
        pair.lead();
        pair
    }

    fn lead(&mut self) {
        self.epoch += 1;
        let log = self.leader.log();
        let lead = || log.lead(LeaderEpoch(self.epoch));
        if matches!(lead(), Err(AppendError::SegmentNotReady)) {
            assert!(self.leader.maintain().is_ok());
            lead().unwrap();
        }
        for queue in 0..4 {
            log.open_queue(QueueId(queue));
        }
    }

    fn append(&mut self, dice: &Dice) {
        let log = self.leader.log();
        let mut parts = Vec::new();
        for _ in 0..=dice.below(3) {
            self.bodies += 1;
            let mut body = self.bodies.to_be_bytes().to_vec();
            body.resize(4 + usize::try_from(dice.below(1500)).unwrap(), 7);
            let records = 1 + i32::try_from(dice.below(3)).unwrap();
            parts.push((u32::try_from(dice.below(4)).unwrap(), batch_at(records, &body, NOW_MS)));
        }
        let append = || {
            let parts: Vec<Part<'_>> = parts
                .iter()
                .map(|(id, (batch, header))| Part { queue: QueueId(*id), batch, header })
                .collect();
            log.append_all(NOW_MS, LeaderEpoch(self.epoch), Class::Data, &parts)
        };
        match append() {
            Ok(_) | Err(AppendError::TooLarge { .. }) => {}
            Err(AppendError::SegmentNotReady) => {
                assert!(self.leader.maintain().is_ok());
                append().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// One answer of the leader, taken by the follower; whether there was anything.
    fn fetch(&mut self, dice: &Dice) -> Result<bool, Off> {
        let (leader, follower) = (self.leader.log(), self.follower.log());
        if let Some(to) = parting(&leader, &follower) {
            self.follower.truncate(to)?;
            assert_eq!(parting(&leader, &self.follower.log()), None);
            return Ok(true);
        }
        let size = usize::try_from(dice.below(20_000)).unwrap();
        let frames = match leader.read_frames(follower.tail().1, size) {
            Ok(frames) => frames,
            Err(FramesError::Gone { .. }) => panic!("everything is there"),
            Err(error) => panic!("{error}"),
        };
        if frames.bytes.is_empty() {
            return Ok(false);
        }
        let epoch = LeaderEpoch(self.epoch);
        match follower.receive(epoch, frames.at, &frames.bytes) {
            Ok(end) => assert!(end <= follower.tail().1),
            Err(ReceiveError::Append(AppendError::SegmentNotReady)) => self.follower.maintain()?,
            Err(ReceiveError::Append(AppendError::Failed(_))) => return Err(self.follower.off()),
            Err(error) => panic!("{error}"),
        }
        Ok(true)
    }

    /// What both have on disk is committed, if their logs are one.
    fn commit(&self) {
        let (leader, follower) = (self.leader.log(), self.follower.log());
        if parting(&leader, &follower).is_none() {
            let both = leader.durable().min(follower.durable());
            leader.commit(both);
            follower.commit(both);
        }
    }

    fn step(&mut self, dice: &Dice) -> Result<(), Off> {
        match dice.below(20) {
            0..6 => self.append(dice),
            6..11 => drop(self.fetch(dice)?),
            11..13 => drop(self.leader.write()),
            13..15 => drop(self.follower.write()?),
            15 => self.commit(),
            16 => self.follower.maintain()?,
            17 => assert!(self.leader.maintain().is_ok()),
            18 if dice.below(4) == 0 => self.follower.start_again(dice),
            19 if dice.below(4) == 0 => {
                // It lost what it had not synced, and the follower may have some of that.
                self.leader.start_again(dice);
                self.lead();
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the follower have everything, and compares.
    fn settle(&mut self, dice: &Dice) {
        assert!(self.leader.write_all().is_ok());
        while self.fetch(dice).unwrap() {
            assert!(self.follower.write_all().is_ok());
        }
        assert!(self.follower.write_all().is_ok());
        self.commit();
        self.compare();
        // What was written on its own disk amounts to the same.
        assert!(self.follower.maintain().is_ok());
        self.follower.start_again(dice);
        self.commit();
        self.compare();
        for replica in [&mut self.leader, &mut self.follower] {
            drop(replica.store.take());
            assert_eq!(replica.fs.violations(), Vec::<String>::new());
            let report = check(&sim_env(&replica.fs), &sim_dir()).unwrap();
            assert_eq!(report.findings, [], "{}", replica.fs.dump());
        }
    }

    fn compare(&self) {
        let (leader, follower) = (self.leader.log(), self.follower.log());
        assert_eq!(leader.tail(), follower.tail());
        assert_eq!(leader.epochs(), follower.epochs());
        assert_eq!(bytes_of(&leader), bytes_of(&follower));
        for queue in 0..4 {
            let id = QueueId(queue);
            let (here, there) = (leader.offsets(id).unwrap(), follower.open_queue(id));
            assert_eq!(here, there, "queue {queue}");
            assert_eq!(here.high_watermark, here.next, "all of it is committed");
            assert_eq!(read_all(&leader, queue).unwrap(), read_all(&follower, queue).unwrap());
            let first = here.log_start;
            let entries = |log: &LogHandle| log.entry_at_time(id, NOW_MS).unwrap();
            assert_eq!(entries(&leader), entries(&follower), "from {first}");
        }
        let sorted = |recorder: &Recorder| {
            let mut batches = recorder.seen().batches.clone();
            batches.sort_unstable();
            batches
        };
        assert_eq!(sorted(&self.leader.recorder), sorted(&self.follower.recorder));
    }
}

/// All of a log, from its beginning on.
fn bytes_of(log: &LogHandle) -> Vec<(Position, Vec<u8>)> {
    let mut all = Vec::new();
    let mut at = Position(0);
    loop {
        let frames = log.read_frames(at, 1).unwrap();
        if frames.bytes.is_empty() {
            return all;
        }
        at = frames.at.plus(frames.bytes.len() as u64);
        all.push((frames.at, frames.bytes));
    }
}

/// A life of both, in which the follower's power is cut at one operation; how many it had.
fn live(seed: u64, cut: Option<u64>) -> u64 {
    let dice = Dice::of(seed);
    let mut pair = Pair::new(seed, &dice);
    if let Some(cut) = cut {
        pair.follower.fs.cut_at(cut);
    }
    let mut began = pair.follower.open();
    for _ in 0..120 {
        let stepped = match began {
            Ok(()) => pair.step(&dice),
            Err(Off) => Err(Off),
        };
        if stepped.is_err() {
            pair.follower.start_again(&dice);
        }
        began = Ok(());
    }
    let operations = pair.follower.fs.operations();
    pair.settle(&dice);
    operations
}

#[test]
fn a_follower_has_the_leaders_bytes_whatever_happens_to_either() {
    for seed in 0..60 {
        let lived = std::panic::catch_unwind(|| live(seed, None));
        assert!(lived.is_ok(), "live({seed}, None) failed");
    }
}

#[test]
fn a_follower_recovers_from_every_cut() {
    let cuts = AtomicU64::new(0);
    for seed in 100..106 {
        for cut in 1..=live(seed, None) {
            let lived = std::panic::catch_unwind(|| live(seed, Some(cut)));
            assert!(lived.is_ok(), "live({seed}, Some({cut})) failed");
            cuts.fetch_add(1, Ordering::Relaxed);
        }
    }
    assert!(cuts.into_inner() > 300);
}

fn replica() -> (Replica, LogHandle) {
    let mut replica = Replica::new(1, tiny(&sim_dir()));
    replica.open().unwrap();
    let log = replica.log();
    (replica, log)
}

#[test]
fn a_follower_takes_nothing_of_its_own_and_a_leader_nothing_of_others() {
    let (_leader, log) = replica();
    let (_follower, copy) = replica();
    log.open_queue(QueueId(0));
    let (batch, header) = batch_at(1, b"a", NOW_MS);
    let append = |log: &LogHandle, epoch| {
        log.append(QueueId(0), LeaderEpoch(epoch), Class::Data, &batch, &header)
    };
    for epoch in [0, 1] {
        assert!(matches!(append(&log, epoch), Err(AppendError::Fenced { .. })));
    }
    assert!(matches!(log.drop_queue(QueueId(0)), Err(AppendError::Fenced { .. })));
    log.lead(LeaderEpoch(1)).unwrap();
    assert!(matches!(log.lead(LeaderEpoch(1)), Err(AppendError::Fenced { .. })));
    assert!(matches!(append(&log, 0), Err(AppendError::Fenced { .. })));
    append(&log, 1).unwrap();
    let frames = log.read_frames(Position(0), 1 << 20).unwrap();
    let taken = log.receive(LeaderEpoch(1), frames.at, &frames.bytes);
    assert!(matches!(taken, Err(ReceiveError::NotFollowing)));
    let end = copy.receive(LeaderEpoch(1), frames.at, &frames.bytes).unwrap();
    assert_eq!(end, log.appended());
    // Sent once more it belongs elsewhere; of one broker alone nothing can follow.
    let again = copy.receive(LeaderEpoch(1), frames.at, &frames.bytes);
    assert!(matches!(again, Err(ReceiveError::Elsewhere { end: here }) if here == end));
    let alone = open_inline(&sim_env(&SimFs::new(3)), tiny(&sim_dir()));
    assert!(matches!(alone.handle().lead(LeaderEpoch(9)), Err(AppendError::Fenced { .. })));
    assert!(matches!(alone.truncate(Position(0)), Err(TruncateError::NotFollowing)));
}

#[test]
fn what_is_not_the_leaders_frames_is_refused_and_changes_nothing() {
    let (_leader, log) = replica();
    log.lead(LeaderEpoch(3)).unwrap();
    log.open_queue(QueueId(0));
    let parts = [batch_at(2, b"one", NOW_MS), batch_at(1, b"two", NOW_MS)];
    let parts: Vec<Part<'_>> =
        parts.iter().map(|(batch, header)| Part { queue: QueueId(0), batch, header }).collect();
    log.append_all(NOW_MS, LeaderEpoch(3), Class::Data, &parts).unwrap();
    let good = log.read_frames(Position(0), 1 << 20).unwrap().bytes;
    let (_follower, copy) = replica();
    for at in 0..good.len() {
        let mut bent = good.clone();
        bent[at] ^= 0x40;
        let taken = copy.receive(LeaderEpoch(3), Position(0), &bent);
        assert!(matches!(taken, Err(ReceiveError::Malformed { .. })), "byte {at}: {taken:?}");
    }
    for length in 1..good.len() {
        if length != 72 {
            let taken = copy.receive(LeaderEpoch(3), Position(0), &good[..length]);
            assert!(matches!(taken, Err(ReceiveError::Malformed { .. })), "{length} bytes");
        }
    }
    let older = copy.receive(LeaderEpoch(2), Position(0), &good);
    assert!(matches!(older, Err(ReceiveError::Malformed { .. })));
    assert_eq!(copy.tail(), (LeaderEpoch(0), Position(0)));
    copy.receive(LeaderEpoch(3), Position(0), &good).unwrap();
    assert_eq!(copy.tail(), log.tail());
}

#[test]
fn nothing_above_the_committed_mark_is_seen_by_anybody() {
    let (leader, log) = replica();
    log.lead(LeaderEpoch(1)).unwrap();
    log.open_queue(QueueId(0));
    let (batch, header) = batch_at(1, b"a", NOW_MS);
    let append = || log.append(QueueId(0), LeaderEpoch(1), Class::Data, &batch, &header).unwrap();
    let first = append();
    append();
    leader.write_all().unwrap();
    assert_eq!(log.durable(), log.appended());
    let seen = || log.offsets(QueueId(0)).unwrap().high_watermark;
    assert_eq!((seen(), read_all(&log, 0).unwrap().len()), (Offset(0), 0));
    assert!(log.set_log_start(QueueId(0), Offset(1)).is_err());
    log.commit(first.end);
    assert_eq!((seen(), read_all(&log, 0).unwrap().len()), (Offset(1), 1));
    log.commit(Position(0));
    assert_eq!(seen(), Offset(1), "the mark never goes back");
    drop(leader.store);
}

#[test]
fn a_log_is_opened_only_as_what_it_is() {
    let fs = SimFs::new(1);
    let env = sim_env(&fs);
    let config = |of| StoreConfig { replica_of: of, ..tiny(&sim_dir()) };
    let open = |of| Store::open_inline(&env, config(of), Box::new(Recorder::default()));
    let store = open(Some(SHARD)).unwrap();
    store.handle().lead(LeaderEpoch(1)).unwrap();
    write_all(&store);
    store.close().unwrap();
    let other = uuid::Uuid::from_u128(5);
    assert!(matches!(open(Some(other)), Err(OpenError::OtherLog { found: SHARD, .. })));
    assert!(matches!(open(None), Err(OpenError::Replicated { .. })));
    assert_eq!(open(Some(SHARD)).unwrap().handle().tail().0, LeaderEpoch(1));
}

#[test]
fn what_is_committed_is_not_cut() {
    let (leader, log) = replica();
    log.lead(LeaderEpoch(1)).unwrap();
    let (mut follower, copy) = replica();
    let frames = log.read_frames(Position(0), 1 << 20).unwrap();
    let end = copy.receive(LeaderEpoch(1), frames.at, &frames.bytes).unwrap();
    copy.commit(end);
    let cut = follower.store.take().unwrap().truncate(Position(0));
    assert!(matches!(cut, Err(TruncateError::BelowCommitted(at)) if at == end));
    drop(leader.store);
}
