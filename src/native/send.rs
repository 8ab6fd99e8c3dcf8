//! Sending: messages of one request are appended together, all or none, and acknowledged when they
//! are on disk.
//!
//! A message with an id of its sender's is written once ([`super::ids`]): when it comes again, the
//! answer names the place of the first.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use braid_protocol::records::{
    BatchHeader, BatchSpec, BatchWriter, ConformError, Conformed, WriteError, conform,
};
use braid_raft::image::TopicImage;
use bytes::Bytes;

use super::Native;
use super::ids::{At, Entry, Fingerprint, IdsUnreadable, Place, batch as batch_of_ids};
use super::message::{InvalidMessage, NewMessage, Way};
use super::topic::NoTopic;
use crate::config::{MessageType, is_internal_topic};
use crate::model::{Offset, Position, QueueId};
use crate::partition::system::{MESSAGE_IDS, bucket_of};
use crate::partition::{FetchError, TopicSettings};
use crate::store::{AppendError, Appended, Class, LogFailed, Part};
use crate::timer::{ScheduleError, TimerId};

/// Most messages of one request.
const MESSAGES_MAX: usize = 10_000;
/// Bytes that a record takes beside its key, its value and its headers' texts, at most.
const RECORD_OVERHEAD_BYTES: usize = 64;
/// Bytes that a header takes beside its texts, at most.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// A message that is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    /// None: it is not in its topic yet; or it was sent before, and its place is no longer known.
    pub(crate) offset: Option<i64>,
    /// The handle of a message that is not due yet.
    pub(crate) timer: Option<TimerId>,
    pub(crate) message_id: String,
    /// It was sent before under this id and not written again.
    pub(crate) duplicate: bool,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    UnknownTopic(#[from] NoTopic),
    #[error("topic {0} is the broker's own")]
    Internal(String),
    #[error("messages[{index}]: it has about {size} bytes; the topic takes {max}")]
    Large { index: usize, size: usize, max: usize },
    #[error("messages[{index}]: the topic is compacted, so that a message needs a key")]
    NoKey { index: usize },
    #[error(transparent)]
    Schedule(ScheduleError),
    #[error("{0} messages are given; a request holds 1 to {MESSAGES_MAX}")]
    Count(usize),
    #[error("messages[{index}]: {error}")]
    Message { index: usize, error: InvalidMessage },
    #[error("messages[{index}]: topic {topic} has no partition {partition}")]
    Partition { index: usize, topic: String, partition: i32 },
    #[error("messages[{index}]: a message of partition {partition} cannot be stored: {error}")]
    Batch { index: usize, partition: i32, error: ConformError },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Ids(#[from] IdsUnreadable),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Failed(#[from] LogFailed),
}

/// A message with everything decided but its offset.
#[derive(Debug)]
pub(super) struct Placed {
    /// Its place in the request.
    pub(super) index: usize,
    pub(super) partition: i32,
    pub(super) queue: QueueId,
    pub(super) message_id: String,
    /// If the sender gave the id.
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) message: NewMessage,
}

impl Placed {
    pub(super) fn size_bytes(&self) -> usize {
        let message = &self.message;
        // Its own headers, those of the properties, and what frames them.
        let headers = (message.headers.len() + 4) * (HEADER_OVERHEAD_BYTES + 14);
        message.texts_size_bytes() + self.message_id.len() + headers + RECORD_OVERHEAD_BYTES
    }
}

/// The offset of each message, by its index.
type Offsets = BTreeMap<usize, Offset>;

/// A batch that is ready to be appended, and the messages in it.
struct Ready<'a> {
    queue: QueueId,
    conformed: Conformed<'a>,
    /// Indexes into the placed messages.
    messages: Vec<usize>,
}

