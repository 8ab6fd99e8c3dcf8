//! When a partition's log has become long, and letting go of what is not needed any more.

use super::{Led, Worker};
use crate::group::step::Input;

/// A log this long, and this many times as long as what it says, is worth saying anew.
const RESTATE_SIZE_BYTES_MIN: usize = if cfg!(test) { 4_096 } else { 16 * 1024 * 1024 };
const RESTATE_FACTOR: usize = 4;

/// How long the partition's log has become.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Growth {
    /// Bytes appended since everything was said the last time.
    pub(super) size_bytes: usize,
    /// What saying everything took the last time.
    restated_size_bytes: usize,
    /// Everything is being said again; the log ended here when that began.
    restating_from: Option<i64>,
}

impl Growth {
    /// A log that was read back: how much of it is needed is not known.
    pub(super) fn of(size_bytes: usize) -> Self {
        Self { size_bytes, ..Self::default() }
    }

    fn is_long(&self) -> bool {
        let long = self.restated_size_bytes.saturating_mul(RESTATE_FACTOR);
        self.size_bytes > long.max(RESTATE_SIZE_BYTES_MIN)
    }
}

impl Worker {
    /// Has everything said anew where the log has become long. The drafts are appended, so that
    /// what is said comes behind the log's end.
    pub(super) fn restate_long_logs(&mut self) {
        let mut long = Vec::new();
        for (partition, led) in &mut self.led {
            let Led::Ready { growth, .. } = led else { continue };
            if growth.is_long()
                && growth.restating_from.is_none()
                && let Some(offset) = self.log.next_offset(*partition)
            {
                growth.restating_from = Some(offset);
                growth.size_bytes = 0;
                long.push(*partition);
            }
        }
        for partition in long {
            self.step(partition, Input::Restate);
            self.append_drafts();
        }
    }

    pub(super) fn on_restated(&mut self, partition: i32, is_complete: bool) {
        let Some(Led::Ready { growth, .. }) = self.led.get_mut(&partition) else { return };
        let from = growth.restating_from.take();
        growth.restated_size_bytes = growth.size_bytes;
        growth.size_bytes = 0;
        if let Some(offset) = from.filter(|_| is_complete) {
            tracing::info!(partition, offset, "the log of groups starts anew");
            self.log.release(partition, offset);
        }
    }
}
