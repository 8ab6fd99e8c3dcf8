//! A replicated shard that this broker leads, as those see it who append to it and read from it.
//!
//! Published by replication when the broker begins to lead, and taken back before the log is closed.
//! Whoever still has it then is refused, and so is whoever waits: nobody is told that a record is safe
//! after that, nor before it is.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use braid_protocol::records::BatchHeader;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::partitions::Partitions;
use crate::env::Env;
use crate::model::{LeaderEpoch, Offset, Position, QueueId, ShardId};
use crate::store::{AppendError, Appended, LogFailed, LogHandle, ReadError};

/// What holds of a leader at one moment, for those who append and wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many replicas are in sync, as the controller is known to have agreed.
    pub in_sync: usize,
    /// Until when it may act, in milliseconds of the monotonic clock.
    pub leased_until_ms: u64,
    /// It leads no more, for good.
    pub is_over: bool,
}

/// Why an append is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It does not lead any more, or cannot be sure to (Kafka's error 6).
    #[error("the broker does not lead the shard")]
    NotLeader,
    /// Fewer replicas are in sync than the topic wants for acks=all (Kafka's error 19).
    #[error("{in_sync} replicas are in sync, fewer than {wanted}")]
    TooFewInSync {
        /// So many are.
        in_sync: usize,
        /// So many are wanted.
        wanted: usize,
    },
}

/// What has become of an append that waits to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Not known yet.
    Pending,
    /// It is committed.
    Committed,
    /// It is in the log, and too few replicas are in sync for what the topic wants (error 20).
    TooFewInSync,
    /// It may be lost: the leader does not lead any more.
    NotLeader,
}

impl Standing {
    /// Whether it may take and acknowledge anything.
    #[must_use]
    pub fn leads(self, now_ms: u64) -> bool {
        !self.is_over && now_ms < self.leased_until_ms
    }

    /// Whether an append is taken. `wanted` is how many replicas in sync its topic wants, or nothing
    /// if its producer does not wait for them.
    ///
    /// # Errors
    /// See [`NotAdmitted`].
    pub fn admit(self, now_ms: u64, wanted: Option<usize>) -> Result<(), NotAdmitted> {
        let in_sync = self.in_sync;
        if !self.leads(now_ms) {
            return Err(NotAdmitted::NotLeader);
        }
        match wanted {
            Some(wanted) if in_sync < wanted => Err(NotAdmitted::TooFewInSync { in_sync, wanted }),
            Some(_) | None => Ok(()),
        }
    }

    /// What has become of an append that ended at a position, whose topic wants so many replicas.
    #[must_use]
    pub fn settled(
        self,
        now_ms: u64,
        committed: Position,
        end: Position,
        wanted: usize,
    ) -> Settled {
        if !self.leads(now_ms) {
            Settled::NotLeader
        } else if self.in_sync < wanted {
            Settled::TooFewInSync
        } else if committed >= end {
            Settled::Committed
        } else {
            Settled::Pending
        }
    }
}

/// What a producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// The leader's disk.
    Leader,
    /// The disks of all in sync, which are to be so many at least.
    InSync(usize),
}

/// Why an append is not acknowledged though it is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSettled {
    #[error("the broker leads the shard no more, and what was appended last may be lost")]
    NotLeader,
    #[error("too few replicas are in sync by now")]
    TooFewInSync,
    #[error("not all replicas in sync had it in time")]
    TimedOut,
    #[error("the log failed")]
    Failed,
}

/// Why a batch is not in the log of a replicated shard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedAppendError {
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// See the module.
pub(crate) struct LedShard {
    epoch: LeaderEpoch,
    /// Behind the frame that began the epoch.
    begun: Position,
    log: LogHandle,
    partitions: Partitions,
    env: Env,
    standing: watch::Sender<Standing>,
    /// Told when something was appended.
    news: Notify,
}

