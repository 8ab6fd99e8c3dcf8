//! Records that were read and not given to anybody yet, per part. A convenience only: what is not
//! here is read again, so all of it may be dropped at any time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::line::{IDLE, Line, LineKey};
use super::{Alarm, Input, Owner};
use crate::delivery::catalog::TopicView;
use crate::delivery::decide::{Seen, deliverable, room};
use crate::delivery::event::{Change, Event, PartKey, State};
use crate::delivery::filter::TagFilter;
use crate::delivery::look::{Look, LookError, Looked, ScanFrom, look, readable_to};
use crate::delivery::message::Message;
use crate::delivery::settings::GroupSettings;
use crate::model::QueueId;

/// Bytes on all shelves; beyond, they are cleared.
const SHELVED_SIZE_BYTES_MAX: usize = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };
/// Bytes on a shelf, beyond which nothing is kept at hand for later.
const SHELF_SIZE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Shelves that nobody took from for so long are cleared.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Records asked for one by one at a time.
const AGAIN_MAX: usize = 64;
/// Partitions of a topic read at once for a group.
const LOOKS_MAX: usize = 8;
/// How long a partition that could not be read is left alone.
const UNREADABLE_FOR: Duration = Duration::from_secs(1);

/// What was read of a part.
#[derive(Debug)]
pub(super) struct Shelf {
    /// Records from the part's `scanned_to` on, and their contents beside them.
    pub(super) seen: VecDeque<Seen>,
    pub(super) contents: VecDeque<Option<Message>>,
    /// Behind the last of them.
    pub(super) seen_to: i64,
    /// How they were looked at.
    pub(super) filter: TagFilter,
    pub(super) is_ordered: bool,
    generation: i64,
    /// Records that were looked at before and are to be delivered.
    pub(super) again: BTreeMap<i64, Message>,
    size_bytes: usize,
    /// The reading that is under way.
    looking: Option<u64>,
    not_before: Duration,
    used_at: Duration,
}

impl Shelf {
    fn new(filter: TagFilter, now: Duration) -> Self {
        Self {
            seen: VecDeque::new(),
            contents: VecDeque::new(),
            seen_to: 0,
            filter,
            is_ordered: false,
            generation: 0,
            again: BTreeMap::new(),
            size_bytes: 0,
            looking: None,
            not_before: Duration::ZERO,
            used_at: now,
        }
    }

    /// Whether the records on it are what such a receiver may be given.
    pub(super) fn suits(&self, generation: i64, filter: &TagFilter, is_ordered: bool) -> bool {
        self.generation == generation && self.filter == *filter && self.is_ordered == is_ordered
    }

    fn clear_seen(&mut self) {
        let freed: usize = self.contents.iter().flatten().map(Message::size_bytes).sum();
        self.size_bytes -= freed;
        self.seen.clear();
        self.contents.clear();
        // Nothing was seen: taken for "all up to there was", it would lose records.
        self.seen_to = i64::MIN;
    }

    /// Whether records may be kept at hand that can be read again.
    pub(super) fn has_space(&self) -> bool {
        self.size_bytes < SHELF_SIZE_BYTES_MAX
    }

    /// Takes the oldest new record off.
    pub(super) fn pop_seen(&mut self) -> Option<(Seen, Option<Message>)> {
        let seen = self.seen.pop_front()?;
        let content = self.contents.pop_front().flatten();
        self.size_bytes -= content.as_ref().map_or(0, Message::size_bytes);
        Some((seen, content))
    }

    pub(super) fn take_again(&mut self, offset: i64) -> Option<Message> {
        let message = self.again.remove(&offset)?;
        self.size_bytes -= message.size_bytes();
        Some(message)
    }

    pub(super) fn put_again(&mut self, message: Message) {
        self.size_bytes += message.size_bytes();
        if let Some(before) = self.again.insert(message.offset, message) {
            self.size_bytes -= before.size_bytes();
        }
    }
}

