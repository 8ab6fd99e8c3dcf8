//! Reading messages to look at them: by place, by key, by time. Moves no group.
//!
//! A call reads a bounded number of bytes; where it stopped it says in the cursor. Batches are
//! unpacked on the pool of blocking threads.

use std::sync::Arc;

use braid_protocol::records::{Batches, ReadError as BatchError, RecordReader};
use braid_raft::image::TopicImage;
use bytes::Bytes;

use super::Native;
use super::message::Message;
use super::property;
use super::topic::NoTopic;
use crate::model::{Offset, QueueId};
use crate::partition::{FetchError, LookupError, Void};
use crate::store::ReadError;

/// Bytes of stored batches that one page is made from.
const PAGE_SIZE_BYTES: usize = 1 << 20;
/// Bytes of stored batches that one search looks through.
const SEARCH_SIZE_BYTES: usize = 16 << 20;
/// Largest content of a batch that is unpacked.
const CONTENT_SIZE_BYTES_MAX: usize = 256 << 20;

/// Messages, and where the next page begins.
#[derive(Debug)]
pub(crate) struct Page<C> {
    pub(crate) messages: Vec<Message>,
    /// None: the end was reached.
    pub(crate) next: Option<C>,
}

/// Where a search goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// What is looked for in a topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Search {
    /// The key, the id, or one of the KEYS.
    pub(crate) word: Option<String>,
    /// From this time on.
    pub(crate) from_ms: Option<i64>,
    /// Before this time.
    pub(crate) to_ms: Option<i64>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: usize,
}

/// Why messages cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrowseError {
    #[error(transparent)]
    UnknownTopic(#[from] NoTopic),
    #[error("topic {topic} has no partition {partition}")]
    Partition { topic: String, partition: i32 },
    #[error("offset {asked} is outside {start} to {end}")]
    OutOfRange { asked: i64, start: i64, end: i64 },
    #[error(transparent)]
    Fetch(FetchError),
    #[error(transparent)]
    Lookup(LookupError),
    #[error("a stored batch cannot be read: {0}")]
    Batch(#[from] BatchError),
}

impl From<FetchError> for BrowseError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Read(ReadError::OutOfRange { asked, log_start, high_watermark }) => {
                let (asked, start, end) = (asked.0, log_start.0, high_watermark.0);
                Self::OutOfRange { asked, start, end }
            }
            other @ (FetchError::Read(
                ReadError::UnknownQueue(_) | ReadError::Damaged(_) | ReadError::Io(_),
            )
            | FetchError::Pool(_)) => Self::Fetch(other),
        }
    }
}

/// Records of a run of batches that pass a filter.
struct Scanned {
    messages: Vec<Message>,
    /// Behind the last record that was looked at.
    next: Offset,
    size_bytes: usize,
}

impl Native {
    /// Messages of a partition from an offset on, or from the first.
    pub(crate) async fn browse(
        &self,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
        limit: usize,
    ) -> Result<Page<i64>, BrowseError> {
        let topic = self.own_topic(topic)?;
        let queue = queue_of(&topic, partition)?;
        let from = offset.map_or(self.partitions.offsets(queue).log_start, Offset);
        let mut messages = Vec::new();
        let mut next = from;
        let mut size = 0;
        loop {
            let wanted = limit - messages.len();
            let found = self.scan(&topic, (partition, queue), next, wanted, |_| true).await?;
            next = found.next;
            size += found.size_bytes;
            messages.extend(found.messages);
            let at_end = next >= self.partitions.last_stable(queue);
            if at_end || messages.len() >= limit || size >= PAGE_SIZE_BYTES {
                return Ok(Page { messages, next: (!at_end).then_some(next.0) });
            }
        }
    }

