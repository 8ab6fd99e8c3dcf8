//! The task that owns the groups of some partitions of `__consumer_offsets`.
//!
//! It feeds messages into the shards, packs the records that come out into one batch per partition
//! and pass, so that one synced write carries what arrived while the last one ran, and reports
//! writes back in the order they were appended. It never waits for the disk with work at hand, and
//! it decides nothing about groups: that is the shards' business.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::batch::BatchDraft;
use super::error::{GroupError, GroupLogError};
use super::log::{GroupLog, LoadError, PendingWrite};
use super::request::{ListFilter, ListedGroup};
use super::state::Shard;
use super::step::{Effect, Input, Now, Reply, Request, RequestId, Token};
use crate::config::GroupConfig;
use crate::env::Env;
use crate::model::TopicId;

mod growth;
mod loading;

use growth::Growth;
use loading::Loaded;

/// Messages taken in one pass, before what they made is written.
const PASS_MAX: usize = 4_096;
/// A batch that has grown to this size is not made larger.
const BATCH_SIZE_BYTES_MAX: usize = 512 * 1024;
/// What a worker is told.
#[derive(Debug)]
pub(super) enum Message {
    Request { partition: i32, request: Request, reply: oneshot::Sender<Reply> },
    List { filter: ListFilter, reply: oneshot::Sender<Result<Vec<ListedGroup>, GroupError>> },
    TopicDeleted { name: Arc<str>, topic_id: TopicId },
    Lead { partition: i32 },
    Resign { partition: i32 },
    Loaded { partition: i32, term: Term, loaded: Result<Box<Loaded>, LoadError> },
    Stop { done: oneshot::Sender<()> },
}

/// One time of leading a partition; writes and loads of an earlier one are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term(u64);

/// A partition this broker coordinates.
#[derive(Debug)]
enum Led {
    /// Being read back, or waiting for its turn.
    Loading {
        term: Term,
        /// Topics that went in the meantime.
        topics_deleted: Vec<(Arc<str>, TopicId)>,
    },
    Ready {
        term: Term,
        shard: Box<Shard>,
        growth: Growth,
    },
}

/// A batch that is appended but not durable yet.
struct InFlight {
    partition: i32,
    term: Term,
    tokens: Vec<Token>,
    write: PendingWrite,
}

/// The owner of some partitions' groups.
pub(super) struct Worker {
    env: Env,
    config: GroupConfig,
    log: Arc<dyn GroupLog>,
    /// To be given to loads; weak, so that the task ends when all handles are gone.
    myself: mpsc::WeakSender<Message>,
    inbox: mpsc::Receiver<Message>,
    led: BTreeMap<i32, Led>,
    /// Partitions still to be read back, one after the other.
    to_load: VecDeque<(i32, Term)>,
    is_loading: bool,
    next_term: u64,
    next_request: u64,
    waiting: HashMap<RequestId, oneshot::Sender<Reply>>,
    /// Records of this pass, per partition.
    drafts: BTreeMap<i32, BatchDraft>,
    /// In the order of the appends, which is the order of the reports.
    in_flight: VecDeque<InFlight>,
    effects: Vec<Effect>,
}

impl Worker {
    pub(super) fn new(
        env: Env,
        config: GroupConfig,
        log: Arc<dyn GroupLog>,
        myself: mpsc::WeakSender<Message>,
        inbox: mpsc::Receiver<Message>,
    ) -> Self {
        Self {
            env,
            config,
            log,
            myself,
            inbox,
            led: BTreeMap::new(),
            to_load: VecDeque::new(),
            is_loading: false,
            next_term: 0,
            next_request: 0,
            waiting: HashMap::new(),
            drafts: BTreeMap::new(),
            in_flight: VecDeque::new(),
            effects: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wait = self.until_next_deadline();
            tokio::select! {
                biased;
                result = oldest(&mut self.in_flight) => self.on_written(result),
                message = self.inbox.recv() => match message {
                    None => return,
                    Some(Message::Stop { done }) => {
                        self.stop().await;
                        let _gone = done.send(());
                        return;
                    }
                    Some(message) => self.on_message(message),
                },
                () = sleep(wait) => {}
            }
            if let Some(done) = self.take_what_is_there() {
                self.stop().await;
                let _gone = done.send(());
                return;
            }
            // Only after the inbox: heartbeats that lie there must not come too late because this
            // task, or the whole process, was held up.
            self.tick();
            self.append_drafts();
            self.restate_long_logs();
        }
    }

    /// Takes further messages without waiting. Returns early with a stop.
    fn take_what_is_there(&mut self) -> Option<oneshot::Sender<()>> {
        for _ in 0..PASS_MAX {
            match self.inbox.try_recv() {
                Ok(Message::Stop { done }) => return Some(done),
                Ok(message) => self.on_message(message),
                Err(_) => break,
            }
        }
        None
    }

    fn now(&self) -> Now {
        Now { monotonic: self.env.clock.monotonic(), wall_ms: self.env.clock.wall_ms() }
    }

