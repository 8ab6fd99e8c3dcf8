//! `/api/v1/topics/{topic}/messages`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use braid_protocol::records::{BatchError, ConformError, ErrorClass};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, Path, Query};
use super::content::{MessageGiven, MessageShown};
use super::problem::{Code, Problem, Problems};
use super::topics::limit;
use crate::native::browse::{BrowseError, Cursor, Search};
use crate::native::message::InvalidMessage;
use crate::native::send::{SendError, Sent};
use crate::partition::{FetchError, LookupError};
use crate::store::{AppendError, LogFailed, ReadError};

/// One message, or several that are written together: all or none.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub(super) enum SendRequest {
    One(Box<MessageGiven>),
    Many(MessagesGiven),
}

/// Several messages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MessagesGiven {
    #[schema(min_items = 1, max_items = 10_000)]
    messages: Vec<MessageGiven>,
}

impl<'de> Deserialize<'de> for SendRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let many = value.get("messages").is_some();
        let place = |error: serde_path_to_error::Error<serde_json::Error>| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            de::Error::custom(if path == "." {
                error.to_string()
            } else {
                format!("{path}: {error}")
            })
        };
        if many {
            serde_path_to_error::deserialize(value).map(Self::Many).map_err(place)
        } else {
            serde_path_to_error::deserialize(value)
                .map(|one| Self::One(Box::new(one)))
                .map_err(place)
        }
    }
}

/// Where the messages are, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SendAnswer {
    messages: Vec<SentShown>,
}

/// A message that is on disk.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SentShown {
    topic: String,
    partition: i32,
    /// Absent for a message that is not due yet, and for one that was sent before and can no longer
    /// be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    /// Of a message that is not due yet: its handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<String>,
    message_id: String,
    /// Whether it was sent before under this id and not written again.
    duplicate: bool,
}

impl From<Sent> for SentShown {
    fn from(sent: Sent) -> Self {
        Self {
            topic: sent.topic.to_string(),
            partition: sent.partition,
            offset: sent.offset,
            timer: sent.timer.map(|timer| timer.to_string()),
            message_id: sent.message_id,
            duplicate: sent.duplicate,
        }
    }
}

/// Sends one message or several. The answer comes when they are on disk.
#[utoipa::path(post, path = "/api/v1/topics/{topic}/messages", tag = "messages",
    operation_id = "sendMessages",
    params(("topic" = String, Path, description = "The topic.")),
    request_body = SendRequest,
    responses((status = 200, description = "They are on disk.", body = SendAnswer), Problems))]
pub(super) async fn send(
    State(app): State<App>,
    Path(topic): Path<String>,
    body: Body<SendRequest>,
) -> Result<(StatusCode, Json<SendAnswer>), Problem> {
    let given = match body.content {
        SendRequest::One(one) => vec![*one],
        SendRequest::Many(many) => many.messages,
    };
    let contradicts = |(index, message): (usize, MessageGiven)| {
        let why = |why| Problem::new(Code::MessageInvalid, format!("messages[{index}]: {why}"));
        message.message().map_err(why)
    };
    let messages: Result<Vec<_>, _> = given.into_iter().enumerate().map(contradicts).collect();
    let sent = app.native.send(&topic, messages?).await?;
    let messages = sent.into_iter().map(SentShown::from).collect();
    Ok((StatusCode::OK, Json(SendAnswer { messages })))
}

/// Which messages of a partition are shown.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BrowseQuery {
    /// The offset to begin at: the first there is by default, or the `next` of the page before.
    #[param(minimum = 0)]
    offset: Option<i64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Messages of a partition.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BrowsePage {
    messages: Vec<MessageShown>,
    /// The offset where the next page begins; absent at the partition's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Shows messages of a partition, in its order. Moves no group.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/partitions/{partition}/messages",
    tag = "messages", operation_id = "browseMessages",
    params(("topic" = String, Path, description = "The topic."),
        ("partition" = i32, Path, minimum = 0, description = "Its partition."), BrowseQuery),
    responses((status = 200, description = "A page of messages.", body = BrowsePage), Problems))]
pub(super) async fn browse(
    State(app): State<App>,
    Path((topic, partition)): Path<(String, i32)>,
    Query(query): Query<BrowseQuery>,
) -> Result<Json<BrowsePage>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let page = app.native.browse(&topic, partition, query.offset, limit).await?;
    let messages = page.messages.into_iter().map(MessageShown::from).collect();
    Ok(Json(BrowsePage { messages, next: page.next }))
}

/// Which messages of a topic are looked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SearchQuery {
    /// Its key, its messageId, or one of its keys.
    key: Option<String>,
    /// From this time on, in milliseconds since 1970.
    #[param(minimum = 0)]
    from_ms: Option<i64>,
    /// Before this time, in milliseconds since 1970.
    #[param(minimum = 0)]
    to_ms: Option<i64>,
    /// The `next` of the page before.
    #[param(pattern = "^[0-9]+:[0-9]+$")]
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Messages of a topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SearchPage {
    messages: Vec<MessageShown>,
    /// Where the search goes on, also where this page found nothing; absent when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Looks for messages of a topic by key and time, partition after partition. One page looks
/// through a bounded part of the topic.
#[utoipa::path(get, path = "/api/v1/topics/{topic}/messages", tag = "messages",
    operation_id = "searchMessages",
    params(("topic" = String, Path, description = "The topic."), SearchQuery),
    responses((status = 200, description = "A page of messages.", body = SearchPage), Problems))]
