//! The task that owns the deliveries: who waits for messages, what is written, what is due.
//!
//! It takes what lies in its inbox, decides, appends, applies, and answers when the log is durable
//! up to what the answer rests on. It never reads records: tasks of their own do, and come back as
//! inputs. Times of leases are the wall clock's; waiting is counted by the monotonic one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::catalog::Catalog;
use super::decide::Verdict;
use super::error::{LeaseError, ReceiveError, Unavailable};
use super::event::{Change, Event, PartKey};
use super::look::{LookError, Looked};
use super::receipt::Receipt;
use super::request::{Delivered, DeliveryTotals, GroupSummary, Outcome, Progress, ReceiveRequest};
use super::table::Table;
use crate::env::Env;
use crate::model::{Position, QueueId, TopicId};
use crate::partition::{Partitions, system};
use crate::store::{AppendError, Class, LogFailed, Part, WaitDurable};

mod admin;
mod dying;
mod growth;
mod judging;
mod line;
mod loading;
mod serve;
mod shelf;

use dying::{Burial, Dying};
pub(super) use dying::{Letter, Place};
use growth::Growth;
use judging::Judging;
use line::{Line, LineKey};
use loading::Loaded;
use shelf::Shelf;

/// Inputs taken in one pass, before what they made is written.
const PASS_MAX: usize = 1_024;
/// Bytes that must fit into the log before a pass writes.
const ROOM_SIZE_BYTES: usize = 64 * 1024;
/// How long to wait before a write that failed is tried again.
const CONDEMN_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Receivers that may wait at once.
const WAITING_MAX: usize = 100_000;

type Reply<T> = oneshot::Sender<T>;

/// Names of groups.
pub(super) type Names = HashSet<Arc<str>>;

/// What the task is told.
#[derive(Debug)]
pub(super) enum Input {
    Receive {
        request: ReceiveRequest,
        reply: Reply<Result<Vec<Delivered>, ReceiveError>>,
    },
    Judge {
        group: Arc<str>,
        items: Vec<(Receipt, Verdict)>,
        reply: Reply<Vec<Result<(), LeaseError>>>,
    },
    Looked {
        key: PartKey,
        ticket: u64,
        looked: Result<Looked, LookError>,
    },
    /// A topic that receivers wait for has new records.
    News {
        line: LineKey,
    },
    Buried {
        key: PartKey,
        burial: Result<Burial, String>,
    },
    Reset {
        group: Arc<str>,
        topic: TopicId,
        offsets: Vec<(i32, i64)>,
        reply: Reply<Result<(), Unavailable>>,
    },
    DeleteGroup {
        group: Arc<str>,
        reply: Reply<Result<bool, Unavailable>>,
    },
    TopicDeleted {
        topic: TopicId,
        reply: Reply<Result<(), Unavailable>>,
    },
    Groups {
        reply: Reply<Result<Vec<GroupSummary>, Unavailable>>,
    },
    Totals {
        reply: Reply<Result<DeliveryTotals, Unavailable>>,
    },
    Progress {
        group: Arc<str>,
        reply: Reply<Result<Option<Vec<Progress>>, Unavailable>>,
    },
    /// Which of the offsets are not done.
    Undone {
        key: PartKey,
        offsets: Vec<i64>,
        reply: Reply<Result<Vec<i64>, Unavailable>>,
    },
    Settle {
        key: PartKey,
        letters: Vec<Letter>,
        reply: Reply<Result<Vec<(i64, Outcome)>, Unavailable>>,
    },
    Loaded(Box<Loaded>),
    Stop {
        done: Reply<()>,
    },
}

/// A batch of copies for a topic's queue.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) queue: QueueId,
    pub(super) batch: Bytes,
    pub(super) header: BatchHeader,
}

/// What is to be done at a time of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    /// A receiver has waited long enough, or reading is tried again.
    Line(LineKey),
    /// Dead letters are tried again.
    Dying(PartKey),
    /// Messages whose last attempt is over could not be marked.
    Condemn(PartKey),
    /// What nobody uses is let go.
    Sweep,
}

