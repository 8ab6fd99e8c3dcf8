//! IncrementalAlterConfigs v0–1: sets, deletes, appends to and subtracts from single keys of topics.
//! Errors per resource: INVALID_REQUEST, INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION,
//! INVALID_TOPIC_EXCEPTION.

use std::sync::Arc;

use braid_protocol::StrBytes;
use braid_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use braid_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use braid_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::Broker;
use super::config_change::{Entry, Mode, Operation, Refusal, Resource, alter, named_twice, twice};

pub(crate) async fn handle(
    broker: &Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let names = request.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str()));
    let refused = named_twice(names);
    let mut responses = Vec::with_capacity(request.resources.len());
    for asked in request.resources {
        let (kind, name) = (asked.resource_type, asked.resource_name.clone());
        let outcome = if refused.contains(&(kind, name.to_string())) {
            Err(twice())
        } else {
            one(broker, asked, request.validate_only).await
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
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn one(
    broker: &Broker,
    asked: AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    let mut entries = Vec::with_capacity(asked.configs.len());
    for config in asked.configs {
        entries.push(Entry {
            key: config.name.to_string(),
            operation: Operation::of_code(config.config_operation)?,
            value: config.value,
        });
    }
    let resource =
        Resource { kind: asked.resource_type, name: asked.resource_name.to_string(), entries };
    alter(broker, resource, Mode::Incremental, validate_only).await
}