impl Owner {
    /// Changes a shelf and keeps count of what all hold.
    pub(super) fn with_shelf<T>(
        &mut self,
        key: &PartKey,
        change: impl FnOnce(&mut Shelf) -> T,
    ) -> Option<T> {
        let now = self.monotonic();
        let shelf = self.shelves.get_mut(key)?;
        let before = shelf.size_bytes;
        shelf.used_at = now;
        let result = change(shelf);
        self.shelved_size_bytes = self.shelved_size_bytes - before + shelf.size_bytes;
        Some(result)
    }

    pub(super) fn drop_shelf(&mut self, key: &PartKey) {
        if let Some(shelf) = self.shelves.remove(key) {
            self.shelved_size_bytes -= shelf.size_bytes;
        }
    }

    /// Has records read for those who wait in line; says whether that is under way.
    pub(super) fn look_for(
        &mut self,
        key: &LineKey,
        line: &Line,
        view: &TopicView,
        settings: &GroupSettings,
    ) -> bool {
        let Some(front) = line.waiting.front() else { return false };
        let filter = front.request.filter.clone();
        let wanted: usize = line.waiting.iter().map(|w| w.request.max).take(AGAIN_MAX).sum();
        let count = view.queues.len();
        let mut under_way = 0;
        for index in 0..count {
            if under_way == LOOKS_MAX {
                break;
            }
            let index = (line.rotate + index) % count;
            let Some((partition, queue)) = view.at(index) else { continue };
            let part_key = PartKey { group: Arc::clone(&key.0), topic: key.1, partition };
            let ask = self.ask(&part_key, &filter, settings, wanted.min(AGAIN_MAX), queue);
            under_way += usize::from(ask);
        }
        under_way > 0
    }

    /// Has a part read, if there is anything to read; says whether that is under way.
    fn ask(
        &mut self,
        key: &PartKey,
        filter: &TagFilter,
        settings: &GroupSettings,
        wanted: usize,
        queue: QueueId,
    ) -> bool {
        let now = self.monotonic();
        let now_ms = self.now_ms();
        let Some(part) = self.table.part(key) else { return false };
        let (generation, scanned_to) = (part.generation(), part.scanned_to());
        let again = deliverable(part, now_ms, settings, wanted);
        let has_room = room(part, settings) > 0;
        let end = readable_to(&self.partitions, queue);
        if again.is_empty() && (!has_room || scanned_to >= end) {
            return false;
        }
        self.shelves.entry(key.clone()).or_insert_with(|| Shelf::new(filter.clone(), now));
        let is_ordered = settings.is_ordered;
        let asked = self.with_shelf(key, |shelf| {
            if shelf.looking.is_some() || now < shelf.not_before {
                return Err(shelf.looking.is_some());
            }
            if !shelf.suits(generation, filter, is_ordered) || shelf.seen.is_empty() {
                shelf.clear_seen();
                shelf.filter = filter.clone();
                (shelf.is_ordered, shelf.generation) = (is_ordered, generation);
            }
            let mut missing = again;
            missing.retain(|offset| !shelf.again.contains_key(offset));
            missing.sort_unstable();
            let is_scan = has_room && shelf.seen.is_empty() && scanned_to < end;
            let (from, filter) = (scanned_to, filter.clone());
            let scan = is_scan.then_some(ScanFrom { from, filter, is_ordered });
            Ok(Look { queue, again: missing, scan })
        });
        match asked {
            None => false,
            Some(Err(is_looking)) => is_looking,
            Some(Ok(asked)) if asked.again.is_empty() && asked.scan.is_none() => false,
            Some(Ok(asked)) => {
                self.start_look(key, asked);
                true
            }
        }
    }

