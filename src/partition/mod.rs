//! Floor F3: what a partition is above the store: the idempotence window, reads on the right
//! thread, and lookups by time.
//!
//! [`Partitions`] is a cheap handle on the broker's own log; a partition is named by its queue. A
//! replicated shard that the broker leads is a [`LedShard`]. Neither knows topics or Kafka requests. Handlers run on tokio workers, so whatever may touch a cold
//! page goes to the reader pool here and nowhere else.

mod inline;
mod led;
mod lookup;
mod partitions;
mod producers;
mod routing;
mod sequencer;
mod settings;
pub(crate) mod system;
mod transactions;

pub(crate) use inline::serve_inline;
pub(crate) use led::{Acks, LedAppendError, LedShard, LedShards, NotSettled, now_ms};
pub use led::{NotAdmitted, Settled, Standing};
pub(crate) use lookup::{Found, LookupError};
pub(crate) use partitions::{FetchError, IsOwn, Partitions, Void};
pub use routing::partition_for;
pub(crate) use sequencer::ShardSequencer;
pub(crate) use settings::{TopicSettings, TopicSettingsCache};