    /// Messages of a topic that fit, partition after partition.
    pub(crate) async fn search(
        &self,
        topic: &str,
        search: Search,
    ) -> Result<Page<Cursor>, BrowseError> {
        let topic = self.own_topic(topic)?;
        let mut messages = Vec::new();
        let mut size = 0;
        let first = search.after.map_or(0, |after| after.partition);
        queue_of(&topic, first)?;
        for partition in first..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) {
            let queue = queue_of(&topic, partition)?;
            let mut next = match search.after.filter(|after| after.partition == partition) {
                // What was there may be gone by now.
                Some(after) => Offset(after.offset).max(self.partitions.offsets(queue).log_start),
                None => self.first_at(queue, search.from_ms).await?,
            };
            while next < self.partitions.last_stable(queue) {
                if messages.len() >= search.limit || size >= SEARCH_SIZE_BYTES {
                    let next = Some(Cursor { partition, offset: next.0 });
                    return Ok(Page { messages, next });
                }
                let (word, from, to) = (search.word.clone(), search.from_ms, search.to_ms);
                let fits = move |message: &Message| {
                    from.is_none_or(|from| message.timestamp_ms >= from)
                        && to.is_none_or(|to| message.timestamp_ms < to)
                        && word.as_deref().is_none_or(|word| message.is_found_by(word))
                };
                let wanted = search.limit - messages.len();
                let found = self.scan(&topic, (partition, queue), next, wanted, fits).await?;
                next = found.next;
                size += found.size_bytes;
                messages.extend(found.messages);
            }
        }
        Ok(Page { messages, next: None })
    }

    /// Where to begin to look for messages of a time.
    async fn first_at(&self, queue: QueueId, from_ms: Option<i64>) -> Result<Offset, BrowseError> {
        let marks = self.partitions.offsets(queue);
        let Some(from_ms) = from_ms else { return Ok(marks.log_start) };
        let found = self.partitions.at_or_after(queue, from_ms).await;
        let found = found.map_err(BrowseError::Lookup)?;
        Ok(if found.offset < 0 { marks.high_watermark } else { Offset(found.offset) })
    }

    /// Looks at records from `from` on, until `wanted` fit or what was read is over.
    async fn scan(
        &self,
        topic: &Arc<TopicImage>,
        (partition, queue): (i32, QueueId),
        from: Offset,
        wanted: usize,
        fits: impl Fn(&Message) -> bool + Send + 'static,
    ) -> Result<Scanned, BrowseError> {
        let end = self.partitions.last_stable(queue);
        // Before the read: what is void is forgotten when its records are taken out.
        let void = self.partitions.void(queue, from..end);
        let read = self.partitions.read_below(queue, from, end, PAGE_SIZE_BYTES, true);
        let fetched = read.await?;
        let name = Arc::clone(&topic.name);
        let look = move || {
            let bytes = Bytes::from(fetched.batches.concat());
            unpack(&name, partition, bytes, &void, (from, end), wanted, fits)
        };
        let looked = self.env.spawner.blocking(look).await;
        Ok(looked.map_err(FetchError::Pool)??)
    }

    /// The offset of the message of an id, from `from` on, as far as one search looks.
    pub(crate) async fn find_id(
        &self,
        queue: QueueId,
        from: Offset,
        id: &str,
    ) -> Result<Option<i64>, FetchError> {
        let name: Arc<str> = Arc::from("");
        let mut next = from.max(self.partitions.offsets(queue).log_start);
        let mut size = 0;
        while size < SEARCH_SIZE_BYTES && next < self.partitions.last_stable(queue) {
            let end = self.partitions.last_stable(queue);
            let read = self.partitions.read_below(queue, next, end, PAGE_SIZE_BYTES, true);
            let fetched = read.await?;
            let void = self.partitions.void(queue, next..end);
            let (name, id) = (Arc::clone(&name), id.to_owned());
            let look = move || {
                let bytes = Bytes::from(fetched.batches.concat());
                let is_it =
                    move |m: &Message| m.property(property::MESSAGE_ID) == Some(id.as_str());
                unpack(&name, 0, bytes, &void, (next, end), 1, is_it)
            };
            let looked = self.env.spawner.blocking(look).await.map_err(FetchError::Pool)?;
            let Ok(found) = looked else { return Ok(None) };
            if let Some(message) = found.messages.first() {
                return Ok(Some(message.offset));
            }
            (next, size) = (found.next, size + found.size_bytes);
        }
        Ok(None)
    }
}

fn queue_of(topic: &TopicImage, partition: i32) -> Result<QueueId, BrowseError> {
    let unknown = || BrowseError::Partition { topic: topic.name.to_string(), partition };
    topic.partition(partition).map(|found| found.queue).ok_or_else(unknown)
}

/// The records of whole batches that lie in a range and fit, up to `wanted`.
fn unpack(
    topic: &Arc<str>,
    partition: i32,
    bytes: Bytes,
    void: &Void,
    (from, end): (Offset, Offset),
    wanted: usize,
    fits: impl Fn(&Message) -> bool,
) -> Result<Scanned, BatchError> {
    let size_bytes = bytes.len();
    let mut messages = Vec::new();
    // Nothing read is the end; otherwise every batch moves it on.
    let mut next = if bytes.is_empty() { end.max(from) } else { from };
    for batch in Batches::new(bytes) {
        let (header, batch) = batch?;
        if !void.hides(&header) {
            let reader = RecordReader::open(&batch, CONTENT_SIZE_BYTES_MAX)?;
            for record in reader.records() {
                let record = record?;
                if record.offset < from.0 {
                    continue;
                }
                if messages.len() >= wanted {
                    return Ok(Scanned { messages, next, size_bytes });
                }
                let message = Message::of(topic, partition, &record);
                next = Offset(message.offset + 1);
                if fits(&message) {
                    messages.push(message);
                }
            }
        }
        next = next.max(Offset(header.next_offset()));
    }
    Ok(Scanned { messages, next, size_bytes })
}
