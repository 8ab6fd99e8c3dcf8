//! How fast new connections are let in: Kafka's `max.connection.creation.rate` (KIP-612).
//!
//! Who comes too early waits for its turn and is not refused. As with Kafka's quota windows a
//! calm of ten seconds allows as much at once. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What was not used in so long is allowed at once.
const WINDOW: Duration = Duration::from_secs(10);
/// The wait of each when nothing is allowed: Kafka bounds a wait to one window of its quota.
const WAIT_OF_NONE: Duration = Duration::from_secs(1);

/// The arrivals at one listener, or at all.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the next would come if they came evenly.
    next: Option<Instant>,
}

impl Pace {
    /// How long whoever comes now has to wait, which is counted as let in then.
    pub(crate) fn wait(&mut self, now: Instant, per_second_max: u32) -> Duration {
        if per_second_max == 0 {
            return WAIT_OF_NONE;
        }
        let interval = Duration::from_secs(1) / per_second_max;
        let even = self.next.map_or(now, |next| next.max(now));
        self.next = Some(even + interval);
        (even - now).saturating_sub(WINDOW.saturating_sub(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_calm_ten_seconds_worth_come_at_once_and_then_one_after_the_other() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let at_once = (0..100).map(|_| pace.wait(start, 10)).max();
        assert_eq!(at_once, Some(Duration::ZERO));
        let mut now = start;
        for _ in 0..50 {
            let wait = pace.wait(now, 10);
            assert_eq!(wait, Duration::from_millis(100));
            now += wait;
        }
        // Three seconds of calm are worth thirty.
        now += Duration::from_secs(3);
        assert_eq!((0..30).map(|_| pace.wait(now, 10)).max(), Some(Duration::ZERO));
        assert_eq!(pace.wait(now, 10), Duration::from_millis(100));
    }

    #[test]
    fn a_rate_that_changes_counts_from_then_on() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.wait(now, 0), WAIT_OF_NONE);
        assert_eq!((0..10).map(|_| pace.wait(now, 1)).max(), Some(Duration::ZERO));
        assert_eq!(pace.wait(now, 1), Duration::from_secs(1));
        assert_eq!(pace.wait(now + Duration::from_secs(1), i32::MAX.unsigned_abs()).as_millis(), 0);
    }
}
