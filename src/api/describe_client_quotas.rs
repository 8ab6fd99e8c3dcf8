//! DescribeClientQuotas v0–1: there are no quotas, so every filter that makes sense finds none.
//! Errors: INVALID_REQUEST, UNSUPPORTED_VERSION for kinds of clients that Kafka has no quotas for.

use std::collections::BTreeSet;

use braid_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use braid_protocol::{ErrorCode, StrBytes};

const KINDS: [&str; 3] = ["user", "client-id", "ip"];

pub(crate) fn handle(request: &DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    match check(request) {
        Ok(()) => DescribeClientQuotasResponse::default().with_entries(Some(Vec::new())),
        Err((code, why)) => DescribeClientQuotasResponse::default()
            .with_error_code(code.0)
            .with_error_message(Some(StrBytes::from_string(why)))
            .with_entries(None),
    }
}

fn check(request: &DescribeClientQuotasRequest) -> Result<(), (ErrorCode, String)> {
    let mut seen = BTreeSet::new();
    for component in &request.components {
        let kind = component.entity_type.as_str();
        if kind.is_empty() {
            return Err((ErrorCode::INVALID_REQUEST, "Invalid empty entity type.".to_owned()));
        }
        if !KINDS.contains(&kind) {
            let why = format!("Unsupported entity type {kind}");
            return Err((ErrorCode::UNSUPPORTED_VERSION, why));
        }
        if !seen.insert(kind) {
            let why = format!("Entity type {kind} cannot appear more than once in the filter.");
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
    }
    if seen.contains("ip") && seen.len() > 1 {
        let why = "Invalid entity filter component combination, IP filter component should not be \
                   used with user or clientId filter component.";
        return Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
    }
    Ok(())
}
