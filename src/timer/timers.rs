//! [`Timers`]: the handle through which everybody else schedules messages.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::deliver::{When, ends};
use super::error::{ScheduleError, TimerError};
use super::event::{End, Floor};
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
    /// broker stops. Messages may be scheduled at once; what is in the log is loaded meanwhile.
    ///
    /// # Errors
    /// The notes cannot be read.
    pub(crate) async fn start(
        env: &Env,
        partitions: Partitions,
        destinations: Arc<dyn Destinations>,
        limits: Limits,
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

    /// What happened to messages since the start.
    pub(crate) fn totals(&self) -> Totals {
        self.shared.state().totals
    }

    /// How many messages wait in memory: those that are due soon.
    pub(crate) fn loaded(&self) -> usize {
        self.shared.state().table.pending()
    }
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