    fn start_look(&mut self, key: &PartKey, asked: Look) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.with_shelf(key, |shelf| shelf.looking = Some(ticket));
        let (env, partitions, key) = (self.env.clone(), self.partitions.clone(), key.clone());
        drop(self.spawn("delivery look", async move {
            let looked = look(&env, &partitions, asked).await;
            Input::Looked { key, ticket, looked }
        }));
    }

    pub(super) fn on_looked(
        &mut self,
        key: &PartKey,
        ticket: u64,
        looked: Result<Looked, LookError>,
    ) {
        let line = (Arc::clone(&key.group), key.topic);
        let is_asked = self.with_shelf(key, |shelf| {
            let is_asked = shelf.looking == Some(ticket);
            if is_asked {
                shelf.looking = None;
            }
            is_asked
        });
        if is_asked != Some(true) {
            return;
        }
        match looked {
            Ok(looked) => self.put_on_shelf(key, looked),
            Err(error) => {
                let PartKey { group, topic, partition } = key;
                tracing::warn!(%group, topic = %topic.0, partition, %error, "a partition cannot be read");
                let again_at = self.monotonic() + UNREADABLE_FOR;
                self.with_shelf(key, |shelf| shelf.not_before = again_at);
                self.alarms.insert((again_at, Alarm::Line(line.clone())));
            }
        }
        if self.lines.contains_key(&line) {
            self.marked.insert(line);
        }
    }

    fn put_on_shelf(&mut self, key: &PartKey, looked: Looked) {
        let mut gone = Vec::new();
        let mut found = Vec::new();
        for (offset, message) in looked.again {
            match message {
                Some(message) => found.push(message),
                None => gone.push(offset),
            }
        }
        // The part may have been reset since: what begins elsewhere is of no use.
        let Some(part) = self.table.part(key) else { return self.drop_shelf(key) };
        let (generation, scanned_to) = (part.generation(), part.scanned_to());
        gone.retain(|offset| part.entry(*offset).is_some_and(|e| e.state != State::Archiving));
        let is_undone = |offset: &i64| part.entry(*offset).is_some();
        let ended = self.shelves.get(key).into_iter().flat_map(|shelf| shelf.again.keys());
        let ended: Vec<i64> = ended.filter(|offset| !is_undone(offset)).copied().collect();
        self.with_shelf(key, |shelf| {
            ended.iter().for_each(|offset| drop(shelf.take_again(*offset)));
            if shelf.generation != generation {
                return shelf.clear_seen();
            }
            found.into_iter().for_each(|message| shelf.put_again(message));
            let Some(seen_to) = looked.seen_to.filter(|seen_to| *seen_to >= scanned_to) else {
                return;
            };
            for (seen, content) in looked.fresh {
                shelf.size_bytes += content.as_ref().map_or(0, Message::size_bytes);
                shelf.seen.push_back(seen);
                shelf.contents.push_back(content);
            }
            shelf.seen_to = seen_to;
        });
        if !gone.is_empty() {
            gone.sort_unstable();
            let change = Change::Archived { offsets: gone };
            // If it is not written now it is found gone once more.
            let _again = self.append(vec![Event::Part { key: key.clone(), change }]);
        }
        if self.shelved_size_bytes > SHELVED_SIZE_BYTES_MAX {
            self.clear_shelves(key);
        }
    }

    /// Drops what is on all shelves but one.
    fn clear_shelves(&mut self, but: &PartKey) {
        let keys = self.shelves.keys().filter(|key| *key != but);
        for key in keys.cloned().collect::<Vec<_>>() {
            self.with_shelf(&key, |shelf| {
                shelf.clear_seen();
                shelf.again.clear();
                shelf.size_bytes = 0;
            });
        }
    }

    pub(super) fn arm_sweep(&mut self) {
        if !std::mem::replace(&mut self.is_sweep_armed, true) {
            let at = self.monotonic() + SWEEP_EVERY;
            self.alarms.insert((at, Alarm::Sweep));
        }
    }

    /// Lets go of shelves and lines that nobody uses.
    pub(super) fn sweep(&mut self, now: Duration) {
        self.is_sweep_armed = false;
        let is_idle = |shelf: &Shelf| {
            shelf.looking.is_none() && shelf.used_at.saturating_add(SWEEP_EVERY) <= now
        };
        let idle = self.shelves.iter().filter(|(_, shelf)| is_idle(shelf));
        for key in idle.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.drop_shelf(&key);
        }
        self.lines
            .retain(|_, line| !line.waiting.is_empty() || line.used_at.saturating_add(IDLE) > now);
        if !self.shelves.is_empty() || !self.lines.is_empty() {
            self.arm_sweep();
        }
    }
}
