//! How the coordinator gets its transactions back: every record of every partition, once.

use std::collections::HashMap;
use std::sync::Arc;

use braid_protocol::records::{self, Batches, RecordReader};
use bytes::Bytes;

use super::coordinator::Transactions;
use super::record::{Decoded, decode};
use super::state::Txn;
use crate::model::{Offset, Position, QueueId};
use crate::partition::Partitions;
use crate::store::ReadError;

/// Bytes read at a time.
const LOAD_BYTES: usize = 4 * 1024 * 1024;
/// A batch that is larger once it is open is damaged: states are far smaller.
const OPEN_BATCH_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why the transactions could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read {topic}: {source}")]
    Read { topic: &'static str, source: ReadError },
    #[error("a batch of {topic} cannot be read: {source}")]
    Batch { topic: &'static str, source: records::ReadError },
    #[error("{topic} cannot be read beyond offset {offset}")]
    NoProgress { topic: &'static str, offset: i64 },
    #[error("the reader pool is gone: {0}")]
    Pool(#[source] std::io::Error),
}

type States = HashMap<Arc<str>, Option<Txn>>;

impl Transactions {
    /// Reads everything back; from then on requests are served.
    ///
    /// # Errors
    /// The topic cannot be read to its end: nothing is served, and this may be tried again.
    pub(crate) async fn load(&self) -> Result<(), LoadError> {
        let topic = self.0.settings.topic;
        let image = self.0.metadata.image();
        let queues: Vec<QueueId> = image
            .topic(topic)
            .into_iter()
            .flat_map(|topic| {
                let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
                (0..count).filter_map(|index| Some(topic.partition(index)?.queue))
            })
            .collect();
        let partitions = self.0.partitions.clone();
        let read = self.0.env.spawner.blocking(move || -> Result<States, LoadError> {
            let mut states = States::new();
            for queue in queues {
                read_queue(&partitions, topic, queue, &mut states)?;
            }
            Ok(states)
        });
        let states = read.await.map_err(LoadError::Pool)??;
        let mut book = self.book();
        for (id, txn) in states {
            book.apply(&id, txn, Position(0));
        }
        book.is_loaded = true;
        Ok(())
    }
}

fn read_queue(
    partitions: &Partitions,
    topic: &'static str,
    queue: QueueId,
    states: &mut States,
) -> Result<(), LoadError> {
    let mut from = partitions.offsets(queue).log_start;
    while from < partitions.offsets(queue).high_watermark {
        let slices = partitions
            .read_blocking(queue, from, LOAD_BYTES)
            .map_err(|source| LoadError::Read { topic, source })?;
        let before = from;
        for batch in Batches::new(Bytes::from(slices.concat())) {
            let batch_failed = |source| LoadError::Batch { topic, source };
            let (header, batch) = batch.map_err(batch_failed)?;
            from = Offset(header.next_offset());
            let reader =
                RecordReader::open(&batch, OPEN_BATCH_SIZE_BYTES_MAX).map_err(batch_failed)?;
            for record in &reader {
                let record = record.map_err(batch_failed)?;
                match decode(record.key.unwrap_or_default(), record.value) {
                    Ok(Decoded::State(id, txn)) => {
                        states.insert(id, txn);
                    }
                    Ok(Decoded::Unknown { key_version }) => {
                        tracing::warn!(topic, key_version, "an unknown record is skipped");
                    }
                    Err(error) => tracing::warn!(topic, offset = record.offset, %error, "skipped"),
                }
            }
        }
        if from <= before {
            return Err(LoadError::NoProgress { topic, offset: from.0 });
        }
    }
    Ok(())
}
