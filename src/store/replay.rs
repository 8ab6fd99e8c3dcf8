//! Does again what a frame did: at a start, and where a leader's frames arrive.

use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use tokio::sync::Notify;

use super::frame::{Header, Kind};
use super::state::{State, note};
use crate::model::Offset;

impl State {
    /// Takes into account a frame that is in the active segment, and the header of its batch unless
    /// that is damaged. A frame that is not new is in the checkpoint, and only enters the index.
    /// Returns who is to be told that a queue is gone.
    pub(super) fn replay(
        &mut self,
        header: &Header,
        batch: Option<&BatchHeader>,
        is_new: bool,
    ) -> Vec<Arc<Notify>> {
        match header.kind {
            Kind::Data => self.replay_data(header, batch, is_new),
            Kind::LogStart if is_new => self.move_log_start(header.queue, header.base_offset),
            Kind::QueueDropped if is_new => return self.forget_queue(header.queue),
            Kind::EpochStart if is_new => {
                self.epoch = header.epoch;
                self.epochs.push((header.epoch, header.position));
            }
            Kind::Filler
            | Kind::Start
            | Kind::EpochStart
            | Kind::LogStart
            | Kind::QueueDropped
            | Kind::Mark => {}
        }
        Vec::new()
    }

    fn replay_data(&mut self, header: &Header, batch: Option<&BatchHeader>, is_new: bool) {
        let Self { queues, segments, index, sequencer, .. } = self;
        let queue = if is_new {
            queues.open(header.queue)
        } else {
            // Unknown to a later checkpoint: it was dropped.
            let Some(queue) = queues.get_mut(header.queue) else { return };
            queue
        };
        let next = header.base_offset.saturating_add(i64::from(header.offsets));
        if next > queue.gone_below()
            && let Some(active) = segments.values_mut().next_back()
        {
            let max_timestamp = batch.map_or(header.store_time_ms, |batch| batch.max_timestamp);
            note(queue, index, active, header, max_timestamp);
        }
        // Of a replica it may not be visible yet.
        queue.last_end = header.end();
        if is_new {
            queue.next = queue.next.max(next);
            if let Some(batch) = batch {
                let base = Offset(header.base_offset);
                sequencer.replay(header.queue, base, batch, header.store_time_ms);
            }
        }
    }
}
