//! Messages that appear when they are due: sent to topics of the type DELAY, looked at, taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use braid_protocol::records::BatchHeader;
use braid_raft::image::TopicImage;

use super::Native;
use super::ids::{At, Entry, Place, batch as batch_of_ids};
use super::message::{Due, Header, Message};
use super::send::{Placed, SendError, Sent};
use super::topic::NoTopic;
use crate::model::{Offset, Position};
use crate::partition::TopicSettings;
use crate::partition::system::{MESSAGE_IDS, bucket_of, timer_bucket};
use crate::store::Part;
use crate::timer::{self, Cursor, NewTimer, NoTimerId, Page, Target, TimerError, TimerId};

/// A message that waits, or what became of it.
#[derive(Debug)]
pub(crate) struct Scheduled {
    pub(crate) id: TimerId,
    pub(crate) state: timer::TimerState,
    pub(crate) due_ms: i64,
    /// Its offset is not known before it is delivered.
    pub(crate) message: Message,
}

/// Which messages that wait are listed.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) topic: Option<String>,
    pub(crate) from_ms: Option<i64>,
    pub(crate) to_ms: Option<i64>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

/// Why a scheduled message is not shown, or nothing was done with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimersError {
    #[error(transparent)]
    Topic(#[from] NoTopic),
    #[error(transparent)]
    NoId(#[from] NoTimerId),
    #[error(transparent)]
    Engine(#[from] TimerError),
}

fn shown(id: TimerId, state: timer::TimerState, message: timer::Message) -> Scheduled {
    let header = |(name, value): (Vec<u8>, Option<Vec<u8>>)| -> Header {
        (String::from_utf8_lossy(&name).into_owned(), value.map(Into::into))
    };
    Scheduled {
        id,
        state,
        due_ms: message.due_ms,
        message: Message {
            topic: Arc::from(message.topic_name),
            partition: message.target.partition,
            offset: -1,
            timestamp_ms: message.born_ms,
            key: message.key.map(Into::into),
            payload: message.value.map(Into::into),
            headers: message.headers.into_iter().map(header).collect(),
        },
    }
}

impl Native {
    /// Schedules messages of a topic of the type DELAY: all of them, but for those that were
    /// scheduled before under the ids of their sender. On return they are on disk.
    pub(super) async fn schedule(
        &self,
        topic: &TopicImage,
        settings: &TopicSettings,
        placed: &[Placed],
    ) -> Result<Vec<Sent>, SendError> {
        let max = settings.limits.size_bytes_max;
        for one in placed {
            let size = one.size_bytes();
            if size > max {
                return Err(SendError::Large { index: one.index, size, max });
            }
            if settings.limits.require_keys && one.message.key.is_none() {
                return Err(SendError::NoKey { index: one.index });
            }
        }
        let with_ids = self.ids.remembers() && placed.iter().any(|p| p.fingerprint.is_some());
        if with_ids {
            self.ids.loaded().await?;
        }
        self.partitions.room(placed.iter().map(|one| 2 * one.size_bytes()).sum()).await;
        let (known, scheduled, end) = self.schedule_once(topic, placed)?;
        self.partitions.wait_durable(end).await?;
        let mut sent = Vec::with_capacity(placed.len());
        for (index, one) in placed.iter().enumerate() {
            let timer = match known.get(&index) {
                Some(place) => self.timer_of(place, &one.message_id).await,
                None => scheduled.get(&index).copied(),
            };
            sent.push(Sent {
                topic: Arc::clone(&topic.name),
                partition: one.partition,
                offset: None,
                timer,
                message_id: one.message_id.clone(),
                duplicate: known.contains_key(&index),
            });
        }
        Ok(sent)
    }

    /// The handle of a message that was scheduled under an id, as long as its bucket lives.
    pub(super) async fn timer_of(&self, place: &Place, message_id: &str) -> Option<TimerId> {
        let from = match place.at {
            At::Timer(id) => return Some(id),
            At::Offset(_) => return None,
            At::From(from) => from,
        };
        let bucket = bucket_of(place.queue)?;
        let found = self.find_id(place.queue, from, message_id).await;
        let offset = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the scheduled message of an id cannot be read");
            None
        })?;
        self.timers.handle_at(bucket, u32::try_from(offset).ok()?).await.ok()
    }

    /// The step that must not be parted: look the ids up, schedule the others, enter their ids.
    #[expect(clippy::type_complexity, reason = "what was known, what is new, and when it is true")]
    fn schedule_once(
        &self,
        topic: &TopicImage,
        placed: &[Placed],
    ) -> Result<(BTreeMap<usize, Place>, BTreeMap<usize, TimerId>, Position), SendError> {
        let now_ms = self.env.clock.wall_ms();
        let mut table = self.ids.lock();
        let release = self.ids.forget_old(&mut table, now_ms);
        let known: BTreeMap<usize, Place> = placed
            .iter()
            .enumerate()
            .filter_map(|(index, p)| Some((index, table.get(p.fingerprint?)?)))
            .collect();
        let fresh: Vec<(usize, &Placed)> =
            placed.iter().enumerate().filter(|(index, _)| !known.contains_key(index)).collect();
        let headers: Vec<Vec<Header>> =
            fresh.iter().map(|(_, one)| one.message.all_headers(&one.message_id)).collect();
        let timers: Vec<NewTimer<'_>> = fresh
            .iter()
            .zip(&headers)
            .map(|((_, one), headers)| new_timer(topic, one, headers, now_ms))
            .collect();
        let mut entries = Vec::new();
        let mut entered = Vec::new();
        for ((index, one), timer) in fresh.iter().zip(&timers) {
            if let Some(id) = one.fingerprint.filter(|_| self.ids.remembers()) {
                let queue = timer_bucket(self.timers.bucket_for(now_ms, timer.due_ms));
                let from = self.partitions.offsets(queue).next;
                entries.push(Entry { id, queue, from });
                entered.push((*index, id, queue));
            }
        }
        let mut end = known.values().map(|place| place.end).max().unwrap_or_default();
        let mut scheduled = BTreeMap::new();
        if !timers.is_empty() {
            let ids = batch_of_ids(now_ms, &entries)?;
            let header = BatchHeader::parse(&ids).ok().filter(|_| !entries.is_empty());
            let part =
                header.as_ref().map(|header| Part { queue: MESSAGE_IDS, batch: &ids, header });
            // Whoever appends there holds the table.
            let first = self.partitions.offsets(MESSAGE_IDS).next;
            let beside: Vec<Part<'_>> = part.into_iter().collect();
            let appended =
                self.timers.append(now_ms, &beside, &timers).map_err(SendError::Schedule)?;
            end = end.max(appended.end);
            scheduled.extend(fresh.iter().map(|(index, _)| *index).zip(appended.ids));
            for ((index, id, queue), record) in entered.into_iter().zip(0..) {
                let Some(timer) = scheduled.get(&index) else { continue };
                let place = Place { queue, at: At::Timer(*timer), end };
                table.enter(now_ms, Offset(first.0 + record), id, place);
            }
        }
        drop(table);
        self.ids.release(release, &self.partitions);
        Ok((known, scheduled, end))
    }

    /// A scheduled message and what became of it.
    pub(crate) async fn timer(&self, id: &str) -> Result<Scheduled, TimersError> {
        let timer = self.timers.get(id.parse()?).await?;
        Ok(shown(timer.id, timer.state, timer.message))
    }

    /// Messages that wait, by the time they are due, about.
    pub(crate) async fn scheduled(
        &self,
        listing: Listing,
    ) -> Result<(Vec<Scheduled>, Option<Cursor>), TimersError> {
        let topic = match &listing.topic {
            Some(name) => Some(self.topic(name)?.id),
            None => None,
        };
        let page = Page {
            topic,
            from_ms: listing.from_ms.unwrap_or(0),
            to_ms: listing.to_ms.unwrap_or(i64::MAX),
            most: listing.limit,
            after: listing.after,
        };
        let listed = self.timers.list(page).await?;
        let waits = |(id, message)| shown(id, timer::TimerState::Waits, message);
        Ok((listed.messages.into_iter().map(waits).collect(), listed.next))
    }

    /// Takes a message back, which then is never delivered; `false` if that was done before.
    pub(crate) async fn recall_timer(&self, id: &str) -> Result<bool, TimersError> {
        Ok(self.timers.recall(id.parse()?).await? == timer::Recalled::Now)
    }

    /// Delivers a message now.
    pub(crate) async fn deliver_timer(&self, id: &str) -> Result<(), TimersError> {
        Ok(self.timers.deliver_now(id.parse()?).await?)
    }
}

fn new_timer<'a>(
    topic: &'a TopicImage,
    one: &'a Placed,
    headers: &'a [Header],
    now_ms: i64,
) -> NewTimer<'a> {
    let due_ms = match one.message.due {
        Some(Due::At(at)) => at,
        Some(Due::After(after)) => now_ms.saturating_add(after),
        // The topic's type asks for one.
        None => now_ms,
    };
    NewTimer {
        due_ms,
        target: Target { topic: topic.id, partition: one.partition },
        topic_name: &topic.name,
        born_ms: one.message.timestamp_ms.unwrap_or(now_ms),
        key: one.message.key.as_deref(),
        value: one.message.payload.as_deref(),
        headers: headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref())).collect(),
    }
}
