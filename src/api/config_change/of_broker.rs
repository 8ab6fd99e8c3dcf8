//! Settings of brokers, kept in the metadata: one broker's own (its number) or those of all (an
//! empty name). What is accepted is in force when the answer leaves.

use braid_protocol::ErrorCode;
use braid_raft::command::SetBrokerConfigs;

use super::super::error::propose_code;
use super::{
    Broker, Entry, Mode, Operation, Refusal, Resource, Settings, difference, invalid_config,
    invalid_request, of_this_broker, parts, settings_after,
};
use crate::config::{BrokerConfigError, BrokerScope, Config, Effect, NotAList, broker_key};

pub(super) async fn alter(
    broker: &Broker,
    resource: &Resource,
    mode: Mode,
    validate_only: bool,
) -> Result<(), Refusal> {
    let (scope, whose) = if resource.name.is_empty() {
        (BrokerScope::All, None)
    } else {
        of_this_broker(broker, &resource.name)?;
        (BrokerScope::One, Some(broker.config.node.id))
    };
    let image = broker.metadata.image();
    let none = Settings::new();
    let before = image.broker_configs(whose).unwrap_or(&none);
    let config = broker.live.load();
    let list = |entry: &Entry| match before.get(&entry.key) {
        Some(own) => Ok(parts(own)),
        None => in_force(&config, entry),
    };
    let after = settings_after(before, &resource.entries, mode, list)?;
    config.validate_broker(&after, scope).map_err(|error| invalid_request(hinted(&error)))?;
    let changes = difference(before, &after);
    if validate_only || changes.is_empty() {
        return Ok(());
    }
    for change in changes.iter().filter(|change| change.value.is_some()) {
        say_what_it_does(&change.key);
    }
    let outcome = broker.metadata.propose(SetBrokerConfigs { broker: whose, changes }).await;
    outcome.map_err(|error| (propose_code(&error), error.to_string()))?;
    broker.follow_settings();
    Ok(())
}

/// The list that an entry adds to or takes from. Kafka looks at the key before the value.
fn in_force(config: &Config, entry: &Entry) -> Result<Vec<String>, Refusal> {
    match config.broker_list(&entry.key) {
        Ok(Some(parts)) => Ok(parts),
        Ok(None) => Err(invalid_config(format!("Unknown config name: {}", entry.key))),
        Err(NotAList) => {
            let operation = match entry.operation {
                Operation::Subtract => "subtract",
                Operation::Append | Operation::Set | Operation::Delete => "append",
            };
            let key = &entry.key;
            let why = format!("Config value {operation} is not allowed for config key: {key}");
            Err((ErrorCode::INVALID_CONFIG, why))
        }
    }
}

fn hinted(error: &BrokerConfigError) -> String {
    match error {
        BrokerConfigError::ReadOnly(_) => format!(
            "{error}. They are read at the start: set them in the broker's configuration file and \
             start it again."
        ),
        BrokerConfigError::PerListener(_)
        | BrokerConfigError::PerBroker(_)
        | BrokerConfigError::Invalid(_)
        | BrokerConfigError::Threads { .. }
        | BrokerConfigError::CleanerThreads(_)
        | BrokerConfigError::NoConnections
        | BrokerConfigError::NoRetention
        | BrokerConfigError::Class { .. }
        | BrokerConfigError::LargerThanSegment { .. }
        | BrokerConfigError::AtStart(_) => error.to_string(),
    }
}

/// What was set, for the operator; where it does nothing, why.
fn say_what_it_does(name: &str) {
    match broker_key(name).map(|key| key.effect) {
        None => tracing::warn!("{name} was set, and nothing here knows it"),
        Some(Effect::Nothing(because)) => {
            tracing::warn!("{name} has no effect because {because}");
        }
        Some(Effect::Full | Effect::Partial(_) | Effect::Refused(_)) => {
            tracing::info!("{name} was changed");
        }
    }
}
