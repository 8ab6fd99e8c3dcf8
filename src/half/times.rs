//! The time by which half messages get older: the wall clock's, without its jumps.
//!
//! Events and transaction ids say the wall clock's time, and a start knows no other. While the
//! broker runs, the monotonic clock tells how much of what the wall clock went is a jump: an era of
//! the wall clock ends there, and a half of an earlier era is as old as it was. So a clock that is
//! set neither expires halves nor has their producers asked too early or too late. Pure.

/// What the two clocks may differ by before it is a jump, in ms: they are not read at one instant.
const JUMP_MS: i64 = 1_000;

/// Between which jumps of the wall clock something was dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Era(u16);

#[derive(Debug, Clone)]
pub(super) struct Times {
    /// By how much the wall clock is ahead of the time without jumps, by era.
    ahead_ms: Vec<i64>,
    /// By how much the wall clock was ahead of the monotonic one when the last era began.
    apart_ms: i64,
    /// The time without jumps when the clocks were last looked at.
    now_ms: i64,
}

impl Times {
    /// At the first look at the clocks both times are one.
    pub(super) fn new(wall_ms: i64, monotonic_ms: i64) -> Self {
        Self { ahead_ms: vec![0], apart_ms: wall_ms.saturating_sub(monotonic_ms), now_ms: wall_ms }
    }

    /// Looks at the clocks. Returns by how much the wall clock has jumped, if it has.
    pub(super) fn look(&mut self, wall_ms: i64, monotonic_ms: i64) -> Option<i64> {
        let apart_ms = wall_ms.saturating_sub(monotonic_ms);
        let jump_ms = apart_ms.saturating_sub(self.apart_ms);
        let jumped = jump_ms.saturating_abs() > JUMP_MS;
        // Whoever sets the clock 65,535 times in one run has its jumps count from then on.
        if jumped && self.ahead_ms.len() <= usize::from(u16::MAX) {
            self.apart_ms = apart_ms;
            self.ahead_ms.push(self.ahead().saturating_add(jump_ms));
        }
        self.now_ms = self.at(wall_ms);
        jumped.then_some(jump_ms)
    }

    fn ahead(&self) -> i64 {
        self.ahead_ms.last().copied().unwrap_or_default()
    }

    /// The era in which somebody read `wall_ms` off the clock a moment ago: the last or, if the
    /// clock has jumped since, the one before.
    pub(super) fn era_of(&self, wall_ms: i64) -> Era {
        let last = u16::try_from(self.ahead_ms.len() - 1).unwrap_or(u16::MAX);
        let off = |era| self.of(Era(era), wall_ms).saturating_sub(self.now_ms).saturating_abs();
        let before = last.saturating_sub(1);
        Era(if off(before) < off(last) { before } else { last })
    }

    /// What the wall clock's time of an era is without jumps.
    pub(super) fn of(&self, era: Era, wall_ms: i64) -> i64 {
        let ahead = self.ahead_ms.get(usize::from(era.0)).copied();
        wall_ms.saturating_sub(ahead.unwrap_or_else(|| self.ahead()))
    }

    /// What the wall clock's time of now is without jumps.
    pub(super) fn at(&self, wall_ms: i64) -> i64 {
        wall_ms.saturating_sub(self.ahead())
    }

    /// What the wall clock shows at a time, unless it jumps again.
    pub(super) fn on_the_wall(&self, at_ms: i64) -> i64 {
        at_ms.saturating_add(self.ahead())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_what_only_one_clock_has_gone() {
        let mut times = Times::new(1_000_000, 500);
        assert_eq!(times.look(1_060_000, 60_500), None, "a minute on both");
        assert_eq!(times.look(1_061_000, 60_600), None, "read a little apart");
        assert_eq!(times.look(9_061_100, 61_600), Some(8_000_000));
        assert_eq!(times.at(9_061_100), 1_061_100);
        assert_eq!(times.on_the_wall(1_061_100), 9_061_100);
        assert_eq!(times.look(61_100, 61_600), Some(-9_000_000), "and back beyond where it was");
        assert_eq!(times.at(61_100), 1_061_100);
        assert_eq!(times.look(62_100, 62_600), None);
    }

    #[test]
    fn what_was_dated_just_before_a_jump_is_of_the_era_before() {
        let mut times = Times::new(1_000_000, 0);
        let first = times.era_of(1_000_000);
        times.look(5_000_000, 100);
        assert_eq!(times.era_of(1_000_099), first);
        let second = times.era_of(5_000_001);
        assert_ne!(second, first);
        assert_eq!(
            (times.of(first, 1_000_099), times.of(second, 5_000_001)),
            (1_000_099, 1_000_101)
        );
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_ends_in_the_last_era() {
        let mut times = Times::new(0, 0);
        for n in 1..70_000 {
            assert!(times.look(n * 10_000, 0).is_some(), "{n}");
        }
        let last = times.era_of(700_000_000);
        assert_eq!(last, Era(u16::MAX));
        assert_eq!(times.at(655_350_000), 0);
        assert_eq!(times.at(655_360_000), 10_000, "jumps count");
    }
}
