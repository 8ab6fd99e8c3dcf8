//! All groups' deliveries: the pure state behind the engine.
//!
//! `lease` and `receive` decide and change nothing; [`Table::apply`] takes in what was appended,
//! and is all that a restart does. The owning task appends between the two without an await.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Change, Event, PartKey};
use super::part::Part;
use crate::model::TopicId;

/// A part and where in the DELIVERY queue its state was said.
#[derive(Debug, Clone)]
struct Slot {
    part: Part,
    said_at: i64,
}

type Topics = BTreeMap<TopicId, BTreeMap<i32, Slot>>;

/// The state of all groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    groups: BTreeMap<Arc<str>, Topics>,
    /// From which offset of the DELIVERY queue on each part can be made anew.
    said: BTreeSet<(i64, PartKey)>,
}

impl Table {
    /// Takes in the event at an offset of the DELIVERY queue.
    pub(super) fn apply(&mut self, at: i64, event: &Event) {
        match event {
            Event::Part { key, change } => self.apply_to(at, key, change),
            Event::GroupDeleted { group } => {
                if let Some((group, topics)) = self.groups.remove_entry(group) {
                    for (topic, slots) in topics {
                        self.forget_said(&group, topic, &slots);
                    }
                }
            }
            Event::TopicDeleted { topic } => {
                let mut gone = Vec::new();
                for (group, topics) in &mut self.groups {
                    gone.extend(topics.remove(topic).map(|slots| (Arc::clone(group), slots)));
                }
                for (group, slots) in gone {
                    self.forget_said(&group, *topic, &slots);
                    if self.groups.get(&group).is_some_and(BTreeMap::is_empty) {
                        self.groups.remove(&group);
                    }
                }
            }
        }
    }

    fn apply_to(&mut self, at: i64, key: &PartKey, change: &Change) {
        let says_all = match change {
            Change::Reset { .. } | Change::State(_) => Some(at),
            Change::Piece { since, .. } => *since,
            Change::Acquired { .. }
            | Change::Acked { .. }
            | Change::Extended { .. }
            | Change::Released { .. }
            | Change::Archiving { .. }
            | Change::Archived { .. }
            | Change::Trimmed { .. }
            | Change::Cut { .. } => None,
        };
        let topics = self.groups.entry(Arc::clone(&key.group)).or_default();
        let slots = topics.entry(key.topic).or_default();
        let slot = slots.entry(key.partition).or_insert_with(|| {
            self.said.insert((at, key.clone()));
            Slot { part: Part::default(), said_at: at }
        });
        // A start may have begun to read after the first piece was written.
        if let Some(since) = says_all.filter(|since| *since > slot.said_at) {
            self.said.remove(&(slot.said_at, key.clone()));
            self.said.insert((since, key.clone()));
            slot.said_at = since;
        }
        slot.part.apply(change);
    }

    fn forget_said(&mut self, group: &Arc<str>, topic: TopicId, slots: &BTreeMap<i32, Slot>) {
        for (partition, slot) in slots {
            let key = PartKey { group: Arc::clone(group), topic, partition: *partition };
            self.said.remove(&(slot.said_at, key));
        }
    }

    pub(super) fn part(&self, key: &PartKey) -> Option<&Part> {
        let slot = self.groups.get(&key.group)?.get(&key.topic)?.get(&key.partition)?;
        Some(&slot.part)
    }

    /// Whether the group has read of the topic before.
    pub(super) fn knows(&self, group: &str, topic: TopicId) -> bool {
        self.groups.get(group).is_some_and(|topics| topics.contains_key(&topic))
    }

    /// Whether anybody has read of the topic.
    pub(super) fn is_read(&self, topic: TopicId) -> bool {
        self.groups.values().any(|topics| topics.contains_key(&topic))
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// A group's parts; `None` if there is no such group.
    pub(super) fn parts_of(
        &self,
        group: &str,
    ) -> Option<impl Iterator<Item = (PartKey, &Part)> + use<'_>> {
        let (group, topics) = self.groups.get_key_value(group)?;
        Some(topics.iter().flat_map(move |(topic, slots)| {
            slots.iter().map(move |(partition, slot)| {
                let key =
                    PartKey { group: Arc::clone(group), topic: *topic, partition: *partition };
                (key, &slot.part)
            })
        }))
    }

    /// All parts.
    pub(super) fn parts(&self) -> impl Iterator<Item = (PartKey, &Part)> {
        self.groups.keys().filter_map(|group| self.parts_of(group)).flatten()
    }

    /// The first offset of the DELIVERY queue that is still needed; `None` if none is.
    pub(super) fn needed_from(&self) -> Option<i64> {
        self.said.first().map(|(said_at, _)| *said_at)
    }

    /// The part that was not said again for longest, if that was before `before`.
    pub(super) fn oldest_said(&self, before: i64) -> Option<(PartKey, &Part)> {
        let (_, key) = self.said.first().filter(|(said_at, _)| *said_at < before)?;
        Some((key.clone(), self.part(key)?))
    }
}
