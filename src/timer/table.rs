//! What is known of scheduled messages: pure, without I/O, clock or await.
//!
//! Looking (`place`, `status`) changes nothing; what the log took is told to `scheduled`, `ended`,
//! `noted` and `dropped`, and loading a bucket tells the same again. So what a restart makes of the
//! log is what was there before. Only buckets near now are in memory, 32 bytes a message; of a far
//! one at most what was recalled. Invariant: a message is in the bucket of its due time or in a
//! later one that is not above the floor, and those are always loaded; so none is overlooked,
//! whichever way the clock jumps.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use super::event::End;
use super::id::TimerId;
use super::slot::{Slot, SlotState, put};

/// How much due time a bucket spans.
pub(crate) const BUCKET_MS: i64 = 600_000;
/// The last bucket: their numbers have 28 bits, which last until the year 7073.
pub(crate) const BUCKET_MAX: u32 = (1 << 28) - 1;
/// How long before its first message can be due a bucket is loaded.
const LEAD_MS: i64 = 90_000;
/// Buckets that are kept though their time is over: their handles still say what became of them.
const KEPT: u32 = 1;
/// So many messages make a floor in the future give way to the next bucket, or it never ended.
const FUTURE_FLOOR_MAX: usize = 100_000;
/// Far buckets of which is kept what was recalled, and how much of all of them.
const FAR_KNOWN_MAX: usize = 256;
const FAR_ENDS_MAX: usize = 1 << 20;
/// Messages that wait in memory before a further bucket is loaded: when the clock jumped over many
/// buckets, they are loaded as they are delivered.
const LOADED_MAX: usize = 1 << 22;

/// Messages in memory beyond which none is taken that has to wait there for long.
const HELD_MAX: usize = if cfg!(test) { 1 << 13 } else { LOADED_MAX };

/// The bucket of a due time.
pub(crate) fn bucket_of(due_ms: i64) -> u32 {
    let number = u32::try_from(due_ms.div_euclid(BUCKET_MS).max(0)).unwrap_or(u32::MAX);
    number.min(BUCKET_MAX)
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) bucket: u32,
    /// What must be noted with it, so that a start knows that the bucket holds earlier messages.
    pub(crate) note: Option<u32>,
}

/// What is known of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// There is no such message, or its bucket has ended and is forgotten.
    Unknown,
    /// It waits. Its bucket may be far: then that there is such a record is the caller's to check.
    Pending,
    /// It does not wait any more.
    Ended(End),
}

/// What has to be read before the question can be answered; it is asked for by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotLoaded;

/// What is to be read of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Its messages and their ends.
    Bucket(u32),
    /// The ends alone.
    Ends(u32),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Table {
    floor: u32,
    buckets: BTreeMap<u32, Bucket>,
    /// Due time, bucket, offset of what waits in loaded buckets, and of some that waits no more.
    due: BinaryHeap<Reverse<(i64, u32, u32)>>,
    /// Far buckets whose ends somebody asks for.
    asked: BTreeSet<u32>,
    /// Far buckets whose ends are known, oldest first.
    known: Vec<u32>,
    /// Buckets that could not be read, until all others were.
    put_off: BTreeSet<u32>,
}

#[derive(Debug)]
enum Bucket {
    /// Nothing of it is in memory, or its ends only.
    Far(Ends),
    /// Being read; what was scheduled meanwhile comes on top.
    Loading(Vec<(u32, Slot)>),
    Loaded {
        /// By offset.
        slots: Vec<Slot>,
        pending: usize,
    },
}

#[derive(Debug)]
enum Ends {
    Unknown,
    Loading,
    Known(HashMap<u32, End>),
}

impl Table {
    /// A table over a log with these buckets, whose last note is this.
    pub(crate) fn of(floor: u32, present: impl IntoIterator<Item = u32>) -> Self {
        let far = |number| (number, Bucket::Far(Ends::Unknown));
        Self { floor, buckets: present.into_iter().map(far).collect(), ..Self::default() }
    }

