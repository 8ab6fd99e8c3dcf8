//! Writes what lives on into sorted segments, and switches the queues over to them.

use std::ops::Range;

use braid_protocol::records::BatchHeader;

use super::{CleanLimits, Halt, Pacer};
use crate::model::{Offset, QueueId};
use crate::store::error::{LogFailed, MaintainError};
use crate::store::frame::{Header, frame_bytes};
use crate::store::queue::{Place, Queue};
use crate::store::segment::{Segment, name};
use crate::store::shared::Shared;
use crate::store::sorted::{self, SortedWriter};
use crate::store::state::State;

/// How many queues are switched over under one hold of the lock.
const MOVES_AT_ONCE: usize = 256;
/// A sorted segment is at most so many times as large as one of the CommitLog, and this large.
const SIZE_FACTOR: u64 = 4;
const SIZE_BYTES_MAX: u64 = 1 << 30;

/// See the module.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    shared: &'a Shared,
    pub(super) pacer: Pacer<'a>,
    writer: Option<SortedWriter>,
    made: Vec<Segment>,
    moves: Vec<Move>,
    /// Void transactions that nothing is left of, by their markers.
    void: Vec<(QueueId, Vec<Offset>)>,
    /// Bytes of batches written.
    pub(super) output_bytes: u64,
}

/// What becomes of the places of a queue.
#[derive(Debug)]
struct Move {
    queue: QueueId,
    what: What,
    /// Where the records are from then on.
    new: Vec<Place>,
}

/// Which places of a queue are replaced.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// One.
    Place(Place),
    /// All below an offset, and the beginning of the one that it lies in.
    Below {
        offset: i64,
        /// The last segment read, and bytes of the batches read there.
        last: (u64, u32),
    },
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(shared: &'a Shared, limits: CleanLimits) -> Self {
        Self {
            shared,
            pacer: Pacer::new(shared, limits),
            writer: None,
            made: Vec::new(),
            moves: Vec::new(),
            void: Vec::new(),
            output_bytes: 0,
        }
    }

    /// From now on what is put replaces these places.
    pub(super) fn begin(&mut self, queue: QueueId, what: What) {
        self.moves.push(Move { queue, what, new: Vec::new() });
    }

    /// Counts a batch read of what is replaced.
    pub(super) fn count_source(&mut self, segment: u64, length: u32) {
        if let Some(Move { what: What::Below { last, .. }, .. }) = self.moves.last_mut() {
            *last = if last.0 == segment {
                (segment, last.1.saturating_add(length))
            } else {
                (segment, length)
            };
        }
    }

    /// Leaves a queue as it is. What was written for it is dead.
    pub(super) fn give_up(&mut self, queue: QueueId) {
        self.moves.retain(|each| each.queue != queue);
        self.void.retain(|(of, _)| *of != queue);
    }

    /// Has void transactions forgotten once the queue is switched over.
    pub(super) fn forget_void(&mut self, queue: QueueId, markers: Vec<Offset>) {
        if !markers.is_empty() {
            self.void.push((queue, markers));
        }
    }

    /// Writes a batch of the queue, in order.
    pub(super) fn put(
        &mut self,
        header: &Header,
        batch: &[u8],
        parsed: &BatchHeader,
    ) -> Result<(), Halt> {
        self.pacer.spend(frame_bytes(batch.len()))?;
        if self.writer.as_ref().is_some_and(|it| !it.has_room(batch.len(), self.size_bytes_max())) {
            self.end_file()?;
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self.writer.insert(begin_file(self.shared)?),
        };
        let written = writer.append(header, batch, parsed);
        written.map_err(|failure| self.shared.write_failed(failure))?;
        let segment = writer.first();
        self.output_bytes += batch.len() as u64;
        let Some(open) = self.moves.last_mut() else { return Ok(()) };
        match open.new.last_mut() {
            Some(place) if place.segment == segment => {
                place.bytes = place.bytes.saturating_add(header_length(batch));
            }
            before => {
                let first_offset = match (before, open.what) {
                    (None, What::Place(old)) => old.first_offset,
                    (None, What::Below { .. }) | (Some(_), _) => header.base_offset,
                };
                let bytes = header_length(batch);
                open.new.push(Place { first_offset, segment, bytes, slot: 0 });
            }
        }
        Ok(())
    }

    fn size_bytes_max(&self) -> u64 {
        let segment_size_bytes = self.shared.config.segment_size_bytes;
        (segment_size_bytes * SIZE_FACTOR).min(SIZE_BYTES_MAX).max(segment_size_bytes)
    }

    fn end_file(&mut self) -> Result<(), MaintainError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        match writer.finish() {
            Ok(opened) => {
                self.made.push(opened.segment);
                Ok(())
            }
            Err(failure) => Err(self.shared.write_failed(failure)),
        }
    }

    /// Ends the files and lets the queues use them. What they replace is dead from then on, and
    /// goes once two checkpoints do without it.
    pub(super) fn switch(mut self) -> Result<(), MaintainError> {
        if let Err(error) = self.end_file() {
            self.abandon();
            return Err(error);
        }
        // No checkpoint is written in between, and nothing freed.
        let keeper = self.shared.locked(&self.shared.keeper);
        if self.shared.state().closing {
            drop(keeper);
            self.abandon();
            return Err(LogFailed::Closed.into());
        }
        let mut state = self.shared.state();
        state.sorted.extend(self.made.drain(..).map(|segment| (segment.first, segment)));
        drop(state);
        for moves in self.moves.chunks(MOVES_AT_ONCE) {
            let mut state = self.shared.state();
            moves.iter().for_each(|each| each.apply(&mut state));
        }
        // Their records are gone by now, also for whoever restores the next checkpoint.
        for (queue, markers) in &self.void {
            self.shared.state().sequencer.cleaned(*queue, markers);
        }
        Ok(())
    }

    /// Removes what was written. What cannot be removed now, the next start removes.
    pub(super) fn abandon(self) {
        let (fs, dir) = (&self.shared.env.fs, &self.shared.config.dir);
        if let Some(writer) = self.writer
            && let Err(error) = writer.discard()
        {
            tracing::warn!(%error, "an unfinished sorted segment is left");
        }
        for segment in self.made {
            let path = name::sorted(dir, sorted::number_of(segment.first));
            if let Err(error) = fs.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a useless sorted segment is left");
            }
        }
    }
}

