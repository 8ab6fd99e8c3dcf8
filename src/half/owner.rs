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
use tokio::sync::{mpsc, oneshot};

use super::draft::{self, Answer, Draft, Item, Landed, Placement};
use super::event::{Ender, Event, Placed, Sent};
use super::expire::{self, Copies};
use super::id::TransactionId;
use super::load::{self, LoadError};
use super::payload;
use super::polls::{Handed, Poll, Polls};
use super::request::{Decision, End, EndError, HalfCounts, Outcome, SendError, Unavailable};
use super::table::{Blocked, CheckBlocked, DueCheck, HalfFilter, HalfPage, Pending, Rules, Table};
use super::targets::Targets;
use crate::config::HalfConfig;
use crate::env::Env;
use crate::model::{Offset, QueueId};
use crate::partition::Partitions;
use crate::partition::system::HALF;
use crate::store::{AppendError, Class, LogFailed, WaitDurable};

/// Messages taken in one pass, before what they decided is appended.
const PASS_MAX: usize = 256;
/// Bytes in one group; a single larger message has a group of its own.
const GROUP_SIZE_BYTES_MAX: usize = 512 * 1024;
/// Room that a pass waits for before it begins.
const PASS_ROOM_BYTES: usize = 2 * GROUP_SIZE_BYTES_MAX;
/// Longest sleep, after which the wall clock is looked at again: it may have jumped.
const LOOK_UP_MAX: Duration = Duration::from_secs(1);
/// How often the queue is shortened.
const SHORTEN_EVERY: Duration = Duration::from_secs(10);
/// How long to wait before the queue is read again when it could not be.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// Halves that expire in one round.
const ROUND_MAX: usize = 64;

type Reply<T> = oneshot::Sender<T>;

/// What the owner is told.
#[derive(Debug)]
pub(super) enum Told {
    Send {
        sent: Box<Sent>,
        batch: Bytes,
        /// Whoever asks has seen that the half found before is another.
        knows_better: bool,
        reply: Reply<Result<SendAnswer, SendError>>,
    },
    End {
        id: TransactionId,
        decision: Decision,
        by: Ender,
        group: Option<String>,
        /// What a commit appends, if it could be read.
        batch: Option<Bytes>,
        reply: Reply<Result<EndAnswer, EndError>>,
    },
    Poll {
        group: Arc<str>,
        poll: Poll,
    },
    Return {
        check: DueCheck,
        /// The half makes trouble: it is asked about again after the interval.
        postponed: bool,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    },
    CheckNow {
        id: TransactionId,
        reply: Reply<Result<(), CheckRefused>>,
    },
    List {
        filter: HalfFilter,
        from: Option<TransactionId>,
        max: usize,
        reply: Reply<Result<HalfPage, Unavailable>>,
    },
    Get {
        id: TransactionId,
        reply: Reply<Result<Result<Pending, Blocked>, Unavailable>>,
    },
    Count {
        reply: Reply<Result<HalfCounts, Unavailable>>,
    },
    Loaded(Result<Box<Table>, LoadError>),
    /// What a round of expiry has read.
    Copied(Copies),
    Stop {
        done: Reply<()>,
    },
}

/// The answer to who sends a half.
#[derive(Debug)]
pub(super) enum SendAnswer {
    Stored(TransactionId),
    /// The half at this offset seems to be of the same message.
    Before(Offset),
}

/// The answer to who wants to end a half.
#[derive(Debug)]
pub(super) enum EndAnswer {
    Now(End),
    /// The event at this offset ended it before.
    Before(Offset),
}

