//! What can go wrong with the metadata log.

use std::io;
use std::path::PathBuf;

use super::format::FrameError;

/// Why the metadata log cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Bytes that had been on disk are not what was written.
    #[error("{} is damaged at position {position}: {reason}", path.display())]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        reason: FrameError,
    },
    /// Every frame is whole, but this one cannot follow those before it.
    #[error("{} has a {what} at position {position} that does not follow what is before it", path.display())]
    OutOfSequence {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The kind of record.
        what: &'static str,
    },
    /// Entries that were never purged are in no segment.
    #[error("{} lacks the segments that held entries before index {before}", dir.display())]
    MissingSegments {
        /// The log's directory.
        dir: PathBuf,
        /// The first index that is there.
        before: u64,
    },
    /// An entry that would leave a hole in the log.
    #[error("entry {index} does not follow the log, whose next index is {next}")]
    Hole {
        /// The entry's index.
        index: u64,
        /// The index that must come next.
        next: u64,
    },
    /// A write or sync failed before. What is on disk is unknown, so nothing more is written.
    #[error("the metadata log failed before and takes no more writes")]
    Failed,
}

impl LogError {
    /// Whether the disk had no room; nothing was written, and it may be tried again later.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Corrupt { .. }
            | Self::OutOfSequence { .. }
            | Self::MissingSegments { .. }
            | Self::Hole { .. }
            | Self::Failed => false,
        }
    }
}

/// Names the operation and the path of a failed call.
pub(super) fn io_error<'a>(
    operation: &'static str,
    path: &'a std::path::Path,
) -> impl FnOnce(io::Error) -> LogError + 'a {
    move |source| LogError::Io { operation, path: path.to_owned(), source }
}
