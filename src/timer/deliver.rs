//! Delivery: due messages are read, written into batches of their partitions, and appended with
//! the note that they are there, as one group.
//!
//! Between the reading and the append a message may be recalled, or the clock set back: the last
//! look is taken under the lock under which the group is appended.

use std::collections::{BTreeMap, HashMap};

use braid_protocol::records::{BatchSpec, BatchWriter, WriteError};

use super::batch::Written;
use super::event::{End, Ended};
use super::id::TimerId;
use super::message::{Message, Target};
use super::read;
use super::shared::{Destination, Shared};
use crate::model::{Position, QueueId};
use crate::partition::system;
use crate::store::{AppendError, Class};

/// Messages in one group.
const GROUP_RECORDS_MAX: usize = 1_000;
/// Groups' worth of bytes that are read before they are delivered.
const READ_GROUPS_MAX: usize = 4;

/// What became of messages that were to be delivered.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// The delivered ones are once everything below is durable.
    pub(super) end: Position,
    pub(super) count: usize,
    /// They are to be taken again: at once, or when they are due by a clock that was set back.
    pub(super) left: Vec<TimerId>,
    /// They are to be tried again after a while.
    pub(super) postponed: Vec<TimerId>,
    /// Why, of one of them.
    pub(super) why: Option<String>,
    /// The log takes nothing at the moment, whatever it is.
    pub(super) is_held_up: bool,
}

/// When a message may be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Due,
    Now,
}

type Read = (TimerId, Message);

/// The batches of a group, what they carry, and what has nowhere to go.
struct Group {
    batches: Vec<Written>,
    carried: Vec<(TimerId, End)>,
    stranded: Vec<TimerId>,
}

impl Shared {
    /// Delivers what of these messages still waits.
    pub(super) async fn deliver(&self, mut ids: Vec<TimerId>, when: When) -> Delivered {
        let mut outcome = Delivered::default();
        let scheduled_end = self.state().scheduled_end;
        // What was just scheduled can be read, and counts, once it is durable.
        if let Err(failed) = self.partitions.wait_durable(scheduled_end).await {
            outcome.postpone(ids, failed.to_string());
            return outcome;
        }
        ids.sort_unstable_by_key(|id| (id.due_ms, id.bucket, id.offset));
        let (mut rest, mut most) = (ids.as_slice(), GROUP_RECORDS_MAX);
        while !rest.is_empty() && !outcome.is_held_up {
            let (next, further) = rest.split_at_checked(most).unwrap_or((rest, &[]));
            let Some(mut read) = self.read(next, &mut outcome).await else {
                // They are large: fewer at once, so that they still go by their due times.
                most = (most / 4).max(1);
                continue;
            };
            read.sort_by_key(|(id, _)| (id.due_ms, id.bucket, id.offset));
            self.deliver_read(read, when, &mut outcome).await;
            (rest, most) = (further, (most * 2).min(GROUP_RECORDS_MAX));
        }
        outcome.left.extend(rest);
        outcome
    }

    /// Delivers messages in groups of a bounded size.
    async fn deliver_read(&self, read: Vec<Read>, when: When, outcome: &mut Delivered) {
        let mut rest = read.into_iter().peekable();
        while rest.peek().is_some() {
            let mut size_bytes = 0;
            let mut group = Vec::new();
            let most = self.limits.delivered_size_bytes_max;
            while let Some((id, message)) = rest.next_if(|(_, message)| {
                group.is_empty() || size_bytes + message.size_bytes() <= most
            }) {
                size_bytes += message.size_bytes();
                group.push((id, message));
            }
            if outcome.is_held_up {
                outcome.left.extend(group.into_iter().map(|(id, _)| id));
                continue;
            }
            self.partitions.room(size_bytes).await;
            self.deliver_group(group, when, outcome);
            // A burst takes many groups, and others have things to do.
            tokio::task::yield_now().await;
        }
    }

    /// Reads messages; none if they are too many to be held at once.
    async fn read(&self, ids: &[TimerId], outcome: &mut Delivered) -> Option<Vec<Read>> {
        let most = self.limits.delivered_size_bytes_max.saturating_mul(READ_GROUPS_MAX);
        let mut asked = ids.to_vec();
        asked.sort_unstable_by_key(|id| (id.bucket, id.offset));
        let (mut read, mut size_bytes, mut rest) = (Vec::new(), 0, asked.as_slice());
        let mut unreadable = Vec::new();
        while let [first, others @ ..] = rest {
            let before = read.len();
            match read::messages(&self.partitions, rest, &mut read).await {
                Ok(answered) => {
                    let found = read.get(before..).unwrap_or_default();
                    size_bytes += found.iter().map(|(_, it)| it.size_bytes()).sum::<usize>();
                    let (asked, further) =
                        rest.split_at_checked(answered.max(1)).unwrap_or((rest, &[]));
                    if found.len() < asked.len() {
                        let is_missing = |id: &&TimerId| !found.iter().any(|(it, _)| it == *id);
                        unreadable.extend(asked.iter().filter(is_missing));
                        outcome.why = Some("their records make no sense".to_owned());
                    }
                    rest = further;
                }
                Err(error) => {
                    unreadable.push(*first);
                    outcome.why = Some(error.to_string());
                    rest = others;
                }
            }
            if size_bytes > most && ids.len() > 1 {
                return None;
            }
        }
        outcome.postponed.extend(unreadable);
        Some(read)
    }