impl std::fmt::Debug for LedShard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedShard").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl LedShard {
    pub(crate) fn new(log: LogHandle, env: Env, epoch: LeaderEpoch, standing: Standing) -> Self {
        Self {
            epoch,
            begun: log.appended(),
            partitions: Partitions::new(log.clone(), env.clone()).in_epoch(epoch),
            log,
            env,
            standing: watch::Sender::new(standing),
            news: Notify::new(),
        }
    }

    /// The term in which this broker leads.
    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Whether it knows all that was committed before it: until then high watermarks may lie below
    /// what readers have seen (KIP-207).
    pub(crate) fn knows_committed(&self) -> bool {
        self.log.visible() >= self.begun
    }

    /// The shard's partitions. What is appended through them is not checked against the standing, and
    /// has to be told by [`LedShard::appended`].
    pub(crate) fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// What holds from now on. Whoever moves the committed mark says so before.
    pub(crate) fn stand(&self, standing: Standing) {
        self.standing.send_if_modified(|known| {
            let next = Standing { is_over: known.is_over || standing.is_over, ..standing };
            std::mem::replace(known, next) != next
        });
    }

    /// Leads no more.
    pub(crate) fn end(&self) {
        self.standing.send_modify(|standing| standing.is_over = true);
    }

    /// Whether it may take and acknowledge anything.
    pub(crate) fn leads(&self) -> bool {
        self.standing.borrow().leads(now_ms(&self.env))
    }

    /// Something was appended to its log.
    pub(crate) fn appended(&self) {
        self.news.notify_one();
    }

    /// Resolves when something was appended since the last time. For its leader alone.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Appends a client's validated batch, if it is taken.
    pub(crate) fn append(
        &self,
        wall_ms: i64,
        queue: QueueId,
        (batch, header): (&[u8], &BatchHeader),
        acks: Acks,
    ) -> Result<Appended, LedAppendError> {
        let wanted = match acks {
            Acks::Leader => None,
            Acks::InSync(wanted) => Some(wanted),
        };
        self.standing.borrow().admit(now_ms(&self.env), wanted)?;
        let appended = self.partitions.append(wall_ms, queue, batch, header)?;
        self.appended();
        Ok(appended)
    }

    /// What has become of an append, if that is known by now.
    pub(crate) fn settled(&self, end: Position, acks: Acks) -> Option<Result<(), NotSettled>> {
        // Read in this order: the standing is changed before the mark that goes with it.
        let (durable, visible) = (self.log.durable(), self.log.visible());
        let standing = *self.standing.borrow();
        let (mark, wanted) = match acks {
            Acks::Leader => (durable, 0),
            Acks::InSync(wanted) => (visible, wanted),
        };
        match standing.settled(now_ms(&self.env), mark, end, wanted) {
            Settled::Pending => None,
            Settled::Committed => Some(Ok(())),
            Settled::TooFewInSync => Some(Err(NotSettled::TooFewInSync)),
            Settled::NotLeader => Some(Err(NotSettled::NotLeader)),
        }
    }

    /// Waits until it is known what has become of an append; for other replicas no longer than to the
    /// deadline. Dropping it loses nothing.
    pub(crate) async fn settle(
        &self,
        end: Position,
        acks: Acks,
        deadline: Instant,
    ) -> Result<(), NotSettled> {
        let mut changes = self.standing.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(settled) = self.settled(end, acks) {
                return settled;
            }
            let (reached, waits_for_others) = match acks {
                Acks::Leader => (self.log.wait_durable(end), false),
                Acks::InSync(_) => (self.log.wait_committed(end), true),
            };
            tokio::select! {
                biased;
                reached = reached => match reached {
                    Ok(()) => {}
                    Err(LogFailed::Closed) => return Err(NotSettled::NotLeader),
                    Err(LogFailed::Io(_)) => return Err(NotSettled::Failed),
                },
                // The sender is this shard's own.
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(deadline), if waits_for_others => {
                    return Err(NotSettled::TimedOut);
                }
            }
        }
    }

    /// Where an epoch ends in a queue; see [`LogHandle::epoch_end`]. Nothing above the high watermark
    /// is told. Blocks.
    pub(crate) fn epoch_end(
        &self,
        queue: QueueId,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ReadError> {
        match self.log.epoch_end(queue, epoch) {
            Ok(Some((epoch, end))) => {
                let high_watermark = self.log.offsets(queue)?.high_watermark;
                Ok(Some((epoch, end.min(high_watermark))))
            }
            // Never written to.
            Err(ReadError::UnknownQueue(_)) if epoch == self.epoch => {
                Ok(Some((epoch, Offset::ZERO)))
            }
            Err(ReadError::UnknownQueue(_)) => Ok(None),
            other => other,
        }
    }
}

/// Milliseconds of the monotonic clock.
pub(crate) fn now_ms(env: &Env) -> u64 {
    u64::try_from(env.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}

/// The replicated shards that this broker leads. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct LedShards(Arc<RwLock<BTreeMap<ShardId, Arc<LedShard>>>>);

impl LedShards {
    /// The shard, if it is led here.
    pub(crate) fn get(&self, shard: ShardId) -> Option<Arc<LedShard>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&shard).map(Arc::clone)
    }

    /// All that are led here.
    pub(crate) fn all(&self) -> Vec<Arc<LedShard>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }

    /// Leads a shard from now on.
    pub(crate) fn put(&self, shard: ShardId, led: Arc<LedShard>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(shard, led);
    }

    /// Leads a shard no more.
    pub(crate) fn take(&self, shard: ShardId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }
}
