//! Between records and batches: packs what shards append, and takes apart what a log gives back.

use bytes::Bytes;

use braid_protocol::records::{BatchSpec, BatchWriter, Batches, RecordReader};

use super::load::Replayed;
use super::record::Record;
use super::state::Shard;
use super::step::Token;

/// A compressed batch that is larger than this once it is open is passed over.
const OPEN_BATCH_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A batch under construction, and whose records it holds.
#[derive(Debug)]
pub(super) struct BatchDraft {
    writer: BatchWriter,
    tokens: Vec<Token>,
    /// A record was refused by the writer: none of these records can be written.
    is_broken: bool,
}

impl BatchDraft {
    pub(super) fn new() -> Self {
        let writer = BatchWriter::new(BatchSpec::default());
        Self { writer, tokens: Vec::new(), is_broken: false }
    }

    pub(super) fn add(&mut self, wall_ms: i64, token: Token, records: &[Record]) {
        self.tokens.push(token);
        for record in records {
            let value = record.value.as_deref();
            let added = self.writer.append(wall_ms, Some(&record.key), value, &[]);
            self.is_broken |= added.is_err();
        }
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.writer.size_bytes()
    }

    /// The batch; `None` if it would be larger than a batch can be.
    pub(super) fn finish(self) -> (Vec<Token>, Option<Bytes>) {
        let batch = if self.is_broken { None } else { self.writer.finish().ok() };
        (self.tokens, batch)
    }
}

/// Replays batches into a shard. What cannot be read is passed over, with a warning: one bad or
/// newer record must not take all groups of a partition down.
///
/// Offsets of transactions are passed over, too: without the transaction's end they do not count.
pub(super) fn replay_batches(shard: &mut Shard, partition: i32, batches: Bytes) {
    for batch in Batches::new(batches) {
        let opened = batch.and_then(|(header, batch)| {
            let reader = RecordReader::open(&batch, OPEN_BATCH_SIZE_BYTES_MAX)?;
            Ok((header, reader))
        });
        match opened {
            // Markers of transactions, which hold no records of groups.
            Ok((header, _)) if header.is_control() => {}
            Ok((header, _)) if header.is_transactional() => {
                tracing::warn!(partition, offset = header.base_offset, "skipped: transactional");
            }
            Ok((_, reader)) => replay_batch(shard, partition, &reader),
            Err(error) => {
                tracing::warn!(partition, %error, "a batch of group records cannot be read");
            }
        }
    }
}

fn replay_batch(shard: &mut Shard, partition: i32, reader: &RecordReader) {
    for record in reader {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(partition, %error, "a batch of group records breaks off");
                return;
            }
        };
        let offset = record.offset;
        match shard.replay(record.key.unwrap_or_default(), record.value) {
            Ok(Replayed::Applied) => {}
            Ok(Replayed::Unknown { key_version }) => {
                tracing::warn!(
                    partition,
                    offset,
                    key_version,
                    "an unknown group record is skipped"
                );
            }
            Err(error) => {
                tracing::warn!(partition, offset, %error, "an unreadable group record is skipped");
            }
        }
    }
}