    /// Where a message goes that is due then. Never below the floor, nor into a bucket that is over.
    pub(crate) fn place(&self, now_ms: i64, due_ms: i64) -> Place {
        let (own, present) = (bucket_of(due_ms), bucket_of(now_ms));
        let mut lowest = self.floor.max(present.saturating_sub(KEPT));
        if lowest > present.saturating_add(1)
            && own <= lowest
            && let Some(Bucket::Loaded { slots, .. }) = self.buckets.get(&lowest)
            && slots.len() >= FUTURE_FLOOR_MAX
        {
            lowest = lowest.saturating_add(1).min(BUCKET_MAX);
        }
        if own >= lowest {
            return Place { bucket: own, note: None };
        }
        Place { bucket: lowest, note: (lowest > self.floor).then_some(lowest) }
    }

    /// Whether a message would wait in memory for long, and too much is there: where the clock was set
    /// far back what is due before the floor cannot lie in its own bucket.
    pub(crate) fn is_crowded(&self, now_ms: i64, due_ms: i64, place: Place) -> bool {
        let is_far = bucket_of(due_ms) > bucket_of(now_ms.saturating_add(LEAD_MS));
        let is_held = place.note.is_some() || place.bucket <= self.floor;
        is_far && is_held && self.due.len() >= HELD_MAX
    }

    /// A message is in the log, in a bucket that `place` named.
    pub(crate) fn scheduled(&mut self, now_ms: i64, id: TimerId) {
        let slot = Slot::pending(id.due_ms);
        let is_near = id.bucket <= self.last_near(now_ms);
        // A bucket that is not known holds nothing yet.
        let fresh = || match is_near {
            true => Bucket::Loaded { slots: Vec::new(), pending: 0 },
            false => Bucket::Far(Ends::Unknown),
        };
        match self.buckets.entry(id.bucket).or_insert_with(fresh) {
            Bucket::Far(_) => {}
            Bucket::Loading(meanwhile) => meanwhile.push((id.offset, slot)),
            Bucket::Loaded { slots, pending } => {
                put(slots, id.offset, slot);
                *pending += 1;
                self.due.push(Reverse((id.due_ms, id.bucket, id.offset)));
            }
        }
    }

    /// A message does not wait any more, says the log.
    pub(crate) fn ended(&mut self, bucket: u32, offset: u32, end: End) {
        match self.buckets.get_mut(&bucket) {
            Some(Bucket::Loaded { slots, pending }) => {
                if let Some(slot) = slots.get_mut(offset as usize) {
                    *pending -= usize::from(slot.state == SlotState::Pending);
                    slot.state = SlotState::Ended(end);
                }
            }
            Some(Bucket::Far(Ends::Known(ends))) => drop(ends.insert(offset, end)),
            Some(Bucket::Far(Ends::Unknown | Ends::Loading) | Bucket::Loading(_)) | None => {}
        }
    }

    /// A note is in the log.
    pub(crate) fn noted(&mut self, floor: u32) {
        self.floor = self.floor.max(floor);
    }

    /// A bucket is gone from the log.
    pub(crate) fn dropped(&mut self, bucket: u32) {
        self.buckets.remove(&bucket);
    }

    /// What became of a message.
    ///
    /// # Errors
    /// The bucket has to be loaded first, which is asked for by now.
    pub(crate) fn status(&mut self, id: TimerId) -> Result<Status, NotLoaded> {
        match self.buckets.get(&id.bucket) {
            None => Ok(Status::Unknown),
            Some(Bucket::Loaded { slots, .. }) => Ok(match slots.get(id.offset as usize) {
                Some(slot) if slot.due_ms == id.due_ms => slot.state.into(),
                Some(_) | None => Status::Unknown,
            }),
            Some(Bucket::Far(Ends::Known(ends))) => {
                Ok(ends.get(&id.offset).map_or(Status::Pending, |end| Status::Ended(*end)))
            }
            Some(Bucket::Far(Ends::Unknown)) => {
                // What could not be read has its turn later.
                if !self.put_off.contains(&id.bucket) {
                    self.asked.insert(id.bucket);
                }
                Err(NotLoaded)
            }
            Some(Bucket::Far(Ends::Loading) | Bucket::Loading(_)) => Err(NotLoaded),
        }
    }

