//! DeleteAcls v1–3: SECURITY_DISABLED for each filter, as from a Kafka without an authorizer.

use braid_protocol::ErrorCode;
use braid_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use braid_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use super::respond::text;

pub(crate) fn handle(request: &DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(ErrorCode::SECURITY_DISABLED.0)
        .with_error_message(Some(text("No Authorizer is configured.")));
    DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
}
