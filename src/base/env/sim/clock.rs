//! Simulated time. It moves when a test says so, and inside a tokio runtime also with tokio's
//! clock, so that `tokio::time` and [`Clock`] tell one story: use `start_paused`, else it is real.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::env::clock::{Clock, ManualClock};

/// The clock of a simulated machine: manual time plus the time of the runtime it was made in.
#[derive(Debug)]
pub struct SimClock {
    manual: ManualClock,
    runtime: Option<(Handle, Instant)>,
}

impl SimClock {
    /// A clock at monotonic zero and the given wall time.
    #[must_use]
    pub fn at_wall_ms(wall_ms: i64) -> Self {
        let runtime = Handle::try_current().ok().map(|handle| (handle, Instant::now()));
        Self { manual: ManualClock::at_wall_ms(wall_ms), runtime }
    }

    /// Lets time pass on both clocks; sleeping tasks do not notice (that is `tokio::time::advance`).
    pub fn advance(&self, by: Duration) {
        self.manual.advance(by);
    }

    /// Moves the wall clock alone, as an operator or NTP would.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.manual.jump_wall_ms(by_ms);
    }

    fn slept(&self) -> Duration {
        self.runtime.as_ref().map_or(Duration::ZERO, |(handle, start)| {
            // A thread outside the runtime would otherwise read the real clock.
            let _in_runtime = handle.enter();
            start.elapsed()
        })
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        self.manual.monotonic() + self.slept()
    }

    fn wall_ms(&self) -> i64 {
        self.manual.wall_ms() + i64::try_from(self.slept().as_millis()).unwrap_or(i64::MAX)
    }
}
