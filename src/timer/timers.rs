//! [`Timers`]: the handle through which everybody else schedules messages.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::batch::{self, Written};
use super::deliver::{When, ends};
use super::error::{ScheduleError, TimerError};
use super::event::{End, Ended, Floor};
use super::id::TimerId;
use super::keeper;
use super::list::{Listed, Page};
use super::message::{Message, NewTimer};
use super::read;
use super::shared::{Destinations, Limits, Scheduled, Shared, Totals};
use super::table::{Status, Table};
use crate::env::Env;
use crate::partition::{FetchError, Partitions, system};
use crate::store::{Class, Part};

/// Empty places in one batch.
const PLACES_MAX: i64 = 1_000;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Timers {
    shared: Arc<Shared>,
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

/// What became of a message that was scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerState {
    Waits,
    Ended(End),
}

/// A scheduled message.
#[derive(Debug)]
pub(crate) struct Timer {
    pub(crate) id: TimerId,
    pub(crate) state: TimerState,
    pub(crate) message: Message,
}

/// The message is taken back and will not be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recalled {
    Now,
    /// By an earlier recall.
    Before,
}

impl Timers {
    /// Looks at what the log holds, and starts the tasks on the current runtime; they end when the
    /// broker stops. Messages may be scheduled at once; what is in the log is loaded meanwhile. If the
    /// log has lost something, no end of a lost message is left to be taken for that of a later one.
    ///
    /// # Errors
    /// The notes cannot be read.
    pub(crate) async fn start(
        env: &Env,
        partitions: Partitions,
        destinations: Arc<dyn Destinations>,
        limits: Limits,
        has_lost: bool,
        stopping: watch::Receiver<bool>,
    ) -> Result<Self, FetchError> {
        let floor = last_floor(&partitions).await?;
        let queues = partitions.queues();
        let buckets: BTreeSet<u32> =
            queues.iter().filter_map(|queue| system::bucket_of(*queue)).collect();
        for queue in &queues {
            // A drop that was cut between a bucket's two queues is finished.
            if system::ends_of(*queue).is_some_and(|bucket| !buckets.contains(&bucket))
                && let Err(error) = partitions.drop_queue(*queue)
            {
                tracing::warn!(%queue, %error, "cannot drop what is left of scheduled messages");
            }
        }
        if has_lost {
            for bucket in &buckets {
                keep_clear(&partitions, *bucket, env.clock.wall_ms()).await?;
            }
        }
        let receipts = queues.into_iter().filter(|queue| system::is_receipts(*queue)).collect();
        let table = Table::of(floor, buckets);
        let shared = Shared::new(env.clone(), partitions, destinations, limits, table, receipts);
        let shared = Arc::new(shared);
        let deliver = keeper::deliver(Arc::clone(&shared), stopping.clone());
        drop(env.spawner.critical("timers", deliver));
        drop(env.spawner.critical("timer loads", keeper::keep(Arc::clone(&shared), stopping)));
        Ok(Self { shared })
    }

