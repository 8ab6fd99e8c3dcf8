//! Applies committed entries to the image and publishes it; builds and installs snapshots.
//!
//! The image lives in memory. What makes it durable is the log and, from time to time, a
//! snapshot: after a start it is the snapshot with the rest of the log applied.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use braid_base::env::Spawner;
use openraft::storage::RaftStateMachine;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError,
};
use tokio::sync::watch;

use crate::apply::apply;
use crate::image::MetadataImage;
use crate::snapshot::{self, Applied, SnapshotFile};
use crate::types::{Entry, LogId, Reply, SnapshotMeta, StorageError, StoredMembership, TypeConfig};

/// Bytes that an entry takes in the log beside its commands.
const ENTRY_OVERHEAD_BYTES: u64 = 65;

/// What the state machine shares with the snapshot builder and the keeper.
#[derive(Debug)]
pub(crate) struct Shared {
    spawner: Spawner,
    file: SnapshotFile,
    /// As of the last applied batch of entries.
    applied: Mutex<Applied>,
    /// A snapshot already on disk that the next build may hand to openraft.
    prepared: Mutex<Option<Applied>>,
    /// Bytes of log applied since the last snapshot.
    unsnapshotted_bytes: AtomicU64,
    /// Size of the last snapshot.
    snapshot_bytes: AtomicU64,
    /// The newest image, for reading at any rate; set before `announced`.
    image: ArcSwap<MetadataImage>,
    announced: watch::Sender<Arc<MetadataImage>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The newest image.
    pub(crate) fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Where every new image appears.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.announced.subscribe()
    }

    /// Bytes applied since the last snapshot, and the size of that one.
    pub(crate) fn snapshot_debt(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.unsnapshotted_bytes), load(&self.snapshot_bytes))
    }

    pub(crate) fn free_bytes(&self) -> std::io::Result<u64> {
        self.file.free_bytes()
    }

    /// Writes a snapshot of what is applied now and keeps it for openraft's next build.
    /// Building it ahead keeps a full disk from failing the whole state machine.
    pub(crate) async fn prepare_snapshot(self: &Arc<Self>) -> std::io::Result<()> {
        let (applied, _) = self.write_snapshot().await?;
        *locked(&self.prepared) = Some(applied);
        Ok(())
    }

    async fn write_snapshot(self: &Arc<Self>) -> std::io::Result<(Applied, Vec<u8>)> {
        let debt = self.unsnapshotted_bytes.load(Ordering::Relaxed);
        let applied = locked(&self.applied).clone();
        let shared = Arc::clone(self);
        let write = move || {
            let bytes = snapshot::encode(&applied);
            shared.file.write(applied.last, &bytes).map(|()| (applied, bytes))
        };
        let (applied, bytes) = self.spawner.blocking(write).await??;
        self.snapshot_bytes.store(bytes.len() as u64, Ordering::Relaxed);
        self.unsnapshotted_bytes.fetch_sub(debt, Ordering::Relaxed);
        Ok((applied, bytes))
    }
}

/// The state machine; openraft owns it.
#[derive(Debug)]
pub(crate) struct StateMachine {
    shared: Arc<Shared>,
    last: Option<LogId>,
    membership: StoredMembership,
    image: MetadataImage,
}

impl StateMachine {
    /// The state machine as of a snapshot, or empty.
    pub(crate) fn new(spawner: Spawner, file: SnapshotFile, snapshot: Option<Applied>) -> Self {
        let applied = snapshot.unwrap_or_default();
        let (announced, _) = watch::channel(Arc::clone(&applied.image));
        Self {
            last: applied.last,
            membership: applied.membership.clone(),
            image: (*applied.image).clone(),
            shared: Arc::new(Shared {
                spawner,
                file,
                image: ArcSwap::new(Arc::clone(&applied.image)),
                applied: Mutex::new(applied),
                prepared: Mutex::new(None),
                unsnapshotted_bytes: AtomicU64::new(0),
                snapshot_bytes: AtomicU64::new(0),
                announced,
            }),
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn apply_entry(&mut self, entry: Entry) -> Reply {
        self.last = Some(entry.log_id);
        self.image.applied_index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => Reply::default(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Reply::default()
            }
            EntryPayload::Normal(proposal) => {
                let bytes = ENTRY_OVERHEAD_BYTES + proposal.encoded().len() as u64;
                self.shared.unsnapshotted_bytes.fetch_add(bytes, Ordering::Relaxed);
                let commands = proposal.commands().iter();
                Reply(commands.map(|command| apply(&mut self.image, command)).collect())
            }
        }
    }

    fn publish(&self) {
        let image = Arc::new(self.image.clone());
        *locked(&self.shared.applied) = Applied {
            last: self.last,
            membership: self.membership.clone(),
            image: Arc::clone(&image),
        };
        self.shared.image.store(Arc::clone(&image));
        self.shared.announced.send_replace(image);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let apply = || entries.into_iter().map(|entry| self.apply_entry(entry)).collect();
        // openraft would wait for ever for an answer from a task that panicked.
        match catch_unwind(AssertUnwindSafe(apply)) {
            Ok(replies) => {
                self.publish();
                Ok(replies)
            }
            Err(_) => self.shared.spawner.fatal("applying a metadata command panicked"),
        }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(Arc::clone(&self.shared))
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let failed = |error: AnyError| {
            StorageError::from(StorageIOError::read_snapshot(Some(meta.signature()), error))
        };
        let bytes = snapshot.into_inner();
        let applied = snapshot::decode(&bytes).map_err(|error| failed(AnyError::new(&error)))?;
        let file = self.shared.file.clone();
        let size_bytes = bytes.len() as u64;
        let last = applied.last;
        let written = self.shared.spawner.blocking(move || file.write(last, &bytes)).await;
        written.and_then(|written| written).map_err(|error| {
            StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error))
        })?;
        self.shared.snapshot_bytes.store(size_bytes, Ordering::Relaxed);
        self.shared.unsnapshotted_bytes.store(0, Ordering::Relaxed);
        self.last = applied.last;
        self.membership = applied.membership;
        self.image = (*applied.image).clone();
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let file = self.shared.file.clone();
        let failed =
            |error: AnyError| StorageError::from(StorageIOError::read_snapshot(None, error));
        let read =
            move || -> Result<_, snapshot::SnapshotError> { Ok(file.load()?.zip(file.read()?)) };
        let read = self.shared.spawner.blocking(read).await;
        let read = read.map_err(|error| failed(AnyError::new(&error)))?;
        let current = read.map_err(|error| failed(AnyError::new(&error)))?;
        Ok(current.map(|(applied, bytes)| to_openraft(&applied, bytes)))
    }
}

fn to_openraft(applied: &Applied, bytes: Vec<u8>) -> Snapshot<TypeConfig> {
    Snapshot { meta: applied.meta(), snapshot: Box::new(Cursor::new(bytes)) }
}

/// Builds snapshots beside the running state machine.
#[derive(Debug)]
pub(crate) struct SnapshotBuilder(Arc<Shared>);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let failed = |error: std::io::Error| {
            StorageError::from(StorageIOError::write_snapshot(None, AnyError::new(&error)))
        };
        let prepared = locked(&self.0.prepared).take();
        match prepared {
            Some(applied) => {
                // openraft asks for the bytes only through `get_current_snapshot`.
                Ok(to_openraft(&applied, Vec::new()))
            }
            None => {
                let (applied, bytes) = self.0.write_snapshot().await.map_err(failed)?;
                Ok(to_openraft(&applied, bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests;
