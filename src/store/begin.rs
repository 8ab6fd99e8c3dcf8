//! The beginning of a run: its start frame, on disk before anything else is appended.
//!
//! The frame voids whatever an earlier run left behind the log's end. On a full disk there may be
//! no room even for that: then the store serves what it has, refuses appends as it does when the
//! disk fills up later, and the keeper begins the run once there is room.

use super::error::{AppendError, MaintainError};
use super::shared::Shared;

/// Who puts the start frame on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// Whoever begins: nobody else writes yet.
    ByTheCaller,
    /// The writer's thread, where there is one.
    ByTheWriter,
}

impl Shared {
    /// Begins the run unless it has begun; whether it has now. The segment is prepared before.
    pub(super) fn begin_run(&self, writes: Writes) -> Result<bool, MaintainError> {
        let moment = self.moment();
        let mut state = self.state();
        let Some(flags) = state.unbegun else { return Ok(true) };
        let end = match state.append_start(flags, moment) {
            Ok(end) => end,
            Err(AppendError::Failed(failed)) => return Err(failed.into()),
            Err(error) => {
                tracing::warn!(%error, "the log cannot be continued yet: appends are refused");
                return Ok(false);
            }
        };
        self.release(state);
        if self.threaded && writes == Writes::ByTheWriter {
            self.watermark.wait_blocking(end.0)?;
        } else {
            self.write_all()?;
        }
        self.state().unbegun = None;
        self.allocated.notify_waiters();
        Ok(true)
    }
}
