//! Messages delivered to a group one by one, and the dead letters of those that never were done.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Native;
use super::group::GroupsError;
use super::message::Message;
use super::topic::NoTopic;
use crate::config::is_internal_topic;
use crate::delivery::{
    self, FilterError, LeaseError, ReceiveRequest, Settled, TagFilter, Target, Unavailable, Which,
    dead_letter_name,
};

/// Longest wait for messages.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest name of an attempt, in bytes.
const ATTEMPT_ID_SIZE_BYTES_MAX: usize = 255;

/// What a consumer asks for.
#[derive(Debug)]
pub(crate) struct Receive {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) max: usize,
    /// How long nobody else is given the messages.
    pub(crate) invisible_ms: i64,
    /// How long to wait if there are none.
    pub(crate) wait: Duration,
    /// `*`, or tags joined by `||`.
    pub(crate) tags: String,
    /// The same id gets the same messages, as long as they are invisible.
    pub(crate) attempt_id: Option<String>,
}

/// A message that a consumer has for a while.
#[derive(Debug)]
pub(crate) struct Leased {
    pub(crate) message: Message,
    pub(crate) handle: String,
    /// How often the group was given it, from 1.
    pub(crate) attempt: u16,
    /// Until when nobody else is.
    pub(crate) until_ms: i64,
}

/// Why nothing is received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Topic(#[from] NoTopic),
    #[error(transparent)]
    Group(#[from] GroupsError),
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error("a wait is at most {} ms", WAIT_MAX.as_millis())]
    Wait,
    #[error("an attempt's id has 1 to {ATTEMPT_ID_SIZE_BYTES_MAX} bytes")]
    AttemptId,
    #[error(transparent)]
    Engine(delivery::ReceiveError),
}

/// Why dead letters are not shown or settled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeadLetterError {
    #[error(transparent)]
    Topic(#[from] NoTopic),
    #[error("topic {0} is the broker's own")]
    Internal(String),
    #[error(transparent)]
    Group(#[from] GroupsError),
    #[error(transparent)]
    Engine(#[from] Unavailable),
}

/// A page of dead letters.
#[derive(Debug)]
pub(crate) struct DeadLetterPage {
    pub(crate) letters: Vec<Message>,
    /// Partition and offset where the next page begins.
    pub(crate) next: Option<(i32, i64)>,
}

/// The engine's message in the words of the API.
fn message(topic: &Arc<str>, partition: i32, of: delivery::Message) -> Message {
    let name = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
    Message {
        topic: Arc::clone(topic),
        partition,
        offset: of.offset,
        timestamp_ms: of.timestamp_ms,
        key: of.key,
        payload: of.value,
        headers: of.headers.iter().map(|(key, value)| (name(key), value.clone())).collect(),
    }
}

impl Native {
    /// Gives a consumer of a group messages of a topic, or none when the wait is over.
    pub(crate) async fn receive(&self, asked: Receive) -> Result<Vec<Leased>, ReceiveError> {
        let topic = self.own_topic(&asked.topic)?;
        self.check_deliverable(&asked.group).await?;
        if asked.wait > WAIT_MAX {
            return Err(ReceiveError::Wait);
        }
        let fits = |id: &String| (1..=ATTEMPT_ID_SIZE_BYTES_MAX).contains(&id.len());
        if !asked.attempt_id.as_ref().is_none_or(fits) {
            return Err(ReceiveError::AttemptId);
        }
        let request = ReceiveRequest {
            group: Arc::from(asked.group),
            topic: topic.id,
            max: asked.max,
            invisible_ms: asked.invisible_ms,
            wait: asked.wait,
            filter: TagFilter::parse(&asked.tags)?,
            attempt_id: asked.attempt_id.map(Arc::from),
        };
        let delivered = self.deliveries.receive(request).await.map_err(ReceiveError::Engine)?;
        let leased = delivered.into_iter().map(|one| Leased {
            message: message(&topic.name, one.partition, one.message),
            handle: one.handle,
            attempt: one.attempt,
            until_ms: one.until_ms,
        });
        Ok(leased.collect())
    }

    /// Says of messages that they are done; each has its own answer.
    pub(crate) async fn ack(&self, group: &str, handles: &[String]) -> Vec<Result<(), LeaseError>> {
        let handles: Vec<&str> = handles.iter().map(String::as_str).collect();
        self.deliveries.ack(group, &handles).await
    }

    /// A page of the dead letters of a group that were neither sent again nor deleted.
    pub(crate) async fn dead_letters(
        &self,
        group: &str,
        from: (i32, i64),
        max: usize,
    ) -> Result<DeadLetterPage, DeadLetterError> {
        super::group::check_name(group)?;
        let page = self.deliveries.dead_letters(group, from, max).await?;
        let topic: Arc<str> = Arc::from(dead_letter_name(group));
        let letter = |(partition, of)| message(&topic, partition, of);
        let letters = page.letters.into_iter().map(letter).collect();
        Ok(DeadLetterPage { letters, next: page.next })
    }

    /// Sends dead letters again, to where they came from or to another topic.
    pub(crate) async fn re_drive(
        &self,
        group: &str,
        which: Which,
        topic: Option<String>,
    ) -> Result<Settled, DeadLetterError> {
        super::group::check_name(group)?;
        let target = match topic {
            None => Target::Origin,
            Some(name) if is_internal_topic(&name) => return Err(DeadLetterError::Internal(name)),
            Some(name) => Target::Topic(Arc::clone(&self.own_topic(&name)?.name)),
        };
        Ok(self.deliveries.re_drive(group, which, target).await?)
    }

    /// Takes dead letters off the list for good.
    pub(crate) async fn delete_dead_letters(
        &self,
        group: &str,
        which: Which,
    ) -> Result<Settled, DeadLetterError> {
        super::group::check_name(group)?;
        Ok(self.deliveries.delete_dead_letters(group, which).await?)
    }
}
