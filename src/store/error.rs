//! Errors of the store: small structs for the facts, one enum per operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::ConfigError;
use super::sequencer::{RestoreError, SequenceRejected};
use crate::model::{LeaderEpoch, Offset, Position, QueueId};

/// A call to the file system that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {} failed: {source}", path.display())]
pub struct IoFailure {
    /// What was tried.
    pub operation: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl IoFailure {
    pub(crate) fn of(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { operation, path, source }
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The log takes and acknowledges nothing any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogFailed {
    /// A write or sync failed. It is never retried: the process has to end and recover.
    #[error("the log failed: {0}")]
    Io(Arc<IoFailure>),
    /// The store was closed before the bytes were durable.
    #[error("the log is closed")]
    Closed,
}

/// Why a batch was not appended. Nothing of it is in the log.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The queue was never opened, or is dropped.
    #[error("queue {0} is not open")]
    UnknownQueue(QueueId),
    /// The caller's epoch is not the shard's.
    #[error("leader epoch {got} is not the current {current}")]
    Fenced {
        /// The shard's epoch.
        current: LeaderEpoch,
        /// The caller's.
        got: LeaderEpoch,
    },
    /// The queue is another broker's, or of a replicated shard: its records are not kept here.
    #[error("the records of queue {0} are not in this broker's own log")]
    Elsewhere(QueueId),
    /// The bytes are not the batch that the header describes.
    #[error("batch of {got} bytes differs from its header, which says {said}")]
    NotTheBatch {
        /// Bytes by the header.
        said: usize,
        /// Bytes given.
        got: usize,
    },
    /// The batch does not fit into a segment.
    #[error("batch of {got} bytes exceeds the {max} that fit into a segment")]
    TooLarge {
        /// Most bytes.
        max: u64,
        /// Bytes given.
        got: u64,
    },
    /// Its producer may not append it.
    #[error(transparent)]
    Rejected(#[from] SequenceRejected),
    /// The disk has no room for another segment. Passes by itself when space returns.
    #[error("the disk is full")]
    DiskFull,
    /// The next segment is being allocated; callers that await `room` first hardly see this.
    #[error("the next segment is not ready yet")]
    SegmentNotReady,
    /// No memory for the ring.
    #[error("no memory for the ring")]
    NoMemory,
    /// Damage hides which offsets were handed out; see `OnDamage`.
    #[error("the log is damaged at {at} and takes no appends")]
    Damaged {
        /// Where the damage begins.
        at: Position,
    },
    /// The log failed or is closed.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The queue was never opened, or is dropped.
    #[error("queue {0} is not open")]
    UnknownQueue(QueueId),
    /// The offset is not in the queue.
    #[error("offset {asked} is outside {log_start}..={high_watermark}")]
    OutOfRange {
        /// Offset asked for.
        asked: Offset,
        /// First offset of the queue.
        log_start: Offset,
        /// Offset behind the last readable one.
        high_watermark: Offset,
    },
    /// What is stored there is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// A place in the log whose bytes are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log is damaged at position {at} of {}: {reason}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the log.
    pub at: Position,
    /// What is wrong.
    pub reason: DamageReason,
}

/// What is wrong with stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DamageReason {
    /// The bytes are no frame header, or its checksum differs.
    #[error("no frame begins there")]
    Header,
    /// The checksum of the batch differs.
    #[error("the batch's checksum differs")]
    Body,
    /// A whole frame, but not the one the index names.
    #[error("another frame is there than the index names")]
    OtherFrame,
    /// A block of the index does not match its checksum.
    #[error("the index is unreadable")]
    Index,
    /// The device does not give back what stands there.
    #[error("the disk cannot read it")]
    Unreadable,
    /// The frame that held the offset is lost.
    #[error("the frame that held the offset is lost")]
    Lost,
}

/// Why a log start did not move.
#[derive(Debug, thiserror::Error)]
pub enum LogStartError {
    /// The offset is below the log start or above the high watermark.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The move could not be logged.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another broker has the directory open.
    #[error("{} is in use by another broker", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another cluster.
    #[error("{} belongs to cluster {found}, not to {expected}", dir.display())]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: uuid::Uuid,
        /// Whose it should be.
        expected: uuid::Uuid,
    },
    /// The directory holds the log of another shard.
    #[error("{} holds the log {found}, not {expected}", dir.display())]
    OtherLog {
        /// The directory.
        dir: PathBuf,
        /// Whose log it is.
        found: uuid::Uuid,
        /// Whose it should be.
        expected: uuid::Uuid,
    },
    /// The log was written by leaders of a replicated shard, and is opened for one broker alone.
    #[error("{} holds a replica of a shard, which only its shard can continue", dir.display())]
    Replicated {
        /// The directory.
        dir: PathBuf,
    },
    /// A file that must be there is not, though the directory holds a log.
    #[error("{} is missing; it is not made anew, since that would lose what is stored", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// No log is there, though there has to be one.
    #[error(
        "{} holds no log, though the metadata names partitions whose records were there: put it \
         back (is its disk mounted?), or remove the whole data directory to begin anew without \
         any record",
        dir.display()
    )]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// A file that the log cannot be understood without is damaged.
    #[error("{} is damaged ({what})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The sequencer cannot read its snapshot.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The first frame of this run could not be made durable.
    #[error(transparent)]
    Failed(#[from] LogFailed),
    /// No room or memory for the first frame of this run.
    #[error("the log cannot be continued: {0}")]
    Append(#[from] AppendError),
}

/// Why frames of a leader were not taken. None of them is in the log, but those before the first
/// that is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The store is no follower.
    #[error("the log does not follow a leader")]
    NotFollowing,
    /// The frames belong elsewhere: the log ends here.
    #[error("the log ends at {end}")]
    Elsewhere {
        /// Where the next frame belongs.
        end: Position,
    },
    /// The bytes are not whole frames of this log, in order.
    #[error("what came for position {at} is no frame that belongs there: {why}")]
    Malformed {
        /// The position.
        at: Position,
        /// What is wrong.
        why: &'static str,
    },
    /// The frames do not fit, or the log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why no frames could be read.
#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    /// What was there is gone: the log goes on at this position, if anywhere.
    #[error("the log before {first} is gone")]
    Gone {
        /// The first position at or behind the one asked for that is left.
        first: Position,
    },
    /// Nothing is appended there.
    #[error("position {0} is behind the end of the log")]
    BehindEnd(Position),
    /// What stands there is not what was written, or no frame begins there.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// Why a log was not cut.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// The log is none that follows a leader.
    #[error("the log does not follow a leader")]
    NotFollowing,
    /// The log does not reach so far.
    #[error("the log ends at {0}")]
    BehindEnd(Position),
    /// What lies below is committed, and stands in checkpoints.
    #[error("everything below {0} is committed")]
    BelowCommitted(Position),
    /// The disk failed: the cut is made by the next start, or not at all.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

/// Why maintenance stopped.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// The disk failed, or is full: then what was to be written is tried again later.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The log failed or is closed.
    #[error(transparent)]
    Failed(#[from] LogFailed),
}
