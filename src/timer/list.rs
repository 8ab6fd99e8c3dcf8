//! Listing scheduled messages: page by page, straight from the log, so that far ones need no memory.

use std::str::FromStr;

use super::error::TimerError;
use super::id::{NoTimerId, TimerId};
use super::message::Message;
use super::read;
use super::shared::Shared;
use super::table::Status;
use crate::model::TopicId;
use crate::partition::system;

/// Records looked at for one page.
const LOOKED_AT_MAX: usize = 20_000;

/// What to list: messages that wait, of a topic if one is named, due in a half-open range.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    pub(crate) topic: Option<TopicId>,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) most: usize,
    /// Where the page before ended.
    pub(crate) after: Option<Cursor>,
}

/// Where a page ended. Prints as opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    bucket: u32,
    offset: u32,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        TimerId { bucket: self.bucket, offset: self.offset, due_ms: 0 }.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = NoTimerId;

    fn from_str(text: &str) -> Result<Self, NoTimerId> {
        let TimerId { bucket, offset, due_ms } = text.parse()?;
        if due_ms == 0 { Ok(Self { bucket, offset }) } else { Err(NoTimerId) }
    }
}

/// A page: ascending by the ten minutes that messages are due in, within them as they came.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) messages: Vec<(TimerId, Message)>,
    /// Where the next page begins, if there may be more. A page may be empty and not be the last.
    pub(crate) next: Option<Cursor>,
}

impl Shared {
    pub(super) async fn list(&self, page: Page) -> Result<Listed, TimerError> {
        let start = page
            .after
            .unwrap_or(Cursor { bucket: super::table::bucket_of(page.from_ms), offset: 0 });
        let buckets: Vec<u32> = {
            let table = &self.state().table;
            let last = table.last_bucket_of(page.to_ms.saturating_sub(1));
            table.buckets(start.bucket, last).collect()
        };
        let mut listed = Listed { messages: Vec::new(), next: None };
        let mut looked_at = 0;
        for bucket in buckets {
            let from = if bucket == start.bucket { i64::from(start.offset) } else { 0 };
            let queue = system::timer_bucket(bucket);
            let behind = self.partitions.offsets(queue).high_watermark.0;
            let mut found = Vec::new();
            let mut stopped = None;
            let room = page.most.saturating_sub(listed.messages.len());
            read::records(&self.partitions, queue, from..behind, |record| {
                let offset = u32::try_from(record.offset).unwrap_or(u32::MAX);
                if found.len() >= room || looked_at >= LOOKED_AT_MAX {
                    stopped = Some(Cursor { bucket, offset });
                    return false;
                }
                looked_at += 1;
                let Ok(message) = Message::of(record) else { return true };
                let is_due = (page.from_ms..page.to_ms).contains(&message.due_ms);
                if is_due && page.topic.is_none_or(|topic| topic == message.target.topic) {
                    found.push((TimerId { bucket, offset, due_ms: message.due_ms }, message));
                }
                true
            })
            .await?;
            for (id, message) in found {
                if let (Status::Pending, _) = self.status(id).await? {
                    listed.messages.push((id, message));
                }
            }
            if stopped.is_some() {
                listed.next = stopped;
                break;
            }
        }
        Ok(listed)
    }
}
