//! CreateAcls v1–3: SECURITY_DISABLED for each rule, as from a Kafka without an authorizer.

use braid_protocol::ErrorCode;
use braid_protocol::messages::create_acls_response::AclCreationResult;
use braid_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use super::respond::text;

pub(crate) fn handle(request: &CreateAclsRequest) -> CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(ErrorCode::SECURITY_DISABLED.0)
        .with_error_message(Some(text("No Authorizer is configured.")));
    CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
}