/// Why nothing was done about a check.
#[derive(Debug, Clone, Copy)]
pub(super) enum CheckRefused {
    Blocked(CheckBlocked),
    Unavailable(Unavailable),
}

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
    /// None while the queue is being read back.
    table: Option<Table>,
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
            }),
            Told::Copied(copies) => self.on_copied(copies),
        }
    }

    fn begin_load(&self, delay: Duration) {
        let (partitions, rules) = (self.partitions.clone(), self.rules());
        let (env, myself) = (self.env.clone(), self.myself.clone());
        let load = async move {
            tokio::time::sleep(delay).await;
            let read = env.spawner.blocking(move || load::load(&partitions, rules)).await;
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
        self.env.clock.wall_ms()
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
            let id = landed.map(|landed| TransactionId { half: landed.event, born_ms });
            let stored = id.map(SendAnswer::Stored);
            answer(reply, stored.map_err(|error| SendError::from(unavailable(&error))))
        };
        let events = vec![(Event::Sent(sent), Some(batch))];
        self.push(Item { events, batch: None, class: Class::Data, then: Box::new(then) });
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
        self.push(Item { events: vec![(event, None)], batch, class, then: Box::new(then) });
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

    fn on_poll(&mut self, group: &Arc<str>, poll: Poll) {
        // What is due is handed out at the end of the pass, with what else came in.
        match self.polls.push(group, poll) {
            Ok(()) => self.check_due_ms = i64::MIN,
            Err(poll) => {
                let _gone = poll.reply.send(Err(Unavailable::Overloaded));
            }
        }
    }

    /// Hands out the checks that are due to those who wait for them.
    fn serve_polls(&mut self) {
        let now_ms = self.now_ms();
        if self.check_due_ms <= now_ms {
            for group in self.polls.groups().cloned().collect::<Vec<_>>() {
                self.serve_group(now_ms, &group);
            }
            self.look_when_checks_are_due(now_ms);
        }
        while let Some(late) = self.polls.pop_late(self.env.clock.monotonic()) {
            let none = Handed::new(Vec::new(), self.myself.clone());
            let _gone = late.reply.send(Ok(none));
        }
    }

    fn serve_group(&mut self, now_ms: i64, group: &Arc<str>) {
        loop {
            let Some(table) = &self.table else { return };
            if table.due_checks(now_ms, group).next().is_none() {
                return;
            }
            let Some(Poll { max, reply, .. }) = self.polls.pop(group) else { return };
            let checks: Vec<_> = table.due_checks(now_ms, group).take(max).collect();
            let events = checks.iter().map(|check| (table.decide_check(now_ms, *check), None));
            let events = events.collect();
            let handed = Handed::new(checks, self.myself.clone());
            let then = move |landed: Result<Landed, AppendError>| match landed {
                Ok(_) => answer(reply, Ok(handed)),
                Err(error) => {
                    // They were not counted, so there is nothing to give back.
                    handed.delivered();
                    answer(reply, Err(unavailable(&error)))
                }
            };
            self.push(Item { events, batch: None, class: Class::System, then: Box::new(then) });
            self.flush();
        }
    }

    fn look_when_checks_are_due(&mut self, now_ms: i64) {
        let due = self
            .table
            .as_ref()
            .map(|table| self.polls.groups().filter_map(|group| table.next_check_ms(group)).min());
        // What is due and was not handed out is about to expire: that is not waited for.
        let look_up_ms = i64::try_from(LOOK_UP_MAX.as_millis()).unwrap_or(i64::MAX);
        self.check_due_ms = match due.flatten() {
            Some(due_ms) if due_ms <= now_ms => now_ms.saturating_add(look_up_ms),
            due_ms => due_ms.unwrap_or(i64::MAX),
        };
    }

    fn on_return(
        &mut self,
        check: DueCheck,
        postponed: bool,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    ) {
        if self.draft.touches(check.id.half) {
            self.flush();
        }
        let (now_ms, rules) = (self.now_ms(), self.rules());
        let wait_ms = if postponed { rules.check_interval_ms } else { 0 };
        let Some(table) = &self.table else { return };
        let decided = table.decide_return(now_ms, check, now_ms.saturating_add(wait_ms));
        self.settle_check(decided, reply);
    }

    fn on_check_now(&mut self, id: TransactionId, reply: Reply<Result<(), CheckRefused>>) {
        if self.draft.touches(id.half) {
            self.flush();
        }
        let Some(table) = &self.table else { return };
        let decided = table.decide_check_now(self.now_ms(), id);
        self.settle_check(decided, Some(reply));
    }

    fn settle_check(
        &mut self,
        decided: Result<Event, CheckBlocked>,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    ) {
        let send = move |result| {
            if let Some(reply) = reply {
                let _gone = reply.send(result);
            }
        };
        match decided {
            Err(blocked) => self.answer_in_turn(Box::new(move |durable| {
                let refused = durable.map_err(CheckRefused::Unavailable);
                send(refused.and(Err(CheckRefused::Blocked(blocked))));
            })),
            Ok(event) => {
                let then = move |landed: Result<Landed, AppendError>| -> Answer {
                    let landed = landed.map(|_| ()).map_err(|error| unavailable(&error));
                    Box::new(move |durable: Result<(), Unavailable>| {
                        send(landed.and(durable).map_err(CheckRefused::Unavailable));
                    })
                };
                let events = vec![(event, None)];
                self.push(Item { events, batch: None, class: Class::System, then: Box::new(then) });
            }
        }
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

    fn answer_in_turn(&mut self, answer: Answer) {
        match self.in_flight.back_mut() {
            Some(last) => last.answers.push(answer),
            None => answer(Ok(())),
        }
    }

    fn push(&mut self, item: Item) {
        self.draft.push(item);
    }

    /// Appends what was decided and applies it.
    fn flush(&mut self) {
        let items = std::mem::take(&mut self.draft).items;
        self.nexts.clear();
        if items.is_empty() {
            return;
        }
        let now_ms = self.now_ms();
        match draft::append(&self.partitions, now_ms, &items) {
            Ok(placement) => self.landed(items, placement),
            Err(error) if items.len() == 1 || matches!(error, AppendError::Failed(_)) => {
                let mut error = Some(error);
                for item in items {
                    let error = error.take().unwrap_or(AppendError::Failed(LogFailed::Closed));
                    self.refused(item, error);
                }
            }
            // One that does not fit, or whose queue is gone, must not take the others down.
            Err(_) => items.into_iter().for_each(|item| self.append_alone(now_ms, item)),
        }
    }

    fn append_alone(&mut self, now_ms: i64, item: Item) {
        let mut items = vec![item];
        match draft::append(&self.partitions, now_ms, &items) {
            Ok(placement) => self.landed(items, placement),
            Err(error) => {
                if let Some(item) = items.pop() {
                    self.refused(item, error);
                }
            }
        }
    }

    fn refused(&mut self, item: Item, error: AppendError) {
        // What only found no room is tried again in the next round, before which room is awaited.
        if let (Some((Event::Expired { half, .. }, _)), AppendError::SegmentNotReady) =
            (item.events.first(), &error)
        {
            self.postponed.remove(half);
        }
        self.answer_in_turn((item.then)(Err(error)));
    }

    fn landed(&mut self, items: Vec<Item>, placement: Placement) {
        let Some(table) = &mut self.table else {
            unreachable!("nothing is decided before the table is there")
        };
        let mut offsets = placement.events.into_iter();
        let mut answers = Vec::with_capacity(items.len());
        for (item, batch) in items.into_iter().zip(placement.batches) {
            let mut first = None;
            for ((event, _), at) in item.events.iter().zip(&mut offsets) {
                table.apply(at, event);
                first = first.or(Some(at));
                if let Event::Sent(sent) = event
                    && self.polls.is_waiting(&sent.group)
                {
                    let due = table.next_check_ms(&sent.group).unwrap_or(i64::MAX);
                    self.check_due_ms = self.check_due_ms.min(due);
                }
                if matches!(event, Event::CheckReturned { .. } | Event::CheckAsked { .. }) {
                    self.check_due_ms = i64::MIN;
                }
            }
            let Some(event) = first else { unreachable!("every decision is an event") };
            answers.push((item.then)(Ok(Landed { event, batch })));
        }
        let durable = self.partitions.wait_durable(placement.end);
        self.in_flight.push_back(InFlight { durable, answers });
    }

    fn on_durable(&mut self, durable: &Result<(), LogFailed>) {
        let Some(group) = self.in_flight.pop_front() else { return };
        let durable = match durable {
            Ok(()) => Ok(()),
            Err(LogFailed::Io(_)) => Err(Unavailable::LogFailed),
            Err(LogFailed::Closed) => Err(Unavailable::Stopping),
        };
        group.answers.into_iter().for_each(|answer| answer(durable));
    }

    /// Begins to move to the discard topic what nobody decided, unless that is being done.
    fn begin_expiry(&mut self) {
        let now = self.env.clock.monotonic();
        let Some(table) = &self.table else { return };
        if self.is_expiring || now < self.expire_from {
            return;
        }
        let now_ms = self.env.clock.wall_ms();
        if table.next_expiry_ms().is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.postponed.retain(|_, until| *until > now);
        let over = table.expired(now_ms).filter(|id| !self.postponed.contains_key(&id.half));
        let over = over.filter_map(|id| Some((id, table.expiry_of(now_ms, id)?)));
        let round: Vec<_> = over.take(ROUND_MAX).collect();
        if round.is_empty() {
            self.expire_from = now + LOOK_UP_MAX;
            return;
        }
        self.is_expiring = true;
        let (partitions, targets) = (self.partitions.clone(), Arc::clone(&self.targets));
        let (myself, clock) = (self.myself.clone(), Arc::clone(&self.env.clock));
        let copy = async move {
            let copies = expire::copy(&partitions, &*targets, &*clock, round).await;
            if let Some(myself) = myself.upgrade() {
                let _ended = myself.send(Told::Copied(copies)).await;
            }
        };
        drop(self.env.spawner.critical("half message expiry", copy));
    }

    fn on_copied(&mut self, copies: Copies) {
        self.is_expiring = false;
        let until = self.env.clock.monotonic() + self.config.check_interval;
        let Some(queue) = copies.discard else {
            tracing::error!("the discard topic of half messages cannot be had; they wait");
            self.expire_from = until;
            return;
        };
        for (id, copy) in copies.copies {
            if self.draft.touches(id.half) {
                self.flush();
            }
            let Some(table) = &self.table else { return };
            // Somebody decided in the meantime.
            let Some(event) = table.decide_expiry(self.now_ms(), id) else { continue };
            // Without a copy, or if that is refused, it is tried again after the interval.
            self.postponed.insert(id.half, until);
            let copy = copy.and_then(|copy| Some((payload::header_of(&copy).ok()?, copy)));
            let Some((header, copy)) = copy else { continue };
            let then = move |landed: Result<Landed, AppendError>| -> Answer {
                if let Err(error) = landed {
                    tracing::error!(transaction_id = %id, %error, "a half message cannot expire");
                }
                Box::new(|_| ())
            };
            let batch = Some((queue, copy, header));
            let events = vec![(event, None)];
            self.push(Item { events, batch, class: Class::Data, then: Box::new(then) });
            if self.draft.size_bytes() >= GROUP_SIZE_BYTES_MAX {
                self.flush();
            }
        }
    }

    /// Lets the queue begin where it is still needed.
    fn shorten(&mut self) {
        let now = self.env.clock.monotonic();
        let Some(table) = &mut self.table else { return };
        if now < self.shorten_at {
            return;
        }
        self.shorten_at = now + SHORTEN_EVERY;
        let offsets = self.partitions.offsets(HALF);
        let needed = table.needed_from(self.env.clock.wall_ms()).min(offsets.high_watermark);
        if needed <= offsets.log_start {
            return;
        }
        match self.partitions.release(HALF, needed) {
            Ok(_) => table.released(needed),
            // The old records stay, which costs only space.
            Err(error) => tracing::warn!(%error, "half messages could not be let go"),
        }
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

/// Sends `result` when what it rests on is durable.
fn answer<T, E>(reply: Reply<Result<T, E>>, result: Result<T, E>) -> Answer
where
    T: Send + 'static,
    E: From<Unavailable> + Send + 'static,
{
    Box::new(move |durable| {
        let _gone = reply.send(durable.map_err(E::from).and(result));
    })
}

fn end_error(error: &AppendError) -> EndError {
    match error {
        AppendError::UnknownQueue(_) => EndError::TargetGone,
        AppendError::Fenced { .. }
        | AppendError::NotTheBatch { .. }
        | AppendError::TooLarge { .. }
        | AppendError::Rejected(_)
        | AppendError::DiskFull
        | AppendError::SegmentNotReady
        | AppendError::NoMemory
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => unavailable(error).into(),
    }
}

fn unavailable(error: &AppendError) -> Unavailable {
    match error {
        AppendError::DiskFull => Unavailable::DiskFull,
        AppendError::SegmentNotReady | AppendError::NoMemory => Unavailable::NotReady,
        AppendError::TooLarge { .. } => Unavailable::TooLarge,
        AppendError::UnknownQueue(_)
        | AppendError::Fenced { .. }
        | AppendError::NotTheBatch { .. }
        | AppendError::Rejected(_)
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => Unavailable::LogFailed,
    }
}

fn refuse(told: Told, why: Unavailable) {
    fn no<T, E: From<Unavailable>>(reply: Reply<Result<T, E>>, why: Unavailable) {
        let _gone = reply.send(Err(E::from(why)));
    }
    match told {
        Told::Send { reply, .. } => no(reply, why),
        Told::End { reply, .. } => no(reply, why),
        Told::Poll { poll, .. } => no(poll.reply, why),
        Told::Return { reply, .. } => {
            if let Some(reply) = reply {
                no(reply, why);
            }
        }
        Told::CheckNow { reply, .. } => no(reply, why),
        Told::List { reply, .. } => no(reply, why),
        Told::Get { reply, .. } => no(reply, why),
        Told::Count { reply } => no(reply, why),
        // Those come from the owner itself.
        Told::Loaded(_) | Told::Copied(_) | Told::Stop { .. } => {}
    }
}

impl From<Unavailable> for CheckRefused {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

/// Resolves when the oldest group is durable; never, if there is none.
async fn oldest(in_flight: &mut VecDeque<InFlight>) -> Result<(), LogFailed> {
    match in_flight.front_mut() {
        Some(oldest) => (&mut oldest.durable).await,
        None => std::future::pending().await,
    }
}
