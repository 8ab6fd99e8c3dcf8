//! `__consumer_offsets` as the group coordinator sees it: partitions of the shard's log.

use braid_protocol::records::{self, BatchHeader, Batches};
use braid_raft::MetadataNode;
use bytes::Bytes;

use super::{GroupLog, GroupLogError, LoadError, PendingWrite};
use crate::model::{Offset, QueueId};
use crate::partition::Partitions;
use crate::store::{AppendError, ReadError};

/// Bytes read at a time when a partition is loaded.
const LOAD_BYTES: usize = 4 * 1024 * 1024;

/// The coordinator's log on the partitions of one topic.
#[derive(Debug, Clone)]
pub(crate) struct OffsetsTopicLog {
    topic: &'static str,
    metadata: MetadataNode,
    partitions: Partitions,
}

impl OffsetsTopicLog {
    pub(crate) fn new(topic: &'static str, metadata: MetadataNode, partitions: Partitions) -> Self {
        Self { topic, metadata, partitions }
    }

    fn queue(&self, partition: i32) -> Option<QueueId> {
        Some(self.metadata.image().topic(self.topic)?.partition(partition)?.queue)
    }
}

impl GroupLog for OffsetsTopicLog {
    fn append(&self, partition: i32, batch: Bytes) -> Result<PendingWrite, GroupLogError> {
        // The topic is created when the first group asks for its coordinator.
        let queue = self.queue(partition).ok_or(GroupLogError::Unavailable)?;
        let header = BatchHeader::parse(&batch).map_err(|_| GroupLogError::TooLarge)?;
        let appended = self.partitions.append_own(queue, &batch, &header).map_err(|e| cause(&e))?;
        let durable = self.partitions.wait_durable(appended.end);
        Ok(Box::pin(async move { durable.await.map_err(|_| GroupLogError::StorageFailed) }))
    }

    fn next_offset(&self, partition: i32) -> Option<i64> {
        Some(self.partitions.offsets(self.queue(partition)?).next.0)
    }

    fn release(&self, partition: i32, offset: i64) {
        let Some(queue) = self.queue(partition) else { return };
        if let Err(error) = self.partitions.release(queue, Offset(offset)) {
            // The old records stay, which costs only space.
            tracing::warn!(partition, offset, %error, "group records could not be let go");
        }
    }

    fn load(&self, partition: i32, visit: &mut dyn FnMut(Bytes)) -> Result<(), LoadError> {
        let Some(queue) = self.queue(partition) else { return Ok(()) };
        let failed = |source: ReadError| LoadError::Read { partition, source: Box::new(source) };
        let mut from = self.partitions.offsets(queue).log_start;
        while from < self.partitions.offsets(queue).high_watermark {
            let bytes = self.partitions.read_blocking(queue, from, LOAD_BYTES).map_err(failed)?;
            let next = visit_batches(&bytes, visit)
                .map_err(|source| LoadError::Read { partition, source: Box::new(source) })?;
            // A stored batch always moves on. Taking less than everything for everything would
            // lose offsets for good once the log is let go.
            from = next
                .filter(|next| *next > from)
                .ok_or(LoadError::NoProgress { partition, offset: from.0 })?;
        }
        Ok(())
    }
}

fn visit_batches(
    slices: &[Bytes],
    visit: &mut dyn FnMut(Bytes),
) -> Result<Option<Offset>, records::ReadError> {
    let mut next = None;
    for batch in Batches::new(Bytes::from(slices.concat())) {
        let (header, batch) = batch?;
        next = Some(Offset(header.next_offset()));
        visit(batch);
    }
    Ok(next)
}

fn cause(error: &AppendError) -> GroupLogError {
    match error {
        AppendError::UnknownQueue(_) | AppendError::Fenced { .. } | AppendError::Elsewhere(_) => {
            GroupLogError::NotLeader
        }
        AppendError::DiskFull
        | AppendError::SegmentNotReady
        | AppendError::NoMemory
        | AppendError::Damaged { .. } => GroupLogError::Unavailable,
        AppendError::TooLarge { .. } => GroupLogError::TooLarge,
        AppendError::NotTheBatch { .. } | AppendError::Rejected(_) | AppendError::Failed(_) => {
            GroupLogError::StorageFailed
        }
    }
}