    fn until_next_deadline(&self) -> Option<Duration> {
        let deadlines = self.led.values().filter_map(|led| match led {
            Led::Ready { shard, .. } => shard.next_deadline(),
            Led::Loading { .. } => None,
        });
        let next = deadlines.min()?;
        Some(next.saturating_sub(self.env.clock.monotonic()))
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Request { partition, request, reply } => {
                self.on_request(partition, request, reply);
            }
            Message::List { filter, reply } => {
                let _gone = reply.send(self.list(&filter));
            }
            Message::TopicDeleted { name, topic_id } => self.on_topic_deleted(&name, topic_id),
            Message::Lead { partition } => self.on_lead(partition),
            Message::Resign { partition } => self.on_resign(partition),
            Message::Loaded { partition, term, loaded } => {
                self.on_loaded(partition, term, loaded);
            }
            Message::Stop { .. } => unreachable!("the callers take it out"),
        }
    }

    fn on_request(&mut self, partition: i32, request: Request, reply: oneshot::Sender<Reply>) {
        let refused = match self.led.get(&partition) {
            None => Some(request.refused(GroupError::NotCoordinator)),
            Some(Led::Loading { .. }) => Some(request.loading()),
            Some(Led::Ready { .. }) => None,
        };
        if let Some(refused) = refused {
            let _gone = reply.send(refused);
            return;
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.waiting.insert(id, reply);
        self.step(partition, Input::Request(id, request));
    }

    fn list(&self, filter: &ListFilter) -> Result<Vec<ListedGroup>, GroupError> {
        let mut listed = Vec::new();
        for led in self.led.values() {
            match led {
                Led::Ready { shard, .. } => listed.extend(shard.list(filter)),
                Led::Loading { .. } => return Err(GroupError::CoordinatorLoadInProgress),
            }
        }
        Ok(listed)
    }

    fn on_topic_deleted(&mut self, name: &Arc<str>, topic_id: TopicId) {
        for partition in self.led.keys().copied().collect::<Vec<_>>() {
            if let Some(Led::Loading { topics_deleted, .. }) = self.led.get_mut(&partition) {
                topics_deleted.push((Arc::clone(name), topic_id));
            } else {
                self.step(partition, Input::TopicDeleted { name: Arc::clone(name), topic_id });
            }
        }
    }

    fn is_led_in(&self, partition: i32, term: Term) -> bool {
        self.led.get(&partition).is_some_and(|led| match led {
            Led::Loading { term: current, .. } | Led::Ready { term: current, .. } => {
                *current == term
            }
        })
    }

    fn on_resign(&mut self, partition: i32) {
        self.step(partition, Input::Resign);
        self.drafts.remove(&partition);
        self.led.remove(&partition);
    }

    fn tick(&mut self) {
        let now = self.env.clock.monotonic();
        let is_due = |led: &Led| match led {
            Led::Ready { shard, .. } => shard.next_deadline().is_some_and(|due| due <= now),
            Led::Loading { .. } => false,
        };
        let due: Vec<i32> =
            self.led.iter().filter(|(_, led)| is_due(led)).map(|(number, _)| *number).collect();
        for partition in due {
            self.step(partition, Input::Tick);
        }
    }

    /// Feeds a shard, if the partition has one, and carries out what it says.
    fn step(&mut self, partition: i32, input: Input) {
        let now = self.now();
        if let Some(Led::Ready { shard, .. }) = self.led.get_mut(&partition) {
            shard.step(now, input, &mut self.effects);
            self.carry_out(partition);
        }
    }

    fn carry_out(&mut self, partition: i32) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply(id, reply) => {
                    let Some(waiting) = self.waiting.remove(&id) else {
                        unreachable!("{id:?} was answered before")
                    };
                    // Whoever asked may have gone; the answer is then of no use to anybody.
                    let _gone = waiting.send(reply);
                }
                Effect::Append(token, records) => {
                    let wall_ms = self.env.clock.wall_ms();
                    let draft = self.drafts.entry(partition).or_insert_with(BatchDraft::new);
                    draft.add(wall_ms, token, &records);
                    if draft.size_bytes() >= BATCH_SIZE_BYTES_MAX {
                        self.append_draft(partition);
                    }
                }
                Effect::Restated { is_complete } => self.on_restated(partition, is_complete),
            }
        }
        self.effects = effects;
    }

    fn append_drafts(&mut self) {
        while let Some((partition, _)) = self.drafts.first_key_value() {
            self.append_draft(*partition);
        }
    }

    fn append_draft(&mut self, partition: i32) {
        let Some(draft) = self.drafts.remove(&partition) else { return };
        let Some(Led::Ready { term, growth, .. }) = self.led.get_mut(&partition) else { return };
        let term = *term;
        let (tokens, batch) = draft.finish();
        growth.size_bytes += batch.as_ref().map_or(0, Bytes::len);
        let appended = match batch {
            Some(batch) => self.log.append(partition, batch),
            None => Err(GroupLogError::TooLarge),
        };
        // A refusal is reported in its turn, too.
        let write = appended.unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
        self.in_flight.push_back(InFlight { partition, term, tokens, write });
    }

    fn on_written(&mut self, result: Result<(), GroupLogError>) {
        let Some(written) = self.in_flight.pop_front() else { return };
        if !self.is_led_in(written.partition, written.term) {
            // The partition was resigned; whoever waited was told so then.
            return;
        }
        for token in written.tokens {
            self.step(written.partition, Input::Written(token, result));
        }
    }

    /// Waits for what is being written, then refuses everything that still waits.
    async fn stop(&mut self) {
        self.append_drafts();
        while !self.in_flight.is_empty() {
            let result = oldest(&mut self.in_flight).await;
            self.on_written(result);
        }
        for partition in self.led.keys().copied().collect::<Vec<_>>() {
            self.on_resign(partition);
        }
    }
}

/// Resolves when the oldest write does; never, if there is none.
async fn oldest(in_flight: &mut VecDeque<InFlight>) -> Result<(), GroupLogError> {
    match in_flight.front_mut() {
        Some(oldest) => (&mut oldest.write).await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
