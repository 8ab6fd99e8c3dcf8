//! `/api/v1/groups`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, Path, Query};
use super::problem::{Code, Problem, Problems};
use super::topics::{ConfigEntry, limit};
use crate::delivery::ResetError;
use crate::group::GroupError;
use crate::native::group::{Group, GroupSummary, GroupsError, Kind, Progress, ResetTo};
use crate::partition::LookupError;

/// How a group gets its messages.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum GroupKind {
    /// By Kafka's protocol: each partition belongs to one member.
    Kafka,
    /// By this API: each message is delivered by itself.
    Delivery,
}

/// A group in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupEntry {
    group: String,
    kind: GroupKind,
    /// Kafka's name of the state.
    #[schema(example = "Stable")]
    state: &'static str,
    /// Kafka's members.
    members: usize,
}

impl From<GroupSummary> for GroupEntry {
    fn from(group: GroupSummary) -> Self {
        let kind = match group.kind {
            Kind::Kafka => GroupKind::Kafka,
            Kind::Delivery => GroupKind::Delivery,
        };
        Self { group: group.name, kind, state: group.state, members: group.members }
    }
}

/// A page of groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupList {
    groups: Vec<GroupEntry>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// How far a group is in a partition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupProgress {
    topic: String,
    partition: i32,
    /// Everything before it is done.
    committed_offset: i64,
    end_offset: i64,
    /// Messages that are not done.
    lag: i64,
    /// For how long the oldest of them has been there.
    lag_ms: Option<i64>,
    /// Delivered and not done.
    in_flight: usize,
    /// May be delivered now.
    ready: i64,
}

impl From<Progress> for GroupProgress {
    fn from(progress: Progress) -> Self {
        Self {
            topic: progress.topic.to_string(),
            partition: progress.partition,
            committed_offset: progress.committed,
            end_offset: progress.end,
            lag: progress.lag,
            lag_ms: progress.lag_ms,
            in_flight: progress.in_flight,
            ready: progress.ready,
        }
    }
}

/// A group with everything.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupDetail {
    #[serde(flatten)]
    summary: GroupEntry,
    /// Messages that are not done, in all partitions.
    lag: i64,
    partitions: Vec<GroupProgress>,
    configs: Vec<ConfigEntry>,
}

impl From<Group> for GroupDetail {
    fn from(group: Group) -> Self {
        Self {
            summary: group.summary.into(),
            lag: group.progress.iter().map(|progress| progress.lag).sum(),
            partitions: group.progress.into_iter().map(GroupProgress::from).collect(),
            configs: group.settings.into_iter().map(ConfigEntry::from).collect(),
        }
    }
}

/// Which groups are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupsQuery {
    /// The name after which the list begins: the `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// Lists groups, by name.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", operation_id = "listGroups",
    params(GroupsQuery),
    responses((status = 200, description = "A page of groups.", body = GroupList), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<GroupsQuery>,
) -> Result<Json<GroupList>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let mut found = app.native.groups_after(query.after.as_deref(), limit + 1).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(GroupList { groups: found.into_iter().map(GroupEntry::from).collect(), next }))
}

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct GroupQuery {
    /// Whether Kafka's settings of groups are told too.
    all_configs: Option<bool>,
}

/// Tells a group, how far it is, and its settings.
#[utoipa::path(get, path = "/api/v1/groups/{group}", tag = "groups", operation_id = "showGroup",
    params(("group" = String, Path, description = "Its name."), GroupQuery),
    responses((status = 200, description = "The group.", body = GroupDetail), Problems))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<GroupQuery>,
) -> Result<Json<GroupDetail>, Problem> {
    let group = app.native.group(&name, query.all_configs.unwrap_or(false)).await?;
    Ok(Json(group.into()))
}

/// Settings to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupChange {
    /// Keys with new values; null gives a key back its default.
    configs: BTreeMap<String, Option<String>>,
}

/// Changes settings of a group, which need not be there yet.
#[utoipa::path(patch, path = "/api/v1/groups/{group}", tag = "groups",
    operation_id = "configureGroup",
    params(("group" = String, Path, description = "Its name.")), request_body = GroupChange,
    responses((status = 200, description = "The group with its new settings.", body = GroupDetail),
        Problems))]
pub(super) async fn configure(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body<GroupChange>,
) -> Result<Json<GroupDetail>, Problem> {
    Ok(Json(app.native.configure_group(&name, body.content.configs).await?.into()))
}

/// Where a group is to go on: one of `to`, `timestampMs` and `offset`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ResetRequest {
    topic: String,
    /// One partition; all by default.
    #[schema(minimum = 0)]
    partition: Option<i32>,
    to: Option<ResetWord>,
    /// At the first message of at least this time, in milliseconds since 1970.
    #[schema(minimum = 0)]
    timestamp_ms: Option<i64>,
    /// At this offset, or as near as a partition allows.
    #[schema(minimum = 0)]
    offset: Option<i64>,
}

