//! Between messages and the log: the batch that a commit appends, the copy that is discarded, and
//! reading both back from the queue of halves.

use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, Batches, Codec, Record, RecordReader, Target, WriteError,
    recompress, stamp_log_append_time,
};
use bytes::Bytes;

use super::event::{Event, Expiry, Placed, Sent};
use super::id::TransactionId;
use super::request::{HalfMessage, Message, SendHalf};
use crate::model::{Offset, QueueId};
use crate::partition::system::{HALF, HALF_EVENTS};
use crate::partition::{FetchError, Partitions};
use crate::store::ReadError;

/// Headers by RocketMQ's names, and our own for what it has none.
const PRODUCER_GROUP: &[u8] = b"PGROUP";
const MESSAGE_ID: &[u8] = b"UNIQ_KEY";
const REAL_TOPIC: &[u8] = b"REAL_TOPIC";
const REAL_PARTITION: &[u8] = b"REAL_QID";
const TRANSACTION_ID: &[u8] = b"__transactionId__";
const CHECKS: &[u8] = b"TRANSACTION_CHECK_TIMES";
const REASON: &[u8] = b"braid.discard.reason";

/// Where a committed batch is looked for: so far behind the place where it was expected.
const LOOKED_THROUGH_BYTES: usize = 8 * 1024 * 1024;
const LOOK_BYTES: usize = 512 * 1024;

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// It is not there, or not any more.
    Gone,
    /// It is there, and the disk does not give it back.
    Unreadable,
}

/// A half message in the log.
#[derive(Debug)]
pub(super) struct HalfRecord {
    pub(super) sent: Sent,
    /// The batch that a commit appends.
    pub(super) batch: Bytes,
}

/// The batch that a half message becomes when it is committed. Its time is that of its birth.
pub(super) fn batch(half: &SendHalf, message_id: &str, born_ms: i64) -> Result<Bytes, WriteError> {
    let message = &half.message;
    let mut headers = borrowed(message);
    headers.push((PRODUCER_GROUP, Some(half.group.as_bytes())));
    headers.push((MESSAGE_ID, Some(message_id.as_bytes())));
    single(born_ms, message, &headers)
}

type Borrowed<'a> = Vec<(&'a [u8], Option<&'a [u8]>)>;

fn borrowed(message: &Message) -> Borrowed<'_> {
    message.headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect()
}

fn single(born_ms: i64, message: &Message, headers: &Borrowed<'_>) -> Result<Bytes, WriteError> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    writer.append(born_ms, message.key.as_deref(), message.value.as_deref(), headers)?;
    writer.finish()
}

/// The copy of a half message that nobody decided, with where it comes from.
pub(super) fn discarded(
    half: &HalfMessage,
    reason: Expiry,
    checks: u16,
) -> Result<Bytes, WriteError> {
    let (partition, checks) = (half.partition.to_string(), checks.to_string());
    let id = half.id.to_string();
    let reason = match reason {
        Expiry::Checks => "checks",
        Expiry::Age => "age",
    };
    let mut headers = borrowed(&half.message);
    headers.push((REAL_TOPIC, Some(half.topic.as_bytes())));
    headers.push((REAL_PARTITION, Some(partition.as_bytes())));
    headers.push((TRANSACTION_ID, Some(id.as_bytes())));
    headers.push((CHECKS, Some(checks.as_bytes())));
    headers.push((REASON, Some(reason.as_bytes())));
    single(half.born_ms, &half.message, &headers)
}

/// The half message that a transaction id names.
pub(super) async fn half(
    partitions: &Partitions,
    id: TransactionId,
) -> Result<HalfRecord, ReadFault> {
    match half_at(partitions, id.half).await {
        Ok(half) if half.sent.born_ms == id.born_ms => Ok(half),
        // Somebody made the id up.
        Ok(_) => Err(ReadFault::Gone),
        Err(fault) => Err(fault),
    }
}

/// The half message at an offset of its queue.
pub(super) async fn half_at(partitions: &Partitions, at: Offset) -> Result<HalfRecord, ReadFault> {
    match record(partitions, HALF, at).await? {
        (Event::Sent { half, sent }, Some(batch)) if half == at => Ok(HalfRecord { sent, batch }),
        (event, _) => {
            tracing::error!(offset = at.0, ?event, "this is no half message");
            Err(ReadFault::Unreadable)
        }
    }
}

/// The event at an offset of the queue of events.
pub(super) async fn event(partitions: &Partitions, at: Offset) -> Result<Event, ReadFault> {
    record(partitions, HALF_EVENTS, at).await.map(|(event, _)| event)
}

