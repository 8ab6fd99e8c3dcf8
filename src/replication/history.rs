//! What a log looks like from outside: which epochs it holds, from where on, and where it ends.
//!
//! One leader writes in an epoch, and it only appends. So two logs that hold the same position
//! with the same epoch are equal below it, and comparing (epoch, position) is comparing bytes.

use crate::model::{LeaderEpoch, Position};

/// The end of a log, or of an epoch in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The epoch of the last frame.
    pub epoch: LeaderEpoch,
    /// Position behind it.
    pub end: Position,
}

/// A log at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LogView<'a> {
    /// The epochs it holds and the position where each began; ascending, never empty. The first
    /// one began at position 0 and may hold nothing.
    pub epochs: &'a [(LeaderEpoch, Position)],
    /// Position behind the last frame.
    pub end: Position,
    /// Everything below is on this replica's disk.
    pub durable: Position,
}

impl LogView<'_> {
    /// Where the log ends, and in which epoch.
    #[must_use]
    pub fn tail(&self) -> Tail {
        Tail { epoch: self.end_of(LeaderEpoch(i32::MAX)).epoch, end: self.end }
    }

    /// The last epoch not above `epoch`, and where it ends; the log's first one if all are above,
    /// ending where it begins.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch) -> Tail {
        let above = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self.epochs.get(above).map_or(self.end, |(_, start)| *start);
        let last = above.checked_sub(1).and_then(|last| self.epochs.get(last));
        match (last, self.epochs.first()) {
            (Some((epoch, _)), _) => Tail { epoch: *epoch, end },
            (None, Some((first, start))) => Tail { epoch: *first, end: *start },
            (None, None) => Tail { epoch: LeaderEpoch::default(), end: Position(0) },
        }
    }

    /// Whether a log with this tail is a beginning of this one.
    #[must_use]
    pub fn holds(&self, tail: Tail) -> bool {
        let known = self.end_of(tail.epoch);
        let start = self.epochs.iter().find(|(epoch, _)| *epoch == tail.epoch);
        // An epoch that both know began at the same place in both.
        start.is_some_and(|(_, start)| *start <= tail.end) && tail.end <= known.end
    }

    /// Where to cut this log, given what the leader has of the epoch it asked about: the first
    /// pair from the tail that may match (KIP-279). The next comparison finds out whether it does.
    #[must_use]
    pub fn cut_at(&self, known: Tail) -> Position {
        self.end_of(known.epoch).end.min(known.end)
    }
}
