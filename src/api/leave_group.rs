//! LeaveGroup v0–5: one member, or (v3) several, also by instance id.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::leave_group_response::MemberResponse;
use braid_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::Broker;
use super::error::group_code;
use super::respond::text;
use crate::group::{LeaveMember, LeaveRequest};

pub(crate) async fn handle(broker: &Arc<Broker>, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let asked = LeaveRequest {
        group_id: request.group_id.to_string(),
        members: request
            .members
            .into_iter()
            .map(|m| LeaveMember {
                member_id: m.member_id.to_string(),
                group_instance_id: m.group_instance_id.map(|id| id.to_string()),
                reason: m.reason.map(|r| r.to_string()),
            })
            .collect(),
    };
    match broker.groups.leave(asked).await {
        Ok(left) => {
            let members = left
                .into_iter()
                .map(|m| {
                    let code = m.result.map_or_else(group_code, |()| ErrorCode::NONE);
                    MemberResponse::default()
                        .with_member_id(text(&m.member_id))
                        .with_group_instance_id(m.group_instance_id.as_deref().map(text))
                        .with_error_code(code.0)
                })
                .collect();
            LeaveGroupResponse::default().with_members(members)
        }
        Err(error) => LeaveGroupResponse::default().with_error_code(group_code(error).0),
    }
}
