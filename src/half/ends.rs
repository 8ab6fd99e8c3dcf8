//! What is remembered of halves that came to an end: where their last event is.
//!
//! Everything else about an end is read from the log when somebody asks, so remembering one costs
//! four bytes for each record of the queue since, and never more than [`REMEMBERED_MAX`] of them.
//! Beside it stands how far the queue may be shortened for the sake of ends: not beyond a half that
//! ended less than [`REMEMBER_MS`] ago.

use std::collections::VecDeque;

use crate::model::Offset;

/// How long the end of a half is remembered for those who ask again.
pub(super) const REMEMBER_MS: i64 = 10 * 60 * 1000;
/// Most records of the queue whose ends are remembered: 32 MiB.
const REMEMBERED_MAX: usize = 1 << 23;
/// Ends are told apart by time in steps of so much.
const STEP_MS: i64 = 60_000;
/// Steps that may be kept; more only appear when the clock jumps about.
const STEPS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Offset that the first of `ends` is about.
    base: i64,
    /// By the half's offset: how far behind it the event is that ended it; 0 is none.
    ends: VecDeque<u32>,
    /// By time: the oldest half that ended in this step.
    steps: VecDeque<(i64, i64)>,
}

impl Ends {
    /// Takes over that an event at `at` ended a half.
    pub(super) fn insert(&mut self, half: Offset, at: Offset, at_ms: i64) {
        // An end that far behind its half is not remembered, as if it were long ago.
        let Ok(distance) = u32::try_from(at.0 - half.0) else { return };
        if self.ends.is_empty() {
            self.base = half.0;
        }
        while self.base > half.0 && self.ends.len() < REMEMBERED_MAX {
            self.ends.push_front(0);
            self.base -= 1;
        }
        let Ok(index) = usize::try_from(half.0 - self.base) else { return };
        if index >= self.ends.len() {
            self.make_room(index);
        }
        let Ok(index) = usize::try_from(half.0 - self.base) else { return };
        if let Some(end) = self.ends.get_mut(index) {
            *end = distance;
        }
        self.step(half.0, at_ms);
    }

    fn make_room(&mut self, index: usize) {
        let excess = (index + 1).saturating_sub(REMEMBERED_MAX);
        if excess >= self.ends.len() {
            self.ends.clear();
        } else {
            self.ends.drain(..excess);
        }
        self.base += i64::try_from(excess).unwrap_or(i64::MAX);
        self.ends.resize(index + 1 - excess, 0);
    }

    fn step(&mut self, half: i64, at_ms: i64) {
        let step = at_ms.div_euclid(STEP_MS);
        match self.steps.back_mut() {
            Some((last, oldest)) if *last == step => *oldest = (*oldest).min(half),
            Some(_) | None => {
                if self.steps.len() == STEPS_MAX {
                    self.steps.pop_front();
                }
                self.steps.push_back((step, half));
            }
        }
    }

    /// Where the event is that ended the half.
    pub(super) fn get(&self, half: Offset) -> Option<Offset> {
        let index = usize::try_from(half.0.checked_sub(self.base)?).ok()?;
        let distance = *self.ends.get(index)?;
        (distance != 0).then(|| half.plus(i64::from(distance)))
    }

    /// The oldest half that ended a short time before `now_ms`.
    pub(super) fn oldest_needed(&mut self, now_ms: i64) -> Option<Offset> {
        let forgotten = (now_ms - REMEMBER_MS).div_euclid(STEP_MS);
        while self.steps.front().is_some_and(|(step, _)| *step < forgotten) {
            self.steps.pop_front();
        }
        self.steps.iter().map(|(_, half)| Offset(*half)).min()
    }

    /// Forgets halves whose records are gone.
    pub(super) fn forget_below(&mut self, log_start: Offset) {
        let Ok(gone) = usize::try_from(log_start.0 - self.base) else { return };
        self.ends.drain(..gone.min(self.ends.len()));
        self.base = log_start.0;
        if self.ends.capacity() > 4 * self.ends.len() + 1024 {
            self.ends.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_found_until_its_half_is_gone() {
        let mut ends = Ends::default();
        assert_eq!(ends.get(Offset(5)), None);
        ends.insert(Offset(5), Offset(9), 0);
        ends.insert(Offset(3), Offset(10), 0);
        ends.insert(Offset(8), Offset(11), 0);
        let found = |ends: &Ends| (0..12).filter_map(|at| ends.get(Offset(at))).collect::<Vec<_>>();
        assert_eq!(found(&ends), [Offset(10), Offset(9), Offset(11)]);
        assert_eq!([ends.get(Offset(3)), ends.get(Offset(5))], [Some(Offset(10)), Some(Offset(9))]);
        ends.forget_below(Offset(5));
        assert_eq!(found(&ends), [Offset(9), Offset(11)]);
        ends.forget_below(Offset(100));
        assert_eq!(found(&ends), []);
        ends.insert(Offset(120), Offset(121), 0);
        assert_eq!(ends.get(Offset(120)), Some(Offset(121)));
    }

    #[test]
    fn too_many_push_out_the_oldest() {
        let mut ends = Ends::default();
        let far = i64::try_from(REMEMBERED_MAX).unwrap();
        ends.insert(Offset(0), Offset(1), 0);
        ends.insert(Offset(2), Offset(3), 0);
        ends.insert(Offset(far), Offset(far + 1), 0);
        assert_eq!([ends.get(Offset(0)), ends.get(Offset(2))], [None, Some(Offset(3))]);
        ends.insert(Offset(3 * far), Offset(3 * far + 1), 0);
        assert_eq!(ends.get(Offset(far)), None);
        assert_eq!(ends.get(Offset(3 * far)), Some(Offset(3 * far + 1)));
        // Older than all that is remembered.
        ends.insert(Offset(7), Offset(3 * far + 2), 0);
        assert_eq!(ends.get(Offset(7)), None);
    }

    #[test]
    fn the_queue_is_kept_for_ten_minutes_after_an_end() {
        let mut ends = Ends::default();
        ends.insert(Offset(50), Offset(60), 0);
        ends.insert(Offset(40), Offset(61), STEP_MS - 1);
        ends.insert(Offset(55), Offset(62), 3 * STEP_MS);
        assert_eq!(ends.oldest_needed(4 * STEP_MS), Some(Offset(40)));
        assert_eq!(ends.oldest_needed(STEP_MS - 1 + REMEMBER_MS), Some(Offset(40)));
        assert_eq!(ends.oldest_needed(STEP_MS + REMEMBER_MS), Some(Offset(55)));
        assert_eq!(ends.oldest_needed(4 * STEP_MS + REMEMBER_MS), None);
    }
}
