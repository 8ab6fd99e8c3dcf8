//! The table of queues: small structs, a few more bytes per segment that holds records of theirs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::model::QueueId;

/// One queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) id: QueueId,
    pub(super) log_start: i64,
    pub(super) next: i64,
    /// Position behind its last frame appended since the store was opened; 0 if none was.
    pub(super) last_end: u64,
    /// Where its records are, in order; those wholly below the log start are gone.
    pub(super) places: Vec<Place>,
    /// Below this offset compaction has taken what it may, and nothing is left in a hot segment.
    pub(super) compacted_to: i64,
    /// Whether the queue stands in the shard's list of queues to notify.
    pub(super) to_notify: bool,
    subscribers: Option<Box<Subscribers>>,
}

const _: () = assert!(size_of::<Queue>() <= 96, "an idle queue costs little");

/// A segment that holds records of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The lowest offset it may hold.
    pub(super) first_offset: i64,
    /// The segment, by its first position.
    pub(super) segment: u64,
    /// Bytes of the queue's batches there.
    pub(super) bytes: u32,
    /// The queue's run in the segment's index while that is in memory.
    pub(super) slot: u32,
}

#[derive(Debug, Default)]
struct Subscribers {
    last_id: u64,
    list: Vec<(u64, Arc<Notify>)>,
}

impl Queue {
    pub(super) fn new(id: QueueId) -> Self {
        Self {
            id,
            log_start: 0,
            next: 0,
            last_end: 0,
            places: Vec::new(),
            compacted_to: 0,
            to_notify: false,
            subscribers: None,
        }
    }

    /// Number of the place that an offset belongs to.
    pub(super) fn place_of(&self, offset: i64) -> usize {
        self.places.partition_point(|place| place.first_offset <= offset).saturating_sub(1)
    }

    /// Drops the places that lie wholly below the log start and returns them.
    pub(super) fn leave_dead_places(&mut self) -> Vec<Place> {
        let dead = if self.log_start >= self.next {
            self.places.len()
        } else {
            self.place_of(self.log_start)
        };
        self.places.drain(..dead).collect()
    }

    /// Below this offset nothing is left in a hot segment.
    pub(super) fn gone_below(&self) -> i64 {
        self.log_start.max(self.compacted_to)
    }

    /// What a place stands for is below this offset.
    pub(super) fn end_of_place(&self, number: usize) -> i64 {
        self.places.get(number + 1).map_or(self.next, |next| next.first_offset)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribers.is_some()
    }

    pub(super) fn subscribe(&mut self, notify: &Arc<Notify>) -> u64 {
        let subscribers = self.subscribers.get_or_insert_default();
        subscribers.last_id += 1;
        subscribers.list.push((subscribers.last_id, Arc::clone(notify)));
        subscribers.last_id
    }

    pub(super) fn unsubscribe(&mut self, id: u64) {
        if let Some(subscribers) = &mut self.subscribers {
            subscribers.list.retain(|(known, _)| *known != id);
            if subscribers.list.is_empty() {
                self.subscribers = None;
            }
        }
    }

    pub(super) fn subscribers(&self) -> impl Iterator<Item = &Arc<Notify>> {
        self.subscribers.iter().flat_map(|subscribers| &subscribers.list).map(|(_, notify)| notify)
    }
}

/// Queue numbers are handed out by the broker itself, so a multiplication spreads them enough.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// All queues. Slots are stable, so that a checkpoint can walk them in pieces.
#[derive(Debug, Default)]
pub(super) struct Queues {
    slots: Vec<Option<Queue>>,
    free: Vec<usize>,
    by_id: HashMap<u32, usize, BuildHasherDefault<NumberHasher>>,
}

impl Queues {
    pub(super) fn get(&self, id: QueueId) -> Option<&Queue> {
        self.by_id.get(&id.0).and_then(|slot| self.slots.get(*slot)?.as_ref())
    }

    pub(super) fn get_mut(&mut self, id: QueueId) -> Option<&mut Queue> {
        self.by_id.get(&id.0).and_then(|slot| self.slots.get_mut(*slot)?.as_mut())
    }

    /// The queue, new when it is unknown.
    pub(super) fn open(&mut self, id: QueueId) -> &mut Queue {
        let slot = *self.by_id.entry(id.0).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            })
        });
        self.slots[slot].get_or_insert_with(|| Queue::new(id))
    }

    pub(super) fn remove(&mut self, id: QueueId) -> Option<Queue> {
        let slot = self.by_id.remove(&id.0)?;
        self.free.push(slot);
        self.slots.get_mut(slot)?.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Queue> {
        self.slots.iter().flatten()
    }

    /// The queues of up to `count` slots from `slot` on; `None` behind the last.
    pub(super) fn window(&self, slot: usize, count: usize) -> Option<impl Iterator<Item = &Queue>> {
        let end = self.slots.len().min(slot.saturating_add(count));
        self.slots.get(slot..end).filter(|window| !window.is_empty()).map(|w| w.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(log_start: i64, next: i64, first_offsets: &[i64]) -> Queue {
        let place = |(n, first): (usize, &i64)| Place {
            first_offset: *first,
            segment: n as u64,
            bytes: 0,
            slot: 0,
        };
        let places = first_offsets.iter().enumerate().map(place).collect();
        Queue { log_start, next, places, ..Queue::new(QueueId(1)) }
    }

    #[test]
    fn places_below_the_log_start_are_left_and_no_others() {
        for (log_start, left) in
            [(0, vec![]), (9, vec![]), (10, vec![0]), (25, vec![0, 1]), (30, vec![0, 1, 2])]
        {
            let mut queue = queue(log_start, 30, &[0, 10, 20]);
            let gone: Vec<u64> = queue.leave_dead_places().iter().map(|it| it.segment).collect();
            assert_eq!(gone, left, "log start {log_start}");
        }
    }

    #[test]
    fn slots_are_used_again_and_ids_stay_apart() {
        let mut queues = Queues::default();
        for id in 0..100 {
            queues.open(QueueId(id)).next = i64::from(id);
        }
        assert!(queues.remove(QueueId(50)).is_some() && queues.remove(QueueId(50)).is_none());
        queues.open(QueueId(1000)).next = 1000;
        assert!(queues.get(QueueId(50)).is_none());
        assert_eq!(queues.get(QueueId(1000)).unwrap().next, 1000);
        assert_eq!(queues.iter().count(), 100);
        assert_eq!(queues.window(0, 30).unwrap().count(), 30);
        assert!(queues.window(100, 30).is_none());
    }
}
