//! Dead letters: messages on their way there are copied to the group's dead-letter topic, and are
//! done in the same atomic group. What cannot be copied now is tried again and neither delivered
//! nor lost meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Alarm, Copies, Input, Owner, Reply};
use crate::delivery::catalog::Catalog;
use crate::delivery::error::Unavailable;
use crate::delivery::event::{Change, Event, PartKey, State};
use crate::delivery::look::{Look, look};
use crate::delivery::message::{Copied, Dead, batch_of, dead_letter};
use crate::delivery::request::Outcome;
use crate::env::Env;
use crate::model::QueueId;
use crate::partition::Partitions;
use crate::store::Class;

/// Messages copied at a time.
const COPIES_MAX: usize = 64;
/// Delays between tries while dead letters cannot be written.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Copying under way, or waiting to be tried again.
#[derive(Debug)]
pub(super) struct Dying {
    is_running: bool,
    retry: Duration,
    /// Since it failed: not before.
    not_before: Duration,
}

/// A message to be copied.
#[derive(Debug)]
struct Doomed {
    offset: i64,
    attempts: u16,
    reason: Option<Arc<str>>,
}

/// Copies that were made.
#[derive(Debug)]
pub(in crate::delivery) struct Burial {
    generation: i64,
    /// The messages, with those that are gone from the log and have no copy. Ascending.
    offsets: Vec<i64>,
    copies: Vec<Copies>,
}

/// A dead letter that is to be re-driven, or deleted if it has no copy.
#[derive(Debug)]
pub(in crate::delivery) struct Letter {
    pub(in crate::delivery) offset: i64,
    pub(in crate::delivery) copy: Option<(Place, Copied)>,
}

/// Where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::delivery) struct Place {
    pub(in crate::delivery) queue: QueueId,
    pub(in crate::delivery) log_append_time: bool,
}

impl Owner {
    /// Has the messages copied that are on their way.
    pub(super) fn bury_marked(&mut self) {
        while let Some(key) = self.to_bury.pop_first() {
            self.bury(&key);
        }
    }

    fn bury(&mut self, key: &PartKey) {
        let Some(part) = self.table.part(key) else {
            self.dying.remove(key);
            return;
        };
        let now = self.monotonic();
        if self.dying.get(key).is_some_and(|dying| dying.is_running || now < dying.not_before) {
            return;
        }
        let doomed = part.archiving().take(COPIES_MAX).map(|(offset, reason)| Doomed {
            offset,
            attempts: part.entry(offset).map_or(0, |entry| entry.attempts),
            reason: reason.cloned(),
        });
        let doomed: Vec<Doomed> = doomed.collect();
        let generation = part.generation();
        if doomed.is_empty() {
            self.dying.remove(key);
            return;
        }
        let dying = self.dying.entry(key.clone());
        let not_before = Duration::ZERO;
        dying.or_insert(Dying { is_running: true, retry: RETRY_FIRST, not_before }).is_running =
            true;
        let (env, partitions) = (self.env.clone(), self.partitions.clone());
        let (catalog, key) = (Arc::clone(&self.catalog), key.clone());
        drop(self.spawn("dead letters", async move {
            let burial = copy(&env, &partitions, &*catalog, &key, &doomed, generation).await;
            Input::Buried { key, burial }
        }));
    }

    pub(super) fn on_buried(&mut self, key: &PartKey, burial: Result<Burial, String>) {
        if let Some(dying) = self.dying.get_mut(key) {
            dying.is_running = false;
        }
        match burial.and_then(|burial| self.append_burial(key, burial)) {
            Ok(()) => {
                self.dying.remove(key);
                self.to_bury.insert(key.clone());
                let line = (Arc::clone(&key.group), key.topic);
                if self.lines.contains_key(&line) {
                    self.marked.insert(line);
                }
            }
            Err(why) => {
                let PartKey { group, topic, partition } = key;
                tracing::warn!(%group, topic = %topic.0, partition, why, "dead letters wait");
                let now = self.monotonic();
                if let Some(dying) = self.dying.get_mut(key) {
                    dying.not_before = now + dying.retry;
                    dying.retry = dying.retry.saturating_mul(2).min(RETRY_MAX);
                    self.alarms.insert((dying.not_before, Alarm::Dying(key.clone())));
                }
            }
        }
    }

    fn append_burial(&mut self, key: &PartKey, burial: Burial) -> Result<(), String> {
        let still = self.table.part(key).is_some_and(|part| {
            let is_archiving = |offset: &i64| {
                part.entry(*offset).is_some_and(|entry| entry.state == State::Archiving)
            };
            part.generation() == burial.generation && burial.offsets.iter().all(is_archiving)
        });
        if !still {
            // Reset, deleted or cut off meanwhile: what is left is begun anew.
            return Ok(());
        }
        let change = Change::Archived { offsets: burial.offsets };
        let event = Event::Part { key: key.clone(), change };
        self.append_with(Class::Data, vec![event], &burial.copies).map_err(|e| e.to_string())
    }

