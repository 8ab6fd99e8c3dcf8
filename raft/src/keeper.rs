//! Watches over openraft: tells when it died, and takes snapshots.
//!
//! A snapshot is due when the commands applied since the last one outweigh it, so the work of
//! all snapshots together stays in proportion to the log. It is written before openraft is asked
//! for it; if the disk is full, the log simply stays longer and the next attempt comes later.

use std::sync::Arc;

use openraft::Raft;
use openraft::error::Fatal;
use tokio::sync::watch;

use crate::state_machine::Shared;
use crate::types::TypeConfig;

/// When to take snapshots.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotPolicy {
    /// Bytes of commands that are never worth a snapshot.
    pub(crate) debt_bytes_min: u64,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self { debt_bytes_min: 2 << 20 }
    }
}

/// How the node stands, for those who wait for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Running,
    /// Stopped in order.
    Stopped,
    /// Died of this.
    Failed(Arc<str>),
}

/// The task: ends when openraft does.
pub(crate) async fn run(
    raft: Raft<TypeConfig>,
    shared: Arc<Shared>,
    policy: SnapshotPolicy,
    health: watch::Sender<Health>,
) {
    let mut metrics = raft.metrics();
    // After a snapshot that failed the next attempt waits for this much more debt.
    let mut postponed_to = 0;
    loop {
        let running = metrics.borrow_and_update().running_state.clone();
        match running {
            Ok(()) => {}
            Err(Fatal::Stopped) => {
                health.send_replace(Health::Stopped);
                return;
            }
            Err(fatal @ (Fatal::StorageError(_) | Fatal::Panicked)) => {
                health.send_replace(Health::Failed(fatal.to_string().into()));
                return;
            }
        }
        let (debt, size) = shared.snapshot_debt();
        if debt >= policy.debt_bytes_min.max(size).max(postponed_to) {
            match take_snapshot(&raft, &shared, size + debt).await {
                Ok(()) => postponed_to = 0,
                Err(error) => {
                    tracing::warn!(%error, "no metadata snapshot now; the metadata log stays longer");
                    postponed_to = debt + policy.debt_bytes_min;
                }
            }
        }
        if metrics.changed().await.is_err() {
            health.send_replace(Health::Failed("the metadata quorum's core is gone".into()));
            return;
        }
    }
}

async fn take_snapshot(
    raft: &Raft<TypeConfig>,
    shared: &Arc<Shared>,
    expected_bytes: u64,
) -> std::io::Result<()> {
    if shared.free_bytes()? < expected_bytes.saturating_mul(2) {
        return Err(std::io::ErrorKind::StorageFull.into());
    }
    shared.prepare_snapshot().await?;
    // Fails only when openraft stopped, which its metrics tell.
    drop(raft.trigger().snapshot().await);
    Ok(())
}
