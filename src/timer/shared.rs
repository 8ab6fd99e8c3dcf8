//! What the handle and the tasks of the engine share, and the one way the table changes.
//!
//! Whoever changes something takes the table's lock, looks, appends, and tells the table what the
//! log took, without an await in between: of two that race the second sees what the first did. The
//! lock is held for the append of a group and never over I/O. That is what lets a producer's batch
//! get its place in the log before its connection goes on to the next request.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::batch::{self, Written};
use super::error::{ScheduleError, TimerError};
use super::event::{End, Floor};
use super::id::TimerId;
use super::message::{NewTimer, Target};
use super::table::{Place, Status, Table};
use crate::env::Env;
use crate::model::{Offset, Position, QueueId};
use crate::partition::{Partitions, system};
use crate::store::{AppendError, Class, Part};

/// How long a request waits for a bucket to be loaded.
const LOAD_PATIENCE: Duration = Duration::from_secs(30);

/// Where messages for a partition go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) queue: QueueId,
    /// Whether the topic says that the broker stamps its records.
    pub(crate) log_append_time: bool,
}

/// Knows where messages go: what the engine asks of the metadata.
pub(crate) trait Destinations: Send + Sync + 'static {
    /// Where messages for a partition go; none if its topic is gone.
    fn resolve(&self, target: Target) -> Option<Destination>;

    /// Where messages go whose topic is gone; none if that is not there yet, and is being made.
    fn discard(&self) -> Option<Destination>;
}

/// Bounds of the engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How far from now a message may be due.
    pub(crate) delay_max_ms: i64,
    /// Bytes of messages that are scheduled as one; a group lies in one segment.
    pub(crate) scheduled_size_bytes_max: usize,
    /// Bytes of messages that are delivered as one.
    pub(crate) delivered_size_bytes_max: usize,
}

/// What was appended for messages to be delivered later.
#[derive(Debug)]
pub(crate) struct Scheduled {
    /// Their handles, in the order of the messages; none if the receipt says that they were
    /// scheduled before, and nothing was appended.
    pub(crate) ids: Vec<TimerId>,
    /// They are scheduled once everything below is durable.
    pub(crate) end: Position,
}

/// See the module.
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) partitions: Partitions,
    pub(super) destinations: Arc<dyn Destinations>,
    pub(super) limits: Limits,
    state: Mutex<State>,
    /// Something may be due earlier than was known.
    pub(super) due: Notify,
    /// Something is to be loaded.
    pub(super) wanted: Notify,
    /// Something was loaded.
    pub(super) loaded: Notify,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct State {
    pub(super) table: Table,
    /// Behind the last that was scheduled, and behind the last that was appended at all.
    pub(super) scheduled_end: Position,
    pub(super) end: Position,
    /// Queues of receipts that may be shortened.
    pub(super) receipts: BTreeSet<QueueId>,
    pub(super) totals: Totals,
}

/// What happened to messages since the broker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) scheduled: u64,
    pub(crate) delivered: u64,
    pub(crate) recalled: u64,
    pub(crate) discarded: u64,
    /// By how many ms the message that was delivered last came after its due time.
    pub(crate) last_late_ms: u64,
}

impl State {
    /// A message does not wait any more, says the log.
    pub(super) fn ended(&mut self, now_ms: i64, id: TimerId, end: End) {
        self.table.ended(id.bucket, id.offset, end);
        match end {
            End::Delivered => {
                self.totals.delivered += 1;
                let late_ms = u64::try_from(now_ms.saturating_sub(id.due_ms));
                self.totals.last_late_ms = late_ms.unwrap_or(0);
            }
            End::Recalled => self.totals.recalled += 1,
            End::Discarded => self.totals.discarded += 1,
        }
    }
}

