//! Receivers of one group that wait for messages of one topic, in the order they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Alarm, Input, Owner, Reply, WAITING_MAX};
use crate::delivery::catalog::TopicView;
use crate::delivery::error::ReceiveError;
use crate::delivery::message::hash_of;
use crate::delivery::request::{Delivered, ReceiveRequest};
use crate::model::TopicId;
use crate::store::Subscription;

/// A line that nobody stood in for so long is forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// How long after its time a receiver is held up by reading for it.
const READING_MAX: Duration = Duration::from_secs(1);

/// How much later than its time a receiver may learn that there is nothing.
const ALARM_STEP: Duration = Duration::from_millis(50);

/// A group and a topic.
pub(super) type LineKey = (Arc<str>, TopicId);

/// A receiver in line.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: ReceiveRequest,
    /// Hash of its attempt id; 0 for none.
    pub(super) receive: u64,
    deadline: Duration,
    reply: Reply<Result<Vec<Delivered>, ReceiveError>>,
    has_alarm: bool,
}

impl Waiting {
    pub(super) fn answer(self, answer: Result<Vec<Delivered>, ReceiveError>) {
        // It may have gone.
        let _gone = self.reply.send(answer);
    }
}

/// Tells the owner of new records, once each time it is armed.
#[derive(Debug)]
struct Watch {
    /// Held for as long as news are wanted.
    _subscriptions: Vec<Subscription>,
    partitions: usize,
    armed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A line of receivers.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) waiting: VecDeque<Waiting>,
    /// The partition that is looked at first the next time.
    pub(super) rotate: usize,
    watch: Option<Watch>,
    pub(super) used_at: Duration,
}

impl Line {
    pub(super) fn refuse_all(self, why: &ReceiveError) {
        self.waiting.into_iter().for_each(|waiting| waiting.answer(Err(why.clone())));
    }
}

impl Owner {
    pub(super) fn on_receive(
        &mut self,
        request: ReceiveRequest,
        reply: Reply<Result<Vec<Delivered>, ReceiveError>>,
    ) {
        if self.waiting >= WAITING_MAX {
            let _gone = reply.send(Err(ReceiveError::TooManyWaiting));
            return;
        }
        let now = self.monotonic();
        let key = (Arc::clone(&request.group), request.topic);
        let waiting = Waiting {
            receive: request.attempt_id.as_ref().map_or(0, |id| hash_of(id.as_bytes())),
            deadline: now.saturating_add(request.wait),
            request,
            reply,
            has_alarm: false,
        };
        let line = self.lines.entry(key.clone()).or_default();
        line.used_at = now;
        line.waiting.push_back(waiting);
        self.waiting += 1;
        self.marked.insert(key);
    }

    /// Takes a line out, without those who have gone.
    pub(super) fn take_line(&mut self, key: &LineKey) -> Option<Line> {
        let mut line = self.lines.remove(key)?;
        self.waiting -= line.waiting.len();
        line.waiting.retain(|waiting| !waiting.reply.is_closed());
        Some(line)
    }

    /// Puts a line back, and has it woken when there is news or time is up.
    pub(super) fn put_line_back(&mut self, key: &LineKey, mut line: Line, view: &TopicView) {
        for waiting in line.waiting.iter_mut().filter(|waiting| !waiting.has_alarm) {
            waiting.has_alarm = true;
            self.alarms.insert((rounded_up(waiting.deadline), Alarm::Line(key.clone())));
        }
        if !line.waiting.is_empty() {
            self.watch(key, &mut line, view);
        }
        self.waiting += line.waiting.len();
        self.lines.insert(key.clone(), line);
        self.arm_sweep();
    }

    fn watch(&mut self, key: &LineKey, line: &mut Line, view: &TopicView) {
        if let Some(watch) = line.watch.as_ref().filter(|w| w.partitions == view.queues.len()) {
            watch.armed.notify_one();
            return;
        }
        let news = Arc::new(Notify::new());
        let queues = view.queues.iter();
        let subscriptions = queues.filter_map(|queue| self.partitions.subscribe(*queue, &news));
        let subscriptions = subscriptions.collect();
        let armed = Arc::new(Notify::new());
        let (myself, is_armed) = (self.myself.clone(), Arc::clone(&armed));
        let (key, owned) = (key.clone(), key.clone());
        let task = self.env.spawner.critical("delivery news", async move {
            loop {
                is_armed.notified().await;
                news.notified().await;
                let Some(myself) = myself.upgrade() else { return };
                if myself.send(Input::News { line: key.clone() }).await.is_err() {
                    return;
                }
            }
        });
        armed.notify_one();
        // What came before the subscription is looked for once more.
        self.marked.insert(owned);
        line.watch = Some(Watch {
            _subscriptions: subscriptions,
            partitions: view.queues.len(),
            armed,
            task,
        });
    }

    /// Answers those whose time is up with nothing; while something is read for them, a little
    /// later, so that who does not want to wait gets what is there.
    pub(super) fn expire_waiting(&mut self, key: &LineKey, line: &mut Line, is_reading: bool) {
        let now = self.monotonic();
        if line.waiting.iter().all(|waiting| waiting.deadline > now) {
            return;
        }
        for waiting in std::mem::take(&mut line.waiting) {
            let last = waiting.deadline.saturating_add(READING_MAX);
            if waiting.deadline > now || is_reading && last > now {
                if waiting.deadline <= now {
                    self.alarms.insert((last, Alarm::Line(key.clone())));
                }
                line.waiting.push_back(waiting);
            } else {
                waiting.answer(Ok(Vec::new()));
            }
        }
    }
}

/// A moment that many deadlines share: most receivers are served long before theirs, and an alarm
/// stays until it rings.
fn rounded_up(deadline: Duration) -> Duration {
    let later = deadline.saturating_add(ALARM_STEP);
    let step_ns = ALARM_STEP.subsec_nanos();
    Duration::new(later.as_secs(), later.subsec_nanos() / step_ns * step_ns)
}
