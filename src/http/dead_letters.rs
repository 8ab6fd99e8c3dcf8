//! `/api/v1/groups/{group}/dead-letters`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, Path, Query};
use super::content::MessageShown;
use super::messages::cursor;
use super::problem::{Code, Problem, Problems};
use super::topics::limit;
use crate::delivery::{Outcome, Settled, Which};
use crate::native::delivery::DeadLetterError;
use crate::native::message::Message;
use crate::native::property;

/// Most offsets of one request.
const OFFSETS_MAX: usize = 10_000;

/// Where a dead letter comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Origin {
    topic: Option<String>,
    partition: Option<i32>,
    offset: Option<i64>,
}

/// A dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterShown {
    /// As it is in the group's topic of dead letters.
    #[serde(flatten)]
    message: MessageShown,
    origin: Origin,
    /// How often it was delivered.
    attempts: Option<u32>,
    /// Why it is a dead letter.
    reason: Option<String>,
}

impl From<Message> for DeadLetterShown {
    fn from(message: Message) -> Self {
        let number = |name| message.property(name).and_then(|text| text.parse::<i64>().ok());
        let either = |name, other| message.property(name).or_else(|| message.property(other));
        let partition = either(property::ORIGIN_PARTITION, property::REAL_PARTITION);
        let retries = number(property::RECONSUME_TIME).and_then(|n| u32::try_from(n).ok());
        Self {
            origin: Origin {
                topic: either(property::ORIGIN_TOPIC, property::REAL_TOPIC).map(str::to_owned),
                partition: partition.and_then(|text| text.parse().ok()),
                offset: number(property::ORIGIN_OFFSET),
            },
            attempts: retries.map(|retries| retries.saturating_add(1)),
            reason: either(property::REASON, property::DISCARD_REASON).map(str::to_owned),
            message: message.into(),
        }
    }
}

/// Which dead letters are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadLetterQuery {
    /// The `next` of the page before.
    #[param(pattern = "^[0-9]+:[0-9]+$")]
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Dead letters of a group.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterList {
    messages: Vec<DeadLetterShown>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the dead letters of a group that were neither sent again nor deleted.
#[utoipa::path(get, path = "/api/v1/groups/{group}/dead-letters", tag = "dead letters",
    operation_id = "listDeadLetters",
    params(("group" = String, Path, description = "The group."), DeadLetterQuery),
    responses((status = 200, description = "A page of them.", body = DeadLetterList), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Path(group): Path<String>,
    Query(query): Query<DeadLetterQuery>,
) -> Result<Json<DeadLetterList>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let after = query.after.as_deref().map(cursor).transpose()?;
    let from = after.map_or((0, 0), |after| (after.partition, after.offset));
    let page = app.native.dead_letters(&group, from, limit).await?;
    let messages = page.letters.into_iter().map(DeadLetterShown::from).collect();
    let next = page.next.map(|(partition, offset)| format!("{partition}:{offset}"));
    Ok(Json(DeadLetterList { messages, next }))
}

/// Which dead letters: `offsets` in the group's topic of dead letters, or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReDriveRequest {
    #[schema(max_items = 10_000)]
    offsets: Option<Vec<i64>>,
    /// The partition of the offsets; 0 by default, which is the only one unless more were added.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    all: Option<bool>,
    /// The topic to send to, instead of the one each comes from.
    topic: Option<String>,
}

/// Which dead letters: `offsets` in the group's topic of dead letters, or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeleteRequest {
    #[schema(max_items = 10_000)]
    offsets: Option<Vec<i64>>,
    /// The partition of the offsets; 0 by default, which is the only one unless more were added.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    all: Option<bool>,
}

fn which(
    offsets: Option<Vec<i64>>,
    partition: Option<i32>,
    all: Option<bool>,
) -> Result<Which, Problem> {
    let partition = partition.unwrap_or(0);
    match (offsets, all.unwrap_or(false)) {
        (None, true) => Ok(Which::All),
        (Some(offsets), false) if (1..=OFFSETS_MAX).contains(&offsets.len()) => {
            Ok(Which::Some(offsets.into_iter().map(|offset| (partition, offset)).collect()))
        }
        (_, _) => {
            let why = format!("either all, or 1 to {OFFSETS_MAX} offsets have to be given");
            Err(Problem::new(Code::InvalidBody, why))
        }
    }
}

/// What became of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SettleAnswer {
    /// How many were settled by this request.
    count: usize,
    /// The others, up to 1,000 of them.
    others: Vec<Unsettled>,
}

/// A dead letter that was not settled.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Unsettled {
    partition: i32,
    offset: i64,
    why: &'static str,
}

impl From<Settled> for SettleAnswer {
    fn from(settled: Settled) -> Self {
        let other = |((partition, offset), outcome)| Unsettled {
            partition,
            offset,
            why: match outcome {
                Outcome::Done => "it is settled",
                Outcome::NotThere => "it is not there, or was settled before",
                Outcome::NoTarget => "the topic it would be sent to is not there",
                Outcome::Failed => "it cannot be copied now; try again",
            },
        };
        Self { count: settled.done, others: settled.others.into_iter().map(other).collect() }
    }
}

/// Sends dead letters again, each once, to where they came from or to another topic.
#[utoipa::path(post, path = "/api/v1/groups/{group}/dead-letters/re-drive", tag = "dead letters",
    operation_id = "reDriveDeadLetters",
    params(("group" = String, Path, description = "The group.")), request_body = ReDriveRequest,
    responses((status = 200, description = "What became of them.", body = SettleAnswer), Problems))]
pub(super) async fn re_drive(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<ReDriveRequest>,
) -> Result<Json<SettleAnswer>, Problem> {
    let ReDriveRequest { offsets, partition, all, topic } = body.content;
    let which = which(offsets, partition, all)?;
    Ok(Json(app.native.re_drive(&group, which, topic).await?.into()))
}

/// Takes dead letters off the list for good.
#[utoipa::path(post, path = "/api/v1/groups/{group}/dead-letters/delete", tag = "dead letters",
    operation_id = "deleteDeadLetters",
    params(("group" = String, Path, description = "The group.")), request_body = DeleteRequest,
    responses((status = 200, description = "What became of them.", body = SettleAnswer), Problems))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(group): Path<String>,
    body: Body<DeleteRequest>,
) -> Result<Json<SettleAnswer>, Problem> {
    let DeleteRequest { offsets, partition, all } = body.content;
    let which = which(offsets, partition, all)?;
    Ok(Json(app.native.delete_dead_letters(&group, which).await?.into()))
}

impl From<DeadLetterError> for Problem {
    fn from(error: DeadLetterError) -> Self {
        let text = error.to_string();
        match error {
            DeadLetterError::Topic(error) => error.into(),
            DeadLetterError::Internal(_) => Self::new(Code::TopicInternal, text),
            DeadLetterError::Group(error) => error.into(),
            DeadLetterError::Engine(error) => error.into(),
        }
    }
}
