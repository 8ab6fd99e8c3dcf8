//! DescribeConfigs v1–4 for topics (2) and this broker (4). v3 adds types and documentation.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST for another broker's number or another
//! kind of resource.

use braid_protocol::messages::describe_configs_request::DescribeConfigsResource;
use braid_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use braid_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use braid_protocol::{ErrorCode, StrBytes};

use super::Broker;
use super::respond::text;
use crate::config::Described;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) fn handle(broker: &Broker, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let results = request
        .resources
        .into_iter()
        .map(|asked| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name.clone());
            match describe(broker, &asked) {
                Ok(all) => {
                    let wanted = |d: &Described| {
                        asked.configuration_keys.as_ref().is_none_or(|keys| {
                            keys.is_empty() || keys.iter().any(|key| key.as_str() == d.key.name)
                        })
                    };
                    let configs = all
                        .into_iter()
                        .filter(wanted)
                        .map(|d| entry(d, synonyms, documentation))
                        .collect();
                    result.with_configs(configs)
                }
                Err((code, why)) => result
                    .with_error_code(code.0)
                    .with_error_message(Some(StrBytes::from_string(why))),
            }
        })
        .collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn describe(
    broker: &Broker,
    asked: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let name = asked.resource_name.as_str();
    match asked.resource_type {
        TOPIC => {
            let image = broker.metadata.image();
            if let Some(topic) = image.topic(name) {
                return Ok(broker.config.describe_topic(&topic.configs));
            }
            match braid_raft::plan::names::check(name) {
                Ok(()) => Err((
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    "This server does not host this topic-partition.".into(),
                )),
                Err(error) => Err((ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string())),
            }
        }
        BROKER => {
            let own = broker.config.node.id.0;
            // An empty name asks for the cluster-wide dynamic defaults: none are set.
            if name.is_empty() {
                return Ok(Vec::new());
            }
            match name.parse::<i32>() {
                Ok(id) if id == own => Ok(broker.config.describe_broker()),
                Ok(id) => Err((
                    ErrorCode::INVALID_REQUEST,
                    format!(
                        "Unexpected broker id, expected {own} or empty string, but received {id}"
                    ),
                )),
                Err(_) => Err((
                    ErrorCode::INVALID_REQUEST,
                    format!("Broker id must be an integer, but it is: {name}"),
                )),
            }
        }
        kind => Err((
            ErrorCode::INVALID_REQUEST,
            format!("Resource type {kind} is not served: only topics (2) and brokers (4) are."),
        )),
    }
}

fn entry(
    described: Described,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let entry = DescribeConfigsResourceResult::default()
        .with_name(text(described.key.name))
        .with_value(described.value.as_deref().map(text))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
        .with_is_sensitive(described.key.sensitive())
        .with_config_type(described.key.kind.code())
        .with_documentation(
            documentation.then(|| StrBytes::from_string(described.documentation())),
        );
    if !synonyms {
        return entry;
    }
    let synonyms = described
        .synonyms
        .iter()
        .map(|s| {
            DescribeConfigsSynonym::default()
                .with_name(text(s.name))
                .with_value(s.value.as_deref().map(text))
                .with_source(s.source.code())
        })
        .collect();
    entry.with_synonyms(synonyms)
}