/// Sends an answer, or the reason why there is none.
type Answer = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;

/// The owner of all deliveries.
pub(super) struct Owner {
    env: Env,
    partitions: Partitions,
    catalog: Arc<dyn Catalog>,
    /// The groups of the table, for those who only ask for a name.
    names: watch::Sender<Option<Names>>,
    /// For the tasks that come back; weak, so that the task ends when all handles are gone.
    myself: mpsc::WeakSender<Input>,
    inbox: mpsc::Receiver<Input>,
    table: Table,
    is_loaded: bool,
    lines: HashMap<LineKey, Line>,
    /// Lines to be looked after in this pass.
    marked: BTreeSet<LineKey>,
    waiting: usize,
    shelves: HashMap<PartKey, Shelf>,
    shelved_size_bytes: usize,
    judging: Judging,
    dying: HashMap<PartKey, Dying>,
    to_bury: BTreeSet<PartKey>,
    alarms: BTreeSet<(Duration, Alarm)>,
    /// When which part has something due next, after `handled_ms`.
    agenda: BTreeSet<(i64, PartKey)>,
    agenda_of: BTreeMap<PartKey, i64>,
    /// What was due by then was looked after.
    handled_ms: i64,
    /// Behind the last thing this task appended: answers rest on it.
    last_end: Position,
    pending: VecDeque<(Position, Answer)>,
    writing: Option<Pin<Box<WaitDurable>>>,
    growth: Growth,
    totals: DeliveryTotals,
    next_ticket: u64,
    is_sweep_armed: bool,
}