    /// What bounds requests.
    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Appends messages that are due later; their places are fixed on return, and they are
    /// scheduled once the log is durable up to the end that is returned. All or none, and in the
    /// same group as what goes `beside`: with the receipt of the batch that they came in, of an
    /// idempotent producer, they are scheduled only if that was not appended before.
    ///
    /// # Errors
    /// Nothing was appended.
    pub(crate) fn append(
        &self,
        now_ms: i64,
        beside: &[Part<'_>],
        timers: &[NewTimer<'_>],
    ) -> Result<Scheduled, ScheduleError> {
        self.shared.schedule(now_ms, beside, timers)
    }

    /// Schedules messages, all or none, and waits until that is durable.
    ///
    /// # Errors
    /// None is scheduled; or, if the log failed, that is not known.
    pub(crate) async fn schedule(
        &self,
        timers: &[NewTimer<'_>],
    ) -> Result<Vec<TimerId>, ScheduleError> {
        let size_bytes = timers.iter().map(NewTimer::size_bytes).sum();
        self.shared.partitions.room(size_bytes).await;
        let scheduled = self.append(self.shared.now_ms(), &[], timers)?;
        self.shared.partitions.wait_durable(scheduled.end).await?;
        Ok(scheduled.ids)
    }

    /// A message and what became of it, as long as its bucket lives.
    ///
    /// # Errors
    /// There is none, or its record cannot be read.
    pub(crate) async fn get(&self, id: TimerId) -> Result<Timer, TimerError> {
        let (status, end) = self.shared.status(id).await?;
        let state = match status {
            Status::Unknown => return Err(TimerError::NotFound),
            Status::Pending => TimerState::Waits,
            Status::Ended(end) => TimerState::Ended(end),
        };
        self.shared.partitions.wait_durable(end).await?;
        let message = read::message(&self.shared.partitions, id).await?;
        Ok(Timer { id, state, message })
    }

    /// Messages that wait, page by page.
    ///
    /// # Errors
    /// Records cannot be read.
    pub(crate) async fn list(&self, page: Page) -> Result<Listed, TimerError> {
        self.shared.list(page).await
    }

    /// Takes a message back: exactly one of this and its delivery happens. A recall that is said
    /// again succeeds again, as long as the bucket lives.
    ///
    /// # Errors
    /// It is too late, or there is no such message.
    pub(crate) async fn recall(&self, id: TimerId) -> Result<Recalled, TimerError> {
        loop {
            self.check(id).await?;
            let (end, recalled) = {
                let mut state = self.shared.state();
                match state.table.status(id) {
                    // Loaded a moment ago; it gave way to others.
                    Err(_) => continue,
                    Ok(Status::Unknown) => return Err(TimerError::NotFound),
                    Ok(Status::Ended(End::Recalled)) => (state.end, Recalled::Before),
                    Ok(Status::Ended(end @ (End::Delivered | End::Discarded))) => {
                        return Err(TimerError::TooLate(end));
                    }
                    Ok(Status::Pending) => {
                        let now_ms = self.shared.now_ms();
                        let batches = ends(now_ms, &[(id, End::Recalled)])?;
                        let end =
                            self.shared.append(&mut state, Class::System, now_ms, &batches)?;
                        state.ended(now_ms, id, End::Recalled);
                        (end, Recalled::Now)
                    }
                }
            };
            self.shared.partitions.wait_durable(end).await?;
            return Ok(recalled);
        }
    }

    /// Delivers a message now, whenever it is due.
    ///
    /// # Errors
    /// It is too late, there is no such message, or it cannot be delivered now.
    pub(crate) async fn deliver_now(&self, id: TimerId) -> Result<(), TimerError> {
        loop {
            if let Status::Ended(end) = self.check(id).await? {
                return Err(TimerError::TooLate(end));
            }
            let delivered = self.shared.deliver(vec![id], When::Now).await;
            if let Some(why) = delivered.why {
                return Err(TimerError::Postponed(why));
            }
            if delivered.count > 0 {
                self.shared.partitions.wait_durable(delivered.end).await?;
                return Ok(());
            }
        }
    }

    /// What became of a message. That one waits in a far bucket only its record can say.
    async fn check(&self, id: TimerId) -> Result<Status, TimerError> {
        let (status, end) = self.shared.status(id).await?;
        self.shared.partitions.wait_durable(end).await?;
        match status {
            Status::Unknown => Err(TimerError::NotFound),
            Status::Pending => {
                let is_loaded = self.shared.state().table.is_loaded(id.bucket);
                if !is_loaded {
                    read::message(&self.shared.partitions, id).await?;
                }
                Ok(status)
            }
            Status::Ended(_) => Ok(status),
        }
    }

    /// The bucket that a message would be put into now.
    pub(crate) fn bucket_for(&self, now_ms: i64, due_ms: i64) -> u32 {
        self.shared.state().table.place(now_ms, due_ms).bucket
    }

    /// The handle of the message in a place of a bucket.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) async fn handle_at(&self, bucket: u32, offset: u32) -> Result<TimerId, TimerError> {
        let message = read::message_at(&self.shared.partitions, bucket, offset).await?;
        Ok(TimerId { bucket, offset, due_ms: message.due_ms })
    }

    /// By how many ms the next message is overdue; 0 if none is.
    pub(crate) fn late_ms(&self, now_ms: i64) -> i64 {
        let next = self.shared.state().table.next_due_ms();
        next.map_or(0, |due_ms| now_ms.saturating_sub(due_ms).max(0))
    }

    /// What happened to messages since the start.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.state().totals
    }

    /// How many messages wait in memory: those that are due soon.
    pub(crate) fn loaded(&self) -> usize {
        self.shared.state().table.pending()
    }
}

/// Sees to it that no message gets the place of one that was lost and whose end was not: it would
/// be taken for ended.
async fn keep_clear(partitions: &Partitions, bucket: u32, now_ms: i64) -> Result<(), FetchError> {
    let (queue, of_ends) = (system::timer_bucket(bucket), system::timer_ends(bucket));
    let mut behind = 0;
    let end = partitions.offsets(of_ends).next.0;
    read::records(partitions, of_ends, 0..end, |record| {
        // What makes no sense ends nothing, and is told of when the bucket is loaded.
        let _told_later =
            Ended::decode(record.key, |offset, _| behind = behind.max(i64::from(offset) + 1));
        true
    })
    .await?;
    let next = partitions.offsets(queue).next.0;
    if next >= behind {
        return Ok(());
    }
    tracing::warn!(
        bucket,
        from = next,
        to = behind,
        "scheduled messages were lost; their places stay empty"
    );
    let mut left = behind - next;
    while left > 0 {
        let count = usize::try_from(left.min(PLACES_MAX)).unwrap_or(0);
        let places = batch::empty_places(queue, now_ms, count);
        let appended = places.map_err(|error| error.to_string()).and_then(|places| {
            let Written { queue, batch, header } = &places;
            partitions.append(now_ms, *queue, batch, header).map_err(|error| error.to_string())
        });
        if let Err(why) = appended {
            // Nor does the log take messages then.
            tracing::error!(bucket, why, "places of lost messages cannot be kept");
            return Ok(());
        }
        left -= PLACES_MAX;
    }
    Ok(())
}

/// What the last note says.
async fn last_floor(partitions: &Partitions) -> Result<u32, FetchError> {
    let notes = partitions.offsets(system::TIMER_NOTES);
    let mut floor = 0;
    let (start, behind) = (notes.log_start.0, notes.high_watermark.0);
    read::records(partitions, system::TIMER_NOTES, start..behind, |record| {
        match Floor::decode(record.key) {
            Ok(Floor(noted)) => floor = floor.max(noted),
            Err(error) => tracing::error!(%error, "a note of the timers makes no sense"),
        }
        true
    })
    .await?;
    Ok(floor)
}
