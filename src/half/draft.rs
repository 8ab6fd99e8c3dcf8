//! Decisions on their way into the log: what was decided in one pass is appended as one group.
//!
//! Events become records of the queue of events, what senders send records of the queue of halves;
//! the batches of commits and discarded copies go to their queues in the same group. Nothing here
//! decides or applies anything.

use std::collections::HashSet;

use braid_protocol::records::{BatchHeader, BatchSpec, BatchWriter};
use bytes::Bytes;

use super::event::Event;
use super::ids::MessageKey;
use crate::model::{Offset, Position, QueueId};
use crate::partition::Partitions;
use crate::partition::system::{HALF, HALF_EVENTS};
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
    /// The half that it is about.
    pub(super) half: Offset,
    /// Offset of its batch in another queue, if it has one.
    pub(super) batch: Option<Offset>,
}

/// One decision.
pub(super) struct Item {
    /// The events. A half that is sent has no number before it is appended.
    pub(super) events: Vec<Event>,
    /// What a half that is sent becomes when it is committed.
    pub(super) carried: Option<Bytes>,
    /// A batch for another queue.
    pub(super) batch: Option<(QueueId, Bytes, BatchHeader)>,
    pub(super) class: Class,
    pub(super) then: Then,
}

impl Item {
    fn size_bytes(&self) -> usize {
        let carried = self.carried.as_ref().map_or(0, |carried| carried.len() + 128);
        let batch = self.batch.as_ref().map_or(0, |(_, batch, _)| batch.len() + 128);
        self.events.len() * 64 + carried + batch
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
        self.touched.extend(item.events.iter().filter_map(Event::half));
        let sent = item.events.iter().filter_map(|event| match event {
            Event::Sent { sent, .. } => sent.message_key(),
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

/// Appends decisions as one group: all of them are in the log or none. Halves that are sent get
/// their numbers, since nobody else appends to their queue.
pub(super) fn append(
    partitions: &Partitions,
    now_ms: i64,
    items: &mut [Item],
) -> Result<Placement, AppendError> {
    number(items, partitions.offsets(HALF).next);
    let halves = written(now_ms, items.iter().filter_map(half_of))?;
    let events = items.iter().flat_map(|item| &item.events).map(|event| (event.encode(), None));
    let events = written(now_ms, events)?;
    let own = halves.iter().map(|(batch, header)| (HALF, batch, header));
    let own = own.chain(events.iter().map(|(batch, header)| (HALF_EVENTS, batch, header)));
    let others = items.iter().filter_map(|item| item.batch.as_ref());
    let others = others.map(|(queue, batch, header)| (*queue, batch, header));
    let parts: Vec<Part<'_>> =
        own.chain(others).map(|(queue, batch, header)| Part { queue, batch, header }).collect();
    let is_data = items.iter().any(|item| item.class == Class::Data);
    let class = if is_data { Class::Data } else { Class::System };
    let appended = partitions.append_all(now_ms, class, &parts)?;
    let (_, appended) = appended.split_at(halves.len());
    let (events, others) = appended.split_at(events.len());
    let mut others = others.iter().map(|appended| appended.base_offset);
    Ok(Placement {
        events: events
            .iter()
            .flat_map(|one| (one.base_offset.0..=one.last_offset.0).map(Offset))
            .collect(),
        batches: items.iter().map(|item| item.batch.as_ref().and_then(|_| others.next())).collect(),
        end: appended.last().map_or(Position(0), |last| last.end),
    })
}

fn number(items: &mut [Item], mut next: Offset) {
    for event in items.iter_mut().flat_map(|item| &mut item.events) {
        if let Event::Sent { half, .. } = event {
            *half = next;
            next = next.plus(1);
        }
    }
}

/// The record of a half that is sent.
fn half_of(item: &Item) -> Option<(Vec<u8>, Option<&Bytes>)> {
    let carried = item.carried.as_ref()?;
    Some((item.events.first()?.encode(), Some(carried)))
}

/// Batches of records, each of them not too large.
fn written<'a>(
    now_ms: i64,
    records: impl Iterator<Item = (Vec<u8>, Option<&'a Bytes>)>,
) -> Result<Vec<(Bytes, BatchHeader)>, AppendError> {
    let mut batches = Vec::new();
    let (mut writer, mut messages, mut records_count) =
        (BatchWriter::new(BatchSpec::default()), 0, 0);
    for (key, value) in records {
        let carried = value.map_or(0, Bytes::len);
        let is_full = messages + usize::from(value.is_some()) > MESSAGES_MAX
            || records_count == RECORDS_MAX
            || records_count > 0 && writer.size_bytes() + carried > BATCH_SIZE_BYTES_MAX;
        if is_full {
            let full = std::mem::replace(&mut writer, BatchWriter::new(BatchSpec::default()));
            batches.push(finish(full)?);
            (messages, records_count) = (0, 0);
        }
        let added = writer.append(now_ms, Some(&key), value.map(|value| &value[..]), &[]);
        added.map_err(|_| too_large(carried))?;
        messages += usize::from(value.is_some());
        records_count += 1;
    }
    if records_count > 0 {
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
