//! [`Deliveries`]: the handle through which the floors above receive, acknowledge and administer.
//!
//! A call puts a request into the inbox of the task that owns the state and waits for the answer,
//! which comes when the log is durable up to what it says. Nothing here holds state.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::catalog::Catalog;
use super::decide::Verdict;
use super::error::{LeaseError, ReceiveError, ResetError, Unavailable};
use super::look::{Look, look};
use super::owner::{Input, Names, Owner};
use super::receipt::Receipt;
use super::request::{Delivered, DeliveryTotals, GroupSummary, Lag, Progress, ReceiveRequest};
use super::settings::{INVISIBLE_MS_MAX, INVISIBLE_MS_MIN, RECEIVE_MAX, RECEIVE_MAX_CEILING};
use crate::env::Env;
use crate::model::TopicId;
use crate::partition::Partitions;

/// Requests that may wait for the task.
const INBOX_MAX: usize = 16_384;
/// Longest name of a group, in bytes.
const GROUP_SIZE_BYTES_MAX: usize = 255;

/// The deliveries of the shard. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Deliveries {
    pub(super) inbox: mpsc::Sender<Input>,
    pub(super) env: Env,
    pub(super) partitions: Partitions,
    pub(super) catalog: Arc<dyn Catalog>,
    /// The groups there are; none while they are being read back.
    names: watch::Receiver<Option<Names>>,
    receive_max: usize,
}

impl std::fmt::Debug for Deliveries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deliveries").field("receive_max", &self.receive_max).finish_non_exhaustive()
    }
}

impl Deliveries {
    /// Starts the task, on the current tokio runtime. It reads the state back first; until then
    /// every call is refused as loading. It ends when all handles are dropped, or by
    /// [`Deliveries::stop`].
    pub(crate) fn start(env: &Env, partitions: Partitions, catalog: Arc<dyn Catalog>) -> Self {
        let (inbox, inputs) = mpsc::channel(INBOX_MAX);
        let (owned, known) = (partitions.clone(), Arc::clone(&catalog));
        let (told, names) = watch::channel(None);
        let owner = Owner::new(env.clone(), owned, known, told, inbox.downgrade(), inputs);
        drop(env.spawner.critical("deliveries", owner.run()));
        Self { inbox, env: env.clone(), partitions, catalog, names, receive_max: RECEIVE_MAX }
    }

    /// Resolves when the state is read back, or the task has ended. Where the log has lost something
    /// nothing may be written before: what comes at offsets that were used could not be told from
    /// what is done.
    pub(crate) async fn loaded(&self) {
        // An error says that it has ended.
        drop(self.names.clone().wait_for(Option::is_some).await);
    }

    /// Lets one receive ask for more than 32 messages, up to 1,000.
    pub(crate) fn with_receive_max(self, receive_max: usize) -> Self {
        Self { receive_max: receive_max.clamp(1, RECEIVE_MAX_CEILING), ..self }
    }