    /// Re-drives or deletes dead letters, each at most once whoever else does.
    pub(super) fn on_settle(
        &mut self,
        key: &PartKey,
        letters: Vec<Letter>,
        reply: Reply<Result<Vec<(i64, Outcome)>, Unavailable>>,
    ) {
        self.flush_judging();
        let mut outcomes = Vec::with_capacity(letters.len());
        let mut copies: BTreeMap<Place, Vec<Copied>> = BTreeMap::new();
        let mut offsets = Vec::new();
        for letter in letters {
            let is_done = self.table.part(key).is_some_and(|part| part.is_done(letter.offset));
            if is_done || offsets.contains(&letter.offset) {
                outcomes.push((letter.offset, Outcome::NotThere));
                continue;
            }
            offsets.push(letter.offset);
            if let Some((place, copied)) = letter.copy {
                copies.entry(place).or_default().push(copied);
            }
        }
        offsets.sort_unstable();
        let settled = self.append_settled(key, &offsets, &copies);
        outcomes.extend(offsets.into_iter().map(|offset| (offset, settled)));
        self.answer(move |durable| {
            let _gone = reply.send(durable.map(|()| outcomes));
        });
    }

    fn append_settled(
        &mut self,
        key: &PartKey,
        offsets: &[i64],
        copies: &BTreeMap<Place, Vec<Copied>>,
    ) -> Outcome {
        if offsets.is_empty() {
            return Outcome::Done;
        }
        let now_ms = self.now_ms();
        let batches = copies.iter().map(|(place, copies)| {
            let (batch, header) = batch_of(copies, now_ms, place.log_append_time)?;
            Some(Copies { queue: place.queue, batch, header })
        });
        let Some(batches) = batches.collect::<Option<Vec<Copies>>>() else {
            return Outcome::Failed;
        };
        let mut events = Vec::new();
        if self.table.part(key).is_none() {
            let generation = self.now_ms().max(1);
            let change = Change::Reset { to: 0, generation };
            events.push(Event::Part { key: key.clone(), change });
        }
        let change = Change::Acked { offsets: offsets.to_vec() };
        events.push(Event::Part { key: key.clone(), change });
        match self.append_with(Class::Data, events, &batches) {
            Ok(()) => Outcome::Done,
            Err(error) => {
                let PartKey { group, partition, .. } = key;
                tracing::warn!(%group, partition, %error, "dead letters are not settled");
                Outcome::Failed
            }
        }
    }
}

/// Reads the messages and makes their dead letters.
async fn copy(
    env: &Env,
    partitions: &Partitions,
    catalog: &dyn Catalog,
    key: &PartKey,
    doomed: &[Doomed],
    generation: i64,
) -> Result<Burial, String> {
    let Some(topic) = catalog.topic(key.topic) else {
        return Err("their topic is not known".to_owned());
    };
    let Some(queue) = topic.queue(key.partition) else {
        return Err("their partition is not known".to_owned());
    };
    let target = catalog.dead_letter_topic(&key.group).await.map_err(|e| e.to_string())?;
    let log_append_time = target.log_append_time;
    let index = usize::try_from(key.partition).unwrap_or(0) % target.queues.len().max(1);
    let Some((_, target)) = target.at(index) else {
        return Err("the dead-letter topic has no partition".to_owned());
    };
    let again = doomed.iter().map(|doomed| doomed.offset).collect();
    let looked = look(env, partitions, Look { queue, again, scan: None });
    let looked = looked.await.map_err(|error| error.to_string())?;
    let mut offsets = Vec::new();
    let mut copied = Vec::new();
    for (offset, message) in looked.again {
        offsets.push(offset);
        let Some(message) = message else { continue };
        let Some(doomed) = doomed.iter().find(|doomed| doomed.offset == offset) else { continue };
        let (attempts, reason) = (doomed.attempts, doomed.reason.as_deref());
        copied.push(dead_letter(&message, &Dead { key, topic: &topic.name, attempts, reason }));
    }
    offsets.sort_unstable();
    let mut copies = Vec::new();
    if !copied.is_empty() {
        let made = batch_of(&copied, env.clock.wall_ms(), log_append_time);
        let Some((batch, header)) = made else {
            return Err("the copies fit into no batch".to_owned());
        };
        copies.push(Copies { queue: target, batch, header });
    }
    Ok(Burial { generation, offsets, copies })
}
