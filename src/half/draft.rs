//! Decisions on their way into the log: what was decided in one pass is appended as one group.
//!
//! Events become records of batches for the queue of halves; the batches of commits and discarded
//! copies go to their queues in the same group. Nothing here decides or applies anything.

use std::collections::HashSet;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};
use bytes::Bytes;

use super::event::Event;
use super::ids::MessageKey;
use crate::model::{Offset, Position, QueueId};
use crate::partition::Partitions;
use crate::partition::system::HALF;
use crate::store::{AppendError, Class, Part};

/// Records with a message in one batch: a commit reads all of its half's batch.
const MESSAGES_MAX: usize = 16;
/// A batch of this size is not made larger.
const BATCH_SIZE_BYTES_MAX: usize = 64 * 1024;
/// Records in one batch.
const RECORDS_MAX: usize = 1024;

/// What leaves when a group is durable, or never will be.
pub(super) type Answer = Box<dyn FnOnce(Result<(), super::request::Unavailable>) + Send>;
/// Makes the answer of what was appended, or refused.
pub(super) type Then = Box<dyn FnOnce(Result<Landed, AppendError>) -> Answer + Send>;

/// Where a decision went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    /// Offset of its first event.
    pub(super) event: Offset,
    /// Offset of its batch in another queue, if it has one.
    pub(super) batch: Option<Offset>,
}

/// One decision.
pub(super) struct Item {
    /// The events, and what a sent half carries.
    pub(super) events: Vec<(Event, Option<Bytes>)>,
    /// A batch for another queue.
    pub(super) batch: Option<(QueueId, Bytes, BatchHeader)>,
    pub(super) class: Class,
    pub(super) then: Then,
}

impl Item {
    fn size_bytes(&self) -> usize {
        let carried =
            self.events.iter().map(|(_, value)| value.as_ref().map_or(0, Bytes::len) + 64);
        carried.sum::<usize>() + self.batch.as_ref().map_or(0, |(_, batch, _)| batch.len() + 128)
    }
}

/// The decisions of one pass.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) items: Vec<Item>,
    touched: HashSet<Offset>,
    sent: HashSet<MessageKey>,
    size_bytes: usize,
}

impl Draft {
    pub(super) fn push(&mut self, item: Item) {
        self.touched.extend(item.events.iter().filter_map(|(event, _)| event.half()));
        let sent = item.events.iter().filter_map(|(event, _)| match event {
            Event::Sent(sent) => sent.message_key(),
            Event::Checked { .. }
            | Event::CheckReturned { .. }
            | Event::CheckAsked { .. }
            | Event::Committed { .. }
            | Event::RolledBack { .. }
            | Event::Expired { .. } => None,
        });
        self.sent.extend(sent);
        self.size_bytes += item.size_bytes();
        self.items.push(item);
    }

    /// Whether something was decided about a half that the table does not know of yet.
    pub(super) fn touches(&self, half: Offset) -> bool {
        self.touched.contains(&half)
    }

    /// Whether it holds a half of this message id.
    pub(super) fn sends(&self, message: MessageKey) -> bool {
        self.sent.contains(&message)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

/// Where a group is: the events' offsets, in order, and those of the batches, by item.
pub(super) struct Placement {
    pub(super) events: Vec<Offset>,
    pub(super) batches: Vec<Option<Offset>>,
    pub(super) end: Position,
}

/// Appends decisions as one group: all of them are in the log or none.
pub(super) fn append(
    partitions: &Partitions,
    now_ms: i64,
    items: &[Item],
) -> Result<Placement, AppendError> {
    let batches = event_batches(now_ms, items)?;
    let halves = batches.iter().map(|(batch, header)| (HALF, batch, header));
    let others = items.iter().filter_map(|item| item.batch.as_ref());
    let others = others.map(|(queue, batch, header)| (*queue, batch, header));
    let parts: Vec<Part<'_>> =
        halves.chain(others).map(|(queue, batch, header)| Part { queue, batch, header }).collect();
    let is_data = items.iter().any(|item| item.class == Class::Data);
    let class = if is_data { Class::Data } else { Class::System };
    let appended = partitions.append_all(now_ms, class, &parts)?;
    let (halves, others) = appended.split_at(batches.len());
    let mut others = others.iter().map(|appended| appended.base_offset);
    Ok(Placement {
        events: halves
            .iter()
            .flat_map(|one| (one.base_offset.0..=one.last_offset.0).map(Offset))
            .collect(),
        batches: items.iter().map(|item| item.batch.as_ref().and_then(|_| others.next())).collect(),
        end: appended.last().map_or(Position(0), |last| last.end),
    })
}

fn event_batches(now_ms: i64, items: &[Item]) -> Result<Vec<(Bytes, BatchHeader)>, AppendError> {
    let mut batches = Vec::new();
    let (mut writer, mut messages, mut records) = (BatchWriter::new(BatchSpec::default()), 0, 0);
    for (event, value) in items.iter().flat_map(|item| &item.events) {
        let carried = value.as_ref().map_or(0, Bytes::len);
        let is_full = messages + usize::from(value.is_some()) > MESSAGES_MAX
            || records == RECORDS_MAX
            || records > 0 && writer.size_bytes() + carried > BATCH_SIZE_BYTES_MAX;
        if is_full {
            let full = std::mem::replace(&mut writer, BatchWriter::new(BatchSpec::default()));
            batches.push(finish(full)?);
            (messages, records) = (0, 0);
        }
        let key = event.encode();
        let added = writer.append(now_ms, Some(&key), value.as_deref(), &[]);
        added.map_err(|_| too_large(carried))?;
        messages += usize::from(value.is_some());
        records += 1;
    }
    if records > 0 {
        batches.push(finish(writer)?);
    }
    Ok(batches)
}

fn finish(writer: BatchWriter) -> Result<(Bytes, BatchHeader), AppendError> {
    let size_bytes = writer.size_bytes();
    let batch = writer.finish().map_err(|_| too_large(size_bytes))?;
    let header = BatchHeader::parse(&batch).map_err(|_| too_large(size_bytes))?;
    Ok((batch, header))
}

/// Larger than any batch can be.
fn too_large(size_bytes: usize) -> AppendError {
    AppendError::TooLarge { max: u64::from(i32::MAX.unsigned_abs()), got: size_bytes as u64 }
}
