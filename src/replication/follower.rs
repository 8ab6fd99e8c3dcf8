//! A follower: makes its log a beginning of the leader's, says how far it is durable, and learns
//! what is committed.
//!
//! One cycle: `Fetch` with the log's tail; the leader answers with what follows, or says where the
//! logs part. An answer counts only for the tail it names, so nothing is appended behind, or cut
//! from, another log than the leader has judged. While a cut is under way nothing is said.

use uuid::Uuid;

use super::history::{LogView, Tail};
use super::message::{Envelope, Message, Refusal, Stamp};
use super::{Mistake, Replica, Rules};
use crate::model::{LeaderEpoch, Position, ShardId};

/// Whom a follower follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Following {
    /// The term.
    pub epoch: LeaderEpoch,
    /// Its leader.
    pub leader: Replica,
}

/// What happens to a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FollowerInput {
    /// The controller's image says who leads. Older terms than the current one are passed over.
    Follow(Following),
    /// A message from a leader.
    Received(Envelope),
    /// Frames that were asked for are in the log, or more of it is durable.
    LogMoved,
    /// The log was cut, durably, and may be appended to again.
    Truncated,
    /// Some time has passed.
    Tick,
}

/// What a follower wants done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FollowerEffect {
    /// To be sent.
    Send(Envelope),
    /// The frames behind the message just received, if any, go to the end of the log; then
    /// [`FollowerInput::LogMoved`].
    Append,
    /// Everything from here on goes, durably; then [`FollowerInput::Truncated`].
    Truncate(Position),
    /// Everything below is committed. What of it is durable here may be read here.
    Commit(Position),
    /// The leader has no more what this replica lacks; it has to be made anew from a copy.
    CopyNeeded(Refusal),
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Follower {
    cluster: Uuid,
    shard: ShardId,
    me: Replica,
    following: Option<Following>,
    /// Everything below is committed.
    committed: Position,
    /// What the leader has said to be committed; may lie behind the log's end.
    heard: Position,
    /// A cut is under way.
    truncating: bool,
    /// When the last question was asked.
    asked_ms: u64,
    /// After how long a question is asked again.
    patience_ms: u64,
    pub(super) rules: Rules,
}

impl Follower {
    /// A follower that knows everything below `committed` to be so.
    #[must_use]
    pub fn new(
        cluster: Uuid,
        shard: ShardId,
        me: Replica,
        committed: Position,
        patience_ms: u64,
    ) -> Self {
        Self {
            cluster,
            shard,
            me,
            following: None,
            committed,
            heard: committed,
            truncating: false,
            asked_ms: 0,
            patience_ms,
            rules: Rules::default(),
        }
    }

    /// Everything below is known to be committed.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// The term it is in.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        self.following
    }

    /// Whether a cut is under way: until it is done, the replica can do nothing else.
    #[must_use]
    pub fn is_truncating(&self) -> bool {
        self.truncating
    }

    /// Takes note of something; `log` is as it is now.
    #[must_use]
    pub fn step(
        &mut self,
        now_ms: u64,
        log: &LogView<'_>,
        input: FollowerInput,
    ) -> Vec<FollowerEffect> {
        match input {
            FollowerInput::Follow(following) => self.follow(now_ms, log, following),
            FollowerInput::Received(envelope) if self.concerns(envelope.stamp) => {
                self.receive(now_ms, log, envelope.message)
            }
            FollowerInput::Received(_) => Vec::new(),
            FollowerInput::LogMoved => {
                let mut effects = self.commit(log);
                effects.extend(self.fetch(now_ms, log));
                effects
            }
            FollowerInput::Truncated => {
                self.truncating = false;
                self.fetch(now_ms, log).into_iter().collect()
            }
            FollowerInput::Tick if now_ms.saturating_sub(self.asked_ms) >= self.patience_ms => {
                self.fetch(now_ms, log).into_iter().collect()
            }
            FollowerInput::Tick => Vec::new(),
        }
    }

    fn follow(
        &mut self,
        now_ms: u64,
        log: &LogView<'_>,
        following: Following,
    ) -> Vec<FollowerEffect> {
        if self.following.is_some_and(|known| known.epoch >= following.epoch) {
            return Vec::new();
        }
        self.following = Some(following);
        // What an earlier leader said holds for its log, which may not be this one's.
        self.heard = self.committed;
        if self.rules.breaks(Mistake::TruncateToCommitted) && self.committed < log.end {
            self.truncating = true;
            return vec![FollowerEffect::Truncate(self.committed)];
        }
        self.fetch(now_ms, log).into_iter().collect()
    }

    /// Whether a message is from the leader of this term to this run.
    fn concerns(&self, stamp: Stamp) -> bool {
        let Some(following) = self.following else { return false };
        let is_mine = stamp.cluster == self.cluster && stamp.shard == self.shard;
        is_mine
            && stamp.epoch == following.epoch
            && stamp.from == following.leader
            && stamp.to == self.me
    }

    fn receive(&mut self, now_ms: u64, log: &LogView<'_>, message: Message) -> Vec<FollowerEffect> {
        if self.truncating {
            return Vec::new();
        }
        match message {
            Message::Frames { after, committed } if after == log.tail() => {
                // It holds for this log: up to its tail by the leader's word, and behind it by
                // the frames that come.
                self.heard = self.heard.max(committed);
                let mut effects = self.commit(log);
                effects.push(FollowerEffect::Append);
                effects
            }
            Message::Diverged { after, known } if after == log.tail() => {
                if self.rules.breaks(Mistake::TruncateToCommitted) {
                    return self.fetch(now_ms, log).into_iter().collect();
                }
                self.truncating = true;
                vec![FollowerEffect::Truncate(log.cut_at(known))]
            }
            Message::Refused { after, why: why @ Refusal::Gone(_) } if after == log.tail() => {
                vec![FollowerEffect::CopyNeeded(why)]
            }
            // It answers another tail; or the next image tells whose shard this is.
            Message::Frames { .. }
            | Message::Diverged { .. }
            | Message::Refused { .. }
            | Message::Fetch { .. } => Vec::new(),
        }
    }

    fn commit(&mut self, log: &LogView<'_>) -> Vec<FollowerEffect> {
        let committed = self.heard.min(log.end);
        if committed <= self.committed {
            return Vec::new();
        }
        self.committed = committed;
        vec![FollowerEffect::Commit(committed)]
    }

    fn fetch(&mut self, now_ms: u64, log: &LogView<'_>) -> Option<FollowerEffect> {
        let Following { epoch, leader } = self.following.filter(|_| !self.truncating)?;
        self.asked_ms = now_ms;
        let (cluster, shard, from) = (self.cluster, self.shard, self.me);
        let stamp = Stamp { cluster, shard, epoch, from, to: leader };
        let tail: Tail = log.tail();
        let message = Message::Fetch { tail, durable: log.durable.min(log.end) };
        Some(FollowerEffect::Send(Envelope { stamp, message }))
    }
}
