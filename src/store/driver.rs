//! Serves a store that has no threads, from one task: what the writer's and the keeper's threads
//! do otherwise. Everything happens on the spot, so a simulation repeats to the bit.

use std::sync::Arc;

use super::error::{LogFailed, MaintainError};
use super::open::Store;
use super::shared::Shared;

/// A handle that does the store's work. One task uses it.
#[derive(Debug, Clone)]
pub struct Driver {
    shared: Arc<Shared>,
}

impl Store {
    /// Who serves this store, if it was opened without threads.
    #[must_use]
    pub fn driver(&self) -> Driver {
        Driver { shared: Arc::clone(&self.shared) }
    }
}

impl Driver {
    /// Resolves when there may be work since the last time.
    pub async fn work(&self) {
        self.shared.inline_work.notified().await;
    }

    /// Writes everything that is appended and looks after the segments; whether part of that is
    /// to be tried again later. Blocks.
    ///
    /// # Errors
    /// The log failed or is closed; there is no more to do.
    pub fn run(&self) -> Result<bool, LogFailed> {
        let shared = &self.shared;
        if let Some(failed) = shared.watermark.failed() {
            return Err(failed.clone());
        }
        shared.write_all()?;
        let mut keeper = shared.locked(&shared.keeper);
        let put_off = match shared.keep(&mut keeper, false) {
            Ok(()) => false,
            Err(MaintainError::Io(failure)) => {
                tracing::warn!(%failure, "maintenance is put off");
                true
            }
            Err(MaintainError::Failed(failed)) => return Err(failed),
        };
        Ok(put_off || keeper.waits_for_readers() || shared.state().full)
    }
}
