//! The committed offsets of one group, and the writes under way to them.
//!
//! An offset becomes visible when its record is durable. Until then its slot only counts the write,
//! so that whoever removes offsets also removes those that are still on their way.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::record::OffsetValue;

/// A group's offsets.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Slot>>,
}

/// One partition's offset.
#[derive(Debug, Default)]
struct Slot {
    committed: Option<OffsetValue>,
    /// Records about this offset that are not reported yet.
    in_flight: u32,
}

/// A change to one offset: set, or removed.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) value: Option<OffsetValue>,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn committed(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)?.committed.as_ref()
    }

    /// Every topic with its committed offsets, both in order.
    pub(super) fn all_committed(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, impl Iterator<Item = (i32, &OffsetValue)>)> {
        self.topics.iter().map(|(topic, slots)| {
            let committed = slots
                .iter()
                .filter_map(|(partition, slot)| Some((*partition, slot.committed.as_ref()?)));
            (topic, committed)
        })
    }

    /// The offsets to which no write is under way.
    pub(super) fn all_settled(&self) -> impl Iterator<Item = (&Arc<str>, i32, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, slots)| {
            slots.iter().filter(|(_, slot)| slot.in_flight == 0).filter_map(
                move |(partition, slot)| Some((topic, *partition, slot.committed.as_ref()?)),
            )
        })
    }

    /// Whether there is an offset, or one is on its way.
    pub(super) fn is_known(&self, topic: &str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|slots| slots.contains_key(&partition))
    }

    /// Removals for every offset of which `applies` is true. It is told the topic, and the offset
    /// unless a write to it is under way.
    pub(super) fn removals(
        &self,
        applies: impl Fn(&str, Option<&OffsetValue>) -> bool,
    ) -> Vec<Change> {
        let mut removals = Vec::new();
        for (topic, slots) in &self.topics {
            for (partition, slot) in slots {
                let settled = slot.committed.as_ref().filter(|_| slot.in_flight == 0);
                if applies(topic, settled) {
                    let topic = Arc::clone(topic);
                    removals.push(Change { topic, partition: *partition, value: None });
                }
            }
        }
        removals
    }

    /// How many offsets there are, or are on their way.
    pub(super) fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Counts a write that is under way.
    pub(super) fn begin(&mut self, change: &Change) {
        self.slot(&change.topic, change.partition).in_flight += 1;
    }

    /// Ends a write: with the change made if its record is durable.
    pub(super) fn end(&mut self, change: Change, durable: bool) {
        let slot = self.slot(&change.topic, change.partition);
        slot.in_flight -= 1;
        if durable {
            slot.committed = change.value;
        }
        self.drop_if_vacant(&change.topic, change.partition);
    }

    /// Makes a change that the log already holds.
    pub(super) fn replay(&mut self, change: Change) {
        self.slot(&change.topic, change.partition).committed = change.value;
        self.drop_if_vacant(&change.topic, change.partition);
    }

    fn slot(&mut self, topic: &Arc<str>, partition: i32) -> &mut Slot {
        self.topics.entry(Arc::clone(topic)).or_default().entry(partition).or_default()
    }

    fn drop_if_vacant(&mut self, topic: &str, partition: i32) {
        let Some(slots) = self.topics.get_mut(topic) else { return };
        if slots.get(&partition).is_some_and(|slot| slot.in_flight == 0 && slot.committed.is_none())
        {
            slots.remove(&partition);
            if slots.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}

/// Adds the topics of a consumer's subscription: the part that all versions of Kafka's consumer
/// protocol begin with. `None` if the bytes are something else.
pub(super) fn subscribed_topics(subscription: &[u8], topics: &mut HashSet<Box<str>>) -> Option<()> {
    let (_version, rest) = subscription.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::try_from(i16::from_be_bytes(*length)).ok()?;
        let (topic, behind) = behind.split_at_checked(length)?;
        topics.insert(Box::from(std::str::from_utf8(topic).ok()?));
        rest = behind;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn change(partition: i32, offset: Option<i64>) -> Change {
        let value = offset.map(|offset| OffsetValue {
            offset,
            leader_epoch: -1,
            metadata: Arc::default(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: TopicId(uuid::Uuid::nil()),
        });
        Change { topic: Arc::from("t"), partition, value }
    }

    fn seen(offsets: &Offsets, partition: i32) -> Option<i64> {
        offsets.committed("t", partition).map(|value| value.offset)
    }

    #[test]
    fn an_offset_is_seen_when_it_is_durable_and_not_before() {
        let mut offsets = Offsets::default();
        offsets.begin(&change(0, Some(5)));
        assert_eq!(seen(&offsets, 0), None);
        assert!(offsets.is_known("t", 0));
        offsets.end(change(0, Some(5)), true);
        assert_eq!(seen(&offsets, 0), Some(5));
        offsets.begin(&change(0, Some(6)));
        offsets.end(change(0, Some(6)), false);
        assert_eq!(seen(&offsets, 0), Some(5));
    }

    #[test]
    fn a_removed_offset_leaves_nothing_behind() {
        let mut offsets = Offsets::default();
        offsets.replay(change(0, Some(1)));
        offsets.begin(&change(0, Some(2)));
        // The removal is written while the commit before it is still under way.
        offsets.begin(&change(0, None));
        offsets.end(change(0, Some(2)), true);
        assert_eq!(offsets.len(), 1);
        offsets.end(change(0, None), true);
        assert!(offsets.is_empty());
    }

    #[test]
    fn a_failed_first_commit_leaves_nothing_behind() {
        let mut offsets = Offsets::default();
        offsets.begin(&change(0, Some(2)));
        offsets.end(change(0, Some(2)), false);
        assert!(offsets.is_empty());
    }

    #[test]
    fn subscriptions_of_every_version_begin_alike() {
        let mut topics = HashSet::new();
        // Version 3, topics "a" and "bc", then whatever that version adds.
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff\0\0";
        assert_eq!(subscribed_topics(bytes, &mut topics), Some(()));
        assert_eq!(topics, HashSet::from([Box::from("a"), Box::from("bc")]));
        for garbage in [&b""[..], b"\0\0", b"\0\0\x7f\xff\xff\xff", b"\0\0\xff\xff\xff\xff"] {
            assert_eq!(subscribed_topics(garbage, &mut HashSet::new()), None);
        }
    }
}
