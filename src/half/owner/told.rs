//! What the owner is told, and how it answers and refuses.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::half::draft::Answer;
use crate::half::event::{Ender, Sent};
use crate::half::expire::Copies;
use crate::half::id::TransactionId;
use crate::half::load::LoadError;
use crate::half::polls::Poll;
use crate::half::request::{Decision, End, EndError, HalfCounts, SendError, Unavailable};
use crate::half::table::{Blocked, CheckBlocked, DueCheck, HalfFilter, HalfPage, Pending, Table};
use crate::model::Offset;
use crate::store::AppendError;

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What the owner is told.
#[derive(Debug)]
pub(in crate::half) enum Told {
    Send {
        sent: Box<Sent>,
        batch: Bytes,
        /// Whoever asks has seen that the half found before is another.
        knows_better: bool,
        reply: Reply<Result<SendAnswer, SendError>>,
    },
    End {
        id: TransactionId,
        decision: Decision,
        by: Ender,
        group: Option<String>,
        /// What a commit appends, if it could be read.
        batch: Option<Bytes>,
        reply: Reply<Result<EndAnswer, EndError>>,
    },
    Poll {
        group: Arc<str>,
        poll: Poll,
    },
    Return {
        check: DueCheck,
        /// The half makes trouble: it is asked about again after the interval.
        postponed: bool,
        reply: Option<Reply<Result<(), CheckRefused>>>,
    },
    CheckNow {
        id: TransactionId,
        reply: Reply<Result<(), CheckRefused>>,
    },
    List {
        filter: HalfFilter,
        from: Option<TransactionId>,
        max: usize,
        reply: Reply<Result<HalfPage, Unavailable>>,
    },
    Get {
        id: TransactionId,
        reply: Reply<Result<Result<Pending, Blocked>, Unavailable>>,
    },
    Count {
        reply: Reply<Result<HalfCounts, Unavailable>>,
    },
    Loaded(Result<Box<Table>, LoadError>),
    /// What a round of expiry has read.
    Copied(Copies),
    Stop {
        done: Reply<()>,
    },
}

/// The answer to who sends a half.
#[derive(Debug)]
pub(in crate::half) enum SendAnswer {
    Stored(TransactionId),
    /// The half at this offset seems to be of the same message.
    Before(Offset),
}

/// The answer to who wants to end a half.
#[derive(Debug)]
pub(in crate::half) enum EndAnswer {
    Now(End),
    /// The event at this offset ended it before.
    Before(Offset),
}

/// Why nothing was done about a check.
#[derive(Debug, Clone, Copy)]
pub(in crate::half) enum CheckRefused {
    Blocked(CheckBlocked),
    Unavailable(Unavailable),
}

/// Sends `result` when what it rests on is durable.
pub(super) fn answer<T, E>(reply: Reply<Result<T, E>>, result: Result<T, E>) -> Answer
where
    T: Send + 'static,
    E: From<Unavailable> + Send + 'static,
{
    Box::new(move |durable| {
        let _gone = reply.send(durable.map_err(E::from).and(result));
    })
}

pub(super) fn end_error(error: &AppendError) -> EndError {
    match error {
        AppendError::UnknownQueue(_) => EndError::TargetGone,
        AppendError::Fenced { .. }
        | AppendError::Elsewhere(_)
        | AppendError::NotTheBatch { .. }
        | AppendError::TooLarge { .. }
        | AppendError::Rejected(_)
        | AppendError::DiskFull
        | AppendError::SegmentNotReady
        | AppendError::NoMemory
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => unavailable(error).into(),
    }
}

pub(super) fn unavailable(error: &AppendError) -> Unavailable {
    match error {
        AppendError::DiskFull => Unavailable::DiskFull,
        AppendError::SegmentNotReady | AppendError::NoMemory => Unavailable::NotReady,
        AppendError::TooLarge { .. } => Unavailable::TooLarge,
        AppendError::UnknownQueue(_)
        | AppendError::Fenced { .. }
        | AppendError::Elsewhere(_)
        | AppendError::NotTheBatch { .. }
        | AppendError::Rejected(_)
        | AppendError::Damaged { .. }
        | AppendError::Failed(_) => Unavailable::LogFailed,
    }
}

pub(super) fn refuse(told: Told, why: Unavailable) {
    fn no<T, E: From<Unavailable>>(reply: Reply<Result<T, E>>, why: Unavailable) {
        let _gone = reply.send(Err(E::from(why)));
    }
    match told {
        Told::Send { reply, .. } => no(reply, why),
        Told::End { reply, .. } => no(reply, why),
        Told::Poll { poll, .. } => no(poll.reply, why),
        Told::Return { reply, .. } => {
            if let Some(reply) = reply {
                no(reply, why);
            }
        }
        Told::CheckNow { reply, .. } => no(reply, why),
        Told::List { reply, .. } => no(reply, why),
        Told::Get { reply, .. } => no(reply, why),
        Told::Count { reply } => no(reply, why),
        // Those come from the owner itself.
        Told::Loaded(_) | Told::Copied(_) | Told::Stop { .. } => {}
    }
}

impl From<Unavailable> for CheckRefused {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}
