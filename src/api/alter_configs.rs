//! AlterConfigs v0–2: replaces all settings of a topic; what is not named falls back to its
//! default. Errors as in IncrementalAlterConfigs, which newer clients use.

use std::sync::Arc;

use braid_protocol::StrBytes;
use braid_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use braid_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use super::Broker;
use super::config_change::{Entry, Mode, Operation, Resource, alter, named_twice, twice};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let names = request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str()));
    let refused = named_twice(names);
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name);
        let outcome = if refused.contains(&(kind, name.to_string())) {
            Err(twice())
        } else {
            let entries = asked.configs.into_iter().map(|config| Entry {
                key: config.name.to_string(),
                operation: Operation::Set,
                value: config.value,
            });
            let resource = Resource { kind, name: name.to_string(), entries: entries.collect() };
            alter(broker, resource, Mode::Replace, request.validate_only).await
        };
        let response = AlterConfigsResourceResponse::default()
            .with_resource_type(kind)
            .with_resource_name(name);
        responses.push(match outcome {
            Ok(()) => response.with_error_message(None),
            Err((code, why)) => response
                .with_error_code(code.0)
                .with_error_message(Some(StrBytes::from_string(why))),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}
