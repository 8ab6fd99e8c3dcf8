//! SyncGroup v0–5: the leader hands in the assignment, every member gets its own. v3 adds static
//! members, v5 the protocol that the member believes in.

use std::sync::Arc;

use braid_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::Broker;
use super::error::group_code;
use super::respond::text;
use crate::group::SyncRequest;

pub(crate) async fn handle(broker: &Arc<Broker>, request: SyncGroupRequest) -> SyncGroupResponse {
    let asked = SyncRequest {
        group_id: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|t| t.to_string()),
        protocol_name: request.protocol_name.map(|n| n.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (a.member_id.to_string(), a.assignment))
            .collect(),
    };
    match broker.groups.sync(asked).await {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(synced.protocol_type.as_deref().map(text))
            .with_protocol_name(synced.protocol_name.as_deref().map(text))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(group_code(error).0),
    }
}
