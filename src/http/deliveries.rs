//! `/api/v1/groups/{group}/receive` and what is said of received messages.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::App;
use super::body::{Body, Path};
use super::content::MessageShown;
use super::problem::{Code, ErrorContent, Problem, Problems};
use crate::delivery::{self, LeaseError, Unavailable};
use crate::native::delivery::{Leased, Receive, ReceiveError};

/// Most handles of one acknowledgement.
const HANDLES_MAX: usize = 1_000;

/// What a consumer asks for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReceiveRequest {
    topic: String,
    /// How many messages at most.
    #[schema(minimum = 1, maximum = 32, default = 1)]
    max: Option<usize>,
    /// For how many milliseconds nobody else is given them.
    #[schema(minimum = 1000, maximum = 43_200_000, default = 30_000)]
    invisible_ms: Option<i64>,
    /// How many milliseconds to wait when there are none.
    #[schema(minimum = 0, maximum = 30_000, default = 0)]
    wait_ms: Option<u64>,
    /// `*`, or tags joined by `||`; what others do not match is done for the group.
    #[schema(example = "paid || refunded")]
    tags: Option<String>,
    /// Names this request: the same id gets the same messages, while they are invisible, and no
    /// attempt is counted.
    #[schema(min_length = 1, max_length = 255)]
    attempt_id: Option<String>,
}

/// A message that the consumer has for a while.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeasedShown {
    #[serde(flatten)]
    message: MessageShown,
    /// Names this delivery when something is said of it.
    handle: String,
    /// How often the group was given the message, from 1.
    attempt: u16,
    /// Until when nobody else is given it, in milliseconds since 1970.
    invisible_until_ms: i64,
}

impl From<Leased> for LeasedShown {
    fn from(leased: Leased) -> Self {
        Self {
            message: leased.message.into(),
            handle: leased.handle,
            attempt: leased.attempt,
            invisible_until_ms: leased.until_ms,
        }
    }
}

/// The messages; none when the wait is over.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReceiveAnswer {
    messages: Vec<LeasedShown>,
}

/// Gives a consumer of a group messages of a topic, and waits for the first if it is told to.
#[utoipa::path(post, path = "/api/v1/groups/{group}/receive", tag = "deliveries",
    operation_id = "receiveMessages",
    params(("group" = String, Path, description = "The group.")), request_body = ReceiveRequest,
    responses((status = 200, description = "The messages.", body = ReceiveAnswer), Problems))]
pub(super) async fn receive(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<ReceiveRequest>,
) -> Result<Json<ReceiveAnswer>, Problem> {
    let asked = body.content;
    let asked = Receive {
        group,
        topic: asked.topic,
        max: asked.max.unwrap_or(1),
        invisible_ms: asked.invisible_ms.unwrap_or(30_000),
        wait: Duration::from_millis(asked.wait_ms.unwrap_or(0)),
        tags: asked.tags.unwrap_or_default(),
        attempt_id: asked.attempt_id,
    };
    let leased = app.native.receive(asked).await?;
    Ok(Json(ReceiveAnswer { messages: leased.into_iter().map(LeasedShown::from).collect() }))
}

/// Messages that are done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AckRequest {
    #[schema(min_items = 1, max_items = 1000)]
    handles: Vec<String>,
}

/// What became of each, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AckAnswer {
    results: Vec<AckResult>,
}

/// What became of one.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AckResult {
    handle: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorContent>,
}

/// Says of received messages that they are done. Each handle has its own result.
#[utoipa::path(post, path = "/api/v1/groups/{group}/ack", tag = "deliveries",
    operation_id = "acknowledgeMessages",
    params(("group" = String, Path, description = "The group.")), request_body = AckRequest,
    responses((status = 200, description = "What became of each.", body = AckAnswer), Problems))]
pub(super) async fn ack(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<AckRequest>,
) -> Result<Json<AckAnswer>, Problem> {
    let handles = &body.content.handles;
    if !(1..=HANDLES_MAX).contains(&handles.len()) {
        let why = format!("{} handles are given; 1 to {HANDLES_MAX} may be", handles.len());
        return Err(Problem::new(Code::InvalidBody, why));
    }
    let outcomes = app.native.ack(&group, handles).await;
    let result = |(handle, outcome): (&String, Result<(), LeaseError>)| AckResult {
        handle: handle.clone(),
        ok: outcome.is_ok(),
        error: outcome.err().map(|error| Problem::from(error).content()),
    };
    let results = handles.iter().zip(outcomes).map(result).collect();
    Ok(Json(AckAnswer { results }))
}