    /// Writes what is decided and ends the task. Whoever waits is refused.
    pub(crate) async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.inbox.send(Input::Stop { done }).await.is_ok() {
            let _ended = ended.await;
        }
    }

    pub(super) async fn ask<T>(
        &self,
        input: impl FnOnce(oneshot::Sender<T>) -> Input,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(input(reply)).await.map_err(|_| Unavailable::Stopped)?;
        answer.await.map_err(|_| Unavailable::Stopped)
    }

    /// Leases messages of a topic to a consumer of a group, at least one, or none when `wait` is
    /// over. The leases are durable before they are handed out. Dropping the future gives the
    /// place in line up.
    ///
    /// # Errors
    /// Nothing was leased.
    pub(crate) async fn receive(
        &self,
        request: ReceiveRequest,
    ) -> Result<Vec<Delivered>, ReceiveError> {
        let got_ms = request.invisible_ms;
        if !(1..=GROUP_SIZE_BYTES_MAX).contains(&request.group.len()) {
            return Err(ReceiveError::GroupName);
        }
        if !(INVISIBLE_MS_MIN..=INVISIBLE_MS_MAX).contains(&got_ms) {
            return Err(ReceiveError::Invisible { got_ms });
        }
        if !(1..=self.receive_max).contains(&request.max) {
            return Err(ReceiveError::Count { got: request.max, max: self.receive_max });
        }
        self.ask(|reply| Input::Receive { request, reply }).await?
    }

    /// Messages are done. Each handle has its own answer, in order. A lease that ran out counts as
    /// long as nobody else got the message; what is done already succeeds again.
    pub(crate) async fn ack(&self, group: &str, handles: &[&str]) -> Vec<Result<(), LeaseError>> {
        let verdicts = handles.iter().map(|handle| (*handle, Verdict::Ack));
        self.judge(group, verdicts.collect()).await
    }

    /// A message failed: it is visible again after `delay_ms`, or else after what the group's
    /// back-off says for the attempts so far. After the last attempt it becomes a dead letter.
    ///
    /// # Errors
    /// The handle does not hold any more; see [`LeaseError`].
    pub(crate) async fn nack(
        &self,
        group: &str,
        handle: &str,
        delay_ms: Option<i64>,
    ) -> Result<(), LeaseError> {
        self.judge_one(group, handle, Verdict::Nack { delay_ms }).await
    }

    /// A message takes longer: it is invisible for so long from now on. Returns the handle to use
    /// from now on, which names the same attempt as the old one.
    ///
    /// # Errors
    /// The handle does not hold any more, or the time is out of bounds.
    pub(crate) async fn change_invisible(
        &self,
        group: &str,
        handle: &str,
        invisible_ms: i64,
    ) -> Result<String, LeaseError> {
        self.judge_one(group, handle, Verdict::Extend { invisible_ms }).await?;
        Ok(handle.to_owned())
    }

    /// A message is to become a dead letter at once. That is durable when this returns; the copy
    /// follows. Repeating it succeeds.
    ///
    /// # Errors
    /// The handle does not hold any more, or the reason is too long.
    pub(crate) async fn forward_to_dead_letter(
        &self,
        group: &str,
        handle: &str,
        reason: Option<&str>,
    ) -> Result<(), LeaseError> {
        let reason = reason.filter(|reason| !reason.is_empty()).map(Arc::from);
        self.judge_one(group, handle, Verdict::DeadLetter { reason }).await
    }

    async fn judge_one(
        &self,
        group: &str,
        handle: &str,
        verdict: Verdict,
    ) -> Result<(), LeaseError> {
        let mut answers = self.judge(group, vec![(handle, verdict)]).await;
        answers.pop().unwrap_or(Err(Unavailable::Stopped.into()))
    }

    async fn judge(
        &self,
        group: &str,
        verdicts: Vec<(&str, Verdict)>,
    ) -> Vec<Result<(), LeaseError>> {
        let mut items = Vec::new();
        let decode = |(handle, verdict)| match Receipt::decode(handle) {
            Ok(receipt) => {
                items.push((receipt, verdict));
                Ok(())
            }
            Err(error) => Err(LeaseError::Receipt(error)),
        };
        let read: Vec<Result<(), LeaseError>> = verdicts.into_iter().map(decode).collect();
        if items.is_empty() {
            return read;
        }
        let group = Arc::from(group);
        let judged = self.ask(|reply| Input::Judge { group, items, reply }).await;
        let mut judged = judged.unwrap_or_default().into_iter();
        let answer = |read: Result<(), LeaseError>| {
            read.and_then(|()| judged.next().unwrap_or(Err(Unavailable::Stopped.into())))
        };
        read.into_iter().map(answer).collect()
    }

    /// All groups that have read anything, the reserved ones of dead letters among them.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) async fn groups(&self) -> Result<Vec<GroupSummary>, Unavailable> {
        self.ask(|reply| Input::Groups { reply }).await?
    }

    /// What happened to messages since the start.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) async fn totals(&self) -> Result<DeliveryTotals, Unavailable> {
        self.ask(|reply| Input::Totals { reply }).await?
    }

    /// Whether messages were delivered to a group of this name, or it was reset to receive some. The
    /// task is not asked: this is on the way of every commit of Kafka's groups.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) fn is_used(&self, group: &str) -> Result<bool, Unavailable> {
        if self.names.has_changed().is_err() {
            return Err(Unavailable::Stopped);
        }
        let names = self.names.borrow();
        names.as_ref().map(|names| names.contains(group)).ok_or(Unavailable::Loading)
    }

    /// How far a group is in each partition it reads; `None` if there is no such group.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) async fn progress(&self, group: &str) -> Result<Option<Vec<Progress>>, Unavailable> {
        let group = Arc::from(group);
        self.ask(|reply| Input::Progress { group, reply }).await?
    }

    /// As [`Deliveries::progress`], with the age of the oldest message that is not done.
    ///
    /// # Errors
    /// Nothing is known at the moment.
    pub(crate) async fn lag(&self, group: &str) -> Result<Option<Vec<Lag>>, Unavailable> {
        let Some(progress) = self.progress(group).await? else { return Ok(None) };
        let mut lag = Vec::with_capacity(progress.len());
        for progress in progress {
            let age_ms = self.age_ms(&progress).await;
            lag.push(Lag { progress, age_ms });
        }
        Ok(Some(lag))
    }

    async fn age_ms(&self, progress: &Progress) -> Option<i64> {
        if progress.lag == 0 {
            return None;
        }
        let queue = self.catalog.topic(progress.topic)?.queue(progress.partition)?;
        let asked = Look { queue, again: vec![progress.start_offset], scan: None };
        let looked = look(&self.env, &self.partitions, asked).await.ok()?;
        let (_, message) = looked.again.into_iter().next()?;
        let now_ms = self.env.clock.wall_ms();
        message.map(|message| now_ms.saturating_sub(message.timestamp_ms).max(0))
    }

    /// Has a group go on elsewhere in partitions of a topic: all its leases there are void. An
    /// offset is moved as close as the log allows; partitions that are not named stay. A group
    /// that has read nothing yet begins there.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) async fn reset(
        &self,
        group: &str,
        topic: TopicId,
        mut offsets: Vec<(i32, i64)>,
    ) -> Result<(), ResetError> {
        if !(1..=GROUP_SIZE_BYTES_MAX).contains(&group.len()) {
            return Err(ResetError::GroupName);
        }
        let view = self.catalog.topic(topic).ok_or(ResetError::UnknownTopic)?;
        for (partition, offset) in &mut offsets {
            let unknown = ResetError::UnknownPartition { partition: *partition };
            let marks = self.partitions.offsets(view.queue(*partition).ok_or(unknown)?);
            let (first, end) = (marks.log_start.0, marks.high_watermark.0);
            *offset = (*offset).clamp(first, end.max(first));
        }
        let group = Arc::from(group);
        Ok(self.ask(|reply| Input::Reset { group, topic, offsets, reply }).await??)
    }

    /// Forgets a group; says whether there was one. What its dead letters are to others stays.
    ///
    /// # Errors
    /// The group is as before.
    pub(crate) async fn delete_group(&self, group: &str) -> Result<bool, Unavailable> {
        let group = Arc::from(group);
        self.ask(|reply| Input::DeleteGroup { group, reply }).await?
    }

    /// Forgets what groups did with a topic, which is deleted now.
    ///
    /// # Errors
    /// Nothing was forgotten; a later call does.
    pub(crate) async fn topic_deleted(&self, topic: TopicId) -> Result<(), Unavailable> {
        self.ask(|reply| Input::TopicDeleted { topic, reply }).await?
    }
}