    fn deliver_group(&self, mut group: Vec<Read>, when: When, outcome: &mut Delivered) {
        loop {
            let now_ms = self.now_ms();
            {
                let state = self.state();
                group.retain(|(id, _)| state.table.is_waiting(*id));
            }
            if when == When::Due {
                let early = group.extract_if(.., |(id, _)| id.due_ms > now_ms);
                outcome.left.extend(early.map(|(id, _)| id));
            }
            let ids = || group.iter().map(|(id, _)| *id).collect();
            let written = match self.write(now_ms, &group) {
                Ok(written) => written,
                Err(error) => return outcome.postpone(ids(), error.to_string()),
            };
            let Group { batches, carried, stranded } = written;
            if batches.is_empty() {
                return outcome.strand(stranded);
            }
            let mut state = self.state();
            if !carried.iter().all(|(id, _)| state.table.is_waiting(*id)) {
                continue;
            }
            match self.append(&mut state, Class::Data, now_ms, &batches) {
                Ok(end) => {
                    for (id, end) in &carried {
                        state.ended(now_ms, *id, *end);
                    }
                    outcome.end = end;
                    outcome.count += carried.len();
                    outcome.strand(stranded);
                }
                Err(error) => {
                    // A topic that was deleted just now is seen to be gone next time; anything
                    // else holds for all messages.
                    outcome.is_held_up = !matches!(error, AppendError::UnknownQueue(_));
                    outcome.postpone(ids(), error.to_string());
                }
            }
            return;
        }
    }

    /// Writes the batches of a group: one for each queue that gets messages, and the ends of each
    /// bucket they come from.
    fn write(&self, now_ms: i64, group: &[Read]) -> Result<Group, WriteError> {
        let mut resolved: HashMap<Target, Option<Destination>> = HashMap::new();
        let mut writers: BTreeMap<QueueId, BatchWriter> = BTreeMap::new();
        let (mut carried, mut stranded) = (Vec::new(), Vec::new());
        for (id, message) in group {
            let target = message.target;
            let known = resolved.entry(target).or_insert_with(|| self.destinations.resolve(target));
            let (destination, end) = match known {
                Some(destination) => (Some(*destination), End::Delivered),
                None => (self.destinations.discard(), End::Discarded),
            };
            let Some(Destination { queue, log_append_time }) = destination else {
                stranded.push(*id);
                continue;
            };
            let log_append_time_ms = log_append_time.then_some(now_ms);
            let spec = BatchSpec { log_append_time_ms, ..BatchSpec::default() };
            let writer = writers.entry(queue).or_insert_with(|| BatchWriter::new(spec));
            let partition = target.partition.to_string();
            let origin = [
                (REAL_TOPIC, Some(message.topic_name.as_bytes())),
                (REAL_QID, Some(partition.as_bytes())),
            ];
            let origin = if end == End::Discarded { &origin[..] } else { &[] };
            message.deliver(now_ms, origin, writer)?;
            carried.push((*id, end));
        }
        let mut batches = Vec::new();
        for (queue, writer) in writers {
            batches.push(Written::of(queue, writer)?);
        }
        batches.extend(ends(now_ms, &carried)?);
        Ok(Group { batches, carried, stranded })
    }
}

/// The headers of a discarded message that say where it was for (RocketMQ's names for that).
const REAL_TOPIC: &[u8] = b"REAL_TOPIC";
const REAL_QID: &[u8] = b"REAL_QID";

/// The batches that say what became of messages, one for each bucket.
pub(super) fn ends(now_ms: i64, carried: &[(TimerId, End)]) -> Result<Vec<Written>, WriteError> {
    let mut buckets: BTreeMap<u32, Vec<(End, Vec<u32>)>> = BTreeMap::new();
    for (id, end) in carried {
        let of_bucket = buckets.entry(id.bucket).or_default();
        match of_bucket.iter_mut().find(|(of, _)| of == end) {
            Some((_, offsets)) => offsets.push(id.offset),
            None => of_bucket.push((*end, vec![id.offset])),
        }
    }
    let mut batches = Vec::new();
    for (bucket, ended) in buckets {
        let keys = ended.into_iter().map(|(end, mut offsets)| {
            offsets.sort_unstable();
            Ended { end, offsets }.encode()
        });
        batches.push(Written::of_keys(system::timer_ends(bucket), now_ms, keys)?);
    }
    Ok(batches)
}

impl Delivered {
    fn postpone(&mut self, ids: Vec<TimerId>, why: String) {
        if !ids.is_empty() {
            self.postponed.extend(ids);
            self.why = Some(why);
        }
    }

    fn strand(&mut self, ids: Vec<TimerId>) {
        self.postpone(
            ids,
            "their topic is gone, and the discard topic is not there yet".to_owned(),
        );
    }
}
