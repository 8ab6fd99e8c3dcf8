//! What everybody else does with the log. All calls are plain functions that take the shard's
//! lock for a short moment and never wait for the disk, unless their doc says that they block.

use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use tokio::sync::Notify;

use super::error::{AppendError, LogFailed, LogStartError, MaintainError, ReadError};
use super::frame::{self, Kind};
use super::group::Part;
use super::sequencer::{AbortedTransaction, ActiveProducer};
use super::shared::Shared;
use super::state::{Appended, Class, Content, Moment};
use super::watermark::{Mark, WaitDurable};
use crate::model::{LeaderEpoch, Offset, Position, QueueId};

/// A shard's log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    pub(super) shared: Arc<Shared>,
}

/// Where a queue begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// First offset.
    pub log_start: Offset,
    /// Offset behind the last durable record: nobody reads from here on.
    pub high_watermark: Offset,
    /// Offset that the next record gets.
    pub next: Offset,
}

/// What a store has done and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Position behind the last frame.
    pub appended: Position,
    /// Everything below is on disk.
    pub durable: Position,
    /// Segments that hold or may hold records.
    pub segments: usize,
    /// Bytes of memory mapped for the ring.
    pub ring_bytes: usize,
    /// Whether appends of records are refused for want of space.
    pub disk_full: bool,
}

/// The checksum of a batch that its frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSum(u32);

impl BatchSum {
    /// Reads all of the batch.
    #[must_use]
    pub fn of(batch: &[u8]) -> Self {
        Self(frame::body_crc(batch))
    }
}

