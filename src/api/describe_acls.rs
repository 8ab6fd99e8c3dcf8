//! DescribeAcls v1–3: SECURITY_DISABLED, as from a Kafka without an authorizer. Consoles take it
//! for "no access control here" and hide theirs.

use braid_protocol::ErrorCode;
use braid_protocol::messages::DescribeAclsResponse;

use super::respond::text;

pub(crate) fn handle() -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SECURITY_DISABLED.0)
        .with_error_message(Some(text("No Authorizer is configured on the broker")))
}
