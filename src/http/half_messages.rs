//! `/api/v1/topics/{topic}/half-messages`, `/api/v1/half-messages` and the checks of producers.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, OptionalBody, Path, Query};
use super::content::{HalfGiven, HeaderShown, Shown, headers_shown};
use super::problem::{Code, Problem, Problems};
use super::topics::limit;
use crate::half::{
    self, CHECKS_MAX, Check, CheckError, Decision, End, EndError, Ender, Expiry, HalfFilter,
    HalfMessage, HalfState, Outcome, Pending, ShowError, TransactionId, Unavailable,
};
use crate::native::Native;
use crate::native::half::{SendHalfError, content_of};

/// Longest wait for checks.
const WAIT_MS_MAX: u64 = 30_000;

/// A half message that is on disk.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HalfSentShown {
    /// Names the half message when it is committed, rolled back or looked at.
    transaction_id: String,
    message_id: String,
    topic: String,
    partition: i32,
    /// Whether it was sent before under this message id and not stored again.
    duplicate: bool,
}

/// Stores a half message, which nobody sees before it is committed.
#[utoipa::path(post, path = "/api/v1/topics/{topic}/half-messages", tag = "half messages",
    operation_id = "sendHalfMessage",
    params(("topic" = String, Path, description = "A topic of the type TRANSACTION.")),
    request_body = HalfGiven,
    responses((status = 200, description = "It is on disk.", body = HalfSentShown), Problems))]
pub(super) async fn send(
    State(app): State<App>,
    Path(topic): Path<String>,
    body: Body<HalfGiven>,
) -> Result<Json<HalfSentShown>, Problem> {
    let (message, producer_group, immunity_ms) = body.content.parts();
    let (partition, sent) =
        app.native.send_half(&topic, message, producer_group, immunity_ms).await?;
    Ok(Json(HalfSentShown {
        transaction_id: sent.id.to_string(),
        message_id: sent.message_id,
        topic,
        partition,
        duplicate: sent.duplicate,
    }))
}

/// Which half messages are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HalvesQuery {
    /// Those of this group alone.
    producer_group: Option<String>,
    /// Those sent before this time alone, in milliseconds since 1970.
    #[param(minimum = 0)]
    born_before_ms: Option<i64>,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A half message that waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HalfEntry {
    transaction_id: String,
    /// Absent if the topic is gone.
    topic: Option<String>,
    partition: i32,
    producer_group: String,
    /// For how long it has waited.
    age_ms: i64,
    /// How often its producers were asked.
    checks: u16,
    /// When they are asked next, in milliseconds since 1970; absent after the last time.
    next_check_ms: Option<i64>,
    /// When it goes to the discard topic, unless it is decided before.
    expires_ms: i64,
}

fn entry(native: &Native, pending: &Pending) -> HalfEntry {
    let image = native.metadata.image();
    let topic = image.topic_by_id(pending.topic_id).map(|topic| topic.name.to_string());
    let age_ms = native.env.clock.wall_ms().saturating_sub(pending.id.born_ms());
    HalfEntry {
        transaction_id: pending.id.to_string(),
        topic,
        partition: pending.partition,
        producer_group: pending.group.to_string(),
        age_ms: age_ms.max(0),
        checks: pending.checks,
        next_check_ms: pending.next_check_ms,
        expires_ms: pending.expires_ms,
    }
}

/// Half messages that wait, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HalfList {
    half_messages: Vec<HalfEntry>,
    /// Where the next page begins; a page may be empty and have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists half messages that wait to be decided, the oldest first.
