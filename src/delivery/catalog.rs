//! What the engine asks of the metadata. The floor above implements it on the image.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::settings::GroupSettings;
use crate::model::{QueueId, TopicId};

/// What dead-letter topics' names begin with: the default of Kafka's
/// `errors.deadletterqueue.topic.name.prefix` (KIP-1191).
pub(crate) const DEAD_LETTER_PREFIX: &str = "dlq.";

/// A topic as the image has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicView {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    /// The queue of each partition.
    pub(crate) queues: Arc<[QueueId]>,
    /// Whether its records carry the time of their append.
    pub(crate) log_append_time: bool,
}

impl TopicView {
    /// The queue of a partition.
    pub(super) fn queue(&self, partition: i32) -> Option<QueueId> {
        self.queues.get(usize::try_from(partition).ok()?).copied()
    }

    /// The partition at an index, and its queue.
    pub(super) fn at(&self, index: usize) -> Option<(i32, QueueId)> {
        Some((i32::try_from(index).ok()?, *self.queues.get(index)?))
    }

    /// Partitions and their queues.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (i32, QueueId)> + '_ {
        (0..).zip(self.queues.iter().copied())
    }
}

/// Why there is no topic for dead letters now. Tried again; nothing is lost meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the dead-letter topic {topic} cannot be had: {why}")]
pub(crate) struct NoDeadLetterTopic {
    pub(crate) topic: String,
    /// A sentence for the log.
    pub(crate) why: String,
}

/// Resolves when the topic is there.
pub(crate) type DeadLetterTopic =
    Pin<Box<dyn Future<Output = Result<TopicView, NoDeadLetterTopic>> + Send>>;

/// Topics and settings, as they are now.
pub(crate) trait Catalog: Send + Sync + 'static {
    /// A topic by its id.
    fn topic(&self, id: TopicId) -> Option<TopicView>;

    /// A topic by its name.
    fn topic_named(&self, name: &str) -> Option<TopicView>;

    /// Which of so many partitions a producer of Kafka puts a key into.
    fn partition_of(&self, key: &[u8], partitions: usize) -> usize;

    /// A group's settings; the defaults where nothing is set.
    fn settings(&self, group: &str) -> GroupSettings;

    /// The topic of a group's dead letters, [`dead_letter_name`], created if it is not there.
    fn dead_letter_topic(&self, group: &str) -> DeadLetterTopic;
}

/// The name of a group's dead-letter topic, and of the reserved group that keeps which of them
/// were re-driven or deleted.
pub(crate) fn dead_letter_name(group: &str) -> String {
    if is_reserved(group) { group.to_owned() } else { format!("{DEAD_LETTER_PREFIX}{group}") }
}

/// The topic of half messages that nobody decided.
pub(crate) const DISCARDED_HALVES: &str = "discarded.halves";
/// The topic of scheduled messages whose own topic was gone when they were due.
pub(crate) const DISCARDED_TIMERS: &str = "discarded.timers";

/// Whether a name is that of a topic whose records are browsed and sent again as if they were the
/// dead letters of a group of that name; no consumer has such a group.
pub(crate) fn is_reserved(group: &str) -> bool {
    [DISCARDED_HALVES, DISCARDED_TIMERS].contains(&group)
}
