//! `/api/v1/broker/configs`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::body::{Body, Query};
use super::problem::{Code, Problem, Problems};
use crate::config::{BrokerScope, ConfigSource};
use crate::native::broker::{BrokerSetting, ConfigureBrokerError};

/// How much is told.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BrokerConfigsQuery {
    /// Whether settings at their defaults are told too.
    all: Option<bool>,
}

/// The settings of the broker.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BrokerConfigs {
    configs: Vec<BrokerConfig>,
}

/// A setting in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BrokerConfig {
    name: String,
    /// Null for a password, too.
    value: Option<String>,
    /// Who set it.
    #[schema(example = "static")]
    source: &'static str,
    /// Whether it can be changed at a start only.
    read_only: bool,
}

impl From<BrokerSetting> for BrokerConfig {
    fn from(setting: BrokerSetting) -> Self {
        let source = match setting.source {
            ConfigSource::DynamicBroker => "this broker, while it runs",
            ConfigSource::DynamicDefaultBroker => "all brokers, while they run",
            ConfigSource::StaticBroker => "static",
            ConfigSource::Default => "default",
            ConfigSource::Topic | ConfigSource::ClientMetrics | ConfigSource::Group => "another",
        };
        let BrokerSetting { name, value, read_only, .. } = setting;
        Self { name, value, source, read_only }
    }
}

/// Settings to change while the broker runs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BrokerConfigsRequest {
    /// Keys with new values; null takes back what was set while it ran.
    configs: BTreeMap<String, Option<String>>,
    /// For all brokers that set nothing themselves, instead of this one.
    all_brokers: Option<bool>,
}

/// Tells the broker's settings.
#[utoipa::path(get, path = "/api/v1/broker/configs", tag = "cluster",
    operation_id = "listBrokerConfigs", params(BrokerConfigsQuery),
    responses((status = 200, description = "The settings.", body = BrokerConfigs), Problems))]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<BrokerConfigsQuery>,
) -> Json<BrokerConfigs> {
    Json(configs(&app, query.all.unwrap_or(false)))
}

/// Changes the broker's settings while it runs.
#[utoipa::path(patch, path = "/api/v1/broker/configs", tag = "cluster",
    operation_id = "configureBroker", request_body = BrokerConfigsRequest,
    responses((status = 200, description = "The new settings.", body = BrokerConfigs), Problems))]
pub(super) async fn configure(
    State(app): State<App>,
    body: Body<BrokerConfigsRequest>,
) -> Result<Json<BrokerConfigs>, Problem> {
    let BrokerConfigsRequest { configs: changes, all_brokers } = body.content;
    let scope = if all_brokers.unwrap_or(false) { BrokerScope::All } else { BrokerScope::One };
    app.native.configure_broker(scope, changes).await?;
    Ok(Json(configs(&app, false)))
}

fn configs(app: &App, all: bool) -> BrokerConfigs {
    let settings = app.native.broker_settings(all);
    BrokerConfigs { configs: settings.into_iter().map(BrokerConfig::from).collect() }
}

impl From<ConfigureBrokerError> for Problem {
    fn from(error: ConfigureBrokerError) -> Self {
        match error {
            ConfigureBrokerError::Config(error) => {
                Self::new(Code::ConfigInvalid, error.to_string())
            }
            ConfigureBrokerError::Metadata(error) => error.into(),
        }
    }
}
