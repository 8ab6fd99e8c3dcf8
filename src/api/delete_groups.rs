//! DeleteGroups v0–3: removes empty groups with their offsets, and groups that messages are delivered
//! to with what is known of their deliveries; answered when that is durable.
//! Errors: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND.

use std::sync::Arc;

use braid_protocol::ErrorCode;
use braid_protocol::messages::delete_groups_response::DeletableGroupResult;
use braid_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};

use super::Broker;
use super::delivery_groups;
use super::error::group_code;
use crate::group::GroupError;

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    // All are asked before the first is awaited, so that their removals share a sync.
    let asked: Vec<_> = request
        .groups_names
        .into_iter()
        .map(|id| {
            let ticket = broker.groups.delete(id.to_string());
            (id, ticket)
        })
        .collect();
    let mut results = Vec::with_capacity(asked.len());
    for (id, ticket) in asked {
        let deleted = match ticket.await {
            Ok(()) => delivery_groups::delete(broker, &id).await.map(|_| ()),
            Err(GroupError::GroupIdNotFound) => match delivery_groups::delete(broker, &id).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(GroupError::GroupIdNotFound),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let code = deleted.map_or_else(group_code, |()| ErrorCode::NONE);
        results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code.0));
    }
    DeleteGroupsResponse::default().with_results(results)
}