/// An end of a topic.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ResetWord {
    /// The oldest message that is there.
    Earliest,
    /// Behind what is there: the backlog is skipped.
    Latest,
}

/// Where the group is now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ResetAnswer {
    partitions: Vec<GroupProgress>,
}

/// Moves a group in a topic, by offset or time, or skips its backlog.
#[utoipa::path(post, path = "/api/v1/groups/{group}/reset", tag = "groups",
    operation_id = "resetGroup",
    params(("group" = String, Path, description = "Its name.")), request_body = ResetRequest,
    responses((status = 200, description = "It goes on there.", body = ResetAnswer), Problems))]
pub(super) async fn reset(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body<ResetRequest>,
) -> Result<Json<ResetAnswer>, Problem> {
    let request = body.content;
    let to = match (request.to, request.timestamp_ms, request.offset) {
        (Some(ResetWord::Earliest), None, None) => ResetTo::Earliest,
        (Some(ResetWord::Latest), None, None) => ResetTo::Latest,
        (None, Some(time_ms), None) => ResetTo::TimeMs(time_ms),
        (None, None, Some(offset)) => ResetTo::Offset(offset),
        (_, _, _) => {
            let why = "exactly one of to, timestampMs and offset has to be given";
            return Err(Problem::new(Code::InvalidBody, why));
        }
    };
    let progress = app.native.reset_group(&name, &request.topic, request.partition, to).await?;
    let partitions = progress.into_iter().map(GroupProgress::from).collect();
    Ok(Json(ResetAnswer { partitions }))
}

/// Forgets a group, how far it is, and its settings.
#[utoipa::path(delete, path = "/api/v1/groups/{group}", tag = "groups",
    operation_id = "deleteGroup",
    params(("group" = String, Path, description = "Its name.")),
    responses((status = 204, description = "It is forgotten."), Problems))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.native.delete_group(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<GroupsError> for Problem {
    fn from(error: GroupsError) -> Self {
        let text = error.to_string();
        match error {
            GroupsError::Name => Self::new(Code::GroupInvalid, text),
            GroupsError::Unknown(_) => Self::new(Code::GroupNotFound, text),
            GroupsError::Members(_) => Self::new(Code::GroupInUse, text),
            GroupsError::Topic(error) => error.into(),
            GroupsError::Partition { .. } => Self::new(Code::PartitionNotFound, text),
            GroupsError::Config(_) => Self::new(Code::ConfigInvalid, text),
            GroupsError::Lookup(LookupError::Fetch(error)) => error.into(),
            GroupsError::Lookup(LookupError::Batch(_)) => Self::new(Code::StorageUnreadable, text),
            GroupsError::Metadata(error) => error.into(),
            GroupsError::OffsetsTopic(_) => Self::new(Code::Unavailable, text),
            GroupsError::Coordinator(error) => of_coordinator(error, text),
            GroupsError::Kafka(_) => Self::new(Code::GroupInUse, text),
            GroupsError::Reserved(_) => Self::new(Code::GroupInvalid, text),
            GroupsError::DeadLetterName { .. } => Self::new(Code::GroupInvalid, text)
                .hinted("groups have 1 to 245 of the characters a-z A-Z 0-9 . _ -"),
            GroupsError::Reset(error) => match error {
                ResetError::UnknownTopic => Self::new(Code::TopicNotFound, text),
                ResetError::UnknownPartition { .. } => Self::new(Code::PartitionNotFound, text),
                ResetError::GroupName => Self::new(Code::GroupInvalid, text),
                ResetError::Unavailable(_) => Self::new(Code::Unavailable, text),
            },
            GroupsError::Deliveries(_) => Self::new(Code::Unavailable, text),
        }
    }
}

fn of_coordinator(error: GroupError, text: String) -> Problem {
    let code = match error {
        GroupError::GroupIdNotFound => Code::GroupNotFound,
        GroupError::InvalidGroupId => Code::GroupInvalid,
        GroupError::NonEmptyGroup
        | GroupError::GroupSubscribedToTopic
        | GroupError::UnknownMemberId
        | GroupError::IllegalGeneration
        | GroupError::RebalanceInProgress
        | GroupError::FencedInstanceId
        | GroupError::InconsistentGroupProtocol
        | GroupError::MemberIdRequired
        | GroupError::GroupMaxSizeReached
        | GroupError::InvalidSessionTimeout => Code::GroupInUse,
        GroupError::CoordinatorLoadInProgress
        | GroupError::CoordinatorNotAvailable
        | GroupError::NotCoordinator
        | GroupError::MetadataTooLarge
        | GroupError::OffsetMetadataTooLarge
        | GroupError::InvalidCommitOffsetSize
        | GroupError::UnstableOffsetCommit => Code::Unavailable,
    };
    Problem::new(code, text)
}
