//! DescribeConfigs v1–4 for topics (2), brokers (4), loggers (8), subscriptions to clients' metrics
//! (16) and groups (32). v3 adds types and documentation.
//! Errors: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION; INVALID_REQUEST for another
//! broker's number, an empty name or another kind of resource, which
//! refuses the whole request.

use braid_protocol::messages::describe_configs_request::DescribeConfigsResource;
use braid_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use braid_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use braid_protocol::{ErrorCode, StrBytes};
use braid_raft::command::ConfigResource;

use super::Broker;
use super::config_change::{Refusal, kind};
use super::respond::text;
use crate::config::{Described, Kind, Settings, describe_client_metrics};

/// The source of a log level.
const BROKER_LOGGER_SOURCE: i8 = 6;

pub(crate) fn handle(broker: &Broker, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    // Kafka refuses the whole of a request that asks for a kind it does not know.
    let unknown = request.resources.iter().map(|asked| asked.resource_type).find(|kind| {
        !matches!(
            *kind,
            kind::TOPIC | kind::BROKER | kind::BROKER_LOGGER | kind::CLIENT_METRICS | kind::GROUP
        )
    });
    let results = request
        .resources
        .into_iter()
        .map(|asked| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name.clone());
            let described = match unknown {
                Some(kind) => Err(unsupported(kind)),
                None => describe(broker, &asked, synonyms, documentation),
            };
            match described {
                Ok(all) => result.with_configs(all),
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
    synonyms: bool,
    documentation: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let wanted = |name: &str| {
        asked
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == name))
    };
    if asked.resource_type == kind::BROKER_LOGGER {
        of_this_broker(broker, asked.resource_name.as_str())?;
        let levels = broker.loggers.levels();
        let levels = levels.into_iter().filter(|(name, _)| wanted(name));
        return Ok(levels.map(|(name, level)| logger(name, level.name(), documentation)).collect());
    }
    let all = settings(broker, asked)?;
    let all = all.into_iter().filter(|described| wanted(&described.name));
    Ok(all.map(|described| entry(described, synonyms, documentation)).collect())
}

fn settings(broker: &Broker, asked: &DescribeConfigsResource) -> Result<Vec<Described>, Refusal> {
    let name = asked.resource_name.as_str();
    let image = broker.metadata.image();
    let none = Settings::new();
    let config = broker.live.load();
    let invalid = |why: &str| Err((ErrorCode::INVALID_REQUEST, why.to_owned()));
    match asked.resource_type {
        kind::TOPIC => {
            if let Some(topic) = image.topic(name) {
                return Ok(config.describe_topic(&topic.configs));
            }
            match braid_raft::plan::names::check(name) {
                // Kafka says nothing more.
                Ok(()) => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new())),
                Err(error) => Err((ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string())),
            }
        }
        kind::BROKER if name.is_empty() => Ok(config.describe_all_brokers()),
        kind::BROKER => {
            of_this_broker(broker, name)?;
            Ok(config.describe_broker())
        }
        kind::GROUP if name.is_empty() => invalid("Group name must not be empty"),
        kind::GROUP => {
            let group = ConfigResource::Group(name.to_owned());
            Ok(config.describe_group(image.resource_configs(&group).unwrap_or(&none)))
        }
        kind::CLIENT_METRICS if name.is_empty() => {
            invalid("Client metrics subscription name must not be empty")
        }
        kind::CLIENT_METRICS => {
            let metrics = ConfigResource::ClientMetrics(name.to_owned());
            Ok(describe_client_metrics(image.resource_configs(&metrics).unwrap_or(&none)))
        }
        other => Err(unsupported(other)),
    }
}

fn unsupported(kind: i8) -> Refusal {
    (ErrorCode::INVALID_REQUEST, format!("Unsupported resource type: {kind}"))
}

/// Another broker knows its own settings only.
fn of_this_broker(broker: &Broker, name: &str) -> Result<(), Refusal> {
    let own = broker.config.node.id.0;
    let why = match name.parse::<i32>() {
        Ok(id) if id == own => return Ok(()),
        Ok(id) => {
            format!("Unexpected broker id, expected {own} or empty string, but received {id}")
        }
        Err(_) if name.is_empty() => "Broker id must not be empty".to_owned(),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err((ErrorCode::INVALID_REQUEST, why))
}

fn logger(
    name: &'static str,
    level: &'static str,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(level)))
        .with_config_source(BROKER_LOGGER_SOURCE)
        .with_documentation(documentation.then(|| text("")))
}

fn entry(
    described: Described,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let documentation = described.documentation.filter(|_| documentation);
    let entry = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source.code())
        .with_is_sensitive(described.sensitive)
        .with_config_type(described.kind.map_or(0, Kind::code))
        .with_documentation(documentation.map(StrBytes::from_string));
    if !synonyms {
        return entry;
    }
    let synonyms = described
        .synonyms
        .into_iter()
        .map(|s| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string(s.name))
                .with_value(s.value.map(StrBytes::from_string))
                .with_source(s.source.code())
        })
        .collect();
    entry.with_synonyms(synonyms)
}
