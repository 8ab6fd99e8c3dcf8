//! Settings of groups and of subscriptions to clients' metrics, kept in the metadata.

use braid_raft::command::{ConfigResource, SetResourceConfigs};

use super::super::error::propose_code;
use super::{
    Broker, Entry, Mode, Refusal, Resource, Settings, difference, invalid_config, invalid_request,
    of_type_list, settings_after,
};
use crate::config::{
    ClientMetricsError, GroupConfigError, group_key, group_settings_without_effect,
    validate_client_metrics,
};

pub(super) async fn alter_group(
    broker: &Broker,
    resource: &Resource,
    mode: Mode,
    validate_only: bool,
) -> Result<(), Refusal> {
    if resource.name.is_empty() {
        return Err(invalid_request("Default group resources are not allowed."));
    }
    let config = broker.live.load();
    let check = |settings: &Settings| {
        config.validate_group(settings).map_err(|error| match error {
            GroupConfigError::Unknown(_)
            | GroupConfigError::Invalid(_)
            | GroupConfigError::TooLow { .. }
            | GroupConfigError::TooHigh { .. }
            | GroupConfigError::SessionTooShort { .. } => invalid_config(error.to_string()),
        })
    };
    let list = |entry: &Entry| {
        of_type_list(entry, group_key(&entry.key).map(|key| key.kind)).map(|_| Vec::new())
    };
    let group = ConfigResource::Group(resource.name.clone());
    let changed = change(broker, group, resource, mode, list, check, validate_only).await?;
    if changed {
        let group = &resource.name;
        let names = resource.entries.iter().map(|entry| entry.key.as_str());
        for (key, because) in group_settings_without_effect(names) {
            tracing::warn!(%group, "{} has no effect because {because}", key.name);
        }
    }
    Ok(())
}

pub(super) async fn alter_client_metrics(
    broker: &Broker,
    resource: &Resource,
    mode: Mode,
    validate_only: bool,
) -> Result<(), Refusal> {
    if resource.name.is_empty() {
        return Err(invalid_request("Subscription name can't be empty"));
    }
    let check = |settings: &Settings| {
        validate_client_metrics(settings).map_err(|error| match error {
            ClientMetricsError::Unknown(_) | ClientMetricsError::Interval(_) => {
                invalid_request(error.to_string())
            }
            ClientMetricsError::Invalid(_) | ClientMetricsError::Pattern(_) => {
                invalid_config(error.to_string())
            }
        })
    };
    // Kafka edits none of a subscription's lists.
    let list = |entry: &Entry| of_type_list(entry, None).map(|_| Vec::new());
    let metrics = ConfigResource::ClientMetrics(resource.name.clone());
    change(broker, metrics, resource, mode, list, check, validate_only).await?;
    Ok(())
}

/// Works out, checks and proposes; whether anything changed.
async fn change(
    broker: &Broker,
    of: ConfigResource,
    resource: &Resource,
    mode: Mode,
    list: impl Fn(&Entry) -> Result<Vec<String>, Refusal>,
    check: impl Fn(&Settings) -> Result<(), Refusal>,
    validate_only: bool,
) -> Result<bool, Refusal> {
    let image = broker.metadata.image();
    let none = Settings::new();
    let before = image.resource_configs(&of).unwrap_or(&none);
    let after = settings_after(before, &resource.entries, mode, list)?;
    check(&after)?;
    let changes = difference(before, &after);
    if validate_only || changes.is_empty() {
        return Ok(false);
    }
    let outcome = broker.metadata.propose(SetResourceConfigs { resource: of, changes }).await;
    outcome.map_err(|error| (propose_code(&error), error.to_string()))?;
    Ok(true)
}
