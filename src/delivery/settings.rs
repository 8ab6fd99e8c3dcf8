//! What a group has set about its deliveries, and the bounds that hold for everybody.
//!
//! Settings belong to the metadata; the engine asks for them ([`super::Catalog`]) whenever it
//! decides, so a change counts for the next decision and never for one already in the log.

use crate::config::RestTable;

/// Shortest time a message can be made invisible.
pub(crate) const INVISIBLE_MS_MIN: i64 = 1_000;
/// Longest time a message can be made invisible, as in RocketMQ's documents (12 h).
pub(crate) const INVISIBLE_MS_MAX: i64 = 12 * 3_600_000;
/// Longest back-off or delay of a negative acknowledgement.
pub(crate) const DELAY_MS_MAX: i64 = 7 * 24 * 3_600_000;
/// Messages of one receive, unless a broker allows more.
pub(crate) const RECEIVE_MAX: usize = 32;
/// Most messages of one receive that any broker allows.
pub(crate) const RECEIVE_MAX_CEILING: usize = 1_000;
/// Undone messages of a partition that a FIFO group looks past to find others it may deliver.
pub(crate) const ORDERED_WINDOW: usize = 10_000;

/// How long a message rests after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackOff {
    /// After each attempt its own; RocketMQ's by default: 10 s 30 s 1 m 2 m 3 m 4 m 5 m 6 m 7 m 8 m
    /// 9 m 10 m 20 m 30 m 1 h 2 h, then 2 h.
    Table(RestTable),
    /// `initial_ms` after the first attempt, each time so much longer, at most `max_ms`.
    Exponential { initial_ms: i64, max_ms: i64, multiplier_percent: u32 },
}

impl BackOff {
    /// The rest after the `attempts`-th attempt, in milliseconds.
    pub(crate) fn delay_ms(self, attempts: u16) -> i64 {
        let failed_before = usize::from(attempts.saturating_sub(1));
        match self {
            Self::Table(table) => table.after(attempts),
            Self::Exponential { initial_ms, max_ms, multiplier_percent } => {
                let longest = max_ms.clamp(0, DELAY_MS_MAX);
                let mut delay = initial_ms.clamp(0, longest);
                for _ in 0..failed_before {
                    if delay >= longest || multiplier_percent <= 100 {
                        break;
                    }
                    // Below 7 days and 2^32 percent this cannot overflow.
                    delay = (delay * i64::from(multiplier_percent) / 100).min(longest);
                }
                delay
            }
        }
    }
}

/// Where a group begins to read a topic it has not read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartFrom {
    /// At the oldest record that is there.
    Earliest,
    /// Behind the newest record.
    Latest,
}

/// A group's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    /// Deliveries of a message before it becomes a dead letter; at least 1.
    pub(crate) attempts_max: u16,
    pub(crate) back_off: BackOff,
    /// FIFO: messages of one message group one after the other.
    pub(crate) is_ordered: bool,
    pub(crate) start: StartFrom,
    /// Undone messages of one partition that may be leased or resting at a time.
    pub(crate) in_flight_max: usize,
}

impl Default for GroupSettings {
    /// RocketMQ's: 16 retries by its table, no order, from the oldest record on.
    fn default() -> Self {
        Self {
            attempts_max: 17,
            back_off: BackOff::Table(RestTable::default()),
            is_ordered: false,
            start: StartFrom::Earliest,
            in_flight_max: 100_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_rocketmqs() {
        let delays: Vec<i64> =
            (1..=18).map(|n| BackOff::Table(RestTable::default()).delay_ms(n) / 1_000).collect();
        let expected = [
            10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1_200, 1_800, 3_600, 7_200,
            7_200, 7_200,
        ];
        assert_eq!(delays, expected);
        assert_eq!(BackOff::Table(RestTable::default()).delay_ms(0), 10_000);
    }

    #[test]
    fn exponential_delays_grow_up_to_their_bound() {
        let back_off =
            BackOff::Exponential { initial_ms: 500, max_ms: 3_000, multiplier_percent: 200 };
        let delays: Vec<i64> = (1..=5).map(|n| back_off.delay_ms(n)).collect();
        assert_eq!(delays, [500, 1_000, 2_000, 3_000, 3_000]);
        let wild = BackOff::Exponential {
            initial_ms: i64::MAX,
            max_ms: i64::MAX,
            multiplier_percent: u32::MAX,
        };
        assert_eq!(wild.delay_ms(u16::MAX), DELAY_MS_MAX);
    }
}
