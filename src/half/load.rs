//! How the table comes back after a start: from the events alone, however large the messages are.

use std::time::Duration;

use braid_protocol::records::{self, Batches, RecordReader};
use bytes::Bytes;

use super::event::{Event, EventError};
use super::table::{Needed, Rules, Table};
use crate::env::Clock;
use crate::model::Offset;
use crate::partition::Partitions;
use crate::partition::system::{HALF, HALF_EVENTS};
use crate::store::ReadError;

/// Bytes read at a time.
const LOAD_BYTES: usize = 4 * 1024 * 1024;

/// Why the halves could not be read back. Going on without a part of the queue could commit a
/// message twice, or lose one.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the queue of half messages cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("a batch of half messages cannot be read: {0}")]
    Batch(#[from] records::ReadError),
    #[error("the half message event at offset {at} cannot be read: {error}")]
    Event { at: i64, error: EventError },
    #[error("the queue of half messages cannot be read beyond offset {0}")]
    NoProgress(i64),
    #[error("the half messages were written by an earlier version, which is needed to end them")]
    Older,
    #[error("the reader pool is gone: {0}")]
    Pool(std::io::Error),
}

/// Reads the whole queue of events, of which none holds a message; blocks.
pub(super) fn load(
    partitions: &Partitions,
    rules: Rules,
    clock: &dyn Clock,
) -> Result<Table, LoadError> {
    let (halves, events) = (partitions.offsets(HALF), partitions.offsets(HALF_EVENTS));
    if halves.next > Offset::ZERO && events.next == Offset::ZERO {
        return Err(LoadError::Older);
    }
    let (mut from, start) = (events.log_start, halves.log_start);
    let monotonic_ms = in_ms(clock.monotonic());
    let start = Needed { halves: start, events: from };
    let mut table = Table::new(rules, start, clock.wall_ms(), monotonic_ms);
    while from < partitions.offsets(HALF_EVENTS).high_watermark {
        let slices = partitions.read_blocking(HALF_EVENTS, from, LOAD_BYTES)?;
        let before = from;
        for batch in Batches::new(Bytes::from(slices.concat())) {
            let (header, batch) = batch?;
            apply(&mut table, &batch, from)?;
            from = Offset(header.next_offset());
        }
        if from <= before {
            return Err(LoadError::NoProgress(before.0));
        }
    }
    Ok(table)
}

/// A time of the monotonic clock.
pub(super) fn in_ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Applies the events of a batch from an offset on: the log may start within it.
fn apply(table: &mut Table, batch: &Bytes, from: Offset) -> Result<(), LoadError> {
    for record in &RecordReader::open(batch, 0)? {
        let record = record?;
        if record.offset < from.0 {
            continue;
        }
        let event = Event::decode(record.key.unwrap_or_default())
            .map_err(|error| LoadError::Event { at: record.offset, error })?;
        table.apply(Offset(record.offset), &event);
    }
    Ok(())
}
