//! What the halves need to know of topics; whoever sees the metadata tells them.

use std::future::Future;
use std::pin::Pin;

use braid_protocol::records;

use crate::model::{QueueId, TopicId};

/// A partition that takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) queue: QueueId,
    /// Whether its records carry the time of the append (`message.timestamp.type`).
    pub(crate) log_append_time: bool,
    /// How its records are compressed, if not as they come (`compression.type`).
    pub(crate) compression: Option<records::Target>,
}

/// Resolves once the discard topic is there; none if it cannot be had now.
pub(crate) type Discard<'a> = Pin<Box<dyn Future<Output = Option<Target>> + Send + 'a>>;

/// Topics, as the halves see them.
pub(crate) trait Targets: Send + Sync + 'static {
    /// The partition of a topic, if both are there.
    fn target(&self, topic: TopicId, partition: i32) -> Option<Target>;

    /// Where halves go that nobody decided, made on first use.
    fn discard(&self) -> Discard<'_>;
}