impl LogHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Appends a batch to a queue. When this returns, the batch's place and offsets are fixed;
    /// it is durable once [`LogHandle::wait_durable`] of its `end` resolves. `header` is that of
    /// `batch`, which the caller has validated; base offset and leader epoch are stamped here.
    ///
    /// # Errors
    /// See [`AppendError`]: nothing was appended.
    pub fn append(
        &self,
        queue: QueueId,
        epoch: LeaderEpoch,
        class: Class,
        batch: &[u8],
        header: &BatchHeader,
    ) -> Result<Appended, AppendError> {
        let now_ms = self.shared.moment().now_ms;
        self.append_at(now_ms, queue, epoch, class, (batch, header))
    }

    /// As [`LogHandle::append`], by a caller that took the wall time for several appends at once.
    ///
    /// # Errors
    /// See [`AppendError`]: nothing was appended.
    pub fn append_at(
        &self,
        now_ms: i64,
        queue: QueueId,
        epoch: LeaderEpoch,
        class: Class,
        batch: (&[u8], &BatchHeader),
    ) -> Result<Appended, AppendError> {
        // The checksum of a large batch is not computed under the lock.
        self.append_summed(now_ms, queue, epoch, class, batch, BatchSum::of(batch.0))
    }

    /// As [`LogHandle::append_at`], by a caller that holds a lock of its own and has taken the sum
    /// before it.
    ///
    /// # Errors
    /// See [`AppendError`]: nothing was appended.
    pub fn append_summed(
        &self,
        now_ms: i64,
        queue: QueueId,
        epoch: LeaderEpoch,
        class: Class,
        (batch, header): (&[u8], &BatchHeader),
        BatchSum(body_crc): BatchSum,
    ) -> Result<Appended, AppendError> {
        check_is_the_batch(batch, header)?;
        if let Some(failed) = self.shared.watermark.failed() {
            return Err(failed.clone().into());
        }
        let mut state = self.shared.state();
        let moment = Moment { now_ms, durable: self.shared.watermark.durable() };
        let appended = state.append(queue, epoch, class, (batch, header, body_crc), moment);
        self.shared.release(state);
        appended
    }

    /// Appends batches to several queues as one group: all of them are in the log or none,
    /// whatever is cut when. Every answer has the same `end`. A batch that its producer sent before
    /// makes the whole group a duplicate: nothing is appended, all answers say `duplicate`, and
    /// the offsets of the batches that are not known are -1.
    ///
    /// # Errors
    /// See [`AppendError`]: nothing was appended. A group must fit into one segment.
    pub fn append_all(
        &self,
        now_ms: i64,
        epoch: LeaderEpoch,
        class: Class,
        parts: &[Part<'_>],
    ) -> Result<Vec<Appended>, AppendError> {
        let parts: Vec<_> = parts.iter().map(|part| (*part, BatchSum::of(part.batch))).collect();
        self.append_all_summed(now_ms, epoch, class, &parts)
    }

    /// As [`LogHandle::append_all`], by a caller that holds a lock of its own and has taken the sum
    /// of a large batch before it.
    ///
    /// # Errors
    /// As [`LogHandle::append_all`].
    pub fn append_all_summed(
        &self,
        now_ms: i64,
        epoch: LeaderEpoch,
        class: Class,
        parts: &[(Part<'_>, BatchSum)],
    ) -> Result<Vec<Appended>, AppendError> {
        for (Part { batch, header, .. }, _) in parts {
            check_is_the_batch(batch, header)?;
        }
        if let Some(failed) = self.shared.watermark.failed() {
            return Err(failed.clone().into());
        }
        let parts: Vec<_> = parts.iter().map(|(part, sum)| (*part, sum.0)).collect();
        let mut state = self.shared.state();
        let moment = Moment { now_ms, durable: self.shared.watermark.durable() };
        let appended = state.append_all(epoch, class, &parts, moment);
        self.shared.release(state);
        appended
    }

    /// Waits while too much is appended and not durable, or so many bytes might not fit before the
    /// next segment is made. Awaited before they are appended: it bounds memory and keeps appends
    /// from being refused.
    pub async fn room(&self, size_bytes: usize) {
        let shared = &self.shared;
        loop {
            if shared.watermark.failed().is_some() {
                return;
            }
            let unsynced = shared.appended().saturating_sub(shared.watermark.durable());
            let most = shared.config.unsynced_size_bytes_max;
            if unsynced > most {
                let position = Position(shared.appended() - most);
                if self.wait_durable(position).await.is_err() {
                    return;
                }
                continue;
            }
            let allocated = shared.allocated.notified();
            if !self.lacks_segment(size_bytes) {
                return;
            }
            if shared.threaded {
                allocated.await;
            } else if shared.prepare_segment().is_err() {
                return;
            }
        }
    }

    /// Whether [`LogHandle::room`] would return at once. Takes no lock: every request asks.
    #[must_use]
    pub fn has_room(&self, size_bytes: usize) -> bool {
        let shared = &self.shared;
        let unsynced = shared.appended().saturating_sub(shared.watermark.durable());
        shared.watermark.failed().is_some()
            || unsynced <= shared.config.unsynced_size_bytes_max && !self.lacks_segment(size_bytes)
    }

    /// Whether so many bytes may have to wait for a segment. Many ask at once and append after, so
    /// some more are left free.
    fn lacks_segment(&self, size_bytes: usize) -> bool {
        let config = &self.shared.config;
        let segment = config.segment_size_bytes;
        let near = (segment / 4).min(config.unsynced_size_bytes_max);
        self.shared.free_bytes() < near.saturating_add(size_bytes as u64).min(segment)
    }

    /// Everything below this position is on disk.
    #[must_use]
    pub fn durable(&self) -> Position {
        Position(self.shared.watermark.durable())
    }

    /// Position behind the last frame.
    #[must_use]
    pub fn appended(&self) -> Position {
        Position(self.shared.appended())
    }

    /// Resolves once everything below `position` is on disk; fails once that cannot happen any
    /// more. Dropping it loses nothing.
    pub fn wait_durable(&self, position: Position) -> WaitDurable {
        WaitDurable::new(Arc::clone(&self.shared.watermark), position, Mark::Durable)
    }

    /// As [`LogHandle::wait_durable`], and committed as well, which of a log of one broker alone is
    /// the same.
    pub fn wait_committed(&self, position: Position) -> WaitDurable {
        WaitDurable::new(Arc::clone(&self.shared.watermark), position, Mark::Visible)
    }

    /// Resolves when the log fails or is closed. On [`LogFailed::Io`] the process has to end:
    /// nothing that was not durable will ever be.
    pub async fn failed(&self) -> LogFailed {
        match self.wait_durable(Position(u64::MAX)).await {
            Err(failed) => failed,
            Ok(()) => LogFailed::Closed,
        }
    }

    /// Makes a queue known, or finds it known. Queue numbers are never used again after a drop:
    /// one that was dropped in this run stays unknown, and its marks are zero.
    pub fn open_queue(&self, queue: QueueId) -> Offsets {
        let mut state = self.shared.state();
        if !state.dropped.contains(&queue) {
            state.queues.open(queue);
        }
        drop(state);
        self.offsets(queue).unwrap_or(Offsets {
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            next: Offset::ZERO,
        })
    }

    /// Drops a queue and its records. Returns the position from which on that is durable.
    ///
    /// # Errors
    /// The drop could not be logged; the queue is still there.
    pub fn drop_queue(&self, queue: QueueId) -> Result<Position, AppendError> {
        let moment = self.shared.moment();
        let mut state = self.shared.state();
        if state.queues.get(queue).is_none() {
            return Err(AppendError::UnknownQueue(queue));
        }
        let end = state.append_control(Content::control(Kind::QueueDropped, queue, 0), moment);
        let told = if end.is_ok() { state.forget_queue(queue) } else { Vec::new() };
        self.shared.release(state);
        told.iter().for_each(|notify| notify.notify_one());
        end
    }

    /// All queues that are open or hold something.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueId> {
        self.shared.state().queues.iter().map(|queue| queue.id).collect()
    }

    /// Where a queue begins and ends.
    ///
    /// # Errors
    /// The queue is unknown.
    pub fn offsets(&self, queue: QueueId) -> Result<Offsets, ReadError> {
        let durable = self.shared.watermark.visible();
        let state = self.shared.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        Ok(Offsets {
            log_start: Offset(known.log_start),
            high_watermark: Offset(state.high_watermark(known, durable)),
            next: Offset(known.next),
        })
    }

    /// Where readers of committed records of a queue stop: at most its high watermark.
    ///
    /// # Errors
    /// The queue is unknown.
    pub fn last_stable(&self, queue: QueueId) -> Result<Offset, ReadError> {
        let durable = self.shared.watermark.visible();
        let mut state = self.shared.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let high_watermark = Offset(state.high_watermark(known, durable));
        let log_start = Offset(known.log_start);
        // Retention goes by records, whatever transaction they are of.
        Ok(state.sequencer.last_stable(queue, high_watermark).max(log_start))
    }

    /// How often the shard's lock was taken.
    #[cfg(test)]
    pub(crate) fn times_locked(&self) -> u64 {
        self.shared.locked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The void transactions that have records in a range of a queue, by where they begin.
    #[must_use]
    pub fn aborted(
        &self,
        queue: QueueId,
        range: std::ops::Range<Offset>,
    ) -> Vec<AbortedTransaction> {
        self.shared.state().sequencer.aborted(queue, range)
    }

    /// Bytes of the batches of a queue, to the precision of a segment at its beginning.
    ///
    /// # Errors
    /// The queue is unknown.
    pub fn size_bytes(&self, queue: QueueId) -> Result<u64, ReadError> {
        let state = self.shared.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        Ok(known.places.iter().map(|place| u64::from(place.bytes)).sum())
    }

    /// The producers that the sequencer knows to have appended to a queue.
    #[must_use]
    pub fn producers(&self, queue: QueueId) -> Vec<ActiveProducer> {
        self.shared.state().sequencer.producers(queue)
    }

    /// Moves a queue's log start up to `offset`, at most to the high watermark, and forgets what
    /// lies below. Returns the position from which on that is durable; a lower offset than the
    /// log start changes nothing.
    ///
    /// # Errors
    /// The queue is unknown, the offset above the high watermark, or the move not loggable.
    pub fn set_log_start(&self, queue: QueueId, offset: Offset) -> Result<Position, LogStartError> {
        let moment = self.shared.moment();
        let mut state = self.shared.state();
        let known = state.queues.get(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let high_watermark = state.high_watermark(known, self.shared.watermark.visible());
        let log_start = known.log_start;
        if offset.0 > high_watermark || offset.0 < 0 {
            return Err(LogStartError::Read(ReadError::OutOfRange {
                asked: offset,
                log_start: Offset(log_start),
                high_watermark: Offset(high_watermark),
            }));
        }
        if offset.0 <= log_start {
            return Ok(Position(state.appended));
        }
        let content = Content::control(Kind::LogStart, queue, offset.0);
        let end = state.append_control(content, moment);
        if end.is_ok() {
            state.move_log_start(queue, offset.0);
        }
        self.shared.release(state);
        Ok(end?)
    }

    /// The shard's leader epoch.
    #[must_use]
    pub fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.shared.state().epoch)
    }

    /// Begins a leader epoch: from now on appends of any other are refused. An epoch that is not
    /// above the current one changes nothing if it is the current, and is refused otherwise.
    ///
    /// # Errors
    /// The epoch is older than the current one, or could not be logged.
    pub fn start_epoch(&self, epoch: LeaderEpoch) -> Result<Position, AppendError> {
        let moment = self.shared.moment();
        let mut state = self.shared.state();
        let current = state.epoch;
        if epoch.0 < current {
            return Err(AppendError::Fenced { current: LeaderEpoch(current), got: epoch });
        }
        if epoch.0 == current {
            return Ok(Position(state.appended));
        }
        // The frame itself belongs to the epoch it starts.
        state.epoch = epoch.0;
        let content = Content::control(Kind::EpochStart, QueueId(0), 0);
        let end = state.append_control(content, moment);
        match &end {
            Ok(end) => {
                let start = end.0 - frame::frame_bytes(0);
                state.epochs.push((epoch.0, start));
            }
            Err(_) => state.epoch = current,
        }
        self.shared.release(state);
        end
    }

    /// Asks to be told whenever something of a queue has become durable, or the queue is
    /// dropped. Subscribe first, look second, then wait: a notification is kept as a permit.
    ///
    /// # Errors
    /// The queue is unknown.
    pub fn subscribe(
        &self,
        queue: QueueId,
        notify: &Arc<Notify>,
    ) -> Result<Subscription, ReadError> {
        let durable = self.shared.watermark.visible();
        let mut state = self.shared.state();
        let known = state.queues.get_mut(queue).ok_or(ReadError::UnknownQueue(queue))?;
        let id = known.subscribe(notify);
        state.notify_when_durable(queue, durable);
        Ok(Subscription { shared: Arc::clone(&self.shared), queue, id })
    }

    /// Frees segments whose records are all gone. Blocks: writes a checkpoint when there are any.
    ///
    /// # Errors
    /// The log failed, or the disk is full and this is to be tried again.
    pub fn recycle(&self) -> Result<(), MaintainError> {
        self.shared.recycle()
    }

    /// What the store has done and holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let durable = self.durable();
        let state = self.shared.state();
        Stats {
            appended: Position(state.appended),
            durable,
            segments: state.segments.len(),
            ring_bytes: state.ring.mapped_bytes(),
            disk_full: state.full && state.prepared.is_none() || state.unbegun.is_some(),
        }
    }
}

fn check_is_the_batch(batch: &[u8], header: &BatchHeader) -> Result<(), AppendError> {
    let said = header.size_bytes();
    if said != batch.len() || header.last_offset_delta < 0 {
        return Err(AppendError::NotTheBatch { said, got: batch.len() });
    }
    Ok(())
}

/// Ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    queue: QueueId,
    id: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(queue) = self.shared.state().queues.get_mut(self.queue) {
            queue.unsubscribe(self.id);
        }
    }
}
