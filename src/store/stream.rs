//! Reading the log itself, by position: whole frames, whole groups, as they stand on disk, for
//! followers. May touch files: blocks, and belongs on the reader pool.

use std::sync::Arc;

use super::error::{DamageReason, FramesError, ReadError};
use super::frame::{HEADER_BYTES, Header, JOINED, Kind, Lineage};
use super::handle::LogHandle;
use super::ring::Piece;
use super::segment::SegmentReader;
use super::state::State;
use super::width::index;
use crate::model::{LeaderEpoch, Position};

/// Frames in order, of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// Where they belong: where they were asked for, or at the beginning of the next segment.
    pub at: Position,
    /// Their bytes; none at the end of the log.
    pub bytes: Vec<u8>,
}

/// Where frames are, found under the lock.
enum Found {
    End,
    Ring(Vec<Piece>),
    /// And whether what is durable goes as far as the segment.
    Disk(Arc<SegmentReader>, bool),
}

impl LogHandle {
    /// Where the log ends, and in which epoch. Where no frame fits into the segment any more it ends
    /// with that, since a start says so, too: replicas compare this.
    #[must_use]
    pub fn tail(&self) -> (LeaderEpoch, Position) {
        let state = self.shared.state();
        (LeaderEpoch(state.epoch), Position(end_of_log(&state)))
    }

    /// Everything below is on disk; the end of [`LogHandle::tail`] once everything is.
    #[must_use]
    pub fn durable_tail(&self) -> Position {
        let state = self.shared.state();
        let durable = self.shared.watermark.durable();
        Position(if durable >= state.appended { end_of_log(&state) } else { durable })
    }

    /// What replicas compare, at one moment: the epochs and where each began, the end of
    /// [`LogHandle::tail`], and [`LogHandle::durable_tail`].
    #[must_use]
    pub fn replica_view(&self) -> (Vec<(LeaderEpoch, Position)>, Position, Position) {
        let state = self.shared.state();
        let durable = self.shared.watermark.durable();
        let end = end_of_log(&state);
        let epochs = state.epochs.iter().map(|(epoch, at)| (LeaderEpoch(*epoch), Position(*at)));
        let durable = if durable >= state.appended { end } else { durable };
        (epochs.collect(), Position(end), Position(durable))
    }

    /// The frames from a position on, which is where one begins or the log ends: whole groups,
    /// `size_bytes_max` of bytes at most, but one group at least. Frames need not be durable. Blocks.
    ///
    /// # Errors
    /// See [`FramesError`].
    pub fn read_frames(
        &self,
        from: Position,
        size_bytes_max: usize,
    ) -> Result<Frames, FramesError> {
        let mut size = (size_bytes_max as u64).max(HEADER_BYTES as u64);
        loop {
            let (at, limit, found) = self.find_frames(from.0, size)?;
            let mut is_whole = true;
            let mut bytes = match found {
                Found::End => return Ok(Frames { at: Position(at), bytes: Vec::new() }),
                Found::Ring(pieces) => {
                    let parts = pieces.iter().map(|(chunk, range)| chunk.get(range.clone()));
                    parts.collect::<Vec<_>>().concat()
                }
                Found::Disk(reader, reaches) => {
                    is_whole = reaches;
                    let range = at..limit;
                    reader.prefetch(std::iter::once(range.clone()))?;
                    reader.read(range).map_err(as_frames_error)?.to_vec()
                }
            };
            let whole = whole_groups(&bytes, at, self.shared.state().log_tag);
            if whole > 0 {
                bytes.truncate(whole);
                return Ok(Frames { at: Position(at), bytes });
            }
            if (bytes.len() as u64) < size && !is_whole {
                // The group ends in memory, and begins where that was given up: soon it is on disk.
                return Ok(Frames { at: Position(at), bytes: Vec::new() });
            }
            if (bytes.len() as u64) < size {
                // All there is of the segment, and no group in it.
                return Err(self.damage_at(at));
            }
            size = size.saturating_mul(2);
        }
    }

    /// Where the frames from a position on are, and how far they go at most.
    fn find_frames(&self, from: u64, size: u64) -> Result<(u64, u64, Found), FramesError> {
        let state = self.shared.state();
        if from > end_of_log(&state) {
            return Err(FramesError::BehindEnd(Position(state.appended)));
        }
        let mut at = from;
        loop {
            if at >= state.appended {
                return Ok((at, at, Found::End));
            }
            let Some(segment) = state
                .segments
                .range(..=at)
                .next_back()
                .map(|(_, it)| it)
                .filter(|it| at < it.end())
            else {
                let next = state.segments.range(at..).next().map_or(state.appended, |(at, _)| *at);
                return Err(FramesError::Gone { first: Position(next) });
            };
            let limit = segment.closed_at.unwrap_or(state.appended).min(segment.end());
            if at >= limit || segment.end() - at < HEADER_BYTES as u64 {
                at = segment.end();
                continue;
            }
            let limit = limit.min(at.saturating_add(size));
            let hot_from = state.ring.start().unwrap_or(u64::MAX).max(state.opened_at);
            let pieces = if at >= hot_from { state.ring.pieces(at..limit) } else { None };
            let Some(pieces) = pieces else {
                let durable = self.shared.watermark.durable();
                let found = Found::Disk(Arc::clone(&segment.reader), limit <= durable);
                return Ok((at, limit.min(durable.max(at)), found));
            };
            return Ok((at, limit, Found::Ring(pieces)));
        }
    }

    fn damage_at(&self, at: u64) -> FramesError {
        let state = self.shared.state();
        match state.segments.range(..=at).next_back() {
            Some((_, segment)) => segment.reader.damage(at, DamageReason::Header).into(),
            None => FramesError::Gone { first: Position(state.appended) },
        }
    }
}

fn end_of_log(state: &State) -> u64 {
    let room = state.room_in_segment();
    if room < HEADER_BYTES as u64 { state.appended + room } else { state.appended }
}

fn as_frames_error(error: ReadError) -> FramesError {
    match error {
        ReadError::Damaged(damage) => damage.into(),
        ReadError::Io(failure) => failure.into(),
        ReadError::UnknownQueue(_) | ReadError::OutOfRange { .. } => {
            unreachable!("reading a segment asks for no queue")
        }
    }
}

/// How many of the bytes are whole groups of frames, each of them as it was written.
fn whole_groups(bytes: &[u8], at: u64, log_tag: u32) -> usize {
    let (mut end, mut whole) = (0, 0);
    let mut since = Lineage::FIRST;
    while let Some(header) = bytes.get(end..).and_then(Header::parse) {
        let is_here = header.position == at + end as u64 && header.log_tag == log_tag;
        let (payload, size) = match header.kind {
            Kind::Filler => (0, HEADER_BYTES),
            _ => (header.length as usize, index(header.frame_bytes())),
        };
        let start = end + HEADER_BYTES;
        let Some(payload) = bytes.get(start..start + payload).filter(|_| end + size <= bytes.len())
        else {
            break;
        };
        if !is_here || header.lineage() < since || !header.body_matches(payload) {
            break;
        }
        since = header.lineage();
        end += size;
        if header.kind != Kind::Data || header.flags & JOINED == 0 {
            whole = end;
        }
    }
    whole
}
