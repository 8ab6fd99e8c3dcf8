//! Giving messages to those who wait: in the order they came, an even share each, from all
//! partitions in turn.

use std::collections::HashMap;
use std::sync::Arc;

use super::Owner;
use super::line::{Line, LineKey, Waiting};
use crate::delivery::catalog::TopicView;
use crate::delivery::decide::{Lease, Take, Taken, deliverable, exhausted, take};
use crate::delivery::error::{ReceiveError, Unavailable};
use crate::delivery::event::{Change, Event, PartKey};
use crate::delivery::look::{Look, look, readable_to};
use crate::delivery::message::Message;
use crate::delivery::receipt::Receipt;
use crate::delivery::request::Delivered;
use crate::delivery::settings::{GroupSettings, StartFrom};

/// Messages whose last attempt is over that are marked at a time.
const EXHAUSTED_MAX: usize = 1_000;
/// Due messages whose attempts are counted whenever somebody receives.
const FIRST_LOOKED_AT: usize = 64;

/// What came of trying to serve the first in line.
enum Served {
    Yes,
    /// Nothing is read that it could be given.
    NothingRead,
}

impl Owner {
    /// Gives what there is to those who wait, and has more read for those who got nothing.
    pub(super) fn serve(&mut self, key: &LineKey) {
        let Some(mut line) = self.take_line(key) else { return };
        let Some(view) = self.catalog.topic(key.1) else {
            return line.refuse_all(&ReceiveError::UnknownTopic);
        };
        if line.waiting.is_empty() {
            return self.put_line_back(key, line, &view);
        }
        let settings = self.catalog.settings(&key.0);
        let served = self
            .begin(key, &view, &settings)
            .and_then(|()| self.serve_line(key, &view, &settings, &mut line));
        if let Err(why) = served {
            return line.refuse_all(&ReceiveError::Unavailable(why));
        }
        let is_reading = self.look_for(key, &line, &view, &settings);
        self.expire_waiting(key, &mut line, is_reading);
        self.put_line_back(key, line, &view);
    }

    /// Begins the partitions that the group has not read before.
    fn begin(
        &mut self,
        key: &LineKey,
        view: &TopicView,
        settings: &GroupSettings,
    ) -> Result<(), Unavailable> {
        // A partition that comes to a topic is read from its beginning, whatever is set.
        let is_latest = settings.start == StartFrom::Latest && !self.table.knows(&key.0, key.1);
        let generation = self.now_ms().max(1);
        let mut events = Vec::new();
        for (partition, queue) in view.partitions() {
            let key = PartKey { group: Arc::clone(&key.0), topic: key.1, partition };
            if self.table.part(&key).is_none() {
                let to = if is_latest {
                    readable_to(&self.partitions, queue)
                } else {
                    self.partitions.offsets(queue).log_start.0
                };
                events.push(Event::Part { key, change: Change::Reset { to, generation } });
            }
        }
        if events.is_empty() { Ok(()) } else { self.append(events) }
    }

    fn serve_line(
        &mut self,
        key: &LineKey,
        view: &TopicView,
        settings: &GroupSettings,
        line: &mut Line,
    ) -> Result<(), Unavailable> {
        while let Some(front) = line.waiting.front() {
            if front.receive != 0 && self.repeat(key, view, line) {
                continue;
            }
            match self.serve_first(key, view, settings, line)? {
                Served::Yes => {}
                Served::NothingRead => return Ok(()),
            }
        }
        Ok(())
    }

