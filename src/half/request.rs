//! What is said to the halves, what they answer, and why not.

use std::sync::Arc;

use bytes::Bytes;

use super::event::{Ender, Expiry};
use super::id::TransactionId;
use super::table::Pending;
use crate::model::{Offset, TopicId};

/// Headers of a record: names and values, in order; a name may come several times.
pub(crate) type MessageHeaders = Vec<(Bytes, Option<Bytes>)>;

/// What a record will hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: MessageHeaders,
}

/// A half message to be sent. The caller has chosen the partition, and has seen to it that the
/// topic takes such messages and messages of that size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SendHalf {
    pub(crate) topic_id: TopicId,
    /// The topic's name, for those who look at the half when the topic is gone.
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Whom to ask about the half: any producer of this group.
    pub(crate) group: String,
    /// Stands in the record as `UNIQ_KEY`; one is made if there is none. The group's half of the
    /// same id on the same topic, if known, is answered instead of another one being stored.
    pub(crate) message_id: Option<String>,
    /// For so many ms its producers are not asked; at most [`IMMUNITY_MS_MAX`].
    pub(crate) immunity_ms: u32,
    pub(crate) message: Message,
}

/// Longest immunity, in ms.
pub(crate) const IMMUNITY_MS_MAX: u32 = 60 * 60 * 1000;
/// Longest group, topic and message id, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// A half message that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HalfSent {
    pub(crate) id: TransactionId,
    pub(crate) message_id: String,
    pub(crate) born_ms: i64,
    /// It was sent before, by the same message id.
    pub(crate) duplicate: bool,
}

/// Which end a half message is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Commit,
    Rollback,
}

/// How a half message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// When, in ms since 1970.
    pub(crate) at_ms: i64,
    pub(crate) outcome: Outcome,
}

/// What a half message became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An ordinary record of its topic.
    Committed {
        by: Ender,
        topic_id: TopicId,
        partition: i32,
        /// Its offset; none only if somebody asks again after the record is gone from the topic.
        offset: Option<Offset>,
    },
    /// Nothing: nobody ever sees it.
    RolledBack { by: Ender },
    /// A record of the discard topic.
    Expired { reason: Expiry, checks: u16 },
}

impl Outcome {
    /// What to call it in a sentence.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Committed { .. } => "committed",
            Self::RolledBack { .. } => "rolled back",
            Self::Expired { .. } => "expired",
        }
    }
}

/// Where a half message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HalfState {
    Pending(Pending),
    Ended(End),
}

/// A half message with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HalfMessage {
    pub(crate) id: TransactionId,
    pub(crate) topic_id: TopicId,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) group: String,
    pub(crate) message_id: Option<String>,
    pub(crate) born_ms: i64,
    /// With the headers that the broker has added.
    pub(crate) message: Message,
}

/// The question to a producer what became of a half message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// Which check of this half it is, from 1.
    pub(crate) number: u16,
    pub(crate) half: HalfMessage,
}

/// How many halves are pending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HalfCounts {
    pub(crate) pending: usize,
    /// When the oldest of them was sent.
    pub(crate) oldest_born_ms: Option<i64>,
    /// By group, sorted by name.
    pub(crate) groups: Vec<(Arc<str>, u64)>,
    pub(crate) ended: HalfTotals,
}

/// How half messages ended since the broker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HalfTotals {
    pub(crate) committed: u64,
    pub(crate) rolled_back: u64,
    pub(crate) expired: u64,
}

/// Why nothing can be done at this moment. All but the last three pass by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("half messages are still being read back after the start: try again in a moment")]
    Loading,
    #[error("too many requests about half messages are waiting: try again in a moment")]
    Overloaded,
    #[error("the log is making room: try again in a moment")]
    NotReady,
    #[error("the disk is full: free space, then try again")]
    DiskFull,
    #[error("the message is too large to be stored: send less in one message")]
    TooLarge,
    #[error("the broker is stopping")]
    Stopping,
    #[error("the log has failed: the broker has to be started again")]
    LogFailed,
}

/// Why a half message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("a half message needs a producer group, which is asked what became of it")]
    NoGroup,
    #[error("the {what} has {got} bytes, more than {NAME_BYTES_MAX}")]
    NameTooLong { what: &'static str, got: usize },
    #[error("a check immunity of {got} ms is too long: at most {IMMUNITY_MS_MAX}")]
    Immunity { got: u32 },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a half message did not get this end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndError {
    #[error(
        "no half message is known by this transaction id: it never was, or it ended more than ten \
         minutes ago"
    )]
    Unknown,
    #[error("the half message belongs to another producer group")]
    OtherGroup,
    #[error("the half message was {} before", .0.outcome.word())]
    Ended(End),
    #[error(
        "the topic or partition of the half message is gone: roll it back, or let it expire to the \
         discard topic"
    )]
    TargetGone,
    #[error("the half message cannot be read from the disk; it can be rolled back")]
    Unreadable,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a check was not given back, or not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    #[error(
        "no half message is known by this transaction id: it never was, or it ended more than ten \
         minutes ago"
    )]
    Unknown,
    #[error("the half message has come to its end: there is nothing to be asked any more")]
    Ended,
    #[error("another check of this half message came after that one")]
    NotTheLast,
    #[error("the producers of this half message were asked as often as may be: decide it yourself")]
    UsedUp,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a half message is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShowError {
    #[error(
        "no half message is known by this transaction id: it never was, or it ended more than ten \
         minutes ago"
    )]
    Unknown,
    #[error("the half message cannot be read from the disk")]
    Unreadable,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
