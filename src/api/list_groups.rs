//! ListGroups v0–5: the groups this broker coordinates. v4 filters by state, v5 by type.

use std::sync::Arc;

use braid_protocol::StrBytes;
use braid_protocol::messages::list_groups_response::ListedGroup;
use braid_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};

use super::Broker;
use super::error::group_code;
use super::respond::text;
use crate::group::ListFilter;

pub(crate) async fn handle(broker: &Arc<Broker>, request: ListGroupsRequest) -> ListGroupsResponse {
    let names = |names: Vec<StrBytes>| names.iter().map(ToString::to_string).collect();
    let filter =
        ListFilter { states: names(request.states_filter), types: names(request.types_filter) };
    match broker.groups.list(filter).await {
        Ok(groups) => {
            let groups = groups
                .into_iter()
                .map(|group| {
                    ListedGroup::default()
                        .with_group_id(GroupId(text(&group.group_id)))
                        .with_protocol_type(text(&group.protocol_type))
                        .with_group_state(text(group.state.name()))
                        .with_group_type(text(group.group_type))
                })
                .collect();
            ListGroupsResponse::default().with_groups(groups)
        }
        Err(error) => ListGroupsResponse::default().with_error_code(group_code(error).0),
    }
}
