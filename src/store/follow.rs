//! A replica that follows: takes frames of its leader as they are, or begins to lead.
//!
//! What arrives is checked as recovery checks a file, before the lock is taken, and replayed as
//! recovery replays it. Its bytes are the leader's to the last one, so a frame's durable mark tells
//! of the leader's disk. To make it true of this one, too, a write ends in front of the first
//! frame whose mark is above where the write began: a torn end can then be told from damage by the
//! same rule on every replica.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use tokio::sync::Notify;

use super::error::{AppendError, ReceiveError};
use super::frame::{self, HEADER_BYTES, Header, JOINED, Kind, Lineage};
use super::handle::LogHandle;
use super::state::{Class, Content, State};
use super::width::index;
use crate::model::{LeaderEpoch, Position, QueueId};

/// Generations from here on are leaders' epochs; those below count the starts of one broker alone.
pub(super) const REPLICATED: u32 = 1 << 31;

/// Where a write has to end for the sake of what frames say to be durable: the position of each
/// frame that says more than the one before, and what it says.
#[derive(Debug, Default)]
pub(super) struct Barriers(VecDeque<(u64, u64)>);

impl Barriers {
    fn note(&mut self, header: &Header) {
        if self.0.back().is_none_or(|(_, durable)| *durable < header.durable) {
            self.0.push_back((header.position, header.durable));
        }
    }

    /// Where a write from `from`, which is durable so far, may end if it should end at `to`.
    pub(super) fn end_of_write(&mut self, from: u64, to: u64) -> u64 {
        while self.0.front().is_some_and(|(_, durable)| *durable <= from) {
            self.0.pop_front();
        }
        self.0.front().map_or(to, |(position, _)| to.min(*position))
    }
}

/// A frame that came, and where its bytes are.
struct Arrived {
    header: Header,
    batch: Option<BatchHeader>,
    bytes: Range<usize>,
}

impl LogHandle {
    /// Appends frames that a leader sent, whole groups of them, as [`LogHandle::read_frames`]
    /// reads them; `at` is where they belong. Returns the end of the log: its bytes are durable
    /// once [`LogHandle::wait_durable`] of that resolves.
    ///
    /// # Errors
    /// See [`ReceiveError`]. Groups before the one at fault are in the log.
    pub fn receive(
        &self,
        leader: LeaderEpoch,
        at: Position,
        bytes: &[u8],
    ) -> Result<Position, ReceiveError> {
        if let Some(failed) = self.shared.watermark.failed() {
            return Err(AppendError::from(failed.clone()).into());
        }
        let log_tag = self.shared.state().log_tag;
        let arrived = parse(bytes, at.0, log_tag, leader)?;
        let (durable, visible) = (self.shared.watermark.durable(), self.shared.watermark.visible());
        let mut told = Vec::new();
        let mut state = self.shared.state();
        let mut taken = Ok(());
        for group in arrived.chunk_by(|before, _| before.header.flags_join()) {
            taken = state.receive(group, bytes, (durable, visible), &mut told);
            if taken.is_err() {
                break;
            }
        }
        let end = Position(state.appended);
        self.shared.release(state);
        told.iter().for_each(|notify| notify.notify_one());
        taken.map(|()| end)
    }

    /// Begins to lead in an epoch, above that of every frame: from now on the log takes appends of
    /// that epoch and no frames of others. Returns the position behind the frame that says so.
    ///
    /// # Errors
    /// The log is no replica's, the epoch not above its last one, or the frame found no room.
    pub fn lead(&self, epoch: LeaderEpoch) -> Result<Position, AppendError> {
        let moment = self.shared.moment();
        let mut state = self.shared.state();
        let before = (state.following, state.epoch, state.generation);
        let generation = REPLICATED | epoch.0.unsigned_abs();
        if !self.shared.watermark.is_replica() || epoch.0 <= before.1 || generation <= before.2 {
            return Err(AppendError::Fenced { current: LeaderEpoch(before.1), got: epoch });
        }
        (state.following, state.epoch, state.generation) = (false, epoch.0, generation);
        let content = Content::control(Kind::EpochStart, QueueId(0), 0);
        let end = state.append_control(content, moment);
        match &end {
            Ok(end) => state.epochs.push((epoch.0, end.0 - frame::frame_bytes(0))),
            Err(_) => (state.following, state.epoch, state.generation) = before,
        }
        self.shared.release(state);
        end
    }