impl Native {
    /// Sends messages to a topic. On return they are on disk.
    pub(crate) async fn send(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Sent>, SendError> {
        let topic = self.own_topic(topic)?;
        if is_internal_topic(&topic.name) {
            return Err(SendError::Internal(topic.name.to_string()));
        }
        if !(1..=MESSAGES_MAX).contains(&messages.len()) {
            return Err(SendError::Count(messages.len()));
        }
        let settings = self.topic_settings.of(&topic);
        let placed = self.place(&topic, &settings, messages)?;
        if settings.config.message_type == MessageType::Delay {
            return self.schedule(&topic, &settings, &placed).await;
        }
        let with_ids = self.ids.remembers() && placed.iter().any(|p| p.fingerprint.is_some());
        let (sent, end) = if with_ids {
            self.ids.loaded().await?;
            self.append_once(&topic, &settings, &placed).await?
        } else {
            let ready = batches(&placed, &BTreeSet::new(), &settings, self.env.clock.wall_ms())?;
            self.partitions.room(ready.iter().map(|r| r.conformed.batch.len()).sum()).await;
            let appended = self.append(&ready, None)?;
            let offsets = offsets_of(&ready, &appended);
            (self.answers(&topic, &placed, &offsets), end_of(&appended))
        };
        self.partitions.wait_durable(end).await?;
        Ok(sent)
    }

    /// Checks the messages and chooses their partitions.
    fn place(
        &self,
        topic: &TopicImage,
        settings: &TopicSettings,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Placed>, SendError> {
        let count = topic.partitions.len();
        // The messages of a request that nothing places stay together.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut ids = HashSet::new();
        let mut placed = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            let refused = |error| SendError::Message { index, error };
            message.check(settings.config.message_type, Way::Plain).map_err(refused)?;
            if let Some(id) = &message.message_id
                && !ids.insert(id.clone())
            {
                return Err(refused(InvalidMessage::IdTwice(id.clone())));
            }
            let partition = message.partition_among(count, turn);
            let Some(found) = topic.partition(partition) else {
                let topic = topic.name.to_string();
                return Err(SendError::Partition { index, topic, partition });
            };
            let fingerprint = message.message_id.as_deref().map(|id| Fingerprint::of(topic.id, id));
            let message_id = match &message.message_id {
                Some(id) => id.clone(),
                // The length and the first digits of RocketMQ's ids.
                None => format!("01{:032x}", self.env.rng.next_uuid().as_u128()),
            };
            let queue = found.queue;
            placed.push(Placed { index, partition, queue, message_id, fingerprint, message });
        }
        Ok(placed)
    }

    /// Appends those of the messages whose ids are new, and enters the ids, in one group.
    async fn append_once(
        &self,
        topic: &TopicImage,
        settings: &TopicSettings,
        placed: &[Placed],
    ) -> Result<(Vec<Sent>, Position), SendError> {
        let mut known: BTreeMap<usize, Place> = BTreeMap::new();
        loop {
            let now_ms = self.env.clock.wall_ms();
            let left_out: BTreeSet<usize> = known.keys().copied().collect();
            let ready = batches(placed, &left_out, settings, now_ms)?;
            let size: usize = ready.iter().map(|r| r.conformed.batch.len()).sum();
            self.partitions.room(size + placed.len() * RECORD_OVERHEAD_BYTES * 2).await;
            let step = self.step_once(now_ms, placed, &ready, known.len());
            let (found, written) = step?;
            if let Some(written) = written {
                return Ok(self.answers_with(topic, placed, written, &found).await);
            }
            known = found;
        }
    }

    /// Looks up the ids, and if as many are known as are left out, appends the others.
    #[expect(clippy::type_complexity, reason = "what is known, and what was written")]
    fn step_once(
        &self,
        now_ms: i64,
        placed: &[Placed],
        ready: &[Ready<'_>],
        left_out: usize,
    ) -> Result<(BTreeMap<usize, Place>, Option<(Offsets, Position)>), SendError> {
        let mut table = self.ids.lock();
        let release = self.ids.forget_old(&mut table, now_ms);
        let found: BTreeMap<usize, Place> = placed
            .iter()
            .enumerate()
            .filter_map(|(index, p)| Some((index, table.get(p.fingerprint?)?)))
            .collect();
        let written = if found.len() == left_out {
            Some(self.append_and_enter(&mut table, now_ms, placed, ready)?)
        } else {
            None
        };
        drop(table);
        self.ids.release(release, &self.partitions);
        Ok((found, written))
    }

    /// The step that must not be parted: append, then enter what was appended.
    fn append_and_enter(
        &self,
        table: &mut super::ids::Table,
        now_ms: i64,
        placed: &[Placed],
        ready: &[Ready<'_>],
    ) -> Result<(Offsets, Position), SendError> {
        if ready.is_empty() {
            return Ok((Offsets::new(), Position(0)));
        }
        let mut entered = Vec::new();
        let mut entries = Vec::new();
        for index in ready.iter().flat_map(|ready| &ready.messages) {
            let Some((placed, id)) = placed.get(*index).and_then(|p| Some((p, p.fingerprint?)))
            else {
                continue;
            };
            let from = self.partitions.offsets(placed.queue).next;
            entries.push(Entry { id, queue: placed.queue, from });
            entered.push((*index, id, placed.queue));
        }
        let ids = batch_of_ids(now_ms, &entries)?;
        let appended = self.append(ready, Some(&ids).filter(|_| !entries.is_empty()))?;
        let offsets = offsets_of(ready, &appended);
        let end = end_of(&appended);
        if let Some(of_ids) = appended.last().filter(|_| !entries.is_empty()) {
            for ((index, id, queue), record) in entered.into_iter().zip(0..) {
                let Some(offset) = offsets.get(&index).copied() else { continue };
                let place = Place { queue, at: At::Offset(offset), end };
                table.enter(now_ms, of_ids.base_offset.plus(record), id, place);
            }
        }
        Ok((offsets, end))
    }

    fn append(
        &self,
        ready: &[Ready<'_>],
        ids: Option<&Bytes>,
    ) -> Result<Vec<Appended>, AppendError> {
        let mut parts: Vec<Part<'_>> = ready
            .iter()
            .map(|r| Part {
                queue: r.queue,
                batch: &r.conformed.batch,
                header: &r.conformed.header,
            })
            .collect();
        let header = ids.and_then(|ids| BatchHeader::parse(ids).ok());
        if let (Some(batch), Some(header)) = (ids, &header) {
            parts.push(Part { queue: MESSAGE_IDS, batch, header });
        }
        let now_ms = self.env.clock.wall_ms();
        self.partitions.append_all(now_ms, Class::Data, &parts)
    }

    fn answers(&self, topic: &TopicImage, placed: &[Placed], offsets: &Offsets) -> Vec<Sent> {
        placed
            .iter()
            .enumerate()
            .map(|(index, placed)| Sent {
                topic: Arc::clone(&topic.name),
                partition: placed.partition,
                offset: offsets.get(&index).map(|offset| offset.0),
                timer: None,
                message_id: placed.message_id.clone(),
                duplicate: false,
            })
            .collect()
    }

    async fn answers_with(
        &self,
        topic: &TopicImage,
        placed: &[Placed],
        (offsets, mut end): (Offsets, Position),
        known: &BTreeMap<usize, Place>,
    ) -> (Vec<Sent>, Position) {
        let mut sent = self.answers(topic, placed, &offsets);
        for (index, place) in known {
            let (Some(sent), Some(placed)) = (sent.get_mut(*index), placed.get(*index)) else {
                continue;
            };
            end = end.max(place.end);
            sent.duplicate = true;
            let number = topic.partitions.iter().position(|p| p.queue == place.queue);
            sent.partition = number.and_then(|n| i32::try_from(n).ok()).unwrap_or(-1);
            sent.offset = match place.at {
                At::Offset(offset) => Some(offset.0),
                // The topic's type was changed since.
                At::Timer(id) => {
                    sent.timer = Some(id);
                    None
                }
                // The same, before the start.
                At::From(_) if bucket_of(place.queue).is_some() => {
                    sent.timer = self.timer_of(place, &placed.message_id).await;
                    None
                }
                At::From(from) => {
                    let found = self.find_id(place.queue, from, &placed.message_id).await;
                    found.unwrap_or_else(|error: FetchError| {
                        tracing::warn!(%error, "the first message of an id cannot be read");
                        None
                    })
                }
            };
        }
        (sent, end)
    }
}

fn end_of(appended: &[Appended]) -> Position {
    appended.iter().map(|one| one.end).max().unwrap_or_default()
}

/// The offset of each message, by its index.
fn offsets_of(ready: &[Ready<'_>], appended: &[Appended]) -> Offsets {
    let of_batch = |(ready, appended): (&Ready<'_>, &Appended)| {
        let base = appended.base_offset;
        ready
            .messages
            .iter()
            .zip(0..)
            .map(move |(index, n)| (*index, base.plus(n)))
            .collect::<Vec<_>>()
    };
    ready.iter().zip(appended).flat_map(of_batch).collect()
}

/// Batches of the messages but those left out, by partition and in the order of the request.
fn batches(
    placed: &[Placed],
    left_out: &BTreeSet<usize>,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Vec<Ready<'static>>, SendError> {
    let size_max = settings.limits.size_bytes_max;
    let mut by_partition: BTreeMap<i32, Vec<Vec<usize>>> = BTreeMap::new();
    let mut sizes: BTreeMap<i32, usize> = BTreeMap::new();
    for (index, one) in placed.iter().enumerate() {
        if left_out.contains(&index) {
            continue;
        }
        let runs = by_partition.entry(one.partition).or_default();
        let size = sizes.entry(one.partition).or_default();
        *size += one.size_bytes();
        match runs.last_mut() {
            Some(run) if *size + BatchHeader::SIZE_BYTES <= size_max => run.push(index),
            _ => {
                runs.push(vec![index]);
                *size = one.size_bytes();
            }
        }
    }
    let runs = by_partition.into_values().flatten();
    runs.map(|run| batch(placed, run, settings, now_ms)).collect()
}

fn batch(
    placed: &[Placed],
    messages: Vec<usize>,
    settings: &TopicSettings,
    now_ms: i64,
) -> Result<Ready<'static>, SendError> {
    let mut writer = BatchWriter::new(BatchSpec::default());
    let mut first = None;
    for one in messages.iter().filter_map(|index| placed.get(*index)) {
        first.get_or_insert(one);
        let headers = one.message.all_headers(&one.message_id);
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect();
        let timestamp_ms = one.message.timestamp_ms.unwrap_or(now_ms);
        let (key, payload) = (one.message.key.as_deref(), one.message.payload.as_deref());
        writer.append(timestamp_ms, key, payload, &headers)?;
    }
    let Some(first) = first else { unreachable!("a run has a message") };
    let bytes = writer.finish()?;
    let conformed = conform(&bytes, &settings.limits, settings.codec, now_ms).map_err(|error| {
        SendError::Batch { index: first.index, partition: first.partition, error }
    })?;
    let conformed =
        Conformed { batch: Cow::Owned(conformed.batch.into_owned()), header: conformed.header };
    Ok(Ready { queue: first.queue, conformed, messages })
}