pub(super) async fn search(
    State(app): State<App>,
    Path(topic): Path<String>,
    Query(query): Query<SearchQuery>,
) -> Result<Json<SearchPage>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let after = query.after.as_deref().map(cursor).transpose()?;
    let SearchQuery { key: word, from_ms, to_ms, .. } = query;
    let search = Search { word, from_ms, to_ms, after, limit };
    let page = app.native.search(&topic, search).await?;
    let messages = page.messages.into_iter().map(MessageShown::from).collect();
    let next = page.next.map(|next| format!("{}:{}", next.partition, next.offset));
    Ok(Json(SearchPage { messages, next }))
}

pub(super) fn cursor(text: &str) -> Result<Cursor, Problem> {
    let parts = text.split_once(':');
    let read = parts.and_then(|(partition, offset)| {
        let cursor = Cursor { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
        (cursor.partition >= 0 && cursor.offset >= 0).then_some(cursor)
    });
    let why = format!("after is {text}; it has to be the next of a page before");
    read.ok_or_else(|| Problem::new(Code::InvalidParameter, why))
}

impl From<LogFailed> for Problem {
    fn from(error: LogFailed) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::TooLarge { .. } => Code::MessageTooLarge,
            AppendError::DiskFull => Code::DiskFull,
            AppendError::Damaged { .. } => Code::StorageUnreadable,
            // The topic is being deleted.
            AppendError::UnknownQueue(_) => Code::TopicNotFound,
            AppendError::Elsewhere(_) => Code::TopicElsewhere,
            AppendError::Fenced { .. }
            | AppendError::NotTheBatch { .. }
            | AppendError::Rejected(_)
            | AppendError::SegmentNotReady
            | AppendError::NoMemory
            | AppendError::Failed(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// The code of a message that is not taken.
pub(super) fn of_message(error: &InvalidMessage) -> Code {
    match error {
        InvalidMessage::Type { .. } => Code::MessageTypeMismatch,
        InvalidMessage::Length { .. }
        | InvalidMessage::Character { .. }
        | InvalidMessage::Twice { .. }
        | InvalidMessage::IdTwice(_)
        | InvalidMessage::Time(_) => Code::MessageInvalid,
    }
}

/// Why a batch is refused that the broker has built itself: by what the client gave.
fn of_batch(error: &BatchError) -> Code {
    match error.class() {
        ErrorClass::MessageTooLarge => Code::MessageTooLarge,
        ErrorClass::CorruptMessage
        | ErrorClass::InvalidTimestamp
        | ErrorClass::UnsupportedCompressionType
        | ErrorClass::InvalidRecord => Code::MessageInvalid,
    }
}

impl From<SendError> for Problem {
    fn from(error: SendError) -> Self {
        let text = error.to_string();
        match error {
            SendError::UnknownTopic(error) => error.into(),
            SendError::Append(error) => error.into(),
            SendError::Failed(error) => error.into(),
            SendError::Internal(_) => Self::new(Code::TopicInternal, text),
            SendError::Large { .. } => Self::new(Code::MessageTooLarge, text),
            SendError::NoKey { .. } => Self::new(Code::MessageInvalid, text),
            SendError::Schedule(error) => super::timers::of_schedule(error),
            SendError::Count(_) => Self::new(Code::MessageInvalid, text),
            SendError::Partition { .. } => Self::new(Code::PartitionNotFound, text),
            SendError::Ids(_) => Self::new(Code::StorageUnreadable, text),
            SendError::Write(_) => Self::new(Code::MessageInvalid, text),
            SendError::Batch { error: ConformError::Batch(error), .. } => {
                Self::new(of_batch(&error), text)
            }
            SendError::Batch { error: ConformError::Compress(_), .. } => {
                Self::new(Code::MessageInvalid, text)
            }
            SendError::Message { error, .. } => Self::new(of_message(&error), text),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::UnknownQueue(_) => Code::TopicNotFound,
            ReadError::OutOfRange { .. } => Code::OffsetOutOfRange,
            ReadError::Damaged(_) | ReadError::Io(_) => Code::StorageUnreadable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Read(error) => error.into(),
            FetchError::Pool(_) => Self::new(Code::Unavailable, error.to_string()),
        }
    }
}

impl From<BrowseError> for Problem {
    fn from(error: BrowseError) -> Self {
        let text = error.to_string();
        match error {
            BrowseError::UnknownTopic(error) => error.into(),
            BrowseError::Partition { .. } => Self::new(Code::PartitionNotFound, text),
            BrowseError::OutOfRange { .. } => Self::new(Code::OffsetOutOfRange, text),
            BrowseError::Fetch(error) | BrowseError::Lookup(LookupError::Fetch(error)) => {
                error.into()
            }
            BrowseError::Batch(_) | BrowseError::Lookup(LookupError::Batch(_)) => {
                Self::new(Code::StorageUnreadable, text)
            }
        }
    }
}
