//! Time. Monotonic and wall time are apart: nothing that counts a duration may look at the wall.
//!
//! Waiting in tasks is `tokio::time`, which tests pause; this trait only tells the time.

use std::sync::Mutex;
use std::time::Duration;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Time since some fixed instant of this process. Never goes back.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970 by the wall clock. May jump both ways.
    fn wall_ms(&self) -> i64;
}

/// A clock that moves only when told to: for tests and the simulator.
#[derive(Debug)]
pub struct ManualClock(Mutex<(Duration, i64)>);

impl ManualClock {
    /// A clock at monotonic zero and the given wall time.
    #[must_use]
    pub fn at_wall_ms(wall_ms: i64) -> Self {
        Self(Mutex::new((Duration::ZERO, wall_ms)))
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut now = self.locked();
        now.0 += by;
        now.1 += i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    }

    /// Moves the wall clock alone, as an operator or NTP would.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.locked().1 += by_ms;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, (Duration, i64)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        self.locked().0
    }
    fn wall_ms(&self) -> i64 {
        self.locked().1
    }
}
