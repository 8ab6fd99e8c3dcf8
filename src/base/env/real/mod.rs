//! The machine itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::rng::SeededRng;
use super::spawn::Blocking;
use super::{Env, Spawner};

mod descriptors;
mod disk;
mod map;
mod readiness;
mod tcp;

pub use descriptors::{FILE_TOO_LARGE_SIGNAL, raise_descriptor_limit};
pub use disk::RealFs;
pub use readiness::{NOTIFY_SOCKET, State, notify};
pub use tcp::Tcp;

/// Exit code of a fail-stop: an input/output error in `sysexits.h`.
pub const EXIT_FAIL_STOP: i32 = 74;

/// The environment of a real broker process.
#[must_use]
pub fn env() -> Env {
    Env {
        clock: Arc::new(SystemClock::new()),
        rng: Arc::new(SeededRng::from_os()),
        fs: Arc::new(RealFs),
        net: Arc::new(Tcp),
        spawner: Spawner::new(fail_stop, Blocking::Pool),
    }
}

fn fail_stop(why: &str) -> Infallible {
    tracing::error!(why, "stopping now: a critical part failed; what was acknowledged is on disk");
    #[expect(clippy::exit, clippy::disallowed_methods, reason = "fail-stop ends the process")]
    std::process::exit(EXIT_FAIL_STOP)
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam the ban points to")]
    fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the seam the ban points to")]
    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}
