//! `/api/v1/topics`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use braid_raft::ProposeError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, Path, Query};
use super::problem::{Code, Problem, Problems};
use crate::config::TopicConfigError;
use crate::native::Native;
use crate::native::topic::{
    ConfigureError, CreateError, DeleteError, NewTopic, NoTopic, Setting, Topic,
};

/// Which topics are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The name after which the list begins: the `next` of the page before.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicList {
    topics: Vec<TopicSummary>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A topic in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicSummary {
    name: String,
    id: String,
    message_type: MessageType,
    partitions: usize,
    /// Whether it is the broker's own.
    internal: bool,
    /// Wall time of its creation.
    created_ms: i64,
}

/// Which messages a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum MessageType {
    /// Any, at once.
    Normal,
    /// Each of a message group, in the group's order.
    Fifo,
    /// Each at a time of its own.
    Delay,
    /// Each by a half message that was committed.
    Transaction,
}

impl From<crate::config::MessageType> for MessageType {
    fn from(of: crate::config::MessageType) -> Self {
        match of {
            crate::config::MessageType::Normal => Self::Normal,
            crate::config::MessageType::Fifo => Self::Fifo,
            crate::config::MessageType::Delay => Self::Delay,
            crate::config::MessageType::Transaction => Self::Transaction,
        }
    }
}

impl From<MessageType> for crate::config::MessageType {
    fn from(of: MessageType) -> Self {
        match of {
            MessageType::Normal => Self::Normal,
            MessageType::Fifo => Self::Fifo,
            MessageType::Delay => Self::Delay,
            MessageType::Transaction => Self::Transaction,
        }
    }
}

/// A topic with its partitions and settings.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicDetail {
    #[serde(flatten)]
    summary: TopicSummary,
    partition_marks: Vec<PartitionMarks>,
    configs: Vec<ConfigEntry>,
}

/// What a partition holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartitionMarks {
    partition: usize,
    /// Offset of the first message.
    start_offset: i64,
    /// Offset that the next message gets.
    end_offset: i64,
    /// Bytes of the messages.
    size_bytes: u64,
}

/// A setting in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigEntry {
    name: String,
    value: Option<String>,
    /// Whether the topic has set it itself.
    own: bool,
}

impl From<Setting> for ConfigEntry {
    fn from(setting: Setting) -> Self {
        Self { name: setting.name, value: setting.value, own: setting.own }
    }
}

/// A topic to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateRequest {
    #[schema(example = "orders", min_length = 1, max_length = 249)]
    name: String,
    /// Number of partitions; the broker's `num.partitions` by default.
    #[schema(minimum = 1, maximum = 100_000)]
    partitions: Option<i32>,
    /// NORMAL by default.
    message_type: Option<MessageType>,
    /// Other settings, by Kafka's keys.
    #[serde(default)]
    configs: BTreeMap<String, String>,
}

/// Settings to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigureRequest {
    /// Keys with new values; null gives a key back its default.
    configs: BTreeMap<String, Option<String>>,
}

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShowQuery {
    /// Whether settings at their defaults are told too.
    all_configs: Option<bool>,
}

fn summary(topic: &Topic) -> TopicSummary {
    TopicSummary {
        name: topic.image.name.to_string(),
        id: topic.image.id.to_string(),
        message_type: topic.message_type.into(),
        partitions: topic.image.partitions.len(),
        internal: topic.internal,
        created_ms: topic.image.created_ms,
    }
}

fn detail(native: &Native, topic: &Topic, all_configs: bool) -> TopicDetail {
    let partition_marks = native.marks(&topic.image).into_iter();
    let configs = native.settings(&topic.image, all_configs);
    TopicDetail {
        summary: summary(topic),
        partition_marks: partition_marks
            .map(|(partition, (marks, size_bytes))| PartitionMarks {
                partition,
                start_offset: marks.log_start.0,
                end_offset: marks.high_watermark.0,
                size_bytes,
            })
            .collect(),
        configs: configs.into_iter().map(ConfigEntry::from).collect(),
    }
}

/// Reads a limit of a list.
pub(super) fn limit(given: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match given.unwrap_or(default) {
        limit if (1..=max).contains(&limit) => Ok(limit),
        limit => {
            let why = format!("limit is {limit}; it has to be from 1 to {max}");
            Err(Problem::new(Code::InvalidParameter, why))
        }
    }
}

/// Lists topics, by name.
#[utoipa::path(get, path = "/api/v1/topics", tag = "topics", operation_id = "listTopics", params(ListQuery),
    responses((status = 200, description = "A page of topics.", body = TopicList), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<TopicList>, Problem> {
    let limit = limit(query.limit, 100, 1000)?;
    let mut found = app.native.topics_after(query.after.as_deref(), limit + 1);
    let more = found.len() > limit;
    found.truncate(limit);
    let topics: Vec<TopicSummary> = found.iter().map(summary).collect();
    let next = topics.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Json(TopicList { topics, next }))
}

/// Creates a topic.
#[utoipa::path(post, path = "/api/v1/topics", tag = "topics", operation_id = "createTopic", request_body = CreateRequest,
    responses((status = 201, description = "It is there.", body = TopicDetail), Problems))]