    /// Everything below is committed: what of it is durable here may be seen. The mark never goes
    /// back. Means nothing to a log of one broker alone.
    pub fn commit(&self, to: Position) {
        let shared = &self.shared;
        shared.watermark.commit(to.0);
        let visible = shared.watermark.visible();
        let mut state = shared.state();
        let told = state.take_notified(visible);
        let is_sealable = |segment: &super::segment::Segment| {
            !segment.reader.is_sealed() && segment.mem.is_some() && segment.end() <= visible
        };
        let is_due = state.checkpoint_waits.is_some_and(|waits| waits <= visible)
            || state.segments.values().rev().skip(1).take(2).any(is_sealable);
        state.keeper_due |= is_due;
        shared.release(state);
        told.iter().for_each(|notify| notify.notify_one());
    }

    /// Everything below is durable and committed.
    #[must_use]
    pub fn visible(&self) -> Position {
        Position(self.shared.watermark.visible())
    }
}

impl Header {
    fn flags_join(&self) -> bool {
        self.kind == Kind::Data && self.flags & JOINED != 0
    }
}

/// The frames that bytes consist of, each checked by itself.
fn parse(
    bytes: &[u8],
    at: u64,
    log_tag: u32,
    leader: LeaderEpoch,
) -> Result<Vec<Arrived>, ReceiveError> {
    let mut arrived: Vec<Arrived> = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let position = at + start as u64;
        let malformed = |why| ReceiveError::Malformed { at: Position(position), why };
        if arrived.last().is_some_and(|last| last.header.kind == Kind::Filler) {
            return Err(malformed("the segment is full before it"));
        }
        let rest = bytes.get(start..).unwrap_or_default();
        let header = Header::parse(rest).ok_or(malformed("no header"))?;
        if header.log_tag != log_tag || header.position != position || header.durable > position {
            return Err(malformed("another log or place"));
        }
        if header.epoch > leader.0 {
            return Err(malformed("an epoch above the leader's"));
        }
        let (payload, size) = match header.kind {
            Kind::Filler => (0, HEADER_BYTES),
            _ => (header.length as usize, index(header.frame_bytes())),
        };
        let frame = rest.get(..size).ok_or(malformed("cut short"))?;
        let (payload, padding) = frame.split_at(HEADER_BYTES + payload);
        let payload = payload.get(HEADER_BYTES..).unwrap_or_default();
        if !header.body_matches(payload) || padding.iter().any(|byte| *byte != 0) {
            return Err(malformed("other bytes than were written"));
        }
        let batch = match header.kind {
            Kind::Data => Some(
                batch_of(&header, payload)
                    .ok_or(malformed("not the batch that the frame names"))?,
            ),
            _ => None,
        };
        arrived.push(Arrived { header, batch, bytes: start..start + size });
        start += size;
    }
    match arrived.last() {
        Some(last) if last.header.flags_join() => {
            let at = Position(last.header.position);
            Err(ReceiveError::Malformed { at, why: "a group that is not whole" })
        }
        Some(_) | None => Ok(arrived),
    }
}

fn batch_of(header: &Header, payload: &[u8]) -> Option<BatchHeader> {
    let batch = BatchHeader::parse(payload).ok()?;
    let offsets = batch.last_offset_delta.checked_add(1)?;
    let is_it = batch.size_bytes() == payload.len()
        && batch.base_offset == header.base_offset
        && u32::try_from(offsets) == Ok(header.offsets);
    is_it.then_some(batch)
}

