//! [`Halves`]: the handle through which everybody else speaks to the half messages.
//!
//! What needs the disk, a half's message or the event that ended it, is read here, in the task of
//! whoever asks, and so at once for many; the task that owns the table only decides and appends.
//! An answer comes when everything it rests on is durable. Dropping a call forgets the answer only,
//! but for [`Halves::poll_checks`]: checks that nobody received do not count.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::event::{Ender, Event, Sent};
use super::id::TransactionId;
use super::owner::{CheckRefused, EndAnswer, Owner, SendAnswer, Told};
use super::payload::{self, HalfRecord, ReadFault};
use super::polls::{Handed, Poll};
use super::request::{
    Check, CheckError, Decision, End, EndError, HalfCounts, HalfMessage, HalfSent, HalfState,
    IMMUNITY_MS_MAX, NAME_BYTES_MAX, Outcome, SendError, SendHalf, ShowError, Unavailable,
};
use super::table::{Blocked, CheckBlocked, DueCheck, HalfFilter, HalfPage};
use super::targets::Targets;
use crate::config::HalfConfig;
use crate::env::Env;
use crate::model::Offset;
use crate::partition::Partitions;

/// Requests that may wait for the owner.
const INBOX_MAX: usize = 8_192;
/// Most checks handed out at once.
pub(crate) const CHECKS_MAX: usize = 256;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Halves {
    env: Env,
    partitions: Partitions,
    targets: Arc<dyn Targets>,
    inbox: mpsc::Sender<Told>,
}

impl std::fmt::Debug for Halves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Halves").finish_non_exhaustive()
    }
}

impl Halves {
    /// Starts the task that owns the halves, on the current tokio runtime, and begins to read them
    /// back; until that is done everything answers [`Unavailable::Loading`]. When all handles are
    /// dropped the task ends.
    pub(crate) fn start(
        env: &Env,
        config: HalfConfig,
        partitions: &Partitions,
        targets: Arc<dyn Targets>,
    ) -> Self {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let owner = Owner::new(
            env.clone(),
            config,
            partitions.clone(),
            Arc::clone(&targets),
            inbox.downgrade(),
            messages,
        );
        drop(env.spawner.critical("half messages", owner.run()));
        Self { env: env.clone(), partitions: partitions.clone(), targets, inbox }
    }

    /// Stores a half message, which nobody sees before it is committed. Answered when it is
    /// durable. One with a message id of its own can be sent again by a sender that got no answer:
    /// as long as the half is pending, and ten minutes longer, it is the same half.
    ///
    /// # Errors
    /// Nothing was stored; or it was, and the broker stopped before it could say so.
    pub(crate) async fn send(&self, half: SendHalf) -> Result<HalfSent, SendError> {
        check(&half)?;
        let born_ms = self.env.clock.wall_ms();
        let fresh = || self.env.rng.next_uuid().simple().to_string();
        let message_id = half.message_id.clone().unwrap_or_else(fresh);
        let batch = payload::batch(&half, &message_id, born_ms);
        let batch = batch.map_err(|_| Unavailable::TooLarge)?;
        let sent = Sent::of(half, born_ms);
        self.partitions.room(batch.len()).await;
        let mut knows_better = false;
        loop {
            let (sent_again, batch) = (Box::new(sent.clone()), batch.clone());
            let told = |reply| Told::Send { sent: sent_again, batch, knows_better, reply };
            match self.ask(told).await?? {
                SendAnswer::Stored(id) => {
                    return Ok(HalfSent { id, message_id, born_ms, duplicate: false });
                }
                SendAnswer::Before(half) => {
                    let Some(born_ms) = self.same_as(half, &sent).await else {
                        // Another message, whose id has the same hash, or one that is gone.
                        knows_better = true;
                        continue;
                    };
                    let id = TransactionId { half, born_ms };
                    return Ok(HalfSent { id, message_id, born_ms, duplicate: true });
                }
            }
        }
    }

    /// When the half at an offset was born, if it is the same message.
    async fn same_as(&self, half: Offset, sent: &Sent) -> Option<i64> {
        match payload::half_at(&self.partitions, half).await {
            Ok(before) if before.sent.is_same_message(sent) => Some(before.sent.born_ms),
            Ok(_) | Err(_) => None,
        }
    }