fn begin_file(shared: &Shared) -> Result<SortedWriter, MaintainError> {
    let (number, log_tag) = {
        let mut state = shared.state();
        state.next_sorted += 1;
        (state.next_sorted - 1, state.log_tag)
    };
    SortedWriter::create(&shared.env.fs, &shared.config.dir, number, log_tag)
        .map_err(|failure| shared.write_failed(failure))
}

fn header_length(batch: &[u8]) -> u32 {
    crate::store::frame::length_field(batch)
}

impl Move {
    /// Switches the queue over, as far as it still has what is replaced.
    fn apply(&self, state: &mut State) {
        let Some(queue) = state.queues.get_mut(self.queue) else { return };
        let Some((at, mut changes)) = (match self.what {
            What::Place(old) => replace_one(queue, &old, &self.new),
            What::Below { offset, last } => {
                Some((0, replace_below(queue, offset, last, &self.new)))
            }
        }) else {
            return;
        };
        let range = at..at + changes.new.len();
        unite_neighbours(&mut queue.places, range, queue.compacted_to, &mut changes);
        // The log start may have moved on since.
        changes.gone.extend(queue.leave_dead_places());
        // Places may be on both lists: what is new counts first.
        for place in &changes.new {
            if let Some(segment) = state.segment_mut(place.segment) {
                segment.take(place);
            }
        }
        state.release(&changes.gone);
    }
}

/// Places that do not count any more, and those that do now.
#[derive(Debug, Default)]
struct Changes {
    gone: Vec<Place>,
    new: Vec<Place>,
}

/// Replaces a place; where in the list, if it is there.
fn replace_one(queue: &mut Queue, old: &Place, new: &[Place]) -> Option<(usize, Changes)> {
    let same = |it: &Place| it.segment == old.segment && it.first_offset == old.first_offset;
    let at = queue.places.partition_point(|place| place.first_offset < old.first_offset);
    let at = at + queue.places.get(at..)?.iter().take(2).position(same)?;
    let gone = queue.places.splice(at..=at, new.iter().copied()).collect();
    Some((at, Changes { gone, new: new.to_vec() }))
}

/// Replaces everything below an offset.
fn replace_below(
    queue: &mut Queue,
    offset: i64,
    (last_segment, last_bytes): (u64, u32),
    new: &[Place],
) -> Changes {
    let below = queue.places.partition_point(|place| place.first_offset < offset);
    let mut new = new.to_vec();
    if let Some(number) = below.checked_sub(1)
        && let Some(last) = queue.places.get(number).copied()
        && queue.end_of_place(number) > offset
    {
        // The rest of it stays where it is.
        let moved = if last.segment == last_segment { last_bytes } else { 0 };
        let bytes = last.bytes.saturating_sub(moved);
        new.push(Place { first_offset: offset, bytes, ..last });
    }
    let gone = queue.places.splice(..below, new.iter().copied()).collect();
    queue.compacted_to = queue.compacted_to.max(offset);
    Changes { gone, new }
}

/// Makes one place of those around a range that follow each other in the same sorted segment, but
/// for what is compacted and what is not: how much of a queue is new is counted by places.
fn unite_neighbours(
    places: &mut Vec<Place>,
    range: Range<usize>,
    compacted_to: i64,
    changes: &mut Changes,
) {
    for number in (range.start.max(1)..=range.end).rev() {
        let (Some(before), Some(place)) = (places.get(number - 1), places.get(number)) else {
            continue;
        };
        let is_border = (before.first_offset + 1..=place.first_offset).contains(&compacted_to);
        if before.segment == place.segment && sorted::is_sorted(place.segment) && !is_border {
            let (before, place) = (*before, *place);
            let bytes = before.bytes.saturating_add(place.bytes);
            let united = Place { bytes, ..before };
            changes.gone.extend([before, place]);
            changes.new.push(united);
            places.splice(number - 1..=number, [united]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compacted_and_what_is_not_stay_two_places() {
        let sorted = sorted::first_of(3);
        let place = |first_offset, segment| Place { first_offset, segment, bytes: 10, slot: 0 };
        let all = [place(5, sorted), place(12, sorted), place(18, sorted), place(44, sorted)];
        let united = |compacted_to| {
            let mut places = all.to_vec();
            unite_neighbours(&mut places, 0..all.len(), compacted_to, &mut Changes::default());
            places.iter().map(|place| (place.first_offset, place.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(united(18), [(5, 20), (18, 20)]);
        assert_eq!(united(0), [(5, 40)]);
        assert_eq!(united(60), [(5, 40)]);
        let mut others = vec![place(5, 0), place(12, 0), place(18, sorted)];
        unite_neighbours(&mut others, 0..3, 0, &mut Changes::default());
        assert_eq!(others.len(), 3, "only neighbours in one sorted segment");
    }
}
