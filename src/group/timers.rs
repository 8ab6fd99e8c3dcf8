//! Deadlines of one shard. Pure: somebody else watches the clock and calls back.
//!
//! Heartbeats move a deadline all the time, so moving one later costs nothing: the [`Alarm`] knows
//! when it is due, the queue only when it must be looked at next. An entry whose alarm has moved is
//! put back when it comes up; an entry whose alarm is gone is dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

/// One deadline, kept by whom it concerns. Times are monotonic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Alarm {
    due: Option<Duration>,
    /// The earliest queue entry for this alarm.
    queued: Option<Duration>,
}

impl Alarm {
    pub(super) fn cancel(&mut self) {
        self.due = None;
    }
}

/// Whom a queue entry concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlarmKey {
    /// A member, or a pending one, was silent for its session timeout.
    Session { group: Arc<str>, member: Arc<str> },
    /// The join phase is over.
    JoinPhase { group: Arc<str> },
    /// The sync phase is over.
    SyncPhase { group: Arc<str> },
    /// Time to look for expired offsets.
    Retention,
}

/// The queue of all alarms of a shard.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Duration, AlarmKey)>>,
}

impl Timers {
    /// Makes `alarm` ring at `due` and no earlier.
    pub(super) fn arm(&mut self, alarm: &mut Alarm, due: Duration, key: impl FnOnce() -> AlarmKey) {
        alarm.due = Some(due);
        if alarm.queued.is_none_or(|queued| due < queued) {
            alarm.queued = Some(due);
            self.queue.push(Reverse((due, key())));
        }
    }

    /// When [`Timers::pop`] must be asked next. May be earlier than any alarm rings.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    /// The next entry that is up at `now`.
    pub(super) fn pop(&mut self, now: Duration) -> Option<(Duration, AlarmKey)> {
        let Reverse((due, _)) = self.queue.peek()?;
        if *due > now {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// Whether `alarm` rings, now that its entry for `queued` came up.
    pub(super) fn rings(
        &mut self,
        alarm: &mut Alarm,
        queued: Duration,
        now: Duration,
        key: impl FnOnce() -> AlarmKey,
    ) -> bool {
        if alarm.queued != Some(queued) {
            return false;
        }
        alarm.queued = None;
        match alarm.due {
            None => false,
            Some(due) if due <= now => {
                alarm.due = None;
                true
            }
            Some(due) => {
                self.arm(alarm, due, key);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Rings what is up; counts.
    fn ring(timers: &mut Timers, alarm: &mut Alarm, now: Duration) -> usize {
        let mut rung = 0;
        while let Some((queued, key)) = timers.pop(now) {
            rung += usize::from(timers.rings(alarm, queued, now, || key));
        }
        rung
    }

    #[test]
    fn an_alarm_moved_later_rings_once_at_its_new_time() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        timers.arm(&mut alarm, at(5), || AlarmKey::Retention);
        timers.arm(&mut alarm, at(9), || AlarmKey::Retention);
        assert_eq!(timers.queue.len(), 1);
        assert_eq!(ring(&mut timers, &mut alarm, at(8)), 0);
        assert_eq!(timers.next_deadline(), Some(at(9)));
        assert_eq!(ring(&mut timers, &mut alarm, at(9)), 1);
        assert_eq!(ring(&mut timers, &mut alarm, at(99)), 0);
    }

    #[test]
    fn an_alarm_moved_earlier_rings_once_at_its_new_time() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        timers.arm(&mut alarm, at(300), || AlarmKey::Retention);
        timers.arm(&mut alarm, at(10), || AlarmKey::Retention);
        assert_eq!(ring(&mut timers, &mut alarm, at(10)), 1);
        assert_eq!(ring(&mut timers, &mut alarm, at(300)), 0);
    }

    #[test]
    fn a_cancelled_alarm_does_not_ring_and_can_be_armed_again() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        timers.arm(&mut alarm, at(5), || AlarmKey::Retention);
        alarm.cancel();
        assert_eq!(ring(&mut timers, &mut alarm, at(6)), 0);
        timers.arm(&mut alarm, at(7), || AlarmKey::Retention);
        assert_eq!(ring(&mut timers, &mut alarm, at(7)), 1);
    }
}