/// A message that failed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NackRequest {
    handle: String,
    /// After how many milliseconds it is delivered again; what the group's back-off says by
    /// default.
    #[schema(minimum = 0, maximum = 604_800_000)]
    delay_ms: Option<i64>,
}

/// Says of a received message that it failed: it is delivered again later, or, after its last
/// attempt, becomes a dead letter.
#[utoipa::path(post, path = "/api/v1/groups/{group}/nack", tag = "deliveries",
    operation_id = "rejectMessage",
    params(("group" = String, Path, description = "The group.")), request_body = NackRequest,
    responses((status = 204, description = "It rests."), Problems))]
pub(super) async fn nack(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<NackRequest>,
) -> Result<StatusCode, Problem> {
    let NackRequest { handle, delay_ms } = body.content;
    app.native.deliveries.nack(&group, &handle, delay_ms).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A message that takes longer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ExtendRequest {
    handle: String,
    /// For how many milliseconds from now nobody else is given it.
    #[schema(minimum = 1000, maximum = 43_200_000)]
    invisible_ms: i64,
}

/// The handle to use from now on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExtendAnswer {
    handle: String,
}

/// Keeps a received message for longer, or for less time.
#[utoipa::path(post, path = "/api/v1/groups/{group}/change-invisible", tag = "deliveries",
    operation_id = "changeInvisible",
    params(("group" = String, Path, description = "The group.")), request_body = ExtendRequest,
    responses((status = 200, description = "It is kept.", body = ExtendAnswer), Problems))]
pub(super) async fn change_invisible(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<ExtendRequest>,
) -> Result<Json<ExtendAnswer>, Problem> {
    let ExtendRequest { handle, invisible_ms } = body.content;
    let handle = app.native.deliveries.change_invisible(&group, &handle, invisible_ms).await?;
    Ok(Json(ExtendAnswer { handle }))
}

/// A message that will never be done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BuryRequest {
    handle: String,
    /// Why; kept with the dead letter.
    reason: Option<String>,
}

/// Makes a received message a dead letter at once.
#[utoipa::path(post, path = "/api/v1/groups/{group}/dead-letter", tag = "deliveries",
    operation_id = "forwardToDeadLetter",
    params(("group" = String, Path, description = "The group.")), request_body = BuryRequest,
    responses((status = 204, description = "It is one."), Problems))]
pub(super) async fn bury(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<BuryRequest>,
) -> Result<StatusCode, Problem> {
    let BuryRequest { handle, reason } = body.content;
    app.native.deliveries.forward_to_dead_letter(&group, &handle, reason.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        Self::new(Code::Unavailable, error.to_string())
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        let code = match error {
            LeaseError::Receipt(_)
            | LeaseError::OtherGroup
            | LeaseError::Unknown
            | LeaseError::Superseded { .. }
            | LeaseError::Released
            | LeaseError::Archiving
            | LeaseError::Done => Code::HandleInvalid,
            LeaseError::Invisible { .. } | LeaseError::Delay { .. } | LeaseError::Reason { .. } => {
                Code::InvalidBody
            }
            LeaseError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        let text = error.to_string();
        match error {
            ReceiveError::Topic(error) => error.into(),
            ReceiveError::Group(error) => error.into(),
            ReceiveError::Filter(_) | ReceiveError::Wait | ReceiveError::AttemptId => {
                Self::new(Code::InvalidBody, text)
            }
            ReceiveError::Engine(error) => {
                let code = match error {
                    delivery::ReceiveError::UnknownTopic => Code::TopicNotFound,
                    delivery::ReceiveError::GroupName => Code::GroupInvalid,
                    delivery::ReceiveError::Invisible { .. }
                    | delivery::ReceiveError::Count { .. }
                    | delivery::ReceiveError::Filter(_) => Code::InvalidBody,
                    delivery::ReceiveError::TooManyWaiting
                    | delivery::ReceiveError::Unavailable(_) => Code::Unavailable,
                };
                Self::new(code, text)
            }
        }
    }
}
