//! DescribeGroups v0–6: members and state of groups. v3 adds authorized operations, v4 instance
//! ids. A group that does not exist is one in state Dead; v6 says so by GROUP_ID_NOT_FOUND too.

use std::sync::Arc;

use braid_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use braid_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use braid_protocol::{ErrorCode, StrBytes};

use super::Broker;
use super::error::group_code;
use super::respond::{OPERATIONS_NOT_ASKED, text};
use crate::group::{self, GroupError};

/// Every operation on a group: there is no authorizer, so everything is allowed.
const ALL_GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let operations = if request.include_authorized_operations {
        ALL_GROUP_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    // All are asked before the first is awaited.
    let asked: Vec<_> = request
        .groups
        .into_iter()
        .map(|id| {
            let ticket = broker.groups.describe(id.to_string());
            (id, ticket)
        })
        .collect();
    let mut groups = Vec::with_capacity(asked.len());
    for (id, ticket) in asked {
        groups.push(match ticket.await {
            Ok(group) => described(&group).with_authorized_operations(operations),
            Err(error) => refused(id, error),
        });
    }
    DescribeGroupsResponse::default().with_groups(groups)
}

fn described(group: &group::DescribedGroup) -> DescribedGroup {
    let members = group
        .members
        .iter()
        .map(|member| {
            DescribedGroupMember::default()
                .with_member_id(text(&member.member_id))
                .with_group_instance_id(member.group_instance_id.as_deref().map(text))
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_member_metadata(member.metadata.clone())
                .with_member_assignment(member.assignment.clone())
        })
        .collect();
    DescribedGroup::default()
        .with_group_id(GroupId(text(&group.group_id)))
        .with_group_state(text(group.state.name()))
        .with_protocol_type(text(&group.protocol_type))
        .with_protocol_data(text(&group.protocol))
        .with_members(members)
}

fn refused(id: GroupId, error: GroupError) -> DescribedGroup {
    let code = group_code(error);
    let described = DescribedGroup::default()
        .with_error_code(code.0)
        .with_authorized_operations(OPERATIONS_NOT_ASKED);
    if code != ErrorCode::GROUP_ID_NOT_FOUND {
        return described.with_group_id(id);
    }
    let why = format!("Group {} not found.", id.as_str());
    described
        .with_group_id(id)
        .with_group_state(text("Dead"))
        .with_error_message(Some(StrBytes::from_string(why)))
}
