//! `/api/v1/timers`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Path, Query};
use super::content::{HeaderShown, Shown, headers_shown};
use super::problem::{Code, Problem, Problems};
use super::topics::limit;
use crate::native::property;
use crate::native::timer::{Listing, Scheduled, TimersError};
use crate::timer::{End, ScheduleError, TimerError, TimerState};

/// What became of a scheduled message.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum TimerOutcome {
    /// It is not due yet, or is being delivered.
    Waits,
    /// It is in its topic.
    Delivered,
    /// Somebody took it back.
    Recalled,
    /// Its topic was gone: it is in the discard topic.
    Discarded,
}

/// A scheduled message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimerShown {
    /// Its handle.
    timer: String,
    state: TimerOutcome,
    topic: String,
    partition: i32,
    /// When it is due, in milliseconds since 1970.
    due_ms: i64,
    /// The time its sender gave it.
    timestamp_ms: i64,
    message_id: Option<String>,
    key: Option<Shown>,
    payload: Option<Shown>,
    headers: Vec<HeaderShown>,
}

impl From<Scheduled> for TimerShown {
    fn from(timer: Scheduled) -> Self {
        let message = timer.message;
        Self {
            timer: timer.id.to_string(),
            state: match timer.state {
                TimerState::Waits => TimerOutcome::Waits,
                TimerState::Ended(End::Delivered) => TimerOutcome::Delivered,
                TimerState::Ended(End::Recalled) => TimerOutcome::Recalled,
                TimerState::Ended(End::Discarded) => TimerOutcome::Discarded,
            },
            topic: message.topic.to_string(),
            partition: message.partition,
            due_ms: timer.due_ms,
            timestamp_ms: message.timestamp_ms,
            message_id: message.property(property::MESSAGE_ID).map(str::to_owned),
            headers: headers_shown(message.headers),
            key: message.key.map(Shown::from),
            payload: message.payload.map(Shown::from),
        }
    }
}

/// Which scheduled messages are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TimersQuery {
    /// Those for this topic alone.
    topic: Option<String>,
    /// Those due from this time on, in milliseconds since 1970.
    #[param(minimum = 0)]
    from_ms: Option<i64>,
    /// Those due before this time, in milliseconds since 1970.
    #[param(minimum = 0)]
    to_ms: Option<i64>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Messages that wait.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TimerList {
    timers: Vec<TimerShown>,
    /// Where the next page begins; a page may be empty and have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists messages that wait to be due, by the ten minutes they are due in.
#[utoipa::path(get, path = "/api/v1/timers", tag = "timers", operation_id = "listTimers",
    params(TimersQuery),
    responses((status = 200, description = "A page of them.", body = TimerList), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<TimersQuery>,
) -> Result<Json<TimerList>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let negative = [query.from_ms, query.to_ms].into_iter().flatten().any(|ms| ms < 0);
    let why = "times are milliseconds since 1970 and not negative";
    if negative {
        return Err(Problem::new(Code::InvalidParameter, why));
    }
    let after = match query.after.as_deref().map(str::parse).transpose() {
        Ok(after) => after,
        Err(_) => {
            let why = "after has to be the next of a page before";
            return Err(Problem::new(Code::InvalidParameter, why));
        }
    };
    let TimersQuery { topic, from_ms, to_ms, .. } = query;
    let (found, next) =
        app.native.scheduled(Listing { topic, from_ms, to_ms, after, limit }).await?;
    let timers = found.into_iter().map(TimerShown::from).collect();
    Ok(Json(TimerList { timers, next: next.map(|next| next.to_string()) }))
}

/// Tells a scheduled message and what became of it.
#[utoipa::path(get, path = "/api/v1/timers/{timer}", tag = "timers", operation_id = "showTimer",
    params(("timer" = String, Path, description = "Its handle.")),
    responses((status = 200, description = "The message.", body = TimerShown), Problems))]
pub(super) async fn show(
    State(app): State<App>,
    Path(timer): Path<String>,
) -> Result<Json<TimerShown>, Problem> {
    Ok(Json(app.native.timer(&timer).await?.into()))
}

/// A message was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecallAnswer {
    timer: String,
    /// Whether it was taken back by this request, not by one before.
    now: bool,
}

/// Takes a scheduled message back: it is never delivered. Exactly one of this and the delivery
/// happens.
#[utoipa::path(post, path = "/api/v1/timers/{timer}/recall", tag = "timers",
    operation_id = "recallTimer",
    params(("timer" = String, Path, description = "Its handle.")),
    responses((status = 200, description = "It is taken back.", body = RecallAnswer), Problems))]
pub(super) async fn recall(
    State(app): State<App>,
    Path(timer): Path<String>,
) -> Result<Json<RecallAnswer>, Problem> {
    let now = app.native.recall_timer(&timer).await?;
    Ok(Json(RecallAnswer { timer, now }))
}

/// A message was delivered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliverAnswer {
    timer: String,
}

/// Delivers a scheduled message now, whenever it is due.
#[utoipa::path(post, path = "/api/v1/timers/{timer}/deliver", tag = "timers",
    operation_id = "deliverTimer",
    params(("timer" = String, Path, description = "Its handle.")),
    responses((status = 200, description = "It is in its topic.", body = DeliverAnswer), Problems))]
pub(super) async fn deliver(
    State(app): State<App>,
    Path(timer): Path<String>,
) -> Result<(StatusCode, Json<DeliverAnswer>), Problem> {
    app.native.deliver_timer(&timer).await?;
    Ok((StatusCode::OK, Json(DeliverAnswer { timer })))
}

/// The code of messages that were not scheduled.
pub(super) fn of_schedule(error: ScheduleError) -> Problem {
    let text = error.to_string();
    match error {
        ScheduleError::TooFar { .. } | ScheduleError::Write(_) => {
            Problem::new(Code::MessageInvalid, text)
        }
        ScheduleError::TooLarge { .. } => Problem::new(Code::MessageTooLarge, text),
        ScheduleError::BucketFull { .. } | ScheduleError::Crowded { .. } => {
            Problem::new(Code::Unavailable, text)
        }
        ScheduleError::Append(error) => error.into(),
        ScheduleError::Failed(error) => error.into(),
    }
}

impl From<TimersError> for Problem {
    fn from(error: TimersError) -> Self {
        let text = error.to_string();
        match error {
            TimersError::Topic(error) => error.into(),
            TimersError::NoId(_) | TimersError::Engine(TimerError::NotFound) => {
                Self::new(Code::TimerNotFound, text)
            }
            TimersError::Engine(TimerError::TooLate(_)) => Self::new(Code::TimerEnded, text),
            TimersError::Engine(TimerError::Loading | TimerError::Postponed(_)) => {
                Self::new(Code::Unavailable, text)
            }
            TimersError::Engine(TimerError::Unreadable(error)) => error.into(),
            TimersError::Engine(TimerError::Malformed | TimerError::Write(_)) => {
                Self::new(Code::StorageUnreadable, text)
            }
            TimersError::Engine(TimerError::Append(error)) => error.into(),
            TimersError::Engine(TimerError::Failed(error)) => error.into(),
        }
    }
}
