//! [`GroupCoordinator`]: the handle through which everybody else speaks to the groups.
//!
//! A call puts the request into the inbox of the task that owns the group and returns a [`Ticket`],
//! so order is fixed when the call returns; awaiting the ticket is the second stage. Inboxes are
//! bounded: a full one refuses with an error that clients retry. Nothing here holds state of groups.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::error::GroupError;
use super::log::GroupLog;
use super::request::{
    CommitReply, CommitRequest, DeleteOffsetsRequest, DeletedTopic, DescribedGroup, FetchReply,
    FetchRequest, HeartbeatReply, HeartbeatRequest, JoinReply, JoinRequest, LeaveReply,
    LeaveRequest, ListFilter, ListedGroup, SyncReply, SyncRequest,
};
use super::step::{Reply, Request};
use super::worker::{Message, Worker};
use crate::config::GroupConfig;
use crate::env::{Env, Rng};
use crate::model::TopicId;
use crate::partition::partition_for;

/// Tasks that share the partitions of `__consumer_offsets` among them.
const TASKS_MAX: usize = 4;
/// Requests that may wait for one task.
const INBOX_MAX: usize = 16_384;

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct GroupCoordinator {
    /// One inbox per task; a partition's is found by its number.
    inboxes: Arc<[mpsc::Sender<Message>]>,
    partitions: Arc<AtomicI32>,
    rng: Arc<dyn Rng>,
}

impl fmt::Debug for GroupCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCoordinator").field("partitions", &self.count()).finish()
    }
}

impl GroupCoordinator {
    /// Starts the tasks, on the current tokio runtime. `partitions` is how many
    /// `__consumer_offsets` really has; the configuration only says how many a new one gets.
    /// No group is coordinated before [`GroupCoordinator::lead`].
    /// When all handles are dropped the tasks end.
    #[must_use]
    pub fn start(env: &Env, config: GroupConfig, log: Arc<dyn GroupLog>, partitions: i32) -> Self {
        let tasks = usize::try_from(partitions).unwrap_or(1).clamp(1, TASKS_MAX);
        let inboxes = (0..tasks).map(|_| {
            let (inbox, messages) = mpsc::channel(INBOX_MAX);
            let worker =
                Worker::new(env.clone(), config, Arc::clone(&log), inbox.downgrade(), messages);
            drop(env.spawner.critical("group coordinator", worker.run()));
            inbox
        });
        let partitions = Arc::new(AtomicI32::new(partitions));
        Self { inboxes: inboxes.collect(), partitions, rng: Arc::clone(&env.rng) }
    }

    /// How many partitions `__consumer_offsets` really has, once it exists: another broker may have made
    /// it, by another configuration. To be told before any of them is led.
    pub fn spread_over(&self, partitions: i32) {
        self.partitions.store(partitions, Ordering::Release);
    }

    fn count(&self) -> i32 {
        self.partitions.load(Ordering::Acquire)
    }

    /// The partition of `__consumer_offsets` that a group belongs to.
    #[must_use]
    pub fn partition_for(&self, group_id: &str) -> i32 {
        partition_for(group_id, self.count())
    }

    /// Begins to coordinate the groups of a partition, which this broker leads now. Until its
    /// records are read back, clients are told to wait.
    pub async fn lead(&self, partition: i32) {
        // A task that has ended is one whose broker is stopping.
        let _ended = self.inbox(partition).send(Message::Lead { partition }).await;
    }

    /// Stops coordinating the groups of a partition, which this broker no longer leads.
    pub async fn resign(&self, partition: i32) {
        let _ended = self.inbox(partition).send(Message::Resign { partition }).await;
    }

    /// Drops the offsets of a deleted topic from all groups.
    pub async fn topic_deleted(&self, name: &str, topic_id: TopicId) {
        let name: Arc<str> = Arc::from(name);
        for inbox in self.inboxes.iter() {
            let message = Message::TopicDeleted { name: Arc::clone(&name), topic_id };
            let _ended = inbox.send(message).await;
        }
    }

    /// Ends all tasks: what is being written is waited for and answered, everything else refused.
    pub async fn stop(&self) {
        for inbox in self.inboxes.iter() {
            let (done, stopped) = oneshot::channel();
            if inbox.send(Message::Stop { done }).await.is_ok() {
                let _ended = stopped.await;
            }
        }
    }

    /// JoinGroup. Answered when the group's next generation begins.
    pub fn join(&self, request: JoinRequest) -> Ticket<JoinReply> {
        let fresh = if request.member_id.is_empty() { self.rng.next_uuid() } else { Uuid::nil() };
        self.submit(Request::Join(request, fresh), |reply| match reply {
            Reply::Join(reply) => Some(reply),
            _ => None,
        })
    }

    /// SyncGroup. Answered when the leader's assignment is durable.
    pub fn sync(&self, request: SyncRequest) -> Ticket<SyncReply> {
        self.submit(Request::Sync(request), |reply| match reply {
            Reply::Sync(reply) => Some(reply),
            _ => None,
        })
    }

    /// Heartbeat. Answered at once.
    pub fn heartbeat(&self, request: HeartbeatRequest) -> Ticket<HeartbeatReply> {
        self.submit(Request::Heartbeat(request), |reply| match reply {
            Reply::Heartbeat(reply) => Some(reply),
            _ => None,
        })
    }