    /// Commits a half message or rolls it back, however often it is asked to: the same decision
    /// again answers as it did the first time. `group`, if given, must be the half's. Answered when
    /// the end is durable; a committed message is readable then.
    ///
    /// # Errors
    /// It has not got this end. [`EndError::Ended`] says which one it has instead.
    pub(crate) async fn end(
        &self,
        id: TransactionId,
        decision: Decision,
        by: Ender,
        group: Option<String>,
    ) -> Result<End, EndError> {
        let batch = match decision {
            Decision::Rollback => None,
            // That it cannot be read only counts if it is pending.
            Decision::Commit => self.batch_of(id).await,
        };
        if let Some(batch) = &batch {
            self.partitions.room(batch.len()).await;
        }
        let told = |reply| Told::End { id, decision, by, group, batch, reply };
        match self.ask(told).await?? {
            EndAnswer::Now(end) => Ok(end),
            EndAnswer::Before(at) => {
                let end = self.end_at(id, at).await.map_err(EndError::from)?;
                match (decision, &end.outcome) {
                    (Decision::Commit, Outcome::Committed { .. })
                    | (Decision::Rollback, Outcome::RolledBack { .. }) => Ok(end),
                    (
                        Decision::Commit | Decision::Rollback,
                        Outcome::Committed { .. }
                        | Outcome::RolledBack { .. }
                        | Outcome::Expired { .. },
                    ) => Err(EndError::Ended(end)),
                }
            }
        }
    }

    /// What a commit of a half appends, compressed as its topic says; none if it cannot be read.
    async fn batch_of(&self, id: TransactionId) -> Option<Bytes> {
        let HalfRecord { sent, batch } = payload::half(&self.partitions, id).await.ok()?;
        let target = self.targets.target(sent.topic_id, sent.partition);
        match target.and_then(|target| target.compression) {
            Some(compression) => payload::compressed(&batch, compression).ok(),
            None => Some(batch),
        }
    }

    /// Asks on behalf of a live producer of `group` which of its halves it is to decide: at most
    /// `max` (and [`CHECKS_MAX`]) whose check is due, the longest overdue first. Waits for the first
    /// one up to `wait`; none then. What is answered counts as checked and is asked about again
    /// after the interval; if the call is dropped before, it does not count. Whoever cannot deliver
    /// a check gives it back by [`Halves::return_check`].
    ///
    /// # Errors
    /// Nothing was handed out.
    pub(crate) async fn poll_checks(
        &self,
        group: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Check>, Unavailable> {
        let group: Arc<str> = Arc::from(group);
        let max = max.clamp(1, CHECKS_MAX);
        let deadline = self.env.clock.monotonic().saturating_add(wait);
        let mut handed: Handed =
            self.ask(|reply| Told::Poll { group, poll: Poll { max, deadline, reply } }).await??;
        let mut checks = Vec::with_capacity(handed.checks().len());
        for due in handed.checks().to_vec() {
            match self.message_of(due.id).await {
                Ok(half) => checks.push(Check { number: due.number, half }),
                // The others are not held up. It is asked about again after the interval.
                Err(error) => {
                    tracing::error!(transaction_id = %due.id, %error, "a half message's check fails");
                    handed.postpone(due);
                }
            }
        }
        handed.delivered();
        Ok(checks)
    }

    /// Gives a check back that reached no producer: it does not count, and is due again at once.
    ///
    /// # Errors
    /// It stays counted.
    pub(crate) async fn return_check(
        &self,
        id: TransactionId,
        number: u16,
    ) -> Result<(), CheckError> {
        let check = DueCheck { id, number };
        let told = |reply| Told::Return { check, postponed: false, reply: Some(reply) };
        self.ask(told).await?.map_err(CheckError::from)
    }

    /// Makes a check due now, also during the immunity.
    ///
    /// # Errors
    /// It is not.
    pub(crate) async fn check_now(&self, id: TransactionId) -> Result<(), CheckError> {
        self.ask(|reply| Told::CheckNow { id, reply }).await?.map_err(CheckError::from)
    }

    /// Pending halves from `from` on, oldest first, at most `max`. A page may be short, even empty,
    /// while there are more: go on where it says.
    ///
    /// # Errors
    /// Nothing is known at this moment.
    pub(crate) async fn list(
        &self,
        filter: HalfFilter,
        from: Option<TransactionId>,
        max: usize,
    ) -> Result<HalfPage, Unavailable> {
        self.ask(|reply| Told::List { filter, from, max, reply }).await?
    }

    /// Where a half message stands: pending, or how it ended.
    ///
    /// # Errors
    /// It is not known, or its end cannot be read.
    pub(crate) async fn get(&self, id: TransactionId) -> Result<HalfState, ShowError> {
        match self.ask(|reply| Told::Get { id, reply }).await?? {
            Ok(pending) => Ok(HalfState::Pending(pending)),
            Err(Blocked::Ended(at)) => {
                Ok(HalfState::Ended(self.end_at(id, at).await.map_err(ShowError::from)?))
            }
            Err(Blocked::Unknown | Blocked::OtherGroup) => Err(ShowError::Unknown),
        }
    }

    /// What a half message holds, as long as its record is there: at least until ten minutes after
    /// its end.
    ///
    /// # Errors
    /// It is not known, or cannot be read.
    pub(crate) async fn message(&self, id: TransactionId) -> Result<HalfMessage, ShowError> {
        // What is not known to the table is not shown, whatever is left of it in the log.
        match self.ask(|reply| Told::Get { id, reply }).await?? {
            Ok(_) | Err(Blocked::Ended(_)) => Ok(self.message_of(id).await?),
            Err(Blocked::Unknown | Blocked::OtherGroup) => Err(ShowError::Unknown),
        }
    }

    /// How many halves are pending, and how old they are.
    ///
    /// # Errors
    /// Nothing is known at this moment.
    pub(crate) async fn counts(&self) -> Result<HalfCounts, Unavailable> {
        self.ask(|reply| Told::Count { reply }).await?
    }

    /// Ends the task: what is being written is waited for and answered, everything else refused.
    pub(crate) async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inbox.send(Told::Stop { done }).await.is_ok() {
            let _ended = stopped.await;
        }
    }

