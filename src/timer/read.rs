//! Reading the engine's queues, on the thread that may block.

use std::ops::Range;

use braid_protocol::records::{Batches, Record, RecordReader};
use bytes::Bytes;

use super::error::TimerError;
use super::id::TimerId;
use super::message::Message;
use crate::model::{Offset, QueueId};
use crate::partition::{FetchError, Partitions, system};
use crate::store::ReadError;

/// Bytes asked for at once when a queue is read from end to end.
const CHUNK_BYTES: usize = 1 << 20;
/// What a compressed batch may hold: the engine writes none.
const CONTENT_BYTES_MAX: usize = 1 << 26;

/// What is in the batches from the one on that holds an offset.
pub(super) async fn batches(
    partitions: &Partitions,
    queue: QueueId,
    from: i64,
    size_bytes_max: usize,
) -> Result<Batches, FetchError> {
    let fetched = partitions.read(queue, Offset(from), size_bytes_max, true).await?;
    let whole = match <[Bytes; 1]>::try_from(fetched.batches) {
        Ok([whole]) => whole,
        Err(pieces) => Bytes::from(pieces.concat()),
    };
    Ok(Batches::new(whole))
}

/// Hands every record of a queue between two offsets to `visit`, in order, until it says that it
/// has enough. What damage took is passed over, and told of in the broker's log.
pub(super) async fn records(
    partitions: &Partitions,
    queue: QueueId,
    offsets: Range<i64>,
    mut visit: impl FnMut(&Record<'_>) -> bool + Send,
) -> Result<(), FetchError> {
    let mut at = offsets.start;
    while at < offsets.end {
        let read = match batches(partitions, queue, at, CHUNK_BYTES).await {
            Ok(read) => read,
            Err(FetchError::Read(ReadError::UnknownQueue(_))) => return Ok(()),
            Err(FetchError::Read(ReadError::Damaged(damage))) => {
                tracing::error!(%queue, offset = at, %damage, "a scheduled message is damaged");
                at += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        let before = at;
        for batch in read {
            let Ok((header, batch)) = batch else { break };
            let Ok(reader) = RecordReader::open(&batch, CONTENT_BYTES_MAX) else { break };
            let wanted = |record: &Record<'_>| (at..offsets.end).contains(&record.offset);
            for record in reader.records().map_while(Result::ok).filter(wanted) {
                if !visit(&record) {
                    return Ok(());
                }
            }
            at = at.max(header.next_offset());
        }
        if at == before {
            // The store checks its checksums, so this is a batch that never made sense.
            tracing::error!(%queue, offset = at, "a record of scheduled messages makes no sense");
            at += 1;
        }
    }
    Ok(())
}

/// The record of a message.
pub(super) async fn message(partitions: &Partitions, id: TimerId) -> Result<Message, TimerError> {
    let message = message_at(partitions, id.bucket, id.offset).await?;
    if message.due_ms == id.due_ms { Ok(message) } else { Err(TimerError::NotFound) }
}

/// The message in a place of a bucket.
pub(super) async fn message_at(
    partitions: &Partitions,
    bucket: u32,
    offset: u32,
) -> Result<Message, TimerError> {
    let (queue, offset) = (system::timer_bucket(bucket), i64::from(offset));
    let read = match batches(partitions, queue, offset, 0).await {
        Ok(read) => read,
        // Dropped meanwhile, or the handle was made up.
        Err(FetchError::Read(ReadError::UnknownQueue(_) | ReadError::OutOfRange { .. })) => {
            return Err(TimerError::NotFound);
        }
        Err(error) => return Err(error.into()),
    };
    let mut found = None;
    for (_, batch) in read.map_while(Result::ok) {
        let reader = RecordReader::open(&batch, CONTENT_BYTES_MAX);
        let Ok(reader) = reader else { return Err(TimerError::Malformed) };
        let records = reader.records().map_while(Result::ok);
        for record in records.filter(|record| record.offset == offset) {
            found = Some(Message::of(&record).map_err(|_| TimerError::Malformed)?);
        }
    }
    found.ok_or(TimerError::NotFound)
}

/// Reads the batch that holds the first of some messages of one bucket, and of those the ones that
/// lie in it. They are ascending; returns how many of them the batch answers for.
pub(super) async fn messages(
    partitions: &Partitions,
    ids: &[TimerId],
    found: &mut Vec<(TimerId, Message)>,
) -> Result<usize, FetchError> {
    let Some(first) = ids.first() else { return Ok(0) };
    let queue = system::timer_bucket(first.bucket);
    let mut answered = 0;
    for (header, batch) in
        batches(partitions, queue, i64::from(first.offset), 0).await?.map_while(Result::ok)
    {
        let is_here = |id: &&TimerId| {
            id.bucket == first.bucket && i64::from(id.offset) < header.next_offset()
        };
        let here = ids.iter().skip(answered).take_while(is_here).count();
        let wanted = ids.get(answered..answered + here).unwrap_or_default();
        answered += here;
        let Ok(reader) = RecordReader::open(&batch, CONTENT_BYTES_MAX) else { continue };
        let mut wanted = wanted.iter().peekable();
        for record in reader.records().map_while(Result::ok) {
            if let Some(id) = wanted.next_if(|id| i64::from(id.offset) == record.offset)
                && let Ok(message) = Message::of(&record)
            {
                found.push((*id, message));
            }
        }
    }
    Ok(answered)
}