    /// Gives the batch once more to who asks with its attempt id.
    fn repeat(&mut self, key: &LineKey, view: &TopicView, line: &mut Line) -> bool {
        let Some(front) = line.waiting.front() else { return false };
        let now_ms = self.now_ms();
        let mut parts = Vec::new();
        for (partition, queue) in view.partitions() {
            let key = PartKey { group: Arc::clone(&key.0), topic: key.1, partition };
            let Some(part) = self.table.part(&key) else { continue };
            let held = part.held_by(front.receive, now_ms).map(|(offset, entry)| Lease {
                offset,
                attempt: entry.attempts,
                until_ms: entry.time_ms,
            });
            let leases: Vec<Lease> = held.collect();
            if !leases.is_empty() {
                parts.push((key, part.generation(), queue, leases));
            }
        }
        if parts.is_empty() {
            return false;
        }
        let Some(front) = line.waiting.pop_front() else { return false };
        let (env, partitions) = (self.env.clone(), self.partitions.clone());
        let durable = self.partitions.wait_durable(self.last_end);
        // Nothing is decided any more: the leases are what they are.
        drop(self.env.spawner.critical("delivery repeat", async move {
            let mut delivered = Vec::new();
            for (key, generation, queue, leases) in parts {
                let mut rest: Vec<i64> = leases.iter().map(|lease| lease.offset).collect();
                let mut found: HashMap<i64, Message> = HashMap::new();
                while !rest.is_empty() {
                    let again = std::mem::take(&mut rest);
                    let asked = Look { queue, again: again.clone(), scan: None };
                    let Ok(looked) = look(&env, &partitions, asked).await else { break };
                    rest.extend(again.into_iter().skip(looked.again.len().max(1)));
                    let messages = looked.again.into_iter().filter_map(|(_, message)| message);
                    found.extend(messages.map(|message| (message.offset, message)));
                }
                delivered.extend(leases.iter().filter_map(|lease| {
                    let message = found.remove(&lease.offset)?;
                    Some(hand_out(&key, generation, lease, message))
                }));
            }
            front.answer(match durable.await {
                Ok(()) => Ok(delivered),
                Err(_) => Err(Unavailable::Stopped.into()),
            });
        }));
        true
    }

    fn serve_first(
        &mut self,
        key: &LineKey,
        view: &TopicView,
        settings: &GroupSettings,
        line: &mut Line,
    ) -> Result<Served, Unavailable> {
        let Some(front) = line.waiting.front() else { return Ok(Served::NothingRead) };
        let share = self.share(key, view, line).min(front.request.max);
        let count = view.queues.len();
        let mut taken: Vec<(PartKey, Taken)> = Vec::new();
        let mut got = 0;
        let mut last = line.rotate;
        for index in 0..count {
            if got >= share {
                break;
            }
            let index = (line.rotate + index) % count;
            let Some((partition, queue)) = view.at(index) else { continue };
            let part_key = PartKey { group: Arc::clone(&key.0), topic: key.1, partition };
            self.trim(&part_key, self.partitions.offsets(queue).log_start.0)?;
            self.condemn_first(&part_key, settings)?;
            let Some(part) = self.take_of(&part_key, front, share - got, settings) else {
                continue;
            };
            if !part.leases.is_empty() {
                last = index;
            }
            got += part.leases.len();
            taken.push((part_key, part));
        }
        if taken.is_empty() {
            return Ok(Served::NothingRead);
        }
        let events = taken
            .iter()
            .map(|(key, taken)| Event::Part { key: key.clone(), change: taken.change.clone() });
        self.append(events.collect())?;
        let delivered = taken.into_iter().flat_map(|(key, taken)| self.unshelve(&key, taken));
        let delivered: Vec<Delivered> = delivered.collect();
        if delivered.is_empty() {
            // Records that nobody wants were passed over; there may be others behind.
            return Ok(Served::NothingRead);
        }
        line.rotate = (last + 1) % count;
        line.used_at = self.monotonic();
        if let Some(front) = line.waiting.pop_front() {
            self.answer(move |durable| match durable {
                Ok(()) => front.answer(Ok(delivered)),
                Err(why) => front.answer(Err(why.into())),
            });
        }
        Ok(Served::Yes)
    }

    /// How many messages everybody in line gets of what is read, if that is not enough for all.
    fn share(&self, key: &LineKey, view: &TopicView, line: &Line) -> usize {
        if line.waiting.len() < 2 {
            return usize::MAX;
        }
        let shelves = view.partitions().filter_map(|(partition, _)| {
            let key = PartKey { group: Arc::clone(&key.0), topic: key.1, partition };
            self.shelves.get(&key)
        });
        let read: usize = shelves.map(|shelf| shelf.seen.len() + shelf.again.len()).sum();
        read.div_ceil(line.waiting.len()).max(1)
    }

