//! What is asked of the engine and what it answers: plain structs for the floors above.

use std::sync::Arc;
use std::time::Duration;

use super::filter::TagFilter;
use super::message::Message;
use crate::model::TopicId;

/// Asks for messages.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveRequest {
    pub(crate) group: Arc<str>,
    pub(crate) topic: TopicId,
    /// Most messages, from 1 to what the broker allows.
    pub(crate) max: usize,
    /// How long nobody else is given them, in ms.
    pub(crate) invisible_ms: i64,
    /// How long to wait if there are none.
    pub(crate) wait: Duration,
    /// What others do not match is done for the group: all its consumers use the same filter.
    pub(crate) filter: TagFilter,
    /// Names this receive: until its messages become visible again, the same id gets the same
    /// messages with the same handles, and no attempt is counted.
    pub(crate) attempt_id: Option<Arc<str>>,
}

/// A message on lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    /// From 1: how often the group was given it.
    pub(crate) attempt: u16,
    /// Until when nobody else is given it, in ms since 1970.
    pub(crate) until_ms: i64,
    /// To be shown with what became of it.
    pub(crate) handle: String,
    pub(crate) message: Message,
}

/// How far a group is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) topic: TopicId,
    pub(crate) partition: i32,
    /// All below is done: what Kafka calls the committed offset.
    pub(crate) start_offset: i64,
    /// The first record that was never looked at.
    pub(crate) scanned_to: i64,
    /// Records below are readable.
    pub(crate) high_watermark: i64,
    /// Messages not done: leased, resting, dying or not looked at.
    pub(crate) lag: i64,
    /// Leased now.
    pub(crate) in_flight: usize,
    /// Could be delivered now: not looked at yet, or due again.
    pub(crate) ready: i64,
    /// On their way to the dead letters.
    pub(crate) archiving: usize,
}

/// A group's lag in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lag {
    pub(crate) progress: Progress,
    /// Since when its oldest message that is not done was produced, in ms; `None` if there is none,
    /// or it cannot be read now.
    pub(crate) age_ms: Option<i64>,
}

/// What happened to messages since the broker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeliveryTotals {
    /// Handed out, each time.
    pub(crate) delivered: u64,
    /// Acknowledged, or dead letters that were sent again or deleted.
    pub(crate) acknowledged: u64,
    /// Copied to a topic of dead letters.
    pub(crate) dead_letters: u64,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupSummary {
    pub(crate) group: Arc<str>,
    pub(crate) topics: Vec<TopicId>,
    /// Looked at and not done, in all partitions.
    pub(crate) undone: usize,
}

/// What became of a dead letter that was to be re-driven or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done now, by this call.
    Done,
    /// It was re-driven or deleted before, or is not there.
    NotThere,
    /// Its target topic does not exist (any more).
    NoTarget,
    /// The copy cannot be made, or the log does not take it now.
    Failed,
}

/// Which dead letters of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    /// Partitions and offsets of the dead-letter topic.
    Some(Vec<(i32, i64)>),
}

/// Where dead letters go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The topic and partition they came from. Everybody who reads it sees them again.
    Origin,
    /// Another topic: the partition that their key hashes to.
    Topic(Arc<str>),
}

/// What became of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) done: usize,
    /// Those that are not done, and why; at most 1,000 of them.
    pub(crate) others: Vec<((i32, i64), Outcome)>,
}

/// A page of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetters {
    /// With the partition of the dead-letter topic.
    pub(crate) letters: Vec<(i32, Message)>,
    /// Where the next page begins; `None` behind the last.
    pub(crate) next: Option<(i32, i64)>,
}
