//! Keeping the DELIVERY queue short: parts are said again, those first whose state was said longest
//! ago, and the beginning that nobody needs then is let go.
//!
//! What is said again is paid for by what was written before: a quarter of it, so the queue grows to
//! a few times the state it holds, and never costs more than that share of the writing.

use super::Owner;
use crate::delivery::event::{Change, Event};
use crate::model::Offset;
use crate::partition::system;

/// A queue shorter than this is left alone.
const LONG_SIZE_BYTES: usize = if cfg!(test) { 16 * 1024 } else { 16 * 1024 * 1024 };
/// Of so many bytes written, one may be spent on saying things again.
const SHARE: usize = 4;
/// Events that are let go at a time, at least.
const RELEASE_MIN: i64 = if cfg!(test) { 16 } else { 4_096 };
/// Bytes an entry takes when it is said, about.
const ENTRY_SIZE_BYTES: usize = 26;
const PART_SIZE_BYTES: usize = 200;

/// How long the queue is, about, and what may be spent on making it shorter.
#[derive(Debug, Default)]
pub(super) struct Growth {
    size_bytes: usize,
    credit: usize,
}

impl Growth {
    /// A queue that was read back: what it is worth is not known.
    pub(super) fn of(size_bytes: usize) -> Self {
        Self { size_bytes, credit: size_bytes / SHARE }
    }

    pub(super) fn add(&mut self, size_bytes: usize) {
        self.size_bytes += size_bytes;
        self.credit += size_bytes / SHARE;
    }

    fn is_long(&self) -> bool {
        self.size_bytes > LONG_SIZE_BYTES
    }
}

impl Owner {
    /// Says what is due to be said again, and lets go of what nobody needs.
    pub(super) fn shorten(&mut self) {
        if !self.growth.is_long() {
            return;
        }
        let next = self.partitions.offsets(system::DELIVERY).next.0;
        let mut events = Vec::new();
        while let Some((key, part)) = self.table.oldest_said(next) {
            let cost = PART_SIZE_BYTES + part.undone() * ENTRY_SIZE_BYTES;
            if cost > self.growth.credit {
                break;
            }
            self.growth.credit -= cost;
            let change = Change::State(Box::new(part.said()));
            events.push(Event::Part { key, change });
            // One at a time: what was said is then not the oldest any more.
            if let Err(why) = self.append(std::mem::take(&mut events)) {
                tracing::warn!(%why, "the log of deliveries stays long for now");
                return;
            }
        }
        self.let_go();
    }

    fn let_go(&mut self) {
        let offsets = self.partitions.offsets(system::DELIVERY);
        let needed = self.table.needed_from().unwrap_or(offsets.next.0);
        // What is not durable yet goes the next time.
        let needed = needed.min(offsets.high_watermark.0);
        if needed - offsets.log_start.0 < RELEASE_MIN {
            return;
        }
        let whole = offsets.next.0 - offsets.log_start.0;
        let gone = needed - offsets.log_start.0;
        match self.partitions.release(system::DELIVERY, Offset(needed)) {
            Ok(_) => {
                let left = u128::from((whole - gone).unsigned_abs());
                let size = self.growth.size_bytes as u128 * left;
                let size = size / u128::from(whole.unsigned_abs().max(1));
                self.growth.size_bytes = usize::try_from(size).unwrap_or(usize::MAX);
            }
            Err(error) => {
                // The old events stay, which costs only space.
                tracing::warn!(%error, "old events of deliveries could not be let go");
            }
        }
    }
}
