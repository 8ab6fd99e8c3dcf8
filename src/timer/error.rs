//! Errors of the timer engine, one enum per kind of operation.

use braid_protocol::records::WriteError;

use super::event::End;
use crate::partition::FetchError;
use crate::store::{AppendError, LogFailed};

/// Why messages were not scheduled. None of them was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScheduleError {
    #[error("due at {due_ms}, which is more than {max_ms} ms from now: braid.timer.delay.max.ms")]
    TooFar { due_ms: i64, max_ms: i64 },
    #[error("messages of {size_bytes} bytes are scheduled at once, and at most {max} can be")]
    TooLarge { size_bytes: usize, max: usize },
    #[error("the ten minutes around {due_ms} are full")]
    BucketFull { due_ms: i64 },
    /// Passes by itself.
    #[error(
        "the broker's clock was set back, and too many messages wait in memory until it is where it was; one due at {due_ms} is taken later"
    )]
    Crowded { due_ms: i64 },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why nothing was done with a scheduled message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimerError {
    #[error("no scheduled message has this handle, or it ended long ago")]
    NotFound,
    #[error("it is too late: the message does not wait any more ({0:?})")]
    TooLate(End),
    /// Passes by itself.
    #[error("scheduled messages of that time are still being loaded; try again")]
    Loading,
    /// Passes by itself; the message still waits.
    #[error("the message cannot be delivered now and will be tried again: {0}")]
    Postponed(String),
    #[error("the record of the message cannot be read: {0}")]
    Unreadable(#[from] FetchError),
    #[error("the record of the message makes no sense")]
    Malformed,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Failed(#[from] LogFailed),
}
