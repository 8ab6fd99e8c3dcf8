//! The task that owns the table of half messages.
//!
//! It takes what lies in its inbox, decides, appends what was decided as one group, applies it, and
//! lets the answers go when the group is durable. Between a decision and its `apply` it never
//! awaits, and about one half it decides once per group; so of two that race, the second sees what
//! the first did. It reads nothing from the disk but the queue itself at the start.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use braid_protocol::records::BatchHeader;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::draft::{Answer, Draft, Item, Landed};
use super::event::{Ender, Event, Placed, Sent};
use super::id::TransactionId;
use super::load::{self, LoadError};
use super::payload;
use super::polls::Polls;
use super::request::{
    Decision, End, EndError, HalfCounts, HalfTotals, Outcome, SendError, Unavailable,
};
use super::table::{Blocked, Rules, Table};
use super::targets::Targets;
use crate::config::HalfConfig;
use crate::env::Env;
use crate::model::{Offset, QueueId};
use crate::partition::Partitions;
use crate::store::{AppendError, Class, LogFailed, WaitDurable};

mod append;
mod checks;
mod expiry;
mod told;

pub(super) use told::{CheckRefused, EndAnswer, SendAnswer, Told};
use told::{Reply, answer, end_error, refuse, unavailable};

/// Messages taken in one pass, before what they decided is appended.
const PASS_MAX: usize = 256;
/// Bytes in one group; a single larger message has a group of its own.
const GROUP_SIZE_BYTES_MAX: usize = 512 * 1024;
/// Room that a pass waits for before it begins.
const PASS_ROOM_BYTES: usize = 2 * GROUP_SIZE_BYTES_MAX;
/// Longest sleep, after which the wall clock is looked at again: it may have jumped.
const LOOK_UP_MAX: Duration = Duration::from_secs(1);
/// How long to wait before the queue is read again when it could not be.
const LOAD_RETRY: Duration = Duration::from_secs(1);

/// A group that is appended but not durable yet, and who waits for it.
struct InFlight {
    durable: WaitDurable,
    answers: Vec<Answer>,
}

pub(super) struct Owner {
    env: Env,
    config: HalfConfig,
    partitions: Partitions,
    targets: Arc<dyn Targets>,
    /// To be given to what runs beside; weak, so that the task ends when all handles are gone.
    myself: mpsc::WeakSender<Told>,
    inbox: mpsc::Receiver<Told>,
    /// None while the events are being read back.
    table: Option<Table>,
    /// The wall clock, looked at once in a pass.
    now_ms: i64,
    draft: Draft,
    /// Next offsets of the queues that the draft appends to.
    nexts: HashMap<QueueId, i64>,
    /// In the order of the appends, which is the order of the answers.
    in_flight: VecDeque<InFlight>,
    polls: Polls,
    /// When a poll that waits may have something to be told, by the wall clock.
    check_due_ms: i64,
    is_expiring: bool,
    /// Halves that could not expire, and until when they are left alone.
    postponed: BTreeMap<Offset, Duration>,
    ended: HalfTotals,
    expire_from: Duration,
    shorten_at: Duration,
}

impl Owner {
    pub(super) fn new(
        env: Env,
        config: HalfConfig,
        partitions: Partitions,
        targets: Arc<dyn Targets>,
        myself: mpsc::WeakSender<Told>,
        inbox: mpsc::Receiver<Told>,
    ) -> Self {
        Self {
            now_ms: env.clock.wall_ms(),
            env,
            config,
            partitions,
            targets,
            myself,
            inbox,
            table: None,
            draft: Draft::default(),
            nexts: HashMap::new(),
            in_flight: VecDeque::new(),
            polls: Polls::default(),
            check_due_ms: i64::MAX,
            is_expiring: false,
            postponed: BTreeMap::new(),
            ended: HalfTotals::default(),
            expire_from: Duration::ZERO,
            shorten_at: Duration::ZERO,
        }
    }

    pub(super) async fn run(mut self) {
        self.begin_load(Duration::ZERO);
        loop {
            let wait = self.until_something_is_due();
            let told = tokio::select! {
                biased;
                durable = oldest(&mut self.in_flight) => {
                    self.on_durable(&durable);
                    None
                }
                told = self.inbox.recv() => match told {
                    None => return,
                    told => told,
                },
                () = tokio::time::sleep(wait) => None,
            };
            if !self.partitions.has_room(PASS_ROOM_BYTES) {
                self.partitions.room(PASS_ROOM_BYTES).await;
            }
            if let Some(done) = self.pass(told) {
                self.stop().await;
                let _gone = done.send(());
                return;
            }
        }
    }

    /// Takes what is there without waiting, and what time has brought. Returns early with a stop.
    fn pass(&mut self, first: Option<Told>) -> Option<Reply<()>> {
        self.look_at_clocks();
        let mut told = first;
        let mut taken = 0;
        while let Some(message) = told.take() {
            if let Told::Stop { done } = message {
                return Some(done);
            }
            self.on_told(message);
            taken += 1;
            if taken == PASS_MAX || self.draft.size_bytes() >= GROUP_SIZE_BYTES_MAX {
                break;
            }
            told = self.inbox.try_recv().ok();
        }
        self.flush();
        self.serve_polls();
        self.begin_expiry();
        self.shorten();
        None
    }

