//! Reading the records that may be delivered: off the owning task, which only decides.
//!
//! What comes back may be out of date when it arrives; the decision looks again.

use braid_protocol::records::{self, Batches, RecordReader};
use bytes::Bytes;

use super::decide::Seen;
use super::filter::TagFilter;
use super::message::{Message, is_wanted, message_group, messages};
use crate::env::Env;
use crate::model::{Offset, QueueId};
use crate::partition::{FetchError, Partitions, Void};
use crate::store::Offsets;

/// Bytes of batches read at a time, about.
const SCAN_SIZE_BYTES: usize = 256 * 1024;
/// Bytes read to find single records.
const SINGLE_SIZE_BYTES: usize = 64 * 1024;
/// Single records found at a time, about.
const FOUND_SIZE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest content of a stored batch that is opened.
const CONTENT_SIZE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Batches larger than this are opened where it does not hold up other tasks.
const INLINE_SIZE_BYTES_MAX: usize = 512 * 1024;

/// Up to where records may be delivered: the one place that says so. What is part of an open
/// transaction waits.
pub(super) fn readable_to(partitions: &Partitions, queue: QueueId) -> i64 {
    partitions.last_stable(queue).0
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("a stored batch cannot be read: {0}")]
    Batch(#[from] records::ReadError),
    #[error("batches cannot be opened: {0}")]
    Pool(#[source] std::io::Error),
}

/// What is to be read of a partition.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) queue: QueueId,
    /// Records that are to be delivered again, ascending.
    pub(super) again: Vec<i64>,
    /// From where on new ones are wanted.
    pub(super) scan: Option<ScanFrom>,
}

/// How new records are looked at.
#[derive(Debug, Clone)]
pub(super) struct ScanFrom {
    pub(super) from: i64,
    pub(super) filter: TagFilter,
    /// Whether message groups count.
    pub(super) is_ordered: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The records asked for, or the first of them if they are large; none where the log does not
    /// have them any more.
    pub(super) again: Vec<(i64, Option<Message>)>,
    /// New records, with their content if they are wanted.
    pub(super) fresh: Vec<(Seen, Option<Message>)>,
    /// Behind the last record looked at; `None` if no scan was asked for.
    pub(super) seen_to: Option<i64>,
}

/// Reads what is asked for.
pub(super) async fn look(
    env: &Env,
    partitions: &Partitions,
    look: Look,
) -> Result<Looked, LookError> {
    let mut looked = Looked { again: singles(env, partitions, &look).await?, ..Looked::default() };
    if let Some(scan) = look.scan {
        let offsets = partitions.offsets(look.queue);
        let from = Offset(scan.from.max(offsets.log_start.0));
        let end = readable_to(partitions, look.queue);
        looked.seen_to = Some(scan.from);
        if from.0 < end {
            // Before the read: what is void is forgotten when its records are taken out.
            let void = partitions.void(look.queue, from..Offset(end));
            let read = partitions.read(look.queue, from, SCAN_SIZE_BYTES, true).await?;
            let open = move |batches| scanned(batches, &scan, &void, end);
            let (fresh, seen_to) = opened(env, read.batches, open).await?;
            (looked.fresh, looked.seen_to) = (fresh, Some(seen_to.unwrap_or(from.0)));
        }
    }
    Ok(looked)
}

/// Reads single records.
async fn singles(
    env: &Env,
    partitions: &Partitions,
    look: &Look,
) -> Result<Vec<(i64, Option<Message>)>, LookError> {
    let mut found = Vec::with_capacity(look.again.len());
    let mut wanted = &look.again[..];
    let mut size_bytes = 0;
    while let Some(first) = wanted.first() {
        if size_bytes >= FOUND_SIZE_BYTES_MAX {
            // Asked for again by whoever still wants them.
            break;
        }
        let Offsets { log_start, high_watermark, .. } = partitions.offsets(look.queue);
        if *first < log_start.0 || *first >= high_watermark.0 {
            found.push((*first, None));
            wanted = &wanted[1..];
            continue;
        }
        let read = partitions.read(look.queue, Offset(*first), SINGLE_SIZE_BYTES, true).await?;
        let asked = wanted.to_vec();
        let (mut part, reached) =
            opened(env, read.batches, move |batches| picked(batches, &asked)).await?;
        // A record that is not in the batch where it should be is gone.
        let reached = reached.max(*first + 1);
        let passed = wanted.partition_point(|offset| *offset < reached);
        for offset in &wanted[..passed] {
            let at = part.iter().position(|message| message.offset == *offset);
            let message = at.map(|at| part.swap_remove(at));
            size_bytes += message.as_ref().map_or(0, Message::size_bytes);
            found.push((*offset, message));
        }
        wanted = &wanted[passed..];
    }
    Ok(found)
}

/// Takes batches apart, elsewhere if that may take long.
async fn opened<T: Send + 'static>(
    env: &Env,
    slices: Vec<Bytes>,
    open: impl FnOnce(Bytes) -> Result<T, records::ReadError> + Send + 'static,
) -> Result<T, LookError> {
    // One copy, so that a message held for long holds no piece of the log's memory.
    let batches = Bytes::from(slices.concat());
    let is_light = batches.len() <= INLINE_SIZE_BYTES_MAX && !is_compressed(&batches);
    if is_light {
        return Ok(open(batches)?);
    }
    Ok(env.spawner.blocking(move || open(batches)).await.map_err(LookError::Pool)??)
}

fn is_compressed(batches: &Bytes) -> bool {
    let codec =
        |header: records::BatchHeader| header.codec().is_ok_and(|c| c == records::Codec::None);
    Batches::new(batches.clone()).any(|batch| !batch.is_ok_and(|(header, _)| codec(header)))
}

type Scanned = (Vec<(Seen, Option<Message>)>, Option<i64>);

fn scanned(
    batches: Bytes,
    scan: &ScanFrom,
    void: &Void,
    end: i64,
) -> Result<Scanned, records::ReadError> {
    let mut fresh = Vec::new();
    let mut seen_to = None;
    for batch in Batches::new(batches) {
        let (header, batch) = batch?;
        if header.base_offset >= end {
            break;
        }
        seen_to = Some(header.next_offset());
        if void.hides(&header) {
            continue;
        }
        let reader = RecordReader::open(&batch, CONTENT_SIZE_BYTES_MAX)?;
        for record in reader.records() {
            let record = record?;
            if record.offset < scan.from {
                continue;
            }
            let seen = Seen {
                offset: record.offset,
                is_wanted: is_wanted(&record, &scan.filter),
                message_group: if scan.is_ordered { message_group(&record) } else { 0 },
            };
            let message = seen.is_wanted.then(|| Message::of(reader.content(), &record));
            fresh.push((seen, message));
        }
    }
    Ok((fresh, seen_to))
}

/// The wanted records of the batches, and the offset behind those.
fn picked(batches: Bytes, wanted: &[i64]) -> Result<(Vec<Message>, i64), records::ReadError> {
    let mut found = Vec::new();
    let mut reached = i64::MIN;
    for batch in Batches::new(batches) {
        let (header, batch) = batch?;
        reached = header.next_offset();
        let within = header.base_offset..reached;
        if header.is_control() || !wanted.iter().any(|offset| within.contains(offset)) {
            continue;
        }
        let reader = RecordReader::open(&batch, CONTENT_SIZE_BYTES_MAX)?;
        for message in messages(&reader) {
            let message = message?;
            if wanted.binary_search(&message.offset).is_ok() {
                found.push(message);
            }
        }
    }
    Ok((found, reached))
}
