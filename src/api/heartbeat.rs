//! Heartbeat v0–4: a member is alive, and learns of a rebalance. v3 adds static members.

use std::sync::Arc;

use braid_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Broker;
use super::error::group_code;
use crate::group;

pub(crate) async fn handle(broker: &Arc<Broker>, request: HeartbeatRequest) -> HeartbeatResponse {
    let asked = group::HeartbeatRequest {
        group_id: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
    };
    match broker.groups.heartbeat(asked).await {
        Ok(()) => HeartbeatResponse::default(),
        Err(error) => HeartbeatResponse::default().with_error_code(group_code(error).0),
    }
}
