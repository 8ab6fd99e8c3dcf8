//! JoinGroup v0–9. v4 asks dynamic members to join again with the id they are given; v5 adds static
//! members, v9 lets a static leader skip the assignment. The name of a group that messages are
//! delivered to is refused with INCONSISTENT_GROUP_PROTOCOL, as Kafka does for other types of groups.

use std::sync::Arc;

use braid_protocol::messages::join_group_response::JoinGroupResponseMember;
use braid_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use braid_protocol::{RequestHeader, feature};

use super::delivery_groups;
use super::error::group_code;
use super::respond::text;
use super::{Broker, Caller};
use crate::group::{GroupError, JoinProtocol, JoinRequest, Joined};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    caller: &Caller,
    header: &RequestHeader,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let protocols = request
        .protocols
        .into_iter()
        .map(|p| JoinProtocol { name: p.name.to_string(), metadata: p.metadata })
        .collect();
    let rebalance_timeout_ms = if request.rebalance_timeout_ms < 0 {
        // v0 has no rebalance timeout of its own.
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    };
    let asked = JoinRequest {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.to_string(),
        protocols,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        client_id: header.client_id.as_ref().map_or_else(String::new, ToString::to_string),
        client_host: format!("/{}", caller.peer.ip()),
        member_id_required: feature::join_group_requires_member_id(header.api_version),
        skip_assignment_supported: feature::join_group_can_skip_assignment(header.api_version),
        reason: request.reason.map(|r| r.to_string()),
    };
    let why = GroupError::InconsistentGroupProtocol;
    if let Err(error) = delivery_groups::check_free(broker, &asked.group_id, why) {
        return refused(error, &asked.member_id);
    }
    match broker.groups.join(asked).await {
        Ok(joined) => accepted(joined),
        Err(rejected) => refused(rejected.error, &rejected.member_id),
    }
}

fn refused(error: GroupError, member_id: &str) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(group_code(error).0)
        .with_generation_id(-1)
        .with_protocol_name(None)
        .with_member_id(text(member_id))
}

fn accepted(joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|m| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&m.member_id))
                .with_group_instance_id(m.group_instance_id.as_deref().map(text))
                .with_metadata(m.metadata)
        })
        .collect();
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.as_deref().map(text))
        .with_protocol_name(joined.protocol_name.as_deref().map(text))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members)
}
