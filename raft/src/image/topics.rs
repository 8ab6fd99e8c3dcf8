//! Topics by name and id, and which partition each queue number stands for.
//!
//! Queue numbers are handed out in one rising sequence and never again. A topic's partitions get
//! theirs in runs, so the way back from number to partition is one entry per run, not per queue.

use std::sync::Arc;

use braid_base::model::{QueueId, ShardId, TopicId};
use imbl::OrdMap;

use super::Configs;
use crate::plan::names;

/// A partition: its queue in the store, and the shard whose leader and replicas it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionImage {
    /// Its queue.
    pub queue: QueueId,
    /// Its shard.
    pub shard: ShardId,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its id, unique per creation.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Wall time of its creation.
    pub created_ms: i64,
    /// Its partitions, by number; never empty.
    pub partitions: Vec<PartitionImage>,
    /// Its own configs; what is not here has the broker's default.
    pub configs: Configs,
}

impl TopicImage {
    /// The partition of a number, as it comes from a client: unchecked, perhaps negative.
    #[must_use]
    pub fn partition(&self, number: i32) -> Option<PartitionImage> {
        self.partitions.get(usize::try_from(number).ok()?).copied()
    }
}

/// Whom a queue belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueOwner {
    /// The topic.
    pub topic: TopicId,
    /// The partition's number in it.
    pub partition: i32,
}

/// Queues from some first number on that are consecutive partitions of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct QueueRun {
    topic: TopicId,
    first_partition: u32,
    count: u32,
}

/// All topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicsImage {
    by_name: OrdMap<Arc<str>, Arc<TopicImage>>,
    by_id: OrdMap<TopicId, Arc<TopicImage>>,
    by_unified_name: OrdMap<String, Arc<str>>,
    queue_runs: OrdMap<QueueId, QueueRun>,
    next_queue_id: u32,
    partition_count: u64,
}

impl TopicsImage {
    /// The topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.by_name.values()
    }

    /// The topics whose name comes after `name`, by name: to list many in pages.
    pub fn iter_after(&self, name: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        use std::ops::Bound;
        let after = (Bound::Excluded(Arc::<str>::from(name)), Bound::Unbounded);
        self.by_name.range(after).map(|(_, topic)| topic)
    }

    /// The number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is no topic.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The number of partitions of all topics.
    #[must_use]
    pub fn partition_count(&self) -> u64 {
        self.partition_count
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.by_name.get(name)
    }

    pub(super) fn by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.by_id.get(&id)
    }

    pub(super) fn queue(&self, queue: QueueId) -> Option<QueueOwner> {
        let (first, run) = self.queue_runs.get_prev(&queue)?;
        let step = queue.0 - first.0;
        if step >= run.count {
            return None;
        }
        let partition = i32::try_from(run.first_partition + step).ok()?;
        Some(QueueOwner { topic: run.topic, partition })
    }

    pub(super) fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue_id)
    }

    /// The existing topic that `name` would be confused with in metric names.
    pub(crate) fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        self.by_unified_name.get(&names::unified(name)?)
    }

    /// Hands out `count` queue numbers; none when they do not suffice.
    pub(crate) fn allocate_queues(&mut self, count: u32) -> Option<QueueId> {
        let first = self.next_queue_id;
        self.next_queue_id = self.queues_end(count)?;
        Some(QueueId(first))
    }

    /// Whether `count` more queue numbers are left.
    pub(crate) fn has_queues(&self, count: u32) -> bool {
        self.queues_end(count).is_some()
    }

    /// The number behind the next `count`, if there are so many.
    fn queues_end(&self, count: u32) -> Option<u32> {
        let end = self.next_queue_id.checked_add(count)?;
        (end <= QueueId::PARTITIONS_END.0).then_some(end)
    }

    /// Puts a topic in, replacing the one of the same id.
    pub(crate) fn insert(&mut self, topic: TopicImage) {
        self.remove(topic.id);
        if let Some(unified) = names::unified(&topic.name) {
            self.by_unified_name.insert(unified, Arc::clone(&topic.name));
        }
        for (first, run) in runs(&topic) {
            self.queue_runs.insert(first, run);
        }
        self.partition_count += topic.partitions.len() as u64;
        let topic = Arc::new(topic);
        self.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }

    /// Takes a topic out.
    pub(crate) fn remove(&mut self, id: TopicId) -> Option<Arc<TopicImage>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        if let Some(unified) = names::unified(&topic.name) {
            self.by_unified_name.remove(&unified);
        }
        for (first, _) in runs(&topic) {
            self.queue_runs.remove(&first);
        }
        self.partition_count -= topic.partitions.len() as u64;
        Some(topic)
    }

    /// Restores the numbers that were handed out, from a snapshot.
    pub(super) fn set_next_queue_id(&mut self, next: QueueId) {
        self.next_queue_id = next.0;
    }

    /// Both maps by id, for the difference between two images.
    pub(crate) fn ids(&self) -> &OrdMap<TopicId, Arc<TopicImage>> {
        &self.by_id
    }
}

/// The topic's partitions as runs of consecutive queues.
fn runs(topic: &TopicImage) -> Vec<(QueueId, QueueRun)> {
    let mut runs: Vec<(QueueId, QueueRun)> = Vec::new();
    for (number, partition) in (0u32..).zip(&topic.partitions) {
        match runs.last_mut() {
            Some((first, run)) if first.0 + run.count == partition.queue.0 => run.count += 1,
            _ => {
                let run = QueueRun { topic: topic.id, first_partition: number, count: 1 };
                runs.push((partition.queue, run));
            }
        }
    }
    runs
}
