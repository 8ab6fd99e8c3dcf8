//! Groups: batches of several queues that are in the log together or not at all.
//!
//! A group is appended in one step, lies in one segment, and all its frames but the last are
//! flagged [`JOINED`]. The writer never calls a part of one durable, so nobody reads a part, and
//! recovery takes an unfinished one at the end of the log for a torn end. Called under the shard's
//! lock; no I/O.

use std::collections::VecDeque;

use braid_protocol::records::BatchHeader;

use super::error::AppendError;
use super::frame::{Header, JOINED, Kind, frame_bytes};
use super::sequencer::Sequenced;
use super::state::{Appended, Class, Moment, State};
use crate::model::{LeaderEpoch, Offset, Position, QueueId};

/// One batch of a group.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The queue it is for.
    pub queue: QueueId,
    /// The batch, validated by the caller.
    pub batch: &'a [u8],
    /// Its header.
    pub header: &'a BatchHeader,
}

/// Where the groups lie that are not durable yet, in order.
#[derive(Debug, Default)]
pub(super) struct Groups(VecDeque<(u64, u64)>);

impl Groups {
    pub(super) fn push(&mut self, start: u64, end: u64) {
        self.0.push_back((start, end));
    }

    /// Where a write from `from`, where no group lies across, may end if it should end at `to`:
    /// in front of a group that does not fit, or behind it if it is the first.
    pub(super) fn end_of_write(&mut self, from: u64, to: u64) -> u64 {
        while self.0.front().is_some_and(|(_, end)| *end <= from) {
            self.0.pop_front();
        }
        let across = self.0.partition_point(|(_, end)| *end <= to);
        match self.0.get(across) {
            Some((start, _)) if *start < to && *start > from => *start,
            Some((start, end)) if *start < to => *end,
            Some(_) | None => to,
        }
    }
}

/// A frame of a group, and the header of its batch unless that is damaged.
pub(super) type Member = (Header, Option<BatchHeader>);

/// Frames of a group whose last one was not met yet, while a log is read again.
#[derive(Debug, Default)]
pub(super) struct OpenGroup(Vec<Member>);

impl OpenGroup {
    /// Adds a frame; returns the frames that count now.
    pub(super) fn push(&mut self, header: Header, batch: Option<BatchHeader>) -> Vec<Member> {
        self.0.push((header, batch));
        let is_open = header.kind == Kind::Data && header.flags & JOINED != 0;
        if is_open { Vec::new() } else { self.take() }
    }

    /// The frames met so far.
    pub(super) fn take(&mut self) -> Vec<Member> {
        std::mem::take(&mut self.0)
    }

    /// Where an unfinished group begins.
    pub(super) fn start(&self) -> Option<u64> {
        self.0.first().map(|(header, _)| header.position)
    }
}

impl State {
    /// Appends a group, or says why not; then nothing has changed. A batch that its producer sent
    /// before makes all of the group a duplicate: nothing is appended.
    pub(super) fn append_all(
        &mut self,
        epoch: LeaderEpoch,
        class: Class,
        parts: &[(Part<'_>, u32)],
        moment: Moment,
    ) -> Result<Vec<Appended>, AppendError> {
        self.check_epoch(epoch)?;
        self.check_begun()?;
        let bytes = parts.iter().map(|(part, _)| frame_bytes(part.batch.len())).sum();
        let rolls = self.reserve(bytes, class, moment.durable)?;
        if let Some(duplicates) = self.judge_all(parts, moment)? {
            return Ok(duplicates);
        }
        if rolls {
            self.roll(moment);
        }
        let start = self.appended;
        let mut appended = Vec::with_capacity(parts.len());
        for (at, (part, body_crc)) in parts.iter().enumerate() {
            let flags = if at + 1 < parts.len() { JOINED } else { 0 };
            let batch = (part.batch, part.header, *body_crc);
            appended.push(self.enter(part.queue, flags, batch, moment));
        }
        if parts.len() > 1 {
            self.groups.push(start, self.appended);
        }
        let end = Position(self.appended);
        appended.iter_mut().for_each(|part| part.end = end);
        Ok(appended)
    }

    /// Asks the sequencer about every batch; the answers of a duplicate group.
    fn judge_all(
        &mut self,
        parts: &[(Part<'_>, u32)],
        moment: Moment,
    ) -> Result<Option<Vec<Appended>>, AppendError> {
        let mut answers = Vec::new();
        for (part, _) in parts {
            let known = self.queues.get(part.queue).ok_or(AppendError::UnknownQueue(part.queue))?;
            let (log_start, end) = (Offset(known.log_start), Position(known.last_end));
            let unknown = Offset(-1);
            let (base_offset, last_offset) =
                match self.sequencer.judge(part.queue, part.header, moment.now_ms)? {
                    Sequenced::Append => (unknown, unknown),
                    Sequenced::Duplicate { base_offset, last_offset } => (base_offset, last_offset),
                };
            answers.push(Appended { base_offset, last_offset, end, log_start, duplicate: true });
        }
        let is_known = |answer: &&Appended| answer.base_offset.0 >= 0;
        let Some(end) = answers.iter().filter(is_known).map(|answer| answer.end).max() else {
            return Ok(None);
        };
        answers.iter_mut().for_each(|answer| answer.end = end);
        Ok(Some(answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_ends_beside_groups_and_never_inside() {
        let groups = || Groups(VecDeque::from([(100, 300), (300, 350), (400, 900)]));
        for (from, to, end) in [
            (0, 50, 50),
            (0, 100, 100),
            (0, 101, 100),
            (0, 299, 100),
            (100, 200, 300),
            (100, 300, 300),
            (100, 320, 300),
            (300, 399, 399),
            (350, 800, 400),
            (400, 410, 900),
            (900, 1000, 1000),
        ] {
            assert_eq!(groups().end_of_write(from, to), end, "{from}..{to}");
        }
    }
}
