//! Why a delivery, or what was said about one, was refused.

use super::filter::FilterError;
use super::receipt::ReceiptError;
use super::settings::{DELAY_MS_MAX, INVISIBLE_MS_MAX, INVISIBLE_MS_MIN};
use crate::store::AppendError;

/// Why the engine can do nothing at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("the deliveries are still being read back from the log; try again in a moment")]
    Loading,
    #[error("the log takes no appends at the moment; try again in a moment")]
    Busy,
    #[error("the broker is stopping")]
    Stopped,
}

impl From<&AppendError> for Unavailable {
    fn from(error: &AppendError) -> Self {
        match error {
            AppendError::Failed(_) => Self::Stopped,
            AppendError::UnknownQueue(_)
            | AppendError::Fenced { .. }
            | AppendError::Elsewhere(_)
            | AppendError::NotTheBatch { .. }
            | AppendError::TooLarge { .. }
            | AppendError::Rejected(_)
            | AppendError::DiskFull
            | AppendError::SegmentNotReady
            | AppendError::NoMemory
            | AppendError::Damaged { .. } => Self::Busy,
        }
    }
}

/// Why nothing was received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the topic does not exist")]
    UnknownTopic,
    #[error("a group's name has 1 to 255 bytes")]
    GroupName,
    #[error("messages are invisible for {INVISIBLE_MS_MIN} to {INVISIBLE_MS_MAX} ms, not {got_ms}")]
    Invisible { got_ms: i64 },
    #[error("a receive asks for 1 to {max} messages, not {got}")]
    Count { got: usize, max: usize },
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("too many receivers wait at once")]
    TooManyWaiting,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why what was said about a delivered message does not count. But for `Unavailable`, `Invisible`,
/// `Delay` and `Reason` it is what RocketMQ calls an invalid receipt handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("invalid receipt handle: {0}")]
    Receipt(#[from] ReceiptError),
    #[error("invalid receipt handle: it was given to another group")]
    OtherGroup,
    #[error("invalid receipt handle: the group was never given this message, or was reset since")]
    Unknown,
    #[error(
        "invalid receipt handle: it is of attempt {attempt}, the message is in attempt {current}"
    )]
    Superseded { attempt: u16, current: u16 },
    #[error("invalid receipt handle: this attempt was given up before")]
    Released,
    #[error("invalid receipt handle: the message is on its way to the dead letters")]
    Archiving,
    #[error("invalid receipt handle: the message is done")]
    Done,
    #[error("messages are invisible for {INVISIBLE_MS_MIN} to {INVISIBLE_MS_MAX} ms, not {got_ms}")]
    Invisible { got_ms: i64 },
    #[error("a delay is 0 to {DELAY_MS_MAX} ms, not {got_ms}")]
    Delay { got_ms: i64 },
    #[error("a reason has at most {max} bytes, not {got}")]
    Reason { got: usize, max: usize },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a group was not reset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResetError {
    #[error("the topic does not exist")]
    UnknownTopic,
    #[error("the topic has no partition {partition}")]
    UnknownPartition { partition: i32 },
    #[error("a group's name has 1 to 255 bytes")]
    GroupName,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