    /// LeaveGroup. Answered at once.
    pub fn leave(&self, request: LeaveRequest) -> Ticket<LeaveReply> {
        self.submit(Request::Leave(request), |reply| match reply {
            Reply::Leave(reply) => Some(reply),
            _ => None,
        })
    }

    /// OffsetCommit. Answered when the offsets are durable.
    pub fn commit(&self, request: CommitRequest) -> Ticket<CommitReply> {
        self.submit(Request::Commit(request), |reply| match reply {
            Reply::Commit(reply) => Some(reply),
            _ => None,
        })
    }

    /// Whether offsets may join a transaction (TxnOffsetCommit, KIP-447). Writes nothing.
    pub fn check_for_transaction(&self, request: CommitRequest) -> Ticket<CommitReply> {
        self.submit(Request::CheckForTransaction(request), |reply| match reply {
            Reply::Commit(reply) => Some(reply),
            _ => None,
        })
    }

    /// Offsets of a transaction that is committed: whoever the group's members are by now.
    pub fn commit_of_transaction(&self, request: CommitRequest) -> Ticket<CommitReply> {
        self.submit(Request::CommitOfTransaction(request), |reply| match reply {
            Reply::Commit(reply) => Some(reply),
            _ => None,
        })
    }

    /// OffsetFetch for one group. Answered at once, or, if it requires stable offsets, when the
    /// commits before it are durable.
    pub fn fetch(&self, request: FetchRequest) -> Ticket<FetchReply> {
        self.submit(Request::Fetch(request), |reply| match reply {
            Reply::Fetch(reply) => Some(reply),
            _ => None,
        })
    }

    /// DescribeGroups, for one group. `GroupIdNotFound` is shown as a group in state `Dead`.
    pub fn describe(&self, group_id: String) -> Ticket<Result<DescribedGroup, GroupError>> {
        self.submit(Request::Describe(group_id), |reply| match reply {
            Reply::Describe(reply) => Some(reply),
            _ => None,
        })
    }

    /// DeleteGroups, for one group. Answered when the removal is durable.
    pub fn delete(&self, group_id: String) -> Ticket<Result<(), GroupError>> {
        self.submit(Request::Delete(group_id), |reply| match reply {
            Reply::Delete(reply) => Some(reply),
            _ => None,
        })
    }

    /// OffsetDelete. Answered when the removal is durable.
    pub fn delete_offsets(
        &self,
        request: DeleteOffsetsRequest,
    ) -> Ticket<Result<Vec<DeletedTopic>, GroupError>> {
        self.submit(Request::DeleteOffsets(request), |reply| match reply {
            Reply::DeleteOffsets(reply) => Some(reply),
            _ => None,
        })
    }

    /// ListGroups: every group this broker coordinates that passes the filter.
    ///
    /// # Errors
    /// A partition is still being loaded, or the broker stops.
    pub async fn list(&self, filter: ListFilter) -> Result<Vec<ListedGroup>, GroupError> {
        let mut listed = Vec::new();
        for inbox in self.inboxes.iter() {
            let (reply, groups) = oneshot::channel();
            let message = Message::List { filter: filter.clone(), reply };
            let ended = |_| GroupError::CoordinatorNotAvailable;
            inbox.send(message).await.map_err(|_| GroupError::CoordinatorNotAvailable)?;
            listed.extend(groups.await.map_err(ended)??);
        }
        Ok(listed)
    }

    fn submit<T>(&self, request: Request, pick: fn(Reply) -> Option<T>) -> Ticket<T> {
        let partition = self.partition_for(request.group_id());
        let stopped = request.refused(GroupError::CoordinatorNotAvailable);
        let (reply, answer) = oneshot::channel();
        let stage =
            match self.inbox(partition).try_send(Message::Request { partition, request, reply }) {
                Ok(()) => Stage::Waiting { answer, stopped },
                Err(mpsc::error::TrySendError::Full(Message::Request { request, .. })) => {
                    Stage::Ready(request.overloaded())
                }
                Err(_) => Stage::Ready(stopped),
            };
        Ticket { stage, pick }
    }

    fn inbox(&self, partition: i32) -> &mpsc::Sender<Message> {
        let index = usize::try_from(partition).unwrap_or(0) % self.inboxes.len();
        let Some(inbox) = self.inboxes.get(index) else {
            unreachable!("the index is a remainder of the count")
        };
        inbox
    }
}

/// A request that is in its place; await it for the answer. Dropping it forgets the answer only.
#[must_use = "the answer comes when the ticket is awaited"]
pub struct Ticket<T> {
    stage: Stage,
    pick: fn(Reply) -> Option<T>,
}

enum Stage {
    Waiting {
        answer: oneshot::Receiver<Reply>,
        /// The answer if the task ends first.
        stopped: Reply,
    },
    Ready(Reply),
    Taken,
}

impl<T> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

impl<T> Future for Ticket<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let answered = match &mut self.stage {
            Stage::Waiting { answer, .. } => match Pin::new(answer).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answered) => answered.ok(),
            },
            Stage::Ready(_) | Stage::Taken => None,
        };
        let reply = match (std::mem::replace(&mut self.stage, Stage::Taken), answered) {
            (Stage::Waiting { .. }, Some(reply)) | (Stage::Ready(reply), _) => reply,
            (Stage::Waiting { stopped, .. }, None) => stopped,
            (Stage::Taken, _) => unreachable!("a ticket is not polled after it was answered"),
        };
        let Some(reply) = (self.pick)(reply) else {
            unreachable!("every request is answered by its own kind of reply")
        };
        Poll::Ready(reply)
    }
}
