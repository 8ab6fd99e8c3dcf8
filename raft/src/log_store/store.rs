//! The metadata log as openraft wants it. File calls block, so they run on the blocking pool, one
//! at a time under the log's lock; entries just written are kept in memory, since openraft reads
//! each back at once to apply it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use braid_base::env::Spawner;
use braid_base::env::fs::Lock;
use openraft::storage::{LogFlushed, LogState as RaftLogState, RaftLogStorage};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftLogReader, StorageIOError};

use super::error::LogError;
use super::files::{LogFiles, Room};
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote};

/// Most entries kept in memory, and most bytes of them.
const TAIL_ENTRIES_MAX: usize = 64;
const TAIL_BYTES_MAX: usize = 1 << 20;

/// Bytes of the entries that are sent to another member at once.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A handle on the log; its clones share it.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    spawner: Spawner,
    files: Arc<Mutex<LogFiles>>,
    /// The last entries written, consecutive. Locked only for moments, never over a file call.
    tail: Arc<Mutex<VecDeque<Entry>>>,
    /// Keeps other processes out for as long as anything here may write.
    lock: Arc<Mutex<Option<Box<dyn Lock>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// Lends a log to openraft; `lock` is that of its directory.
    pub(crate) fn new(spawner: Spawner, files: LogFiles, lock: Box<dyn Lock>) -> Self {
        Self {
            spawner,
            files: Arc::new(Mutex::new(files)),
            tail: Arc::new(Mutex::new(VecDeque::new())),
            lock: Arc::new(Mutex::new(Some(lock))),
        }
    }

    /// Runs a file call off the async workers.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut LogFiles) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let files = Arc::clone(&self.files);
        match self.spawner.blocking(move || call(&mut locked(&files))).await {
            Ok(result) => result,
            // The call panicked, or the runtime is going down: the log's state is unknown.
            Err(_) => Err(LogError::Failed),
        }
    }

    /// Reserves room for entries of `bytes` in all.
    pub(crate) async fn reserve(&self, bytes: u64, room: Room) -> Result<(), LogError> {
        self.blocking(move |files| files.reserve(bytes, room)).await
    }

    /// Closes the log and lets go of its directory; later writes fail.
    pub(crate) async fn close(&self) -> Result<(), LogError> {
        let closed = self.blocking(LogFiles::close).await;
        drop(locked(&self.lock).take());
        closed
    }

    /// Keeps the entries just written, and of those before as many as the bounds allow.
    fn remember(&self, written: Vec<Entry>) {
        let mut tail = locked(&self.tail);
        if let (Some(last), Some(first)) = (tail.back(), written.first())
            && last.log_id.index + 1 != first.log_id.index
        {
            tail.clear();
        }
        tail.extend(written);
        let mut bytes = 0;
        let within = tail.iter().rev().take(TAIL_ENTRIES_MAX).take_while(|entry| {
            bytes += size_bytes(entry);
            bytes <= TAIL_BYTES_MAX
        });
        let excess = tail.len() - within.count();
        tail.drain(..excess);
    }

    fn cached(&self, from: u64, end: u64) -> Option<Vec<Entry>> {
        let tail = locked(&self.tail);
        let first = tail.front()?.log_id.index;
        let last = tail.back()?.log_id.index;
        let whole = first <= from && from < end && end <= last + 1;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let count = usize::try_from(end.checked_sub(from)?).ok()?;
        whole.then(|| tail.iter().skip(skip).take(count).cloned().collect())
    }
}

fn size_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.encoded().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

fn read_failed(error: LogError) -> StorageError {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

fn write_failed(error: LogError) -> StorageError {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        if let Some(entries) = self.cached(from, end) {
            return Ok(entries);
        }
        self.blocking(move |files| files.read(from, end)).await.map_err(read_failed)
    }

    /// As many as one message to another member holds, at least one.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let mut entries = self.try_get_log_entries(start..end).await?;
        let mut bytes = 0;
        let within = entries.iter().take_while(|entry| {
            bytes += size_bytes(entry);
            bytes <= MESSAGE_BYTES_MAX
        });
        let count = within.count().max(1);
        entries.truncate(count);
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<RaftLogState<TypeConfig>, StorageError> {
        let files = locked(&self.files);
        Ok(RaftLogState {
            last_purged_log_id: files.state().purged,
            last_log_id: files.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.blocking(move |files| files.save_vote(vote))
            .await
            .map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(locked(&self.files).state().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        locked(&self.files).set_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(locked(&self.files).state().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        match self.blocking(move |files| files.append(entries)).await {
            Ok(written) => {
                self.remember(written);
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                callback.log_io_completed(Err(io::Error::other(error.to_string())));
                Err(write_failed(error))
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let from = log_id.index;
        self.blocking(move |files| files.truncate(from)).await.map_err(write_failed)?;
        locked(&self.tail).retain(|entry| entry.log_id.index < from);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.blocking(move |files| files.purge(log_id)).await.map_err(write_failed)?;
        locked(&self.tail).retain(|entry| entry.log_id.index > log_id.index);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
