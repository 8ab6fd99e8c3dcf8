//! `/api/v1/cluster`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use braid_raft::ReplaceError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::body::{Body, Path};
use super::problem::{Code, Problem, Problems};
use crate::model::BrokerId;

/// The cluster in short.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterShown {
    cluster_id: Option<String>,
    /// The broker that answers.
    broker: i32,
    version: &'static str,
    /// `running` or `stopping`.
    state: &'static str,
    brokers: Vec<BrokerShown>,
    topics: usize,
    partitions: u64,
}

/// A broker.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerShown {
    id: i32,
    rack: Option<String>,
    /// When it was last started, in milliseconds since 1970.
    registered_ms: i64,
    listeners: Vec<ListenerShown>,
}

/// Where Kafka's clients reach a broker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListenerShown {
    name: String,
    host: String,
    port: u16,
}

/// Tells the cluster and its brokers.
#[utoipa::path(get, path = "/api/v1/cluster", tag = "cluster", operation_id = "showCluster",
    responses((status = 200, description = "The cluster.", body = ClusterShown), Problems))]
pub(super) async fn show(State(app): State<App>) -> Json<ClusterShown> {
    let cluster = app.native.cluster();
    let brokers = cluster.brokers.iter().map(|broker| BrokerShown {
        id: broker.id.0,
        rack: broker.rack.clone(),
        registered_ms: broker.registered_ms,
        listeners: broker
            .endpoints
            .iter()
            .map(|e| ListenerShown { name: e.listener.clone(), host: e.host.clone(), port: e.port })
            .collect(),
    });
    Json(ClusterShown {
        cluster_id: cluster.id,
        broker: cluster.this.0,
        version: env!("CARGO_PKG_VERSION"),
        state: if cluster.stopping { "stopping" } else { "running" },
        brokers: brokers.collect(),
        topics: cluster.topics,
        partitions: cluster.partitions,
    })
}

/// What stands for a node from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceRequest {
    /// The mark of the node's new directory, which its refused start has told.
    #[schema(value_type = String, format = "uuid")]
    directory: Uuid,
}

/// Has an empty directory stand for a node that has lost its own. Asked again this does what is left
/// to do.
#[utoipa::path(post, path = "/api/v1/cluster/nodes/{node}/replace", tag = "cluster",
    operation_id = "replaceNode", request_body = ReplaceRequest,
    params(("node" = i32, Path, description = "Its number.")),
    responses((status = 204, description = "The node can be started."), Problems))]
pub(super) async fn replace(
    State(app): State<App>,
    Path(node): Path<i32>,
    body: Body<ReplaceRequest>,
) -> Result<StatusCode, Problem> {
    app.native.replace_node(BrokerId(node), body.content.directory).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<ReplaceError> for Problem {
    fn from(error: ReplaceError) -> Self {
        let code = match &error {
            ReplaceError::NoVoter(_) => Code::NodeNotFound,
            ReplaceError::Running(_) => Code::NodeRunning,
            ReplaceError::DirectoryInUse(_) => Code::InvalidBody,
            ReplaceError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