impl Shared {
    pub(super) fn new(
        env: Env,
        partitions: Partitions,
        destinations: Arc<dyn Destinations>,
        limits: Limits,
        table: Table,
        receipts: BTreeSet<QueueId>,
    ) -> Self {
        let (scheduled_end, end) = (Position(0), Position(0));
        Self {
            env,
            partitions,
            destinations,
            limits,
            state: Mutex::new(State {
                table,
                scheduled_end,
                end,
                receipts,
                totals: Totals::default(),
            }),
            due: Notify::new(),
            wanted: Notify::new(),
            loaded: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.env.clock.wall_ms()
    }

    /// Appends messages and what belongs to them, as one group.
    pub(super) fn schedule(
        &self,
        now_ms: i64,
        beside: &[Part<'_>],
        timers: &[NewTimer<'_>],
    ) -> Result<Scheduled, ScheduleError> {
        self.check(now_ms, timers)?;
        let placed = |state: &State| -> Vec<Place> {
            timers.iter().map(|timer| state.table.place(now_ms, timer.due_ms)).collect()
        };
        // The batches are written without the lock; hardly ever has a place changed meanwhile.
        let (mut state, places, buckets, batches) = loop {
            let places = placed(&self.state());
            let buckets: Vec<u32> = places.iter().map(|place| place.bucket).collect();
            let batches = batch::by_bucket(timers, &buckets, system::timer_bucket)?;
            let state = self.state();
            if placed(&state) == places {
                break (state, places, buckets, batches);
            }
        };
        let mut placed = timers.iter().zip(&places);
        let is_crowded = |(timer, place): &(&NewTimer<'_>, &Place)| {
            state.table.is_crowded(now_ms, timer.due_ms, **place)
        };
        if let Some((timer, _)) = placed.find(is_crowded) {
            return Err(ScheduleError::Crowded { due_ms: timer.due_ms });
        }
        self.check_full(timers, &buckets)?;
        let floor = places.iter().filter_map(|place| place.note).max();
        let note = floor.map(|floor| note(now_ms, floor)).transpose()?;
        let mut parts: Vec<Part<'_>> = beside.to_vec();
        let first = parts.len();
        parts.extend(batches.iter().map(|batch| batch.batch.part()));
        parts.extend(note.iter().map(Written::part));
        let appended = self.partitions.append_all(now_ms, Class::Data, &parts)?;
        let Some(end) = appended.last().map(|part| part.end) else {
            let end = state.end;
            return Ok(Scheduled { ids: Vec::new(), end });
        };
        if appended.iter().any(|part| part.duplicate) {
            return Ok(Scheduled { ids: Vec::new(), end });
        }
        let mut ids: Vec<Option<TimerId>> = vec![None; timers.len()];
        for (batch, part) in batches.iter().zip(appended.iter().skip(first)) {
            for (at, place) in (0..).zip(&batch.places) {
                let (Some(timer), Some(id)) = (timers.get(*place), ids.get_mut(*place)) else {
                    continue;
                };
                let offset = number(part.base_offset.plus(at));
                let (bucket, due_ms) = (batch.bucket, timer.due_ms);
                *id = offset.map(|offset| TimerId { bucket, offset, due_ms });
            }
        }
        let before = state.table.next_due_ms();
        if let Some(floor) = floor {
            state.table.noted(floor);
        }
        let ids: Vec<TimerId> = ids.into_iter().flatten().collect();
        ids.iter().for_each(|id| state.table.scheduled(now_ms, *id));
        state.scheduled_end = end;
        state.end = state.end.max(end);
        let receipts = beside.iter().map(|part| part.queue);
        state.receipts.extend(receipts.filter(|queue| system::is_receipts(*queue)));
        state.totals.scheduled += ids.len() as u64;
        if state.table.next_due_ms() != before {
            self.due.notify_one();
        }
        Ok(Scheduled { ids, end })
    }

    fn check(&self, now_ms: i64, timers: &[NewTimer<'_>]) -> Result<(), ScheduleError> {
        let max_ms = self.limits.delay_max_ms;
        let latest_ms = now_ms.saturating_add(max_ms);
        if let Some(timer) = timers.iter().find(|timer| timer.due_ms > latest_ms) {
            return Err(ScheduleError::TooFar { due_ms: timer.due_ms, max_ms });
        }
        let size_bytes = timers.iter().map(NewTimer::size_bytes).sum();
        let max = self.limits.scheduled_size_bytes_max;
        if size_bytes > max {
            return Err(ScheduleError::TooLarge { size_bytes, max });
        }
        Ok(())
    }

    /// A message's place in its bucket has 32 bits.
    fn check_full(&self, timers: &[NewTimer<'_>], buckets: &[u32]) -> Result<(), ScheduleError> {
        let distinct: BTreeSet<u32> = buckets.iter().copied().collect();
        for bucket in distinct {
            let next = self.partitions.offsets(system::timer_bucket(bucket)).next;
            let more = i64::try_from(timers.len()).unwrap_or(i64::MAX);
            if next.0.saturating_add(more) > i64::from(u32::MAX) {
                let mut of = timers.iter().zip(buckets);
                let due_ms = of.find(|(_, it)| **it == bucket).map_or(0, |(it, _)| it.due_ms);
                return Err(ScheduleError::BucketFull { due_ms });
            }
        }
        Ok(())
    }

    /// Appends what is to change under the table's lock; nothing may have changed since it was
    /// looked at.
    pub(super) fn append(
        &self,
        state: &mut State,
        class: Class,
        now_ms: i64,
        batches: &[Written],
    ) -> Result<Position, AppendError> {
        let parts: Vec<Part<'_>> = batches.iter().map(Written::part).collect();
        let appended = self.partitions.append_all(now_ms, class, &parts)?;
        let end = appended.last().map_or(state.end, |part| part.end);
        state.end = state.end.max(end);
        Ok(end)
    }

    /// What became of a message; its bucket is loaded for that. What it says is true once
    /// everything below the position is durable.
    pub(super) async fn status(&self, id: TimerId) -> Result<(Status, Position), TimerError> {
        let looked = async {
            loop {
                let mut loaded = std::pin::pin!(self.loaded.notified());
                // From here on no notification is missed.
                loaded.as_mut().enable();
                {
                    let mut state = self.state();
                    if let Ok(status) = state.table.status(id) {
                        return (status, state.end);
                    }
                }
                self.wanted.notify_one();
                loaded.await;
            }
        };
        tokio::time::timeout(LOAD_PATIENCE, looked).await.map_err(|_| TimerError::Loading)
    }
}

/// The batch of a note.
pub(super) fn note(now_ms: i64, floor: u32) -> Result<Written, ScheduleError> {
    Ok(Written::of_keys(system::TIMER_NOTES, now_ms, [Floor(floor).encode()])?)
}

/// An offset of a bucket as a handle has it.
pub(super) fn number(offset: Offset) -> Option<u32> {
    u32::try_from(offset.0).ok()
}