impl State {
    /// Takes one group, or a frame that is in none.
    fn receive(
        &mut self,
        group: &[Arrived],
        bytes: &[u8],
        (durable, visible): (u64, u64),
        told: &mut Vec<Arc<Notify>>,
    ) -> Result<(), ReceiveError> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        if !self.following {
            return Err(ReceiveError::NotFollowing);
        }
        self.make_way(first.header.position)?;
        self.check_order(group)?;
        let size_bytes = (last.bytes.end - first.bytes.start) as u64;
        let malformed = |why| ReceiveError::Malformed { at: Position(first.header.position), why };
        if size_bytes > self.room_in_segment() {
            return Err(malformed("segments of another size"));
        }
        if first.header.kind == Kind::Filler {
            let segment_end = self.appended + self.room_in_segment();
            if first.header.end() != segment_end {
                return Err(malformed("segments of another size"));
            }
            // Behind it the log goes on elsewhere.
            self.check_prepared()?;
        }
        self.reserve(size_bytes, Class::System, durable)?;
        for frame in group {
            self.take(frame, bytes, told);
            self.notify_when_durable(frame.header.queue, visible);
        }
        if group.len() > 1 {
            self.groups.push(first.header.position, self.appended);
        }
        Ok(())
    }

    /// Whether frames go on where the log ends. Where no frame fits into the segment any more,
    /// they go on in the next one.
    fn make_way(&mut self, position: u64) -> Result<(), ReceiveError> {
        let room = self.room_in_segment();
        let end = if room < HEADER_BYTES as u64 { self.appended + room } else { self.appended };
        if position != end {
            return Err(ReceiveError::Elsewhere { end: Position(end) });
        }
        if room < HEADER_BYTES as u64 {
            self.check_prepared()?;
            self.go_on(self.appended);
            self.jumps = true;
        }
        Ok(())
    }

    fn check_prepared(&mut self) -> Result<(), AppendError> {
        if self.prepared.is_some() {
            return Ok(());
        }
        self.keeper_due = true;
        Err(if self.full { AppendError::DiskFull } else { AppendError::SegmentNotReady })
    }

    /// Whether frames follow the ones before by their epochs and offsets.
    fn check_order(&self, group: &[Arrived]) -> Result<(), ReceiveError> {
        let known = Lineage { generation: self.generation, epoch: self.epoch };
        let mut next = Vec::new();
        for Arrived { header, .. } in group {
            let malformed = |why| ReceiveError::Malformed { at: Position(header.position), why };
            let begins = matches!(header.kind, Kind::Start | Kind::EpochStart);
            let follows = if begins { header.lineage() > known } else { header.lineage() == known };
            if !follows {
                return Err(malformed("its epoch does not follow the one before"));
            }
            if header.kind != Kind::Data {
                continue;
            }
            let taken = next.iter().rev().find(|(queue, _)| *queue == header.queue);
            let stored = self.queues.get(header.queue).map_or(0, |queue| queue.next);
            if header.base_offset < taken.map_or(stored, |(_, next)| *next) {
                return Err(malformed("its offsets are taken"));
            }
            next.push((header.queue, header.base_offset + i64::from(header.offsets)));
        }
        Ok(())
    }

    /// Puts a frame, for which there is room, at the end of the log.
    fn take(&mut self, frame: &Arrived, bytes: &[u8], told: &mut Vec<Arc<Notify>>) {
        let header = &frame.header;
        self.ring.append(self.appended, bytes.get(frame.bytes.clone()).unwrap_or_default());
        self.appended += frame.bytes.len() as u64;
        self.jumps = false;
        self.barriers.note(header);
        self.unmarked = false;
        self.generation = header.generation;
        if let Some(active) = self.segments.values_mut().next_back() {
            active.lineage = header.lineage();
        }
        told.extend(self.replay(header, frame.batch.as_ref(), true));
        if header.kind == Kind::Filler {
            self.go_on(self.appended);
            self.jumps = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_write_holds_a_frame_that_vouches_for_the_same_write() {
        let barriers = || Barriers(VecDeque::from([(100, 50), (300, 100), (400, 300)]));
        for (from, to, end) in [
            (0, 40, 40),
            (0, 1000, 100),
            (50, 1000, 300),
            (100, 1000, 400),
            (120, 350, 350),
            (300, 1000, 1000),
        ] {
            assert_eq!(barriers().end_of_write(from, to), end, "{from}..{to}");
        }
    }
}