pub(super) async fn create(
    State(app): State<App>,
    body: Body<CreateRequest>,
) -> Result<(StatusCode, Json<TopicDetail>), Problem> {
    let CreateRequest { name, partitions, message_type, mut configs } = body.content;
    if let Some(message_type) = message_type {
        let name = crate::config::MessageType::from(message_type).name();
        let key = "message.type".to_owned();
        if configs.insert(key, name.to_owned()).is_some_and(|given| given != name) {
            let why = "messageType and configs[message.type] contradict each other";
            return Err(Problem::new(Code::InvalidBody, why).hinted("give one of the two"));
        }
    }
    let topic = app.native.create_topic(NewTopic { name, partitions, configs }).await?;
    Ok((StatusCode::CREATED, Json(detail(&app.native, &topic, false))))
}

/// Tells a topic, its partitions and its settings.
#[utoipa::path(get, path = "/api/v1/topics/{topic}", tag = "topics", operation_id = "showTopic",
    params(("topic" = String, Path, description = "Its name."), ShowQuery),
    responses((status = 200, description = "The topic.", body = TopicDetail), Problems))]
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(query): Query<ShowQuery>,
) -> Result<Json<TopicDetail>, Problem> {
    let topic = app.native.told(app.native.topic(&name)?);
    Ok(Json(detail(&app.native, &topic, query.all_configs.unwrap_or(false))))
}

/// Changes settings of a topic.
#[utoipa::path(patch, path = "/api/v1/topics/{topic}/configs", tag = "topics", operation_id = "configureTopic",
    params(("topic" = String, Path, description = "Its name.")),
    request_body = ConfigureRequest,
    responses((status = 200, description = "The topic with its new settings.", body = TopicDetail),
        Problems))]
pub(super) async fn configure(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body<ConfigureRequest>,
) -> Result<Json<TopicDetail>, Problem> {
    let topic = app.native.configure_topic(&name, body.content.configs).await?;
    Ok(Json(detail(&app.native, &topic, false)))
}

/// Deletes a topic with all its messages.
#[utoipa::path(delete, path = "/api/v1/topics/{topic}", tag = "topics", operation_id = "deleteTopic",
    params(("topic" = String, Path, description = "Its name.")),
    responses((status = 204, description = "It is gone."), Problems))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    app.native.delete_topic(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<NoTopic> for Problem {
    fn from(error: NoTopic) -> Self {
        let code = match error {
            NoTopic::Unknown(_) => Code::TopicNotFound,
            NoTopic::Elsewhere { .. } => Code::TopicElsewhere,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProposeError> for Problem {
    fn from(error: ProposeError) -> Self {
        let code = match error {
            ProposeError::NotLeader { .. } | ProposeError::Stopped => Code::Unavailable,
            ProposeError::Interrupted => Code::TimedOut,
            ProposeError::DiskFull => Code::DiskFull,
            ProposeError::TooLarge { .. } => Code::BodyTooLarge,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TopicConfigError> for Problem {
    fn from(error: TopicConfigError) -> Self {
        Self::new(Code::ConfigInvalid, error.to_string())
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        use braid_raft::outcome::CreateTopicRejection as Rejection;
        use braid_raft::plan::PlacementError as Placement;
        match error {
            CreateError::Config(error) => error.into(),
            CreateError::Metadata(error) => error.into(),
            CreateError::Internal(_) => Self::new(Code::TopicInternal, error.to_string()),
            CreateError::Rejected(rejected)
            | CreateError::Placement(Placement::Rejected(rejected)) => {
                let code = match rejected {
                    Rejection::AlreadyExists(_) | Rejection::Collides { .. } => Code::TopicExists,
                    Rejection::InvalidName(_)
                    | Rejection::IdInUse(_)
                    | Rejection::Partitions(_)
                    | Rejection::Replicas(_) => Code::TopicInvalid,
                };
                Self::new(code, rejected.to_string())
            }
            CreateError::Placement(
                error @ (Placement::FactorWithAssignment
                | Placement::CountWithAssignment
                | Placement::DuplicateAssignment(_)
                | Placement::AssignmentGap
                | Placement::UnevenAssignment { .. }
                | Placement::Replicas(_)
                | Placement::NonPositiveFactor
                | Placement::NonPositiveCount
                | Placement::TooFewBrokers { .. }
                | Placement::NotReplicated { .. }
                | Placement::AllFenced(_)
                | Placement::TooManyPartitions
                | Placement::CountUnchanged(_)
                | Placement::NotAnIncrease { .. }
                | Placement::AssignmentCount { .. }),
            ) => Self::new(Code::TopicInvalid, error.to_string())
                .hinted("a topic has 1 to 100000 partitions"),
        }
    }
}

impl From<ConfigureError> for Problem {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::Unknown(error) => error.into(),
            ConfigureError::Config(error) => error.into(),
            ConfigureError::Metadata(error) => error.into(),
        }
    }
}

impl From<DeleteError> for Problem {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::Unknown(error) => error.into(),
            DeleteError::Metadata(error) => error.into(),
            DeleteError::Internal(_) => Self::new(Code::TopicInternal, error.to_string()),
            DeleteError::Disabled => Self::new(Code::TopicDeletionDisabled, error.to_string()),
        }
    }
}