impl Owner {
    pub(super) fn new(
        env: Env,
        partitions: Partitions,
        catalog: Arc<dyn Catalog>,
        names: watch::Sender<Option<Names>>,
        myself: mpsc::WeakSender<Input>,
        inbox: mpsc::Receiver<Input>,
    ) -> Self {
        Self {
            env,
            partitions,
            catalog,
            names,
            myself,
            inbox,
            table: Table::default(),
            is_loaded: false,
            lines: HashMap::new(),
            marked: BTreeSet::new(),
            waiting: 0,
            shelves: HashMap::new(),
            shelved_size_bytes: 0,
            judging: Judging::default(),
            dying: HashMap::new(),
            to_bury: BTreeSet::new(),
            alarms: BTreeSet::new(),
            agenda: BTreeSet::new(),
            agenda_of: BTreeMap::new(),
            handled_ms: i64::MIN,
            last_end: Position(0),
            pending: VecDeque::new(),
            writing: None,
            growth: Growth::default(),
            totals: DeliveryTotals::default(),
            next_ticket: 0,
            is_sweep_armed: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.start_loading();
        loop {
            self.answer_durable();
            let wait = self.until_next();
            let stop = tokio::select! {
                biased;
                result = written(&mut self.writing) => {
                    self.on_written(&result);
                    None
                }
                input = self.inbox.recv() => match input {
                    None => return,
                    Some(input) => self.take(input),
                },
                () = sleep(wait) => None,
            };
            let stop = stop.or_else(|| self.take_what_is_there());
            if !self.partitions.has_room(ROOM_SIZE_BYTES) {
                self.partitions.room(ROOM_SIZE_BYTES).await;
            }
            if self.is_loaded {
                self.pass();
            }
            if let Some(done) = stop {
                self.stop().await;
                let _gone = done.send(());
                return;
            }
        }
    }

    /// Takes further inputs without waiting. Returns early with a stop.
    fn take_what_is_there(&mut self) -> Option<Reply<()>> {
        for _ in 0..PASS_MAX {
            let Ok(input) = self.inbox.try_recv() else { break };
            let stop = self.take(input);
            if stop.is_some() {
                return stop;
            }
        }
        None
    }

    /// What follows from what was taken in and from the time.
    fn pass(&mut self) {
        self.flush_judging();
        self.ring_alarms();
        self.keep_agenda();
        self.bury_marked();
        while let Some(line) = self.marked.pop_first() {
            self.serve(&line);
        }
        self.bury_marked();
        self.shorten();
    }

    fn take(&mut self, input: Input) -> Option<Reply<()>> {
        if !self.is_loaded {
            return self.take_unloaded(input);
        }
        match input {
            Input::Judge { group, items, reply } => {
                self.judge(&group, items, reply);
                return None;
            }
            Input::Receive { request, reply } => self.on_receive(request, reply),
            Input::Looked { key, ticket, looked } => self.on_looked(&key, ticket, looked),
            Input::News { line } => {
                self.marked.insert(line);
            }
            Input::Buried { key, burial } => self.on_buried(&key, burial),
            Input::Reset { group, topic, offsets, reply } => {
                self.on_reset(&group, topic, &offsets, reply);
            }
            Input::DeleteGroup { group, reply } => self.on_delete_group(&group, reply),
            Input::TopicDeleted { topic, reply } => self.on_topic_deleted(topic, reply),
            Input::Groups { reply } => {
                let _gone = reply.send(Ok(self.groups()));
            }
            Input::Totals { reply } => {
                let _gone = reply.send(Ok(self.totals));
            }
            Input::Progress { group, reply } => {
                let _gone = reply.send(Ok(self.progress(&group)));
            }
            Input::Undone { key, offsets, reply } => {
                let _gone = reply.send(Ok(self.undone(&key, offsets)));
            }
            Input::Settle { key, letters, reply } => self.on_settle(&key, letters, reply),
            Input::Loaded(_) => {}
            Input::Stop { done } => return Some(done),
        }
        None
    }

    fn take_unloaded(&mut self, input: Input) -> Option<Reply<()>> {
        let why = Unavailable::Loading;
        match input {
            Input::Loaded(loaded) => self.on_loaded(*loaded),
            Input::Receive { reply, .. } => refuse(reply, why.into()),
            Input::Judge { items, reply, .. } => {
                let _gone = reply.send(items.iter().map(|_| Err(why.into())).collect());
            }
            Input::Reset { reply, .. } | Input::TopicDeleted { reply, .. } => refuse(reply, why),
            Input::DeleteGroup { reply, .. } => refuse(reply, why),
            Input::Groups { reply } => refuse(reply, why),
            Input::Totals { reply } => refuse(reply, why),
            Input::Progress { reply, .. } => refuse(reply, why),
            Input::Undone { reply, .. } => refuse(reply, why),
            Input::Settle { reply, .. } => refuse(reply, why),
            Input::Looked { .. } | Input::News { .. } | Input::Buried { .. } => {}
            Input::Stop { done } => return Some(done),
        }
        None
    }

    fn now_ms(&self) -> i64 {
        self.env.clock.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Appends events and takes them in.
    fn append(&mut self, events: Vec<Event>) -> Result<(), Unavailable> {
        self.append_with(Class::System, events, &[]).map_err(|error| {
            tracing::warn!(%error, "events of deliveries are not appended");
            Unavailable::from(&error)
        })
    }

    /// Appends events and copies of messages as one group, and takes the events in.
    fn append_with(
        &mut self,
        class: Class,
        events: Vec<Event>,
        copies: &[Copies],
    ) -> Result<(), AppendError> {
        let now_ms = self.now_ms();
        let (batch, header) = batch_of(now_ms, &events);
        let mut parts: Vec<Part<'_>> = copies
            .iter()
            .map(|copy| Part { queue: copy.queue, batch: &copy.batch, header: &copy.header })
            .collect();
        parts.push(Part { queue: system::DELIVERY, batch: &batch, header: &header });
        let appended = self.partitions.append_all(now_ms, class, &parts)?;
        let Some(own) = appended.last() else { unreachable!("a group has a last part") };
        self.last_end = own.end;
        self.growth.add(batch.len());
        let mut touched = BTreeSet::new();
        for (at, event) in (own.base_offset.0..).zip(&events) {
            self.table.apply(at, event);
            self.tell_names(event);
            if let Event::Part { key, change } = event {
                match change {
                    Change::Acquired { again, scan, .. } => {
                        let taken = scan.as_ref().map_or(0, |scan| scan.taken.len());
                        self.totals.delivered += (again.len() + taken) as u64;
                    }
                    Change::Acked { offsets } => self.totals.acknowledged += offsets.len() as u64,
                    Change::Archived { offsets } if !copies.is_empty() => {
                        self.totals.dead_letters += offsets.len() as u64;
                    }
                    Change::Archived { .. }
                    | Change::Extended { .. }
                    | Change::Released { .. }
                    | Change::Archiving { .. }
                    | Change::Trimmed { .. }
                    | Change::Reset { .. }
                    | Change::Cut { .. }
                    | Change::State(_)
                    | Change::Piece { .. } => {}
                }
                if matches!(change, Change::Archiving { .. }) {
                    self.to_bury.insert(key.clone());
                }
                touched.insert(key);
            }
        }
        for key in touched {
            self.enter_into_agenda(key);
        }
        Ok(())
    }

    /// Tells which groups there are after an event.
    fn tell_names(&self, event: &Event) {
        match event {
            Event::Part { key, .. } => {
                let names = self.names.borrow();
                let is_told = names.as_ref().is_some_and(|names| names.contains(&key.group));
                drop(names);
                if !is_told {
                    self.change_names(|names| names.insert(Arc::clone(&key.group)));
                }
            }
            Event::GroupDeleted { group } => self.change_names(|names| names.remove(group)),
            Event::TopicDeleted { .. } => {
                self.names.send_replace(Some(self.table.groups().cloned().collect()));
            }
        }
    }

    fn change_names(&self, change: impl FnOnce(&mut Names) -> bool) {
        self.names.send_modify(|names| {
            change(names.get_or_insert_default());
        });
    }

    /// Answers once everything appended so far is durable.
    fn answer(&mut self, answer: impl FnOnce(Result<(), Unavailable>) + Send + 'static) {
        self.pending.push_back((self.last_end, Box::new(answer)));
    }

    fn answer_durable(&mut self) {
        let durable = self.partitions.durable();
        while self.pending.front().is_some_and(|(end, _)| *end <= durable) {
            if let Some((_, answer)) = self.pending.pop_front() {
                answer(Ok(()));
            }
        }
        if self.writing.is_none()
            && let Some((end, _)) = self.pending.front()
        {
            self.writing = Some(Box::pin(self.partitions.wait_durable(*end)));
        }
    }

    fn on_written(&mut self, result: &Result<(), LogFailed>) {
        self.writing = None;
        if result.is_err() {
            for (_, answer) in self.pending.drain(..) {
                answer(Err(Unavailable::Stopped));
            }
        }
    }

    /// Notes when the part has something due next.
    fn enter_into_agenda(&mut self, key: &PartKey) {
        let next = self.table.part(key).and_then(|part| part.next_due_ms(self.handled_ms));
        let before = match next {
            Some(due_ms) => self.agenda_of.insert(key.clone(), due_ms),
            None => self.agenda_of.remove(key),
        };
        if before == next {
            return;
        }
        if let Some(before) = before {
            self.agenda.remove(&(before, key.clone()));
        }
        if let Some(due_ms) = next {
            self.agenda.insert((due_ms, key.clone()));
        }
    }

    /// Looks after the parts in which something has become due.
    fn keep_agenda(&mut self) {
        let now_ms = self.now_ms();
        if now_ms < self.handled_ms {
            // The wall clock was set back: what was due is not any more.
            self.handled_ms = now_ms;
            let keys: Vec<PartKey> = self.table.parts().map(|(key, _)| key).collect();
            keys.iter().for_each(|key| self.enter_into_agenda(key));
        }
        let mut due = Vec::new();
        while let Some((due_ms, _)) = self.agenda.first()
            && *due_ms <= now_ms
            && let Some((_, key)) = self.agenda.pop_first()
        {
            self.agenda_of.remove(&key);
            due.push(key);
        }
        let before_ms = std::mem::replace(&mut self.handled_ms, now_ms);
        for key in due {
            self.condemn_or_later(&key, before_ms);
            self.enter_into_agenda(&key);
            let line = (Arc::clone(&key.group), key.topic);
            if self.lines.contains_key(&line) {
                self.marked.insert(line);
            }
        }
    }

    /// Marks what is exhausted; what cannot be written is tried again.
    fn condemn_or_later(&mut self, key: &PartKey, after_ms: i64) {
        if !self.condemn(key, after_ms) {
            let again_at = self.monotonic() + CONDEMN_AGAIN_AFTER;
            self.alarms.insert((again_at, Alarm::Condemn(key.clone())));
        }
    }

    fn ring_alarms(&mut self) {
        let now = self.monotonic();
        while self.alarms.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, alarm)) = self.alarms.pop_first() else { break };
            match alarm {
                Alarm::Line(line) => {
                    self.marked.insert(line);
                }
                Alarm::Dying(key) => {
                    self.to_bury.insert(key);
                }
                Alarm::Condemn(key) => self.condemn_or_later(&key, i64::MIN),
                Alarm::Sweep => self.sweep(now),
            }
        }
    }

    fn until_next(&self) -> Option<Duration> {
        let alarm = self.alarms.first().map(|(at, _)| at.saturating_sub(self.monotonic()));
        let due = self.agenda.first().map(|(due_ms, _)| {
            let wait_ms = due_ms.saturating_sub(self.now_ms()).clamp(0, 60_000);
            Duration::from_millis(wait_ms.cast_unsigned())
        });
        match (alarm, due) {
            (Some(alarm), Some(due)) => Some(alarm.min(due)),
            (alarm, due) => alarm.or(due),
        }
    }

    /// Runs something that comes back as an input.
    fn spawn(
        &self,
        name: &'static str,
        work: impl Future<Output = Input> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let myself = self.myself.clone();
        self.env.spawner.critical(name, async move {
            let input = work.await;
            if let Some(myself) = myself.upgrade() {
                let _ended = myself.send(input).await;
            }
        })
    }

    /// Waits for what is being written, then refuses everybody who still waits.
    async fn stop(&mut self) {
        while !self.pending.is_empty() {
            self.answer_durable();
            if self.writing.is_some() {
                let result = written(&mut self.writing).await;
                self.on_written(&result);
            }
        }
        for (_, line) in self.lines.drain() {
            line.refuse_all(&ReceiveError::Unavailable(Unavailable::Stopped));
        }
    }
}

/// Events as a batch of the DELIVERY queue.
fn batch_of(now_ms: i64, events: &[Event]) -> (Bytes, BatchHeader) {
    let mut writer = BatchWriter::new(BatchSpec::default());
    for event in events {
        if let Err(error) = writer.append(now_ms, Some(&event.encode()), None, &[]) {
            unreachable!("an event is no record: {error}");
        }
    }
    let batch = match writer.finish() {
        Ok(batch) => batch,
        Err(error) => unreachable!("events are no batch: {error}"),
    };
    match BatchHeader::parse(&batch) {
        Ok(header) => (batch, header),
        Err(error) => unreachable!("a written batch is not read: {error}"),
    }
}

fn refuse<T, E>(reply: Reply<Result<T, E>>, why: E) {
    // Whoever asked may have gone.
    let _gone = reply.send(Err(why));
}

/// Resolves when the oldest answer's write is durable; never, if there is none.
async fn written(writing: &mut Option<Pin<Box<WaitDurable>>>) -> Result<(), LogFailed> {
    match writing {
        Some(writing) => writing.await,
        None => std::future::pending().await,
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Offsets that an event of the same pass is about already.
type Touched = HashSet<(PartKey, i64)>;
