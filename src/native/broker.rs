//! Settings of the running broker: its own, or those of all brokers. What is accepted is in force
//! when the call returns.

use std::collections::BTreeMap;

use braid_raft::ProposeError;
use braid_raft::command::{ConfigChange, SetBrokerConfigs};

use super::Native;
use crate::config::{BrokerConfigError, BrokerScope, ConfigSource};

/// A setting of the broker.
#[derive(Debug, Clone)]
pub(crate) struct BrokerSetting {
    pub(crate) name: String,
    /// None stands for null, and for what is never shown.
    pub(crate) value: Option<String>,
    pub(crate) source: ConfigSource,
    pub(crate) read_only: bool,
}

/// Why settings of the broker are not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigureBrokerError {
    #[error(transparent)]
    Config(#[from] BrokerConfigError),
    #[error(transparent)]
    Metadata(#[from] ProposeError),
}

impl Native {
    /// The broker's settings by name: those that somebody set, or all.
    pub(crate) fn broker_settings(&self, all: bool) -> Vec<BrokerSetting> {
        let described = self.live.load().describe_broker();
        described
            .into_iter()
            .filter(|setting| all || setting.source != ConfigSource::Default)
            .map(|setting| BrokerSetting {
                name: setting.name,
                value: setting.value,
                source: setting.source,
                read_only: setting.read_only,
            })
            .collect()
    }

    /// Sets keys of this broker, or of all, while it runs; with no value takes back what was set so.
    pub(crate) async fn configure_broker(
        &self,
        scope: BrokerScope,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), ConfigureBrokerError> {
        let Ok(_alone) = self.config_changes.acquire().await else {
            unreachable!("the semaphore is never closed")
        };
        let whose = match scope {
            BrokerScope::One => Some(self.config.node.id),
            BrokerScope::All => None,
        };
        let mut after = self.metadata.image().broker_configs(whose).cloned().unwrap_or_default();
        for (key, value) in &changes {
            match value {
                Some(value) => after.insert(key.clone(), value.clone()),
                None => after.remove(key),
            };
        }
        self.live.load().validate_broker(&after, scope)?;
        let changes = changes.into_iter().map(|(key, value)| ConfigChange { key, value });
        let command = SetBrokerConfigs { broker: whose, changes: changes.collect() };
        self.metadata.propose(command).await?;
        let image = self.metadata.image();
        let (of_this, of_all) =
            (image.broker_configs(Some(self.config.node.id)), image.broker_configs(None));
        self.live.follow(image.applied_index(), of_this, of_all);
        Ok(())
    }
}
