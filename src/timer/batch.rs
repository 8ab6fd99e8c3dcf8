//! The batches that the engine appends: of messages for their buckets, and of events.

use std::collections::BTreeMap;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter, WriteError};
use bytes::Bytes;

use super::message::NewTimer;
use crate::model::QueueId;
use crate::store::Part;

/// Messages in one batch of a bucket: whoever delivers one of them reads all.
const RECORDS_MAX: usize = 128;
/// As many bytes, unless a single message is larger.
const SIZE_BYTES_MAX: usize = 64 * 1024;

/// A batch and the queue it is for.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) queue: QueueId,
    pub(super) batch: Bytes,
    pub(super) header: BatchHeader,
}

impl Written {
    pub(super) fn of(queue: QueueId, writer: BatchWriter) -> Result<Self, WriteError> {
        let batch = writer.finish()?;
        let Ok(header) = BatchHeader::parse(&batch) else {
            unreachable!("what the writer finished is a batch");
        };
        Ok(Self { queue, batch, header })
    }

    /// A batch of records that have a key alone.
    pub(super) fn of_keys(
        queue: QueueId,
        now_ms: i64,
        keys: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Self, WriteError> {
        let mut writer = BatchWriter::new(BatchSpec::default());
        for key in keys {
            writer.append(now_ms, Some(&key), None, &[])?;
        }
        Self::of(queue, writer)
    }

    pub(super) fn part(&self) -> Part<'_> {
        Part { queue: self.queue, batch: &self.batch, header: &self.header }
    }
}

/// Records that hold the places of messages that are lost: nothing is in them.
pub(super) fn empty_places(
    queue: QueueId,
    now_ms: i64,
    count: usize,
) -> Result<Written, WriteError> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    for _ in 0..count {
        writer.append(now_ms, None, None, &[])?;
    }
    Written::of(queue, writer)
}

/// Messages of one bucket in one batch, by their places in the request.
#[derive(Debug)]
pub(super) struct BucketBatch {
    pub(super) bucket: u32,
    pub(super) places: Vec<usize>,
    pub(super) batch: Written,
}

/// Writes messages into batches of their buckets; within a bucket they keep their order.
pub(super) fn by_bucket(
    timers: &[NewTimer<'_>],
    buckets: &[u32],
    queue_of: fn(u32) -> QueueId,
) -> Result<Vec<BucketBatch>, WriteError> {
    let mut places: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, bucket) in buckets.iter().enumerate() {
        places.entry(*bucket).or_default().push(place);
    }
    let mut batches = Vec::new();
    for (bucket, places) in places {
        let mut rest = places.into_iter().peekable();
        while rest.peek().is_some() {
            let mut writer = BatchWriter::new(BatchSpec::default());
            let mut taken = Vec::new();
            while let Some(place) =
                rest.next_if(|_| taken.len() < RECORDS_MAX && writer.size_bytes() < SIZE_BYTES_MAX)
            {
                if let Some(timer) = timers.get(place) {
                    timer.write(&mut writer)?;
                }
                taken.push(place);
            }
            let batch = Written::of(queue_of(bucket), writer)?;
            batches.push(BucketBatch { bucket, places: taken, batch });
        }
    }
    Ok(batches)
}
