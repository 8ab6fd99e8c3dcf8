//! Judges a history of what clients did and saw: was every promise of the broker kept?
//!
//! A history is a file of JSON lines ([`Op`]), written by a [`Recorder`] while real clients or simulated ones work and
//! things break. [`check`] looks for anomalies, each of which breaks one of the invariants I1 to I15 ([`Invariant`]),
//! and shows for each the smallest part of the history that holds it. It knows nothing of the broker: what clients were
//! told is all that counts.
//!
//! Three rules keep verdicts honest. An operation is `fail` only if it certainly was not applied; whatever ended by a
//! timeout, a lost connection or the death of the client is `info`, and may have been applied at any time since it
//! began. Values are unique in a run. At the end, everything is healed and each partition is read to its end by a
//! [`F::Drain`], once committed records only, once all.
//!
//! What is *not* an anomaly, because Kafka does not promise its absence:
//!
//! | what | why it is legal |
//! |---|---|
//! | writes of two transactions mixed in opposite order in two partitions (G0) | transactions are not isolated from each other: an offset is given at once, not at the end |
//! | a cycle of reads that needs the order of writes (G1c with ww edges) | follows from the line above |
//! | a cycle of reads and of reads that came too early (G-single, G2, write skew) | read_committed does not promise more than its name |
//! | offsets between the sends of one producer taken by others | partitions are shared |
//! | a reader that misses records or goes back after its partitions were given out anew ([`F::Poll`] with another `generation`, or with none under `subscribe`) | it begins where the group stands, which may be earlier or later than where it was |
//! | gaps in offsets | control records, and aborted records for a reader of committed ones |
//! | a value that comes twice, of a producer that is not idempotent | its retries are new records |
//!
//! Topics that are compacted lose records on purpose; their histories are not for this checker.
//!
//! Every pass is linear or sorts; the graph of transactions is made of reads inside transactions only.

mod anomaly;
mod detect;
mod history;
mod index;
mod looks;
pub mod model;
mod op;
mod shrink;
mod verdict;

pub use anomaly::{Anomaly, Invariant, Violation};
pub use history::{Begun, History, HistoryError, Recorder};
pub use op::{F, Isolation, Mode, Op, Record, Role, Type};
pub use verdict::{Shown, Verdict, check, looks};