/// The event that is the key of a record, and the record's value.
async fn record(
    partitions: &Partitions,
    queue: QueueId,
    at: Offset,
) -> Result<(Event, Option<Bytes>), ReadFault> {
    let fetched = partitions.read(queue, at, 1, true).await.map_err(|error| fault(at, &error))?;
    let batch = match &fetched.batches[..] {
        [] => return Err(ReadFault::Gone),
        [whole] => whole.clone(),
        parts => Bytes::from(parts.concat()),
    };
    let unreadable = |error: &dyn std::fmt::Display| {
        tracing::error!(offset = at.0, %error, "a record of half messages cannot be read");
        ReadFault::Unreadable
    };
    // Ours are never compressed, so what a record holds is a part of the batch.
    let reader = RecordReader::open(&batch, 0).map_err(|error| unreadable(&error))?;
    let found = reader.records().find(|record| !matches!(record, Ok(r) if r.offset < at.0));
    let record = match found {
        None => return Err(ReadFault::Gone),
        Some(record) => record.map_err(|error| unreadable(&error))?,
    };
    if record.offset != at.0 {
        return Err(ReadFault::Gone);
    }
    let event =
        Event::decode(record.key.unwrap_or_default()).map_err(|error| unreadable(&error))?;
    let is_plain = matches!(reader.header().codec(), Ok(Codec::None));
    let value = record
        .value
        .map(|value| if is_plain { batch.slice_ref(value) } else { Bytes::copy_from_slice(value) });
    Ok((event, value))
}

fn fault(at: Offset, error: &FetchError) -> ReadFault {
    match error {
        FetchError::Read(ReadError::OutOfRange { .. } | ReadError::UnknownQueue(_)) => {
            ReadFault::Gone
        }
        FetchError::Read(ReadError::Damaged(_) | ReadError::Io(_)) | FetchError::Pool(_) => {
            tracing::error!(offset = at.0, %error, "half messages cannot be read");
            ReadFault::Unreadable
        }
    }
}

/// The offset of a committed half in its partition, if its record is still there.
pub(super) async fn find_placed(partitions: &Partitions, placed: Placed) -> Option<Offset> {
    let (mut from, mut looked_through) = (placed.from, 0);
    while looked_through < LOOKED_THROUGH_BYTES {
        let fetched = partitions.read(placed.queue, from, LOOK_BYTES, true).await.ok()?;
        let before = from;
        for batch in Batches::new(Bytes::from(fetched.batches.concat())) {
            let (header, batch) = batch.ok()?;
            if header.crc == placed.crc {
                return Some(Offset(header.base_offset));
            }
            from = Offset(header.next_offset());
            looked_through += batch.len();
        }
        if from <= before {
            return None;
        }
    }
    None
}

/// What a stored half message says.
pub(super) fn message_of(id: TransactionId, record: HalfRecord) -> Result<HalfMessage, ReadFault> {
    let HalfRecord { sent, batch } = record;
    let reader = RecordReader::open(&batch, 0).map_err(|_| ReadFault::Unreadable)?;
    let message = match reader.records().next() {
        Some(Ok(record)) => message(&batch, record),
        Some(Err(_)) | None => return Err(ReadFault::Unreadable),
    };
    let Sent { topic_id, partition, born_ms, group, topic, message_id, immunity_ms: _ } = sent;
    let made = || {
        let header = message.headers.iter().find(|(name, _)| name == MESSAGE_ID);
        header.and_then(|(_, id)| String::from_utf8(id.as_deref()?.to_vec()).ok())
    };
    let message_id = message_id.or_else(made);
    Ok(HalfMessage { id, topic_id, topic, partition, group, message_id, born_ms, message })
}

fn message(batch: &Bytes, record: Record<'_>) -> Message {
    let part = |bytes: &[u8]| batch.slice_ref(bytes);
    Message {
        key: record.key.map(part),
        value: record.value.map(part),
        headers: record.headers.iter().map(|(name, value)| (part(name), value.map(part))).collect(),
    }
}

/// The header of a batch that came out of the log.
pub(super) fn header_of(batch: &Bytes) -> Result<BatchHeader, ReadFault> {
    let header = BatchHeader::parse(batch).map_err(|_| ReadFault::Unreadable)?;
    if header.size_bytes() == batch.len() { Ok(header) } else { Err(ReadFault::Unreadable) }
}

/// The batch compressed anew. Its content is not larger than what a sender may send.
pub(super) fn compressed(batch: &Bytes, target: Target) -> Result<Bytes, ReadFault> {
    if target.codec == Codec::None {
        return Ok(batch.clone());
    }
    let compressed = recompress(batch, target, batch.len()).map_err(|error| {
        tracing::error!(%error, "a half message cannot be compressed");
        ReadFault::Unreadable
    })?;
    Ok(Bytes::from(compressed.batch.into_owned()))
}

/// The batch with the time of its append.
pub(super) fn stamped(batch: &Bytes, now_ms: i64) -> Bytes {
    let mut batch = batch.to_vec();
    stamp_log_append_time(&mut batch, now_ms);
    Bytes::from(batch)
}
