//! DescribeUserScramCredentials v0: there are no users, so a list of all is empty.
//! Errors per user: RESOURCE_NOT_FOUND, DUPLICATE_RESOURCE for one named twice.

use std::collections::BTreeMap;

use braid_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use braid_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use braid_protocol::{ErrorCode, StrBytes};

pub(crate) fn handle(
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let mut times_named: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        *times_named.entry(user.name).or_insert(0) += 1;
    }
    let results = times_named
        .into_iter()
        .map(|(user, times)| {
            let (code, why) = if times > 1 {
                let why = "Cannot describe SCRAM credentials for the same user twice in a single";
                (ErrorCode::DUPLICATE_RESOURCE, format!("{why} request: {user}"))
            } else {
                let why = "Attempt to describe a user credential that does not exist";
                (ErrorCode::RESOURCE_NOT_FOUND, format!("{why}: {user}"))
            };
            DescribeUserScramCredentialsResult::default()
                .with_user(user)
                .with_error_code(code.0)
                .with_error_message(Some(StrBytes::from_string(why)))
        })
        .collect();
    DescribeUserScramCredentialsResponse::default().with_results(results)
}
