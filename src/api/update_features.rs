//! UpdateFeatures v0–2: levels are those that ApiVersions tells; asking for the level a feature has
//! is no change, any other is INVALID_UPDATE_VERSION. One refusal refuses all.

use braid_protocol::messages::update_features_request::FeatureUpdateKey;
use braid_protocol::messages::update_features_response::UpdatableFeatureResult;
use braid_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use braid_protocol::{ErrorCode, StrBytes};

use super::Broker;
use super::api_versions::level_of;

const UPGRADE: i8 = 1;

pub(crate) fn handle(broker: &Broker, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let own = broker.config.node.id.0;
    let refused = request.feature_updates.iter().find_map(|update| check(own, update).err());
    if let Some(why) = refused {
        let why = format!(
            "The update failed for all features since the following feature had an error: {why}"
        );
        return UpdateFeaturesResponse::default()
            .with_error_code(ErrorCode::INVALID_UPDATE_VERSION.0)
            .with_error_message(Some(StrBytes::from_string(why)));
    }
    let results = request
        .feature_updates
        .into_iter()
        .map(|update| {
            UpdatableFeatureResult::default().with_feature(update.feature).with_error_message(None)
        })
        .collect();
    UpdateFeaturesResponse::default().with_error_message(None).with_results(results)
}

fn check(own: i32, update: &FeatureUpdateKey) -> Result<(), String> {
    let (name, wanted) = (update.feature.as_str(), update.max_version_level);
    let invalid =
        |why: String| Err(format!("Invalid update version {wanted} for feature {name}. {why}"));
    if wanted < 0 {
        return invalid("A feature version cannot be less than 0.".to_owned());
    }
    let Some(level) = level_of(name) else {
        return invalid(format!("Local controller {own} does not support this feature."));
    };
    if wanted == level {
        return Ok(());
    }
    if wanted < level && update.upgrade_type == UPGRADE {
        let why = "Can't downgrade the version of this feature without setting the upgrade type \
                   to either safe or unsafe downgrade.";
        return invalid(why.to_owned());
    }
    if wanted > level && update.upgrade_type != UPGRADE {
        return invalid("Can't downgrade to a newer version.".to_owned());
    }
    invalid(format!("Local controller {own} only supports versions {level}-{level}"))
}