#[utoipa::path(get, path = "/api/v1/half-messages", tag = "half messages",
    operation_id = "listHalfMessages", params(HalvesQuery),
    responses((status = 200, description = "A page of them.", body = HalfList), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<HalvesQuery>,
) -> Result<Json<HalfList>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let from = query.after.as_deref().map(parse_cursor).transpose()?;
    let filter = HalfFilter { group: query.producer_group, born_before_ms: query.born_before_ms };
    let page = app.native.halves.list(filter, from, limit).await?;
    Ok(Json(HalfList {
        half_messages: page.halves.iter().map(|pending| entry(&app.native, pending)).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// What became of a half message.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum HalfOutcome {
    /// It waits.
    Pending,
    /// It is a message of its topic.
    Committed,
    /// Nobody ever sees it.
    RolledBack,
    /// Nobody decided it: it is in the discard topic.
    Expired,
}

/// A half message and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct HalfDetail {
    transaction_id: String,
    state: HalfOutcome,
    topic: String,
    partition: i32,
    /// Of a committed one, where it is in the topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    producer_group: String,
    message_id: Option<String>,
    /// When it was sent, in milliseconds since 1970.
    born_ms: i64,
    /// When it was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<i64>,
    /// `producer` or `operator`: who ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    /// How often its producers were asked, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<u16>,
    /// `checks` or `age`: why it expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_by: Option<&'static str>,
    key: Option<Shown>,
    payload: Option<Shown>,
    headers: Vec<HeaderShown>,
}

/// Tells a half message and what became of it.
#[utoipa::path(get, path = "/api/v1/half-messages/{transaction}", tag = "half messages",
    operation_id = "showHalfMessage",
    params(("transaction" = String, Path, description = "Its transaction id.")),
    responses((status = 200, description = "The half message.", body = HalfDetail), Problems))]
pub(super) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<HalfDetail>, Problem> {
    let id = parse(&id)?;
    let state = app.native.halves.get(id).await?;
    let half = app.native.halves.message(id).await?;
    Ok(Json(detail(id, &state, half)))
}

fn by(ender: Ender) -> &'static str {
    match ender {
        Ender::Producer => "producer",
        Ender::Operator => "operator",
    }
}

fn detail(id: TransactionId, state: &HalfState, half: HalfMessage) -> HalfDetail {
    let (message_id, producer_group) = (half.message_id.clone(), half.group.clone());
    let content = content_of(half);
    let mut detail = HalfDetail {
        transaction_id: id.to_string(),
        state: HalfOutcome::Pending,
        topic: content.topic.to_string(),
        partition: content.partition,
        offset: None,
        producer_group,
        message_id,
        born_ms: content.timestamp_ms,
        ended_ms: None,
        ended_by: None,
        checks: None,
        expired_by: None,
        headers: headers_shown(content.headers),
        key: content.key.map(Shown::from),
        payload: content.payload.map(Shown::from),
    };
    match state {
        HalfState::Pending(pending) => detail.checks = Some(pending.checks),
        HalfState::Ended(end) => {
            detail.ended_ms = Some(end.at_ms);
            match &end.outcome {
                Outcome::Committed { by: ender, offset, .. } => {
                    detail.state = HalfOutcome::Committed;
                    detail.ended_by = Some(by(*ender));
                    detail.offset = offset.map(|offset| offset.0);
                }
                Outcome::RolledBack { by: ender } => {
                    detail.state = HalfOutcome::RolledBack;
                    detail.ended_by = Some(by(*ender));
                }
                Outcome::Expired { reason, checks } => {
                    detail.state = HalfOutcome::Expired;
                    detail.checks = Some(*checks);
                    detail.expired_by = Some(match reason {
                        Expiry::Checks => "checks",
                        Expiry::Age => "age",
                    });
                }
            }
        }
    }
    detail
}

/// Who decides. Everything may be left out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EndRequest {
    /// The producer's group, which has to be the half message's; without it an operator decides.
    producer_group: Option<String>,
}

/// How a half message ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndAnswer {
    transaction_id: String,
    state: HalfOutcome,
    /// When, in milliseconds since 1970.
    ended_ms: i64,
    /// Where a committed one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
}

