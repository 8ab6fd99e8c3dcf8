//! Kafka's record batch (magic 2), by hand: the 61-byte header, validation of produced batches,
//! reading and writing records, the four codecs.
//!
//! Nothing here performs I/O, asks the time, or knows topics and requests. Every function is
//! synchronous and total on hostile input: it never panics, and what it allocates follows the
//! bytes that arrived or a budget the caller names, never a count or length the bytes claim.
//! Callers: the store (header, stamp), produce (validate, conform), groups (read, write).
#![deny(clippy::indexing_slicing)]

mod compression;
mod conform;
mod header;
mod marker;
mod reader;
mod stamp;
mod validate;
mod walk;
mod writer;

pub use compression::{Codec, CompressError, DecompressError, UnknownCodec, compress, decompress};
pub use conform::{ConformError, Conformed, RecompressError, Target, conform, recompress};
pub use header::{BatchHeader, HeaderError, TimestampType};
pub use marker::{Marker, MarkerRecord};
pub use reader::{Batches, Headers, ReadError, Record, RecordReader};
pub use stamp::{stamp, stamp_log_append_time, stamp_max_timestamp};
pub use validate::{
    BatchError, BatchLimits, ErrorClass, RecordError, RecordErrors, RecordProblem, TimestampRule,
    ValidatedBatch, validate_batch,
};
pub use walk::RecordFault;
pub use writer::{BatchSpec, BatchWriter, Producer, WriteError};