    /// Whether a bucket's messages are in memory.
    pub(crate) fn is_loaded(&self, bucket: u32) -> bool {
        matches!(self.buckets.get(&bucket), Some(Bucket::Loaded { .. }))
    }

    /// The buckets that hold something from one on, at most to another.
    pub(crate) fn buckets(&self, from: u32, to: u32) -> impl Iterator<Item = u32> {
        let within = if from <= to { Some(self.buckets.range(from..=to)) } else { None };
        within.into_iter().flatten().map(|(number, _)| *number)
    }

    /// The last bucket that may hold a message due then.
    pub(crate) fn last_bucket_of(&self, due_ms: i64) -> u32 {
        bucket_of(due_ms).max(self.floor)
    }

    /// Takes messages that are due, by due time, and no more than so many. Who takes them delivers
    /// them or puts them back.
    pub(crate) fn take_due(&mut self, now_ms: i64, most: usize) -> Vec<TimerId> {
        let mut taken = Vec::new();
        // Many that were recalled may lie before one that waits: they are not all passed at once.
        let mut patience = most.saturating_mul(4);
        while taken.len() < most
            && patience > 0
            && let Some(Reverse((due_ms, bucket, offset))) = self.due.peek().copied()
            && due_ms <= now_ms
        {
            self.due.pop();
            patience -= 1;
            let id = TimerId { bucket, offset, due_ms };
            taken.extend(self.is_waiting(id).then_some(id));
        }
        taken
    }

    /// Whether the message is known to wait; it does not if its bucket is not loaded.
    pub(crate) fn is_waiting(&self, id: TimerId) -> bool {
        match self.buckets.get(&id.bucket) {
            Some(Bucket::Loaded { slots, .. }) => slots
                .get(id.offset as usize)
                .is_some_and(|slot| slot.state == SlotState::Pending && slot.due_ms == id.due_ms),
            Some(Bucket::Far(Ends::Known(ends))) => !ends.contains_key(&id.offset),
            Some(Bucket::Far(Ends::Unknown | Ends::Loading) | Bucket::Loading(_)) | None => false,
        }
    }

    /// Messages that were taken are still to be delivered.
    pub(crate) fn put_back(&mut self, ids: impl IntoIterator<Item = TimerId>) {
        for id in ids {
            // Of a far bucket nothing is in the order of due times.
            if self.is_loaded(id.bucket) && self.is_waiting(id) {
                self.due.push(Reverse((id.due_ms, id.bucket, id.offset)));
            }
        }
    }

    /// When the next message is due, of those in memory.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.due.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    /// What is to be loaded next; it counts as being loaded from now on. What is in the log by now
    /// is to be read, and what comes later is told by `scheduled`.
    pub(crate) fn begin_load(&mut self, now_ms: i64) -> Option<Load> {
        let last = self.last_near(now_ms);
        let put_off = &self.put_off;
        let is_far = |(number, bucket): &(&u32, &mut Bucket)| {
            matches!(bucket, Bucket::Far(_)) && !put_off.contains(number)
        };
        if self.due.len() < LOADED_MAX
            && let Some((number, bucket)) = self.buckets.range_mut(..=last).find(is_far)
        {
            self.asked.remove(number);
            *bucket = Bucket::Loading(Vec::new());
            return Some(Load::Bucket(*number));
        }
        while let Some(number) = self.asked.pop_first() {
            if let Some(Bucket::Far(ends @ Ends::Unknown)) = self.buckets.get_mut(&number) {
                *ends = Ends::Loading;
                return Some(Load::Ends(number));
            }
        }
        None
    }

    /// A bucket was read: its messages in the order of the log, then their ends.
    pub(crate) fn loaded(&mut self, number: u32, read: Read) {
        let Some(bucket) = self.buckets.get_mut(&number) else { return };
        let Bucket::Loading(meanwhile) = bucket else { return };
        let mut slots: Vec<Slot> = Vec::new();
        for (offset, due_ms) in read.scheduled {
            put(&mut slots, offset, Slot::pending(due_ms));
        }
        for (offset, end) in read.ends {
            if let Some(slot) = slots.get_mut(offset as usize) {
                slot.state = SlotState::Ended(end);
            }
        }
        for (offset, slot) in std::mem::take(meanwhile) {
            put(&mut slots, offset, slot);
        }
        let mut pending = 0;
        for (offset, slot) in (0..).zip(&slots) {
            if slot.state == SlotState::Pending {
                pending += 1;
                self.due.push(Reverse((slot.due_ms, number, offset)));
            }
        }
        *bucket = Bucket::Loaded { slots, pending };
    }