/// Commits a half message: it appears in its topic. Saying it again changes nothing.
#[utoipa::path(post, path = "/api/v1/half-messages/{transaction}/commit", tag = "half messages",
    operation_id = "commitHalfMessage",
    params(("transaction" = String, Path, description = "Its transaction id.")),
    request_body = EndRequest,
    responses((status = 200, description = "It is a message.", body = EndAnswer), Problems))]
pub(super) async fn commit(
    State(app): State<App>,
    Path(id): Path<String>,
    body: OptionalBody<EndRequest>,
) -> Result<Json<EndAnswer>, Problem> {
    end(&app.native, &id, Decision::Commit, body.0).await
}

/// Rolls a half message back: nobody ever sees it. Saying it again changes nothing.
#[utoipa::path(post, path = "/api/v1/half-messages/{transaction}/rollback", tag = "half messages",
    operation_id = "rollBackHalfMessage",
    params(("transaction" = String, Path, description = "Its transaction id.")),
    request_body = EndRequest,
    responses((status = 200, description = "It is none.", body = EndAnswer), Problems))]
pub(super) async fn rollback(
    State(app): State<App>,
    Path(id): Path<String>,
    body: OptionalBody<EndRequest>,
) -> Result<Json<EndAnswer>, Problem> {
    end(&app.native, &id, Decision::Rollback, body.0).await
}

async fn end(
    native: &Native,
    id: &str,
    decision: Decision,
    request: EndRequest,
) -> Result<Json<EndAnswer>, Problem> {
    let id = parse(id)?;
    let group = request.producer_group;
    let by = if group.is_some() { Ender::Producer } else { Ender::Operator };
    let End { at_ms, outcome } = native.halves.end(id, decision, by, group).await?;
    let (state, partition, offset) = match outcome {
        Outcome::Committed { partition, offset, .. } => {
            (HalfOutcome::Committed, Some(partition), offset.map(|offset| offset.0))
        }
        Outcome::RolledBack { .. } => (HalfOutcome::RolledBack, None, None),
        Outcome::Expired { .. } => (HalfOutcome::Expired, None, None),
    };
    let transaction_id = id.to_string();
    Ok(Json(EndAnswer { transaction_id, state, ended_ms: at_ms, partition, offset }))
}

/// Has the producers of a half message asked about it now.
#[utoipa::path(post, path = "/api/v1/half-messages/{transaction}/check", tag = "half messages",
    operation_id = "checkHalfMessage",
    params(("transaction" = String, Path, description = "Its transaction id.")),
    responses((status = 204, description = "The check is due."), Problems))]
pub(super) async fn check(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    app.native.halves.check_now(parse(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How checks are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ChecksQuery {
    /// How many milliseconds to wait for the first.
    #[param(minimum = 0, maximum = 30_000, default = 0)]
    wait_ms: Option<u64>,
    /// How many at most.
    #[param(minimum = 1, maximum = 256, default = 16)]
    max: Option<usize>,
}

/// A half message that its producer is to decide.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CheckShown {
    transaction_id: String,
    /// Which check of this half message it is, from 1.
    check: u16,
    topic: String,
    partition: i32,
    message_id: Option<String>,
    /// When it was sent, in milliseconds since 1970.
    born_ms: i64,
    key: Option<Shown>,
    payload: Option<Shown>,
    headers: Vec<HeaderShown>,
}

impl From<Check> for CheckShown {
    fn from(check: Check) -> Self {
        let Check { number, half } = check;
        let (transaction_id, message_id) = (half.id.to_string(), half.message_id.clone());
        let content = content_of(half);
        Self {
            transaction_id,
            check: number,
            topic: content.topic.to_string(),
            partition: content.partition,
            message_id,
            born_ms: content.timestamp_ms,
            headers: headers_shown(content.headers),
            key: content.key.map(Shown::from),
            payload: content.payload.map(Shown::from),
        }
    }
}

/// Half messages to decide; none when the wait is over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CheckList {
    checks: Vec<CheckShown>,
}

/// Gives a producer of a group half messages to decide, and waits for the first if it is told to.
#[utoipa::path(get, path = "/api/v1/producer-groups/{group}/checks", tag = "half messages",
    operation_id = "pollChecks",
    params(("group" = String, Path, description = "The group of producers."), ChecksQuery),
    responses((status = 200, description = "What is to be decided.", body = CheckList), Problems))]
