//! What time does to halves that nobody decides, and to records that nobody needs.

use std::sync::Arc;
use std::time::Duration;

use crate::half::draft::{Answer, Item, Landed};
use crate::half::expire::{self, Copies};
use crate::half::payload;
use crate::partition::system::{HALF, HALF_EVENTS};
use crate::store::{AppendError, Class};

use super::told::Told;
use super::{GROUP_SIZE_BYTES_MAX, LOOK_UP_MAX, Owner};

/// How often the queue is shortened.
const SHORTEN_EVERY: Duration = Duration::from_secs(10);
/// Halves that expire in one round.
const ROUND_MAX: usize = 64;

impl Owner {
    /// Begins to move to the discard topic what nobody decided, unless that is being done.
    pub(super) fn begin_expiry(&mut self) {
        let now = self.env.clock.monotonic();
        let Some(table) = &self.table else { return };
        if self.is_expiring || now < self.expire_from {
            return;
        }
        let now_ms = self.now_ms;
        if table.next_expiry_ms().is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        self.postponed.retain(|_, until| *until > now);
        let over = table.expired(now_ms).filter(|id| !self.postponed.contains_key(&id.half));
        let over = over.filter_map(|id| Some((id, table.expiry_of(now_ms, id)?)));
        let round: Vec<_> = over.take(ROUND_MAX).collect();
        if round.is_empty() {
            self.expire_from = now + LOOK_UP_MAX;
            return;
        }
        self.is_expiring = true;
        let (partitions, targets) = (self.partitions.clone(), Arc::clone(&self.targets));
        let (myself, clock) = (self.myself.clone(), Arc::clone(&self.env.clock));
        let copy = async move {
            let copies = expire::copy(&partitions, &*targets, &*clock, round).await;
            if let Some(myself) = myself.upgrade() {
                let _ended = myself.send(Told::Copied(copies)).await;
            }
        };
        drop(self.env.spawner.critical("half message expiry", copy));
    }

    pub(super) fn on_copied(&mut self, copies: Copies) {
        self.is_expiring = false;
        let until = self.env.clock.monotonic() + self.config.check_interval;
        let Some(queue) = copies.discard else {
            tracing::error!("the discard topic of half messages cannot be had; they wait");
            self.expire_from = until;
            return;
        };
        for (id, copy) in copies.copies {
            if self.draft.touches(id.half) {
                self.flush();
            }
            let Some(table) = &self.table else { return };
            // Somebody decided in the meantime.
            let Some(event) = table.decide_expiry(self.now_ms(), id) else { continue };
            // Without a copy, or if that is refused, it is tried again after the interval.
            self.postponed.insert(id.half, until);
            let copy = copy.and_then(|copy| Some((payload::header_of(&copy).ok()?, copy)));
            let Some((header, copy)) = copy else { continue };
            let then = move |landed: Result<Landed, AppendError>| -> Answer {
                if let Err(error) = landed {
                    tracing::error!(transaction_id = %id, %error, "a half message cannot expire");
                }
                Box::new(|_| ())
            };
            let batch = Some((queue, copy, header));
            self.push(Item {
                events: vec![event],
                carried: None,
                batch,
                class: Class::Data,
                then: Box::new(then),
            });
            if self.draft.size_bytes() >= GROUP_SIZE_BYTES_MAX {
                self.flush();
            }
        }
    }

    /// Lets the queues begin where they are still needed.
    pub(super) fn shorten(&mut self) {
        let now = self.env.clock.monotonic();
        let Some(table) = &mut self.table else { return };
        if now < self.shorten_at {
            return;
        }
        self.shorten_at = now + SHORTEN_EVERY;
        let needed = table.needed_from(self.now_ms);
        for (queue, needed) in [(HALF, needed.halves), (HALF_EVENTS, needed.events)] {
            let offsets = self.partitions.offsets(queue);
            let needed = needed.min(offsets.high_watermark);
            if needed <= offsets.log_start {
                continue;
            }
            match self.partitions.release(queue, needed) {
                Ok(_) if queue == HALF => table.released(needed),
                Ok(_) => {}
                // The old records stay, which costs only space.
                Err(error) => tracing::warn!(%error, "half messages could not be let go"),
            }
        }
    }
}