    async fn ask<T>(
        &self,
        told: impl FnOnce(oneshot::Sender<T>) -> Told,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        match self.inbox.try_send(told(reply)) {
            Ok(()) => answer.await.map_err(|_| Unavailable::Stopping),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Unavailable::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unavailable::Stopping),
        }
    }

    async fn message_of(&self, id: TransactionId) -> Result<HalfMessage, ShowError> {
        let record = payload::half(&self.partitions, id).await?;
        Ok(payload::message_of(id, record)?)
    }

    /// What the event at `at` says of the half that it ended.
    async fn end_at(&self, id: TransactionId, at: Offset) -> Result<End, ReadFault> {
        let sent = payload::half(&self.partitions, id).await?.sent;
        let (at_ms, outcome) = match payload::event(&self.partitions, at).await? {
            Event::Committed { at_ms, by, placed, .. } => {
                let offset = payload::find_placed(&self.partitions, placed).await;
                let (topic_id, partition) = (sent.topic_id, sent.partition);
                (at_ms, Outcome::Committed { by, topic_id, partition, offset })
            }
            Event::RolledBack { at_ms, by, .. } => (at_ms, Outcome::RolledBack { by }),
            Event::Expired { at_ms, reason, checks, .. } => {
                (at_ms, Outcome::Expired { reason, checks })
            }
            Event::Sent { .. }
            | Event::Checked { .. }
            | Event::CheckReturned { .. }
            | Event::CheckAsked { .. } => return Err(ReadFault::Unreadable),
        };
        Ok(End { at_ms, outcome })
    }
}

fn check(half: &SendHalf) -> Result<(), SendError> {
    if half.group.is_empty() {
        return Err(SendError::NoGroup);
    }
    let id = half.message_id.as_deref().unwrap_or_default();
    let names = [("group", &half.group[..]), ("topic's name", &half.topic), ("message id", id)];
    if let Some((what, name)) = names.iter().find(|(_, name)| name.len() > NAME_BYTES_MAX) {
        return Err(SendError::NameTooLong { what, got: name.len() });
    }
    if half.immunity_ms > IMMUNITY_MS_MAX {
        return Err(SendError::Immunity { got: half.immunity_ms });
    }
    Ok(())
}

impl From<ReadFault> for EndError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Gone => Self::Unknown,
            ReadFault::Unreadable => Self::Unreadable,
        }
    }
}

impl From<ReadFault> for ShowError {
    fn from(fault: ReadFault) -> Self {
        match fault {
            ReadFault::Gone => Self::Unknown,
            ReadFault::Unreadable => Self::Unreadable,
        }
    }
}

impl From<CheckBlocked> for CheckError {
    fn from(blocked: CheckBlocked) -> Self {
        match blocked {
            CheckBlocked::Half(Blocked::Unknown | Blocked::OtherGroup) => Self::Unknown,
            CheckBlocked::Half(Blocked::Ended(_)) => Self::Ended,
            CheckBlocked::NotTheLast => Self::NotTheLast,
            CheckBlocked::UsedUp => Self::UsedUp,
        }
    }
}

impl From<CheckRefused> for CheckError {
    fn from(refused: CheckRefused) -> Self {
        match refused {
            CheckRefused::Blocked(blocked) => blocked.into(),
            CheckRefused::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