    fn on_told(&mut self, told: Told) {
        let ended = self.ended;
        match told {
            Told::Loaded(loaded) => self.on_loaded(loaded),
            Told::Stop { .. } => unreachable!("the caller takes it out"),
            told if self.table.is_none() => refuse(told, Unavailable::Loading),
            Told::Send { sent, batch, knows_better, reply } => {
                self.on_send(*sent, batch, knows_better, reply);
            }
            Told::End { id, decision, by, group, batch, reply } => {
                self.on_end((id, decision, by), group.as_deref(), batch, reply);
            }
            Told::Poll { group, poll } => self.on_poll(&group, poll),
            Told::Return { check, postponed, reply } => self.on_return(check, postponed, reply),
            Told::CheckNow { id, reply } => self.on_check_now(id, reply),
            Told::List { filter, from, max, reply } => {
                self.tell(reply, |table| table.list(&filter, from, max));
            }
            Told::Get { id, reply } => self.tell(reply, |table| table.find(id)),
            Told::Count { reply } => self.tell(reply, |table| HalfCounts {
                pending: table.pending_count(),
                oldest_born_ms: table.oldest_born_ms(),
                groups: table.groups(),
                ended,
            }),
            Told::Copied(copies) => self.on_copied(copies),
        }
    }

    fn begin_load(&self, delay: Duration) {
        let (partitions, rules) = (self.partitions.clone(), self.rules());
        let (env, myself) = (self.env.clone(), self.myself.clone());
        let load = async move {
            tokio::time::sleep(delay).await;
            let clock = Arc::clone(&env.clock);
            let read = env.spawner.blocking(move || load::load(&partitions, rules, &*clock)).await;
            let loaded = read.unwrap_or_else(|error| Err(LoadError::Pool(error)));
            if let Some(myself) = myself.upgrade() {
                let _ended = myself.send(Told::Loaded(loaded.map(Box::new))).await;
            }
        };
        drop(self.env.spawner.critical("half message load", load));
    }

    fn on_loaded(&mut self, loaded: Result<Box<Table>, LoadError>) {
        match loaded {
            Ok(table) => {
                tracing::info!(pending = table.pending_count(), "half messages are back");
                self.table = Some(*table);
                self.look_at_clocks();
            }
            Err(error) => {
                tracing::error!(%error, "half messages cannot be read back yet");
                self.begin_load(LOAD_RETRY);
            }
        }
    }

    fn rules(&self) -> Rules {
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Rules {
            first_check_ms: ms(self.config.first_check),
            check_interval_ms: ms(self.config.check_interval),
            checks_max: self.config.checks_max,
            age_max_ms: ms(self.config.age_max),
        }
    }

    fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// One look for all that a pass decides: between two the wall clock may jump.
    fn look_at_clocks(&mut self) {
        self.now_ms = self.env.clock.wall_ms();
        let monotonic_ms = load::in_ms(self.env.clock.monotonic());
        let Some(table) = &mut self.table else { return };
        if let Some(jump_ms) = table.look_at_clocks(self.now_ms, monotonic_ms) {
            tracing::warn!(jump_ms, "the wall clock was set; half messages are as old as before");
            // When checks are due is another time of the wall clock now.
            self.check_due_ms = i64::MIN;
        }
    }

    fn on_send(
        &mut self,
        sent: Sent,
        batch: Bytes,
        knows_better: bool,
        reply: Reply<Result<SendAnswer, SendError>>,
    ) {
        if let Some(message) = sent.message_key().filter(|_| !knows_better) {
            if self.draft.sends(message) {
                self.flush();
            }
            let before = self.table.as_ref().and_then(|table| table.sent_before(message));
            if let Some(before) = before {
                return self.answer_in_turn(answer(reply, Ok(SendAnswer::Before(before))));
            }
        }
        let born_ms = sent.born_ms;
        let then = move |landed: Result<Landed, AppendError>| {
            let id = landed.map(|landed| TransactionId { half: landed.half, born_ms });
            let stored = id.map(SendAnswer::Stored);
            answer(reply, stored.map_err(|error| SendError::from(unavailable(&error))))
        };
        // Its number is the log's to give.
        let half = Offset::ZERO;
        self.push(Item {
            events: vec![Event::Sent { half, sent }],
            carried: Some(batch),
            batch: None,
            class: Class::Data,
            then: Box::new(then),
        });
    }

    fn on_end(
        &mut self,
        (id, decision, by): (TransactionId, Decision, Ender),
        group: Option<&str>,
        batch: Option<Bytes>,
        reply: Reply<Result<EndAnswer, EndError>>,
    ) {
        if self.draft.touches(id.half) {
            self.flush();
        }
        let decided = match decision {
            Decision::Commit => self.commit(id, by, group, batch),
            Decision::Rollback => self.roll_back(id, by, group),
        };
        let (event, batch, end) = match decided {
            Ok(decided) => decided,
            Err(refused) => {
                return self.answer_in_turn(Box::new(move |durable| {
                    let _gone = reply.send(durable.map_err(EndError::from).and(refused));
                }));
            }
        };
        // A rollback costs no space to speak of.
        let class = if batch.is_some() { Class::Data } else { Class::System };
        let then = move |landed: Result<Landed, AppendError>| {
            let end = landed.map(|landed| EndAnswer::Now(end.at(landed.batch)));
            answer(reply, end.map_err(|error| end_error(&error)))
        };
        let (events, carried) = (vec![event], None);
        self.push(Item { events, carried, batch, class, then: Box::new(then) });
    }

