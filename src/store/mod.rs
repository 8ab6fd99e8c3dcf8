//! Floor F2: one shard's CommitLog on disk.
//!
//! Owns a directory of segments and everything in it: the records of all queues of the shard in
//! the order they arrived, their index, checkpoints. Knows queues, offsets, positions and epochs;
//! never topics, names or requests. Synchronous: appends and lookups are plain calls under one
//! short lock, the disk belongs to three threads of the store's own (or to none, see
//! [`Store::open_inline`]), reads from disk belong on the caller's reader pool. The invariants:
//! nothing is called durable before it is on disk, nothing that is not durable is ever read, and
//! bytes once durable are served as they were written or not at all. Of a replica (`follow`) the
//! same holds of what is durable and committed. docs/formats.md has the formats; docs/adr/0002,
//! 0004 and 0011 the reasons.

mod allocate;
mod begin;
mod checkpoint;
mod chunk;
mod clean;
mod config;
mod driver;
mod error;
mod follow;
mod frame;
mod group;
mod handle;
mod index;
mod inspect;
mod keeper;
mod lookup;
#[cfg(test)]
pub(crate) mod loss;
mod open;
mod page;
mod queue;
mod read;
mod recovery;
mod replay;
mod ring;
mod scan;
mod segment;
mod sequencer;
mod shared;
mod sorted;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod truncate;
mod unreadable;
mod walk;
mod watermark;
mod width;
mod writer;

pub use clean::{CleanLimits, Cleaned, Compaction};
pub use config::{ConfigError, OnDamage, StoreConfig};
pub use driver::Driver;
pub use error::{
    AppendError, Damage, DamageReason, FramesError, IoFailure, LogFailed, LogStartError,
    MaintainError, OpenError, ReadError, ReceiveError, TruncateError,
};
pub use group::Part;
pub use handle::{BatchSum, LogHandle, Offsets, Stats, Subscription};
pub use inspect::{CheckReport, DumpSpec, Finding, InspectError, Problem, check, dump};
pub use lookup::{BatchEntry, Retention};
pub use open::Store;
pub use read::{Batches, Located, ReadSpec};
pub use sequencer::{
    AbortedTransaction, ActiveProducer, RestoreError, SequenceRejected, Sequenced, Sequencer,
    SnapshotMark,
};
pub use state::{Appended, Class};
pub use stream::Frames;
pub use watermark::WaitDurable;
