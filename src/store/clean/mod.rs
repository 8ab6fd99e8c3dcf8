//! Cleaning: taking what lives on out of old segments into sorted ones, so that the old ones
//! can go.
//!
//! A *merge* does so with segments that hold little that lives, of all queues; *compaction* with
//! the old part of one queue, of which every key's last record lives. Sorted segments are
//! written beside everything else; then the queues are switched over in memory, one by one, and
//! the next checkpoint makes that lasting, in one step. Until then the old segments stay, so a
//! crash at any moment leaves one whole state or the other. Runs on a thread that may block,
//! whoever's it is; one at a time; holds the state only for short moments and keeps to a rate.

mod compact;
mod filter;
mod frames;
mod keys;
mod merge;
mod rewrite;
mod transactions;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::error::{IoFailure, LogFailed, MaintainError, ReadError};
use super::handle::LogHandle;
use super::shared::Shared;
use crate::model::QueueId;

pub use compact::Compaction;
use compact::Progress;

/// Bytes between two looks at the clock.
const PACE_BYTES: u64 = 1 << 20;

/// What only cleaning knows.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    /// Segments with something unreadable in them, by first position: they are left alone.
    spoiled: HashSet<u64>,
    /// Queues with something unreadable in them: they are not compacted.
    unreadable: HashSet<QueueId>,
    /// How far the queues to be compacted were looked through.
    progress: HashMap<QueueId, Progress>,
}

/// What cleaning may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanLimits {
    /// Most bytes read and written in a second, so that producers do not feel it.
    pub bytes_per_second_max: u64,
    /// Memory for the keys of a queue that is compacted; more keys take more passes.
    pub key_memory_bytes: usize,
}

/// What a round of cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Segments whose living records went into sorted ones.
    pub merged: usize,
    /// How often a queue was compacted.
    pub compacted: usize,
}

/// Why something was not cleaned.
#[derive(Debug)]
enum Halt {
    /// A segment cannot be read.
    Source { segment: u64, error: ReadError },
    /// Nothing can be written now.
    Maintain(MaintainError),
}

impl From<MaintainError> for Halt {
    fn from(error: MaintainError) -> Self {
        Self::Maintain(error)
    }
}

impl From<LogFailed> for Halt {
    fn from(failed: LogFailed) -> Self {
        Self::Maintain(failed.into())
    }
}

impl LogHandle {
    /// Compacts the queues named, as far as that is due, and gives back the space between records
    /// that live on. Blocks, for as long as it takes: call it on a thread that may.
    ///
    /// # Errors
    /// The log failed or is closed; or the disk is full, and this is to be tried again.
    pub fn clean(
        &self,
        now_ms: i64,
        rules: &[(QueueId, Compaction)],
        limits: CleanLimits,
    ) -> Result<Cleaned, MaintainError> {
        let shared = &self.shared;
        let mut cleaner = shared.locked(&shared.cleaner);
        shared.check_open()?;
        if shared.state().damaged.is_some() {
            return Ok(Cleaned::default());
        }
        let compacted = shared.compact_due(&mut cleaner, now_ms, rules, limits)?;
        let merged = shared.merge_sparse(&mut cleaner, limits)?;
        Ok(Cleaned { merged, compacted })
    }
}

impl Shared {
    fn check_open(&self) -> Result<(), LogFailed> {
        match self.watermark.failed() {
            Some(failed) => Err(failed.clone()),
            None if self.state().closing => Err(LogFailed::Closed),
            None => Ok(()),
        }
    }

    /// What a failed write amounts to: a full disk passes, anything else ends the log.
    fn write_failed(&self, failure: IoFailure) -> MaintainError {
        if failure.is_full() { MaintainError::Io(failure) } else { self.fail(failure).into() }
    }
}

/// Keeps cleaning to its rate, and ends it when the log ends.
#[derive(Debug)]
struct Pacer<'a> {
    shared: &'a Shared,
    bytes_per_second_max: u64,
    begun: Duration,
    spent: u64,
    looked_at: u64,
}

impl<'a> Pacer<'a> {
    fn new(shared: &'a Shared, limits: CleanLimits) -> Self {
        let begun = shared.env.clock.monotonic();
        let bytes_per_second_max = limits.bytes_per_second_max.max(1);
        Self { shared, bytes_per_second_max, begun, spent: 0, looked_at: 0 }
    }

    /// Counts bytes read and written, and waits while they are too many.
    fn spend(&mut self, bytes: u64) -> Result<(), LogFailed> {
        self.spent += bytes;
        if self.spent - self.looked_at < PACE_BYTES {
            return Ok(());
        }
        self.looked_at = self.spent;
        let Shared { env, cleaner_wake, threaded, .. } = self.shared;
        let micros = u128::from(self.spent) * 1_000_000 / u128::from(self.bytes_per_second_max);
        let due = self.begun + Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        loop {
            self.shared.check_open()?;
            let wait = due.saturating_sub(env.clock.monotonic());
            if wait.is_zero() || !threaded {
                return Ok(());
            }
            let state = self.shared.state();
            if state.closing {
                continue;
            }
            if cleaner_wake.wait_timeout(state, wait).is_err() {
                env.spawner.fatal("a panic left the log half changed");
            }
        }
    }
}
