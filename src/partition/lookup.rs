//! Finding a record by its timestamp inside one batch. Pure.

use braid_protocol::records::{ReadError, RecordReader};
use bytes::Bytes;

use super::partitions::FetchError;

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
}

impl Found {
    /// Kafka's way to say that no record fits.
    pub(crate) const NOTHING: Self = Self { offset: -1, timestamp: -1 };
}

/// Why a lookup by time failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the stored batch cannot be read: {0}")]
    Batch(#[from] ReadError),
}

/// Largest content of a stored batch that a lookup unpacks.
const CONTENT_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The first record at or after `timestamp`, if the batch has one.
pub(super) fn first_at_or_after(batch: &Bytes, timestamp: i64) -> Result<Option<Found>, ReadError> {
    first(batch, |record_timestamp| record_timestamp >= timestamp)
}

/// The first record that carries the batch's greatest timestamp.
pub(super) fn first_with_max_timestamp(batch: &Bytes) -> Result<Option<Found>, ReadError> {
    let reader = RecordReader::open(batch, CONTENT_SIZE_BYTES_MAX)?;
    let mut best: Option<Found> = None;
    for record in reader.records() {
        let record = record?;
        if best.is_none_or(|best| record.timestamp > best.timestamp) {
            best = Some(Found { offset: record.offset, timestamp: record.timestamp });
        }
    }
    Ok(best)
}

fn first(batch: &Bytes, fits: impl Fn(i64) -> bool) -> Result<Option<Found>, ReadError> {
    let reader = RecordReader::open(batch, CONTENT_SIZE_BYTES_MAX)?;
    reader
        .records()
        .find_map(|record| match record {
            Ok(record) if fits(record.timestamp) => {
                Some(Ok(Found { offset: record.offset, timestamp: record.timestamp }))
            }
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
        .transpose()
}