    /// The ends of a far bucket were read.
    pub(crate) fn ends_loaded(&mut self, number: u32, read: HashMap<u32, End>) {
        if let Some(Bucket::Far(ends @ Ends::Loading)) = self.buckets.get_mut(&number) {
            *ends = Ends::Known(read);
            self.known.push(number);
        }
        // The one that was asked for stays.
        while self.known.len() > 1
            && (self.known.len() > FAR_KNOWN_MAX || self.far_ends() > FAR_ENDS_MAX)
        {
            let oldest = self.known.remove(0);
            if let Some(Bucket::Far(ends @ Ends::Known(_))) = self.buckets.get_mut(&oldest) {
                *ends = Ends::Unknown;
            }
        }
    }

    /// How many ends of far buckets are in memory.
    fn far_ends(&self) -> usize {
        let known = self.known.iter().filter_map(|number| self.buckets.get(number));
        known
            .map(|bucket| match bucket {
                Bucket::Far(Ends::Known(ends)) => ends.len(),
                Bucket::Far(Ends::Unknown | Ends::Loading)
                | Bucket::Loading(_)
                | Bucket::Loaded { .. } => 0,
            })
            .sum()
    }

    /// A bucket could not be read, and is to be tried again.
    pub(crate) fn load_failed(&mut self, load: Load) {
        let number = match load {
            Load::Bucket(number) | Load::Ends(number) => number,
        };
        if let Some(bucket @ (Bucket::Loading(_) | Bucket::Far(Ends::Loading))) =
            self.buckets.get_mut(&number)
        {
            *bucket = Bucket::Far(Ends::Unknown);
            self.put_off.insert(number);
        }
    }

    /// What could not be loaded is tried again. Says whether there is such.
    pub(crate) fn retry_loads(&mut self) -> bool {
        let retried = std::mem::take(&mut self.put_off);
        self.asked.extend(&retried);
        !retried.is_empty()
    }

    /// The last bucket whose messages are to be in memory.
    fn last_near(&self, now_ms: i64) -> u32 {
        bucket_of(now_ms.saturating_add(LEAD_MS)).max(self.floor)
    }

    /// The lowest bucket that is over and has nothing left to deliver, and the note that must be in
    /// the log before it is dropped. Nothing is placed into it any more.
    pub(crate) fn finished(&self, now_ms: i64) -> Option<(u32, Option<u32>)> {
        let floor = self.floor.max(bucket_of(now_ms).saturating_sub(KEPT));
        let over = self.buckets.range(..floor);
        let is_empty = |bucket: &Bucket| matches!(bucket, Bucket::Loaded { pending: 0, .. });
        let number = over.filter(|(_, it)| is_empty(it)).map(|(number, _)| *number).next()?;
        Some((number, (number >= self.floor).then_some(floor)))
    }

    /// How many messages wait in loaded buckets.
    pub(crate) fn pending(&self) -> usize {
        let pending = |bucket: &Bucket| match bucket {
            Bucket::Loaded { pending, .. } => *pending,
            Bucket::Far(_) | Bucket::Loading(_) => 0,
        };
        self.buckets.values().map(pending).sum()
    }
}

/// What a bucket's two queues hold.
#[derive(Debug, Default)]
pub(crate) struct Read {
    /// Offset and due time.
    pub(crate) scheduled: Vec<(u32, i64)>,
    pub(crate) ends: Vec<(u32, End)>,
}

impl From<SlotState> for Status {
    fn from(state: SlotState) -> Self {
        match state {
            SlotState::Lost => Self::Unknown,
            SlotState::Pending => Self::Pending,
            SlotState::Ended(end) => Self::Ended(end),
        }
    }
}

#[cfg(test)]
mod tests;