pub(super) async fn poll(
    State(app): State<App>,
    Path(group): Path<String>,
    Query(query): Query<ChecksQuery>,
) -> Result<Json<CheckList>, Problem> {
    let max = limit(query.max, 16, CHECKS_MAX)?;
    let wait_ms = query.wait_ms.unwrap_or(0);
    if wait_ms > WAIT_MS_MAX {
        let why = format!("waitMs is {wait_ms}; it has to be from 0 to {WAIT_MS_MAX}");
        return Err(Problem::new(Code::InvalidParameter, why));
    }
    let wait = Duration::from_millis(wait_ms);
    let checks = app.native.halves.poll_checks(&group, max, wait).await?;
    Ok(Json(CheckList { checks: checks.into_iter().map(CheckShown::from).collect() }))
}

fn parse(text: &str) -> Result<TransactionId, Problem> {
    let no_id = |error: half::NoTransactionId| Problem::new(Code::HalfNotFound, error.to_string());
    text.parse().map_err(no_id)
}

fn parse_cursor(text: &str) -> Result<TransactionId, Problem> {
    let why = format!("after is {text}; it has to be the next of a page before");
    text.parse().map_err(|_| Problem::new(Code::InvalidParameter, why))
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        let code = match error {
            Unavailable::DiskFull => Code::DiskFull,
            Unavailable::TooLarge => Code::MessageTooLarge,
            Unavailable::Loading
            | Unavailable::Overloaded
            | Unavailable::NotReady
            | Unavailable::Stopping
            | Unavailable::LogFailed => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<SendHalfError> for Problem {
    fn from(error: SendHalfError) -> Self {
        let text = error.to_string();
        match error {
            SendHalfError::Topic(error) => error.into(),
            SendHalfError::Internal(_) => Self::new(Code::TopicInternal, text),
            SendHalfError::Message(error) => Self::new(super::messages::of_message(&error), text),
            SendHalfError::Partition { .. } => Self::new(Code::PartitionNotFound, text),
            SendHalfError::NoKey => Self::new(Code::MessageInvalid, text),
            SendHalfError::TooLarge { .. } => Self::new(Code::MessageTooLarge, text),
            SendHalfError::Engine(error) => match error {
                half::SendError::NoGroup
                | half::SendError::NameTooLong { .. }
                | half::SendError::Immunity { .. } => Self::new(Code::InvalidBody, text),
                half::SendError::Unavailable(error) => error.into(),
            },
        }
    }
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        let text = error.to_string();
        match error {
            EndError::Unknown => Self::new(Code::HalfNotFound, text),
            EndError::OtherGroup => Self::new(Code::HalfOfAnother, text),
            EndError::Ended(_) => Self::new(Code::HalfEnded, text),
            EndError::TargetGone => Self::new(Code::TopicNotFound, text),
            EndError::Unreadable => Self::new(Code::StorageUnreadable, text),
            EndError::Unavailable(error) => error.into(),
        }
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        let text = error.to_string();
        match error {
            CheckError::Unknown => Self::new(Code::HalfNotFound, text),
            CheckError::Ended | CheckError::NotTheLast | CheckError::UsedUp => {
                Self::new(Code::HalfEnded, text)
            }
            CheckError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ShowError> for Problem {
    fn from(error: ShowError) -> Self {
        let text = error.to_string();
        match error {
            ShowError::Unknown => Self::new(Code::HalfNotFound, text),
            ShowError::Unreadable => Self::new(Code::StorageUnreadable, text),
            ShowError::Unavailable(error) => error.into(),
        }
    }
}