    /// What a receiver gets of a part, of what is read.
    fn take_of(
        &mut self,
        key: &PartKey,
        front: &Waiting,
        max: usize,
        settings: &GroupSettings,
    ) -> Option<Taken> {
        let now_ms = self.now_ms();
        let shelf = self.shelves.get_mut(key)?;
        let part = self.table.part(key)?;
        let mut again = deliverable(part, now_ms, settings, max.saturating_mul(2));
        again.retain(|offset| shelf.again.contains_key(offset));
        let request = &front.request;
        let suits = shelf.suits(part.generation(), &request.filter, settings.is_ordered);
        let seen_to = if suits { shelf.seen_to } else { i64::MIN };
        let seen = if suits { &*shelf.seen.make_contiguous() } else { &[] };
        let asked = Take {
            now_ms,
            until_ms: now_ms.saturating_add(request.invisible_ms),
            receive: front.receive,
            max,
            settings,
            again: &again,
            seen,
            seen_to,
        };
        take(part, &asked)
    }

    /// The messages of what was taken.
    fn unshelve(&mut self, key: &PartKey, taken: Taken) -> Vec<Delivered> {
        let Some(generation) = self.table.part(key).map(super::super::part::Part::generation)
        else {
            return Vec::new();
        };
        let messages = self.with_shelf(key, |shelf| {
            let mut messages = HashMap::new();
            for _ in 0..taken.seen_used {
                let Some((seen, Some(message))) = shelf.pop_seen() else { continue };
                let is_lease = |lease: &Lease| lease.offset == seen.offset;
                if taken.leases.iter().any(is_lease) {
                    messages.insert(seen.offset, message);
                } else if shelf.has_space() {
                    // Held for later: it stays at hand.
                    shelf.put_again(message);
                }
            }
            for lease in &taken.leases {
                messages.extend(shelf.take_again(lease.offset).map(|m| (lease.offset, m)));
            }
            messages
        });
        let mut messages = messages.unwrap_or_default();
        let leases = taken.leases.iter().filter_map(|lease| {
            let message = messages.remove(&lease.offset)?;
            Some(hand_out(key, generation, lease, message))
        });
        leases.collect()
    }

    /// Takes note that the log starts later now.
    fn trim(&mut self, key: &PartKey, log_start: i64) -> Result<(), Unavailable> {
        let is_behind = self.table.part(key).is_some_and(|part| part.start() < log_start);
        if !is_behind {
            return Ok(());
        }
        let change = Change::Trimmed { to: log_start };
        self.append(vec![Event::Part { key: key.clone(), change }])
    }

    /// Marks the messages of a part whose last attempt was over after `after_ms`; says whether
    /// that is written.
    pub(super) fn condemn(&mut self, key: &PartKey, after_ms: i64) -> bool {
        let settings = self.catalog.settings(&key.group);
        let now_ms = self.now_ms();
        while let Some(part) = self.table.part(key) {
            let due = part.newly_due(after_ms, now_ms);
            let Some(change) = exhausted(due, &settings, EXHAUSTED_MAX) else { break };
            if self.append(vec![Event::Part { key: key.clone(), change }]).is_err() {
                return false;
            }
        }
        true
    }

    /// The same for the first of those that are due: a group may allow fewer attempts now.
    fn condemn_first(
        &mut self,
        key: &PartKey,
        settings: &GroupSettings,
    ) -> Result<(), Unavailable> {
        let Some(part) = self.table.part(key) else { return Ok(()) };
        let due = part.due(self.now_ms()).take(FIRST_LOOKED_AT);
        match exhausted(due, settings, FIRST_LOOKED_AT) {
            Some(change) => self.append(vec![Event::Part { key: key.clone(), change }]),
            None => Ok(()),
        }
    }
}

fn hand_out(key: &PartKey, generation: i64, lease: &Lease, message: Message) -> Delivered {
    let receipt = Receipt {
        group_hash: Receipt::hash_of(&key.group),
        topic: key.topic,
        partition: key.partition,
        generation,
        offset: lease.offset,
        attempt: lease.attempt,
    };
    Delivered {
        topic: key.topic,
        partition: key.partition,
        attempt: lease.attempt,
        until_ms: lease.until_ms,
        handle: receipt.encode(),
        message,
    }
}
