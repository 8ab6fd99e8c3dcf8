//! For how long a broker may act as a leader without being heard again.
//!
//! A lease runs from when a heartbeat was *sent* that was answered. The controller that answered
//! was certain to lead not much earlier, waits for a session from when it heard, and so does any
//! later one from when it began; the lease and what that certainty may be old add up to less than a
//! session. So nobody is elected in the place of a broker that may still act, unless the broker
//! itself has said goodbye or its process is known to be dead.

use std::time::Duration;

/// The lease of the broker beside a metadata node. Times are of its monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When the last heartbeat that was answered was sent.
    pub sent: Duration,
    /// Until when the broker may act.
    pub until: Duration,
}

/// What follows from how long the controller waits for a silent broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// After a silence of this a broker is fenced.
    pub(crate) session: Duration,
}

impl Timing {
    /// How long a lease is.
    pub(crate) fn lease(self) -> Duration {
        self.session * 2 / 3
    }

    /// How old the controller's certainty to lead may be when it answers.
    pub(crate) fn certain_for(self) -> Duration {
        self.session / 6
    }

    /// How long a heartbeat waits for its answer: there is time for another one in a lease.
    pub(crate) fn patience(self) -> Duration {
        self.session / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_before_anybody_is_elected() {
        for session_ms in [100, 101, 9000, 3_600_000] {
            let timing = Timing { session: Duration::from_millis(session_ms) };
            assert!(timing.lease() + timing.certain_for() < timing.session);
            assert!(timing.patience() * 2 < timing.lease());
        }
    }
}