    fn commit(
        &mut self,
        id: TransactionId,
        by: Ender,
        group: Option<&str>,
        batch: Option<Bytes>,
    ) -> Result<Ending, Result<EndAnswer, EndError>> {
        let (now_ms, Some(table)) = (self.now_ms(), &self.table) else { return Err(loading()) };
        let (topic_id, partition) = table.target_of(id).map_err(blocked)?;
        let batch = batch.ok_or(Err(EndError::Unreadable))?;
        let target = self.targets.target(topic_id, partition).ok_or(Err(EndError::TargetGone))?;
        let batch = if target.log_append_time { payload::stamped(&batch, now_ms) } else { batch };
        let header = payload::header_of(&batch).map_err(|fault| Err(fault.into()))?;
        let queue = target.queue;
        let next = self.nexts.get(&queue).copied();
        let next = next.unwrap_or_else(|| self.partitions.offsets(queue).next.0);
        let placed = Placed { queue, from: Offset(next), crc: header.crc };
        let event = table.decide_commit(now_ms, id, group, by, placed).map_err(blocked)?;
        self.nexts.insert(queue, next + i64::from(header.last_offset_delta) + 1);
        let outcome = Outcome::Committed { by, topic_id, partition, offset: None };
        Ok((event, Some((queue, batch, header)), End { at_ms: now_ms, outcome }))
    }

    fn roll_back(
        &self,
        id: TransactionId,
        by: Ender,
        group: Option<&str>,
    ) -> Result<Ending, Result<EndAnswer, EndError>> {
        let (now_ms, Some(table)) = (self.now_ms(), &self.table) else { return Err(loading()) };
        let event = table.decide_rollback(now_ms, id, group, by).map_err(blocked)?;
        Ok((event, None, End { at_ms: now_ms, outcome: Outcome::RolledBack { by } }))
    }

    /// Answers what the table says now, when all it rests on is durable.
    fn tell<T: Send + 'static>(
        &mut self,
        reply: Reply<Result<T, Unavailable>>,
        look: impl FnOnce(&Table) -> T,
    ) {
        self.flush();
        let Some(table) = &self.table else { return };
        let found = look(table);
        self.answer_in_turn(answer(reply, Ok(found)));
    }

    fn until_something_is_due(&self) -> Duration {
        let (now, now_ms) = (self.env.clock.monotonic(), self.env.clock.wall_ms());
        let until_ms = |at_ms: i64| {
            let ms = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
            Duration::from_millis(ms)
        };
        let expiry = self.table.as_ref().and_then(Table::next_expiry_ms);
        let expiry = expiry
            .filter(|_| !self.is_expiring)
            .map(|at_ms| until_ms(at_ms).max(self.expire_from.saturating_sub(now)));
        let deadline = self.polls.next_deadline().map(|at| at.saturating_sub(now));
        let check = until_ms(self.check_due_ms);
        [expiry, deadline, Some(check)].into_iter().flatten().fold(LOOK_UP_MAX, Duration::min)
    }

    /// Waits for what is being written, then refuses everything that still waits.
    async fn stop(&mut self) {
        self.flush();
        while !self.in_flight.is_empty() {
            let durable = oldest(&mut self.in_flight).await;
            self.on_durable(&durable);
        }
    }
}

/// What a decision to end a half consists of: the event, what is appended, and what to answer.
type Ending = (Event, Option<(QueueId, Bytes, BatchHeader)>, End);

impl End {
    /// With the offset that the append gave.
    fn at(self, batch: Option<Offset>) -> Self {
        let outcome = match self.outcome {
            Outcome::Committed { by, topic_id, partition, offset: _ } => {
                Outcome::Committed { by, topic_id, partition, offset: batch }
            }
            outcome @ (Outcome::RolledBack { .. } | Outcome::Expired { .. }) => outcome,
        };
        Self { outcome, ..self }
    }
}

fn blocked(blocked: Blocked) -> Result<EndAnswer, EndError> {
    match blocked {
        Blocked::Unknown => Err(EndError::Unknown),
        Blocked::OtherGroup => Err(EndError::OtherGroup),
        Blocked::Ended(at) => Ok(EndAnswer::Before(at)),
    }
}

fn loading() -> Result<EndAnswer, EndError> {
    Err(Unavailable::Loading.into())
}

/// Resolves when the oldest group is durable; never, if there is none.
async fn oldest(in_flight: &mut VecDeque<InFlight>) -> Result<(), LogFailed> {
    match in_flight.front_mut() {
        Some(oldest) => (&mut oldest.durable).await,
        None => std::future::pending().await,
    }
}
